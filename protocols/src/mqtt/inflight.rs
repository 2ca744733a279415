//! What one connection has under way: answers that leave in order, and the window of deliveries.
//!
//! Everything here is bounded by its user: the answers by Receive Maximum and by the caps of
//! [`machine`](super::machine), the window by what the realm handed out unsettled.
//!
//! Most connections have nothing under way most of the time, so nothing is made before there is something.

use super::packet::PacketId;
use foldhash::fast::RandomState;
use router_core::model::EventDelivery;
use std::collections::{HashMap, HashSet, VecDeque};

type Queue<T> = VecDeque<T>;
type Ids = HashSet<PacketId, RandomState>;

/// Items that are answered in any order and leave in the order in which they came.
#[derive(Debug)]
pub(super) struct InOrder<T> {
    /// Serial number of the front item.
    first: u64,
    items: Option<Box<Queue<T>>>,
}

impl<T> InOrder<T> {
    pub(super) const fn new() -> Self {
        Self {
            first: 0,
            items: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.as_ref().map_or(0, |items| items.len())
    }

    /// The serial number that the next item gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.len() as u64
    }

    pub(super) fn push(&mut self, item: T) {
        self.items.get_or_insert_default().push_back(item);
    }

    pub(super) fn get_mut(&mut self, serial: u64) -> Option<&mut T> {
        let at = usize::try_from(serial.checked_sub(self.first)?).ok()?;
        self.items.as_mut()?.get_mut(at)
    }

    /// Gives back the memory of an empty queue.
    pub(super) fn rest(&mut self) {
        self.items.take_if(|items| items.is_empty());
    }

    /// Takes the front item if it is `done`.
    pub(super) fn pop_if(&mut self, done: impl Fn(&T) -> bool) -> Option<T> {
        let items = self.items.as_mut()?;
        if !items.front().is_some_and(done) {
            return None;
        }
        self.first += 1;
        items.pop_front()
    }
}

/// Identifiers of exactly-once messages of the peer that it has not released yet.
#[derive(Debug, Default)]
pub(super) struct Unreleased(Option<Box<Ids>>);

impl Unreleased {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| ids.len())
    }

    pub(super) fn contains(&self, id: PacketId) -> bool {
        self.0.as_ref().is_some_and(|ids| ids.contains(&id))
    }

    pub(super) fn insert(&mut self, id: PacketId) {
        self.0.get_or_insert_default().insert(id);
    }

    pub(super) fn remove(&mut self, id: PacketId) {
        if let Some(ids) = &mut self.0 {
            ids.remove(&id);
        }
    }

    /// Gives back the memory of an empty set.
    pub(super) fn rest(&mut self) {
        self.0.take_if(|ids| ids.is_empty());
    }
}

/// What the client owes for a message sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// PUBACK.
    Acknowledgement,
    /// PUBREC.
    Receipt,
    /// PUBCOMP.
    Completion,
}

#[derive(Debug)]
struct Sent {
    owed: Owed,
    /// It was sent as a PUBLISH on this connection, so it uses the client's Receive Maximum; a
    /// repeated PUBREL does not (5.0 section 4.9).
    counts: bool,
}

/// The QoS 1 and 2 messages under way to the client.
///
/// The realm keeps the state that outlives the connection and hands out no more than the window
/// it was given, but what it repeats after a reconnect may be more than a smaller Receive Maximum
/// allows: the rest is held here `[MQTT-3.3.4-9]`.
#[derive(Debug)]
pub(super) struct Window {
    maximum: u32,
    used: u32,
    open: Option<Box<Open>>,
}

/// What a [`Window`] has.
#[derive(Debug, Default)]
struct Open {
    sent: HashMap<PacketId, Sent, RandomState>,
    held: VecDeque<EventDelivery>,
}

impl Window {
    pub(super) fn new(maximum: u16) -> Self {
        Self {
            maximum: maximum.into(),
            used: 0,
            open: None,
        }
    }

    /// Whether a message may be sent now without overtaking one that is held.
    pub(super) fn is_open(&self) -> bool {
        let holds = |open: &Open| !open.held.is_empty();
        self.used < self.maximum && !self.open.as_deref().is_some_and(holds)
    }

