//! Which topics a pattern matches and which of several answers a call, read off dotted text: the way
//! clients write it, and no way the realm ever sees it.

use router_core::model::MatchKind;

/// Whether a pattern written with dots matches: an empty component of a wildcard stands for any one,
/// `*` of levels too, and a final `#` for any number.
pub fn matches(kind: MatchKind, text: &str, topic: &str) -> bool {
    // Nobody gets a topic that begins with `$` without saying so.
    let is_named = !topic.starts_with('$') || text.starts_with('$');
    let (wanted, given) = (split(text), split(topic));
    is_named
        && match kind {
            MatchKind::Exact => text == topic,
            MatchKind::Prefix => topic.starts_with(text),
            MatchKind::Wildcard => {
                wanted.len() == given.len() && begins(&wanted, &given, |part| part.is_empty())
            }
            MatchKind::Levels => match wanted.split_last() {
                Some((&"#", start)) => {
                    start.len() <= given.len() && begins(start, &given, |part| part == "*")
                }
                _ => wanted.len() == given.len() && begins(&wanted, &given, |part| part == "*"),
            },
        }
}

fn split(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

fn begins(wanted: &[&str], given: &[&str], is_any: impl Fn(&str) -> bool) -> bool {
    let mut pairs = wanted.iter().zip(given);
    pairs.all(|(wanted, given)| is_any(wanted) || wanted == given)
}

/// How much a matching pattern says about `procedure`; the greatest answers. First the procedure
/// itself, then the longest prefix of whole components, then the pattern that is literal for longer,
/// last the longest prefix that ends inside a component.
pub fn rank(kind: MatchKind, text: &str, procedure: &str) -> (u8, usize, String) {
    match kind {
        MatchKind::Exact => (3, 0, String::new()),
        MatchKind::Prefix => {
            let rest = &procedure[text.len()..];
            let is_whole =
                text.is_empty() || text.ends_with('.') || rest.is_empty() || rest.starts_with('.');
            (if is_whole { 2 } else { 0 }, text.len(), String::new())
        }
        MatchKind::Wildcard | MatchKind::Levels => {
            let weight = |part: &&str| match *part {
                "#" => 'a',
                "*" | "" => 'b',
                _ => 'c',
            };
            // A pattern that ends says more than one that goes on with anything.
            let weights = split(text).iter().map(weight).chain(['d']).collect();
            (1, 0, weights)
        }
    }
}
