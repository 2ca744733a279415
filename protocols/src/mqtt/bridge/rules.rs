//! What crosses the bridge, and under which name.
//!
//! A rule names topics `T` by a filter. On this side they are `local_prefix` + `T`, at the peer
//! `remote_prefix` + `T`. Several rules may match one message: it crosses once under each distinct
//! name, with the best QoS of the rules that give it this name.
//!
//! Invariants: every filter that [`Rules`] holds is legal on its side; a name it answers is a
//! legal Topic Name; one message gets at most [`Rules::copies_out`] or [`Rules::copies_in`] names.

use crate::mqtt::codec::{validate_filter, validate_topic_name};
use crate::mqtt::map;
use crate::mqtt::packet::QoS;
use bytestring::ByteString;
use router_core::model::{Pattern, Topic};
use smallvec::SmallVec;

/// Levels of a topic on either side.
const MAX_LEVELS: usize = 200;
/// The most rules of one bridge.
pub const MAX_RULES: usize = 64;

/// Which way a rule lets messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the peer to this router.
    In,
    /// From this router to the peer.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}

/// One rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Topic Filter without the prefixes; may be empty if both prefixes are complete topics.
    pub filter: String,
    /// The best QoS it asks for.
    pub qos: QoS,
    /// What stands before the topic on this side.
    pub local_prefix: String,
    /// What stands before the topic at the peer.
    pub remote_prefix: String,
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// `$share/…`.
    #[error("a bridge cannot share a subscription")]
    Shared,
    /// The prefix holds `+`, `#` or U+0000.
    #[error("a prefix is text without `+` and `#`")]
    Prefix,
    /// `local_prefix` and `filter` together.
    #[error("the local prefix and the filter together are no topic filter: {0}")]
    Local(&'static str),
    /// `remote_prefix` and `filter` together.
    #[error("the remote prefix and the filter together are no topic filter: {0}")]
    Remote(&'static str),
}

/// Names of one message on the other side, with their QoS.
pub(super) type Names = SmallVec<[(ByteString, QoS); 1]>;

/// One direction of a rule, ready to match.
#[derive(Debug, Clone)]
struct Way {
    /// Of the topics on the side where messages come from.
    pattern: Pattern,
    /// The same as text.
    filter: ByteString,
    qos: QoS,
    strip: ByteString,
    prepend: ByteString,
    /// Which of the distinct filters it is.
    group: u32,
}

/// The rules of a bridge.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    outs: Vec<Way>,
    ins: Vec<Way>,
    copies_out: usize,
    copies_in: usize,
}

impl Rules {
    /// Checks every rule.
    ///
    /// # Errors
    /// The place of the first rule that cannot be used, and why. Rules beyond [`MAX_RULES`] must
    /// have been refused before.
    pub fn new(rules: &[Rule]) -> Result<Self, (usize, RuleError)> {
        let mut made = Self::default();
        for (place, rule) in rules.iter().take(MAX_RULES).enumerate() {
            made.add(rule).map_err(|error| (place, error))?;
        }
        made.copies_out = most_overlaps(&made.outs);
        made.copies_in = most_overlaps(&made.ins);
        Ok(made)
    }

    fn add(&mut self, rule: &Rule) -> Result<(), RuleError> {
        for prefix in [&rule.local_prefix, &rule.remote_prefix] {
            if prefix.contains(['+', '#', '\0']) {
                return Err(RuleError::Prefix);
            }
        }
        let (local, local_pattern) = filter(&rule.local_prefix, &rule.filter, RuleError::Local)?;
        let (remote, remote_pattern) =
            filter(&rule.remote_prefix, &rule.filter, RuleError::Remote)?;
        let local_prefix = ByteString::from(rule.local_prefix.as_str());
        let remote_prefix = ByteString::from(rule.remote_prefix.as_str());
        if rule.direction.is_out() {
            push(
                &mut self.outs,
                Way {
                    pattern: local_pattern,
                    filter: local,
                    qos: rule.qos,
                    strip: local_prefix.clone(),
                    prepend: remote_prefix.clone(),
                    group: 0,
                },
            );
        }
        if rule.direction.is_in() {
            push(
                &mut self.ins,
                Way {
                    pattern: remote_pattern,
                    filter: remote,
                    qos: rule.qos,
                    strip: remote_prefix,
                    prepend: local_prefix,
                    group: 0,
                },
            );
        }
        Ok(())
    }

    /// The filters to subscribe to on this side, each once.
    #[must_use]
    pub fn local_filters(&self) -> Vec<(ByteString, QoS)> {
        filters(&self.outs)
    }

    /// The filters to subscribe to at the peer, each once; the place of one is its group.
    #[must_use]
    pub fn remote_filters(&self) -> Vec<(ByteString, QoS)> {
        filters(&self.ins)
    }

    /// The most names a message may get at the peer.
    #[must_use]
    pub const fn copies_out(&self) -> usize {
        self.copies_out
    }

    /// The most names a message may get on this side.
    #[must_use]
    pub const fn copies_in(&self) -> usize {
        self.copies_in
    }

