//! A client of the retained store: compare-and-set counters, shared keys, a key of its own with a
//! will, and reads of all of them.

use crate::actor::{Cx, Phase};
use crate::ledger::{ActorId, Uid};
use crate::net::LinkId;
use crate::wamp::Role;
use crate::wamp_end::{CALL, PUBLISH, WampEnd, dict, uid_in, uri};
use protocols::wamp::message::{Call, Message, Publish};
use router_core::limits::WhenFull;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A PUBLISH to be sent, and what becomes of its answer.
struct Write<'a> {
    topic: &'a str,
    uid: Uid,
    options: Value,
    body: Option<Value>,
    open: Open,
}

enum Open {
    /// A plain write.
    Write(Uid),
    /// The counter is to become this.
    Step {
        key: &'static str,
        uid: Uid,
        value: u64,
        floor: u64,
    },
    /// Reads the counter before a step.
    Look {
        key: &'static str,
        highest: u64,
        floor: u64,
    },
    /// Reads a shared key.
    Read { key: &'static str, asked: u64 },
}

pub struct KvClient {
    me: ActorId,
    counters: Vec<&'static str>,
    shared: Vec<&'static str>,
    own: String,
    open: BTreeMap<(u64, u64), Open>,
    /// The will of the own key is for lost connections only.
    lost_only: bool,
}

impl KvClient {
    pub fn new(me: ActorId, counters: Vec<&'static str>, shared: Vec<&'static str>) -> KvClient {
        let own = format!("k/{me}");
        KvClient {
            me,
            counters,
            shared,
            own,
            open: BTreeMap::new(),
            lost_only: false,
        }
    }

    fn publish(&mut self, write: Write<'_>, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let Write {
            topic,
            uid,
            options,
            body,
            open,
        } = write;
        let acknowledge = options["acknowledge"] == true;
        let request = end.request(PUBLISH, acknowledge);
        if acknowledge {
            self.open.insert((PUBLISH, request), open);
        }
        cx.note(self.me, || {
            format!("writes {uid} to {topic}, request {request}: {options} {body:?}")
        });
        let args: Vec<Value> = body.into_iter().collect();
        let payload = end.payload(&args, Value::Null);
        if let Some(link) = end.link {
            cx.ledger.sent(link, uid);
        }
        let options = dict(options);
        end.send(
            cx,
            &Publish {
                request,
                options,
                topic: uri(topic),
                payload,
            }
            .into(),
        );
    }

    fn read(&mut self, key: &str, open: Open, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let request = end.request(CALL, true);
        self.open.insert((CALL, request), open);
        let payload = end.payload(&[json!(&*uri(key))], Value::Null);
        let procedure = "fox.kv.get".into();
        end.send(
            cx,
            &Call {
                request,
                options: dict(Value::Null),
                procedure,
                payload,
            }
            .into(),
        );
    }

    fn write_shared(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = *cx.dice.pick(&self.shared);
        let clears = cx.dice.permille(250);
        let uid = cx.ledger.publication(self.me, key, 1);
        let publication = cx.ledger.of(uid);
        (publication.retained, publication.clears) = (true, clears);
        let acknowledge = cx.dice.permille(700);
        let options = json!({"acknowledge": acknowledge, "retain": true, "x_qos": 1});
        let body = (!clears).then(|| json!({"u": uid}));
        let open = Open::Write(uid);
        self.publish(
            Write {
                topic: key,
                uid,
                options,
                body,
                open,
            },
            end,
            cx,
        );
    }

    fn write_own(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = self.own.clone();
        let uid = cx.ledger.publication(self.me, &key, 0);
        cx.ledger.of(uid).retained = true;
        let mut options = json!({"acknowledge": true, "retain": true});
        self.lost_only = cx.dice.permille(300);
        if cx.dice.permille(800) {
            let will = cx.ledger.publication(self.me, &key, 1);
            let publication = cx.ledger.of(will);
            publication.retained = true;
            publication.clears = cx.dice.permille(300);
            options["will"] = if publication.clears {
                Value::Null
            } else {
                json!({"u": will})
            };
            if self.lost_only {
                options["will_on"] = "lost".into();
            }
            if let Some(link) = end.link {
                cx.ledger.arm(link, will, Some(uid), Some(key.clone()));
            }
        }
        let (body, open) = (Some(json!({"u": uid})), Open::Write(uid));
        self.publish(
            Write {
                topic: &key,
                uid,
                options,
                body,
                open,
            },
            end,
            cx,
        );
    }

    fn look(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = *cx.dice.pick(&self.counters);
        let (highest, floor) = (cx.ledger.locks.highest(key), cx.ledger.locks.seen(key));
        self.read(
            key,
            Open::Look {
                key,
                highest,
                floor,
            },
            end,
            cx,
        );
    }

