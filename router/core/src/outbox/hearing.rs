//! Before a connection gives way to a newer one of its client, it hears out its peer: it reads what was
//! sent already, so that a farewell is not overtaken by whoever comes next.
//!
//! Each asking has a number. The connection reports the newest one it knew of when it began to
//! read; all askings up to it are answered. Whoever asks gives up after a time of its own.

use super::{Lanes, Outbox};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// The most that wait for one connection; whoever comes then does not wait.
const WAITING_MAX: usize = 64;

/// Askings that were not answered yet.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    /// Those up to here were.
    heard: u64,
    waiting: Vec<Waker>,
}

impl Unheard {
    fn wake(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

/// A connection that was asked to hear out its peer.
pub struct Former {
    outbox: Arc<Outbox>,
    generation: u64,
    number: u64,
}

impl fmt::Debug for Former {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Former")
            .field("generation", &self.generation)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Former {
    /// Asks connection `generation` of `outbox`.
    #[must_use]
    pub fn ask(outbox: Arc<Outbox>, generation: u64) -> Former {
        let number = outbox.ask();
        Former {
            outbox,
            generation,
            number,
        }
    }

    /// Whether this is connection `generation` of `outbox`.
    #[must_use]
    pub fn is(&self, outbox: &Arc<Outbox>, generation: u64) -> bool {
        Arc::ptr_eq(&self.outbox, outbox) && self.generation == generation
    }

    /// Whether nothing is to be waited for any more: the connection has heard its peer out, is
    /// gone, or goes anyway. If not, `waker` is called when it is so.
    #[must_use]
    pub fn is_done(&self, waker: &Waker) -> bool {
        let mut lanes = self.outbox.lanes.lock();
        let is_gone = lanes.generation != self.generation
            || lanes.released >= self.generation
            || lanes.ended.is_some();
        let Some(unheard) = lanes.unheard.as_deref_mut() else {
            return true;
        };
        if is_gone || unheard.heard >= self.number {
            return true;
        }
        if unheard.waiting.iter().any(|known| known.will_wake(waker)) {
            return false;
        }
        let is_full = unheard.waiting.len() >= WAITING_MAX;
        if !is_full {
            unheard.waiting.push(waker.clone());
        }
        is_full
    }
}

impl Outbox {
    fn ask(&self) -> u64 {
        let mut lanes = self.lanes.lock();
        lanes.unheard.get_or_insert_default();
        // Under the lock, so that a writer that registers afterwards sees it.
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let waker = lanes.waker.clone();
        drop(lanes);
        if let Some(waker) = waker {
            waker.wake();
        }
        number
    }

    /// The number of the last asking to hear out the peer; 0: there was none. To be looked at after
    /// [`Outbox::register`], whose waker is called for the next one.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The peer was heard out, for the askings up to `number`.
    pub fn heard(&self, number: u64) {
        let mut lanes = self.lanes.lock();
        let last = self.asked.load(Ordering::Relaxed);
        if let Some(unheard) = &mut lanes.unheard {
            unheard.heard = number.max(unheard.heard);
            unheard.wake();
            if unheard.heard >= last {
                lanes.unheard = None;
            }
        }
    }
}

impl Lanes {
    /// The connection that was asked goes, or has gone.
    pub(super) fn stop_hearing(&mut self) {
        if let Some(mut unheard) = self.unheard.take() {
            unheard.wake();
        }
    }
}
