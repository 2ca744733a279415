//! The judge of calls: each reaches at most one callee, once, and ends exactly once.

use crate::ledger::Uid;
use std::collections::HashMap;

#[derive(Default)]
pub struct Calls {
    invoked: HashMap<Uid, u32>,
    pub ended: u64,
}

impl Calls {
    /// A callee was asked to answer the call.
    pub fn invoked(&mut self, uid: Uid) -> Result<(), String> {
        let times = self.invoked.entry(uid).or_default();
        *times += 1;
        if *times > 1 {
            return Err(format!("call {uid} was handed out {times} times"));
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.invoked.len()
    }
}
