//! The reference of calls: from the asking over the callee's work to the one end.

use super::dealer::{Asked, Call, Choice, Running};
use super::matching::{matches, rank};
use super::reference::Reference;
use router_core::auth::Disclosure;
use router_core::model::{CancelMode, InvokePolicy, MatchKind};

impl Reference {
    pub fn call(&mut self, who: u64, request: u64, asked: &Asked) {
        if let Some(call) = self.call_of(who, request) {
            return self.go_on(call, asked);
        }
        let standing = self.standing_mut(who);
        if standing.cut_short.contains(&request) {
            if !asked.more {
                standing.cut_short.retain(|known| *known != request);
            }
            return;
        }
        let best = self
            .registrations
            .iter()
            .filter(|reg| matches(reg.kind, &reg.text, &asked.procedure))
            .max_by_key(|reg| rank(reg.kind, &reg.text, &asked.procedure));
        let standing = self.standing(who);
        let open = self.calls.iter();
        let open = open.filter(|call| call.caller.is_some_and(|(caller, _)| caller == who));
        let refusal = if asked.disclose && standing.disclosure == Disclosure::Deny {
            Some("DisclosureNotAllowed")
        } else if open.count() >= self.limits.calls_per_session {
            Some("QuotaExceeded")
        } else if best.is_none() {
            Some("NoSuchProcedure")
        } else {
            None
        };
        let registration = best.map_or(0, |reg| reg.id);
        if let Some(refusal) = refusal {
            if asked.more {
                self.cut_short(who, request);
            }
            return self.tell(who, format!("failed {request} {refusal}"));
        }
        let serial = self.serial();
        self.calls.push(Call {
            serial,
            asked: asked.clone(),
            caller: Some((who, request)),
            registration,
            parts: Some(vec![asked.body]),
            in_parts: asked.more,
            is_shown: false,
            is_interrupted: false,
            tried: Vec::new(),
            deadline: None,
            running: None,
        });
        self.start_time(serial);
        let choice = self.choose(serial);
        self.place(serial, choice, false);
    }

    fn go_on(&mut self, serial: u64, asked: &Asked) {
        let most = self.limits.parts_per_call;
        let call = self.at(serial);
        if !call.asked.more {
            let (who, request) = call.caller.unwrap();
            return self.tell(who, format!("failed {request} InvalidArgument"));
        }
        call.asked.more = asked.more;
        let is_full = call.parts.as_ref().is_some_and(|parts| parts.len() >= most);
        match &mut call.parts {
            Some(parts) if !is_full => parts.push(asked.body),
            _ => {}
        }
        if call.running.is_none() {
            if is_full {
                self.fail(serial, "QuotaExceeded");
                self.abandon(serial, None);
            }
        } else if !call.is_interrupted {
            if is_full {
                call.parts = None;
            }
            self.start_time(serial);
            self.hand(serial, asked.body, asked.more);
        }
    }

    pub fn invoke(&mut self, serial: u64, who: u64) {
        let call = self.at(serial).clone();
        let reg = self.registration(call.registration).unwrap();
        let is_single = reg.policy == InvokePolicy::Single;
        let is_exact = reg.kind == MatchKind::Exact;
        let callee = reg.callees.iter().find(|callee| callee.who == who);
        let callee = callee.unwrap().clone();
        let caller = self.standing(call.caller.unwrap().0);
        let discloses = match caller.disclosure {
            Disclosure::Always => true,
            Disclosure::Deny => false,
            Disclosure::Allow => call.asked.disclose || callee.learns_caller,
        };
        let by = if discloses {
            caller.by()
        } else {
            String::new()
        };
        let standing = self.standing_mut(who);
        standing.last_invocation += 1;
        let running = Running {
            callee: who,
            invocation: standing.last_invocation,
            progress: call.asked.progress && standing.features.progressive_results,
            keeps_time: callee.keeps_time && call.asked.timeout.is_some(),
            sign: if is_exact { "" } else { "~" },
            by,
        };
        let keeps_time = running.keeps_time;
        let open = self.at(serial);
        open.running = Some(running);
        let parts = open.parts.clone().unwrap();
        if is_single {
            open.parts = None;
        }
        if keeps_time {
            open.deadline = None;
        } else if open.deadline.is_none() {
            self.start_time(serial);
        }
        for (nth, body) in parts.iter().enumerate() {
            let more = call.asked.more || nth + 1 < parts.len();
            self.hand(serial, *body, more);
        }
    }

