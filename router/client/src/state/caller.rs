//! The caller's half of a session: a call has any number of progressive results and one answer.

use super::{Pending, State};
use crate::Dict;
use crate::request::{Cancel as CancelMode, Delivery, Output};
use protocols::wamp::dict::DictExt as _;
use protocols::wamp::message::{Call, Cancel, Payload, ResultMessage};

impl State {
    /// CALL.
    pub(super) fn call(&mut self, pending: Pending, payload: Payload, mut options: Dict) {
        let Pending::Call {
            procedure,
            progress,
            ..
        } = &pending
        else {
            return;
        };
        if progress.is_some() {
            options.insert("receive_progress".into(), true.into());
        }
        let uri = procedure.as_str().into();
        self.ask(pending, |request| {
            let procedure = uri;
            Call {
                request,
                options,
                procedure,
                payload,
            }
            .into()
        });
    }

    /// CANCEL. A call that has its answer is not found, and needs no CANCEL.
    pub(super) fn cancel(&mut self, key: u64, mode: CancelMode) {
        let is_meant =
            |pending: &Pending| matches!(pending, Pending::Call { key: k, .. } if *k == key);
        let found = self.pending.iter().find(|(_, pending)| is_meant(pending));
        let Some((&request, _)) = found else {
            return;
        };
        let mut options = Dict::new();
        options.insert("mode".into(), mode.mode().into());
        self.send(Cancel { request, options });
    }

    /// Takes a RESULT.
    pub(super) fn result(&mut self, result: ResultMessage) -> Result<(), String> {
        let arguments = self.read(&result.payload)?;
        let progressive = result.details.boolean("progress");
        let progressive = progressive.map_err(|violation| format!("RESULT: {violation}"))?;
        if progressive == Some(true) {
            let Some(Pending::Call {
                progress: Some(progress),
                ..
            }) = self.pending.get(&result.request)
            else {
                return Err("progressive RESULT that was not asked for".to_owned());
            };
            let delivery = Delivery::Progress(progress.clone(), arguments);
            self.outputs.push_back(Output::Deliver(delivery));
            return Ok(());
        }
        match self.pending.remove(&result.request) {
            Some(Pending::Call { reply, .. }) => {
                let _ = reply.send(Ok(arguments));
                Ok(())
            }
            _ => Err("RESULT to a call that was not made".to_owned()),
        }
    }
}
