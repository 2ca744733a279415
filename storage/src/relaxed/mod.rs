//! Commits that need not be on the disk at once, over any engine.
//!
//! A relaxed commit is appended to a journal, which is written but not synced, and kept in memory above the engine.
//! The next commit that is synced takes all of it into the engine, in the same batch. So the engine's files change only
//! by commits that are synced, and whatever the journal loses, nothing that was on the disk before is touched.
//!
//! Invariants:
//! - What is read is the engine's content with the relaxed commits over it.
//! - A process that dies leaves the journal to the next start, which takes it in before anything is read.
//! - A journal is taken in once: the engine's mark says up to which journal it has been, in the batch that did it.
//! - Of a journal that ends badly the whole commits before the bad place count; the rest is put aside and reported.
//! - The journal is bounded: a commit that would make it larger than [`LIMIT_BYTES`] is synced.

pub(crate) mod journal;
mod scan;

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::disk::{Database, Guarded};
use crate::engine::{flat_key, refuse_engine_space};
use crate::{Batch, Op, Space, Storage, StorageError};
use journal::Journal;

/// Weight of the relaxed commits above which the next one is synced, in bytes as [`Batch::bytes`] counts them.
const LIMIT_BYTES: usize = 8 << 20;

/// An engine with a journal of relaxed commits over it.
pub struct Journaled<D: Database> {
    state: RwLock<State>,
    engine: Guarded<D>,
}

struct State {
    /// Flat key -> value, `None` if removed: what the engine does not have yet.
    pending: Pending,
    /// Weight of the pending commits.
    bytes: usize,
    journal: Journal,
    /// The journal or the engine has failed, other than for lack of room: nothing more is promised.
    failed: Option<StorageError>,
}

impl State {
    /// A device that refused once is not believed again until a restart has read what is there.
    fn failed_with(&mut self, error: StorageError) -> StorageError {
        if error != StorageError::Full {
            self.failed = Some(error.clone());
        }
        error
    }
}

type Pending = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl<D: Database> Journaled<D> {
    /// Takes in what a former process left in the journal; answers whether there was anything.
    ///
    /// # Errors
    /// `Damaged` if the journal belongs to a later state than the engine's; otherwise as for [`Storage::commit`].
    pub(crate) fn open(engine: Guarded<D>) -> Result<(Self, bool), StorageError> {
        let mark = engine.mark()?.unwrap_or(0);
        let path = engine.dir().journal();
        let left = journal::read(&path, mark)?;
        if left.commits > 0 {
            engine.commit_marked(&left.batch, Some(mark.saturating_add(1)))?;
            tracing::info!(
                commits = left.commits,
                "took in the journal of a process that ended early"
            );
        }
        journal::remove(&path)?;
        let next = mark.saturating_add(1 + u64::from(left.commits > 0));
        let state = State {
            pending: Pending::new(),
            bytes: 0,
            journal: Journal::new(path, next),
            failed: None,
        };
        let opened = Self {
            state: RwLock::new(state),
            engine,
        };
        Ok((opened, left.commits > 0))
    }

    fn commit_over(&self, state: &mut State, batch: &Batch) -> Result<(), StorageError> {
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.pending.is_empty() {
            return self.engine.commit_marked(batch, None);
        }
        let mut all: Batch = state.pending.iter().map(to_op).collect();
        all.append(batch.clone());
        let generation = state.journal.generation();
        let written = self.engine.commit_marked(&all, Some(generation));
        written.map_err(|error| state.failed_with(error))?;
        state.pending.clear();
        state.bytes = 0;
        state.journal.taken_in();
        Ok(())
    }
}

impl<D: Database> Storage for Journaled<D> {
    fn engine(&self) -> &'static str {
        self.engine.engine()
    }

    fn is_volatile(&self) -> bool {
        false
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let state = self.state.read();
        match state.pending.get(&flat_key(space, key)) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(space, key),
        }
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let state = self.state.read();
        scan::over(&state.pending, &self.engine, space, prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        refuse_engine_space(batch)?;
        self.commit_over(&mut self.state.write(), batch)
    }

    fn commit_relaxed(&self, batch: &Batch) -> Result<(), StorageError> {
        refuse_engine_space(batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let state = &mut *self.state.write();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let bytes = state.bytes.saturating_add(batch.bytes());
        if bytes > LIMIT_BYTES {
            return self.commit_over(state, batch);
        }
        let appended = state.journal.append(batch);
        appended.map_err(|error| state.failed_with(error))?;
        state.bytes = bytes;
        for op in batch.ops() {
            let key = flat_key(op.space(), op.key());
            state.pending.insert(key, op.value().map(<[u8]>::to_vec));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut state = self.state.write();
        if state.pending.is_empty() {
            return Ok(());
        }
        self.commit_over(&mut state, &Batch::new())
    }
}

impl<D: Database> Drop for Journaled<D> {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "relaxed commits stay in the journal until the next start");
        }
    }
}

fn to_op((flat, value): (&Vec<u8>, &Option<Vec<u8>>)) -> Op {
    let (space, key) = flat.split_first().unwrap_or((&0, &[]));
    let (space, key) = (Space(*space), key.to_vec());
    match value {
        Some(value) => Op::Put {
            space,
            key,
            value: value.clone(),
        },
        None => Op::Delete { space, key },
    }
}
