//! The one loop that does I/O, for every gate over every transport.
//!
//! A turn: read a batch, let the gate decode it, carry out its commands under one lock of the
//! realm, take what the realm said, let the gate encode it, write it in one call. A connection is
//! one task; it sleeps until its socket, its outbox or its deadline has something for it. Where nobody waits, whoever
//! published takes its receiver's turn ([`serving`]).
//!
//! Back-pressure: nothing is taken from the outbox while the socket does not take what is queued,
//! and nothing is read while a receiver of what was just published is filling up (for short
//! moments only: a slow reader costs a publisher at most a tenth of its time) or the store is far
//! behind. None of it holds while the peer is heard out, before the connection gives way to a newer
//! one of its client.

mod closing;
mod joining;
mod messages;
mod reading;
mod resting;
mod serving;
mod stalling;

use super::{Action, Gate, Input, Output, Proofs, Traffic};
use crate::transport::{Received, Transport};
use closing::Closing;
use joining::{Challenged, Entering, Proving};
use reading::Hearing;
use resting::Activity;
use router_core::auth::Verified;
use router_core::model::{Delivery, Now};
use router_core::runtime::{Door, Hub, now};
use router_core::session::Leave;
use serving::{Serving, let_others_serve};
use stalling::Stall;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::Sleep;

/// Reads handled before the outbox and the socket get their turn.
const READS_PER_TURN: usize = 32;
/// Deliveries taken from the outbox at a time.
const DELIVERIES_PER_TURN: usize = 512;
/// Nothing is taken from the outbox while this much waits to be written, in bytes.
const WRITE_HIGH_WATER: usize = 256 << 10;
/// Turns after which other tasks get a chance.
const TURNS_PER_POLL: usize = 16;

thread_local! {
    /// Room for the deliveries of a turn; empty between turns, so the connections of a thread share it.
    static TAKEN: Cell<Vec<Delivery>> = const { Cell::new(Vec::new()) };
}

/// What connections are run with; shared by all that are run alike.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// A message transport is asked for a sign of life after this long without any.
    pub ping_after: Duration,
    /// ... and given up after this long.
    pub dead_after: Duration,
    /// A socket that takes nothing for this long while there is something to write is given up.
    pub write_timeout: Duration,
    /// A newcomer waits this long until the connection whose place it takes has read what its peer
    /// sent.
    pub hear_out: Duration,
    /// How long a peer may take to accept the last bytes, and then to close its side.
    pub linger: Duration,
    /// Turns true when the router shuts down.
    pub drain: watch::Receiver<bool>,
    /// Shared counters.
    pub traffic: Arc<Traffic>,
    /// Shared places for slow proofs.
    pub proofs: Proofs,
}

/// One connection.
pub struct Driver<T> {
    transport: T,
    gate: Box<dyn Gate>,
    hub: Hub,
    options: Arc<DriverOptions>,
    /// How the peer is called in the session list and the log.
    peer: Box<str>,
    /// Who this is, if the program itself vouches for it.
    trusted: Option<Box<Verified>>,
    seat: Option<Seat>,
    proving: Option<Proving>,
    challenged: Option<Box<Challenged>>,
    entering: Option<Box<Entering>>,
    /// What came behind a request to join that is under way.
    behind: Option<Box<Received>>,
    hearing: Option<Box<Hearing>>,
    /// For what the realm says.
    outbox_waker: Waker,
    read_closed: bool,
    drained: bool,
    drain_signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// It knows whom to wake.
    drain_awaited: bool,
    closing: Option<Box<Closing>>,
    timer: Pin<Box<Sleep>>,
    /// It knows whom to wake.
    timer_awaited: bool,
    /// For when the timer is set: the next deadline or earlier, because deadlines that move away
    /// with each packet would cost a setting each.
    timer_at: Option<Instant>,
    activity: Activity,
    last_sign: Instant,
    ping_sent: bool,
    last_write: Instant,
    /// Nothing has to be waited for, and none of this second's pauses were, if it is not there.
    stall: Option<Box<Stall>>,
    /// The peer took too little to be read or to be told more.
    is_held_back: bool,
    /// What was read is not carried out to its end: a receiver is filling up.
    holds: bool,
    /// The peer takes nothing any more; what is queued is given up.
    aborted: bool,
}

/// The session's place; left when the connection goes, however it goes.
struct Seat {
    hub: Hub,
    door: Door,
    /// The realm has said its first word.
    welcomed: bool,
    /// The realm has said its last word.
    ended: bool,
    /// The last asking to hear out the peer that was noted.
    asked: u64,
}

impl Seat {
    fn new(hub: Hub, door: Door) -> Seat {
        Seat {
            hub,
            door,
            welcomed: false,
            ended: false,
            asked: 0,
        }
    }

