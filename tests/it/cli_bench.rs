//! `reynard bench`: every scenario for a moment, what it finds wrong, and what it says when there is
//! nothing to measure.

mod peer;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::command::{Finished, run};
use integration_tests::server::binary;
use integration_tests::{Options, Server};
use serde_json::Value;

use crate::Outcome;
use peer::{Manner, Peer};

/// As long as a run may take on a busy machine; none waits for it.
const LONG: Duration = Duration::from_secs(240);
/// How long the router may say nothing, on the same machine.
const PATIENT: [&str; 2] = ["--timeout", "120s"];

/// `reynard bench …`, run to its end.
fn bench(words: &str, more: &[&str]) -> Result<Finished> {
    let mut command = Command::new(binary()?);
    command
        .arg("bench")
        .args(words.split_whitespace())
        .args(more);
    run(&mut command, LONG)
}

/// The same against a router, with its one object.
fn measured(server: &Server, words: &str) -> Result<Value> {
    let (url, mqtt) = (server.wamp_url(), server.mqtt_addr()?.to_string());
    let more = ["--json", "--url", &url, "--mqtt", &mqtt];
    let finished = bench(words, &[&more[..], &PATIENT].concat())?;
    let finished = finished.success().context(words.to_owned())?;
    ensure!(finished.stderr.is_empty(), "{words}: {finished:?}");
    let lines = finished.lines();
    ensure!(lines.len() == 1, "{words}: {finished:?}");
    serde_json::from_str(lines[0]).context("not JSON")
}

/// Everything came: `messages` of them, each `fan` times.
fn is_whole(outcome: &Value, messages: u64, fan: u64) -> Outcome {
    for (member, expected) in [
        ("published", messages),
        ("expected", messages * fan),
        ("received", messages * fan),
        ("lost", 0),
        ("duplicated", 0),
        ("out_of_order", 0),
        ("strange", 0),
    ] {
        ensure!(outcome[member] == expected, "{member} of {outcome}");
    }
    ensure!(outcome["ok"] == true, "{outcome}");
    let latency = &outcome["latency_us"];
    let quantiles = ["min", "p50", "p90", "p99", "p999", "max"];
    let quantiles: Vec<u64> = quantiles
        .iter()
        .filter_map(|name| latency[name].as_u64())
        .collect();
    ensure!(quantiles.len() == 6 && quantiles.is_sorted(), "{outcome}");
    Ok(())
}

fn memory() -> Result<Server> {
    Server::start(Options::default().memory())
}

#[test]
fn messages_reach_every_subscriber_once_and_in_order() -> Outcome {
    let server = memory()?;
    for (words, fan) in [
        ("pubsub --messages 500", 1),
        ("pubsub --messages 100 --topics 25 --subscribers 4", 1),
        (
            "pubsub --messages 90 --publishers 9 --topics 2 --subscribers 2",
            1,
        ),
        ("fanin --messages 500 --subscribers 2", 2),
        ("fanout --messages 50 --subscribers 20", 20),
        ("wildcard --messages 200 --topics 150 --subscribers 10", 3),
    ] {
        for protocol in ["mqtt", "wamp"] {
            let words = format!("{words} --protocol {protocol} --size 100");
            let outcome = measured(&server, &words)?;
            let messages = words.split_whitespace().nth(2).context("a number")?;
            is_whole(&outcome, messages.parse()?, fan).context(words)?;
        }
    }
    Ok(())
}

#[test]
fn every_protocol_reaches_every_other() -> Outcome {
    let server = memory()?;
    let speeches = [
        "--mqtt-version 3.1",
        "--mqtt-version 3.1.1",
        "--mqtt-version 5",
        "--serializer msgpack",
        "--serializer cbor",
    ];
    for (publish, subscribe) in [
        ("mqtt", "wamp"),
        ("wamp", "mqtt"),
        ("mqtt", "mqtt"),
        ("wamp", "wamp"),
    ] {
        for (qos, speech) in speeches.iter().enumerate() {
            let qos = qos % 3;
            let words = format!(
                "pubsub --messages 60 --publishers 2 --subscribers 2 --qos {qos} {speech} \
                 --publish-with {publish} --subscribe-with {subscribe}"
            );
            let outcome = measured(&server, &words)?;
            is_whole(&outcome, 60, 1).context(words)?;
            let speaks = outcome["publish_with"].as_str().unwrap_or_default();
            ensure!(speaks.starts_with(publish), "{outcome}");
        }
    }
    Ok(())
}

