//! What a client of `fox.lock.*` does, whatever it speaks: asks for a key, keeps it, renews it,
//! releases it or lets its lease end.

use crate::actor::{Cx, Phase};
use crate::holds::{AskId, LIMIT, Mode, Wish};
use crate::ledger::ActorId;
use crate::net::LinkId;
use serde_json::{Value, json};

/// A call to be made; only one at a time.
pub struct Wanted {
    /// The last level of the procedure.
    pub name: &'static str,
    pub args: Vec<Value>,
    pub kwargs: Value,
}

#[derive(Clone, Copy, Debug)]
struct Mine {
    token: u64,
    /// When its lease ends.
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Asking {
        id: AskId,
        wish: Wish,
        floor: u64,
        wait: Option<u64>,
        is_canceled: bool,
    },
    /// It is given up at that moment, or the client finds out that it is lost.
    Holding(Mine, u64),
    Renewing(Mine),
    Releasing(Mine),
}

pub struct Holder {
    me: ActorId,
    keys: Vec<&'static str>,
    state: State,
}

impl Holder {
    pub fn new(me: ActorId, keys: Vec<&'static str>) -> Holder {
        let state = State::Idle;
        Holder { me, keys, state }
    }

    /// The session is over, and everything in it.
    pub fn down(&mut self) {
        self.state = State::Idle;
    }

    /// What is to be called now, if anything.
    pub fn act(&mut self, link: LinkId, cx: &mut Cx<'_>) -> Option<Wanted> {
        match self.state {
            State::Idle if cx.phase == Phase::Chaos && cx.dice.permille(700) => {
                Some(self.ask(link, cx))
            }
            State::Holding(mine, until) if until <= cx.now => Some(self.give_up(mine, cx)),
            State::Holding(mine, _) if cx.phase == Phase::Chaos && cx.dice.permille(200) => {
                Some(self.renew(mine, cx))
            }
            _ => None,
        }
    }

    fn ask(&mut self, link: LinkId, cx: &mut Cx<'_>) -> Wanted {
        let key = *cx.dice.pick(&self.keys);
        let mode = *cx
            .dice
            .pick(&[Mode::Mutex, Mode::Mutex, Mode::Shared, Mode::Permit]);
        let mut kwargs = json!({"mode": mode.name()});
        let mut permits = 1;
        if mode == Mode::Permit {
            permits = cx.dice.range(1, 2);
            (kwargs["limit"], kwargs["permits"]) = (LIMIT.into(), permits.into());
        }
        let ttl = cx.dice.permille(400).then(|| cx.dice.range(20, 1_500));
        let is_try = cx.dice.permille(200);
        let wait = match is_try {
            true => Some(0),
            false => cx.dice.permille(300).then(|| cx.dice.range(0, 2_000)),
        };
        let wish = Wish {
            key,
            mode,
            permits,
            ttl,
        };
        let id = cx.ledger.holds.asks(link, wish);
        kwargs["u"] = id.into();
        kwargs["ttl_ms"] = ttl.into();
        if !is_try {
            kwargs["wait_ms"] = wait.into();
        }
        let floor = cx.ledger.locks.seen(key);
        self.state = State::Asking {
            id,
            wish,
            floor,
            wait,
            is_canceled: false,
        };
        cx.note(self.me, || format!("asks for {key}: {kwargs}"));
        Wanted {
            name: if is_try { "try_acquire" } else { "acquire" },
            args: vec![spelled(key)],
            kwargs,
        }
    }

    fn renew(&mut self, mine: Mine, cx: &mut Cx<'_>) -> Wanted {
        self.state = State::Renewing(mine);
        let ttl = cx.dice.range(20, 1_500);
        cx.note(self.me, || format!("renews {mine:?} for {ttl}"));
        Wanted {
            name: "renew",
            args: vec![mine.token.into()],
            kwargs: json!({"ttl_ms": ttl}),
        }
    }

    fn give_up(&mut self, mine: Mine, cx: &mut Cx<'_>) -> Wanted {
        self.state = State::Releasing(mine);
        cx.note(self.me, || format!("releases {mine:?}"));
        Wanted {
            name: "release",
            args: vec![mine.token.into()],
            kwargs: Value::Null,
        }
    }

