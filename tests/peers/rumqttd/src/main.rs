#![forbid(unsafe_code)]
//! rumqttd behind two ports of 127.0.0.1: `peer-rumqttd V4PORT V5PORT [CONNECTIONS=1000]`.
//!
//! A process of its own because its decoder panics on input and a poisoned lock then stops the
//! whole listener; whoever compares with it starts a fresh one for each comparison. Prints
//! `peer-rumqttd ready v4=ADDR v5=ADDR` once both listeners accept, and runs until it is killed.
//! Nothing is kept on disk.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// How long the listeners may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that it takes unless told otherwise.
const CONNECTIONS: usize = 1_000;
/// Pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let mut ports = std::env::args().skip(1);
    let mut port = |what: &str| -> Result<SocketAddr> {
        let text = ports
            .next()
            .context("usage: peer-rumqttd V4PORT V5PORT [CONNECTIONS]")?;
        let port: u16 = text.parse().with_context(|| format!("{what}: {text}"))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    };
    let (v4, v5) = (port("V4PORT")?, port("V5PORT")?);
    let connections = match ports.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("CONNECTIONS: {text}"))?,
        None => CONNECTIONS,
    };
    // rumqttd goes on without a listener whose port is taken, and somebody else would answer there.
    for addr in [v4, v5] {
        TcpListener::bind(addr).with_context(|| format!("{addr} is taken"))?;
    }
    let broker = thread::spawn(move || -> Result<()> {
        Broker::new(config(v4, v5, connections))
            .start()
            .context("rumqttd ended")
    });
    for addr in [v4, v5] {
        wait_for(addr, || broker.is_finished())?;
    }
    println!("peer-rumqttd ready v4={v4} v5={v5}");
    match broker.join() {
        Ok(end) => end,
        Err(_) => bail!("rumqttd panicked"),
    }
}

/// The limits are those that the other brokers of the comparison get, as far as rumqttd has them.
fn config(v4: SocketAddr, v5: SocketAddr, connections: usize) -> Config {
    Config {
        router: RouterConfig {
            max_connections: connections,
            max_outgoing_packet_count: 200,
            max_segment_size: 16 * 1024 * 1024,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v4: Some(listener("v4", v4)),
        v5: Some(listener("v5", v5)),
        ..Config::default()
    }
}

fn listener(name: &str, listen: SocketAddr) -> HashMap<String, ServerSettings> {
    let settings = ServerSettings {
        name: name.to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: 1_048_576,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    HashMap::from([(name.to_owned(), settings)])
}

fn wait_for(addr: SocketAddr, ended: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(addr) {
            Ok(_) => return Ok(()),
            Err(error) if ended() || Instant::now() > deadline => {
                return Err(error).with_context(|| format!("nobody listens on {addr}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
