//! What a gate may ask of a realm in the name of a session.

use super::{
    Attributes, InvocationId, Pattern, Payload, Qos, RegistrationId, RequestId, SessionId, Slot,
    SubscriptionId, Topic,
};
use bytestring::ByteString;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// One request. Every command with a [`RequestId`] is answered exactly once by
/// [`Delivery::Done`](super::Delivery::Done), [`Refused`](super::Delivery::Refused), or for calls by
/// [`Result`](super::Delivery::Result) / [`CallFailed`](super::Delivery::CallFailed).
///
/// It passes through several hands, so what is large is in boxes.
#[derive(Debug)]
pub enum Command {
    /// Receive what matches.
    Subscribe(Box<Subscribe>),
    /// Stop receiving.
    Unsubscribe(Box<Unsubscribe>),
    /// Say something to everybody who listens, and perhaps keep it.
    Publish(Box<Publish>),
    /// Offer a procedure.
    Register(Box<Register>),
    /// Withdraw it.
    Unregister {
        /// Echoed in the answer.
        request: RequestId,
        /// As answered to the registration.
        registration: RegistrationId,
    },
    /// Call a procedure.
    Call(Box<Call>),
    /// Call a procedure by a message that is acknowledged for itself, whatever becomes of the call.
    CallMessage(Box<CallMessage>),
    /// Withdraw a call.
    Cancel {
        /// The call.
        request: RequestId,
        /// What becomes of the callee.
        mode: CancelMode,
    },
    /// A callee's result.
    Yield {
        /// Which invocation.
        invocation: InvocationId,
        /// The values.
        payload: Arc<Payload>,
        /// More will follow.
        progress: bool,
    },
    /// A callee's error, passed to the caller unchanged.
    InvocationFailed(Box<InvocationFailed>),
    /// The receiver has a delivery safely; its slot is free again.
    Settle {
        /// As given with the delivery.
        slot: Slot,
    },
    /// The receiver has an exactly-once delivery. Answered by
    /// [`Delivery::Release`](super::Delivery::Release).
    Advance {
        /// As given with the delivery.
        slot: Slot,
    },
    /// Forget an incoming exactly-once message id.
    ReleaseReceipt {
        /// Echoed in the answer.
        request: RequestId,
        /// As given with the publish.
        receipt: Slot,
    },
    /// Forget the last will: the session ends as intended.
    DisarmLastWill,
    /// How long a durable session outlives its connection, from now on.
    SetExpiry(Duration),
}

/// A call.
#[derive(Debug)]
pub struct Call {
    /// Echoed in every result; unique among the open requests of the session, but for the parts
    /// of one call.
    pub request: RequestId,
    /// What to call.
    pub procedure: Topic,
    /// Arguments.
    pub payload: Payload,
    /// Whether progressive results are wanted.
    pub progress: bool,
    /// More arguments will follow, in calls with the same request; of those only this flag and
    /// the payload count.
    pub more: bool,
    /// Give up after this long.
    pub timeout: Option<Duration>,
    /// Whether the callee may learn who calls.
    pub disclose_me: bool,
}

/// How a callee fails an invocation.
#[derive(Debug)]
pub struct InvocationFailed {
    /// Which invocation.
    pub invocation: InvocationId,
    /// The callee's error name.
    pub error: ByteString,
    /// Its arguments.
    pub payload: Payload,
}

/// A call that comes as a message. The message is answered like a publish: with
/// [`Answer::Published`](super::Answer::Published) once the call is begun, or a refusal, after which
/// the call fails too. A repetition of an exactly-once message is answered and not called again:
/// all that comes of its call is [`Answer::Repeated`](super::Answer::Repeated).
#[derive(Debug)]
pub struct CallMessage {
    /// Present when the message is to be acknowledged.
    pub acknowledge: Option<RequestId>,
    /// The message's exactly-once id.
    pub receipt: Option<Slot>,
    /// Echoed in every result of the call.
    pub request: RequestId,
    /// What to call.
    pub procedure: Topic,
    /// Arguments.
    pub payload: Payload,
    /// Whether progressive results are wanted.
    pub progress: bool,
    /// Give up after this long.
    pub timeout: Option<Duration>,
}

