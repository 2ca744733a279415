//! What answers say and leave out (5.0 sections 3.2 to 3.14): Reason Strings, sizes, and the code
//! of each limit.
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use protocols::gate::{Gate, Input, JoinError};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Ack, Connect, Disconnect, Packet, PacketType, Properties, ProtocolVersion, Publish, Unsubscribe,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{Action, Role, Rule};
use router_core::limits::RealmLimits;
use router_core::model::{EndReason, Pattern};
use router_core::session::Leave;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

/// A 5.0 client with these properties in its CONNECT.
fn asking(id: &str, properties: Properties) -> Connect {
    Connect {
        properties: properties.into_optional(),
        ..connect(V5, id)
    }
}

fn at_most(size: u32) -> Properties {
    Properties {
        maximum_packet_size: NonZeroU32::new(size),
        ..Properties::default()
    }
}

fn unsubscribe(number: u16, filters: &[&str]) -> Packet {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id(number),
        properties: None,
        filters: filters.iter().map(|&filter| filter.into()).collect(),
    })
}

/// Reason String and codes of the SUBACK or UNSUBACK that comes next.
#[track_caller]
fn answered(world: &mut World, client: usize) -> (Option<String>, Vec<u8>) {
    let (set, reasons) = match world.next(client) {
        Packet::SubAck(ack) => (ack.properties, ack.reasons),
        Packet::UnsubAck(ack) => (ack.properties, ack.reasons),
        other => panic!("no SUBACK, no UNSUBACK: {other:?}"),
    };
    let words = set.and_then(|set| set.reason_string);
    let codes = reasons.iter().map(|code| code.value()).collect();
    (words.map(|words| words.to_string()), codes)
}

/// A realm whose role may subscribe to `open/#` alone.
fn guarded() -> World {
    let mut world = World::new();
    let rule = Rule {
        action: Action::Subscribe,
        pattern: Pattern::from_slashes("open/#").expect("legal"),
    };
    world.role = Arc::new(Role::restricted("user", vec![rule], Vec::new()));
    world
}

#[test]
fn a_refused_filter_says_why() {
    // 5.0 sections 3.9.2.1.2 and 3.11.2.1.2
    let mut world = guarded();
    let client = world.client(V5, "c");
    let one = |filter| subscribe(1, &[(filter, options(AtMostOnce))], None);
    for (filter, code) in [("$share/a", 0x8F), ("$share//a", 0x8F), ("closed", 0x87)] {
        world.send(client, one(filter));
        let (words, codes) = answered(&mut world, client);
        assert_eq!(codes, [code], "{filter}");
        assert!(words.is_some_and(|words| !words.is_empty()), "{filter}");
    }
    world.send(client, one("open/a"));
    assert_eq!(answered(&mut world, client), (None, vec![0]));
    world.send(client, unsubscribe(2, &["$share//a"]));
    let (words, codes) = answered(&mut world, client);
    assert_eq!((words.is_some(), codes), (true, vec![0x8F]));
    // Nothing went wrong: no subscription existed, or one did.
    world.send(client, unsubscribe(3, &["a", "open/a"]));
    assert_eq!(answered(&mut world, client), (None, vec![0x11, 0]));
}

#[test]
fn the_first_of_several_refused_filters_is_explained_by_its_number() {
    let mut world = guarded();
    let client = world.client(V5, "c");
    let filters = ["open/a", "closed", "$share/a"].map(|filter| (filter, options(AtMostOnce)));
    world.send(client, subscribe(1, &filters, None));
    let (words, codes) = answered(&mut world, client);
    assert_eq!(codes, [0, 0x87, 0x8F]);
    // What is invalid by itself is known before the realm has answered.
    let words = words.expect("a Reason String");
    assert!(words.starts_with("Topic Filter 3: "), "{words}");
    world.send(client, unsubscribe(2, &["x", "$share/a", "$share//a"]));
    let words = answered(&mut world, client).0.expect("a Reason String");
    assert!(words.starts_with("Topic Filter 2: "), "{words}");
}

