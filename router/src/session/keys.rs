//! The kept values by their procedures: what a token guards, pages of keys, and every change of one.

use super::ErrorKind;
use super::call::ProgressiveCall;
use super::error::Error;
use super::kv::Kv;
use super::name::{Name, TopicName};
use super::values::{Arguments, Values};
use serde::{Deserialize, Serialize};
use serde_json::Value;

// Parts of the contract with every client.
const CAS: &str = "fox.kv.cas";
const DELETE: &str = "fox.kv.delete";
const LIST: &str = "fox.kv.list";
const WATCH: &str = "fox.kv.watch";

/// Which keys of a prefix are listed, and how.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    limit: Option<usize>,
    after: Option<String>,
    without_values: bool,
}

impl ListOptions {
    /// The first hundred keys with their values.
    #[must_use]
    pub fn new() -> ListOptions {
        ListOptions::default()
    }

    /// At most so many keys on the page, a thousand at most.
    #[must_use]
    pub fn limit(mut self, keys: usize) -> ListOptions {
        self.limit = Some(keys);
        self
    }

    /// Only those behind this key: the last one of the page before.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> ListOptions {
        self.after = Some(key.into());
        self
    }

    /// Keys alone.
    #[must_use]
    pub fn without_values(mut self) -> ListOptions {
        self.without_values = true;
        self
    }
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys, in the order of their MQTT spelling.
    pub keys: Vec<ListedKey>,
    /// There are more, after the last one.
    pub more: bool,
}

/// A key of a page.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ListedKey {
    /// Its name in dotted notation.
    pub key: String,
    /// The fencing token of its last write.
    pub token: u64,
    /// The session whose will is armed on it.
    pub owner: Option<u64>,
    /// What it keeps; null if values were not asked for.
    #[serde(default)]
    pub value: Value,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// What the key keeps since; null if it was deleted.
    pub value: Value,
    /// The fencing token of the write or deletion.
    pub token: u64,
}

impl Kv<'_> {
    /// Keeps a value if the key still has this token, and answers the new one; `None` if somebody
    /// wrote since. Token 0 stands for any absent key; null deletes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cas_token(
        &self,
        key: impl Name,
        token: u64,
        value: impl Serialize,
    ) -> Result<Option<u64>, Error> {
        let args = Arguments::new().arg(spelled(key)?).arg(token).arg(value);
        unless_conflict(self.session.call(CAS, args).await)
    }

    /// Deletes a key if it still has this token, and answers the token of that; `None` if somebody
    /// wrote since.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_token(&self, key: impl Name, token: u64) -> Result<Option<u64>, Error> {
        let args = Arguments::new().arg(spelled(key)?).kwarg("token", token);
        unless_conflict(self.session.call(DELETE, args).await)
    }

    /// A page of the keys whose dotted names begin with `prefix`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, prefix: &str, options: ListOptions) -> Result<KeyPage, Error> {
        let args = Arguments::new()
            .arg(prefix)
            .kwarg("limit", options.limit)
            .kwarg("after", options.after)
            .kwarg("values", !options.without_values);
        self.session.call(LIST, args).await?.get()
    }

    /// Every change of one key behind `token`, the present value first if it is newer; without a
    /// token what changes from now on. Nothing is told that is not durable.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn changes(&self, key: impl Name, token: Option<u64>) -> Result<Changes, Error> {
        let args = Arguments::new().arg(spelled(key)?).kwarg("token", token);
        let call = self.session.call_progressive(WATCH, args).await?;
        Ok(Changes { call })
    }
}

/// The changes of a key, until this is dropped.
#[must_use = "dropping it ends the watch"]
#[derive(Debug)]
pub struct Changes {
    call: ProgressiveCall,
}

impl Changes {
    /// The next change; `None` when the realm ended the watch, for which [`Changes::end`] has the
    /// reason. Cancel safe.
    ///
    /// # Errors
    /// Never as the router answers today.
    pub async fn next(&mut self) -> Result<Option<Change>, Error> {
        match self.call.next().await {
            Some(values) => values.get().map(Some),
            None => Ok(None),
        }
    }

    /// Why there are no more changes.
    pub async fn end(self) -> Error {
        match self.call.result().await {
            Ok(_) => super::unexpected(),
            Err(error) => error,
        }
    }
}

fn spelled(key: impl Name) -> Result<String, Error> {
    Ok(TopicName::from(key.topic()?).to_string())
}

fn unless_conflict(answer: Result<Values, Error>) -> Result<Option<u64>, Error> {
    #[derive(Deserialize)]
    struct Written {
        token: u64,
    }
    match answer {
        Ok(values) => Ok(Some(values.get::<Written>()?.token)),
        Err(error) if error.refusal() == Some(ErrorKind::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}
