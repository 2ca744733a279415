//! `reynard lock`: a command runs while its lock is held, and no longer.
//!
//! The commands are small shell scripts that say where they are. What they wait for is a named
//! pipe, which the test opens when it wants them to go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration_tests::command::{Finished, Running, run, signal};
use integration_tests::server::binary;
use integration_tests::{Options, PATIENCE, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;

/// No lease ends during a test.
const TTL: [&str; 2] = ["--ttl", "1h"];

fn memory() -> Result<Server> {
    Server::start(Options::default().memory())
}

/// `reynard lock …`, not started yet.
fn lock(server: &Server, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(["lock", args[0], "--url", &server.wamp_url()]);
    command.args(&args[1..]);
    Ok(command)
}

/// `reynard lock run …` of a shell script.
fn lock_run(server: &Server, args: &[&str], script: &str) -> Result<Command> {
    let mut command = lock(server, &["run"])?;
    command
        .args(TTL)
        .args(args)
        .args(["--", "sh", "-c", script]);
    Ok(command)
}

fn start(server: &Server, args: &[&str], script: &str) -> Result<Running> {
    Running::start(&mut lock_run(server, args, script)?, b"")
}

fn ended(server: &Server, args: &[&str]) -> Result<Finished> {
    run(&mut lock(server, args)?, PATIENCE)
}

fn code(running: Running, expected: i32) -> Result<Finished> {
    let finished = running.finish(PATIENCE)?;
    ensure!(finished.code() == Some(expected), "{finished:?}");
    Ok(finished)
}

fn object(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Named pipes: a script that reads one waits until the test opens it.
struct Gates(TempDir);

impl Gates {
    fn new() -> Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A script that says `in TOKEN`, waits at the gate, and says `out`.
    fn script(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        run(Command::new("mkfifo").arg(&path), PATIENCE)?.success()?;
        let gate = path.display();
        Ok(format!(
            "echo in $REYNARD_LOCK_TOKEN; read -r _ < {gate}; echo out"
        ))
    }

    fn open(&self, name: &str) -> Outcome {
        fs::write(self.path(name), "go\n")?;
        Ok(())
    }
}

fn token(line: &str) -> Result<u64> {
    let word = line.split(' ').nth(1).context("no token")?;
    word.parse().with_context(|| line.to_owned())
}

#[test]
fn the_second_waits_until_the_first_is_out() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    let mut first = start(&server, &["app.k"], &gates.script("first")?)?;
    let first_token = token(&first.line_with("in ")?)?;
    let mut second = start(&server, &["app.k"], &gates.script("second")?)?;
    second.error_line_with("waiting for app.k, position 1")?;
    let mut third = start(&server, &["app.k"], &gates.script("third")?)?;
    third.error_line_with("waiting for app.k, position 2")?;
    gates.open("first")?;
    let second_token = token(&second.line_with("in ")?)?;
    ensure!(
        second_token > first_token,
        "{second_token} after {first_token}"
    );
    third.error_line_with("position 1")?;
    code(first, 0)?;
    gates.open("second")?;
    code(second, 0)?;
    let third_token = token(&third.line_with("in ")?)?;
    ensure!(
        third_token > second_token,
        "{third_token} after {second_token}"
    );
    gates.open("third")?;
    code(third, 0)?;
    Ok(())
}

#[test]
fn commands_under_one_lock_never_overlap_and_their_tokens_grow() -> Outcome {
    const RUNS: usize = 12;
    let (server, folder) = (memory()?, TempDir::new()?);
    let at = folder.path().display();
    // The folder can be made only while nobody else is in.
    let script =
        format!("mkdir {at}/in || exit 99; echo $REYNARD_LOCK_TOKEN >> {at}/tokens; rmdir {at}/in");
    let running: Vec<Running> = (0..RUNS)
        .map(|_| start(&server, &["app.k"], &script))
        .collect::<Result<_>>()?;
    for one in running {
        code(one, 0)?;
    }
    let tokens = fs::read_to_string(folder.path().join("tokens"))?;
    let tokens: Vec<u64> = tokens.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(tokens.len() == RUNS, "{tokens:?}");
    ensure!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    Ok(())
}

#[test]
fn who_does_not_wait_is_told_that_the_lock_is_held() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    let mut first = start(&server, &["app.k"], &gates.script("first")?)?;
    first.line_with("in ")?;
    for (wait, error) in [("0", "fox.error.lock_held"), ("10ms", "wamp.error.timeout")] {
        let second = start(&server, &["app.k", "--wait", wait], "echo ran")?;
        let finished = code(second, 4)?;
        ensure!(finished.stdout.is_empty(), "{finished:?}");
        ensure!(finished.stderr.contains(error), "{finished:?}");
    }
    let second = start(&server, &["app.k", "--wait", "0", "--json"], "echo ran")?;
    let finished = code(second, 4)?;
    let error = object(finished.stderr.lines().last().context("silence")?)?;
    ensure!(error["error"] == "fox.error.lock_held", "{error}");
    gates.open("first")?;
    code(first, 0)?;
    Ok(())
}

