//! `reynard kv`: the kept values of a router from the shell.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::command::{Finished, Running, run, signal};
use integration_tests::server::binary;
use integration_tests::{Options, PATIENCE, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;

/// How many keys travel.
const KEYS: usize = 10_000;
/// As long as they may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// `reynard kv …`, not started yet.
fn kv(url: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("kv").args(args).args(["--url", url]);
    Ok(command)
}

fn ended(server: &Server, args: &[&str]) -> Result<Finished> {
    run(&mut kv(&server.wamp_url(), args)?, LONG)
}

/// Stdout of a command that ends with 0.
fn out(server: &Server, args: &[&str]) -> Result<String> {
    Ok(ended(server, args)?.success()?.stdout)
}

fn fails(server: &Server, args: &[&str], code: i32) -> Result<Finished> {
    let finished = ended(server, args)?;
    ensure!(finished.code() == Some(code), "{args:?}: {finished:?}");
    ensure!(finished.stdout.is_empty(), "{args:?}: {finished:?}");
    ensure!(
        finished.stderr.lines().count() == 1,
        "{args:?}: {finished:?}"
    );
    Ok(finished)
}

/// The only line of stdout, as JSON.
fn object(server: &Server, args: &[&str]) -> Result<Value> {
    let text = out(server, args)?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

fn memory() -> Result<Server> {
    Server::start(Options::default().memory())
}

#[test]
fn a_value_is_stored_read_and_deleted() -> Outcome {
    let server = memory()?;
    fails(&server, &["get", "app.a"], 4)?;
    let first: u64 = out(&server, &["put", "app.a", "hello"])?.trim().parse()?;
    ensure!(out(&server, &["get", "app.a"])? == "hello\n");
    let written = object(&server, &["put", "app.a", "{\"n\": 1}", "--json"])?;
    let token = written["token"].as_u64().context("no token")?;
    ensure!(token > first, "{written} after {first}");
    ensure!(written["key"] == "app.a", "{written}");
    let entry = object(&server, &["get", "app.a", "--json"])?;
    let expected = json!({
        "key": "app.a", "value": {"n": 1}, "token": token, "owner": null, "waiters": 0
    });
    ensure!(entry == expected, "{entry}");
    let deleted = object(&server, &["del", "app.a", "--json"])?;
    ensure!(deleted["existed"] == true, "{deleted}");
    fails(&server, &["get", "app.a"], 4)?;
    fails(&server, &["del", "app.a"], 4)?;
    Ok(())
}

#[test]
fn what_get_prints_put_reads_from_stdin() -> Outcome {
    let server = memory()?;
    for (typed, stored) in [
        ("two\nlines", json!("two\nlines")),
        ("\"42\"", json!("42")),
        ("-7.5", json!(-7.5)),
        ("[1,{\"a\":null}]", json!([1, {"a": null}])),
    ] {
        out(&server, &["put", "app.a", typed])?;
        let printed = out(&server, &["get", "app.a"])?;
        let mut copy = kv(&server.wamp_url(), &["put", "app.b", "-"])?;
        Running::start(&mut copy, printed.as_bytes())?
            .finish(PATIENCE)?
            .success()?;
        let entry = object(&server, &["get", "app.b", "--json"])?;
        ensure!(entry["value"] == stored, "{typed}: {entry}");
    }
    Ok(())
}

#[test]
fn a_condition_that_does_not_hold_is_exit_code_4() -> Outcome {
    let server = memory()?;
    let token = out(&server, &["cas", "app.a", "0", "1"])?;
    let token = token.trim();
    let number: u64 = token.parse()?;
    let failed = fails(&server, &["cas", "app.a", "0", "2"], 4)?;
    ensure!(failed.stderr.contains(token), "{failed:?}");
    let failed = fails(&server, &["cas", "app.a", "0", "2", "--json"], 4)?;
    let error: Value = serde_json::from_str(&failed.stderr)?;
    ensure!(error["error"] == "fox.error.conflict", "{error}");
    ensure!(
        error["key"] == "app.a" && error["token"] == number,
        "{error}"
    );
    fails(&server, &["put", "app.a", "3", "--when", "null"], 4)?;
    fails(&server, &["del", "app.a", "--token", "1"], 4)?;
    out(&server, &["cas", "app.a", token, "2"])?;
    ensure!(out(&server, &["get", "app.a"])? == "2\n");
    Ok(())
}

#[test]
fn keys_are_listed_by_their_prefix() -> Outcome {
    let server = memory()?;
    for key in ["app.b", "app.a", "apple", "other"] {
        out(&server, &["put", key, "1"])?;
    }
    ensure!(out(&server, &["ls", "app."])? == "app.a\napp.b\n");
    ensure!(out(&server, &["ls"])?.lines().count() == 4);
    ensure!(out(&server, &["ls", "--limit", "1"])?.lines().count() == 1);
    ensure!(out(&server, &["ls", "other", "--values"])? == "other 1\n");
    ensure!(out(&server, &["ls", "none."])?.is_empty());
    let row = object(&server, &["ls", "other", "--values", "--json"])?;
    ensure!(row["key"] == "other" && row["value"] == 1, "{row}");
    ensure!(row["token"].is_u64() && row["owner"].is_null(), "{row}");
    Ok(())
}

#[test]
fn a_watch_follows_until_it_is_interrupted() -> Outcome {
    let server = memory()?;
    out(&server, &["put", "app.a", "\"first\""])?;
    let mut watch = Running::start(&mut kv(&server.wamp_url(), &["watch", "app.a"])?, b"")?;
    watch.line_with(" \"first\"")?;
    out(&server, &["put", "app.a", "{\"n\": 2}"])?;
    let line = watch.line_with(" {\"n\":2}")?;
    out(&server, &["del", "app.a"])?;
    watch.line_with(" null")?;
    signal(watch.pid(), "INT")?;
    watch.finish(PATIENCE)?.success()?;

    // Only what is newer, and only so much of it.
    let token = line.split(' ').next().context("no token")?;
    let args = ["watch", "app.a", "--token", token, "--count", "1", "--json"];
    let change = object(&server, &args)?;
    ensure!(
        change["value"].is_null() && change["key"] == "app.a",
        "{change}"
    );
    Ok(())
}

#[test]
fn ten_thousand_keys_travel_as_json_lines() -> Outcome {
    let (server, folder) = (memory()?, TempDir::new()?);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (source, copy) = (path("source.jsonl"), path("copy.jsonl"));
    let lines: BTreeSet<String> = (0..KEYS)
        .map(|n| format!("{{\"key\":\"app.k{n}\",\"value\":{{\"n\":{n},\"text\":\"grün\\n\"}}}}"))
        .collect();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&source, text)?;

    let done = object(&server, &["import", &source, "--json"])?;
    ensure!(done == json!({"imported": KEYS, "kept": 0}), "{done}");
    let done = object(&server, &["export", "app.", "--output", &copy, "--json"])?;
    ensure!(done == json!({"exported": KEYS, "left_out": 0}), "{done}");
    let copied = std::fs::read_to_string(&copy)?;
    let copied: BTreeSet<String> = copied.lines().map(str::to_owned).collect();
    ensure!(copied == lines, "the copy differs");

    // Another router gets them through a pipe, and keeps what it has unless told otherwise.
    let other = memory()?;
    out(&other, &["put", "app.k7", "\"mine\""])?;
    for (flag, imported, kept, value) in [
        ("--only-new", KEYS - 1, 1, json!("mine")),
        ("--replace", KEYS, 0, json!({"n": 7, "text": "grün\n"})),
    ] {
        let exported = out(&server, &["export"])?;
        let mut import = kv(&other.wamp_url(), &["import", flag, "--json"])?;
        let import = Running::start(&mut import, exported.as_bytes())?;
        let done: Value = serde_json::from_str(&import.finish(LONG)?.success()?.stdout)?;
        ensure!(
            done == json!({"imported": imported, "kept": kept}),
            "{flag}: {done}"
        );
        let entry = object(&other, &["get", "app.k7", "--json"])?;
        ensure!(entry["value"] == value, "{flag}: {entry}");
    }
    Ok(())
}

#[test]
fn an_import_ends_with_its_first_bad_line() -> Outcome {
    let server = memory()?;
    let mut import = kv(&server.wamp_url(), &["import"])?;
    let text = "{\"key\":\"app.a\",\"value\":1}\n{\"key\":\"app.b\"}\n";
    let finished = Running::start(&mut import, text.as_bytes())?.finish(PATIENCE)?;
    ensure!(finished.code() == Some(1), "{finished:?}");
    ensure!(finished.stderr.contains("line 2: "), "{finished:?}");
    ensure!(
        finished.stderr.contains("; 1 imported before"),
        "{finished:?}"
    );
    ensure!(out(&server, &["ls"])? == "app.a\n");
    Ok(())
}

const USERS: &str = r##"
[[realm]]
name = "shop"
[[realm.user]]
authid = "joe"
role = "user"
secret = "joe-secret"
[[realm.role]]
name = "user"
allow = ["publish app.#", "subscribe app.#", "call fox.kv.#"]
"##;

#[test]
fn a_user_joins_with_a_ticket_and_has_the_rights_of_his_role() -> Outcome {
    let server = Server::start(Options::default().memory().config(USERS))?;
    let folder = TempDir::new()?;
    let file = folder.path().join("ticket").display().to_string();
    std::fs::write(&file, "joe-secret\n")?;
    let realm = ["--realm", "shop"];
    let user = ["--authid", "joe", "--ticket-file", &file];
    let line = |args: &[&'static str]| -> Vec<String> {
        let all = args.iter().chain(&realm).chain(&user);
        all.map(|word| (*word).to_owned()).collect()
    };
    let words = line(&["put", "app.a", "1"]);
    out(
        &server,
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    let words = line(&["put", "other.a", "1"]);
    let refused = fails(
        &server,
        &words.iter().map(String::as_str).collect::<Vec<_>>(),
        1,
    )?;
    ensure!(
        refused.stderr.contains("wamp.error.not_authorized"),
        "{refused:?}"
    );
    // Without a ticket, and with a wrong one.
    fails(&server, &["get", "app.a", "--realm", "shop"], 1)?;
    let wrong = ["--authid", "joe", "--ticket", "not-this-one"];
    let args = [&["get", "app.a"][..], &realm, &wrong].concat();
    let refused = fails(&server, &args, 1)?;
    ensure!(!refused.stderr.contains("not-this-one"), "{refused:?}");
    fails(&server, &["get", "app.a", "--authid", "joe"], 2)?;
    Ok(())
}

#[test]
fn a_router_is_reached_over_a_unix_domain_socket_and_its_absence_is_told() -> Outcome {
    let folder = TempDir::new()?;
    let url = format!("unix:{}", folder.path().join("r.sock").display());
    let finished = run(&mut kv(&url, &["ls"])?, PATIENCE)?;
    ensure!(finished.code() == Some(1), "{finished:?}");
    ensure!(
        finished.stderr.contains(&format!("no router at {url}")),
        "{finished:?}"
    );
    let options = Options::default().memory();
    let options = options.arg("--listen").arg("127.0.0.1:0");
    let _server = Server::start(options.arg("--listen").arg(&url))?;
    run(&mut kv(&url, &["put", "app.a", "1"])?, PATIENCE)?.success()?;
    // The variable stands in for the option.
    let mut command = Command::new(binary()?);
    command
        .args(["kv", "get", "app.a"])
        .env("REYNARD_URL", &url);
    ensure!(run(&mut command, PATIENCE)?.success()?.stdout == "1\n");
    Ok(())
}
