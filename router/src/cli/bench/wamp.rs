//! A WAMP client of a benchmark, over WebSocket.

use super::frame::{self, Frame, Frames};
use super::peer::{Hear, Heard, Peer, PubSub};
use super::stamp::Stamp;
use super::template::{ANY_REQUEST, Template, any_payload, opcode};
use super::topic::{Filter, Uri};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use protocols::wamp::codec::Limits;
use protocols::wamp::message::{
    Authenticate, Call, Dict, ErrorMessage, Goodbye, Hello, Invocation, Message, Payload, Publish,
    Register, Subscribe, Yield,
};
use router_client::{Arguments, Credentials, Serializer};
use router_core::encoding::Encoding;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};

/// Bytes of a message beside its payload, at most.
const HEAD_BYTES: usize = 1 << 20;

/// How a client speaks.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// How messages are written.
    pub serializer: Serializer,
    /// The realm to join.
    pub realm: String,
    /// Who joins.
    pub credentials: Credentials,
    /// QoS 1 and 2 ask for acknowledgements, and for that QoS towards MQTT subscribers.
    pub qos: u8,
    /// Whether MQTT clients may be among the receivers.
    pub is_mixed: bool,
    /// Bytes of a payload.
    pub size: usize,
    /// A topic of nobody.
    pub quiet_topic: String,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct WampPeer {
    manner: Manner,
    frames: Frames,
    last_request: u64,
    /// The SUBSCRIBE whose answer is the sign of life.
    quiet: Option<u64>,
    templates: Vec<Template>,
    erasers: Vec<Message>,
    is_leaving: bool,
}

impl WampPeer {
    /// A client that has not said anything yet.
    pub(super) fn new(manner: Manner) -> WampPeer {
        WampPeer {
            frames: Frames::new(manner.size + HEAD_BYTES),
            manner,
            last_request: 0,
            quiet: None,
            templates: Vec::new(),
            erasers: Vec::new(),
            is_leaving: false,
        }
    }

    /// How messages are encoded.
    pub(super) const fn encoding(&self) -> Encoding {
        self.manner.serializer.encoding()
    }

    fn put(&self, message: impl Into<Message>, out: &mut BytesMut) {
        let bytes = message.into().encode(self.encoding());
        frame::put(opcode(self.encoding()), &bytes, out);
    }

    fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    fn payload(&self, args: &[Value]) -> Payload {
        Payload::from_values(self.encoding(), args, &Dict::new())
    }

    /// Answers the calls of procedures with what they carry; each is confirmed.
    pub(super) fn register(&mut self, procedures: &[Filter], out: &mut BytesMut) {
        for procedure in procedures {
            let register = Register {
                request: self.next_request(),
                options: Dict::new(),
                procedure: procedure.wamp().uri,
            };
            self.put(register, out);
        }
    }

    /// What [`WampPeer::call_stamped`] calls, by its place: a procedure, and what it gets in front
    /// of the stamped text, if it gets one.
    pub(super) fn aim_calls(
        &mut self,
        calls: &[(ByteString, Vec<Value>)],
        is_stamped: bool,
        padding: &[u8],
    ) {
        let text = is_stamped.then(|| any_payload(padding).into());
        let templates = calls.iter().map(|(procedure, args)| {
            let args: Vec<Value> = args.iter().cloned().chain(text.clone()).collect();
            let call = Call {
                request: ANY_REQUEST,
                options: Dict::new(),
                procedure: procedure.clone(),
                payload: self.payload(&args),
            };
            Template::new(self.encoding(), &call.into(), padding)
        });
        self.templates = templates.collect();
    }

    /// Calls; answers the id of the call.
    ///
    /// # Errors
    /// There is no such call.
    pub(super) fn call_stamped(
        &mut self,
        at: usize,
        stamp: Stamp,
        padding: &[u8],
        out: &mut BytesMut,
    ) -> Result<u64, String> {
        let request = self.next_request();
        let template = self.templates.get(at).ok_or("has no such procedure")?;
        template.put(request, stamp, padding, out);
        Ok(request)
    }

