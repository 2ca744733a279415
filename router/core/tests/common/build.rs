//! Commands in few words.

use bytes::Bytes;
use router_core::auth::{Action, Role, Rule};
use router_core::encoding::Encoding;
use router_core::model::{
    Args, Audience, Call, CancelMode, Command, InvocationFailed, InvocationId, InvokePolicy,
    LastWill, Level, MatchKind, Pattern, Payload, Publish, PublishOptions, Qos, Register,
    RegistrationId, RequestId, Slot, Subscribe, SubscriptionId, Topic, Unsubscribe,
    UnsubscribeTarget, WillScope,
};
use router_core::session::{ClientJoin, EventStyle, Features, Identity, Join};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub fn topic(text: &str) -> Topic {
    Topic::new(text.to_owned()).expect("a topic")
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::from_slashes(text).expect("a pattern")
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn slot(n: u16) -> Slot {
    Slot::new(n).expect("not zero")
}

/// These positional arguments (a list, or null for none at all).
pub fn args(list: &Value) -> Payload {
    both(list, &Value::Null)
}

/// Positional and keyword arguments; null for absent ones.
pub fn both(list: &Value, kwargs: &Value) -> Payload {
    let raw = |value: &Value| (!value.is_null()).then(|| Bytes::from(value.to_string()));
    Payload::args(
        Encoding::Json,
        Args {
            args: raw(list),
            kwargs: raw(kwargs),
        },
    )
}

pub fn raw(bytes: &'static [u8]) -> Payload {
    Payload::bytes(Bytes::from_static(bytes), false)
}

fn identity(authid: &str, role: Role) -> Arc<Identity> {
    Arc::new(Identity {
        authid: authid.into(),
        role: Arc::new(role),
        method: "anonymous".into(),
        provider: "static".into(),
        transport: [].into(),
    })
}

/// A session that wants everything in order.
pub fn ordered() -> Join {
    named("somebody", Role::unrestricted("anonymous"))
}

pub fn named(authid: &str, role: Role) -> Join {
    Join {
        identity: identity(authid, role),
        features: Features {
            progressive_results: true,
            call_canceling: true,
            progressive_invocations: true,
            progressive_calls: true,
            call_timeout: true,
            registration_revocation: true,
            subscription_revocation: true,
            ..Features::default()
        },
        style: EventStyle::Ordered,
        client: None,
    }
}

/// A role with rules, each `ACTION PATTERN`.
pub fn role(name: &str, allow: &[&str], deny: &[&str]) -> Role {
    let rules = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| {
                let (action, text) = line.split_once(' ').expect("ACTION PATTERN");
                let action = match action {
                    "publish" => Action::Publish,
                    "subscribe" => Action::Subscribe,
                    "call" => Action::Call,
                    "register" => Action::Register,
                    other => panic!("{other}"),
                };
                Rule {
                    action,
                    pattern: pattern(text),
                }
            })
            .collect()
    };
    Role::restricted(name.to_owned(), rules(allow), rules(deny))
}

/// A client with one copy of each event and lanes by assurance; it ends with its connection.
pub fn client(id: &str) -> Join {
    Join {
        identity: identity(id, Role::unrestricted("anonymous")),
        features: Features::default(),
        style: EventStyle::Lanes,
        client: Some(ClientJoin {
            id: id.into(),
            clean_start: false,
            expiry: Duration::ZERO,
            window: 10,
            last_will: None,
        }),
    }
}

pub trait JoinExt {
    fn expiry(self, secs: u64) -> Join;
    fn clean(self) -> Join;
    fn window(self, window: u16) -> Join;
    fn will(self, delay: u64, publish: Pub) -> Join;
    fn role(self, role: Role) -> Join;
    fn proven(self, authid: &str) -> Join;
    fn features(self, features: Features) -> Join;
}

impl JoinExt for Join {
    fn expiry(mut self, secs: u64) -> Join {
        self.client.as_mut().expect("a client").expiry = Duration::from_secs(secs);
        self
    }

    fn clean(mut self) -> Join {
        self.client.as_mut().expect("a client").clean_start = true;
        self
    }

    fn window(mut self, window: u16) -> Join {
        self.client.as_mut().expect("a client").window = window;
        self
    }

    fn will(mut self, delay: u64, publish: Pub) -> Join {
        let mut publish = publish.0;
        publish.exclude_me = false;
        self.client.as_mut().expect("a client").last_will = Some(LastWill {
            publish,
            delay: Duration::from_secs(delay),
        });
        self
    }

    fn role(mut self, role: Role) -> Join {
        Arc::make_mut(&mut self.identity).role = Arc::new(role);
        self
    }

    fn proven(mut self, authid: &str) -> Join {
        let identity = Arc::make_mut(&mut self.identity);
        identity.authid = authid.into();
        identity.method = "password".into();
        self
    }

