//! State that attackers pile up, race for, or have no right to.

use std::net::SocketAddr;
use std::sync::Barrier;

use anyhow::{Context, Result, ensure};
use integration_tests::mqtt::{Client, Connect, binary, packet, string};
use integration_tests::probe::liveness;
use integration_tests::{Options, Server};

use super::{closes, closes_after_connect, resident_mib, server};
use crate::Outcome;

/// A 5.0 CONNECT with properties, will properties and a will of QoS 2.
fn hello(id: &str, properties: &[u8], will_properties: &[u8], topic: &str) -> Vec<u8> {
    let block = |bytes: &[u8]| [&[u8::try_from(bytes.len()).expect("short")], bytes].concat();
    let body = [
        &string("MQTT")[..],
        &[5, 0x14, 0, 0],
        &block(properties),
        &string(id),
        &block(will_properties),
        &string(topic),
        &binary(b"gone"),
    ];
    packet(0x10, &body.concat())
}

/// Session Expiry Interval of so many seconds.
fn expiry(seconds: u8) -> [u8; 5] {
    [0x11, 0, 0, 0, seconds]
}

/// The CONNACK code for these bytes, if there is one before the end.
fn code(addr: SocketAddr, bytes: &[u8]) -> Result<Option<u8>> {
    let mut client = Client::open(addr, 5)?;
    client.send(bytes)?;
    let answer = client.read()?;
    Ok(answer.and_then(|(first, body)| (first == 0x20).then(|| body.get(1).copied())?))
}

/// Acknowledgements of what was never sent, and of the wrong kind for what was.
#[test]
fn acknowledgements_in_the_wrong_state() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for connect in [Connect::v4("acks"), Connect::v5("acks")] {
        let mut client = Client::connect(addr, &connect)?;
        for id in [1u16, 7, 65_535] {
            let id = id.to_be_bytes();
            client.send(&packet(0x40, &id))?;
            client.send(&packet(0x70, &id))?;
            client.send(&packet(0x50, &id))?;
            let (first, _) = client.read()?.context("closed")?;
            ensure!(
                first == 0x62,
                "PUBREL for an unknown PUBREC, not {first:#04x}"
            );
            client.send(&packet(0x62, &id))?;
            let (first, _) = client.read()?.context("closed")?;
            ensure!(
                first == 0x70,
                "PUBCOMP for an unknown PUBREL, not {first:#04x}"
            );
        }
        client.ping()?;
        // A QoS 2 message answered as if it were one of QoS 1, and the other way round.
        for (qos, wrong) in [(2, 0x40), (2, 0x70), (1, 0x50), (1, 0x70)] {
            let mut victim = Client::connect(addr, &connect)?;
            victim.subscribe("t", 2)?;
            let mut publisher = Client::connect(addr, &Connect::v4("publisher"))?;
            publisher.publish("t", b"x", qos, false)?;
            let (first, body) = victim.read()?.context("closed")?;
            ensure!(first >> 4 == 3, "{first:#04x} instead of PUBLISH");
            victim.send(&packet(wrong, &body[3..5]))?;
            while victim.read()?.is_some() {}
        }
    }
    liveness(&server)
}

/// CVE-2023-28366: QoS 2 identifiers that are never released, the same again and again and
/// all there are.
#[test]
fn qos_2_identifiers_that_are_never_released() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let publish = |level: u8, id: u16, dup: u8| {
        let none: &[u8] = if level == 5 { &[0] } else { &[] };
        let body = [&string("flood")[..], &id.to_be_bytes(), none, &[b'x'; 200]].concat();
        packet(0x34 | dup, &body)
    };
    let before = resident_mib(&server)?;
    for connect in [Connect::v4("same"), Connect::v5("same")] {
        let mut same = Client::connect(addr, &connect)?;
        let repeated = publish(connect.level, 9, 8).repeat(500);
        for _ in 0..100 {
            same.send(&repeated)?;
            same.ping()?;
        }
    }
    let mut all = Client::connect(addr, &Connect::v4("all"))?;
    for chunk in 0..=64u16 {
        let ids = (chunk * 1_000).max(1)..=(chunk * 1_000).saturating_add(999);
        let bytes: Vec<u8> = ids.flat_map(|id| publish(4, id, 0)).collect();
        if all.send(&bytes).is_err() || all.ping().is_err() {
            break;
        }
    }
    let mut limited = Client::connect(addr, &Connect::v5("limited"))?;
    let bytes: Vec<u8> = (1..=65).flat_map(|id| publish(5, id, 0)).collect();
    limited.send(&bytes)?;
    let end = loop {
        match limited.read()?.context("closed without DISCONNECT")? {
            (0xE0, body) => break body,
            (first, _) => ensure!(first == 0x50, "{first:#04x}"),
        }
    };
    ensure!(end.first() == Some(&0x93), "{end:?}");
    liveness(&server)?;
    let after = resident_mib(&server)?;
    ensure!(after < before + 64, "grew from {before} to {after} MiB");
    Ok(())
}

