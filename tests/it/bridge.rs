//! Bridges to real brokers: what crosses, under which name, what waits while one side is away, and
//! that rings end.

mod peer;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration_tests::mqtt::{Client, Connect, Message, packet, string};
use integration_tests::server::free_port;
use integration_tests::{Options, Server};

use crate::Outcome;
use peer::{Mosquitto, Rumqttd};

/// A bridge named `b` with the client identifier `b-at-peer`.
fn bridge(peer: SocketAddr, more: &str, rules: &[&str]) -> String {
    let rules: String = rules
        .iter()
        .map(|rule| format!("[[bridge.rule]]\n{rule}\n"))
        .collect();
    format!(
        "[[bridge]]\nname = \"b\"\naddress = \"localhost:{}\"\nclient_id = \"b-at-peer\"\n\
         reconnect_min_ms = 20\nreconnect_max_ms = 200\n{more}\n{rules}",
        peer.port()
    )
}

const EVERYTHING: &str = "direction = \"both\"\nfilter = \"a/#\"\nqos = 2";

fn start(config: &str) -> Result<Server> {
    Server::start(Options::default().restartable().config(config))
}

/// Waits until messages flow.
fn connected(server: &Server) -> Outcome {
    state(server, b"1")
}

fn state(server: &Server, wanted: &[u8]) -> Outcome {
    let mut client = Client::connect(server.mqtt_addr()?, &Connect::v4("watcher"))?;
    client.subscribe("$SYS/broker/connection/b-at-peer/state", 1)?;
    while client.message()?.payload != wanted {}
    Ok(())
}

fn both(server: &Server, peer: SocketAddr, filter: &str) -> Result<(Client, Client)> {
    let mut here = Client::connect(server.mqtt_addr()?, &Connect::v4("here"))?;
    let mut there = Client::connect(peer, &Connect::v4("there"))?;
    for client in [&mut here, &mut there] {
        client.subscribe(filter, 2)?;
    }
    Ok((here, there))
}

fn expect(client: &mut Client, topic: &str, payload: &[u8], qos: u8) -> Outcome {
    let got = client.message()?;
    ensure!(
        (&*got.topic, &*got.payload, got.qos) == (topic, payload, qos),
        "{got:?} instead of {topic} {payload:?} {qos}"
    );
    Ok(())
}

/// Everything said before this reached everybody: the mark crosses last.
fn nothing_else(from: &mut Client, to: &mut Client, topic: &str) -> Outcome {
    from.publish(topic, b"mark", 1, false)?;
    let got = to.message()?;
    ensure!(got.payload == b"mark", "{got:?}");
    Ok(())
}

#[test]
fn every_qos_crosses_both_ways_and_nothing_comes_back() -> Outcome {
    for version in ["5.0", "3.1.1"] {
        let mosquitto = Mosquitto::start("")?;
        let version = format!("version = \"{version}\"");
        let server = start(&bridge(mosquitto.addr, &version, &[EVERYTHING]))?;
        connected(&server)?;
        let (mut here, mut there) = both(&server, mosquitto.addr, "a/#")?;
        for qos in 0..=2 {
            let payload = [b'0' + qos];
            here.publish("a/out", &payload, qos, false)?;
            expect(&mut here, "a/out", &payload, qos)?;
            expect(&mut there, "a/out", &payload, qos)?;
            there.publish("a/in", &payload, qos, false)?;
            expect(&mut there, "a/in", &payload, qos)?;
            expect(&mut here, "a/in", &payload, qos)?;
        }
        // An echo would be in front of the mark.
        nothing_else(&mut here, &mut there, "a/mark")?;
        expect(&mut here, "a/mark", b"mark", 1)?;
        nothing_else(&mut there, &mut here, "a/mark")?;
    }
    Ok(())
}

