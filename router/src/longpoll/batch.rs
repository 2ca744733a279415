//! What stands in a body (WAMP sections "Batched Transport" and "HTTP Longpoll Transport"): one
//! message, or in the batched modes any number of them but none at all.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use protocols::wamp::machine::encoding_of;
use router_core::encoding::Encoding;

/// Ends each JSON message of a batch.
const RECORD_SEPARATOR: u8 = 0x1E;
/// What the names of batched modes end with.
const BATCHED: &str = ".batched";
/// The most messages of a batch.
const MESSAGES_MAX: usize = 10_000;

/// How messages stand in bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// How each is serialized.
    pub encoding: Encoding,
    /// Whether a body is a batch.
    pub is_batched: bool,
}

impl Spoken {
    /// What a name such as `wamp.2.json.batched` stands for; `None` if we do not speak it.
    pub fn of(name: &str) -> Option<Spoken> {
        let plain = name.strip_suffix(BATCHED);
        let encoding = encoding_of(plain.unwrap_or(name))?;
        Some(Spoken {
            encoding,
            is_batched: plain.is_some(),
        })
    }

    fn is_text(self) -> bool {
        self.encoding == Encoding::Json
    }

    /// The type of bodies.
    pub fn content_type(self) -> &'static str {
        match (self.is_text(), self.is_batched) {
            (true, false) => "application/json",
            _ => "application/octet-stream",
        }
    }

    /// The messages of a body; `None` if it is not as it should be.
    pub fn split(self, body: Bytes) -> Option<Vec<Bytes>> {
        let messages = match (self.is_batched, self.is_text()) {
            (false, _) => vec![body],
            (true, true) => split_text(&body)?,
            (true, false) => split_binary(body)?,
        };
        let is_legal = |message: &Bytes| !message.is_empty();
        let count = messages.len();
        ((1..=MESSAGES_MAX).contains(&count) && messages.iter().all(is_legal)).then_some(messages)
    }

    /// A body of these messages, of which there is one where bodies are not batches.
    pub fn join(self, mut messages: Vec<Bytes>) -> Bytes {
        if !self.is_batched {
            return messages.pop().unwrap_or_default();
        }
        let mut body = BytesMut::new();
        for message in messages {
            if self.is_text() {
                body.extend_from_slice(&message);
                body.put_u8(RECORD_SEPARATOR);
            } else {
                body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
                body.extend_from_slice(&message);
            }
        }
        body.freeze()
    }
}

fn split_text(body: &Bytes) -> Option<Vec<Bytes>> {
    let (last, ended) = body.split_last()?;
    if *last != RECORD_SEPARATOR {
        return None;
    }
    let messages = ended.split(|byte| *byte == RECORD_SEPARATOR);
    let messages = messages.take(MESSAGES_MAX + 1);
    Some(messages.map(|message| body.slice_ref(message)).collect())
}

fn split_binary(mut body: Bytes) -> Option<Vec<Bytes>> {
    let mut messages = Vec::new();
    while !body.is_empty() && messages.len() <= MESSAGES_MAX {
        let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
        if length > body.len() {
            return None;
        }
        messages.push(body.split_to(length));
    }
    Some(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(name: &str) -> Spoken {
        Spoken::of(name).unwrap()
    }

    fn split(name: &str, body: &'static [u8]) -> Option<Vec<Bytes>> {
        spoken(name).split(Bytes::from_static(body))
    }

    #[test]
    fn names_are_those_of_the_subprotocols_and_their_batched_forms() {
        for (name, encoding, is_batched) in [
            ("wamp.2.json", Encoding::Json, false),
            ("wamp.2.json.batched", Encoding::Json, true),
            ("wamp.2.msgpack", Encoding::MsgPack, false),
            ("wamp.2.msgpack.batched", Encoding::MsgPack, true),
        ] {
            let expected = Spoken {
                encoding,
                is_batched,
            };
            assert_eq!(Spoken::of(name), Some(expected));
        }
        for name in [
            "",
            ".batched",
            "wamp.2.xml",
            "wamp.2.json.batched.batched",
            "mqtt",
        ] {
            assert_eq!(Spoken::of(name), None);
        }
    }

    #[test]
    fn a_plain_body_is_one_message_and_never_empty() {
        assert_eq!(split("wamp.2.json", b"[1]"), Some(vec!["[1]".into()]));
        assert_eq!(split("wamp.2.json", b""), None);
    }

    #[test]
    fn batches_go_there_and_back() {
        for name in ["wamp.2.json.batched", "wamp.2.msgpack.batched"] {
            let messages: Vec<Bytes> = vec!["[1]".into(), "[2, 3]".into()];
            let body = spoken(name).join(messages.clone());
            assert_eq!(spoken(name).split(body), Some(messages));
        }
        let body = spoken("wamp.2.json.batched").join(vec!["[1]".into()]);
        assert_eq!(body, "[1]\x1e");
        let body = spoken("wamp.2.msgpack.batched").join(vec!["ab".into()]);
        assert_eq!(&body[..], b"\0\0\0\x02ab");
    }

    #[test]
    fn batches_that_are_none_are_refused() {
        for body in [&b""[..], b"[1]", b"\x1e", b"[1]\x1e\x1e", b"[1]\x1e[2]"] {
            assert_eq!(split("wamp.2.json.batched", body), None, "{body:?}");
        }
        let bad: [&[u8]; 5] = [
            b"",
            b"\0\0\0",
            b"\0\0\0\x02a",
            b"\0\0\0\0",
            b"\xff\xff\xff\xffa",
        ];
        for body in bad {
            assert_eq!(split("wamp.2.msgpack.batched", body), None, "{body:?}");
        }
        let many = b"1\x1e".repeat(MESSAGES_MAX + 1);
        assert_eq!(spoken("wamp.2.json.batched").split(many.into()), None);
    }
}
