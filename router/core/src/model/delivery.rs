//! What a realm tells a session.

use super::{
    Event, InvocationId, Payload, PublicationId, Qos, Refusal, RegistrationId, RequestId,
    SessionId, Slot, SubscriptionId, Topic,
};
use bytestring::ByteString;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// One message from the realm to one session.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The session takes part; always its first delivery.
    Joined {
        /// An earlier life of the session goes on.
        present: bool,
    },
    /// A published event.
    Event(EventDelivery),
    /// The positive answer to a command.
    Done {
        /// As given with the command.
        request: RequestId,
        /// What came of it.
        answer: Answer,
    },
    /// The negative answer to a command (not to calls).
    Refused {
        /// As given with the command.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// A call to be answered by this session.
    Invocation(Box<Invocation>),
    /// The caller lost interest in an invocation.
    Interrupt {
        /// Which.
        invocation: InvocationId,
        /// Whether the callee's answer will still be passed on.
        answer_wanted: bool,
        /// Why.
        reason: InterruptReason,
    },
    /// A result of a call.
    Result {
        /// The call.
        request: RequestId,
        /// The values, shared because a realm answers by reference counts.
        payload: Arc<Payload>,
        /// More will follow.
        progress: bool,
    },
    /// A call that ended without a result.
    CallFailed {
        /// The call.
        request: RequestId,
        /// How.
        failure: CallFailure,
    },
    /// The receiver has the exactly-once delivery in this slot, and that is durable: it may let go
    /// of the id. Repeated to a new connection until it is settled.
    Release {
        /// The slot it still occupies.
        slot: Slot,
    },
    /// The router ended the subscription.
    Revoked {
        /// Which.
        subscription: SubscriptionId,
        /// Why, in a word.
        reason: ByteString,
    },
    /// The router ended the registration.
    Unregistered {
        /// Which.
        registration: RegistrationId,
        /// Why.
        reason: ByteString,
    },
    /// The session is over; nothing follows.
    Ended(EndReason),
}

/// Positive answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Subscribed.
    Subscribed {
        /// Its id.
        subscription: SubscriptionId,
        /// The assurance granted.
        qos: Qos,
    },
    /// Unsubscribed.
    Unsubscribed,
    /// Published and, where durable, on disk.
    Published {
        /// The event's id.
        publication: PublicationId,
        /// Whether anybody was subscribed.
        matched: bool,
    },
    /// Registered.
    Registered(RegistrationId),
    /// Unregistered.
    Unregistered,
    /// The message of a call was a repetition: the call is not made again, and nothing more comes
    /// for this one.
    Repeated,
    /// The receipt is forgotten; `false` if there was none.
    Released(bool),
}

/// One event for one session.
#[derive(Clone, Debug)]
pub struct EventDelivery {
    /// The event, shared.
    pub event: Arc<Event>,
    /// Which subscription matched; the first one where a session wants one copy only.
    pub subscription: SubscriptionId,
    /// The subscription named exactly this topic.
    pub exact: bool,
    /// The assurance of this delivery.
    pub qos: Qos,
    /// A replayed retained value.
    pub replayed: bool,
    /// The retain flag to show.
    pub retain: bool,
    /// The subscriber's own numbers of all matching subscriptions.
    pub identifiers: SmallVec<[u32; 2]>,
    /// Present when the receiver must settle it.
    pub slot: Option<Slot>,
    /// It was handed out before and not settled.
    pub repeated: bool,
    /// Deliveries dropped just before this one because the receiver's lane was full.
    pub lost: u32,
    /// Just before this one the subscriber misses what it asked to be shown of the past: it is not remembered any more.
    pub gap: bool,
    /// Who of a share group may receive it instead.
    pub handover: Handover,
}

/// Who of a share group may receive a delivery if its member cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Handover {
    /// Nobody: it is for this session alone.
    #[default]
    Nobody,
    /// Any member of the group of its subscription.
    AnyMember,
    /// Any member but the session that published it.
    NotPublisher,
}

impl Handover {
    /// Whether it stays with its session.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        *self == Handover::Nobody
    }
}

/// A call as its callee sees it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// To be returned with the answer.
    pub invocation: InvocationId,
    /// The callee's registration.
    pub registration: RegistrationId,
    /// The procedure called.
    pub procedure: Topic,
    /// The registration named exactly this procedure.
    pub exact: bool,
    /// Arguments.
    pub payload: Arc<Payload>,
    /// More of them will follow, under the same id.
    pub more: bool,
    /// Whether progressive results are wanted and allowed.
    pub progress: bool,
    /// How long it may take, if the callee is to watch over that.
    pub timeout: Option<Duration>,
    /// Who calls, if disclosed.
    pub caller: Option<(SessionId, ByteString, ByteString)>,
}

/// Why a callee is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptReason {
    /// The caller canceled the call, or went away.
    Canceled,
    /// The call took too long.
    Timeout,
    /// More arguments came than could be taken.
    TooMuch,
}

/// How a call failed.
#[derive(Clone, Debug)]
pub enum CallFailure {
    /// Refused or ended by the realm.
    Realm(Refusal),
    /// The callee's own error, unchanged.
    Callee {
        /// The error name.
        error: ByteString,
        /// Its arguments.
        payload: Arc<Payload>,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A newer connection of the same client took the session over.
    TakenOver,
    /// Somebody with the right to do so ended it.
    Killed {
        /// The reason name given.
        reason: ByteString,
        /// Words for a person.
        message: Option<ByteString>,
    },
    /// It did not read fast enough and its queue was full.
    TooSlow,
    /// It broke the rules between it and the realm.
    Violation(&'static str),
    /// The durable store refuses writes and the protocol has no other way to say so.
    StorageUnavailable,
    /// The router shuts down.
    Shutdown,
    /// The realm is gone.
    RealmClosed,
}
