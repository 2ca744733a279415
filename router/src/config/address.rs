//! The spelling of listener addresses: `IP:PORT`, `[IPv6]:PORT` or `localhost:PORT`. Names are not
//! looked up: what a server listens on must not depend on a resolver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::problem::Fault;

/// Reads an address.
///
/// # Errors
/// A [`Fault`] with the likely correction as hint.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, Fault> {
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
