#![forbid(unsafe_code)]
//! Counts what messages cost: see `integration_tests::costs`.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use integration_tests::costs::callgrind::{Cost, count};
use integration_tests::costs::limits::{Limits, Verdict};
use integration_tests::costs::load::{LOADS, named};

const USAGE: &str = "costs check            count every load and compare with tests/costs.txt
costs bless            count every load and write tests/costs.txt
costs run LOAD BATCHES do a load, for whoever wants to profile it";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["run", name, batches] => {
            named(name)?.run(batches.parse().context("BATCHES")?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["check"] => check(),
        ["bless"] => {
            let (compiler, costs) = (compiler()?, count_all()?);
            Limits { compiler, costs }.store()?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            println!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn check() -> Result<ExitCode> {
    let (limits, compiler) = (Limits::load()?, compiler()?);
    let mut code = ExitCode::SUCCESS;
    println!("compiler {compiler}; on record {}", limits.compiler);
    for (name, counted) in count_all()? {
        let verdict = limits.judge(&compiler, &name, counted);
        if matches!(verdict, Verdict::Dearer | Verdict::Unknown) {
            code = ExitCode::FAILURE;
        }
        let known = limits.costs.iter().find(|(known, _)| *known == name);
        let known = known.map_or("nothing".to_owned(), |(_, cost)| line(*cost));
        println!(
            "{name:<26} {}; on record {known}: {verdict:?}",
            line(counted)
        );
    }
    Ok(code)
}

fn line(cost: Cost) -> String {
    format!(
        "{:>8.0} instructions, {:>6.2} allocations",
        cost.instructions, cost.allocations
    )
}

fn compiler() -> Result<String> {
    let rustc = Command::new("rustc").arg("--version").output()?;
    ensure!(rustc.status.success(), "rustc --version: {}", rustc.status);
    Ok(String::from_utf8(rustc.stdout)?.trim().to_owned())
}

/// All loads, as many at a time as there are cores.
fn count_all() -> Result<Vec<(String, Cost)>> {
    let program = std::env::current_exe()?;
    let (next, counted) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((name, load)) = LOADS.get(at) else {
                return Ok(());
            };
            let cost = count(&program, name, *load)?;
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.push((at, (*name).to_owned(), cost));
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        })
    })?;
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    counted.sort_by_key(|(at, _, _)| *at);
    let costs = counted.into_iter().map(|(_, name, cost)| (name, cost));
    Ok(costs.collect())
}
