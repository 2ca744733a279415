//! The command line: `reynard [serve]`, `reynard check`, and the commands that talk to a running
//! router, `reynard kv`, `reynard lock` and `reynard bench` ([`client`]).
//!
//! [`parse`] does everything up to a usable configuration without touching the process; whatever
//! ends the program instead (help, wrong arguments, a configuration with problems) comes back as a
//! [`CliExit`] with its text and exit code. Exit codes here: 0 fine, 2 bad arguments or
//! configuration.

mod ask;
mod bench;
pub mod client;
mod console;
mod failure;
mod kv;
mod lock;
mod signals;
#[cfg(test)]
mod testing;
mod words;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigError, Flags, ListenerKind, Loaded, Problem, Sources};
use crate::storage_tool::StorageCommand;

/// Exit code of bad arguments and bad configuration.
const EXIT_USAGE: u8 = 2;

/// Where an error report sends the reader.
const MANUAL: &str = "docs/config.md";

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Serve with this configuration.
    Serve(Box<Loaded>),
    /// Call [`run_check`] and end.
    Check(Flags),
    /// Call [`client::run`] and end.
    Client(Box<client::ClientCommand>),
    /// Call [`run`](crate::storage_tool::run) and end.
    Storage(StorageCommand),
}

/// The program ends here: what to print where, and the exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CliExit {
    /// The exit code.
    pub code: u8,
    /// For stdout, lines complete.
    pub stdout: String,
    /// For stderr, lines complete.
    pub stderr: String,
}

impl CliExit {
    /// Prints the texts and returns the exit code for `main`. A closed pipe is no error: who closed
    /// it does not want the text.
    #[must_use]
    pub fn print(&self) -> ExitCode {
        let printed = io::stdout().write_all(self.stdout.as_bytes());
        let printed = printed.and_then(|()| io::stdout().flush());
        let printed = printed.and_then(|()| io::stderr().write_all(self.stderr.as_bytes()));
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::from(self.code),
        }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "reynard",
    bin_name = "reynard",
    version,
    about = "Message router: WAMP and MQTT clients meet in one realm, with retained values and locks.",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    help_template = "{about}\n\n{usage-heading} {usage}\n\nCommands:\n{subcommands}{after-help}",
    override_usage = "reynard [COMMAND] [OPTIONS]",
    after_help = "\
Without a command it serves; all options of `serve` may follow directly.
Options: see `reynard serve --help`; -V prints the version.

Examples:
  reynard                                 on 127.0.0.1, ports 9000 (all protocols) and 1883 (MQTT)
  reynard --memory --listen 127.0.0.1:0   nothing on disk, a free port
  reynard check -c reynard.toml           is the configuration right?
  reynard lock run KEY -- COMMAND         on one machine at a time

Exit codes: 0 fine, 1 failed while running, 2 bad arguments or configuration,
3 the data directory cannot be opened; those of kv and lock are in docs/cli.md."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router until SIGTERM or SIGINT (the default)
    #[command(after_help = "\
Flags win over environment variables (REYNARD_LISTEN, REYNARD_MQTT, REYNARD_DATA_DIR, ...),
these over the file. Port 0 picks a free port; the line \"reynard ready\" on stdout names it.

Examples:
  reynard serve
  reynard serve --listen 127.0.0.1:9000 --listen unix:/run/r.sock --mqtt off
  reynard serve -c /etc/reynard/reynard.toml --log-format json
  REYNARD_LISTEN=0.0.0.0:9000 reynard serve --insecure")]
    Serve(ServeArgs),
    /// Parse and validate the configuration, say what is wrong and where
    #[command(after_help = "\
Reads what `serve` would read: the file and the environment variables REYNARD_*.
Exit code 0 if it can be used, 2 if not.

Examples:
  reynard check
  reynard check -c /etc/reynard/reynard.toml")]
    Check(CheckArgs),
    /// Read and write kept values of a running router
    Kv(kv::KvArgs),
    /// Run a command under a lock; list, show and break locks
    Lock(lock::LockArgs),
    /// Measure a router, or any MQTT server or WAMP router
    Bench(bench::BenchArgs),
    /// Check, repair, compact or migrate a data directory
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Examples:\n  reynard storage check ./reynard-data"
    )]
    Storage(StorageCommand),
}

