//! A client that asks for several locks at a time.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::judge::{Judge, Who};
use super::{Court, Report, key};
use crate::wamp::{Session, code, receive};
use crate::websocket::{encode_frame, opcode};

/// What a lock is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    /// With its token; released in the next turn, unless read first.
    Held(u64),
    /// Reading who holds it.
    Reading(u64),
    /// Read; released in the next turn.
    Confirmed(u64),
    Releasing,
}

/// See the module.
pub struct Client<'a> {
    court: &'a Court,
    rng: StdRng,
    session: Session,
    who: Who,
    locks: Vec<State>,
    /// Request -> lock.
    open: HashMap<u64, usize>,
    /// Requests for locks of which it is not certain yet that the router has taken them.
    uncertain: BTreeMap<u64, usize>,
    output: Vec<u8>,
    report: Report,
}

impl<'a> Client<'a> {
    /// Joins.
    ///
    /// # Errors
    /// Fails if the router does not let it in.
    pub fn new(court: &'a Court, number: u64) -> Result<Self> {
        let (session, who) = join(court)?;
        Ok(Self {
            court,
            rng: StdRng::seed_from_u64(court.plan.seed ^ number << 32),
            session,
            who,
            locks: vec![State::Idle; court.plan.keys],
            open: HashMap::new(),
            uncertain: BTreeMap::new(),
            output: Vec::new(),
            report: Report::default(),
        })
    }

    /// Works until there are enough grants, then releases what it has and waits for what it asked.
    ///
    /// # Errors
    /// Fails on a wrong answer, or if the judge does.
    pub fn work(mut self) -> Result<Report> {
        loop {
            ensure!(!self.court.arena.has_failed(), "another client failed");
            let is_over = self.court.arena.done() >= self.court.plan.grants;
            self.go_on_with_held();
            if !is_over {
                self.ask_for_more();
                if self.rng.random_range(0..self.court.plan.dies_every) == 0 {
                    self.die()?;
                    continue;
                }
            }
            if self.open.is_empty() {
                return Ok(self.report);
            }
            self.turn()?;
        }
    }

    /// Sends what is queued and takes what has come, at least one answer.
    fn turn(&mut self) -> Result<()> {
        let output = std::mem::take(&mut self.output);
        if let Err(gone) = self.session.socket().send_raw(&output) {
            return self.lost(gone);
        }
        let mut grants = 0;
        loop {
            match receive(self.session.socket()) {
                Ok(message) => grants += u64::from(self.take(&message)?),
                Err(gone) => {
                    self.court.arena.advance(grants);
                    return self.lost(gone);
                }
            }
            if !self.session.socket().has_begun() {
                break;
            }
        }
        self.court.arena.advance(grants);
        Ok(())
    }

    fn go_on_with_held(&mut self) {
        for at in 0..self.locks.len() {
            match self.locks[at] {
                State::Held(token) if self.rng.random_range(0..10) < 3 => {
                    let request = self.session.request();
                    let text = format!(
                        r#"[{},{request},{{}},"fox.kv.get",["{}"]]"#,
                        code::CALL,
                        key(at)
                    );
                    self.queue(request, at, &text);
                    self.locks[at] = State::Reading(token);
                }
                State::Held(_) | State::Confirmed(_) => {
                    let request = self.session.request();
                    let text = format!(
                        r#"[{},{request},{{"acknowledge":true,"retain":true}},"{}"]"#,
                        code::PUBLISH,
                        key(at)
                    );
                    let who = self.who;
                    self.court.tell(|judge| judge.releases(who, at));
                    self.queue(request, at, &text);
                    self.locks[at] = State::Releasing;
                    self.report.releases += 1;
                }
                _ => {}
            }
        }
    }

