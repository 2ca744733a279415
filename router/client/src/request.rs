//! The words between the application, the [`state`](super::state) of its session and the
//! [`driver`](super::driver).

use super::{Arguments, ClientError, Closed, Dict, Failure};
use futures_util::future::BoxFuture;
use protocols::wamp::message::Message;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Where the answer to a request goes.
pub type ReplyTo<T> = oneshot::Sender<Result<T, ClientError>>;

/// Answers calls.
pub type Handler =
    Arc<dyn Fn(Invocation) -> BoxFuture<'static, Result<Arguments, Failure>> + Send + Sync>;

/// An event of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The publication id.
    pub publication: u64,
    /// Details: `topic` for patterns, `retained`, `token` and more.
    pub details: Dict,
    /// What was published.
    pub arguments: Arguments,
}

/// What becomes of a call that is given up (section "Call Canceling").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The callee is not told.
    Skip,
    /// The callee is told, and its answer waited for.
    Kill,
    /// The callee is told; the call ends at once.
    KillNoWait,
}

impl Cancel {
    /// The option `mode` of CANCEL.
    pub const fn mode(self) -> &'static str {
        match self {
            Cancel::Skip => "skip",
            Cancel::Kill => "kill",
            Cancel::KillNoWait => "killnowait",
        }
    }
}

/// A call that a handler shall answer.
#[derive(Debug)]
pub struct Invocation {
    /// What it was called with.
    pub arguments: Arguments,
    /// Details, such as `caller` and `procedure`.
    pub details: Dict,
    /// Its id, 0 until the driver has given it a way back.
    pub(super) request: u64,
    /// Whether the caller takes progressive results.
    pub(super) takes_progress: bool,
    /// The way back.
    pub(super) requests: Option<mpsc::Sender<Request>>,
}

impl Invocation {
    /// Sends a progressive result, if the caller wants such (section "Progressive Call Results").
    ///
    /// # Errors
    /// When the session is gone.
    pub async fn progress(&self, arguments: Arguments) -> Result<(), ClientError> {
        let Some(requests) = self.requests.as_ref().filter(|_| self.takes_progress) else {
            return Ok(());
        };
        let progress = Request::Progress {
            invocation: self.request,
            arguments,
        };
        let gone = |_| ClientError::Closed(Closed::Goodbye);
        requests.send(progress).await.map_err(gone)
    }
}

/// What is asked of the session.
pub enum Request {
    /// PUBLISH; with `reply`, acknowledged.
    Publish {
        topic: String,
        arguments: Arguments,
        options: Dict,
        reply: Option<ReplyTo<u64>>,
    },
    /// SUBSCRIBE; events go to `events` from the very first on.
    Subscribe {
        topic: String,
        options: Dict,
        events: mpsc::Sender<Event>,
        reply: ReplyTo<u64>,
    },
    /// CALL; progressive results are asked for where `progress` is given.
    Call {
        /// By which a later `Cancel` names it.
        key: u64,
        procedure: String,
        arguments: Arguments,
        options: Dict,
        progress: Option<mpsc::Sender<Arguments>>,
        reply: ReplyTo<Arguments>,
    },
    /// CANCEL, unless the call has its answer.
    Cancel { key: u64, mode: Cancel },
    /// REGISTER.
    Register {
        procedure: String,
        options: Dict,
        handler: Handler,
        reply: ReplyTo<u64>,
    },
    /// YIELD with `progress`.
    Progress {
        invocation: u64,
        arguments: Arguments,
    },
    /// YIELD, or ERROR.
    Answer {
        invocation: u64,
        answer: Result<Arguments, Failure>,
    },
    /// GOODBYE.
    Goodbye { reply: ReplyTo<()> },
}

/// What the driver shall do.
pub enum Output {
    /// Send to the router.
    Send(Message),
    /// Hand out, waiting for room.
    Deliver(Delivery),
    /// Run a handler.
    Invoke(Handler, Invocation),
    /// The session has ended: send what is left, then close.
    Closed(Closed),
}

/// Something for a bounded queue of the application.
pub enum Delivery {
    /// An event.
    Event(mpsc::Sender<Event>, Event),
    /// A progressive result.
    Progress(mpsc::Sender<Arguments>, Arguments),
}
