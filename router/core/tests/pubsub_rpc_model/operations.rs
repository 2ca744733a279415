//! What random sessions do, each time to the realm and to the reference.

use super::Run;
use super::broker::{Listed, Message};
use super::common::*;
use super::dealer::{Asked, Offered};
use super::reference::Standing;
use bytestring::ByteString;
use router_core::auth::{Disclosure, Role};
use router_core::model::{
    Audience, Call, CancelMode, Command, InvokePolicy, Level, MatchKind, Pattern, Publish,
    PublishOptions, Register, RequestId, SessionId, Subscribe,
};
use router_core::session::{Features, Leave};
use serde_json::json;
use std::time::Duration;

const SESSIONS: usize = 9;

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
/// What is offered, and under which policy most of the time: the same, so that it is shared.
const OFFERS: [(MatchKind, &str, InvokePolicy); 12] = [
    (MatchKind::Exact, "a.b", InvokePolicy::Single),
    (MatchKind::Exact, "a.b.c", InvokePolicy::RoundRobin),
    (MatchKind::Prefix, "", InvokePolicy::Random),
    (MatchKind::Prefix, "a.b", InvokePolicy::First),
    (MatchKind::Prefix, "$s", InvokePolicy::Last),
    (MatchKind::Wildcard, "a.", InvokePolicy::RoundRobin),
    (MatchKind::Wildcard, ".b", InvokePolicy::FirstFree),
    (MatchKind::Wildcard, "a..c", InvokePolicy::Random),
    (MatchKind::Wildcard, "..c", InvokePolicy::First),
    (MatchKind::Wildcard, "a.b", InvokePolicy::Last),
    (MatchKind::Levels, "a.#", InvokePolicy::RoundRobin),
    (MatchKind::Levels, "a.*.c.#", InvokePolicy::FirstFree),
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

impl Run {
    pub fn come(&mut self) {
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

    pub fn go(&mut self, who: u64) {
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

    pub fn violate(&mut self, who: u64) {
        let never = self.reference.standing(who).last_invocation + 1;
        self.send(who, "violates", answer(never, json!([])), |reference| {
            reference.yielded(who, never, 0, false);
        });
        self.peers.remove(&who);
        self.order.left(who);
    }

    pub fn pass(&mut self) {
        let by = *self.dice.pick(&[5, 50, 500]);
        self.note(format!("{by} ms pass"));
        self.w.pass(ms(by));
        self.compare(|reference| reference.pass(by));
    }

    pub fn subscribe(&mut self, who: u64) {
        let (kind, text) = *self.dice.pick(&PATTERNS);
        let request = self.next();
        let mut subscribe = Subscribe::new(RequestId(request), pattern_of(kind, text));
        subscribe.kind = kind;
        let what = format!("subscribe {request} {kind:?} {text}");
        self.send(who, what, Sub(subscribe), |reference| {
            reference.subscribe(who, request, kind, text);
        });
    }

    pub fn unsubscribe(&mut self, who: u64) {
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

    pub fn publish(&mut self, who: u64) {
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

    pub fn register(&mut self, who: u64) {
        let (kind, text, usual) = match self.dice.once_in(60) {
            true => (MatchKind::Exact, "wamp.x", InvokePolicy::Single),
            false => *self.dice.pick(&OFFERS),
        };
        let most = [Some(1), Some(1), Some(2), None, None];
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

    pub fn unregister(&mut self, who: u64) {
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

    pub fn call(&mut self, who: u64) {
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
    pub fn go_on(&mut self, who: u64) {
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
        let command = Command::Call(Box::new(Call {
            request: RequestId(request),
            procedure: topic(&slashes(&asked.procedure)),
            payload: args(&json!([asked.body])),
            progress: asked.progress,
            more: asked.more,
            timeout: asked.timeout.map(Duration::from_millis),
            disclose_me: asked.disclose,
        }));
        self.send(who, (request, &asked), command, |reference| {
            reference.call(who, request, &asked);
        });
    }

    pub fn cancel(&mut self, who: u64) {
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
    pub fn answer(&mut self, who: u64) {
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
