//! One realm, one owner: `handle(now, connection, command, effects)`.
//!
//! Nothing here waits, and nothing asks a clock. Answers that promise durability are held until
//! [`Realm::committed`] reports the commit they depend on; everything else goes to the outboxes at
//! once. Invariants:
//!
//! * Every command with a request is answered exactly once, every call ends in a result or an error.
//! * An outbox receives events in the order the realm accepted them.
//! * A rejected or parked conditional write has no effect anybody can see.
//! * All state of a session goes with it; wills are applied on the way.

mod call;
mod catchup;
mod handover;
mod ids;
mod inspect;
mod keys;
mod lifecycle;
mod lock;
mod meta;
mod own_calls;
mod passing;
mod past;
mod publish;
mod queues;
mod remember;
mod replay;
mod restore;
mod resync;
mod retained;
mod route;
mod share;
mod status;
mod subscribe;
mod trim;

pub use ids::IdClock;
pub(crate) use meta::Testament;
pub use meta::{Naming, ReadPattern, ReadPublish};
pub use queues::Load;
pub use remember::{RestoredMark, RestoredTrace};
pub use restore::{RestoreError, Restored};
pub(crate) use route::Route;
pub use status::Census;

use crate::broker::{Sharing, Subscriptions};
use crate::dealer::{Calls, Registrations};
use crate::history::{History, HistorySettings, Retention};
use crate::kv::Kv;
use crate::limits::{OutboxLimits, RealmLimits};
use crate::metrics::Counters;
use crate::model::{
    Answer, CallFailure, Command, Delivery, EndReason, ErrorKind, Event, EventDelivery, Made, Now,
    Refusal, RequestId, SessionId, Slot, SubscriptionId, Topic, Unsubscribe,
};
use crate::outbox::{Outbox, Pushed};
use crate::records;
use crate::session::{Connection, Session};
use crate::timers::{Timer, TimerKey, Timers};
use bytestring::ByteString;
use passing::{Passing, is_sure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use storage::{Batch, Space};

/// What a realm asks of its surroundings besides the outboxes.
#[derive(Debug, Default)]
pub struct Effects {
    /// Outboxes whose writer sleeps; to be woken once the realm is free again.
    pub wake: Vec<Arc<Outbox>>,
    /// Outboxes that are filling up; the publisher should pause until there is room.
    pub pressed: Vec<Arc<Outbox>>,
    /// Durable writes, to be committed under the number that [`Realm::seal`] answers.
    pub batch: Batch,
    /// Records to be read once that is done, for [`Realm::loaded`].
    pub loads: Vec<Load>,
}

impl Effects {
    /// Wakes every sleeping writer.
    pub fn wake_all(&mut self) {
        for outbox in self.wake.drain(..) {
            outbox.wake();
        }
    }
}

/// What is fixed for a realm's life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: ByteString,
    /// Bounds.
    pub limits: RealmLimits,
    /// Names of the realm's own topics and procedures.
    pub naming: Naming,
    /// Whether there is a store that outlives the process.
    pub durable: bool,
    /// How the groups of shared subscriptions pick a member.
    pub sharing: Sharing,
    /// What is remembered.
    pub history: HistorySettings,
}

/// An answer that waits for its commit.
#[derive(Debug)]
struct Held {
    /// [`NOT_SEALED`] while the store is down and the writes it depends on wait for it.
    commit: u64,
    /// The session's place, while its outbox is the current one.
    place: usize,
    outbox: Arc<Outbox>,
    generation: u64,
    delivery: Delivery,
    /// What else is taken back if the commit fails.
    undo: Undo,
}

/// Names a record on disk.
type RecordKey = (Space, Vec<u8>);

/// What [`Realm::sizes`] counts.
pub const SIZES: [&str; 7] = [
    "sessions",
    "subscriptions",
    "registrations",
    "retained_values",
    "open_calls",
    "timers",
    "holds",
];

/// Later than every commit.
const NOT_SEALED: u64 = u64::MAX;

