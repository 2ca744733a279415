//! WAMP over HTTP requests, with a real server.

mod support;

use reynard::Server;
use reynard::config::{Config, ListenerKind};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{Socket, http, http_bytes, in_memory, soon, status_of};

async fn start(config: &Config) -> (Server, SocketAddr) {
    let server = soon(Server::start(config)).await.expect("start");
    let address = server.addresses(ListenerKind::Universal).next();
    (server, address.expect("an address"))
}

/// Status and body of a POST.
async fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let (status, body) = post_bytes(address, path, body.as_bytes()).await;
    (status, String::from_utf8(body).expect("text"))
}

async fn post_bytes(address: SocketAddr, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let answer = http_bytes(address, &[head.as_bytes(), body].concat()).await;
    let blank = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, body) = answer.split_at(blank.expect("a blank line") + 4);
    (status_of(&String::from_utf8_lossy(head)), body.to_vec())
}

/// One client.
struct Poller {
    address: SocketAddr,
    base: String,
}

impl Poller {
    async fn open(address: SocketAddr, protocol: &str) -> Poller {
        let body = json!({"protocols": ["wamp.9", protocol]}).to_string();
        let (status, answer) = post(address, "/lp/open", &body).await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["protocol"], protocol);
        let id = answer["transport"].as_str().expect("an id");
        Poller {
            address,
            base: format!("/lp/{id}"),
        }
    }

    async fn join(address: SocketAddr) -> Poller {
        let poller = Poller::open(address, "wamp.2.json").await;
        let roles =
            json!({"roles": {"caller": {}, "subscriber": {}, "publisher": {}, "callee": {}}});
        poller.say(&json!([1, "realm1", roles])).await;
        assert_eq!(poller.hear().await[0], 2);
        poller
    }

    async fn ask(&self, what: &str, body: &str) -> (u16, String) {
        post(self.address, &format!("{}/{what}", self.base), body).await
    }

    async fn ask_bytes(&self, what: &str, body: &[u8]) -> (u16, Vec<u8>) {
        post_bytes(self.address, &format!("{}/{what}", self.base), body).await
    }

    async fn close(&self) {
        assert_eq!(self.ask("close", "").await, (202, String::new()));
    }

    async fn say(&self, message: &Value) {
        let (status, answer) = self.ask("send", &message.to_string()).await;
        assert_eq!((status, answer.as_str()), (202, ""));
    }

    async fn hear(&self) -> Value {
        loop {
            let (status, answer) = self.ask("receive", "").await;
            match status {
                200 => return serde_json::from_str(&answer).expect("JSON"),
                202 => {}
                _ => panic!("{status} {answer}"),
            }
        }
    }
}

#[tokio::test]
async fn a_session_from_open_to_close() {
    let (server, address) = start(&in_memory()).await;
    let poller = Poller::join(address).await;
    let (mut other, _) = Socket::wamp(address, "/wamp").await;
    poller.say(&json!([32, 1, {}, "t"])).await;
    assert_eq!(poller.hear().await[0], 33);
    for number in 0..3 {
        other.say(&json!([16, 1, {}, "t", [number]])).await;
    }
    for number in 0..3 {
        assert_eq!(poller.hear().await[4], json!([number]));
    }
    poller.say(&json!([6, {}, "wamp.close.close_realm"])).await;
    assert_eq!(poller.hear().await[2], "wamp.close.goodbye_and_out");
    poller.close().await;
    until_gone(&poller).await;
    assert_eq!(sessions(&server), 1);
    soon(server.shutdown()).await;
}

