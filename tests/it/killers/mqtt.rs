//! MQTT bytes that no client should send.

use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context, ensure};
use integration_tests::mqtt::{Client, Connect, packet, string};
use integration_tests::probe::liveness;
use integration_tests::websocket::{Message, WebSocket};

use super::{closes, closes_after_connect, resident_mib, server};
use crate::Outcome;

/// Packets in the wrong state or direction: before CONNECT, and those that only a
/// server sends.
#[test]
fn packets_in_the_wrong_state() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let id = 1u16.to_be_bytes();
    let mut subscribe = id.to_vec();
    subscribe.extend(string("a"));
    subscribe.push(0);
    let mut publish = string("a");
    publish.extend(b"payload");
    let first: Vec<Vec<u8>> = vec![
        packet(0x30, &publish),
        packet(0x40, &id),
        packet(0x50, &id),
        packet(0x62, &id),
        packet(0x70, &id),
        packet(0x82, &subscribe),
        packet(0xA2, &subscribe),
        vec![0xC0, 0],
        vec![0xE0, 0],
        vec![0xF0, 0],
        vec![0x00, 0],
    ];
    for bytes in &first {
        closes(addr, bytes).with_context(|| format!("{bytes:02x?} first"))?;
    }
    for kind in [0x00, 0x10, 0x20, 0x90, 0xB0, 0xD0, 0xF0] {
        for connect in [Connect::v4("wrong"), Connect::v5("wrong")] {
            closes_after_connect(addr, &connect, &packet(kind, &[0, 1, 0]))
                .with_context(|| format!("{kind:#04x} from a client"))?;
        }
    }
    // Acknowledgements of what was never sent are the sender's own affair.
    let mut odd = Client::connect(addr, &Connect::v5("odd"))?;
    let _ = odd.send(&packet(0x40, &id));
    liveness(&server)
}

/// Malformed fields of every packet.
#[test]
fn malformed_packets() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let id = 1u16.to_be_bytes();
    let with_id = |rest: &[u8]| [id.as_slice(), rest].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        (
            "SUBSCRIBE without options",
            packet(0x82, &with_id(&string("a"))),
        ),
        ("SUBSCRIBE without filters", packet(0x82, &id)),
        (
            "SUBSCRIBE with flags 0",
            packet(0x80, &with_id(&[0, 1, b'a', 0])),
        ),
        (
            "SUBSCRIBE with QoS 3",
            packet(0x82, &with_id(&[0, 1, b'a', 3])),
        ),
        (
            "SUBSCRIBE with identifier 0",
            packet(0x82, &[0, 0, 0, 1, b'a', 0]),
        ),
        (
            "SUBSCRIBE with a lying length",
            packet(0x82, &with_id(&[0xFF, 0xFF, b'a', 0])),
        ),
        ("UNSUBSCRIBE without filters", packet(0xA2, &id)),
        ("PUBLISH with QoS 3", packet(0x36, &[0, 1, b'a', 0, 1])),
        ("PUBLISH with DUP and QoS 0", packet(0x38, &[0, 1, b'a'])),
        ("PUBLISH without a topic", packet(0x30, &[0, 0])),
        ("PUBLISH cut in the topic", packet(0x30, &[0, 9, b'a'])),
        (
            "PUBLISH cut in the identifier",
            packet(0x32, &[0, 1, b'a', 0]),
        ),
        (
            "PUBLISH with identifier 0",
            packet(0x32, &[0, 1, b'a', 0, 0]),
        ),
        (
            "PUBLISH to a filter",
            packet(0x30, &[0, 3, b'a', b'/', b'#']),
        ),
        (
            "PUBLISH with NUL in the topic",
            packet(0x30, &[0, 2, b'a', 0]),
        ),
        (
            "PUBLISH with broken UTF-8",
            packet(0x30, &[0, 2, b'a', 0xFF]),
        ),
        (
            "PUBLISH with a surrogate",
            packet(0x30, &[0, 3, 0xED, 0xA0, 0x80]),
        ),
        ("PINGREQ with a body", packet(0xC0, &[0])),
        ("PUBREL with flags 0", packet(0x60, &id)),
        ("PUBREL without an identifier", packet(0x62, &[])),
        ("an empty packet 0", vec![0, 0]),
        (
            "a Remaining Length of five bytes",
            vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        ),
        ("CONNECT again", Connect::v4("bad").encode()),
    ];
    for (what, bytes) in &bad {
        closes_after_connect(addr, &Connect::v4("bad"), bytes).with_context(|| what.to_string())?;
    }
    let hello = Connect::v4("bad").encode();
    for cut in 3..hello.len() {
        // The length says that this is all there is.
        let body = &hello[2..cut];
        closes(addr, &packet(0x10, body)).with_context(|| format!("CONNECT cut to {cut}"))?;
    }
    let mut reserved = hello.clone();
    reserved[9] |= 1;
    closes(addr, &reserved).context("CONNECT with the reserved flag")?;
    liveness(&server)
}

