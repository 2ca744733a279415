//! Identifiers as newtypes; all of them fit an integer in 1..2^53 on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;

/// The largest identifier a peer can hold exactly (2^53).
pub const MAX_ID: u64 = 1 << 53;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// A participant in a realm; random in 1..=2^53 and unique in the process.
    SessionId,
    /// One (pattern, filter) that at least one session subscribed to; a small counter per realm.
    SubscriptionId,
    /// One procedure that at least one session registered; a small counter per realm.
    RegistrationId,
    /// A published event. Grows strictly within a data directory, also across restarts.
    PublicationId,
    /// Chosen by the gate, echoed in the answer; meaningless to the realm.
    RequestId,
    /// Sequential per callee session, from 1.
    InvocationId,
}

/// The place of an unsettled delivery in its session; doubles as its packet identifier on the wire.
pub type Slot = NonZeroU16;
