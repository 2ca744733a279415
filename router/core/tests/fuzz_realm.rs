//! Random sessions do random things to a realm; what must always hold is checked all the time.
//!
//! `FUZZ_SECONDS` sets how long (3 by default), `FUZZ_SEED` repeats one run.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits};
use router_core::model::{Answer, CallFailure, CancelMode, Delivery, EndReason, InvokePolicy};
use router_core::session::{Features, Join, Leave};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

const TOPICS: [&str; 4] = ["t/a", "t/b", "t/a/x", "u"];
const PATTERNS: [&str; 6] = ["t/a", "t/+", "t/#", "#", "+/a", "u"];
const KEYS: [&str; 3] = ["k/a", "k/b", "k/c"];
const LOCKS: [&str; 2] = ["lock/a", "lock/b"];
const PROCEDURES: [&str; 3] = ["p/a", "p/b", "p/c"];

/// What an open request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// An answer at once, or with the commit.
    Plain,
    /// A grant that may never come.
    Parked,
    /// The grant of a lock.
    Lock(usize),
    Subscribe,
    Register {
        procedure: usize,
        concurrency: Option<u32>,
    },
}

/// A connection and what it is owed.
struct Seat {
    peer: Peer,
    client: Option<u64>,
    open: BTreeMap<u64, Open>,
    calls: BTreeSet<u64>,
    /// Those of them that may wait for a key.
    acquires: BTreeSet<u64>,
    /// invocation -> registration
    invocations: BTreeMap<u64, u64>,
    last_invocation: u64,
    /// registration -> limit
    registrations: BTreeMap<u64, Option<u32>>,
    subscriptions: Vec<u64>,
    next: u64,
    ended: bool,
}

/// What a client keeps over its connections.
#[derive(Default)]
struct Kept {
    unsettled: BTreeSet<u16>,
    advanced: BTreeSet<u16>,
}

struct Fuzz {
    w: World,
    dice: Dice,
    seats: Vec<Seat>,
    kept: HashMap<u64, Kept>,
    observer: Peer,
    /// key -> last token seen
    tokens: HashMap<String, u64>,
    /// publisher -> last number seen
    numbers: HashMap<u64, u64>,
    number: u64,
    holders: [Option<u64>; 2],
    failing: bool,
}

fn limits(dice: &mut Dice) -> RealmLimits {
    let tight = dice.once_in(3);
    let lane = |frames| LaneLimit {
        frames,
        bytes: if tight { 4_000 } else { 1 << 20 },
    };
    RealmLimits {
        waiters_per_key: 6,
        waiters_per_session: 4,
        calls_queued_per_procedure: 6,
        history_events: 20,
        tombstones: 2,
        outbox: OutboxLimits {
            ordered: lane(if tight { 60 } else { 10_000 }),
            best: lane(20),
            sure: lane(20),
            ..OutboxLimits::default()
        },
        ..RealmLimits::default()
    }
}

impl Fuzz {
    fn new(seed: u64) -> Fuzz {
        let mut dice = Dice(seed);
        let durable = dice.once_in(2);
        let failing = durable && dice.once_in(2);
        let limits = limits(&mut dice);
        // One step may say more of registrations and subscriptions than a short queue holds.
        let own = match limits.outbox.ordered.frames < 1_000 {
            true => "wamp/session/#",
            false => "wamp/#",
        };
        let mut w = World::seeded(durable, limits, seed);
        w.auto_commit = dice.once_in(2);
        let observer = w.plain();
        for text in ["#", own] {
            w.send(&observer, sub(1, text).into());
        }
        w.commit();
        w.read(&observer);
        Fuzz {
            w,
            dice,
            seats: Vec::new(),
            kept: HashMap::new(),
            observer,
            tokens: HashMap::new(),
            numbers: HashMap::new(),
            number: 0,
            holders: [None; 2],
            failing,
        }
    }

