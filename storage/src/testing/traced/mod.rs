//! What a disk can do to an engine that lets none be put beneath it: at the border to the operating system, with `strace`.
//!
//! A process of its own commits and says what is acknowledged ([`child`]). Its calls are recorded and replayed into what
//! a power cut may leave ([`cut_everywhere`]), or made to fail one after the other ([`break_everywhere`]).

mod calls;
pub mod child;
mod files;
mod power;
mod reading;
mod telling;

use std::path::Path;
use std::process::{Command, Stdio};

pub use calls::{Faults, Strikes, break_everywhere};
pub use power::{Plan, cut_everywhere};

/// Makes a command that runs [`child::run`] in a process of its own.
pub type Child<'a> = &'a (dyn Fn() -> Command + Sync);

/// Whether processes can be traced here.
///
/// # Errors
/// With what to do about it.
pub fn is_possible() -> Result<(), String> {
    let done = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "strace cannot trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!(
            "strace: {error}; install the package strace (tests/setup does)"
        )),
    }
}

/// `strace` with these options before the child's own command line.
fn under_strace(options: &[String], output: &Path, child: Child<'_>) -> Command {
    let inner = child();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(output).args(options);
    command
        .arg("--")
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
