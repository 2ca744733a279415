//! The arguments of the procedures: positional ones first, options as keyword arguments or as a
//! dictionary in the place after the last positional one. Keyword arguments win; unknown options
//! are ignored.

use crate::kv::{Mode, Wish};
use crate::model::{ErrorKind, MAX_ID, Refusal};
use crate::realm::meta::invalid;
use serde_json::Value;
use std::time::Duration;

/// A call's arguments.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub args: &'a [Value],
    kwargs: &'a Value,
}

/// Its options.
#[derive(Debug)]
pub(super) struct Options<'a> {
    named: &'a Value,
    placed: &'a Value,
}

/// What is asked of a key.
#[derive(Debug)]
pub(super) struct Acquisition {
    pub wish: Wish,
    /// `None`: without end.
    pub wait: Option<Duration>,
    pub ttl: Option<Duration>,
    pub reentrant: bool,
    pub data: Value,
}

impl<'a> Asked<'a> {
    pub fn new(args: &'a [Value], kwargs: &'a Value) -> Asked<'a> {
        Asked { args, kwargs }
    }

    /// The options, of which a dictionary may stand at `place`.
    pub fn options(&self, place: usize) -> Result<Options<'a>, Refusal> {
        const NONE: &Value = &Value::Null;
        let placed = match self.args.get(place) {
            None | Some(Value::Null) => NONE,
            Some(options @ Value::Object(_)) => options,
            Some(_) => return Err(invalid("the options must be a dict")),
        };
        let named = self.kwargs;
        Ok(Options { named, placed })
    }
}

impl<'a> Options<'a> {
    /// An option that is given and not null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        let given = |options: &'a Value| options.get(name).filter(|value| !value.is_null());
        given(self.named).or_else(|| given(self.placed))
    }

    /// A whole number from `least` on.
    pub fn number(&self, name: &str, least: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|n| (least..=MAX_ID).contains(n));
        number.map(Some).ok_or_else(|| {
            let message = format!("{name} must be an integer from {least} on");
            Refusal::new(ErrorKind::InvalidArgument, message)
        })
    }

    pub fn duration(&self, name: &str, least: u64) -> Result<Option<Duration>, Refusal> {
        let number = self.number(name, least)?;
        Ok(number.map(Duration::from_millis))
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => {
                let message = format!("{name} must be a boolean");
                Err(Refusal::new(ErrorKind::InvalidArgument, message))
            }
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let text = |value: &'a Value| {
            let message = || format!("{name} must be a string");
            let text = value.as_str();
            text.ok_or_else(|| Refusal::new(ErrorKind::InvalidArgument, message()))
        };
        self.get(name).map(text).transpose()
    }

    pub fn acquisition(&self) -> Result<Acquisition, Refusal> {
        let mode = match self.text("mode")? {
            None => Mode::Mutex,
            Some(name) => Mode::named(name).ok_or_else(|| {
                invalid("mode must be \"mutex\", \"exclusive\", \"shared\" or \"permit\"")
            })?,
        };
        let permits = self.number("permits", 1)?.unwrap_or(1);
        let limit = self.number("limit", 1)?;
        let wish = match (mode, limit) {
            (Mode::Permit, None) => return Err(invalid("permits need a limit")),
            (Mode::Permit, Some(limit)) if permits > limit => {
                return Err(invalid("there are fewer permits than are asked for"));
            }
            (Mode::Permit, Some(limit)) => Wish {
                mode,
                permits,
                limit,
            },
            _ => Wish {
                mode,
                permits: 1,
                limit: 1,
            },
        };
        Ok(Acquisition {
            wish,
            wait: self.duration("wait_ms", 0)?,
            ttl: self.duration("ttl_ms", 1)?,
            reentrant: self.flag("reentrant")?,
            data: self.get("data").cloned().unwrap_or_default(),
        })
    }
}
