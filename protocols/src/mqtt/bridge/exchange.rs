//! Messages under way to the peer, from PUBLISH to the last acknowledgement (5.0 sections 4.3, 4.4
//! and 4.9).
//!
//! One delivery of the realm has one slot and may cross under several names. Copy `k` of slot `s`
//! always has the same Packet Identifier, `s` itself for the first, so that a repetition after a
//! restart is one for the peer too. The copies are let go together: PUBREL leaves for none of them
//! before the peer has all, and before that is durable on this side.
//!
//! Invariants: no two open exchanges may use the same identifier, now or when they are repeated;
//! PUBLISHes without PUBACK or PUBCOMP never exceed the peer's Receive Maximum `[MQTT-3.3.4-9]`.

use crate::mqtt::packet::PacketId;
use router_core::model::Slot;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Distance of the identifiers of two copies: with the most rules there are, every copy of a slot
/// has an identifier of its own.
const STRIDE: u32 = 1_021;
const IDS: u32 = 65_535;

/// The identifier `steps` copies behind (or, negative, before) `id`.
fn shifted(id: PacketId, steps: i64) -> PacketId {
    let place = (i64::from(id.get()) - 1 + steps * i64::from(STRIDE)).rem_euclid(i64::from(IDS));
    let number = u16::try_from(place + 1).unwrap_or(1);
    PacketId::new(number).unwrap_or(PacketId::MIN)
}

/// The Packet Identifier of copy `number` of the message in `slot`.
pub(super) fn copy_id(slot: Slot, number: usize) -> PacketId {
    shifted(slot, i64::try_from(number).unwrap_or(0))
}

/// Whether messages in both slots, with `copies` copies each, could need the same identifier.
pub(super) fn may_collide(a: PacketId, b: PacketId, copies: usize) -> bool {
    let steps = i64::try_from(copies).unwrap_or(i64::MAX);
    (1..steps).any(|step| shifted(a, step) == b || shifted(b, step) == a)
}

/// What the peer owes for one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// PUBACK.
    Acknowledgement,
    /// PUBREC.
    Receipt,
    /// PUBCOMP.
    Completion,
    /// Nothing any more.
    Nothing,
}

/// What follows from an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody knows this identifier.
    Unknown,
    /// It is not the acknowledgement that is due.
    Wrong,
    /// Other copies are not that far.
    Wait,
    /// The peer has all of it: tell the realm.
    Advance(Slot),
    /// All is done: tell the realm.
    Settle(Slot),
    /// PUBREL must be sent once more.
    ReleaseAgain,
}

#[derive(Debug)]
struct Exchange {
    slot: Slot,
    copies: SmallVec<[(PacketId, Owed); 1]>,
    /// Its PUBLISHes were sent on this connection, so they use the peer's Receive Maximum.
    counts: bool,
    /// PUBREL was sent.
    is_released: bool,
}

/// The exchanges of one connection.
#[derive(Debug)]
pub(super) struct Exchanges {
    maximum: usize,
    used: usize,
    copies_max: usize,
    open: VecDeque<Exchange>,
}

impl Exchanges {
    /// At most `maximum` PUBLISHes under way; a message has at most `copies_max` copies.
    pub(super) const fn new(maximum: u16, copies_max: usize) -> Self {
        Self {
            maximum: maximum as usize,
            used: 0,
            copies_max,
            open: VecDeque::new(),
        }
    }

    pub(super) const fn maximum(&self) -> usize {
        self.maximum
    }

    pub(super) fn is_open(&self, slot: Slot) -> bool {
        self.open.iter().any(|exchange| exchange.slot == slot)
    }

    /// Whether the message in `slot` may be sent now, as so many PUBLISHes.
    pub(super) fn may_start(&self, slot: Slot, publishes: usize) -> bool {
        let mut others = self.open.iter().filter(|other| other.slot != slot);
        self.used + publishes <= self.maximum
            && !others.any(|other| may_collide(slot, other.slot, self.copies_max))
    }

    /// These copies are on their way.
    pub(super) fn start(&mut self, slot: Slot, copies: SmallVec<[(PacketId, Owed); 1]>) {
        self.drop_exchange(slot);
        self.used += copies.len();
        self.open.push_back(Exchange {
            slot,
            copies,
            counts: true,
            is_released: false,
        });
    }