/// What a session remembers of a command that may yet fail.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Nothing,
    /// The command stands whatever happens; its answer waits until it is durable.
    Stands,
    /// A publish that went out, under this exactly-once id if it has one. It stands, but its sender is told at once
    /// that it is not kept.
    Sent(Option<Slot>),
    /// The exactly-once id of a publish: the sender may use it for a new message after the refusal.
    Receipt(Slot),
    /// A subscription that is new.
    Subscription(SubscriptionId),
}

/// A realm.
#[derive(Debug)]
pub struct Realm {
    settings: Settings,
    /// Those of the settings, for all sessions.
    outbox_limits: Arc<OutboxLimits>,
    ids: Arc<IdClock>,
    random: StdRng,
    sessions: Slab<Session>,
    by_id: HashMap<SessionId, usize, foldhash::fast::RandomState>,
    /// client id -> place of its session
    clients: BTreeMap<ByteString, usize>,
    /// Sessions of nobody who can come back.
    nameless: BTreeSet<SessionId>,
    subscriptions: Subscriptions,
    registrations: Registrations,
    calls: Calls,
    own_calls: own_calls::OwnCalls,
    watchers: keys::Watchers,
    kv: Kv,
    history: History,
    /// When the next step of forgetting is taken.
    forgetting: remember::Forgetting,
    /// Where the life of subscriptions is told.
    life_topics: meta::LifeTopics,
    /// Members that left subscriptions, until that is told.
    departures: Vec<meta::Departure>,
    timers: Timers,
    counters: Counters,
    /// The number of the commit being gathered.
    commit: u64,
    /// Everything up to here is durable.
    committed: u64,
    /// The store failed and has not recovered.
    store_down: bool,
    /// Keys released while the store was down, whose stored copy is older.
    unsaved: BTreeSet<Topic>,
    /// Keys written by each sealed commit, until its outcome is known.
    in_flight: VecDeque<(u64, Vec<RecordKey>)>,
    /// Keys of sessions' records whose latest write was lost: to be written as they are now.
    unsynced: BTreeSet<RecordKey>,
    held: VecDeque<Held>,
    /// Reads of queued deliveries under way, by their numbers.
    loads: HashMap<u64, queues::Loading, foldhash::fast::RandomState>,
    /// The number of the latest.
    last_load: u64,
    /// Outboxes with deliveries that are stored by a commit, until its outcome is told to them.
    gated: VecDeque<(u64, Arc<Outbox>)>,
    /// What replays may still do before the realm is let go.
    budget: replay::Budget,
    /// Values that only the router writes, in memory.
    status: BTreeMap<Topic, Arc<Event>>,
    /// Somebody may listen to them.
    status_wanted: bool,
    /// Sessions with a connection.
    connected: usize,
    /// The most there ever were.
    connected_max: usize,
    /// Replays that wait for a position of the store: position, place of the session, subscription.
    replay_waits: BTreeSet<(u64, usize, SubscriptionId)>,
    /// Share groups whose members without connection may hold deliveries for others.
    backlogs: BTreeSet<SubscriptionId>,
    /// Kept values that expire.
    value_expiry: HashMap<Topic, TimerKey, foldhash::quality::RandomState>,
    /// Sessions to end once the current command is done.
    doomed: Vec<(usize, EndReason)>,
    /// Those of them whose queue is full: they end as a whole, even without a connection.
    overfull: BTreeSet<usize>,
    /// The commit that removes the last stored one of them; [`NOT_SEALED`] while its removal waits for the store.
    given_up: u64,
    /// Queues to be brought down to their bounds.
    trimming: trim::Trimming,
    /// When the current command came, in milliseconds since the epoch.
    unix_ms: u64,
    /// The same on the monotonic clock; `None` before the first one.
    instant: Option<Instant>,
    /// Order of arming wills.
    will_order: u64,
    /// Copies for sessions that want one however many subscriptions match.
    merged: Vec<(usize, EventDelivery)>,
}

