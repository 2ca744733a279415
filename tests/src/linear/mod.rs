//! Linearizability of one key: whether what concurrent sessions were told of it can be explained by
//! their requests having been carried out one after the other, each at some instant between its
//! request and its answer.
//!
//! A history is what was recorded from outside: requests with the instants of request and answer, by
//! one clock that never gives the same instant twice. Keys are checked one by one, because a history
//! is linearizable exactly if its part on each key is (Herlihy and Wing, theorem of locality).
//!
//! What goes beyond the textbook:
//! * **Unknown outcomes.** A request whose answer was lost may have taken effect at any time until
//!   its session ended, or never.
//! * **Waiting writes.** One that waits takes effect with the write that makes its condition true;
//!   it must have happened by its answer, in the order of arrival, and the waiting are counted by
//!   each read.
//! * **Wills.** The end of a session is an action of its own, at any time after the connection was
//!   given up, which drops what the session waits for and writes the will of what it owns.
//! * **Holds.** A key that is held by call belongs to its holders. Who waits for it stands in one
//!   line with the writes that wait for it to be absent. A hold with a lease may end at any time.
//! * **Watches.** One that was told something was told each change since it began, in their order
//!   and with their tokens, and had missed none when it ended.
//! * **Restarts.** Between kill and readiness all sessions end at once, and without a disk
//!   everything is forgotten.
//! * **Program order.** A router takes the requests of one session in their order.
//!
//! [`check`] searches for an order as Wing and Gong did, with Lowe's memory of the configurations
//! already tried; [`model`] is the sequential key; [`shrink`] makes a violation readable.

mod check;
mod history;
mod known;
pub mod model;
mod shrink;
mod terms;
#[cfg(test)]
mod tests;

pub use check::{OPS_MAX, Verdict, check};
pub use history::{Action, Op, Reply, Row};
pub use known::Known;
pub use shrink::shrink;
pub use terms::{Condition, Datum, Few, Kept, Order, Shown, Wait, Wish, Write};
