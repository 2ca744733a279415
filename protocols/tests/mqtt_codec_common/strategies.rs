//! Arbitrary legal packets of every version.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use protocols::mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Direction, Disconnect, OptProperties, Packet, PacketId,
    PacketType, Properties, ProtocolVersion, Publish, QoS, RetainHandling, Secret, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use protocols::mqtt::reason::ReasonCode;

/// Any legal packet of this version and direction.
pub fn packet(version: ProtocolVersion, direction: Direction) -> BoxedStrategy<Packet> {
    let both = prop_oneof![
        3 => publish(version, direction).prop_map(Packet::Publish),
        1 => ack(version, PacketType::PubAck, direction).prop_map(Packet::PubAck),
        1 => ack(version, PacketType::PubRec, direction).prop_map(Packet::PubRec),
        1 => ack(version, PacketType::PubRel, direction).prop_map(Packet::PubRel),
        1 => ack(version, PacketType::PubComp, direction).prop_map(Packet::PubComp),
    ];
    let one_way = match direction {
        Direction::ClientToServer => prop_oneof![
            3 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
            2 => subscribe(version).prop_map(Packet::Subscribe),
            1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
            1 => Just(Packet::PingReq),
            1 => disconnect(version, direction).prop_map(Packet::Disconnect),
        ]
        .boxed(),
        Direction::ServerToClient => prop_oneof![
            2 => conn_ack(version).prop_map(Packet::ConnAck),
            1 => sub_ack(version).prop_map(Packet::SubAck),
            1 => unsub_ack(version).prop_map(Packet::UnsubAck),
            1 => Just(Packet::PingResp),
        ]
        .boxed(),
    };
    if !version.is_v5() {
        return prop_oneof![both, one_way].boxed();
    }
    let late = prop_oneof![
        disconnect(version, direction).prop_map(Packet::Disconnect),
        auth(direction).prop_map(Packet::Auth),
    ];
    prop_oneof![3 => both, 3 => one_way, 1 => late].boxed()
}

fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[a-z/]{0,12}", "[^\u{0}]{0,8}"].prop_map(ByteString::from)
}

fn topic() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[a-z/$]{1,12}", "[^\u{0}+#]{1,8}"].prop_map(ByteString::from)
}

fn filter() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[a-z/+#]{0,12}", "\\$share/g/[a-z]{1,4}", "[^\u{0}]{1,8}"]
        .prop_map(ByteString::from)
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_filter_map("not zero", PacketId::new)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn user_properties() -> impl Strategy<Value = Vec<(ByteString, ByteString)>> {
    vec((text(), text()), 0..4)
}

fn reason(kind: PacketType, direction: Direction) -> impl Strategy<Value = ReasonCode> {
    let legal: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| reason.is_allowed_in(kind, direction))
        .collect();
    proptest::sample::select(legal)
}

/// Properties of a packet: those of `strategy` in 5.0, none in 3.x.
fn properties(
    version: ProtocolVersion,
    strategy: impl Strategy<Value = Properties> + 'static,
) -> BoxedStrategy<OptProperties> {
    if version.is_v5() {
        strategy.prop_map(Properties::into_optional).boxed()
    } else {
        Just(None).boxed()
    }
}

fn answer_properties() -> impl Strategy<Value = Properties> {
    (of(text()), user_properties()).prop_map(|(reason_string, user_properties)| Properties {
        reason_string,
        user_properties,
        ..Properties::default()
    })
}

fn message_properties() -> impl Strategy<Value = Properties> {
    (
        of(any::<bool>()),
        of(any::<u32>()),
        of(text()),
        of(topic()),
        of(blob()),
        user_properties(),
    )
        .prop_map(
            |(format, expiry, content_type, response_topic, correlation_data, user)| Properties {
                payload_format_indicator: format,
                message_expiry_interval: expiry,
                content_type,
                response_topic,
                correlation_data,
                user_properties: user,
                ..Properties::default()
            },
        )
}

fn authentication() -> impl Strategy<Value = Properties> {
    (text(), of(blob())).prop_map(|(method, data)| Properties {
        authentication_method: Some(method),
        authentication_data: data.map(Secret),
        ..Properties::default()
    })
}

