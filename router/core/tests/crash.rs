//! Crashes at every commit boundary: whatever was acknowledged is there afterwards, whatever was
//! refused is not, and a lasting client gets every message it was promised.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Answer, Delivery, EndReason};
use router_core::session::Leave;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KEYS: [&str; 3] = ["k/a", "k/b", "k/c"];

/// Writes of one key since the last one known to be on disk, which comes first.
type Candidates = Vec<(u64, Value)>;

#[derive(Default)]
struct Client {
    peer: Option<Peer>,
    /// slot -> number of the message
    unsettled: BTreeMap<u16, u64>,
    received: BTreeSet<u64>,
    /// Released: never to be delivered again.
    advanced: BTreeSet<u64>,
}

struct Run {
    w: World,
    dice: Dice,
    writer: Peer,
    /// request -> key, and the number
    open: BTreeMap<u64, (Option<usize>, u64)>,
    candidates: [Candidates; 3],
    token: [u64; 3],
    promised: BTreeSet<u64>,
    client: Client,
    number: u64,
    /// The store refused something since the last recovery: what is released meanwhile waits.
    failing: bool,
}

impl Run {
    fn new(seed: u64) -> Run {
        let lane = LaneLimit {
            frames: 10_000,
            bytes: 1 << 24,
        };
        let limits = RealmLimits {
            outbox: OutboxLimits {
                ordered: lane,
                best: lane,
                sure: lane,
                // Sometimes most of what waits is on disk alone.
                resident: usize::try_from([0, 1, 3, 1_000][(seed % 4) as usize]).unwrap(),
                ..OutboxLimits::default()
            },
            ..RealmLimits::default()
        };
        let mut w = World::seeded(true, limits, seed);
        let writer = w.plain();
        let client = w.join(client("c").expiry(100_000));
        w.send(&client, sub(1, "q").qos(2).into());
        w.commit();
        w.lines(&client);
        w.auto_commit = false;
        let mut dice = Dice(seed);
        let failing = dice.once_in(2);
        Run {
            w,
            dice,
            writer,
            open: BTreeMap::new(),
            candidates: std::array::from_fn(|_| vec![(0, Value::Null)]),
            token: [0; 3],
            promised: BTreeSet::new(),
            client: Client {
                peer: Some(client),
                ..Client::default()
            },
            number: 0,
            failing,
        }
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..6 => self.write(),
            6..9 => self.message(),
            9..12 => self.client_works(),
            12..13 => self.client_moves(),
            13..14 => self.crash(),
            14..16 if self.failing && !self.w.pending.is_empty() && self.dice.once_in(2) => {
                self.w.fail();
            }
            14..16 if self.w.realm.is_store_down() && self.w.pending.is_empty() => {
                self.w.probe();
            }
            _ => {
                self.w.commit_one();
            }
        }
        self.read_writer();
    }

    fn write(&mut self) {
        self.number += 1;
        let key = usize::try_from(self.dice.below(3)).unwrap();
        let value = if self.dice.once_in(4) {
            Value::Null
        } else {
            json!(self.number)
        };
        self.candidates[key].push((self.number, value.clone()));
        self.open.insert(self.number, (Some(key), self.number));
        let list = if value.is_null() {
            json!([])
        } else {
            json!([value])
        };
        let writer = self.writer.clone();
        self.w
            .send(&writer, put(self.number, KEYS[key], list).into());
    }

    fn message(&mut self) {
        self.number += 1;
        self.open.insert(self.number, (None, self.number));
        let publish = publish("q", json!([self.number])).qos(2).ack(self.number);
        let writer = self.writer.clone();
        self.w.send(&writer, publish.into());
    }

    fn read_writer(&mut self) {
        let writer = self.writer.clone();
        for delivery in self.w.read(&writer) {
            match delivery {
                Delivery::Done {
                    request,
                    answer: Answer::Published { publication, .. },
                } => {
                    let (key, number) = self.open.remove(&request.0).unwrap();
                    let Some(key) = key else {
                        self.promised.insert(number);
                        continue;
                    };
                    // On disk: nothing older can come back.
                    self.candidates[key].retain(|(n, _)| *n >= number);
                    self.token[key] = self.token[key].max(publication.0);
                }
                Delivery::Refused { request, .. } => {
                    let (key, number) = self.open.remove(&request.0).unwrap();
                    if let Some(key) = key {
                        self.candidates[key].retain(|(n, _)| *n != number);
                    }
                }
                Delivery::Joined { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn client_works(&mut self) {
        let Some(peer) = self.client.peer.clone() else {
            return;
        };
        for delivery in self.w.read(&peer) {
            match delivery {
                Delivery::Event(event) => {
                    let number = event.event.payload.value().as_u64().unwrap();
                    assert!(
                        !self.client.advanced.contains(&number),
                        "{number} was released"
                    );
                    self.client.received.insert(number);
                    self.client
                        .unsettled
                        .insert(event.slot.unwrap().get(), number);
                }
                Delivery::Joined { present } => assert!(present, "the session lasts"),
                Delivery::Ended(EndReason::StorageUnavailable) => {
                    self.client.peer = None;
                    self.w.leave(&peer, Leave::Lost);
                    return;
                }
                // That is the promise: the receiver forgets it, so it must not come again.
                Delivery::Release { slot } => {
                    let number = self.client.unsettled.remove(&slot.get());
                    self.client.advanced.extend(number);
                    self.w.send(&peer, settle(slot.get()));
                }
                other => panic!("{other:?}"),
            }
        }
        let slots: Vec<(u16, u64)> = self
            .client
            .unsettled
            .iter()
            .map(|(s, n)| (*s, *n))
            .collect();
        for (slot, number) in slots {
            if self.dice.once_in(3) && self.client.received.contains(&number) {
                self.w.send(&peer, advance(slot));
            }
        }
    }

    fn client_moves(&mut self) {
        match self.client.peer.take() {
            Some(peer) => self.w.leave(&peer, Leave::Lost),
            None => self.client_joins(),
        }
    }

    fn client_joins(&mut self) {
        let peer = self.w.join(client("c").expiry(100_000));
        if self.dice.once_in(2) {
            self.w.commit();
        }
        // It may be told that the store does not work; then it has no connection.
        self.client.peer = (!self.w.realm.is_store_down()).then_some(peer.clone());
        if self.client.peer.is_none() {
            self.w.leave(&peer, Leave::Lost);
        }
    }

    fn crash(&mut self) {
        if self.client.peer.is_some() && self.w.pending.is_empty() && self.dice.once_in(2) {
            return;
        }
        self.w.auto_commit = true;
        self.w.restart_after(ms(10));
        self.open.clear();
        self.writer = self.w.plain();
        for (at, key) in KEYS.iter().enumerate() {
            let report = self.w.key(&self.writer.clone(), key);
            let value = report["value"].clone();
            let found = self.candidates[at].iter().rposition(|(_, v)| *v == value);
            let found = found.unwrap_or_else(|| {
                panic!("{key} is {value}, not one of {:?}", self.candidates[at])
            });
            let kept = self.candidates[at].swap_remove(found);
            self.candidates[at] = vec![kept];
            let token = report["token"].as_u64().unwrap();
            assert!(token >= self.token[at], "tokens grow over restarts");
            self.token[at] = token;
        }
        self.w.auto_commit = false;
        self.client.peer = None;
        self.client_joins();
    }

    fn finish(&mut self) {
        self.failing = false;
        while self.w.realm.is_store_down() {
            self.w.probe();
            self.w.commit();
        }
        self.w.commit();
        self.read_writer();
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        self.crash();
        self.w.auto_commit = true;
        self.w.commit();
        for _ in 0..500 {
            if self.client.peer.is_none() {
                self.client_joins();
            }
            self.client_works();
        }
        let lost: Vec<_> = self.promised.difference(&self.client.received).collect();
        assert!(lost.is_empty(), "promised, but never received: {lost:?}");
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_crash_at_any_commit() {
    for seed in 0..500 {
        let result = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..150 {
                run.step();
            }
            run.finish();
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}
