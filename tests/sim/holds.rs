//! The judge of locks that are asked for by call.
//!
//! It knows when the realm took each request, release and renewal, when sessions ended in the realm,
//! and, from the answers, by which moment of the run a lease ends. What is checked:
//! * of the holds clients were told of, no two that exclude each other are there at once, and no
//!   more permits are taken than there are: a hold that is not over when somebody is told of a
//!   later one (by token) was there beside it;
//! * a lease ends when its answer says, which is its time after the grant or the renewal;
//! * a hold is lost only if its lease may have ended;
//! * tokens are given once, and in one life of the router in the order the realm took the requests.
//!
//! That tokens grow is checked with those of the other locks, in [`crate::locks`].

use crate::net::LinkId;
use serde_json::Value;
use std::collections::BTreeMap;

pub type AskId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Mutex,
    Shared,
    Permit,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Mutex => "mutex",
            Mode::Shared => "shared",
            Mode::Permit => "permit",
        }
    }
}

/// Permits of each key.
pub const LIMIT: u64 = 3;

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub key: &'static str,
    pub mode: Mode,
    pub permits: u64,
    pub ttl: Option<u64>,
}

/// When the realm took a request.
#[derive(Clone, Copy, Debug)]
struct Taken {
    step: u64,
    ms: u64,
    life: u32,
}

#[derive(Debug)]
struct Asked {
    link: LinkId,
    wish: Wish,
    taken: Option<Taken>,
}

/// A hold somebody was told of.
#[derive(Debug)]
struct Hold {
    link: LinkId,
    wish: Wish,
    token: u64,
    taken: Taken,
    /// Moments at one of which its lease ends; more than one while a renewal is not answered.
    ends: Vec<u64>,
    /// It was released, or its session ended.
    is_ended: bool,
    /// Its lease may have ended before the realm took the last renewal or release.
    may_be_lost: bool,
}

impl Hold {
    fn may_be_over(&self, now: u64) -> bool {
        self.is_ended || self.ends.iter().any(|end| *end <= now)
    }
}

#[derive(Default)]
pub struct Holds {
    asked: Vec<Asked>,
    holds: BTreeMap<&'static str, Vec<Hold>>,
    /// What the wall clock shows at the beginning of the run, by the router's life.
    walls: Vec<u64>,
}

impl Holds {
    /// A life of the router begins, whose wall clock has shown `wall` when the run began.
    pub fn begins(&mut self, wall: u64) {
        self.walls.push(wall);
    }

    /// A client is about to ask; answers the number of its request.
    pub fn asks(&mut self, link: LinkId, wish: Wish) -> AskId {
        let taken = None;
        self.asked.push(Asked { link, wish, taken });
        self.asked.len() as AskId - 1
    }

    /// The realm is about to carry out a call of locks.
    pub fn takes(
        &mut self,
        link: LinkId,
        (name, args, kwargs): (&str, &Value, &Value),
        (step, ms, life): (u64, u64, u32),
    ) {
        match name {
            "acquire" | "try_acquire" => {
                let asked = kwargs["u"].as_u64().and_then(|id| usize::try_from(id).ok());
                let asked = asked.and_then(|id| self.asked.get_mut(id));
                if let Some(asked) = asked.filter(|asked| asked.link == link) {
                    asked.taken.get_or_insert(Taken { step, ms, life });
                }
            }
            "renew" | "release" => {
                let Some(hold) = self.named(link, args.as_u64()) else {
                    return;
                };
                hold.may_be_lost = hold.may_be_over(ms);
                if name == "release" {
                    hold.is_ended = true;
                } else if let Some(ttl) = kwargs["ttl_ms"].as_u64() {
                    hold.ends.push(ms + ttl);
                }
            }
            _ => {}
        }
    }

    fn named(&mut self, link: LinkId, token: Option<u64>) -> Option<&mut Hold> {
        let mut holds = self.holds.values_mut().flatten();
        holds.find(|hold| hold.link == link && Some(hold.token) == token)
    }

