//! One registration stands for a procedure, or for a pattern of procedures, and has a callee for each
//! session that offers it.

use super::{Seals, precedence};
use crate::matcher::{Found, Index};
use crate::model::{InvokePolicy, MatchKind, Pattern, RegistrationId, SessionId, Topic};
use bytestring::ByteString;
use foldhash::fast::RandomState;
use slab::Slab;
use std::collections::{HashMap, VecDeque};

/// Ids stay below 2^31 as the contract says.
const MAX_ID: u64 = 0x7fff_ffff;

/// What makes two requests to register the same registration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistrationKey {
    /// The procedures offered.
    pub pattern: Pattern,
    /// The notation it was asked in.
    pub kind: MatchKind,
}

impl RegistrationKey {
    /// The one procedure it stands for, unless it was asked for as a pattern.
    #[must_use]
    pub fn procedure(&self) -> Option<&Topic> {
        match (&self.pattern, self.kind) {
            (Pattern::Exact(procedure), MatchKind::Exact) => Some(procedure),
            _ => None,
        }
    }
}

/// What is offered, and its callees.
#[derive(Debug)]
pub struct Registration {
    /// The id told to callees.
    pub id: RegistrationId,
    /// What is offered.
    pub key: RegistrationKey,
    /// How calls are shared.
    pub policy: InvokePolicy,
    /// Wall-clock milliseconds when it began.
    pub created_ms: u64,
    /// In the order they registered.
    pub callees: Vec<Callee>,
    /// Calls waiting for a free callee: (call, serial); those that ended meanwhile are skipped.
    pub queue: VecDeque<(usize, u64)>,
    /// Entries of `queue` whose call still waits.
    pub queued: usize,
    turn: usize,
    /// Later registrations have larger ones.
    serial: u64,
}

/// A session that answers.
#[derive(Debug)]
pub struct Callee {
    /// Its place in the realm.
    pub session: usize,
    /// Its id, which no later session of that place has.
    pub id: SessionId,
    /// The most invocations it takes at a time.
    pub concurrency: Option<u32>,
    /// Invocations it has not answered.
    pub running: u32,
    /// It takes calls whose arguments come in parts.
    pub takes_parts: bool,
    /// It can open sealed arguments.
    pub opens_sealed: bool,
    /// It can open a bare binary in their place.
    pub opens_bare: bool,
    /// It asked to be told who calls.
    pub learns_caller: bool,
    /// It watches over the time of its calls itself.
    pub keeps_time: bool,
    /// Its role may not offer all that a pattern matches: to be checked for each call.
    pub restricted: bool,
}

impl Callee {
    /// Whether it can have arguments sealed in these ways.
    #[must_use]
    pub fn opens(&self, seals: Seals) -> bool {
        (self.opens_sealed || !seals.sealed) && (self.opens_bare || !seals.bare)
    }

    fn is_free(&self) -> bool {
        self.concurrency.is_none_or(|most| self.running < most)
    }
}

/// Which callee answers next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The callee at this place.
    Callee(usize),
    /// All that may take it are busy.
    Wait,
    /// There are callees, but none that may take it.
    Nobody,
}

impl Registration {
    /// Drops the entries of calls that ended while they waited once they outnumber the others, so
    /// that calling and cancelling in a loop cannot fill memory.
    pub fn tidy_queue(&mut self, waits: impl Fn(usize, u64) -> bool) {
        if self.queue.len() > 2 * self.queued + 16 {
            self.queue.retain(|&(call, serial)| waits(call, serial));
        }
    }

    /// Takes a session out of its callees. Whose turn it is does not change by that.
    pub fn remove_callee(&mut self, session: usize) {
        let known = self.callees.iter().position(|c| c.session == session);
        if let Some(place) = known {
            self.callees.remove(place);
            self.turn -= usize::from(place < self.turn);
        }
    }

    /// Picks, by the policy, a callee with a free slot among those that `may` take the call;
    /// `random` decides where chance does.
    pub fn choose(&mut self, random: u64, may: impl Fn(&Callee) -> bool) -> Choice {
        let count = self.callees.len();
        if count == 0 {
            return Choice::Wait;
        }
        let start = match self.policy {
            InvokePolicy::RoundRobin => self.turn % count,
            _ => 0,
        };
        let is_open = |callee: &Callee| callee.is_free() && may(callee);
        let place = match self.policy {
            InvokePolicy::Last => self.callees.iter().rposition(is_open),
            InvokePolicy::Random => self.choose_by_chance(random, is_open),
            _ => (0..count)
                .map(|step| (start + step) % count)
                .find(|place| self.callees.get(*place).is_some_and(is_open)),
        };
        match place {
            Some(place) => {
                self.turn = place + 1;
                Choice::Callee(place)
            }
            None if self.callees.iter().any(may) => Choice::Wait,
            None => Choice::Nobody,
        }
    }

