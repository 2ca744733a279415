//! Ten thousand calls while callees and callers come and go, refuse, stall, cancel and time out: each
//! ends in exactly one result or error, and nothing is left behind.
//!
//! `CALLS_SEED` repeats one run.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::limits::RealmLimits;
use router_core::model::{
    Answer, Call, CallFailure, CancelMode, Command, Delivery, ErrorKind, InvokePolicy, MatchKind,
    RequestId,
};
use router_core::session::{Features, Leave};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const CALLS: usize = 10_000;
const SEATS: usize = 12;

/// What is offered, in which notation, and under which policy.
const OFFERS: [(MatchKind, &str, InvokePolicy); 6] = [
    (MatchKind::Exact, "p/single", InvokePolicy::Single),
    (MatchKind::Exact, "p/free", InvokePolicy::FirstFree),
    (MatchKind::Prefix, "p", InvokePolicy::RoundRobin),
    (MatchKind::Prefix, "q/", InvokePolicy::Random),
    (MatchKind::Wildcard, "q//z", InvokePolicy::Last),
    (MatchKind::Wildcard, "//z", InvokePolicy::First),
];
const CALLED: [&str; 7] = [
    "p/single", "p/free", "p/x", "q/y", "q/y/z", "r/y/z", "nobody",
];

struct Seat {
    peer: Peer,
    next: u64,
    /// Calls that have not ended.
    open: BTreeSet<u64>,
    /// Calls, ended or not, of which more parts may be sent.
    unsent: BTreeSet<u64>,
    /// invocation -> its registration, or 0 once that is gone
    invocations: BTreeMap<u64, u64>,
    /// Requests to register, with their concurrency.
    asked: HashMap<u64, Option<u32>>,
    /// registration -> concurrency
    held: BTreeMap<u64, Option<u32>>,
}

