//! What one joined session knows, without any I/O: a [`Request`] or a message of the router goes
//! in, [`Output`]s come out, to be carried out in their order.
//!
//! Invariants: request ids count up from 1 (section "Identifiers"); a request has an entry in
//! `pending` exactly while its answer is due; an invocation has one in `running` until it was
//! answered. Both are bounded: [`MAX_PENDING`], [`MAX_RUNNING`].

mod callee;
mod caller;

use super::request::{Delivery, Event, Handler, Output, ReplyTo, Request};
use super::{Arguments, ClientError, Closed, Dict};
use protocols::wamp::codec::name_of;
use protocols::wamp::dict::DictExt;
use protocols::wamp::message::{Abort, Goodbye, Message, Payload, Publish, Register, Subscribe};
use protocols::wamp::uris::{close, error};
use router_core::encoding::Encoding;
use std::collections::{HashMap, HashSet, VecDeque};
use tokio::sync::mpsc;

/// Requests that may wait for their answer.
pub const MAX_PENDING: usize = 65_536;
/// Calls that may be answered at a time; more are refused with `wamp.error.unavailable`.
pub const MAX_RUNNING: usize = 1024;

/// A request whose answer is due.
enum Pending {
    Publish(String, ReplyTo<u64>),
    Subscribe(String, mpsc::Sender<Event>, ReplyTo<u64>),
    Call {
        key: u64,
        procedure: String,
        progress: Option<mpsc::Sender<Arguments>>,
        reply: ReplyTo<Arguments>,
    },
    Register(String, Handler, ReplyTo<u64>),
}

impl Pending {
    /// The type code of the request.
    const fn code(&self) -> u64 {
        match self {
            Pending::Publish(..) => 16,
            Pending::Subscribe(..) => 32,
            Pending::Call { .. } => 48,
            Pending::Register(..) => 64,
        }
    }

    /// Answers with an error made from words for what was asked. Nobody may be waiting any more:
    /// then the answer is not missed.
    fn fail(self, error: impl FnOnce(String) -> ClientError) {
        match self {
            Pending::Publish(uri, reply) => {
                let _ = reply.send(Err(error(format!("publish to {uri}"))));
            }
            Pending::Subscribe(uri, _, reply) => {
                let _ = reply.send(Err(error(format!("subscribe to {uri}"))));
            }
            Pending::Call {
                procedure, reply, ..
            } => {
                let _ = reply.send(Err(error(format!("call {procedure}"))));
            }
            Pending::Register(uri, _, reply) => {
                let _ = reply.send(Err(error(format!("register {uri}"))));
            }
        }
    }
}

/// See the [module](self).
pub struct State {
    encoding: Encoding,
    last_request: u64,
    /// request id -> what was asked
    pending: HashMap<u64, Pending>,
    /// subscription id -> its subscribers; the same topic asked for twice is one subscription
    subscriptions: HashMap<u64, Vec<mpsc::Sender<Event>>>,
    /// registration id -> its handler
    registrations: HashMap<u64, Handler>,
    /// ids of the invocations that handlers work on
    running: HashSet<u64>,
    /// Whoever waits for the answer to our GOODBYE.
    leaving: Option<ReplyTo<()>>,
    outputs: VecDeque<Output>,
}

