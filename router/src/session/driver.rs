//! The session's one task: takes what the realm says from the outbox and hands it to who waits.

use super::error::{AppError, Error, SessionEnd};
use super::inner::{Inner, Owner, Waiting};
use super::register::{Handler, Invocation, Registration, forget, start};
use super::subscribe::{self, Event};
use super::values::Values;
use super::{Session, kv};
use router_core::model::{
    Answer, Delivery, ErrorKind, EventDelivery, InvocationId, Payload, Refusal, RequestId,
};
use router_core::runtime::now;
use router_core::session::Leave;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Weak};
use std::task::Poll;

/// Why a call ends whose arguments or result are sealed.
const UNREADABLE: &str = "sessions of this program open no sealed payloads";

/// Deliveries taken at a time.
const DELIVERIES_PER_TURN: usize = 512;

/// Runs until the session is over. `drained` ends when the router shuts down.
pub(super) async fn run(inner: Arc<Inner>, owner: Weak<Owner>, drained: impl Future<Output = ()>) {
    let mut drained = std::pin::pin!(drained);
    let mut deliveries = Vec::new();
    loop {
        let is_drained = poll_fn(|cx| {
            if drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            take(&inner, cx.waker(), &mut deliveries).map(|()| false)
        })
        .await;
        if is_drained {
            inner.finish(SessionEnd::Shutdown, Leave::Clean);
            return;
        }
        for delivery in deliveries.drain(..) {
            if let Err(end) = dispatch(&inner, &owner, delivery) {
                if end == SessionEnd::TooSlow {
                    tracing::warn!(
                        session = inner.id().0,
                        "an in-process session was ended: {end}"
                    );
                }
                inner.finish(end, Leave::Lost);
                return;
            }
        }
        // A busy realm must not keep this task from others on its thread.
        tokio::task::consume_budget().await;
    }
}

/// Takes a batch; pending when there is nothing.
fn take(inner: &Inner, waker: &std::task::Waker, deliveries: &mut Vec<Delivery>) -> Poll<()> {
    let door = &inner.door;
    let (generation, now) = (door.connection.generation, now());
    door.outbox.register(generation, waker);
    let drained = door
        .outbox
        .drain(generation, DELIVERIES_PER_TURN, now.unix_ms, deliveries);
    if drained.refill || drained.expired {
        door.cell.refill(now, door.connection);
    }
    match deliveries.is_empty() && !drained.refill {
        true => Poll::Pending,
        false => Poll::Ready(()),
    }
}

fn dispatch(inner: &Arc<Inner>, owner: &Weak<Owner>, delivery: Delivery) -> Result<(), SessionEnd> {
    match delivery {
        Delivery::Event(event) => return self::event(inner, &event),
        Delivery::Done { request, answer } => answered(inner, owner, request, answer),
        Delivery::Refused { request, refusal } => refused(inner, request, refusal),
        Delivery::Invocation(invocation) if !can_read(&invocation.payload) => {
            let invocation = Invocation::new(inner, *invocation);
            invocation.fail(AppError::new(
                protocols::wamp::uris::error::FEATURE_NOT_SUPPORTED,
                UNREADABLE,
            ));
        }
        Delivery::Invocation(invocation) => {
            let handler = inner
                .state
                .lock()
                .handlers
                .get(&invocation.registration)
                .cloned();
            invoke(inner, handler, Invocation::new(inner, *invocation));
        }
        Delivery::Interrupt { invocation, .. } => interrupt(inner, invocation),
        Delivery::Result {
            request,
            payload,
            progress,
        } if !can_read(&payload) => {
            // Progress that cannot be read is none; the final result ends the call.
            if !progress {
                let refusal = Refusal::new(ErrorKind::FeatureNotSupported, UNREADABLE);
                return result(inner, request, Err(refusal.into()), false);
            }
        }
        Delivery::Result {
            request,
            payload,
            progress,
        } => {
            return result(inner, request, Ok(Values::from(payload)), progress);
        }
        Delivery::CallFailed { request, failure } => {
            return result(inner, request, Err(failure.into()), false);
        }
        Delivery::Revoked { subscription, .. } => {
            let gone = inner.state.lock().members.remove(subscription);
            subscribe::close(gone);
        }
        // Invocations under way are still answered, as after a withdrawal of its own.
        Delivery::Unregistered { registration, .. } => forget(inner, registration),
        Delivery::Ended(reason) => return Err(reason.into()),
        // The first delivery of all; releases belong to another style of events.
        Delivery::Joined { .. } | Delivery::Release { .. } => {}
    }
    Ok(())
}

