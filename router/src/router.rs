//! A router without listeners: realms, store and gates, to be embedded in any tokio program.

use crate::access::{self, RuleError};
use crate::bridge::Status;
use crate::config::{Address, Config, DataStore, ListenerLimits, Mqtt};
use crate::gates::{self, GateOptions, Protocol};
use crate::longpoll::Polls;
use crate::session::OpenSession;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::gate::{Driver, DriverOptions, Gate, Proofs, Traffic};
use protocols::transport::{
    MailboxTransport, RawSocketOptions, RawSocketTransport, StreamTransport, Transport,
    WebSocketLimits, WebSocketTransport, rawsocket,
};
use protocols::wamp::machine::encoding_of_serializer;
use router_core::auth::{Access, Role};
use router_core::broker::Sharing;
use router_core::encoding::Encoding;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::runtime::reading::{self, Found};
use router_core::runtime::{Hub, HubSettings, OpenError, now};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use storage::{Durability, MemoryStorage, Storage};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a socket may take nothing while there is something to write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connected client may leave everything unacknowledged before it is taken for stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long a newcomer waits until the connection whose place it takes has read what its peer sent.
const HEAR_OUT: Duration = Duration::from_millis(250);
/// How long a peer may take to accept the last bytes, and then to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Longer than any router runs.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Why a router or server cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration asks for something impossible.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The data directory cannot be opened.
    #[error("{0}")]
    Data(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        error: std::io::Error,
    },
}

impl StartError {
    /// The exit code of the program: 2 configuration, 3 data directory, 1 anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Rule(_) => 2,
            StartError::Data(OpenError::Thread(_)) | StartError::Listen { .. } => 1,
            StartError::Data(_) => 3,
        }
    }
}

/// A router: a handle, cheap to clone.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
    /// How the connections served through this handle are spoken to.
    gates: Arc<GateOptions>,
}

struct Inner {
    hub: Hub,
    /// Roles of the configured realms.
    access: HashMap<ByteString, Arc<Access>>,
    session_queue: LaneLimit,
    /// What connections are run with.
    run_with: Arc<DriverOptions>,
    /// ... and those of peers that come and go.
    run_patiently: Arc<DriverOptions>,
    drain: watch::Sender<bool>,
    bridges: OnceLock<Vec<Arc<Status>>>,
    /// Connections being served.
    open: watch::Sender<usize>,
    websocket_limits: WebSocketLimits,
    silence: Silence,
    polls: Polls,
}

/// What is done about silent peers.
struct Silence {
    rawsocket_pings: bool,
    poll_hold: Duration,
    polls_no_content: bool,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("hub", &self.inner.hub)
            .finish_non_exhaustive()
    }
}