#[test]
fn who_wants_no_problem_information_gets_no_reason_strings() {
    // [MQTT-3.1.2-29]
    for (wants, told) in [(None, true), (Some(true), true), (Some(false), false)] {
        let mut world = guarded();
        let set = Properties {
            request_problem_information: wants,
            ..Properties::default()
        };
        let client = world.join(asking("c", set));
        let filters = [("$share/a", options(AtMostOnce))];
        world.send(client, subscribe(1, &filters, None));
        assert_eq!(answered(&mut world, client).0.is_some(), told);
        world.send(client, unsubscribe(2, &["$share/a"]));
        assert_eq!(answered(&mut world, client).0.is_some(), told);
        // DISCONNECT may say it all the same.
        world.send(client, Packet::Connect(Box::new(connect(V5, "c"))));
        let Packet::Disconnect(Disconnect { properties, .. }) = world.next(client) else {
            panic!("no DISCONNECT")
        };
        assert!(properties.is_some_and(|set| set.reason_string.is_some()));
    }
}

#[test]
fn reason_strings_never_make_an_answer_too_large() {
    // [MQTT-3.9.2-1] [MQTT-3.11.2-1] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.14.2-3]
    for (size, told) in [(60, false), (1_000, true)] {
        let mut world = guarded();
        let client = world.join(asking("c", at_most(size)));
        let filters = ["$share/a"; 40].map(|filter| (filter, options(AtMostOnce)));
        world.send(client, subscribe(1, &filters, None));
        let (words, codes) = answered(&mut world, client);
        assert_eq!((words.is_some(), codes.len()), (told, 40));
        world.send(client, unsubscribe(2, &["$share/a"; 40]));
        assert_eq!(answered(&mut world, client).0.is_some(), told);
    }
    // A client that has hardly room for its CONNACK.
    for qos in [AtLeastOnce, ExactlyOnce] {
        let mut world = World::new();
        let client = world.join(asking("c", at_most(36)));
        let deep = "/".repeat(200);
        world.send(client, publish(&deep, "x", Some(1), qos));
        let (Packet::PubAck(ack) | Packet::PubRec(ack)) = world.next(client) else {
            panic!("no acknowledgement")
        };
        assert_eq!(ack, Ack::with_reason(id(1), ReasonCode::TopicNameInvalid));
        world.send(client, Packet::Connect(Box::new(connect(V5, "c"))));
        let Packet::Disconnect(disconnect) = world.next(client) else {
            panic!("no DISCONNECT")
        };
        assert_eq!(disconnect.reason, ReasonCode::ProtocolError);
        world.nothing(client);
    }
}

#[test]
fn a_refusing_connack_without_room_for_its_reason_string_goes_without() {
    // [MQTT-3.2.2-19]
    let fault = |size: Option<u32>| {
        let set = Properties {
            maximum_packet_size: size.and_then(NonZeroU32::new),
            ..Properties::default()
        };
        let mut world = World::new();
        world.refuse = Some(JoinError::BadCredentials);
        let client = world.open(asking("c", set));
        let Packet::ConnAck(ack) = world.next(client) else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason, ReasonCode::BadUserNameOrPassword);
        assert!(world.clients[client].closed.is_some());
        ack.properties
            .is_some_and(|set| set.reason_string.is_some())
    };
    assert!(fault(None));
    assert!(!fault(Some(8)));
}

#[test]
fn versions_3_have_no_reason_strings() {
    for version in [V3_1, V3_1_1] {
        let mut world = guarded();
        let client = world.client(version, "c");
        let filters = ["$share/a", "open/a", "closed"].map(|filter| (filter, options(AtLeastOnce)));
        world.send(client, subscribe(7, &filters, None));
        assert_eq!(answered(&mut world, client), (None, vec![0x80, 1, 0x80]));
        world.send(client, unsubscribe(8, &["$share/a", "open/a"]));
        assert_eq!(answered(&mut world, client), (None, Vec::new()));
    }
}

#[test]
fn every_client_identifier_that_must_be_allowed_is() {
    // [MQTT-3.1.3-5]: 1 to 23 of these characters, in every version
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in [V3_1, V3_1_1, V5] {
        let mut world = World::new();
        for length in [1, 22, 23] {
            for start in 0..letters.len() {
                let id: String = letters.chars().cycle().skip(start).take(length).collect();
                let client = world.client(version, &id);
                assert_eq!(world.joins.last().map(|join| &*join.id), Some(&*id));
                world.cut(client);
            }
        }
    }
}

