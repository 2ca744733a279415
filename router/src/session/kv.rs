//! The realm's kept values as a store, and locks on top of it.
//!
//! A lock is no feature of its own: it is a retained publish that asks for the key to be absent
//! (`when` null), waits for that (`watch`) and leaves its deletion as will (`will` null), so every
//! client of every protocol that can say this takes part in the same lock.

use super::error::Error;
use super::inner::{Reply, Waiting};
use super::name::{Name, TopicName};
use super::publish::Publish;
use super::subscribe::{SubscribeOptions, Subscription};
use super::values::IntoPayload;
use super::{ErrorKind, Session};
use router_core::model::{Command, PublicationId, Refusal, Topic};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// The procedure that reads a key; part of the contract with every client.
const GET: &str = "fox.kv.get";

/// A session's view of the kept values. A key is a topic.
#[derive(Clone, Copy)]
pub struct Kv<'a> {
    pub(super) session: &'a Session,
}

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct KvEntry {
    /// The value: the single positional argument, or the list of them.
    pub value: Value,
    /// The positional arguments; `None` for an absent key.
    pub args: Option<Vec<Value>>,
    /// The keyword arguments.
    pub kwargs: Option<Map<String, Value>>,
    /// The fencing token of the last write, a delete too; 0 if none is known.
    pub token: u64,
    /// The session whose will is armed on the key.
    pub owner: Option<u64>,
    /// How many conditional writes wait for it.
    pub waiters: usize,
}

impl KvEntry {
    /// Whether anything is kept.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.args.is_some()
    }
}

impl Session {
    /// The kept values of the realm.
    #[must_use]
    pub fn kv(&self) -> Kv<'_> {
        Kv { session: self }
    }
}

impl Kv<'_> {
    /// What is kept under `key`, as far as it is durable.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl Name) -> Result<KvEntry, Error> {
        let key = TopicName::from(key.topic()?);
        self.session.call(GET, key.to_string()).await?.get()
    }

    /// Keeps a value and answers its token. No value deletes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, key: impl Name, value: impl IntoPayload) -> Result<u64, Error> {
        token_of(self.write(key, value)).await
    }

    /// Deletes and answers the token of that. Deleting nothing is no error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl Name) -> Result<u64, Error> {
        token_of(self.write(key, ())).await
    }

    /// Keeps a value if the present one fits `when` (null: if there is none), and answers its
    /// token; `None` if it does not fit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cas(
        &self,
        key: impl Name,
        when: impl Into<Value>,
        value: impl IntoPayload,
    ) -> Result<Option<u64>, Error> {
        match token_of(self.write(key, value).when(when)).await {
            Ok(token) => Ok(Some(token)),
            Err(error) if error.refusal() == Some(ErrorKind::ConditionFailed) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The values under a key or pattern: those there are, then every change.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn watch(&self, keys: impl Name) -> Result<Subscription, Error> {
        self.session
            .subscribe(keys, SubscribeOptions::new().retained())
            .await
    }

    /// Takes the lock `key`, waiting for it in the order of asking. Dropping the future gives up
    /// the place in the queue.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lock(&self, key: impl Name) -> Result<LockGuard, Error> {
        self.acquire(key, |publish| publish.watch()).await
    }

    /// Takes the lock `key`, waiting for it at most this long, then
    /// [`ErrorKind::Timeout`](super::ErrorKind::Timeout).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lock_within(&self, key: impl Name, most: Duration) -> Result<LockGuard, Error> {
        self.acquire(key, |publish| publish.watch_timeout(most))
            .await
    }

    /// Takes the lock `key` if it is free.
    ///
    /// # Errors
    /// See [`Error`]; a lock that is held is `Ok(None)`.
    pub async fn try_lock(&self, key: impl Name) -> Result<Option<LockGuard>, Error> {
        match self.acquire(key, |publish| publish).await {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.refusal() == Some(ErrorKind::ConditionFailed) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A write that the session's own watchers see too.
    fn write(&self, key: impl Name, value: impl IntoPayload) -> Publish<'_> {
        self.session.publish(key, value).retain().include_me()
    }

    async fn acquire(
        &self,
        key: impl Name,
        how: impl FnOnce(Publish<'_>) -> Publish<'_>,
    ) -> Result<LockGuard, Error> {
        let key = key.topic()?;
        let inner = self.session.inner();
        let request = inner.request_id();
        // Only this holder's, so that a release never takes the lock from somebody else.
        let value = json!({ "session": inner.id().0, "request": request.0 });
        let name = TopicName::from(key.clone());
        let write = self.write(name, &value).when(Value::Null).will(Value::Null);
        let mut publish = how(write).into_command()?;
        publish.request = Some(request);
        let (reply, receiver) = oneshot::channel();
        inner.expect(request, Waiting::Lock(LockRequest { key, value, reply }))?;
        inner.run(Command::Publish(publish)).await?;
        receiver.await.map_err(|_| inner.ended_error())?
    }
}

async fn token_of(publish: Publish<'_>) -> Result<u64, Error> {
    publish
        .acknowledged()
        .await?
        .token
        .ok_or_else(super::unexpected)
}

/// A lock that is waited for.
pub(super) struct LockRequest {
    key: Topic,
    value: Value,
    reply: Reply<LockGuard>,
}

impl LockRequest {
    pub fn refuse(self, refusal: Refusal) {
        drop(self.reply.send(Err(refusal.into())));
    }
}

/// If nobody waits any more, the guard is dropped here, which releases the lock.
pub(super) fn granted(session: Session, lock: LockRequest, publication: PublicationId) {
    let LockRequest { key, value, reply } = lock;
    let guard = LockGuard {
        session,
        key,
        value,
        token: publication.0,
        is_released: false,
    };
    drop(reply.send(Ok(guard)));
}

/// A lock that is held. Dropping it releases the lock without waiting for an answer; it also goes
/// with the session, whatever ends that.
#[must_use = "dropping the guard releases the lock"]
pub struct LockGuard {
    session: Session,
    key: Topic,
    value: Value,
    token: u64,
    is_released: bool,
}

impl LockGuard {
    /// The fencing token: larger than that of every holder before. Give it to whatever the lock
    /// protects, so that it can refuse a holder that has lost the lock unawares.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> TopicName {
        self.key.clone().into()
    }

    /// Releases the lock, durably.
    ///
    /// # Errors
    /// [`ErrorKind::ConditionFailed`](super::ErrorKind::ConditionFailed) if it was lost before:
    /// somebody deleted or overwrote the key.
    pub async fn release(mut self) -> Result<(), Error> {
        self.is_released = true;
        self.release_publish().acknowledged().await?;
        Ok(())
    }

    fn release_publish(&self) -> Publish<'_> {
        let key = TopicName::from(self.key.clone());
        let publish = self.session.publish(key, ()).retain().include_me();
        publish.when(self.value.clone())
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        // The key was a topic when the lock was taken and nothing is to be encoded, so there is
        // always a command. A session that is over has released its locks.
        if let Ok(publish) = self.release_publish().into_command() {
            self.session.inner().run_now(Command::Publish(publish));
        }
    }
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockGuard")
            .field("key", &self.key())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
