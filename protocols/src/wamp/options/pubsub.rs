//! Options of PUBLISH and SUBSCRIBE.

use super::{Options, Read, Reject, invalid};
use bytestring::ByteString;
use router_core::model::{Audience, PublishOptions, Qos, WillScope};
use serde_json::Value;
use std::time::Duration;

/// The standard options of a PUBLISH (sections "Publishing and Events", "Publisher Exclusion",
/// "Subscriber Black- and Whitelisting", "Event Retention").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishStandard {
    /// Not back to the publisher.
    pub exclude_me: bool,
    /// Tell who published.
    pub disclose_me: bool,
    /// Keep it.
    pub retain: bool,
    /// Not to these.
    pub exclude: Option<Audience>,
    /// Only to these.
    pub eligible: Option<Audience>,
}

impl PublishStandard {
    /// Reads them.
    ///
    /// # Errors
    /// A violation for a wrong type.
    pub fn read(options: Options<'_>) -> Result<PublishStandard, Reject> {
        let audience = |sessions, authids, roles| {
            let audience = Audience {
                sessions: options.sessions(sessions)?,
                authids: options.names(authids)?,
                roles: options.names(roles)?,
            };
            Ok::<_, Reject>((audience != Audience::default()).then_some(audience))
        };
        Ok(PublishStandard {
            exclude_me: options.boolean("exclude_me")?.unwrap_or(true),
            disclose_me: options.flag("disclose_me")?,
            retain: options.flag("retain")?,
            exclude: audience("exclude", "exclude_authid", "exclude_authrole")?,
            eligible: audience("eligible", "eligible_authid", "eligible_authrole")?,
        })
    }
}

/// Reads our options of a PUBLISH and adds the standard ones; answers the assurance towards MQTT
/// subscribers as well. `None` for an ordinary publish.
///
/// # Errors
/// `wamp.error.invalid_argument` for a wrong type or value.
pub fn publish_options(
    options: Options<'_>,
    standard: PublishStandard,
) -> Result<(Qos, Option<Box<PublishOptions>>), Reject> {
    let will_scope = match options.own_value("will_on") {
        None | Some(Value::Null) => WillScope::Any,
        Some(Value::String(scope)) if scope == "any" => WillScope::Any,
        Some(Value::String(scope)) if scope == "lost" => WillScope::Lost,
        Some(_) => return Err(invalid("will_on must be \"any\" or \"lost\"")),
    };
    let read = PublishOptions {
        disclose_me: standard.disclose_me,
        exclude: standard.exclude,
        eligible: standard.eligible,
        trace: options.own_flag("trace")?,
        when: options.own_value("when").cloned(),
        watch: options.own_flag("watch")?,
        watch_timeout: options
            .own_unsigned("watch_timeout")?
            .map(Duration::from_millis),
        will: options.own_value("will").cloned(),
        will_scope,
        merge: options.own_flag("merge")?,
    };
    let qos = match options.own_unsigned("x_qos") {
        Ok(None) if read.trace => Qos::AtLeastOnce,
        Ok(None | Some(0)) => Qos::AtMostOnce,
        Ok(Some(1)) => Qos::AtLeastOnce,
        Ok(Some(2)) => Qos::ExactlyOnce,
        _ => return Err(invalid("x_qos must be 0, 1 or 2")),
    };
    let is_ordinary = !(read.disclose_me
        || read.trace
        || read.watch
        || read.merge
        || read.exclude.is_some()
        || read.eligible.is_some()
        || read.when.is_some()
        || read.will.is_some());
    Ok((qos, (!is_ordinary).then(|| Box::new(read))))
}

/// The option `match` (section "Pattern-based Subscriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The whole URI.
    Exact,
    /// A string prefix.
    Prefix,
    /// Empty components are wildcards.
    Wildcard,
}

pub(super) fn match_of(options: Options<'_>) -> Read<Match> {
    Ok(match options.text("match")? {
        None => None,
        Some("exact") => Some(Match::Exact),
        Some("prefix") => Some(Match::Prefix),
        Some("wildcard") => Some(Match::Wildcard),
        Some(_) => {
            let expected = "\"exact\", \"prefix\" or \"wildcard\"";
            return Err(options.unknown_value("match", expected));
        }
    })
}

