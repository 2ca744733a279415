//! Machines around a real realm, in one thread and without a clock: what the driver does, made
//! synchronous.

use bytes::Bytes;
use bytestring::ByteString;
use protocols::gate::{
    Action, Credentials, Gate as _, Input, JoinError, JoinRequest, JoinedAs, Output,
};
use protocols::wamp::machine::{Serialization, WampMachine, WampOptions, subprotocol_of};
use protocols::wamp::map;
use router_core::auth::{Disclosure, Role, Rule};
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::encoding::transcode::transcode;
use router_core::history::{HistoryRule, HistorySettings};
use router_core::limits::RealmLimits;
use router_core::model::{
    Attributes, Command, Delivery, EndReason, EventDelivery, MatchKind, Now, Pattern, Payload,
    Publish, Qos, RequestId, Subscribe, Topic,
};
use router_core::outbox::Outbox;
use router_core::realm::{Effects, IdClock, Realm, Settings};
use router_core::session::{Connection, EventStyle, Features, Identity, Join, Leave};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client's place in the world.
pub type Peer = usize;

/// What a client that can do everything says first.
pub const HELLO: &str = r#"[1,"realm1",{"agent":"test","roles":{
    "publisher":{"features":{}},
    "subscriber":{"features":{"subscription_revocation":true}},
    "caller":{"features":{"progressive_call_results":true,"progressive_call_invocations":true}},
    "callee":{"features":{"progressive_call_results":true,"call_canceling":true,
        "progressive_call_invocations":true,"call_timeout":true,
        "registration_revocation":true}}}}]"#;

/// The first elements of a message.
pub fn head(message: &Value, len: usize) -> Value {
    message
        .as_array()
        .unwrap()
        .iter()
        .take(len)
        .cloned()
        .collect()
}

/// The positional arguments of the events received.
pub fn args_of(events: &[Value]) -> Vec<Value> {
    events
        .iter()
        .map(|event| {
            assert_eq!(event[0], 36, "{event}");
            event.get(4).cloned().unwrap_or(Value::Null)
        })
        .collect()
}

/// The connection of one client, seen from its end.
pub struct Wire {
    machine: WampMachine,
    encoding: Encoding,
    protocol: &'static str,
    seat: Option<(Connection, Arc<Outbox>)>,
    /// The realm has said its last word to the session.
    is_over: bool,
    is_lost: bool,
    /// It takes nothing from the transport.
    is_stuck: bool,
    /// How the sessions of this connection left.
    pub left: Vec<Leave>,
    frames: VecDeque<Bytes>,
    /// Code and reason of the close.
    pub closed: Option<(u16, &'static str)>,
}

/// A realm and its clients.
pub struct World {
    pub realm: Realm,
    pub now: Now,
    pub wires: Vec<Wire>,
    /// The answer to the next joins, if not the usual one.
    pub refusal: Option<JoinError>,
    /// Joins are asked for, but not answered.
    pub is_door_stuck: bool,
    pub stuck: Vec<(Peer, JoinRequest)>,
    effects: Effects,
    device: Option<(Connection, Arc<Outbox>)>,
}

impl World {
    pub fn new() -> World {
        World::with_limits(RealmLimits::default())
    }

    pub fn with_limits(limits: RealmLimits) -> World {
        World::with(limits, Vec::new())
    }

    /// A realm that remembers what these rules name.
    pub fn with(limits: RealmLimits, history: Vec<HistoryRule>) -> World {
        let settings = Settings {
            name: "realm1".into(),
            limits,
            naming: map::naming(),
            durable: false,
            sharing: router_core::broker::Sharing::default(),
            history: HistorySettings {
                traced: None,
                rules: history,
            },
        };
        let ids = Arc::new(IdClock::new(0));
        // Publication ids follow the clock, as after a lease.
        ids.lease_granted(1 << 53);
        World {
            realm: Realm::new(settings, ids, 7),
            now: Now {
                instant: Instant::now(),
                unix_ms: 1_800_000_000_000,
            },
            wires: Vec::new(),
            refusal: None,
            is_door_stuck: false,
            stuck: Vec::new(),
            effects: Effects::default(),
            device: None,
        }
    }

