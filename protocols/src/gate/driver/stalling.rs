//! Pauses of a publisher whose receivers fill up.

use super::Driver;
use crate::transport::Transport;
use router_core::model::Now;
use router_core::outbox::Outbox;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::{Duration, Instant};

/// How long a publisher is paused at a time.
const STALL: Duration = Duration::from_millis(5);
/// The time in which pauses are summed up.
const SECOND: Duration = Duration::from_secs(1);
/// ... and the most of it that they take.
const STALL_PER_SECOND: Duration = Duration::from_millis(100);
/// Receivers that are waited for at a time.
const MOST: usize = 64;

/// Receivers to wait for, and what waiting may still cost.
#[derive(Default)]
pub(super) struct Stall {
    pressed: Vec<Arc<Outbox>>,
    until: Option<Instant>,
    /// The wait is for receivers, so it is counted.
    counts: bool,
    second: Option<Instant>,
    spent: Duration,
}

impl<T: Transport + Unpin> Driver<T> {
    /// Whether reading must wait now; registers for the end of the wait.
    pub(super) fn is_stalled(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let congested = self
            .seat
            .as_ref()
            .is_some_and(|seat| seat.door.cell.is_congested());
        if self.stall.is_none() && !congested {
            return false;
        }
        let stall = self.stall.get_or_insert_default();
        let was_stalled = stall.until.is_some();
        let stalled = stall.is_on(now.instant, congested, cx);
        if stalled && !was_stalled {
            self.options.traffic.stalls.fetch_add(1, Ordering::Relaxed);
        }
        stalled
    }
}

impl Stall {
    /// Those are to be waited for.
    pub(super) fn note(stall: &mut Option<Box<Stall>>, pressed: Vec<Arc<Outbox>>) {
        if pressed.is_empty() {
            return;
        }
        let stall = stall.get_or_insert_default();
        if stall.pressed.len() < MOST {
            stall.pressed.extend(pressed);
        }
    }

    /// Whether there may be one more pause in this second.
    pub(super) fn has_budget(stall: &mut Option<Box<Stall>>, now: Instant) -> bool {
        stall.as_mut().is_none_or(|stall| stall.may_pause(now))
    }

    /// When the pause ends, if there is one.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether nothing is waited for, and what was is long ago.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_past = |start| now.saturating_duration_since(start) >= SECOND;
        self.pressed.is_empty() && self.until.is_none() && self.second.is_none_or(is_past)
    }

    fn is_on(&mut self, now: Instant, congested: bool, cx: &mut Context<'_>) -> bool {
        if let Some(until) = self.until {
            if now < until && (congested || self.someone_waits(cx)) {
                return true;
            }
            self.until = None;
            if self.counts {
                self.spent += STALL.saturating_sub(until.saturating_duration_since(now));
            }
            self.pressed.clear();
        }
        if congested {
            (self.until, self.counts) = (Some(now + STALL), false);
            return true;
        }
        if self.pressed.is_empty() || !self.someone_waits(cx) {
            return false;
        }
        if !self.may_pause(now) {
            self.pressed.clear();
            return false;
        }
        (self.until, self.counts) = (Some(now + STALL), true);
        true
    }

    fn may_pause(&mut self, now: Instant) -> bool {
        if self
            .second
            .is_none_or(|start| now.duration_since(start) >= SECOND)
        {
            (self.second, self.spent) = (Some(now), Duration::ZERO);
        }
        self.spent < STALL_PER_SECOND
    }

    fn someone_waits(&mut self, cx: &mut Context<'_>) -> bool {
        self.pressed
            .retain(|outbox| outbox.wait_for_room(cx.waker()));
        !self.pressed.is_empty()
    }
}
