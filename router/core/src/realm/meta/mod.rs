//! The realm's own topics and procedures: who is here, who listens to what, who offers what, and
//! what a key holds.
//!
//! Their names are data: the first level and the key reader's name come with the settings, because
//! they belong to the protocols that made them known; so do the spelling of topics and of options.

mod history;
mod registrations;
mod sessions;
mod subscriptions;
mod testaments;

pub(super) use history::Reading;
pub(super) use registrations::RegistrationEvent;
pub(super) use subscriptions::{Departure, LifeTopics};
pub(crate) use testaments::Testament;

use super::inspect::Inspection;
use super::keys::KeyCall;
use super::publish::is_admitted;
use super::{Effects, Realm};
use crate::auth::Action;
use crate::encoding::Encoding;
use crate::model::{
    CallFailure, Delivery, EndReason, ErrorKind, EventDelivery, MatchKind, Now, Pattern, Payload,
    Publish, Refusal, RequestId, Topic, first_level,
};
use bytestring::ByteString;
use registrations::AboutRegistrations;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use subscriptions::Asked;

/// Reads a spelled pattern in the notation named.
pub type ReadPattern = fn(&str, Option<&str>) -> Result<(Pattern, MatchKind), Refusal>;

/// Reads a publish request: its spelled topic, its payload and its options.
pub type ReadPublish = fn(&str, Payload, &Map<String, Value>) -> Result<Publish, Refusal>;

/// Names of the realm's own topics and procedures.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The first level nobody else may publish to or register under.
    pub reserved: ByteString,
    /// The levels above the procedures that look into sessions; nobody else may register below.
    pub inspection: ByteString,
    /// The levels above the procedures that write and watch keys; nobody else may register below.
    pub keys: ByteString,
    /// The procedure that reads a key.
    pub value_get: ByteString,
    /// The levels above the procedures that hold keys and the topics that tell of it.
    pub locks: ByteString,
    /// Reads a spelled key as its topic, for the key reader.
    pub read_key: fn(&str) -> Option<Topic>,
    /// Reads a spelled pattern in the notation named, or in the usual one.
    pub read_pattern: ReadPattern,
    /// Spells a pattern in a notation that can say it.
    pub show_pattern: fn(&Pattern, MatchKind) -> String,
    /// Reads a publish request: a spelled topic, the payload, and the options by name.
    pub read_publish: ReadPublish,
    /// What receivers are told beside the payload of an event.
    pub show_details: fn(Now, &EventDelivery) -> Map<String, Value>,
    /// The reason name of a session ended without one given.
    pub killed: ByteString,
    /// The reason name of a registration taken from its callee without one given.
    pub revoked: ByteString,
    /// The error name by which a callee asks that another one is tried.
    pub unavailable: ByteString,
    /// The reason name of an end.
    pub end_reason: fn(&EndReason) -> ByteString,
}

/// The realm's own procedures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Count,
    List,
    Get,
    Kill,
    KillByAuthid,
    KillByRole,
    KillAll,
    ModifyDetails,
    AddTestament,
    FlushTestaments,
    Subscription(Asked),
    GetEvents,
    ValueGet,
    Keys(KeyCall),
    Registrations(AboutRegistrations),
    Inspect(Inspection),
}

type Outcome = Result<(Vec<Value>, u64), Refusal>;

