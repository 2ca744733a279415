//! One line of a transcript, and the order in which lines are compared.
//!
//! Brokers may choose the order between packets of different kinds and between messages of
//! different topics or QoS; what they may not choose is the order of messages of one topic and QoS
//! from one publisher `[MQTT-4.6.0-6]` and that of acknowledgements of one kind
//! `[MQTT-4.6.0-2]`. So lines are sorted by kind, messages by topic and QoS, and the sort is
//! stable. Left out or made equal is what the standards leave to the broker: Reason Strings,
//! Packet Identifiers, Topic Aliases, the assigned Client Identifier, and a second more or less of
//! a Message Expiry Interval.

use super::decode::{Publish, Received, readable};
use super::property::Property;

/// What CONNACK says about the server and not about the session.
const CAPABILITIES: [&str; 8] = [
    "receive-max",
    "alias-max",
    "max-qos",
    "retain-available",
    "max-packet",
    "wildcards",
    "subscription-ids",
    "shared",
];

/// The rank of PUBLISH.
const MESSAGE: u8 = 8;

/// Something that a client saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    rank: u8,
    topic: Vec<u8>,
    qos: u8,
    payload: Vec<u8>,
    /// The Packet Identifier that the broker chose.
    pub id: Option<u16>,
    pub text: String,
}

impl Line {
    /// Puts lines into the order of comparison. Copies of one message that follow each other are
    /// those of several subscriptions, in any order.
    pub fn sort(lines: &mut [&Self]) {
        lines.sort_by_key(|line| line.order());
        for copies in lines.chunk_by_mut(|a, b| {
            a.rank == MESSAGE && a.order() == b.order() && a.payload == b.payload
        }) {
            copies.sort_by_key(|line| &line.text);
        }
    }

    fn order(&self) -> (u8, &[u8], u8) {
        (self.rank, &self.topic, self.qos)
    }

    fn new(rank: u8, text: String) -> Self {
        Self {
            rank,
            topic: Vec::new(),
            qos: 0,
            payload: Vec::new(),
            id: None,
            text,
        }
    }

    /// Something that could not be done.
    pub fn failure(text: String) -> Self {
        Self::new(0, format!("! {text}"))
    }

    /// The broker closed the connection.
    pub fn closed() -> Self {
        Self::new(12, "< closed".to_owned())
    }

    /// The broker answers no PINGREQ.
    pub fn mute() -> Self {
        Self::new(10, "< (no PINGRESP)".to_owned())
    }

    /// Bytes that are no packet of a server.
    pub fn nonsense(why: &str) -> Self {
        Self::new(9, format!("< (nonsense: {why})"))
    }

    /// A packet. `well_formed` is the verdict of the router's codec.
    pub fn packet(received: &Received, well_formed: bool, capabilities: bool) -> Self {
        let mut line = Self::of(received, capabilities);
        if !well_formed {
            line.text.push_str(" (malformed)");
        }
        line
    }

    fn of(received: &Received, capabilities: bool) -> Self {
        match received {
            Received::ConnAck {
                present,
                code,
                properties,
            } => {
                let shown = properties
                    .iter()
                    .filter(|property| capabilities || !CAPABILITIES.contains(&property.name));
                let present = u8::from(*present);
                let text = format!("< CONNACK {code:02x} present={present}{}", words(shown));
                Self::new(1, text)
            }
            Received::Auth { code, properties } => {
                Self::new(1, format!("< AUTH {code:02x}{}", words(properties)))
            }
            Received::Codes {
                kind,
                id,
                codes,
                properties,
            } => {
                let name = if *kind == 9 { "SUBACK" } else { "UNSUBACK" };
                let codes: String = codes.iter().map(|code| format!(" {code:02x}")).collect();
                Self::new(2, format!("< {name} {id}:{codes}{}", words(properties)))
            }
            Received::Ack {
                kind,
                id,
                code,
                properties,
            } => Self::acknowledgement(*kind, *id, *code, properties),
            Received::PingResp => Self::new(7, "< PINGRESP".to_owned()),
            Received::Publish(publish) => Self::message(publish),
            Received::Disconnect { code, properties } => {
                let code = code.unwrap_or(0);
                Self::new(11, format!("< DISCONNECT {code:02x}{}", words(properties)))
            }
        }
    }

