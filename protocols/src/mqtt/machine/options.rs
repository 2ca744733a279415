//! What a listener decides for its MQTT connections, and what it counts.

use crate::mqtt::codec::{Limits, PRE_LOGIN_MAX_BYTES, validate_topic_name};
use bytestring::ByteString;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Settings of one connection; the names are those of the `[mqtt]` table of the configuration.
///
/// Cloned for each connection: what is shared among them is behind `Arc`.
#[derive(Clone, Debug)]
pub struct MqttOptions {
    /// Longest Keep Alive in seconds, announced as Server Keep Alive to 5.0 clients that ask for
    /// more; 0: no cap. 3.x clients cannot be told and keep their own.
    pub max_keepalive_secs: u16,
    /// QoS 1 and 2 messages a 5.0 client may leave unacknowledged; more is answered with 0x93.
    pub receive_maximum: NonZeroU16,
    /// Topic Aliases a client may use; 0 refuses them.
    pub topic_alias_maximum: u16,
    /// Topic Aliases used towards a client, if it allows as many; 0: none. Each costs up to about
    /// a kilobyte for each connection, as topics repeat.
    pub outgoing_topic_aliases: u16,
    /// Largest packet accepted, in bytes with its fixed header; larger is answered with 0x95.
    pub max_packet_bytes: usize,
    /// Largest packet accepted of somebody who is not let in, in bytes: a CONNECT, or an AUTH
    /// ahead of CONNACK; never more than `max_packet_bytes`.
    pub max_connect_bytes: usize,
    /// Longest life of a session without connection, in seconds, and that of a persistent 3.x
    /// session; `u32::MAX`: forever.
    pub max_session_expiry_secs: u32,
    /// Time from the first byte until the client is let in; then the connection is closed.
    pub login_timeout: Duration,
    /// Most QoS 1 and 2 messages sent to a client and not acknowledged, whatever its Receive
    /// Maximum allows.
    pub outgoing_window: NonZeroU16,
    /// Most levels of a Topic Name or Topic Filter; more is 0x90 or 0x8F.
    pub max_topic_levels: usize,
    /// Topic Filters of one SUBSCRIBE or UNSUBSCRIBE; more is answered with 0x97.
    pub max_filters: u16,
    /// What clients that ask for Response Information are told; `None`: nothing.
    pub response_information: Option<ResponseInformation>,
    /// This router's id, told to bridges that tell theirs (see [`crate::mqtt::bridge::via`]);
    /// may be set later.
    pub router_id: Arc<OnceLock<ByteString>>,
    /// Makes Client Identifiers for clients that bring none.
    pub assigned_ids: Arc<AssignedIds>,
    /// Counts what happens on all connections with these options.
    pub counters: Arc<MqttCounters>,
}

impl Default for MqttOptions {
    fn default() -> Self {
        Self {
            max_keepalive_secs: 0,
            receive_maximum: NonZeroU16::MIN.saturating_add(63),
            topic_alias_maximum: 32,
            outgoing_topic_aliases: 64,
            max_packet_bytes: 1_048_576,
            max_connect_bytes: PRE_LOGIN_MAX_BYTES,
            max_session_expiry_secs: 604_800,
            login_timeout: Duration::from_secs(10),
            outgoing_window: NonZeroU16::MIN.saturating_add(99),
            max_topic_levels: 200,
            max_filters: 8_192,
            response_information: Some(ResponseInformation::default()),
            router_id: Arc::default(),
            assigned_ids: Arc::default(),
            counters: Arc::default(),
        }
    }
}

impl MqttOptions {
    /// What the decoder needs of them.
    pub(super) fn codec_limits(&self) -> Limits {
        Limits {
            max_packet_bytes: self.max_packet_bytes,
            max_filters: self.max_filters.into(),
            ..Limits::default()
        }
    }
}

/// Where answers to a client's requests may go: a prefix of topics for each client, which CONNACK
/// tells those that ask (5.0 section 3.2.2.3.15). It is a hint and gives no rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseInformation {
    template: ByteString,
}

/// What stands for the client in a template.
const CLIENT: &str = "{client}";
/// Longest Response Information, in bytes: room is left for what the client appends.
const MAX_RESPONSE_INFORMATION: usize = 32_767;

impl Default for ResponseInformation {
    /// `reply/{client}/`
    fn default() -> Self {
        Self {
            template: ByteString::from_static("reply/{client}/"),
        }
    }
}

impl ResponseInformation {
    /// From a Topic Name in which `{client}` stands for the Client Identifier; `None`: it does not
    /// occur, or this is no Topic Name.
    #[must_use]
    pub fn new(template: &str) -> Option<Self> {
        let is_topic = validate_topic_name(template, usize::MAX).is_ok();
        (is_topic && template.contains(CLIENT)).then(|| Self {
            template: template.into(),
        })
    }

