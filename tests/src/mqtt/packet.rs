//! The bytes of the few packets that the stories need.

use anyhow::{Context, Result, ensure};

/// A will, as CONNECT carries it.
#[derive(Debug, Clone)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
}

/// What CONNECT says.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Protocol level: 4 is 3.1.1, 5 is 5.0.
    pub level: u8,
    /// Client identifier.
    pub client_id: String,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Keep Alive in seconds.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval in seconds (5.0 only).
    pub session_expiry_secs: u32,
    /// The will.
    pub will: Option<Will>,
    /// User name and password.
    pub login: Option<(String, String)>,
}

impl Connect {
    /// A clean 3.1.1 session without keep-alive.
    pub fn v4(client_id: &str) -> Self {
        Self {
            level: 4,
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive_secs: 0,
            session_expiry_secs: 0,
            will: None,
            login: None,
        }
    }

    /// A clean 5.0 session without keep-alive.
    pub fn v5(client_id: &str) -> Self {
        Self {
            level: 5,
            ..Self::v4(client_id)
        }
    }

    /// The same, but the session outlives the connection.
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        self.session_expiry_secs = 3600;
        self
    }

    /// The same with a will.
    pub fn will(mut self, topic: &str, payload: &[u8], retain: bool) -> Self {
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        self.will = Some(Will {
            topic,
            payload,
            qos: 1,
            retain,
        });
        self
    }

    /// The same with user name and password.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut body = string("MQTT");
        let mut payload = string(&self.client_id);
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
            if self.level == 5 {
                payload.push(0);
            }
            payload.extend(string(&will.topic));
            payload.extend(binary(&will.payload));
        }
        if let Some((user, password)) = &self.login {
            flags |= 0xC0;
            payload.extend(string(user));
            payload.extend(string(password));
        }
        body.extend([self.level, flags]);
        body.extend(self.keep_alive_secs.to_be_bytes());
        if self.level == 5 {
            body.extend([5, 0x11]);
            body.extend(self.session_expiry_secs.to_be_bytes());
        }
        body.extend(payload);
        packet(0x10, &body)
    }
}

/// A message as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic Name.
    pub topic: String,
    /// Application Message.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
}

/// A packet with its Remaining Length.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let digit = (len % 128) as u8;
        len /= 128;
        bytes.push(if len > 0 { digit | 0x80 } else { digit });
        if len == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A UTF-8 string with its length in front.
pub fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Bytes with their length (at most 65,535) in front.
pub fn binary(bytes: &[u8]) -> Vec<u8> {
    let mut field = (bytes.len() as u16).to_be_bytes().to_vec();
    field.extend(bytes);
    field
}

/// Length of the fixed header and Remaining Length of a packet that is there as a whole.
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let found = header(bytes)?;
    Ok(found.filter(|(head, len)| bytes.len() >= head + len))
}

/// Length of the fixed header and Remaining Length, once both are there.
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut len = 0;
    for (at, digit) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(digit & 0x7F) << (7 * at);
        if digit & 0x80 == 0 {
            return Ok(Some((at + 2, len)));
        }
    }
    ensure!(
        bytes.len() < 5,
        "a Remaining Length of more than four bytes"
    );
    Ok(None)
}

pub(crate) fn parse_publish(first: u8, body: &[u8], level: u8) -> Result<(Message, u16)> {
    let short = "a short PUBLISH";
    let len = body.get(..2).context(short)?;
    let mut at = 2 + usize::from(u16::from_be_bytes([len[0], len[1]]));
    let topic = String::from_utf8(body.get(2..at).context(short)?.to_vec())?;
    let qos = first >> 1 & 3;
    let mut id = 0;
    if qos > 0 {
        let field = body.get(at..at + 2).context(short)?;
        id = u16::from_be_bytes([field[0], field[1]]);
        at += 2;
    }
    if level == 5 {
        // The properties' length is a variable byte integer, like a Remaining Length.
        let (head, len) =
            header(&[&[0], body.get(at..).context(short)?].concat())?.context(short)?;
        at += head - 1 + len;
    }
    let payload = body.get(at..).context(short)?.to_vec();
    let message = Message {
        topic,
        payload,
        qos,
        retain: first & 1 == 1,
        dup: first & 8 == 8,
    };
    Ok((message, id))
}
