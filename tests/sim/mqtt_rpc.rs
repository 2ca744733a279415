//! An MQTT 5 client of `fox.lock.*`, by request and response over `$rpc/…`.
//!
//! Its session ends with its connection, and so do its holds. Each request is acknowledged and
//! answered once, with the Correlation Data it was sent with.

use crate::actor::{Actor, Cx, Phase};
use crate::holder::{Holder, Wanted};
use crate::ledger::ActorId;
use crate::net::{Item, LinkId, Wire};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::mqtt::codec::{Decoder, Limits, encode};
use protocols::mqtt::packet::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use protocols::mqtt::reason::ReasonCode;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    Up,
    Leaving,
    /// For good.
    Gone,
}

pub struct MqttCaller {
    me: ActorId,
    holder: Holder,
    state: State,
    link: Option<LinkId>,
    decoder: Decoder,
    input: BytesMut,
    next_act: u64,
    calls: u16,
    /// The call that is not answered, and the one that is not acknowledged.
    open: Option<u16>,
    unacknowledged: Option<PacketId>,
    last_goodbye: bool,
}

impl MqttCaller {
    pub fn new(me: ActorId, keys: Vec<&'static str>) -> MqttCaller {
        MqttCaller {
            me,
            holder: Holder::new(me, keys),
            state: State::Down,
            link: None,
            decoder: Decoder::client(ProtocolVersion::V5, Limits::default()),
            input: BytesMut::new(),
            next_act: 0,
            calls: 0,
            open: None,
            unacknowledged: None,
            last_goodbye: false,
        }
    }

    fn topic(&self) -> ByteString {
        format!("reply/{}", self.me).into()
    }

    fn connect(&mut self, cx: &mut Cx<'_>) {
        let wire = *cx.dice.pick(&[Wire::Stream, Wire::Frames]);
        let (link, client) = (cx.net.connect(wire, cx.dice), format!("caller-{}", self.me));
        cx.ledger.opened(link, self.me, Some(client.clone()));
        self.link = Some(link);
        self.state = State::Connecting;
        self.decoder = Decoder::client(ProtocolVersion::V5, Limits::default());
        self.input = BytesMut::new();
        let connect = Connect {
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: client.into(),
            will: None,
            username: None,
            password: None,
            properties: None,
        };
        let filter = SubscribeFilter {
            filter: self.topic(),
            options: SubscriptionOptions {
                maximum_qos: QoS::AtLeastOnce,
                ..SubscriptionOptions::default()
            },
        };
        let subscribe = Subscribe {
            packet_id: PacketId::MAX,
            properties: None,
            filters: vec![filter],
        };
        self.send(cx, &Packet::Connect(Box::new(connect)));
        self.send(cx, &Packet::Subscribe(subscribe));
    }

    fn send(&self, cx: &mut Cx<'_>, packet: &Packet) {
        let Some(link) = self.link else { return };
        let mut bytes = BytesMut::new();
        if let Err(error) = encode(packet, ProtocolVersion::V5, &mut bytes) {
            let what = format!("the simulation cannot encode {packet:?}: {error:?}");
            cx.ledger.fail(what);
        }
        let item = match cx.net.link(link).wire {
            Wire::Stream => Item::Bytes(bytes.freeze()),
            _ => Item::Binary(bytes.freeze()),
        };
        cx.net.client_send(link, item, cx.now, cx.dice);
    }

