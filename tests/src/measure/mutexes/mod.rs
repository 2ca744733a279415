//! Locks as the README shows them, contended for by many sessions that hold, release and die, on a
//! router that is killed again and again.
//!
//! Every client asks for several keys at a time without waiting for answers in between, releases
//! what it got or first reads the key to see itself named there, and now and then its connection
//! is cut or it says GOODBYE with locks in its hands. All clients live in one process, so that a
//! [`judge`] sees everything in one order. The token of a grant is taken to be its publication id, as
//! on one machine; the reads of held keys confirm that.

mod client;
pub mod judge;

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use serde_json::json;

use super::arena::Arena;
use crate::wamp::Session;
use crate::{Options, Server};
use client::Client;
use judge::Judge;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Grants of all clients together.
    pub grants: u64,
    /// Clients, each with a thread and one session at a time.
    pub clients: u64,
    /// Locks.
    pub keys: usize,
    /// Locks a client asks for or holds at a time.
    pub window: usize,
    /// Kills of the router.
    pub kills: u64,
    /// One turn of a client in so many ends with its death.
    pub dies_every: u32,
    /// Where chance begins.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Grants that were received.
    pub grants: u64,
    /// Of these, by sessions of a router that was dead by then.
    pub late: u64,
    /// Grants that followed a request which had certainly come first and been served before.
    pub in_certain_order: u64,
    /// Releases.
    pub releases: u64,
    /// Reads of a held key that named the holder and its token.
    pub confirmed: u64,
    /// Sessions cut.
    pub cut: u64,
    /// Sessions that said GOODBYE.
    pub goodbyes: u64,
    /// Kills of the router.
    pub kills: u64,
    /// Locks in the hands of sessions that died, the router's deaths included.
    pub held_at_death: u64,
}

/// What the clients share.
struct Court {
    arena: Arena,
    judge: Mutex<Judge>,
    plan: Plan,
}

impl Court {
    /// Tells the judge.
    fn tell<R>(&self, what: impl FnOnce(&mut Judge) -> R) -> R {
        what(&mut self.judge.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key(at: usize) -> String {
    format!("lock.{at}")
}

/// Runs a plan.
///
/// # Errors
/// Fails on the first thing that a lock must never do.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut server = Server::start(Options::default().restartable())?;
    let court = Court {
        arena: Arena::new(server.listen, true),
        judge: Mutex::new(Judge::new(plan.keys)),
        plan: *plan,
    };
    let mut report = Report::default();
    let every = plan.grants.div_ceil(plan.kills + 1);
    std::thread::scope(|scope| {
        let work = |who| {
            let court = &court;
            move || {
                let worked = Client::new(court, who).and_then(Client::work);
                if worked.is_err() {
                    court.arena.fail();
                }
                worked
            }
        };
        let clients: Vec<_> = (0..plan.clients)
            .map(|who| scope.spawn(work(who)))
            .collect();
        let dies = || court.tell(Judge::router_dies);
        let kills = court
            .arena
            .kill_in_between(&mut server, every, plan.grants, dies);
        let mut failures = Vec::new();
        for client in clients {
            match client.join() {
                Ok(Ok(one)) => report.add(&one),
                Ok(Err(error)) => failures.push(format!("{error:#}")),
                Err(_) => failures.push("a client panicked".to_owned()),
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        report.kills = kills?;
        Ok(())
    })?;
    court.tell(|judge| judge.all_is_quiet())?;
    for at in 0..plan.keys {
        ensure_free(&server, &key(at))?;
    }
    court.tell(|judge| judge.add_to(&mut report));
    Ok(report)
}

/// A key is free once somebody else can take it, and nobody has it when that one has given it back.
fn ensure_free(server: &Server, key: &str) -> Result<()> {
    let mut session = Session::join(server.listen, "realm1")?;
    let lock = json!({"retain": true, "when": null, "will": null, "watch": true});
    let token = session.publish(key, json!(["free?"]), json!({}), lock)?;
    session.publish(key, json!([]), json!({}), json!({"retain": true}))?;
    let entry = session.kv(key)?;
    let is_free = entry["value"].is_null() && entry["owner"].is_null() && entry["waiters"] == 0;
    ensure!(
        is_free && entry["token"].as_u64() > Some(token),
        "{key} is not free at the end: {entry}"
    );
    Ok(())
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.releases += other.releases;
        self.confirmed += other.confirmed;
        self.cut += other.cut;
        self.goodbyes += other.goodbyes;
    }
}
