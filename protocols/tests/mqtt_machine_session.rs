//! Sessions, wills, takeover, Keep Alive and the end of connections (5.0 sections 3.1, 3.14, 4.1).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use common::*;
use protocols::gate::{Gate, Input};
use protocols::mqtt::packet::{
    Connect, Disconnect, Packet, PacketType, Properties, ProtocolVersion, Publish, Will,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::model::{Delivery, EndReason};
use router_core::session::Leave;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A world in which `watcher` sees every will published to `will`.
fn watched() -> (World, usize) {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "will", ExactlyOnce);
    (world, watcher)
}

/// A 5.0 CONNECT with a will, a delay for it and a session life, in seconds.
fn delayed(delay: u32, expiry: u32, clean_start: bool) -> Connect {
    let mut connect = with_will(connect(V5, "c"), "will");
    let set = Properties {
        will_delay_interval: Some(delay),
        ..Properties::default()
    };
    connect.will.as_mut().expect("just set").properties = set.into_optional();
    let set = Properties {
        session_expiry_interval: Some(expiry),
        ..Properties::default()
    };
    Connect {
        properties: set.into_optional(),
        clean_start,
        ..connect
    }
}

fn bye(reason: ReasonCode, expiry: Option<u32>) -> Packet {
    let set = Properties {
        session_expiry_interval: expiry,
        ..Properties::default()
    };
    Packet::Disconnect(Disconnect {
        reason,
        properties: set.into_optional(),
    })
}

fn silent(version: ProtocolVersion, keep_alive: u16) -> Connect {
    Connect {
        keep_alive,
        ..with_will(connect(version, "c"), "will")
    }
}

#[test]
fn disconnect_forgets_the_will() {
    // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
    for version in BOTH {
        let (mut world, watcher) = watched();
        let client = world.join(with_will(connect(version, "c"), "will"));
        world.send(client, bye(ReasonCode::Success, None));
        world.cut(client);
        world.wait(100 * SECOND);
        world.nothing(watcher);
        world.nothing(client);
        assert_eq!(world.clients[client].left, [Leave::Clean]);
        assert_eq!(
            world.clients[client].closed.map(|(code, _)| code),
            Some(1000)
        );
    }
}

#[test]
fn every_other_end_publishes_the_will_once() {
    // [MQTT-3.1.2-8]
    type End = fn(&mut World, usize);
    let ends: [(&str, End); 5] = [
        ("the network breaks", |world, client| world.cut(client)),
        ("a protocol error", |world, client| {
            world.raw(client, &[0x20, 2, 0, 0])
        }),
        ("malformed bytes", |world, client| {
            world.raw(client, &[0xC1, 0])
        }),
        ("silence", |world, _| world.wait(15 * SECOND)),
        ("a drain", |world, client| world.input(client, Input::Drain)),
    ];
    for version in BOTH {
        for (name, end) in ends {
            let (mut world, watcher) = watched();
            let client = world.join(silent(version, 10));
            end(&mut world, client);
            assert_eq!(world.next_publish(watcher).payload, "gone", "{name}");
            world.cut(client);
            world.wait(100 * SECOND);
            world.nothing(watcher);
            assert_eq!(world.clients[client].left, [Leave::Lost], "{name}");
        }
    }
}

#[test]
fn disconnect_with_will_publishes_it() {
    // 5.0 section 3.14.2.1, 0x04 and the error codes
    for reason in [
        ReasonCode::DisconnectWithWillMessage,
        ReasonCode::UnspecifiedError,
        ReasonCode::PacketTooLarge,
    ] {
        let (mut world, watcher) = watched();
        let client = world.join(with_will(connect(V5, "c"), "will"));
        world.send(client, bye(reason, None));
        assert_eq!(world.next_publish(watcher).payload, "gone", "{reason}");
        world.nothing(client);
    }
}