    fn leave(self, how: Leave) {
        self.door.cell.leave(now(), self.door.connection, how);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Door {
            cell,
            connection,
            outbox,
            ..
        } = &self.door;
        // Without effect if the session has left, or was given to another connection.
        cell.leave(now(), *connection, Leave::Lost);
        outbox.release(connection.generation);
        self.hub.tidy(cell);
    }
}

impl<T: Transport + Unpin> Driver<T> {
    /// A connection of `gate` over `transport`; `peer` names its other end in the session list and the log.
    #[must_use]
    pub fn new(
        transport: T,
        gate: Box<dyn Gate>,
        hub: Hub,
        options: impl Into<Arc<DriverOptions>>,
        peer: impl Into<Box<str>>,
    ) -> Driver<T> {
        let options = options.into();
        let started = Instant::now();
        let mut drain = options.drain.clone();
        let drain_signal = Box::pin(async move {
            // A closed channel means the router is gone, which is a shutdown too.
            let _ = drain.wait_for(|drain| *drain).await;
        });
        options.traffic.connections.fetch_add(1, Ordering::Relaxed);
        options.traffic.open.fetch_add(1, Ordering::Relaxed);
        Driver {
            transport,
            gate,
            hub,
            options,
            peer: peer.into(),
            trusted: None,
            seat: None,
            proving: None,
            challenged: None,
            entering: None,
            behind: None,
            hearing: None,
            outbox_waker: Waker::noop().clone(),
            read_closed: false,
            drained: false,
            drain_signal,
            drain_awaited: false,
            closing: None,
            timer: Box::pin(tokio::time::sleep(Duration::from_secs(86_400))),
            timer_awaited: false,
            timer_at: None,
            activity: Activity::new(started),
            last_sign: started,
            ping_sent: false,
            last_write: started,
            stall: None,
            holds: false,
            is_held_back: false,
            aborted: false,
        }
    }

    /// The gate's credentials are not asked for: the program itself opened this connection and
    /// says who it is on this side.
    #[must_use]
    pub fn trusted(mut self, verified: Verified) -> Driver<T> {
        self.trusted = Some(Box::new(verified));
        self
    }

