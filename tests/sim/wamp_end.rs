//! The client's end of a WAMP session, shared by all roles: handshake, request ids, and the check
//! that every request is answered exactly once.

use crate::actor::Cx;
use crate::ledger::{ActorId, Uid};
use crate::net::{Item, LinkId, Wire};
use bytes::Bytes;
use bytestring::ByteString;
use protocols::wamp::codec::Limits;
use protocols::wamp::message::{Dict, ErrorMessage, Goodbye, Hello, Message, Payload};
use router_core::encoding::Encoding;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Type codes of requests.
pub const PUBLISH: u64 = 16;
pub const SUBSCRIBE: u64 = 32;
pub const CALL: u64 = 48;
pub const REGISTER: u64 = 64;
pub const UNREGISTER: u64 = 66;

/// The number in a body, wherever our publishers put it.
pub fn uid_in(value: &Value, kwargs: &Value) -> Option<Uid> {
    let of = |value: &Value| value.get("u").and_then(Value::as_u64);
    of(value)
        .or_else(|| of(kwargs))
        .or_else(|| value.get("kwargs").and_then(of))
}

/// What came.
pub enum Heard {
    /// The session is open.
    Up,
    /// The connection is over.
    Down,
    Message(Message),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Opening,
    Open,
    Leaving,
}

pub struct WampEnd {
    pub me: ActorId,
    pub link: Option<LinkId>,
    pub encoding: Encoding,
    state: State,
    connects: u32,
    next_request: u64,
    /// (type, request) of what is not answered.
    open: BTreeMap<(u64, u64), ()>,
}