impl Router {
    /// Opens the data directory and the realms in it. Listeners of the configuration are ignored.
    /// Blocks for as long as reading the data takes.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn open(config: &Config) -> Result<Router, StartError> {
        let access = access::compile(config)?;
        let limits = realm_limits(config);
        let settings = HubSettings {
            default_realm: config.default_realm.as_str().into(),
            auto_realms: config.auto_realms,
            max_realms: count(config.limits.max_realms),
            realms: access.clone(),
            limits,
            naming: gates::naming(),
            sharing: sharing(&config.mqtt),
            history: access::history(config)?,
            durability: durability(config),
        };
        let (storage, found) = open_storage(config, limits.outbox.resident)?;
        let hub = Hub::open_with(settings, storage, found)?;
        let max_message_bytes = gates::wamp_message_bytes(config);
        let drain = watch::Sender::new(false);
        let run_with = driver_options(config, &drain);
        let run_patiently = DriverOptions {
            // What such a peer does not take at once it may take later; its silence tells.
            write_timeout: NEVER,
            ..run_with.clone()
        };
        let inner = Inner {
            hub,
            access,
            session_queue: limits.outbox.ordered,
            run_with: Arc::new(run_with),
            run_patiently: Arc::new(run_patiently),
            drain,
            bridges: OnceLock::new(),
            open: watch::Sender::new(0),
            websocket_limits: WebSocketLimits { max_message_bytes },
            silence: Silence {
                rawsocket_pings: config.limits.rawsocket_pings,
                // Who waits cannot show itself.
                poll_hold: Duration::from_secs(config.limits.longpoll_hold_secs.into())
                    .min(Duration::from_secs(config.limits.dead_after_secs.into()) / 2),
                polls_no_content: config.limits.longpoll_no_content,
            },
            polls: Polls::new(count(config.limits.max_longpoll_sessions)),
        };
        Ok(Router {
            inner: Arc::new(inner),
            gates: Arc::new(GateOptions::new(config)),
        })
    }

    /// The same router; connections served through this handle obey other limits.
    #[must_use]
    pub fn limited(&self, limits: &ListenerLimits) -> Router {
        Router {
            inner: self.inner.clone(),
            gates: Arc::new(self.gates.limited(limits)),
        }
    }

    /// Serves MQTT on a byte stream, to its end. `read` was read from it already; `peer` names it
    /// in logs and listings.
    pub fn serve_mqtt<S>(
        &self,
        io: S,
        read: BytesMut,
        peer: String,
    ) -> impl Future<Output = ()> + Send + Unpin + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let transport = StreamTransport::new(io, read);
        self.serve(transport, Protocol::Mqtt, peer)
    }

    /// Serves WAMP over RawSocket on a byte stream, from its handshake to its end. `peer` names it in
    /// logs and listings.
    pub async fn serve_rawsocket<S>(&self, mut io: S, peer: String)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(request) = self.shake_hands(&mut io, &peer).await else {
            return;
        };
        let Some(encoding) = encoding_of_serializer(request.serializer) else {
            return;
        };
        let options = RawSocketOptions {
            takes_bytes: rawsocket::announced_bytes(self.inner.websocket_limits.max_message_bytes),
            receives_bytes: request.receives_bytes,
            is_text: encoding == Encoding::Json,
            always_pings: self.inner.silence.rawsocket_pings,
        };
        let transport = RawSocketTransport::new(io, options);
        let gate = self
            .gates
            .wamp_gate(now(), encoding, request.receives_bytes);
        let options = self.inner.run_with.clone();
        self.serve_gate(transport, gate, options, peer).await;
    }

    /// The opening handshake of a RawSocket, unless it takes too long or the router shuts down.
    async fn shake_hands<S>(&self, io: &mut S, peer: &str) -> Option<rawsocket::Request>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let takes_bytes = self.inner.websocket_limits.max_message_bytes;
        let is_served = |serializer| encoding_of_serializer(serializer).is_some();
        let mut drain = self.drain_signal();
        let draining = !self.is_ready();
        let shaken = tokio::select! {
            shaken = timeout(self.gates.login_timeout(), rawsocket::accept(io, takes_bytes, is_served)) => shaken,
            _ = drain.wait_for(|drain| *drain), if !draining => return None,
        };
        match shaken {
            Ok(Ok(request)) => Some(request),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(unlogged) = self.traffic().violation(now().instant) {
                    tracing::warn!(peer, %error, unlogged, "a peer was turned away");
                }
                None
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn serve<T: Transport + Unpin + 'static>(
        &self,
        transport: T,
        protocol: Protocol,
        peer: String,
    ) -> impl Future<Output = ()> + Send + Unpin + use<T> {
        let gate = self.gates.gate(now(), protocol);
        let options = self.inner.run_with.clone();
        self.serve_gate(transport, gate, options, peer)
    }

    /// Serves WAMP to a peer that comes and goes, to its end.
    pub(crate) fn serve_mailbox(
        &self,
        transport: MailboxTransport,
        encoding: Encoding,
        peer: String,
    ) -> impl Future<Output = ()> + Send + use<> {
        let gate = self.gates.gate(now(), Protocol::Wamp(encoding.into()));
        let options = self.inner.run_patiently.clone();
        self.serve_gate(transport, gate, options, peer)
    }

    /// The open transports of clients that poll.
    pub(crate) fn polls(&self) -> &Polls {
        &self.inner.polls
    }

    /// How long a poll is held when there is nothing to take.
    pub(crate) fn poll_hold(&self) -> Duration {
        self.inner.silence.poll_hold
    }

    /// Whether polls without content are answered with 204.
    pub(crate) fn polls_no_content(&self) -> bool {
        self.inner.silence.polls_no_content
    }

    /// The longest WAMP message taken, in bytes.
    pub(crate) fn wamp_bytes_max(&self) -> usize {
        self.inner.websocket_limits.max_message_bytes
    }

    fn serve_gate<T: Transport + Unpin + 'static>(
        &self,
        transport: T,
        gate: Box<dyn Gate>,
        options: Arc<DriverOptions>,
        peer: String,
    ) -> impl Future<Output = ()> + Send + Unpin + use<T> {
        let open = Open::new(self);
        let hub = self.inner.hub.clone();
        Served {
            run: Driver::new(transport, gate, hub, options, peer).run(),
            _held: open,
        }
    }

    /// Serves a WebSocket after its upgrade, to its end.
    pub(crate) async fn serve_websocket<S>(
        &self,
        io: S,
        read: Bytes,
        protocol: Protocol,
        peer: String,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = match protocol {
            Protocol::Mqtt => WebSocketLimits {
                max_message_bytes: self.gates.mqtt_message_bytes(),
            },
            // As with MQTT: a message may come in one frame with others around it.
            Protocol::Wamp(serialization) if serialization.batched => WebSocketLimits {
                max_message_bytes: self.gates.wamp_batch_bytes(),
            },
            Protocol::Wamp(_) => self.inner.websocket_limits,
        };
        let transport = WebSocketTransport::new(io, read, limits);
        self.serve(transport, protocol, peer).await;
    }

    /// What connections are run with.
    pub(crate) fn driver_options(&self) -> &DriverOptions {
        &self.inner.run_with
    }

    /// Opens a session of `realm` inside this program: `router.session("realm1").await?`. It may do
    /// everything unless it is given a [role](OpenSession::role). Must be awaited within a tokio
    /// runtime.
    pub fn session<'a>(&'a self, realm: &'a str) -> OpenSession<'a> {
        OpenSession::new(self, realm)
    }

    /// A role of a realm; one without rules may do everything.
    pub(crate) fn role(&self, realm: &str, name: &str) -> Arc<Role> {
        match self.inner.access.get(realm) {
            Some(access) => access.role(name),
            None => Arc::new(Role::unrestricted(name)),
        }
    }

    /// What an in-process session may leave unread.
    pub(crate) fn session_queue_limit(&self) -> LaneLimit {
        self.inner.session_queue
    }

    /// Realms and figures.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Counters of all connections.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.inner.run_with.traffic
    }

    /// The bridges that were started.
    pub(crate) fn bridges(&self) -> &[Arc<Status>] {
        self.inner.bridges.get().map_or(&[], Vec::as_slice)
    }

    /// This router's id for bridges that come from other routers.
    pub(crate) fn set_router_id(&self, id: &str) {
        self.gates.set_router_id(id);
    }

    /// Notes the bridges that were started; only the first time counts.
    pub(crate) fn set_bridges(&self, bridges: Vec<Arc<Status>>) {
        self.inner.bridges.get_or_init(|| bridges);
    }

    /// Name, help text and value of the gates' own counters.
    pub(crate) fn gate_counters(&self) -> Vec<(String, &'static str, u64)> {
        self.gates.counters()
    }

    /// Turns true when the router begins to shut down.
    #[must_use]
    pub fn drain_signal(&self) -> watch::Receiver<bool> {
        self.inner.drain.subscribe()
    }

    /// Whether new sessions are let in.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.inner.hub.is_draining()
    }

    /// Lets nobody in any more and tells every connection to say goodbye.
    pub fn start_drain(&self) {
        self.inner.hub.start_drain();
        self.inner.drain.send_replace(true);
    }

    /// Waits until no connection is being served: after [`Router::start_drain`], until every peer
    /// has taken its leave. Sessions inside the program are not waited for.
    pub async fn connections_ended(&self) {
        let mut open = self.inner.open.subscribe();
        // The sender lives as long as this handle.
        let _ = open.wait_for(|open| *open == 0).await;
    }

    /// Writes what is queued and stops the router's threads. Call it when no connection is left, or
    /// none shall be waited for.
    pub async fn close(&self) {
        let hub = self.inner.hub.clone();
        if tokio::task::spawn_blocking(move || hub.close())
            .await
            .is_err()
        {
            tracing::error!("closing the store ended with a panic");
        }
    }
}

