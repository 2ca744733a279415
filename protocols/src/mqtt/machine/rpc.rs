//! Calls by request and response (5.0 section 4.10): a PUBLISH to `$rpc/LEVELS` calls the procedure
//! of these levels, and what comes of it is published to the Response Topic of the request in the
//! name of the session, with the QoS and the Correlation Data of the request.
//!
//! The request is acknowledged when the call is begun, or refused when it is not; then the Response
//! Topic is told as well, so whoever waits there always gets a last answer while the connection
//! lives. A call ends with the connection that made it. Without a Response Topic nobody is told.

use super::incoming::receipt_of;
use super::{Asked, MqttMachine};
use crate::gate::error_uri;
use crate::mqtt::map;
use crate::mqtt::packet::{self, Properties, QoS};
use crate::mqtt::reason::ReasonCode;
use bytes::Bytes;
use bytestring::ByteString;
use router_core::model::{
    CallFailure, CallMessage, Command, ErrorKind, Payload, Publish, Refusal, RequestId, Topic,
};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// What the topics of calls begin with.
const CALLS: &str = "$rpc/";
/// User Property of a request: milliseconds until the call is given up.
const TIMEOUT_PROPERTY: &str = "timeout";
/// User Property of a request: `true` asks for progressive results.
const PROGRESS_PROPERTY: &str = "progress";

/// Where the answers of a call go.
#[derive(Clone, Debug)]
struct Reply {
    topic: Topic,
    correlation_data: Option<Bytes>,
    qos: QoS,
}

/// The calls of a connection whose answers somebody waits for. The realm bounds their number.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// number of the call -> where its answers go
    open: Option<Box<Replies>>,
    last: u64,
}

type Replies = HashMap<u64, Reply, foldhash::fast::RandomState>;

impl Calls {
    /// Nothing comes for this call.
    pub(super) fn forget(&mut self, number: u64) {
        self.take(number);
    }

    fn take(&mut self, number: u64) -> Option<Reply> {
        self.open.as_mut()?.remove(&number)
    }

    /// Gives back the memory of an empty table.
    pub(super) fn rest(&mut self) {
        self.open.take_if(|open| open.is_empty());
    }
}