    fn hand(&mut self, serial: u64, body: u64, more: bool) {
        let call = self.at(serial).clone();
        let running = call.running.unwrap();
        let (invocation, procedure) = (running.invocation, &call.asked.procedure);
        let mut line = format!(
            "invocation {invocation} {}{procedure} [{body}]",
            running.sign
        );
        for (flag, word) in [(running.progress, " progress"), (more, " more")] {
            if flag {
                line += word;
            }
        }
        if let (true, Some(timeout)) = (running.keeps_time, call.asked.timeout) {
            line += &format!(" within {timeout}");
        }
        line += &running.by;
        self.tell(running.callee, line);
    }

    pub fn yielded(&mut self, who: u64, invocation: u64, body: u64, progress: bool) {
        let Some(serial) = self.invoked(who, invocation) else {
            return;
        };
        let call = self.at(serial);
        if progress
            && call
                .running
                .as_ref()
                .is_some_and(|running| !running.progress)
        {
            return;
        }
        call.is_shown |= progress;
        if let Some((caller, request)) = call.caller {
            let more = if progress { " more" } else { "" };
            self.tell(caller, format!("result {request} [{body}]{more}"));
        }
        if progress {
            self.start_time(serial);
        } else {
            self.forget_caller(serial);
            self.finish(serial);
        }
    }

    pub fn failed(&mut self, who: u64, invocation: u64, error: &str, body: u64) {
        let Some(serial) = self.invoked(who, invocation) else {
            return;
        };
        let call = self.at(serial);
        let goes_on = call.caller.is_some() && !call.is_interrupted && !call.is_shown;
        if error == "wamp.error.unavailable" && goes_on {
            return self.reroute(serial, who);
        }
        self.fail(serial, &format!("{error} [{body}]"));
        self.finish(serial);
    }

    fn reroute(&mut self, serial: u64, who: u64) {
        let call = self.at(serial);
        call.tried.push(who);
        call.running = None;
        let (id, is_whole) = (call.registration, call.parts.is_some());
        if self.registration(id).is_none() {
            return self.fail_unanswerable(serial);
        }
        let choice = match is_whole {
            true => self.choose(serial),
            false => Choice::Nobody,
        };
        self.place(serial, choice, true);
        self.serve(id);
    }

    /// The call of an invocation, if it is still open. One that never was made breaks the rules.
    fn invoked(&mut self, who: u64, invocation: u64) -> Option<u64> {
        if invocation > self.standing(who).last_invocation {
            self.violate(who);
        }
        let is_it = |running: &Running| (running.callee, running.invocation) == (who, invocation);
        let mut calls = self.calls.iter();
        let call = calls.find(|call| call.running.as_ref().is_some_and(is_it));
        call.map(|call| call.serial)
    }

    fn finish(&mut self, serial: u64) {
        let id = self.at(serial).registration;
        self.calls.retain(|call| call.serial != serial);
        self.serve(id);
    }

    pub fn cancel(&mut self, who: u64, request: u64, mode: CancelMode) {
        let Some(serial) = self.call_of(who, request) else {
            return;
        };
        if mode == CancelMode::Kill && self.interrupt(serial, " wanted") {
            return;
        }
        self.fail(serial, "Canceled");
        self.abandon(serial, (mode != CancelMode::Skip).then_some(""));
    }

    /// Asks the callee once to stop; answers whether it understands.
    fn interrupt(&mut self, serial: u64, how: &str) -> bool {
        let call = self.at(serial).clone();
        let Some(running) = &call.running else {
            return false;
        };
        let understands = self.standing(running.callee).features.call_canceling;
        if understands && !call.is_interrupted {
            self.at(serial).is_interrupted = true;
            let line = format!("interrupt {}{how}", running.invocation);
            self.tell(running.callee, line);
        }
        understands
    }

