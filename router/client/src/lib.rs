#![forbid(unsafe_code)]
//! A small WAMP client over WebSocket: publisher, subscriber, caller and callee in one session.
//!
//! * [`address`]: where the router is, and which serialization is spoken.
//! * [`arguments`]: what publications, calls and results carry.
//! * [`join`]: from an address to a joined session.
//! * [`session`]: the handle that programs use.
//! * [`request`]: the words between handle, state and driver.
//! * [`state`]: what a session knows, without any I/O: requests that wait for their answer,
//!   subscriptions, registrations, calls being answered.
//! * [`heartbeat`]: when a silent peer is asked for a sign of life, and when it is given up.
//! * [`driver`]: the task that owns the socket and moves messages between it and the state.
//!
//! Every queue is bounded. Where one is full its sender waits: a subscriber that does not read its
//! events stops the session from reading the socket, and then it is the router that decides.
//! No reconnecting: a session ends with its connection, and with it all that was bound to it.
//!
//! The feature `testing` brings a router that says what a test tells it to.

mod address;
mod arguments;
mod driver;
mod error;
mod heartbeat;
mod join;
mod request;
mod session;
mod state;
mod terminal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use address::{Address, Place, Serializer};
pub use arguments::Arguments;
pub use error::{ClientError, Closed, Failure};
pub use heartbeat::Pulse;
pub use join::{Credentials, Join, Stream, open};
pub use request::{Cancel, Event, Invocation};
pub use session::{Call, Reply, Session, Subscription};
pub use terminal::printable;

pub use protocols::wamp::dict::DictExt;
pub use protocols::wamp::message::Dict;
