//! When a publisher may send: as fast as its messages arrive, or at a fixed rate.
//!
//! At a fixed rate every message has a time at which it is to be sent, and its latency counts from
//! then, also if it could only be sent later because the peer kept us waiting: otherwise a peer that
//! stands still for a second would have one slow message instead of a second of them ("coordinated
//! omission").
//!
//! Times are microseconds of the run.

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// At most so many messages under way; refilled when half of them have arrived, so that they
    /// travel in batches, as those of a busy publisher do.
    Window(u64),
    /// The n-th message at `start + n * interval`.
    Rate {
        /// When the first message is to be sent.
        start: u64,
        /// From one message to the next, in microseconds.
        interval: f64,
    },
}

impl Pace {
    /// The pace of publisher `index` of `count` that send `rate` messages a second together, each in
    /// its turn.
    pub(super) fn shared_rate(rate: f64, index: usize, count: usize, start: u64) -> Pace {
        let between = 1e6 / rate;
        Pace::Rate {
            start: start + (between * index as f64) as u64,
            interval: between * count as f64,
        }
    }

    /// How many messages may be sent now, where `sent` were and `under_way` have not arrived.
    pub(super) fn allows(&self, now: u64, sent: u64, under_way: u64) -> u64 {
        match *self {
            Pace::Window(window) if under_way <= window / 2 => window - under_way,
            Pace::Window(_) => 0,
            Pace::Rate { .. } => self.due(now).saturating_sub(sent),
        }
    }

    /// How many messages are to be sent by now.
    pub(super) fn due(&self, now: u64) -> u64 {
        match *self {
            Pace::Rate { start, interval } if now >= start => {
                ((now - start) as f64 / interval) as u64 + 1
            }
            Pace::Rate { .. } | Pace::Window(_) => 0,
        }
    }

    /// The time from which the latency of message `n` counts.
    pub(super) fn intended(&self, n: u64, now: u64) -> u64 {
        match *self {
            Pace::Window(_) => now,
            // Rounding may put it a little behind the moment at which it was found to be due.
            Pace::Rate { start, interval } => now.min(start + (n as f64 * interval) as u64),
        }
    }

    /// When the next message is to be sent; `None`: when others have arrived.
    pub(super) fn next(&self, sent: u64) -> Option<u64> {
        match *self {
            Pace::Window(_) => None,
            Pace::Rate { start, interval } => Some(start + (sent as f64 * interval).ceil() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_is_refilled_when_half_of_it_has_arrived() {
        let pace = Pace::Window(64);
        assert_eq!(pace.allows(0, 0, 0), 64);
        assert_eq!(pace.allows(0, 64, 33), 0);
        assert_eq!(pace.allows(0, 64, 32), 32);
        assert_eq!(Pace::Window(1).allows(0, 1, 1), 0);
        assert_eq!(Pace::Window(1).allows(0, 1, 0), 1);
    }

    #[test]
    fn publishers_take_turns_at_a_shared_rate() {
        let paces: Vec<Pace> = (0..4)
            .map(|index| Pace::shared_rate(1000.0, index, 4, 100))
            .collect();
        let times: Vec<u64> = paces.iter().filter_map(|pace| pace.next(0)).collect();
        assert_eq!(times, [100, 1100, 2100, 3100]);
        assert_eq!(paces[1].next(1), Some(5100));
    }

    #[test]
    fn a_publisher_that_was_held_up_sends_all_it_owes_and_counts_from_when_it_was_due() {
        let pace = Pace::shared_rate(1000.0, 0, 1, 0);
        assert_eq!(pace.allows(0, 0, 0), 1);
        // A second without a chance to send.
        assert_eq!(pace.allows(1_000_000, 1, 1), 1000);
        assert_eq!(pace.intended(1, 1_000_000), 1000);
        assert_eq!(pace.intended(999, 1_000_000), 999_000);
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let pace = Pace::shared_rate(10.0, 0, 1, 500);
        assert_eq!((pace.allows(499, 0, 0), pace.allows(500, 0, 0)), (0, 1));
    }

    proptest! {
        #[test]
        fn a_message_is_due_from_the_time_on_that_next_tells(
            rate in 0.5..2e6f64, index in 0..8usize, sent in 0..1u64 << 30
        ) {
            let pace = Pace::shared_rate(rate, index, 8, 1_000);
            let next = pace.next(sent).expect("a rate");
            // The sums of floats may be off by their last digits, never by a message.
            prop_assert!(pace.allows(next + 1, sent, 0) >= 1);
            prop_assert!(pace.intended(sent, next + 1) <= next);
            prop_assert!(pace.intended(sent, next + 1) + 1 >= next.min(next + 1));
        }
    }
}
