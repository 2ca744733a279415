//! From one connection of a client to the next: no two send at a time.

use super::{Lanes, Outbox};
use std::sync::Arc;
use std::task::Waker;

/// Who still has to let go, and who waits for that. Seldom anybody.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// The connection that has not let go yet, if a newer one was given the outbox.
    pub(super) holder: Option<u64>,
    /// The outbox of the session that this one replaced, and the connection that held it.
    predecessor: Option<(Arc<Outbox>, u64)>,
    /// To be woken when a connection lets go.
    successors: Vec<Waker>,
}

impl Relay {
    fn is_over(&self) -> bool {
        self.holder.is_none() && self.predecessor.is_none() && self.successors.is_empty()
    }
}

impl Outbox {
    /// Nothing is handed out until connection `generation` of `predecessor`, the outbox of a session
    /// that this one's replaced, has let go. Lock order: successor before predecessor.
    pub fn follow(&self, predecessor: Arc<Outbox>, generation: u64) {
        let mut lanes = self.lanes.lock();
        let relay = lanes.relay.get_or_insert_default();
        relay.predecessor = Some((predecessor, generation));
    }

    /// Whether connection `generation` has let go; if not, `waker` is called when it does.
    fn has_let_go(&self, generation: u64, waker: Option<&Waker>) -> bool {
        let mut lanes = self.lanes.lock();
        let gone = lanes.released >= generation;
        if !gone && let Some(waker) = waker {
            let successors = &mut lanes.relay.get_or_insert_default().successors;
            if !successors.iter().any(|known| known.will_wake(waker)) {
                successors.push(waker.clone());
            }
        }
        gone
    }

    /// The connection of `generation` will not send anything any more. A connection in between,
    /// which never was let in, does not speak for the one that still holds the outbox.
    pub fn release(&self, generation: u64) {
        let mut lanes = self.lanes.lock();
        lanes.released = lanes.released.max(generation);
        if lanes.generation == generation {
            lanes.stop_hearing();
        }
        let Some(relay) = &mut lanes.relay else {
            return;
        };
        for waker in relay.successors.drain(..) {
            waker.wake();
        }
        if relay
            .holder
            .take_if(|holder| *holder == generation)
            .is_some()
            && let Some(waker) = lanes.waker.take()
        {
            waker.wake();
        }
        lanes.forget_relay();
    }
}

impl Lanes {
    /// Whether a former connection of the same client still has to let go.
    pub(super) fn must_wait(&mut self, waker: Option<&Waker>) -> bool {
        let Some(relay) = &mut self.relay else {
            return false;
        };
        relay
            .predecessor
            .take_if(|(predecessor, generation)| predecessor.has_let_go(*generation, waker));
        let must_wait = relay.holder.is_some() || relay.predecessor.is_some();
        self.forget_relay();
        must_wait
    }

    fn forget_relay(&mut self) {
        self.relay.take_if(|relay| relay.is_over());
    }
}
