//! Options of the requests a client makes: the standard's and ours, read into the core's terms.
//!
//! Three rules (`docs/gates/wamp.md`, "Options"):
//! * a standard option of the wrong type is a protocol violation;
//! * an option of ours of the wrong type is ERROR `wamp.error.invalid_argument`;
//! * every other key is ignored, so that no client reaches an internal flag by guessing its name.
//!
//! A key whose value is null is absent, except `when` and `will`, where null is a value: "the key
//! is absent" and "delete". `undefined` in MessagePack never gets here: the codec leaves it out.

use super::dict::DictExt;
use super::errors::Violation;
use super::message::Dict;
use super::uris::error;
use bytestring::ByteString;
use router_core::model::{
    Audience, CancelMode, InvokePolicy, PublishOptions, Qos, SessionId, WillScope,
};
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The peer broke the protocol: the session ends with ABORT
    /// `wamp.error.protocol_violation` and these words.
    Violation(Cow<'static, str>),
    /// The request alone fails.
    Error {
        /// The error URI.
        error: &'static str,
        /// Words for a person.
        message: Cow<'static, str>,
    },
}

impl Reject {
    /// A request that fails with `error`.
    pub fn error(error: &'static str, message: impl Into<Cow<'static, str>>) -> Reject {
        Reject::Error {
            error,
            message: message.into(),
        }
    }
}

impl From<Violation> for Reject {
    fn from(violation: Violation) -> Reject {
        Reject::Violation(violation.to_string().into())
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Reject {
    Reject::error(error::INVALID_ARGUMENT, message)
}

/// The options of one message, by whose name violations are reported.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    message: &'static str,
    dict: &'a Dict,
}

type Read<T> = Result<Option<T>, Reject>;

impl<'a> Options<'a> {
    /// The options of the message called `message` in the specification.
    #[must_use]
    pub fn new(message: &'static str, dict: &'a Dict) -> Options<'a> {
        Options { message, dict }
    }

    fn standard<T>(&self, read: Result<Option<T>, Violation>) -> Read<T> {
        read.map_err(|violation| {
            Reject::Violation(format!("{} options: {violation}", self.message).into())
        })
    }

    /// A standard boolean.
    ///
    /// # Errors
    /// A violation when it is none.
    pub fn boolean(&self, key: &'static str) -> Read<bool> {
        self.standard(self.dict.boolean(key))
    }

    fn flag(&self, key: &'static str) -> Result<bool, Reject> {
        Ok(self.boolean(key)?.unwrap_or(false))
    }

    fn text(&self, key: &'static str) -> Read<&'a str> {
        self.standard(self.dict.text(key))
    }

    fn names(&self, key: &'static str) -> Read<Vec<ByteString>> {
        let texts = self.standard(self.dict.texts(key))?;
        Ok(texts.map(|texts| texts.into_iter().map(ByteString::from).collect()))
    }

    fn sessions(&self, key: &'static str) -> Read<Vec<SessionId>> {
        let ids = self.standard(self.dict.ids(key))?;
        Ok(ids.map(|ids| ids.into_iter().map(SessionId).collect()))
    }

    /// A value outside what the specification lists is as wrong as one of another type.
    fn unknown_value(&self, key: &'static str, expected: &str) -> Reject {
        let message = self.message;
        Reject::Violation(format!("{message} options: {key}: expected {expected}").into())
    }

    fn own_flag(&self, key: &'static str) -> Result<bool, Reject> {
        let read = self.dict.boolean(key);
        let read = read.map_err(|_| invalid(format!("{key} must be a boolean")))?;
        Ok(read.unwrap_or(false))
    }

    fn own_unsigned(&self, key: &'static str) -> Read<u64> {
        let read = self.dict.unsigned(key);
        read.map_err(|_| invalid(format!("{key} must be an integer of at least 0")))
    }

    fn own_value(&self, key: &'static str) -> Option<&'a Value> {
        self.dict.get(key)
    }
}

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

fn match_of(options: Options<'_>) -> Read<Match> {
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
        })
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

/// Reads the options of a REGISTER: how its calls are shared, and how many it takes at a time.
///
/// # Errors
/// A violation or an error; patterns and reducers are not offered
/// (`wamp.error.option_not_allowed`).
pub fn register_options(options: Options<'_>) -> Result<(InvokePolicy, Option<u32>), Reject> {
    let matching = match_of(options)?;
    let invoke = match options.text("invoke")? {
        None => None,
        Some("single") => Some(InvokePolicy::Single),
        Some("first") => Some(InvokePolicy::First),
        Some("last") => Some(InvokePolicy::Last),
        Some("roundrobin") => Some(InvokePolicy::RoundRobin),
        Some("random") => Some(InvokePolicy::Random),
        Some(_) => {
            let expected = "\"single\", \"first\", \"last\", \"roundrobin\" or \"random\"";
            return Err(options.unknown_value("invoke", expected));
        }
    };
    let not_allowed = |message| Err(Reject::error(error::OPTION_NOT_ALLOWED, message));
    if matches!(matching, Some(Match::Prefix | Match::Wildcard)) {
        return not_allowed("procedures cannot be registered by a pattern");
    }
    if options.own_flag("reducer")? {
        return not_allowed("reducers are not available");
    }
    let wrong = || invalid("concurrency must be an integer of at least 1");
    let concurrency = match options.own_unsigned("concurrency").map_err(|_| wrong())? {
        None => None,
        Some(0) => return Err(wrong()),
        // More invocations than a u32 counts are never open at a time.
        Some(most) => Some(u32::try_from(most).unwrap_or(u32::MAX)),
    };
    let default = match concurrency {
        Some(_) => InvokePolicy::FirstFree,
        None => InvokePolicy::Single,
    };
    Ok((invoke.unwrap_or(default), concurrency))
}

/// The options of a CALL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Progressive results are wanted.
    pub receive_progress: bool,
    /// Give up after this long; 0 is never.
    pub timeout: Option<Duration>,
    /// Tell who calls.
    pub disclose_me: bool,
}

