//! Packets of `mqtt_protocol_core::mqtt::packet::v5_0`.

use mqtt_protocol_core::mqtt::connection::RawPacket;
use mqtt_protocol_core::mqtt::packet::{RetainHandling as TheirHandling, SubEntry, SubOpts, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use protocols::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, ProtocolVersion,
    Publish, RetainHandling, Secret, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions,
    UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

use super::property::{listed, translated};
use super::{blob, code, our_qos, shared, text, their_qos};

/// An acknowledgement; without a code it means Success (5.0 section 3.4.2.1).
macro_rules! ack {
    ($packet:ident, $raw:expr) => {{
        let ack = $raw.parse_exact(v5_0::$packet::parse)?;
        PacketId::new(ack.packet_id())
            .zip(reason(ack.reason_code().map(|code| code as u8)))
            .map(|(packet_id, reason)| Ack {
                packet_id,
                reason,
                properties: ack.props().as_deref().and_then(translated),
            })
    }};
}

fn reason(value: Option<u8>) -> Option<ReasonCode> {
    ReasonCode::from_u8(value.unwrap_or_default())
}

/// Reads a framed packet; `Ok(None)` if they accept what our model cannot express.
pub fn read(kind: PacketType, raw: &RawPacket) -> Result<Option<Packet>, MqttError> {
    Ok(match kind {
        PacketType::Connect => connect(&raw.parse_exact(v5_0::Connect::parse)?),
        PacketType::ConnAck => conn_ack(&raw.parse_exact(v5_0::Connack::parse)?),
        PacketType::Publish => publish(&v5_0::Publish::parse(raw.flags(), shared(raw))?.0),
        PacketType::PubAck => ack!(Puback, raw).map(Packet::PubAck),
        PacketType::PubRec => ack!(Pubrec, raw).map(Packet::PubRec),
        PacketType::PubRel => ack!(Pubrel, raw).map(Packet::PubRel),
        PacketType::PubComp => ack!(Pubcomp, raw).map(Packet::PubComp),
        PacketType::Subscribe => subscribe(&raw.parse_exact(v5_0::Subscribe::parse)?),
        PacketType::SubAck => sub_ack(&raw.parse_exact(v5_0::Suback::parse)?),
        PacketType::Unsubscribe => unsubscribe(&raw.parse_exact(v5_0::Unsubscribe::parse)?),
        PacketType::UnsubAck => unsub_ack(&raw.parse_exact(v5_0::Unsuback::parse)?),
        PacketType::PingReq => {
            raw.parse_exact(v5_0::Pingreq::parse)?;
            Some(Packet::PingReq)
        }
        PacketType::PingResp => {
            raw.parse_exact(v5_0::Pingresp::parse)?;
            Some(Packet::PingResp)
        }
        PacketType::Disconnect => disconnect(&raw.parse_exact(v5_0::Disconnect::parse)?),
        PacketType::Auth => auth(&raw.parse_exact(v5_0::Auth::parse)?),
    })
}

fn connect(connect: &v5_0::Connect) -> Option<Packet> {
    let will = connect.will_topic().zip(connect.will_payload());
    Some(Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V5,
        clean_start: connect.clean_start(),
        keep_alive: connect.keep_alive(),
        client_id: text(connect.client_id()),
        will: will.map(|(topic, payload)| Will {
            qos: our_qos(connect.will_qos()),
            retain: connect.will_retain(),
            topic: text(topic),
            payload: blob(payload),
            properties: translated(connect.will_props()),
        }),
        username: connect.user_name().map(text),
        password: connect.password().map(|password| Secret(blob(password))),
        properties: translated(connect.props()),
    })))
}

fn conn_ack(ack: &v5_0::Connack) -> Option<Packet> {
    Some(Packet::ConnAck(ConnAck {
        session_present: ack.session_present(),
        reason: reason(Some(ack.reason_code() as u8))?,
        properties: translated(ack.props()),
    }))
}

