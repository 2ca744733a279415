//! The queue of one durable client against the plainest list: full-queue policies, deliveries on disk alone, expiry,
//! settlement, reconnection, restarts and an unreliable store.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use proptest::prelude::*;
use router_core::limits::{LaneLimit, OutboxLimits, RealmLimits, WhenFull};
use router_core::model::{Delivery, EndReason};
use router_core::records;
use router_core::session::Leave;
use serde_json::json;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
enum Step {
    /// Publish; the message expires after so many seconds, if any.
    Publish(Option<u64>),
    /// Read what there is.
    Read,
    /// Settle the one at this place among those received.
    Settle(usize),
    Leave,
    /// ... with this window.
    Join(u16),
    /// The router is started again.
    Restart,
    /// Seconds pass.
    Pass(u64),
    /// So many messages are published before the store fails, and some after.
    Outage(u8),
    /// The next read of a record fails.
    Unreadable,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => proptest::option::weighted(0.2, 1..20_u64).prop_map(Step::Publish),
        4 => Just(Step::Read),
        4 => (0..6_usize).prop_map(Step::Settle),
        2 => Just(Step::Leave),
        3 => (1..6_u16).prop_map(Step::Join),
        1 => Just(Step::Restart),
        1 => (1..10_u64).prop_map(Step::Pass),
        1 => (0..4_u8).prop_map(Step::Outage),
        1 => Just(Step::Unreadable),
    ];
    proptest::collection::vec(step, 1..120)
}

#[derive(Clone, Debug)]
struct Item {
    n: u64,
    expires: Option<u64>,
    /// Dropped just before it.
    gap: u32,
    sent: bool,
    /// A crash left open whether it was sent.
    unsure: bool,
    slot: u16,
}

struct Model {
    waiting: VecDeque<Item>,
    sent: Vec<Item>,
    /// Dropped since, with nothing behind.
    gap: u32,
    window: usize,
    /// Of `sent`, those still to be repeated to this connection come from here on.
    repeated: usize,
    /// How many came since the client settled anything or connected, and since when.
    unheeded: usize,
    since: Option<Instant>,
    is_stuck: bool,
}

impl Model {
    fn new(window: usize) -> Model {
        Model {
            waiting: VecDeque::new(),
            sent: Vec::new(),
            gap: 0,
            window,
            repeated: 0,
            unheeded: 0,
            since: None,
            is_stuck: false,
        }
    }

    fn shows_a_sign(&mut self) {
        (self.unheeded, self.since, self.is_stuck) = (0, None, false);
    }
}

struct Run {
    w: World,
    publisher: Peer,
    peer: Option<Peer>,
    model: Model,
    limits: OutboxLimits,
    next: u64,
}

impl Run {
    fn new(when_full: WhenFull, resident: usize) -> Run {
        let lane = |frames| LaneLimit {
            frames,
            bytes: 1 << 20,
        };
        let limits = OutboxLimits {
            ordered: lane(20),
            sure: lane(6),
            patience: PATIENCE,
            when_full,
            resident,
            ..OutboxLimits::default()
        };
        let mut w = World::new(
            true,
            RealmLimits {
                outbox: limits,
                ..RealmLimits::default()
            },
        );
        let publisher = w.plain();
        let mut run = Run {
            w,
            publisher,
            peer: None,
            model: Model::new(1),
            limits,
            next: 0,
        };
        run.begin(3);
        run
    }