#[test]
fn prefixes_and_one_way_rules() -> Outcome {
    let mosquitto = Mosquitto::start("")?;
    let rules = [
        "direction = \"out\"\nfilter = \"up/#\"\nlocal_prefix = \"site/\"\nremote_prefix = \"plant/7/\"",
        "direction = \"in\"\nfilter = \"down/+\"\nlocal_prefix = \"site/\"\nremote_prefix = \"plant/7/\"",
        "direction = \"out\"\nfilter = \"up/alarm\"\nlocal_prefix = \"site/\"\nremote_prefix = \"alarms/\"",
    ];
    let server = start(&bridge(mosquitto.addr, "", &rules))?;
    connected(&server)?;
    let (mut here, mut there) = both(&server, mosquitto.addr, "#")?;
    here.publish("site/up/x", b"1", 1, false)?;
    expect(&mut here, "site/up/x", b"1", 1)?;
    expect(&mut there, "plant/7/up/x", b"1", 1)?;
    there.publish("plant/7/down/y", b"2", 1, false)?;
    expect(&mut there, "plant/7/down/y", b"2", 1)?;
    expect(&mut here, "site/down/y", b"2", 1)?;
    here.publish("site/up/alarm", b"3", 1, false)?;
    expect(&mut here, "site/up/alarm", b"3", 1)?;
    let mut topics = [there.message()?.topic, there.message()?.topic];
    topics.sort();
    ensure!(
        topics == ["alarms/up/alarm", "plant/7/up/alarm"],
        "{topics:?}"
    );
    // Neither the wrong way nor beside the filter.
    here.publish("site/down/y", b"4", 1, false)?;
    there.publish("plant/7/up/x", b"5", 1, false)?;
    there.publish("plant/7/down/y/z", b"6", 1, false)?;
    expect(&mut there, "plant/7/up/x", b"5", 1)?;
    expect(&mut there, "plant/7/down/y/z", b"6", 1)?;
    expect(&mut here, "site/down/y", b"4", 1)?;
    here.publish("site/up/x", b"end", 1, false)?;
    expect(&mut there, "plant/7/up/x", b"end", 1)?;
    there.publish("plant/7/down/y", b"end", 1, false)?;
    expect(&mut here, "site/up/x", b"end", 1)?;
    expect(&mut here, "site/down/y", b"end", 1)
}

#[test]
fn retained_values_of_both_sides_cross() -> Outcome {
    let mosquitto = Mosquitto::start("")?;
    let rules = ["direction = \"both\"\nfilter = \"a/#\""];
    Client::connect(mosquitto.addr, &Connect::v4("early"))?.publish("a/there", b"old", 1, true)?;
    let server = start(&bridge(mosquitto.addr, "", &rules))?;
    connected(&server)?;
    let mut here = Client::connect(server.mqtt_addr()?, &Connect::v4("here"))?;
    here.subscribe("a/there", 1)?;
    expect(&mut here, "a/there", b"old", 1)?;
    here.publish("a/here", b"new", 1, true)?;
    let mut there = Client::connect(mosquitto.addr, &Connect::v4("there"))?;
    there.subscribe("a/here", 1)?;
    expect(&mut there, "a/here", b"new", 1)?;
    here.publish("a/here", b"", 1, true)?;
    expect(&mut there, "a/here", b"", 1)?;
    let mut late = Client::connect(mosquitto.addr, &Connect::v4("late"))?;
    late.subscribe("a/#", 1)?;
    late.ping()?;
    let kept: Vec<Message> = late.received();
    ensure!(
        kept.len() == 1 && kept[0].retain && kept[0].topic == "a/there",
        "{kept:?}"
    );
    Ok(())
}

#[test]
fn user_properties_pass_and_the_way_is_noted() -> Outcome {
    let mosquitto = Mosquitto::start("")?;
    let config = format!(
        "bridge_id = \"plant-7\"\n{}",
        bridge(mosquitto.addr, "", &[EVERYTHING])
    );
    let server = start(&config)?;
    connected(&server)?;
    for (from, to) in [
        (server.mqtt_addr()?, mosquitto.addr),
        (mosquitto.addr, server.mqtt_addr()?),
    ] {
        let mut receiver = Client::connect(to, &Connect::v5("receiver"))?;
        receiver.subscribe("a/#", 0)?;
        let mut sender = Client::connect(from, &Connect::v5("sender"))?;
        let property = [&[0x26][..], &string("colour"), &string("blue")].concat();
        let mut body = string("a/b");
        body.push(u8::try_from(property.len())?);
        body.extend(property);
        body.extend(b"x");
        sender.send(&packet(0x30, &body))?;
        let (_, body) = receiver.read()?.context("closed")?;
        let text = String::from_utf8_lossy(&body);
        for wanted in ["colour", "blue", "reynard-via", "plant-7"] {
            ensure!(text.contains(wanted), "{text:?}");
        }
    }
    Ok(())
}

