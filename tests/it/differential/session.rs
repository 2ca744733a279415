//! A script played on one broker, step by step.
//!
//! A step is over when the broker is quiescent: every client with a session has sent a PINGREQ
//! and got its PINGRESP at least twice, the last time with nothing else before it, and every
//! answer that the standard demands has come or has had its time. Twice, because a broker of
//! several threads may answer the first PINGREQ ahead of a message that another client's packet
//! has just caused.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::broker::{Broker, Kind};
use super::client::{Client, Habit};
use super::script::{Action, Step, Version};

/// How long an answer may be missing before the step goes on without it.
const ANSWER: Duration = Duration::from_millis(250);
/// How long a connection without a session may stay silent.
const SILENCE: Duration = Duration::from_millis(150);
/// How long a step may take in all.
const LONGEST: Duration = Duration::from_secs(30);
/// A pause between two looks, spent reading.
const LOOK: Duration = Duration::from_millis(5);

/// A script under way.
#[derive(Debug)]
pub struct Session {
    broker: Broker,
    version: Version,
    capabilities: bool,
    clients: Vec<(char, Client)>,
}

impl Session {
    /// A fresh broker and nobody connected.
    pub fn start(kind: Kind, version: Version, capabilities: bool) -> Result<Self> {
        Ok(Self {
            broker: Broker::start(kind)?,
            version,
            capabilities,
            clients: Vec::new(),
        })
    }

    pub const fn kind(&self) -> Kind {
        self.broker.kind
    }

    /// Carries out one step and waits until all is quiet.
    pub fn play(&mut self, step: &Step) -> Result<()> {
        let version = version_of(&step.action).unwrap_or(self.version);
        let endpoint = self.broker.endpoint(version);
        let client = self.client(step.client);
        if opens(&step.action) && !client.is_open() {
            client.open(endpoint, version)?;
        }
        match &step.action {
            Action::Open => {}
            Action::Cut => client.cut()?,
            Action::Manual => client.acknowledge_by(Habit::Scripted),
            Action::Hold => client.acknowledge_by(Habit::Held),
            Action::Ack => client.acknowledge_by(Habit::AtOnce),
            Action::Raw { writes, cut } => {
                for bytes in writes {
                    client.raw(bytes);
                }
                if *cut {
                    client.cut()?;
                }
            }
            Action::Send(requests) => client.send(requests)?,
        }
        self.first_answer(step.client)?;
        let slow_to_end = self.kind() == Kind::Rumqttd && ends(&step.action);
        if slow_to_end || matches!(step.action, Action::Raw { .. }) {
            self.linger()?;
        }
        self.quiesce()
    }

    /// One more look, if the broker may still have something to say.
    pub fn look_again(&mut self) -> Result<()> {
        self.linger()?;
        self.quiesce()
    }

    /// Reads what comes for a moment: a broker may go on after it has closed a connection, and
    /// must not find a PINGREQ behind bytes that it misjudges.
    fn linger(&mut self) -> Result<()> {
        let deadline = Instant::now() + LOOK;
        let mut open = true;
        while open && Instant::now() < deadline {
            open = false;
            for (_, client) in &mut self.clients {
                open |= client.is_open();
                client.read(Duration::from_millis(1))?;
            }
        }
        Ok(())
    }

    /// Whether a client has received something in this step.
    pub fn has_seen(&self, name: char) -> bool {
        let client = self.clients.iter().find(|(known, _)| *known == name);
        client.is_some_and(|(_, client)| client.count() > 0)
    }

    /// What all clients have seen in this step.
    pub fn transcript(&self) -> Vec<String> {
        let lines = self
            .clients
            .iter()
            .flat_map(|(_, client)| client.transcript());
        lines.collect()
    }

    /// Ends the step.
    pub fn finish_step(&mut self) {
        for (_, client) in &mut self.clients {
            client.finish();
        }
    }

    /// Whether a stranger is still let in.
    pub fn is_alive(&self) -> Result<bool> {
        let mut stranger = Client::new('Z', self.version, false);
        stranger.open(self.broker.endpoint(self.version), self.version)?;
        let connect = super::script::parse_step("Z> CONNECT id=stranger")?;
        if let Action::Send(requests) = &connect.action {
            stranger.send(requests)?;
        }
        stranger.read(Duration::from_secs(2))?;
        Ok(stranger.is_established())
    }

    fn client(&mut self, name: char) -> &mut Client {
        let at = match self.clients.binary_search_by_key(&name, |(name, _)| *name) {
            Ok(at) => at,
            Err(at) => {
                let client = Client::new(name, self.version, self.capabilities);
                self.clients.insert(at, (name, client));
                at
            }
        };
        &mut self.clients[at].1
    }

    /// A connection without a session cannot be asked with PINGREQ: it gets some time to answer
    /// and to be closed.
    fn first_answer(&mut self, name: char) -> Result<()> {
        let client = self.client(name);
        let deadline = Instant::now() + SILENCE;
        while client.is_between() && Instant::now() < deadline {
            client.read(SILENCE)?;
        }
        Ok(())
    }

    fn quiesce(&mut self) -> Result<()> {
        let start = Instant::now();
        for round in 1.. {
            let quiet = !self.round()?;
            let late = self.clients.iter().any(|(_, client)| client.waits());
            if late && start.elapsed() < ANSWER {
                for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.waits()) {
                    client.read(LOOK)?;
                }
            } else if quiet && round >= 2 {
                break;
            }
            ensure!(
                start.elapsed() < LONGEST,
                "{} does not come to rest",
                self.broker.kind
            );
        }
        for (_, client) in &mut self.clients {
            client.forget_answers();
        }
        // Whoever has been told that its connection ends sees the end of it.
        let leaving =
            |(name, client): &mut (char, Client)| client.starts_leaving().then_some(*name);
        let told: Vec<char> = self.clients.iter_mut().filter_map(leaving).collect();
        for name in told {
            self.first_answer(name)?;
        }
        Ok(())
    }

    /// A PINGREQ from everybody; whether anything but the PINGRESPs came.
    fn round(&mut self) -> Result<bool> {
        let seen = |clients: &[(char, Client)]| -> usize {
            clients.iter().map(|(_, client)| client.count()).sum()
        };
        let before = seen(&self.clients);
        for (_, client) in &mut self.clients {
            if client.is_established() {
                client.ping();
            }
        }
        for (_, client) in &mut self.clients {
            if client.is_established() {
                client.pong()?;
            }
        }
        Ok(seen(&self.clients) > before)
    }
}

/// Whether the step needs a connection and may begin with one.
fn opens(action: &Action) -> bool {
    match action {
        Action::Open | Action::Raw { .. } => true,
        Action::Send(requests) => requests.iter().any(|request| request.kind == "CONNECT"),
        Action::Cut | Action::Manual | Action::Hold | Action::Ack => false,
    }
}

/// Whether the client ends the connection in this step.
fn ends(action: &Action) -> bool {
    match action {
        Action::Cut => true,
        Action::Raw { cut, .. } => *cut,
        Action::Send(requests) => requests.iter().any(|request| request.kind == "DISCONNECT"),
        Action::Open | Action::Manual | Action::Hold | Action::Ack => false,
    }
}

/// The version that a CONNECT asks for by name.
fn version_of(action: &Action) -> Option<Version> {
    let Action::Send(requests) = action else {
        return None;
    };
    let name = requests.iter().find_map(|request| request.get("version"))?;
    Version::named(std::str::from_utf8(name).ok()?).ok()
}
