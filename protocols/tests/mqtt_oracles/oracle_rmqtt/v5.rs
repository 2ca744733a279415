//! Packets of `rmqtt_codec::v5` as ours.
//!
//! Where their model has a plain value with a default, the default reads as an absent property.

use std::num::{NonZeroU16, NonZeroU32};

use bytestring::ByteString;
use protocols::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Properties, ProtocolVersion, Publish, QoS,
    RetainHandling, Secret, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck,
    Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;
use rmqtt_codec::v5;

use super::qos;

/// Their packet as ours, field by field.
pub fn translated(packet: &v5::Packet) -> Option<Packet> {
    Some(match packet {
        v5::Packet::Connect(packet) => Packet::Connect(Box::new(connect(packet))),
        v5::Packet::ConnectAck(ack) => Packet::ConnAck(conn_ack(ack)?),
        v5::Packet::Publish(packet) => Packet::Publish(publish(packet)),
        v5::Packet::PublishAck(packet) => Packet::PubAck(ack(packet)?),
        v5::Packet::PublishReceived(packet) => Packet::PubRec(ack(packet)?),
        v5::Packet::PublishRelease(packet) => Packet::PubRel(ack_2(packet)?),
        v5::Packet::PublishComplete(packet) => Packet::PubComp(ack_2(packet)?),
        v5::Packet::Subscribe(packet) => Packet::Subscribe(subscribe(packet)),
        v5::Packet::SubscribeAck(ack) => Packet::SubAck(SubAck {
            packet_id: ack.packet_id,
            properties: answer(&ack.reason_string, &ack.properties).into_optional(),
            reasons: ack
                .status
                .iter()
                .map(|code| reason((*code).into()))
                .collect::<Option<_>>()?,
        }),
        v5::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe(Unsubscribe {
            packet_id: unsubscribe.packet_id,
            properties: answer(&None, &unsubscribe.user_properties).into_optional(),
            filters: unsubscribe.topic_filters.clone(),
        }),
        v5::Packet::UnsubscribeAck(ack) => Packet::UnsubAck(UnsubAck {
            packet_id: ack.packet_id,
            properties: answer(&ack.reason_string, &ack.properties).into_optional(),
            reasons: ack
                .status
                .iter()
                .map(|code| reason((*code).into()))
                .collect::<Option<_>>()?,
        }),
        v5::Packet::PingRequest => Packet::PingReq,
        v5::Packet::PingResponse => Packet::PingResp,
        v5::Packet::Disconnect(disconnect) => Packet::Disconnect(Disconnect {
            reason: reason(disconnect.reason_code.into())?,
            properties: Properties {
                session_expiry_interval: disconnect.session_expiry_interval_secs,
                server_reference: disconnect.server_reference.clone(),
                ..answer(&disconnect.reason_string, &disconnect.user_properties)
            }
            .into_optional(),
        }),
        v5::Packet::Auth(auth) => Packet::Auth(Auth {
            reason: reason(auth.reason_code.into())?,
            properties: Properties {
                authentication_method: auth.auth_method.clone(),
                authentication_data: auth.auth_data.clone().map(Secret),
                ..answer(&auth.reason_string, &auth.user_properties)
            }
            .into_optional(),
        }),
    })
}

fn reason(value: u8) -> Option<ReasonCode> {
    ReasonCode::from_u8(value)
}

/// `None` for the default.
fn unless<T: PartialEq>(value: T, default: &T) -> Option<T> {
    (value != *default).then_some(value)
}

fn answer(reason: &Option<ByteString>, user: &[(ByteString, ByteString)]) -> Properties {
    Properties {
        reason_string: reason.clone(),
        user_properties: user.to_vec(),
        ..Properties::default()
    }
}

fn ack(ack: &v5::PublishAck) -> Option<Ack> {
    Some(Ack {
        packet_id: ack.packet_id,
        reason: reason(ack.reason_code.into())?,
        properties: answer(&ack.reason_string, &ack.properties).into_optional(),
    })
}

fn ack_2(ack: &v5::PublishAck2) -> Option<Ack> {
    Some(Ack {
        packet_id: ack.packet_id,
        reason: reason(ack.reason_code.into())?,
        properties: answer(&ack.reason_string, &ack.properties).into_optional(),
    })
}

