//! What the store did not keep of holds.
//!
//! Grants that are not durable are taken back; ends of holds stand. So whoever is a holder now, by
//! a grant that is durable, goes on to hold.

use super::Ended;
use super::tell::value_of;
use crate::model::{Now, Topic};
use crate::realm::{Effects, Realm};
use std::collections::BTreeSet;

impl Realm {
    /// After the values went back to what is durable, which is what came up to the commit
    /// `durable`. Answers the keys about which the subscribers are told enough.
    pub(in crate::realm) fn take_back_holds(
        &mut self,
        now: Now,
        durable: u64,
        effects: &mut Effects,
    ) -> BTreeSet<Topic> {
        let lost = self.kv.held.take_lost(durable);
        let keys: BTreeSet<Topic> = lost.iter().map(|(topic, ..)| topic.clone()).collect();
        let mut told = BTreeSet::new();
        for topic in keys {
            if self.mend_value(now, &topic, effects) {
                told.insert(topic);
            }
        }
        for (topic, token, holder) in lost {
            self.counters.lock_rollbacks += 1;
            self.forget_holder(token, &holder);
            self.tell_end_of_hold(now, &topic, (token, &holder), Ended::Store, effects);
        }
        told
    }

    /// A value that a standing release wrote may still count holders that were taken back: writes
    /// what holds now. Answers whether it had to.
    fn mend_value(&mut self, now: Now, topic: &Topic, effects: &mut Effects) -> bool {
        let Some(entry) = self.kv.get(topic).filter(|entry| entry.is_hold) else {
            return false;
        };
        let hold = self.kv.held.get(topic);
        let is_right = hold.is_some_and(|hold| {
            hold.mode.is_alone() || value_of(hold) == *entry.event.payload.value()
        });
        let Some(publisher) = entry.event.publisher.clone().filter(|_| !is_right) else {
            return false;
        };
        let publication = self.ids.next(now.unix_ms);
        let ended = Some(Ended::Store);
        self.write_hold(now, publication, topic, publisher, ended, effects);
        true
    }
}
