//! Calls that fail, one after the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::child::{Life, found_in};
use super::{Child, is_possible, reading, under_strace};
use crate::EngineKind;
use crate::testing::flips::copy_dir;

/// Commits in a life: two that carry a large value, some relaxed.
const COMMITS: u32 = 12;
/// Commits in the directory that is left behind; the last two are in the journal.
const LEFT: u32 = 13;
/// Processes that run side by side.
const THREADS: usize = 2;
/// A process that is not done after this hangs.
const PATIENCE: &str = "120";
/// What may be opened only after something failed.
const LATE: [&str; 3] = ["probe", "journal", "journal.cut.1"];
/// What may fail for any reason.
const CALLS: [&str; 17] = [
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "sync_file_range",
    "ftruncate",
    "fallocate",
    "openat",
    "mkdir",
    "rename",
    "unlink",
    "read",
    "pread64",
    "lseek",
    "statx",
    "getdents64",
    "flock",
];
/// Whoever makes all commits without these need not tell: what they find is asked for again, there is one file too many,
/// or, as everything is found afterwards, what was not written was not needed (what sled still writes when it is closed).
const GETS_BY: [&str; 8] = [
    "read",
    "pread64",
    "lseek",
    "statx",
    "getdents64",
    "flock",
    "unlink",
    "pwrite64",
];
/// The first of them may fail for lack of room.
const TAKE_ROOM: usize = 10;

/// What is to fail.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The engine.
    pub engine: EngineKind,
    /// Lack of room instead of an error of the device.
    pub is_full: bool,
    /// All later calls of that name fail as well.
    pub lasts: bool,
    /// Of the calls of each name, the first and every so many more.
    pub step: usize,
}

impl Faults {
    fn errno(self) -> &'static str {
        if self.is_full { "ENOSPC" } else { "EIO" }
    }

    fn calls(self) -> &'static [&'static str] {
        let count = if self.is_full { TAKE_ROOM } else { CALLS.len() };
        CALLS.get(..count).unwrap_or_default()
    }
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strikes {
    /// Processes in which a call was made to fail.
    pub runs: u64,
    /// Of these, those whose directory did not open.
    pub unopened: u64,
    /// Those in which a commit was refused.
    pub refused: u64,
    /// Those that made all their commits in the end.
    pub finished: u64,
    /// Those after which the directory is refused as damaged: sled takes what it cannot read for the end of its log. The
    /// engine has read all of it just before, so that this takes a disk that fails in between.
    pub damaged: u64,
}

/// Makes the first, second, third call of each name fail and so on, in a directory that is made anew and in one that a
/// killed process has left, until a number is not reached any more. `dir` must be empty.
///
/// `strace` counts the calls of each thread for itself: where several threads make one, the number strikes in each of
/// them, and the last number is that of the busiest thread.
///
/// # Errors
/// The calls after which something acknowledged is missing, something else is there or is read, a commit is
/// acknowledged although one before it failed, a process hangs, or nobody is told; if processes cannot be traced here.
pub fn break_everywhere(dir: &Path, faults: Faults, child: Child<'_>) -> Result<Strikes, String> {
    is_possible()?;
    let breaker = Breaker {
        faults,
        child,
        left: dir.join("left"),
        names: names(&dir.join("names"), faults.engine, child)?,
    };
    breaker.leave_behind()?;
    let calls = faults.calls();
    thread::scope(|scope| {
        let breaker = &breaker;
        let parts: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mine = calls.iter().skip(thread).step_by(THREADS);
                let place = dir.join(format!("data-{thread}"));
                scope.spawn(move || breaker.break_all(mine, &place))
            })
            .collect();
        let (mut strikes, mut found) = (Strikes::default(), Vec::new());
        for part in parts {
            match part.join().map_err(|_| "a thread ended with a panic")? {
                Ok(part) => strikes = strikes.and(part),
                Err(what) => found.push(what),
            }
        }
        match found.is_empty() {
            true => Ok(strikes),
            false => Err(found.join("\n\n")),
        }
    })
}

