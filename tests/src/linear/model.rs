//! A key as the contract describes it, one action after the other.

use super::history::{Action, Datum, Op, Reply, Write};

/// The token of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// As somebody was told.
    Exactly(u64),
    /// Of a write whose token nobody was told: more than this.
    Above(u64),
}

impl Token {
    /// The token of a write that follows, as its writer was told, if so. `None`: it did not grow.
    fn next(self, told: Option<u64>) -> Option<Token> {
        let (Token::Exactly(floor) | Token::Above(floor)) = self;
        match told {
            Some(token) => (token > floor).then_some(Token::Exactly(token)),
            None => Some(Token::Above(floor)),
        }
    }

    /// The same token, now that a reader was told that it is `told`.
    fn read(self, told: u64) -> Option<Token> {
        let fits = match self {
            Token::Exactly(token) => token == told,
            Token::Above(floor) => told > floor,
        };
        fits.then_some(Token::Exactly(told))
    }
}

/// The owner's session, and what it leaves.
type Will = (u64, Option<Datum>);

/// What a key is at one instant. Every step answers `None` if it contradicts what was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The value.
    pub value: Option<Datum>,
    /// Of the last write.
    pub token: Token,
    /// The armed will.
    pub will: Option<Will>,
    /// Writes that wait, by their place in the history, in the order of arrival.
    pub queue: Vec<usize>,
    /// The life of the router.
    pub life: u32,
}

impl Key {
    /// A key that was never written.
    #[must_use]
    pub fn fresh(life: u32) -> Key {
        Key {
            value: None,
            token: Token::Exactly(0),
            will: None,
            queue: Vec::new(),
            life,
        }
    }

    /// Carries out the action at place `at`.
    #[must_use]
    pub fn apply(&self, ops: &[Op], at: usize) -> Option<Key> {
        let op = ops.get(at)?;
        let mut next = self.clone();
        match op.action {
            Action::Write(write) => next.write(ops, at, &write)?,
            Action::Get => next.read(op.reply)?,
            Action::End => next.end(ops, op.session)?,
            Action::Restart { durable: true } => {
                next.queue.clear();
                next.leave(ops)?;
                next.life = op.life;
            }
            Action::Restart { durable: false } => next = Key::fresh(op.life),
        }
        Some(next)
    }

    /// The waiting write at place `at` gives up.
    #[must_use]
    pub fn expire(&self, at: usize) -> Key {
        let mut next = self.clone();
        next.queue.retain(|waiting| *waiting != at);
        next
    }

    fn write(&mut self, ops: &[Op], at: usize, write: &Write) -> Option<()> {
        let reply = ops.get(at)?.reply.map(|(_, reply)| reply);
        if write.when.is_none_or(|when| when.holds(self.value)) {
            self.carry_out(write, ops.get(at)?)?;
            return self.serve(ops);
        }
        if write.watch {
            self.queue.push(at);
            return (reply != Some(Reply::Refused)).then_some(());
        }
        matches!(reply, None | Some(Reply::Refused)).then_some(())
    }

    fn carry_out(&mut self, write: &Write, op: &Op) -> Option<()> {
        let told = match op.reply {
            None => None,
            Some((_, Reply::Written(token))) => Some(token),
            Some(_) => return None,
        };
        self.token = self.token.next(told)?;
        self.value = write.value;
        let will = write.will.filter(|_| write.value.is_some());
        self.will = will.map(|will| (op.session, will));
        Some(())
    }

    /// Grants the waiting writes whose condition holds, the first first.
    fn serve(&mut self, ops: &[Op]) -> Option<()> {
        while let Some((place, at, write)) = self.ready(ops) {
            self.queue.remove(place);
            self.carry_out(&write, ops.get(at)?)?;
        }
        Some(())
    }

    fn ready(&self, ops: &[Op]) -> Option<(usize, usize, Write)> {
        self.queue.iter().enumerate().find_map(|(place, &at)| {
            let Action::Write(write) = ops.get(at)?.action else {
                return None;
            };
            let holds = write.when.is_none_or(|when| when.holds(self.value));
            holds.then_some((place, at, write))
        })
    }

    fn read(&mut self, reply: Option<(u64, Reply)>) -> Option<()> {
        let Some((_, reply)) = reply else {
            return Some(());
        };
        let Reply::Read {
            value,
            token,
            owner,
            waiters,
        } = reply
        else {
            return None;
        };
        self.token = self.token.read(token)?;
        let is_so = value == self.value
            && owner == self.will.map(|(session, _)| session)
            && waiters == self.queue.len();
        is_so.then_some(())
    }

    fn end(&mut self, ops: &[Op], session: u64) -> Option<()> {
        self.queue
            .retain(|at| ops.get(*at).is_some_and(|op| op.session != session));
        match self.will {
            Some((owner, _)) if owner == session => self.leave(ops),
            _ => Some(()),
        }
    }

    /// Writes the armed will, if there is one.
    fn leave(&mut self, ops: &[Op]) -> Option<()> {
        let Some((_, will)) = self.will.take() else {
            return Some(());
        };
        self.value = will;
        self.token = self.token.next(None)?;
        self.serve(ops)
    }
}
