//! What leaves a queue for another member of a share group, and comes back if nobody takes it.

use super::Queue;
use crate::model::{EventDelivery, Qos};
use crate::outbox::Sure;

impl Queue {
    /// Takes out what a session that ends leaves to others, oldest first: of the wanted deliveries those that wait,
    /// and of those handed out the ones at at-least-once. What was sent at exactly-once ends with its session.
    pub(in crate::outbox) fn take_unfinished(
        &mut self,
        wanted: impl Fn(&EventDelivery) -> bool,
    ) -> Vec<Sure> {
        let (mut taken, gaps) = self.window.take_unfinished(&wanted);
        self.obsolete.extend(gaps);
        for item in &taken {
            self.slots.give_back(item.number);
        }
        // A repeated one may have been sent before.
        taken.extend(self.take_waiting(|delivery| {
            wanted(delivery) && (delivery.qos == Qos::AtLeastOnce || !delivery.repeated)
        }));
        taken.sort_by_key(|item| item.number);
        taken
    }

    /// Puts back deliveries just taken out, each in its place.
    pub(in crate::outbox) fn put_back(&mut self, items: Vec<Sure>) {
        for item in &items {
            self.slots.take(item.number);
        }
        self.live.put_back(items);
    }
}
