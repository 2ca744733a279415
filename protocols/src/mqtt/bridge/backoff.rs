//! How long to wait before the next attempt to reach the peer: exponential with jitter.
//!
//! Sans-IO: time is an argument, randomness a seed. Invariants: a delay lies between half of the
//! current step and the whole of it; the step doubles from the least to the greatest delay; it
//! starts anew only after a connection that lasted, so that a peer which accepts and closes at
//! once is not run down.

use std::time::{Duration, Instant};

/// A connection that lasted this long was a good one.
const LASTED: Duration = Duration::from_secs(10);

/// The delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    step: Duration,
    random: u64,
}

impl Backoff {
    /// Delays between `least` and `most`; `seed` decides the jitter.
    #[must_use]
    pub fn new(least: Duration, most: Duration, seed: u64) -> Self {
        let most = most.max(least);
        Self {
            least,
            most,
            step: least,
            random: seed,
        }
    }

    /// When to try again after an attempt that ended `now`. `connected_at` is when the peer let us
    /// in, if it did.
    pub fn after(&mut self, now: Instant, connected_at: Option<Instant>) -> Instant {
        if connected_at.is_some_and(|at| now.saturating_duration_since(at) >= LASTED) {
            self.step = self.least;
        }
        let delay = self.jittered();
        self.step = self.step.saturating_mul(2).min(self.most);
        now.checked_add(delay).unwrap_or(now)
    }

    /// Between half of the step and the whole of it.
    fn jittered(&mut self) -> Duration {
        let half = self.step / 2;
        let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(self.next() % millis.saturating_add(1))
    }

    /// `SplitMix64`: one addition and two mixing steps for each number.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn delays(backoff: &mut Backoff, count: usize) -> Vec<Duration> {
        let now = Instant::now();
        (0..count)
            .map(|_| backoff.after(now, None).duration_since(now))
            .collect()
    }

    #[test]
    fn steps_double_up_to_the_most_and_jitter_stays_in_the_upper_half() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND, 7);
        let steps = [1, 2, 4, 8, 16, 32, 60, 60, 60];
        for (delay, step) in delays(&mut backoff, steps.len()).into_iter().zip(steps) {
            let step = step * SECOND;
            assert!(delay >= step / 2 && delay <= step, "{delay:?} of {step:?}");
        }
    }

    #[test]
    fn seeds_spread_the_attempts_of_many_routers() {
        let first = |seed| delays(&mut Backoff::new(60 * SECOND, 60 * SECOND, seed), 1)[0];
        let different: std::collections::HashSet<_> = (0..20).map(first).collect();
        assert!(different.len() > 15, "{different:?}");
    }

    #[test]
    fn only_a_connection_that_lasted_starts_anew() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND, 1);
        delays(&mut backoff, 6);
        let now = Instant::now();
        let later = now + Duration::from_millis(9_999);
        assert!(backoff.after(later, Some(now)) >= later + 30 * SECOND);
        let later = now + 10 * SECOND;
        assert!(backoff.after(later, Some(now)) <= later + SECOND);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO, 0);
        assert_eq!(delays(&mut backoff, 3), [Duration::ZERO; 3]);
        let mut backoff = Backoff::new(Duration::MAX, SECOND, 0);
        delays(&mut backoff, 3);
    }
}
