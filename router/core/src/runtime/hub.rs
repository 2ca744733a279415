//! All realms of a router, by name.

use super::cell::RealmCell;
use super::clock::{Clock, Kind};
use super::now;
use super::reading::{self, Found as Records};
use crate::auth::{Access, AuthError, Credentials, Proof, Verified};
use crate::broker::Sharing;
use crate::history::HistorySettings;
use crate::limits::RealmLimits;
use crate::metrics::Counters;
use crate::model::{EndReason, ErrorKind, Now};
use crate::outbox::Outbox;
use crate::realm::{IdClock, Naming, Realm, RestoreError, Settings};
use crate::records;
use crate::session::{ClientJoin, Connection, EventStyle, Facts, Features, Identity, Join, Joined};
use bytestring::ByteString;
use parking_lot::Mutex;
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use storage::{
    Batch, CommitListener, Durability, Found, GroupCommit, GroupLimits, GroupStats, Outcome,
    Storage, StorageError,
};
use thiserror::Error;

/// How often the id lease is looked at; well within half a lease.
const LEASE_CHECK: Duration = Duration::from_secs(15);
/// Where the id lease is stored.
const LEASE_KEY: &[u8] = b"publication-ids";
/// The longest realm name, in bytes.
const MAX_REALM_NAME: usize = 255;

/// What a hub is made of.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The realm of protocols that name none.
    pub default_realm: ByteString,
    /// Whether a realm is made when it is first named.
    pub auto_realms: bool,
    /// The most realms.
    pub max_realms: usize,
    /// Users and roles of the realms that were configured.
    pub realms: HashMap<ByteString, Arc<Access>>,
    /// Bounds of each realm.
    pub limits: RealmLimits,
    /// Names of the realm's own topics and procedures.
    pub naming: Naming,
    /// How the groups of shared subscriptions pick a member.
    pub sharing: Sharing,
    /// realm -> what it remembers
    pub history: HashMap<ByteString, HistorySettings>,
    /// realm -> what its acknowledged writes have gone through, where that is not the disk
    pub durability: HashMap<ByteString, Durability>,
}

/// Why a hub cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A stored record.
    #[error("{0}; restore the data directory from a backup or move it away")]
    Restore(#[from] RestoreError),
    /// A stored key that belongs to no realm.
    #[error("a stored key names no realm: {0:?}")]
    Key(Vec<u8>),
    /// The operating system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why somebody may not enter a realm.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnterError {
    /// The realm's name is not acceptable.
    #[error("the realm name is not a valid URI")]
    InvalidRealm,
    /// No such realm, and none is created.
    #[error("no such realm")]
    NoSuchRealm,
    /// The realm needs credentials and the peer gave none.
    #[error("credentials are required")]
    CredentialsRequired,
    /// The credentials are wrong.
    #[error("the credentials are wrong")]
    BadCredentials,
    /// Refused by a rule: e.g. the last will may not be published.
    #[error("{0}")]
    NotAuthorized(String),
    /// The router takes no more realms or sessions.
    #[error("the router takes no more sessions")]
    TooMany,
    /// The durable store or the operating system does not work.
    #[error("the store is not available")]
    Unavailable,
    /// The router shuts down.
    #[error("the router shuts down")]
    ShuttingDown,
}

impl From<AuthError> for EnterError {
    fn from(error: AuthError) -> EnterError {
        match error {
            AuthError::Required => EnterError::CredentialsRequired,
            AuthError::Wrong => EnterError::BadCredentials,
            AuthError::Unavailable => EnterError::Unavailable,
        }
    }
}

/// A request to enter, once the peer's name is verified.
#[derive(Debug)]
pub struct EnterRequest {
    /// What the peer can do.
    pub features: Features,
    /// How it wants events.
    pub style: EventStyle,
    /// Present for clients that can outlive their connection.
    pub client: Option<ClientJoin>,
    /// How names are proven in this protocol, when by a secret: `ticket`, `password` ...
    pub method: ByteString,
    /// Facts about the connection for the session list.
    pub transport: Facts,
}

/// A session's way into its realm.
#[derive(Clone, Debug)]
pub struct Door {
    /// The realm.
    pub cell: Arc<RealmCell>,
    /// To be shown with every command.
    pub connection: Connection,
    /// What the realm says.
    pub outbox: Arc<Outbox>,
    /// Who the session is.
    pub identity: Arc<Identity>,
}