fn publish(publish: &v5_0::Publish) -> Option<Packet> {
    Some(Packet::Publish(Publish {
        dup: publish.dup(),
        qos: our_qos(publish.qos()),
        retain: publish.retain(),
        topic: text(publish.topic_name()),
        packet_id: match publish.packet_id() {
            Some(id) => Some(PacketId::new(id)?),
            None => None,
        },
        properties: translated(publish.props()),
        payload: blob(publish.payload().as_slice()),
    }))
}

fn subscribe(subscribe: &v5_0::Subscribe) -> Option<Packet> {
    let filter = |entry: &SubEntry| SubscribeFilter {
        filter: text(entry.topic_filter()),
        options: SubscriptionOptions {
            maximum_qos: our_qos(entry.sub_opts().qos()),
            no_local: entry.sub_opts().nl(),
            retain_as_published: entry.sub_opts().rap(),
            retain_handling: match entry.sub_opts().rh() {
                TheirHandling::SendRetained => RetainHandling::SendAtSubscribe,
                TheirHandling::SendRetainedIfNotExists => RetainHandling::SendIfNew,
                TheirHandling::DoNotSendRetained => RetainHandling::DoNotSend,
            },
        },
    };
    Some(Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(subscribe.packet_id())?,
        properties: translated(subscribe.props()),
        filters: subscribe.entries().iter().map(filter).collect(),
    }))
}

fn sub_ack(ack: &v5_0::Suback) -> Option<Packet> {
    let codes = ack.reason_codes();
    let reasons = codes.iter().map(|code| reason(Some(*code as u8)));
    Some(Packet::SubAck(SubAck {
        packet_id: PacketId::new(ack.packet_id())?,
        properties: translated(ack.props()),
        reasons: reasons.collect::<Option<_>>()?,
    }))
}

fn unsubscribe(unsubscribe: &v5_0::Unsubscribe) -> Option<Packet> {
    let filters = unsubscribe.entries().iter();
    Some(Packet::Unsubscribe(Unsubscribe {
        packet_id: PacketId::new(unsubscribe.packet_id())?,
        properties: translated(unsubscribe.props()),
        filters: filters.map(|filter| text(filter.as_str())).collect(),
    }))
}

fn unsub_ack(ack: &v5_0::Unsuback) -> Option<Packet> {
    let codes = ack.reason_codes();
    let reasons = codes.iter().map(|code| reason(Some(*code as u8)));
    Some(Packet::UnsubAck(UnsubAck {
        packet_id: PacketId::new(ack.packet_id())?,
        properties: translated(ack.props()),
        reasons: reasons.collect::<Option<_>>()?,
    }))
}

fn disconnect(disconnect: &v5_0::Disconnect) -> Option<Packet> {
    Some(Packet::Disconnect(Disconnect {
        reason: reason(disconnect.reason_code().map(|code| code as u8))?,
        properties: disconnect.props().as_deref().and_then(translated),
    }))
}

fn auth(auth: &v5_0::Auth) -> Option<Packet> {
    Some(Packet::Auth(Auth {
        reason: reason(auth.reason_code().map(|code| code as u8))?,
        properties: auth.props().as_deref().and_then(translated),
    }))
}

macro_rules! built_ack {
    ($packet:ident, $ack:expr) => {
        v5_0::$packet::builder()
            .packet_id($ack.packet_id.get())
            .reason_code(code($ack.reason)?)
            .props(listed(&$ack.properties)?)
            .build()?
            .to_continuous_buffer()
    };
}

macro_rules! built_answer {
    ($packet:ident, $ack:expr) => {{
        let codes: Result<Vec<_>, _> = $ack.reasons.iter().map(|reason| code(*reason)).collect();
        v5_0::$packet::builder()
            .packet_id($ack.packet_id.get())
            .reason_codes(codes?)
            .props(listed(&$ack.properties)?)
            .build()?
            .to_continuous_buffer()
    }};
}

