//! The program as its user types it: ready line, exit codes, configuration, pages.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::command::{Finished, run, signal};
use integration_tests::measure::process;
use integration_tests::mqtt::{Client, Connect};
use integration_tests::server::run_binary;
use integration_tests::wamp::{Session, code, hello, roles};
use integration_tests::{Options, Server, http};
use serde_json::json;
use tempfile::TempDir;

use crate::Outcome;

fn ended(args: &[&str], expected: i32) -> Result<Finished> {
    let finished = run_binary(args)?;
    ensure!(finished.code() == Some(expected), "{args:?}: {finished:?}");
    Ok(finished)
}

/// Stderr without the colours of the terminal.
fn says(finished: &Finished, part: &str) -> Outcome {
    ensure!(
        finished.stderr.contains(part),
        "no {part:?} in\n{}",
        finished.stderr
    );
    Ok(())
}

/// ADR 0019.
#[test]
fn no_huge_pages_are_asked_for() -> Outcome {
    let server = Server::new()?;
    // A line that older kernels lack.
    if let Some(enabled) = process::status(server.pid(), "THP_enabled")? {
        ensure!(enabled == "0", "{enabled}");
    }
    Ok(())
}

#[test]
fn the_ready_line() -> Outcome {
    let mut server = Server::new()?;
    let parts: Vec<&str> = server.ready.split(' ').collect();
    let names: Vec<&str> = parts
        .iter()
        .map(|part| part.split('=').next().unwrap_or_default())
        .collect();
    ensure!(
        names == ["reynard", "ready", "listen", "mqtt", "realm", "data", "pid"],
        "{parts:?}"
    );
    ensure!(
        server.ready.ends_with(&format!(" pid={}", server.pid())),
        "{}",
        server.ready
    );
    ensure!(server.ready.contains(" realm=realm1 "), "{}", server.ready);
    let data = format!(" data={} ", server.data_dir().display());
    ensure!(server.ready.contains(&data), "{}", server.ready);
    ensure!(
        server.listen.port() != 0 && server.mqtt_addr()?.port() != 0,
        "{}",
        server.ready
    );
    ensure!(server.stop()? == Some(0), "exit code");
    ensure!(
        server.extra_output().is_empty(),
        "more than one line on stdout"
    );
    Ok(())
}

#[test]
fn memory_and_mqtt_off() -> Outcome {
    let options = Options::default().memory().arg("--mqtt").arg("off");
    let options = options
        .arg("--listen")
        .arg("127.0.0.1:0")
        .arg("--listen")
        .arg("127.0.0.1:0");
    let server = Server::start(options.arg("--realm").arg("home"))?;
    ensure!(server.mqtt.is_none(), "{}", server.ready);
    ensure!(
        server.ready.contains(" mqtt=off realm=home data=memory "),
        "{}",
        server.ready
    );
    let listeners = server
        .ready
        .split(' ')
        .find_map(|part| part.strip_prefix("listen="));
    let addresses: Vec<&str> = listeners.unwrap_or_default().split(',').collect();
    ensure!(addresses.len() == 2, "{}", server.ready);
    // Every universal listener takes MQTT as well, in the default realm.
    let mut device = Client::connect(addresses[1].parse()?, &Connect::v4("device"))?;
    device.subscribe("a", 0)?;
    let mut session = Session::join(addresses[0].parse()?, "home")?;
    session.publish("a", json!([1]), json!({}), json!({}))?;
    ensure!(device.message()?.payload == b"1", "the realms differ");
    Ok(())
}

#[test]
fn the_universal_listener_speaks_everything() -> Outcome {
    let server = Server::new()?;
    for path in ["/wamp", "/ws", "/"] {
        let mut socket =
            integration_tests::websocket::WebSocket::connect(server.listen, path, "wamp.2.json")?;
        socket.send_text(&json!([1, "realm1", roles()]).to_string())?;
        let answer = integration_tests::wamp::receive(&mut socket)?;
        ensure!(answer[0] == code::WELCOME, "{path}: {answer}");
    }
    Client::connect(server.listen, &Connect::v5("device"))?.disconnect()?;
    Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?.disconnect()
}

#[test]
fn pages() -> Outcome {
    let server = Server::new()?;
    for path in ["/healthz", "/readyz"] {
        let page = http::get(server.listen, path)?;
        ensure!(page.status == 200, "{path}: {page:?}");
        serde_json::from_str::<serde_json::Value>(&page.body).with_context(|| page.body.clone())?;
    }
    let page = http::get(server.listen, "/metrics")?;
    ensure!(
        page.status == 200 && page.head.to_lowercase().contains("text"),
        "{page:?}"
    );
    ensure!(
        page.body.lines().any(|line| line.starts_with("# TYPE ")),
        "{}",
        page.body
    );
    for path in ["/nonsense", "/wampx", "/metrics/x", "/%00"] {
        let page = http::get(server.listen, path)?;
        ensure!(page.status == 404, "{path}: {page:?}");
    }
    Ok(())
}