/// Counts a connection while it is served.
struct Open(Arc<Inner>);

impl Open {
    fn new(router: &Router) -> Open {
        router.inner.open.send_modify(|open| *open += 1);
        Open(router.inner.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// A connection being served, and what is gone after it. Not an `async` block, which would have room for the connection
/// twice: for what it was made with, and for what it awaits.
pub(crate) struct Served<F, G> {
    pub(crate) run: F,
    pub(crate) _held: G,
}

impl<F: Future<Output = ()> + Unpin, G: Unpin> Future for Served<F, G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.run).poll(cx)
    }
}

fn driver_options(config: &Config, drain: &watch::Sender<bool>) -> DriverOptions {
    DriverOptions {
        ping_after: Duration::from_secs(config.limits.ping_after_secs.into()),
        dead_after: Duration::from_secs(config.limits.dead_after_secs.into()),
        write_timeout: WRITE_TIMEOUT,
        hear_out: HEAR_OUT,
        linger: LINGER,
        drain: drain.subscribe(),
        traffic: Arc::new(Traffic::default()),
        proofs: Proofs::default(),
    }
}

fn open_storage(config: &Config, resident: usize) -> Result<(Arc<dyn Storage>, Found), OpenError> {
    match &config.data {
        DataStore::Memory => Ok((Arc::new(MemoryStorage::new()), Found::default())),
        DataStore::Directory(path) => reading::open(path, config.storage_engine, resident),
    }
}

