//! Walking the keys that a pattern matches without looking at all the others.
//!
//! Keys are sorted by their text. A key that does not match tells where the next one that may match
//! can be at the earliest, so a walk leaps over whole subtrees. Leaps rest on two facts: all texts
//! between two that begin alike begin so too, and the levels below `a` are exactly the texts from
//! `a/` up to `a0`, because `0` follows `/` in the order of bytes.

use super::{Entry, Kv, State};
use crate::model::{Level, Pattern, Topic, must_be_named};
use std::ops::Bound;

/// What a leap counts for in looks: finding a place in the map costs more than going on.
const LOOKS_PER_LEAP: usize = 4;

/// What a visitor wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The next matching value.
    Next,
    /// To stop behind this value.
    Stop,
    /// To stop in front of it, so that it is visited again.
    StopBefore,
}

/// How far a walk came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Nothing matching is left.
    ToTheEnd,
    /// Up to and with this key, which need not match; `None`: before the first.
    UpTo(Option<Topic>),
}

/// What a key says about the place of the next match.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Matches,
    /// It may be the very next key.
    Next,
    /// It is not in front of this text.
    From(String),
    /// There is none.
    None,
}

impl Kv {
    /// Shows the kept values that `pattern` matches to `visit` in the order of their keys, beginning
    /// after `after`, and looks at no more than about `looks` keys, which it counts down.
    /// `reserved` is the realm's own first level.
    pub fn walk(
        &self,
        pattern: &Pattern,
        reserved: &str,
        after: Option<&Topic>,
        looks: &mut usize,
        visit: &mut dyn FnMut(&Topic, &Entry) -> Visit,
    ) -> Walked {
        let first = pattern.literal_prefix();
        let start = match after {
            Some(after) => Bound::Excluded(after.text()),
            None => Bound::Included(first.as_str()),
        };
        let mut keys = self.states.range::<str, _>((start, Bound::Unbounded));
        let mut behind = after;
        let mut target: Option<String> = None;
        while *looks > 0 {
            let Some((topic, state)) = keys.next() else {
                return Walked::ToTheEnd;
            };
            *looks -= 1;
            if let Some(text) = target.take_if(|text| topic.text() < text.as_str()) {
                // Going on by one was not enough.
                behind = Some(topic);
                *looks = looks.saturating_sub(LOOKS_PER_LEAP - 1);
                let from = Bound::Included(text.as_str());
                keys = self.states.range::<str, _>((from, Bound::Unbounded));
                continue;
            }
            target = None;
            match look(pattern, topic, reserved) {
                Look::Next => {}
                Look::From(text) => target = Some(text),
                Look::None => return Walked::ToTheEnd,
                Look::Matches => {
                    let wanted = match state {
                        State::Kept(entry) => visit(topic, entry),
                        State::Deleted { .. } => Visit::Next,
                    };
                    match wanted {
                        Visit::Next => {}
                        Visit::Stop => return Walked::UpTo(Some(topic.clone())),
                        Visit::StopBefore => return Walked::UpTo(behind.cloned()),
                    }
                }
            }
            behind = Some(topic);
        }
        Walked::UpTo(behind.cloned())
    }
}

fn look(pattern: &Pattern, topic: &Topic, reserved: &str) -> Look {
    let text = topic.text();
    match pattern {
        Pattern::Exact(exact) if exact == topic => Look::Matches,
        Pattern::Exact(exact) if text < exact.text() => Look::From(exact.text().to_owned()),
        Pattern::Exact(_) => Look::None,
        Pattern::Prefix(prefix) if !text.starts_with(&**prefix) => {
            if text < &**prefix {
                Look::From(prefix.to_string())
            } else {
                Look::None
            }
        }
        Pattern::Prefix(_) if pattern.matches(topic, reserved) => Look::Matches,
        Pattern::Prefix(_) => behind_named(text, reserved),
        Pattern::Levels(levels) => {
            let by_name = matches!(levels.first(), Some(Level::Exact(_)));
            if !by_name && must_be_named(text, reserved) {
                behind_named(text, reserved)
            } else {
                look_at_levels(levels, text)
            }
        }
    }
}