struct Model {
    w: World,
    dice: Dice,
    seats: Vec<Seat>,
    made: usize,
    /// How often each way to end was seen.
    seen: BTreeMap<String, usize>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let limits = RealmLimits {
            calls_queued_per_procedure: 8,
            parts_per_call: 4,
            calls_per_session: 1_000,
            ..RealmLimits::default()
        };
        Model {
            w: World::seeded(false, limits, seed),
            dice: Dice(seed),
            seats: Vec::new(),
            made: 0,
            seen: BTreeMap::new(),
        }
    }

    fn come(&mut self) {
        let dice = &mut self.dice;
        let often = |dice: &mut Dice| !dice.once_in(4);
        let features = Features {
            progressive_results: often(dice),
            call_canceling: often(dice),
            progressive_invocations: often(dice),
            progressive_calls: true,
            call_timeout: often(dice),
            registration_revocation: true,
            ..Features::default()
        };
        let peer = self.w.join(ordered().features(features));
        self.w.lines(&peer);
        self.seats.push(Seat {
            peer,
            next: 1,
            open: BTreeSet::new(),
            unsent: BTreeSet::new(),
            invocations: BTreeMap::new(),
            asked: HashMap::new(),
            held: BTreeMap::new(),
        });
    }

    fn seat(&mut self) -> usize {
        usize::try_from(self.dice.below(self.seats.len() as u64)).unwrap()
    }

    fn send(&mut self, at: usize, command: impl Into<Command>) {
        let peer = self.seats[at].peer.clone();
        self.w.send(&peer, command.into());
    }

    fn request(&mut self, at: usize) -> u64 {
        let seat = &mut self.seats[at];
        seat.next += 1;
        seat.next - 1
    }

    fn step(&mut self) {
        if self.seats.len() < SEATS {
            self.come();
        }
        let at = self.seat();
        match self.dice.below(100) {
            0..40 => self.call(at),
            40..50 => self.go_on(at),
            50..56 => self.register(at),
            56..58 => self.unregister(at),
            58..60 => self.remove(at),
            60..66 => self.cancel(at),
            66..69 => {
                let by = *self.dice.pick(&[5, 50, 500]);
                self.w.pass(ms(by));
            }
            69 => {
                let seat = self.seats.swap_remove(at);
                self.w.leave(&seat.peer, Leave::Lost);
            }
            _ => self.answer(at),
        }
        for at in 0..self.seats.len() {
            self.read(at);
        }
    }

    fn call(&mut self, at: usize) {
        let request = self.request(at);
        let more = self.dice.once_in(3);
        let timeout = self.dice.once_in(3).then(|| ms(60));
        let command = Command::Call(Box::new(Call {
            request: RequestId(request),
            procedure: topic(self.dice.pick::<&str>(&CALLED)),
            payload: args(&json!([request])),
            progress: self.dice.once_in(2),
            more,
            timeout,
            disclose_me: self.dice.once_in(2),
        }));
        self.seats[at].open.insert(request);
        if more {
            self.seats[at].unsent.insert(request);
        }
        self.made += 1;
        self.send(at, command);
    }

    /// Another part of a call, which may have ended without its caller knowing.
    fn go_on(&mut self, at: usize) {
        let unsent: Vec<u64> = self.seats[at].unsent.iter().copied().collect();
        if unsent.is_empty() {
            return;
        }
        let request = *self.dice.pick(&unsent);
        let more = !self.dice.once_in(3);
        if !more || self.dice.once_in(8) {
            self.seats[at].unsent.remove(&request);
        }
        self.send(at, part(request, "p", json!(["part"]), more));
    }

    fn register(&mut self, at: usize) {
        let (kind, text, policy) = *self.dice.pick(&OFFERS);
        let request = self.request(at);
        let mut reg = reg(request, kind, text).policy(policy);
        let most = *self.dice.pick(&[None, Some(1), Some(2)]);
        if let Some(most) = most {
            reg = reg.concurrency(most);
        }
        if self.dice.once_in(6) {
            reg = reg.force();
        }
        if self.dice.once_in(4) {
            reg = reg.keeping_time();
        }
        self.seats[at].asked.insert(request, most);
        self.send(at, reg);
    }

    fn unregister(&mut self, at: usize) {
        let held: Vec<u64> = self.seats[at].held.keys().copied().collect();
        if !held.is_empty() {
            let id = *self.dice.pick(&held);
            self.seats[at].forget(id);
            let request = self.request(at);
            self.send(at, unregister(request, id));
        }
    }

    /// Takes a registration from somebody, by the realm's own procedure.
    fn remove(&mut self, at: usize) {
        let other = self.seat();
        let held: Vec<u64> = self.seats[other].held.keys().copied().collect();
        if !held.is_empty() {
            let id = *self.dice.pick(&held);
            let session = self.seats[other].peer.id().0;
            let request = self.request(at);
            self.seats[at].open.insert(request);
            let name = "wamp/registration/remove_callee";
            self.send(at, call(request, name, json!([id, session])));
        }
    }

    fn cancel(&mut self, at: usize) {
        let open: Vec<u64> = self.seats[at].open.iter().copied().collect();
        if !open.is_empty() {
            let request = *self.dice.pick(&open);
            let modes = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait];
            let mode = *self.dice.pick(&modes);
            self.send(at, cancel(request, mode));
        }
    }

    fn answer(&mut self, at: usize) {
        let invocations: Vec<u64> = self.seats[at].invocations.keys().copied().collect();
        if invocations.is_empty() {
            return;
        }
        let id = *self.dice.pick(&invocations);
        let command = match self.dice.below(8) {
            0 | 1 => return self.send(at, progress(id, json!([0]))),
            2 | 3 => fails(id, "wamp.error.unavailable", json!([])),
            4 => fails(id, "my.error", json!([])),
            _ => answer(id, json!([1])),
        };
        self.seats[at].invocations.remove(&id);
        self.send(at, command);
    }

    fn read(&mut self, at: usize) {
        let peer = self.seats[at].peer.clone();
        for delivery in self.w.read(&peer) {
            let end = self.seats[at].take(&delivery);
            if let Some(end) = end {
                *self.seen.entry(end).or_default() += 1;
            }
        }
    }

    /// Every callee answers what it has, until nothing is open any more.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.w.pass(ms(1_000));
            let mut moved = false;
            for at in 0..self.seats.len() {
                self.read(at);
                for id in std::mem::take(&mut self.seats[at].invocations).into_keys() {
                    moved = true;
                    self.send(at, answer(id, json!([])));
                }
            }
            if !moved {
                break;
            }
        }
        for seat in &self.seats {
            assert!(seat.open.is_empty(), "never ended: {:?}", seat.open);
        }
        assert_eq!((self.w.size("open_calls"), self.w.size("timers")), (0, 0));
    }

    fn leave(&mut self) {
        for seat in std::mem::take(&mut self.seats) {
            self.w.leave(&seat.peer, Leave::Clean);
        }
        for (name, size) in self.w.realm.sizes() {
            assert_eq!(size, 0, "{name}");
        }
    }
}

