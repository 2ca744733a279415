//! What a realm remembers, read by subscription (section "Event History").
//!
//! A page holds at most [`PAGE_MAX`] events and about [`PAGE_BYTES`] bytes, whatever is asked for;
//! whoever wants more goes on after the last publication of the page, until one is empty.

use crate::auth::Action;
use crate::broker::MemberOptions;
use crate::encoding::Encoding;
use crate::model::{ErrorKind, Event, Now, Payload, Qos, Refusal, Topic, iso8601, read_rfc3339};
use crate::realm::publish::is_admitted;
use crate::realm::{IdClock, Realm};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Events on a page.
const PAGE_MAX: usize = 1_000;
/// Bytes of events on a page; may be exceeded by one event.
const PAGE_BYTES: usize = 1 << 20;
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

    fn fits(&self, event: &Event) -> bool {
        let at = i128::from(IdClock::unix_ms_of(event.publication)) * NANOS_PER_MS;
        self.topic
            .as_ref()
            .is_none_or(|topic| *topic == event.topic)
            && self.from_time.is_none_or(|from| at >= from)
            && self.after_time.is_none_or(|after| at > after)
            && self.before_time.is_none_or(|before| at < before)
            && self.until_time.is_none_or(|until| at <= until)
    }
}

impl Realm {
    /// The remembered events that a subscription would have received, as a list. Whoever may not
    /// subscribe is not shown them, and what was published to others only is left out.
    pub(super) fn remembered(
        &self,
        now: Now,
        place: usize,
        id: Option<&Value>,
        payload: &Payload,
    ) -> Result<Value, Refusal> {
        let subscription = self.subscription(id)?;
        let key = &subscription.key;
        let Some(session) = self.sessions.get(place) else {
            return Err(Refusal::new(ErrorKind::Internal, "the session is gone"));
        };
        let role = &session.identity.role;
        if !role.permits_pattern(Action::Subscribe, &key.pattern) {
            let message = "the role may not subscribe to this topic";
            return Err(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        let naming = &self.settings.naming;
        let query = Query::read(payload.kwargs_value(), naming.read_key)?;
        let mut events = Vec::new();
        let mut bytes = 0;
        let filter = subscription.filter.as_ref();
        let is_shown = |event: &&Arc<Event>| {
            query.fits(event)
                && key.pattern.matches(&event.topic, &naming.reserved)
                && role.permits(Action::Subscribe, &event.topic)
                && is_admitted(session, event)
                && session.features.opens(&event.payload)
                && filter.is_none_or(|filter| filter.accepts(event))
        };
        let show = |event: &Arc<Event>| {
            let options = MemberOptions {
                qos: Qos::ExactlyOnce,
                ..MemberOptions::default()
            };
            let mut delivery =
                Realm::replayed(event, subscription.id, key.pattern.is_exact(), options);
            (delivery.replayed, delivery.retain) = (false, false);
            shown(
                event,
                subscription.id.0,
                (naming.show_details)(now, &delivery),
            )
        };
        if query.first > query.last {
            return Ok(json!([]));
        }
        let found = self.history.between(query.first..=query.last);
        let found: &mut dyn Iterator<Item = &Arc<Event>> = match query.reverse {
            true => &mut found.rev(),
            false => &mut { found },
        };
        for event in found.filter(is_shown).take(query.limit) {
            events.push(show(event));
            bytes += event.cost();
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(Value::Array(events))
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
