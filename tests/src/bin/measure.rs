#![forbid(unsafe_code)]
//! The long measurements, by name: `measure restarts`, `measure retained 100000`,
//! `measure idle 5000`, `measure malformed 1000000`. Numbers that are left out are the defaults
//! printed by `measure` alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::measure::{
    broken, compare, full, growth, histories, idle, keys, kills, locks, malformed, mutexes, order,
    report, restarts, retained,
};
use integration_tests::server::free_port;
use integration_tests::{Options, PATIENCE, Server, workspace};
use storage::EngineKind;
use storage::testing::{self, traced};

const USAGE: &str = "measure restarts [MESSAGES=1000000] [KILLS=20] [RECONNECTS=200]
measure retained [VALUES=100000] [RECEIVE_MAXIMUM=10] [ROUND_TRIP_MICROSECONDS=1000]
measure idle [CONNECTIONS=5000] [SECONDS=60]
measure malformed [CONNECTIONS=1000000] [SEED=1]
measure order [MESSAGES=20000] [SENDERS=6] [RECEIVERS=2]
measure locks [WAITERS=1000] [SECONDS=5] [ROUNDS=3]
measure kills [ROUNDS=500] [SECONDS=600] [DURABILITY=always]
measure broken
measure full [CYCLES=20]
measure keys [KEYS=1000000]
measure power redb|sled [CUTS=20000] [SEED=1]
measure calls redb|sled|files
measure flips sled|redb [STEP=1]
measure histories [HISTORIES=20000] [SEED=1] [KILL_AFTER=500]
measure mutexes [GRANTS=1000000] [KILLS=20] [SEED=1]
measure compare [ROUNDS=5] [SECONDS=3]
measure growth [LARGEST=1000000]
measure report";