fn connect(connect: &v5::Connect) -> Connect {
    Connect {
        version: ProtocolVersion::V5,
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.clone(),
        will: connect.last_will.as_ref().map(will),
        username: connect.username.clone(),
        password: connect.password.clone().map(Secret),
        properties: Properties {
            session_expiry_interval: unless(connect.session_expiry_interval_secs, &0),
            authentication_method: connect.auth_method.clone(),
            authentication_data: connect.auth_data.clone().map(Secret),
            request_problem_information: unless(connect.request_problem_info, &true),
            request_response_information: unless(connect.request_response_info, &false),
            receive_maximum: connect.receive_max,
            topic_alias_maximum: unless(connect.topic_alias_max, &0),
            user_properties: connect.user_properties.clone(),
            maximum_packet_size: connect.max_packet_size,
            ..Properties::default()
        }
        .into_optional(),
    }
}

fn will(will: &v5::LastWill) -> Will {
    Will {
        qos: qos(will.qos),
        retain: will.retain,
        topic: will.topic.clone(),
        payload: will.message.clone(),
        properties: Properties {
            will_delay_interval: will.will_delay_interval_sec,
            correlation_data: will.correlation_data.clone(),
            message_expiry_interval: will.message_expiry_interval.map(NonZeroU32::get),
            content_type: will.content_type.clone(),
            user_properties: will.user_properties.clone(),
            payload_format_indicator: will.is_utf8_payload,
            response_topic: will.response_topic.clone(),
            ..Properties::default()
        }
        .into_optional(),
    }
}

fn conn_ack(ack: &v5::ConnectAck) -> Option<ConnAck> {
    Some(ConnAck {
        session_present: ack.session_present,
        reason: reason(ack.reason_code.into())?,
        properties: Properties {
            session_expiry_interval: ack.session_expiry_interval_secs,
            receive_maximum: unless(ack.receive_max, &NonZeroU16::MAX),
            maximum_qos: unless(qos(ack.max_qos), &QoS::ExactlyOnce),
            maximum_packet_size: ack.max_packet_size.and_then(NonZeroU32::new),
            assigned_client_identifier: ack.assigned_client_id.clone(),
            topic_alias_maximum: unless(ack.topic_alias_max, &0),
            retain_available: unless(ack.retain_available, &true),
            wildcard_subscription_available: unless(ack.wildcard_subscription_available, &true),
            subscription_identifiers_available: unless(
                ack.subscription_identifiers_available,
                &true,
            ),
            shared_subscription_available: unless(ack.shared_subscription_available, &true),
            server_keep_alive: ack.server_keepalive_sec,
            response_information: ack.response_info.clone(),
            server_reference: ack.server_reference.clone(),
            authentication_method: ack.auth_method.clone(),
            authentication_data: ack.auth_data.clone().map(Secret),
            ..answer(&ack.reason_string, &ack.user_properties)
        }
        .into_optional(),
    })
}

fn publish(publish: &rmqtt_codec::types::Publish) -> Publish {
    let properties = publish.properties.as_ref().and_then(|set| {
        Properties {
            topic_alias: set.topic_alias,
            correlation_data: set.correlation_data.clone(),
            message_expiry_interval: set.message_expiry_interval.map(NonZeroU32::get),
            content_type: set.content_type.clone(),
            user_properties: set.user_properties.clone(),
            payload_format_indicator: unless(set.is_utf8_payload, &false),
            response_topic: set.response_topic.clone(),
            subscription_identifiers: set
                .subscription_ids
                .iter()
                .copied()
                .map(NonZeroU32::get)
                .collect(),
            ..Properties::default()
        }
        .into_optional()
    });
    Publish {
        dup: publish.dup,
        qos: qos(publish.qos),
        retain: publish.retain,
        topic: publish.topic.clone(),
        packet_id: publish.packet_id,
        properties,
        payload: publish.payload.clone(),
    }
}

fn subscribe(subscribe: &v5::Subscribe) -> Subscribe {
    let filter = |(filter, options): &(ByteString, v5::SubscriptionOptions)| SubscribeFilter {
        filter: filter.clone(),
        options: SubscriptionOptions {
            maximum_qos: qos(options.qos),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: match options.retain_handling {
                v5::RetainHandling::AtSubscribe => RetainHandling::SendAtSubscribe,
                v5::RetainHandling::AtSubscribeNew => RetainHandling::SendIfNew,
                v5::RetainHandling::NoAtSubscribe => RetainHandling::DoNotSend,
            },
        },
    };
    Subscribe {
        packet_id: subscribe.packet_id,
        properties: Properties {
            subscription_identifiers: subscribe.id.map(NonZeroU32::get).into_iter().collect(),
            user_properties: subscribe.user_properties.clone(),
            ..Properties::default()
        }
        .into_optional(),
        filters: subscribe.topic_filters.iter().map(filter).collect(),
    }
}
