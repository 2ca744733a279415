//! Every configuration key with its kind, default, meaning, variable and flag: one table from which
//! the reader takes the ranges, the messages take the known keys, and `docs/config.md` takes its
//! tables.

/// The kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number between two bounds, both included.
    Number {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A list of texts.
    Texts,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in; empty at the top.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default as it would be written, or a word in parentheses.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// The environment variable that overrides it.
    pub variable: Option<&'static str>,
    /// The flag that overrides both.
    pub flag: Option<&'static str>,
}

/// One table.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its path, with dots.
    pub path: &'static str,
    /// Whether it may be repeated: `[[path]]`.
    pub is_list: bool,
    /// What it describes.
    pub meaning: &'static str,
}

impl Section {
    /// The table's header as written in a file.
    #[must_use]
    pub fn header(&self) -> String {
        if self.is_list {
            format!("[[{}]]", self.path)
        } else {
            format!("[{}]", self.path)
        }
    }

    /// The path of the table around it, and its own name there.
    #[must_use]
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// Every table.
#[rustfmt::skip] // One table per line.
pub const SECTIONS: &[Section] = &[
    section("listener", true, "An address to listen on. Any `[[listener]]` replaces both default ones."),
    section("realm", true, "A realm. Without `[[realm]]` every realm is open, made on first use."),
    section("realm.user", true, "A user: WAMP ticket, MQTT user name and password. Exactly one of the three secrets."),
    section("realm.role", true, "What a role may do: deny wins, then allow, else refused. A role without a table may do everything."),
    section("realm.history", true, "Topics whose events the realm remembers for `wamp.subscription.get_events` and `after`; see `docs/history.md`. Without it only events published with `trace` are."),
    section("realm.trace", false, "How much the realm remembers of what is published with `trace` and fits no `[[realm.history]]`."),
    section("realm.anonymous", false, "Accepts sessions without credentials. Leave out to refuse them once users exist."),
    section("bridge", true, "A connection to another MQTT broker; see `docs/bridge.md`."),
    section("bridge.rule", true, "What crosses the bridge. Topics are `local_prefix` + T on this side and `remote_prefix` + T at the peer, for every T that `filter` matches."),
    section("mqtt", false, "Limits and features of MQTT."),
    section("mqtt.shared", true, "How one group of shared subscriptions picks the member that gets a message."),
    section("limits", false, "What one peer may cost, whatever it speaks."),
    section("log", false, "How the log, always on stderr, is written."),
];

const ANY_U16: Kind = Kind::Number {
    min: 0,
    max: 65_535,
};
const COUNT: Kind = Kind::Number {
    min: 1,
    max: 10_000_000,
};
const SECS: Kind = Kind::Number {
    min: 1,
    max: 86_400,
};
/// A bound of bytes for a queue: from what one message needs up to a tebibyte.
const QUEUE_BYTES: Kind = Kind::Number {
    min: 1024,
    max: 1 << 40,
};
/// Events of one log.
const KEPT: Kind = Kind::Number {
    min: 1,
    max: 1_000_000,
};
/// How old they may become, up to a century.
const AGE: Kind = Kind::Number {
    min: 0,
    max: 3_155_760_000,
};
/// The largest MQTT packet: 5 bytes of fixed header and the greatest Remaining Length
/// (section 2.1.4).
const PACKET_BYTES: Kind = Kind::Number {
    min: 64,
    max: 268_435_460,
};
/// What a RawSocket handshake can announce: 2^9 to 2^24 (WAMP section "RawSocket Transport").
const WAMP_BYTES: Kind = Kind::Number {
    min: 512,
    max: 1 << 24,
};

/// Every key, in the order of the documentation.
#[rustfmt::skip] // One key per line.
pub const KEYS: &[Key] = &[
    key("", "data_dir", Kind::Text, "\"./reynard-data\"", "Directory of retained values and sessions; relative to the working directory.")
        .over("REYNARD_DATA_DIR", "--data-dir"),
    key("", "memory", Kind::Switch, "false", "`true` keeps nothing on disk; not together with `data_dir`.")
        .over("REYNARD_MEMORY", "--memory"),
    key("", "storage_engine", Kind::Text, "\"sled\"", "What keeps the data directory: `sled` or `redb`; see `docs/durability.md`. A directory of the other engine is refused; `reynard storage migrate` converts it."),
    key("", "default_realm", Kind::Text, "\"realm1\"", "Realm of protocols and clients that name none.")
        .over("REYNARD_REALM", "--realm"),
    key("", "auto_realms", Kind::Switch, "true", "Whether any realm that is asked for is made on first use; `false`: only the realms of this file."),
    key("", "insecure", Kind::Switch, "false", "`true` allows a non-loopback address although somebody can join without credentials.")
        .over("REYNARD_INSECURE", "--insecure"),
    key("", "worker_threads", Kind::Number { min: 1, max: 1024 }, "(one for each core)", "Threads that serve connections. With `1` everything is written in the order in which it was decided, between sessions too."),
    key("", "bridge_id", Kind::Text, "(random, kept in the data directory)", "This router's name on the way of bridged messages, so that none comes round again; different for each router."),
    key("listener", "kind", Kind::Text, "\"universal\"", "`universal`: every protocol, the first byte decides; `mqtt`: plain MQTT only."),
    key("listener", "bind", Kind::Text, "\"127.0.0.1:9000\", \"127.0.0.1:1883\"", "IP:PORT, port 0 picks a free one; or `unix:PATH`, a Unix domain socket. The variable and the flag replace the universal listeners (comma separated, repeatable); `REYNARD_MQTT` and `--mqtt ADDR\\|off` replace those of kind `mqtt`.")
        .over("REYNARD_LISTEN", "--listen"),
    key("listener", "mode", Kind::Text, "\"0600\"", "Permissions of the file of a Unix domain socket, in octal."),
    key("listener", "max_connections", COUNT, "(limits.max_connections_per_listener)", "Open connections of this listener; more wait to be accepted."),
    key("listener", "login_timeout_secs", SECS, "(limits.login_timeout_secs)", "Time from connecting until the session is established."),
    key("listener", "max_keepalive_secs", ANY_U16, "(that of [mqtt])", "As in `[mqtt]`, for the clients of this listener."),
    key("listener", "receive_maximum", Kind::Number { min: 1, max: 65_535 }, "(that of [mqtt])", "As in `[mqtt]`, for the clients of this listener."),
    key("listener", "topic_alias_maximum", ANY_U16, "(that of [mqtt])", "As in `[mqtt]`, for the clients of this listener."),
    key("listener", "max_packet_bytes", PACKET_BYTES, "(that of [mqtt])", "As in `[mqtt]`, for the clients of this listener."),
    key("realm", "name", Kind::Text, "(required)", "Its name, a URI such as `realm1` or `com.example.shop`."),
    key("realm", "disclose", Kind::Text, "\"allow\"", "Whether the receivers of events and calls learn whose they are: `allow` (WAMP clients ask for it with `disclose_me`), `deny` (asking is refused) or `always`. For roles that say nothing else."),
    key("realm", "uri", Kind::Text, "\"loose\"", "Which URIs WAMP clients may use: `loose`, anything but white space and `#`; `strict`, only `a` to `z`, `0` to `9` and `_` between the dots."),
    key("realm", "request_ids", Kind::Text, "\"lenient\"", "`strict`: the request ids of a WAMP session must be 1, 2, 3 and so on, else the session ends; `lenient`: any from 1 to 2^53."),
    key("realm", "durability", Kind::Text, "\"always\"", "What a write has gone through when it is acknowledged: `always`, the disk; `interval(MS)`, the operating system, and the disk at most MS milliseconds later (1 to 60000); `none`, the operating system, nothing is forced. See `docs/durability.md`."),
    key("realm.user", "authid", Kind::Text, "(required)", "WAMP authid, MQTT user name."),
    key("realm.user", "role", Kind::Text, "(required)", "The role its sessions get."),
    key("realm.user", "secret", Kind::Text, "(one of three)", "The secret itself."),
    key("realm.user", "secret_file", Kind::Text, "(one of three)", "A file that holds the secret as its only line; relative to the configuration file."),
    key("realm.user", "secret_argon2", Kind::Text, "(one of three)", "An Argon2 hash of the secret: `$argon2id$v=19$…`."),
    key("realm.role", "name", Kind::Text, "(required)", "Its name."),
    key("realm.role", "allow", Kind::Texts, "[]", "Rules `ACTION PATTERN`; actions: publish, subscribe, call, register; patterns: `app.*.name.#`, or with a slash `app/+/name/#`."),
    key("realm.role", "deny", Kind::Texts, "[]", "Rules that win over `allow`."),
    key("realm.role", "disclose", Kind::Text, "(that of the realm)", "As `disclose` of the realm, for the sessions of this role."),
    key("realm.history", "topic", Kind::Text, "(required)", "Which topics, a pattern as in the rules of roles. The first table that fits a topic counts."),
    key("realm.history", "keep", KEPT, "1000", "Events remembered for this table; beyond it the oldest is forgotten. The memory holds about 150 bytes and the topic of each."),
    key("realm.history", "limit", KEPT, "1000", "Former name of `keep`, which wins."),
    key("realm.history", "max_age_secs", AGE, "0", "Seconds after which an event is forgotten; 0: never for its age."),
    key("realm.history", "max_bytes", QUEUE_BYTES, "67108864", "Bytes remembered for this table; beyond it the oldest is forgotten."),
    key("realm.history", "durable", Kind::Switch, "true", "Whether they are on disk, and an acknowledged publish waits for that; `false`: in memory alone, forgotten at a restart."),
    key("realm.trace", "keep", KEPT, "10000", "As in `[[realm.history]]`."),
    key("realm.trace", "max_age_secs", AGE, "0", "As in `[[realm.history]]`."),
    key("realm.trace", "max_bytes", QUEUE_BYTES, "67108864", "As in `[[realm.history]]`."),
    key("realm.trace", "durable", Kind::Switch, "true", "As in `[[realm.history]]`."),
    key("realm.anonymous", "role", Kind::Text, "\"anonymous\"", "The role of such sessions."),
    key("bridge", "name", Kind::Text, "(required)", "Its name: letters, digits and `._-`. Its queue is kept under this name."),
    key("bridge", "address", Kind::Text, "(required)", "HOST:PORT of the peer; the host is looked up at each attempt."),
    key("bridge", "realm", Kind::Text, "(the default realm)", "The realm on this side."),
    key("bridge", "role", Kind::Text, "\"bridge\"", "What the bridge may do in the realm: the rights of this role."),
    key("bridge", "client_id", Kind::Text, "(made of `bridge_id` and the name)", "Client identifier at the peer; nobody else may use it there."),
    key("bridge", "username", Kind::Text, "(none)", "User name at the peer."),
    key("bridge", "password", Kind::Text, "(none)", "Password at the peer."),
    key("bridge", "password_file", Kind::Text, "(none)", "A file that holds the password as its only line; relative to the configuration file."),
    key("bridge", "version", Kind::Text, "\"auto\"", "`auto`: 5.0, and 3.1.1 where the peer refuses it; `5.0`; `3.1.1`."),
    key("bridge", "keep_alive_secs", ANY_U16, "60", "Keep alive; 0: off."),
    key("bridge", "clean_start", Kind::Switch, "false", "`true`: the peer keeps nothing for the bridge while it is away."),
    key("bridge", "session_expiry_secs", Kind::Number { min: 0, max: 4_294_967_295 }, "604800", "How long each side keeps messages for the other while it is away; here at most `mqtt.max_session_expiry_secs`."),
    key("bridge", "max_inflight", Kind::Number { min: 1, max: 65_535 }, "64", "Messages of QoS 1 and 2 without acknowledgement, each way; at most 20 to a 3.1.1 peer."),
    key("bridge", "reconnect_min_ms", Kind::Number { min: 10, max: 3_600_000 }, "1000", "First pause after a lost connection; it doubles with each attempt."),
    key("bridge", "reconnect_max_ms", Kind::Number { min: 10, max: 3_600_000 }, "60000", "Longest pause."),
    key("bridge", "sync_retained", Kind::Switch, "true", "Whether both sides send their retained values again at each connection."),
    key("bridge", "notifications", Kind::Switch, "true", "Whether `$SYS/broker/connection/CLIENT_ID/state` says 1 or 0 on this side."),
    key("bridge", "notification_topic", Kind::Text, "(none)", "A topic at the peer that says 1 or 0 there, 0 as the bridge's will."),
    key("bridge.rule", "direction", Kind::Text, "(required)", "`in` from the peer, `out` to the peer, or `both`."),
    key("bridge.rule", "filter", Kind::Text, "(required)", "Topic filter without the prefixes."),
    key("bridge.rule", "qos", Kind::Number { min: 0, max: 2 }, "1", "The best QoS that crosses."),
    key("bridge.rule", "local_prefix", Kind::Text, "\"\"", "What stands before the topics on this side."),
    key("bridge.rule", "remote_prefix", Kind::Text, "\"\"", "What stands before the topics at the peer."),
    key("mqtt", "max_keepalive_secs", ANY_U16, "0", "Longest keep alive; 0: no cap. A cap is announced as Server Keep Alive."),
    key("mqtt", "receive_maximum", Kind::Number { min: 1, max: 65_535 }, "64", "Messages of QoS 1 and 2 that a client may have unacknowledged."),
    key("mqtt", "topic_alias_maximum", ANY_U16, "32", "Topic aliases of one connection; 0 refuses them."),
    key("mqtt", "max_packet_bytes", PACKET_BYTES, "1048576", "Largest packet accepted."),
    key("mqtt", "max_connect_bytes", PACKET_BYTES, "65536", "Largest packet accepted before the client is let in, if that is less than `max_packet_bytes`."),
    key("mqtt", "max_topic_levels", Kind::Number { min: 1, max: 65_535 }, "200", "Levels of a Topic Name or Topic Filter."),
    key("mqtt", "max_filters_per_packet", Kind::Number { min: 1, max: 65_535 }, "8192", "Topic Filters of one SUBSCRIBE or UNSUBSCRIBE."),
    key("mqtt", "max_inflight", Kind::Number { min: 1, max: 32_767 }, "100", "Messages of QoS 1 and 2 sent to a client and not acknowledged, if its Receive Maximum is not less."),
    key("mqtt", "outgoing_topic_aliases", ANY_U16, "64", "Topic aliases used towards a client, if its Topic Alias Maximum is not less; 0 uses none."),
    key("mqtt", "response_information", Kind::Text, "\"reply/{client}/\"", "Prefix of topics for answers, told to clients that ask for Response Information; `{client}` stands for the Client Identifier. Empty: none. It gives no rights."),
    key("mqtt", "max_queued_messages", COUNT, "1000", "Messages of QoS 1 and 2 that wait for one session besides those in flight, never more than 65535 with these. A connected client that acknowledges may fall behind as far as `max_outbox_frames`."),
    key("mqtt", "max_queued_bytes", QUEUE_BYTES, "8388608", "Bytes of these messages."),
    key("mqtt", "queued_in_memory", COUNT, "100", "Of the messages kept for a session without connection, those that stay in memory too; the others are on disk alone, if there is one."),
    key("mqtt", "queue_full", Kind::Text, "\"drop-oldest\"", "What a full queue does: `drop-oldest` (counted, and 5.0 clients are told), `refuse` the publisher, or `disconnect` the receiver and end its session."),
    key("mqtt", "max_session_expiry_secs", Kind::Number { min: 0, max: 4_294_967_295 }, "604800", "Longest life of an offline session, persistent 3.x ones included; 4294967295: forever."),
    key("mqtt", "shared_strategy", Kind::Text, "\"round-robin\"", "Which member of a group of shared subscriptions gets a message: `round-robin`, `random`, `sticky` (one, as long as it can) or `least-loaded`."),
    key("mqtt", "sys_interval_secs", Kind::Number { min: 0, max: 86_400 }, "10", "How often `$SYS/broker/…` is brought up to date; 0 switches it off."),
    key("mqtt.shared", "group", Kind::Text, "(required)", "The group: the `g` of `$share/g/…`."),
    key("mqtt.shared", "strategy", Kind::Text, "(required)", "As `shared_strategy`."),
    key("limits", "max_connections_per_listener", COUNT, "10000", "Open connections per listener; more wait to be accepted."),
    key("limits", "login_timeout_secs", SECS, "10", "Time from connecting until the session is established."),
    key("limits", "drain_timeout_secs", SECS, "10", "Time that connections get to end after SIGTERM."),
    key("limits", "ping_after_secs", Kind::Number { min: 1, max: 3600 }, "30", "Silence of a client over WebSocket or RawSocket after which it is sent a ping."),
    key("limits", "dead_after_secs", Kind::Number { min: 2, max: 86_400 }, "60", "... and after which it is given up, more than `ping_after_secs`: its session is lost, with its subscriptions and registrations."),
    key("limits", "rawsocket_pings", Kind::Switch, "false", "`true` sends pings to every silent RawSocket client; `false`: only to those that have sent a PING or PONG. autobahn-python fails at one."),
    key("limits", "longpoll_hold_secs", Kind::Number { min: 1, max: 3600 }, "10", "How long a long-poll client is kept waiting when there is nothing for it; never more than half of `dead_after_secs`."),
    key("limits", "max_longpoll_sessions", COUNT, "1000", "Long-poll sessions at one time; more are answered with 503."),
    key("limits", "longpoll_no_content", Kind::Switch, "false", "Status of long-poll answers without content: `false` 202, as the specification says; `true` 204, which autobahn-js wants."),
    key("limits", "max_realms", COUNT, "1000", "Realms that exist at one time, those of this file included."),
    key("limits", "max_outbox_frames", COUNT, "16384", "Outgoing frames that wait for one slow connection, without what `max_queued_messages` bounds."),
    key("limits", "max_outbox_bytes", QUEUE_BYTES, "8388608", "Outgoing bytes that wait for one slow connection; at least one largest message."),
    key("limits", "max_wamp_message_bytes", WAMP_BYTES, "1048576", "Largest WAMP message accepted; RawSocket announces the greatest power of two in it."),
    key("limits", "max_subscriptions_per_session", COUNT, "1000", "Subscriptions of one session."),
    key("limits", "max_registrations_per_session", COUNT, "1000", "Registrations of one session."),
    key("limits", "max_pending_calls_per_session", COUNT, "10000", "Calls of one session without an answer yet."),
    key("log", "format", Kind::Text, "\"pretty\"", "`pretty` for eyes, `json` for machines.")
        .over("REYNARD_LOG_FORMAT", "--log-format"),
    key("log", "level", Kind::Text, "\"info\"", "The least severe line: `off`, `error`, `warn`, `info`, `debug` or `trace`.")
        .over("REYNARD_LOG_LEVEL", "--log-level"),
];

/// Every environment variable that is read.
pub const VARIABLES: &[&str] = &[
    "REYNARD_CONFIG",
    "REYNARD_LISTEN",
    "REYNARD_MQTT",
    "REYNARD_DATA_DIR",
    "REYNARD_MEMORY",
    "REYNARD_REALM",
    "REYNARD_INSECURE",
    "REYNARD_LOG_FORMAT",
    "REYNARD_LOG_LEVEL",
];

const fn section(path: &'static str, is_list: bool, meaning: &'static str) -> Section {
    Section {
        path,
        is_list,
        meaning,
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        section,
        name,
        kind,
        default,
        meaning,
        variable: None,
        flag: None,
    }
}

impl Key {
    const fn over(mut self, variable: &'static str, flag: &'static str) -> Self {
        self.variable = Some(variable);
        self.flag = Some(flag);
        self
    }
}

/// The keys of one table.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> + '_ {
    KEYS.iter().filter(move |key| key.section == section)
}

/// What may stand in one table: its keys and the tables below it.
pub(super) fn names_in(section: &str) -> impl Iterator<Item = &'static str> + '_ {
    let tables = SECTIONS.iter().map(Section::split);
    let tables = tables.filter(move |(parent, _)| *parent == section);
    keys_of(section)
        .map(|key| key.name)
        .chain(tables.map(|(_, name)| name))
}

/// Where something stands: `in [table]`, or `at the top level`.
pub(super) fn within(section: &str) -> String {
    let found = SECTIONS.iter().find(|known| known.path == section);
    found.map_or_else(
        || "at the top level".to_owned(),
        |known| format!("in {}", known.header()),
    )
}

/// The bounds of a number.
pub(super) fn bounds(section: &str, name: &str) -> (u64, u64) {
    match keys_of(section)
        .find(|key| key.name == name)
        .map(|key| key.kind)
    {
        Some(Kind::Number { min, max }) => (min, max),
        _ => (0, u64::MAX),
    }
}
