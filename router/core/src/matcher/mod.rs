//! Which of many patterns match a topic: one index for everything that is matched.

mod index;
#[cfg(test)]
mod oracle;

pub use index::{Found, Index};
