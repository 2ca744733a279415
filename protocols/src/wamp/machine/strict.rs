//! What a realm may ask of its clients beyond what old ones keep to: strict URIs (section "Strict
//! URIs") and sequential request ids (section "Session Scope IDs").
//!
//! A URI that is not strict fails the request, as any other invalid URI does. A request id out of
//! turn ends the session. A CALL may come under an id used before, because a progressive call does.

use super::WampMachine;
use super::request::{CALL, PUBLISH, REGISTER, SUBSCRIBE};
use crate::wamp::message::{MAX_ID, Message};
use crate::wamp::options::{Options, Reject};
use crate::wamp::uris::{self, error};

/// What is asked of the clients of a realm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// URIs of lower case letters, digits and underscores only.
    pub uris: bool,
    /// Request ids 1, 2, 3 and so on, over all kinds of requests.
    pub request_ids: bool,
}

impl WampMachine {
    /// Checks a request of an open session. Answers whether it was refused, and by that answered.
    ///
    /// # Errors
    /// The protocol violation.
    pub(super) fn refuses_loose(&mut self, message: &Message) -> Result<bool, Reject> {
        if self.strict.request_ids {
            self.check_order(message)?;
        }
        if !self.strict.uris {
            return Ok(false);
        }
        let (code, request, uri) = match message {
            Message::Publish(m) => (PUBLISH, m.request, &m.topic),
            Message::Subscribe(m) => (SUBSCRIBE, m.request, &m.topic),
            Message::Register(m) => (REGISTER, m.request, &m.procedure),
            Message::Call(m) => (CALL, m.request, &m.procedure),
            _ => return Ok(false),
        };
        if uris::is_strict(uri) {
            return Ok(false);
        }
        let is_silent = match message {
            Message::Publish(m) => {
                Options::new("PUBLISH", &m.options).boolean("acknowledge")? != Some(true)
            }
            _ => false,
        };
        if !is_silent {
            let text = "in this realm URIs consist of a-z, 0-9 and _ between dots";
            self.say_error(code, request, error::INVALID_URI, text);
        }
        Ok(true)
    }

    fn check_order(&mut self, message: &Message) -> Result<(), Reject> {
        let (request, may_repeat) = match message {
            Message::Publish(m) => (m.request, false),
            Message::Subscribe(m) => (m.request, false),
            Message::Unsubscribe(m) => (m.request, false),
            Message::Register(m) => (m.request, false),
            Message::Unregister(m) => (m.request, false),
            Message::Call(m) => (m.request, true),
            _ => return Ok(()),
        };
        let expected = self.last_request % MAX_ID + 1;
        if request == expected {
            self.last_request = request;
            return Ok(());
        }
        if may_repeat && request <= self.last_request {
            return Ok(());
        }
        let name = message.name();
        let text = format!("{name} element 1 (Request|id): expected {expected}, got {request}");
        Err(Reject::Violation(text.into()))
    }
}
