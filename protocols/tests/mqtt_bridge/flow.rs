//! Messages between two realms, our own server machine at the other end.

use crate::world::*;
use protocols::mqtt::bridge::Direction::{Both, In, Out};
use protocols::mqtt::bridge::{Dialect, End, Note, via};
use protocols::mqtt::packet::{Ack, Packet, Properties, Publish};
use std::time::Duration;

/// Dialects that our own server speaks.
const DIALECTS: [Dialect; 2] = [Dialect::V5, Dialect::V3_1_1];

fn told(topic: &str, payload: &str) -> (String, String) {
    (topic.to_owned(), payload.to_owned())
}

#[test]
fn messages_cross_both_ways_with_their_prefixes_and_every_qos() {
    for dialect in DIALECTS {
        let mut world = World::new(&[
            prefixed(Out, "up/#", ExactlyOnce, "site/", "plant/"),
            prefixed(In, "down/#", ExactlyOnce, "site/", "plant/"),
        ]);
        let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
        world.subscribe(here, "site/down/#");
        world.subscribe(there, "plant/up/#");
        world.connect(dialect);
        for (number, qos) in [AtMostOnce, AtLeastOnce, ExactlyOnce]
            .into_iter()
            .enumerate()
        {
            let text = number.to_string();
            world.publish(here, "site/up/x", &text, qos, false);
            world.publish(there, "plant/down/x", &text, qos, false);
            let (up, down) = (world.taken(there), world.taken(here));
            assert_eq!((up.len(), down.len()), (1, 1), "{dialect:?} {qos:?}");
            assert_eq!((&*up[0].topic, up[0].qos), ("plant/up/x", qos));
            assert_eq!((&*down[0].topic, down[0].qos), ("site/down/x", qos));
        }
        world.publish(here, "site/else", "no", AtLeastOnce, false);
        world.publish(there, "plant/up/x", "no", AtLeastOnce, false);
        assert_eq!(world.received(here), []);
        assert_eq!(
            world.received(there),
            [told("plant/up/x", "no")],
            "only the local one"
        );
        assert_eq!(
            (world.count("messages_in"), world.count("messages_out")),
            (3, 3)
        );
    }
}

#[test]
fn a_rule_for_both_ways_sends_nothing_back() {
    let mut world = World::new(&[rule(Both, "a/#", ExactlyOnce)]);
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(here, "a/#");
    world.subscribe(there, "a/#");
    world.connect(Dialect::V5);
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        world.publish(here, "a/1", "x", qos, false);
        assert_eq!(world.received(here), [told("a/1", "x")]);
        assert_eq!(world.received(there), [told("a/1", "x")]);
        world.publish(there, "a/2", "y", qos, false);
        assert_eq!(world.received(here), [told("a/2", "y")]);
        assert_eq!(world.received(there), [told("a/2", "y")]);
    }
}

#[test]
fn what_is_published_before_the_peer_was_ever_reached_waits_in_order() {
    let mut world = World::new(&[rule(Out, "a/#", ExactlyOnce)]);
    world.prepare();
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(there, "#");
    let qos = [AtLeastOnce, ExactlyOnce, AtLeastOnce];
    for (number, qos) in (0..30).zip(qos.into_iter().cycle()) {
        world.publish(here, "a/x", &number.to_string(), qos, false);
    }
    world.publish(here, "a/x", "at most once", AtMostOnce, false);
    world.connect(Dialect::V5);
    let got: Vec<String> = world
        .received(there)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let wanted: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(got, wanted);
}

