//! What a client asks for in an open session: messages become commands, or are refused at once.

use super::WampMachine;
use crate::gate::Action;
use crate::wamp::map;
use crate::wamp::message::{
    Call, Cancel, ErrorMessage, Message, Publish, Register, Subscribe, Yield,
};
use crate::wamp::options::{
    CallOptions, Options, RegisterOptions, Reject, SubscribeOptions, cancel_mode,
};
use crate::wamp::passthru;
use crate::wamp::uris;
use bytestring::ByteString;
use router_core::model::{
    self, Args, Command, InvocationFailed, InvocationId, Payload, Qos, RegistrationId,
    SubscriptionId, UnsubscribeTarget,
};
use std::sync::Arc;

/// Type codes of requests, as they stand in ERROR.
pub(super) const PUBLISH: u64 = 16;
pub(super) const SUBSCRIBE: u64 = 32;
const UNSUBSCRIBE: u64 = 34;
pub(super) const CALL: u64 = 48;
const CANCEL: u64 = 49;
pub(super) const REGISTER: u64 = 64;
const UNREGISTER: u64 = 66;
const INVOCATION: u64 = 68;

impl WampMachine {
    /// Carries out a message of an open session. Requests that fail are answered here.
    ///
    /// # Errors
    /// The protocol violation; never another [`Reject`].
    pub(super) fn handle_request(&mut self, message: Message) -> Result<(), Reject> {
        if self.refuses_loose(&message)? {
            return Ok(());
        }
        match message {
            Message::Publish(publish) => self.publish(publish),
            Message::Subscribe(subscribe) => {
                let request = subscribe.request;
                let command = read_subscribe(&subscribe);
                self.command_or_error(SUBSCRIBE, request, command)
            }
            Message::Unsubscribe(unsubscribe) => {
                self.command(Command::Unsubscribe(Box::new(model::Unsubscribe {
                    request: map::request_id(UNSUBSCRIBE, unsubscribe.request),
                    target: UnsubscribeTarget::Id(SubscriptionId(unsubscribe.subscription)),
                })));
                Ok(())
            }
            Message::Register(register) => {
                let request = register.request;
                let command = read_register(&register);
                self.command_or_error(REGISTER, request, command)
            }
            Message::Unregister(unregister) => {
                self.command(Command::Unregister {
                    request: map::request_id(UNREGISTER, unregister.request),
                    registration: RegistrationId(unregister.registration),
                });
                Ok(())
            }
            Message::Call(call) => {
                let request = call.request;
                let command = self.read_call(call);
                self.command_or_error(CALL, request, command)
            }
            Message::Cancel(cancel) => {
                let request = cancel.request;
                let command = read_cancel(&cancel);
                self.command_or_error(CANCEL, request, command)
            }
            Message::Yield(result) => self.yielded(result),
            Message::Error(error) => self.invocation_failed(error),
            Message::Authenticate(_) => Err(Reject::Violation("AUTHENTICATE after WELCOME".into())),
            other => {
                let text = format!("{} is sent by routers only", other.name());
                Err(Reject::Violation(text.into()))
            }
        }
    }

    fn command(&mut self, command: Command) {
        self.actions.push_back(Action::Command(command));
    }

    fn command_or_error(
        &mut self,
        code: u64,
        request: u64,
        command: Result<Command, Reject>,
    ) -> Result<(), Reject> {
        match command {
            Ok(command) => self.command(command),
            Err(Reject::Error { error, message }) => {
                self.say_error(code, request, error, &message);
            }
            Err(violation) => return Err(violation),
        }
        Ok(())
    }

    /// Without `acknowledge` nothing is answered, not even an error (section "PUBLISHED").
    fn publish(&mut self, publish: Publish) -> Result<(), Reject> {
        let request = publish.request;
        let acknowledge =
            Options::new("PUBLISH", &publish.options).boolean("acknowledge")? == Some(true);
        match self.read_publish(publish, acknowledge) {
            Err(Reject::Error { .. }) if !acknowledge => Ok(()),
            command => self.command_or_error(PUBLISH, request, command),
        }
    }

