//! Many retained values to one reader that takes few at a time, while somebody else talks.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::wire::{Incoming, Wire};
use crate::mqtt::{Connect, packet, string};
use crate::{Options, Server};

/// Messages the loader has under way: what the router's Receive Maximum allows.
const LOAD_WINDOW: usize = 64;
/// Between two messages of the live pair.
const LIVE_PERIOD: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Retained values.
    pub values: usize,
    /// The reader's Receive Maximum.
    pub receive_maximum: u16,
    /// How long the reader takes to acknowledge: the round trip of its network.
    pub round_trip: Duration,
    /// How long the live pair is watched without a replay; zero: there is no live pair.
    pub unloaded: Duration,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Time to store the values.
    pub stored_in: Duration,
    /// Time of the replay.
    pub replayed_in: Duration,
    /// The most messages the reader had not acknowledged at a time.
    pub most_open: usize,
    /// Latencies of the live pair without and with the replay, sorted.
    pub unloaded: Vec<Duration>,
    /// The same during the replay.
    pub loaded: Vec<Duration>,
}

/// The latency below which a share of all lies.
#[must_use]
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Runs a plan.
///
/// # Errors
/// Fails if a value is missing, comes twice, or more are open than the reader allows.
pub fn run(plan: &Plan) -> Result<Report> {
    let server = Server::start(Options::default().memory())?;
    let addr = server.mqtt_addr()?;
    let mut report = Report {
        stored_in: store(addr, plan.values)?,
        ..Report::default()
    };
    let has_pair = !plan.unloaded.is_zero();
    if has_pair {
        report.unloaded = live(addr, || {
            sleep(plan.unloaded);
            Ok(())
        })?;
    }
    let began = Instant::now();
    let mut read = || {
        report.most_open = replay(addr, plan)?;
        report.replayed_in = began.elapsed();
        Ok(())
    };
    if has_pair {
        report.loaded = live(addr, read)?;
    } else {
        read()?;
    }
    Ok(report)
}

fn topic(at: usize) -> String {
    format!("r/{}/{}/{at}", at % 100, at % 7)
}

/// Stores the values, QoS 1.
fn store(addr: SocketAddr, values: usize) -> Result<Duration> {
    let began = Instant::now();
    let (mut wire, _) = Wire::connect(addr, &Connect::v4("loader"))?;
    wire.set_patience(PATIENCE)?;
    let (mut sent, mut open) = (0, 0);
    while sent < values || open > 0 {
        while open < LOAD_WINDOW && sent < values {
            let payload = sent.to_string();
            wire.publish(
                &topic(sent),
                payload.as_bytes(),
                0x33,
                (sent % 65_535) as u16 + 1,
            );
            (sent, open) = (sent + 1, open + 1);
        }
        wire.flush()?;
        loop {
            match wire.read()?.context("closed")? {
                Incoming::Ack(0x40, ..) => open -= 1,
                other => return Err(anyhow!("unexpected {other:?}")),
            }
            if !wire.has_packet()? {
                break;
            }
        }
    }
    wire.disconnect();
    wire.flush()?;
    Ok(began.elapsed())
}

/// Subscribes to everything and acknowledges only when as many are open as allowed or nothing more
/// comes; the most that were open.
fn replay(addr: SocketAddr, plan: &Plan) -> Result<usize> {
    let (mut wire, _) = Wire::connect_with(addr, 5, &connect(plan.receive_maximum))?;
    wire.set_patience(PATIENCE)?;
    wire.subscribe("#", 1);
    wire.flush()?;
    let mut seen = HashSet::new();
    let (mut open, mut most) = (Vec::new(), 0);
    let maximum = usize::from(plan.receive_maximum);
    while seen.len() < plan.values {
        match wire.read()?.context("closed")? {
            // Live messages of the pair come too, at most once.
            Incoming::Publish(message, _) if message.topic.starts_with("live") => {}
            Incoming::Publish(message, id) => {
                ensure!(message.retain, "{} without RETAIN", message.topic);
                ensure!(
                    message.qos == 1,
                    "{} with QoS {}",
                    message.topic,
                    message.qos
                );
                let fresh = seen.insert(message.topic.clone());
                ensure!(fresh, "{} came twice", message.topic);
                open.push(id);
                most = most.max(open.len());
                ensure!(open.len() <= maximum, "{} open of {maximum}", open.len());
            }
            Incoming::SubAck(code) => ensure!(code == 1, "SUBACK {code:#04x}"),
            other => return Err(anyhow!("unexpected {other:?}")),
        }
        if !wire.has_packet()? {
            if !open.is_empty() && !plan.round_trip.is_zero() {
                sleep(plan.round_trip);
            }
            for id in open.drain(..) {
                wire.acknowledge(0x40, id);
            }
            wire.flush()?;
        }
    }
    Ok(most)
}

/// CONNECT of 5.0 with a Receive Maximum (property 0x21).
fn connect(receive_maximum: u16) -> Vec<u8> {
    let mut body = string("MQTT");
    body.extend([5, 2, 0, 0, 3, 0x21]);
    body.extend(receive_maximum.to_be_bytes());
    body.extend(string("reader"));
    packet(0x10, &body)
}

/// The latencies of a pair that talks at a steady rate until `work` is done.
fn live(addr: SocketAddr, work: impl FnOnce() -> Result<()>) -> Result<Vec<Duration>> {
    let (mut listener, _) = Wire::connect(addr, &Connect::v4("live-listener"))?;
    let (mut talker, _) = Wire::connect(addr, &Connect::v4("live-talker"))?;
    listener.set_patience(PATIENCE)?;
    listener.subscribe("live/#", 0);
    listener.flush()?;
    ensure!(matches!(listener.read()?, Some(Incoming::SubAck(0))));
    let (began, over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let talking = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::SeqCst) {
                let now = began.elapsed().as_nanos().to_string();
                talker.publish("live/beat", now.as_bytes(), 0x30, 0);
                talker.flush()?;
                sleep(LIVE_PERIOD);
            }
            talker.publish("live/over", b"", 0x30, 0);
            talker.flush()
        });
        let listening = scope.spawn(|| -> Result<Vec<Duration>> {
            let mut latencies = Vec::new();
            loop {
                match listener.read()?.context("closed")? {
                    Incoming::Publish(message, _) if message.topic == "live/over" => break,
                    Incoming::Publish(message, _) => {
                        let sent: u64 = std::str::from_utf8(&message.payload)?.parse()?;
                        latencies.push(began.elapsed().saturating_sub(Duration::from_nanos(sent)));
                    }
                    other => return Err(anyhow!("unexpected {other:?}")),
                }
            }
            latencies.sort();
            Ok(latencies)
        });
        let result = work();
        over.store(true, Ordering::SeqCst);
        talking.join().map_err(|_| anyhow!("panicked"))??;
        let latencies = listening.join().map_err(|_| anyhow!("panicked"))??;
        result.map(|()| latencies)
    })
}