#[test]
fn calls_keys_and_locks_are_answered() -> Outcome {
    let server = Server::new()?;
    for words in [
        "call --messages 300",
        "call --messages 100 --serializer msgpack --topics 20 --subscribers 3",
        "kv --messages 200 --topics 40",
        "kv --messages 200 --op get --serializer cbor",
        "lock --messages 100",
        "lock --messages 50 --topics 1 --publishers 5 --serializer msgpack",
    ] {
        let outcome = measured(&server, words)?;
        let messages = words.split_whitespace().nth(2).context("a number")?;
        is_whole(&outcome, messages.parse()?, 1).context(words)?;
    }
    Ok(())
}

#[test]
fn connections_are_opened_and_each_gets_its_message() -> Outcome {
    let server = memory()?;
    for protocol in ["mqtt", "wamp"] {
        let words = format!(
            "connections --subscribers 100 --protocol {protocol} --pid {}",
            server.pid()
        );
        let outcome = measured(&server, &words)?;
        is_whole(&outcome, 100, 1)?;
        let connections = &outcome["connections"];
        ensure!(connections["latency_us"]["p50"].is_u64(), "{outcome}");
        ensure!(connections["rss_bytes_each"].is_number(), "{outcome}");
    }
    Ok(())
}

#[test]
fn kept_values_are_replayed_and_nothing_is_left_behind() -> Outcome {
    let server = Server::new()?;
    for words in [
        "retained --topics 200 --qos 1",
        "retained --topics 100 --qos 2 --mqtt-version 5 --subscribers 3",
        "retained --topics 100 --protocol wamp",
        "retained --topics 50 --publish-with mqtt --subscribe-with wamp",
        "kv --messages 30 --topics 30",
    ] {
        let outcome = measured(&server, words)?;
        ensure!(outcome["lost"] == 0 && outcome["ok"] == true, "{outcome}");
        if words.starts_with("retained") {
            let replay = &outcome["replay"];
            ensure!(replay["messages"] == outcome["received"], "{outcome}");
        }
        let mut list = Command::new(binary()?);
        list.args(["kv", "ls", "--url", &server.wamp_url()]);
        let left = run(&mut list, LONG)?.success()?.stdout;
        ensure!(left.is_empty(), "{words}: {left}");
    }
    Ok(())
}

#[test]
fn a_fixed_rate_sends_what_is_due_and_no_more() -> Outcome {
    let server = memory()?;
    for words in [
        "pubsub --rate 5000/s --messages 300",
        "call --rate 5000 --messages 300",
        "lock --rate 1000 --messages 50",
    ] {
        let outcome = measured(&server, words)?;
        let messages = outcome["published"].as_u64().context("a number")?;
        is_whole(&outcome, messages, 1).context(words)?;
        ensure!(outcome["window"].is_null(), "{outcome}");
    }
    Ok(())
}

#[test]
fn a_run_by_time_ends_and_tells_what_the_router_used() -> Outcome {
    let server = memory()?;
    let words = format!(
        "pubsub --duration 300ms --warm-up 50ms --qos 1 --pid {}",
        server.pid()
    );
    let outcome = measured(&server, &words)?;
    ensure!(outcome["expected"] == outcome["received"], "{outcome}");
    ensure!(outcome["seconds"].as_f64() >= Some(0.3), "{outcome}");
    let router = &outcome["router"];
    ensure!(router["cpu_seconds_per_million"].is_number(), "{outcome}");
    ensure!(
        router["peak_rss_bytes"].as_u64() > Some(1 << 20),
        "{outcome}"
    );
    Ok(())
}