#[test]
fn the_exit_code_is_that_of_the_command() -> Outcome {
    let server = memory()?;
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        code(start(&server, &["app.k"], script)?, expected)?;
    }
    let mut missing = lock(&server, &["run", "app.k"])?;
    missing.args(["--", "/nonexistent/program"]);
    ensure!(run(&mut missing, PATIENCE)?.code() == Some(127));
    // Nothing was left behind.
    let list = ended(&server, &["ls"])?.success()?;
    ensure!(list.stdout.is_empty(), "{list:?}");
    let usage = ended(&server, &["run", "app.k"])?;
    ensure!(usage.code() == Some(2), "{usage:?}");
    Ok(())
}

/// Says `in`, and goes on until a signal comes. Children in the background ignore SIGINT.
/// A signal that comes while `sleep` is being started may pass it by, so it holds none of the pipes.
const FOLLOWS_SIGNALS: &str = "trap 'echo interrupted; kill $! 2>/dev/null; exit 3' INT; \
     trap 'echo terminated; kill $! 2>/dev/null; exit 0' TERM; \
     echo in $REYNARD_LOCK_TOKEN; while :; do sleep 60 >/dev/null 2>&1 & wait $!; done";

#[test]
fn signals_are_passed_on_to_the_command() -> Outcome {
    let server = memory()?;
    for (name, said, expected) in [("INT", "interrupted", 3), ("TERM", "terminated", 0)] {
        let mut running = start(&server, &["app.k"], FOLLOWS_SIGNALS)?;
        running.line_with("in ")?;
        signal(running.pid(), name)?;
        running.line_with(said)?;
        code(running, expected)?;
    }
    Ok(())
}

#[test]
fn a_signal_ends_the_wait_and_the_place_in_the_queue() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    let mut first = start(&server, &["app.k"], &gates.script("first")?)?;
    first.line_with("in ")?;
    let mut second = start(&server, &["app.k"], "echo ran")?;
    second.error_line_with("position 1")?;
    let mut third = start(&server, &["app.k"], "echo ran")?;
    third.error_line_with("position 2")?;
    signal(second.pid(), "TERM")?;
    let finished = code(second, 143)?;
    ensure!(finished.stdout.is_empty(), "{finished:?}");
    third.error_line_with("position 1")?;
    gates.open("first")?;
    code(first, 0)?;
    code(third, 0)?;
    Ok(())
}

#[test]
fn the_command_is_stopped_when_the_router_is_killed() -> Outcome {
    let mut server = memory()?;
    let mut running = start(&server, &["app.k"], FOLLOWS_SIGNALS)?;
    running.line_with("in ")?;
    server.kill()?;
    running.line_with("terminated")?;
    let finished = code(running, 5)?;
    ensure!(finished.stderr.contains("app.k is lost: "), "{finished:?}");
    Ok(())
}

#[test]
fn the_command_is_stopped_when_the_lock_is_broken() -> Outcome {
    let server = memory()?;
    let mut running = start(&server, &["app.k", "--json"], FOLLOWS_SIGNALS)?;
    let token = token(&running.line_with("in ")?)?;
    let broken = ended(&server, &["break", "app.k", "--json"])?.success()?;
    ensure!(
        object(&broken.stdout)? == json!({"key": "app.k", "broken": [token]}),
        "{broken:?}"
    );
    running.line_with("terminated")?;
    let finished = code(running, 5)?;
    let mut lines = finished.stderr.lines();
    let lost = object(
        lines
            .find(|line| line.contains("lost"))
            .context("silence")?,
    )?;
    let expected = json!({"event": "lost", "key": "app.k", "token": token, "reason": "broken"});
    ensure!(lost == expected, "{lost}");
    ensure!(ended(&server, &["break", "app.k"])?.code() == Some(4));
    Ok(())
}

#[test]
fn a_command_that_does_not_stop_is_killed_with_its_children() -> Outcome {
    let server = memory()?;
    // The shell and its child ignore SIGTERM; both write to the pipe that the test reads to its end.
    let script = "trap '' TERM; sleep 100000 & echo in 1; while :; do wait; done";
    let mut running = start(&server, &["app.k", "--kill-after", "10ms"], script)?;
    running.line_with("in ")?;
    ended(&server, &["break", "app.k"])?.success()?;
    code(running, 5)?;
    Ok(())
}

