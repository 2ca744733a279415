//! Publishing: a builder that is awaited.

use super::Session;
use super::error::Error;
use super::inner::Inner;
use super::name::Name;
use super::values::IntoPayload;
use router_core::model::{self, Answer, Command, PublishOptions, Qos, WillScope};
use serde_json::Value;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future of this module's builders.
pub(super) type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What an acknowledged publish came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's id; grows within a realm, also across restarts.
    pub publication: u64,
    /// The fencing token of a retained write; grows for its key, also across restarts.
    pub token: Option<u64>,
    /// Whether anybody was subscribed.
    pub matched: bool,
}

/// A publish to be awaited, for its acknowledgement, or [sent](Publish::send) without one.
///
/// The acknowledgement of a retained publish comes when it is durable. Dropping the future of one
/// that waits for its condition ([`Publish::watch`]) gives up the answer, not the publish.
#[must_use = "nothing is published until this is awaited or sent"]
pub struct Publish<'a> {
    inner: &'a Arc<Inner>,
    publish: Result<Box<model::Publish>, Error>,
}

impl Session {
    /// Publishes `payload` to `topic`: `session.publish("app.state", 1).retain().await?`.
    pub fn publish(&self, topic: impl Name, payload: impl IntoPayload) -> Publish<'_> {
        let publish = topic.topic().and_then(|topic| {
            Ok(Box::new(model::Publish::new(
                topic,
                payload.into_payload()?,
            )))
        });
        Publish {
            inner: self.inner(),
            publish,
        }
    }
}

impl<'a> Publish<'a> {
    fn edit(mut self, edit: impl FnOnce(&mut model::Publish)) -> Publish<'a> {
        if let Ok(publish) = &mut self.publish {
            edit(publish);
        }
        self
    }

    fn option(self, edit: impl FnOnce(&mut PublishOptions)) -> Publish<'a> {
        self.edit(|publish| edit(publish.options.get_or_insert_default()))
    }

    /// Keeps it as the value of its topic; no value deletes.
    pub fn retain(self) -> Publish<'a> {
        self.edit(|publish| publish.retain = true)
    }

    /// Stores only if the stored value fits; null means that there is none. Otherwise
    /// [`ErrorKind::ConditionFailed`](super::ErrorKind::ConditionFailed).
    pub fn when(self, stored: impl Into<Value>) -> Publish<'a> {
        self.option(|options| options.when = Some(stored.into()))
    }

    /// Waits for the condition instead of failing, first come first served.
    pub fn watch(self) -> Publish<'a> {
        self.option(|options| options.watch = true)
    }

    /// Waits for the condition at most this long, then
    /// [`ErrorKind::Timeout`](super::ErrorKind::Timeout).
    pub fn watch_timeout(self, most: Duration) -> Publish<'a> {
        self.watch()
            .option(|options| options.watch_timeout = Some(most))
    }

    /// What to store when this session ends, however it ends; null deletes.
    pub fn will(self, value: impl Into<Value>) -> Publish<'a> {
        self.option(|options| options.will = Some(value.into()))
    }

    /// The same, unless the session is [closed](Session::close).
    pub fn will_if_lost(self, value: impl Into<Value>) -> Publish<'a> {
        self.will(value)
            .option(|options| options.will_scope = WillScope::Lost)
    }

    /// Merges the payload into the stored value (RFC 7396) instead of replacing it.
    pub fn merge(self) -> Publish<'a> {
        self.option(|options| options.merge = true)
    }

    /// Keeps the event in the history for
    /// [`SubscribeOptions::after`](super::SubscribeOptions::after).
    pub fn trace(self) -> Publish<'a> {
        self.option(|options| options.trace = true)
    }

    /// The assurance towards MQTT subscribers; at most once by default.
    pub fn qos(self, qos: Qos) -> Publish<'a> {
        self.edit(|publish| publish.qos = qos)
    }

    /// This session's own subscriptions get the event as well.
    pub fn include_me(self) -> Publish<'a> {
        self.edit(|publish| publish.exclude_me = false)
    }

    /// Nobody wants it any more after this long.
    pub fn expiry(self, after: Duration) -> Publish<'a> {
        self.edit(|publish| publish.expiry = Some(after))
    }

    /// Tells receivers who published.
    pub fn disclose_me(self) -> Publish<'a> {
        self.option(|options| options.disclose_me = true)
    }

    /// Publishes without acknowledgement: a refusal by the realm is only counted.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Payload`] or [`Error::Ended`].
    pub async fn send(self) -> Result<(), Error> {
        let publish = self.publish?;
        self.inner.run(Command::Publish(publish)).await
    }

    pub(super) async fn acknowledged(self) -> Result<Published, Error> {
        let publish = self.publish?;
        let retained = publish.retain;
        let command = |request| {
            Command::Publish(Box::new(model::Publish {
                request: Some(request),
                ..*publish
            }))
        };
        match self.inner.ask(command).await? {
            Answer::Published {
                publication,
                matched,
            } => Ok(Published {
                publication: publication.0,
                token: retained.then_some(publication.0),
                matched,
            }),
            _ => Err(super::unexpected()),
        }
    }

    /// The command itself, for those who wait in another way.
    pub(super) fn into_command(self) -> Result<Box<model::Publish>, Error> {
        self.publish
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Result<Published, Error>;
    type IntoFuture = Doing<'a, Published>;

    fn into_future(self) -> Doing<'a, Published> {
        Box::pin(self.acknowledged())
    }
}
