//! Publishers and subscribers with persistent sessions, a router that is killed, and connections
//! that break: QoS 1 loses nothing, QoS 2 loses and doubles nothing, and the order of each pair
//! holds.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::wire::{Incoming, Wire};
use crate::mqtt::Connect;
use crate::{Options, Server};

/// Queues that hold whatever the run can leave in them, and a policy that loses nothing.
const CONFIG: &str = "[mqtt]\nmax_queued_messages = 1000000\nmax_queued_bytes = 1073741824\nqueue_full = \"refuse\"\n";
/// How long nothing may happen on a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client says that stops because of another.
const OTHER_FAILED: &str = "another client failed";

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Messages of all pairs together.
    pub messages: u64,
    /// Pairs of publisher and subscriber of QoS 1, and as many of QoS 2; half of each speak 5.0.
    pub pairs: usize,
    /// Times the router is killed.
    pub kills: u64,
    /// Times a client breaks its connection and comes back.
    pub reconnects: u64,
    /// Messages a publisher has under way.
    pub window: usize,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Messages delivered, each once.
    pub delivered: u64,
    /// Repetitions of QoS 1 messages.
    pub repeated: u64,
    /// Connections broken by clients.
    pub reconnects: u64,
    /// Kills.
    pub kills: u64,
    /// Time it took.
    pub took: Duration,
}

/// What the threads share.
struct Arena {
    addr: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    down: bool,
    subscribed: usize,
    delivered: u64,
    repeated: u64,
    reconnects: u64,
    failed: bool,
}

impl Arena {
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let result = work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    /// Waits until `ready`, or somebody failed.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, late) = self
            .changed
            .wait_timeout_while(state, PATIENCE * 10, |state| !state.failed && !ready(state))
            .map_err(|_| anyhow!("poisoned"))?;
        ensure!(!state.failed, OTHER_FAILED);
        ensure!(!late.timed_out(), "nothing happens any more");
        Ok(())
    }

    /// Connects, however often the router goes down meanwhile.
    fn connect(&self, connect: &Connect) -> Result<(Wire, bool)> {
        loop {
            self.wait(|state| !state.down)?;
            match Wire::connect(self.addr, connect) {
                Ok((wire, present)) => {
                    wire.set_patience(PATIENCE)?;
                    return Ok((wire, present));
                }
                Err(error) => {
                    let refused = format!("{error:#}");
                    ensure!(!refused.contains("CONNACK 0"), "{refused}");
                }
            }
        }
    }
}

/// One of the two clients of a pair, to its end; the number is that of all pairs.
type Side = fn(&Arena, &Pair, usize) -> Result<()>;

/// One pair.
#[derive(Clone, Debug)]
struct Pair {
    name: String,
    level: u8,
    qos: u8,
    messages: u64,
    /// A connection is broken each time it has carried this many messages.
    breaks_after: u64,
    window: usize,
}

impl Pair {
    fn session(&self, side: &str) -> Connect {
        let id = format!("{}-{side}", self.name);
        let connect = match self.level {
            5 => Connect::v5(&id),
            _ => Connect::v4(&id),
        };
        connect.persistent()
    }
}

/// Runs a plan.
///
/// # Errors
/// Fails on the first message that is lost, doubled or out of order.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut server = Server::start(Options::default().restartable().config(CONFIG))?;
    let began = Instant::now();
    let arena = Arena {
        addr: server.mqtt_addr()?,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    let clients = plan.pairs as u64 * 2;
    let pairs: Vec<Pair> = (0..plan.pairs * 2)
        .map(|at| Pair {
            name: format!("pair-{at}"),
            level: if at / 2 % 2 == 0 { 5 } else { 4 },
            qos: 1 + (at % 2) as u8,
            messages: plan.messages / clients,
            breaks_after: breaks_after(plan, clients),
            window: plan.window,
        })
        .collect();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for pair in &pairs {
            let arena = &arena;
            let sides: [(&str, Side); 2] = [("subscriber", subscriber), ("publisher", publisher)];
            for (side, work) in sides {
                running.push(scope.spawn(move || {
                    let result = work(arena, pair, clients as usize);
                    if result.is_err() {
                        arena.with(|state| state.failed = true);
                    }
                    result.with_context(|| format!("{side} of {} QoS {}", pair.name, pair.qos))
                }));
            }
        }
        let killed = kill_in_between(&arena, &mut server, plan);
        let mut failures: Vec<String> =
            killed.err().map(|e| format!("{e:#}")).into_iter().collect();
        for client in running {
            match client.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failures.push(format!("{error:#}")),
                Err(_) => failures.push("a client panicked".to_owned()),
            }
        }
        // The others only say that somebody failed.
        failures.sort_by_key(|failure| failure.contains(OTHER_FAILED));
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    })?;
    let state = arena.state.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Report {
        delivered: state.delivered,
        repeated: state.repeated,
        reconnects: state.reconnects,
        kills: plan.kills,
        took: began.elapsed(),
    })
}