/// The options of a SUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeOptions {
    /// `None` where the client did not say: then `*` and `#` are wildcards.
    pub matching: Option<Match>,
    /// Replay retained values.
    pub retained: bool,
    /// Replay history after this publication.
    pub after: Option<u64>,
    /// Replay only.
    pub snapshot: bool,
    /// Only events that fit.
    pub filter: Option<Value>,
    /// Each event to one member of this group.
    pub share: Option<ByteString>,
}

impl SubscribeOptions {
    /// Reads them; `get_retained` is the standard's name, `retained` and `retainedState` are
    /// fox-wamp's.
    ///
    /// # Errors
    /// A violation or `wamp.error.invalid_argument` for a wrong type.
    pub fn read(options: Options<'_>) -> Result<SubscribeOptions, Reject> {
        let (matching, get_retained) = (match_of(options)?, options.flag("get_retained")?);
        let filter = options
            .own_value("filter")
            .filter(|value| !value.is_null())
            .cloned();
        Ok(SubscribeOptions {
            matching,
            retained: options.own_flag("retained")?
                | options.own_flag("retainedState")?
                | get_retained,
            after: after_of(options)?,
            snapshot: options.own_flag("snapshot")?,
            filter,
            share: share_of(options)?,
        })
    }
}

/// The name of a group, the same as MQTT's ShareName, so that clients of both meet in it.
fn share_of(options: Options<'_>) -> Read<ByteString> {
    match options.own_value("x_share") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if !name.is_empty() && !name.contains(['/', '+', '#', '\0']) => {
            Ok(Some(name.as_str().into()))
        }
        Some(_) => Err(invalid(
            "x_share must be a name without \"/\", \"+\" and \"#\"",
        )),
    }
}

