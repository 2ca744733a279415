//! Enhanced authentication (5.0 section 4.12).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::{Bytes, BytesMut};
use common::scram::{METHOD, first, last};
use common::*;
use proptest::prelude::*;
use protocols::gate::{Authentication, Credentials, Gate, Input, JoinError};
use protocols::mqtt::codec::encode;
use protocols::mqtt::packet::{
    Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Properties, Secret,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::session::Leave;
use std::time::Duration;

fn method_and(data: Option<&[u8]>) -> Properties {
    Properties {
        authentication_method: Some(METHOD.into()),
        authentication_data: data.map(|data| Secret(Bytes::copy_from_slice(data))),
        ..Properties::default()
    }
}

fn opening(id: &str, data: &str) -> Connect {
    Connect {
        properties: method_and(Some(data.as_bytes())).into_optional(),
        ..connect(V5, id)
    }
}

fn auth(reason: ReasonCode, data: &[u8]) -> Packet {
    Packet::Auth(Auth {
        reason,
        properties: method_and(Some(data)).into_optional(),
    })
}

fn answer(data: &[u8]) -> Packet {
    auth(ReasonCode::ContinueAuthentication, data)
}

/// The challenge that came, which names the method [MQTT-4.12.0-2] [MQTT-4.12.0-5].
#[track_caller]
fn challenge(world: &mut World, client: usize) -> Bytes {
    match world.next(client) {
        Packet::Auth(auth) => {
            assert_eq!(auth.reason, ReasonCode::ContinueAuthentication);
            data_of(*auth.properties.expect("a method"))
        }
        other => panic!("no AUTH: {other:?}"),
    }
}

#[track_caller]
fn data_of(set: Properties) -> Bytes {
    assert_eq!(set.authentication_method.as_deref(), Some(METHOD));
    set.authentication_data.expect("data").0
}

#[track_caller]
fn refused(world: &mut World, client: usize, reason: ReasonCode) {
    match world.next(client) {
        Packet::ConnAck(ack) => {
            assert_eq!((ack.reason, ack.session_present), (reason, false));
            let set = ack.properties.expect("words");
            assert_eq!(set.authentication_data, None);
        }
        other => panic!("no CONNACK: {other:?}"),
    }
    world.nothing(client);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.counter("connects_refused"), 1);
}

/// A client that proved to be `joe`.
fn proven(world: &mut World) -> usize {
    let client = world.open(opening("c", &first("joe")));
    let asked = challenge(world, client);
    let (message, verifier) = last("joe", "joe-secret", &asked);
    world.send(client, answer(message.as_bytes()));
    match world.next(client) {
        Packet::ConnAck(ConnAck {
            reason: ReasonCode::Success,
            properties: Some(set),
            ..
        }) => assert_eq!(data_of(*set), verifier),
        other => panic!("not let in: {other:?}"),
    }
    client
}

#[test]
fn a_proof_in_three_messages_lets_the_client_in_and_proves_the_router() {
    let mut world = World::new();
    let client = proven(&mut world);
    assert_eq!(world.clients[client].authid.as_deref(), Some("joe"));
    assert_eq!(world.joins.len(), 1);
    world.send(client, Packet::PingReq);
    assert_eq!(world.next(client), Packet::PingResp);
}

#[test]
fn the_user_name_selects_the_realm_and_the_password_proves_nothing() {
    let mut world = World::new();
    let asked = user(opening("c", &first("joe")), "x@realm2", Some("wrong"));
    let client = world.open(asked);
    let asked = challenge(&mut world, client);
    let (message, _) = last("joe", "joe-secret", &asked);
    world.send(client, answer(message.as_bytes()));
    let join = world.joins.last().expect("let in");
    assert_eq!(join.realm.as_deref(), Some("realm2"));
    assert!(matches!(join.credentials, Credentials::Exchange { .. }));
}

#[test]
fn without_a_method_nobody_hears_of_one() {
    // [MQTT-4.12.0-6]
    let mut world = World::new();
    let (_, ack) = world.join_told(connect(V5, "c"));
    let set = ack.properties.expect("5.0 has properties");
    assert_eq!(
        (set.authentication_method, set.authentication_data),
        (None, None)
    );
}

#[test]
fn an_unknown_method_is_refused() {
    // [MQTT-4.12.0-1]
    for method in ["", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS"] {
        let mut world = World::new();
        let set = Properties {
            authentication_method: Some(method.into()),
            ..Properties::default()
        };
        let client = world.open(Connect {
            properties: set.into_optional(),
            ..connect(V5, "c")
        });
        refused(&mut world, client, ReasonCode::BadAuthenticationMethod);
        assert!(world.joins.is_empty());
    }
}

