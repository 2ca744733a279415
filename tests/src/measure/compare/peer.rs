//! The routers under comparison: a fresh process for each run, with limits as equal as they can be
//! made and nothing kept on disk.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::scenario::Speech;
use crate::command::{self, Running};
use crate::measure::process::family;
use crate::server::{binary, free_port};
use crate::{Options, Server, peers};

/// What a single session needs in the scenarios with many filters.
const REYNARD: &str = "
[limits]
max_subscriptions_per_session = 1000000
";

/// Without its limits on what waits: with them it loses what other routers deliver.
const MOSQUITTO: &str = "
listener PORT 127.0.0.1
allow_anonymous true
log_dest stderr
persistence false
set_tcp_nodelay true
sys_interval 0
max_inflight_messages 0
max_queued_messages 0
max_connections -1
";

/// Connections that rumqttd is to take.
const RUMQTTD_CONNECTIONS: &str = "20000";

/// How long a router may take to listen: Crossbar needs many seconds even on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at whether somebody listens.
const PAUSE: Duration = Duration::from_millis(20);

/// Which router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ourselves.
    Reynard,
    /// Eclipse Mosquitto, as Debian ships it.
    Mosquitto,
    /// rumqttd, behind `tests/peers/rumqttd`.
    Rumqttd,
    /// fox-wamp, behind `tests/peers/foxwamp`.
    FoxWamp,
    /// Crossbar, from `tests/peers/crossbar`.
    Crossbar,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reynard => "Reynard",
            Self::Mosquitto => "Mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::FoxWamp => "fox-wamp",
            Self::Crossbar => "Crossbar",
        })
    }
}

impl Kind {
    /// All of them, in the order in which they are run and told.
    pub const ALL: [Kind; 5] = [
        Kind::Reynard,
        Kind::Mosquitto,
        Kind::Rumqttd,
        Kind::FoxWamp,
        Kind::Crossbar,
    ];

    /// Whether it speaks this.
    #[must_use]
    pub const fn speaks(self, speech: Speech) -> bool {
        match self {
            Self::Reynard => true,
            Self::Mosquitto | Self::Rumqttd => matches!(speech, Speech::Mqtt),
            Self::FoxWamp => !matches!(speech, Speech::WampMsgpack),
            Self::Crossbar => matches!(speech, Speech::WampJson | Speech::WampMsgpack),
        }
    }

    /// Its version, and that of what it runs on.
    ///
    /// # Errors
    /// Fails if it is not installed.
    pub fn version(self) -> Result<String> {
        match self {
            Self::Reynard => {
                let line = peers::says(&binary()?, &["--version"])?;
                Ok(line.trim_start_matches("reynard ").to_owned())
            }
            Self::Mosquitto => peers::mosquitto_version(),
            Self::Rumqttd => peers::rumqttd_binary().and_then(|_| peers::rumqttd_version()),
            Self::FoxWamp => {
                let manifest = foxwamp_dir()?.join("node_modules/fox-wamp/package.json");
                let manifest: serde_json::Value =
                    serde_json::from_str(&std::fs::read_to_string(manifest)?)?;
                let version = manifest["version"].as_str().context("no version")?;
                let node = peers::says(&PathBuf::from("node"), &["--version"])?;
                Ok(format!("{version} on Node.js {node}"))
            }
            Self::Crossbar => {
                let python = crossbar_dir()?.join("bin/python");
                let asks = "import importlib.metadata as m, platform as p; \
                     print(m.version('crossbar'), 'on Python', p.python_version())";
                peers::says(&python, &["-c", asks])
            }
        }
    }
}

/// A running router; it and its children are killed when dropped.
#[derive(Debug)]
pub struct Peer {
    /// Which one.
    pub kind: Kind,
    /// Where MQTT clients connect.
    pub mqtt: Option<SocketAddr>,
    /// Where WAMP clients connect.
    pub url: Option<String>,
    process: Process,
    _home: Option<TempDir>,
}

#[derive(Debug)]
enum Process {
    Server(Server),
    Peer(Running),
}