/// Publishers and subscribers alike break their connections, evenly over the run.
fn breaks_after(plan: &Plan, pairs: u64) -> u64 {
    let per_client = plan.reconnects.div_ceil(pairs * 2).max(1);
    if plan.reconnects == 0 {
        return u64::MAX;
    }
    (plan.messages / pairs / (per_client + 1)).max(1)
}

fn kill_in_between(arena: &Arena, server: &mut Server, plan: &Plan) -> Result<()> {
    for kill in 1..=plan.kills {
        let milestone = plan.messages * kill / (plan.kills + 1);
        arena.wait(|state| state.delivered >= milestone)?;
        arena.with(|state| state.down = true);
        server.kill()?;
        server.restart().with_context(|| format!("kill {kill}"))?;
        arena.with(|state| state.down = false);
    }
    Ok(())
}

/// A message on its way: its number, and for QoS 2 whether PUBREC has come.
struct Open {
    number: u64,
    received: bool,
}

/// Unique among the few that are open.
fn packet_id(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

fn publisher(arena: &Arena, pair: &Pair, clients: usize) -> Result<()> {
    arena.wait(|state| state.subscribed == clients)?;
    let connect = pair.session("publisher");
    let mut open: VecDeque<Open> = VecDeque::new();
    let (mut next, mut is_first, mut until_break) = (0, true, pair.breaks_after);
    while next < pair.messages || !open.is_empty() {
        let (mut wire, present) = arena.connect(&connect)?;
        // The first CONNACK may have been lost with the router.
        ensure!(present || is_first, "the session is gone");
        is_first = false;
        for message in &open {
            send(&mut wire, pair, message, 0x08);
        }
        while next < pair.messages || !open.is_empty() {
            while open.len() < pair.window && next < pair.messages {
                let message = Open {
                    number: next,
                    received: false,
                };
                send(&mut wire, pair, &message, 0);
                open.push_back(message);
                next += 1;
            }
            let Ok(true) = exchange(&mut wire, |wire, packet| answered(wire, &mut open, packet))?
            else {
                break;
            };
            if next >= until_break && next < pair.messages {
                until_break = next + pair.breaks_after;
                arena.with(|state| state.reconnects += 1);
                break;
            }
        }
    }
    Ok(())
}

fn send(wire: &mut Wire, pair: &Pair, message: &Open, dup: u8) {
    let id = packet_id(message.number);
    if message.received {
        wire.acknowledge(0x62, id);
    } else {
        let payload = message.number.to_string();
        wire.publish(
            &pair.name,
            payload.as_bytes(),
            0x30 | pair.qos << 1 | dup,
            id,
        );
    }
}

/// An acknowledgement for the publisher.
fn answered(wire: &mut Wire, open: &mut VecDeque<Open>, packet: Incoming) -> Result<()> {
    let Incoming::Ack(kind, id, code) = packet else {
        bail!("unexpected {packet:?}");
    };
    // The router may have forgotten the identifier before the connection broke (5.0 section
    // 3.7.2.1: no error during recovery).
    let is_known = (kind, code) == (0x70, 0x92);
    ensure!(code < 0x80 || is_known, "refused with {code:#04x}");
    let at = open.iter().position(|open| packet_id(open.number) == id);
    match (kind, at) {
        (0x40 | 0x70, Some(at)) => drop(open.remove(at)),
        (0x50, Some(at)) => {
            open[at].received = true;
            wire.acknowledge(0x62, id);
        }
        _ => bail!("acknowledgement {kind:#04x} of {id}, which is not open"),
    }
    Ok(())
}

/// Writes what is queued, reads at least one packet and whatever else is there, and writes the
/// answers. The inner result is `Ok(false)` or an error of the connection if that is over.
fn exchange(
    wire: &mut Wire,
    mut handle: impl FnMut(&mut Wire, Incoming) -> Result<()>,
) -> Result<Result<bool>> {
    if let Err(gone) = wire.flush() {
        return Ok(Err(gone));
    }
    loop {
        match wire.read() {
            Ok(Some(packet)) => handle(wire, packet)?,
            Ok(None) => return Ok(Ok(false)),
            Err(gone) => return Ok(Err(gone)),
        }
        if !wire.has_packet()? {
            return Ok(wire.flush().map(|()| true));
        }
    }
}

/// What a subscriber knows.
#[derive(Default)]
struct Seen {
    /// The number that comes next.
    next: u64,
    repeated: u64,
    /// QoS 2 identifiers between PUBLISH and PUBREL; they outlive connections.
    unreleased: HashSet<u16>,
    subscribed: bool,
    done: bool,
}

fn subscriber(arena: &Arena, pair: &Pair, _clients: usize) -> Result<()> {
    let connect = pair.session("subscriber");
    let mut seen = Seen::default();
    let mut until_break = pair.breaks_after;
    let mut is_first = true;
    loop {
        let (mut wire, present) = arena.connect(&connect)?;
        ensure!(present || is_first, "the session is gone");
        is_first = false;
        let over = pair.messages;
        if !seen.subscribed {
            wire.subscribe(&pair.name, pair.qos);
        } else if seen.next == over {
            wire.ping();
        }
        loop {
            let (before, repeated, subscribed) = (seen.next, seen.repeated, seen.subscribed);
            let alive = exchange(&mut wire, |wire, packet| {
                received(wire, pair, &mut seen, packet)
            })?;
            arena.with(|state| {
                state.delivered += seen.next - before;
                state.repeated += seen.repeated - repeated;
                state.subscribed += usize::from(seen.subscribed && !subscribed);
            });
            if !matches!(alive, Ok(true)) {
                break;
            }
            if seen.done {
                return Ok(());
            }
            if seen.next == over {
                // What comes ahead of the answer would be one too many.
                wire.ping();
            } else if seen.next >= until_break {
                until_break = seen.next + pair.breaks_after;
                arena.with(|state| state.reconnects += 1);
                break;
            }
        }
    }
}

/// A packet for the subscriber.
fn received(wire: &mut Wire, pair: &Pair, seen: &mut Seen, packet: Incoming) -> Result<()> {
    match packet {
        Incoming::SubAck(code) => {
            ensure!(code == pair.qos, "SUBACK {code:#04x}");
            seen.subscribed = true;
        }
        Incoming::Publish(message, id) => {
            ensure!(message.qos == pair.qos, "QoS {}", message.qos);
            let number: u64 = std::str::from_utf8(&message.payload)?.parse()?;
            if pair.qos == 1 {
                wire.acknowledge(0x40, id);
                ensure!(number <= seen.next, "{number} instead of {}", seen.next);
                if number == seen.next {
                    seen.next += 1;
                } else {
                    seen.repeated += 1;
                }
                return Ok(());
            }
            wire.acknowledge(0x50, id);
            if seen.unreleased.insert(id) {
                ensure!(number == seen.next, "{number} instead of {}", seen.next);
                seen.next += 1;
            } else {
                ensure!(message.dup, "packet identifier {id} given to a new message");
            }
        }
        Incoming::Ack(0x60, id, _) => {
            seen.unreleased.remove(&id);
            wire.acknowledge(0x70, id);
        }
        Incoming::Pong => seen.done = true,
        other @ Incoming::Ack(..) => bail!("unexpected {other:?}"),
    }
    Ok(())
}
