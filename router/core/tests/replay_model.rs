//! Replays against an oracle: a client that subscribes while others write, acknowledges when it
//! pleases, loses its connection and comes back, and a router that crashes between two commits.
//!
//! Whatever happens: every key the subscription matches is shown with its latest value in the end,
//! no topic goes back to an older value, no more than the window is unsettled, and nothing sent
//! exactly-once is taken twice.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use proptest::prelude::*;
use router_core::model::{Delivery, EventDelivery, Pattern, Qos};
use router_core::session::Leave;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const WINDOW: u16 = 6;
const PATTERNS: [&str; 6] = ["#", "a/#", "+/x/+", "a/+/1", "+/+", "b/x/1"];

/// What a careful receiver keeps: its part of the handshakes outlives its connections.
#[derive(Default)]
struct Receiver {
    peer: Option<Peer>,
    /// At-least-once deliveries it has not settled yet.
    open: Vec<u16>,
    /// Exactly-once ids it has received and not released.
    received: BTreeSet<u16>,
    /// ... and those it has not confirmed on this connection.
    unconfirmed: Vec<u16>,
    /// Releases it has not answered.
    released: Vec<u16>,
    /// Handed out and not settled, on this connection.
    unsettled: BTreeSet<u16>,
    /// Topic -> the latest it took; what is repeated may come after what is newer.
    latest: BTreeMap<String, u64>,
    /// Topic and assurance -> the same; only within an assurance there is an order.
    in_order: BTreeMap<(String, u8), u64>,
    /// Publications taken exactly-once.
    taken: BTreeSet<u64>,
}

impl Receiver {
    fn read(&mut self, w: &mut World) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        for delivery in w.read(&peer) {
            match delivery {
                Delivery::Event(event) => self.take(&event),
                Delivery::Release { slot } => {
                    self.received.remove(&slot.get());
                    self.released.push(slot.get());
                    self.unsettled.insert(slot.get());
                }
                _ => {}
            }
            assert!(
                self.unsettled.len() <= usize::from(WINDOW),
                "the window holds"
            );
        }
    }

    fn take(&mut self, event: &EventDelivery) {
        let publication = event.event.publication.0;
        let slot = event.slot.map(|slot| slot.get());
        self.unsettled.extend(slot);
        match (event.qos, slot) {
            (Qos::AtLeastOnce, Some(slot)) => self.open.push(slot),
            (Qos::ExactlyOnce, Some(slot)) => {
                self.unconfirmed.push(slot);
                if !self.received.insert(slot) {
                    assert!(event.repeated, "an id in use is only repeated");
                    return;
                }
                assert!(self.taken.insert(publication), "{event:?} was taken before");
            }
            _ => {}
        }
        let topic = event.event.topic.to_string();
        let last = self
            .in_order
            .insert((topic.clone(), event.qos as u8), publication);
        assert!(
            last.is_none_or(|last| publication >= last) || event.repeated,
            "{topic} goes back"
        );
        let latest = self.latest.entry(topic).or_default();
        *latest = publication.max(*latest);
    }

    /// Sends one acknowledgement that is due; answers whether there was any.
    fn acknowledge(&mut self, w: &mut World, dice: &mut Dice) -> bool {
        let Some(peer) = self.peer.clone() else {
            return false;
        };
        let due = [&mut self.open, &mut self.unconfirmed, &mut self.released];
        let mut due: Vec<(usize, &mut Vec<u16>)> = due
            .into_iter()
            .enumerate()
            .filter(|(_, list)| !list.is_empty())
            .collect();
        if due.is_empty() {
            return false;
        }
        let pick = usize::try_from(dice.below(due.len() as u64)).unwrap();
        let (kind, list) = &mut due[pick];
        let slot = list.remove(0);
        if *kind == 1 {
            w.send(&peer, advance(slot));
        } else {
            self.unsettled.remove(&slot);
            w.send(&peer, settle(slot));
        }
        true
    }

    fn disconnected(&mut self) {
        self.peer = None;
        self.open.clear();
        self.unconfirmed.clear();
        self.released.clear();
        self.unsettled.clear();
    }
}

struct Run {
    w: World,
    dice: Dice,
    receiver: Receiver,
    writer: Peer,
    number: u64,
    /// The assurance of writes, from and to.
    qos: (u8, u8),
}

fn name(dice: &mut Dice) -> String {
    let first = *dice.pick(&["a", "b", "a-", "a0", "$own"]);
    match dice.below(3) {
        0 => format!("{first}/{}", dice.below(4)),
        _ => format!("{first}/{}/{}", dice.pick(&["x", "y"]), dice.below(6)),
    }
}

