//! What was said and seen in a run, and the judge of it.
//!
//! Every publication has a number (`uid`) that travels in its payload. The ledger learns when a
//! client sends one, when the realm carries it out, when it is acknowledged or refused, and when
//! it is delivered to whom. `step` is the simulation's logical clock: each observation takes the
//! next one, so "before" and "after" mean the order in which things really happened.
//!
//! Locks, calls and counters are judged in [`crate::locks`], [`crate::holds`] and [`crate::calls`].

use crate::holds::Holds;
use crate::locks::Locks;
use crate::net::LinkId;
use router_core::limits::WhenFull;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

pub type Uid = u64;
pub type ActorId = usize;
pub type InterestId = usize;

/// What is known of one publication.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    pub author: ActorId,
    /// The connection it was first sent on, of authors whose connections are sessions of their own.
    pub session: Option<LinkId>,
    pub topic: String,
    pub qos: u8,
    pub retained: bool,
    /// It deletes the retained value.
    pub clears: bool,
    /// A will: sent by the router, not by a client.
    pub will: bool,
    /// When the realm carried it out; repeated ones each time.
    pub execs: Vec<u64>,
    pub acked: Option<u64>,
    /// It was answered with an error: whatever it did must have been taken back.
    pub refused: bool,
    /// At least once it had no effect; its client may have sent it again, later than others.
    pub turned_down: bool,
    /// It must never have had any effect: a condition that did not hold, a will that was disarmed.
    pub forbidden: bool,
    /// Routers' lives in which it was carried out.
    pub lives: BTreeSet<u32>,
}

impl Publication {
    fn first(&self) -> u64 {
        self.execs.first().copied().unwrap_or(u64::MAX)
    }

    pub fn last(&self) -> u64 {
        self.execs.last().copied().unwrap_or(0)
    }
}

/// A subscription a client knows it has.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    pub actor: ActorId,
    pub filter: String,
    pub qos: u8,
    /// It outlives its connection and a restart.
    pub durable: bool,
    /// The subscriber gets its own publications too.
    pub own: bool,
    pub from: u64,
    pub until: Option<u64>,
    /// Since when the present connection is up without a break.
    pub linked: Option<u64>,
    /// Messages may have been dropped because they are too large for the client.
    pub lossy: bool,
    /// The share group it is a member of.
    pub group: Option<&'static str>,
    /// When it was asked for.
    pub asked: u64,
    /// The client is told of messages dropped because its queue was full; so many by now.
    pub told: Option<u64>,
}

/// What one actor got of one publication.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    /// Deliveries that were not marked as repeated.
    pub fresh: u32,
    pub all: u32,
}

/// A will that was disarmed by a goodbye.
struct Disarmed {
    uid: Uid,
    /// The number of the batch that says so.
    batch: u64,
    /// The store's failures until then; [`None`] if it was down.
    failures: Option<u64>,
}

/// An armed will of a connection.
#[derive(Clone, Debug)]
struct Armed {
    uid: Uid,
    /// The publication it belongs to; `None`: the connection itself (MQTT).
    by: Option<Uid>,
    key: Option<String>,
    /// Its owner was told that it is stored.
    acked: bool,
    /// The owner said goodbye: it may or may not have been heard.
    waived: bool,
}

/// Who and what a connection is.
#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    pub actor: ActorId,
    /// Why the router may close it.
    pub excuse: Option<&'static str>,
    pub client: Option<String>,
    sent: VecDeque<Uid>,
    wills: Vec<Armed>,
    /// The realm has let it in.
    joined: bool,
    pub ended: bool,
    /// Failures of the store before it was opened.
    store_failures: u64,
    /// It was opened while the store was down.
    store_down: bool,
}