#[test]
fn two_connections_of_one_identifier_share_a_session_and_two_identifiers_none() {
    // [MQTT-3.1.3-2]: compared byte by byte
    for version in BOTH {
        let mut world = World::new();
        let first = world.join(persistent(version, "Id"));
        world.subscribe(first, "a", AtLeastOnce);
        world.cut(first);
        for other in ["id", "Id ", "\u{FEFF}Id"] {
            let (client, ack) = world.join_told(persistent(version, other));
            assert!(!ack.session_present, "{other:?}");
            world.cut(client);
        }
        assert!(world.join_told(persistent(version, "Id")).1.session_present);
    }
}

/// A limit of what one client may do: what it sends, and the code that ends the connection.
type Limit = (&'static str, fn(&mut World) -> usize, ReasonCode);

#[test]
fn each_limit_of_a_connection_has_its_code() {
    // 5.0 sections 3.14.2.1 and 4.13.2
    let limits: [Limit; 6] = [
        (
            "packet size: 0x95 from the header alone",
            |world| {
                world.options.max_packet_bytes = 1_000;
                let client = world.client(V5, "c");
                world.raw(client, &[0x30, 0xE6, 0x07]); // 998 bytes and a header of three
                client
            },
            ReasonCode::PacketTooLarge,
        ),
        (
            "user properties: 0x97",
            |world| {
                let client = world.client(V5, "c");
                let set = Properties {
                    user_properties: vec![("k".into(), "v".into()); 1_025],
                    ..Properties::default()
                };
                let message = publish("a", "x", Some(1), AtLeastOnce);
                world.send(client, with_properties(message, set));
                client
            },
            ReasonCode::QuotaExceeded,
        ),
        (
            "filters of one packet: 0x97",
            |world| {
                world.options.max_filters = 3;
                let client = world.client(V5, "c");
                let filters = vec![("a", options(AtMostOnce)); 4];
                world.send(client, subscribe(1, &filters, None));
                client
            },
            ReasonCode::QuotaExceeded,
        ),
        (
            "filters of one UNSUBSCRIBE: 0x97",
            |world| {
                world.options.max_filters = 3;
                let client = world.client(V5, "c");
                world.send(client, unsubscribe(1, &["a"; 4]));
                client
            },
            ReasonCode::QuotaExceeded,
        ),
        (
            "QoS 2 identifiers that are never released: 0x93",
            |world| {
                world.options.receive_maximum = NonZeroU16::MIN.saturating_add(2);
                let client = world.client(V5, "c");
                for number in 1..=3 {
                    world.send(client, publish("a", "x", Some(number), ExactlyOnce));
                    assert!(matches!(world.next(client), Packet::PubRec(_)));
                }
                // The one it has is no more than before; the fourth is.
                world.send(client, again(publish("a", "x", Some(3), ExactlyOnce)));
                assert!(matches!(world.next(client), Packet::PubRec(_)));
                world.send(client, publish("a", "x", Some(4), ExactlyOnce));
                client
            },
            ReasonCode::ReceiveMaximumExceeded,
        ),
        (
            "topic aliases: 0x94",
            |world| {
                let client = world.client(V5, "c");
                let set = Properties {
                    topic_alias: NonZeroU16::new(33),
                    ..Properties::default()
                };
                let message = publish("a", "x", None, AtMostOnce);
                world.send(client, with_properties(message, set));
                client
            },
            ReasonCode::TopicAliasInvalid,
        ),
    ];
    for (name, exceed, code) in limits {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", AtMostOnce);
        let client = exceed(&mut world);
        let end = world.clients[client].got.back().cloned();
        let Some(Packet::Disconnect(disconnect)) = end else {
            panic!("{name}: {end:?}")
        };
        assert_eq!(disconnect.reason, code, "{name}");
        assert!(world.clients[client].closed.is_some(), "{name}");
        // Somebody else is served.
        let other = world.client(V5, "other");
        world.clients[watcher].got.clear();
        world.publish(other, "b", "alive");
        assert_eq!(world.next_publish(watcher).payload, "alive", "{name}");
    }
}

#[test]
fn each_limit_of_a_request_has_its_code() {
    // 5.0 sections 3.4.2.1, 3.9.3 and 4.13.2: the request is refused, the connection stays
    let levels = |count: usize| vec!["a"; count].join("/");
    let limits = RealmLimits {
        subscriptions_per_session: 2,
        receipts_per_session: 1,
        ..RealmLimits::default()
    };
    let mut world = World::with(false, limits);
    world.options.max_topic_levels = 5;
    let client = world.client(V5, "c");
    let code = |world: &mut World, filter: &str| {
        world
            .subscribe_with(client, filter, options(AtMostOnce))
            .value()
    };
    assert_eq!(code(&mut world, &levels(5)), 0);
    assert_eq!(code(&mut world, &levels(6)), 0x8F, "levels of a filter");
    let shared = format!("$share/g/{}", levels(5));
    assert_eq!(code(&mut world, &shared), 0, "the share prefix is no level");
    assert_eq!(code(&mut world, "c"), 0x97, "subscriptions of the session");
    assert_eq!(code(&mut world, &shared), 0, "replacing is no new one");
    world.send(client, unsubscribe(1, &[&levels(6)]));
    assert_eq!(answered(&mut world, client).1, [0x8F]);
    world.send(client, unsubscribe(2, &[&shared]));
    assert_eq!(answered(&mut world, client).1, [0]);
    assert_eq!(code(&mut world, "c"), 0, "the place is free again");
    world.send(client, publish(&levels(6), "x", Some(3), AtLeastOnce));
    let Packet::PubAck(ack) = world.next(client) else {
        panic!("no PUBACK")
    };
    assert_eq!(ack.reason.value(), 0x90, "levels of a Topic Name");
    world.send(client, publish("a", "x", Some(4), ExactlyOnce));
    world.next(client);
    world.send(client, publish("a", "x", Some(5), ExactlyOnce));
    let Packet::PubRec(ack) = world.next(client) else {
        panic!("no PUBREC")
    };
    assert_eq!(ack.reason.value(), 0x97, "QoS 2 identifiers of the session");
    world.send(client, Packet::PingReq);
    assert_eq!(world.next(client), Packet::PingResp);
}

#[test]
fn limits_end_3_x_connections_without_a_word() {
    // 3.1.1 section 4.8, [MQTT-4.8.0-1]: closed, and no DISCONNECT from the server
    for version in [V3_1, V3_1_1] {
        let exceed: [fn(&mut World, usize); 3] = [
            |world, client| world.raw(client, &[0x30, 0xE6, 0x07]),
            |world, client| {
                let filters = vec![("a", options(AtMostOnce)); 4];
                world.send(client, subscribe(1, &filters, None));
            },
            |world, client| world.raw(client, &[0x30, 3, 0, 1, b'#']),
        ];
        for exceed in exceed {
            let mut world = World::new();
            world.options.max_packet_bytes = 1_000;
            world.options.max_filters = 3;
            let client = world.client(version, "c");
            exceed(&mut world, client);
            world.nothing(client);
            assert!(world.clients[client].closed.is_some());
        }
    }
}

/// One read with these packets, a byte that begins no packet, and more packets.
fn send_and_break(world: &mut World, client: usize, packets: &[Packet]) {
    let mut bytes = BytesMut::new();
    for packet in packets {
        encode(packet, world.clients[client].version, &mut bytes).expect("legal");
    }
    bytes.extend_from_slice(&[0, 0]);
    encode(&publish("a", "late", None, AtMostOnce), V5, &mut bytes).expect("legal");
    world.raw(client, &bytes);
}

#[test]
fn what_came_whole_ahead_of_a_fault_is_answered_ahead_of_the_end() {
    // [MQTT-3.14.4-1] [MQTT-4.13.1-1]: nothing follows the DISCONNECT
    for version in [V3_1, V3_1_1, V5] {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "a", AtMostOnce);
        let client = world.client(version, "c");
        let packets = [
            publish("a", "1", Some(1), AtLeastOnce),
            publish("a", "2", Some(2), ExactlyOnce),
            pubrel(2),
            subscribe(3, &[("b", options(AtMostOnce))], None),
            unsubscribe(4, &["b"]),
            Packet::PingReq,
        ];
        send_and_break(&mut world, client, &packets);
        let came = std::mem::take(&mut world.clients[client].got);
        let mut kinds: Vec<_> = came.iter().map(Packet::packet_type).collect();
        if version.is_v5() {
            assert_eq!(kinds.pop(), Some(PacketType::Disconnect), "{came:?}");
        }
        kinds.sort_by_key(|kind| *kind as u8);
        let due = [
            PacketType::PubAck,
            PacketType::PubRec,
            PacketType::PubComp,
            PacketType::SubAck,
            PacketType::UnsubAck,
            PacketType::PingResp,
        ];
        assert_eq!(kinds, due);
        assert!(world.clients[client].closed.is_some());
        assert_eq!(world.clients[client].left, [Leave::Lost]);
        assert_eq!(world.next_publish(watcher).payload, "1");
        assert_eq!(world.next_publish(watcher).payload, "2");
        world.nothing(watcher);
        assert_eq!(world.counter("malformed"), 1);
        world.raw(client, &[0xC0, 0]);
        world.nothing(client);
    }
}