/// Why a request makes no call.
type Fault = (ReasonCode, ErrorKind, &'static str);

/// How a request asks to be called.
struct Request {
    procedure: Topic,
    payload: Payload,
    progress: bool,
    timeout: Option<Duration>,
}

/// The procedure that a PUBLISH to `topic` calls; `None`: it is no call.
pub(super) fn procedure(topic: &str) -> Option<ByteString> {
    topic.strip_prefix(CALLS).map(ByteString::from)
}

impl MqttMachine {
    pub(super) fn call_by_publish(
        &mut self,
        procedure: ByteString,
        asked: Option<Asked>,
        publish: &packet::Publish,
        set: &Properties,
    ) {
        if !self.version.is_v5() {
            let words = "calls need a Response Topic";
            return self.decline(asked, ReasonCode::NotAuthorized, words);
        }
        let reply = match self.reply_of(set, publish.qos) {
            Ok(reply) => reply,
            Err(words) => return self.decline(asked, ReasonCode::TopicNameInvalid, words),
        };
        let request = match self.request_of(procedure, &publish.payload, set) {
            Ok(request) => request,
            Err((reason, kind, words)) => {
                self.decline(asked, reason, words);
                if let Some(reply) = reply {
                    self.publish_failure(reply, &CallFailure::Realm(Refusal::new(kind, words)));
                }
                return;
            }
        };
        self.calls.last += 1;
        let number = self.calls.last;
        let is_awaited = reply.is_some();
        if let Some(reply) = reply {
            let open = self.calls.open.get_or_insert_default();
            open.insert(number, reply);
        }
        self.command(Command::CallMessage(Box::new(CallMessage {
            acknowledge: asked.map(Asked::request),
            receipt: receipt_of(publish.qos, publish.packet_id),
            request: Asked::Call(number).request(),
            procedure: request.procedure,
            payload: request.payload,
            progress: request.progress && is_awaited,
            timeout: request.timeout,
        })));
    }

    /// Where the answers go, if anywhere.
    fn reply_of(&self, set: &Properties, qos: QoS) -> Result<Option<Reply>, &'static str> {
        let Some(topic) = &set.response_topic else {
            return Ok(None);
        };
        let topic = map::topic(ByteString::from(&**topic), self.options.max_topic_levels);
        Ok(Some(Reply {
            topic: topic.ok_or("the Response Topic is not acceptable")?,
            correlation_data: set.correlation_data.as_deref().map(Bytes::copy_from_slice),
            qos,
        }))
    }

    fn request_of(
        &self,
        procedure: ByteString,
        payload: &Bytes,
        set: &Properties,
    ) -> Result<Request, Fault> {
        let procedure = map::topic(procedure, self.options.max_topic_levels).ok_or((
            ReasonCode::TopicNameInvalid,
            ErrorKind::InvalidTopic,
            "no procedure can have this name",
        ))?;
        let payload = map::arguments(payload).ok_or((
            ReasonCode::PayloadFormatInvalid,
            ErrorKind::InvalidArgument,
            "the payload of a call must be JSON",
        ))?;
        let wrong = |words| {
            let reason = ReasonCode::ImplementationSpecificError;
            (reason, ErrorKind::InvalidArgument, words)
        };
        let timeout = match map::user_property(set, TIMEOUT_PROPERTY).map(str::parse) {
            None | Some(Ok(0)) => None,
            Some(Ok(ms)) => Some(Duration::from_millis(ms)),
            Some(Err(_)) => return Err(wrong("timeout must be a number of milliseconds")),
        };
        let progress = match map::user_property(set, PROGRESS_PROPERTY) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(wrong("progress must be true or false")),
        };
        Ok(Request {
            procedure,
            payload,
            progress,
            timeout,
        })
    }

    /// One result of a call.
    pub(super) fn call_result(&mut self, request: RequestId, payload: &Payload, progress: bool) {
        let Some(reply) = self.reply_to(request, progress) else {
            return;
        };
        if !payload.is_opened_by(false, false) {
            // Progress that cannot be read is none; the final result ends the call.
            if !progress {
                let words = "the result is sealed, which this client cannot open";
                let refusal = Refusal::new(ErrorKind::FeatureNotSupported, words);
                self.publish_failure(reply, &CallFailure::Realm(refusal));
            }
            return;
        }
        let kind = if progress { "progress" } else { "result" };
        let payload = Payload::from(payload.body().clone());
        self.publish_answer(reply, kind, None, payload);
    }

    /// A call that came to nothing.
    pub(super) fn call_failed(&mut self, request: RequestId, failure: &CallFailure) {
        if let Some(reply) = self.reply_to(request, false) {
            self.publish_failure(reply, failure);
        }
    }

    /// Where an answer goes; the last one ends the call.
    fn reply_to(&mut self, request: RequestId, progress: bool) -> Option<Reply> {
        let Some(Asked::Call(number)) = Asked::of(request) else {
            self.unexpected_answer();
            return None;
        };
        match progress {
            true => self.calls.open.as_ref()?.get(&number).cloned(),
            false => self.calls.take(number),
        }
    }

    fn publish_failure(&mut self, reply: Reply, failure: &CallFailure) {
        let (error, payload) = match failure {
            CallFailure::Callee { error, payload } => (&**error, map::envelope(payload)),
            CallFailure::Realm(refusal) => {
                let words = Payload::from_values(&[Value::from(&*refusal.message)]);
                let about = refusal.about.as_deref().cloned().map(Value::Object);
                let payload = map::envelope(&words.with_kwargs(about));
                (error_uri(refusal.kind), payload)
            }
        };
        self.publish_answer(reply, "error", Some(error), payload);
    }

    /// Nobody is told if the session may not publish there, as with any publish of QoS 0.
    fn publish_answer(
        &mut self,
        reply: Reply,
        kind: &'static str,
        error: Option<&str>,
        payload: Payload,
    ) {
        let attributes = map::answer_attributes(kind, reply.correlation_data, error);
        self.command(Command::Publish(Box::new(Publish {
            qos: map::assurance(reply.qos),
            exclude_me: false,
            attributes: Some(attributes),
            ..Publish::new(reply.topic, payload)
        })));
    }
}
