//! Subscriptions: who listens to what. Fan-out itself is the realm's, which knows the sessions.

mod fit;
mod subscriptions;

pub use fit::{Filter, fits};
pub use subscriptions::{Member, MemberOptions, Subscription, SubscriptionKey, Subscriptions};
