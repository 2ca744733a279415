//! An MQTT client: publisher, subscriber, keeper of retained values, owner of a will.
//!
//! Its session state (unacknowledged messages, received QoS 2 identifiers) outlives connections as
//! the standard asks; the process itself never dies. What the router must never do is checked on
//! the spot: an answer to nothing, answers out of order, a session that is gone.

mod packets;
mod terms;

use crate::actor::{Actor, Cx, Phase};
use crate::ledger::{ActorId, InterestId, Uid};
use crate::net::{Item, LinkId, Wire};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::packet::{
    Ack, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::limits::WhenFull;
use std::collections::{BTreeSet, VecDeque};
use terms::Terms;

const KEEP_ALIVE_SECS: u16 = 30;
const PING_MS: u64 = 8_000;
const OPEN_MAX: usize = 8;

/// What a client is for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub v5: bool,
    pub persistent: bool,
    /// Filter and maximum QoS.
    pub subscribes: Option<(&'static str, u8)>,
    pub publishes: Vec<&'static str>,
    /// Keys it sets and clears.
    pub retains: Vec<&'static str>,
    /// Topic of its will, and whether it is retained.
    pub will: Option<(String, bool)>,
    /// The share group it subscribes in.
    pub group: Option<&'static str>,
    /// It unsubscribes now and then.
    pub leaves: bool,
    /// It never begins a new session.
    pub stays: bool,
    /// The largest packet it takes.
    pub packet: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    Up,
    /// DISCONNECT is sent, the socket is still open.
    Leaving,
    /// For good.
    Gone,
}

#[derive(Debug)]
struct Out {
    id: PacketId,
    uid: Uid,
    publish: Publish,
    released: bool,
}

pub struct MqttActor {
    me: ActorId,
    client: String,
    plan: Plan,
    version: ProtocolVersion,
    state: State,
    link: Option<LinkId>,
    decoder: Decoder,
    input: BytesMut,
    next_act: u64,
    last_sent: u64,
    out: VecDeque<Out>,
    received: BTreeSet<PacketId>,
    acks: VecDeque<(u64, Packet)>,
    next_id: u16,
    /// The router has confirmed that it keeps a session.
    has_session: bool,
    interest: Option<InterestId>,
    subscribing: Option<PacketId>,
    /// When it first asked for its subscription in this session; it may be there without an answer.
    asked: Option<u64>,
    unsubscribing: Option<PacketId>,
    terms: Terms,
    /// What the router owes on this connection, in order.
    owed_pubacks: VecDeque<PacketId>,
    owed_pubrecs: VecDeque<PacketId>,
    owed_pubcomps: Vec<PacketId>,
    clean: bool,
    anew: bool,
    last_goodbye: bool,
}

impl MqttActor {
    pub fn new(me: ActorId, plan: Plan) -> MqttActor {
        let version = if plan.v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V3_1_1
        };
        MqttActor {
            me,
            client: format!("client-{me}"),
            plan,
            version,
            state: State::Down,
            link: None,
            decoder: Decoder::client(version, Limits::default()),
            input: BytesMut::new(),
            next_act: 0,
            last_sent: 0,
            out: VecDeque::new(),
            received: BTreeSet::new(),
            acks: VecDeque::new(),
            next_id: 0,
            has_session: false,
            interest: None,
            subscribing: None,
            asked: None,
            unsubscribing: None,
            terms: Terms::default(),
            owed_pubacks: VecDeque::new(),
            owed_pubrecs: VecDeque::new(),
            owed_pubcomps: Vec::new(),
            clean: true,
            anew: false,
            last_goodbye: false,
        }
    }

    fn connect(&mut self, cx: &mut Cx<'_>) {
        let wire = if cx.dice.flip() {
            Wire::Stream
        } else {
            Wire::Frames
        };
        let link = cx.net.connect(wire, cx.dice);
        cx.ledger.opened(link, self.me, Some(self.client.clone()));
        self.link = Some(link);
        self.state = State::Connecting;
        self.terms = Terms::new(self.plan.v5, self.plan.packet, cx.dice);
        self.decoder = Decoder::client(self.version, self.terms.limits());
        self.input = BytesMut::new();
        if !self.plan.v5 && cx.ledger.queue_full == Some(WhenFull::RefusePublisher) {
            cx.ledger
                .excuse(link, "refused in the only way 3.1.1 knows");
        }
        let leaving = cx.phase == Phase::Leave;
        // A new start in between, which the router must not mix with the former session.
        // Until it has succeeded, since the client has forgotten everything by then.
        let may_begin = self.plan.v5 && !self.plan.stays && cx.phase == Phase::Chaos;
        self.anew |= may_begin && cx.dice.permille(30);
        self.clean = !self.plan.persistent || leaving || self.anew;
        let durable = self.plan.persistent && !leaving;
        if self.clean {
            self.forget(cx);
        }
        let properties = self.terms.properties(durable);
        let will = if leaving { None } else { self.will(link, cx) };
        cx.note(self.me, || {
            format!("connects on {link}, clean {}", self.clean)
        });
        self.send(
            cx,
            &Packet::Connect(Box::new(Connect {
                version: self.version,
                clean_start: self.clean,
                keep_alive: KEEP_ALIVE_SECS,
                client_id: ByteString::from(self.client.as_str()),
                will,
                username: None,
                password: None,
                properties,
            })),
        );
    }

    fn will(&mut self, link: LinkId, cx: &mut Cx<'_>) -> Option<Will> {
        let (topic, retain) = self.plan.will.clone()?;
        let uid = cx.ledger.publication(self.me, &topic, 1);
        cx.ledger.of(uid).retained = retain;
        cx.ledger.arm(link, uid, None, None);
        Some(Will {
            qos: QoS::AtLeastOnce,
            retain,
            topic: topic.into(),
            payload: body(uid),
            properties: None,
        })
    }

    /// The session begins anew.
    fn forget(&mut self, cx: &mut Cx<'_>) {
        cx.ledger.session_over(self.me);
        self.has_session = false;
        self.asked = None;
        self.out.clear();
        self.received.clear();
        self.acks.clear();
        if let Some(interest) = self.interest.take() {
            cx.ledger.interest_over(interest);
        }
    }

    fn send(&mut self, cx: &mut Cx<'_>, packet: &Packet) {
        let Some(link) = self.link else { return };
        let mut bytes = BytesMut::new();
        if let Err(error) = encode(packet, self.version, &mut bytes) {
            cx.ledger.fail(format!(
                "the simulation cannot encode {packet:?}: {error:?}"
            ));
        }
        self.terms.sends(packet);
        let bytes = bytes.freeze();
        self.last_sent = cx.now;
        match cx.net.link(link).wire {
            Wire::Stream => cx
                .net
                .client_send(link, Item::Bytes(bytes), cx.now, cx.dice),
            _ => {
                let mut rest = bytes;
                while rest.len() > 1 && cx.dice.permille(200) {
                    let part = rest.split_to(1 + cx.dice.below(rest.len() - 1));
                    cx.net
                        .client_send(link, Item::Binary(part), cx.now, cx.dice);
                }
                cx.net
                    .client_send(link, Item::Binary(rest), cx.now, cx.dice);
            }
        }
    }

    /// The connection is over, whoever ended it.
    fn lost(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link.take() else { return };
        cx.net.client_close(link, cx.now, cx.dice);
        cx.note(self.me, || format!("has lost {link}"));
        self.owed_pubacks.clear();
        self.owed_pubrecs.clear();
        self.owed_pubcomps.clear();
        self.subscribing = None;
        self.unsubscribing = None;
        self.acks.clear();
        if !self.plan.persistent {
            self.forget(cx);
        } else if let Some(interest) = self.interest {
            cx.ledger.interest_linked(interest, false);
        }
        self.state = if self.last_goodbye {
            State::Gone
        } else {
            State::Down
        };
        self.next_act = cx.now + cx.dice.range(5, 1_500);
    }

    fn send_release(&mut self, id: PacketId, cx: &mut Cx<'_>) {
        self.owed_pubcomps.push(id);
        self.send(cx, &Packet::PubRel(Ack::success(id)));
    }

    fn send_publish(&mut self, uid: Uid, publish: Publish, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.owed_pubacks.push_back(id),
            (QoS::ExactlyOnce, Some(id)) => self.owed_pubrecs.push_back(id),
            _ => {}
        }
        cx.ledger.sent(link, uid);
        let publish = self.terms.shorten(publish, cx.dice);
        self.send(cx, &Packet::Publish(publish));
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 40 + 1;
            let id = PacketId::MIN.saturating_add(self.next_id - 1);
            let is_asked = self.subscribing == Some(id) || self.unsubscribing == Some(id);
            if !is_asked && !self.out.iter().any(|out| out.id == id) {
                return id;
            }
        }
    }

    fn publish(&mut self, cx: &mut Cx<'_>) {
        let retain =
            !self.plan.retains.is_empty() && (self.plan.publishes.is_empty() || cx.dice.flip());
        let topics = if retain {
            &self.plan.retains
        } else {
            &self.plan.publishes
        };
        if topics.is_empty() || self.out.len() >= OPEN_MAX {
            return;
        }
        let topic = *cx.dice.pick(topics);
        let qos = cx.dice.range(0, 2) as u8;
        let uid = cx.ledger.publication(self.me, topic, qos);
        let clears = retain && cx.dice.permille(250);
        let publication = cx.ledger.of(uid);
        (publication.retained, publication.clears) = (retain, clears);
        let quality = QoS::from_u8(qos).unwrap_or_default();
        let packet_id = (qos > 0).then(|| self.free_id());
        let publish = Publish {
            dup: false,
            qos: quality,
            retain,
            topic: ByteString::from_static(topic),
            packet_id,
            properties: None,
            payload: if clears { Bytes::new() } else { body(uid) },
        };
        cx.note(self.me, || format!("publishes {uid} on {topic} qos {qos} retain {retain} clears {clears} id {packet_id:?}"));
        if let Some(id) = packet_id {
            self.out.push_back(Out {
                id,
                uid,
                publish: publish.clone(),
                released: false,
            });
        }
        self.send_publish(uid, publish, cx);
    }

    fn subscribe(&mut self, filter: &'static str, qos: u8, cx: &mut Cx<'_>) {
        let packet_id = self.free_id();
        self.subscribing = Some(packet_id);
        let step = cx.ledger.tick();
        self.asked.get_or_insert(step);
        let maximum_qos = QoS::from_u8(qos).unwrap_or_default();
        let options = SubscriptionOptions {
            maximum_qos,
            ..SubscriptionOptions::default()
        };
        let filters = vec![SubscribeFilter {
            filter: self.filter(filter),
            options,
        }];
        self.send(
            cx,
            &Packet::Subscribe(Subscribe {
                packet_id,
                properties: None,
                filters,
            }),
        );
    }

    fn filter(&self, filter: &'static str) -> ByteString {
        match self.plan.group {
            Some(group) => format!("$share/{group}/{filter}").into(),
            None => ByteString::from_static(filter),
        }
    }

    fn unsubscribe(&mut self, cx: &mut Cx<'_>) {
        let (Some((filter, _)), Some(interest)) = (self.plan.subscribes, self.interest.take())
        else {
            return;
        };
        cx.note(self.me, || "unsubscribes".to_owned());
        cx.ledger.interest_over(interest);
        let packet_id = self.free_id();
        self.unsubscribing = Some(packet_id);
        let packet = Unsubscribe {
            packet_id,
            properties: None,
            filters: vec![self.filter(filter)],
        };
        self.send(cx, &Packet::Unsubscribe(packet));
        cx.ledger.count("members that left");
    }

    fn say_goodbye(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        cx.ledger.waive(link, false);
        cx.ledger.excuse(link, "goodbye");
        let reason = ReasonCode::NORMAL_DISCONNECTION;
        self.send(
            cx,
            &Packet::Disconnect(Disconnect {
                reason,
                properties: None,
            }),
        );
        self.state = State::Leaving;
    }

    /// For good if this connection's session ends with it; else the client comes back once more.
    fn say_last_goodbye(&mut self, cx: &mut Cx<'_>) {
        self.say_goodbye(cx);
        self.last_goodbye = self.clean;
    }

    fn act(&mut self, cx: &mut Cx<'_>) {
        self.next_act = cx.now + cx.dice.range(10, 400);
        if let Some((filter, qos)) = self.plan.subscribes
            && self.interest.is_none()
        {
            if self.subscribing.is_none() && self.unsubscribing.is_none() {
                self.subscribe(filter, qos, cx);
            }
            return;
        }
        if cx.phase != Phase::Chaos {
            return;
        }
        match cx.dice.range(0, 99) {
            0 | 1 => self.say_goodbye(cx),
            // The socket is closed without a word.
            2 => self.lost(cx),
            // The client comes back while the router still believes in the former connection.
            3 => {
                if let Some(link) = self.link {
                    cx.ledger.excuse(link, "abandoned");
                    cx.net.silence(link, cx.now, 0);
                    self.lost(cx);
                    self.next_act = cx.now + cx.dice.range(0, 20);
                }
            }
            4..8 if self.plan.leaves => self.unsubscribe(cx),
            _ => self.publish(cx),
        }
    }

    fn due_acks(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut progress = false;
        while self.state == State::Up
            && self.acks.front().is_some_and(|(at, _)| *at <= cx.now)
            && let Some((_, packet)) = self.acks.pop_front()
        {
            progress = true;
            self.send(cx, &packet);
        }
        progress
    }
}

