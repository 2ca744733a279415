//! What a broker sent, as lines of a transcript.
//!
//! Lenient, for peers may break rules, and independent of the router's codec; that one is asked
//! as well, and what it would not take from a server is marked `(malformed)`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use protocols::mqtt::codec::{Decoder, Limits};
use protocols::mqtt::packet::ProtocolVersion;

use super::property::{Property, Reader};
use super::script::Version;

/// A packet with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    /// Length of the fixed header.
    head: usize,
}

/// Takes the first whole packet.
pub fn take_frame(incoming: &mut Vec<u8>) -> Result<Option<Frame>> {
    let mut len = 0;
    for (digit, shift) in [0, 7, 14, 21].into_iter().enumerate() {
        let Some(byte) = incoming.get(digit + 1) else {
            return Ok(None);
        };
        len |= usize::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            let head = digit + 2;
            if incoming.len() < head + len {
                return Ok(None);
            }
            let bytes = incoming.drain(..head + len).collect();
            return Ok(Some(Frame { bytes, head }));
        }
    }
    bail!("a Remaining Length of five bytes")
}

/// A packet from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    ConnAck {
        present: bool,
        code: u8,
        properties: Vec<Property>,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP by packet type.
    Ack {
        kind: u8,
        id: u16,
        code: Option<u8>,
        properties: Vec<Property>,
    },
    /// SUBACK or UNSUBACK.
    Codes {
        kind: u8,
        id: u16,
        codes: Vec<u8>,
        properties: Vec<Property>,
    },
    PingResp,
    Disconnect {
        code: Option<u8>,
        properties: Vec<Property>,
    },
    Auth {
        code: u8,
        properties: Vec<Property>,
    },
}

/// A message from a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 for QoS 0.
    pub id: u16,
    pub properties: Vec<Property>,
}

/// Reads one packet; fails if a client could not make sense of it.
pub fn read(frame: &Frame, version: Version) -> Result<Received> {
    let first = *frame.bytes.first().context("no packet")?;
    let mut reader = Reader(&frame.bytes[frame.head..]);
    let v5 = version.is_v5();
    let properties = |reader: &mut Reader<'_>| match v5 && !reader.0.is_empty() {
        true => reader.properties(),
        false => Ok(Vec::new()),
    };
    Ok(match first >> 4 {
        2 => {
            let present = reader.byte()? & 1 == 1;
            let code = reader.byte()?;
            let properties = properties(&mut reader)?;
            Received::ConnAck {
                present,
                code,
                properties,
            }
        }
        3 => Received::Publish(publish(first, &mut reader, v5)?),
        kind @ 4..=7 => {
            let id = reader.two()?;
            let code = reader.byte().ok();
            let properties = properties(&mut reader)?;
            Received::Ack {
                kind,
                id,
                code,
                properties,
            }
        }
        kind @ (9 | 11) => {
            let id = reader.two()?;
            let properties = if v5 { reader.properties()? } else { Vec::new() };
            let codes = reader.0.to_vec();
            Received::Codes {
                kind,
                id,
                codes,
                properties,
            }
        }
        13 => Received::PingResp,
        14 => {
            let code = reader.byte().ok();
            let properties = properties(&mut reader)?;
            Received::Disconnect { code, properties }
        }
        15 => {
            let code = reader.byte().unwrap_or(0);
            let properties = properties(&mut reader)?;
            Received::Auth { code, properties }
        }
        other => bail!("a packet of type {other}"),
    })
}

fn publish(first: u8, reader: &mut Reader<'_>, v5: bool) -> Result<Publish> {
    let qos = first >> 1 & 3;
    let topic = reader.binary()?.to_vec();
    let id = if qos > 0 { reader.two()? } else { 0 };
    let properties = if v5 { reader.properties()? } else { Vec::new() };
    Ok(Publish {
        topic,
        payload: reader.0.to_vec(),
        qos,
        retain: first & 1 == 1,
        dup: first & 8 == 8,
        id,
        properties,
    })
}

/// The Topic Aliases of a broker on one connection.
#[derive(Debug, Default)]
pub struct Aliases(BTreeMap<u32, Vec<u8>>);

