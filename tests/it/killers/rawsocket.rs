//! RawSocket and long-poll clients as they should not be.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use integration_tests::probe::liveness;
use integration_tests::rawsocket::{RawSocket, tcp};
use integration_tests::{Options, Server};

use super::{resident_mib, server};
use crate::Outcome;

/// What the router says until it closes.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Every byte that a connection can begin with, alone and followed by garbage.
#[test]
fn every_first_byte() -> Outcome {
    let server = server()?;
    for first in 0..=255 {
        for tail in [&b""[..], b"\xff\xff\xff\xff\r\n\r\n"] {
            let mut stream = tcp(server.listen)?;
            stream.write_all(&[first])?;
            let _ = stream.write_all(tail);
            // The router may have closed already.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            rest(stream);
        }
    }
    liveness(&server)
}

/// Every second octet of a handshake, reserved octets, and handshakes that stop.
#[test]
fn handshakes() -> Outcome {
    let server = server()?;
    for second in 0..=255_u8 {
        let mut stream = tcp(server.listen)?;
        stream.write_all(&[0x7F, second, 0, 0])?;
        let mut reply = [0; 4];
        stream
            .read_exact(&mut reply)
            .with_context(|| format!("{second:#x}"))?;
        let is_refused = reply[1] & 0x0F == 0;
        ensure!(
            is_refused || reply[1] & 0x0F == second & 0x0F,
            "{second:#x}: {reply:x?}"
        );
        ensure!(!is_refused || rest(stream).is_empty(), "{second:#x}");
    }
    for octets in [[0x7F, 0xF1, 1, 0], [0x7F, 0xF1, 0, 0x80]] {
        let mut stream = tcp(server.listen)?;
        stream.write_all(&octets)?;
        ensure!(rest(stream) == [0x7F, 0x30, 0, 0], "{octets:x?}");
    }
    for cut in 1..4 {
        let mut stream = tcp(server.listen)?;
        stream.write_all(&[0x7F, 0xF1, 0, 0][..cut])?;
    }
    liveness(&server)
}

/// Lengths that never come cost nothing: a thousand strangers promise as much as they may, and
/// as many sessions 1 MiB.
#[test]
fn promised_lengths() -> Outcome {
    let server = server()?;
    liveness(&server)?;
    let before = resident_mib(&server)?;
    let mut held = Vec::new();
    for number in 0..1_000 {
        let mut stream = if number % 10 == 0 {
            RawSocket::join(tcp(server.listen)?, 15, "realm1")?
        } else {
            RawSocket::open(tcp(server.listen)?, 15)?
        };
        let length: u32 = if number % 10 == 0 { 1 << 20 } else { 64 << 10 };
        let [_, a, b, c] = length.to_be_bytes();
        stream.send_raw(&[0, a, b, c, b'['])?;
        held.push(stream);
    }
    liveness(&server)?;
    let after = resident_mib(&server)?;
    ensure!(after < before + 48, "grew from {before} to {after} MiB");
    // More than a stranger may send, or anybody.
    for prefix in [[0, 1, 0, 1], [8, 0, 0, 0], [0, 0xFF, 0xFF, 0xFF]] {
        let mut stream = RawSocket::open(tcp(server.listen)?, 15)?;
        stream.send_raw(&prefix)?;
        ensure!(stream.receive_frame().is_err(), "{prefix:x?} was awaited");
    }
    drop(held);
    liveness(&server)
}

/// Every type and bit of a prefix in a session, and PINGs without end.
#[test]
fn frames() -> Outcome {
    let server = server()?;
    for first in 0..=255_u8 {
        let mut session = RawSocket::join(tcp(server.listen)?, 15, "realm1")?;
        session.send_raw(&[first, 0, 0, 1, b'['])?;
        if first == 1 {
            ensure!(session.receive_frame()? == (2, b"[".to_vec()), "no PONG");
        }
    }
    let mut flood = RawSocket::join(tcp(server.listen)?, 15, "realm1")?;
    let before = resident_mib(&server)?;
    flood.give_up_after(std::time::Duration::from_millis(500))?;
    // Nobody reads the PONGs, so that the router stops to read.
    while flood.send_frame(1, &[7; 60_000]).is_ok() {}
    let after = resident_mib(&server)?;
    ensure!(after < before + 64, "grew from {before} to {after} MiB");
    liveness(&server)
}

/// Long-poll requests as they should not be, and more sessions than there is room for.
#[test]
fn long_polls() -> Outcome {
    let server = Server::start(
        Options::default()
            .memory()
            .config("[limits]\nmax_longpoll_sessions = 50\n"),
    )?;
    let ask = |head: &str, body: &str| -> anyhow::Result<String> {
        let mut stream = tcp(server.listen)?;
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        Ok(String::from_utf8_lossy(&rest(stream)).into_owned())
    };
    let open = r#"{"protocols":["wamp.2.json"]}"#;
    let mut ids = Vec::new();
    for number in 0..60 {
        let answer = ask("POST /lp/open", open)?;
        let status = if number < 50 { "200" } else { "503" };
        ensure!(answer.contains(status), "{number}: {answer}");
        let id = answer.split_once(r#""transport":""#);
        ids.extend(id.and_then(|(_, id)| Some(id.get(..32)?.to_owned())));
    }
    for (head, body, status) in [
        ("POST /lp/open", "\u{0}", "400"),
        ("POST /lp/%00/send", "[1]", "404"),
        ("DELETE /lp/open", "", "405"),
        ("POST /lp/../metrics", "", "404"),
    ] {
        let answer = ask(head, body)?;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
    }
    for id in &ids {
        let answer = ask(&format!("POST /lp/{id}/send"), &"[".repeat(60_000))?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    // A body that is promised and does not come, and a poll whose client goes.
    let mut held = Vec::new();
    for id in ids.iter().cycle().take(200) {
        let mut stream = tcp(server.listen)?;
        write!(
            stream,
            "POST /lp/{id}/send HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n["
        )?;
        held.push(stream);
        let mut gone = tcp(server.listen)?;
        write!(
            gone,
            "POST /lp/{id}/receive HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )?;
    }
    liveness(&server)
}
