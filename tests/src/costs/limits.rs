//! `tests/costs.txt`: what a message may cost.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::callgrind::Cost;

/// Instructions may grow by this share before it counts: other seeds of hashes make some, and how
/// many messages the kernel hands over at a time.
pub const INSTRUCTIONS: f64 = 0.08;
/// Allocations for each message may grow by this much.
pub const ALLOCATIONS: f64 = 0.3;
/// With another compiler than the one on record its own choices are in the instructions.
pub const OTHER_COMPILER: f64 = 0.15;

const HEAD: &str = "\
# What a message costs: instructions and allocations, of router and clients together, as
# `costs check` (tests/src/costs) counts them. More than 8 % above the instructions (15 % with
# another compiler than this one) or 0.3 above the allocations fails the test run. Whoever makes it
# cheaper lowers the figures: `cargo run --release -p integration-tests --bin costs -- bless`.
";

/// What is on record.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// As `rustc --version` tells.
    pub compiler: String,
    /// By load.
    pub costs: Vec<(String, Cost)>,
}

/// What the comparison of one load says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As on record, or near it.
    Same,
    /// The record could be lowered.
    Cheaper,
    /// Not allowed.
    Dearer,
    /// Not on record.
    Unknown,
}

impl Limits {
    /// What is in the tree.
    ///
    /// # Errors
    /// Fails if the file is missing or wrong.
    pub fn load() -> Result<Self> {
        let path = path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text)
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn store(&self) -> Result<()> {
        std::fs::write(path(), self.render()).context("costs.txt")
    }

    /// Compares what was counted with this compiler.
    #[must_use]
    pub fn judge(&self, compiler: &str, name: &str, counted: Cost) -> Verdict {
        let known = self.costs.iter().find(|(known, _)| known == name);
        let Some((_, limit)) = known else {
            return Verdict::Unknown;
        };
        let share = match compiler == self.compiler {
            true => INSTRUCTIONS,
            false => OTHER_COMPILER,
        };
        let dearer = counted.instructions > limit.instructions * (1.0 + share)
            || counted.allocations > limit.allocations + ALLOCATIONS;
        let cheaper = counted.instructions < limit.instructions * (1.0 - share)
            || counted.allocations < limit.allocations - ALLOCATIONS;
        match (dearer, cheaper) {
            (true, _) => Verdict::Dearer,
            (false, true) => Verdict::Cheaper,
            (false, false) => Verdict::Same,
        }
    }

    fn render(&self) -> String {
        let mut text = format!("{HEAD}compiler {}\n", self.compiler);
        for (name, cost) in &self.costs {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{name:<26} {:>8.0} {:>7.2}",
                cost.instructions, cost.allocations
            );
        }
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let (mut compiler, mut costs) = (None, Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(rest) = line.strip_prefix("compiler ") {
                compiler = Some(rest.to_owned());
                continue;
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, instructions, allocations] = fields[..] else {
                bail!("costs.txt: {line:?} is not a name and two numbers");
            };
            let cost = Cost {
                instructions: instructions.parse().with_context(|| line.to_owned())?,
                allocations: allocations.parse().with_context(|| line.to_owned())?,
            };
            costs.push((name.to_owned(), cost));
        }
        Ok(Self {
            compiler: compiler.context("costs.txt names no compiler")?,
            costs,
        })
    }
}

fn path() -> PathBuf {
    crate::workspace().join("tests/costs.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, allocations: f64) -> Cost {
        Cost {
            instructions,
            allocations,
        }
    }

    fn limits() -> Limits {
        Limits {
            compiler: "rustc 1".to_owned(),
            costs: vec![("pair".to_owned(), cost(1000.0, 2.0))],
        }
    }

    #[test]
    fn the_tolerance_is_what_the_file_says() {
        let limits = limits();
        let judge = |instructions, allocations| {
            limits.judge("rustc 1", "pair", cost(instructions, allocations))
        };
        assert_eq!(judge(1079.0, 2.29), Verdict::Same);
        assert_eq!(judge(1081.0, 2.0), Verdict::Dearer);
        assert_eq!(judge(900.0, 2.31), Verdict::Dearer);
        assert_eq!(judge(919.0, 2.0), Verdict::Cheaper);
        assert_eq!(judge(1000.0, 1.69), Verdict::Cheaper);
        for figure in ["8 %", "15 %", "0.3"] {
            assert!(HEAD.contains(figure), "{figure}");
        }
    }

    #[test]
    fn another_compiler_gets_more_room_for_instructions_alone() {
        let limits = limits();
        let judge = |instructions, allocations| {
            limits.judge("rustc 2", "pair", cost(instructions, allocations))
        };
        assert_eq!(judge(1149.0, 2.0), Verdict::Same);
        assert_eq!(judge(1151.0, 2.0), Verdict::Dearer);
        assert_eq!(judge(1000.0, 2.31), Verdict::Dearer);
    }

    #[test]
    fn a_load_that_is_not_on_record_is_not_passed_over() {
        let verdict = limits().judge("rustc 1", "fanout", cost(1.0, 0.0));
        assert_eq!(verdict, Verdict::Unknown);
    }

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let limits = limits();
        assert_eq!(Limits::parse(&limits.render()).expect("limits"), limits);
        assert!(Limits::parse("compiler x\npair 3\n").is_err());
    }

    #[test]
    fn every_load_is_on_record_and_nothing_else() {
        let limits = Limits::load().expect("costs.txt");
        let on_record: Vec<&str> = limits.costs.iter().map(|(name, _)| &**name).collect();
        let loads: Vec<&str> = super::super::load::LOADS
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(on_record, loads);
    }
}