    /// A session that is new.
    fn begin(&mut self, window: u16) {
        let peer = self.w.join(client("c").expiry(100_000).window(window));
        assert_eq!(self.w.lines(&peer), ["joined"]);
        self.w.ask(&peer, sub(1, "t").qos(1).into());
        self.peer = Some(peer);
        self.model = Model::new(usize::from(window));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(after) => self.publish(*after),
            Step::Read => self.read(),
            Step::Settle(at) => self.settle(*at),
            Step::Leave => self.leave(),
            Step::Join(window) => self.join(*window),
            Step::Restart => self.restart(),
            Step::Pass(secs_) => self.pass(*secs_),
            Step::Outage(count) => self.outage(*count),
            Step::Unreadable => {
                let error = storage::StorageError::Full;
                self.w.read_faults.push_back(Some(error));
            }
        }
        self.check();
    }

    fn pass(&mut self, by: u64) {
        self.w.pass(secs(by));
    }

    fn limit(&self) -> usize {
        let most = match self.peer {
            Some(_) if !self.model.is_stuck => self.limits.ordered.frames,
            _ => self.limits.sure.frames,
        };
        match self.peer {
            // What the window lets through waits for the writer only.
            Some(_) => most + self.model.window.saturating_sub(self.model.sent.len()),
            None => most,
        }
    }

    /// One more comes to a client that settles nothing.
    fn note_unheeded(&mut self) {
        let now = self.w.now.instant;
        let since = *self.model.since.get_or_insert(now);
        self.model.unheeded += 1;
        self.model.is_stuck =
            self.model.unheeded > self.limits.sure.frames && now - since >= PATIENCE;
    }

    fn publish(&mut self, after: Option<u64>) {
        self.next += 1;
        let n = self.next;
        let mut publish = publish("t", json!([n])).qos(1).ack(n);
        if let Some(after) = after {
            publish = publish.expires(after);
        }
        let publisher = self.publisher.clone();
        let was_down = self.w.realm.is_store_down();
        self.w.send(&publisher, publish.into());
        let answers = self.w.lines(&publisher);
        let is_refused = answers
            .iter()
            .any(|line| line.starts_with(&format!("refused {n}")));
        if was_down {
            assert!(is_refused, "{answers:?}");
            return;
        }
        if self.limits.when_full != WhenFull::DropOldest && self.model.waiting.len() >= self.limit()
        {
            self.sweep();
        }
        if self.limits.when_full == WhenFull::RefusePublisher {
            let is_full = self.model.waiting.len() >= self.limit();
            assert_eq!(is_refused, is_full, "{answers:?}");
            if is_refused {
                return;
            }
        }
        let is_full = self.model.waiting.len() >= self.limit();
        match self.limits.when_full {
            WhenFull::Disconnect if is_full => {
                let reason = self.peer.take().map(|peer| self.w.read(&peer));
                if let Some(deliveries) = reason {
                    let last = deliveries.last();
                    let is_told = matches!(last, Some(Delivery::Ended(EndReason::TooSlow)));
                    assert!(is_told, "{deliveries:?}");
                }
                let auto_commit = std::mem::replace(&mut self.w.auto_commit, true);
                self.w.commit();
                assert_eq!(self.w.records(records::QUEUES), 0);
                self.begin(2);
                self.w.auto_commit = auto_commit;
                return;
            }
            _ => assert!(!is_refused, "{answers:?}"),
        }
        self.model.waiting.push_back(Item {
            n,
            expires: after.map(|after| self.w.now.unix_ms + after * 1_000),
            gap: std::mem::take(&mut self.model.gap),
            sent: false,
            unsure: false,
            slot: 0,
        });
        self.make_room();
        self.note_unheeded();
    }

    /// What has expired goes first, and is not lost.
    fn make_room(&mut self) {
        if self.limits.when_full != WhenFull::DropOldest {
            return;
        }
        if self.model.waiting.len() > self.limit() {
            self.sweep();
        }
        while self.model.waiting.len() > self.limit() {
            self.drop_front(1);
        }
    }

    fn sweep(&mut self) {
        let now = self.w.now.unix_ms;
        let mut at = 0;
        while let Some(item) = self.model.waiting.get(at) {
            if item.expires.is_none_or(|expires| expires > now) {
                at += 1;
                continue;
            }
            let gap = self.model.waiting.remove(at).unwrap().gap;
            match self.model.waiting.get_mut(at) {
                Some(next) => next.gap += gap,
                None => self.model.gap += gap,
            }
        }
    }

    fn drop_front(&mut self, dropped: u32) {
        let gone = self.model.waiting.pop_front().unwrap();
        let gap = match self.model.waiting.front_mut() {
            Some(next) => &mut next.gap,
            None => &mut self.model.gap,
        };
        *gap += gone.gap + dropped;
    }

    fn read(&mut self) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        let mut got = self.w.read(&peer);
        // A failed read is tried again after a second.
        while !self.w.read_faults.is_empty() && self.may_go_out() > got.len() {
            self.retry();
            got.extend(self.w.read(&peer));
        }
        if self.may_go_out() > got.len() {
            self.retry();
            got.extend(self.w.read(&peer));
        }
        let mut got = got.into_iter();
        while self.model.repeated < self.model.sent.len() {
            let item = &mut self.model.sent[self.model.repeated];
            self.model.repeated += 1;
            compare(item, got.next());
        }
        while self.model.sent.len() < self.model.window && !self.model.waiting.is_empty() {
            let now = self.w.now.unix_ms;
            if self.model.waiting[0].expires.is_some_and(|at| at <= now) {
                self.drop_front(0);
                continue;
            }
            let mut item = self.model.waiting.pop_front().unwrap();
            compare(&mut item, got.next());
            item.sent = true;
            self.model.sent.push(item);
            self.model.repeated += 1;
        }
        let rest: Vec<_> = got.collect();
        assert!(rest.is_empty(), "{rest:?}");
    }

    /// The time for trying again comes, without anything expiring.
    fn retry(&mut self) {
        self.w.now.instant += secs(1);
        self.w.realm.tick(self.w.now, &mut self.w.effects);
        self.w.let_out();
    }

    /// How many deliveries are due.
    fn may_go_out(&self) -> usize {
        let now = self.w.now.unix_ms;
        let is_live = |item: &&Item| item.expires.is_none_or(|at| at > now);
        let live = self.model.waiting.iter().filter(is_live).count();
        let room = self.model.window.saturating_sub(self.model.sent.len());
        self.model.sent.len() - self.model.repeated + live.min(room)
    }

    fn settle(&mut self, at: usize) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        if at < self.model.repeated {
            let item = self.model.sent.remove(at);
            self.model.repeated -= 1;
            self.model.shows_a_sign();
            self.w.send(&peer, settle(item.slot));
        }
    }

    fn leave(&mut self) {
        if let Some(peer) = self.peer.take() {
            self.w.leave(&peer, Leave::Lost);
            self.make_room();
        }
    }

    fn join(&mut self, window: u16) {
        if self.peer.is_some() {
            return;
        }
        let peer = self.w.join(client("c").expiry(100_000).window(window));
        let mut out = Vec::new();
        let generation = peer.connection.generation;
        peer.outbox
            .drain(generation, 1, self.w.now.unix_ms, &mut out);
        assert!(matches!(out[..], [Delivery::Joined { present: true }]));
        self.peer = Some(peer);
        self.model.window = usize::from(window);
        self.model.repeated = 0;
        self.model.shows_a_sign();
    }

    fn restart(&mut self) {
        let crashed = self.peer.take().is_some();
        self.w.restart();
        self.publisher = self.w.plain();
        for item in self.model.sent.drain(..).rev() {
            self.model.waiting.push_front(item);
        }
        for item in &mut self.model.waiting {
            item.unsure |= crashed;
        }
        self.model.repeated = 0;
        // What was in flight waits again, beyond the bound, until there is time to drop it.
        self.pass(1);
        self.make_room();
    }

    fn outage(&mut self, count: u8) {
        self.w.auto_commit = false;
        for _ in 0..count {
            self.publish(None);
        }
        if !self.w.pending.is_empty() {
            self.w.fail();
            self.publish(None);
            self.settle(0);
        }
        while self.w.realm.is_store_down() {
            self.w.probe();
            self.w.commit();
        }
        self.w.commit();
        self.w.auto_commit = true;
        let publisher = self.publisher.clone();
        self.w.lines(&publisher);
    }

    fn check(&mut self) {
        assert!(self.w.pending.is_empty());
        let sessions = self.w.records(records::SESSIONS);
        assert_eq!(sessions, 1);
        if self.peer.is_none() {
            let outbox = self.w.realm.outbox_of("c").unwrap();
            assert_eq!(outbox.depth().1 + outbox.depth().2, self.held());
            let resident = outbox.resident();
            assert!(resident <= self.limits.resident, "{resident} in memory");
        }
    }

    fn held(&self) -> usize {
        self.model.waiting.len() + self.model.sent.len()
    }

    /// In the end everything that is due comes, and nothing is left on disk.
    fn finish(&mut self) {
        self.w.read_faults.clear();
        self.pass(2);
        self.join(5);
        for _ in 0..40 {
            self.read();
            while self.model.repeated > 0 {
                self.settle(0);
            }
        }
        assert_eq!(self.held(), 0);
        let peer = self.peer.clone().unwrap();
        self.w.lines(&peer);
        // A gap that nobody was told of yet may be left.
        assert!(self.w.records(records::QUEUES) <= usize::from(self.model.gap > 0));
    }
}

