//! `reynard lock`: locks of a running router, and commands that run under one.

mod acquire;
mod child;
mod guard;
mod run;
mod show;

use super::client::Connection;
use super::console::Console;
use super::failure::{EXIT_LOST, Failure};
use super::words::{duration, json_or_text};
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::time::Duration;

/// Arguments of `lock`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 bad arguments, 4 not held or held by others, 5 lost;
`run` ends with the code of its command. docs/cli.md describes it all.

Examples:
  reynard lock run app.nightly -- ./backup.sh
  reynard lock ls app.
  reynard lock inspect app.nightly"
)]
pub struct LockArgs {
    #[command(subcommand)]
    command: LockCommand,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum LockCommand {
    /// Run a command while holding a lock
    #[command(after_help = "\
The command finds REYNARD_LOCK_KEY and REYNARD_LOCK_TOKEN in its environment; the token grows with
every grant: hand it to what you protect. If the lock is lost the command is stopped.
Exit code: that of the command (128+n: by signal n), 4 held by others, 5 the lock was lost,
126 or 127 the command cannot be run, 1 and 2 as everywhere.

Examples:
  reynard lock run app.nightly -- ./backup.sh
  reynard lock run app.nightly --wait 0 -- ./backup.sh   # only if it is free
  reynard lock run app.gpu --mode permit --limit 2 -- ./train.sh")]
    Run(Run),
    /// List locks that are held or waited for
    #[command(after_help = "\
A line is the key, the mode, the numbers of holders and waiters, and the token.

Examples:
  reynard lock ls
  reynard lock ls app. --json")]
    Ls {
        /// Start of the keys
        #[arg(default_value = "")]
        prefix: String,
        /// No more than this
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show who holds a lock and who waits for it
    #[command(after_help = "\
Exit code 4 if nobody holds it.

Examples:
  reynard lock inspect app.nightly
  reynard lock inspect app.nightly --json | jq .waiting")]
    Inspect {
        /// Key
        key: String,
    },
    /// Take a lock away from its holders; they are told
    #[command(after_help = "\
For whose role may call fox.lock.break. Exit code 4 if nobody holds it.

Examples:
  reynard lock break app.nightly
  reynard lock break app.nightly --authid admin --ticket-file admin.secret")]
    Break {
        /// Key
        key: String,
    },
}

/// How a lock is shared. The variants have no doc comments: they would unfold the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    // One holder.
    Exclusive,
    // Any number of holders, but no exclusive one.
    Shared,
    // Holders take permits of a limited number.
    Permit,
}

impl Mode {
    /// The option `mode`.
    const fn name(self) -> &'static str {
        match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
            Mode::Permit => "permit",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Run {
    /// Key of the lock
    key: String,
    /// exclusive, shared or permit
    #[arg(long, value_enum, default_value_t = Mode::Exclusive, hide_possible_values = true)]
    mode: Mode,
    /// Wait no longer than this; 0: not at all [default: without end]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    /// How long the lock outlives a connection that is cut
    #[arg(long, value_name = "TIME", value_parser = ttl, default_value = "10s")]
    ttl: Duration,
    /// Permits to take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    permits: Option<u64>,
    /// Permits there are; needed with --mode permit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          required_if_eq("mode", "permit"))]
    limit: Option<u64>,
    /// Value under the key while it is held: JSON, or else text
    #[arg(long, value_name = "VALUE", value_parser = data)]
    data: Option<String>,
    /// From SIGTERM to SIGKILL when the lock is lost
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    kill_after: Duration,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Shorter ones would be lost on a busy machine, not by its fault.
const TTL_MIN: Duration = Duration::from_secs(1);

fn ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        ttl if ttl < TTL_MIN => Err("at least 1s".to_owned()),
        ttl => Ok(ttl),
    }
}

fn data(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(json_or_text(text))
}

/// Runs the command; answers its exit code.
pub(super) async fn run(args: &LockArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let session = args.connection.join().await?;
    let ended = match &args.command {
        LockCommand::Run(run) => run::run(&session, run, console).await,
        LockCommand::Ls { prefix, limit } => show::ls(&session, prefix, *limit, console)
            .await
            .map(|()| 0),
        LockCommand::Inspect { key } => show::inspect(&session, key, console).await.map(|()| 0),
        LockCommand::Break { key } => show::break_lock(&session, key, console).await.map(|()| 0),
    };
    let is_lost = match &ended {
        Ok(code) => *code == EXIT_LOST,
        Err(failure) => failure.code == EXIT_LOST,
    };
    // A lost lock is to be told at once, whether or not the router still answers.
    if !is_lost {
        // What was asked for is done, or has failed: how the session ends changes nothing.
        let _ = session.leave().await;
    }
    ended
}
