//! `list`: the keys under a prefix, page by page, in the order of their texts in the core.
//!
//! A page holds at most [`PAGE_MAX`] keys and about [`PAGE_BYTES`] of values, and is made by looking
//! at a bounded number of keys. Whoever wants more asks again after its last key.

use super::options::Asked;
use crate::auth::Action;
use crate::kv::{Entry, Visit, Walked};
use crate::model::{ErrorKind, Now, Refusal, Topic};
use crate::realm::own_calls::Caller;
use crate::realm::publish::is_admitted;
use crate::realm::{Effects, Realm};
use serde_json::{Map, Value, json};

/// Keys on a page unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Bytes of values on a page; may be exceeded by one value.
const PAGE_BYTES: usize = 1 << 20;
/// Keys looked at for a page, beside deleted ones.
const LOOKS_PER_PAGE: usize = 20_000;

impl Realm {
    pub(super) fn list_keys(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let prefix = asked.text(0, "the prefix must be a string")?;
        let naming = &self.settings.naming;
        let (pattern, _) = (naming.read_pattern)(prefix, Some("prefix"))?;
        let values = asked.flag("values")?.unwrap_or(true);
        let limit = match asked.whole("limit")? {
            None => PAGE,
            Some(0) => return Err(invalid("limit must be more than 0")),
            Some(limit) => usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX),
        };
        let after = match asked.word("after")? {
            None => None,
            Some(key) => {
                let key = (naming.read_key)(key);
                Some(key.ok_or_else(|| invalid("after must be a key"))?)
            }
        };
        let Some(session) = self.sessions.get(caller.place) else {
            return Err(Refusal::new(ErrorKind::Internal, "the session is gone"));
        };
        let role = &session.identity.role;
        if !role.permits_pattern(Action::Subscribe, &pattern) {
            let message = "the role may not subscribe to this prefix";
            return Err(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        let (mut keys, mut bytes) = (Vec::new(), 0);
        let mut looks = LOOKS_PER_PAGE + self.settings.limits.tombstones;
        let mut show = |key: &Topic, entry: &Entry| {
            let event = &entry.event;
            let is_shown = !event.is_expired(now.unix_ms)
                && role.permits(Action::Subscribe, key)
                && is_admitted(session, event);
            if !is_shown {
                return Visit::Next;
            }
            // One more shows that there are more.
            if keys.len() == limit || bytes >= PAGE_BYTES {
                return Visit::StopBefore;
            }
            bytes += key.text().len() + if values { event.payload.len() } else { 0 };
            keys.push(self.row(key, entry, values));
            Visit::Next
        };
        let reserved = &naming.reserved;
        let walked = self
            .kv
            .walk(&pattern, reserved, after.as_ref(), &mut looks, &mut show);
        let more = walked != Walked::ToTheEnd;
        if more && keys.is_empty() {
            let message = "too many keys that the role may not read lie here";
            return Err(Refusal::new(ErrorKind::QuotaExceeded, message));
        }
        let report = json!({"keys": keys, "more": more});
        // What is told includes what is absent, so every write before must be durable. While the
        // store is down the values are those that are, but for releases, which stand.
        let commit = match self.settings.durable && !self.store_down {
            true => self.commit - u64::from(effects.batch.is_empty()),
            false => 0,
        };
        self.answer_keys(caller, report, commit, effects);
        Ok(())
    }

    fn row(&self, key: &Topic, entry: &Entry, values: bool) -> Value {
        let mut row = Map::new();
        row.insert("key".to_owned(), self.spelled(key).into());
        row.insert("token".to_owned(), entry.event.publication.0.into());
        let owner = self.owner_of(key, entry);
        row.insert("owner".to_owned(), owner.into());
        if values {
            row.insert("value".to_owned(), entry.event.payload.value().clone());
        }
        Value::Object(row)
    }
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(ErrorKind::InvalidArgument, message)
}
