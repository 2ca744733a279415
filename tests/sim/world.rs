//! One run: who takes part, what goes wrong, and in which order everything happens.

mod guests;
mod misfortune;

use crate::actor::{Actor, Cx, Phase};
use crate::dice::Dice;
use crate::janitor::Janitor;
use crate::ledger::Ledger;
use crate::net::{LinkId, Net};
use crate::router::Router;
use crate::schedule::{Schedule, Turn};
use crate::shared;
use crate::verify;
use crate::wamp::WampActor;
use crate::witness::Broken;
use misfortune::{Rates, often};
use router_core::limits::{RealmLimits, WhenFull};
use std::collections::{BTreeMap, BTreeSet};
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
    schedule: Schedule,
    /// Whose turn the last step was, and room for a list of those who could have had it.
    turn: Option<Turn>,
    ready: Vec<Turn>,
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
        let rates = Rates::new(durable, &mut dice);
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
            schedule: Schedule::default(),
            turn: None,
            ready: Vec::new(),
        };
        world.set_wall();
        world.ledger.tight = tight || queue_full == Some(WhenFull::Disconnect);
        world.ledger.queue_full = queue_full;
        world.router.core.store.bad_reads = often(&mut world.dice, 100);
        world.invite();
        world.schedule.asks_all(&world.actors, &world.net);
        if world.trace {
            println!("durable {durable}, full queues {queue_full:?}, {rates:?}");
        }
        world
    }

    fn add<A: Actor + 'static>(&mut self, make: impl FnOnce(usize) -> A) {
        let me = self.actors.len();
        self.actors.push(Box::new(make(me)));
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
        self.schedule.asks_all(&self.actors, &self.net);
        self.until_all_are_gone()?;
        self.add(|me| WampActor::new(me, Janitor::new(me)));
        self.schedule.asks_all(&self.actors, &self.net);
        self.rest(Phase::Settle)?;
        let found = std::mem::take(&mut self.ledger.found);
        let asked = self.ledger.looked.unwrap_or(u64::MAX);
        verify::values_hold(&self.ledger, asked, |key| found.get(key).copied().flatten())?;
        self.locks_are_free(found.keys())?;
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

    /// Until the router has noticed it, of connections too that fell silent: what their clients held is theirs till then.
    fn until_all_are_gone(&mut self) -> Result<(), String> {
        let limit = self.now + SETTLE_MS;
        while let Some(link) = self.router.drivers.keys().next() {
            if self.now > limit {
                return Err(format!("connection {link} is still there"));
            }
            self.step()?;
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
            verify::values_hold(&self.ledger, u64::MAX, |key| {
                stored.get(key).copied().flatten()
            })?;
            self.locks_are_free(stored.keys())?;
        }
        Ok(())
    }

    /// Unless the router still believes in a connection its client has given up, and in what it held.
    fn locks_are_free<'a>(&self, kept: impl Iterator<Item = &'a String>) -> Result<(), String> {
        let links: BTreeSet<LinkId> = self.actors.iter().filter_map(|a| a.link()).collect();
        match self.router.drivers.keys().all(|link| links.contains(link)) {
            true => verify::locks_are_free(kept),
            false => Ok(()),
        }
    }

    /// Runs until everybody has what they wait for, and a while longer.
    fn rest(&mut self, phase: Phase) -> Result<(), String> {
        self.phase = phase;
        self.router.core.store.outage(0);
        self.router.core.store.bad_reads = 0;
        let limit = self.now + SETTLE_MS;
        let mut calm_since = None;
        let mut waiter = self.waiter(phase);
        let mut held = None;
        loop {
            self.step()?;
            waiter = self.still_waiting(waiter, phase);
            if matches!(self.turn, Some(Turn::Core | Turn::Driver(_))) {
                // Nobody else can change it.
                held = None;
            }
            if waiter.is_some()
                || self.is_busy()
                || held.get_or_insert_with(|| self.held_back()).is_some()
            {
                calm_since = None;
            }
            let since = *calm_since.get_or_insert(self.now);
            if self.now >= since + CALM_MS {
                return Ok(());
            }
            if self.now > limit {
                return Err(self.unrest(waiter, phase));
            }
        }
    }

    fn unrest(&self, waiter: Option<usize>, phase: Phase) -> String {
        let waiting = waiter.and_then(|place| self.actors[place].waits(phase));
        let waiting = waiting.or_else(|| {
            let link = self.held_back()?;
            Some(format!("messages for connection {link} are held back"))
        });
        format!(
            "not at rest in time: {waiting:?}, others busy {}",
            self.is_busy()
        )
    }

    /// Somebody who waits for something.
    fn waiter(&self, phase: Phase) -> Option<usize> {
        let mut actors = self.actors.iter();
        actors.position(|actor| actor.waits(phase).is_some())
    }

    /// The same after one step, in which only one actor can have begun or ceased to wait.
    fn still_waiting(&self, former: Option<usize>, phase: Phase) -> Option<usize> {
        match (self.turn, former) {
            (Some(Turn::Actor(place)), None) => {
                self.actors[place].waits(phase).is_some().then_some(place)
            }
            (Some(Turn::Actor(place)), Some(other)) if place == other => self.waiter(phase),
            _ => former,
        }
    }

    /// Whether something is under way that nobody waits for.
    fn is_busy(&self) -> bool {
        let core = &self.router.core;
        let unaware = |link| self.net.is_stuck(link, self.now);
        let mut links = self.actors.iter().filter_map(|actor| actor.link());
        self.restart_at.is_some()
            || !core.store.is_idle()
            || core.realm.is_store_down()
            || links.any(unaware)
    }

    /// A connection whose messages the realm has not let go of.
    fn held_back(&self) -> Option<LinkId> {
        let mut drivers = self.router.drivers.iter();
        let (link, _) = drivers.find(|(_, driver)| driver.has_deliveries())?;
        Some(*link)
    }

    /// Gives a turn to somebody who can use it, or lets time pass.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.turn = None;
        self.welcome()?;
        self.find_ready();
        if self.ready.is_empty() {
            let next = self.next().unwrap_or(self.now + 1_000);
            self.now = next.max(self.now + 1).min(self.now + 1_000);
        } else {
            if self.dice.permille(200) {
                self.now += self.dice.range(0, 8);
            }
            let turn = *self.dice.pick(&self.ready);
            self.router.set_time(self.now);
            self.give(turn);
            self.turn = Some(turn);
        }
        self.router.set_time(self.now);
        self.ledger.store_down = self.router.core.realm.is_store_down();
        match self.ledger.violation.take() {
            Some(what) => Err(what),
            None => Ok(()),
        }
    }

    /// The judge of leases must know what the wall clock shows.
    fn set_wall(&mut self) {
        let now = self.router.core.now();
        self.ledger.holds.begins(now.unix_ms - self.router.core.ms);
    }

    fn give(&mut self, turn: Turn) {
        let World {
            net,
            router,
            ledger,
            dice,
            actors,
            schedule,
            ..
        } = self;
        match turn {
            Turn::Core => drop(router.core.turn(ledger, dice)),
            Turn::Driver(link) => {
                router.run_driver(link, net, ledger, dice);
                schedule.ask_driver(link, router, net);
            }
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
                schedule.ask_actor(place, actors, net);
            }
        }
    }

    fn find_ready(&mut self) {
        let World {
            net,
            router,
            actors,
            schedule,
            ..
        } = self;
        schedule.renew(router, actors, net);
        let core = self.restart_at.is_none().then_some(&router.core);
        schedule.ready(core, self.now, &mut self.ready);
    }

    fn next(&self) -> Option<u64> {
        let own = self.restart_at.or_else(|| self.router.core.next());
        [self.schedule.next(), own].into_iter().flatten().min()
    }

    /// Accepts connections, or turns them away while there is no router.
    fn welcome(&mut self) -> Result<(), String> {
        if self.restart_at.is_some_and(|at| at <= self.now) {
            self.restart_at = None;
            self.router.set_time(self.now);
            // The wall clock may have been set in between, either way.
            let skew = self.dice.range(0, 200_000) as i64 - 100_000;
            self.router.restart(skew, &mut self.dice)?;
            self.set_wall();
            let stored = self.router.core.stored_values()?;
            verify::acknowledged_is_stored(&self.ledger, |key| stored.get(key).copied().flatten())?;
        }
        for link in std::mem::take(&mut self.net.fresh) {
            if self.restart_at.is_some() {
                self.ledger.excuse(link, "no router");
                self.net.router_close(link, self.now, &mut self.dice);
            } else {
                self.router.accept(link, self.net.link(link).wire);
                self.schedule.ask_driver(link, &self.router, &self.net);
            }
        }
        Ok(())
    }

    fn tally(&self) -> BTreeMap<&'static str, u64> {
        let mut tally = self.ledger.tally.clone();
        tally.insert("locks granted", self.ledger.locks.count() as u64);
        let holds = self.ledger.holds.count() as u64;
        tally.insert("locks granted to calls", holds);
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
