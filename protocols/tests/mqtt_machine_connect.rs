//! CONNECT, CONNACK and everything before the session (5.0 sections 3.1 and 3.2).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use protocols::gate::{Credentials, Gate, Input, JoinError};
use protocols::mqtt::codec::encode;
use protocols::mqtt::machine::{MqttOptions, ResponseInformation};
use protocols::mqtt::packet::{
    Auth, ConnAck, Connect, Disconnect, OptProperties, Packet, PacketType, Properties, Will,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::model::{Delivery, EndReason};
use router_core::session::Leave;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

fn with(connect: Connect, properties: Properties) -> Connect {
    Connect {
        properties: properties.into_optional(),
        ..connect
    }
}

fn told(ack: ConnAck) -> Properties {
    *ack.properties.expect("5.0 has properties")
}

/// The connection was refused with this CONNACK.
#[track_caller]
fn refused(world: &mut World, client: usize, reason: ReasonCode) {
    match world.next(client) {
        Packet::ConnAck(ack) => {
            assert_eq!((ack.reason, ack.session_present), (reason, false));
        }
        other => panic!("no CONNACK: {other:?}"),
    }
    world.nothing(client);
    assert!(world.clients[client].closed.is_some());
}

#[test]
fn every_version_is_let_in_with_its_own_connack() {
    for version in [V3_1, V3_1_1, V5] {
        let mut world = World::new();
        let (client, ack) = world.join_told(connect(version, "c"));
        assert!(!ack.session_present);
        assert_eq!(ack.properties.is_some(), version.is_v5());
        world.nothing(client);
        assert_eq!(world.counter("connects_accepted"), 1);
    }
    let mut world = World::new();
    for version in [V3_1, V3_1_1, V5] {
        world.client(version, "c");
    }
    let names: Vec<_> = world.joins.iter().map(|join| join.protocol).collect();
    assert_eq!(names, ["mqtt-3.1", "mqtt-3.1.1", "mqtt-5.0"]);
}

#[test]
fn connack_announces_what_this_server_does() {
    let mut world = World::new();
    let set = told(world.join_told(connect(V5, "c")).1);
    assert_eq!(set.receive_maximum, NonZeroU16::new(64));
    assert_eq!(set.topic_alias_maximum, Some(32));
    assert_eq!(set.maximum_packet_size, NonZeroU32::new(1_048_576));
    // What is served without a limit is said by absence.
    assert_eq!(set.retain_available, None);
    assert_eq!(set.wildcard_subscription_available, None);
    assert_eq!(set.subscription_identifiers_available, None);
    assert_eq!(set.shared_subscription_available, None);
    assert_eq!(set.maximum_qos, None);
    assert_eq!(set.assigned_client_identifier, None);
    assert_eq!(set.server_keep_alive, None);
    assert_eq!(set.session_expiry_interval, None);
}

#[test]
fn connack_is_as_short_as_can_be() {
    // 5.0 sections 3.2.2.3.3 to 3.2.2.3.13: nothing is said that its absence says too
    let bytes = |options: fn(&mut MqttOptions)| {
        let mut world = World::new();
        options(&mut world.options);
        let client = world.client(V5, "c");
        world.clients[client].pieces.concat()
    };
    let usual = b"\x20\x0E\0\0\x0B\x21\0\x40\x22\0\x20\x27\0\x10\0\0";
    assert_eq!(bytes(|_| {}), usual);
    let unlimited = bytes(|options| {
        options.receive_maximum = NonZeroU16::MAX;
        options.topic_alias_maximum = 0;
        options.max_packet_bytes = 268_435_460;
    });
    assert_eq!(unlimited, b"\x20\x03\0\0\0");
    let limited = bytes(|options| {
        options.receive_maximum = NonZeroU16::new(65_534).expect("not 0");
        options.topic_alias_maximum = 1;
        options.max_packet_bytes = 268_435_459;
    });
    assert_eq!(limited.len(), 16);
}

#[test]
fn response_information_is_told_to_who_asks() {
    // [MQTT-3.1.2-28]
    let asking = |id: &str, asked: Option<bool>| {
        let set = Properties {
            request_response_information: asked,
            ..Properties::default()
        };
        with(connect(V5, id), set)
    };
    let mut world = World::new();
    for asked in [None, Some(false)] {
        let set = told(world.join_told(asking("c", asked)).1);
        assert_eq!(set.response_information, None);
    }
    for (id, expected) in [
        ("c", "reply/c/"),
        ("a/+/#", "reply/a%2F%2B%2F%23/"),
        ("%2F", "reply/%252F/"),
    ] {
        let (client, ack) = world.join_told(asking(id, Some(true)));
        let prefix = told(ack).response_information.expect("asked for");
        assert_eq!(prefix, expected);
        // It is of use: a Topic Name and the start of a Topic Filter.
        world.subscribe(client, &format!("{prefix}#"), AtMostOnce);
        world.publish(client, &format!("{prefix}1"), "answer");
        assert_eq!(world.next_publish(client).topic, format!("{prefix}1"));
    }
    let set = told(world.join_told(asking("", Some(true))).1);
    let id = set.assigned_client_identifier.expect("assigned");
    let expected = format!("reply/{id}/");
    assert_eq!(set.response_information.as_deref(), Some(&*expected));
    world.options.response_information = ResponseInformation::new("{client}");
    let set = told(world.join_told(asking("c", Some(true))).1);
    assert_eq!(set.response_information.as_deref(), Some("c"));
    world.options.response_information = None;
    let set = told(world.join_told(asking("c", Some(true))).1);
    assert_eq!(set.response_information, None);
}

#[test]
fn a_connack_that_does_not_fit_goes_without_response_information() {
    let asking = |size| Properties {
        request_response_information: Some(true),
        maximum_packet_size: NonZeroU32::new(size),
        ..Properties::default()
    };
    let mut world = World::new();
    let id = "x".repeat(60);
    let set = told(world.join_told(with(connect(V5, &id), asking(100))).1);
    assert!(set.response_information.is_some());
    let set = told(world.join_told(with(connect(V5, &id), asking(60))).1);
    assert_eq!(set.response_information, None);
    assert!(set.receive_maximum.is_some());
}

#[test]
fn a_connect_is_small_and_judged_by_its_header() {
    // Length 65,533 with a header of four bytes, and one byte more.
    for (most, header, fits) in [
        (65_536, &[0x10, 0xFC, 0xFF, 0x03][..], true),
        (65_536, &[0x10, 0xFD, 0xFF, 0x03], false),
        (100, &[0x10, 98], true),
        (100, &[0x10, 99], false),
        (200_000, &[0x10, 0xFF, 0xFF, 0x05], true),
    ] {
        let mut world = World::new();
        assert_eq!(world.options.max_connect_bytes, 65_536);
        world.options.max_connect_bytes = most;
        let client = world.accept(V5);
        world.raw(client, header);
        // Nobody knows the version yet: closed without a word.
        world.nothing(client);
        assert_eq!(world.clients[client].closed.is_none(), fits, "{header:?}");
        assert_eq!(world.counter("over_limit"), u64::from(!fits));
    }
}

#[test]
fn an_empty_client_identifier_is_assigned_and_told() {
    // [MQTT-3.1.3-6] [MQTT-3.2.2-16], with either Clean Start.
    let mut world = World::new();
    let mut given = Vec::new();
    for clean_start in [true, false] {
        let asked = Connect {
            clean_start,
            ..connect(V5, "")
        };
        let set = told(world.join_told(asked).1);
        let id = set.assigned_client_identifier.expect("assigned");
        assert_eq!(
            world.joins.last().map(|join| join.id.clone()),
            Some(id.clone())
        );
        given.push(id);
    }
    assert_ne!(given[0], given[1]);
    // [MQTT-3.1.3-7] of 3.1.1: with Clean Session, silently.
    world.client(V3_1_1, "");
    // [MQTT-3.1.3-8] of 3.1.1: without, return code 2.
    let client = world.open(Connect {
        clean_start: false,
        ..connect(V3_1_1, "")
    });
    refused(&mut world, client, ReasonCode::ClientIdentifierNotValid);
}

#[test]
fn client_identifiers_of_3_1_have_1_to_23_characters() {
    let mut world = World::new();
    world.client(V3_1, &"é".repeat(23));
    for id in ["", &"x".repeat(24)] {
        let client = world.open(connect(V3_1, id));
        refused(&mut world, client, ReasonCode::ClientIdentifierNotValid);
    }
    world.client(V3_1_1, &"x".repeat(1_000));
}

#[test]
fn session_life_by_version() {
    let cases = [
        (connect(V3_1_1, "a"), 0, None),
        (persistent(V3_1_1, "b"), 604_800, None),
        (connect(V5, "c"), 0, None),
        (persistent(V5, "d"), 86_400, None),
        (
            with(
                connect(V5, "e"),
                Properties {
                    session_expiry_interval: Some(u32::MAX),
                    ..Properties::default()
                },
            ),
            604_800,
            Some(604_800),
        ),
    ];
    for (asked, seconds, announced) in cases {
        let mut world = World::new();
        let (_, ack) = world.join_told(asked);
        assert_eq!(world.joins[0].expiry, Duration::from_secs(seconds));
        let told = ack.properties.and_then(|set| set.session_expiry_interval);
        assert_eq!(told, announced, "5.0 section 3.2.2.3.2");
    }
}

#[test]
fn the_window_is_the_smaller_of_receive_maximum_and_cap() {
    for (asked, window) in [(None, 100), (Some(7), 7), (Some(1_000), 100)] {
        let mut world = World::new();
        world.join(with(
            connect(V5, "c"),
            Properties {
                receive_maximum: asked.and_then(NonZeroU16::new),
                ..Properties::default()
            },
        ));
        assert_eq!(world.joins[0].window, window);
    }
}

#[test]
fn a_keep_alive_cap_is_announced_to_5_0_only() {
    // [MQTT-3.2.2-21] [MQTT-3.2.2-22]
    for (asked, told_as) in [(0, Some(60)), (61, Some(60)), (60, None), (5, None)] {
        let mut world = World::new();
        world.options.max_keepalive_secs = 60;
        let keep_alive = |version| Connect {
            keep_alive: asked,
            ..connect(version, "c")
        };
        let (client, ack) = world.join_told(keep_alive(V5));
        assert_eq!(told(ack).server_keep_alive, told_as, "asked {asked}");
        let enforced = u64::from(told_as.unwrap_or(asked));
        let deadline = world.now.instant + Duration::from_millis(enforced * 1_500);
        assert_eq!(world.clients[client].machine.poll_timeout(), Some(deadline));
        // A 3.x client cannot be told and keeps its own, which may be none.
        let old = world.join(keep_alive(V3_1_1));
        let own = (asked != 0)
            .then(|| world.now.instant + Duration::from_millis(u64::from(asked) * 1_500));
        assert_eq!(world.clients[old].machine.poll_timeout(), own);
    }
}

#[test]
fn user_names_select_realms_and_passwords_prove_names() {
    let cases = [
        (connect(V5, "c"), None, None),
        (
            user(connect(V5, "c"), "joe", Some("s")),
            None,
            Some(("joe", "s")),
        ),
        (
            user(connect(V5, "c"), "joe@shop", Some("s")),
            Some("shop"),
            Some(("joe", "s")),
        ),
        (
            user(connect(V3_1_1, "c"), "a@b@shop.de", Some("s")),
            Some("shop.de"),
            Some(("a@b", "s")),
        ),
        (
            user(connect(V3_1_1, "c"), "joe@shop", None),
            Some("shop"),
            None,
        ),
        (
            user(connect(V3_1_1, "c"), "joe@no realm", Some("s")),
            None,
            Some(("joe@no realm", "s")),
        ),
    ];
    for (asked, realm, secret) in cases {
        let mut world = World::new();
        let name = asked.username.clone();
        world.join(asked);
        let join = &world.joins[0];
        assert_eq!(join.realm.as_deref(), realm, "{name:?}");
        match (&join.credentials, secret) {
            (Credentials::Anonymous { authid: None }, None) => {}
            (Credentials::Secret { authid, secret }, Some((name, word))) => {
                assert_eq!((&**authid, &**secret), (name, word.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_refused_join_has_its_code_in_each_version() {
    let no = || JoinError::NotAuthorized("no".into());
    let cases = [
        (JoinError::BadCredentials, 0x86, 4),
        (JoinError::InvalidRealm, 0x86, 4),
        (JoinError::NoSuchRealm, 0x86, 4),
        (JoinError::CredentialsRequired, 0x87, 5),
        (no(), 0x87, 5),
        (JoinError::TooMany, 0x97, 3),
        (JoinError::Unavailable, 0x88, 3),
        (JoinError::ShuttingDown, 0x88, 3),
    ];
    for (error, v5, v3) in cases {
        for version in BOTH {
            let mut world = World::new();
            world.refuse = Some(error.clone());
            let client = world.open(connect(version, "c"));
            let Packet::ConnAck(ack) = world.next(client) else {
                panic!("no CONNACK")
            };
            if version.is_v5() {
                assert_eq!(ack.reason.value(), v5, "{error}");
            } else {
                assert_eq!(ack.reason.connect_return_code(), Some(v3), "{error}");
            }
            assert!(world.clients[client].closed.is_some());
            assert!(world.clients[client].left.is_empty(), "it never was in");
        }
    }
}

#[test]
fn nothing_after_a_refused_connect_is_processed() {
    // [MQTT-3.1.4-6]
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", AtMostOnce);
    world.refuse = Some(JoinError::BadCredentials);
    let client = world.accept(V5);
    world.send_all(
        client,
        &[
            Packet::Connect(Box::new(connect(V5, "c"))),
            publish("a", "x", None, AtMostOnce),
        ],
    );
    refused(&mut world, client, ReasonCode::BadUserNameOrPassword);
    world.publish(client, "a", "y");
    world.nothing(watcher);
}

#[test]
fn auth_without_enhanced_authentication_is_a_protocol_error() {
    // [MQTT-4.12.0-7]
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.send(
        client,
        Packet::Auth(Auth {
            reason: ReasonCode::ReAuthenticate,
            properties: Properties {
                authentication_method: Some("x".into()),
                ..Properties::default()
            }
            .into_optional(),
        }),
    );
    world.ended(client, ReasonCode::ProtocolError);
}

#[test]
fn the_first_packet_is_connect_and_the_second_is_not() {
    // [MQTT-3.1.0-1]: closed without a word.
    for bytes in [
        &[0xC0, 0][..],
        &[0x20, 2, 0, 0],
        &[0x40, 2, 0, 1],
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut world = World::new();
        let client = world.accept(V5);
        world.raw(client, bytes);
        world.nothing(client);
        assert!(world.clients[client].closed.is_some());
    }
    // [MQTT-3.1.0-2]
    for version in BOTH {
        let mut world = World::new();
        let client = world.client(version, "c");
        world.send(client, Packet::Connect(Box::new(connect(version, "c"))));
        world.ended(client, ReasonCode::ProtocolError);
        assert_eq!(world.clients[client].left, [Leave::Lost]);
    }
}

#[test]
fn packets_only_a_server_sends_end_the_connection_and_nothing_else() {
    // A CONNACK from a client once ended a whole broker.
    for version in BOTH {
        for bytes in [
            &[0x20, 3, 0, 0, 0][..],
            &[0x90, 4, 0, 1, 0, 0],
            &[0xB0, 2, 0, 1],
            &[0xD0, 0],
        ] {
            let mut world = World::new();
            let other = world.client(version, "other");
            let client = world.client(version, "X");
            world.raw(client, bytes);
            world.ended(client, ReasonCode::ProtocolError);
            let again = world.client(version, "X");
            world.send(again, Packet::PingReq);
            world.send(other, Packet::PingReq);
            assert_eq!(world.next(again), Packet::PingResp);
            assert_eq!(world.next(other), Packet::PingResp);
        }
    }
}

#[test]
fn unknown_versions_are_told_so() {
    let named = |name: &[u8], level: u8| {
        let length = name.len() as u8;
        [
            &[0x10, 9 + length, 0, length][..],
            name,
            &[level, 2, 0, 0, 0, 1, b'c'],
        ]
        .concat()
    };
    let connect = |level| named(b"MQTT", level);
    let mut world = World::new();
    let newer = world.accept(V5);
    world.raw(newer, &connect(6));
    refused(&mut world, newer, ReasonCode::UnsupportedProtocolVersion);
    let older = world.accept(V3_1_1);
    world.raw(older, &connect(2));
    refused(&mut world, older, ReasonCode::UnsupportedProtocolVersion);
    // [MQTT-3.1.2-2] of 3.1.1: two bytes with code 1, and no more, for who speaks 3.x.
    for unknown in [
        named(b"MQIsdp", 6),
        named(b"MQIsdp", 4),
        named(b"MQTT", 3),
        named(b"MQTT", 0x84),
    ] {
        let old = world.accept(V3_1_1);
        world.raw(old, &unknown);
        assert_eq!(world.clients[old].pieces.concat(), [0x20, 2, 0, 1]);
        assert!(world.clients[old].closed.is_some());
    }
    let foreign = world.accept(V3_1_1);
    world.raw(
        foreign,
        &[
            0x10, 0x0C, 0, 4, b'X', b'X', b'X', b'X', 4, 2, 0, 0x3C, 0, 0,
        ],
    );
    world.nothing(foreign);
    assert!(world.clients[foreign].closed.is_some());
    assert_eq!(world.counter("over_limit"), 7);
}

#[test]
fn a_malformed_connect_of_5_0_is_told_its_fault() {
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(connect(V5, "c"))), V5, &mut bytes).expect("legal");
    bytes[9] |= 1; // reserved connect flag [MQTT-3.1.2-3]
    let mut world = World::new();
    let client = world.accept(V5);
    world.raw(client, &bytes);
    refused(&mut world, client, ReasonCode::MalformedPacket);
    assert_eq!(world.counter("malformed"), 1);
}

#[test]
fn wills_are_checked_at_connect() {
    let deep = vec!["a"; 201].join("/");
    let broken = |payload: &'static [u8], properties: OptProperties| Will {
        qos: AtMostOnce,
        retain: false,
        topic: "w".into(),
        payload: Bytes::from_static(payload),
        properties,
    };
    let text = Properties {
        payload_format_indicator: Some(true),
        ..Properties::default()
    };
    let mut world = World::new();
    let client = world.open(with_will(connect(V5, "a"), &deep));
    refused(&mut world, client, ReasonCode::TopicNameInvalid);
    let will = Some(broken(b"\xFF", text.clone().into_optional()));
    let client = world.open(Connect {
        will,
        ..connect(V5, "b")
    });
    refused(&mut world, client, ReasonCode::PayloadFormatInvalid);
    let will = Some(broken(b"ok", text.into_optional()));
    world.join(Connect {
        will,
        ..connect(V5, "c")
    });
    // 3.x has no return code for it: closed without CONNACK.
    let client = world.open(with_will(connect(V3_1_1, "d"), &deep));
    world.nothing(client);
    assert!(world.clients[client].closed.is_some());
    // The router's own topics are nobody's.
    let client = world.open(with_will(connect(V5, "e"), "wamp/session/on_join"));
    refused(&mut world, client, ReasonCode::NotAuthorized);
    let client = world.open(with_will(connect(V5, "f"), "$SYS/x"));
    refused(&mut world, client, ReasonCode::NotAuthorized);
}

#[test]
fn whoever_says_nothing_is_closed_after_the_login_timeout() {
    let mut world = World::new();
    let silent = world.accept(V5);
    let slow = world.accept(V5);
    world.raw(slow, &[0x10, 200]);
    let quick = world.client(V5, "quick");
    world.wait(Duration::from_millis(9_999));
    assert!(world.clients[silent].closed.is_none());
    world.wait(Duration::from_millis(1));
    assert!(world.clients[silent].closed.is_some() && world.clients[slow].closed.is_some());
    assert!(world.clients[quick].closed.is_none());
    assert_eq!(world.counter("login_timeouts"), 2);
}

#[test]
fn a_join_that_takes_too_long_is_given_up_and_left_when_it_comes() {
    for version in BOTH {
        let mut world = World::new();
        world.hold_joins = true;
        let client = world.open(connect(version, "c"));
        world.wait(Duration::from_secs(10));
        refused(&mut world, client, ReasonCode::ServerUnavailable);
        assert!(world.clients[client].left.is_empty());
        world.answer_join(client, Ok(()));
        assert_eq!(world.clients[client].left, [Leave::Lost]);
        let other = world.open(connect(version, "d"));
        world.wait(Duration::from_secs(10));
        world.answer_join(other, Err(JoinError::BadCredentials));
        assert!(world.clients[other].left.is_empty(), "it never was in");
    }
}

#[test]
fn a_connection_that_breaks_before_its_join_never_joins() {
    let mut world = World::new();
    let client = world.accept(V5);
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(connect(V5, "c"))), V5, &mut bytes).expect("legal");
    let machine = &mut world.clients[client].machine;
    machine.handle_input(world.now, Input::Stream(&mut bytes));
    machine.handle_input(world.now, Input::Closed);
    assert!(machine.poll_action().is_none());
    world.run();
    assert!(world.joins.is_empty() && world.clients[client].closed.is_some());
}

#[test]
fn what_is_sent_ahead_of_connack_waits_and_is_bounded() {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "a", AtMostOnce);
    let client = world.accept(V5);
    // Cut in the middle of the second PUBLISH.
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(connect(V5, "c"))), V5, &mut bytes).expect("legal");
    encode(&publish("a", "1", None, AtMostOnce), V5, &mut bytes).expect("legal");
    let cut = bytes.len() + 3;
    encode(&publish("a", "2", None, AtMostOnce), V5, &mut bytes).expect("legal");
    world.raw(client, &bytes[..cut]);
    assert_eq!(world.next_publish(watcher).payload, "1");
    world.raw(client, &bytes[cut..]);
    assert_eq!(world.next_publish(watcher).payload, "2");

    world.hold_joins = true;
    world.options.max_packet_bytes = 100_000;
    let flood = world.open(connect(V5, "flood"));
    for _ in 0..10 {
        world.raw(flood, &[0; 10_000]);
        assert!(world.clients[flood].closed.is_none());
    }
    world.raw(flood, &[0]);
    refused(&mut world, flood, ReasonCode::QuotaExceeded);
}