/// Figures of the whole router.
#[derive(Clone, Debug, Default)]
pub struct HubStats {
    /// Sums over realms.
    pub counters: Counters,
    /// Sums over realms.
    pub sizes: Vec<(&'static str, usize)>,
    /// Realms.
    pub realms: usize,
    /// The group commit; `None` in memory.
    pub store: Option<GroupStats>,
    /// A realm's durable writes are refused at the moment.
    pub store_down: bool,
}

/// All realms.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    settings: HubSettings,
    realms: Mutex<Realms>,
    storage: Arc<dyn Storage>,
    commits: Option<Arc<GroupCommit>>,
    ids: Arc<IdClock>,
    clock: Arc<Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
    next_owner: AtomicU64,
    draining: AtomicBool,
}

#[derive(Default)]
struct Realms {
    by_name: HashMap<ByteString, Arc<RealmCell>>,
    by_owner: HashMap<u64, Arc<RealmCell>>,
}

/// Passes commit reports on; weak, because the writer's thread outlives nothing.
struct Reports {
    inner: Mutex<Weak<Inner>>,
}

impl CommitListener for Reports {
    fn committed(&self, outcomes: &[Outcome]) {
        let Some(inner) = self.inner.lock().upgrade() else {
            return;
        };
        let now = now();
        for (ticket, result) in outcomes {
            let cell = inner.realms.lock().by_owner.get(&ticket.owner).cloned();
            if let Some(cell) = cell {
                cell.committed(now, *ticket, result);
            }
        }
    }

    fn read(&self, owner: u64, id: u64, found: Vec<Found>) {
        let Some(inner) = self.inner.lock().upgrade() else {
            return;
        };
        let cell = inner.realms.lock().by_owner.get(&owner).cloned();
        if let Some(cell) = cell {
            cell.read(now(), id, found);
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("storage", &self.inner.storage.engine())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Opens the store's realms: what it holds is taken in, wills of sessions that no longer exist
    /// are applied and on disk, before this returns.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: HubSettings, storage: Arc<dyn Storage>) -> Result<Hub, OpenError> {
        let found = reading::read(&*storage, settings.limits.outbox.resident)?;
        Hub::open_with(settings, storage, found)
    }

    /// The same with what was found in the store already.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(
        settings: HubSettings,
        storage: Arc<dyn Storage>,
        found: Records,
    ) -> Result<Hub, OpenError> {
        let now = now();
        let ids = Arc::new(IdClock::new(stored_lease(&*storage)?));
        renew_lease(now, &ids, &*storage)?;
        ids.start(now.unix_ms);
        let reports = Arc::new(Reports {
            inner: Mutex::new(Weak::new()),
        });
        let commits = match storage.is_volatile() {
            true => None,
            false => {
                let limits = GroupLimits::default();
                let listener: Arc<dyn CommitListener> = reports.clone();
                Some(Arc::new(GroupCommit::spawn(
                    storage.clone(),
                    listener,
                    limits,
                )?))
            }
        };
        let inner = Arc::new(Inner {
            settings,
            realms: Mutex::default(),
            storage,
            commits,
            ids,
            clock: Arc::new(Clock::default()),
            thread: Mutex::new(None),
            next_owner: AtomicU64::new(1),
            draining: AtomicBool::new(false),
        });
        *reports.inner.lock() = Arc::downgrade(&inner);
        inner.restore(now, found)?;
        inner.clock.lease_at(now.instant + LEASE_CHECK);
        let weak = Arc::downgrade(&inner);
        let clock = inner.clock.clone();
        let thread = std::thread::Builder::new()
            .name("realm-clock".to_owned())
            .spawn(move || keep_time(&clock, &weak))?;
        *inner.thread.lock() = Some(thread);
        Ok(Hub { inner })
    }

    /// The realm of protocols that name none.
    #[must_use]
    pub fn default_realm(&self) -> &ByteString {
        &self.inner.settings.default_realm
    }

