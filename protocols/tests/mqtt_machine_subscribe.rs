//! SUBSCRIBE, UNSUBSCRIBE and what is matched (5.0 sections 3.8 to 3.11, 4.7 and 4.8).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use common::*;
use protocols::mqtt::packet::{
    Packet, Properties, RetainHandling, SubscriptionOptions, Unsubscribe,
};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{Action, Role, Rule};
use router_core::limits::RealmLimits;
use router_core::model::Pattern;
use router_core::session::Leave;
use std::num::NonZero;
use std::sync::Arc;

#[track_caller]
fn suback(world: &mut World, client: usize) -> (u16, Vec<ReasonCode>) {
    match world.next(client) {
        Packet::SubAck(ack) => (ack.packet_id.get(), ack.reasons),
        other => panic!("no SUBACK: {other:?}"),
    }
}

#[track_caller]
fn unsubscribe(world: &mut World, client: usize, filters: &[&str]) -> Vec<ReasonCode> {
    world.send(
        client,
        Packet::Unsubscribe(Unsubscribe {
            packet_id: id(77),
            properties: None,
            filters: filters.iter().map(|filter| (*filter).into()).collect(),
        }),
    );
    match world.next(client) {
        Packet::UnsubAck(ack) => {
            assert_eq!(ack.packet_id.get(), 77);
            ack.reasons
        }
        other => panic!("no UNSUBACK: {other:?}"),
    }
}

#[test]
fn one_suback_has_a_code_for_each_filter_in_order() {
    // [MQTT-3.8.4-5] [MQTT-3.8.4-6]
    for version in BOTH {
        let mut world = World::new();
        let client = world.client(version, "c");
        world.send(
            client,
            subscribe(
                5,
                &[
                    ("a", options(AtMostOnce)),
                    ("$share/g+/b", options(AtMostOnce)),
                    ("b", options(AtLeastOnce)),
                    ("$share/g/b", options(AtMostOnce)),
                    ("c/+", options(ExactlyOnce)),
                ],
                None,
            ),
        );
        let (number, codes) = suback(&mut world, client);
        let bytes: Vec<_> = codes.iter().map(|code| code.value()).collect();
        let wanted = if version.is_v5() {
            [0, 0x8F, 1, 0, 2]
        } else {
            [0, 0x80, 1, 0, 2]
        };
        assert_eq!((number, bytes), (5, wanted.to_vec()));
    }
}

#[test]
fn the_answer_waits_for_the_last_filter_and_keeps_its_turn() {
    let mut world = World::durable();
    let client = world.join(persistent(V5, "c"));
    world.hold_commits = true;
    let one = |number, filter| subscribe(number, &[(filter, options(AtMostOnce))], None);
    world.send(client, one(1, "a"));
    world.send(client, one(2, "$share/g/a"));
    world.nothing(client);
    world.commit();
    assert_eq!(suback(&mut world, client).0, 1);
    assert_eq!(suback(&mut world, client).0, 2);
}

#[test]
fn filters_that_are_not_valid_are_refused() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2], and what the router does not allow (5.0 section 3.9.3)
    let deep = vec!["a"; 201].join("/");
    let wild = vec!["+"; 17].join("/");
    let broken = "/".repeat(65_400);
    let bad = [
        "$share//a",
        "$share/g",
        "$share/g+/a",
        "$share/g/",
        &deep,
        &wild,
        &broken,
    ];
    for version in BOTH {
        for filter in bad {
            let mut world = World::new();
            let client = world.client(version, "c");
            let code = world.subscribe_with(client, filter, options(AtMostOnce));
            let wanted = if version.is_v5() { 0x8F } else { 0x80 };
            let shown: String = filter.chars().take(20).collect();
            assert_eq!(code.value(), wanted, "{shown:?}");
            assert_eq!(world.realm.sizes()[1].1, 0, "nothing is subscribed");
        }
    }
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.subscribe(client, &vec!["+"; 16].join("/"), AtMostOnce);
    world.subscribe(client, &vec!["a"; 200].join("/"), AtMostOnce);
    world.subscribe(client, "$share", AtMostOnce);
}

/// What is no Topic Filter, one for each way to be none.
const NO_FILTERS: [&str; 9] = [
    "",
    "#/a",
    "a#",
    "#b",
    "a/b+",
    "+a",
    "a/#/",
    "##",
    "$share/g/a#",
];

