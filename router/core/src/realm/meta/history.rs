//! What a realm remembers, read by subscription (section "Event History").
//!
//! A page holds at most [`PAGE_MAX`] events and about [`PAGE_BYTES`] bytes, whatever is asked for;
//! whoever wants more goes on after the last publication of the page, until one is empty.

use crate::auth::Action;
use crate::broker::MemberOptions;
use crate::encoding::Encoding;
use crate::history::Entry;
use crate::model::{
    ErrorKind, Event, Now, Payload, Qos, Refusal, RequestId, SubscriptionId, Topic, iso8601,
    read_rfc3339,
};
use crate::realm::catchup::{READ_AHEAD, READ_BYTES, is_due};
use crate::realm::queues::{Loading, Purpose};
use crate::realm::{Effects, IdClock, Realm};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// Events on a page.
const PAGE_MAX: usize = 1_000;
/// Bytes of events on a page; may be exceeded by one event.
const PAGE_BYTES: usize = 1 << 20;
/// Events looked at while the realm is held.
const LOOKS: usize = 50_000;
/// Pages that one session may have read from disk at a time.
const READINGS_MAX: usize = 16;
const NANOS_PER_MS: i128 = 1_000_000;

/// What is asked of the history; all conditions hold at once.
#[derive(Debug)]
struct Query {
    reverse: bool,
    limit: usize,
    /// Publication ids, both included.
    first: u64,
    last: u64,
    /// Nanoseconds since the epoch.
    from_time: Option<i128>,
    after_time: Option<i128>,
    before_time: Option<i128>,
    until_time: Option<i128>,
    topic: Option<Topic>,
}

impl Query {
    fn read(kwargs: &Value, read_topic: fn(&str) -> Option<Topic>) -> Result<Query, Refusal> {
        let part = |name: &str| kwargs.get(name).filter(|value| !value.is_null());
        let publication = |name: &'static str| match part(name).map(Value::as_u64) {
            None => Ok(None),
            Some(Some(id)) if id > 0 => Ok(Some(id)),
            Some(_) => Err(wrong(name, "a publication id")),
        };
        let time = |name: &'static str| match part(name) {
            None => Ok(None),
            Some(value) => match value.as_str().and_then(read_rfc3339) {
                Some(moment) => Ok(Some(moment)),
                None => Err(wrong(name, "a time as RFC 3339 writes it")),
            },
        };
        let from = publication("from_publication")?.unwrap_or(0);
        let after = publication("after_publication")?;
        let before = publication("before_publication")?;
        let until = publication("until_publication")?.unwrap_or(u64::MAX);
        let topic = match part("topic") {
            None => None,
            Some(value) => {
                let topic = value.as_str().and_then(read_topic);
                Some(topic.ok_or_else(|| wrong("topic", "a topic"))?)
            }
        };
        let limit = match part("limit").map(Value::as_u64) {
            None => PAGE_MAX,
            Some(Some(limit)) if limit > 0 => usize::try_from(limit).unwrap_or(PAGE_MAX),
            Some(_) => return Err(wrong("limit", "a positive integer")),
        };
        let reverse = match part("reverse") {
            None => false,
            Some(Value::Bool(reverse)) => *reverse,
            Some(_) => return Err(wrong("reverse", "a boolean")),
        };
        Ok(Query {
            reverse,
            limit: limit.min(PAGE_MAX),
            first: from.max(after.map_or(0, |id| id.saturating_add(1))),
            last: until.min(before.map_or(u64::MAX, |id| id.saturating_sub(1))),
            from_time: time("from_time")?,
            after_time: time("after_time")?,
            before_time: time("before_time")?,
            until_time: time("until_time")?,
            topic,
        })
    }

    fn fits(&self, entry: &Entry) -> bool {
        let at = i128::from(IdClock::unix_ms_of(entry.publication)) * NANOS_PER_MS;
        self.topic
            .as_ref()
            .is_none_or(|topic| *topic == entry.topic)
            && self.from_time.is_none_or(|from| at >= from)
            && self.after_time.is_none_or(|after| at > after)
            && self.before_time.is_none_or(|before| at < before)
            && self.until_time.is_none_or(|until| at <= until)
    }
}

