//! One WAMP connection over a transport of messages, as a state machine.
//!
//! ```text
//!            HELLO                 AUTHENTICATE
//! Opening ────────▶ Authenticating ────────────▶ Joining ──▶ Welcoming ──▶ Established
//!    ▲    └───────────────────────────────────────▲ (asked)   (admitted)  │        │
//!    │                                              WELCOME on the realm's │        │
//!    │                                              first delivery ────────┘        │
//!    │ GOODBYE of the client, echoed: another HELLO may follow                       │
//!    └───────────────────────────────────────────────────────────────────────────────┤
//!                                              GOODBYE of the router                 ▼
//!                                Closed ◀─────────────────────────────────── ShuttingDown
//! ```
//!
//! Every state goes to `Closed` on ABORT from either side, on a protocol violation and when the
//! transport is lost; from then on nothing is read and nothing said (section "Protocol
//! Violations").
//!
//! Invariants: an [`Action::Join`] that was admitted is followed by exactly one [`Action::Leave`];
//! the realm's answers go out in the realm's order; a request that is refused here is answered
//! here, in the place of the realm's answer.

mod batches;
mod delivery;
mod fitting;
mod gate;
mod known;
mod request;
mod settings;
mod strict;

pub use fitting::WampCounters;
pub use settings::{
    SERIALIZERS, SUBPROTOCOLS, Serialization, WampOptions, encoding_of_serializer,
    serialization_of, subprotocol_of,
};
pub use strict::Strictness;

use super::auth::{Method, Opening};
use super::batch::{Batch, Gatherer};
use super::codec::Limits;
use super::message::{Challenge, Dict, Goodbye, Message};
use super::options::Reject;
use super::passthru::Announced;
use super::uris::{close, error};
use crate::gate::{Action, JoinedAs, Output};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use known::Known;
use router_core::encoding::Encoding;
use router_core::model::{Now, RequestId};
use router_core::session::{Features, Leave};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// WebSocket close codes (RFC 6455, section 7.4.1).
mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
}

/// The longest text a peer is told, in bytes.
const TEXT_MAX: usize = 400;

/// Where the connection stands.
#[derive(Debug)]
enum State {
    /// Waits for HELLO.
    Opening { deadline: Instant, again: bool },
    /// Waits for AUTHENTICATE.
    Authenticating {
        deadline: Instant,
        opening: Box<Opening>,
    },
    /// Waits for the router to admit the session.
    Joining { deadline: Instant },
    /// Waits for the realm's first delivery.
    Welcoming {
        deadline: Instant,
        joined: Box<JoinedAs>,
    },
    /// The session is open.
    Established,
    /// The router said GOODBYE and waits for the answer.
    ShuttingDown { deadline: Instant },
    /// Over.
    Closed,
}

/// One WAMP connection over a transport of messages.
#[derive(Debug)]
pub struct WampMachine {
    encoding: Encoding,
    options: WampOptions,
    limits: Limits,
    state: State,
    /// What the client announced in its HELLO.
    features: Features,
    /// ... about sealed payloads.
    announced: Announced,
    /// What the realm asks of its requests.
    strict: Strictness,
    /// The latest request id that was in turn.
    last_request: u64,
    /// What was asked for lately.
    known: Known,
    actions: VecDeque<Action>,
    outputs: VecDeque<Output>,
    /// Messages to be sent, each behind the other; the last one may be in the making.
    buffer: BytesMut,
    /// How long those are that are made, in bytes.
    ready: VecDeque<usize>,
    /// ... and all of them together.
    ready_bytes: usize,
    /// Of a batch that was read, what is not looked at yet.
    unread: Option<Batch>,
    /// Where messages go that share a frame; `None`: each has its own.
    gatherer: Option<Gatherer>,
    /// Events that the peer could not take since the last one that it got.
    lost: u64,
    /// Open calls of which a progressive result did not fit; at most as many as may be open.
    oversized: HashSet<RequestId>,
}