#[test]
fn wrong_arguments() -> Outcome {
    for args in [
        &["--nonsense"][..],
        &["serve", "--listen", "nowhere"],
        &["serve", "--listen"],
        &["serve", "--mqtt", "sometimes"],
        &["serve", "--config", "/does/not/exist.toml"],
        &["check", "-c", "/does/not/exist.toml"],
        &["dance"],
    ] {
        let finished = ended(args, 2)?;
        ensure!(!finished.stderr.is_empty(), "{args:?} fails in silence");
        ensure!(finished.stdout.is_empty(), "{args:?}: {}", finished.stdout);
    }
    ended(&["--help"], 0)?;
    ended(&["--version"], 0)?;
    Ok(())
}

#[test]
fn exposure_needs_consent() -> Outcome {
    for flag in ["--listen", "--mqtt"] {
        let finished = ended(&["serve", "--memory", flag, "0.0.0.0:0"], 2)?;
        says(&finished, "--insecure")?;
    }
    let options = Options::default()
        .memory()
        .arg("--listen")
        .arg("0.0.0.0:0")
        .arg("--insecure");
    let server = Server::start(options)?;
    ensure!(server.ready.contains("listen=0.0.0.0:"), "{}", server.ready);
    Ok(())
}

#[test]
fn an_address_in_use() -> Outcome {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?.to_string();
    for (flag, other) in [("--listen", "--mqtt"), ("--mqtt", "--listen")] {
        let finished = ended(&["serve", "--memory", flag, &addr, other, "127.0.0.1:0"], 1)?;
        says(&finished, &addr)?;
    }
    Ok(())
}

#[test]
fn configuration_errors_name_the_place() -> Outcome {
    let cases = [
        ("data_dir = 5\n", 1, "data_dir"),
        (
            "default_realm = \"realm1\"\nnonsense = true\n",
            2,
            "nonsense",
        ),
        ("[mqtt]\nreceive_maximum = 0\n", 2, "receive_maximum"),
        ("[[listener]]\nbind = \"nowhere\"\n", 2, "nowhere"),
        (
            "[[listener]]\nkind = \"carrier pigeon\"\nbind = \"127.0.0.1:0\"\n",
            2,
            "carrier pigeon",
        ),
        ("[[realm]]\nname = \"no spaces\"\n", 2, "no spaces"),
        (
            "[[realm]]\nname = \"r\"\n[[realm.role]]\nname = \"x\"\nallow = [\"fly #\"]\n",
            5,
            "fly",
        ),
        (
            "[[realm]]\nname = \"r\"\n[[realm.role]]\nname = \"x\"\ndeny = [\"publish a.#.b\"]\n",
            5,
            "a.#.b",
        ),
        ("[[realm]\nname = \"r\"\n", 1, ""),
    ];
    let dir = TempDir::new()?;
    let path = dir.path().join("bad.toml");
    let path = path.to_str().context("path")?;
    for (toml, line, what) in cases {
        std::fs::write(path, toml)?;
        for command in ["check", "serve"] {
            let finished = ended(&[command, "-c", path], 2)?;
            says(&finished, &format!("bad.toml:{line}:")).with_context(|| toml.to_owned())?;
            says(&finished, what)?;
        }
    }
    Ok(())
}

#[test]
fn check_accepts_what_serve_accepts() -> Outcome {
    let toml = r#"
        data_dir = "./somewhere"
        default_realm = "home"
        auto_realms = true
        [[listener]]
        bind = "127.0.0.1:0"
        [[listener]]
        kind = "mqtt"
        bind = "127.0.0.1:0"
        [[realm]]
        name = "home"
        [[realm.user]]
        authid = "joe"
        role = "user"
        secret = "joe-secret"
        [[realm.role]]
        name = "anonymous"
        allow = ["publish #", "subscribe #", "call #", "register #"]
        deny = ["subscribe test/nosubscribe", "publish sys.#"]
        [realm.anonymous]
        role = "anonymous"
        [mqtt]
        max_keepalive_secs = 0
        receive_maximum = 64
        topic_alias_maximum = 32
        max_packet_bytes = 1048576
        max_queued_messages = 1000
        max_queued_bytes = 8388608
        max_session_expiry_secs = 604800
    "#;
    let dir = TempDir::new()?;
    let path = dir.path().join("good.toml");
    std::fs::write(&path, toml)?;
    ended(&["check", "-c", path.to_str().context("path")?], 0)?;
    let server = Server::start(Options::default().config(toml))?;
    let mut session = Session::join(server.listen, "home")?;
    ensure!(
        session.try_subscribe("test.nosubscribe", json!({}))?[0] == code::ERROR,
        "not denied"
    );
    ensure!(
        !dir.path().join("somewhere").exists(),
        "check has made a data directory"
    );
    Ok(())
}

