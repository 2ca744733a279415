//! What the router says about itself below `$SYS/broker`, with the names of Mosquitto
//! (mosquitto(8), "Broker status"); `docs/gates/mqtt-sys.md` says what each figure means here.
//!
//! A realm is told of itself only: everything is counted per realm, except what only the router as
//! a whole knows (bytes and sockets), which the default realm alone is told. Values are kept for the
//! default realm always and for others while somebody listens there, so that many realms cost
//! nothing. Sums over sessions are gathered in parts, so that no realm is held for long.

use crate::router::Router;
use bytestring::ByteString;
use protocols::gate::Traffic;
use router_core::metrics::Counters;
use router_core::model::{Payload, Topic};
use router_core::realm::Census;
use router_core::runtime::{RealmCell, now};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The first levels of all names.
const BROKER: &str = "$SYS/broker/";
/// How soon somebody who listens in a realm nobody listened in before gets something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sessions looked at while a realm is held.
const SESSIONS_PER_LOCK: usize = 1_000;
/// The spans of the moving averages, in minutes.
const SPANS: [u32; 3] = [1, 5, 15];

/// What has a moving average: its name, and what it counts, where that is known.
type Load = (&'static str, fn(&Totals) -> Option<u64>);

/// ... of each realm; bytes in the default realm only.
const LOADS: [Load; 8] = [
    ("load/messages/received", |t| Some(t.messages_received)),
    ("load/messages/sent", |t| Some(t.messages_sent)),
    ("load/publish/received", |t| Some(t.publishes_received)),
    ("load/publish/sent", |t| Some(t.publishes_sent)),
    ("load/publish/dropped", |t| Some(t.publishes_dropped)),
    ("load/connections", |t| Some(t.connections)),
    ("load/bytes/received", |t| t.wire.map(|wire| wire.received)),
    ("load/bytes/sent", |t| t.wire.map(|wire| wire.sent)),
];

/// ... and of the whole router: accepted connections.
const SOCKETS: Load = ("load/sockets", |t| t.wire.map(|wire| wire.sockets));

/// What only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    messages_received: u64,
    messages_sent: u64,
    publishes_received: u64,
    publishes_sent: u64,
    publishes_dropped: u64,
    publish_bytes_received: u64,
    publish_bytes_sent: u64,
    connections: u64,
    expired: u64,
    wire: Option<Wire>,
}

/// Of the whole router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wire {
    received: u64,
    sent: u64,
    sockets: u64,
}

impl Totals {
    fn new(counters: &Counters, wire: Option<Wire>) -> Totals {
        let dropped = counters.dropped_best + counters.dropped_sure;
        let publishes_sent = counters.events_out.saturating_sub(dropped);
        Totals {
            messages_received: counters.commands,
            messages_sent: publishes_sent + counters.answers_out,
            publishes_received: counters.publishes,
            publishes_sent,
            publishes_dropped: dropped,
            publish_bytes_received: counters.payload_bytes_in,
            publish_bytes_sent: counters.payload_bytes_out,
            connections: counters.sessions_joined,
            expired: counters.sessions_expired,
            wire,
        }
    }
}

impl Wire {
    fn read(traffic: &Traffic) -> Wire {
        Wire {
            received: traffic.bytes_in.load(Ordering::Relaxed),
            sent: traffic.bytes_out.load(Ordering::Relaxed),
            sockets: traffic.connections.load(Ordering::Relaxed),
        }
    }
}

/// A count per minute, averaged over spans.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Average([f64; SPANS.len()]);

impl Average {
    /// Takes in that `count` things happened in `secs`. The first time the rate itself is the
    /// average; later an average moves towards the rate by the part of its span that has passed:
    /// `rate + exp(-secs / span) * (average - rate)`.
    fn update(&mut self, count: u64, secs: f64, is_first: bool) {
        if secs <= 0.0 {
            return;
        }
        let rate = count as f64 * 60.0 / secs;
        for (average, minutes) in self.0.iter_mut().zip(SPANS) {
            let decay = match is_first {
                true => 0.0,
                false => (-secs / (f64::from(minutes) * 60.0)).exp(),
            };
            *average = rate + decay * (*average - rate);
        }
    }
}

