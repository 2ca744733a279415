//! Options of REGISTER, CALL and CANCEL.

use super::pubsub::match_of;
use super::{Match, Options, Reject, invalid};
use crate::wamp::dict::DictExt;
use crate::wamp::uris::error;
use router_core::model::{CancelMode, InvokePolicy};
use std::time::Duration;

/// The options of a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterOptions {
    /// How the URI is meant.
    pub matching: Match,
    /// How calls are shared.
    pub policy: InvokePolicy,
    /// The most invocations at a time.
    pub concurrency: Option<u32>,
    /// Take the place of who holds the registration.
    pub force: bool,
    /// Be told who calls.
    pub disclose_caller: bool,
    /// Be told the timeouts, and watch over them.
    pub forward_timeout: bool,
}

impl RegisterOptions {
    /// Reads them.
    ///
    /// # Errors
    /// A violation or an error; reducers are not offered (`wamp.error.option_not_allowed`).
    pub fn read(options: Options<'_>) -> Result<RegisterOptions, Reject> {
        let matching = match_of(options)?.unwrap_or(Match::Exact);
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
        let (disclose_caller, forward_timeout) = (
            options.flag("disclose_caller")?,
            options.flag("forward_timeout")?,
        );
        if options.own_flag("reducer")? {
            let message = "reducers are not available";
            return Err(Reject::error(error::OPTION_NOT_ALLOWED, message));
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
        Ok(RegisterOptions {
            matching,
            policy: invoke.unwrap_or(default),
            concurrency,
            force: options.own_flag("force_reregister")?,
            disclose_caller,
            forward_timeout,
        })
    }
}

/// The options of a CALL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Progressive results are wanted.
    pub receive_progress: bool,
    /// More arguments follow (section "Progressive Call Invocations").
    pub progress: bool,
    /// Give up after this long; 0 is never.
    pub timeout: Option<Duration>,
    /// Tell who calls.
    pub disclose_me: bool,
}

impl CallOptions {
    /// Reads them; `may_progress` says whether the client announced that it sends arguments in
    /// parts.
    ///
    /// # Errors
    /// A violation for a wrong type, and for `progress` of a client that did not announce it
    /// (section "Progressive Call Invocations", "Ignoring Progressive Call Invocations").
    pub fn read(options: Options<'_>, may_progress: bool) -> Result<CallOptions, Reject> {
        let timeout = options.standard(options.dict.unsigned("timeout"))?;
        let progress = options.flag("progress")?;
        if progress && !may_progress {
            let message =
                "CALL options: progress: the caller did not announce progressive_call_invocations";
            return Err(Reject::Violation(message.into()));
        }
        Ok(CallOptions {
            receive_progress: options.flag("receive_progress")?,
            progress,
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

    fn read(value: Value) -> Result<RegisterOptions, Reject> {
        RegisterOptions::read(Options::new("REGISTER", &dict(value)))
    }

    fn register(value: Value) -> Result<(InvokePolicy, Option<u32>), Reject> {
        read(value).map(|options| (options.policy, options.concurrency))
    }

    #[test]
    fn a_wrong_standard_option_of_a_register_is_a_violation() {
        for key in ["match", "invoke", "disclose_caller", "forward_timeout"] {
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
        let reducer = register(json!({"reducer": true}));
        assert_eq!(error_of(reducer).0, error::OPTION_NOT_ALLOWED);
        assert!(register(json!({"match": "exact", "reducer": false})).is_ok());
    }

    #[test]
    fn the_other_options_of_a_register_are_read() {
        let all = read(json!({
            "match": "wildcard", "force_reregister": true, "disclose_caller": true,
            "forward_timeout": true,
        }));
        let expected = RegisterOptions {
            matching: Match::Wildcard,
            policy: InvokePolicy::Single,
            concurrency: None,
            force: true,
            disclose_caller: true,
            forward_timeout: true,
        };
        assert_eq!(all, Ok(expected));
        let (uri, _) = error_of(read(json!({"force_reregister": 1})));
        assert_eq!(uri, error::INVALID_ARGUMENT, "an option of ours");
    }

    #[test]
    fn call_options_and_cancel_modes() {
        let call = |value| CallOptions::read(Options::new("CALL", &dict(value)), false);
        let read = call(json!({"timeout": 5, "receive_progress": true, "disclose_me": true}));
        let expected = CallOptions {
            receive_progress: true,
            progress: false,
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
        let announced = |value| CallOptions::read(Options::new("CALL", &dict(value)), true);
        assert!(announced(json!({"progress": true})).unwrap().progress);
        assert_eq!(error_of(announced(json!({"progress": 1}))).0, "violation");
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
