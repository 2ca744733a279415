//! WebSocket messages (RFC 6455) over any stream that has been upgraded.

use super::stream::poll_discard;
use super::{BEFORE_LOGIN_BYTES, Received, Transport};
use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Read buffer of a connection, in bytes.
const READ_BUFFER: usize = 8 << 10;
/// Written at once when this much is gathered, in bytes.
const WRITE_BUFFER: usize = 64 << 10;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketLimits {
    /// The largest message accepted, in bytes. Larger ones close with 1009.
    pub max_message_bytes: usize,
}

/// A WebSocket with its write queue.
#[derive(Debug)]
pub struct WebSocketTransport<S> {
    socket: WebSocketStream<Metered<S>>,
    queue: VecDeque<Message>,
    queued: usize,
    close_sent: bool,
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
    pub async fn new(io: S, read: Bytes, limits: WebSocketLimits) -> WebSocketTransport<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER + 2 * limits.max_message_bytes.max(WRITE_BUFFER))
            .max_message_size(Some(limits.max_message_bytes))
            .max_frame_size(Some(limits.max_message_bytes));
        let io = Metered {
            io,
            left: Some(BEFORE_LOGIN_BYTES),
        };
        let socket = if read.is_empty() {
            WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
        } else {
            let read = read.to_vec();
            WebSocketStream::from_partially_read(io, read, Role::Server, Some(config)).await
        };
        WebSocketTransport {
            socket,
            queue: VecDeque::new(),
            queued: 0,
            close_sent: false,
            fault: None,
        }
    }

    fn fault_of(error: &Error) -> (u16, &'static str) {
        match error {
            Error::Capacity(_) => (1009, "the message is too large"),
            Error::Utf8(_) => (1007, "a text message is not UTF-8"),
            _ => (1002, "the WebSocket protocol was violated"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocketTransport<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let Some(message) = ready!(Pin::new(&mut self.socket).poll_next(cx)) else {
            return Poll::Ready(Ok(Received::Closed));
        };
        Poll::Ready(Ok(match message {
            Ok(Message::Text(text)) => Received::Text(Bytes::from(text)),
            Ok(Message::Binary(bytes)) => Received::Binary(bytes),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Received::Nothing,
            Ok(Message::Close(_)) => {
                self.close_sent = true;
                Received::Closed
            }
            // A peer that just goes away has broken no rule that anybody could still tell it.
            Err(
                Error::ConnectionClosed
                | Error::AlreadyClosed
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => Received::Closed,
            Err(Error::Io(error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.fault = Some((1009, "too much before login"));
                }
                return Poll::Ready(Err(error));
            }
            Err(error) => {
                self.fault = Some(Self::fault_of(&error));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }))
    }

    fn buffer(&mut self) -> Option<&mut BytesMut> {
        None
    }

    fn send(&mut self, output: Output) {
        let message = match output {
            Output::Bytes(bytes) => Message::Binary(bytes),
            // Gates write their own UTF-8; what is not would be refused by every client anyway.
            Output::Text(bytes) => match Utf8Bytes::try_from(bytes) {
                Ok(text) => Message::Text(text),
                Err(_) => return,
            },
            Output::Close { .. } => return,
        };
        self.queued += message.len();
        self.queue.push_back(message);
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            self.queued = self.queued.saturating_sub(message.len());
            Pin::new(&mut self.socket)
                .start_send(message)
                .map_err(into_io)?;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &'static str,
    ) -> Poll<io::Result<()>> {
        if !self.close_sent {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
            let (code, reason) = self.fault.unwrap_or((code, reason));
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: Utf8Bytes::from_static(reason),
            };
            self.close_sent = true;
            Pin::new(&mut self.socket)
                .start_send(Message::Close(Some(frame)))
                .map_err(into_io)?;
        }
        Pin::new(&mut self.socket).poll_close(cx).map_err(into_io)
    }

    /// The server closes the stream when the peer's Close has come too (RFC 6455 section 7.1.1).
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.fault.is_none() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(false)),
                Some(Ok(_)) => return Poll::Ready(Ok(true)),
                Some(Err(error)) => self.fault = Some(Self::fault_of(&error)),
            }
        }
        // What comes are no frames any more, so no Close will be found among them.
        let io = &mut self.socket.get_mut().io;
        ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        poll_discard(io, cx)
    }

    fn logged_in(&mut self) {
        self.socket.get_mut().left = None;
    }

    fn can_ping(&self) -> bool {
        true
    }

    fn ping(&mut self) -> bool {
        self.queue.push_back(Message::Ping(Bytes::new()));
        true
    }

    fn rest(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
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
