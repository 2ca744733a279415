//! What lints cannot see: the core must not know any protocol, not even by name.

use std::fs;
use std::path::{Path, PathBuf};

/// The one place where a protocol's word is data: the content type that two gates agreed on.
const ALLOWED: &[(&str, &str)] = &[("model/payload.rs", "application/wamp+json")];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_core_names_no_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the core's sources were not found");
    let mut offences = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(&root)
            .expect("readable")
            .to_string_lossy()
            .into_owned();
        for (number, line) in fs::read_to_string(&file)
            .expect("readable")
            .lines()
            .enumerate()
        {
            let lower = line.to_lowercase();
            let speaks = ["mqtt", "wamp", "socket.io", "websocket"]
                .iter()
                .any(|w| lower.contains(w));
            let allowed = ALLOWED
                .iter()
                .any(|(at, word)| *at == name && line.contains(word));
            if speaks && !allowed {
                offences.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn the_core_depends_on_no_runtime_and_no_protocol() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .expect("readable");
    for name in [
        "tokio",
        "tungstenite",
        "hyper",
        "mqttbytes",
        "rumqtt",
        "protocols",
    ] {
        assert!(!manifest.contains(name), "the core depends on {name}");
    }
}

/// Our crates by folder, in the direction of dependency: each may use those before it that stand in
/// its list. The tests may use everything.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("storage", "storage", &[]),
    ("router/core", "router-core", &["storage"]),
    ("protocols", "protocols", &["storage", "router-core"]),
    (
        "router/client",
        "router-client",
        &["router-core", "protocols"],
    ),
    (
        "router",
        "router",
        &["storage", "router-core", "protocols", "router-client"],
    ),
    ("democli", "democli", &["router-client"]),
];

#[test]
fn every_crate_uses_only_those_below_it() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (folder, name, allowed) in ARROWS {
        let manifest = fs::read_to_string(workspace.join(folder).join("Cargo.toml"));
        let manifest = manifest.expect("readable");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder}");
        let uses = |other: &&str| {
            let starts = [format!("{other}."), format!("{other} ")];
            let is_use = |line: &str| starts.iter().any(|start| line.starts_with(start.as_str()));
            // With other features for its tests, a crate may name itself.
            other != name && manifest.lines().any(is_use)
        };
        let used: Vec<&str> = ARROWS.iter().map(|arrow| arrow.1).filter(uses).collect();
        let forbidden = used.iter().find(|other| !allowed.contains(other));
        assert_eq!(forbidden, None, "{name} uses {used:?}");
        assert!(
            name == &"storage" || !used.is_empty(),
            "{name} uses nothing"
        );
    }
}