#[test]
fn a_subscribe_with_what_is_no_filter_has_no_effect_and_ends_the_connection() {
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.13.1-1], [MQTT-4.8.0-1] of 3.1.1
    for version in [V3_1, V3_1_1, V5] {
        for filter in NO_FILTERS {
            let mut world = World::new();
            let client = world.client(version, "c");
            let filters = ["good", filter, "$share/g", "good/#"];
            let filters = filters.map(|filter| (filter, options(AtLeastOnce)));
            world.send(client, subscribe(5, &filters, None));
            world.ended(client, ReasonCode::MalformedPacket);
            let commands = &world.clients[client].commands;
            assert!(commands.is_empty(), "{filter:?}: {commands:?}");
            assert_eq!(world.clients[client].left, [Leave::Lost]);
            assert_eq!(world.counter("malformed"), 1);
        }
    }
}

#[test]
fn an_unsubscribe_with_what_is_no_filter_has_no_effect_and_ends_the_connection() {
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.13.1-1], [MQTT-4.8.0-1] of 3.1.1
    for version in [V3_1, V3_1_1, V5] {
        for filter in NO_FILTERS {
            let mut world = World::new();
            let publisher = world.client(V5, "p");
            let client = world.join(persistent(version, "c"));
            world.subscribe(client, "good", AtMostOnce);
            let filters = ["good", filter].map(Into::into).to_vec();
            world.send(
                client,
                Packet::Unsubscribe(Unsubscribe {
                    packet_id: id(5),
                    properties: None,
                    filters,
                }),
            );
            world.ended(client, ReasonCode::MalformedPacket);
            let again = world.join(persistent(version, "c"));
            world.publish(publisher, "good", "still");
            assert_eq!(world.next_publish(again).payload, "still", "{filter:?}");
        }
    }
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // [MQTT-3.8.3-4]
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.raw(
        client,
        &[
            0x82, 16, 0, 1, 0, 0, 10, b'$', b's', b'h', b'a', b'r', b'e', b'/', b'g', b'/', b'a', 4,
        ],
    );
    world.ended(client, ReasonCode::ProtocolError);
}

#[test]
fn one_member_of_a_group_gets_a_message() {
    // 5.0 section 4.8.2; 3.x clients take part in the same groups
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let members = [V5, V3_1_1, V3_1].map(|version| {
        let client = world.client(version, &format!("{version:?}").replace('_', ""));
        world.subscribe(client, "$share/g/a/+", AtMostOnce);
        client
    });
    let (other, plain) = (world.client(V5, "o"), world.client(V5, "q"));
    world.subscribe(other, "$share/h/a/+", AtMostOnce);
    world.subscribe(plain, "a/+", AtMostOnce);
    for _ in 0..6 {
        world.publish(publisher, "a/b", "x");
    }
    for client in members {
        assert_eq!(world.clients[client].got.len(), 2);
    }
    assert_eq!(world.clients[other].got.len(), 6);
    assert_eq!(world.clients[plain].got.len(), 6);
}

#[test]
fn a_shared_subscription_has_its_own_copy_qos_and_identifier() {
    // 5.0 section 4.8.2, [MQTT-4.8.2-3]
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let client = world.client(V5, "c");
    for (number, filter, qos) in [
        (1, "a", ExactlyOnce),
        (2, "$share/g/a", AtMostOnce),
        (3, "$share/h/a", AtLeastOnce),
        (4, "#", AtMostOnce),
    ] {
        let filters = [(filter, options(qos))];
        world.send(client, subscribe(5, &filters, Some(number)));
        suback(&mut world, client);
    }
    world.send(publisher, publish("a", "x", Some(1), ExactlyOnce));
    let mut copies: Vec<_> = (0..3)
        .map(|_| {
            let publish = world.next_publish(client);
            let set = publish.properties.expect("identifiers");
            let mut identifiers = set.subscription_identifiers.to_vec();
            identifiers.sort_unstable();
            (identifiers, publish.qos)
        })
        .collect();
    copies.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        copies,
        [
            (vec![1, 4], ExactlyOnce),
            (vec![2], AtMostOnce),
            (vec![3], AtLeastOnce)
        ]
    );
    world.nothing(client);
}

