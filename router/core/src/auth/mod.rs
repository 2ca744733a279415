//! Who a session is, and what its role may do.

mod authenticate;
mod exchange;
mod rules;
mod scram;

pub use authenticate::{Access, AuthError, Credentials, Proof, Secret, SlowProof, User, Verified};
pub use exchange::{Challenge, KeyCache, Mechanism};
pub use rules::{Action, Disclosure, Role, Rule};
