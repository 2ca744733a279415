//! Topics and filters in the spellings of both protocols.

use bytestring::ByteString;

/// One level of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    /// This level.
    Name(String),
    /// Any one level.
    Any,
    /// Any levels that are left; the last one.
    Rest,
}

/// Levels; a topic has names only. Names need no escapes in any spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(Vec<Level>);

/// How WAMP matches, and the URI that it matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uri {
    /// The option `match`; `None`: exactly.
    pub policy: Option<&'static str>,
    /// The URI.
    pub uri: ByteString,
}

impl Filter {
    /// From the spelling of MQTT, in which the plans are written.
    pub(super) fn new(spelling: &str) -> Filter {
        let levels = spelling.split('/').map(|level| match level {
            "+" => Level::Any,
            "#" => Level::Rest,
            name => Level::Name(name.to_owned()),
        });
        Filter(levels.collect())
    }

    /// As an MQTT Topic Filter.
    pub(super) fn mqtt(&self) -> ByteString {
        let levels = self.0.iter().map(|level| match level {
            Level::Name(name) => name.as_str(),
            Level::Any => "+",
            Level::Rest => "#",
        });
        levels.collect::<Vec<_>>().join("/").into()
    }

    /// As a WAMP URI, by the policies of its standard that fits.
    pub(super) fn wamp(&self) -> Uri {
        let levels = self.0.iter().map(|level| match level {
            Level::Name(name) => name.as_str(),
            // Wildcards are empty components; behind the last dot of a prefix comes anything.
            Level::Any | Level::Rest => "",
        });
        let uri: ByteString = levels.collect::<Vec<_>>().join(".").into();
        let policy = match self.0.last() {
            Some(Level::Rest) => Some("prefix"),
            _ if self.0.contains(&Level::Any) => Some("wildcard"),
            _ => None,
        };
        Uri { policy, uri }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_both_spellings() {
        for (mqtt, policy, uri) in [
            ("b/x/t", None, "b.x.t"),
            ("b/+/t", Some("wildcard"), "b..t"),
            ("+/x/t", Some("wildcard"), ".x.t"),
            ("b/x/#", Some("prefix"), "b.x."),
        ] {
            let filter = Filter::new(mqtt);
            assert_eq!(filter.mqtt(), mqtt);
            let uri = uri.into();
            assert_eq!(filter.wamp(), Uri { policy, uri });
        }
    }
}
