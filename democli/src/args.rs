//! The command line.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use router_client::{Address, Arguments, Credentials, Dict, Serializer};
use serde_json::Value;
use std::ffi::OsString;

/// Demonstrations of a WAMP router: one program per subcommand.
#[derive(Debug, Parser)]
#[command(name = "democli", version, about, max_term_width = 100)]
pub struct Cli {
    /// Where to, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Which demo.
    #[command(subcommand)]
    pub demo: Demo,
}

/// Where to connect, and as whom.
#[derive(Debug, Args)]
pub struct Connect {
    /// WAMP endpoint of the router
    #[arg(
        short,
        long,
        visible_alias = "server",
        short_alias = 's',
        env = "WAMP_URL",
        default_value = "ws://127.0.0.1:9000/wamp",
        global = true
    )]
    pub url: Address,
    /// Realm to join
    #[arg(long, env = "WAMP_REALM", default_value = "realm1", global = true)]
    pub realm: String,
    /// How messages are written
    #[arg(long, value_enum, default_value_t, global = true)]
    pub serializer: Serializer,
    /// User to join as; needs --ticket
    #[arg(long, env = "WAMP_AUTHID", global = true)]
    authid: Option<String>,
    /// Secret of the user
    #[arg(long, env = "WAMP_TICKET", hide_env_values = true, global = true)]
    ticket: Option<String>,
}

impl Connect {
    /// As whom; `None` if only half of it was said.
    fn try_credentials(&self) -> Option<Credentials> {
        match (self.authid.clone(), self.ticket.clone()) {
            (None, None) => Some(Credentials::Anonymous),
            (Some(authid), Some(ticket)) => Some(Credentials::Ticket { authid, ticket }),
            _ => None,
        }
    }

    /// As whom.
    pub fn credentials(&self) -> Credentials {
        // `Cli::try_from_args` let through nothing else.
        self.try_credentials().unwrap_or(Credentials::Anonymous)
    }
}

/// The demos.
#[derive(Debug, Subcommand)]
pub enum Demo {
    /// Offer procedures and receive events; runs until Ctrl-C
    Backend,
    /// Call the backend's procedures and publish to it
    Frontend,
    /// Hold a lock for a while, release it, and queue for it again
    ResourceLock(ResourceLock),
    /// Measure acknowledged publishes
    MassPublish(MassPublish),
    /// Ask for the sessions of the realm and watch them come and go
    Metatest(Metatest),
    /// Publish one event
    #[command(name = "pub")]
    Publish(Publish),
    /// Print the events of a topic or a pattern
    #[command(name = "sub")]
    Subscribe(Subscribe),
    /// Call a procedure
    Call(Call),
}

/// Arguments of `resource-lock`.
#[derive(Debug, Args)]
pub struct ResourceLock {
    /// Key of the lock
    #[arg(long, default_value = "myapp.resource")]
    pub key: String,
    /// How long the lock is held, in seconds
    #[arg(long, default_value_t = 9)]
    pub hold_secs: u64,
    /// End after so many turns [default: go on until Ctrl-C]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,
}

/// Arguments of `mass-publish`.
#[derive(Debug, Args)]
pub struct MassPublish {
    /// How many events
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// How many may wait for their acknowledgement at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// Topic
    #[arg(long, default_value = "com.myapp.topic1")]
    pub topic: String,
}

/// Arguments of `metatest`.
#[derive(Debug, Args)]
pub struct Metatest {
    /// End after so many joins and leaves [default: go on until Ctrl-C]
    #[arg(long)]
    pub count: Option<u64>,
}

/// Arguments of `pub`.
#[derive(Debug, Args)]
pub struct Publish {
    /// Topic
    pub topic: String,
    /// Positional arguments: JSON, or else taken as text
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,
    /// Keyword arguments, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    kwargs: Option<String>,
    /// Do not wait for the acknowledgement
    #[arg(long, conflicts_with = "hold_secs")]
    pub no_ack: bool,
    /// Keep the value under the topic
    #[arg(long)]
    retain: bool,
    /// Write only if the stored value fits; null: only if there is none
    #[arg(long, value_name = "JSON", value_parser = json, requires = "retain")]
    when: Option<Value>,
    /// Wait until --when holds instead of failing
    #[arg(long, requires = "when")]
    watch: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "MS", requires = "watch")]
    watch_timeout: Option<u64>,
    /// Value to write when this session ends; null: delete
    #[arg(long, value_name = "JSON", value_parser = json, requires = "retain")]
    will: Option<Value>,
    /// After which end the will is written
    #[arg(long, requires = "will")]
    will_on: Option<WillOn>,
    /// Merge into the stored value (RFC 7396) instead of replacing it
    #[arg(long, requires = "retain")]
    merge: bool,
    /// Append to the history of events
    #[arg(long)]
    trace: bool,
    /// Deliver to this session too
    #[arg(long)]
    include_me: bool,
    /// Quality of service towards MQTT subscribers
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,
    /// Stay connected for so long after the acknowledgement
    #[arg(long, value_name = "SECS", default_value_t = 0)]
    pub hold_secs: u64,
}

