//! Random operations, done to the realm and to the reference.

use crate::common::*;
use crate::reference::{Ask, KEYS, Mode, Reference, What, Write};
use router_core::model::CancelMode;
use router_core::session::Leave;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The values that are published; 0 is none.
pub fn value(at: usize) -> Value {
    [json!(null), json!(1), json!({"x": 1})][at].clone()
}

pub struct Run {
    pub w: World,
    pub reference: Reference,
    pub peers: BTreeMap<usize, Peer>,
    /// Sees every event of every key.
    pub observer: Peer,
    /// Tokens of all grants there were: (session, grant, token).
    pub grants: Vec<(usize, u64, u64)>,
    /// The latest publication seen of each key.
    pub latest: [u64; KEYS.len()],
    pub dice: Dice,
    next: usize,
    requests: u64,
}

impl Run {
    pub fn new(durable: bool, seed: u64) -> Run {
        let mut w = match durable {
            true => World::durable(),
            false => World::memory(),
        };
        w.auto_commit = false;
        let observer = w.plain();
        w.subscribed(&observer, "+");
        Run {
            w,
            reference: Reference {
                durable,
                ..Reference::default()
            },
            peers: BTreeMap::new(),
            observer,
            grants: Vec::new(),
            latest: [0; KEYS.len()],
            dice: Dice(seed),
            next: 0,
            requests: 0,
        }
    }

