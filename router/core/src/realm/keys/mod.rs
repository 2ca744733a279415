//! The kept values as procedures, below a name that comes with the settings: `put`, `delete`, `cas`,
//! `list` and `watch`.
//!
//! They are another way to say what publishes and subscriptions with their options say: a write
//! here is a retained publish, with its event, its rights and its durability, and the last word on
//! a key is the same token for both. What waits is an own call (`own_calls.rs`).

mod list;
mod options;
mod watch;
mod write;

pub(super) use watch::Watchers;

use super::own_calls::Caller;
use super::{Effects, Realm};
use crate::model::{
    CallFailure, Delivery, ErrorKind, MatchKind, Now, Pattern, Payload, Refusal, Topic,
};
use options::Asked;
use serde_json::Value;
use std::sync::Arc;

/// The procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyCall {
    Put,
    Delete,
    Cas,
    List,
    Watch,
}

impl KeyCall {
    pub fn named(name: &str) -> Option<KeyCall> {
        Some(match name {
            "put" => KeyCall::Put,
            "delete" => KeyCall::Delete,
            "cas" => KeyCall::Cas,
            "list" => KeyCall::List,
            "watch" => KeyCall::Watch,
            _ => return None,
        })
    }

    /// How many positional arguments come before the options.
    fn arity(self) -> usize {
        match self {
            KeyCall::Put => 2,
            KeyCall::Cas => 3,
            KeyCall::Delete | KeyCall::List | KeyCall::Watch => 1,
        }
    }
}

impl Realm {
    /// Carries out a call and answers it, or enters it among those that wait.
    pub(super) fn call_keys(
        &mut self,
        now: Now,
        caller: Caller,
        what: KeyCall,
        payload: &Payload,
        effects: &mut Effects,
    ) {
        let done = Asked::read(payload, what.arity()).and_then(|asked| match what {
            KeyCall::Put => self.put_key(now, caller, &asked, effects),
            KeyCall::Delete => self.delete_key(now, caller, &asked, effects),
            KeyCall::Cas => self.cas_key(now, caller, &asked, effects),
            KeyCall::List => self.list_keys(now, caller, &asked, effects),
            KeyCall::Watch => self.watch_key(now, caller, &asked, effects),
        });
        if let Err(refusal) = done {
            let Caller { place, request, .. } = caller;
            self.fail_request(place, request, CallFailure::Realm(refusal), effects);
        }
    }

    /// The key that the first argument names.
    fn key_of(&self, asked: &Asked) -> Result<Topic, Refusal> {
        let spelling = asked.text(0, "the key must be a string")?;
        (self.settings.naming.read_key)(spelling).ok_or_else(|| {
            let message = "the key is not a valid topic";
            Refusal::new(ErrorKind::InvalidTopic, message)
        })
    }

    /// The key as it can be asked for.
    pub(super) fn spelled(&self, key: &Topic) -> String {
        let pattern = Pattern::Exact(key.clone());
        (self.settings.naming.show_pattern)(&pattern, MatchKind::Exact)
    }

    /// Answers a call with one value once `commit` is durable.
    fn answer_keys(&mut self, caller: Caller, report: Value, commit: u64, effects: &mut Effects) {
        let result = Delivery::Result {
            request: caller.request,
            payload: Arc::new(Payload::from_values(&[report])),
            progress: false,
        };
        self.push_after(caller.place, result, commit, effects);
    }
}
