//! Sessions that acquire, wait, renew, release, cancel, write, break and end at random, on a disk
//! that fails and recovers, against a plain reading of the rules. What is checked after each step:
//! never two holders that exclude each other; first come, first served; tokens grow; each request
//! answered exactly once, and with what the rules say; and in the end nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod operations;
mod reference;

use common::*;
use operations::{Run, value};
use reference::{Holder, KEYS, Mode, Raw, Said, What};
use router_core::model::{CallFailure, Delivery};
use serde_json::{Value, json};

/// Of each kind.
const SEEDS: u64 = 125;
const STEPS: usize = 400;

impl Run {
    /// The observer heard of each change of each key, in order, and tokens only ever grew.
    fn hear(&mut self) {
        let observer = self.observer.clone();
        let mut heard: [Vec<(u64, bool)>; KEYS.len()] = Default::default();
        for delivery in self.w.read(&observer) {
            let Delivery::Event(event) = delivery else {
                panic!("{delivery:?}");
            };
            let event = &event.event;
            let key = KEYS.iter().position(|k| *k == event.topic.text()).unwrap();
            assert!(event.publication.0 > self.latest[key], "tokens grow");
            self.latest[key] = event.publication.0;
            assert_eq!(event.token, Some(event.publication.0));
            heard[key].push((event.publication.0, event.clears));
        }
        for (key, heard) in heard.into_iter().enumerate() {
            let said = std::mem::take(&mut self.reference.said[key]);
            assert_eq!(heard.len(), said.len(), "{} {said:?}", KEYS[key]);
            for ((token, clears), said) in heard.into_iter().zip(said) {
                match said {
                    Said::Other { clears: expected } => assert_eq!(clears, expected),
                    Said::Granted(uid) => {
                        assert!(!clears);
                        self.grants.push((self.session_of(uid), uid, token));
                    }
                }
            }
        }
    }

    /// Who was granted; nobody any more if that is over already.
    fn session_of(&self, uid: u64) -> usize {
        let mut holders = self.reference.keys.iter().flat_map(|key| &key.holders);
        let holder = holders.find(|holder| holder.uid == uid);
        holder.map_or(usize::MAX, |holder| holder.session)
    }

    /// After values were taken back, what is published is read from the realm; who holds and who
    /// waits is not.
    fn resync(&mut self) {
        let observer = self.observer.clone();
        for delivery in self.w.read(&observer) {
            let Delivery::Event(event) = delivery else {
                panic!("{delivery:?}");
            };
            let key = KEYS.iter().position(|k| *k == event.event.topic.text());
            let token = event.event.publication.0;
            let latest = &mut self.latest[key.unwrap()];
            *latest = (*latest).max(token);
        }
        for key in 0..KEYS.len() {
            let shown = self.inspect(key);
            let state = &mut self.reference.keys[key];
            let at = (1..3).find(|at| value(*at) == shown["value"]);
            if let [holder] = state.holders.as_mut_slice()
                && holder.mode == Mode::Alone
            {
                holder.data = at.unwrap_or(0);
                state.raw = None;
                continue;
            }
            let owner = shown["holders"][0]["session"].as_u64();
            let peers = &self.peers;
            let owner = owner.map(|id| {
                let mut found = peers.iter().filter(|(_, peer)| peer.id().0 == id);
                *found.next().expect("the dead hold nothing").0
            });
            state.raw = at
                .filter(|_| state.holders.is_empty())
                .map(|value| Raw { value, owner });
        }
    }