impl Realm {
    /// An empty realm; `seed` decides its random choices.
    #[must_use]
    pub fn new(settings: Settings, ids: Arc<IdClock>, seed: u64) -> Realm {
        let reserved = settings.naming.reserved.clone();
        let limits = &settings.limits;
        let traced = settings.history.traced.unwrap_or(Retention {
            events: limits.history_events,
            bytes: limits.history_bytes,
            age: None,
            durable: true,
        });
        let history = History::new(
            traced,
            &settings.history.rules,
            limits.history_resident_bytes,
            settings.durable,
            reserved.clone(),
            ids.last().0,
        );
        Realm {
            outbox_limits: Arc::new(settings.limits.outbox),
            ids,
            random: StdRng::seed_from_u64(seed),
            sessions: Slab::new(),
            by_id: HashMap::default(),
            clients: BTreeMap::new(),
            nameless: BTreeSet::new(),
            subscriptions: Subscriptions::new(reserved.clone()),
            registrations: Registrations::new(reserved),
            calls: Calls::default(),
            own_calls: own_calls::OwnCalls::default(),
            watchers: keys::Watchers::default(),
            kv: Kv::new(limits.tombstones),
            history,
            forgetting: remember::Forgetting::default(),
            life_topics: meta::LifeTopics::new(&settings.naming),
            departures: Vec::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            commit: 1,
            committed: 0,
            store_down: false,
            unsaved: BTreeSet::new(),
            in_flight: VecDeque::new(),
            unsynced: BTreeSet::new(),
            value_expiry: HashMap::default(),
            held: VecDeque::new(),
            loads: HashMap::default(),
            last_load: 0,
            gated: VecDeque::new(),
            budget: replay::Budget::FULL,
            status: BTreeMap::new(),
            status_wanted: false,
            connected: 0,
            connected_max: 0,
            replay_waits: BTreeSet::new(),
            backlogs: BTreeSet::new(),
            doomed: Vec::new(),
            overfull: BTreeSet::new(),
            given_up: 0,
            trimming: trim::Trimming::default(),
            unix_ms: 0,
            instant: None,
            will_order: 0,
            merged: Vec::new(),
            settings,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ByteString {
        &self.settings.name
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sizes for exposition, named by [`SIZES`].
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, usize); SIZES.len()] {
        let values = [
            self.sessions.len(),
            self.subscriptions.len(),
            self.registrations.len(),
            self.kv.len(),
            self.calls.len() + self.own_calls.len(),
            self.timers.len(),
            self.kv.held.len(),
        ];
        std::array::from_fn(|at| (SIZES[at], values[at]))
    }

    /// Whether nothing would be lost if the realm were dropped.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && self.kv.is_empty()
            && self.history.is_empty()
            && self.held.is_empty()
    }

    /// Whether the store refuses writes at the moment.
    #[must_use]
    pub fn is_store_down(&self) -> bool {
        self.store_down
    }

    /// Carries out one command of a connection. Commands of a connection that was replaced, or of a
    /// session that has ended, are ignored: their sender is told by its outbox.
    pub fn handle(
        &mut self,
        now: Now,
        connection: Connection,
        command: Command,
        effects: &mut Effects,
    ) {
        let Some(place) = self.place_of(connection) else {
            return;
        };
        self.note_time(now);
        self.counters.commands += 1;
        match command {
            Command::Publish(publish) => self.publish(now, place, publish, effects),
            Command::Subscribe(subscribe) => self.subscribe(now, place, *subscribe, effects),
            Command::Unsubscribe(unsubscribe) => {
                let Unsubscribe { request, target } = *unsubscribe;
                self.unsubscribe(now, place, request, &target, effects);
            }
            Command::Register(register) => self.register(now, place, &register, effects),
            Command::Unregister {
                request,
                registration,
            } => {
                self.unregister(now, place, request, registration, effects);
            }
            Command::Call(call) => self.call_asked(now, place, *call, effects),
            Command::CallMessage(message) => self.call_by_message(now, place, *message, effects),
            Command::Cancel { request, mode } => self.cancel(now, place, request, mode, effects),
            Command::Yield {
                invocation,
                payload,
                progress,
            } => {
                self.yielded(now, place, invocation, payload, progress, effects);
            }
            Command::InvocationFailed(failed) => {
                self.invocation_failed(now, place, *failed, effects);
            }
            Command::Settle { slot } => self.settle(place, slot, effects),
            Command::Advance { slot } => self.advance(place, slot, effects),
            Command::ReleaseReceipt { request, receipt } => {
                self.release_receipt(place, request, receipt, effects);
            }
            Command::DisarmLastWill => self.disarm_last_will(place, effects),
            Command::SetExpiry(expiry) => self.set_expiry(now, place, expiry, effects),
        }
        self.end_doomed(now, effects);
    }

