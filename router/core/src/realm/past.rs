//! What one subscription is still shown of the past: its cursor, what was read for it and what is held back meanwhile.

use crate::history::Entry;
use crate::limits::LaneLimit;
use crate::model::{Event, EventDelivery, PublicationId};
use crate::session::{Catchup, Session};
use std::sync::Arc;

/// Live events held back for one subscription, or a quarter of its lane if that is less; beyond it the oldest goes out
/// ahead of what is still to be shown.
const HELD: LaneLimit = LaneLimit {
    frames: 1_000,
    bytes: 1 << 20,
};

impl Catchup {
    /// What came after publication `after`, up to `until`; `asked` is the last that was given before.
    pub(super) fn new(after: u64, until: u64, asked: PublicationId, values: bool) -> Catchup {
        Catchup {
            after,
            until,
            asked,
            values,
            gap: false,
            told: 0,
            load: None,
            fetched: Default::default(),
            held: Default::default(),
            held_bytes: 0,
        }
    }

    /// The body of an entry: `None` if it has to be read first, `Some(None)` if that failed.
    pub(super) fn body_of(&mut self, entry: &Entry) -> Option<Option<Arc<Event>>> {
        if let Some(event) = entry.resident() {
            return Some(Some(event.clone()));
        }
        let id = entry.publication.0;
        while self.fetched.front().is_some_and(|(known, _)| *known < id) {
            self.fetched.pop_front();
        }
        let (known, _) = self.fetched.front()?;
        match *known == id {
            true => self.fetched.pop_front().map(|(_, event)| event),
            false => None,
        }
    }

    /// Whether this is the subscriber's own, published since it asked, and not for itself.
    pub(super) fn is_echo(&self, entry: &Entry, event: &Event, session: &Session) -> bool {
        entry.not_to_publisher
            && event.publication > self.asked
            && event
                .publisher
                .as_ref()
                .is_some_and(|p| p.session == session.id)
    }

    /// Answers what must go out because of the bound.
    pub(super) fn hold(&mut self, delivery: EventDelivery, lane: LaneLimit) -> Vec<EventDelivery> {
        // With the half that a replay fills at most, it fits into the lane.
        let most = LaneLimit {
            frames: HELD.frames.min(lane.frames / 4),
            bytes: HELD.bytes.min(lane.bytes / 4),
        };
        self.held_bytes += delivery.event.cost();
        self.held.push_back(delivery);
        let mut ahead = Vec::new();
        while most.is_over(self.held.len(), self.held_bytes) {
            ahead.extend(self.take_held());
        }
        ahead
    }

    pub(super) fn take_held(&mut self) -> Option<EventDelivery> {
        let held = self.held.pop_front()?;
        self.held_bytes -= held.event.cost();
        Some(held)
    }
}