#[test]
fn nothing_is_replayed_to_a_shared_subscription_but_live_flags_stay() {
    // 5.0 sections 3.3.1.3 and 4.8.2; [MQTT-3.3.1-13]
    for handling in [
        RetainHandling::SendAtSubscribe,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ] {
        let mut world = World::new();
        let client = world.client(V5, "c");
        world.send(client, retained("a", "kept"));
        let wanted = SubscriptionOptions {
            retain_handling: handling,
            retain_as_published: true,
            ..options(AtMostOnce)
        };
        for _ in 0..2 {
            world.subscribe_with(client, "$share/g/a", wanted);
            world.nothing(client);
        }
        world.send(client, retained("a", "live"));
        assert!(world.next_publish(client).retain);
    }
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_another_when_its_session_ends() {
    // 5.0 section 4.8.2
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let first = world.client(version, "a");
        world.subscribe(first, "$share/g/t", AtLeastOnce);
        world.send(publisher, publish("t", "x", Some(1), AtLeastOnce));
        assert_eq!(world.next_publish(first).payload, "x");
        let second = world.client(version, "b");
        world.subscribe(second, "$share/g/t", AtLeastOnce);
        world.cut(first);
        let publish = world.next_publish(second);
        assert_eq!((&publish.payload[..], publish.dup), (&b"x"[..], false));
        // Nobody is left: it ends with the last of them.
        world.cut(second);
        let third = world.client(version, "c");
        world.subscribe(third, "$share/g/t", AtLeastOnce);
        world.nothing(third);
    }
}

#[test]
fn a_refused_message_goes_to_nobody_else() {
    // [MQTT-4.8.2-6]
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let members = ["a", "b"].map(|name| {
        let client = world.client(V5, name);
        world.subscribe(client, "$share/g/t", ExactlyOnce);
        client
    });
    world.send(publisher, publish("t", "x", Some(1), ExactlyOnce));
    let number = world.next_publish(members[0]).packet_id.expect("QoS 2");
    let mut refusal = pubrec(number.get());
    if let Packet::PubRec(ack) = &mut refusal {
        ack.reason = ReasonCode::UnspecifiedError;
    }
    world.send(members[0], refusal);
    world.cut(members[0]);
    world.nothing(members[1]);
}

#[test]
fn a_full_window_is_passed_over_in_a_group() {
    // 5.0 section 4.9
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let mut narrow = connect(V5, "a");
    narrow.properties = Properties {
        receive_maximum: NonZero::new(1),
        ..Properties::default()
    }
    .into_optional();
    let narrow = world.join(narrow);
    let wide = world.client(V5, "b");
    for client in [narrow, wide] {
        world.subscribe(client, "$share/g/t", AtLeastOnce);
    }
    for number in 1..=6 {
        world.send(publisher, publish("t", "x", Some(number), AtLeastOnce));
    }
    assert_eq!(world.clients[narrow].got.len(), 1);
    assert_eq!(world.clients[wide].got.len(), 5);
}

