//! What is typed.

use super::settings::{Extent, Operation, Protocol, Rhythm, Scenario, Settings};
use super::stamp::{STAMP_BYTES, STREAMS_MAX};
use crate::cli::client::Connection;
use crate::cli::failure::Failure;
use crate::cli::words::duration;
use clap::{Args, ValueEnum};
use protocols::mqtt::packet::{ProtocolVersion, QoS};
use router_client::{Address, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Messages under way for each sender, unless told otherwise.
const WINDOW: u64 = 64;
const DURATION: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);

/// Arguments of `bench`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed or not delivered as promised, 2 bad arguments. See docs/bench.md.

Examples:
  reynard bench pubsub --qos 1 --size 1024
  reynard bench fanout --publish-with mqtt --subscribe-with wamp
  reynard bench call --rate 1000/s --json > a.json
  reynard bench --compare a.json b.json")]
pub struct BenchArgs {
    /// pubsub, fanin, fanout, wildcard, connections, retained, call, kv or lock
    #[arg(
        value_enum,
        required_unless_present = "compare",
        hide_possible_values = true
    )]
    pub(super) scenario: Option<Scenario>,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) speech: SpeechArgs,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
}

/// How much of what.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct LoadArgs {
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=16 << 20))]
    size: u32,
    /// Publishers, callers or clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    publishers: Option<u32>,
    /// Subscribers, callees or idle connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: Option<u32>,
    /// Topics, filters, procedures, keys or locks
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=STREAMS_MAX as i64))]
    topics: Option<u32>,
    /// At most so many messages under way for each publisher [default: 64]
    #[arg(long, value_name = "N", conflicts_with = "rate",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    window: Option<u64>,
    /// So many messages a second from all publishers together
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<Rate>,
    /// How long it measures [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How long it runs before that [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warm_up: Option<Duration>,
    /// Measures so many messages instead
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warm_up"],
          value_parser = clap::value_parser!(u64).range(1..=1 << 36))]
    messages: Option<u64>,
    /// What kv asks: put or get
    #[arg(long, value_name = "OP", value_enum, default_value_t = Operation::Put,
          hide_possible_values = true)]
    op: Operation,
    /// How long the peer may say nothing
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    /// The router's process, to tell what it uses; repeatable
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Two files of --json, side by side
    #[arg(long, value_names = ["A", "B"], num_args = 2,
          conflicts_with = "scenario")]
    pub(super) compare: Option<Vec<PathBuf>>,
}

/// How it is said.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Protocols")]
pub(super) struct SpeechArgs {
    /// mqtt or wamp [default: mqtt; call, kv and lock: wamp]
    #[arg(long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    protocol: Option<Protocol>,
    /// What publishers speak
    #[arg(long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    publish_with: Option<Protocol>,
    /// What subscribers speak
    #[arg(long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    subscribe_with: Option<Protocol>,
    /// The MQTT server, HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = mqtt_address)]
    mqtt: MqttAddress,
    /// 3.1, 3.1.1 or 5
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = Version::V3_1_1,
          hide_possible_values = true)]
    mqtt_version: Version,
    /// 0, 1 or 2; WAMP acknowledges 1 and 2 [default: 0; retained: 1]
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,
    /// That of subscriptions [default: as --qos]
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    subscribe_qos: Option<u8>,
    /// json, msgpack or cbor
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Serializer::Json,
          hide_possible_values = true)]
    serializer: Serializer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.1.1", alias = "3")]
    V3_1_1,
    #[value(name = "5", alias = "5.0")]
    V5,
}

/// Messages a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(f64);

// It is never a NaN.
impl Eq for Rate {}

fn rate(text: &str) -> Result<Rate, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number
        .parse()
        .map_err(|_| "expected a number of messages a second, such as 1000/s".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) {
        return Ok(Rate(rate));
    }
    Err("expected 0.001/s to 10000000/s".to_owned())
}