impl Strikes {
    fn and(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            unopened: self.unopened + other.unopened,
            refused: self.refused + other.refused,
            finished: self.finished + other.finished,
            damaged: self.damaged + other.damaged,
        }
    }
}

/// The files that a process without any fault touches, relative to its directory.
fn names(dir: &Path, engine: EngineKind, child: Child<'_>) -> Result<BTreeSet<PathBuf>, String> {
    let (data, output) = (dir.join("data"), dir.join("trace"));
    fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    let mut names: BTreeSet<PathBuf> = LATE.iter().map(PathBuf::from).collect();
    for closes in [false, true] {
        let life = Life {
            dir: data.clone(),
            engine,
            commits: COMMITS,
            closes,
        };
        let options = ["-y", "-xx", "-s", "4096", "-e", "signal=none"];
        let options: Vec<String> = options
            .into_iter()
            .map(str::to_owned)
            .chain(["-e".to_owned(), format!("trace={}", CALLS.join(","))])
            .collect();
        run(under_strace(&options, &output, child), &life)?;
        for call in reading::read(&output)? {
            let named = (0..call.args.len())
                .flat_map(|at| [Ok(call.path_of(at)), call.path(at)])
                .flatten();
            names.extend(named.filter_map(|path| {
                let inner = Path::new(&path).strip_prefix(&data);
                inner.ok().map(Path::to_owned)
            }));
        }
    }
    Ok(names)
}

/// What the process said.
fn run(mut command: Command, life: &Life) -> Result<String, String> {
    life.put_into(&mut command);
    let done = command.output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

struct Breaker<'a> {
    faults: Faults,
    child: Child<'a>,
    /// A directory that a killed process has left.
    left: PathBuf,
    names: BTreeSet<PathBuf>,
}

impl Breaker<'_> {
    fn leave_behind(&self) -> Result<(), String> {
        let life = Life {
            dir: self.left.clone(),
            engine: self.faults.engine,
            commits: LEFT,
            closes: false,
        };
        run((self.child)(), &life).map(drop)
    }

    fn break_all<'a>(
        &self,
        calls: impl Iterator<Item = &'a &'a str>,
        place: &Path,
    ) -> Result<Strikes, String> {
        let (mut strikes, mut found) = (Strikes::default(), Vec::new());
        for call in calls {
            for is_new in [true, false] {
                for number in (1..).step_by(self.faults.step.max(1)) {
                    let what = format!(
                        "{} of {call} {number}, {}lasting, directory {}",
                        self.faults.errno(),
                        if self.faults.lasts { "" } else { "not " },
                        if is_new { "new" } else { "left" },
                    );
                    match self.break_one(call, number, is_new, place) {
                        Ok(Some(one)) => strikes = strikes.and(one),
                        Ok(None) => break,
                        Err(why) => found.push(format!("{what}: {why}")),
                    }
                }
            }
        }
        match found.is_empty() {
            true => Ok(strikes),
            false => Err(found.join("\n\n")),
        }
    }

    /// `None` if the call was not reached.
    fn break_one(
        &self,
        call: &str,
        number: usize,
        is_new: bool,
        place: &Path,
    ) -> Result<Option<Strikes>, String> {
        let engine = self.faults.engine;
        let _absent = fs::remove_dir_all(place);
        let prepared = match is_new {
            true => fs::create_dir_all(place),
            false => copy_dir(&self.left, place),
        };
        prepared.map_err(|error| error.to_string())?;
        let before = if is_new { 0 } else { LEFT };
        let output = place.with_extension("trace");
        let life = Life {
            dir: place.to_owned(),
            engine,
            commits: COMMITS,
            closes: true,
        };
        let options = self.options(call, number, place);
        let said = run(in_time(&under_strace(&options, &output, self.child)), &life)?;
        let trace = fs::read_to_string(&output).map_err(|error| error.to_string())?;
        if !trace.contains("(INJECTED)") {
            return Ok(None);
        }
        let struck: Vec<&str> = trace
            .lines()
            .filter(|line| line.contains("(INJECTED)"))
            .collect();
        let judged = Said::of(&said, before).and_then(|said| {
            said.judge(&self.faults, call, struck.len())?;
            self.compare(&said, call, place)
        });
        judged.map(Some).map_err(|why| {
            let struck = struck
                .iter()
                .take(3)
                .copied()
                .collect::<Vec<_>>()
                .join("\n");
            format!("{why}\n{struck}\n{said}")
        })
    }

    /// What is found without faults.
    fn compare(&self, said: &Said, call: &str, place: &Path) -> Result<Strikes, String> {
        let found = match found_in(place, self.faults.engine) {
            Err(why) if call == "pread64" && why.contains("is damaged") => {
                return Ok(Strikes {
                    damaged: 1,
                    ..said.strikes()
                });
            }
            found => found?,
        };
        match (said.reached..=said.reached + 1).contains(&found) {
            true => Ok(said.strikes()),
            false => Err(format!(
                "commit {found} found, {} was said last",
                said.reached
            )),
        }
    }

    fn options(&self, call: &str, number: usize, place: &Path) -> Vec<String> {
        let mut options = vec![
            "-D".to_owned(),
            "-y".to_owned(),
            "-e".to_owned(),
            format!("trace={call}"),
            "-e".to_owned(),
            "signal=none".to_owned(),
            "-e".to_owned(),
            format!(
                "inject={call}:error={}:when={number}{}",
                self.faults.errno(),
                if self.faults.lasts { "+" } else { "" }
            ),
        ];
        for name in &self.names {
            let path = match name.as_os_str().is_empty() {
                true => place.to_owned(),
                false => place.join(name),
            };
            options.extend(["-P".to_owned(), path.display().to_string()]);
        }
        options
    }
}

