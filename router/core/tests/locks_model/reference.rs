//! The rules of locks, read plainly: lists that are searched, and every change worked out anew.

use std::collections::BTreeMap;

pub const KEYS: [&str; 3] = ["a", "b", "c"];
/// Places in line that are told one by one.
const NEAR: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Alone,
    Shared,
    Permit,
}

/// What is asked of a key. Values are numbers: 0 is none.
#[derive(Clone, Debug)]
pub struct Ask {
    pub mode: Mode,
    pub permits: u64,
    pub limit: u64,
    pub ttl: Option<u64>,
    pub reentrant: bool,
    pub data: usize,
    pub progress: bool,
}

#[derive(Clone, Debug)]
pub struct Write {
    pub value: usize,
    pub when: Option<usize>,
    pub watch: bool,
    pub will: bool,
}

#[derive(Clone, Debug)]
pub enum What {
    Hold(Ask),
    Write(Write),
}

#[derive(Clone, Debug)]
pub struct Waiter {
    pub session: usize,
    pub request: u64,
    pub what: What,
    pub deadline: Option<(u64, u64)>,
    pub told: usize,
}

#[derive(Clone, Debug)]
pub struct Holder {
    pub uid: u64,
    pub session: usize,
    pub mode: Mode,
    pub permits: u64,
    pub limit: u64,
    pub count: u64,
    pub ttl: Option<u64>,
    pub ends: Option<(u64, u64)>,
    pub data: usize,
    pub durable: bool,
    pub requests: Vec<u64>,
}

/// A value that was published; with an owner it holds the key.
#[derive(Clone, Debug)]
pub struct Raw {
    pub value: usize,
    pub owner: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Key {
    pub holders: Vec<Holder>,
    pub raw: Option<Raw>,
    pub line: Vec<Waiter>,
    /// Its last write is not on disk yet.
    pub fresh: bool,
}

/// What the key's subscribers must hear: the grant that it tells of, if it tells of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Granted(u64),
    Other { clears: bool },
}

/// An answer that waits for the disk.
#[derive(Clone, Debug)]
pub struct Held {
    pub session: usize,
    pub request: u64,
    pub text: String,
    /// What is said instead if the disk refuses; `None`: it stands and is said later.
    pub instead: Option<String>,
}

#[derive(Debug, Default)]
pub struct Reference {
    pub durable: bool,
    pub down: bool,
    pub now: u64,
    pub keys: [Key; KEYS.len()],
    pub held: Vec<Held>,
    pub told: BTreeMap<usize, Vec<String>>,
    pub said: [Vec<Said>; KEYS.len()],
    pub serial: u64,
}

fn rung(place: usize) -> usize {
    if place <= NEAR {
        return place;
    }
    let mut power = 1;
    while power < place {
        power *= 2;
    }
    power
}

impl Waiter {
    fn is_in_line(&self) -> bool {
        match &self.what {
            What::Hold(_) => true,
            What::Write(write) => write.when == Some(0),
        }
    }
}

impl Key {
    pub fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    fn is_other_limit(&self, ask: &Ask) -> bool {
        let permits = |mode| mode == Mode::Permit;
        let mut holders = self.holders.iter();
        permits(ask.mode) && holders.any(|h| permits(h.mode) && h.limit != ask.limit)
    }

    fn fits(&self, ask: &Ask) -> bool {
        let beside = self
            .holders
            .iter()
            .all(|holder| match (holder.mode, ask.mode) {
                (Mode::Shared, Mode::Shared) => true,
                (Mode::Permit, Mode::Permit) => holder.limit == ask.limit,
                _ => false,
            });
        let taken: u64 = self.holders.iter().map(|h| h.permits).sum();
        let room = ask.mode != Mode::Permit || taken + ask.permits <= ask.limit;
        self.raw.is_none() && beside && room
    }

