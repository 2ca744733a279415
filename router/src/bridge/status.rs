//! What is told about a bridge: figures, lines in the log, and a `$SYS` topic that clients read.

use super::spec::Spec;
use crate::router::Router;
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use protocols::gate::Traffic;
use protocols::mqtt::bridge::{BridgeCounters, Dialect, End, Note, Report};
use router_core::model::{Payload, Topic};
use router_core::runtime::{Hub, now};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Shortest time between two lines about the same trouble.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A bridge's figures and state.
pub(crate) struct Status {
    name: String,
    address: String,
    counters: Arc<BridgeCounters>,
    traffic: Arc<Traffic>,
    connected: AtomicUsize,
    connects: AtomicU64,
    attempts_failed: AtomicU64,
    /// Filters that the peer refused on this connection.
    filters_refused: AtomicUsize,
    state: Mutex<State>,
    notice: Option<Notice>,
}

#[derive(Default)]
struct State {
    connected_at: Option<Instant>,
    end: Option<End>,
    /// What was logged last about not being connected, and when.
    logged: Option<(String, Instant)>,
}

/// Where clients of the realm read whether the bridge is connected.
struct Notice {
    hub: Hub,
    realm: ByteString,
    topic: Topic,
}

impl Notice {
    fn set(&self, is_connected: bool) {
        let text = if is_connected { "1" } else { "0" };
        let payload = Payload::bytes(Bytes::from_static(text.as_bytes()), false);
        let realms = self.hub.realms();
        if let Some(cell) = realms.iter().find(|cell| *cell.name() == self.realm) {
            cell.set_status(now(), [(self.topic.clone(), payload)]);
        }
    }
}

impl Status {
    pub(super) fn new(router: &Router, spec: &Spec) -> Status {
        let topic = format!("$SYS/broker/connection/{}/state", spec.options.client_id);
        let topic = Topic::new(topic).ok().filter(|_| spec.notifications);
        let notice = topic.map(|topic| Notice {
            hub: router.hub().clone(),
            realm: spec.realm.clone(),
            topic,
        });
        let status = Status {
            name: spec.name.clone(),
            address: spec.address.clone(),
            counters: Arc::default(),
            traffic: Arc::default(),
            connected: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
            attempts_failed: AtomicU64::new(0),
            filters_refused: AtomicUsize::new(0),
            state: Mutex::default(),
            notice,
        };
        status.tell(false);
        status
    }

    pub(super) fn counters(&self) -> Arc<BridgeCounters> {
        self.counters.clone()
    }

    /// The bridge's connections are none that were accepted, so they have figures of their own.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    /// Takes what happens on a connection that speaks `dialect`.
    pub(super) fn report(self: &Arc<Status>, dialect: Dialect) -> Report {
        self.filters_refused.store(0, Ordering::Relaxed);
        let status = self.clone();
        Box::new(move |note| status.note(dialect, note))
    }

    fn note(&self, dialect: Dialect, note: Note) {
        let (bridge, peer) = (&*self.name, &*self.address);
        match note {
            Note::Connected {
                session_present, ..
            } => {
                self.state.lock().connected_at = Some(Instant::now());
                tracing::info!(
                    bridge,
                    peer,
                    version = dialect.name(),
                    session_present,
                    "bridge connected"
                );
            }
            Note::Flowing => {
                self.connects.fetch_add(1, Ordering::Relaxed);
                self.connected.store(1, Ordering::Relaxed);
                self.tell(true);
            }
            Note::Refused { reason, words } => {
                let words = words.escape_debug();
                self.trouble(&format!(
                    "the peer refused the connection: {reason} {words}"
                ));
            }
            Note::FilterRefused { filter, reason } => {
                self.filters_refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(bridge, peer, %filter, %reason, "the peer refused a subscription");
            }
            Note::NotSubscribed { filter } => {
                tracing::warn!(bridge, %filter, "the bridge's role may not subscribe to this");
            }
            Note::Ended { end, .. } => {
                self.state.lock().end = Some(end);
                if end == End::Drained {
                    self.disconnected();
                }
            }
        }
    }

    /// There is no connection (any more).
    pub(super) fn disconnected(&self) {
        if self.connected.swap(0, Ordering::Relaxed) == 1 {
            self.tell(false);
        }
    }

    /// How the last connection ended, and since when the peer had let us in.
    pub(super) fn take_end(&self) -> (Option<End>, Option<Instant>) {
        let mut state = self.state.lock();
        (state.end.take(), state.connected_at.take())
    }

    pub(super) fn unreachable(&self, error: &io::Error) {
        self.trouble(&format!("the peer cannot be reached: {error}"));
    }

    pub(super) fn will_retry(&self, end: Option<End>, after: Duration) {
        self.attempts_failed.fetch_add(1, Ordering::Relaxed);
        match end {
            None | Some(End::Refused) => {}
            Some(End::Disconnected(reason)) => {
                self.trouble(&format!("the peer disconnected: {reason}"));
            }
            Some(end) => self.trouble(end.name()),
        }
        tracing::debug!(bridge = self.name, ?after, "bridge waits");
    }

    /// A line in the log, unless it was the same a moment ago.
    fn trouble(&self, what: &str) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let is_known = state
            .logged
            .as_ref()
            .is_some_and(|(said, at)| said == what && now.duration_since(*at) < LOG_INTERVAL);
        if !is_known {
            state.logged = Some((what.to_owned(), now));
            drop(state);
            tracing::warn!(bridge = self.name, peer = self.address, "{what}");
        }
    }

    /// Tells the clients of the realm.
    fn tell(&self, is_connected: bool) {
        if let Some(notice) = &self.notice {
            notice.set(is_connected);
        }
    }

    /// Writes the figures of all bridges.
    pub(crate) fn encode(list: &[Arc<Status>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if list.is_empty() {
            return Ok(());
        }
        type Gauge = fn(&Status) -> usize;
        let gauges: [(&str, &str, Gauge); 2] = [
            ("bridge_connected", "1 while messages flow", |status| {
                status.connected.load(Ordering::Relaxed)
            }),
            (
                "bridge_filters_refused",
                "Subscriptions refused by the peer on this connection",
                |status| status.filters_refused.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in list {
                let value = i64::try_from(read(status)).unwrap_or(i64::MAX);
                let labels = [("bridge", status.name.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let figures: Vec<_> = list.iter().map(|status| status.figures()).collect();
        let Some(first) = figures.first() else {
            return Ok(());
        };
        for (place, (name, help, _)) in first.iter().enumerate() {
            let name = format!("bridge_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (status, figures) in list.iter().zip(&figures) {
                let labels = [("bridge", status.name.as_str())];
                let value = figures.get(place).map_or(0, |(_, _, value)| *value);
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// Name, help text and value of every counter.
    fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let mut figures = vec![
            (
                "connects",
                "Times messages began to flow",
                read(&self.connects),
            ),
            (
                "attempts_failed",
                "Connections that ended or did not come about",
                read(&self.attempts_failed),
            ),
            (
                "bytes_in",
                "Bytes read from the peer",
                read(&self.traffic.bytes_in),
            ),
            (
                "bytes_out",
                "Bytes written to the peer",
                read(&self.traffic.bytes_out),
            ),
        ];
        let counted = self.counters.list();
        figures.extend(
            counted
                .into_iter()
                .map(|(name, help, value)| (name, help.trim(), value)),
        );
        figures
    }
}
