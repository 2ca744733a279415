//! Holds: who holds which key, in what mode, and who may join them.
//!
//! They live beside the values they are told by. A value may be taken back when the store fails; a
//! hold that was given up stays given up, so holds are not undone but mended (see
//! [`Holds::take_lost`]).

use crate::model::{Publisher, RequestId, SessionId, Topic};
use crate::timers::TimerKey;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How a key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By one holder.
    Mutex,
    /// The same, by its other name.
    Exclusive,
    /// By any number of holders.
    Shared,
    /// By holders that together take at most a number of permits.
    Permit,
}

impl Mode {
    /// The mode of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Mode> {
        Some(match name {
            "mutex" => Mode::Mutex,
            "exclusive" => Mode::Exclusive,
            "shared" => Mode::Shared,
            "permit" => Mode::Permit,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Mutex => "mutex",
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
            Mode::Permit => "permit",
        }
    }

    /// Whether it excludes every other holder.
    #[must_use]
    pub fn is_alone(self) -> bool {
        matches!(self, Mode::Mutex | Mode::Exclusive)
    }

    /// Whether both mean the same.
    #[must_use]
    pub fn is_like(self, other: Mode) -> bool {
        self == other || (self.is_alone() && other.is_alone())
    }
}

/// What somebody wants of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How to hold it.
    pub mode: Mode,
    /// Permits to take, for [`Mode::Permit`].
    pub permits: u64,
    /// Permits there are, for [`Mode::Permit`].
    pub limit: u64,
}

/// Whether a wish can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Now.
    Yes,
    /// Not now.
    No,
    /// Never beside the present holders: they count with another limit.
    OtherLimit,
}

/// When a hold ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// How long it lasts from each renewal.
    pub ttl: Duration,
    /// Its end, as told, in milliseconds since the epoch.
    pub ends_ms: u64,
    /// Its end, as kept; none beyond the clock's reach.
    pub timer: Option<TimerKey>,
}

/// One who holds a key.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Whose hold it is.
    pub publisher: Arc<Publisher>,
    /// The calls that were granted and whose answers wait for the same commit, to be taken back
    /// until then.
    pub requests: Vec<RequestId>,
    /// As asked for.
    pub mode: Mode,
    /// Permits taken; 1 in other modes.
    pub permits: u64,
    /// How often its session holds it.
    pub count: u64,
    /// When it was granted, in milliseconds since the epoch.
    pub since_ms: u64,
    /// The commit that makes the grant durable.
    pub commit: u64,
    /// When it ends by itself, if it does.
    pub lease: Option<Lease>,
    /// What its session said about it.
    pub data: Value,
}

impl Holder {
    /// The holding session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.publisher.session
    }
}

/// Everybody who holds one key; never empty in a table.
#[derive(Debug)]
pub struct Hold {
    /// How it is held.
    pub mode: Mode,
    /// Permits there are.
    pub limit: u64,
    taken: u64,
    /// token -> holder, so in the order of the grants.
    holders: BTreeMap<u64, Holder>,
}

impl Hold {
    /// A hold as its first holder asks for it.
    #[must_use]
    pub fn new(wish: &Wish) -> Hold {
        Hold {
            mode: wish.mode,
            limit: wish.limit,
            taken: 0,
            holders: BTreeMap::new(),
        }
    }

    /// Whether another holder may join; there are at most `most`.
    #[must_use]
    pub fn fit(&self, wish: &Wish, most: usize) -> Fit {
        if self.mode == Mode::Permit && wish.mode == Mode::Permit && wish.limit != self.limit {
            return Fit::OtherLimit;
        }
        let room = match (self.mode, wish.mode) {
            (Mode::Shared, Mode::Shared) => true,
            (Mode::Permit, Mode::Permit) => wish.permits <= self.limit.saturating_sub(self.taken),
            _ => false,
        };
        match room && self.holders.len() < most {
            true => Fit::Yes,
            false => Fit::No,
        }
    }

    /// The holders in the order of their grants.
    pub fn holders(&self) -> impl Iterator<Item = (u64, &Holder)> {
        self.holders.iter().map(|(token, holder)| (*token, holder))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Permits taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The only holder of a key that is held by one alone.
    #[must_use]
    pub fn sole(&self) -> Option<(u64, &Holder)> {
        self.holders().next().filter(|_| self.mode.is_alone())
    }

    fn add(&mut self, token: u64, holder: Holder) {
        self.taken = self.taken.saturating_add(holder.permits);
        self.holders.insert(token, holder);
    }

    fn remove(&mut self, token: u64) -> Option<Holder> {
        let holder = self.holders.remove(&token)?;
        self.taken = self.taken.saturating_sub(holder.permits);
        Some(holder)
    }
}

/// The holds of all keys.
#[derive(Debug, Default)]
pub struct Holds {
    by_key: BTreeMap<Topic, Hold>,
    holders: usize,
}

impl Holds {
    /// How a key is held, if it is.
    #[must_use]
    pub fn get(&self, topic: &Topic) -> Option<&Hold> {
        self.by_key.get(topic)
    }

    /// One holder of a key.
    #[must_use]
    pub fn holder(&self, topic: &Topic, token: u64) -> Option<&Holder> {
        self.by_key.get(topic)?.holders.get(&token)
    }

    /// The same, to be changed in what the others do not depend on.
    pub fn holder_mut(&mut self, topic: &Topic, token: u64) -> Option<&mut Holder> {
        self.by_key.get_mut(topic)?.holders.get_mut(&token)
    }

    /// Holders of all keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Adds a holder whose wish fits.
    pub fn add(&mut self, topic: &Topic, wish: &Wish, token: u64, holder: Holder) {
        let hold = match self.by_key.get_mut(topic) {
            Some(hold) => hold,
            None => self
                .by_key
                .entry(topic.clone())
                .or_insert_with(|| Hold::new(wish)),
        };
        hold.add(token, holder);
        self.holders += 1;
    }

    /// Takes a holder away, and the hold with its last one.
    pub fn remove(&mut self, topic: &Topic, token: u64) -> Option<Holder> {
        let hold = self.by_key.get_mut(topic)?;
        let holder = hold.remove(token)?;
        self.holders -= 1;
        if hold.is_empty() {
            self.by_key.remove(topic);
        }
        Some(holder)
    }

    /// Takes away the holders whose grants are not durable: later than the commit `durable`.
    pub fn take_lost(&mut self, durable: u64) -> Vec<(Topic, u64, Holder)> {
        let lost = |hold: &Hold| {
            let late = hold.holders().filter(|(_, h)| h.commit > durable);
            late.map(|(token, _)| token).collect::<Vec<u64>>()
        };
        let found: Vec<(Topic, Vec<u64>)> = self
            .by_key
            .iter()
            .map(|(topic, hold)| (topic.clone(), lost(hold)))
            .collect();
        let mut taken = Vec::new();
        for (topic, tokens) in found {
            for token in tokens {
                let holder = self.remove(&topic, token);
                taken.extend(holder.map(|holder| (topic.clone(), token, holder)));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
