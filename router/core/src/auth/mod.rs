//! Who a session is, and what its role may do.

mod authenticate;
mod rules;

pub use authenticate::{Access, AuthError, Credentials, Proof, Secret, SlowProof, User, Verified};
pub use rules::{Action, Role, Rule};
