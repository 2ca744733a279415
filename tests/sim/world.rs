//! One run: who takes part, what goes wrong, and in which order everything happens.

use crate::actor::{Actor, Cx, Phase};
use crate::dice::Dice;
use crate::janitor::Janitor;
use crate::kv::KvClient;
use crate::ledger::Ledger;
use crate::lock::LockClient;
use crate::mqtt::{MqttActor, Plan};
use crate::net::{LinkId, Net};
use crate::noise::Noise;
use crate::pubsub::PubSub;
use crate::router::{Broken, Router};
use crate::rpc::{Callee, Caller};
use crate::shared;
use crate::verify;
use crate::wamp::WampActor;
use router_core::limits::{RealmLimits, WhenFull};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub seed: u64,
    pub broken: Broken,
    pub trace: bool,
    /// Steps of work and faults.
    pub steps: u64,
}

/// What came of a clean run.
#[derive(Debug, Default)]
pub struct Report {
    pub digest: u64,
    pub steps: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub tally: BTreeMap<&'static str, u64>,
}

/// How often each fault strikes, in a million steps.
#[derive(Clone, Copy, Debug)]
struct Rates {
    cut: u64,
    stall: u64,
    silence: u64,
    crash: u64,
    failure: u64,
    outage: u64,
}

struct World {
    net: Net,
    router: Router,
    ledger: Ledger,
    dice: Dice,
    actors: Vec<Box<dyn Actor>>,
    phase: Phase,
    now: u64,
    durable: bool,
    restart_at: Option<u64>,
    rates: Rates,
    trace: bool,
    steps: u64,
}

/// What can be given a turn.
#[derive(Clone, Copy)]
enum Turn {
    Core,
    Driver(LinkId),
    Actor(usize),
}

/// Longest time, in milliseconds of the run, until everything must be at rest.
const SETTLE_MS: u64 = 180_000;
/// ... and then nothing may come any more for so long.
const CALM_MS: u64 = 4_000;
/// Longer than any session lives.
const EXPIRY_MS: u64 = 8 * 86_400_000;

/// Carries out one run.
///
/// # Errors
/// What was violated, and when.
pub fn run(setting: Setting) -> Result<Report, String> {
    let mut world = World::new(setting);
    let result = world.play(setting.steps);
    let World { net, ledger, .. } = &world;
    match result {
        Ok(()) => Ok(Report {
            digest: net.digest,
            steps: world.steps,
            faults: ledger.faults.clone(),
            tally: world.tally(),
        }),
        Err(what) => Err(format!(
            "at {} ms, step {}, {:?}, durable {}, {} crashes, {} store failures: {what}",
            world.now,
            ledger.step,
            world.phase,
            world.durable,
            ledger.crashes,
            ledger.store_failures
        )),
    }
}

impl World {
    fn new(setting: Setting) -> World {
        let mut dice = Dice::new(setting.seed);
        let durable = dice.permille(800) || setting.broken == Broken::AcknowledgesEarly;
        let often = |dice: &mut Dice, most: u64| if dice.flip() { dice.range(0, most) } else { 0 };
        let rates = Rates {
            cut: often(&mut dice, 6_000),
            stall: often(&mut dice, 6_000),
            silence: often(&mut dice, 2_000),
            crash: if durable { often(&mut dice, 1_500) } else { 0 },
            failure: if durable { often(&mut dice, 2_000) } else { 0 },
            outage: if durable { often(&mut dice, 600) } else { 0 },
        };
        let mut limits = RealmLimits::default();
        let tight = dice.permille(250);
        if tight {
            limits.outbox.ordered.frames = 16;
        }
        let losing = setting.broken == Broken::LosesLoads;
        limits.outbox.resident = if losing {
            0
        } else {
            *dice.pick(&[0, 1, 3, 1_000])
        };
        let mut queue_full = None;
        if dice.permille(450) {
            let frames = *dice.pick(&[3, 8, 30]);
            limits.outbox.sure.frames = frames;
            limits.outbox.when_full = *dice.pick(&[
                WhenFull::DropOldest,
                WhenFull::RefusePublisher,
                WhenFull::Disconnect,
            ]);
            queue_full = Some(limits.outbox.when_full);
        }
        let router = Router::new(durable, setting.broken, limits, Instant::now(), &mut dice);
        let mut world = World {
            net: Net::default(),
            router,
            ledger: Ledger::default(),
            dice,
            actors: Vec::new(),
            phase: Phase::Chaos,
            now: 0,
            durable,
            restart_at: None,
            rates,
            trace: setting.trace,
            steps: 0,
        };
        world.ledger.tight = tight || queue_full == Some(WhenFull::Disconnect);
        world.ledger.queue_full = queue_full;
        world.router.core.store.bad_reads = often(&mut world.dice, 100);
        world.invite();
        if world.trace {
            println!("durable {durable}, full queues {queue_full:?}, {rates:?}");
        }
        world
    }

