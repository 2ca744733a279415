//! The command under the lock, in a process group of its own.

use crate::cli::failure::Failure;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;

/// The command was found but cannot be run.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const EXIT_NO_COMMAND: u8 = 127;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    group: Pid,
}

impl Child {
    /// Starts `command` with the key and the token in its environment.
    pub(super) fn start(command: &[OsString], key: &str, token: u64) -> Result<Child, Failure> {
        let Some((program, args)) = command.split_first() else {
            return Err(Failure::usage("no command"));
        };
        let mut spawned = Command::new(program);
        if io::stdin().is_terminal() {
            // A background group that reads from its terminal is stopped, and would hold the lock
            // without end.
            spawned.stdin(Stdio::null());
        }
        let spawned = spawned
            .args(args)
            .env("REYNARD_LOCK_KEY", key)
            .env("REYNARD_LOCK_TOKEN", token.to_string())
            .process_group(0)
            // Whatever goes wrong here, nothing runs on without the lock.
            .kill_on_drop(true)
            .spawn();
        let child = spawned.map_err(|error| cannot_run(program, &error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let group = group.and_then(Pid::from_raw);
        let group = group.ok_or_else(|| Failure::failed("the command has no process id"))?;
        Ok(Child { child, group })
    }

    /// Waits for the end of the command itself. Cancel safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes a signal on to the whole group.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.send(signal);
        }
    }

    /// Asks the group to end, those who are stopped too.
    pub(super) fn terminate(&self) {
        self.send(Signal::TERM);
        self.send(Signal::CONT);
    }

    /// Ends the group.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        match kill_process_group(self.group, signal) {
            // Nobody is left in it.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => eprintln!("reynard: cannot signal the command: {error}"),
        }
    }
}

fn cannot_run(program: &OsString, error: &io::Error) -> Failure {
    let mut failure = Failure::failed(format!("{}: {error}", program.display()));
    failure.code = match error.kind() {
        io::ErrorKind::NotFound => EXIT_NO_COMMAND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    failure
}

/// The exit code of a command as shells tell it.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    async fn code_of(script: &str) -> u8 {
        let command = command(&["sh", "-c", script]);
        let mut child = Child::start(&command, "a.b", 12).expect("started");
        exit_code(child.wait().await.expect("ended"))
    }

    #[tokio::test]
    async fn the_code_of_the_command_is_told_as_shells_do() {
        assert_eq!(code_of("exit 0").await, 0);
        assert_eq!(code_of("exit 7").await, 7);
        assert_eq!(code_of("kill -9 $$").await, 137);
        assert_eq!(code_of("kill -15 $$").await, 143);
    }

    #[tokio::test]
    async fn the_command_finds_key_and_token_in_its_environment() {
        let check = "test \"$REYNARD_LOCK_KEY $REYNARD_LOCK_TOKEN\" = 'a.b 12'";
        assert_eq!(code_of(check).await, 0);
    }

    #[tokio::test]
    async fn the_command_leads_a_process_group_of_its_own() {
        let check = "read -r _ _ _ _ group _ < /proc/$$/stat; test $group = $$";
        assert_eq!(code_of(check).await, 0);
    }

    #[test]
    fn a_command_that_cannot_be_run_has_the_codes_of_shells() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        for (program, code) in [("/nonexistent/program", 127), ("/", 126)] {
            let failure = Child::start(&command(&[program]), "k", 1).expect_err("no program");
            assert_eq!(failure.code, code, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn signals_reach_the_whole_group_and_one_that_is_gone_is_no_error() {
        // The shell waits for a child that only the signal ends.
        let command = command(&["sh", "-c", "sleep 100000 & wait"]);
        let mut child = Child::start(&command, "a.b", 12).expect("started");
        child.terminate();
        assert_eq!(exit_code(child.wait().await.expect("ended")), 143);
        child.kill();
        child.signal(2);
    }
}
