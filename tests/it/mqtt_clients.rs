//! mqtt.js, paho and the mosquitto tools do with the router what they do with any
//! broker, in 3.1.1 and 5.0, over TCP and over WebSocket.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::command::{Running, run};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::{Options, PATIENCE, Server};
use serde_json::{Value, json};

use crate::Outcome;

/// How many messages each client and QoS gets through without loss or doubling.
const MANY: u64 = 10_000;
/// As long as a flood of them may take on a busy machine.
const LONG: Duration = Duration::from_secs(240);

fn connect(url: &str, (library, version): (Library, u8), id: &str, more: Value) -> Result<Agent> {
    let mut options = json!({"version": version, "clientId": id});
    if let (Some(options), Value::Object(more)) = (options.as_object_mut(), more) {
        options.extend(more);
    }
    Agent::connect(library, url, options)
}

/// 10,000 numbered messages of each QoS, published by the library and received by
/// it: all, once, in order.
fn nothing_lost_or_doubled(url: &str, client: (Library, u8)) -> Outcome {
    for qos in 0..=2 {
        let topic = format!("flood/{qos}");
        let mut receiver = connect(url, client, "receiver", json!({}))?;
        let mut sender = connect(url, client, "sender", json!({}))?;
        receiver.ok(json!({"do": "subscribe", "topic": topic, "qos": qos}))?;
        receiver.ok(json!({"do": "collect", "topic": topic, "count": MANY}))?;
        let sent =
            sender.order(json!({"do": "flood", "topic": topic, "qos": qos, "count": MANY}))?;
        let all = receiver.order(json!({"do": "collected"}))?;
        let sent = sender.answer_within(sent, LONG)?;
        ensure!(sent["ok"]["sent"] == MANY, "{client:?} QoS {qos}: {sent}");
        let report = receiver.answer_within(all, LONG)?;
        let expected = json!({"received": MANY, "distinct": MANY, "disorder": 0});
        ensure!(report["ok"] == expected, "{client:?} QoS {qos}: {report}");
    }
    Ok(())
}

#[test]
fn mqtt_js_311_loses_and_doubles_nothing() -> Outcome {
    nothing_lost_or_doubled(&Server::new()?.mqtt_url()?, (Library::MqttJs, 4))
}

#[test]
fn mqtt_js_5_loses_and_doubles_nothing() -> Outcome {
    let server = Server::new()?;
    nothing_lost_or_doubled(&server.mqtt_url()?, (Library::MqttJs, 5))
}

#[test]
fn paho_311_loses_and_doubles_nothing() -> Outcome {
    let server = Server::new()?;
    nothing_lost_or_doubled(&server.mqtt_url()?, (Library::Paho, 4))
}

#[test]
fn paho_5_loses_and_doubles_nothing() -> Outcome {
    let server = Server::new()?;
    nothing_lost_or_doubled(&server.mqtt_url()?, (Library::Paho, 5))
}

#[test]
fn mqtt_js_over_websocket_loses_and_doubles_nothing() -> Outcome {
    let server = Server::new()?;
    nothing_lost_or_doubled(&server.mqtt_ws_url(), (Library::MqttJs, 5))
}

#[test]
fn paho_over_websocket_loses_and_doubles_nothing() -> Outcome {
    let server = Server::new()?;
    nothing_lost_or_doubled(&server.mqtt_ws_url(), (Library::Paho, 4))
}

fn mosquitto(tool: &str, server: &Server, args: &[&str]) -> Result<Command> {
    let addr = server.mqtt_addr()?;
    let mut command = Command::new(tool);
    command
        .args(["-h", "127.0.0.1", "-p", &addr.port().to_string()])
        .args(args);
    Ok(command)
}

