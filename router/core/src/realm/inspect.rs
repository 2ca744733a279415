//! Looking into sessions and their queues, and clearing them away: for whoever operates the router.
//!
//! Four procedures below a name that comes with the settings: `list`, `get`, `end`, `purge`. Calling
//! them needs no more than the right to call them. A page of `list` ordered by bytes looks at every
//! session of the realm once, everything else at a bounded number.

use super::meta::{invalid, positional};
use super::{Effects, IdClock, Realm};
use crate::model::{
    EndReason, ErrorKind, EventDelivery, MatchKind, Now, Payload, Refusal, SessionId,
};
use crate::session::{Leave, Session};
use serde_json::{Map, Value, json};
use std::collections::BinaryHeap;
use std::ops::Bound;

/// Sessions on a page unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Sessions looked at for a page in the order of clients.
const LOOKS_PER_PAGE: usize = 10_000;
/// Subscriptions of a session that are listed.
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// Waiting deliveries of a session that are listed.
const WAITING_SHOWN: usize = 10;

/// What is asked of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspection {
    List,
    Get,
    End,
    Purge,
}

impl Inspection {
    pub(super) fn named(name: &str) -> Option<Inspection> {
        Some(match name {
            "list" => Inspection::List,
            "get" => Inspection::Get,
            "end" => Inspection::End,
            "purge" => Inspection::Purge,
            _ => return None,
        })
    }
}

/// The place of a session in a listing: what is sorted first, its client id, its session id.
type Key<'a> = (u64, &'a str, u64);

/// What a listing asks for.
struct Listing {
    offline: Option<bool>,
    by_bytes: bool,
    limit: usize,
    after: Option<(u64, String, u64)>,
}

impl Realm {
    pub(super) fn inspect(
        &mut self,
        now: Now,
        caller: usize,
        what: Inspection,
        payload: &Payload,
        effects: &mut Effects,
    ) -> Result<Value, Refusal> {
        let args = positional(payload);
        if what == Inspection::List {
            let first = args.first().filter(|first| !first.is_null());
            return self.list(first.unwrap_or(payload.kwargs_value()));
        }
        let place = self.named_session(args.first())?;
        match what {
            Inspection::List | Inspection::Get => self.report(now, place),
            Inspection::End => self.end_named(now, caller, place, effects),
            Inspection::Purge => Ok(self.purge(place, effects)),
        }
    }

    /// By client id, or by session id.
    fn named_session(&self, name: Option<&Value>) -> Result<usize, Refusal> {
        let place = match name {
            Some(Value::String(client)) => self.clients.get(client.as_str()),
            Some(Value::Number(id)) if id.is_u64() => {
                let id = SessionId(id.as_u64().unwrap_or_default());
                self.by_id.get(&id)
            }
            _ => {
                return Err(invalid(
                    "the first argument must be a client id or session id",
                ));
            }
        };
        place
            .copied()
            .ok_or_else(|| Refusal::new(ErrorKind::NoSuchSession, "no such session"))
    }

    fn list(&self, options: &Value) -> Result<Value, Refusal> {
        let listing = Listing::read(options)?;
        let (places, next) = match listing.by_bytes {
            true => self.page_by_bytes(&listing),
            false => self.page_by_client(&listing),
        };
        let sessions = places.into_iter().filter_map(|at| self.sessions.get(at));
        let sessions: Vec<Value> = sessions.map(|s| Value::Object(self.summary(s))).collect();
        let total = match listing.offline {
            None => self.sessions.len(),
            Some(false) => self.connected,
            Some(true) => self.sessions.len().saturating_sub(self.connected),
        };
        Ok(json!({"sessions": sessions, "total": total, "next": next}))
    }

