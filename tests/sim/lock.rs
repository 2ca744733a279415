//! A client of locks, as the README shows them: `retain`, `when: null`, `watch`, `will: null`.

use crate::actor::{Cx, Phase};
use crate::ledger::{ActorId, Uid};
use crate::locks::Grant;
use crate::wamp::Role;
use crate::wamp_end::{CALL, PUBLISH, WampEnd, dict, uri};
use protocols::wamp::message::{Call, Message, Publish};
use serde_json::{Value, json};
use std::collections::BTreeMap;

enum State {
    Idle,
    Asking {
        request: u64,
        uid: Uid,
        key: &'static str,
        floor: u64,
    },
    Holding {
        key: &'static str,
        until: u64,
    },
    Releasing {
        request: u64,
        key: &'static str,
        uid: Uid,
        floor: u64,
    },
}

pub struct LockClient {
    me: ActorId,
    keys: Vec<&'static str>,
    state: State,
    /// Reads of a key's token: request, key, and what it must reach.
    reads: BTreeMap<u64, (&'static str, u64)>,
}

impl LockClient {
    pub fn new(me: ActorId, keys: Vec<&'static str>) -> LockClient {
        LockClient {
            me,
            keys,
            state: State::Idle,
            reads: BTreeMap::new(),
        }
    }

    fn ask(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = *cx.dice.pick(&self.keys);
        let uid = cx.ledger.publication(self.me, key, 0);
        cx.ledger.of(uid).retained = true;
        let request = end.request(PUBLISH, true);
        let mut options = json!({"acknowledge": true, "retain": true, "when": null, "will": null});
        if cx.dice.permille(850) {
            options["watch"] = true.into();
            if cx.dice.permille(150) {
                options["watch_timeout"] = cx.dice.range(1, 2_000).into();
            }
        }
        let floor = cx.ledger.locks.seen(key);
        self.state = State::Asking {
            request,
            uid,
            key,
            floor,
        };
        cx.note(self.me, || {
            format!("asks for {key} with {uid}, request {request}: {options}")
        });
        let payload = end.payload(&[], json!({"u": uid}));
        let options = dict(options);
        if let Some(link) = end.link {
            cx.ledger.sent(link, uid);
        }
        end.send(
            cx,
            &Publish {
                request,
                options,
                topic: uri(key),
                payload,
            }
            .into(),
        );
    }

    fn release(&mut self, key: &'static str, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let uid = cx.ledger.publication(self.me, key, 0);
        let publication = cx.ledger.of(uid);
        (publication.retained, publication.clears) = (true, true);
        let request = end.request(PUBLISH, true);
        let floor = cx.ledger.locks.seen(key);
        self.state = State::Releasing {
            request,
            key,
            uid,
            floor,
        };
        cx.note(self.me, || {
            format!("releases {key} with {uid}, request {request}")
        });
        let options = dict(json!({"acknowledge": true, "retain": true}));
        let payload = end.payload(&[], Value::Null);
        if let Some(link) = end.link {
            cx.ledger.sent(link, uid);
        }
        end.send(
            cx,
            &Publish {
                request,
                options,
                topic: uri(key),
                payload,
            }
            .into(),
        );
    }