impl Run {
    fn new(seed: u64, qos: (u8, u8)) -> Run {
        let mut w = World::seeded(true, Default::default(), seed);
        let writer = w.plain();
        let mut run = Run {
            w,
            dice: Dice(seed),
            receiver: Receiver::default(),
            writer,
            number: 0,
            qos,
        };
        for _ in 0..60 {
            run.write();
        }
        run.connect();
        run
    }

    fn write(&mut self) {
        self.number += 1;
        let key = name(&mut self.dice);
        let (from, to) = self.qos;
        let qos = from + u8::try_from(self.dice.below(u64::from(to - from) + 1)).unwrap();
        let list = match self.dice.once_in(8) {
            true => json!([]),
            false => json!([self.number]),
        };
        let publish = put(self.number, &key, list).qos(qos);
        self.w.send(&self.writer.clone(), publish.into());
        self.w.lines(&self.writer.clone());
    }

    fn connect(&mut self) {
        let peer = self.w.join(client("c").expiry(100_000).window(WINDOW));
        self.receiver.peer = Some(peer);
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0..5 => self.write(),
            5..11 => self.receiver.read(&mut self.w),
            11..20 => {
                self.receiver.acknowledge(&mut self.w, &mut self.dice);
            }
            20 => match self.receiver.peer.take() {
                Some(peer) => {
                    self.w.leave(&peer, Leave::Lost);
                    self.receiver.disconnected();
                }
                None => self.connect(),
            },
            21 if self.dice.once_in(4) => {
                self.w.restart();
                self.receiver.disconnected();
                self.writer = self.w.plain();
            }
            _ => {
                self.w.commit_one();
            }
        }
    }

    /// Everybody does its part until nothing is left to do.
    fn finish(&mut self) {
        self.w.auto_commit = true;
        self.w.commit();
        if self.receiver.peer.is_none() {
            self.connect();
        }
        for _ in 0..100_000 {
            self.receiver.read(&mut self.w);
            self.w.commit();
            if !self.receiver.acknowledge(&mut self.w, &mut self.dice) {
                self.receiver.read(&mut self.w);
                if !self.receiver.acknowledge(&mut self.w, &mut self.dice) {
                    return;
                }
            }
        }
        panic!("the replay never ends");
    }

    /// Every matching key was shown as it is now.
    fn check(&mut self, pattern: &Pattern) {
        let reader = self.w.plain();
        let mut names = BTreeSet::new();
        for first in ["a", "b", "a-", "a0", "$own"] {
            names.extend((0..4).map(|n| format!("{first}/{n}")));
            for second in ["x", "y"] {
                names.extend((0..6).map(|n| format!("{first}/{second}/{n}")));
            }
        }
        for name in names {
            let report = self.w.key(&reader, &name);
            let matches = pattern.matches(&topic(&name), "wamp");
            let seen = self.receiver.latest.get(&name).copied();
            assert!(matches || seen.is_none(), "{name} does not match");
            if matches && report["value"] != Value::Null {
                assert_eq!(json!(seen), report["token"], "{name} as it is now");
            }
        }
    }
}

fn run(seed: u64, writes: (u8, u8), qos: u8, lazily: bool) {
    let mut run = Run::new(seed, writes);
    let text = *run.dice.pick(&PATTERNS);
    let peer = run.receiver.peer.clone().unwrap();
    run.w.send(&peer, sub(1, text).qos(qos).retained().into());
    run.w.auto_commit = !lazily;
    for _ in 0..300 {
        run.step();
    }
    run.finish();
    run.check(&pattern(text));
    assert_eq!(run.w.realm.counters().dropped_sure, 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn a_replay_shows_every_key_as_it_is_and_never_goes_back(seed: u64, qos in 1_u8..3) {
        run(seed, (1, 2), qos, false);
    }

    #[test]
    fn exactly_once_holds_whatever_is_lost_with_a_crash(seed: u64) {
        run(seed, (2, 2), 2, true);
    }

    #[test]
    fn nothing_goes_back_whatever_the_assurance(seed: u64, qos in 0_u8..3) {
        let mut run = Run::new(seed, (0, 2));
        let peer = run.receiver.peer.clone().unwrap();
        run.w.send(&peer, sub(1, "#").qos(qos).retained().into());
        for _ in 0..300 {
            run.step();
        }
        run.finish();
    }
}
