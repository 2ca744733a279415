//! Calling procedures. Dropping a call cancels it.

use super::Session;
use super::error::Error;
use super::inner::{Inner, Waiting};
use super::name::Name;
use super::publish::Doing;
use super::queue::Queue;
use super::values::{IntoPayload, Values};
use router_core::model::{self, CancelMode, Command, Payload, RequestId, Topic};
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;
use std::time::Duration;

/// What comes back for a call.
pub(super) type CallQueue = Queue<Reply>;

/// One thing that comes back.
#[derive(Debug)]
pub(super) enum Reply {
    /// A progressive result.
    Progress(Values),
    /// The end.
    Done(Result<Values, Error>),
}

impl Waiting {
    pub(super) fn as_call(&self) -> Option<Arc<CallQueue>> {
        match self {
            Waiting::Call(queue) => Some(queue.clone()),
            _ => None,
        }
    }
}

/// A call to be awaited for its result.
#[must_use = "nothing is called until this is awaited"]
pub struct Call<'a> {
    session: &'a Session,
    what: Result<(Topic, Payload), Error>,
    timeout: Option<Duration>,
    disclose_me: bool,
}

impl Session {
    /// Calls a procedure with one value, or with [`Arguments`](super::Arguments):
    /// `let sum: i64 = session.call("app.add", Arguments::new().arg(1).arg(2)).await?.get()?`.
    pub fn call(&self, procedure: impl Name, payload: impl IntoPayload) -> Call<'_> {
        let what = procedure
            .topic()
            .and_then(|topic| Ok((topic, payload.into_payload()?)));
        Call {
            session: self,
            what,
            timeout: None,
            disclose_me: false,
        }
    }

    /// Calls a procedure for its progressive results.
    ///
    /// # Errors
    /// As [`Call::progressive`].
    pub async fn call_progressive(
        &self,
        procedure: impl Name,
        payload: impl IntoPayload,
    ) -> Result<ProgressiveCall, Error> {
        self.call(procedure, payload).progressive().await
    }
}

impl<'a> Call<'a> {
    /// Gives up after this long with [`ErrorKind::Timeout`](super::ErrorKind::Timeout).
    pub fn timeout(mut self, most: Duration) -> Call<'a> {
        self.timeout = Some(most);
        self
    }

    /// Tells the callee who calls.
    pub fn disclose_me(mut self) -> Call<'a> {
        self.disclose_me = true;
        self
    }

    /// Starts the call and asks for progressive results.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Payload`] or [`Error::Ended`]; what the realm or the callee
    /// refuse is told by [`ProgressiveCall::result`].
    pub async fn progressive(self) -> Result<ProgressiveCall, Error> {
        self.start(true).await
    }

    async fn start(self, progress: bool) -> Result<ProgressiveCall, Error> {
        let (procedure, payload) = self.what?;
        let inner = self.session.inner();
        let queue = Arc::new(Queue::new(inner.budget.clone()));
        let request = inner.request_id();
        inner.expect(request, Waiting::Call(queue.clone()))?;
        let call = ProgressiveCall {
            session: self.session.clone(),
            request,
            queue,
            done: None,
        };
        let (timeout, disclose_me) = (self.timeout, self.disclose_me);
        let command = Command::Call(Box::new(model::Call {
            request,
            procedure,
            payload,
            progress,
            more: false,
            timeout,
            disclose_me,
        }));
        inner.run(command).await?;
        Ok(call)
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Result<Values, Error>;
    type IntoFuture = Doing<'a, Values>;

    fn into_future(self) -> Doing<'a, Values> {
        Box::pin(async move { self.start(false).await?.result().await })
    }
}

/// A call under way. Dropping it before its end cancels it.
#[must_use = "dropping a call cancels it"]
pub struct ProgressiveCall {
    session: Session,
    request: RequestId,
    queue: Arc<CallQueue>,
    done: Option<Result<Values, Error>>,
}

impl ProgressiveCall {
    /// The next progressive result; `None` when there are no more and [`ProgressiveCall::result`]
    /// has the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Values> {
        if self.done.is_some() {
            return None;
        }
        match poll_fn(|cx| self.queue.poll_next(cx)).await {
            Some(Reply::Progress(values)) => return Some(values),
            Some(Reply::Done(result)) => self.done = Some(result),
            None => self.done = Some(Err(self.session.inner().ended_error())),
        }
        None
    }

    /// The final result; progressive ones that were not read are skipped.
    ///
    /// # Errors
    /// [`Error::Callee`] as the callee sent it, [`Error::Refused`] by the realm, or
    /// [`Error::Ended`].
    pub async fn result(mut self) -> Result<Values, Error> {
        while self.next().await.is_some() {}
        match &mut self.done {
            Some(done) => std::mem::replace(done, Err(Error::Ended(super::SessionEnd::Closed))),
            None => Err(super::unexpected()),
        }
    }
}

impl Drop for ProgressiveCall {
    fn drop(&mut self) {
        if self.done.is_none() {
            cancel(self.session.inner(), self.request);
        }
    }
}

impl std::fmt::Debug for ProgressiveCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgressiveCall")
            .field("request", &self.request.0)
            .finish_non_exhaustive()
    }
}

fn cancel(inner: &Inner, request: RequestId) {
    if inner.take_waiting(request).is_some() {
        inner.run_now(Command::Cancel {
            request,
            mode: CancelMode::KillNoWait,
        });
    }
}
