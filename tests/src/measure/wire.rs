//! A connection that pipelines: packets are written together and read as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::mqtt::{Connect, Message, packet, parse_publish, split, string};

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 64 << 10;

/// A packet from the router, as far as the measurements look at it.
#[derive(Debug)]
pub enum Incoming {
    /// PUBLISH and its packet identifier (0 for QoS 0).
    Publish(Message, u16),
    /// PUBACK (0x40), PUBREC (0x50), PUBREL (0x60) or PUBCOMP (0x70): identifier, reason.
    Ack(u8, u16, u8),
    /// SUBACK with its last code.
    SubAck(u8),
    /// PINGRESP.
    Pong,
}

/// A connected client.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    level: u8,
    incoming: Vec<u8>,
    start: usize,
    out: Vec<u8>,
}

impl Wire {
    /// Connects; whether the session was there already.
    ///
    /// # Errors
    /// Fails if the router is not there or refuses.
    pub fn connect(addr: SocketAddr, connect: &Connect) -> Result<(Self, bool)> {
        Self::connect_with(addr, connect.level, &connect.encode())
    }

    /// Connects with this CONNECT packet.
    ///
    /// # Errors
    /// Fails if the router is not there or refuses.
    pub fn connect_with(addr: SocketAddr, level: u8, connect: &[u8]) -> Result<(Self, bool)> {
        let stream = TcpStream::connect(addr).context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream,
            level,
            incoming: Vec::new(),
            start: 0,
            out: connect.to_vec(),
        };
        wire.flush()?;
        let (first, body) = wire.packet()?.context("closed instead of CONNACK")?;
        ensure!(first == 0x20 && body.len() >= 2, "{first:#04x} for CONNACK");
        ensure!(body[1] == 0, "CONNACK {:#04x}", body[1]);
        Ok((wire, body[0] & 1 == 1))
    }

    /// How long a read may take before it fails.
    ///
    /// # Errors
    /// Fails if the socket refuses.
    pub fn set_patience(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Gives back the memory of the buffers, which must be empty.
    pub fn forget_buffers(&mut self) {
        (self.incoming, self.out, self.start) = (Vec::new(), Vec::new(), 0);
    }

    /// Queues a PUBLISH; `id` is unused for QoS 0.
    pub fn publish(&mut self, topic: &str, payload: &[u8], first: u8, id: u16) {
        let mut body = string(topic);
        if first & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.level == 5 {
            body.push(0);
        }
        body.extend(payload);
        self.out.extend(packet(first, &body));
    }

    /// Queues an acknowledgement, given with its flags (PUBREL: 0x62).
    pub fn acknowledge(&mut self, first: u8, id: u16) {
        self.out.extend(packet(first, &id.to_be_bytes()));
    }

    /// Queues a SUBSCRIBE.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = 1u16.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        body.extend(string(filter));
        body.push(qos);
        self.out.extend(packet(0x82, &body));
    }

    /// Queues a PINGREQ.
    pub fn ping(&mut self) {
        self.out.extend([0xC0, 0]);
    }

    /// Queues a DISCONNECT.
    pub fn disconnect(&mut self) {
        self.out.extend([0xE0, 0]);
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).context("cannot write")?;
        self.out.clear();
        Ok(())
    }

    /// Whether a whole packet has been read already.
    ///
    /// # Errors
    /// Fails on an impossible Remaining Length.
    pub fn has_packet(&self) -> Result<bool> {
        Ok(split(self.unread())?.is_some())
    }

    /// The next packet; `None` if the router closed.
    ///
    /// # Errors
    /// Fails if the connection breaks or says something unexpected.
    pub fn read(&mut self) -> Result<Option<Incoming>> {
        let level = self.level;
        let Some((first, body)) = self.packet()? else {
            return Ok(None);
        };
        Ok(Some(match first & 0xF0 {
            0x30 => {
                let (message, id) = parse_publish(first, &body, level)?;
                Incoming::Publish(message, id)
            }
            0x40..=0x70 => {
                let id = body.get(..2).context("a short acknowledgement")?;
                let id = u16::from_be_bytes([id[0], id[1]]);
                Incoming::Ack(first & 0xF0, id, body.get(2).copied().unwrap_or(0))
            }
            0x90 => Incoming::SubAck(body.last().copied().context("an empty SUBACK")?),
            0xD0 => Incoming::Pong,
            _ => bail!("unexpected packet {first:#04x} {body:02x?}"),
        }))
    }

    fn packet(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((head, len)) = split(self.unread())? {
                let from = self.start + head;
                let first = self.incoming[self.start];
                let body = self.incoming[from..from + len].to_vec();
                self.start = from + len;
                return Ok(Some((first, body)));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.incoming[self.start..]
    }

    fn fill(&mut self) -> Result<bool> {
        self.incoming.drain(..self.start);
        self.start = 0;
        let len = self.incoming.len();
        self.incoming.resize(len + READ_BYTES, 0);
        let read = self.stream.read(&mut self.incoming[len..]);
        self.incoming.truncate(len + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("cannot read"),
        }
    }
}
