//! `differences.txt`: every difference between the router and a peer, each with its reason.
//!
//! ```text
//! == script version peer
//! 2 A> the step
//! - what a client of the router saw and one of the peer did not
//! + the reverse
//! because: [clause] why both are allowed, or which one is wrong
//! ```
//!
//! The text is generated from what happened; only the reasons are written by hand, and each holds
//! for exactly the lines above it: where these change, the reason has to be given anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use integration_tests::target_dir;

/// Stands where nobody has given a reason.
const UNEXPLAINED: &str = "because: ?";

/// A step that went differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Number in the script, from 1.
    pub number: usize,
    pub step: String,
    pub ours: Vec<String>,
    pub theirs: Vec<String>,
}

impl Difference {
    /// What differs between two transcripts of one step, if anything does.
    pub fn between(number: usize, step: &str, ours: &[String], theirs: &[String]) -> Option<Self> {
        if ours == theirs {
            return None;
        }
        let (mut left, mut right) = (without(ours, theirs), without(theirs, ours));
        if left.is_empty() && right.is_empty() {
            // The same lines in another order.
            (left, right) = (ours.to_vec(), theirs.to_vec());
        }
        Some(Self {
            number,
            step: step.to_owned(),
            ours: left,
            theirs: right,
        })
    }
}

/// The lines of `all` that `others` lack, counted.
fn without(all: &[String], others: &[String]) -> Vec<String> {
    let mut others: Vec<&String> = others.iter().collect();
    let mut rest = Vec::new();
    for line in all {
        match others.iter().position(|other| *other == line) {
            Some(at) => {
                others.remove(at);
            }
            None => rest.push(line.clone()),
        }
    }
    rest
}

/// Script, version and peer.
pub type Key = (String, String, String);

/// What differed in one script on one peer, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    pub differences: Vec<Difference>,
    pub because: Vec<String>,
}

/// The whole file.
#[derive(Debug, Default)]
pub struct Record {
    /// What the peers were.
    pub peers: String,
    pub blocks: BTreeMap<Key, Block>,
}

impl Record {
    /// What is in the tree.
    pub fn load() -> Result<Self> {
        let text = std::fs::read_to_string(path()).context("differences.txt")?;
        Self::parse(&text)
    }

    /// The difference that is on record for one step.
    pub fn expected(&self, key: &Key, number: usize) -> Option<&Difference> {
        let differences = &self.blocks.get(key)?.differences;
        differences.iter().find(|known| known.number == number)
    }

    /// Takes over the reasons of the blocks that are the same in `old`.
    pub fn adopt_reasons(&mut self, old: &Self) {
        for (key, block) in &mut self.blocks {
            if let Some(known) = old.blocks.get(key)
                && known.differences == block.differences
            {
                block.because.clone_from(&known.because);
            }
        }
    }

    pub fn render(&self) -> String {
        let mut text = format!("# reynard (-) and its peers (+): {}\n", self.peers);
        for ((script, version, peer), block) in &self.blocks {
            let _ = writeln!(text, "\n== {script} {version} {peer}");
            for difference in &block.differences {
                let _ = writeln!(text, "{} {}", difference.number, difference.step);
                for (sign, lines) in [("-", &difference.ours), ("+", &difference.theirs)] {
                    for line in lines {
                        let _ = writeln!(text, "{sign} {line}");
                    }
                }
            }
            if block.because.is_empty() {
                let _ = writeln!(text, "{UNEXPLAINED}");
            }
            for reason in &block.because {
                let _ = writeln!(text, "because: {reason}");
            }
        }
        text
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        let mut key: Option<Key> = None;
        for (number, line) in text.lines().enumerate() {
            let at = || format!("differences.txt, line {}", number + 1);
            if let Some(peers) = line.strip_prefix("# reynard (-) and its peers (+): ") {
                record.peers = peers.to_owned();
            } else if let Some(name) = line.strip_prefix("== ") {
                let parts: Vec<&str> = name.split(' ').collect();
                let [script, version, peer] = parts[..] else {
                    bail!("{}: a name of {} parts", at(), parts.len());
                };
                let new = (script.to_owned(), version.to_owned(), peer.to_owned());
                ensure!(!record.blocks.contains_key(&new), "{}: given twice", at());
                record.blocks.insert(new.clone(), Block::default());
                key = Some(new);
            } else if !line.is_empty() {
                let block = key.as_ref().and_then(|key| record.blocks.get_mut(key));
                block.and_then(|block| block.add(line)).with_context(at)?;
            }
        }
        Ok(record)
    }
}

