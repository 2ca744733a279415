//! WAMP over RawSocket, and everything over a Unix domain socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::mqtt::Connect;
use integration_tests::rawsocket::{RawSocket, tcp, unix};
use integration_tests::server::run_binary;
use integration_tests::wamp::{Session, code};
use integration_tests::{Options, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::Outcome;

/// A server that also listens on a Unix domain socket.
fn with_socket(path: &Path) -> anyhow::Result<Server> {
    let options = Options::default().memory().arg("--listen");
    let options = options.arg("127.0.0.1:0").arg("--listen");
    Server::start(options.arg(format!("unix:{}", path.display())))
}

/// What a library does over one transport reaches a client of another one, and back.
fn works_like_a_websocket(server: &Server, library: Library, url: &str) -> Outcome {
    let mut raw = Agent::join(library, url, "realm1").with_context(|| url.to_owned())?;
    let mut web = Agent::join(Library::WampyJson, &server.wamp_url(), "realm1")?;
    let (args, kwargs) = (json!(["text", 7, [1]]), json!({"name": {"deep": true}}));
    for (from, to) in [(0, 1), (1, 0)] {
        let agents = &mut [&mut raw, &mut web];
        let topic = format!("com.example.from{from}");
        agents[to].ok(json!({"do": "subscribe", "topic": topic}))?;
        agents[from].ok(json!({
            "do": "publish", "topic": topic, "args": args, "kwargs": kwargs,
            "options": {"acknowledge": true}
        }))?;
        let event = agents[to].next("event")?;
        ensure!(
            event["args"] == args && event["kwargs"] == kwargs,
            "{url}: {event}"
        );
        let procedure = format!("com.example.echo{from}");
        agents[to].ok(json!({"do": "register", "procedure": procedure, "endpoint": "echo"}))?;
        let result = agents[from].ok(json!({"do": "call", "procedure": procedure, "args": [1]}))?;
        ensure!(result["args"] == json!([1]), "{url}: {result}");
    }
    Ok(())
}

const PYTHON: [Library; 2] = [Library::AutobahnPythonJson, Library::AutobahnPythonMsgpack];

#[test]
fn autobahn_python_over_rawsocket() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    for library in PYTHON {
        works_like_a_websocket(&server, library, &format!("rs://{}", server.listen))?;
    }
    Ok(())
}

#[test]
fn autobahn_python_over_a_unix_socket() -> Outcome {
    let dir = TempDir::new()?;
    let path = dir.path().join("r.sock");
    let server = with_socket(&path)?;
    for library in PYTHON {
        let url = format!("rs://unix:{}", path.display());
        works_like_a_websocket(&server, library, &url)?;
    }
    Ok(())
}

/// RawSocket, MQTT and HTTP by the first byte; the ready line names the socket, its mode is the
/// owner's alone, and it is gone after the end.
#[test]
fn a_unix_socket_speaks_everything() -> Outcome {
    let dir = TempDir::new()?;
    let path = dir.path().join("r.sock");
    let mut server = with_socket(&path)?;
    let listed = format!("listen={},unix:{} ", server.listen, path.display());
    ensure!(server.ready.contains(&listed), "{}", server.ready);
    let mode = std::fs::metadata(&path)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");

    let mut session = RawSocket::join(unix(&path)?, 15, "realm1")?;
    let subscribed = session.ask(&json!([code::SUBSCRIBE, 1, {}, "from.device"]))?;
    ensure!(subscribed[0] == code::SUBSCRIBED, "{subscribed}");
    let mut device = unix(&path)?;
    device.write_all(&Connect::v4("device").encode())?;
    let mut connack = [0; 4];
    device.read_exact(&mut connack)?;
    ensure!(connack == [0x20, 2, 0, 0], "{connack:x?}");
    device.write_all(b"\x30\x0e\x00\x0bfrom/device7")?;
    let event = session.receive()?;
    ensure!(event[4] == json!([7]), "{event}");
    let mut page = unix(&path)?;
    page.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    page.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut socket = unix(&path)?;
    socket.write_all(
        b"GET /wamp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n",
    )?;
    let mut head = [0; 12];
    socket.read_exact(&mut head)?;
    ensure!(&head == b"HTTP/1.1 101", "{head:?}");

    drop((session, device, page, socket));
    ensure!(server.stop()? == Some(0), "exit code");
    ensure!(!path.exists(), "the socket is still there");
    Ok(())
}

