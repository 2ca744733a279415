//! WAMP messages as JSON text (subprotocol `wamp.2.json`).

use super::Limits;
use super::decode::ReadWire;
use super::encode::WriteWire;
use crate::wamp::errors::{ElementFault, Violation};
use crate::wamp::message::Message;
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use router_core::encoding::{Encoding, json};
use std::ops::Range;

/// Decodes one frame.
///
/// # Errors
/// What the peer did wrong.
pub fn decode(frame: Bytes, limits: &Limits) -> Result<Message, Violation> {
    super::decode::decode::<Json>(&frame, limits)
}

/// Encodes one message; its payload must be JSON already.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    super::encode::encode::<Json>(message)
}

/// The spelling of JSON.
pub(super) struct Json;

impl ReadWire for Json {
    const ENCODING: Encoding = Encoding::Json;

    fn unsigned(raw: &[u8]) -> Option<u64> {
        json::unsigned(raw)
    }

    fn text(frame: &Bytes, range: Range<usize>) -> Result<ByteString, ElementFault> {
        let raw = frame.get(range.clone()).unwrap_or_default();
        match json::text(raw) {
            // A name with a replacement character would be another name than the peer meant.
            Some((_, false)) => Err(ElementFault::LoneSurrogate),
            Some((std::borrow::Cow::Borrowed(text), true)) => {
                // A slice of checked text is text.
                Ok(ByteString::try_from(frame.slice_ref(text.as_bytes())).unwrap_or_default())
            }
            Some((std::borrow::Cow::Owned(text), true)) => Ok(text.into()),
            None => Err(ElementFault::Type {
                expected: "a string",
                got: Encoding::Json.kind(raw),
            }),
        }
    }
}

impl WriteWire for Json {
    const ENCODING: Encoding = Encoding::Json;
    const EMPTY_LIST: &'static [u8] = b"[]";
    const EMPTY_DICT: &'static [u8] = b"{}";
    const SEPARATOR: &'static [u8] = b",";
    const CLOSE: &'static [u8] = b"]";

    fn open(out: &mut BytesMut, _len: usize) {
        out.put_u8(b'[');
    }

    fn unsigned(out: &mut BytesMut, value: u64) {
        json::put_unsigned(out, value);
    }

    fn text(out: &mut BytesMut, text: &str) {
        json::put_text(out, text);
    }
}