/// Ends of a session.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WillOn {
    /// Any.
    Any,
    /// Only a lost connection.
    Lost,
}

impl Publish {
    /// What is published.
    ///
    /// # Errors
    /// None after a command line that was accepted.
    pub fn arguments(&self) -> Result<Arguments, serde_json::Error> {
        arguments(&self.args, self.kwargs.as_deref())
    }

    /// The options of the PUBLISH.
    pub fn options(&self) -> Dict {
        let mut options = Dict::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                options.insert(key.to_owned(), value);
            }
        };
        let flag = |is_set: bool| is_set.then_some(Value::Bool(true));
        set("retain", flag(self.retain));
        set("when", self.when.clone());
        set("watch", flag(self.watch));
        set("watch_timeout", self.watch_timeout.map(Value::from));
        set("will", self.will.clone());
        let will_on = self.will_on.map(|on| match on {
            WillOn::Any => Value::from("any"),
            WillOn::Lost => Value::from("lost"),
        });
        set("will_on", will_on);
        set("merge", flag(self.merge));
        set("trace", flag(self.trace));
        set("exclude_me", self.include_me.then_some(Value::Bool(false)));
        set("x_qos", self.qos.map(Value::from));
        options
    }
}

/// Arguments of `sub`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// Topic, or a pattern: * is one component, a final # the rest
    pub pattern: String,
    /// Read the pattern by the rules of WAMP instead
    #[arg(long = "match", value_name = "KIND")]
    matching: Option<Matching>,
    /// First the stored values
    #[arg(long)]
    retained: bool,
    /// First the history after this publication
    #[arg(long, value_name = "PUBLICATION")]
    after: Option<u64>,
    /// Only what is stored, then end
    #[arg(long)]
    snapshot: bool,
    /// Only events that fit
    #[arg(long, value_name = "JSON", value_parser = json)]
    filter: Option<Value>,
    /// End after so many events [default: go on until Ctrl-C]
    #[arg(long)]
    pub count: Option<u64>,
}

/// The option `match` of SUBSCRIBE.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Matching {
    /// The whole topic.
    Exact,
    /// Topics that start so.
    Prefix,
    /// An empty component matches any.
    Wildcard,
}

impl Subscribe {
    /// The options of the SUBSCRIBE.
    pub fn options(&self) -> Dict {
        let mut options = Dict::new();
        if let Some(matching) = self.matching {
            let name = match matching {
                Matching::Exact => "exact",
                Matching::Prefix => "prefix",
                Matching::Wildcard => "wildcard",
            };
            options.insert("match".to_owned(), name.into());
        }
        if self.retained {
            options.insert("retained".to_owned(), true.into());
        }
        if let Some(after) = self.after {
            options.insert("after".to_owned(), after.into());
        }
        if self.snapshot {
            options.insert("snapshot".to_owned(), true.into());
        }
        if let Some(filter) = self.filter.clone() {
            options.insert("filter".to_owned(), filter);
        }
        options
    }
}

/// Arguments of `call`.
#[derive(Debug, Args)]
pub struct Call {
    /// Procedure
    pub procedure: String,
    /// Positional arguments: JSON, or else taken as text
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,
    /// Keyword arguments, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    kwargs: Option<String>,
}

impl Call {
    /// What the procedure is called with.
    ///
    /// # Errors
    /// None after a command line that was accepted.
    pub fn arguments(&self) -> Result<Arguments, serde_json::Error> {
        arguments(&self.args, self.kwargs.as_deref())
    }
}

impl Cli {
    /// Reads the command line of the process; ends it with code 2 if that is wrong.
    pub fn from_command_line() -> Cli {
        Cli::try_from_args(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// What is wrong with it, or the help that was asked for.
    pub fn try_from_args<I>(args: I) -> Result<Cli, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let cli = Cli::try_parse_from(args)?;
        // Not by `requires`: it does not see options on both sides of the subcommand.
        if cli.connect.try_credentials().is_none() {
            let message = "--authid and --ticket need one another";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message));
        }
        Ok(cli)
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// Checks, and keeps the text as it is.
fn json_object(text: &str) -> Result<String, String> {
    let parsed: Result<Dict, _> = serde_json::from_str(text);
    parsed.map_err(|error| format!("not a JSON object: {error}"))?;
    Ok(text.to_owned())
}

fn arguments(args: &[String], kwargs: Option<&str>) -> Result<Arguments, serde_json::Error> {
    let args: Vec<String> = args.iter().map(|arg| json_or_text(arg)).collect();
    Arguments::from_json(&format!("[{}]", args.join(",")), kwargs)
}

/// The JSON itself, so that its digits survive; what is none becomes a JSON string.
fn json_or_text(arg: &str) -> String {
    match serde_json::from_str::<Value>(arg) {
        Ok(_) => arg.to_owned(),
        Err(_) => Value::from(arg).to_string(),
    }
}

#[cfg(test)]
mod tests;
