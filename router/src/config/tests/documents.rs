//! The list of keys, `default.toml` and `docs/config.md` say the same as the code.

use std::collections::BTreeSet;

use super::{FakeSources, good, read};
use crate::config::keys::{KEYS, Key, Kind, SECTIONS, Section, VARIABLES, keys_of, names_in};
use crate::config::{Config, DEFAULT_TOML};

const MANUAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md"));
const MANUAL_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
const TABLES_BEGIN: &str = "<!-- keys: written by the tests from router/src/config/keys.rs -->\n";
const TABLES_END: &str = "<!-- /keys -->\n";

#[test]
fn the_default_file_is_the_default() {
    assert_eq!(good(DEFAULT_TOML), Config::default());
    assert_eq!(good(""), Config::default());
}

/// `default.toml` with its commented settings in force.
fn uncommented() -> String {
    let is_setting =
        |rest: &&str| rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase());
    let lines = DEFAULT_TOML
        .lines()
        .map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_in_the_default_file_work() {
    let sources = FakeSources::default()
        .file("ann.secret", "ann-secret\n")
        .file("cloud.secret", "cloud-secret\n");
    let (config, warnings) =
        read(&uncommented(), &sources).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(warnings, []);
    let realm = config.realm("realm1").expect("the example realm");
    assert_eq!((realm.users.len(), realm.roles.len()), (3, 1));
    assert_eq!(realm.anonymous_role(), Some("anonymous"));
}

#[test]
fn the_default_file_shows_every_key_with_its_default() {
    let text = uncommented();
    let mut section = "";
    let mut shown = BTreeSet::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']);
        } else if let Some((name, value)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            let value = value.split(" #").next().unwrap_or_default().trim();
            shown.insert((section, name, value));
        }
    }
    for key in KEYS {
        let mut values = shown
            .iter()
            .filter(|(section, name, _)| (*section, *name) == (key.section, key.name));
        if key.default.starts_with(['(', '[']) {
            assert!(values.next().is_some(), "{}.{}", key.section, key.name);
        } else {
            assert!(
                values.any(|(_, _, value)| key.default.contains(value)),
                "{}.{}",
                key.section,
                key.name
            );
        }
    }
    assert!(
        shown
            .iter()
            .all(|(section, name, _)| keys_of(section).any(|key| key.name == *name))
    );
}

/// A file that has `line` in that table, with what the table needs around it.
fn file_with(section: &str, line: &str) -> String {
    let needed = |path: &str| match path {
        "realm" => "[[realm]]\nname = \"r\"\n",
        "bridge" => "[[bridge]]\nname = \"b\"\naddress = \"h:1\"\n",
        _ => "",
    };
    match section {
        "" => format!("{line}\n"),
        _ => {
            let found = SECTIONS
                .iter()
                .find(|known| known.path == section)
                .expect("a known table");
            format!("{}{}\n{line}\n", needed(found.split().0), found.header())
        }
    }
}

#[test]
fn every_key_of_the_list_is_read_with_its_kind() {
    for key in KEYS {
        // No key takes a date, so whoever reads the key must complain about the type.
        let text = file_with(key.section, &format!("{} = 1979-05-27", key.name));
        let error = read(&text, &FakeSources::default()).expect_err(key.name);
        let kind = match key.kind {
            Kind::Text => "text in quotes",
            Kind::Switch => "true or false",
            Kind::Number { .. } => "a whole number",
            Kind::Texts => "a list of texts",
        };
        let wanted = format!("`{}` should be {kind}, this is a date or time", key.name);
        let found = error
            .problems
            .iter()
            .filter(|problem| problem.message == wanted);
        assert_eq!(found.count(), 1, "{text}\n{error}");
    }
}

#[test]
fn every_table_refuses_what_is_not_on_the_list() {
    for section in SECTIONS.iter().map(|section| section.path).chain([""]) {
        let text = file_with(section, "qqqqqqqq = 1");
        let error = read(&text, &FakeSources::default()).expect_err(section);
        let known: Vec<&str> = names_in(section).collect();
        let hint = format!("known here: {}", known.join(", "));
        let hints = error
            .problems
            .iter()
            .filter_map(|problem| problem.hint.as_ref());
        assert_eq!(
            hints.filter(|said| **said == hint).count(),
            1,
            "{text}\n{error}"
        );
    }
}

