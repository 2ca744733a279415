//! A deterministic world around one realm: a clock that only tests move, sessions whose outboxes are
//! drained on demand, and a disk that is a map, with commits confirmed or refused by hand.
//!
//! Deliveries are compared as short texts (see [`line`]), so that a test reads like the conversation
//! it is about. Every failure of the harness itself panics: it is a test's business.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of the harness"
)]

mod build;
mod dice;
mod line;

pub use build::*;
#[allow(unused_imports, reason = "as above")]
pub use dice::Dice;
#[allow(unused_imports, reason = "as above")]
pub use line::{body, line};

use router_core::auth::Role;
use router_core::broker::Sharing;
use router_core::history::HistorySettings;
use router_core::limits::RealmLimits;
use router_core::model::{
    Command, Delivery, ErrorKind, MatchKind, Now, Pattern, Publish, Refusal, RequestId, SessionId,
    Topic,
};
use router_core::outbox::Outbox;
use router_core::realm::{Effects, IdClock, Load, Naming, Realm, Restored, Settings};
use router_core::records;
use router_core::session::{Connection, Join, Leave};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Batch, Op, StorageError};

/// The realm's name.
pub const REALM: &str = "realm1";
/// When every world begins.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// What is on disk: space and key -> value.
pub type Disk = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// A realm and everything around it.
pub struct World {
    pub realm: Realm,
    pub now: Now,
    pub effects: Effects,
    pub disk: Disk,
    /// Sealed batches whose outcome is open, oldest first.
    pub pending: VecDeque<(u64, Batch)>,
    /// Commits are confirmed as soon as they are sealed.
    pub auto_commit: bool,
    /// Reads of the disk that are open, each with the commit that must be done before.
    pub loads: VecDeque<(u64, Load)>,
    /// What the next reads of a record come to instead, if anything.
    pub read_faults: VecDeque<Option<StorageError>>,
    ids: Arc<IdClock>,
    settings: Settings,
    seed: u64,
}

/// One connection as its gate sees it.
#[derive(Clone)]
pub struct Peer {
    pub connection: Connection,
    pub outbox: Arc<Outbox>,
}

impl Peer {
    pub fn id(&self) -> SessionId {
        self.connection.session
    }
}

pub fn naming() -> Naming {
    Naming {
        reserved: "wamp".into(),
        inspection: "reynard/session".into(),
        keys: "fox/kv".into(),
        value_get: "fox/kv/get".into(),
        locks: "fox/lock".into(),
        read_key: |text| Topic::new(text.replace('.', "/")).ok(),
        read_pattern: |text, notation| {
            let text = text.replace('.', "/");
            let pattern = match notation {
                Some("prefix") if !text.is_empty() => {
                    let prefix = Pattern::prefix(text).expect("a prefix");
                    return Ok((prefix, MatchKind::Prefix));
                }
                _ if text.is_empty() => Pattern::from_slashes("#"),
                _ => Pattern::from_slashes(&text),
            };
            let wrong = |_| Refusal::new(ErrorKind::InvalidTopic, "no pattern");
            Ok((pattern.map_err(wrong)?, MatchKind::Exact))
        },
        show_pattern: |pattern, kind| match kind {
            MatchKind::Exact => pattern.literal_prefix().replace('/', "."),
            _ => pattern.literal_prefix(),
        },
        read_publish: |text, payload, _| Ok(Publish::new(topic(text), payload)),
        show_details: |_, _| serde_json::Map::new(),
        killed: "wamp.close.killed".into(),
        revoked: "revoked".into(),
        unavailable: "wamp.error.unavailable".into(),
        end_reason: |_| "ended".into(),
    }
}

fn leased(ceiling: u64) -> Arc<IdClock> {
    let ids = Arc::new(IdClock::new(ceiling));
    ids.lease_granted(1 << 53);
    ids
}

impl World {
    /// Nothing outlives the process.
    pub fn memory() -> World {
        World::new(false, RealmLimits::default())
    }

    /// With a disk; commits are confirmed at once unless `auto_commit` is taken away.
    pub fn durable() -> World {
        World::new(true, RealmLimits::default())
    }

    pub fn limited(limits: RealmLimits) -> World {
        World::new(false, limits)
    }

    pub fn new(durable: bool, limits: RealmLimits) -> World {
        World::seeded(durable, limits, 1)
    }

    pub fn seeded(durable: bool, limits: RealmLimits, seed: u64) -> World {
        World::sharing(durable, limits, seed, Sharing::default())
    }

    /// ... remembering as `history` says.
    pub fn remembering(durable: bool, limits: RealmLimits, history: HistorySettings) -> World {
        let mut world = World::new(durable, limits);
        world.settings.history = history;
        world.realm = Realm::new(world.settings.clone(), world.ids.clone(), world.seed);
        world
    }

    /// Remembers otherwise from the next restart on.
    pub fn set_history(&mut self, history: HistorySettings) {
        self.settings.history = history;
    }

