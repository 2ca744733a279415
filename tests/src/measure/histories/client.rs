//! One client at a table: a session at a time, and what it asked and was told.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::script::{Dice, Farewell, Step};
use super::table::Keys;
use crate::linear::{Action, Condition, Datum, Op, Reply};
use crate::measure::arena::Arena;
use crate::wamp::{Session, code};

/// Writes that may wait at the same time; beyond, the client only reads and writes.
const WAITING_MAX: usize = 3;

/// See the module.
pub struct Client<'a> {
    arena: &'a Arena,
    keys: &'a Keys,
    session: Session,
    life: u32,
    /// What is recorded, by key.
    pub ops: Vec<Vec<Op>>,
    /// Request -> key and place of what is not answered yet.
    open: HashMap<u64, (usize, usize)>,
    /// Keys on which the session armed a will or waited.
    bound: Vec<bool>,
}

impl<'a> Client<'a> {
    /// Joins.
    ///
    /// # Errors
    /// Fails if the router does not let anybody in.
    pub fn new(arena: &'a Arena, keys: &'a Keys) -> Result<Self> {
        let (session, life) = arena.join()?;
        Ok(Self {
            arena,
            keys,
            session,
            life,
            ops: vec![Vec::new(); keys.len()],
            open: HashMap::new(),
            bound: vec![false; keys.len()],
        })
    }

    /// Does so many steps.
    ///
    /// # Errors
    /// Fails on an answer that the contract does not know, and if the connection is lost for no
    /// reason.
    pub fn work(&mut self, dice: &mut Dice, steps: usize) -> Result<()> {
        for _ in 0..steps {
            let key = dice.below(self.keys.len());
            match dice.step(self.keys.likely(key)) {
                Step::Get => self.ask(key, Action::Get, None, dice.percent(20))?,
                Step::Write(write, _) if write.watch && self.waiting() >= WAITING_MAX => {
                    self.ask(key, Action::Get, None, false)?;
                }
                Step::Write(write, wait) => {
                    let goes_on = write.watch || dice.percent(20);
                    self.ask(key, Action::Write(write), wait, goes_on)?;
                }
                Step::End(farewell) => self.end(farewell)?,
            }
        }
        self.settle_requests()
    }

    /// Deletes or reads a key and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::work`].
    pub fn ask_and_wait(&mut self, key: usize, action: Action) -> Result<()> {
        self.ask(key, action, None, false)
    }

    /// Waits until all but watching writes are answered.
    fn settle_requests(&mut self) -> Result<()> {
        while self.open.len() > self.waiting() {
            self.take_answer()?;
        }
        Ok(())
    }

    /// How many watching writes to `key` of a life are not answered.
    pub fn waiting_for(&self, key: usize, life: u32) -> usize {
        if life != self.life {
            return 0;
        }
        let open = self.open.values();
        open.filter(|(at, place)| *at == key && self.is_watching(*at, *place))
            .count()
    }

    /// Waits until none is open.
    ///
    /// # Errors
    /// Fails if an answer does not come.
    pub fn settle(&mut self, key: usize, life: u32) -> Result<()> {
        while self.waiting_for(key, life) > 0 {
            self.take_answer()?;
        }
        Ok(())
    }

    fn is_watching(&self, key: usize, place: usize) -> bool {
        matches!(self.ops[key][place].action, Action::Write(write) if write.watch)
    }

    fn waiting(&self) -> usize {
        let open = self.open.values();
        open.filter(|(key, place)| self.is_watching(*key, *place))
            .count()
    }

    /// Asks; unless it `goes_on`, waits for the answer.
    fn ask(&mut self, key: usize, action: Action, wait: Option<u64>, goes_on: bool) -> Result<()> {
        let request = self.session.request();
        let message = message(request, self.keys.name(key), &action, wait)?;
        if let Action::Write(write) = action {
            self.bound[key] |= write.watch || write.will.is_some();
        }
        self.open.insert(request, (key, self.ops[key].len()));
        self.ops[key].push(Op {
            session: self.session.id,
            life: self.life,
            action,
            invoked: self.arena.tick(),
            reply: None,
        });
        if let Err(gone) = self.session.send(&message) {
            return self.lost(gone);
        }
        while !goes_on && self.open.contains_key(&request) {
            self.take_answer()?;
        }
        Ok(())
    }

