//! Holds of a key.

use super::{Key, Token};
use crate::linear::history::{Action, Op, Reply};
use crate::linear::known::Known;
use crate::linear::terms::{Datum, Kept, Order, Wait, Wish};

/// One who holds the key by call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The place of its request in the history.
    at: usize,
    /// Its session.
    pub session: u64,
    token: Token,
    count: u64,
    permits: u64,
    /// It may end by itself.
    leased: bool,
}

/// How a key is held; never by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    wish: Wish,
    data: Datum,
    /// In the order of their grants.
    holders: Vec<Holder>,
}

impl Hold {
    /// The only holder of a key that one holds alone.
    pub(super) fn sole(&self) -> Option<&Holder> {
        self.holders.first().filter(|_| self.wish == Wish::Alone)
    }

    pub(super) fn is_held_by(&self, session: u64) -> bool {
        self.holders.iter().any(|holder| holder.session == session)
    }

    fn taken(&self) -> u64 {
        self.holders.iter().map(|holder| holder.permits).sum()
    }

    fn value(&self) -> Kept {
        match self.wish {
            Wish::Alone => Kept::Datum(self.data),
            Wish::Shared => Kept::Shared(self.holders.len() as u64),
            Wish::Permits { limit, .. } => Kept::Permits {
                limit,
                taken: self.taken(),
            },
        }
    }

    fn has_room(&self, wish: Wish) -> bool {
        match (self.wish, wish) {
            (Wish::Shared, Wish::Shared) => true,
            (Wish::Permits { .. }, Wish::Permits { take, limit }) => self.taken() + take <= limit,
            _ => false,
        }
    }

    fn is_like(&self, wish: Wish) -> bool {
        std::mem::discriminant(&self.wish) == std::mem::discriminant(&wish)
    }
}

impl Key {
    pub(super) fn is_sole_holder(&self, session: u64) -> bool {
        let sole = self.hold.as_ref().and_then(Hold::sole);
        sole.is_some_and(|holder| holder.session == session)
    }

    /// Whether one more may hold the key, if it is that one's turn.
    pub(super) fn has_room(&self, wish: Wish) -> bool {
        match &self.hold {
            Some(hold) => hold.has_room(wish),
            None => self.value.is_none(),
        }
    }

    fn somebody_is_in_line(&self, known: &Known) -> bool {
        self.line(known).next().is_some()
    }