    /// What a condition sees: the published value, or what the only holder says.
    fn holds(&self, when: usize) -> bool {
        match (self.holders.as_slice(), &self.raw) {
            ([], None) => when == 0,
            ([], Some(raw)) => raw.value == when,
            ([holder], _) if holder.mode == Mode::Alone => when != 0 && holder.data == when,
            _ => false,
        }
    }

    fn sole(&self, session: usize) -> bool {
        matches!(self.holders.as_slice(), [h] if h.mode == Mode::Alone && h.session == session)
    }
}

impl Reference {
    pub fn tell(&mut self, session: usize, text: String) {
        self.told.entry(session).or_default().push(text);
    }

    /// Says it now, or when what it tells of is on disk.
    fn answer(&mut self, session: usize, request: u64, text: String, instead: Option<String>) {
        if !self.durable {
            return self.tell(session, text);
        }
        self.held.push(Held {
            session,
            request,
            text,
            instead,
        });
    }

    /// The key was written.
    fn say(&mut self, key: usize, said: Said) {
        self.said[key].push(said);
        self.keys[key].fresh = self.durable && !self.down;
    }

    fn failed(&mut self, session: usize, request: u64, kind: &str) {
        self.tell(session, format!("failed {request} {kind}"));
    }

    fn refused(&mut self, session: usize, request: u64, kind: &str) {
        self.tell(session, format!("refused {request} {kind}"));
    }

    /// Refuses for what the key holds, which may not be on disk yet.
    fn refused_for(&mut self, key: usize, (how, session, request): (&str, usize, u64), kind: &str) {
        let text = format!("{how} {request} {kind}");
        if self.keys[key].fresh {
            let instead = Some(format!("{how} {request} StorageUnavailable"));
            self.answer(session, request, text, instead);
        } else {
            self.tell(session, text);
        }
    }

