//! The router of a run: the real realm, the real gates, and in the place of hub, cell and driver
//! the same steps in one thread.
//!
//! The order of calls is that of `protocols::gate` and of its driver; a connection runs only when
//! its input, its outbox's waker, its deadline or room in its transport says so, as a task would.

use crate::dice::Dice;
use crate::driver::SimDriver;
use crate::ledger::Ledger;
use crate::net::{LinkId, Net, Wire};
use crate::schedule::Woken;
use crate::store::{Outcome, Store};
use crate::witness::Broken;
use bytestring::ByteString;
use protocols::gate::Gate;
use protocols::mqtt::machine::{AssignedIds, MqttMachine, MqttOptions};
use protocols::wamp::machine::{WampMachine, WampOptions};
use protocols::wamp::map::naming;
use router_core::auth::{Access, Proof, Verified};
use router_core::encoding::Encoding;
use router_core::limits::RealmLimits;
use router_core::model::{Command, Now};
use router_core::realm::{Effects, IdClock, Realm, Restored, Settings};
use router_core::records::{self, StoredEntry};
use router_core::session::Connection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Batch, Space, Storage as _, StorageError};

const REALM: &str = "realm1";
const LEASE_KEY: &[u8] = b"publication-ids";
const LEASE_CHECK_MS: u64 = 15_000;
const PROBE_AFTER_MS: u64 = 1_000;
const SPACES: [Space; 6] = [
    records::VALUES,
    records::SESSIONS,
    records::SUBSCRIPTIONS,
    records::QUEUES,
    records::RECEIPTS,
    records::LAST_WILLS,
];

/// Both clocks of a run at `ms`.
#[derive(Clone, Copy)]
pub struct Clock {
    pub start: Instant,
    /// What the wall clock is off, in milliseconds.
    pub skew_ms: i64,
}

impl Clock {
    pub fn now(self, ms: u64) -> Now {
        const WALL: u64 = 1_800_000_000_000;
        Now {
            instant: self.start + Duration::from_millis(ms),
            unix_ms: (WALL + ms).saturating_add_signed(self.skew_ms),
        }
    }

    /// The moment `at` in milliseconds of the run, rounded up.
    pub fn ms(self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        let part = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        since.as_secs().saturating_mul(1_000).saturating_add(part)
    }
}

/// The realm and what surrounds it.
pub struct Core {
    pub realm: Realm,
    effects: Effects,
    ids: Arc<IdClock>,
    pub store: Store,
    durable: bool,
    epoch: u32,
    probe_at: Option<u64>,
    lease_at: u64,
    pub broken: Broken,
    pub clock: Clock,
    pub ms: u64,
    /// Batches given to the store.
    names: u64,
    access: Access,
}

impl Core {
    pub fn now(&self) -> Now {
        self.clock.now(self.ms)
    }

    /// Proves who a peer is and lets it in.
    pub fn verified(&mut self, credentials: &protocols::gate::Credentials) -> Option<Verified> {
        match self.access.check(credentials) {
            Ok(Proof::Given(verified)) => Some(verified),
            _ => None,
        }
    }

    pub fn anonymous_name(&mut self) -> ByteString {
        self.names += 1;
        format!("anonymous-{:016x}", self.names).into()
    }

    /// What `RealmCell::with` does.
    pub fn with<R>(
        &mut self,
        dice: &mut Dice,
        work: impl FnOnce(&mut Realm, &mut Effects) -> R,
    ) -> R {
        let result = work(&mut self.realm, &mut self.effects);
        self.let_out(dice);
        result
    }

    fn let_out(&mut self, dice: &mut Dice) {
        let now = self.now();
        if let Some(seq) = self.realm.seal(&mut self.effects) {
            let batch = std::mem::take(&mut self.effects.batch);
            if self.durable {
                self.store.submit(self.epoch, seq, batch, self.ms, dice);
            }
            if !self.durable || self.broken == Broken::AcknowledgesEarly {
                self.realm.committed(now, seq, &mut self.effects);
            }
        }
        self.ask(now, dice);
        self.effects.pressed.clear();
        self.effects.wake_all();
        // What the answers just released wrote follows under a number of its own.
        if !self.effects.batch.is_empty() {
            self.let_out(dice);
        }
    }

