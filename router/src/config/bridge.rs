//! Reads `[[bridge]]` and `[[bridge.rule]]`: the brokers to connect to, and what crosses.

use protocols::mqtt::bridge::{Direction, MAX_RULES, Rule, Rules};
use protocols::mqtt::packet::QoS;

use super::draft::Draft;
use super::problem::{Fault, Placed, Problems};
use super::realm::{Reader, parse_realm_name};
use super::secret::Secret;
use super::section::{Section, parse_choice};
use super::suggest::nearest;
use super::tree::Choice;

/// Longest name of a bridge; it becomes part of client identifiers.
const NAME_MAX: usize = 64;

/// One connection to another MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name, unique.
    pub name: String,
    /// Host name or IP address of the peer, and port.
    pub address: String,
    /// The realm on this side; `None`: the default one.
    pub realm: Option<String>,
    /// What the bridge may do in the realm.
    pub role: String,
    /// Client Identifier at the peer; `None`: made of the router's id and the name.
    pub client_id: Option<String>,
    /// User Name at the peer.
    pub username: Option<String>,
    /// Password at the peer.
    pub password: Option<Secret>,
    /// Which MQTT is spoken.
    pub version: BridgeVersion,
    /// Keep Alive; 0 is off.
    pub keep_alive_secs: u16,
    /// The peer forgets its session at each connection.
    pub clean_start: bool,
    /// How long both sides keep what is queued while the other is away; 4294967295 is forever.
    pub session_expiry_secs: u32,
    /// QoS 1 and 2 messages without acknowledgement, each way.
    pub max_inflight: u16,
    /// The first pause between attempts to connect.
    pub reconnect_min_ms: u32,
    /// The longest.
    pub reconnect_max_ms: u32,
    /// Retained values of both sides are sent again at each connection.
    pub sync_retained: bool,
    /// Clients of the realm see whether the bridge is connected, in a `$SYS` topic.
    pub notifications: bool,
    /// Topic at the peer that says the same to its clients.
    pub notification_topic: Option<String>,
    /// What crosses.
    pub rules: Vec<Rule>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: String::new(),
            realm: None,
            role: "bridge".to_owned(),
            client_id: None,
            username: None,
            password: None,
            version: BridgeVersion::default(),
            keep_alive_secs: 60,
            clean_start: false,
            session_expiry_secs: 604_800,
            max_inflight: 64,
            reconnect_min_ms: 1_000,
            reconnect_max_ms: 60_000,
            sync_retained: true,
            notifications: true,
            notification_topic: None,
            rules: Vec::new(),
        }
    }
}

/// Which MQTT a bridge speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BridgeVersion {
    /// 5.0, and 3.1.1 where that is refused.
    #[default]
    Auto,
    /// 5.0 only.
    V5,
    /// 3.1.1 only.
    V3_1_1,
}

impl Choice for BridgeVersion {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("5.0", Self::V5),
        ("3.1.1", Self::V3_1_1),
    ];
}

impl Choice for Direction {
    const WORDS: &'static [(&'static str, Self)] =
        &[("in", Self::In), ("out", Self::Out), ("both", Self::Both)];
}

impl Reader<'_, '_> {
    /// Every bridge of the file.
    pub(super) fn bridges(&mut self, top: &Section<'_>) -> Vec<Placed<Bridge>> {
        let sections = top.tables("bridge", self.problems).unwrap_or_default();
        let mut bridges: Vec<Placed<Bridge>> = Vec::new();
        for section in sections {
            section.reject_unknown(self.problems);
            let Some(bridge) = self.bridge(&section) else {
                continue;
            };
            let known = bridges
                .iter()
                .find(|known| known.value.name == bridge.value.name);
            if let Some(first) = known {
                let line = self.problems.line(&first.place).unwrap_or_default();
                let message = format!("bridge `{}` is defined twice", bridge.value.name);
                let hint = format!("the first is in line {line}; merge them or rename one");
                self.problems
                    .error(&bridge.place, Fault::new(message, hint));
            }
            bridges.push(bridge);
        }
        bridges
    }

    /// One bridge; everything in it is looked at even if the name is missing.
    fn bridge(&mut self, section: &Section<'_>) -> Option<Placed<Bridge>> {
        let name = section.name("name", self.problems);
        let name = name.and_then(|name| self.checked(name, parse_name));
        let address = section.name("address", self.problems);
        let address = address.and_then(|address| self.checked(address, parse_peer));
        let mut bridge = self.settings(section);
        bridge.rules = self.bridge_rules(section);
        let name = name?;
        bridge.name = name.value;
        bridge.address = address?.value;
        Some(Placed::new(bridge, name.place))
    }