impl Seat {
    fn forget(&mut self, id: u64) {
        self.held.remove(&id);
        for of in self.invocations.values_mut().filter(|of| **of == id) {
            *of = 0;
        }
    }

    /// Checks what came; answers how a call ended, if one did.
    fn take(&mut self, delivery: &Delivery) -> Option<String> {
        match delivery {
            Delivery::Result {
                request, progress, ..
            } => {
                let is_open = match progress {
                    true => self.open.contains(&request.0),
                    false => self.open.remove(&request.0),
                };
                assert!(is_open, "a call ends once: {delivery:?}");
                return (!progress).then(|| "result".to_owned());
            }
            Delivery::CallFailed { request, failure } => {
                assert!(
                    self.open.remove(&request.0),
                    "a call ends once: {delivery:?}"
                );
                return Some(match failure {
                    CallFailure::Realm(refusal) => {
                        assert_ne!(refusal.kind, ErrorKind::Internal, "{refusal}");
                        format!("{:?}", refusal.kind)
                    }
                    CallFailure::Callee { error, .. } => error.to_string(),
                });
            }
            Delivery::Invocation(call) => {
                let registration = call.registration.0;
                let held = self.held.get(&registration);
                let of = held.map_or(0, |_| registration);
                self.invocations.entry(call.invocation.0).or_insert(of);
                if let Some(Some(most)) = held {
                    let running = self.invocations.values().filter(|of| **of == registration);
                    let running = running.count();
                    assert!(running <= *most as usize, "{running} of {most} at a time");
                }
            }
            Delivery::Done {
                request,
                answer: Answer::Registered(id),
            } => {
                self.held.insert(id.0, self.asked[&request.0]);
            }
            Delivery::Unregistered { registration, .. } => self.forget(registration.0),
            Delivery::Ended(reason) => panic!("ended: {reason:?}"),
            _ => {}
        }
        None
    }
}

#[test]
fn ten_thousand_calls_end_once_each_and_leave_nothing_behind() {
    let seed = std::env::var("CALLS_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(20_261_128);
    let mut model = Model::new(seed);
    while model.made < CALLS {
        model.step();
    }
    model.settle();
    model.leave();
    // What was to be tried was tried.
    for end in [
        "result",
        "my.error",
        "Canceled",
        "Timeout",
        "NoSuchProcedure",
        "NoAvailableCallee",
        "FeatureNotSupported",
        "QuotaExceeded",
    ] {
        let times = model.seen.get(end).copied().unwrap_or(0);
        assert!(times >= 20, "{end}: {times} in {:?}", model.seen);
    }
    let counters = model.w.realm.counters();
    assert!(counters.calls_rerouted >= 20 && counters.parts_discarded >= 20);
}