#[test]
fn connack_waits_until_the_session_is_durable() {
    for version in BOTH {
        let mut world = World::durable();
        world.hold_commits = true;
        let client = world.open(persistent(version, "c"));
        world.nothing(client);
        world.commit();
        let Packet::ConnAck(ack) = world.next(client) else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason, ReasonCode::Success);
        // A store that does not take the session: return code 3.
        let client = world.open(persistent(version, "d"));
        world.commit_fails();
        refused(&mut world, client, ReasonCode::ServerUnavailable);
    }
}

#[test]
fn an_end_ahead_of_connack_never_sends_disconnect() {
    // [MQTT-3.14.0-1]
    for (reason, connack) in [
        (EndReason::TakenOver, None),
        (EndReason::Shutdown, Some(ReasonCode::ServerUnavailable)),
        (
            EndReason::StorageUnavailable,
            Some(ReasonCode::ServerUnavailable),
        ),
    ] {
        let mut world = World::durable();
        world.hold_commits = true;
        let client = world.open(persistent(V5, "c"));
        world.deliver_made(client, Delivery::Ended(reason.clone()));
        match connack {
            Some(code) => refused(&mut world, client, code),
            None => {
                world.nothing(client);
                assert!(world.clients[client].closed.is_some(), "{reason:?}");
            }
        }
    }
}