    fn features(mut self, features: Features) -> Join {
        self.features = features;
        self
    }
}

/// A publish under construction.
pub struct Pub(pub Publish);

/// Publishes these positional arguments, unacknowledged.
pub fn publish(on: &str, list: Value) -> Pub {
    Pub(Publish::new(topic(on), args(&list)))
}

/// A retained, acknowledged publish.
pub fn put(request: u64, on: &str, list: Value) -> Pub {
    publish(on, list).ack(request).retain()
}

impl Pub {
    fn options(&mut self) -> &mut PublishOptions {
        self.0.options.get_or_insert_default()
    }

    pub fn ack(mut self, request: u64) -> Pub {
        self.0.request = Some(RequestId(request));
        self
    }

    pub fn retain(mut self) -> Pub {
        self.0.retain = true;
        self
    }

    pub fn payload(mut self, payload: Payload) -> Pub {
        self.0.payload = payload;
        self
    }

    pub fn qos(mut self, qos: u8) -> Pub {
        self.0.qos = qos_of(qos);
        self
    }

    pub fn echoed(mut self) -> Pub {
        self.0.exclude_me = false;
        self
    }

    pub fn receipt(mut self, id: u16) -> Pub {
        self.0.receipt = Some(slot(id));
        self
    }

    pub fn expires(mut self, secs: u64) -> Pub {
        self.0.expiry = Some(Duration::from_secs(secs));
        self
    }

    pub fn when(mut self, when: Value) -> Pub {
        self.options().when = Some(when);
        self
    }

    pub fn watch(mut self) -> Pub {
        self.options().watch = true;
        self
    }

    pub fn watch_for(mut self, timeout: Duration) -> Pub {
        self.options().watch_timeout = Some(timeout);
        self.watch()
    }

    pub fn will(mut self, will: Value) -> Pub {
        self.options().will = Some(will);
        self
    }

    pub fn if_lost(mut self) -> Pub {
        self.options().will_scope = WillScope::Lost;
        self
    }

    pub fn merge(mut self) -> Pub {
        self.options().merge = true;
        self
    }

    pub fn trace(mut self) -> Pub {
        self.options().trace = true;
        self
    }

    pub fn disclose(mut self) -> Pub {
        self.options().disclose_me = true;
        self
    }

    pub fn eligible(mut self, audience: Audience) -> Pub {
        self.options().eligible = Some(audience);
        self
    }

    pub fn exclude(mut self, audience: Audience) -> Pub {
        self.options().exclude = Some(audience);
        self
    }
}

impl From<Pub> for Command {
    fn from(publish: Pub) -> Command {
        Command::Publish(Box::new(publish.0))
    }
}

