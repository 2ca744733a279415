//! The differences that random sessions may show, each with its clause.
//!
//! A rule turns what both brokers did into something equal, and nothing else: it may not hide
//! more than its clause allows. What no chain of rules makes equal is unexplained.

use std::collections::{BTreeMap, BTreeSet};

use super::broker::Kind;

/// A permitted difference.
#[derive(Debug)]
pub struct Rule {
    pub name: &'static str,
    /// On which peer it occurs.
    pub peers: &'static [Kind],
    pub because: &'static str,
    apply: fn(&mut Both<'_>),
}

/// One step on the router and on a peer.
#[derive(Debug)]
struct Both<'a> {
    step: &'a str,
    sent: &'a Sent,
    ours: Vec<String>,
    theirs: Vec<String>,
}

/// In the order in which they are tried.
pub const RULES: [Rule; 8] = [
    Rule {
        name: "qos-of-the-subscription",
        peers: &[Kind::Rumqttd],
        because: "[MQTT-3.8.4-8]: rumqttd delivers with the QoS of the subscription",
        apply: |both| {
            both.each(|line| {
                let words = line.split(' ').filter(|word| !word.starts_with("qos="));
                words.collect::<Vec<_>>().join(" ")
            });
        },
    },
    Rule {
        name: "nobody-subscribed",
        peers: &[Kind::Mosquitto, Kind::Rumqttd],
        because: "3.4.2.1, 3.5.2.1: code 10 may be sent instead of 00",
        apply: |both| {
            both.each(|line| match line.strip_suffix(" 10") {
                Some(rest) if rest.contains("< PUBACK ") || rest.contains("< PUBREC ") => {
                    rest.to_owned()
                }
                _ => line.to_owned(),
            })
        },
    },
    Rule {
        name: "told-before-the-end",
        peers: &[Kind::Mosquitto, Kind::Rumqttd],
        because: "4.13.1: DISCONNECT before the end is a SHOULD",
        apply: |both| {
            let ends = both.theirs.clone();
            both.ours
                .retain(|line| match line.split_once("< DISCONNECT ") {
                    Some((client, _)) => !ends.contains(&format!("{client}< closed")),
                    None => true,
                });
        },
    },
    Rule {
        name: "copy-per-subscription",
        peers: &[Kind::Mosquitto, Kind::Rumqttd],
        because: "3.3.4: one copy with all Subscription Identifiers, or one for each subscription",
        apply: merge_copies,
    },
    Rule {
        name: "own-retained",
        peers: &[Kind::Mosquitto],
        because: "[MQTT-3.8.3-3]: Mosquitto replays to No Local subscribers what they published",
        apply: |both| {
            if both.step.contains("> SUBSCRIBE ") && both.step.contains(",nl") {
                let (sent, ours) = (both.sent, both.ours.clone());
                let own = |line: &str| {
                    let by = sent.get(payload(line)).map(|message| message.by);
                    line.contains(" retain") && by == both.step.chars().next().map(identifier)
                };
                both.theirs.retain(|line| ours.contains(line) || !own(line));
            }
        },
    },
    Rule {
        name: "shared-retained",
        peers: &[Kind::Mosquitto],
        because: "4.8.2: Mosquitto replays retained messages to new members of a group",
        apply: |both| {
            if both.step.contains("> SUBSCRIBE $share/") && both.step.matches('@').count() == 1 {
                let ours = both.ours.clone();
                both.theirs
                    .retain(|line| !line.contains(" retain") || ours.contains(line));
            }
        },
    },
    Rule {
        name: "retained-parent-of-dollar",
        peers: &[Kind::Mosquitto],
        because: "4.7.1.2: `$s/#` includes `$s`; Mosquitto replays nothing for it",
        apply: |both| {
            if both.step.contains(" $s/#@") {
                let parent =
                    |line: &str| line.contains("< PUBLISH \"$s\" ") && line.contains(" retain");
                let mut theirs = both.theirs.clone();
                both.ours.retain(|line| {
                    let there = theirs.iter().position(|other| other == line);
                    there.map(|at| theirs.remove(at)).is_some() || !parent(line)
                });
            }
        },
    },
    Rule {
        name: "unsuback-of-dollar",
        peers: &[Kind::Mosquitto],
        because: "3.11.3: Mosquitto has code 00, not 11, for `$` filters that were not subscribed",
        apply: |both| {
            if both.step.contains("> UNSUBSCRIBE $") {
                both.ours
                    .iter_mut()
                    .for_each(|line| match line.strip_suffix(" 11") {
                        Some(rest) if line.contains("< UNSUBACK ") => *line = format!("{rest} 00"),
                        _ => {}
                    });
            }
        },
    },
];

