//! Packets that end too early, frames that lie about them, and packets made to be expensive.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, ensure};
use integration_tests::mqtt::{Client, Connect, binary, packet, string};
use integration_tests::probe::liveness;
use integration_tests::websocket::{Message, WebSocket, opcode};

use super::{closes, closes_after_connect, resident_mib, server};
use crate::Outcome;

/// Sends bytes and a PINGREQ after CONNECT, and reads until the answer to it or the
/// end: `true` if the connection lives.
fn lives(addr: SocketAddr, connect: &Connect, bytes: &[u8]) -> anyhow::Result<bool> {
    let mut client = Client::connect(addr, connect)?;
    // The router may close before it has read everything.
    let _ = client.send(bytes);
    let _ = client.send(&[0xC0, 0]);
    while let Some((first, _)) = client.read()? {
        if first == 0xD0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A 5.0 packet body with properties behind `head`.
fn with_properties(head: &[u8], properties: &[u8], rest: &[u8]) -> Vec<u8> {
    let len = u8::try_from(properties.len()).expect("short");
    [head, &[len], properties, rest].concat()
}

/// Every packet a client may send, of one version: first byte and body.
fn legal(level: u8) -> Vec<(u8, Vec<u8>)> {
    let v5 = level == 5;
    let id = [0, 7];
    let topic = string("a/b");
    let none: &[u8] = if v5 { &[0] } else { &[] };
    let one_filter = [&topic[..], &[1]].concat();
    let mut packets = vec![
        (0x30, [&topic[..], none, b"payload"].concat()),
        (0x32, [&topic[..], &id, none, b"payload"].concat()),
        (0x34, [&topic[..], &id, none, b"payload"].concat()),
        (0x40, id.to_vec()),
        (0x50, id.to_vec()),
        (0x62, id.to_vec()),
        (0x70, id.to_vec()),
        (0x82, [&id[..], none, &one_filter, &one_filter].concat()),
        (0xA2, [&id[..], none, &topic, &topic].concat()),
    ];
    if v5 {
        let words = [
            &[0x1F][..],
            &string("why"),
            &[0x26],
            &string("k"),
            &string("v"),
        ]
        .concat();
        let about = [
            &[0x01, 1, 0x02, 0, 0, 0, 9, 0x23, 0, 1, 0x09][..],
            &binary(b"\x00\xFF"),
            &[0x08],
            &string("r"),
            &[0x26],
            &string("k"),
            &string("v"),
        ]
        .concat();
        let head = [&topic[..], &id].concat();
        packets.push((0x32, with_properties(&head, &about, b"payload")));
        for kind in [0x40, 0x50, 0x62, 0x70] {
            packets.push((kind, with_properties(&[0, 7, 0x92], &words, &[])));
        }
        packets.push((0x82, with_properties(&id, &[0x0B, 0xFF, 0x7F], &one_filter)));
        packets.push((0xE0, with_properties(&[4], &words, &[])));
        let method = [&[0x15][..], &string("SCRAM-SHA-256")].concat();
        packets.push((0xF0, with_properties(&[0x19], &method, &[])));
    }
    packets
}

/// NanoMQ, comqtt and others: each packet, its length said rightly, ends at every byte
/// (SUBSCRIBE without options byte, a PUBLISH of QoS 1 without identifier, …).
#[test]
fn packets_cut_at_every_byte() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for connect in [Connect::v4("cut"), Connect::v5("cut")] {
        for (first, body) in legal(connect.level) {
            for cut in 0..body.len() {
                lives(addr, &connect, &packet(first, &body[..cut]))
                    .with_context(|| format!("{first:#04x} cut to {cut} bytes"))?;
            }
            // One byte more belongs to the payload of a PUBLISH; to a list it is half an entry.
            let longer = [&body[..], &[0]].concat();
            let alive = lives(addr, &connect, &packet(first, &longer))?;
            match first >> 4 {
                3 => ensure!(alive, "a longer payload"),
                8 | 10 => ensure!(!alive, "{first:#04x} with a byte more"),
                _ => {}
            }
        }
        let hello = connect
            .clone()
            .will("w", b"x", true)
            .login("u", "p")
            .encode();
        for cut in 2..hello.len() {
            closes(addr, &packet(0x10, &hello[2..cut]))
                .with_context(|| format!("CONNECT cut to {cut}"))?;
        }
    }
    liveness(&server)
}

/// Every two-byte length in every packet says more than there is, and less.
#[test]
fn lengths_within_packets_that_lie() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for connect in [Connect::v4("liar"), Connect::v5("liar")] {
        for (first, body) in legal(connect.level) {
            for at in 0..body.len() {
                for byte in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
                    let mut changed = body.clone();
                    changed[at] = byte;
                    lives(addr, &connect, &packet(first, &changed))
                        .with_context(|| format!("{first:#04x} with {byte:#04x} at {at}"))?;
                }
            }
        }
    }
    liveness(&server)
}

