//! What a bridge is told, what it tells, and what it counts.

use super::ladder::Dialect;
use super::rules::Rules;
use crate::mqtt::codec::Limits;
use crate::mqtt::packet::Secret;
use crate::mqtt::reason::ReasonCode;
use bytestring::ByteString;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything that does not change between connections.
#[derive(Debug, Clone)]
pub struct BridgeOptions {
    /// The realm on this side; `None`: the default one.
    pub realm: Option<ByteString>,
    /// Client identifier of the session on this side.
    pub local_id: ByteString,
    /// How long the session on this side outlives the connection.
    pub local_expiry: Duration,
    /// Client Identifier at the peer.
    pub client_id: ByteString,
    /// User Name at the peer.
    pub username: Option<ByteString>,
    /// Password at the peer.
    pub password: Option<Secret>,
    /// The peer forgets its session at each connection, and at its end.
    pub clean_start: bool,
    /// Session Expiry Interval asked of the peer, in seconds.
    pub session_expiry_secs: u32,
    /// Keep Alive in seconds; 0: off.
    pub keep_alive_secs: u16,
    /// QoS 1 and 2 messages the peer may leave unacknowledged (Receive Maximum).
    pub receive_maximum: NonZeroU16,
    /// QoS 1 and 2 messages sent and not acknowledged, whatever the peer's Receive Maximum allows.
    pub outgoing_window: NonZeroU16,
    /// Largest packet taken from the peer, in bytes.
    pub max_packet_bytes: usize,
    /// How long the peer may take for CONNACK, SUBACK and PINGRESP.
    pub answer_timeout: Duration,
    /// Retained values of both sides are sent again at each connection.
    pub sync_retained: bool,
    /// Topic at the peer that holds a retained 1 while the bridge is connected and 0 otherwise.
    pub state_topic: Option<ByteString>,
    /// What crosses.
    pub rules: Rules,
    /// Filters of former rules, which the peer may still know.
    pub stale_filters: Vec<ByteString>,
    /// This router's id in [`VIA`](super::via::VIA).
    pub router_id: ByteString,
}

impl BridgeOptions {
    pub(super) fn codec_limits(&self) -> Limits {
        Limits {
            max_packet_bytes: self.max_packet_bytes,
            ..Limits::default()
        }
    }
}

/// What happened on a connection, for the log and the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The peer let us in.
    Connected {
        /// It still had our session.
        session_present: bool,
        /// Its router id, if it is one of us.
        peer: Option<ByteString>,
    },
    /// The peer did not let us in.
    Refused {
        /// CONNACK's code.
        reason: ReasonCode,
        /// Its words, at most some hundred bytes.
        words: ByteString,
    },
    /// The peer refused a subscription, or cannot make it.
    FilterRefused {
        /// Topic Filter at the peer.
        filter: ByteString,
        /// SUBACK's code.
        reason: ReasonCode,
    },
    /// Every subscription was answered and former ones are gone: messages flow.
    Flowing,
    /// The role on this side may not subscribe.
    NotSubscribed {
        /// Topic Filter on this side.
        filter: ByteString,
    },
    /// The connection is over.
    Ended {
        /// The dialect that was spoken.
        dialect: Dialect,
        /// How.
        end: End,
    },
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer does not speak this version.
    VersionRefused,
    /// CONNACK said no.
    Refused,
    /// The peer closed, or the connection broke, instead of CONNACK.
    ClosedEarly,
    /// The peer closed, or the connection broke.
    Closed,
    /// The peer said DISCONNECT.
    Disconnected(ReasonCode),
    /// The peer did not answer in time.
    Silent,
    /// The peer broke the protocol, or a limit of ours.
    Broken(ReasonCode, &'static str),
    /// The realm did not take a message for now; the peer keeps it.
    NotTaken,
    /// The session on this side did not come about, or was ended.
    SessionEnded,
    /// This router shuts down.
    Drained,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// What crossed a bridge and what did not.
        #[derive(Debug, Default)]
        pub struct BridgeCounters {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl BridgeCounters {
            /// Name, help text and value of every counter, for exposition.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((
                    stringify!($name),
                    concat!($($doc),+),
                    self.$name.load(Ordering::Relaxed),
                )),+]
            }
        }
    };
}

counters! {
    /// Messages taken in from the peer.
    messages_in,
    /// Messages sent to the peer.
    messages_out,
    /// Messages not let through because they had been on one of both sides before.
    looped,
    /// Messages that have no legal name on the other side, or match no rule any more.
    unmapped,
    /// Messages dropped because the bridge's queue was full.
    lost,
    /// Messages that expired before they were sent.
    expired,
    /// Messages larger than the peer takes, or that MQTT cannot say.
    not_deliverable,
    /// Messages that the peer refused.
    refused_by_peer,
    /// Messages of the peer that the realm refused for good.
    refused_here,
    /// Messages that the peer sent beyond the Receive Maximum it was told.
    over_receive_maximum,
    /// Copies sent with QoS 0 because the peer's Receive Maximum is smaller than their number.
    downgraded,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
