//! What is to be done.

use super::args::MqttAddress;
use super::stamp::STREAMS_MAX;
use crate::cli::failure::Failure;
use clap::ValueEnum;
use protocols::mqtt::packet::{ProtocolVersion, QoS};
use router_client::Serializer;
use std::time::Duration;

/// What is measured. The variants have no doc comments: they would unfold the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    // Publishers and subscribers of one topic each.
    Pubsub,
    // Many publishers, one subscriber.
    Fanin,
    // One publisher, many subscribers.
    Fanout,
    // Many filters.
    Wildcard,
    // Many connections.
    Connections,
    // Many retained messages, and their replay.
    Retained,
    // Procedures that answer with what they get.
    Call,
    // Reads or writes of keys.
    Kv,
    // Locks that are acquired and released.
    Lock,
}

impl Scenario {
    /// As it is typed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Scenario::Pubsub => "pubsub",
            Scenario::Fanin => "fanin",
            Scenario::Fanout => "fanout",
            Scenario::Wildcard => "wildcard",
            Scenario::Connections => "connections",
            Scenario::Retained => "retained",
            Scenario::Call => "call",
            Scenario::Kv => "kv",
            Scenario::Lock => "lock",
        }
    }

    /// Whether it consists of calls, which WAMP alone has.
    pub(super) const fn is_calls(self) -> bool {
        matches!(self, Scenario::Call | Scenario::Kv | Scenario::Lock)
    }

    /// Whether there is one message for each topic, and nothing to repeat.
    pub(super) const fn is_counted(self) -> bool {
        matches!(self, Scenario::Connections | Scenario::Retained)
    }

    /// Publishers, subscribers and topics, where not told otherwise; `None`: as many as publishers.
    pub(super) const fn numbers(self) -> (u32, Option<u32>, Option<u32>) {
        match self {
            Scenario::Pubsub | Scenario::Call => (10, None, None),
            Scenario::Fanin => (10, Some(1), None),
            Scenario::Fanout => (1, Some(100), None),
            Scenario::Wildcard => (1, Some(100), Some(10_000)),
            Scenario::Connections => (1, Some(1000), None),
            Scenario::Retained => (1, Some(1), Some(10_000)),
            Scenario::Kv | Scenario::Lock => (10, Some(0), None),
        }
    }
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    // Over TCP.
    Mqtt,
    // Over WebSocket.
    Wamp,
}

/// What `kv` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Operation {
    // Writes.
    Put,
    // Reads.
    Get,
}

/// How senders send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rhythm {
    /// With so many messages under way.
    Window(u64),
    /// So many messages a second, of all senders together.
    Rate(f64),
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// So many messages of all senders together.
    Messages(u64),
    /// So long, after a warm-up.
    Time {
        /// Not measured.
        warm_up: Duration,
        /// Measured.
        duration: Duration,
    },
}

/// What is to be done; every default is filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub scenario: Scenario,
    pub publish_with: Protocol,
    pub subscribe_with: Protocol,
    pub mqtt: MqttAddress,
    pub version: ProtocolVersion,
    pub qos: QoS,
    pub subscribe_qos: QoS,
    pub serializer: Serializer,
    pub size: usize,
    pub publishers: usize,
    pub subscribers: usize,
    pub topics: usize,
    pub rhythm: Rhythm,
    pub extent: Extent,
    pub op: Operation,
    pub patience: Duration,
    pub pids: Vec<u32>,
}

impl Settings {
    /// # Errors
    /// Arguments that do not fit together.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let refuse = |text: &str| Err(Failure::usage(text));
        let is_mqtt = [self.publish_with, self.subscribe_with].contains(&Protocol::Mqtt);
        match self.scenario {
            Scenario::Call | Scenario::Kv | Scenario::Lock if is_mqtt => {
                refuse("call, kv and lock speak WAMP: use --protocol wamp")
            }
            Scenario::Retained if self.qos == QoS::AtMostOnce => {
                refuse("retained needs acknowledgements: use --qos 1 or 2")
            }
            Scenario::Retained | Scenario::Connections if self.publishers != 1 => {
                refuse("retained and connections have one publisher")
            }
            Scenario::Connections if self.topics != self.subscribers => {
                refuse("connections has one topic for each connection: use --subscribers")
            }
            Scenario::Pubsub | Scenario::Call if self.subscribers > self.topics => {
                refuse("more subscribers than topics: use --topics, or the scenario fanout")
            }
            _ if self.topics.max(self.publishers) > STREAMS_MAX => {
                refuse("more topics than 262144")
            }
            _ => match self.extent {
                Extent::Time { duration, .. } if duration < Duration::from_millis(1) => {
                    refuse("--duration must be at least 1ms")
                }
                _ => Ok(()),
            },
        }
    }

    /// Whether publishers and subscribers speak different protocols.
    pub(super) fn is_mixed(&self) -> bool {
        self.publish_with != self.subscribe_with
    }

    /// With which QoS messages arrive.
    pub(super) fn arriving_qos(&self) -> QoS {
        match self.scenario.is_calls() {
            true => QoS::ExactlyOnce,
            false => self.qos.min(self.subscribe_qos),
        }
    }

    /// How those of one side speak, for people.
    pub(super) fn speech(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Mqtt => {
                let version = match self.version {
                    ProtocolVersion::V3_1 => "3.1",
                    ProtocolVersion::V3_1_1 => "3.1.1",
                    ProtocolVersion::V5 => "5",
                };
                format!("mqtt {version}")
            }
            Protocol::Wamp => {
                let name = self.serializer.subprotocol().trim_start_matches("wamp.2.");
                format!("wamp {name}")
            }
        }
    }
}
