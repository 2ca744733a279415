//! What a good file becomes, what it is warned of, and when an address counts as exposed.

use super::{FakeSources, good, read};
use crate::config::{
    Address, Anonymous, Bridge, BridgeVersion, Config, DataStore, HistoryTopic, Limits, Listener,
    ListenerKind, ListenerLimits, Log, LogFormat, LogLevel, Mqtt, Realm, Remembered, RequestIds,
    Role, Rule, Secret, SharedGroup, UriGrammar, User,
};
use router_core::auth::Disclosure;
use router_core::broker::ShareStrategy;
use router_core::limits::WhenFull;
use std::time::Duration;
use storage::{Durability, EngineKind};

const HASH: &str =
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

/// Every key, none at its default.
const FULL: &str = r##"
memory = true
default_realm = "shop"
auto_realms = false
insecure = true
worker_threads = 3
storage_engine = "redb"
bridge_id = "plant-7"

[[listener]]
bind = "[::1]:7000"
[[listener]]
kind = "mqtt"
bind = "localhost:7001"
max_connections = 21
login_timeout_secs = 22
max_keepalive_secs = 23
receive_maximum = 24
topic_alias_maximum = 25
max_packet_bytes = 2600
[[listener]]
bind = "unix:run/r.sock"
mode = "0660"

[[realm]]
name = "shop"
disclose = "deny"
uri = "strict"
request_ids = "strict"
durability = "interval(250)"
[[realm.user]]
authid = "joe"
role = "user"
secret = "joe-secret"
[[realm.user]]
authid = "ann"
role = "user"
secret_file = "secrets/ann"
[[realm.user]]
authid = "device-7"
role = "device"
secret_argon2 = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
[[realm.role]]
name = "user"
allow = ["publish app.*.x.#", "call #"]
deny = ["subscribe test/+/#"]
disclose = "always"
[[realm.history]]
topic = "app.log.#"
limit = 42
[[realm.history]]
topic = "app/+"
[realm.trace]
keep = 7
max_age_secs = 86400
max_bytes = 1048576
durable = false
[realm.anonymous]
role = "guest"

[[bridge]]
name = "cloud"
address = "broker.example.org:1884"
realm = "shop"
role = "link"
client_id = "plant-7-cloud"
username = "plant"
password = "plant-secret"
version = "3.1.1"
keep_alive_secs = 37
clean_start = true
session_expiry_secs = 38
max_inflight = 39
reconnect_min_ms = 40
reconnect_max_ms = 41
sync_retained = false
notifications = false
notification_topic = "plants/7/state"
[[bridge.rule]]
direction = "in"
filter = "commands/#"
qos = 2
local_prefix = "here/"
remote_prefix = "there/"

[mqtt]
max_keepalive_secs = 1
receive_maximum = 2
topic_alias_maximum = 3
max_packet_bytes = 100
max_connect_bytes = 101
max_topic_levels = 31
max_filters_per_packet = 32
max_inflight = 33
outgoing_topic_aliases = 34
response_information = "answers/{client}"
max_queued_messages = 5
max_queued_bytes = 6_000
queued_in_memory = 35
queue_full = "refuse"
max_session_expiry_secs = 0xffff_ffff
shared_strategy = "sticky"
sys_interval_secs = 36
[[mqtt.shared]]
group = "jobs"
strategy = "least-loaded"

[limits]
max_connections_per_listener = 11
login_timeout_secs = 12
drain_timeout_secs = 13
ping_after_secs = 41
dead_after_secs = 42
rawsocket_pings = true
longpoll_hold_secs = 40
max_longpoll_sessions = 43
longpoll_no_content = true
max_realms = 14
max_outbox_frames = 15
max_outbox_bytes = 16000
max_wamp_message_bytes = 1700
max_subscriptions_per_session = 18
max_registrations_per_session = 19
max_pending_calls_per_session = 20

[log]
format = "json"
level = "trace"
"##;

