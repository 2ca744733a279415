//! Packets of `mqttbytes::v5` as ours and as its bytes.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use mqttbytes::{Error, v5};
use protocols::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS,
    RetainHandling, Secret, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck,
    Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

use super::{id, qos, text};

fn reason(value: u8) -> Option<ReasonCode> {
    ReasonCode::from_u8(value)
}

fn maybe(string: &Option<String>) -> Option<ByteString> {
    string.as_deref().map(text)
}

fn flag(value: Option<u8>) -> Option<bool> {
    value.map(|value| value == 1)
}

fn user(pairs: &[(String, String)]) -> Vec<(ByteString, ByteString)> {
    pairs
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

/// Reason String and User Properties of an acknowledgement.
macro_rules! answer {
    ($properties:expr) => {
        $properties.as_ref().and_then(|set| {
            Properties {
                reason_string: maybe(&set.reason_string),
                user_properties: user(&set.user_properties),
                ..Properties::default()
            }
            .into_optional()
        })
    };
}

macro_rules! ack {
    ($ack:expr) => {
        Ack {
            packet_id: id($ack.pkid)?,
            reason: reason($ack.reason as u8)?,
            properties: answer!($ack.properties),
        }
    };
}

/// The message properties of a PUBLISH or a will.
macro_rules! message {
    ($set:expr) => {
        Properties {
            payload_format_indicator: flag($set.payload_format_indicator),
            message_expiry_interval: $set.message_expiry_interval,
            content_type: maybe(&$set.content_type),
            response_topic: maybe(&$set.response_topic),
            correlation_data: $set.correlation_data.clone(),
            user_properties: user(&$set.user_properties),
            ..Properties::default()
        }
    };
}

/// Their packet as ours, field by field.
pub fn translated(packet: &v5::Packet) -> Option<Packet> {
    Some(match packet {
        v5::Packet::Connect(packet) => Packet::Connect(Box::new(connect(packet)?)),
        v5::Packet::ConnAck(ack) => Packet::ConnAck(conn_ack(ack)?),
        v5::Packet::Publish(packet) => Packet::Publish(publish(packet)?),
        v5::Packet::PubAck(ack) => Packet::PubAck(ack!(ack)),
        v5::Packet::PubRec(ack) => Packet::PubRec(ack!(ack)),
        v5::Packet::PubRel(ack) => Packet::PubRel(ack!(ack)),
        v5::Packet::PubComp(ack) => Packet::PubComp(ack!(ack)),
        v5::Packet::Subscribe(packet) => Packet::Subscribe(subscribe(packet)?),
        v5::Packet::SubAck(ack) => Packet::SubAck(SubAck {
            packet_id: id(ack.pkid)?,
            properties: answer!(ack.properties),
            reasons: ack
                .return_codes
                .iter()
                .map(|&code| reason(code as u8))
                .collect::<Option<_>>()?,
        }),
        v5::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe(Unsubscribe {
            packet_id: id(unsubscribe.pkid)?,
            properties: unsubscribe.properties.as_ref().and_then(|set| {
                let user_properties = user(&set.user_properties);
                Properties {
                    user_properties,
                    ..Properties::default()
                }
                .into_optional()
            }),
            filters: unsubscribe
                .filters
                .iter()
                .map(|filter| text(filter))
                .collect(),
        }),
        v5::Packet::UnsubAck(ack) => Packet::UnsubAck(UnsubAck {
            packet_id: id(ack.pkid)?,
            properties: answer!(ack.properties),
            reasons: ack
                .reasons
                .iter()
                .map(|&code| reason(code as u8))
                .collect::<Option<_>>()?,
        }),
        v5::Packet::PingReq => Packet::PingReq,
        v5::Packet::PingResp => Packet::PingResp,
        v5::Packet::Disconnect(disconnect) => Packet::Disconnect(Disconnect {
            reason: reason(disconnect.reason_code as u8)?,
            properties: disconnect.properties.as_ref().and_then(|set| {
                Properties {
                    session_expiry_interval: set.session_expiry_interval,
                    reason_string: maybe(&set.reason_string),
                    server_reference: maybe(&set.server_reference),
                    user_properties: user(&set.user_properties),
                    ..Properties::default()
                }
                .into_optional()
            }),
        }),
    })
}

fn connect(connect: &v5::Connect) -> Option<Connect> {
    let login = connect.login.as_ref();
    let given = |text: &&String| !text.is_empty();
    Some(Connect {
        version: ProtocolVersion::V5,
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
        properties: connect.properties.as_ref().and_then(|set| {
            Properties {
                session_expiry_interval: set.session_expiry_interval,
                receive_maximum: set.receive_maximum.and_then(NonZeroU16::new),
                maximum_packet_size: set.max_packet_size.and_then(NonZeroU32::new),
                topic_alias_maximum: set.topic_alias_max,
                request_response_information: flag(set.request_response_info),
                request_problem_information: flag(set.request_problem_info),
                user_properties: user(&set.user_properties),
                authentication_method: maybe(&set.authentication_method),
                authentication_data: set.authentication_data.clone().map(Secret),
                ..Properties::default()
            }
            .into_optional()
        }),
    })
}

fn will(will: &v5::LastWill) -> Option<Will> {
    Some(Will {
        qos: qos(will.qos)?,
        retain: will.retain,
        topic: text(&will.topic),
        payload: will.message.clone(),
        properties: will.properties.as_ref().and_then(|set| {
            Properties {
                will_delay_interval: set.delay_interval,
                ..message!(set)
            }
            .into_optional()
        }),
    })
}

fn conn_ack(ack: &v5::ConnAck) -> Option<ConnAck> {
    Some(ConnAck {
        session_present: ack.session_present,
        reason: reason(ack.code as u8)?,
        properties: ack.properties.as_ref().and_then(|set| {
            Properties {
                session_expiry_interval: set.session_expiry_interval,
                receive_maximum: set.receive_max.and_then(NonZeroU16::new),
                maximum_qos: set.max_qos.and_then(QoS::from_u8),
                retain_available: flag(set.retain_available),
                maximum_packet_size: set.max_packet_size.and_then(NonZeroU32::new),
                assigned_client_identifier: maybe(&set.assigned_client_identifier),
                topic_alias_maximum: set.topic_alias_max,
                reason_string: maybe(&set.reason_string),
                user_properties: user(&set.user_properties),
                wildcard_subscription_available: flag(set.wildcard_subscription_available),
                subscription_identifiers_available: flag(set.subscription_identifiers_available),
                shared_subscription_available: flag(set.shared_subscription_available),
                server_keep_alive: set.server_keep_alive,
                response_information: maybe(&set.response_information),
                server_reference: maybe(&set.server_reference),
                authentication_method: maybe(&set.authentication_method),
                authentication_data: set.authentication_data.clone().map(Secret),
                ..Properties::default()
            }
            .into_optional()
        }),
    })
}

fn publish(publish: &v5::Publish) -> Option<Publish> {
    Some(Publish {
        dup: publish.dup,
        qos: qos(publish.qos)?,
        retain: publish.retain,
        topic: text(&publish.topic),
        packet_id: PacketId::new(publish.pkid),
        properties: publish.properties.as_ref().and_then(|set| {
            Properties {
                topic_alias: set.topic_alias.and_then(NonZeroU16::new),
                subscription_identifiers: numbers(&set.subscription_identifiers),
                ..message!(set)
            }
            .into_optional()
        }),
        payload: publish.payload.clone(),
    })
}

fn subscribe(subscribe: &v5::Subscribe) -> Option<Subscribe> {
    Some(Subscribe {
        packet_id: id(subscribe.pkid)?,
        properties: subscribe.properties.as_ref().and_then(|set| {
            Properties {
                subscription_identifiers: numbers(&Vec::from_iter(set.id)),
                user_properties: user(&set.user_properties),
                ..Properties::default()
            }
            .into_optional()
        }),
        filters: subscribe
            .filters
            .iter()
            .map(filter)
            .collect::<Option<_>>()?,
    })
}

fn filter(filter: &v5::SubscribeFilter) -> Option<SubscribeFilter> {
    Some(SubscribeFilter {
        filter: text(&filter.path),
        options: SubscriptionOptions {
            maximum_qos: qos(filter.qos)?,
            no_local: filter.nolocal,
            retain_as_published: filter.preserve_retain,
            retain_handling: match filter.retain_forward_rule {
                v5::RetainForwardRule::OnEverySubscribe => RetainHandling::SendAtSubscribe,
                v5::RetainForwardRule::OnNewSubscribe => RetainHandling::SendIfNew,
                v5::RetainForwardRule::Never => RetainHandling::DoNotSend,
            },
        },
    })
}

fn numbers(ids: &[usize]) -> Vec<u32> {
    ids.iter()
        .map(|&id| u32::try_from(id).expect("four bytes"))
        .collect()
}

/// Their bytes of their packet.
pub fn write(packet: &v5::Packet, out: &mut BytesMut) -> Result<usize, Error> {
    match packet {
        v5::Packet::Connect(packet) => packet.write(out),
        v5::Packet::ConnAck(packet) => packet.write(out),
        v5::Packet::Publish(packet) => packet.write(out),
        v5::Packet::PubAck(packet) => packet.write(out),
        v5::Packet::PubRec(packet) => packet.write(out),
        v5::Packet::PubRel(packet) => packet.write(out),
        v5::Packet::PubComp(packet) => packet.write(out),
        v5::Packet::Subscribe(packet) => packet.write(out),
        v5::Packet::SubAck(packet) => packet.write(out),
        v5::Packet::Unsubscribe(packet) => packet.write(out),
        v5::Packet::UnsubAck(packet) => packet.write(out),
        v5::Packet::PingReq => v5::PingReq.write(out),
        v5::Packet::PingResp => v5::PingResp.write(out),
        v5::Packet::Disconnect(packet) => packet.write(out),
    }
}