/// Killed if it hangs: with `-D`, it is the traced process that `timeout` sees.
fn in_time(command: &Command) -> Command {
    let mut timed = Command::new("timeout");
    timed.args(["-s", "KILL", PATIENCE]);
    timed.arg(command.get_program()).args(command.get_args());
    timed.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    timed
}

/// What the process said, as far as it counts.
struct Said {
    /// The last commit it said was made.
    reached: u32,
    wanted: u32,
    unopened: bool,
    refused: bool,
    told: bool,
}

impl Said {
    fn of(said: &str, before: u32) -> Result<Self, String> {
        let mut all = Self {
            reached: before,
            wanted: before + COMMITS,
            unopened: false,
            refused: false,
            told: false,
        };
        let (mut is_over, mut switched_off) = (false, None);
        for line in said.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "acknowledged" | "relaxed" => {
                    if let Some(error) = switched_off {
                        return Err(format!("{line} after {error}"));
                    }
                    all.reached = rest.parse().map_err(|_| line.to_owned())?;
                }
                "refused" => {
                    all.refused = true;
                    if !rest.contains(": full: ") {
                        switched_off = Some(line);
                    }
                }
                "not" => all.unopened = true,
                "told:" => all.told = true,
                "wrong" => return Err(line.to_owned()),
                "end" => is_over = true,
                _ => {}
            }
        }
        match is_over {
            true => Ok(all),
            false => Err("it did not come to its end".into()),
        }
    }

    fn judge(&self, faults: &Faults, call: &str, times: usize) -> Result<(), String> {
        let is_harmless = GETS_BY.contains(&call) && self.reached == self.wanted;
        if !self.unopened && !self.refused && !self.told && !is_harmless {
            return Err("nobody was told".into());
        }
        // Each thread's count is its own, so that a number may strike again when everything is opened again.
        let resumes = faults.is_full && call == "pwrite64" && times == 1;
        if resumes && !self.unopened && self.reached < self.wanted {
            return Err("there is room again, but it did not go on".into());
        }
        Ok(())
    }

    fn strikes(&self) -> Strikes {
        Strikes {
            runs: 1,
            unopened: self.unopened.into(),
            refused: self.refused.into(),
            finished: (self.reached == self.wanted).into(),
            damaged: 0,
        }
    }
}