#[derive(Default)]
pub struct Ledger {
    pub step: u64,
    pub life: u32,
    /// Queues are so short that slow readers are given up.
    pub tight: bool,
    /// Queues of what is to be settled are short, and what happens when one is full.
    pub queue_full: Option<WhenFull>,
    /// Deliveries that routers' lives dropped because a queue was full.
    pub dropped: u64,
    /// When the clients of actors came in, and when they gave up a session; the router hears of that
    /// at the next coming in at the latest.
    joined: Vec<(ActorId, u64)>,
    session_ends: Vec<(ActorId, u64)>,
    /// Messages with a mark of a gap, by who got it.
    marked: BTreeSet<(InterestId, Uid)>,
    pub store_failures: u64,
    /// The realm refuses durable writes at the moment.
    pub store_down: bool,
    /// What a last look at the realm found under each key.
    pub found: BTreeMap<String, Option<Uid>>,
    /// When that look was asked for: a connection that the router still believed in may end later, and its wills then
    /// change what was found.
    pub looked: Option<u64>,
    pub crashes: u64,
    /// Steps at which the router crashed.
    crash_steps: Vec<u64>,
    pub publications: Vec<Publication>,
    pub interests: Vec<Interest>,
    pub links: BTreeMap<LinkId, LinkFacts>,
    got: HashMap<(ActorId, Uid), Got>,
    /// First deliveries to an actor, in order.
    order: BTreeMap<ActorId, Vec<Uid>>,
    disarmed: Vec<Disarmed>,
    pub locks: Locks,
    pub holds: Holds,
    pub calls: crate::calls::Calls,
    pub faults: BTreeMap<&'static str, u64>,
    pub tally: BTreeMap<&'static str, u64>,
    pub violation: Option<String>,
}

