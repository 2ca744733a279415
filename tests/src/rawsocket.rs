//! A WAMP client over RawSocket and JSON, on any blocking stream. Written from the WAMP text, not on
//! our codec.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::wamp::{code, roles};

/// A stream behind its handshake.
#[derive(Debug)]
pub struct RawSocket<S> {
    stream: S,
    /// The longest message that the router takes, in bytes.
    pub takes: usize,
}

/// A TCP connection to the router that gives up in time.
///
/// # Errors
/// Fails if there is no connection.
pub fn tcp(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The same to a Unix domain socket.
///
/// # Errors
/// Fails if there is no connection.
pub fn unix(path: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(path).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl<S: Read + Write> RawSocket<S> {
    /// Shakes hands: JSON, and messages of at most 2^(9 + `exponent`) bytes.
    ///
    /// # Errors
    /// Fails if the router refuses.
    pub fn open(mut stream: S, exponent: u8) -> Result<Self> {
        stream.write_all(&[0x7F, exponent << 4 | 1, 0, 0])?;
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).context("no reply")?;
        let [magic, second, ..] = reply;
        ensure!(
            magic == 0x7F && second & 0x0F == 1 && reply[2..] == [0, 0],
            "{reply:x?}"
        );
        let takes = 1 << (9 + usize::from(second >> 4));
        Ok(Self { stream, takes })
    }

    /// Shakes hands and joins a realm anonymously.
    ///
    /// # Errors
    /// Fails unless the answer is WELCOME.
    pub fn join(stream: S, exponent: u8, realm: &str) -> Result<Self> {
        let mut socket = Self::open(stream, exponent)?;
        socket.send(&json!([code::HELLO, realm, roles()]))?;
        let welcome = socket.receive()?;
        ensure!(welcome[0] == code::WELCOME, "{welcome}");
        Ok(socket)
    }

    /// Sends a frame of that type.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub fn send_frame(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let [.., a, b, c] = payload.len().to_be_bytes();
        self.stream.write_all(&[kind, a, b, c])?;
        self.stream.write_all(payload)?;
        Ok(())
    }

    /// Sends bytes as they stand.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        self.send_frame(0, message.to_string().as_bytes())
    }

    /// The next frame: its type and payload.
    ///
    /// # Errors
    /// Fails if the connection ends instead.
    pub fn receive_frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).context("no frame")?;
        let [kind, a, b, c] = prefix;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((kind, payload))
    }

    /// The next message.
    ///
    /// # Errors
    /// Fails if something else comes.
    pub fn receive(&mut self) -> Result<Value> {
        let (kind, payload) = self.receive_frame()?;
        ensure!(kind == 0, "a frame of type {kind} instead of a message");
        serde_json::from_slice(&payload).context("not JSON")
    }

    /// Sends a request and returns the next message.
    ///
    /// # Errors
    /// Fails if the connection ends instead.
    pub fn ask(&mut self, message: &Value) -> Result<Value> {
        self.send(message)?;
        self.receive()
    }
}

impl RawSocket<TcpStream> {
    /// Lets writing fail when nothing is taken for so long.
    ///
    /// # Errors
    /// Fails if the socket does not know that.
    pub fn give_up_after(&mut self, time: Duration) -> Result<()> {
        Ok(self.stream.set_write_timeout(Some(time))?)
    }
}
