//! Which layer wins, and how the layers are read.

use std::path::{Path, PathBuf};

use crate::config::{
    ConfigError, DataStore, FakeSources, Flags, ListenerKind, Loaded, Location, LogFormat,
    LogLevel, load,
};

fn sources(file: &str, variables: &[(&str, &str)]) -> FakeSources {
    let sources = FakeSources::default().file("reynard.toml", file);
    variables.iter().fold(sources, |sources, (name, value)| {
        sources.variable(name, *value)
    })
}

fn loaded(flags: &Flags, file: &str, variables: &[(&str, &str)]) -> Loaded {
    load(flags, &sources(file, variables)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(flags: &Flags, file: &str, variables: &[(&str, &str)]) -> ConfigError {
    load(flags, &sources(file, variables)).expect_err("refused")
}

fn addresses(loaded: &Loaded, kind: ListenerKind) -> Vec<String> {
    loaded
        .config
        .addresses(kind)
        .map(|address| address.to_string())
        .collect()
}

const FILE: &str = "
data_dir = \"/file\"
default_realm = \"file\"
insecure = true
[[listener]]
bind = \"127.0.0.1:1\"
[[listener]]
bind = \"127.0.0.1:2\"
[[listener]]
kind = \"mqtt\"
bind = \"127.0.0.1:3\"
[log]
format = \"json\"
level = \"error\"
";

const VARIABLES: &[(&str, &str)] = &[
    ("REYNARD_LISTEN", "127.0.0.1:11, [::1]:12"),
    ("REYNARD_MQTT", "127.0.0.1:13"),
    ("REYNARD_DATA_DIR", "/variable"),
    ("REYNARD_REALM", "variable"),
    ("REYNARD_INSECURE", "false"),
    ("REYNARD_LOG_FORMAT", "pretty"),
    ("REYNARD_LOG_LEVEL", "warn"),
];

fn flags() -> Flags {
    Flags {
        listen: vec!["127.0.0.1:21".to_owned(), "127.0.0.1:22".to_owned()],
        mqtt: Some("127.0.0.1:23".to_owned()),
        data_dir: Some(PathBuf::from("/flag")),
        realm: Some("flag".to_owned()),
        insecure: true,
        log_format: Some("json".to_owned()),
        log_level: Some("trace".to_owned()),
        ..Flags::default()
    }
}

/// Everything that a layer can say, for one comparison.
fn facts(
    loaded: &Loaded,
) -> (
    Vec<String>,
    Vec<String>,
    String,
    String,
    bool,
    LogFormat,
    LogLevel,
) {
    let config = &loaded.config;
    (
        addresses(loaded, ListenerKind::Universal),
        addresses(loaded, ListenerKind::Mqtt),
        config.data.to_string(),
        config.default_realm.clone(),
        config.insecure,
        config.log.format,
        config.log.level,
    )
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn the_file_wins_over_the_defaults() {
    assert_eq!(
        facts(&loaded(&Flags::default(), FILE, &[])),
        (
            owned(&["127.0.0.1:1", "127.0.0.1:2"]),
            owned(&["127.0.0.1:3"]),
            "/file".to_owned(),
            "file".to_owned(),
            true,
            LogFormat::Json,
            LogLevel::Error
        )
    );
}

#[test]
fn variables_win_over_the_file() {
    assert_eq!(
        facts(&loaded(&Flags::default(), FILE, VARIABLES)),
        (
            owned(&["127.0.0.1:11", "[::1]:12"]),
            owned(&["127.0.0.1:13"]),
            "/variable".to_owned(),
            "variable".to_owned(),
            false,
            LogFormat::Pretty,
            LogLevel::Warn
        )
    );
}

#[test]
fn flags_win_over_variables() {
    assert_eq!(
        facts(&loaded(&flags(), FILE, VARIABLES)),
        (
            owned(&["127.0.0.1:21", "127.0.0.1:22"]),
            owned(&["127.0.0.1:23"]),
            "/flag".to_owned(),
            "flag".to_owned(),
            true,
            LogFormat::Json,
            LogLevel::Trace
        )
    );
}

#[test]
fn each_kind_of_listener_is_replaced_alone() {
    let listen = Flags {
        listen: owned(&["127.0.0.1:21"]),
        ..Flags::default()
    };
    let got = loaded(&listen, FILE, &[]);
    assert_eq!(addresses(&got, ListenerKind::Universal), ["127.0.0.1:21"]);
    assert_eq!(addresses(&got, ListenerKind::Mqtt), ["127.0.0.1:3"]);
    let off = Flags {
        mqtt: Some("off".to_owned()),
        ..Flags::default()
    };
    let got = loaded(&off, FILE, &[]);
    assert_eq!(
        addresses(&got, ListenerKind::Universal),
        ["127.0.0.1:1", "127.0.0.1:2"]
    );
    assert_eq!(addresses(&got, ListenerKind::Mqtt), [] as [&str; 0]);
    let got = loaded(
        &Flags::default(),
        "[[listener]]\nbind = \"127.0.0.1:1\"\n",
        &[],
    );
    assert_eq!(
        addresses(&got, ListenerKind::Mqtt),
        [] as [&str; 0],
        "the file's list is complete"
    );
    let got = loaded(&Flags::default(), FILE, &[("REYNARD_MQTT", "off")]);
    assert_eq!(addresses(&got, ListenerKind::Mqtt), [] as [&str; 0]);
}

#[test]
fn a_higher_layer_decides_between_disk_and_memory() {
    let memory = Flags {
        memory: true,
        ..Flags::default()
    };
    let directory = Flags {
        data_dir: Some(PathBuf::from("/flag")),
        ..Flags::default()
    };
    let none = Flags::default();
    let disk = |path: &str| DataStore::Directory(PathBuf::from(path));
    for (flags, file, variables, wanted) in [
        (&memory, FILE, &[][..], DataStore::Memory),
        (
            &memory,
            "",
            &[("REYNARD_DATA_DIR", "/variable")],
            DataStore::Memory,
        ),
        (&directory, "memory = true", &[], disk("/flag")),
        (&directory, "", &[("REYNARD_MEMORY", "yes")], disk("/flag")),
        (&none, FILE, &[("REYNARD_MEMORY", "1")], DataStore::Memory),
        (
            &none,
            "memory = true",
            &[("REYNARD_MEMORY", "off")],
            disk("./reynard-data"),
        ),
        (
            &none,
            "memory = true",
            &[("REYNARD_DATA_DIR", "/variable")],
            disk("/variable"),
        ),
        (
            &none,
            "memory = false\ndata_dir = \"/file\"",
            &[],
            disk("/file"),
        ),
    ] {
        assert_eq!(
            loaded(flags, file, variables).config.data,
            wanted,
            "{flags:?} {file} {variables:?}"
        );
    }
    let both = refused(
        &none,
        "",
        &[("REYNARD_MEMORY", "1"), ("REYNARD_DATA_DIR", "/variable")],
    );
    let text = both.to_string();
    assert!(
        text.starts_with("environment variable REYNARD_MEMORY: a data directory and memory"),
        "{text}"
    );
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_name() {
    let sources = || {
        let sources = sources("default_realm = \"found\"", &[("REYNARD_CONFIG", "v.toml")]);
        sources
            .file("v.toml", "default_realm = \"variable\"")
            .file("f.toml", "default_realm = \"flag\"")
    };
    let flag = Flags {
        config: Some(PathBuf::from("f.toml")),
        ..Flags::default()
    };
    let by_flag = load(&flag, &sources()).expect("read");
    assert_eq!(by_flag.config.default_realm, "flag");
    assert_eq!(by_flag.file.as_deref(), Some(Path::new("f.toml")));
    let by_variable = load(&Flags::default(), &sources()).expect("read");
    assert_eq!(by_variable.config.default_realm, "variable");
    let by_name = load(&Flags::default(), &sources().variable("REYNARD_CONFIG", "")).expect("read");
    assert_eq!(by_name.config.default_realm, "found");
    let without = load(&Flags::default(), &FakeSources::default()).expect("defaults");
    assert_eq!(without.file, None);
}

#[test]
fn a_named_file_must_be_readable() {
    let sources = FakeSources::default().variable("REYNARD_CONFIG", "nowhere.toml");
    let error = load(&Flags::default(), &sources).expect_err("refused");
    let location = error
        .problems
        .first()
        .map(|problem| problem.location.clone());
    assert_eq!(
        location,
        Some(Location::File(PathBuf::from("nowhere.toml")))
    );
    let huge = FakeSources::default().file("reynard.toml", vec![b'#'; (4 << 20) + 1]);
    let error = load(&Flags::default(), &huge)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
    let binary = FakeSources::default().file("reynard.toml", b"memory = true\n# \xff\n".to_vec());
    let error = load(&Flags::default(), &binary)
        .expect_err("refused")
        .to_string();
    assert!(
        error.starts_with("reynard.toml:2:3: the file is not UTF-8\n"),
        "{error}"
    );
}

#[test]
fn bad_variables_are_named_and_reported_together() {
    for (name, value, part) in [
        (
            "REYNARD_LISTEN",
            "127.0.0.1:1,9000",
            "`9000` is not an address",
        ),
        ("REYNARD_MQTT", "no", "`no` is not an address"),
        ("REYNARD_MEMORY", "maybe", "`maybe` is neither yes nor no"),
        ("REYNARD_INSECURE", "2", "`2` is neither yes nor no"),
        ("REYNARD_REALM", "a b", "`a b` is not a realm name"),
        ("REYNARD_LOG_FORMAT", "xml", "`xml` is not known here"),
        ("REYNARD_LOG_LEVEL", "inf", "`inf` is not known here"),
        (
            "REYNARD_LISTEN",
            "0.0.0.0:9000",
            "anybody who reaches 0.0.0.0:9000",
        ),
    ] {
        let error = refused(&Flags::default(), "", &[(name, value)]);
        let start = format!("environment variable {name}: {part}");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert!(
            error.problems.iter().all(|problem| problem.hint.is_some()),
            "{error}"
        );
    }
    let flags = Flags {
        realm: Some("a b".to_owned()),
        data_dir: Some(PathBuf::new()),
        ..Flags::default()
    };
    let error = refused(&flags, "memroy = 1", &[("REYNARD_MQTT", "x")]);
    let places: Vec<String> = error
        .problems
        .iter()
        .map(|problem| problem.location.to_string())
        .collect();
    assert_eq!(
        places,
        [
            "reynard.toml:1:1",
            "environment variable REYNARD_MQTT",
            "flag --data-dir",
            "flag --realm"
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = std::ffi::OsString::from_vec(vec![0xff]);
    let sources = FakeSources::default().variable("REYNARD_REALM", odd.clone());
    let error = load(&Flags::default(), &sources)
        .expect_err("refused")
        .to_string();
    assert!(
        error.starts_with("environment variable REYNARD_REALM: the value is not UTF-8"),
        "{error}"
    );
    let sources = FakeSources::default().variable("REYNARD_DATA_DIR", odd.clone());
    let loaded = load(&Flags::default(), &sources).expect("a path need not be text");
    assert_eq!(loaded.config.data, DataStore::Directory(PathBuf::from(odd)));
}

#[test]
fn misspelled_variables_are_a_warning_and_foreign_ones_are_not() {
    let foreign = [
        ("REYNARD_SERVICE_HOST", "10.0.0.1"),
        ("REYNARD_PORT", "tcp://10.0.0.1:9000"),
    ];
    assert_eq!(loaded(&Flags::default(), "", &foreign).warnings, []);
    let warnings = loaded(&Flags::default(), "", &[("REYNARD_LISTENS", "x")]).warnings;
    let text: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "environment variable REYNARD_LISTENS: the variable is not known and ignored\n  \
          = hint: did you mean `REYNARD_LISTEN`?"
        ]
    );
}

#[test]
fn a_duplicate_address_is_blamed_on_the_layer_that_can_be_changed() {
    let flags = Flags {
        listen: owned(&["127.0.0.1:1883"]),
        ..Flags::default()
    };
    let error = refused(&flags, "", &[]).to_string();
    assert!(
        error.starts_with("flag --listen: 127.0.0.1:1883 is used by two listeners"),
        "{error}"
    );
    let free = Flags {
        listen: owned(&["127.0.0.1:0", "127.0.0.1:0"]),
        ..Flags::default()
    };
    assert_eq!(
        addresses(&loaded(&free, "", &[]), ListenerKind::Universal).len(),
        2
    );
}

#[test]
fn nothing_to_listen_on_is_an_error() {
    let off = Flags {
        mqtt: Some("off".to_owned()),
        ..Flags::default()
    };
    let error = refused(
        &off,
        "[[listener]]\nkind = \"mqtt\"\nbind = \"127.0.0.1:1\"\n",
        &[],
    );
    assert!(
        error
            .to_string()
            .starts_with("configuration: there is no listener\n"),
        "{error}"
    );
}