#[test]
fn a_drain_before_the_session_refuses() {
    let mut world = World::new();
    let fresh = world.accept(V5);
    world.input(fresh, Input::Drain);
    world.nothing(fresh);
    assert!(world.clients[fresh].closed.is_some());
    world.hold_joins = true;
    let joining = world.open(connect(V5, "c"));
    world.input(joining, Input::Drain);
    refused(&mut world, joining, ReasonCode::ServerUnavailable);
}

#[test]
fn a_connack_that_does_not_fit_the_client_is_not_sent() {
    // [MQTT-3.1.2-24]: the announcements of three limits cannot be left out
    let open = |world: &mut World, size| {
        world.open(with(
            connect(V5, "c"),
            Properties {
                maximum_packet_size: NonZeroU32::new(size),
                ..Properties::default()
            },
        ))
    };
    for size in [5, 10, 15] {
        let mut world = World::new();
        let client = open(&mut world, size);
        world.nothing(client);
        assert!(world.clients[client].closed.is_some());
        assert_eq!(world.clients[client].left, [Leave::Lost]);
    }
    for size in [16, 20] {
        let mut world = World::new();
        let client = open(&mut world, size);
        let Packet::ConnAck(ack) = world.next(client) else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason, ReasonCode::Success, "{size}");
        assert!(world.clients[client].closed.is_none());
    }
}