    fn read_publish(&self, publish: Publish, acknowledge: bool) -> Result<Command, Reject> {
        let all = Options::new("PUBLISH", &publish.options);
        let sender = self.announced.publisher;
        let payload = || passthru::payload(self.encoding, publish.payload, all, sender);
        Ok(Command::Publish(Box::new(model::Publish {
            request: acknowledge.then(|| map::request_id(PUBLISH, publish.request)),
            ..map::publication(&publish.topic, all, payload)?
        })))
    }

    fn read_call(&self, call: Call) -> Result<Command, Reject> {
        let all = Options::new("CALL", &call.options);
        let options = CallOptions::read(all, self.features.progressive_calls)?;
        let sender = self.announced.caller;
        Ok(Command::Call(Box::new(model::Call {
            request: map::request_id(CALL, call.request),
            procedure: map::topic(&call.procedure)?,
            payload: passthru::payload(self.encoding, call.payload, all, sender)?,
            progress: options.receive_progress,
            more: options.progress,
            timeout: options.timeout,
            disclose_me: options.disclose_me,
        })))
    }

    fn yielded(&mut self, result: Yield) -> Result<(), Reject> {
        let options = Options::new("YIELD", &result.options);
        let progress = options.boolean("progress")?.unwrap_or(false);
        let invocation = InvocationId(result.request);
        let sender = self.announced.callee;
        let payload = passthru::payload(self.encoding, result.payload, options, sender);
        match payload {
            Ok(payload) => self.command(Command::Yield {
                invocation,
                payload: Arc::new(payload),
                progress,
            }),
            // The call must end, and its caller can do nothing with these bytes.
            Err(Reject::Error { error, message }) => {
                self.fail_invocation(invocation, error, &message);
            }
            Err(violation) => return Err(violation),
        }
        Ok(())
    }

    /// Section "ERROR": from a client it can only concern an INVOCATION.
    fn invocation_failed(&mut self, failed: ErrorMessage) -> Result<(), Reject> {
        if failed.request_type != INVOCATION {
            let text = "ERROR element 1 (REQUEST.Type|int): a client may only send 68, INVOCATION";
            return Err(Reject::Violation(text.into()));
        }
        // It goes to the caller unchanged, and callers check the grammar.
        if !uris::is_concrete(&failed.error) {
            let text = "ERROR element 4 (Error|uri): not a URI";
            return Err(Reject::Violation(text.into()));
        }
        let options = Options::new("ERROR", &failed.details);
        let sender = self.announced.callee;
        let payload = match passthru::payload(self.encoding, failed.payload, options, sender) {
            Ok(payload) => payload,
            // What may not pass is left out; the error itself still tells.
            Err(Reject::Error { .. }) => Payload::args(self.encoding, Args::default()),
            Err(violation) => return Err(violation),
        };
        self.command(Command::InvocationFailed(Box::new(InvocationFailed {
            invocation: InvocationId(failed.request),
            error: ByteString::from(&*failed.error),
            payload,
        })));
        Ok(())
    }
}

fn read_subscribe(subscribe: &Subscribe) -> Result<Command, Reject> {
    let options = SubscribeOptions::read(Options::new("SUBSCRIBE", &subscribe.options))?;
    let (pattern, kind) = map::pattern(&subscribe.topic, options.matching)?;
    let request = map::request_id(SUBSCRIBE, subscribe.request);
    Ok(Command::Subscribe(Box::new(model::Subscribe {
        kind,
        // Events keep the assurance they were published with; their order is given anyhow.
        qos: Qos::ExactlyOnce,
        retained: options.retained,
        after: options.after,
        snapshot: options.snapshot,
        filter: options.filter,
        share: options.share,
        ..model::Subscribe::new(request, pattern)
    })))
}

fn read_register(register: &Register) -> Result<Command, Reject> {
    let options = RegisterOptions::read(Options::new("REGISTER", &register.options))?;
    let (pattern, kind) = map::open_pattern(&register.procedure, options.matching)?;
    Ok(Command::Register(Box::new(model::Register {
        request: map::request_id(REGISTER, register.request),
        pattern,
        kind,
        policy: options.policy,
        concurrency: options.concurrency,
        force: options.force,
        disclose_caller: options.disclose_caller,
        forward_timeout: options.forward_timeout,
    })))
}

fn read_cancel(cancel: &Cancel) -> Result<Command, Reject> {
    Ok(Command::Cancel {
        request: map::request_id(CALL, cancel.request),
        mode: cancel_mode(Options::new("CANCEL", &cancel.options))?,
    })
}
