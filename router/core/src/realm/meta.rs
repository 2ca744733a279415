//! The realm's own topics and procedures: who is here, and what a key holds.
//!
//! Their names are data: the first level and the key reader's name come with the settings, because
//! they belong to the protocols that made them known.

use super::inspect::Inspection;
use super::{Effects, Realm};
use crate::auth::Action;
use crate::encoding::Encoding;
use crate::model::{
    CallFailure, Delivery, EndReason, ErrorKind, Now, Payload, Refusal, RequestId, SessionId, Topic,
};
use bytestring::ByteString;
use serde_json::{Value, json};
use std::sync::Arc;

/// Names of the realm's own topics and procedures.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The first level nobody else may publish to or register under.
    pub reserved: ByteString,
    /// The levels above the procedures that look into sessions; nobody else may register below.
    pub inspection: ByteString,
    /// The procedure that reads a key.
    pub value_get: ByteString,
    /// Reads a spelled key as its topic, for the key reader.
    pub read_key: fn(&str) -> Option<Topic>,
    /// The reason name of a session ended without one given.
    pub killed: ByteString,
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
    ValueGet,
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
        if let Some(name) = self.inspection_name(procedure) {
            return Inspection::named(name).map(Own::Inspect);
        }
        let rest = procedure.text().strip_prefix(&*naming.reserved)?;
        Some(match rest.strip_prefix("/session/")? {
            "count" => Own::Count,
            "list" => Own::List,
            "get" => Own::Get,
            "kill" => Own::Kill,
            "kill_by_authid" => Own::KillByAuthid,
            "kill_by_authrole" => Own::KillByRole,
            "kill_all" => Own::KillAll,
            _ => return None,
        })
    }

    fn inspection_name<'a>(&self, procedure: &'a Topic) -> Option<&'a str> {
        let rest = procedure
            .text()
            .strip_prefix(&*self.settings.naming.inspection)?;
        rest.strip_prefix('/')
    }

    /// Whether only the realm itself may offer this procedure.
    pub(super) fn is_own_name(&self, procedure: &Topic) -> bool {
        self.is_reserved(procedure)
            || self.inspection_name(procedure).is_some()
            || self.own_procedure(procedure).is_some()
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
            Own::ValueGet => self.read_value(now, place, first, effects),
            Own::Inspect(what) => self.inspect_for(now, place, what, payload, effects),
        };
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
        let (report, commit) = self.value_report(now, &topic, spelling, effects);
        Ok((vec![report], commit))
    }

    /// The ids of the sessions whose role is in the list, or of all.
    fn sessions_in(&self, roles: Option<&Value>) -> Result<Vec<u64>, Refusal> {
        let roles: Option<Vec<&str>> = match roles {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) => Some(
                list.iter()
                    .map(|role| {
                        role.as_str()
                            .ok_or_else(|| invalid("authroles must be strings"))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Some(_) => return Err(invalid("the first argument must be a list of authroles")),
        };
        let mut ids: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.attached)
            .filter(|(_, s)| {
                roles
                    .as_ref()
                    .is_none_or(|roles| roles.contains(&&*s.identity.role.name))
            })
            .map(|(_, session)| session.id.0)
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn session_details(&self, id: Option<&Value>) -> Result<Value, Refusal> {
        let place = self.session_place(id)?;
        Ok(self.details_of(place))
    }

    fn session_place(&self, id: Option<&Value>) -> Result<usize, Refusal> {
        let id = id
            .and_then(Value::as_u64)
            .ok_or_else(|| invalid("the first argument must be a session id"))?;
        self.by_id
            .get(&SessionId(id))
            .copied()
            .filter(|place| {
                self.sessions
                    .get(*place)
                    .is_some_and(|session| session.attached)
            })
            .ok_or_else(|| Refusal::new(ErrorKind::NoSuchSession, "no session with this id"))
    }

    fn details_of(&self, place: usize) -> Value {
        let Some(session) = self.sessions.get(place) else {
            return Value::Null;
        };
        let identity = &session.identity;
        json!({
            "session": session.id.0,
            "authid": &*identity.authid,
            "authrole": &*identity.role.name,
            "authmethod": &*identity.method,
            "authprovider": &*identity.provider,
            "transport": identity.shown_transport(),
        })
    }

    fn kill_one(
        &mut self,
        caller: usize,
        id: Option<&Value>,
        payload: &Payload,
    ) -> Result<(), Refusal> {
        let reason = self.end_reason(payload)?;
        let place = self.session_place(id)?;
        if place == caller {
            return Err(Refusal::new(
                ErrorKind::NoSuchSession,
                "a session cannot kill itself",
            ));
        }
        self.doom(place, reason);
        Ok(())
    }

    fn kill_where(
        &mut self,
        caller: usize,
        payload: &Payload,
        is_meant: impl Fn(&crate::session::Session) -> bool,
    ) -> Result<Vec<u64>, Refusal> {
        let reason = self.end_reason(payload)?;
        let mut meant: Vec<(u64, usize)> = self
            .sessions
            .iter()
            .filter(|(place, session)| *place != caller && session.attached && is_meant(session))
            .map(|(place, session)| (session.id.0, place))
            .collect();
        meant.sort_unstable();
        for (_, place) in &meant {
            self.doom(*place, reason.clone());
        }
        Ok(meant.into_iter().map(|(id, _)| id).collect())
    }

    fn end_reason(&self, payload: &Payload) -> Result<EndReason, Refusal> {
        let kwargs = payload.kwargs_value();
        let part = |name: &str| match kwargs.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(ByteString::from(text.as_str()))),
            Some(_) => Err(invalid("reason and message must be strings")),
        };
        let reason = part("reason")?;
        if reason.as_ref().is_some_and(|reason| !is_loose_name(reason)) {
            return Err(Refusal::new(
                ErrorKind::InvalidTopic,
                "the reason is not a valid name",
            ));
        }
        let reason = reason.unwrap_or_else(|| self.settings.naming.killed.clone());
        Ok(EndReason::Killed {
            reason,
            message: part("message")?,
        })
    }

    pub(super) fn announce_join(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let Some(topic) = self.own_topic("session/on_join") else {
            return;
        };
        if self.subscriptions.has_listener(&topic) {
            let details = self.details_of(place);
            self.announce_own(now, &topic, || Payload::from_values(&[details]), effects);
        }
    }

    pub(super) fn announce_leave(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let Some(topic) = self.own_topic("session/on_leave") else {
            return;
        };
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let identity = &session.identity;
        let args = [
            json!(session.id.0),
            json!(&*identity.authid),
            json!(&*identity.role.name),
        ];
        self.announce_own(now, &topic, || Payload::from_values(&args), effects);
    }

    fn own_topic(&self, name: &str) -> Option<Topic> {
        Topic::new(format!("{}/{name}", self.settings.naming.reserved)).ok()
    }
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

/// Dotted, with no empty component, white space or `#`.
fn is_loose_name(name: &str) -> bool {
    name.split('.')
        .all(|part| !part.is_empty() && !part.contains([' ', '\t', '\n', '#']))
}