#[test]
fn people_get_a_table_and_two_runs_are_compared() -> Outcome {
    let server = memory()?;
    let mqtt = server.mqtt_addr()?.to_string();
    let words = "pubsub --messages 100 --publishers 2 --subscribers 2";
    let more = [&["--mqtt", &mqtt][..], &PATIENT].concat();
    let table = bench(words, &more)?.success()?;
    for part in ["pubsub, mqtt 3.1.1, qos 0", "delivered", "latency", "99.9%"] {
        ensure!(table.stdout.contains(part), "{part} in {table:?}");
    }
    let outcome = measured(&server, words)?.to_string();
    let dir = tempfile::tempdir()?;
    let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
    std::fs::write(&a, &outcome)?;
    std::fs::write(&b, format!("{outcome}\n{outcome}\n"))?;
    let (a, b) = (a.display().to_string(), b.display().to_string());
    let compared = bench("", &["--compare", &a, &b])?.success()?;
    ensure!(compared.stdout.contains("B / A"), "{compared:?}");
    ensure!(compared.stdout.contains("1.00"), "{compared:?}");
    Ok(())
}

#[test]
fn users_and_realms_are_those_of_the_other_commands() -> Outcome {
    let config = "[[realm]]\nname = \"shop\"\n[[realm.user]]\nauthid = \"joe\"\nrole = \"user\"\n\
                  secret = \"joe-secret\"\n";
    let server = Server::start(Options::default().memory().config(config))?;
    for words in ["pubsub --protocol mqtt", "pubsub --protocol wamp", "call"] {
        let joe = "--realm shop --authid joe --ticket joe-secret";
        let outcome = measured(&server, &format!("{words} --messages 40 {joe}"))?;
        is_whole(&outcome, 40, 1)?;
    }
    let mqtt = server.mqtt_addr()?.to_string();
    let url = server.wamp_url();
    let wrong = "pubsub --messages 1 --realm shop --authid joe --ticket wrong";
    for protocol in ["mqtt", "wamp"] {
        let more = ["--url", &url, "--mqtt", &mqtt, "--protocol", protocol];
        fails(
            &bench(wrong, &[&more[..], &PATIENT].concat())?,
            1,
            "refused",
        )?;
    }
    Ok(())
}

/// One sentence and the exit code.
fn fails(finished: &Finished, code: i32, part: &str) -> Outcome {
    ensure!(finished.code() == Some(code), "{finished:?}");
    ensure!(finished.stderr.lines().count() == 1, "{finished:?}");
    ensure!(finished.stderr.contains(part), "{part}: {finished:?}");
    Ok(())
}

#[test]
fn what_is_lost_doubled_or_out_of_order_is_told_and_fails() -> Outcome {
    for (manner, qos, member, part) in [
        (Manner::Loses, 1, "lost", "1 lost"),
        (Manner::Doubles, 2, "duplicated", "1 doubled"),
        (Manner::Swaps, 0, "out_of_order", "1 out of order"),
    ] {
        let peer = Peer::start(manner)?;
        let qos = qos.to_string();
        let more = ["--json", "--mqtt", peer.address(), "--qos", &qos];
        let words = "pubsub --publishers 1 --subscribers 1 --messages 20";
        let finished = bench(words, &[&more[..], &PATIENT].concat())?;
        fails(&finished, 1, part)?;
        let outcome: Value = serde_json::from_str(&finished.stdout)?;
        ensure!(outcome[member] == 1 && outcome["ok"] == false, "{outcome}");
    }
    Ok(())
}

#[test]
fn what_a_qos_does_not_promise_is_told_and_does_not_fail() -> Outcome {
    for (manner, qos, member) in [
        (Manner::Loses, "0", "lost"),
        (Manner::Doubles, "1", "duplicated"),
    ] {
        let peer = Peer::start(manner)?;
        let more = ["--json", "--mqtt", peer.address(), "--qos", qos];
        let words = "pubsub --publishers 1 --subscribers 1 --messages 20";
        let finished = bench(words, &[&more[..], &PATIENT].concat())?.success()?;
        let outcome: Value = serde_json::from_str(&finished.stdout)?;
        ensure!(outcome[member] == 1 && outcome["ok"] == true, "{outcome}");
    }
    Ok(())
}

