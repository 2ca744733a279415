//! Finding the binary, its command line, its ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use super::Options;
use crate::command::Finished;
use crate::{PATIENCE, command, target_dir, workspace};

/// The release binary: `REYNARD_BIN`, or `reynard` in the target directory, which
/// is built first if it is missing.
///
/// # Errors
/// Fails if it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| find_binary().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn find_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("REYNARD_BIN") {
        return Ok(PathBuf::from(given));
    }
    let path = target_dir().join("release/reynard");
    if !path.exists() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(workspace())
            .args(["build", "--release", "-p", "router"]);
        command::run(&mut cargo, Duration::from_secs(1800))?.success()?;
    }
    Ok(path)
}

/// Runs the binary with these arguments to its end, in a fresh working directory.
///
/// # Errors
/// Fails if it does not end within [`PATIENCE`].
pub fn run_binary(args: &[&str]) -> Result<Finished> {
    let home = TempDir::with_prefix("reynard-test-")?;
    let mut command = Command::new(binary()?);
    command.args(args).current_dir(home.path());
    command::run(&mut command, PATIENCE)
}

pub(super) fn command_line(
    options: &Options,
    ports: Option<(u16, u16)>,
    home: &Path,
) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.current_dir(home).arg("serve");
    if let Some(toml) = &options.config {
        let path = home.join("test.toml");
        std::fs::write(&path, toml)?;
        command.arg("--config").arg(path);
    }
    let (listen, mqtt) = ports.unwrap_or((0, 0));
    let has = |flag: &str| options.args.iter().any(|arg| arg == flag);
    if !has("--listen") {
        command.args(["--listen", &format!("127.0.0.1:{listen}")]);
    }
    if !has("--mqtt") {
        command.args(["--mqtt", &format!("127.0.0.1:{mqtt}")]);
    }
    if options.memory {
        command.arg("--memory");
    } else {
        let data = options
            .data_dir
            .clone()
            .unwrap_or_else(|| home.join("data"));
        command.arg("--data-dir").arg(data);
    }
    command.args(&options.args);
    Ok(command)
}

pub(super) fn field<'a>(ready: &'a str, name: &str) -> Result<&'a str> {
    ensure!(
        ready.starts_with("reynard ready "),
        "not a ready line: {ready:?}"
    );
    ready
        .split(' ')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("no {name} in {ready:?}"))
}

/// A port below the range from which the system serves outgoing connections, so
/// that nobody takes it while a router that owns it is down.
///
/// # Errors
/// Fails if there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start at different places.
    let base = 10_000 + (std::process::id() % 200) as u16 * 100;
    for _ in 0..2_000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(anyhow!("no free port near {base}"))
}