    fn take_answer(&mut self) -> Result<()> {
        let message = match self.session.wait(|_| true) {
            Ok(message) => message,
            Err(gone) => return self.lost(gone),
        };
        let returned = self.arena.tick();
        let (request, reply) = reply(&message)?;
        let known = self.open.remove(&request);
        let (key, place) = known.with_context(|| format!("answered twice: {message}"))?;
        if let Reply::Read {
            value: Some(value), ..
        } = reply
        {
            self.keys.saw(key, value.number);
        }
        let op = &mut self.ops[key][place];
        if let (Action::Write(write), Reply::Written(_)) = (op.action, reply)
            && let Some(value) = write.value
        {
            self.keys.saw(key, value.number);
        }
        op.reply = Some((returned, reply));
        Ok(())
    }

    /// The connection is gone: a new session, if the router was killed.
    fn lost(&mut self, gone: anyhow::Error) -> Result<()> {
        ensure!(
            self.arena.life() != self.life,
            gone.context("the connection is lost, but the router was not killed")
        );
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        (self.session, self.life) = self.arena.join()?;
        self.open.clear();
        self.bound.fill(false);
        Ok(())
    }

    fn end(&mut self, farewell: Farewell) -> Result<()> {
        let invoked = self.arena.tick();
        for (key, ops) in self.ops.iter_mut().enumerate() {
            if self.bound[key] {
                ops.push(Op {
                    session: self.session.id,
                    life: self.life,
                    action: Action::End,
                    invoked,
                    reply: None,
                });
            }
        }
        if farewell == Farewell::Polite {
            self.say_goodbye();
        }
        self.join()
    }

    /// If the router dies meanwhile, the session has ended all the same.
    fn say_goodbye(&mut self) {
        let goodbye = json!([code::GOODBYE, {}, "wamp.close.close_realm"]);
        if self.session.send(&goodbye).is_ok() {
            let _ = self.session.wait(|message| message[0] == code::GOODBYE);
        }
    }
}

fn message(request: u64, key: &str, action: &Action, wait: Option<u64>) -> Result<Value> {
    let write = match action {
        Action::Write(write) => write,
        Action::Get => return Ok(json!([code::CALL, request, {}, "fox.kv.get", [key]])),
        other => bail!("{other:?} is no request"),
    };
    let mut options = json!({"acknowledge": true, "retain": true});
    if let Some(when) = write.when {
        options["when"] = match when {
            Condition::Absent => Value::Null,
            Condition::Present => json!({}),
            Condition::Number(number) => json!({"n": number}),
            Condition::Colour(colour) => json!({"c": colour}),
        };
    }
    if write.watch {
        options["watch"] = json!(true);
    }
    if let Some(wait) = wait {
        options["watch_timeout"] = json!(wait);
    }
    if let Some(will) = write.will {
        options["will"] = will.map_or(Value::Null, value_of);
    }
    let args = write
        .value
        .map_or_else(|| json!([]), |datum| json!([value_of(datum)]));
    Ok(json!([code::PUBLISH, request, options, key, args]))
}

fn value_of(Datum { number, colour }: Datum) -> Value {
    json!({"n": number, "c": colour})
}

fn datum_of(value: &Value) -> Result<Option<Datum>> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value["n"].as_u64();
    let colour = value["c"].as_u64().map(u8::try_from);
    match (number, colour) {
        (Some(number), Some(Ok(colour))) => Ok(Some(Datum { number, colour })),
        _ => bail!("a value that nobody wrote: {value}"),
    }
}

/// The request that a message answers, and how.
fn reply(message: &Value) -> Result<(u64, Reply)> {
    let number = |at: usize| {
        let number = message[at].as_u64();
        number.with_context(|| format!("no number at {at} in {message}"))
    };
    Ok(match message[0].as_u64() {
        Some(code::PUBLISHED) => (number(1)?, Reply::Written(number(2)?)),
        Some(code::RESULT) => (number(1)?, read(&message[3][0])?),
        Some(code::ERROR) => match message[4].as_str() {
            Some("wamp.error.invalid_payload") if message[5] == json!(["not accepted"]) => {
                (number(2)?, Reply::Refused)
            }
            Some("wamp.error.timeout") => (number(2)?, Reply::TimedOut),
            _ => bail!("unexpected {message}"),
        },
        _ => bail!("unexpected {message}"),
    })
}

fn read(report: &Value) -> Result<Reply> {
    let token = report["token"].as_u64();
    let waiters = report["waiters"].as_u64();
    Ok(Reply::Read {
        value: datum_of(&report["value"])?,
        token: token.with_context(|| format!("no token in {report}"))?,
        owner: report["owner"].as_u64(),
        waiters: waiters
            .and_then(|waiters| usize::try_from(waiters).ok())
            .with_context(|| format!("no waiters in {report}"))?,
    })
}
