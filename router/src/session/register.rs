//! Offering procedures. Each invocation runs in a task of its own; the realm hands out no more at a
//! time than the registration's concurrency, the rest wait in its queue.

use super::Session;
use super::error::{AppError, Error};
use super::inner::{Inner, Waiting};
use super::name::{Name, TopicName};
use super::values::{IntoPayload, Values};
use bytestring::ByteString;
use protocols::wamp::uris;
use router_core::model::{
    self, Command, InvocationFailed, InvocationId, InvokePolicy, Payload, RegistrationId,
};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Invocations of a registration that run at a time, unless told otherwise.
pub const DEFAULT_CONCURRENCY: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// What a handler becomes.
pub(super) type Handler = Arc<dyn Fn(Invocation) -> Handling + Send + Sync>;
type Handling = Pin<Box<dyn Future<Output = Result<Payload, AppError>> + Send>>;

/// How a procedure is offered.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RegisterOptions {
    concurrency: NonZeroU32,
    policy: InvokePolicy,
}

impl Default for RegisterOptions {
    fn default() -> RegisterOptions {
        RegisterOptions {
            concurrency: DEFAULT_CONCURRENCY,
            policy: InvokePolicy::Single,
        }
    }
}

impl RegisterOptions {
    /// This session alone, [`DEFAULT_CONCURRENCY`] invocations at a time.
    pub fn new() -> RegisterOptions {
        RegisterOptions::default()
    }

    /// The most invocations that run at a time; further calls wait for a free place in order.
    pub fn concurrency(mut self, most: NonZeroU32) -> RegisterOptions {
        self.concurrency = most;
        self
    }

    /// Shares the procedure with other callees that registered it with the same policy. WAMP
    /// clients that ask for a `concurrency` and no `invoke` use [`InvokePolicy::FirstFree`].
    pub fn shared(mut self, policy: InvokePolicy) -> RegisterOptions {
        self.policy = policy;
        self
    }
}

/// Who called, if disclosed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// Its session.
    pub session: u64,
    /// Its authenticated name.
    pub authid: String,
    /// Its role.
    pub role: String,
}

/// A call to be answered by a handler.
///
/// The handler's future is dropped at its next `await` when the caller cancels or the session ends.
#[non_exhaustive]
pub struct Invocation {
    /// What was called.
    pub procedure: TopicName,
    /// With what.
    pub values: Values,
    /// By whom, if disclosed.
    pub caller: Option<Caller>,
    progress: bool,
    id: InvocationId,
    inner: Arc<Inner>,
}

impl Invocation {
    pub(super) fn new(inner: &Arc<Inner>, invocation: model::Invocation) -> Invocation {
        let caller = invocation.caller.map(|(session, authid, role)| Caller {
            session: session.0,
            authid: authid.to_string(),
            role: role.to_string(),
        });
        Invocation {
            procedure: invocation.procedure.into(),
            values: invocation.payload.into(),
            caller,
            progress: invocation.progress,
            id: invocation.invocation,
            inner: inner.clone(),
        }
    }

    /// Whether the caller wants progressive results.
    #[must_use]
    pub fn wants_progress(&self) -> bool {
        self.progress
    }

    /// Sends a progressive result; without effect if the caller does not want any.
    ///
    /// # Errors
    /// [`Error::Payload`] or [`Error::Ended`].
    pub async fn progress(&self, payload: impl IntoPayload) -> Result<(), Error> {
        if !self.progress {
            return Ok(());
        }
        let payload = payload.into_payload()?;
        self.inner
            .run(Command::Yield {
                invocation: self.id,
                payload: Arc::new(payload),
                progress: true,
            })
            .await
    }

    pub(super) fn fail(self, error: AppError) {
        fail(&self.inner, self.id, error);
    }
}

impl std::fmt::Debug for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invocation")
            .field("procedure", &self.procedure)
            .field("values", &self.values)
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

/// An offered procedure. Dropping it withdraws it; invocations under way are still answered.
#[must_use = "dropping a registration withdraws the procedure"]
pub struct Registration {
    session: Session,
    id: RegistrationId,
    withdrawn: bool,
}

impl Registration {
    pub(super) fn new(session: Session, id: RegistrationId) -> Registration {
        Registration {
            session,
            id,
            withdrawn: false,
        }
    }

