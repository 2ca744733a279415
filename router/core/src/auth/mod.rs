//! Who a session is, and what its role may do.

mod rules;

pub use rules::{Action, Role, Rule};
