//! A WebSocket client (RFC 6455) that can also send what the standard forbids.
//!
//! Client frames are masked with a zero key, which leaves the payload readable in
//! a packet dump and is as legal as any other key.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::PATIENCE;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`], as RFC 6455 section 1.3 computes it.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcodes of RFC 6455 section 5.2.
pub mod opcode {
    /// Continuation of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// UTF-8 text.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// A complete message, or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The peer closed, with the status code it gave.
    Closed(Option<u16>),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    incoming: Vec<u8>,
    /// The subprotocol the server chose.
    pub subprotocol: Option<String>,
}

impl WebSocket {
    /// Opens `path` on `addr` and asks for one subprotocol.
    ///
    /// # Errors
    /// Fails if the server does not upgrade; the error holds its response.
    pub fn connect(addr: SocketAddr, path: &str, subprotocol: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        )?;
        let mut incoming = Vec::new();
        let end = loop {
            if let Some(at) = incoming.windows(4).position(|part| part == b"\r\n\r\n") {
                break at;
            }
            ensure!(
                fill(&mut stream, &mut incoming)?,
                "closed during the handshake: {:?}",
                String::from_utf8_lossy(&incoming)
            );
        };
        let head = String::from_utf8_lossy(&incoming[..end]).into_owned();
        incoming.drain(..end + 4);
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
        ensure!(head.contains(ACCEPT), "wrong Sec-WebSocket-Accept: {head}");
        let subprotocol = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-protocol")
                .then(|| value.trim().to_owned())
        });
        Ok(Self {
            stream,
            incoming,
            subprotocol,
        })
    }

    /// How long a receive waits, instead of [`PATIENCE`].
    ///
    /// # Errors
    /// Fails if the socket is gone.
    pub fn set_patience(&mut self, patience: std::time::Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send_text(&mut self, text: &str) -> Result<()> {
        self.send_frame(true, opcode::TEXT, text.as_bytes())
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.send_frame(true, opcode::BINARY, bytes)
    }

    /// Sends one masked frame of any opcode.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) -> Result<()> {
        self.send_raw(&encode_frame(fin, opcode, payload))
    }

    /// Sends bytes as they are, below the framing.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot write")
    }

    /// Whether the beginning of another message has been read already, so that waiting for the rest
    /// of it is all that [`WebSocket::receive`] does.
    pub fn has_begun(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// The next message; pings are answered on the way.
    ///
    /// # Errors
    /// Fails if nothing comes within [`PATIENCE`].
    pub fn receive(&mut self) -> Result<Message> {
        let mut kind = 0;
        let mut message = Vec::new();
        loop {
            let Some((fin, opcode, payload)) = self.frame()? else {
                return Ok(Message::Closed(None));
            };
            match opcode {
                opcode::PING => self.send_frame(true, opcode::PONG, &payload)?,
                opcode::PONG => {}
                opcode::CLOSE => {
                    let code = payload
                        .get(..2)
                        .map(|code| u16::from_be_bytes([code[0], code[1]]));
                    return Ok(Message::Closed(code));
                }
                opcode::TEXT | opcode::BINARY | opcode::CONTINUATION => {
                    if opcode != opcode::CONTINUATION {
                        kind = opcode;
                    }
                    message.extend(payload);
                    if fin {
                        break;
                    }
                }
                other => bail!("opcode {other}"),
            }
        }
        Ok(match kind {
            opcode::TEXT => Message::Text(String::from_utf8(message).context("text is not UTF-8")?),
            _ => Message::Binary(message),
        })
    }

    fn frame(&mut self) -> Result<Option<(bool, u8, Vec<u8>)>> {
        let Some(head) = self.take(2)? else {
            return Ok(None);
        };
        ensure!(head[1] & 0x80 == 0, "the server masked a frame");
        ensure!(head[0] & 0x70 == 0, "reserved bits without an extension");
        let len = match head[1] {
            126 => self
                .take(2)?
                .map(|len| u64::from(u16::from_be_bytes([len[0], len[1]]))),
            127 => self
                .take(8)?
                .and_then(|len| len.try_into().ok())
                .map(u64::from_be_bytes),
            short => Some(u64::from(short)),
        };
        let Some(len) = len else { return Ok(None) };
        let payload = self.take(usize::try_from(len)?)?;
        Ok(payload.map(|payload| (head[0] & 0x80 != 0, head[0] & 0x0F, payload)))
    }

    fn take(&mut self, len: usize) -> Result<Option<Vec<u8>>> {
        while self.incoming.len() < len {
            if !fill(&mut self.stream, &mut self.incoming)? {
                return Ok(None);
            }
        }
        let rest = self.incoming.split_off(len);
        Ok(Some(std::mem::replace(&mut self.incoming, rest)))
    }
}

/// One masked frame as bytes.
pub(crate) fn encode_frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        middle @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Reads once; `false` when the peer closed or reset the connection.
pub(crate) fn fill(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<bool> {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(len) => {
            into.extend(&chunk[..len]);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).context("nothing to read"),
    }
}