    fn checked<T>(
        &mut self,
        text: Placed<&str>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<Placed<T>> {
        match parse(text.value) {
            Ok(value) => Some(Placed::new(value, text.place)),
            Err(fault) => {
                self.problems.error(&text.place, fault);
                None
            }
        }
    }

    fn settings(&mut self, section: &Section<'_>) -> Bridge {
        let mut bridge = Bridge::default();
        let problems = &mut *self.problems;
        let realm = section.parsed("realm", parse_realm_name, problems);
        bridge.realm = realm.map(|realm| realm.value);
        if let Some(role) = section.parsed("role", |text| not_empty(text, "role"), problems) {
            bridge.role = role.value;
        }
        let id = section.parsed("client_id", |text| not_empty(text, "client_id"), problems);
        bridge.client_id = id.map(|id| id.value);
        let version = section.parsed("version", parse_choice, problems);
        bridge.version = version.map(|version| version.value).unwrap_or_default();
        section.number("keep_alive_secs", &mut bridge.keep_alive_secs, problems);
        section.number(
            "session_expiry_secs",
            &mut bridge.session_expiry_secs,
            problems,
        );
        section.number("max_inflight", &mut bridge.max_inflight, problems);
        section.number("reconnect_min_ms", &mut bridge.reconnect_min_ms, problems);
        section.number("reconnect_max_ms", &mut bridge.reconnect_max_ms, problems);
        if bridge.reconnect_min_ms > bridge.reconnect_max_ms {
            let fault = Fault::new(
                "`reconnect_min_ms` is greater than `reconnect_max_ms`",
                "pauses grow from the first to the second",
            );
            problems.error(&section.place_of("reconnect_min_ms"), fault);
        }
        for (key, slot) in [
            ("clean_start", &mut bridge.clean_start),
            ("sync_retained", &mut bridge.sync_retained),
            ("notifications", &mut bridge.notifications),
        ] {
            if let Some(on) = section.switch(key, problems) {
                *slot = on.value;
            }
        }
        let topic = section.parsed("notification_topic", parse_topic, problems);
        bridge.notification_topic = topic.map(|topic| topic.value);
        self.login(section, &mut bridge);
        bridge
    }

    fn login(&mut self, section: &Section<'_>, bridge: &mut Bridge) {
        let username = section.text("username", self.problems);
        bridge.username = username.map(|name| name.value.to_owned());
        let plain = section.text("password", self.problems);
        let file = section.text("password_file", self.problems);
        let password = match (plain, file) {
            (None, None) => return,
            (Some(plain), None) => Placed::new(Secret::plain(plain.value), plain.place),
            (None, Some(file)) => Placed::new(self.secret_file(file.value), file.place),
            (Some(_), Some(file)) => {
                let hint = "keep one of `password` and `password_file`";
                let fault = Fault::new("the bridge has two passwords", hint);
                return self.problems.error(&file.place, fault);
            }
        };
        if bridge.username.is_none() {
            let fault = Fault::new("a password needs a user name", "add `username = \"…\"`");
            self.problems.error(&password.place, fault);
        }
        match password.value {
            Ok(secret) => bridge.password = Some(secret),
            Err(fault) => self.problems.error(&password.place, fault),
        }
    }

    fn bridge_rules(&mut self, bridge: &Section<'_>) -> Vec<Rule> {
        let sections = bridge.tables("bridge.rule", self.problems);
        let sections = sections.unwrap_or_default();
        if sections.is_empty() && bridge.place_of("rule") == bridge.place() {
            let hint = "add [[bridge.rule]] with `direction` and `filter`";
            let fault = Fault::new("the bridge has no rule, so nothing crosses it", hint);
            self.problems.warning(&bridge.place(), fault);
        }
        if sections.len() > MAX_RULES {
            let message = format!("the bridge has more than {MAX_RULES} rules");
            let fault = Fault::new(message, "use wider filters, or a second bridge");
            self.problems.error(&bridge.place_of("rule"), fault);
        }
        sections
            .iter()
            .filter_map(|section| self.bridge_rule(section))
            .collect()
    }

    fn bridge_rule(&mut self, section: &Section<'_>) -> Option<Rule> {
        let problems = &mut *self.problems;
        section.reject_unknown(problems);
        let mut qos = 1u8;
        section.number("qos", &mut qos, problems);
        let named = section.name("direction", problems);
        let has_direction = named.is_some();
        let direction = named.and_then(|named| match parse_choice::<Direction>(named.value) {
            Ok(direction) => Some(direction),
            Err(fault) => {
                problems.error(&named.place, fault);
                None
            }
        });
        let filter = section.text("filter", problems);
        let local_prefix = section.text("local_prefix", problems);
        let remote_prefix = section.text("remote_prefix", problems);
        if filter.is_none() && section.place_of("filter") == section.place() && has_direction {
            let hint = "add `filter = \"…\"`; `#` is everything";
            problems.error(
                &section.place(),
                Fault::new("`filter` is missing in [[bridge.rule]]", hint),
            );
        }
        let filter = filter?;
        let text = |prefix: Option<Placed<&str>>| {
            prefix
                .map(|prefix| prefix.value.to_owned())
                .unwrap_or_default()
        };
        let rule = Rule {
            direction: direction?,
            filter: filter.value.to_owned(),
            qos: QoS::from_u8(qos)?,
            local_prefix: text(local_prefix),
            remote_prefix: text(remote_prefix),
        };
        if let Err((_, error)) = Rules::new(std::slice::from_ref(&rule)) {
            let hint = "a prefix such as `site/` stands before a filter such as `sensors/#`";
            problems.error(&filter.place, Fault::new(error.to_string(), hint));
            return None;
        }
        Some(rule)
    }
}

/// Every realm that a bridge names must exist.
pub(super) fn check_bridges(draft: &Draft, problems: &mut Problems<'_>) {
    if draft.auto_realms.value {
        return;
    }
    let names = || draft.realms.iter().map(|realm| realm.value.name.as_str());
    for bridge in &draft.bridges {
        let Some(realm) = &bridge.value.realm else {
            continue;
        };
        if names().any(|name| name == realm) {
            continue;
        }
        let hint = match nearest(realm, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "with `auto_realms = false` every realm needs a [[realm]] table".to_owned(),
        };
        let message = format!("the bridge's realm `{realm}` does not exist");
        problems.error(&bridge.place, Fault::new(message, hint));
    }
}

fn not_empty(text: &str, key: &str) -> Result<String, Fault> {
    if text.trim().is_empty() {
        let hint = format!("leave `{key}` out for the default");
        return Err(Fault::new(format!("`{key}` is empty"), hint));
    }
    Ok(text.to_owned())
}

/// A name of letters, digits and `._-`, since it becomes part of client identifiers.
fn parse_name(name: &str) -> Result<String, Fault> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.chars().all(fits) && name.len() <= NAME_MAX {
        return Ok(name.to_owned());
    }
    let hint = format!("use at most {NAME_MAX} letters, digits and `.`, `_`, `-`");
    Err(Fault::new(
        format!("`{name}` is not the name of a bridge"),
        hint,
    ))
}