#[test]
fn the_end_does_not_wait_for_the_disk() {
    let mut world = World::durable();
    let owner = world.join(persistent(V5, "owner"));
    world.subscribe(owner, "a", AtLeastOnce);
    world.cut(owner);
    let client = world.client(V5, "c");
    world.hold_commits = true;
    let kept = publish("a", "kept", Some(1), AtLeastOnce);
    send_and_break(&mut world, client, &[kept, Packet::PingReq]);
    assert_eq!(world.next(client), Packet::PingResp);
    world.ended(client, ReasonCode::MalformedPacket);
    world.hold_commits = false;
    world.commit();
    world.nothing(client);
    let owner = world.join(persistent(V5, "owner"));
    assert_eq!(world.next_publish(owner).payload, "kept");
}

#[test]
fn a_connection_that_breaks_after_its_fault_ends_once() {
    let mut world = World::new();
    let client = world.client(V5, "c");
    let mut bytes = BytesMut::new();
    let one = publish("a", "1", Some(1), AtLeastOnce);
    encode(&one, V5, &mut bytes).expect("legal");
    bytes.extend_from_slice(&[0, 0]);
    let machine = &mut world.clients[client].machine;
    machine.handle_input(world.now, Input::Stream(&mut bytes));
    assert!(bytes.is_empty() && !machine.is_closed());
    machine.handle_input(world.now, Input::Text(Bytes::new()));
    machine.handle_input(world.now, Input::Closed);
    assert!(machine.is_closed());
    world.run();
    world.nothing(client);
    assert_eq!(world.clients[client].left, [Leave::Lost]);
}

