//! The end of a connection: the last bytes, the goodbye of the transport, and the time that the peer
//! has to take note.
//!
//! A socket that is closed while its peer still sends makes the peer's system drop what it has not
//! read, the reason of the end too. So only our side is closed at first, and what comes is read and
//! thrown away until the peer closes, or has had its time.

use super::{Driver, READS_PER_TURN, Turn};
use crate::transport::Transport;
use router_core::model::Now;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long a peer that was replaced may take, because another connection waits for it to go.
const LINGER_TAKEN_OVER: Duration = Duration::from_millis(250);

pub(super) struct Closing {
    code: u16,
    reason: &'static str,
    /// Time for the peer to accept the last bytes, and again to close.
    linger: Duration,
    pub(super) until: Instant,
    /// All is said; the peer is waited for.
    lingers: bool,
}

impl<T: Transport + Unpin> Driver<T> {
    pub(super) fn start_closing(&mut self, now: Now, code: u16, reason: &'static str) {
        let is_replaced = self.seat.as_ref().is_some_and(|seat| {
            seat.door
                .outbox
                .is_taken_over(seat.door.connection.generation)
        });
        let mut linger = self.options.linger;
        if is_replaced {
            linger = linger.min(LINGER_TAKEN_OVER);
        }
        if !matches!(code, 1000 | 1001) {
            self.note_violation(now, reason);
        }
        self.closing = Some(Box::new(Closing {
            code,
            reason,
            linger,
            until: now.instant + linger,
            lingers: false,
        }));
        self.give_up_joining();
    }

    /// Everything is written: say goodbye at the transport's level.
    pub(super) fn finish(&mut self, now: Now, cx: &mut Context<'_>) -> Turn {
        // The place is free for a successor before the socket is quite gone.
        self.seat = None;
        let Some(closing) = &mut self.closing else {
            return Turn::Done;
        };
        match self.transport.poll_close(cx, closing.code, closing.reason) {
            Poll::Ready(Ok(())) => {
                closing.lingers = true;
                closing.until = now.instant + closing.linger;
                self.behind = None;
                self.transport.rest();
                self.gate.rest();
                Turn::Progress
            }
            Poll::Ready(Err(_)) => Turn::Done,
            Poll::Pending => self.wait_to_end(now, cx),
        }
    }

    pub(super) fn lingers(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.lingers)
    }

    /// Throws away what still comes, in bounded parts.
    pub(super) fn linger(&mut self, now: Now, cx: &mut Context<'_>) -> Turn {
        for _ in 0..READS_PER_TURN {
            match self.transport.poll_discard(cx) {
                Poll::Pending => return self.wait_to_end(now, cx),
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Turn::Done,
            }
        }
        match self.wait_to_end(now, cx) {
            Turn::Done => Turn::Done,
            Turn::Idle | Turn::Progress => Turn::Progress,
        }
    }

    fn wait_to_end(&mut self, now: Now, cx: &mut Context<'_>) -> Turn {
        match (self.check_time(now, cx), self.aborted) {
            (_, true) => Turn::Done,
            (true, false) => Turn::Progress,
            (false, false) => Turn::Idle,
        }
    }
}
