//! What is negotiated and configured before the first message.

use super::WampCounters;
use bytestring::ByteString;
use router_core::encoding::Encoding;
use std::sync::Arc;
use std::time::Duration;

/// WebSocket subprotocols, in our order of preference where the client has none, and what they
/// mean. The name also stands in the session list.
pub const SUBPROTOCOLS: [(&str, Encoding); 2] = [
    ("wamp.2.msgpack", Encoding::MsgPack),
    ("wamp.2.json", Encoding::Json),
];

/// The serialization of a WebSocket subprotocol; `None` if it is none of WAMP's that we speak.
#[must_use]
pub fn encoding_of(subprotocol: &str) -> Option<Encoding> {
    let found = SUBPROTOCOLS.iter().find(|(name, _)| *name == subprotocol);
    found.map(|(_, encoding)| *encoding)
}

/// The WebSocket subprotocol of a serialization.
#[must_use]
pub const fn subprotocol_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "wamp.2.json",
        Encoding::MsgPack => "wamp.2.msgpack",
    }
}

/// RawSocket serializers (Advanced Profile, "RawSocket Transport"): the number in the handshake, and
/// what it means.
pub const SERIALIZERS: [(u8, Encoding); 2] = [(1, Encoding::Json), (2, Encoding::MsgPack)];

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
            counters: Arc::default(),
        }
    }
}
