//! Group commit: many small batches, few fsyncs, every owner told in order.
//!
//! One thread takes whatever has been queued while the last commit ran and writes it as one storage commit, bounded
//! in bytes. Invariants:
//! - Outcomes are reported in submit order, each ticket exactly once.
//! - A batch is durable before its ticket is reported `Ok`, unless it was submitted as [`Durability::Interval`], when it is
//!   at most that much later, or [`Durability::None`]. A commit is synced if any batch in it asks for it.
//! - After a ticket of an owner failed, later tickets of that owner with an epoch no higher than the failed one are
//!   `Superseded` and never attempted: they build on state that was not stored. The owner rolls its memory back and
//!   submits under a higher epoch. Epochs of an owner never decrease.
//! - One owner's failure is not another's: a merged commit that fails is repeated owner by owner.
//! - A read sees every batch submitted before it whose outcome was `Ok`, and is answered after those outcomes.
//! - The queue is bounded by its users: above the high-water mark [`GroupCommit::is_congested`] is true and gates stop
//!   reading their sockets; `submit` itself never blocks and never refuses for size.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::durability::SyncTimer;
use crate::{Batch, Durability, Space, Storage, StorageError};

/// Names one submitted batch towards its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Who submitted it: failures of one owner do not touch others.
    pub owner: u64,
    /// The owner's generation; raised by the owner when it has rolled back after a failure.
    pub epoch: u32,
    /// The owner's own number for the batch; not interpreted here.
    pub seq: u64,
}

/// What became of one submitted batch.
pub type Outcome = (Ticket, Result<(), StorageError>);

/// Asks for records as they are after everything submitted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Who asks.
    pub owner: u64,
    /// The owner's own number for the request; not interpreted here.
    pub id: u64,
    /// Where the records are.
    pub space: Space,
    /// Their keys.
    pub keys: Vec<Vec<u8>>,
    /// Reading stops before the keys are used up once this many bytes of values were read.
    pub max_bytes: usize,
}

/// What was found under one key, as [`Storage::get`] answers it.
pub type Found = Result<Option<Vec<u8>>, StorageError>;

/// Is told what became of submitted batches and reads, on the writer's thread. Both methods may call `submit` and
/// `submit_read`, must not call `shutdown`, and should return soon: the next commit waits for them.
pub trait CommitListener: Send + Sync {
    /// Outcomes in submit order.
    fn committed(&self, outcomes: &[Outcome]);

    /// The answer to the read `id` of `owner`: what was found under its keys, in their order, one at least unless none
    /// was asked for.
    fn read(&self, owner: u64, id: u64, found: Vec<Found>);
}

/// Bounds of the queue and of one commit, in bytes as [`Batch::bytes`] counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Batches are merged up to this size; a single larger batch is still written, alone.
    pub max_commit_bytes: usize,
    /// ... and up to this many operations: an engine may need some kilobytes for each until the commit is done.
    pub max_commit_ops: usize,
    /// Above this the writer reports congestion, until the queue has fallen to half of it.
    pub high_water_bytes: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            max_commit_bytes: 4 << 20,
            max_commit_ops: 8_192,
            high_water_bytes: 64 << 20,
        }
    }
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Storage commits that succeeded.
    pub commits: u64,
    /// Storage commits that failed, repeats included.
    pub failed_commits: u64,
    /// Times the disk was waited for: commits that were synced, and syncs of what relaxed ones left.
    pub syncs: u64,
    /// Records written or removed by commits; divided by `syncs`, how many shared the wait.
    pub writes: u64,
    /// Batches made durable.
    pub batches: u64,
    /// Batches reported with an error, superseded ones included.
    pub failures: u64,
    /// Of these, the batches not attempted because an earlier one had failed.
    pub superseded: u64,
    /// Weight of the batches made durable, in bytes.
    pub bytes: u64,
    /// Time spent in storage commits, fsync included.
    pub commit_time: Duration,
    /// Records asked for and read, absent ones included.
    pub reads: u64,
    /// Records that could not be read.
    pub failed_reads: u64,
    /// The latest storage error, kept until the process ends.
    pub last_error: Option<StorageError>,
    /// Batches waiting or being written.
    pub queued_batches: usize,
    /// Their weight in bytes.
    pub queued_bytes: usize,
}

/// The writer: one thread, one queue.
pub struct GroupCommit {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    stats: Mutex<GroupStats>,
    limits: GroupLimits,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Weight of the entries and of the group being written.
    bytes: usize,
    batches: usize,
    congested: bool,
    stopped: bool,
}

