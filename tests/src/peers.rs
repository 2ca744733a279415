//! Programs that the router is compared with: where they are, and which versions they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::{command, target_dir, workspace};

/// How long a program may take to say its version.
const SHORT: Duration = Duration::from_secs(60);

/// Debian's Mosquitto.
///
/// # Errors
/// Fails if it is not installed.
pub fn mosquitto_binary() -> Result<PathBuf> {
    let usual = Path::new("/usr/sbin/mosquitto");
    if usual.exists() {
        return Ok(usual.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("mosquitto"))
        .find(|file| file.exists())
        .context("mosquitto is not installed: run tests/setup first")
}

/// The version of Mosquitto.
///
/// # Errors
/// Fails if it is not installed or does not say.
pub fn mosquitto_version() -> Result<String> {
    let mut command = Command::new(mosquitto_binary()?);
    // There is no flag for the version alone; the usage text begins with it.
    let usage = command::run(command.arg("-h"), SHORT)?;
    let first = usage.lines().first().copied().unwrap_or_default();
    let version = first.strip_prefix("mosquitto version ");
    Ok(version.context("no version")?.to_owned())
}

/// `PEER_RUMQTTD_BIN`, or the program in the target directory, brought up to date.
///
/// # Errors
/// Fails if it cannot be built.
pub fn rumqttd_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let build = || -> Result<PathBuf> {
        if let Some(given) = std::env::var_os("PEER_RUMQTTD_BIN") {
            return Ok(PathBuf::from(given));
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace()).args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "peer-rumqttd",
        ]);
        command::run(&mut cargo, Duration::from_secs(1800))?.success()?;
        let path = target_dir().join("release/peer-rumqttd");
        ensure!(path.exists(), "no {}", path.display());
        Ok(path)
    };
    BINARY
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// The version of rumqttd, as the lock file pins it.
///
/// # Errors
/// Fails if the lock file does not name it.
pub fn rumqttd_version() -> Result<String> {
    let manifest = std::fs::read_to_string(workspace().join("Cargo.lock"))?;
    let version = manifest
        .split("name = \"rumqttd\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    Ok(version.context("no rumqttd in Cargo.lock")?.to_owned())
}

/// Where `tests/compare` installs a peer that `tests/setup` does not: `foxwamp` or `crossbar`.
#[must_use]
pub fn installed_dir(name: &str) -> PathBuf {
    target_dir().join("peers").join(name)
}

/// The first line that a program prints when asked for its version.
///
/// # Errors
/// Fails if it cannot be run or says nothing.
pub fn says(program: &Path, args: &[&str]) -> Result<String> {
    let finished = command::run(Command::new(program).args(args), SHORT)?.success()?;
    let line = finished.lines().first().map(|line| line.trim().to_owned());
    line.with_context(|| format!("{} says nothing", program.display()))
}