#[test]
fn a_lock_passes_on_when_its_holder_is_killed() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    let script = format!("echo $$; {}", gates.script("first")?);
    let mut first = start(&server, &["app.k"], &script)?;
    let group: u32 = first.line_with("")?.parse()?;
    first.line_with("in ")?;
    let mut second = start(&server, &["app.k"], "echo in $REYNARD_LOCK_TOKEN")?;
    second.error_line_with("position 1")?;
    first.kill()?;
    second.line_with("in ")?;
    code(second, 0)?;
    // Nobody was left to stop its command: that is what the token is for.
    signal(group, "KILL")?;
    Ok(())
}

#[test]
fn shared_locks_and_permits_are_held_side_by_side() -> Outcome {
    let server = memory()?;
    for args in [
        &["app.k", "--mode", "shared"][..],
        &["app.k", "--mode", "permit", "--limit", "2"],
    ] {
        let gates = Gates::new()?;
        let mut first = start(&server, args, &gates.script("first")?)?;
        let mut second = start(&server, args, &gates.script("second")?)?;
        first.line_with("in ")?;
        second.line_with("in ")?;
        let mut third = start(&server, &["app.k"], "echo in 0")?;
        third.error_line_with("position 1")?;
        gates.open("first")?;
        code(first, 0)?;
        gates.open("second")?;
        code(second, 0)?;
        code(third, 0)?;
    }
    Ok(())
}

#[test]
fn holders_and_waiters_are_shown() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    ensure!(ended(&server, &["inspect", "app.k"])?.code() == Some(4));
    let data = "{\"host\":\"h\"}";
    let script = gates.script("first")?;
    let mut first = start(&server, &["app.k", "--data", data], &script)?;
    let token = token(&first.line_with("in ")?)?;
    let mut second = start(&server, &["app.k"], "echo ran")?;
    second.error_line_with("position 1")?;

    let list = ended(&server, &["ls", "app.", "--json"])?.success()?;
    let row = object(&list.stdout)?;
    ensure!(row["key"] == "app.k" && row["token"] == token, "{row}");
    ensure!(row["holders"] == 1 && row["waiters"] == 1, "{row}");
    let list = ended(&server, &["ls"])?.success()?;
    let text = format!("holders=1 waiters=1 token={token}\n");
    ensure!(
        list.stdout.starts_with("app.k ") && list.stdout.ends_with(&text),
        "{list:?}"
    );

    let shown = ended(&server, &["inspect", "app.k", "--json"])?.success()?;
    let shown = object(&shown.stdout)?;
    ensure!(shown["holders"][0]["token"] == token, "{shown}");
    ensure!(
        shown["holders"][0]["data"] == json!({"host": "h"}),
        "{shown}"
    );
    ensure!(shown["value"] == json!({"host": "h"}), "{shown}");
    ensure!(
        shown["waiters"][0]["position"] == 1 && shown["waiting"] == 1,
        "{shown}"
    );
    let shown = ended(&server, &["inspect", "app.k"])?.success()?;
    ensure!(shown.stdout.lines().count() == 3, "{shown:?}");

    // An export takes no locks along.
    let mut export = Command::new(binary()?);
    export.args(["kv", "export", "--url", &server.wamp_url()]);
    let exported = run(&mut export, PATIENCE)?.success()?;
    ensure!(exported.stdout.is_empty(), "{exported:?}");
    ensure!(exported.stderr.contains("left out"), "{exported:?}");
    gates.open("first")?;
    code(first, 0)?;
    code(second, 0)?;
    Ok(())
}

/// What a script leaves behind is not there when the lock is free again.
#[test]
fn the_lock_is_free_as_soon_as_the_command_has_ended() -> Outcome {
    let server = memory()?;
    let folder = TempDir::new()?;
    let file = |name: &str| -> PathBuf { Path::join(folder.path(), name) };
    for round in 0..5 {
        let script = format!("echo {round} > {}", file("round").display());
        code(start(&server, &["app.k", "--wait", "0"], &script)?, 0)?;
        ensure!(fs::read_to_string(file("round"))?.trim() == round.to_string());
    }
    Ok(())
}

#[test]
fn a_command_under_nohup_outlives_its_terminal() -> Outcome {
    let (server, gates) = (memory()?, Gates::new()?);
    let command = lock_run(&server, &["app.k"], &gates.script("first")?)?;
    let mut under_nohup = Command::new("sh");
    under_nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    under_nohup
        .arg(command.get_program())
        .args(command.get_args());
    let mut running = Running::start(&mut under_nohup, b"")?;
    running.line_with("in ")?;
    signal(running.pid(), "HUP")?;
    // Suspended it could not renew its lease.
    signal(running.pid(), "TSTP")?;
    gates.open("first")?;
    running.line_with("out")?;
    code(running, 0)?;
    Ok(())
}