    /// Nobody waits for it any more; a callee with limited concurrency works on it until it answers.
    fn abandon(&mut self, serial: u64, interrupt: Option<&str>) {
        self.forget_caller(serial);
        let call = self.at(serial);
        call.parts = None;
        let (id, callee) = (call.registration, call.callee());
        if let (Some(how), true) = (interrupt, callee.is_some()) {
            self.interrupt(serial, how);
        }
        let reg = self.registration(id);
        let mut callees = reg.iter().flat_map(|reg| &reg.callees);
        let is_limited = callees.any(|c| Some(c.who) == callee && c.most.is_some());
        if !is_limited {
            self.unqueue(serial);
            self.calls.retain(|call| call.serial != serial);
        }
    }

    pub fn pass(&mut self, by: u64) {
        self.now += by;
        let now = self.now;
        let due = |call: &&Call| call.deadline.is_some_and(|(at, _)| at <= now);
        while let Some(call) = self
            .calls
            .iter()
            .filter(due)
            .min_by_key(|call| call.deadline)
        {
            let serial = call.serial;
            self.fail(serial, "Timeout");
            self.abandon(serial, Some(" Timeout"));
        }
    }

    pub fn leave_invocations(&mut self, who: u64) {
        let of = self.calls.iter().filter(|call| call.callee() == Some(who));
        let mut of: Vec<(u64, u64)> = of
            .map(|call| (call.running.as_ref().unwrap().invocation, call.serial))
            .collect();
        of.sort_unstable();
        for (_, serial) in of {
            self.end(serial, "Canceled");
        }
    }

    pub fn leave_calls(&mut self, who: u64) {
        let of = self.calls.iter().filter_map(|call| {
            let (caller, request) = call.caller?;
            (caller == who).then_some((request, call.serial))
        });
        let mut of: Vec<(u64, u64)> = of.collect();
        of.sort_unstable();
        for (_, serial) in of {
            self.abandon(serial, Some(""));
        }
    }

    fn start_time(&mut self, serial: u64) {
        let (now, order) = (self.now, self.serial());
        let call = self.at(serial);
        let is_kept = call
            .running
            .as_ref()
            .is_some_and(|running| running.keeps_time);
        if call.caller.is_some() && !is_kept {
            call.deadline = call.asked.timeout.map(|after| (now + after, order));
        }
    }

    pub fn fail_unanswerable(&mut self, serial: u64) {
        let call = self.at(serial);
        let why = match (call.tried.is_empty(), call.in_parts) {
            (false, _) => "NoAvailableCallee",
            (true, true) => "FeatureNotSupported",
            (true, false) => "NoSuchProcedure",
        };
        self.end(serial, why);
    }

    pub fn end(&mut self, serial: u64, why: &str) {
        self.fail(serial, why);
        self.calls.retain(|call| call.serial != serial);
    }

    fn fail(&mut self, serial: u64, why: &str) {
        if let Some((who, request)) = self.at(serial).caller {
            self.tell(who, format!("failed {request} {why}"));
        }
        self.forget_caller(serial);
    }

    fn forget_caller(&mut self, serial: u64) {
        let call = self.at(serial);
        call.deadline = None;
        let more = call.asked.more;
        if let (Some((who, request)), true) = (call.caller.take(), more) {
            self.cut_short(who, request);
        }
    }

    fn cut_short(&mut self, who: u64, request: u64) {
        let most = self.limits.calls_per_session;
        let known = &mut self.standing_mut(who).cut_short;
        known.push(request);
        known.sort_unstable();
        if known.len() > most {
            known.remove(0);
        }
    }

    /// The call that its caller knows by this request and that has not ended for it.
    fn call_of(&self, who: u64, request: u64) -> Option<u64> {
        let mut calls = self.calls.iter();
        let call = calls.find(|call| call.caller == Some((who, request)));
        call.map(|call| call.serial)
    }

    pub fn at(&mut self, serial: u64) -> &mut Call {
        let mut calls = self.calls.iter_mut();
        calls.find(|call| call.serial == serial).unwrap()
    }
}
