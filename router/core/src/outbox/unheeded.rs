//! Whether a receiver that is connected is stuck, or only behind.

use crate::limits::OutboxLimits;
use std::time::{Duration, Instant};

/// What came to be settled since the receiver last settled something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unheeded {
    frames: usize,
    bytes: usize,
    since: Option<Instant>,
    /// A whole queue went by, and [`OutboxLimits::patience`] passed, without a sign.
    pub is_stuck: bool,
}

impl Unheeded {
    /// One more came, at `at` if that is known; if not, no time passes.
    pub fn note(&mut self, cost: usize, at: Option<Instant>, limits: &OutboxLimits) {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(cost);
        self.since = self.since.or(at);
        let waited = match (self.since, at) {
            (Some(since), Some(at)) => at.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let is_over = limits.sure.is_over(self.frames, self.bytes);
        self.is_stuck = is_over && waited >= limits.patience;
    }
}
