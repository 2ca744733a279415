//! One HTTP/1.1 GET, for the health and metrics pages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::PATIENCE;

/// A response, split at the blank line.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body as text.
    pub body: String,
}

/// Asks `addr` for `path` and reads until the server closes.
///
/// # Errors
/// Fails if there is no connection or no readable status line.
pub fn get(addr: SocketAddr, path: &str) -> Result<Response> {
    let mut stream = TcpStream::connect(addr).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .context("no complete response")?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no blank line")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status in {head:?}"))?;
    Ok(Response {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// The sum of all samples of a Prometheus counter or gauge, over its labels.
pub fn metric(page: &str, name: &str) -> Option<f64> {
    let samples: Vec<f64> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter_map(|(_, value)| value.parse().ok())
        .collect();
    (!samples.is_empty()).then(|| samples.iter().sum())
}
