//! Frames and messages against an independent implementation, and the rules one by one.

use super::frame::{Frame, FrameError, Opcode, decode, put_header};
use super::message::{Assembler, Message};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

const MAX: usize = 300;

/// A frame as a client may write it, or may not.
#[derive(Clone, Debug)]
struct Sent {
    first: u8,
    is_masked: bool,
    mask: [u8; 4],
    payload: Vec<u8>,
}

impl Sent {
    fn whole(opcode: Opcode, payload: &[u8]) -> Sent {
        Sent::part(opcode, true, payload)
    }

    fn part(opcode: Opcode, is_final: bool, payload: &[u8]) -> Sent {
        Sent {
            first: opcode as u8 | if is_final { 0x80 } else { 0 },
            is_masked: true,
            mask: [1, 2, 3, 250],
            payload: payload.to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = BytesMut::new();
        put_header(&mut header, Opcode::Binary, self.payload.len());
        header[0] = self.first;
        let mut bytes = header.to_vec();
        if !self.is_masked {
            return [bytes, self.payload.clone()].concat();
        }
        bytes[1] |= 0x80;
        bytes.extend(self.mask);
        let masks = self.mask.iter().cycle();
        bytes.extend(
            self.payload
                .iter()
                .zip(masks)
                .map(|(octet, mask)| octet ^ mask),
        );
        bytes
    }
}

fn bytes_of(frames: &[Sent]) -> Vec<u8> {
    frames.iter().flat_map(Sent::bytes).collect()
}

/// What is read of a stream that comes in pieces, and how it ends: `None` if it goes on.
fn read(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<FrameError>) {
    let (mut buffer, mut assembler) = (BytesMut::new(), Assembler::default());
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let message = match decode(&mut buffer, MAX) {
                Ok(Some(frame)) => assembler.take(frame, MAX),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match message {
                Ok(message) => {
                    let is_last = matches!(message, Message::Close(_));
                    messages.push(message);
                    if is_last {
                        return (messages, None);
                    }
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Has what it was given and nothing more for now, and takes whatever is written.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same by the other implementation; it says nothing of parts.
fn read_by_tungstenite(bytes: &[u8]) -> (Vec<Message>, Option<Error>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX));
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Message::Text(text.into()),
            Ok(tungstenite::Message::Binary(bytes)) => Message::Binary(bytes),
            Ok(tungstenite::Message::Ping(payload)) => Message::Ping(payload),
            Ok(tungstenite::Message::Pong(_)) => Message::Pong,
            Ok(tungstenite::Message::Close(_)) => {
                messages.push(Message::Close(Bytes::new()));
                return (messages, None);
            }
            Ok(tungstenite::Message::Frame(frame)) => panic!("{frame:?}"),
            Err(Error::Io(_)) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        });
    }
}

fn without_parts(messages: Vec<Message>) -> Vec<Message> {
    let messages = messages.into_iter().filter(|m| *m != Message::Part);
    let messages = messages.map(|message| match message {
        Message::Close(_) => Message::Close(Bytes::new()),
        other => other,
    });
    messages.collect()
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zé😀]{0,40}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..20),
        (0..2 * MAX).prop_map(|length| vec![b'x'; length]),
        (900_u16..5000).prop_map(|code| code.to_be_bytes().to_vec()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    (
        first,
        prop::bool::weighted(0.97),
        any::<[u8; 4]>(),
        payload(),
    )
        .prop_map(|(first, is_masked, mask, payload)| Sent {
            first,
            is_masked,
            mask,
            payload,
        })
}

proptest! {
    #[test]
    fn what_is_read_is_what_another_implementation_reads(
        frames in vec(sent(), 0..8),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        cut in 0..6_usize,
        piece in 1..50_usize,
    ) {
        let mut bytes = bytes_of(&frames);
        for (at, value) in flips {
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) = value;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        let (ours, fault) = read(&bytes, piece);
        let (theirs, their_fault) = read_by_tungstenite(&bytes);
        let ours = without_parts(ours);
        match fault {
            // It waits for all of a frame before it judges its header.
            Some(_) => prop_assert!(theirs.starts_with(&ours), "{ours:?} {theirs:?}"),
            None => prop_assert_eq!(&ours, &theirs),
        }
        if their_fault.is_some() {
            prop_assert!(fault.is_some(), "only the other one refuses: {:?}", their_fault);
        } else if let Some(fault) = fault {
            let is_early = !matches!(fault, FrameError::Utf8);
            prop_assert!(is_early && theirs == ours, "{fault:?} {theirs:?}");
        }
    }

    #[test]
    fn how_a_stream_is_cut_into_reads_does_not_matter(
        frames in vec(sent(), 0..8),
        piece in 1..50_usize,
    ) {
        let bytes = bytes_of(&frames);
        prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
    }

    #[test]
    fn what_is_written_is_read_again(length in 0..200_000_usize) {
        let mut header = BytesMut::new();
        put_header(&mut header, Opcode::Binary, length);
        header[1] |= 0x80;
        header.extend_from_slice(&[0; 4]);
        header.resize(header.len() + length, 7);
        let frame = Frame {
            is_final: true,
            opcode: Opcode::Binary,
            payload: vec![7; length].into(),
        };
        prop_assert_eq!(decode(&mut header, 200_000), Ok(Some(frame)));
        prop_assert!(header.is_empty());
    }
}

