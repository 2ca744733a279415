//! Random sessions: three clients that mostly do what they may, over a few topics.
//!
//! A session is a script, so that whatever goes wrong can be played again. It comes in one of two
//! kinds. [`Kind::Full`] uses the whole protocol and is for Mosquitto. [`Kind::Plain`] leaves out
//! what rumqttd 0.20 does not do: sessions that outlive a connection, retained messages, `$`
//! topics, No Local, two versions at once, changed subscriptions, UNSUBSCRIBE of what is not
//! there, a second CONNECT, a connection that takes over another. The scripts show each of these.
//!
//! What is left out everywhere, because a peer differs there in ways that change what follows:
//! subscriptions of one client that overlap with different options, options of a filter that
//! change, wills and persistent sessions of connections that the server ends, shared subscriptions
//! to `$` topics.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::script::Version;
use super::topics::{self, overlap};

/// Which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Plain,
}

/// Subscriptions of one client at one time.
const MOST_SUBSCRIPTIONS: usize = 6;
/// The Receive Maximum of clients that hold acknowledgements back.
const WINDOW: u16 = 4;

/// Makes steps, and knows what they lead to.
#[derive(Debug)]
pub struct Generator {
    dice: StdRng,
    kind: Kind,
    version: Version,
    clients: Vec<Client>,
    payloads: u64,
}

/// A Client Identifier, and who uses it.
#[derive(Debug, Default)]
struct Client {
    id: &'static str,
    /// The scripted clients that take turns in taking over.
    names: [char; 2],
    version: Option<Version>,
    connected: bool,
    persistent: bool,
    will: bool,
    /// It may hold acknowledgements back, and is careful about what it subscribes to: which
    /// messages fill its window must be certain.
    patient: bool,
    holding: bool,
    /// Filters in force.
    subscriptions: BTreeSet<String>,
    /// Options that a filter keeps for the whole session.
    options: BTreeMap<String, String>,
    aliases: BTreeMap<u16, String>,
}

impl Client {
    fn v5(&self) -> bool {
        self.version == Some(Version::V5)
    }
}

