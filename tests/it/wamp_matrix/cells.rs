//! The cells of the matrix, and what a library cannot do.

use std::fmt::{Display, Formatter};

use serde_json::{Value, json};

use super::deeds::Deed;

/// A family of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// autobahn-js.
    AutobahnJs,
    /// autobahn-python on asyncio.
    AutobahnPython,
    /// wampy.
    Wampy,
    /// xconn (Python) on asyncio.
    Xconn,
}

impl Client {
    /// Its program below `tests/clients`.
    pub fn script(self) -> &'static str {
        match self {
            Self::AutobahnJs => "js/autobahn.js",
            Self::AutobahnPython => "python/autobahn_agent.py",
            Self::Wampy => "js/wampy.js",
            Self::Xconn => "python/xconn_agent.py",
        }
    }
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serializer {
    /// JSON.
    Json,
    /// MessagePack.
    MessagePack,
    /// CBOR.
    Cbor,
}

use Serializer::{Cbor, Json, MessagePack};

impl Serializer {
    /// All of them.
    pub const ALL: [Self; 3] = [Json, MessagePack, Cbor];

    /// The name in `wamp.2.NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Json => "json",
            MessagePack => "msgpack",
            Cbor => "cbor",
        }
    }
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// RawSocket over TCP.
    RawSocket,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell(pub Client, pub Serializer, pub Transport);

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.0, self.1, self.2)
    }
}

impl Cell {
    /// Whether the library can do it.
    pub fn is_able(self, deed: Deed) -> bool {
        !UNABLE.iter().any(|(client, serializers, what, _)| {
            *client == self.0 && serializers.contains(&self.1) && *what == deed
        })
    }

    /// The bytes 00 ff 10 fe as this cell's program says and sees them: without a type for
    /// bytes they are the string of "Binary conversion of JSON Strings", which autobahn-python
    /// turns into bytes and the others leave as it is.
    pub fn bytes(self) -> Value {
        if self.1 == Json && self.0 != Client::AutobahnPython {
            json!("\0AP8Q/g==")
        } else {
            json!({"$bin": "00ff10fe"})
        }
    }

    /// An integer as this cell's program is to say it. wampy writes a number beyond 32 bits as
    /// a double, but not where a binary serializer gets a BigInt.
    pub fn integer(self, value: i64) -> Value {
        if self.0 == Client::Wampy && self.1 != Json {
            json!({"$int": value.to_string()})
        } else {
            json!(value)
        }
    }
}

/// What a library cannot do whatever the router does, in which serializations, and why.
pub const UNABLE: &[(Client, &[Serializer], Deed, &str)] = &[
    (
        Client::AutobahnJs,
        &Serializer::ALL,
        Deed::Interrupt,
        "announces no call_canceling as a callee",
    ),
    (
        Client::AutobahnJs,
        &[Json, MessagePack],
        Deed::PublishLongIntegers,
        "neither serializer can write a BigInt",
    ),
    (
        Client::AutobahnJs,
        &[Json, MessagePack],
        Deed::EventLongIntegers,
        "reads every integer as a double",
    ),
    (
        Client::Wampy,
        &Serializer::ALL,
        Deed::Interrupt,
        "announces no call_canceling as a callee",
    ),
    (
        Client::Wampy,
        &Serializer::ALL,
        Deed::YieldProgress,
        "announces no progressive_call_results as a callee",
    ),
    (
        Client::Wampy,
        &[Json],
        Deed::PublishLongIntegers,
        "JSON.stringify cannot write a BigInt",
    ),
    (
        Client::Wampy,
        &[Json, Cbor],
        Deed::EventLongIntegers,
        "reads every integer as a double (CBOR by its option int64AsNumber)",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::Interrupt,
        "announces no call_canceling",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::Cancel,
        "has no way to cancel a call",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::YieldProgress,
        "announces no progressive_call_results",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::CallProgress,
        "takes the first RESULT for the last",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::PublicationId,
        "does not show the publication id of PUBLISHED",
    ),
    (
        Client::Xconn,
        &Serializer::ALL,
        Deed::ErrorKwargs,
        "drops the keyword arguments of an endpoint's error",
    ),
];
