//! WebSocket messages (RFC 6455) over any stream that has been upgraded: the server's side.
//!
//! What is read waits in the buffer of the stream, and messages are slices of it. What is sent is gathered with its
//! headers, so that many frames are one write.

mod frame;
mod message;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod sending;

use super::stream::poll_discard;
use super::{BEFORE_LOGIN_BYTES, Received, StreamTransport, Transport};
use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use frame::{FrameError, HEADER_BYTES, Opcode, decode, put_header};
use message::{Assembler, Message, close_payload};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Payloads below this are copied behind their header, so that many of them are one write.
const COPIED_BYTES: usize = 4 << 10;
/// Copies are gathered up to this, in bytes.
const GATHERED_BYTES: usize = 32 << 10;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketLimits {
    /// The largest message accepted, in bytes. Larger ones close with 1009.
    pub max_message_bytes: usize,
}

/// A WebSocket with its write queue.
#[derive(Debug)]
pub struct WebSocketTransport<S> {
    stream: StreamTransport<Metered<S>>,
    max_message_bytes: usize,
    assembler: Assembler,
    /// Frames that the stream's queue does not have yet.
    gathered: BytesMut,
    /// Bytes of pings among what is queued: a question to a silent peer is nothing that it is late to take.
    asked: usize,
    close_sent: bool,
    close_received: bool,
    /// A fault of the peer that has its own close code.
    fault: Option<(u16, &'static str)>,
}

/// A stream of which only so much is read until the peer is let in.
#[derive(Debug)]
struct Metered<S> {
    io: S,
    /// Bytes left; `None`: unlimited.
    left: Option<usize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.io).poll_read(cx, into);
        };
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut part = into.take(left);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        // `part` borrows the unfilled bytes of `into`, which learns of them here.
        let filled = part.filled().to_vec();
        into.put_slice(&filled);
        self.left = Some(left - read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}