    pub(super) fn note_time(&mut self, now: Now) {
        (self.unix_ms, self.instant) = (now.unix_ms, Some(now.instant));
    }

    /// Goes on with replays of a session whose outbox has room again, and forgets the stored copies
    /// of deliveries that expired unsent.
    pub fn refill(&mut self, now: Now, connection: Connection, effects: &mut Effects) {
        let Some(place) = self.place_of(connection) else {
            return;
        };
        self.note_time(now);
        self.care(place, effects);
        self.pump_replays(now, place, effects);
        self.end_doomed(now, effects);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.note_time(now);
        while let Some(timer) = self.timers.take_due(now.instant) {
            match timer {
                Timer::Call(place, serial) => self.call_timed_out(place, serial, effects),
                Timer::OwnCall(place, request, serial) => {
                    self.own_call_timed_out(now, place, request, serial, effects);
                }
                Timer::Waiter(topic, id) => self.waiter_timed_out(now, &topic, id, effects),
                Timer::Lease(topic, token) => self.lease_ended(now, &topic, token, effects),
                Timer::Replay(place, subscription) => {
                    self.replay_timed_out(place, subscription, effects);
                }
                Timer::ValueExpiry(topic) => self.value_expired(now, &topic, effects),
                Timer::Expiry(place) => self.session_expired(now, place, effects),
                Timer::LastWill(place) => self.last_will_due(now, place, effects),
                Timer::Load(id) => self.load_again(id, effects),
                Timer::Trim => self.trim_step(effects),
                Timer::Forget => self.forget_step(effects),
            }
            self.end_doomed(now, effects);
        }
    }

    /// When [`Realm::tick`] must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Closes the batch of durable writes gathered in `effects`: answers the commit number it must
    /// be reported under, or `None` if there is nothing to commit.
    ///
    /// The first batch after one that failed carries what that one lost. What comes later would else be on disk without
    /// what came before, such as that a last will was published without the messages that it became.
    pub fn seal(&mut self, effects: &mut Effects) -> Option<u64> {
        self.budget = replay::Budget::FULL;
        self.trimming.begin_batch();
        if effects.batch.is_empty() {
            return None;
        }
        if self.store_down && self.in_flight.is_empty() {
            self.write_lost(effects);
        }
        let number = self.commit;
        self.commit += 1;
        let keys = effects
            .batch
            .ops()
            .iter()
            .map(|op| (op.space(), op.key().to_vec()));
        self.in_flight.push_back((number, keys.collect()));
        Some(number)
    }

    /// Everything up to `commit` is durable: releases the answers that waited for it.
    pub fn committed(&mut self, now: Now, commit: u64, effects: &mut Effects) {
        self.note_time(now);
        self.committed = self.committed.max(commit);
        self.kv.committed(commit);
        self.traces_committed();
        while self
            .in_flight
            .front()
            .is_some_and(|(number, _)| *number <= commit)
        {
            self.in_flight.pop_front();
        }
        self.open_gates(commit, effects);
        while self.held.front().is_some_and(|held| held.commit <= commit) {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            self.release(&held, held.delivery.clone(), effects);
        }
        self.tell_changes(commit, effects);
        if self.store_down {
            self.store_down = false;
            // Not only a probe finds the store working again, so what was lost may still be.
            self.write_lost(effects);
            self.unsaved.clear();
            self.unsynced.clear();
            self.serve_all_waiters(now, effects);
        }
        self.end_doomed(now, effects);
    }

