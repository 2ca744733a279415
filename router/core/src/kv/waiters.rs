//! Who waits for a key, first come first served: conditional writes and requests for holds, in one
//! line. They outlive deletions of the key, and end with their session, their deadline or their
//! grant.
//!
//! Whoever waits for the key to be free stands in line and lets nobody pass. Writes that wait for
//! some other condition stand aside: they take no place, because that condition may never hold.

use super::Wish;
use crate::model::{Publish, RequestId, Topic};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

/// The first places in a line: whoever stands there is told of each step.
const NEAR: usize = 10;

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    /// Unique in the realm; grows.
    pub id: u64,
    /// The waiting session's place in the realm.
    pub session: usize,
    /// What for.
    pub wants: Wants,
    /// The timer of its deadline, if it has one.
    pub timer: Option<crate::timers::TimerKey>,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
}

/// What somebody waits for.
#[derive(Debug)]
pub enum Wants {
    /// To write once the condition holds.
    Write(Box<Publish>),
    /// To hold the key.
    Hold(Box<Order>),
}

/// A request for a hold.
#[derive(Debug)]
pub struct Order {
    /// The call to be answered.
    pub request: RequestId,
    /// The key, as the caller spells it.
    pub key: String,
    /// What is wanted.
    pub wish: Wish,
    /// How long the hold lasts unless it is renewed.
    pub ttl: Option<Duration>,
    /// What the holder says about its hold.
    pub data: Value,
    /// The caller is told of its place while it waits.
    pub progress: bool,
    /// The place it was told last.
    pub told: usize,
}

/// That somebody who waits has come forward.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// The session's place in the realm.
    pub session: usize,
    /// Its call.
    pub request: RequestId,
    /// The key, as it spells it.
    pub key: String,
    /// Its place in line; 1 is the next.
    pub position: usize,
}

impl Waiter {
    /// The condition a write waits for.
    #[must_use]
    pub fn when(&self) -> &Value {
        const ABSENT: &Value = &Value::Null;
        match &self.wants {
            Wants::Write(publish) => {
                let options = publish.options.as_ref();
                options.and_then(|o| o.when.as_ref()).unwrap_or(ABSENT)
            }
            Wants::Hold(_) => ABSENT,
        }
    }

    fn is_order(&self) -> bool {
        matches!(self.wants, Wants::Hold(_))
    }
}

/// Those who wait for one key, each list in the order of arrival and so of ids.
#[derive(Debug, Default)]
struct Queue {
    /// For the key to be free.
    line: VecDeque<Waiter>,
    /// For something else.
    aside: VecDeque<Waiter>,
    /// How many of those in line want a hold.
    orders: usize,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.line.is_empty() && self.aside.is_empty()
    }

    fn remove_from_line(&mut self, at: usize) -> Option<Waiter> {
        let waiter = self.line.remove(at)?;
        self.orders -= usize::from(waiter.is_order());
        Some(waiter)
    }
}

/// topic -> who waits for it.
#[derive(Debug, Default)]
pub struct Waiters {
    queues: BTreeMap<Topic, Queue>,
    next_id: u64,
}

impl Waiters {
    /// A fresh waiter id.
    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// How many wait for `topic`.
    #[must_use]
    pub fn count(&self, topic: &Topic) -> usize {
        let queue = self.queues.get(topic);
        queue.map_or(0, |queue| queue.line.len() + queue.aside.len())
    }

    /// Those in line for `topic`, the next one first.
    pub fn line(&self, topic: &Topic) -> impl ExactSizeIterator<Item = &Waiter> {
        const NOBODY: &VecDeque<Waiter> = &VecDeque::new();
        let queue = self.queues.get(topic);
        queue.map_or(NOBODY, |queue| &queue.line).iter()
    }

    /// Whether nobody waits for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Every key somebody waits for.
    #[must_use]
    pub fn topics(&self) -> Vec<Topic> {
        self.queues.keys().cloned().collect()
    }

    /// The keys somebody wants to hold, from a place on.
    pub fn ordered_from<'a>(&'a self, from: Bound<&'a str>) -> impl Iterator<Item = &'a Topic> {
        let queues = self.queues.range::<str, _>((from, Bound::Unbounded));
        queues
            .filter(|(_, queue)| queue.orders > 0)
            .map(|(topic, _)| topic)
    }

