//! Syntax of Topic Names and Topic Filters (5.0 sections 4.7 and 4.8.2).
//!
//! Characters are compared and kept verbatim: no normalisation `[MQTT-4.7.3-4]`. The number of
//! levels is capped by the caller, because the cost of matching grows with it.

use crate::mqtt::reason::ReasonCode;

/// Longest Topic Name or Topic Filter in bytes `[MQTT-4.7.3-3]`.
const MAX_BYTES: usize = 65_535;

/// Why a Topic Name or Topic Filter is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {reason}")]
pub struct TopicError {
    /// [`ReasonCode::TopicNameInvalid`] or [`ReasonCode::TopicFilterInvalid`] for what may be
    /// answered, [`ReasonCode::MalformedPacket`] for a Topic Filter that is none.
    pub reason: ReasonCode,
    /// The rule that was broken, for logs.
    pub message: &'static str,
}

/// The parts of a Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterParts<'a> {
    /// ShareName if the filter is a Shared Subscription.
    pub share: Option<&'a str>,
    /// The filter that topics are matched against.
    pub filter: &'a str,
}

/// Checks a Topic Name: not empty, no wildcard `[MQTT-3.3.2-2]`, no U+0000, at most `max_levels`
/// levels.
///
/// # Errors
/// The broken rule, with reason 0x90.
pub fn validate_topic_name(topic: &str, max_levels: usize) -> Result<(), TopicError> {
    check_text(topic)
        .and_then(|()| check_levels(topic, max_levels))
        .and_then(|()| {
            if has_wildcard(topic) {
                Err("Topic Name contains a wildcard")
            } else {
                Ok(())
            }
        })
        .map_err(TopicError::with(ReasonCode::TopicNameInvalid))
}

/// Checks a Topic Filter and takes a Shared Subscription apart.
///
/// `#` stands only as the last level and alone in it `[MQTT-4.7.1-1]`, `+` only alone in a level
/// `[MQTT-4.7.1-2]`. After `$share/` come a ShareName without wildcards, a `/` and a filter
/// `[MQTT-4.8.2-1]` `[MQTT-4.8.2-2]`. `$share` by itself is an ordinary filter. The level cap
/// counts the filter without the share prefix.
///
/// # Errors
/// The broken rule. 0x8F is for filters that are "correctly formed but not allowed" (5.0 sections
/// 3.9.3 and 3.11.3): those over the cap, and shares without their parts. What breaks section 4.7
/// itself, being empty or with a wildcard out of place, has the reason 0x81: a packet with it "does
/// not conform to this specification" (3.14.2.1), which ends the connection `[MQTT-4.13.1-1]`.
pub fn validate_filter(filter: &str, max_levels: usize) -> Result<FilterParts<'_>, TopicError> {
    let refused = TopicError::with(ReasonCode::TopicFilterInvalid);
    let parts = split_share(filter).map_err(refused)?;
    check_text(parts.filter)
        .and_then(|()| check_wildcards(parts.filter))
        .map_err(TopicError::with(ReasonCode::MalformedPacket))?;
    check_levels(parts.filter, max_levels).map_err(refused)?;
    Ok(parts)
}

impl TopicError {
    /// Makes an error of the broken rule.
    const fn with(reason: ReasonCode) -> impl Fn(&'static str) -> Self + Copy {
        move |message| Self { reason, message }
    }
}

/// Whether the text holds a wildcard character.
pub(super) fn has_wildcard(text: &str) -> bool {
    memchr::memchr2(b'+', b'#', text.as_bytes()).is_some()
}

/// Whether the filter asks for a Shared Subscription.
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

fn split_share(filter: &str) -> Result<FilterParts<'_>, &'static str> {
    let Some(rest) = filter.strip_prefix("$share/") else {
        return Ok(FilterParts {
            share: None,
            filter,
        });
    };
    let (share, filter) = rest
        .split_once('/')
        .ok_or("Shared Subscription without a Topic Filter")?;
    if share.is_empty() {
        return Err("ShareName is empty");
    }
    if has_wildcard(share) {
        return Err("ShareName contains a wildcard");
    }
    if filter.is_empty() {
        return Err("Shared Subscription with an empty Topic Filter");
    }
    Ok(FilterParts {
        share: Some(share),
        filter,
    })
}

