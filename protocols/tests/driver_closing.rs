//! The end of a connection: the last words reach a peer that still sends, and a peer that never
//! closes has its time. Clauses: MQTT 5.0 section 4.13, RFC 6455 section 7.1.1.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;

use bytes::{Buf as _, Bytes, BytesMut};
use driver_common::{Client, DEADLINE, Server, bytes_of, connect, settle};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use protocols::mqtt::codec::{Decoder, Limits};
use protocols::mqtt::packet::{Packet, ProtocolVersion};
use protocols::mqtt::reason::ReasonCode;
use protocols::transport::{StreamTransport, WebSocketLimits, WebSocketTransport};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const ROUNDS: usize = 200;
/// What a client says after its violation before it listens.
const WRITES: usize = 10;
const LINGER: Duration = Duration::from_millis(50);

/// Two ends of a TCP connection on the loopback.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(listener.accept(), far);
    let (near, far) = (near.unwrap().0, far.unwrap());
    far.set_nodelay(true).unwrap();
    (near, far)
}

fn hello() -> Packet {
    Packet::Connect(Box::new(connect(0)))
}

/// Sends a CONNECT too many, goes on sending for long, and only then reads.
async fn violates(mut far: TcpStream) -> Vec<u8> {
    far.write_all(&bytes_of(&[hello(), hello()])).await.unwrap();
    for _ in 0..WRITES {
        settle().await;
        far.write_all(&bytes_of(&[Packet::PingReq])).await.unwrap();
    }
    let mut said = Vec::new();
    let all = timeout(DEADLINE, far.read_to_end(&mut said)).await;
    all.unwrap().unwrap();
    said
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_reads_why_it_was_disconnected() {
    let server = Server::new();
    for _ in 0..ROUNDS {
        let (near, far) = tcp().await;
        let driver = tokio::spawn(server.driver(StreamTransport::new(near, BytesMut::new())));
        let mut said = BytesMut::from(&*violates(far).await);
        let mut decoder = Decoder::client(ProtocolVersion::V5, Limits::default());
        let first = decoder.decode(&mut said).unwrap();
        assert!(matches!(first, Some(Packet::ConnAck(_))), "{first:?}");
        match decoder.decode(&mut said).unwrap() {
            Some(Packet::Disconnect(bye)) => assert_eq!(bye.reason, ReasonCode::ProtocolError),
            other => panic!("{other:?}"),
        }
        assert!(said.is_empty());
        timeout(DEADLINE, driver).await.unwrap().unwrap();
    }
    assert_eq!(server.traffic.open.load(Ordering::Relaxed), 0);
}

/// A client that broke the rules and does not close.
async fn disconnected(server: &Server) -> (Client, JoinHandle<()>) {
    let (mut client, driver) = server.open(64 << 10);
    let driver = tokio::spawn(driver);
    client.say(&[hello(), hello()]).await;
    client.acknowledged().await;
    assert!(matches!(client.next().await, Some(Packet::Disconnect(_))));
    assert_eq!(client.next().await, None, "our side is closed");
    settle().await;
    (client, driver)
}

#[tokio::test]
async fn a_client_that_never_closes_is_dropped_after_its_time() {
    let mut server = Server::new();
    server.linger = LINGER;
    let began = Instant::now();
    let (_client, driver) = disconnected(&server).await;
    timeout(DEADLINE, driver).await.unwrap().unwrap();
    assert!(began.elapsed() >= LINGER);
}

#[tokio::test]
async fn the_place_is_free_and_the_connection_counted_while_the_client_is_waited_for() {
    let server = Server::new();
    let (client, driver) = disconnected(&server).await;
    assert!(!driver.is_finished());
    assert!(!server.has_connection("c"));
    assert_eq!(server.wills(), 1);
    assert_eq!(server.traffic.open.load(Ordering::Relaxed), 1);
    drop(client);
    timeout(DEADLINE, driver).await.unwrap().unwrap();
    assert_eq!(server.traffic.open.load(Ordering::Relaxed), 0);
}

/// A peer that breaks the rules and then sends without end.
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
        let some = self.hello.len().min(into.remaining());
        if some == 0 {
            self.read.fetch_add(into.remaining(), Ordering::Relaxed);
            let free = into.remaining();
            into.put_slice(&vec![0; free]);
        }
        into.put_slice(&self.hello[..some]);
        self.hello.advance(some);
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
async fn what_is_thrown_away_is_bounded_in_each_turn_and_in_time() {
    let mut server = Server::new();
    server.linger = LINGER;
    let read = Arc::new(AtomicUsize::new(0));
    let hello = bytes_of(&[hello(), hello()]);
    let shown = u64::try_from(hello.len()).unwrap();
    let peer = Endless {
        hello,
        read: read.clone(),
    };
    let mut driver = server.driver(StreamTransport::new(peer, BytesMut::new()));
    let (began, mut before) = (Instant::now(), 0);
    while (&mut driver).now_or_never().is_none() {
        let now = read.load(Ordering::Relaxed);
        assert!(now - before <= 4 << 20, "{} bytes at once", now - before);
        before = now;
        assert!(began.elapsed() < DEADLINE);
    }
    assert!(began.elapsed() >= LINGER);
    assert_eq!(server.traffic.bytes_in.load(Ordering::Relaxed), shown);
}

async fn websocket<S>(server: &Server, near: S) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = WebSocketLimits {
        max_message_bytes: 64 << 10,
    };
    let transport = WebSocketTransport::new(near, Bytes::new(), limits);
    tokio::spawn(server.driver(transport))
}

