//! `docs/gates/mqtt-statements.md` is complete and true: every normative statement of 5.0 has a
//! row, every row a test, and every test named in the pages of the MQTT gate exists.
#![cfg(feature = "mqtt")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Sections and the numbers of their statements.
const STATEMENTS: &str = include_str!("mqtt_statements/5.0.txt");
/// In place of tests: a statement that nothing here has to obey or to enforce.
const CLIENT_ONLY: &str = "not ours: client only";
/// How many rules the reference lists as broken most.
const BROKEN_MOST: u32 = 50;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    let path = workspace().join("docs/gates").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Cells of the rows of all tables, without heads.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every statement, as `MQTT-3.1.0-1`.
fn all_statements() -> BTreeSet<String> {
    STATEMENTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| {
            let parts: Vec<_> = line.split_whitespace().collect();
            let [section, first, last] = parts[..] else {
                panic!("not a section and two numbers: {line}")
            };
            let number = |text: &str| text.parse::<u32>().expect("a number");
            (number(first)..=number(last)).map(move |number| format!("MQTT-{section}-{number}"))
        })
        .collect()
}

/// The page's names of files and what they stand for.
struct Files(Vec<(String, String)>);

impl Files {
    fn of(page: &str) -> Files {
        let is_file = |text: &str| Path::new(text).extension().is_some();
        Files(
            rows(page)
                .filter_map(|cells| {
                    let [name, file] = cells[..] else { return None };
                    let file = quoted(file).find(|text| is_file(text))?;
                    Some((quoted(name).next()?.to_owned(), file.to_owned()))
                })
                .collect(),
        )
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().find_map(|(pattern, file)| {
            let rest = match pattern.strip_suffix('*') {
                Some(start) => name.strip_prefix(start)?,
                None => (name == pattern).then_some("")?,
            };
            Some(workspace().join(file.replace('*', rest)))
        })
    }
}

/// Texts of files, read once.
#[derive(Default)]
struct Texts(BTreeMap<PathBuf, Option<String>>);

impl Texts {
    fn get(&mut self, path: PathBuf) -> Option<&str> {
        self.0
            .entry(path)
            .or_insert_with_key(|path| fs::read_to_string(path).ok())
            .as_deref()
    }
}

/// What is wrong with `name: test`, if anything.
fn fault(files: &Files, texts: &mut Texts, citation: &str) -> Option<String> {
    let Some((name, test)) = citation.split_once(": ") else {
        return Some(format!("`{citation}` is not `file: test`"));
    };
    let Some(path) = files.path(name) else {
        return Some(format!("`{citation}`: no file has this name"));
    };
    let is_vectors = path.extension().is_some_and(|end| end == "hex");
    let Some(text) = texts.get(path) else {
        return Some(format!("`{citation}`: no such file"));
    };
    let exists = if is_vectors {
        has_vector(text, test)
    } else {
        text.contains(&format!("fn {test}("))
    };
    (!exists).then(|| format!("`{citation}`: not there"))
}

/// Whether a vector is of this clause: `bytes  # code clause — words`.
fn has_vector(text: &str, clause: &str) -> bool {
    text.lines().any(|line| {
        let words = line.split_once("# ").map_or("", |(_, words)| words);
        let (_, told) = words.split_once(' ').unwrap_or_default();
        let told = told.split(" — ").next().unwrap_or_default();
        told == clause || told.strip_suffix(" of 3.1.1") == Some(clause)
    })
}

#[test]
fn every_statement_of_5_0_has_one_row() {
    let page = page("mqtt-statements.md");
    let mut missing = all_statements();
    assert_eq!(missing.len(), 251);
    for cells in rows(&page) {
        let [statement, _, whose, _] = cells[..] else {
            continue;
        };
        // The rows of 5.0 say whose the statement is.
        if ["server", "client", "both"].contains(&whose) {
            assert!(missing.remove(statement), "{statement}: unknown or twice");
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_row_has_tests_and_they_exist() {
    let page = page("mqtt-statements.md");
    let (files, mut texts) = (Files::of(&page), Texts::default());
    let (mut faults, mut checked) = (Vec::new(), 0);
    for cells in rows(&page) {
        let heads = ["test", "file"];
        let tests = cells.last().expect("a cell");
        if heads.contains(tests) || cells.len() == 2 && tests.contains(".rs`") {
            continue;
        }
        if cells.get(2) == Some(&"client") && *tests == CLIENT_ONLY {
            continue;
        }
        let mut citations = quoted(tests).filter(|text| text.contains(": ")).peekable();
        if cells[0].starts_with("`vectors/") {
            continue;
        }
        if citations.peek().is_none() {
            faults.push(format!("{}: no test", cells[0]));
        }
        faults.extend(citations.filter_map(|citation| {
            checked += 1;
            fault(&files, &mut texts, citation)
        }));
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(checked > 400, "only {checked} citations were seen");
}

#[test]
fn every_rule_that_brokers_break_has_a_row() {
    let page = page("mqtt-statements.md");
    let mut missing: BTreeSet<u32> = (1..=BROKEN_MOST).collect();
    for cells in rows(&page).filter(|cells| cells.len() == 4) {
        for number in cells[1]
            .split(',')
            .filter_map(|text| text.trim().parse().ok())
        {
            assert!((1..=BROKEN_MOST).contains(&number), "{number}");
            missing.remove(&number);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Texts of all Rust files below a folder of the workspace.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|end| end == "rs") {
            texts.push(fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn the_tests_named_on_the_gate_s_page_exist() {
    let page = page("mqtt.md");
    let mut texts = Vec::new();
    for folder in [
        "protocols/tests",
        "protocols/src/mqtt",
        "router/core/src",
        "tests/it",
    ] {
        sources(&workspace().join(folder), &mut texts);
    }
    let named: BTreeSet<_> = rows(&page)
        .filter(|cells| cells.len() == 3)
        .flat_map(|cells| quoted(cells[2]))
        .filter(|name| {
            name.chars()
                .all(|letter| matches!(letter, 'a'..='z' | '0'..='9' | '_'))
        })
        .filter(|name| name.contains('_'))
        .collect();
    assert!(named.len() > 100, "{} tests", named.len());
    for name in named {
        let head = format!("fn {name}(");
        assert!(texts.iter().any(|text| text.contains(&head)), "{name}");
    }
}

#[test]
fn a_citation_that_is_wrong_is_found() {
    let page = page("mqtt-statements.md");
    let (files, mut texts) = (Files::of(&page), Texts::default());
    let mut check = |citation| fault(&files, &mut texts, citation).is_some();
    assert!(!check("connect: unknown_versions_are_told_so"));
    assert!(!check("vectors/v5_connect_invalid: MQTT-3.1.2-3"));
    assert!(check("connect: unknown_versions_are_told"));
    assert!(check("publish: unknown_versions_are_told_so"));
    assert!(check("vectors/v5_connect_invalid: MQTT-3.1.2"));
    assert!(check("no_such_file: unknown_versions_are_told_so"));
    assert!(check("unknown_versions_are_told_so"));
}