impl Realm {
    /// The own procedure of this name.
    pub(super) fn own_procedure(&self, procedure: &Topic) -> Option<Own> {
        let naming = &self.settings.naming;
        if procedure.text() == &*naming.value_get {
            return Some(Own::ValueGet);
        }
        if let Some(name) = below(procedure, &naming.keys) {
            return KeyCall::named(name).map(Own::Keys);
        }
        if let Some(name) = self.inspection_name(procedure) {
            return Inspection::named(name).map(Own::Inspect);
        }
        let rest = procedure.text().strip_prefix(&*naming.reserved)?;
        if let Some(name) = rest.strip_prefix("/registration/") {
            return AboutRegistrations::named(name).map(Own::Registrations);
        }
        if rest == "/subscription/get_events" {
            return Some(Own::GetEvents);
        }
        if let Some(name) = rest.strip_prefix("/subscription/") {
            return Asked::named(name).map(Own::Subscription);
        }
        Some(match rest.strip_prefix("/session/")? {
            "count" => Own::Count,
            "list" => Own::List,
            "get" => Own::Get,
            "kill" => Own::Kill,
            "kill_by_authid" => Own::KillByAuthid,
            "kill_by_authrole" => Own::KillByRole,
            "kill_all" => Own::KillAll,
            "modify_details" => Own::ModifyDetails,
            "add_testament" => Own::AddTestament,
            "flush_testaments" => Own::FlushTestaments,
            _ => return None,
        })
    }

