//! Listeners: from an accepted socket to the gate that its first byte asks for.

use crate::config::{Address, Listener, ListenerKind};
use crate::http;
use crate::local::{self, LocalListener, LocalStream};
use crate::router::{Router, Served, StartError};
use bytes::BytesMut;
use protocols::transport::rawsocket;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Connections the operating system may keep waiting.
const BACKLOG: i32 = 1024;
/// Pause after a failed accept (no descriptors left, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Shortest time between two log lines about failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which TCP itself asks whether the peer is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// ... and how often it asks before it gives up.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Held by each connection: its place under the listener's limit, and the sign of life that a
/// draining server waits for. Connections made during the drain give none.
pub struct Guard {
    _permit: OwnedSemaphorePermit,
    _alive: Option<mpsc::Sender<()>>,
}

/// A socket that is listened on.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix domain socket.
    Local(LocalListener),
}

/// A connection that was accepted, and how its peer is called.
enum Accepted {
    Tcp(TcpStream, String),
    Local(LocalStream, String),
}

/// A stream whose first byte can be looked at.
pub trait Peek: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The first byte, which stays to be read; `None` if the peer closed. Cancel safe.
    fn first_byte(&mut self) -> impl Future<Output = io::Result<Option<u8>>> + Send;
}

impl Peek for TcpStream {
    async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let peeked = self.peek(&mut first).await?;
        Ok((peeked == 1).then_some(first[0]))
    }
}

impl Peek for LocalStream {
    async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        LocalStream::first_byte(self).await
    }
}

/// Binds an address.
///
/// # Errors
/// [`StartError::Listen`], naming the address.
pub fn bind(listener: &Listener) -> Result<Bound, StartError> {
    let bound = match &listener.bind {
        Address::Tcp(address) => bind_socket(*address).map(Bound::Tcp),
        Address::Unix(path) => local::bind(path, listener.mode, BACKLOG).map(Bound::Local),
    };
    bound.map_err(|error| StartError::Listen {
        address: listener.bind.clone(),
        error,
    })
}

impl Bound {
    /// Where it listens, with the port that was picked.
    pub fn address(&self, configured: &Address) -> Address {
        match self {
            Bound::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.into(),
                Err(_) => configured.clone(),
            },
            Bound::Local(_) => configured.clone(),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Bound::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Accepted::Tcp(socket, peer.to_string())
            }
            Bound::Local(listener) => {
                let (socket, peer) = listener.accept().await?;
                Accepted::Local(socket, peer)
            }
        })
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the router drains.
pub async fn accept(
    router: Router,
    listener: Bound,
    kind: ListenerKind,
    max_connections: usize,
    first_byte_timeout: Duration,
    alive: mpsc::Sender<()>,
) {
    let permits = Arc::new(Semaphore::new(max_connections));
    let mut drain = router.drain_signal();
    let mut last_log: Option<Instant> = None;
    let mut alive = Some(alive);
    loop {
        // Beyond the limit connections wait with the operating system.
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            // Health is still told, until the process ends; nobody else is let in.
            _ = drain.wait_for(|drain| *drain), if alive.is_some() => {
                if kind == ListenerKind::Mqtt {
                    return;
                }
                alive = None;
                continue;
            }
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if last_log.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                    last_log = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { return };
        let guard = Guard {
            _permit: permit,
            _alive: alive.clone(),
        };
        let router = router.clone();
        match accepted {
            Accepted::Tcp(socket, peer) => {
                if let Err(error) = prepare(&socket) {
                    tracing::debug!(%peer, %error, "connection lost");
                    continue;
                }
                serve(router, socket, peer, kind, first_byte_timeout, guard);
            }
            Accepted::Local(socket, peer) => {
                serve(router, socket, peer, kind, first_byte_timeout, guard);
            }
        }
    }
}

/// The task has room for the connection alone, and for nothing that came before.
fn serve_mqtt<S: Peek>(router: &Router, socket: S, peer: String, guard: Guard) {
    tokio::spawn(Served {
        run: router.serve_mqtt(socket, BytesMut::new(), peer),
        _held: guard,
    });
}

fn serve<S: Peek>(
    router: Router,
    socket: S,
    peer: String,
    kind: ListenerKind,
    first_byte_timeout: Duration,
    guard: Guard,
) {
    match kind {
        ListenerKind::Mqtt => serve_mqtt(&router, socket, peer, guard),
        ListenerKind::Universal => {
            tokio::spawn(universal(router, socket, peer, first_byte_timeout, guard));
        }
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE_INTERVAL);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// The first byte decides what is spoken.
async fn universal<S: Peek>(
    router: Router,
    mut socket: S,
    peer: String,
    first_byte_timeout: Duration,
    guard: Guard,
) {
    let mut drain = router.drain_signal();
    let draining = !router.is_ready();
    let first = tokio::select! {
        first = timeout(first_byte_timeout, socket.first_byte()) => first,
        _ = drain.wait_for(|drain| *drain), if !draining => return,
    };
    let Ok(Ok(Some(first))) = first else { return };
    match first {
        // CONNECT, the only packet that may come first. [MQTT-3.1.0-1]
        0x10 => serve_mqtt(&router, socket, peer, guard),
        // In boxes of their own: every connection's task has room for the largest branch.
        rawsocket::MAGIC => {
            Box::pin(router.serve_rawsocket(socket, peer)).await;
            drop(guard);
        }
        byte if byte.is_ascii_alphabetic() => {
            Box::pin(http::serve(router, socket, peer, guard)).await;
        }
        byte => {
            if let Some(unlogged) = router.traffic().violation(Instant::now()) {
                tracing::warn!(
                    peer,
                    byte,
                    unlogged,
                    "a peer speaks no protocol that is served here"
                );
            }
        }
    }
}
