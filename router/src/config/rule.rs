//! Access rules as they are written: `"ACTION PATTERN"`. Here only the spelling is checked; the
//! core compiles them.
//!
//! A pattern without `/` is in the dotted notation of WAMP: parts joined by `.`, `*` stands for one
//! part, `#` as last part for any rest. A pattern with `/` is in the notation of MQTT: levels
//! joined by `/`, `+` stands for one level, `#` as last level for any rest. The wildcard of the
//! other notation is refused where it would silently be an ordinary name.

use std::fmt;

use super::problem::Fault;
use super::suggest::nearest;

/// One entry of `allow` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// Where, as it was written; see [`Rule::notation`].
    pub pattern: String,
}

/// What a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishing an event, MQTT PUBLISH included.
    Publish,
    /// Subscribing to a topic or pattern.
    Subscribe,
    /// Calling a procedure.
    Call,
    /// Registering a procedure.
    Register,
}

/// How a pattern is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notation {
    /// `app.*.name.#`
    Dotted,
    /// `app/+/name/#`
    Slash,
}

const ACTIONS: [(&str, Action); 4] = [
    ("publish", Action::Publish),
    ("subscribe", Action::Subscribe),
    ("call", Action::Call),
    ("register", Action::Register),
];

impl Action {
    /// The word of the action.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Call => "call",
            Self::Register => "register",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action.word(), self.pattern)
    }
}

impl Rule {
    /// The notation of the pattern: dotted if it has no `/`.
    #[must_use]
    pub fn notation(&self) -> Notation {
        notation(&self.pattern)
    }

    /// Reads `ACTION PATTERN`.
    ///
    /// # Errors
    /// A [`Fault`] about the action or the pattern.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let (word, pattern) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let pattern = pattern.trim_start();
        let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == word) else {
            return Err(unknown_action(text, word));
        };
        if pattern.is_empty() {
            let hint = format!("say where: `{word} app.topic` or `{word} #` for everything");
            return Err(Fault::new(format!("rule `{text}` has no pattern"), hint));
        }
        check_pattern(pattern)?;
        Ok(Self {
            action: *action,
            pattern: pattern.to_owned(),
        })
    }
}

/// Checks a pattern in either notation.
///
/// # Errors
/// A [`Fault`] that says what is wrong in it.
pub(super) fn check_pattern(pattern: &str) -> Result<(), Fault> {
    match notation(pattern) {
        Notation::Dotted => check_dotted(pattern),
        Notation::Slash => check_slash(pattern),
    }
}

/// The notation of a pattern: dotted if it has no `/`.
pub(crate) fn notation(pattern: &str) -> Notation {
    if pattern.contains('/') {
        Notation::Slash
    } else {
        Notation::Dotted
    }
}

fn unknown_action(text: &str, word: &str) -> Fault {
    let names = ACTIONS.iter().map(|(name, _)| *name);
    let hint = match nearest(word, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "a rule is ACTION PATTERN, for example `publish app.#`; \
                 actions: publish, subscribe, call, register"
            .to_owned(),
    };
    if word.is_empty() {
        return Fault::new("the rule is empty", hint);
    }
    Fault::new(format!("`{word}` in rule `{text}` is not an action"), hint)
}

fn check_dotted(pattern: &str) -> Result<(), Fault> {
    let mut parts = pattern.split('.').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let hint = match part {
            "" => "no part may be empty: `*` stands for any one part, `%00` for the empty level",
            "+" => {
                "in the dotted notation `*` stands for one part; `+` belongs to the notation with `/`"
            }
            "*" => continue,
            "#" if is_last => continue,
            _ if part.contains('#') => "`#` stands for any rest and must be the last part, alone",
            _ if part.contains('*') => "`*` stands for one whole part; for `*` itself write `%2A`",
            _ if part.contains(char::is_whitespace) => {
                "write a space as `%20`, or use the notation with `/`"
            }
            _ if part.contains('\0') => "no name contains U+0000",
            _ => continue,
        };
        return Err(Fault::new(format!("`{pattern}` is not a pattern"), hint));
    }
    Ok(())
}

fn check_slash(pattern: &str) -> Result<(), Fault> {
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let hint = match level {
            "*" => "in the notation with `/` one level is `+`; `*` belongs to the dotted notation",
            "+" => continue,
            "#" if is_last => continue,
            _ if level.contains('#') => "`#` stands for any rest and must be the last level, alone",
            _ if level.contains('+') => "`+` stands for one whole level",
            _ if level.contains('\0') => "no name contains U+0000",
            _ => continue,
        };
        return Err(Fault::new(format!("`{pattern}` is not a pattern"), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        for (text, action, pattern, notation) in [
            ("publish #", Action::Publish, "#", Notation::Dotted),
            (
                "subscribe  test/nosubscribe ",
                Action::Subscribe,
                "test/nosubscribe",
                Notation::Slash,
            ),
            (
                "call com.*.sum",
                Action::Call,
                "com.*.sum",
                Notation::Dotted,
            ),
            (
                "register my room/+/#",
                Action::Register,
                "my room/+/#",
                Notation::Slash,
            ),
            (
                "publish a/b*c//",
                Action::Publish,
                "a/b*c//",
                Notation::Slash,
            ),
            (
                "publish $SYS.#",
                Action::Publish,
                "$SYS.#",
                Notation::Dotted,
            ),
            (
                "publish a+b.%2A",
                Action::Publish,
                "a+b.%2A",
                Notation::Dotted,
            ),
        ] {
            let rule = Rule::parse(text)
                .map_err(|fault| fault.message)
                .expect(text);
            assert_eq!((rule.action, rule.pattern.as_str()), (action, pattern));
            assert_eq!(rule.notation(), notation, "{text}");
            assert_eq!(Rule::parse(&rule.to_string()).ok(), Some(rule), "{text}");
        }
    }

    #[test]
    fn misspelled_rules_are_explained() {
        for (text, hint) in [
            ("", "ACTION PATTERN"),
            ("#", "ACTION PATTERN"),
            ("publsh #", "did you mean `publish`"),
            ("sub a.b", "did you mean `subscribe`"),
            ("publish", "say where"),
            ("publish a.#.b", "`#` stands for any rest"),
            ("publish a#", "`#` stands for any rest"),
            ("publish a.b*", "`*` stands for one whole part"),
            ("publish a..b", "no part may be empty"),
            ("publish a.", "no part may be empty"),
            ("publish a.+", "`*` stands for one part"),
            ("publish a b", "`%20`"),
            ("publish a\0", "U+0000"),
            ("publish a/#/b", "`#` stands for any rest"),
            ("publish a/b+", "`+` stands for one whole level"),
            ("publish a/*", "one level is `+`"),
            ("publish a/\0", "U+0000"),
        ] {
            let fault = Rule::parse(text).expect_err(text);
            let said = fault.hint.unwrap_or_default();
            assert!(said.contains(hint), "{text:?}: {said}");
        }
    }
}
