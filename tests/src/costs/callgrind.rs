//! Runs a load under callgrind and counts.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::load::Load;

/// Batches of the shorter and of the longer run.
const RUNS: [usize; 2] = [40, 120];
/// What allocates. The router's own allocator is another; how often it is asked is the same.
const ALLOCATORS: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];

/// What one message costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Instructions of router and clients in user space.
    pub instructions: f64,
    /// Allocations of router and clients.
    pub allocations: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    instructions: u64,
    allocations: u64,
}

/// Counts a load; `program` does it when called with `run NAME BATCHES`.
///
/// # Errors
/// Fails if valgrind is missing or the load fails.
pub fn count(program: &Path, name: &str, load: Load) -> Result<Cost> {
    let few = run(program, name, RUNS[0])?;
    let many = run(program, name, RUNS[1])?;
    let messages = ((RUNS[1] - RUNS[0]) * load.units()) as f64;
    let each = |few: u64, many: u64| many.saturating_sub(few) as f64 / messages;
    Ok(Cost {
        instructions: each(few.instructions, many.instructions),
        allocations: each(few.allocations, many.allocations),
    })
}

fn run(program: &Path, name: &str, batches: usize) -> Result<Counts> {
    let home = tempfile::TempDir::new()?;
    let file = home.path().join("callgrind.out");
    let mut out = std::ffi::OsString::from("--callgrind-out-file=");
    out.push(&file);
    let done = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(out)
        .arg(program)
        .args(["run", name, &batches.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("valgrind (tests/setup installs it)")?;
    ensure!(
        done.status.success(),
        "{name} ended with {}: {}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    counts(&std::fs::read_to_string(&file)?)
}

/// Reads the file that callgrind writes: functions have their name where they are first mentioned,
/// `(7) malloc`, and are `(7)` from there on; `calls=` follows whom it calls.
fn counts(text: &str) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut allocators = Vec::new();
    let mut called = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("totals: ") {
            counts.instructions = rest.trim().parse().context("totals")?;
        } else if let Some(rest) = line.strip_prefix("calls=") {
            if allocators.contains(&called) {
                let number = rest.split(' ').next().unwrap_or_default();
                counts.allocations += number.parse::<u64>().context("calls")?;
            }
        } else if let Some(function) = line
            .strip_prefix("cfn=")
            .or_else(|| line.strip_prefix("fn="))
        {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if ALLOCATORS.contains(&name) {
                allocators.push(id);
            }
            if line.starts_with("cfn=") {
                called = id;
            }
        }
    }
    ensure!(counts.instructions > 0, "no totals");
    ensure!(counts.allocations > 0, "no allocations");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_allocators_are_counted_wherever_they_got_their_name() {
        let text = "fn=(1) main\n5 100\ncfn=(2) malloc\ncalls=3 9\n5 40\ncfn=(3) memcpy\n\
                    calls=8 9\n5 10\nfn=(4) realloc\n7 7\nfn=(5) work\ncfn=(4)\ncalls=2 1\n\
                    7 9\ncfn=(2)\ncalls=1 4\n1 1\ntotals: 167\n";
        let counted = counts(text).expect("counts");
        let expected = Counts {
            instructions: 167,
            allocations: 6,
        };
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_file_without_totals_is_no_result() {
        assert!(counts("fn=(1) main\n5 100\n").is_err());
    }
}
