//! Acquires a lock, releases it at once, and begins again.

use super::Share;
use super::asker::token;
use crate::cli::bench::line::Role;
use crate::cli::bench::peer::Heard;
use crate::cli::bench::run::{Run, Stage};
use crate::cli::bench::wamp::WampPeer;
use bytes::BytesMut;
use protocols::wamp::message::Payload;
use router_core::encoding::Encoding;
use std::cell::RefCell;
use std::rc::Rc;

const ACQUIRE: &str = "fox.lock.acquire";
const RELEASE: &str = "fox.lock.release";

/// What is known of each lock.
#[derive(Debug, Clone, Copy, Default)]
struct Lock {
    holder: Option<usize>,
    token: u64,
}

/// What all lockers know together: whether two hold one lock, and whether tokens grow.
#[derive(Debug)]
pub(in crate::cli::bench) struct Locks {
    keys: Vec<String>,
    locks: RefCell<Vec<Lock>>,
}

impl Locks {
    /// Locks that nobody holds.
    pub(in crate::cli::bench) fn new(keys: Vec<String>) -> Locks {
        let locks = RefCell::new(vec![Lock::default(); keys.len()]);
        Locks { keys, locks }
    }

    /// A grant; answers whether the lock had a holder, and whether the token did not grow.
    fn grant(&self, at: usize, client: usize, token: u64) -> (bool, bool) {
        let mut locks = self.locks.borrow_mut();
        let Some(lock) = locks.get_mut(at) else {
            return (false, false);
        };
        let had_holder = lock.holder.replace(client).is_some();
        let is_late = token <= lock.token;
        lock.token = token;
        (had_holder, is_late)
    }

    /// The release is on its way.
    fn release(&self, at: usize, client: usize) {
        if let Some(lock) = self.locks.borrow_mut().get_mut(at) {
            lock.holder = lock.holder.filter(|holder| *holder != client);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// The id of the call, and when it was to be made.
    Acquiring(u64, u64),
    /// The token.
    Held(u64),
}

/// See the [module](self).
pub(in crate::cli::bench) struct Locker {
    run: Rc<Run>,
    share: Share,
    encoding: Encoding,
    locks: Rc<Locks>,
    state: State,
    sent: u64,
}

impl Locker {
    /// One that holds nothing.
    pub(in crate::cli::bench) fn new(
        run: Rc<Run>,
        share: Share,
        encoding: Encoding,
        locks: Rc<Locks>,
    ) -> Locker {
        Locker {
            run,
            share,
            encoding,
            locks,
            state: State::Idle,
            sent: 0,
        }
    }

    /// Which lock it competes for.
    fn at(&self) -> usize {
        self.share.index % self.locks.keys.len().max(1)
    }

    fn granted(&mut self, time: u64, payload: &Payload, now: u64) -> Result<(), String> {
        let token = token(payload, self.encoding).ok_or("granted a lock without a token")?;
        self.state = State::Held(token);
        let (had_holder, is_late) = self.locks.grant(self.at(), self.share.index, token);
        self.run.hear();
        self.run.arrived(time, now);
        let mut tally = self.run.tally.borrow_mut();
        tally.counts.distinct += 1;
        tally.counts.doubled += u64::from(had_holder);
        tally.counts.late += u64::from(is_late);
        if let Some(flow) = self.run.flows.get(self.share.index) {
            flow.reach(1);
        }
        Ok(())
    }

    fn release(&mut self, peer: &mut WampPeer, out: &mut BytesMut) {
        if let State::Held(token) = self.state {
            peer.call(RELEASE, &[token.into()], out);
            self.locks.release(self.at(), self.share.index);
            self.state = State::Idle;
        }
    }
}

impl Role<WampPeer> for Locker {
    fn hear(&mut self, heard: Heard<'_>, now: u64) -> Result<(), String> {
        match (heard, self.state) {
            (Heard::Answer { request, payload }, State::Acquiring(waited_for, time))
                if request == waited_for =>
            {
                self.granted(time, payload, now)
            }
            _ => Ok(()),
        }
    }

    fn fill(&mut self, peer: &mut WampPeer, out: &mut BytesMut) -> Result<Option<u64>, String> {
        self.release(peer, out);
        let flow = self.run.flows.get(self.share.index);
        let Some(flow) = flow.filter(|_| self.run.stage() == Stage::Running) else {
            return Ok(None);
        };
        let now = self.run.now();
        let pace = self.share.pace(self.run.start());
        let allowed = pace.allows(now, self.sent, flow.under_way());
        if self.state == State::Idle && allowed.min(self.share.left(self.sent)) > 0 {
            let key = self.locks.keys.get(self.at()).ok_or("has no such lock")?;
            let request = peer.call(ACQUIRE, &[key.as_str().into()], out);
            self.state = State::Acquiring(request, pace.intended(self.sent, now));
            flow.send();
            self.sent += 1;
        }
        Ok(self.share.next(&pace, self.sent, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_and_a_token_that_does_not_grow_are_seen() {
        let locks = Locks::new(vec!["k".to_owned()]);
        assert_eq!(locks.grant(0, 1, 5), (false, false));
        assert_eq!(locks.grant(0, 2, 6), (true, false));
        locks.release(0, 1);
        assert_eq!(locks.grant(0, 3, 7), (true, false));
        locks.release(0, 3);
        assert_eq!(locks.grant(0, 1, 7), (false, true));
    }
}
