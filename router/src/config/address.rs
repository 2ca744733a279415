//! The spelling of listener addresses: `IP:PORT`, `[IPv6]:PORT`, `localhost:PORT`, or `unix:PATH`.
//! Names are not looked up: what a server listens on must not depend on a resolver.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::problem::Fault;

/// What stands before the path of a Unix domain socket.
const UNIX: &str = "unix:";

/// The longest path that every system's `sockaddr_un` has room for, in bytes, on Linux.
const PATH_MAX_BYTES: usize = 107;

/// What can be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address of TCP; port 0 picks a free port.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket; a relative one starts at the working directory.
    Unix(PathBuf),
}

impl Address {
    /// Whether it stands for a new address at each start, so that several listeners may have it.
    pub(super) fn is_picked(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The spelling of the configuration and of the ready line.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Reads an address.
///
/// # Errors
/// A [`Fault`] with the likely correction as hint.
pub(super) fn parse_address(text: &str) -> Result<Address, Fault> {
    if let Some(path) = text.strip_prefix(UNIX) {
        return parse_path(path);
    }
    parse_tcp(text).map(Address::Tcp)
}

fn parse_path(path: &str) -> Result<Address, Fault> {
    let fault = |hint: &str| Fault::new(format!("`{UNIX}{path}` is not an address"), hint);
    if path.is_empty() {
        return Err(fault("the path is missing: `unix:/run/reynard.sock`"));
    }
    if path.starts_with("//") {
        return Err(fault("one slash is enough: `unix:/run/reynard.sock`"));
    }
    // The ready line and REYNARD_LISTEN are lists of addresses.
    if path.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == ',')
    {
        return Err(fault("the path of a socket has neither spaces nor commas"));
    }
    if path.len() > PATH_MAX_BYTES {
        let hint = format!("the path of a socket has at most {PATH_MAX_BYTES} bytes");
        return Err(fault(&hint));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

/// The permissions of a socket's file, in octal.
///
/// # Errors
/// A [`Fault`] that shows the form.
pub(super) fn parse_mode(text: &str) -> Result<u32, Fault> {
    let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| {
        let hint =
            "write three octal digits, for example `0600` (the owner) or `0660` (the group too)";
        Fault::new(format!("`{text}` is no file mode"), hint)
    })
}

fn parse_tcp(text: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    Err(explain(text))
}

fn explain(text: &str) -> Fault {
    let message = format!("`{text}` is not an address");
    let fault = |hint: String| Fault::new(message.clone(), hint);
    if let Some((scheme, rest)) = text.split_once("://") {
        return fault(format!("leave out `{scheme}://`: `{rest}`"));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return fault(both_ways(text));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return fault(format!(
            "the port is missing: `{}`",
            SocketAddr::new(ip, 9000)
        ));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => fault(both_ways(port)),
        Some((host, port)) if port.parse::<u16>().is_err() && is_host(host) => {
            fault("a port is a number from 0 to 65535; 0 picks a free one".to_owned())
        }
        Some((host, port)) if host.parse::<IpAddr>().is_ok() => fault(format!(
            "an IPv6 address stands in brackets: `[{host}]:{port}`"
        )),
        Some((host, port)) if !host.is_empty() => fault(format!(
            "names are not looked up, write the IP address; `0.0.0.0:{port}` is every interface"
        )),
        _ => fault("write IP:PORT, for example `127.0.0.1:9000`".to_owned()),
    }
}

fn is_host(text: &str) -> bool {
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    text == "localhost" || unbracketed.unwrap_or(text).parse::<IpAddr>().is_ok()
}

fn both_ways(port: &str) -> String {
    format!("write `127.0.0.1:{port}` (this machine only) or `0.0.0.0:{port}` (every interface)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ip_and_port() {
        for (text, same) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:1883", "[::1]:1883"),
            ("0.0.0.0:65535", "0.0.0.0:65535"),
        ] {
            let parsed = parse_address(text).map_err(|fault| fault.message);
            assert_eq!(
                parsed.map(|address| address.to_string()),
                Ok(same.to_owned())
            );
        }
    }

    #[test]
    fn sockets_are_named_by_their_path() {
        for path in ["/run/reynard/r.sock", "r.sock", "./a/größe.sock"] {
            let parsed = parse_address(&format!("unix:{path}")).map_err(|fault| fault.message);
            assert_eq!(parsed, Ok(Address::Unix(path.into())));
        }
        assert!(parse_address(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(parse_address(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn modes_are_three_octal_digits() {
        for (text, mode) in [
            ("0600", 0o600),
            ("600", 0o600),
            ("0777", 0o777),
            ("0000", 0),
        ] {
            assert_eq!(parse_mode(text).map_err(|fault| fault.message), Ok(mode));
        }
        for text in [
            "",
            "6",
            "0800",
            "1777",
            "00600",
            "+600",
            "rw-------",
            "0x1f",
        ] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_misspelling_gets_its_own_hint() {
        for (text, hint) in [
            ("9000", "`127.0.0.1:9000` (this machine only)"),
            (":9000", "`0.0.0.0:9000` (every interface)"),
            ("*:9000", "`0.0.0.0:9000` (every interface)"),
            ("127.0.0.1", "`127.0.0.1:9000`"),
            ("::1", "`[::1]:9000`"),
            ("fe80::g:1", "names are not looked up"),
            ("::1:70000", "0 to 65535"),
            ("[::1]:70000", "0 to 65535"),
            ("127.0.0.1:99999", "0 to 65535"),
            ("localhost:http", "0 to 65535"),
            (
                "tcp://127.0.0.1:9000",
                "leave out `tcp://`: `127.0.0.1:9000`",
            ),
            ("example.org:9000", "names are not looked up"),
            ("unix:", "`unix:/run/reynard.sock`"),
            ("unix:///run/x", "one slash is enough"),
            ("unix:/run/my sock", "neither spaces nor commas"),
            ("unix:/a,unix:/b", "neither spaces nor commas"),
            ("unix:/\u{7}", "neither spaces nor commas"),
            ("", "write IP:PORT"),
            ("nonsense", "write IP:PORT"),
        ] {
            let fault = parse_address(text).expect_err(text);
            assert_eq!(fault.message, format!("`{text}` is not an address"));
            let said = fault.hint.unwrap_or_default();
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
