//! The history beside a naive log: random publishes, subscribers that ask for what came after and read slowly, trims,
//! failures of the store and restarts.
//!
//! Every subscriber must see, in order and once, whatever the naive log still holds of what it asked for and whatever was
//! published since; what it does not see must be forgotten there too, and then it must have been told of a gap.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use router_core::history::{HistoryRule, HistorySettings, Retention};
use router_core::limits::RealmLimits;
use router_core::model::{Answer, Delivery, EventDelivery, Pattern, Topic};
use router_core::realm::IdClock;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const STEPS: u64 = 50_000;

const TOPICS: [&str; 6] = ["a/x", "a/y", "b", "r/x", "r/y", "m/x"];
const PATTERNS: [&str; 8] = ["#", "a/+", "a/x", "r/#", "r/x", "m/x", "+/x", "b"];
const READERS: usize = 4;

/// On request, `r/#`, and `m/#`, which is not stored.
fn logs() -> [Retention; 3] {
    let of = |events, bytes, age, durable| Retention {
        events,
        bytes,
        age,
        durable,
    };
    [
        of(200, 12_000, Some(Duration::from_secs(3_000)), true),
        of(50, 1 << 20, None, true),
        of(40, 1 << 20, None, false),
    ]
}

fn history() -> HistorySettings {
    let [traced, stored, passing] = logs();
    let rule = |text, keep| HistoryRule {
        pattern: pattern(text),
        keep,
    };
    HistorySettings {
        traced: Some(traced),
        rules: vec![rule("r/#", stored), rule("m/#", passing)],
    }
}

/// What the naive log knows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not remembered.
    Passing,
    /// The store has not confirmed it; acknowledged or not.
    Open(u64, bool),
    /// Nobody was told that it failed: it is to be written again.
    Unwritten,
    /// It is remembered.
    Kept,
    /// It was, beyond the bounds.
    Forgotten,
    /// It was in memory alone, in an earlier life: whoever asks for all there is misses nothing.
    Lost,
    /// The store refused it, or it died with the process.
    Gone,
}

#[derive(Debug)]
struct Known {
    topic: Topic,
    log: Option<usize>,
    cost: usize,
    state: State,
}

struct Reader {
    peer: Peer,
    pattern: Pattern,
    after: u64,
    /// The last publication before it subscribed.
    asked: u64,
    /// Publication and whether a gap was told.
    seen: Vec<(u64, bool)>,
}

struct Run {
    w: World,
    dice: Dice,
    publisher: Peer,
    witness: Peer,
    readers: Vec<Reader>,
    known: BTreeMap<u64, Known>,
    /// What the store has not confirmed.
    open: Vec<u64>,
    down: bool,
    next: u64,
    seen: u64,
    gaps: u64,
}

fn events(deliveries: Vec<Delivery>) -> Vec<EventDelivery> {
    let events = deliveries.into_iter().filter_map(|d| match d {
        Delivery::Event(event) => Some(event),
        _ => None,
    });
    events.collect()
}

impl Run {
    fn new(seed: u64) -> Run {
        let limits = RealmLimits {
            history_resident_bytes: 1_500,
            ..RealmLimits::default()
        };
        let mut w = World::remembering(true, limits, history());
        let (publisher, witness) = people(&mut w);
        Run {
            w,
            dice: Dice(seed),
            publisher,
            witness,
            readers: Vec::new(),
            known: BTreeMap::new(),
            open: Vec::new(),
            down: false,
            next: 0,
            seen: 0,
            gaps: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..60 => self.publish(),
            60..66 => self.subscribe(),
            66..84 => self.read_a_little(),
            84..88 => self.finish_one(),
            88..90 => {
                let by = secs(self.dice.below(200));
                self.w.pass(by);
            }
            90..93 => self.w.auto_commit = self.dice.once_in(2) && !self.down,
            93..97 => self.settle_commits(),
            97 => self.fail(),
            _ if self.dice.once_in(15) => self.restart(),
            _ => {}
        }
        self.confirm();
        self.forget();
    }

    fn confirm(&mut self) {
        let open = self
            .w
            .pending
            .front()
            .map_or(u64::MAX, |(commit, _)| *commit);
        let (known, down) = (&mut self.known, self.down);
        self.open.retain(|id| {
            let state = &mut known.get_mut(id).unwrap().state;
            match *state {
                State::Open(commit, _) if commit < open => *state = State::Kept,
                State::Unwritten if !down => *state = State::Kept,
                _ => {}
            }
            matches!(state, State::Open(..) | State::Unwritten)
        });
    }

