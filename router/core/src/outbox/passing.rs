//! At-most-once deliveries that wait to be written.

use crate::model::EventDelivery;
use std::collections::VecDeque;

/// At-most-once deliveries, each with its place in the order of enqueueing.
#[derive(Debug, Default)]
pub(super) struct Passing {
    pub(super) items: VecDeque<(u64, EventDelivery)>,
    pub(super) bytes: usize,
    /// How many were dropped since one was handed out.
    pub(super) lost: u32,
}

impl Passing {
    pub(super) fn push(&mut self, order: u64, delivery: EventDelivery) {
        self.bytes += delivery.event.cost();
        self.items.push_back((order, delivery));
    }

    pub(super) fn pop(&mut self) -> Option<EventDelivery> {
        let (_, delivery) = self.items.pop_front()?;
        self.bytes -= delivery.event.cost();
        Some(delivery)
    }

    pub(super) fn order(&self) -> u64 {
        self.items.front().map_or(u64::MAX, |(order, _)| *order)
    }

    pub(super) fn clear(&mut self) {
        *self = Passing::default();
    }

    /// Gives back the memory of an empty lane.
    pub(super) fn rest(&mut self) {
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
    }
}

/// The same for replayed ones, which are seldom: not there while there are none.
#[derive(Debug, Default)]
pub(super) struct Replayed(Option<Box<Passing>>);

impl Replayed {
    pub(super) fn make(&mut self) -> &mut Passing {
        self.0.get_or_insert_default()
    }

    pub(super) fn order(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |lane| lane.order())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |lane| lane.items.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |lane| lane.bytes)
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives back the memory of an empty lane.
    pub(super) fn rest(&mut self) {
        self.0
            .take_if(|lane| lane.items.is_empty() && lane.lost == 0);
    }
}

#[cfg(test)]
mod tests {
    use crate::outbox::Outbox;

    /// Of every session there is; what is seldom there is in a box.
    #[test]
    fn an_outbox_has_little_room_for_what_most_never_need() {
        assert!(size_of::<Outbox>() <= 232, "{}", size_of::<Outbox>());
    }
}