impl Block {
    fn add(&mut self, line: &str) -> Option<()> {
        if line == UNEXPLAINED {
            return Some(());
        }
        let (mark, rest) = line.split_once(' ')?;
        match mark {
            "because:" => self.because.push(rest.to_owned()),
            "-" => self.differences.last_mut()?.ours.push(rest.to_owned()),
            "+" => self.differences.last_mut()?.theirs.push(rest.to_owned()),
            number => self.differences.push(Difference {
                number: number.parse().ok()?,
                step: rest.to_owned(),
                ours: Vec::new(),
                theirs: Vec::new(),
            }),
        }
        Some(())
    }
}

/// Compares with the file in the tree. With `DIFF_BLESS` set the file is written anew, and whoever
/// did that gives the reasons that are missing.
///
/// # Errors
/// Fails if anything differs, or if a difference has no reason.
pub fn check(new: &Record) -> Result<()> {
    let text = new.render();
    let bless = std::env::var_os("DIFF_BLESS").is_some();
    let place = if bless {
        path()
    } else {
        target_dir().join("differences.txt")
    };
    let old = std::fs::read_to_string(path()).unwrap_or_default();
    if text != old {
        std::fs::write(&place, &text).with_context(|| format!("{}", place.display()))?;
    }
    let unexplained = text.lines().filter(|line| *line == UNEXPLAINED).count();
    ensure!(
        text == old || bless,
        "what happened is not what is on record; {} has it:\n{}",
        place.display(),
        changes(&old, &text)
    );
    ensure!(
        unexplained == 0,
        "{unexplained} scripts have no reason in {}",
        place.display()
    );
    Ok(())
}

fn changes(old: &str, new: &str) -> String {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (old, new) = (lines(old), lines(new));
    let mut text = String::new();
    for (sign, lines) in [
        ("recorded", without(&old, &new)),
        ("happened", without(&new, &old)),
    ] {
        for line in lines {
            let _ = writeln!(text, "{sign}: {line}");
        }
    }
    text
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("it/differential/differences.txt")
}

#[test]
fn a_record_is_read_as_it_is_written() -> crate::Outcome {
    let lines = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let one = Difference::between(2, "A> PINGREQ", &lines("a b b"), &lines("b c"));
    let one = one.context("no difference")?;
    ensure!(one.ours == ["a", "b"] && one.theirs == ["c"], "{one:?}");
    let turned = Difference::between(3, "A> cut", &lines("a b"), &lines("b a"));
    let turned = turned.context("no difference")?;
    ensure!(
        turned.ours == ["a", "b"] && turned.theirs == ["b", "a"],
        "{turned:?}"
    );
    ensure!(Difference::between(1, "", &lines("a"), &lines("a")).is_none());

    let mut record = Record {
        peers: "p 1".to_owned(),
        ..Record::default()
    };
    let key = |name: &str| (name.to_owned(), "5.0".to_owned(), "p".to_owned());
    let explained = Block {
        differences: vec![one.clone()],
        because: vec!["[X-1] so".to_owned()],
    };
    record.blocks.insert(key("s"), explained);
    record.blocks.insert(
        key("t"),
        Block {
            differences: vec![turned],
            because: Vec::new(),
        },
    );
    let again = Record::parse(&record.render())?;
    ensure!(again.blocks == record.blocks && again.peers == record.peers);
    ensure!(again.expected(&key("s"), 2) == Some(&one) && again.expected(&key("s"), 3).is_none());

    let mut changed = Record::parse(&record.render())?;
    let block = changed.blocks.get_mut(&key("s")).context("no block")?;
    block.because.clear();
    block.differences[0].theirs.push("d".to_owned());
    changed.adopt_reasons(&record);
    ensure!(
        changed.blocks[&key("s")].because.is_empty(),
        "a reason for other lines was kept"
    );
    Ok(())
}
