//! Our codec against three independent implementations of MQTT: `mqttbytes`, `rmqtt-codec` and
//! `mqtt-protocol-core`.
//!
//! Each reads what we write, we read what each writes, and hostile bytes are judged alike; where
//! not, a row of the [table of exclusions](exclusions) says who is wrong and why. The walk makes
//! `ORACLE_STEPS` steps, shared among the three (default 9,000), from the seed `ORACLE_SEED`.

#![cfg(feature = "mqtt")]

mod exclusions;
mod harness;
mod hostile;
mod oracle_mqttbytes;
mod oracle_protocol_core;
mod oracle_rmqtt;
#[path = "../mqtt_codec_common/strategies.rs"]
mod strategies;
#[path = "../mqtt_codec_common/vectors.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod vectors;
mod walk;

use exclusions::Exclusions;
use harness::{Case, Oracle, Verdict, judge};
use oracle_mqttbytes::Mqttbytes;
use oracle_protocol_core::ProtocolCore;
use oracle_rmqtt::Rmqtt;
use protocols::mqtt::packet::{Direction, ProtocolVersion};
use vectors::Context;

fn oracles() -> [Box<dyn Oracle>; 3] {
    [
        Box::new(Mqttbytes::default()),
        Box::new(Rmqtt),
        Box::new(ProtocolCore),
    ]
}

#[test]
fn mqttbytes_agrees_but_for_the_table() {
    walk::walk(&Mqttbytes::default());
}

#[test]
fn rmqtt_codec_agrees_but_for_the_table() {
    walk::walk(&Rmqtt);
}

#[test]
fn mqtt_protocol_core_agrees_but_for_the_table() {
    walk::walk(&ProtocolCore);
}

/// The packet vectors, valid and invalid, before every oracle.
#[test]
fn vectors_are_judged_alike() {
    let exclusions = Exclusions::all();
    for vector in vectors::all() {
        let (version, direction) = match vector.context {
            Context::Connect => (ProtocolVersion::V3_1_1, Direction::ClientToServer),
            Context::FromClient(version) => (version, Direction::ClientToServer),
            Context::FromServer(version) => (version, Direction::ServerToClient),
        };
        let case = Case {
            version,
            direction,
            bytes: vector.bytes,
        };
        for oracle in oracles() {
            if let Some(Verdict::Unexplained(why)) = judge(&*oracle, &exclusions, &case) {
                panic!("{}\n{why}", vector.place);
            }
        }
    }
}

/// A row that excuses nothing would hide the next error of ours.
#[test]
fn every_exclusion_is_needed() {
    let all = Exclusions::all();
    for (row, witnesses) in all.rows() {
        let others = Exclusions::without(row.name);
        assert!(!witnesses.is_empty(), "{}: no witness", row.name);
        for witness in witnesses {
            for oracle in oracles() {
                if !witness.oracles.contains(&oracle.name()) {
                    continue;
                }
                let place = format!("{} {:?} {:?}", row.name, oracle.name(), witness.case);
                let verdict = judge(&*oracle, &all, &witness.case);
                assert_eq!(verdict, Some(Verdict::Excused(row.name)), "{place}");
                let bare = judge(&*oracle, &others, &witness.case);
                assert!(
                    matches!(bare, Some(Verdict::Unexplained(_))),
                    "not needed: {place}"
                );
            }
        }
    }
}

/// Names are unique, and the table in `README.md` is the one in force.
#[test]
fn the_readme_shows_the_table() {
    let all = Exclusions::all();
    let mut names: Vec<_> = all.rows().map(|(row, _)| row.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
    let table = all.markdown();
    assert!(
        include_str!("README.md").ends_with(&table),
        "README.md should end with:\n{table}"
    );
}