/// What must stand beside a number: what its table needs, and for a size, so that the outbox holds a
/// largest message.
fn beside(key: &Key) -> &'static str {
    match (key.section, key.name) {
        ("bridge", "reconnect_min_ms") => {
            return "reconnect_max_ms = 3600000\nname = \"b\"\naddress = \"h:1\"\n";
        }
        ("bridge", "reconnect_max_ms") => {
            return "reconnect_min_ms = 10\nname = \"b\"\naddress = \"h:1\"\n";
        }
        ("bridge", _) => return "name = \"b\"\naddress = \"h:1\"\n",
        ("realm.history", _) => return "topic = \"a\"\n",
        ("bridge.rule", _) => return "direction = \"in\"\nfilter = \"#\"\n",
        _ => {}
    }
    match key.name {
        "max_packet_bytes" if key.section == "listener" => {
            "bind = \"127.0.0.1:9000\"\n[limits]\nmax_outbox_bytes = 1099511627776\n"
        }
        "ping_after_secs" => "dead_after_secs = 86400\n",
        "dead_after_secs" => "ping_after_secs = 1\n",
        _ if key.section == "listener" => "bind = \"127.0.0.1:9000\"\n",
        "max_outbox_bytes" => "max_wamp_message_bytes = 512\n[mqtt]\nmax_packet_bytes = 64\n",
        "max_wamp_message_bytes" => "max_outbox_bytes = 1099511627776\n",
        "max_packet_bytes" => "[limits]\nmax_outbox_bytes = 1099511627776\n",
        _ => "",
    }
}

#[test]
fn every_number_obeys_its_bounds() {
    for key in KEYS {
        let Kind::Number { min, max } = key.kind else {
            continue;
        };
        let accepted = |value: i128| {
            let text = file_with(
                key.section,
                &format!("{} = {value}\n{}", key.name, beside(key)),
            );
            read(&text, &FakeSources::default()).is_ok()
        };
        let (min, max) = (i128::from(min), i128::from(max));
        assert!(accepted(min) && accepted(max), "{}", key.name);
        assert!(!accepted(min - 1) && !accepted(max + 1), "{}", key.name);
    }
}

/// The generated part of `docs/config.md`.
fn tables() -> String {
    let mut text = String::new();
    let top = keys_of("");
    text.push_str("## Top level\nBefore the first table.\n\n");
    text.push_str(&table(top));
    for section in SECTIONS {
        text.push_str(&format!(
            "\n## `{}`\n{}\n\n",
            Section::header(section),
            section.meaning
        ));
        text.push_str(&table(keys_of(section.path)));
    }
    text
}

fn table<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    let mut text = "| key | default | meaning | variable, flag |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        let default = match key.default.strip_prefix('(') {
            Some(word) => word.trim_end_matches(')').to_owned(),
            None => format!("`{}`", key.default),
        };
        let meaning = match key.kind {
            Kind::Number { min, max } => format!("{} {min} to {max}.", key.meaning),
            _ => key.meaning.to_owned(),
        };
        let over: Vec<String> = [key.variable, key.flag]
            .into_iter()
            .flatten()
            .map(|name| format!("`{name}`"))
            .collect();
        text.push_str(&format!(
            "| `{}` | {default} | {meaning} | {} |\n",
            key.name,
            over.join(", ")
        ));
    }
    text
}

/// `BLESS=1 cargo test` writes the tables anew.
#[test]
fn the_manual_has_every_key() {
    let (head, rest) = MANUAL.split_once(TABLES_BEGIN).expect("the begin mark");
    let (found, tail) = rest.split_once(TABLES_END).expect("the end mark");
    if std::env::var_os("BLESS").is_some() {
        let text = format!("{head}{TABLES_BEGIN}{}{TABLES_END}{tail}", tables());
        std::fs::write(MANUAL_PATH, text).expect("written");
        return;
    }
    assert_eq!(found, tables());
    for name in VARIABLES {
        assert!(MANUAL.contains(name), "{name}");
    }
    let listed: BTreeSet<_> = KEYS.iter().filter_map(|key| key.variable).collect();
    assert!(listed.iter().all(|name| VARIABLES.contains(name)));
}
