//! Compiles the realms of the configuration into what the core checks.

use crate::config::{self, Action as ConfigAction, Config, Notation};
use bytes::Bytes;
use bytestring::ByteString;
use protocols::wamp::uris;
use router_core::auth::{Access, Action, Role, Rule, Secret, User};
use router_core::history::{HistoryRule, HistorySettings, Retention};
use router_core::model::{Level, Pattern};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// A rule that no topic can match.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("realm {realm:?}, {part}: the pattern {pattern:?} is not valid: {why}")]
pub struct RuleError {
    realm: String,
    /// The role or the history.
    part: String,
    pattern: String,
    why: String,
}

/// Users and roles of every configured realm.
///
/// # Errors
/// When a rule's pattern breaks a limit that the configuration's own checks do not know.
pub fn compile(config: &Config) -> Result<HashMap<ByteString, Arc<Access>>, RuleError> {
    let mut realms = HashMap::new();
    for realm in &config.realms {
        let mut access = Access {
            anonymous: realm.anonymous_role().map(ByteString::from),
            disclosure: realm.disclose,
            ..Access::default()
        };
        for user in &realm.users {
            access
                .users
                .insert(ByteString::from(user.authid.as_str()), compile_user(user));
        }
        for role in &realm.roles {
            let rules = |rules: &[config::Rule]| {
                rules
                    .iter()
                    .map(compile_rule)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|(pattern, why)| RuleError {
                        realm: realm.name.clone(),
                        part: format!("role {:?}", role.name),
                        pattern,
                        why,
                    })
            };
            let compiled =
                Role::restricted(role.name.as_str(), rules(&role.allow)?, rules(&role.deny)?)
                    .disclosing(role.disclose.unwrap_or(realm.disclose));
            access
                .roles
                .insert(ByteString::from(role.name.as_str()), Arc::new(compiled));
        }
        realms.insert(ByteString::from(realm.name.as_str()), Arc::new(access));
    }
    Ok(realms)
}

fn compile_user(user: &config::User) -> User {
    let secret = match &user.secret {
        config::Secret::Plain(text) => Secret::Plain(Bytes::from(text.clone())),
        config::Secret::Argon2(hash) => Secret::Argon2(hash.clone()),
    };
    User {
        role: ByteString::from(user.role.as_str()),
        secret,
    }
}

fn compile_rule(rule: &config::Rule) -> Result<Rule, (String, String)> {
    let action = match rule.action {
        ConfigAction::Publish => Action::Publish,
        ConfigAction::Subscribe => Action::Subscribe,
        ConfigAction::Call => Action::Call,
        ConfigAction::Register => Action::Register,
    };
    let pattern = compile_pattern(&rule.pattern)?;
    Ok(Rule { action, pattern })
}

/// The pattern, or its text and what is wrong with it.
fn compile_pattern(text: &str) -> Result<Pattern, (String, String)> {
    let pattern = match config::notation(text) {
        Notation::Slash => Pattern::from_slashes(text).map_err(|error| error.to_string()),
        Notation::Dotted => dotted(text),
    };
    pattern.map_err(|why| (text.to_owned(), why))
}

/// What every configured realm remembers.
///
/// # Errors
/// As for [`compile`].
pub fn history(config: &Config) -> Result<HashMap<ByteString, HistorySettings>, RuleError> {
    let mut realms = HashMap::new();
    for realm in &config.realms {
        let mut rules = Vec::new();
        for kept in &realm.history {
            let pattern = compile_pattern(&kept.topic).map_err(|(pattern, why)| RuleError {
                realm: realm.name.clone(),
                part: "history".to_owned(),
                pattern,
                why,
            })?;
            let keep = retention(kept.kept);
            rules.push(HistoryRule { pattern, keep });
        }
        let traced = Some(retention(realm.trace));
        let settings = HistorySettings { traced, rules };
        realms.insert(ByteString::from(realm.name.as_str()), settings);
    }
    Ok(realms)
}

fn retention(kept: config::Remembered) -> Retention {
    let age = Duration::from_secs(kept.max_age_secs.into());
    Retention {
        events: usize::try_from(kept.keep).unwrap_or(usize::MAX),
        bytes: usize::try_from(kept.max_bytes).unwrap_or(usize::MAX),
        age: Some(age).filter(|age| !age.is_zero()),
        durable: kept.durable,
    }
}

