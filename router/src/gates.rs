//! The list of gates: what the first bytes or the subprotocol of a connection lead to.

use crate::config::{Config, ListenerLimits, RequestIds, UriGrammar};
use bytestring::ByteString;
use protocols::gate::Gate;
use protocols::mqtt::machine::{MqttMachine, MqttOptions, ResponseInformation};
use protocols::wamp::machine::{
    Serialization, Strictness, WampMachine, WampOptions, serialization_of,
};
use router_core::encoding::Encoding;
use router_core::model::Now;
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// A protocol that a connection can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT over a byte stream, or over binary WebSocket messages.
    Mqtt,
    /// WAMP over WebSocket messages.
    Wamp(Serialization),
}

/// What gates are made with.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Shared by all connections.
    mqtt: Arc<MqttOptions>,
    wamp: WampOptions,
}

impl GateOptions {
    /// As configured.
    pub fn new(config: &Config) -> GateOptions {
        let login_timeout = Duration::from_secs(config.limits.login_timeout_secs.into());
        let mqtt = MqttOptions {
            max_keepalive_secs: config.mqtt.max_keepalive_secs,
            receive_maximum: NonZeroU16::new(config.mqtt.receive_maximum)
                .unwrap_or(NonZeroU16::MAX),
            topic_alias_maximum: config.mqtt.topic_alias_maximum,
            max_packet_bytes: usize::try_from(config.mqtt.max_packet_bytes).unwrap_or(usize::MAX),
            max_session_expiry_secs: config.mqtt.max_session_expiry_secs,
            max_topic_levels: config.mqtt.max_topic_levels.into(),
            max_filters: config.mqtt.max_filters_per_packet,
            outgoing_topic_aliases: config.mqtt.outgoing_topic_aliases,
            max_connect_bytes: usize::try_from(config.mqtt.max_connect_bytes).unwrap_or(usize::MAX),
            response_information: ResponseInformation::new(&config.mqtt.response_information),
            outgoing_window: NonZeroU16::new(config.mqtt.max_inflight).unwrap_or(NonZeroU16::MIN),
            login_timeout,
            ..MqttOptions::default()
        };
        let wamp = WampOptions {
            login_timeout,
            message_bytes_max: wamp_message_bytes(config),
            strict: Arc::new(strictness(config)),
            ..WampOptions::default()
        };
        GateOptions {
            mqtt: Arc::new(mqtt),
            wamp,
        }
    }

