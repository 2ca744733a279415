//! How topics, procedures and keys are spelled by a program: dotted as in WAMP, or as in MQTT.
//!
//! A plain string is WAMP's notation: `app.sensor.1`; as a pattern `*` stands for one part and a
//! final `#` for the rest. [`Mqtt`] marks the other notation: `app/sensor/1`, `+` and `#`. Both name
//! the same topics; which characters are escaped is told at [`protocols::wamp::uris`].

use super::error::Error;
use bytestring::ByteString;
use protocols::mqtt;
use protocols::wamp::map;
use protocols::wamp::options::Reject;
use protocols::wamp::uris::core_to_uri;
use router_core::model::{MatchKind, Pattern, Topic};
use std::fmt;

/// Something that names a topic or a set of topics.
pub trait Name {
    /// The one topic named.
    ///
    /// # Errors
    /// [`Error::Name`].
    fn topic(&self) -> Result<Topic, Error>;

    /// The set of topics named, and its notation.
    ///
    /// # Errors
    /// [`Error::Name`].
    fn pattern(&self) -> Result<(Pattern, MatchKind), Error>;
}

/// A name in MQTT's notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mqtt<S>(pub S);

/// The topic of something that came; writes itself in dotted notation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicName(Topic);

impl Name for str {
    fn topic(&self) -> Result<Topic, Error> {
        map::topic(self).map_err(|reject| rejected(self, reject))
    }

    fn pattern(&self) -> Result<(Pattern, MatchKind), Error> {
        map::pattern(self, None).map_err(|reject| rejected(self, reject))
    }
}

impl Name for String {
    fn topic(&self) -> Result<Topic, Error> {
        self.as_str().topic()
    }

    fn pattern(&self) -> Result<(Pattern, MatchKind), Error> {
        self.as_str().pattern()
    }
}

impl<S: AsRef<str>> Name for Mqtt<S> {
    fn topic(&self) -> Result<Topic, Error> {
        let text = self.0.as_ref();
        let topic = mqtt::map::topic(ByteString::from(text), usize::MAX);
        topic.ok_or_else(|| Error::name(text, "no MQTT topic name"))
    }

    fn pattern(&self) -> Result<(Pattern, MatchKind), Error> {
        let text = self.0.as_ref();
        // The core uses U+0000 as a sign of its own; in MQTT it is illegal anyhow. [MQTT-4.7.3-2]
        if text.contains('\0') {
            return Err(Error::name(text, "no MQTT topic filter"));
        }
        let pattern = Pattern::from_slashes(text).map_err(|error| Error::name(text, error))?;
        let kind = if pattern.is_exact() {
            MatchKind::Exact
        } else {
            MatchKind::Levels
        };
        Ok((pattern, kind))
    }
}

impl Name for TopicName {
    fn topic(&self) -> Result<Topic, Error> {
        Ok(self.0.clone())
    }

    fn pattern(&self) -> Result<(Pattern, MatchKind), Error> {
        Ok((Pattern::Exact(self.0.clone()), MatchKind::Exact))
    }
}

impl<T: Name + ?Sized> Name for &T {
    fn topic(&self) -> Result<Topic, Error> {
        (**self).topic()
    }

    fn pattern(&self) -> Result<(Pattern, MatchKind), Error> {
        (**self).pattern()
    }
}

impl TopicName {
    /// In MQTT's notation; `None` for a topic that MQTT cannot name (a level with `+` or `/`).
    #[must_use]
    pub fn mqtt(&self) -> Option<&str> {
        self.0.is_slash_safe().then(|| self.0.text())
    }
}

impl From<Topic> for TopicName {
    fn from(topic: Topic) -> TopicName {
        TopicName(topic)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&core_to_uri(self.0.text()))
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", core_to_uri(self.0.text()))
    }
}

impl PartialEq<str> for TopicName {
    fn eq(&self, other: &str) -> bool {
        core_to_uri(self.0.text()) == other
    }
}

impl PartialEq<&str> for TopicName {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

fn rejected(name: &str, reject: Reject) -> Error {
    let (Reject::Error { message, .. } | Reject::Violation(message)) = reject;
    Error::name(name, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_name_the_same_topics() {
        let dotted = "app.sensor.1".topic().unwrap();
        assert_eq!(dotted, Mqtt("app/sensor/1").topic().unwrap());
        assert_eq!(TopicName::from(dotted.clone()), TopicName(dotted.clone()));
        assert_eq!(TopicName::from(dotted.clone()), "app.sensor.1");
        assert_eq!(TopicName::from(dotted).mqtt(), Some("app/sensor/1"));
        let pattern = "app.*.t.#".pattern().unwrap();
        assert_eq!(pattern, Mqtt("app/+/t/#").pattern().unwrap());
        assert_eq!(pattern.1, MatchKind::Levels);
        assert_eq!("app.t".pattern().unwrap().1, MatchKind::Exact);
    }

    #[test]
    fn what_one_notation_cannot_say_is_escaped_or_absent() {
        let odd = Mqtt("a b//c.d").topic().unwrap();
        assert_eq!(TopicName::from(odd.clone()).to_string(), "a%20b.%00.c%2Ed");
        assert_eq!("a%20b.%00.c%2Ed".topic().unwrap(), odd);
        let plus = TopicName::from("a+b.c".topic().unwrap());
        assert_eq!((plus.mqtt(), plus.to_string().as_str()), (None, "a+b.c"));
    }

    #[test]
    fn names_that_name_nothing_are_refused_with_the_name() {
        let refused = |result: Result<Topic, Error>, name: &str| {
            assert!(matches!(result, Err(Error::Name { name: given, .. }) if given == name));
        };
        refused("".topic(), "");
        refused("a..b".topic(), "a..b");
        refused("a.#".topic(), "a.#");
        refused(Mqtt("a/#").topic(), "a/#");
        refused(Mqtt("a/+").topic(), "a/+");
        refused(Mqtt("a\0").topic(), "a\0");
        assert!("a.#.b".pattern().is_err());
        assert!(Mqtt("a/#/b").pattern().is_err() && Mqtt("a\0").pattern().is_err());
    }
}