/// The id of this router on the way of a message.
pub(super) fn parse_router_id(id: &str) -> Result<String, Fault> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if !id.is_empty() && id.chars().all(fits) && id.len() <= NAME_MAX {
        return Ok(id.to_owned());
    }
    let hint = format!("use at most {NAME_MAX} letters, digits and `.`, `_`, `-`");
    Err(Fault::new(format!("`{id}` is not a router id"), hint))
}

/// `HOST:PORT`; the host is looked up at each attempt to connect.
fn parse_peer(text: &str) -> Result<String, Fault> {
    let fault = |hint: String| Fault::new(format!("`{text}` is not an address"), hint);
    if let Some((scheme, rest)) = text.split_once("://") {
        let hint = format!("leave out `{scheme}://`: `{rest}`; bridges speak MQTT over plain TCP");
        return Err(fault(hint));
    }
    let hint = "write HOST:PORT, for example `broker.example.org:1883` or `[::1]:1883`";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(fault(format!("{hint}; the usual port is 1883")));
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty()
        && !host.contains(|letter: char| letter.is_whitespace() || letter == '/')
        && (is_bracketed || !host.contains(':'));
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(text.to_owned()),
        Ok(1..) => Err(fault(hint.to_owned())),
        _ => Err(fault("a port is a number from 1 to 65535".to_owned())),
    }
}

