//! The task of one bridge: connect, run the connection, wait, again; and the making and ending of
//! its session on this side.

use super::Status;
use super::spec::{Spec, local_id};
use crate::router::Router;
use bytes::BytesMut;
use bytestring::ByteString;
use protocols::gate::{Driver, DriverOptions};
use protocols::mqtt::bridge::{Backoff, BridgeMachine, End, Ladder, local_subscriptions};
use protocols::transport::StreamTransport;
use rand::TryRng as _;
use rand::rngs::SysRng;
use router_core::auth::{Role, Verified};
use router_core::model::{Command, Pattern, RequestId, Unsubscribe, UnsubscribeTarget};
use router_core::runtime::{Door, EnterError, EnterRequest, now};
use router_core::session::{ClientJoin, EventStyle, Features, Leave};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long looking up the peer's name and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The session on this side is made sure of at least this often while the peer is away.
const RENEW_AT_MOST: Duration = Duration::from_secs(3_600);
/// ... and at most this often.
const RENEW_AT_LEAST: Duration = Duration::from_secs(1);

/// The task of one bridge.
pub(super) struct Link {
    router: Router,
    spec: Arc<Spec>,
    status: Arc<Status>,
    options: Arc<protocols::mqtt::bridge::BridgeOptions>,
    ladder: Ladder,
    backoff: Backoff,
    drain: watch::Receiver<bool>,
    renew_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(
        router: Router,
        spec: Arc<Spec>,
        status: Arc<Status>,
        stale_filters: Vec<ByteString>,
    ) -> Link {
        let mut options = spec.options.clone();
        options.stale_filters = stale_filters;
        let seed = SysRng.try_next_u64().unwrap_or_else(|_| now().unix_ms);
        let (least, most) = spec.reconnect;
        let mut link = Link {
            drain: router.drain_signal(),
            ladder: Ladder::new(spec.versions),
            backoff: Backoff::new(least, most, seed),
            options: Arc::new(options),
            router,
            spec,
            status,
            renew_at: None,
        };
        link.renewed();
        link
    }

    /// Until the router drains.
    pub(super) async fn run(mut self) {
        loop {
            let (end, connected_at) = self.attempt().await;
            self.status.disconnected();
            if self.is_draining() || end == Some(End::Drained) {
                return;
            }
            if end == Some(End::SessionEnded) {
                self.renew();
            }
            let now = Instant::now();
            if self.next_dialect(end, connected_at) {
                continue;
            }
            let again_at = self.backoff.after(now, connected_at);
            self.status.will_retry(end, again_at.duration_since(now));
            if !self.wait_until(again_at).await {
                return;
            }
        }
    }

    /// Whether another dialect is worth trying at once.
    fn next_dialect(&mut self, end: Option<End>, connected_at: Option<Instant>) -> bool {
        match end {
            _ if connected_at.is_some() => {
                self.ladder.accepted();
                false
            }
            Some(End::VersionRefused) => self.ladder.refused(),
            Some(End::ClosedEarly | End::Broken(..)) => self.ladder.closed_early(),
            _ => false,
        }
    }

