//! Which of the 65,535 slots are taken.
//!
//! Numbers map to slots in turn, so that a restarted router repeats a delivery under the very packet identifier it had
//! before, without having stored it. As long as all live numbers lie within one turn their slots differ, and nothing
//! has to be kept; a bitmap exists only while some delivery stays unsettled for longer than that.

use crate::model::Slot;

/// The most deliveries that wait or are unsettled at a time; each occupies its own slot.
pub(super) const OCCUPIED_MAX: usize = 65_535;

/// Numbers in one turn.
const TURN: u64 = OCCUPIED_MAX as u64;

/// The slot of a number.
pub(super) fn slot_of(number: u64) -> Slot {
    let turn = (number.saturating_sub(1) % TURN) as u16;
    Slot::MIN.saturating_add(turn)
}

/// The first number from `first` on that has this slot.
pub(super) fn number_from(first: u64, slot: Slot) -> u64 {
    let turn = |slot: Slot| u64::from(slot.get() - 1);
    first + (turn(slot) + TURN - turn(slot_of(first))) % TURN
}

/// One bit for each slot, while it is needed.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Option<Box<[u64; 1_024]>>,
}

impl Slots {
    /// Whether the slot of `number`, which is higher than all numbers in `live`, is free; `oldest` is the lowest of
    /// them.
    pub(super) fn is_free<I: Iterator<Item = u64>>(
        &mut self,
        number: u64,
        oldest: Option<u64>,
        live: impl FnOnce() -> I,
    ) -> bool {
        let span = oldest.map_or(0, |oldest| number.saturating_sub(oldest));
        if span < TURN {
            // Not dropped and built again at every step around the border.
            if span < TURN / 2 {
                self.taken = None;
            }
            return true;
        }
        if self.taken.is_none() {
            self.taken = Some(Box::new([0; 1_024]));
            live().for_each(|number| self.take(number));
        }
        let (word, bit) = place_of(number);
        self.taken
            .as_ref()
            .and_then(|taken| taken.get(word))
            .is_none_or(|bits| bits & bit == 0)
    }

    /// The number is used from now on.
    pub(super) fn take(&mut self, number: u64) {
        let (word, bit) = place_of(number);
        if let Some(bits) = self.taken.as_mut().and_then(|taken| taken.get_mut(word)) {
            *bits |= bit;
        }
    }

    /// The number is used no longer.
    pub(super) fn give_back(&mut self, number: u64) {
        let (word, bit) = place_of(number);
        if let Some(bits) = self.taken.as_mut().and_then(|taken| taken.get_mut(word)) {
            *bits &= !bit;
        }
    }
}

fn place_of(number: u64) -> (usize, u64) {
    let slot = slot_of(number).get();
    (usize::from(slot / 64), 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_leads_to_its_next_number() {
        for first in [1, 2, 65_534, 65_535, 65_536, 65_537, 200_000] {
            for ahead in [0, 1, 2, 65_533, 65_534] {
                let number = first + ahead;
                assert_eq!(number_from(first, slot_of(number)), number);
            }
            assert_eq!(number_from(first, slot_of(first + TURN)), first);
        }
    }
}