    /// Appends to the queue of its topic. Answers the place in line, or 0 for who stands aside.
    pub fn park(&mut self, topic: &Topic, waiter: Waiter) -> usize {
        let queue = self.queues.entry(topic.clone()).or_default();
        if !waiter.when().is_null() {
            queue.aside.push_back(waiter);
            return 0;
        }
        queue.orders += usize::from(waiter.is_order());
        queue.line.push_back(waiter);
        let place = queue.line.len();
        if let Some(Wants::Hold(order)) = queue.line.back_mut().map(|waiter| &mut waiter.wants) {
            order.told = place;
        }
        place
    }

    /// Takes the next in line if its turn has come.
    pub fn take_next(&mut self, topic: &Topic, may: impl Fn(&Waiter) -> bool) -> Option<Waiter> {
        let queue = self.queues.get_mut(topic)?;
        if !queue.line.front().is_some_and(may) {
            return None;
        }
        let waiter = queue.remove_from_line(0);
        self.tidy(topic);
        waiter
    }

    /// The waiter of a session's write with this request.
    #[must_use]
    pub fn of_request(&self, topic: &Topic, session: usize, request: RequestId) -> Option<u64> {
        let queue = self.queues.get(topic)?;
        let mut waiters = queue.line.iter().chain(&queue.aside);
        let is_its = |waiter: &&Waiter| {
            let Wants::Write(publish) = &waiter.wants else {
                return false;
            };
            waiter.session == session && publish.request == Some(request)
        };
        waiters.find(is_its).map(|waiter| waiter.id)
    }

    /// Takes the first of those who stand aside whose condition holds.
    pub fn take_aside(&mut self, topic: &Topic, holds: impl Fn(&Value) -> bool) -> Option<Waiter> {
        let queue = self.queues.get_mut(topic)?;
        let place = queue.aside.iter().position(|w| holds(w.when()))?;
        let waiter = queue.aside.remove(place);
        self.tidy(topic);
        waiter
    }

    /// Takes one waiter away, wherever it stands; with how many were before it in line, if it was
    /// in line.
    pub fn remove(&mut self, topic: &Topic, id: u64) -> Option<(Waiter, Option<usize>)> {
        let queue = self.queues.get_mut(topic)?;
        let found = match queue.line.binary_search_by_key(&id, |waiter| waiter.id) {
            Ok(at) => queue.remove_from_line(at).map(|waiter| (waiter, Some(at))),
            Err(_) => {
                let at = queue.aside.binary_search_by_key(&id, |waiter| waiter.id);
                let waiter = at.ok().and_then(|at| queue.aside.remove(at));
                waiter.map(|waiter| (waiter, None))
            }
        };
        self.tidy(topic);
        found
    }

    fn tidy(&mut self, topic: &Topic) {
        if self.queues.get(topic).is_some_and(Queue::is_empty) {
            self.queues.remove(topic);
        }
    }

    /// `by` waiters left the line who had `before` others before them: tells who is to hear that
    /// it came forward. Those in the first places hear of each step; farther back one hears when
    /// its place falls to a power of two, so that a long line costs little.
    pub fn moved(&mut self, topic: &Topic, before: usize, by: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(queue) = self.queues.get_mut(topic) else {
            return steps;
        };
        let len = queue.line.len();
        queue.tell(before..len.min(NEAR), &mut steps);
        let mut power = NEAR.next_power_of_two();
        // Whoever is within `by` of a power of two may just have come below it.
        while power.saturating_sub(by) < len {
            let first = power.saturating_sub(by).max(before).max(NEAR);
            queue.tell(first..len.min(power), &mut steps);
            power *= 2;
        }
        steps
    }
}

impl Queue {
    fn tell(&mut self, range: std::ops::Range<usize>, steps: &mut Vec<Step>) {
        for at in range {
            let Some(waiter) = self.line.get_mut(at) else {
                return;
            };
            let Wants::Hold(order) = &mut waiter.wants else {
                continue;
            };
            let position = at + 1;
            if !order.progress || rung(position) >= rung(order.told) {
                continue;
            }
            order.told = position;
            steps.push(Step {
                session: waiter.session,
                request: order.request,
                key: order.key.clone(),
                position,
            });
        }
    }
}

/// Places on the same rung need not be told apart.
fn rung(position: usize) -> usize {
    match position <= NEAR {
        true => position,
        false => position.next_power_of_two(),
    }
}
