//! Subscriptions: who listens to what, told to whoever asks or listens (section "Subscriptions Meta
//! API").
//!
//! Events of the life of a subscription come in this order: created, joined by a session (both
//! after the answer to that session), left by it, deleted. Subscriptions to the realm's own topics
//! have no such events, so that listening to them tells nobody of itself. Where nobody listens,
//! telling costs a look into the index of subscriptions, however many there are.
//!
//! A pattern is shown in one of the three notations that everybody knows, where one can say it;
//! else, with a rest after named levels, in the notation of levels.

use super::{Naming, Outcome, invalid, own_topic, text, word_of};
use crate::broker::{Subscription, SubscriptionKey};
use crate::model::{
    Delivery, ErrorKind, Level, MatchKind, Now, Pattern, Payload, Refusal, SessionId,
    SubscriptionId, Topic, first_level, iso8601,
};
use crate::realm::{Effects, Realm};
use bytestring::ByteString;
use serde_json::{Map, Value, json};

/// Why a member was removed, where no reason is given.
const REVOKED: &str = "revoked";

/// What is asked about subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::realm) enum Asked {
    List,
    Lookup,
    Match,
    Get,
    ListSubscribers,
    CountSubscribers,
    RemoveSubscriber,
}

impl Asked {
    pub(super) fn named(name: &str) -> Option<Asked> {
        Some(match name {
            "list" => Asked::List,
            "lookup" => Asked::Lookup,
            "match" => Asked::Match,
            "get" => Asked::Get,
            "list_subscribers" => Asked::ListSubscribers,
            "count_subscribers" => Asked::CountSubscribers,
            "remove_subscriber" => Asked::RemoveSubscriber,
            _ => return None,
        })
    }
}

/// The topics of the events; `None` where the reserved level makes them impossible.
#[derive(Debug)]
pub(in crate::realm) struct LifeTopics {
    created: Option<Topic>,
    joined: Option<Topic>,
    left: Option<Topic>,
    deleted: Option<Topic>,
}

impl LifeTopics {
    pub(in crate::realm) fn new(naming: &Naming) -> LifeTopics {
        LifeTopics {
            created: own_topic(naming, "subscription/on_create"),
            joined: own_topic(naming, "subscription/on_subscribe"),
            left: own_topic(naming, "subscription/on_unsubscribe"),
            deleted: own_topic(naming, "subscription/on_delete"),
        }
    }
}

/// A session that left a subscription, if somebody wants to know.
#[derive(Clone, Copy, Debug)]
pub(in crate::realm) struct Departure {
    session: SessionId,
    subscription: SubscriptionId,
    /// It was the last one.
    deletes: bool,
}

impl Departure {
    pub(in crate::realm) fn deletes(self, deletes: bool) -> Departure {
        Departure { deletes, ..self }
    }
}

impl Realm {
    pub(super) fn answer(
        &mut self,
        now: Now,
        asked: Asked,
        args: &[Value],
        payload: &Payload,
        effects: &mut Effects,
    ) -> Outcome {
        let first = args.first();
        let value = match asked {
            Asked::List => self.listed(),
            Asked::Lookup => self.looked_up(first, args.get(1))?,
            Asked::Match => self.matching(first)?,
            Asked::Get => self.details_of_subscription(self.subscription(first)?),
            Asked::ListSubscribers => {
                let members = self.subscription(first)?.members.iter();
                let ids = members.filter_map(|member| self.sessions.get(member.session));
                let mut ids: Vec<u64> = ids.map(|session| session.id.0).collect();
                ids.sort_unstable();
                json!(ids)
            }
            Asked::CountSubscribers => json!(self.subscription(first)?.members.len()),
            Asked::RemoveSubscriber => {
                let commit = self.remove_subscriber(now, args, payload, effects)?;
                return Ok((Vec::new(), commit));
            }
        };
        Ok((vec![value], 0))
    }

    /// The ids of all subscriptions, by the notation they are shown in.
    fn listed(&self) -> Value {
        let mut lists: [Vec<u64>; 4] = Default::default();
        for subscription in self.subscriptions.iter() {
            let [exact, prefix, wildcard, levels] = &mut lists;
            let list = match shown_kind(&subscription.key) {
                MatchKind::Exact => exact,
                MatchKind::Prefix => prefix,
                MatchKind::Wildcard => wildcard,
                MatchKind::Levels => levels,
            };
            list.push(subscription.id.0);
        }
        for list in &mut lists {
            list.sort_unstable();
        }
        let [exact, prefix, wildcard, levels] = lists;
        let mut lists = json!({"exact": exact, "prefix": prefix, "wildcard": wildcard});
        // Only where there are any: clients expect the other three and no more.
        if let (Some(lists), false) = (lists.as_object_mut(), levels.is_empty()) {
            lists.insert("levels".to_owned(), json!(levels));
        }
        lists
    }

