//! `reynard lock run`: a command that runs while we hold a lock, and no longer.
//!
//! The lock counts as lost when the router says so (`fox.lock.on_lost`, `fox.error.lock_lost`),
//! when the connection breaks, or when the lease cannot be renewed in time ([`Guard`]). Then the
//! command is stopped and the exit code is that of a lost lock, whatever the command's own is.

use super::Run;
use super::acquire::{Grant, acquire, release, renew};
use super::child::{Child, exit_code};
use super::guard::{Action, Guard};
use crate::cli::console::Console;
use crate::cli::failure::{EXIT_LOST, Failure};
use crate::cli::signals::Signals;
use futures_util::future::BoxFuture;
use router_client::{ClientError, Dict, DictExt as _, Session, Subscription};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::future::pending;
use std::process::ExitStatus;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

/// Tells a holder that its lock is gone.
const ON_LOST: &str = "fox.lock.on_lost";

/// The outcome of a renewal that was sent at this time.
type Renewal<'a> = BoxFuture<'a, (Instant, Result<(), Failure>)>;

/// `run`
pub(super) async fn run(
    session: &Session,
    run: &Run,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    // Ctrl-Z has no effect: suspended, we could neither renew the lease nor stop the command.
    let _suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    // Before there is a lock, so that no loss goes unheard.
    let losses = losses(session, console).await?;
    let grant = acquire(session, run, &mut signals, console).await?;
    // How old the grant is by now nobody knows: the lease begins with a renewal of ours.
    let (sent, renewed) = renewal(session, &grant, run).await;
    renewed.map_err(|failure| failure.about(&run.key))?;
    let guard = Guard::new(sent, run.ttl, run.kill_after);
    if guard.is_over(Instant::now()) {
        return Err(Failure::lost("the router is too slow to renew the lease"));
    }
    let child = match Child::start(&run.command, &grant.key, grant.token) {
        Ok(child) => child,
        Err(failure) => {
            // It would end with the session as well.
            let _ = release(session, &grant).await;
            return Err(failure);
        }
    };
    let mut watched = Watched {
        session,
        run,
        grant: &grant,
        guard,
        child,
        losses,
        renewal: None,
    };
    let status = watched.until_end(&mut signals, console).await?;
    watched.end(status, console).await
}

/// Subscribes to losses. Without the right to, renewals find them out, if later.
async fn losses(
    session: &Session,
    console: &mut Console<'_>,
) -> Result<Option<Subscription>, Failure> {
    match session.subscribe(ON_LOST, Dict::new()).await {
        Ok(losses) => Ok(Some(losses)),
        Err(ClientError::Request { error, .. }) => {
            let text = format!("no subscription to {ON_LOST} ({error}): a loss is noticed later");
            console.aside(&text, &json!({"event": "warning", "message": text}));
            Ok(None)
        }
        Err(other) => Err(other.into()),
    }
}

async fn renewal(session: &Session, grant: &Grant, run: &Run) -> (Instant, Result<(), Failure>) {
    let sent = Instant::now();
    let renewed = async {
        renew(session, grant, run).await?.wait().await?;
        Ok(())
    };
    (sent, renewed.await)
}

/// A command and the lock that it runs under.
struct Watched<'a> {
    session: &'a Session,
    run: &'a Run,
    grant: &'a Grant,
    guard: Guard,
    child: Child,
    losses: Option<Subscription>,
    /// Under way.
    renewal: Option<Renewal<'a>>,
}

/// What can happen while the command runs.
enum Happening {
    Ended(std::io::Result<ExitStatus>),
    Signal(i32),
    Lost(String),
    Renewed(Instant, Result<(), Failure>),
    Due,
}