    fn acknowledgement(kind: u8, id: u16, code: Option<u8>, properties: &[Property]) -> Self {
        let name = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"]
            .get(usize::from(kind) - 4)
            .unwrap_or(&"?");
        let mut text = format!("< {name}");
        if kind != 6 {
            text.push_str(&format!(" {id}"));
        }
        if let Some(code) = code.filter(|code| *code != 0) {
            text.push_str(&format!(" {code:02x}"));
        }
        text.push_str(&words(properties));
        let mut line = Self::new(kind - 1, text);
        line.id = (kind == 6).then_some(id);
        line
    }

    fn message(publish: &Publish) -> Self {
        let topic = readable(&publish.topic);
        let payload = readable(&publish.payload);
        let mut text = format!("< PUBLISH {topic} {payload} qos={}", publish.qos);
        for (flag, name) in [(publish.retain, " retain"), (publish.dup, " dup")] {
            if flag {
                text.push_str(name);
            }
        }
        text.push_str(&words(&publish.properties));
        Self {
            rank: MESSAGE,
            topic: publish.topic.clone(),
            qos: publish.qos,
            payload: publish.payload.clone(),
            id: (publish.qos > 0).then_some(publish.id),
            text,
        }
    }
}

/// Lines that follow each other and are equal, as one with their number.
pub fn counted(lines: &[String]) -> Vec<String> {
    let runs = lines.chunk_by(|one, next| one == next);
    runs.filter_map(|run| match run {
        [] => None,
        [line] => Some(line.clone()),
        [line, ..] => Some(format!("{line} ({} times)", run.len())),
    })
    .collect()
}

fn words<'a>(properties: impl IntoIterator<Item = &'a Property>) -> String {
    let mut words: Vec<String> = Vec::new();
    for property in properties {
        let value = match property.name {
            "reason" => continue,
            "assigned-id" => "…".to_owned(),
            // Seconds that passed on the way: up to the next multiple of ten.
            "expiry" => property
                .number()
                .div_ceil(10)
                .saturating_mul(10)
                .to_string(),
            "content-type" | "response-topic" | "correlation" | "auth-method" | "auth-data"
            | "user" => readable(&property.value),
            _ => String::from_utf8_lossy(&property.value).into_owned(),
        };
        words.push(format!(" {}={value}", property.name));
    }
    let runs = words.chunk_by(|one, next| one == next);
    let counted = runs.map(|run| match run {
        [word, _, _, _, ..] => format!("{word} ({} times)", run.len()),
        _ => run.concat(),
    });
    counted.collect()
}

#[test]
fn only_the_order_that_a_broker_may_choose_is_undone() -> crate::Outcome {
    let message = |topic: &str, payload: &str, ids: &str| {
        let property = Property {
            id: 0x0B,
            name: "subscription-id",
            value: ids.as_bytes().to_vec(),
        };
        Line::of(
            &Received::Publish(Publish {
                topic: topic.as_bytes().to_vec(),
                payload: payload.as_bytes().to_vec(),
                qos: 1,
                retain: false,
                dup: false,
                id: 1,
                properties: vec![property],
            }),
            false,
        )
    };
    let (a1, a2, b) = (
        message("a", "1", "5"),
        message("a", "2", "5"),
        message("b", "0", "5"),
    );
    let copy = message("a", "1", "4");
    let closed = Line::closed();
    let mut lines = [&closed, &b, &a1, &copy, &a2];
    Line::sort(&mut lines);
    anyhow::ensure!(lines == [&copy, &a1, &a2, &b, &closed], "{lines:?}");
    let mut lines = [&a2, &a1];
    Line::sort(&mut lines);
    anyhow::ensure!(
        lines == [&a2, &a1],
        "one topic and QoS was put into another order"
    );
    Ok(())
}
