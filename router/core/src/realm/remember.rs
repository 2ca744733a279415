//! What the realm remembers and its store (ADR 0016): an event is in memory at once, its record leaves in the batch of the
//! command that published it, and an acknowledgement waits for that like any other.
//!
//! Records of what is forgotten are deleted later and in steps, and only together with a mark of how much that was: a
//! restart finds a little more than is to be kept, never less, and still knows what is missing.

use super::{Effects, Realm};
use crate::history::{Head, Keep};
use crate::model::{Admission, Event, Pattern, Publish};
use crate::realm::IdClock;
use crate::realm::publish::is_traced;
use crate::records::{self, StoredMark, StoredTrace};
use crate::timers::{Timer, TimerKey};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Obsolete records from which on a step is worth its while.
const WORTHWHILE: usize = 256;

/// Records deleted, and old events forgotten, in one step.
const PER_STEP: usize = 1_024;

/// Between two steps.
const STEP_AFTER: Duration = Duration::from_millis(10);

/// Beyond so many obsolete records each new event deletes [`LEAST`], so that they cannot grow without bound.
const OBSOLETE_MAX: usize = 16_384;

/// Deleted for each new event beyond that.
const LEAST: usize = 2;

/// Why an event may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    /// Its publisher asked for it.
    pub asked: bool,
    /// It is kept even if the store refuses it, because nobody is told that it failed.
    pub stands: bool,
}

impl Trace {
    /// What the realm itself says.
    pub(super) const OWN: Trace = Trace {
        asked: false,
        stands: true,
    };
}

/// When the next step of forgetting is taken.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    due: Option<(Instant, TimerKey)>,
    /// The batch of the latest one.
    commit: u64,
}

/// What a restart finds of a remembered event, or its key and why that cannot be read.
pub type RestoredTrace = Result<Head, (Vec<u8>, String)>;

/// How much is forgotten of the log with this pattern, or of what is kept on request.
pub type RestoredMark = (Option<Pattern>, u64);

impl Realm {
    /// Remembers an event that the history wants. Answers whether it did.
    pub(super) fn remember(
        &mut self,
        event: &Arc<Event>,
        trace: Trace,
        not_to_publisher: bool,
        effects: &mut Effects,
    ) -> bool {
        let how = Keep {
            traced: trace.asked,
            stands: trace.stands,
            not_to_publisher,
            commit: (!self.store_down).then_some(self.commit),
        };
        let done = self.history.append(super::detached(event), how);
        self.counters.history_forgotten += done.forgotten;
        if !done.kept {
            self.counters.history_not_kept += u64::from(self.store_down);
            return false;
        }
        if done.durable && !self.store_down {
            self.write_trace(event, trace.asked, effects);
            if self.history.obsolete() > OBSOLETE_MAX {
                self.delete_obsolete(LEAST, effects);
            }
        }
        self.arm_forgetting();
        true
    }

    fn write_trace(&self, event: &Event, traced: bool, effects: &mut Effects) {
        if let Ok(record) = records::encode(&StoredTrace::of(event, traced)) {
            let key = records::trace_key(&self.settings.name, event.publication.0);
            effects.batch.put(records::HISTORY, key, record);
        }
    }

    /// Whether this publish would have to be remembered on disk.
    pub(super) fn stores_trace_of(&self, publish: &Publish) -> bool {
        let options = publish.options.as_deref();
        let names_sessions = || {
            let admission = options.and_then(Admission::of);
            admission.is_some_and(|admission| admission.names_sessions())
        };
        self.history.stores(&publish.topic, is_traced(options)) && !names_sessions()
    }