#[test]
fn wildcards_match_as_the_standard_says() {
    // 5.0 section 4.7.1 and 4.7.2
    let cases = [
        ("#", "a/b", true),
        ("#", "/a", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("+", "a", true),
        ("+", "/a", false),
        ("/+", "/a", true),
        ("+/+", "/a", true),
        ("a/+", "a/", true),
        ("a/+", "a", false),
        ("a/+/c", "a//c", true),
        ("A", "a", false),
        ("a//b", "a/b", false),
        ("#", "$x/a", false),
        ("+/a", "$x/a", false),
        ("$x/#", "$x/a", true),
        ("$x/+", "$x/a", true),
        ("spBv1.0/+", "spBv1.0/G", true),
    ];
    for (filter, topic, matches) in cases {
        for version in BOTH {
            let mut world = World::new();
            let publisher = world.client(version, "p");
            let client = world.client(version, "c");
            world.subscribe(client, filter, AtMostOnce);
            world.publish(publisher, topic, "x");
            let came = world.clients[client].got.pop_front();
            assert_eq!(came.is_some(), matches, "{filter} {topic}");
            // The same in a shared subscription.
            unsubscribe(&mut world, client, &[filter]);
            world.subscribe(client, &format!("$share/g/{filter}"), AtMostOnce);
            world.publish(publisher, topic, "x");
            let came = world.clients[client].got.pop_front();
            assert_eq!(came.is_some(), matches, "$share/g/{filter} {topic}");
            // The same for a replayed value.
            world.send(publisher, retained(topic, "kept"));
            world.clients[client].got.clear();
            world.subscribe(client, filter, AtMostOnce);
            assert_eq!(world.clients[client].got.pop_front().is_some(), matches);
        }
    }
}

#[test]
fn the_router_s_own_topics_do_not_leak_into_wildcards() {
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.subscribe(client, "#", AtMostOnce);
    world.client(V5, "other");
    world.nothing(client);
}

#[test]
fn overlapping_subscriptions_make_one_copy() {
    // [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let client = world.client(version, "c");
        let identifier = |number: u32| version.is_v5().then_some(number);
        for (number, filter, qos) in [
            (1, "a/#", AtMostOnce),
            (2, "a/+", ExactlyOnce),
            (3, "a/b", AtLeastOnce),
        ] {
            world.send(
                client,
                subscribe(1, &[(filter, options(qos))], identifier(number)),
            );
            suback(&mut world, client);
        }
        world.send(publisher, publish("a/b", "x", Some(1), ExactlyOnce));
        let came = world.next_publish(client);
        assert_eq!(came.qos, ExactlyOnce);
        let mut ids = came
            .properties
            .map(|set| set.subscription_identifiers)
            .unwrap_or_default();
        ids.sort_unstable();
        assert_eq!(
            ids,
            if version.is_v5() {
                vec![1, 2, 3]
            } else {
                vec![]
            }
        );
        world.nothing(client);
    }
}

#[test]
fn subscription_identifiers_come_with_replayed_messages_too() {
    // [MQTT-3.3.4-5]; one identifier for all filters of the packet.
    let mut world = World::new();
    let client = world.client(V5, "c");
    world.send(client, retained("a", "x"));
    world.send(client, retained("b", "x"));
    let filters = [("a", options(AtMostOnce)), ("b", options(AtMostOnce))];
    world.send(client, subscribe(1, &filters, Some(268_435_455)));
    suback(&mut world, client);
    for _ in 0..2 {
        let set = world
            .next_publish(client)
            .properties
            .map(|set| *set)
            .unwrap_or_default();
        let wanted = Properties {
            subscription_identifiers: vec![268_435_455],
            ..Default::default()
        };
        assert_eq!(set, wanted);
    }
}

#[test]
fn retain_handling_decides_the_replay() {
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    for (handling, first, second) in [
        (RetainHandling::SendAtSubscribe, true, true),
        (RetainHandling::SendIfNew, true, false),
        (RetainHandling::DoNotSend, false, false),
    ] {
        let mut world = World::new();
        let client = world.client(V5, "c");
        world.send(client, retained("a", "x"));
        let wanted = SubscriptionOptions {
            retain_handling: handling,
            ..options(AtMostOnce)
        };
        for replays in [first, second] {
            world.subscribe_with(client, "a", wanted);
            let came = world.clients[client].got.pop_front();
            assert_eq!(came.is_some(), replays, "{handling:?}");
        }
        // After UNSUBSCRIBE it is new again.
        unsubscribe(&mut world, client, &["a"]);
        world.subscribe_with(client, "a", wanted);
        assert_eq!(world.clients[client].got.pop_front().is_some(), first);
    }
}

#[test]
fn resubscribing_replaces_and_resends_also_on_a_resumed_session() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-4]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        world.send(publisher, retained("a", "kept"));
        let first = world.join(persistent(version, "c"));
        world.subscribe(first, "a", ExactlyOnce);
        world.next_publish(first);
        world.cut(first);
        let second = world.join(persistent(version, "c"));
        world.subscribe(second, "a", AtMostOnce);
        assert!(world.next_publish(second).retain);
        world.send(publisher, publish("a", "x", Some(1), ExactlyOnce));
        assert_eq!(
            world.next_publish(second).qos,
            AtMostOnce,
            "the new QoS counts"
        );
        world.nothing(second);
    }
}

