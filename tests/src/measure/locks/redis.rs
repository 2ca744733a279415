//! Redis, with its log synced for each write (`appendfsync always`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt as _;
use tempfile::TempDir;

use super::{Client, Peer, Service, connect};
use crate::server::free_port;

pub(super) const PROGRAM: &str = "/usr/bin/redis-server";

/// The release that its documentation gives: only the holder's own token deletes.
const RELEASE: &str = "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

/// A running Redis.
pub struct Redis {
    addr: SocketAddr,
    _peer: Peer,
    _home: TempDir,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// Fails if it does not listen.
    pub fn start() -> Result<Redis> {
        let (home, port) = (TempDir::new()?, free_port()?);
        let addr: SocketAddr = ([127, 0, 0, 1], port).into();
        let args = [
            "--port".to_owned(),
            port.to_string(),
            "--dir".to_owned(),
            home.path().display().to_string(),
            "--appendonly".to_owned(),
            "yes".to_owned(),
            "--appendfsync".to_owned(),
            "always".to_owned(),
            "--save".to_owned(),
            String::new(),
        ];
        let peer = Peer::start(Path::new(PROGRAM), &args, addr)?;
        Ok(Redis {
            addr,
            _peer: peer,
            _home: home,
        })
    }
}

impl Service for Redis {
    fn name(&self) -> String {
        "Redis (appendfsync always)".to_owned()
    }

    fn client(&self) -> Result<Box<dyn Client>> {
        let stream = connect(self.addr)?;
        let token = format!("{:x}", rand::rng().random::<u64>());
        Ok(Box::new(Connection {
            reader: BufReader::new(stream.try_clone()?),
            stream,
            token,
        }))
    }
}

struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    /// Sends a command; its answer as text, `None` for nil.
    fn ask(&mut self, words: &[&str]) -> Result<Option<String>> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.write_all(command.as_bytes())?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let rest = line.trim_end().get(1..).context("no answer")?;
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(Some(rest.to_owned())),
            Some(b'$') if rest == "-1" => Ok(None),
            Some(b'$') => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.reader.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Some(String::from_utf8(bytes)?))
            }
            _ => bail!("{line}"),
        }
    }
}

impl Client for Connection {
    fn lock(&mut self, key: &str) -> Result<()> {
        let token = self.token.clone();
        while self
            .ask(&["SET", key, &token, "NX", "PX", "300000"])?
            .is_none()
        {
            let pause = rand::rng().random_range(1_000..10_000);
            std::thread::sleep(Duration::from_micros(pause));
        }
        Ok(())
    }

    fn unlock(&mut self, key: &str) -> Result<()> {
        let token = self.token.clone();
        let deleted = self.ask(&["EVAL", RELEASE, "1", key, &token])?;
        ensure!(deleted.as_deref() == Some("1"), "the lock was not held");
        Ok(())
    }

    fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.ask(&["SET", key, value])?;
        Ok(())
    }
}
