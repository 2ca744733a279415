//! Subscriptions: who listens to what. Fan-out itself is the realm's, which knows the sessions.

mod fit;
mod share;
mod subscriptions;

pub use fit::{Filter, fits};
pub use share::{Picked, Reach, Rota, ShareStrategy, Sharing, Standing};
pub use subscriptions::{
    Member, MemberOptions, Pace, Subscription, SubscriptionKey, Subscriptions,
};
