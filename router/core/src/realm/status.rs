//! Status values: what the router says about itself, below first levels that only it writes.
//!
//! They are shown and announced like retained values, but kept in memory only: they are no keys, so
//! nothing stores them, no condition or key reader sees them, and a realm that holds nothing else is
//! idle. Wildcards do not reach them, because their first level must be named.

use super::publish::Author;
use super::remember::Trace;
use super::{Effects, Realm};
use crate::kv::{Visit, Walked};
use crate::model::{Event, Now, Pattern, Payload, Publish, Topic, must_be_named};
use std::ops::Bound;
use std::sync::Arc;

/// What a realm holds, to be shown as figures. Sums over sessions are gathered in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions, with or without connection.
    pub sessions: usize,
    /// Those with a connection.
    pub connected: usize,
    /// The most that ever had one at the same time.
    pub connected_max: usize,
    /// Kept values.
    pub values: usize,
    /// Bytes of their payloads.
    pub value_bytes: usize,
    /// Subscriptions, counted for each session that holds them.
    pub subscriptions: usize,
    /// Those that are shared.
    pub shares: usize,
    /// Deliveries that wait for their receiver to take or settle them.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
}

impl Realm {
    /// Sets status values and announces those that changed. A topic that clients may publish to is
    /// left out. Answers whether anybody listens to one of the realm's status values.
    pub fn set_status(
        &mut self,
        now: Now,
        values: impl IntoIterator<Item = (Topic, Payload)>,
        effects: &mut Effects,
    ) -> bool {
        for (topic, payload) in values {
            let known = self.status.get(&topic);
            let is_same = known.is_some_and(|event| event.payload.body() == payload.body());
            if is_same || !self.is_reserved(&topic) {
                continue;
            }
            let publish = Publish {
                retain: true,
                ..Publish::new(topic, payload)
            };
            let event = self.event_of(now, publish, &Author::REALM);
            self.status.insert(event.topic.clone(), event.clone());
            self.announce(&event, &Author::REALM, Trace::OWN, effects);
        }
        self.end_doomed(now, effects);
        let mut topics = self.status.keys();
        self.status_wanted = topics.any(|topic| self.subscriptions.has_listener(topic));
        self.status_wanted
    }

    /// Forgets the status values that nobody keeps up to date any more.
    pub fn forget_status(&mut self, is_stale: impl Fn(&Topic) -> bool) {
        self.status.retain(|topic, _| !is_stale(topic));
    }

    /// Whether somebody may listen to status values: since the last [`Realm::set_status`] somebody
    /// subscribed to what must be named, or somebody listened then.
    #[must_use]
    pub fn wants_status(&self) -> bool {
        self.status_wanted
    }

    pub(super) fn note_status_interest(&mut self, pattern: &Pattern) {
        let start = pattern.literal_prefix();
        self.status_wanted |= must_be_named(&start, &self.settings.naming.reserved);
    }

    /// Shows the status values that `pattern` matches, as [`Kv::walk`](crate::kv::Kv::walk) does.
    pub(super) fn walk_status(
        &self,
        pattern: &Pattern,
        after: Option<&Topic>,
        looks: &mut usize,
        visit: &mut dyn FnMut(&Arc<Event>) -> Visit,
    ) -> Walked {
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.text()));
        let mut behind = after;
        for (topic, event) in self.status.range::<str, _>((start, Bound::Unbounded)) {
            if *looks == 0 {
                return Walked::UpTo(behind.cloned());
            }
            *looks -= 1;
            if pattern.matches(topic, &self.settings.naming.reserved) {
                match visit(event) {
                    Visit::Next => {}
                    Visit::Stop => return Walked::UpTo(Some(topic.clone())),
                    Visit::StopBefore => return Walked::UpTo(behind.cloned()),
                }
            }
            behind = Some(topic);
        }
        Walked::ToTheEnd
    }

    /// Adds up what is held: the realm's own figures, and those of at most `most` sessions from
    /// place `from` on. Answers where to go on, or `None` when `census` is complete. What changes
    /// between two parts may be missed or counted twice.
    pub fn count(&self, from: usize, most: usize, census: &mut Census) -> Option<usize> {
        census.sessions = self.sessions.len();
        census.connected = self.connected;
        census.connected_max = self.connected_max;
        census.values = self.kv.len();
        census.value_bytes = self.kv.bytes();
        let end = from.saturating_add(most);
        for session in
            (from..end.min(self.sessions.capacity())).filter_map(|at| self.sessions.get(at))
        {
            census.subscriptions += session.subscriptions.len();
            census.shares += session.seldom.shares.len();
            let queued = session.outbox.queued();
            census.queued += queued.waiting + queued.in_flight;
            census.queued_bytes += queued.bytes;
        }
        (end < self.sessions.capacity()).then_some(end)
    }
}