/// Publishes numbers in pairs of QoS 1 and 2 under `topic`.
fn publish_all(addr: SocketAddr, topic: &str, numbers: std::ops::Range<usize>) -> Outcome {
    let mut client = Client::connect(addr, &Connect::v4(&format!("{topic} {}", numbers.start)))?;
    for number in numbers {
        for qos in [1, 2] {
            let code = client.publish(
                &format!("{topic}/{qos}"),
                number.to_string().as_bytes(),
                qos,
                false,
            )?;
            ensure!(code < 0x80, "refused: {code:#04x}");
        }
    }
    Ok(())
}

/// Takes messages until each of `count` numbers came with both QoS; those of QoS 2 once each.
fn take_all(client: &mut Client, topic: &str, count: usize) -> Outcome {
    let mut got: [BTreeMap<String, usize>; 2] = Default::default();
    while got.iter().any(|got| got.len() < count) {
        let message = client.message()?;
        let qos: usize = message
            .topic
            .rsplit('/')
            .next()
            .context("a level")?
            .parse()?;
        ensure!(message.topic.starts_with(topic), "{message:?}");
        let number = String::from_utf8(message.payload)?;
        *got[qos - 1].entry(number).or_default() += 1;
    }
    client.ping()?;
    for message in client.received() {
        ensure!(!message.topic.ends_with("/2"), "doubled: {message:?}");
    }
    ensure!(
        got[1].values().all(|times| *times == 1),
        "doubled: {:?}",
        got[1]
    );
    Ok(())
}

/// A session that waits for messages.
fn sleeper(addr: SocketAddr, filter: &str) -> Outcome {
    let mut client = Client::connect(addr, &Connect::v4("sleeper").persistent())?;
    client.subscribe(filter, 2)?;
    client.disconnect()
}

fn awake(addr: SocketAddr) -> Result<Client> {
    Client::connect(addr, &Connect::v4("sleeper").persistent())
}

#[test]
fn a_peer_that_comes_and_goes_gets_everything() -> Outcome {
    let mut mosquitto = Mosquitto::start("")?;
    let server = start(&bridge(mosquitto.addr, "", &[EVERYTHING]))?;
    connected(&server)?;
    sleeper(mosquitto.addr, "a/#")?;
    sleeper(server.mqtt_addr()?, "a/in/#")?;
    let mut from = 0;
    for _ in 0..3 {
        let addr = server.mqtt_addr()?;
        // Some before, some while it stops, some while it is away.
        publish_all(addr, "a/out", from..from + 20)?;
        publish_all(mosquitto.addr, "a/in", from..from + 20)?;
        let busy = std::thread::spawn(move || publish_all(addr, "a/out", from + 20..from + 60));
        mosquitto.stop()?;
        busy.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        publish_all(addr, "a/out", from + 60..from + 80)?;
        mosquitto.start_again()?;
        publish_all(mosquitto.addr, "a/in", from + 20..from + 80)?;
        from += 80;
        connected(&server)?;
    }
    let mut here = awake(server.mqtt_addr()?)?;
    take_all(&mut here, "a/in", from)?;
    let mut there = awake(mosquitto.addr)?;
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    while got.len() < 4 * from {
        let message = there.message()?;
        let key = (message.topic, String::from_utf8(message.payload)?);
        *got.entry(key).or_default() += 1;
    }
    let doubled = got
        .iter()
        .find(|((topic, _), times)| topic.ends_with("/2") && **times > 1);
    ensure!(doubled.is_none(), "{doubled:?}");
    Ok(())
}

#[test]
fn what_waits_for_a_peer_that_was_never_there_survives_sigkill() -> Outcome {
    let mut mosquitto = Mosquitto::start("")?;
    sleeper(mosquitto.addr, "a/#")?;
    mosquitto.stop()?;
    let mut server = start(&bridge(mosquitto.addr, "", &[EVERYTHING]))?;
    publish_all(server.mqtt_addr()?, "a/out", 0..50)?;
    server.kill()?;
    server.restart()?;
    publish_all(server.mqtt_addr()?, "a/out", 50..100)?;
    server.kill()?;
    mosquitto.start_again()?;
    server.restart()?;
    take_all(&mut awake(mosquitto.addr)?, "a/out", 100)
}

