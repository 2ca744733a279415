//! An MQTT client of 3.1.1 and 5.0, just large enough for the stories.
//!
//! Written from the standards, not on our codec: what it sends and expects must
//! not inherit a mistake of the router.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::PATIENCE;
use crate::websocket::fill;

mod packet;

pub use packet::{Connect, Message, Will, binary, packet, string};
pub(crate) use packet::{parse_publish, split};

/// The answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    /// Session Present.
    pub session_present: bool,
    /// Return code (3.1.1) or reason code (5.0); 0 is success.
    pub code: u8,
}

/// A connected client. Dropping it closes the socket without DISCONNECT.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    incoming: Vec<u8>,
    level: u8,
    next_id: u16,
    backlog: VecDeque<Message>,
}

impl Client {
    /// Connects and must be accepted.
    ///
    /// # Errors
    /// Fails if there is no CONNACK with code 0.
    pub fn connect(addr: SocketAddr, connect: &Connect) -> Result<Self> {
        let (client, ack) = Self::try_connect(addr, connect)?;
        ensure!(ack.code == 0, "CONNACK {:#04x}", ack.code);
        Ok(client)
    }

    /// Connects and returns whatever CONNACK came.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn try_connect(addr: SocketAddr, connect: &Connect) -> Result<(Self, ConnAck)> {
        let mut client = Self::open(addr, connect.level)?;
        client.send(&connect.encode())?;
        let (first, body) = client.read()?.context("closed instead of CONNACK")?;
        ensure!(
            first == 0x20 && body.len() >= 2,
            "{first:#04x} instead of CONNACK"
        );
        let ack = ConnAck {
            session_present: body[0] & 1 == 1,
            code: body[1],
        };
        Ok((client, ack))
    }

    /// A socket on which nothing has been said yet.
    ///
    /// # Errors
    /// Fails if nobody listens.
    pub fn open(addr: SocketAddr, level: u8) -> Result<Self> {
        let stream = TcpStream::connect(addr).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            incoming: Vec::new(),
            level,
            next_id: 0,
            backlog: VecDeque::new(),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot write")
    }

    /// Publishes and waits for the last acknowledgement; the reason code (0 in 3.1.1).
    ///
    /// # Errors
    /// Fails if it does not come.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) -> Result<u8> {
        let id = self.send_publish(topic, payload, qos, retain)?;
        match qos {
            0 => Ok(0),
            1 => self.acknowledgement(0x40, id),
            _ => {
                let code = self.acknowledgement(0x50, id)?;
                if code >= 0x80 {
                    return Ok(code);
                }
                self.send(&packet(0x62, &id.to_be_bytes()))?;
                self.acknowledgement(0x70, id)
            }
        }
    }

    /// Sends PUBLISH and does not wait; its packet identifier (0 for QoS 0).
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send_publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
    ) -> Result<u16> {
        let id = if qos > 0 { self.id() } else { 0 };
        let mut body = string(topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        if self.level == 5 {
            body.push(0);
        }
        body.extend(payload);
        self.send(&packet(0x30 | qos << 1 | u8::from(retain), &body))?;
        Ok(id)
    }

    /// Waits for PUBACK (0x40), PUBREC (0x50) or PUBCOMP (0x70) of one identifier.
    ///
    /// # Errors
    /// Fails if something else than messages and other acknowledgements comes first.
    pub fn acknowledgement(&mut self, kind: u8, id: u16) -> Result<u8> {
        loop {
            let (first, body) = self
                .read()?
                .context("closed instead of an acknowledgement")?;
            if first == kind && body.get(..2) == Some(&id.to_be_bytes()) {
                return Ok(body.get(2).copied().unwrap_or(0));
            }
            self.handle(first, &body)?;
        }
    }

    /// Subscribes to one filter; the code of SUBACK.
    ///
    /// # Errors
    /// Fails if there is no SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Result<u8> {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        body.extend(string(filter));
        body.push(qos);
        self.send(&packet(0x82, &body))?;
        loop {
            let (first, body) = self.read()?.context("closed instead of SUBACK")?;
            if first == 0x90 {
                return body.last().copied().context("an empty SUBACK");
            }
            self.handle(first, &body)?;
        }
    }

    /// Sends PINGREQ and waits for PINGRESP: everything the router sent this
    /// client before it is then in the backlog.
    ///
    /// # Errors
    /// Fails if there is no PINGRESP.
    pub fn ping(&mut self) -> Result<()> {
        self.send(&[0xC0, 0])?;
        loop {
            let (first, body) = self.read()?.context("closed instead of PINGRESP")?;
            if first == 0xD0 {
                return Ok(());
            }
            self.handle(first, &body)?;
        }
    }

    /// The next message, acknowledged as its QoS demands.
    ///
    /// # Errors
    /// Fails if none comes within [`PATIENCE`].
    pub fn message(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.backlog.pop_front() {
                return Ok(message);
            }
            let (first, body) = self.read()?.context("closed instead of a message")?;
            self.handle(first, &body)?;
        }
    }

    /// What has been received and not asked for yet.
    pub fn received(&mut self) -> Vec<Message> {
        self.backlog.drain(..).collect()
    }

    /// DISCONNECT: the will is deleted and the socket closed.
    ///
    /// # Errors
    /// Fails if the connection is gone already.
    pub fn disconnect(mut self) -> Result<()> {
        self.send(&[0xE0, 0])?;
        // The server closes; waiting for that makes the order of events certain.
        while self.read()?.is_some() {}
        Ok(())
    }

    /// Closes the socket in both directions without DISCONNECT.
    ///
    /// # Errors
    /// Fails if it is closed already.
    pub fn cut(self) -> Result<()> {
        self.stream
            .shutdown(Shutdown::Both)
            .context("cannot shut down")
    }

    /// The next packet, first byte and body; `None` at the end of the connection.
    ///
    /// # Errors
    /// Fails if nothing comes within [`PATIENCE`].
    pub fn read(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((head, len)) = split(&self.incoming)? {
                let body = self.incoming[head..head + len].to_vec();
                let first = self.incoming[0];
                self.incoming.drain(..head + len);
                return Ok(Some((first, body)));
            }
            if !fill(&mut self.stream, &mut self.incoming)? {
                return Ok(None);
            }
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    fn handle(&mut self, first: u8, body: &[u8]) -> Result<()> {
        match first >> 4 {
            3 => {
                let (message, id) = parse_publish(first, body, self.level)?;
                match message.qos {
                    0 => {}
                    1 => self.send(&packet(0x40, &id.to_be_bytes()))?,
                    _ => self.send(&packet(0x50, &id.to_be_bytes()))?,
                }
                self.backlog.push_back(message);
            }
            6 => self.send(&packet(0x70, body.get(..2).context("a short PUBREL")?))?,
            4 | 5 | 7 | 9 | 11 | 13 => {}
            _ => bail!("unexpected packet {first:#04x} {body:?}"),
        }
        Ok(())
    }
}
