//! One scripted client: a socket, what has been received on it in this step, and the
//! acknowledgements it owes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration_tests::mqtt::packet;

use super::decode::{self, Aliases, Frame, Received};
use super::encode::{Answer, Encoded, Sender, encode};
use super::line::{Line, counted};
use super::names::Names;
use super::script::{Request, Version};
use super::stream::{Endpoint, Stream};

/// How long a broker may take to answer a PINGREQ.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long it may take to close a connection that the client ends.
const END: Duration = Duration::from_millis(500);

/// A client. It keeps its counters and names over its connections.
#[derive(Debug)]
pub struct Client {
    name: char,
    version: Version,
    capabilities: bool,
    link: Option<Link>,
    habit: Habit,
    /// First byte and identifier of the acknowledgements that are held back.
    owed: Vec<(u8, u16)>,
    last_id: u16,
    names: Names,
    lines: Vec<Line>,
    outstanding: Vec<Answer>,
}

/// How a client acknowledges what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    AtOnce,
    /// As the script says.
    Scripted,
    /// Later, all in one.
    Held,
}

#[derive(Debug)]
struct Link {
    stream: Stream,
    incoming: Vec<u8>,
    /// CONNACK with success has come.
    established: bool,
    /// PINGREQs without answer: whether the script sent it.
    pings: VecDeque<bool>,
    /// It does not answer them.
    mute: bool,
    /// The broker has said that it ends this connection.
    leaving: bool,
    aliases: Aliases,
}

impl Client {
    pub fn new(name: char, version: Version, capabilities: bool) -> Self {
        Self {
            name,
            version,
            capabilities,
            link: None,
            habit: Habit::AtOnce,
            owed: Vec::new(),
            last_id: 0,
            names: Names::default(),
            lines: Vec::new(),
            outstanding: Vec::new(),
        }
    }

