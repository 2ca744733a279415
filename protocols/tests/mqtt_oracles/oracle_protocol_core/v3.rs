//! Packets of `mqtt_protocol_core::mqtt::packet::v3_1_1`.

use mqtt_protocol_core::mqtt::connection::RawPacket;
use mqtt_protocol_core::mqtt::packet::{SubEntry, SubOpts, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, ProtocolVersion, Publish,
    Secret, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

use super::{blob, code_of, our_qos, shared, text, their_qos};

/// Reads a framed packet; `Ok(None)` if they accept what our model cannot express.
pub fn read(kind: PacketType, raw: &RawPacket) -> Result<Option<Packet>, MqttError> {
    Ok(match kind {
        PacketType::Connect => connect(&raw.parse_exact(v3_1_1::Connect::parse)?),
        PacketType::ConnAck => conn_ack(&raw.parse_exact(v3_1_1::Connack::parse)?),
        PacketType::Publish => publish(&v3_1_1::Publish::parse(raw.flags(), shared(raw))?.0),
        PacketType::PubAck => {
            ack(raw.parse_exact(v3_1_1::Puback::parse)?.packet_id()).map(Packet::PubAck)
        }
        PacketType::PubRec => {
            ack(raw.parse_exact(v3_1_1::Pubrec::parse)?.packet_id()).map(Packet::PubRec)
        }
        PacketType::PubRel => {
            ack(raw.parse_exact(v3_1_1::Pubrel::parse)?.packet_id()).map(Packet::PubRel)
        }
        PacketType::PubComp => {
            ack(raw.parse_exact(v3_1_1::Pubcomp::parse)?.packet_id()).map(Packet::PubComp)
        }
        PacketType::Subscribe => subscribe(&raw.parse_exact(v3_1_1::Subscribe::parse)?),
        PacketType::SubAck => sub_ack(&raw.parse_exact(v3_1_1::Suback::parse)?),
        PacketType::Unsubscribe => unsubscribe(&raw.parse_exact(v3_1_1::Unsubscribe::parse)?),
        PacketType::UnsubAck => unsub_ack(&raw.parse_exact(v3_1_1::Unsuback::parse)?),
        PacketType::PingReq => {
            raw.parse_exact(v3_1_1::Pingreq::parse)?;
            Some(Packet::PingReq)
        }
        PacketType::PingResp => {
            raw.parse_exact(v3_1_1::Pingresp::parse)?;
            Some(Packet::PingResp)
        }
        PacketType::Disconnect => {
            raw.parse_exact(v3_1_1::Disconnect::parse)?;
            Some(Packet::Disconnect(Disconnect {
                reason: ReasonCode::NORMAL_DISCONNECTION,
                properties: None,
            }))
        }
        PacketType::Auth => return Err(MqttError::MalformedPacket),
    })
}

fn connect(connect: &v3_1_1::Connect) -> Option<Packet> {
    let will = connect.will_topic().zip(connect.will_payload());
    Some(Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V3_1_1,
        clean_start: connect.clean_start(),
        keep_alive: connect.keep_alive(),
        client_id: text(connect.client_id()),
        will: will.map(|(topic, payload)| Will {
            qos: our_qos(connect.will_qos()),
            retain: connect.will_retain(),
            topic: text(topic),
            payload: blob(payload),
            properties: None,
        }),
        username: connect.user_name().map(text),
        password: connect.password().map(|password| Secret(blob(password))),
        properties: None,
    })))
}

fn conn_ack(ack: &v3_1_1::Connack) -> Option<Packet> {
    Some(Packet::ConnAck(ConnAck {
        session_present: ack.session_present(),
        reason: ReasonCode::from_connect_return_code(ack.return_code() as u8)?,
        properties: None,
    }))
}

fn publish(publish: &v3_1_1::Publish) -> Option<Packet> {
    Some(Packet::Publish(Publish {
        dup: publish.dup(),
        qos: our_qos(publish.qos()),
        retain: publish.retain(),
        topic: text(publish.topic_name()),
        packet_id: match publish.packet_id() {
            Some(id) => Some(PacketId::new(id)?),
            None => None,
        },
        properties: None,
        payload: blob(publish.payload().as_slice()),
    }))
}

fn ack(id: u16) -> Option<Ack> {
    PacketId::new(id).map(Ack::success)
}

fn subscribe(subscribe: &v3_1_1::Subscribe) -> Option<Packet> {
    let filter = |entry: &SubEntry| SubscribeFilter {
        filter: text(entry.topic_filter()),
        options: SubscriptionOptions {
            maximum_qos: our_qos(entry.sub_opts().qos()),
            ..Default::default()
        },
    };
    Some(Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(subscribe.packet_id())?,
        properties: None,
        filters: subscribe.entries().iter().map(filter).collect(),
    }))
}