    fn publish(&mut self) {
        self.next += 1;
        let on = *self.dice.pick(&TOPICS);
        let is_traced = !self.dice.once_in(3);
        let is_acknowledged = self.dice.once_in(2);
        let list = json!([self.next]);
        let mut command = publish(on, list.clone());
        command = if is_traced { command.trace() } else { command };
        command = if is_acknowledged {
            command.ack(self.next)
        } else {
            command
        };
        let not_kept = self.w.realm.counters().history_not_kept;
        self.w.send(&self.publisher, command.into());
        let is_kept = self.w.realm.counters().history_not_kept == not_kept;
        let told = self.witness_sees();
        let log = match on.split('/').next() {
            Some("r") => Some(1),
            Some("m") => Some(2),
            _ => is_traced.then_some(0),
        };
        let is_durable = log.is_some_and(|log| logs()[log].durable);
        let Some(id) = told else {
            assert!(
                self.down && is_durable && is_acknowledged,
                "it went out to nobody"
            );
            return;
        };
        let commit = self.w.pending.back().map(|(commit, _)| *commit);
        let state = match (log, commit) {
            (None, _) => State::Passing,
            // The store is down and the memory full of what waits for it.
            _ if !is_kept => State::Passing,
            (Some(_), _) if is_durable && self.down => State::Unwritten,
            (Some(_), Some(commit)) if is_durable => State::Open(commit, is_acknowledged),
            (Some(_), _) => State::Kept,
        };
        let known = Known {
            topic: topic(on),
            log: log.filter(|_| is_kept),
            cost: list.to_string().len() + on.len() + 64,
            state,
        };
        if matches!(state, State::Open(..) | State::Unwritten) {
            self.open.push(id);
        }
        self.known.insert(id, known);
    }

    fn witness_sees(&mut self) -> Option<u64> {
        self.w.read(&self.publisher);
        let seen = events(self.w.read(&self.witness));
        assert!(seen.len() <= 1, "{seen:?}");
        seen.first().map(|event| event.event.publication.0)
    }

    fn subscribe(&mut self) {
        if self.readers.len() >= READERS {
            return;
        }
        let text = *self.dice.pick(&PATTERNS);
        let count = self.known.len() as u64;
        let after = match self.dice.below(4) {
            0 => 0,
            1 => self.known.keys().last().copied().unwrap_or(0),
            // Mostly from what may still be remembered.
            _ if count > 0 => {
                let back = usize::try_from(self.dice.below(count.min(600))).unwrap();
                self.known.keys().rev().nth(back).copied().unwrap_or(0)
            }
            _ => 0,
        };
        let asked = self.known.keys().last().copied().unwrap_or(0);
        let peer = self.w.plain();
        self.w.send(&peer, sub(1, text).after(after).into());
        self.readers.push(Reader {
            peer,
            pattern: pattern(text),
            after,
            asked,
            seen: Vec::new(),
        });
    }

