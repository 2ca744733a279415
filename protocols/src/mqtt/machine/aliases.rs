//! Topic Aliases towards the client (5.0 section 3.3.2.3.4): topics that repeat are sent once.
//!
//! As long as there are unused aliases a topic gets one at once. When all are given, a newcomer at
//! its second sighting looks at one of them, in turn: it takes one that was not used since it was
//! looked at last, and goes without otherwise. So topics that come once displace nothing, what is
//! used often keeps its alias however many topics pass by, what fell silent gives it up, and no
//! step takes longer with a larger table.
//!
//! An alias counts as known to the client only when its PUBLISH was written. Nothing is allocated
//! before the first topic that could have an alias; then at most [`LONGEST_TOPIC`] bytes and a
//! few words for each.

use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::num::NonZeroU16;

/// Shorter topics save too little: an alias costs three bytes itself.
const SHORTEST_TOPIC: usize = 6;
/// Longer topics would cost too much memory.
const LONGEST_TOPIC: usize = 1_024;
/// Pairs of places for first sightings, for each alias and at least.
const SIGHTINGS: usize = 2;
const LEAST_SIGHTINGS: usize = 32;

/// How the topic of a PUBLISH may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// In full.
    None,
    /// By an alias that the client knows.
    Known(NonZeroU16),
    /// In full, with an alias for the next time: see [`OutgoingAliases::sent`].
    New(NonZeroU16),
}

/// The aliases of one connection.
#[derive(Debug, Default)]
pub(super) struct OutgoingAliases {
    maximum: u16,
    table: Option<Box<Table>>,
}

#[derive(Debug)]
struct Table {
    /// Not seeded: whoever makes topics collide makes them go without aliases, no more.
    hasher: FixedState,
    /// hash of a topic -> its place
    places: HashMap<u64, u16, FixedState>,
    /// By alias, from 1.
    topics: Vec<Entry>,
    /// Hashes seen once, in pairs of places by their low bits, the later one first; 0: none.
    seen: Box<[[u32; 2]]>,
    /// The place the next newcomer looks at.
    hand: u16,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    topic: Box<str>,
    used: bool,
}

impl OutgoingAliases {
    /// At most `maximum` aliases.
    pub(super) const fn new(maximum: u16) -> Self {
        Self {
            maximum,
            table: None,
        }
    }

    /// How to send a PUBLISH to `topic`.
    pub(super) fn are_off(&self) -> bool {
        self.maximum == 0
    }

    pub(super) fn of(&mut self, topic: &str) -> Alias {
        if self.maximum == 0 || !(SHORTEST_TOPIC..=LONGEST_TOPIC).contains(&topic.len()) {
            return Alias::None;
        }
        let maximum = self.maximum;
        let table = self.table.get_or_insert_with(|| Table::new(maximum));
        table.of(topic, maximum)
    }

    /// A PUBLISH to `topic` with this new alias was written: from now on the client knows it.
    pub(super) fn sent(&mut self, topic: &str, alias: NonZeroU16) {
        if let Some(table) = &mut self.table {
            table.put(topic, alias);
        }
    }
}

impl Table {
    fn new(maximum: u16) -> Box<Table> {
        let pairs = (usize::from(maximum) * SIGHTINGS).max(LEAST_SIGHTINGS);
        Box::new(Table {
            hasher: FixedState::default(),
            places: HashMap::default(),
            topics: Vec::new(),
            seen: vec![[0; 2]; pairs.next_power_of_two()].into(),
            hand: 0,
        })
    }

    fn of(&mut self, topic: &str, maximum: u16) -> Alias {
        let hash = self.hasher.hash_one(topic);
        if let Some(&place) = self.places.get(&hash) {
            return match self.topics.get_mut(usize::from(place)) {
                Some(entry) if *entry.topic == *topic => {
                    entry.used = true;
                    alias(place).map_or(Alias::None, Alias::Known)
                }
                // Two topics with one hash: the second goes without.
                _ => Alias::None,
            };
        }
        let given = u16::try_from(self.topics.len()).unwrap_or(u16::MAX);
        let place = if given < maximum {
            Some(given)
        } else if self.was_seen(hash) {
            self.free_place()
        } else {
            None
        };
        place.and_then(alias).map_or(Alias::None, Alias::New)
    }

    /// Whether this hash was seen, and notes it if not.
    fn was_seen(&mut self, hash: u64) -> bool {
        let (low, high) = (hash as u32, (hash >> 32) as u32 | 1);
        let at = low as usize & (self.seen.len() - 1);
        let Some(pair) = self.seen.get_mut(at) else {
            return false;
        };
        if pair.contains(&high) {
            return true;
        }
        *pair = [high, pair[0]];
        false
    }

    /// The place under the hand, if it was not used since the hand was there last.
    fn free_place(&mut self) -> Option<u16> {
        let place = self.hand;
        self.hand = (place + 1) % u16::try_from(self.topics.len()).ok()?.max(1);
        let entry = self.topics.get_mut(usize::from(place))?;
        (!std::mem::take(&mut entry.used)).then_some(place)
    }