    /// The realm cannot forget that the peer has the message: the identifiers to send PUBREL for.
    /// After a reconnect these are all that the message may have had.
    pub(super) fn release(&mut self, slot: Slot) -> SmallVec<[PacketId; 1]> {
        if !self.is_open(slot) {
            let copies = (0..self.copies_max.max(1))
                .map(|number| (copy_id(slot, number), Owed::Completion))
                .collect();
            self.open.push_back(Exchange {
                slot,
                copies,
                counts: false,
                is_released: false,
            });
        }
        let Some(exchange) = self.open.iter_mut().find(|open| open.slot == slot) else {
            return SmallVec::new();
        };
        exchange.is_released = true;
        let due = exchange.copies.iter();
        due.filter(|(_, owed)| *owed == Owed::Completion)
            .map(|(id, _)| *id)
            .collect()
    }

    /// PUBACK, whatever its reason: acknowledged, never repeated `[MQTT-4.4.0-2]`.
    pub(super) fn puback(&mut self, id: PacketId) -> Step {
        match self.owed(id) {
            None | Some(Owed::Nothing) => Step::Unknown,
            Some(Owed::Acknowledgement) => self.done(id),
            Some(_) => Step::Wrong,
        }
    }

    /// PUBREC; one with an error ends the exchange `[MQTT-4.3.3-4]`.
    pub(super) fn pubrec(&mut self, id: PacketId, is_error: bool) -> Step {
        match self.owed(id) {
            None | Some(Owed::Nothing) => Step::Unknown,
            Some(Owed::Acknowledgement) => Step::Wrong,
            Some(_) if is_error => self.done(id),
            Some(Owed::Receipt) => {
                self.set(id, Owed::Completion);
                self.step(id)
            }
            Some(Owed::Completion) => match self.find(id) {
                Some(exchange) if exchange.is_released => Step::ReleaseAgain,
                _ => Step::Wait,
            },
        }
    }

    /// PUBCOMP.
    pub(super) fn pubcomp(&mut self, id: PacketId) -> Step {
        let is_released = self.find(id).is_some_and(|exchange| exchange.is_released);
        match self.owed(id) {
            None | Some(Owed::Nothing) => Step::Unknown,
            Some(Owed::Completion) if is_released => self.done(id),
            Some(_) => Step::Wrong,
        }
    }

    fn find(&self, id: PacketId) -> Option<&Exchange> {
        let mut open = self.open.iter();
        open.find(|exchange| exchange.copies.iter().any(|(copy, _)| *copy == id))
    }

    fn owed(&self, id: PacketId) -> Option<Owed> {
        let mut copies = self.find(id)?.copies.iter();
        copies.find(|(copy, _)| *copy == id).map(|(_, owed)| *owed)
    }

    fn set(&mut self, id: PacketId, owed: Owed) {
        let mut copies = self
            .open
            .iter_mut()
            .flat_map(|exchange| &mut exchange.copies);
        if let Some(copy) = copies.find(|(copy, _)| *copy == id) {
            copy.1 = owed;
        }
    }

    fn done(&mut self, id: PacketId) -> Step {
        if self.find(id).is_some_and(|exchange| exchange.counts) {
            self.used = self.used.saturating_sub(1);
        }
        self.set(id, Owed::Nothing);
        self.step(id)
    }

    /// How far the exchange with this identifier is.
    fn step(&mut self, id: PacketId) -> Step {
        let Some(exchange) = self.find(id) else {
            return Step::Unknown;
        };
        let (slot, is_released) = (exchange.slot, exchange.is_released);
        let owes = |wanted: Owed| exchange.copies.iter().any(|(_, owed)| *owed == wanted);
        if owes(Owed::Acknowledgement) || owes(Owed::Receipt) {
            Step::Wait
        } else if !owes(Owed::Completion) {
            self.drop_exchange(slot);
            Step::Settle(slot)
        } else if is_released {
            Step::Wait
        } else {
            Step::Advance(slot)
        }
    }