/// Behind all topics that must be named as this one must.
fn behind_named(text: &str, reserved: &str) -> Look {
    if text.starts_with('$') {
        // `%` follows `$`.
        Look::From("%".to_owned())
    } else if text.len() > reserved.len() {
        Look::From(format!("{reserved}0"))
    } else {
        Look::Next
    }
}

fn look_at_levels(levels: &[Level], text: &str) -> Look {
    let mut next = Some(0);
    // Where the last level that a wildcard took ends.
    let mut wild = None;
    let mut before: Option<&Level> = None;
    for (at, level) in levels.iter().enumerate() {
        if matches!(level, Level::Rest) {
            return Look::Matches;
        }
        let Some(start) = next else {
            return match before {
                // What lies between is no level of its own: `a-b` between `a` and `a/b`.
                Some(Level::Exact(_)) => Look::From(format!("{text}/")),
                _ => Look::Next,
            };
        };
        let (head, tail) = text.split_at(start);
        let length = memchr::memchr(b'/', tail.as_bytes());
        let here = tail.get(..length.unwrap_or(tail.len())).unwrap_or(tail);
        match level {
            Level::Exact(wanted) if here == &**wanted => {}
            Level::Exact(wanted) if tail < &**wanted => {
                return Look::From(format!("{head}{wanted}"));
            }
            Level::Exact(wanted) => {
                let below = format!("{wanted}/");
                if at + 1 < levels.len() && tail < below.as_str() {
                    return Look::From(format!("{head}{below}"));
                }
                return behind_wild(text, wild);
            }
            Level::One | Level::Rest => wild = length.map(|length| start + length).or(wild),
        }
        before = Some(level);
        next = length.map(|length| start + length + 1);
    }
    match next {
        None => Look::Matches,
        Some(_) => behind_wild(text, wild),
    }
}