#[test]
fn no_local_looks_at_client_identifiers() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let client = world.client(V5, "c");
    let other = world.client(V5, "other");
    let wanted = SubscriptionOptions {
        no_local: true,
        ..options(AtMostOnce)
    };
    world.subscribe_with(client, "a", wanted);
    world.publish(client, "a", "mine");
    world.nothing(client);
    world.publish(other, "a", "theirs");
    assert_eq!(world.next_publish(client).payload, "theirs");
    // Without it MQTT has no publisher exclusion.
    world.subscribe(client, "a", AtMostOnce);
    world.publish(client, "a", "mine");
    assert_eq!(world.next_publish(client).payload, "mine");
}

#[test]
fn unsubscribe_compares_filters_and_always_answers() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.11.3-2]
    for version in BOTH {
        let mut world = World::new();
        let publisher = world.client(V5, "p");
        let client = world.client(version, "c");
        for filter in ["a/#", "a/+", "a/b", "$share/g/a/b", "$share/h/a/+"] {
            world.subscribe(client, filter, AtMostOnce);
        }
        let filters = [
            "a/+",
            "x",
            "a/#",
            "$share/g/a/#",
            "$share/h/a/b",
            "$share/g/a/b",
            "$share/h/a/+",
            "$share/h",
            "$share/h+/a",
            "a",
        ];
        let codes = unsubscribe(&mut world, client, &filters);
        if version.is_v5() {
            let bytes: Vec<_> = codes.iter().map(|code| code.value()).collect();
            assert_eq!(bytes, [0, 0x11, 0, 0x11, 0x11, 0, 0, 0x8F, 0x8F, 0x11]);
        } else {
            assert!(codes.is_empty());
        }
        world.publish(publisher, "a/b", "x");
        world.next_publish(client);
        assert_eq!(
            unsubscribe(&mut world, client, &["a/b"]).len(),
            usize::from(version.is_v5())
        );
        world.publish(publisher, "a/b", "x");
        world.nothing(client);
    }
}

#[test]
fn what_the_role_may_not_read_is_refused() {
    for (version, code) in [(V5, 0x87), (V3_1_1, 0x80)] {
        let mut world = World::new();
        let rule = |text| Rule {
            action: Action::Subscribe,
            pattern: Pattern::from_slashes(text).expect("legal"),
        };
        let role = Role::restricted("user", vec![rule("a/#")], vec![rule("a/secret")]);
        world.role = Arc::new(role);
        let client = world.client(version, "c");
        for (filter, wanted) in [("b", code), ("a/secret", code), ("a/#", 0), ("#", code)] {
            let got = world.subscribe_with(client, filter, options(AtMostOnce));
            assert_eq!(got.value(), wanted, "{filter}");
        }
    }
}

#[test]
fn a_quota_of_subscriptions_is_told() {
    let limits = RealmLimits {
        subscriptions_per_session: 2,
        ..RealmLimits::default()
    };
    let mut world = World::with(false, limits);
    let client = world.client(V5, "c");
    world.subscribe(client, "a", AtMostOnce);
    world.subscribe(client, "b", AtMostOnce);
    let code = world.subscribe_with(client, "c", options(AtMostOnce));
    assert_eq!(code, ReasonCode::QuotaExceeded);
}

#[test]
fn open_filters_are_bounded() {
    let mut world = World::durable();
    let client = world.join(persistent(V5, "c"));
    world.hold_commits = true;
    let filters = vec![("a", options(AtMostOnce)); 8_192];
    for number in 1..=8 {
        world.send(client, subscribe(number, &filters, None));
        assert!(world.clients[client].closed.is_none());
    }
    world.send(client, subscribe(9, &filters[..1], None));
    world.ended(client, ReasonCode::QuotaExceeded);
    // Answered ones do not count.
    let mut world = World::new();
    let client = world.client(V3_1_1, "c");
    for number in 1..=9 {
        world.send(client, subscribe(number, &filters, None));
        assert_eq!(suback(&mut world, client).1.len(), 8_192);
    }
}

#[test]
fn a_store_that_fails_refuses_the_subscription() {
    let mut world = World::durable();
    let client = world.join(persistent(V5, "c"));
    world.hold_commits = true;
    world.send(client, subscribe(1, &[("a", options(AtMostOnce))], None));
    world.commit_fails();
    assert_eq!(
        suback(&mut world, client),
        (1, vec![ReasonCode::UnspecifiedError])
    );
}
