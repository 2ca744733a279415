//! What a cell does opposite its partner.

use anyhow::{Context, Result, ensure};
use integration_tests::agent::Agent;
use serde_json::{Value, json};

use super::cells::Cell;
use crate::Outcome;

/// A thing that WAMP clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// An acknowledged publish arrives whole at the partner.
    Publish,
    /// The partner's acknowledged publish arrives whole.
    Event,
    /// The acknowledgement's id is shown.
    PublicationId,
    /// The partner's endpoint returns what it was called with.
    Call,
    /// The partner gets back what it called with.
    Yield,
    /// Progressive results of the partner come in order, then the last one.
    CallProgress,
    /// The partner gets them from the cell.
    YieldProgress,
    /// The partner's endpoint is interrupted and the call ends.
    Cancel,
    /// The partner cancels a call: it ends, and the callee goes on working.
    CanceledCall,
    /// The partner cancels a call: the endpoint is interrupted.
    Interrupt,
    /// URI and arguments of the partner's error.
    CallError,
    /// URI and arguments of the cell's error.
    Error,
    /// Keyword arguments of the cell's error.
    ErrorKwargs,
    /// Bytes to the partner.
    PublishBytes,
    /// Bytes of the partner.
    EventBytes,
    /// The largest integers of every serialization to the partner.
    PublishIntegers,
    /// The same of the partner.
    EventIntegers,
    /// Integers of 64 bits to the partner.
    PublishLongIntegers,
    /// The same of the partner.
    EventLongIntegers,
}

/// A cell, its partner, and a word for what is between these two alone.
pub struct Pair<'a> {
    pub cell: Cell,
    pub agent: &'a mut Agent,
    pub partner: &'a mut Agent,
    pub word: &'static str,
}

const ERROR: &str = "com.example.error.no_luck";

/// What every serialization and every language with doubles has exactly.
const INTEGERS: [i64; 3] = [9_007_199_254_740_991, -9_007_199_254_740_991, 4_294_967_296];

fn long_integers() -> Value {
    let decimals = [
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
    ];
    decimals
        .iter()
        .map(|decimal| json!({"$int": decimal}))
        .collect()
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Publish,
        Self::Event,
        Self::PublicationId,
        Self::Call,
        Self::Yield,
        Self::CallProgress,
        Self::YieldProgress,
        Self::Cancel,
        Self::CanceledCall,
        Self::Interrupt,
        Self::CallError,
        Self::Error,
        Self::ErrorKwargs,
        Self::PublishBytes,
        Self::EventBytes,
        Self::PublishIntegers,
        Self::EventIntegers,
        Self::PublishLongIntegers,
        Self::EventLongIntegers,
    ];

    /// Does it.
    pub fn play(self, pair: &mut Pair<'_>) -> Outcome {
        let uri = format!("com.example.{}.{self:?}", pair.word).to_lowercase();
        let (cell, agent, partner) = (pair.cell, &mut *pair.agent, &mut *pair.partner);
        let bytes = json!({"$bin": "00ff10fe"});
        let integers = json!(INTEGERS);
        match self {
            Self::Publish => whole_events(agent, partner, &uri),
            Self::Event => whole_events(partner, agent, &uri),
            Self::PublicationId => shows_the_publication(agent, &uri),
            Self::Call => echo(agent, partner, &uri),
            Self::Yield => echo(partner, agent, &uri),
            Self::CallProgress => progress(agent, partner, &uri),
            Self::YieldProgress => progress(partner, agent, &uri),
            Self::Cancel => interrupts(agent, partner, &uri),
            Self::Interrupt => interrupts(partner, agent, &uri),
            Self::CanceledCall => survives_a_canceled_call(partner, agent, &uri),
            Self::CallError => {
                let error = error(agent, partner, &uri)?;
                has_uri_and_args(&error)?;
                has_kwargs(&error)
            }
            Self::Error => has_uri_and_args(&error(partner, agent, &uri)?),
            Self::ErrorKwargs => has_kwargs(&error(partner, agent, &uri)?),
            Self::PublishBytes => event(agent, partner, &uri, &cell.bytes(), &bytes),
            Self::EventBytes => event(partner, agent, &uri, &bytes, &cell.bytes()),
            Self::PublishIntegers => {
                let said = INTEGERS.iter().map(|value| cell.integer(*value)).collect();
                event(agent, partner, &uri, &said, &integers)
            }
            Self::EventIntegers => event(partner, agent, &uri, &integers, &integers),
            Self::PublishLongIntegers => {
                event(agent, partner, &uri, &long_integers(), &long_integers())
            }
            Self::EventLongIntegers => {
                event(partner, agent, &uri, &long_integers(), &long_integers())
            }
        }
    }
}

fn body() -> (Value, Value) {
    let args = json!([
        "text \u{e9}\u{1f98a}", "", 0, -1, 7, 65536, 2.5, -0.1, true, false, null, [], {},
        [1, [2]], {"nested": {"deep": []}}
    ]);
    (
        args,
        json!({"name": "value", "list": [1, 2, 3], "none": null}),
    )
}