    /// Keeps a message until the window opens.
    pub(super) fn hold(&mut self, delivery: EventDelivery) {
        self.open.get_or_insert_default().held.push_back(delivery);
    }

    /// The next held message, if the window has room for it.
    pub(super) fn take_held(&mut self) -> Option<EventDelivery> {
        if self.used < self.maximum {
            self.open.as_mut()?.held.pop_front()
        } else {
            None
        }
    }

    /// A PUBLISH with this identifier is on its way.
    pub(super) fn sent(&mut self, id: PacketId, owed: Owed) {
        self.put(id, Sent { owed, counts: true });
    }

    /// A PUBREL of an earlier connection is repeated.
    pub(super) fn released_again(&mut self, id: PacketId) {
        let (owed, counts) = (Owed::Completion, false);
        self.put(id, Sent { owed, counts });
    }

    fn put(&mut self, id: PacketId, sent: Sent) {
        self.used += u32::from(sent.counts);
        let open = self.open.get_or_insert_default();
        let former = open.sent.insert(id, sent);
        self.used -= u32::from(former.is_some_and(|former| former.counts));
    }

    /// What the client owes for this identifier; `None`: nothing.
    pub(super) fn owed(&self, id: PacketId) -> Option<Owed> {
        let sent = self.open.as_ref()?.sent.get(&id)?;
        Some(sent.owed)
    }

    /// PUBREC has come, PUBCOMP is owed.
    pub(super) fn advance(&mut self, id: PacketId) {
        let sent = self.open.as_mut().and_then(|open| open.sent.get_mut(&id));
        if let Some(sent) = sent {
            sent.owed = Owed::Completion;
        }
    }

    /// The exchange is over and the identifier free.
    pub(super) fn settle(&mut self, id: PacketId) {
        let gone = self.open.as_mut().and_then(|open| open.sent.remove(&id));
        self.used -= u32::from(gone.is_some_and(|gone| gone.counts));
    }

    /// Gives back the memory of what is empty.
    pub(super) fn rest(&mut self) {
        self.open
            .take_if(|open| open.sent.is_empty() && open.held.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not zero")
    }

    #[test]
    fn answers_leave_in_the_order_of_their_questions() {
        let mut queue = InOrder::new();
        for _ in 0..3 {
            queue.push(false);
        }
        assert_eq!(queue.next(), 3);
        *queue.get_mut(1).expect("asked") = true;
        assert_eq!(queue.pop_if(|done| *done), None, "the first is open");
        *queue.get_mut(0).expect("asked") = true;
        assert_eq!(queue.pop_if(|done| *done), Some(true));
        assert_eq!(queue.pop_if(|done| *done), Some(true));
        assert_eq!(queue.pop_if(|done| *done), None);
        assert_eq!((queue.len(), queue.next()), (1, 3));
        assert!(queue.get_mut(0).is_none() && queue.get_mut(3).is_none());
        assert!(queue.get_mut(2).is_some(), "serials go on");
    }

    #[test]
    fn the_window_counts_publishes_and_not_repeated_releases() {
        let mut window = Window::new(2);
        window.released_again(id(9));
        window.sent(id(1), Owed::Acknowledgement);
        assert!(window.is_open());
        window.sent(id(2), Owed::Receipt);
        assert!(!window.is_open() && window.take_held().is_none());
        window.advance(id(2));
        assert_eq!(window.owed(id(2)), Some(Owed::Completion));
        assert!(!window.is_open(), "PUBREC frees nothing");
        window.settle(id(9));
        assert!(!window.is_open(), "it never counted");
        window.settle(id(2));
        assert!(window.is_open());
        window.settle(id(2));
        assert_eq!(
            (window.used, window.open.map(|open| open.sent.len())),
            (1, Some(1))
        );
    }

    #[test]
    fn an_identifier_sent_twice_counts_once() {
        let mut window = Window::new(2);
        window.sent(id(1), Owed::Acknowledgement);
        window.sent(id(1), Owed::Receipt);
        assert_eq!((window.used, window.owed(id(1))), (1, Some(Owed::Receipt)));
    }
}
