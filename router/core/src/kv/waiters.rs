//! Conditional writes that wait, first come first served per key. They outlive deletions of the
//! key, and end with their session, their deadline or their grant.

use crate::model::{Publish, RequestId, Topic};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};

/// A parked write.
#[derive(Debug)]
pub struct Waiter {
    /// Unique in the realm.
    pub id: u64,
    /// The waiting session's place in the realm.
    pub session: usize,
    /// What to write once the condition holds.
    pub publish: Box<Publish>,
    /// The timer of its deadline, if it has one.
    pub timer: Option<crate::timers::TimerKey>,
}

impl Waiter {
    /// The condition it waits for.
    #[must_use]
    pub fn when(&self) -> &Value {
        const ABSENT: &Value = &Value::Null;
        self.publish
            .options
            .as_ref()
            .and_then(|o| o.when.as_ref())
            .unwrap_or(ABSENT)
    }
}

/// topic -> waiters in order of arrival.
#[derive(Debug, Default)]
pub struct Waiters {
    queues: HashMap<Topic, VecDeque<Waiter>, foldhash::quality::RandomState>,
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
        self.queues.get(topic).map_or(0, VecDeque::len)
    }

    /// Whether nobody waits for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Every key somebody waits for.
    #[must_use]
    pub fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<Topic> = self.queues.keys().cloned().collect();
        topics.sort_unstable();
        topics
    }

    /// Appends to the queue of its topic.
    pub fn park(&mut self, topic: &Topic, waiter: Waiter) {
        self.queues
            .entry(topic.detached())
            .or_default()
            .push_back(waiter);
    }

    /// Takes the first waiter whose condition holds.
    pub fn take_first(&mut self, topic: &Topic, holds: impl Fn(&Value) -> bool) -> Option<Waiter> {
        let queue = self.queues.get_mut(topic)?;
        let place = queue.iter().position(|waiter| holds(waiter.when()))?;
        let waiter = queue.remove(place);
        if queue.is_empty() {
            self.queues.remove(topic);
        }
        waiter
    }

    /// The waiter of a session's request.
    #[must_use]
    pub fn of_request(&self, topic: &Topic, session: usize, request: RequestId) -> Option<u64> {
        let mut queue = self.queues.get(topic)?.iter();
        let waiter = queue
            .find(|waiter| waiter.session == session && waiter.publish.request == Some(request))?;
        Some(waiter.id)
    }

    /// Takes one waiter away.
    pub fn remove(&mut self, topic: &Topic, id: u64) -> Option<Waiter> {
        let queue = self.queues.get_mut(topic)?;
        let place = queue.iter().position(|waiter| waiter.id == id)?;
        let waiter = queue.remove(place);
        if queue.is_empty() {
            self.queues.remove(topic);
        }
        waiter
    }
}