    fn step(&mut self, key: &'static str, now: Option<u64>, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let value = now.unwrap_or(0) + 1;
        let uid = cx.ledger.publication(self.me, key, 0);
        cx.ledger.of(uid).retained = true;
        let floor = cx.ledger.locks.seen(key);
        let when = now.map_or(Value::Null, |now| json!({"n": now}));
        let mut options = json!({"acknowledge": true, "retain": true, "when": when});
        if cx.dice.permille(100) {
            options["watch"] = true.into();
            options["watch_timeout"] = cx.dice.range(1, 500).into();
        }
        let body = Some(json!({"n": value, "u": uid}));
        let open = Open::Step {
            key,
            uid,
            value,
            floor,
        };
        self.publish(
            Write {
                topic: key,
                uid,
                options,
                body,
                open,
            },
            end,
            cx,
        );
    }

    fn result(&mut self, request: u64, args: &[Value], end: &mut WampEnd, cx: &mut Cx<'_>) {
        let report = args.first().cloned().unwrap_or_default();
        cx.note(self.me, || format!("reads {report}"));
        match self.open.remove(&(CALL, request)) {
            Some(Open::Read { key, asked }) => {
                let found = uid_in(&report["value"], &Value::Null);
                if let Err(what) = cx.ledger.may_read(key, found, asked, false) {
                    cx.ledger.fail(format!("actor {} reads: {what}", self.me));
                }
            }
            Some(Open::Look {
                key,
                highest,
                floor,
            }) => {
                let value = report["value"]["n"].as_u64();
                let token = report["token"].as_u64().unwrap_or(0);
                let fits = value.unwrap_or(0) >= highest && token >= floor;
                cx.ledger.require(fits, || {
                    format!("{key}: {report} after it was {highest} with token {floor}")
                });
                if cx.phase == Phase::Chaos {
                    self.step(key, value, end, cx);
                }
            }
            _ => cx
                .ledger
                .fail(format!("actor {}: RESULT {request} out of place", self.me)),
        }
    }

    fn refused(&mut self, kind: u64, request: u64, error: &str, cx: &mut Cx<'_>) {
        let full = cx.ledger.queue_full == Some(WhenFull::RefusePublisher);
        let store = error == "wamp.error.unavailable" && cx.ledger.store_failures > 0
            || error == "reynard.error.quota_exceeded" && full;
        let condition = matches!(error, "wamp.error.invalid_payload" | "wamp.error.timeout");
        match self.open.remove(&(kind, request)) {
            Some(Open::Write(uid)) => {
                cx.ledger
                    .require(store, || format!("write {uid} was refused: {error}"));
                cx.ledger.refused(uid);
            }
            Some(Open::Step { uid, .. }) => {
                cx.ledger.require(store || condition, || {
                    format!("step {uid} was refused: {error}")
                });
                if condition {
                    cx.ledger.forbid(uid, error);
                }
                cx.ledger.refused(uid);
            }
            Some(_) => cx
                .ledger
                .require(store, || format!("fox.kv.get failed: {error}")),
            None => cx
                .ledger
                .fail(format!("actor {}: ERROR {request} out of place", self.me)),
        }
    }
}

impl Role for KvClient {
    fn up(&mut self, _: &mut WampEnd, _: &mut Cx<'_>) {}

    fn down(&mut self, _: &mut Cx<'_>) {
        self.open.clear();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Published(m) => match self.open.remove(&(PUBLISH, m.request)) {
                Some(Open::Write(uid)) => cx.ledger.acked(uid),
                Some(Open::Step {
                    key,
                    uid,
                    value,
                    floor,
                }) => {
                    cx.ledger.acked(uid);
                    let token = m.publication;
                    let grows = cx.ledger.locks.token(key, token, floor, false);
                    let counted = cx.ledger.locks.counted(key, value, token);
                    if let Err(what) = grows.and(counted) {
                        cx.ledger.fail(what);
                    }
                }
                _ => cx
                    .ledger
                    .fail(format!("actor {}: {m:?} out of place", self.me)),
            },
            Message::Error(m) => self.refused(m.request_type, m.request, &m.error, cx),
            Message::Result(m) => {
                let (args, _) = end.values(&m.payload, cx);
                self.result(m.request, &args, end, cx);
            }
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if cx.phase != Phase::Chaos {
            return;
        }
        match cx.dice.range(0, 9) {
            0..=2 if !self.shared.is_empty() => self.write_shared(end, cx),
            3 | 4 => self.write_own(end, cx),
            5 | 6 if !self.shared.is_empty() => {
                let key = *cx.dice.pick(&self.shared);
                let asked = cx.ledger.tick();
                self.read(key, Open::Read { key, asked }, end, cx);
            }
            _ if !self.counters.is_empty() => self.look(end, cx),
            _ => {}
        }
    }

    fn leaves(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        cx.ledger.waive(link, true);
    }
}
