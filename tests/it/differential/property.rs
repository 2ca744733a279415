//! The properties of 5.0 (section 2.2.2.2): the words that scripts and transcripts use for them.

use anyhow::{Context, Result, bail};
use integration_tests::mqtt::binary;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Pair,
}

use Form::{Byte, Four, Pair, Text, Two, Variable};

const TABLE: [(u8, &str, Form); 27] = [
    (0x01, "payload-format", Byte),
    (0x02, "expiry", Four),
    (0x03, "content-type", Text),
    (0x08, "response-topic", Text),
    (0x09, "correlation", Text),
    (0x0B, "subscription-id", Variable),
    (0x11, "session-expiry", Four),
    (0x12, "assigned-id", Text),
    (0x13, "server-keep-alive", Two),
    (0x15, "auth-method", Text),
    (0x16, "auth-data", Text),
    (0x17, "request-problem", Byte),
    (0x18, "will-delay", Four),
    (0x19, "request-response", Byte),
    (0x1A, "response-info", Text),
    (0x1C, "server-reference", Text),
    (0x1F, "reason", Text),
    (0x21, "receive-max", Two),
    (0x22, "alias-max", Two),
    (0x23, "alias", Two),
    (0x24, "max-qos", Byte),
    (0x25, "retain-available", Byte),
    (0x26, "user", Pair),
    (0x27, "max-packet", Four),
    (0x28, "wildcards", Byte),
    (0x29, "subscription-ids", Byte),
    (0x2A, "shared", Byte),
];

/// A property of a received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub id: u8,
    pub name: &'static str,
    /// Text and binary values as they came, numbers in decimal.
    pub value: Vec<u8>,
}

impl Property {
    /// The value as a number, 0 if it is none.
    pub fn number(&self) -> u32 {
        let text = std::str::from_utf8(&self.value).unwrap_or_default();
        text.parse().unwrap_or(0)
    }
}

/// Whether a word of a script is a property.
pub fn is_property(name: &str) -> bool {
    TABLE.iter().any(|(_, known, _)| *known == name)
}

/// The bytes of one property; `name=value` of a script.
pub fn encode(name: &str, value: &[u8]) -> Result<Vec<u8>> {
    let found = TABLE.iter().find(|(_, known, _)| *known == name);
    let (id, _, form) = found.with_context(|| format!("no property {name}"))?;
    let mut bytes = vec![*id];
    let number = || -> Result<u32> {
        let text = std::str::from_utf8(value)?;
        text.parse().with_context(|| format!("{name}={text}"))
    };
    match form {
        Byte => bytes.push(u8::try_from(number()?)?),
        Two => bytes.extend(u16::try_from(number()?)?.to_be_bytes()),
        Four => bytes.extend(number()?.to_be_bytes()),
        Variable => bytes.extend(variable(number()? as usize)),
        Text => bytes.extend(binary(value)),
        Pair => {
            let colon = value.iter().position(|byte| *byte == b':');
            let (key, value) = value.split_at(colon.context("user=KEY:VALUE")?);
            bytes.extend(binary(key));
            bytes.extend(binary(&value[1..]));
        }
    }
    Ok(bytes)
}

/// A Variable Byte Integer.
pub fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let digit = (number % 128) as u8;
        number /= 128;
        bytes.push(if number > 0 { digit | 0x80 } else { digit });
        if number == 0 {
            return bytes;
        }
    }
}

/// Reads bytes from the front; every read fails at the end.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// This many bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len).context("too short")?;
        self.0 = tail;
        Ok(head)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn two(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes behind a length of two bytes.
    pub fn binary(&mut self) -> Result<&'a [u8]> {
        let len = self.two()?;
        self.take(len.into())
    }

    pub fn variable(&mut self) -> Result<usize> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bail!("a Variable Byte Integer of five bytes")
    }

    /// A block of properties, sorted by kind; those of one kind stay in their order.
    pub fn properties(&mut self) -> Result<Vec<Property>> {
        let len = self.variable()?;
        let mut block = Reader(self.take(len)?);
        let mut properties = Vec::new();
        while !block.0.is_empty() {
            let id = block.byte()?;
            let found = TABLE.iter().find(|(known, ..)| *known == id);
            let (_, name, form) = found.with_context(|| format!("property {id:#04x}"))?;
            let decimal = |number: usize| number.to_string().into_bytes();
            let value = match form {
                Byte => decimal(block.byte()?.into()),
                Two => decimal(block.two()?.into()),
                Four => {
                    let bytes = block.take(4)?.iter();
                    decimal(bytes.fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
                }
                Variable => decimal(block.variable()?),
                Text => block.binary()?.to_vec(),
                Pair => [block.binary()?, b":", block.binary()?].concat(),
            };
            properties.push(Property { id, name, value });
        }
        properties.sort_by_key(|property| property.id);
        Ok(properties)
    }
}

#[test]
fn properties_are_read_as_they_are_written() -> crate::Outcome {
    let given: [(&str, &[u8]); 7] = [
        ("payload-format", b"1"),
        ("expiry", b"70000"),
        ("subscription-id", b"268435455"),
        ("reason", b"x"),
        ("alias", b"9"),
        ("user", b"b:1"),
        ("user", b"a:2"),
    ];
    let mut block = Vec::new();
    for (name, value) in given {
        block.extend(encode(name, value)?);
    }
    let bytes = [variable(block.len()), block].concat();
    let read = Reader(&bytes).properties()?;
    let read: Vec<(&str, &[u8])> = read.iter().map(|p| (p.name, p.value.as_slice())).collect();
    anyhow::ensure!(read == given, "{read:?}");
    anyhow::ensure!(Reader(&bytes[..9]).properties().is_err());
    anyhow::ensure!(Reader(&[2, 0x7F, 0]).properties().is_err());
    Ok(())
}
