//! Broken configurations with everything that is said about them, in `broken.txt`: a line
//! `=== name`, the file, a line `---`, the report. `BLESS=1 cargo test` writes the reports anew; look
//! at the difference before you keep it.

use super::read;
use crate::config::FakeSources;

const GOLDEN: &str = include_str!("broken.txt");
const GOLDEN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/broken.txt");

struct Case<'a> {
    name: &'a str,
    text: &'a str,
    report: &'a str,
}

fn cases() -> Vec<Case<'static>> {
    let sections = GOLDEN.split("=== ").filter(|section| !section.is_empty());
    let parse = |section: &'static str| {
        let (name, rest) = section.split_once('\n').unwrap_or((section, ""));
        let (text, report) = rest.split_once("---\n").unwrap_or((rest, ""));
        Case { name, text, report }
    };
    sections.map(parse).collect()
}

fn report(text: &str) -> String {
    let sources = FakeSources::default().file("empty.secret", "");
    match read(text, &sources) {
        Ok(_) => "accepted\n".to_owned(),
        Err(error) => format!("{error}\n"),
    }
}

#[test]
fn every_broken_file_is_reported_as_agreed() {
    let cases = cases();
    if std::env::var_os("BLESS").is_some() {
        let bless =
            |case: &Case<'_>| format!("=== {}\n{}---\n{}", case.name, case.text, report(case.text));
        let text: String = cases.iter().map(bless).collect();
        std::fs::write(GOLDEN_PATH, text).expect("written");
        return;
    }
    assert!(cases.len() >= 25, "{}", cases.len());
    for case in cases {
        assert_eq!(report(case.text), case.report, "{}", case.name);
    }
}

#[test]
fn every_report_names_a_place_and_gives_a_hint() {
    for case in cases() {
        let error = read(case.text, &FakeSources::default().file("empty.secret", ""));
        for problem in error.expect_err(case.name).problems {
            assert!(
                problem.hint.is_some_and(|hint| !hint.is_empty()),
                "{}",
                case.name
            );
        }
        assert!(
            !case.report.contains("hunter2") && !case.report.contains("4711"),
            "{}",
            case.name
        );
    }
}

const WITH_SECRET: &str = "\
default_realm = \"a\"
[[realm]]
name = \"a\"
[[realm.user]]
authid = \"joe\"
role = \"r\"
secret = \"hunter2\"
[realm.anonymous]
role = \"r\"
";

#[test]
fn no_slip_of_a_finger_brings_a_secret_into_a_report() {
    for (at, old) in WITH_SECRET.char_indices() {
        let (head, tail) = WITH_SECRET.split_at(at);
        let rest = tail.strip_prefix(old).unwrap_or_default();
        for slip in [
            "", "x", "\"", "'", "=", "\n", "[", "]", ".", " ", "#", "\u{0}", "ü",
        ] {
            for text in [format!("{head}{slip}{rest}"), format!("{head}{slip}{tail}")] {
                let said = report(&text);
                assert!(!said.contains("hunter2"), "{text}\n{said}");
            }
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for text in ["[", "{a=", "[{a="] {
        let said = report(&format!("listener = {}", text.repeat(100_000)));
        assert!(said.starts_with("r.toml:1:"), "{said}");
        assert!(said.len() < 5000, "{}", said.len());
    }
    let said = report(&format!("{}b = 1", "a.".repeat(100_000)));
    assert!(
        said.starts_with("r.toml:1:") && said.len() < 5000,
        "{}",
        said.len()
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_accepted_or_explained(text in proptest::prelude::any::<String>()) {
        proptest::prop_assert!(!report(&text).is_empty());
    }

    #[test]
    fn any_value_of_any_key_is_accepted_or_explained(
        index in 0..crate::config::keys::KEYS.len(),
        value in "[\\[{\"]{0,3}[a-z0-9.:/#+*,=\"\\]} ]{0,20}",
    ) {
        let key = crate::config::keys::KEYS.get(index).map_or("", |key| key.name);
        let section = crate::config::keys::KEYS.get(index).map_or("", |key| key.section);
        let text = format!("[[realm]]\n[[{section}]]\n[{section}]\n{key} = {value}");
        let alone = format!("{key} = {value}");
        for text in [text, alone] {
            proptest::prop_assert!(!report(&text).is_empty());
        }
    }
}