impl Peer {
    /// Starts a fresh one.
    ///
    /// # Errors
    /// Fails if it does not get ready, also because it is not installed.
    pub fn start(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Reynard => reynard(),
            Kind::Mosquitto => again(mosquitto),
            Kind::Rumqttd => again(rumqttd),
            Kind::FoxWamp => again(foxwamp),
            Kind::Crossbar => again(crossbar),
        }
    }

    /// Its processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        family(self.pid())
    }

    /// How its process ended, if it did: some end at what a client says.
    ///
    /// # Errors
    /// Fails if the operating system refuses.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.process {
            Process::Server(_) => Ok(None),
            Process::Peer(running) => running.ended(),
        }
    }

    fn pid(&self) -> u32 {
        match &self.process {
            Process::Server(server) => server.pid(),
            Process::Peer(running) => running.pid(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its own process is killed by whoever holds it.
        for child in self.pids().into_iter().skip(1) {
            // It may have ended by itself.
            let _ = command::signal(child, "KILL");
        }
    }
}

fn reynard() -> Result<Peer> {
    let server = Server::start(Options::default().memory().config(REYNARD))?;
    Ok(Peer {
        kind: Kind::Reynard,
        mqtt: Some(server.mqtt_addr()?),
        url: Some(server.wamp_url()),
        process: Process::Server(server),
        _home: None,
    })
}

fn mosquitto() -> Result<Peer> {
    let (home, addr) = (TempDir::with_prefix("mosquitto-")?, local(free_port()?));
    let config = home.path().join("mosquitto.conf");
    std::fs::write(&config, MOSQUITTO.replace("PORT", &addr.port().to_string()))?;
    let mut command = Command::new(peers::mosquitto_binary()?);
    let mut running = Running::start(command.arg("-c").arg(&config), b"")?;
    running.error_line_with(" running")?;
    Ok(peer(Kind::Mosquitto, Some(addr), None, running, Some(home)))
}

fn rumqttd() -> Result<Peer> {
    let (v3, v5) = (local(free_port()?), local(free_port()?));
    let mut command = Command::new(peers::rumqttd_binary()?);
    command.args([v3.port().to_string(), v5.port().to_string()]);
    let mut running = Running::start(command.arg(RUMQTTD_CONNECTIONS), b"")?;
    running.line_with("peer-rumqttd ready")?;
    Ok(peer(Kind::Rumqttd, Some(v3), None, running, None))
}

fn foxwamp() -> Result<Peer> {
    let (mqtt, wamp) = (local(free_port()?), local(free_port()?));
    let mut command = Command::new("node");
    command.current_dir(foxwamp_dir()?).arg("router.js");
    command.args([mqtt.port().to_string(), wamp.port().to_string()]);
    let mut running = Running::start(&mut command, b"")?;
    accepting(&mut running, &[mqtt, wamp])?;
    let url = format!("ws://{wamp}/wamp");
    Ok(peer(Kind::FoxWamp, Some(mqtt), Some(url), running, None))
}

fn crossbar() -> Result<Peer> {
    let (home, addr) = (TempDir::with_prefix("crossbar-")?, local(free_port()?));
    std::fs::write(
        home.path().join("config.json"),
        crossbar_config(addr.port()).to_string(),
    )?;
    let mut command = Command::new(crossbar_dir()?.join("bin/crossbar"));
    command.arg("start").arg("--cbdir").arg(home.path());
    let mut running = Running::start(command.current_dir(home.path()), b"")?;
    accepting(&mut running, &[addr])?;
    let url = format!("ws://{addr}/ws");
    Ok(peer(Kind::Crossbar, None, Some(url), running, Some(home)))
}

/// One router worker, and a realm in which anybody may do anything.
fn crossbar_config(port: u16) -> serde_json::Value {
    json!({
        "version": 2,
        "workers": [{
            "type": "router",
            "realms": [{
                "name": "realm1",
                "roles": [{
                    "name": "anonymous",
                    "permissions": [{
                        "uri": "", "match": "prefix", "cache": true,
                        "allow": {"call": true, "register": true, "publish": true, "subscribe": true},
                        "disclose": {"caller": true, "publisher": true},
                    }],
                }],
            }],
            "transports": [{
                "type": "websocket",
                "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port, "backlog": 1024},
                "serializers": ["cbor", "msgpack", "json"],
            }],
        }],
    })
}

const fn peer(
    kind: Kind,
    mqtt: Option<SocketAddr>,
    url: Option<String>,
    running: Running,
    home: Option<TempDir>,
) -> Peer {
    Peer {
        kind,
        mqtt,
        url,
        process: Process::Peer(running),
        _home: home,
    }
}

fn foxwamp_dir() -> Result<PathBuf> {
    installed("foxwamp")
}

fn crossbar_dir() -> Result<PathBuf> {
    installed("crossbar")
}

fn installed(name: &str) -> Result<PathBuf> {
    let dir = peers::installed_dir(name);
    ensure!(
        dir.join(".stamp").exists(),
        "{name} is not installed: tests/compare does that"
    );
    Ok(dir)
}

/// Waits until somebody listens on all of these.
fn accepting(running: &mut Running, addrs: &[SocketAddr]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for addr in addrs {
        while TcpStream::connect(addr).is_err() {
            if let Some(end) = running.ended()? {
                bail!(
                    "ended with {end} instead of listening on {addr}\n{}",
                    running.output()
                );
            }
            ensure!(Instant::now() < deadline, "nobody listens on {addr}");
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// A port that was free may be taken before the peer has it.
fn again(start: impl Fn() -> Result<Peer>) -> Result<Peer> {
    start().or_else(|_| start()).or_else(|_| start())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_raw_lines_stay_as_they_are() -> Result<()> {
        let names = serde_json::to_value(Kind::ALL)?;
        let expected = json!(["reynard", "mosquitto", "rumqttd", "fox-wamp", "crossbar"]);
        assert_eq!(names, expected);
        Ok(())
    }
}