#[test]
fn retained_values_cross_at_each_connection_and_deletions_too() {
    let mut world = World::new(&[
        rule(Out, "up/#", AtLeastOnce),
        rule(In, "down/#", AtLeastOnce),
    ]);
    world.prepare();
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.publish(here, "up/1", "old", AtMostOnce, true);
    world.publish(there, "down/1", "old", AtMostOnce, true);
    let bridge = world.connect(Dialect::V5);
    let late = |world: &mut World, side, filter| {
        let client = world.client(side, &format!("late {}", world.seats.len()));
        world.subscribe(client, filter);
        let got = world.taken(client);
        world.cut(client);
        got
    };
    let (up, down) = (
        late(&mut world, THERE, "up/#"),
        late(&mut world, HERE, "down/#"),
    );
    assert_eq!((up.len(), down.len()), (1, 1));
    assert!(up[0].retain && down[0].retain);
    world.cut(bridge);
    // With QoS 0 nothing is queued; the next connection brings both sides to the same state.
    world.publish(here, "up/1", "new", AtMostOnce, true);
    world.publish(there, "down/1", "new", AtMostOnce, true);
    world.connect(Dialect::V5);
    assert_eq!(late(&mut world, THERE, "up/#")[0].payload, "new");
    assert_eq!(late(&mut world, HERE, "down/#")[0].payload, "new");
    world.publish(here, "up/1", "", AtLeastOnce, true);
    world.publish(there, "down/1", "", AtLeastOnce, true);
    assert_eq!(late(&mut world, THERE, "up/#"), []);
    assert_eq!(late(&mut world, HERE, "down/#"), []);
}

#[test]
fn without_sync_retained_values_do_not_come_again() {
    let mut world = World::new(&[
        rule(Out, "up/#", AtLeastOnce),
        rule(In, "down/#", AtLeastOnce),
    ]);
    world.options.sync_retained = false;
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(here, "down/#");
    world.subscribe(there, "up/#");
    world.publish(here, "up/1", "x", AtMostOnce, true);
    world.publish(there, "down/1", "x", AtMostOnce, true);
    let bridge = world.connect(Dialect::V5);
    assert_eq!(
        world.received(here).len(),
        1,
        "a new subscription brings them once"
    );
    assert_eq!(world.received(there).len(), 1);
    world.cut(bridge);
    world.connect(Dialect::V5);
    assert_eq!(
        (world.received(here), world.received(there)),
        (vec![], vec![])
    );
}

#[test]
fn properties_pass_and_the_way_is_noted() {
    let mut world = World::new(&[rule(Both, "a/#", AtLeastOnce)]);
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(here, "a/in");
    world.subscribe(there, "a/out");
    world.connect(Dialect::V5);
    let properties = Properties {
        payload_format_indicator: Some(true),
        content_type: Some("text/plain".into()),
        response_topic: Some("a/answer".into()),
        correlation_data: Some("7".into()),
        message_expiry_interval: Some(60),
        user_properties: vec![("k".into(), "1".into()), ("k".into(), "2".into())],
        ..Properties::default()
    };
    for (from, to, topic) in [(here, there, "a/out"), (there, here, "a/in")] {
        let packet = Publish {
            properties: properties.clone().into_optional(),
            ..message(topic, "x", Some(id(1)), AtLeastOnce)
        };
        world.play(from, &Packet::Publish(packet));
        world.next(from);
        let got = world.taken(to).pop().expect("it crosses");
        let mut wanted = properties.clone();
        let way = (via::VIA.into(), "A".into());
        wanted.user_properties.push(way);
        assert_eq!(got.properties.as_deref(), Some(&wanted), "{topic}");
    }
}

#[test]
fn what_has_been_here_or_came_round_does_not_cross() {
    let mut world = World::new(&[rule(Both, "a/#", AtLeastOnce)]);
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(here, "a/in");
    world.subscribe(there, "a/out");
    world.connect(Dialect::V5);
    let passed = |ids: &[&'static str]| Properties {
        user_properties: ids
            .iter()
            .map(|id| (via::VIA.into(), (*id).into()))
            .collect(),
        ..Properties::default()
    };
    for (from, topic, ids) in [
        (there, "a/in", vec!["A", "X"]),
        (here, "a/out", vec!["A", "X"]),
    ] {
        let packet = Publish {
            properties: passed(&ids).into_optional(),
            ..message(topic, "x", Some(id(1)), AtLeastOnce)
        };
        world.play(from, &Packet::Publish(packet));
        assert!(matches!(world.next(from), Packet::PubAck(_)));
    }
    assert_eq!(
        (world.received(here), world.received(there)),
        (vec![], vec![])
    );
    assert_eq!(world.count("looped"), 2);
}

