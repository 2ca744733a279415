//! What the judge learns of commands before the realm carries them out, and what a router that is
//! broken on purpose does to them.

use crate::dice::Dice;
use crate::ledger::{Ledger, Uid};
use crate::net::LinkId;
use crate::router::Core;
use router_core::model::{Audience, Command, Payload, Qos, Topic};
use serde_json::Value;

/// A way in which the router under test is broken on purpose, to show that the judge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Not at all.
    No,
    /// Answers leave before the commit they depend on.
    AcknowledgesEarly,
    /// Now and then a condition is not looked at.
    IgnoresConditions,
    /// Wills of keys are forgotten.
    ForgetsWills,
    /// Now and then a message to be settled is lost.
    LosesMessages,
    /// Now and then an answer is given twice.
    AnswersTwice,
    /// A callee's limit is ignored.
    IgnoresConcurrency,
    /// Now and then records of a queue are asked for and never read.
    LosesLoads,
    /// Now and then a member of a share group gets what others get too.
    IgnoresGroups,
    /// There is one permit more than was asked for.
    CountsWrong,
    /// Now and then a lock that excludes others is given like one that is shared.
    SharesLocks,
    /// Leases are forgotten.
    ForgetsLeases,
    /// Now and then a call that compares and sets does not compare.
    SwapsBlindly,
}

impl Broken {
    /// Of the router's own procedures.
    fn is_about_calls(self) -> bool {
        matches!(
            self,
            Broken::CountsWrong
                | Broken::SharesLocks
                | Broken::ForgetsLeases
                | Broken::SwapsBlindly
        )
    }
}

impl Core {
    /// Answers which message was published, if one was, and whether it is to be kept.
    pub(super) fn witness(
        &self,
        link: LinkId,
        command: &Command,
        ledger: &mut Ledger,
    ) -> Option<(Uid, bool)> {
        match command {
            // The answer to a call by MQTT.
            Command::Publish(publish) if is_response(publish.topic.text()) => {}
            Command::Publish(publish) => {
                let uid = ledger.executes(link, publish.topic.text());
                let is_release = publish.retain
                    && publish.payload.has_no_value()
                    && publish.payload.has_no_kwargs();
                if uid.is_some() && is_release {
                    let step = ledger.tick();
                    ledger.locks.released(publish.topic.text(), link, step);
                }
                return uid.map(|uid| (uid, publish.retain));
            }
            Command::Call(call) => {
                self.hears_call(link, &call.procedure, &call.payload, ledger);
            }
            Command::CallMessage(call) => {
                self.hears_call(link, &call.procedure, &call.payload, ledger);
            }
            Command::DisarmLastWill => ledger.will_disarmed(link, self.store.submitted),
            _ => {}
        }
        None
    }

    fn hears_call(&self, link: LinkId, procedure: &Topic, payload: &Payload, ledger: &mut Ledger) {
        if let Some(name) = procedure.text().strip_prefix("fox/lock/") {
            let call = (name, payload.value(), payload.kwargs_value());
            let taken = (ledger.tick(), self.ms, ledger.life);
            ledger.holds.takes(link, call, taken);
        } else if procedure.text().starts_with("fox/kv/")
            && let Some(uid) = payload.kwargs_value()["u"].as_u64()
        {
            ledger.calls_a_write(link, uid);
        }
    }

    /// What a broken router does to a command.
    pub(super) fn sabotage(&self, command: &mut Command, dice: &mut Dice) {
        match (self.broken, command) {
            (broken, Command::Call(call)) if broken.is_about_calls() => {
                spoil(broken, &mut call.procedure, &mut call.payload, dice);
            }
            (broken, Command::CallMessage(call)) if broken.is_about_calls() => {
                spoil(broken, &mut call.procedure, &mut call.payload, dice);
            }
            (Broken::IgnoresConditions, Command::Publish(publish)) => {
                if let Some(options) = &mut publish.options
                    && dice.permille(300)
                {
                    options.when = None;
                }
            }
            (Broken::ForgetsWills, Command::Publish(publish)) => {
                if let Some(options) = &mut publish.options {
                    options.will = None;
                }
            }
            (Broken::IgnoresGroups, Command::Subscribe(subscribe)) if dice.permille(300) => {
                subscribe.share = None;
            }
            (Broken::IgnoresConcurrency, Command::Register(register)) => {
                register.concurrency = register.concurrency.map(|most| most + 5);
            }
            (Broken::LosesMessages, Command::Publish(publish))
                if publish.qos != Qos::AtMostOnce
                    && !publish.retain
                    && !is_response(publish.topic.text())
                    && dice.permille(50) =>
            {
                let nobody = Audience {
                    sessions: Some(Vec::new()),
                    ..Audience::default()
                };
                publish.options.get_or_insert_default().eligible = Some(nobody);
            }
            _ => {}
        }
    }
}

/// Whether the answers to calls by MQTT go to this topic.
fn is_response(topic: &str) -> bool {
    topic.starts_with("reply/")
}

/// Breaks a call of the router's own procedures.
fn spoil(broken: Broken, procedure: &mut Topic, payload: &mut Payload, dice: &mut Dice) {
    let is_lock = procedure.text().starts_with("fox/lock/");
    let mut kwargs = payload.kwargs_value().clone();
    match broken {
        Broken::CountsWrong if is_lock && kwargs["limit"].is_u64() => {
            kwargs["limit"] = (crate::holds::LIMIT + 1).into();
        }
        Broken::SharesLocks if is_lock && kwargs["mode"] == "mutex" && dice.permille(300) => {
            kwargs["mode"] = "shared".into();
        }
        Broken::ForgetsLeases if is_lock && kwargs.is_object() => kwargs["ttl_ms"] = Value::Null,
        Broken::SwapsBlindly if procedure.text() == "fox/kv/cas" && dice.permille(300) => {
            let Ok(put) = Topic::new("fox/kv/put") else {
                return;
            };
            *procedure = put;
            let args = payload.value();
            *payload = Payload::from_values(&[args[0].clone(), args[2].clone()]);
            return;
        }
        _ => return,
    }
    let args = match payload.value() {
        Value::Array(args) => args.clone(),
        arg => vec![arg.clone()],
    };
    *payload = Payload::from_values(&args).with_kwargs(Some(kwargs));
}
