//! What stands in a body (WAMP sections "Batched Transport" and "HTTP Longpoll Transport"): one
//! message, or in the batched modes any number of them but none at all.

use bytes::{Bytes, BytesMut};
use protocols::wamp::batch::{Batch, put_message};
use protocols::wamp::machine::Serialization;
use router_core::encoding::Encoding;

/// The most messages of a batch.
const MESSAGES_MAX: usize = 10_000;

/// The type of bodies.
pub fn content_type(spoken: Serialization) -> &'static str {
    match (spoken.encoding, spoken.batched) {
        (Encoding::Json, false) => "application/json",
        _ => "application/octet-stream",
    }
}

/// The messages of a body; `None` if it is not as it should be.
pub fn split(spoken: Serialization, body: Bytes) -> Option<Vec<Bytes>> {
    if !spoken.batched {
        return (!body.is_empty()).then(|| vec![body]);
    }
    let mut batch = Batch::new(spoken.encoding, body).ok()?;
    let mut messages = Vec::new();
    while let Some(message) = batch.next().ok()? {
        if message.is_empty() || messages.len() == MESSAGES_MAX {
            return None;
        }
        messages.push(message);
    }
    Some(messages)
}

/// A body of these messages, of which there is one where bodies are not batches.
pub fn join(spoken: Serialization, mut messages: Vec<Bytes>) -> Bytes {
    if !spoken.batched {
        return messages.pop().unwrap_or_default();
    }
    let mut body = BytesMut::new();
    for message in messages {
        put_message(spoken.encoding, &mut body, &message);
    }
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::wamp::machine::serialization_of;

    const BATCHED: [&str; 3] = [
        "wamp.2.json.batched",
        "wamp.2.msgpack.batched",
        "wamp.2.cbor.batched",
    ];

    fn spoken(name: &str) -> Serialization {
        serialization_of(name).unwrap()
    }

    fn split_of(name: &str, body: &'static [u8]) -> Option<Vec<Bytes>> {
        split(spoken(name), Bytes::from_static(body))
    }

    #[test]
    fn a_plain_body_is_one_message_and_never_empty() {
        assert_eq!(split_of("wamp.2.json", b"[1]"), Some(vec!["[1]".into()]));
        assert_eq!(split_of("wamp.2.json", b""), None);
    }

    #[test]
    fn batches_go_there_and_back() {
        for name in BATCHED {
            let messages: Vec<Bytes> = vec!["[1]".into(), "[2, 3]".into()];
            let body = join(spoken(name), messages.clone());
            assert_eq!(split(spoken(name), body), Some(messages));
        }
    }

    #[test]
    fn batches_that_are_none_are_refused() {
        for body in [&b""[..], b"[1]", b"\x1e", b"[1]\x1e\x1e", b"[1]\x1e[2]"] {
            assert_eq!(split_of("wamp.2.json.batched", body), None, "{body:?}");
        }
        for body in [&b""[..], b"\0\0\0", b"\0\0\0\x02a", b"\0\0\0\0"] {
            assert_eq!(split_of("wamp.2.cbor.batched", body), None, "{body:?}");
        }
        let batched = spoken("wamp.2.json.batched");
        let all = b"1\x1e".repeat(MESSAGES_MAX);
        assert_eq!(split(batched, all.into()).unwrap().len(), MESSAGES_MAX);
        let many = b"1\x1e".repeat(MESSAGES_MAX + 1);
        assert_eq!(split(batched, many.into()), None);
    }
}
