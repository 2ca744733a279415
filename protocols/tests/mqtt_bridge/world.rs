//! Two realms in one thread, with a bridge of the first to the second, to a server that the test
//! plays itself, or to nobody. Does what the driver does, in the same order.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::gate::{Action, Gate, Input, JoinRequest, JoinedAs, Output};
use protocols::mqtt::bridge::{
    BridgeCounters, BridgeMachine, BridgeOptions, Dialect, Direction, End, Note, Rule, Rules,
    local_subscriptions,
};
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::machine::{MqttMachine, MqttOptions};
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::Role;
use router_core::limits::RealmLimits;
use router_core::model::Now;
use router_core::outbox::Outbox;
use router_core::realm::{Effects, IdClock, Realm, Settings};
use router_core::session::{ClientJoin, Connection, EventStyle, Features, Identity, Join, Leave};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// The realm of the bridge.
pub const HERE: usize = 0;
/// The realm of the peer.
pub const THERE: usize = 1;

pub struct Side {
    pub realm: Realm,
    effects: Effects,
    commits: VecDeque<u64>,
    pub hold_commits: bool,
}

/// Who is at the other end of the bytes of a gate.
enum Other {
    /// Another gate.
    Gate(usize),
    /// The test; what it decoded.
    Test(Decoder, VecDeque<Packet>),
}

pub struct Seat {
    side: usize,
    gate: Box<dyn Gate>,
    place: Option<(Connection, Arc<Outbox>)>,
    other: Other,
    version: ProtocolVersion,
    inbox: BytesMut,
    arrived: BytesMut,
    is_fed: bool,
    pub is_closed: bool,
}

pub struct World {
    pub now: Now,
    pub sides: [Side; 2],
    pub seats: Vec<Seat>,
    pub server: MqttOptions,
    pub options: BridgeOptions,
    pub counters: Arc<BridgeCounters>,
    publishers: [Option<usize>; 2],
    notes: Arc<Mutex<Vec<Note>>>,
    role: Arc<Role>,
}

fn side() -> Side {
    let settings = Settings {
        name: "realm1".into(),
        limits: RealmLimits::default(),
        naming: protocols::wamp::map::naming(),
        durable: true,
        sharing: router_core::broker::Sharing::default(),
        history: Default::default(),
    };
    Side {
        realm: Realm::new(settings, Arc::new(IdClock::new(0)), 1),
        effects: Effects::default(),
        commits: VecDeque::new(),
        hold_commits: false,
    }
}

/// A rule without prefixes.
pub fn rule(direction: Direction, filter: &str, qos: QoS) -> Rule {
    prefixed(direction, filter, qos, "", "")
}

pub fn prefixed(direction: Direction, filter: &str, qos: QoS, local: &str, remote: &str) -> Rule {
    Rule {
        direction,
        filter: filter.into(),
        qos,
        local_prefix: local.into(),
        remote_prefix: remote.into(),
    }
}

pub fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

impl World {
    pub fn new(rules: &[Rule]) -> World {
        let small = NonZeroU16::MIN.saturating_add(9);
        World {
            now: Now {
                instant: Instant::now(),
                unix_ms: 1_800_000_000_000,
            },
            sides: [side(), side()],
            seats: Vec::new(),
            server: MqttOptions::default(),
            options: BridgeOptions {
                realm: None,
                local_id: "bridge:b".into(),
                local_expiry: Duration::from_secs(3_600),
                client_id: "b-at-peer".into(),
                username: None,
                password: None,
                clean_start: false,
                session_expiry_secs: 3_600,
                keep_alive_secs: 60,
                receive_maximum: small,
                outgoing_window: small,
                max_packet_bytes: 4_096,
                answer_timeout: Duration::from_secs(15),
                sync_retained: true,
                state_topic: None,
                rules: Rules::new(rules).expect("legal rules"),
                stale_filters: Vec::new(),
                router_id: "A".into(),
            },
            counters: Arc::default(),
            publishers: [None; 2],
            notes: Arc::default(),
            role: Arc::new(Role::unrestricted("anyone")),
        }
    }