    /// Each open callee is as likely as any other.
    fn choose_by_chance(&self, random: u64, is_open: impl Fn(&Callee) -> bool) -> Option<usize> {
        let open = self.callees.iter().filter(|callee| is_open(callee)).count();
        let nth = usize::try_from(random.checked_rem(open as u64)?).ok()?;
        let mut places = self.callees.iter().enumerate();
        let mut chosen = places.by_ref().filter(|(_, callee)| is_open(callee));
        chosen.nth(nth).map(|(place, _)| place)
    }
}

/// All registrations of a realm.
#[derive(Debug)]
pub struct Registrations {
    slots: Slab<Registration>,
    by_procedure: HashMap<Topic, usize, foldhash::quality::RandomState>,
    by_pattern: HashMap<RegistrationKey, usize, foldhash::quality::RandomState>,
    by_id: HashMap<RegistrationId, usize, RandomState>,
    /// Places of those in `by_pattern`.
    patterns: Index,
    last_id: u64,
    serial: u64,
}

impl Registrations {
    /// None yet; `reserved` as for [`Index::new`].
    #[must_use]
    pub fn new(reserved: ByteString) -> Registrations {
        Registrations {
            slots: Slab::new(),
            by_procedure: HashMap::default(),
            by_pattern: HashMap::default(),
            by_id: HashMap::default(),
            patterns: Index::new(reserved),
            last_id: 0,
            serial: 0,
        }
    }

    /// The registration of exactly this, by place.
    #[must_use]
    pub fn find(&self, key: &RegistrationKey) -> Option<usize> {
        match key.procedure() {
            Some(procedure) => self.by_procedure.get(procedure).copied(),
            None => self.by_pattern.get(key).copied(),
        }
    }

    /// The one registration that answers calls of `procedure`, by place: the exact one, else the
    /// pattern that says most about it; of one set in two notations the older registration.
    #[must_use]
    pub fn best(&self, procedure: &Topic) -> Option<usize> {
        let exact = self.by_procedure.get(procedure).copied();
        if exact.is_some() || self.by_pattern.is_empty() {
            return exact;
        }
        let mut found = Found::new();
        self.patterns.find(procedure, &mut found);
        let candidates = found.into_iter().filter_map(|place| {
            let place = place as usize;
            Some((place, self.slots.get(place)?))
        });
        let best = candidates.max_by(|(_, a), (_, b)| {
            let by_pattern = precedence::compare(&a.key, &b.key, procedure);
            by_pattern.then(b.serial.cmp(&a.serial))
        })?;
        Some(best.0)
    }

    /// By id.
    #[must_use]
    pub fn by_id(&self, id: RegistrationId) -> Option<&Registration> {
        self.slots.get(self.find_id(id)?)
    }