    /// What ended the hold may not be on disk yet.
    fn lost_hold(&mut self, session: usize, request: u64) {
        match self.keys.iter().any(|key| key.fresh) {
            true => {
                let text = format!("failed {request} LockLost");
                let instead = Some(format!("failed {request} StorageUnavailable"));
                self.answer(session, request, text, instead);
            }
            false => self.failed(session, request, "LockLost"),
        }
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn lease(&mut self, ttl: Option<u64>) -> Option<(u64, u64)> {
        ttl.map(|ttl| (self.now + ttl, self.serial()))
    }

    pub fn acquire(
        &mut self,
        (session, request): (usize, u64),
        key: usize,
        ask: Ask,
        wait: Option<u64>,
        only_now: bool,
    ) {
        if ask.reentrant && self.again(session, request, key, &ask) {
            return;
        }
        let state = &self.keys[key];
        if state.is_other_limit(&ask) {
            self.failed(session, request, "InvalidArgument");
        } else if state.fits(&ask) && !state.line.iter().any(Waiter::is_in_line) {
            self.grant(session, request, key, ask);
        } else if only_now || wait == Some(0) {
            self.refused_for(key, ("failed", session, request), "LockHeld");
        } else {
            self.park(session, request, key, What::Hold(ask), wait);
        }
    }

    fn park(&mut self, session: usize, request: u64, key: usize, what: What, wait: Option<u64>) {
        let deadline = self.lease(wait);
        let told = usize::MAX;
        self.keys[key].line.push(Waiter {
            session,
            request,
            what,
            deadline,
            told,
        });
        self.tell_places(key);
    }

    fn again(&mut self, session: usize, request: u64, key: usize, ask: &Ask) -> bool {
        let holders = &self.keys[key].holders;
        let mine = |h: &Holder| h.session == session && h.mode == ask.mode;
        let Some(at) = holders.iter().position(mine) else {
            return false;
        };
        if self.keys[key].is_other_limit(ask) {
            self.failed(session, request, "InvalidArgument");
            return true;
        }
        if ask.ttl.is_some() {
            let ends = self.lease(ask.ttl);
            let holder = &mut self.keys[key].holders[at];
            (holder.ttl, holder.ends) = (ask.ttl, ends);
        }
        let holder = &mut self.keys[key].holders[at];
        holder.count += 1;
        if !holder.durable {
            holder.requests.push(request);
        }
        let (ends, durable) = (holder.ends, holder.durable);
        let text = granted(request, key, ends);
        self.answer_of(durable, session, request, text);
        true
    }

    /// About a hold: said at once if its grant is on disk.
    fn answer_of(&mut self, durable: bool, session: usize, request: u64, text: String) {
        match durable {
            true => self.tell(session, text),
            false => {
                let instead = Some(format!("failed {request} StorageUnavailable"));
                self.answer(session, request, text, instead);
            }
        }
    }

    fn grant(&mut self, session: usize, request: u64, key: usize, ask: Ask) {
        if self.down {
            return self.failed(session, request, "StorageUnavailable");
        }
        let uid = self.serial();
        let ends = self.lease(ask.ttl);
        let durable = !self.durable;
        self.keys[key].holders.push(Holder {
            uid,
            session,
            mode: ask.mode,
            permits: if ask.mode == Mode::Permit {
                ask.permits
            } else {
                1
            },
            limit: ask.limit,
            count: 1,
            ttl: ask.ttl,
            ends,
            data: ask.data,
            durable,
            requests: vec![request],
        });
        self.say(key, Said::Granted(uid));
        self.answer_of(durable, session, request, granted(request, key, ends));
    }

    /// Lets in whose turn it is, in the order of coming, until it is nobody's.
    pub fn serve(&mut self, key: usize) {
        while !self.down {
            let state = &self.keys[key];
            let turn = state.line.iter().enumerate().position(|(at, waiter)| {
                let blocked = state.line[..at].iter().any(Waiter::is_in_line);
                match &waiter.what {
                    What::Hold(ask) => !blocked && (state.fits(ask) || state.is_other_limit(ask)),
                    What::Write(write) => {
                        !state.is_held() && write.when.is_some_and(|when| state.holds(when))
                    }
                }
            });
            let Some(at) = turn else {
                break;
            };
            let waiter = self.keys[key].line.remove(at);
            match waiter.what {
                What::Hold(ask) if self.keys[key].is_other_limit(&ask) => {
                    self.failed(waiter.session, waiter.request, "InvalidArgument");
                }
                What::Hold(ask) => self.grant(waiter.session, waiter.request, key, ask),
                What::Write(write) => self.store(waiter.session, waiter.request, key, &write),
            }
        }
        self.tell_places(key);
    }

    fn tell_places(&mut self, key: usize) {
        let mut place = 0;
        let mut told = Vec::new();
        for waiter in &mut self.keys[key].line {
            if !waiter.is_in_line() {
                continue;
            }
            place += 1;
            let What::Hold(ask) = &waiter.what else {
                continue;
            };
            let is_new = waiter.told == usize::MAX;
            if is_new || rung(place) < rung(waiter.told) {
                waiter.told = place;
                if ask.progress {
                    told.push((waiter.session, format!("place {} {place}", waiter.request)));
                }
            }
        }
        for (session, text) in told {
            self.tell(session, text);
        }
    }

    pub fn write(
        &mut self,
        (session, request): (usize, u64),
        key: usize,
        write: Write,
        wait: Option<u64>,
    ) {
        let state = &self.keys[key];
        let sole = state.sole(session);
        if sole && (write.when.is_some() || write.will) {
            return self.refused_for(key, ("refused", session, request), "InvalidArgument");
        }
        if let Some(when) = write.when
            && (!state.holds(when) || (state.is_held() && write.watch))
        {
            match write.watch {
                true => self.park(session, request, key, What::Write(write), wait),
                false => self.refused_for(key, ("refused", session, request), "ConditionFailed"),
            }
            return;
        }
        if state.is_held() && !sole {
            return self.refused_for(key, ("refused", session, request), "LockHeld");
        }
        let is_owned = state.raw.as_ref().is_some_and(|raw| raw.owner.is_some());
        if self.down && !(write.value == 0 && (sole || is_owned)) {
            return self.refused(session, request, "StorageUnavailable");
        }
        self.store(session, request, key, &write);
        self.serve(key);
    }

    fn store(&mut self, session: usize, request: u64, key: usize, write: &Write) {
        let state = &mut self.keys[key];
        let clears = write.value == 0;
        let held = state.is_held();
        let releases = clears && (held || state.raw.as_ref().is_some_and(|r| r.owner.is_some()));
        if held && clears {
            state.holders.clear();
        } else if held {
            state.holders[0].data = write.value;
        } else {
            let owner = write.will.then_some(session);
            state.raw = (!clears).then_some(Raw {
                value: write.value,
                owner,
            });
        }
        self.say(key, Said::Other { clears });
        let instead = (!releases).then(|| format!("refused {request} StorageUnavailable"));
        self.answer(session, request, format!("done {request}"), instead);
    }

    /// Ends holds of one key at once.
    fn end(&mut self, key: usize, uids: &[u64], involuntary: bool) {
        let state = &mut self.keys[key];
        let gone: Vec<Holder> = state
            .holders
            .extract_if(.., |holder| uids.contains(&holder.uid))
            .collect();
        let clears = state.holders.is_empty();
        self.say(key, Said::Other { clears });
        for holder in gone.iter().filter(|h| involuntary && !h.durable) {
            for request in &holder.requests {
                let mine = |h: &Held| h.session == holder.session && h.request == *request;
                if self.held.extract_if(.., |h| mine(h)).count() > 0 {
                    let instead = Some(format!("failed {request} StorageUnavailable"));
                    let text = format!("failed {request} LockLost");
                    self.answer(holder.session, *request, text, instead);
                }
            }
        }
        self.serve(key);
    }

    fn find(&self, session: usize, uid: u64) -> Option<(usize, usize)> {
        let keys = self.keys.iter().enumerate();
        keys.flat_map(|(key, state)| {
            let holders = state.holders.iter().enumerate();
            holders.map(move |(at, holder)| (key, at, holder))
        })
        .find(|(_, _, holder)| holder.uid == uid && holder.session == session)
        .map(|(key, at, _)| (key, at))
    }

    pub fn release(&mut self, session: usize, request: u64, uid: u64) {
        let Some((key, at)) = self.find(session, uid) else {
            return self.lost_hold(session, request);
        };
        let holder = &mut self.keys[key].holders[at];
        if holder.count > 1 {
            holder.count -= 1;
            let (left, durable) = (holder.count, holder.durable);
            let text = format!("released {request} {left}");
            return self.answer_of(durable, session, request, text);
        }
        self.end(key, &[uid], false);
        self.answer(session, request, format!("released {request} 0"), None);
    }

    pub fn renew(&mut self, session: usize, request: u64, uid: u64, ttl: Option<u64>) {
        let Some((key, at)) = self.find(session, uid) else {
            return self.lost_hold(session, request);
        };
        let ttl = ttl.or(self.keys[key].holders[at].ttl);
        let ends = self.lease(ttl);
        let holder = &mut self.keys[key].holders[at];
        (holder.ttl, holder.ends) = (ttl, ends);
        let durable = holder.durable;
        let text = format!("renewed {request} {:?}", ends.map(|(at, _)| at));
        self.answer_of(durable, session, request, text);
    }

    pub fn break_key(&mut self, session: usize, request: u64, key: usize) {
        let uids: Vec<u64> = self.keys[key].holders.iter().map(|h| h.uid).collect();
        let mut broken = uids.len();
        if !uids.is_empty() {
            self.end(key, &uids, true);
        } else if self.keys[key]
            .raw
            .take_if(|raw| raw.owner.is_some())
            .is_some()
        {
            broken = 1;
            self.say(key, Said::Other { clears: true });
            self.serve(key);
        }
        let text = format!("broke {request} {broken}");
        match broken {
            0 => self.tell(session, text),
            _ => self.answer(session, request, text, None),
        }
    }

    pub fn cancel(&mut self, session: usize, request: u64) {
        for key in 0..KEYS.len() {
            let mine = |w: &mut Waiter| {
                w.session == session && w.request == request && matches!(w.what, What::Hold(_))
            };
            if self.keys[key].line.extract_if(.., mine).count() > 0 {
                self.failed(session, request, "Canceled");
                self.serve(key);
            }
        }
    }

    pub fn leave(&mut self, session: usize) {
        let mut left = Vec::new();
        for (key, state) in self.keys.iter_mut().enumerate() {
            let before = state.line.len();
            state.line.retain(|waiter| waiter.session != session);
            left.extend((state.line.len() < before).then_some(key));
        }
        for key in left {
            self.serve(key);
        }
        let mut owned: Vec<usize> = Vec::new();
        let mut held: Vec<(u64, usize)> = Vec::new();
        for (key, state) in self.keys.iter().enumerate() {
            let raw = state.raw.as_ref().filter(|raw| raw.owner == Some(session));
            owned.extend(raw.map(|_| key));
            let mine = state.holders.iter().filter(|h| h.session == session);
            held.extend(mine.map(|h| (h.uid, key)));
        }
        held.sort_unstable();
        for key in owned {
            self.keys[key].raw = None;
            self.say(key, Said::Other { clears: true });
            self.serve(key);
        }
        for (uid, key) in held {
            self.end(key, &[uid], false);
        }
        self.told.remove(&session);
        self.held.retain(|held| held.session != session);
    }

    pub fn pass(&mut self, by: u64) {
        self.now += by;
        while let Some((_, key, due)) = self.next_due() {
            match due {
                Due::Lease(uid) => self.end(key, &[uid], true),
                Due::Waiter(at) => {
                    let waiter = self.keys[key].line.remove(at);
                    let how = match waiter.what {
                        What::Hold(_) => "failed",
                        What::Write(_) => "refused",
                    };
                    self.refused_for(key, (how, waiter.session, waiter.request), "Timeout");
                    self.serve(key);
                }
            }
        }
    }

    fn next_due(&self) -> Option<((u64, u64), usize, Due)> {
        let mut due = Vec::new();
        for (key, state) in self.keys.iter().enumerate() {
            for holder in &state.holders {
                due.extend(holder.ends.map(|ends| (ends, key, Due::Lease(holder.uid))));
            }
            for (at, waiter) in state.line.iter().enumerate() {
                due.extend(waiter.deadline.map(|ends| (ends, key, Due::Waiter(at))));
            }
        }
        due.retain(|((at, _), ..)| *at <= self.now);
        due.into_iter().min_by_key(|(when, ..)| *when)
    }

    /// Everything is on disk.
    pub fn committed(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.tell(held.session, held.text);
        }
        for holder in self.keys.iter_mut().flat_map(|key| &mut key.holders) {
            holder.durable = true;
            holder.requests.clear();
        }
        self.keys.iter_mut().for_each(|key| key.fresh = false);
    }

    /// Nothing since the last commit is: grants are taken back, ends stand. What was published is
    /// for whoever compares to find out.
    pub fn lost(&mut self) {
        self.down = true;
        for held in std::mem::take(&mut self.held) {
            match held.instead {
                Some(text) => self.tell(held.session, text),
                None => self.held.push(held),
            }
        }
        for key in &mut self.keys {
            key.holders.retain(|holder| holder.durable);
            key.fresh = false;
        }
    }

    pub fn recovered(&mut self) {
        self.committed();
        self.down = false;
        for key in 0..KEYS.len() {
            self.serve(key);
        }
        self.committed();
    }
}

#[derive(Debug)]
enum Due {
    Lease(u64),
    Waiter(usize),
}

fn granted(request: u64, key: usize, ends: Option<(u64, u64)>) -> String {
    format!(
        "granted {request} {} {:?}",
        KEYS[key],
        ends.map(|(at, _)| at)
    )
}