    fn drop_exchange(&mut self, slot: Slot) {
        let place = self.open.iter().position(|exchange| exchange.slot == slot);
        if let Some(gone) = place.and_then(|place| self.open.remove(place))
            && gone.counts
        {
            let open = gone
                .copies
                .iter()
                .filter(|(_, owed)| *owed != Owed::Nothing);
            self.used = self.used.saturating_sub(open.count());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not zero")
    }

    #[test]
    fn copies_have_identifiers_of_their_own() {
        for slot in [1, 2, 1_000, 65_535] {
            let ids: std::collections::HashSet<_> =
                (0..64).map(|copy| copy_id(id(slot), copy)).collect();
            assert_eq!(ids.len(), 64);
            assert_eq!(copy_id(id(slot), 0), id(slot));
        }
        assert!(may_collide(id(5), copy_id(id(5), 1), 2));
        assert!(may_collide(copy_id(id(65_000), 3), id(65_000), 4));
        assert!(!may_collide(id(5), copy_id(id(5), 1), 1), "one copy only");
        assert!(!may_collide(id(5), id(6), 64));
    }

    #[test]
    fn qos_1_and_2_take_their_steps() {
        let mut open = Exchanges::new(2, 1);
        open.start(id(1), smallvec![(id(1), Owed::Acknowledgement)]);
        open.start(id(2), smallvec![(id(2), Owed::Receipt)]);
        assert!(!open.may_start(id(3), 1));
        assert_eq!(open.pubrec(id(1), false), Step::Wrong);
        assert_eq!(open.pubcomp(id(2)), Step::Wrong);
        assert_eq!(open.puback(id(1)), Step::Settle(id(1)));
        assert_eq!(open.puback(id(1)), Step::Unknown);
        assert_eq!(open.pubrec(id(2), false), Step::Advance(id(2)));
        assert_eq!(open.pubcomp(id(2)), Step::Wrong, "no PUBREL was sent");
        assert_eq!(open.pubrec(id(2), false), Step::Wait);
        assert_eq!(open.release(id(2)).as_slice(), [id(2)]);
        assert_eq!(open.pubrec(id(2), false), Step::ReleaseAgain);
        assert!(!open.may_start(id(3), 2), "PUBREC frees nothing");
        assert_eq!(open.pubcomp(id(2)), Step::Settle(id(2)));
        assert!(open.may_start(id(3), 2));
    }

    #[test]
    fn an_error_ends_the_exchange() {
        let mut open = Exchanges::new(1, 1);
        open.start(id(1), smallvec![(id(1), Owed::Receipt)]);
        assert_eq!(open.pubrec(id(1), true), Step::Settle(id(1)));
        assert!(open.may_start(id(1), 1));
    }

    #[test]
    fn copies_are_let_go_together() {
        let mut open = Exchanges::new(10, 3);
        let (a, b, c) = (id(7), copy_id(id(7), 1), copy_id(id(7), 2));
        let copies = smallvec![
            (a, Owed::Receipt),
            (b, Owed::Acknowledgement),
            (c, Owed::Receipt)
        ];
        open.start(id(7), copies);
        assert_eq!(open.pubrec(a, false), Step::Wait);
        assert_eq!(open.pubrec(c, false), Step::Wait, "one may still be lost");
        assert_eq!(open.puback(b), Step::Advance(id(7)));
        assert_eq!(open.release(id(7)).as_slice(), [a, c]);
        assert_eq!(open.pubcomp(c), Step::Wait);
        assert_eq!(open.pubcomp(a), Step::Settle(id(7)));
        assert!(open.may_start(id(8), 10));
    }

    #[test]
    fn a_release_of_an_earlier_connection_covers_every_copy_and_no_quota() {
        let mut open = Exchanges::new(1, 2);
        let ids = open.release(id(9));
        assert_eq!(ids.as_slice(), [id(9), copy_id(id(9), 1)]);
        assert!(open.may_start(id(10), 1), "repeated PUBRELs use no quota");
        assert!(
            !open.may_start(copy_id(id(9), 1), 1),
            "its identifier is taken"
        );
        assert_eq!(open.pubcomp(ids[1]), Step::Wait);
        assert_eq!(open.pubcomp(ids[0]), Step::Settle(id(9)));
        assert!(open.may_start(copy_id(id(9), 1), 1));
    }

    #[test]
    fn an_identifier_sent_twice_counts_once() {
        let mut open = Exchanges::new(2, 1);
        open.start(id(1), smallvec![(id(1), Owed::Acknowledgement)]);
        open.start(id(1), smallvec![(id(1), Owed::Receipt)]);
        assert!(open.may_start(id(2), 1));
        assert_eq!(open.pubrec(id(1), true), Step::Settle(id(1)));
        assert!(open.may_start(id(2), 2));
    }
}