    /// Whether the store keeps nothing.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.inner.storage.is_volatile()
    }

    /// Checks who wants to enter `realm` (the default one if `None`).
    ///
    /// # Errors
    /// See [`EnterError`].
    pub fn check(
        &self,
        realm: Option<&ByteString>,
        credentials: &Credentials,
    ) -> Result<Proof, EnterError> {
        if self.inner.draining.load(Ordering::Relaxed) {
            return Err(EnterError::ShuttingDown);
        }
        let name = realm.unwrap_or(&self.inner.settings.default_realm);
        let access = self.inner.access(name)?;
        Ok(access.check(credentials)?)
    }

    /// Lets a verified peer into `realm`.
    ///
    /// # Errors
    /// See [`EnterError`].
    pub fn enter(
        &self,
        now: Now,
        realm: Option<&ByteString>,
        verified: Verified,
        request: EnterRequest,
    ) -> Result<Door, EnterError> {
        let name = realm.unwrap_or(&self.inner.settings.default_realm);
        let identity = Arc::new(identity(verified, &request)?);
        let mut join = Some(Join {
            identity: identity.clone(),
            features: request.features,
            style: request.style,
            client: request.client,
        });
        loop {
            let cell = self.inner.cell(name)?;
            let entered = cell.enter(now, |realm, effects| {
                join.take().map(|join| realm.join(now, join, effects))
            });
            // A realm that closed in between is made anew.
            let Some(result) = entered.flatten() else {
                if join.is_none() {
                    return Err(EnterError::Unavailable);
                }
                continue;
            };
            let Joined { connection, outbox } = result.map_err(|refusal| match refusal.kind {
                ErrorKind::NotAuthorized => EnterError::NotAuthorized(refusal.message.into_owned()),
                ErrorKind::StorageUnavailable => EnterError::Unavailable,
                _ => EnterError::TooMany,
            })?;
            return Ok(Door {
                cell,
                connection,
                outbox,
                identity,
            });
        }
    }

    /// The connection that `verified` would take over by entering as this client: it can be
    /// [asked](crate::outbox::Former::ask) to hear out its peer first. `None` also if it may not.
    #[must_use]
    pub fn former(
        &self,
        realm: Option<&ByteString>,
        client: &str,
        verified: &Verified,
    ) -> Option<(Arc<Outbox>, u64)> {
        let name = realm.unwrap_or(&self.inner.settings.default_realm);
        let cell = self.inner.realms.lock().by_name.get(name).cloned()?;
        let proven = verified.authid.as_ref().filter(|_| verified.by_secret);
        cell.inspect(|realm| realm.former(client, proven))
    }

    /// A realm that was made for its first session goes with its last, if it keeps nothing.
    pub fn tidy(&self, cell: &Arc<RealmCell>) {
        if self.inner.settings.realms.contains_key(cell.name())
            || *cell.name() == self.inner.settings.default_realm
        {
            return;
        }
        let mut realms = self.inner.realms.lock();
        if realms
            .by_name
            .get(cell.name())
            .is_some_and(|known| Arc::ptr_eq(known, cell))
            && cell.close_if_idle()
        {
            realms.by_name.remove(cell.name());
            let owner = realms
                .by_owner
                .iter()
                .find(|(_, known)| Arc::ptr_eq(known, cell))
                .map(|(owner, _)| *owner);
            if let Some(owner) = owner {
                realms.by_owner.remove(&owner);
                if let Some(commits) = &self.inner.commits {
                    commits.forget(owner);
                }
            }
        }
    }

    /// All realms now.
    #[must_use]
    pub fn realms(&self) -> Vec<Arc<RealmCell>> {
        let mut cells: Vec<_> = self.inner.realms.lock().by_name.values().cloned().collect();
        cells.sort_by(|a, b| a.name().cmp(b.name()));
        cells
    }

    /// Figures now.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let mut stats = HubStats {
            store: self.inner.commits.as_ref().map(|commits| commits.stats()),
            sizes: crate::realm::SIZES.map(|name| (name, 0)).to_vec(),
            ..HubStats::default()
        };
        for cell in self.realms() {
            stats.realms += 1;
            cell.inspect(|realm| {
                stats.counters.add(realm.counters());
                stats.store_down |= realm.is_store_down();
                for (sum, (_, size)) in stats.sizes.iter_mut().zip(realm.sizes()) {
                    sum.1 += size;
                }
            });
        }
        stats
    }

    /// Nobody enters any more.
    pub fn start_drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the router shuts down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// Tells every session that it is over.
    pub fn end_sessions(&self, reason: &EndReason) {
        let now = now();
        for cell in self.realms() {
            cell.with(now, |realm, effects| realm.close(now, reason, effects));
        }
    }

    /// Writes what is queued and stops the threads. Blocks.
    pub fn close(&self) {
        self.start_drain();
        self.inner.clock.stop();
        if let Some(thread) = self.inner.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the clock thread ended with a panic");
        }
        if let Some(commits) = &self.inner.commits {
            commits.shutdown();
        }
    }
}

impl Inner {
    fn access(&self, name: &ByteString) -> Result<Arc<Access>, EnterError> {
        if let Some(access) = self.settings.realms.get(name) {
            return Ok(access.clone());
        }
        if !is_realm_name(name) {
            return Err(EnterError::InvalidRealm);
        }
        if !self.settings.auto_realms {
            return Err(EnterError::NoSuchRealm);
        }
        Ok(Arc::new(Access::open()))
    }

