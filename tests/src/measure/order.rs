//! What the WAMP text orders (section "Ordering Guarantees"), watched while every thread of the
//! router is busy: what one session publishes reaches another in that order over all topics, what one
//! calls reaches a callee in that order over all procedures, and nothing of a subscription or
//! registration comes before its acknowledgement or after its end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Barrier;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::wamp::{Session, code, receive};
use crate::{Options, Server};

const UNSUBSCRIBE: u64 = 34;
const UNSUBSCRIBED: u64 = 35;
const UNREGISTER: u64 = 66;
const UNREGISTERED: u64 = 67;

/// Topics and procedures that each sender takes in turn.
const NAMES: u64 = 5;
/// Messages a sender writes before it waits for the results of their calls.
const BATCH: u64 = 40;

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sessions that publish and call.
    pub senders: u64,
    /// Sessions that receive all of it.
    pub receivers: u64,
    /// Publishes of each sender, and as many calls to each receiver.
    pub messages: u64,
}

/// What was received; every one of it in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Events of subscriptions that lasted.
    pub events: u64,
    /// Events of subscriptions that came and went.
    pub passing_events: u64,
    /// Invocations of registrations that lasted.
    pub invocations: u64,
    /// Invocations of registrations that came and went.
    pub passing_invocations: u64,
    /// Subscriptions and registrations that came and went.
    pub changes: u64,
}

/// Runs the plan against a fresh router in memory.
///
/// # Errors
/// Fails at the first thing that is missing, doubled or out of order.
pub fn run(plan: &Plan) -> Result<Report> {
    let server = Server::start(Options::default().memory())?;
    let addr = server.listen;
    let ready = Barrier::new(usize::try_from(plan.senders + plan.receivers)?);
    std::thread::scope(|scope| {
        let ready = &ready;
        let receivers: Vec<_> = (0..plan.receivers)
            .map(|name| scope.spawn(move || Receiver::open(addr, name, plan, ready)?.run()))
            .collect();
        let senders: Vec<_> = (0..plan.senders)
            .map(|name| scope.spawn(move || send(addr, name, plan, ready)))
            .collect();
        for sender in senders {
            sender.join().map_err(|_| anyhow!("a sender panicked"))??;
        }
        let mut total = Report::default();
        for receiver in receivers {
            let report = receiver
                .join()
                .map_err(|_| anyhow!("a receiver panicked"))??;
            total.events += report.events;
            total.passing_events += report.passing_events;
            total.invocations += report.invocations;
            total.passing_invocations += report.passing_invocations;
            total.changes += report.changes;
        }
        Ok(total)
    })
}

/// Publishes and calls in batches. A call of a procedure that is offered at times may fail, the others not.
fn send(addr: SocketAddr, name: u64, plan: &Plan, ready: &Barrier) -> Result<()> {
    let session = Session::join(addr, "realm1");
    ready.wait();
    let mut session = session?;
    let mut number = 0;
    while number < plan.messages {
        let last = plan.messages.min(number + BATCH);
        let mut open = HashMap::new();
        for number in number..last {
            let topic = format!("order.event.{}", number % NAMES);
            let request = session.request();
            session.send(&json!([code::PUBLISH, request, {}, topic, [name, number]]))?;
            for receiver in 0..plan.receivers {
                let procedure = match number % NAMES {
                    0 => format!("order.call.{receiver}.passing"),
                    other => format!("order.call.{receiver}.{other}"),
                };
                let request = session.request();
                session.send(&json!([code::CALL, request, {}, procedure, [name, number]]))?;
                open.insert(request, number);
            }
        }
        await_results(&mut session, open)?;
        number = last;
    }
    session.leave()?;
    Ok(())
}

fn await_results(session: &mut Session, mut open: HashMap<u64, u64>) -> Result<()> {
    while !open.is_empty() {
        let message = receive(session.socket())?;
        let (request, is_error) = match message[0].as_u64() {
            Some(code::RESULT) => (&message[1], false),
            Some(code::ERROR) => (&message[2], true),
            _ => bail!("{message} to a sender"),
        };
        let request = request.as_u64().context("no request id")?;
        let number = open.remove(&request).context("a second answer")?;
        if is_error {
            let fleeting = number % NAMES == 0;
            let reason = message[4].as_str().unwrap_or_default();
            let expected = ["wamp.error.no_such_procedure", "wamp.error.canceled"];
            ensure!(
                fleeting && expected.contains(&reason),
                "call {number}: {message}"
            );
        } else {
            ensure!(message[3][0] == number, "call {number}: {message}");
        }
    }
    Ok(())
}

/// What came last from each sender.
#[derive(Default)]
struct Numbers(HashMap<u64, u64>);

impl Numbers {
    /// Takes the next number of a sender: greater than those before it, or by exactly one where
    /// nothing may be missing.
    fn take(&mut self, args: &Value, complete: bool) -> Result<()> {
        let sender = args[0].as_u64().context("no sender")?;
        let number = args[1].as_u64().context("no number")?;
        let next = self.0.get(&sender).map_or(0, |last| last + 1);
        let fits = if complete {
            number == next
        } else {
            number >= next
        };
        ensure!(fits, "{number} of sender {sender} where {next} was next");
        self.0.insert(sender, number);
        Ok(())
    }
}