fn fault_of(frames: &[Sent]) -> Option<FrameError> {
    read(&bytes_of(frames), usize::MAX).1
}

#[test]
fn every_rule_of_a_frame_is_enforced() {
    let text = Sent::whole(Opcode::Text, b"a");
    assert_eq!(fault_of(std::slice::from_ref(&text)), None);
    for (first, fault) in [
        (0xc1, FrameError::ReservedBit),
        (0xa1, FrameError::ReservedBit),
        (0x91, FrameError::ReservedBit),
        (0x83, FrameError::ReservedOpcode(3)),
        (0x8f, FrameError::ReservedOpcode(15)),
        (0x09, FrameError::BadControl),
        (0x08, FrameError::BadControl),
        (0x80, FrameError::OutOfOrder),
    ] {
        let wrong = Sent {
            first,
            ..text.clone()
        };
        assert_eq!(fault_of(&[wrong]), Some(fault));
    }
    let unmasked = Sent {
        is_masked: false,
        ..text.clone()
    };
    assert_eq!(fault_of(&[unmasked]), Some(FrameError::Unmasked));
    let long = Sent::whole(Opcode::Ping, &[0; 126]);
    assert_eq!(fault_of(&[long]), Some(FrameError::BadControl));
    let begun = Sent::part(Opcode::Text, false, b"a");
    assert_eq!(fault_of(&[begun, text]), Some(FrameError::OutOfOrder));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_else_of_its_frame_comes() {
    let too_long = Some(FrameError::TooLong { max: MAX });
    let promise = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(read(&promise, 1).1, too_long);
    let half = vec![0; MAX / 2 + 1];
    let parts = [
        Sent::part(Opcode::Binary, false, &half),
        Sent::part(Opcode::Continuation, false, &half),
    ];
    assert_eq!(fault_of(&parts), too_long);
    assert_eq!(fault_of(&[Sent::whole(Opcode::Binary, &[0; MAX])]), None);
}

#[test]
fn a_message_in_parts_may_have_control_frames_between_them() {
    let smile = "😀".as_bytes();
    let frames = [
        Sent::part(Opcode::Text, false, &smile[..1]),
        Sent::whole(Opcode::Ping, b"p"),
        Sent::part(Opcode::Continuation, false, &smile[1..3]),
        Sent::part(Opcode::Continuation, true, &smile[3..]),
    ];
    let (messages, fault) = read(&bytes_of(&frames), 1);
    assert_eq!(fault, None);
    let wanted = [
        Message::Part,
        Message::Ping(Bytes::from_static(b"p")),
        Message::Part,
        Message::Text(Bytes::from_static(smile)),
    ];
    assert_eq!(messages, wanted);
}

#[test]
fn text_that_is_none_is_refused_as_soon_as_that_is_certain() {
    let utf8 = Some(FrameError::Utf8);
    assert_eq!(fault_of(&[Sent::whole(Opcode::Text, b"\xff")]), utf8);
    assert_eq!(fault_of(&[Sent::part(Opcode::Text, false, b"a\xff")]), utf8);
    let half = Sent::part(Opcode::Text, false, b"\xc3");
    assert_eq!(fault_of(std::slice::from_ref(&half)), None);
    let end = Sent::part(Opcode::Continuation, true, b"");
    assert_eq!(fault_of(&[half, end]), utf8);
    assert_eq!(fault_of(&[Sent::whole(Opcode::Binary, b"\xff")]), None);
}

#[test]
fn the_answer_to_a_close_repeats_a_code_that_may_be_sent() {
    let answer = |payload: &[u8]| {
        let (messages, fault) = read(&Sent::whole(Opcode::Close, payload).bytes(), usize::MAX);
        fault.map_or_else(|| Ok(messages), Err)
    };
    let echo = |payload: &'static [u8]| Ok(vec![Message::Close(Bytes::from_static(payload))]);
    assert_eq!(answer(b""), echo(b""));
    assert_eq!(answer(b"\x03\xe8bye"), echo(b"\x03\xe8bye"));
    assert_eq!(answer(b"\x0f\xa0"), echo(b"\x0f\xa0"));
    // 1005 says that there was no code.
    let told = match answer(b"\x03\xed").as_deref() {
        Ok([Message::Close(told)]) => told.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told.get(..2), Some(&1002_u16.to_be_bytes()[..]));
    assert_eq!(answer(b"\x03"), Err(FrameError::BadClose));
    assert_eq!(answer(b"\x03\xe8\xff"), Err(FrameError::Utf8));
}
