//! `reynard kv`: the kept values of a running router.

mod list;
mod transfer;
mod value;
mod watch;

use super::client::Connection;
use super::console::Console;
use super::failure::Failure;
use super::words::{duration, json};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `kv`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Values are JSON if they parse as such, else text; `-` reads them from stdin.
Exit codes: 0 done, 1 failed, 2 bad arguments, 4 no such key or the condition does not hold.
docs/cli.md describes every command and the JSON lines.

Examples:
  reynard kv put app.greeting hello
  reynard kv get app.greeting
  reynard kv watch app.greeting
  reynard kv export app. > app.jsonl"
)]
pub struct KvArgs {
    #[command(subcommand)]
    command: KvCommand,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum KvCommand {
    /// Print the value of a key
    #[command(after_help = "\
Text is printed bare unless it would be read as JSON; anything else as JSON.
Exit code 4 if there is no value.

Examples:
  reynard kv get app.greeting
  reynard kv get app.greeting --json | jq .token")]
    Get {
        /// Key, such as app.greeting
        key: String,
    },
    /// Store a value
    #[command(after_help = "\
`null` deletes. Prints the token of the write; exit code 4 if --when does not hold.

Examples:
  reynard kv put app.greeting hello
  reynard kv put app.config '{\"port\": 80}' --ttl 1h
  reynard kv put app.leader me --when null
  reynard kv put app.config - < config.json")]
    Put(Put),
    /// Store a value if the key still has the token you know
    #[command(after_help = "\
Token 0 means: there is no value. `null` deletes. Prints the token of the write.
Exit code 4 if the token is another one; the message tells it.

Examples:
  reynard kv cas app.counter 0 1
  reynard kv cas app.counter 891352152965120 2")]
    Cas(Cas),
    /// Delete a key
    #[command(after_help = "\
Exit code 4 if there is no value, or with --token if the token is another one.

Examples:
  reynard kv del app.greeting
  reynard kv del app.greeting --token 891352152965120")]
    Del {
        /// Key
        key: String,
        /// Only if this is its token
        #[arg(long, value_name = "TOKEN")]
        token: Option<u64>,
    },
    /// List keys
    #[command(after_help = "\
The prefix is one of the text: `app.` lists everything below app.

Examples:
  reynard kv ls
  reynard kv ls app. --values
  reynard kv ls app. --json --limit 10")]
    Ls {
        /// Start of the keys
        #[arg(default_value = "")]
        prefix: String,
        /// With their values
        #[arg(long)]
        values: bool,
        /// No more than this
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Print the value of a key and each change, until Ctrl-C
    #[command(after_help = "\
A line is the token and the value as JSON; a deletion shows as null.

Examples:
  reynard kv watch app.greeting
  reynard kv watch app.greeting --token 891352152965120 --count 1")]
    Watch {
        /// Key
        key: String,
        /// Only what is newer than this token
        #[arg(long, value_name = "TOKEN", default_value_t = 0)]
        token: u64,
        /// End after so many lines
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Write keys and values as JSON lines
    #[command(after_help = "\
What belongs to a session, such as a lock, is left out. Each key is read once, not all at one
moment.

Examples:
  reynard kv export > all.jsonl
  reynard kv export app. --output app.jsonl")]
    Export {
        /// Start of the keys
        #[arg(default_value = "")]
        prefix: String,
        /// File to write; it takes its place when it is complete
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Store the keys and values of JSON lines
    #[command(after_help = "\
A line is {\"key\": …, \"value\": …}; other members are ignored. It ends with the first line that
fails. Without --replace, keys that have a value keep it.

Examples:
  reynard kv import all.jsonl
  reynard kv import --replace - < all.jsonl")]
    Import(Import),
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Put {
    /// Key
    key: String,
    /// JSON, or else text; `-` reads stdin
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Deletes it after this time, such as 90s, 5m or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: Option<Duration>,
    /// Only if the stored value fits; null: only if there is none
    #[arg(long, value_name = "JSON", value_parser = json)]
    when: Option<String>,
    /// Wait for --when instead of failing, at most this time
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "when")]
    wait: Option<Duration>,
    /// Merge into the stored value (RFC 7396)
    #[arg(long)]
    merge: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Cas {
    /// Key
    key: String,
    /// Its token as you know it; 0: no value
    token: u64,
    /// JSON, or else text; `-` reads stdin
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Deletes it after this time, such as 90s, 5m or 500ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Import {
    /// File to read; `-` is stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Leave keys alone that have a value (the default)
    #[arg(long, conflicts_with = "replace")]
    only_new: bool,
    /// Overwrite keys that have a value
    #[arg(long)]
    replace: bool,
    /// Requests that may wait for their answer at a time
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
}

/// Runs the command.
pub(super) async fn run(args: &KvArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    // Before a session is joined that would have to wait for it.
    let typed = match &args.command {
        KvCommand::Put(Put { value, .. }) | KvCommand::Cas(Cas { value, .. }) => {
            value::typed(value)?
        }
        _ => String::new(),
    };
    let session = args.connection.join().await?;
    let ended = match &args.command {
        KvCommand::Get { key } => value::get(&session, key, console).await,
        KvCommand::Put(put) => value::put(&session, put, typed, console).await,
        KvCommand::Cas(cas) => value::cas(&session, cas, typed, console).await,
        KvCommand::Del { key, token } => value::delete(&session, key, *token, console).await,
        KvCommand::Ls {
            prefix,
            values,
            limit,
        } => list::ls(&session, prefix, *values, *limit, console).await,
        KvCommand::Watch { key, token, count } => {
            watch::watch(&session, key, *token, *count, console).await
        }
        KvCommand::Export { prefix, output } => {
            transfer::export(&session, prefix, output.as_deref(), console).await
        }
        KvCommand::Import(import) => transfer::import(&session, import, console).await,
    };
    // What was asked for is done, or has failed: how the session ends changes nothing.
    let _ = session.leave().await;
    ended
}
