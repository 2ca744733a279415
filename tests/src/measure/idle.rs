//! What a connection costs that only keeps itself alive.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::process::{cpu_time, resident_bytes};
use super::wire::{Incoming, Wire};
use crate::mqtt::Connect;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections.
    pub connections: usize,
    /// How long they are watched.
    pub watch: Duration,
    /// Between two PINGREQs of one connection; zero: none.
    pub ping_every: Duration,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Resident bytes of the broker before and with the connections.
    pub resident: (u64, u64),
    /// Time to connect them all, each subscribed to a topic of its own.
    pub connected_in: Duration,
    /// CPU time for that.
    pub connect_cpu: Duration,
    /// CPU time while they were watched.
    pub watch_cpu: Duration,
}

impl Report {
    /// Resident bytes for each connection.
    #[must_use]
    pub fn bytes_each(&self, plan: &Plan) -> u64 {
        let (before, with) = self.resident;
        with.saturating_sub(before) / plan.connections.max(1) as u64
    }
}

/// Runs a plan against the broker with this process id.
///
/// # Errors
/// Fails if a connection is refused or lost.
pub fn run(plan: &Plan, addr: SocketAddr, pid: u32) -> Result<Report> {
    let (before, cpu, began) = (resident_bytes(pid)?, cpu_time(pid)?, Instant::now());
    let mut wires = Vec::with_capacity(plan.connections);
    for at in 0..plan.connections {
        let mut connect = Connect::v4(&format!("idle-{at}"));
        connect.keep_alive_secs = 120;
        let (mut wire, _) = Wire::connect(addr, &connect)?;
        wire.subscribe(&format!("idle/{at}"), 1);
        wire.flush()?;
        ensure!(matches!(wire.read()?, Some(Incoming::SubAck(1))));
        wire.forget_buffers();
        wires.push(wire);
    }
    let (connected_in, connect_cpu) = (began.elapsed(), cpu_time(pid)? - cpu);
    // Buffers of the handshake are given back by now or never.
    sleep(Duration::from_secs(2));
    let cpu = cpu_time(pid)?;
    watch(plan, &mut wires)?;
    Ok(Report {
        resident: (before, resident_bytes(pid)?),
        connected_in,
        connect_cpu,
        watch_cpu: cpu_time(pid)? - cpu,
    })
}

/// Pings in turn, evenly over the time.
fn watch(plan: &Plan, wires: &mut [Wire]) -> Result<()> {
    let began = Instant::now();
    if plan.ping_every.is_zero() {
        sleep(plan.watch);
        return Ok(());
    }
    let gap = plan.ping_every / plan.connections.max(1) as u32;
    let mut turn = 0u32;
    while began.elapsed() < plan.watch {
        let at = turn as usize % wires.len();
        let wire = wires.get_mut(at).context("no connections")?;
        wire.ping();
        wire.flush()?;
        ensure!(matches!(wire.read()?, Some(Incoming::Pong)), "no answer");
        wire.forget_buffers();
        turn += 1;
        sleep((gap * turn).saturating_sub(began.elapsed()));
    }
    Ok(())
}
