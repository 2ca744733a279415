//! Every engine keeps the contract.
#![allow(
    clippy::unwrap_used,
    reason = "test code: a failure is meant to end the test"
)]

use std::path::PathBuf;

use storage::testing::conformance::{self, Reopen};
use storage::testing::{Fault, FaultyStorage};
use storage::{
    Batch, EngineKind, MemoryStorage, Space, Storage, StorageError, open, open_redb, open_sled,
};
use tempfile::TempDir;

/// Data directories below one temporary directory; each `make` gets a fresh one.
struct Dirs {
    root: TempDir,
    next: std::cell::Cell<u32>,
}

impl Dirs {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            next: 0.into(),
        }
    }

    fn fresh(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.root.path().join(self.next.get().to_string())
    }
}

#[test]
fn memory() {
    conformance::run(MemoryStorage::new);
    assert!(MemoryStorage::new().is_volatile());
}

#[test]
fn faulty_without_faults() {
    conformance::run(|| FaultyStorage::new(MemoryStorage::new()));
}

#[test]
fn faulty_holding_back_reads_like_any_other() {
    conformance::run(|| {
        let faulty = FaultyStorage::new(MemoryStorage::new());
        faulty.set_holds_back(true).unwrap();
        faulty
    });
}

#[test]
fn sled() {
    let dirs = Dirs::new();
    conformance::run(|| open_sled(&dirs.fresh()).unwrap());
}

#[test]
fn redb() {
    let dirs = Dirs::new();
    conformance::run(|| open_redb(&dirs.fresh()).unwrap());
}

struct Dir(PathBuf, EngineKind);

impl Reopen for Dir {
    type Engine = Box<dyn Storage>;
    fn open(&self) -> Self::Engine {
        open(&self.0, self.1).unwrap()
    }
}

struct FaultyDir(PathBuf, EngineKind);

impl Reopen for FaultyDir {
    type Engine = FaultyStorage<Box<dyn Storage>>;
    fn open(&self) -> Self::Engine {
        FaultyStorage::new(open(&self.0, self.1).unwrap())
    }
}

#[test]
fn engines_on_disk_keep_their_data() {
    let dirs = Dirs::new();
    for engine in EngineKind::ALL {
        conformance::run_reopen(&Dir(dirs.fresh(), *engine));
        conformance::run_reopen(&FaultyDir(dirs.fresh(), *engine));
    }
}

#[test]
fn a_directory_of_another_engine_is_refused_with_the_way_out() {
    let dirs = Dirs::new();
    for (found, wanted) in [
        (EngineKind::Sled, EngineKind::Redb),
        (EngineKind::Redb, EngineKind::Sled),
    ] {
        let dir = dirs.fresh();
        open(&dir, found).unwrap().commit(&put("a")).unwrap();
        assert_eq!(storage::engine_of(&dir), Ok(Some(found)));
        let error = open(&dir, wanted).err().unwrap();
        let path = dir.clone();
        assert_eq!(
            error,
            StorageError::OtherEngine {
                path,
                found,
                wanted
            }
        );
        let hint = format!("reynard storage migrate {} --to {wanted}", dir.display());
        assert!(error.to_string().contains(&hint), "{error}");
        let kept = open(&dir, found).unwrap().get(Space(1), b"a").unwrap();
        assert_eq!(kept, Some(b"v".to_vec()), "nothing was touched");
    }
    assert_eq!(storage::engine_of(&dirs.fresh()), Ok(None));
}

fn put(key: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(Space(1), key, "v");
    batch
}

#[test]
fn scripted_faults_strike_once_and_leave_nothing() {
    let faulty = FaultyStorage::new(MemoryStorage::new());
    faulty.fail(Fault::Commit, 1, StorageError::Full);
    faulty.fail(Fault::Get, 0, StorageError::Io { what: "get".into() });
    faulty.fail(
        Fault::Scan,
        0,
        StorageError::Io {
            what: "scan".into(),
        },
    );
    faulty.commit(&put("a")).unwrap();
    assert_eq!(faulty.commit(&put("b")), Err(StorageError::Full));
    assert!(faulty.get(Space(1), b"a").is_err());
    assert!(faulty.scan(Space(1), b"", &mut |_, _| true).is_err());
    assert!(faulty.get(Space(1), b"a").unwrap().is_some());
    assert_eq!(faulty.get(Space(1), b"b").unwrap(), None);
}

#[test]
fn lies_and_power_losses_lose_what_was_acknowledged() {
    let faulty = FaultyStorage::new(MemoryStorage::new());
    faulty.set_lies(true);
    faulty.commit(&put("lie")).unwrap();
    faulty.set_lies(false);
    assert_eq!(faulty.get(Space(1), b"lie").unwrap(), None);

    faulty.set_holds_back(true).unwrap();
    faulty.commit(&put("lost")).unwrap();
    assert!(faulty.get(Space(1), b"lost").unwrap().is_some());
    faulty.power_loss();
    assert_eq!(faulty.get(Space(1), b"lost").unwrap(), None);
    faulty.commit(&put("kept")).unwrap();
    faulty.set_holds_back(false).unwrap();
    faulty.power_loss();
    assert!(faulty.get(Space(1), b"kept").unwrap().is_some());
}