pub fn qos_of(qos: u8) -> Qos {
    match qos {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// A subscription under construction.
pub struct Sub(pub Subscribe);

/// Subscribes in the slash notation.
pub fn sub(request: u64, text: &str) -> Sub {
    let pattern = pattern(text);
    let mut subscribe = Subscribe::new(RequestId(request), pattern);
    if !subscribe.pattern.is_exact() {
        subscribe.kind = MatchKind::Levels;
    }
    Sub(subscribe)
}

/// Subscribes to a string prefix.
pub fn sub_prefix(request: u64, text: &str) -> Sub {
    let pattern = Pattern::prefix(text).expect("a prefix");
    let mut subscribe = Subscribe::new(RequestId(request), pattern);
    subscribe.kind = MatchKind::Prefix;
    Sub(subscribe)
}

impl Sub {
    pub fn qos(mut self, qos: u8) -> Sub {
        self.0.qos = qos_of(qos);
        self
    }

    pub fn kind(mut self, kind: MatchKind) -> Sub {
        self.0.kind = kind;
        self
    }

    pub fn no_local(mut self) -> Sub {
        self.0.no_local = true;
        self
    }

    pub fn showing_retain(mut self) -> Sub {
        self.0.retain_as_published = true;
        self
    }

    pub fn retained(mut self) -> Sub {
        self.0.retained = true;
        self
    }

    pub fn if_new(mut self) -> Sub {
        self.0.retained_if_new = true;
        self
    }

    pub fn identifier(mut self, number: u32) -> Sub {
        self.0.identifier = Some(number);
        self
    }

    /// As a member of a share group.
    pub fn share(mut self, group: &str) -> Sub {
        self.0.share = Some(group.into());
        self
    }

    pub fn filter(mut self, filter: Value) -> Sub {
        self.0.filter = Some(filter);
        self
    }

    pub fn after(mut self, position: u64) -> Sub {
        self.0.after = Some(position);
        self
    }

    pub fn snapshot(mut self) -> Sub {
        self.0.snapshot = true;
        self
    }
}

impl From<Sub> for Command {
    fn from(sub: Sub) -> Command {
        Command::Subscribe(Box::new(sub.0))
    }
}

pub fn unsub(request: u64, id: u64) -> Command {
    Command::Unsubscribe(Box::new(Unsubscribe {
        request: RequestId(request),
        target: UnsubscribeTarget::Id(SubscriptionId(id)),
    }))
}

pub fn unsub_pattern(request: u64, text: &str) -> Command {
    Command::Unsubscribe(Box::new(Unsubscribe {
        request: RequestId(request),
        target: UnsubscribeTarget::Pattern {
            pattern: pattern(text),
            share: None,
        },
    }))
}

pub fn unsub_share(request: u64, group: &str, text: &str) -> Command {
    Command::Unsubscribe(Box::new(Unsubscribe {
        request: RequestId(request),
        target: UnsubscribeTarget::Pattern {
            pattern: pattern(text),
            share: Some(group.into()),
        },
    }))
}

pub fn register(request: u64, procedure: &str) -> Command {
    shared(request, procedure, InvokePolicy::Single, None)
}

pub fn shared(
    request: u64,
    procedure: &str,
    policy: InvokePolicy,
    concurrency: Option<u32>,
) -> Command {
    Command::Register(Box::new(Register {
        policy,
        concurrency,
        ..Register::new(RequestId(request), topic(procedure))
    }))
}

/// A registration under construction.
pub struct Reg(pub Register);

/// Offers a procedure, or with empty levels a pattern of them.
pub fn reg(request: u64, kind: MatchKind, text: &str) -> Reg {
    let level = |level: &str| match level {
        "" => Level::One,
        text => Level::Exact(text.into()),
    };
    let pattern = match kind {
        MatchKind::Prefix => Pattern::prefix(text).expect("a prefix"),
        MatchKind::Wildcard => {
            Pattern::from_levels(text.split('/').map(level).collect()).expect("a pattern")
        }
        _ => Pattern::Exact(topic(text)),
    };
    Reg(Register {
        pattern,
        kind,
        ..Register::new(RequestId(request), topic("unused"))
    })
}

impl Reg {
    pub fn policy(mut self, policy: InvokePolicy) -> Reg {
        self.0.policy = policy;
        self
    }

    pub fn concurrency(mut self, most: u32) -> Reg {
        self.0.concurrency = Some(most);
        self
    }

    pub fn force(mut self) -> Reg {
        self.0.force = true;
        self
    }

    pub fn told_who_calls(mut self) -> Reg {
        self.0.disclose_caller = true;
        self
    }

    pub fn keeping_time(mut self) -> Reg {
        self.0.forward_timeout = true;
        self
    }
}

impl From<Reg> for Command {
    fn from(reg: Reg) -> Command {
        Command::Register(Box::new(reg.0))
    }
}

pub fn unregister(request: u64, registration: u64) -> Command {
    Command::Unregister {
        request: RequestId(request),
        registration: RegistrationId(registration),
    }
}

pub fn call(request: u64, procedure: &str, list: Value) -> Command {
    call_with(request, procedure, list, false, None)
}

pub fn call_with(
    request: u64,
    procedure: &str,
    list: Value,
    progress: bool,
    timeout: Option<Duration>,
) -> Command {
    Command::Call(Box::new(Call {
        request: RequestId(request),
        procedure: topic(procedure),
        payload: args(&list),
        progress,
        more: false,
        timeout,
        disclose_me: false,
    }))
}

/// A part of the arguments of a call; `more` says whether others follow.
pub fn part(request: u64, procedure: &str, list: Value, more: bool) -> Command {
    Command::Call(Box::new(Call {
        request: RequestId(request),
        procedure: topic(procedure),
        payload: args(&list),
        progress: false,
        more,
        timeout: None,
        disclose_me: false,
    }))
}

pub fn cancel(request: u64, mode: CancelMode) -> Command {
    Command::Cancel {
        request: RequestId(request),
        mode,
    }
}

pub fn answer(invocation: u64, list: Value) -> Command {
    Command::Yield {
        invocation: InvocationId(invocation),
        payload: Arc::new(args(&list)),
        progress: false,
    }
}

pub fn progress(invocation: u64, list: Value) -> Command {
    Command::Yield {
        invocation: InvocationId(invocation),
        payload: Arc::new(args(&list)),
        progress: true,
    }
}

pub fn fails(invocation: u64, error: &str, list: Value) -> Command {
    Command::InvocationFailed(Box::new(InvocationFailed {
        invocation: InvocationId(invocation),
        error: error.into(),
        payload: args(&list),
    }))
}

pub fn settle(n: u16) -> Command {
    Command::Settle { slot: slot(n) }
}

pub fn advance(n: u16) -> Command {
    Command::Advance { slot: slot(n) }
}

pub fn release_receipt(request: u64, n: u16) -> Command {
    Command::ReleaseReceipt {
        request: RequestId(request),
        receipt: slot(n),
    }
}