/// A session that receives everything and changes some of what it receives by all the time.
struct Receiver {
    session: Session,
    procedure: String,
    lasting: u64,
    events_wanted: u64,
    calls_wanted: u64,
    /// Ids that are acknowledged and not ended, and what came by them.
    subscriptions: HashMap<u64, Numbers>,
    registrations: HashSet<u64>,
    passing_registration: Option<u64>,
    invocations: Numbers,
    /// The id that each unanswered request would end.
    ending: HashMap<u64, u64>,
    report: Report,
}

impl Receiver {
    fn open(addr: SocketAddr, name: u64, plan: &Plan, ready: &Barrier) -> Result<Receiver> {
        let prepared = Receiver::prepare(addr, name, plan);
        ready.wait();
        prepared
    }

    fn prepare(addr: SocketAddr, name: u64, plan: &Plan) -> Result<Receiver> {
        let mut session = Session::join(addr, "realm1")?;
        let lasting = session.subscribe("order.event.", json!({"match": "prefix"}))?;
        let mut registrations = HashSet::new();
        for number in 1..NAMES {
            let reply = session.try_register(&format!("order.call.{name}.{number}"), json!({}))?;
            ensure!(reply[0] == code::REGISTERED, "{reply}");
            registrations.insert(reply[2].as_u64().context("no registration id")?);
        }
        let lasting_calls = (0..plan.messages).filter(|number| number % NAMES != 0);
        let lasting_calls = u64::try_from(lasting_calls.count())?;
        Ok(Receiver {
            session,
            procedure: format!("order.call.{name}.passing"),
            lasting,
            events_wanted: plan.senders * plan.messages,
            calls_wanted: plan.senders * lasting_calls,
            subscriptions: HashMap::from([(lasting, Numbers::default())]),
            registrations,
            passing_registration: None,
            invocations: Numbers::default(),
            ending: HashMap::new(),
            report: Report::default(),
        })
    }

    fn run(mut self) -> Result<Report> {
        self.subscribe()?;
        self.register()?;
        while self.report.events < self.events_wanted || self.report.invocations < self.calls_wanted
        {
            let message = receive(self.session.socket())?;
            self.take(&message)
                .with_context(|| format!("at {message}"))?;
        }
        Ok(self.report)
    }

    fn subscribe(&mut self) -> Result<()> {
        let topic = format!("order.event.{}", self.report.changes % NAMES);
        let request = self.session.request();
        self.session.send(&json!([32, request, {}, topic]))
    }

    fn register(&mut self) -> Result<()> {
        let request = self.session.request();
        self.session
            .send(&json!([code::REGISTER, request, {}, self.procedure]))
    }

    fn end(&mut self, message: u64, id: u64) -> Result<()> {
        let request = self.session.request();
        self.ending.insert(request, id);
        self.session.send(&json!([message, request, id]))
    }

    fn take(&mut self, message: &Value) -> Result<()> {
        let number = |at: usize| message[at].as_u64().context("no id");
        match number(0)? {
            code::SUBSCRIBED => {
                let known = self.subscriptions.insert(number(2)?, Numbers::default());
                ensure!(known.is_none(), "acknowledged twice");
                self.end(UNSUBSCRIBE, number(2)?)?;
            }
            UNSUBSCRIBED => {
                let id = self.ending.remove(&number(1)?).context("unasked")?;
                self.subscriptions.remove(&id);
                self.report.changes += 1;
                self.subscribe()?;
            }
            code::REGISTERED => {
                self.passing_registration = Some(number(2)?);
                self.end(UNREGISTER, number(2)?)?;
            }
            UNREGISTERED => {
                self.ending.remove(&number(1)?).context("unasked")?;
                self.passing_registration = None;
                self.report.changes += 1;
                self.register()?;
            }
            code::EVENT => self.event(number(1)?, &message[4])?,
            code::INVOCATION => self.invocation(number(1)?, number(2)?, &message[4])?,
            _ => bail!("unexpected"),
        }
        Ok(())
    }

    fn event(&mut self, subscription: u64, args: &Value) -> Result<()> {
        let numbers = self.subscriptions.get_mut(&subscription);
        let lasts = subscription == self.lasting;
        numbers
            .context("an event outside of its subscription")?
            .take(args, lasts)?;
        match lasts {
            true => self.report.events += 1,
            false => self.report.passing_events += 1,
        }
        Ok(())
    }

    /// Over all procedures, so that some numbers are missing where the passing one was not offered.
    fn invocation(&mut self, invocation: u64, registration: u64, args: &Value) -> Result<()> {
        if self.registrations.contains(&registration) {
            self.report.invocations += 1;
        } else {
            ensure!(
                self.passing_registration == Some(registration),
                "an invocation outside of its registration"
            );
            self.report.passing_invocations += 1;
        }
        self.invocations.take(args, false)?;
        let answer = json!([code::YIELD, invocation, {}, [args[1]]]);
        self.session.send(&answer)
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use serde_json::json;

    #[test]
    fn gaps_doubles_and_steps_back_are_seen() {
        let mut numbers = Numbers::default();
        assert!(numbers.take(&json!([7, 0]), true).is_ok());
        assert!(numbers.take(&json!([8, 0]), true).is_ok());
        assert!(numbers.take(&json!([7, 0]), true).is_err(), "doubled");
        assert!(numbers.take(&json!([7, 2]), true).is_err(), "missing");
        assert!(numbers.take(&json!([7, 2]), false).is_ok());
        assert!(numbers.take(&json!([7, 1]), false).is_err(), "back");
    }
}
