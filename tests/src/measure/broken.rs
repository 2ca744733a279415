//! A router under whose feet the disk breaks or fills up: its calls are made to fail by `strace`, from one on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use storage::EngineKind;
use storage::testing::traced;
use tempfile::TempDir;

use super::full::{acquire, is_free, is_logged, release};
use crate::command::{Running, signal};
use crate::mqtt::{Client, Connect};
use crate::wamp::Session;
use crate::{Options, PATIENCE, Server, http};

/// The calls by which commits reach the disk, and whether they fail for lack of room.
const FAULTS: [(&str, bool); 3] = [
    ("pwrite64", false),
    ("pwrite64", true),
    ("fdatasync", false),
];
/// Each call fails from this one of a thread's on.
const FROM: [u32; 3] = [1, 2, 5];
/// More writes than are made before the first one fails.
const ENOUGH: u32 = 200;
/// The reason code of a write that the store has refused.
const REFUSED: u8 = 0x80;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Routers whose disk failed.
    pub routers: u32,
    /// Values acknowledged before.
    pub acknowledged: u32,
    /// Those that went on by themselves when there was room again.
    pub resumed: u32,
}

/// Breaks the disk of one router after the other.
///
/// # Errors
/// Fails on the first acknowledged value that is missing, an acknowledgement after an error, a lock that cannot be
/// released, or a router that does not say what is wrong. If processes cannot be traced here.
pub fn run(engine: EngineKind) -> Result<Report> {
    traced::is_possible().map_err(anyhow::Error::msg)?;
    let mut report = Report::default();
    for (call, is_full) in FAULTS {
        for from in FROM {
            let fault = Fault {
                call,
                is_full,
                from,
            };
            break_one(engine, fault, &mut report)
                .with_context(|| format!("{engine}, {fault:?}"))?;
        }
    }
    Ok(report)
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    call: &'static str,
    is_full: bool,
    from: u32,
}

impl Fault {
    /// From when this returns until it is ended the call fails.
    fn strike(self, server: &Server, output: &Path) -> Result<Running> {
        let data = server.data_dir();
        let errno = if self.is_full { "ENOSPC" } else { "EIO" };
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(output);
        command.args(["-e", &format!("trace={}", self.call)]);
        let inject = format!("inject={}:error={errno}:when={}+", self.call, self.from);
        command.args(["-e", &inject]);
        for file in ["sled/db", "records.redb", "journal", "probe"] {
            command.arg("-P").arg(data.join(file));
        }
        command.args(["-p", &server.pid().to_string()]);
        let mut running = Running::start(&mut command, b"")?;
        running.error_line_with("attached")?;
        Ok(running)
    }
}

fn break_one(engine: EngineKind, fault: Fault, report: &mut Report) -> Result<()> {
    let home = TempDir::with_prefix("reynard-broken-")?;
    let config = format!("storage_engine = \"{engine}\"\n");
    let options = Options::default().restartable().config(&config);
    let mut server = Server::start(options)?;
    let mut holder = Session::join(server.listen, "realm1")?;
    let token = acquire(&mut holder, "broken.lock")?;
    let (mut writer, _) = Client::try_connect(server.mqtt_addr()?, &Connect::v5("writer"))?;
    let strace = fault.strike(&server, &home.path().join("trace"))?;
    let acknowledged = write_until_refused(&mut writer)?;
    for number in 0..3 {
        let code = writer.publish(&format!("late/{number}"), b"x", 1, true)?;
        ensure!(code == REFUSED, "after an error: {code:#04x}");
    }
    // It stands; the answer would say that it is on disk.
    release(&mut holder, &token)?;
    is_free(&server, "broken.lock")?;
    is_told(&server, fault)?;
    signal(strace.pid(), "INT")?;
    strace.finish(PATIENCE)?;
    let code = write_after(&mut writer, fault)?;
    if !fault.is_full {
        ensure!(code == REFUSED, "the disk works again, but: {code:#04x}");
    } else if code < REFUSED {
        report.resumed += 1;
    } else {
        bail!("there is room again, but: {code:#04x}");
    }
    server.kill()?;
    server.restart()?;
    check(&server, acknowledged, code < REFUSED)?;
    report.routers += 1;
    report.acknowledged += acknowledged;
    Ok(())
}

/// Where there is room again the router finds out by itself.
fn write_after(writer: &mut Client, fault: Fault) -> Result<u8> {
    let began = Instant::now();
    loop {
        let code = writer.publish("after", b"x", 1, true)?;
        if !fault.is_full || code < REFUSED || began.elapsed() > PATIENCE {
            return Ok(code);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many were acknowledged.
fn write_until_refused(writer: &mut Client) -> Result<u32> {
    for number in 0..ENOUGH {
        let topic = format!("broken/{number}");
        match writer.publish(&topic, number.to_string().as_bytes(), 1, true)? {
            code if code < 0x80 => {}
            REFUSED => return Ok(number),
            code => bail!("refused with {code:#04x}"),
        }
    }
    bail!("nothing fails")
}

fn is_told(server: &Server, fault: Fault) -> Result<()> {
    let health = http::get(server.listen, "/healthz")?;
    ensure!(health.status == 200, "{}", health.head);
    let down = server.metric("reynard_store_down")?;
    ensure!(down > 0.0, "the store is said to be up");
    ensure!(server.metric("reynard_storage_refused_total")? > 0.0);
    let words = match fault.is_full {
        true => "disk of the data directory is full",
        false => "switched off until a restart",
    };
    is_logged(server, words)
}

/// Everything acknowledged is there; else at most the first write that failed, whose bytes may have arrived.
fn check(server: &Server, acknowledged: u32, resumed: bool) -> Result<()> {
    let (mut reader, _) = Client::try_connect(server.mqtt_addr()?, &Connect::v5("reader"))?;
    reader.subscribe("#", 0)?;
    reader.ping()?;
    let mut topics: Vec<String> = reader.received().into_iter().map(|one| one.topic).collect();
    let mut wanted: Vec<String> = (0..acknowledged).map(|at| format!("broken/{at}")).collect();
    wanted.extend(resumed.then(|| "after".to_owned()));
    // The replay goes its own pace.
    while wanted.iter().any(|topic| !topics.contains(topic)) {
        topics.push(reader.message().context("a value is missing")?.topic);
    }
    topics.retain(|topic| !wanted.contains(topic));
    let first = format!("broken/{acknowledged}");
    ensure!(
        topics.iter().all(|topic| *topic == first && !resumed),
        "not acknowledged, but there: {topics:?}"
    );
    is_free(server, "broken.lock")
}
