//! A realm behind its lock.

use super::clock::Clock;
use crate::model::{Command, Now, Payload, Topic};
use crate::outbox::Outbox;
use crate::realm::{Effects, Load, Realm};
use crate::session::{Connection, Leave};
use bytestring::ByteString;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Instant;
use storage::{Batch, Durability, Found, GroupCommit, Read, StorageError, Ticket};

/// A realm and what surrounds it.
pub struct RealmCell {
    owner: u64,
    name: ByteString,
    state: Mutex<State>,
    durability: Durability,
    commits: Option<Arc<GroupCommit>>,
    clock: Arc<Clock>,
}

struct State {
    realm: Realm,
    effects: Effects,
    /// Raised after each failed commit, so that what was submitted before it is not attempted.
    epoch: u32,
    /// The deadline the clock knows of.
    deadline: Option<Instant>,
    /// Removed from the hub: nobody may enter any more.
    closed: bool,
}

/// What a run leaves to be done by the caller.
#[derive(Debug, Default)]
pub struct Ran {
    /// Receivers that are filling up: wait for room before reading more.
    pub pressed: Vec<Arc<Outbox>>,
}

impl std::fmt::Debug for RealmCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealmCell")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RealmCell {
    pub(super) fn new(
        owner: u64,
        realm: Realm,
        durability: Durability,
        commits: Option<Arc<GroupCommit>>,
        clock: Arc<Clock>,
    ) -> RealmCell {
        let state = State {
            realm,
            effects: Effects::default(),
            epoch: 0,
            deadline: None,
            closed: false,
        };
        let name = state.realm.name().clone();
        RealmCell {
            owner,
            name,
            state: Mutex::new(state),
            durability,
            commits,
            clock,
        }
    }

    /// The realm's name.
    #[must_use]
    pub fn name(&self) -> &ByteString {
        &self.name
    }

    /// Carries out a batch of commands of one connection under one lock.
    pub fn run(
        &self,
        now: Now,
        connection: Connection,
        commands: impl Iterator<Item = Command>,
    ) -> Ran {
        self.with(now, |realm, effects| {
            for command in commands {
                realm.handle(now, connection, command, effects);
            }
        })
        .1
    }

    /// The same, but stops behind a command that fills up a receiver; the rest of the commands is not taken then.
    pub fn run_until_pressed(
        &self,
        now: Now,
        connection: Connection,
        commands: impl Iterator<Item = Command>,
    ) -> Ran {
        self.with(now, |realm, effects| {
            for command in commands {
                realm.handle(now, connection, command, effects);
                if !effects.pressed.is_empty() {
                    return;
                }
            }
        })
        .1
    }

    /// The connection leaves.
    pub fn leave(&self, now: Now, connection: Connection, how: Leave) {
        self.with(now, |realm, effects| {
            realm.leave(now, connection, how, effects)
        });
    }

    /// Goes on with what waits for room in the connection's outbox.
    pub fn refill(&self, now: Now, connection: Connection) {
        self.with(now, |realm, effects| realm.refill(now, connection, effects));
    }

    /// Whether the store is so far behind that callers should stop reading.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.commits
            .as_ref()
            .is_some_and(|commits| commits.is_congested())
    }

    /// Reads something off the realm.
    pub fn inspect<R>(&self, read: impl FnOnce(&Realm) -> R) -> R {
        read(&self.state.lock().realm)
    }

    /// Sets status values; see [`Realm::set_status`]. Answers whether anybody listens to any.
    pub fn set_status(&self, now: Now, values: impl IntoIterator<Item = (Topic, Payload)>) -> bool {
        self.with(now, |realm, effects| realm.set_status(now, values, effects))
            .0
    }

    /// Forgets status values; see [`Realm::forget_status`].
    pub fn forget_status(&self, is_stale: impl Fn(&Topic) -> bool) {
        self.state.lock().realm.forget_status(is_stale);
    }

    /// Runs `work` under the lock, then lets its effects out.
    pub(super) fn with<R>(
        &self,
        now: Now,
        work: impl FnOnce(&mut Realm, &mut Effects) -> R,
    ) -> (R, Ran) {
        let mut state = self.state.lock();
        let State { realm, effects, .. } = &mut *state;
        let result = work(realm, effects);
        (result, self.let_out(now, state))
    }

    /// Like [`RealmCell::with`], unless the realm was closed.
    pub(super) fn enter<R>(
        &self,
        now: Now,
        work: impl FnOnce(&mut Realm, &mut Effects) -> R,
    ) -> Option<R> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let State { realm, effects, .. } = &mut *state;
        let result = work(realm, effects);
        self.let_out(now, state);
        Some(result)
    }

    /// Closes the realm if nothing would be lost; answers whether it is closed now.
    pub(super) fn close_if_idle(&self) -> bool {
        let mut state = self.state.lock();
        state.closed |= state.realm.is_idle();
        state.closed
    }

    /// Submits durable writes (still under the lock, so that their order is the realm's), tells the
    /// clock, and wakes the writers once the lock is free.
    fn let_out(&self, now: Now, mut state: MutexGuard<'_, State>) -> Ran {
        self.submit(now, &mut state);
        self.submit_reads(now, &mut state);
        let deadline = state.realm.next_deadline();
        if deadline != state.deadline {
            state.deadline = deadline;
            self.clock.set(self.owner, deadline);
        }
        let mut wake = std::mem::take(&mut state.effects.wake);
        let pressed = std::mem::take(&mut state.effects.pressed);
        drop(state);
        for outbox in wake.drain(..) {
            outbox.wake();
        }
        Ran { pressed }
    }

    fn submit(&self, now: Now, state: &mut State) {
        let State {
            realm,
            effects,
            epoch,
            ..
        } = state;
        let Some(seq) = realm.seal(effects) else {
            return;
        };
        let batch: Batch = std::mem::take(&mut effects.batch);
        let ticket = Ticket {
            owner: self.owner,
            epoch: *epoch,
            seq,
        };
        let Some(commits) = &self.commits else {
            realm.committed(now, seq, effects);
            return;
        };
        if commits.submit_as(ticket, self.durability, batch).is_err() {
            // The writer has stopped for the shutdown: nothing more can become durable.
            *epoch += 1;
            realm.commit_failed(now, effects);
        }
    }

    /// Asks for records in their turn, after the batch just submitted.
    fn submit_reads(&self, now: Now, state: &mut State) {
        let State { realm, effects, .. } = state;
        for load in std::mem::take(&mut effects.loads) {
            let Load {
                id,
                space,
                keys,
                max_bytes,
            } = load;
            let read = Read {
                owner: self.owner,
                id,
                space,
                keys,
                max_bytes,
            };
            let refused = match &self.commits {
                Some(commits) => commits.submit_read(read).err(),
                None => Some(StorageError::Stopped),
            };
            if let Some(error) = refused {
                realm.loaded(now, id, vec![Err(error)], effects);
            }
        }
    }

    /// What was found under the keys that the realm asked for.
    pub(super) fn read(&self, now: Now, id: u64, found: Vec<Found>) {
        self.with(now, |realm, effects| realm.loaded(now, id, found, effects));
    }

    /// What became of a batch.
    pub(super) fn committed(&self, now: Now, ticket: Ticket, result: &Result<(), StorageError>) {
        let mut state = self.state.lock();
        if ticket.epoch != state.epoch {
            return;
        }
        let State {
            realm,
            effects,
            epoch,
            ..
        } = &mut *state;
        match result {
            Ok(()) => realm.committed(now, ticket.seq, effects),
            Err(error) => {
                *epoch += 1;
                // Once for each time it goes down, not for every trial.
                if !realm.is_store_down() {
                    tracing::error!(realm = %self.name, %error, "the store refused a commit; durable writes are refused until it recovers");
                }
                realm.commit_failed(now, effects);
                self.clock.probe_later(self.owner, now.instant);
            }
        }
        self.let_out(now, state);
    }

    /// Does what is due, and tries a failed store again.
    pub(super) fn tick(&self, now: Now, probe: bool) {
        self.with(now, |realm, effects| {
            realm.tick(now, effects);
            if probe {
                realm.probe_store(effects);
            }
        });
    }

    /// The clock forgot the deadline by acting on it.
    pub(super) fn deadline_passed(&self) {
        self.state.lock().deadline = None;
    }
}