#[test]
fn an_opening_that_is_none_is_refused() {
    // [MQTT-4.12.0-4]
    let whole = first("joe");
    for data in [
        "",
        "p=tls-unique,,n=joe,r=fyko+d2lbbFgONRv9qkx",
        &whole[..whole.len() - 20],
    ] {
        let mut world = World::new();
        let client = world.open(opening("c", data));
        refused(&mut world, client, ReasonCode::NotAuthorized);
    }
    let mut world = World::new();
    let client = world.open(Connect {
        properties: method_and(None).into_optional(),
        ..connect(V5, "c")
    });
    refused(&mut world, client, ReasonCode::NotAuthorized);
}

#[test]
fn wrong_unknown_and_hashed_secrets_are_refused_alike() {
    // [MQTT-4.12.0-4]
    for (name, secret) in [("joe", "wrong"), ("nobody", "x"), ("ann", "x")] {
        let mut world = World::new();
        let client = world.open(opening("c", &first(name)));
        let asked = challenge(&mut world, client);
        let (message, _) = last(name, secret, &asked);
        world.send(client, answer(message.as_bytes()));
        refused(&mut world, client, ReasonCode::NotAuthorized);
        assert!(world.joins.is_empty());
    }
}

#[test]
fn answers_that_were_cut_or_changed_or_replayed_are_refused() {
    let mut world = World::new();
    let client = world.open(opening("c", &first("joe")));
    let asked = challenge(&mut world, client);
    let (replayed, _) = last("joe", "joe-secret", &asked);
    for wrong in 0..6 {
        let mut world = World::new();
        let client = world.open(opening("c", &first("joe")));
        let asked = challenge(&mut world, client);
        let (good, _) = last("joe", "joe-secret", &asked);
        let message = match wrong {
            0 => String::new(),
            1 => good[..good.len() - 1].to_owned(),
            2 => good.replace("c=biws", "c=eSws"),
            3 => good.replace("r=fyko", "r=fyka"),
            4 => replayed.clone(),
            _ => {
                let (start, proof) = good.split_at(good.find(",p=").expect("a proof") + 3);
                let swapped = if proof.starts_with('A') { "B" } else { "A" };
                format!("{start}{swapped}{}", &proof[1..])
            }
        };
        world.send(client, answer(message.as_bytes()));
        refused(&mut world, client, ReasonCode::NotAuthorized);
    }
}

#[test]
fn an_exchange_may_come_in_one_read_with_what_follows_it() {
    // The answer cannot be known ahead of the challenge, but a client may cut its bytes anywhere.
    let mut world = World::new();
    let client = world.accept(V5);
    let mut bytes = BytesMut::new();
    let connect = Packet::Connect(Box::new(opening("c", &first("joe"))));
    encode(&connect, V5, &mut bytes).expect("legal");
    for part in bytes.chunks(7) {
        world.input(client, Input::Binary(Bytes::copy_from_slice(part)));
    }
    let (message, _) = last("joe", "joe-secret", &challenge(&mut world, client));
    let mut bytes = BytesMut::new();
    encode(&answer(message.as_bytes()), V5, &mut bytes).expect("legal");
    for part in bytes.chunks(7) {
        world.input(client, Input::Binary(Bytes::copy_from_slice(part)));
    }
    assert!(
        matches!(world.next(client), Packet::ConnAck(ack) if ack.reason == ReasonCode::Success)
    );
}

#[test]
fn nothing_but_auth_and_disconnect_comes_ahead_of_connack() {
    // [MQTT-3.1.2-30]
    for packet in [Packet::PingReq, publish("a", "x", None, AtMostOnce)] {
        // In answer to the challenge.
        let mut world = World::new();
        let client = world.open(opening("c", &first("joe")));
        challenge(&mut world, client);
        world.send(client, packet.clone());
        refused(&mut world, client, ReasonCode::ProtocolError);
        // Behind CONNECT, before the router has said anything.
        let mut world = World::new();
        let client = world.accept(V5);
        let connect = Packet::Connect(Box::new(opening("c", &first("joe"))));
        world.send_all(client, &[connect, packet.clone()]);
        refused(&mut world, client, ReasonCode::ProtocolError);
        // Behind the answer.
        let mut world = World::new();
        world.hold_joins = true;
        let client = world.open(opening("c", &first("joe")));
        let (message, _) = last("joe", "joe-secret", &challenge(&mut world, client));
        world.send_all(client, &[answer(message.as_bytes()), packet]);
        refused(&mut world, client, ReasonCode::ProtocolError);
    }
    let mut world = World::new();
    let client = world.open(with_will(opening("c", &first("joe")), "w"));
    challenge(&mut world, client);
    let bye = Disconnect {
        reason: ReasonCode::DisconnectWithWillMessage,
        properties: None,
    };
    world.send(client, Packet::Disconnect(bye));
    world.nothing(client);
    assert!(world.clients[client].closed.is_some());
    assert!(world.joins.is_empty() && world.clients[client].left.is_empty());
}