impl Aliases {
    /// Puts the topic in the place of its alias, which a broker uses or not as it likes.
    pub fn resolve(&mut self, publish: &mut Publish) {
        let properties = &mut publish.properties;
        let Some(at) = properties.iter().position(|known| known.name == "alias") else {
            return;
        };
        let alias = properties.remove(at).number();
        if publish.topic.is_empty() {
            let unknown = || format!("(alias {alias})").into_bytes();
            publish.topic = self.0.get(&alias).cloned().unwrap_or_else(unknown);
        } else {
            self.0.insert(alias, publish.topic.clone());
        }
    }
}

/// Whether the router's own codec takes this packet from a server.
pub fn well_formed(frame: &Frame, version: Version) -> bool {
    let version = match version {
        Version::V3_1 => ProtocolVersion::V3_1,
        Version::V3_1_1 => ProtocolVersion::V3_1_1,
        Version::V5 => ProtocolVersion::V5,
    };
    let mut bytes = BytesMut::from(frame.bytes.as_slice());
    let decoded = Decoder::client(version, Limits::default()).decode(&mut bytes);
    matches!(decoded, Ok(Some(_))) && bytes.is_empty()
}

/// Text as it is where it can be read, everything else escaped or shortened.
pub fn readable(bytes: &[u8]) -> String {
    const LONGEST: usize = 48;
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    let mut text = String::from("\"");
    match std::str::from_utf8(shown) {
        Ok(shown) => text.extend(shown.chars().map(|letter| match letter {
            ' '..='~' => letter.to_string(),
            _ => format!("\\u{{{:x}}}", u32::from(letter)),
        })),
        Err(_) => text.extend(shown.iter().map(|byte| format!("\\x{byte:02x}"))),
    }
    text.push('"');
    if bytes.len() > LONGEST {
        text.push_str(&format!("… {} bytes", bytes.len()));
    }
    text
}

#[test]
fn packets_of_servers_are_read() -> crate::Outcome {
    let mut incoming = b"\x20\x02\x01\x00\x32\x09\0\x01a\0\x07\x02\x01\x01x\xd0".to_vec();
    let connack = take_frame(&mut incoming)?.context("no CONNACK")?;
    anyhow::ensure!(
        read(&connack, Version::V3_1_1)?
            == Received::ConnAck {
                present: true,
                code: 0,
                properties: Vec::new()
            }
    );
    let message = take_frame(&mut incoming)?.context("no PUBLISH")?;
    let Received::Publish(publish) = read(&message, Version::V5)? else {
        bail!("no PUBLISH");
    };
    anyhow::ensure!(publish.id == 7 && publish.payload == b"x" && publish.properties.len() == 1);
    anyhow::ensure!(well_formed(&message, Version::V5) && take_frame(&mut incoming)?.is_none());
    let subscribe = Frame {
        bytes: vec![0x80, 0],
        head: 2,
    };
    anyhow::ensure!(
        read(&subscribe, Version::V5).is_err() && !well_formed(&subscribe, Version::V5)
    );
    anyhow::ensure!(
        readable("é\n".as_bytes()) == "\"\\u{e9}\\u{a}\"" && readable(&[0xFF]) == "\"\\xff\""
    );
    Ok(())
}

#[test]
fn aliases_stand_for_their_topics() -> crate::Outcome {
    let mut aliases = Aliases::default();
    let mut topic_of = |bytes: &[u8]| -> Result<String> {
        let frame = take_frame(&mut bytes.to_vec())?.context("no packet")?;
        let Received::Publish(mut publish) = read(&frame, Version::V5)? else {
            bail!("no PUBLISH");
        };
        aliases.resolve(&mut publish);
        anyhow::ensure!(publish.properties.is_empty());
        Ok(String::from_utf8(publish.topic)?)
    };
    anyhow::ensure!(topic_of(b"\x30\x07\0\x01a\x03\x23\0\x02")? == "a");
    anyhow::ensure!(topic_of(b"\x30\x06\0\0\x03\x23\0\x02")? == "a");
    anyhow::ensure!(topic_of(b"\x30\x06\0\0\x03\x23\0\x03")? == "(alias 3)");
    Ok(())
}