    /// The session of `link` has ended in the realm.
    pub fn ended(&mut self, link: LinkId) {
        let holds = self.holds.values_mut().flatten();
        for hold in holds.filter(|hold| hold.link == link) {
            hold.is_ended = true;
        }
    }

    /// A client was told that it has what it asked for. `is_over`: its session has ended meanwhile.
    /// Answers when the lease ends.
    ///
    /// # Errors
    /// What must not be.
    pub fn granted(
        &mut self,
        id: AskId,
        (token, expires): (u64, Option<u64>),
        is_over: bool,
        now: u64,
    ) -> Result<Option<u64>, String> {
        let Some(asked) = self.asked.get(id as usize) else {
            return Err(format!("a grant of nothing: {id}"));
        };
        let (link, wish) = (asked.link, asked.wish);
        let Some(taken) = asked.taken else {
            return Err(format!("{wish:?} was granted before the realm was asked"));
        };
        let end = self.end_of_lease(expires, taken.life)?;
        let fits = match (wish.ttl, end) {
            (None, None) => true,
            (Some(ttl), Some(end)) => (taken.ms + ttl..=now + ttl).contains(&end),
            _ => false,
        };
        if !fits {
            return Err(format!(
                "{wish:?} was taken at {taken:?}, but its lease ends at {end:?}"
            ));
        }
        let hold = Hold {
            link,
            wish,
            token,
            taken,
            ends: end.into_iter().collect(),
            is_ended: is_over,
            may_be_lost: false,
        };
        let others = self.holds.entry(wish.key).or_default();
        let judged = in_order(others, &hold).and_then(|()| fits_beside(others, &hold, now));
        others.push(hold);
        judged.map(|()| end)
    }

    fn end_of_lease(&self, expires: Option<u64>, life: u32) -> Result<Option<u64>, String> {
        let Some(expires) = expires else {
            return Ok(None);
        };
        let wall = self.walls.get(life as usize).copied();
        let end = wall.and_then(|wall| expires.checked_sub(wall));
        match end {
            Some(end) => Ok(Some(end)),
            None => Err(format!("a lease that ends at {expires}, in life {life}")),
        }
    }

    /// A client was told that its hold is renewed; answers when it ends.
    ///
    /// # Errors
    /// What must not be.
    pub fn renewed(
        &mut self,
        link: LinkId,
        token: u64,
        expires: Option<u64>,
    ) -> Result<Option<u64>, String> {
        let life = self.named(link, Some(token)).map(|hold| hold.taken.life);
        let end = self.end_of_lease(expires, life.unwrap_or(0))?;
        let Some((hold, end)) = self.named(link, Some(token)).zip(end) else {
            return Err(format!("token {token}: a renewal until {end:?}"));
        };
        if hold.ends.last() != Some(&end) {
            return Err(format!("{hold:?} was renewed until {end}"));
        }
        hold.ends = vec![end];
        Ok(Some(end))
    }

    /// A client was told that it does not hold this any more.
    ///
    /// # Errors
    /// If it must.
    pub fn lost(&mut self, link: LinkId, token: u64) -> Result<(), String> {
        let Some(hold) = self.named(link, Some(token)) else {
            return Err(format!("token {token} was lost, which nobody had"));
        };
        hold.is_ended = true;
        match hold.may_be_lost {
            true => Ok(()),
            false => Err(format!("{hold:?} was lost before its time")),
        }
    }

    /// How many grants clients were told of.
    pub fn count(&self) -> usize {
        self.holds.values().map(Vec::len).sum()
    }
}

/// First come, first served, and each token once.
fn in_order(others: &[Hold], hold: &Hold) -> Result<(), String> {
    let wrong = others.iter().find(|other| {
        let in_order = (other.taken.step < hold.taken.step) == (other.token < hold.token);
        other.token == hold.token || (other.taken.life == hold.taken.life && !in_order)
    });
    match wrong {
        Some(other) => Err(format!("not first come first served: {other:?}, {hold:?}")),
        None => Ok(()),
    }
}