#[test]
fn the_configured_limits_hold() -> Outcome {
    let toml = "auto_realms = false\n[[realm]]\nname = \"realm1\"\n[realm.anonymous]\nrole = \"any\"\n\
                [mqtt]\nmax_packet_bytes = 2048\nmax_keepalive_secs = 30\nreceive_maximum = 3\n";
    let server = Server::start(Options::default().config(toml))?;
    let (_, answer) = hello(server.listen, "elsewhere", roles())?;
    ensure!(answer[2] == "wamp.error.no_such_realm", "{answer}");
    let mut client = Client::open(server.mqtt_addr()?, 5)?;
    client.send(&Connect::v5("device").encode())?;
    let (_, body) = client.read()?.context("no CONNACK")?;
    // Properties of CONNACK: Receive Maximum 0x21, Server Keep Alive 0x13, Maximum Packet Size 0x27.
    for property in [&[0x21, 0, 3][..], &[0x13, 0, 30], &[0x27, 0, 0, 8, 0]] {
        let there = body.windows(property.len()).any(|part| part == property);
        ensure!(there, "no {property:02x?} in {body:02x?}");
    }
    client.send_publish("a", &[0; 4096], 0, false)?;
    let (first, body) = client.read()?.context("closed without DISCONNECT")?;
    ensure!(
        first == 0xE0 && body.first() == Some(&0x95),
        "{first:#04x} {body:?}"
    );
    Ok(())
}

#[test]
fn a_data_directory_that_cannot_be_opened() -> Outcome {
    let home = TempDir::new()?;
    let file = home.path().join("file");
    std::fs::write(&file, "not a directory")?;
    let serve = |dir: &std::path::Path| -> Result<Finished> {
        let dir = dir.to_str().context("path")?;
        let listen = ["--listen", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
        ended(&[&["serve", "--data-dir", dir], &listen[..]].concat(), 3)
    };
    says(&serve(&file)?, "file")?;

    let dir = home.path().join("locked");
    let running = Server::start(Options::default().data_dir(&dir))?;
    says(&serve(&dir)?, "locked")?;
    drop(running);

    // Damage: every file of a used directory, overwritten in the middle.
    let dir = home.path().join("damaged");
    let mut server = Server::start(Options::default().data_dir(&dir))?;
    let mut session = Session::join(server.listen, "realm1")?;
    for number in 0..50 {
        let text = "x".repeat(500);
        session.publish(
            &format!("k.{number}"),
            json!([text]),
            json!({}),
            json!({"retain": true}),
        )?;
    }
    ensure!(server.stop()? == Some(0), "exit code");
    damage(&dir)?;
    says(&serve(&dir)?, "damaged")
}

fn damage(dir: &std::path::Path) -> Outcome {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            damage(&path)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let len = bytes.len();
        bytes[len / 4..len - len / 4].fill(0xA5);
        std::fs::write(&path, bytes)?;
    }
    Ok(())
}

/// SIGTERM and SIGINT drain: sessions are told, the pages say so, the exit code is 0.
#[test]
fn signals_drain() -> Outcome {
    for name in ["TERM", "INT"] {
        let mut server = Server::new()?;
        let mut session = Session::join(server.listen, "realm1")?;
        let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("device"))?;
        signal(server.pid(), name)?;
        let farewell = session.wait(|message| message[0] == code::GOODBYE)?;
        ensure!(farewell[2] == "wamp.close.system_shutdown", "{farewell}");
        session.send(&json!([code::GOODBYE, {}, "wamp.close.goodbye_and_out"]))?;
        // 0x8B: Server shutting down.
        let (first, body) = device.read()?.context("closed without DISCONNECT")?;
        ensure!(
            first == 0xE0 && body.first() == Some(&0x8B),
            "{first:#04x} {body:?}"
        );
        ensure!(server.wait()? == Some(0), "{name}: exit code");
    }
    Ok(())
}

/// A client that does not answer cannot hold up the end.
#[test]
fn a_second_signal_ends_at_once() -> Outcome {
    let mut server = Server::new()?;
    let mut deaf = Session::join(server.listen, "realm1")?;
    server.terminate()?;
    deaf.wait(|message| message[0] == code::GOODBYE)?;
    // It may have ended by itself meanwhile, which is as good.
    let _ = server.terminate();
    server.wait()?;
    Ok(())
}

#[test]
fn environment_lies_between_flags_and_file() -> Outcome {
    let dir = TempDir::new()?;
    std::fs::write(
        dir.path().join("reynard.toml"),
        "default_realm = \"from-file\"\n",
    )?;
    let mut command = std::process::Command::new(integration_tests::server::binary()?);
    command
        .current_dir(dir.path())
        .env("REYNARD_LISTEN", "nowhere")
        .arg("serve");
    let finished = run(&mut command, Duration::from_secs(30))?;
    ensure!(finished.code() == Some(2), "{finished:?}");
    says(&finished, "nowhere")
}
