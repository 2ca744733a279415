//! `$SYS/broker` over real sockets: what each realm is told of itself.

mod support;

use reynard::Server;
use reynard::config::{Config, ListenerKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{MQTT_CONNACK, MQTT_CONNECT, Socket, in_memory, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn serve(sys_interval_secs: u32) -> Server {
    let mut config: Config = in_memory();
    config.mqtt.sys_interval_secs = sys_interval_secs;
    soon(Server::start(&config)).await.expect("a server")
}

/// Asks for everything below `$SYS`, and reads until `wanted` are there.
async fn listen(socket: &mut Socket, wanted: usize) -> BTreeMap<String, (Value, bool)> {
    let options = json!({"match": "prefix", "retained": true});
    socket.say(&json!([32, 1, options, "$SYS"])).await;
    assert_eq!(socket.hear().await[0], 33);
    let mut seen = BTreeMap::new();
    while seen.len() < wanted {
        let event = socket.hear().await;
        let topic = event[3]["topic"].as_str().expect("a topic").to_owned();
        let retained = event[3]["retained"] == json!(true);
        seen.insert(topic, (event[4][0].clone(), retained));
    }
    seen
}

#[tokio::test]
async fn the_default_realm_is_told_of_the_router_and_others_of_themselves() {
    let server = serve(1).await;
    let address = server
        .addresses(ListenerKind::Universal)
        .next()
        .expect("one");
    let (mut socket, _) = Socket::wamp(address, "/wamp").await;
    let seen = listen(&mut socket, 24).await;
    let (version, _) = &seen["$SYS.broker.version"];
    assert!(
        version
            .as_str()
            .expect("text")
            .starts_with("reynard version ")
    );
    let (uptime, _) = &seen["$SYS.broker.uptime"];
    assert!(uptime.as_str().expect("text").ends_with(" seconds"));
    assert_eq!(seen["$SYS.broker.clients.connected"].0, json!(1));
    assert!(seen["$SYS.broker.bytes.received"].0.as_u64() > Some(0));

    let mut other = Socket::open(address, "/wamp", "wamp.2.json").await;
    other
        .say(&json!([1, "other", {"roles": {"subscriber": {}}}]))
        .await;
    assert_eq!(other.hear().await[0], 2);
    let seen = listen(&mut other, 22).await;
    assert_eq!(seen["$SYS.broker.clients.connected"].0, json!(1));
    let names: Vec<&String> = seen.keys().collect();
    assert!(
        !names.iter().any(|name| name.contains("broker.bytes")),
        "{names:?}"
    );
    drop((socket, other));
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn an_mqtt_client_is_shown_status_as_retained_messages() {
    let server = serve(1).await;
    let address = server.addresses(ListenerKind::Mqtt).next().expect("one");
    let mut first = connect(address).await;
    // The realm exists from here on; the values are there when somebody waited for them once.
    subscribe(&mut first, "$SYS/broker/version").await;
    let (topic, _, _) = hear(&mut first).await;
    assert_eq!(topic, "$SYS/broker/version");
    let mut second = connect_as(address, b'b').await;
    subscribe(&mut second, "$SYS/broker/version").await;
    let (topic, text, retained) = hear(&mut second).await;
    assert_eq!(topic, "$SYS/broker/version");
    assert!(text.starts_with("reynard version "), "{text}");
    assert!(retained);
    drop((first, second));
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn nothing_is_said_when_it_is_switched_off() {
    let server = serve(0).await;
    let address = server.addresses(ListenerKind::Mqtt).next().expect("one");
    let mut client = connect(address).await;
    subscribe(&mut client, "$SYS/broker/version").await;
    // PINGREQ: nothing comes before its answer.
    client.write_all(b"\xc0\0").await.expect("send");
    let mut answer = [0; 2];
    soon(client.read_exact(&mut answer)).await.expect("read");
    assert_eq!(&answer, b"\xd0\0");
    let cells = server.router().hub().realms();
    assert!(cells[0].inspect(|realm| realm.wants_status()));
    drop(client);
    soon(server.shutdown()).await;
}

async fn connect(address: std::net::SocketAddr) -> TcpStream {
    connect_as(address, b'a').await
}

async fn connect_as(address: std::net::SocketAddr, id: u8) -> TcpStream {
    let mut socket = soon(TcpStream::connect(address)).await.expect("connect");
    let mut packet = MQTT_CONNECT.to_vec();
    *packet.last_mut().expect("a client id") = id;
    socket.write_all(&packet).await.expect("send");
    let mut answer = [0; 4];
    soon(socket.read_exact(&mut answer)).await.expect("read");
    assert_eq!(answer, *MQTT_CONNACK);
    socket
}

async fn subscribe(socket: &mut TcpStream, filter: &str) {
    let length = u8::try_from(filter.len()).expect("short");
    let mut packet = vec![0x82, length + 5, 0, 1, 0, length];
    packet.extend_from_slice(filter.as_bytes());
    packet.push(0);
    socket.write_all(&packet).await.expect("send");
    let mut answer = [0; 5];
    soon(socket.read_exact(&mut answer)).await.expect("read");
    assert_eq!(answer, [0x90, 3, 0, 1, 0]);
}

/// One QoS 0 PUBLISH: topic, text, retain flag.
async fn hear(socket: &mut TcpStream) -> (String, String, bool) {
    let mut head = [0; 2];
    soon(socket.read_exact(&mut head)).await.expect("read");
    assert_eq!(head[0] & 0xfe, 0x30);
    assert!(head[1] < 128, "a short packet");
    let mut rest = vec![0; usize::from(head[1])];
    soon(socket.read_exact(&mut rest)).await.expect("read");
    let length = usize::from(rest[1]);
    let topic = String::from_utf8(rest[2..2 + length].to_vec()).expect("text");
    let text = String::from_utf8(rest[2 + length..].to_vec()).expect("text");
    (topic, text, head[0] & 1 == 1)
}