// Values stay text here: the configuration parses those of flags, variables and file alike, and
// reports what is wrong with all of them at once.
#[derive(Debug, Default, Args)]
struct ServeArgs {
    /// TOML file; without it ./reynard.toml is read if it exists
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Universal listener, repeatable [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Plain MQTT listener [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR|off")]
    mqtt: Option<String>,
    /// Where retained values and sessions live [default: ./reynard-data]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data_dir: Option<PathBuf>,
    /// Keep nothing on disk
    #[arg(long)]
    memory: bool,
    /// Realm of protocols that name none [default: realm1]
    #[arg(long, value_name = "NAME")]
    realm: Option<String>,
    /// Allow a non-loopback address without authentication
    #[arg(long)]
    insecure: bool,
    /// Form of the log on stderr [default: pretty]
    #[arg(long, value_name = "pretty|json")]
    log_format: Option<String>,
    /// off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// TOML file; without it ./reynard.toml is read if it exists
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<ServeArgs> for Flags {
    fn from(args: ServeArgs) -> Self {
        let ServeArgs {
            config,
            listen,
            mqtt,
            data_dir,
            memory,
            realm,
            insecure,
            log_format,
            log_level,
        } = args;
        Self {
            config,
            listen,
            mqtt,
            data_dir,
            memory,
            realm,
            insecure,
            log_format,
            log_level,
        }
    }
}

/// Reads the arguments (the program's name first) and, for `serve`, the configuration.
///
/// # Errors
/// A [`CliExit`] of code 0 for help and version, of code 2 for bad arguments and for a
/// configuration with problems.
pub fn parse<I, A>(args: I, sources: &dyn Sources) -> Result<Invocation, CliExit>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(args).map_err(|error| usage(&error))?;
    let serve = match cli.command {
        Some(Command::Check(CheckArgs { config })) => {
            return Ok(Invocation::Check(Flags {
                config,
                ..Flags::default()
            }));
        }
        Some(Command::Kv(args)) => return Ok(client(client::ClientCommand::Kv(args))),
        Some(Command::Lock(args)) => return Ok(client(client::ClientCommand::Lock(args))),
        Some(Command::Bench(args)) => return Ok(client(client::ClientCommand::Bench(args))),
        Some(Command::Storage(command)) => return Ok(Invocation::Storage(command)),
        Some(Command::Serve(serve)) => serve,
        None => cli.serve,
    };
    let loaded = config::load(&serve.into(), sources).map_err(|error| refusal(&error))?;
    Ok(Invocation::Serve(Box::new(loaded)))
}

fn client(command: client::ClientCommand) -> Invocation {
    Invocation::Client(Box::new(command))
}

/// `reynard check`: validates what `serve` would use.
#[must_use]
pub fn run_check(flags: &Flags, sources: &dyn Sources) -> CliExit {
    match config::load(flags, sources) {
        Ok(loaded) => CliExit {
            code: 0,
            stdout: summary(&loaded),
            stderr: warnings(&loaded.warnings),
        },
        Err(error) => refusal(&error),
    }
}

/// The warnings of a configuration as lines for stderr; empty if there are none.
#[must_use]
pub fn warnings(warnings: &[Problem]) -> String {
    warnings.iter().fold(String::new(), |text, warning| {
        text + &format!("warning: {warning}\n")
    })
}

fn usage(error: &clap::Error) -> CliExit {
    let text = error.render().to_string();
    if error.use_stderr() {
        return CliExit {
            code: EXIT_USAGE,
            stderr: text,
            ..CliExit::default()
        };
    }
    CliExit {
        stdout: text,
        ..CliExit::default()
    }
}

fn refusal(error: &ConfigError) -> CliExit {
    let count = error.problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    let stderr = format!("{error}\n\n{count} {noun}; {MANUAL} explains every key\n");
    CliExit {
        code: EXIT_USAGE,
        stderr,
        ..CliExit::default()
    }
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut text = match &loaded.file {
        Some(path) => format!("{}: ok\n", path.display()),
        None => format!(
            "no {}, defaults and environment: ok\n",
            config::DEFAULT_FILE
        ),
    };
    let rows = [
        ("listen", addresses(config, ListenerKind::Universal)),
        ("mqtt", addresses(config, ListenerKind::Mqtt)),
        ("data", config.data.to_string()),
        ("realms", realms(config)),
    ];
    for (name, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<7} {value}");
    }
    text
}

fn addresses(config: &Config, kind: ListenerKind) -> String {
    let list: Vec<String> = config
        .addresses(kind)
        .map(|address| address.to_string())
        .collect();
    if list.is_empty() {
        "off".to_owned()
    } else {
        list.join(",")
    }
}

fn realms(config: &Config) -> String {
    let names: Vec<String> = config.realms.iter().map(describe).collect();
    let mut text = names.join(", ");
    if config.auto_realms {
        text.push_str(if names.is_empty() {
            "any, open"
        } else {
            ", any other, open"
        });
    }
    let _ = write!(text, "; default {}", config.default_realm);
    text
}

fn describe(realm: &config::Realm) -> String {
    let users = realm.users.len();
    let noun = if users == 1 { "user" } else { "users" };
    let anonymous = match realm.anonymous_role() {
        Some(role) => format!("anonymous as {role}"),
        None => "no anonymous".to_owned(),
    };
    format!("{} ({users} {noun}, {anonymous})", realm.name)
}

#[cfg(test)]
mod tests;
