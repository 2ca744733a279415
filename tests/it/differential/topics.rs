//! The few topics of random sessions, and the filters that match them.

use rand::RngExt as _;
use rand::rngs::StdRng;

const LEVELS: [&str; 4] = ["a", "b", "$s", ""];

/// A Topic Name of one to three levels. `plain`: it does not begin with `$` or an empty level.
pub fn topic(dice: &mut StdRng, plain: bool) -> String {
    loop {
        let count = dice.random_range(1..4);
        let levels: Vec<&str> = (0..count).map(|at| level(dice, plain && at == 0)).collect();
        let topic = levels.join("/");
        if !topic.is_empty() {
            return topic;
        }
    }
}

/// A Topic Filter of one to three levels.
pub fn filter(dice: &mut StdRng, plain: bool) -> String {
    loop {
        let mut levels = Vec::new();
        for at in 0..dice.random_range(1..4) {
            let wild = dice.random_ratio(3, 10);
            levels.push(if wild {
                "+"
            } else {
                level(dice, plain && at == 0)
            });
        }
        if dice.random_ratio(1, 4) {
            levels.pop();
            levels.push("#");
        }
        let filter = levels.join("/");
        if !filter.is_empty() {
            return filter;
        }
    }
}

fn level(dice: &mut StdRng, plain: bool) -> &'static str {
    let levels = if plain { &LEVELS[..2] } else { &LEVELS[..] };
    levels[dice.random_range(0..levels.len())]
}

/// Whether some topic matches both filters; `$` aside, which only makes it cautious. A shared
/// subscription is a subscription of its own and overlaps with none.
pub fn overlap(one: &str, other: &str) -> bool {
    if one.starts_with("$share/") || other.starts_with("$share/") {
        return false;
    }
    let (one, other): (Vec<&str>, Vec<&str>) =
        (one.split('/').collect(), other.split('/').collect());
    let mut at = 0;
    loop {
        match (one.get(at), other.get(at)) {
            (Some(&"#"), _) | (_, Some(&"#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || *a == "+" || *b == "+" => at += 1,
            _ => return false,
        }
    }
}

#[test]
fn filters_overlap_if_a_topic_matches_both() -> crate::Outcome {
    let both = [
        ("a/+", "+/b"),
        ("#", "a"),
        ("a/#", "a"),
        ("a/#", "a/b/c"),
        ("+", "$s"),
    ];
    for (one, other) in both {
        anyhow::ensure!(overlap(one, other) && overlap(other, one), "{one} {other}");
    }
    for (one, other) in [("a", "b"), ("a/+", "a"), ("+/b", "+/a"), ("a/#", "b/#")] {
        anyhow::ensure!(
            !overlap(one, other) && !overlap(other, one),
            "{one} {other}"
        );
    }
    Ok(())
}
