//! A byte stream to a broker: TCP, or the binary frames of a WebSocket, one for each write.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use integration_tests::websocket::opcode;
use socket2::SockRef;

/// How long a write or a handshake may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a broker listens.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// With the subprotocol to ask for.
    WebSocket(SocketAddr, &'static str),
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// What has come of a WebSocket frame; `None` on TCP.
    frames: Option<Vec<u8>>,
    /// The server has closed the WebSocket.
    closed: bool,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// Fails if nobody listens or the WebSocket is refused.
    pub fn open(endpoint: Endpoint) -> Result<Self> {
        let (Endpoint::Tcp(addr) | Endpoint::WebSocket(addr, _)) = endpoint;
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut stream = Self {
            socket,
            frames: None,
            closed: false,
        };
        if let Endpoint::WebSocket(_, subprotocol) = endpoint {
            stream.handshake(addr, subprotocol)?;
        }
        Ok(stream)
    }

    fn handshake(&mut self, addr: SocketAddr, subprotocol: &str) -> Result<()> {
        write!(
            self.socket,
            "GET /mqtt HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        )?;
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head belongs to the frames.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let chosen = format!("sec-websocket-protocol: {subprotocol}\r\n");
        // [MQTT-6.0.0-4]
        ensure!(
            head.starts_with("http/1.1 101") && head.contains(&chosen),
            "{head}"
        );
        self.frames = Some(Vec::new());
        Ok(())
    }

    /// Sends bytes in one piece.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.frames.is_some() {
            return self.frame(opcode::BINARY, bytes);
        }
        Ok(self.socket.write_all(bytes)?)
    }

    /// A frame with a mask of zeros.
    fn frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len()) {
            Ok(short @ 0..=125) => frame.push(0x80 | short as u8),
            Ok(middle) => {
                frame.push(0x80 | 126);
                frame.extend(middle.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        Ok(self.socket.write_all(&frame)?)
    }

    /// Ends the connection from this side.
    ///
    /// # Errors
    /// Fails if it has ended already.
    pub fn end(&self) -> Result<()> {
        Ok(self.socket.shutdown(Shutdown::Write)?)
    }

    /// Reads once into `incoming`: `None` if nothing came in time, 0 bytes at the end.
    ///
    /// # Errors
    /// Fails if the connection was reset or the server breaks the rules of WebSocket.
    pub fn read(&mut self, incoming: &mut Vec<u8>, patience: Duration) -> Result<Option<usize>> {
        if self.closed {
            return Ok(Some(0));
        }
        // Who writes in small pieces without TCP_NODELAY waits for each acknowledgement.
        SockRef::from(&self.socket).set_tcp_quickack(true)?;
        self.socket.set_read_timeout(Some(patience))?;
        let mut chunk = [0; 65_536];
        let len = match self.socket.read(&mut chunk) {
            Ok(len) => len,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    return Ok(None);
                }
                _ => return Err(error.into()),
            },
        };
        let bytes = chunk.get(..len).unwrap_or_default();
        let Some(frames) = &mut self.frames else {
            incoming.extend(bytes);
            return Ok(Some(len));
        };
        frames.extend(bytes);
        while let Some((opcode, payload)) = self.next_frame()? {
            match opcode {
                opcode::BINARY | opcode::CONTINUATION => incoming.extend(payload),
                opcode::PING => self.frame(opcode::PONG, &payload)?,
                opcode::PONG => {}
                opcode::CLOSE => self.closed = true,
                other => bail!("opcode {other}"),
            }
        }
        Ok(Some(len))
    }

    fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let Some(frames) = &mut self.frames else {
            return Ok(None);
        };
        let (first, len, head) = match frames[..] {
            [first, 126, a, b, ..] => (first, usize::from(u16::from_be_bytes([a, b])), 4),
            [first, 127, a, b, c, d, e, f, g, h, ..] => {
                let len = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (first, usize::try_from(len)?, 10)
            }
            [first, len @ 0..=125, ..] => (first, usize::from(len), 2),
            [_, 128..=255, ..] => bail!("a server does not mask"),
            _ => return Ok(None),
        };
        if frames.len() < head + len {
            return Ok(None);
        }
        let payload = frames.drain(..head + len).skip(head).collect();
        Ok(Some((first & 0x0F, payload)))
    }
}
