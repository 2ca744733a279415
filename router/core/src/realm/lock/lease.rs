//! Holds that end by themselves unless they are renewed.

use super::arguments::Asked;
use super::{Caller, Ended, Outcome};
use crate::kv::Lease;
use crate::model::{MAX_ID, Now, Topic};
use crate::realm::meta::invalid;
use crate::realm::{Effects, Realm, Undo};
use crate::timers::Timer;
use serde_json::json;
use std::time::Duration;

impl Realm {
    /// The hold ends `ttl` from now; without one it does not end by itself.
    pub(super) fn set_lease(&mut self, now: Now, topic: &Topic, token: u64, ttl: Option<Duration>) {
        let Some(holder) = self.kv.held.holder_mut(topic, token) else {
            return;
        };
        let former = holder.lease.take().and_then(|lease| lease.timer);
        self.timers.cancel(former);
        let Some(ttl) = ttl else {
            return;
        };
        let timer = Timer::Lease(topic.clone(), token);
        let timer = self.set_timer(now, ttl, timer);
        let ends_ms = now.unix_ms_after(ttl).min(MAX_ID);
        if let Some(holder) = self.kv.held.holder_mut(topic, token) {
            holder.lease = Some(Lease {
                ttl,
                ends_ms,
                timer,
            });
        }
    }

    pub(super) fn renew(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let (named, options) = self.named_hold(caller.0, asked)?;
        let given = options.duration("ttl_ms", 1)?;
        let (topic, token) = (&named.topic, named.token);
        let Some(holder) = self.kv.held.holder(topic, token) else {
            return Err(invalid("what a write holds does not end by itself").with("key", named.key));
        };
        let ttl = given.or(holder.lease.map(|lease| lease.ttl));
        let commit = holder.commit;
        self.set_lease(now, topic, token, ttl);
        let lease = self.kv.held.holder(topic, token).and_then(|h| h.lease);
        let expires = lease.map(|lease| lease.ends_ms);
        let report = json!({"key": named.key, "token": token, "expires": expires});
        self.answer_with(caller, &report, (commit, Undo::Nothing), effects);
        Ok(None)
    }

    pub(in crate::realm) fn lease_ended(
        &mut self,
        now: Now,
        topic: &Topic,
        token: u64,
        effects: &mut Effects,
    ) {
        if self.kv.held.holder(topic, token).is_some() {
            self.counters.lock_expiries += 1;
            self.end_holds(now, topic, &[token], Ended::Expired, effects);
        }
    }
}
