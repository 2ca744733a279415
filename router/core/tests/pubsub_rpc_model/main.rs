//! A hundred thousand random operations of publishers, subscribers, callers and callees, each compared
//! with a reference that keeps plain lists and looks at everybody: what every session is told, in what
//! order, and what is left in the realm's tables.
//!
//! `FUZZ_SEED` repeats one world.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod broker;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod dealer;
mod matching;
mod operations;
mod order;
mod reference;

use common::*;
use order::Order;
use reference::Reference;
use router_core::limits::RealmLimits;
use router_core::model::{Command, Delivery};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

const WORLDS: u64 = 10;
const OPERATIONS: usize = 10_000;
/// Lines shown of what went before a failure.
const TRAIL: usize = 400;

/// What must have been told often enough, in words of [`kind_of`].
const TRIED: [&str; 29] = [
    "done published",
    "done registered",
    "done subscribed",
    "done unregistered",
    "done unsubscribed",
    "ended violation",
    "event by",
    "failed Canceled",
    "failed DisclosureNotAllowed",
    "failed FeatureNotSupported",
    "failed InvalidArgument",
    "failed NoAvailableCallee",
    "failed NoSuchProcedure",
    "failed QuotaExceeded",
    "failed Timeout",
    "interrupt Timeout",
    "interrupt wanted",
    "invocation by",
    "invocation more",
    "invocation progress",
    "invocation within",
    "refused DisclosureNotAllowed",
    "refused NoSuchRegistration",
    "refused NoSuchSubscription",
    "refused NotAuthorized",
    "refused ProcedureAlreadyExists",
    "refused QuotaExceeded",
    "result more",
    "unregistered another",
];

fn limits() -> RealmLimits {
    RealmLimits {
        subscriptions_per_session: 7,
        registrations_per_session: 5,
        calls_per_session: 12,
        calls_queued_per_procedure: 5,
        parts_per_call: 3,
        ..RealmLimits::default()
    }
}

struct Run {
    w: World,
    dice: Dice,
    seed: u64,
    peers: BTreeMap<u64, Peer>,
    reference: Reference,
    order: Order,
    /// Everybody reads at once; after other operations some do.
    all_read: bool,
    /// Requests and bodies, none of them twice.
    number: u64,
    /// The latest operations, for whoever must find out.
    trail: VecDeque<String>,
    /// How often each kind of thing was told.
    tally: BTreeMap<String, usize>,
}

