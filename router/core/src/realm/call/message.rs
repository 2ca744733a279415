//! Calls that come as messages: the message is acknowledged for itself, and the call is answered as
//! any other.

use super::super::{Effects, Realm, Undo};
use super::CallOptions;
use crate::model::{Answer, CallFailure, CallMessage, ErrorKind, Now, Refusal, Slot};

impl Realm {
    pub(in crate::realm) fn call_by_message(
        &mut self,
        now: Now,
        place: usize,
        message: CallMessage,
        effects: &mut Effects,
    ) {
        let (acknowledge, receipt) = (message.acknowledge, message.receipt);
        if self.is_repetition(place, receipt, acknowledge, effects) {
            self.done(place, message.request, Answer::Repeated, 0, effects);
            return;
        }
        let options = CallOptions {
            progress: message.progress,
            more: false,
            timeout: message.timeout,
            disclose_me: false,
        };
        let may = self
            .may_call(place, &message.procedure, &options)
            .and_then(|()| self.may_remember(place, receipt));
        if let Err((kind, words)) = may {
            self.refuse_publish(place, acknowledge, kind, words, effects);
            let failure = CallFailure::Realm(Refusal::new(kind, words));
            self.fail_request(place, message.request, failure, effects);
            return;
        }
        let before = effects.batch.len();
        self.remember_id(place, receipt, effects);
        let commit = self.commit_since(before, effects);
        let answer = (self.ids.last(), true);
        let undo = Undo::Sent(receipt);
        self.answer_published(place, acknowledge, answer, commit, undo, effects);
        let (request, payload) = (message.request, message.payload);
        self.call(
            now,
            place,
            request,
            &message.procedure,
            payload,
            options,
            effects,
        );
    }

    /// Whether the session may leave one more exactly-once message unreleased.
    pub(in crate::realm) fn may_remember(
        &self,
        place: usize,
        receipt: Option<Slot>,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let most = self.settings.limits.receipts_per_session;
        let session = self.sessions.get(place);
        let is_full = session.is_some_and(|session| session.receipts.len() >= most);
        if receipt.is_some() && is_full {
            return Err((
                ErrorKind::QuotaExceeded,
                "too many unreleased exactly-once messages",
            ));
        }
        Ok(())
    }
}
