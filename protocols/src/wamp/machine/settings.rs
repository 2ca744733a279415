//! What is negotiated and configured before the first message.

use super::WampCounters;
use super::strict::Strictness;
use bytestring::ByteString;
use router_core::encoding::Encoding;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How messages are written, and whether one frame of the transport holds several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serialization {
    /// The serialization of a message.
    pub encoding: Encoding,
    /// Section "Batched Transport".
    pub batched: bool,
}

impl Serialization {
    const fn single(encoding: Encoding) -> Serialization {
        Serialization {
            encoding,
            batched: false,
        }
    }

    const fn batched(encoding: Encoding) -> Serialization {
        Serialization {
            encoding,
            batched: true,
        }
    }
}

/// One message in a frame.
impl From<Encoding> for Serialization {
    fn from(encoding: Encoding) -> Serialization {
        Serialization::single(encoding)
    }
}

/// WebSocket subprotocols, and what they mean; the client's order of preference decides. The name
/// also stands in the session list.
pub const SUBPROTOCOLS: [(&str, Serialization); 6] = [
    ("wamp.2.msgpack", Serialization::single(Encoding::MsgPack)),
    ("wamp.2.cbor", Serialization::single(Encoding::Cbor)),
    ("wamp.2.json", Serialization::single(Encoding::Json)),
    (
        "wamp.2.msgpack.batched",
        Serialization::batched(Encoding::MsgPack),
    ),
    (
        "wamp.2.cbor.batched",
        Serialization::batched(Encoding::Cbor),
    ),
    (
        "wamp.2.json.batched",
        Serialization::batched(Encoding::Json),
    ),
];

/// The serialization of a WebSocket subprotocol; `None` if it is none of WAMP's that we speak.
#[must_use]
pub fn serialization_of(subprotocol: &str) -> Option<Serialization> {
    let found = SUBPROTOCOLS.iter().find(|(name, _)| *name == subprotocol);
    found.map(|(_, serialization)| *serialization)
}

/// The WebSocket subprotocol of a serialization.
#[must_use]
pub const fn subprotocol_of(serialization: Serialization) -> &'static str {
    match (serialization.encoding, serialization.batched) {
        (Encoding::Json, false) => "wamp.2.json",
        (Encoding::MsgPack, false) => "wamp.2.msgpack",
        (Encoding::Cbor, false) => "wamp.2.cbor",
        (Encoding::Json, true) => "wamp.2.json.batched",
        (Encoding::MsgPack, true) => "wamp.2.msgpack.batched",
        (Encoding::Cbor, true) => "wamp.2.cbor.batched",
    }
}

/// RawSocket serializers (Advanced Profile, "RawSocket Transport"): the number in the handshake, and
/// what it means.
pub const SERIALIZERS: [(u8, Encoding); 3] = [
    (1, Encoding::Json),
    (2, Encoding::MsgPack),
    (3, Encoding::Cbor),
];

/// The serialization of a RawSocket serializer; `None` if it is none that we speak.
#[must_use]
pub fn encoding_of_serializer(serializer: u8) -> Option<Encoding> {
    let found = SERIALIZERS.iter().find(|(number, _)| *number == serializer);
    found.map(|(_, encoding)| *encoding)
}

/// What can be set for the connections of a listener.
#[derive(Clone, Debug)]
pub struct WampOptions {
    /// From the opening of the transport, or of a further session on it, to WELCOME.
    pub login_timeout: Duration,
    /// From the router's GOODBYE to the client's.
    pub goodbye_timeout: Duration,
    /// The largest message taken.
    pub message_bytes_max: usize,
    /// The largest message that the peer takes, where its transport says so.
    pub peer_bytes_max: usize,
    /// What the router calls itself in WELCOME.
    pub agent: ByteString,
    /// realm -> what it asks of its clients beyond what all do
    pub strict: Arc<HashMap<ByteString, Strictness>>,
    /// Counts what happens on all connections with these options.
    pub counters: Arc<WampCounters>,
}

impl Default for WampOptions {
    fn default() -> WampOptions {
        WampOptions {
            login_timeout: Duration::from_secs(10),
            goodbye_timeout: Duration::from_secs(5),
            message_bytes_max: 16 << 20,
            peer_bytes_max: usize::MAX,
            agent: ByteString::from_static(concat!("Reynard-", env!("CARGO_PKG_VERSION"))),
            strict: Arc::default(),
            counters: Arc::default(),
        }
    }
}