impl Actor for MqttActor {
    fn turn(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut progress = self.read(cx);
        progress |= self.due_acks(cx);
        if self.state == State::Up && cx.now >= self.last_sent + PING_MS {
            self.send(cx, &Packet::PingReq);
            progress = true;
        }
        if cx.now < self.next_act {
            return progress;
        }
        match self.state {
            State::Down => self.connect(cx),
            // Back once more, to end the session and not only the connection.
            State::Up if cx.phase == Phase::Leave => self.say_last_goodbye(cx),
            State::Up => self.act(cx),
            State::Connecting | State::Leaving | State::Gone => self.next_act = u64::MAX,
        }
        true
    }

    fn next(&self) -> Option<u64> {
        let ack = self.acks.front().map(|(at, _)| *at);
        let ping = (self.state == State::Up).then_some(self.last_sent + PING_MS);
        let act = (self.next_act < u64::MAX).then_some(self.next_act);
        [ack, ping, act].into_iter().flatten().min()
    }

    fn link(&self) -> Option<LinkId> {
        self.link
    }

    fn waits(&self, phase: Phase) -> Option<String> {
        let client = &self.client;
        if phase == Phase::Leave {
            return (self.state != State::Gone).then(|| format!("{client} is {:?}", self.state));
        }
        if self.state != State::Up {
            return Some(format!("{client} is {:?}", self.state));
        }
        if self.plan.subscribes.is_some() && self.interest.is_none() {
            return Some(format!("{client} has no subscription"));
        }
        let owed = self.owed_pubacks.len() + self.owed_pubrecs.len() + self.owed_pubcomps.len();
        if owed > 0 || !self.out.is_empty() || !self.acks.is_empty() {
            return Some(format!(
                "{client} waits for {owed} answers, has {:?} open",
                self.out
            ));
        }
        None
    }
}

fn body(uid: Uid) -> Bytes {
    Bytes::from(format!("{{\"u\":{uid}}}"))
}