fn main() -> Result<()> {
    if traced::child::run() {
        return Ok(());
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| -> Result<u64> {
        match args.get(at) {
            Some(text) => text.parse().with_context(|| format!("{text} is no number")),
            None => Ok(default),
        }
    };
    let word = |at: usize| {
        args.get(at)
            .map(String::as_str)
            .context("an argument is missing")
    };
    match args.first().map(String::as_str) {
        Some("restarts") => {
            measure_restarts(number(1, 1_000_000)?, number(2, 20)?, number(3, 200)?)
        }
        Some("retained") => {
            measure_retained(number(1, 100_000)?, number(2, 10)?, number(3, 1_000)?)
        }
        Some("idle") => measure_idle(number(1, 5_000)?, number(2, 60)?),
        Some("malformed") => measure_malformed(number(1, 1_000_000)?, number(2, 1)?),
        Some("locks") => measure_locks(number(1, 1_000)?, number(2, 5)?, number(3, 3)?),
        Some("order") => measure_order(number(1, 20_000)?, number(2, 6)?, number(3, 2)?),
        Some("kills") => {
            let durability = args.get(3).map_or("always", String::as_str);
            measure_kills(number(1, 500)?, number(2, 600)?, durability)
        }
        Some("broken") => measure_broken(),
        Some("full") => measure_full(u32::try_from(number(1, 20)?)?),
        Some("keys") => measure_keys(number(1, 1_000_000)?),
        Some("keys-fill") => keys::fill(Path::new(word(1)?), word(2)?.parse()?, number(3, 0)?),
        Some("keys-open") => keys::open(Path::new(word(1)?), word(2)?.parse()?),
        Some("power") => measure_power(word(1)?.parse()?, number(2, 20_000)?, number(3, 1)?),
        Some("calls") if word(1)? == "files" => measure_traced_calls(EngineKind::Redb),
        Some("calls") => match word(1)?.parse()? {
            EngineKind::Sled => measure_traced_calls(EngineKind::Sled),
            EngineKind::Redb => measure_calls(),
        },
        Some("flips") => {
            let engine = args.get(1).context("which engine?")?.parse()?;
            measure_flips(engine, usize::try_from(number(2, 1)?)?)
        }
        Some("mutexes") => measure_mutexes(number(1, 1_000_000)?, number(2, 20)?, number(3, 1)?),
        Some("histories") => measure_histories(number(1, 20_000)?, number(2, 1)?, number(3, 500)?),
        Some("compare") => measure_compare(number(1, 5)?, number(2, 3)?),
        Some("growth") => measure_growth(number(1, 1_000_000)?),
        Some("report") => write_report(),
        _ => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

fn measure_restarts(messages: u64, kills: u64, reconnects: u64) -> Result<()> {
    let plan = restarts::Plan {
        messages,
        pairs: 4,
        kills,
        reconnects,
        window: 48,
    };
    let report = restarts::run(&plan)?;
    println!("{report:?}");
    println!(
        "{} messages in {:.1?}, {} kills, {} reconnects: QoS 1 none lost ({} repeated), QoS 2 none lost, none doubled, order kept",
        report.delivered, report.took, report.kills, report.reconnects, report.repeated
    );
    Ok(())
}

fn measure_retained(values: u64, receive_maximum: u64, round_trip_us: u64) -> Result<()> {
    let plan = retained::Plan {
        values: usize::try_from(values)?,
        receive_maximum: u16::try_from(receive_maximum)?,
        round_trip: Duration::from_micros(round_trip_us),
        unloaded: Duration::from_secs(10),
    };
    let report = retained::run(&plan)?;
    println!(
        "{values} values stored in {:.1?}, replayed in {:.1?}, at most {} open",
        report.stored_in, report.replayed_in, report.most_open
    );
    for (name, latencies) in [("unloaded", &report.unloaded), ("loaded", &report.loaded)] {
        let at = |share| retained::percentile(latencies, share);
        println!(
            "live pair {name}: p50 {:.2?} p99 {:.2?} max {:.2?} of {}",
            at(0.5),
            at(0.99),
            at(1.0),
            latencies.len()
        );
    }
    Ok(())
}

fn measure_idle(connections: u64, secs: u64) -> Result<()> {
    let plan = idle::Plan {
        connections: usize::try_from(connections)?,
        watch: Duration::from_secs(secs),
        ping_every: Duration::from_secs(20),
    };
    let server = Server::start(Options::default().memory())?;
    let report = idle::run(&plan, server.mqtt_addr()?, server.pid())?;
    println!(
        "reynard: {} bytes each, {report:?}",
        report.bytes_each(&plan)
    );
    let mosquitto = Path::new("/usr/sbin/mosquitto");
    if !mosquitto.exists() {
        println!("mosquitto is not installed: no peer");
        return Ok(());
    }
    let port = free_port()?;
    let home = tempfile::TempDir::new()?;
    let conf = home.path().join("mosquitto.conf");
    std::fs::write(
        &conf,
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\n"),
    )?;
    let mut child = Command::new(mosquitto)
        .arg("-c")
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let addr: SocketAddr = ([127, 0, 0, 1], port).into();
    let result = accepting(addr).and_then(|()| idle::run(&plan, addr, child.id()));
    child.kill()?;
    child.wait()?;
    let report = result?;
    println!(
        "mosquitto: {} bytes each, {report:?}",
        report.bytes_each(&plan)
    );
    Ok(())
}

/// Waits until somebody listens.
fn accepting(addr: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(addr).is_err() {
        ensure!(Instant::now() < deadline, "nobody listens on {addr}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn measure_malformed(connections: u64, seed: u64) -> Result<()> {
    let began = Instant::now();
    let report = malformed::run(connections, seed)?;
    println!(
        "{connections} malformed connects in {:.1?}; resident MiB: {:?}; growth of the second half {} KiB",
        began.elapsed(),
        report
            .resident
            .iter()
            .map(|bytes| bytes >> 20)
            .collect::<Vec<_>>(),
        report.growth() >> 10
    );
    Ok(())
}

fn measure_order(messages: u64, senders: u64, receivers: u64) -> Result<()> {
    let began = Instant::now();
    let plan = order::Plan {
        senders,
        receivers,
        messages,
    };
    let report = order::run(&plan)?;
    println!("{report:?} in {:.1?}: all in order", began.elapsed());
    Ok(())
}

/// Each service in turn, several rounds.
fn measure_locks(waiters: u64, secs: u64, rounds: u64) -> Result<()> {
    let plan = locks::Plan {
        writers: 64,
        waiters: usize::try_from(waiters)?,
        lockers: 16,
        time: Duration::from_secs(secs),
    };
    let services = locks::services(Server::start(Options::default())?)?;
    for _ in 0..rounds {
        for service in &services {
            let report = locks::run(&plan, service.as_ref())?;
            println!("{}: {}", service.name(), report.line());
        }
    }
    Ok(())
}

/// Where files cost no disk, if there is such a place.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(match memory.is_dir() {
        true => tempfile::TempDir::new_in(memory)?,
        false => tempfile::TempDir::new()?,
    })
}

fn measure_kills(rounds: u64, secs: u64, durability: &str) -> Result<()> {
    for engine in EngineKind::ALL {
        let report = kills::run(&kills::Plan {
            engine: engine.name().to_owned(),
            durability: durability.to_owned(),
            rounds,
            time: Duration::from_secs(secs / EngineKind::ALL.len() as u64),
        })?;
        println!("{engine}, {durability}: {report:?}");
    }
    Ok(())
}

fn measure_broken() -> Result<()> {
    for engine in EngineKind::ALL {
        let began = Instant::now();
        let report = broken::run(*engine)?;
        println!("{engine}: {report:?} in {:.1?}", began.elapsed());
    }
    Ok(())
}

fn measure_full(cycles: u32) -> Result<()> {
    for engine in EngineKind::ALL {
        let began = Instant::now();
        let report = full::run(&full::Plan {
            engine: engine.name().to_owned(),
            cycles,
        })?;
        println!("{engine}: {report:?} in {:.1?}", began.elapsed());
    }
    Ok(())
}

fn measure_keys(keys: u64) -> Result<()> {
    for engine in EngineKind::ALL {
        let home = tempfile::TempDir::new()?;
        let report = keys::run(&home.path().join("data"), *engine, keys)?;
        println!(
            "{engine}: {report:?}; each key {} bytes of memory, {} on disk",
            report.resident / keys,
            report.disk / keys
        );
    }
    Ok(())
}

fn measure_power(engine: EngineKind, points: u64, seed: u64) -> Result<()> {
    let (home, began) = (scratch()?, Instant::now());
    let cuts = match engine {
        EngineKind::Redb => testing::cut_everywhere(home.path(), 40, points, seed),
        EngineKind::Sled => {
            let plan = traced::Plan {
                engine,
                commits: 150,
                points,
                seed,
                data_is_not_synced: false,
            };
            traced::cut_everywhere(home.path(), &plan, &traced_child)
        }
    };
    let cuts = cuts.map_err(anyhow::Error::msg)?;
    println!("{engine}: {cuts:?} in {:.1?}", began.elapsed());
    Ok(())
}

/// This program is the child as well: see the beginning of `main`.
fn traced_child() -> Command {
    Command::new(std::env::current_exe().unwrap_or_else(|_| "measure".into()))
}

/// The files of an engine, and those that stand beside them.
fn measure_traced_calls(engine: EngineKind) -> Result<()> {
    for (is_full, lasts) in [(false, false), (false, true), (true, false), (true, true)] {
        let (home, began) = (scratch()?, Instant::now());
        let faults = traced::Faults {
            engine,
            is_full,
            lasts,
            step: 1,
        };
        let strikes = traced::break_everywhere(home.path(), faults, &traced_child)
            .map_err(anyhow::Error::msg)?;
        println!("{faults:?}: {strikes:?} in {:.1?}", began.elapsed());
    }
    Ok(())
}

fn measure_calls() -> Result<()> {
    for kind in [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull] {
        let (home, began) = (scratch()?, Instant::now());
        let calls = testing::break_everywhere(home.path(), kind).map_err(anyhow::Error::msg)?;
        println!("redb, {kind}: {calls} calls in {:.1?}", began.elapsed());
    }
    Ok(())
}

fn measure_flips(engine: EngineKind, step: usize) -> Result<()> {
    let (home, began) = (scratch()?, Instant::now());
    let flips = testing::flip_everywhere(home.path(), engine, step).map_err(anyhow::Error::msg)?;
    println!("{engine}: {flips:?} in {:.1?}", began.elapsed());
    Ok(())
}

fn measure_histories(histories: u64, seed: u64, kill_after: u64) -> Result<()> {
    let began = Instant::now();
    let plan = histories::Plan {
        histories,
        tables: 6,
        kill_after,
        seed,
    };
    let report = histories::run(&plan)?;
    println!("{report:#?}");
    println!(
        "{} histories of {} actions on {} keys, {} kills, in {:.1?}: all linearizable but {} undecided",
        report.histories,
        report.ops,
        report.keys,
        report.kills,
        began.elapsed(),
        report.undecided
    );
    Ok(())
}

fn measure_mutexes(grants: u64, kills: u64, seed: u64) -> Result<()> {
    let began = Instant::now();
    let plan = mutexes::Plan {
        grants,
        clients: 16,
        keys: 48,
        window: 12,
        kills,
        dies_every: 100,
        seed,
    };
    let report = mutexes::run(&plan)?;
    println!("{report:#?}");
    println!(
        "{} grants in {:.1?}, {} kills: never two holders, tokens grew, first come first served",
        report.grants,
        began.elapsed(),
        report.kills
    );
    Ok(())
}

fn measure_compare(rounds: u64, secs: u64) -> Result<()> {
    let plan = compare::Plan {
        rounds,
        load: compare::Load::Seconds(secs),
        peers: compare::Kind::ALL.to_vec(),
        scenarios: compare::SCENARIOS.iter().collect(),
        lines: compare::lines_dir().join(report::RUNS),
    };
    compare::run(&plan, |run| {
        let said = match (&run.outcome, &run.failed) {
            (Some(outcome), _) => format!(
                "{:.0}/s, {:.2} s of CPU per million, p99 {} us",
                outcome["delivered_per_second"].as_f64().unwrap_or(0.0),
                outcome["router"]["cpu_seconds_per_million"]
                    .as_f64()
                    .unwrap_or(0.0),
                outcome["latency_us"]["p99"]
            ),
            (None, reason) => format!("failed: {}", reason.as_deref().unwrap_or_default()),
        };
        eprintln!("{} {} {}: {said}", run.scenario, run.round, run.peer);
    })?;
    write_report()
}

fn measure_growth(largest: u64) -> Result<()> {
    let plan = growth::Plan {
        largest,
        messages: 200_000,
        axes: growth::Axis::ALL.to_vec(),
        lines: compare::lines_dir().join(report::POINTS),
    };
    growth::run(&plan, |point| eprintln!("{point:?}"))?;
    write_report()
}

/// Of whatever was measured last, by either.
fn write_report() -> Result<()> {
    let docs = workspace().join("docs");
    report::write(&compare::lines_dir(), &docs)?;
    println!("written: {}", docs.join("benchmarks.md").display());
    Ok(())
}
