//! A WAMP client and an MQTT client that know nothing of each other talk, whatever
//! the payload and however odd the topic.

use anyhow::{Result, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::wamp::Session;
use integration_tests::{Options, Server};
use serde_json::{Value, json};

use crate::Outcome;

/// The spelling of one topic on both sides.
const TOPICS: [(&str, &str); 9] = [
    ("app/topic/name", "app.topic.name"),
    ("spBv1.0/G/NDATA", "spBv1%2E0.G.NDATA"),
    ("/a", "%00.a"),
    ("a//b", "a.%00.b"),
    ("a/", "a.%00"),
    ("my room/t 1", "my%20room.t%201"),
    ("100%/x", "100%.x"),
    ("star/*", "star.%2A"),
    ("größe/日本", "größe.日本"),
];

/// Payloads of MQTT and the arguments that WAMP subscribers over JSON see.
fn mqtt_payloads() -> Vec<(&'static [u8], Value, &'static str)> {
    vec![
        (
            br#"{"t": 21.5, "ok": true}"#,
            json!([{"t": 21.5, "ok": true}]),
            "json",
        ),
        (b"[1,2]", json!([[1, 2]]), "json"),
        (b"null", json!([null]), "json"),
        (b"5", json!([5]), "json"),
        (b"\"quoted\"", json!(["quoted"]), "json"),
        (b"hello", json!(["hello"]), "text"),
        ("Grüße".as_bytes(), json!(["Grüße"]), "text"),
        (b"{broken", json!(["{broken"]), "text"),
        (b"\x00\xff\x10\xfe", json!(["\u{0}AP8Q/g=="]), "bytes"),
        (b"", json!([]), "bytes"),
    ]
}

/// Publications of WAMP and the payload that MQTT subscribers see, as JSON.
fn wamp_payloads() -> Vec<(Value, Value, Value)> {
    vec![
        (json!([{"t": 21.5}]), json!({}), json!({"t": 21.5})),
        (json!(["text"]), json!({}), json!("text")),
        (json!([[1, 2]]), json!({}), json!([1, 2])),
        (json!([7]), json!({}), json!(7)),
        (json!([null]), json!({}), json!(null)),
        (
            json!([1, 2]),
            json!({}),
            json!({"args": [1, 2], "kwargs": {}}),
        ),
        (json!([]), json!({}), json!({"args": [], "kwargs": {}})),
        (
            json!([1]),
            json!({"k": 2}),
            json!({"args": [1], "kwargs": {"k": 2}}),
        ),
        (
            json!([]),
            json!({"k": 2}),
            json!({"args": [], "kwargs": {"k": 2}}),
        ),
    ]
}

#[test]
fn topics_translate_one_to_one() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    for (mqtt, wamp) in TOPICS {
        let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
        let mut session = Session::join(server.listen, "realm1")?;
        device.subscribe("#", 1)?;
        session.subscribe("#", json!({}))?;

        session.publish(wamp, json!(["down"]), json!({}), json!({}))?;
        let message = device.message()?;
        ensure!(message.topic == mqtt, "{wamp} arrived as {}", message.topic);
        device.publish(mqtt, b"\"up\"", 1, false)?;
        let event = session.event()?;
        ensure!(
            event.details["topic"] == wamp,
            "{mqtt} arrived as {event:?}"
        );

        // The exact subscription finds it as well, in both spellings.
        let mut exact = Session::join(server.listen, "realm1")?;
        exact.subscribe(wamp, json!({}))?;
        let mut exact_device = Client::connect(server.mqtt_addr()?, &Connect::v4("exact"))?;
        exact_device.subscribe(mqtt, 1)?;
        device.publish(mqtt, b"\"exact\"", 1, false)?;
        ensure!(exact.event()?.args == json!(["exact"]), "{wamp}");
        ensure!(exact_device.message()?.topic == mqtt, "{mqtt}");
        device.disconnect()?;
    }
    Ok(())
}

/// Different topics never meet: `a.b/c` is not `a/b/c`.
#[test]
fn dots_and_slashes_do_not_collide() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v4("device"))?;
    let mut session = Session::join(server.listen, "realm1")?;
    session.subscribe("a.b.c", json!({}))?;
    device.publish("a.b/c", b"1", 1, false)?;
    device.publish("a/b.c", b"2", 1, false)?;
    device.publish("a/b/c", b"3", 1, false)?;
    ensure!(
        session.event()?.args == json!([3]),
        "a dotted level was split"
    );
    Ok(())
}