    /// Makes the session here, as the router does at its start.
    pub fn prepare(&mut self) {
        let join = Join {
            identity: self.identity(),
            features: Features::default(),
            style: EventStyle::Lanes,
            client: Some(ClientJoin {
                id: self.options.local_id.clone(),
                clean_start: false,
                expiry: self.options.local_expiry,
                window: 1,
                last_will: None,
            }),
        };
        let Side { realm, effects, .. } = &mut self.sides[HERE];
        let joined = realm.join(self.now, join, effects).expect("room");
        for command in local_subscriptions(&self.options.rules, false, false) {
            realm.handle(self.now, joined.connection, command, effects);
        }
        realm.leave(self.now, joined.connection, Leave::Lost, effects);
        joined.outbox.release(joined.connection.generation);
        self.run();
    }

    /// A bridge whose peer is the realm there.
    pub fn connect(&mut self, dialect: Dialect) -> usize {
        let bridge = self.open(dialect);
        self.run();
        bridge
    }

    /// The same, with nothing but the first bytes on their way.
    pub fn open(&mut self, dialect: Dialect) -> usize {
        let bridge = self.seats.len();
        let gate = self.machine(dialect);
        self.sit(HERE, gate, Other::Gate(bridge + 1), dialect.version());
        let server = MqttMachine::new(self.now, self.server.clone());
        self.sit(
            THERE,
            Box::new(server),
            Other::Gate(bridge),
            dialect.version(),
        );
        bridge
    }

    /// A bridge whose peer is the test; its CONNECT is taken.
    pub fn scripted(&mut self, dialect: Dialect) -> (usize, Connect) {
        let decoder = Decoder::server(Limits::default());
        let gate = self.machine(dialect);
        let other = Other::Test(decoder, VecDeque::new());
        let bridge = self.sit(HERE, gate, other, dialect.version());
        self.run();
        match self.next(bridge) {
            Packet::Connect(connect) => (bridge, *connect),
            other => panic!("no CONNECT: {other:?}"),
        }
    }

    /// A bridge let in by the test with these properties; its SUBSCRIBEs are granted.
    pub fn let_in(&mut self, present: bool, properties: Properties) -> usize {
        let (bridge, _) = self.scripted(Dialect::V5);
        self.play(bridge, &conn_ack(present, ReasonCode::Success, properties));
        self.grant(bridge);
        bridge
    }

    /// Answers what the bridge subscribes to.
    pub fn grant(&mut self, bridge: usize) {
        while let Some(Packet::Subscribe(subscribe)) = self.peek(bridge).cloned() {
            self.next(bridge);
            let granted = ReasonCode::granted(subscribe.filters[0].options.maximum_qos);
            self.play(bridge, &sub_ack(subscribe.packet_id, granted));
        }
    }

    fn machine(&self, dialect: Dialect) -> Box<dyn Gate> {
        let notes = self.notes.clone();
        Box::new(BridgeMachine::new(
            self.now,
            Arc::new(self.options.clone()),
            dialect,
            self.counters.clone(),
            Box::new(move |note| notes.lock().expect("not poisoned").push(note)),
        ))
    }

    fn sit(
        &mut self,
        side: usize,
        gate: Box<dyn Gate>,
        other: Other,
        version: ProtocolVersion,
    ) -> usize {
        self.seats.push(Seat {
            side,
            gate,
            place: None,
            other,
            version,
            inbox: BytesMut::new(),
            arrived: BytesMut::new(),
            is_fed: false,
            is_closed: false,
        });
        self.seats.len() - 1
    }

    /// An ordinary 5.0 client of one side, with a session that stays.
    pub fn client(&mut self, side: usize, name: &str) -> usize {
        let version = ProtocolVersion::V5;
        let machine = MqttMachine::new(self.now, self.server.clone());
        let other = Other::Test(Decoder::client(version, Limits::default()), VecDeque::new());
        let client = self.sit(side, Box::new(machine), other, version);
        let properties = Properties {
            session_expiry_interval: Some(3_600),
            ..Properties::default()
        };
        let connect = Connect {
            version,
            clean_start: false,
            keep_alive: 0,
            client_id: name.into(),
            will: None,
            username: None,
            password: None,
            properties: properties.into_optional(),
        };
        self.play(client, &Packet::Connect(Box::new(connect)));
        assert!(matches!(self.next(client), Packet::ConnAck(_)));
        client
    }

