//! The realm's own procedures and topics about registrations: what is offered, and by whom.

use super::{invalid, text, word_of};
use crate::dealer::{Registration, RegistrationKey};
use crate::model::{
    ErrorKind, InvokePolicy, MatchKind, Now, Payload, Refusal, RegistrationId, SessionId, Topic,
    iso8601,
};
use crate::realm::{Effects, Realm};
use bytestring::ByteString;
use serde_json::{Value, json};

/// The notations in which procedures are registered.
const KINDS: [MatchKind; 3] = [MatchKind::Exact, MatchKind::Prefix, MatchKind::Wildcard];

/// The procedures about registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::realm) enum AboutRegistrations {
    List,
    Lookup,
    Match,
    Get,
    ListCallees,
    CountCallees,
    RemoveCallee,
}

impl AboutRegistrations {
    /// By the last part of its name.
    pub fn named(name: &str) -> Option<AboutRegistrations> {
        Some(match name {
            "list" => AboutRegistrations::List,
            "lookup" => AboutRegistrations::Lookup,
            "match" => AboutRegistrations::Match,
            "get" => AboutRegistrations::Get,
            "list_callees" => AboutRegistrations::ListCallees,
            "count_callees" => AboutRegistrations::CountCallees,
            "remove_callee" => AboutRegistrations::RemoveCallee,
            _ => return None,
        })
    }
}

/// What is told about a registration and one of its callees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::realm) enum RegistrationEvent {
    Created,
    Registered,
    Unregistered,
    Deleted,
}

impl RegistrationEvent {
    fn name(self) -> &'static str {
        match self {
            RegistrationEvent::Created => "registration/on_create",
            RegistrationEvent::Registered => "registration/on_register",
            RegistrationEvent::Unregistered => "registration/on_unregister",
            RegistrationEvent::Deleted => "registration/on_delete",
        }
    }
}

impl Realm {
    /// Tells who listens; `place` is the callee that came or went.
    pub(in crate::realm) fn announce_registration(
        &mut self,
        now: Now,
        event: RegistrationEvent,
        place: usize,
        at: usize,
        effects: &mut Effects,
    ) {
        let topic = self.own_topic(event.name());
        let Some(topic) = topic.filter(|topic| self.subscriptions.has_listener(topic)) else {
            return;
        };
        let (Some(session), Some(registration)) =
            (self.sessions.get(place), self.registrations.at(at))
        else {
            return;
        };
        let about = match event {
            RegistrationEvent::Created => self.registration_details(registration),
            _ => registration.id.0.into(),
        };
        let args = [session.id.0.into(), about];
        self.announce_own(now, &topic, || Payload::from_values(&args), effects);
    }

    pub(super) fn about_registrations(
        &mut self,
        now: Now,
        what: AboutRegistrations,
        args: &[Value],
        payload: &Payload,
        effects: &mut Effects,
    ) -> Result<Vec<Value>, Refusal> {
        let first = args.first();
        let answer = match what {
            AboutRegistrations::List => self.registration_lists(),
            AboutRegistrations::Lookup => self.look_up_registration(first, args.get(1))?,
            AboutRegistrations::Match => self.match_registration(first)?,
            AboutRegistrations::Get => self.registration_details(self.registration_of(first)?),
            AboutRegistrations::ListCallees => {
                let callees = &self.registration_of(first)?.callees;
                callees.iter().map(|callee| callee.id.0).collect()
            }
            AboutRegistrations::CountCallees => self.registration_of(first)?.callees.len().into(),
            AboutRegistrations::RemoveCallee => {
                self.remove_callee(now, first, args.get(1), payload, effects)?;
                return Ok(Vec::new());
            }
        };
        Ok(vec![answer])
    }