/// A page being read.
#[derive(Debug)]
pub(in crate::realm) struct Reading {
    request: RequestId,
    subscription: SubscriptionId,
    /// What is still to be looked at.
    query: Query,
    page: Vec<Value>,
    /// Bytes of the events on it.
    bytes: usize,
    /// What was read from disk, in order; nothing in the place of what could not be.
    fetched: VecDeque<(u64, Option<Arc<Event>>)>,
}

/// Where reading stopped.
enum Stop {
    /// The page is complete.
    Done,
    /// These have to be read first.
    Wants(Vec<u64>),
}

impl Reading {
    /// The body of an entry: `None` if it has to be read first, `Some(None)` if that failed.
    fn body_of(&mut self, entry: &Entry) -> Option<Option<Arc<Event>>> {
        if let Some(event) = entry.resident() {
            return Some(Some(event.clone()));
        }
        let id = entry.publication.0;
        let at = self.fetched.iter().position(|(known, _)| *known == id)?;
        self.fetched
            .drain(..=at)
            .next_back()
            .map(|(_, event)| event)
    }

    /// This one was looked at.
    fn pass(&mut self, id: u64) {
        match self.query.reverse {
            true => self.query.last = id.saturating_sub(1),
            false => self.query.first = id.saturating_add(1),
        }
    }

    fn is_full(&self) -> bool {
        self.page.len() >= self.query.limit || self.bytes >= PAGE_BYTES
    }
}

