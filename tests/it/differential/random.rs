//! Random sessions on all brokers, and what to say when one of them differs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::broker::Kind;
use super::generate::{self, Generator};
use super::record::Difference;
use super::rules::{Sent, explain, sent};
use super::script::{Version, parse_step};
use super::stage::Stage;

/// Steps of one session.
pub const LENGTH: usize = 60;
/// How long a difference may take to vanish.
const SETTLE: Duration = Duration::from_secs(4);
/// The same while a smaller session is looked for.
const SETTLE_AGAIN: Duration = Duration::from_millis(300);
/// How often a session is played again to find a smaller one.
const ATTEMPTS: usize = 150;

/// What a session has shown.
#[derive(Debug, Default)]
pub struct Tally {
    /// Steps, each counted once for each peer it was compared with.
    pub steps: usize,
    /// Messages that the router delivered.
    pub messages: usize,
    /// How often each rule was needed.
    pub rules: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.messages += other.messages;
        for (name, times) in &other.rules {
            *self.rules.entry(name).or_default() += times;
        }
    }
}

/// A session to be played.
#[derive(Debug)]
struct Play {
    kinds: &'static [Kind],
    version: Version,
    lines: Vec<String>,
}

/// Plays the session of this seed.
///
/// # Errors
/// Fails with a script, as small as could be found, if no rule explains a difference.
pub fn session(seed: u64, kind: generate::Kind, length: usize) -> Result<Tally> {
    let mut generator = Generator::new(seed, kind);
    let mut play = Play {
        kinds: match kind {
            generate::Kind::Full => &[Kind::Reynard, Kind::Mosquitto],
            generate::Kind::Plain => &[Kind::Reynard, Kind::Mosquitto, Kind::Rumqttd],
        },
        version: generator.version(),
        lines: (0..length).map(|_| generator.step()).collect(),
    };
    let mut tally = Tally::default();
    let Some((line, mut why)) = run(&play, SETTLE, &mut tally)? else {
        return Ok(tally);
    };
    play.lines.truncate(line);
    let mut attempts = 0;
    let mut at = play.lines.len();
    while at > 0 && attempts < ATTEMPTS {
        at -= 1;
        let smaller = play.without(at);
        attempts += 1;
        let found = run(&smaller, SETTLE_AGAIN, &mut Tally::default())?;
        // The same difference, not another one that the lack of a step has made.
        if let Some((line, reason)) = found.filter(|(line, _)| *line == smaller.lines.len()) {
            play = smaller;
            play.lines.truncate(line);
            at = at.min(play.lines.len());
            why = reason;
        }
    }
    let script = play.lines.join("\n");
    bail!("seed {seed} {kind:?}: no rule explains\n{why}\n\n{script}")
}

impl Play {
    fn without(&self, at: usize) -> Self {
        let mut lines = self.lines.clone();
        lines.remove(at);
        Self { lines, ..*self }
    }
}

/// Plays all lines, or up to the first that differs without explanation: how many that were, and
/// what differed.
fn run(play: &Play, patience: Duration, tally: &mut Tally) -> Result<Option<(usize, String)>> {
    let mut stage = Stage::start(play.kinds, play.version, false)?;
    let sent = sent(&play.lines);
    for (number, line) in (1..).zip(&play.lines) {
        let step = parse_step(line)?;
        stage.play(&step)?;
        let deadline = Instant::now() + patience;
        while let Err(why) = judge(number, line, play.kinds, &stage, &sent, None)? {
            if Instant::now() > deadline {
                return Ok(Some((number, why)));
            }
            stage.look_again()?;
        }
        let _ = judge(number, line, play.kinds, &stage, &sent, Some(tally))?;
        stage.finish_step();
    }
    stage.alive()?;
    Ok(None)
}

/// Whether all peers did the same as the router or something explained.
fn judge(
    number: usize,
    line: &str,
    kinds: &[Kind],
    stage: &Stage,
    sent: &Sent,
    mut tally: Option<&mut Tally>,
) -> Result<std::result::Result<(), String>> {
    let transcripts = stage.transcripts();
    let ours = transcripts.first().context("no brokers")?;
    for (kind, theirs) in kinds.iter().zip(&transcripts).skip(1) {
        let Some(rules) = explain(*kind, line, ours, theirs, sent) else {
            let difference = Difference::between(number, line, ours, theirs);
            return Ok(Err(format!("{kind}: {difference:#?}")));
        };
        if let Some(tally) = &mut tally {
            tally.steps += 1;
            for rule in rules {
                *tally.rules.entry(rule.name).or_default() += 1;
            }
        }
    }
    if let Some(tally) = tally {
        tally.messages += ours
            .iter()
            .filter(|line| line.contains("< PUBLISH "))
            .count();
    }
    Ok(Ok(()))
}
