//! The router's address and the serialization spoken with it.

use router_core::encoding::Encoding;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use tokio_tungstenite::tungstenite::http::Uri;

/// Where a WAMP endpoint is: `ws://host[:port][/path]`, or `unix:PATH` for a Unix domain socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    spelling: String,
    place: Place,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// What is asked for at a Unix domain socket, which has no URL of its own.
const UNIX_URL: &str = "ws://localhost/wamp";

impl Address {
    /// What to connect to.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The URL for the upgrade request.
    pub fn url(&self) -> &str {
        match self.place {
            Place::Tcp(..) => &self.spelling,
            Place::Unix(_) => UNIX_URL,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(spelling: &str) -> Result<Address, String> {
        let place = match spelling.strip_prefix("unix:") {
            Some("") => return Err("the path of the socket is missing".to_owned()),
            Some(path) => Place::Unix(path.into()),
            None => tcp_place(spelling)?,
        };
        Ok(Address {
            spelling: spelling.to_owned(),
            place,
        })
    }
}

fn tcp_place(url: &str) -> Result<Place, String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err("TLS (wss://) is not supported".to_owned()),
        _ => return Err("expected ws://HOST[:PORT]/PATH or unix:PATH".to_owned()),
    }
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or("the host is missing")?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    if authority.contains('@') {
        return Err("a user does not belong in the URL; use --authid and --ticket".to_owned());
    }
    let port = match (authority == host, uri.port_u16()) {
        (true, _) => 80,
        (false, Some(port)) if port > 0 => port,
        (false, _) => return Err("the port is not one of 1 to 65535".to_owned()),
    };
    // The brackets of an IPv6 address belong to the URL, not to the address.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Place::Tcp(host.to_owned(), port))
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Serializer {
    /// Text messages, `wamp.2.json`.
    #[default]
    Json,
    /// Binary messages, `wamp.2.msgpack`.
    Msgpack,
    /// Binary messages, `wamp.2.cbor`.
    Cbor,
}

impl Serializer {
    /// The encoding of messages and payloads.
    pub const fn encoding(self) -> Encoding {
        match self {
            Serializer::Json => Encoding::Json,
            Serializer::Msgpack => Encoding::MsgPack,
            Serializer::Cbor => Encoding::Cbor,
        }
    }

    /// The name in `Sec-WebSocket-Protocol` (section "WebSocket Transport").
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Serializer::Json => "wamp.2.json",
            Serializer::Msgpack => "wamp.2.msgpack",
            Serializer::Cbor => "wamp.2.cbor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_url() {
        let target = |url: &str| {
            let address: Address = url.parse().unwrap();
            assert_eq!(address.to_string(), url);
            match address.place() {
                Place::Tcp(host, port) => (host.clone(), *port),
                Place::Unix(path) => panic!("{url}: {}", path.display()),
            }
        };
        assert_eq!(
            target("ws://127.0.0.1:9000/wamp"),
            ("127.0.0.1".into(), 9000)
        );
        assert_eq!(target("ws://router.example"), ("router.example".into(), 80));
        assert_eq!(target("ws://[::1]:9000/wamp"), ("::1".into(), 9000));
    }

    #[test]
    fn a_unix_domain_socket_is_named_by_its_path() {
        let address: Address = "unix:/run/r.sock".parse().unwrap();
        assert_eq!(address.to_string(), "unix:/run/r.sock");
        assert_eq!(address.place(), &Place::Unix("/run/r.sock".into()));
        assert_eq!(address.url(), "ws://localhost/wamp");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (url, part) in [
            ("", "not a URL"),
            ("127.0.0.1:9000", "expected ws://"),
            ("http://127.0.0.1:9000/wamp", "expected ws://"),
            ("wss://127.0.0.1/wamp", "TLS"),
            ("unix:", "path"),
            ("ws://:9000/", ""),
            ("ws://host:99999/", "port"),
            ("ws://host:0/", "port"),
            ("ws://host:/", "port"),
            ("ws://joe:secret@host/", "--ticket"),
            ("ws://a b/", "not a URL"),
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