/// Empty and odd fields: names of no bytes, DISCONNECT and AUTH in odd forms.
#[test]
fn empty_and_odd_fields() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let bad: [(&str, Vec<u8>); 16] = [
        ("an empty topic", packet(0x30, &[0, 0, 0])),
        ("an empty topic, QoS 1", packet(0x32, &[0, 0, 0, 1, 0])),
        (
            "a DISCONNECT with a code of the server",
            vec![0xE0, 1, 0x8E],
        ),
        ("a DISCONNECT with an unknown code", vec![0xE0, 1, 0x77]),
        ("a DISCONNECT without its properties", vec![0xE0, 2, 0, 5]),
        ("a DISCONNECT with flags", vec![0xE8, 0]),
        ("a DISCONNECT with a payload", vec![0xE0, 3, 0, 0, 0]),
        (
            "a DISCONNECT with an expiry after none",
            vec![0xE0, 7, 0, 5, 0x11, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
        ("DISCONNECT twice", vec![0xE0, 0, 0xE0, 0]),
        ("an empty AUTH", vec![0xF0, 0]),
        (
            "an AUTH with an empty method",
            vec![0xF0, 5, 0x18, 3, 0x15, 0, 0],
        ),
        ("a PUBACK with identifier 0", vec![0x40, 2, 0, 0]),
        ("an UNSUBSCRIBE of nothing", vec![0xA2, 3, 0, 1, 0]),
        ("a SUBSCRIBE to nothing", vec![0x82, 3, 0, 1, 0]),
        (
            "a SUBSCRIBE to an empty filter",
            vec![0x82, 6, 0, 1, 0, 0, 0, 0],
        ),
        (
            "an UNSUBSCRIBE of an empty filter",
            vec![0xA2, 5, 0, 1, 0, 0, 0],
        ),
    ];
    for (what, bytes) in &bad {
        closes_after_connect(addr, &Connect::v5("odd"), bytes)
            .with_context(|| (*what).to_owned())?;
    }
    // Names as long as can be.
    let long = "x".repeat(30_000);
    for connect in [
        Connect::v5(&long).will(&long[..5_000], b"x", false),
        Connect::v4(&long).login(&long, "p"),
    ] {
        let (_client, _) = Client::try_connect(addr, &connect)?;
    }
    liveness(&server)
}

/// A CVE of 2026: a packet of 4096 bytes by its own length, three by its frame; and frames
/// that are no frames.
#[test]
fn websocket_frames_that_lie() -> Outcome {
    let server = server()?;
    let open = || WebSocket::connect(server.listen, "/mqtt", "mqtt");
    let hello = Connect::v5("framed").encode();
    let greet = |socket: &mut WebSocket| {
        socket.send_binary(&hello)?;
        match socket.receive()? {
            Message::Binary(bytes) if bytes.first() == Some(&0x20) => Ok(()),
            other => anyhow::bail!("no CONNACK: {other:?}"),
        }
    };
    let mut held = Vec::new();
    for first in [0x10, 0x30, 0x32, 0x82, 0xA2] {
        let mut stranger = open()?;
        stranger.send_binary(&[first, 0x80, 0x20, 0, 1, b'a'])?;
        held.push(stranger);
        let mut client = open()?;
        greet(&mut client)?;
        client.send_binary(&[first, 0x80, 0x20, 0, 1, b'a'])?;
        held.push(client);
    }
    // A packet over fragments of one message, with a PING between.
    let mut parts = open()?;
    parts.send_frame(false, opcode::BINARY, &hello[..5])?;
    parts.send_frame(true, opcode::PING, b"?")?;
    parts.send_frame(true, opcode::CONTINUATION, &hello[5..])?;
    while !matches!(parts.receive()?, Message::Binary(_)) {}

    let ping = [&[0x89, 0xFE, 0, 126][..], &[0; 4 + 126]].concat();
    let bad: [(&str, &[u8]); 9] = [
        (
            "a frame of 2^63 bytes",
            &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "a frame of 2^62 bytes",
            &[0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("an unmasked frame", &[0x82, 2, 0xC0, 0]),
        ("reserved bits", &[0xF2, 0x80, 0, 0, 0, 0]),
        ("an unknown opcode", &[0x83, 0x80, 0, 0, 0, 0]),
        ("a PING in fragments", &[0x09, 0x80, 0, 0, 0, 0]),
        ("a PING of 126 bytes", &ping),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0]),
        ("a CLOSE of one byte", &[0x88, 0x81, 0, 0, 0, 0, 3]),
    ];
    for (what, bytes) in bad {
        for is_client in [false, true] {
            let mut socket = open()?;
            if is_client {
                greet(&mut socket)?;
            }
            socket.send_raw(bytes)?;
            let end = loop {
                match socket.receive() {
                    Ok(Message::Closed(_)) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            end.with_context(|| what.to_owned())?;
        }
    }
    liveness(&server)
}

/// CVE-2021-41039 and CVE-2019-11779: a packet that costs far more than it weighs.
#[test]
fn packets_made_to_be_expensive() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let varint = |len: usize| {
        let bytes = packet(0, &vec![0; len]);
        bytes[1..bytes.len() - len].to_vec()
    };
    let many = [0x26, 0, 0, 0, 0].repeat(200_000);
    let block = [&varint(many.len())[..], &many].concat();
    let publish = packet(0x30, &[&string("a")[..], &block].concat());
    let subscribe = packet(0x82, &[&[0, 1][..], &block, &string("a"), &[0]].concat());
    for bytes in [&publish, &subscribe] {
        // 0x97: a limit of ours, not a fault of the packet.
        let mut client = Client::connect(addr, &Connect::v5("props"))?;
        let _ = client.send(bytes);
        let (first, body) = client.read()?.context("closed without DISCONNECT")?;
        ensure!((first, body.first()) == (0xE0, Some(&0x97)), "{body:?}");
    }
    let connect = [&string("MQTT")[..], &[5, 2, 0, 0], &block, &string("c")].concat();
    closes(addr, &packet(0x10, &connect))?;

    let slashes = "/".repeat(65_400);
    for filter in [
        slashes.clone(),
        format!("+{slashes}#"),
        format!("$share/g{slashes}"),
    ] {
        for connect in [Connect::v4("deep"), Connect::v5("deep")] {
            let mut client = Client::connect(addr, &connect)?;
            let refused = if connect.level == 5 { 0x8F } else { 0x80 };
            ensure!(client.subscribe(&filter, 0)? == refused, "a deep filter");
            client.send(&packet(0xA2, &{
                let mut body = vec![0, 9];
                body.extend((connect.level == 5).then_some(0));
                body.extend(string(&filter));
                body
            }))?;
            client.ping()?;
        }
    }
    for qos in [1, 2] {
        let mut client = Client::connect(addr, &Connect::v5("deep"))?;
        ensure!(
            client.publish(&slashes, b"x", qos, true)? == 0x90,
            "a deep topic"
        );
    }
    // The widest filters there may be, against the widest topic.
    let mut wide = Client::connect(addr, &Connect::v5("wide"))?;
    for at in 0..200 {
        let filter = [vec!["+"; 15], vec!["a"; at % 180], vec!["#"]].concat();
        wide.subscribe(&filter.join("/"), 0)?;
    }
    let topic = vec!["a"; 200].join("/");
    for _ in 0..200 {
        wide.publish(&topic, b"x", 0, false)?;
    }
    wide.ping()?;
    // More filters than one packet may have, all malformed in the end.
    let filters = [&string("a")[..], &[0]].concat().repeat(20_000);
    let flood = packet(
        0x82,
        &[&[0, 1, 0][..], &filters, &string("a"), &[0xFF]].concat(),
    );
    closes_after_connect(addr, &Connect::v5("filters"), &flood)?;
    liveness(&server)
}

/// CVE-2017-7651 and CVE-2023-0809: strangers who say much by length and little by bytes,
/// and strangers who say as much as they may.
#[test]
fn strangers_who_announce_much() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let before = resident_mib(&server)?;
    let mut held = Vec::new();
    for first in [0x10, 0x30, 0x82, 0xF0] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(addr)?;
            stream.write_all(&[first, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4])?;
            held.push(stream);
        }
    }
    for _ in 0..100 {
        let mut stream = TcpStream::connect(addr)?;
        // 65,533 bytes to come, of which few do.
        stream.write_all(&[0x10, 0xFC, 0xFF, 0x03])?;
        stream.write_all(b"\x00\x04MQTT\x05\x02\x00\x00\x00\xFF\xFF")?;
        held.push(stream);
    }
    liveness(&server)?;
    let after = resident_mib(&server)?;
    ensure!(after < before + 40, "grew from {before} to {after} MiB");
    Ok(())
}
