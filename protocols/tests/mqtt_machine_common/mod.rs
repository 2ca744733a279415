//! MQTT machines against a real realm, in one thread and with a clock of its own.
//!
//! [`World`] does what the driver does, in the same order, and checks on the way that what goes
//! out is well-formed for the client's version and direction. Each client is an index.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod scram;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::gate::{
    Action, Authenticate, Authentication, Credentials, Gate, Input, JoinError, JoinRequest,
    JoinedAs, Output,
};
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::machine::{AssignedIds, MqttMachine, MqttOptions};
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Packet, PacketId, PacketType, Properties, ProtocolVersion, Publish, QoS,
    Secret, Subscribe, SubscribeFilter, SubscriptionOptions, Will,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{
    Access, AuthError, Challenge, Proof, Role, Secret as Word, User, Verified,
};
use router_core::limits::RealmLimits;
use router_core::model::{Command, Delivery, Now, Topic};
use router_core::outbox::Outbox;
use router_core::realm::{Effects, IdClock, Naming, Realm, Settings};
use router_core::session::{Connection, EventStyle, Features, Identity, Join, Leave};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "as above")]
pub use ProtocolVersion::{V3_1, V3_1_1, V5};
#[allow(unused_imports, reason = "as above")]
pub use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Versions that share most rules.
pub const BOTH: [ProtocolVersion; 2] = [V3_1_1, V5];

/// What a client saw, in the order of the whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Packet(PacketType),
    Closed,
}

/// What a machine asked of the realm to let its client in.
#[derive(Clone, Debug)]
pub struct AskedToJoin {
    pub realm: Option<ByteString>,
    pub credentials: Credentials,
    pub protocol: &'static str,
    pub id: ByteString,
    pub clean_start: bool,
    pub expiry: Duration,
    pub window: u16,
}

pub struct Client {
    pub machine: MqttMachine,
    seat: Option<(Connection, Arc<Outbox>)>,
    challenged: Option<(Challenge, Option<JoinRequest>)>,
    /// Whose name was proven.
    pub authid: Option<ByteString>,
    buffer: BytesMut,
    arrived: BytesMut,
    decoder: Decoder,
    /// Topic Alias Maximum of its CONNECT, and what its aliases stand for.
    alias_maximum: u16,
    pub aliases: HashMap<NonZeroU16, ByteString>,
    pub version: ProtocolVersion,
    /// What arrives is not read: the client's own CONNECT may have said another version.
    pub is_deaf: bool,
    /// Packets the client has, oldest first.
    pub got: VecDeque<Packet>,
    /// What was handed to the transport, piece by piece.
    pub pieces: Vec<Bytes>,
    pub closed: Option<(u16, &'static str)>,
    pub left: Vec<Leave>,
    /// Commands the machine gave, by name.
    pub commands: Vec<String>,
}

/// Somebody who speaks no MQTT.
pub struct Stranger {
    pub connection: Connection,
    outbox: Arc<Outbox>,
}

pub struct World {
    pub realm: Realm,
    pub now: Now,
    pub options: MqttOptions,
    pub clients: Vec<Client>,
    pub trace: Vec<(usize, Seen)>,
    pub joins: Vec<AskedToJoin>,
    /// The next join is refused with this.
    pub refuse: Option<JoinError>,
    /// Joins stay unanswered.
    pub hold_joins: bool,
    /// Commits stay open until [`World::commit`].
    pub hold_commits: bool,
    pub role: Arc<Role>,
    /// Who can prove a name in an exchange: `joe` and `eve` with a secret, `ann` with a hash.
    pub access: Access,
    commits: VecDeque<u64>,
    effects: Effects,
}

impl World {
    pub fn new() -> World {
        World::with(false, RealmLimits::default())
    }

    /// With a store whose commits succeed at once unless they are held.
    pub fn durable() -> World {
        World::with(true, RealmLimits::default())
    }