/// CVE-2025-62723: sessions that expire with messages of QoS 1 and 2 in their queues.
#[test]
fn sessions_that_expire_with_messages() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let mut publisher = Client::connect(addr, &Connect::v5("publisher"))?;
    let before = server.metric("reynard_sessions")?;
    let round = |publisher: &mut Client, number: u32| -> Result<()> {
        for at in 0..50 {
            let mut asked = Connect::v5(&format!("brief-{number}-{at}"));
            asked.session_expiry_secs = 1;
            let mut brief = Client::connect(addr, &asked)?;
            brief.subscribe("heap/#", 2)?;
            brief.cut()?;
        }
        for qos in [1, 2, 1, 2] {
            publisher.publish("heap/x", &[7; 20_000], qos, false)?;
        }
        while server.metric("reynard_sessions")? > before {}
        Ok(())
    };
    round(&mut publisher, 0)?;
    let first = resident_mib(&server)?;
    for number in 1..4 {
        round(&mut publisher, number)?;
    }
    ensure!(server.metric("reynard_sessions_expired_total")? >= 200.0);
    liveness(&server)?;
    let last = resident_mib(&server)?;
    ensure!(last < first + 32, "grew from {first} to {last} MiB");
    Ok(())
}

/// CVE-2023-3592: wills with bad properties, topics and payloads, which the CONNECT fails for.
#[test]
fn wills_with_bad_properties() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let long = "w".repeat(10_000);
    let bad: [(&[u8], &str); 9] = [
        (&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1], &long),
        (&[0x11, 0, 0, 0, 1], &long),
        (&[0x01, 2], &long),
        (&[0x08, 0, 1, b'#'], &long),
        (&[0x03, 0, 1, 0xFF], &long),
        (&[0x26, 0, 9, b'k'], &long),
        (&[0x18, 0, 0], &long),
        (&[], "a/#"),
        (&[], ""),
    ];
    let before = resident_mib(&server)?;
    for number in 0..100 {
        for (properties, topic) in bad {
            let refused = code(addr, &hello(&format!("w{number}"), &[], properties, topic))?;
            ensure!(refused.is_none_or(|code| code >= 0x80), "{properties:?}");
        }
    }
    liveness(&server)?;
    let after = resident_mib(&server)?;
    ensure!(after < before + 32, "grew from {before} to {after} MiB");
    Ok(())
}

/// CVE-2019-11778: a will that would wait longer than its session lives, ended in every way.
#[test]
fn wills_that_would_outlive_their_session() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let mut watcher = Client::connect(addr, &Connect::v5("watcher"))?;
    watcher.subscribe("late", 1)?;
    let delay = [0x18, 0, 0, 0x0E, 0x10];
    for end in 0..4 {
        for life in [0, 1] {
            let mut client = Client::open(addr, 5)?;
            client.send(&hello("late", &expiry(life), &delay, "late"))?;
            let (first, body) = client.read()?.context("closed")?;
            ensure!((first, body.get(1)) == (0x20, Some(&0)), "{body:?}");
            match end {
                0 => client.cut()?,
                1 => client.send(&[0x20, 2, 0, 0])?,
                2 => client.send(&[0xE0, 1, 4])?,
                // Its session is ended by a successor.
                _ => drop(Client::connect(addr, &Connect::v5("late"))?),
            }
            ensure!(watcher.message()?.payload == b"gone", "end {end}, {life} s");
        }
    }
    ensure!(watcher.received().is_empty(), "a will came twice");
    liveness(&server)
}

/// CVE-2018-12543: topics that begin with `$`.
#[test]
fn dollar_topics() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    for connect in [Connect::v4("dollar"), Connect::v5("dollar")] {
        let mut client = Client::connect(addr, &connect)?;
        for topic in [
            "$",
            "$/",
            "$$",
            "$SYS",
            "$SYS/x",
            "$share",
            "$share/",
            "$share/g/t",
            "$CONTROL/x",
        ] {
            client.subscribe(topic, 2)?;
            for qos in 0..3 {
                client.publish(topic, b"x", qos, true)?;
                client.publish(topic, b"", qos, true)?;
            }
            client.ping()?;
        }
        for filter in ["$/#", "$SYS/#", "$SYS/+", "$share/g/#", "$share/g/$SYS/#"] {
            client.subscribe(filter, 2)?;
            client.ping()?;
        }
        // No filters at all, which ends the connection.
        for filter in ["$+", "$#"] {
            let properties: &[u8] = if connect.level == 5 { &[0] } else { &[] };
            let body = [&[0, 1], properties, &string(filter), &[2]].concat();
            closes_after_connect(addr, &connect, &packet(0x82, &body))?;
        }
    }
    liveness(&server)
}

