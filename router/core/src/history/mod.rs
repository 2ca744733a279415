//! The traced events of a realm in order, so that a late subscriber can ask for what came after.

use crate::model::Event;
use std::collections::VecDeque;
use std::sync::Arc;

/// A bounded ordered log of events.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl History {
    /// An empty log of at most `events_max` events and `bytes_max` bytes.
    #[must_use]
    pub fn new(events_max: usize, bytes_max: usize) -> History {
        History {
            events: VecDeque::new(),
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    /// Appends an event whose publication id is the greatest so far. Answers how many old events
    /// were forgotten to make room.
    pub fn append(&mut self, event: Arc<Event>) -> u64 {
        self.bytes += event.cost();
        self.events.push_back(event);
        let mut forgotten = 0;
        while self.events.len() > self.events_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            forgotten += 1;
        }
        forgotten
    }

    /// The events after publication id `after`, oldest first.
    pub fn after(&self, after: u64) -> impl Iterator<Item = &Arc<Event>> {
        let start = self
            .events
            .partition_point(|event| event.publication.0 <= after);
        self.events.range(start..)
    }

    /// How many events are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Payload, PublicationId, Qos, Topic};

    fn event(id: u64, bytes: usize) -> Arc<Event> {
        Arc::new(Event {
            publication: PublicationId(id),
            topic: Topic::new("t").unwrap(),
            payload: Payload::bytes(vec![b'x'; bytes].into(), false),
            publisher: None,
            qos: Qos::AtMostOnce,
            retain: false,
            clears: false,
            token: None,
            expires_at_ms: None,
            attributes: None,
        })
    }

    #[test]
    fn positions_compare_as_numbers() {
        let mut history = History::new(100, 1 << 20);
        for id in [8, 9, 10, 11] {
            history.append(event(id, 1));
        }
        let ids: Vec<u64> = history.after(9).map(|e| e.publication.0).collect();
        assert_eq!(ids, [10, 11]);
        assert_eq!(history.after(11).count(), 0);
        assert_eq!(history.after(0).count(), 4);
    }

    #[test]
    fn forgets_the_oldest_by_count_and_by_bytes() {
        let mut history = History::new(2, 1 << 20);
        assert_eq!(
            (1..=3).map(|id| history.append(event(id, 1))).sum::<u64>(),
            1
        );
        assert_eq!(history.after(0).next().map(|e| e.publication.0), Some(2));
        let mut history = History::new(100, 1000);
        (1..=3).for_each(|id| {
            history.append(event(id, 400));
        });
        assert_eq!(history.len(), 2);
    }
}