#[test]
fn websocket_frames_are_no_packet_boundaries() {
    // [MQTT-6.0.0-2]
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(connect(V5, "c"))), V5, &mut bytes).expect("legal");
    encode(&Packet::PingReq, V5, &mut bytes).expect("legal");
    encode(&publish("a", "x", Some(1), AtLeastOnce), V5, &mut bytes).expect("legal");
    for size in [1, 2, 7, bytes.len()] {
        let mut world = World::new();
        let client = world.accept(V5);
        for frame in bytes.chunks(size) {
            world.input(client, Input::Binary(Bytes::copy_from_slice(frame)));
        }
        let kinds: Vec<_> = world.clients[client]
            .got
            .iter()
            .map(Packet::packet_type)
            .collect();
        assert_eq!(
            kinds,
            [
                PacketType::ConnAck,
                PacketType::PingResp,
                PacketType::PubAck
            ]
        );
    }
    // [MQTT-6.0.0-1]
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.input(client, Input::Text(Bytes::from_static(b"{}")));
    world.ended(client, ReasonCode::ProtocolError);
    let fresh = world.accept(V5);
    world.input(fresh, Input::Text(Bytes::from_static(b"{}")));
    assert!(world.clients[fresh].closed.is_some());
}

#[test]
fn after_the_end_nothing_is_read_any_more() {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", AtMostOnce);
    let client = world.client(V5, "c");
    let bye = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: None,
    });
    world.send_all(client, &[bye, publish("a", "late", None, AtMostOnce)]);
    world.publish(client, "a", "later");
    world.input(client, Input::Binary(Bytes::from_static(&[0xC0, 0])));
    world.cut(client);
    world.wait(Duration::from_secs(100));
    world.nothing(watcher);
    assert_eq!(world.clients[client].left, [Leave::Clean]);
    assert!(world.clients[client].machine.is_closed());
}