/// Where an MQTT server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MqttAddress {
    spelling: String,
    address: Address,
}

impl MqttAddress {
    /// In the form that connections are made from.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for MqttAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

fn mqtt_address(text: &str) -> Result<MqttAddress, String> {
    let bare = text.strip_prefix("mqtt://").unwrap_or(text);
    let address = match bare.starts_with("unix:") {
        true => bare.parse(),
        false if bare.contains('/') => Err(String::new()),
        false => match bare.rsplit_once(':') {
            Some((host, _)) if !host.is_empty() => format!("ws://{bare}").parse(),
            _ => Err(String::new()),
        },
    };
    let address = address.map_err(|_| "expected HOST:PORT or unix:PATH".to_owned())?;
    Ok(MqttAddress {
        spelling: bare.to_owned(),
        address,
    })
}

impl BenchArgs {
    /// What was typed, with every default filled in.
    ///
    /// # Errors
    /// The arguments do not fit together.
    pub(super) fn settings(&self, scenario: Scenario) -> Result<Settings, Failure> {
        let (load, speech) = (&self.load, &self.speech);
        let protocol = match (scenario.is_calls(), speech.protocol) {
            (_, Some(protocol)) => protocol,
            (true, None) => Protocol::Wamp,
            (false, None) => Protocol::Mqtt,
        };
        let is_timed = [load.duration, load.warm_up].iter().any(Option::is_some);
        if scenario.is_counted() && (is_timed || load.messages.is_some()) {
            let text = "retained and connections send one message for each: use --topics or \
                        --subscribers";
            return Err(Failure::usage(text));
        }
        let (publishers, subscribers, topics) = scenario.numbers();
        let publishers = load.publishers.unwrap_or(publishers);
        // Where they come in pairs, as many as publishers.
        let pairs = publishers.min(load.topics.unwrap_or(publishers));
        let subscribers = load.subscribers.or(subscribers).unwrap_or(pairs);
        let topics = load.topics.or(topics).unwrap_or(match scenario {
            Scenario::Connections => subscribers,
            _ => publishers,
        });
        let qos = speech
            .qos
            .unwrap_or(u8::from(scenario == Scenario::Retained));
        let settings = Settings {
            scenario,
            publish_with: speech.publish_with.unwrap_or(protocol),
            subscribe_with: speech.subscribe_with.unwrap_or(protocol),
            mqtt: speech.mqtt.clone(),
            version: match speech.mqtt_version {
                Version::V3_1 => ProtocolVersion::V3_1,
                Version::V3_1_1 => ProtocolVersion::V3_1_1,
                Version::V5 => ProtocolVersion::V5,
            },
            qos: QoS::from_u8(qos).unwrap_or_default(),
            subscribe_qos: QoS::from_u8(speech.subscribe_qos.unwrap_or(qos)).unwrap_or_default(),
            serializer: speech.serializer,
            size: load.size as usize,
            publishers: publishers as usize,
            subscribers: subscribers as usize,
            topics: topics as usize,
            rhythm: match load.rate {
                Some(Rate(rate)) => Rhythm::Rate(rate),
                None if scenario == Scenario::Lock => Rhythm::Window(1),
                None => Rhythm::Window(load.window.unwrap_or(WINDOW)),
            },
            extent: self.extent(scenario, topics),
            op: load.op,
            patience: load.timeout.max(Duration::from_millis(1)),
            pids: load.pid.clone(),
        };
        settings.check()?;
        Ok(settings)
    }

    fn extent(&self, scenario: Scenario, topics: u32) -> Extent {
        match self.load.messages {
            _ if scenario.is_counted() => Extent::Messages(topics.into()),
            Some(messages) => Extent::Messages(messages),
            None => Extent::Time {
                warm_up: self.load.warm_up.unwrap_or(WARM_UP),
                duration: self.load.duration.unwrap_or(DURATION),
            },
        }
    }
}

#[cfg(test)]
mod tests;
