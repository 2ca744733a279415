//! A router with its listeners, as the program runs it.

use crate::bridge;
use crate::config::{Address, Config, DataStore, ListenerKind};
use crate::listen;
use crate::router::{Router, StartError};
use crate::sys;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A running server.
#[derive(Debug)]
pub struct Server {
    router: Router,
    addresses: Vec<(ListenerKind, Address)>,
    default_realm: String,
    data: DataStore,
    drain_timeout: Duration,
    /// The tasks that accept, and the one that keeps the status values.
    accepting: Vec<JoinHandle<()>>,
    /// Ends when every listener and connection is gone.
    alive: mpsc::Receiver<()>,
}

impl Server {
    /// Opens the data, then the listeners; when this returns every listener accepts. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<Server, StartError> {
        // Addresses first: a server that cannot listen must not apply the wills of sessions that
        // are alive in another process on the same address.
        let mut bound = Vec::new();
        for listener in &config.listeners {
            bound.push((listener.kind, listen::bind(listener)?));
        }
        let config_for_router = config.clone();
        let opened = tokio::task::spawn_blocking(move || Router::open(&config_for_router)).await;
        let router = match opened {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (alive_sender, alive) = mpsc::channel(1);
        bridge::start(&router, config, &alive_sender);
        let (mut addresses, mut accepting) = (Vec::new(), Vec::new());
        let every = Duration::from_secs(config.mqtt.sys_interval_secs.into());
        if !every.is_zero() {
            accepting.push(tokio::spawn(sys::run(router.clone(), every)));
        }
        for ((kind, listener), configured) in bound.into_iter().zip(&config.listeners) {
            addresses.push((kind, listener.address(&configured.bind)));
            let limits = &configured.limits;
            let max = limits.max_connections;
            let max = max.unwrap_or(config.limits.max_connections_per_listener);
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let max = max.min(tokio::sync::Semaphore::MAX_PERMITS);
            let login = limits.login_timeout_secs;
            let login = login.unwrap_or(config.limits.login_timeout_secs);
            let first_byte = Duration::from_secs(login.into());
            let (router, alive) = (router.limited(limits), alive_sender.clone());
            accepting.push(tokio::spawn(listen::accept(
                router, listener, kind, max, first_byte, alive,
            )));
        }
        Ok(Server {
            router,
            addresses,
            default_realm: config.default_realm.clone(),
            data: config.data.clone(),
            accepting,
            drain_timeout: Duration::from_secs(config.limits.drain_timeout_secs.into()),
            alive,
        })
    }

    /// The router inside.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The TCP addresses listened on, with real ports.
    pub fn addresses(&self, kind: ListenerKind) -> impl Iterator<Item = SocketAddr> + '_ {
        self.listening(kind).filter_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        })
    }

    /// Everything listened on, with real ports.
    pub fn listening(&self, kind: ListenerKind) -> impl Iterator<Item = &Address> + '_ {
        self.addresses
            .iter()
            .filter(move |(k, _)| *k == kind)
            .map(|(_, address)| address)
    }

    /// The line that says where the server is, for whoever waits for it.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let list = |kind| {
            let mut text = String::new();
            for address in self.listening(kind) {
                let comma = if text.is_empty() { "" } else { "," };
                // Writing to a string cannot fail.
                let _ = write!(text, "{comma}{address}");
            }
            if text.is_empty() {
                "off".to_owned()
            } else {
                text
            }
        };
        format!(
            "reynard ready listen={} mqtt={} realm={} data={} pid={}",
            list(ListenerKind::Universal),
            list(ListenerKind::Mqtt),
            self.default_realm,
            self.data,
            std::process::id(),
        )
    }

    /// Stops accepting, lets every connection say goodbye, and closes the store. Takes at most the
    /// configured time plus what the last writes take.
    pub async fn shutdown(mut self) {
        self.router.start_drain();
        let ended = async {
            self.alive.recv().await;
            // Clients that poll have no connection of their own.
            self.router.connections_ended().await;
        };
        if tokio::time::timeout(self.drain_timeout, ended)
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time");
        }
        self.router.close().await;
        // Until here health was still told.
        for task in self.accepting {
            task.abort();
            // Gone for sure, and with it what it held of the router.
            let _ = task.await;
        }
    }
}
