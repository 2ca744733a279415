//! Subscriptions as streams of events.
//!
//! The realm gives a session one copy of an event for each subscription it holds, and the same
//! pattern asked for twice is one subscription. Here every [`Subscription`] is independent: those
//! that share one in the realm each get a copy, and it ends with the last of them.

use super::Session;
use super::error::Error;
use super::inner::{Inner, Reply, Waiting};
use super::name::{Name, TopicName};
use super::queue::Queue;
use super::values::Values;
use futures_util::Stream;
use router_core::broker::{Filter, SubscriptionKey};
use router_core::model::{
    self, Command, EventDelivery, Publisher, Qos, Refusal, SubscriptionId, Unsubscribe,
    UnsubscribeTarget,
};
use serde_json::Value;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// How a subscription is wanted; the default is live events only.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SubscribeOptions {
    retained: bool,
    filter: Option<Value>,
    after: Option<u64>,
    snapshot: bool,
}

impl SubscribeOptions {
    /// Live events only.
    pub fn new() -> SubscribeOptions {
        SubscribeOptions::default()
    }

    /// Begins with the retained values that match.
    pub fn retained(mut self) -> SubscribeOptions {
        self.retained = true;
        self
    }

    /// Only events whose value fits: an object names the members that must be equal;
    /// `{"kwargs": {…}}` speaks of the keyword arguments.
    pub fn filter(mut self, wanted: impl Into<Value>) -> SubscribeOptions {
        self.filter = Some(wanted.into());
        self
    }

    /// Begins with the traced events after this publication. Another subscription of the session
    /// to the very same pattern sees them too.
    pub fn after(mut self, publication: u64) -> SubscribeOptions {
        self.after = Some(publication);
        self
    }

    /// Nothing live: the stream ends when what was asked for is complete.
    pub fn snapshot(mut self) -> SubscribeOptions {
        self.snapshot = true;
        self
    }
}

/// One event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Where it was published.
    pub topic: TopicName,
    /// What was said.
    pub values: Values,
    /// Its id; grows within a realm, also across restarts.
    pub publication: u64,
    /// The fencing token of the retained write it stands for.
    pub token: Option<u64>,
    /// It is a retained value that was there before.
    pub replayed: bool,
    /// Something before it that was asked for with `after` is not remembered any more.
    pub gap: bool,
    /// It deletes the retained value.
    pub deleted: bool,
    /// Who published it, if disclosed.
    pub publisher: Option<Arc<Publisher>>,
}

impl Event {
    pub(super) fn new(delivery: &EventDelivery) -> Event {
        let event = &delivery.event;
        Event {
            topic: event.topic.clone().into(),
            values: event.clone().into(),
            publication: event.publication.0,
            token: event.token,
            replayed: delivery.replayed,
            gap: delivery.gap,
            deleted: event.clears,
            publisher: event
                .publisher
                .clone()
                .filter(|publisher| publisher.disclosed),
        }
    }
}

/// The events of one subscription, in the realm's order. Dropping it unsubscribes.
///
/// Read it steadily: what all subscriptions of a session leave unread together is bounded by
/// `max_outbox_frames` and `max_outbox_bytes`. Beyond that the session ends with
/// [`SessionEnd::TooSlow`](super::SessionEnd::TooSlow), since an event must not be lost silently.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription {
    session: Session,
    id: SubscriptionId,
    queue: Arc<Queue<Event>>,
}

impl Subscription {
    /// The next event; `None` when the subscription or the session is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.queue.poll_next(cx)).await
    }

    /// The session it belongs to.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll_next(cx)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let inner = self.session.inner();
        let mut state = inner.state.lock();
        let is_last = state.members.leave(self.id, &self.queue);
        // Under the lock, so that nobody subscribes to the same in between and is cut off.
        if is_last {
            unsubscribe(inner, self.id);
        }
        drop(state);
        self.queue.close();
    }
}

impl Session {
    /// Subscribes to a pattern: `app.*.state`, `app.#`, or [`Mqtt`](super::Mqtt)`("app/+/state")`.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Refused`] or [`Error::Ended`].
    pub async fn subscribe(
        &self,
        pattern: impl Name,
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        let (pattern, kind) = pattern.pattern()?;
        let inner = self.inner();
        let request = inner.request_id();
        let (reply, receiver) = oneshot::channel();
        let filter = options.filter.clone().map(Filter::new);
        let condition = filter.as_ref().map(Filter::canonical).unwrap_or_default();
        let key = SubscriptionKey {
            pattern: pattern.clone(),
            kind,
            share: None,
            filter: condition.into(),
        };
        let key = (!options.snapshot).then_some(key);
        let wants_replay = options.retained || options.snapshot;
        inner.expect(
            request,
            Waiting::Subscribe(PendingSubscribe {
                key: key.clone(),
                wants_replay,
                reply,
            }),
        )?;
        let subscribe = model::Subscribe {
            kind,
            // Events keep the assurance they were published with; their order is given anyhow.
            qos: Qos::ExactlyOnce,
            retained: options.retained,
            filter: options.filter,
            after: options.after,
            snapshot: options.snapshot,
            ..model::Subscribe::new(request, pattern)
        };
        let ran = {
            let mut state = inner.state.lock();
            state.members.announce(key);
            inner.run_now(Command::Subscribe(Box::new(subscribe)))
        };
        inner.pause(ran.pressed).await;
        receiver.await.map_err(|_| inner.ended_error())?
    }
}

