//! Requests as they are sent, and answers as they are understood.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::linear::{
    Action, Condition, Datum, Few, Kept, Order, Reply, Row, Shown, Wait, Wish, Write,
};
use crate::wamp::code;

/// The times of a request, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// How long it may wait.
    pub wait: Option<u64>,
    /// How long a hold lasts.
    pub ttl: Option<u64>,
}

/// The message that asks for an action on a key; `prefix` is that of all keys of the history.
pub fn message(
    request: u64,
    (key, prefix): (&str, &str),
    action: &Action,
    times: Times,
) -> Result<Value> {
    let call = |name: &str, args: Value| json!([code::CALL, request, {}, name, args]);
    Ok(match *action {
        Action::Write(write) => publish(request, key, &write, times),
        Action::Put(write) => {
            let value = write.value.map_or(Value::Null, value_of);
            call("fox.kv.put", json!([key, value, options(&write, times)]))
        }
        Action::Cas { expected, value } => {
            let value = value.map_or(Value::Null, value_of);
            call("fox.kv.cas", json!([key, expected, value]))
        }
        Action::Delete { expected: None } => call("fox.kv.delete", json!([key])),
        Action::Delete { expected } => call("fox.kv.delete", json!([key, {"token": expected}])),
        Action::Get => call("fox.kv.get", json!([key])),
        Action::List => call("fox.kv.list", json!([prefix])),
        Action::Watch { after, progressive } => {
            let options = json!({"token": after, "wait_ms": times.wait});
            let mut call = call("fox.kv.watch", json!([key, options]));
            call[2] = json!({"receive_progress": progressive});
            call
        }
        Action::Acquire(order) => {
            let name = match order.wait {
                Wait::No => "fox.lock.try_acquire",
                Wait::Timed | Wait::Endless => "fox.lock.acquire",
            };
            call(name, json!([key, hold(&order, times)]))
        }
        // Both forms mean the same.
        Action::Release { token } if token % 2 == 0 => call("fox.lock.release", json!([token])),
        Action::Release { token } => call("fox.lock.release", json!([key, token])),
        Action::Renew { token, .. } => {
            let options = json!({"ttl_ms": times.ttl});
            call("fox.lock.renew", json!([key, token, options]))
        }
        Action::Inspect => call("fox.lock.inspect", json!([key])),
        other => bail!("{other:?} is no request"),
    })
}

/// CANCEL of a call.
pub fn cancel(request: u64) -> Value {
    json!([code::CANCEL, request, {"mode": "skip"}])
}

fn publish(request: u64, key: &str, write: &Write, times: Times) -> Value {
    let mut options = options(write, times);
    options["acknowledge"] = json!(true);
    options["retain"] = json!(true);
    let args = write
        .value
        .map_or_else(|| json!([]), |datum| json!([value_of(datum)]));
    json!([code::PUBLISH, request, options, key, args])
}

fn options(write: &Write, times: Times) -> Value {
    let mut options = json!({});
    if let Some(when) = write.when {
        options["when"] = match when {
            Condition::Absent => Value::Null,
            Condition::Present => json!({}),
            Condition::Number(number) => json!({"n": number}),
            Condition::Colour(colour) => json!({"c": colour}),
        };
    }
    if write.watch {
        options["watch"] = json!(true);
    }
    if let Some(wait) = times.wait {
        options["watch_timeout"] = json!(wait);
    }
    if let Some(will) = write.will {
        options["will"] = will.map_or(Value::Null, value_of);
    }
    options
}

fn hold(order: &Order, times: Times) -> Value {
    let mut options = json!({
        "wait_ms": times.wait,
        "ttl_ms": times.ttl,
        "reentrant": order.reentrant,
        "data": value_of(order.data),
    });
    match order.wish {
        Wish::Alone => options["mode"] = json!("mutex"),
        Wish::Shared => options["mode"] = json!("shared"),
        Wish::Permits { take, limit } => {
            options["mode"] = json!("permit");
            options["permits"] = json!(take);
            options["limit"] = json!(limit);
        }
    }
    options
}

fn value_of(Datum { number, colour }: Datum) -> Value {
    json!({"n": number, "c": colour})
}

fn kept(value: &Value) -> Result<Option<Kept>> {
    if value.is_null() {
        return Ok(None);
    }
    let of = |name: &str| value[name].as_u64();
    let colour = of("c").map(u8::try_from);
    Ok(Some(match value["mode"].as_str() {
        Some("shared") => Kept::Shared(number(value, "holders")?),
        Some("permit") => Kept::Permits {
            limit: number(value, "limit")?,
            taken: number(value, "taken")?,
        },
        _ => match (of("n"), colour) {
            (Some(number), Some(Ok(colour))) => Kept::Datum(Datum { number, colour }),
            _ => bail!("a value that nobody wrote: {value}"),
        },
    }))
}