    fn roll(&mut self, n: usize) -> usize {
        usize::try_from(self.dice.below(n as u64)).unwrap()
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn someone(&mut self) -> (usize, Peer) {
        let at = self.roll(self.peers.len());
        let (session, peer) = self.peers.iter().nth(at).unwrap();
        (*session, peer.clone())
    }

    pub fn step(&mut self) {
        if self.peers.len() < 2 || (self.peers.len() < 7 && self.dice.once_in(15)) {
            let peer = self.w.plain();
            self.peers.insert(self.next, peer);
            self.next += 1;
            return;
        }
        match self.dice.below(100) {
            0..36 => self.acquire(),
            36..54 => self.release(),
            54..60 => self.renew(),
            60..76 => self.write(),
            76..81 => self.cancel(),
            81..83 => self.break_key(),
            83..90 => {
                let by = self.dice.below(200);
                self.reference.pass(by);
                self.w.pass(ms(by));
            }
            90..92 => self.leave(),
            _ => self.disk(),
        }
    }

    fn ask(&mut self) -> (Ask, Value) {
        let (mode, name) = *self.dice.pick(&[
            (Mode::Alone, "mutex"),
            (Mode::Alone, "exclusive"),
            (Mode::Shared, "shared"),
            (Mode::Shared, "shared"),
            (Mode::Permit, "permit"),
            (Mode::Permit, "permit"),
        ]);
        let limit = if self.dice.once_in(8) { 4 } else { 3 };
        let permits = 1 + self.dice.below(3);
        let ttl = self.dice.once_in(3).then(|| 1 + self.dice.below(300));
        let ask = Ask {
            mode,
            permits,
            limit,
            ttl,
            reentrant: self.dice.once_in(4),
            data: self.roll(3),
            progress: self.dice.once_in(2),
        };
        let options = json!({
            "mode": name,
            "permits": permits,
            "limit": limit,
            "ttl_ms": ttl,
            "reentrant": ask.reentrant,
            "data": value(ask.data),
        });
        (ask, options)
    }

    fn acquire(&mut self) {
        let (session, peer) = self.someone();
        let (request, key) = (self.request(), self.roll(KEYS.len()));
        let (ask, mut options) = self.ask();
        let only_now = self.dice.once_in(4);
        let wait = self.dice.once_in(3).then(|| self.dice.below(300));
        let timeout = self.dice.once_in(8).then(|| 1 + self.dice.below(300));
        options["wait_ms"] = json!(wait);
        let name = if only_now { "try_acquire" } else { "acquire" };
        let args = json!([KEYS[key], options]);
        let procedure = format!("fox/lock/{name}");
        let command = call_with(request, &procedure, args, ask.progress, timeout.map(ms));
        let wait = match wait {
            Some(0) => wait,
            wait => wait.into_iter().chain(timeout).min(),
        };
        let caller = (session, request);
        self.reference.acquire(caller, key, ask, wait, only_now);
        self.w.send(&peer, command);
    }

    /// A grant by its session, or any grant there ever was, by anybody.
    fn grant(&mut self) -> Option<(usize, Peer, u64, u64)> {
        if self.dice.once_in(8) && !self.grants.is_empty() {
            let (session, peer) = self.someone();
            let at = self.roll(self.grants.len());
            let (_, uid, token) = self.grants[at];
            return Some((session, peer, uid, token));
        }
        let keys = self.reference.keys.iter();
        let held: Vec<(usize, u64)> = keys
            .flat_map(|key| key.holders.iter().map(|h| (h.session, h.uid)))
            .collect();
        let (session, uid) = (!held.is_empty()).then(|| *self.dice.pick(&held))?;
        let known = self.grants.iter().find(|(_, known, _)| *known == uid);
        let token = known.expect("every grant is seen").2;
        Some((session, self.peers[&session].clone(), uid, token))
    }

    fn release(&mut self) {
        let Some((session, peer, uid, token)) = self.grant() else {
            return;
        };
        let request = self.request();
        self.reference.release(session, request, uid);
        self.w
            .send(&peer, call(request, "fox/lock/release", json!([token])));
    }

    fn renew(&mut self) {
        let Some((session, peer, uid, token)) = self.grant() else {
            return;
        };
        let request = self.request();
        let ttl = self.dice.once_in(2).then(|| 1 + self.dice.below(300));
        self.reference.renew(session, request, uid, ttl);
        let args = json!([token, {"ttl_ms": ttl}]);
        self.w.send(&peer, call(request, "fox/lock/renew", args));
    }

    fn write(&mut self) {
        let (session, peer) = self.someone();
        let (request, key) = (self.request(), self.roll(KEYS.len()));
        let mut write = Write {
            value: self.roll(3),
            when: None,
            watch: false,
            will: self.dice.once_in(3),
        };
        let mut publish = put(request, KEYS[key], json!([value(write.value)]));
        let mut wait = None;
        if self.dice.once_in(2) {
            let when = self.roll(3);
            write.when = Some(when);
            publish = publish.when(value(when));
            match self.roll(3) {
                0 => {}
                1 => {
                    write.watch = true;
                    publish = publish.watch();
                }
                _ => {
                    write.watch = true;
                    wait = Some(1 + self.dice.below(300));
                    publish = publish.watch_for(ms(wait.unwrap()));
                }
            }
        }
        if write.will {
            publish = publish.will(json!(null));
        }
        let caller = (session, request);
        self.reference.write(caller, key, write, wait);
        self.w.send(&peer, publish.into());
    }

    fn cancel(&mut self) {
        let keys = self.reference.keys.iter();
        let waiting: Vec<(usize, u64)> = keys
            .flat_map(|key| &key.line)
            .filter(|waiter| matches!(waiter.what, What::Hold(_)))
            .map(|waiter| (waiter.session, waiter.request))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let (session, request) = *self.dice.pick(&waiting);
        let mode = *self
            .dice
            .pick(&[CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait]);
        self.reference.cancel(session, request);
        let peer = self.peers[&session].clone();
        self.w.send(&peer, cancel(request, mode));
    }

    fn break_key(&mut self) {
        let (session, peer) = self.someone();
        let (request, key) = (self.request(), self.roll(KEYS.len()));
        self.reference.break_key(session, request, key);
        self.w
            .send(&peer, call(request, "fox/lock/break", json!([KEYS[key]])));
    }

    fn leave(&mut self) {
        let (session, peer) = self.someone();
        self.end(session, &peer);
    }

    pub fn end(&mut self, session: usize, peer: &Peer) {
        self.peers.remove(&session);
        self.reference.leave(session);
        let how = *self.dice.pick(&[Leave::Clean, Leave::Lost]);
        self.w.leave(peer, how);
    }

    /// What the disk does.
    pub fn disk(&mut self) {
        if self.reference.down {
            self.w.probe();
            self.w.commit();
            self.reference.recovered();
        } else if !self.w.pending.is_empty() && self.dice.once_in(5) {
            self.hear();
            self.w.fail();
            self.reference.lost();
            self.resync();
        } else {
            self.w.commit();
            self.reference.committed();
        }
    }
}
