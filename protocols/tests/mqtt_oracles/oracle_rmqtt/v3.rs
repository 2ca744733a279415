//! Packets of `rmqtt_codec::v3`, which is 3.1 and 3.1.1, as ours.

use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, ProtocolVersion, Publish, Secret, SubAck, Subscribe,
    SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;
use rmqtt_codec::types::{MQTT_LEVEL_31, MQTT_LEVEL_311};
use rmqtt_codec::v3;

use super::qos;

/// Their packet as ours, field by field.
pub fn translated(packet: &v3::Packet) -> Option<Packet> {
    Some(match packet {
        v3::Packet::Connect(packet) => Packet::Connect(Box::new(connect(packet)?)),
        v3::Packet::ConnectAck(ack) => Packet::ConnAck(ConnAck {
            session_present: ack.session_present,
            reason: ReasonCode::from_connect_return_code(ack.return_code.into())?,
            properties: None,
        }),
        v3::Packet::Publish(publish) => Packet::Publish(Publish {
            dup: publish.dup,
            qos: qos(publish.qos),
            retain: publish.retain,
            topic: publish.topic.clone(),
            packet_id: publish.packet_id,
            properties: None,
            payload: publish.payload.clone(),
        }),
        v3::Packet::PublishAck { packet_id } => Packet::PubAck(Ack::success(*packet_id)),
        v3::Packet::PublishReceived { packet_id } => Packet::PubRec(Ack::success(*packet_id)),
        v3::Packet::PublishRelease { packet_id } => Packet::PubRel(Ack::success(*packet_id)),
        v3::Packet::PublishComplete { packet_id } => Packet::PubComp(Ack::success(*packet_id)),
        v3::Packet::Subscribe {
            packet_id,
            topic_filters,
        } => Packet::Subscribe(Subscribe {
            packet_id: *packet_id,
            properties: None,
            filters: topic_filters
                .iter()
                .map(|(filter, maximum)| SubscribeFilter {
                    filter: filter.clone(),
                    options: SubscriptionOptions {
                        maximum_qos: qos(*maximum),
                        ..Default::default()
                    },
                })
                .collect(),
        }),
        v3::Packet::SubscribeAck { packet_id, status } => Packet::SubAck(SubAck {
            packet_id: *packet_id,
            properties: None,
            reasons: status.iter().map(|code| granted(*code)).collect(),
        }),
        v3::Packet::Unsubscribe {
            packet_id,
            topic_filters,
        } => Packet::Unsubscribe(Unsubscribe {
            packet_id: *packet_id,
            properties: None,
            filters: topic_filters.clone(),
        }),
        v3::Packet::UnsubscribeAck { packet_id } => Packet::UnsubAck(UnsubAck {
            packet_id: *packet_id,
            properties: None,
            reasons: Vec::new(),
        }),
        v3::Packet::PingRequest => Packet::PingReq,
        v3::Packet::PingResponse => Packet::PingResp,
        v3::Packet::Disconnect => Packet::Disconnect(Disconnect {
            reason: ReasonCode::NORMAL_DISCONNECTION,
            properties: None,
        }),
    })
}

fn connect(connect: &v3::Connect) -> Option<Connect> {
    Some(Connect {
        version: match connect.protocol.level() {
            MQTT_LEVEL_31 => ProtocolVersion::V3_1,
            MQTT_LEVEL_311 => ProtocolVersion::V3_1_1,
            _ => return None,
        },
        clean_start: connect.clean_session,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.clone(),
        will: connect.last_will.as_ref().map(|will| Will {
            qos: qos(will.qos),
            retain: will.retain,
            topic: will.topic.clone(),
            payload: will.message.clone(),
            properties: None,
        }),
        username: connect.username.clone(),
        password: connect.password.clone().map(Secret),
        properties: None,
    })
}

const fn granted(code: v3::SubscribeReturnCode) -> ReasonCode {
    match code {
        v3::SubscribeReturnCode::Success(maximum) => match maximum {
            v3::QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
            v3::QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            v3::QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        },
        v3::SubscribeReturnCode::Failure => ReasonCode::UnspecifiedError,
    }
}
