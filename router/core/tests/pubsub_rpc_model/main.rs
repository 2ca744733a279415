//! A hundred thousand random operations of publishers, subscribers, callers and callees, each compared
//! with a reference that keeps plain lists and looks at everybody: what every session is told, in what
//! order, and what is left in the realm's tables.
//!
//! `FUZZ_SEED` repeats one world.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod broker;
#[path = "../common/mod.rs"]
mod common;
mod dealer;
mod matching;
mod order;
mod reference;

use broker::{Listed, Message};
use bytestring::ByteString;
use common::*;
use dealer::{Asked, Offered};
use order::Order;
use reference::{Reference, Standing};
use router_core::auth::{Disclosure, Role};
use router_core::limits::RealmLimits;
use router_core::model::{
    Audience, CancelMode, Command, Delivery, InvokePolicy, Level, MatchKind, Pattern, Publish,
    PublishOptions, Register, RequestId, SessionId, Subscribe,
};
use router_core::session::{Features, Leave};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

const WORLDS: u64 = 10;
const OPERATIONS: usize = 10_000;
const SESSIONS: usize = 9;
/// Lines shown of what went before a failure.
const TRAIL: usize = 400;

const TOPICS: [&str; 10] = [
    "a", "a.b", "a.bc", "a.b.c", "a.x.c", "d.b.c", "d", "$s.b", "$s.b.c", "wamp.x",
];
const PATTERNS: [(MatchKind, &str); 22] = [
    (MatchKind::Exact, "a"),
    (MatchKind::Exact, "a.b"),
    (MatchKind::Exact, "a.b.c"),
    (MatchKind::Exact, "$s.b"),
    (MatchKind::Prefix, ""),
    (MatchKind::Prefix, "a"),
    (MatchKind::Prefix, "a."),
    (MatchKind::Prefix, "a.b"),
    (MatchKind::Prefix, "a.b.c"),
    (MatchKind::Prefix, "$s"),
    (MatchKind::Wildcard, "a.b"),
    (MatchKind::Wildcard, "a."),
    (MatchKind::Wildcard, ".b"),
    (MatchKind::Wildcard, "a..c"),
    (MatchKind::Wildcard, "..c"),
    (MatchKind::Wildcard, "a.b."),
    (MatchKind::Wildcard, "$s."),
    (MatchKind::Levels, "#"),
    (MatchKind::Levels, "a.#"),
    (MatchKind::Levels, "*.b.#"),
    (MatchKind::Levels, "a.*.c.#"),
    (MatchKind::Levels, "$s.#"),
];
const POLICIES: [InvokePolicy; 6] = [
    InvokePolicy::Single,
    InvokePolicy::RoundRobin,
    InvokePolicy::Random,
    InvokePolicy::First,
    InvokePolicy::Last,
    InvokePolicy::FirstFree,
];
const AUTHIDS: [&str; 3] = ["ann", "bob", "cy"];
const ROLES: [(&str, Disclosure); 4] = [
    ("user", Disclosure::Allow),
    ("guest", Disclosure::Allow),
    ("quiet", Disclosure::Deny),
    ("open", Disclosure::Always),
];

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

    fn come(&mut self) {
        if self.peers.len() >= SESSIONS {
            return;
        }
        let mut often = || !self.dice.once_in(4);
        let features = Features {
            progressive_results: often(),
            call_canceling: often(),
            progressive_invocations: often(),
            progressive_calls: true,
            call_timeout: often(),
            registration_revocation: true,
            subscription_revocation: true,
            ..Features::default()
        };
        let authid = *self.dice.pick(&AUTHIDS);
        let (role, disclosure) = *self.dice.pick(&ROLES);
        let join = named(authid, Role::unrestricted(role).disclosing(disclosure));
        let peer = self.w.join(join.features(features));
        let who = peer.id().0;
        self.note(format!("{who}: comes as {authid}, {role}, {features:?}"));
        self.peers.insert(who, peer);
        self.compare(|reference| {
            reference.sessions.push(Standing {
                who,
                authid,
                role,
                disclosure,
                features,
                last_invocation: 0,
                cut_short: Vec::new(),
                is_leaving: false,
            });
            reference.tell(who, "joined".to_owned());
        });
    }

    fn go(&mut self, who: u64) {
        let peer = self.peers.remove(&who).unwrap();
        let how = *self.dice.pick(&[Leave::Clean, Leave::Lost]);
        self.note(format!("{who}: goes, {how:?}"));
        self.w.leave(&peer, how);
        self.compare(|reference| {
            reference.leave(who);
            reference.told.remove(&who);
        });
        self.order.left(who);
    }

    fn violate(&mut self, who: u64) {
        let never = self.reference.standing(who).last_invocation + 1;
        self.send(who, "violates", answer(never, json!([])), |reference| {
            reference.yielded(who, never, 0, false);
        });
        self.peers.remove(&who);
        self.order.left(who);
    }

    fn pass(&mut self) {
        let by = *self.dice.pick(&[5, 50, 500]);
        self.note(format!("{by} ms pass"));
        self.w.pass(ms(by));
        self.compare(|reference| reference.pass(by));
    }

    fn subscribe(&mut self, who: u64) {
        let (kind, text) = *self.dice.pick(&PATTERNS);
        let request = self.next();
        let mut subscribe = Subscribe::new(RequestId(request), pattern_of(kind, text));
        subscribe.kind = kind;
        let what = format!("subscribe {request} {kind:?} {text}");
        self.send(who, what, Sub(subscribe), |reference| {
            reference.subscribe(who, request, kind, text);
        });
    }

    fn unsubscribe(&mut self, who: u64) {
        let all = self.reference.subscriptions.iter();
        let own = !self.dice.once_in(8);
        let ids = all.filter(|sub| !own || sub.members.contains(&who));
        let ids: Vec<u64> = ids.map(|sub| sub.id).chain([999_999]).collect();
        let (id, request) = (*self.dice.pick(&ids), self.next());
        self.order.ends(request, id);
        self.send(
            who,
            ("unsubscribe", request, id),
            unsub(request, id),
            |reference| {
                reference.unsubscribe(who, request, id);
            },
        );
    }

    fn publish(&mut self, who: u64) {
        let message = Message {
            topic: (*self.dice.pick(&TOPICS)).to_owned(),
            body: self.next(),
            ack: self.dice.once_in(2).then_some(self.number),
            exclude_me: !self.dice.once_in(3),
            disclose: self.dice.once_in(4),
            exclude: self.listed(),
            eligible: self.listed(),
        };
        self.order.published(who, message.body);
        self.send(who, &message, command_of(&message), |reference| {
            reference.publish(who, &message);
        });
    }

    /// Some of those who are there, and one who is not.
    fn listed(&mut self) -> Option<Listed> {
        if !self.dice.once_in(5) {
            return None;
        }
        let dice = &mut self.dice;
        let all = self.peers.keys().copied().chain([1]);
        let sessions = all.filter(|_| dice.once_in(2)).collect();
        let authids: Vec<_> = AUTHIDS.into_iter().filter(|_| dice.once_in(2)).collect();
        let roles = ROLES.map(|(role, _)| role).into_iter();
        let roles: Vec<_> = roles.filter(|_| dice.once_in(2)).collect();
        Some(Listed {
            sessions: dice.once_in(2).then_some(sessions),
            authids: dice.once_in(3).then_some(authids),
            roles: dice.once_in(3).then_some(roles),
        })
    }

    fn register(&mut self, who: u64) {
        let (kind, text) = match self.dice.once_in(60) {
            true => (MatchKind::Exact, "wamp.x"),
            // Few of them, so that they are shared.
            false => PATTERNS[usize::try_from(self.dice.below(11)).unwrap() * 2],
        };
        let most = [Some(1), Some(1), Some(2), None, None];
        let at = PATTERNS.iter().position(|known| *known == (kind, text));
        let usual = POLICIES[at.unwrap_or(0) / 2 % POLICIES.len()];
        let offered = Offered {
            kind,
            text: text.to_owned(),
            policy: match self.dice.once_in(6) {
                true => *self.dice.pick(&POLICIES),
                false => usual,
            },
            most: match self.dice.once_in(60) {
                true => Some(0),
                false => *self.dice.pick(&most),
            },
            force: self.dice.once_in(12),
            learns_caller: self.dice.once_in(4),
            keeps_time: self.dice.once_in(4),
        };
        let request = self.next();
        let register = Register {
            pattern: pattern_of(kind, text),
            kind,
            policy: offered.policy,
            concurrency: offered.most,
            force: offered.force,
            disclose_caller: offered.learns_caller,
            forward_timeout: offered.keeps_time,
            ..Register::new(RequestId(request), topic("unused"))
        };
        self.send(who, (request, &offered), Reg(register), |reference| {
            reference.register(who, request, &offered);
        });
    }

    fn unregister(&mut self, who: u64) {
        let all = self.reference.registrations.iter();
        let own = !self.dice.once_in(8);
        let ids = all.filter(|reg| !own || reg.has(who));
        let ids: Vec<u64> = ids.map(|reg| reg.id).chain([999_999]).collect();
        let (id, request) = (*self.dice.pick(&ids), self.next());
        self.order.ends(request, id);
        self.send(
            who,
            ("unregister", request, id),
            unregister(request, id),
            |reference| {
                reference.unregister(who, request, id);
            },
        );
    }

    fn call(&mut self, who: u64) {
        let asked = Asked {
            procedure: (*self.dice.pick(&TOPICS[..9])).to_owned(),
            body: self.next(),
            progress: self.dice.once_in(2),
            more: self.dice.once_in(5),
            timeout: self.dice.once_in(3).then_some(60),
            disclose: self.dice.once_in(4),
        };
        self.order.called(asked.body, asked.body, asked.more);
        self.send_call(who, asked.body, asked);
    }

    /// Another part of a call that may have ended, or a call with a request that is in use.
    fn go_on(&mut self, who: u64) {
        let open = self.reference.calls.iter().filter_map(|call| call.caller);
        let open = open.filter(|(caller, _)| *caller == who);
        let cut_short = &self.reference.standing(who).cut_short;
        let requests = open.map(|(_, request)| request).chain(cut_short.clone());
        let requests: Vec<u64> = requests.collect();
        let parts = requests.iter().filter(|request| {
            let mut calls = self.reference.calls.iter();
            !calls.any(|c| c.caller == Some((who, **request)) && !c.asked.more)
        });
        let mut parts: Vec<u64> = parts.copied().collect();
        if parts.is_empty() || self.dice.once_in(10) {
            parts = requests;
        }
        if parts.is_empty() {
            return;
        }
        let request = *self.dice.pick(&parts);
        let asked = Asked {
            procedure: "a.b".to_owned(),
            body: self.next(),
            progress: false,
            more: !self.dice.once_in(3),
            timeout: None,
            disclose: false,
        };
        self.send_call(who, request, asked);
    }

    fn send_call(&mut self, who: u64, request: u64, asked: Asked) {
        let command = Command::Call {
            request: RequestId(request),
            procedure: topic(&slashes(&asked.procedure)),
            payload: args(&json!([asked.body])),
            progress: asked.progress,
            more: asked.more,
            timeout: asked.timeout.map(Duration::from_millis),
            disclose_me: asked.disclose,
        };
        self.send(who, (request, &asked), command, |reference| {
            reference.call(who, request, &asked);
        });
    }

    fn cancel(&mut self, who: u64) {
        let open = self.reference.calls.iter().filter_map(|call| call.caller);
        let open = open.filter(|(caller, _)| *caller == who);
        let open: Vec<u64> = open.map(|(_, request)| request).chain([999_999]).collect();
        let request = *self.dice.pick(&open);
        let modes = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait];
        let mode = *self.dice.pick(&modes);
        self.send(who, (request, mode), cancel(request, mode), |reference| {
            reference.cancel(who, request, mode);
        });
    }

    /// Mostly of what it works on, at times of what is answered or given up already.
    fn answer(&mut self, who: u64) {
        let running = self
            .reference
            .calls
            .iter()
            .filter_map(|c| c.running.clone());
        let own = running.filter(|running| running.callee == who);
        let mut ids: Vec<u64> = own.map(|running| running.invocation).collect();
        let last = self.reference.standing(who).last_invocation;
        if ids.is_empty() || self.dice.once_in(12) {
            ids = (1..=last).collect();
        }
        if ids.is_empty() {
            return;
        }
        let (id, body) = (*self.dice.pick(&ids), self.next());
        let list = json!([body]);
        match self.dice.below(8) {
            0 | 1 => self.send(who, ("progress", id), progress(id, list), |reference| {
                reference.yielded(who, id, body, true);
            }),
            2 | 3 => self.fail(who, id, "wamp.error.unavailable", body),
            4 => self.fail(who, id, "my.error", body),
            _ => self.send(who, ("yield", id), answer(id, list), |reference| {
                reference.yielded(who, id, body, false);
            }),
        }
    }

    fn fail(&mut self, who: u64, id: u64, error: &str, body: u64) {
        self.send(
            who,
            (error, id),
            fails(id, error, json!([body])),
            |reference| {
                reference.failed(who, id, error, body);
            },
        );
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

fn slashes(text: &str) -> String {
    text.replace('.', "/")
}

fn pattern_of(kind: MatchKind, text: &str) -> Pattern {
    let level = |level: &str| match level {
        "" => Level::One,
        text => Level::Exact(text.into()),
    };
    match kind {
        MatchKind::Exact => Pattern::Exact(topic(&slashes(text))),
        MatchKind::Prefix => Pattern::prefix(slashes(text)).unwrap(),
        MatchKind::Wildcard => Pattern::from_levels(text.split('.').map(level).collect()).unwrap(),
        MatchKind::Levels => pattern(&slashes(&text.replace('*', "+"))),
    }
}

fn command_of(message: &Message) -> Pub {
    let names = |list: &Vec<&'static str>| list.iter().copied().map(ByteString::from).collect();
    let audience = |listed: &Listed| Audience {
        sessions: listed
            .sessions
            .as_ref()
            .map(|list| list.iter().copied().map(SessionId).collect()),
        authids: listed.authids.as_ref().map(names),
        roles: listed.roles.as_ref().map(names),
    };
    let options = PublishOptions {
        disclose_me: message.disclose,
        exclude: message.exclude.as_ref().map(audience),
        eligible: message.eligible.as_ref().map(audience),
        ..PublishOptions::default()
    };
    let on = topic(&slashes(&message.topic));
    Pub(Publish {
        request: message.ack.map(RequestId),
        exclude_me: message.exclude_me,
        options: Some(Box::new(options)),
        ..Publish::new(on, args(&json!([message.body])))
    })
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
