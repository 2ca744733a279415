//! A client of `fox.kv.put`, `delete` and `cas`: keys that many write, and a counter that other
//! clients count up too, by conditional publishes.

use crate::actor::{Cx, Phase};
use crate::ledger::{ActorId, Uid};
use crate::wamp::Role;
use crate::wamp_end::{CALL, WampEnd, dict, uid_in, uri};
use protocols::wamp::message::{Call, ErrorMessage, Message};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Copy)]
enum Open {
    /// A write that always fits.
    Write {
        key: &'static str,
        uid: Uid,
        floor: u64,
    },
    /// A write over what has this token; of a counter that is to become `value`.
    Swap {
        key: &'static str,
        uid: Uid,
        token: u64,
        value: Option<u64>,
        floor: u64,
    },
    /// Reads a key, perhaps to swap it.
    Look {
        key: &'static str,
        asked: u64,
        highest: u64,
        floor: u64,
    },
}

pub struct KvCaller {
    me: ActorId,
    keys: Vec<&'static str>,
    counter: &'static str,
    open: BTreeMap<u64, Open>,
}

impl KvCaller {
    pub fn new(me: ActorId, keys: Vec<&'static str>, counter: &'static str) -> KvCaller {
        let open = BTreeMap::new();
        KvCaller {
            me,
            keys,
            counter,
            open,
        }
    }

    fn call(
        &mut self,
        (name, args, kwargs): (&str, Vec<Value>, Value),
        open: Open,
        end: &mut WampEnd,
        cx: &mut Cx<'_>,
    ) {
        let request = end.request(CALL, true);
        self.open.insert(request, open);
        cx.note(self.me, || {
            format!("calls {name} {args:?} {kwargs}, request {request}")
        });
        let payload = end.payload(&args, kwargs);
        let call = Call {
            request,
            options: dict(Value::Null),
            procedure: format!("fox.kv.{name}").into(),
            payload,
        };
        end.send(cx, &call.into());
    }

    /// A number for what is to be written.
    fn uid(&self, key: &str, clears: bool, cx: &mut Cx<'_>) -> Uid {
        let uid = cx.ledger.publication(self.me, key, 0);
        let publication = cx.ledger.of(uid);
        (publication.retained, publication.clears) = (true, clears);
        uid
    }

    fn write(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = *cx.dice.pick(&self.keys);
        let clears = cx.dice.permille(300);
        let uid = self.uid(key, clears, cx);
        let floor = cx.ledger.locks.seen(key);
        let spelled = json!(&*uri(key));
        let (name, args) = match clears {
            true => ("delete", vec![spelled]),
            false => ("put", vec![spelled, json!({"u": uid})]),
        };
        let open = Open::Write { key, uid, floor };
        self.call((name, args, json!({"u": uid})), open, end, cx);
    }