/// The messages of a script, by their payloads.
pub type Sent = BTreeMap<String, Message>;

/// How a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Only messages of one topic and one such QoS have an order `[MQTT-4.6.0-6]`, whatever the
    /// QoS with which they are delivered.
    qos: u8,
    /// Which Client Identifier.
    by: u32,
}

/// Two scripted clients take turns with one identifier: A and D, B and E, C and F.
fn identifier(client: char) -> u32 {
    u32::from(client).wrapping_sub(u32::from('A')) % 3
}

/// Finds the messages, wills included, in the lines of a script.
pub fn sent(lines: &[String]) -> Sent {
    let mut sent = Sent::new();
    for line in lines {
        let Some(client) = line.chars().next() else {
            continue;
        };
        for packet in line.split(" ; ") {
            let words: Vec<&str> = packet.split(' ').collect();
            let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
            let at = words.iter().position(|word| *word == "PUBLISH");
            let second = at.and_then(|at| words.get(at + 2).copied());
            let qos = value("will-qos=").or(value("qos="));
            let qos = qos.and_then(|qos| qos.parse().ok());
            if let (Some(payload), Some(qos)) = (value("will-payload=").or(second), qos) {
                let by = identifier(client);
                sent.insert(payload.to_owned(), Message { qos, by });
            }
        }
    }
    sent
}

/// The second quoted word of a line, which is the payload of a message.
fn payload(line: &str) -> &str {
    line.split('"').nth(3).unwrap_or_default()
}

fn sort_by_sent(lines: &mut [String], sent: &Sent) {
    let is_message = |line: &str| line.contains("< PUBLISH ");
    let client = |line: &str| line.chars().next();
    for run in lines.chunk_by_mut(|a, b| is_message(a) && is_message(b) && client(a) == client(b)) {
        run.sort_by_key(|line| {
            let topic = line.split('"').nth(1).unwrap_or_default().to_owned();
            (topic, sent.get(payload(line)).map(|message| message.qos))
        });
    }
}

/// The rules that explain what differed on `peer`; `None` if they do not.
pub fn explain(
    peer: Kind,
    step: &str,
    ours: &[String],
    theirs: &[String],
    sent: &Sent,
) -> Option<Vec<&'static Rule>> {
    let (mut ours, mut theirs) = (spread(ours), spread(theirs));
    for lines in [&mut ours, &mut theirs] {
        drop_releases(lines);
        sort_by_sent(lines, sent);
    }
    let mut both = Both {
        step,
        sent,
        ours,
        theirs,
    };
    let mut used = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.peers.contains(&peer)) {
        if both.ours == both.theirs {
            break;
        }
        let before = (both.ours.clone(), both.theirs.clone());
        (rule.apply)(&mut both);
        if before != (both.ours.clone(), both.theirs.clone()) {
            used.push(rule);
        }
    }
    (both.ours == both.theirs).then_some(used)
}

impl Both<'_> {
    fn each(&mut self, change: impl Fn(&str) -> String) {
        for line in self.ours.iter_mut().chain(&mut self.theirs) {
            *line = change(line);
        }
    }
}

/// Undoes the counting of equal lines.
fn spread(lines: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        let counted = line
            .strip_suffix(" times)")
            .and_then(|line| line.rsplit_once(" ("));
        match counted.and_then(|(text, count)| Some((text, count.parse::<usize>().ok()?))) {
            Some((text, count)) => all.extend(std::iter::repeat_n(text.to_owned(), count)),
            None => all.push(line.clone()),
        }
    }
    all
}

/// Takes several copies of a message from a peer for those of the router, if their Subscription
/// Identifiers are the same in all and the router sent no more of them. Payloads name messages, so
/// copies are lines that differ in nothing but their identifiers.
fn merge_copies(both: &mut Both<'_>) {
    let (ours, theirs) = (copies(&both.ours), copies(&both.theirs));
    for (message, here) in &ours {
        let Some(there) = theirs.get(message) else {
            continue;
        };
        let ids = |lines: &[String]| -> BTreeSet<String> {
            let ids = lines.iter().flat_map(|line| line.split(' '));
            ids.filter(|word| is_id(word)).map(str::to_owned).collect()
        };
        if here != there && here.len() <= there.len() && ids(here) == ids(there) {
            let first = both.theirs.iter().position(|line| line == &there[0]);
            both.theirs.retain(|line| !there.contains(line));
            let at = first.unwrap_or_default().min(both.theirs.len());
            both.theirs.splice(at..at, here.iter().cloned());
        }
    }
}

