//! A router that is killed again and again while retained values are written: every value that was acknowledged, or a
//! newer one that was sent, is there afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::wire::{Incoming, Wire};
use crate::mqtt::Connect;
use crate::{Options, Server};

/// How long nothing may happen on a connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// Retained PUBLISH of QoS 1.
const PUBLISH: u8 = 0x33;
const TOPICS: u64 = 16;
const WINDOW: u64 = 48;

/// How much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The engine by name.
    pub engine: String,
    /// The durability as the configuration spells it.
    pub durability: String,
    /// Kills.
    pub rounds: u64,
    /// No new round is begun after this.
    pub time: Duration,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Kills.
    pub rounds: u64,
    /// Values acknowledged.
    pub acknowledged: u64,
    /// Values sent but not acknowledged when the router was killed.
    pub in_flight: u64,
    /// Time it took.
    pub took: Duration,
}

/// Topic -> the number of the last value.
type Last = HashMap<u64, u64>;

#[derive(Default)]
struct State {
    next: u64,
    sent: Last,
    acknowledged: Last,
}

/// Runs a plan.
///
/// # Errors
/// Fails on the first acknowledged value that is missing, and the first that nobody sent.
pub fn run(plan: &Plan) -> Result<Report> {
    let config = format!(
        "storage_engine = \"{}\"\n[[realm]]\nname = \"realm1\"\ndurability = \"{}\"\n",
        plan.engine, plan.durability
    );
    let mut server = Server::start(Options::default().restartable().config(&config))?;
    let (mut state, mut report, began) = (State::default(), Report::default(), Instant::now());
    while report.rounds < plan.rounds && began.elapsed() < plan.time {
        // Different places in the work, the same in each run.
        let target = 1 + report.rounds * 37 % 149;
        let acknowledged = load(&mut server, &mut state, target)
            .with_context(|| format!("round {}", report.rounds))?;
        report.acknowledged += acknowledged;
        report.in_flight += state.next - report.acknowledged - report.in_flight;
        server
            .restart()
            .with_context(|| format!("restart {}", report.rounds))?;
        check(&server, &state).with_context(|| format!("round {}", report.rounds))?;
        report.rounds += 1;
    }
    report.took = began.elapsed();
    Ok(report)
}

/// Writes until `target` values are acknowledged, then kills the router; answers how many were in the end.
fn load(server: &mut Server, state: &mut State, target: u64) -> Result<u64> {
    let (mut wire, _) = Wire::connect(server.mqtt_addr()?, &Connect::v5("writer"))?;
    wire.set_patience(PATIENCE)?;
    let first = state.next;
    let mut acknowledged = 0;
    while acknowledged < target {
        while state.next - first < acknowledged + WINDOW {
            let number = state.next;
            let topic = format!("kill/{}", number % TOPICS);
            wire.publish(
                &topic,
                number.to_string().as_bytes(),
                PUBLISH,
                packet_id(first, number)?,
            );
            state.sent.insert(number % TOPICS, number);
            state.next += 1;
        }
        wire.flush()?;
        let packet = wire.read()?.context("closed")?;
        acknowledged += note(state, first, &packet)?;
    }
    server.kill()?;
    // What the router has said before it died, it has said.
    while let Ok(Some(packet)) = wire.read() {
        acknowledged += note(state, first, &packet)?;
    }
    Ok(acknowledged)
}

fn packet_id(first: u64, number: u64) -> Result<u16> {
    Ok(u16::try_from(number - first + 1)?)
}

fn note(state: &mut State, first: u64, packet: &Incoming) -> Result<u64> {
    let Incoming::Ack(0x40, id, code) = packet else {
        bail!("unexpected {packet:?}");
    };
    ensure!(*code < 0x80, "refused with {code:#04x}");
    let number = first + u64::from(*id) - 1;
    let last = state.acknowledged.entry(number % TOPICS).or_default();
    *last = number.max(*last);
    Ok(1)
}

fn check(server: &Server, state: &State) -> Result<()> {
    let (mut wire, _) = Wire::connect(server.mqtt_addr()?, &Connect::v5("reader"))?;
    wire.set_patience(PATIENCE)?;
    wire.subscribe("kill/#", 0);
    wire.flush()?;
    let mut found = Last::new();
    // The replay goes its own pace: wait for the values that must come, and then for an answer behind them.
    let mut pinged = false;
    loop {
        match wire.read()?.context("closed")? {
            Incoming::Publish(message, _) => {
                let number: u64 = std::str::from_utf8(&message.payload)?.parse()?;
                ensure!(
                    message.topic == format!("kill/{}", number % TOPICS),
                    "foreign"
                );
                found.insert(number % TOPICS, number);
            }
            Incoming::Pong => break,
            _ => {}
        }
        if !pinged
            && state
                .acknowledged
                .keys()
                .all(|topic| found.contains_key(topic))
        {
            pinged = true;
            wire.ping();
            wire.flush()?;
        }
    }
    for (topic, acknowledged) in &state.acknowledged {
        let number = found.get(topic).context("missing")?;
        let sent = state.sent.get(topic).context("not sent")?;
        ensure!(
            (acknowledged..=sent).contains(&number),
            "kill/{topic} is {number}; {acknowledged} was acknowledged, {sent} was sent last"
        );
    }
    Ok(())
}