/// A subscription request.
#[derive(Debug)]
pub struct Subscribe {
    /// Echoed in the answer.
    pub request: RequestId,
    /// What to match.
    pub pattern: Pattern,
    /// Who asked how: a label that keeps e.g. two spellings of the same set apart.
    pub kind: MatchKind,
    /// The best assurance wanted.
    pub qos: Qos,
    /// Not what this same client published (by client identity, across its sessions).
    pub no_local: bool,
    /// Keep the publisher's retain flag on live deliveries.
    pub retain_as_published: bool,
    /// Replay retained values now.
    pub retained: bool,
    /// ... but only if the subscription is new.
    pub retained_if_new: bool,
    /// A number of the subscriber's own, returned with each delivery.
    pub identifier: Option<u32>,
    /// The group it joins: each event goes to one member of the group only, and nothing is
    /// replayed.
    pub share: Option<ByteString>,
    /// Only events whose body value fits.
    pub filter: Option<Value>,
    /// Replay traced history after this publication first.
    pub after: Option<u64>,
    /// Replay only, then end the subscription.
    pub snapshot: bool,
}

impl Subscribe {
    /// A plain subscription to `pattern`.
    #[must_use]
    pub fn new(request: RequestId, pattern: Pattern) -> Subscribe {
        Subscribe {
            request,
            pattern,
            kind: MatchKind::Exact,
            qos: Qos::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retained: false,
            retained_if_new: false,
            identifier: None,
            share: None,
            filter: None,
            after: None,
            snapshot: false,
        }
    }
}

/// In which notation a pattern was asked for; subscriptions differ by it even where sets are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatchKind {
    /// A concrete topic.
    #[default]
    Exact,
    /// A string prefix.
    Prefix,
    /// Empty components are wildcards.
    Wildcard,
    /// `*`/`+` and `#`.
    Levels,
}

impl MatchKind {
    /// Every notation.
    pub const ALL: [MatchKind; 4] = [
        MatchKind::Exact,
        MatchKind::Prefix,
        MatchKind::Wildcard,
        MatchKind::Levels,
    ];
}

/// The end of a subscription.
#[derive(Debug)]
pub struct Unsubscribe {
    /// Echoed in the answer.
    pub request: RequestId,
    /// Which subscription.
    pub target: UnsubscribeTarget,
}

/// Names a subscription of the session.
#[derive(Clone, Debug)]
pub enum UnsubscribeTarget {
    /// By the id answered.
    Id(SubscriptionId),
    /// By what was asked for.
    Pattern {
        /// The pattern.
        pattern: Pattern,
        /// The group, if it was joined as a member of one.
        share: Option<ByteString>,
    },
}

/// A publish request.
#[derive(Debug)]
pub struct Publish {
    /// Present when an answer is wanted.
    pub request: Option<RequestId>,
    /// Where.
    pub topic: Topic,
    /// What.
    pub payload: Payload,
    /// Assurance towards receivers.
    pub qos: Qos,
    /// Keep it under its topic.
    pub retain: bool,
    /// Not back to the publishing session.
    pub exclude_me: bool,
    /// An incoming exactly-once id: while the session remembers it, the same publish is only
    /// answered, not repeated.
    pub receipt: Option<Slot>,
    /// Seconds until nobody wants it any more, from now.
    pub expiry: Option<Duration>,
    /// What travels beside the payload.
    pub attributes: Option<Box<Attributes>>,
    /// Everything that ordinary publishes do without.
    pub options: Option<Box<PublishOptions>>,
}

impl Publish {
    /// An ordinary publish: not acknowledged, not kept, at most once.
    #[must_use]
    pub fn new(topic: Topic, payload: Payload) -> Publish {
        Publish {
            request: None,
            topic,
            payload,
            qos: Qos::AtMostOnce,
            retain: false,
            exclude_me: true,
            receipt: None,
            expiry: None,
            attributes: None,
            options: None,
        }
    }
}