#[test]
fn one_message_goes_out_under_each_distinct_name() {
    let mut world = World::new(&[
        rule(Out, "a/#", ExactlyOnce),
        prefixed(Out, "a/+", AtLeastOnce, "", "alarm/"),
        rule(Out, "a/1", AtMostOnce),
    ]);
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    world.subscribe(there, "#");
    world.connect(Dialect::V5);
    for _ in 0..30 {
        world.publish(here, "a/1", "x", ExactlyOnce, false);
        let mut got: Vec<_> = world.taken(there);
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        let got: Vec<_> = got.iter().map(|got| (&*got.topic, got.qos)).collect();
        assert_eq!(got, [("a/1", ExactlyOnce), ("alarm/a/1", AtLeastOnce)]);
    }
}

#[test]
fn one_message_comes_in_under_each_distinct_name_once() {
    for dialect in DIALECTS {
        let mut world = World::new(&[
            prefixed(In, "a/#", ExactlyOnce, "x/", ""),
            prefixed(In, "a/+", ExactlyOnce, "y/", ""),
        ]);
        let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
        world.subscribe(here, "#");
        world.connect(dialect);
        for _ in 0..30 {
            world.publish(there, "a/1", "x", ExactlyOnce, false);
            let mut got = world.received(here);
            got.sort();
            assert_eq!(got, [told("x/a/1", "x"), told("y/a/1", "x")], "{dialect:?}");
        }
    }
}

#[test]
fn the_peer_is_acknowledged_only_after_the_commit_here() {
    let mut world = World::new(&[rule(In, "a/#", ExactlyOnce)]);
    let sleeper = world.client(HERE, "sleeper");
    world.subscribe(sleeper, "a/#");
    world.cut(sleeper);
    let bridge = world.let_in(false, Properties::default());
    world.sides[HERE].hold_commits = true;
    world.play(
        bridge,
        &Packet::Publish(message("a/1", "x", Some(id(1)), AtLeastOnce)),
    );
    world.play(
        bridge,
        &Packet::Publish(message("a/2", "x", Some(id(2)), ExactlyOnce)),
    );
    world.nothing(bridge);
    world.commit(HERE);
    assert_eq!(world.next(bridge), Packet::PubAck(Ack::success(id(1))));
    assert_eq!(world.next(bridge), Packet::PubRec(Ack::success(id(2))));
}

#[test]
fn what_cannot_be_stored_is_left_with_the_peer() {
    let mut world = World::new(&[rule(In, "a/#", ExactlyOnce)]);
    let sleeper = world.client(HERE, "sleeper");
    world.subscribe(sleeper, "a/#");
    world.cut(sleeper);
    let bridge = world.let_in(false, Properties::default());
    world.sides[HERE].hold_commits = true;
    let publish = |number| Packet::Publish(message("a/1", "x", Some(id(number)), ExactlyOnce));
    world.play(bridge, &publish(1));
    world.commit_fails(HERE);
    world.play(bridge, &publish(2));
    assert_eq!(world.end(), Some(End::NotTaken));
    let left = world.next(bridge);
    assert!(
        matches!(left, Packet::Disconnect(_)),
        "no acknowledgement: {left:?}"
    );
}

#[test]
fn a_peer_that_forgot_the_session_is_not_taken_for_repeating_itself() {
    let mut world = World::new(&[rule(In, "a/#", ExactlyOnce)]);
    let here = world.client(HERE, "here");
    world.subscribe(here, "a/#");
    let first = world.let_in(false, Properties::default());
    world.play(
        first,
        &Packet::Publish(message("a/1", "x", Some(id(7)), ExactlyOnce)),
    );
    world.cut(first);
    let again = Publish {
        dup: true,
        ..message("a/1", "x", Some(id(7)), ExactlyOnce)
    };
    let second = world.let_in(true, Properties::default());
    world.play(second, &Packet::Publish(again));
    assert_eq!(world.received(here).len(), 1, "a repetition");
    world.cut(second);
    let third = world.let_in(false, Properties::default());
    world.play(
        third,
        &Packet::Publish(message("a/1", "y", Some(id(7)), ExactlyOnce)),
    );
    assert_eq!(world.received(here), [told("a/1", "y")], "a new message");
}

