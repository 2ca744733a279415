//! Locks and durable writes beside Redis and etcd, each through the recipe its users know, each with
//! the write on disk before it is acknowledged.
//!
//! * Reynard: one publish that waits (`when: null`, `watch`), one that deletes.
//! * Redis: `SET NX PX`, tried again after 1 to 10 ms, and the release script in Lua.
//! * etcd: its lock service and its key-value service over HTTP.

mod etcd;
mod redis;
mod reynard;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::retained::percentile;
use crate::{PATIENCE, Server};

pub use etcd::Etcd;
pub use redis::Redis;
pub use reynard::Reynard;

/// How long a client waits for an answer: a lock may be far away in a long line.
const ANSWER: Duration = Duration::from_secs(300);

/// One client of a lock service.
pub trait Client: Send {
    /// Waits until the lock is this client's.
    ///
    /// # Errors
    /// Fails if the service refuses or is gone.
    fn lock(&mut self, key: &str) -> Result<()>;

    /// Lets it go.
    ///
    /// # Errors
    /// Fails if the service refuses or is gone.
    fn unlock(&mut self, key: &str) -> Result<()>;

    /// Stores a value; it is on disk afterwards.
    ///
    /// # Errors
    /// Fails if the service refuses or is gone.
    fn put(&mut self, key: &str, value: &str) -> Result<()>;
}

/// A lock service.
pub trait Service {
    /// Its name, and what its acknowledgement means.
    fn name(&self) -> String;

    /// A new connection.
    ///
    /// # Errors
    /// Fails if the service cannot be reached.
    fn client(&self) -> Result<Box<dyn Client>>;
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that write, each one value after the other.
    pub writers: usize,
    /// Clients that wait for one lock at a time, in a line.
    pub waiters: usize,
    /// Clients that take a lock of their own or a common one over and over.
    pub lockers: usize,
    /// How long each rate is measured.
    pub time: Duration,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Acknowledged writes in a second.
    pub writes: f64,
    /// Locks taken and released in a second, each client its own.
    pub free_locks: f64,
    /// Locks taken and released in a second, all clients the same one.
    pub contended_locks: f64,
    /// From the sending of a release to the grant at the next in line, sorted.
    pub handovers: Vec<Duration>,
    /// Whether the line was served in the order in which it formed.
    pub in_order: bool,
}

/// Runs a plan against a service.
///
/// # Errors
/// Fails if the service refuses anything, or two clients hold one lock.
pub fn run(plan: &Plan, service: &dyn Service) -> Result<Report> {
    let writes = rate(plan.writers, plan.time, service, |client, name, turn| {
        client.put(&format!("measure.value.{name}"), &turn.to_string())
    })?;
    let free_locks = rate(plan.lockers, plan.time, service, |client, name, _| {
        let key = format!("measure.free.{name}");
        client.lock(&key)?;
        client.unlock(&key)
    })?;
    let held = AtomicBool::new(false);
    let contended_locks = rate(plan.lockers, plan.time, service, |client, _, _| {
        client.lock("measure.contended")?;
        ensure!(!held.swap(true, Ordering::SeqCst), "two holders");
        held.store(false, Ordering::SeqCst);
        client.unlock("measure.contended")
    })?;
    let (handovers, in_order) = line(plan.waiters, service)?;
    Ok(Report {
        writes,
        free_locks,
        contended_locks,
        handovers,
        in_order,
    })
}

impl Report {
    /// One line of figures.
    #[must_use]
    pub fn line(&self) -> String {
        let at = |share| percentile(&self.handovers, share);
        format!(
            "{:.0} writes/s, {:.0} locks/s each its own, {:.0} locks/s one for all, {} hand-overs p50 {:.2?} p99 {:.2?} max {:.2?}, {}",
            self.writes,
            self.free_locks,
            self.contended_locks,
            self.handovers.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            if self.in_order {
                "first come first served"
            } else {
                "in no order"
            },
        )
    }
}

/// How often in a second `count` clients do something, one after the other each.
fn rate(
    count: usize,
    time: Duration,
    service: &dyn Service,
    work: impl Fn(&mut dyn Client, usize, u64) -> Result<()> + Sync,
) -> Result<f64> {
    let mut clients = (0..count)
        .map(|_| service.client())
        .collect::<Result<Vec<_>>>()?;
    let done = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(name, client)| {
                let (done, work) = (&done, &work);
                scope.spawn(move || -> Result<()> {
                    let mut turn = 0;
                    while began.elapsed() < time {
                        work(client.as_mut(), name, turn)?;
                        turn += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        join_all(threads)
    })?;
    Ok(done.into_inner() as f64 / began.elapsed().as_secs_f64())
}

/// A line of clients forms behind a holder, one after the other, and each lets go at once when its
/// turn comes.
fn line(count: usize, service: &dyn Service) -> Result<(Vec<Duration>, bool)> {
    const KEY: &str = "measure.line";
    let mut holder = service.client()?;
    holder.lock(KEY)?;
    let clients = (0..count)
        .map(|_| service.client())
        .collect::<Result<Vec<_>>>()?;
    // Who was granted when, and when it sent its release.
    let turns = Mutex::new(Vec::with_capacity(count));
    let asked = Barrier::new(2);
    let mut released = Instant::now();
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(count);
        for (name, mut client) in clients.into_iter().enumerate() {
            let (turns, asked) = (&turns, &asked);
            threads.push(scope.spawn(move || -> Result<()> {
                asked.wait();
                client.lock(KEY)?;
                let granted = Instant::now();
                turns
                    .lock()
                    .map_err(|_| anyhow!("a waiter panicked"))?
                    .push((name, granted, Instant::now()));
                client.unlock(KEY)
            }));
            asked.wait();
            // Only the order of asking depends on it, and it is only reported.
            std::thread::sleep(Duration::from_millis(2));
        }
        released = Instant::now();
        holder.unlock(KEY)?;
        join_all(threads)
    })?;
    let turns = turns
        .into_inner()
        .map_err(|_| anyhow!("a waiter panicked"))?;
    ensure!(
        turns.len() == count,
        "{} of {count} were granted",
        turns.len()
    );
    let in_order = turns.iter().map(|(name, ..)| *name).is_sorted();
    let mut handovers = Vec::with_capacity(count);
    for (_, granted, let_go) in turns {
        handovers.push(granted.saturating_duration_since(released));
        released = let_go;
    }
    handovers.sort_unstable();
    Ok((handovers, in_order))
}

fn join_all(threads: Vec<std::thread::ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(())
}

/// A peer's process; killed when dropped.
struct Peer(Child);

impl Peer {
    /// Starts a program that is to listen on `addr`.
    fn start(program: &Path, args: &[String], addr: SocketAddr) -> Result<Peer> {
        let child = Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let peer = Peer(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).is_err() {
            ensure!(Instant::now() < deadline, "nobody listens on {addr}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that answers without Nagle's delay.
fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// The installed peers and ourselves, in the order in which they are measured.
///
/// # Errors
/// Fails if one cannot be started.
pub fn services(server: Server) -> Result<Vec<Box<dyn Service>>> {
    let mut services: Vec<Box<dyn Service>> = vec![Box::new(Reynard(server))];
    if Path::new(redis::PROGRAM).exists() {
        services.push(Box::new(Redis::start()?));
    }
    if Path::new(etcd::PROGRAM).exists() {
        services.push(Box::new(Etcd::start()?));
    }
    Ok(services)
}