/// Malformed properties of 5.0.
#[test]
fn malformed_properties() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let publish = |properties: &[u8]| {
        let mut body = string("a");
        body.push(properties.len() as u8);
        body.extend(properties);
        packet(0x30, &body)
    };
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown property", publish(&[0x7F, 0])),
        ("a property cut short", publish(&[0x02, 0, 0])),
        (
            "Payload Format Indicator twice",
            publish(&[0x01, 0, 0x01, 0]),
        ),
        ("Topic Alias 0", publish(&[0x23, 0, 0])),
        (
            "Topic Alias above the maximum",
            publish(&[0x23, 0xFF, 0xFF]),
        ),
        (
            "a Subscription Identifier from a client",
            publish(&[0x0B, 1]),
        ),
        (
            "a Response Topic with a wildcard",
            publish(&[0x08, 0, 1, b'#']),
        ),
        (
            "a property length beyond the packet",
            packet(0x30, &[0, 1, b'a', 0x7F]),
        ),
        (
            "a property length of five bytes",
            packet(0x30, &[0, 1, b'a', 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ),
        (
            "an unknown Topic Alias and no topic",
            packet(0x30, &[0, 0, 3, 0x23, 0, 1]),
        ),
        (
            "a SUBSCRIBE without options byte",
            packet(0x82, &[0, 1, 0, 0, 1, b'a']),
        ),
        (
            "a SUBSCRIBE with Retain Handling 3",
            packet(0x82, &[0, 1, 0, 0, 1, b'a', 0x30]),
        ),
        (
            "a Subscription Identifier 0",
            packet(0x82, &[0, 1, 2, 0x0B, 0, 0, 1, b'a', 0]),
        ),
        ("AUTH without a method", packet(0xF0, &[0x18, 0])),
        (
            "DISCONNECT with an expiry after none",
            packet(0xE0, &[0, 5, 0x11, 0, 0, 0, 9]),
        ),
    ];
    for (what, bytes) in &bad {
        closes_after_connect(addr, &Connect::v5("bad"), bytes).with_context(|| what.to_string())?;
    }
    liveness(&server)
}

/// Lengths that promise what never comes must not cost memory, and nobody else
/// waits meanwhile.
#[test]
fn lying_lengths() -> Outcome {
    let server = server()?;
    let mut held = Vec::new();
    for addr in [server.mqtt_addr()?, server.listen] {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(addr)?;
            // A CONNECT of 256 MiB, and a first packet that is none.
            stream.write_all(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F])?;
            held.push(stream);
        }
        let mut client = Client::connect(addr, &Connect::v5("liar"))?;
        client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F])?;
        // 5.0: DISCONNECT 0x95, Packet too large, from the header alone.
        let (first, body) = client.read()?.context("closed without DISCONNECT")?;
        ensure!(
            first == 0xE0 && body.first() == Some(&0x95),
            "{first:#04x} {body:?}"
        );
    }
    closes(server.mqtt_addr()?, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F])?;
    liveness(&server)?;
    ensure!(
        resident_mib(&server)? < 200,
        "{} MiB resident",
        resident_mib(&server)?
    );
    Ok(())
}

/// MQTT in WebSocket frames: a length that the frame does not hold, packets over
/// several frames, text frames.
#[test]
fn mqtt_over_websocket_frames() -> Outcome {
    let server = server()?;
    let mut lying = WebSocket::connect(server.listen, "/mqtt", "mqtt")?;
    lying.send_binary(&[0x10, 0x80, 0x20, 0, 4, b'M'])?;
    let mut text = WebSocket::connect(server.listen, "/mqtt", "mqtt")?;
    text.send_text("hello")?;
    // [MQTT-6.0.0-1]: anything but binary frames closes the connection.
    ensure!(
        matches!(text.receive()?, Message::Closed(_)),
        "a text frame was taken"
    );

    // [MQTT-6.0.0-4]: the subprotocol that the client offered is the one it gets.
    for offered in ["mqtt", "mqttv3.1"] {
        let socket = WebSocket::connect(server.listen, "/mqtt", offered)?;
        let chosen = socket.subprotocol.as_deref();
        ensure!(chosen == Some(offered), "{offered}: {chosen:?}");
    }

    let mut slow = WebSocket::connect(server.listen, "/mqtt", "mqtt")?;
    let hello = Connect::v4("slow").encode();
    for byte in &hello {
        slow.send_binary(&[*byte])?;
    }
    ensure!(
        slow.receive()? == Message::Binary(vec![0x20, 2, 0, 0]),
        "no CONNACK"
    );
    let mut both = WebSocket::connect(server.listen, "/mqtt", "mqtt")?;
    both.send_binary(&[hello, vec![0xC0, 0]].concat())?;
    let mut answer = Vec::new();
    while answer.len() < 6 {
        let Message::Binary(bytes) = both.receive()? else {
            break;
        };
        answer.extend(bytes);
    }
    ensure!(answer == [0x20, 2, 0, 0, 0xD0, 0], "{answer:02x?}");
    liveness(&server)
}