/// The first of the client's subprotocols, in its order, that `is_known`.
pub fn choose_subprotocol<'a>(
    offered: impl Iterator<Item = &'a str>,
    is_known: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    offered
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .find(|name| is_known(name))
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> WebSocketTransport<S> {
    /// Takes over an upgraded stream; `read` was read from it already.
    pub fn new(io: S, read: Bytes, limits: WebSocketLimits) -> WebSocketTransport<S> {
        let io = Metered {
            io,
            left: Some(BEFORE_LOGIN_BYTES),
        };
        WebSocketTransport {
            stream: StreamTransport::new(io, BytesMut::from(read)),
            max_message_bytes: limits.max_message_bytes,
            assembler: Assembler::default(),
            gathered: BytesMut::new(),
            asked: 0,
            close_sent: false,
            close_received: false,
            fault: None,
        }
    }

    /// What the frames that were read complete; `None` if no frame is there.
    fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let max = self.max_message_bytes;
        let frame = match self.stream.buffer() {
            Some(buffer) => decode(buffer, max)?,
            None => None,
        };
        let message = frame.map(|frame| self.assembler.take(frame, max));
        message.transpose()
    }

    fn take(&mut self, message: Message) -> Received {
        match message {
            Message::Text(text) => Received::Text(text),
            Message::Binary(bytes) => Received::Binary(bytes),
            Message::Part | Message::Pong => Received::Nothing,
            Message::Ping(payload) => {
                // Nothing may follow a Close.
                if !self.close_sent {
                    self.put(Opcode::Pong, payload);
                }
                Received::Nothing
            }
            Message::Close(payload) => {
                self.close_received = true;
                self.put_close(payload);
                Received::Closed
            }
        }
    }

    fn put(&mut self, opcode: Opcode, payload: Bytes) {
        if payload.len() < COPIED_BYTES {
            self.put_copy(opcode, &payload);
            return;
        }
        put_header(&mut self.gathered, opcode, payload.len());
        self.hand_over();
        self.stream.send(Output::Bytes(payload));
    }

    fn put_copy(&mut self, opcode: Opcode, payload: &[u8]) {
        self.gathered.reserve(HEADER_BYTES + payload.len());
        put_header(&mut self.gathered, opcode, payload.len());
        self.gathered.extend_from_slice(payload);
        if self.gathered.len() >= GATHERED_BYTES {
            self.hand_over();
        }
    }

    fn put_close(&mut self, payload: Bytes) {
        if !self.close_sent {
            self.close_sent = true;
            self.put(Opcode::Close, payload);
        }
    }

    fn hand_over(&mut self) {
        let gathered = self.gathered.split().freeze();
        self.stream.send(Output::Bytes(gathered));
    }

    fn fail(&mut self, error: FrameError) -> io::Error {
        self.fault = Some(match error {
            FrameError::TooLong { .. } => (1009, "the message is too large"),
            FrameError::Utf8 => (1007, "a text message is not UTF-8"),
            _ => (1002, "the WebSocket protocol was violated"),
        });
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocketTransport<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        if self.close_received {
            return Poll::Ready(Ok(Received::Closed));
        }
        loop {
            match self.next_message() {
                Ok(Some(message)) => return Poll::Ready(Ok(self.take(message))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            match ready!(self.stream.poll_receive(cx)) {
                // A peer that just goes away has broken no rule that anybody could still tell it.
                Ok(Received::Closed) => return Poll::Ready(Ok(Received::Closed)),
                Ok(_) => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.fault = Some((1009, "too much before login"));
                    }
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn buffer(&mut self) -> Option<&mut BytesMut> {
        None
    }

    fn send(&mut self, output: Output) {
        match output {
            Output::Bytes(bytes) => self.put(Opcode::Binary, bytes),
            // Gates write their own UTF-8.
            Output::Text(text) => self.put(Opcode::Text, text),
            Output::Close { .. } => {}
        }
    }

    fn send_message(&mut self, message: &[u8], is_text: bool) {
        let opcode = match is_text {
            true => Opcode::Text,
            false => Opcode::Binary,
        };
        self.put_copy(opcode, message);
    }

    fn queued(&self) -> usize {
        let bytes = self.stream.queued() + self.gathered.len();
        bytes.saturating_sub(self.asked)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hand_over();
        ready!(self.stream.poll_flush(cx))?;
        self.asked = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &'static str,
    ) -> Poll<io::Result<()>> {
        let (code, reason) = self.fault.unwrap_or((code, reason));
        self.put_close(close_payload(code, reason));
        self.poll_flush(cx)
    }

    /// The server closes the stream when the peer's Close has come too (RFC 6455 section 7.1.1).
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.fault.is_none() {
            match ready!(self.poll_receive(cx)) {
                Ok(Received::Closed) => return Poll::Ready(Ok(false)),
                Ok(_) => return Poll::Ready(Ok(true)),
                Err(error) if self.fault.is_none() => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
        // What comes are no frames any more, so no Close will be found among them.
        let io = &mut self.stream.io_mut().io;
        ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        poll_discard(io, cx)
    }

    fn logged_in(&mut self) {
        self.stream.io_mut().left = None;
    }

    fn can_ping(&self) -> bool {
        true
    }

    fn ping(&mut self) -> bool {
        let before = self.gathered.len();
        self.put(Opcode::Ping, Bytes::new());
        self.asked += self.gathered.len().saturating_sub(before);
        true
    }

    fn rest(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
        self.stream.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_order_of_subprotocols_decides() {
        let known = |name: &str| ["b", "a"].contains(&name);
        let choose = |lines: &[&'static str]| choose_subprotocol(lines.iter().copied(), known);
        assert_eq!(choose(&["x, a,b"]), Some("a"));
        assert_eq!(choose(&["x", "b"]), Some("b"));
        assert_eq!(choose(&["x"]), None);
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn the_accept_key_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