    /// One connection, from the look-up of the name to its end. Answers how it ended and since
    /// when the peer had let us in; `None`: there was no connection.
    async fn attempt(&mut self) -> (Option<End>, Option<Instant>) {
        let socket = tokio::select! {
            socket = connect(&self.spec.address) => socket,
            () = drained(&mut self.drain) => return (Some(End::Drained), None),
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                self.status.unreachable(&error);
                return (None, None);
            }
        };
        let dialect = self.ladder.dialect();
        let machine = BridgeMachine::new(
            now(),
            self.options.clone(),
            dialect,
            self.status.counters(),
            self.status.report(dialect),
        );
        let options = DriverOptions {
            traffic: self.status.traffic(),
            ..self.router.driver_options().clone()
        };
        let transport = StreamTransport::new(socket, BytesMut::new());
        let hub = self.router.hub().clone();
        Driver::new(
            transport,
            Box::new(machine),
            hub,
            options,
            &*self.spec.address,
        )
        .trusted(self.spec.verified.clone())
        .run()
        .await;
        self.status.take_end()
    }

    fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Waits, and meanwhile keeps the session on this side from expiring. Answers whether to go on.
    async fn wait_until(&mut self, at: Instant) -> bool {
        loop {
            let next = self.renew_at.map_or(at, |renew_at| renew_at.min(at));
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = drained(&mut self.drain) => return false,
            }
            let now = Instant::now();
            if self.renew_at.is_some_and(|renew_at| renew_at <= now) {
                self.renew();
            }
            if at <= now {
                return true;
            }
        }
    }

    fn renew(&mut self) {
        make_session(&self.router, &self.spec, &[]);
        self.renewed();
    }

    /// A session that is never used would expire although its bridge is only waiting.
    fn renewed(&mut self) {
        let expiry = self.spec.options.local_expiry;
        let after = (expiry / 2).clamp(RENEW_AT_LEAST, RENEW_AT_MOST);
        self.renew_at = (!expiry.is_zero()).then(|| Instant::now() + after);
    }
}

async fn drained(drain: &mut watch::Receiver<bool>) {
    // A closed channel means the router is gone, which is a shutdown too.
    let _ = drain.wait_for(|drain| *drain).await;
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let socket = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Makes sure that the bridge's session is there, with the subscriptions of its rules and without
/// `former` ones.
pub(super) fn make_session(router: &Router, spec: &Spec, former: &[ByteString]) {
    let join = ClientJoin {
        id: spec.options.local_id.clone(),
        clean_start: false,
        expiry: spec.options.local_expiry,
        window: 1,
        last_will: None,
    };
    let door = match enter(router, &spec.realm, spec.verified.clone(), join) {
        Ok(door) => door,
        Err(error) => {
            tracing::error!(bridge = spec.name, realm = %spec.realm, %error, "the bridge's session cannot be made");
            return;
        }
    };
    // With `sync_retained` each connection replays them; otherwise only the first one does.
    let is_new_only = !spec.options.sync_retained;
    let gone = former.iter().filter_map(unsubscribe);
    let wanted = local_subscriptions(&spec.options.rules, is_new_only, is_new_only);
    door.cell.run(now(), door.connection, gone.chain(wanted));
    leave(router, &door);
}

/// Ends the session of a bridge that is configured no more.
pub(super) fn end_session(router: &Router, realm: &ByteString, name: &str) {
    let id = local_id(name);
    let verified = Verified {
        authid: Some(id.clone()),
        role: Arc::new(Role::unrestricted("bridge")),
        by_secret: true,
    };
    let join = ClientJoin {
        id,
        clean_start: true,
        expiry: Duration::ZERO,
        window: 1,
        last_will: None,
    };
    match enter(router, realm, verified, join) {
        Ok(door) => leave(router, &door),
        Err(error) => {
            tracing::error!(bridge = name, %realm, %error, "the session of a former bridge cannot be ended");
        }
    }
}

fn enter(
    router: &Router,
    realm: &ByteString,
    verified: Verified,
    join: ClientJoin,
) -> Result<Door, EnterError> {
    let request = EnterRequest {
        features: Features::default(),
        style: EventStyle::Lanes,
        client: Some(join),
        method: ByteString::from_static("bridge"),
        transport: [("protocol", ByteString::from_static("mqtt-bridge"))].into(),
    };
    router.hub().enter(now(), Some(realm), verified, request)
}

fn leave(router: &Router, door: &Door) {
    door.cell.leave(now(), door.connection, Leave::Lost);
    door.outbox.release(door.connection.generation);
    router.hub().tidy(&door.cell);
}

fn unsubscribe(filter: &ByteString) -> Option<Command> {
    let pattern = Pattern::from_slashes(filter).ok()?;
    let target = UnsubscribeTarget::Pattern {
        pattern,
        share: None,
    };
    let request = RequestId(0);
    Some(Command::Unsubscribe(Box::new(Unsubscribe {
        request,
        target,
    })))
}