    /// Runs the connection to its end. Cancel safe: dropping it loses the connection, no more.
    pub fn run(mut self) -> impl Future<Output = ()> + Unpin
    where
        T: 'static,
    {
        if self.has_buffered() {
            self.feed(now(), Received::Bytes(0));
        }
        Serving::new(self)
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for turn in 0..TURNS_PER_POLL {
            match self.turn(cx) {
                Turn::Done => return Poll::Ready(()),
                // It goes on, so others need not wait for the end of it.
                Turn::Progress if turn > 0 => let_others_serve(),
                Turn::Progress => {}
                Turn::Idle => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = now();
        if self.lingers() {
            return self.linger(now, cx);
        }
        let mut progress = self.check_drain(now, cx);
        if self.holds && !self.is_stalled(now, cx) {
            self.holds = false;
            progress = true;
        }
        progress |= self.receive(now, cx);
        self.act(now);
        self.report_hearing();
        self.say(now, progress, cx)
    }

    /// What the realm said goes out within the turn of another connection. Nothing is read, so that nobody is overtaken
    /// who waits in line; [`Turn::Progress`]: there is more to do, for the connection's own task.
    fn pass_on(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.seat.is_none() || self.closing.is_some() || self.lingers() {
            return Turn::Progress;
        }
        self.say(now(), false, cx)
    }

    /// The second half of a turn, which reads nothing: what the realm said, and what is to be written.
    fn say(&mut self, now: Now, mut progress: bool, cx: &mut Context<'_>) -> Turn {
        progress |= self.deliver(now);
        progress |= self.note_asking();
        // What a delivery led to may let the next one out, of which nobody is told.
        progress |= self.act(now);
        self.collect_output(now);
        if self.closing.is_some() {
            // The end may have come with the output; others need not wait for the socket, and
            // nothing that was read is given up.
            self.act(now);
        }
        match self.write(now, cx) {
            Some(turn) => return turn,
            None if self.closing.is_some() && self.transport.queued() == 0 => {
                return self.finish(now, cx);
            }
            None => {}
        }
        // What came in either direction while the peer took nothing wakes nobody again.
        if self.is_held_back && !self.is_full() {
            self.is_held_back = false;
            progress = true;
        }
        // After what may have begun them, so that none waits without a waker, and after what may
        // have ended the connection, so that nobody is let in who has gone.
        progress |= self.poll_proof(now, cx);
        progress |= self.poll_entering(now, cx);
        self.rest_if_idle(now, progress);
        progress |= self.check_time(now, cx);
        match (self.aborted, progress) {
            (true, _) => Turn::Done,
            (false, true) => Turn::Progress,
            (false, false) => Turn::Idle,
        }
    }

    /// Another task has it: what waits has to be told whom to wake.
    fn note_new_task(&mut self) {
        (self.drain_awaited, self.timer_awaited) = (false, false);
    }

    fn check_drain(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let is_quiet = || matches!(self.options.drain.has_changed(), Ok(false));
        if self.drained || (self.drain_awaited && is_quiet()) {
            return false;
        }
        // Without budget the runtime answers ahead of the signal.
        self.drain_awaited = coop::has_budget_remaining();
        if self.drain_signal.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.drained = true;
        self.gate.handle_input(now, Input::Drain);
        true
    }

    /// Does what the gate wants done. Consecutive commands share one lock of the realm. What was read at once may be
    /// more than a receiver has room for, so the rest of it waits with the reading, unless the peer is heard out.
    /// Answers whether there was any.
    fn act(&mut self, now: Now) -> bool {
        let goes_on = self.closing.is_none() && !self.read_closed && self.hearing.is_none();
        if self.holds && goes_on {
            return false;
        }
        self.holds = false;
        let mut was_any = false;
        loop {
            let Driver { gate, seat, .. } = self;
            let mut other = None;
            if let Some(seat) = seat {
                let Some(first) = gate.poll_action() else {
                    return was_any;
                };
                was_any = true;
                match first {
                    Action::Command(first) => {
                        let commands =
                            std::iter::once(first).chain(std::iter::from_fn(|| {
                                match gate.poll_action() {
                                    Some(Action::Command(command)) => Some(command),
                                    rest => {
                                        other = rest;
                                        None
                                    }
                                }
                            }));
                        let door = &seat.door;
                        let (cell, connection) = (&door.cell, door.connection);
                        if goes_on && Stall::has_budget(&mut self.stall, now.instant) {
                            let ran = cell.run_until_pressed(now, connection, commands);
                            self.holds = !ran.pressed.is_empty();
                            Stall::note(&mut self.stall, ran.pressed);
                        } else {
                            let ran = cell.run(now, connection, commands);
                            Stall::note(&mut self.stall, ran.pressed);
                        }
                    }
                    action => other = Some(action),
                }
                if let Some(action) = other {
                    self.carry_out(now, action);
                } else if self.holds || self.seat.is_none() {
                    return was_any;
                }
            } else {
                if self.is_joining() {
                    return was_any;
                }
                let Some(action) = self.gate.poll_action() else {
                    return was_any;
                };
                was_any = true;
                self.carry_out(now, action);
            }
        }
    }

    fn carry_out(&mut self, now: Now, action: Action) {
        match action {
            // A command without a session was decoded behind its end; nobody is there to ask.
            Action::Command(_) => {}
            Action::Leave(how) => {
                if let Some(seat) = self.seat.take() {
                    seat.leave(how);
                }
            }
            Action::Join(request) => self.join(now, request),
            Action::Authenticate(step) => self.authenticate(now, *step),
        }
    }

    /// Whether the peer takes less than it is sent.
    fn is_full(&self) -> bool {
        self.transport.queued() > WRITE_HIGH_WATER
    }

    /// Takes what the realm said, as long as the socket takes what is queued. Answers whether there may be more.
    fn deliver(&mut self, now: Now) -> bool {
        let is_full = self.is_full();
        let Some(seat) = &mut self.seat else {
            return false;
        };
        if seat.ended || self.closing.is_some() {
            return false;
        }
        let Door {
            cell,
            connection,
            outbox,
            ..
        } = &seat.door;
        let generation = connection.generation;
        if is_full {
            self.is_held_back = true;
            // The end overtakes what a slow peer does not take: others may wait for its place.
            let Some(reason) = outbox.end_reason(generation) else {
                outbox.register_end(generation, &self.outbox_waker);
                return false;
            };
            seat.ended = true;
            self.gate.handle_delivery(now, Delivery::Ended(reason));
            return true;
        }
        let mut deliveries = TAKEN.try_with(Cell::take).unwrap_or_default();
        let drained = outbox.drain(
            generation,
            DELIVERIES_PER_TURN,
            now.unix_ms,
            &mut deliveries,
        );
        if !drained.more {
            // Wakes at once if something came in between.
            outbox.register(generation, &self.outbox_waker);
        }
        if drained.refill || drained.expired {
            cell.refill(now, *connection);
        }
        // With the welcome what came ahead of it is looked at.
        let is_welcome = !seat.welcomed && !deliveries.is_empty();
        let progress = drained.more || drained.refill || drained.expired || is_welcome;
        seat.welcomed |= is_welcome;
        seat.ended = matches!(deliveries.last(), Some(Delivery::Ended(_)));
        for delivery in deliveries.drain(..) {
            self.gate.handle_delivery(now, delivery);
        }
        // Without it the next turn makes its own.
        let _ = TAKEN.try_with(|taken| taken.set(deliveries));
        progress
    }

    fn collect_output(&mut self, now: Now) {
        self.collect_messages(now);
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Close { code, reason } => {
                    if self.closing.is_none() {
                        self.start_closing(now, code, reason);
                    }
                }
                Output::Bytes(ref bytes) | Output::Text(ref bytes) => {
                    if self.closing.is_none() {
                        let was_idle = self.transport.queued() == 0;
                        self.note_output(now, was_idle, bytes.len());
                        self.transport.send(output);
                    }
                }
            }
        }
        if self.read_closed && self.closing.is_none() {
            self.start_closing(now, 1000, "");
        }
    }

