//! The typed configuration: what the rest of the server reads.
//!
//! Invariants of a [`Config`] that came out of [`load`](super::load) or
//! [`Config::from_toml`]: at least one listener, realm names are loose URIs and unique, authids and
//! role names are unique within a realm, every user has exactly one secret, every rule is
//! well-formed, every number lies within the range that [`KEYS`](super::keys::KEYS) states.
//! Units stand last in a field name (`_secs`, `_bytes`, `_frames`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use router_core::auth::Disclosure;
use router_core::broker::ShareStrategy;
use router_core::limits::WhenFull;
use storage::{Durability, EngineKind};

use super::address::Address;
use super::bridge::Bridge;
use super::rule::Rule;
use super::secret::Secret;

/// The whole configuration of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where retained values and sessions live.
    pub data: DataStore,
    /// What keeps those files.
    pub storage_engine: EngineKind,
    /// Realm of protocols and clients that name none.
    pub default_realm: String,
    /// Whether a realm that has no table is created on first use.
    pub auto_realms: bool,
    /// Whether a non-loopback address without authentication is accepted.
    pub insecure: bool,
    /// Threads that serve connections; `None`: one for each core.
    pub worker_threads: Option<u16>,
    /// Every address to listen on, universal ones first as written.
    pub listeners: Vec<Listener>,
    /// The realms that have a table.
    pub realms: Vec<Realm>,
    /// This router's id on the way of bridged messages; `None`: a random one that is kept.
    pub bridge_id: Option<String>,
    /// Connections to other MQTT brokers.
    pub bridges: Vec<Bridge>,
    /// Limits and features of MQTT.
    pub mqtt: Mqtt,
    /// Limits of connections, sessions and realms.
    pub limits: Limits,
    /// How the log is written.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: DataStore::default(),
            storage_engine: EngineKind::default(),
            default_realm: "realm1".to_owned(),
            auto_realms: true,
            insecure: false,
            worker_threads: None,
            listeners: vec![
                Listener::loopback(ListenerKind::Universal, 9000),
                Listener::loopback(ListenerKind::Mqtt, 1883),
            ],
            realms: Vec::new(),
            bridge_id: None,
            bridges: Vec::new(),
            mqtt: Mqtt::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// The configured realm of that name.
    #[must_use]
    pub fn realm(&self, name: &str) -> Option<&Realm> {
        self.realms.iter().find(|realm| realm.name == name)
    }

    /// The addresses of one kind of listener, in the order written.
    pub fn addresses(&self, kind: ListenerKind) -> impl Iterator<Item = &Address> + '_ {
        self.listeners
            .iter()
            .filter(move |listener| listener.kind == kind)
            .map(|listener| &listener.bind)
    }

    /// Whether nobody can join any realm without a secret: realms are not made on first use, and
    /// each configured one has users and no anonymous sessions.
    #[must_use]
    pub fn requires_credentials(&self) -> bool {
        !self.auto_realms && self.realms.iter().all(Realm::requires_credentials)
    }
}

/// Where retained values and sessions live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataStore {
    /// In files below this directory; a relative path starts at the working directory.
    Directory(PathBuf),
    /// In memory only: nothing survives the process.
    Memory,
}

impl Default for DataStore {
    fn default() -> Self {
        Self::Directory(PathBuf::from("./reynard-data"))
    }
}

/// The spelling of the ready line: the path, or `memory`.
impl fmt::Display for DataStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// The address.
    pub bind: Address,
    /// Permissions of the file of a Unix domain socket.
    pub mode: u32,
    /// What differs from `[limits]` and `[mqtt]` there.
    pub limits: ListenerLimits,
}

/// Limits of one listener; `None`: as for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerLimits {
    /// Open connections.
    pub max_connections: Option<u32>,
    /// Time from accept until a session is established.
    pub login_timeout_secs: Option<u32>,
    /// As [`Mqtt::max_keepalive_secs`].
    pub max_keepalive_secs: Option<u16>,
    /// As [`Mqtt::receive_maximum`].
    pub receive_maximum: Option<u16>,
    /// As [`Mqtt::topic_alias_maximum`].
    pub topic_alias_maximum: Option<u16>,
    /// As [`Mqtt::max_packet_bytes`].
    pub max_packet_bytes: Option<u32>,
}

impl Listener {
    /// The mode of a socket's file where none is named: its owner's alone.
    pub const MODE: u32 = 0o600;

    /// A listener whose limits are those of all.
    #[must_use]
    pub fn new(kind: ListenerKind, bind: Address) -> Self {
        Self {
            kind,
            bind,
            mode: Self::MODE,
            limits: ListenerLimits::default(),
        }
    }

    fn loopback(kind: ListenerKind, port: u16) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self::new(kind, address.into())
    }

    /// Whether other machines can reach the address.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        match &self.bind {
            // `::ffff:127.0.0.1` is loopback too, hence the canonical form.
            Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => false,
        }
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerKind {
    /// Every protocol; the first byte decides.
    #[default]
    Universal,
    /// Plain MQTT only.
    Mqtt,
}

