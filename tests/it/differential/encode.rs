//! What a script says, as bytes. Written from the standards and not on the router's codec, so that
//! it can also say what nobody should.

use anyhow::{Context, Result, bail, ensure};
use integration_tests::mqtt::{binary, packet};

use super::property::{self, is_property, variable};
use super::script::{Request, Version};

/// The answer that the standard demands to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Packet type, the high half of the first byte.
    pub kind: u8,
    /// Packet Identifier; 0 for CONNACK.
    pub id: u16,
}

/// A packet ready to be sent.
#[derive(Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub answer: Option<Answer>,
}

/// What a packet needs to know of the client that sends it.
pub struct Sender<'a> {
    pub client: char,
    pub version: Version,
    /// The Packet Identifier given last.
    pub last_id: &'a mut u16,
    /// What the broker called a message that the transcript calls `p1`.
    pub named_id: &'a dyn Fn(&str) -> Option<u16>,
}

/// The words that are no properties.
const WORDS: [&str; 17] = [
    "clean",
    "code",
    "dup",
    "flags",
    "id",
    "keep",
    "level",
    "name",
    "password",
    "qos",
    "retain",
    "user-name",
    "version",
    "will",
    "will-payload",
    "will-qos",
    "will-retain",
];

/// The bytes of one packet.
pub fn encode(request: &Request, sender: &mut Sender<'_>) -> Result<Encoded> {
    for (name, _) in &request.named {
        let property = name.strip_prefix("will.").unwrap_or(name);
        ensure!(
            WORDS.contains(&name.as_str()) || is_property(property),
            "{name} means nothing"
        );
    }
    let most = match request.kind.as_str() {
        "PUBLISH" => 2,
        "SUBSCRIBE" | "UNSUBSCRIBE" => usize::MAX,
        _ => 0,
    };
    ensure!(
        request.fields.len() <= most,
        "{} with too many fields",
        request.kind
    );
    let (first, body, answer) = match request.kind.as_str() {
        "CONNECT" => (0x10, connect(request, sender)?, Some((2, 0))),
        "PUBLISH" => publish(request, sender)?,
        "PUBACK" => (0x40, acknowledgement(request, sender)?.0, None),
        "PUBREC" => (0x50, acknowledgement(request, sender)?.0, None),
        "PUBREL" => {
            let (body, id) = acknowledgement(request, sender)?;
            (0x62, body, Some((7, id)))
        }
        "PUBCOMP" => (0x70, acknowledgement(request, sender)?.0, None),
        "SUBSCRIBE" => {
            let (body, id) = filters(request, sender, subscription_options)?;
            (0x82, body, Some((9, id)))
        }
        "UNSUBSCRIBE" => {
            let (body, id) = filters(request, sender, |filter, _| Ok((filter, None)))?;
            (0xA2, body, Some((11, id)))
        }
        "PINGREQ" => (0xC0, Vec::new(), None),
        "DISCONNECT" => (0xE0, reason_only(request, sender.version)?, None),
        "AUTH" => (0xF0, reason_only(request, sender.version)?, None),
        other => bail!("no packet {other}"),
    };
    let first = match request.hex("flags")? {
        Some(flags) if request.kind != "CONNECT" => first & 0xF0 | flags,
        _ => first,
    };
    Ok(Encoded {
        bytes: packet(first, &body),
        answer: answer.map(|(kind, id)| Answer { kind, id }),
    })
}

/// The properties among the words, with a prefix (`will.`) or without; nothing before 5.0.
fn properties(request: &Request, prefix: &str, version: Version) -> Result<Vec<u8>> {
    if !version.is_v5() {
        return Ok(Vec::new());
    }
    let mut block = Vec::new();
    for (name, value) in &request.named {
        if let Some(name) = name.strip_prefix(prefix)
            && is_property(name)
        {
            block.extend(property::encode(name, value)?);
        }
    }
    let mut bytes = variable(block.len());
    bytes.extend(block);
    Ok(bytes)
}

fn connect(request: &Request, sender: &Sender<'_>) -> Result<Vec<u8>> {
    let version = sender.version;
    let own_name = sender.client.to_ascii_lowercase().to_string();
    let mut flags = 0;
    let mut payload = binary(request.get("id").unwrap_or(own_name.as_bytes()));
    if request.number("clean")?.unwrap_or(1) == 1 {
        flags |= 0x02;
    }
    if let Some(topic) = request.get("will") {
        let qos: u8 = request.number("will-qos")?.unwrap_or(0);
        flags |= 0x04 | qos << 3 | u8::from(request.has("will-retain")) << 5;
        payload.extend(properties(request, "will.", version)?);
        payload.extend(binary(topic));
        payload.extend(binary(request.get("will-payload").unwrap_or(b"will")));
    }
    if let Some(user) = request.get("user-name") {
        flags |= 0x80;
        payload.extend(binary(user));
    }
    if let Some(password) = request.get("password") {
        flags |= 0x40;
        payload.extend(binary(password));
    }
    let name: &[u8] = if version == Version::V3_1 {
        b"MQIsdp"
    } else {
        b"MQTT"
    };
    let mut body = binary(request.get("name").unwrap_or(name));
    body.push(request.number("level")?.unwrap_or(version.level()));
    body.push(request.hex("flags")?.unwrap_or(flags));
    // rumqttd knows no Keep Alive 0, so that the usual session has one.
    let keep: u16 = request.number("keep")?.unwrap_or(600);
    body.extend(keep.to_be_bytes());
    body.extend(properties(request, "", version)?);
    body.extend(payload);
    Ok(body)
}

