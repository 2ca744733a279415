//! `reynard storage`: work on a data directory while no router has it open.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use router_core::records;
use serde_json::{Value, json};
use storage::tool::{self, Rewritten, Survey};
use storage::{EngineKind, StorageError};

use crate::cli::CliExit;

/// Exit code of a data directory that cannot be opened, or is damaged.
const EXIT_DATA: u8 = 3;
/// Damaged records that are listed one by one.
const LISTED: usize = 20;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StorageCommand {
    /// Read every record and say how many there are and which are damaged
    #[command(after_help = "\
Exit code 0 if everything is whole (or was repaired), else 3.

Examples:
  reynard storage check ./reynard-data
  reynard storage check ./reynard-data --repair")]
    Check {
        /// The data directory
        dir: PathBuf,
        /// Keep what is whole, put the rest into a file, keep the former directory beside
        #[arg(long)]
        repair: bool,
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Rewrite the records without the room that is free inside
    #[command(after_help = "\
Examples:
  reynard storage compact ./reynard-data")]
    Compact(Target),
    /// Copy the records to the other engine, compare, and swap the directories
    #[command(after_help = "\
The former directory is kept as DIR.backup-1. Afterwards set `storage_engine` in the configuration.

Examples:
  reynard storage migrate ./reynard-data --to redb")]
    Migrate {
        /// Which directory, and how to answer
        #[command(flatten)]
        target: Target,
        /// The engine that is to have it
        #[arg(long, value_enum)]
        to: To,
    },
}

/// Which directory, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Target {
    /// The data directory
    dir: PathBuf,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

/// An engine on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// sled
    Sled,
    /// redb
    Redb,
}

impl From<To> for EngineKind {
    fn from(to: To) -> Self {
        match to {
            To::Sled => EngineKind::Sled,
            To::Redb => EngineKind::Redb,
        }
    }
}

/// Carries it out; the bar stands on stderr, and only on a terminal.
#[must_use]
pub fn run(command: &StorageCommand) -> CliExit {
    let bar = Bar::new();
    let (json, answer) = match command {
        StorageCommand::Check { dir, repair, json } => (json, check(dir, *repair, &bar)),
        StorageCommand::Compact(Target { dir, json }) => (json, compact(dir, &bar)),
        StorageCommand::Migrate { target, to } => {
            (&target.json, migrate(&target.dir, (*to).into(), &bar))
        }
    };
    bar.0.finish_and_clear();
    print(answer, *json)
}

/// What is said: the code, the text, and the same as JSON.
struct Answer {
    code: u8,
    text: String,
    json: Value,
}

fn print(answer: Result<Answer, StorageError>, as_json: bool) -> CliExit {
    match answer {
        Ok(Answer { code, text, json }) => CliExit {
            code,
            stdout: if as_json { format!("{json}\n") } else { text },
            ..CliExit::default()
        },
        Err(error) if as_json => CliExit {
            code: EXIT_DATA,
            stdout: format!(
                "{}\n",
                json!({ "ok": false, "error": error.kind(), "message": error.to_string() })
            ),
            ..CliExit::default()
        },
        Err(error) => CliExit {
            code: EXIT_DATA,
            stderr: format!("reynard: {error}\n"),
            ..CliExit::default()
        },
    }
}

fn check(dir: &std::path::Path, repair: bool, bar: &Bar) -> Result<Answer, StorageError> {
    let survey = tool::check(dir, &records::check, &|done, of| bar.show(done, of))?;
    let is_whole = survey.lost_count == 0;
    if is_whole || !repair {
        return Ok(Answer {
            code: if is_whole { 0 } else { EXIT_DATA },
            text: describe(&survey, dir),
            json: survey_json(&survey),
        });
    }
    let (survey, repaired) = tool::repair(dir, &records::check, &|done, of| bar.show(done, of))?;
    let mut text = describe(&survey, dir);
    let _ = writeln!(text, "repaired: {} records kept", repaired.records);
    let _ = write!(text, "{}", where_to(&repaired));
    let mut json = survey_json(&survey);
    json["repaired"] = rewritten_json(&repaired);
    Ok(Answer {
        code: 0,
        text,
        json,
    })
}