fn dotted(pattern: &str) -> Result<Pattern, String> {
    let parts = uris::fox_parts(pattern).map_err(|error| error.to_string())?;
    let levels = parts
        .iter()
        .map(|part| match part {
            uris::Part::Level(text) => Level::Exact((&**text).into()),
            uris::Part::One => Level::One,
            uris::Part::Rest => Level::Rest,
        })
        .collect();
    Pattern::from_levels(levels).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use router_core::auth::Disclosure;
    use router_core::model::Topic;
    use std::path::Path;

    fn access(toml: &str) -> Access {
        let config = Config::from_toml(Path::new("test.toml"), toml).unwrap();
        let realms = compile(&config).unwrap();
        Access::clone(&realms[&ByteString::from_static("realm1")])
    }

    #[test]
    fn both_notations_compile_to_the_same_rights() {
        let access = access(
            "[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"r\"\n\
             allow = [\"publish app.*.in\", \"publish sensors/+/t\", \"subscribe #\"]\n\
             deny = [\"subscribe app.secret.#\"]\n",
        );
        let role = access.role("r");
        let may =
            |action, topic: &str| role.permits(action, &Topic::new(topic.to_owned()).unwrap());
        assert!(may(Action::Publish, "app/x/in") && may(Action::Publish, "sensors/1/t"));
        assert!(!may(Action::Publish, "app/x/y/in") && !may(Action::Publish, "app"));
        assert!(may(Action::Subscribe, "app/open") && !may(Action::Subscribe, "app/secret"));
    }

    #[test]
    fn a_role_discloses_as_it_says_and_else_as_its_realm() {
        let access = access(
            "[[realm]]\nname = \"realm1\"\ndisclose = \"deny\"\n\
             [[realm.role]]\nname = \"r\"\nallow = []\n\
             [[realm.role]]\nname = \"s\"\nallow = []\ndisclose = \"always\"\n",
        );
        let disclosure = |role| access.role(role).disclosure;
        assert_eq!(disclosure("r"), Disclosure::Deny);
        assert_eq!(disclosure("s"), Disclosure::Always);
        assert_eq!(disclosure("without a table"), Disclosure::Deny);
        assert_eq!(Access::open().role("any").disclosure, Disclosure::Allow);
    }

    #[test]
    fn what_a_realm_remembers_is_read_in_both_notations() {
        let toml = "[[realm]]\nname = \"realm1\"\n\
                    [[realm.history]]\ntopic = \"app.*.log\"\nlimit = 7\n\
                    [[realm.history]]\ntopic = \"x/+/log\"\n\
                    [realm.trace]\nkeep = 5\nmax_age_secs = 60\nmax_bytes = 4096\ndurable = false\n";
        let config = Config::from_toml(Path::new("test.toml"), toml).unwrap();
        let settings = &history(&config).unwrap()[&ByteString::from_static("realm1")];
        let keep = |events| Retention {
            events,
            bytes: 64 << 20,
            age: None,
            durable: true,
        };
        let rule = |pattern: &str, events| HistoryRule {
            pattern: Pattern::from_slashes(pattern).unwrap(),
            keep: keep(events),
        };
        assert_eq!(
            settings.rules,
            [rule("app/+/log", 7), rule("x/+/log", 1_000)]
        );
        let traced = Retention {
            events: 5,
            bytes: 4_096,
            age: Some(Duration::from_secs(60)),
            durable: false,
        };
        assert_eq!(settings.traced, Some(traced));
    }

    #[test]
    fn a_realm_with_users_and_no_anonymous_table_wants_credentials() {
        let with_users = access(
            "[[realm]]\nname = \"realm1\"\n[[realm.user]]\nauthid = \"joe\"\nrole = \"user\"\n\
             secret = \"joe-secret\"\n",
        );
        assert!(with_users.anonymous.is_none() && with_users.users.contains_key("joe"));
        assert!(with_users.role("user").is_unrestricted());
        let without = access("[[realm]]\nname = \"realm1\"\n");
        assert_eq!(without.anonymous.as_deref(), Some("anonymous"));
    }
}