    pub fn with(durable: bool, limits: RealmLimits) -> World {
        let naming = Naming {
            reserved: "wamp".into(),
            inspection: "reynard/session".into(),
            keys: "fox/kv".into(),
            value_get: "fox/kv/get".into(),
            locks: "fox/lock".into(),
            read_key: |text| Topic::new(text.to_owned()).ok(),
            killed: "killed".into(),
            ..protocols::wamp::map::naming()
        };
        let settings = Settings {
            name: "realm1".into(),
            limits,
            naming,
            durable,
            sharing: router_core::broker::Sharing::default(),
            history: Default::default(),
        };
        World {
            realm: Realm::new(settings, Arc::new(IdClock::new(0)), 1),
            now: Now {
                instant: Instant::now(),
                unix_ms: 1_800_000_000_000,
            },
            options: MqttOptions {
                assigned_ids: Arc::new(AssignedIds::with_secret([1, 2])),
                ..MqttOptions::default()
            },
            clients: Vec::new(),
            trace: Vec::new(),
            joins: Vec::new(),
            refuse: None,
            hold_joins: false,
            hold_commits: false,
            role: Arc::new(Role::unrestricted("anonymous")),
            access: access(),
            commits: VecDeque::new(),
            effects: Effects::default(),
        }
    }

    /// A connection that has sent nothing.
    pub fn accept(&mut self, version: ProtocolVersion) -> usize {
        self.clients.push(Client {
            machine: MqttMachine::new(self.now, self.options.clone()),
            seat: None,
            challenged: None,
            authid: None,
            buffer: BytesMut::new(),
            arrived: BytesMut::new(),
            decoder: Decoder::client(version, Limits::default()),
            alias_maximum: 0,
            aliases: HashMap::new(),
            version,
            is_deaf: false,
            got: VecDeque::new(),
            pieces: Vec::new(),
            closed: None,
            left: Vec::new(),
            commands: Vec::new(),
        });
        self.clients.len() - 1
    }

    /// A connection that has sent this CONNECT.
    pub fn open(&mut self, connect: Connect) -> usize {
        let client = self.accept(connect.version);
        self.send(client, Packet::Connect(Box::new(connect)));
        client
    }

    /// A client that was let in; its CONNACK is taken.
    pub fn join(&mut self, connect: Connect) -> usize {
        self.join_told(connect).0
    }

    pub fn join_told(&mut self, connect: Connect) -> (usize, ConnAck) {
        let client = self.open(connect);
        match self.next(client) {
            Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => (client, ack),
            other => panic!("not let in: {other:?}"),
        }
    }

    /// A clean client named `id`.
    pub fn client(&mut self, version: ProtocolVersion, id: &str) -> usize {
        self.join(connect(version, id))
    }

    pub fn send(&mut self, client: usize, packet: Packet) {
        let mut bytes = BytesMut::new();
        encode(&packet, self.clients[client].version, &mut bytes).expect("a legal packet");
        self.note_aliases(client, &packet);
        self.raw(client, &bytes);
    }

    /// A client takes as many aliases as its CONNECT says.
    pub fn note_aliases(&mut self, client: usize, packet: &Packet) {
        if let Packet::Connect(connect) = packet {
            let set = connect.properties.as_deref();
            let maximum = set.and_then(|set| set.topic_alias_maximum);
            self.clients[client].alias_maximum = maximum.unwrap_or(0);
        }
    }