#[test]
fn a_disconnect_is_the_last_packet_and_closes() {
    // [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.14.2-2]: in one batch with what is due besides
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.subscribe(client, "a", AtMostOnce);
    world.send_all(
        client,
        &[
            publish("a", "1", None, AtMostOnce),
            Packet::Connect(Box::new(connect(V5, "c"))),
            publish("a", "2", None, AtMostOnce),
            Packet::PingReq,
        ],
    );
    let came = std::mem::take(&mut world.clients[client].got);
    let Some(Packet::Disconnect(last)) = came.back() else {
        panic!("{came:?}")
    };
    assert_eq!(last.reason, ReasonCode::ProtocolError);
    let set = last.properties.clone().unwrap_or_default();
    assert_eq!(set.session_expiry_interval, None);
    let pongs = came.iter().filter(|packet| **packet == Packet::PingResp);
    assert_eq!(pongs.count(), 0);
    assert!(world.clients[client].closed.is_some());
    let late = world.client(V5, "p");
    world.publish(late, "a", "late");
    world.nothing(client);
}

#[test]
fn one_connack_and_nothing_ahead_of_it() {
    // [MQTT-3.2.0-1] [MQTT-3.2.0-2]: though messages wait and the session is not durable yet
    for version in BOTH {
        let mut world = World::durable();
        let publisher = world.client(V5, "p");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", AtLeastOnce);
        world.cut(first);
        world.send(publisher, publish("a", "1", Some(1), AtLeastOnce));
        world.hold_commits = true;
        let client = world.open(persistent(version, "c"));
        world.send(client, Packet::PingReq);
        world.publish(publisher, "a", "0");
        world.hold_commits = false;
        world.commit();
        let came = std::mem::take(&mut world.clients[client].got);
        let is_connack = |packet: &Packet| matches!(packet, Packet::ConnAck(_));
        assert!(came.front().is_some_and(is_connack), "{came:?}");
        assert_eq!(came.iter().filter(|packet| is_connack(packet)).count(), 1);
        assert!(
            came.iter()
                .any(|packet| matches!(packet, Packet::Publish(_)))
        );
        assert!(came.contains(&Packet::PingResp));
    }
}

