//! What most sessions never have: those that only publish and subscribe are many, and should cost little.

use crate::model::{InvocationId, RegistrationId, RequestId, SubscriptionId, Topic};
use crate::realm::Testament;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

/// What a session has that calls, answers, holds keys, shares subscriptions or leaves something behind. Nothing of it
/// while there is nothing: made with the first write through [`DerefMut`], which to look first is
/// [`Seldom::known`] for.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Option<Box<Dealings>>);

/// The parts of [`Seldom`].
#[derive(Debug, Default)]
pub(crate) struct Dealings {
    /// Subscriptions that are shared.
    pub shares: BTreeSet<SubscriptionId>,
    /// Shared ones whose group does not count it among the members that take more at once.
    pub parked: HashSet<SubscriptionId, foldhash::fast::RandomState>,
    pub registrations: HashSet<RegistrationId>,
    /// request -> place of the call
    pub calls: HashMap<RequestId, usize, foldhash::quality::RandomState>,
    /// invocation -> place of the call
    pub invocations: HashMap<InvocationId, usize, foldhash::fast::RandomState>,
    pub last_invocation: u64,
    /// Calls that ended before all parts of their arguments came: what still comes is discarded.
    pub cut_short: BTreeSet<RequestId>,
    /// key -> order of arming
    pub wills: HashMap<Topic, u64>,
    /// waiter -> key
    pub waiting: HashMap<u64, Topic>,
    /// call that waits for a hold -> key and waiter
    pub acquiring: HashMap<RequestId, (Topic, u64)>,
    /// token -> key, of the holds it was granted
    pub holds: BTreeMap<u64, Topic>,
    /// To be published at its end, in the order of adding.
    pub testaments: Vec<Testament>,
}

impl Seldom {
    /// What there is to be changed, if there was ever anything.
    pub(crate) fn known(&mut self) -> Option<&mut Dealings> {
        self.0.as_deref_mut()
    }
}

impl Deref for Seldom {
    type Target = Dealings;

    fn deref(&self) -> &Dealings {
        static NOTHING: LazyLock<Dealings> = LazyLock::new(Dealings::default);
        self.0.as_deref().unwrap_or_else(|| &NOTHING)
    }
}

impl DerefMut for Seldom {
    fn deref_mut(&mut self) -> &mut Dealings {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;

    #[test]
    fn nothing_is_made_before_something_is_written() {
        let mut seldom = Seldom::default();
        assert!(seldom.calls.is_empty() && seldom.known().is_none());
        seldom.last_invocation += 1;
        assert_eq!(seldom.known().map(|known| known.last_invocation), Some(1));
    }

    #[test]
    fn a_session_has_little_room_for_what_most_never_have() {
        assert!(size_of::<Session>() <= 304, "{}", size_of::<Session>());
    }
}
