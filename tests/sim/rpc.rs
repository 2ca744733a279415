//! Callees with a limit of concurrency, and callers who check what comes back.

use crate::actor::{Cx, Phase};
use crate::ledger::{ActorId, Uid};
use crate::wamp::Role;
use crate::wamp_end::{CALL, REGISTER, UNREGISTER, WampEnd, dict, uri};
use protocols::wamp::message::{
    Call, Cancel, ErrorMessage, Invocation, Message, Register, Unregister, Yield,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A call under way at its callee.
struct Job {
    uid: Uid,
    registration: u64,
    due: u64,
    /// Progressive results sent so far, and how many there will be.
    sent: u64,
    wanted: u64,
    /// It ends in an error.
    fails: bool,
}

pub struct Callee {
    me: ActorId,
    procedure: &'static str,
    concurrency: u64,
    registration: Option<u64>,
    asked: bool,
    jobs: BTreeMap<u64, Job>,
}

impl Callee {
    pub fn new(me: ActorId, procedure: &'static str, concurrency: u64) -> Callee {
        let (registration, asked, jobs) = (None, false, BTreeMap::new());
        Callee {
            me,
            procedure,
            concurrency,
            registration,
            asked,
            jobs,
        }
    }

    fn register(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let request = end.request(REGISTER, true);
        self.asked = true;
        let options = dict(json!({"concurrency": self.concurrency}));
        end.send(
            cx,
            &Register {
                request,
                options,
                procedure: uri(self.procedure),
            }
            .into(),
        );
    }

    fn invoked(&mut self, invocation: &Invocation, end: &WampEnd, cx: &mut Cx<'_>) {
        let Some(uid) = end.uid(&invocation.payload, cx) else {
            return cx.ledger.fail("an invocation without its number");
        };
        if let Err(what) = cx.ledger.calls.invoked(uid) {
            cx.ledger.fail(what);
        }
        let progressive = invocation.details.get("receive_progress") == Some(&Value::Bool(true));
        let wanted = if progressive { cx.dice.range(0, 4) } else { 0 };
        let registration = invocation.registration;
        let job = Job {
            uid,
            registration,
            due: cx.now + cx.dice.range(0, 300),
            sent: 0,
            wanted,
            fails: cx.dice.permille(100),
        };
        cx.note(self.me, || {
            format!("is asked {uid} as invocation {}", invocation.request)
        });
        if self.jobs.insert(invocation.request, job).is_some() {
            cx.ledger
                .fail(format!("invocation {} was used twice", invocation.request));
        }
        // The limit is the registration's; a new one does not know of the former's calls.
        let same = self
            .jobs
            .values()
            .filter(|job| job.registration == registration);
        let running = same.count() as u64;
        let most = self.concurrency;
        cx.ledger.require(running <= most, || {
            format!(
                "callee {} has {running} calls at a time, {most} allowed",
                self.me
            )
        });
    }

    fn work(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let due = self
            .jobs
            .iter()
            .find(|(_, job)| job.due <= cx.now)
            .map(|(id, _)| *id);
        let Some(request) = due else { return };
        let Some(job) = self.jobs.get_mut(&request) else {
            return;
        };
        let uid = job.uid;
        if job.sent < job.wanted {
            let payload = Value::from(job.sent);
            job.sent += 1;
            job.due = cx.now + cx.dice.range(0, 100);
            let options = dict(json!({"progress": true}));
            let payload = end.payload(&[json!({"u": uid, "part": payload})], Value::Null);
            return end.send(
                cx,
                &Yield {
                    request,
                    options,
                    payload,
                }
                .into(),
            );
        }
        let (fails, parts) = (job.fails, job.sent);
        self.jobs.remove(&request);
        let payload = end.payload(&[json!({"u": uid, "parts": parts})], Value::Null);
        if fails {
            let error = "sim.error.refused".into();
            let (request_type, details) = (68, dict(Value::Null));
            end.send(
                cx,
                &ErrorMessage {
                    request_type,
                    request,
                    details,
                    error,
                    payload,
                }
                .into(),
            );
        } else {
            end.send(
                cx,
                &Yield {
                    request,
                    options: dict(Value::Null),
                    payload,
                }
                .into(),
            );
        }
    }
}

impl Role for Callee {
    fn up(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        self.register(end, cx);
    }

    fn down(&mut self, _: &mut Cx<'_>) {
        self.registration = None;
        self.asked = false;
        self.jobs.clear();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Registered(m) => {
                self.registration = Some(m.registration);
                self.asked = false;
                // What it was given before it withdrew is between it and nobody any more.
                self.jobs.values_mut().for_each(|job| job.registration = 0);
            }
            Message::Unregistered(_) => {
                self.registration = None;
                self.asked = false;
            }
            Message::Invocation(invocation) => self.invoked(&invocation, end, cx),
            // It may answer at once, or go on as if nothing had been said.
            Message::Interrupt(interrupt) => {
                if let Some(job) = self.jobs.get_mut(&interrupt.request)
                    && cx.dice.flip()
                {
                    (job.wanted, job.fails, job.due) = (0, true, cx.now);
                }
            }
            Message::Error(m) => cx.ledger.fail(format!("callee {}: {m:?}", self.me)),
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        self.work(end, cx);
        if self.asked {
            return;
        }
        match self.registration {
            None => self.register(end, cx),
            Some(registration) if cx.phase == Phase::Chaos && cx.dice.permille(20) => {
                let request = end.request(UNREGISTER, true);
                self.asked = true;
                end.send(
                    cx,
                    &Unregister {
                        request,
                        registration,
                    }
                    .into(),
                );
            }
            Some(_) => {}
        }
    }

    fn waits(&self) -> Option<String> {
        (!self.jobs.is_empty()).then(|| format!("callee {} has {} jobs", self.me, self.jobs.len()))
    }
}

pub struct Caller {
    me: ActorId,
    procedures: Vec<&'static str>,
    next_uid: Uid,
    /// request -> number, parts received
    open: BTreeMap<u64, (Uid, u64)>,
}

impl Caller {
    pub fn new(me: ActorId, procedures: Vec<&'static str>) -> Caller {
        Caller {
            me,
            procedures,
            next_uid: (me as u64) << 32,
            open: BTreeMap::new(),
        }
    }

    fn call(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        self.next_uid += 1;
        let uid = self.next_uid;
        let procedure = *cx.dice.pick(&self.procedures);
        let request = end.request(CALL, true);
        self.open.insert(request, (uid, 0));
        let mut options = json!({"receive_progress": cx.dice.flip()});
        if cx.dice.permille(100) {
            options["timeout"] = cx.dice.range(1, 400).into();
        }
        cx.note(self.me, || {
            format!("calls {procedure} with {uid}, request {request}: {options}")
        });
        let payload = end.payload(&[json!({"u": uid})], Value::Null);
        let (options, procedure) = (dict(options), uri(procedure));
        end.send(
            cx,
            &Call {
                request,
                options,
                procedure,
                payload,
            }
            .into(),
        );
    }

    fn cancel(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let Some(request) = self.open.keys().next().copied() else {
            return;
        };
        let mode = *cx.dice.pick(&["skip", "kill", "killnowait"]);
        let options = dict(json!({"mode": mode}));
        end.send(cx, &Cancel { request, options }.into());
    }
}

impl Role for Caller {
    fn up(&mut self, _: &mut WampEnd, _: &mut Cx<'_>) {}

    fn down(&mut self, _: &mut Cx<'_>) {
        self.open.clear();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Result(m) => {
                let is_part = m.details.get("progress") == Some(&Value::Bool(true));
                let (args, _) = end.values(&m.payload, cx);
                let answer = args.first().cloned().unwrap_or_default();
                let Some((uid, parts)) = self.open.get_mut(&m.request) else {
                    return;
                };
                let number = answer["u"].as_u64();
                let told = if is_part {
                    &answer["part"]
                } else {
                    &answer["parts"]
                };
                let fits = number == Some(*uid) && told.as_u64() == Some(*parts);
                let (uid, so_far) = (*uid, *parts);
                *parts += 1;
                cx.ledger.require(fits, || {
                    format!("call {uid}: {answer} as an answer after {so_far} parts")
                });
                if !is_part {
                    self.open.remove(&m.request);
                    cx.ledger.count("calls answered");
                }
            }
            Message::Error(m) => {
                self.open.remove(&m.request);
                const KNOWN: [&str; 4] = [
                    "sim.error.refused",
                    "wamp.error.canceled",
                    "wamp.error.no_such_procedure",
                    "wamp.error.timeout",
                ];
                let known = KNOWN.contains(&&*m.error);
                cx.ledger
                    .require(known, || format!("caller {}: {m:?}", self.me));
                cx.ledger.count("calls failed");
            }
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if cx.phase != Phase::Chaos {
            return;
        }
        match cx.dice.range(0, 19) {
            0 => self.cancel(end, cx),
            _ if self.open.len() < 8 => self.call(end, cx),
            _ => {}
        }
    }
}
