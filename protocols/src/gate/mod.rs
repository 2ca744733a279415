//! The seam between a protocol and everything else.
//!
//! A [`Gate`] is one connection of one protocol: a state machine without sockets, tasks, clocks or
//! locks. The driver owns the transport and the realm's door; it calls, in this order and as often
//! as there is something to do:
//!
//! 1. [`Gate::handle_input`] with what the transport read, unless [`Gate::handle_more`] still had
//!    something to look at, or [`Gate::handle_timeout`] when the deadline of
//!    [`Gate::poll_timeout`] has passed;
//! 2. [`Gate::poll_action`] until `None`: [`Action::Join`] is answered by [`Gate::handle_joined`]
//!    before the next action is asked for, unless [`Gate::handle_authentication`] brings a challenge
//!    first; commands are carried out in one batch under one lock;
//! 3. [`Gate::handle_delivery`] for what the realm told the session;
//! 4. [`Gate::poll_output`] until `None`, and the bytes go to the transport; a gate that ends the
//!    connection here has [`Action::Leave`] behind it.
//!
//! After [`Output::Close`] nothing more is read, and the session leaves. What the peer still sends is
//! thrown away until it closes too, or has had its time.

mod driver;
mod error_name;
mod proofs;
mod traffic;

pub use driver::{Driver, DriverOptions};
pub use error_name::{INTERNAL, QUOTA_EXCEEDED, error_uri};
pub use proofs::Proofs;
pub use router_core::auth::{Credentials, Mechanism};
pub use router_core::runtime::EnterError as JoinError;
pub use traffic::Traffic;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::model::{Command, Delivery, Now};
use router_core::session::{ClientJoin, EventStyle, Features, Leave};
use std::time::Instant;

/// One connection of one protocol.
pub trait Gate: Send {
    /// Takes what the transport read. Stream transports lend their buffer and the gate takes whole
    /// frames off its front; what remains is shown again with more behind it.
    fn handle_input(&mut self, now: Now, input: Input<'_>);

    /// Goes on with input that was taken and not looked at yet, a bounded part of it; whether
    /// there was any. Asked before anything more is read.
    fn handle_more(&mut self, now: Now) -> bool {
        let _ = now;
        false
    }

    /// The answer to [`Action::Join`].
    fn handle_joined(&mut self, now: Now, result: Result<JoinedAs, JoinError>);

    /// What came of a step of an authentication exchange. Only gates that open exchanges, with
    /// [`Credentials::Exchange`], hear of any.
    fn handle_authentication(&mut self, now: Now, step: Authentication) {
        let _ = (now, step);
    }

    /// Takes one delivery of the realm.
    fn handle_delivery(&mut self, now: Now, delivery: Delivery);

    /// Takes that the deadline of [`Gate::poll_timeout`] has passed.
    fn handle_timeout(&mut self, now: Now);

    /// What the gate wants done next, in order. While a [`Action::Join`] is not answered, `None`.
    fn poll_action(&mut self) -> Option<Action>;

    /// What goes to the transport next, in order.
    fn poll_output(&mut self) -> Option<Output>;

    /// Hands out the messages that [`Gate::poll_output`] would give next, as far as they lie ready: each with whether
    /// it is text. For whoever copies them anyhow.
    fn take_messages(&mut self, take: &mut dyn FnMut(&[u8], bool)) {
        let _ = take;
    }

    /// When [`Gate::handle_timeout`] must be called, if nothing happens before.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether it keeps input that came behind an [`Action::Join`] which is not answered.
    fn has_input(&self) -> bool {
        false
    }

    /// Nothing has happened for a while: gives back memory that is kept for speed only.
    fn rest(&mut self) {}
}

/// What the transport read.
#[derive(Debug)]
pub enum Input<'a> {
    /// A byte stream's buffer.
    Stream(&'a mut BytesMut),
    /// A text message, checked to be UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// The peer closed, or the connection broke; nothing more will come.
    Closed,
    /// The router shuts down: say goodbye and close.
    Drain,
}

/// What a gate wants done.
#[derive(Debug)]
pub enum Action {
    /// Let the peer take part in a realm.
    Join(Box<JoinRequest>),
    /// Go on with an authentication exchange, or begin one in a session.
    Authenticate(Box<Authenticate>),
    /// Carry out a command of the session.
    Command(Command),
    /// The session leaves now.
    Leave(Leave),
}

/// What a peer says in an authentication exchange.
#[derive(Debug)]
pub enum Authenticate {
    /// Its answer to the challenge of the join, or of the proof, that is under way.
    Answer(Bytes),
    /// It wants to prove the name of its session again; the session goes on meanwhile.
    Again(Credentials),
}

/// What came of a step of an authentication exchange.
#[derive(Debug)]
pub enum Authentication {
    /// The peer must answer this.
    Challenge(Bytes),
    /// The name is proven; the answer to the join, if there is one, comes next.
    Proven {
        /// That the router knows the secret too: for the peer, with the news of the success.
        verifier: Option<Bytes>,
    },
    /// The name of the session was not proven again. A join that fails is told as such.
    Failed(JoinError),
}

/// What goes to the transport.
#[derive(Debug)]
pub enum Output {
    /// Bytes of a stream, or one binary message.
    Bytes(Bytes),
    /// One text message.
    Text(Bytes),
    /// Flush what was sent, then close. Message transports say the code.
    Close {
        /// WebSocket close code, where the transport has one.
        code: u16,
        /// Words for a person.
        reason: &'static str,
    },
}

/// A request to take part in a realm.
#[derive(Debug)]
pub struct JoinRequest {
    /// Which realm; `None`: the default one.
    pub realm: Option<ByteString>,
    /// How the peer proves who it is.
    pub credentials: Credentials,
    /// What the peer can do.
    pub features: Features,
    /// How it wants events.
    pub style: EventStyle,
    /// Present for clients that can outlive their connection.
    pub client: Option<ClientJoin>,
    /// Name of the protocol for the session list, e.g. `mqtt-5.0`, `wamp.2.json`.
    pub protocol: &'static str,
    /// What this protocol calls a proof by secret, e.g. `ticket`, `password`.
    pub method: &'static str,
    /// What the peer calls itself, for the session list.
    pub agent: Option<ByteString>,
}

/// As whom a session takes part.
#[derive(Clone, Debug)]
pub struct JoinedAs {
    /// Its id.
    pub session: router_core::model::SessionId,
    /// The realm's name.
    pub realm: ByteString,
    /// Its authenticated name.
    pub authid: ByteString,
    /// Its role.
    pub role: ByteString,
    /// How it proved its name.
    pub method: ByteString,
    /// Who vouched for it.
    pub provider: ByteString,
}
