//! Ordering Guarantees of the specification, and what they rest on, asserted of what each session
//! reads: whatever the reference says, and although it is read late.

use super::common::body;
use router_core::model::{Answer, CallFailure, Delivery, ErrorKind, Payload};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Order {
    /// request -> what it asks to end
    ending: BTreeMap<u64, u64>,
    /// (session, id) of what is subscribed and registered, as far as the session has read.
    subscribed: BTreeSet<(u64, u64)>,
    registered: BTreeSet<(u64, u64)>,
    /// body -> who published it
    publishers: BTreeMap<u64, u64>,
    /// body -> publication
    publications: BTreeMap<u64, u64>,
    /// (publisher, subscriber) -> the last body
    heard: BTreeMap<(u64, u64), u64>,
    /// Calls, by request, of which nothing final was read.
    open: BTreeSet<u64>,
    /// Bodies of calls that any callee may take as long as none has got them.
    ordinary: BTreeSet<u64>,
    /// registration -> the last ordinary body
    called: BTreeMap<u64, u64>,
    /// session -> its last invocation
    invoked: BTreeMap<u64, u64>,
}

impl Order {
    pub fn published(&mut self, who: u64, body: u64) {
        self.publishers.insert(body, who);
    }

    pub fn called(&mut self, request: u64, body: u64, in_parts: bool) {
        self.open.insert(request);
        if !in_parts {
            self.ordinary.insert(body);
        }
    }

    /// A request to unsubscribe or unregister.
    pub fn ends(&mut self, request: u64, id: u64) {
        self.ending.insert(request, id);
    }

    /// It reads no more.
    pub fn left(&mut self, who: u64) {
        self.subscribed.retain(|(session, _)| *session != who);
        self.registered.retain(|(session, _)| *session != who);
    }

    pub fn read(&mut self, who: u64, delivery: &Delivery) {
        match delivery {
            Delivery::Done { request, answer } => self.done(who, request.0, answer),
            Delivery::Event(event) => {
                let id = event.subscription.0;
                assert!(
                    self.subscribed.contains(&(who, id)),
                    "an event comes between SUBSCRIBED and UNSUBSCRIBED: {delivery:?}"
                );
                let body = number(&event.event.payload);
                let last = self.heard.entry((self.publishers[&body], who)).or_default();
                assert!(*last <= body, "in the order of publishing: {delivery:?}");
                *last = body;
                self.publication(body, event.event.publication.0);
            }
            Delivery::Invocation(call) => {
                let last = self.invoked.entry(who).or_default();
                if call.invocation.0 > *last {
                    assert_eq!(call.invocation.0, *last + 1);
                    *last += 1;
                    self.first_part(who, call.registration.0, number(&call.payload));
                }
            }
            Delivery::Unregistered { registration, .. } => {
                assert!(self.registered.remove(&(who, registration.0)));
            }
            Delivery::Result {
                request, progress, ..
            } => self.result(request.0, !progress),
            Delivery::CallFailed { request, failure } => {
                // Which is said of another call with the request of one that goes on.
                let goes_on = matches!(failure, CallFailure::Realm(refusal)
                    if refusal.kind == ErrorKind::InvalidArgument);
                self.result(request.0, !goes_on);
            }
            _ => {}
        }
    }

    fn done(&mut self, who: u64, request: u64, answer: &Answer) {
        match answer {
            Answer::Subscribed { subscription, .. } => {
                self.subscribed.insert((who, subscription.0));
            }
            Answer::Unsubscribed => {
                assert!(self.subscribed.remove(&(who, self.ending[&request])));
            }
            Answer::Registered(registration) => {
                assert!(self.registered.insert((who, registration.0)));
            }
            Answer::Unregistered => {
                assert!(self.registered.remove(&(who, self.ending[&request])));
            }
            // The request of a publish is its body.
            Answer::Published { publication, .. } => self.publication(request, publication.0),
            Answer::Released(_) | Answer::Repeated => panic!("nobody asked for this"),
        }
    }

    /// An event has one id, which is greater than those of all that were published before.
    fn publication(&mut self, body: u64, publication: u64) {
        let known = *self.publications.entry(body).or_insert(publication);
        assert_eq!(known, publication, "of {body}");
        let before = self.publications.range(..body).next_back();
        let after = self.publications.range(body + 1..).next();
        assert!(before.is_none_or(|(_, id)| *id < publication));
        assert!(after.is_none_or(|(_, id)| *id > publication));
    }

    fn first_part(&mut self, who: u64, registration: u64, body: u64) {
        assert!(
            self.registered.contains(&(who, registration)),
            "an invocation begins between REGISTERED and UNREGISTERED: {who}, {registration}"
        );
        if self.ordinary.remove(&body) {
            let last = self.called.insert(registration, body);
            assert!(last.is_none_or(|last| last < body), "in the order of calls");
        }
    }

    fn result(&mut self, request: u64, is_last: bool) {
        let is_open = match is_last {
            true => self.open.remove(&request),
            false => self.open.contains(&request),
        };
        assert!(is_open, "the call {request} has ended");
    }
}

fn number(payload: &Payload) -> u64 {
    body(payload).trim_matches(['[', ']']).parse().unwrap()
}
