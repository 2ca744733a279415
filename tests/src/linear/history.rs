//! What is recorded of one key.

use std::fmt;

/// A value, unlike any other by its number; the colour is shared by several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datum {
    /// Unique in a history.
    pub number: u64,
    /// What conditions on more than one value ask for.
    pub colour: u8,
}

/// What `when` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Null: the key is absent.
    Absent,
    /// The empty dict: there is some value.
    Present,
    /// The value of this number.
    Number(u64),
    /// Any value of this colour.
    Colour(u8),
}

impl Condition {
    /// Whether it holds for what a key keeps.
    #[must_use]
    pub fn holds(self, value: Option<Datum>) -> bool {
        match (self, value) {
            (Condition::Absent, value) => value.is_none(),
            (_, None) => false,
            (Condition::Present, Some(_)) => true,
            (Condition::Number(number), Some(value)) => value.number == number,
            (Condition::Colour(colour), Some(value)) => value.colour == colour,
        }
    }
}

/// A retained publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// `None` deletes.
    pub value: Option<Datum>,
    /// Under this condition only.
    pub when: Option<Condition>,
    /// Wait for the condition.
    pub watch: bool,
    /// It may stop waiting by time.
    pub timed: bool,
    /// What to write when the session ends; `Some(None)` deletes.
    pub will: Option<Option<Datum>>,
}

/// What was asked for, or happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A retained publish, acknowledged.
    Write(Write),
    /// `fox.kv.get`.
    Get,
    /// The session ended, or will.
    End,
    /// The router was killed and started again.
    Restart {
        /// On the same data.
        durable: bool,
    },
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The write was carried out and got this token.
    Written(u64),
    /// The condition did not hold.
    Refused,
    /// The condition did not come true in time.
    TimedOut,
    /// What the key held.
    Read {
        /// The value.
        value: Option<Datum>,
        /// Of the last write.
        token: u64,
        /// The session whose will is armed.
        owner: Option<u64>,
        /// How many writes wait.
        waiters: usize,
    },
    /// The router is ready again.
    Ready,
}

/// One request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Who asked; the session id.
    pub session: u64,
    /// In which life of the router; of a restart the life it began.
    pub life: u32,
    /// What.
    pub action: Action,
    /// When it was asked for.
    pub invoked: u64,
    /// When the answer was there, and what it said; `None` if none came.
    pub reply: Option<(u64, Reply)>,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8} .. ", self.invoked)?;
        match self.reply {
            Some((at, _)) => write!(f, "{at:<8}")?,
            None => write!(f, "{:<8}", "?")?,
        }
        write!(f, " session {} of life {}: ", self.session, self.life)?;
        match self.action {
            Action::Write(write) => {
                let Write { value, when, .. } = write;
                write!(f, "write {value:?} when {when:?}")?;
                match (write.watch, write.timed) {
                    (true, true) => f.write_str(" watching for a while")?,
                    (true, false) => f.write_str(" watching")?,
                    _ => {}
                }
                if let Some(will) = write.will {
                    write!(f, " with will {will:?}")?;
                }
            }
            other => write!(f, "{other:?}")?,
        }
        match self.reply {
            Some((_, reply)) => write!(f, " -> {reply:?}"),
            None => f.write_str(" -> unknown"),
        }
    }
}
