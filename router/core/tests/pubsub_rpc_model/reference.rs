//! What the realm should do, in plain lists: who is there, what each is told, what time it is.

use super::broker::Subscription;
use super::dealer::{Call, Registration};
use router_core::auth::Disclosure;
use router_core::limits::RealmLimits;
use router_core::session::Features;
use std::collections::BTreeMap;

/// What each session is told, in order.
pub type Told = BTreeMap<u64, Vec<String>>;

/// A session.
#[derive(Clone, Debug)]
pub struct Standing {
    pub who: u64,
    pub authid: &'static str,
    pub role: &'static str,
    pub disclosure: Disclosure,
    pub features: Features,
    pub last_invocation: u64,
    /// Calls that ended before all of their arguments came.
    pub cut_short: Vec<u64>,
    /// It hears nothing any more.
    pub is_leaving: bool,
}

impl Standing {
    /// How others are told of it.
    pub fn by(&self) -> String {
        format!(" by {} {} {}", self.who, self.authid, self.role)
    }

    pub fn takes_parts(&self) -> bool {
        self.features.progressive_invocations && self.features.call_canceling
    }
}

#[derive(Debug)]
pub struct Reference {
    pub limits: RealmLimits,
    pub sessions: Vec<Standing>,
    pub subscriptions: Vec<Subscription>,
    pub registrations: Vec<Registration>,
    /// Those that have not ended, and those whose callee has still to answer.
    pub calls: Vec<Call>,
    pub last_subscription: u64,
    pub last_registration: u64,
    /// Gives callees, calls and timers their order.
    pub last_serial: u64,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// What should be told in this operation.
    pub told: Told,
    /// What was told, to follow where chance decides.
    pub seen: Told,
}

impl Reference {
    pub fn new(limits: RealmLimits) -> Reference {
        Reference {
            limits,
            sessions: Vec::new(),
            subscriptions: Vec::new(),
            registrations: Vec::new(),
            calls: Vec::new(),
            last_subscription: 0,
            last_registration: 0,
            last_serial: 0,
            now: 0,
            told: Told::new(),
            seen: Told::new(),
        }
    }

    pub fn serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    pub fn standing(&self, who: u64) -> &Standing {
        let mut all = self.sessions.iter();
        all.find(|session| session.who == who).unwrap()
    }

    pub fn standing_mut(&mut self, who: u64) -> &mut Standing {
        let mut all = self.sessions.iter_mut();
        all.find(|session| session.who == who).unwrap()
    }

    pub fn tell(&mut self, who: u64, line: String) {
        if !self.standing(who).is_leaving {
            self.told.entry(who).or_default().push(line);
        }
    }

    /// It breaks the rules, which is the last that it hears of.
    pub fn violate(&mut self, who: u64) {
        self.tell(who, "ended violation".to_owned());
        self.leave(who);
    }

    /// What it offered goes first, then what it worked on, then what it asked for.
    pub fn leave(&mut self, who: u64) {
        self.standing_mut(who).is_leaving = true;
        self.leave_subscriptions(who);
        self.leave_registrations(who);
        self.leave_invocations(who);
        self.leave_calls(who);
        self.sessions.retain(|session| session.who != who);
    }

    /// The tables as the realm counts them.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let timers = self.calls.iter().filter(|call| call.deadline.is_some());
        vec![
            ("sessions", self.sessions.len()),
            ("subscriptions", self.subscriptions.len()),
            ("registrations", self.registrations.len()),
            ("open_calls", self.calls.len()),
            ("timers", timers.count()),
        ]
    }
}