#[test]
fn wills_keep_their_qos_retain_and_properties() {
    // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "will", ExactlyOnce);
    let set = Properties {
        content_type: Some("text/plain".into()),
        user_properties: vec![("a".into(), "b".into())],
        message_expiry_interval: Some(10),
        ..Properties::default()
    };
    let mut asked = with_will(connect(V5, "c"), "will");
    let will = asked.will.as_mut().expect("just set");
    *will = Will {
        qos: AtLeastOnce,
        retain: true,
        properties: set.clone().into_optional(),
        ..will.clone()
    };
    let client = world.join(asked);
    world.cut(client);
    let came = world.next_publish(watcher);
    assert_eq!(
        (came.qos, came.retain, came.properties.as_deref()),
        (AtLeastOnce, false, Some(&set))
    );
    world.wait(4 * SECOND);
    let late = world.client(V5, "late");
    world.subscribe(late, "will", AtMostOnce);
    let kept = world.next_publish(late);
    let left = Properties {
        message_expiry_interval: Some(6),
        ..set
    };
    assert_eq!(
        (kept.retain, kept.properties.as_deref()),
        (true, Some(&left))
    );
}

#[test]
fn takeover_publishes_the_will_and_tells_the_former_connection() {
    // [MQTT-3.1.4-3], [MQTT-3.1.4-2] of 3.1.1, [MQTT-3.1.2-8]
    for version in BOTH {
        for make in [connect as fn(_, &_) -> _, persistent] {
            let (mut world, watcher) = watched();
            let old = world.join(with_will(make(version, "c"), "will"));
            let (new, ack) = world.join_told(make(version, "c"));
            assert_eq!(ack.session_present, !make(version, "c").clean_start);
            world.ended(old, ReasonCode::SessionTakenOver);
            assert!(
                world.clients[old].left.is_empty(),
                "its successor has the session"
            );
            assert_eq!(world.next_publish(watcher).payload, "gone");
            world.nothing(watcher);
            world.send(new, Packet::PingReq);
            assert_eq!(world.next(new), Packet::PingResp);
        }
    }
}

#[test]
fn the_former_connection_of_a_session_is_closed_before_connack() {
    // [MQTT-3.1.4-3], whether the session goes on or ends with it
    for (version, make) in BOTH
        .into_iter()
        .flat_map(|version| [connect as fn(_, &_) -> _, persistent].map(|make| (version, make)))
    {
        let mut world = World::new();
        let old = world.join(make(version, "c"));
        world.trace.clear();
        let new = world.join(make(version, "c"));
        let mut wanted = vec![
            (old, Seen::Closed),
            (new, Seen::Packet(PacketType::ConnAck)),
        ];
        if version.is_v5() {
            wanted.insert(0, (old, Seen::Packet(PacketType::Disconnect)));
        }
        assert_eq!(world.trace, wanted);
    }
}

#[test]
fn what_a_replaced_connection_still_sends_has_no_effect() {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", AtMostOnce);
    let old = world.join(persistent(V5, "c"));
    world.join(persistent(V5, "c"));
    world.publish(old, "a", "late");
    world.send(old, bye(ReasonCode::Success, None));
    world.nothing(watcher);
}

#[test]
fn a_will_waits_for_its_delay() {
    // [MQTT-3.1.2-8], 5.0 section 3.1.3.2.2
    let (mut world, watcher) = watched();
    let client = world.join(delayed(10, 100, false));
    world.cut(client);
    world.wait(9 * SECOND);
    world.nothing(watcher);
    world.wait(SECOND);
    assert_eq!(world.next_publish(watcher).payload, "gone");
    world.wait(100 * SECOND);
    world.nothing(watcher);
}

#[test]
fn a_will_never_waits_longer_than_its_session() {
    for (expiry, at) in [(0, 0), (5, 5)] {
        let (mut world, watcher) = watched();
        let client = world.join(delayed(10, expiry, false));
        world.cut(client);
        if at > 0 {
            world.nothing(watcher);
            world.wait(at * SECOND);
        }
        assert_eq!(
            world.next_publish(watcher).payload,
            "gone",
            "expiry {expiry}"
        );
        world.wait(100 * SECOND);
        world.nothing(watcher);
    }
}

#[test]
fn resuming_the_session_cancels_a_delayed_will() {
    // [MQTT-3.1.3-9]
    let (mut world, watcher) = watched();
    let client = world.join(delayed(10, 100, false));
    world.cut(client);
    world.wait(9 * SECOND);
    let again = world.join(persistent(V5, "c"));
    world.wait(100 * SECOND);
    world.nothing(watcher);
    // Taken over within the delay: the same.
    world.join(delayed(10, 100, false));
    assert!(world.clients[again].closed.is_some());
    world.join(persistent(V5, "c"));
    world.wait(100 * SECOND);
    world.nothing(watcher);
}

