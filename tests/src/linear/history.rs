//! What is recorded of one key.

use std::fmt;

use super::terms::{Datum, Few, Kept, Order, Shown, Write};

/// What was asked for, or happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A retained publish, acknowledged.
    Write(Write),
    /// `fox.kv.put`.
    Put(Write),
    /// `fox.kv.cas`.
    Cas {
        /// The token it expects.
        expected: u64,
        /// `None` deletes.
        value: Option<Datum>,
    },
    /// `fox.kv.delete`.
    Delete {
        /// The token it expects.
        expected: Option<u64>,
    },
    /// `fox.kv.get`.
    Get,
    /// `fox.kv.list` of all keys of the history; its row for this one.
    List,
    /// `fox.kv.watch`.
    Watch {
        /// Tell what is newer than this token; without one what comes next.
        after: Option<u64>,
        /// Tell every change.
        progressive: bool,
    },
    /// A change that a watch told.
    Told {
        /// When that watch was asked for.
        watch: u64,
    },
    /// CANCEL of a watch.
    Cancel {
        /// When that watch was asked for.
        watch: u64,
    },
    /// `fox.lock.acquire` or `fox.lock.try_acquire`.
    Acquire(Order),
    /// `fox.lock.release`.
    Release {
        /// Of the grant, or of the write with a will.
        token: u64,
    },
    /// `fox.lock.renew`.
    Renew {
        /// Of the grant.
        token: u64,
        /// From now on the hold ends by itself.
        leased: bool,
    },
    /// `fox.lock.inspect`.
    Inspect,
    /// The session ended, or will.
    End,
    /// The router was killed and started again.
    Restart {
        /// On the same data.
        durable: bool,
    },
}

impl Action {
    /// The write that is asked for, by publish or by call.
    #[must_use]
    pub fn write(&self) -> Option<Write> {
        match *self {
            Action::Write(write) | Action::Put(write) => Some(write),
            Action::Cas { value, .. } => Some(Write::plain(value)),
            Action::Delete { .. } => Some(Write::plain(None)),
            _ => None,
        }
    }
}

/// What was answered.
#[expect(
    clippy::large_enum_variant,
    reason = "copied about by the search, which an allocation each would slow down"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The write was carried out and got this token.
    Written(u64),
    /// The deletion was carried out.
    Deleted {
        /// Of the deletion.
        token: u64,
        /// There was something to delete.
        existed: bool,
    },
    /// The condition of a publish did not hold.
    Refused,
    /// That of a call did not, or the token was another one: this.
    Conflict(u64),
    /// What was waited for did not come in time.
    TimedOut,
    /// Somebody else holds the key; so many do, if that is told.
    LockHeld(Option<u64>),
    /// Not what one may ask of a key that one holds, or of a hold.
    Unfit,
    /// The key is held, with this token.
    Granted(u64),
    /// The hold was given up; the session holds the key so often yet.
    Released(u64),
    /// The hold goes on.
    Renewed,
    /// There is no such hold any more.
    LockLost,
    /// What the key held.
    Read {
        /// The value.
        value: Option<Kept>,
        /// Of the last write.
        token: u64,
        /// The session whose will is armed.
        owner: Option<u64>,
        /// How many writes wait.
        waiters: usize,
    },
    /// The row of a list; nothing of an absent key.
    Listed(Option<Row>),
    /// How the key is held.
    Inspected {
        /// The holders.
        holders: Few<Shown>,
        /// The sessions in line.
        line: Few<u64>,
        /// The value.
        value: Option<Kept>,
        /// Of the last write.
        token: u64,
    },
    /// A change.
    Changed {
        /// The value then.
        value: Option<Kept>,
        /// Of the write that made it.
        token: u64,
    },
    /// The watch ended by its CANCEL.
    Canceled,
    /// The router is ready again.
    Ready,
}

/// A key in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value.
    pub value: Kept,
    /// Of the last write.
    pub token: u64,
    /// The session whose will is armed.
    pub owner: Option<u64>,
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
            Action::Write(write) => show_write(f, "write", &write)?,
            Action::Put(write) => show_write(f, "put", &write)?,
            other => write!(f, "{other:?}")?,
        }
        match self.reply {
            Some((_, reply)) => write!(f, " -> {reply:?}"),
            None => f.write_str(" -> unknown"),
        }
    }
}

fn show_write(f: &mut fmt::Formatter<'_>, verb: &str, write: &Write) -> fmt::Result {
    let Write { value, when, .. } = write;
    write!(f, "{verb} {value:?} when {when:?}")?;
    match (write.watch, write.timed) {
        (true, true) => f.write_str(" watching for a while")?,
        (true, false) => f.write_str(" watching")?,
        _ => {}
    }
    match write.will {
        Some(will) => write!(f, " with will {will:?}"),
        None => Ok(()),
    }
}