/// CVE-2017-7650, CVE-2018-12550 and wills to `$CONTROL`: names that look like patterns give no
/// rights, nor does a will or an empty password.
#[test]
fn names_and_wills_give_no_rights() -> Outcome {
    let server = Server::start(Options::default().memory().config(
        r##"
auto_realms = false
[[realm]]
name = "realm1"
[[realm.user]]
authid = "joe"
role = "user"
secret = "joe-secret"
[[realm.user]]
authid = "root"
role = "admin"
secret = "root-secret"
[[realm.role]]
name = "user"
allow = ["publish app/#", "subscribe app/#"]
[[realm.role]]
name = "guest"
allow = ["publish open"]
[realm.anonymous]
role = "guest"
"##,
    ))?;
    let addr = server.mqtt_addr()?;
    for name in [
        "#",
        "+",
        "joe/#",
        "+/joe",
        "*",
        "",
        " ",
        "joe@#",
        "JOE",
        "joe\u{200B}",
    ] {
        for id in ["#", "+", "app/#", "joe"] {
            let stranger = Connect::v5(id).login(name, "joe-secret");
            let (mut client, ack) = Client::try_connect(addr, &stranger)?;
            if ack.code == 0 {
                ensure!(
                    client.subscribe("app/x", 0)? >= 0x80,
                    "{name:?} may subscribe"
                );
                ensure!(client.publish("app/x", b"1", 1, true)? >= 0x80, "{name:?}");
            }
            let guest = Connect::v5(id);
            let mut client = Client::connect(addr, &guest)?;
            ensure!(
                client.subscribe("app/x", 0)? == 0x87,
                "a guest may subscribe"
            );
            ensure!(client.publish("app/x", b"1", 1, true)? == 0x87, "a guest");
        }
    }
    for password in ["", " ", "joe-secret ", "joe-secre"] {
        let (_, ack) = Client::try_connect(addr, &Connect::v5("j").login("joe", password))?;
        ensure!(ack.code == 0x86, "{password:?}: {:#04x}", ack.code);
    }
    let root = Connect::v5("witness").login("root", "root-secret");
    let mut witness = Client::connect(addr, &root)?;
    for filter in ["#", "$CONTROL/#", "$SYS/x", "wamp/x"] {
        ensure!(witness.subscribe(filter, 0)? == 0, "{filter} refused");
    }
    for topic in ["$CONTROL/x", "$SYS/x", "wamp/x", "wamp", "other", "app/x"] {
        let will = Connect::v5("j")
            .login("joe", "joe-secret")
            .will(topic, b"will", false);
        let (client, ack) = Client::try_connect(addr, &will)?;
        let is_reserved = topic.starts_with("wamp") || topic.starts_with("$SYS");
        ensure!(
            !is_reserved || ack.code == 0x87,
            "{topic}: {:#04x}",
            ack.code
        );
        if ack.code == 0 {
            client.cut()?;
        }
    }
    // What joe may not publish his will does not publish either.
    ensure!(
        witness.message()?.topic == "app/x",
        "another will came first"
    );
    ensure!(witness.received().is_empty(), "more wills than one");
    liveness_for_guests(&server)
}

/// What [`liveness`] asks, within the rights of a guest.
fn liveness_for_guests(server: &Server) -> Outcome {
    let addr = server.mqtt_addr()?;
    let mut reader = Client::connect(addr, &Connect::v5("r").login("joe", "joe-secret"))?;
    ensure!(reader.subscribe("app/alive", 1)? == 1, "SUBSCRIBE refused");
    let mut writer = Client::connect(addr, &Connect::v5("w").login("joe", "joe-secret"))?;
    ensure!(writer.publish("app/alive", b"1", 1, false)? == 0);
    ensure!(reader.message()?.payload == b"1", "another message");
    Ok(())
}

