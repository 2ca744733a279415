//! Registrations and open calls: who may answer what, and who is answering.

mod calls;
mod parts;
mod precedence;
mod registrations;

pub use calls::{Call, CallState, Calls, Offer};
pub use parts::{Parts, Seals};
pub use registrations::{Callee, Choice, Registration, RegistrationKey, Registrations};