impl Ledger {
    pub fn tick(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    pub fn fail(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    pub fn count(&mut self, name: &'static str) {
        *self.tally.entry(name).or_default() += 1;
    }

    /// A publication that is about to be sent.
    pub fn publication(&mut self, author: ActorId, topic: &str, qos: u8) -> Uid {
        self.tick();
        let topic = topic.to_owned();
        let new = Publication {
            author,
            topic,
            qos,
            ..Publication::default()
        };
        self.publications.push(new);
        self.publications.len() as Uid - 1
    }

    pub fn of(&mut self, uid: Uid) -> &mut Publication {
        &mut self.publications[uid as usize]
    }

    /// A connection was opened.
    pub fn opened(&mut self, link: LinkId, actor: ActorId, client: Option<String>) {
        let (store_failures, store_down) = (self.store_failures, self.store_down);
        let facts = LinkFacts {
            actor,
            client,
            store_failures,
            store_down,
            ..LinkFacts::default()
        };
        self.links.insert(link, facts);
    }

    pub fn excuse(&mut self, link: LinkId, why: &'static str) {
        if let Some(facts) = self.links.get_mut(&link) {
            facts.excuse.get_or_insert(why);
        }
    }

    /// The router ended a connection that had done nothing wrong?
    pub fn closed_by_router(&mut self, link: LinkId, how: &str) {
        let Some(facts) = self.links.get(&link) else {
            return;
        };
        // MQTT has no other way to say that a write was not stored.
        let store_failed = facts.client.is_some()
            && (facts.store_down || facts.store_failures < self.store_failures);
        if facts.excuse.is_none() && !store_failed {
            let actor = facts.actor;
            self.fail(format!(
                "connection {link} of actor {actor} was closed without cause: {how}"
            ));
        }
    }

    /// A client put a PUBLISH on the wire.
    pub fn sent(&mut self, link: LinkId, uid: Uid) {
        let Some(facts) = self.links.get_mut(&link) else {
            return;
        };
        facts.sent.push_back(uid);
        if facts.client.is_none() {
            self.of(uid).session.get_or_insert(link);
        }
    }

    /// The realm is about to carry out a publish of this connection. Commands must come in the
    /// order in which the client sent them.
    pub fn executes(&mut self, link: LinkId, topic: &str) -> Option<Uid> {
        let step = self.tick();
        let facts = self.links.get_mut(&link)?;
        if facts.excuse == Some("noise") {
            return None;
        }
        let Some(uid) = facts.sent.pop_front() else {
            self.fail(format!(
                "connection {link} published {topic:?}, which its client never sent"
            ));
            return None;
        };
        let life = self.life;
        let publication = self.of(uid);
        if publication.topic != topic {
            let meant = publication.topic.clone();
            self.fail(format!(
                "connection {link}: {topic:?} was carried out in place of {meant:?}"
            ));
            return None;
        }
        publication.execs.push(step);
        publication.lives.insert(life);
        Some(uid)
    }

    /// The realm is about to carry out a write that one of this connection's calls asks for.
    pub fn calls_a_write(&mut self, link: LinkId, uid: Uid) {
        let (step, life) = (self.tick(), self.life);
        let Some(facts) = self.links.get(&link) else {
            return;
        };
        let author = facts.actor;
        let publication = self.publications.get_mut(uid as usize);
        if let Some(publication) = publication.filter(|p| p.author == author) {
            publication.execs.push(step);
            publication.lives.insert(life);
        }
    }

    /// What was just carried out had no effect.
    pub fn turned_down(&mut self, uid: Uid) {
        let publication = self.of(uid);
        publication.execs.pop();
        publication.turned_down = true;
    }

    pub fn acked(&mut self, uid: Uid) {
        let step = self.tick();
        let publication = self.of(uid);
        publication.acked.get_or_insert(step);
        if publication.forbidden {
            self.fail(format!(
                "publication {uid} was both refused and acknowledged"
            ));
        }
        for facts in self.links.values_mut() {
            for will in facts.wills.iter_mut().filter(|will| will.by == Some(uid)) {
                will.acked = true;
            }
        }
        self.count("acknowledged publishes");
    }

    pub fn refused(&mut self, uid: Uid) {
        self.tick();
        self.of(uid).refused = true;
        for facts in self.links.values_mut() {
            facts.wills.retain(|will| will.by != Some(uid));
        }
        self.count("refused publishes");
    }

    /// The publication was turned down before it did anything.
    pub fn forbid(&mut self, uid: Uid, why: &str) {
        self.of(uid).forbidden = true;
        if self
            .got
            .iter()
            .any(|((_, other), got)| *other == uid && got.all > 0)
        {
            self.fail(format!("publication {uid} was delivered, though: {why}"));
        }
    }

    /// A will is armed on this connection: an MQTT one, or one of a key by `by`.
    pub fn arm(&mut self, link: LinkId, uid: Uid, by: Option<Uid>, key: Option<String>) {
        let publication = self.of(uid);
        publication.will = true;
        if let Some(facts) = self.links.get_mut(&link) {
            facts.wills.push(Armed {
                uid,
                by,
                key,
                acked: false,
                waived: false,
            });
        }
    }

    /// The router has promised to keep the connection's own will.
    pub fn will_acked(&mut self, link: LinkId) {
        if let Some(facts) = self.links.get_mut(&link) {
            for will in facts.wills.iter_mut().filter(|will| will.by.is_none()) {
                will.acked = true;
            }
        }
    }

    /// The client says goodbye. `all`: wills of keys are waived too.
    pub fn waive(&mut self, link: LinkId, all: bool) {
        if let Some(facts) = self.links.get_mut(&link) {
            for will in facts
                .wills
                .iter_mut()
                .filter(|will| all || will.by.is_none())
            {
                will.waived = true;
            }
        }
    }

    /// The realm has heard the goodbye: the connection's own will must not be published.
    pub fn will_disarmed(&mut self, link: LinkId, submitted: u64) {
        let Some(facts) = self.links.get_mut(&link) else {
            return;
        };
        let (own, rest) = std::mem::take(&mut facts.wills)
            .into_iter()
            .partition(|will: &Armed| will.by.is_none());
        facts.wills = rest;
        let own: Vec<Armed> = own;
        for will in own {
            if self.of(will.uid).execs.is_empty() {
                self.disarmed.push(Disarmed {
                    uid: will.uid,
                    batch: submitted,
                    failures: (!self.store_down).then_some(self.store_failures),
                });
                self.forbid(will.uid, "its owner said goodbye");
            }
        }
    }

    /// The router has no session for the client of this connection. If it had one that was ended for
    /// being slow, the client may not hear of it: a CONNACK that says so can be lost, and the next
    /// one finds the new session.
    pub fn begins_anew(&mut self, link: LinkId) {
        let Some(actor) = self.links.get(&link).map(|facts| facts.actor) else {
            return;
        };
        if !self.tight {
            return;
        }
        self.session_over(actor);
        let step = self.tick();
        let durable = |i: &&mut Interest| i.actor == actor && i.durable;
        for interest in self.interests.iter_mut().filter(durable) {
            interest.until.get_or_insert(step);
        }
    }

    /// Whoever took this client's session over: the former connections of the client are over.
    pub fn joins(&mut self, link: LinkId, client: Option<&str>) {
        let step = self.tick();
        if let Some(facts) = self.links.get_mut(&link) {
            facts.joined = true;
            self.joined.push((facts.actor, step));
        }
        let former: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(other, facts)| **other != link && facts.client.as_deref() == client)
            .filter(|(_, facts)| client.is_some() && !facts.ended)
            .map(|(other, _)| *other)
            .collect();
        for other in former {
            self.excuse(other, "taken over");
            // Whose CONNECT is still on its way comes later, and takes over in its turn.
            if self.links.get(&other).is_some_and(|facts| facts.joined) {
                self.ended(other);
            }
        }
    }

    /// The session of the connection ends, or loses its connection, in the realm.
    pub fn ended(&mut self, link: LinkId) {
        let step = self.tick();
        let Some(facts) = self.links.get_mut(&link) else {
            return;
        };
        if std::mem::replace(&mut facts.ended, true) {
            return;
        }
        let wills = std::mem::take(&mut facts.wills);
        self.locks.ended(link, step);
        self.holds.ended(link);
        let life = self.life;
        for will in wills {
            let armed_last = match (&will.by, &will.key) {
                (Some(by), Some(key)) => self.is_last_on(*by, key),
                _ => true,
            };
            // Armed by a write that never came about, or replaced by one that is there to stay.
            let void = will
                .by
                .is_some_and(|by| self.of(by).execs.is_empty() || self.is_superseded(by));
            if void {
                continue;
            }
            let publication = self.of(will.uid);
            publication.execs.push(step);
            publication.lives.insert(life);
            if will.acked && !will.waived && armed_last {
                publication.acked = Some(step);
                self.count("wills due");
            }
        }
    }

    fn is_last_on(&self, uid: Uid, key: &str) -> bool {
        let last = self.publications[uid as usize].last();
        let later = |p: &Publication| p.topic == key && p.retained && !p.will && p.last() > last;
        !self.publications.iter().any(later)
    }

    fn is_superseded(&self, uid: Uid) -> bool {
        let write = &self.publications[uid as usize];
        let later = |p: &Publication| {
            p.topic == write.topic && p.retained && p.acked.is_some() && p.first() > write.last()
        };
        self.publications.iter().any(later)
    }

    /// The router died; batches above `durable` are lost.
    pub fn crashed(&mut self, durable: u64) {
        let open: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, facts)| !facts.ended)
            .map(|(id, _)| *id)
            .collect();
        for link in open {
            self.excuse(link, "crash");
            self.ended(link);
        }
        let step = self.tick();
        self.crash_steps.push(step);
        self.crashes += 1;
        self.life += 1;
        // Nobody was promised that a goodbye is remembered. If the batch that says so failed, it is written again later
        // than what comes after it.
        for will in std::mem::take(&mut self.disarmed) {
            if will.batch >= durable || will.failures != Some(self.store_failures) {
                let publication = self.of(will.uid);
                publication.forbidden = false;
                publication.execs.push(step);
            }
        }
    }

    /// Answers the interest's id.
    pub fn interested(&mut self, interest: Interest) -> InterestId {
        let from = self.tick();
        self.interests.push(Interest {
            from,
            linked: Some(from),
            ..interest
        });
        self.interests.len() - 1
    }

    pub fn interest_over(&mut self, id: InterestId) {
        let step = self.tick();
        self.interests[id].until.get_or_insert(step);
    }

    pub fn interest_linked(&mut self, id: InterestId, linked: bool) {
        let step = self.tick();
        self.interests[id].linked = linked.then_some(step);
    }

    /// A client has given up its session.
    pub fn session_over(&mut self, actor: ActorId) {
        let step = self.tick();
        self.session_ends.push((actor, step));
    }

    /// Sessions of these actors that the router may have ended after `step`.
    pub fn sessions_ended(&self, actors: &BTreeSet<ActorId>, step: u64) -> u32 {
        let heard = |actor: ActorId, end: u64| {
            let next = |(other, at): &&(ActorId, u64)| *other == actor && *at > end;
            self.joined
                .iter()
                .find(next)
                .map_or(u64::MAX, |(_, at)| *at)
        };
        let is_later = |(actor, end): &&(ActorId, u64)| {
            actors.contains(actor) && (*end > step || heard(*actor, *end) > step)
        };
        self.session_ends.iter().filter(is_later).count() as u32
    }

    /// A message tells that `lost` ones before it were dropped. Repeated ones tell it again.
    pub fn gap(&mut self, id: InterestId, uid: Uid, repeated: bool, lost: u64) {
        if !self.marked.insert((id, uid)) && repeated {
            return;
        }
        self.count("gaps told");
        if let Some(told) = &mut self.interests[id].told {
            *told += lost;
        }
    }

    /// An actor's application was given a publication. `replayed`: a retained value that was kept.
    pub fn received(&mut self, actor: ActorId, uid: Option<Uid>, repeated: bool, replayed: bool) {
        self.tick();
        let Some(uid) = uid.filter(|uid| (*uid as usize) < self.publications.len()) else {
            return;
        };
        self.count("deliveries");
        let publication = &self.publications[uid as usize];
        let last = publication.last();
        if publication.execs.is_empty() {
            self.fail(format!(
                "actor {actor} got publication {uid} before the realm had it"
            ));
        } else if publication.forbidden {
            self.fail(format!(
                "actor {actor} got publication {uid}, which must have no effect"
            ));
        }
        if replayed {
            return;
        }
        let got = self.got.entry((actor, uid)).or_default();
        got.all += 1;
        got.fresh += u32::from(!repeated);
        let is_first = got.all == 1;
        // A crash may take back that a full queue dropped something, which then comes, marked as repeated, in its
        // place among what is sent again, but behind what was given before the crash.
        let drops = self.queue_full == Some(WhenFull::DropOldest);
        let came_back = repeated && drops && self.crashed_after(last);
        if is_first && !came_back {
            self.order.entry(actor).or_default().push(uid);
        }
    }

    pub fn got(&self, actor: ActorId, uid: Uid) -> Got {
        self.got.get(&(actor, uid)).copied().unwrap_or_default()
    }

    pub fn order(&self) -> &BTreeMap<ActorId, Vec<Uid>> {
        &self.order
    }

    pub fn crashed_after(&self, step: u64) -> bool {
        self.crash_steps.last().is_some_and(|crash| *crash > step)
    }

    /// Whether a key may be read as `found`: no write that was acknowledged before `asked` came
    /// after the one found. At the end of things (`settled`) refused writes must be gone too.
    pub fn may_read(
        &self,
        key: &str,
        found: Option<Uid>,
        asked: u64,
        settled: bool,
    ) -> Result<(), String> {
        let writes = || {
            let on_key = |(_, p): &(usize, &Publication)| p.retained && p.topic == key;
            self.publications.iter().enumerate().filter(on_key)
        };
        // Where a repetition was refused, in this life or a later one, it may be there from the first time; so it may where
        // one was turned down, which had no effect.
        let is_gone =
            |p: &Publication| settled && p.refused && p.execs.len() == 1 && !p.turned_down;
        let upto = match found {
            Some(uid) => {
                let Some(found) = self.publications.get(uid as usize) else {
                    return Err(format!("{key} holds {uid}, which nobody wrote"));
                };
                if found.topic != key || !found.retained || found.clears || found.execs.is_empty() {
                    return Err(format!(
                        "{key} holds {uid}, which was not written there: {found:?}"
                    ));
                }
                if found.forbidden || is_gone(found) {
                    return Err(format!("{key} holds {uid}, which was refused: {found:?}"));
                }
                found.last()
            }
            None => writes()
                .filter(|(_, p)| p.clears && !p.forbidden && !is_gone(p))
                .map(|(_, p)| p.last())
                .max()
                .unwrap_or(0),
        };
        let lost = writes().find(|(uid, p)| {
            Some(*uid as Uid) != found
                && p.acked.is_some_and(|acked| acked < asked)
                && p.first() > upto
                && !(found.is_none() && p.clears)
        });
        match lost {
            None => Ok(()),
            Some((uid, p)) => Err(format!(
                "{key} holds {found:?} (step {upto}), but write {uid} was acknowledged: {p:?}"
            )),
        }
    }

    pub fn keys(&self) -> BTreeSet<String> {
        let retained = self.publications.iter().filter(|p| p.retained);
        retained.map(|p| p.topic.clone()).collect()
    }
}
