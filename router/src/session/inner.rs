//! What all handles of a session share: its place in the realm, and who waits for which answer.
//!
//! Commands are carried out by whoever gives them, under the realm's lock; answers and events come
//! back through the outbox and the session's one task (`driver.rs`).
//!
//! Rule for the state's lock: nothing of the program (a handler, a handle) is dropped while it is held,
//! since that may come back here. Lock order: state, then hub, realm, outbox.

use super::call::CallQueue;
use super::error::{Error, SessionEnd};
use super::kv::LockRequest;
use super::queue::Budget;
use super::register::Handler;
use super::subscribe::{Members, PendingSubscribe};
use super::{Registration, Session};
use crate::router::Router;
use parking_lot::Mutex;
use router_core::model::{
    Answer, Command, InvocationId, Refusal, RegistrationId, RequestId, SessionId,
};
use router_core::outbox::Outbox;
use router_core::runtime::{Door, Ran, now};
use router_core::session::Leave;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// How long a publisher is paused at a time for receivers that fill up, or a store that is behind.
const STALL: Duration = Duration::from_millis(5);
/// ... for receivers in one second, as for every other connection.
const STALL_PER_SECOND: Duration = Duration::from_millis(100);

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The shared part of a session.
pub(super) struct Inner {
    router: Router,
    pub door: Door,
    pub budget: Arc<Budget>,
    pub ended: watch::Sender<Option<SessionEnd>>,
    next_request: AtomicU64,
    pub state: Mutex<State>,
    pace: Mutex<Pace>,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct State {
    pub waiting: HashMap<RequestId, Waiting>,
    pub members: Members,
    pub handlers: HashMap<RegistrationId, Handler>,
    /// Handlers at work; `None` while the task is being made.
    pub running: HashMap<InvocationId, Option<AbortHandle>>,
    /// The session's own task.
    pub task: Option<AbortHandle>,
    /// Nothing is entered into the tables any more.
    closed: bool,
}

/// What an answer means.
pub(super) enum Waiting {
    /// Passed on as it is.
    Answer(oneshot::Sender<Result<Answer, Refusal>>),
    /// A subscription begins.
    Subscribe(PendingSubscribe),
    /// A procedure is offered.
    Register(Handler, Reply<Registration>),
    /// A lock is taken.
    Lock(LockRequest),
    /// Results of a call.
    Call(Arc<CallQueue>),
}

/// How much of the present second was spent waiting for receivers.
#[derive(Default)]
struct Pace {
    second: Option<Instant>,
    spent: Duration,
}

impl Inner {
    pub fn new(router: Router, door: Door) -> Inner {
        Inner {
            budget: Arc::new(Budget::new(router.session_queue_limit())),
            router,
            door,
            ended: watch::Sender::new(None),
            next_request: AtomicU64::new(1),
            state: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    /// Takes note of the session's task.
    pub fn started(&self, task: AbortHandle) {
        let mut state = self.state.lock();
        match state.closed {
            true => task.abort(),
            false => state.task = Some(task),
        }
    }

    /// Enters a handler, unless the session is over.
    pub fn offer(&self, id: RegistrationId, handler: Handler) {
        let refused = {
            let mut state = self.state.lock();
            match state.closed {
                true => Some(handler),
                false => state.handlers.insert(id, handler),
            }
        };
        drop(refused);
    }

    pub fn id(&self) -> SessionId {
        self.door.connection.session
    }

    pub fn request_id(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Why the session is over, if it is.
    pub fn end(&self) -> Option<SessionEnd> {
        self.ended.borrow().clone()
    }

    pub fn ended_error(&self) -> Error {
        Error::Ended(self.end().unwrap_or(SessionEnd::Closed))
    }

    /// Carries out a command at once. Without effect when the session is over.
    pub fn run_now(&self, command: Command) -> Ran {
        let Door {
            cell, connection, ..
        } = &self.door;
        cell.run(now(), *connection, std::iter::once(command))
    }

    /// Carries out a command, and pauses if its receivers are filling up.
    pub async fn run(&self, command: Command) -> Result<(), Error> {
        if self.ended.borrow().is_some() {
            return Err(self.ended_error());
        }
        let ran = self.run_now(command);
        self.pause(ran.pressed).await;
        Ok(())
    }

    /// Enters who waits for `request`; refused when the session is over.
    pub fn expect(&self, request: RequestId, waiting: Waiting) -> Result<(), Error> {
        let refused = {
            let mut state = self.state.lock();
            match state.closed {
                true => Some(waiting),
                false => state.waiting.insert(request, waiting),
            }
        };
        match refused {
            Some(_) => Err(self.ended_error()),
            None => Ok(()),
        }
    }

    /// Takes who waits for `request`.
    pub fn take_waiting(&self, request: RequestId) -> Option<Waiting> {
        self.state.lock().waiting.remove(&request)
    }

    /// Carries out what `command` makes of a request id, and waits for the answer.
    pub async fn ask(&self, command: impl FnOnce(RequestId) -> Command) -> Result<Answer, Error> {
        let (sender, receiver) = oneshot::channel();
        let request = self.request_id();
        self.expect(request, Waiting::Answer(sender))?;
        self.run(command(request)).await?;
        let answer = receiver.await.map_err(|_| self.ended_error())?;
        Ok(answer?)
    }

    /// The session is over: leaves the realm, and tells everybody who waits. The first end counts.
    pub fn finish(&self, end: SessionEnd, how: Leave) {
        let first = self.ended.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(end);
            first
        });
        if !first {
            return;
        }
        let Door {
            cell,
            connection,
            outbox,
            ..
        } = &self.door;
        cell.leave(now(), *connection, how);
        outbox.release(connection.generation);
        self.router.hub().tidy(cell);
        let State {
            waiting,
            members,
            handlers,
            running,
            task,
            ..
        } = {
            let mut state = self.state.lock();
            std::mem::replace(
                &mut *state,
                State {
                    closed: true,
                    ..State::default()
                },
            )
        };
        for task in running.values().flatten().chain(&task) {
            task.abort();
        }
        members.close();
        for waiting in waiting.into_values() {
            if let Waiting::Call(queue) = waiting {
                queue.close();
            }
        }
        drop(handlers);
    }

    /// Waits while the store is far behind, and a short moment for receivers that are filling up.
    pub async fn pause(&self, mut pressed: Vec<Arc<Outbox>>) {
        while self.door.cell.is_congested() && self.ended.borrow().is_none() {
            tokio::time::sleep(STALL).await;
        }
        if pressed.is_empty() || !self.may_stall() {
            return;
        }
        let room = poll_fn(|cx| {
            pressed.retain(|outbox| outbox.wait_for_room(cx.waker()));
            if pressed.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        // Out of time is no failure: a slow reader costs its publishers no more than this.
        let _ = tokio::time::timeout(STALL, room).await;
    }

    fn may_stall(&self) -> bool {
        let now = Instant::now();
        let mut pace = self.pace.lock();
        if pace
            .second
            .is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1))
        {
            *pace = Pace {
                second: Some(now),
                spent: Duration::ZERO,
            };
        }
        if pace.spent >= STALL_PER_SECOND {
            return false;
        }
        pace.spent += STALL;
        true
    }
}

/// What the program's handles keep alive; the last one to go leaves the realm.
pub(super) struct Owner {
    pub inner: Arc<Inner>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.finish(SessionEnd::Closed, Leave::Lost);
    }
}

impl Session {
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.owner.inner
    }
}