    /// While the store is down: gathers what must still be stored, to be tried again. Also serves
    /// as the probe that finds the store working again.
    pub fn probe_store(&mut self, effects: &mut Effects) {
        if !self.store_down {
            return;
        }
        self.write_lost(effects);
        self.write_probe(effects);
    }

    /// Writes everything as it is now whose latest write was lost or not tried; answers that wait
    /// for it wait for this commit.
    fn write_lost(&mut self, effects: &mut Effects) {
        for topic in &self.unsaved {
            self.persist_value(topic, effects);
        }
        self.write_unsynced(effects);
        self.write_traces_again(effects);
        let mut waits = false;
        let not_sealed = |held: &&mut Held| held.commit == NOT_SEALED;
        for held in self.held.iter_mut().filter(not_sealed) {
            held.commit = self.commit;
            waits = true;
        }
        waits |= self.watchers.rewritten(self.commit);
        if self.given_up == NOT_SEALED {
            self.given_up = self.commit;
            waits = true;
        }
        let lost = |(commit, _): &&mut (u64, _)| *commit == NOT_SEALED;
        for (commit, outbox) in self.gated.iter_mut().filter(lost) {
            *commit = self.commit;
            outbox.rewritten(self.commit);
            waits = true;
        }
        if waits && effects.batch.is_empty() {
            self.write_probe(effects);
        }
    }

    fn write_probe(&self, effects: &mut Effects) {
        let key = records::key(&self.settings.name, b"probe");
        effects.batch.put(records::META, key, Vec::new());
    }

    /// The store refused a commit: nothing from the last reported commit on was kept. Takes back
    /// what is not durable and answers those who waited with a refusal. Until the next
    /// [`Realm::committed`] writes are refused at once, but locks can be released: such a release
    /// stands in memory, and after a restart the stored will of the former owner repeats it.
    /// Answers that are no refusable promise wait until the store works again.
    pub fn commit_failed(&mut self, now: Now, effects: &mut Effects) {
        self.note_time(now);
        self.store_down = true;
        let held = std::mem::take(&mut self.held);
        let durable = self.committed;
        // Before the lost keys: what is not remembered any more is to be deleted, should it be on disk after all.
        self.take_back_traces(self.committed);
        self.committed = self.commit.saturating_sub(1);
        for (_, keys) in std::mem::take(&mut self.in_flight) {
            for (space, key) in keys {
                self.note_lost(space, key);
            }
        }
        for (commit, outbox) in &mut self.gated {
            *commit = NOT_SEALED;
            outbox.lost();
        }
        if self.given_up > durable {
            self.given_up = NOT_SEALED;
        }
        self.watchers.forget_changes();
        self.take_back(now, durable, effects);
        self.look_again(effects);
        for held in held {
            self.fail_held(held, effects);
        }
        self.announce_departures(now, effects);
        self.end_doomed(now, effects);
    }

    fn open_gates(&mut self, commit: u64, effects: &mut Effects) {
        while self.gated.front().is_some_and(|(gate, _)| *gate <= commit)
            && let Some((_, outbox)) = self.gated.pop_front()
        {
            if outbox.saved(commit) {
                effects.wake.push(outbox);
            }
        }
    }