    /// By id.
    pub fn by_id_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        self.slots.get_mut(self.find_id(id)?)
    }

    /// By id, as a place.
    #[must_use]
    pub fn find_id(&self, id: RegistrationId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// At a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Registration> {
        self.slots.get(place)
    }

    /// At a place.
    pub fn at_mut(&mut self, place: usize) -> Option<&mut Registration> {
        self.slots.get_mut(place)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.slots.iter().map(|(_, registration)| registration)
    }

    /// A new registration without callees.
    pub fn create(&mut self, key: &RegistrationKey, policy: InvokePolicy, unix_ms: u64) -> usize {
        let mut id = RegistrationId(self.last_id % MAX_ID + 1);
        while self.by_id.contains_key(&id) {
            id = RegistrationId(id.0 % MAX_ID + 1);
        }
        self.last_id = id.0;
        self.serial += 1;
        let key = RegistrationKey {
            pattern: key.pattern.clone(),
            kind: key.kind,
        };
        let place = self.slots.insert(Registration {
            id,
            key: key.clone(),
            policy,
            created_ms: unix_ms,
            callees: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            turn: 0,
            serial: self.serial,
        });
        match key.procedure() {
            Some(procedure) => {
                self.by_procedure.insert(procedure.clone(), place);
            }
            None => {
                // 2^32 patterns do not fit a machine.
                let number = u32::try_from(place).unwrap_or(u32::MAX);
                self.patterns.insert(&key.pattern, number);
                self.by_pattern.insert(key, place);
            }
        }
        self.by_id.insert(id, place);
        place
    }

    /// Takes a registration away.
    pub fn remove(&mut self, place: usize) -> Option<Registration> {
        let gone = self.slots.try_remove(place)?;
        match gone.key.procedure() {
            Some(procedure) => {
                self.by_procedure.remove(procedure);
            }
            None => {
                let number = u32::try_from(place).unwrap_or(u32::MAX);
                self.patterns.remove(&gone.key.pattern, number);
                self.by_pattern.remove(&gone.key);
            }
        }
        self.by_id.remove(&gone.id);
        Some(gone)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(policy: InvokePolicy, slots: &[Option<u32>]) -> Registration {
        let mut all = Registrations::new("sys".into());
        let key = RegistrationKey {
            pattern: Pattern::Exact(Topic::new("p").unwrap()),
            kind: MatchKind::Exact,
        };
        let place = all.create(&key, policy, 0);
        let mut registration = all.remove(place).unwrap();
        for (session, concurrency) in slots.iter().enumerate() {
            registration.callees.push(Callee {
                session,
                id: SessionId(session as u64),
                concurrency: *concurrency,
                running: 0,
                takes_parts: false,
                opens_sealed: false,
                opens_bare: false,
                learns_caller: false,
                keeps_time: false,
                restricted: false,
            });
        }
        registration
    }

    fn picks(registration: &mut Registration, count: usize) -> Vec<Choice> {
        (0..count)
            .map(|n| {
                let choice = registration.choose(n as u64, |_| true);
                if let Choice::Callee(place) = choice {
                    registration.callees[place].running += 1;
                }
                choice
            })
            .collect()
    }

    #[test]
    fn policies_pick_as_the_profile_says() {
        use Choice::{Callee, Wait};
        let free = [None, None, None];
        assert_eq!(
            picks(&mut registration(InvokePolicy::First, &free), 2),
            [Callee(0); 2]
        );
        assert_eq!(
            picks(&mut registration(InvokePolicy::Last, &free), 2),
            [Callee(2); 2]
        );
        assert_eq!(
            picks(&mut registration(InvokePolicy::RoundRobin, &free), 4),
            [Callee(0), Callee(1), Callee(2), Callee(0)]
        );
        assert_eq!(
            picks(&mut registration(InvokePolicy::Random, &free), 3),
            [Callee(0), Callee(1), Callee(2)]
        );
        assert_eq!(
            picks(
                &mut registration(InvokePolicy::FirstFree, &[Some(2), Some(1)]),
                4
            ),
            [Callee(0), Callee(0), Callee(1), Wait]
        );
    }

    #[test]
    fn a_busy_callee_is_passed_over_in_turn() {
        use Choice::{Callee, Wait};
        let mut shared = registration(InvokePolicy::RoundRobin, &[Some(1), Some(2)]);
        assert_eq!(
            picks(&mut shared, 4),
            [Callee(0), Callee(1), Callee(1), Wait]
        );
    }

    #[test]
    fn nobody_is_passed_over_in_turn_because_another_goes() {
        use Choice::Callee;
        for gone in 0..4 {
            let mut shared = registration(InvokePolicy::RoundRobin, &[None; 4]);
            assert_eq!(picks(&mut shared, 2), [Callee(0), Callee(1)]);
            shared.remove_callee(gone);
            let next = picks(&mut shared, 3)
                .into_iter()
                .map(|choice| match choice {
                    Callee(place) => shared.callees[place].session,
                    other => panic!("{other:?}"),
                });
            let expected: Vec<usize> = [2, 3, 0, 1].into_iter().filter(|s| *s != gone).collect();
            assert_eq!(next.collect::<Vec<_>>(), expected, "without {gone}");
        }
    }

    #[test]
    fn without_callees_calls_wait() {
        assert_eq!(
            registration(InvokePolicy::Single, &[]).choose(0, |_| true),
            Choice::Wait
        );
    }

    #[test]
    fn only_callees_that_may_take_the_call_are_picked() {
        use Choice::{Callee, Nobody, Wait};
        let all = [
            InvokePolicy::Single,
            InvokePolicy::First,
            InvokePolicy::FirstFree,
            InvokePolicy::Last,
            InvokePolicy::RoundRobin,
            InvokePolicy::Random,
        ];
        for policy in all {
            let mut shared = registration(policy, &[Some(1), Some(1), Some(1)]);
            for random in 0..3 {
                assert_eq!(shared.choose(random, |c| c.session == 1), Callee(1));
            }
            shared.callees[1].running = 1;
            assert_eq!(shared.choose(0, |c| c.session == 1), Wait, "{policy:?}");
            assert_eq!(shared.choose(0, |_| false), Nobody, "{policy:?}");
        }
    }

    #[test]
    fn chance_is_even_among_those_that_are_free() {
        let mut shared = registration(InvokePolicy::Random, &[None, Some(1), None, None]);
        shared.callees[1].running = 1;
        let mut hits = [0; 4];
        for random in 0..300 {
            if let Choice::Callee(place) = shared.choose(random, |_| true) {
                hits[place] += 1;
            }
        }
        assert_eq!(hits, [100, 0, 100, 100]);
    }
}
