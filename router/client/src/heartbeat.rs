//! When a silent peer is asked for a sign of life, and when it is given up. Time is an argument.
//!
//! ```text
//!            ping_after of silence             answer_within
//!   Silent ------------------------> Asked ------------------> given up
//!     ^                                |
//!     +--- anything that is heard -----+
//! ```
//!
//! The time to answer counts from the ping, not from the last word: a program that was itself held
//! up asks first.

use std::time::Duration;
use tokio::time::Instant;

/// How soon a dead connection is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// So much silence, then a ping.
    pub ping_after: Duration,
    /// So much more, then the connection is lost.
    pub answer_within: Duration,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            ping_after: Duration::from_secs(5),
            answer_within: Duration::from_secs(15),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Wait,
    /// Send a ping.
    Ping,
    /// Give the peer up.
    Dead,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Heartbeat {
    pulse: Pulse,
    /// Since when nothing was heard, or since when a ping has no answer.
    since: Instant,
    is_asked: bool,
}

impl Heartbeat {
    /// A peer that was heard just now.
    pub const fn new(pulse: Pulse, now: Instant) -> Heartbeat {
        Heartbeat {
            pulse,
            since: now,
            is_asked: false,
        }
    }

    /// The peer gave a sign of life.
    pub const fn heard(&mut self, now: Instant) {
        self.since = now;
        self.is_asked = false;
    }

    /// When to look again. Far ahead where the pulse is endless.
    pub fn due(&self) -> Instant {
        let patience = self.patience();
        let century = Duration::from_secs(100 * 365 * 86_400);
        self.since + patience.min(century)
    }

    /// What is to be done at `now`.
    pub fn beat(&mut self, now: Instant) -> Beat {
        if now.saturating_duration_since(self.since) < self.patience() {
            return Beat::Wait;
        }
        if self.is_asked {
            return Beat::Dead;
        }
        self.since = now;
        self.is_asked = true;
        Beat::Ping
    }

    const fn patience(&self) -> Duration {
        if self.is_asked {
            self.pulse.answer_within
        } else {
            self.pulse.ping_after
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULSE: Pulse = Pulse {
        ping_after: Duration::from_secs(5),
        answer_within: Duration::from_secs(15),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_silent_peer_is_asked_once_and_then_given_up() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PULSE, start);
        assert_eq!(heart.due(), start + secs(5));
        assert_eq!(heart.beat(start + secs(4)), Beat::Wait);
        assert_eq!(heart.beat(start + secs(5)), Beat::Ping);
        assert_eq!(heart.due(), start + secs(20));
        assert_eq!(heart.beat(start + secs(19)), Beat::Wait);
        assert_eq!(heart.beat(start + secs(20)), Beat::Dead);
    }

    #[test]
    fn any_word_begins_the_count_again() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PULSE, start);
        assert_eq!(heart.beat(start + secs(5)), Beat::Ping);
        heart.heard(start + secs(19));
        assert_eq!(heart.beat(start + secs(20)), Beat::Wait);
        assert_eq!(heart.due(), start + secs(24));
    }

    #[test]
    fn whoever_was_held_up_itself_asks_before_it_gives_up() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PULSE, start);
        let late = start + secs(3600);
        assert_eq!(heart.beat(late), Beat::Ping);
        assert_eq!(heart.beat(late + secs(14)), Beat::Wait);
        assert_eq!(heart.beat(late + secs(15)), Beat::Dead);
    }

    #[test]
    fn an_endless_pulse_overflows_nothing() {
        let pulse = Pulse {
            ping_after: Duration::MAX,
            answer_within: Duration::MAX,
        };
        let start = Instant::now();
        let mut heart = Heartbeat::new(pulse, start);
        assert!(heart.due() > start + secs(86_400));
        assert_eq!(heart.beat(heart.due()), Beat::Wait);
    }
}