    /// Several packets in one read.
    pub fn send_all(&mut self, client: usize, packets: &[Packet]) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            encode(packet, self.clients[client].version, &mut bytes).expect("a legal packet");
        }
        self.raw(client, &bytes);
    }

    pub fn raw(&mut self, client: usize, bytes: &[u8]) {
        let Client {
            machine, buffer, ..
        } = &mut self.clients[client];
        buffer.extend_from_slice(bytes);
        machine.handle_input(self.now, Input::Stream(buffer));
        self.run();
    }

    pub fn input(&mut self, client: usize, input: Input<'_>) {
        self.clients[client].machine.handle_input(self.now, input);
        self.run();
    }

    /// The network connection breaks.
    pub fn cut(&mut self, client: usize) {
        self.input(client, Input::Closed);
    }

    /// The next packet the client got.
    #[track_caller]
    pub fn next(&mut self, client: usize) -> Packet {
        let client = &mut self.clients[client];
        match client.got.pop_front() {
            Some(packet) => packet,
            None => panic!("nothing came; closed: {:?}", client.closed),
        }
    }

    #[track_caller]
    pub fn next_publish(&mut self, client: usize) -> Publish {
        match self.next(client) {
            Packet::Publish(publish) => publish,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    #[track_caller]
    pub fn nothing(&self, client: usize) {
        assert!(
            self.clients[client].got.is_empty(),
            "{:?}",
            self.clients[client].got
        );
    }

    /// The connection was closed by the machine, in 5.0 with this DISCONNECT, in 3.x without.
    #[track_caller]
    pub fn ended(&mut self, client: usize, reason: ReasonCode) {
        if self.clients[client].version.is_v5() {
            match self.next(client) {
                Packet::Disconnect(disconnect) => assert_eq!(disconnect.reason, reason),
                other => panic!("no DISCONNECT: {other:?}"),
            }
        }
        self.nothing(client);
        assert!(self.clients[client].closed.is_some(), "still open");
    }

    /// Subscribes with these options and answers the SUBACK's code.
    #[track_caller]
    pub fn subscribe_with(
        &mut self,
        client: usize,
        filter: &str,
        options: SubscriptionOptions,
    ) -> ReasonCode {
        self.send(client, subscribe(9_999, &[(filter, options)], None));
        match self.next(client) {
            Packet::SubAck(ack) => ack.reasons[0],
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    #[track_caller]
    pub fn subscribe(&mut self, client: usize, filter: &str, qos: QoS) {
        let options = SubscriptionOptions {
            maximum_qos: qos,
            ..Default::default()
        };
        assert_eq!(
            self.subscribe_with(client, filter, options),
            ReasonCode::granted(qos)
        );
    }

    /// Publishes with QoS 0.
    pub fn publish(&mut self, client: usize, topic: &str, payload: &'static str) {
        self.send(client, publish(topic, payload, None, AtMostOnce));
    }

    /// Lets time pass, in the order in which deadlines fall due.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.realm.tick(self.now, &mut self.effects);
        for client in &mut self.clients {
            if client
                .machine
                .poll_timeout()
                .is_some_and(|at| at <= self.now.instant)
            {
                client.machine.handle_timeout(self.now);
            }
        }
        self.run();
    }

    /// The commits held so far succeed.
    pub fn commit(&mut self) {
        while let Some(number) = self.commits.pop_front() {
            self.realm.committed(self.now, number, &mut self.effects);
        }
        self.run();
    }

    /// The commits held so far fail.
    pub fn commit_fails(&mut self) {
        self.commits.clear();
        self.realm.commit_failed(self.now, &mut self.effects);
        self.run();
    }

    /// A command of somebody who speaks no MQTT.
    pub fn command(&mut self, command: Command) {
        let connection = self.insider(command);
        self.dismiss(connection);
    }

    /// Ends such a session.
    pub fn dismiss(&mut self, connection: Connection) {
        self.realm
            .leave(self.now, connection, Leave::Clean, &mut self.effects);
        self.run();
    }

    /// A session inside the router that stays after its command.
    pub fn insider(&mut self, command: Command) -> Connection {
        let identity = self.identity();
        let join = Join {
            identity,
            features: Features::default(),
            style: EventStyle::Ordered,
            client: None,
        };
        let joined = self
            .realm
            .join(self.now, join, &mut self.effects)
            .expect("room");
        self.realm
            .handle(self.now, joined.connection, command, &mut self.effects);
        self.run();
        joined.connection
    }

    /// A session of somebody who speaks no MQTT, and stays.
    pub fn stranger(&mut self) -> Stranger {
        let join = Join {
            identity: self.identity(),
            features: Features {
                progressive_results: true,
                call_canceling: true,
                ..Features::default()
            },
            style: EventStyle::Ordered,
            client: None,
        };
        let joined = self
            .realm
            .join(self.now, join, &mut self.effects)
            .expect("room");
        Stranger {
            connection: joined.connection,
            outbox: joined.outbox,
        }
    }

    /// A command of a stranger.
    pub fn command_of(&mut self, stranger: &Stranger, command: Command) {
        let connection = stranger.connection;
        self.realm
            .handle(self.now, connection, command, &mut self.effects);
        self.seal();
        self.run();
    }

    /// What a stranger was told.
    pub fn told(&mut self, stranger: &Stranger) -> Vec<Delivery> {
        let mut told = Vec::new();
        let generation = stranger.connection.generation;
        while stranger
            .outbox
            .drain(generation, 64, self.now.unix_ms, &mut told)
            .more
        {}
        told
    }

    pub fn counter(&self, name: &str) -> u64 {
        let list = self.options.counters.list();
        list.into_iter()
            .find(|(known, ..)| *known == name)
            .expect("a counter")
            .2
    }

    fn identity(&self) -> Arc<Identity> {
        Arc::new(Identity {
            authid: "someone".into(),
            role: self.role.clone(),
            method: "anonymous".into(),
            provider: "static".into(),
            transport: [].into(),
        })
    }

    /// Turns of all connections until nobody has anything to do.
    pub fn run(&mut self) {
        loop {
            let mut progress = false;
            for client in 0..self.clients.len() {
                progress |= self.act(client);
                progress |= self.deliver(client);
                progress |= self.act(client);
                progress |= self.collect(client);
            }
            if !progress {
                return;
            }
        }
    }

    fn act(&mut self, index: usize) -> bool {
        let mut progress = false;
        while let Some(action) = self.clients[index].machine.poll_action() {
            progress = true;
            match action {
                Action::Join(request) => self.join_asked(index, *request),
                Action::Authenticate(step) => self.authenticate(index, *step),
                Action::Command(command) => {
                    let client = &mut self.clients[index];
                    let name = format!("{command:?}");
                    let end = name.find([' ', '(', '{']).unwrap_or(name.len());
                    client.commands.push(name[..end].to_owned());
                    if let Some((connection, _)) = client.seat {
                        self.realm
                            .handle(self.now, connection, command, &mut self.effects);
                    }
                }
                Action::Leave(how) => {
                    self.clients[index].left.push(how);
                    self.vacate(index, Some(how));
                }
            }
        }
        self.seal();
        progress
    }

    fn seal(&mut self) {
        if let Some(number) = self.realm.seal(&mut self.effects) {
            self.effects.batch = Default::default();
            self.commits.push_back(number);
        }
        self.effects.wake.clear();
        self.effects.pressed.clear();
        if !self.hold_commits {
            while let Some(number) = self.commits.pop_front() {
                self.realm.committed(self.now, number, &mut self.effects);
            }
        }
    }

    fn vacate(&mut self, index: usize, how: Option<Leave>) {
        if let Some((connection, outbox)) = self.clients[index].seat.take() {
            let how = how.unwrap_or(Leave::Lost);
            self.realm
                .leave(self.now, connection, how, &mut self.effects);
            outbox.release(connection.generation);
        }
    }

    fn join_asked(&mut self, index: usize, request: JoinRequest) {
        if matches!(request.credentials, Credentials::Exchange { .. }) {
            let result = self.access.check(&request.credentials);
            self.proof(index, result, Some(request));
        } else {
            self.enter(index, request);
        }
    }

    fn authenticate(&mut self, index: usize, step: Authenticate) {
        match step {
            Authenticate::Answer(message) => {
                let open = self.clients[index].challenged.take();
                let (challenge, request) = open.expect("a challenge was open");
                self.proof(index, challenge.answer(&message), request);
            }
            Authenticate::Again(credentials) => {
                let result = self.access.check(&credentials);
                self.proof(index, result, None);
            }
        }
    }

    /// What the driver makes of a proof; slow ones are computed at once.
    fn proof(
        &mut self,
        index: usize,
        result: Result<Proof, AuthError>,
        request: Option<JoinRequest>,
    ) {
        let result = match result {
            Ok(Proof::Slow(slow)) => slow.verify(),
            other => other,
        };
        match (result, request) {
            (Ok(Proof::Mutual { verified, verifier }), Some(request)) => {
                let verifier = Some(verifier);
                self.authenticated(index, Authentication::Proven { verifier });
                self.clients[index].authid = verified.authid;
                self.enter(index, request);
            }
            (Ok(Proof::Mutual { verified, verifier }), None) => {
                self.proven_again(index, &verified, verifier);
            }
            (Ok(Proof::Challenge(challenge)), request) => {
                let message = challenge.message().clone();
                self.clients[index].challenged = Some((challenge, request));
                self.authenticated(index, Authentication::Challenge(message));
            }
            (Err(error), Some(_)) => {
                let machine = &mut self.clients[index].machine;
                machine.handle_joined(self.now, Err(error.into()));
            }
            (Err(error), None) => self.authenticated(index, Authentication::Failed(error.into())),
            (other, _) => panic!("no step of an exchange: {other:?}"),
        }
    }

    fn proven_again(&mut self, index: usize, verified: &Verified, verifier: Bytes) {
        let step = if verified.authid == self.clients[index].authid {
            let verifier = Some(verifier);
            Authentication::Proven { verifier }
        } else {
            Authentication::Failed(JoinError::BadCredentials)
        };
        self.authenticated(index, step);
    }

    fn authenticated(&mut self, index: usize, step: Authentication) {
        let machine = &mut self.clients[index].machine;
        machine.handle_authentication(self.now, step);
    }

    fn enter(&mut self, index: usize, request: JoinRequest) {
        let client = request.client.expect("every MQTT client has an identifier");
        self.joins.push(AskedToJoin {
            realm: request.realm,
            credentials: request.credentials,
            protocol: request.protocol,
            id: client.id.clone(),
            clean_start: client.clean_start,
            expiry: client.expiry,
            window: client.window,
        });
        if self.hold_joins {
            return;
        }
        let join = Join {
            identity: self.identity(),
            features: request.features,
            style: request.style,
            client: Some(client),
        };
        let result = match self.refuse.take() {
            Some(error) => Err(error),
            None => self
                .realm
                .join(self.now, join, &mut self.effects)
                .map_err(|refusal| JoinError::NotAuthorized(refusal.to_string())),
        };
        let result = result.map(|joined| {
            self.clients[index].seat = Some((joined.connection, joined.outbox));
            joined_as(joined.connection)
        });
        self.clients[index].machine.handle_joined(self.now, result);
    }

    /// Answers a held join.
    pub fn answer_join(&mut self, index: usize, result: Result<(), JoinError>) {
        let result = result.map(|()| JoinedAs {
            session: router_core::model::SessionId(1),
            realm: "realm1".into(),
            authid: "someone".into(),
            role: "anonymous".into(),
            method: "anonymous".into(),
            provider: "static".into(),
        });
        self.clients[index].machine.handle_joined(self.now, result);
        self.run();
    }

    fn deliver(&mut self, index: usize) -> bool {
        let Some((connection, outbox)) = &self.clients[index].seat else {
            return false;
        };
        let (connection, outbox) = (*connection, outbox.clone());
        let mut deliveries = Vec::new();
        let drained = outbox.drain(connection.generation, 64, self.now.unix_ms, &mut deliveries);
        if drained.refill || drained.expired {
            self.realm.refill(self.now, connection, &mut self.effects);
        }
        // A session that has ended says so again and again; the driver closes after the first.
        if self.clients[index].closed.is_some() {
            return false;
        }
        let progress = !deliveries.is_empty();
        for delivery in deliveries {
            self.clients[index]
                .machine
                .handle_delivery(self.now, delivery);
        }
        progress
    }

    fn collect(&mut self, index: usize) -> bool {
        let mut progress = false;
        while let Some(output) = self.clients[index].machine.poll_output() {
            progress = true;
            match output {
                Output::Bytes(bytes) => {
                    assert!(!bytes.is_empty(), "an empty piece");
                    self.clients[index].arrived.extend_from_slice(&bytes);
                    self.clients[index].pieces.push(bytes);
                    self.read(index);
                }
                Output::Text(_) => panic!("MQTT sends no text"),
                Output::Close { code, reason } => {
                    let client = &mut self.clients[index];
                    assert!(client.closed.is_none(), "closed twice");
                    assert!(client.arrived.is_empty(), "closed within a packet");
                    client.closed = Some((code, reason));
                    self.trace.push((index, Seen::Closed));
                    self.vacate(index, None);
                }
            }
        }
        progress
    }

    fn read(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.is_deaf {
            client.arrived.clear();
            return;
        }
        while let Some(packet) = client
            .decoder
            .decode(&mut client.arrived)
            .expect("legal output")
        {
            self.trace.push((index, Seen::Packet(packet.packet_type())));
            if let Packet::Publish(publish) = &packet {
                check_alias(client.alias_maximum, &mut client.aliases, publish);
            }
            client.got.push_back(packet);
        }
    }

    /// Gives a machine a delivery the realm did not make.
    pub fn deliver_made(&mut self, index: usize, delivery: Delivery) {
        self.clients[index]
            .machine
            .handle_delivery(self.now, delivery);
        self.run();
    }
}

/// What 5.0 section 3.3.2.3.4 asks of a sender, and what its receiver keeps.
fn check_alias(maximum: u16, aliases: &mut HashMap<NonZeroU16, ByteString>, publish: &Publish) {
    let set = publish.properties.as_deref();
    let Some(alias) = set.and_then(|set| set.topic_alias) else {
        return;
    };
    assert!(alias.get() <= maximum, "alias {alias} of {maximum}");
    if publish.topic.is_empty() {
        assert!(aliases.contains_key(&alias), "unknown alias {alias}");
    } else {
        aliases.insert(alias, publish.topic.clone());
    }
}

fn access() -> Access {
    let user = |name: &'static str, secret| {
        let role = "user".into();
        (ByteString::from_static(name), User { role, secret })
    };
    let plain = |word: &'static str| Word::Plain(Bytes::from_static(word.as_bytes()));
    let hash = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$";
    Access {
        users: [
            user("joe", plain("joe-secret")),
            user("eve", plain("eve-secret")),
            user("ann", Word::Argon2(hash.to_owned())),
        ]
        .into(),
        ..Access::default()
    }
}

fn joined_as(connection: Connection) -> JoinedAs {
    JoinedAs {
        session: connection.session,
        realm: "realm1".into(),
        authid: "someone".into(),
        role: "anonymous".into(),
        method: "anonymous".into(),
        provider: "static".into(),
    }
}

pub fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// A clean CONNECT without Keep Alive.
pub fn connect(version: ProtocolVersion, id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: id.into(),
        will: None,
        username: None,
        password: None,
        properties: None,
    }
}