impl WampMachine {
    /// A connection whose transport has just opened, with the serialization negotiated.
    #[must_use]
    pub fn new(
        now: Now,
        serialization: impl Into<Serialization>,
        options: WampOptions,
    ) -> WampMachine {
        let Serialization { encoding, batched } = serialization.into();
        let limits = Limits {
            dict_bytes: Limits::default().dict_bytes.min(options.message_bytes_max),
        };
        let deadline = after(now, options.login_timeout);
        WampMachine {
            encoding,
            options,
            limits,
            state: State::Opening {
                deadline,
                again: false,
            },
            features: Features::default(),
            announced: Announced::default(),
            strict: Strictness::default(),
            last_request: 0,
            known: Known::default(),
            actions: VecDeque::new(),
            outputs: VecDeque::new(),
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            unread: None,
            gatherer: batched.then(Gatherer::default),
            lost: 0,
            oversized: HashSet::new(),
        }
    }

    fn serialization(&self) -> Serialization {
        Serialization {
            encoding: self.encoding,
            batched: self.gatherer.is_some(),
        }
    }

    /// Takes a frame of the transport: one message, or a batch.
    fn handle_frame(&mut self, now: Now, frame: Bytes, is_text: bool) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let needs_text = self.encoding == Encoding::Json;
        if needs_text != is_text {
            // Section "Serializations": text for JSON, binary for everything else.
            self.violation(if needs_text {
                "a binary message where the serializer needs text"
            } else {
                "a text message where the serializer needs binary"
            });
            return;
        }
        if self.gatherer.is_some() {
            self.take_batch(now, frame);
        } else {
            self.take_message(now, frame);
        }
    }

    /// Takes one message, still encoded.
    fn take_message(&mut self, now: Now, frame: Bytes) {
        if frame.len() > self.options.message_bytes_max {
            let max = self.options.message_bytes_max;
            let text = format!("a message must not exceed {max} bytes");
            let closing = (code::TOO_BIG, "message too big");
            self.abort(error::PAYLOAD_SIZE_EXCEEDED, &text, closing);
            return;
        }
        match self.state {
            State::Established => self.take_in_session(now, frame),
            _ => self.take_unknown(now, frame),
        }
    }

    /// Takes a message that nothing is known of.
    fn take_unknown(&mut self, now: Now, frame: Bytes) {
        match Message::decode(self.encoding, frame, &self.limits) {
            Ok(message) => self.handle_message(now, message),
            // Section "Session Closing": while shutting down nothing but GOODBYE matters.
            Err(_) if matches!(self.state, State::ShuttingDown { .. }) => {}
            Err(violation) => self.violation(&violation.to_string()),
        }
    }

    fn handle_message(&mut self, now: Now, message: Message) {
        match (&mut self.state, message) {
            (State::Closed, _) => {}
            // Section "Session Aborting": never answered.
            (_, Message::Abort(_)) => {
                self.close(
                    Leave::Lost,
                    (code::NORMAL, "the client aborted the session"),
                );
            }
            (State::ShuttingDown { .. }, Message::Goodbye(_)) => {
                self.close(Leave::Clean, (code::NORMAL, "goodbye"));
            }
            (State::ShuttingDown { .. }, _) => {}
            (State::Opening { .. }, Message::Hello(hello)) => match Opening::read(&hello) {
                Ok(opening) => self.open(now, opening),
                Err(reject) => self.refuse_session(reject),
            },
            (State::Opening { .. }, other) => {
                self.violation(&format!("{} before HELLO", other.name()));
            }
            (State::Authenticating { deadline, opening }, Message::Authenticate(authenticate)) => {
                let (deadline, opening) = (*deadline, (**opening).clone());
                self.join(deadline, opening, Some(&authenticate.signature));
            }
            (
                State::Authenticating { .. } | State::Joining { .. } | State::Welcoming { .. },
                Message::Hello(_),
            )
            | (State::Established, Message::Hello(_)) => self.violation("a second HELLO"),
            (
                State::Authenticating { .. } | State::Joining { .. } | State::Welcoming { .. },
                other,
            ) => self.violation(&format!("{} before WELCOME", other.name())),
            (State::Established, Message::Goodbye(_)) => self.goodbye_of_client(now),
            (State::Established, request) => {
                let done = self.handle_request(request);
                // Errors of a single request are answered there.
                if let Err(Reject::Violation(text) | Reject::Error { message: text, .. }) = done {
                    self.violation(&text);
                }
            }
        }
    }

    fn open(&mut self, now: Now, opening: Opening) {
        let deadline = match self.state {
            State::Opening {
                deadline,
                again: false,
            } => deadline,
            _ => after(now, self.options.login_timeout),
        };
        (self.features, self.announced) = (opening.features, opening.announced);
        let strict = self.options.strict.get(&opening.realm);
        (self.strict, self.last_request) = (strict.copied().unwrap_or_default(), 0);
        self.lost = 0;
        self.known = Known::default();
        self.oversized.clear();
        match opening.method {
            Method::Anonymous => self.join(deadline, opening, None),
            Method::Ticket => {
                let method = ByteString::from_static(opening.method.name());
                self.say(
                    &Challenge {
                        method,
                        extra: Dict::new(),
                    }
                    .into(),
                );
                let opening = Box::new(opening);
                self.state = State::Authenticating { deadline, opening };
            }
        }
    }

    fn join(&mut self, deadline: Instant, opening: Opening, secret: Option<&str>) {
        let request = opening.join(secret, subprotocol_of(self.serialization()));
        self.actions.push_back(Action::Join(Box::new(request)));
        self.state = State::Joining { deadline };
    }

    /// Section "Session Closing": answered once. The transport stays for another HELLO.
    fn goodbye_of_client(&mut self, now: Now) {
        let reason = ByteString::from_static(close::GOODBYE_AND_OUT);
        self.say(
            &Goodbye {
                details: Dict::new(),
                reason,
            }
            .into(),
        );
        self.actions.push_back(Action::Leave(Leave::Clean));
        let deadline = after(now, self.options.login_timeout);
        self.state = State::Opening {
            deadline,
            again: true,
        };
    }

    /// Says GOODBYE, or ABORT where the session is not open yet.
    fn goodbye(&mut self, now: Now, reason: ByteString, message: Option<&str>) {
        match self.state {
            State::Established => {
                self.say_goodbye(now, reason, message);
            }
            State::ShuttingDown { .. } | State::Closed => {}
            State::Opening { again: true, .. } => {
                self.close(Leave::Lost, (code::GOING_AWAY, "the router shuts down"));
            }
            _ => {
                let text = message.unwrap_or("the session ends before it began");
                self.abort(&reason, text, (code::GOING_AWAY, "the session ended"));
            }
        }
    }

    fn refuse_session(&mut self, reject: Reject) {
        match reject {
            Reject::Violation(text) => self.violation(&text),
            Reject::Error { error, message } => {
                self.abort(error, &message, (code::NORMAL, "the session was refused"));
            }
        }
    }

    fn violation(&mut self, text: &str) {
        let closing = (code::PROTOCOL_ERROR, "protocol violation");
        self.abort(error::PROTOCOL_VIOLATION, text, closing);
    }

    /// Says ABORT and closes; the session is lost, if there was one.
    fn abort(&mut self, reason: &str, message: &str, closing: (u16, &'static str)) {
        self.say_abort(reason, message);
        self.close(Leave::Lost, closing);
    }

    fn close(&mut self, how: Leave, (code, reason): (u16, &'static str)) {
        self.end(how);
        self.send_gathered();
        self.outputs.push_back(Output::Close { code, reason });
    }

    /// Gives up the session. A join that nobody has seen yet is forgotten; one that is being
    /// answered is followed by its leave when the answer comes.
    fn end(&mut self, how: Leave) {
        self.unread = None;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Welcoming { .. } | State::Established | State::ShuttingDown { .. } => {
                self.actions.push_back(Action::Leave(how));
            }
            State::Joining { .. } => {
                self.actions
                    .retain(|action| !matches!(action, Action::Join(_)));
            }
            State::Opening { .. } | State::Authenticating { .. } | State::Closed => {}
        }
    }
}

fn output(encoding: Encoding, frame: Bytes) -> Output {
    match encoding {
        Encoding::Json => Output::Text(frame),
        Encoding::MsgPack | Encoding::Cbor => Output::Bytes(frame),
    }
}

fn after(now: Now, by: Duration) -> Instant {
    now.instant.checked_add(by).unwrap_or(now.instant)
}

/// Details that hold nothing but words for a person. U+0000 would make them binary on the way.
fn details_with(message: Option<&str>) -> Dict {
    let text = |message: &str| shortened(message).replace('\0', "\u{fffd}").into();
    message
        .map(|message| ("message".to_owned(), text(message)))
        .into_iter()
        .collect()
}

/// At most [`TEXT_MAX`] bytes, cut between characters.
fn shortened(text: &str) -> &str {
    let end = text.floor_char_boundary(TEXT_MAX);
    text.get(..end).unwrap_or_default()
}
