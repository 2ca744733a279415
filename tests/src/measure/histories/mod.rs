//! Histories of conditional writes, waiting writes, deletions, wills and reads, by publish and by
//! call, of watches and of locks, recorded from concurrent sessions and searched for an order that
//! explains them ([`crate::linear`]).
//!
//! Several tables work at the same time on one router. At each a handful of sessions shares one to
//! three fresh keys; sessions end now and then, politely or not; the router is killed while they work
//! and started again, on the same data or, without a disk, on none. What was under way then has an
//! unknown outcome. The token of a write is taken to be its publication id, as on one machine.

mod client;
mod script;
mod table;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use super::arena::Arena;
use crate::{Options, Server};

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Histories, half of them with a data directory, half in memory.
    pub histories: u64,
    /// How many are recorded at the same time.
    pub tables: u64,
    /// The router is killed after so many histories, again and again.
    pub kill_after: u64,
    /// Where chance begins.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Histories, all of them explained.
    pub histories: u64,
    /// Keys, each checked for itself.
    pub keys: u64,
    /// Requests and ends of sessions.
    pub ops: u64,
    /// Publishes without a condition that were acknowledged.
    pub writes: u64,
    /// Writes by call without a condition on the value that were carried out.
    pub by_call: u64,
    /// Writes whose condition held at once or, watching, later.
    pub conditional: u64,
    /// Of these, watching ones: they may have waited.
    pub watching: u64,
    /// Publishes refused because of their condition.
    pub refused: u64,
    /// Writes by call refused because of their condition or token.
    pub conflicts: u64,
    /// Waits that ended by time.
    pub timed_out: u64,
    /// Writes and requests refused because somebody holds the key.
    pub held: u64,
    /// Requests that do not suit a hold.
    pub unfit: u64,
    /// Holds by call.
    pub grants: u64,
    /// Holds given up.
    pub releases: u64,
    /// Holds that go on.
    pub renewals: u64,
    /// Holds that were over.
    pub lost: u64,
    /// Reads.
    pub reads: u64,
    /// Reads that saw somebody wait.
    pub reads_of_waiting: u64,
    /// Rows of lists, those of absent keys too.
    pub listed: u64,
    /// Looks at holders.
    pub inspected: u64,
    /// Changes that watches told.
    pub changes: u64,
    /// Watches that ended by order.
    pub canceled: u64,
    /// Ends of sessions that had armed a will, waited or held.
    pub ends: u64,
    /// Requests whose answer never came.
    pub unknown: u64,
    /// Kills of the router.
    pub kills: u64,
    /// Parts of histories that a kill fell into.
    pub keys_killed: u64,
    /// Keys whose search gave up.
    pub undecided: u64,
    /// The most configurations a search looked at.
    pub longest_search: u64,
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.histories += other.histories;
        self.keys += other.keys;
        self.ops += other.ops;
        self.writes += other.writes;
        self.by_call += other.by_call;
        self.conditional += other.conditional;
        self.watching += other.watching;
        self.refused += other.refused;
        self.conflicts += other.conflicts;
        self.timed_out += other.timed_out;
        self.held += other.held;
        self.unfit += other.unfit;
        self.grants += other.grants;
        self.releases += other.releases;
        self.renewals += other.renewals;
        self.lost += other.lost;
        self.reads += other.reads;
        self.reads_of_waiting += other.reads_of_waiting;
        self.listed += other.listed;
        self.inspected += other.inspected;
        self.changes += other.changes;
        self.canceled += other.canceled;
        self.ends += other.ends;
        self.unknown += other.unknown;
        self.kills += other.kills;
        self.keys_killed += other.keys_killed;
        self.undecided += other.undecided;
        self.longest_search = self.longest_search.max(other.longest_search);
    }
}

/// Records and checks histories.
///
/// # Errors
/// Fails on the first history that no order explains, with the shortest beginning that none does.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let on_disk = plan.histories.div_ceil(2);
    for (durable, histories) in [(true, on_disk), (false, plan.histories - on_disk)] {
        report.add(&run_on(plan, durable, histories)?);
    }
    Ok(report)
}

fn run_on(plan: &Plan, durable: bool, histories: u64) -> Result<Report> {
    let options = Options::default().restartable();
    let mut server = Server::start(if durable { options } else { options.memory() })?;
    let arena = Arena::new(server.listen, durable);
    let next = AtomicU64::new(0);
    let work = || -> Result<Report> {
        let mut report = Report::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= histories || arena.has_failed() {
                return Ok(report);
            }
            let seed = plan.seed.wrapping_mul(1_000_003) ^ number << 1 ^ u64::from(durable);
            let played = table::play(&arena, number, seed)
                .with_context(|| format!("history {number}, durable: {durable}"));
            match played {
                Ok(one) => report.add(&one),
                Err(error) => {
                    arena.fail();
                    return Err(error);
                }
            }
            arena.advance(1);
        }
    };
    std::thread::scope(|scope| {
        let tables: Vec<_> = (0..plan.tables).map(|_| scope.spawn(work)).collect();
        let kills = arena.kill_in_between(&mut server, plan.kill_after, histories, || ());
        let mut report = Report::default();
        let mut failures = Vec::new();
        for table in tables {
            match table.join() {
                Ok(Ok(one)) => report.add(&one),
                Ok(Err(error)) => failures.push(format!("{error:#}")),
                Err(_) => failures.push("a table panicked".to_owned()),
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        report.kills = kills?;
        Ok(report)
    })
}