    /// The same but for what one listener limits otherwise.
    pub fn limited(&self, limits: &ListenerLimits) -> GateOptions {
        let (mut mqtt, mut wamp) = ((*self.mqtt).clone(), self.wamp.clone());
        if let Some(secs) = limits.login_timeout_secs {
            let login_timeout = Duration::from_secs(secs.into());
            (mqtt.login_timeout, wamp.login_timeout) = (login_timeout, login_timeout);
        }
        if let Some(secs) = limits.max_keepalive_secs {
            mqtt.max_keepalive_secs = secs;
        }
        if let Some(maximum) = limits.receive_maximum.and_then(NonZeroU16::new) {
            mqtt.receive_maximum = maximum;
        }
        if let Some(maximum) = limits.topic_alias_maximum {
            mqtt.topic_alias_maximum = maximum;
        }
        if let Some(bytes) = limits.max_packet_bytes {
            mqtt.max_packet_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        GateOptions {
            mqtt: Arc::new(mqtt),
            wamp,
        }
    }

    /// The largest message of MQTT over a message transport: a packet may come in one frame with
    /// others behind it.
    pub fn mqtt_message_bytes(&self) -> usize {
        self.mqtt.max_packet_bytes.saturating_mul(2).max(64 << 10)
    }

    /// The largest batch of WAMP messages: each has the limit of a message for itself.
    pub fn wamp_batch_bytes(&self) -> usize {
        let message = self.wamp.message_bytes_max;
        message
            .saturating_mul(2)
            .max(message.saturating_add(64 << 10))
    }

    /// This router's id for bridges that come from other routers; only the first time counts.
    pub fn set_router_id(&self, id: &str) {
        self.mqtt.router_id.get_or_init(|| ByteString::from(id));
    }

    /// Name, help text and value of the gates' own counters.
    pub fn counters(&self) -> Vec<(String, &'static str, u64)> {
        let mqtt = self.mqtt.counters.list().into_iter();
        let wamp = self.wamp.counters.list().into_iter();
        mqtt.map(|(name, help, value)| (format!("mqtt_{name}"), help, value))
            .chain(wamp.map(|(name, help, value)| (format!("wamp_{name}"), help, value)))
            .collect()
    }

    /// Time from connecting until a WAMP session is established.
    pub fn login_timeout(&self) -> Duration {
        self.wamp.login_timeout
    }

    /// A WAMP gate for a peer that takes messages of at most so many bytes.
    pub fn wamp_gate(&self, now: Now, encoding: Encoding, peer_bytes_max: usize) -> Box<dyn Gate> {
        let options = WampOptions {
            peer_bytes_max,
            ..self.wamp.clone()
        };
        Box::new(WampMachine::new(now, encoding, options))
    }

    /// A gate for a new connection.
    pub fn gate(&self, now: Now, protocol: Protocol) -> Box<dyn Gate> {
        match protocol {
            Protocol::Mqtt => Box::new(MqttMachine::new(now, self.mqtt.clone())),
            Protocol::Wamp(serialization) => {
                Box::new(WampMachine::new(now, serialization, self.wamp.clone()))
            }
        }
    }
}

/// What each configured realm asks of its WAMP clients.
fn strictness(config: &Config) -> HashMap<ByteString, Strictness> {
    let realms = config.realms.iter().map(|realm| {
        let strictness = Strictness {
            uris: realm.uri == UriGrammar::Strict,
            request_ids: realm.request_ids == RequestIds::Strict,
        };
        (ByteString::from(realm.name.as_str()), strictness)
    });
    realms.collect()
}

/// The largest WAMP message, in bytes.
pub fn wamp_message_bytes(config: &Config) -> usize {
    usize::try_from(config.limits.max_wamp_message_bytes).unwrap_or(usize::MAX)
}

impl Protocol {
    /// What a WebSocket subprotocol stands for.
    pub fn of_subprotocol(name: &str) -> Option<Protocol> {
        match name {
            // [MQTT-6.0.0-3]; the second is what 3.1 clients ask for.
            "mqtt" | "mqttv3.1" => Some(Protocol::Mqtt),
            _ => serialization_of(name).map(Protocol::Wamp),
        }
    }

    /// Whether this is spoken at an HTTP path.
    pub fn is_at(self, path: &str) -> bool {
        match self {
            Protocol::Mqtt => path == "/mqtt",
            Protocol::Wamp(_) => matches!(path, "/" | "/ws" | "/wamp"),
        }
    }
}

/// The names of the realm's own topics and procedures, in WAMP's terms.
pub use protocols::wamp::map::naming;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_realm_asks_its_own_of_its_clients() {
        let toml = "[[realm]]\nname = \"a\"\nuri = \"strict\"\n\
                    [[realm]]\nname = \"b\"\nrequest_ids = \"strict\"\n[[realm]]\nname = \"c\"\n";
        let config = Config::from_toml(Path::new("test.toml"), toml).expect("a configuration");
        let strict = GateOptions::new(&config).wamp.strict;
        let asked = |realm: &str| strict.get(realm).map(|s| (s.uris, s.request_ids));
        assert_eq!(asked("a"), Some((true, false)));
        assert_eq!(asked("b"), Some((false, true)));
        assert_eq!(asked("c"), Some((false, false)));
        assert_eq!(asked("made on first use"), None);
    }
}