    /// The id of the plain subscription to exactly this, or null.
    fn looked_up(&self, uri: Option<&Value>, options: Option<&Value>) -> Result<Value, Refusal> {
        let uri = text(uri, "a topic")?;
        let notation = match options.and_then(|options| options.get("match")) {
            None | Some(Value::Null) => None,
            Some(Value::String(notation)) => Some(notation.as_str()),
            Some(_) => return Err(invalid("match must be a string")),
        };
        let (pattern, kind) = (self.settings.naming.read_pattern)(uri, notation)?;
        let id = |pattern: Pattern, kind| {
            let key = SubscriptionKey {
                pattern,
                kind,
                filter: Box::default(),
                share: None,
            };
            self.subscriptions.id_of(&key)
        };
        // The same set may be subscribed in the notation of levels as well.
        let twin = match (&pattern, kind) {
            (Pattern::Prefix(prefix), _) if prefix.is_empty() => {
                Pattern::from_levels(vec![Level::Rest]).ok()
            }
            (Pattern::Levels(_), MatchKind::Wildcard) => Some(pattern.clone()),
            _ => None,
        };
        let found = id(pattern, kind);
        let found = found.or_else(|| id(twin?, MatchKind::Levels));
        Ok(json!(found.map(|id| id.0)))
    }

    /// The ids of all subscriptions that a topic would reach, or null.
    fn matching(&self, uri: Option<&Value>) -> Result<Value, Refusal> {
        let uri = text(uri, "a topic")?;
        let wrong = || Refusal::new(ErrorKind::InvalidTopic, "the topic is not valid");
        let topic = (self.settings.naming.read_key)(uri).ok_or_else(wrong)?;
        let found = self.subscriptions.matching(&topic).into_iter();
        let mut ids: Vec<u64> = found
            .filter_map(|slot| self.subscriptions.at(slot))
            .map(|subscription| subscription.id.0)
            .collect();
        ids.sort_unstable();
        Ok(match ids.is_empty() {
            true => Value::Null,
            false => json!(ids),
        })
    }

    pub(super) fn subscription(&self, id: Option<&Value>) -> Result<&Subscription, Refusal> {
        let id = id
            .and_then(Value::as_u64)
            .ok_or_else(|| invalid("the first argument must be a subscription id"))?;
        self.subscriptions
            .by_id(SubscriptionId(id))
            .ok_or_else(|| Refusal::new(ErrorKind::NoSuchSubscription, "no such subscription"))
    }

    fn details_of_subscription(&self, subscription: &Subscription) -> Value {
        let (key, kind) = (&subscription.key, shown_kind(&subscription.key));
        let mut details = Map::new();
        details.insert("id".to_owned(), json!(subscription.id.0));
        let created = iso8601(subscription.created_ms);
        details.insert("created".to_owned(), json!(created));
        let uri = (self.settings.naming.show_pattern)(&key.pattern, kind);
        details.insert("uri".to_owned(), json!(uri));
        details.insert("match".to_owned(), json!(word_of(kind)));
        if let Some(filter) = &subscription.filter {
            details.insert("filter".to_owned(), filter.option());
        }
        if let Some(share) = &key.share {
            details.insert("x_share".to_owned(), json!(&**share));
        }
        Value::Object(details)
    }