/// The uncommon options of a publish.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Tell receivers who published.
    pub disclose_me: bool,
    /// Not to these.
    pub exclude: Option<Audience>,
    /// Only to these.
    pub eligible: Option<Audience>,
    /// Append to the traced history.
    pub trace: bool,
    /// Store only if the stored value fits; `Some(Null)` means the key is absent.
    pub when: Option<Value>,
    /// Wait until the condition holds instead of failing.
    pub watch: bool,
    /// ... at most this long.
    pub watch_timeout: Option<Duration>,
    /// What to store when this session ends; `Some(Null)` deletes.
    pub will: Option<Value>,
    /// On which ends.
    pub will_scope: WillScope,
    /// JSON merge patch (RFC 7396) onto the stored value instead of replacing it.
    pub merge: bool,
}

/// On which session ends a stored will applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WillScope {
    /// Any end.
    #[default]
    Any,
    /// Only when the connection was lost.
    Lost,
}

/// A list of receivers by any of three names. In an eligible list each present part must contain
/// the receiver; in an exclude list no present part may.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Audience {
    /// By session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionId>>,
    /// By authenticated name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authids: Option<Vec<ByteString>>,
    /// By role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<ByteString>>,
}

/// Who may receive an event, live or later.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Admission {
    /// Not these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Audience>,
    /// Only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible: Option<Audience>,
    /// Only those who may read this topic too, because it is what the event tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Topic>,
}

impl Admission {
    /// What the options of a publish say; `None`: everybody may.
    #[must_use]
    pub fn of(options: &PublishOptions) -> Option<Box<Admission>> {
        let (exclude, eligible) = (&options.exclude, &options.eligible);
        (exclude.is_some() || eligible.is_some()).then(|| {
            Box::new(Admission {
                exclude: exclude.clone(),
                eligible: eligible.clone(),
                about: None,
            })
        })
    }

    /// Whether sessions are named in it, which mean nothing once they have ended.
    #[must_use]
    pub fn names_sessions(&self) -> bool {
        let mut lists = [&self.exclude, &self.eligible].into_iter().flatten();
        lists.any(|audience| audience.sessions.is_some())
    }
}

/// A registration request.
#[derive(Debug)]
pub struct Register {
    /// Echoed in the answer.
    pub request: RequestId,
    /// What is offered.
    pub pattern: Pattern,
    /// In which notation it was asked for: the same set in two notations is two registrations.
    pub kind: MatchKind,
    /// How callees of one procedure share its calls.
    pub policy: InvokePolicy,
    /// The most invocations outstanding at this callee; `None`: unlimited.
    pub concurrency: Option<u32>,
    /// Take the place of whoever holds the registration, whatever the policies.
    pub force: bool,
    /// Be told who calls.
    pub disclose_caller: bool,
    /// Be told the timeout of each call, and watch over it oneself.
    pub forward_timeout: bool,
}

impl Register {
    /// A plain offer of one procedure.
    #[must_use]
    pub fn new(request: RequestId, procedure: Topic) -> Register {
        Register {
            request,
            pattern: Pattern::Exact(procedure),
            kind: MatchKind::Exact,
            policy: InvokePolicy::Single,
            concurrency: None,
            force: false,
            disclose_caller: false,
            forward_timeout: false,
        }
    }
}

/// How several callees share one procedure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvokePolicy {
    /// One callee only.
    #[default]
    Single,
    /// In turn.
    RoundRobin,
    /// By chance.
    Random,
    /// The oldest registration.
    First,
    /// The newest registration.
    Last,
    /// The oldest with a free slot: what `concurrency` without a policy means.
    FirstFree,
}

/// What a cancel does to the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelMode {
    /// Error to the caller now, nothing to the callee.
    Skip,
    /// Interrupt; the caller gets what the callee finally sends.
    Kill,
    /// Error to the caller now and interrupt.
    KillNoWait,
}

/// A message to be published when the connection ends otherwise than intended.
#[derive(Debug)]
pub struct LastWill {
    /// The message.
    pub publish: Publish,
    /// Wait this long for the session to be resumed.
    pub delay: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_moved_in_a_few_instructions() {
        let size = size_of::<Command>();
        assert!(size <= 32, "{size}");
    }
}