fn number(report: &Value, name: &str) -> Result<u64> {
    let number = report[name].as_u64();
    number.with_context(|| format!("no {name} in {report}"))
}

fn length(report: &Value, name: &str) -> Result<usize> {
    Ok(usize::try_from(number(report, name)?)?)
}

/// An answer of the router.
pub struct Answer<'a> {
    /// To which request.
    pub request: u64,
    /// More is to come.
    pub is_progress: bool,
    message: &'a Value,
}

impl<'a> Answer<'a> {
    /// Reads as much as tells what is answered.
    pub fn new(message: &'a Value) -> Result<Self> {
        let at = match message[0].as_u64() {
            Some(code::PUBLISHED | code::RESULT) => 1,
            Some(code::ERROR) => 2,
            _ => bail!("unexpected {message}"),
        };
        let request = message[at].as_u64();
        Ok(Self {
            request: request.with_context(|| format!("no request in {message}"))?,
            is_progress: message[0] == code::RESULT && message[2]["progress"] == true,
            message,
        })
    }

    /// What it says to an action on a key.
    pub fn reply(&self, key: &str, action: &Action) -> Result<Reply> {
        let message = self.message;
        match message[0].as_u64() {
            Some(code::PUBLISHED) => {
                let token = message[2].as_u64();
                Ok(Reply::Written(token.context("no publication")?))
            }
            Some(code::RESULT) => result(key, action, &message[3][0]),
            _ => refusal(action, &message[4], &message[5], &message[6])
                .with_context(|| format!("unexpected {message}")),
        }
    }
}

fn refusal(action: &Action, error: &Value, args: &Value, about: &Value) -> Result<Reply> {
    Ok(match (error.as_str(), action) {
        (Some("wamp.error.invalid_payload"), Action::Write(_)) if args[0] == "not accepted" => {
            Reply::Refused
        }
        (Some("fox.error.conflict"), _) => Reply::Conflict(number(about, "token")?),
        (Some("wamp.error.timeout"), _) => Reply::TimedOut,
        (Some("wamp.error.canceled"), Action::Watch { .. }) => Reply::Canceled,
        (Some("fox.error.lock_held"), _) => Reply::LockHeld(about["holders"].as_u64()),
        (Some("fox.error.lock_lost"), _) => Reply::LockLost,
        (Some("wamp.error.invalid_argument"), _) => Reply::Unfit,
        _ => bail!("an error that nobody expects"),
    })
}

fn result(key: &str, action: &Action, report: &Value) -> Result<Reply> {
    let token = || number(report, "token");
    Ok(match *action {
        Action::Put(_) | Action::Cas { .. } => Reply::Written(token()?),
        Action::Delete { .. } => Reply::Deleted {
            token: token()?,
            existed: report["existed"].as_bool().context("no existed")?,
        },
        Action::Get => Reply::Read {
            value: kept(&report["value"])?,
            token: token()?,
            owner: report["owner"].as_u64(),
            waiters: length(report, "waiters")?,
        },
        Action::List => Reply::Listed(row(key, report)?),
        Action::Watch { .. } => Reply::Changed {
            value: kept(&report["value"])?,
            token: token()?,
        },
        Action::Acquire(_) => Reply::Granted(token()?),
        Action::Release { .. } => Reply::Released(number(report, "held")?),
        Action::Renew { .. } => Reply::Renewed,
        Action::Inspect => Reply::Inspected {
            holders: holders(report)?,
            line: line(report)?,
            value: kept(&report["value"])?,
            token: token()?,
        },
        other => bail!("{report} answers {other:?}"),
    })
}

/// The row of a key in a list.
fn row(key: &str, report: &Value) -> Result<Option<Row>> {
    let rows = report["keys"].as_array().context("no keys")?;
    let Some(row) = rows.iter().find(|row| row["key"] == key) else {
        return Ok(None);
    };
    Ok(Some(Row {
        value: kept(&row["value"])?.context("a listed key without a value")?,
        token: number(row, "token")?,
        owner: row["owner"].as_u64(),
    }))
}

fn holders(report: &Value) -> Result<Few<Shown>> {
    let holders = report["holders"].as_array().context("no holders")?;
    let shown = |holder: &Value| {
        Ok(Shown {
            session: number(holder, "session")?,
            token: number(holder, "token")?,
            count: number(holder, "count")?,
        })
    };
    holders.iter().map(shown).collect::<Result<_>>()
}

fn line(report: &Value) -> Result<Few<u64>> {
    let waiters = report["waiters"].as_array().context("no waiters")?;
    let line = waiters.iter().map(|waiter| number(waiter, "session"));
    line.collect::<Result<_>>()
}
