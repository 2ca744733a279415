//! A disk that is full and has room again, many times, under a router that is killed and stopped in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use storage::testing::SmallDisk;
use tempfile::TempDir;

use crate::mqtt::{Client, Connect};
use crate::wamp::{Session, code};
use crate::{Options, PATIENCE, Server, http};

/// The reason code of a write that the store has refused, "Unspecified error".
const REFUSED: u8 = 0x80;
const REALM: &str = "realm1";
const DISK_MEBIBYTES: u32 = 160;
const VALUE: usize = 60_000;
/// More writes than any file has room for on a full disk.
const ENOUGH: u32 = 20_000;
/// Of a cycle's values so many stay.
const KEPT: usize = 16;
/// How long the router may take to go on when there is room again.
const RECOVERY: Duration = Duration::from_secs(30);

/// How much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The engine by name.
    pub engine: String,
    /// So often the disk is full.
    pub cycles: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// So often the disk was full.
    pub cycles: u32,
    /// Values acknowledged, removals among them.
    pub acknowledged: u64,
    /// Writes and locks refused for lack of room.
    pub refused: u64,
    /// Locks released while the disk was full.
    pub released: u64,
    /// The longest time from the room to the first acknowledgement.
    pub recovery: Duration,
}

/// Topic -> value, as acknowledged.
type Values = BTreeMap<String, Vec<u8>>;

struct Run<'a> {
    server: Server,
    disk: &'a SmallDisk,
    values: Values,
    next: u32,
    report: Report,
}

/// Runs a plan.
///
/// # Errors
/// Fails on the first acknowledged value that is missing, the first that was refused and is there, a lock that stays, a
/// wrong answer, or a router that does not go on. If mounting a small disk is not permitted, which takes root.
pub fn run(plan: &Plan) -> Result<Report> {
    let home = TempDir::with_prefix("reynard-full-")?;
    let disk = SmallDisk::mount(home.path(), DISK_MEBIBYTES).map_err(anyhow::Error::msg)?;
    let options = Options::default()
        .restartable()
        .config(&format!("storage_engine = \"{}\"\n", plan.engine))
        .data_dir(&disk.path().join("data"));
    let mut run = Run {
        server: Server::start(options)?,
        disk: &disk,
        values: Values::new(),
        next: 0,
        report: Report::default(),
    };
    for cycle in 0..plan.cycles {
        run.cycle(cycle).with_context(|| format!("cycle {cycle}"))?;
        run.report.cycles += 1;
    }
    Ok(run.report)
}

