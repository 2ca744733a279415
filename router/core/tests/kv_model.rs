//! Conditions, waiting writes and wills against the plainest model of their rules: a map of values,
//! one list of waiting writes, and a list of what each session must have been told.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::session::Leave;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEYS: [&str; 2] = ["a", "b"];

/// The values in use; the first means "absent".
fn values() -> [Value; 5] {
    [
        json!(null),
        json!(1),
        json!("1"),
        json!({"x": 1}),
        json!({"x": 1, "y": [2]}),
    ]
}

/// Conditions, and which of the values each one fits.
fn conditions() -> [(Value, [bool; 5]); 7] {
    [
        (json!(null), [true, false, false, false, false]),
        (json!(1.0), [false, true, false, false, false]),
        (json!("1"), [false, false, true, false, false]),
        (json!({}), [false, false, false, true, true]),
        (json!({"y": null}), [false, false, false, true, false]),
        (json!({"y": [2, null]}), [false, false, false, false, true]),
        (json!([1]), [false; 5]),
    ]
}

#[derive(Clone, Debug)]
struct Write {
    session: usize,
    request: u64,
    key: usize,
    value: usize,
    when: Option<usize>,
    will: Option<usize>,
    deadline: Option<u64>,
}

/// Session, value, order of arming.
type Will = (usize, usize, u64);

#[derive(Default)]
struct Model {
    /// key -> value, and the will with its session and the order of arming
    kept: BTreeMap<usize, (usize, Option<Will>)>,
    waiting: Vec<Write>,
    armed: u64,
    now: u64,
    told: BTreeMap<usize, Vec<String>>,
    events: Vec<String>,
}

impl Model {
    fn value(&self, key: usize) -> usize {
        self.kept.get(&key).map_or(0, |kept| kept.0)
    }

    fn fits(&self, write: &Write) -> bool {
        write
            .when
            .is_none_or(|when| conditions()[when].1[self.value(write.key)])
    }

    fn store(&mut self, key: usize, value: usize, will: Option<(usize, usize)>) {
        self.armed += 1;
        let will = will.map(|(session, will)| (session, will, self.armed));
        if value == 0 {
            self.kept.remove(&key);
            self.events.push(format!("{} cleared", KEYS[key]));
        } else {
            self.kept.insert(key, (value, will));
            self.events
                .push(format!("{} {}", KEYS[key], values()[value]));
        }
    }

    fn tell(&mut self, session: usize, text: String) {
        self.told.entry(session).or_default().push(text);
    }

    fn grant(&mut self, write: &Write) {
        self.store(
            write.key,
            write.value,
            write.will.map(|will| (write.session, will)),
        );
        self.tell(write.session, format!("done {}", write.request));
    }

    fn serve(&mut self, key: usize) {
        while let Some(at) = self
            .waiting
            .iter()
            .position(|w| w.key == key && self.fits(w))
        {
            let write = self.waiting.remove(at);
            self.grant(&write);
        }
    }

    fn write(&mut self, write: Write, watch: bool) {
        if self.fits(&write) {
            self.grant(&write);
            self.serve(write.key);
        } else if watch {
            self.waiting.push(write);
        } else {
            self.tell(
                write.session,
                format!("refused {} ConditionFailed", write.request),
            );
        }
    }

    fn end(&mut self, session: usize) {
        self.waiting.retain(|write| write.session != session);
        let mut wills: Vec<(u64, usize, usize)> = self
            .kept
            .iter()
            .filter_map(|(key, (_, will))| {
                will.map(|(owner, value, order)| (owner, order, *key, value))
            })
            .filter(|(owner, ..)| *owner == session)
            .map(|(_, order, key, value)| (order, key, value))
            .collect();
        wills.sort_unstable();
        for (order, key, value) in wills {
            // Serving an earlier will's waiters may have changed it.
            let armed = self.kept.get(&key).and_then(|kept| kept.1);
            if armed == Some((session, value, order)) {
                self.store(key, value, None);
                self.serve(key);
            }
        }
    }

    fn pass(&mut self, by: u64) {
        self.now += by;
        let due = |write: &Write| write.deadline.is_some_and(|at| at <= self.now);
        let mut late: Vec<Write> = self.waiting.iter().filter(|w| due(w)).cloned().collect();
        late.sort_by_key(|write| write.deadline);
        self.waiting
            .retain(|write| write.deadline.is_none_or(|at| at > self.now));
        for write in late {
            self.tell(write.session, format!("refused {} Timeout", write.request));
        }
    }
}

