//! What is compared: one `reynard bench` each.

use super::Kind;

/// What a peer must speak to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// MQTT 3.1.1.
    Mqtt,
    /// WAMP with JSON.
    WampJson,
    /// WAMP with MessagePack.
    WampMsgpack,
    /// MQTT on one side and WAMP with JSON on the other.
    Across,
}

/// Which figures tell of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A closed loop: rate and CPU.
    Rate,
    /// A fixed rate: latency and CPU.
    Latency,
    /// Opening connections: rate, time to be let in, memory for each.
    Connections,
    /// Retained values: rate of storing and of replaying.
    Replay,
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in the raw lines.
    pub id: &'static str,
    /// Its name for readers.
    pub title: &'static str,
    /// The words after `reynard bench`.
    pub words: &'static str,
    /// What a peer must speak.
    pub speech: Speech,
    /// Which figures tell.
    pub shape: Shape,
    /// The only peers asked, where others would not get through it.
    pub only: Option<&'static [Kind]>,
}

impl Scenario {
    /// The scenario of this name.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.id == id)
    }

    /// Whether this peer is asked.
    #[must_use]
    pub fn asks(&self, kind: Kind) -> bool {
        kind.speaks(self.speech) && self.only.is_none_or(|only| only.contains(&kind))
    }
}

const fn new(
    id: &'static str,
    title: &'static str,
    words: &'static str,
    speech: Speech,
    shape: Shape,
) -> Scenario {
    Scenario {
        id,
        title,
        words,
        speech,
        shape,
        only: None,
    }
}

const fn rate(
    id: &'static str,
    title: &'static str,
    words: &'static str,
    speech: Speech,
) -> Scenario {
    new(id, title, words, speech, Shape::Rate)
}

/// All of them, in the order in which they are run and told.
pub const SCENARIOS: &[Scenario] = &[
    rate(
        "mqtt-qos0-16",
        "MQTT QoS 0, 16 B",
        "pubsub --size 16",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-qos0-256",
        "MQTT QoS 0, 256 B",
        "pubsub --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-qos0-4096",
        "MQTT QoS 0, 4 KiB",
        "pubsub --size 4096",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-qos1-256",
        "MQTT QoS 1, 256 B",
        "pubsub --qos 1 --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-qos2-256",
        "MQTT QoS 2, 256 B",
        "pubsub --qos 2 --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-fanin",
        "MQTT fan-in of 10, QoS 0, 16 B",
        "fanin --size 16",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-fanout-100",
        "MQTT fan-out to 100, QoS 0, 256 B",
        "fanout --subscribers 100 --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-fanout-1000",
        "MQTT fan-out to 1,000, QoS 0, 256 B",
        "fanout --subscribers 1000 --window 16 --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-fanout-100-qos1",
        "MQTT fan-out to 100, QoS 1, 256 B",
        "fanout --subscribers 100 --qos 1 --size 256",
        Speech::Mqtt,
    ),
    rate(
        "mqtt-wildcard-10000",
        "MQTT 10,000 filters, three match, QoS 0, 256 B",
        "wildcard --topics 10000 --size 256",
        Speech::Mqtt,
    ),
    Scenario {
        only: Some(&[Kind::Reynard, Kind::Mosquitto]),
        ..rate(
            "mqtt-wildcard-100000",
            "MQTT 100,000 filters, three match, QoS 0, 256 B",
            "wildcard --topics 100000 --size 256",
            Speech::Mqtt,
        )
    },
    rate(
        "wamp-json",
        "WAMP JSON publish, 16 B",
        "pubsub --protocol wamp --size 16",
        Speech::WampJson,
    ),
    rate(
        "wamp-msgpack",
        "WAMP MessagePack publish, 16 B",
        "pubsub --protocol wamp --serializer msgpack --size 16",
        Speech::WampMsgpack,
    ),
    rate(
        "wamp-acknowledged",
        "WAMP JSON acknowledged publish, 16 B",
        "pubsub --protocol wamp --qos 1 --size 16",
        Speech::WampJson,
    ),
    rate(
        "wamp-fanout-100",
        "WAMP JSON fan-out to 100, 256 B",
        "fanout --protocol wamp --subscribers 100 --size 256",
        Speech::WampJson,
    ),
    rate(
        "wamp-call-json",
        "WAMP JSON call, 16 B",
        "call --size 16",
        Speech::WampJson,
    ),
    rate(
        "wamp-call-msgpack",
        "WAMP MessagePack call, 16 B",
        "call --serializer msgpack --size 16",
        Speech::WampMsgpack,
    ),
    rate(
        "wamp-call-alone",
        "WAMP JSON call, one at a time, 16 B",
        "call --publishers 1 --window 1 --size 16",
        Speech::WampJson,
    ),
    rate(
        "mqtt-to-wamp",
        "MQTT QoS 0 to WAMP JSON, 16 B",
        "pubsub --publish-with mqtt --subscribe-with wamp --size 16",
        Speech::Across,
    ),
    rate(
        "wamp-to-mqtt",
        "WAMP JSON to MQTT QoS 0, 16 B",
        "pubsub --publish-with wamp --subscribe-with mqtt --size 16",
        Speech::Across,
    ),
    new(
        "mqtt-latency-qos0",
        "MQTT QoS 0, 256 B, 1,000/s",
        "pubsub --rate 1000/s --size 256",
        Speech::Mqtt,
        Shape::Latency,
    ),
    new(
        "mqtt-latency-qos1",
        "MQTT QoS 1, 256 B, 1,000/s",
        "pubsub --rate 1000/s --qos 1 --size 256",
        Speech::Mqtt,
        Shape::Latency,
    ),
    new(
        "wamp-latency",
        "WAMP JSON publish, 256 B, 1,000/s",
        "pubsub --protocol wamp --rate 1000/s --size 256",
        Speech::WampJson,
        Shape::Latency,
    ),
    new(
        "wamp-call-latency",
        "WAMP JSON call, 256 B, 1,000/s",
        "call --rate 1000/s --size 256",
        Speech::WampJson,
        Shape::Latency,
    ),
    new(
        "mqtt-connections",
        "MQTT, 1,000 connections with a subscription each",
        "connections --subscribers 1000",
        Speech::Mqtt,
        Shape::Connections,
    ),
    new(
        "mqtt-retained",
        "MQTT, 10,000 retained values of 256 B, QoS 1",
        "retained --topics 10000 --size 256",
        Speech::Mqtt,
        Shape::Replay,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_scenario_has_a_name_of_its_own() {
        let ids: BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
        assert_eq!(ids.len(), SCENARIOS.len());
    }

    #[test]
    fn a_peer_is_asked_only_what_it_speaks() {
        let asked = |kind: Kind, id: &str| Scenario::named(id).is_some_and(|s| s.asks(kind));
        assert!(asked(Kind::Reynard, "wamp-msgpack"));
        assert!(!asked(Kind::Mosquitto, "wamp-json"));
        assert!(!asked(Kind::Crossbar, "mqtt-qos0-16"));
        assert!(!asked(Kind::FoxWamp, "wamp-msgpack"));
        assert!(asked(Kind::FoxWamp, "mqtt-to-wamp"));
        assert!(!asked(Kind::Crossbar, "mqtt-to-wamp"));
        assert!(asked(Kind::Rumqttd, "mqtt-wildcard-10000"));
        assert!(!asked(Kind::Rumqttd, "mqtt-wildcard-100000"));
    }
}
