//! Frames to messages and back, for every serialization.
//!
//! Decoding scans the frame once for element bounds and checks all of it; header elements are
//! parsed, payload stays a slice of the frame. Encoding splices ready payload bytes behind the
//! header. The layouts stand in one table (`layout.rs`); [`json`], [`msgpack`] and [`cbor`]
//! only say how integers, strings and lists are spelled.
//!
//! Trimming (section "Payload" of the message layouts): an empty dict at the end is omitted, then
//! an empty list; a list is written in front of a dict, if need be an empty one. Nothing is added.

pub mod cbor;
mod decode;
mod encode;
mod head;
pub mod json;
mod layout;
pub mod msgpack;

use super::errors::Violation;
use super::message::{Dict, Message, Payload};
use bytes::{Bytes, BytesMut};
use router_core::encoding::Encoding;

pub(super) use head::{Head, head, tail};
pub use layout::name_of;

/// What a frame may demand of the decoder. The size of the frame is the transport's to limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest options or details, in bytes as they stand in the frame: they are parsed, and
    /// a parsed dict takes up to a hundred times its size.
    pub dict_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            dict_bytes: 256 * 1024,
        }
    }
}

/// Details to be written: the few that most messages carry need no dict.
#[derive(Clone, Copy, Debug)]
pub enum Details<'a> {
    /// `{}`.
    Empty,
    /// One dict, encoded already in the encoding of the frame.
    Encoded(&'a [u8]),
    /// A dict.
    Dict(&'a Dict),
}

/// Arguments to be written, encoded already in the encoding of the frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    /// A list.
    pub args: Option<&'a [u8]>,
    /// A dict.
    pub kwargs: Option<&'a [u8]>,
}

impl<'a> From<&'a Payload> for Arguments<'a> {
    fn from(payload: &'a Payload) -> Arguments<'a> {
        Arguments {
            args: payload.args.as_deref(),
            kwargs: payload.kwargs.as_deref(),
        }
    }
}

/// Decodes one frame.
///
/// # Errors
/// What the peer did wrong; the session ends with it.
pub fn decode(encoding: Encoding, frame: Bytes, limits: &Limits) -> Result<Message, Violation> {
    match encoding {
        Encoding::Json => json::decode(frame, limits),
        Encoding::MsgPack => msgpack::decode(frame, limits),
        Encoding::Cbor => cbor::decode(frame, limits),
    }
}

/// Encodes one message; its payload must be in `encoding` already.
#[must_use]
pub fn encode(encoding: Encoding, message: &Message) -> Bytes {
    match encoding {
        Encoding::Json => json::encode(message),
        Encoding::MsgPack => msgpack::encode(message),
        Encoding::Cbor => cbor::encode(message),
    }
}

/// Calls the function of [`encode`](mod@encode) for the encoding.
macro_rules! by_encoding {
    ($encoding:expr, $function:ident($($argument:expr),*)) => {
        match $encoding {
            Encoding::Json => encode::$function::<json::Json>($($argument),*),
            Encoding::MsgPack => encode::$function::<msgpack::MsgPack>($($argument),*),
            Encoding::Cbor => encode::$function::<cbor::Cbor>($($argument),*),
        }
    };
}

/// Appends `[36, subscription, publication, details, args?, kwargs?]`. The frame is the same for
/// every receiver of one subscription in one encoding: make it once.
pub fn put_event<'p>(
    encoding: Encoding,
    out: &mut BytesMut,
    subscription: u64,
    publication: u64,
    details: Details<'_>,
    payload: impl Into<Arguments<'p>>,
) {
    by_encoding!(
        encoding,
        put_event(out, subscription, publication, details, payload.into())
    );
}

/// Appends `[50, request, details, args?, kwargs?]`.
pub fn put_result<'p>(
    encoding: Encoding,
    out: &mut BytesMut,
    request: u64,
    details: Details<'_>,
    payload: impl Into<Arguments<'p>>,
) {
    by_encoding!(encoding, put_result(out, request, details, payload.into()));
}

/// Appends `[68, request, registration, details, args?, kwargs?]`.
pub fn put_invocation<'p>(
    encoding: Encoding,
    out: &mut BytesMut,
    request: u64,
    registration: u64,
    details: Details<'_>,
    payload: impl Into<Arguments<'p>>,
) {
    by_encoding!(
        encoding,
        put_invocation(out, request, registration, details, payload.into())
    );
}

/// Appends `[8, request_type, request, details, error, args?, kwargs?]`.
pub fn put_error<'p>(
    encoding: Encoding,
    out: &mut BytesMut,
    (request_type, request): (u64, u64),
    details: Details<'_>,
    error: &str,
    payload: impl Into<Arguments<'p>>,
) {
    by_encoding!(
        encoding,
        put_error(out, (request_type, request), details, error, payload.into())
    );
}

/// Appends `[code, request, id]`: PUBLISHED, SUBSCRIBED and REGISTERED.
pub fn put_reply(encoding: Encoding, out: &mut BytesMut, code: u64, request: u64, id: u64) {
    by_encoding!(encoding, put_numbers(out, &[code, request, id]));
}

/// Appends `[code, request]`: UNSUBSCRIBED and UNREGISTERED.
pub fn put_confirmation(encoding: Encoding, out: &mut BytesMut, code: u64, request: u64) {
    by_encoding!(encoding, put_numbers(out, &[code, request]));
}