#[test]
fn a_refusal_has_no_session_and_closes() {
    // [MQTT-3.2.2-6] [MQTT-3.2.2-7], [MQTT-3.2.2-4] of 3.1.1: though there is a session
    for version in BOTH {
        let mut world = World::new();
        let first = world.join(persistent(version, "c"));
        world.cut(first);
        world.refuse = Some(JoinError::BadCredentials);
        let client = world.open(persistent(version, "c"));
        let Packet::ConnAck(ack) = world.next(client) else {
            panic!("no CONNACK")
        };
        assert!(ack.reason.is_error() && !ack.session_present);
        world.nothing(client);
        assert!(world.clients[client].closed.is_some());
        // The session is as it was.
        assert!(world.join_told(persistent(version, "c")).1.session_present);
    }
}

#[test]
fn what_the_realm_ends_is_told_to_5_0_alone() {
    // 3.1.1 section 3.14: the server has no DISCONNECT
    for (version, packets) in [(V3_1, 0), (V3_1_1, 0), (V5, 1)] {
        let mut world = World::new();
        let client = world.client(version, "c");
        let end = router_core::model::Delivery::Ended(EndReason::Shutdown);
        world.deliver_made(client, end);
        assert_eq!(world.clients[client].got.len(), packets);
        assert!(world.clients[client].closed.is_some());
    }
}

#[test]
fn a_password_needs_a_user_name_in_3_x_alone() {
    // [MQTT-3.1.2-22] of 3.1.1; 5.0 section 3.1.2.9 lifts it
    let with_password = |version: ProtocolVersion| {
        let mut bytes = vec![0, 4, b'M', b'Q', b'T', b'T'];
        if version == V3_1 {
            bytes = vec![0, 6, b'M', b'Q', b'I', b's', b'd', b'p'];
        }
        bytes.extend([version.level(), 0x42, 0, 0]);
        if version.is_v5() {
            bytes.push(0);
        }
        bytes.extend([0, 1, b'c', 0, 1, b'p']);
        let mut packet = vec![0x10, u8::try_from(bytes.len()).expect("short")];
        packet.extend(bytes);
        packet
    };
    for version in [V3_1, V3_1_1, V5] {
        let mut world = World::new();
        let client = world.accept(version);
        world.raw(client, &with_password(version));
        let is_in = matches!(world.clients[client].got.front(), Some(Packet::ConnAck(_)));
        assert_eq!(is_in, version.is_v5(), "{version:?}");
        assert_eq!(world.clients[client].closed.is_some(), !is_in);
    }
}

#[test]
fn a_malformed_connect_of_3_x_is_closed_without_connack() {
    // [MQTT-3.1.4-1], [MQTT-3.1.2-3] and [MQTT-3.2.2-6] of 3.1.1
    for (at, bit) in [(9, 0x01), (9, 0x08), (9, 0x40)] {
        let mut bytes = vec![
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'c',
        ];
        bytes[at] |= bit;
        let mut world = World::new();
        let client = world.accept(V3_1_1);
        world.raw(client, &bytes);
        world.nothing(client);
        assert!(world.clients[client].closed.is_some(), "{bit:#04x}");
        assert!(world.joins.is_empty());
    }
}

#[test]
fn a_payload_that_does_not_fit_leaves_the_next_one_alone() {
    // [MQTT-3.1.2-25]: also for a shared subscription's only member
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let client = world.join(asking("c", at_most(60)));
    world.subscribe(client, "$share/g/a", AtLeastOnce);
    for (number, length) in [(1, 500), (2, 5)] {
        let Packet::Publish(message) = publish("a", "", Some(number), AtLeastOnce) else {
            unreachable!("made just now")
        };
        let payload = Bytes::from(vec![b'x'; length]);
        world.send(publisher, Packet::Publish(Publish { payload, ..message }));
    }
    assert_eq!(world.next_publish(client).payload.len(), 5);
    world.nothing(client);
}

#[test]
fn a_connect_beyond_a_limit_is_told_which_kind_it_was() {
    // 5.0 sections 3.2.2.2 and 4.13.2
    for (count, code) in [(1_024, 0x00), (1_025, 0x97)] {
        let set = Properties {
            user_properties: vec![("k".into(), "v".into()); count],
            ..Properties::default()
        };
        let mut world = World::new();
        let client = world.open(asking("c", set));
        let Packet::ConnAck(ack) = world.next(client) else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason.value(), code);
        assert_eq!(world.clients[client].closed.is_some(), code != 0);
    }
}
