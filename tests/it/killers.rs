//! What killed other routers is harmless here: after each attack strangers are
//! still served.
//!
//! The classes are those of published failures of MQTT brokers (packets in the
//! wrong state, lying lengths, malformed fields, floods of state) and the known
//! ways to end a fox-wamp or rumqttd process.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration_tests::measure::process::resident_bytes;
use integration_tests::mqtt::{Client, Connect};
use integration_tests::probe::liveness;
use integration_tests::wamp::{Session, code, hello, roles};
use integration_tests::{Options, Server};
use serde_json::json;

use crate::Outcome;

mod cuts;
mod load;
mod mqtt;
mod rawsocket;
mod state;
mod wamp;

fn server() -> Result<Server> {
    Server::start(Options::default().memory())
}

/// Sends bytes to a fresh socket and waits until the router closes it.
fn closes(addr: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut client = Client::open(addr, 5)?;
    // The router may close before it has read everything.
    let _ = client.send(bytes);
    while client.read()?.is_some() {}
    Ok(())
}

/// Connects properly, sends bytes, waits until the router closes.
fn closes_after_connect(addr: SocketAddr, connect: &Connect, bytes: &[u8]) -> Outcome {
    let mut client = Client::connect(addr, connect)?;
    let _ = client.send(bytes);
    while client.read()?.is_some() {}
    Ok(())
}

/// rumqttd: a CONNACK from a client, then the same client again.
#[test]
fn rumqttd_connack_from_a_client() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for connect in [
        Connect::v5("X").will("w", b"1", false),
        Connect::v4("X").will("w", b"1", false),
    ] {
        for _ in 0..3 {
            closes_after_connect(addr, &connect, &[0x20, 3, 0, 0, 0])?;
        }
    }
    liveness(&server)
}

/// fox-wamp: a CONNECT whose protocol name is not MQTT.
#[test]
fn fox_wamp_unknown_protocol_name() -> Outcome {
    let server = server()?;
    let attack = [
        0x10, 0x0C, 0, 4, b'X', b'X', b'X', b'X', 4, 2, 0, 0x3C, 0, 0,
    ];
    closes(server.mqtt_addr()?, &attack)?;
    closes(server.listen, &attack)?;
    liveness(&server)
}

/// fox-wamp: a payload that is not JSON, to a WAMP subscriber.
#[test]
fn fox_wamp_payload_that_is_not_json() -> Outcome {
    let server = server()?;
    let mut session = Session::join(server.listen, "realm1")?;
    session.subscribe("any.topic", json!({"filter": {"type": 1}}))?;
    session.subscribe("any.#", json!({}))?;
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v4("device"))?;
    // The last two are JSON by the grammar, but strict parsers would drop the whole message.
    let payloads = [
        b"hello".as_slice(),
        b"\xff\xfe",
        b"{",
        b"[1,",
        b"1e999",
        b"\"\\ud800\"",
    ];
    for payload in payloads {
        device.publish("any/topic", payload, 1, true)?;
        session.event().with_context(|| format!("{payload:?}"))?;
    }
    liveness(&server)
}

/// fox-wamp: realm names that are not words end its process.
#[test]
fn fox_wamp_odd_realm_names() -> Outcome {
    let server = server()?;
    for name in ["", " ", ".", "a..b", "no spaces please", "#", "a.#", ".."] {
        let (_, answer) = hello(server.listen, name, roles())?;
        ensure!(answer[0] == code::ABORT, "{name:?}: {answer}");
        ensure!(answer[2] == "wamp.error.invalid_uri", "{name:?}: {answer}");
    }
    // Legal by the letter; the router may have its limits, but answers.
    for name in ["\u{0}".to_owned(), "x".repeat(60_000)] {
        hello(server.listen, &name, roles())?;
    }
    // More than a stranger may send.
    ensure!(hello(server.listen, &"x".repeat(70_000), roles()).is_err());
    for name in [
        "Realm",
        "realm-1",
        "com.example.realm",
        "größe",
        "a/b",
        "__proto__",
    ] {
        let (_, answer) = hello(server.listen, name, roles())?;
        ensure!(answer[0] == code::WELCOME, "{name:?}: {answer}");
    }
    for user in ["joe@no spaces", "joe@", "@", "joe@a..b"] {
        let connect = Connect::v5("odd").login(user, "secret");
        let (_, _) = Client::try_connect(server.mqtt_addr()?, &connect)?;
    }
    liveness(&server)
}

/// fox-wamp: conditions and filters on values of another shape.
#[test]
fn fox_wamp_conditions_on_scalars() -> Outcome {
    let server = server()?;
    let mut session = Session::join(server.listen, "realm1")?;
    session.publish("k", json!(["text"]), json!({}), json!({"retain": true}))?;
    let options = json!({"retain": true, "when": {"a": {"b": 1}}});
    let reply = session.try_publish("k", json!([1]), json!({}), options)?;
    ensure!(reply[0] == code::ERROR, "{reply}");
    let mut watcher = Session::join(server.listen, "realm1")?;
    watcher.subscribe("k", json!({"filter": {"a": {"b": 1}}}))?;
    session.publish("k", json!(["post"]), json!({}), json!({}))?;
    for bad in [
        json!({"after": 1.5}),
        json!({"after": ""}),
        json!({"snapshot": "yes"}),
    ] {
        let reply = watcher.try_subscribe("other", bad.clone())?;
        ensure!(reply[4] == "wamp.error.invalid_argument", "{bad}: {reply}");
    }
    liveness(&server)
}

fn resident_mib(server: &Server) -> Result<u64> {
    Ok(resident_bytes(server.pid())? >> 20)
}