/// What is remembered of a realm between two rounds.
struct Watched {
    totals: Totals,
    at: Instant,
    averages: [Average; LOADS.len() + 1],
    has_averages: bool,
}

impl Watched {
    fn update(&mut self, totals: Totals, at: Instant) {
        let secs = at.saturating_duration_since(self.at).as_secs_f64();
        let loads = LOADS.iter().chain([&SOCKETS]);
        for (average, (_, read)) in self.averages.iter_mut().zip(loads) {
            let passed = read(&totals).zip(read(&self.totals));
            let count = passed.map_or(0, |(new, old)| new.saturating_sub(old));
            average.update(count, secs, !self.has_averages);
        }
        self.has_averages |= secs > 0.0;
        (self.totals, self.at) = (totals, at);
    }
}

/// Keeps `$SYS/broker/…` up to date, every `every`; to be run as a task, for as long as the router
/// lives.
pub(crate) async fn run(router: Router, every: Duration) {
    let started = Instant::now();
    let mut realms: HashMap<ByteString, Watched> = HashMap::new();
    let mut looks = tokio::time::interval(every.min(LOOK_EVERY));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let mut seen = Vec::new();
        for cell in router.hub().realms() {
            let is_default = cell.name() == router.hub().default_realm();
            let is_wanted = is_default || cell.inspect(|realm| realm.wants_status());
            if !is_wanted {
                continue;
            }
            seen.push(cell.name().clone());
            let is_due = realms
                .get(cell.name())
                .is_none_or(|known| known.at.elapsed() >= every);
            if is_due {
                let wire = is_default.then(|| Wire::read(router.traffic()));
                round(&cell, &mut realms, wire, started).await;
            }
        }
        let gone = realms.extract_if(|name, _| !seen.contains(name));
        for name in gone.map(|(name, _)| name).collect::<Vec<_>>() {
            let cells = router.hub().realms();
            if let Some(cell) = cells.iter().find(|cell| *cell.name() == name) {
                cell.forget_status(is_ours);
            }
        }
    }
}

/// Whether a status value is kept here; bridges keep their own.
fn is_ours(topic: &Topic) -> bool {
    let name = topic.text().strip_prefix(BROKER);
    name.is_some_and(|name| !name.starts_with("connection/"))
}

/// Brings one realm up to date.
async fn round(
    cell: &Arc<RealmCell>,
    realms: &mut HashMap<ByteString, Watched>,
    wire: Option<Wire>,
    started: Instant,
) {
    let census = count(cell).await;
    let counters = cell.inspect(|realm| *realm.counters());
    let at = now();
    let totals = Totals::new(&counters, wire);
    let watched = realms.entry(cell.name().clone()).or_insert(Watched {
        totals,
        at: at.instant,
        averages: Default::default(),
        has_averages: false,
    });
    watched.update(totals, at.instant);
    let uptime = at.instant.saturating_duration_since(started);
    cell.set_status(at, values(watched, &census, uptime));
}

async fn count(cell: &RealmCell) -> Census {
    let mut census = Census::default();
    let mut from = Some(0);
    while let Some(at) = from {
        from = cell.inspect(|realm| realm.count(at, SESSIONS_PER_LOCK, &mut census));
        tokio::task::yield_now().await;
    }
    census
}

