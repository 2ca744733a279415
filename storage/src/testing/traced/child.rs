//! The process that is traced: it commits numbered batches and says each answer.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::telling;
use crate::testing::workload::{content, content_after, found_commit, numbered};
use crate::{EngineKind, Storage, StorageError, open};

const DIR: &str = "REYNARD_TRACED_DIR";
const ENGINE: &str = "REYNARD_TRACED_ENGINE";
const COMMITS: &str = "REYNARD_TRACED_COMMITS";
const ENDING: &str = "REYNARD_TRACED_ENDING";
/// So often a refused commit is tried again.
const ATTEMPTS: u32 = 3;

/// What a life of the process is.
#[derive(Clone, Debug)]
pub struct Life {
    /// The data directory.
    pub dir: PathBuf,
    /// Its engine.
    pub engine: EngineKind,
    /// So many commits.
    pub commits: u32,
    /// Whether it closes the database at its end.
    pub closes: bool,
}

impl Life {
    /// Gives it to a command that will call [`run`].
    pub fn put_into(&self, command: &mut Command) {
        command
            .env(DIR, &self.dir)
            .env(ENGINE, self.engine.name())
            .env(COMMITS, self.commits.to_string())
            .env(ENDING, if self.closes { "close" } else { "exit" });
    }

    fn from_environment() -> Option<Self> {
        Some(Self {
            dir: std::env::var_os(DIR)?.into(),
            engine: std::env::var(ENGINE).ok()?.parse().ok()?,
            commits: std::env::var(COMMITS).ok()?.parse().ok()?,
            closes: std::env::var(ENDING).ok()? == "close",
        })
    }
}

/// Commits numbered batches, some of them relaxed, and says on stdout what happens, a line each: `acknowledged N`,
/// `relaxed N`, `refused N: KIND: ERROR`, `not opened: ERROR`, `wrong read after N: WHAT`, `end`, and `told: TEXT` for
/// each warning and error that an operator would see. Returns at once, and false, in a process that is no child.
pub fn run() -> bool {
    let Some(life) = Life::from_environment() else {
        return false;
    };
    telling::begin();
    match open(&life.dir, life.engine) {
        Ok(storage) => live(&life, storage),
        Err(error) => say(&format!("not opened: {error}")),
    }
    say("end");
    true
}

fn live(life: &Life, storage: Box<dyn Storage>) {
    let first = match found_commit(&storage) {
        Ok(found) => found + 1,
        Err(error) => return say(&format!("not read: {error}")),
    };
    for number in first..first + life.commits {
        if !attempt(&storage, number) {
            break;
        }
    }
    if !life.closes {
        say("end");
        std::process::exit(0);
    }
}

/// True for the commits that need not be synced.
fn is_relaxed(number: u32) -> bool {
    matches!(number % 8, 4..=6)
}

/// Whether the commit was acknowledged in the end.
fn attempt(storage: &impl Storage, number: u32) -> bool {
    for _ in 0..ATTEMPTS {
        let (outcome, word) = match is_relaxed(number) {
            true => (storage.commit_relaxed(&numbered(number)), "relaxed"),
            false => (storage.commit(&numbered(number)), "acknowledged"),
        };
        let reached = match &outcome {
            Ok(()) => number,
            Err(_) => number - 1,
        };
        match &outcome {
            Ok(()) => say(&format!("{word} {number}")),
            Err(error) => say(&format!("refused {number}: {}: {error}", error.kind())),
        }
        if let Err(wrong) = read_back(storage, reached) {
            say(&format!("wrong read after {reached}: {wrong}"));
        }
        if outcome.is_ok() {
            return true;
        }
    }
    false
}

/// What can be read must be what was acknowledged; not being able to read is an answer as well.
fn read_back(storage: &impl Storage, reached: u32) -> Result<(), String> {
    match content(storage) {
        Ok(found) if found == content_after(reached) => Ok(()),
        Ok(_) => Err("something else".into()),
        Err(StorageError::Damaged { what, where_ }) => Err(format!("{what}, in {where_}")),
        Err(_) => Ok(()),
    }
}

pub(super) fn say(line: &str) {
    // The harness of a test may have begun a line.
    let mut out = io::stdout().lock();
    let _closed = out
        .write_all(format!("\n{line}\n").as_bytes())
        .and_then(|()| out.flush());
}

/// What is found in a directory: nothing may be there in part.
pub(super) fn found_in(dir: &Path, engine: EngineKind) -> Result<u32, String> {
    let storage = open(dir, engine).map_err(|error| error.to_string())?;
    found_commit(&storage)
}
