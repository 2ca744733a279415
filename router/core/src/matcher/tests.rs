use super::oracle;
use super::{Found, Index};
use crate::model::{Level, Pattern, Topic};
use proptest::prelude::*;

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just(String::new()),
        Just("ab".to_owned()),
        Just("é".to_owned()),
        Just("+".to_owned()),
        Just("$s".to_owned()),
        Just("sys".to_owned()),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let part = prop_oneof![
        4 => level().prop_map(|l| Level::Exact(l.into())),
        2 => Just(Level::One),
    ];
    let levels = (prop::collection::vec(part, 1..5), any::<bool>()).prop_filter_map(
        "legal",
        |(mut levels, rest)| {
            if rest {
                levels.push(Level::Rest);
            }
            Pattern::from_levels(levels).ok()
        },
    );
    let prefix = (prop::collection::vec(level(), 0..3), any::<bool>()).prop_filter_map(
        "legal",
        |(levels, open)| {
            let text = levels.join("/") + if open { "/" } else { "" };
            Pattern::prefix(text).ok()
        },
    );
    prop_oneof![3 => levels, 1 => prefix]
}

fn topic() -> impl Strategy<Value = Topic> {
    prop::collection::vec(level(), 1..6)
        .prop_filter_map("legal", |levels| Topic::new(levels.join("/")).ok())
}

proptest! {
    #[test]
    fn finds_what_a_linear_scan_finds(
        patterns in prop::collection::vec(pattern(), 0..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        topics in prop::collection::vec(topic(), 1..20),
    ) {
        let mut index = Index::new("sys".into());
        let mut all: Vec<(u32, Pattern)> =
            (0..).zip(patterns).collect();
        for (id, pattern) in &all {
            index.insert(pattern, *id);
        }
        for pick in removed {
            if !all.is_empty() {
                let (id, pattern) = all.swap_remove(pick.index(all.len()));
                prop_assert!(index.remove(&pattern, id));
                prop_assert!(!index.remove(&pattern, id));
            }
        }
        for topic in topics {
            let mut found = Found::new();
            index.find(&topic, &mut found);
            found.sort_unstable();
            prop_assert_eq!(found.to_vec(), oracle::scan(&all, &topic), "topic {:?}", topic);
        }
    }

    #[test]
    fn finds_the_same_while_patterns_come_and_go(
        steps in prop::collection::vec((0u32..12, pattern(), topic()), 1..40),
    ) {
        let mut index = Index::new("sys".into());
        let mut all: Vec<(u32, Pattern)> = Vec::new();
        for (id, pattern, topic) in steps {
            match all.iter().position(|(known, _)| *known == id) {
                Some(place) => {
                    let (_, pattern) = all.swap_remove(place);
                    prop_assert!(index.remove(&pattern, id));
                }
                None => {
                    index.insert(&pattern, id);
                    all.push((id, pattern));
                }
            }
            let mut found = Found::new();
            index.find(&topic, &mut found);
            found.sort_unstable();
            prop_assert_eq!(found.to_vec(), oracle::scan(&all, &topic), "topic {:?}", topic);
        }
    }

    #[test]
    fn tells_what_is_under_a_very_pattern(
        patterns in prop::collection::vec(pattern(), 0..40), asked in pattern(),
    ) {
        let mut index = Index::new("sys".into());
        for (id, pattern) in (0u32..).zip(&patterns) {
            index.insert(pattern, id);
        }
        for asked in patterns.iter().chain([&asked]) {
            let mut found = Found::new();
            index.under(asked, &mut found);
            let same = (0u32..).zip(&patterns).filter(|(_, pattern)| *pattern == asked);
            prop_assert_eq!(found.to_vec(), Vec::from_iter(same.map(|(id, _)| id)));
        }
    }

    #[test]
    fn finds_exact_ones_first_then_prefixes_by_length_then_wildcards(
        patterns in prop::collection::hash_set(pattern(), 0..40),
        topics in prop::collection::vec(topic(), 1..20),
    ) {
        let mut index = Index::new("sys".into());
        let patterns = Vec::from_iter(patterns);
        for (id, pattern) in (0u32..).zip(&patterns) {
            index.insert(pattern, id);
        }
        for topic in topics {
            let mut found = Found::new();
            index.find(&topic, &mut found);
            let ranks = Vec::from_iter(found.iter().map(|id| match &patterns[*id as usize] {
                Pattern::Exact(_) => (0, 0),
                Pattern::Prefix(prefix) => (1, prefix.len()),
                Pattern::Levels(_) => (2, 0),
            }));
            prop_assert!(ranks.is_sorted(), "topic {:?}: {:?}", topic, ranks);
        }
    }

    #[test]
    fn an_emptied_index_keeps_nothing(patterns in prop::collection::vec(pattern(), 0..30)) {
        let mut index = Index::new("sys".into());
        for (id, pattern) in (0u32..).zip(&patterns) {
            index.insert(pattern, id);
        }
        for (id, pattern) in (0u32..).zip(&patterns) {
            prop_assert!(index.remove(pattern, id));
        }
        prop_assert!(index.is_blank());
    }

    #[test]
    fn a_covering_pattern_matches_whatever_the_covered_one_matches(
        a in pattern(), b in pattern(), topics in prop::collection::vec(topic(), 1..30),
    ) {
        if a.covers(&b, "sys") {
            for topic in topics {
                prop_assert!(!b.matches(&topic, "sys") || a.matches(&topic, "sys"),
                    "{:?} covers {:?} but not at {:?}", a, b, topic);
            }
        }
    }
}