    fn put(&mut self, topic: &str, alias: NonZeroU16) {
        let entry = Entry {
            hash: self.hasher.hash_one(topic),
            topic: topic.into(),
            // Its next use may come later than many newcomers.
            used: true,
        };
        let place = alias.get() - 1;
        self.places.insert(entry.hash, place);
        match self.topics.get_mut(usize::from(place)) {
            Some(former) => {
                self.places.remove(&former.hash);
                *former = entry;
            }
            None => self.topics.push(entry),
        }
    }
}

const fn alias(place: u16) -> Option<NonZeroU16> {
    match place.checked_add(1) {
        Some(alias) => NonZeroU16::new(alias),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends a PUBLISH to `topic`.
    fn send(aliases: &mut OutgoingAliases, topic: &str) -> Alias {
        let alias = aliases.of(topic);
        if let Alias::New(alias) = alias {
            aliases.sent(topic, alias);
        }
        alias
    }

    fn number(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).expect("not zero")
    }

    #[test]
    fn a_topic_gets_an_alias_that_is_unused_or_at_its_second_sighting_another_s() {
        let mut aliases = OutgoingAliases::new(2);
        for (topic, expected) in [
            ("topic/1", Alias::New(number(1))),
            ("topic/1", Alias::Known(number(1))),
            ("topic/2", Alias::New(number(2))),
            ("topic/1", Alias::Known(number(1))),
            ("topic/2", Alias::Known(number(2))),
            ("topic/3", Alias::None),
            // Both were used; the hand has passed both when it is back at the first.
            ("topic/3", Alias::None),
            ("topic/3", Alias::None),
            ("topic/3", Alias::New(number(1))),
            ("topic/1", Alias::None),
        ] {
            assert_eq!(send(&mut aliases, topic), expected, "{topic}");
        }
    }

    #[test]
    fn an_alias_that_was_not_sent_is_not_known() {
        let mut aliases = OutgoingAliases::new(2);
        for _ in 0..3 {
            assert_eq!(aliases.of("topic/1"), Alias::New(number(1)));
        }
    }

    #[test]
    fn without_aliases_or_worthwhile_topics_nothing_is_kept() {
        let mut aliases = OutgoingAliases::new(0);
        for _ in 0..3 {
            assert_eq!(send(&mut aliases, "topic/1"), Alias::None);
        }
        assert!(aliases.table.is_none());
        let mut aliases = OutgoingAliases::new(2);
        let long = "x".repeat(LONGEST_TOPIC + 1);
        for topic in ["short", &long, "short", &long, "short"] {
            assert_eq!(send(&mut aliases, topic), Alias::None);
        }
        assert!(aliases.table.is_none());
    }

    #[test]
    fn what_is_used_keeps_its_alias_and_what_fell_silent_gives_it_up() {
        let mut aliases = OutgoingAliases::new(2);
        for topic in ["busy/1", "silent/1"] {
            send(&mut aliases, topic);
            send(&mut aliases, topic);
        }
        let mut newcomers = Vec::new();
        for round in 0..40 {
            assert_eq!(send(&mut aliases, "busy/1"), Alias::Known(number(1)));
            newcomers.push(send(&mut aliases, &format!("newcomer/{}", round / 4)));
        }
        assert!(newcomers.contains(&Alias::New(number(2))));
        assert!(!newcomers.contains(&Alias::New(number(1))));
        assert!(!matches!(send(&mut aliases, "silent/1"), Alias::Known(_)));
    }

    #[test]
    fn more_topics_than_aliases_in_turn_still_find_some_known() {
        let mut aliases = OutgoingAliases::new(64);
        let mut known = 0;
        for round in 0..50 {
            for topic in 0..100 {
                let sent = send(&mut aliases, &format!("sensor/{topic}"));
                known += usize::from(round >= 10 && matches!(sent, Alias::Known(_)));
            }
        }
        assert!(known >= 40 * 60, "{known}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The receiver's table, which is all that 3.3.2.3.4 says, resolves whatever is sent.
        #[test]
        fn the_receiver_finds_the_topic(
            maximum in 1u16..5,
            steps in proptest::collection::vec((0u8..9, any::<bool>()), 0..200),
        ) {
            let mut aliases = OutgoingAliases::new(maximum);
            let mut receiver: HashMap<NonZeroU16, String> = HashMap::new();
            for (topic, is_written) in steps {
                let topic = format!("topic/{topic}");
                match aliases.of(&topic) {
                    Alias::None => {}
                    Alias::Known(alias) => prop_assert_eq!(receiver.get(&alias), Some(&topic)),
                    Alias::New(alias) => {
                        prop_assert!(alias.get() <= maximum);
                        if is_written {
                            aliases.sent(&topic, alias);
                            receiver.insert(alias, topic);
                        }
                    }
                }
            }
            let table = aliases.table.as_ref();
            prop_assert!(table.is_none_or(|table| table.topics.len() <= usize::from(maximum)
                && table.places.len() == table.topics.len()));
        }
    }
}