enum Entry {
    Commit(Ticket, Durability, Batch),
    Read(Read),
    Forget(u64),
}

impl GroupCommit {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// If the operating system refuses the thread.
    pub fn spawn(
        storage: Arc<dyn Storage>,
        listener: Arc<dyn CommitListener>,
        limits: GroupLimits,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            stats: Mutex::default(),
            limits,
        });
        let mut writer = Writer {
            shared: shared.clone(),
            storage,
            listener,
            failed_epochs: HashMap::new(),
            timer: SyncTimer::default(),
            unsynced: false,
        };
        let thread = std::thread::Builder::new()
            .name("group-commit".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues a batch; the listener is told later. Never blocks. An empty batch is reported in its turn like any other.
    ///
    /// # Errors
    /// `Stopped` after `shutdown`; the listener is then not told of this ticket.
    pub fn submit(&self, ticket: Ticket, batch: Batch) -> Result<(), StorageError> {
        self.submit_as(ticket, Durability::Always, batch)
    }

    /// The same for a batch that may be acknowledged before it is on the disk.
    ///
    /// # Errors
    /// As for [`GroupCommit::submit`].
    pub fn submit_as(
        &self,
        ticket: Ticket,
        durability: Durability,
        batch: Batch,
    ) -> Result<(), StorageError> {
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            return Err(StorageError::Stopped);
        }
        queue.bytes = queue.bytes.saturating_add(batch.bytes());
        queue.batches += 1;
        if queue.bytes > self.shared.limits.high_water_bytes {
            queue.congested = true;
        }
        queue
            .entries
            .push_back(Entry::Commit(ticket, durability, batch));
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Queues a read; the listener is told later. Never blocks.
    ///
    /// # Errors
    /// `Stopped` after `shutdown`; the listener is then not told of this read.
    pub fn submit_read(&self, read: Read) -> Result<(), StorageError> {
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            return Err(StorageError::Stopped);
        }
        queue.entries.push_back(Entry::Read(read));
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Says that `owner` is gone and will submit nothing more, so that its failed epoch need not be remembered.
    pub fn forget(&self, owner: u64) {
        let mut queue = self.shared.queue.lock();
        if !queue.stopped {
            queue.entries.push_back(Entry::Forget(owner));
            drop(queue);
            self.shared.wake.notify_one();
        }
    }

    /// Weight of everything submitted and not yet reported, in bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.lock().bytes
    }

    /// True from the moment the queue exceeds the high-water mark until it has fallen to half of it.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.shared.queue.lock().congested
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        let mut stats = self.shared.stats.lock().clone();
        let queue = self.shared.queue.lock();
        stats.queued_batches = queue.batches;
        stats.queued_bytes = queue.bytes;
        stats
    }

    /// Refuses further batches, writes and reports everything queued, then ends the thread. A second call waits for
    /// the first one. Must not be called by the listener.
    pub fn shutdown(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the group-commit thread ended with a panic");
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// What the thread owns.
struct Writer {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    listener: Arc<dyn CommitListener>,
    failed_epochs: HashMap<u64, u32>,
    /// When relaxed commits must be on the disk.
    timer: SyncTimer,
    /// Something was committed without a sync.
    unsynced: bool,
}

/// What the writer does next.
enum Work {
    Write(Group),
    Sync,
    End,
}

/// Batches that are written by one commit, with room for their outcomes.
#[derive(Default)]
struct Group {
    members: Vec<(Ticket, Durability, Batch)>,
    bytes: usize,
    ops: usize,
    /// Carried out after the commit: so they see what was submitted before them, and do not break up the group.
    reads: Vec<Read>,
}

/// A member that was attempted: its place among the outcomes and its operations in the merged batch.
type Attempt = (usize, Range<usize>);

impl Writer {
    fn run(&mut self) {
        loop {
            let mut group = match self.next_work() {
                Work::Write(group) => group,
                Work::Sync => {
                    self.sync(Instant::now());
                    continue;
                }
                Work::End => break,
            };
            let reads = std::mem::take(&mut group.reads);
            if !group.members.is_empty() {
                let (bytes, batches) = (group.bytes, group.members.len());
                let outcomes = self.write(group);
                self.count(&outcomes);
                // The weight leaves the queue before the listener hears of it: what it does next (resume reading) must
                // see the room that has become free.
                self.release(bytes, batches);
                self.report(outcomes.len(), |listener| listener.committed(&outcomes));
            }
            for read in reads {
                let found = self.read(&read);
                self.report(1, |listener| listener.read(read.owner, read.id, found));
            }
        }
        if self.unsynced {
            self.sync(Instant::now());
        }
    }

    /// Waits for work. A sync that is due comes first: load does not put it off.
    fn next_work(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut queue = shared.queue.lock();
        loop {
            if self.timer.due().is_some_and(|due| due <= Instant::now()) {
                return Work::Sync;
            }
            let mut group = Group::default();
            while let Some(entry) = queue.entries.pop_front() {
                match entry {
                    // In its turn: tickets of this owner that were queued before it must still find the epoch.
                    Entry::Forget(owner) if group.members.is_empty() => {
                        self.failed_epochs.remove(&owner);
                    }
                    Entry::Commit(_, _, ref batch) if !group.admits(batch, shared.limits) => {
                        queue.entries.push_front(entry);
                        break;
                    }
                    Entry::Commit(ticket, durability, batch) => {
                        group.push(ticket, durability, batch);
                    }
                    Entry::Read(read) => group.reads.push(read),
                    Entry::Forget(_) => {
                        queue.entries.push_front(entry);
                        break;
                    }
                }
            }
            if !group.members.is_empty() || !group.reads.is_empty() {
                return Work::Write(group);
            }
            if queue.stopped {
                return Work::End;
            }
            match self.timer.due() {
                Some(due) => drop(shared.wake.wait_until(&mut queue, due)),
                None => shared.wake.wait(&mut queue),
            }
        }
    }

    /// Writes the group and says, in submit order, what became of each member.
    fn write(&mut self, group: Group) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(group.members.len());
        let mut merged = Batch::new();
        let mut attempted: Vec<Attempt> = Vec::with_capacity(group.members.len());
        let mut durabilities = Vec::with_capacity(group.members.len());
        for (place, (ticket, durability, batch)) in group.members.into_iter().enumerate() {
            if self.is_superseded(ticket) {
                outcomes.push((ticket, Err(StorageError::Superseded)));
                continue;
            }
            outcomes.push((ticket, Ok(())));
            let begin = merged.len();
            merged.append(batch);
            attempted.push((place, begin..merged.len()));
            durabilities.push(durability);
        }
        if let Err(error) = self.commit_for(&merged, &durabilities) {
            self.write_by_owner(&merged, &attempted, &durabilities, &error, &mut outcomes);
        }
        outcomes
    }

    /// After a merged commit failed: each owner's part on its own, unless there was only one owner.
    fn write_by_owner(
        &mut self,
        merged: &Batch,
        attempted: &[Attempt],
        durabilities: &[Durability],
        error: &StorageError,
        outcomes: &mut [Outcome],
    ) {
        let mut parts: Vec<(u64, Vec<&Attempt>)> = Vec::new();
        let mut part_of: HashMap<u64, usize> = HashMap::new();
        for member in attempted {
            let owner = outcomes[member.0].0.owner;
            let part = *part_of.entry(owner).or_insert_with(|| {
                parts.push((owner, Vec::new()));
                parts.len() - 1
            });
            parts[part].1.push(member);
        }
        let alone = parts.len() == 1;
        for (owner, members) in parts {
            let own = || {
                members
                    .iter()
                    .flat_map(|(_, ops)| &merged.ops()[ops.clone()])
                    .cloned()
                    .collect()
            };
            let result = if alone {
                Err(error.clone())
            } else {
                self.commit_for(&own(), durabilities)
            };
            let Err(error) = result else { continue };
            for (place, _) in members {
                let (ticket, outcome) = &mut outcomes[*place];
                *outcome = Err(error.clone());
                let failed = self.failed_epochs.entry(owner).or_insert(ticket.epoch);
                *failed = ticket.epoch.max(*failed);
            }
        }
    }

    fn is_superseded(&mut self, ticket: Ticket) -> bool {
        match self.failed_epochs.get(&ticket.owner) {
            Some(failed) if ticket.epoch <= *failed => true,
            Some(_) => {
                // Epochs never decrease, so the memory of the failed one has served.
                self.failed_epochs.remove(&ticket.owner);
                false
            }
            None => false,
        }
    }

    /// Commits for members of those durabilities: synced if one asks for it, as then it costs the others nothing.
    fn commit_for(
        &mut self,
        batch: &Batch,
        durabilities: &[Durability],
    ) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let storage = self.storage.clone();
        if durabilities.contains(&Durability::Always) {
            self.commit(batch, || storage.commit(batch))?;
            self.synced();
            return Ok(());
        }
        self.commit(batch, || storage.commit_relaxed(batch))?;
        self.unsynced = true;
        let now = Instant::now();
        for durability in durabilities {
            self.timer.relaxed(now, *durability);
        }
        Ok(())
    }

    /// Makes durable what relaxed commits left.
    fn sync(&mut self, now: Instant) {
        let storage = self.storage.clone();
        match self.commit(&Batch::new(), || storage.sync()) {
            Ok(()) => self.synced(),
            Err(error) => {
                tracing::error!(%error, "what was acknowledged before the sync is not on the disk yet; it will be tried again");
                self.timer.failed(now);
            }
        }
    }

    fn synced(&mut self) {
        self.timer.synced();
        self.unsynced = false;
        self.shared.stats.lock().syncs += 1;
    }

    fn commit(
        &self,
        batch: &Batch,
        call: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            Err(StorageError::Io {
                what: format!("the engine {} panicked in a commit", self.storage.engine()),
            })
        });
        let mut stats = self.shared.stats.lock();
        stats.commit_time += begun.elapsed();
        match &result {
            Ok(()) => {
                stats.commits += 1;
                stats.bytes += batch.bytes() as u64;
                stats.writes += batch.ops().len() as u64;
            }
            Err(error) => {
                stats.failed_commits += 1;
                stats.last_error = Some(error.clone());
            }
        }
        drop(stats);
        result
    }

    fn read(&self, read: &Read) -> Vec<Found> {
        let mut found = Vec::with_capacity(read.keys.len());
        let mut bytes = 0_usize;
        for key in &read.keys {
            let record = self.get(read.space, key);
            bytes = bytes.saturating_add(
                record
                    .as_ref()
                    .map_or(0, |record| record.as_ref().map_or(0, Vec::len)),
            );
            found.push(record);
            if bytes >= read.max_bytes {
                break;
            }
        }
        let failed = found.iter().filter(|record| record.is_err()).count() as u64;
        let mut stats = self.shared.stats.lock();
        stats.reads += found.len() as u64 - failed;
        stats.failed_reads += failed;
        if let Some(Err(error)) = found.iter().rev().find(|record| record.is_err()) {
            stats.last_error = Some(error.clone());
        }
        found
    }

    fn get(&self, space: Space, key: &[u8]) -> Found {
        catch_unwind(AssertUnwindSafe(|| self.storage.get(space, key))).unwrap_or_else(|_| {
            Err(StorageError::Io {
                what: format!("the engine {} panicked in a read", self.storage.engine()),
            })
        })
    }

    fn count(&self, outcomes: &[Outcome]) {
        let mut stats = self.shared.stats.lock();
        for (_, outcome) in outcomes {
            match outcome {
                Ok(()) => stats.batches += 1,
                Err(StorageError::Superseded) => {
                    stats.failures += 1;
                    stats.superseded += 1;
                }
                Err(_) => stats.failures += 1,
            }
        }
    }

    fn release(&self, bytes: usize, batches: usize) {
        let mut queue = self.shared.queue.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.batches = queue.batches.saturating_sub(batches);
        if queue.bytes <= self.shared.limits.high_water_bytes / 2 {
            queue.congested = false;
        }
    }

    fn report(&self, outcomes: usize, tell: impl FnOnce(&dyn CommitListener)) {
        if catch_unwind(AssertUnwindSafe(|| tell(&*self.listener))).is_err() {
            tracing::error!(
                outcomes,
                "the commit listener panicked; its outcomes may be lost"
            );
        }
    }
}

impl Group {
    fn admits(&self, batch: &Batch, limits: GroupLimits) -> bool {
        let bytes = self.bytes.saturating_add(batch.bytes());
        let has_room =
            bytes <= limits.max_commit_bytes && self.ops + batch.len() <= limits.max_commit_ops;
        self.members.is_empty() || has_room
    }

    fn push(&mut self, ticket: Ticket, durability: Durability, batch: Batch) {
        self.bytes = self.bytes.saturating_add(batch.bytes());
        self.ops += batch.len();
        self.members.push((ticket, durability, batch));
    }
}

#[cfg(all(test, feature = "testing"))]
#[path = "group_tests.rs"]
mod tests;