    fn cell(&self, name: &ByteString) -> Result<Arc<RealmCell>, EnterError> {
        self.access(name)?;
        let mut realms = self.realms.lock();
        if let Some(cell) = realms.by_name.get(name) {
            return Ok(cell.clone());
        }
        if realms.by_name.len() >= self.settings.max_realms {
            return Err(EnterError::TooMany);
        }
        Ok(self.make(name, &mut realms))
    }

    fn make(&self, name: &ByteString, realms: &mut Realms) -> Arc<RealmCell> {
        let settings = Settings {
            name: ByteString::from(&**name),
            limits: self.settings.limits,
            naming: self.settings.naming.clone(),
            durable: self.commits.is_some(),
            sharing: self.settings.sharing.clone(),
            history: self.settings.history.get(name).cloned().unwrap_or_default(),
        };
        let seed = SysRng.try_next_u64().unwrap_or_else(|_| now().unix_ms);
        let realm = Realm::new(settings, self.ids.clone(), seed);
        let owner = self.next_owner.fetch_add(1, Ordering::Relaxed);
        let cell = Arc::new(RealmCell::new(
            owner,
            realm,
            self.settings
                .durability
                .get(name)
                .copied()
                .unwrap_or_default(),
            self.commits.clone(),
            self.clock.clone(),
        ));
        realms.by_name.insert(cell.name().clone(), cell.clone());
        realms.by_owner.insert(owner, cell.clone());
        cell
    }

    fn restore(&self, now: Now, found: Records) -> Result<(), OpenError> {
        let mut realms: Vec<_> = found.0.into_iter().collect();
        realms.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, records) in realms {
            let name = ByteString::from(name);
            let access = self.settings.realms.get(&name).cloned().unwrap_or_else(|| {
                Arc::new(if self.settings.auto_realms {
                    Access::open()
                } else {
                    Access::default()
                })
            });
            let cell = self.make(&name, &mut self.realms.lock());
            let role_of = |role: &str| Some(access.role(role));
            let (result, _) = cell.with(now, |realm, effects| -> Result<(), OpenError> {
                realm.restore(now, records, &role_of, effects)?;
                // On disk before anybody is let in, and not by the group commit: a failure here
                // stops the start instead of being retried.
                let batch = std::mem::take(&mut effects.batch);
                if !batch.is_empty() {
                    self.storage.commit(&batch)?;
                }
                realm.restored();
                Ok(())
            });
            result?;
        }
        Ok(())
    }
}

fn keep_time(clock: &Clock, inner: &Weak<Inner>) {
    while let Some((owner, kind)) = clock.next() {
        let Some(inner) = inner.upgrade() else { return };
        let now = now();
        if kind == Kind::Lease {
            if let Err(error) = renew_lease(now, &inner.ids, &*inner.storage) {
                tracing::error!(%error, "the lease of publication ids could not be stored; it will be tried again");
            }
            clock.lease_at(now.instant + LEASE_CHECK);
            continue;
        }
        let cell = inner.realms.lock().by_owner.get(&owner).cloned();
        if let Some(cell) = cell {
            cell.deadline_passed();
            cell.tick(now, kind == Kind::Probe);
        }
    }
}

fn identity(verified: Verified, request: &EnterRequest) -> Result<Identity, EnterError> {
    let authid = match verified.authid {
        Some(authid) => authid,
        None => {
            let random = SysRng.try_next_u64().map_err(|_| EnterError::Unavailable)?;
            ByteString::from(format!("anonymous-{random:016x}"))
        }
    };
    let method = match verified.by_secret {
        true => request.method.clone(),
        false => ByteString::from_static(crate::session::ANONYMOUS),
    };
    Ok(Identity {
        authid,
        role: verified.role,
        method,
        provider: ByteString::from_static("static"),
        transport: request.transport.clone(),
    })
}

/// Whether this can be the name of a realm, a loose URI: dotted, with no empty component, white
/// space, `#` or control character, and not too long.
#[must_use]
pub fn is_realm_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    name.len() <= MAX_REALM_NAME
        && name
            .split('.')
            .all(|part| !part.is_empty() && !part.contains(bad))
}

fn stored_lease(storage: &dyn Storage) -> Result<u64, OpenError> {
    let stored = storage.get(records::META, LEASE_KEY)?;
    Ok(stored
        .and_then(|bytes| records::number(&bytes))
        .unwrap_or(0))
}

fn renew_lease(now: Now, ids: &IdClock, storage: &dyn Storage) -> Result<(), StorageError> {
    if let Some(ceiling) = ids.lease_wanted(now.unix_ms) {
        let mut batch = Batch::default();
        batch.put(records::META, LEASE_KEY, ceiling.to_be_bytes().to_vec());
        storage.commit(&batch)?;
        ids.lease_granted(ceiling);
    }
    Ok(())
}
