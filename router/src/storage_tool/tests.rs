#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use super::*;
use router_core::records::{RECEIPTS, client_key};
use std::path::Path;
use storage::{Batch, Storage, open};

/// A directory with `count` records that the router could have written.
fn filled(dir: &Path, engine: EngineKind, count: u64) {
    let storage = open(dir, engine).unwrap();
    for number in 0..count {
        storage.commit(&receipt(number)).unwrap();
    }
}

fn receipt(number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(RECEIPTS, client_key("realm1", "client", number), "");
    batch
}

fn command(args: &[&str]) -> CliExit {
    use clap::Parser;
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: StorageCommand,
    }
    let line = Line::try_parse_from([&["storage"], args].concat()).unwrap();
    run(&line.command)
}

fn answer(args: &[&str], code: u8) -> Value {
    let exit = command(&[args, &["--json"]].concat());
    assert_eq!(exit.code, code, "{exit:?}");
    serde_json::from_str(&exit.stdout).unwrap()
}

fn receipts(dir: &Path, engine: EngineKind) -> u64 {
    let mut count = 0;
    let storage = open(dir, engine).unwrap();
    storage
        .scan(RECEIPTS, b"", &mut |_, _| {
            count += 1;
            true
        })
        .unwrap();
    count
}

#[test]
fn a_whole_directory_is_counted_and_a_foreign_record_is_damage() {
    for engine in EngineKind::ALL {
        let home = tempfile::tempdir().unwrap();
        let (dir, text) = (home.path().join("data"), home.path().join("data"));
        let text = text.to_str().unwrap();
        filled(&dir, *engine, 30);
        let found = answer(&["check", text], 0);
        assert_eq!(
            (&found["ok"], &found["by_space"]["receipts"]),
            (&true.into(), &30.into())
        );
        assert!(
            command(&["check", text])
                .stdout
                .contains("everything is whole")
        );
        let mut foreign = Batch::new();
        foreign.put(RECEIPTS, "no client", "");
        open(&dir, *engine).unwrap().commit(&foreign).unwrap();
        let found = answer(&["check", text], 3);
        assert_eq!(found["damaged_count"], 1);
        let repaired = answer(&["check", text, "--repair"], 0);
        assert_eq!(repaired["repaired"]["records"], 30);
        assert!(Path::new(repaired["repaired"]["cut"].as_str().unwrap()).exists());
        assert!(Path::new(repaired["repaired"]["backup"].as_str().unwrap()).is_dir());
        assert_eq!(answer(&["check", text], 0)["records"], 30);
    }
}

#[test]
fn a_directory_migrates_there_and_back_and_keeps_what_it_was() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let text = dir.to_str().unwrap();
    filled(&dir, EngineKind::Sled, 50);
    let there = answer(&["migrate", text, "--to", "redb"], 0);
    assert_eq!(
        (&there["records"], &there["migrated"]),
        (&50.into(), &true.into())
    );
    assert_eq!(receipts(&dir, EngineKind::Redb), 50);
    let backup = there["backup"].as_str().unwrap();
    assert_eq!(receipts(Path::new(backup), EngineKind::Sled), 50);
    assert_eq!(
        answer(&["migrate", text, "--to", "redb"], 0)["migrated"],
        false
    );
    let back = answer(&["migrate", text, "--to", "sled"], 0);
    assert_ne!(
        back["backup"], there["backup"],
        "an older backup is not written over"
    );
    assert_eq!(receipts(&dir, EngineKind::Sled), 50);
}

#[test]
fn compacting_gives_room_back_and_leaves_no_backup() {
    for engine in EngineKind::ALL {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let storage = open(&dir, *engine).unwrap();
        for round in 0..40_u8 {
            let mut batch = receipt(round.into());
            batch.put(records::META, "large", vec![round; 200_000]);
            storage.commit(&batch).unwrap();
        }
        let mut batch = Batch::new();
        batch.delete(records::META, "large");
        storage.commit(&batch).unwrap();
        drop(storage);
        let done = answer(&["compact", dir.to_str().unwrap()], 0);
        let bytes = |name: &str| done[name].as_u64().unwrap();
        assert!(bytes("bytes_after") <= bytes("bytes_before"), "{done}");
        assert_eq!(receipts(&dir, *engine), 40);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_cannot_be_opened_is_exit_code_3() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let text = dir.to_str().unwrap();
    for args in [
        &["check", text][..],
        &["compact", text],
        &["migrate", text, "--to", "redb"],
    ] {
        assert_eq!(answer(args, 3)["ok"], false);
        assert!(!dir.exists(), "{args:?} made a directory");
    }
    filled(&dir, EngineKind::Sled, 1);
    let open = open(&dir, EngineKind::Sled).unwrap();
    let error = answer(&["check", text], 3);
    assert_eq!(error["error"], "locked", "{error}");
    drop(open);
}