    fn read_a_little(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.readers.len() as u64)).unwrap();
        let most = usize::try_from(1 + self.dice.below(40)).unwrap();
        let peer = self.readers[at].peer.clone();
        let mut out = Vec::new();
        let drained = peer.outbox.drain(
            peer.connection.generation,
            most,
            self.w.now.unix_ms,
            &mut out,
        );
        if drained.refill {
            self.w
                .realm
                .refill(self.w.now, peer.connection, &mut self.w.effects);
            self.w.let_out();
        } else if self.dice.once_in(2) {
            self.w.answer_loads();
        }
        self.readers[at].note(out);
    }

    /// Whoever reads all there is has what it asked for.
    fn finish_one(&mut self) {
        if self.readers.is_empty() || !self.w.pending.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.readers.len() as u64)).unwrap();
        let peer = self.readers[at].peer.clone();
        let rest = self.w.read(&peer);
        self.readers[at].note(rest);
        self.forget();
        self.check(at);
        if self.dice.once_in(3) {
            let gone = self.readers.swap_remove(at);
            self.w.leave(&gone.peer, router_core::session::Leave::Clean);
        }
    }

    fn check(&mut self, at: usize) {
        let reader = &self.readers[at];
        assert!(
            reader.seen.is_sorted_by(|a, b| a.0 < b.0),
            "out of order or twice"
        );
        let is_single = reader.pattern.is_exact();
        let mut seen = reader.seen.iter().peekable();
        let (mut missing, mut gap_told) = (false, false);
        for (&id, known) in self.known.range(reader.after.min(reader.asked) + 1..) {
            if !reader.pattern.matches(&known.topic, "wamp") {
                continue;
            }
            if let Some((_, gap)) = seen.next_if(|(seen, _)| *seen == id) {
                gap_told |= gap;
                if missing {
                    assert!(*gap || (gap_told && !is_single), "{id} tells of no gap");
                }
                missing = false;
                assert!(id > reader.after || id > reader.asked);
                continue;
            }
            let is_due = match known.state {
                State::Passing => id > reader.asked,
                State::Gone | State::Lost | State::Forgotten => false,
                State::Open(..) | State::Unwritten | State::Kept => id > reader.after,
            };
            assert!(
                !is_due,
                "{id} {known:?} was not shown, after {} asked {}",
                reader.after, reader.asked
            );
            missing |= known.state == State::Forgotten && id > reader.after;
            missing |= known.state == State::Lost && id > reader.after && reader.after > 0;
        }
        assert_eq!(
            seen.next(),
            None,
            "nobody published that, or it was not asked for"
        );
        self.seen += reader.seen.len() as u64;
        self.gaps += u64::from(gap_told);
    }

    fn settle_commits(&mut self) {
        if self.down {
            self.w.probe();
            self.w.commit();
            self.down = false;
            self.w.commit();
        } else if self.dice.once_in(2) {
            self.w.commit_one();
        } else {
            self.w.commit();
        }
        self.witness_sees();
    }

    fn fail(&mut self) {
        if self.w.pending.is_empty() {
            return;
        }
        self.w.fail();
        self.w.auto_commit = false;
        self.down = true;
        self.w.read(&self.publisher);
        self.give_up(|acknowledged| match acknowledged {
            true => State::Gone,
            false => State::Unwritten,
        });
    }

    fn give_up(&mut self, becomes: impl Fn(bool) -> State) {
        for id in &self.open {
            let state = &mut self.known.get_mut(id).unwrap().state;
            if let State::Open(_, acknowledged) = *state {
                *state = becomes(acknowledged);
            }
        }
    }

    fn restart(&mut self) {
        self.readers.clear();
        self.w.restart();
        self.w.auto_commit = true;
        self.down = false;
        self.give_up(|_| State::Gone);
        for known in self.known.values_mut() {
            let is_kept = !matches!(known.state, State::Gone | State::Passing);
            match known.log {
                Some(log) if !logs()[log].durable && is_kept => known.state = State::Lost,
                _ if known.state == State::Unwritten => known.state = State::Gone,
                _ => {}
            }
        }
        (self.publisher, self.witness) = people(&mut self.w);
    }

    /// Brings the naive logs down to their bounds.
    fn forget(&mut self) {
        let now = self.w.now.unix_ms;
        for (log, keep) in logs().iter().enumerate() {
            let (mut count, mut bytes) = (0, 0);
            let age = keep
                .age
                .map_or(0, |age| u64::try_from(age.as_millis()).unwrap());
            let first = match age {
                0 => 0,
                age => IdClock::first_at(now - age).0,
            };
            for (&id, known) in self.known.iter_mut().rev() {
                let is_in = matches!(
                    known.state,
                    State::Open(..) | State::Unwritten | State::Kept
                );
                if known.log != Some(log) {
                    continue;
                }
                if matches!(known.state, State::Forgotten | State::Lost) {
                    break;
                }
                if !is_in {
                    continue;
                }
                count += 1;
                bytes += known.cost;
                if count > keep.events || bytes > keep.bytes || id < first {
                    known.state = State::Forgotten;
                }
            }
        }
    }
}

impl Reader {
    fn note(&mut self, deliveries: Vec<Delivery>) {
        for delivery in &deliveries {
            assert!(
                matches!(
                    delivery,
                    Delivery::Event(_)
                        | Delivery::Done {
                            answer: Answer::Subscribed { .. },
                            ..
                        }
                ),
                "{delivery:?}"
            );
        }
        let found = events(deliveries);
        self.seen.extend(
            found
                .iter()
                .map(|event| (event.event.publication.0, event.gap)),
        );
    }
}

fn people(w: &mut World) -> (Peer, Peer) {
    let (publisher, witness) = (w.plain(), w.plain());
    w.subscribed(&witness, "#");
    (publisher, witness)
}

#[test]
fn what_is_remembered_is_what_a_naive_log_remembers() {
    let mut run = Run::new(20_260_101);
    for _ in 0..STEPS {
        run.step();
    }
    let counters = *run.w.realm.counters();
    assert!(
        run.seen > 50_000 && run.gaps > 100,
        "{} {}",
        run.seen,
        run.gaps
    );
    assert_eq!(counters.ended_too_slow, 0);
}