/// A configured mode; a socket that a killed router left; one that is in use; a file.
#[test]
fn what_is_at_the_path_already() -> Outcome {
    let dir = TempDir::new()?;
    let path = dir.path().join("r.sock");
    let at = path.display();
    let toml = format!(
        "memory = true\n[[listener]]\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nbind = \"unix:{at}\"\nmode = \"0660\"\n"
    );
    let config = dir.path().join("r.toml");
    std::fs::write(&config, toml)?;
    // The harness names the TCP listener by a flag, which would replace both.
    let mut server = with_socket(&path)?;
    server.kill()?;
    ensure!(path.exists(), "nothing is left of the killed router");
    let server = with_socket(&path)?;
    UnixStream::connect(&path)?;
    let flag = format!("unix:{at}");
    let args = ["serve", "--memory", "--mqtt", "off", "--listen", &flag];
    let second = run_binary(&args)?;
    ensure!(second.code() == Some(1), "{second:?}");
    ensure!(second.stderr.contains(&flag), "{second:?}");
    RawSocket::join(unix(&path)?, 15, "realm1").context("the first router")?;
    drop(server);
    std::fs::remove_file(&path)?;
    std::fs::write(&path, "a letter")?;
    let third = run_binary(&args)?;
    ensure!(third.code() == Some(1), "{third:?}");
    ensure!(std::fs::read_to_string(&path)? == "a letter", "overwritten");
    let checked = run_binary(&["check", "-c", &config.display().to_string()])?;
    ensure!(checked.code() == Some(0), "{checked:?}");
    ensure!(checked.stdout.contains(&flag), "{checked:?}");
    Ok(())
}

/// Others get the long event, the caller of a long answer an error.
#[test]
fn a_client_gets_no_more_than_it_takes() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut small = RawSocket::join(tcp(server.listen)?, 3, "realm1")?;
    ensure!(small.takes == 1 << 20, "{}", small.takes);
    let subscribed = small.ask(&json!([code::SUBSCRIBE, 1, {}, "t"]))?;
    ensure!(subscribed[0] == code::SUBSCRIBED, "{subscribed}");
    let mut other = Session::join(server.listen, "realm1")?;
    other.publish("t", json!(["x".repeat(5_000)]), json!({}), json!({}))?;
    other.publish("t", json!(["short"]), json!({}), json!({}))?;
    let event = small.receive()?;
    ensure!(
        event[3] == json!({"x_lost": 1}) && event[4] == json!(["short"]),
        "{event}"
    );
    ensure!(server.metric("reynard_wamp_events_too_large_total")? == 1.0);
    let registered = small.ask(&json!([code::REGISTER, 2, {}, "p"]))?;
    ensure!(registered[0] == code::REGISTERED, "{registered}");
    other.send(&json!([code::CALL, 9, {}, "p", ["x".repeat(5_000)]]))?;
    let error = other.reply(9)?;
    ensure!(error[4] == "wamp.error.payload_size_exceeded", "{error}");
    Ok(())
}

/// A stopped client is found out, and its procedure is free again.
#[test]
fn a_silent_client_loses_its_registrations() -> Outcome {
    let toml = "[limits]\nping_after_secs = 1\ndead_after_secs = 2\nrawsocket_pings = true\n";
    let server = Server::start(Options::default().memory().config(toml))?;
    let mut dead = RawSocket::join(tcp(server.listen)?, 15, "realm1")?;
    let registered = dead.ask(&json!([code::REGISTER, 1, {}, "p"]))?;
    ensure!(registered[0] == code::REGISTERED, "{registered}");
    ensure!(dead.receive_frame()? == (1, Vec::new()), "no PING");
    ensure!(
        dead.receive_frame().is_err(),
        "the connection is still there"
    );
    let mut heir = Session::join(server.listen, "realm1")?;
    heir.send(&json!([code::REGISTER, 1, {}, "p"]))?;
    let registered = heir.reply(1)?;
    ensure!(registered[0] == code::REGISTERED, "{registered}");
    Ok(())
}
