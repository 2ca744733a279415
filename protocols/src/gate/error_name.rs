//! Names of the realm's refusals, for every gate whose protocol tells errors by name. Those of the
//! standard are WAMP's, so that one program understands them whatever protocol it speaks.

use router_core::model::ErrorKind;

/// A quota of the session, the key, the procedure or the realm is used up. The specification has
/// no name for it.
pub const QUOTA_EXCEEDED: &str = "reynard.error.quota_exceeded";
/// A bug of the router; the session goes on.
pub const INTERNAL: &str = "reynard.error.internal";

/// The error URI of a refusal.
#[must_use]
pub const fn error_uri(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidTopic => "wamp.error.invalid_uri",
        ErrorKind::InvalidArgument => "wamp.error.invalid_argument",
        ErrorKind::OptionNotAllowed => "wamp.error.option_not_allowed",
        ErrorKind::DisclosureNotAllowed => "wamp.error.option_disallowed.disclose_me",
        ErrorKind::NotAuthorized => "wamp.error.not_authorized",
        ErrorKind::NoSuchSubscription => "wamp.error.no_such_subscription",
        ErrorKind::NoSuchRegistration => "wamp.error.no_such_registration",
        ErrorKind::NoSuchProcedure => "wamp.error.no_such_procedure",
        ErrorKind::ProcedureAlreadyExists => "wamp.error.procedure_already_exists",
        ErrorKind::NoSuchSession => "wamp.error.no_such_session",
        // The name that clients of fox-wamp know.
        ErrorKind::ConditionFailed => "wamp.error.invalid_payload",
        ErrorKind::Conflict => "fox.error.conflict",
        ErrorKind::LockHeld => "fox.error.lock_held",
        ErrorKind::LockLost => "fox.error.lock_lost",
        ErrorKind::QueueFull => "fox.error.queue_full",
        ErrorKind::Timeout => "wamp.error.timeout",
        ErrorKind::Canceled => "wamp.error.canceled",
        ErrorKind::QuotaExceeded => QUOTA_EXCEEDED,
        ErrorKind::PayloadTooLarge => "wamp.error.payload_size_exceeded",
        ErrorKind::StorageUnavailable => "wamp.error.unavailable",
        ErrorKind::NoAvailableCallee => "wamp.error.no_available_callee",
        ErrorKind::FeatureNotSupported => "wamp.error.feature_not_supported",
        ErrorKind::Internal => INTERNAL,
    }
}
