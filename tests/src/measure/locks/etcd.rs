//! etcd, one member, with its defaults: each write synced.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, Peer, Service, connect};
use crate::server::free_port;

pub(super) const PROGRAM: &str = "/usr/bin/etcd";

/// A running etcd.
pub struct Etcd {
    addr: SocketAddr,
    _peer: Peer,
    _home: TempDir,
}

impl Etcd {
    /// Starts one.
    ///
    /// # Errors
    /// Fails if it does not listen.
    pub fn start() -> Result<Etcd> {
        let home = TempDir::new()?;
        let addr: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
        let peers = format!("http://127.0.0.1:{}", free_port()?);
        let args = [
            "--data-dir".to_owned(),
            home.path().join("data").display().to_string(),
            "--listen-client-urls".to_owned(),
            format!("http://{addr}"),
            "--advertise-client-urls".to_owned(),
            format!("http://{addr}"),
            "--listen-peer-urls".to_owned(),
            peers.clone(),
            "--initial-advertise-peer-urls".to_owned(),
            peers.clone(),
            "--initial-cluster".to_owned(),
            format!("default={peers}"),
        ];
        let peer = Peer::start(Path::new(PROGRAM), &args, addr)?;
        Ok(Etcd {
            addr,
            _peer: peer,
            _home: home,
        })
    }
}

impl Service for Etcd {
    fn name(&self) -> String {
        "etcd (one member, defaults: synced; HTTP gateway)".to_owned()
    }

    fn client(&self) -> Result<Box<dyn Client>> {
        let stream = connect(self.addr)?;
        let mut connection = Connection {
            addr: self.addr,
            reader: BufReader::new(stream.try_clone()?),
            stream,
            lease: Value::Null,
            held: Value::Null,
        };
        let granted = connection.ask("/v3/lease/grant", &json!({"TTL": 600}))?;
        connection.lease = granted["ID"].clone();
        Ok(Box::new(connection))
    }
}

struct Connection {
    addr: SocketAddr,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    lease: Value,
    /// The key under which the lock is held.
    held: Value,
}

impl Connection {
    fn ask(&mut self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        let mut status = String::new();
        self.reader.read_line(&mut status)?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut header = String::new();
            self.reader.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        let answer = match chunked {
            true => self.chunks()?,
            false => self.bytes(length)?,
        };
        let text = String::from_utf8(answer)?;
        ensure!(status.contains(" 200 "), "{status}{text}");
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        loop {
            let mut size = String::new();
            self.reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16)?;
            whole.extend(self.bytes(size)?);
            self.bytes(2)?;
            if size == 0 {
                return Ok(whole);
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Client for Connection {
    fn lock(&mut self, key: &str) -> Result<()> {
        let body = json!({"name": STANDARD.encode(key), "lease": self.lease});
        self.held = self.ask("/v3/lock/lock", &body)?["key"].take();
        Ok(())
    }

    fn unlock(&mut self, _key: &str) -> Result<()> {
        let body = json!({"key": self.held.take()});
        self.ask("/v3/lock/unlock", &body)?;
        Ok(())
    }

    fn put(&mut self, key: &str, value: &str) -> Result<()> {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.ask("/v3/kv/put", &body)?;
        Ok(())
    }
}
