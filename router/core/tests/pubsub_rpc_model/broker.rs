//! The reference of publishing: every subscription is looked at for every event.

use super::matching::matches;
use super::reference::{Reference, Standing};
use router_core::auth::Disclosure;
use router_core::model::MatchKind;

/// A subscription: a pattern in a notation, and who holds it.
#[derive(Debug)]
pub struct Subscription {
    pub id: u64,
    pub kind: MatchKind,
    pub text: String,
    pub members: Vec<u64>,
}

/// A list of receivers; of each part that is present.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub sessions: Option<Vec<u64>>,
    pub authids: Option<Vec<&'static str>>,
    pub roles: Option<Vec<&'static str>>,
}

/// A publish as its sender thinks of it.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub body: u64,
    pub ack: Option<u64>,
    pub exclude_me: bool,
    pub disclose: bool,
    pub exclude: Option<Listed>,
    pub eligible: Option<Listed>,
}

impl Listed {
    /// Whether each present part names the session.
    fn names(&self, of: &Standing) -> Vec<bool> {
        let sessions = self.sessions.iter().map(|list| list.contains(&of.who));
        let authids = self.authids.iter().map(|list| list.contains(&of.authid));
        let roles = self.roles.iter().map(|list| list.contains(&of.role));
        sessions.chain(authids).chain(roles).collect()
    }
}

impl Message {
    fn is_for(&self, of: &Standing) -> bool {
        let eligible = self.eligible.as_ref().map(|list| list.names(of));
        let excluded = self.exclude.as_ref().map(|list| list.names(of));
        !eligible.is_some_and(|parts| parts.contains(&false))
            && !excluded.is_some_and(|parts| parts.contains(&true))
    }
}

impl Reference {
    pub fn subscribe(&mut self, who: u64, request: u64, kind: MatchKind, text: &str) {
        let known = self
            .subscriptions
            .iter()
            .position(|sub| sub.kind == kind && sub.text == text);
        let is_held = known.is_some_and(|at| self.subscriptions[at].members.contains(&who));
        if !is_held && self.held_by(who) >= self.limits.subscriptions_per_session {
            return self.tell(who, format!("refused {request} QuotaExceeded"));
        }
        let at = known.unwrap_or_else(|| {
            self.last_subscription += 1;
            self.subscriptions.push(Subscription {
                id: self.last_subscription,
                kind,
                text: text.to_owned(),
                members: Vec::new(),
            });
            self.subscriptions.len() - 1
        });
        let sub = &mut self.subscriptions[at];
        if !is_held {
            sub.members.push(who);
        }
        let line = format!("done {request} subscribed {}", sub.id);
        self.tell(who, line);
    }

    fn held_by(&self, who: u64) -> usize {
        let held = self.subscriptions.iter();
        held.filter(|sub| sub.members.contains(&who)).count()
    }

    pub fn unsubscribe(&mut self, who: u64, request: u64, id: u64) {
        let mut all = self.subscriptions.iter_mut();
        let held = all.find(|sub| sub.id == id && sub.members.contains(&who));
        let outcome = match held {
            Some(sub) => {
                sub.members.retain(|member| *member != who);
                format!("done {request} unsubscribed")
            }
            None => format!("refused {request} NoSuchSubscription"),
        };
        self.subscriptions.retain(|sub| !sub.members.is_empty());
        self.tell(who, outcome);
    }

    pub fn leave_subscriptions(&mut self, who: u64) {
        for sub in &mut self.subscriptions {
            sub.members.retain(|member| *member != who);
        }
        self.subscriptions.retain(|sub| !sub.members.is_empty());
    }

    pub fn publish(&mut self, who: u64, message: &Message) {
        let publisher = self.standing(who).clone();
        let refusal = if message.topic.starts_with("wamp.") {
            Some("NotAuthorized")
        } else if message.disclose && publisher.disclosure == Disclosure::Deny {
            Some("DisclosureNotAllowed")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            if let Some(request) = message.ack {
                self.tell(who, format!("refused {request} {refusal}"));
            }
            return;
        }
        let by = match message.disclose || publisher.disclosure == Disclosure::Always {
            true => publisher.by(),
            false => String::new(),
        };
        let mut lines = Vec::new();
        for sub in &self.subscriptions {
            if !matches(sub.kind, &sub.text, &message.topic) {
                continue;
            }
            for member in &sub.members {
                let is_me = *member == who && message.exclude_me;
                if !is_me && message.is_for(self.standing(*member)) {
                    let (id, topic, body) = (sub.id, &message.topic, message.body);
                    lines.push((*member, format!("event {id} {topic} [{body}]{by}")));
                }
            }
        }
        let outcome = if lines.is_empty() { " unmatched" } else { "" };
        for (member, line) in lines {
            self.tell(member, line);
        }
        if let Some(request) = message.ack {
            self.tell(who, format!("done {request} published{outcome}"));
        }
    }
}