    /// Whether there is a connection.
    pub const fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Whether there is one that PINGREQ may be sent on.
    pub fn is_established(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| link.established && !link.mute)
    }

    /// Whether the broker is expected to close the connection, or to let the client in.
    pub fn is_between(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.established)
    }

    /// Whether the end of the connection has been announced since the last time of asking.
    pub fn starts_leaving(&mut self) -> bool {
        let link = self.link.as_mut();
        link.is_some_and(|link| std::mem::take(&mut link.leaving))
    }

    /// Whether an answer that the standard demands is missing.
    pub fn waits(&self) -> bool {
        self.link.is_some() && !self.outstanding.is_empty()
    }

    /// Gives up the answers that have not come.
    pub fn forget_answers(&mut self) {
        self.outstanding.clear();
    }

    /// How much has been seen in this step.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Opens a connection, from here on in this version.
    pub fn open(&mut self, endpoint: Endpoint, version: Version) -> Result<()> {
        self.version = version;
        self.outstanding.clear();
        // What is not acknowledged comes again.
        self.owed.clear();
        let Ok(stream) = Stream::open(endpoint) else {
            self.lines.push(Line::failure("refused".to_owned()));
            return Ok(());
        };
        self.link = Some(Link {
            stream,
            incoming: Vec::new(),
            established: false,
            pings: VecDeque::new(),
            mute: false,
            leaving: false,
            aliases: Aliases::default(),
        });
        Ok(())
    }

    /// From here on acknowledges in this way; whoever stops holding back pays what it owes.
    pub fn acknowledge_by(&mut self, habit: Habit) {
        self.habit = habit;
        if habit == Habit::AtOnce {
            for (first, id) in std::mem::take(&mut self.owed) {
                self.write(&packet(first, &id.to_be_bytes()));
            }
        }
    }

    /// Sends packets in one write.
    pub fn send(&mut self, requests: &[Request]) -> Result<()> {
        let mut bytes = Vec::new();
        for request in requests {
            for _ in 0..request.times {
                match self.prepare(request) {
                    Ok(encoded) => {
                        bytes.extend(encoded.bytes);
                        self.outstanding.extend(encoded.answer);
                    }
                    Err(error) => {
                        self.lines.push(Line::failure(format!("{error}")));
                        return Ok(());
                    }
                }
            }
        }
        self.write(&bytes);
        let leaves = requests.iter().any(|request| request.kind == "DISCONNECT");
        if leaves {
            self.wait_for_the_end()?;
        }
        Ok(())
    }

    fn prepare(&mut self, request: &Request) -> Result<Encoded> {
        let names = &self.names;
        let named_id = |name: &str| names.id(name);
        let mut sender = Sender {
            client: self.name,
            version: self.version,
            last_id: &mut self.last_id,
            named_id: &named_id,
        };
        let encoded = encode(request, &mut sender)?;
        let refuses = request.hex("code")?.is_some_and(|code| code >= 0x80);
        match request.kind.as_str() {
            "PUBACK" | "PUBCOMP" => self.names.release(request.get("id").unwrap_or_default()),
            "PUBREC" if refuses => self.names.release(request.get("id").unwrap_or_default()),
            "PINGREQ" => self.expect_ping(true),
            _ => {}
        }
        Ok(encoded)
    }

    fn expect_ping(&mut self, scripted: bool) {
        if let Some(link) = &mut self.link {
            link.pings.push_back(scripted);
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        if bytes.first().is_some_and(|first| first >> 4 == 12) {
            self.expect_ping(true);
        }
        self.write(bytes);
    }

    /// A failed write is found out by the next read, which comes after what was sent before.
    fn write(&mut self, bytes: &[u8]) {
        match &mut self.link {
            Some(link) => {
                let _ = link.stream.write(bytes);
            }
            None => self.lines.push(Line::failure("not connected".to_owned())),
        }
    }

    /// Ends the connection without DISCONNECT. The broker's own end is waited for, so that
    /// whatever it does about it has begun.
    pub fn cut(&mut self) -> Result<()> {
        let Some(link) = &self.link else {
            self.lines.push(Line::failure("not connected".to_owned()));
            return Ok(());
        };
        if link.stream.end().is_ok() {
            let before = self.lines.len();
            self.wait_for_the_end()?;
            self.lines.truncate(before);
        }
        self.link = None;
        Ok(())
    }

    fn wait_for_the_end(&mut self) -> Result<()> {
        let deadline = Instant::now() + END;
        while self.link.is_some() && Instant::now() < deadline {
            self.read(END)?;
        }
        Ok(())
    }

    /// Sends the PINGREQ of a barrier.
    pub fn ping(&mut self) {
        self.expect_ping(false);
        self.write(&[0xC0, 0]);
    }

    /// Reads until every PINGREQ is answered.
    pub fn pong(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(link) = &mut self.link else {
                return Ok(());
            };
            if link.pings.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                link.mute = true;
                self.lines.push(Line::mute());
                return Ok(());
            }
            self.read(PATIENCE)?;
        }
    }

    /// Reads once, for at most `patience`; whether something came.
    pub fn read(&mut self, patience: Duration) -> Result<bool> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        match link.stream.read(&mut link.incoming, patience) {
            Ok(Some(0)) => self.end(),
            Ok(Some(_)) => self.take_packets()?,
            Ok(None) => return Ok(false),
            // A reset, or a WebSocket that broke its own rules.
            Err(_) => self.end(),
        }
        Ok(true)
    }

    fn end(&mut self) {
        self.link = None;
        self.outstanding.clear();
        self.lines.push(Line::closed());
    }

    fn take_packets(&mut self) -> Result<()> {
        while let Some(link) = &mut self.link {
            let taken = decode::take_frame(&mut link.incoming).and_then(|frame| match frame {
                Some(frame) => Ok(Some((decode::read(&frame, self.version)?, frame))),
                None => Ok(None),
            });
            match taken {
                Ok(Some((received, frame))) => self.receive(&frame, received)?,
                Ok(None) => break,
                Err(error) => {
                    self.link = None;
                    self.lines.push(Line::nonsense(&format!("{error}")));
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, frame: &Frame, mut received: Received) -> Result<()> {
        let well_formed = decode::well_formed(frame, self.version);
        match &mut received {
            Received::ConnAck { present, code, .. } => {
                self.answered(2, 0);
                self.connected(*present, *code);
            }
            Received::Publish(publish) => {
                if let Some(link) = &mut self.link {
                    link.aliases.resolve(publish);
                }
                match publish.qos {
                    1 => self.acknowledge(0x40, publish.id),
                    2 => self.acknowledge(0x50, publish.id),
                    _ => {}
                }
            }
            Received::Ack { kind, id, code, .. } => {
                self.answered(*kind, *id);
                match kind {
                    5 if code.unwrap_or(0) < 0x80 && self.habit != Habit::Scripted => {
                        self.write(&packet(0x62, &id.to_be_bytes()));
                        self.outstanding.push(Answer { kind: 7, id: *id });
                    }
                    6 => self.acknowledge(0x70, *id),
                    _ => {}
                }
            }
            Received::Codes { kind, id, .. } => self.answered(*kind, *id),
            Received::PingResp => {
                let link = self.link.as_mut().context("no connection")?;
                if link.pings.pop_front() == Some(false) {
                    return Ok(());
                }
            }
            Received::Disconnect { .. } => {
                if let Some(link) = &mut self.link {
                    link.established = false;
                    link.leaving = true;
                    link.pings.clear();
                }
            }
            Received::Auth { .. } => {}
        }
        let line = Line::packet(&received, well_formed, self.capabilities);
        self.lines.push(line);
        Ok(())
    }

    fn connected(&mut self, present: bool, code: u8) {
        if let Some(link) = &mut self.link {
            link.established = code == 0;
            link.leaving = code != 0;
        }
        // 3.1 does not tell.
        if !present && self.version != Version::V3_1 {
            self.names.clear();
        }
    }

    fn answered(&mut self, kind: u8, id: u16) {
        let answer = Answer { kind, id };
        if let Some(at) = self.outstanding.iter().position(|known| *known == answer) {
            self.outstanding.remove(at);
        }
    }

    fn acknowledge(&mut self, first: u8, id: u16) {
        match self.habit {
            Habit::AtOnce => self.write(&packet(first, &id.to_be_bytes())),
            Habit::Held => self.owed.push((first, id)),
            Habit::Scripted => {}
        }
    }

    /// What has been seen in this step, in the order of comparison; lines that repeat are counted.
    pub fn transcript(&self) -> Vec<String> {
        counted(&self.named_lines(&mut self.names.clone()))
    }

    /// Ends the step: the names it gave stay.
    pub fn finish(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        self.named_lines(&mut names);
        self.names = names;
        self.lines.clear();
    }

    fn named_lines(&self, names: &mut Names) -> Vec<String> {
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        Line::sort(&mut lines);
        let text = |line: &Line| match line.id.filter(|_| self.habit == Habit::Scripted) {
            Some(id) => format!("{}{} {}", self.name, line.text, names.name(id)),
            None => format!("{}{}", self.name, line.text),
        };
        lines.into_iter().map(text).collect()
    }
}