#[test]
fn a_clean_start_ends_the_session_and_publishes_its_will_now() {
    // [MQTT-3.1.2-4], 5.0 section 3.1.3.2.2
    let (mut world, watcher) = watched();
    let client = world.join(delayed(10, 100, false));
    world.cut(client);
    world.nothing(watcher);
    world.client(V5, "c");
    assert_eq!(world.next_publish(watcher).payload, "gone");
    world.wait(100 * SECOND);
    world.nothing(watcher);
}

#[test]
fn session_present_is_exact() {
    // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    for version in BOTH {
        let mut world = World::new();
        let tell = |world: &mut World, asked| {
            let (client, ack) = world.join_told(asked);
            world.cut(client);
            ack.session_present
        };
        assert!(!tell(&mut world, persistent(version, "c")));
        assert!(tell(&mut world, persistent(version, "c")));
        assert!(
            !tell(&mut world, connect(version, "c")),
            "a clean start has none"
        );
        assert!(!tell(&mut world, persistent(version, "c")), "and left none");
        assert!(
            !tell(&mut world, persistent(version, "d")),
            "another client"
        );
    }
}

#[test]
fn sessions_end_when_their_time_has_passed() {
    // [MQTT-3.1.2-23]
    for version in BOTH {
        let mut world = World::new();
        world.options.max_session_expiry_secs = 60;
        let client = world.join(persistent(version, "c"));
        world.wait(1_000 * SECOND);
        world.cut(client);
        world.wait(59 * SECOND);
        let (again, ack) = world.join_told(persistent(version, "c"));
        assert!(
            ack.session_present,
            "it runs from the end of the connection"
        );
        world.cut(again);
        world.wait(60 * SECOND);
        assert!(!world.join_told(persistent(version, "c")).1.session_present);
    }
}

#[test]
fn clean_start_wipes_subscriptions_and_queues() {
    // [MQTT-3.1.2-4]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", AtLeastOnce);
        world.cut(first);
        world.send(publisher, publish("a", "x", Some(1), AtLeastOnce));
        let clean = world.client(version, "c");
        world.send(publisher, publish("a", "x", Some(2), AtLeastOnce));
        world.nothing(clean);
    }
}

#[test]
fn disconnect_may_change_the_session_s_life() {
    // 5.0 section 3.14.2.2.2
    for (asked, changed, lives) in [(100, 0, false), (100, 5, false), (5, 100, true)] {
        let mut world = World::new();
        let mut connect = persistent(V5, "c");
        connect
            .properties
            .as_mut()
            .expect("set")
            .session_expiry_interval = Some(asked);
        let client = world.join(connect);
        world.send(client, bye(ReasonCode::Success, Some(changed)));
        world.nothing(client);
        world.wait(50 * SECOND);
        let (_, ack) = world.join_told(persistent(V5, "c"));
        assert_eq!(ack.session_present, lives, "{asked} -> {changed}");
    }
    let (mut world, watcher) = watched();
    let client = world.join(with_will(connect(V5, "c"), "will"));
    world.send(client, bye(ReasonCode::Success, Some(1)));
    world.ended(client, ReasonCode::ProtocolError);
    assert_eq!(world.next_publish(watcher).payload, "gone");
    let client = world.client(V5, "d");
    world.send(client, bye(ReasonCode::Success, Some(0)));
    world.nothing(client);
    assert_eq!(world.clients[client].left, [Leave::Clean]);
}

#[test]
fn disconnect_cannot_exceed_the_longest_life_of_a_session() {
    let mut world = World::new();
    world.options.max_session_expiry_secs = 60;
    let client = world.join(persistent(V5, "c"));
    world.send(client, bye(ReasonCode::Success, Some(100_000)));
    world.wait(60 * SECOND);
    let (_, ack) = world.join_told(persistent(V5, "c"));
    assert!(!ack.session_present);
}

