//! What one publisher has under way: sent, and not yet arrived everywhere and acknowledged.

use futures_util::task::AtomicWaker;
use std::cell::Cell;
use std::rc::Rc;

/// See the [module](self). Shared between the publisher and whoever hears of its messages, all on
/// one thread.
#[derive(Debug)]
pub(super) struct Flow {
    /// Arrivals of each message; 0: none is waited for.
    fan: u64,
    /// Whether the peer acknowledges.
    is_acknowledged: bool,
    /// Wakes the publisher.
    pub bell: Rc<AtomicWaker>,
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    reached: Cell<u64>,
    /// Messages that are not waited for any more.
    written_off: Cell<u64>,
    /// Whether messages arrived since the publisher was woken.
    is_touched: Cell<bool>,
}

impl Flow {
    /// Nothing sent yet.
    pub(super) fn new(fan: u64, is_acknowledged: bool) -> Flow {
        Flow {
            fan,
            is_acknowledged,
            bell: Rc::default(),
            sent: Cell::new(0),
            acknowledged: Cell::new(0),
            reached: Cell::new(0),
            written_off: Cell::new(0),
            is_touched: Cell::new(false),
        }
    }

    /// One more message was sent.
    pub(super) fn send(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    /// The peer acknowledged one.
    pub(super) fn acknowledge(&self) {
        self.acknowledged.set(self.acknowledged.get() + 1);
    }

    /// A stream moved on at one receiver; answers whether it is the first since
    /// [`Flow::wake`].
    pub(super) fn reach(&self, steps: u64) -> bool {
        self.reached.set(self.reached.get() + steps);
        !self.is_touched.replace(true)
    }

    /// Tells the publisher that messages arrived.
    pub(super) fn wake(&self) {
        self.is_touched.set(false);
        self.bell.wake();
    }

    /// How many messages were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Arrivals that there must be in the end.
    pub(super) fn expected(&self) -> u64 {
        self.sent.get() * self.fan
    }

    /// How many messages are under way.
    pub(super) fn under_way(&self) -> u64 {
        self.sent.get().saturating_sub(self.settled())
    }

    fn settled(&self) -> u64 {
        let sent = self.sent.get();
        let arrived = self.reached.get().checked_div(self.fan).unwrap_or(sent);
        let acknowledged = match self.is_acknowledged {
            true => self.acknowledged.get(),
            false => sent,
        };
        arrived.min(acknowledged).max(self.written_off.get())
    }

    /// Waits for nothing of what was sent any more: where messages may be lost, a lost window
    /// would be waited for without end.
    pub(super) fn write_off(&self) {
        self.written_off.set(self.sent.get());
        self.bell.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_under_way_until_it_arrived_everywhere_and_is_acknowledged() {
        let flow = Flow::new(3, true);
        flow.send();
        flow.reach(2);
        flow.acknowledge();
        assert_eq!(flow.under_way(), 1);
        flow.reach(1);
        assert_eq!((flow.under_way(), flow.expected()), (0, 3));
        flow.send();
        flow.reach(3);
        assert_eq!(flow.under_way(), 1);
    }

    #[test]
    fn without_receivers_only_acknowledgements_count() {
        let flow = Flow::new(0, true);
        flow.send();
        assert_eq!(flow.under_way(), 1);
        flow.acknowledge();
        assert_eq!(flow.under_way(), 0);
    }

    #[test]
    fn what_is_written_off_is_not_under_way_and_what_follows_is() {
        let flow = Flow::new(1, false);
        for _ in 0..3 {
            flow.send();
        }
        flow.write_off();
        assert_eq!(flow.under_way(), 0);
        flow.send();
        assert_eq!(flow.under_way(), 1);
        // The stream moved over the lost ones.
        flow.reach(4);
        assert_eq!(flow.under_way(), 0);
    }

    #[test]
    fn a_publisher_is_woken_once_for_all_that_arrived_together() {
        let flow = Flow::new(1, false);
        assert!(flow.reach(1));
        assert!(!flow.reach(1));
        flow.wake();
        assert!(flow.reach(1));
    }
}