type Parts = (u8, Vec<u8>, Option<(u8, u16)>);

fn publish(request: &Request, sender: &mut Sender<'_>) -> Result<Parts> {
    let qos: u8 = request.number("qos")?.unwrap_or(0);
    let mut first = 0x30 | qos << 1;
    first |= u8::from(request.has("retain")) | u8::from(request.has("dup")) << 3;
    let mut fields = request.fields.iter();
    let mut body = binary(fields.next().context("no topic")?);
    let mut answer = None;
    if qos > 0 {
        let id = identifier(request, sender)?;
        body.extend(id.to_be_bytes());
        answer = Some((if qos == 1 { 4 } else { 5 }, id));
    }
    body.extend(properties(request, "", sender.version)?);
    body.extend(fields.next().map_or(&[][..], Vec::as_slice));
    Ok((first, body, answer))
}

/// The Packet Identifier that the script gives, or the next one.
fn identifier(request: &Request, sender: &mut Sender<'_>) -> Result<u16> {
    match request.get("id") {
        Some(name) if name.starts_with(b"p") => {
            let name = std::str::from_utf8(name)?;
            (sender.named_id)(name).with_context(|| format!("{name} has not been received"))
        }
        Some(_) => Ok(request.number("id")?.unwrap_or_default()),
        None => {
            *sender.last_id = sender.last_id.checked_add(1).unwrap_or(1);
            Ok(*sender.last_id)
        }
    }
}

fn acknowledgement(request: &Request, sender: &mut Sender<'_>) -> Result<(Vec<u8>, u16)> {
    let id = identifier(request, sender)?;
    let body = [
        &id.to_be_bytes(),
        reason_only(request, sender.version)?.as_slice(),
    ]
    .concat();
    Ok((body, id))
}

/// Reason code and properties, left out as far as they say nothing.
fn reason_only(request: &Request, version: Version) -> Result<Vec<u8>> {
    let code = request.hex("code")?;
    let has_properties = request.named.iter().any(|(name, _)| is_property(name));
    if !version.is_v5() || (code.is_none() && !has_properties) {
        return Ok(Vec::new());
    }
    let mut body = vec![code.unwrap_or(0)];
    if has_properties {
        body.extend(properties(request, "", version)?);
    }
    Ok(body)
}

/// A filter without its options, and these.
type Filter<'a> = (&'a [u8], Option<u8>);

fn filters(
    request: &Request,
    sender: &mut Sender<'_>,
    split: fn(&[u8], Version) -> Result<Filter<'_>>,
) -> Result<(Vec<u8>, u16)> {
    let id = identifier(request, sender)?;
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(request, "", sender.version)?);
    for field in &request.fields {
        let (filter, options) = split(field, sender.version)?;
        body.extend(binary(filter));
        body.extend(options);
    }
    Ok((body, id))
}

/// `a/b@1,nl,rap,rh2`; `@xff` is the byte itself. What 3.x does not know is left out there.
fn subscription_options(field: &[u8], version: Version) -> Result<Filter<'_>> {
    let Some(at) = field.iter().rposition(|byte| *byte == b'@') else {
        return Ok((field, Some(0)));
    };
    let text = std::str::from_utf8(&field[at + 1..])?;
    let mut options = 0;
    for word in text.split(',') {
        options |= match word {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            "nl" | "rap" | "rh0" | "rh1" | "rh2" if !version.is_v5() => 0,
            "nl" => 0x04,
            "rap" => 0x08,
            "rh0" => 0,
            "rh1" => 0x10,
            "rh2" => 0x20,
            _ => {
                let digits = word.strip_prefix('x').context("an unknown option")?;
                u8::from_str_radix(digits, 16)?
            }
        };
    }
    Ok((&field[..at], Some(options)))
}

#[test]
fn packets_are_those_of_the_standard() -> crate::Outcome {
    let bytes = |text: &str, version| -> Result<Vec<u8>> {
        let step = super::script::parse_step(&format!("A> {text}"))?;
        let super::script::Action::Send(requests) = step.action else {
            bail!("not a packet");
        };
        let mut sender = Sender {
            client: 'A',
            version,
            last_id: &mut 6,
            named_id: &|_| Some(9),
        };
        Ok(encode(&requests[0], &mut sender)?.bytes)
    };
    let (v3, v5) = (Version::V3_1_1, Version::V5);
    // 3.1.1 figure 3.6 and the examples of 5.0 section 3.3.2.
    anyhow::ensure!(bytes("CONNECT keep=10", v3)? == b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01a");
    anyhow::ensure!(bytes("PUBLISH a/b x qos=1 id=10", v3)? == b"\x32\x08\0\x03a/b\0\x0ax");
    anyhow::ensure!(bytes("PUBLISH a/b x alias=10", v5)? == b"\x30\x0a\0\x03a/b\x03\x23\0\x0ax");
    anyhow::ensure!(bytes("SUBSCRIBE a@1,nl,rh2", v5)? == b"\x82\x07\0\x07\0\0\x01a\x25");
    anyhow::ensure!(bytes("SUBSCRIBE a@1,nl,rh2", v3)? == b"\x82\x06\0\x07\0\x01a\x01");
    anyhow::ensure!(bytes("PUBREC id=p1 code=80", v5)? == b"\x50\x03\0\x09\x80");
    anyhow::ensure!(bytes("PUBREL id=3 flags=0", v5)? == b"\x60\x02\0\x03");
    Ok(())
}