impl Watched<'_> {
    /// Until the command has ended.
    async fn until_end(
        &mut self,
        signals: &mut Signals,
        console: &mut Console<'_>,
    ) -> Result<ExitStatus, Failure> {
        loop {
            let happening = self.next(signals).await;
            let now = Instant::now();
            let action = match happening {
                Happening::Ended(status) => return Ok(status?),
                Happening::Signal(signal) => {
                    self.child.signal(signal);
                    None
                }
                Happening::Lost(reason) => self.guard.lost(now, &reason),
                Happening::Renewed(sent, outcome) => {
                    self.renewal = None;
                    self.renewed(now, sent, outcome)
                }
                Happening::Due => None,
            };
            self.act(action, console);
            while let Some(action) = self.guard.poll(now) {
                self.act(Some(action), console);
            }
        }
    }

    /// Waits for one thing to happen. Dropped before that, nothing is lost.
    async fn next(&mut self, signals: &mut Signals) -> Happening {
        let is_held = self.guard.loss().is_none();
        let due = self.guard.due();
        tokio::select! {
            status = self.child.wait() => Happening::Ended(status),
            signal = signals.next() => Happening::Signal(signal),
            reason = lost(&mut self.losses, self.grant), if is_held => Happening::Lost(reason),
            closed = self.session.ended(), if is_held => Happening::Lost(closed.to_string()),
            (sent, outcome) = maybe(self.renewal.as_mut()), if is_held => {
                Happening::Renewed(sent, outcome)
            }
            () = maybe(due.map(sleep_until)) => Happening::Due,
        }
    }

    fn renewed(
        &mut self,
        now: Instant,
        sent: Instant,
        outcome: Result<(), Failure>,
    ) -> Option<Action> {
        match outcome {
            Ok(()) => self.guard.renewed(sent),
            Err(failure) if failure.code == EXIT_LOST => {
                return self.guard.lost(now, &failure.message);
            }
            Err(_) => self.guard.renew_failed(now),
        }
        None
    }

    fn act(&mut self, action: Option<Action>, console: &mut Console<'_>) {
        match action {
            Some(Action::Renew) => {
                let renewal = renewal(self.session, self.grant, self.run);
                self.renewal = Some(Box::pin(renewal));
            }
            Some(Action::Terminate) => {
                let key = &self.grant.key;
                let reason = self.guard.loss().unwrap_or_default();
                let text = format!("{key} is lost: {reason}; stopping the command");
                let object = json!({
                    "event": "lost", "key": key, "token": self.grant.token, "reason": reason,
                });
                self.child.terminate();
                console.aside(&text, &object);
            }
            Some(Action::Kill) => self.child.kill(),
            None => {}
        }
    }

    /// After the end of the command: gives the lock back, if it is still ours.
    async fn end(self, status: ExitStatus, console: &mut Console<'_>) -> Result<u8, Failure> {
        let code = exit_code(status);
        let key = &self.grant.key;
        if self.guard.loss().is_some() {
            // What the command has left behind has no lock either.
            self.child.kill();
            return Ok(EXIT_LOST);
        }
        // Whoever cannot give it back does not know whether it had it to the end.
        let released = timeout(self.run.ttl, release(self.session, self.grant)).await;
        let reason = match released {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.message),
            Err(_) => Some("the router is silent".to_owned()),
        };
        if let Some(reason) = reason {
            let message = format!("{key} may have been lost before the command ended: {reason}");
            return Err(Failure::lost(message));
        }
        if console.is_json() {
            let object = json!({"event": "released", "key": key, "code": code});
            console.aside("", &object);
        }
        Ok(code)
    }
}

/// Why the router took our lock, once it has.
async fn lost(losses: &mut Option<Subscription>, grant: &Grant) -> String {
    while let Some(subscription) = losses {
        let Ok(Some(event)) = subscription.next().await else {
            // Revoked, or the session has ended, which is heard of elsewhere.
            *losses = None;
            break;
        };
        let loss = event.arguments.first().unwrap_or_default();
        if let Some(reason) = reason_for(&loss, grant) {
            return reason;
        }
    }
    pending().await
}

/// The reason of a loss, if it is ours.
fn reason_for(loss: &Value, grant: &Grant) -> Option<String> {
    let loss = loss.as_object()?;
    let is_ours = loss.unsigned("token").ok()? == Some(grant.token)
        && loss.text("key").ok()? == Some(grant.key.as_str());
    let reason = loss.text("reason").ok().flatten().unwrap_or("unknown");
    is_ours.then(|| reason.to_owned())
}

/// Waits for what may be there.
async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