    fn ask_for_more(&mut self) {
        let busy = |locks: &[State]| locks.iter().filter(|s| **s != State::Idle).count();
        while busy(&self.locks) < self.court.plan.window.min(self.locks.len()) {
            let at = self.rng.random_range(0..self.locks.len());
            if self.locks[at] != State::Idle {
                continue;
            }
            let request = self.session.request();
            let mut text = String::new();
            // Writing into a string does not fail.
            let _ = write!(
                text,
                r#"[{},{request},{{"acknowledge":true,"retain":true,"when":null,"will":null,"watch":true}},"{}",["{}"]]"#,
                code::PUBLISH,
                key(at),
                self.who.number
            );
            let who = self.who;
            self.court.tell(|judge| judge.asks(who, at));
            self.queue(request, at, &text);
            self.uncertain.insert(request, at);
            self.locks[at] = State::Asked;
        }
    }

    fn queue(&mut self, request: u64, at: usize, text: &str) {
        self.open.insert(request, at);
        let frame = encode_frame(true, opcode::TEXT, text.as_bytes());
        self.output.extend(frame);
    }

    /// Takes an answer; whether it is a grant.
    fn take(&mut self, message: &Value) -> Result<bool> {
        let request = match message[0].as_u64() {
            Some(code::PUBLISHED | code::RESULT) => message[1].as_u64(),
            _ => bail!("unexpected {message}"),
        };
        let request = request.with_context(|| format!("no request in {message}"))?;
        let at = self.open.remove(&request);
        let at = at.with_context(|| format!("not asked for: {message}"))?;
        let who = self.who;
        self.uncertain.remove(&request);
        let later = self.uncertain.split_off(&request);
        for taken in std::mem::replace(&mut self.uncertain, later).into_values() {
            self.court.tell(|judge| judge.was_taken(who, taken));
        }
        match self.locks[at] {
            State::Asked => {
                let token = message[2].as_u64();
                let token = token.with_context(|| format!("no id in {message}"))?;
                self.court.tell(|judge| judge.granted(who, at, token))?;
                self.locks[at] = State::Held(token);
                return Ok(true);
            }
            State::Reading(token) => {
                let entry = &message[3][0];
                ensure!(
                    entry["owner"] == self.session.id && entry["token"] == token,
                    "session {} has {} with token {token}, but {entry}",
                    self.session.id,
                    key(at)
                );
                self.report.confirmed += 1;
                self.locks[at] = State::Confirmed(token);
            }
            State::Releasing => self.locks[at] = State::Idle,
            other => bail!("{message} for a lock that is {other:?}"),
        }
        Ok(false)
    }

    /// Ends the session with whatever it holds and waits for.
    fn die(&mut self) -> Result<()> {
        let who = self.who;
        self.court.tell(|judge| judge.ends(who));
        if self.rng.random_bool(0.5) {
            self.report.goodbyes += 1;
            let goodbye = format!(r#"[{},{{}},"wamp.close.close_realm"]"#, code::GOODBYE);
            let frame = encode_frame(true, opcode::TEXT, goodbye.as_bytes());
            self.output.extend(frame);
        } else {
            self.report.cut += 1;
            // Some way into what was to be said.
            let end = self.rng.random_range(0..=self.output.len());
            self.output.truncate(end);
        }
        // Whether anybody hears it is not the point.
        let _ = self.session.socket().send_raw(&self.output);
        self.begin_anew()
    }

    /// The connection is gone: a new session, if the router was killed.
    fn lost(&mut self, gone: anyhow::Error) -> Result<()> {
        ensure!(
            self.court.arena.life() != self.who.life,
            gone.context("the connection is lost, but the router was not killed")
        );
        self.begin_anew()
    }

    fn begin_anew(&mut self) -> Result<()> {
        self.locks.fill(State::Idle);
        self.open.clear();
        self.uncertain.clear();
        self.output.clear();
        (self.session, self.who) = join(self.court)?;
        Ok(())
    }
}

fn join(court: &Court) -> Result<(Session, Who)> {
    let (session, life) = court.arena.join()?;
    let joined = |judge: &mut Judge| judge.joined(life);
    Ok((session, court.tell(joined)))
}