fn optional_authentication() -> impl Strategy<Value = Properties> {
    of(authentication()).prop_map(Option::unwrap_or_default)
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect> {
    let own = (
        optional_authentication(),
        of(any::<u32>()),
        (of(any::<bool>()), of(any::<bool>())),
        of(any::<NonZeroU16>()),
        of(any::<u16>()),
        of(any::<NonZeroU32>()),
        user_properties(),
    )
        .prop_map(
            |(auth, expiry, (problem, response), receive, alias, size, user)| Properties {
                session_expiry_interval: expiry,
                request_problem_information: problem,
                request_response_information: response,
                receive_maximum: receive,
                topic_alias_maximum: alias,
                maximum_packet_size: size,
                user_properties: user,
                ..auth
            },
        );
    let credentials = (of(text()), of(blob().prop_map(Secret)));
    let parts = (
        any::<bool>(),
        any::<u16>(),
        text(),
        of(will(version)),
        credentials,
    );
    (parts, properties(version, own)).prop_map(
        move |((clean_start, keep_alive, client_id, will, (username, password)), properties)| {
            // Before 5.0 a password needs a user name [MQTT-3.1.2-22].
            let password = password.filter(|_| version.is_v5() || username.is_some());
            Connect {
                version,
                clean_start,
                keep_alive,
                client_id,
                will,
                username,
                password,
                properties,
            }
        },
    )
}

fn will(version: ProtocolVersion) -> impl Strategy<Value = Will> {
    let own = (message_properties(), of(any::<u32>())).prop_map(|(set, delay)| Properties {
        will_delay_interval: delay,
        ..set
    });
    (
        qos(),
        any::<bool>(),
        topic(),
        blob(),
        properties(version, own),
    )
        .prop_map(|(qos, retain, topic, payload, properties)| Will {
            qos,
            retain,
            topic,
            payload,
            properties,
        })
}

fn conn_ack(version: ProtocolVersion) -> impl Strategy<Value = ConnAck> {
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let numbers = (of(any::<u32>()), of(any::<u16>()), of(any::<u16>()));
    let limits = (of(any::<NonZeroU16>()), of(any::<NonZeroU32>()));
    let flags = vec(of(any::<bool>()), 5);
    let own = (
        optional_authentication(),
        texts,
        numbers,
        limits,
        flags,
        user_properties(),
    )
        .prop_map(|(auth, texts, numbers, limits, flags, user)| Properties {
            assigned_client_identifier: texts.0,
            response_information: texts.1,
            server_reference: texts.2,
            reason_string: texts.3,
            session_expiry_interval: numbers.0,
            server_keep_alive: numbers.1,
            topic_alias_maximum: numbers.2,
            receive_maximum: limits.0,
            maximum_packet_size: limits.1,
            maximum_qos: flags[0].map(|one| match one {
                true => QoS::AtLeastOnce,
                false => QoS::AtMostOnce,
            }),
            retain_available: flags[1],
            wildcard_subscription_available: flags[2],
            subscription_identifiers_available: flags[3],
            shared_subscription_available: flags[4],
            user_properties: user,
            ..auth
        });
    let code = match version {
        ProtocolVersion::V5 => reason(PacketType::ConnAck, Direction::ServerToClient).boxed(),
        _ => (0u8..=5)
            .prop_filter_map("defined", ReasonCode::from_connect_return_code)
            .boxed(),
    };
    (any::<bool>(), code, properties(version, own)).prop_map(
        move |(present, reason, properties)| ConnAck {
            session_present: present && !reason.is_error() && version != ProtocolVersion::V3_1,
            reason,
            properties,
        },
    )
}

fn publish(version: ProtocolVersion, direction: Direction) -> impl Strategy<Value = Publish> {
    let ids = match direction {
        Direction::ClientToServer => Just(Vec::new()).boxed(),
        Direction::ServerToClient => vec(1..=268_435_455u32, 0..3).boxed(),
    };
    let own = (message_properties(), of(any::<NonZeroU16>()), ids).prop_map(
        |(set, topic_alias, subscription_identifiers)| Properties {
            topic_alias,
            subscription_identifiers,
            ..set
        },
    );
    let flags = (any::<bool>(), qos(), any::<bool>(), any::<bool>());
    let payload = prop_oneof![blob(), vec(any::<u8>(), 100..400).prop_map(Bytes::from)];
    (
        flags,
        topic(),
        packet_id(),
        properties(version, own),
        payload,
    )
        .prop_map(
            |((dup, qos, retain, use_alias), topic, id, properties, payload)| {
                let aliased = properties
                    .as_ref()
                    .is_some_and(|set| set.topic_alias.is_some());
                let numbered = qos != QoS::AtMostOnce;
                Publish {
                    dup: dup && numbered,
                    qos,
                    retain,
                    topic: if aliased && use_alias {
                        ByteString::new()
                    } else {
                        topic
                    },
                    packet_id: numbered.then_some(id),
                    properties,
                    payload,
                }
            },
        )
}

fn ack(
    version: ProtocolVersion,
    kind: PacketType,
    direction: Direction,
) -> impl Strategy<Value = Ack> {
    let code = match version {
        ProtocolVersion::V5 => reason(kind, direction).boxed(),
        _ => Just(ReasonCode::Success).boxed(),
    };
    (packet_id(), code, properties(version, answer_properties())).prop_map(
        |(packet_id, reason, properties)| Ack {
            packet_id,
            reason,
            properties,
        },
    )
}

fn subscribe(version: ProtocolVersion) -> impl Strategy<Value = Subscribe> {
    let own = (of(1..=268_435_455u32), user_properties()).prop_map(|(id, user)| Properties {
        subscription_identifiers: Vec::from_iter(id),
        user_properties: user,
        ..Properties::default()
    });
    let filter = (filter(), qos(), any::<bool>(), any::<bool>(), 0u8..3).prop_map(
        move |(filter, maximum_qos, no_local, retain_as_published, handling)| {
            let mut options = SubscriptionOptions {
                maximum_qos,
                ..Default::default()
            };
            if version.is_v5() {
                options.no_local = no_local && !filter.starts_with("$share/");
                options.retain_as_published = retain_as_published;
                options.retain_handling = match handling {
                    0 => RetainHandling::SendAtSubscribe,
                    1 => RetainHandling::SendIfNew,
                    _ => RetainHandling::DoNotSend,
                };
            }
            SubscribeFilter { filter, options }
        },
    );
    (packet_id(), properties(version, own), vec(filter, 1..5)).prop_map(
        |(packet_id, properties, filters)| Subscribe {
            packet_id,
            properties,
            filters,
        },
    )
}

fn sub_ack(version: ProtocolVersion) -> impl Strategy<Value = SubAck> {
    let code = match version {
        ProtocolVersion::V5 => reason(PacketType::SubAck, Direction::ServerToClient).boxed(),
        _ => prop_oneof![
            qos().prop_map(ReasonCode::granted),
            Just(ReasonCode::UnspecifiedError)
        ]
        .boxed(),
    };
    (
        packet_id(),
        properties(version, answer_properties()),
        vec(code, 1..5),
    )
        .prop_map(|(packet_id, properties, reasons)| SubAck {
            packet_id,
            properties,
            reasons,
        })
}

fn unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Unsubscribe> {
    let own = user_properties().prop_map(|user_properties| Properties {
        user_properties,
        ..Properties::default()
    });
    (packet_id(), properties(version, own), vec(filter(), 1..5)).prop_map(
        |(packet_id, properties, filters)| Unsubscribe {
            packet_id,
            properties,
            filters,
        },
    )
}

fn unsub_ack(version: ProtocolVersion) -> impl Strategy<Value = UnsubAck> {
    let code = reason(PacketType::UnsubAck, Direction::ServerToClient);
    let codes = if version.is_v5() { 1..5 } else { 0..1 };
    (
        packet_id(),
        properties(version, answer_properties()),
        vec(code, codes),
    )
        .prop_map(|(packet_id, properties, reasons)| UnsubAck {
            packet_id,
            properties,
            reasons,
        })
}

fn disconnect(version: ProtocolVersion, direction: Direction) -> impl Strategy<Value = Disconnect> {
    let expiry = match direction {
        Direction::ClientToServer => of(any::<u32>()).boxed(),
        Direction::ServerToClient => Just(None).boxed(),
    };
    let own =
        (answer_properties(), expiry, of(text())).prop_map(|(set, expiry, reference)| Properties {
            session_expiry_interval: expiry,
            server_reference: reference,
            ..set
        });
    let code = match version {
        ProtocolVersion::V5 => reason(PacketType::Disconnect, direction).boxed(),
        _ => Just(ReasonCode::NORMAL_DISCONNECTION).boxed(),
    };
    (code, properties(version, own))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth(direction: Direction) -> impl Strategy<Value = Auth> {
    let own = (authentication(), answer_properties()).prop_map(|(auth, answer)| Properties {
        reason_string: answer.reason_string,
        user_properties: answer.user_properties,
        ..auth
    });
    (reason(PacketType::Auth, direction), own).prop_map(|(reason, set)| Auth {
        reason,
        properties: set.into_optional(),
    })
}
