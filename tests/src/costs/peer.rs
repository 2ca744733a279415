//! A client that costs little itself: it counts frames, and answers in one write.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::mqtt::{Connect, packet, string};
use crate::websocket::{encode_frame, opcode};

/// What a WAMP peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `wamp.2.json`.
    Json,
    /// `wamp.2.msgpack`.
    MsgPack,
}

/// Where one frame ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Mqtt,
    WebSocket,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    framing: Framing,
    incoming: Vec<u8>,
}

impl Peer {
    /// An MQTT 3.1.1 session.
    ///
    /// # Errors
    /// Fails if the router does not let it in.
    pub async fn mqtt(addr: SocketAddr, client_id: &str) -> Result<Self> {
        let mut peer = Self::open(addr, Framing::Mqtt).await?;
        peer.send(&Connect::v4(client_id).encode()).await?;
        let mut code = None;
        peer.frames(1, |frame, _| code = frame.get(3).copied())
            .await?;
        ensure!(code == Some(0), "CONNACK {code:?}");
        Ok(peer)
    }

    /// A WAMP session over WebSocket.
    ///
    /// # Errors
    /// Fails if the router does not let it in.
    pub async fn wamp(addr: SocketAddr, encoding: Encoding) -> Result<Self> {
        let mut peer = Self::open(addr, Framing::WebSocket).await?;
        let name = match encoding {
            Encoding::Json => "wamp.2.json",
            Encoding::MsgPack => "wamp.2.msgpack",
        };
        let request = format!(
            "GET /wamp HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {name}\r\n\r\n"
        );
        peer.send(request.as_bytes()).await?;
        let end = loop {
            if let Some(at) = peer.incoming.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            peer.read().await?;
        };
        ensure!(peer.incoming.starts_with(b"HTTP/1.1 101"), "no upgrade");
        peer.incoming.drain(..end);
        let roles =
            serde_json::json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
        let hello = serde_json::json!([1, "realm1", {"roles": roles}]);
        peer.send(&message(encoding, &hello)?).await?;
        peer.frames(1, |_, _| {}).await?;
        Ok(peer)
    }

    async fn open(addr: SocketAddr, framing: Framing) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            framing,
            incoming: Vec::new(),
        })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("cannot write")
    }

    /// Waits for so many frames and hands over each, an MQTT packet as it is and of a WebSocket
    /// frame the payload; what is answered goes out in one write.
    ///
    /// # Errors
    /// Fails if the connection ends before that.
    pub async fn frames(
        &mut self,
        count: usize,
        mut answer: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<()> {
        let (mut left, mut answers) = (count, Vec::new());
        loop {
            let mut read = 0;
            while left > 0 {
                let rest = &self.incoming[read..];
                let Some(frame) = self.framing.first(rest) else {
                    break;
                };
                if !frame.is_control {
                    answer(&rest[frame.head..frame.end], &mut answers);
                    left -= 1;
                }
                read += frame.end;
            }
            self.incoming.drain(..read);
            if left == 0 {
                break;
            }
            self.read().await?;
        }
        self.send(&answers).await
    }

    /// Waits until the router closes the connection.
    ///
    /// # Errors
    /// Fails if the socket does.
    pub async fn end(mut self) -> Result<()> {
        while self.stream.read_buf(&mut self.incoming).await? > 0 {}
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.incoming).await?;
        ensure!(read > 0, "the router closed a connection");
        Ok(())
    }
}

struct Frame {
    /// Where what is handed over begins.
    head: usize,
    end: usize,
    is_control: bool,
}

impl Framing {
    /// The first frame, if all of it is there.
    fn first(self, bytes: &[u8]) -> Option<Frame> {
        let (head, end, is_control) = match self {
            Framing::Mqtt => {
                let (mut len, mut at) = (0, 1);
                loop {
                    let byte = usize::from(*bytes.get(at)?);
                    len |= (byte & 0x7F) << (7 * (at - 1));
                    at += 1;
                    if byte < 0x80 {
                        break;
                    }
                }
                (0, at + len, false)
            }
            Framing::WebSocket => {
                let (head, len) = match *bytes.get(1)? {
                    126 => (
                        4,
                        u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
                    ),
                    127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
                    short => (2, u64::from(short)),
                };
                let is_control = bytes.first()? & 8 != 0;
                (head, head + usize::try_from(len).ok()?, is_control)
            }
        };
        (bytes.len() >= end).then_some(Frame {
            head,
            end,
            is_control,
        })
    }
}

/// A WAMP message as a WebSocket frame of a client.
///
/// # Errors
/// Fails if it cannot be encoded.
pub fn message(encoding: Encoding, message: &Value) -> Result<Vec<u8>> {
    Ok(encoding.frame(&encoding.encode(message)?))
}

impl Encoding {
    fn encode(self, message: &Value) -> Result<Vec<u8>> {
        Ok(match self {
            Encoding::Json => serde_json::to_vec(message)?,
            Encoding::MsgPack => rmp_serde::to_vec(message)?,
        })
    }

    fn frame(self, payload: &[u8]) -> Vec<u8> {
        let opcode = match self {
            Encoding::Json => opcode::TEXT,
            Encoding::MsgPack => opcode::BINARY,
        };
        encode_frame(true, opcode, payload)
    }

    /// A request id; in MessagePack as long for each.
    fn id(self, id: u32) -> Vec<u8> {
        match self {
            Encoding::Json => id.to_string().into_bytes(),
            Encoding::MsgPack => [&[0xCE][..], &id.to_be_bytes()].concat(),
        }
    }
}

/// A WAMP message but for its request id, encoded once, so that little of what is counted is the client's.
#[derive(Clone, Debug)]
pub struct Template {
    encoding: Encoding,
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Stands where the id belongs; of its length in MessagePack.
const MARK: u32 = 4_242_424_242;

impl Template {
    /// Of the message that `list` makes of a request id.
    ///
    /// # Errors
    /// Fails if it cannot be encoded, or has no id.
    pub fn new(encoding: Encoding, list: impl Fn(u32) -> Value) -> Result<Self> {
        let (bytes, mark) = (encoding.encode(&list(MARK))?, encoding.id(MARK));
        let at = bytes
            .windows(mark.len())
            .position(|part| part == mark)
            .context("no request id")?;
        Ok(Self {
            encoding,
            head: bytes[..at].to_vec(),
            tail: bytes[at + mark.len()..].to_vec(),
        })
    }

    /// Appends the message with this id.
    pub fn put(&self, id: u32, out: &mut Vec<u8>) {
        let payload = [&self.head[..], &self.encoding.id(id), &self.tail].concat();
        out.extend(self.encoding.frame(&payload));
    }

    /// So many messages with ids from `first` on.
    pub fn batch(&self, first: usize, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for id in first..first + count {
            self.put(id as u32, &mut bytes);
        }
        bytes
    }
}

/// PUBLISH of 3.1.1 with so many bytes of payload; `first` is its first byte.
pub fn publish(first: u8, topic: &str, id: u16, size: usize) -> Vec<u8> {
    let mut body = string(topic);
    if first & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.resize(body.len() + size, b'x');
    packet(first, &body)
}

/// SUBSCRIBE of 3.1.1.
pub fn subscribe<'a>(filters: impl IntoIterator<Item = &'a str>, qos: u8) -> Vec<u8> {
    let mut body = 1u16.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(string(filter));
        body.push(qos);
    }
    packet(0x82, &body)
}