    /// Clients in the order of their ids, then the sessions of nobody in particular.
    fn page_by_client(&self, listing: &Listing) -> (Vec<usize>, Option<Value>) {
        let (rank, client, session) = match &listing.after {
            Some((rank, client, session)) => (*rank, client.as_str(), *session),
            None => (0, "", 0),
        };
        let is_first = listing.after.is_none();
        let start = match is_first {
            true => Bound::Unbounded,
            false => Bound::Excluded(client),
        };
        // After a nameless session all clients have been shown.
        let clients = (rank == 0)
            .then(|| self.clients.range::<str, _>((start, Bound::Unbounded)))
            .into_iter()
            .flatten()
            .map(|(client, place)| ((0, &**client, 0), *place));
        let nameless = SessionId(if rank == 0 { 0 } else { session });
        let nameless = self
            .nameless
            .range((Bound::Excluded(nameless), Bound::Unbounded))
            .filter_map(|id| Some(((1, "", id.0), *self.by_id.get(id)?)));
        let (mut page, mut last, mut looks) = (Vec::new(), None, 0);
        for (key, place) in clients.chain(nameless) {
            if page.len() == listing.limit || looks == LOOKS_PER_PAGE {
                return (page, last.map(|key: Key<'_>| json!(key)));
            }
            looks += 1;
            last = Some(key);
            if self.sessions.get(place).is_some_and(|s| listing.wants(s)) {
                page.push(place);
            }
        }
        (page, None)
    }

    /// Those with the most waiting bytes first.
    fn page_by_bytes(&self, listing: &Listing) -> (Vec<usize>, Option<Value>) {
        let after = listing
            .after
            .as_ref()
            .map(|(rank, client, session)| (*rank, client.as_str(), *session));
        // The greatest key is on top, so that it makes room for a smaller one.
        let mut page: BinaryHeap<(Key<'_>, usize)> = BinaryHeap::new();
        for (place, session) in self.sessions.iter().filter(|(_, s)| listing.wants(s)) {
            let rank = u64::MAX - session.outbox.queued().bytes as u64;
            let key = (rank, session.client.as_deref().unwrap_or(""), session.id.0);
            if after.is_some_and(|after| key <= after) {
                continue;
            }
            page.push((key, place));
            if page.len() > listing.limit + 1 {
                page.pop();
            }
        }
        let mut page = page.into_sorted_vec();
        let has_more = page.len() > listing.limit;
        page.truncate(listing.limit);
        let next = page.last().filter(|_| has_more).map(|(key, _)| json!(key));
        (page.into_iter().map(|(_, place)| place).collect(), next)
    }

    fn summary(&self, session: &Session) -> Map<String, Value> {
        let queued = session.outbox.queued();
        let mut summary = Map::new();
        let mut put = |name: &str, value: Value| summary.insert(name.to_owned(), value);
        put("session", json!(session.id.0));
        put("client", json!(session.client.as_deref()));
        put("authid", json!(&*session.identity.authid));
        put("authrole", json!(&*session.identity.role.name));
        put("connected", json!(session.attached));
        put("subscriptions", json!(session.subscriptions.len()));
        put("queued", json!(queued.waiting));
        put("queued_bytes", json!(queued.bytes));
        put("in_flight", json!(queued.in_flight));
        put("dropped", json!(session.dropped));
        summary
    }

    fn report(&self, now: Now, place: usize) -> Result<Value, Refusal> {
        let Some(session) = self.sessions.get(place) else {
            return Err(Refusal::new(ErrorKind::NoSuchSession, "no such session"));
        };
        let mut report = self.summary(session);
        let waiting = session.outbox.first_waiting(WAITING_SHOWN);
        let age = |delivery: &EventDelivery| {
            let since = IdClock::unix_ms_of(delivery.event.publication);
            now.unix_ms.saturating_sub(since)
        };
        let first: Vec<Value> = waiting
            .iter()
            .map(|delivery| {
                json!({
                    "topic": shown(delivery.event.topic.text()),
                    "qos": delivery.qos as u8,
                    "bytes": delivery.event.payload.len(),
                    "age_ms": age(delivery),
                })
            })
            .collect();
        let will = session.last_will.as_ref().map(|will| {
            json!({
                "topic": shown(will.publish.topic.text()),
                "qos": will.publish.qos as u8,
                "retain": will.publish.retain,
                "delay_secs": will.delay.as_secs(),
            })
        });
        let expiry = (session.expiry.as_secs() < u64::MAX).then_some(session.expiry.as_secs());
        let mut put = |name: &str, value: Value| report.insert(name.to_owned(), value);
        put("authmethod", json!(&*session.identity.method));
        put("transport", session.identity.shown_transport());
        put("expiry_secs", json!(expiry));
        put("disconnected_ms", json!(session.away_since_ms()));
        put("filters", Value::Array(self.filters_of(session)));
        put("oldest_age_ms", json!(waiting.first().map(age)));
        put("waiting", Value::Array(first));
        put("will", json!(will));
        Ok(Value::Object(report))
    }

    /// The first subscriptions in the order of their ids.
    fn filters_of(&self, session: &Session) -> Vec<Value> {
        let mut ids: Vec<_> = session.subscriptions.iter().collect();
        ids.sort_unstable();
        let filters = ids
            .into_iter()
            .take(SUBSCRIPTIONS_MAX)
            .filter_map(|(id, at)| {
                let subscription = self.subscriptions.by_id(*id)?;
                let member = subscription.members.get(*at)?;
                let kind = match subscription.key.kind {
                    MatchKind::Exact => "exact",
                    MatchKind::Prefix => "prefix",
                    MatchKind::Wildcard => "wildcard",
                    MatchKind::Levels => "levels",
                };
                Some(json!({
                    "filter": shown(&subscription.key.pattern.to_string()),
                    "match": kind,
                    "qos": member.options.qos as u8,
                    "share": subscription.key.share.as_deref(),
                    "replaying": session.replays.iter().any(|replay| replay.subscription == *id),
                }))
            });
        filters.collect()
    }

    /// Ends a session with all it holds, on disk too, whether it has a connection or not.
    fn end_named(
        &mut self,
        now: Now,
        caller: usize,
        place: usize,
        effects: &mut Effects,
    ) -> Result<Value, Refusal> {
        if place == caller {
            let message = "a session cannot end itself";
            return Err(Refusal::new(ErrorKind::NoSuchSession, message));
        }
        let Some(session) = self.sessions.get(place) else {
            return Err(Refusal::new(ErrorKind::NoSuchSession, "no such session"));
        };
        let id = session.id.0;
        if session.attached {
            let reason = EndReason::Killed {
                reason: self.settings.naming.killed.clone(),
                message: None,
            };
            self.doom(place, reason);
            self.end_doomed(now, effects);
        } else {
            self.publish_last_will(now, place, effects);
            self.end_session(now, place, Leave::Lost, effects);
        }
        Ok(json!(id))
    }

    /// Drops what waits for a session. What was sent stays until it is settled, and replays go on.
    fn purge(&mut self, place: usize, effects: &mut Effects) -> Value {
        let Some(session) = self.sessions.get(place) else {
            return Value::Null;
        };
        let before = session.outbox.queued();
        let (gone, passing) = session.outbox.purge();
        for number in &gone {
            self.forget_delivery(place, *number, effects);
        }
        let after = self
            .sessions
            .get(place)
            .map(|session| session.outbox.queued())
            .unwrap_or_default();
        let bytes = before.bytes.saturating_sub(after.bytes);
        json!({"messages": gone.len() + passing, "bytes": bytes})
    }
}

impl Listing {
    fn wants(&self, session: &Session) -> bool {
        self.offline
            .is_none_or(|offline| offline != session.attached)
    }

    fn read(options: &Value) -> Result<Listing, Refusal> {
        let mut listing = Listing {
            offline: None,
            by_bytes: false,
            limit: PAGE,
            after: None,
        };
        let options = match options {
            Value::Null => return Ok(listing),
            Value::Object(options) => options,
            _ => {
                return Err(invalid(
                    "the first argument must be a dictionary of options",
                ));
            }
        };
        for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "offline" => {
                    let wanted = value.as_bool();
                    listing.offline =
                        Some(wanted.ok_or_else(|| invalid("offline must be a boolean"))?);
                }
                "order" => {
                    listing.by_bytes = match value.as_str() {
                        Some("bytes") => true,
                        Some("client") => false,
                        _ => return Err(invalid("order must be \"client\" or \"bytes\"")),
                    };
                }
                "limit" => {
                    let wanted = value.as_u64().and_then(|n| usize::try_from(n).ok());
                    let wanted = wanted.filter(|n| (1..=PAGE_MAX).contains(n));
                    listing.limit = wanted.ok_or_else(|| invalid("limit must be 1 to 1000"))?;
                }
                "after" => listing.after = Some(key(value)?),
                _ => return Err(invalid("an option is not known")),
            }
        }
        Ok(listing)
    }
}

/// Where a page ended: as its `next` says, or a client id.
fn key(value: &Value) -> Result<(u64, String, u64), Refusal> {
    let parts = || match value {
        Value::String(client) => Some((0, client.clone(), 0)),
        Value::Array(parts) => match parts.as_slice() {
            [rank, client, session] => Some((
                rank.as_u64()?,
                client.as_str()?.to_owned(),
                session.as_u64()?,
            )),
            _ => None,
        },
        _ => None,
    };
    parts().ok_or_else(|| invalid("after must be the next of a page, or a client id"))
}

/// A text of levels for people: a slash inside a level is written as its percent code.
fn shown(text: &str) -> String {
    text.replace('\0', "%2F")
}
