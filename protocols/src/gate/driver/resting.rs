//! When a connection gives back its buffers: after a silence, or at once where something came after a silence.
//!
//! What happens now and then, such as a login or a message every minute, needs its buffers for a moment only, and a
//! router has very many such connections. One on which things happen all the time keeps them.

use super::Driver;
use crate::transport::Transport;
use router_core::model::Now;
use std::time::{Duration, Instant};

/// Silence after which buffers are given back.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What was going on lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Nothing; the buffers were given back.
    Resting,
    /// Something, after a silence.
    Starting,
    /// More than that.
    Busy,
}

/// When something was last read or handed to the transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    last: Instant,
    pace: Pace,
}

impl Activity {
    pub(super) const fn new(started: Instant) -> Activity {
        Activity {
            last: started,
            pace: Pace::Starting,
        }
    }

    /// Something happens.
    pub(super) fn note(&mut self, now: Instant) {
        if self.pace == Pace::Resting {
            self.pace = match now.saturating_duration_since(self.last) >= REST_AFTER {
                true => Pace::Starting,
                false => Pace::Busy,
            };
        }
        self.last = now;
    }

    /// When the buffers are given back; `None`: they were.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        (self.pace != Pace::Resting).then(|| self.last + REST_AFTER)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.rests_at().is_some_and(|at| at <= now)
    }
}

impl<T: Transport + Unpin> Driver<T> {
    /// Gives back the buffers, unless something goes on in this turn.
    pub(super) fn rest_if_idle(&mut self, now: Now, goes_on: bool) {
        // Before the welcome the peer has yet to say what it came for, or waits for an answer.
        let is_welcomed = self.seat.as_ref().is_some_and(|seat| seat.welcomed);
        let was_brief = self.activity.pace == Pace::Starting && is_welcomed && !goes_on;
        if self.closing.is_some()
            || self.transport.queued() > 0
            || !(was_brief || self.activity.is_over(now.instant))
        {
            return;
        }
        self.activity.pace = Pace::Resting;
        self.stall.take_if(|stall| stall.is_over(now.instant));
        self.transport.rest();
        self.gate.rest();
        if let Some(seat) = &self.seat {
            seat.door.outbox.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every connection there is; what is seldom there is in a box.
    #[test]
    fn a_connection_has_little_room_for_what_most_never_need() {
        assert!(
            size_of::<Driver<()>>() <= 320,
            "{}",
            size_of::<Driver<()>>()
        );
    }

    #[test]
    fn what_comes_after_a_silence_is_a_start_and_what_comes_sooner_is_more() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut activity = Activity::new(start);
        activity.note(at(5_000));
        assert_eq!(activity.pace, Pace::Starting, "it has not rested yet");
        assert_eq!(activity.rests_at(), Some(at(6_000)));
        activity.pace = Pace::Resting;
        assert_eq!(activity.rests_at(), None);
        activity.note(at(5_999));
        assert_eq!(activity.pace, Pace::Busy);
        activity.note(at(9_000));
        assert_eq!(activity.pace, Pace::Busy, "until it rests");
        assert!(!activity.is_over(at(9_999)) && activity.is_over(at(10_000)));
        activity.pace = Pace::Resting;
        activity.note(at(10_000));
        assert_eq!(activity.pace, Pace::Starting);
    }
}
