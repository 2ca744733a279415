//! What the peer sends: batches for the gate, what comes behind a request to join, and what must be
//! heard before the connection gives way to a newer one.

use super::{Driver, READS_PER_TURN, Traffic};
use crate::gate::Input;
use crate::transport::{Received, Transport};
use router_core::model::Now;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::coop;

/// Bytes read of a peer that is heard out.
const HEARD_BYTES: usize = 1 << 20;
/// How long nothing is not believed to be there: a timer fires after the runtime has looked at its
/// sockets, which it does between tasks and perhaps in another thread.
const LOOK: Duration = Duration::from_millis(1);
/// ... and how often.
const LOOKS: u8 = 2;
/// What a read counts at least, so that reads are bounded too.
const HEARD_READ: usize = 1 << 10;

/// The peer is being heard out: what it has sent is read whatever else waits.
pub(super) struct Hearing {
    /// Whom to tell: see [`router_core::outbox::Outbox::heard`].
    number: u64,
    /// Bytes to be read at most.
    left: usize,
    /// Times that the runtime is still asked for news of the socket when nothing is there.
    looks: u8,
    /// The runtime is being asked.
    news: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T: Transport + Unpin> Driver<T> {
    /// Reads a batch, unless the gate waits for its join, the connection closes, or a receiver must
    /// catch up first.
    pub(super) fn receive(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() || self.read_closed {
            return false;
        }
        if self.is_joining() {
            return self.look_behind(now, cx);
        }
        // What came ahead of the welcome is kept by the gate and counts, even if the peer has gone.
        let is_welcomed = self.seat.as_ref().is_none_or(|seat| seat.welcomed);
        if !is_welcomed && self.gate.has_input() {
            return false;
        }
        // A peer that asks without reading the answers waits for itself.
        if self.hearing.is_none() {
            if self.is_full() {
                self.is_held_back = true;
                return false;
            }
            if self.is_stalled(now, cx) {
                return false;
            }
        }
        let mut progress = false;
        for _ in 0..READS_PER_TURN {
            // What it asks for is done in a turn of its own.
            if self.gate.handle_more(now) {
                return true;
            }
            let Poll::Ready(received) = self.read(now, cx) else {
                if self.awaits_news(cx) {
                    return progress;
                }
                self.hear(None);
                return progress;
            };
            progress = true;
            let is_stream = matches!(received, Received::Bytes(_));
            self.hear(Some(&received));
            self.feed(now, received);
            // A stream read is a batch already; messages are gathered into one.
            if self.read_closed || is_stream {
                break;
            }
        }
        progress
    }

    fn read(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<Received> {
        self.transport.poll_receive(cx).map(|result| {
            result.unwrap_or_else(|error| {
                tracing::debug!(peer = %self.peer, %error, "connection lost");
                if error.kind() == std::io::ErrorKind::InvalidData {
                    self.note_violation(now, "invalid transport frame");
                }
                Received::Closed
            })
        })
    }

    /// Whether the peer is still there while its join is under way. Of what it sends behind the
    /// request the first is kept, and nothing more is read then: a peer that has left something
    /// behind is let in even if it has gone, because it need not wait for the answer
    /// (MQTT 5.0 section 3.1.4, non-normative comment).
    fn look_behind(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        if self.behind.is_some() || self.gate.has_input() || self.has_buffered() {
            return false;
        }
        match self.read(now, cx) {
            Poll::Pending => false,
            Poll::Ready(received @ (Received::Nothing | Received::Closed)) => {
                self.feed(now, received);
                true
            }
            Poll::Ready(received) => {
                self.behind = Some(Box::new(received));
                true
            }
        }
    }

    /// Shows the gate what came while its join was under way.
    pub(super) fn read_behind(&mut self, now: Now) {
        if self.is_joining() {
            return;
        }
        if let Some(received) = self.behind.take() {
            self.feed(now, *received);
        } else if self.has_buffered() {
            self.feed(now, Received::Bytes(0));
        }
    }

    pub(super) fn has_buffered(&mut self) -> bool {
        let buffer = self.transport.buffer();
        buffer.is_some_and(|buffer| !buffer.is_empty())
    }

    /// Begins to hear out the peer if a newer connection of the client wants it. Askings that come
    /// meanwhile have another turn.
    pub(super) fn note_asking(&mut self) -> bool {
        let Some(seat) = self.seat.as_mut().filter(|_| self.hearing.is_none()) else {
            return false;
        };
        let number = seat.door.outbox.asked();
        if number == seat.asked {
            return false;
        }
        seat.asked = number;
        self.hearing = Some(Box::new(Hearing {
            number,
            left: HEARD_BYTES,
            looks: LOOKS,
            news: None,
        }));
        true
    }

    /// What has come in may not be known to the runtime yet, which looks at its sockets between
    /// tasks: whether it is waited for until it has looked again.
    fn awaits_news(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(hearing) = &mut self.hearing else {
            return false;
        };
        while hearing.looks > 0 {
            let news = hearing
                .news
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            if news.as_mut().poll(cx).is_pending() {
                return true;
            }
            hearing.news = None;
            hearing.looks -= 1;
        }
        false
    }

    /// Counts what was read of a peer that is heard out; `None`: nothing is there at the moment.
    fn hear(&mut self, received: Option<&Received>) {
        let Some(hearing) = &mut self.hearing else {
            return;
        };
        let bytes = match received {
            // The runtime makes a task that was busy for long pause, whatever there is to read.
            None if !coop::has_budget_remaining() => 0,
            None | Some(Received::Closed) => hearing.left,
            Some(Received::Bytes(count)) => HEARD_READ.max(*count),
            Some(Received::Text(bytes) | Received::Binary(bytes)) => HEARD_READ.max(bytes.len()),
            Some(Received::Nothing) => HEARD_READ,
        };
        hearing.left = hearing.left.saturating_sub(bytes);
    }

    /// Reports that the peer was heard out, once all that it said has been done.
    pub(super) fn report_hearing(&mut self) {
        let is_over = self.closing.is_some() || self.read_closed;
        let Some(seat) = &self.seat else {
            self.hearing = None;
            return;
        };
        // Before the welcome the gate only keeps what it is shown.
        let heard = |hearing: &mut Box<Hearing>| is_over || (hearing.left == 0 && seat.welcomed);
        if let Some(hearing) = self.hearing.take_if(heard) {
            seat.door.outbox.heard(hearing.number);
        }
    }

    pub(super) fn feed(&mut self, now: Now, received: Received) {
        self.last_sign = now.instant;
        self.activity.note(now.instant);
        self.ping_sent = false;
        let traffic = &self.options.traffic;
        match received {
            Received::Nothing => {}
            Received::Bytes(count) => {
                Traffic::add(&traffic.bytes_in, count);
                if let Some(buffer) = self.transport.buffer() {
                    self.gate.handle_input(now, Input::Stream(buffer));
                }
            }
            Received::Text(text) => {
                Traffic::add(&traffic.bytes_in, text.len());
                self.gate.handle_input(now, Input::Text(text));
            }
            Received::Binary(bytes) => {
                Traffic::add(&traffic.bytes_in, bytes.len());
                self.gate.handle_input(now, Input::Binary(bytes));
            }
            Received::Closed => {
                self.read_closed = true;
                self.gate.handle_input(now, Input::Closed);
            }
        }
    }
}