/// The messages among the lines, by what their copies have in common.
fn copies(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut copies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.contains("< PUBLISH ")) {
        let common: Vec<&str> = line.split(' ').filter(|word| !is_id(word)).collect();
        let same = copies.entry(common.join(" ")).or_default();
        same.push(line.clone());
    }
    copies
}

fn is_id(word: &str) -> bool {
    word.starts_with("subscription-id=")
}

/// Takes away the one PUBREL that each message of QoS 2 has, and complains where it has none.
fn drop_releases(lines: &mut Vec<String>) {
    let client = |line: &str| line.chars().next();
    let messages = lines
        .iter()
        .filter(|line| line.contains("< PUBLISH ") && line.contains(" qos=2"));
    let mut settled: Vec<Option<char>> = messages.map(|line| client(line)).collect();
    lines.retain(|line| {
        let owed = settled.iter().position(|name| *name == client(line));
        match owed.filter(|_| line.ends_with("< PUBREL")) {
            Some(at) => {
                settled.swap_remove(at);
                false
            }
            None => true,
        }
    });
    lines.extend(
        settled
            .into_iter()
            .flatten()
            .map(|client| format!("{client}< (no PUBREL)")),
    );
}

#[test]
fn rules_hide_no_more_than_they_say() -> crate::Outcome {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let names = |peer, ours: &str, theirs: &str| -> Option<Vec<&str>> {
        let used = explain(
            peer,
            "A> PUBLISH t x",
            &lines(ours),
            &lines(theirs),
            &Sent::new(),
        )?;
        Some(used.iter().map(|rule| rule.name).collect())
    };
    let mosquitto = |ours: &str, theirs: &str| names(Kind::Mosquitto, ours, theirs);
    anyhow::ensure!(mosquitto("A< PUBACK 1 10", "A< PUBACK 1") == Some(vec!["nobody-subscribed"]));
    anyhow::ensure!(mosquitto("A< PUBACK 1 87", "A< PUBACK 1").is_none());
    let merged = "B< PUBREL\nB< PUBLISH \"t\" \"x\" qos=2 subscription-id=1 subscription-id=2";
    let copies = "B< PUBREL (2 times)\nB< PUBLISH \"t\" \"x\" qos=2 subscription-id=2\n\
                  B< PUBLISH \"t\" \"x\" qos=2 subscription-id=1";
    anyhow::ensure!(mosquitto(merged, copies) == Some(vec!["copy-per-subscription"]));
    anyhow::ensure!(mosquitto(merged, &copies.replace("id=2", "id=3")).is_none());
    anyhow::ensure!(mosquitto(&merged.replace("B< PUBREL\n", ""), copies).is_none());
    anyhow::ensure!(mosquitto("", copies).is_none() && mosquitto(merged, "").is_none());
    anyhow::ensure!(
        mosquitto(copies, merged).is_none(),
        "more copies than the peer sent"
    );
    let step = ["A> PUBLISH t m1 qos=2 ; PUBLISH t m2 qos=0".to_owned()];
    let (one, two) = (
        "B< PUBLISH \"t\" \"m1\" qos=0",
        "B< PUBLISH \"t\" \"m2\" qos=0",
    );
    let (ours, theirs) = (
        [one.to_owned(), two.to_owned()],
        [two.to_owned(), one.to_owned()],
    );
    let explained = |sent: &Sent| explain(Kind::Mosquitto, "", &ours, &theirs, sent).is_some();
    anyhow::ensure!(explained(&sent(&step)) && !explained(&Sent::new()));
    let retained = ["B< PUBLISH \"t\" \"m1\" qos=0 retain".to_owned()];
    let replayed =
        |step: &str, sent: &Sent| explain(Kind::Mosquitto, step, &[], &retained, sent).is_some();
    let (own, other) = (sent(&["E> PUBLISH t m1 qos=0".to_owned()]), sent(&step));
    anyhow::ensure!(replayed("B> SUBSCRIBE t@0,nl", &own));
    anyhow::ensure!(!replayed("B> SUBSCRIBE t@0,nl", &other));
    anyhow::ensure!(replayed("B> SUBSCRIBE $share/g/t@0", &other));
    anyhow::ensure!(!replayed("B> SUBSCRIBE $share/g/t@0 t@0", &other));
    let told = "B< DISCONNECT 82\nB< closed";
    anyhow::ensure!(mosquitto(told, "B< closed").is_some() && mosquitto(told, "").is_none());
    let (low, high) = (
        "B< PUBLISH \"t\" \"x\" qos=0",
        "B< PUBLISH \"t\" \"x\" qos=1",
    );
    anyhow::ensure!(mosquitto(low, high).is_none());
    anyhow::ensure!(names(Kind::Rumqttd, low, high).is_some());
    Ok(())
}
