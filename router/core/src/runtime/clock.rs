//! One thread that keeps the time for all realms: their deadlines, the trials of a failed store,
//! and the lease of publication ids.

use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long after a failure the store is tried again.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// What the thread has to do.
#[derive(Debug, Default)]
pub(super) struct Clock {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeSet<(Instant, u64, Kind)>,
    /// owner -> its deadline in `due`
    deadlines: HashMap<u64, Instant>,
    stopped: bool,
}

/// Why a realm is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A deadline of its own.
    Deadline,
    /// To try the store again.
    Probe,
    /// Not a realm: the id lease is to be looked at.
    Lease,
}

impl Clock {
    /// Sets or takes away a realm's deadline.
    pub fn set(&self, owner: u64, deadline: Option<Instant>) {
        let mut state = self.state.lock();
        if let Some(former) = state.deadlines.remove(&owner) {
            state.due.remove(&(former, owner, Kind::Deadline));
        }
        if let Some(at) = deadline {
            state.deadlines.insert(owner, at);
            self.add(&mut state, at, owner, Kind::Deadline);
        }
    }

    /// Tries the store for this realm a little later.
    pub fn probe_later(&self, owner: u64, now: Instant) {
        self.add(
            &mut self.state.lock(),
            now + PROBE_AFTER,
            owner,
            Kind::Probe,
        );
    }

    /// Looks at the id lease at `at`.
    pub fn lease_at(&self, at: Instant) {
        self.add(&mut self.state.lock(), at, 0, Kind::Lease);
    }

    fn add(&self, state: &mut State, at: Instant, owner: u64, kind: Kind) {
        let is_first = state.due.first().is_none_or(|first| at < first.0);
        state.due.insert((at, owner, kind));
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Waits for the next thing to do; `None` when the clock was stopped.
    pub fn next(&self) -> Option<(u64, Kind)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            match state.due.first().copied() {
                Some((at, owner, kind)) if at <= Instant::now() => {
                    state.due.remove(&(at, owner, kind));
                    if kind == Kind::Deadline {
                        state.deadlines.remove(&owner);
                    }
                    return Some((owner, kind));
                }
                Some((at, ..)) => {
                    self.wake.wait_until(&mut state, at);
                }
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// Ends [`Clock::next`].
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }
}