impl Realm {
    /// Reads the remembered events that a subscription would have received, as a list. Whoever may not
    /// subscribe is not shown them, and what was published to others only is left out.
    pub(super) fn begin_reading(
        &self,
        place: usize,
        request: RequestId,
        id: Option<&Value>,
        payload: &Payload,
    ) -> Result<Box<Reading>, Refusal> {
        let subscription = self.subscription(id)?;
        let Some(session) = self.sessions.get(place) else {
            return Err(Refusal::new(ErrorKind::Internal, "the session is gone"));
        };
        let role = &session.identity.role;
        if !role.permits_pattern(Action::Subscribe, &subscription.key.pattern) {
            let message = "the role may not subscribe to this topic";
            return Err(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        let own = |loading: &&Loading| {
            loading.place == place && matches!(loading.purpose, Purpose::Reading(_))
        };
        if self.loads.values().filter(own).count() >= READINGS_MAX {
            let message = "too many pages of the history are being read";
            return Err(Refusal::new(ErrorKind::QuotaExceeded, message));
        }
        let naming = &self.settings.naming;
        Ok(Box::new(Reading {
            request,
            subscription: subscription.id,
            query: Query::read(payload.kwargs_value(), naming.read_key)?,
            page: Vec::new(),
            bytes: 0,
            fetched: VecDeque::new(),
        }))
    }

    /// Answers the page, or has read first what is on disk.
    pub(in crate::realm) fn go_on_reading(
        &mut self,
        now: Now,
        place: usize,
        mut reading: Box<Reading>,
        effects: &mut Effects,
    ) {
        let request = reading.request;
        let outcome = match self.read_on(now, place, &mut reading) {
            Ok(Stop::Done) => Ok((vec![Value::Array(reading.page)], 0)),
            Ok(Stop::Wants(numbers)) => {
                let Some(session) = self.sessions.get(place) else {
                    return;
                };
                let loading = Loading {
                    place,
                    outbox: session.outbox.clone(),
                    numbers,
                    purpose: Purpose::Reading(reading),
                };
                self.begin_load(loading, effects);
                return;
            }
            Err(refusal) => Err(refusal),
        };
        self.answer_own(place, request, outcome, effects);
    }

    /// What a page waited for.
    pub(in crate::realm) fn reading_loaded(
        &mut self,
        now: Now,
        place: usize,
        mut reading: Box<Reading>,
        found: Vec<(u64, Option<Arc<Event>>)>,
        effects: &mut Effects,
    ) {
        reading.fetched = found.into();
        self.go_on_reading(now, place, reading, effects);
    }

    /// The store cannot be read.
    pub(in crate::realm) fn reading_failed(
        &mut self,
        place: usize,
        reading: &Reading,
        effects: &mut Effects,
    ) {
        let message = "the history cannot be read at the moment";
        let refusal = Refusal::new(ErrorKind::StorageUnavailable, message);
        self.answer_own(place, reading.request, Err(refusal), effects);
    }

    fn read_on(&self, now: Now, place: usize, reading: &mut Reading) -> Result<Stop, Refusal> {
        let gone = || Refusal::new(ErrorKind::Internal, "the session is gone");
        let session = self.sessions.get(place).ok_or_else(gone)?;
        let subscription = self.subscriptions.by_id(reading.subscription);
        let subscription = subscription.ok_or_else(|| {
            let message = "there is no such subscription any more";
            Refusal::new(ErrorKind::NoSuchSubscription, message)
        })?;
        let (key, filter) = (&subscription.key, subscription.filter.as_ref());
        if reading.query.first > reading.query.last {
            return Ok(Stop::Done);
        }
        let ids = reading.query.first..=reading.query.last;
        let first = self.first_since();
        let mut walk = self.history.walk(&ids, &key.pattern, &first);
        let (role, mut wanted, mut wanted_bytes) = (&session.identity.role, Vec::new(), 0);
        let (most, mut looks) = (reading.query.limit - reading.page.len(), 0);
        while !reading.is_full() {
            let next = match reading.query.reverse {
                true => walk.next_back(),
                false => walk.next(),
            };
            let Some(entry) = next else { break };
            looks += 1;
            if looks > LOOKS && wanted.is_empty() && self.settings.durable {
                // The realm is let go, and goes on after reading nothing.
                return Ok(Stop::Wants(wanted));
            }
            let is_asked_for = reading.query.fits(entry)
                && key
                    .pattern
                    .matches(&entry.topic, &self.settings.naming.reserved)
                && role.permits(Action::Subscribe, &entry.topic);
            if !is_asked_for {
                if wanted.is_empty() {
                    reading.pass(entry.publication.0);
                }
                continue;
            }
            match reading.body_of(entry) {
                _ if !wanted.is_empty() && entry.resident().is_some() => break,
                None => {
                    wanted.push(entry.publication.0);
                    wanted_bytes += entry.cost as usize;
                    if wanted.len() >= READ_AHEAD.min(most) || wanted_bytes >= READ_BYTES {
                        break;
                    }
                }
                Some(event) => {
                    reading.pass(entry.publication.0);
                    let shows = |event: &Arc<Event>| {
                        is_due(session, event, false)
                            && filter.is_none_or(|filter| filter.accepts(event))
                    };
                    if let Some(event) = event.filter(shows) {
                        reading.bytes += event.cost();
                        let exact = key.pattern.is_exact();
                        let shown = self.shown(now, &event, subscription.id, exact);
                        reading.page.push(shown);
                    }
                }
            }
        }
        Ok(match wanted.is_empty() {
            true => Stop::Done,
            false => Stop::Wants(wanted),
        })
    }

    fn shown(&self, now: Now, event: &Arc<Event>, id: SubscriptionId, exact: bool) -> Value {
        let options = MemberOptions {
            qos: Qos::ExactlyOnce,
            ..MemberOptions::default()
        };
        let mut delivery = Realm::replayed(event, id, exact, options);
        (delivery.replayed, delivery.retain) = (false, false);
        let details = (self.settings.naming.show_details)(now, &delivery);
        shown(event, id.0, details)
    }
}

fn shown(event: &Event, subscription: u64, details: Map<String, Value>) -> Value {
    let mut shown = Map::new();
    let timestamp = iso8601(IdClock::unix_ms_of(event.publication));
    shown.insert("timestamp".to_owned(), json!(timestamp));
    shown.insert("subscription".to_owned(), json!(subscription));
    shown.insert("publication".to_owned(), json!(event.publication.0));
    shown.insert("details".to_owned(), Value::Object(details));
    let tail = event.payload.as_args(Encoding::Json);
    for (name, raw) in [("args", tail.args), ("kwargs", tail.kwargs)] {
        let value = raw.and_then(|raw| serde_json::from_slice::<Value>(&raw).ok());
        if let Some(value) = value {
            shown.insert(name.to_owned(), value);
        }
    }
    Value::Object(shown)
}

fn wrong(name: &'static str, expected: &str) -> Refusal {
    let message = format!("{name} must be {expected}");
    Refusal::new(ErrorKind::InvalidArgument, message)
}
