//! One registration stands for a procedure and has a callee for each session that offers it.

use crate::model::{InvokePolicy, RegistrationId, Topic};
use foldhash::fast::RandomState;
use slab::Slab;
use std::collections::{HashMap, VecDeque};

/// A procedure and its callees.
#[derive(Debug)]
pub struct Registration {
    /// The id told to callees.
    pub id: RegistrationId,
    /// The procedure.
    pub procedure: Topic,
    /// How calls are shared.
    pub policy: InvokePolicy,
    /// In the order they registered.
    pub callees: Vec<Callee>,
    /// Calls waiting for a free callee: (call, serial); those that ended meanwhile are skipped.
    pub queue: VecDeque<(usize, u64)>,
    /// Entries of `queue` whose call still waits.
    pub queued: usize,
    turn: usize,
}

/// A session that answers.
#[derive(Debug)]
pub struct Callee {
    /// Its place in the realm.
    pub session: usize,
    /// The most invocations it takes at a time.
    pub concurrency: Option<u32>,
    /// Invocations it has not answered.
    pub running: u32,
}

impl Callee {
    fn is_free(&self) -> bool {
        self.concurrency.is_none_or(|most| self.running < most)
    }
}

/// Which callee answers next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The callee at this place.
    Callee(usize),
    /// All are busy.
    Wait,
}

impl Registration {
    /// Drops the entries of calls that ended while they waited once they outnumber the others, so
    /// that calling and cancelling in a loop cannot fill memory.
    pub fn tidy_queue(&mut self, waits: impl Fn(usize, u64) -> bool) {
        if self.queue.len() > 2 * self.queued + 16 {
            self.queue.retain(|&(call, serial)| waits(call, serial));
        }
    }

    /// Picks a callee with a free slot by the policy; `random` decides where chance does.
    pub fn choose(&mut self, random: u64) -> Choice {
        let count = self.callees.len();
        if count == 0 {
            return Choice::Wait;
        }
        let start = match self.policy {
            InvokePolicy::Single | InvokePolicy::First | InvokePolicy::FirstFree => 0,
            InvokePolicy::Last => count - 1,
            InvokePolicy::RoundRobin => self.turn % count,
            InvokePolicy::Random => usize::try_from(random % count as u64).unwrap_or(0),
        };
        let place = (0..count).map(|step| match self.policy {
            InvokePolicy::Last => count - 1 - step,
            _ => (start + step) % count,
        });
        for place in place {
            if self.callees.get(place).is_some_and(Callee::is_free) {
                if self.policy == InvokePolicy::RoundRobin {
                    self.turn = place + 1;
                }
                return Choice::Callee(place);
            }
        }
        Choice::Wait
    }
}

/// All registrations of a realm.
#[derive(Debug, Default)]
pub struct Registrations {
    slots: Slab<Registration>,
    by_procedure: HashMap<Topic, usize, foldhash::quality::RandomState>,
    by_id: HashMap<RegistrationId, usize, RandomState>,
    last_id: u64,
}

impl Registrations {
    /// The registration of a procedure, by place.
    #[must_use]
    pub fn find(&self, procedure: &Topic) -> Option<usize> {
        self.by_procedure.get(procedure).copied()
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

    /// A new registration without callees.
    pub fn create(&mut self, procedure: &Topic, policy: InvokePolicy) -> usize {
        let mut id = RegistrationId(self.last_id % 0x7fff_ffff + 1);
        while self.by_id.contains_key(&id) {
            id = RegistrationId(id.0 % 0x7fff_ffff + 1);
        }
        self.last_id = id.0;
        let procedure = procedure.detached();
        let place = self.slots.insert(Registration {
            id,
            procedure: procedure.clone(),
            policy,
            callees: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            turn: 0,
        });
        self.by_procedure.insert(procedure, place);
        self.by_id.insert(id, place);
        place
    }

    /// Takes a registration away.
    pub fn remove(&mut self, place: usize) -> Option<Registration> {
        let gone = self.slots.try_remove(place)?;
        self.by_procedure.remove(&gone.procedure);
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
        let mut all = Registrations::default();
        let place = all.create(&Topic::new("p").unwrap(), policy);
        let mut registration = all.remove(place).unwrap();
        for (session, concurrency) in slots.iter().enumerate() {
            registration.callees.push(Callee {
                session,
                concurrency: *concurrency,
                running: 0,
            });
        }
        registration
    }

    fn picks(registration: &mut Registration, count: usize) -> Vec<Choice> {
        (0..count)
            .map(|n| {
                let choice = registration.choose(n as u64);
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
    fn without_callees_calls_wait() {
        assert_eq!(
            registration(InvokePolicy::Single, &[]).choose(0),
            Choice::Wait
        );
    }
}
