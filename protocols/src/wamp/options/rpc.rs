//! Options of REGISTER, CALL and CANCEL.

use super::pubsub::match_of;
use super::{Match, Options, Reject, invalid};
use crate::wamp::dict::DictExt;
use crate::wamp::uris::error;
use router_core::model::{CancelMode, InvokePolicy};
use std::time::Duration;

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
    use super::super::testing::{dict, error_of};
    use super::*;
    use serde_json::{Value, json};

    fn register(value: Value) -> Result<(InvokePolicy, Option<u32>), Reject> {
        register_options(Options::new("REGISTER", &dict(value)))
    }

    #[test]
    fn a_wrong_standard_option_of_a_register_is_a_violation() {
        for key in ["match", "invoke"] {
            assert_eq!(error_of(register(json!({key: 1}))).0, "violation", "{key}");
            assert_eq!(
                error_of(register(json!({key: "bogus"}))).0,
                "violation",
                "{key}"
            );
        }
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
        for option in [
            json!({"match": "prefix"}),
            json!({"match": "wildcard"}),
            json!({"reducer": true}),
        ] {
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
        for wrong in [
            json!({"timeout": -1}),
            json!({"timeout": "1"}),
            json!({"progress": true}),
            json!({"receive_progress": 1}),
            json!({"disclose_me": "yes"}),
        ] {
            assert_eq!(error_of(call(wrong)).0, "violation");
        }
        let mode = |value| cancel_mode(Options::new("CANCEL", &dict(value)));
        assert_eq!(mode(json!({})), Ok(CancelMode::KillNoWait));
        assert_eq!(mode(json!({"mode": "skip"})), Ok(CancelMode::Skip));
        assert_eq!(mode(json!({"mode": "kill"})), Ok(CancelMode::Kill));
        assert_eq!(
            mode(json!({"mode": "killnowait"})),
            Ok(CancelMode::KillNoWait)
        );
        assert_eq!(
            error_of(mode(json!({"mode": "x"}))).0,
            error::INVALID_ARGUMENT
        );
        assert_eq!(error_of(mode(json!({"mode": 1}))).0, "violation");
    }
}