/// One realm that has a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// Its name, a loose URI.
    pub name: String,
    /// Who may log in with a secret.
    pub users: Vec<User>,
    /// What the roles may do; a role without an entry may do everything.
    pub roles: Vec<Role>,
    /// `[realm.anonymous]`, if it was written.
    pub anonymous: Option<Anonymous>,
    /// Whether publishers and callers are named to others, where the role does not say.
    pub disclose: Disclosure,
    /// Which URIs WAMP clients may use.
    pub uri: UriGrammar,
    /// Whether the request ids of WAMP clients are checked.
    pub request_ids: RequestIds,
    /// Topics whose events are remembered without being asked for; the first that fits counts.
    pub history: Vec<HistoryTopic>,
    /// What its acknowledged writes have gone through.
    pub durability: Durability,
    /// How much is remembered of what is published with that wish.
    pub trace: Remembered,
}

/// The grammar of WAMP URIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UriGrammar {
    /// Anything but white space and `#`.
    #[default]
    Loose,
    /// Lower case letters, digits and underscores only.
    Strict,
}

/// What is asked of the request ids of WAMP clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestIds {
    /// Any integers from 1 to 2^53.
    #[default]
    Lenient,
    /// 1, 2, 3 and so on.
    Strict,
}

/// Topics whose events a realm remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryTopic {
    /// Which, in a notation of [`Rule`].
    pub topic: String,
    /// How much of them.
    pub kept: Remembered,
}

/// How much is remembered; beyond any of the bounds the oldest is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Events.
    pub keep: u32,
    /// Seconds; 0: for ever.
    pub max_age_secs: u32,
    /// Bytes.
    pub max_bytes: u64,
    /// On disk.
    pub durable: bool,
}

impl Realm {
    /// The role of sessions without credentials, or `None` if they are refused. Without users they
    /// are welcome even if the table is missing.
    #[must_use]
    pub fn anonymous_role(&self) -> Option<&str> {
        match &self.anonymous {
            Some(anonymous) => Some(&anonymous.role),
            None if self.users.is_empty() => Some(Anonymous::ROLE),
            None => None,
        }
    }

    /// Whether sessions without a secret are refused.
    #[must_use]
    pub fn requires_credentials(&self) -> bool {
        self.anonymous_role().is_none()
    }

    /// The user of that authid.
    #[must_use]
    pub fn user(&self, authid: &str) -> Option<&User> {
        self.users.iter().find(|user| user.authid == authid)
    }

    /// The rules of that role; `None` means that it may do everything.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }
}

impl Remembered {
    /// What is remembered of a topic where it is not said.
    pub const OF_TOPIC: Remembered = Remembered {
        keep: 1_000,
        max_age_secs: 0,
        max_bytes: 64 << 20,
        durable: true,
    };
    /// What is remembered on request.
    pub const ON_REQUEST: Remembered = Remembered {
        keep: 10_000,
        ..Remembered::OF_TOPIC
    };
}

/// One user of a realm: WAMP ticket, MQTT user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// WAMP `authid`, MQTT user name.
    pub authid: String,
    /// The role its sessions get.
    pub role: String,
    /// What proves it.
    pub secret: Secret,
}

/// What one role may do: deny wins, then allow, else refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What is permitted unless denied.
    pub allow: Vec<Rule>,
    /// What is refused whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Whether its sessions are named to others; `None`: as in the realm.
    pub disclose: Option<Disclosure>,
}

/// `[realm.anonymous]`: sessions without credentials are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous {
    /// The role they get.
    pub role: String,
}

impl Anonymous {
    /// The role where none is named.
    pub const ROLE: &'static str = "anonymous";
}

/// `[mqtt]`: what is announced to MQTT clients and what is kept for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// Longest keep alive accepted; 0 means no cap. A cap is announced as Server Keep Alive.
    pub max_keepalive_secs: u16,
    /// QoS 1 and 2 messages a client may have unacknowledged (Receive Maximum).
    pub receive_maximum: u16,
    /// Topic Alias Maximum; 0 refuses aliases.
    pub topic_alias_maximum: u16,
    /// Largest packet accepted (Maximum Packet Size).
    pub max_packet_bytes: u32,
    /// Largest packet accepted before the client is let in.
    pub max_connect_bytes: u32,
    /// Levels of a Topic Name or Topic Filter.
    pub max_topic_levels: u16,
    /// Topic Filters of one SUBSCRIBE or UNSUBSCRIBE.
    pub max_filters_per_packet: u16,
    /// QoS 1 and 2 messages sent to a client and not acknowledged.
    pub max_inflight: u16,
    /// Topic Aliases used towards a client; 0 uses none.
    pub outgoing_topic_aliases: u16,
    /// Prefix of topics for answers, with `{client}` in it; empty: none.
    pub response_information: String,
    /// Messages kept for one offline or slow persistent session.
    pub max_queued_messages: u32,
    /// Bytes kept for one offline or slow persistent session.
    pub max_queued_bytes: u64,
    /// Messages of an offline session that stay in memory too.
    pub queued_in_memory: u32,
    /// What a full queue does.
    pub queue_full: WhenFull,
    /// Longest life of an offline session, 3.x persistent ones included; 4294967295 is forever.
    pub max_session_expiry_secs: u32,
    /// How groups of shared subscriptions pick a member.
    pub shared_strategy: ShareStrategy,
    /// Groups that pick otherwise; each group once.
    pub shared: Vec<SharedGroup>,
    /// How often `$SYS` is brought up to date; 0: never.
    pub sys_interval_secs: u32,
}

