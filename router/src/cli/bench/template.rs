//! WAMP requests that differ in their request id and stamp only: written by the codec once, copied
//! around the two from then on.

use super::frame;
use super::stamp::{STAMP_BYTES, Stamp};
use bytes::BytesMut;
use protocols::wamp::message::{MAX_ID, Message};
use router_core::encoding::Encoding;
use std::fmt::Write as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The request id of the message that a template is made of.
pub(super) const ANY_REQUEST: u64 = MAX_ID;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Template {
    encoding: Encoding,
    /// In front of the request id.
    head: Box<[u8]>,
    /// From there to the stamp.
    middle: Box<[u8]>,
    /// Behind stamp and padding; `None`: it carries no stamp, and `middle` goes to the end.
    tail: Option<Box<[u8]>>,
}

impl Template {
    /// A template of `message`, whose request id is [`ANY_REQUEST`], and whose payload, if it is to
    /// be stamped, is [`any_payload`] with this padding.
    pub(super) fn new(encoding: Encoding, message: &Message, padding: &[u8]) -> Template {
        let bytes = message.encode(encoding);
        let mut request = BytesMut::new();
        put_request(encoding, ANY_REQUEST, &mut request);
        // The id is always there, in its longest spelling.
        let at = memchr::memmem::find(&bytes, &request).unwrap_or(0);
        let (head, rest) = bytes.split_at(at);
        let rest = rest.get(request.len()..).unwrap_or_default();
        let (middle, tail) = match memchr::memmem::find(rest, &no_stamp()) {
            Some(at) => (
                &rest[..at],
                rest.get(at + STAMP_BYTES + padding.len()..).map(Box::from),
            ),
            None => (rest, None),
        };
        Template {
            encoding,
            head: head.into(),
            middle: middle.into(),
            tail,
        }
    }

    /// Appends a WebSocket frame with the request.
    pub(super) fn put(&self, request: u64, stamp: Stamp, padding: &[u8], out: &mut BytesMut) {
        let tail = self.tail.as_deref();
        let payload = tail.map_or(0, |tail| STAMP_BYTES + padding.len() + tail.len());
        let length = self.head.len() + request_len(self.encoding, request) + self.middle.len();
        frame::put_header(opcode(self.encoding), length + payload, out);
        out.extend_from_slice(&self.head);
        put_request(self.encoding, request, out);
        out.extend_from_slice(&self.middle);
        if let Some(tail) = tail {
            out.extend_from_slice(&stamp.write());
            out.extend_from_slice(padding);
            out.extend_from_slice(tail);
        }
    }
}

/// Text or binary, as the encoding wants it.
pub(super) const fn opcode(encoding: Encoding) -> OpCode {
    match encoding {
        Encoding::Json => OpCode::Data(Data::Text),
        Encoding::MsgPack | Encoding::Cbor => OpCode::Data(Data::Binary),
    }
}

/// The text that a template finds its stamp by.
pub(super) fn any_payload(padding: &[u8]) -> String {
    let bytes = [&no_stamp(), padding].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn no_stamp() -> [u8; STAMP_BYTES] {
    let stamp = Stamp {
        time: 0,
        stream: 0,
        sequence: 0,
    };
    stamp.write()
}

/// Binary forms take all eight bytes whatever the number, so that every frame is of one length.
fn put_request(encoding: Encoding, request: u64, out: &mut BytesMut) {
    let mark = match encoding {
        Encoding::Json => {
            // Writing into a buffer that grows cannot fail.
            let _ = write!(out, "{request}");
            return;
        }
        Encoding::MsgPack => 0xcf,
        Encoding::Cbor => 0x1b,
    };
    out.extend_from_slice(&[mark]);
    out.extend_from_slice(&request.to_be_bytes());
}

fn request_len(encoding: Encoding, request: u64) -> usize {
    match encoding {
        Encoding::Json => request.checked_ilog10().unwrap_or(0) as usize + 1,
        Encoding::MsgPack | Encoding::Cbor => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::stamp::padding;
    use bytes::{Buf as _, Bytes};
    use protocols::wamp::codec::Limits;
    use protocols::wamp::message::{Call, Dict, Payload, Publish};
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::MsgPack, Encoding::Cbor];

    /// The message in a client's frame.
    fn read(mut out: BytesMut, encoding: Encoding) -> Message {
        let mut cursor = Cursor::new(&out[..]);
        let (header, length) = FrameHeader::parse(&mut cursor)
            .expect("legal")
            .expect("whole");
        assert_eq!(header.opcode, opcode(encoding));
        let start = cursor.position() as usize;
        out.advance(start);
        assert_eq!(out.len() as u64, length);
        Message::decode(encoding, Bytes::from(out), &Limits::default()).expect("a message")
    }

    #[test]
    fn a_template_writes_what_the_codec_would() {
        for encoding in ENCODINGS {
            for size in [16, 17, 100, 300, 70_000] {
                let padding = padding(size);
                let publish = |request, text: String| {
                    let args = [text.into()];
                    Message::from(Publish {
                        request,
                        options: Dict::new(),
                        topic: "a.b".into(),
                        payload: Payload::from_values(encoding, &args, &Dict::new()),
                    })
                };
                let any = publish(ANY_REQUEST, any_payload(&padding));
                let template = Template::new(encoding, &any, &padding);
                let stamp = Stamp {
                    time: 7,
                    stream: 8,
                    sequence: 9,
                };
                for request in [1, 9, 10, 99_999, 100_000, MAX_ID] {
                    let mut out = BytesMut::new();
                    template.put(request, stamp, &padding, &mut out);
                    let text = [&stamp.write()[..], &padding].concat();
                    let text = String::from_utf8(text).expect("text");
                    assert_eq!(read(out, encoding), publish(request, text));
                }
            }
        }
    }

    #[test]
    fn a_template_without_a_stamp_is_written_whole() {
        for encoding in ENCODINGS {
            let call = |request| {
                Message::from(Call {
                    request,
                    options: Dict::new(),
                    procedure: "a.b".into(),
                    payload: Payload::from_values(encoding, &["k".into()], &Dict::new()),
                })
            };
            let template = Template::new(encoding, &call(ANY_REQUEST), b"abc");
            let stamp = Stamp {
                time: 1,
                stream: 2,
                sequence: 3,
            };
            let mut out = BytesMut::new();
            template.put(77, stamp, b"abc", &mut out);
            assert_eq!(read(out, encoding), call(77));
        }
    }
}
