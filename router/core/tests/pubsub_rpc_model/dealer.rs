//! The reference of registrations: who may take a call is found anew each time by looking at
//! everybody.

use super::reference::Reference;
use router_core::model::{InvokePolicy, MatchKind};

/// A registration, its callees in the order they came, and the calls that wait in theirs.
#[derive(Debug)]
pub struct Registration {
    pub id: u64,
    pub kind: MatchKind,
    pub text: String,
    pub policy: InvokePolicy,
    pub callees: Vec<Callee>,
    pub waiting: Vec<u64>,
    /// The callee that was last called.
    pub last_called: u64,
}

#[derive(Clone, Debug)]
pub struct Callee {
    pub who: u64,
    /// Greater than that of everybody before.
    pub serial: u64,
    pub most: Option<u32>,
    pub learns_caller: bool,
    pub keeps_time: bool,
}

/// What is asked of the realm to register.
#[derive(Clone, Debug)]
pub struct Offered {
    pub kind: MatchKind,
    pub text: String,
    pub policy: InvokePolicy,
    pub most: Option<u32>,
    pub force: bool,
    pub learns_caller: bool,
    pub keeps_time: bool,
}

/// What is asked of the realm to call.
#[derive(Clone, Debug)]
pub struct Asked {
    pub procedure: String,
    pub body: u64,
    pub progress: bool,
    pub more: bool,
    pub timeout: Option<u64>,
    pub disclose: bool,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub serial: u64,
    pub asked: Asked,
    pub caller: Option<(u64, u64)>,
    pub registration: u64,
    /// The arguments, unless nobody else can be given them any more.
    pub parts: Option<Vec<u64>>,
    pub in_parts: bool,
    pub is_shown: bool,
    pub is_interrupted: bool,
    pub tried: Vec<u64>,
    /// When it times out, and which of several comes first.
    pub deadline: Option<(u64, u64)>,
    pub running: Option<Running>,
}

/// The callee of a call and what it was told.
#[derive(Clone, Debug)]
pub struct Running {
    pub callee: u64,
    pub invocation: u64,
    pub progress: bool,
    pub keeps_time: bool,
    /// It offered a pattern.
    pub sign: &'static str,
    pub by: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Callee(u64),
    Wait,
    Nobody,
}
impl Reference {
    pub fn register(&mut self, who: u64, request: u64, offered: &Offered) {
        let known = self
            .registrations
            .iter()
            .position(|reg| reg.kind == offered.kind && reg.text == offered.text);
        if let Some(refusal) = self.refuses_offer(who, known, offered) {
            return self.tell(who, format!("refused {request} {refusal}"));
        }
        let mut known = known;
        let mut waiting = Vec::new();
        if let (true, Some(at)) = (offered.force, known.take_if(|_| offered.force)) {
            let gone = self.registrations.remove(at);
            for callee in &gone.callees {
                let why = "another session registered the procedure in its place";
                self.tell(callee.who, format!("unregistered {} {why}", gone.id));
            }
            waiting = gone.waiting;
        }
        let at = known.unwrap_or_else(|| self.create(offered));
        let callee = Callee {
            who,
            serial: self.serial(),
            most: offered.most,
            learns_caller: offered.learns_caller,
            keeps_time: offered.keeps_time && self.standing(who).features.call_timeout,
        };
        let reg = &mut self.registrations[at];
        reg.callees.push(callee);
        reg.waiting.extend(&waiting);
        let id = reg.id;
        for call in self.calls.iter_mut() {
            if waiting.contains(&call.serial) {
                call.registration = id;
            }
        }
        self.tell(who, format!("done {request} registered {id}"));
        self.serve(id);
    }