/// A CONNECT whose session outlives the connection by a day.
pub fn persistent(version: ProtocolVersion, id: &str) -> Connect {
    let properties = Properties {
        session_expiry_interval: version.is_v5().then_some(86_400),
        ..Properties::default()
    };
    Connect {
        clean_start: false,
        properties: properties.into_optional(),
        ..connect(version, id)
    }
}

pub fn with_will(connect: Connect, topic: &str) -> Connect {
    let will = Will {
        qos: AtMostOnce,
        retain: false,
        topic: topic.into(),
        payload: Bytes::from_static(b"gone"),
        properties: None,
    };
    Connect {
        will: Some(will),
        ..connect
    }
}

pub fn user(connect: Connect, name: &str, password: Option<&'static str>) -> Connect {
    Connect {
        username: Some(name.into()),
        password: password.map(|text| Secret(Bytes::from_static(text.as_bytes()))),
        ..connect
    }
}

pub fn publish(topic: &str, payload: &'static str, packet: Option<u16>, qos: QoS) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: packet.map(id),
        properties: None,
        payload: Bytes::from_static(payload.as_bytes()),
    })
}

pub fn retained(topic: &str, payload: &'static str) -> Packet {
    let Packet::Publish(publish) = publish(topic, payload, None, AtMostOnce) else {
        unreachable!("made just now")
    };
    Packet::Publish(Publish {
        retain: true,
        ..publish
    })
}