fn message(packets: &[Packet]) -> Message {
    Message::binary(bytes_of(packets).freeze())
}

#[tokio::test]
async fn a_websocket_is_closed_when_both_sides_have_said_so() {
    let server = Server::new();
    let (near, far) = tokio::io::duplex(64 << 10);
    let driver = websocket(&server, near).await;
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    client.send(message(&[hello(), hello()])).await.unwrap();
    let mut closes = 0;
    while closes == 0 {
        let next = timeout(DEADLINE, client.next()).await.unwrap();
        closes += usize::from(matches!(next, Some(Ok(Message::Close(_)))));
    }
    client.feed(Message::Ping(Bytes::new())).await.unwrap_err();
    settle().await;
    assert!(!driver.is_finished(), "the client's Close has not come");
    // Reading on sends it.
    assert!(timeout(DEADLINE, client.next()).await.unwrap().is_none());
    timeout(DEADLINE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_websocket_whose_client_goes_on_sending_still_says_why_it_closes() {
    let server = Server::new();
    for too_large in [true, false] {
        for _ in 0..ROUNDS / 4 {
            let (near, far) = tcp().await;
            let driver = websocket(&server, near).await;
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            client.send(message(&[hello()])).await.unwrap();
            let wrong = match too_large {
                true => Message::binary(vec![0; 128 << 10]),
                false => message(&[hello()]),
            };
            client.send(wrong).await.unwrap();
            for _ in 0..WRITES {
                settle().await;
                client.send(message(&[Packet::PingReq])).await.unwrap();
            }
            let code = loop {
                match timeout(DEADLINE, client.next()).await.unwrap() {
                    Some(Ok(Message::Close(Some(frame)))) => break u16::from(frame.code),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(code, if too_large { 1009 } else { 1002 });
            drop(client);
            timeout(DEADLINE, driver).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_websocket_whose_client_never_answers_the_close_is_dropped_after_its_time() {
    let mut server = Server::new();
    server.linger = LINGER;
    let (near, far) = tokio::io::duplex(64 << 10);
    let driver = websocket(&server, near).await;
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    client.send(message(&[hello(), hello()])).await.unwrap();
    timeout(DEADLINE, driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_another_task_has_taken_over_hears_of_the_end() {
    let server = Server::new();
    let (mut client, driver) = server.connected(connect(0)).await;
    tokio::spawn(driver);
    settle().await;
    server.shut_down();
    assert!(matches!(client.next().await, Some(Packet::Disconnect(_))));
}