    fn look(&mut self, key: &'static str, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let open = Open::Look {
            key,
            asked: cx.ledger.tick(),
            highest: cx.ledger.locks.highest(key),
            floor: cx.ledger.locks.seen(key),
        };
        let args = vec![json!(&*uri(key))];
        self.call(("get", args, Value::Null), open, end, cx);
    }

    fn swap(
        &mut self,
        (key, token, now): (&'static str, u64, Option<u64>),
        end: &mut WampEnd,
        cx: &mut Cx<'_>,
    ) {
        let is_counter = key == self.counter;
        let value = is_counter.then(|| now.unwrap_or(0) + 1);
        let clears = !is_counter && cx.dice.permille(300);
        let uid = self.uid(key, clears, cx);
        let floor = cx.ledger.locks.seen(key);
        let spelled = json!(&*uri(key));
        let body = match value {
            Some(value) => json!({"n": value, "u": uid}),
            None => json!({"u": uid}),
        };
        let open = Open::Swap {
            key,
            uid,
            token,
            value,
            floor,
        };
        let call = match clears {
            true => ("delete", vec![spelled], json!({"token": token, "u": uid})),
            false => ("cas", vec![spelled, token.into(), body], json!({"u": uid})),
        };
        self.call(call, open, end, cx);
    }

    fn answered(
        &mut self,
        request: u64,
        report: &Value,
        end: &mut WampEnd,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let token = report["token"].as_u64().unwrap_or(0);
        match self.open.remove(&request) {
            Some(Open::Write { key, uid, floor }) => {
                cx.ledger.acked(uid);
                // Nothing is written where nothing was.
                let is_idle = report["existed"] == false;
                cx.ledger.locks.token(key, token, floor, is_idle)
            }
            Some(Open::Swap {
                key,
                uid,
                token: over,
                value,
                floor,
            }) => {
                cx.ledger.acked(uid);
                if report["existed"] == false {
                    return cx.ledger.locks.token(key, token, floor, true);
                }
                cx.ledger.locks.token(key, token, floor.max(over), false)?;
                cx.ledger.locks.swapped(key, over, token)?;
                match value {
                    Some(value) => cx.ledger.locks.counted(key, value, token),
                    None => Ok(()),
                }
            }
            Some(Open::Look {
                key,
                asked,
                highest,
                floor,
            }) => {
                let count = report["value"]["n"].as_u64();
                if count.unwrap_or(0) < highest || token < floor {
                    return Err(format!("{report} after {highest} with token {floor}"));
                }
                if key != self.counter {
                    let found = uid_in(&report["value"], &Value::Null);
                    cx.ledger.may_read(key, found, asked, false)?;
                }
                if cx.phase == Phase::Chaos && cx.dice.permille(800) {
                    self.swap((key, token, count), end, cx);
                }
                Ok(())
            }
            None => Err(format!("RESULT {request} out of place")),
        }
    }

    fn failed(&mut self, m: &ErrorMessage, end: &WampEnd, cx: &mut Cx<'_>) -> Result<(), String> {
        let (_, kwargs) = end.values(&m.payload, cx);
        let store = &*m.error == "wamp.error.unavailable" && cx.ledger.store_failures > 0;
        match self.open.remove(&m.request) {
            Some(Open::Swap {
                key,
                uid,
                token,
                floor,
                ..
            }) if &*m.error == "fox.error.conflict" => {
                cx.ledger.count("swaps that came too late");
                cx.ledger.forbid(uid, &m.error);
                cx.ledger.refused(uid);
                let present = kwargs.get("token").and_then(Value::as_u64).unwrap_or(0);
                if present == token {
                    return Err(format!("{key} has token {token}, and that is a conflict"));
                }
                cx.ledger.locks.token(key, present, floor, true)
            }
            Some(Open::Write { uid, .. } | Open::Swap { uid, .. }) if store => {
                cx.ledger.refused(uid);
                Ok(())
            }
            Some(Open::Look { .. }) if store => Ok(()),
            _ => Err(format!("{m:?}")),
        }
    }
}

impl Role for KvCaller {
    fn up(&mut self, _: &mut WampEnd, _: &mut Cx<'_>) {}

    fn down(&mut self, _: &mut Cx<'_>) {
        self.open.clear();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let judged = match message {
            Message::Result(m) => {
                let (args, _) = end.values(&m.payload, cx);
                let report = args.first().cloned().unwrap_or_default();
                cx.note(self.me, || format!("is answered {}: {report}", m.request));
                self.answered(m.request, &report, end, cx)
            }
            Message::Error(m) => self.failed(&m, end, cx),
            _ => Ok(()),
        };
        if let Err(what) = judged {
            cx.ledger.fail(format!("actor {}: {what}", self.me));
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if cx.phase != Phase::Chaos || self.open.len() > 4 {
            return;
        }
        let counts = cx.dice.flip();
        match cx.dice.range(0, 9) {
            0..=3 => self.write(end, cx),
            _ if counts => self.look(self.counter, end, cx),
            _ => {
                let key = *cx.dice.pick(&self.keys);
                self.look(key, end, cx);
            }
        }
    }
}