    /// Withdraws the procedure; once this returns, no call of it begins here.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn unregister(mut self) -> Result<(), Error> {
        self.withdrawn = true;
        let (inner, registration) = (self.session.inner(), self.id);
        inner
            .ask(|request| Command::Unregister {
                request,
                registration,
            })
            .await?;
        forget(inner, registration);
        Ok(())
    }

    /// The session it belongs to.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let inner = self.session.inner();
        forget(inner, self.id);
        if !self.withdrawn {
            let request = inner.request_id();
            // The answer is of no interest: an unknown registration is withdrawn already.
            inner.run_now(Command::Unregister {
                request,
                registration: self.id,
            });
        }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("id", &self.id.0)
            .finish_non_exhaustive()
    }
}

/// Outside the lock a handler may be dropped with whatever it holds.
pub(super) fn forget(inner: &Inner, id: RegistrationId) {
    let handler = inner.state.lock().handlers.remove(&id);
    drop(handler);
}

impl Session {
    /// Offers a procedure. `handler` is called for each invocation and its future run as a task:
    ///
    /// ```no_run
    /// # async fn offer(session: &reynard::Session) -> Result<(), reynard::session::Error> {
    /// use reynard::session::{AppError, Invocation, RegisterOptions};
    /// let double = |call: Invocation| async move {
    ///     let number: f64 = call.values.get().map_err(|_| AppError::invalid_argument("a number"))?;
    ///     Ok(number * 2.0)
    /// };
    /// let registration = session.register("app.double", RegisterOptions::new(), double).await?;
    /// # drop(registration); Ok(()) }
    /// ```
    ///
    /// A handler that panics answers `wamp.error.runtime_error`. A handler that owns a [`Session`]
    /// keeps it open until the registration is dropped.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Refused`] or [`Error::Ended`].
    pub async fn register<H, F, P>(
        &self,
        procedure: impl Name,
        options: RegisterOptions,
        handler: H,
    ) -> Result<Registration, Error>
    where
        H: Fn(Invocation) -> F + Send + Sync + 'static,
        F: Future<Output = Result<P, AppError>> + Send + 'static,
        P: IntoPayload + Send,
    {
        let procedure = procedure.topic()?;
        let handler: Handler = Arc::new(move |invocation| {
            let handling = handler(invocation);
            Box::pin(async move {
                let values = handling.await?;
                values
                    .into_payload()
                    .map_err(|error| AppError::runtime(&error.to_string()))
            })
        });
        let inner = self.inner();
        let request = inner.request_id();
        let (reply, receiver) = oneshot::channel();
        inner.expect(request, Waiting::Register(handler, reply))?;
        let register = model::Register {
            policy: options.policy,
            concurrency: Some(options.concurrency.get()),
            ..model::Register::new(request, procedure)
        };
        inner.run(Command::Register(Box::new(register))).await?;
        receiver.await.map_err(|_| inner.ended_error())?
    }
}

/// Runs a handler as a task. It is entered before it can end, so that no entry stays behind; not
/// spawned under the lock, since a runtime that shuts down drops the task right there.
pub(super) fn start(inner: &Arc<Inner>, handler: Handler, invocation: Invocation) {
    let id = invocation.id;
    inner.state.lock().running.insert(id, None);
    let mut answer = Answering {
        inner: inner.clone(),
        id,
        is_answered: false,
    };
    let task = tokio::spawn(async move {
        let result = handler(invocation).await;
        answer.give(result);
    });
    let mut state = inner.state.lock();
    match state.running.get_mut(&id) {
        Some(entry) => *entry = Some(task.abort_handle()),
        // It has ended already, or the session has.
        None => task.abort(),
    }
}

/// Sees to it that an invocation is answered, also when its task is aborted or panics.
struct Answering {
    inner: Arc<Inner>,
    id: InvocationId,
    is_answered: bool,
}

impl Answering {
    fn give(&mut self, result: Result<Payload, AppError>) {
        self.is_answered = true;
        let invocation = self.id;
        match result {
            Ok(payload) => {
                let command = Command::Yield {
                    invocation,
                    payload: Arc::new(payload),
                    progress: false,
                };
                self.inner.run_now(command);
            }
            Err(error) => fail(&self.inner, invocation, error),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.inner.state.lock().running.remove(&self.id);
        if self.is_answered {
            return;
        }
        let (error, message) = match std::thread::panicking() {
            true => (
                uris::error::RUNTIME_ERROR,
                "the procedure's handler panicked",
            ),
            false => (uris::error::CANCELED, "the call was canceled"),
        };
        let payload = Payload::from_values(&[message.into()]);
        fail(
            &self.inner,
            self.id,
            AppError {
                error: ByteString::from_static(error),
                payload,
            },
        );
    }
}

fn fail(inner: &Inner, invocation: InvocationId, error: AppError) {
    let AppError { error, payload } = error;
    inner.run_now(Command::InvocationFailed(Box::new(InvocationFailed {
        invocation,
        error,
        payload,
    })));
}
