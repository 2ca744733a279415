//! Who can use a turn, and when: kept for everybody and renewed for those something happened to,
//! instead of asked of everybody at each step.
//!
//! A participant's moment can only change by its own turn, by what is done to its connection
//! ([`Net::take_touched`]) or by its outbox's waker ([`Woken`]).

use crate::actor::Actor;
use crate::net::{LinkId, Net};
use crate::router::{Core, Router};
use std::sync::{Arc, Mutex};

/// What can be given a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Core,
    Driver(LinkId),
    Actor(usize),
}

/// Never.
const NEVER: u64 = u64::MAX;

/// Connections whose outbox has called for them.
#[derive(Clone, Default)]
pub struct Woken(Arc<Mutex<Vec<LinkId>>>);

impl Woken {
    pub fn add(&self, link: LinkId) {
        if let Ok(mut links) = self.0.lock() {
            links.push(link);
        }
    }

    fn take(&self, into: &mut Vec<LinkId>) {
        if let Ok(mut links) = self.0.lock() {
            into.append(&mut links);
        }
    }
}

/// The moment of each participant, in milliseconds of the run.
#[derive(Default)]
pub struct Schedule {
    /// By connection, in ascending order.
    drivers: Vec<(LinkId, u64)>,
    actors: Vec<u64>,
    /// Who opened a connection, by its id.
    owners: Vec<Option<usize>>,
    touched: Vec<LinkId>,
}

impl Schedule {
    /// Somebody takes part from now on, or in the place of somebody else.
    pub fn asks_all(&mut self, actors: &[Box<dyn Actor>], net: &Net) {
        self.actors.resize(actors.len(), NEVER);
        for place in 0..actors.len() {
            self.ask_actor(place, actors, net);
        }
    }

    /// The router has accepted the connection, or had it before.
    pub fn ask_driver(&mut self, link: LinkId, router: &Router, net: &Net) {
        let place = self.drivers.binary_search_by_key(&link, |(link, _)| *link);
        match (router.drivers.get(&link), place) {
            (Some(driver), Ok(place)) => {
                self.drivers[place].1 = driver.moment(&router.core, net).unwrap_or(NEVER);
            }
            (Some(driver), Err(place)) => {
                let moment = driver.moment(&router.core, net).unwrap_or(NEVER);
                self.drivers.insert(place, (link, moment));
            }
            (None, Ok(place)) => drop(self.drivers.remove(place)),
            (None, Err(_)) => {}
        }
    }

    /// The actor has had a turn.
    pub fn ask_actor(&mut self, place: usize, actors: &[Box<dyn Actor>], net: &Net) {
        let Some(actor) = actors.get(place) else {
            return;
        };
        let hears = actor.link().and_then(|link| {
            self.owners.resize(self.owners.len().max(link + 1), None);
            self.owners[link] = Some(place);
            net.client_next(link)
        });
        let moments = [hears, actor.next()].into_iter().flatten();
        self.actors[place] = moments.min().unwrap_or(NEVER);
    }

    /// Asks again whomever something happened to.
    pub fn renew(&mut self, router: &Router, actors: &[Box<dyn Actor>], net: &mut Net) {
        let mut touched = std::mem::take(&mut self.touched);
        router.woken.take(&mut touched);
        net.take_touched(&mut touched);
        for link in touched.drain(..) {
            self.ask_driver(link, router, net);
            if let Some(owner) = self.owners.get(link).copied().flatten() {
                self.ask_actor(owner, actors, net);
            }
        }
        self.touched = touched;
    }

    /// Who can use a turn at `now`, always in the same order.
    pub fn ready(&self, core: Option<&Core>, now: u64, ready: &mut Vec<Turn>) {
        ready.clear();
        if core.and_then(Core::next).is_some_and(|at| at <= now) {
            ready.push(Turn::Core);
        }
        let drivers = self.drivers.iter().filter(|(_, at)| *at <= now);
        ready.extend(drivers.map(|(link, _)| Turn::Driver(*link)));
        let actors = self.actors.iter().enumerate();
        let actors = actors.filter(|(_, at)| **at <= now);
        ready.extend(actors.map(|(place, _)| Turn::Actor(place)));
    }

    /// When somebody beside the core will be able to use one.
    pub fn next(&self) -> Option<u64> {
        let drivers = self.drivers.iter().map(|(_, at)| *at);
        let moments = drivers.chain(self.actors.iter().copied());
        moments.min().filter(|at| *at < NEVER)
    }
}
