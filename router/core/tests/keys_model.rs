//! `list` against a plain filter, `cas` by many sessions at a time, and `watch` against a list of
//! everything that ever happened to each key.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use proptest::prelude::*;
use router_core::limits::RealmLimits;
use router_core::model::{CancelMode, Command, Delivery};
use router_core::session::Leave;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn kv(request: u64, name: &str, list: Value) -> Command {
    call(request, &format!("fox/kv/{name}"), list)
}

/// Values of the results of one request, and whether the last one was the end.
fn results(w: &mut World, peer: &Peer) -> Vec<(u64, bool, Option<Value>)> {
    let of = |delivery| match delivery {
        Delivery::Result {
            request,
            payload,
            progress,
        } => Some((request.0, !progress, Some(payload.value().clone()))),
        Delivery::CallFailed { request, .. } => Some((request.0, true, None)),
        _ => None,
    };
    w.read(peer).into_iter().filter_map(of).collect()
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", "a-", "a0", "$s", "wampx"])
}

fn key() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..4).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_list_is_what_a_plain_filter_finds(
        keys in prop::collection::vec((key(), prop::bool::weighted(0.8)), 0..40),
        prefix in prop_oneof![Just(String::new()), key(), key().prop_map(|k| k + "/")],
        limit in 1_usize..9,
    ) {
        let mut w = World::memory();
        let a = w.plain();
        let mut kept = BTreeMap::new();
        for (n, (key, is_kept)) in keys.iter().enumerate() {
            let list = if *is_kept { json!([n]) } else { json!([]) };
            w.send(&a, publish(key, list).retain().into());
            match is_kept {
                true => kept.insert(key.clone(), n),
                false => kept.remove(key),
            };
        }
        w.read(&a);
        let is_found = |key: &str| {
            key.starts_with(&prefix) && (!key.starts_with('$') || prefix.starts_with('$'))
        };
        let expected: Vec<(String, usize)> =
            kept.into_iter()
            .filter(|(key, _)| is_found(key))
            .map(|(key, n)| (key.replace('/', "."), n))
            .collect();
        let mut found = Vec::new();
        let mut after = Value::Null;
        loop {
            w.send(&a, kv(1, "list", json!([prefix, {"limit": limit, "after": after}])));
            let [(_, true, Some(page))] = &results(&mut w, &a)[..] else {
                panic!("no page");
            };
            let rows = page["keys"].as_array().unwrap();
            for row in rows {
                let value = usize::try_from(row["value"].as_u64().unwrap()).unwrap();
                found.push((row["key"].as_str().unwrap().to_owned(), value));
                after = row["key"].clone();
            }
            prop_assert_eq!(rows.len() == limit || page["more"] == false, true);
            if page["more"] == false {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }
}

/// Many sessions add to one counter, each with what it read last: nothing is lost.
#[test]
fn cas_is_one_step_whoever_else_tries() {
    let mut w = World::durable();
    let mut dice = Dice(7);
    let peers: Vec<Peer> = (0..20).map(|_| w.plain()).collect();
    // session -> token and value it believes in
    let mut known = vec![(0_u64, 0_u64); peers.len()];
    let (mut added, mut conflicts) = (0, 0);
    for step in 0..5_000 {
        let at = usize::try_from(dice.below(peers.len() as u64)).unwrap();
        let (token, value) = known[at];
        w.auto_commit = dice.once_in(2);
        w.send(
            &peers[at],
            kv(step + 1, "cas", json!(["n", token, value + 1])),
        );
        w.commit();
        match &results(&mut w, &peers[at])[..] {
            [(_, true, Some(done))] => {
                added += 1;
                known[at] = (done["token"].as_u64().unwrap(), value + 1);
            }
            [(_, true, None)] => {
                conflicts += 1;
                let kept = w.key(&peers[at], "n");
                known[at] = (
                    kept["token"].as_u64().unwrap(),
                    kept["value"].as_u64().unwrap(),
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(w.key(&peers[0], "n")["value"], added);
    assert!(added > 200 && conflicts > 200, "{added} {conflicts}");
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// What a watcher was told so far.
struct Watch {
    key: usize,
    told: u64,
    progress: bool,
}

struct Model {
    w: World,
    dice: Dice,
    writer: Peer,
    /// An observer's copy of everything that happened: key -> token and value, in order.
    log: [Vec<(u64, Value)>; 3],
    /// session -> its peer and its open calls
    watchers: Vec<(Peer, BTreeMap<u64, Watch>)>,
    next: u64,
    told: usize,
}

impl Model {
    fn new(seed: u64) -> Model {
        let dice = Dice(seed);
        let mut w = World::seeded(seed.is_multiple_of(2), RealmLimits::default(), seed);
        let writer = w.plain();
        w.subscribed(&writer, "#");
        let watchers = (0..4).map(|_| (w.plain(), BTreeMap::new())).collect();
        Model {
            w,
            dice,
            writer,
            log: Default::default(),
            watchers,
            next: 10,
            told: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..8 => self.write(),
            8..12 => self.watch(),
            12 => self.cancel(),
            13 => self.leave(),
            14 => {
                self.w.auto_commit = self.dice.once_in(2);
                self.w.commit();
            }
            15..17 => {
                self.w.commit_one();
            }
            _ => self.read(),
        }
        self.observe();
    }

    fn write(&mut self) {
        let key = KEYS[usize::try_from(self.dice.below(3)).unwrap()];
        self.next += 1;
        let command = match self.dice.below(4) {
            0 => publish(key, json!([])).retain().echoed().into(),
            1 => publish(key, json!([self.next])).retain().echoed().into(),
            2 => kv(self.next, "put", json!([key, self.next])),
            _ => kv(self.next, "delete", json!([key])),
        };
        self.w.send(&self.writer, command);
    }

    /// Everything that happened is seen by an ordinary subscriber, at once and in order.
    fn observe(&mut self) {
        for delivery in self.w.read(&self.writer) {
            if let Delivery::Event(event) = delivery {
                let event = event.event;
                let key = KEYS
                    .iter()
                    .position(|key| *key == event.topic.text())
                    .unwrap();
                let value = event.payload.value().clone();
                self.log[key].push((event.token.unwrap(), value));
            }
        }
    }

    fn last(&self, key: usize) -> u64 {
        self.log[key].last().map_or(0, |(token, _)| *token)
    }

    fn watch(&mut self) {
        let at = usize::try_from(self.dice.below(4)).unwrap();
        let key = usize::try_from(self.dice.below(3)).unwrap();
        self.next += 1;
        let progress = self.dice.once_in(2);
        let last = self.last(key);
        let (options, told) = match self.dice.below(3) {
            0 => (json!({}), last),
            1 => (json!({"token": last}), last),
            // What was missed in between is not told, only what holds now.
            _ => {
                let list = &self.log[key];
                let known = list.len().checked_sub(2).map_or(0, |at| list[at].0);
                (json!({"token": known}), known)
            }
        };
        let list = json!([KEYS[key], options]);
        let command = call_with(self.next, "fox/kv/watch", list, progress, None);
        let (peer, open) = &mut self.watchers[at];
        open.insert(
            self.next,
            Watch {
                key,
                told,
                progress,
            },
        );
        let peer = peer.clone();
        self.w.send(&peer, command);
    }

    fn cancel(&mut self) {
        let at = usize::try_from(self.dice.below(4)).unwrap();
        self.read_at(at);
        let Some((&request, _)) = self.watchers[at].1.iter().next() else {
            return;
        };
        let peer = self.watchers[at].0.clone();
        self.w.send(&peer, cancel(request, CancelMode::Kill));
    }

    fn leave(&mut self) {
        let at = usize::try_from(self.dice.below(4)).unwrap();
        let peer = self.watchers[at].0.clone();
        self.w.leave(&peer, Leave::Lost);
        self.watchers[at] = (self.w.plain(), BTreeMap::new());
    }

    fn read(&mut self) {
        let at = usize::try_from(self.dice.below(4)).unwrap();
        self.read_at(at);
    }

    fn read_at(&mut self, at: usize) {
        let peer = self.watchers[at].0.clone();
        for (request, is_end, value) in results(&mut self.w, &peer) {
            let open = &mut self.watchers[at].1;
            let watch = open.get_mut(&request).unwrap();
            if let Some(value) = value {
                let log = &self.log[watch.key];
                // The next change behind the one told last, with no other in between.
                let next = log.iter().find(|(token, _)| *token > watch.told).unwrap();
                assert_eq!(
                    (&value["token"], &value["value"]),
                    (&json!(next.0), &next.1)
                );
                assert_eq!(is_end, !watch.progress);
                watch.told = next.0;
                self.told += 1;
            }
            if is_end {
                open.remove(&request);
            }
        }
    }

    /// Nothing that happened was kept from anybody who still watches.
    fn settle(&mut self) {
        self.w.auto_commit = true;
        self.w.commit();
        for at in 0..4 {
            self.read_at(at);
            for watch in self.watchers[at].1.values() {
                assert_eq!(watch.told.max(self.last(watch.key)), watch.told);
            }
        }
        let open: usize = self.watchers.iter().map(|(_, open)| open.len()).sum();
        assert_eq!(self.w.size("open_calls"), open);
    }
}

#[test]
fn a_watch_misses_no_change_and_repeats_none() {
    let mut told = 0;
    for seed in 0..100 {
        let mut model = Model::new(seed);
        for _ in 0..500 {
            model.step();
        }
        model.settle();
        told += model.told;
    }
    assert!(told > 10_000, "{told}");
}
