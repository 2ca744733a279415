//! Small clients for tests against real sockets.

#![allow(dead_code, reason = "each test program uses its part")]

use futures_util::{SinkExt as _, StreamExt as _};
use reynard::config::{Config, DataStore, Listener, ListenerKind};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An MQTT 3.1.1 CONNECT of client `a`, clean session.
pub const MQTT_CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
/// The CONNACK that accepts it.
pub const MQTT_CONNACK: &[u8] = b"\x20\x02\0\0";

/// Fails the test if `work` takes too long.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// Begins `work`, which must have to wait for something.
pub async fn begin<F: Future>(work: &mut Pin<Box<F>>) {
    let pending = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "done already");
}

/// A listener on a free port of the loopback interface.
pub fn free(kind: ListenerKind) -> Listener {
    Listener::new(kind, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
}

/// A server in memory with one listener of each kind.
pub fn in_memory() -> Config {
    Config {
        data: DataStore::Memory,
        listeners: vec![free(ListenerKind::Universal), free(ListenerKind::Mqtt)],
        ..Config::default()
    }
}

/// Sends a request as it stands and reads to the end: status and everything else.
pub async fn http(address: SocketAddr, request: &str) -> (u16, String) {
    let answer = http_bytes(address, request.as_bytes()).await;
    let answer = String::from_utf8(answer).expect("text");
    (status_of(&answer), answer)
}

/// What is answered to these bytes, to the end of the connection.
pub async fn http_bytes(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    soon(async {
        let mut socket = TcpStream::connect(address).await.expect("connect");
        socket.write_all(request).await.expect("send");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("read");
        answer
    })
    .await
}

/// The status of an answer.
pub fn status_of(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1);
    let status = status.and_then(|status| status.parse().ok());
    status.expect("a status line")
}

/// A GET with these further header lines.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let close = if headers.contains("Connection:") {
        ""
    } else {
        "Connection: close\r\n"
    };
    http(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{close}{headers}\r\n"),
    )
    .await
}

/// A WebSocket client.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Upgrades; the server must choose `subprotocol`.
    pub async fn open(address: SocketAddr, path: &str, subprotocol: &str) -> Socket {
        Socket::offering(address, path, subprotocol, subprotocol).await
    }

    /// Upgrades; of the subprotocols offered the server must choose `chosen`.
    pub async fn offering(address: SocketAddr, path: &str, offered: &str, chosen: &str) -> Socket {
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .expect("request");
        let value = offered.parse().expect("header");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", value);
        let io = soon(TcpStream::connect(address)).await.expect("connect");
        let (socket, response) = soon(tokio_tungstenite::client_async(request, io))
            .await
            .expect("upgrade");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], chosen);
        Socket(socket)
    }

    /// Joins `realm1` and answers the session's id.
    pub async fn wamp(address: SocketAddr, path: &str) -> (Socket, u64) {
        let mut socket = Socket::open(address, path, "wamp.2.json").await;
        let roles = json!({"roles": {"caller": {}, "subscriber": {}, "publisher": {}}});
        socket.say(&json!([1, "realm1", roles])).await;
        let welcome = socket.hear().await;
        assert_eq!(welcome[0], 2, "{welcome}");
        (socket, welcome[1].as_u64().expect("a session id"))
    }

    /// Sends a WAMP message.
    pub async fn say(&mut self, message: &Value) {
        soon(self.0.send(Message::text(message.to_string())))
            .await
            .expect("send");
    }

    /// The next WAMP message.
    pub async fn hear(&mut self) -> Value {
        match soon(self.0.next()).await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no WAMP message but {other:?}"),
        }
    }

    /// Sends a binary message.
    pub async fn send(&mut self, bytes: &'static [u8]) {
        soon(self.0.send(Message::binary(bytes)))
            .await
            .expect("send");
    }

    /// The next binary message.
    pub async fn receive(&mut self) -> Vec<u8> {
        match soon(self.0.next()).await {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("no binary message but {other:?}"),
        }
    }

    /// Waits until the server closes, answering it, and tells what came before.
    pub async fn until_closed(&mut self) -> Vec<Message> {
        let mut before = Vec::new();
        while let Some(Ok(message)) = soon(self.0.next()).await {
            before.push(message);
        }
        before
    }
}

/// A WAMP client over RawSocket with JSON.
pub struct RawSocket<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> RawSocket<S> {
    /// Shakes hands and joins `realm1`.
    pub async fn wamp(mut io: S) -> RawSocket<S> {
        soon(io.write_all(b"\x7f\xf1\0\0")).await.expect("send");
        let mut reply = [0; 4];
        soon(io.read_exact(&mut reply)).await.expect("a reply");
        // 1 MiB, as configured by default.
        assert_eq!(reply, *b"\x7f\xb1\0\0");
        let mut socket = RawSocket(io);
        let roles = json!({"roles": {"caller": {}, "subscriber": {}, "publisher": {}}});
        socket.say(&json!([1, "realm1", roles])).await;
        let welcome = socket.hear().await;
        assert_eq!(welcome[0], 2, "{welcome}");
        socket
    }

    /// Sends a WAMP message.
    pub async fn say(&mut self, message: &Value) {
        let text = message.to_string();
        let length = u32::try_from(text.len()).expect("a short message");
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(text.as_bytes());
        soon(self.0.write_all(&frame)).await.expect("send");
    }

    /// The next WAMP message.
    pub async fn hear(&mut self) -> Value {
        let length = soon(self.0.read_u32()).await.expect("a prefix");
        let mut payload = vec![0; length as usize];
        soon(self.0.read_exact(&mut payload))
            .await
            .expect("a message");
        serde_json::from_slice(&payload).expect("JSON")
    }
}
