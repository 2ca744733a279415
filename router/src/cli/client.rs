//! What the commands that talk to a running router have in common: the options of the connection,
//! the joined session, and the exit codes.

use super::console::Console;
use super::failure::Failure;
use super::{bench, kv, lock};
use clap::Args;
use router_client::{Address, Credentials, Join, Session};
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// A command that talks to a running router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// `reynard kv …`
    Kv(kv::KvArgs),
    /// `reynard lock …`
    Lock(lock::LockArgs),
    /// `reynard bench …`
    Bench(bench::BenchArgs),
}

/// Where to connect, as whom, and how results are shown.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The router, ws://… or unix:PATH
    #[arg(
        long,
        value_name = "URL",
        env = "REYNARD_URL",
        hide_env = true,
        default_value = "ws://127.0.0.1:9000/wamp",
        global = true
    )]
    url: Address,
    /// Realm to join
    #[arg(long, value_name = "NAME", default_value = "realm1", global = true)]
    realm: String,
    /// User to join as; needs a ticket
    #[arg(
        long,
        value_name = "NAME",
        env = "REYNARD_AUTHID",
        hide_env = true,
        global = true
    )]
    authid: Option<String>,
    /// Secret of the user; visible to others on this machine
    #[arg(
        long,
        value_name = "SECRET",
        env = "REYNARD_TICKET",
        hide_env = true,
        hide_env_values = true,
        global = true
    )]
    ticket: Option<String>,
    /// File with the secret
    #[arg(long, value_name = "FILE", global = true)]
    ticket_file: Option<PathBuf>,
    /// JSON lines: results on stdout, errors on stderr
    #[arg(long, global = true)]
    json: bool,
}

impl Connection {
    /// Whether results are shown as JSON lines.
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// The router.
    pub(super) const fn address(&self) -> &Address {
        &self.url
    }

    /// The realm to join.
    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// Connects and joins.
    pub(super) async fn join(&self) -> Result<Session, Failure> {
        let join = Join {
            credentials: self.credentials()?,
            ..Join::new(
                &self.realm,
                concat!("reynard-cli/", env!("CARGO_PKG_VERSION")),
            )
        };
        Ok(Session::connect(&self.url, &join).await?)
    }

    /// Who joins.
    pub(super) fn credentials(&self) -> Result<Credentials, Failure> {
        let ticket = match (&self.ticket_file, &self.ticket) {
            (Some(path), _) => {
                let text = fs::read_to_string(path);
                let text =
                    text.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, ticket) => ticket.clone(),
        };
        match (self.authid.clone(), ticket) {
            (None, None) => Ok(Credentials::Anonymous),
            (Some(authid), Some(ticket)) => Ok(Credentials::Ticket { authid, ticket }),
            (Some(_), None) => Err(Failure::usage(
                "--authid needs --ticket, --ticket-file or REYNARD_TICKET",
            )),
            (None, Some(_)) => Err(Failure::usage("a ticket needs --authid")),
        }
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: &ClientCommand) -> ExitCode {
    let connection = match command {
        ClientCommand::Kv(args) => &args.connection,
        ClientCommand::Lock(args) => &args.connection,
        ClientCommand::Bench(args) => &args.connection,
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let is_terminal = out.is_terminal();
    let mut console = Console::new(connection.is_json(), is_terminal, &mut out, &mut err);
    let ended = runtime().and_then(|runtime| {
        runtime.block_on(async {
            match command {
                ClientCommand::Kv(args) => kv::run(args, &mut console).await.map(|()| 0),
                ClientCommand::Lock(args) => lock::run(args, &mut console).await,
                ClientCommand::Bench(args) => bench::run(args, &mut console).await.map(|()| 0),
            }
        })
    });
    ExitCode::from(ended.unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.code
    }))
}

/// One thread is plenty for one session.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connection: Connection,
    }

    fn credentials(args: &[&str]) -> Result<Credentials, Failure> {
        let line = Line::try_parse_from(std::iter::once(&"reynard").chain(args));
        line.expect("parsed").connection.credentials()
    }

    #[test]
    fn a_user_and_a_ticket_belong_together() {
        assert_eq!(credentials(&[]), Ok(Credentials::Anonymous));
        let joe = Credentials::Ticket {
            authid: "joe".to_owned(),
            ticket: "secret".to_owned(),
        };
        let line = ["--authid", "joe", "--ticket", "secret"];
        assert_eq!(credentials(&line), Ok(joe));
        for line in [["--authid", "joe"], ["--ticket", "secret"]] {
            assert_eq!(credentials(&line).expect_err("half of it").code, 2);
        }
    }

    #[test]
    fn a_ticket_file_may_end_in_a_line_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "secret \n").expect("written");
        let path = file.path().to_str().expect("text");
        let joe = Credentials::Ticket {
            authid: "joe".to_owned(),
            ticket: "secret ".to_owned(),
        };
        let line = ["--authid", "joe", "--ticket-file", path];
        assert_eq!(credentials(&line), Ok(joe));
        let missing = credentials(&["--authid", "joe", "--ticket-file", "/nonexistent/t"]);
        assert_eq!(missing.expect_err("missing").code, 1);
    }
}