#[test]
fn mqtt_payloads_reach_wamp() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut session = Session::join(server.listen, "realm1")?;
    session.subscribe("up", json!({}))?;
    for mut device in [
        Client::connect(server.mqtt_addr()?, &Connect::v4("device-4"))?,
        Client::connect(server.mqtt_addr()?, &Connect::v5("device-5"))?,
    ] {
        for (payload, args, form) in mqtt_payloads() {
            for qos in 0..=2 {
                device.publish("up", payload, qos, false)?;
                let event = session.event()?;
                let shown = String::from_utf8_lossy(payload);
                ensure!(event.args == args, "{shown:?} QoS {qos}: {event:?}");
                ensure!(event.kwargs == json!({}), "{shown:?}: {event:?}");
                let origin = &event.details["x_mqtt"];
                ensure!(origin["qos"] == qos, "{shown:?}: {event:?}");
                if !payload.is_empty() {
                    ensure!(origin["form"] == form, "{shown:?}: {event:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn wamp_payloads_reach_mqtt() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut session = Session::join(server.listen, "realm1")?;
    let mut devices = [
        Client::connect(server.mqtt_addr()?, &Connect::v4("device-4"))?,
        Client::connect(server.mqtt_addr()?, &Connect::v5("device-5"))?,
    ];
    for device in &mut devices {
        device.subscribe("down", 2)?;
    }
    for (args, kwargs, payload) in wamp_payloads() {
        for qos in 0..=2 {
            session.publish("down", args.clone(), kwargs.clone(), json!({"x_qos": qos}))?;
            for device in &mut devices {
                let message = device.message()?;
                let value: Value = serde_json::from_slice(&message.payload)?;
                ensure!(value == payload, "{args} {kwargs}: {message:?}");
                ensure!(message.qos == qos, "{args} x_qos {qos}: {message:?}");
            }
        }
    }
    // Without `x_qos`: 1 if traced, else 0.
    for (options, qos) in [(json!({}), 0), (json!({"trace": true}), 1)] {
        session.publish("down", json!([1]), json!({}), options.clone())?;
        for device in &mut devices {
            let message = device.message()?;
            ensure!(message.qos == qos, "{options}: {message:?}");
        }
    }
    Ok(())
}

/// The bytes of a MessagePack client are the payload itself, and come back as bytes.
#[test]
fn binary_in_both_directions() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    for library in [
        Library::AutobahnPythonMsgpack,
        Library::WampyMsgpack,
        Library::AutobahnPythonJson,
    ] {
        let mut agent = Agent::join(library, &server.wamp_url(), "realm1")?;
        let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
        device.subscribe("bin/down", 0)?;
        agent.ok(json!({"do": "subscribe", "topic": "bin.up"}))?;
        agent.ok(json!({
            "do": "publish", "topic": "bin.down", "args": [{"$bin": "00ff10fe"}],
            "options": {"acknowledge": true}
        }))?;
        let message = device.message()?;
        ensure!(
            message.payload == b"\x00\xff\x10\xfe",
            "{library:?}: {message:?}"
        );
        device.publish("bin/up", b"\x00\xff\x10\xfe", 1, false)?;
        let event = agent.next("event")?;
        ensure!(
            event["args"] == json!([{"$bin": "00ff10fe"}]),
            "{library:?}: {event}"
        );
        device.disconnect()?;
    }
    Ok(())
}

/// One store: what either side retains, either side finds, and either may clear.
#[test]
fn retained_across() -> Outcome {
    let server = Server::new()?;
    let mut session = Session::join(server.listen, "realm1")?;
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
    let retain = || json!({"retain": true});
    for (mqtt, wamp) in TOPICS {
        session.publish(wamp, json!([{"from": "wamp"}]), json!({}), retain())?;
        let message = late_device(&server, mqtt)?;
        ensure!(
            message == Some((json!({"from": "wamp"}), true)),
            "{mqtt}: {message:?}"
        );

        device.publish(mqtt, br#"{"from":"mqtt"}"#, 1, true)?;
        let event = late_session(&server, wamp)?;
        ensure!(
            event == Some((json!([{"from": "mqtt"}]), true)),
            "{wamp}: {event:?}"
        );

        device.publish(mqtt, b"", 1, true)?;
        ensure!(
            late_session(&server, wamp)?.is_none(),
            "{wamp} survived an empty payload"
        );
        device.publish(mqtt, b"1", 1, true)?;
        session.publish(wamp, json!([]), json!({}), retain())?;
        ensure!(
            late_device(&server, mqtt)?.is_none(),
            "{mqtt} survived an empty publish"
        );
    }
    Ok(())
}

/// A delete reaches MQTT subscribers as an empty payload, WAMP ones without arguments.
#[test]
fn deletes_are_seen_live() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut session = Session::join(server.listen, "realm1")?;
    let mut watcher = Session::join(server.listen, "realm1")?;
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
    device.subscribe("state", 1)?;
    watcher.subscribe("state", json!({}))?;
    session.publish("state", json!(["on"]), json!({}), json!({"retain": true}))?;
    session.publish("state", json!([]), json!({}), json!({"retain": true}))?;
    ensure!(device.message()?.payload == b"\"on\"", "the value");
    let message = device.message()?;
    ensure!(message.payload.is_empty(), "{message:?}");
    ensure!(watcher.event()?.args == json!(["on"]), "the value");
    let event = watcher.event()?;
    ensure!(
        event.args == json!([]) && event.kwargs == json!({}),
        "{event:?}"
    );
    Ok(())
}

/// Router topics are nothing for MQTT wildcards, and MQTT may not publish there.
#[test]
fn the_wamp_namespace_is_reserved() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
    device.subscribe("#", 1)?;
    let mut watcher = Session::join(server.listen, "realm1")?;
    watcher.subscribe("wamp.session.on_join", json!({}))?;
    let _guest = Session::join(server.listen, "realm1")?;
    watcher.event()?;
    device.publish("marker", b"1", 0, false)?;
    let message = device.message()?;
    ensure!(
        message.topic == "marker",
        "the meta event leaked: {message:?}"
    );
    for qos in 1..=2 {
        let code = device.publish("wamp/session/on_join", b"1", qos, false)?;
        ensure!(code == 0x87, "QoS {qos}: {code:#04x}");
    }
    let mut old = Client::connect(server.mqtt_addr()?, &Connect::v4("old"))?;
    old.publish("wamp/session/on_join", b"1", 1, false)?;
    old.ping()?;
    let request = watcher.try_publish("wamp.session.on_join", json!([]), json!({}), json!({}))?;
    ensure!(request[0] == 8, "a client may publish to wamp.*: {request}");
    Ok(())
}

/// The whole path with foreign clients on both ends.
#[test]
fn every_wamp_library_meets_every_mqtt_library() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    for (library, version) in Library::MQTT {
        let options = json!({"version": version, "clientId": "device"});
        let mut device = Agent::connect(library, &server.mqtt_url()?, options)?;
        device.ok(json!({"do": "subscribe", "topic": "meet/down", "qos": 1}))?;
        for wamp in Library::WAMP {
            let mut agent = Agent::join(wamp, &server.wamp_url(), "realm1")?;
            agent.ok(json!({"do": "subscribe", "topic": "meet.up"}))?;
            agent.ok(json!({
                "do": "publish", "topic": "meet.down", "args": [{"n": 1}],
                "options": {"acknowledge": true}
            }))?;
            let message = device.next("message")?;
            ensure!(
                message["payload"] == r#"{"n":1}"#,
                "{wamp:?} -> {library:?}: {message}"
            );
            device
                .ok(json!({"do": "publish", "topic": "meet/up", "payload": "[1,2]", "qos": 1}))?;
            let event = agent.next("event")?;
            ensure!(
                event["args"] == json!([[1, 2]]),
                "{library:?} -> {wamp:?}: {event}"
            );
        }
    }
    Ok(())
}

/// What a device that comes late finds on a topic: the value and whether it was retained.
fn late_device(server: &Server, topic: &str) -> Result<Option<(Value, bool)>> {
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v4("late"))?;
    device.subscribe(topic, 1)?;
    // The marker is published by the device itself, after the replay.
    device.publish(topic, b"\"marker\"", 1, false)?;
    let message = device.message()?;
    device.disconnect()?;
    if message.payload == b"\"marker\"" {
        return Ok(None);
    }
    Ok(Some((
        serde_json::from_slice(&message.payload)?,
        message.retain,
    )))
}

/// What a session that comes late finds: the arguments and whether they were retained.
fn late_session(server: &Server, topic: &str) -> Result<Option<(Value, bool)>> {
    let mut session = Session::join(server.listen, "realm1")?;
    session.subscribe(topic, json!({"get_retained": true}))?;
    // The marker is published by the session itself, after the replay.
    session.publish(
        topic,
        json!(["marker"]),
        json!({}),
        json!({"exclude_me": false}),
    )?;
    let event = session.event()?;
    if event.args == json!(["marker"]) {
        return Ok(None);
    }
    Ok(Some((event.args, event.details["retained"] == true)))
}