fn event(inner: &Inner, delivery: &EventDelivery) -> Result<(), SessionEnd> {
    let queues = inner
        .state
        .lock()
        .members
        .queues(delivery.subscription, delivery.replayed);
    for queue in queues {
        let event = Event::new(delivery);
        let cost = event.values.cost();
        queue.push(event, cost).map_err(|_| SessionEnd::TooSlow)?;
    }
    Ok(())
}

fn answered(inner: &Arc<Inner>, owner: &Weak<Owner>, request: RequestId, answer: Answer) {
    let Some(waiting) = inner.take_waiting(request) else {
        return;
    };
    // The program has dropped its last handle, and with it whoever waited.
    let Some(session) = owner.upgrade().map(|owner| Session { owner }) else {
        return;
    };
    // Whoever gave up waiting drops what it is sent here, which takes it back.
    match (waiting, answer) {
        (Waiting::Answer(reply), answer) => drop(reply.send(Ok(answer))),
        (Waiting::Subscribe(pending), Answer::Subscribed { subscription, .. }) => {
            subscribe::begin(session, pending, subscription);
        }
        (Waiting::Register(handler, reply), Answer::Registered(id)) => {
            inner.offer(id, handler);
            drop(reply.send(Ok(Registration::new(session, id))));
        }
        (Waiting::Lock(lock), Answer::Published { publication, .. }) => {
            kv::granted(session, lock, publication);
        }
        // The realm answers a request with its own kind only.
        _ => tracing::error!(request = request.0, "an answer of the wrong kind"),
    }
}

fn refused(inner: &Inner, request: RequestId, refusal: Refusal) {
    match inner.take_waiting(request) {
        Some(Waiting::Answer(reply)) => drop(reply.send(Err(refusal))),
        Some(Waiting::Subscribe(pending)) => subscribe::refused(inner, pending, refusal),
        Some(Waiting::Register(_, reply)) => drop(reply.send(Err(refusal.into()))),
        Some(Waiting::Lock(lock)) => lock.refuse(refusal),
        Some(Waiting::Call(_)) | None => {}
    }
}

fn result(
    inner: &Inner,
    request: RequestId,
    result: Result<Values, Error>,
    progress: bool,
) -> Result<(), SessionEnd> {
    let queue = {
        let mut state = inner.state.lock();
        match progress {
            true => state.waiting.get(&request).and_then(Waiting::as_call),
            false => state
                .waiting
                .remove(&request)
                .as_ref()
                .and_then(Waiting::as_call),
        }
    };
    let Some(queue) = queue else { return Ok(()) };
    match result {
        Ok(values) if progress => {
            let cost = values.cost();
            queue.push(super::call::Reply::Progress(values), cost)
        }
        result => {
            let cost = result.as_ref().map_or(0, Values::cost);
            let pushed = queue.push(super::call::Reply::Done(result), cost);
            queue.close();
            pushed
        }
    }
    .map_err(|_| SessionEnd::TooSlow)
}

/// Sessions of this program announce no form of sealed payloads.
fn can_read(payload: &Payload) -> bool {
    payload.is_opened_by(false, false)
}

fn invoke(inner: &Arc<Inner>, handler: Option<Handler>, invocation: Invocation) {
    match handler {
        Some(handler) => start(inner, handler, invocation),
        // Unregistered while the call was on its way.
        None => invocation.fail(AppError::new(
            protocols::wamp::uris::error::NO_SUCH_PROCEDURE,
            "the procedure was withdrawn",
        )),
    }
}

/// The future of the handler is dropped, which is how it learns; its guard answers for it.
fn interrupt(inner: &Inner, invocation: InvocationId) {
    let task = inner.state.lock().running.remove(&invocation);
    if let Some(Some(task)) = task {
        task.abort();
    }
}
