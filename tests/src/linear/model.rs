//! A key as the contract describes it, one action after the other.

mod lock;
mod token;
mod watch;

use super::history::{Action, Op, Reply, Row};
use super::known::Known;
use super::terms::{Condition, Datum, Kept, Write};
pub use lock::Hold;
pub use token::Token;
use watch::Watching;

/// The owner's session, and what it leaves.
type Will = (u64, Option<Datum>);

/// What a key is at one instant. Every step answers `None` if it contradicts what was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The value.
    pub value: Option<Kept>,
    /// Of the last write.
    pub token: Token,
    /// The armed will.
    pub will: Option<Will>,
    /// Who holds it by call.
    pub hold: Option<Hold>,
    /// Who waits, by their place in the history, in the order of arrival.
    pub queue: Vec<usize>,
    /// The watches that are open.
    watching: Vec<Watching>,
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
            hold: None,
            queue: Vec::new(),
            watching: Vec::new(),
            life,
        }
    }

    /// Carries out the action at place `at`: what the key can be then. Nothing contradicts what was
    /// told if that is not empty.
    #[must_use]
    pub fn apply(&self, known: &Known, at: usize) -> Vec<Key> {
        let Some(op) = known.ops.get(at) else {
            return Vec::new();
        };
        let mut outcomes = Vec::new();
        // Whether an unknown token is the one that somebody asks about.
        for guess in [true, false] {
            let mut next = self.clone();
            if next.step(known, (at, op), guess).is_some() && !outcomes.contains(&next) {
                outcomes.push(next);
            }
            if !asks_about_a_token(&op.action) {
                break;
            }
        }
        outcomes
    }

    fn step(&mut self, known: &Known, (at, op): (usize, &Op), guess: bool) -> Option<()> {
        match op.action {
            Action::Write(write) | Action::Put(write) => self.write(known, at, &write),
            Action::Cas { expected, .. } => self.write_if(known, (at, op), Some(expected), guess),
            Action::Delete { expected } => self.write_if(known, (at, op), expected, guess),
            Action::Get => self.read(op.reply),
            Action::List => self.listed(op.reply),
            Action::Inspect => self.inspected(known, op.reply),
            Action::Watch { after, progressive } => {
                self.watch(known, at, (after, progressive), guess)
            }
            Action::Cancel { watch } => self.stop_watching(known, known.watch(watch)?),
            Action::Told { .. } => None,
            Action::Acquire(order) => self.acquire(known, at, &order),
            Action::Release { token } => self.release(known, op, token, guess),
            Action::Renew { token, leased } => self.renew(op, (token, leased), guess),
            Action::End => self.end(known, op.session),
            Action::Restart { durable } => self.restart(known, op.life, durable),
        }
    }

    /// Who waits at place `at` gives up.
    #[must_use]
    pub fn expire(&self, known: &Known, at: usize) -> Option<Key> {
        let mut next = self.clone();
        if let Some(Action::Watch { .. }) = known.ops.get(at).map(|op| op.action) {
            next.stop_watching(known, at)?;
            return Some(next);
        }
        next.queue.retain(|waiting| *waiting != at);
        next.serve(known)?;
        Some(next)
    }

    /// When something is answered next that the request at place `at` has not come to, although it
    /// has happened.
    #[must_use]
    pub fn awaits(&self, known: &Known, at: usize) -> Option<u64> {
        let told = self.watching.iter().find(|watching| watching.at == at);
        if let Some(watching) = told {
            return watching.next_answer(known);
        }
        let is_open = self.queue.contains(&at) || self.is_yet_to_lose(known, at);
        let op = known.ops.get(at).filter(|_| is_open)?;
        op.reply.map(|(returned, _)| returned)
    }

    fn write(&mut self, known: &Known, at: usize, write: &Write) -> Option<()> {
        let op = known.ops.get(at)?;
        let reply = known.reply(at);
        if self.is_sole_holder(op.session) && (write.when.is_some() || write.will.is_some()) {
            return matches!(reply, None | Some(Reply::Unfit)).then_some(());
        }
        // Nobody's turn comes while somebody holds the key.
        let waits = write.watch && self.hold.is_some();
        let holds = write.when.is_none_or(|when| when.holds(self.value));
        if holds && !waits {
            if self.hold.is_some() && !self.is_sole_holder(op.session) {
                return matches!(reply, None | Some(Reply::LockHeld(_))).then_some(());
            }
            self.carry_out(known, op, write)?;
            return self.serve(known);
        }
        if write.watch {
            self.queue.push(at);
            let may_wait = matches!(reply, None | Some(Reply::Written(_) | Reply::TimedOut));
            return may_wait.then_some(());
        }
        self.refuse(op)
    }

    /// A write by call that expects a token.
    fn write_if(
        &mut self,
        known: &Known,
        (at, op): (usize, &Op),
        expected: Option<u64>,
        guess: bool,
    ) -> Option<()> {
        let is_expected = expected.is_none_or(|expected| {
            (expected == 0 && self.value.is_none()) || self.token.is(expected, guess)
        });
        match is_expected {
            true => self.write(known, at, &op.action.write()?),
            false => self.refuse(op),
        }
    }

    /// A condition does not hold.
    fn refuse(&mut self, op: &Op) -> Option<()> {
        match (op.action, op.reply) {
            (_, None) => Some(()),
            (Action::Write(_), Some((_, reply))) => (reply == Reply::Refused).then_some(()),
            (_, Some((_, Reply::Conflict(token)))) => {
                self.token = self.token.read(token)?;
                Some(())
            }
            _ => None,
        }
    }

    fn carry_out(&mut self, known: &Known, op: &Op, write: &Write) -> Option<()> {
        let told = match (op.action, op.reply) {
            (_, None) => None,
            (Action::Delete { .. }, Some((_, Reply::Deleted { token, existed }))) => {
                (existed == self.value.is_some()).then_some(())?;
                Some(token)
            }
            (Action::Delete { .. }, _) => return None,
            (_, Some((_, Reply::Written(token)))) => Some(token),
            (_, Some(_)) => return None,
        };
        if write.value.is_none() {
            self.hold = None;
        }
        let will = write.will.filter(|_| write.value.is_some());
        self.will = will.map(|will| (op.session, will));
        self.set(known, write.value.map(Kept::Datum), told)
    }

    /// The key has another value, which those are told who watch it.
    fn set(&mut self, known: &Known, value: Option<Kept>, told: Option<u64>) -> Option<()> {
        self.token = self.token.next(told)?;
        self.value = value;
        self.tell(known)
    }

    /// Serves those who wait and whose turn has come, the first first.
    fn serve(&mut self, known: &Known) -> Option<()> {
        while let Some(place) = self.ready(known) {
            let at = self.queue.remove(place);
            let op = known.ops.get(at)?;
            match op.action {
                Action::Acquire(order) => self.grant(known, at, &order)?,
                action => self.carry_out(known, op, &action.write()?)?,
            }
        }
        Some(())
    }

    /// The place in the queue of the next one whose turn has come. Who waits for the key to be free
    /// stands in line, in which nobody passes; others stand aside.
    fn ready(&self, known: &Known) -> Option<usize> {
        let action = |at: &usize| known.ops.get(*at).map(|op| op.action);
        let condition = |at: &usize| match action(at)? {
            Action::Acquire(_) => Some(Condition::Absent),
            other => other.write()?.when,
        };
        let mut line = self.queue.iter().enumerate();
        let next = line.find(|(_, at)| condition(at) == Some(Condition::Absent));
        if let Some((place, at)) = next {
            let is_free = match action(at)? {
                Action::Acquire(order) => self.has_room(order.wish),
                _ => self.value.is_none(),
            };
            if is_free {
                return Some(place);
            }
        }
        if self.hold.is_some() {
            return None;
        }
        let holds = |at: &usize| condition(at).is_some_and(|when| when.holds(self.value));
        self.queue.iter().position(holds)
    }

    /// The session that `fox.kv.get` calls the owner.
    #[must_use]
    pub fn owner(&self) -> Option<u64> {
        match &self.hold {
            Some(hold) => hold.sole().map(|holder| holder.session),
            None => self.will.map(|(session, _)| session),
        }
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
        let is_so = value == self.value && owner == self.owner() && waiters == self.queue.len();
        is_so.then_some(())
    }

    fn listed(&mut self, reply: Option<(u64, Reply)>) -> Option<()> {
        match reply {
            None => Some(()),
            Some((_, Reply::Listed(None))) => self.value.is_none().then_some(()),
            Some((
                _,
                Reply::Listed(Some(Row {
                    value,
                    token,
                    owner,
                })),
            )) => {
                self.token = self.token.read(token)?;
                let is_so = Some(value) == self.value && owner == self.owner();
                is_so.then_some(())
            }
            Some(_) => None,
        }
    }

    /// First it waits no longer, then its wills apply, then its holds end.
    fn end(&mut self, known: &Known, session: u64) -> Option<()> {
        let is_its = |at: usize| known.ops.get(at).is_some_and(|op| op.session == session);
        self.stop_all_watching(known, is_its)?;
        self.queue.retain(|at| !is_its(*at));
        self.serve(known)?;
        if self.will.is_some_and(|(owner, _)| owner == session) {
            self.leave(known)?;
            self.serve(known)?;
        }
        self.end_holds_of(known, session)
    }

    /// Writes the armed will, if there is one.
    fn leave(&mut self, known: &Known) -> Option<()> {
        match self.will.take() {
            Some((_, will)) => self.set(known, will.map(Kept::Datum), None),
            None => Some(()),
        }
    }

    /// Everybody is gone.
    fn restart(&mut self, known: &Known, life: u32, durable: bool) -> Option<()> {
        self.stop_all_watching(known, |_| true)?;
        if !durable {
            *self = Key::fresh(life);
            return Some(());
        }
        self.queue.clear();
        self.life = life;
        if self.hold.take().is_some() {
            self.set(known, None, None)?;
        }
        self.leave(known)
    }

    /// Whether the end of a session changes anything.
    #[must_use]
    pub fn is_bound_to(&self, known: &Known, session: u64) -> bool {
        let is_its = |at: usize| known.ops.get(at).is_some_and(|op| op.session == session);
        let holds = self
            .hold
            .as_ref()
            .is_some_and(|hold| hold.is_held_by(session));
        self.will.is_some_and(|(owner, _)| owner == session)
            || holds
            || self.queue.iter().any(|at| is_its(*at))
            || self.watching.iter().any(|watching| is_its(watching.at))
    }

    /// Everything that waits for something, by its place in the history.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let watching = self.watching.iter().map(|watching| watching.at);
        self.queue.iter().copied().chain(watching)
    }
}

fn asks_about_a_token(action: &Action) -> bool {
    match action {
        Action::Cas { .. } | Action::Release { .. } | Action::Renew { .. } => true,
        Action::Delete { expected } => expected.is_some(),
        Action::Watch { after, .. } => after.is_some(),
        _ => false,
    }
}