    fn run(&mut self) {
        let steps = 30 + self.dice.below(200);
        for _ in 0..steps {
            self.step();
            self.watch();
        }
        self.settle_down();
        self.empty();
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..8 => self.come(),
            8..11 => self.go(),
            11..14 => self.time(),
            14..20 => self.store(),
            20..35 => self.read_somebody(),
            _ if self.seats.is_empty() => self.come(),
            35..48 => self.publish(),
            48..60 => self.write(),
            60..68 => self.lock(),
            68..76 => self.subscribe(),
            76..84 => self.register(),
            84..92 => self.call(),
            _ => self.answer(),
        }
    }

    fn come(&mut self) {
        if self.seats.len() >= 8 {
            return;
        }
        let dice = &mut self.dice;
        let features = Features {
            progressive_results: dice.once_in(2),
            call_canceling: dice.once_in(2),
            subscription_revocation: dice.once_in(2),
            progressive_invocations: dice.once_in(2),
            call_timeout: dice.once_in(2),
            ..Features::default()
        };
        let client = dice.once_in(2).then(|| dice.below(3));
        let join: Join = match client {
            None => ordered().features(features),
            Some(id) => {
                let expiry = *dice.pick(&[0, 0, 5, 60]);
                let mut join = client_join(id).expiry(expiry).features(features);
                if dice.once_in(3) {
                    join = join.clean();
                }
                if dice.once_in(2) {
                    let delay = *dice.pick(&[0, 3]);
                    let on = *dice.pick(&["t/a", "k/a", "wamp/x"]);
                    let publish = publish(on, json!(["last will"]));
                    join = join.will(
                        delay,
                        if dice.once_in(2) {
                            publish.retain()
                        } else {
                            publish
                        },
                    );
                }
                join.window(*dice.pick(&[1, 3, 100]))
            }
        };
        let clean = join.client.as_ref().is_some_and(|c| c.clean_start);
        let Ok(peer) = self.w.try_join(join) else {
            return;
        };
        if let Some(id) = client {
            // Its former connection hears of it and lets go.
            if let Some(at) = self.seats.iter().position(|seat| seat.client == Some(id)) {
                let old = self.seats.remove(at);
                self.forget_holder(old.peer.id().0, old.peer.id() != peer.id());
                let mut out = Vec::new();
                let generation = old.peer.connection.generation;
                old.peer
                    .outbox
                    .drain(generation, 1_000, self.w.now.unix_ms, &mut out);
                assert!(
                    matches!(out.last(), Some(Delivery::Ended(EndReason::TakenOver)))
                        || old.ended
                        || matches!(out.last(), Some(Delivery::Ended(_))),
                    "{out:?}"
                );
                old.peer.outbox.release(generation);
            }
            if peer.connection.generation == 1 {
                self.kept.remove(&id);
            }
            assert!(!clean || peer.connection.generation == 1, "a clean start");
        }
        self.seats.push(Seat {
            peer,
            client,
            open: BTreeMap::new(),
            calls: BTreeSet::new(),
            acquires: BTreeSet::new(),
            invocations: BTreeMap::new(),
            last_invocation: u64::MAX,
            registrations: BTreeMap::new(),
            subscriptions: Vec::new(),
            next: 1,
            ended: false,
        });
    }

    /// A lock's holder is free again; a durable session keeps it over its connections.
    fn forget_holder(&mut self, id: u64, over: bool) {
        if over {
            for holder in &mut self.holders {
                if *holder == Some(id) {
                    *holder = None;
                }
            }
        }
    }

    fn go(&mut self) {
        if self.seats.is_empty() {
            return;
        }
        let at = self.seat();
        let how = *self.dice.pick(&[Leave::Clean, Leave::Lost]);
        self.leave(at, how);
    }

    fn leave(&mut self, at: usize, how: Leave) {
        let seat = self.seats.remove(at);
        let sessions = self.w.size("sessions");
        self.w.leave(&seat.peer, how);
        let over = seat.ended || self.w.size("sessions") < sessions;
        self.forget_holder(seat.peer.id().0, over);
    }

    fn time(&mut self) {
        let by = *self.dice.pick(&[1, 40, 500, 2_000, 6_000, 61_000]);
        // A session that expires lets its locks go.
        self.w.pass(ms(by));
        let held: Vec<usize> = (0..2).filter(|l| self.holders[*l].is_some()).collect();
        for lock in held {
            let id = self.holders[lock].unwrap_or(0);
            if !self.seats.iter().any(|seat| seat.peer.id().0 == id) {
                self.holders[lock] = None;
            }
        }
    }

    fn store(&mut self) {
        if self.w.pending.is_empty() {
            if self.w.realm.is_store_down() && self.dice.once_in(2) {
                self.w.probe();
            }
        } else if self.failing && self.dice.once_in(3) {
            self.w.fail();
        } else {
            self.w.commit_one();
        }
    }

    fn seat(&mut self) -> usize {
        usize::try_from(self.dice.below(self.seats.len() as u64)).unwrap()
    }

    fn request(&mut self, at: usize, kind: Open) -> u64 {
        let seat = &mut self.seats[at];
        let request = seat.next;
        seat.next += 1;
        seat.open.insert(request, kind);
        request
    }

    fn send(&mut self, at: usize, command: impl Into<router_core::model::Command>) {
        let peer = self.seats[at].peer.clone();
        let command = command.into();
        if std::env::var("FUZZ_SEED").is_ok() {
            println!("{} <- {command:?}", self.seats[at].peer.id());
        }
        self.w.send(&peer, command);
    }

    fn publish(&mut self) {
        let at = self.seat();
        self.number += 1;
        let id = self.seats[at].peer.id().0;
        let on = *self.dice.pick(&TOPICS);
        let mut publish =
            publish(on, json!([id, self.number])).qos(u8::try_from(self.dice.below(3)).unwrap());
        if self.dice.once_in(4) {
            publish = publish.trace();
        }
        if self.dice.once_in(4) {
            publish = publish.echoed();
        }
        if self.dice.once_in(8) {
            publish = publish.expires(1);
        }
        if self.dice.once_in(2) {
            publish = publish.ack(self.request(at, Open::Plain));
        }
        self.send(at, publish);
    }

    fn value(&mut self) -> Value {
        self.dice
            .pick(&[
                json!([]),
                json!([1]),
                json!([2]),
                json!([{"a": 1}]),
                json!([null]),
                json!(["x"]),
            ])
            .clone()
    }

    fn write(&mut self) {
        let at = self.seat();
        let on = *self.dice.pick(&KEYS);
        let value = self.value();
        let mut publish = publish(on, value).retain();
        let mut kind = Open::Plain;
        if self.dice.once_in(2) {
            let when = self
                .dice
                .pick(&[json!(null), json!(1), json!(2), json!({"a": 1}), json!({})])
                .clone();
            publish = publish.when(when);
            match self.dice.below(3) {
                0 => {
                    kind = Open::Parked;
                    publish = publish.watch();
                }
                1 => {
                    kind = Open::Parked;
                    publish = publish.watch_for(ms(300));
                }
                _ => {}
            }
        }
        if self.dice.once_in(3) {
            publish = publish.will(self.dice.pick(&[json!(null), json!("w"), json!(1)]).clone());
            if self.dice.once_in(3) {
                publish = publish.if_lost();
            }
        }
        if self.dice.once_in(6) {
            publish = publish.merge();
        }
        if self.dice.once_in(8) {
            publish = publish.expires(2);
        }
        if self.dice.once_in(8) {
            publish = publish.trace();
        }
        if self.dice.once_in(6) && self.seats[at].client.is_some() && kind == Open::Plain {
            publish = publish
                .receipt(1 + u16::try_from(self.dice.below(5)).unwrap())
                .qos(2);
        }
        if !self.dice.once_in(3) {
            publish = publish.ack(self.request(at, kind));
        }
        self.send(at, publish);
    }

    fn lock(&mut self) {
        let at = self.seat();
        let lock = usize::try_from(self.dice.below(2)).unwrap();
        let id = self.seats[at].peer.id().0;
        if self.holders[lock] == Some(id) {
            let request = self.request(at, Open::Plain);
            self.holders[lock] = None;
            self.send(at, put(request, LOCKS[lock], json!([])));
            return;
        }
        if self.seats[at].client.is_some() {
            // A detached holder keeps its lock, which this model does not follow.
            return;
        }
        let request = self.request(at, Open::Lock(lock));
        self.send(
            at,
            put(request, LOCKS[lock], json!([id]))
                .when(json!(null))
                .watch()
                .will(json!(null)),
        );
    }

    fn subscribe(&mut self) {
        let at = self.seat();
        let known = self.seats[at].subscriptions.clone();
        if !known.is_empty() && self.dice.once_in(3) {
            let id = *self.dice.pick(&known);
            let request = self.request(at, Open::Plain);
            self.send(at, unsub(request, id));
            return;
        }
        let pattern = *self.dice.pick(&PATTERNS);
        let request = self.request(at, Open::Subscribe);
        let mut sub = sub(request, pattern).qos(u8::try_from(self.dice.below(3)).unwrap());
        if self.dice.once_in(3) {
            sub = sub.retained();
        }
        if self.dice.once_in(4) {
            let now = self.tokens.values().copied().max().unwrap_or(1);
            sub = sub.after(now.saturating_sub(5_000) + self.dice.below(10_000_000));
        }
        if self.dice.once_in(6) {
            sub = sub.snapshot();
        }
        if self.dice.once_in(6) {
            sub = sub.filter(json!({"a": 1}));
        }
        if self.dice.once_in(6) {
            sub = sub.no_local().identifier(3);
        }
        if self.dice.once_in(3) {
            let group = *self.dice.pick(&["g", "h"]);
            sub = sub.share(group);
        }
        self.send(at, sub);
    }

    fn register(&mut self) {
        let at = self.seat();
        let known: Vec<u64> = self.seats[at].registrations.keys().copied().collect();
        if !known.is_empty() && self.dice.once_in(3) {
            let id = *self.dice.pick(&known);
            self.seats[at].registrations.remove(&id);
            for of in self.seats[at]
                .invocations
                .values_mut()
                .filter(|of| **of == id)
            {
                *of = 0;
            }
            let request = self.request(at, Open::Plain);
            self.send(at, unregister(request, id));
            return;
        }
        // A policy of its own for each procedure, so that most registrations share.
        let procedure = usize::try_from(self.dice.below(3)).unwrap();
        let policy = [
            InvokePolicy::RoundRobin,
            InvokePolicy::FirstFree,
            InvokePolicy::Single,
        ][procedure];
        let concurrency = *self.dice.pick(&[None, Some(1), Some(2)]);
        let request = self.request(
            at,
            Open::Register {
                procedure,
                concurrency,
            },
        );
        self.send(
            at,
            shared(request, PROCEDURES[procedure], policy, concurrency),
        );
    }

    fn call(&mut self) {
        let at = self.seat();
        let calls: Vec<u64> = self.seats[at].calls.iter().copied().collect();
        if !calls.is_empty() && self.dice.once_in(3) {
            let mode =
                *self
                    .dice
                    .pick(&[CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait]);
            let request = *self.dice.pick(&calls);
            self.send(at, cancel(request, mode));
            return;
        }
        let seat = &mut self.seats[at];
        let request = seat.next;
        seat.next += 1;
        seat.calls.insert(request);
        let other = self
            .seats
            .iter()
            .map(|s| s.peer.id().0)
            .next_back()
            .unwrap_or(0);
        if self.dice.once_in(40) {
            self.send(at, call(request, "wamp/session/kill", json!([other])));
        } else if self.dice.once_in(10) {
            self.send(at, call(request, "fox/kv/get", json!(["k.a"])));
        } else if self.dice.once_in(3) {
            self.call_keys(at, request);
        } else if self.dice.once_in(2) {
            self.hold(at, request);
        } else {
            let timeout = self.dice.once_in(4).then(|| ms(400));
            let procedure = *self.dice.pick(&PROCEDURES);
            let progress = self.dice.once_in(2);
            self.send(
                at,
                call_with(request, procedure, json!([1]), progress, timeout),
            );
        }
    }

    /// What may wait has a timeout.
    fn call_keys(&mut self, at: usize, request: u64) {
        let key = (*self.dice.pick(&KEYS)).replace('/', ".");
        let last = self.tokens.values().copied().max().unwrap_or(0);
        let token = *self.dice.pick(&[0, last]);
        let when = self.dice.pick(&[json!(null), json!({"a": 1})]).clone();
        let (name, list) = match self.dice.below(6) {
            0 => ("put", json!([key, {"a": 1}, {"when": when, "watch": true}])),
            1 => ("put", json!([key, 1, {"when": when, "will": null}])),
            2 => ("delete", json!([key, {"token": token}])),
            3 => ("cas", json!([key, token, 2, {"ttl_ms": 100}])),
            4 => ("list", json!(["k."])),
            _ => ("watch", json!([key, {"token": token}])),
        };
        let progress = self.dice.once_in(2);
        let name = format!("fox/kv/{name}");
        self.send(at, call_with(request, &name, list, progress, Some(ms(300))));
    }

    /// A call about holds of keys that are written too.
    fn hold(&mut self, at: usize, request: u64) {
        let key = *self.dice.pick(&KEYS);
        let seen = self.tokens.get(key).copied().unwrap_or(1);
        let key = key.replace('/', ".");
        let ttl = self.dice.once_in(3).then(|| 1 + self.dice.below(2_000));
        let wait = self.dice.once_in(3).then(|| self.dice.below(1_000));
        let options = json!({
            "mode": self.dice.pick(&["mutex", "shared", "permit"]),
            "limit": 2,
            "ttl_ms": ttl,
            "wait_ms": wait,
            "reentrant": self.dice.once_in(2),
            "data": self.value(),
        });
        let (name, args) = match self.dice.below(10) {
            0..5 => ("acquire", json!([key, options])),
            5..8 => ("release", json!([key, seen])),
            8 => ("renew", json!([seen, {"ttl_ms": ttl}])),
            _ => ("break", json!([key])),
        };
        if name == "acquire" {
            self.seats[at].acquires.insert(request);
        }
        let timeout = self.dice.once_in(4).then(|| ms(400));
        let progress = self.dice.once_in(2);
        let procedure = format!("fox/lock/{name}");
        self.send(at, call_with(request, &procedure, args, progress, timeout));
    }

    fn answer(&mut self) {
        let at = self.seat();
        let seat = &self.seats[at];
        let open: Vec<u64> = seat.invocations.keys().copied().collect();
        if open.is_empty() {
            if self.dice.once_in(20) {
                // An answer nobody can have asked for ends the session; an old one is ignored.
                let last = self.seats[at].last_invocation;
                if self.dice.once_in(3) {
                    self.send(at, answer(1 << 40, json!([])));
                    self.close_ended(at);
                } else if last != u64::MAX && last > 0 {
                    self.send(at, answer(1, json!([])));
                }
            }
            return;
        }
        let invocation = *self.dice.pick(&open);
        match self.dice.below(4) {
            0 => self.send(at, progress(invocation, json!([0]))),
            1 => {
                self.seats[at].invocations.remove(&invocation);
                let error = *self.dice.pick(&["my.error", "wamp.error.unavailable"]);
                self.send(at, fails(invocation, error, json!([])));
            }
            _ => {
                self.seats[at].invocations.remove(&invocation);
                self.send(at, answer(invocation, json!([1])));
            }
        }
    }

    fn close_ended(&mut self, at: usize) {
        let seat = self.seats.remove(at);
        let lines = self.w.lines(&seat.peer);
        assert!(
            lines.last().is_some_and(|line| line.starts_with("ended")),
            "it was told: {lines:?}"
        );
        seat.peer.outbox.release(seat.peer.connection.generation);
        self.w.leave(&seat.peer, Leave::Lost);
        self.forget_holder(seat.peer.id().0, true);
    }

    fn read_somebody(&mut self) {
        if !self.seats.is_empty() {
            let at = self.seat();
            self.read(at);
        }
    }

    /// Reads what a seat got and checks every line of it against what it is owed.
    fn read(&mut self, at: usize) {
        let peer = self.seats[at].peer.clone();
        let deliveries = self.w.read(&peer);
        let memory = !self.failing && self.w.auto_commit;
        let over = matches!(deliveries.last(), Some(Delivery::Ended(_)));
        let mut granted = Vec::new();
        for delivery in &deliveries {
            let seat = &mut self.seats[at];
            if std::env::var("FUZZ_SEED").is_ok() {
                println!(
                    "{} {} {}",
                    seat.peer.id(),
                    peer.connection.generation,
                    line(delivery)
                );
            }
            assert!(!seat.ended, "something after the end: {delivery:?}");
            match delivery {
                Delivery::Joined { present } => {
                    assert_eq!(*present, seat.peer.connection.generation > 1);
                }
                Delivery::Done { request, answer } => {
                    let kind = seat.open.remove(&request.0);
                    let kind = kind.unwrap_or_else(|| panic!("unasked: {delivery:?}"));
                    match (kind, answer) {
                        (Open::Subscribe, Answer::Subscribed { subscription, .. }) => {
                            seat.subscriptions.push(subscription.0);
                        }
                        (Open::Register { concurrency, .. }, Answer::Registered(id)) => {
                            seat.registrations.insert(id.0, concurrency);
                        }
                        // It held it until it ended, which it reads only now.
                        (Open::Lock(_), Answer::Published { .. }) if over => {}
                        (Open::Lock(lock), Answer::Published { .. }) => {
                            let id = seat.peer.id().0;
                            if let (Some(former), true) = (self.holders[lock], memory) {
                                granted.push((lock, former));
                            }
                            self.holders[lock] = Some(id);
                        }
                        (Open::Subscribe | Open::Register { .. } | Open::Lock(_), other) => {
                            panic!("{kind:?} answered with {other:?}")
                        }
                        _ => {}
                    }
                }
                Delivery::Refused { request, .. } => {
                    let known = seat.open.remove(&request.0);
                    assert!(known.is_some(), "unasked: {delivery:?}");
                }
                Delivery::Result {
                    request, progress, ..
                } => {
                    let known = if *progress {
                        seat.calls.contains(&request.0)
                    } else {
                        seat.calls.remove(&request.0)
                    };
                    assert!(known, "a call ends once: {delivery:?}");
                }
                Delivery::CallFailed { request, failure } => {
                    assert!(
                        seat.calls.remove(&request.0),
                        "a call ends once: {delivery:?}"
                    );
                    let CallFailure::Realm(refusal) = failure else {
                        continue;
                    };
                    assert_ne!(refusal.kind, router_core::model::ErrorKind::Internal);
                }
                Delivery::Invocation(call) => {
                    let id = call.invocation.0;
                    if seat.last_invocation != u64::MAX {
                        assert_eq!(id, seat.last_invocation + 1, "ids are sequential");
                    }
                    seat.last_invocation = id;
                    // One that was withdrawn meanwhile is no part of a later registration.
                    let known = seat.registrations.contains_key(&call.registration.0);
                    let registration = if known { call.registration.0 } else { 0 };
                    seat.invocations.insert(id, registration);
                    if let Some(Some(most)) = seat.registrations.get(&call.registration.0) {
                        let same = seat
                            .invocations
                            .values()
                            .filter(|r| **r == call.registration.0);
                        let running = same.count();
                        assert!(running <= *most as usize, "{running} of {most}");
                    }
                }
                Delivery::Interrupt { invocation, .. } => {
                    assert!(invocation.0 <= seat.last_invocation);
                }
                Delivery::Event(event) => {
                    let client = seat.client;
                    if let (Some(slot), Some(id)) = (event.slot, client) {
                        let kept = self.kept.entry(id).or_default();
                        let fresh = kept.unsettled.insert(slot.get());
                        assert!(
                            fresh || event.repeated,
                            "slot {slot} is taken: {}",
                            line(delivery)
                        );
                    }
                }
                Delivery::Release { slot } => {
                    let id = seat.client.unwrap_or(u64::MAX);
                    let kept = self.kept.entry(id).or_default();
                    assert!(kept.advanced.contains(&slot.get()), "never advanced");
                }
                Delivery::Revoked { .. } | Delivery::Unregistered { .. } => {}
                Delivery::Ended(_) => seat.ended = true,
            }
        }
        for (lock, former) in granted {
            let observer = self.observer.clone();
            let alive = self
                .w
                .ask(&observer, call(1, "wamp/session/get", json!([former])));
            let gone = alive.iter().any(|line| line == "failed 1 NoSuchSession");
            assert!(gone, "two hold {}: {alive:?}", LOCKS[lock]);
        }
        if self.seats[at].ended {
            let seat = self.seats.remove(at);
            seat.peer.outbox.release(seat.peer.connection.generation);
            self.w.leave(&seat.peer, Leave::Lost);
            self.forget_holder(seat.peer.id().0, true);
            return;
        }
        self.settle_some(at);
    }

    fn settle_some(&mut self, at: usize) {
        let Some(id) = self.seats[at].client else {
            return;
        };
        let kept = self.kept.entry(id).or_default();
        let slots: Vec<u16> = kept.unsettled.iter().copied().collect();
        for n in slots {
            match self.dice.below(4) {
                0 => {
                    let kept = self.kept.entry(id).or_default();
                    kept.advanced.insert(n);
                    self.send(at, advance(n));
                }
                1 => {
                    let kept = self.kept.entry(id).or_default();
                    kept.unsettled.remove(&n);
                    self.send(at, settle(n));
                }
                _ => {}
            }
        }
    }

    /// The observer sees everything in the realm's order.
    fn watch(&mut self) {
        let strict = !self.failing;
        for delivery in self.w.read(&self.observer.clone()) {
            let Delivery::Event(event) = &delivery else {
                continue;
            };
            let event = &event.event;
            if let (Some(token), true) = (event.token, strict) {
                let last = self.tokens.insert(event.topic.to_string(), token);
                assert!(
                    last.is_none_or(|last| last < token),
                    "tokens grow: {event:?}"
                );
            }
            // The realm's own events hold pairs of numbers too.
            if event.publisher.is_some()
                && let Value::Array(list) = event.payload.value()
                && let [Value::Number(id), Value::Number(number)] = list.as_slice()
            {
                let number = number.as_u64().unwrap();
                let last = self.numbers.insert(id.as_u64().unwrap(), number);
                assert!(
                    last.is_none_or(|last| last < number),
                    "order of a publisher"
                );
            }
        }
    }

    /// Everybody answers what is owed and reads what came of it, until nothing moves.
    fn settle_down(&mut self) {
        self.failing = false;
        self.w.auto_commit = true;
        // What waits for a key waits no longer.
        self.w.pass(ms(300));
        for _ in 0..10_000 {
            if self.w.realm.is_store_down() && self.w.pending.is_empty() {
                self.w.probe();
            }
            self.w.commit();
            let mut moved = false;
            let mut at = 0;
            while at < self.seats.len() {
                let count = self.seats.len();
                self.read(at);
                if self.seats.len() < count {
                    moved = true;
                    continue;
                }
                for invocation in std::mem::take(&mut self.seats[at].invocations).into_keys() {
                    moved = true;
                    self.send(at, answer(invocation, json!([])));
                }
                if !moved {
                    // What nobody is going to release is waited for in vain.
                    for request in std::mem::take(&mut self.seats[at].acquires) {
                        moved = true;
                        self.send(at, cancel(request, CancelMode::Kill));
                    }
                }
                at += 1;
            }
            self.drain_observer();
            if !moved && self.w.pending.is_empty() && !self.w.realm.is_store_down() {
                break;
            }
        }
        let parked: usize = KEYS
            .iter()
            .chain(&LOCKS)
            .map(|key| {
                let observer = self.observer.clone();
                self.w.key(&observer, key)["waiters"].as_u64().unwrap()
            })
            .sum::<u64>()
            .try_into()
            .unwrap();
        let mut waiting = 0;
        for seat in &self.seats {
            assert!(
                seat.calls.is_empty(),
                "a call never ended: {:?}",
                seat.calls
            );
            for (request, kind) in &seat.open {
                assert!(
                    matches!(kind, Open::Parked | Open::Lock(_)),
                    "{request} ({kind:?}) was never answered"
                );
                waiting += 1;
            }
        }
        assert!(
            waiting <= parked,
            "{waiting} wait for an answer, {parked} are parked"
        );
        assert_eq!(self.w.size("open_calls"), 0);
    }

    fn drain_observer(&mut self) {
        let observer = self.observer.clone();
        self.w.read(&observer);
    }

    /// Nothing is left of those who left.
    fn empty(&mut self) {
        while !self.seats.is_empty() {
            self.leave(0, Leave::Lost);
            self.drain_observer();
        }
        self.w.pass(Duration::from_secs(100));
        self.w.commit();
        self.drain_observer();
        let observer = self.observer.clone();
        for key in KEYS.iter().chain(&LOCKS) {
            let report = self.w.key(&observer, key);
            assert_eq!(
                (&report["waiters"], &report["owner"]),
                (&json!(0), &json!(null)),
                "{key}"
            );
        }
        self.w.leave(&observer, Leave::Clean);
        self.w.commit();
        let left: Vec<_> = self
            .w
            .realm
            .sizes()
            .into_iter()
            .filter(|(name, size)| *name != "retained_values" && *size > 0)
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        for space in [
            router_core::records::SESSIONS,
            router_core::records::QUEUES,
            router_core::records::RECEIPTS,
            router_core::records::LAST_WILLS,
            router_core::records::SUBSCRIPTIONS,
        ] {
            assert_eq!(self.w.records(space), 0, "left on disk in {space:?}");
        }
    }
}

fn client_join(id: u64) -> Join {
    client(&format!("client-{id}"))
}

#[test]
fn random_sessions_cannot_break_the_realm() {
    if let Ok(seed) = std::env::var("FUZZ_SEED") {
        Fuzz::new(seed.parse().unwrap()).run();
        return;
    }
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut executions = 0_u64;
    while Instant::now() < end {
        let seed = executions + seconds * 1_000_000;
        let result = std::panic::catch_unwind(|| Fuzz::new(seed).run());
        assert!(result.is_ok(), "failed with FUZZ_SEED={seed}");
        executions += 1;
    }
    println!("{executions} executions");
    assert!(executions > 0);
}
