//! Registrations and open calls: who may answer what, and who is answering.

mod calls;
mod registrations;

pub use calls::{Call, CallState, Calls};
pub use registrations::{Callee, Choice, Registration, Registrations};