fn full() -> Config {
    let user = |authid: &str, role: &str, secret| User {
        authid: authid.to_owned(),
        role: role.to_owned(),
        secret,
    };
    let rules = |texts: &[&str]| -> Vec<Rule> {
        texts
            .iter()
            .filter_map(|text| Rule::parse(text).ok())
            .collect()
    };
    let listener = |kind, bind: &str, limits| Listener {
        kind,
        bind: Address::Tcp(bind.parse().expect("an address")),
        mode: Listener::MODE,
        limits,
    };
    let limits = ListenerLimits {
        max_connections: Some(21),
        login_timeout_secs: Some(22),
        max_keepalive_secs: Some(23),
        receive_maximum: Some(24),
        topic_alias_maximum: Some(25),
        max_packet_bytes: Some(2600),
    };
    Config {
        data: DataStore::Memory,
        storage_engine: EngineKind::Redb,
        default_realm: "shop".to_owned(),
        auto_realms: false,
        insecure: true,
        worker_threads: Some(3),
        listeners: vec![
            listener(
                ListenerKind::Universal,
                "[::1]:7000",
                ListenerLimits::default(),
            ),
            listener(ListenerKind::Mqtt, "127.0.0.1:7001", limits),
            Listener {
                mode: 0o660,
                ..Listener::new(ListenerKind::Universal, Address::Unix("run/r.sock".into()))
            },
        ],
        realms: vec![Realm {
            name: "shop".to_owned(),
            users: vec![
                user("joe", "user", Secret::Plain("joe-secret".to_owned())),
                user("ann", "user", Secret::Plain("ann-secret".to_owned())),
                user("device-7", "device", Secret::Argon2(HASH.to_owned())),
            ],
            roles: vec![Role {
                name: "user".to_owned(),
                allow: rules(&["publish app.*.x.#", "call #"]),
                deny: rules(&["subscribe test/+/#"]),
                disclose: Some(Disclosure::Always),
            }],
            anonymous: Some(Anonymous {
                role: "guest".to_owned(),
            }),
            disclose: Disclosure::Deny,
            uri: UriGrammar::Strict,
            request_ids: RequestIds::Strict,
            history: [("app.log.#", 42), ("app/+", 1_000)]
                .map(|(topic, keep)| HistoryTopic {
                    topic: topic.to_owned(),
                    kept: Remembered {
                        keep,
                        ..Remembered::OF_TOPIC
                    },
                })
                .into(),
            durability: Durability::Interval(Duration::from_millis(250)),
            trace: Remembered {
                keep: 7,
                max_age_secs: 86_400,
                max_bytes: 1 << 20,
                durable: false,
            },
        }],
        bridge_id: Some("plant-7".to_owned()),
        bridges: vec![Bridge {
            name: "cloud".to_owned(),
            address: "broker.example.org:1884".to_owned(),
            realm: Some("shop".to_owned()),
            role: "link".to_owned(),
            client_id: Some("plant-7-cloud".to_owned()),
            username: Some("plant".to_owned()),
            password: Some(Secret::Plain("plant-secret".to_owned())),
            version: BridgeVersion::V3_1_1,
            keep_alive_secs: 37,
            clean_start: true,
            session_expiry_secs: 38,
            max_inflight: 39,
            reconnect_min_ms: 40,
            reconnect_max_ms: 41,
            sync_retained: false,
            notifications: false,
            notification_topic: Some("plants/7/state".to_owned()),
            rules: vec![protocols::mqtt::bridge::Rule {
                direction: protocols::mqtt::bridge::Direction::In,
                filter: "commands/#".to_owned(),
                qos: protocols::mqtt::packet::QoS::ExactlyOnce,
                local_prefix: "here/".to_owned(),
                remote_prefix: "there/".to_owned(),
            }],
        }],
        mqtt: Mqtt {
            max_keepalive_secs: 1,
            receive_maximum: 2,
            topic_alias_maximum: 3,
            max_packet_bytes: 100,
            max_connect_bytes: 101,
            max_topic_levels: 31,
            max_filters_per_packet: 32,
            max_inflight: 33,
            outgoing_topic_aliases: 34,
            response_information: "answers/{client}".to_owned(),
            max_queued_messages: 5,
            max_queued_bytes: 6000,
            queued_in_memory: 35,
            queue_full: WhenFull::RefusePublisher,
            max_session_expiry_secs: u32::MAX,
            shared_strategy: ShareStrategy::Sticky,
            shared: vec![SharedGroup {
                group: "jobs".to_owned(),
                strategy: ShareStrategy::LeastLoaded,
            }],
            sys_interval_secs: 36,
        },
        limits: Limits {
            max_connections_per_listener: 11,
            login_timeout_secs: 12,
            drain_timeout_secs: 13,
            ping_after_secs: 41,
            dead_after_secs: 42,
            rawsocket_pings: true,
            longpoll_hold_secs: 40,
            max_longpoll_sessions: 43,
            longpoll_no_content: true,
            max_realms: 14,
            max_outbox_frames: 15,
            max_outbox_bytes: 16_000,
            max_wamp_message_bytes: 1700,
            max_subscriptions_per_session: 18,
            max_registrations_per_session: 19,
            max_pending_calls_per_session: 20,
        },
        log: Log {
            format: LogFormat::Json,
            level: LogLevel::Trace,
        },
    }
}

fn full_sources() -> FakeSources {
    FakeSources::default().file("secrets/ann", "ann-secret\n")
}

#[test]
fn every_key_arrives_in_its_field() {
    let (config, warnings) = read(FULL, &full_sources()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, full());
    assert_eq!(warnings, []);
}

#[test]
fn debug_shows_no_secret() {
    let text = format!("{:?} {:#?}", full(), full());
    for secret in ["joe-secret", "ann-secret", "argon2id", "CTFhFd"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("device-7"), "the rest is shown");
}

#[test]
fn anonymous_sessions_are_refused_once_users_exist() {
    let user = "[[realm.user]]\nauthid = \"joe\"\nrole = \"r\"\nsecret = \"s\"\n";
    let realm = |below: &str| {
        let config = good(&format!("[[realm]]\nname = \"a\"\n{below}"));
        config
            .realms
            .first()
            .and_then(Realm::anonymous_role)
            .map(str::to_owned)
    };
    assert_eq!(realm(""), Some("anonymous".to_owned()));
    assert_eq!(realm(user), None);
    assert_eq!(
        realm(&format!("{user}[realm.anonymous]\n")),
        Some("anonymous".to_owned())
    );
    assert_eq!(
        realm("[realm.anonymous]\nrole = \"guest\"\n"),
        Some("guest".to_owned())
    );
}