    fn fail_held(&mut self, held: Held, effects: &mut Effects) {
        let refusal = storage_refusal();
        let delivery = match (&held.delivery, held.undo) {
            (_, Undo::Stands) => None,
            (_, Undo::Sent(Some(receipt))) if self.is_kept(&held, receipt) => {
                Some(Delivery::Ended(EndReason::StorageUnavailable))
            }
            (
                Delivery::Done {
                    request,
                    answer: Answer::Published { .. } | Answer::Subscribed { .. },
                },
                _,
            ) => Some(Delivery::Refused {
                request: *request,
                refusal,
            }),
            (Delivery::CallFailed { request, .. }, _) => Some(Delivery::CallFailed {
                request: *request,
                failure: CallFailure::Realm(refusal),
            }),
            // What was read or granted is taken back.
            (
                Delivery::Result {
                    request, payload, ..
                },
                _,
            ) => {
                let refusal = match payload.value().get("key") {
                    Some(key) => refusal.with("key", key.clone()),
                    None => refusal,
                };
                Some(Delivery::CallFailed {
                    request: *request,
                    failure: CallFailure::Realm(refusal),
                })
            }
            // What a condition failed on is taken back.
            (Delivery::Refused { request, .. }, _) => Some(Delivery::Refused {
                request: *request,
                refusal,
            }),
            (Delivery::Joined { .. }, _) => Some(Delivery::Ended(EndReason::StorageUnavailable)),
            _ => None,
        };
        let Some(delivery) = delivery else {
            self.held.push_back(Held {
                commit: NOT_SEALED,
                ..held
            });
            return;
        };
        self.counters.storage_refused += 1;
        match held.undo {
            Undo::Nothing | Undo::Stands | Undo::Sent(None) => {}
            Undo::Sent(Some(receipt)) if self.is_kept(&held, receipt) => {}
            Undo::Receipt(receipt) | Undo::Sent(Some(receipt)) => {
                if let Some(session) = self.sessions.get_mut(held.place)
                    && Arc::ptr_eq(&session.outbox, &held.outbox)
                {
                    session.receipts.remove(&receipt);
                }
            }
            Undo::Subscription(id) => {
                let same = self
                    .sessions
                    .get(held.place)
                    .is_some_and(|session| Arc::ptr_eq(&session.outbox, &held.outbox));
                if same {
                    self.leave_subscription(held.place, id);
                    self.share_left(held.place, id, effects);
                }
            }
        }
        match delivery {
            Delivery::Ended(reason) => {
                if held.outbox.is_current(held.generation) {
                    end_writer(&held.outbox, reason, effects);
                }
            }
            other => self.release(&held, other, effects),
        }
    }

    /// Whether the session of a publish remembers its exactly-once id across connections: then a refusal, after which
    /// the sender may use the id for another message, would lose that one, and to forget the id could double this one.
    fn is_kept(&self, held: &Held, receipt: Slot) -> bool {
        self.sessions.get(held.place).is_some_and(|session| {
            Arc::ptr_eq(&session.outbox, &held.outbox)
                && session.is_durable()
                && session.receipts.contains(&receipt)
        })
    }

    fn release(&mut self, held: &Held, delivery: Delivery, effects: &mut Effects) {
        if let Delivery::Release { slot } = delivery {
            held.outbox.confirm(slot);
            // A newer connection is told when it is its turn.
            effects.wake.push(held.outbox.clone());
        }
        if held.outbox.is_current(held.generation) {
            let pushed = held.outbox.push(delivery);
            note(&held.outbox, pushed, effects);
            self.after_push(held.place, pushed);
        }
    }

    fn place_of(&self, connection: Connection) -> Option<usize> {
        let session = self.sessions.get(connection.place)?;
        let is_same =
            session.id == connection.session && session.generation == connection.generation;
        (is_same && session.attached).then_some(connection.place)
    }

    /// Whether a session has stored copies of what it holds.
    fn is_stored(&self, session: &Session) -> bool {
        self.settings.durable && session.is_durable()
    }

    /// The commit that an answer must wait for if `effects` grew since it held `before` writes.
    fn commit_since(&self, before: usize, effects: &Effects) -> u64 {
        if effects.batch.len() > before {
            self.commit
        } else {
            0
        }
    }

    fn done(
        &mut self,
        place: usize,
        request: RequestId,
        answer: Answer,
        commit: u64,
        effects: &mut Effects,
    ) {
        self.push_after(place, Delivery::Done { request, answer }, commit, effects);
    }

    fn refuse(
        &mut self,
        place: usize,
        request: RequestId,
        kind: ErrorKind,
        message: impl Into<std::borrow::Cow<'static, str>>,
        effects: &mut Effects,
    ) {
        if kind == ErrorKind::QuotaExceeded {
            self.counters.quota_refused += 1;
        }
        let refusal = Refusal::new(kind, message);
        self.push(place, Delivery::Refused { request, refusal }, effects);
    }