/// The mosquitto tools: lines in, lines out, of each QoS and both versions.
#[test]
fn mosquitto_tools_lose_and_double_nothing() -> Outcome {
    let server = Server::new()?;
    let expected: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("tools/{version}/{qos}");
            let options = ["-V", version, "-q", qos, "-t", &topic];
            // Both filters travel in one SUBSCRIBE, so the retained greeting shows
            // that the other subscription is there as well.
            let hello = format!("{topic}/hello");
            let mut greeter = Client::connect(server.mqtt_addr()?, &Connect::v4("greeter"))?;
            greeter.publish(&hello, b"hello", 1, true)?;
            let count = (MANY + 1).to_string();
            let mut sub = mosquitto("mosquitto_sub", &server, &options)?;
            let mut subscriber = Running::start(sub.args(["-t", &hello, "-C", &count]), b"")?;
            subscriber.line_with("hello")?;

            let mut publish = mosquitto("mosquitto_pub", &server, &options)?;
            let input = expected.join("\n") + "\n";
            Running::start(publish.arg("-l"), input.as_bytes())?
                .finish(LONG)?
                .success()?;
            let out = subscriber.finish(LONG)?.success().context(topic.clone())?;
            let received: Vec<&str> = out
                .lines()
                .into_iter()
                .filter(|line| *line != "hello")
                .collect();
            ensure!(
                received == expected,
                "{version} QoS {qos}: {} lines",
                received.len()
            );
        }
    }
    Ok(())
}

/// Set, replaced, cleared: what a late subscriber of each library finds.
#[test]
fn retained_set_replace_clear() -> Outcome {
    let server = Server::new()?;
    for client in Library::MQTT {
        let topic = format!("state/{:?}/{}", client.0, client.1);
        let mut writer = connect(&server.mqtt_url()?, client, "writer", json!({}))?;
        for value in ["first", "second"] {
            writer.ok(json!({
                "do": "publish", "topic": topic, "payload": value, "qos": 1, "retain": true
            }))?;
            let mut late = connect(&server.mqtt_url()?, client, "late", json!({}))?;
            late.ok(json!({"do": "subscribe", "topic": topic, "qos": 1}))?;
            let message = late.next("message")?;
            ensure!(message["payload"] == value, "{client:?}: {message}");
            ensure!(message["retain"] == true, "{client:?}: {message}");
        }
        let mut live = connect(&server.mqtt_url()?, client, "live", json!({}))?;
        live.ok(json!({"do": "subscribe", "topic": topic, "qos": 1}))?;
        live.next("message")?;
        writer.ok(
            json!({"do": "publish", "topic": topic, "payload": "", "qos": 1, "retain": true}),
        )?;
        // [MQTT-3.3.1-6]: the clearing itself is delivered, and not as a retained message.
        let message = live.next("message")?;
        ensure!(
            message["hex"] == "" && message["retain"] == false,
            "{client:?}: {message}"
        );

        // Nothing is left: the first thing a late subscriber sees is the marker.
        let mut late = connect(&server.mqtt_url()?, client, "late", json!({}))?;
        late.ok(json!({"do": "subscribe", "topic": topic, "qos": 1}))?;
        writer.ok(json!({"do": "publish", "topic": topic, "payload": "marker", "qos": 1}))?;
        let message = late.next("message")?;
        ensure!(message["payload"] == "marker", "{client:?}: {message}");
    }
    Ok(())
}

/// The mosquitto tools see the same retained value.
#[test]
fn mosquitto_sub_sees_retained_values() -> Outcome {
    let server = Server::new()?;
    let args = ["-q", "1", "-t", "tools/state", "-m", "kept", "-r"];
    run(&mut mosquitto("mosquitto_pub", &server, &args)?, PATIENCE)?.success()?;
    let args = ["-t", "tools/#", "-C", "1", "-F", "%t %r %p"];
    let out = run(&mut mosquitto("mosquitto_sub", &server, &args)?, PATIENCE)?.success()?;
    ensure!(out.lines() == ["tools/state 1 kept"], "{out:?}");
    Ok(())
}