    pub fn subscribe(&mut self, client: usize, filter: &str) {
        let options = SubscriptionOptions {
            maximum_qos: ExactlyOnce,
            retain_as_published: true,
            ..SubscriptionOptions::default()
        };
        let filter = SubscribeFilter {
            filter: filter.into(),
            options,
        };
        self.play(
            client,
            &Packet::Subscribe(Subscribe {
                packet_id: id(60_000),
                properties: None,
                filters: vec![filter],
            }),
        );
        assert!(matches!(self.next(client), Packet::SubAck(_)));
    }

    /// Publishes on the side of `client`, as one that completes every handshake and receives
    /// nothing.
    pub fn publish(&mut self, client: usize, topic: &str, payload: &str, qos: QoS, retain: bool) {
        let side = self.seats[client].side;
        let client = match self.publishers[side] {
            Some(client) => client,
            None => self.client(side, "publisher"),
        };
        self.publishers[side] = Some(client);
        let packet = Packet::Publish(Publish {
            retain,
            ..message(topic, payload, (qos > AtMostOnce).then(|| id(9)), qos)
        });
        self.play(client, &packet);
        match (qos, qos > AtMostOnce) {
            (_, false) => {}
            (ExactlyOnce, _) => {
                assert!(matches!(self.next(client), Packet::PubRec(_)));
                self.play(client, &Packet::PubRel(Ack::success(id(9))));
                assert!(matches!(self.next(client), Packet::PubComp(_)));
            }
            _ => assert!(matches!(self.next(client), Packet::PubAck(_))),
        }
    }

    /// Sends a packet to a gate.
    pub fn play(&mut self, seat: usize, packet: &Packet) {
        let mut bytes = BytesMut::new();
        encode(packet, self.seats[seat].version, &mut bytes).expect("a legal packet");
        self.raw(seat, &bytes);
    }

    pub fn raw(&mut self, seat: usize, bytes: &[u8]) {
        self.seats[seat].inbox.extend_from_slice(bytes);
        self.seats[seat].is_fed = true;
        self.run();
    }

    fn peek(&mut self, seat: usize) -> Option<&Packet> {
        match &self.seats[seat].other {
            Other::Test(_, got) => got.front(),
            Other::Gate(_) => None,
        }
    }

    #[track_caller]
    pub fn next(&mut self, seat: usize) -> Packet {
        match &mut self.seats[seat].other {
            Other::Test(_, got) => got.pop_front().expect("a packet"),
            Other::Gate(_) => panic!("nobody listens there"),
        }
    }

    /// All packets that came, unanswered.
    pub fn drain_packets(&mut self, seat: usize) -> Vec<Packet> {
        match &mut self.seats[seat].other {
            Other::Test(_, got) => got.drain(..).collect(),
            Other::Gate(_) => Vec::new(),
        }
    }

