//! Open calls. A call is open until its caller got a result or an error *and* its callee answered
//! or went away; only a callee with limited concurrency is waited for after the caller is served.

use super::{Parts, Seals};
use crate::model::{InvocationId, RegistrationId, RequestId, SessionId, Topic};
use crate::timers::TimerKey;
use slab::Slab;
use smallvec::SmallVec;
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
    /// What is called.
    pub procedure: Topic,
    /// With what.
    pub parts: Parts,
    /// Its arguments come in parts.
    pub in_parts: bool,
    /// ... of which the last has not come.
    pub more: bool,
    /// Progressive results are wanted.
    pub progress: bool,
    /// A progressive result was passed on, so no other callee can begin anew.
    pub shown: bool,
    /// How long it may take until its next sign of life.
    pub timeout: Option<Duration>,
    /// The timer of its deadline.
    pub timer: Option<TimerKey>,
    /// The registration it was routed to, which may be gone.
    pub registration: RegistrationId,
    /// Callees that said they cannot take it.
    pub tried: SmallVec<[SessionId; 2]>,
    /// Set when the callee was asked to stop and its answer is still wanted.
    pub interrupted: bool,
    /// Whether the callee may learn the caller.
    pub disclose: bool,
}

impl Call {
    /// Whether any of its arguments are sealed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.parts.seals() != Seals::default()
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug)]
pub enum CallState {
    /// No callee is free.
    Queued,
    /// A callee works on it.
    Running {
        /// The callee's place in the realm.
        callee: usize,
        /// Its id there.
        invocation: InvocationId,
        /// How it was offered.
        offer: Offer,
    },
}

/// How a call was offered to its callee; the same for all of its parts.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Progressive results are wanted of it.
    pub progress: bool,
    /// The registration named exactly this procedure.
    pub exact: bool,
    /// It is told who calls.
    pub discloses: bool,
    /// It watches over the time itself.
    pub keeps_time: bool,
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