    /// A transport, on which nothing was said yet.
    pub fn connect(&mut self, serialization: impl Into<Serialization>) -> Peer {
        self.connect_with(serialization, WampOptions::default())
    }

    pub fn connect_with(
        &mut self,
        serialization: impl Into<Serialization>,
        options: WampOptions,
    ) -> Peer {
        let serialization = serialization.into();
        self.wires.push(Wire {
            machine: WampMachine::new(self.now, serialization, options),
            encoding: serialization.encoding,
            protocol: subprotocol_of(serialization),
            seat: None,
            is_over: false,
            is_lost: false,
            is_stuck: false,
            left: Vec::new(),
            frames: VecDeque::new(),
            closed: None,
        });
        self.wires.len() - 1
    }

    /// An open session.
    pub fn join(&mut self, encoding: Encoding) -> Peer {
        self.join_saying(encoding, HELLO)
    }

    pub fn json(&mut self) -> Peer {
        self.join(Json)
    }

    /// An open session that began with this HELLO.
    pub fn join_saying(&mut self, encoding: Encoding, hello: &str) -> Peer {
        let peer = self.connect(encoding);
        self.send_text(peer, hello);
        let welcome = self.one(peer);
        assert_eq!(welcome[0], 2, "{welcome}");
        peer
    }

    /// An open session with a name and a role, by ticket.
    pub fn join_as(&mut self, authid: &str) -> Peer {
        let peer = self.connect(Json);
        let hello: Value = serde_json::from_str(HELLO).unwrap();
        let mut details = hello[2].clone();
        details["authmethods"] = json!(["ticket"]);
        details["authid"] = json!(authid);
        self.send(peer, json!([1, "realm1", details]));
        assert_eq!(self.one(peer), json!([4, "ticket", {}]));
        self.send(peer, json!([5, format!("{authid}-secret"), {}]));
        assert_eq!(self.one(peer)[0], 2);
        peer
    }

    pub fn session(&self, peer: Peer) -> u64 {
        self.wires[peer].seat.as_ref().unwrap().0.session.0
    }

    pub fn send(&mut self, peer: Peer, message: Value) {
        self.send_text(peer, &message.to_string());
    }

    /// Sends JSON text, in the client's own encoding.
    pub fn send_text(&mut self, peer: Peer, message: &str) {
        let encoding = self.wires[peer].encoding;
        let frame = transcode(&Bytes::copy_from_slice(message.as_bytes()), Json, encoding).unwrap();
        self.input(
            peer,
            match encoding {
                Json => Input::Text(frame),
                MsgPack | Cbor => Input::Binary(frame),
            },
        );
    }

    pub fn input(&mut self, peer: Peer, input: Input<'_>) {
        let wire = &mut self.wires[peer];
        // After a close the driver reads no more, but the machine must not mind.
        wire.machine.handle_input(self.now, input);
        self.pump();
    }

    /// Several frames that the transport read at once.
    pub fn send_batch(&mut self, peer: Peer, messages: &[&str]) {
        for message in messages {
            let frame = Bytes::copy_from_slice(message.as_bytes());
            self.wires[peer]
                .machine
                .handle_input(self.now, Input::Text(frame));
        }
        self.pump();
    }

    /// The transport breaks.
    pub fn lose(&mut self, peer: Peer) {
        self.wires[peer].is_lost = true;
        self.input(peer, Input::Closed);
    }

    /// The client takes nothing any more, so that its outbox fills.
    pub fn stop_reading(&mut self, peer: Peer) {
        self.wires[peer].is_stuck = true;
    }

    /// The transport is lost or closed, without a close from the router.
    pub fn is_lost(&self, peer: Peer) -> bool {
        self.wires[peer].is_lost
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.realm.tick(self.now, &mut self.effects);
        for wire in &mut self.wires {
            if wire
                .machine
                .poll_timeout()
                .is_some_and(|at| at <= self.now.instant)
            {
                wire.machine.handle_timeout(self.now);
            }
        }
        self.pump();
    }

