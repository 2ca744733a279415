//! Reads `[[realm]]` and the tables below it: names, users with their secrets, rules of roles.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use router_core::auth::Disclosure;

use storage::Durability;

use super::problem::{Fault, Place, Placed, Problems};
use super::rule::{Rule, check_pattern};
use super::secret::Secret;
use super::section::{Section, parse_choice};
use super::sources::Sources;
use super::tree::{Anonymous, HistoryTopic, Realm, Remembered, Role, User};

/// The largest secret file; a secret is one line.
const SECRET_FILE_MAX_BYTES: u64 = 4096;

/// The longest pause between two syncs of a realm.
const INTERVAL_MAX_MS: u64 = 60_000;

/// `always`, `interval(MILLISECONDS)` or `none`.
fn parse_durability(text: &str) -> Result<Durability, Fault> {
    let interval = text.strip_prefix("interval(");
    let interval = interval.and_then(|rest| rest.strip_suffix(')'));
    match (text, interval) {
        ("always", _) => Ok(Durability::Always),
        ("none", _) => Ok(Durability::None),
        (_, Some(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let ms = digits.parse().ok();
            let ms = ms.filter(|ms| (1..=INTERVAL_MAX_MS).contains(ms));
            let ms = ms.ok_or_else(|| {
                let hint = format!("1 to {INTERVAL_MAX_MS} milliseconds are possible");
                Fault::new("the interval is out of range", hint)
            })?;
            Ok(Durability::Interval(Duration::from_millis(ms)))
        }
        _ => {
            let hint = "possible: \"always\", \"interval(200)\" in milliseconds, \"none\"";
            Err(Fault::new(format!("`{text}` is no durability"), hint))
        }
    }
}

/// What the readers below share.
pub(super) struct Reader<'r, 'a> {
    /// Directory of the configuration file, where relative `secret_file` paths start.
    pub(super) directory: &'r Path,
    /// Reads secret files.
    pub(super) sources: &'r dyn Sources,
    /// Collects what is wrong.
    pub(super) problems: &'r mut Problems<'a>,
}

impl Reader<'_, '_> {
    /// Every realm of the file.
    pub(super) fn realms(&mut self, top: &Section<'_>) -> Vec<Placed<Realm>> {
        let sections = top.tables("realm", self.problems).unwrap_or_default();
        let mut names = Unique::new("realm");
        let mut realms = Vec::new();
        for section in sections {
            section.reject_unknown(self.problems);
            let name = section.name("name", self.problems);
            let name = name.and_then(|name| self.realm_name(name, &mut names));
            let users = self.users(&section);
            let roles = self.roles(&section);
            let anonymous = self.anonymous(&section);
            let disclose = section.parsed("disclose", parse_choice, self.problems);
            let uri = section.parsed("uri", parse_choice, self.problems);
            let request_ids = section.parsed("request_ids", parse_choice, self.problems);
            let history = self.history(&section);
            let durability = section.parsed("durability", parse_durability, self.problems);
            let trace = self.trace(&section);
            if let Some(Placed { value: name, place }) = name {
                realms.push(Placed::new(
                    Realm {
                        name,
                        users,
                        roles,
                        anonymous,
                        disclose: disclose.map_or(Disclosure::Allow, |disclose| disclose.value),
                        uri: uri.map(|uri| uri.value).unwrap_or_default(),
                        request_ids: request_ids.map(|ids| ids.value).unwrap_or_default(),
                        history,
                        durability: durability
                            .map(|durability| durability.value)
                            .unwrap_or_default(),
                        trace,
                    },
                    place,
                ));
            }
        }
        realms
    }

    fn realm_name(&mut self, name: Placed<&str>, names: &mut Unique) -> Option<Placed<String>> {
        names.note(&name, self.problems);
        match parse_realm_name(name.value) {
            Ok(valid) => Some(Placed::new(valid, name.place)),
            Err(fault) => {
                self.problems.error(&name.place, fault);
                None
            }
        }
    }

    fn users(&mut self, realm: &Section<'_>) -> Vec<User> {
        let mut authids = Unique::new("user");
        let mut users = Vec::new();
        for section in realm
            .tables("realm.user", self.problems)
            .unwrap_or_default()
        {
            section.reject_unknown(self.problems);
            let authid = section.name("authid", self.problems);
            if let Some(authid) = &authid {
                authids.note(authid, self.problems);
            }
            let role = section.name("role", self.problems);
            let secret = self.secret(&section);
            if let (Some(authid), Some(role), Some(secret)) = (authid, role, secret) {
                let (authid, role) = (authid.value.to_owned(), role.value.to_owned());
                users.push(User {
                    authid,
                    role,
                    secret,
                });
            }
        }
        users
    }

    /// The one secret of a user.
    fn secret(&mut self, user: &Section<'_>) -> Option<Secret> {
        let plain = user.text("secret", self.problems);
        let file = user.text("secret_file", self.problems);
        let argon2 = user.text("secret_argon2", self.problems);
        let secret = match (plain, file, argon2) {
            (Some(plain), None, None) => Placed::new(Secret::plain(plain.value), plain.place),
            (None, Some(file), None) => Placed::new(self.secret_file(file.value), file.place),
            (None, None, Some(hash)) => Placed::new(Secret::argon2(hash.value), hash.place),
            (None, None, None) => {
                let keys = ["secret", "secret_file", "secret_argon2"];
                let is_reported =
                    |key: &str| user.place_of(key) != user.place() || user.is_misspelled(key);
                if !keys.into_iter().any(is_reported) {
                    let hint = "add one of `secret`, `secret_file` or `secret_argon2`";
                    self.problems
                        .error(&user.place(), Fault::new("the user has no secret", hint));
                }
                return None;
            }
            (plain, file, hash) => {
                let second = [plain, file, hash].into_iter().flatten().nth(1)?;
                let hint = "keep one of `secret`, `secret_file` and `secret_argon2`";
                let fault = Fault::new("the user has more than one secret", hint);
                self.problems.error(&second.place, fault);
                return None;
            }
        };
        match secret.value {
            Ok(secret_value) => Some(secret_value),
            Err(fault) => {
                self.problems.error(&secret.place, fault);
                None
            }
        }
    }

    pub(super) fn secret_file(&mut self, name: &str) -> Result<Secret, Fault> {
        let path = self.directory.join(name);
        let content = self
            .sources
            .read(&path, SECRET_FILE_MAX_BYTES)
            .map_err(|error| {
                let message = format!("secret file {} cannot be read: {error}", path.display());
                Fault::new(
                    message,
                    "a relative path starts at the directory of this file",
                )
            })?;
        Secret::file(&content)
    }

    fn roles(&mut self, realm: &Section<'_>) -> Vec<Role> {
        let mut names = Unique::new("role");
        let mut roles = Vec::new();
        for section in realm
            .tables("realm.role", self.problems)
            .unwrap_or_default()
        {
            section.reject_unknown(self.problems);
            let name = section.name("name", self.problems);
            let allow = self.rules(&section, "allow");
            let deny = self.rules(&section, "deny");
            let disclose = section.parsed("disclose", parse_choice, self.problems);
            let Some(name) = name else { continue };
            names.note(&name, self.problems);
            if section.place_of("allow") == section.place() {
                let message = format!("role `{}` has no `allow`, so it may do nothing", name.value);
                let hint = "add `allow = [\"publish #\", \"subscribe #\", \"call #\", \"register #\"]`, \
                            or `allow = []` if that is meant";
                self.problems
                    .warning(&section.place(), Fault::new(message, hint));
            }
            roles.push(Role {
                name: name.value.to_owned(),
                allow,
                deny,
                disclose: disclose.map(|disclose| disclose.value),
            });
        }
        roles
    }

    fn rules(&mut self, role: &Section<'_>, key: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        for text in role.texts(key, self.problems) {
            match Rule::parse(text.value) {
                Ok(rule) => rules.push(rule),
                Err(fault) => self.problems.error(&text.place, fault),
            }
        }
        rules
    }

    fn history(&mut self, realm: &Section<'_>) -> Vec<HistoryTopic> {
        let mut topics = Vec::new();
        let sections = realm.tables("realm.history", self.problems);
        for section in sections.unwrap_or_default() {
            section.reject_unknown(self.problems);
            let mut kept = Remembered::OF_TOPIC;
            section.number("limit", &mut kept.keep, self.problems);
            self.remembered(&section, &mut kept);
            let check = |topic: &str| check_pattern(topic).map(|()| topic.to_owned());
            if section.name("topic", self.problems).is_some()
                && let Some(topic) = section.parsed("topic", check, self.problems)
            {
                let topic = topic.value;
                topics.push(HistoryTopic { topic, kept });
            }
        }
        topics
    }

    fn trace(&mut self, realm: &Section<'_>) -> Remembered {
        let mut kept = Remembered::ON_REQUEST;
        if let Some(section) = realm.table("realm.trace", self.problems) {
            section.reject_unknown(self.problems);
            self.remembered(&section, &mut kept);
        }
        kept
    }

    fn remembered(&mut self, section: &Section<'_>, kept: &mut Remembered) {
        section.number("keep", &mut kept.keep, self.problems);
        section.number("max_age_secs", &mut kept.max_age_secs, self.problems);
        section.number("max_bytes", &mut kept.max_bytes, self.problems);
        if let Some(durable) = section.switch("durable", self.problems) {
            kept.durable = durable.value;
        }
    }

    fn anonymous(&mut self, realm: &Section<'_>) -> Option<Anonymous> {
        let section = realm.table("realm.anonymous", self.problems)?;
        section.reject_unknown(self.problems);
        let role = if section.place_of("role") == section.place() {
            Anonymous::ROLE.to_owned()
        } else {
            section.name("role", self.problems)?.value.to_owned()
        };
        Some(Anonymous { role })
    }
}