impl State {
    /// A session just joined, with messages in `encoding`.
    pub fn new(encoding: Encoding) -> State {
        State {
            encoding,
            last_request: 0,
            pending: HashMap::new(),
            subscriptions: HashMap::new(),
            registrations: HashMap::new(),
            running: HashSet::new(),
            leaving: None,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do. Take all of them after each input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes a request. What cannot be asked is answered at once.
    pub fn request(&mut self, request: Request) {
        match request {
            Request::Publish {
                topic,
                arguments,
                options,
                reply,
            } => self.publish(topic, &arguments, options, reply),
            Request::Subscribe {
                topic,
                options,
                events,
                reply,
            } => {
                let uri = topic.as_str().into();
                let pending = Pending::Subscribe(topic, events, reply);
                self.ask(pending, |request| {
                    let topic = uri;
                    Subscribe {
                        request,
                        options,
                        topic,
                    }
                    .into()
                });
            }
            Request::Call {
                key,
                procedure,
                arguments,
                options,
                progress,
                reply,
            } => {
                let pending = Pending::Call {
                    key,
                    procedure,
                    progress,
                    reply,
                };
                match arguments.to_wire(self.encoding) {
                    Err(error) => pending.fail(|_| error.into()),
                    Ok(payload) => self.call(pending, payload, options),
                }
            }
            Request::Cancel { key, mode } => self.cancel(key, mode),
            Request::Register {
                procedure,
                options,
                handler,
                reply,
            } => {
                let uri = procedure.as_str().into();
                let pending = Pending::Register(procedure, handler, reply);
                self.ask(pending, |request| {
                    let procedure = uri;
                    Register {
                        request,
                        options,
                        procedure,
                    }
                    .into()
                });
            }
            Request::Progress {
                invocation,
                arguments,
            } => self.progress(invocation, &arguments),
            Request::Answer { invocation, answer } => self.answer(invocation, answer),
            Request::Goodbye { reply } => {
                self.leaving = Some(reply);
                self.goodbye(close::CLOSE_REALM);
            }
        }
    }

    fn goodbye(&mut self, reason: &'static str) {
        self.send(Goodbye {
            details: Dict::new(),
            reason: reason.into(),
        });
    }

    fn send(&mut self, message: impl Into<Message>) {
        self.outputs.push_back(Output::Send(message.into()));
    }

    fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// Sends a request that is answered.
    fn ask(&mut self, pending: Pending, message: impl FnOnce(u64) -> Message) {
        if self.pending.len() >= MAX_PENDING {
            return pending.fail(|_| ClientError::TooManyRequests(MAX_PENDING));
        }
        let request = self.next_request();
        self.pending.insert(request, pending);
        self.send(message(request));
    }

    fn publish(
        &mut self,
        topic: String,
        arguments: &Arguments,
        mut options: Dict,
        reply: Option<ReplyTo<u64>>,
    ) {
        let payload = match (arguments.to_wire(self.encoding), reply) {
            (Ok(payload), Some(reply)) => {
                options.insert("acknowledge".into(), true.into());
                let uri = topic.as_str().into();
                return self.ask(Pending::Publish(topic, reply), |request| {
                    let topic = uri;
                    Publish {
                        request,
                        options,
                        topic,
                        payload,
                    }
                    .into()
                });
            }
            (Err(error), Some(reply)) => return drop(reply.send(Err(error.into()))),
            (Ok(payload), None) => payload,
            // Unacknowledged: the sender asked not to be told. `Session` checks before.
            (Err(_), None) => return,
        };
        let request = self.next_request();
        let topic = topic.into();
        self.send(Publish {
            request,
            options,
            topic,
            payload,
        });
    }

    /// Takes a message of the router. A violation ends the session by ABORT.
    pub fn handle(&mut self, message: Message) {
        if let Err(violation) = self.try_handle(message) {
            self.violation(violation);
        }
    }

    /// Ends the session because of what the router sent.
    pub fn violation(&mut self, violation: String) {
        let mut details = Dict::new();
        details.insert("message".into(), violation.as_str().into());
        self.send(Abort {
            details,
            reason: error::PROTOCOL_VIOLATION.into(),
            payload: Payload::EMPTY,
        });
        self.outputs
            .push_back(Output::Closed(Closed::Violation(violation)));
    }

    fn try_handle(&mut self, message: Message) -> Result<(), String> {
        let name = name_of(message.code());
        let unasked = || format!("{name} to a request that was not made");
        match message {
            Message::Published(m) => match self.pending.remove(&m.request) {
                Some(Pending::Publish(_, reply)) => {
                    let _ = reply.send(Ok(m.publication));
                }
                _ => return Err(unasked()),
            },
            Message::Subscribed(m) => match self.pending.remove(&m.request) {
                Some(Pending::Subscribe(_, events, reply)) => {
                    let subscribers = self.subscriptions.entry(m.subscription).or_default();
                    subscribers.push(events);
                    let _ = reply.send(Ok(m.subscription));
                }
                _ => return Err(unasked()),
            },
            Message::Registered(m) => match self.pending.remove(&m.request) {
                Some(Pending::Register(_, handler, reply)) => {
                    self.registrations.insert(m.registration, handler);
                    let _ = reply.send(Ok(m.registration));
                }
                _ => return Err(unasked()),
            },
            Message::Result(m) => return self.result(m),
            Message::Error(m) => match self.pending.remove(&m.request) {
                Some(pending) if pending.code() == m.request_type => {
                    let arguments = self.read(&m.payload)?;
                    let error = m.error.to_string();
                    pending.fail(|what| ClientError::Request {
                        what,
                        error,
                        arguments,
                    });
                }
                _ => return Err(unasked()),
            },
            Message::Event(m) => {
                let event = Event {
                    publication: m.publication,
                    arguments: self.read(&m.payload)?,
                    details: m.details,
                };
                // One that crossed the end of its subscription has no subscribers.
                let subscribers = self.subscriptions.get(&m.subscription);
                for to in subscribers.into_iter().flatten() {
                    let delivery = Delivery::Event(to.clone(), event.clone());
                    self.outputs.push_back(Output::Deliver(delivery));
                }
            }
            Message::Invocation(m) => return self.invocation(m),
            Message::Unsubscribed(m) => {
                let revoked = revoked(m.revocation, "subscription").ok_or_else(unasked)?;
                self.subscriptions.remove(&revoked);
            }
            Message::Unregistered(m) => {
                let revoked = revoked(m.revocation, "registration").ok_or_else(unasked)?;
                self.registrations.remove(&revoked);
            }
            // We do not announce `call_canceling`; a handler that has begun ends as usual.
            Message::Interrupt(_) => {}
            Message::Goodbye(m) => self.closed_by_router(&m.reason, &m.details),
            Message::Abort(m) => {
                let reason = in_words(&m.reason, &m.details);
                self.outputs
                    .push_back(Output::Closed(Closed::ByRouter(reason)));
            }
            _ => return Err(format!("{name} in a session that is open")),
        }
        Ok(())
    }

    fn read(&self, payload: &Payload) -> Result<Arguments, String> {
        Arguments::from_wire(payload, self.encoding).map_err(|error| error.to_string())
    }

    fn closed_by_router(&mut self, reason: &str, details: &Dict) {
        let closed = match self.leaving.take() {
            Some(reply) => {
                let _ = reply.send(Ok(()));
                Closed::Goodbye
            }
            None => {
                // Section "Session Closing": every GOODBYE is answered once.
                self.goodbye(close::GOODBYE_AND_OUT);
                Closed::ByRouter(in_words(reason, details))
            }
        };
        self.outputs.push_back(Output::Closed(closed));
    }

    /// Tells everybody who waits that the session has ended.
    pub fn end(&mut self, closed: &Closed) {
        for (_, pending) in self.pending.drain() {
            pending.fail(|_| ClientError::Closed(closed.clone()));
        }
        if let Some(reply) = self.leaving.take() {
            let _ = reply.send(Err(ClientError::Closed(closed.clone())));
        }
        self.subscriptions.clear();
        self.registrations.clear();
    }
}

/// The id in the dict of a revocation; nothing for the answer to a request, which we never make.
fn revoked(revocation: Option<Dict>, key: &'static str) -> Option<u64> {
    revocation?.unsigned(key).ok().flatten()
}

/// The reason of an ABORT or GOODBYE, with the message if there is one.
pub fn in_words(reason: &str, details: &Dict) -> String {
    match details.text("message") {
        Ok(Some(message)) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