impl Generator {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let version = match dice.random_bool(0.6) {
            true => Version::V5,
            false => Version::V3_1_1,
        };
        let names = [("a", ['A', 'D']), ("b", ['B', 'E']), ("c", ['C', 'F'])];
        let client = |(id, names)| Client {
            id,
            names,
            ..Client::default()
        };
        Self {
            dice,
            kind,
            version,
            clients: names.map(client).into(),
            payloads: 0,
        }
    }

    /// The version of clients that do not choose their own.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The next line of the script.
    pub fn step(&mut self) -> String {
        let at = self.below(self.clients.len());
        let mut client = std::mem::take(&mut self.clients[at]);
        let words = match client.connected {
            false => self.connect(&mut client),
            true => self.act(&mut client),
        };
        let line = format!("{}> {words}", client.names[0]);
        self.clients[at] = client;
        line
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_ratio(percent, 100)
    }

    fn below(&mut self, count: usize) -> usize {
        self.dice.random_range(0..count)
    }

    fn full(&self) -> bool {
        self.kind == Kind::Full
    }

    fn connect(&mut self, client: &mut Client) -> String {
        // A client keeps its version: the options of 5.0 would outlast it in Mosquitto.
        let version = client.version.unwrap_or_else(|| self.choose(client));
        let clean = !self.full() || self.chance(40);
        if clean || !client.persistent {
            client.subscriptions.clear();
        }
        client.connected = true;
        client.persistent = !clean;
        client.aliases.clear();
        let mut words = format!("CONNECT id={} version={version}", client.id);
        if client.persistent {
            words.push_str(" clean=0 session-expiry=1000");
        }
        client.will = self.chance(25);
        if client.will {
            let (topic, qos) = (self.topic(), self.qos());
            let payload = self.payload();
            words.push_str(&format!(
                " will={topic} will-payload={payload} will-qos={qos}"
            ));
            if self.full() && self.chance(20) {
                words.push_str(" will-retain=1");
            }
        }
        if client.v5() && self.full() {
            match client.patient {
                true => words.push_str(&format!(" receive-max={WINDOW}")),
                false if self.chance(30) => words.push_str(" receive-max=15"),
                false => {}
            }
            if self.chance(20) {
                words.push_str(" alias-max=3");
            }
        }
        words
    }

    /// What holds for all connections of a client.
    fn choose(&mut self, client: &mut Client) -> Version {
        let version = match self.full() && self.chance(30) {
            true => Version::V3_1_1,
            false => self.version,
        };
        client.version = Some(version);
        client.patient = client.v5() && self.full() && self.chance(40);
        version
    }

    fn act(&mut self, client: &mut Client) -> String {
        let somebody_holds = client.holding || self.clients.iter().any(|other| other.holding);
        match self.dice.random_range(0..100) {
            0..=3 => self.disconnect(client),
            4..=7 => {
                client.connected = false;
                client.will = false;
                "cut".to_owned()
            }
            8 if self.full() && !client.will && !client.persistent => {
                client.connected = false;
                "CONNECT".to_owned()
            }
            9..=11 if self.full() && !client.will && !client.holding => {
                client.names.swap(0, 1);
                self.connect(client)
            }
            12..=21 if client.patient => {
                client.holding = !client.holding;
                if client.holding { "hold" } else { "ack" }.to_owned()
            }
            8..=11 => "PINGREQ".to_owned(),
            12..=30 => self.subscribe(client),
            31..=38 => self.unsubscribe(client),
            39..=53 if !somebody_holds => {
                let count = self.dice.random_range(2..5);
                let packets: Vec<String> =
                    (0..count).map(|_| self.publish(client, false)).collect();
                packets.join(" ; ")
            }
            _ => self.publish(client, true),
        }
    }

    fn disconnect(&mut self, client: &mut Client) -> String {
        client.connected = false;
        let mut words = "DISCONNECT".to_owned();
        if client.v5() && self.full() {
            if client.will && self.chance(30) {
                words.push_str(" code=04");
            }
            if client.persistent && self.chance(20) {
                client.persistent = false;
                words.push_str(" session-expiry=0");
            }
        }
        client.will = false;
        words
    }

    fn subscribe(&mut self, client: &mut Client) -> String {
        let mut words = "SUBSCRIBE".to_owned();
        if client.v5() && self.full() && !client.patient && self.chance(20) {
            return self.share(client);
        }
        for _ in 0..self.dice.random_range(1..4) {
            let filter = self.filter();
            let room = client.subscriptions.len() < MOST_SUBSCRIPTIONS;
            let again = client.subscriptions.contains(&filter);
            // rumqttd takes an identical subscription for nothing new.
            if again && !self.full() || !again && !room || words.contains(&format!(" {filter}@")) {
                continue;
            }
            let Some(options) = self.options(client, &filter) else {
                continue;
            };
            words.push_str(&format!(" {filter}@{options}"));
            if client.v5() && self.full() {
                let handling = if client.patient { 2 } else { self.below(3) };
                words.push_str(&format!(",rh{handling}"));
            }
            client.subscriptions.insert(filter);
        }
        if !words.contains('@') {
            return "PINGREQ".to_owned();
        }
        if client.v5() && self.chance(40) {
            let id = self.dice.random_range(1..300);
            words.push_str(&format!(" subscription-id={id}"));
        }
        words
    }

    /// A shared subscription, alone in its packet. The client is the only member of its group: how
    /// members are chosen is up to the server.
    fn share(&mut self, client: &mut Client) -> String {
        let filter = format!("$share/{}/{}", client.id, self.filter());
        let room = client.subscriptions.len() < MOST_SUBSCRIPTIONS;
        let options = self.options(client, &filter);
        match options {
            Some(options) if room && !filter.contains("/$s") => {
                client.subscriptions.insert(filter.clone());
                format!("SUBSCRIBE {filter}@{options}")
            }
            _ => "PINGREQ".to_owned(),
        }
    }

    /// Filters that meet in some topic have the same options, and a filter keeps its own; patient
    /// clients have none that meet. `None` if that cannot be.
    fn options(&mut self, client: &mut Client, filter: &str) -> Option<String> {
        if let Some(known) = client.options.get(filter) {
            return Some(known.clone());
        }
        let shared = filter.starts_with("$share/");
        let mut options = self.qos().to_string();
        if self.full() && !shared {
            for option in [",nl", ",rap"] {
                if self.chance(20) {
                    options.push_str(option);
                }
            }
        }
        let known = client.options.iter();
        let neighbours: BTreeSet<&String> = known
            .filter(|(other, _)| overlap(filter, other))
            .map(|(_, options)| options)
            .collect();
        if neighbours.len() > 1 || client.patient && !neighbours.is_empty() {
            return None;
        }
        if let Some(same) = neighbours.first() {
            options.clone_from(same);
        }
        client.options.insert(filter.to_owned(), options.clone());
        Some(options)
    }

    fn unsubscribe(&mut self, client: &mut Client) -> String {
        let known: Vec<String> = client.subscriptions.iter().cloned().collect();
        let filter = match known.is_empty() || self.full() && self.chance(30) {
            true if !self.full() => return "PINGREQ".to_owned(),
            true => self.filter(),
            false => known[self.below(known.len())].clone(),
        };
        client.subscriptions.remove(&filter);
        format!("UNSUBSCRIBE {filter}")
    }

    /// One of several in a step deletes nothing, for two deletions could not be told from copies of
    /// one, and retains nothing with QoS 2, for that may become retained as late as at PUBREL.
    fn publish(&mut self, client: &mut Client, alone: bool) -> String {
        let (mut topic, qos) = (self.topic(), self.qos());
        let retain = self.full() && (alone || qos < 2) && self.chance(25);
        let payload = match retain && alone && self.chance(30) {
            true => "\\e".to_owned(),
            false => self.payload(),
        };
        let mut alias = String::new();
        // rumqttd learns the alias of a QoS 2 message at its PUBREL only.
        if client.v5() && (self.full() || qos < 2) && self.chance(20) {
            let number = self.dice.random_range(1..5);
            match client.aliases.get(&number) {
                Some(_) if self.chance(60) => topic = "\\e".to_owned(),
                _ => {
                    client.aliases.insert(number, topic.clone());
                }
            }
            alias = format!(" alias={number}");
        }
        let mut words = format!("PUBLISH {topic} {payload} qos={qos}{alias}");
        if retain {
            words.push_str(" retain");
        }
        if client.v5() {
            self.properties(&mut words);
        }
        words
    }

    fn properties(&mut self, words: &mut String) {
        let given = [
            " payload-format=1",
            " expiry=1000",
            " content-type=text",
            " response-topic=r/t",
            " correlation=\\x00\\xff",
            " user=k:1",
            " user=j:2",
            " user=k:1",
        ];
        for property in given {
            if self.chance(12) {
                words.push_str(property);
            }
        }
    }

    fn qos(&mut self) -> u8 {
        self.dice.random_range(0..3)
    }

    /// Different for each message, so that none can be taken for another.
    fn payload(&mut self) -> String {
        self.payloads += 1;
        format!("m{}", self.payloads)
    }

    fn topic(&mut self) -> String {
        let plain = !self.full();
        topics::topic(&mut self.dice, plain)
    }

    fn filter(&mut self) -> String {
        let plain = !self.full();
        topics::filter(&mut self.dice, plain)
    }
}

#[test]
fn a_seed_is_a_session() -> crate::Outcome {
    let script = |seed| {
        let mut generator = Generator::new(seed, Kind::Full);
        let lines: Vec<String> = (0..200).map(|_| generator.step()).collect();
        lines.join("\n")
    };
    anyhow::ensure!(script(1) == script(1) && script(1) != script(2));
    // Every line can be played.
    super::script::parse(&format!("== x\n{}", script(3)))?;
    Ok(())
}
