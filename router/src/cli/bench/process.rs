//! What processes use, as Linux tells it.

use crate::cli::failure::Failure;
use std::fs::read_to_string;
use std::time::Duration;

/// Clock ticks per second in `/proc`; fixed on Linux.
const TICKS_PER_SECOND: u64 = 100;

/// The processes of the router.
#[derive(Debug, Clone)]
pub(super) struct Processes(Vec<u32>);

impl Processes {
    /// None of them need exist yet.
    pub(super) const fn new(pids: Vec<u32>) -> Processes {
        Processes(pids)
    }

    /// User and system time of all of them; `None` if there are none.
    ///
    /// # Errors
    /// One of them does not exist, or not any more.
    pub(super) fn cpu(&self) -> Result<Option<Duration>, Failure> {
        let times = self.0.iter().map(|pid| {
            let stat = read_to_string(format!("/proc/{pid}/stat")).ok();
            stat.and_then(|stat| cpu_time(&stat))
                .ok_or_else(|| gone(*pid))
        });
        let times: Vec<Duration> = times.collect::<Result<_, _>>()?;
        Ok((!times.is_empty()).then(|| times.iter().sum()))
    }

    /// Resident memory of all of them, now and at its peak, in bytes; `None` if there are none.
    ///
    /// # Errors
    /// As [`Processes::cpu`].
    pub(super) fn memory(&self) -> Result<Option<(u64, u64)>, Failure> {
        let sizes = self.0.iter().map(|pid| {
            let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let size = |name| kibibytes(&status, name);
            size("VmRSS:").zip(size("VmHWM:")).ok_or_else(|| gone(*pid))
        });
        let sizes: Vec<(u64, u64)> = sizes.collect::<Result<_, _>>()?;
        let sum = sizes
            .iter()
            .fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        Ok((!sizes.is_empty()).then_some(sum))
    }
}

fn gone(pid: u32) -> Failure {
    Failure::failed(format!("there is no process {pid} to measure"))
}

/// Our own user and system time, where the system tells it.
pub(super) fn own_cpu() -> Option<Duration> {
    cpu_time(&read_to_string("/proc/self/stat").ok()?)
}

/// proc_pid_stat(5)
fn cpu_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// proc_pid_status(5), in bytes
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?.trim();
    number.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_linux_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(kibibytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        assert_eq!(cpu_time("7 (a"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        // Above the greatest that Linux gives.
        let none = Processes::new(vec![u32::MAX]);
        let failure = none.cpu().expect_err("no such process");
        assert!(
            failure.message.contains("no process 4294967295"),
            "{failure:?}"
        );
        assert!(none.memory().is_err());
        assert_eq!(Processes::new(Vec::new()).cpu(), Ok(None));
    }
}