impl Run {
    fn new(seed: u64) -> Run {
        Run {
            w: World::seeded(false, limits(), seed),
            dice: Dice(seed),
            seed,
            peers: BTreeMap::new(),
            reference: Reference::new(limits()),
            order: Order::default(),
            all_read: true,
            number: 0,
            trail: VecDeque::new(),
            tally: BTreeMap::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn step(&mut self) {
        if self.peers.len() < 2 {
            return self.come();
        }
        let all: Vec<u64> = self.peers.keys().copied().collect();
        let who = *self.dice.pick(&all);
        let operation = self.dice.below(1_000);
        // Who is called by chance must be known at once.
        self.all_read = !(48..420).contains(&operation);
        match operation {
            0..30 => self.come(),
            30..45 => self.go(who),
            45..48 => self.violate(who),
            48..75 => self.pass(),
            75..175 => self.subscribe(who),
            175..225 => self.unsubscribe(who),
            225..420 => self.publish(who),
            420..530 => self.register(who),
            530..560 => self.unregister(who),
            560..740 => self.call(who),
            740..790 => self.go_on(who),
            790..830 => self.cancel(who),
            _ => self.answer(who),
        }
    }

    /// What everybody who reads now was told since last time, against what everybody should have
    /// been.
    fn compare(&mut self, operation: impl FnOnce(&mut Reference)) {
        for (who, peer) in self.peers.clone() {
            if self.all_read || self.dice.once_in(6) {
                let read = self.w.read(&peer);
                read.iter().for_each(|told| self.order.read(who, told));
                let lines = read.iter().map(shown).collect();
                self.reference.seen.insert(who, lines);
            }
        }
        operation(&mut self.reference);
        for (who, seen) in std::mem::take(&mut self.reference.seen) {
            let told = self.reference.told.remove(&who).unwrap_or_default();
            let (seen, told) = (in_any_order(seen), in_any_order(told));
            if !seen.is_empty() {
                self.note(format!("    {who} reads {seen:?}"));
            }
            assert!(
                seen == told,
                "{}: {seen:#?} instead of {told:#?}",
                self.history()
            );
            for line in &seen {
                *self.tally.entry(kind_of(line)).or_default() += 1;
            }
        }
        for (name, size) in self.reference.sizes() {
            assert_eq!(self.w.size(name), size, "{name}, {}", self.history());
        }
    }

    /// How to get there again, and how it came to that.
    fn history(&self) -> String {
        let trail: Vec<&str> = self.trail.iter().map(String::as_str).collect();
        format!("{}\nFUZZ_SEED={}", trail.join("\n"), self.seed)
    }

    fn note(&mut self, line: String) {
        if self.trail.len() >= TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(line);
    }

    fn send(
        &mut self,
        who: u64,
        what: impl Debug,
        command: impl Into<Command>,
        operation: impl FnOnce(&mut Reference),
    ) {
        self.note(format!("{who}: {what:?}"));
        let peer = self.peers[&who].clone();
        self.w.send(&peer, command.into());
        self.compare(operation);
    }

    fn empty(&mut self) {
        self.all_read = true;
        for who in self.peers.keys().copied().collect::<Vec<_>>() {
            self.go(who);
        }
        for (name, size) in self.w.realm.sizes() {
            assert_eq!(size, 0, "{name}, {}", self.history());
        }
    }
}

/// With dots, and with the publisher of an event where it is disclosed.
fn shown(delivery: &Delivery) -> String {
    let mut text = line(delivery).replace('/', ".");
    if let Delivery::Event(event) = delivery
        && let Some(publisher) = &event.event.publisher
        && publisher.disclosed
    {
        let (session, authid) = (publisher.session, &publisher.authid);
        text += &format!(" by {session} {authid} {}", publisher.role);
    }
    text
}

/// A session gets a copy of an event for each subscription that matches, in no particular order.
fn in_any_order(mut lines: Vec<String>) -> Vec<String> {
    let body = |line: &str| {
        let is_event = line.starts_with("event ");
        is_event.then(|| line.split(' ').nth(3).map(str::to_owned))
    };
    for run in lines.chunk_by_mut(|a, b| body(a).is_some() && body(a) == body(b)) {
        run.sort_unstable();
    }
    lines
}

/// What a line is about: its words but for numbers.
fn kind_of(line: &str) -> String {
    let is_word = |word: &&str| word.chars().all(|c| c.is_alphabetic());
    let mut words: Vec<&str> = line.split(' ').filter(is_word).collect();
    words.truncate(2);
    words.join(" ")
}

#[test]
fn every_session_is_told_what_a_plain_reading_of_the_rules_says() {
    let given = std::env::var("FUZZ_SEED").ok();
    let given: Option<u64> = given.and_then(|seed| seed.parse().ok());
    let seeds = match given {
        Some(seed) => seed..seed + 1,
        None => 1..1 + WORLDS,
    };
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds {
        // Shown if it fails.
        println!("FUZZ_SEED={seed}");
        let mut run = Run::new(seed);
        for _ in 0..OPERATIONS {
            run.step();
        }
        run.empty();
        for (kind, times) in run.tally {
            *tally.entry(kind).or_default() += times;
        }
    }
    if given.is_some() {
        return;
    }
    // What was to be tried was tried.
    for kind in TRIED {
        let times = tally.get(kind).copied().unwrap_or(0);
        assert!(times >= 100, "{kind}: {times} in {tally:#?}");
    }
}