/// A subscription that the realm has not answered.
pub(super) struct PendingSubscribe {
    /// `None` for snapshots, which are never shared.
    key: Option<SubscriptionKey>,
    wants_replay: bool,
    reply: Reply<Subscription>,
}

/// The subscriptions a session holds, and who listens to each.
#[derive(Default)]
pub(super) struct Members {
    by_id: HashMap<SubscriptionId, Member>,
    /// Requests under way, which keep a subscription that nobody listens to any more.
    pending: HashMap<SubscriptionKey, usize>,
}

/// One subscription of the realm.
pub(super) struct Member {
    key: Option<SubscriptionKey>,
    listeners: Vec<Listener>,
}

struct Listener {
    queue: Arc<Queue<Event>>,
    wants_replay: bool,
}

impl Members {
    fn announce(&mut self, key: Option<SubscriptionKey>) {
        if let Some(key) = key {
            *self.pending.entry(key).or_insert(0) += 1;
        }
    }

    fn answered(&mut self, key: &SubscriptionKey) {
        if let Some(count) = self.pending.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(key);
            }
        }
    }

    fn join(&mut self, id: SubscriptionId, key: Option<SubscriptionKey>, listener: Listener) {
        if let Some(key) = &key {
            self.answered(key);
        }
        let member = self.by_id.entry(id).or_insert(Member {
            key,
            listeners: Vec::new(),
        });
        member.listeners.push(listener);
    }

    /// Answers whether the subscription is to be ended.
    fn leave(&mut self, id: SubscriptionId, queue: &Arc<Queue<Event>>) -> bool {
        let Some(member) = self.by_id.get_mut(&id) else {
            return false;
        };
        member
            .listeners
            .retain(|listener| !Arc::ptr_eq(&listener.queue, queue));
        self.remove_if_unused(id)
    }

    fn remove_if_unused(&mut self, id: SubscriptionId) -> bool {
        let unused = self.by_id.get(&id).is_some_and(|member| {
            let awaited = member
                .key
                .as_ref()
                .is_some_and(|key| self.pending.contains_key(key));
            member.listeners.is_empty() && !awaited
        });
        unused && self.by_id.remove(&id).is_some()
    }

    /// A request came to nothing: the subscription it would have shared, if nobody needs it.
    fn refused(&mut self, key: &SubscriptionKey) -> Option<SubscriptionId> {
        self.answered(key);
        let same = self
            .by_id
            .iter()
            .find(|(_, member)| member.key.as_ref() == Some(key));
        let id = *same?.0;
        self.remove_if_unused(id).then_some(id)
    }

    /// Who gets an event; replays only those who asked for them.
    pub fn queues(&self, id: SubscriptionId, replayed: bool) -> Vec<Arc<Queue<Event>>> {
        let listeners = self
            .by_id
            .get(&id)
            .map_or(&[][..], |member| &member.listeners);
        let wants = |listener: &&Listener| listener.wants_replay || !replayed;
        listeners
            .iter()
            .filter(wants)
            .map(|listener| listener.queue.clone())
            .collect()
    }

    pub fn remove(&mut self, id: SubscriptionId) -> Option<Member> {
        self.by_id.remove(&id)
    }

    /// Ends every stream.
    pub fn close(self) {
        self.by_id
            .into_values()
            .for_each(|member| close(Some(member)));
    }
}

/// Ends the streams of a subscription.
pub(super) fn close(member: Option<Member>) {
    for listener in member.into_iter().flat_map(|member| member.listeners) {
        listener.queue.close();
    }
}

pub(super) fn begin(session: Session, pending: PendingSubscribe, id: SubscriptionId) {
    let queue = Arc::new(Queue::new(session.inner().budget.clone()));
    let PendingSubscribe {
        key,
        wants_replay,
        reply,
    } = pending;
    let listener = Listener {
        queue: queue.clone(),
        wants_replay,
    };
    session.inner().state.lock().members.join(id, key, listener);
    // If nobody waits any more, this drops the subscription, which unsubscribes.
    drop(reply.send(Ok(Subscription { session, id, queue })));
}

pub(super) fn refused(inner: &Inner, pending: PendingSubscribe, refusal: Refusal) {
    if let Some(key) = &pending.key {
        let mut state = inner.state.lock();
        if let Some(id) = state.members.refused(key) {
            unsubscribe(inner, id);
        }
    }
    drop(pending.reply.send(Err(refusal.into())));
}

/// The answer is of no interest: a subscription that is gone already is as good.
fn unsubscribe(inner: &Inner, id: SubscriptionId) {
    let target = UnsubscribeTarget::Id(id);
    let request = inner.request_id();
    // Who fills up hears nothing new by this.
    inner.run_now(Command::Unsubscribe(Box::new(Unsubscribe {
        request,
        target,
    })));
}