    pub fn sharing(durable: bool, limits: RealmLimits, seed: u64, sharing: Sharing) -> World {
        let settings = Settings {
            name: REALM.into(),
            limits,
            naming: naming(),
            durable,
            sharing,
            history: HistorySettings::default(),
        };
        let ids = leased(0);
        World {
            realm: Realm::new(settings.clone(), ids.clone(), seed),
            now: Now {
                instant: Instant::now(),
                unix_ms: EPOCH_MS,
            },
            effects: Effects::default(),
            disk: Disk::new(),
            pending: VecDeque::new(),
            auto_commit: true,
            loads: VecDeque::new(),
            read_faults: VecDeque::new(),
            ids,
            settings,
            seed,
        }
    }

    /// Joins or panics.
    pub fn join(&mut self, join: Join) -> Peer {
        self.try_join(join).expect("the realm takes the session")
    }

    pub fn try_join(&mut self, join: Join) -> Result<Peer, Refusal> {
        let joined = self.realm.join(self.now, join, &mut self.effects);
        self.let_out();
        joined.map(|joined| Peer {
            connection: joined.connection,
            outbox: joined.outbox,
        })
    }

    /// An ordinary session whose welcome is read already.
    pub fn plain(&mut self) -> Peer {
        let peer = self.join(ordered());
        assert_eq!(self.lines(&peer), ["joined"]);
        peer
    }

    /// A session that wants one copy and settles, not durable.
    pub fn lanes(&mut self, id: &str) -> Peer {
        let peer = self.join(client(id));
        assert_eq!(self.lines(&peer), ["joined"]);
        peer
    }

    pub fn send(&mut self, peer: &Peer, command: Command) {
        self.realm
            .handle(self.now, peer.connection, command, &mut self.effects);
        self.let_out();
    }

    pub fn leave(&mut self, peer: &Peer, how: Leave) {
        self.realm
            .leave(self.now, peer.connection, how, &mut self.effects);
        peer.outbox.release(peer.connection.generation);
        self.let_out();
    }