impl Run<'_> {
    fn cycle(&mut self, cycle: u32) -> Result<()> {
        let mut holder = Session::join(self.server.listen, REALM)?;
        let token = acquire(&mut holder, "full.lock")?;
        let (mut writer, _) =
            Client::try_connect(self.server.mqtt_addr()?, &Connect::v5("full-writer"))?;
        // Met at ever other places of a segment or page.
        self.disk.fill(u64::from(cycle) * 83_000)?;
        let before = self.server.metric("reynard_storage_refused_total")?;
        let written = self.write_until_refused(&mut writer)?;
        self.refuse_everything(&mut writer, &mut holder)?;
        let release = self.release(&mut holder, &token)?;
        let refused = self.server.metric("reynard_storage_refused_total")?;
        ensure!(
            refused > before,
            "the counter says {before}, then {refused}"
        );
        self.is_told()?;
        match cycle % 3 {
            0 => self.die_full()?,
            _ => {
                self.disk.free()?;
                self.go_on(&mut writer)?;
                let answer = holder.reply(release)?;
                ensure!(answer[0] == code::RESULT, "a release: {answer}");
            }
        }
        self.check().context("with room again")?;
        self.remove(written)?;
        match cycle % 2 {
            0 => self.server.kill()?,
            _ => drop(self.server.stop()?),
        }
        self.server.restart()?;
        self.check().context("after a restart")
    }

    /// The topics written.
    fn write_until_refused(&mut self, writer: &mut Client) -> Result<Vec<String>> {
        let mut written = Vec::new();
        for _ in 0..ENOUGH {
            let (topic, value) = self.value();
            match writer.publish(&topic, &value, 1, true)? {
                code if code < 0x80 => {
                    self.report.acknowledged += 1;
                    self.values.insert(topic.clone(), value);
                    written.push(topic);
                }
                REFUSED => {
                    self.report.refused += 1;
                    return Ok(written);
                }
                code => bail!("refused with {code:#04x}"),
            }
        }
        bail!("the disk does not fill up")
    }

    /// One that was never written before.
    fn value(&mut self) -> (String, Vec<u8>) {
        self.next += 1;
        (format!("full/{}", self.next), vec![self.next as u8; VALUE])
    }

    fn refuse_everything(&mut self, writer: &mut Client, holder: &mut Session) -> Result<()> {
        for _ in 0..3 {
            let (topic, value) = self.value();
            let code = writer.publish(&topic, &value, 1, true)?;
            ensure!(code == REFUSED, "still full, but {code:#04x}");
            self.report.refused += 1;
        }
        let answer = holder.call("fox.lock.try_acquire", json!(["full.other"]))?;
        let is_refused = answer[0] == code::ERROR && answer[4] == "wamp.error.unavailable";
        ensure!(is_refused, "a lock on a full disk: {answer}");
        self.report.refused += 1;
        Ok(())
    }

    /// Everybody sees it at once; the answer, which says that it is on disk, comes later.
    fn release(&mut self, holder: &mut Session, token: &Value) -> Result<u64> {
        let request = release(holder, token)?;
        is_free(&self.server, "full.lock")?;
        is_free(&self.server, "full.other")?;
        self.report.released += 1;
        Ok(request)
    }

    fn is_told(&self) -> Result<()> {
        let health = http::get(self.server.listen, "/healthz")?;
        ensure!(health.status == 200, "{}", health.head);
        let failures = self.server.metric("reynard_store_failures_total")?;
        ensure!(failures > 0.0, "no failure of the store is counted");
        is_logged(&self.server, "disk of the data directory is full")
    }

    fn die_full(&mut self) -> Result<()> {
        self.server.kill()?;
        self.disk.free()?;
        self.server.restart()
    }

    fn go_on(&mut self, writer: &mut Client) -> Result<()> {
        let began = Instant::now();
        loop {
            let (topic, value) = self.value();
            if writer.publish(&topic, &value, 1, true)? < 0x80 {
                self.values.insert(topic, value);
                self.report.acknowledged += 1;
                self.report.recovery = self.report.recovery.max(began.elapsed());
                return Ok(());
            }
            self.report.refused += 1;
            ensure!(began.elapsed() < RECOVERY, "there is room again");
        }
    }

    /// Everything acknowledged and nothing else is there, and no lock.
    fn check(&self) -> Result<()> {
        let (mut reader, _) =
            Client::try_connect(self.server.mqtt_addr()?, &Connect::v5("full-reader"))?;
        reader.subscribe("full/#", 0)?;
        let mut found = Values::new();
        while self.values.keys().any(|topic| !found.contains_key(topic)) {
            let message = reader.message().context("a value is missing")?;
            found.insert(message.topic, message.payload);
        }
        reader.ping()?;
        let more = reader.received();
        found.extend(more.into_iter().map(|more| (more.topic, more.payload)));
        for (topic, value) in &found {
            ensure!(
                self.values.get(topic) == Some(value),
                "{topic} was refused or is another one"
            );
        }
        is_free(&self.server, "full.lock")
    }

    /// Makes room for the next cycle; removals are acknowledged as well.
    fn remove(&mut self, mut topics: Vec<String>) -> Result<()> {
        let (mut writer, _) =
            Client::try_connect(self.server.mqtt_addr()?, &Connect::v5("full-writer"))?;
        for topic in topics.split_off(topics.len().min(KEPT)) {
            let code = writer.publish(&topic, b"", 1, true)?;
            ensure!(code < 0x80, "a removal with room: {code:#04x}");
            self.values.remove(&topic);
            self.report.acknowledged += 1;
        }
        Ok(())
    }
}

/// Takes a lock that is free; its token.
///
/// # Errors
/// Fails if it is not granted.
pub(super) fn acquire(session: &mut Session, key: &str) -> Result<Value> {
    let answer = session.call("fox.lock.acquire", json!([key]))?;
    ensure!(answer[0] == code::RESULT, "{key}: {answer}");
    let token = answer
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|part| part.get("token").or_else(|| part.get(0)?.get("token")));
    token
        .cloned()
        .with_context(|| format!("no token in {answer}"))
}

/// Whether the log says so; it is read as it comes, so it may take a moment.
///
/// # Errors
/// Fails if it does not come.
pub(super) fn is_logged(server: &Server, words: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let log = server.log();
        if log.contains(words) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{words:?} is not in {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gives a lock up and waits for nothing; the request's id.
///
/// # Errors
/// Fails if the connection is gone.
pub(super) fn release(session: &mut Session, token: &Value) -> Result<u64> {
    let request = session.request();
    session.send(&json!([
        code::CALL,
        request,
        {},
        "fox.lock.release",
        [token]
    ]))?;
    Ok(request)
}

/// Whether a stranger finds a lock free.
///
/// # Errors
/// Fails if it is held.
pub(super) fn is_free(server: &Server, key: &str) -> Result<()> {
    let mut stranger = Session::join(server.listen, REALM)?;
    let answer = stranger.call("fox.lock.inspect", json!([key]))?;
    ensure!(
        answer[0] == code::RESULT && answer.to_string().contains("\"holders\":[]"),
        "{key} is held: {answer}"
    );
    drop(stranger.leave());
    Ok(())
}
