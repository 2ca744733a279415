//! Which of several patterns answers a call, if no registration names the procedure itself.
//!
//! First the longest prefix that ends between two levels of the procedure. Then level patterns: of
//! two, the one with the longer run of literal levels before its first wildcard, then with the
//! longer run before the next, and so on; for patterns that match the same procedure that is the
//! same as: at the first level where they differ, the literal one. Last the longest prefix that
//! ends inside a level: it says less about the procedure than it seems to.

use super::RegistrationKey;
use crate::model::{Level, MatchKind, Pattern, Topic};
use std::cmp::Ordering;

/// Compares two registrations that match `procedure`; the greater one answers. Equal are only those
/// of the same set in two notations.
pub fn compare(a: &RegistrationKey, b: &RegistrationKey, procedure: &Topic) -> Ordering {
    let by_class = class(a, procedure).cmp(&class(b, procedure));
    by_class.then_with(|| match (&a.pattern, &b.pattern) {
        (Pattern::Prefix(a), Pattern::Prefix(b)) => a.len().cmp(&b.len()),
        (Pattern::Levels(a), Pattern::Levels(b)) => compare_levels(a, b),
        // Asked for as a pattern, but without a wildcard.
        (Pattern::Exact(_), Pattern::Levels(_)) => Ordering::Greater,
        (Pattern::Levels(_), Pattern::Exact(_)) => Ordering::Less,
        _ => Ordering::Equal,
    })
}

fn class(key: &RegistrationKey, procedure: &Topic) -> u8 {
    match &key.pattern {
        Pattern::Prefix(prefix) if ends_a_level(prefix, procedure) => 2,
        Pattern::Prefix(_) => 0,
        Pattern::Exact(_) if key.kind == MatchKind::Exact => 3,
        Pattern::Exact(_) | Pattern::Levels(_) => 1,
    }
}

fn ends_a_level(prefix: &str, procedure: &Topic) -> bool {
    let rest = procedure.text().get(prefix.len()..).unwrap_or_default();
    prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
}