/// Finds names that are given twice.
struct Unique {
    noun: &'static str,
    /// name -> where it was first
    first: BTreeMap<String, Place>,
}

impl Unique {
    fn new(noun: &'static str) -> Self {
        Self {
            noun,
            first: BTreeMap::new(),
        }
    }

    fn note(&mut self, name: &Placed<&str>, problems: &mut Problems<'_>) {
        let Some(first) = self.first.get(name.value) else {
            self.first.insert(name.value.to_owned(), name.place.clone());
            return;
        };
        let line = problems.line(first).unwrap_or_default();
        let message = format!("{} `{}` is defined twice", self.noun, name.value);
        let hint = format!("the first is in line {line}; merge them or rename one");
        problems.error(&name.place, Fault::new(message, hint));
    }
}

/// Checks a realm name: a loose URI (WAMP section "URIs"), non-empty parts joined by dots, without
/// white space and `#`.
///
/// # Errors
/// A [`Fault`] that says which of these is broken.
pub(super) fn parse_realm_name(name: &str) -> Result<String, Fault> {
    let hint = if name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        "a realm name has no spaces, for example `realm1` or `com.example.shop`"
    } else if name.contains('#') {
        "a realm name has no `#`, for example `realm1` or `com.example.shop`"
    } else if name.split('.').any(str::is_empty) {
        "parts between dots are not empty, for example `realm1` or `com.example.shop`"
    } else {
        return Ok(name.to_owned());
    };
    Err(Fault::new(format!("`{name}` is not a realm name"), hint))
}

#[cfg(test)]
mod tests {
    use super::parse_realm_name;

    #[test]
    fn realm_names_are_loose_uris() {
        for name in ["realm1", "com.example.shop", "Größe", "a-b_c", "a/b+c"] {
            assert_eq!(parse_realm_name(name).ok().as_deref(), Some(name));
        }
        for name in [
            "", ".", "a..b", "a.", ".a", "my realm", "a\tb", "a#", "a\0", "a\u{a0}b",
        ] {
            assert!(parse_realm_name(name).is_err(), "{name:?}");
        }
    }
}