/// A will is published when the process dies, and is not after DISCONNECT.
#[test]
fn wills() -> Outcome {
    let server = Server::new()?;
    for client in Library::MQTT {
        let topic = format!("will/{:?}/{}", client.0, client.1);
        let mut heir = Client::connect(server.mqtt_addr()?, &Connect::v4("heir"))?;
        heir.subscribe(&topic, 1)?;
        let will = json!({"will": {"topic": topic, "payload": "lost", "qos": 1, "retain": true}});

        let mut polite = connect(&server.mqtt_url()?, client, "testator", will.clone())?;
        polite.ok(json!({"do": "disconnect"}))?;
        polite.next("closed")?;
        let mut killed = connect(&server.mqtt_url()?, client, "testator", will)?;
        killed.ok(json!({"do": "publish", "topic": topic, "payload": "alive", "qos": 1}))?;
        killed.kill()?;
        let messages = [heir.message()?, heir.message()?];
        let payloads =
            messages.map(|message| String::from_utf8_lossy(&message.payload).into_owned());
        ensure!(payloads == ["alive", "lost"], "{client:?}: {payloads:?}");

        // The will was retained, as it asked.
        let mut late = Client::connect(server.mqtt_addr()?, &Connect::v4("late"))?;
        late.subscribe(&topic, 1)?;
        let message = late.message()?;
        ensure!(
            message.payload == b"lost" && message.retain,
            "{client:?}: {message:?}"
        );
        late.publish(&topic, b"", 1, true)?;
    }
    Ok(())
}

fn persistent(id: &str, version: u8) -> Value {
    json!({"version": version, "clientId": id, "clean": false, "expiry": 3600})
}

/// A persistent session of each library receives what it missed, in order and
/// without doubling, also across a SIGKILL and a restart of the router.
fn session_receives_what_it_missed(kill_router: bool) -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    for client @ (library, version) in Library::MQTT {
        let id = format!("absent-{library:?}-{version}");
        let topic = format!("missed/{library:?}/{version}");
        let mut sleeper = Agent::start(library, &server.mqtt_url()?)?;
        let mut hello = persistent(&id, version);
        hello["do"] = json!("connect");
        let ack = sleeper.ok(hello.clone())?;
        ensure!(ack["present"] == false, "{client:?}: {ack}");
        sleeper.ok(json!({"do": "subscribe", "topic": topic, "qos": 2}))?;
        sleeper.ok(json!({"do": "disconnect"}))?;
        sleeper.next("closed")?;
        drop(sleeper);

        let mut publisher = Client::connect(server.mqtt_addr()?, &Connect::v4("publisher"))?;
        for number in 0..40 {
            let qos = 1 + number % 2;
            publisher.publish(&topic, format!("{number}").as_bytes(), qos, false)?;
        }
        if kill_router {
            server.kill()?;
            server.restart()?;
        }
        let mut sleeper = Agent::start(library, &server.mqtt_url()?)?;
        let ack = sleeper.ok(hello)?;
        ensure!(ack["present"] == true, "{client:?}: {ack}");
        // Order is promised within a QoS, not between them [MQTT-4.6.0-6].
        let mut received = [Vec::new(), Vec::new()];
        for _ in 0..40 {
            let message = sleeper.next("message")?;
            let number: usize = message["payload"].as_str().unwrap_or_default().parse()?;
            ensure!(
                message["qos"] == 1 + number % 2,
                "{client:?} at {number}: {message}"
            );
            received[number % 2].push(number);
        }
        let expected = [0, 1].map(|first| (first..40).step_by(2).collect::<Vec<usize>>());
        ensure!(received == expected, "{client:?}: {received:?}");
        // And nothing twice: the next message is a fresh one.
        let mut publisher = Client::connect(server.mqtt_addr()?, &Connect::v4("publisher"))?;
        publisher.publish(&topic, b"fresh", 1, false)?;
        let message = sleeper.next("message")?;
        ensure!(message["payload"] == "fresh", "{client:?}: {message}");
        sleeper.ok(json!({"do": "disconnect"}))?;
    }
    Ok(())
}

