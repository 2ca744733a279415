//! One client at a table: a session at a time, and what it asked and was told.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::script::{Dice, Expects, Farewell, Step};
use super::table::Keys;
use super::wire::{Answer, Times, cancel, message};
use crate::linear::{Action, Kept, Op, Reply, Wait};
use crate::measure::arena::Arena;
use crate::wamp::{Session, code};

/// Requests that may wait at the same time; beyond, the client only reads and writes.
const WAITING_MAX: usize = 3;
/// Watches that may be open at the same time; likewise.
const WATCHES_MAX: usize = 2;

/// See the module.
pub struct Client<'a> {
    arena: &'a Arena,
    keys: &'a Keys,
    session: Session,
    life: u32,
    /// What is recorded, by key.
    pub ops: Vec<Vec<Op>>,
    /// Request -> key and place of what is not answered yet; of a list on all keys.
    open: HashMap<u64, Vec<(usize, usize)>>,
    /// Watch -> key and place of its CANCEL.
    canceled: HashMap<u64, (usize, usize)>,
    /// Keys on which the session armed a will, waited or held.
    bound: Vec<bool>,
    /// Tokens by which the session holds keys, or did.
    tokens: Vec<Vec<u64>>,
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
            canceled: HashMap::new(),
            bound: vec![false; keys.len()],
            tokens: vec![Vec::new(); keys.len()],
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
            self.act(key, dice)?;
        }
        self.settle_requests()
    }

    fn act(&mut self, key: usize, dice: &mut Dice) -> Result<()> {
        let step = dice.step(self.keys.likely(key));
        let goes_on = dice.percent(20);
        let none = Times::default();
        let waits = |wait| Times { wait, ttl: None };
        let (action, times) = match step {
            Step::Get => (Action::Get, none),
            Step::List => (Action::List, none),
            Step::Write(write, wait) => (Action::Write(write), waits(wait)),
            Step::Put(write, wait) => (Action::Put(write), waits(wait)),
            Step::Cas(value, expects) => {
                let expected = self.token(key, expects);
                (Action::Cas { expected, value }, none)
            }
            Step::Delete(expects) => {
                let expected = expects.map(|expects| self.token(key, expects));
                (Action::Delete { expected }, none)
            }
            Step::Watch {
                after,
                progressive,
                wait,
            } => {
                let after = after.map(|expects| self.token(key, expects));
                (Action::Watch { after, progressive }, waits(wait))
            }
            Step::Cancel => return self.cancel_one(key),
            Step::Acquire(order, wait, ttl) => (Action::Acquire(order), Times { wait, ttl }),
            Step::Release => match self.token_held(key, dice) {
                Some(token) => (Action::Release { token }, none),
                None => (Action::Inspect, none),
            },
            Step::Renew(ttl) => match self.token_held(key, dice) {
                Some(token) => {
                    let leased = ttl.is_some();
                    (Action::Renew { token, leased }, Times { wait: None, ttl })
                }
                None => (Action::Get, none),
            },
            Step::Inspect => (Action::Inspect, none),
            Step::End(farewell) => return self.end(farewell),
        };
        let is_too_much = (may_wait(&action) && self.count(may_wait) >= WAITING_MAX)
            || (is_watch(&action) && self.count(is_watch) >= WATCHES_MAX);
        if is_too_much {
            return self.ask(key, Action::Get, none, false);
        }
        let goes_on = goes_on || may_wait(&action) || is_watch(&action);
        self.ask(key, action, times, goes_on)
    }

    fn token(&self, key: usize, expects: Expects) -> u64 {
        match expects {
            Expects::Lately => self.keys.token(key),
            Expects::Absent => 0,
        }
    }

    /// A token by which the session holds a key, mostly the last one.
    fn token_held(&self, key: usize, dice: &mut Dice) -> Option<u64> {
        let tokens = &self.tokens[key];
        match tokens.len() {
            0 => None,
            len if dice.percent(85) => tokens.get(len - 1).copied(),
            len => tokens.get(dice.below(len)).copied(),
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::work`].
    pub fn ask_and_wait(&mut self, key: usize, action: Action) -> Result<Option<Reply>> {
        self.ask(key, action, Times::default(), false)?;
        let last = self.ops[key].iter().rev().find(|op| op.action == action);
        Ok(last.and_then(|op| op.reply).map(|(_, reply)| reply))
    }

    /// Whether this is the client's session.
    pub fn is_session(&self, id: u64) -> bool {
        self.session.id == id
    }

    /// Waits until everything is answered but what waits.
    fn settle_requests(&mut self) -> Result<()> {
        while self.open.len() > self.count(|action| may_wait(action) || is_watch(action)) {
            self.take_answer()?;
        }
        Ok(())
    }

    /// Waits until nothing that waits for a key is open, in this life.
    ///
    /// # Errors
    /// Fails if an answer does not come.
    pub fn settle(&mut self, key: usize, life: u32) -> Result<()> {
        let is_its = |at: usize, action: &Action| at == key && may_wait(action);
        while self.life == life && self.count_where(is_its) > 0 {
            self.take_answer()?;
        }
        Ok(())
    }

    /// Cancels all watches of a key and waits until they have ended.
    ///
    /// # Errors
    /// Fails if an answer does not come.
    pub fn stop_watching(&mut self, key: usize) -> Result<()> {
        let is_its = |at: usize, action: &Action| at == key && is_watch(action);
        while self.cancel(key)? {}
        while self.count_where(is_its) > 0 {
            self.take_answer()?;
        }
        Ok(())
    }

    fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.count_where(|_, action| wanted(action))
    }

    fn count_where(&self, wanted: impl Fn(usize, &Action) -> bool) -> usize {
        let first = self.open.values().filter_map(|places| places.first());
        first
            .filter(|(key, place)| wanted(*key, &self.ops[*key][*place].action))
            .count()
    }

    fn record(&mut self, key: usize, action: Action, invoked: u64) -> (usize, usize) {
        self.ops[key].push(Op {
            session: self.session.id,
            life: self.life,
            action,
            invoked,
            reply: None,
        });
        (key, self.ops[key].len() - 1)
    }

    /// Asks; unless it `goes_on`, waits for the answer.
    fn ask(&mut self, key: usize, action: Action, times: Times, goes_on: bool) -> Result<()> {
        let request = self.session.request();
        let name = self.keys.name(key);
        let message = message(request, (name, self.keys.prefix()), &action, times)?;
        let arms = action.write().is_some_and(|write| write.will.is_some());
        self.bound[key] |= arms || may_wait(&action) || matches!(action, Action::Acquire(_));
        let invoked = self.arena.tick();
        let keys = match action {
            Action::List => 0..self.keys.len(),
            _ => key..key + 1,
        };
        let places = keys.map(|key| self.record(key, action, invoked)).collect();
        self.open.insert(request, places);
        if let Err(gone) = self.session.send(&message) {
            return self.lost(gone);
        }
        while !goes_on && self.open.contains_key(&request) {
            self.take_answer()?;
        }
        Ok(())
    }

    fn cancel_one(&mut self, key: usize) -> Result<()> {
        self.cancel(key).map(|_| ())
    }

    /// Cancels a watch of a key, if there is one that is not canceled yet.
    fn cancel(&mut self, key: usize) -> Result<bool> {
        let mut open: Vec<(&u64, &Vec<(usize, usize)>)> = self.open.iter().collect();
        open.sort_unstable();
        let is_its = |(request, places): &(&u64, &Vec<(usize, usize)>)| {
            !self.canceled.contains_key(request)
                && places.first().is_some_and(|(at, place)| {
                    *at == key && is_watch(&self.ops[*at][*place].action)
                })
        };
        let Some((request, places)) = open.into_iter().find(is_its) else {
            return Ok(false);
        };
        let (request, (_, place)) = (*request, places[0]);
        let watch = self.ops[key][place].invoked;
        let invoked = self.arena.tick();
        let place = self.record(key, Action::Cancel { watch }, invoked);
        self.canceled.insert(request, place);
        if let Err(gone) = self.session.send(&cancel(request)) {
            self.lost(gone)?;
        }
        Ok(true)
    }

    fn take_answer(&mut self) -> Result<()> {
        let message = match self.session.wait(|_| true) {
            Ok(message) => message,
            Err(gone) => return self.lost(gone),
        };
        let returned = self.arena.tick();
        let answer = Answer::new(&message)?;
        let known = match answer.is_progress {
            true => self.open.get(&answer.request).cloned(),
            false => self.open.remove(&answer.request),
        };
        for (key, place) in known.with_context(|| format!("answered twice: {message}"))? {
            let op = self.ops[key][place];
            let reply = answer.reply(self.keys.name(key), &op.action)?;
            self.learn(key, &op.action, &reply);
            self.answered(answer.request, (key, place), (returned, reply));
        }
        if !answer.is_progress {
            self.canceled.remove(&answer.request);
        }
        Ok(())
    }

    /// Notes an answer where it belongs.
    fn answered(&mut self, request: u64, at: (usize, usize), reply: (u64, Reply)) {
        let (key, place) = at;
        let op = self.ops[key][place];
        match reply.1 {
            Reply::Changed { .. } => self.ops[key].push(Op {
                action: Action::Told { watch: op.invoked },
                reply: Some(reply),
                ..op
            }),
            Reply::Canceled => {
                if let Some((key, place)) = self.canceled.get(&request) {
                    self.ops[*key][*place].reply = Some(reply);
                }
            }
            _ => self.ops[key][place].reply = Some(reply),
        }
    }

    /// What an answer says about values and tokens that are there, or were lately.
    fn learn(&mut self, key: usize, action: &Action, reply: &Reply) {
        let write = action.write();
        let (value, token) = match *reply {
            Reply::Read { value, token, .. }
            | Reply::Inspected { value, token, .. }
            | Reply::Changed { value, token } => (value, Some(token)),
            Reply::Listed(Some(row)) => (Some(row.value), Some(row.token)),
            Reply::Written(token) => {
                let value = write.and_then(|write| write.value);
                (value.map(Kept::Datum), Some(token))
            }
            Reply::Conflict(token) | Reply::Deleted { token, .. } => (None, Some(token)),
            Reply::Granted(token) => (None, Some(token)),
            _ => (None, None),
        };
        if let Some(Kept::Datum(value)) = value {
            self.keys.saw(key, value.number);
        }
        if let Some(token) = token {
            self.keys.saw_token(key, token);
        }
        let holds = write.is_some_and(|write| write.will.is_some());
        match *reply {
            Reply::Granted(token) => self.tokens[key].push(token),
            Reply::Written(token) if holds => self.tokens[key].push(token),
            _ => {}
        }
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
        self.canceled.clear();
        self.bound.fill(false);
        // Tokens of former sessions are known, but hold nothing.
        for tokens in &mut self.tokens {
            tokens.truncate(1);
        }
        Ok(())
    }

    fn end(&mut self, farewell: Farewell) -> Result<()> {
        let invoked = self.arena.tick();
        for key in 0..self.keys.len() {
            if self.bound[key] {
                self.record(key, Action::End, invoked);
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
            let is_echo = |message: &Value| message[0] == code::GOODBYE;
            let _ = self.session.wait(is_echo);
        }
    }
}

/// Whether it may wait for its turn.
fn may_wait(action: &Action) -> bool {
    match action {
        Action::Acquire(order) => order.wait != Wait::No,
        action => action.write().is_some_and(|write| write.watch),
    }
}

fn is_watch(action: &Action) -> bool {
    matches!(action, Action::Watch { .. })
}