    fn inspect(&mut self, key: usize) -> Value {
        let observer = self.observer.clone();
        let args = json!([KEYS[key]]);
        self.w.send(&observer, call(1, "fox/lock/inspect", args));
        let delivery = self.w.read(&observer).pop();
        match delivery {
            Some(Delivery::Result { payload, .. }) => payload.value().clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Each session was told what the rules say, once.
    fn check_told(&mut self) {
        for (session, peer) in self.peers.clone() {
            let mut told: Vec<String> = self.w.read(&peer).iter().map(text).collect();
            let mut expected = self.reference.told.remove(&session).unwrap_or_default();
            told.sort_unstable();
            expected.sort_unstable();
            assert_eq!(told, expected, "session {session}");
        }
        assert!(self.reference.told.values().all(Vec::is_empty));
    }

    /// The realm shows the holders, the line and the value that the rules say.
    fn check_keys(&mut self) {
        for (key, name) in KEYS.iter().enumerate() {
            let shown = self.inspect(key);
            let state = self.reference.keys[key].clone();
            let ids = |session: usize| self.peers[&session].id().0;
            let line: Vec<Value> = state
                .line
                .iter()
                .filter_map(|waiter| {
                    let mode = match &waiter.what {
                        What::Hold(ask) => word(ask.mode),
                        What::Write(write) if write.when == Some(0) => "write",
                        What::Write(_) => return None,
                    };
                    Some(json!([ids(waiter.session), mode]))
                })
                .collect();
            let waiters = shown["waiters"].as_array().unwrap().iter();
            let waiters: Vec<Value> = waiters
                .map(|waiter| {
                    let mode = waiter["mode"].as_str().unwrap();
                    json!([waiter["session"], mode.replace("exclusive", "mutex")])
                })
                .collect();
            assert_eq!(waiters, line, "{name}");
            let holders = shown["holders"].as_array().unwrap();
            match &state.raw {
                Some(raw) => {
                    assert_eq!(shown["value"], value(raw.value));
                    let owner = raw.owner.map(ids);
                    assert_eq!(
                        holders.first().map(|h| h["session"].as_u64().unwrap()),
                        owner
                    );
                }
                None => self.check_holders(&state.holders, holders, &shown["value"]),
            }
        }
    }

    fn check_holders(&self, expected: &[Holder], shown: &[Value], value: &Value) {
        assert_eq!(shown.len(), expected.len());
        for (shown, holder) in shown.iter().zip(expected) {
            assert_eq!(shown["session"], self.peers[&holder.session].id().0);
            assert_eq!(shown["permits"], holder.permits);
            assert_eq!(shown["count"], holder.count);
            let ends = holder.ends.map(|(at, _)| at + EPOCH_MS);
            assert_eq!(shown["expires"], json!(ends));
            let known = self.grants.iter().find(|(_, uid, _)| *uid == holder.uid);
            assert_eq!(shown["token"], known.unwrap().2);
        }
        let alone = expected.iter().any(|holder| holder.mode == Mode::Alone);
        assert!(
            !alone || expected.len() == 1,
            "two holders exclude each other"
        );
        let taken: u64 = expected.iter().map(|holder| holder.permits).sum();
        let says = match expected.first() {
            None => json!(null),
            Some(holder) => match holder.mode {
                Mode::Alone if holder.data == 0 => json!(true),
                Mode::Alone => operations::value(holder.data),
                Mode::Shared => json!({"mode": "shared", "holders": expected.len()}),
                Mode::Permit => {
                    assert!(taken <= holder.limit);
                    json!({"mode": "permit", "limit": holder.limit, "taken": taken})
                }
            },
        };
        assert_eq!(*value, says);
    }

    fn check(&mut self) {
        self.hear();
        self.check_told();
        // What is shown waits for the disk too.
        let is_stored = self.w.pending.is_empty() && self.reference.held.is_empty();
        if is_stored && self.dice.once_in(4) {
            self.check_keys();
        }
    }

    /// Everybody goes, and nothing stays but what was published to stay.
    fn finish(&mut self) {
        for (session, peer) in self.peers.clone() {
            self.end(session, &peer);
        }
        while self.reference.down || !self.w.pending.is_empty() {
            self.disk();
        }
        self.check();
        let kept = self.reference.keys.iter().filter(|key| key.raw.is_some());
        assert_eq!(self.w.size("retained_values"), kept.count());
        for name in ["holds", "timers", "open_calls"] {
            assert_eq!(self.w.size(name), 0, "{name}");
        }
        assert_eq!(self.w.size("sessions"), 1, "the observer");
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Alone => "mutex",
        Mode::Shared => "shared",
        Mode::Permit => "permit",
    }
}

/// A delivery in the words of the reference.
fn text(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Result {
            request,
            payload,
            progress,
        } => {
            let value = payload.value();
            let expires = value["expires"].as_u64().map(|at| at - EPOCH_MS);
            if *progress {
                format!("place {request} {}", value["position"])
            } else if value["position"] == 0 {
                let key = value["key"].as_str().unwrap();
                format!("granted {request} {key} {expires:?}")
            } else if let Some(left) = value["held"].as_u64() {
                format!("released {request} {left}")
            } else if let Some(broken) = value["broken"].as_array() {
                format!("broke {request} {}", broken.len())
            } else {
                format!("renewed {request} {expires:?}")
            }
        }
        Delivery::CallFailed {
            request,
            failure: CallFailure::Realm(refusal),
        } => format!("failed {request} {:?}", refusal.kind),
        Delivery::Done { request, .. } => format!("done {request}"),
        other => line(other),
    }
}

#[test]
fn every_session_of_a_random_realm_holds_and_waits_as_a_plain_reading_of_the_rules_says() {
    runs(false);
}

#[test]
fn so_it_does_on_a_disk_that_fails_and_recovers() {
    let losses = runs(true);
    assert!(losses > 100, "{losses} holds were taken back only");
}

/// Random runs; answers how many holds were taken back.
fn runs(durable: bool) -> u64 {
    let (mut grants, mut waits, mut losses) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(durable, seed);
        for _ in 0..STEPS {
            run.step();
            run.check();
        }
        run.finish();
        let counters = run.w.realm.counters();
        grants += counters.lock_grants;
        waits += counters.lock_waits;
        losses += counters.lock_rollbacks;
    }
    assert!(
        grants > 5_000 && waits > 5_000,
        "the dice exercised too little: {grants} grants, {waits} waits"
    );
    losses
}