    /// Asks for records in their turn, after the batch just submitted.
    fn ask(&mut self, now: Now, dice: &mut Dice) {
        for load in std::mem::take(&mut self.effects.loads) {
            if self.broken == Broken::LosesLoads && dice.permille(300) {
                continue;
            }
            if self.durable {
                self.store.submit_read(load, self.ms, dice);
            } else {
                let found = vec![Err(StorageError::Stopped)];
                self.realm.loaded(now, load.id, found, &mut self.effects);
            }
        }
    }

    /// Carries out one command, known to the ledger first.
    pub fn run(
        &mut self,
        link: LinkId,
        connection: Connection,
        mut command: Command,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) {
        let executed = self.witness(link, &command, ledger);
        self.sabotage(&mut command, dice);
        let now = self.now();
        let before = *self.realm.counters();
        self.realm
            .handle(now, connection, command, &mut self.effects);
        // A message that could not be queued durably is turned down before anybody receives it, and
        // what comes from a connection that was taken over is not looked at.
        let after = self.realm.counters();
        if let Some((uid, retained)) = executed
            && (after.publishes == before.publishes
                || after.refused_queue_full > before.refused_queue_full
                || (!retained && after.storage_refused > before.storage_refused))
        {
            ledger.turned_down(uid);
        }
    }

    /// After a batch of commands.
    pub fn ran(&mut self, dice: &mut Dice) {
        self.let_out(dice);
    }

    /// Timers, the store's reports, the probe and the id lease. Answers whether anything was due.
    pub fn turn(&mut self, ledger: &mut Ledger, dice: &mut Dice) -> bool {
        let now = self.now();
        let mut progress = self.store.write(self.ms, dice);
        while let Some(outcome) = self.store.report(self.ms, dice) {
            progress = true;
            let (epoch, seq, ok) = match outcome {
                Outcome::Commit(epoch, seq, ok) => (epoch, seq, ok),
                Outcome::Read(id, found) => {
                    self.with(dice, |realm, effects| realm.loaded(now, id, found, effects));
                    continue;
                }
            };
            if epoch != self.epoch || self.broken == Broken::AcknowledgesEarly {
                continue;
            }
            if ok {
                self.with(dice, |realm, effects| realm.committed(now, seq, effects));
            } else {
                ledger.store_failures += 1;
                self.epoch += 1;
                self.probe_at = Some(self.ms + PROBE_AFTER_MS);
                self.with(dice, |realm, effects| realm.commit_failed(now, effects));
            }
        }
        if self.probe_at.is_some_and(|at| at <= self.ms) {
            self.probe_at = None;
            self.with(dice, |realm, effects| realm.probe_store(effects));
            progress = true;
        }
        if self
            .realm
            .next_deadline()
            .is_some_and(|at| at <= now.instant)
        {
            self.with(dice, |realm, effects| realm.tick(now, effects));
            progress = true;
        }
        if self.lease_at <= self.ms {
            self.renew_lease();
            self.lease_at = self.ms + LEASE_CHECK_MS;
        }
        progress
    }

    pub fn next(&self) -> Option<u64> {
        let deadline = self.realm.next_deadline().map(|at| self.clock.ms(at));
        [self.store.next(), self.probe_at, deadline]
            .into_iter()
            .flatten()
            .min()
    }

    fn renew_lease(&mut self) {
        let Some(ceiling) = self.ids.lease_wanted(self.now().unix_ms) else {
            return;
        };
        let mut batch = Batch::new();
        batch.put(records::META, LEASE_KEY, ceiling.to_be_bytes().to_vec());
        if !self.durable || self.store.engine().commit(&batch).is_ok() {
            self.ids.lease_granted(ceiling);
        }
    }