    #[track_caller]
    pub fn next_publish(&mut self, seat: usize) -> Publish {
        match self.next(seat) {
            Packet::Publish(publish) => publish,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    #[track_caller]
    pub fn nothing(&mut self, seat: usize) {
        let next = self.peek(seat).cloned();
        assert_eq!(next, None);
    }

    /// Everything a client got, acknowledged; topic and payload.
    pub fn received(&mut self, client: usize) -> Vec<(String, String)> {
        self.taken(client)
            .into_iter()
            .map(|publish| {
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                (publish.topic.to_string(), payload)
            })
            .collect()
    }

    /// Everything a client got, acknowledged.
    pub fn taken(&mut self, client: usize) -> Vec<Publish> {
        let mut messages = Vec::new();
        while self.peek(client).is_some() {
            match self.next(client) {
                Packet::Publish(publish) => {
                    match (publish.packet_id, publish.qos) {
                        (Some(id), ExactlyOnce) => {
                            self.play(client, &Packet::PubRec(Ack::success(id)));
                        }
                        (Some(id), _) => self.play(client, &Packet::PubAck(Ack::success(id))),
                        _ => {}
                    }
                    messages.push(publish);
                }
                Packet::PubRel(ack) => {
                    self.play(client, &Packet::PubComp(Ack::success(ack.packet_id)));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        messages
    }

    /// The connection breaks, for both its ends; what was on the way is lost.
    pub fn cut(&mut self, seat: usize) {
        let other = match self.seats[seat].other {
            Other::Gate(other) => Some(other),
            Other::Test(..) => None,
        };
        for seat in [Some(seat), other].into_iter().flatten() {
            self.seats[seat].inbox.clear();
            self.seats[seat].is_fed = false;
            if !self.seats[seat].is_closed {
                self.seats[seat].gate.handle_input(self.now, Input::Closed);
            }
        }
        self.run();
    }

    pub fn drain(&mut self, seat: usize) {
        self.seats[seat].gate.handle_input(self.now, Input::Drain);
        self.run();
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        for Side { realm, effects, .. } in &mut self.sides {
            realm.tick(self.now, effects);
        }
        for seat in &mut self.seats {
            let at = seat.gate.poll_timeout();
            if !seat.is_closed && at.is_some_and(|at| at <= self.now.instant) {
                seat.gate.handle_timeout(self.now);
            }
        }
        self.run();
    }

    /// The commits held so far succeed.
    pub fn commit(&mut self, side: usize) {
        let Side {
            realm,
            effects,
            commits,
            ..
        } = &mut self.sides[side];
        while let Some(number) = commits.pop_front() {
            realm.committed(self.now, number, effects);
        }
        self.run();
    }

    /// The commits held so far fail.
    pub fn commit_fails(&mut self, side: usize) {
        let Side {
            realm,
            effects,
            commits,
            ..
        } = &mut self.sides[side];
        commits.clear();
        realm.commit_failed(self.now, effects);
        self.run();
    }

    /// What was told since the last call.
    pub fn notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.notes.lock().expect("not poisoned"))
    }

    /// How the last connection ended, if it did.
    pub fn end(&self) -> Option<End> {
        self.notes().into_iter().find_map(|note| match note {
            Note::Ended { end, .. } => Some(end),
            _ => None,
        })
    }

    pub fn count(&self, name: &str) -> u64 {
        let list = self.counters.list();
        let found = list.into_iter().find(|(known, ..)| *known == name);
        found.expect("a counter").2
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

    /// Turns of all gates until nobody has anything to do.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// One turn of every gate; answers whether anything happened.
    pub fn step(&mut self) -> bool {
        let mut progress = false;
        for seat in 0..self.seats.len() {
            progress |= self.feed(seat);
            progress |= self.act(seat);
            progress |= self.deliver(seat);
            progress |= self.act(seat);
            progress |= self.collect(seat);
        }
        progress
    }

    fn feed(&mut self, index: usize) -> bool {
        let seat = &mut self.seats[index];
        if !std::mem::take(&mut seat.is_fed) || seat.is_closed {
            return false;
        }
        seat.gate
            .handle_input(self.now, Input::Stream(&mut seat.inbox));
        true
    }

    fn act(&mut self, index: usize) -> bool {
        let mut progress = false;
        while let Some(action) = self.seats[index].gate.poll_action() {
            progress = true;
            match action {
                Action::Join(request) => self.enter(index, *request),
                Action::Command(command) => {
                    let seat = &self.seats[index];
                    if let Some((connection, _)) = seat.place {
                        let Side { realm, effects, .. } = &mut self.sides[seat.side];
                        realm.handle(self.now, connection, command, effects);
                    }
                }
                Action::Leave(how) => self.vacate(index, how),
                _ => panic!("nothing else is asked for"),
            }
        }
        self.seal(self.seats[index].side);
        progress
    }

    fn seal(&mut self, side: usize) {
        let Side {
            realm,
            effects,
            commits,
            hold_commits,
        } = &mut self.sides[side];
        if let Some(number) = realm.seal(effects) {
            effects.batch = Default::default();
            commits.push_back(number);
        }
        effects.wake.clear();
        effects.pressed.clear();
        while !*hold_commits && let Some(number) = commits.pop_front() {
            realm.committed(self.now, number, effects);
        }
    }

    fn vacate(&mut self, index: usize, how: Leave) {
        let seat = &mut self.seats[index];
        if let Some((connection, outbox)) = seat.place.take() {
            let Side { realm, effects, .. } = &mut self.sides[seat.side];
            realm.leave(self.now, connection, how, effects);
            outbox.release(connection.generation);
        }
    }

    fn enter(&mut self, index: usize, request: JoinRequest) {
        let join = Join {
            identity: self.identity(),
            features: request.features,
            style: request.style,
            client: request.client,
        };
        let Side { realm, effects, .. } = &mut self.sides[self.seats[index].side];
        let joined = realm.join(self.now, join, effects).expect("room");
        let seat = &mut self.seats[index];
        let anyone = ByteString::from_static("anyone");
        let joined_as = JoinedAs {
            session: joined.connection.session,
            realm: "realm1".into(),
            authid: anyone.clone(),
            role: anyone.clone(),
            method: anyone.clone(),
            provider: anyone,
        };
        seat.place = Some((joined.connection, joined.outbox));
        seat.gate.handle_joined(self.now, Ok(joined_as));
    }

    fn deliver(&mut self, index: usize) -> bool {
        let seat = &mut self.seats[index];
        let Some((connection, outbox)) = &seat.place else {
            return false;
        };
        if seat.is_closed {
            return false;
        }
        let mut deliveries = Vec::new();
        let unix_ms = self.now.unix_ms;
        let drained = outbox.drain(connection.generation, 64, unix_ms, &mut deliveries);
        if drained.refill || drained.expired {
            let Side { realm, effects, .. } = &mut self.sides[seat.side];
            realm.refill(self.now, *connection, effects);
        }
        let progress = !deliveries.is_empty();
        for delivery in deliveries {
            seat.gate.handle_delivery(self.now, delivery);
        }
        progress
    }

    fn collect(&mut self, index: usize) -> bool {
        let mut progress = false;
        while let Some(output) = self.seats[index].gate.poll_output() {
            progress = true;
            match output {
                Output::Bytes(bytes) => self.hand_over(index, &bytes),
                Output::Text(_) => panic!("MQTT sends no text"),
                Output::Close { .. } => self.close(index),
            }
        }
        progress
    }

    fn hand_over(&mut self, index: usize, bytes: &Bytes) {
        assert!(!self.seats[index].is_closed, "output after the close");
        if let Other::Gate(other) = self.seats[index].other {
            let other = &mut self.seats[other];
            if !other.is_closed {
                other.inbox.extend_from_slice(bytes);
                other.is_fed = true;
            }
            return;
        }
        let seat = &mut self.seats[index];
        match &mut seat.other {
            Other::Gate(_) => {}
            Other::Test(decoder, got) => {
                seat.arrived.extend_from_slice(bytes);
                // The bridge bit is looked at as bytes; the codec of our server refuses it.
                if seat.arrived.starts_with(b"\x10") && seat.arrived.get(8) == Some(&0x84) {
                    seat.arrived[8] = 4;
                }
                while let Some(packet) = decoder.decode(&mut seat.arrived).expect("legal output") {
                    got.push_back(packet);
                }
            }
        }
    }

    fn close(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        assert!(!seat.is_closed, "closed twice");
        seat.is_closed = true;
        let other = match seat.other {
            Other::Gate(other) => Some(other),
            Other::Test(..) => None,
        };
        self.vacate(index, Leave::Lost);
        if let Some(other) = other
            && !self.seats[other].is_closed
        {
            // What was sent before the close is read before it.
            self.feed(other);
            self.seats[other].gate.handle_input(self.now, Input::Closed);
        }
    }
}

pub fn message(topic: &str, payload: &str, packet_id: Option<PacketId>, qos: QoS) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id,
        properties: None,
        payload: Bytes::from(payload.to_owned()),
    }
}

pub fn conn_ack(session_present: bool, reason: ReasonCode, properties: Properties) -> Packet {
    Packet::ConnAck(ConnAck {
        session_present,
        reason,
        properties: properties.into_optional(),
    })
}

pub fn sub_ack(packet_id: PacketId, reason: ReasonCode) -> Packet {
    Packet::SubAck(SubAck {
        packet_id,
        properties: None,
        reasons: vec![reason],
    })
}
