//! An engine that fails on command.
//!
//! It wraps any other engine. Faults are scripted per operation and used up in order; modes stay until changed.
//!
//! Commits are kept back in a list of their own in power-loss mode: reads see them, but [`FaultyStorage::power_loss`]
//! forgets them, as a disk does that acknowledged without writing.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::{Condvar, Mutex};

use crate::engine::flat_key;
use crate::{Batch, Op, Space, Storage, StorageError};

/// Where a scripted failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In `commit`; nothing is applied.
    Commit,
    /// In `get`.
    Get,
    /// In `scan`, before the first record.
    Scan,
    /// In `sync`.
    Sync,
}

/// Wraps an engine and makes it fail as a test demands.
pub struct FaultyStorage<S> {
    inner: S,
    state: Mutex<State>,
    gate: Condvar,
}

#[derive(Default)]
struct State {
    commit_faults: VecDeque<Option<StorageError>>,
    get_faults: VecDeque<Option<StorageError>>,
    scan_faults: VecDeque<Option<StorageError>>,
    max_batch_bytes: Option<usize>,
    lies: bool,
    holds_back: bool,
    unsynced: Batch,
    gate_closed: bool,
    waiting: usize,
    commits: u64,
    relaxed: u64,
    syncs: u64,
    sync_faults: VecDeque<Option<StorageError>>,
}

impl State {
    fn faults(&mut self, at: Fault) -> &mut VecDeque<Option<StorageError>> {
        match at {
            Fault::Commit => &mut self.commit_faults,
            Fault::Get => &mut self.get_faults,
            Fault::Scan => &mut self.scan_faults,
            Fault::Sync => &mut self.sync_faults,
        }
    }

    fn strike(&mut self, at: Fault) -> Result<(), StorageError> {
        self.faults(at).pop_front().flatten().map_or(Ok(()), Err)
    }
}

impl<S: Storage> FaultyStorage<S> {
    /// Wraps `inner`; without further calls it behaves exactly like it.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            state: Mutex::default(),
            gate: Condvar::new(),
        }
    }

    /// The wrapped engine.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the wrapped engine back; what power-loss mode held back is lost.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// The operation fails once, after `skip` further successful ones behind those already scripted.
    pub fn fail(&self, at: Fault, skip: usize, error: StorageError) {
        let mut state = self.state.lock();
        let faults = state.faults(at);
        faults.extend(std::iter::repeat_n(None, skip));
        faults.push_back(Some(error));
    }

    /// Commits heavier than `bytes` fail with `Full`; `None` ends it.
    pub fn set_room(&self, bytes: Option<usize>) {
        self.state.lock().max_batch_bytes = bytes;
    }

    /// While on, commits are acknowledged and dropped.
    pub fn set_lies(&self, on: bool) {
        self.state.lock().lies = on;
    }

    /// While on, commits are visible but lost by the next `power_loss`; turning it off syncs them.
    ///
    /// # Errors
    /// Those of the wrapped engine when the held back commits are written.
    pub fn set_holds_back(&self, on: bool) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.holds_back = on;
        if !on && !state.unsynced.is_empty() {
            let batch = std::mem::take(&mut state.unsynced);
            return self.inner.commit(&batch);
        }
        Ok(())
    }

    /// The power goes and comes back: what was held back is gone.
    pub fn power_loss(&self) {
        self.state.lock().unsynced = Batch::new();
    }

    /// From now on commits wait inside the engine.
    pub fn close_gate(&self) {
        self.state.lock().gate_closed = true;
    }

    /// Lets the waiting commits and all later ones pass.
    pub fn open_gate(&self) {
        self.state.lock().gate_closed = false;
        self.gate.notify_all();
    }

    /// Blocks until a commit waits at the closed gate.
    pub fn wait_for_commit_at_gate(&self) {
        let mut state = self.state.lock();
        while state.waiting == 0 {
            self.gate.wait(&mut state);
        }
    }

    /// Blocks until `syncs` syncs were asked for.
    pub fn wait_for_syncs(&self, syncs: u64) {
        let mut state = self.state.lock();
        while state.syncs < syncs {
            self.gate.wait(&mut state);
        }
    }

    /// How many of the commits were relaxed.
    pub fn relaxed(&self) -> u64 {
        self.state.lock().relaxed
    }

    /// How many syncs were asked for.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// How many commits were asked for, failed ones included.
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }
}

impl<S: Storage> Storage for FaultyStorage<S> {
    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn is_volatile(&self) -> bool {
        self.inner.is_volatile()
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut state = self.state.lock();
        state.strike(Fault::Get)?;
        let held_back = state
            .unsynced
            .ops()
            .iter()
            .rev()
            .find(|op| op.space() == space && op.key() == key);
        match held_back {
            Some(op) => Ok(op.value().map(<[u8]>::to_vec)),
            None => self.inner.get(space, key),
        }
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.strike(Fault::Scan)?;
        let held_back: Vec<Op> = state.unsynced.ops().to_vec();
        drop(state);
        if held_back.is_empty() {
            return self.inner.scan(space, prefix, visit);
        }
        let mut records = BTreeMap::new();
        self.inner.scan(space, prefix, &mut |key, value| {
            records.insert(key.to_vec(), value.to_vec());
            true
        })?;
        let first = flat_key(space, prefix);
        for op in held_back
            .iter()
            .filter(|op| flat_key(op.space(), op.key()).starts_with(&first))
        {
            match op.value() {
                Some(value) => records.insert(op.key().to_vec(), value.to_vec()),
                None => records.remove(op.key()),
            };
        }
        for (key, value) in &records {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        crate::engine::refuse_engine_space(batch)?;
        let mut state = self.state.lock();
        state.commits += 1;
        state.waiting += 1;
        while state.gate_closed {
            self.gate.notify_all();
            self.gate.wait(&mut state);
        }
        state.waiting -= 1;
        state.strike(Fault::Commit)?;
        if state
            .max_batch_bytes
            .is_some_and(|room| batch.bytes() > room)
        {
            return Err(StorageError::Full);
        }
        if state.lies {
            return Ok(());
        }
        if state.holds_back {
            state.unsynced.append(batch.clone());
            return Ok(());
        }
        drop(state);
        self.inner.commit(batch)
    }

    /// Held back like a commit; the scripted faults of `Commit` strike here too.
    fn commit_relaxed(&self, batch: &Batch) -> Result<(), StorageError> {
        self.state.lock().relaxed += 1;
        self.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.syncs += 1;
        self.gate.notify_all();
        state.strike(Fault::Sync)?;
        drop(state);
        self.inner.sync()
    }
}
