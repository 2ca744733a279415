//! WAMP messages as CBOR (subprotocol `wamp.2.cbor`).

use super::Limits;
use super::decode::ReadWire;
use super::encode::WriteWire;
use crate::wamp::errors::{ElementFault, Violation};
use crate::wamp::message::Message;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::encoding::{Encoding, cbor};
use std::borrow::Cow;
use std::ops::Range;

/// Decodes one frame.
///
/// # Errors
/// What the peer did wrong.
pub fn decode(frame: Bytes, limits: &Limits) -> Result<Message, Violation> {
    super::decode::decode::<Cbor>(&frame, limits)
}

/// Encodes one message; its payload must be CBOR already.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    super::encode::encode::<Cbor>(message)
}

/// The spelling of CBOR.
pub(super) struct Cbor;

impl ReadWire for Cbor {
    const ENCODING: Encoding = Encoding::Cbor;

    fn unsigned(raw: &[u8]) -> Option<u64> {
        cbor::unsigned(raw)
    }

    fn text(frame: &Bytes, range: Range<usize>) -> Result<ByteString, ElementFault> {
        let raw = frame.get(range).unwrap_or_default();
        match cbor::text(raw) {
            Some(Cow::Borrowed(text)) => {
                // A slice of checked text is text.
                Ok(ByteString::try_from(frame.slice_ref(text.as_bytes())).unwrap_or_default())
            }
            // It came in chunks.
            Some(Cow::Owned(text)) => Ok(text.into()),
            None => Err(ElementFault::Type {
                expected: "a string",
                got: Encoding::Cbor.kind(raw),
            }),
        }
    }
}

impl WriteWire for Cbor {
    const ENCODING: Encoding = Encoding::Cbor;
    const EMPTY_LIST: &'static [u8] = &[0x80];
    const EMPTY_DICT: &'static [u8] = &[0xa0];
    const SEPARATOR: &'static [u8] = &[];
    const CLOSE: &'static [u8] = &[];

    fn open(out: &mut BytesMut, len: usize) {
        cbor::put_array_header(out, len);
    }

    fn unsigned(out: &mut BytesMut, value: u64) {
        cbor::put_unsigned(out, value);
    }

    fn text(out: &mut BytesMut, text: &str) {
        cbor::put_text(out, text);
    }
}
