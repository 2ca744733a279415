//! The group commit of a run, in the same thread: batches become durable at random later times,
//! their owner hears of it later still, and a crash may come between any two of these.
//!
//! Semantics are those of `storage::GroupCommit`: outcomes in submit order, and after a failure
//! nothing of the same epoch is attempted any more. A read sees every batch submitted before it and
//! perhaps later ones, and is answered after their outcomes.

use crate::dice::Dice;
use router_core::realm::Load;
use std::collections::VecDeque;
use storage::testing::{Fault, FaultyStorage};
use storage::{Batch, Found, MemoryStorage, Storage as _, StorageError};

/// A batch on its way.
struct Waiting {
    epoch: u32,
    seq: u64,
    batch: Batch,
}

/// What the writer is asked for.
enum Entry {
    Commit(Waiting),
    Read(Load),
}

/// What the realm is to be told.
pub enum Outcome {
    /// What became of one batch: its epoch, its number, and whether it is durable.
    Commit(u32, u64, bool),
    /// What was found under the keys of the load with this id.
    Read(u64, Vec<Found>),
}

pub struct Store {
    engine: FaultyStorage<MemoryStorage>,
    waiting: VecDeque<Entry>,
    commit_at: Option<u64>,
    outcomes: VecDeque<Outcome>,
    report_at: u64,
    failed_epoch: Option<u32>,
    /// The disk is full until this moment.
    outage_until: u64,
    /// Batches submitted and batches known durable, since the start of the run.
    pub submitted: u64,
    pub durable: u64,
    pub failures: u64,
    /// Reads of a record that fail, in a thousand.
    pub bad_reads: u64,
    /// Records read and reads that failed.
    pub reads: u64,
    pub failed_reads: u64,
}

impl Store {
    pub fn new() -> Store {
        Store {
            engine: FaultyStorage::new(MemoryStorage::new()),
            waiting: VecDeque::new(),
            commit_at: None,
            outcomes: VecDeque::new(),
            report_at: 0,
            failed_epoch: None,
            outage_until: 0,
            submitted: 0,
            durable: 0,
            failures: 0,
            bad_reads: 0,
            reads: 0,
            failed_reads: 0,
        }
    }

    pub fn engine(&self) -> &FaultyStorage<MemoryStorage> {
        &self.engine
    }

    pub fn submit(&mut self, epoch: u32, seq: u64, batch: Batch, now: u64, dice: &mut Dice) {
        self.submitted += 1;
        let batch = Waiting { epoch, seq, batch };
        self.waiting.push_back(Entry::Commit(batch));
        self.plan(now, dice);
    }

    /// Asks for records as they are after all batches submitted so far.
    pub fn submit_read(&mut self, load: Load, now: u64, dice: &mut Dice) {
        self.waiting.push_back(Entry::Read(load));
        self.plan(now, dice);
    }

    fn plan(&mut self, now: u64, dice: &mut Dice) {
        if self.commit_at.is_none() && self.outcomes.is_empty() && !self.waiting.is_empty() {
            let slow = if dice.permille(30) { 400 } else { 15 };
            self.commit_at = Some(now + dice.range(0, slow));
        }
    }

    /// One commit fails.
    pub fn fail_next(&mut self) {
        self.engine.fail(Fault::Commit, 0, StorageError::Full);
    }

    /// Every commit fails until then.
    pub fn outage(&mut self, until: u64) {
        self.outage_until = until;
    }

    pub fn next(&self) -> Option<u64> {
        self.commit_at
            .or_else(|| (!self.outcomes.is_empty()).then_some(self.report_at))
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.outcomes.is_empty()
    }

    /// Writes a group, if it is time. Answers whether anything was attempted.
    pub fn write(&mut self, now: u64, dice: &mut Dice) -> bool {
        if self.commit_at.is_none_or(|at| at > now) {
            return false;
        }
        self.commit_at = None;
        let room = (now < self.outage_until).then_some(0);
        self.engine.set_room(room);
        let count = 1 + dice.below(self.waiting.len());
        let (mut group, mut loads) = (Vec::new(), Vec::new());
        for entry in self.waiting.drain(..count) {
            match entry {
                Entry::Commit(waiting) => group.push(waiting),
                Entry::Read(load) => loads.push(load),
            }
        }
        let (dead, live): (Vec<&Waiting>, Vec<&Waiting>) = group
            .iter()
            .partition(|w| self.failed_epoch.is_some_and(|failed| w.epoch <= failed));
        let mut merged = Batch::new();
        for waiting in &live {
            merged.append(waiting.batch.clone());
        }
        let ok = live.is_empty() || self.engine.commit(&merged).is_ok();
        let dead = dead.iter().map(|w| (w, false));
        let outcomes = dead.chain(live.iter().map(|w| (w, ok)));
        self.outcomes
            .extend(outcomes.map(|(w, ok)| Outcome::Commit(w.epoch, w.seq, ok)));
        if ok {
            self.durable += live.len() as u64;
        } else {
            self.failures += 1;
            self.failed_epoch = live.iter().map(|w| w.epoch).max();
        }
        for load in loads {
            let found = self.read(&load, dice);
            self.outcomes.push_back(Outcome::Read(load.id, found));
        }
        self.report_at = now + dice.range(0, 20);
        true
    }

    fn read(&mut self, load: &Load, dice: &mut Dice) -> Vec<Found> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for key in &load.keys {
            let record = if dice.permille(self.bad_reads) {
                self.failed_reads += 1;
                Err(StorageError::Io {
                    what: "a simulated read".to_owned(),
                })
            } else {
                self.reads += 1;
                self.engine.get(load.space, key)
            };
            bytes += record.iter().flatten().map(Vec::len).sum::<usize>();
            found.push(record);
            if bytes >= load.max_bytes {
                break;
            }
        }
        found
    }

    /// The next outcome the realm has not heard of, if it is time.
    pub fn report(&mut self, now: u64, dice: &mut Dice) -> Option<Outcome> {
        if self.outcomes.is_empty() || self.report_at > now {
            return None;
        }
        let outcome = self.outcomes.pop_front();
        self.plan(now, dice);
        outcome
    }

    /// The process dies: what was not written is gone, and so are the reports.
    pub fn crash(&mut self) {
        self.waiting.clear();
        self.outcomes.clear();
        self.commit_at = None;
        self.failed_epoch = None;
        self.outage_until = 0;
        self.submitted = self.durable;
        self.engine.set_room(None);
        // Failures that were still to come die with the process.
        while self.engine.commit(&Batch::new()).is_err() {}
    }
}