    /// The prefix of the client named `id`, different for each; `None` if it would be too long.
    ///
    /// What would be a separator or a wildcard in the Client Identifier, `%`, and `$` at its start
    /// are written as `%` and two hexadecimal digits.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<ByteString> {
        let mut escaped = String::with_capacity(id.len());
        for (at, letter) in id.char_indices() {
            match letter {
                '/' => escaped.push_str("%2F"),
                '+' => escaped.push_str("%2B"),
                '#' => escaped.push_str("%23"),
                '%' => escaped.push_str("%25"),
                '$' if at == 0 => escaped.push_str("%24"),
                _ => escaped.push(letter),
            }
        }
        let prefix = self.template.replace(CLIENT, &escaped);
        (prefix.len() <= MAX_RESPONSE_INFORMATION).then(|| prefix.into())
    }
}

/// Makes Client Identifiers that are unique and cannot be guessed `[MQTT-3.1.3-6]`: who knows
/// the identifier of a session can take it over.
#[derive(Debug)]
pub struct AssignedIds {
    secret: [u64; 2],
    next: AtomicU64,
}

impl Default for AssignedIds {
    fn default() -> Self {
        // The hasher's keys are the standard library's own randomness.
        let random = || RandomState::new().hash_one(0u8);
        Self::with_secret([random(), random()])
    }
}

impl AssignedIds {
    /// Always the same identifiers for the same `secret`: for simulations.
    #[must_use]
    pub const fn with_secret(secret: [u64; 2]) -> Self {
        Self {
            secret,
            next: AtomicU64::new(0),
        }
    }

    /// An identifier not given before: 32 hexadecimal digits behind a common prefix.
    #[must_use]
    pub fn assign(&self) -> ByteString {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let half = |part: u8| {
            let mut hasher = DefaultHasher::new();
            (self.secret, number, part).hash(&mut hasher);
            hasher.finish()
        };
        format!("auto-{:016x}{:016x}", half(0), half(1)).into()
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// What happened on the connections that share these counters.
        #[derive(Debug, Default)]
        pub struct MqttCounters {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl MqttCounters {
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
    /// Clients let in.
    connects_accepted,
    /// Connections refused with a CONNACK or closed instead of one.
    connects_refused,
    /// Connections closed because no session came about in time.
    login_timeouts,
    /// Connections closed because the client was silent for one and a half Keep Alives.
    keep_alive_timeouts,
    /// Connections closed because bytes were malformed or forbidden.
    malformed,
    /// Connections closed because a packet exceeded a limit or spoke an unknown version.
    over_limit,
    /// Connections closed because of well-formed packets that the state forbids.
    protocol_errors,
    /// Messages not delivered because MQTT cannot express their topic or properties.
    not_deliverable,
    /// Messages not delivered because they exceed the client's Maximum Packet Size.
    too_large_for_client,
    /// Messages not delivered because they expired before they were sent.
    expired_unsent,
    /// Publishes refused by the gate: too many levels, or text that is not UTF-8.
    publish_invalid,
    /// Acknowledgements for unknown Packet Identifiers.
    acks_unknown,
    /// Sessions ended because the client did not prove its name again.
    proofs_refused,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_identifiers_differ_and_a_secret_repeats_them() {
        let ids = AssignedIds::with_secret([1, 2]);
        let (a, b) = (ids.assign(), ids.assign());
        assert_ne!(a, b);
        assert_eq!(AssignedIds::with_secret([1, 2]).assign(), a);
        assert_ne!(AssignedIds::with_secret([1, 3]).assign(), a);
        assert_ne!(
            AssignedIds::default().assign(),
            AssignedIds::default().assign()
        );
        assert_eq!(a.len(), "auto-".len() + 32);
    }

    #[test]
    fn defaults_are_those_of_the_configuration() {
        let options = MqttOptions::default();
        assert_eq!(options.receive_maximum.get(), 64);
        assert_eq!(options.outgoing_window.get(), 100);
        assert_eq!(options.codec_limits().max_packet_bytes, 1_048_576);
    }

    #[test]
    fn response_information_is_a_topic_name_for_every_client() {
        let default = ResponseInformation::default();
        assert_eq!(ResponseInformation::new("reply/{client}/"), Some(default));
        for wrong in ["", "reply/", "a/+/{client}", "{client}/#", "{client}\0"] {
            assert_eq!(ResponseInformation::new(wrong), None, "{wrong:?}");
        }
        let information = ResponseInformation::new("{client}/in").expect("a Topic Name");
        for (id, expected) in [
            ("joe", "joe/in"),
            ("a/b+c#d%e", "a%2Fb%2Bc%23d%25e/in"),
            ("$SYS", "%24SYS/in"),
            ("a$", "a$/in"),
            ("%2F", "%252F/in"),
            ("{client}", "{client}/in"),
        ] {
            let told = information.of(id).expect("short");
            assert_eq!(told, expected);
            assert!(validate_topic_name(&told, 2).is_ok());
        }
        assert_eq!(information.of(&"+".repeat(20_000)), None);
    }

    #[test]
    fn counters_list_themselves() {
        let counters = MqttCounters::default();
        count(&counters.malformed);
        let found = counters
            .list()
            .into_iter()
            .find(|(name, ..)| *name == "malformed");
        assert_eq!(found.map(|(_, _, value)| value), Some(1));
    }
}
