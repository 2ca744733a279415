//! The server over real sockets: what it says of itself, what it refuses, how it starts and ends.

mod support;

use reynard::config::{Config, DataStore, ListenerKind};
use reynard::{Server, StartError};
use std::net::SocketAddr;
use std::path::Path;
use support::{MQTT_CONNACK, MQTT_CONNECT, RawSocket, Socket, free, get, http, in_memory, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade, close\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn start(config: &Config) -> (Server, SocketAddr) {
    let server = soon(Server::start(config)).await.expect("start");
    let address = server
        .addresses(ListenerKind::Universal)
        .next()
        .expect("a universal listener");
    (server, address)
}

fn on_disk(directory: &Path) -> Config {
    Config {
        data: DataStore::Directory(directory.to_owned()),
        ..in_memory()
    }
}

async fn refusal(config: &Config) -> StartError {
    soon(Server::start(config))
        .await
        .expect_err("the server must not start")
}

#[tokio::test]
async fn the_ready_line_tells_real_ports_realm_data_and_process() {
    let mut config = in_memory();
    config.default_realm = "com.example".to_owned();
    config.listeners.push(free(ListenerKind::Universal));
    let (server, _) = start(&config).await;
    let universal: Vec<_> = server.addresses(ListenerKind::Universal).collect();
    let mqtt = server.addresses(ListenerKind::Mqtt).next().unwrap();
    assert!(universal.len() == 2 && universal.iter().all(|address| address.port() != 0));
    let expected = format!(
        "reynard ready listen={},{} mqtt={mqtt} realm=com.example data=memory pid={}",
        universal[0],
        universal[1],
        std::process::id()
    );
    assert_eq!(server.ready_line(), expected);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn the_ready_line_says_what_is_off_and_where_data_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = on_disk(directory.path());
    config.listeners.truncate(1);
    let (server, address) = start(&config).await;
    let data = directory.path().display();
    let expected = format!("reynard ready listen={address} mqtt=off realm=realm1 data={data} ");
    assert!(
        server.ready_line().starts_with(&expected),
        "{}",
        server.ready_line()
    );
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn health_readiness_and_figures_are_served_and_nothing_else() {
    let (server, address) = start(&in_memory()).await;
    for path in ["/healthz", "/readyz"] {
        let (status, answer) = get(address, path, "").await;
        assert_eq!(status, 200);
        assert!(
            answer.contains("application/json") && answer.contains("\"ok\""),
            "{answer}"
        );
    }
    let (_, figures) = get(address, "/metrics", "").await;
    assert!(figures.contains("\nreynard_sessions 0\n"), "{figures}");
    let _session = server.router().session("realm1").await.unwrap();
    let (status, figures) = get(address, "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(
        figures.contains("\nreynard_sessions 1\n") && figures.contains("# EOF"),
        "{figures}"
    );
    assert_eq!(get(address, "/nothing", "").await.0, 404);
    assert_eq!(get(address, "/", "").await.0, 404);
    let post =
        "POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(http(address, post).await.0, 405);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn the_figures_tell_how_many_writes_shared_a_sync() {
    let directory = tempfile::TempDir::new().unwrap();
    let (server, address) = start(&on_disk(directory.path())).await;
    let figure = |figures: &str, name: &str| -> u64 {
        let line = figures.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    let session = server.router().session("realm1").await.unwrap();
    let (_, before) = get(address, "/metrics", "").await;
    session.publish("a.b", 1).retain().await.unwrap();
    let (_, after) = get(address, "/metrics", "").await;
    for name in ["reynard_store_syncs_total", "reynard_store_writes_total"] {
        assert!(figure(&after, name) > figure(&before, name), "{after}");
    }
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_draining_server_is_healthy_but_not_ready() {
    let (server, address) = start(&in_memory()).await;
    let mut socket = soon(TcpStream::connect(address)).await.unwrap();
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut buffer = [0; 4096];
    socket.write_all(ask("/readyz").as_bytes()).await.unwrap();
    let read = soon(socket.read(&mut buffer)).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
    // Half a request keeps the connection; it is answered after the drain has begun.
    socket.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
    server.router().hub().start_drain();
    socket.write_all(b"Host: x\r\n\r\n").await.unwrap();
    let read = soon(socket.read(&mut buffer)).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 503"));
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn whoever_asks_during_the_drain_is_told() {
    let (server, address) = start(&in_memory()).await;
    server.router().start_drain();
    assert_eq!(get(address, "/healthz", "").await.0, 200);
    assert_eq!(get(address, "/readyz", "").await.0, 503);
    soon(server.shutdown()).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn upgrades_are_refused_with_the_reason() {
    let (server, address) = start(&in_memory()).await;
    for path in ["/wamp", "/ws", "/mqtt"] {
        let (status, answer) = get(address, path, "").await;
        assert_eq!(status, 426, "{path}");
        let answer = answer.to_ascii_lowercase();
        assert!(
            answer.contains("upgrade: websocket") && answer.contains("version: 13"),
            "{answer}"
        );
        assert_eq!(
            get(address, path, UPGRADE).await.0,
            400,
            "{path} without subprotocol"
        );
    }
    let with = |subprotocol: &str| format!("{UPGRADE}Sec-WebSocket-Protocol: {subprotocol}\r\n");
    assert_eq!(get(address, "/wamp", &with("wamp.9.xml")).await.0, 400);
    assert_eq!(get(address, "/wamp", &with("mqtt")).await.0, 400);
    assert_eq!(get(address, "/mqtt", &with("wamp.2.json")).await.0, 400);
    let old = with("wamp.2.json").replace("Version: 13", "Version: 8");
    assert_eq!(get(address, "/wamp", &old).await.0, 426);
    let no_key = with("wamp.2.json").replace("Sec-WebSocket-Key", "X-Key");
    assert_eq!(get(address, "/wamp", &no_key).await.0, 400);
    let request = format!(
        "POST /wamp HTTP/1.1\r\nHost: x\r\n{}\r\n",
        with("wamp.2.json")
    );
    assert_eq!(http(address, &request).await.0, 405);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn the_first_subprotocol_of_the_client_that_is_served_is_spoken() {
    let (server, address) = start(&in_memory()).await;
    let offered = "wamp.9.xml, wamp.2.cbor.batched, wamp.2.json";
    let mut socket = Socket::offering(address, "/wamp", offered, "wamp.2.cbor.batched").await;
    socket
        .send(b"\0\0\0\x19\x83\x01\x66realm1\xa1\x65roles\xa1\x66caller\xa0")
        .await;
    let welcome = socket.receive().await;
    assert_eq!(welcome[4..6], [0x83, 0x02]);
    let mut socket = Socket::open(address, "/wamp", "wamp.2.cbor").await;
    socket
        .send(b"\x83\x01\x66realm1\xa1\x65roles\xa1\x66caller\xa0")
        .await;
    assert_eq!(socket.receive().await[..2], [0x83, 0x02]);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn every_protocol_is_found_on_the_universal_listener() {
    let (server, address) = start(&in_memory()).await;
    for path in ["/wamp", "/ws", "/"] {
        Socket::wamp(address, path).await;
    }
    let mut socket = Socket::open(address, "/mqtt", "mqtt").await;
    socket.send(MQTT_CONNECT).await;
    assert_eq!(socket.receive().await, MQTT_CONNACK);
    let plain = server.addresses(ListenerKind::Mqtt).next().unwrap();
    for address in [address, plain] {
        let mut socket = soon(TcpStream::connect(address)).await.unwrap();
        socket.write_all(MQTT_CONNECT).await.unwrap();
        let mut connack = [0; 4];
        soon(socket.read_exact(&mut connack)).await.unwrap();
        assert_eq!(connack, MQTT_CONNACK);
    }
    let socket = soon(TcpStream::connect(address)).await.unwrap();
    let mut socket = RawSocket::wamp(socket).await;
    socket.say(&serde_json::json!([32, 1, {}, "t"])).await;
    assert_eq!(socket.hear().await[0], 33);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn garbage_closes_its_connection_and_the_listener_lives() {
    let (server, address) = start(&in_memory()).await;
    let plain = server.addresses(ListenerKind::Mqtt).next().unwrap();
    // Nothing, TLS (not served here), a RawSocket without serializer, control characters, half an
    // HTTP, bad MQTT.
    let garbage: [&[u8]; 7] = [
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\0",
        b"\x7f\xf0\0\0",
        b"\xff\xfe\xfd",
        b"\r\n\r\n",
        b"GARBAGE\0\x01\r\n\r\n",
        b"\x10\x02\xff\xff",
    ];
    for address in [address, plain] {
        for bytes in garbage {
            let mut socket = soon(TcpStream::connect(address)).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            let mut rest = Vec::new();
            // A reset is as good as an end: bytes that nobody read were on their way.
            let _ = soon(socket.read_to_end(&mut rest)).await;
            assert!(
                rest.is_empty() || rest.starts_with(b"HTTP/1.1 400") || rest == b"\x7f\x10\0\0",
                "{bytes:?}: {rest:?}"
            );
        }
    }
    assert_eq!(get(address, "/healthz", "").await.0, 200);
    Socket::wamp(address, "/wamp").await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn half_a_handshake_is_not_waited_for() {
    let mut config = in_memory();
    config.limits.login_timeout_secs = 1;
    let (server, address) = start(&config).await;
    for bytes in [&b"\x7f"[..], b"\x7f\xf1\0"] {
        let mut socket = soon(TcpStream::connect(address)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        soon(socket.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_drain_says_goodbye_everywhere_and_returns() {
    let (server, address) = start(&in_memory()).await;
    let plain = server.addresses(ListenerKind::Mqtt).next().unwrap();
    let (mut wamp, _) = Socket::wamp(address, "/wamp").await;
    let mut mqtt = soon(TcpStream::connect(plain)).await.unwrap();
    mqtt.write_all(MQTT_CONNECT).await.unwrap();
    let mut connack = [0; 4];
    soon(mqtt.read_exact(&mut connack)).await.unwrap();
    let inside = server.router().session("realm1").await.unwrap();
    let mut idle = soon(TcpStream::connect(address)).await.unwrap();
    let router = server.router().clone();

    let shutdown = tokio::spawn(server.shutdown());
    let goodbye = wamp.hear().await;
    assert_eq!(
        (&goodbye[0], &goodbye[2]),
        (&6.into(), &"wamp.close.system_shutdown".into())
    );
    wamp.say(&serde_json::json!([6, {}, "wamp.close.goodbye_and_out"]))
        .await;
    wamp.until_closed().await;
    // MQTT 3.1.1 has no word for it; the connection just ends.
    assert_eq!(soon(mqtt.read(&mut connack)).await.unwrap(), 0);
    assert_eq!(
        soon(inside.ended()).await,
        reynard::session::SessionEnd::Shutdown
    );
    // A socket that never said anything is not waited for longer than the login may take.
    idle.shutdown().await.unwrap();
    soon(shutdown).await.unwrap();

    assert!(router.session("realm1").await.is_err());
    assert!(soon(TcpStream::connect(address)).await.is_err());
    soon(router.connections_ended()).await;
}

#[tokio::test]
async fn an_address_in_use_is_exit_code_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = in_memory();
    config.listeners[0].bind = address.into();
    let error = refusal(&config).await;
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_data_directory_that_is_a_file_is_exit_code_3() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = refusal(&on_disk(file.path())).await;
    assert_eq!(error.exit_code(), 3);
    let path = file.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
}

#[tokio::test]
async fn a_data_directory_in_use_is_exit_code_3_until_it_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let config = on_disk(directory.path());
    let (first, address) = start(&config).await;
    let error = refusal(&config).await;
    assert_eq!(error.exit_code(), 3);
    let path = directory.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
    // The first one did not notice, and what it keeps is there for its successor.
    assert_eq!(get(address, "/readyz", "").await.0, 200);
    let session = first.router().session("realm1").await.unwrap();
    let token = session.kv().put("app.kept", 7).await.unwrap();
    drop(session);
    soon(first.shutdown()).await;

    let (second, _) = start(&config).await;
    let session = second.router().session("realm1").await.unwrap();
    let entry = session.kv().get("app.kept").await.unwrap();
    assert_eq!((entry.value, entry.token), (7.into(), token));
    assert!(session.kv().put("app.kept", 8).await.unwrap() > token);
    drop(session);
    soon(second.shutdown()).await;
}

#[tokio::test]
async fn a_data_directory_of_the_other_engine_is_exit_code_3_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = on_disk(directory.path());
    config.storage_engine = storage::EngineKind::Redb;
    let (first, _) = start(&config).await;
    soon(first.shutdown()).await;
    let error = refusal(&on_disk(directory.path())).await;
    assert_eq!(error.exit_code(), 3);
    let text = error.to_string();
    for part in ["`redb`", "reynard storage migrate", "--to sled"] {
        assert!(text.contains(part), "{text}");
    }
}