    /// The names at the peer of a message that was delivered with this QoS.
    pub(super) fn outgoing(&self, topic: &Topic, qos: QoS) -> Names {
        names(&self.outs, topic, qos, &[])
    }

    /// The names on this side of a message from the peer. `groups` says which filters it matched,
    /// where the peer told.
    pub(super) fn incoming(&self, topic: &Topic, qos: QoS, groups: &[u32]) -> Names {
        names(&self.ins, topic, qos, groups)
    }
}

/// Prefix and filter together, checked.
fn filter(
    prefix: &str,
    filter: &str,
    error: fn(&'static str) -> RuleError,
) -> Result<(ByteString, Pattern), RuleError> {
    let whole = format!("{prefix}{filter}");
    let parts = validate_filter(&whole, MAX_LEVELS).map_err(|bad| error(bad.message))?;
    if parts.share.is_some() || filter.starts_with("$share/") {
        return Err(RuleError::Shared);
    }
    let pattern = Pattern::from_slashes(&whole).map_err(|_| error("it has too many wildcards"))?;
    Ok((whole.into(), pattern))
}

/// Adds a way, in the group of those with the same filter.
fn push(ways: &mut Vec<Way>, mut way: Way) {
    let known = ways.iter().find(|known| known.filter == way.filter);
    let next = ways.iter().map(|way| way.group + 1).max().unwrap_or(0);
    way.group = known.map_or(next, |known| known.group);
    ways.push(way);
}

fn filters(ways: &[Way]) -> Vec<(ByteString, QoS)> {
    let mut found: Vec<(ByteString, QoS)> = Vec::new();
    for way in ways {
        match found.iter_mut().find(|(filter, _)| *filter == way.filter) {
            Some((_, qos)) => *qos = (*qos).max(way.qos),
            None => found.push((way.filter.clone(), way.qos)),
        }
    }
    found
}

fn names(ways: &[Way], topic: &Topic, delivered: QoS, groups: &[u32]) -> Names {
    let mut names = Names::new();
    for way in ways {
        let is_meant = groups.is_empty() || groups.contains(&way.group);
        if !is_meant || !way.pattern.matches(topic, NO_LEVEL) {
            continue;
        }
        let Some(name) = way.rename(topic) else {
            continue;
        };
        let qos = delivered.min(way.qos);
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, best)) => *best = (*best).max(qos),
            None => names.push((name, qos)),
        }
    }
    names
}

impl Way {
    /// The topic on the other side; `None` if there it would be no Topic Name. `a/#` matches `a`
    /// itself, which has no name without the prefix `a/`.
    fn rename(&self, topic: &Topic) -> Option<ByteString> {
        if self.strip == self.prepend {
            return Some(ByteString::from(topic.text()));
        }
        let rest = topic.text().strip_prefix(&*self.strip)?;
        let name = format!("{}{rest}", self.prepend);
        validate_topic_name(&name, MAX_LEVELS).ok()?;
        Some(name.into())
    }
}

/// No topic can hold U+0000 in front of text, so this names no reserved level: what may cross is
/// decided by filters and by the rights of the bridge's role.
const NO_LEVEL: &str = "\0bridge";

/// How many ways may match one topic at most.
fn most_overlaps(ways: &[Way]) -> usize {
    let overlaps = |way: &Way| {
        let others = ways.iter();
        others
            .filter(|other| may_overlap(&way.filter, &other.filter))
            .count()
    };
    ways.iter().map(overlaps).max().unwrap_or(0)
}

/// Whether some topic may match both filters.
fn may_overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            _ => return false,
        }
    }
}

