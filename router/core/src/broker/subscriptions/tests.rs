use super::*;
use crate::model::Qos;
use serde_json::json;

fn key(
    pattern: &str,
    kind: MatchKind,
    filter: Option<&Filter>,
    share: Option<&str>,
) -> SubscriptionKey {
    SubscriptionKey {
        pattern: Pattern::from_slashes(pattern).expect("a pattern"),
        kind,
        filter: filter.map(Filter::canonical).unwrap_or_default().into(),
        share: share.map(Arc::from),
    }
}

fn member(session: usize) -> Member {
    Member {
        session,
        options: MemberOptions {
            qos: Qos::AtMostOnce,
            ..MemberOptions::default()
        },
        pace: Pace::Live,
    }
}

fn all() -> Subscriptions {
    Subscriptions::new("sys".into())
}

#[test]
fn what_is_held_under_a_pattern_is_found_in_any_notation_and_without_a_condition_first() {
    let mut all = all();
    let filter = Filter::new(json!({"a": 1}));
    let keys = [
        (
            key("a/+", MatchKind::Levels, Some(&filter), None),
            Some(&filter),
        ),
        (key("a/+", MatchKind::Levels, None, None), None),
        (key("a/+", MatchKind::Wildcard, None, None), None),
        (key("a/+", MatchKind::Levels, None, Some("g")), None),
    ];
    let ids = keys.map(|(key, filter)| all.join(&key, filter, member(1), true, 0, |_| None).id);
    let [with_condition, levels, wildcard, shared] = ids;
    let pattern = Pattern::from_slashes("a/+").expect("a pattern");
    let held = |held: &[SubscriptionId], share| all.held(&pattern, share, |id| held.contains(&id));
    assert_eq!(held(&[with_condition, levels, shared], None), Some(levels));
    assert_eq!(held(&[with_condition, wildcard], None), Some(wildcard));
    assert_eq!(held(&[with_condition, shared], None), Some(with_condition));
    assert_eq!(held(&ids, Some("g")), Some(shared));
    assert_eq!(held(&[shared], None), None);
    assert_eq!(held(&ids, Some("h")), None);
}

#[test]
fn a_subscription_whose_last_member_left_is_found_no_more() {
    let mut all = all();
    let keys = ["a", "a/#", "+/b"].map(|pattern| key(pattern, MatchKind::Levels, None, None));
    let joined = keys
        .clone()
        .map(|key| all.join(&key, None, member(1), true, 0, |_| None));
    let second = all.join(&keys[1], None, member(2), true, 0, |_| None);
    assert_eq!(
        (second.id, second.place, second.created),
        (joined[1].id, 1, false)
    );
    assert_eq!(
        all.leave(joined[1].id, 0),
        Some(2),
        "the other moved to its place"
    );
    for joined in joined {
        assert_eq!(all.leave(joined.id, 0), None);
    }
    let topic = Topic::new("a").expect("a topic");
    assert!(all.is_empty() && all.matching(&topic).is_empty());
    assert!(keys.iter().all(|key| all.id_of(key).is_none()));
    assert!(all.by_key.is_empty() && all.by_id.is_empty());
}

#[test]
fn a_subscription_with_one_member_takes_no_more_than_two_cache_lines() {
    assert!(
        size_of::<Subscription>() <= 128,
        "{}",
        size_of::<Subscription>()
    );
}