fn after_of(options: Options<'_>) -> Read<u64> {
    let wrong = || invalid("after must be a publication id, an integer or a decimal string");
    match options.own_value("after") {
        // `parse` alone would take a sign as well.
        Some(Value::String(text)) if !text.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
        _ => options.own_unsigned("after").map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dict, error_of};
    use super::*;
    use crate::wamp::uris::error;
    use serde_json::json;

    fn publish(value: Value) -> Result<(Qos, Option<Box<PublishOptions>>), Reject> {
        let dict = dict(value);
        let options = Options::new("PUBLISH", &dict);
        publish_options(options, PublishStandard::read(options)?)
    }

    fn subscribe(value: Value) -> Result<SubscribeOptions, Reject> {
        SubscribeOptions::read(Options::new("SUBSCRIBE", &dict(value)))
    }

    #[test]
    fn an_ordinary_publish_carries_no_options() {
        let ordinary = json!({"acknowledge": true, "retain": true, "exclude_me": false, "bogus": 1,
            "retained": true, "delta": 1, "keepTraceFlag": true, "watch": false, "x_qos": 0});
        assert_eq!(publish(ordinary).unwrap().0, Qos::AtMostOnce);
        assert!(publish(json!({"x_qos": 2})).unwrap().1.is_none());
    }

    #[test]
    fn null_is_a_value_for_when_and_will_only() {
        let (_, options) = publish(json!({"when": null, "will": null, "watch": null})).unwrap();
        let options = options.unwrap();
        assert_eq!(options.when, Some(Value::Null));
        assert_eq!(options.will, Some(Value::Null));
        assert!(!options.watch);
        assert_eq!(options.will_scope, WillScope::Any);
    }

    #[test]
    fn traced_events_are_assured_unless_x_qos_says_otherwise() {
        let qos = |value| publish(value).unwrap().0;
        assert_eq!(qos(json!({})), Qos::AtMostOnce);
        assert_eq!(qos(json!({"trace": true})), Qos::AtLeastOnce);
        assert_eq!(qos(json!({"trace": true, "x_qos": 0})), Qos::AtMostOnce);
        assert_eq!(qos(json!({"x_qos": 2})), Qos::ExactlyOnce);
        for wrong in [json!(3), json!(-1), json!("1"), json!(true), json!(1.5)] {
            let (uri, message) = error_of(publish(json!({"x_qos": wrong})));
            assert_eq!(uri, error::INVALID_ARGUMENT);
            assert_eq!(message, "x_qos must be 0, 1 or 2");
        }
    }

    #[test]
    fn a_wrong_standard_option_is_a_violation_and_a_wrong_one_of_ours_an_error() {
        for key in [
            "exclude_me",
            "disclose_me",
            "retain",
            "exclude",
            "exclude_authid",
            "exclude_authrole",
            "eligible",
            "eligible_authid",
            "eligible_authrole",
        ] {
            let (what, text) = error_of(publish(json!({key: "x"})));
            assert_eq!(what, "violation", "{key}");
            assert!(
                text.starts_with(&format!("PUBLISH options: {key}: expected ")),
                "{text}"
            );
        }
        for key in [
            "watch",
            "watch_timeout",
            "will_on",
            "merge",
            "trace",
            "x_qos",
        ] {
            let (uri, text) = error_of(publish(json!({key: "x"})));
            assert_eq!(uri, error::INVALID_ARGUMENT, "{key}");
            assert!(text.starts_with(key), "{text}");
        }
        for key in ["retained", "retainedState", "snapshot", "after"] {
            let (uri, text) = error_of(subscribe(json!({key: "yes"})));
            assert_eq!(uri, error::INVALID_ARGUMENT, "{key}");
            assert!(text.starts_with(key), "{text}");
        }
        for key in ["match", "get_retained"] {
            assert_eq!(error_of(subscribe(json!({key: 1}))).0, "violation", "{key}");
        }
        assert_eq!(
            error_of(subscribe(json!({"match": "bogus"}))).0,
            "violation"
        );
    }

    #[test]
    fn audiences_keep_an_empty_list_apart_from_none() {
        let (_, options) = publish(json!({"eligible": [], "exclude_authid": ["a"]})).unwrap();
        let options = options.unwrap();
        assert_eq!(options.eligible.unwrap().sessions, Some(vec![]));
        assert_eq!(options.exclude.unwrap().authids, Some(vec!["a".into()]));
    }

    #[test]
    fn the_group_is_a_name_that_mqtt_can_say() {
        let share = |value| subscribe(json!({"x_share": value})).map(|read| read.share);
        assert_eq!(share(json!("g 1.x")), Ok(Some("g 1.x".into())));
        assert_eq!(share(Value::Null), Ok(None));
        assert_eq!(subscribe(json!({})).unwrap().share, None);
        for wrong in [
            json!(""),
            json!("a/b"),
            json!("+"),
            json!("a#"),
            json!("\u{0}"),
            json!(1),
            json!(true),
            json!(["g"]),
        ] {
            let (uri, text) = error_of(share(wrong));
            assert_eq!(uri, error::INVALID_ARGUMENT);
            assert!(text.starts_with("x_share must be"), "{text}");
        }
    }

    #[test]
    fn after_is_an_integer_or_a_decimal_string() {
        let after = |value| subscribe(json!({"after": value})).map(|read| read.after);
        assert_eq!(after(json!(7)), Ok(Some(7)));
        assert_eq!(after(json!("9007199254740992")), Ok(Some(1 << 53)));
        assert_eq!(after(json!(7.0)), Ok(Some(7)));
        assert_eq!(after(Value::Null), Ok(None));
        for wrong in [
            json!(""),
            json!("+7"),
            json!("7 "),
            json!("x"),
            json!(-1),
            json!(1.5),
            json!([7]),
            json!(true),
            json!("99999999999999999999"),
        ] {
            assert_eq!(error_of(after(wrong)).0, error::INVALID_ARGUMENT);
        }
    }

    #[test]
    fn three_names_ask_for_retained_values() {
        for key in ["get_retained", "retained", "retainedState"] {
            assert!(subscribe(json!({key: true})).unwrap().retained, "{key}");
        }
        assert!(!subscribe(json!({"keepTraceFlag": true})).unwrap().retained);
        assert_eq!(subscribe(json!({"filter": null})).unwrap().filter, None);
    }
}