fn realm_limits(config: &Config) -> RealmLimits {
    let (limits, mqtt) = (&config.limits, &config.mqtt);
    let outbox = LaneLimit {
        frames: count(limits.max_outbox_frames),
        bytes: size(limits.max_outbox_bytes),
    };
    let queued = LaneLimit {
        frames: count(mqtt.max_queued_messages),
        bytes: size(mqtt.max_queued_bytes),
    };
    RealmLimits {
        subscriptions_per_session: count(limits.max_subscriptions_per_session),
        registrations_per_session: count(limits.max_registrations_per_session),
        calls_per_session: count(limits.max_pending_calls_per_session),
        expiry_max: match mqtt.max_session_expiry_secs {
            u32::MAX => Duration::MAX,
            secs => Duration::from_secs(secs.into()),
        },
        outbox: OutboxLimits {
            ordered: outbox,
            best: outbox,
            sure: queued,
            patience: STUCK_AFTER,
            when_full: mqtt.queue_full,
            resident: count(mqtt.queued_in_memory),
        },
        ..RealmLimits::default()
    }
}

fn durability(config: &Config) -> HashMap<ByteString, Durability> {
    let realms = config.realms.iter();
    realms
        .map(|realm| (realm.name.as_str().into(), realm.durability))
        .collect()
}

fn sharing(mqtt: &Mqtt) -> Sharing {
    let groups = mqtt.shared.iter();
    Sharing {
        default: mqtt.shared_strategy,
        by_group: groups
            .map(|group| (group.group.as_str().into(), group.strategy))
            .collect(),
    }
}

fn count(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
