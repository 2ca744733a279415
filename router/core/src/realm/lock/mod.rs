//! Locks: keys that are held, asked for by name instead of by a conditional write.
//!
//! A hold lives under the same key as a retained value, and so do those who wait for either: one
//! line for each key, first come first served. Every grant is a write of the key, whose publication
//! id is the token; every end of a hold is one too. What a held key says is written by the holds
//! alone, and by the only holder of a key that is held by one (see `suits_own_hold`).
//!
//! Answers wait for the commit of what they tell, and ends of holds stand even if the store fails,
//! as everywhere.

mod acquire;
mod arguments;
mod inspect;
mod lease;
mod release;
mod tell;
mod undo;

pub(super) use tell::Ended;

use super::call::CallOptions;
use super::meta::positional;
use super::{Effects, NOT_SEALED, Realm, Undo};
use crate::auth::Action;
use crate::model::{CallFailure, Delivery, ErrorKind, Now, Payload, Refusal, RequestId, Topic};
use arguments::Asked;
use serde_json::Value;
use std::sync::Arc;

/// What the topics are called that tell of holds, before their own names.
const TOLD: &str = "on_";

/// The procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Acquire,
    TryAcquire,
    Renew,
    Release,
    Inspect,
    List,
    Break,
}

impl Lock {
    fn named(name: &str) -> Option<Lock> {
        Some(match name {
            "acquire" => Lock::Acquire,
            "try_acquire" => Lock::TryAcquire,
            "renew" => Lock::Renew,
            "release" => Lock::Release,
            "inspect" => Lock::Inspect,
            "list" => Lock::List,
            "break" => Lock::Break,
            _ => return None,
        })
    }
}

/// Who called: the session's place and the call.
type Caller = (usize, RequestId);

/// What a call came to, unless it answered by itself.
type Outcome = Result<Option<Value>, Refusal>;

impl Realm {
    /// What a topic or procedure is called among those of locks.
    pub(super) fn lock_name<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(&*self.settings.naming.locks)?
            .strip_prefix('/')
    }

    pub(super) fn lock_procedure(&self, procedure: &Topic) -> Option<Lock> {
        self.lock_name(procedure.text()).and_then(Lock::named)
    }

    /// Whether only the realm itself publishes to this topic, because it tells of holds.
    pub(super) fn tells_of_locks(&self, topic: &Topic) -> bool {
        let name = self.lock_name(topic.text());
        name.is_some_and(|name| name.starts_with(TOLD))
    }

    pub(super) fn call_lock(
        &mut self,
        now: Now,
        caller: Caller,
        what: Lock,
        payload: &Payload,
        options: CallOptions,
        effects: &mut Effects,
    ) {
        let args = positional(payload);
        let asked = Asked::new(&args, payload.kwargs_value());
        let outcome = match what {
            Lock::Acquire => self.acquire(now, caller, &asked, Some(options), effects),
            Lock::TryAcquire => self.acquire(now, caller, &asked, None, effects),
            Lock::Renew => self.renew(now, caller, &asked, effects),
            Lock::Release => self.release_held(now, caller, &asked, effects),
            Lock::Inspect => self.inspect_key(now, caller, &asked, effects),
            Lock::List => self.list_held(now, caller, &asked, effects),
            Lock::Break => self.break_hold(now, caller, &asked, effects),
        };
        if let Err(refusal) = outcome {
            self.fail_acquire(caller, refusal, effects);
        }
    }

    fn fail_acquire(&mut self, (place, request): Caller, refusal: Refusal, effects: &mut Effects) {
        if matches!(
            refusal.kind,
            ErrorKind::QuotaExceeded | ErrorKind::QueueFull
        ) {
            self.counters.quota_refused += 1;
        }
        // What ended the hold may not be on disk yet, and a crash would give it back.
        let is_lost = refusal.kind == ErrorKind::LockLost;
        let commit = match is_lost && self.settings.durable && !self.store_down {
            true => self.latest_commit(effects),
            false => 0,
        };
        let failure = CallFailure::Realm(refusal);
        let delivery = Delivery::CallFailed { request, failure };
        self.push_after(place, delivery, commit, effects);
    }

    /// Answers with one dictionary once `commit` is durable.
    fn answer_with(
        &mut self,
        (place, request): Caller,
        report: &Value,
        (commit, undo): (u64, Undo),
        effects: &mut Effects,
    ) {
        let payload = Arc::new(Payload::from_value(report));
        let result = Delivery::Result {
            request,
            payload,
            progress: false,
        };
        self.push_or_undo(place, result, commit, undo, effects);
    }

    /// The commit that an answer about the end of a hold waits for, if the effects grew since they
    /// held `before` writes. It stands, so it waits for as long as the store is down.
    fn commit_of_end(&self, before: usize, effects: &Effects) -> (u64, Undo) {
        let commit = match self.store_down {
            true => NOT_SEALED,
            false => self.commit_since(before, effects),
        };
        (commit, Undo::Stands)
    }

    /// Reads a spelled key.
    fn lock_key<'a>(&self, spelled: Option<&'a Value>) -> Result<(&'a str, Topic), Refusal> {
        let Some(spelled) = spelled.and_then(Value::as_str) else {
            let message = "the first argument must be a key as a string";
            return Err(Refusal::new(ErrorKind::InvalidArgument, message));
        };
        match (self.settings.naming.read_key)(spelled) {
            Some(topic) => Ok((spelled, topic)),
            None => {
                let refusal = Refusal::new(ErrorKind::InvalidTopic, "the key is not a valid topic");
                Err(refusal.with("key", spelled))
            }
        }
    }

    /// Whether a session may write a key, or read it.
    fn may_touch(&self, place: usize, action: Action, topic: &Topic) -> Result<(), Refusal> {
        let role = self.sessions.get(place).map(|s| &s.identity.role);
        let may = role.is_some_and(|role| role.permits(action, topic));
        let message = match action {
            Action::Publish if self.is_reserved(topic) => "this first level belongs to the router",
            _ if may => return Ok(()),
            Action::Publish => "the role may not write this key",
            _ => "the role may not read this key",
        };
        Err(Refusal::new(ErrorKind::NotAuthorized, message))
    }
}
