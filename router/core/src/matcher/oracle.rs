//! The plainest possible answer, written from the rules rather than from the index: it turns both
//! sides into lists of levels and tries every way.

use crate::model::{Level, Pattern, Topic};

/// Every id whose pattern matches, sorted.
pub fn scan(patterns: &[(u32, Pattern)], topic: &Topic) -> Vec<u32> {
    let mut ids: Vec<u32> = patterns
        .iter()
        .filter(|(_, p)| matches(p, topic))
        .map(|(id, _)| *id)
        .collect();
    ids.sort_unstable();
    ids
}

fn matches(pattern: &Pattern, topic: &Topic) -> bool {
    let levels: Vec<&str> = topic.text().split('/').collect();
    let special = levels[0].starts_with('$') || levels[0] == "sys";
    match pattern {
        Pattern::Exact(exact) => exact.text() == topic.text(),
        Pattern::Levels(list) => {
            let wild = !matches!(list[0], Level::Exact(_));
            !(wild && special) && walk(list, &levels)
        }
        Pattern::Prefix(prefix) => {
            let named = match levels[0] {
                "sys" => &**prefix == "sys" || prefix.starts_with("sys/"),
                dollar if dollar.starts_with('$') => !prefix.is_empty(),
                _ => true,
            };
            named && topic.text().starts_with(&**prefix)
        }
    }
}

fn walk(pattern: &[Level], topic: &[&str]) -> bool {
    match (pattern.first(), topic.first()) {
        (None, None) | (Some(Level::Rest), _) => true,
        (Some(Level::One), Some(_)) => walk(&pattern[1..], &topic[1..]),
        (Some(Level::Exact(text)), Some(level)) => {
            **text == **level && walk(&pattern[1..], &topic[1..])
        }
        _ => false,
    }
}