/// Nobody whom it excludes held the key when it was granted, or holds it now beside it.
fn fits_beside(others: &[Hold], hold: &Hold, now: u64) -> Result<(), String> {
    let here = |other: &&Hold| !other.may_be_over(now);
    let at_its_grant = others.iter().filter(here);
    share_a_key(at_its_grant.filter(|other| other.token < hold.token), hold)?;
    if hold.may_be_over(now) {
        return Ok(());
    }
    share_a_key(others.iter().filter(here), hold)
}

fn share_a_key<'a>(others: impl Iterator<Item = &'a Hold>, hold: &Hold) -> Result<(), String> {
    let mut permits = hold.wish.permits;
    for other in others {
        let fit = match (hold.wish.mode, other.wish.mode) {
            (Mode::Shared, Mode::Shared) => true,
            (Mode::Permit, Mode::Permit) => {
                permits += other.wish.permits;
                permits <= LIMIT
            }
            _ => false,
        };
        if !fit {
            return Err(format!(
                "{} is held by those who exclude each other, with {permits} permits of {LIMIT}: {other:?}, {hold:?}",
                hold.wish.key
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(mode: Mode, permits: u64, ttl: Option<u64>) -> Wish {
        let key = "h/a";
        Wish {
            key,
            mode,
            permits,
            ttl,
        }
    }

    /// Requests of connections 0, 1, …, which the realm took at 100 ms in this order.
    fn asked(wishes: &[Wish]) -> Holds {
        let mut holds = Holds::default();
        holds.begins(1_000);
        for (link, wish) in wishes.iter().enumerate() {
            let id = holds.asks(link, *wish);
            let call = ("acquire", &Value::Null, &json!({"u": id}));
            holds.takes(link, call, (link as u64, 100, 0));
        }
        holds
    }

    #[test]
    fn two_holders_are_seen_unless_the_first_has_released() {
        let mutex = wish(Mode::Mutex, 1, None);
        let mut holds = asked(&[mutex, mutex, mutex]);
        assert!(holds.granted(0, (7, None), false, 200).is_ok());
        holds.takes(0, ("release", &json!(7), &Value::Null), (9, 250, 0));
        assert!(holds.granted(1, (8, None), false, 300).is_ok());
        assert!(holds.granted(2, (9, None), false, 400).is_err());
    }

    #[test]
    fn a_permit_too_many_is_seen() {
        let (one, two) = (wish(Mode::Permit, 1, None), wish(Mode::Permit, 2, None));
        let mut holds = asked(&[one, two, one]);
        assert!(holds.granted(0, (7, None), false, 200).is_ok());
        assert!(holds.granted(1, (8, None), false, 200).is_ok());
        assert!(holds.granted(2, (9, None), false, 200).is_err());
    }

    #[test]
    fn a_lease_that_has_not_ended_excludes_others() {
        let wishes = [wish(Mode::Mutex, 1, Some(50)), wish(Mode::Shared, 1, None)];
        for (told, is_clean) in [(159, false), (160, true)] {
            let mut holds = asked(&wishes);
            let lease = Some(1_160);
            assert_eq!(holds.granted(0, (7, lease), false, 120), Ok(Some(160)));
            let later = holds.granted(1, (8, None), false, told);
            assert_eq!(later.is_ok(), is_clean, "{told}: {later:?}");
        }
    }

    #[test]
    fn a_hold_that_is_lost_before_its_lease_ends_is_seen() {
        for (ms, is_clean) in [(159, false), (160, true)] {
            let mut holds = asked(&[wish(Mode::Mutex, 1, Some(50))]);
            assert!(holds.granted(0, (7, Some(1_160)), false, 120).is_ok());
            let renewal = ("renew", &json!(7), &json!({"ttl_ms": 50}));
            holds.takes(0, renewal, (9, ms, 0));
            assert_eq!(holds.lost(0, 7).is_ok(), is_clean, "{ms}");
        }
    }

    #[test]
    fn whoever_is_served_before_an_earlier_request_is_seen() {
        let shared = wish(Mode::Shared, 1, None);
        let mut holds = asked(&[shared, shared]);
        assert!(holds.granted(1, (7, None), false, 200).is_ok());
        assert!(holds.granted(0, (8, None), false, 200).is_err());
    }
}
