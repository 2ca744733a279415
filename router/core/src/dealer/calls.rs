//! Open calls. A call is open until its caller got a result or an error *and* its callee answered
//! or went away; only a callee with limited concurrency is waited for after the caller is served.

use crate::model::{InvocationId, Payload, RegistrationId, RequestId, Topic};
use crate::timers::TimerKey;
use slab::Slab;
use std::sync::Arc;
use std::time::Duration;

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Tells this use of the place from earlier ones.
    pub serial: u64,
    /// Who waits for the answer: place in the realm and request; `None` once answered.
    pub caller: Option<(usize, RequestId)>,
    /// Where it stands.
    pub state: CallState,
    /// Progressive results are wanted.
    pub progress: bool,
    /// How long it may take until its next sign of life.
    pub timeout: Option<Duration>,
    /// The timer of its deadline.
    pub timer: Option<TimerKey>,
    /// The registration it was routed to, which may be gone.
    pub registration: RegistrationId,
    /// Set when the callee was asked to stop and its answer is still wanted.
    pub interrupted: bool,
    /// Whether the callee may learn the caller.
    pub disclose: bool,
}

/// Where a call stands.
#[derive(Debug)]
pub enum CallState {
    /// No callee is free.
    Queued {
        /// What will be called.
        procedure: Topic,
        /// With what.
        payload: Arc<Payload>,
    },
    /// A callee works on it.
    Running {
        /// The callee's place in the realm.
        callee: usize,
        /// Its id there.
        invocation: InvocationId,
        /// Progress was offered to the callee.
        progress: bool,
    },
}

/// All open calls of a realm.
#[derive(Debug, Default)]
pub struct Calls {
    slots: Slab<Call>,
    serial: u64,
}

impl Calls {
    /// Opens a call; sets its serial.
    pub fn open(&mut self, mut call: Call) -> usize {
        self.serial += 1;
        call.serial = self.serial;
        self.slots.insert(call)
    }

    /// At a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Call> {
        self.slots.get(place)
    }

    /// At a place.
    pub fn at_mut(&mut self, place: usize) -> Option<&mut Call> {
        self.slots.get_mut(place)
    }

    /// Closes a call.
    pub fn close(&mut self, place: usize) -> Option<Call> {
        self.slots.try_remove(place)
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
