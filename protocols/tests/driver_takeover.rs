//! A connection hears out its peer before it gives way to a newer one of its client. Clauses: MQTT
//! 5.0 sections 3.1.4, 3.14.2.2.2 and 3.14.4.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;

use bytes::{Bytes, BytesMut};
use driver_common::{DEADLINE, Server, bytes_of, connect, disconnect, settle, until};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use protocols::mqtt::packet::{Packet, Publish, QoS, Secret};
use protocols::mqtt::reason::ReasonCode;
use protocols::transport::{StreamTransport, WebSocketLimits, WebSocketTransport};
use router_core::auth::{Access, Role, Secret as Word, User, Verified};
use router_core::outbox::Former;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as Side;

async fn finished(driver: impl Future<Output = ()>) {
    timeout(DEADLINE, driver).await.unwrap();
}

#[tokio::test]
async fn a_farewell_is_not_overtaken_by_the_next_connection() {
    let server = Server::new();
    let (mut old, driver) = server.connected(connect(100)).await;
    old.say(&[disconnect(0)]).await;
    drop(old);
    let (mut new, _driver) = server.coming(connect(100)).await;
    assert!(new.has_nothing(), "let in before the farewell was read");
    finished(driver).await;
    let ack = new.acknowledged().await;
    // [MQTT-3.14.4-3]; the Session Expiry Interval of the DISCONNECT counts (3.14.2.2.2).
    assert_eq!((server.wills(), ack.session_present), (0, false));
}

#[tokio::test]
async fn a_session_that_outlives_its_farewell_is_resumed_without_its_will() {
    let server = Server::new();
    let (mut old, driver) = server.connected(connect(100)).await;
    old.say(&[disconnect(100)]).await;
    let (mut new, _driver) = server.coming(connect(100)).await;
    assert!(new.has_nothing());
    drop(old);
    finished(driver).await;
    assert!(new.acknowledged().await.session_present);
    assert_eq!(server.wills(), 0);
}

#[tokio::test]
async fn whoever_has_said_nothing_is_taken_over_as_soon_as_that_is_known() {
    let server = Server::new();
    let (mut old, driver) = server.connected(connect(100)).await;
    let (mut new, _driver) = server.coming(connect(100)).await;
    let driver = tokio::spawn(driver);
    match old.next().await {
        Some(Packet::Disconnect(bye)) => assert_eq!(bye.reason, ReasonCode::SessionTakenOver),
        other => panic!("{other:?}"),
    }
    assert!(new.acknowledged().await.session_present);
    assert_eq!(server.wills(), 1);
    drop(old);
    timeout(DEADLINE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_sent_ahead_of_the_next_connection_is_done_first() {
    let server = Server::new();
    let (mut old, driver) = server.connected(connect(100)).await;
    let note = |topic: &'static str| {
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: topic.into(),
            packet_id: None,
            properties: None,
            payload: Bytes::from_static(b"1"),
        })
    };
    old.say(&[note("a"), note("b"), disconnect(0)]).await;
    drop(old);
    let (mut new, _driver) = server.coming(connect(100)).await;
    finished(driver).await;
    new.acknowledged().await;
    assert_eq!(server.hub.stats().counters.publishes, 2);
}

#[tokio::test]
async fn a_farewell_behind_what_back_pressure_holds_up_is_heard() {
    let server = Server::new();
    let (mut old, mut driver) = server.open(128 << 10);
    // More answers than are kept for somebody who does not read them, and not much more.
    let mut said = bytes_of(&[Packet::Connect(Box::new(connect(100)))]);
    said.extend_from_slice(&bytes_of(&vec![Packet::PingReq; 245_000]));
    said.extend_from_slice(&bytes_of(&[disconnect(0)]));
    let all = tokio::io::AsyncWriteExt::write_all(&mut old.stream, &said);
    until(&mut driver, all).await.unwrap();
    for _ in 0..10 {
        assert!((&mut driver).now_or_never().is_none());
    }
    assert!(server.has_connection("c"), "it was not held up");
    let driver = tokio::spawn(driver);
    let (mut new, _driver) = server.coming(connect(100)).await;
    assert!(!new.acknowledged().await.session_present);
    assert_eq!(server.wills(), 0);
    driver.abort();
}

#[tokio::test]
async fn a_farewell_over_websocket_is_heard_too() {
    let server = Server::new();
    let (near, far) = tokio::io::duplex(64 << 10);
    let limits = WebSocketLimits {
        max_message_bytes: 1 << 20,
    };
    let transport = WebSocketTransport::new(near, Bytes::new(), limits);
    let mut driver = server.driver(transport);
    let mut old = WebSocketStream::from_raw_socket(far, Side::Client, None).await;
    let say = |packet: Packet| Message::binary(bytes_of(&[packet]).freeze());
    let hello = say(Packet::Connect(Box::new(connect(100))));
    old.send(hello).await.unwrap();
    let ack = until(&mut driver, old.next()).await.unwrap().unwrap();
    assert_eq!(ack.into_data()[0], 0x20);
    old.send(say(disconnect(0))).await.unwrap();
    let (mut new, _driver) = server.coming(connect(100)).await;
    assert!(new.has_nothing());
    drop(old);
    finished(driver).await;
    assert!(!new.acknowledged().await.session_present);
    assert_eq!(server.wills(), 0);
}

#[tokio::test]
async fn a_connection_that_does_nothing_is_waited_for_no_longer_than_allowed() {
    let mut server = Server::new();
    server.hear_out = Duration::from_millis(30);
    let (mut old, driver) = server.connected(connect(100)).await;
    old.say(&[disconnect(0)]).await;
    let began = Instant::now();
    let (_new, _driver) = server.coming(connect(100)).await;
    while server.wills() == 0 {
        tokio::task::yield_now().await;
        assert!(began.elapsed() < DEADLINE);
    }
    assert!(began.elapsed() >= server.hear_out);
    drop(driver);
}