    /// The sessions of those in line.
    fn line<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = u64> + 'a {
        let ops = self.queue.iter().filter_map(|at| known.ops.get(*at));
        ops.filter(|op| match op.action {
            Action::Acquire(_) => true,
            other => other
                .write()
                .is_some_and(|write| write.when == Some(crate::linear::terms::Condition::Absent)),
        })
        .map(|op| op.session)
    }

    pub(super) fn acquire(&mut self, known: &Known, at: usize, order: &Order) -> Option<()> {
        let session = known.ops.get(at)?.session;
        let reply = known.reply(at);
        if order.reentrant
            && let Some(hold) = self.hold.as_mut().filter(|hold| hold.is_like(order.wish))
            && let Some(holder) = hold.holders.iter_mut().find(|h| h.session == session)
        {
            holder.leased |= order.leased;
            holder.count += 1;
            match reply {
                None => {}
                Some(Reply::Granted(token)) => holder.token = holder.token.read(token)?,
                Some(Reply::LockLost) if holder.leased => {}
                Some(_) => return None,
            }
            return Some(());
        }
        if self.has_room(order.wish) && !self.somebody_is_in_line(known) {
            return self.grant(known, at, order);
        }
        let is_waiting = order.wait != Wait::No;
        let fits = match reply {
            None => true,
            Some(Reply::LockHeld(holders)) => {
                let told = holders.is_none_or(|holders| holders == self.holders());
                !is_waiting && told
            }
            Some(Reply::Granted(_) | Reply::LockLost) => is_waiting,
            Some(Reply::TimedOut) => order.wait == Wait::Timed,
            Some(_) => false,
        };
        if is_waiting {
            self.queue.push(at);
        }
        fits.then_some(())
    }

    fn holders(&self) -> u64 {
        match &self.hold {
            Some(hold) => hold.holders.len() as u64,
            None => u64::from(self.will.is_some()),
        }
    }

    pub(super) fn grant(&mut self, known: &Known, at: usize, order: &Order) -> Option<()> {
        let told = match known.reply(at) {
            None => None,
            Some(Reply::Granted(token)) => Some(token),
            // It ends before it is stored; only a lease ends it, which may come with a second request.
            Some(Reply::LockLost) => None,
            Some(_) => return None,
        };
        let token = self.token.next(told)?;
        let hold = self.hold.get_or_insert_with(|| Hold {
            wish: order.wish,
            data: order.data,
            holders: Vec::new(),
        });
        hold.holders.push(Holder {
            at,
            session: known.ops.get(at)?.session,
            token,
            count: 1,
            permits: match order.wish {
                Wish::Permits { take, .. } => take,
                _ => 1,
            },
            leased: order.leased,
        });
        let value = hold.value();
        self.set(known, Some(value), told)
    }

    /// Whether the hold that was asked for at place `at` is one of which its session was told that
    /// it ended before it was stored, and has not ended yet.
    pub(super) fn is_yet_to_lose(&self, known: &Known, at: usize) -> bool {
        let holders = self.hold.iter().flat_map(|hold| &hold.holders);
        known.reply(at) == Some(Reply::LockLost) && holders.into_iter().any(|h| h.at == at)
    }

    /// Ends the hold at this place among the holders.
    fn end_hold(&mut self, known: &Known, place: usize) -> Option<()> {
        let hold = self.hold.as_mut()?;
        hold.holders.remove(place);
        let value = (!hold.holders.is_empty()).then(|| hold.value());
        if value.is_none() {
            self.hold = None;
        }
        self.set(known, value, None)?;
        self.serve(known)
    }

    pub(super) fn end_holds_of(&mut self, known: &Known, session: u64) -> Option<()> {
        let place = |key: &Key| {
            let holders = &key.hold.as_ref()?.holders;
            holders.iter().position(|holder| holder.session == session)
        };
        while let Some(place) = place(self) {
            self.end_hold(known, place)?;
        }
        Some(())
    }

    /// The hold of this session with this token.
    fn named_hold(&mut self, session: u64, token: u64, guess: bool) -> Option<usize> {
        let holders = &mut self.hold.as_mut()?.holders;
        let is_named = |h: &mut Holder| h.session == session && h.token.is(token, guess);
        holders.iter_mut().position(is_named)
    }

    /// Whether the session holds the key by a write with a will that has this token.
    fn is_held_by_write(&mut self, session: u64, token: u64, guess: bool) -> bool {
        let is_owner = self.will.is_some_and(|(owner, _)| owner == session);
        is_owner && self.token.is(token, guess)
    }

    pub(super) fn release(
        &mut self,
        known: &Known,
        op: &Op,
        token: u64,
        guess: bool,
    ) -> Option<()> {
        let reply = op.reply.map(|(_, reply)| reply);
        let is_told = |held| {
            matches!(reply, None | Some(Reply::Released(_))) && {
                reply.is_none_or(|reply| reply == Reply::Released(held))
            }
        };
        if let Some(place) = self.named_hold(op.session, token, guess) {
            let holder = self.hold.as_mut()?.holders.get_mut(place)?;
            if holder.count > 1 {
                holder.count -= 1;
                return is_told(holder.count).then_some(());
            }
            self.end_hold(known, place)?;
        } else if self.is_held_by_write(op.session, token, guess) {
            self.will = None;
            self.set(known, None, None)?;
            self.serve(known)?;
        } else {
            return matches!(reply, None | Some(Reply::LockLost)).then_some(());
        }
        is_told(0).then_some(())
    }

    pub(super) fn renew(
        &mut self,
        op: &Op,
        (token, leased): (u64, bool),
        guess: bool,
    ) -> Option<()> {
        let reply = op.reply.map(|(_, reply)| reply);
        let expected = if let Some(place) = self.named_hold(op.session, token, guess) {
            let holder = self.hold.as_mut()?.holders.get_mut(place)?;
            holder.leased |= leased;
            Reply::Renewed
        } else if self.is_held_by_write(op.session, token, guess) {
            Reply::Unfit
        } else {
            Reply::LockLost
        };
        reply.is_none_or(|reply| reply == expected).then_some(())
    }

    /// Every way in which a hold may end by itself now.
    pub fn lapses<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = Key> + 'a {
        let holders = self
            .hold
            .iter()
            .flat_map(|hold| hold.holders.iter().enumerate());
        holders
            .filter(|(_, holder)| holder.leased)
            .filter_map(|(place, _)| {
                let mut next = self.clone();
                next.end_hold(known, place)?;
                Some(next)
            })
    }

    pub(super) fn inspected(&mut self, known: &Known, reply: Option<(u64, Reply)>) -> Option<()> {
        let Some((_, reply)) = reply else {
            return Some(());
        };
        let Reply::Inspected {
            holders,
            line,
            value,
            token,
        } = reply
        else {
            return None;
        };
        self.token = self.token.read(token)?;
        let is_so = value == self.value
            && line == self.line(known).collect()
            && holders.len as u64 == self.holders();
        is_so.then_some(())?;
        for (place, shown) in holders.told().enumerate() {
            let Some(hold) = &mut self.hold else {
                // Held by a write with a will.
                let is_its = self.will.is_some_and(|(owner, _)| owner == shown.session);
                return (is_its && shown.token == token && shown.count == 1).then_some(());
            };
            let holder = hold.holders.get_mut(place)?;
            holder.token = holder.token.read(shown.token)?;
            let is_it = holder.session == shown.session && holder.count == shown.count;
            is_it.then_some(())?;
        }
        Some(())
    }
}