#[test]
fn a_peer_that_is_bad_company_is_told_in_one_sentence() -> Outcome {
    let words = "pubsub --publishers 1 --subscribers 1 --messages 20 --qos 1";
    for (manner, timeout, part) in [
        (Manner::Hangs, "100ms", "did not answer within 0.1 s"),
        (
            Manner::Refuses,
            "120s",
            "refused the connection: Not authorized",
        ),
        // Closed or reset, whichever its system says.
        (Manner::Closes, "120s", "the connection"),
        (Manner::Babbles, "120s", "broke the protocol"),
    ] {
        let peer = Peer::start(manner)?;
        let finished = bench(words, &["--mqtt", peer.address(), "--timeout", timeout])?;
        fails(&finished, 1, part).context(format!("{manner:?}"))?;
        ensure!(finished.stdout.is_empty(), "{finished:?}");
    }
    // Which of its waits ends first depends on the machine, not whether one does.
    let peer = Peer::start(Manner::Swallows)?;
    let finished = bench(words, &["--mqtt", peer.address(), "--timeout", "1s"])?;
    fails(&finished, 1, "reynard: ")
}

#[test]
fn what_cannot_be_reached_or_is_not_allowed_is_told_in_one_sentence() -> Outcome {
    let config = "auto_realms = false\n[[realm]]\nname = \"realm1\"\n[[realm.role]]\n\
                  name = \"anonymous\"\nallow = [\"subscribe #\", \"publish #\", \"call #\"]\n\
                  deny = [\"publish bench.#\", \"call fox.#\"]\n";
    let server = Server::start(Options::default().memory().config(config))?;
    let (url, mqtt) = (server.wamp_url(), server.mqtt_addr()?.to_string());
    // A port that the system gives to nobody.
    let nobody = "127.0.0.1:1";
    let nowhere = format!("ws://{nobody}/wamp");
    let not_wamp = format!("ws://{}/nothing", server.listen);
    for (words, url, mqtt, part) in [
        ("pubsub", &*url, nobody, "no MQTT server at 127.0.0.1:1: "),
        (
            "call",
            &*nowhere,
            &*mqtt,
            "no router at ws://127.0.0.1:1/wamp",
        ),
        ("call", &*not_wamp, &*mqtt, "is no WAMP endpoint"),
        (
            "call --realm elsewhere",
            &*url,
            &*mqtt,
            "refused the session: wamp.error.no_such_realm",
        ),
        (
            "pubsub --realm elsewhere",
            &*url,
            &*mqtt,
            "refused the connection",
        ),
        (
            "pubsub --qos 1 --mqtt-version 5",
            &*url,
            &*mqtt,
            "refused the publish: Not authorized",
        ),
        (
            "pubsub --qos 1 --protocol wamp",
            &*url,
            &*mqtt,
            "refused the publish: wamp.error.not_authorized",
        ),
        (
            "kv",
            &*url,
            &*mqtt,
            "refused the call: wamp.error.not_authorized",
        ),
        (
            "call",
            &*url,
            &*mqtt,
            "refused the registration: wamp.error.not_authorized",
        ),
        (
            "pubsub --pid 4294967295",
            &*url,
            &*mqtt,
            "there is no process 4294967295",
        ),
    ] {
        let more = ["--messages", "10", "--url", url, "--mqtt", mqtt];
        let finished = bench(words, &[&more[..], &PATIENT].concat())?;
        fails(&finished, 1, part).context(words)?;
        ensure!(finished.stdout.is_empty(), "{finished:?}");
    }
    fails(
        &bench("call --protocol mqtt", &[])?,
        2,
        "use --protocol wamp",
    )?;
    let failed = bench("call --messages 10 --json", &["--url", &nowhere])?;
    fails(&failed, 1, "no router")?;
    let object: Value = serde_json::from_str(&failed.stderr)?;
    ensure!(object["error"] == "failed", "{object}");
    Ok(())
}

#[test]
fn a_router_that_dies_in_the_middle_is_told() -> Outcome {
    let server = memory()?;
    let mqtt = server.mqtt_addr()?.to_string();
    let mut command = Command::new(binary()?);
    command.args(["bench", "pubsub", "--duration", "1h", "--mqtt", &mqtt]);
    command.args(PATIENT);
    let bench = integration_tests::command::Running::start(&mut command, b"")?;
    // It is at work when the router has heard of all of it.
    let end = Instant::now() + LONG;
    while server.metric("reynard_connections_open")? < 20.0 {
        ensure!(Instant::now() < end, "it never came");
    }
    drop(server);
    let finished = bench.finish(LONG)?;
    ensure!(finished.code() == Some(1), "{finished:?}");
    ensure!(finished.stderr.lines().count() == 1, "{finished:?}");
    Ok(())
}
