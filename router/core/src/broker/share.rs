//! Which member of a share group receives an event.
//!
//! A [`Rota`] knows the members by their place in the subscription and keeps them in one list of
//! three stretches: those that take more at once, those whose window was found full, and those
//! without connection. A search looks at the first stretch and moves whoever is found out of place,
//! so each member is passed over once for each time it was moved back ([`Rota::ready`]), and a
//! choice costs the same whether the group has ten members or ten thousand. What may keep a search
//! going beyond that are members that this very event is kept from, which an ordinary subscription
//! would have to look at as well; of members whose queue is full at most [`FULL_SEEN`] are asked.

use bytestring::ByteString;
use rand::Rng;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// How many members with a full queue a search passes over in one stretch.
pub const FULL_SEEN: usize = 16;

/// How a group picks the member that receives an event, among those that can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ShareStrategy {
    /// In turn.
    #[default]
    RoundRobin,
    /// By chance.
    Random,
    /// Always the same one, until it cannot.
    Sticky,
    /// Of two drawn by chance the one with less to do.
    LeastLoaded,
}

impl ShareStrategy {
    /// All of them.
    pub const ALL: [ShareStrategy; 4] = [
        ShareStrategy::RoundRobin,
        ShareStrategy::Random,
        ShareStrategy::Sticky,
        ShareStrategy::LeastLoaded,
    ];
}

/// The strategies of a realm's groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Of groups that are not named.
    pub default: ShareStrategy,
    /// By the name of the group.
    pub by_group: HashMap<ByteString, ShareStrategy>,
}

impl Sharing {
    /// The strategy of a group.
    #[must_use]
    pub fn of(&self, group: &str) -> ShareStrategy {
        self.by_group.get(group).copied().unwrap_or(self.default)
    }
}

/// What a member can do with an event now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A rule keeps the event from it.
    Barred,
    /// It has no connection and nothing waits for it.
    Absent,
    /// It takes the event at once; with what it holds already.
    Ready(usize),
    /// Its window is full, but there is room in its queue.
    Busy(usize),
    /// It has no connection, but there is room in its queue.
    Away(usize),
    /// Its queue is full.
    Full,
}

/// How far a choice may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Members that take it at once.
    Window,
    /// Members with a connection and room for it.
    Connected,
    /// Members with room for it.
    Room,
    /// Any; one whose queue is full if there is no other.
    Overflow,
}

/// What came of a choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// The member's place.
    pub place: Option<usize>,
    /// Whether there was any member that the event is not kept from.
    pub matched: bool,
    /// Places of members found to take no more at once: to be told with [`Rota::ready`] when they
    /// do.
    pub parked: Vec<usize>,
}

/// The order of a group's members.
#[derive(Debug, Default)]
pub struct Rota {
    /// Places of members: `..ready` take more at once, `..connected` have a connection.
    order: Vec<usize>,
    /// Where each place is in `order`.
    seats: Vec<usize>,
    ready: usize,
    connected: usize,
    /// Where the next turn begins.
    turn: usize,
    /// The place of the member that sticks.
    stuck: Option<usize>,
    /// Sessions without connection that hold deliveries of this group which were not sent.
    pub keepers: BTreeSet<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Ready,
    Busy,
    Away,
}

/// One choice being made.
struct Search<'a, S> {
    strategy: ShareStrategy,
    windowed: bool,
    standing: &'a mut S,
    picked: Picked,
    /// The first member found whose queue is full.
    full: Option<usize>,
}

impl Rota {
    /// A new member whose place is the next one.
    pub fn join(&mut self, connected: bool) {
        let place = self.seats.len();
        self.seats.push(self.order.len());
        self.order.push(place);
        if connected {
            self.move_to(place, Stretch::Ready);
        }
    }

    /// The member at `place` is gone, and the one at the last place has taken its place.
    pub fn leave(&mut self, place: usize) {
        if place >= self.seats.len() {
            return;
        }
        self.move_to(place, Stretch::Away);
        let seat = self.seats[place];
        self.order.swap_remove(seat);
        if let Some(&moved) = self.order.get(seat) {
            self.seats[moved] = seat;
        }
        self.seats.swap_remove(place);
        let last = self.seats.len();
        if place < last {
            self.order[self.seats[place]] = place;
        }
        self.stuck = match self.stuck {
            Some(stuck) if stuck == place => None,
            Some(stuck) if stuck == last => Some(place),
            other => other,
        };
    }

    /// The member at `place` is connected and may take more.
    pub fn ready(&mut self, place: usize) {
        self.move_to(place, Stretch::Ready);
    }

    /// The member at `place` has no connection.
    pub fn away(&mut self, place: usize) {
        self.move_to(place, Stretch::Away);
    }