#[test]
fn a_persistent_session_receives_what_it_missed() -> Outcome {
    session_receives_what_it_missed(false)
}

#[test]
fn a_persistent_session_outlives_the_router() -> Outcome {
    session_receives_what_it_missed(true)
}

/// A second connection with the same client identifier ends the first one
/// [MQTT-3.1.4-3], whose will is published.
#[test]
fn takeover() -> Outcome {
    let server = Server::new()?;
    for client in Library::MQTT {
        let topic = format!("takeover/{:?}/{}", client.0, client.1);
        let mut heir = Client::connect(server.mqtt_addr()?, &Connect::v4("heir"))?;
        heir.subscribe(&topic, 1)?;
        let will = json!({"will": {"topic": topic, "payload": "taken over", "qos": 1}});
        let mut first = connect(&server.mqtt_url()?, client, "twin", will)?;
        let _second = connect(&server.mqtt_url()?, client, "twin", json!({}))?;
        first.next("closed")?;
        let message = heir.message()?;
        ensure!(message.payload == b"taken over", "{client:?}: {message:?}");
    }
    Ok(())
}

/// `+` and `#` match as section 4.7 says, and never a leading `$`.
#[test]
fn wildcards() -> Outcome {
    let server = Server::new()?;
    let cases = [
        ("w/#", vec!["w", "w/a", "w/a/b", "w/a/c", "w/", "w//x"]),
        ("w/+", vec!["w/a", "w/"]),
        ("w/+/b", vec!["w/a/b"]),
        ("w/+/x", vec!["w//x"]),
        ("+/a", vec!["w/a"]),
        ("#", vec!["w", "w/a", "w/a/b", "w/a/c", "w/", "w//x"]),
        ("$own/#", vec!["$own/w/a"]),
    ];
    let topics = ["w", "w/a", "w/a/b", "w/a/c", "w/", "w//x", "$own/w/a"];
    for (filter, expected) in cases {
        let mut subscriber = Client::connect(server.mqtt_addr()?, &Connect::v4("subscriber"))?;
        let mut publisher = Client::connect(server.mqtt_addr()?, &Connect::v4("publisher"))?;
        ensure!(subscriber.subscribe(filter, 0)? == 0, "{filter} refused");
        for topic in topics {
            publisher.publish(topic, b"x", 1, false)?;
        }
        ensure!(
            subscriber.subscribe("$marker", 0)? == 0,
            "the marker is refused"
        );
        publisher.publish("$marker", b"x", 1, false)?;
        let mut topics = Vec::new();
        while topics.last().is_none_or(|last| last != "$marker") {
            topics.push(subscriber.message()?.topic);
        }
        topics.pop();
        ensure!(topics == expected, "{filter}: {topics:?}");
        subscriber.cut()?;
    }
    Ok(())
}

/// One keep-alive and a half without a packet, and the router closes
/// [MQTT-3.1.2-24]; the will follows. The wait is the router's, the test waits for
/// the message.
#[test]
fn keep_alive_is_enforced() -> Outcome {
    let server = Server::new()?;
    let mut heir = Client::connect(server.mqtt_addr()?, &Connect::v4("heir"))?;
    heir.subscribe("silence", 1)?;
    let mut silent = Connect::v5("silent").will("silence", b"gone", false);
    silent.keep_alive_secs = 1;
    let mut silent = Client::connect(server.mqtt_addr()?, &silent)?;
    ensure!(heir.message()?.payload == b"gone", "another will");
    // 5.0 may say why: DISCONNECT 0x8D, Keep Alive timeout.
    while let Some((first, body)) = silent.read()? {
        ensure!(
            first == 0xE0 && body.first() == Some(&0x8D),
            "{first:#04x} {body:?}"
        );
    }
    Ok(())
}
