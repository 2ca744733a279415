//! How one problem is shown: place, line, caret, hint, and never a secret.

use std::ops::Range;

use crate::config::problem::{Fault, Place, Problems};

fn report(text: &str, span: Range<usize>) -> String {
    let mut problems = Problems::new("r.toml", text);
    problems.error(&Place::File(span), Fault::new("wrong", "right it"));
    problems.finish().expect_err("one error").to_string()
}

#[test]
fn a_place_is_shown_with_a_caret() {
    let text = "a = 1\r\n\tgrün = 22\r\n";
    let at = text.find("22").expect("there");
    assert_eq!(
        report(text, at..at + 2),
        "r.toml:2:9: wrong\n  |\n2 | \tgrün = 22\n  | \t       ^^\n  = hint: right it"
    );
}

#[test]
fn places_at_and_beyond_the_end_do_no_harm() {
    assert!(report("a = 1\n", 6..6).starts_with("r.toml:2:1: wrong\n  |\n2 | \n  | ^\n"));
    assert!(report("a = 1", 90..91).starts_with("r.toml:1:6: wrong\n"));
    assert!(report("", 0..0).starts_with("r.toml:1:1: wrong\n"));
    assert!(
        report("ü", 1..2).starts_with("r.toml:1:1: wrong\n"),
        "inside a character"
    );
}

#[test]
fn a_long_line_is_shown_in_part() {
    let text = format!("key = \"{}!{}\"", "x".repeat(100_000), "y".repeat(100_000));
    let at = text.find('!').expect("there");
    let shown = report(&text, at..at + 50_000);
    assert!(shown.len() < 500, "{}", shown.len());
    let lines: Vec<&str> = shown.lines().collect();
    let caret = lines
        .get(3)
        .and_then(|line| line.find('^'))
        .expect("a caret");
    assert_eq!(
        lines.get(2).and_then(|line| line.chars().nth(caret)),
        Some('!')
    );
}

#[test]
fn secrets_are_cut_from_excerpts() {
    for line in [
        "secret = \"hunter2\"",
        "  Secret=\"hunter2\" # x",
        "secret_argon2 = \"hunter2\"",
        "password = \"hunter2\"",
        "u = [{ authid = \"joe\", secret = \"hunter2\" }]",
        "secret_file = \"a\" secret = \"hunter2\"",
    ] {
        for at in 0..line.len() {
            let shown = report(line, at..line.len());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    assert!(report("secret_file = \"x.txt\"", 0..1).contains("x.txt"));
    let mut problems = Problems::new("r.toml", "secrt = \"hunter2\"");
    problems.error(&Place::Hidden(0..5), Fault::new("wrong", ""));
    let shown = problems.finish().expect_err("one").to_string();
    assert!(shown.contains("1 | secrt = …\n  | ^^^^^"), "{shown}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shown = report("a = \"\u{1b}[2J\"", 4..9);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn errors_are_sorted_by_place_and_the_rest_follows() {
    let mut problems = Problems::new("r.toml", "a\nb\nc\n");
    problems.error(&Place::Flag("--listen"), Fault::new("flag", ""));
    problems.error(&Place::File(4..5), Fault::new("third", ""));
    problems.error(&Place::Variable("REYNARD_MQTT"), Fault::new("variable", ""));
    problems.error(&Place::Hidden(0..1), Fault::new("first", ""));
    assert_eq!(problems.line(&Place::File(4..5)), Some(3));
    assert_eq!(problems.line(&Place::Default), None);
    let error = problems.finish().expect_err("errors");
    let order: Vec<&str> = error.problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(order, ["first", "third", "flag", "variable"]);
}