    /// Whether any member took more when last seen.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready > 0
    }

    fn stretch_of(&self, seat: usize) -> Stretch {
        match seat {
            seat if seat < self.ready => Stretch::Ready,
            seat if seat < self.connected => Stretch::Busy,
            _ => Stretch::Away,
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.order.swap(a, b);
        self.seats[self.order[a]] = a;
        self.seats[self.order[b]] = b;
    }

    /// Moves a member by swapping it over the borders on its way.
    fn move_to(&mut self, place: usize, to: Stretch) {
        let Some(&seat) = self.seats.get(place) else {
            return;
        };
        let from = self.stretch_of(seat);
        if from == to {
            return;
        }
        let mut seat = seat;
        if from == Stretch::Away {
            self.swap(seat, self.connected);
            seat = self.connected;
            self.connected += 1;
        }
        if from == Stretch::Ready {
            self.ready -= 1;
            self.swap(seat, self.ready);
            seat = self.ready;
        } else if to == Stretch::Ready {
            self.swap(seat, self.ready);
            self.ready += 1;
        }
        if to == Stretch::Away {
            self.connected -= 1;
            self.swap(seat, self.connected);
        }
    }

    /// Chooses a member for one event. `windowed`: the event needs a place in its receiver's
    /// window.
    pub fn pick(
        &mut self,
        strategy: ShareStrategy,
        reach: Reach,
        windowed: bool,
        random: &mut impl Rng,
        standing: &mut impl FnMut(usize) -> Standing,
    ) -> Picked {
        let mut search = Search {
            strategy,
            windowed,
            standing,
            picked: Picked::default(),
            full: None,
        };
        let first = if windowed {
            Stretch::Ready
        } else {
            Stretch::Busy
        };
        let mut place = self.choose(0, first, random, &mut search);
        if place.is_none() && windowed && reach >= Reach::Connected {
            place = self.choose(self.ready, Stretch::Busy, random, &mut search);
        }
        if place.is_none() && reach >= Reach::Room {
            place = self.choose(self.connected, Stretch::Away, random, &mut search);
        }
        if reach == Reach::Overflow {
            place = place.or(search.full);
        }
        Picked {
            place,
            ..search.picked
        }
    }

    /// The end of a stretch that begins somewhere before.
    fn end_of(&self, stretch: Stretch) -> usize {
        match stretch {
            Stretch::Ready => self.ready,
            Stretch::Busy => self.connected,
            Stretch::Away => self.order.len(),
        }
    }

    /// Chooses among the seats from `begin` to the end of `stretch`.
    fn choose<S: FnMut(usize) -> Standing>(
        &mut self,
        begin: usize,
        stretch: Stretch,
        random: &mut impl Rng,
        search: &mut Search<'_, S>,
    ) -> Option<usize> {
        let len = self.end_of(stretch).checked_sub(begin)?;
        if len == 0 {
            return None;
        }
        match search.strategy {
            ShareStrategy::RoundRobin => {
                let (place, _) = self.find(begin, self.turn, stretch, search)?;
                self.turn = self.seats[place] + 1;
                Some(place)
            }
            ShareStrategy::Random => {
                let from = draw(random, begin..begin + len);
                self.find(begin, from, stretch, search)
                    .map(|(place, _)| place)
            }
            ShareStrategy::Sticky => {
                let seat = self.stuck.and_then(|place| self.seats.get(place).copied());
                let from = seat.unwrap_or_else(|| draw(random, begin..begin + len));
                let (place, _) = self.find(begin, from, stretch, search)?;
                // Whom only this event is kept from sticks for the others.
                let stays = self.stuck.and_then(|place| self.seats.get(place).copied());
                if !stays.is_some_and(|seat| (begin..self.end_of(stretch)).contains(&seat)) {
                    self.stuck = Some(place);
                }
                Some(place)
            }
            ShareStrategy::LeastLoaded => {
                let from = draw(random, begin..begin + len);
                let (one, load) = self.find(begin, from, stretch, search)?;
                // Whoever was passed over has moved, so the stretch may be shorter.
                let (seat, end) = (self.seats[one], self.end_of(stretch));
                if end - begin < 2 {
                    return Some(one);
                }
                let steps = draw(random, 1..end - begin);
                let from = begin + (seat.saturating_sub(begin) + steps) % (end - begin);
                let other = self.find(begin, from, stretch, search);
                Some(match other {
                    Some((other, less)) if less < load => other,
                    _ => one,
                })
            }
        }
    }

    /// The first member, from seat `from` on and round again, that takes the event as the members
    /// of `stretch` do or better; with its load.
    fn find<S: FnMut(usize) -> Standing>(
        &mut self,
        begin: usize,
        from: usize,
        stretch: Stretch,
        search: &mut Search<'_, S>,
    ) -> Option<(usize, usize)> {
        let (mut seat, mut full) = (from, 0);
        let mut left = self.end_of(stretch).saturating_sub(begin);
        while left > 0 {
            left -= 1;
            if !(begin..self.end_of(stretch)).contains(&seat) {
                seat = begin;
            }
            let place = *self.order.get(seat)?;
            let standing = (search.standing)(place);
            search.picked.matched |= standing != Standing::Barred;
            let parks = match standing {
                Standing::Ready(load) => {
                    if search.windowed {
                        self.move_to(place, Stretch::Ready);
                    }
                    return Some((place, load));
                }
                Standing::Busy(load) if stretch != Stretch::Ready => return Some((place, load)),
                Standing::Away(load) if stretch == Stretch::Away => return Some((place, load)),
                Standing::Busy(_) => Some(Stretch::Busy),
                Standing::Away(_) | Standing::Absent if stretch != Stretch::Away => {
                    Some(Stretch::Away)
                }
                // Without connection nobody takes an event that does not wait.
                Standing::Absent if !search.windowed => return None,
                Standing::Full => {
                    search.full = search.full.or(Some(place));
                    full += 1;
                    if full == FULL_SEEN {
                        return None;
                    }
                    None
                }
                Standing::Barred | Standing::Away(_) | Standing::Absent => None,
            };
            if let Some(to) = parks {
                // Somebody else sits there now, and another round finds whoever was moved past.
                self.move_to(place, to);
                search.picked.parked.push(place);
                left = self.end_of(stretch).saturating_sub(begin);
            } else {
                seat += 1;
            }
        }
        None
    }
}

fn draw(random: &mut impl Rng, range: Range<usize>) -> usize {
    let len = (range.end - range.start).max(1) as u64;
    // The remainder of a division by a small number is as good as even.
    range.start + usize::try_from(random.next_u64() % len).unwrap_or(0)
}

#[cfg(test)]
mod tests;