    /// What the store says of a key: the uid in its value, if it is there.
    pub fn stored_values(&self) -> Result<BTreeMap<String, Option<u64>>, String> {
        let mut found = BTreeMap::new();
        let mut wrong = None;
        let scanned = self
            .store
            .engine()
            .inner()
            .scan(records::VALUES, &[], &mut |key, value| {
                let topic = records::split_key(key)
                    .map(|(_, text)| String::from_utf8_lossy(text).into_owned());
                match (topic, records::decode::<StoredEntry>(value)) {
                    (Some(topic), Ok(StoredEntry::Kept { event, .. })) => {
                        let event = records::event(event);
                        let uid = crate::wamp_end::uid_in(
                            event.payload.value(),
                            event.payload.kwargs_value(),
                        );
                        found.insert(topic, uid);
                    }
                    (Some(_), Ok(StoredEntry::Deleted { .. })) => {}
                    (topic, entry) => wrong = Some(format!("stored value {topic:?}: {entry:?}")),
                }
                wrong.is_none()
            });
        match (scanned, wrong) {
            (Ok(()), None) => Ok(found),
            (scanned, wrong) => Err(format!("{scanned:?} {wrong:?}")),
        }
    }

    /// Records in the store by space, values that are only remembered deletions left out.
    pub fn stored_records(&self) -> Vec<String> {
        let mut found = Vec::new();
        for space in SPACES {
            let scanned = self
                .store
                .engine()
                .inner()
                .scan(space, &[], &mut |key, value| {
                    let is_deleted = space == records::VALUES
                        && matches!(
                            records::decode::<StoredEntry>(value),
                            Ok(StoredEntry::Deleted { .. })
                        );
                    if !is_deleted {
                        found.push(format!("{space:?} {:?}", String::from_utf8_lossy(key)));
                    }
                    true
                });
            if scanned.is_err() {
                found.push(format!("{space:?} cannot be read"));
            }
        }
        found
    }
}

/// Core and connections.
pub struct Router {
    pub core: Core,
    pub drivers: BTreeMap<LinkId, Box<SimDriver>>,
    pub woken: Woken,
    mqtt: MqttOptions,
    wamp: WampOptions,
    limits: RealmLimits,
}

impl Router {
    pub fn new(
        durable: bool,
        broken: Broken,
        limits: RealmLimits,
        start: Instant,
        dice: &mut Dice,
    ) -> Router {
        let mqtt = MqttOptions {
            assigned_ids: Arc::new(AssignedIds::with_secret([1, 2])),
            ..MqttOptions::default()
        };
        let clock = Clock { start, skew_ms: 0 };
        let mut core = Core {
            realm: realm(durable, limits, Arc::new(IdClock::new(0)), dice),
            effects: Effects::default(),
            ids: Arc::new(IdClock::new(0)),
            store: Store::new(),
            durable,
            epoch: 0,
            probe_at: None,
            lease_at: 0,
            broken,
            clock,
            ms: 0,
            names: 0,
            access: Access::open(),
        };
        core.renew_lease();
        core.realm = realm(durable, limits, core.ids.clone(), dice);
        let (drivers, wamp) = (BTreeMap::new(), WampOptions::default());
        Router {
            core,
            drivers,
            woken: Woken::default(),
            mqtt,
            wamp,
            limits,
        }
    }

    pub fn accept(&mut self, link: LinkId, wire: Wire) {
        let now = self.core.now();
        let gate: Box<dyn Gate> = match wire {
            Wire::Stream | Wire::Frames => Box::new(MqttMachine::new(now, self.mqtt.clone())),
            Wire::WampJson => Box::new(WampMachine::new(now, Encoding::Json, self.wamp.clone())),
            Wire::WampMsgPack => {
                Box::new(WampMachine::new(now, Encoding::MsgPack, self.wamp.clone()))
            }
            Wire::WampCbor => Box::new(WampMachine::new(now, Encoding::Cbor, self.wamp.clone())),
        };
        let driver = SimDriver::new(link, wire, gate, now, self.woken.clone());
        self.drivers.insert(link, Box::new(driver));
    }

    pub fn run_driver(
        &mut self,
        link: LinkId,
        net: &mut Net,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) {
        let Some(mut driver) = self.drivers.remove(&link) else {
            return;
        };
        let done = driver.poll(&mut self.core, net, ledger, dice);
        if done {
            driver.close(&mut self.core, net, ledger, dice);
        } else {
            self.drivers.insert(link, driver);
        }
    }