fn compare(item: &mut Item, got: Option<Delivery>) {
    let Some(Delivery::Event(event)) = got else {
        panic!("{item:?} is due, not {got:?}");
    };
    let n = event.event.payload.value().as_u64();
    assert_eq!(n, Some(item.n));
    assert_eq!(event.lost, item.gap, "{item:?}");
    if item.sent || !item.unsure {
        assert_eq!(event.repeated, item.sent, "{item:?}");
    }
    item.slot = event.slot.unwrap().get();
}

fn policy() -> impl Strategy<Value = WhenFull> {
    prop_oneof![
        2 => Just(WhenFull::DropOldest),
        1 => Just(WhenFull::RefusePublisher),
        1 => Just(WhenFull::Disconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_a_list_would(when_full in policy(), resident in 0..5_usize, steps in steps()) {
        let mut run = Run::new(when_full, resident);
        for step in &steps {
            run.take(step);
        }
        run.finish();
    }
}

/// The bound sinks with the delivery that shows the client to be stuck; what is beyond it goes with
/// the next one.
#[test]
fn what_came_until_a_client_is_found_stuck_stays_until_the_next_delivery() {
    let mut run = Run::new(WhenFull::DropOldest, 0);
    run.take(&Step::Restart);
    let publish = |run: &mut Run, count| (0..count).for_each(|_| run.take(&Step::Publish(None)));
    publish(&mut run, 3);
    run.take(&Step::Join(1));
    publish(&mut run, 3);
    run.take(&Step::Pass(3));
    publish(&mut run, 4);
    assert!(run.model.is_stuck);
    assert_eq!(run.model.waiting.len(), 10);
    run.take(&Step::Pass(1));
    publish(&mut run, 1);
    assert_eq!(run.model.waiting.len(), run.limit());
    run.finish();
}