struct Run {
    w: World,
    model: Model,
    observer: Peer,
    peers: BTreeMap<usize, Peer>,
    dice: Dice,
    next: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut w = if seed.is_multiple_of(2) {
            World::memory()
        } else {
            World::durable()
        };
        let observer = w.plain();
        w.subscribed(&observer, "#");
        Run {
            w,
            model: Model::default(),
            observer,
            peers: BTreeMap::new(),
            dice: Dice(seed),
            next: 0,
        }
    }

    fn roll(&mut self, n: usize) -> usize {
        usize::try_from(self.dice.below(n as u64)).unwrap()
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..3 if self.peers.len() < 5 => {
                let peer = self.w.plain();
                self.peers.insert(self.next, peer);
                self.next += 1;
            }
            3..5 if !self.peers.is_empty() => {
                let at = self.roll(self.peers.len());
                let (session, peer) = self.peers.iter().nth(at).unwrap();
                let (session, peer) = (*session, peer.clone());
                self.check(session);
                self.peers.remove(&session);
                self.model.end(session);
                let how = *self.dice.pick(&[Leave::Clean, Leave::Lost]);
                self.w.leave(&peer, how);
            }
            5..7 => {
                let by = self.dice.below(300);
                self.model.pass(by);
                self.w.pass(ms(by));
            }
            _ if !self.peers.is_empty() => self.write(),
            _ => {}
        }
    }

    fn write(&mut self) {
        let at = self.roll(self.peers.len());
        let session = *self.peers.keys().nth(at).unwrap();
        let request = self.dice.roll() >> 12;
        let (key, value) = (self.roll(2), self.roll(5));
        let mut publish = put(request, KEYS[key], json!([values()[value]]));
        let mut write = Write {
            session,
            request,
            key,
            value,
            when: None,
            will: None,
            deadline: None,
        };
        let mut watch = false;
        if self.dice.below(4) > 0 {
            let when = self.roll(7);
            write.when = Some(when);
            publish = publish.when(conditions()[when].0.clone());
            match self.roll(3) {
                0 => {}
                1 => {
                    watch = true;
                    publish = publish.watch();
                }
                _ => {
                    watch = true;
                    let after = 1 + self.dice.below(400);
                    write.deadline = Some(self.model.now + after);
                    publish = publish.watch_for(ms(after));
                }
            }
        }
        if self.dice.once_in(2) {
            let will = self.roll(5);
            write.will = Some(will);
            publish = publish.will(values()[will].clone());
        }
        self.model.write(write, watch);
        let peer = self.peers[&session].clone();
        self.w.send(&peer, publish.into());
    }

    /// What a session was told, in order (timeouts of one moment in any order of theirs).
    fn check(&mut self, session: usize) {
        let peer = self.peers[&session].clone();
        let told: Vec<String> = self
            .w
            .lines(&peer)
            .into_iter()
            .map(|line| line.trim_end_matches(" published").to_owned())
            .collect();
        let expected = self.model.told.remove(&session).unwrap_or_default();
        assert_eq!(told, expected, "session {session}");
    }

    fn check_all(&mut self) {
        let sessions: Vec<usize> = self.peers.keys().copied().collect();
        for session in sessions {
            self.check(session);
        }
        let observer = self.observer.clone();
        let events: Vec<String> = self
            .w
            .lines(&observer)
            .into_iter()
            .map(|line| {
                let text = line.strip_prefix("event 1 ").unwrap();
                let (key, body) = text.split_once(' ').unwrap();
                match body.strip_suffix(" clears") {
                    Some(_) => format!("{key} cleared"),
                    None => format!("{key} {}", &body[1..body.len() - 1]),
                }
            })
            .collect();
        assert_eq!(events, std::mem::take(&mut self.model.events));
        for (at, key) in KEYS.iter().enumerate() {
            let report = self.w.key(&observer, key);
            assert_eq!(report["value"], values()[self.model.value(at)]);
            let waiting = self.model.waiting.iter().filter(|w| w.key == at).count();
            assert_eq!(report["waiters"], json!(waiting));
            let owner = self.model.kept.get(&at).and_then(|kept| kept.1);
            let owner = owner.map(|(session, ..)| self.peers[&session].id().0);
            assert_eq!(report["owner"], json!(owner));
        }
    }
}

#[test]
fn the_store_behaves_as_its_plain_model() {
    for seed in 0..400 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
            run.check_all();
        }
    }
}