fn compact(dir: &std::path::Path, bar: &Bar) -> Result<Answer, StorageError> {
    let engine = storage::engine_of(dir)?.unwrap_or_default();
    let done = tool::rewrite(dir, engine, false, &|done, of| bar.show(done, of))?;
    Ok(Answer {
        code: 0,
        text: format!(
            "{}: {} records, {} bytes before, {} now\n",
            dir.display(),
            done.records,
            done.bytes_before,
            done.bytes_after
        ),
        json: rewritten_json(&done),
    })
}

fn migrate(dir: &std::path::Path, to: EngineKind, bar: &Bar) -> Result<Answer, StorageError> {
    if storage::engine_of(dir)? == Some(to) {
        return Ok(Answer {
            code: 0,
            text: format!("{}: belongs to {to} already\n", dir.display()),
            json: json!({ "ok": true, "engine": to.name(), "migrated": false }),
        });
    }
    let done = tool::rewrite(dir, to, true, &|done, of| bar.show(done, of))?;
    let mut json = rewritten_json(&done);
    json["migrated"] = true.into();
    let mut text = format!("{}: {} records in {to}\n", dir.display(), done.records);
    let _ = write!(text, "{}", where_to(&done));
    let _ = writeln!(text, "configure: storage_engine = \"{to}\"");
    Ok(Answer {
        code: 0,
        text,
        json,
    })
}

fn describe(survey: &Survey, dir: &std::path::Path) -> String {
    let mut text = format!(
        "{}: {}, {} records, {} commits, {} bytes\n",
        dir.display(),
        survey.engine,
        survey.total(),
        survey.commits,
        survey.bytes
    );
    for (space, count) in &survey.records {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<14} {count}", name_of(*space));
    }
    if survey.journal_commits > 0 {
        let _ = writeln!(text, "  journal        {} commits", survey.journal_commits);
    }
    if survey.journal_cut > 0 {
        let _ = writeln!(
            text,
            "  journal        ends with {} bytes of a torn commit; the next start cuts them off",
            survey.journal_cut
        );
    }
    for lost in survey.lost.iter().take(LISTED) {
        let _ = writeln!(text, "damaged: {}: {}", lost.place, lost.why);
    }
    let more = survey.lost_count.saturating_sub(LISTED as u64);
    if more > 0 {
        let _ = writeln!(text, "damaged: {more} more");
    }
    if survey.lost_count == 0 {
        text.push_str("everything is whole\n");
    }
    text
}

fn where_to(done: &Rewritten) -> String {
    let mut text = String::new();
    if let Some(cut) = &done.cut {
        let _ = writeln!(text, "what was cut out: {}", cut.display());
    }
    if let Some(backup) = &done.backup {
        let _ = writeln!(text, "the former directory: {}", backup.display());
    }
    text
}

fn name_of(space: u8) -> String {
    let names = [
        "meta",
        "values",
        "sessions",
        "queues",
        "receipts",
        "wills",
        "subscriptions",
    ];
    let name = names.get(usize::from(space));
    name.map_or_else(|| format!("space {space}"), |name| (*name).to_owned())
}

fn survey_json(survey: &Survey) -> Value {
    let records: serde_json::Map<String, Value> = survey
        .records
        .iter()
        .map(|(space, count)| (name_of(*space), (*count).into()))
        .collect();
    let damaged: Vec<Value> = survey
        .lost
        .iter()
        .map(|lost| json!({ "place": lost.place, "why": lost.why }))
        .collect();
    json!({
        "ok": survey.lost_count == 0,
        "engine": survey.engine.name(),
        "records": survey.total(),
        "by_space": records,
        "commits": survey.commits,
        "journal_commits": survey.journal_commits,
        "journal_cut_bytes": survey.journal_cut,
        "bytes": survey.bytes,
        "damaged_count": survey.lost_count,
        "damaged": damaged,
    })
}

fn rewritten_json(done: &Rewritten) -> Value {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    json!({
        "ok": true,
        "engine": done.engine.name(),
        "records": done.records,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
        "backup": path(&done.backup),
        "cut": path(&done.cut),
    })
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} records {elapsed}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, done: u64, of: Option<u64>) {
        if let Some(of) = of {
            self.0.set_length(of);
        }
        self.0.set_position(done);
    }
}

#[cfg(test)]
mod tests;
