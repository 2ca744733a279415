//! When a lease is renewed, when it counts as lost, and how a command without a lock is stopped.
//! No I/O; time is an argument.
//!
//! ```text
//!   |------ ttl, from when the last confirmed renewal was sent ------|
//!   0            1/3                    2/3                        3/3
//!   confirmed    renewal is sent        given up: SIGTERM          others may have the lock
//! ```
//!
//! A lease begins when its renewal is sent, so that ours never ends after the router's. It is given
//! up a third before its end: that is the time in which the command can stop.

use std::time::Duration;
use tokio::time::Instant;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Renew the lease.
    Renew,
    /// Ask the command to stop.
    Terminate,
    /// End the command.
    Kill,
}

/// Attempts to renew in the last stretch of a lease, when one was refused.
const RETRIES: u32 = 4;

#[derive(Debug)]
enum Phase {
    /// We hold the lock.
    Held,
    /// The lock is lost, and the command was asked to stop.
    Stopping { kill_at: Instant },
    /// The command was killed.
    Killed,
}

/// The guard of one command.
#[derive(Debug)]
pub(super) struct Guard {
    ttl: Duration,
    kill_after: Duration,
    phase: Phase,
    /// When the last renewal that was confirmed was sent.
    confirmed: Instant,
    /// When the next renewal is due; `None` while one has no answer.
    renew_at: Option<Instant>,
    lost: Option<String>,
}

impl Guard {
    /// A lock whose renewal, sent at `confirmed`, has just been granted.
    pub(super) fn new(confirmed: Instant, ttl: Duration, kill_after: Duration) -> Guard {
        let mut guard = Guard {
            ttl,
            kill_after,
            phase: Phase::Held,
            confirmed,
            renew_at: None,
            lost: None,
        };
        guard.renewed(confirmed);
        guard
    }

    /// Whether the lease is as good as over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.give_up_at()
    }

    /// When [`Guard::poll`] has something to do, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held => {
                let give_up = self.give_up_at();
                Some(self.renew_at.map_or(give_up, |renew| renew.min(give_up)))
            }
            Phase::Stopping { kill_at } => Some(kill_at),
            Phase::Killed => None,
        }
    }

    /// What is to be done at `now`; to be asked again until there is nothing.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Action> {
        match self.phase {
            Phase::Held if self.is_over(now) => {
                self.lost(now, "the lease could not be renewed in time")
            }
            Phase::Held if self.renew_at.is_some_and(|at| now >= at) => {
                self.renew_at = None;
                Some(Action::Renew)
            }
            Phase::Stopping { kill_at } if now >= kill_at => {
                self.phase = Phase::Killed;
                Some(Action::Kill)
            }
            _ => None,
        }
    }

    /// The renewal that was sent at `sent` is confirmed.
    pub(super) fn renewed(&mut self, sent: Instant) {
        self.confirmed = sent;
        self.renew_at = Some(sent + self.ttl / 3);
    }

    /// A renewal failed for now, such as in a router that cannot write.
    pub(super) fn renew_failed(&mut self, now: Instant) {
        self.renew_at = Some(now + self.ttl / 3 / RETRIES);
    }

    /// The lock is lost; only the first reason counts.
    pub(super) fn lost(&mut self, now: Instant, reason: &str) -> Option<Action> {
        if self.lost.is_some() {
            return None;
        }
        self.lost = Some(reason.to_owned());
        self.phase = Phase::Stopping {
            kill_at: now + self.kill_after,
        };
        Some(Action::Terminate)
    }

    /// Why the lock was lost, if it was.
    pub(super) fn loss(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn give_up_at(&self) -> Instant {
        self.confirmed + self.ttl / 3 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(12);
    const KILL_AFTER: Duration = Duration::from_secs(5);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn guard() -> (Instant, Guard) {
        let start = Instant::now();
        (start, Guard::new(start, TTL, KILL_AFTER))
    }

    #[test]
    fn a_lease_is_renewed_at_a_third_of_its_time() {
        let (start, mut guard) = guard();
        assert_eq!(guard.due(), Some(start + secs(4)));
        assert_eq!(guard.poll(start + secs(3)), None);
        assert_eq!(guard.poll(start + secs(4)), Some(Action::Renew));
        assert_eq!(guard.poll(start + secs(4)), None, "two renewals at a time");
        guard.renewed(start + secs(4));
        assert_eq!(guard.due(), Some(start + secs(8)));
        assert_eq!(guard.poll(start + secs(8)), Some(Action::Renew));
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_its_renewal() {
        let (start, mut guard) = guard();
        assert_eq!(guard.poll(start + secs(4)), Some(Action::Renew));
        // The answer came at second 7.
        guard.renewed(start + secs(4));
        assert_eq!(guard.poll(start + secs(11)), Some(Action::Renew));
        assert_eq!(guard.poll(start + secs(12)), Some(Action::Terminate));
    }

    #[test]
    fn a_lease_without_an_answer_is_given_up_a_third_before_its_end() {
        let (start, mut guard) = guard();
        assert_eq!(guard.poll(start + secs(4)), Some(Action::Renew));
        assert_eq!(guard.due(), Some(start + secs(8)));
        assert_eq!(guard.poll(start + secs(8)), Some(Action::Terminate));
        assert!(guard.loss().is_some());
    }

    #[test]
    fn a_program_that_slept_through_its_lease_stops_its_command() {
        let (start, mut guard) = guard();
        assert_eq!(guard.poll(start + secs(3600)), Some(Action::Terminate));
    }

    #[test]
    fn a_refused_renewal_is_tried_again_until_the_lease_is_given_up() {
        let (start, mut guard) = guard();
        let mut attempts = 0;
        for tick in 0.. {
            let now = start + secs(tick);
            match guard.poll(now) {
                Some(Action::Renew) => {
                    attempts += 1;
                    guard.renew_failed(now);
                }
                Some(Action::Terminate) => {
                    assert_eq!((tick, attempts), (8, 4));
                    return;
                }
                other => assert_eq!(other, None),
            }
        }
    }

    #[test]
    fn a_command_that_does_not_stop_is_killed() {
        let (start, mut guard) = guard();
        let lost = start + secs(1);
        assert_eq!(guard.lost(lost, "broken"), Some(Action::Terminate));
        assert_eq!(guard.due(), Some(lost + secs(5)));
        assert_eq!(guard.poll(lost + secs(4)), None);
        assert_eq!(guard.poll(lost + secs(5)), Some(Action::Kill));
        assert_eq!((guard.due(), guard.poll(lost + secs(9))), (None, None));
    }

    #[test]
    fn only_the_first_loss_counts() {
        let (start, mut guard) = guard();
        assert_eq!(guard.lost(start, "broken"), Some(Action::Terminate));
        assert_eq!(guard.lost(start + secs(1), "the connection is lost"), None);
        assert_eq!(guard.loss(), Some("broken"));
        assert_eq!(guard.due(), Some(start + secs(5)), "more time to stop");
    }
}
