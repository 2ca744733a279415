//! Deadlines of a realm, in one ordered queue.

use crate::model::{RequestId, SubscriptionId, Topic};
use std::collections::BTreeMap;
use std::time::Instant;

/// Names a pending deadline; taken away by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey(Instant, u64);

/// What is due.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// A call took too long: place and serial.
    Call(usize, u64),
    /// A call of an own procedure waits too long: session place, request and serial.
    OwnCall(usize, RequestId, u64),
    /// A hold was not renewed: key and token.
    Lease(Topic, u64),
    /// A waiting write or request for a hold waited too long: key and waiter.
    Waiter(Topic, u64),
    /// A replay waited too long for the store: session place and subscription.
    Replay(usize, SubscriptionId),
    /// A session without connection is over: its place.
    Expiry(usize),
    /// A last will is due: the session's place.
    LastWill(usize),
    /// A read of queued deliveries failed and is to be tried again: its number.
    Load(u64),
    /// Queues hold more than their bounds.
    Trim,
    /// What is remembered has become too old, or records of it are to be deleted.
    Forget,
    /// A kept value may have expired.
    ValueExpiry(Topic),
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<TimerKey, Timer>,
    serial: u64,
}

impl Timers {
    pub fn set(&mut self, at: Instant, timer: Timer) -> TimerKey {
        self.serial += 1;
        let key = TimerKey(at, self.serial);
        self.queue.insert(key, timer);
        key
    }

    pub fn cancel(&mut self, key: Option<TimerKey>) {
        if let Some(key) = key {
            self.queue.remove(&key);
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.queue.keys().next().map(|key| key.0)
    }

    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
