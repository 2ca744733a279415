//! WAMP messages that no client should send.

use anyhow::{Context, ensure};
use integration_tests::probe::liveness;
use integration_tests::wamp::{Session, code, receive};
use integration_tests::websocket::{Message, WebSocket, opcode};
use serde_json::{Value, json};

use super::server;
use crate::Outcome;

/// Every malformed WAMP message is a protocol violation for its sender alone.
#[test]
fn wamp_protocol_violations() -> Outcome {
    let server = server()?;
    let bad = [
        "",
        "null",
        "{}",
        "[]",
        "[999]",
        "[\"16\"]",
        "[16",
        "[1,2,3]",
        "[1,\"realm1\",{\"roles\":{\"caller\":{}}}]",
        "[2,1,{}]",
        "[17,1,1]",
        "[33,1,1]",
        "[36,1,1,{}]",
        "[50,1,{}]",
        "[65,1,1]",
        "[68,1,1,{}]",
        "[16]",
        "[16,1,{},5]",
        "[16,\"1\",{},\"a\"]",
        "[16,0,{},\"a\"]",
        "[16,-1,{},\"a\"]",
        "[16,1.5,{},\"a\"]",
        "[16,9007199254740993,{},\"a\"]",
        "[16,1,[],\"a\"]",
        "[16,1,{\"acknowledge\":\"yes\"},\"a\"]",
        "[16,1,{\"exclude\":\"x\"},\"a\"]",
        "[16,1,{},\"a\",{}]",
        "[16,1,{},\"a\",[],[]]",
        "[16,1,{},\"a\",[],{},1]",
        "[32,1,{\"match\":\"bogus\"},\"a\"]",
        "[32,1,{\"match\":5},\"a\"]",
        "[70,12345,{}]",
        "[8,48,1,{},\"a.b\"]",
        "[8,68,12345,{},5]",
        "[5,\"signature\",{}]",
    ];
    for text in bad {
        let mut session = Session::join(server.listen, "realm1")?;
        session.socket().send_text(text)?;
        let answer = receive(session.socket()).with_context(|| format!("no ABORT for {text}"))?;
        ensure!(answer[0] == code::ABORT, "{text}: {answer}");
        ensure!(
            answer[2] == "wamp.error.protocol_violation",
            "{text}: {answer}"
        );
    }
    liveness(&server)
}

/// Nothing but HELLO may come first, and the frame kind must be the serializer's.
#[test]
fn wamp_handshake_violations() -> Outcome {
    let server = server()?;
    let first: [Value; 6] = [
        json!([16, 1, {}, "a"]),
        json!([6, {}, "wamp.close.close_realm"]),
        json!([1, "realm1", {}]),
        json!([1, "realm1", {"roles": {}}]),
        json!([1, 5, {"roles": {"caller": {}}}]),
        json!([8, 48, 1, {}, "a.b"]),
    ];
    for message in first {
        let mut socket = WebSocket::connect(server.listen, "/wamp", "wamp.2.json")?;
        socket.send_text(&message.to_string())?;
        let answer = receive(&mut socket)?;
        ensure!(
            answer[2] == "wamp.error.protocol_violation",
            "{message}: {answer}"
        );
    }
    let mut socket = WebSocket::connect(server.listen, "/wamp", "wamp.2.json")?;
    socket.send_binary(b"[1,\"realm1\",{\"roles\":{\"caller\":{}}}]")?;
    let answer = receive(&mut socket)?;
    ensure!(
        answer[2] == "wamp.error.protocol_violation",
        "binary: {answer}"
    );
    let mut socket = WebSocket::connect(server.listen, "/wamp", "wamp.2.msgpack")?;
    ensure!(
        socket.subprotocol.as_deref() == Some("wamp.2.msgpack"),
        "{:?}",
        socket.subprotocol
    );
    // An array of four billion elements, of which none follows.
    socket.send_binary(&[0xDD, 0xFF, 0xFF, 0xFF, 0xFF])?;
    ensure!(
        !matches!(socket.receive()?, Message::Text(_)),
        "text on MessagePack"
    );
    liveness(&server)
}

/// Depth, size and UTF-8 of what is decoded.
#[test]
fn wamp_hostile_payloads() -> Outcome {
    let server = server()?;
    let deep = format!(
        "[16,1,{{}},\"a\",{}{}]",
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let mut session = Session::join(server.listen, "realm1")?;
    session.socket().send_text(&deep)?;
    let mut nested = Session::join(server.listen, "realm1")?;
    nested.send(&json!([code::SUBSCRIBE, 1, {"filter": {"a": {"b": {"c": [[[[]]]]}}}}, "a"]))?;
    nested.reply(1)?;
    let mut broken = WebSocket::connect(server.listen, "/wamp", "wamp.2.json")?;
    broken.send_frame(true, opcode::TEXT, &[0xFF, 0xFE])?;
    ensure!(
        !matches!(broken.receive()?, Message::Binary(_)),
        "broken UTF-8 was answered"
    );
    let mut huge = WebSocket::connect(server.listen, "/wamp", "wamp.2.json")?;
    // The head of a frame of 2^62 bytes.
    huge.send_raw(&[0x81, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    ensure!(
        matches!(huge.receive()?, Message::Closed(_)),
        "a frame of 2^62 bytes was awaited"
    );
    let mut reserved = WebSocket::connect(server.listen, "/wamp", "wamp.2.json")?;
    reserved.send_raw(&[0xF3, 0x80, 0, 0, 0, 0])?;
    ensure!(
        matches!(reserved.receive()?, Message::Closed(_)),
        "reserved bits were taken"
    );
    liveness(&server)
}