#[test]
fn a_router_that_is_killed_again_and_again_loses_and_doubles_nothing() -> Outcome {
    let mosquitto = Mosquitto::start("")?;
    let mut server = start(&bridge(mosquitto.addr, "", &[EVERYTHING]))?;
    connected(&server)?;
    sleeper(server.mqtt_addr()?, "a/in/#")?;
    sleeper(mosquitto.addr, "a/out/#")?;
    for round in 0..4 {
        let from = round * 60;
        publish_all(server.mqtt_addr()?, "a/out", from..from + 60)?;
        let peer = mosquitto.addr;
        let busy = std::thread::spawn(move || publish_all(peer, "a/in", from..from + 60));
        server.kill()?;
        busy.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        server.restart()?;
    }
    connected(&server)?;
    take_all(&mut awake(server.mqtt_addr()?)?, "a/in", 240)?;
    take_all(&mut awake(mosquitto.addr)?, "a/out", 240)
}

#[test]
fn the_state_is_told_on_both_sides() -> Outcome {
    let mut mosquitto = Mosquitto::start("")?;
    let topic = "notification_topic = \"$SYS/broker/connection/b-at-peer/state\"";
    let mut server = start(&bridge(mosquitto.addr, topic, &[EVERYTHING]))?;
    connected(&server)?;
    let mut there = Client::connect(mosquitto.addr, &Connect::v4("there"))?;
    there.subscribe("$SYS/broker/connection/b-at-peer/state", 1)?;
    expect(
        &mut there,
        "$SYS/broker/connection/b-at-peer/state",
        b"1",
        0,
    )?;
    mosquitto.stop()?;
    state(&server, b"0")?;
    ensure!(server.metric("reynard_bridge_connected")? == 0.0);
    mosquitto.start_again()?;
    connected(&server)?;
    ensure!(server.metric("reynard_bridge_connects_total")? == 2.0);
    let mut there = Client::connect(mosquitto.addr, &Connect::v4("there"))?;
    there.subscribe("$SYS/broker/connection/b-at-peer/state", 1)?;
    while there.message()?.payload != b"1" {}
    ensure!(server.stop()? == Some(0));
    ensure!(there.message()?.payload == b"0");
    Ok(())
}

#[test]
fn rules_that_leave_the_configuration_leave_both_brokers() -> Outcome {
    let mosquitto = Mosquitto::start("")?;
    let home = tempfile::TempDir::with_prefix("reynard-bridge-")?;
    let two = [
        "direction = \"both\"\nfilter = \"a/#\"\nlocal_prefix = \"x/\"",
        "direction = \"both\"\nfilter = \"b/#\"\nlocal_prefix = \"x/\"",
    ];
    let run = |rules: &[&str]| {
        let config = bridge(mosquitto.addr, "", rules);
        Server::start(Options::default().config(&config).data_dir(home.path()))
    };
    let mut server = run(&two)?;
    connected(&server)?;
    ensure!(server.stop()? == Some(0));
    let server = run(&two[..1])?;
    connected(&server)?;
    let (mut here, mut there) = both(&server, mosquitto.addr, "#")?;
    there.publish("b/1", b"no", 1, false)?;
    expect(&mut there, "b/1", b"no", 1)?;
    here.publish("x/b/2", b"no", 1, false)?;
    expect(&mut here, "x/b/2", b"no", 1)?;
    there.publish("a/3", b"yes", 1, false)?;
    expect(&mut there, "a/3", b"yes", 1)?;
    expect(&mut here, "x/a/3", b"yes", 1)?;
    here.publish("x/a/4", b"yes", 1, false)?;
    expect(&mut there, "a/4", b"yes", 1)?;
    ensure!(
        server.metric("reynard_bridge_unmapped_total")? == 0.0,
        "nothing had to be dropped"
    );
    Ok(())
}

#[test]
fn a_peer_that_refuses_is_asked_again_and_named_in_the_log() -> Outcome {
    let mosquitto = Mosquitto::start("allow_anonymous false")?;
    let server = start(&bridge(mosquitto.addr, "", &[EVERYTHING]))?;
    while server.metric("reynard_bridge_attempts_failed_total")? < 3.0 {}
    let log = server.log();
    ensure!(log.contains("the peer refused the connection"), "{log}");
    ensure!(
        log.matches("the peer refused the connection").count() == 1,
        "{log}"
    );
    Ok(())
}