    /// Calls; answers the id of the call.
    pub(super) fn call(&mut self, procedure: &str, args: &[Value], out: &mut BytesMut) -> u64 {
        let request = self.next_request();
        let call = Call {
            request,
            options: Dict::new(),
            procedure: procedure.into(),
            payload: self.payload(args),
        };
        self.put(call, out);
        request
    }

    fn publish_options(&self, is_retained: bool) -> Dict {
        let mut options = Dict::new();
        if self.manner.qos > 0 {
            options.insert("acknowledge".to_owned(), true.into());
        }
        if self.manner.is_mixed {
            options.insert("x_qos".to_owned(), self.manner.qos.into());
        }
        if is_retained {
            options.insert("retain".to_owned(), true.into());
        }
        options
    }

    fn publication(&self, topic: &Filter, args: &[Value], is_retained: bool) -> Message {
        let publish = Publish {
            request: ANY_REQUEST,
            options: self.publish_options(is_retained),
            topic: topic.wamp().uri,
            payload: self.payload(args),
        };
        publish.into()
    }

    fn authenticate(&self, method: &str, out: &mut BytesMut) -> Result<(), String> {
        match &self.manner.credentials {
            Credentials::Ticket { ticket, .. } if method == "ticket" => {
                let authenticate = Authenticate {
                    signature: ticket.as_str().into(),
                    extra: Dict::new(),
                };
                self.put(authenticate, out);
                Ok(())
            }
            _ => Err(format!("wants the method {method:?}")),
        }
    }

    fn echo(&self, invocation: Invocation, out: &mut BytesMut) {
        let answer = Yield {
            request: invocation.request,
            options: Dict::new(),
            payload: invocation.payload,
        };
        self.put(answer, out);
    }

    fn refusal(&self, error: &ErrorMessage) -> String {
        let what = match error.request_type {
            16 => "publish",
            32 => "subscription",
            48 => "call",
            64 => "registration",
            _ => "request",
        };
        let words = Arguments::from_wire(&error.payload, self.encoding());
        let words = words.ok().filter(|words| *words != Arguments::none());
        let words = words.map_or(String::new(), |words| format!(": {words}"));
        format!("refused the {what}: {}{words}", error.error)
    }

    fn take(
        &mut self,
        message: Message,
        out: &mut BytesMut,
        hear: &mut Hear<'_>,
    ) -> Result<(), String> {
        match message {
            Message::Event(event) => hear(Heard::Message(
                event.payload.args.as_deref().unwrap_or_default(),
            )),
            Message::Published(_) => hear(Heard::Acknowledged),
            Message::Result(result) => hear(Heard::Answer {
                request: result.request,
                payload: &result.payload,
            }),
            Message::Invocation(invocation) => {
                self.echo(invocation, out);
                Ok(())
            }
            Message::Subscribed(subscribed) if self.quiet == Some(subscribed.request) => {
                self.quiet = None;
                hear(Heard::Quiet)
            }
            Message::Subscribed(_) | Message::Registered(_) => hear(Heard::Confirmed(1)),
            Message::Welcome(_) => hear(Heard::Welcome),
            Message::Challenge(challenge) => self.authenticate(&challenge.method, out),
            Message::Goodbye(_) if self.is_leaving => hear(Heard::Left),
            Message::Goodbye(goodbye) => Err(format!("ended the session: {}", goodbye.reason)),
            Message::Abort(abort) => Err(format!("refused the session: {}", abort_words(&abort))),
            Message::Error(error) => Err(self.refusal(&error)),
            other => Err(format!("sent an unexpected {}", other.name())),
        }
    }

    fn decode(&self, bytes: Bytes) -> Result<Message, String> {
        let decoded = Message::decode(self.encoding(), bytes, &Limits::default());
        decoded.map_err(|error| format!("broke the protocol: {error}"))
    }
}

