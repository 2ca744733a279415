//! Strangers who talk nonsense, one after the other: the router's memory stays where it was.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::process::resident_bytes;
use crate::mqtt::{Connect, binary, packet, string};
use crate::{Options, PATIENCE, Server, probe};

/// Strangers at a time.
const THREADS: u64 = 8;
/// Times the memory is looked at.
const SAMPLES: u64 = 20;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Resident bytes before, and after each twentieth of the connections.
    pub resident: Vec<u64>,
}

impl Report {
    /// By how much the second half exceeded the most of the first.
    #[must_use]
    pub fn growth(&self) -> u64 {
        let (first, second) = self.resident.split_at(self.resident.len() / 2);
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        most(second).saturating_sub(most(first))
    }
}

/// Sends `connections` malformed CONNECTs, from this seed on.
///
/// # Errors
/// Fails if the router stops serving.
pub fn run(connections: u64, seed: u64) -> Result<Report> {
    let server = Server::start(Options::default().memory())?;
    let addr = server.mqtt_addr()?;
    let mut resident = vec![resident_bytes(server.pid())?];
    for sample in 0..SAMPLES {
        let failed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let failed = &failed;
                scope.spawn(move || {
                    let seed = seed ^ (sample * THREADS + thread) << 32;
                    let mut random = StdRng::seed_from_u64(seed);
                    for _ in 0..connections.div_ceil(SAMPLES * THREADS) {
                        if stranger(addr, &nonsense(&mut random)).is_err() {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner();
        ensure!(failed == 0, "{failed} strangers were not closed");
        resident.push(resident_bytes(server.pid())?);
    }
    probe::liveness(&server)?;
    Ok(Report { resident })
}

/// Says it and waits for the end of the connection.
fn stranger(addr: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The router may have closed already.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 512];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(anyhow!(error)),
        }
    }
}

/// A CONNECT that no broker should take, or no CONNECT at all.
fn nonsense(random: &mut StdRng) -> Vec<u8> {
    let mut connect = Connect::v5("stranger")
        .will("will/topic", b"bye", false)
        .login("joe", "secret")
        .encode();
    match random.random_range(0..10) {
        // Cut anywhere.
        0 => connect.truncate(random.random_range(0..connect.len())),
        // Any byte changed behind the fixed header.
        1 | 2 => {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(2..connect.len());
                connect[at] = random.random();
            }
            // It may still be a good one: then it is cut.
            connect.pop();
        }
        // A length that lies.
        3 => {
            connect[1] = random.random_range(0x80..=0xFF);
            connect.insert(2, random.random_range(0..=0xFF));
        }
        // The greatest length there is, and a little of it.
        4 => {
            connect.splice(1..2, [0xFF, 0xFF, 0xFF, 0x7F]);
        }
        // A will with properties that make no sense.
        5 => {
            let mut body = string("MQTT");
            body.extend([5, 0x06, 0, 0, 0]);
            body.extend(string("stranger"));
            let garbage: Vec<u8> = (0..random.random_range(1..100))
                .map(|_| random.random())
                .collect();
            body.extend(binary(&garbage));
            connect = packet(0x10, &body);
        }
        // Many user properties, the last one broken.
        6 => {
            let mut properties = Vec::new();
            for _ in 0..random.random_range(1..50) {
                properties.push(0x26);
                properties.extend(string("name"));
                properties.extend(string("value"));
            }
            properties.push(0x26);
            let mut body = string("MQTT");
            body.extend([5, 2, 0, 0]);
            let len = properties.len();
            body.extend([(len % 128) as u8 | 0x80, (len / 128) as u8]);
            body.extend(properties);
            body.extend(string("stranger"));
            connect = packet(0x10, &body);
        }
        // Any other packet first.
        7 => connect[0] = random.random_range(0x11..=0xFF),
        // A version nobody knows.
        8 => connect[8] = random.random_range(6..=0xFF),
        // Noise.
        _ => {
            connect = vec![0x10; random.random_range(1..200)];
            random.fill_bytes(&mut connect[1..]);
        }
    }
    connect
}