impl WampEnd {
    pub fn new(me: ActorId) -> WampEnd {
        WampEnd {
            me,
            link: None,
            encoding: Encoding::Json,
            state: State::Down,
            connects: 0,
            next_request: 0,
            open: BTreeMap::new(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub fn is_down(&self) -> bool {
        self.state == State::Down
    }

    pub fn open_requests(&self) -> Vec<(u64, u64)> {
        self.open.keys().copied().collect()
    }

    pub fn connect(&mut self, cx: &mut Cx<'_>) {
        self.connects += 1;
        let (wire, encoding) = match (cx.dice.flip(), self.connects % 2) {
            (true, _) => (Wire::WampJson, Encoding::Json),
            (false, 0) => (Wire::WampCbor, Encoding::Cbor),
            (false, _) => (Wire::WampMsgPack, Encoding::MsgPack),
        };
        self.encoding = encoding;
        let link = cx.net.connect(wire, cx.dice);
        cx.ledger.opened(link, self.me, None);
        self.link = Some(link);
        self.state = State::Opening;
        self.next_request = 0;
        let roles = json!({"roles": {
            "publisher": {}, "subscriber": {}, "caller": {},
            "callee": {"features": {"progressive_call_results": true, "call_canceling": cx.dice.flip()}},
        }});
        let details = dict(roles);
        cx.note(self.me, || format!("connects on {link} as {wire:?}"));
        self.send(
            cx,
            &Hello {
                realm: "realm1".into(),
                details,
            }
            .into(),
        );
    }

    pub fn send(&mut self, cx: &mut Cx<'_>, message: &Message) {
        let Some(link) = self.link else { return };
        let frame = message.encode(self.encoding);
        let item = match self.encoding {
            Encoding::Json => Item::Text(frame),
            Encoding::MsgPack | Encoding::Cbor => Item::Binary(frame),
        };
        cx.net.client_send(link, item, cx.now, cx.dice);
    }

    /// The id of a request that is about to be sent; `answered`: an answer is owed.
    pub fn request(&mut self, kind: u64, answered: bool) -> u64 {
        self.next_request += 1;
        if answered {
            self.open.insert((kind, self.next_request), ());
        }
        self.next_request
    }

    pub fn payload(&self, args: &[Value], kwargs: Value) -> Payload {
        Payload::from_values(self.encoding, args, &dict(kwargs))
    }

    /// Positional and keyword arguments.
    pub fn values(&self, payload: &Payload, cx: &mut Cx<'_>) -> (Vec<Value>, Dict) {
        payload.to_values(self.encoding).unwrap_or_else(|error| {
            cx.ledger.fail(format!(
                "the router sent a payload that cannot be read: {error}"
            ));
            (Vec::new(), Dict::new())
        })
    }

    /// The number in a payload.
    pub fn uid(&self, payload: &Payload, cx: &mut Cx<'_>) -> Option<Uid> {
        let (args, kwargs) = self.values(payload, cx);
        let first = args.first().cloned().unwrap_or_default();
        uid_in(&first, &Value::Object(kwargs))
    }

    pub fn say_goodbye(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.link else { return };
        cx.ledger.excuse(link, "goodbye");
        self.state = State::Leaving;
        self.send(
            cx,
            &Goodbye {
                details: Dict::new(),
                reason: "wamp.close.normal".into(),
            }
            .into(),
        );
    }

    /// Closes the socket without a word.
    pub fn drop_link(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.link.take() {
            cx.net.client_close(link, cx.now, cx.dice);
            cx.note(self.me, || format!("has lost {link}"));
        }
        self.state = State::Down;
        self.open.clear();
    }

    /// What came next, if anything.
    pub fn hear(&mut self, cx: &mut Cx<'_>) -> Option<Heard> {
        let link = self.link?;
        while let Some(item) = cx.net.client_take(link, cx.now) {
            match item {
                Item::Text(frame) | Item::Binary(frame) => {
                    if let Some(heard) = self.frame(link, frame, cx) {
                        return Some(heard);
                    }
                }
                Item::Ping => cx.net.client_send(link, Item::Pong, cx.now, cx.dice),
                Item::Pong => {}
                Item::Bytes(_) => cx.ledger.fail("stream bytes in a WAMP connection"),
            }
        }
        if cx.net.client_ended(link, cx.now) {
            if self.state != State::Leaving {
                cx.ledger.closed_by_router(link, "end of stream");
            }
            self.drop_link(cx);
            return Some(Heard::Down);
        }
        None
    }

    fn frame(&mut self, link: LinkId, frame: Bytes, cx: &mut Cx<'_>) -> Option<Heard> {
        let message = match Message::decode(self.encoding, frame, &Limits::default()) {
            Ok(message) => message,
            Err(error) => {
                cx.ledger
                    .fail(format!("the router sent what cannot be decoded: {error}"));
                return None;
            }
        };
        match (self.state, &message) {
            (State::Opening, Message::Welcome(_)) => {
                self.state = State::Open;
                Some(Heard::Up)
            }
            (_, Message::Abort(abort)) => {
                if cx.ledger.tight && abort.reason == protocols::wamp::map::TOO_SLOW {
                    cx.ledger.excuse(link, "too slow");
                    cx.ledger.count("slow readers given up");
                }
                cx.ledger
                    .closed_by_router(link, &format!("ABORT {} {:?}", abort.reason, abort.details));
                self.drop_link(cx);
                Some(Heard::Down)
            }
            (State::Leaving, Message::Goodbye(_)) => {
                self.drop_link(cx);
                Some(Heard::Down)
            }
            (_, Message::Goodbye(goodbye)) => {
                cx.ledger
                    .closed_by_router(link, &format!("GOODBYE {}", goodbye.reason));
                self.drop_link(cx);
                Some(Heard::Down)
            }
            (State::Open | State::Leaving, _) => {
                self.settle(&message, cx);
                Some(Heard::Message(message))
            }
            (State::Opening | State::Down, _) => {
                cx.ledger
                    .fail(format!("connection {link}: {message:?} before WELCOME"));
                None
            }
        }
    }

    /// Finds the request an answer belongs to.
    fn settle(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let key = match message {
            Message::Published(m) => (PUBLISH, m.request),
            Message::Subscribed(m) => (SUBSCRIBE, m.request),
            Message::Unsubscribed(m) if m.request == 0 => return,
            Message::Unsubscribed(m) => (34, m.request),
            Message::Registered(m) => (REGISTER, m.request),
            Message::Unregistered(m) => (UNREGISTER, m.request),
            Message::Error(ErrorMessage {
                request_type,
                request,
                ..
            }) => (*request_type, *request),
            Message::Result(m) => {
                let is_last = m.details.get("progress").and_then(Value::as_bool) != Some(true);
                if !self.open.contains_key(&(CALL, m.request)) {
                    cx.ledger.fail(format!(
                        "actor {}: a result for no open call: {message:?}",
                        self.me
                    ));
                }
                if is_last {
                    self.open.remove(&(CALL, m.request));
                    cx.ledger.calls.ended += 1;
                }
                return;
            }
            _ => return,
        };
        if self.open.remove(&key).is_none() {
            cx.ledger.fail(format!(
                "actor {}: an answer to nothing: {message:?}",
                self.me
            ));
        }
        if key.0 == CALL {
            cx.ledger.calls.ended += 1;
        }
    }
}

pub fn dict(value: Value) -> Dict {
    match value {
        Value::Object(dict) => dict,
        _ => Dict::new(),
    }
}

/// A topic in WAMP's spelling; the simulation uses no level that needs an escape.
pub fn uri(topic: &str) -> ByteString {
    topic.replace('/', ".").into()
}
