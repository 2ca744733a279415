//! One `reynard bench` against one router.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::scenario::{Scenario, Shape, Speech};
use super::{Kind, Load, Peer};
use crate::command;
use crate::server::binary;

/// How long a run may take beside what it measures: 100,000 subscriptions, and a slow peer.
const PATIENCE: Duration = Duration::from_secs(300);

/// The realm of fox-wamp's MQTT clients has a name that they cannot say; this one both sides can.
const SHARED_REALM: &str = "bench";

/// What the bench says of this router.
///
/// # Errors
/// Fails if it says nothing, with the reason that it gives. A run that lost or doubled something is
/// told with its figures, as one that did not.
pub fn run(peer: &Peer, scenario: &Scenario, load: Load) -> Result<Value> {
    let mut command = Command::new(binary()?);
    command.arg("bench").args(words(scenario, load));
    if let Some(mqtt) = peer.mqtt {
        command.args(["--mqtt", &mqtt.to_string()]);
    }
    if let Some(url) = &peer.url {
        command.args(["--url", url]);
    }
    if peer.kind == Kind::FoxWamp && scenario.speech == Speech::Across {
        command.args(["--realm", SHARED_REALM]);
    }
    for pid in peer.pids() {
        command.args(["--pid", &pid.to_string()]);
    }
    let finished = command::run(&mut command, PATIENCE + load.time())?;
    match finished.lines().last() {
        Some(line) => serde_json::from_str(line).with_context(|| format!("not JSON: {line}")),
        None => Err(anyhow!(without_address(reason(&finished.stderr), peer))),
    }
}

/// The words of the scenario with those of the load.
fn words(scenario: &Scenario, load: Load) -> Vec<String> {
    let mut words: Vec<String> = scenario
        .words
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    words.push("--json".to_owned());
    // The others are over when everything is there.
    if matches!(scenario.shape, Shape::Rate | Shape::Latency) {
        words.extend(match load {
            Load::Seconds(seconds) => ["--duration".to_owned(), format!("{seconds}s")],
            Load::Messages(messages) => ["--messages".to_owned(), messages.to_string()],
        });
    }
    words
}

/// Each run has its own ports, and the reason is to be the same.
fn without_address(reason: String, peer: &Peer) -> String {
    let mqtt = peer.mqtt.map(|addr| addr.to_string());
    let addresses = [peer.url.as_ref(), mqtt.as_ref()].into_iter().flatten();
    addresses.fold(reason, |reason, address| reason.replace(address, "it"))
}

/// The message of the last line on stderr, which is an object.
fn reason(stderr: &str) -> String {
    let last = stderr.lines().last().unwrap_or("it said nothing");
    let object: Option<Value> = serde_json::from_str(last).ok();
    let message = object.and_then(|object| Some(object["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_message_of_the_last_line() {
        let stderr = "something\n{\"error\":\"failed\",\"message\":\"nobody answered\"}\n";
        assert_eq!(reason(stderr), "nobody answered");
        assert_eq!(reason("killed"), "killed");
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    fn only_a_run_that_has_no_end_of_its_own_is_given_one() -> Result<()> {
        let of = |id: &str, load| -> Result<String> {
            let scenario = Scenario::named(id).context("no such scenario")?;
            Ok(words(scenario, load).join(" "))
        };
        assert_eq!(
            of("mqtt-fanin", Load::Seconds(3))?,
            "fanin --size 16 --json --duration 3s"
        );
        assert_eq!(
            of("mqtt-fanin", Load::Messages(50))?,
            "fanin --size 16 --json --messages 50"
        );
        assert_eq!(
            of("mqtt-retained", Load::Seconds(3))?,
            "retained --topics 10000 --size 256 --json"
        );
        Ok(())
    }
}
