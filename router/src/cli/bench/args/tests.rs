//! From what is typed to what is done.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn parsed(words: &str) -> Result<Settings, String> {
    let words = std::iter::once("bench").chain(words.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    let scenario = line.bench.scenario.ok_or("no scenario")?;
    let settings = line.bench.settings(scenario);
    settings.map_err(|failure| {
        assert_eq!(failure.code, 2);
        failure.message
    })
}

#[test]
fn a_scenario_alone_is_enough() {
    for scenario in Scenario::value_variants() {
        let settings = parsed(scenario.name()).expect("enough");
        assert_eq!(settings.scenario, *scenario);
        let protocol = match scenario.is_calls() {
            true => Protocol::Wamp,
            false => Protocol::Mqtt,
        };
        assert_eq!(settings.publish_with, protocol);
    }
}

#[test]
fn subscribers_come_in_pairs_with_publishers() {
    let numbers = |words: &str| {
        let settings = parsed(words).expect("fine");
        (settings.publishers, settings.subscribers, settings.topics)
    };
    assert_eq!(numbers("pubsub --publishers 3"), (3, 3, 3));
    assert_eq!(numbers("pubsub --publishers 3 --topics 2"), (3, 2, 2));
    assert_eq!(numbers("call --topics 20"), (10, 10, 20));
    assert_eq!(numbers("fanout --subscribers 7"), (1, 7, 1));
    assert_eq!(numbers("connections --subscribers 7"), (1, 7, 7));
}

#[test]
fn publishers_and_subscribers_may_speak_different_protocols() {
    let settings = parsed("pubsub --publish-with mqtt --subscribe-with wamp").expect("fine");
    assert!(settings.is_mixed());
    let settings = parsed("pubsub --protocol wamp --serializer msgpack").expect("fine");
    assert!(!settings.is_mixed());
    assert_eq!(settings.speech(settings.publish_with), "wamp msgpack");
}

#[test]
fn what_arrives_has_the_lower_qos() {
    let settings = parsed("pubsub --qos 2 --subscribe-qos 1").expect("fine");
    assert_eq!(settings.arriving_qos(), QoS::AtLeastOnce);
    let settings = parsed("pubsub --qos 1").expect("fine");
    assert_eq!(settings.arriving_qos(), QoS::AtLeastOnce);
    let retained = parsed("retained").expect("fine");
    assert_eq!(retained.qos, QoS::AtLeastOnce);
}

#[test]
fn a_rate_is_in_messages_a_second() {
    for text in ["--rate 1000", "--rate 1000/s"] {
        let settings = parsed(&format!("pubsub {text}")).expect("fine");
        assert_eq!(settings.rhythm, Rhythm::Rate(1000.0));
    }
    assert_eq!(
        parsed("pubsub").expect("fine").rhythm,
        Rhythm::Window(WINDOW)
    );
}

#[test]
fn a_number_of_messages_takes_the_place_of_the_time() {
    let settings = parsed("pubsub --messages 7").expect("fine");
    assert_eq!(settings.extent, Extent::Messages(7));
    let settings = parsed("pubsub --duration 2s --warm-up 0").expect("fine");
    let time = Extent::Time {
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(2),
    };
    assert_eq!(settings.extent, time);
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    for (words, part) in [
        ("", "SCENARIO"),
        ("pubsub --compare a b", "--compare"),
        ("pubsub --rate 10 --window 3", "--window"),
        ("pubsub --messages 1 --duration 2s", "--duration"),
        ("pubsub --size 15", "--size"),
        ("pubsub --rate 0", "0.001/s"),
        ("pubsub --rate fast", "messages a second"),
        ("pubsub --mqtt 1883", "HOST:PORT"),
        ("pubsub --mqtt ws://a/b", "HOST:PORT"),
        ("pubsub --mqtt-version 4", "--mqtt-version"),
        ("pubsub --qos 3", "--qos"),
        ("pubsub --duration 0", "--duration"),
        ("pubsub --subscribers 11", "fanout"),
        ("call --protocol mqtt", "--protocol wamp"),
        ("retained --qos 0", "--qos 1"),
        ("retained --publishers 2", "one publisher"),
        ("retained --messages 5", "--topics"),
        ("connections --duration 5s", "--subscribers"),
        ("connections --topics 5", "--subscribers"),
        ("frobnicate", "frobnicate"),
    ] {
        let said = parsed(words).expect_err(words);
        assert!(said.contains(part), "{words}: {said}");
    }
}

#[test]
fn an_mqtt_server_is_named_in_three_ways() {
    for (typed, shown) in [
        ("localhost:1884", "localhost:1884"),
        ("mqtt://127.0.0.1:1883", "127.0.0.1:1883"),
        ("[::1]:1883", "[::1]:1883"),
        ("unix:/run/r.sock", "unix:/run/r.sock"),
    ] {
        let settings = parsed(&format!("pubsub --mqtt {typed}")).expect("fine");
        assert_eq!(settings.mqtt.to_string(), shown);
    }
}