/// Nothing more matches while the last wildcard stands for the level it stands for now.
fn behind_wild(text: &str, end: Option<usize>) -> Look {
    match end.and_then(|end| text.get(..end)) {
        Some(head) => Look::From(format!("{head}0")),
        None => Look::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Former;
    use crate::model::{Event, Made, Payload, PublicationId, Qos};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn kv(keys: impl IntoIterator<Item = Topic>, deleted: impl Fn(usize) -> bool) -> Kv {
        let mut kv = Kv::new(1_000);
        let former = |(n, topic): (usize, Topic)| {
            let event = Arc::new(Event {
                publication: PublicationId(1),
                topic: topic.clone(),
                payload: Payload::bytes("x".into(), false),
                publisher: None,
                qos: Qos::AtMostOnce,
                retain: true,
                clears: false,
                token: None,
                expires_at_ms: None,
                attributes: None,
                admission: None,
                made: Made::default(),
            });
            let entry = Entry {
                event,
                commit: 0,
                will: None,
                is_hold: false,
            };
            Former {
                topic,
                entry: (!deleted(n)).then_some(entry),
                token: 1,
            }
        };
        kv.restore(keys.into_iter().enumerate().map(former).collect());
        kv
    }

    /// All matches, in walks of `looks` each, and how many walks that took.
    fn walk_all(kv: &Kv, pattern: &Pattern, looks: usize) -> (Vec<String>, usize) {
        let (mut found, mut walks) = (Vec::new(), 0);
        let mut cursor = None;
        loop {
            let mut left = looks;
            let walked = kv.walk(pattern, "sys", cursor.as_ref(), &mut left, &mut |t, _| {
                found.push(t.text().to_owned());
                Visit::Next
            });
            walks += 1;
            match walked {
                Walked::ToTheEnd => return (found, walks),
                Walked::UpTo(reached) => {
                    assert!(reached > cursor, "no way forward from {cursor:?}");
                    cursor = reached;
                }
            }
        }
    }

    fn level() -> impl Strategy<Value = String> {
        // The neighbours of `/` and `0` in the order of bytes are where leaps go wrong.
        prop_oneof![
            4 => prop::sample::select(vec!["a", "b", "", "a-", "a.b", "a0", "ab", "a\0b"]),
            1 => prop::sample::select(vec!["$s", "$", "%", "sys", "sys0", "sys-", "sy", "é"]),
        ]
        .prop_map(str::to_owned)
    }

    fn topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec(level(), 1..5)
            .prop_filter_map("legal", |levels| Topic::new(levels.join("/")).ok())
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let part = prop_oneof![
            2 => level().prop_map(|l| Level::Exact(l.into())),
            2 => Just(Level::One),
        ];
        let levels = (prop::collection::vec(part, 0..5), any::<bool>()).prop_filter_map(
            "legal",
            |(mut levels, rest)| {
                if rest {
                    levels.push(Level::Rest);
                }
                Pattern::from_levels(levels).ok()
            },
        );
        let prefix = (prop::collection::vec(level(), 0..3), any::<bool>())
            .prop_filter_map("legal", |(levels, open)| {
                Pattern::prefix(levels.join("/") + if open { "/" } else { "" }).ok()
            });
        prop_oneof![4 => levels, 1 => prefix]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn finds_what_a_scan_of_all_keys_finds(
            topics in prop::collection::btree_set(topic().prop_map(|t| t.text().to_owned()), 0..60),
            pattern in pattern(),
            looks in 1_usize..30,
            every in 2_usize..9,
        ) {
            let keys = topics.iter().map(|t| Topic::new(t.clone()).unwrap());
            let kv = kv(keys.clone(), |n| n % every == 0);
            let expected: Vec<String> = keys
                .enumerate()
                .filter(|(n, topic)| n % every != 0 && pattern.matches(topic, "sys"))
                .map(|(_, topic)| topic.text().to_owned())
                .collect();
            prop_assert_eq!(walk_all(&kv, &pattern, looks).0, expected);
        }
    }

    /// How many looks finding everything takes.
    fn looks_for(kv: &Kv, pattern: &str) -> (usize, usize) {
        let pattern = Pattern::from_slashes(pattern).unwrap();
        let (mut looks, mut found) = (usize::MAX, 0);
        let walked = kv.walk(&pattern, "sys", None, &mut looks, &mut |_, _| {
            found += 1;
            Visit::Next
        });
        assert_eq!(walked, Walked::ToTheEnd);
        (found, usize::MAX - looks)
    }

    #[test]
    fn subtrees_that_cannot_match_cost_a_leap() {
        let mut keys = BTreeSet::new();
        for a in 0..20 {
            for b in 0..100 {
                for c in ["", "/x", "/y"] {
                    keys.insert(format!("site{a}/dev{b}{c}"));
                    keys.insert(format!("$own/{a}/{b}{c}"));
                }
            }
        }
        let kv = kv(keys.into_iter().map(|key| Topic::new(key).unwrap()), |_| {
            false
        });
        // (pattern, matches, the most looks)
        let cases = [
            ("site7/dev7/y", 1, 2),
            ("site7/dev7/#", 3, 10),
            ("+/dev55/y", 20, 20 * 16),
            ("+/none/y", 0, 20 * 16),
            ("+", 0, 20 * 8),
            ("+/none/+", 0, 20 * 16),
            ("site3/+/y", 100, 3 * 100 + 10),
            ("none/#", 0, 1),
            ("#", 6_000, 6_010),
        ];
        for (pattern, matches, most) in cases {
            let (found, looks) = looks_for(&kv, pattern);
            assert_eq!(found, matches, "{pattern}");
            assert!(looks <= most, "{pattern}: {looks} looks");
        }
    }

    #[test]
    fn a_visitor_stops_behind_or_in_front_of_a_value() {
        let topics = ["a", "b", "c"].map(|t| Topic::new(t).unwrap());
        let kv = kv(topics.clone(), |_| false);
        let all = Pattern::from_slashes("#").unwrap();
        let walk = |after: Option<&Topic>, wanted: Visit| {
            let mut seen = Vec::new();
            let walked = kv.walk(&all, "sys", after, &mut 100, &mut |topic, _| {
                seen.push(topic.clone());
                if topic.text() == "b" {
                    wanted
                } else {
                    Visit::Next
                }
            });
            (walked, seen.len())
        };
        let [a, b, _] = &topics;
        assert_eq!(walk(None, Visit::Stop), (Walked::UpTo(Some(b.clone())), 2));
        let before = (Walked::UpTo(Some(a.clone())), 2);
        assert_eq!(walk(None, Visit::StopBefore), before);
        let before = (Walked::UpTo(Some(a.clone())), 1);
        assert_eq!(walk(Some(a), Visit::StopBefore), before);
        assert_eq!(walk(Some(b), Visit::Stop), (Walked::ToTheEnd, 1));
    }
}
