//! A WAMP client of `fox.lock.*`.

use crate::actor::{Cx, Phase};
use crate::holder::{Holder, Wanted};
use crate::ledger::ActorId;
use crate::wamp::Role;
use crate::wamp_end::{CALL, WampEnd, dict};
use protocols::wamp::message::{Call, Cancel, Message};
use serde_json::{Value, json};

pub struct LockCaller {
    holder: Holder,
    /// The one call that is open.
    request: u64,
}

impl LockCaller {
    pub fn new(me: ActorId, keys: Vec<&'static str>) -> LockCaller {
        let holder = Holder::new(me, keys);
        LockCaller { holder, request: 0 }
    }

    fn call(&mut self, wanted: Wanted, end: &mut WampEnd, cx: &mut Cx<'_>) {
        self.request = end.request(CALL, true);
        let options = dict(json!({"receive_progress": cx.dice.flip()}));
        let payload = end.payload(&wanted.args, wanted.kwargs);
        let call = Call {
            request: self.request,
            options,
            procedure: format!("fox.lock.{}", wanted.name).into(),
            payload,
        };
        end.send(cx, &call.into());
    }

    fn cancel(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if !self.holder.cancels() {
            return;
        }
        let mode = *cx.dice.pick(&["skip", "kill", "killnowait"]);
        let (request, options) = (self.request, dict(json!({"mode": mode})));
        end.send(cx, &Cancel { request, options }.into());
    }
}

impl Role for LockCaller {
    fn up(&mut self, _: &mut WampEnd, _: &mut Cx<'_>) {}

    fn down(&mut self, _: &mut Cx<'_>) {
        self.holder.down();
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let Some(link) = end.link else { return };
        match message {
            Message::Result(m) => {
                let (args, _) = end.values(&m.payload, cx);
                let report = args.first().unwrap_or(&Value::Null);
                if m.details.get("progress") == Some(&Value::Bool(true)) {
                    self.holder.place(report, cx);
                } else {
                    self.holder.answer(report, link, cx);
                }
            }
            Message::Error(m) => self.holder.error(&m.error, link, cx),
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let Some(link) = end.link else { return };
        if let Some(wanted) = self.holder.act(link, cx) {
            self.call(wanted, end, cx);
        } else if cx.phase == Phase::Chaos && cx.dice.permille(30) {
            self.cancel(end, cx);
        }
    }

    fn waits(&self) -> Option<String> {
        self.holder.waits()
    }
}
