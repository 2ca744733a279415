#![forbid(unsafe_code)]
//! Demonstrations: one program per file in [`demo`], all over the small WAMP client in [`router_client`].
//!
//! [`args`] is the command line, [`output`] the only way to stdout, [`clock`] the time as text.
//!
//! Exit codes: 0 done, 1 failed (one line on stderr says why), 2 bad arguments.
//!
//! Everything runs on one thread: that is plenty for a client, and handlers of calls then start in
//! the order in which the calls arrive.

mod args;
mod clock;
mod demo;
mod output;

use args::Cli;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // As with any filter: who reads our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "democli: {}",
                router_client::printable(&format!("{error:#}"))
            );
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(demo::run(&cli.connect, cli.demo))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_broken_stdout_is_a_quiet_end() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(broken())));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!is_broken_pipe(&anyhow::Error::from(refused)));
        // The router's side of the socket is wrapped, and is an error.
        let lost = router_client::ClientError::Unreachable {
            address: "ws://h/".into(),
            source: broken(),
        };
        assert!(!is_broken_pipe(&anyhow::Error::from(lost)));
    }
}
