//! Bytes or messages, no meaning.

mod mailbox;
pub mod rawsocket;
mod stream;
mod websocket;

pub use mailbox::{Ended, Mailbox, MailboxTransport, Taken, mailbox};
pub use rawsocket::{RawSocketOptions, RawSocketTransport};
pub use stream::StreamTransport;
pub use websocket::{WebSocketLimits, WebSocketTransport, accept_key, choose_subprotocol};

use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use std::io;
use std::task::{Context, Poll};

/// What a stranger may make us read, in bytes: enough for every login, too little to fill memory.
const BEFORE_LOGIN_BYTES: usize = 64 << 10;

/// A connection as the driver sees it. Nothing here blocks; every `poll_` follows the usual rule
/// that `Pending` means the waker will be called.
pub trait Transport: Send {
    /// Reads once. `Err` and [`Received::Closed`] both mean that nothing more will come.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>>;

    /// The buffer of a byte stream; `None` for message transports.
    fn buffer(&mut self) -> Option<&mut BytesMut>;

    /// Queues output. [`Output::Close`] is not passed here.
    fn send(&mut self, output: Output);

    /// Queues a copy of a message.
    fn send_message(&mut self, message: &[u8], is_text: bool) {
        let message = Bytes::copy_from_slice(message);
        self.send(match is_text {
            true => Output::Text(message),
            false => Output::Bytes(message),
        });
    }

    /// Bytes queued and not yet written.
    fn queued(&self) -> usize;

    /// Writes what is queued; `Ready` when nothing is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says goodbye at this level; nothing is sent afterwards.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &'static str,
    ) -> Poll<io::Result<()>>;

    /// Reads once after [`Transport::poll_close`] and throws it away, so that the peer's system does
    /// not answer what was sent last with an error instead of showing it. `false`: the peer has
    /// closed too, and nothing is left to wait for.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// The peer is let in: bounds that hold for strangers only are lifted.
    fn logged_in(&mut self) {}

    /// Whether [`Transport::ping`] asks anything.
    fn can_ping(&self) -> bool;

    /// Asks a silent peer for a sign of life; answers whether this transport can.
    fn ping(&mut self) -> bool;

    /// Nothing has happened for a while: gives back memory that is kept for speed only.
    fn rest(&mut self) {}
}

/// What a read brought.
#[derive(Debug)]
pub enum Received {
    /// This many bytes, appended to [`Transport::buffer`].
    Bytes(usize),
    /// A text message.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A sign of life without content.
    Nothing,
    /// The peer closed.
    Closed,
}