/// Publishes with an acknowledgement and returns the event that came of it.
fn publish(
    publisher: &mut Agent,
    subscriber: &mut Agent,
    topic: &str,
    args: &Value,
    kwargs: &Value,
) -> Result<Value> {
    subscriber.ok(json!({"do": "subscribe", "topic": topic}))?;
    publisher.ok(json!({
        "do": "publish", "topic": topic, "args": args, "kwargs": kwargs,
        "options": {"acknowledge": true}
    }))?;
    subscriber.next("event")
}

fn whole_events(publisher: &mut Agent, subscriber: &mut Agent, topic: &str) -> Outcome {
    let (args, kwargs) = body();
    let event = publish(publisher, subscriber, topic, &args, &kwargs)?;
    ensure!(event["args"] == args, "args {event}");
    ensure!(event["kwargs"] == kwargs, "kwargs {event}");
    Ok(())
}

/// One argument: `said` by one side is `seen` by the other, in a list and by keyword too.
fn event(
    publisher: &mut Agent,
    subscriber: &mut Agent,
    topic: &str,
    said: &Value,
    seen: &Value,
) -> Outcome {
    let (args, kwargs) = (json!([said, [said]]), json!({"value": said}));
    let event = publish(publisher, subscriber, topic, &args, &kwargs)?;
    ensure!(event["args"] == json!([seen, [seen]]), "args {event}");
    ensure!(event["kwargs"] == json!({"value": seen}), "kwargs {event}");
    Ok(())
}

fn shows_the_publication(publisher: &mut Agent, topic: &str) -> Outcome {
    let published = publisher.ok(json!({
        "do": "publish", "topic": topic, "args": [], "options": {"acknowledge": true}
    }))?;
    let id = published["publication"].as_u64();
    ensure!(
        id.is_some_and(|id| (1..=1 << 53).contains(&id)),
        "{published}"
    );
    Ok(())
}

fn register(callee: &mut Agent, procedure: &str, endpoint: &str) -> Outcome {
    callee.ok(json!({
        "do": "register", "procedure": procedure, "endpoint": endpoint,
        "uri": ERROR, "args": ["sorry", 7], "kwargs": {"retry": false, "after": [1, 2]}
    }))?;
    Ok(())
}

fn echo(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Outcome {
    register(callee, procedure, "echo")?;
    let lone = (json!(["alone"]), json!({}));
    for (args, kwargs) in [body(), lone, (json!([]), json!({"only": "kwargs"}))] {
        let result = caller.ok(json!({
            "do": "call", "procedure": procedure, "args": args, "kwargs": kwargs
        }))?;
        ensure!(result["args"] == args, "args {result}");
        ensure!(result["kwargs"] == kwargs, "kwargs {result}");
    }
    Ok(())
}

fn progress(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Outcome {
    register(callee, procedure, "count")?;
    let result = caller.ok(json!({
        "do": "call", "procedure": procedure, "args": [3], "progress": true
    }))?;
    ensure!(result["args"] == json!([3]), "{result}");
    for step in 0..3 {
        let progress = caller.next("progress")?;
        ensure!(progress["args"] == json!([step]), "{step}: {progress}");
    }
    Ok(())
}

/// A call that is canceled once it has reached its endpoint; the error it ends with.
fn cancel(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Result<Value> {
    register(callee, procedure, "wait")?;
    let call = caller.order(json!({"do": "call", "procedure": procedure}))?;
    callee.next("invoked")?;
    caller.ok(json!({"do": "cancel", "order": call, "mode": "kill"}))?;
    let mut answer = caller.answer(call)?;
    ensure!(answer.get("error").is_some(), "{answer}");
    Ok(answer["error"].take())
}

fn interrupts(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Outcome {
    let error = cancel(caller, callee, procedure)?;
    // autobahn-python does not wait for the ERROR of a call that it cancels.
    ensure!(
        error["uri"] == "wamp.error.canceled" || error["message"] == "CancelledError",
        "{error}"
    );
    callee.next("interrupted").context("the callee")?;
    Ok(())
}

fn survives_a_canceled_call(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Outcome {
    cancel(caller, callee, procedure)?;
    let next = format!("{procedure}.next");
    echo(caller, callee, &next).context("after the cancel")
}

fn error(caller: &mut Agent, callee: &mut Agent, procedure: &str) -> Result<Value> {
    register(callee, procedure, "fail")?;
    caller.refused(json!({"do": "call", "procedure": procedure}))
}

fn has_uri_and_args(error: &Value) -> Outcome {
    ensure!(error["uri"] == ERROR, "URI {error}");
    ensure!(error["args"] == json!(["sorry", 7]), "args {error}");
    Ok(())
}

fn has_kwargs(error: &Value) -> Outcome {
    let kwargs = json!({"retry": false, "after": [1, 2]});
    ensure!(error["kwargs"] == kwargs, "kwargs {error}");
    Ok(())
}
