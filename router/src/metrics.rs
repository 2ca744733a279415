//! The figures of the router in the text form that Prometheus reads.

use crate::bridge::Status;
use crate::router::Router;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The content type of [`exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All figures now.
///
/// # Errors
/// When the text cannot be written, which memory alone can cause.
pub fn exposition(router: &Router) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("reynard");
    registry.register_collector(Box::new(Figures(router.clone())));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Figures(Router);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.hub().stats();
        for (name, help, value) in stats.counters.list() {
            counter(&mut encoder, name, help.trim(), value)?;
        }
        gauge(&mut encoder, "realms", "Realms", stats.realms)?;
        for (name, value) in stats.sizes {
            gauge(&mut encoder, name, "Held now, over all realms", value)?;
        }
        let down = usize::from(stats.store_down);
        gauge(
            &mut encoder,
            "store_down",
            "1 while the store refuses durable writes",
            down,
        )?;
        if let Some(store) = stats.store {
            let figures = [
                (
                    "store_commits",
                    "Commits that reached the store",
                    store.commits,
                ),
                ("store_syncs", "Times the disk was waited for", store.syncs),
                (
                    "store_writes",
                    "Records written or removed; divided by syncs, how many shared a wait",
                    store.writes,
                ),
                (
                    "store_batches",
                    "Batches of writes made durable",
                    store.batches,
                ),
                ("store_bytes", "Bytes made durable", store.bytes),
                (
                    "store_failures",
                    "Batches refused by the store",
                    store.failures,
                ),
            ];
            for (name, help, value) in figures {
                counter(&mut encoder, name, help, value)?;
            }
            let queued = store.queued_bytes;
            gauge(
                &mut encoder,
                "store_queued_bytes",
                "Bytes waiting to be made durable",
                queued,
            )?;
        }
        self.traffic(&mut encoder)?;
        Status::encode(self.0.bridges(), &mut encoder)
    }
}

impl Figures {
    fn traffic(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let traffic = self.0.traffic();
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let open = usize::try_from(read(&traffic.open)).unwrap_or(usize::MAX);
        gauge(encoder, "connections_open", "Connections open now", open)?;
        let counters = [
            ("connections", "Connections accepted", &traffic.connections),
            ("bytes_in", "Bytes read from connections", &traffic.bytes_in),
            (
                "bytes_out",
                "Bytes written to connections",
                &traffic.bytes_out,
            ),
            (
                "stalls",
                "Times a publisher was paused for a slow receiver",
                &traffic.stalls,
            ),
            (
                "closed_by_violation",
                "Connections closed because the peer broke its protocol",
                &traffic.closed_by_violation,
            ),
        ];
        for (name, help, value) in counters {
            counter(encoder, name, help, read(value))?;
        }
        for (name, help, value) in self.0.gate_counters() {
            counter(encoder, &name, help.trim(), value)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: usize) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
