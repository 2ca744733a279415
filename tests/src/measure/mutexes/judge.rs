//! Who has which lock, as far as an onlooker can be sure.
//!
//! A hold begins when its grant has been received, and ends at the latest when its holder is about
//! to send the release, when its connection is about to be cut or to say GOODBYE, or when the router
//! is about to die. Therefore what the judge sees as an overlap is one. After the router's death
//! whoever still believes to hold a lock is fenced: its token is lower than any that follows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::Report;

/// A session: a number that is never used again, and the life of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The number.
    pub number: u64,
    /// The life.
    pub life: u32,
}

#[derive(Debug)]
struct Waiting {
    who: Who,
    /// When it was about to be sent.
    sent: u64,
    /// Since when it is certain that the router has taken it.
    certain: Option<u64>,
}

/// The tokens granted in one life.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    last: u64,
}

#[derive(Debug, Default)]
struct Lock {
    holder: Option<(Who, u64)>,
    waiting: Vec<Waiting>,
    /// Life -> tokens.
    spans: BTreeMap<u32, Span>,
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    locks: Vec<Lock>,
    life: u32,
    /// Goes on with everything the judge is told.
    clock: u64,
    sessions: u64,
    grants: u64,
    late: u64,
    in_certain_order: u64,
    held_at_death: u64,
}

impl Judge {
    /// A judge of so many locks.
    #[must_use]
    pub fn new(locks: usize) -> Judge {
        Judge {
            locks: (0..locks).map(|_| Lock::default()).collect(),
            life: 0,
            clock: 0,
            sessions: 0,
            grants: 0,
            late: 0,
            in_certain_order: 0,
            held_at_death: 0,
        }
    }

    /// A session has joined the router in this life.
    pub fn joined(&mut self, life: u32) -> Who {
        self.sessions += 1;
        Who {
            number: self.sessions,
            life,
        }
    }

    /// A request is about to be sent.
    pub fn asks(&mut self, who: Who, key: usize) {
        self.clock += 1;
        if let Some(lock) = self.locks.get_mut(key)
            && who.life == self.life
        {
            lock.waiting.push(Waiting {
                who,
                sent: self.clock,
                certain: None,
            });
        }
    }

    /// The answer to a later request of the same session is there.
    pub fn was_taken(&mut self, who: Who, key: usize) {
        self.clock += 1;
        let clock = self.clock;
        let lock = self.locks.get_mut(key);
        let waiting = lock.and_then(|lock| lock.waiting.iter_mut().find(|w| w.who == who));
        if let Some(waiting) = waiting {
            waiting.certain.get_or_insert(clock);
        }
    }

    /// A grant has been received. Answers whether it is still worth something.
    ///
    /// # Errors
    /// Fails if it must not have been given.
    pub fn granted(&mut self, who: Who, key: usize, token: u64) -> Result<bool> {
        self.clock += 1;
        self.grants += 1;
        let is_late = who.life != self.life;
        let lock = self.locks.get_mut(key).context("no such lock")?;
        lock.grows(who.life, token)
            .with_context(|| format!("lock {key}, granted to {who:?}"))?;
        if is_late {
            self.late += 1;
            return Ok(false);
        }
        if let Some(holder) = &lock.holder {
            return Err(anyhow::anyhow!(
                "lock {key}: granted to {who:?} with token {token} while {holder:?} holds it"
            ));
        }
        let at = lock.waiting.iter().position(|w| w.who == who);
        let request = lock
            .waiting
            .remove(at.with_context(|| format!("lock {key}: {who:?} has not asked"))?);
        let overtaken = lock
            .waiting
            .iter()
            .find(|w| w.certain.is_some_and(|certain| certain < request.sent));
        ensure!(
            overtaken.is_none(),
            "lock {key}: {request:?} was served before {overtaken:?}"
        );
        let is_certain = lock.waiting.iter().any(|w| {
            let certain = request.certain;
            certain.is_some_and(|certain| certain < w.sent)
        });
        self.in_certain_order += u64::from(is_certain);
        lock.holder = Some((who, token));
        Ok(true)
    }

    /// A release is about to be sent.
    pub fn releases(&mut self, who: Who, key: usize) {
        self.clock += 1;
        if let Some(lock) = self.locks.get_mut(key) {
            lock.holder.take_if(|(holder, _)| *holder == who);
        }
    }

    /// A session is about to end.
    pub fn ends(&mut self, who: Who) {
        self.clock += 1;
        for lock in &mut self.locks {
            let held = lock.holder.take_if(|(holder, _)| *holder == who);
            self.held_at_death += u64::from(held.is_some());
            lock.waiting.retain(|waiting| waiting.who != who);
        }
    }

    /// The router is about to be killed.
    pub fn router_dies(&mut self) {
        self.clock += 1;
        self.life += 1;
        for lock in &mut self.locks {
            self.held_at_death += u64::from(lock.holder.take().is_some());
            lock.waiting.clear();
        }
    }