#[tokio::test]
async fn the_login_timeout_covers_the_wait() {
    let mut server = Server::new();
    let (old, driver) = server.connected(connect(100)).await;
    server.mqtt.login_timeout = Duration::from_millis(20);
    let (mut new, _driver) = server.coming(connect(100)).await;
    let ack = new.acknowledged().await;
    assert_eq!(ack.reason, ReasonCode::ServerUnavailable);
    assert!(server.has_connection("c"));
    assert_eq!(server.wills(), 0);
    drop((old, driver));
}

#[tokio::test]
async fn whoever_may_not_take_over_does_not_wait() {
    let user = User {
        role: "user".into(),
        secret: Word::Plain(Bytes::from_static(b"joe-secret")),
    };
    let server = Server::with(Access {
        users: [("joe".into(), user)].into(),
        ..Access::open()
    });
    let mut joe = connect(100);
    joe.username = Some("joe".into());
    joe.password = Some(Secret(Bytes::from_static(b"joe-secret")));
    let (_old, driver) = server.connected(joe).await;
    let (mut new, _driver) = server.coming(connect(100)).await;
    assert_eq!(new.acknowledged().await.reason, ReasonCode::NotAuthorized);
    drop(driver);
}

#[tokio::test]
async fn a_newcomer_that_goes_away_while_it_waits_takes_nothing_over() {
    let server = Server::new();
    let (mut old, mut driver) = server.connected(connect(100)).await;
    let (new, newcomer) = server.coming(connect(100)).await;
    drop(new);
    timeout(DEADLINE, newcomer).await.unwrap().unwrap();
    old.say(&[Packet::PingReq]).await;
    let answer = until(&mut driver, old.next()).await;
    assert_eq!(answer, Some(Packet::PingResp));
    assert_eq!(server.wills(), 0);
}

#[tokio::test]
async fn a_newcomer_that_has_said_all_and_gone_is_let_in() {
    let server = Server::new();
    let (mut old, mut driver) = server.connected(connect(100)).await;
    for in_one in [true, false] {
        let (mut new, newcomer) = server.open(64 << 10);
        let newcomer = tokio::spawn(newcomer);
        let hello = Packet::Connect(Box::new(connect(100)));
        if in_one {
            new.say(&[hello, disconnect(0)]).await;
        } else {
            new.say(&[hello]).await;
            settle().await;
            new.say(&[disconnect(0)]).await;
        }
        drop(new);
        settle().await;
        assert!(!newcomer.is_finished());
        let former = tokio::spawn(driver);
        let told = old.next().await;
        assert!(matches!(told, Some(Packet::Disconnect(_))), "{told:?}");
        drop(old);
        timeout(DEADLINE, former).await.unwrap().unwrap();
        timeout(DEADLINE, newcomer).await.unwrap().unwrap();
        // Of the former connection, not of the newcomer, which has taken its leave.
        assert_eq!(server.wills(), if in_one { 1 } else { 2 });
        (old, driver) = server.connected(connect(100)).await;
    }
}

#[tokio::test]
async fn of_two_newcomers_one_stays_and_both_have_heard_the_farewell() {
    let server = Server::new();
    let (mut old, driver) = server.connected(connect(100)).await;
    old.say(&[disconnect(0)]).await;
    drop(old);
    let mut quiet = connect(100);
    quiet.will = None;
    let (mut one, _one) = server.coming(quiet.clone()).await;
    let (mut other, _other) = server.coming(quiet).await;
    assert!(one.has_nothing() && other.has_nothing());
    finished(driver).await;
    let mut present = Vec::new();
    for client in [&mut one, &mut other] {
        // Whoever is replaced ahead of its CONNACK is closed without one.
        if let Some(Packet::ConnAck(ack)) = client.next().await {
            present.push(ack.session_present);
        }
    }
    assert_eq!(server.wills(), 0);
    assert!(server.has_connection("c"));
    assert!(present.first().is_none_or(|present| !present));
    assert!(!present.is_empty());
}

/// A peer that says CONNECT and then PINGREQ without end, and takes every answer.
struct Endless {
    hello: BytesMut,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hello.is_empty() {
            let pings = into.remaining() / 2 * 2;
            into.put_slice(&[0xC0, 0x00].repeat(pings / 2));
            self.read.fetch_add(pings, Ordering::Relaxed);
        } else {
            let hello = self.hello.split();
            into.put_slice(&hello);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_peer_that_never_stops_is_heard_for_a_bounded_part() {
    let server = Server::new();
    let read = Arc::new(AtomicUsize::new(0));
    let peer = Endless {
        hello: bytes_of(&[Packet::Connect(Box::new(connect(100)))]),
        read: read.clone(),
    };
    let mut driver = server.driver(StreamTransport::new(peer, BytesMut::new()));
    while !server.has_connection("c") {
        assert!((&mut driver).now_or_never().is_none());
    }
    let nobody = Verified {
        authid: None,
        role: Arc::new(Role::unrestricted("r")),
        by_secret: false,
    };
    for _ in 0..2 {
        let (outbox, generation) = server.hub.former(None, "c", &nobody).unwrap();
        let former = Former::ask(outbox, generation);
        let before = read.load(Ordering::Relaxed);
        while !former.is_done(Waker::noop()) {
            assert!((&mut driver).now_or_never().is_none());
            let more = read.load(Ordering::Relaxed) - before;
            assert!(more < 4 << 20, "{more} bytes and no end");
        }
    }
}
