//! What was handed out and is not settled, across connections.

use super::Gap;
use super::line::Body;
use crate::model::{Delivery, EventDelivery, Qos, Slot, Topic};
use crate::outbox::Sure;
use crate::outbox::slots::{number_from, slot_of};
use std::collections::VecDeque;

/// What is kept of an item in the window.
#[derive(Debug)]
enum Phase {
    /// Handed out, not settled.
    Sent(Box<Body>),
    /// The receiver has it; only the release is open.
    Released,
    /// The same, but that is not durable yet, so the receiver must not be told to let go.
    Releasing,
}

#[derive(Debug)]
struct Unsettled {
    number: u64,
    phase: Phase,
    /// The stored gaps that this delivery tells of.
    gaps: Box<[Gap]>,
}

impl Unsettled {
    /// Where they are stored.
    fn take_gaps(&mut self) -> Vec<u64> {
        let gaps = std::mem::take(&mut self.gaps);
        gaps.into_iter().map(|gap| gap.number).collect()
    }
}

/// What became settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) number: u64,
    /// Stored gaps that it told of.
    pub(super) gaps: Vec<u64>,
}

/// The window.
#[derive(Debug, Default)]
pub(super) struct Window {
    items: VecDeque<Unsettled>,
    /// Items still to be handed out again to a new connection.
    resend_from: usize,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.items.iter().map(|item| item.number)
    }

    /// All numbers that have a stored record: deliveries, and gaps they tell of.
    pub(super) fn records(&self) -> impl Iterator<Item = u64> {
        self.numbers().chain(self.gaps().map(|gap| gap.number))
    }

    /// The gaps that deliveries here tell of: stored until these are settled.
    pub(super) fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.items.iter().flat_map(|item| &item.gaps)
    }

    pub(super) fn oldest(&self) -> u64 {
        self.items.front().map_or(u64::MAX, |item| item.number)
    }

    /// What is stored of each item.
    pub(super) fn copies(&self) -> impl Iterator<Item = (u64, Option<EventDelivery>)> {
        self.items.iter().map(|item| match &item.phase {
            Phase::Sent(body) => (item.number, Some(body.delivery.clone())),
            Phase::Released | Phase::Releasing => (item.number, None),
        })
    }

    /// A delivery was handed out.
    pub(super) fn send(&mut self, number: u64, body: Box<Body>, gaps: Box<[Gap]>) {
        let phase = Phase::Sent(body);
        self.items.push_back(Unsettled {
            number,
            phase,
            gaps,
        });
        self.resend_from += 1;
    }

    /// An earlier life of the session was about to release this one.
    pub(super) fn restore_released(&mut self, number: u64) {
        self.items.push_back(Unsettled {
            number,
            phase: Phase::Released,
            gaps: Box::default(),
        });
    }

    /// A new connection: everything will be handed out again.
    pub(super) fn resend(&mut self) {
        self.resend_from = 0;
    }

    /// Whether everything was handed out to this connection.
    pub(super) fn is_resent(&self) -> bool {
        self.resend_from >= self.items.len()
    }

    /// Whether something may be handed out again now.
    pub(super) fn has_repeat(&self) -> bool {
        let next = self.items.get(self.resend_from);
        next.is_some_and(|item| !matches!(item.phase, Phase::Releasing))
    }

    /// Repeats what an earlier connection did not settle, in the original order.
    pub(super) fn drain(&mut self, end: usize, out: &mut Vec<Delivery>) {
        while out.len() < end
            && let Some(item) = self.items.get(self.resend_from)
        {
            let slot = slot_of(item.number);
            out.push(match &item.phase {
                Phase::Releasing => return,
                Phase::Released => Delivery::Release { slot },
                Phase::Sent(body) => Delivery::Event(EventDelivery {
                    slot: Some(slot),
                    repeated: true,
                    ..body.delivery.clone()
                }),
            });
            self.resend_from += 1;
        }
    }

    /// Takes an item out.
    pub(super) fn settle(&mut self, slot: Slot) -> Option<Settled> {
        let place = self.place_of(slot)?;
        let mut item = self.items.remove(place)?;
        if place < self.resend_from {
            self.resend_from -= 1;
        }
        Some(Settled {
            number: item.number,
            gaps: item.take_gaps(),
        })
    }

    /// Keeps only the slot.
    pub(super) fn advance(&mut self, slot: Slot) -> Option<Settled> {
        let item = self.item_at(slot)?;
        item.phase = Phase::Released;
        Some(Settled {
            number: item.number,
            gaps: item.take_gaps(),
        })
    }

    /// Says whether the release in `slot` is durable. Answers whether there is one.
    pub(super) fn set_durable(&mut self, slot: Slot, durable: bool) -> bool {
        match self.item_at(slot) {
            Some(item) if !matches!(item.phase, Phase::Sent(_)) => {
                item.phase = match durable {
                    true => Phase::Released,
                    false => Phase::Releasing,
                };
                true
            }
            _ => false,
        }
    }

    fn item_at(&mut self, slot: Slot) -> Option<&mut Unsettled> {
        let place = self.place_of(slot)?;
        self.items.get_mut(place)
    }

    /// Mostly there is no number missing; and numbers grow but where something was put back.
    fn place_of(&self, slot: Slot) -> Option<usize> {
        let oldest = self.items.front()?.number;
        let number = number_from(oldest, slot);
        let place = usize::try_from(number - oldest).ok()?;
        let by_distance = self.items.get(place);
        if by_distance.is_some_and(|item| item.number == number) {
            return Some(place);
        }
        let is_it = |item: &Unsettled| slot_of(item.number) == slot;
        let by_number = self.items.binary_search_by_key(&number, |item| item.number);
        by_number.ok().or_else(|| self.items.iter().position(is_it))
    }

    /// Takes out the items that `goes` asks for of those not yet received; answers their records.
    fn take(&mut self, goes: impl Fn(&EventDelivery) -> bool) -> Vec<(Sure, Vec<u64>)> {
        let mut taken = Vec::new();
        let mut earlier = 0;
        for (place, item) in std::mem::take(&mut self.items).into_iter().enumerate() {
            match item.phase {
                Phase::Sent(body) if goes(&body.delivery) => {
                    earlier += usize::from(place < self.resend_from);
                    let gone = Sure {
                        number: item.number,
                        commit: None,
                        delivery: body.delivery,
                    };
                    let gaps = item.gaps.iter().map(|gap| gap.number);
                    taken.push((gone, gaps.collect()));
                }
                phase => self.items.push_back(Unsettled { phase, ..item }),
            }
        }
        self.resend_from -= earlier;
        taken
    }

    /// Drops the items whose topic is denied; answers what they were, with the gaps they told of.
    pub(super) fn drop_denied(&mut self, denied: impl Fn(&Topic) -> bool) -> Vec<Settled> {
        let dropped = self.take(|delivery| denied(&delivery.event.topic));
        let settled = dropped.into_iter().map(|(item, gaps)| Settled {
            number: item.number,
            gaps,
        });
        settled.collect()
    }

    /// Takes out the wanted items at at-least-once. The gaps they told of stay with the session that ends.
    pub(super) fn take_unfinished(
        &mut self,
        wanted: impl Fn(&EventDelivery) -> bool,
    ) -> (Vec<Sure>, Vec<u64>) {
        let taken = self.take(|delivery| delivery.qos == Qos::AtLeastOnce && wanted(delivery));
        let (items, gaps): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        (items, gaps.into_iter().flatten().collect())
    }
}