#[test]
fn rumqttd_is_bridged_in_3_1_1() -> Outcome {
    let rumqttd = Rumqttd::start()?;
    let rules = [
        "direction = \"out\"\nfilter = \"up/#\"\nqos = 2",
        "direction = \"in\"\nfilter = \"down/#\"\nlocal_prefix = \"from/\"",
    ];
    let server = start(&bridge(rumqttd.v4, "", &rules))?;
    connected(&server)?;
    let mut here = Client::connect(server.mqtt_addr()?, &Connect::v4("here"))?;
    here.subscribe("from/#", 2)?;
    let there = Connect {
        keep_alive_secs: 60,
        ..Connect::v4("there")
    };
    let mut there = Client::connect(rumqttd.v4, &there)?;
    there.subscribe("up/#", 1)?;
    for number in 0..20u8 {
        for qos in [0, 1, 2] {
            here.publish("up/x", &[number, qos], qos, false)?;
            let got = there.message()?;
            ensure!(
                (&*got.topic, &*got.payload) == ("up/x", &[number, qos][..]),
                "{got:?}"
            );
        }
        there.publish("down/x", &[number], 1, false)?;
        expect(&mut here, "from/down/x", &[number], 1)?;
    }
    Ok(())
}

/// A router with a name in the ways of messages, and a bridge to another one.
fn link(id: &str, peer: SocketAddr, direction: &str) -> String {
    format!(
        "bridge_id = \"{id}\"\n[[bridge]]\nname = \"next\"\naddress = \"{peer}\"\nclient_id = \"from-{id}\"\n\
         reconnect_min_ms = 20\nreconnect_max_ms = 200\n\
         [[bridge.rule]]\ndirection = \"{direction}\"\nfilter = \"a/#\"\n"
    )
}

fn flowing(server: &Server) -> Outcome {
    while server.metric("reynard_bridge_connected")? < 1.0 {}
    Ok(())
}

/// Routers in a ring, each with a bridge to the next.
fn ring(directions: &[&str]) -> Result<Vec<Server>> {
    let mut ports = Vec::new();
    for _ in directions {
        ports.push(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    }
    let mut servers = Vec::new();
    for (place, direction) in directions.iter().enumerate() {
        let next = ports[(place + 1) % ports.len()];
        let config = link(&format!("r{place}"), next, direction);
        let options = Options::default().memory().config(&config);
        let mqtt = ports[place].to_string();
        servers.push(Server::start(options.arg("--mqtt").arg(mqtt))?);
    }
    for server in &servers {
        flowing(server)?;
    }
    Ok(servers)
}

/// How often a message that is published at the first router arrives at each.
fn copies(servers: &[Server]) -> Result<Vec<usize>> {
    let mut clients = Vec::new();
    for server in servers {
        let mut client = Client::connect(server.mqtt_addr()?, &Connect::v5("listener"))?;
        client.subscribe("a/#", 1)?;
        clients.push(client);
    }
    let mut publisher = Client::connect(servers[0].mqtt_addr()?, &Connect::v5("publisher"))?;
    publisher.publish("a/1", b"x", 1, false)?;
    let mut seen = vec![0; servers.len()];
    for (seen, client) in seen.iter_mut().zip(&mut clients) {
        client.message()?;
        *seen += 1;
    }
    // Whatever still goes round has passed everybody before marks sent later do: each mark takes
    // the same ways, and a message that did not end would have come again.
    for round in 0..20 {
        publisher.publish("a/mark", &[round], 1, false)?;
        for (seen, client) in seen.iter_mut().zip(&mut clients) {
            loop {
                let message = client.message()?;
                if message.payload == [round] {
                    break;
                }
                *seen += usize::from(message.payload == b"x");
            }
        }
    }
    Ok(seen)
}

#[test]
fn two_routers_that_bridge_to_each_other_end_every_message() -> Outcome {
    let seen = copies(&ring(&["both", "both"])?)?;
    ensure!(seen == [1, 2], "one by each bridge: {seen:?}");
    Ok(())
}

#[test]
fn a_ring_of_three_ends_every_message() -> Outcome {
    for directions in [["out"; 3], ["in"; 3]] {
        let seen = copies(&ring(&directions)?)?;
        ensure!(seen == [1, 1, 1], "{directions:?}: {seen:?}");
    }
    let seen = copies(&ring(&["both"; 3])?)?;
    ensure!(seen == [1, 2, 2], "one from either side: {seen:?}");
    Ok(())
}
