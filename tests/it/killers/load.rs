//! Garbage, cost and volume: what is harmless once and deadly often.

use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context, ensure};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::probe::liveness;
use integration_tests::wamp::{Session, code};
use serde_json::json;

use super::{closes, resident_mib, server};
use crate::Outcome;

/// Garbage for the first byte, and for the protocols behind it.
#[test]
fn garbage_on_every_listener() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for bytes in [
        b"\x00\x00\x00\x00".as_slice(),
        b"\xff\xff\xff\xff",
        b"\r\n\r\n",
        b"\x80\x80\x01\x03",
    ] {
        closes(server.listen, bytes).with_context(|| format!("{bytes:?} to the listener"))?;
        closes(addr, bytes).with_context(|| format!("{bytes:?} to MQTT"))?;
    }
    for request in [
        "GET /wamp HTTP/1.1\r\n\r\n",
        "NONSENSE\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET /wamp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.listen)?;
        stream.write_all(request.as_bytes())?;
    }
    // A head without end, and one that says nothing at all.
    let mut endless = TcpStream::connect(server.listen)?;
    for _ in 0..200 {
        if endless.write_all(&[b'A'; 1024]).is_err() {
            break;
        }
    }
    let _silent = (
        TcpStream::connect(server.listen)?,
        TcpStream::connect(addr)?,
    );
    liveness(&server)
}

/// Filters and topics made to be expensive.
#[test]
fn algorithmic_attacks() -> Outcome {
    let server = server()?;
    let deep = "/".repeat(65_000);
    let plus = ["+"; 5_000].join("/");
    for filter in [deep.as_str(), plus.as_str(), &format!("{deep}#")] {
        let mut client = Client::connect(server.mqtt_addr()?, &Connect::v5("deep"))?;
        // Granted, refused or disconnected: only the others matter.
        let _ = client.subscribe(filter, 0);
        let _ = client.publish(&filter.replace(['+', '#'], "x"), b"x", 1, true);
    }
    let mut session = Session::join(server.listen, "realm1")?;
    for topic in [
        "a.*.b*", "a.#.b", "#a", "..", "a. b", "", "wamp.x", "a.%25x", "a.%00x",
    ] {
        let reply = session.try_publish(topic, json!([]), json!({}), json!({}))?;
        let refused = reply[0] == code::ERROR;
        ensure!(
            refused || topic == "a.%00x" || topic == "a.*.b*",
            "{topic:?}: {reply}"
        );
    }
    for pattern in ["a.#.b", "#a", "a*.#b"] {
        let reply = session.try_subscribe(pattern, json!({}))?;
        ensure!(reply[4] == "wamp.error.invalid_uri", "{pattern:?}: {reply}");
    }
    liveness(&server)
}

/// QoS 2 identifiers that are never released are bounded, connections that die at
/// any byte cost nothing.
#[test]
fn floods_of_state() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let before = resident_mib(&server)?;
    let mut greedy = Client::connect(addr, &Connect::v5("greedy"))?;
    for _ in 0..1_000 {
        // Beyond the Receive Maximum the router may disconnect with 0x93.
        if greedy.send_publish("flood", &[0; 512], 2, false).is_err() {
            break;
        }
    }
    let hello = Connect::v5("cut")
        .will("w", b"x", true)
        .login("u", "p")
        .encode();
    for cut in 0..hello.len() {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(addr)?;
            stream.write_all(&hello[..cut])?;
        }
    }
    for number in 0..300 {
        Client::connect(addr, &Connect::v4(&format!("short-{number}")))?.cut()?;
    }
    liveness(&server)?;
    let after = resident_mib(&server)?;
    ensure!(after < before + 64, "grew from {before} to {after} MiB");
    Ok(())
}

/// A subscriber that never reads hurts nobody but itself.
#[test]
fn slow_readers() -> Outcome {
    let server = server()?;
    let mut slow_session = Session::join(server.listen, "realm1")?;
    slow_session.subscribe("firehose", json!({}))?;
    let mut slow_device = Client::connect(server.mqtt_addr()?, &Connect::v4("slow"))?;
    slow_device.subscribe("firehose", 1)?;
    let mut publisher = Client::connect(server.mqtt_addr()?, &Connect::v4("publisher"))?;
    let payload = vec![b'x'; 16 * 1024];
    for number in 0..4_000 {
        publisher.publish("firehose", &payload, 0, false)?;
        if number % 1_000 == 0 {
            publisher.ping()?;
        }
    }
    publisher.ping()?;
    liveness(&server)?;
    ensure!(
        resident_mib(&server)? < 400,
        "{} MiB resident",
        resident_mib(&server)?
    );
    Ok(())
}