    /// The client's deadline, as the driver would ask for it.
    pub fn deadline(&self, peer: Peer) -> Option<Duration> {
        let at = self.wires[peer].machine.poll_timeout()?;
        Some(at.saturating_duration_since(self.now.instant))
    }

    pub fn close_realm(&mut self, reason: &EndReason) {
        self.realm.close(self.now, reason, &mut self.effects);
        self.pump();
    }

    /// Everything received, as values.
    pub fn take(&mut self, peer: Peer) -> Vec<Value> {
        let texts = self.take_texts(peer);
        texts
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    }

    /// Everything received, as JSON text; for JSON clients the very bytes.
    pub fn take_texts(&mut self, peer: Peer) -> Vec<String> {
        let encoding = self.wires[peer].encoding;
        let text = |frame: Bytes| transcode(&frame, encoding, Json).unwrap().to_vec();
        let frames = self.take_frames(peer);
        frames
            .into_iter()
            .map(|frame| String::from_utf8(text(frame)).unwrap())
            .collect()
    }

    pub fn take_frames(&mut self, peer: Peer) -> Vec<Bytes> {
        self.wires[peer].frames.drain(..).collect()
    }

    /// The only message received.
    pub fn one(&mut self, peer: Peer) -> Value {
        let mut all = self.take(peer);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Sends, and takes the only answer.
    pub fn ask(&mut self, peer: Peer, message: Value) -> Value {
        self.send(peer, message);
        self.one(peer)
    }

    /// Subscribes, and answers the subscription's id.
    pub fn subscribe(&mut self, peer: Peer, topic: &str, options: Value) -> u64 {
        let answer = self.ask(peer, json!([32, 900, options, topic]));
        assert_eq!(answer[0], 33, "{answer}");
        assert_eq!(answer[1], 900);
        answer[2].as_u64().unwrap()
    }

    /// Registers, and answers the registration's id.
    pub fn register(&mut self, peer: Peer, procedure: &str, options: Value) -> u64 {
        let answer = self.ask(peer, json!([64, 901, options, procedure]));
        assert_eq!(answer[0], 65, "{answer}");
        answer[2].as_u64().unwrap()
    }

    /// Publishes with acknowledgement, and answers the publication's id.
    pub fn publish(&mut self, peer: Peer, topic: &str, mut options: Value, tail: &[Value]) -> u64 {
        options["acknowledge"] = json!(true);
        let mut message = vec![json!(16), json!(902), options, json!(topic)];
        message.extend_from_slice(tail);
        let answer = self.ask(peer, Value::Array(message));
        assert_eq!(answer[0], 17, "{answer}");
        answer[2].as_u64().unwrap()
    }

    /// What `fox.kv.get` says about a key.
    pub fn read(&mut self, peer: Peer, key: &str) -> Value {
        let result = self.ask(peer, json!([48, 990, {}, "fox.kv.get", [key]]));
        assert_eq!(head(&result, 3), json!([50, 990, {}]), "{result}");
        assert_eq!(
            result[3].as_array().unwrap().len(),
            1,
            "one positional dict"
        );
        result[3][0].clone()
    }

    /// Publishes with acknowledgement, and leaves what comes back to be taken.
    pub fn publish_quietly(&mut self, peer: Peer, topic: &str, mut options: Value) {
        options["acknowledge"] = json!(true);
        self.send(peer, json!([16, 903, options, topic]));
    }

    /// A client of a protocol with opaque bytes.
    fn device(&mut self) -> Connection {
        if let Some((device, _)) = &self.device {
            return *device;
        }
        let identity = identity("device", Role::unrestricted("anonymous"), "anonymous");
        let (features, style) = (Features::default(), EventStyle::Lanes);
        let join = Join {
            identity,
            features,
            style,
            client: None,
        };
        let joined = self.realm.join(self.now, join, &mut self.effects).unwrap();
        self.device = Some((joined.connection, joined.outbox));
        joined.connection
    }

    /// Such a client subscribes.
    pub fn device_subscribes(&mut self, filter: &str) {
        self.device_shares(filter, None);
    }

    /// ... as a member of a group.
    pub fn device_shares(&mut self, filter: &str, group: Option<&str>) {
        let device = self.device();
        let pattern = Pattern::from_slashes(filter).unwrap();
        let is_exact = pattern.is_exact();
        let subscribe = Subscribe {
            kind: if is_exact {
                MatchKind::Exact
            } else {
                MatchKind::Levels
            },
            qos: Qos::ExactlyOnce,
            share: group.map(Into::into),
            ..Subscribe::new(RequestId(1), pattern)
        };
        let command = Command::Subscribe(Box::new(subscribe));
        self.realm
            .handle(self.now, device, command, &mut self.effects);
        self.pump();
    }

    /// The events such a client received.
    pub fn device_takes(&mut self) -> Vec<EventDelivery> {
        let (device, outbox) = self.device.as_ref().unwrap();
        let mut deliveries = Vec::new();
        outbox.drain(device.generation, 100, self.now.unix_ms, &mut deliveries);
        let event = |delivery| match delivery {
            Delivery::Event(event) => Some(event),
            _ => None,
        };
        deliveries.into_iter().filter_map(event).collect()
    }

    /// What a client of a protocol with opaque bytes publishes.
    pub fn device_publishes(
        &mut self,
        topic: &str,
        data: &[u8],
        (qos, retain): (Qos, bool),
        attributes: Option<Attributes>,
        expiry: Option<Duration>,
    ) {
        let device = self.device();
        let topic = Topic::new(topic.to_owned()).unwrap();
        let publish = Publish {
            qos,
            retain,
            expiry,
            attributes: attributes.map(Box::new),
            ..Publish::new(topic, Payload::bytes(Bytes::copy_from_slice(data), false))
        };
        let command = Command::Publish(Box::new(publish));
        self.realm
            .handle(self.now, device, command, &mut self.effects);
        self.pump();
    }

    /// The driver's work, until nothing is left to do.
    pub fn pump(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for peer in 0..self.wires.len() {
                is_busy |= self.carry_out(peer);
                is_busy |= self.hand_over(peer);
                is_busy |= self.flush(peer);
                is_busy |= self.wires[peer].machine.handle_more(self.now);
            }
            assert!(self.effects.batch.is_empty(), "nothing here is durable");
            self.effects.wake.clear();
            self.effects.pressed.clear();
        }
    }