/// The reason of an ABORT, with its words if there are any.
fn abort_words(abort: &protocols::wamp::message::Abort) -> String {
    match abort.details.get("message").and_then(Value::as_str) {
        Some(message) => format!("{}: {message}", abort.reason),
        None => abort.reason.to_string(),
    }
}

impl Peer for WampPeer {
    fn hello(&mut self, out: &mut BytesMut) {
        let mut details = Dict::new();
        let roles = json!({"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}});
        details.insert("roles".to_owned(), roles);
        let method = match &self.manner.credentials {
            Credentials::Anonymous => "anonymous",
            Credentials::Ticket { authid, .. } => {
                details.insert("authid".to_owned(), authid.as_str().into());
                "ticket"
            }
        };
        details.insert("authmethods".to_owned(), json!([method]));
        let hello = Hello {
            realm: self.manner.realm.as_str().into(),
            details,
        };
        self.put(hello, out);
    }

    fn handle(
        &mut self,
        inbound: &mut BytesMut,
        out: &mut BytesMut,
        hear: &mut Hear<'_>,
    ) -> Result<(), String> {
        loop {
            match self.frames.next(inbound)? {
                None => return Ok(()),
                Some(Frame::Message(bytes)) => {
                    let message = self.decode(bytes)?;
                    self.take(message, out, hear)?;
                }
                Some(Frame::Ping(bytes)) => {
                    frame::put(OpCode::Control(Control::Pong), &bytes, out);
                }
                Some(Frame::Close(_)) if self.is_leaving => hear(Heard::Left)?,
                Some(Frame::Close(reason)) => {
                    return Err(format!("closed the connection: {reason}"));
                }
            }
        }
    }

    fn ask(&mut self, out: &mut BytesMut) {
        let request = self.next_request();
        self.quiet = Some(request);
        let subscribe = Subscribe {
            request,
            options: Dict::new(),
            topic: self.manner.quiet_topic.as_str().into(),
        };
        self.put(subscribe, out);
    }

    fn leave(&mut self, out: &mut BytesMut) -> bool {
        self.is_leaving = true;
        let goodbye = Goodbye {
            details: Dict::new(),
            reason: "wamp.close.close_realm".into(),
        };
        self.put(goodbye, out);
        true
    }
}

impl PubSub for WampPeer {
    fn subscribe(&mut self, filters: &[Filter], with_retained: bool, out: &mut BytesMut) {
        for filter in filters {
            let Uri { policy, uri } = filter.wamp();
            let mut options = Dict::new();
            if let Some(policy) = policy {
                options.insert("match".to_owned(), policy.into());
            }
            if with_retained {
                options.insert("get_retained".to_owned(), true.into());
            }
            let subscribe = Subscribe {
                request: self.next_request(),
                options,
                topic: uri,
            };
            self.put(subscribe, out);
        }
    }

    fn aim(&mut self, topics: &[Filter], is_retained: bool, padding: &[u8]) {
        let text = [any_payload(padding).into()];
        let templates = topics.iter().map(|topic| {
            let publish = self.publication(topic, &text, is_retained);
            Template::new(self.encoding(), &publish, padding)
        });
        self.templates = templates.collect();
        let erasers = topics.iter().filter(|_| is_retained);
        self.erasers = erasers
            .map(|topic| self.publication(topic, &[], true))
            .collect();
    }

    fn room(&self) -> u64 {
        u64::MAX
    }

    fn publish(
        &mut self,
        at: usize,
        stamp: Stamp,
        padding: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), String> {
        self.call_stamped(at, stamp, padding, out).map(|_| ())
    }

    fn erase(&mut self, at: usize, out: &mut BytesMut) -> Result<(), String> {
        let request = self.next_request();
        match self.erasers.get(at) {
            Some(Message::Publish(publish)) => {
                let publish = Publish {
                    request,
                    ..publish.clone()
                };
                self.put(publish, out);
                Ok(())
            }
            _ => Err("has no such topic".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