    fn refuses_offer(
        &self,
        who: u64,
        known: Option<usize>,
        offered: &Offered,
    ) -> Option<&'static str> {
        let held = self.registrations.iter().filter(|reg| reg.has(who)).count();
        if offered.text.starts_with("wamp.") {
            return Some("NotAuthorized");
        }
        if offered.most == Some(0) {
            return Some("InvalidArgument");
        }
        if held >= self.limits.registrations_per_session {
            return Some("QuotaExceeded");
        }
        let known = &self.registrations[known?];
        let shares = known.policy == offered.policy && known.policy != InvokePolicy::Single;
        let may = offered.force || (shares && !known.has(who));
        (!may).then_some("ProcedureAlreadyExists")
    }

    fn create(&mut self, offered: &Offered) -> usize {
        self.last_registration += 1;
        self.registrations.push(Registration {
            id: self.last_registration,
            kind: offered.kind,
            text: offered.text.clone(),
            policy: offered.policy,
            callees: Vec::new(),
            waiting: Vec::new(),
            last_called: 0,
        });
        self.registrations.len() - 1
    }

    pub fn unregister(&mut self, who: u64, request: u64, id: u64) {
        let mut all = self.registrations.iter();
        if !all.any(|reg| reg.id == id && reg.has(who)) {
            return self.tell(who, format!("refused {request} NoSuchRegistration"));
        }
        self.tell(who, format!("done {request} unregistered"));
        self.withdraw(who, id);
    }

    /// With the last callee go the calls that wait, with another those that only it could take.
    fn withdraw(&mut self, who: u64, id: u64) {
        let reg = self.registration(id).unwrap();
        reg.callees.retain(|callee| callee.who != who);
        let is_last = reg.callees.is_empty();
        let waiting = reg.waiting.clone();
        if is_last {
            self.registrations.retain(|reg| reg.id != id);
        }
        if is_last {
            for call in waiting {
                self.end(call, "NoSuchProcedure");
            }
        }
        self.serve(id);
    }

    /// Those that offer what is called and may take the call, in the order they came.
    pub fn takers(&self, serial: u64) -> Vec<Callee> {
        let call = self.calls.iter().find(|call| call.serial == serial);
        let call = call.unwrap();
        let mut all = self.registrations.iter();
        let reg = all.find(|reg| reg.id == call.registration).unwrap();
        let callees = reg.callees.iter().filter(|callee| {
            let takes_parts = self.standing(callee.who).takes_parts();
            !call.tried.contains(&callee.who) && (takes_parts || !call.in_parts)
        });
        callees.cloned().collect()
    }

    pub fn choose(&mut self, serial: u64) -> Choice {
        let id = self.at(serial).registration;
        let mut open = self.takers(serial);
        if open.is_empty() {
            return Choice::Nobody;
        }
        let calls = &self.calls;
        let running = |callee: &Callee| {
            let at = |call: &&Call| call.registration == id && call.callee() == Some(callee.who);
            calls.iter().filter(at).count()
        };
        open.retain(|callee| {
            callee
                .most
                .is_none_or(|most| running(callee) < most as usize)
        });
        if open.is_empty() {
            return Choice::Wait;
        }
        let reg = self.registration(id).unwrap();
        let (policy, last) = (reg.policy, reg.last_called);
        let chosen = match policy {
            InvokePolicy::Last => open.last(),
            InvokePolicy::RoundRobin => open.iter().find(|callee| callee.serial > last),
            InvokePolicy::Random => open
                .iter()
                .find(|callee| self.was_called(serial, callee.who)),
            _ => None,
        };
        let chosen = chosen.unwrap_or(&open[0]).clone();
        self.registration(id).unwrap().last_called = chosen.serial;
        Choice::Callee(chosen.who)
    }

    /// Whether this very call reached the callee in this operation.
    fn was_called(&self, serial: u64, who: u64) -> bool {
        let mut calls = self.calls.iter();
        let call = calls.find(|call| call.serial == serial).unwrap();
        let next = self.standing(who).last_invocation + 1;
        let begin = format!("invocation {next} ");
        let body = format!(" [{}]", call.parts.as_ref().unwrap()[0]);
        let mut seen = self.seen.get(&who).into_iter().flatten();
        seen.any(|line| {
            line.starts_with(&begin) && (line.clone() + " ").contains(&(body.clone() + " "))
        })
    }

    pub fn place(&mut self, serial: u64, choice: Choice, first: bool) {
        let most = self.limits.calls_queued_per_procedure;
        let id = self.at(serial).registration;
        match choice {
            Choice::Callee(who) => self.invoke(serial, who),
            Choice::Nobody => self.fail_unanswerable(serial),
            Choice::Wait => {
                let waiting = &mut self.registration(id).unwrap().waiting;
                if waiting.len() >= most {
                    self.end(serial, "QuotaExceeded");
                } else if first {
                    waiting.insert(0, serial);
                } else {
                    waiting.push(serial);
                }
            }
        }
    }

    /// What nobody may take any more ends. Then, as long as some call can be taken, the first such is.
    pub fn serve(&mut self, id: u64) {
        let waiting = self.registration(id).map(|reg| reg.waiting.clone());
        for call in waiting.into_iter().flatten() {
            if self.takers(call).is_empty() {
                self.unqueue(call);
                self.fail_unanswerable(call);
            }
        }
        loop {
            let waiting = self.registration(id).map(|reg| reg.waiting.clone());
            let mut choices = waiting
                .into_iter()
                .flatten()
                .map(|call| (call, self.choose(call)));
            let Some((call, choice)) = choices.find(|(_, choice)| *choice != Choice::Wait) else {
                return;
            };
            self.unqueue(call);
            self.place(call, choice, false);
        }
    }

    pub fn leave_registrations(&mut self, who: u64) {
        let held = self.registrations.iter().filter(|reg| reg.has(who));
        let mut held: Vec<u64> = held.map(|reg| reg.id).collect();
        held.sort_unstable();
        for id in held {
            self.withdraw(who, id);
        }
    }

    pub fn unqueue(&mut self, serial: u64) {
        for reg in &mut self.registrations {
            reg.waiting.retain(|call| *call != serial);
        }
    }

    pub fn registration(&mut self, id: u64) -> Option<&mut Registration> {
        self.registrations.iter_mut().find(|reg| reg.id == id)
    }
}

impl Registration {
    pub fn has(&self, who: u64) -> bool {
        self.callees.iter().any(|callee| callee.who == who)
    }
}

impl Call {
    pub fn callee(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.callee)
    }
}