/// Waits until the router has forgotten a transport.
async fn until_gone(poller: &Poller) {
    soon(async {
        while poller.ask("send", "[]").await.0 != 404 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for what in ["receive", "send", "close"] {
        assert_eq!(poller.ask(what, "[]").await.0, 404, "{what}");
    }
}

fn sessions(server: &Server) -> usize {
    let sizes = server.router().hub().stats().sizes;
    let found = sizes.iter().find(|(name, _)| *name == "sessions");
    found.map_or(0, |(_, size)| *size)
}

#[tokio::test]
async fn batches_bring_and_take_several_messages() {
    let (server, address) = start(&in_memory()).await;
    let poller = Poller::open(address, "wamp.2.json.batched").await;
    let hello = r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#;
    assert_eq!(poller.ask("send", &format!("{hello}\u{1e}")).await.0, 202);
    let (status, welcome) = poller.ask("receive", "").await;
    assert!(status == 200 && welcome.starts_with("[2,") && welcome.ends_with('\u{1e}'));
    let both = "[32,1,{},\"a\"]\u{1e}[32,2,{},\"b\"]\u{1e}";
    assert_eq!(poller.ask("send", both).await.0, 202);
    let (_, answers) = poller.ask("receive", "").await;
    let answers: Vec<&str> = answers.split_terminator('\u{1e}').collect();
    assert_eq!(answers, ["[33,1,1]", "[33,2,2]"]);
    for bad in ["", "[32,3,{},\"c\"]", "\u{1e}"] {
        assert_eq!(poller.ask("send", bad).await.0, 400, "{bad:?}");
    }
    poller.close().await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn batches_of_cbor_go_both_ways() {
    let (server, address) = start(&in_memory()).await;
    let poller = Poller::open(address, "wamp.2.cbor.batched").await;
    let batch = |messages: &[&[u8]]| {
        let lengths = messages.iter().map(|message| u32::try_from(message.len()));
        let with_length = lengths.zip(messages);
        with_length.fold(Vec::new(), |mut batch, (length, message)| {
            batch.extend(length.expect("short").to_be_bytes());
            batch.extend_from_slice(message);
            batch
        })
    };
    let hello = batch(&[b"\x83\x01\x66realm1\xa1\x65roles\xa1\x6asubscriber\xa0"]);
    assert_eq!(poller.ask_bytes("send", &hello).await.0, 202);
    let (status, welcome) = poller.ask_bytes("receive", b"").await;
    assert_eq!((status, &welcome[4..6]), (200, &b"\x83\x02"[..]));
    // [32, 1, {}, "a"] and [32, 2, {}, "b"]
    let both = batch(&[b"\x84\x18\x20\x01\xa0\x61a", b"\x84\x18\x20\x02\xa0\x61b"]);
    assert_eq!(poller.ask_bytes("send", &both).await.0, 202);
    let answers = batch(&[b"\x83\x18\x21\x01\x01", b"\x83\x18\x21\x02\x02"]);
    assert_eq!(poller.ask_bytes("receive", b"").await, (200, answers));
    poller.close().await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_the_reason() {
    let (server, address) = start(&in_memory()).await;
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{\"protocols\": []}", 400),
        ("{\"protocols\": [\"wamp.2.xml\"]}", 400),
        ("{\"protocols\": \"wamp.2.json\"}", 400),
    ] {
        assert_eq!(post(address, "/lp/open", body).await.0, status, "{body}");
    }
    assert_eq!(post(address, "/lp/open", &" ".repeat(5_000)).await.0, 413);
    for path in [
        "/lp/x/receive",
        "/lp/x/send",
        "/lp/x/close",
        "/lp/",
        "/lp/open/x",
    ] {
        assert_eq!(post(address, path, "").await.0, 404, "{path}");
    }
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, answer) = http(address, &get("/lp/open")).await;
    assert!(status == 405 && answer.to_lowercase().contains("allow: post"));
    assert_eq!(http(address, &get("/lp")).await.0, 404);

    let poller = Poller::join(address).await;
    assert_eq!(poller.ask("send", "").await.0, 400);
    assert_eq!(poller.ask("send", &"x".repeat((1 << 20) + 1)).await.0, 413);
    // A stranger may bring less.
    let stranger = Poller::open(address, "wamp.2.json").await;
    assert_eq!(
        stranger.ask("send", &"x".repeat((64 << 10) + 1)).await.0,
        413
    );
    // What is said wrongly in WAMP is answered in WAMP.
    poller.say(&json!([999])).await;
    assert_eq!(poller.hear().await[2], "wamp.error.protocol_violation");
    until_gone(&poller).await;
    stranger.close().await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_poll_is_held_and_then_answered_with_nothing() {
    let mut config = in_memory();
    config.limits.longpoll_hold_secs = 1;
    let (server, address) = start(&config).await;
    let poller = Poller::join(address).await;
    let begin = Instant::now();
    assert_eq!(poller.ask("receive", "").await, (202, String::new()));
    assert!(begin.elapsed() >= Duration::from_millis(900));
    poller.close().await;
    soon(server.shutdown()).await;
    config.limits.longpoll_no_content = true;
    let (server, address) = start(&config).await;
    let poller = Poller::open(address, "wamp.2.json").await;
    assert_eq!(poller.ask("receive", "").await.0, 204);
    assert_eq!(poller.ask("close", "").await.0, 204);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_client_that_polls_no_more_loses_its_session() {
    let mut config = in_memory();
    // Half of this is as long as a poll is held.
    config.limits.ping_after_secs = 1;
    config.limits.dead_after_secs = 6;
    let (server, address) = start(&config).await;
    let (lost, alive) = (Poller::join(address).await, Poller::join(address).await);
    lost.say(&json!([64, 1, {}, "p"])).await;
    assert_eq!(lost.hear().await[0], 65);
    soon(async {
        while sessions(&server) > 1 {
            assert_eq!(alive.ask("receive", "").await.0, 202);
        }
    })
    .await;
    // Three more holds are longer than that, and who polls is still there.
    for _ in 0..3 {
        assert_eq!(alive.ask("receive", "").await.0, 202);
    }
    alive.say(&json!([64, 1, {}, "p"])).await;
    assert_eq!(alive.hear().await[0], 65, "the procedure is free");
    alive.close().await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded() {
    let mut config = in_memory();
    config.limits.max_longpoll_sessions = 1;
    let (server, address) = start(&config).await;
    let only = Poller::join(address).await;
    let body = "{\"protocols\": [\"wamp.2.json\"]}";
    assert_eq!(post(address, "/lp/open", body).await.0, 503);
    only.ask("close", "").await;
    until_gone(&only).await;
    assert_eq!(post(address, "/lp/open", body).await.0, 200);
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn of_two_polls_one_is_let_go_and_the_other_gets_what_comes_later() {
    let (server, address) = start(&in_memory()).await;
    let poller = Poller::join(address).await;
    let mut first = Box::pin(soon(poller.ask("receive", "")));
    let mut second = Box::pin(soon(poller.ask("receive", "")));
    let (let_go, waiting) = tokio::select! {
        answer = &mut first => (answer, second),
        answer = &mut second => (answer, first),
    };
    assert_eq!(let_go, (202, String::new()));
    let subscribe = json!([32, 1, {}, "t"]);
    let (heard, ()) = tokio::join!(waiting, poller.say(&subscribe));
    assert_eq!(heard, (200, "[33,1,1]".to_owned()));
    poller.close().await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_drain_says_goodbye_to_those_who_poll_and_waits_for_them() {
    let (server, address) = start(&in_memory()).await;
    let poller = Poller::join(address).await;
    let router = server.router().clone();
    let shutdown = tokio::spawn(server.shutdown());
    assert_eq!(poller.hear().await[2], "wamp.close.system_shutdown");
    let body = "{\"protocols\": [\"wamp.2.json\"]}";
    assert_eq!(post(address, "/lp/open", body).await.0, 503);
    poller
        .say(&json!([6, {}, "wamp.close.goodbye_and_out"]))
        .await;
    soon(router.connections_ended()).await;
    soon(shutdown).await.expect("no panic");
}
