//! The brokers under comparison: three programs with limits as equal as they can be made.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Result;
use integration_tests::command::Running;
use integration_tests::peers;
use integration_tests::server::free_port;
use integration_tests::{Options, Server};
use tempfile::TempDir;

use super::script::Version;
use super::stream::Endpoint;

/// The limits that every broker gets, small enough for a script to reach them.
const OURS: &str = "
[mqtt]
receive_maximum = 10
topic_alias_maximum = 10
max_packet_bytes = 65536
";

const MOSQUITTO: &str = "
listener PORT 127.0.0.1
allow_anonymous true
log_dest stderr
persistence false
set_tcp_nodelay true
sys_interval 0
max_inflight_messages 10
max_topic_alias 10
max_packet_size 65536
";

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Reynard,
    /// The same, and clients come over WebSocket.
    WebSocket,
    Mosquitto,
    Rumqttd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reynard => "reynard",
            Self::WebSocket => "reynard-websocket",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
        })
    }
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    pub kind: Kind,
    v3: SocketAddr,
    v5: SocketAddr,
    _process: Process,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held for their ends")]
enum Process {
    Server(Server),
    Peer(Running),
}

impl Broker {
    /// Starts a fresh one.
    ///
    /// # Errors
    /// Fails if it does not get ready, also because it is not installed.
    pub fn start(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Reynard | Kind::WebSocket => {
                let server = Server::start(Options::default().memory().config(OURS))?;
                let addr = match kind {
                    Kind::WebSocket => server.listen,
                    _ => server.mqtt_addr()?,
                };
                Ok(Self::new(kind, addr, addr, Process::Server(server)))
            }
            Kind::Mosquitto => again(|| {
                let home = TempDir::with_prefix("mosquitto-")?;
                let addr = local(free_port()?);
                let config = home.path().join("mosquitto.conf");
                std::fs::write(&config, MOSQUITTO.replace("PORT", &addr.port().to_string()))?;
                // Its log is buffered on stdout, and `Running` waits for lines there.
                let mut command = Command::new("sh");
                command.args(["-c", "exec \"$0\" -c \"$1\" 2>&1"]);
                command.arg(peers::mosquitto_binary()?).arg(&config);
                let mut running = Running::start(&mut command, b"")?;
                running.line_with(" running")?;
                Ok(Self::new(kind, addr, addr, Process::Peer(running)))
            }),
            Kind::Rumqttd => again(|| {
                let (v3, v5) = (local(free_port()?), local(free_port()?));
                let mut command = Command::new(peers::rumqttd_binary()?);
                command.args([v3.port().to_string(), v5.port().to_string()]);
                let mut running = Running::start(&mut command, b"")?;
                running.line_with("peer-rumqttd ready")?;
                Ok(Self::new(kind, v3, v5, Process::Peer(running)))
            }),
        }
    }

    const fn new(kind: Kind, v3: SocketAddr, v5: SocketAddr, process: Process) -> Self {
        Self {
            kind,
            v3,
            v5,
            _process: process,
        }
    }

    /// Where clients of this version connect.
    pub fn endpoint(&self, version: Version) -> Endpoint {
        let addr = if version.is_v5() { self.v5 } else { self.v3 };
        match (self.kind, version) {
            (Kind::WebSocket, Version::V3_1) => Endpoint::WebSocket(addr, "mqttv3.1"),
            (Kind::WebSocket, _) => Endpoint::WebSocket(addr, "mqtt"),
            _ => Endpoint::Tcp(addr),
        }
    }
}

/// A port that was free may be taken before the peer has it.
fn again(start: impl Fn() -> Result<Broker>) -> Result<Broker> {
    start().or_else(|_| start()).or_else(|_| start())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What is compared with, as the first line of the record says it.
pub fn peers() -> Result<String> {
    let (mosquitto, rumqttd) = (peers::mosquitto_version()?, peers::rumqttd_version()?);
    Ok(format!("mosquitto {mosquitto}, rumqttd {rumqttd}"))
}