#[test]
fn auth_out_of_turn_is_a_protocol_error() {
    let other_method = || {
        Packet::Auth(Auth {
            reason: ReasonCode::ContinueAuthentication,
            properties: Properties {
                authentication_method: Some("SCRAM-SHA-1".into()),
                ..Properties::default()
            }
            .into_optional(),
        })
    };
    // [MQTT-4.12.0-3]
    for wrong in [other_method(), auth(ReasonCode::ReAuthenticate, b"")] {
        let mut world = World::new();
        let client = world.open(opening("c", &first("joe")));
        challenge(&mut world, client);
        world.send(client, wrong);
        refused(&mut world, client, ReasonCode::ProtocolError);
    }
    // In a session: nothing to continue, another method [MQTT-4.12.1-1].
    for wrong in [answer(b"x"), other_method()] {
        let mut world = World::new();
        let client = proven(&mut world);
        world.send(client, wrong);
        world.ended(client, ReasonCode::ProtocolError);
        assert_eq!(world.clients[client].left, [Leave::Lost]);
    }
    // Twice at a time.
    let mut world = World::new();
    let client = proven(&mut world);
    let again = auth(ReasonCode::ReAuthenticate, first("joe").as_bytes());
    world.send(client, again.clone());
    challenge(&mut world, client);
    world.send(client, again);
    world.ended(client, ReasonCode::ProtocolError);
}

#[test]
fn authentication_data_without_a_method_is_a_protocol_error() {
    // 5.0 sections 3.1.2.11.10 and 3.15.2.2.3; the encoder writes no such packet.
    let mut world = World::new();
    let client = world.accept(V5);
    world.raw(client, b"\x10\x11\0\x04MQTT\x05\x02\0\0\x04\x16\0\x01x\0\0");
    refused(&mut world, client, ReasonCode::ProtocolError);
    let mut world = World::new();
    let client = proven(&mut world);
    world.raw(client, b"\xF0\x06\x19\x04\x16\0\x01x");
    world.ended(client, ReasonCode::ProtocolError);
}

#[test]
fn the_login_timeout_covers_the_exchange() {
    let mut world = World::new();
    let client = world.open(opening("c", &first("joe")));
    challenge(&mut world, client);
    world.wait(Duration::from_secs(9));
    assert!(world.clients[client].closed.is_none());
    world.wait(Duration::from_secs(1));
    refused(&mut world, client, ReasonCode::NotAuthorized);
    assert_eq!(world.counter("login_timeouts"), 1);
}

#[test]
fn whatever_ends_the_connection_ends_the_exchange() {
    for end in 0..3 {
        let mut world = World::new();
        let client = world.open(opening("c", &first("joe")));
        challenge(&mut world, client);
        match end {
            0 => world.cut(client),
            1 => world.input(client, Input::Drain),
            _ => world.input(client, Input::Text(Bytes::from_static(b"x"))),
        }
        let reason = match world.clients[client].got.pop_front() {
            None => None,
            Some(Packet::ConnAck(ack)) => Some(ack.reason),
            other => panic!("{other:?}"),
        };
        let expected = [
            None,
            Some(ReasonCode::ServerUnavailable),
            Some(ReasonCode::ProtocolError),
        ];
        assert_eq!(reason, expected[end]);
        assert!(world.clients[client].machine.is_closed());
        // The realm's answer comes late.
        let late = Authentication::Challenge(Bytes::from_static(b"x"));
        let now = world.now;
        world.clients[client]
            .machine
            .handle_authentication(now, late);
        world.run();
        world.nothing(client);
    }
}

#[test]
fn packets_ahead_of_connack_are_small() {
    let mut world = World::new();
    world.options.max_connect_bytes = 300;
    let client = world.open(opening("c", &first("joe")));
    challenge(&mut world, client);
    // The header alone, so that nothing is buffered.
    world.raw(client, &[0xF0, 0xAA, 0x02]);
    refused(&mut world, client, ReasonCode::PacketTooLarge);
    let mut world = World::new();
    world.options.max_connect_bytes = 300;
    let client = proven(&mut world);
    world.raw(client, &[0x30, 0xAA, 0x02]);
    assert!(
        world.clients[client].closed.is_none(),
        "a session takes more"
    );
}