    /// Pushes now, or holds the delivery until `commit` is durable.
    fn push_after(&mut self, place: usize, delivery: Delivery, commit: u64, effects: &mut Effects) {
        self.push_or_undo(place, delivery, commit, Undo::Nothing, effects);
    }

    /// ... or takes back `undo` if the commit fails.
    fn push_or_undo(
        &mut self,
        place: usize,
        delivery: Delivery,
        commit: u64,
        undo: Undo,
        effects: &mut Effects,
    ) {
        if commit <= self.committed {
            self.push(place, delivery, effects);
            return;
        }
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let held = Held {
            commit,
            place,
            outbox: session.outbox.clone(),
            generation: session.generation,
            delivery,
            undo,
        };
        // A read may depend on an earlier commit than the answers already held.
        let at = self.held.partition_point(|known| known.commit <= commit);
        self.held.insert(at, held);
    }

    fn push(&mut self, place: usize, delivery: Delivery, effects: &mut Effects) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let outbox = &session.outbox;
        let pushed = outbox.push(delivery);
        note(outbox, pushed, effects);
        self.counters.answers_out += 1;
        self.after_push(place, pushed);
    }

    fn after_push(&mut self, place: usize, pushed: Pushed) {
        if let Some(session) = self.sessions.get_mut(place) {
            let passing = Passing {
                counters: &mut self.counters,
                doomed: &mut self.doomed,
            };
            passing.after(session, place, pushed);
        }
    }

    /// Hands an event to a session, in the lane its style and assurance ask for.
    fn deliver(&mut self, place: usize, delivery: EventDelivery, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if is_sure(session, &delivery) {
            self.counters.events_out += 1;
            self.counters.payload_bytes_out += delivery.event.payload.len() as u64;
            self.deliver_sure(place, delivery, effects);
            return;
        }
        let passing = Passing {
            counters: &mut self.counters,
            doomed: &mut self.doomed,
        };
        passing.hand_over(session, place, delivery, effects);
    }

    fn note_dropped(&mut self, place: usize, dropped: u64) {
        if dropped > 0
            && let Some(session) = self.sessions.get_mut(place)
        {
            session.dropped += dropped;
        }
    }

    fn release_receipt(
        &mut self,
        place: usize,
        request: RequestId,
        receipt: Slot,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let known = session.receipts.remove(&receipt);
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let before = effects.batch.len();
        if known
            && self.is_stored(session)
            && let Some(client) = &session.client
        {
            let number = u64::from(receipt.get());
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.delete(records::RECEIPTS, key);
        }
        let commit = self.commit_since(before, effects);
        self.done(place, request, Answer::Released(known), commit, effects);
    }
}

/// The connection behind the outbox is to end with `reason`, of which its writer is told.
fn end_writer(outbox: &Arc<Outbox>, reason: EndReason, effects: &mut Effects) {
    outbox.end(reason);
    effects.wake.push(outbox.clone());
}

fn note(outbox: &Arc<Outbox>, pushed: Pushed, effects: &mut Effects) {
    if pushed.wake {
        effects.wake.push(outbox.clone());
    }
    if pushed.pressed {
        effects.pressed.push(outbox.clone());
    }
}

fn storage_refusal() -> Refusal {
    Refusal::new(
        ErrorKind::StorageUnavailable,
        "the durable store refuses writes at the moment",
    )
}

/// A copy of an event that waits long: it must not pin the frame it came in.
fn detached(event: &Arc<crate::model::Event>) -> Arc<crate::model::Event> {
    let event = &**event;
    Arc::new(crate::model::Event {
        publication: event.publication,
        topic: event.topic.clone(),
        payload: event.payload.detached(),
        publisher: event.publisher.clone(),
        qos: event.qos,
        retain: event.retain,
        clears: event.clears,
        token: event.token,
        expires_at_ms: event.expires_at_ms,
        attributes: event.attributes.clone(),
        admission: event.admission.clone(),
        made: Made::default(),
    })
}