#[test]
fn a_client_receives_its_own_will_if_it_asked_for_it() {
    // MQTT knows no publisher exclusion but No Local.
    for version in BOTH {
        let mut world = World::new();
        let mut asked = with_will(persistent(version, "c"), "will");
        asked.will.as_mut().expect("just set").qos = AtLeastOnce;
        let client = world.join(asked);
        world.subscribe(client, "will", AtLeastOnce);
        world.cut(client);
        let again = world.join(persistent(version, "c"));
        assert_eq!(world.next_publish(again).payload, "gone");
    }
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    // [MQTT-3.1.2-22], [MQTT-3.1.2-24] of 3.1.1
    for version in BOTH {
        let (mut world, _) = watched();
        let client = world.join(silent(version, 1));
        world.wait(Duration::from_millis(1_499));
        world.send(client, Packet::PingReq);
        assert_eq!(world.next(client), Packet::PingResp);
        world.wait(Duration::from_millis(1_499));
        world.publish(client, "a", "any packet counts");
        world.wait(Duration::from_millis(1_499));
        assert!(world.clients[client].closed.is_none());
        // A part of a packet does not count, nor does what we send.
        world.raw(client, &[0xC0]);
        world.wait(Duration::from_millis(1));
        world.ended(client, ReasonCode::KeepAliveTimeout);
        assert_eq!(world.counter("keep_alive_timeouts"), 1);
    }
}

#[test]
fn keep_alive_0_is_off() {
    for version in BOTH {
        let (mut world, _) = watched();
        let client = world.join(silent(version, 0));
        assert_eq!(world.clients[client].machine.poll_timeout(), None);
        world.wait(1_000_000 * SECOND);
        assert!(world.clients[client].closed.is_none());
    }
}

#[test]
fn a_timeout_that_comes_early_does_nothing() {
    let (mut world, _) = watched();
    let client = world.join(silent(V5, 10));
    let now = world.now;
    world.clients[client]
        .machine
        .handle_timeout(now.plus(14 * SECOND));
    world.run();
    assert!(world.clients[client].closed.is_none());
}

#[test]
fn each_end_by_the_realm_has_its_code() {
    let cases = [
        (EndReason::TooSlow, 0x97, 1013),
        (
            EndReason::Killed {
                reason: "x".into(),
                message: None,
            },
            0x98,
            1008,
        ),
        (EndReason::Violation("x"), 0x82, 1002),
        (EndReason::StorageUnavailable, 0x80, 1011),
        (EndReason::Shutdown, 0x8B, 1001),
        (EndReason::RealmClosed, 0x8B, 1001),
        (EndReason::TakenOver, 0x8E, 1000),
    ];
    for (reason, code, websocket) in cases {
        for version in BOTH {
            let mut world = World::new();
            let client = world.client(version, "c");
            world.deliver_made(client, Delivery::Ended(reason.clone()));
            let code = ReasonCode::from_u8(code).expect("a code");
            world.ended(client, code);
            assert_eq!(
                world.clients[client].closed.map(|(code, _)| code),
                Some(websocket)
            );
            let leaves = usize::from(reason != EndReason::TakenOver);
            assert_eq!(world.clients[client].left, vec![Leave::Lost; leaves]);
        }
    }
}

#[test]
fn a_shutdown_keeps_sessions_and_publishes_wills() {
    for version in BOTH {
        let (mut world, watcher) = watched();
        let client = world.join(with_will(persistent(version, "c"), "will"));
        world.subscribe(client, "a", AtLeastOnce);
        world.input(client, Input::Drain);
        world.ended(client, ReasonCode::ServerShuttingDown);
        assert_eq!(world.next_publish(watcher).payload, "gone");
        assert!(world.join_told(persistent(version, "c")).1.session_present);
    }
}

#[test]
fn a_session_without_connection_is_not_one_of_the_realm_forever() {
    let mut world = World::new();
    for number in 0..100 {
        let client = world.client(V5, &format!("c{number}"));
        world.cut(client);
    }
    assert_eq!(world.realm.sizes()[0].1, 0);
}

#[test]
fn order_is_kept_from_queue_to_live() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V3_1_1, "p");
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", AtLeastOnce);
        let payloads: [&'static str; 6] = ["0", "1", "2", "3", "4", "5"];
        let say = |world: &mut World, at: usize| {
            let number = u16::try_from(at + 1).expect("small");
            world.send(
                publisher,
                publish("a", payloads[at], Some(number), AtLeastOnce),
            );
        };
        say(&mut world, 0);
        world.clients[first].got.clear();
        world.cut(first);
        say(&mut world, 1);
        say(&mut world, 2);
        let second = world.join(persistent(version, "c"));
        for at in 3..6 {
            say(&mut world, at);
        }
        for payload in payloads {
            let Publish {
                payload: came,
                packet_id,
                ..
            } = world.next_publish(second);
            assert_eq!(came, payload);
            world.send(second, puback(packet_id.expect("QoS 1").get()));
        }
        world.nothing(second);
    }
}