    fn carry_out(&mut self, peer: Peer) -> bool {
        let mut is_busy = false;
        while let Some(action) = self.wires[peer].machine.poll_action() {
            is_busy = true;
            match action {
                Action::Join(request) if self.is_door_stuck => self.stuck.push((peer, *request)),
                Action::Join(request) => self.admit(peer, *request),
                Action::Authenticate(_) => panic!("this gate opens no exchange"),
                Action::Command(command) => {
                    let (connection, _) = *self.wires[peer].seat.as_ref().expect("a session");
                    self.realm
                        .handle(self.now, connection, command, &mut self.effects);
                }
                Action::Leave(how) => {
                    let (connection, _) = self.wires[peer].seat.take().expect("a session");
                    self.wires[peer].left.push(how);
                    self.realm
                        .leave(self.now, connection, how, &mut self.effects);
                }
            }
        }
        is_busy
    }

    /// Answers a join, as the router's door does.
    pub fn admit(&mut self, peer: Peer, request: JoinRequest) {
        assert_eq!(request.style, EventStyle::Ordered);
        assert_eq!(request.protocol, self.wires[peer].protocol);
        let answer = self.identify(&request).and_then(|identity| {
            let joined = JoinedAs {
                session: router_core::model::SessionId(0),
                realm: request.realm.clone().unwrap(),
                authid: identity.authid.clone(),
                role: identity.role.name.clone(),
                method: identity.method.clone(),
                provider: identity.provider.clone(),
            };
            let (features, style) = (request.features, request.style);
            let join = Join {
                identity,
                features,
                style,
                client: None,
            };
            let admitted = self.realm.join(self.now, join, &mut self.effects);
            let admitted = admitted.map_err(|_| JoinError::TooMany)?;
            let session = admitted.connection.session;
            self.wires[peer].seat = Some((admitted.connection, admitted.outbox));
            self.wires[peer].is_over = false;
            Ok(JoinedAs { session, ..joined })
        });
        self.wires[peer].machine.handle_joined(self.now, answer);
    }