    /// Whether it is in line; from then on it may be told that it was canceled.
    pub fn cancels(&mut self) -> bool {
        match &mut self.state {
            State::Asking { is_canceled, .. } => !std::mem::replace(is_canceled, true),
            _ => false,
        }
    }

    /// It is told its place in line.
    pub fn place(&self, report: &Value, cx: &mut Cx<'_>) {
        let is_place = matches!(self.state, State::Asking { .. }) && report["position"].is_u64();
        let me = self.me;
        cx.ledger
            .require(is_place, || format!("actor {me}: {report} as a place"));
    }

    pub fn answer(&mut self, report: &Value, link: LinkId, cx: &mut Cx<'_>) {
        cx.note(self.me, || format!("is answered {report}"));
        let told = self.hear(report, link, cx);
        if let Err(what) = told {
            cx.ledger.fail(format!("actor {}: {what}", self.me));
        }
    }

    fn hear(&mut self, report: &Value, link: LinkId, cx: &mut Cx<'_>) -> Result<(), String> {
        let Some(token) = report["token"].as_u64() else {
            return Err(format!("an answer without token: {report}"));
        };
        let expires = report["expires"].as_u64();
        match self.state {
            State::Asking {
                id, wish, floor, ..
            } => {
                let facts = cx.ledger.links.get(&link);
                let is_over = facts.is_none_or(|facts| facts.ended);
                let end = cx
                    .ledger
                    .holds
                    .granted(id, (token, expires), is_over, cx.now)?;
                cx.ledger.locks.token(wish.key, token, floor, false)?;
                self.hold(Mine { token, end }, cx);
            }
            State::Renewing(mine) => {
                let end = cx.ledger.holds.renewed(link, mine.token, expires)?;
                let token = mine.token;
                self.hold(Mine { token, end }, cx);
            }
            State::Releasing(_) => self.state = State::Idle,
            State::Idle | State::Holding(..) => return Err(format!("{report} for nothing")),
        }
        Ok(())
    }

    /// For a while, or until it must be lost.
    fn hold(&mut self, mine: Mine, cx: &mut Cx<'_>) {
        let until = match mine.end.filter(|_| cx.dice.permille(300)) {
            Some(end) => end + 100,
            None => cx.now + cx.dice.range(0, 600),
        };
        self.state = State::Holding(mine, until);
    }

    pub fn error(&mut self, error: &str, link: LinkId, cx: &mut Cx<'_>) {
        cx.note(self.me, || format!("is refused: {error}"));
        let store = error == "wamp.error.unavailable" && cx.ledger.store_failures > 0;
        let judged = match self.state {
            State::Asking {
                wish,
                wait,
                is_canceled,
                ..
            } => {
                let known = match error {
                    "wamp.error.timeout" => wait.is_some_and(|wait| wait > 0),
                    "fox.error.lock_held" => wait == Some(0),
                    "wamp.error.canceled" => is_canceled,
                    // Its lease ended before the grant was on disk.
                    "fox.error.lock_lost" => wish.ttl.is_some(),
                    _ => store,
                };
                known
                    .then_some(())
                    .ok_or_else(|| format!("{wish:?}: {error}"))
            }
            State::Renewing(mine) | State::Releasing(mine) if error == "fox.error.lock_lost" => {
                cx.ledger.count("leases found lost");
                cx.ledger.holds.lost(link, mine.token)
            }
            // What ended the hold was not kept: to be asked once more.
            State::Renewing(mine) | State::Releasing(mine) if store => {
                self.state = State::Holding(mine, cx.now);
                return;
            }
            state => Err(format!("{error} in {state:?}")),
        };
        if let Err(what) = judged {
            cx.ledger.fail(format!("actor {}: {what}", self.me));
        }
        self.state = State::Idle;
    }

    pub fn waits(&self) -> Option<String> {
        match self.state {
            State::Idle => None,
            state => Some(format!("actor {} waits for locks: {state:?}", self.me)),
        }
    }
}

/// A key in WAMP's spelling, in which MQTT clients name it too.
fn spelled(key: &str) -> Value {
    key.replace('/', ".").into()
}
