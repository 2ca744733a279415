//! WAMP messages as MessagePack (subprotocol `wamp.2.msgpack`).

use super::Limits;
use super::decode::ReadWire;
use super::encode::WriteWire;
use crate::wamp::errors::{ElementFault, Violation};
use crate::wamp::message::Message;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::encoding::{Encoding, msgpack};
use std::ops::Range;

/// Decodes one frame.
///
/// # Errors
/// What the peer did wrong.
pub fn decode(frame: Bytes, limits: &Limits) -> Result<Message, Violation> {
    super::decode::decode::<MsgPack>(&frame, limits)
}

/// Encodes one message; its payload must be MessagePack already.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    super::encode::encode::<MsgPack>(message)
}

/// The spelling of MessagePack.
pub(super) struct MsgPack;

impl ReadWire for MsgPack {
    const ENCODING: Encoding = Encoding::MsgPack;

    fn unsigned(raw: &[u8]) -> Option<u64> {
        msgpack::unsigned(raw)
    }

    fn text(frame: &Bytes, range: Range<usize>) -> Result<ByteString, ElementFault> {
        let raw = frame.get(range).unwrap_or_default();
        match msgpack::text(raw) {
            Some(text) => {
                // A slice of checked text is text.
                Ok(ByteString::try_from(frame.slice_ref(text.as_bytes())).unwrap_or_default())
            }
            None => Err(ElementFault::Type {
                expected: "a string",
                got: Encoding::MsgPack.kind(raw),
            }),
        }
    }
}

impl WriteWire for MsgPack {
    const ENCODING: Encoding = Encoding::MsgPack;
    const EMPTY_LIST: &'static [u8] = &[0x90];
    const EMPTY_DICT: &'static [u8] = &[0x80];
    const SEPARATOR: &'static [u8] = &[];
    const CLOSE: &'static [u8] = &[];

    fn open(out: &mut BytesMut, len: usize) {
        msgpack::put_array_header(out, len);
    }

    fn unsigned(out: &mut BytesMut, value: u64) {
        msgpack::put_unsigned(out, value);
    }

    fn text(out: &mut BytesMut, text: &str) {
        msgpack::put_text(out, text);
    }
}