    fn identify(&self, request: &JoinRequest) -> Result<Arc<Identity>, JoinError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if request.realm.as_deref() != Some("realm1") {
            return Err(JoinError::NoSuchRealm);
        }
        match &request.credentials {
            Credentials::Anonymous { authid } => {
                let authid = authid.as_deref().unwrap_or("anonymous-1");
                Ok(identity(
                    authid,
                    Role::unrestricted("anonymous"),
                    "anonymous",
                ))
            }
            Credentials::Secret { authid, secret } => {
                if *secret != format!("{authid}-secret") {
                    return Err(JoinError::BadCredentials);
                }
                let role = match &**authid {
                    "guest" => guest_role(),
                    "watcher" => watcher_role(),
                    "nobody" => Role::unrestricted("user").disclosing(Disclosure::Deny),
                    "herald" => Role::unrestricted("user").disclosing(Disclosure::Always),
                    _ => Role::unrestricted("user"),
                };
                Ok(identity(authid, role, "ticket"))
            }
            Credentials::Exchange { .. } => Err(JoinError::BadCredentials),
        }
    }

    fn hand_over(&mut self, peer: Peer) -> bool {
        let wire = &self.wires[peer];
        let is_read = !wire.is_over && !wire.is_stuck;
        let Some((connection, outbox)) = wire.seat.clone().filter(|_| is_read) else {
            return false;
        };
        let mut deliveries = Vec::new();
        let drained = outbox.drain(connection.generation, 64, self.now.unix_ms, &mut deliveries);
        let is_busy = !deliveries.is_empty();
        let has_ended = matches!(deliveries.last(), Some(Delivery::Ended(_)));
        for delivery in deliveries {
            self.wires[peer].machine.handle_delivery(self.now, delivery);
        }
        self.wires[peer].is_over = has_ended;
        if drained.refill {
            self.realm.refill(self.now, connection, &mut self.effects);
        }
        is_busy
    }

    fn flush(&mut self, peer: Peer) -> bool {
        let wire = &mut self.wires[peer];
        let mut is_busy = false;
        while let Some(output) = wire.machine.poll_output() {
            is_busy = true;
            assert_eq!(wire.closed, None, "{output:?} after the close");
            match (output, wire.encoding) {
                (Output::Text(frame), Json) | (Output::Bytes(frame), MsgPack | Cbor) => {
                    wire.frames.push_back(frame);
                }
                (Output::Close { code, reason }, _) => wire.closed = Some((code, reason)),
                (other, _) => panic!("the wrong kind of frame: {other:?}"),
            }
        }
        is_busy
    }
}

fn identity(authid: &str, role: Role, method: &'static str) -> Arc<Identity> {
    Arc::new(Identity {
        authid: ByteString::from(authid),
        role: Arc::new(role),
        method: ByteString::from_static(method),
        provider: ByteString::from_static("static"),
        transport: [("type", "websocket".into())].into(),
    })
}

/// May do everything but what lies under `secret`, and not call `forbidden`.
fn guest_role() -> Role {
    use router_core::auth::Action::{Call, Publish, Register, Subscribe};
    let rule = |action, pattern| Rule {
        action,
        pattern: Pattern::from_slashes(pattern).unwrap(),
    };
    let all = [Publish, Subscribe, Call, Register];
    let allow = all.map(|action| rule(action, "#")).to_vec();
    let deny = all.map(|action| rule(action, "secret/#")).to_vec();
    Role::restricted("guest", allow, deny)
}

/// May look at sessions, and listen to them.
fn watcher_role() -> Role {
    use router_core::auth::Action::{Call, Subscribe};
    let rule = |(action, pattern)| Rule {
        action,
        pattern: Pattern::from_slashes(pattern).unwrap(),
    };
    let allow = [
        (Call, "wamp/session/count"),
        (Subscribe, "wamp/session/on_join"),
    ];
    Role::restricted("watcher", allow.map(rule).to_vec(), Vec::new())
}