/// `[[mqtt.shared]]`: the strategy of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedGroup {
    /// The group's name.
    pub group: String,
    /// Its strategy.
    pub strategy: ShareStrategy,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            max_keepalive_secs: 0,
            receive_maximum: 64,
            topic_alias_maximum: 32,
            max_packet_bytes: 1 << 20,
            max_connect_bytes: 64 << 10,
            max_topic_levels: 200,
            max_filters_per_packet: 8192,
            max_inflight: 100,
            outgoing_topic_aliases: 64,
            response_information: "reply/{client}/".to_owned(),
            max_queued_messages: 1000,
            max_queued_bytes: 8 << 20,
            queued_in_memory: 100,
            queue_full: WhenFull::default(),
            max_session_expiry_secs: 7 * 24 * 3600,
            shared_strategy: ShareStrategy::default(),
            shared: Vec::new(),
            sys_interval_secs: 10,
        }
    }
}

/// `[limits]`: what one peer may cost, whatever it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections per listener; more wait in the accept queue.
    pub max_connections_per_listener: u32,
    /// Time from accept until a session is established.
    pub login_timeout_secs: u32,
    /// Time that connections get to end after SIGTERM.
    pub drain_timeout_secs: u32,
    /// Silence of a message transport after which it is asked for a sign of life.
    pub ping_after_secs: u32,
    /// ... and after which it is given up; more than the other.
    pub dead_after_secs: u32,
    /// Whether RawSocket clients that have never shown that they know pings are sent some.
    pub rawsocket_pings: bool,
    /// How long a long-poll client is kept waiting when there is nothing for it; never more than half
    /// of `dead_after_secs`.
    pub longpoll_hold_secs: u32,
    /// Long-poll sessions at one time.
    pub max_longpoll_sessions: u32,
    /// Whether long-poll answers without content are 204 instead of 202.
    pub longpoll_no_content: bool,
    /// Realms that exist at one time, configured ones included.
    pub max_realms: u32,
    /// Outgoing frames that wait for one slow connection.
    pub max_outbox_frames: u32,
    /// Outgoing bytes that wait for one slow connection.
    pub max_outbox_bytes: u64,
    /// Largest WAMP message accepted, on WebSocket and RawSocket.
    pub max_wamp_message_bytes: u32,
    /// Subscriptions of one session.
    pub max_subscriptions_per_session: u32,
    /// Registrations of one session.
    pub max_registrations_per_session: u32,
    /// Calls of one session that have no answer yet.
    pub max_pending_calls_per_session: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections_per_listener: 10_000,
            login_timeout_secs: 10,
            drain_timeout_secs: 10,
            ping_after_secs: 30,
            dead_after_secs: 60,
            rawsocket_pings: false,
            longpoll_hold_secs: 10,
            max_longpoll_sessions: 1000,
            longpoll_no_content: false,
            max_realms: 1000,
            max_outbox_frames: 16_384,
            max_outbox_bytes: 8 << 20,
            max_wamp_message_bytes: 1 << 20,
            max_subscriptions_per_session: 1000,
            max_registrations_per_session: 1000,
            max_pending_calls_per_session: 10_000,
        }
    }
}

/// `[log]`: how the log, always on stderr, is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// For eyes or for machines.
    pub format: LogFormat,
    /// The least severe line that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// The least severe log line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Failures of the server.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also the life of the server.
    #[default]
    Info,
    /// Also the life of connections and sessions.
    Debug,
    /// Everything.
    Trace,
}

/// A setting that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every word with its meaning, in the order in which they are shown.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

impl Choice for ListenerKind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("universal", Self::Universal), ("mqtt", Self::Mqtt)];
}

impl Choice for EngineKind {
    const WORDS: &'static [(&'static str, Self)] = &[("sled", Self::Sled), ("redb", Self::Redb)];
}

impl Choice for WhenFull {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("drop-oldest", Self::DropOldest),
        ("refuse", Self::RefusePublisher),
        ("disconnect", Self::Disconnect),
    ];
}

impl Choice for ShareStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
        ("sticky", Self::Sticky),
        ("least-loaded", Self::LeastLoaded),
    ];
}

impl Choice for Disclosure {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("allow", Self::Allow),
        ("deny", Self::Deny),
        ("always", Self::Always),
    ];
}

impl Choice for UriGrammar {
    const WORDS: &'static [(&'static str, Self)] =
        &[("loose", Self::Loose), ("strict", Self::Strict)];
}

impl Choice for RequestIds {
    const WORDS: &'static [(&'static str, Self)] =
        &[("lenient", Self::Lenient), ("strict", Self::Strict)];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("pretty", Self::Pretty), ("json", Self::Json)];
}

impl Choice for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}