    /// Time passes and what is due is done.
    pub fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.realm.tick(self.now, &mut self.effects);
        self.let_out();
    }

    /// What the runtime does after each turn.
    pub fn let_out(&mut self) {
        self.effects.wake_all();
        self.effects.pressed.clear();
        if let Some(commit) = self.realm.seal(&mut self.effects) {
            let batch = std::mem::take(&mut self.effects.batch);
            self.pending.push_back((commit, batch));
        }
        self.queue_loads();
        if self.auto_commit {
            self.commit();
        }
    }

    /// Confirms everything that is sealed.
    pub fn commit(&mut self) {
        while self.commit_one() {}
    }

    fn queue_loads(&mut self) {
        let after = self.pending.back().map_or(0, |(commit, _)| *commit);
        let loads = std::mem::take(&mut self.effects.loads);
        self.loads
            .extend(loads.into_iter().map(|load| (after, load)));
    }

    /// Answers the reads whose turn has come; answers whether there were any.
    pub fn answer_loads(&mut self) -> bool {
        let open = self.pending.front().map_or(u64::MAX, |(commit, _)| *commit);
        let mut answered = false;
        while let Some((after, _)) = self.loads.front()
            && *after < open
            && let Some((_, load)) = self.loads.pop_front()
        {
            let mut bytes = 0;
            let mut found = Vec::new();
            for key in load.keys {
                let record = self.disk.get(&(load.space.0, key)).cloned();
                bytes += record.as_ref().map_or(0, Vec::len);
                let fault = self.read_faults.pop_front().flatten();
                found.push(fault.map_or(Ok(record), Err));
                if bytes >= load.max_bytes {
                    break;
                }
            }
            self.realm
                .loaded(self.now, load.id, found, &mut self.effects);
            self.let_out();
            answered = true;
        }
        answered
    }

    /// Confirms the oldest sealed batch; answers whether there was one.
    pub fn commit_one(&mut self) -> bool {
        let Some((commit, batch)) = self.pending.pop_front() else {
            return false;
        };
        apply(&mut self.disk, &batch);
        self.realm.committed(self.now, commit, &mut self.effects);
        self.let_out_sealed();
        true
    }

    fn let_out_sealed(&mut self) {
        self.effects.wake_all();
        if let Some(commit) = self.realm.seal(&mut self.effects) {
            let batch = std::mem::take(&mut self.effects.batch);
            self.pending.push_back((commit, batch));
        }
        self.queue_loads();
    }

    /// The store refuses the oldest sealed batch, and so everything sealed after it.
    pub fn fail(&mut self) {
        assert!(!self.pending.is_empty(), "nothing to fail");
        self.pending.clear();
        self.realm.commit_failed(self.now, &mut self.effects);
        self.let_out_sealed();
    }

    /// The clock asks for a try of the store.
    pub fn probe(&mut self) {
        self.realm.probe_store(&mut self.effects);
        self.let_out();
    }

    /// Everything the peer can read now; replays go on as room appears.
    pub fn read(&mut self, peer: &Peer) -> Vec<Delivery> {
        let mut out = Vec::new();
        for _ in 0..100_000 {
            let drained =
                peer.outbox
                    .drain(peer.connection.generation, 64, self.now.unix_ms, &mut out);
            if drained.refill || drained.expired {
                self.realm
                    .refill(self.now, peer.connection, &mut self.effects);
                self.let_out();
            } else if !drained.more && !self.answer_loads() {
                return out;
            }
        }
        panic!("the outbox never runs dry");
    }

    /// [`World::read`] as texts.
    pub fn lines(&mut self, peer: &Peer) -> Vec<String> {
        self.read(peer).iter().map(line).collect()
    }

    /// Sends a command and reads what came of it.
    pub fn ask(&mut self, peer: &Peer, command: Command) -> Vec<String> {
        self.send(peer, command);
        self.lines(peer)
    }

    /// Subscribes and answers the id; nothing else may have been waiting.
    pub fn subscribed(&mut self, peer: &Peer, pattern: &str) -> u64 {
        let lines = self.ask(peer, sub(9000, pattern).into());
        let [line] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        line.strip_prefix("done 9000 subscribed ")
            .and_then(|id| id.split(' ').next())
            .and_then(|id| id.parse().ok())
            .unwrap_or_else(|| panic!("{line}"))
    }

    /// Reads a key through the realm's own procedure.
    pub fn key(&mut self, peer: &Peer, key: &str) -> serde_json::Value {
        let request = RequestId(999_999);
        self.send(
            peer,
            call(request.0, "fox/kv/get", serde_json::json!([key])),
        );
        let deliveries = self.read(peer);
        for delivery in &deliveries {
            if let Delivery::Result {
                request: of,
                payload,
                ..
            } = delivery
                && *of == request
            {
                return payload.value().clone();
            }
        }
        panic!("the key reader did not answer: {deliveries:?}");
    }

    /// The size of one table of the realm.
    pub fn size(&self, name: &str) -> usize {
        let sizes = self.realm.sizes();
        let found = sizes.iter().find(|(known, _)| *known == name);
        found.expect("a known size").1
    }

    /// The process dies with whatever was not committed; a new one starts from the disk.
    pub fn restart(&mut self) {
        self.restart_after(Duration::ZERO);
    }

    /// ... under other limits.
    pub fn restart_with(&mut self, limits: RealmLimits) {
        self.settings.limits = limits;
        self.restart();
    }

    /// ... `down` later.
    pub fn restart_after(&mut self, down: Duration) {
        self.pending.clear();
        self.loads.clear();
        self.effects = Effects::default();
        self.seed += 1;
        self.now = self.now.plus(down);
        self.ids = leased(self.ids.last().0);
        self.realm = Realm::new(self.settings.clone(), self.ids.clone(), self.seed);
        let found = restored(&self.disk, self.settings.limits.outbox.resident);
        let role_of = |name: &str| Some(Arc::new(Role::unrestricted(name.to_owned())));
        self.realm
            .restore(self.now, found, &role_of, &mut self.effects)
            .expect("every record can be read back");
        // As the router does: on disk before anybody is let in.
        apply(&mut self.disk, &std::mem::take(&mut self.effects.batch));
        self.realm.restored();
        self.let_out();
    }

    /// How many records of one space are on disk.
    pub fn records(&self, space: storage::Space) -> usize {
        self.disk.keys().filter(|(s, _)| *s == space.0).count()
    }
}

/// Writes a batch to the disk.
pub fn apply(disk: &mut Disk, batch: &Batch) {
    for op in batch.ops() {
        match op {
            Op::Put { space, key, value } => {
                disk.insert((space.0, key.clone()), value.clone());
            }
            Op::Delete { space, key } => {
                disk.remove(&(space.0, key.clone()));
            }
        }
    }
}

/// The records of the realm as a router reads them at its start.
pub fn restored(disk: &Disk, resident: usize) -> Restored {
    let mut found = Restored::default();
    for ((space, key), value) in disk {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("client ids are text");
        let value = value.clone();
        let Some((_, rest)) = records::split_key(key) else {
            panic!("a key without realm: {key:?}");
        };
        let of_client = || records::split_client_key(key).expect("a client's key");
        match storage::Space(*space) {
            records::VALUES => found.add_value(rest, &value).expect("a value's record"),
            records::SESSIONS => found.sessions.push((text(rest), value)),
            records::LAST_WILLS => found.last_wills.push((text(rest), value)),
            records::SUBSCRIPTIONS => found.subscriptions.push((of_client().1.to_owned(), value)),
            records::QUEUES => {
                let (_, client, part) = of_client();
                let number = records::number(part).expect("a number");
                found.add_queued(client, number, &value, resident);
            }
            records::RECEIPTS => {
                let (_, client, part) = of_client();
                let number = records::number(part).expect("a number");
                found.receipts.push((client.to_owned(), number));
            }
            records::HISTORY => found.add_trace(rest, &value),
            records::META => {}
            other => panic!("an unknown space {other:?}"),
        }
    }
    found
}
