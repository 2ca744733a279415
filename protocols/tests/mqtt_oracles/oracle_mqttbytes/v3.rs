//! Packets of `mqttbytes::v4`, which is 3.1.1, as ours and as its bytes.

use bytes::{Bytes, BytesMut};
use mqttbytes::{Error, v4};
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, Secret, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

use super::{id, qos, text};

/// Their packet as ours, field by field.
pub fn translated(packet: &v4::Packet) -> Option<Packet> {
    Some(match packet {
        v4::Packet::Connect(packet) => Packet::Connect(Box::new(connect(packet)?)),
        v4::Packet::ConnAck(ack) => Packet::ConnAck(ConnAck {
            session_present: ack.session_present,
            reason: ReasonCode::from_connect_return_code(ack.code as u8)?,
            properties: None,
        }),
        v4::Packet::Publish(packet) => Packet::Publish(publish(packet)?),
        v4::Packet::PubAck(ack) => Packet::PubAck(Ack::success(id(ack.pkid)?)),
        v4::Packet::PubRec(ack) => Packet::PubRec(Ack::success(id(ack.pkid)?)),
        v4::Packet::PubRel(ack) => Packet::PubRel(Ack::success(id(ack.pkid)?)),
        v4::Packet::PubComp(ack) => Packet::PubComp(Ack::success(id(ack.pkid)?)),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe(Subscribe {
            packet_id: id(subscribe.pkid)?,
            properties: None,
            filters: subscribe
                .filters
                .iter()
                .map(filter)
                .collect::<Option<_>>()?,
        }),
        v4::Packet::SubAck(ack) => Packet::SubAck(SubAck {
            packet_id: id(ack.pkid)?,
            properties: None,
            reasons: ack
                .return_codes
                .iter()
                .map(|&code| granted(code))
                .collect::<Option<_>>()?,
        }),
        v4::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe(Unsubscribe {
            packet_id: id(unsubscribe.pkid)?,
            properties: None,
            filters: unsubscribe.topics.iter().map(|topic| text(topic)).collect(),
        }),
        v4::Packet::UnsubAck(ack) => Packet::UnsubAck(UnsubAck {
            packet_id: id(ack.pkid)?,
            properties: None,
            reasons: Vec::new(),
        }),
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::PingResp => Packet::PingResp,
        v4::Packet::Disconnect => Packet::Disconnect(Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: None,
        }),
    })
}

fn connect(connect: &v4::Connect) -> Option<Connect> {
    let login = connect.login.as_ref();
    let given = |text: &&String| !text.is_empty();
    let will = |will: &v4::LastWill| {
        Some(Will {
            qos: qos(will.qos)?,
            retain: will.retain,
            topic: text(&will.topic),
            payload: will.message.clone(),
            properties: None,
        })
    };
    Some(Connect {
        version: ProtocolVersion::V3_1_1,
        clean_start: connect.clean_session,
        keep_alive: connect.keep_alive,
        client_id: text(&connect.client_id),
        will: match &connect.last_will {
            Some(last_will) => Some(will(last_will)?),
            None => None,
        },
        username: login
            .map(|login| &login.username)
            .filter(given)
            .map(|name| text(name)),
        password: login
            .map(|login| &login.password)
            .filter(given)
            .map(|password| Secret(Bytes::from(password.clone()))),
        properties: None,
    })
}

fn publish(publish: &v4::Publish) -> Option<Publish> {
    Some(Publish {
        dup: publish.dup,
        qos: qos(publish.qos)?,
        retain: publish.retain,
        topic: text(&publish.topic),
        packet_id: PacketId::new(publish.pkid),
        properties: None,
        payload: publish.payload.clone(),
    })
}

fn filter(filter: &v4::SubscribeFilter) -> Option<SubscribeFilter> {
    Some(SubscribeFilter {
        filter: text(&filter.path),
        options: SubscriptionOptions {
            maximum_qos: qos(filter.qos)?,
            ..Default::default()
        },
    })
}

fn granted(code: v4::SubscribeReasonCode) -> Option<ReasonCode> {
    match code {
        v4::SubscribeReasonCode::Success(maximum) => qos(maximum).map(ReasonCode::granted),
        v4::SubscribeReasonCode::Failure => Some(ReasonCode::UnspecifiedError),
    }
}

/// Their bytes of their packet.
pub fn write(packet: &v4::Packet, out: &mut BytesMut) -> Result<usize, Error> {
    match packet {
        v4::Packet::Connect(packet) => packet.write(out),
        v4::Packet::ConnAck(packet) => packet.write(out),
        v4::Packet::Publish(packet) => packet.write(out),
        v4::Packet::PubAck(packet) => packet.write(out),
        v4::Packet::PubRec(packet) => packet.write(out),
        v4::Packet::PubRel(packet) => packet.write(out),
        v4::Packet::PubComp(packet) => packet.write(out),
        v4::Packet::Subscribe(packet) => packet.write(out),
        v4::Packet::SubAck(packet) => packet.write(out),
        v4::Packet::Unsubscribe(packet) => packet.write(out),
        v4::Packet::UnsubAck(packet) => packet.write(out),
        v4::Packet::PingReq => v4::PingReq.write(out),
        v4::Packet::PingResp => v4::PingResp.write(out),
        v4::Packet::Disconnect => v4::Disconnect.write(out),
    }
}
