//! The arguments of a call: first the positional ones, then options, as a dict in the next place or
//! as keyword arguments, which win.

use crate::model::{ErrorKind, Payload, Refusal, WillScope};
use crate::realm::meta::positional;
use serde_json::{Map, Value};
use std::time::Duration;

/// Integers that a double holds exactly; larger ones are no tokens.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// What a call brought.
pub(super) struct Asked {
    args: Vec<Value>,
    options: Map<String, Value>,
}

impl Asked {
    /// Reads a call whose options may stand behind `arity` positional arguments.
    pub fn read(payload: &Payload, arity: usize) -> Result<Asked, Refusal> {
        let mut args = positional(payload);
        let mut options = match args.get_mut(arity).map(Value::take) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(options)) => options,
            Some(_) => return Err(invalid("the options must be a dict".to_owned())),
        };
        args.truncate(arity);
        if let Value::Object(named) = payload.kwargs_value() {
            options.extend(named.clone());
        }
        Ok(Asked { args, options })
    }

    /// A positional argument that must be there.
    pub fn value(&self, at: usize, fault: &str) -> Result<&Value, Refusal> {
        self.args.get(at).ok_or_else(|| invalid(fault.to_owned()))
    }

    /// ... and be a string.
    pub fn text(&self, at: usize, fault: &str) -> Result<&str, Refusal> {
        let text = self.value(at, fault)?.as_str();
        text.ok_or_else(|| invalid(fault.to_owned()))
    }

    /// ... and be a whole number.
    pub fn number(&self, at: usize, fault: &str) -> Result<u64, Refusal> {
        whole(self.value(at, fault)?).ok_or_else(|| invalid(fault.to_owned()))
    }

    /// An option that means something even if it is null.
    pub fn any(&self, name: &str) -> Option<&Value> {
        self.options.get(name)
    }

    fn option(&self, name: &str) -> Option<&Value> {
        self.options.get(name).filter(|value| !value.is_null())
    }

    /// A boolean, if it was given.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.option(name).map(Value::as_bool) {
            None => Ok(None),
            Some(Some(flag)) => Ok(Some(flag)),
            Some(None) => Err(invalid(format!("{name} must be a boolean"))),
        }
    }

    /// A whole number, if it was given.
    pub fn whole(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.option(name).map(whole) {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => Err(invalid(format!("{name} must be a whole number"))),
        }
    }

    /// Milliseconds, if they were given.
    pub fn millis(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        Ok(self.whole(name)?.map(Duration::from_millis))
    }

    /// How long a value lives, if it was said.
    pub fn ttl(&self) -> Result<Option<Duration>, Refusal> {
        match self.millis("ttl_ms")? {
            Some(Duration::ZERO) => Err(invalid("ttl_ms must be more than 0".to_owned())),
            ttl => Ok(ttl),
        }
    }

    /// A string, if it was given.
    pub fn word(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.option(name).map(Value::as_str) {
            None => Ok(None),
            Some(Some(word)) => Ok(Some(word)),
            Some(None) => Err(invalid(format!("{name} must be a string"))),
        }
    }

    /// On which ends of the session a will applies.
    pub fn will_scope(&self) -> Result<WillScope, Refusal> {
        match self.word("will_on")? {
            None | Some("any") => Ok(WillScope::Any),
            Some("lost") => Ok(WillScope::Lost),
            Some(_) => Err(invalid("will_on must be \"any\" or \"lost\"".to_owned())),
        }
    }
}

/// Some senders write every number as a float.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        let is_whole = float.fract() == 0.0 && (0.0..=MAX_WHOLE).contains(&float);
        is_whole.then_some(float as u64)
    })
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorKind::InvalidArgument, message)
}
