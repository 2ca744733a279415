//! The callee's half of a session: invocations come in, each gets exactly one final answer.

use super::{MAX_RUNNING, State};
use crate::request::{Invocation, Output};
use crate::{Arguments, Dict, Failure};
use protocols::wamp::dict::DictExt as _;
use protocols::wamp::message::{ErrorMessage, Invocation as InvocationMessage, Yield};
use protocols::wamp::uris::error;

impl State {
    /// Takes an INVOCATION.
    pub(super) fn invocation(&mut self, message: InvocationMessage) -> Result<(), String> {
        let request = message.request;
        let arguments = self.read(&message.payload)?;
        let takes_progress = message.details.boolean("receive_progress");
        let takes_progress =
            takes_progress.map_err(|violation| format!("INVOCATION: {violation}"))?;
        let Some(handler) = self.registrations.get(&message.registration).cloned() else {
            let gone = "the registration is gone";
            self.refuse(request, &unavailable(gone));
            return Ok(());
        };
        if self.running.len() >= MAX_RUNNING {
            self.refuse(request, &unavailable("too many calls at a time"));
            return Ok(());
        }
        if !self.running.insert(request) {
            return Err(format!("INVOCATION {request} twice"));
        }
        let invocation = Invocation {
            arguments,
            details: message.details,
            request,
            takes_progress: takes_progress.unwrap_or(false),
            requests: None,
        };
        self.outputs.push_back(Output::Invoke(handler, invocation));
        Ok(())
    }

    /// YIELD with `progress`; after the answer there is none.
    pub(super) fn progress(&mut self, invocation: u64, arguments: &Arguments) {
        if !self.running.contains(&invocation) {
            return;
        }
        match arguments.to_wire(self.encoding) {
            Ok(payload) => {
                let mut options = Dict::new();
                options.insert("progress".into(), true.into());
                self.send(Yield {
                    request: invocation,
                    options,
                    payload,
                });
            }
            // An answer that leaves out a part would be wrong, so the call fails.
            Err(error) => self.answer(invocation, Err(Failure::runtime(&error.to_string()))),
        }
    }

    /// The answer of a handler; only the first counts.
    pub(super) fn answer(&mut self, invocation: u64, answer: Result<Arguments, Failure>) {
        if !self.running.remove(&invocation) {
            return;
        }
        let unspeakable = |error: &dyn std::fmt::Display| Failure::runtime(&error.to_string());
        let answer = answer.and_then(|arguments| {
            let payload = arguments.to_wire(self.encoding);
            payload.map_err(|error| unspeakable(&error))
        });
        match answer {
            Ok(payload) => self.send(Yield {
                request: invocation,
                options: Dict::new(),
                payload,
            }),
            Err(failure) => self.refuse(invocation, &failure),
        }
    }

    /// ERROR to an invocation.
    fn refuse(&mut self, invocation: u64, failure: &Failure) {
        // What cannot be written in this serialization is left out; the error itself matters more.
        let payload = failure.arguments.to_wire(self.encoding);
        self.send(ErrorMessage {
            request_type: 68,
            request: invocation,
            details: Dict::new(),
            error: failure.error.as_str().into(),
            payload: payload.unwrap_or_default(),
        });
    }
}

fn unavailable(why: &str) -> Failure {
    Failure {
        error: error::UNAVAILABLE.to_owned(),
        arguments: Arguments::list(&[why.into()]),
    }
}