#[test]
fn names_are_unique_within_their_realm_only() {
    let one = "[[realm.user]]\nauthid = \"joe\"\nrole = \"r\"\nsecret = \"s\"\n";
    let config = good(&format!(
        "[[realm]]\nname = \"a\"\n{one}[[realm]]\nname = \"b\"\n{one}"
    ));
    assert!(
        config
            .realms
            .iter()
            .all(|realm| realm.user("joe").is_some())
    );
    assert_eq!(config.realm("b").and_then(|realm| realm.role("r")), None);
}

#[test]
fn secret_files_start_at_the_directory_of_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("joe.secret"), "joe-secret\n").expect("written");
    let text = "[[realm]]\nname = \"a\"\n[[realm.user]]\nauthid = \"joe\"\nrole = \"r\"\n\
                secret_file = \"joe.secret\"\n";
    let config = Config::from_toml(&directory.path().join("r.toml"), text);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let secret = config
        .realm("a")
        .and_then(|realm| realm.user("joe"))
        .map(|user| user.secret.clone());
    assert_eq!(secret, Some(Secret::Plain("joe-secret".to_owned())));
}

#[test]
fn a_role_that_may_do_nothing_is_pointed_out() {
    let role = "[[realm]]\nname = \"a\"\n[[realm.role]]\nname = \"r\"\n";
    let warnings = |rules: &str| {
        let read = read(&format!("{role}{rules}"), &FakeSources::default());
        read.map(|(_, warnings)| warnings)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let [warning] = &warnings("deny = [\"publish #\"]\n")[..] else {
        panic!("one warning")
    };
    assert!(
        warning
            .to_string()
            .starts_with("r.toml:3:1: role `r` has no `allow`"),
        "{warning}"
    );
    assert_eq!(warnings("allow = []\n"), []);
}

const SAFE: &str = "auto_realms = false\n[[realm]]\nname = \"realm1\"\n[[realm.user]]\n\
                    authid = \"joe\"\nrole = \"r\"\nsecret = \"s\"\n";

fn exposed_at(bind: &str, rest: &str) -> Result<usize, usize> {
    let text = format!("{rest}[[listener]]\nbind = \"{bind}\"\n");
    match read(&text, &FakeSources::default()) {
        Ok((_, warnings)) => Ok(warnings.len()),
        Err(error) => Err(error.problems.len()),
    }
}

#[test]
fn other_machines_need_credentials_for_every_realm() {
    for bind in [
        "0.0.0.0:9000",
        "[::]:9000",
        "192.168.1.1:0",
        "[::ffff:10.0.0.1]:9000",
    ] {
        assert_eq!(exposed_at(bind, ""), Err(1), "{bind}");
        assert_eq!(exposed_at(bind, SAFE), Ok(0), "{bind}");
        assert_eq!(
            exposed_at(bind, "insecure = true\n"),
            Ok(1),
            "{bind}: allowed, with a warning"
        );
        let open = format!("{SAFE}[realm.anonymous]\n");
        assert_eq!(exposed_at(bind, &open), Err(1), "{bind}");
        let second = format!("{SAFE}[[realm]]\nname = \"open\"\n");
        assert_eq!(exposed_at(bind, &second), Err(1), "{bind}");
        let auto = SAFE.replace("auto_realms = false\n", "");
        assert_eq!(exposed_at(bind, &auto), Err(1), "{bind}");
    }
    for bind in [
        "127.0.0.1:9000",
        "127.9.9.9:9000",
        "[::1]:9000",
        "[::ffff:127.0.0.1]:9000",
        "unix:/run/reynard.sock",
    ] {
        assert_eq!(exposed_at(bind, ""), Ok(0), "{bind}");
    }
    assert!(good(SAFE).requires_credentials());
    assert!(!Config::default().requires_credentials());
}

#[test]
fn a_durability_is_spelled_in_one_of_three_ways() {
    let read_as = |word: &str| {
        let text = format!("[[realm]]\nname = \"realm1\"\ndurability = \"{word}\"\n");
        read(&text, &FakeSources::default())
    };
    let ms = |ms| Durability::Interval(Duration::from_millis(ms));
    for (word, durability) in [
        ("always", Durability::Always),
        ("none", Durability::None),
        ("interval(1)", ms(1)),
        ("interval(60000)", ms(60_000)),
    ] {
        let (config, _) = read_as(word).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.realms[0].durability, durability, "{word}");
    }
    for word in [
        "",
        "Always",
        "interval",
        "interval()",
        "interval(0)",
        "interval(60001)",
        "interval(-1)",
        "interval(200ms)",
        "interval(200",
        " none",
    ] {
        let text = read_as(word).expect_err(word).to_string();
        assert!(text.contains("possible"), "{word}: {text}");
    }
}