/// The same PUBLISH with these properties.
pub fn with_properties(packet: Packet, properties: Properties) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish {
            properties: properties.into_optional(),
            ..publish
        }),
        other => panic!("not a PUBLISH: {other:?}"),
    }
}

/// The same PUBLISH marked as a repetition.
pub fn again(packet: Packet) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish {
            dup: true,
            ..publish
        }),
        other => panic!("not a PUBLISH: {other:?}"),
    }
}

pub fn subscribe(
    packet: u16,
    filters: &[(&str, SubscriptionOptions)],
    identifier: Option<u32>,
) -> Packet {
    let properties = Properties {
        subscription_identifiers: identifier.into_iter().collect(),
        ..Properties::default()
    };
    Packet::Subscribe(Subscribe {
        packet_id: id(packet),
        properties: properties.into_optional(),
        filters: filters
            .iter()
            .map(|(filter, options)| SubscribeFilter {
                filter: (*filter).into(),
                options: *options,
            })
            .collect(),
    })
}

pub fn options(maximum_qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        maximum_qos,
        ..SubscriptionOptions::default()
    }
}

pub fn puback(number: u16) -> Packet {
    Packet::PubAck(Ack::success(id(number)))
}

pub fn pubrec(number: u16) -> Packet {
    Packet::PubRec(Ack::success(id(number)))
}

pub fn pubrel(number: u16) -> Packet {
    Packet::PubRel(Ack::success(id(number)))
}

pub fn pubcomp(number: u16) -> Packet {
    Packet::PubComp(Ack::success(id(number)))
}