#[test]
fn a_session_proves_its_name_again_while_everything_else_goes_on() {
    // 4.12.1
    let mut world = World::new();
    let client = proven(&mut world);
    for _ in 0..2 {
        let again = auth(ReasonCode::ReAuthenticate, first("joe").as_bytes());
        world.send(client, again);
        let asked = challenge(&mut world, client);
        world.subscribe(client, "a", AtLeastOnce);
        world.send(client, publish("a", "x", Some(1), AtLeastOnce));
        let mut came = [world.next(client), world.next(client)].map(|packet| packet.packet_type());
        came.sort_by_key(|kind| *kind as u8);
        assert_eq!(came, [PacketType::Publish, PacketType::PubAck]);
        let (message, verifier) = last("joe", "joe-secret", &asked);
        world.send(client, answer(message.as_bytes()));
        match world.next(client) {
            Packet::Auth(auth) => {
                assert_eq!(auth.reason, ReasonCode::Success);
                assert_eq!(data_of(*auth.properties.expect("a method")), verifier);
            }
            other => panic!("no AUTH: {other:?}"),
        }
    }
    assert!(world.clients[client].closed.is_none());
}

#[test]
fn who_does_not_prove_the_same_name_again_is_disconnected() {
    // [MQTT-4.12.1-2]
    for (name, secret) in [("joe", "wrong"), ("eve", "eve-secret"), ("nobody", "x")] {
        let mut world = World::new();
        let client = proven(&mut world);
        let again = auth(ReasonCode::ReAuthenticate, first(name).as_bytes());
        world.send(client, again);
        let asked = challenge(&mut world, client);
        let (message, _) = last(name, secret, &asked);
        world.send(client, answer(message.as_bytes()));
        world.ended(client, ReasonCode::NotAuthorized);
        assert_eq!(world.clients[client].left, [Leave::Lost]);
        assert_eq!(world.counter("proofs_refused"), 1);
    }
}

#[test]
fn a_router_that_cannot_check_says_so() {
    let causes = [
        (JoinError::Unavailable, ReasonCode::UnspecifiedError),
        (JoinError::ShuttingDown, ReasonCode::ServerShuttingDown),
        (JoinError::TooMany, ReasonCode::ServerBusy),
    ];
    for (error, reason) in causes {
        let mut world = World::new();
        let client = proven(&mut world);
        let (now, step) = (world.now, Authentication::Failed(error));
        world.clients[client]
            .machine
            .handle_authentication(now, step);
        world.run();
        world.ended(client, reason);
    }
}

#[test]
fn reason_strings_are_kept_from_who_wants_none_but_not_the_method() {
    // [MQTT-3.1.2-29]: Authentication Method and Data are no problem information.
    let mut world = World::new();
    let mut asked = opening("c", &first("joe"));
    if let Some(set) = &mut asked.properties {
        set.request_problem_information = Some(false);
    }
    let client = world.open(asked);
    let (message, _) = last("joe", "joe-secret", &challenge(&mut world, client));
    world.send(client, answer(message.as_bytes()));
    assert!(
        matches!(world.next(client), Packet::ConnAck(ack) if ack.reason == ReasonCode::Success)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_data_lets_anybody_in(
        opens in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        data in proptest::collection::vec(any::<u8>(), 0..120),
        cut in 0usize..200,
        keeps_start in any::<bool>(),
    ) {
        let mut world = World::new();
        let open = opens.unwrap_or_else(|| first("joe").into_bytes());
        let client = world.open(Connect {
            properties: method_and(Some(&open)).into_optional(),
            ..connect(V5, "c")
        });
        if world.clients[client].closed.is_none() {
            let asked = challenge(&mut world, client);
            let (good, _) = last("joe", "joe-secret", &asked);
            let mut message = data;
            if keeps_start {
                let mut start = good.as_bytes()[..cut.min(good.len() - 1)].to_vec();
                start.append(&mut message);
                message = start;
            }
            prop_assume!(message != good.as_bytes());
            world.send(client, answer(&message));
        }
        prop_assert!(world.clients[client].closed.is_some());
        prop_assert!(world.joins.is_empty());
        prop_assert_eq!(world.counter("connects_accepted"), 0);
    }
}