/// Our packet in their bytes, with reason and property length where they could be left out.
pub fn write(packet: &Packet) -> Result<Vec<u8>, MqttError> {
    Ok(match packet {
        Packet::Connect(packet) => built_connect(packet)?.to_continuous_buffer(),
        Packet::ConnAck(ack) => v5_0::Connack::builder()
            .session_present(ack.session_present)
            .reason_code(code(ack.reason)?)
            .props(listed(&ack.properties)?)
            .build()?
            .to_continuous_buffer(),
        Packet::Publish(packet) => built_publish(packet)?.to_continuous_buffer(),
        Packet::PubAck(ack) => built_ack!(Puback, ack),
        Packet::PubRec(ack) => built_ack!(Pubrec, ack),
        Packet::PubRel(ack) => built_ack!(Pubrel, ack),
        Packet::PubComp(ack) => built_ack!(Pubcomp, ack),
        Packet::Subscribe(packet) => built_subscribe(packet)?.to_continuous_buffer(),
        Packet::SubAck(ack) => built_answer!(Suback, ack),
        Packet::Unsubscribe(packet) => v5_0::Unsubscribe::builder()
            .packet_id(packet.packet_id.get())
            .props(listed(&packet.properties)?)
            .entries(packet.filters.iter().map(|filter| &**filter))?
            .build()?
            .to_continuous_buffer(),
        Packet::UnsubAck(ack) => built_answer!(Unsuback, ack),
        Packet::PingReq => v5_0::Pingreq::builder().build()?.to_continuous_buffer(),
        Packet::PingResp => v5_0::Pingresp::builder().build()?.to_continuous_buffer(),
        Packet::Disconnect(packet) => v5_0::Disconnect::builder()
            .reason_code(code(packet.reason)?)
            .props(listed(&packet.properties)?)
            .build()?
            .to_continuous_buffer(),
        Packet::Auth(packet) => v5_0::Auth::builder()
            .reason_code(code(packet.reason)?)
            .props(listed(&packet.properties)?)
            .build()?
            .to_continuous_buffer(),
    })
}

fn built_connect(connect: &Connect) -> Result<v5_0::Connect, MqttError> {
    let mut builder = v5_0::Connect::builder()
        .clean_start(connect.clean_start)
        .keep_alive(connect.keep_alive)
        .props(listed(&connect.properties)?)
        .client_id(&*connect.client_id)?;
    if let Some(will) = &connect.will {
        let payload = will.payload.to_vec();
        builder = builder
            .will_message(&*will.topic, payload, their_qos(will.qos), will.retain)?
            .will_props(listed(&will.properties)?);
    }
    if let Some(username) = &connect.username {
        builder = builder.user_name(&**username)?;
    }
    if let Some(password) = &connect.password {
        builder = builder.password(password.0.to_vec())?;
    }
    builder.build()
}

fn built_publish(publish: &Publish) -> Result<v5_0::Publish, MqttError> {
    let mut builder = v5_0::Publish::builder()
        .topic_name(&*publish.topic)?
        .qos(their_qos(publish.qos))
        .dup(publish.dup)
        .retain(publish.retain)
        .props(listed(&publish.properties)?)
        .payload(publish.payload.to_vec());
    if let Some(id) = publish.packet_id {
        builder = builder.packet_id(id.get());
    }
    builder.build()
}

fn built_subscribe(subscribe: &Subscribe) -> Result<v5_0::Subscribe, MqttError> {
    let entry = |filter: &SubscribeFilter| {
        let options = SubOpts::new()
            .set_qos(their_qos(filter.options.maximum_qos))
            .set_nl(filter.options.no_local)
            .set_rap(filter.options.retain_as_published)
            .set_rh(match filter.options.retain_handling {
                RetainHandling::SendAtSubscribe => TheirHandling::SendRetained,
                RetainHandling::SendIfNew => TheirHandling::SendRetainedIfNotExists,
                RetainHandling::DoNotSend => TheirHandling::DoNotSendRetained,
            });
        SubEntry::new(&*filter.filter, options)
    };
    let entries: Result<Vec<_>, _> = subscribe.filters.iter().map(entry).collect();
    v5_0::Subscribe::builder()
        .packet_id(subscribe.packet_id.get())
        .props(listed(&subscribe.properties)?)
        .entries(entries?)
        .build()
}