    /// So many bytes go to the transport, which had nothing to write if it `was_idle`.
    fn note_output(&mut self, now: Now, was_idle: bool, bytes: usize) {
        if was_idle {
            self.last_write = now.instant;
        }
        self.activity.note(now.instant);
        Traffic::add(&self.options.traffic.bytes_out, bytes);
    }

    fn note_violation(&self, now: Now, reason: &str) {
        if let Some(unlogged) = self.options.traffic.violation(now.instant) {
            tracing::warn!(peer = %self.peer, reason, unlogged, "a peer was disconnected");
        }
    }

    /// Writes; answers a turn if that decides it.
    fn write(&mut self, now: Now, cx: &mut Context<'_>) -> Option<Turn> {
        let before = self.transport.queued();
        match self.transport.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.last_write = now.instant;
                None
            }
            Poll::Ready(Err(_)) => {
                if !self.read_closed {
                    self.read_closed = true;
                    self.gate.handle_input(now, Input::Closed);
                    self.act(now);
                }
                Some(Turn::Done)
            }
            Poll::Pending => {
                if self.transport.queued() < before {
                    self.last_write = now.instant;
                }
                None
            }
        }
    }

    /// Deadlines of the gate, of the transport, and of closing.
    fn check_time(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        if self
            .closing
            .as_ref()
            .is_some_and(|closing| closing.until <= now.instant)
        {
            self.aborted = true;
            return true;
        }
        if self.closing.is_none() {
            if self.gate.poll_timeout().is_some_and(|at| at <= now.instant) {
                self.gate.handle_timeout(now);
                return true;
            }
            match self.look_for_life(now) {
                Life::Fine => {}
                // Another turn, so that the question is written.
                Life::Asked => return true,
                Life::Gone => {
                    self.read_closed = true;
                    self.gate.handle_input(now, Input::Closed);
                    return true;
                }
            }
        }
        let next = self.next_deadline();
        if let Some(at) = next
            && self.timer_at.is_none_or(|set| at < set)
        {
            self.timer_at = next;
            self.timer.as_mut().reset(at.into());
            self.timer_awaited = false;
        }
        if self.timer_at.is_none() || (self.timer_awaited && !self.timer.is_elapsed()) {
            return false;
        }
        self.timer_awaited = coop::has_budget_remaining();
        if self.timer.as_mut().poll(cx).is_ready() {
            self.timer_at = None;
            return true;
        }
        false
    }

    fn look_for_life(&mut self, now: Now) -> Life {
        let is_stuck = self.transport.queued() > 0
            && now.instant.duration_since(self.last_write) >= self.options.write_timeout;
        let silence = now.instant.duration_since(self.last_sign);
        if is_stuck || (self.ping_sent && silence >= self.options.dead_after) {
            return Life::Gone;
        }
        if self.ping_sent || silence < self.options.ping_after {
            return Life::Fine;
        }
        if self.transport.ping() {
            self.ping_sent = true;
            return Life::Asked;
        }
        // A transport that cannot ask leaves silence to the protocol.
        self.last_sign = now.instant;
        Life::Fine
    }

    fn next_deadline(&self) -> Option<Instant> {
        let by_silence = if self.ping_sent {
            self.options.dead_after
        } else {
            self.options.ping_after
        };
        let by_silence = self
            .transport
            .can_ping()
            .then(|| self.last_sign + by_silence);
        let by_rest = self.activity.rests_at();
        let by_write =
            (self.transport.queued() > 0).then(|| self.last_write + self.options.write_timeout);
        [
            self.closing.as_ref().map(|closing| closing.until),
            self.gate.poll_timeout().filter(|_| self.closing.is_none()),
            self.enters_at(),
            // One that nobody looks at any more would be due again and again.
            self.stall
                .as_ref()
                .and_then(|stall| stall.until())
                .filter(|_| self.closing.is_none()),
            by_silence.filter(|_| self.closing.is_none()),
            by_rest.filter(|_| self.closing.is_none() && self.transport.queued() == 0),
            by_write.filter(|_| self.closing.is_none()),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.options.traffic.open.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Life {
    Fine,
    Asked,
    Gone,
}

enum Turn {
    Progress,
    Idle,
    Done,
}