    fn call(&mut self, wanted: Wanted, cx: &mut Cx<'_>) {
        self.calls = self.calls % 1_000 + 1;
        let packet_id = PacketId::new(self.calls);
        let Wanted { name, args, kwargs } = wanted;
        let payload = match kwargs {
            Value::Null => json!({"args": args}),
            kwargs => json!({"args": args, "kwargs": kwargs}),
        };
        let properties = Properties {
            response_topic: Some(self.topic()),
            correlation_data: Some(Bytes::copy_from_slice(&self.calls.to_be_bytes())),
            ..Properties::default()
        };
        (self.open, self.unacknowledged) = (Some(self.calls), packet_id);
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: format!("$rpc/fox/lock/{name}").into(),
            packet_id,
            properties: Some(Box::new(properties)),
            payload: payload.to_string().into(),
        };
        self.send(cx, &Packet::Publish(publish));
    }

    fn lost(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link.take() else { return };
        cx.net.client_close(link, cx.now, cx.dice);
        cx.note(self.me, || format!("has lost {link}"));
        (self.open, self.unacknowledged) = (None, None);
        self.holder.down();
        let is_over = self.last_goodbye || cx.phase == Phase::Leave;
        self.state = if is_over { State::Gone } else { State::Down };
        self.next_act = cx.now + cx.dice.range(5, 1_500);
    }

    fn say_goodbye(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        cx.ledger.excuse(link, "goodbye");
        let (reason, properties) = (ReasonCode::NORMAL_DISCONNECTION, None);
        self.send(cx, &Packet::Disconnect(Disconnect { reason, properties }));
        self.state = State::Leaving;
        self.last_goodbye = cx.phase == Phase::Leave;
    }

    fn read(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        while let Some(item) = cx.net.client_take(link, cx.now) {
            match item {
                Item::Bytes(bytes) | Item::Binary(bytes) => self.input.extend_from_slice(&bytes),
                Item::Ping => cx.net.client_send(link, Item::Pong, cx.now, cx.dice),
                Item::Pong => {}
                Item::Text(_) => cx.ledger.fail("text in an MQTT connection"),
            }
        }
        while self.link == Some(link) {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => self.packet(packet, link, cx),
                Ok(None) => break,
                Err(error) => {
                    let what = format!("the router sent what cannot be decoded: {error:?}");
                    return cx.ledger.fail(what);
                }
            }
        }
        if self.link == Some(link) && cx.net.client_ended(link, cx.now) {
            if self.state != State::Leaving {
                cx.ledger.closed_by_router(link, "end of stream");
            }
            self.lost(cx);
        }
    }

    fn packet(&mut self, packet: Packet, link: LinkId, cx: &mut Cx<'_>) {
        let me = self.me;
        match packet {
            Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => {}
            Packet::SubAck(ack) if ack.reasons == [ReasonCode::GrantedQoS1] => {
                if self.state == State::Connecting {
                    (self.state, self.next_act) = (State::Up, cx.now);
                }
            }
            Packet::PubAck(ack) => {
                let is_due = self.unacknowledged.take() == Some(ack.packet_id);
                let fits = is_due && !ack.reason.is_error();
                cx.ledger
                    .require(fits, || format!("actor {me}: {ack:?} for nothing"));
            }
            Packet::Publish(publish) => self.response(&publish, link, cx),
            Packet::ConnAck(_) | Packet::Disconnect(_) => {
                if self.state != State::Leaving {
                    cx.ledger.closed_by_router(link, &format!("{packet:?}"));
                }
                self.lost(cx);
            }
            other => cx.ledger.fail(format!("actor {me}: unexpected {other:?}")),
        }
    }

    fn response(&mut self, publish: &Publish, link: LinkId, cx: &mut Cx<'_>) {
        if let Some(id) = publish.packet_id {
            self.send(cx, &Packet::PubAck(Ack::success(id)));
        }
        let properties = publish.properties.as_deref();
        let correlation = properties.and_then(|set| set.correlation_data.as_deref());
        let open = self.open.take().map(u16::to_be_bytes);
        if open.is_none() || correlation != open.as_ref().map(|data| &data[..]) {
            let what = format!("actor {}: an answer to nothing: {publish:?}", self.me);
            return cx.ledger.fail(what);
        }
        let property = |name: &str| {
            let mut set = properties.into_iter().flat_map(|set| &set.user_properties);
            set.find(|(known, _)| &**known == name)
                .map(|(_, value)| &**value)
        };
        cx.ledger.count("calls by MQTT answered");
        match (property("reynard-result"), property("reynard-error")) {
            (Some("result"), None) => {
                let report = serde_json::from_slice(&publish.payload).unwrap_or_default();
                self.holder.answer(&report, link, cx);
            }
            (Some("error"), Some(error)) => self.holder.error(error, link, cx),
            other => cx
                .ledger
                .fail(format!("actor {}: {other:?} as an answer", self.me)),
        }
    }

    fn act(&mut self, cx: &mut Cx<'_>) {
        self.next_act = cx.now + cx.dice.range(10, 300);
        if cx.phase == Phase::Leave {
            return self.say_goodbye(cx);
        }
        if cx.phase == Phase::Chaos {
            match cx.dice.range(0, 199) {
                0 => return self.say_goodbye(cx),
                1 | 2 => return self.lost(cx),
                _ => {}
            }
        }
        let may = self.open.is_none() && self.unacknowledged.is_none();
        let link = self.link.filter(|_| may);
        if let Some(wanted) = link.and_then(|link| self.holder.act(link, cx)) {
            self.call(wanted, cx);
        }
    }
}

impl Actor for MqttCaller {
    fn turn(&mut self, cx: &mut Cx<'_>) -> bool {
        self.read(cx);
        if cx.now < self.next_act {
            return true;
        }
        match self.state {
            State::Down if cx.phase == Phase::Leave => self.state = State::Gone,
            State::Down => {
                self.next_act = u64::MAX;
                self.connect(cx);
            }
            State::Up => self.act(cx),
            State::Connecting | State::Leaving | State::Gone => self.next_act = u64::MAX,
        }
        true
    }

    fn next(&self) -> Option<u64> {
        (self.next_act < u64::MAX).then_some(self.next_act)
    }

    fn link(&self) -> Option<LinkId> {
        self.link
    }

    fn waits(&self, phase: Phase) -> Option<String> {
        let me = self.me;
        if phase == Phase::Leave {
            return (self.state != State::Gone).then(|| format!("actor {me} has not left"));
        }
        if self.state != State::Up || self.open.is_some() || self.unacknowledged.is_some() {
            return Some(format!(
                "actor {me} is {:?}, open {:?}",
                self.state, self.open
            ));
        }
        self.holder.waits()
    }

    fn may_stall(&self) -> bool {
        false
    }
}