    /// Nobody is at work any more.
    ///
    /// # Errors
    /// Fails if somebody still holds or waits.
    pub fn all_is_quiet(&self) -> Result<()> {
        for (key, lock) in self.locks.iter().enumerate() {
            let is_quiet = lock.holder.is_none() && lock.waiting.is_empty();
            ensure!(is_quiet, "lock {key} is not at rest: {lock:?}");
        }
        Ok(())
    }

    /// Adds the judge's counts to a report.
    pub fn add_to(&self, report: &mut Report) {
        report.grants += self.grants;
        report.late += self.late;
        report.in_certain_order += self.in_certain_order;
        report.held_at_death += self.held_at_death;
    }
}

impl Lock {
    /// A token of a life is higher than all before it, and lower than all of later lives.
    fn grows(&mut self, life: u32, token: u64) -> Result<()> {
        if let Some((before, span)) = self.spans.range(..=life).next_back() {
            ensure!(
                token > span.last,
                "token {token} in life {life} after {} in life {before}",
                span.last
            );
        }
        if let Some((after, span)) = self.spans.range(life + 1..).next() {
            ensure!(
                token < span.first,
                "token {token} in life {life}, but {} in life {after}",
                span.first
            );
        }
        let span = self.spans.entry(life).or_insert(Span {
            first: token,
            last: token,
        });
        span.last = token;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> (Judge, Who, Who, Who) {
        let mut judge = Judge::new(2);
        let (a, b, c) = (judge.joined(0), judge.joined(0), judge.joined(0));
        for who in [a, b, c] {
            judge.asks(who, 0);
        }
        (judge, a, b, c)
    }

    fn complaint<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn one_after_the_other_is_fine() -> Result<()> {
        let (mut judge, a, b, c) = judge();
        assert!(judge.granted(b, 0, 10)?);
        judge.releases(b, 0);
        assert!(judge.granted(a, 0, 11)?);
        judge.ends(a);
        assert!(judge.granted(c, 0, 12)?);
        judge.router_dies();
        judge.all_is_quiet()
    }

    #[test]
    fn two_holders_are_noticed() -> Result<()> {
        let (mut judge, a, b, _) = judge();
        judge.granted(a, 0, 10)?;
        assert!(complaint(judge.granted(b, 0, 11)).contains("holds it"));
        Ok(())
    }

    #[test]
    fn a_token_that_does_not_grow_is_noticed() -> Result<()> {
        let (mut judge, a, b, _) = judge();
        judge.granted(a, 0, 10)?;
        judge.releases(a, 0);
        assert!(complaint(judge.granted(b, 0, 10)).contains("token 10"));
        Ok(())
    }

    #[test]
    fn tokens_grow_over_the_routers_death_and_fence_who_hears_late() -> Result<()> {
        let (mut judge, a, b, c) = judge();
        judge.granted(a, 0, 10)?;
        judge.router_dies();
        let next = judge.joined(1);
        judge.asks(next, 0);
        assert!(judge.granted(next, 0, 20)?);
        judge.releases(a, 0);
        // A grant of the former life, read only now, is one that the new token fences.
        assert!(!judge.granted(b, 0, 15)?);
        assert!(complaint(judge.granted(c, 0, 25)).contains("in life 1"));
        let another = judge.joined(1);
        judge.asks(another, 0);
        assert!(complaint(judge.granted(another, 0, 30)).contains("holds it"));
        Ok(())
    }

    #[test]
    fn a_token_of_a_former_life_is_noticed() -> Result<()> {
        let (mut judge, a, ..) = judge();
        judge.granted(a, 0, 10)?;
        judge.router_dies();
        let next = judge.joined(1);
        judge.asks(next, 0);
        assert!(complaint(judge.granted(next, 0, 9)).contains("in life 0"));
        Ok(())
    }

    #[test]
    fn overtaking_is_noticed_where_the_order_was_certain() -> Result<()> {
        let (mut judge, a, b, c) = judge();
        // Taken, but after the others had sent theirs: nothing is certain.
        judge.was_taken(a, 0);
        assert!(judge.granted(b, 0, 10)?);
        judge.releases(b, 0);
        judge.asks(b, 0);
        judge.releases(c, 0);
        assert!(complaint(judge.granted(b, 0, 11)).contains("served before"));
        Ok(())
    }

    #[test]
    fn unrest_at_the_end_is_noticed() -> Result<()> {
        let (mut judge, a, b, c) = judge();
        assert!(judge.all_is_quiet().is_err());
        judge.granted(a, 0, 10)?;
        judge.ends(b);
        judge.ends(c);
        assert!(judge.all_is_quiet().is_err());
        judge.ends(a);
        judge.all_is_quiet()
    }
}