    fn read(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let key = *cx.dice.pick(&self.keys);
        let request = end.request(CALL, true);
        self.reads.insert(request, (key, cx.ledger.locks.seen(key)));
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

    fn published(&mut self, request: u64, token: u64, end: &WampEnd, cx: &mut Cx<'_>) {
        let Some(link) = end.link else { return };
        match self.state {
            State::Asking {
                request: asked,
                uid,
                key,
                floor,
            } if asked == request => {
                cx.note(self.me, || format!("holds {key} with token {token}"));
                cx.ledger.acked(uid);
                let facts_ended = cx.ledger.links.get(&link).is_some_and(|facts| facts.ended);
                let publication = cx.ledger.of(uid).clone();
                let grant = Grant {
                    link,
                    token,
                    taken: publication.execs.first().copied().unwrap_or(0),
                    life: publication.lives.first().copied().unwrap_or(0),
                    ended: facts_ended.then_some(0),
                };
                let judged = cx.ledger.locks.granted(grant, key);
                let grows = cx.ledger.locks.token(key, token, floor, false);
                if let Err(what) = judged.and(grows) {
                    cx.ledger.fail(what);
                }
                let until = cx.now + cx.dice.range(0, 600);
                self.state = State::Holding { key, until };
            }
            State::Releasing {
                request: asked,
                key,
                uid,
                floor,
            } if asked == request => {
                cx.ledger.acked(uid);
                if let Err(what) = cx.ledger.locks.token(key, token, floor, false) {
                    cx.ledger.fail(what);
                }
                self.state = State::Idle;
            }
            _ => cx.ledger.fail(format!(
                "actor {}: PUBLISHED {request} out of place",
                self.me
            )),
        }
    }

    fn refused(&mut self, request: u64, error: &str, cx: &mut Cx<'_>) {
        match self.state {
            State::Asking {
                request: asked,
                uid,
                ..
            } if asked == request => {
                cx.note(self.me, || format!("is refused {uid}: {error}"));
                let store = error == "wamp.error.unavailable" && cx.ledger.store_failures > 0;
                match error {
                    "wamp.error.invalid_payload" | "wamp.error.timeout" => {
                        cx.ledger.forbid(uid, error);
                    }
                    _ => cx
                        .ledger
                        .require(store, || format!("lock refused: {error}")),
                }
                cx.ledger.refused(uid);
                self.state = State::Idle;
            }
            State::Releasing { key, .. } => {
                cx.ledger.fail(format!(
                    "actor {}: the release of {key} was refused: {error}",
                    self.me
                ));
            }
            _ => cx.ledger.fail(format!(
                "actor {}: ERROR {request} {error} out of place",
                self.me
            )),
        }
    }

    fn result(&mut self, request: u64, args: &[Value], cx: &mut Cx<'_>) {
        let Some((key, floor)) = self.reads.remove(&request) else {
            return;
        };
        let token = args.first().and_then(|report| report["token"].as_u64());
        let Some(token) = token else {
            return cx
                .ledger
                .fail(format!("{key}: a report without token: {args:?}"));
        };
        cx.note(self.me, || format!("reads {}", args[0]));
        if let Err(what) = cx.ledger.locks.token(key, token, floor, true) {
            cx.ledger.fail(format!("read of {what}"));
        }
    }
}

impl Role for LockClient {
    fn up(&mut self, _: &mut WampEnd, _: &mut Cx<'_>) {}

    fn down(&mut self, _: &mut Cx<'_>) {
        self.state = State::Idle;
        self.reads.clear();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Published(m) => self.published(m.request, m.publication, end, cx),
            Message::Error(m) if m.request_type == PUBLISH => self.refused(m.request, &m.error, cx),
            Message::Error(m) => {
                self.reads.remove(&m.request);
                let store = m.error == "wamp.error.unavailable" && cx.ledger.store_failures > 0;
                cx.ledger.require(store, || format!("fox.kv.get: {m:?}"));
            }
            Message::Result(m) => {
                let (args, _) = end.values(&m.payload, cx);
                self.result(m.request, &args, cx);
            }
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match self.state {
            State::Idle if cx.phase == Phase::Chaos && cx.dice.permille(700) => self.ask(end, cx),
            State::Holding { key, until } if until <= cx.now => self.release(key, end, cx),
            _ if cx.phase == Phase::Chaos && cx.dice.permille(100) => self.read(end, cx),
            _ => {}
        }
    }

    fn waits(&self) -> Option<String> {
        match self.state {
            State::Idle => None,
            State::Asking { key, .. } => Some(format!("actor {} waits for {key}", self.me)),
            State::Holding { key, .. } | State::Releasing { key, .. } => {
                Some(format!("actor {} still has {key}", self.me))
            }
        }
    }
}
