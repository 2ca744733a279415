//! A world in which sessions and tokens have names, so that conversations can be compared as texts.

use crate::common::*;
use router_core::limits::RealmLimits;
use router_core::model::{CallFailure, CancelMode, Command, Delivery, RequestId};
use router_core::session::{Join, Leave};
use serde_json::{Value, json};
use std::time::Duration;

pub const NONE: [&str; 0] = [];

/// Ids have at least that many digits, and nothing else has.
const DIGITS: usize = 14;

pub struct Lab {
    pub w: World,
    /// Sessions by letter, in the order they came.
    sessions: Vec<u64>,
    /// Tokens as #1, #2, ... in the order they were seen.
    tokens: Vec<u64>,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::of(World::memory())
    }

    pub fn durable() -> Lab {
        Lab::of(World::durable())
    }

    pub fn limited(limits: RealmLimits) -> Lab {
        Lab::of(World::limited(limits))
    }

    fn of(w: World) -> Lab {
        Lab {
            w,
            sessions: Vec::new(),
            tokens: Vec::new(),
        }
    }

    pub fn join(&mut self, join: Join) -> Peer {
        let peer = self.w.join(join);
        assert_eq!(self.w.lines(&peer), ["joined"]);
        self.sessions.push(peer.id().0);
        peer
    }

    pub fn peer(&mut self) -> Peer {
        self.join(ordered())
    }

    pub fn peers<const N: usize>(&mut self) -> [Peer; N] {
        std::array::from_fn(|_| self.peer())
    }

    /// The token with this name.
    pub fn token(&self, name: usize) -> u64 {
        self.tokens[name - 1]
    }

    fn named(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            out += &rest[..at];
            rest = &rest[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit());
            let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
            out += &self.name_of(digits);
            rest = after;
        }
        out + rest
    }

    fn name_of(&mut self, digits: &str) -> String {
        let number: u64 = digits.parse().unwrap();
        if let Some(at) = self.sessions.iter().position(|id| *id == number) {
            return format!("@{}", char::from(b'a' + u8::try_from(at).unwrap()));
        }
        if digits.len() < DIGITS {
            return digits.to_owned();
        }
        let known = self.tokens.iter().position(|token| *token == number);
        let at = known.unwrap_or_else(|| {
            self.tokens.push(number);
            self.tokens.len() - 1
        });
        format!("#{}", at + 1)
    }

    /// What a session was told, named.
    pub fn lines(&mut self, peer: &Peer) -> Vec<String> {
        let told = self.w.read(peer);
        told.iter().map(|delivery| self.shown(delivery)).collect()
    }

    fn shown(&mut self, delivery: &Delivery) -> String {
        let mut text = line(delivery);
        if let Delivery::CallFailed {
            failure: CallFailure::Realm(refusal),
            ..
        } = delivery
            && let Some(about) = &refusal.about
        {
            text += &format!(" {}", Value::Object((**about).clone()));
        }
        self.named(&text)
    }

    pub fn ask(&mut self, peer: &Peer, command: impl Into<Command>) -> Vec<String> {
        self.w.send(peer, command.into());
        self.lines(peer)
    }

    /// Calls a procedure of locks.
    pub fn lock(&mut self, peer: &Peer, request: u64, name: &str, args: Value) -> Vec<String> {
        self.ask(peer, call(request, &format!("fox/lock/{name}"), args))
    }

    pub fn acquire(&mut self, peer: &Peer, request: u64, options: Value) -> Vec<String> {
        self.lock(peer, request, "acquire", json!(["k", options]))
    }

    pub fn try_acquire(&mut self, peer: &Peer, request: u64, options: Value) -> Vec<String> {
        self.lock(peer, request, "try_acquire", json!(["k", options]))
    }

    /// Acquires and is told of the way.
    pub fn queue(&mut self, peer: &Peer, request: u64, options: Value) -> Vec<String> {
        let args = json!(["k", options]);
        self.ask(
            peer,
            call_with(request, "fox/lock/acquire", args, true, None),
        )
    }

    /// Acquires or fails the test; answers the token.
    pub fn hold(&mut self, peer: &Peer, options: Value) -> u64 {
        self.w
            .send(peer, call(777, "fox/lock/acquire", json!(["k", options])));
        for delivery in self.w.read(peer) {
            if let Delivery::Result {
                request: RequestId(777),
                payload,
                ..
            } = delivery
            {
                return payload.value()["token"].as_u64().unwrap();
            }
        }
        panic!("not granted");
    }

    pub fn release(&mut self, peer: &Peer, token: u64) -> Vec<String> {
        self.lock(peer, 888, "release", json!([token]))
    }

    pub fn cancel(&mut self, peer: &Peer, request: u64) -> Vec<String> {
        self.ask(peer, cancel(request, CancelMode::Skip))
    }

    pub fn inspect(&mut self, peer: &Peer) -> Value {
        self.w
            .send(peer, call(999, "fox/lock/inspect", json!(["k"])));
        match self.w.read(peer).pop() {
            Some(Delivery::Result { payload, .. }) => payload.value().clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, peer: &Peer) {
        self.w.leave(peer, Leave::Lost);
    }

    pub fn pass(&mut self, by: Duration) {
        self.w.pass(by);
    }

    pub fn value(&mut self, peer: &Peer) -> Value {
        self.w.key(peer, "k")["value"].clone()
    }
}
