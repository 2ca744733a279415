//! Roles and their rules: deny wins, then allow, otherwise refused. A role without rules may do
//! everything. Patterns in rules are [`Pattern`]s, so either notation of the configuration ends in
//! the same typed levels and a wildcard in one protocol never becomes a letter in another.

use crate::model::{Pattern, Topic};
use bytestring::ByteString;

/// What a rule speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to a topic.
    Publish,
    /// Receive a topic.
    Subscribe,
    /// Call a procedure.
    Call,
    /// Offer a procedure.
    Register,
}

/// One line of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks about.
    pub action: Action,
    /// Which topics.
    pub pattern: Pattern,
}

/// Whether those who receive events and calls learn whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disclosure {
    /// Where the publisher or caller asks for it.
    #[default]
    Allow,
    /// Never; asking for it is refused.
    Deny,
    /// Always, asked for or not.
    Always,
}

impl Disclosure {
    /// Whether to tell, for somebody who asks for it or not; `None` where asking is refused.
    #[must_use]
    pub fn decide(self, asked: bool) -> Option<bool> {
        match self {
            Disclosure::Allow => Some(asked),
            Disclosure::Deny => (!asked).then_some(false),
            Disclosure::Always => Some(true),
        }
    }
}

/// A named set of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: ByteString,
    /// Whether its sessions are named to others.
    pub disclosure: Disclosure,
    rules: Option<Rules>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Role {
    /// A role that may do everything.
    #[must_use]
    pub fn unrestricted(name: impl Into<ByteString>) -> Role {
        Role {
            name: name.into(),
            disclosure: Disclosure::default(),
            rules: None,
        }
    }

    /// A role that may do what `allow` says and `deny` does not.
    #[must_use]
    pub fn restricted(name: impl Into<ByteString>, allow: Vec<Rule>, deny: Vec<Rule>) -> Role {
        Role {
            name: name.into(),
            disclosure: Disclosure::default(),
            rules: Some(Rules { allow, deny }),
        }
    }

    /// The same role, whose sessions are named to others as said.
    #[must_use]
    pub fn disclosing(mut self, disclosure: Disclosure) -> Role {
        self.disclosure = disclosure;
        self
    }

    /// Whether every action on every topic is allowed, so that nothing need be checked.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether `action` on the concrete `topic` is allowed.
    ///
    /// The realm's own topics, under `reserved`, count as covered by a wildcard here: they are kept
    /// from wildcard subscriptions by the matcher, and nobody may publish or register there at all.
    #[must_use]
    pub fn permits(&self, action: Action, topic: &Topic) -> bool {
        let Some(rules) = &self.rules else {
            return true;
        };
        let hit = |list: &[Rule]| {
            list.iter()
                .any(|rule| rule.action == action && rule.pattern.matches(topic, NO_LEVEL))
        };
        !hit(&rules.deny) && hit(&rules.allow)
    }

    /// Whether a subscription to `pattern` is allowed: a rule must allow all of it, and none deny
    /// all of it. What is denied inside a wider pattern is withheld at each delivery.
    #[must_use]
    pub fn permits_pattern(&self, action: Action, pattern: &Pattern) -> bool {
        let Some(rules) = &self.rules else {
            return true;
        };
        let hit = |list: &[Rule]| {
            list.iter()
                .any(|rule| rule.action == action && rule.pattern.covers(pattern, NO_LEVEL))
        };
        !hit(&rules.deny) && hit(&rules.allow)
    }
}

/// No level can hold U+0001 followed by U+0000 from any gate, so this names no reserved level.
const NO_LEVEL: &str = "\u{1}\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, pattern: &str) -> Rule {
        Rule {
            action,
            pattern: Pattern::from_slashes(pattern).unwrap(),
        }
    }

    fn topic(text: &str) -> Topic {
        Topic::new(text.to_owned()).unwrap()
    }

    fn role() -> Role {
        Role::restricted(
            "user",
            vec![
                rule(Action::Subscribe, "#"),
                rule(Action::Publish, "app/+/in"),
            ],
            vec![
                rule(Action::Subscribe, "secret/#"),
                rule(Action::Publish, "app/x/in"),
            ],
        )
    }

    #[test]
    fn deny_wins_then_allow_then_refused() {
        let role = role();
        assert!(role.permits(Action::Publish, &topic("app/y/in")));
        assert!(!role.permits(Action::Publish, &topic("app/x/in")));
        assert!(!role.permits(Action::Publish, &topic("other")));
        assert!(!role.permits(Action::Call, &topic("app/y/in")));
    }

    #[test]
    fn a_wider_subscription_is_allowed_and_filtered_at_delivery() {
        let role = role();
        let pattern = |text: &str| Pattern::from_slashes(text).unwrap();
        assert!(role.permits_pattern(Action::Subscribe, &pattern("#")));
        assert!(!role.permits_pattern(Action::Subscribe, &pattern("secret/+")));
        assert!(!role.permits(Action::Subscribe, &topic("secret/a")));
        assert!(!role.permits_pattern(Action::Subscribe, &pattern("$SYS/#")));
    }

    #[test]
    fn who_may_not_disclose_is_refused_only_if_it_asks() {
        let told = |disclosure: Disclosure| [false, true].map(|asked| disclosure.decide(asked));
        assert_eq!(told(Disclosure::Allow), [Some(false), Some(true)]);
        assert_eq!(told(Disclosure::Deny), [Some(false), None]);
        assert_eq!(told(Disclosure::Always), [Some(true), Some(true)]);
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        let role = Role::unrestricted("anonymous");
        assert!(role.permits(Action::Register, &topic("$x")));
        assert!(role.permits_pattern(Action::Subscribe, &Pattern::from_slashes("#").unwrap()));
    }
}
