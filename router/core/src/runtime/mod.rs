//! Runs realms by name: the one place of this crate that meets threads, locks and clocks.
//!
//! A realm is guarded by one short lock, taken once per batch of commands by whoever has the
//! commands ([`RealmCell::run`]). Durable writes leave the lock in order into the group commit;
//! its reports come back through the same lock. One thread keeps the time for all realms.

mod cell;
mod clock;
mod hub;
pub mod reading;

pub use cell::{Ran, RealmCell};
pub use hub::{
    Door, EnterError, EnterRequest, Hub, HubSettings, HubStats, OpenError, is_realm_name,
};

use crate::model::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    Now {
        instant: Instant::now(),
        unix_ms,
    }
}
