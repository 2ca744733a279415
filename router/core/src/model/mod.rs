//! The vocabulary of the realm: topics, patterns, payloads, commands and deliveries.

mod command;
mod delivery;
mod error;
mod event;
mod id;
mod pattern;
mod payload;
mod time;
mod topic;

pub use command::{
    Admission, Audience, Call, CallMessage, CancelMode, Command, InvocationFailed, InvokePolicy,
    LastWill, MatchKind, Publish, PublishOptions, Register, Subscribe, Unsubscribe,
    UnsubscribeTarget, WillScope,
};
pub use delivery::{
    Answer, CallFailure, Delivery, EndReason, EventDelivery, Handover, InterruptReason, Invocation,
};
pub use error::{ErrorKind, Refusal};
pub use event::{Attributes, Event, Made, Publisher, Qos};
pub use id::{
    InvocationId, MAX_ID, PublicationId, RegistrationId, RequestId, SessionId, Slot, SubscriptionId,
};
pub use pattern::{Level, Pattern, PatternError, must_be_named};
pub use payload::{Args, Body, ENVELOPE_CONTENT_TYPE, Form, Payload, Seal};
pub use time::{Now, iso8601, read_rfc3339};
pub(crate) use topic::first_level;
pub use topic::{Topic, TopicError};