    fn inspection_name<'a>(&self, procedure: &'a Topic) -> Option<&'a str> {
        below(procedure, &self.settings.naming.inspection)
    }

    /// Whether only the realm itself may offer this procedure.
    pub(super) fn is_own_name(&self, procedure: &Topic) -> bool {
        self.is_reserved(procedure)
            || self.inspection_name(procedure).is_some()
            || self.lock_name(procedure.text()).is_some()
            || below(procedure, &self.settings.naming.keys).is_some()
            || self.own_procedure(procedure).is_some()
    }

    /// Whether a pattern names what only the realm itself may offer. A wider one does not reach it.
    pub(super) fn is_own_pattern(&self, pattern: &Pattern) -> bool {
        if let Pattern::Exact(procedure) = pattern {
            return self.is_own_name(procedure);
        }
        let start = pattern.literal_prefix();
        let first = first_level(&start);
        let naming = &self.settings.naming;
        let is_below = |levels: &str| {
            let rest = start.strip_prefix(levels);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        first == &*naming.reserved
            || first == "$SYS"
            || self.lock_name(&start).is_some()
            || is_below(&naming.inspection)
            || is_below(&naming.keys)
    }

    pub(super) fn call_own(
        &mut self,
        now: Now,
        place: usize,
        request: RequestId,
        own: Own,
        payload: &Payload,
        effects: &mut Effects,
    ) {
        let args = positional(payload);
        let first = args.first();
        let outcome: Outcome = match own {
            Own::Count => self
                .sessions_in(first)
                .map(|ids| (vec![json!(ids.len())], 0)),
            Own::List => self.sessions_in(first).map(|ids| (vec![json!(ids)], 0)),
            Own::Get => self
                .session_details(first)
                .map(|details| (vec![details], 0)),
            Own::Kill => self
                .kill_one(place, first, payload)
                .map(|()| (Vec::new(), 0)),
            Own::KillByAuthid => text(first, "an authid").and_then(|authid| {
                let ids = self.kill_where(place, payload, |s| s.identity.authid == *authid)?;
                Ok((vec![json!(ids)], 0))
            }),
            Own::KillByRole => text(first, "an authrole").and_then(|role| {
                let ids = self.kill_where(place, payload, |s| s.identity.role.name == *role)?;
                Ok((vec![json!(ids.len())], 0))
            }),
            Own::KillAll => self
                .kill_where(place, payload, |_| true)
                .map(|ids| (vec![json!(ids.len())], 0)),
            Own::ModifyDetails => self.modify_details(&args).map(|()| (Vec::new(), 0)),
            Own::AddTestament => self
                .add_testament(place, &args, payload)
                .map(|()| (Vec::new(), 0)),
            Own::FlushTestaments => self
                .flush_testaments(place, payload)
                .map(|()| (Vec::new(), 0)),
            Own::Subscription(asked) => self.answer(now, asked, &args, payload, effects),
            Own::GetEvents => match self.begin_reading(place, request, first, payload) {
                Ok(reading) => return self.go_on_reading(now, place, reading, effects),
                Err(refusal) => Err(refusal),
            },
            Own::ValueGet => self.read_value(now, place, first, effects),
            Own::Registrations(what) => self
                .about_registrations(now, what, &args, payload, effects)
                .map(|answer| (answer, 0)),
            Own::Keys(_) => Err(Refusal::new(ErrorKind::Internal, "answered elsewhere")),
            Own::Inspect(what) => self.inspect_for(now, place, what, payload, effects),
        };
        self.answer_own(place, request, outcome, effects);
    }

    fn answer_own(
        &mut self,
        place: usize,
        request: RequestId,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        match outcome {
            Ok((values, commit)) => {
                let payload = match values.is_empty() {
                    true => Payload::args(Encoding::Json, crate::model::Args::default()),
                    false => Payload::from_values(&values),
                };
                let payload = Arc::new(payload);
                let result = Delivery::Result {
                    request,
                    payload,
                    progress: false,
                };
                self.push_after(place, result, commit, effects);
            }
            Err(refusal) => {
                self.fail_request(place, request, CallFailure::Realm(refusal), effects);
            }
        }
    }

    /// An answer that reports a change waits until that is durable.
    fn inspect_for(
        &mut self,
        now: Now,
        place: usize,
        what: Inspection,
        payload: &Payload,
        effects: &mut Effects,
    ) -> Outcome {
        let before = effects.batch.len();
        let report = self.inspect(now, place, what, payload, effects)?;
        Ok((vec![report], self.commit_since(before, effects)))
    }

    fn read_value(
        &mut self,
        now: Now,
        place: usize,
        key: Option<&Value>,
        effects: &mut Effects,
    ) -> Outcome {
        let spelling = text(key, "a key")?;
        let invalid = || Refusal::new(ErrorKind::InvalidArgument, "the key is not a valid topic");
        let topic = (self.settings.naming.read_key)(spelling).ok_or_else(invalid)?;
        let may = self
            .sessions
            .get(place)
            .is_some_and(|session| session.identity.role.permits(Action::Subscribe, &topic));
        if !may {
            let message = "the role may not read this key";
            return Err(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        let kept = self.kv.get(&topic).map(|entry| &entry.event);
        let session = self.sessions.get(place);
        if let (Some(event), Some(session)) = (kept, session)
            && !is_admitted(session, event)
        {
            let message = "the value was published to others only";
            return Err(Refusal::new(ErrorKind::NotAuthorized, message));
        }
        let (report, commit) = self.value_report(now, &topic, spelling, effects);
        Ok((vec![report], commit))
    }

    fn own_topic(&self, name: &str) -> Option<Topic> {
        own_topic(&self.settings.naming, name)
    }
}

fn own_topic(naming: &Naming, name: &str) -> Option<Topic> {
    Topic::new(format!("{}/{name}", naming.reserved)).ok()
}

/// The rest of a topic below some levels.
fn below<'a>(topic: &'a Topic, levels: &str) -> Option<&'a str> {
    topic.text().strip_prefix(levels)?.strip_prefix('/')
}

/// The positional arguments as values.
pub(super) fn positional(payload: &Payload) -> Vec<Value> {
    let args = payload.as_args(Encoding::Json).args;
    match args.and_then(|raw| crate::encoding::value::parse(Encoding::Json, &raw).ok()) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn text<'a>(value: Option<&'a Value>, what: &str) -> Result<&'a str, Refusal> {
    value.and_then(Value::as_str).ok_or_else(|| {
        let message = format!("the first argument must be {what} as a string");
        Refusal::new(ErrorKind::InvalidArgument, message)
    })
}

pub(super) fn invalid(message: &'static str) -> Refusal {
    Refusal::new(ErrorKind::InvalidArgument, message)
}

/// The word for a notation.
pub(super) fn word_of(kind: MatchKind) -> &'static str {
    match kind {
        MatchKind::Exact => "exact",
        MatchKind::Prefix => "prefix",
        MatchKind::Wildcard => "wildcard",
        MatchKind::Levels => "levels",
    }
}
