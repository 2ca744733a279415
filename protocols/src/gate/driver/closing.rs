//! The end of a connection: the last bytes, the goodbye of the transport, the place that is free.

use super::{Driver, Turn};
use crate::transport::Transport;
use router_core::model::Now;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long a peer may take to accept the last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// ... when another connection waits for this one to go.
const LINGER_TAKEN_OVER: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
pub(super) struct Closing {
    code: u16,
    reason: &'static str,
    pub(super) until: Instant,
}

impl<T: Transport + Unpin> Driver<T> {
    pub(super) fn start_closing(&mut self, now: Now, code: u16, reason: &'static str) {
        let is_replaced = self.seat.as_ref().is_some_and(|seat| {
            seat.door
                .outbox
                .is_taken_over(seat.door.connection.generation)
        });
        let linger = if is_replaced {
            LINGER_TAKEN_OVER
        } else {
            LINGER
        };
        if !matches!(code, 1000 | 1001) {
            self.note_violation(now, reason);
        }
        self.closing = Some(Closing {
            code,
            reason,
            until: now.instant + linger,
        });
        self.give_up_joining();
    }

    /// Everything is written: say goodbye at the transport's level and go.
    pub(super) fn finish(&mut self, now: Now, cx: &mut Context<'_>) -> Turn {
        // The place is free for a successor before the socket is quite gone.
        self.seat = None;
        let Some(closing) = self.closing else {
            return Turn::Done;
        };
        match self.transport.poll_close(cx, closing.code, closing.reason) {
            Poll::Ready(_) => Turn::Done,
            Poll::Pending if self.check_time(now, cx) && self.aborted => Turn::Done,
            Poll::Pending => Turn::Idle,
        }
    }
}