/// CVE-2025-59946, mosquitto#2885 and their like: one identifier, many connections at a time.
#[test]
fn takeover_churn() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let start = Barrier::new(6);
    let churn = |number: usize| -> Outcome {
        start.wait();
        for round in 0..60 {
            let mut connect = if number.is_multiple_of(2) {
                Connect::v5("contested")
            } else {
                Connect::v4("contested")
            };
            connect = connect.will("will", b"x", false);
            if round % 3 > 0 {
                connect = connect.persistent();
            }
            // Another one may have taken over at any moment.
            let Ok(mut client) = Client::connect(addr, &connect) else {
                continue;
            };
            let _ = client.subscribe("will", 2);
            let _ = client.send_publish("will", b"y", 2, round % 2 == 0);
            let _ = client.ping();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|number| scope.spawn(move || churn(number)))
            .collect();
        all.into_iter()
            .try_for_each(|thread| thread.join().expect("a client panicked"))
    })?;
    // The identifier is of use again.
    let mut last = Client::connect(addr, &Connect::v5("contested"))?;
    ensure!(last.subscribe("last", 1)? == 1, "SUBSCRIBE refused");
    last.publish("last", b"1", 1, false)?;
    ensure!(last.message()?.payload == b"1", "another message");
    liveness(&server)
}

/// CVE-2024-8376 and CVE-2026-8741: subscribing and unsubscribing while messages pass.
#[test]
fn subscription_churn() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let start = Barrier::new(5);
    let filters = ["c/#", "c/+", "c/x", "$share/g/c/#", "$share/g/c/x", "#"];
    let subscriber = |number: usize| -> Outcome {
        let mut client = Client::connect(addr, &Connect::v5(&format!("s{number}")).persistent())?;
        start.wait();
        for round in 0..150 {
            let filter = filters[(round + number) % filters.len()];
            client.subscribe(filter, (round % 3) as u8)?;
            let removed = filters[(round * 5 + number) % filters.len()];
            let body = [&[0, 1, 0][..], &string(removed)].concat();
            client.send(&packet(0xA2, &body))?;
            if round % 20 == 19 {
                client.cut()?;
                client = Client::connect(addr, &Connect::v5(&format!("s{number}")).persistent())?;
            }
        }
        client.ping()
    };
    let publisher = |number: usize| -> Outcome {
        let mut client = Client::connect(addr, &Connect::v4(&format!("p{number}")))?;
        start.wait();
        for round in 0..300 {
            client.publish("c/x", b"x", (round % 3) as u8, round % 7 == 0)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let mut all: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || subscriber(number)))
            .collect();
        all.extend((0..2).map(|number| scope.spawn(move || publisher(number))));
        all.into_iter()
            .try_for_each(|thread| thread.join().expect("a client panicked"))
    })?;
    liveness(&server)
}

/// CVE-2020-13849: whoever holds a connection and says nothing, before CONNECT and after it.
#[test]
fn silence_ends() -> Outcome {
    let server = Server::start(
        Options::default()
            .memory()
            .config("[limits]\nlogin_timeout_secs = 1\n[mqtt]\nmax_keepalive_secs = 1\n"),
    )?;
    let addr = server.mqtt_addr()?;
    closes(addr, &[]).context("nothing at all")?;
    closes(addr, &[0x10]).context("half a header")?;
    closes(addr, &Connect::v5("slow").encode()[..20]).context("half a CONNECT")?;
    let mut greedy = Connect::v5("hold");
    greedy.keep_alive_secs = 65_535;
    closes_after_connect(addr, &greedy, &[]).context("a Keep Alive of 65,535 seconds")?;
    greedy.keep_alive_secs = 0;
    closes_after_connect(addr, &greedy, &[0x30]).context("no Keep Alive, half a packet")?;
    liveness(&server)
}

/// CVE-2026-42209: a setting of 0 is a setting, or refused at the start.
#[test]
fn settings_of_zero() -> Outcome {
    let server = Server::start(Options::default().memory().config(
        "[mqtt]\nmax_keepalive_secs = 0\ntopic_alias_maximum = 0\noutgoing_topic_aliases = 0\n\
         max_session_expiry_secs = 0\nsys_interval_secs = 0\nresponse_information = \"\"\n",
    ))?;
    let addr = server.mqtt_addr()?;
    for connect in [
        Connect::v4("zero").persistent(),
        Connect::v5("zero").persistent(),
    ] {
        let (mut client, ack) = Client::try_connect(addr, &connect)?;
        ensure!(ack.code == 0 && !ack.session_present, "{ack:?}");
        client.subscribe("$SYS/#", 1)?;
        client.publish("a", b"x", 2, true)?;
    }
    let alias = [&string("a")[..], &[3, 0x23, 0, 1]].concat();
    closes_after_connect(addr, &Connect::v5("alias"), &packet(0x30, &alias))?;
    liveness(&server)
}
