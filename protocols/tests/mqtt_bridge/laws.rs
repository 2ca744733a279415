//! Connections that break at any moment lose nothing of QoS 1 and double nothing of QoS 2.

use crate::world::*;
use proptest::prelude::*;
use protocols::mqtt::bridge::Dialect;
use protocols::mqtt::bridge::Direction::{In, Out};
use protocols::mqtt::packet::QoS;
use std::collections::BTreeMap;

/// Counts how often each message arrived.
#[derive(Default)]
struct Arrived(BTreeMap<String, usize>);

impl Arrived {
    fn note(&mut self, messages: Vec<(String, String)>) {
        for (_, payload) in messages {
            *self.0.entry(payload).or_default() += 1;
        }
    }
}

/// Messages of one kind in both directions over connections that live for so many turns.
fn cross(qos: QoS, lives: &[usize], dialect: Dialect, copies: bool) -> [Arrived; 2] {
    let mut rules = vec![rule(Out, "up/#", qos), rule(In, "down/#", qos)];
    if copies {
        rules.push(prefixed(Out, "up/+", qos, "", "second/"));
        rules.push(prefixed(In, "down/+", qos, "second/", ""));
    }
    let mut world = World::new(&rules);
    world.prepare();
    let (here, there) = (world.client(HERE, "here"), world.client(THERE, "there"));
    for (client, topic) in [(here, "down/#"), (there, "up/#")] {
        world.subscribe(client, topic);
        if copies {
            world.subscribe(client, &format!("second/{topic}"));
        }
    }
    // The session at the peer exists, so that it queues from the start.
    let bridge = world.connect(dialect);
    world.cut(bridge);
    let [mut up, mut down] = [Arrived::default(), Arrived::default()];
    let mut number = 0;
    for life in lives {
        for _ in 0..3 {
            world.publish(here, "up/x", &number.to_string(), qos, false);
            world.publish(there, "down/x", &number.to_string(), qos, false);
            number += 1;
        }
        let bridge = world.open(dialect);
        for _ in 0..*life {
            world.step();
        }
        world.cut(bridge);
    }
    let _last = world.connect(dialect);
    up.note(world.received(there));
    down.note(world.received(here));
    for arrived in [&up, &down] {
        assert_eq!(arrived.0.len(), number, "every message arrives");
    }
    [up, down]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn qos_2_is_exactly_once(
        lives in proptest::collection::vec(0usize..14, 1..6),
        is_v5: bool,
        copies: bool,
    ) {
        let dialect = if is_v5 { Dialect::V5 } else { Dialect::V3_1_1 };
        for arrived in cross(QoS::ExactlyOnce, &lives, dialect, copies) {
            let wanted = if copies { 2 } else { 1 };
            prop_assert!(arrived.0.values().all(|times| *times == wanted), "{:?}", arrived.0);
        }
    }

    #[test]
    fn qos_1_is_at_least_once(lives in proptest::collection::vec(0usize..14, 1..6), copies: bool) {
        for arrived in cross(QoS::AtLeastOnce, &lives, Dialect::V5, copies) {
            let wanted = if copies { 2 } else { 1 };
            prop_assert!(arrived.0.values().all(|times| *times >= wanted), "{:?}", arrived.0);
        }
    }
}