fn parse_topic(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        let hint = "name one topic, for example `$SYS/broker/connection/ID/state`";
        return Err(Fault::new("this is not a topic", hint));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FakeSources, Flags};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn read(text: &str) -> Result<Config, String> {
        let sources = FakeSources::default().file("peer.secret", "hush\n");
        let file = Some((Path::new("r.toml"), text));
        let read = crate::config::assemble(file, &BTreeMap::new(), &Flags::default(), &sources);
        read.map(|(config, _)| config)
            .map_err(|error| error.to_string())
    }

    const BRIDGE: &str = "[[bridge]]\nname = \"b\"\naddress = \"localhost:1883\"\n";
    const RULE: &str = "[[bridge.rule]]\ndirection = \"both\"\nfilter = \"a/#\"\n";

    #[test]
    fn a_bridge_needs_little() {
        let config = read(&format!("{BRIDGE}{RULE}")).expect("legal");
        let rule = Rule {
            direction: Direction::Both,
            filter: "a/#".into(),
            qos: QoS::AtLeastOnce,
            local_prefix: String::new(),
            remote_prefix: String::new(),
        };
        let wanted = Bridge {
            name: "b".into(),
            address: "localhost:1883".into(),
            rules: vec![rule],
            ..Bridge::default()
        };
        assert_eq!(config.bridges, [wanted]);
    }

    #[test]
    fn passwords_come_from_files_and_are_not_shown() {
        let login = "username = \"u\"\npassword_file = \"peer.secret\"\n";
        let config = read(&format!("{BRIDGE}{login}{RULE}")).expect("legal");
        assert_eq!(
            config.bridges[0].password,
            Some(Secret::Plain("hush".into()))
        );
        assert!(!format!("{config:?}").contains("hush"));
        for wrong in ["password = 7\n", "passwort = \"hush-hush\"\n"] {
            let error = read(&format!("{BRIDGE}{wrong}{RULE}")).expect_err("illegal");
            assert!(
                !error.contains("hush-hush") && !error.contains("= 7"),
                "{error}"
            );
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (text, place, words) in [
            (
                format!("{BRIDGE}version = \"4\"\n{RULE}"),
                ":4:11",
                "possible: auto, 5.0, 3.1.1",
            ),
            (
                format!("{BRIDGE}password = \"x\"\n{RULE}"),
                ":4:",
                "a password needs a user name",
            ),
            (
                format!("{BRIDGE}{RULE}local_prefix = \"x\"\nqos = 3\n"),
                ":8:7",
                "0 to 2 is possible",
            ),
            (
                format!("{BRIDGE}[[bridge.rule]]\ndirection = \"out\"\n"),
                ":4:1",
                "`filter` is missing",
            ),
            (
                format!("{BRIDGE}[[bridge.rule]]\nfilter = \"a\"\n"),
                ":4:1",
                "`direction` is missing",
            ),
            (
                format!(
                    "{BRIDGE}[[bridge.rule]]\nfilter = \"#\"\nlocal_prefix = \"a\"\ndirection = \"in\"\n"
                ),
                ":5:10",
                "the local prefix and the filter",
            ),
            (format!("{BRIDGE}{BRIDGE}"), ":5:8", "defined twice"),
            (
                format!("{BRIDGE}reconnect_min_ms = 5000\nreconnect_max_ms = 1000\n"),
                ":4:1",
                "pauses grow",
            ),
            (
                "[[bridge]]\nname = \"b\"\naddress = \"mqtt://h:1\"\n".into(),
                ":3:11",
                "leave out `mqtt://`",
            ),
            (
                "[[bridge]]\nname = \"b\"\naddress = \"h\"\n".into(),
                ":3:11",
                "the usual port",
            ),
            (
                "[[bridge]]\nname = \"b\"\naddress = \"h:0\"\n".into(),
                ":3:11",
                "from 1 to 65535",
            ),
            (
                "[[bridge]]\nname = \"b c\"\naddress = \"h:1\"\n".into(),
                ":2:8",
                "not the name",
            ),
            ("bridge_id = \"a b\"\n".into(), ":1:13", "not a router id"),
            (
                format!(
                    "auto_realms = false\ndefault_realm = \"r\"\n[[realm]]\nname = \"r\"\n[[realm.role]]\nname = \"x\"\nallow = []\n{BRIDGE}realm = \"rr\"\n"
                ),
                ":9:8",
                "did you mean `r`?",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(
                error.contains(place) && error.contains(words),
                "{text}\n{error}"
            );
        }
    }

    #[test]
    fn peers_are_hosts_and_ports() {
        for good in [
            "localhost:1883",
            "10.0.0.1:1",
            "[::1]:1883",
            "a.b-c.example:65535",
        ] {
            assert_eq!(parse_peer(good).ok().as_deref(), Some(good));
        }
        for bad in [
            "",
            ":1883",
            "::1:1883",
            "host:",
            "ho st:1",
            "host/x:1",
            "host:70000",
        ] {
            assert!(parse_peer(bad).is_err(), "{bad:?}");
        }
    }
}