impl CallOptions {
    /// Reads them.
    ///
    /// # Errors
    /// A violation for a wrong type, and for `progress`: progressive invocations are not announced
    /// (section "Progressive Call Invocations", "Ignoring Progressive Call Invocations").
    pub fn read(options: Options<'_>) -> Result<CallOptions, Reject> {
        let timeout = options.standard(options.dict.unsigned("timeout"))?;
        if options.flag("progress")? {
            let message = "CALL options: progress: progressive_call_invocations is not announced";
            return Err(Reject::Violation(message.into()));
        }
        Ok(CallOptions {
            receive_progress: options.flag("receive_progress")?,
            timeout: timeout.filter(|ms| *ms > 0).map(Duration::from_millis),
            disclose_me: options.flag("disclose_me")?,
        })
    }
}

/// The mode of a CANCEL; the specification leaves open what its absence means: `killnowait`.
///
/// # Errors
/// A violation for a wrong type, `wamp.error.invalid_argument` for an unknown mode.
pub fn cancel_mode(options: Options<'_>) -> Result<CancelMode, Reject> {
    match options.text("mode")? {
        None | Some("killnowait") => Ok(CancelMode::KillNoWait),
        Some("kill") => Ok(CancelMode::Kill),
        Some("skip") => Ok(CancelMode::Skip),
        Some(_) => Err(invalid("mode must be skip, kill or killnowait")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dict(value: Value) -> Dict {
        value.as_object().cloned().unwrap()
    }

    fn publish(value: Value) -> Result<(Qos, Option<Box<PublishOptions>>), Reject> {
        let dict = dict(value);
        let options = Options::new("PUBLISH", &dict);
        publish_options(options, PublishStandard::read(options)?)
    }

    fn subscribe(value: Value) -> Result<SubscribeOptions, Reject> {
        SubscribeOptions::read(Options::new("SUBSCRIBE", &dict(value)))
    }

    fn register(value: Value) -> Result<(InvokePolicy, Option<u32>), Reject> {
        register_options(Options::new("REGISTER", &dict(value)))
    }

    fn error_of<T: std::fmt::Debug>(read: Result<T, Reject>) -> (&'static str, String) {
        match read.unwrap_err() {
            Reject::Error { error, message } => (error, message.into_owned()),
            Reject::Violation(message) => ("violation", message.into_owned()),
        }
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
        for key in ["exclude_me", "disclose_me", "retain", "exclude", "exclude_authid",
            "exclude_authrole", "eligible", "eligible_authid", "eligible_authrole"] {
            let (what, text) = error_of(publish(json!({key: "x"})));
            assert_eq!(what, "violation", "{key}");
            assert!(text.starts_with(&format!("PUBLISH options: {key}: expected ")), "{text}");
        }
        for key in ["watch", "watch_timeout", "will_on", "merge", "trace", "x_qos"] {
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
        assert_eq!(error_of(subscribe(json!({"match": "bogus"}))).0, "violation");
        for key in ["match", "invoke"] {
            assert_eq!(error_of(register(json!({key: 1}))).0, "violation", "{key}");
            assert_eq!(error_of(register(json!({key: "bogus"}))).0, "violation", "{key}");
        }
    }

    #[test]
    fn audiences_keep_an_empty_list_apart_from_none() {
        let (_, options) = publish(json!({"eligible": [], "exclude_authid": ["a"]})).unwrap();
        let options = options.unwrap();
        assert_eq!(options.eligible.unwrap().sessions, Some(vec![]));
        assert_eq!(options.exclude.unwrap().authids, Some(vec!["a".into()]));
    }

    #[test]
    fn after_is_an_integer_or_a_decimal_string() {
        let after = |value| subscribe(json!({"after": value})).map(|read| read.after);
        assert_eq!(after(json!(7)), Ok(Some(7)));
        assert_eq!(after(json!("9007199254740992")), Ok(Some(1 << 53)));
        assert_eq!(after(json!(7.0)), Ok(Some(7)));
        assert_eq!(after(Value::Null), Ok(None));
        for wrong in [json!(""), json!("+7"), json!("7 "), json!("x"), json!(-1), json!(1.5),
            json!([7]), json!(true), json!("99999999999999999999")] {
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

    #[test]
    fn concurrency_without_a_policy_shares_with_the_first_free() {
        assert_eq!(register(json!({})), Ok((InvokePolicy::Single, None)));
        let shared = register(json!({"concurrency": 2}));
        assert_eq!(shared, Ok((InvokePolicy::FirstFree, Some(2))));
        let both = register(json!({"concurrency": 2, "invoke": "last"}));
        assert_eq!(both, Ok((InvokePolicy::Last, Some(2))));
        let huge = register(json!({"concurrency": u64::MAX})).unwrap();
        assert_eq!(huge.1, Some(u32::MAX));
        for wrong in [json!(0), json!(-1), json!("2"), json!(1.5), json!(true)] {
            let (uri, _) = error_of(register(json!({"concurrency": wrong})));
            assert_eq!(uri, error::INVALID_ARGUMENT);
        }
    }

    #[test]
    fn what_registrations_do_not_offer_is_said() {
        for option in [json!({"match": "prefix"}), json!({"match": "wildcard"}), json!({"reducer": true})] {
            assert_eq!(error_of(register(option)).0, error::OPTION_NOT_ALLOWED);
        }
        assert!(register(json!({"match": "exact", "reducer": false})).is_ok());
    }

    #[test]
    fn call_options_and_cancel_modes() {
        let call = |value| CallOptions::read(Options::new("CALL", &dict(value)));
        let read = call(json!({"timeout": 5, "receive_progress": true, "disclose_me": true}));
        let expected = CallOptions {
            receive_progress: true,
            timeout: Some(Duration::from_millis(5)),
            disclose_me: true,
        };
        assert_eq!(read, Ok(expected));
        assert_eq!(call(json!({"timeout": 0})).unwrap().timeout, None);
        for wrong in [json!({"timeout": -1}), json!({"timeout": "1"}), json!({"progress": true}),
            json!({"receive_progress": 1}), json!({"disclose_me": "yes"})] {
            assert_eq!(error_of(call(wrong)).0, "violation");
        }
        let mode = |value| cancel_mode(Options::new("CANCEL", &dict(value)));
        assert_eq!(mode(json!({})), Ok(CancelMode::KillNoWait));
        assert_eq!(mode(json!({"mode": "skip"})), Ok(CancelMode::Skip));
        assert_eq!(mode(json!({"mode": "kill"})), Ok(CancelMode::Kill));
        assert_eq!(mode(json!({"mode": "killnowait"})), Ok(CancelMode::KillNoWait));
        assert_eq!(error_of(mode(json!({"mode": "x"}))).0, error::INVALID_ARGUMENT);
        assert_eq!(error_of(mode(json!({"mode": 1}))).0, "violation");
    }
}