    /// The process is killed: connections break, memory is gone.
    pub fn crash(&mut self, net: &mut Net, ledger: &mut Ledger, dice: &mut Dice) {
        for link in std::mem::take(&mut self.drivers).into_keys() {
            net.cut(link, self.core.ms, dice);
            net.router_close(link, self.core.ms, dice);
        }
        ledger.crashed(self.core.store.durable);
        ledger.dropped += self.core.realm.counters().dropped_sure;
        self.core.store.crash();
        self.core.effects = Effects::default();
        self.core.epoch = 0;
        self.core.probe_at = None;
    }

    /// A new process on the same data, as `Hub::open` starts one.
    ///
    /// # Errors
    /// What stops the start.
    pub fn restart(&mut self, skew_ms: i64, dice: &mut Dice) -> Result<(), String> {
        let core = &mut self.core;
        core.clock.skew_ms = skew_ms;
        let lease = core
            .store
            .engine()
            .get(records::META, LEASE_KEY)
            .map_err(|e| e.to_string())?;
        let lease = lease.and_then(|bytes| records::number(&bytes)).unwrap_or(0);
        core.ids = Arc::new(IdClock::new(lease));
        core.renew_lease();
        core.lease_at = core.ms + LEASE_CHECK_MS;
        core.realm = realm(core.durable, self.limits, core.ids.clone(), dice);
        let found = core.read_records(self.limits.outbox.resident)?;
        let role_of = |_: &str| Some(Arc::new(router_core::auth::Role::unrestricted("anonymous")));
        let now = core.now();
        core.realm
            .restore(now, found, &role_of, &mut core.effects)
            .map_err(|e| e.to_string())?;
        let batch = std::mem::take(&mut core.effects.batch);
        if !batch.is_empty() && core.store.engine().commit(&batch).is_err() {
            core.store
                .engine()
                .commit(&batch)
                .map_err(|e| e.to_string())?;
        }
        core.realm.restored();
        core.let_out(dice);
        Ok(())
    }

    /// Skips the wall clock and the monotonic one alike.
    pub fn set_time(&mut self, ms: u64) {
        self.core.ms = ms;
    }
}

impl Core {
    fn read_records(&self, resident: usize) -> Result<Restored, String> {
        let mut found = Restored::default();
        for space in SPACES.into_iter().chain([records::HISTORY]) {
            let mut bad = None;
            let scanned = self
                .store
                .engine()
                .inner()
                .scan(space, &[], &mut |key, value| {
                    let placed = place_record(&mut found, space, key, value, resident);
                    if placed.is_none() {
                        bad = Some(format!("{space:?} {key:?}"));
                    }
                    placed.is_some()
                });
            scanned.map_err(|e| e.to_string())?;
            if let Some(bad) = bad {
                return Err(format!("a stored key names nothing: {bad}"));
            }
        }
        Ok(found)
    }
}

fn realm(durable: bool, limits: RealmLimits, ids: Arc<IdClock>, dice: &mut Dice) -> Realm {
    let settings = Settings {
        name: REALM.into(),
        limits,
        naming: naming(),
        durable,
        sharing: router_core::broker::Sharing::default(),
        history: Default::default(),
    };
    Realm::new(settings, ids, dice.seed())
}

fn place_record(
    found: &mut Restored,
    space: Space,
    key: &[u8],
    record: &[u8],
    resident: usize,
) -> Option<()> {
    let (_, rest) = records::split_key(key)?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let value = || record.to_vec();
    match space {
        records::VALUES => found.add_value(rest, record).ok()?,
        records::SESSIONS => found.sessions.push((text(rest)?, value())),
        records::LAST_WILLS => found.last_wills.push((text(rest)?, value())),
        records::HISTORY => found.add_trace(rest, record),
        _ => {
            let (_, client, part) = records::split_client_key(key)?;
            match space {
                records::SUBSCRIPTIONS => found.subscriptions.push((client.to_owned(), value())),
                records::QUEUES => {
                    found.add_queued(client, records::number(part)?, record, resident);
                }
                _ => found
                    .receipts
                    .push((client.to_owned(), records::number(part)?)),
            }
        }
    }
    Some(())
}