fn compare_levels(a: &[Level], b: &[Level]) -> Ordering {
    let weight = |level: Option<&Level>| match level {
        Some(Level::Rest) => 0,
        Some(Level::One) => 1,
        Some(Level::Exact(_)) => 2,
        // It ends where the other goes on with the rest, of which there is none.
        None => 3,
    };
    let differing = (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| order.is_ne());
    differing.unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::super::Registrations;
    use super::*;
    use crate::model::InvokePolicy;
    use proptest::prelude::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text.to_owned()).unwrap()
    }

    /// In dotted text, as clients write them; an empty component is a wildcard.
    fn key((kind, text): &(MatchKind, String)) -> Option<RegistrationKey> {
        let slashes = text.replace('.', "/");
        let level = |level: &str| match level {
            "" => Level::One,
            text => Level::Exact(text.into()),
        };
        let pattern = match kind {
            MatchKind::Prefix => Pattern::prefix(slashes).ok()?,
            MatchKind::Wildcard => {
                Pattern::from_levels(slashes.split('/').map(level).collect()).ok()?
            }
            _ => Pattern::Exact(Topic::new(slashes).ok()?),
        };
        Some(RegistrationKey {
            pattern,
            kind: *kind,
        })
    }

    fn all(of: &[(MatchKind, String)]) -> Registrations {
        let mut all = Registrations::new("sys".into());
        for key in of.iter().filter_map(key) {
            if all.find(&key).is_none() {
                all.create(&key, InvokePolicy::Single, 0);
            }
        }
        all
    }

    fn answered(all: &Registrations, procedure: &str) -> Option<RegistrationKey> {
        let place = all.best(&topic(&procedure.replace('.', "/")))?;
        all.at(place).map(|registration| registration.key.clone())
    }

    #[test]
    fn the_vectors_of_the_profile() {
        use MatchKind::{Exact, Prefix, Wildcard};
        let own = |list: &[(MatchKind, &str)]| -> Vec<(MatchKind, String)> {
            list.iter().map(|(k, t)| (*k, (*t).to_owned())).collect()
        };
        let all = all(&own(&[
            (Exact, "a1.b2.c3.d4.e55"),
            (Prefix, "a1.b2.c3"),
            (Prefix, "a1.b2.c3.d4"),
            (Wildcard, "a1.b2..d4.e5"),
            (Wildcard, "a1.b2.c33..e5"),
            (Wildcard, "a1.b2..d4.e5..g7"),
            (Wildcard, "a1.b2..d4..f6.g7"),
        ]));
        for (called, expected) in [
            ("a1.b2.c3.d4.e55", Some((Exact, "a1.b2.c3.d4.e55"))),
            ("a1.b2.c3.d98.e74", Some((Prefix, "a1.b2.c3"))),
            ("a1.b2.c3.d4.e325", Some((Prefix, "a1.b2.c3.d4"))),
            ("a1.b2.c55.d4.e5", Some((Wildcard, "a1.b2..d4.e5"))),
            ("a1.b2.c33.d4.e5", Some((Wildcard, "a1.b2.c33..e5"))),
            (
                "a1.b2.c88.d4.e5.f6.g7",
                Some((Wildcard, "a1.b2..d4.e5..g7")),
            ),
            ("a2.b2.c2.d2.e2", None),
        ] {
            let expected = expected.and_then(|(kind, text)| key(&(kind, text.to_owned())));
            assert_eq!(answered(&all, called), expected, "{called}");
        }
    }

    #[test]
    fn of_one_set_in_two_notations_the_older_registration_answers() {
        let of = |kind, text: &str| RegistrationKey {
            pattern: Pattern::from_slashes(text).unwrap(),
            kind,
        };
        for text in ["a/+", "a/b"] {
            let kinds = [MatchKind::Wildcard, MatchKind::Levels];
            for [older, newer] in [kinds, [kinds[1], kinds[0]]] {
                let mut all = Registrations::new("sys".into());
                // A place that was given back is no sign of age.
                let gap = all.create(&of(MatchKind::Exact, "gap"), InvokePolicy::Single, 9);
                let first = all.create(&of(older, text), InvokePolicy::Single, 9);
                all.remove(gap);
                all.create(&of(newer, text), InvokePolicy::Single, 0);
                assert_eq!(all.best(&topic("a/b")), Some(first), "{text} {older:?}");
            }
        }
    }

    #[test]
    fn a_prefix_may_end_inside_a_level_but_then_comes_last() {
        let own = |list: &[(MatchKind, &str)]| -> Vec<(MatchKind, String)> {
            list.iter().map(|(k, t)| (*k, (*t).to_owned())).collect()
        };
        let prefix = (MatchKind::Prefix, "com.app");
        let wildcard = (MatchKind::Wildcard, "..run");
        let all = all(&own(&[prefix, wildcard]));
        for (called, expected) in [
            ("com.app", prefix),
            ("com.app.run", prefix),
            ("com.application", prefix),
            ("com.application.run", wildcard),
            ("com.application.stop", prefix),
        ] {
            let expected = key(&(expected.0, expected.1.to_owned()));
            assert_eq!(answered(&all, called), expected, "{called}");
        }
    }

    /// The rules as the profile words them: runs of literal components, compared one by one.
    fn oracle(list: &[(MatchKind, String)], called: &str) -> Option<(MatchKind, String)> {
        let exact = (MatchKind::Exact, called.to_owned());
        if list.contains(&exact) {
            return Some(exact);
        }
        let prefixes = list.iter().filter(|(kind, _)| *kind == MatchKind::Prefix);
        let fitting: Vec<_> = prefixes
            .filter(|(_, text)| called.starts_with(text.as_str()))
            .collect();
        let is_whole = |text: &str| {
            let next = &called[text.len()..];
            text.is_empty() || text.ends_with('.') || next.is_empty() || next.starts_with('.')
        };
        let longest = |whole: bool| {
            let of_kind = fitting.iter().filter(|(_, text)| is_whole(text) == whole);
            of_kind.max_by_key(|(_, text)| text.len()).copied().cloned()
        };
        if let Some(best) = longest(true) {
            return Some(best);
        }
        let components: Vec<&str> = called.split('.').collect();
        let fits = |text: &str| {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == components.len()
                && parts
                    .iter()
                    .zip(&components)
                    .all(|(p, c)| p.is_empty() || p == c)
        };
        let runs = |text: &str| -> Vec<usize> {
            let parts: Vec<&str> = text.split('.').collect();
            parts
                .split(|part| part.is_empty())
                .map(<[_]>::len)
                .collect()
        };
        let wildcards = list.iter().filter(|(kind, _)| *kind == MatchKind::Wildcard);
        let fitting = wildcards.filter(|(_, text)| fits(text));
        let best = fitting.max_by_key(|(_, text)| runs(text)).cloned();
        best.or_else(|| longest(false))
    }

    fn component() -> impl Strategy<Value = &'static str> {
        prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("ab")]
    }

    fn dotted() -> impl Strategy<Value = String> {
        prop::collection::vec(component(), 1..6).prop_map(|parts| parts.join("."))
    }

    fn offered() -> impl Strategy<Value = (MatchKind, String)> {
        let wildcard = prop::collection::vec(prop_oneof![component(), Just("")], 1..6)
            .prop_map(|parts| (MatchKind::Wildcard, parts.join(".")));
        let prefix = (dotted(), 0..4_usize).prop_map(|(text, cut)| {
            let end = text.len().saturating_sub(cut);
            (MatchKind::Prefix, text[..end].to_owned())
        });
        prop_oneof![
            1 => dotted().prop_map(|text| (MatchKind::Exact, text)),
            2 => prefix,
            4 => wildcard,
        ]
    }

    proptest! {
        #[test]
        fn the_best_registration_is_the_one_a_plain_reading_finds(
            offered in prop::collection::vec(offered(), 0..40),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            called in prop::collection::vec(dotted(), 1..20),
        ) {
            let mut offered = offered;
            let mut all = all(&offered);
            for pick in removed {
                if !offered.is_empty() {
                    let gone = offered.swap_remove(pick.index(offered.len()));
                    offered.retain(|other| *other != gone);
                    let place = key(&gone).and_then(|key| all.find(&key));
                    prop_assert!(place.and_then(|place| all.remove(place)).is_some());
                }
            }
            for called in called {
                let expected = oracle(&offered, &called).and_then(|found| key(&found));
                prop_assert_eq!(answered(&all, &called), expected, "{}", called);
            }
        }
    }
}