/// All values of a realm.
fn values(watched: &Watched, census: &Census, uptime: Duration) -> Vec<(Topic, Payload)> {
    let mut values = Vec::with_capacity(64);
    let mut put = |name: &str, text: String| {
        if let Ok(topic) = Topic::new(format!("{BROKER}{name}")) {
            values.push((topic, Payload::bytes(text.into(), false)));
        }
    };
    put(
        "version",
        format!("reynard version {}", env!("CARGO_PKG_VERSION")),
    );
    put("uptime", format!("{} seconds", uptime.as_secs()));
    let totals = &watched.totals;
    let offline = census.sessions.saturating_sub(census.connected);
    let held = census.values + census.queued;
    let figures = [
        ("clients/total", census.sessions as u64),
        ("clients/connected", census.connected as u64),
        ("clients/active", census.connected as u64),
        ("clients/disconnected", offline as u64),
        ("clients/inactive", offline as u64),
        ("clients/maximum", census.connected_max as u64),
        ("clients/expired", totals.expired),
        ("messages/received", totals.messages_received),
        ("messages/sent", totals.messages_sent),
        ("messages/stored", held as u64),
        ("publish/messages/received", totals.publishes_received),
        ("publish/messages/sent", totals.publishes_sent),
        ("publish/messages/dropped", totals.publishes_dropped),
        ("publish/bytes/received", totals.publish_bytes_received),
        ("publish/bytes/sent", totals.publish_bytes_sent),
        ("retained messages/count", census.values as u64),
        ("store/messages/count", held as u64),
        (
            "store/messages/bytes",
            (census.value_bytes + census.queued_bytes) as u64,
        ),
        ("subscriptions/count", census.subscriptions as u64),
        ("shared_subscriptions/count", census.shares as u64),
    ];
    for (name, figure) in figures {
        put(name, figure.to_string());
    }
    if let Some(wire) = totals.wire {
        put("bytes/received", wire.received.to_string());
        put("bytes/sent", wire.sent.to_string());
    }
    if watched.has_averages {
        let loads = LOADS.iter().chain([&SOCKETS]).zip(&watched.averages);
        for ((name, read), Average(average)) in loads {
            if read(totals).is_none() {
                continue;
            }
            for (average, minutes) in average.iter().zip(SPANS) {
                put(&format!("{name}/{minutes}min"), format!("{average:.2}"));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_begins_with_the_rate_and_moves_towards_it() {
        let mut average = Average::default();
        average.update(20, 10.0, true);
        assert_eq!(average.0, [120.0; 3]);
        // A constant rate changes nothing, and an empty moment says nothing.
        average.update(20, 10.0, false);
        average.update(7, 0.0, false);
        assert_eq!(average.0, [120.0; 3]);
        // After one span without anything, 1/e is left.
        average.update(0, 60.0, false);
        let left: Vec<String> = average.0.iter().map(|a| format!("{a:.2}")).collect();
        assert_eq!(left, ["44.15", "98.25", "112.26"]);
        // The step does not matter, only the time that passed.
        let mut fine = Average([120.0; 3]);
        (0..60).for_each(|_| fine.update(0, 1.0, false));
        assert!(
            fine.0
                .iter()
                .zip(average.0)
                .all(|(a, b)| (a - b).abs() < 1e-9)
        );
    }

    fn named(wire: Option<Wire>, rounds: usize) -> Vec<String> {
        let start = Instant::now();
        let totals = Totals {
            wire,
            ..Totals::default()
        };
        let mut watched = Watched {
            totals,
            at: start,
            averages: Default::default(),
            has_averages: false,
        };
        for n in 1..=rounds {
            watched.update(totals, start + Duration::from_secs(n as u64));
        }
        let values = values(&watched, &Census::default(), Duration::ZERO);
        let names = values.iter().map(|(topic, _)| topic.text());
        names
            .map(|name| name.strip_prefix(BROKER).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn only_the_default_realm_is_told_of_the_whole_router() {
        let told = named(Some(Wire::default()), 1);
        let others = named(None, 1);
        let only: Vec<&String> = told.iter().filter(|name| !others.contains(name)).collect();
        let expected = |name: &String| {
            ["bytes/", "load/bytes/", "load/sockets/"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        assert!(only.iter().all(|name| expected(name)), "{only:?}");
        assert_eq!(only.len(), 2 + 2 * 3 + 3);
    }

    #[test]
    fn every_name_is_in_the_documentation() {
        let documented = include_str!("../../docs/gates/mqtt-sys.md");
        let names = named(Some(Wire::default()), 1);
        assert!(names.len() > 40, "{names:?}");
        for name in names {
            let name = match name.strip_prefix("load/") {
                Some(_) => name.rsplit_once('/').unwrap().0.to_owned(),
                None => name,
            };
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn averages_need_two_looks() {
        let averages = |rounds| {
            let names = named(None, rounds);
            names
                .iter()
                .filter(|name| name.starts_with("load/"))
                .count()
        };
        assert_eq!((averages(0), averages(1)), (0, 6 * 3));
    }
}
