//! A small WAMP client over WebSocket: publisher, subscriber, caller and callee in one session.
//!
//! * [`address`]: where the router is, and which serialization is spoken.
//! * [`arguments`]: what publications, calls and results carry.
//! * [`join`]: from an address to a joined session.
//! * [`session`]: the handle that the demos use.
//! * [`request`]: the words between handle, state and driver.
//! * [`state`]: what a session knows, without any I/O: requests that wait for their answer,
//!   subscriptions, registrations, calls being answered.
//! * [`driver`]: the task that owns the socket and moves messages between it and the state.
//!
//! Every queue is bounded. Where one is full its sender waits: a subscriber that does not read its
//! events stops the session from reading the socket, and then it is the router that decides.
//! No reconnecting: a demo ends with its connection.

mod address;
mod arguments;
mod driver;
mod error;
mod join;
mod request;
mod session;
mod state;
#[cfg(test)]
mod testing;

pub use address::{Address, Serializer};
pub use arguments::Arguments;
pub use error::{ClientError, Closed, Failure};
pub use join::Credentials;
pub use request::{Event, Invocation};
pub use session::{Call, Reply, Session, Subscription};

pub use protocols::wamp::message::Dict;
