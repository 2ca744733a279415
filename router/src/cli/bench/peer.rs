//! What a client of either protocol does in a benchmark. A peer is a state machine without I/O: it
//! is handed what was read, appends to what is to be written, and tells what it heard.
//!
//! A fault of the other side is a sentence that goes on behind its name, such as "refused the
//! publish: Not authorized".

use super::stamp::Stamp;
use super::topic::Filter;
use bytes::BytesMut;
use protocols::wamp::message::Payload;

/// What a peer tells.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// The other side let us in.
    Welcome,
    /// It confirmed so many subscriptions or registrations.
    Confirmed(usize),
    /// A message of a subscription: the bytes with its stamp.
    Message(&'a [u8]),
    /// It acknowledged a publish.
    Acknowledged,
    /// It answered a call.
    Answer {
        /// The id of the call.
        request: u64,
        /// The result.
        payload: &'a Payload,
    },
    /// It answered what [`Peer::ask`] asked, behind everything that it had sent before.
    Quiet,
    /// It said goodbye too.
    Left,
}

/// Who listens to a peer; an error is a fault of the other side.
pub(super) type Hear<'a> = dyn FnMut(Heard<'_>) -> Result<(), String> + 'a;

/// See the [module](self).
pub(super) trait Peer: 'static {
    /// Appends the first message.
    fn hello(&mut self, out: &mut BytesMut);

    /// Takes what was read from the front of `inbound`.
    ///
    /// # Errors
    /// The other side did what ends the connection.
    fn handle(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        hear: &mut Hear<'_>,
    ) -> Result<(), String>;

    /// Asks for a sign of life, see [`Heard::Quiet`].
    fn ask(&mut self, out: &mut BytesMut);

    /// Keeps the other side from taking us for dead, where silence might; called every few seconds.
    fn keep_alive(&mut self, _out: &mut BytesMut) {}

    /// Says goodbye; answers whether [`Heard::Left`] follows.
    fn leave(&mut self, out: &mut BytesMut) -> bool;
}

/// A peer that publishes and subscribes.
pub(super) trait PubSub: Peer {
    /// Subscribes; each filter is confirmed. `with_retained`: with what is kept under it.
    fn subscribe(&mut self, filters: &[Filter], with_retained: bool, out: &mut BytesMut);

    /// The topics of [`PubSub::publish`] by their place; `is_retained`: messages are kept.
    fn aim(&mut self, topics: &[Filter], is_retained: bool, padding: &[u8]);

    /// How many publishes may be sent before others are acknowledged.
    fn room(&self) -> u64;

    /// Publishes to a topic.
    ///
    /// # Errors
    /// The message cannot be written.
    fn publish(
        &mut self,
        at: usize,
        stamp: Stamp,
        padding: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), String>;

    /// Deletes what is kept under a topic; it is acknowledged as a publish is.
    ///
    /// # Errors
    /// The message cannot be written.
    fn erase(&mut self, at: usize, out: &mut BytesMut) -> Result<(), String>;
}
