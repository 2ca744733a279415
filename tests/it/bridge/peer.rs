//! The brokers at the other end: Mosquitto and rumqttd, as they are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration_tests::command::{self, Running, signal};
use integration_tests::server::free_port;
use integration_tests::{PATIENCE, target_dir, workspace};
use std::net::SocketAddr;
use tempfile::TempDir;

/// A Mosquitto that keeps its data over an orderly restart.
pub struct Mosquitto {
    pub addr: SocketAddr,
    home: TempDir,
    running: Option<Running>,
}

impl Mosquitto {
    /// With more lines in its configuration.
    pub fn start(more: &str) -> Result<Self> {
        let mosquitto = Self::stopped(more)?;
        mosquitto.started()
    }

    /// Not running yet; its address is known.
    pub fn stopped(more: &str) -> Result<Self> {
        let home = TempDir::with_prefix("reynard-mosquitto-")?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let dir = home.path().display();
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             persistence true\npersistence_location {dir}/\n{more}\n",
            addr.port()
        );
        std::fs::write(home.path().join("mosquitto.conf"), config)?;
        // Mosquitto started by root gives up its rights before it writes its data.
        let mut open = Command::new("chmod");
        open.arg("777").arg(home.path());
        command::run(&mut open, PATIENCE)?.success()?;
        Ok(Self {
            addr,
            home,
            running: None,
        })
    }

    fn started(mut self) -> Result<Self> {
        self.start_again()?;
        Ok(self)
    }

    /// Starts it with the data it left.
    pub fn start_again(&mut self) -> Result<()> {
        // Its log is buffered on stdout, and `Running` waits for lines there.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" -c \"$1\" 2>&1"]);
        command
            .arg(binary())
            .arg(self.home.path().join("mosquitto.conf"));
        let mut running = Running::start(&mut command, b"")?;
        running.line_with(" running")?;
        self.running = Some(running);
        Ok(())
    }

    /// SIGTERM: it writes its data.
    pub fn stop(&mut self) -> Result<()> {
        let running = self.running.take().context("not running")?;
        signal(running.pid(), "TERM")?;
        running.finish(PATIENCE)?;
        Ok(())
    }
}

fn binary() -> PathBuf {
    let usual = Path::new("/usr/sbin/mosquitto");
    if usual.exists() {
        return usual.to_owned();
    }
    "mosquitto".into()
}

/// rumqttd with its listener for 3.1.1.
pub struct Rumqttd {
    pub v4: SocketAddr,
    _running: Running,
}

impl Rumqttd {
    pub fn start() -> Result<Self> {
        let (v4, v5) = (free_port()?, free_port()?);
        let mut command = Command::new(rumqttd_binary()?);
        command.args([v4.to_string(), v5.to_string()]);
        let mut running = Running::start(&mut command, b"")?;
        running.line_with("peer-rumqttd ready")?;
        Ok(Self {
            v4: SocketAddr::from(([127, 0, 0, 1], v4)),
            _running: running,
        })
    }
}

/// `PEER_RUMQTTD_BIN`, or the program in the target directory, built on first use.
fn rumqttd_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("PEER_RUMQTTD_BIN") {
        return Ok(PathBuf::from(given));
    }
    let path = target_dir().join("release/peer-rumqttd");
    if !path.exists() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(workspace())
            .args(["build", "--release", "-p", "peer-rumqttd"]);
        command::run(&mut cargo, Duration::from_secs(1800))?.success()?;
    }
    ensure!(path.exists(), "no {}", path.display());
    Ok(path)
}
