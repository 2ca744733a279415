//! Length-prefixed messages over any byte stream (WAMP Advanced Profile, "RawSocket Transport").
//!
//! [`accept`] is the opening handshake; then [`RawSocketTransport`] carries messages. What is read
//! waits in the buffer of the stream, which grows with what comes and never with what a prefix
//! promises.

mod frame;
mod handshake;

pub use frame::{Frame, FrameError, Kind, decode, prefix};
pub use handshake::{MAGIC, Refusal, Request, accept, announced_bytes};

use super::{BEFORE_LOGIN_BYTES, Received, StreamTransport, Transport};
use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// Payloads below this are copied behind their prefix, so that many of them are one write.
const COPIED_BYTES: usize = 4 << 10;
/// Copies are gathered up to this, in bytes.
const GATHERED_BYTES: usize = 32 << 10;

/// How one connection is spoken.
#[derive(Clone, Copy, Debug)]
pub struct RawSocketOptions {
    /// The longest message taken, in bytes: what the handshake announced.
    pub takes_bytes: usize,
    /// The longest payload that the peer takes, in bytes.
    pub receives_bytes: usize,
    /// Whether messages are text.
    pub is_text: bool,
    /// Whether a silent peer is sent a PING even if it has never shown that it knows them: there
    /// are clients that fail at one.
    pub always_pings: bool,
}

/// A RawSocket after its handshake.
#[derive(Debug)]
pub struct RawSocketTransport<S> {
    stream: StreamTransport<S>,
    options: RawSocketOptions,
    is_logged_in: bool,
    /// The peer has sent a PING or PONG.
    knows_pings: bool,
    /// Frames that the stream's queue does not have yet.
    gathered: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> RawSocketTransport<S> {
    /// Takes over a stream behind its handshake.
    pub fn new(io: S, options: RawSocketOptions) -> RawSocketTransport<S> {
        RawSocketTransport {
            stream: StreamTransport::new(io, BytesMut::new()),
            options,
            is_logged_in: false,
            knows_pings: false,
            gathered: BytesMut::new(),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let max = match self.is_logged_in {
            true => self.options.takes_bytes,
            false => self.options.takes_bytes.min(BEFORE_LOGIN_BYTES),
        };
        match self.stream.buffer() {
            Some(buffer) => decode(buffer, max),
            None => Ok(None),
        }
    }

    fn take(&mut self, Frame { kind, payload }: Frame) -> Result<Received, FrameError> {
        match kind {
            // The gate has a word for what should be text and is not.
            Kind::Message if self.options.is_text && std::str::from_utf8(&payload).is_ok() => {
                Ok(Received::Text(payload))
            }
            Kind::Message => Ok(Received::Binary(payload)),
            Kind::Ping => {
                // What the peer does not take it cannot have back.
                let (length, max) = (payload.len(), self.options.receives_bytes);
                if length > max {
                    return Err(FrameError::TooLong { length, max });
                }
                self.knows_pings = true;
                self.put(Kind::Pong, payload);
                Ok(Received::Nothing)
            }
            Kind::Pong => {
                self.knows_pings = true;
                Ok(Received::Nothing)
            }
        }
    }

    fn put(&mut self, kind: Kind, payload: Bytes) {
        // Gates obey what the peer takes, which a prefix can always say.
        let Some(prefix) = prefix(kind, payload.len()) else {
            return;
        };
        self.gathered.extend_from_slice(&prefix);
        if payload.len() < COPIED_BYTES {
            self.put_copy(&payload);
        } else {
            self.hand_over();
            self.stream.send(Output::Bytes(payload));
        }
    }

    /// Behind its prefix.
    fn put_copy(&mut self, payload: &[u8]) {
        self.gathered.extend_from_slice(payload);
        if self.gathered.len() >= GATHERED_BYTES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let gathered = self.gathered.split().freeze();
        self.stream.send(Output::Bytes(gathered));
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for RawSocketTransport<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            if let Some(frame) = self.next_frame().map_err(invalid)? {
                return Poll::Ready(self.take(frame).map_err(invalid));
            }
            if let Received::Closed = ready!(self.stream.poll_receive(cx))? {
                return Poll::Ready(Ok(Received::Closed));
            }
        }
    }

    fn buffer(&mut self) -> Option<&mut BytesMut> {
        None
    }

    fn send(&mut self, output: Output) {
        if let Output::Bytes(payload) | Output::Text(payload) = output {
            self.put(Kind::Message, payload);
        }
    }

    fn send_message(&mut self, message: &[u8], _is_text: bool) {
        if let Some(prefix) = prefix(Kind::Message, message.len()) {
            self.gathered.extend_from_slice(&prefix);
            self.put_copy(message);
        }
    }

    fn queued(&self) -> usize {
        self.stream.queued() + self.gathered.len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hand_over();
        self.stream.poll_flush(cx)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &'static str,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_close(cx, code, reason)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.stream.poll_discard(cx)
    }

    fn logged_in(&mut self) {
        self.is_logged_in = true;
    }

    fn can_ping(&self) -> bool {
        self.options.always_pings || self.knows_pings
    }

    fn ping(&mut self) -> bool {
        let can = self.can_ping();
        if can {
            self.put(Kind::Ping, Bytes::new());
        }
        can
    }

    fn rest(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
        self.stream.rest();
    }
}