fn sub_ack(ack: &v3_1_1::Suback) -> Option<Packet> {
    let codes = ack.return_codes();
    let reasons = codes.iter().map(|code| ReasonCode::from_u8(*code as u8));
    Some(Packet::SubAck(SubAck {
        packet_id: PacketId::new(ack.packet_id())?,
        properties: None,
        reasons: reasons.collect::<Option<_>>()?,
    }))
}

fn unsubscribe(unsubscribe: &v3_1_1::Unsubscribe) -> Option<Packet> {
    let filters = unsubscribe.entries().iter();
    Some(Packet::Unsubscribe(Unsubscribe {
        packet_id: PacketId::new(unsubscribe.packet_id())?,
        properties: None,
        filters: filters.map(|filter| text(filter.as_str())).collect(),
    }))
}

fn unsub_ack(ack: &v3_1_1::Unsuback) -> Option<Packet> {
    Some(Packet::UnsubAck(UnsubAck {
        packet_id: PacketId::new(ack.packet_id())?,
        properties: None,
        reasons: Vec::new(),
    }))
}

macro_rules! built_ack {
    ($packet:ident, $ack:expr) => {
        v3_1_1::$packet::builder()
            .packet_id($ack.packet_id.get())
            .build()?
            .to_continuous_buffer()
    };
}

/// Our packet in their bytes.
pub fn write(packet: &Packet) -> Result<Vec<u8>, MqttError> {
    Ok(match packet {
        Packet::Connect(packet) => built_connect(packet)?.to_continuous_buffer(),
        Packet::ConnAck(ack) => {
            let code = ack.reason.connect_return_code();
            v3_1_1::Connack::builder()
                .session_present(ack.session_present)
                .return_code(code_of(code.ok_or(MqttError::ValueOutOfRange)?)?)
                .build()?
                .to_continuous_buffer()
        }
        Packet::Publish(packet) => built_publish(packet)?.to_continuous_buffer(),
        Packet::PubAck(ack) => built_ack!(Puback, ack),
        Packet::PubRec(ack) => built_ack!(Pubrec, ack),
        Packet::PubRel(ack) => built_ack!(Pubrel, ack),
        Packet::PubComp(ack) => built_ack!(Pubcomp, ack),
        Packet::Subscribe(packet) => {
            let entry = |filter: &SubscribeFilter| {
                let options = SubOpts::new().set_qos(their_qos(filter.options.maximum_qos));
                SubEntry::new(&*filter.filter, options)
            };
            let entries: Result<Vec<_>, _> = packet.filters.iter().map(entry).collect();
            v3_1_1::Subscribe::builder()
                .packet_id(packet.packet_id.get())
                .entries(entries?)
                .build()?
                .to_continuous_buffer()
        }
        Packet::SubAck(ack) => {
            let code = |reason: &ReasonCode| code_of(reason.subscribe_return_code());
            let codes: Result<Vec<_>, _> = ack.reasons.iter().map(code).collect();
            v3_1_1::Suback::builder()
                .packet_id(ack.packet_id.get())
                .return_codes(codes?)
                .build()?
                .to_continuous_buffer()
        }
        Packet::Unsubscribe(packet) => v3_1_1::Unsubscribe::builder()
            .packet_id(packet.packet_id.get())
            .entries(packet.filters.iter().map(|filter| &**filter))?
            .build()?
            .to_continuous_buffer(),
        Packet::UnsubAck(ack) => built_ack!(Unsuback, ack),
        Packet::PingReq => v3_1_1::Pingreq::builder().build()?.to_continuous_buffer(),
        Packet::PingResp => v3_1_1::Pingresp::builder().build()?.to_continuous_buffer(),
        Packet::Disconnect(_) => v3_1_1::Disconnect::builder()
            .build()?
            .to_continuous_buffer(),
        Packet::Auth(_) => return Err(MqttError::MalformedPacket),
    })
}

fn built_connect(connect: &Connect) -> Result<v3_1_1::Connect, MqttError> {
    let mut builder = v3_1_1::Connect::builder()
        .clean_start(connect.clean_start)
        .keep_alive(connect.keep_alive)
        .client_id(&*connect.client_id)?;
    if let Some(will) = &connect.will {
        let payload = will.payload.to_vec();
        builder = builder.will_message(&*will.topic, payload, their_qos(will.qos), will.retain)?;
    }
    if let Some(username) = &connect.username {
        builder = builder.user_name(&**username)?;
    }
    if let Some(password) = &connect.password {
        builder = builder.password(password.0.to_vec())?;
    }
    builder.build()
}

fn built_publish(publish: &Publish) -> Result<v3_1_1::Publish, MqttError> {
    let mut builder = v3_1_1::Publish::builder()
        .topic_name(&*publish.topic)?
        .qos(their_qos(publish.qos))
        .dup(publish.dup)
        .retain(publish.retain)
        .payload(publish.payload.to_vec());
    if let Some(id) = publish.packet_id {
        builder = builder.packet_id(id.get());
    }
    builder.build()
}
