//! SIGKILL under load: every commit that was acknowledged is there, and nothing else but the one in flight.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

#[macro_use]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{last_commit, numbered};
use storage::{EngineKind, Storage, open};

const DIR: &str = "STORAGE_KILL_TEST_DIR";
const ENGINE: &str = "STORAGE_KILL_TEST_ENGINE";
/// If set: every commit but each fifth is relaxed.
const RELAXED: &str = "STORAGE_KILL_TEST_RELAXED";

/// Not a test of its own: the process that is killed. It commits numbered batches and says each number when it is
/// acknowledged.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let engine = std::env::var(ENGINE).unwrap().parse().unwrap();
    let relaxed = std::env::var_os(RELAXED).is_some();
    let say = |word: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{word}").unwrap();
        out.flush().unwrap();
    };
    say("opening");
    let storage = open(Path::new(&dir), engine).unwrap();
    for number in last_commit(&storage) + 1.. {
        if relaxed && number % 5 != 0 {
            storage.commit_relaxed(&numbered(number)).unwrap();
        } else {
            storage.commit(&numbered(number)).unwrap();
        }
        say(&format!("acknowledged {number}"));
    }
}

fn spawn(dir: &Path, engine: EngineKind, relaxed: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if relaxed {
        command.env(RELAXED, "1");
    }
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ENGINE, engine.name())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child run until it has acknowledged `commits` more, kills it, and gives the last number it acknowledged.
fn run_and_kill(dir: &Path, engine: EngineKind, relaxed: bool, commits: usize) -> Option<u32> {
    let mut child = spawn(dir, engine, relaxed);
    let mut last = None;
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(number) = line.strip_prefix("acknowledged ") {
            last = Some(number.parse().unwrap());
            seen += 1;
        }
        // Lines that are still in the pipe are read to the end: they were acknowledged too.
        if (commits == 0 && line == "opening") || (commits > 0 && seen == commits) {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself");
    last
}

with_each_engine!(
    a_killed_process_loses_nothing_acknowledged,
    a_killed_process_loses_nothing_acknowledged_before_the_sync,
);

fn a_killed_process_loses_nothing_acknowledged(engine: EngineKind) {
    kill_again_and_again(engine, false);
}

fn a_killed_process_loses_nothing_acknowledged_before_the_sync(engine: EngineKind) {
    kill_again_and_again(engine, true);
}

fn kill_again_and_again(engine: EngineKind, relaxed: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    // 0: killed while it opens, sometimes during the very creation.
    for commits in [0, 1, 7, 0, 60, 150, 0, 33] {
        acknowledged = run_and_kill(dir.path(), engine, relaxed, commits).unwrap_or(acknowledged);
        let storage = open(dir.path(), engine).unwrap();
        let found = last_commit(&storage);
        assert!(
            found >= acknowledged,
            "commit {acknowledged} was acknowledged, the last one found is {found}"
        );
        assert!(
            found <= acknowledged + 1,
            "commit {found} found, but {acknowledged} was the last one acknowledged"
        );
        acknowledged = found;
    }
    assert!(acknowledged >= 200);
}