    /// Ends a session's part in a subscription on somebody's order, and tells it. Answers the
    /// commit that makes it durable.
    fn remove_subscriber(
        &mut self,
        now: Now,
        args: &[Value],
        payload: &Payload,
        effects: &mut Effects,
    ) -> Result<u64, Refusal> {
        let subscription = self.subscription(args.first())?.id;
        let session = args
            .get(1)
            .and_then(Value::as_u64)
            .ok_or_else(|| invalid("the second argument must be a session id"))?;
        let reason = args.get(2).or_else(|| payload.kwargs_value().get("reason"));
        let reason = match reason {
            None | Some(Value::Null) => ByteString::from_static(REVOKED),
            Some(Value::String(reason)) => ByteString::from(reason.as_str()),
            Some(_) => return Err(invalid("the reason must be a string")),
        };
        let place = self.by_id.get(&SessionId(session)).copied();
        let before = effects.batch.len();
        let member = place.filter(|place| {
            let session = self.sessions.get(*place);
            session.is_some_and(|session| session.subscriptions.contains_key(&subscription))
        });
        let Some(place) = member.filter(|place| self.take_out(*place, subscription, effects))
        else {
            let message = "no such session holds this subscription";
            return Err(Refusal::new(ErrorKind::NoSuchSession, message));
        };
        let understands = self
            .sessions
            .get(place)
            .is_some_and(|session| session.features.subscription_revocation);
        let commit = self.commit_since(before, effects);
        if understands {
            let revoked = Delivery::Revoked {
                subscription,
                reason,
            };
            self.push(place, revoked, effects);
        }
        self.announce_departures(now, effects);
        Ok(commit)
    }

    /// Tells that a session joined a subscription, and before that, that there is a new one.
    pub(in crate::realm) fn announce_member(
        &mut self,
        now: Now,
        place: usize,
        id: SubscriptionId,
        is_created: bool,
        effects: &mut Effects,
    ) {
        let created = self.heard(self.life_topics.created.as_ref().filter(|_| is_created));
        let joined = self.heard(self.life_topics.joined.as_ref());
        if created.is_none() && joined.is_none() {
            return;
        }
        let (Some(session), Some(subscription)) =
            (self.sessions.get(place), self.subscriptions.by_id(id))
        else {
            return;
        };
        if self.is_about_the_realm(&subscription.key.pattern) {
            return;
        }
        let session = json!(session.id.0);
        let details = self.details_of_subscription(subscription);
        if let Some(topic) = created {
            let payload = || Payload::from_values(&[session.clone(), details]);
            self.announce_own(now, &topic, payload, effects);
        }
        if let Some(topic) = joined {
            let payload = || Payload::from_values(&[session, json!(id.0)]);
            self.announce_own(now, &topic, payload, effects);
        }
    }

    /// What is to be told if the session now leaves the subscription; `None` if nobody listens.
    pub(in crate::realm) fn departure(
        &self,
        place: usize,
        id: SubscriptionId,
    ) -> Option<Departure> {
        let LifeTopics { left, deleted, .. } = &self.life_topics;
        let is_heard = |topic: &Option<Topic>| self.heard(topic.as_ref()).is_some();
        if !is_heard(left) && !is_heard(deleted) {
            return None;
        }
        let pattern = &self.subscriptions.by_id(id)?.key.pattern;
        if self.is_about_the_realm(pattern) {
            return None;
        }
        Some(Departure {
            session: self.sessions.get(place)?.id,
            subscription: id,
            deletes: false,
        })
    }

    /// Tells of the members that have left since the last time.
    pub(in crate::realm) fn announce_departures(&mut self, now: Now, effects: &mut Effects) {
        for departure in std::mem::take(&mut self.departures) {
            let values = [json!(departure.session.0), json!(departure.subscription.0)];
            let payload = || Payload::from_values(&values);
            if let Some(topic) = self.heard(self.life_topics.left.as_ref()) {
                self.announce_own(now, &topic, payload, effects);
            }
            let deleted = self.life_topics.deleted.as_ref();
            if let Some(topic) = self.heard(deleted.filter(|_| departure.deletes)) {
                self.announce_own(now, &topic, payload, effects);
            }
        }
    }

    /// The topic, if somebody listens to it.
    fn heard(&self, topic: Option<&Topic>) -> Option<Topic> {
        topic
            .filter(|topic| self.subscriptions.has_listener(topic))
            .cloned()
    }

    /// Whether a pattern names the realm's own first level.
    fn is_about_the_realm(&self, pattern: &Pattern) -> bool {
        first_level(&pattern.literal_prefix()) == &*self.settings.naming.reserved
    }
}

/// The notation in which a subscription is shown.
fn shown_kind(key: &SubscriptionKey) -> MatchKind {
    match (&key.pattern, key.kind) {
        (Pattern::Levels(levels), MatchKind::Levels) => match &**levels {
            // What everything begins with is the empty text.
            [Level::Rest] => MatchKind::Prefix,
            [.., Level::Rest] => MatchKind::Levels,
            _ => MatchKind::Wildcard,
        },
        (Pattern::Exact(_), MatchKind::Levels) => MatchKind::Exact,
        (_, kind) => kind,
    }
}