    /// The first publication that is no older than an age.
    pub(super) fn first_since(&self) -> impl Fn(Duration) -> u64 + use<> {
        let unix_ms = self.unix_ms;
        move |age| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            IdClock::first_at(unix_ms.saturating_sub(age)).0
        }
    }

    /// Sees to it that the next step of forgetting is taken.
    pub(super) fn arm_forgetting(&mut self) {
        let may_delete = !self.store_down && self.forgetting.commit <= self.committed;
        let is_worthwhile = may_delete && self.history.obsolete() >= WORTHWHILE;
        if self.forgetting.due.is_some() && !is_worthwhile {
            return;
        }
        let Some(instant) = self.instant else { return };
        let until_old = self.history.aging().map(|(entry, age)| {
            let since = self
                .unix_ms
                .saturating_sub(IdClock::unix_ms_of(entry.publication));
            let left = age.saturating_sub(Duration::from_millis(since));
            left.saturating_add(Duration::from_millis(1))
                .max(STEP_AFTER)
        });
        let after = match is_worthwhile {
            true => Some(STEP_AFTER),
            false => until_old.min(),
        };
        let Some(at) = after.and_then(|after| instant.checked_add(after)) else {
            return;
        };
        match self.forgetting.due {
            Some((due, _)) if due <= at => return,
            Some((_, key)) => self.timers.cancel(Some(key)),
            None => {}
        }
        self.forgetting.due = Some((at, self.timers.set(at, Timer::Forget)));
    }

    /// Forgets what has become too old, and deletes records of what is forgotten.
    pub(super) fn forget_step(&mut self, effects: &mut Effects) {
        self.forgetting.due = None;
        let first = self.first_since();
        let (forgotten, _) = self.history.trim_old(&first, PER_STEP);
        self.counters.history_forgotten += forgotten;
        let is_free = !self.store_down && self.forgetting.commit <= self.committed;
        if is_free && self.history.obsolete() >= WORTHWHILE {
            self.delete_obsolete(PER_STEP, effects);
            self.forgetting.commit = self.commit;
        }
        self.arm_forgetting();
    }

    fn delete_obsolete(&mut self, most: usize, effects: &mut Effects) {
        let name = &self.settings.name;
        self.history.take_marks(|rule, forgotten| {
            let record = records::encode(&StoredMark::of(rule, forgotten));
            if let (Some(key), Ok(record)) = (records::mark_key(name, rule), record) {
                effects.batch.put(records::HISTORY, key, record);
            }
        });
        for id in self.history.take_obsolete(most) {
            let key = records::trace_key(name, id);
            effects.batch.delete(records::HISTORY, key);
        }
    }

    /// Everything up to [`Realm::committed`](Realm) is on disk.
    pub(super) fn traces_committed(&mut self) {
        if self.settings.durable && !self.history.is_empty() {
            self.history.spill(self.committed);
            self.arm_forgetting();
        }
    }

    /// Nothing after `committed` is on disk: what was refused is not remembered. It has gone out already.
    pub(super) fn take_back_traces(&mut self, committed: u64) {
        self.counters.history_taken_back += self.history.take_back(committed) as u64;
    }

    /// A write of this key was lost.
    pub(super) fn note_lost_trace(&mut self, key: &[u8]) {
        match records::split_key(key).and_then(|(_, part)| records::publication(part)) {
            Some(id) => self.history.note_lost(id),
            None => self.history.unmark(),
        }
    }

    /// Stores what was kept while the store was down.
    pub(super) fn write_traces_again(&mut self, effects: &mut Effects) {
        let name = &self.settings.name;
        self.history.write_again(self.commit, |event, traced| {
            if let Ok(record) = records::encode(&StoredTrace::of(event, traced)) {
                let key = records::trace_key(name, event.publication.0);
                effects.batch.put(records::HISTORY, key, record);
            }
        });
    }

    /// Takes in what is on disk.
    pub(super) fn restore_traces(
        &mut self,
        traces: Vec<RestoredTrace>,
        marks: &[RestoredMark],
    ) -> Result<(), super::RestoreError> {
        let heads = traces.into_iter().collect::<Result<Vec<Head>, _>>();
        let mut heads = heads.map_err(|(key, why)| {
            let whose = String::from_utf8_lossy(&key).into_owned();
            super::RestoreError {
                what: "remembered event",
                whose,
                why,
            }
        })?;
        heads.sort_by_key(|head| head.publication);
        self.counters.history_forgotten += self.history.restore(heads, marks);
        Ok(())
    }
}