/// A text as a topic of the realm, if it can be one.
pub(super) fn topic(text: ByteString) -> Option<Topic> {
    map::topic(text, MAX_LEVELS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Both, In, Out};
    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

    fn rule(direction: Direction, filter: &str, local: &str, remote: &str) -> Rule {
        Rule {
            direction,
            filter: filter.into(),
            qos: AtLeastOnce,
            local_prefix: local.into(),
            remote_prefix: remote.into(),
        }
    }

    fn sorted(names: Names) -> Vec<(String, QoS)> {
        let mut names: Vec<_> = names
            .into_iter()
            .map(|(name, qos)| (name.to_string(), qos))
            .collect();
        names.sort();
        names
    }

    fn out(rules: &Rules, text: &str) -> Vec<(String, QoS)> {
        let topic = Topic::new(text.to_owned()).expect("a topic");
        sorted(rules.outgoing(&topic, ExactlyOnce))
    }

    fn into(rules: &Rules, text: &str, groups: &[u32]) -> Vec<(String, QoS)> {
        let topic = Topic::new(text.to_owned()).expect("a topic");
        sorted(rules.incoming(&topic, ExactlyOnce, groups))
    }

    #[test]
    fn prefixes_are_exchanged_both_ways() {
        let rules = Rules::new(&[rule(Both, "sensors/#", "site/", "plant/7/")]).expect("legal");
        assert_eq!(rules.local_filters()[0].0, "site/sensors/#");
        assert_eq!(rules.remote_filters()[0].0, "plant/7/sensors/#");
        let name = |text: &str| vec![(text.to_owned(), AtLeastOnce)];
        assert_eq!(out(&rules, "site/sensors/t"), name("plant/7/sensors/t"));
        assert_eq!(out(&rules, "site/sensors"), name("plant/7/sensors"));
        assert_eq!(
            into(&rules, "plant/7/sensors/t", &[]),
            name("site/sensors/t")
        );
        assert_eq!(out(&rules, "other/sensors/t"), []);
        assert_eq!(into(&rules, "site/sensors/t", &[]), []);
    }

    #[test]
    fn a_name_that_would_be_none_is_not_made() {
        let rules = Rules::new(&[rule(Out, "#", "site/", "")]).expect("legal");
        assert_eq!(out(&rules, "site"), [], "nothing is left to strip");
        assert_eq!(out(&rules, "site/"), [], "the empty topic");
        let rules = Rules::new(&[rule(Out, "#", "", &"deep/".repeat(150))]).expect("legal");
        assert_eq!(out(&rules, "a").len(), 1);
        assert_eq!(out(&rules, &["a"; 60].join("/")), [], "too many levels");
        let long = "x".repeat(60_000) + "/";
        let rules = Rules::new(&[rule(Out, "#", "", &long)]).expect("legal");
        assert_eq!(out(&rules, &"y".repeat(6_000)), [], "too many bytes");
    }

    #[test]
    fn a_message_crosses_once_under_each_distinct_name() {
        let mut alarms = rule(Out, "sensors/+", "", "alarms/");
        alarms.qos = ExactlyOnce;
        let mut same = rule(Out, "#", "", "");
        same.qos = AtMostOnce;
        let rules = Rules::new(&[rule(Out, "sensors/#", "", ""), alarms, same]).expect("legal");
        let found = out(&rules, "sensors/t");
        let wanted = [
            ("alarms/sensors/t".to_owned(), ExactlyOnce),
            ("sensors/t".to_owned(), AtLeastOnce),
        ];
        assert_eq!(found, wanted);
        assert_eq!(rules.copies_out(), 3);
        assert_eq!(rules.copies_in(), 0);
    }

    #[test]
    fn groups_tell_which_filters_a_message_matched() {
        let rules =
            Rules::new(&[rule(In, "a/#", "x/", ""), rule(In, "a/+", "y/", "")]).expect("legal");
        let names = |groups: &[u32]| -> Vec<String> {
            into(&rules, "a/b", groups)
                .into_iter()
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(names(&[]), ["x/a/b", "y/a/b"]);
        assert_eq!(names(&[0]), ["x/a/b"]);
        assert_eq!(names(&[1]), ["y/a/b"]);
        assert_eq!(names(&[1, 0]), ["x/a/b", "y/a/b"]);
    }

    #[test]
    fn one_filter_with_two_names_is_one_subscription() {
        let mut second = rule(In, "a/#", "y/", "");
        second.qos = ExactlyOnce;
        let rules = Rules::new(&[rule(In, "a/#", "x/", ""), second]).expect("legal");
        assert_eq!(rules.remote_filters(), [("a/#".into(), ExactlyOnce)]);
        assert_eq!(into(&rules, "a/b", &[0]).len(), 2);
    }

    #[test]
    fn a_single_topic_may_have_two_whole_names() {
        let rules = Rules::new(&[rule(Out, "", "a/b", "c/d")]).expect("legal");
        assert_eq!(out(&rules, "a/b"), [("c/d".to_owned(), AtLeastOnce)]);
        assert_eq!(out(&rules, "a/b/c"), []);
    }

    #[test]
    fn what_cannot_be_a_filter_is_refused() {
        let error = |rule| Rules::new(&[rule]).expect_err("illegal").1;
        assert_eq!(error(rule(In, "$share/g/a", "", "")), RuleError::Shared);
        assert_eq!(error(rule(In, "a", "+/", "")), RuleError::Prefix);
        assert_eq!(error(rule(In, "a", "", "x#")), RuleError::Prefix);
        assert!(matches!(
            error(rule(In, "#", "site", "")),
            RuleError::Local(_)
        ));
        assert!(matches!(
            error(rule(Out, "#", "", "site")),
            RuleError::Remote(_)
        ));
        assert!(matches!(error(rule(Out, "", "", "x")), RuleError::Local(_)));
        assert!(matches!(
            error(rule(Out, "a#", "", "")),
            RuleError::Local(_)
        ));
        let deep = ["+"; 17].join("/");
        assert!(matches!(
            error(rule(Out, &deep, "", "")),
            RuleError::Local(_)
        ));
    }

    #[test]
    fn overlap_is_found_where_a_topic_matches_both() {
        for (a, b, overlap) in [
            ("a/#", "a", true),
            ("a/+", "+/b", true),
            ("a/+", "a/b/c", false),
            ("a/b", "a/c", false),
            ("#", "x/y", true),
            ("a", "a/+", false),
        ] {
            assert_eq!(may_overlap(a, b), overlap, "{a} {b}");
            assert_eq!(may_overlap(b, a), overlap, "{b} {a}");
        }
    }
}