    fn add<A: Actor + 'static>(&mut self, make: impl FnOnce(usize) -> A) {
        let me = self.actors.len();
        self.actors.push(Box::new(make(me)));
    }

    fn invite(&mut self) {
        const TOPICS: [&str; 3] = ["t/a", "t/b", "t/c"];
        const SHARED: [&str; 2] = ["r/a", "r/b"];
        const LOCKS: [&str; 2] = ["l/a", "l/b"];
        for (v5, persistent) in [(true, true), (false, true), (false, false)] {
            let publishes = TOPICS.to_vec();
            self.add(|me| {
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        publishes,
                        ..Plan::default()
                    },
                )
            });
        }
        let readers = [
            (true, true, "t/#", 2),
            (false, true, "t/a", 2),
            (true, true, "t/b", 1),
            (false, false, "t/#", 2),
            (true, false, "t/c", 0),
            (true, true, "w/#", 2),
            (false, true, "r/#", 1),
        ];
        for (v5, persistent, filter, qos) in readers {
            let subscribes = Some((filter, qos));
            self.add(|me| {
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        subscribes,
                        ..Plan::default()
                    },
                )
            });
        }
        self.invite_groups();
        for (v5, persistent, retain) in [
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            self.add(|me| {
                let will = Some((format!("w/{me}"), retain));
                let retains = SHARED.to_vec();
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        will,
                        retains,
                        ..Plan::default()
                    },
                )
            });
        }
        let sessions = [
            (
                Some(("t.", json!({"match": "prefix"}), "t/#")),
                TOPICS.to_vec(),
            ),
            (Some(("t.*", json!({}), "t/#")), TOPICS.to_vec()),
            (Some(("t.a", json!({}), "t/a")), vec![]),
            (Some(("r.#", json!({"get_retained": true}), "r/#")), vec![]),
        ];
        for (subscribes, publishes) in sessions {
            self.add(|me| WampActor::new(me, PubSub::new(me, subscribes, publishes)));
        }
        for _ in 0..4 {
            self.add(|me| WampActor::new(me, LockClient::new(me, LOCKS.to_vec())));
        }
        for _ in 0..3 {
            self.add(|me| WampActor::new(me, KvClient::new(me, vec!["c/a"], SHARED.to_vec())));
        }
        for (procedure, concurrency) in [("p/a", 2), ("p/a", 1), ("p/b", 3)] {
            self.add(|me| WampActor::new(me, Callee::new(me, procedure, concurrency)));
        }
        for _ in 0..2 {
            self.add(|me| WampActor::new(me, Caller::new(me, vec!["p/a", "p/b"])));
        }
        self.add(Noise::new);
    }

    /// Members of share groups, and who publishes to them.
    fn invite_groups(&mut self) {
        const TOPICS: [&str; 2] = ["s/alpha", "s/beta"];
        let members = [
            // One group of all sorts, one whose sessions all last.
            ("mixed", true, true, false),
            ("mixed", true, false, true),
            ("mixed", false, false, false),
            ("lasting", true, true, false),
            ("lasting", false, true, true),
            ("lasting", true, true, true),
        ];
        for (place, (group, v5, persistent, leaves)) in members.into_iter().enumerate() {
            let plan = Plan {
                v5,
                persistent,
                leaves,
                // Somebody must be there throughout.
                stays: place == 0 || group == "lasting",
                group: Some(group),
                subscribes: Some(("s/#", 2)),
                ..Plan::default()
            };
            self.add(|me| MqttActor::new(me, plan));
        }
        for v5 in [true, false] {
            let plan = Plan {
                v5,
                persistent: true,
                publishes: TOPICS.to_vec(),
                ..Plan::default()
            };
            self.add(|me| MqttActor::new(me, plan));
        }
        let plan = Plan {
            v5: true,
            persistent: true,
            subscribes: Some(("s/#", 2)),
            packet: Some(48),
            ..Plan::default()
        };
        self.add(|me| MqttActor::new(me, plan));
    }

    fn play(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.misfortune()?;
            self.step()?;
        }
        self.rest(Phase::Settle)?;
        self.verify()?;
        if self.durable {
            self.crash();
            self.rest(Phase::Settle)?;
            self.verify()?;
        }
        self.rest(Phase::Leave)?;
        self.look_back()
    }

    /// Everybody has left: what is kept must be right, and then nothing may be left.
    fn look_back(&mut self) -> Result<(), String> {
        self.phase = Phase::Settle;
        let former = std::mem::take(&mut self.actors);
        for _ in 0..former.len() {
            self.actors.push(Box::new(Absent));
        }
        self.add(|me| WampActor::new(me, Janitor::new(me)));
        self.rest(Phase::Settle)?;
        let found = std::mem::take(&mut self.ledger.found);
        verify::values_hold(&self.ledger, |key| found.get(key).copied().flatten())?;
        self.rest(Phase::Leave)?;
        self.now += EXPIRY_MS;
        self.router.set_time(self.now);
        for _ in 0..100 {
            self.step()?;
        }
        let left = self.router.core.realm.sizes();
        if left.iter().any(|(_, size)| *size > 0) {
            return Err(format!("left in the realm: {left:?}"));
        }
        let records = self.router.core.stored_records();
        if !records.is_empty() {
            return Err(format!("left in the store: {records:?}"));
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), String> {
        let counters = *self.router.core.realm.counters();
        if counters.queue_damaged > 0 {
            return Err(format!(
                "{} queued messages are damaged",
                counters.queue_damaged
            ));
        }
        let former = self.ledger.dropped;
        self.ledger.dropped += counters.dropped_sure;
        let judged = self.judge();
        self.ledger.dropped = former;
        judged
    }

    fn judge(&self) -> Result<(), String> {
        verify::nothing_lost(&self.ledger)?;
        verify::nothing_doubled(&self.ledger)?;
        verify::in_order(&self.ledger)?;
        shared::nothing_doubled(&self.ledger)?;
        if self.durable {
            let stored = self.router.core.stored_values()?;
            verify::values_hold(&self.ledger, |key| stored.get(key).copied().flatten())?;
        }
        Ok(())
    }

    /// Runs until everybody has what they wait for, and a while longer.
    fn rest(&mut self, phase: Phase) -> Result<(), String> {
        self.phase = phase;
        self.router.core.store.outage(0);
        self.router.core.store.bad_reads = 0;
        let limit = self.now + SETTLE_MS;
        let mut calm_since = None;
        loop {
            self.step()?;
            let waiting = self.actors.iter().find_map(|actor| actor.waits(phase));
            let unaware = |link| self.net.is_stuck(link, self.now);
            let busy = !self.router.core.store.is_idle()
                || self.router.core.realm.is_store_down()
                || self
                    .actors
                    .iter()
                    .any(|actor| actor.link().is_some_and(unaware));
            let held = self.router.drivers.iter().find(|(_, d)| d.has_deliveries());
            let waiting = waiting.or_else(|| {
                let (link, _) = held?;
                Some(format!("messages for connection {link} are held back"))
            });
            if waiting.is_some() || busy || self.restart_at.is_some() {
                calm_since = None;
            }
            let since = *calm_since.get_or_insert(self.now);
            if self.now >= since + CALM_MS {
                return Ok(());
            }
            if self.now > limit {
                return Err(format!(
                    "not at rest in time: {waiting:?}, others busy {busy}"
                ));
            }
        }
    }

    /// Gives a turn to somebody who can use it, or lets time pass.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.welcome()?;
        let ready = self.ready();
        if ready.is_empty() {
            let next = self.next().unwrap_or(self.now + 1_000);
            self.now = next.max(self.now + 1).min(self.now + 1_000);
        } else {
            if self.dice.permille(200) {
                self.now += self.dice.range(0, 8);
            }
            let turn = *self.dice.pick(&ready);
            self.router.set_time(self.now);
            self.give(turn);
        }
        self.router.set_time(self.now);
        self.ledger.store_down = self.router.core.realm.is_store_down();
        match self.ledger.violation.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    fn give(&mut self, turn: Turn) {
        let World {
            net,
            router,
            ledger,
            dice,
            actors,
            ..
        } = self;
        match turn {
            Turn::Core => drop(router.core.turn(ledger, dice)),
            Turn::Driver(link) => router.run_driver(link, net, ledger, dice),
            Turn::Actor(place) => {
                let (now, phase, trace) = (self.now, self.phase, self.trace);
                let mut cx = Cx {
                    net,
                    ledger,
                    dice,
                    now,
                    phase,
                    trace,
                };
                actors[place].turn(&mut cx);
            }
        }
    }

    fn ready(&self) -> Vec<Turn> {
        let mut ready = Vec::new();
        let core = &self.router.core;
        if self.restart_at.is_none() && core.next().is_some_and(|at| at <= self.now) {
            ready.push(Turn::Core);
        }
        for (link, driver) in &self.router.drivers {
            if driver.is_ready(core, &self.net, self.now) {
                ready.push(Turn::Driver(*link));
            }
        }
        for (place, actor) in self.actors.iter().enumerate() {
            let hears = actor
                .link()
                .is_some_and(|link| self.net.client_ready(link, self.now));
            if hears || actor.next().is_some_and(|at| at <= self.now) {
                ready.push(Turn::Actor(place));
            }
        }
        ready
    }

    fn next(&self) -> Option<u64> {
        let core = &self.router.core;
        let drivers = self
            .router
            .drivers
            .values()
            .filter_map(|d| d.next(core, &self.net));
        let actors = self.actors.iter().filter_map(|actor| actor.next());
        let links = self
            .actors
            .iter()
            .filter_map(|actor| self.net.client_next(actor.link()?));
        let own = if self.restart_at.is_none() {
            core.next()
        } else {
            self.restart_at
        };
        drivers.chain(actors).chain(links).chain(own).min()
    }

    /// Accepts connections, or turns them away while there is no router.
    fn welcome(&mut self) -> Result<(), String> {
        if self.restart_at.is_some_and(|at| at <= self.now) {
            self.restart_at = None;
            self.router.set_time(self.now);
            // The wall clock may have been set in between, either way.
            let skew = self.dice.range(0, 200_000) as i64 - 100_000;
            self.router.restart(skew, &mut self.dice)?;
            let stored = self.router.core.stored_values()?;
            verify::acknowledged_is_stored(&self.ledger, |key| stored.get(key).copied().flatten())?;
        }
        for link in std::mem::take(&mut self.net.fresh) {
            if self.restart_at.is_some() {
                self.ledger.excuse(link, "no router");
                self.net.router_close(link, self.now, &mut self.dice);
            } else {
                self.router.accept(link, self.net.link(link).wire);
            }
        }
        Ok(())
    }

    fn misfortune(&mut self) -> Result<(), String> {
        let rates = self.rates;
        let mut draw = self.dice.range(0, 999_999);
        let mut strikes = |rate: u64| {
            let hit = draw < rate;
            draw = draw.wrapping_sub(rate);
            hit
        };
        if strikes(rates.cut) {
            self.hurt(
                |world, link| {
                    world.ledger.excuse(link, "cut");
                    world.ledger.fault("cut connections");
                    world.net.cut(link, world.now, &mut world.dice);
                },
                false,
            );
        } else if strikes(rates.stall) {
            self.hurt(
                |world, link| {
                    let until = world.now + world.dice.range(100, 8_000);
                    world.ledger.fault("slow readers");
                    world.net.stall(link, until);
                },
                true,
            );
        } else if strikes(rates.silence) {
            self.hurt(
                |world, link| {
                    world.ledger.excuse(link, "silent");
                    world.ledger.fault("half-open connections");
                    let patience = world.dice.range(500, 60_000);
                    world.net.silence(link, world.now, patience);
                },
                false,
            );
        } else if strikes(rates.crash) {
            self.crash();
        } else if self.restart_at.is_some() {
            // Nobody is there who could write.
        } else if strikes(rates.failure) {
            self.ledger.fault("failed commits");
            self.router.core.store.fail_next();
        } else if strikes(rates.outage) {
            self.ledger.fault("outages of the store");
            let until = self.now + self.dice.range(50, 4_000);
            self.router.core.store.outage(until);
        }
        Ok(())
    }

    /// Lets something happen to a connection that is still whole.
    fn hurt(&mut self, what: impl FnOnce(&mut World, LinkId), is_stall: bool) {
        let links: Vec<LinkId> = self
            .actors
            .iter()
            .filter(|actor| !is_stall || actor.may_stall())
            .filter_map(|actor| actor.link())
            .collect();
        let whole: Vec<LinkId> = links
            .into_iter()
            .filter(|link| !self.net.is_silent(*link))
            .collect();
        if !whole.is_empty() {
            let link = *self.dice.pick(&whole);
            what(self, link);
        }
    }

    fn crash(&mut self) {
        if self.restart_at.is_some() {
            return;
        }
        self.ledger.fault("crashes of the router");
        if self.trace {
            println!(
                "{:>8} ms  step {:<6} the router crashes",
                self.now, self.ledger.step
            );
        }
        self.router
            .crash(&mut self.net, &mut self.ledger, &mut self.dice);
        self.restart_at = Some(self.now + self.dice.range(0, 1_500));
    }

    fn tally(&self) -> BTreeMap<&'static str, u64> {
        let mut tally = self.ledger.tally.clone();
        tally.insert("locks granted", self.ledger.locks.count() as u64);
        tally.insert("calls invoked", self.ledger.calls.count() as u64);
        let dropped = self.router.core.realm.counters().dropped_sure;
        tally.insert("messages dropped", self.ledger.dropped + dropped);
        tally.insert("records read back", self.router.core.store.reads);
        tally.insert("failed reads", self.router.core.store.failed_reads);
        tally.insert("publications", self.ledger.publications.len() as u64);
        tally
    }
}

/// Somebody who has left for good.
struct Absent;

impl Actor for Absent {
    fn turn(&mut self, _: &mut Cx<'_>) -> bool {
        false
    }
    fn next(&self) -> Option<u64> {
        None
    }
    fn link(&self) -> Option<LinkId> {
        None
    }
    fn waits(&self, _: Phase) -> Option<String> {
        None
    }
}