fn check_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("topic is empty");
    }
    if text.len() > MAX_BYTES {
        return Err("topic is longer than 65535 bytes");
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err("topic contains U+0000");
    }
    Ok(())
}

fn check_levels(text: &str, max_levels: usize) -> Result<(), &'static str> {
    if memchr::memchr_iter(b'/', text.as_bytes()).count() >= max_levels {
        return Err("topic has too many levels");
    }
    Ok(())
}

fn check_wildcards(filter: &str) -> Result<(), &'static str> {
    if !has_wildcard(filter) {
        return Ok(());
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            "#" if levels.peek().is_none() => {}
            "#" => return Err("# is not the last level"),
            _ if has_wildcard(level) => return Err("wildcard shares its level"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        for good in [
            "a",
            "/",
            "a//b",
            "/a",
            "a/",
            "$SYS/x",
            " ",
            "\u{FEFF}a",
            "spBv1.0/G",
        ] {
            assert_eq!(validate_topic_name(good, 8), Ok(()), "{good:?}");
        }
        for bad in ["", "a/+", "#", "a+b", "a#", "a\0b"] {
            let error = validate_topic_name(bad, 8).expect_err(bad);
            assert_eq!(error.reason, ReasonCode::TopicNameInvalid, "{bad:?}");
        }
        assert!(validate_topic_name(&"x".repeat(65_536), 8).is_err());
        assert!(validate_topic_name(&"x".repeat(65_535), 8).is_ok());
    }

    #[test]
    fn levels_are_capped_at_the_number_given() {
        assert!(validate_topic_name("a/b/c", 3).is_ok());
        assert!(validate_topic_name("a/b/c/d", 3).is_err());
        assert!(
            validate_filter("$share/g/a/b/c", 3).is_ok(),
            "the prefix does not count"
        );
        assert!(validate_filter("$share/g/a/b/c/d", 3).is_err());
        assert!(
            validate_filter(&"/".repeat(65_400), 128).is_err(),
            "a filter that broke stacks"
        );
        assert!(validate_topic_name("a", 0).is_err());
    }

    #[test]
    fn filters() {
        for good in [
            "#",
            "+",
            "a/#",
            "+/+/#",
            "/+",
            "/",
            "$SYS/#",
            "a/+/b",
            "$share",
            "$shared/x",
        ] {
            let parts = validate_filter(good, 8).expect(good);
            assert_eq!((parts.share, parts.filter), (None, good));
        }
        for bad in [
            "", "#/a", "a#", "#b", "a+", "+a", "a/+b/c", "##", "++", "a/#/", "\0",
        ] {
            let error = validate_filter(bad, 8).expect_err(bad);
            assert_eq!(error.reason, ReasonCode::MalformedPacket, "{bad:?}");
        }
        let error = validate_filter("a/b/#/c", 2).expect_err("no filter, and too deep");
        assert_eq!(error.reason, ReasonCode::MalformedPacket);
        let error = validate_filter("a/b/#", 2).expect_err("too deep");
        assert_eq!(error.reason, ReasonCode::TopicFilterInvalid);
    }

    #[test]
    fn shared_subscriptions() {
        let parts = validate_filter("$share/g/a/+", 8).expect("legal");
        assert_eq!((parts.share, parts.filter), (Some("g"), "a/+"));
        let parts = validate_filter("$share/g//", 8).expect("the filter is one slash");
        assert_eq!((parts.share, parts.filter), (Some("g"), "/"));
        for bad in [
            "$share/",
            "$share//x",
            "$share/g",
            "$share/g/",
            "$share/g+/x",
            "$share/#/x",
            "$share/g+/a#",
            "$share/g/a/b/c/d",
        ] {
            let error = validate_filter(bad, 3).expect_err(bad);
            assert_eq!(error.reason, ReasonCode::TopicFilterInvalid, "{bad:?}");
        }
        for bad in ["$share/g/a#", "$share/g/#/a", "$share/g/+a"] {
            let error = validate_filter(bad, 8).expect_err(bad);
            assert_eq!(error.reason, ReasonCode::MalformedPacket, "{bad:?}");
        }
    }
}