    fn registration_lists(&self) -> Value {
        let of = |kind: MatchKind| {
            let all = self.registrations.iter();
            let of_kind = all.filter(|registration| registration.key.kind == kind);
            let mut ids: Vec<u64> = of_kind.map(|registration| registration.id.0).collect();
            ids.sort_unstable();
            (word_of(kind).to_owned(), json!(ids))
        };
        Value::Object(KINDS.map(of).into_iter().collect())
    }

    /// The registration of exactly this name in this notation.
    fn look_up_registration(
        &self,
        name: Option<&Value>,
        options: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let notation = match options.and_then(|options| options.get("match")) {
            None | Some(Value::Null) => word_of(MatchKind::Exact),
            Some(notation) => notation
                .as_str()
                .filter(|notation| KINDS.map(word_of).contains(notation))
                .ok_or_else(|| invalid("match must be exact, prefix or wildcard"))?,
        };
        let name = text(name, "a procedure or a pattern")?;
        let read = (self.settings.naming.read_pattern)(name, Some(notation));
        let key = read
            .ok()
            .map(|(pattern, kind)| RegistrationKey { pattern, kind });
        let found = key.and_then(|key| self.registrations.find(&key));
        Ok(self.id_or_null(found))
    }

    /// The registration that a call of this name would be routed to.
    fn match_registration(&self, name: Option<&Value>) -> Result<Value, Refusal> {
        let name = text(name, "a procedure")?;
        let procedure: Option<Topic> = (self.settings.naming.read_key)(name);
        let found = procedure
            .filter(|procedure| !self.is_own_name(procedure))
            .and_then(|procedure| self.registrations.best(&procedure));
        Ok(self.id_or_null(found))
    }

    fn id_or_null(&self, at: Option<usize>) -> Value {
        let registration = at.and_then(|at| self.registrations.at(at));
        registration.map_or(Value::Null, |registration| registration.id.0.into())
    }

    fn registration_of(&self, id: Option<&Value>) -> Result<&Registration, Refusal> {
        let id = id
            .and_then(Value::as_u64)
            .ok_or_else(|| invalid("the first argument must be a registration id"))?;
        let no_such = || {
            let message = "no registration with this id";
            Refusal::new(ErrorKind::NoSuchRegistration, message)
        };
        self.registrations
            .by_id(RegistrationId(id))
            .ok_or_else(no_such)
    }

    fn registration_details(&self, registration: &Registration) -> Value {
        let key = &registration.key;
        json!({
            "id": registration.id.0,
            "created": iso8601(registration.created_ms),
            "uri": (self.settings.naming.show_pattern)(&key.pattern, key.kind),
            "match": word_of(key.kind),
            "invoke": policy_name(registration.policy),
        })
    }

    /// Takes a registration from one of its callees; what it works on it may finish.
    fn remove_callee(
        &mut self,
        now: Now,
        registration: Option<&Value>,
        session: Option<&Value>,
        payload: &Payload,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let registration = self.registration_of(registration)?;
        let session = session
            .and_then(Value::as_u64)
            .map(SessionId)
            .ok_or_else(|| invalid("the second argument must be a session id"))?;
        let callee = registration.callees.iter().find(|c| c.id == session);
        let Some(place) = callee.map(|callee| callee.session) else {
            let message = "the session is no callee of this registration";
            return Err(Refusal::new(ErrorKind::NoSuchSession, message));
        };
        let id = registration.id;
        let reason = match payload.kwargs_value().get("reason") {
            None | Some(Value::Null) => self.settings.naming.revoked.clone(),
            Some(Value::String(reason)) => ByteString::from(reason.as_str()),
            Some(_) => return Err(invalid("reason must be a string")),
        };
        self.evict(now, place, id, &reason, effects);
        Ok(())
    }
}

fn policy_name(policy: InvokePolicy) -> &'static str {
    match policy {
        InvokePolicy::Single => "single",
        InvokePolicy::RoundRobin => "roundrobin",
        InvokePolicy::Random => "random",
        // The first free one is a way to say the first.
        InvokePolicy::First | InvokePolicy::FirstFree => "first",
        InvokePolicy::Last => "last",
    }
}