#[test]
fn what_no_rule_leads_out_any_more_is_let_go() {
    let mut world = World::new(&[rule(Out, "a/#", AtLeastOnce)]);
    world.prepare();
    let here = world.client(HERE, "here");
    world.publish(here, "a/1", "x", AtLeastOnce, false);
    let other = World::new(&[rule(Out, "b/#", AtLeastOnce)]);
    world.options.rules = other.options.rules;
    let bridge = world.let_in(false, Properties::default());
    world.nothing(bridge);
    assert_eq!(world.count("unmapped"), 1);
    world.cut(bridge);
    world.let_in(true, Properties::default());
    assert_eq!(world.count("unmapped"), 1, "settled");
}

#[test]
fn gaps_are_counted() {
    let mut world = World::new(&[rule(Out, "a/#", AtLeastOnce)]);
    world.prepare();
    let here = world.client(HERE, "here");
    for number in 0..1_010 {
        world.publish(here, "a/1", &number.to_string(), AtLeastOnce, false);
    }
    let bridge = world.let_in(false, Properties::default());
    assert_eq!(
        world.next_publish(bridge).payload,
        "10",
        "the oldest were dropped"
    );
    assert_eq!(world.count("lost"), 10);
}

#[test]
fn what_expires_while_the_peer_is_away_is_not_sent() {
    let mut world = World::new(&[rule(Out, "a/#", AtLeastOnce)]);
    world.prepare();
    let here = world.client(HERE, "here");
    let short = Properties {
        message_expiry_interval: Some(10),
        ..Properties::default()
    };
    let packet = Publish {
        properties: short.into_optional(),
        ..message("a/1", "short", Some(id(1)), AtLeastOnce)
    };
    world.play(here, &Packet::Publish(packet));
    world.next(here);
    world.publish(here, "a/1", "long", AtLeastOnce, false);
    world.wait(Duration::from_secs(11));
    let bridge = world.let_in(false, Properties::default());
    assert_eq!(world.next_publish(bridge).payload, "long");
    world.nothing(bridge);
}

#[test]
fn a_drain_says_goodbye_and_keeps_the_session() {
    let mut world = World::new(&[rule(Out, "a/#", AtLeastOnce)]);
    world.options.state_topic = Some("state".into());
    let (bridge, connect) = world.scripted(Dialect::V5);
    let will = connect.will.expect("a will");
    assert_eq!(
        (&*will.topic, &*will.payload, will.retain),
        ("state", &b"0"[..], true)
    );
    world.play(
        bridge,
        &conn_ack(
            false,
            protocols::mqtt::reason::ReasonCode::Success,
            Properties::default(),
        ),
    );
    let on = world.next_publish(bridge);
    assert_eq!(
        (&*on.topic, &*on.payload, on.retain),
        ("state", &b"1"[..], true)
    );
    world.drain(bridge);
    let off = world.next_publish(bridge);
    assert_eq!((&*off.payload, off.retain), (&b"0"[..], true));
    assert!(matches!(world.next(bridge), Packet::Disconnect(_)));
    assert_eq!(world.end(), Some(End::Drained));
    let here = world.client(HERE, "here");
    world.publish(here, "a/1", "x", AtLeastOnce, false);
    let bridge = world.let_in(true, Properties::default());
    assert_eq!(world.next_publish(bridge).payload, "1", "the state");
    assert_eq!(world.next_publish(bridge).payload, "x");
}

#[test]
fn the_peer_s_router_is_told_in_notes() {
    let mut world = World::new(&[rule(Out, "a", AtLeastOnce)]);
    let told = Properties {
        user_properties: vec![(via::ROUTER_ID.into(), "B".into())],
        ..Properties::default()
    };
    let bridge = world.let_in(false, told);
    let connected = Note::Connected {
        session_present: false,
        peer: Some("B".into()),
    };
    assert!(world.notes().contains(&connected));
    let here = world.client(HERE, "here");
    let passed = Properties {
        user_properties: vec![(via::VIA.into(), "B".into())],
        ..Properties::default()
    };
    let packet = Publish {
        properties: passed.into_optional(),
        ..message("a", "x", None, AtMostOnce)
    };
    world.play(here, &Packet::Publish(packet));
    world.nothing(bridge);
    assert_eq!(world.count("looped"), 1, "it has been there");
}
