//! Sessions: who is here, who comes and goes, and how to end them (section "Session Meta API").

use super::invalid;
use crate::model::{EndReason, ErrorKind, Now, Payload, Refusal, SessionId};
use crate::realm::{Effects, Realm};
use bytestring::ByteString;
use serde_json::{Value, json};

/// The details that the router sets.
const OWN_DETAILS: [&str; 6] = [
    "session",
    "authid",
    "authrole",
    "authmethod",
    "authprovider",
    "transport",
];

impl Realm {
    /// The ids of the sessions whose role is in the list, or of all.
    pub(super) fn sessions_in(&self, roles: Option<&Value>) -> Result<Vec<u64>, Refusal> {
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

    pub(super) fn session_details(&self, id: Option<&Value>) -> Result<Value, Refusal> {
        let place = self.session_place(id)?;
        Ok(self.details_of(place))
    }

    pub(super) fn session_place(&self, id: Option<&Value>) -> Result<usize, Refusal> {
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
            .ok_or_else(no_such_session)
    }

    pub(super) fn details_of(&self, place: usize) -> Value {
        let Some(session) = self.sessions.get(place) else {
            return Value::Null;
        };
        let identity = &session.identity;
        let mut details = json!({
            "session": session.id.0,
            "authid": &*identity.authid,
            "authrole": &*identity.role.name,
            "authmethod": &*identity.method,
            "authprovider": &*identity.provider,
            "transport": identity.shown_transport(),
        });
        if let (Some(details), Some(more)) = (details.as_object_mut(), &session.details) {
            // None of these has the name of one of the router's.
            details.extend((**more).clone());
        }
        details
    }

    /// Adds to, replaces in (or, with null, removes from) what [`Realm::details_of`] shows beside
    /// the router's own words.
    pub(super) fn modify_details(&mut self, args: &[Value]) -> Result<(), Refusal> {
        let place = self.session_place(args.first())?;
        let changes = args.get(1).and_then(Value::as_object);
        let changes = changes.ok_or_else(|| invalid("the second argument must be a dict"))?;
        if changes.keys().any(|key| OWN_DETAILS.contains(&&**key)) {
            return Err(invalid("the router's own details cannot be modified"));
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return Err(no_such_session());
        };
        let mut details = session.details.as_deref().cloned().unwrap_or_default();
        for (key, value) in changes {
            match value {
                Value::Null => details.remove(key),
                _ => details.insert(key.clone(), value.clone()),
            };
        }
        let size = Value::from(details.clone()).to_string().len();
        if size > self.settings.limits.details_bytes_per_session {
            return Err(Refusal::new(
                ErrorKind::QuotaExceeded,
                "the details are too large",
            ));
        }
        session.details = (!details.is_empty()).then(|| Box::new(details));
        Ok(())
    }

    pub(super) fn kill_one(
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

    pub(super) fn kill_where(
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

    pub(super) fn end_reason(&self, payload: &Payload) -> Result<EndReason, Refusal> {
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

    pub(in crate::realm) fn announce_join(
        &mut self,
        now: Now,
        place: usize,
        effects: &mut Effects,
    ) {
        let Some(topic) = self.own_topic("session/on_join") else {
            return;
        };
        if self.subscriptions.has_listener(&topic) {
            let details = self.details_of(place);
            self.announce_own(now, &topic, || Payload::from_values(&[details]), effects);
        }
    }

    pub(in crate::realm) fn announce_leave(
        &mut self,
        now: Now,
        place: usize,
        effects: &mut Effects,
    ) {
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
        let reason = session
            .ended_for
            .as_deref()
            .map(self.settings.naming.end_reason);
        let payload = || {
            Payload::from_values(&args)
                .with_kwargs(reason.map(|reason| json!({"reason": &*reason})))
        };
        self.announce_own(now, &topic, payload, effects);
    }
}

fn no_such_session() -> Refusal {
    Refusal::new(ErrorKind::NoSuchSession, "no session with this id")
}

/// Dotted, with no empty component, white space or `#`.
fn is_loose_name(name: &str) -> bool {
    name.split('.')
        .all(|part| !part.is_empty() && !part.contains([' ', '\t', '\n', '#']))
}
