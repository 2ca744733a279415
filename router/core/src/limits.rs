//! Every limit with its unit, its default and what happens when it is hit.

use std::time::Duration;

/// A bound on a lane of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimit {
    /// Messages.
    pub frames: usize,
    /// Bytes, counted as payload, topic and a fixed overhead each.
    pub bytes: usize,
}

impl LaneLimit {
    pub(crate) fn is_over(self, frames: usize, bytes: usize) -> bool {
        // A single message larger than the whole bound still passes through an empty lane.
        frames > self.frames || (bytes > self.bytes && frames > 1)
    }

    /// In each part the larger one.
    pub(crate) fn max_of(self, other: LaneLimit) -> LaneLimit {
        LaneLimit {
            frames: self.frames.max(other.frames),
            bytes: self.bytes.max(other.bytes),
        }
    }

    pub(crate) fn is_pressed(self, frames: usize, bytes: usize) -> bool {
        frames > self.frames / 4 * 3 || (bytes > self.bytes / 4 * 3 && frames > 1)
    }

    /// Messages a replay may add: as far as half of the bound, one at least if nothing waits.
    pub(crate) fn room(self, frames: usize, bytes: usize) -> usize {
        if frames > 0 && bytes >= self.bytes / 2 {
            return 0;
        }
        (self.frames / 2).max(1).saturating_sub(frames)
    }

    pub(crate) fn is_roomy(self, frames: usize, bytes: usize) -> bool {
        frames <= self.frames / 2 && bytes <= self.bytes / 2
    }
}

/// The bounds of one session's outbox. From three quarters on, publishers are paused for short
/// moments; what happens when a lane is full is written at each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Answers, and all events of sessions that must see everything in order.
    /// Full: the session ends as too slow.
    pub ordered: LaneLimit,
    /// At-most-once events of the other sessions. Full: the oldest is dropped and counted.
    pub best: LaneLimit,
    /// Events to be settled that wait, with a connection or without. What was handed out and is not
    /// settled does not count, nor as many more as the window of an open connection lets through. A
    /// receiver that settles may hold as much as `ordered` allows, until so many have come for
    /// `patience` without its settling any.
    pub sure: LaneLimit,
    /// How long a connected receiver may settle nothing before it is taken for stuck.
    pub patience: Duration,
    /// What happens when `sure` is full.
    pub when_full: WhenFull,
    /// Deliveries of a durable session without connection that stay in memory; the rest waits on
    /// disk alone, if there is one.
    pub resident: usize,
}

/// What becomes of a delivery to be settled whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest that waits is dropped and counted, and the next delivery tells of the gap.
    #[default]
    DropOldest,
    /// The publish is refused as a whole, before anybody receives it.
    RefusePublisher,
    /// The receiver's session ends, with all it holds.
    Disconnect,
}

impl Default for OutboxLimits {
    fn default() -> OutboxLimits {
        OutboxLimits {
            ordered: LaneLimit {
                frames: 16_384,
                bytes: 16 << 20,
            },
            best: LaneLimit {
                frames: 16_384,
                bytes: 8 << 20,
            },
            sure: LaneLimit {
                frames: 1_000,
                bytes: 8 << 20,
            },
            patience: Duration::ZERO,
            when_full: WhenFull::DropOldest,
            resident: 100,
        }
    }
}

/// The bounds of one realm. Hitting one refuses the command with
/// [`ErrorKind::QuotaExceeded`](crate::model::ErrorKind::QuotaExceeded) and counts it, unless
/// another policy is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealmLimits {
    /// Subscriptions one session may hold.
    pub subscriptions_per_session: usize,
    /// Registrations one session may hold.
    pub registrations_per_session: usize,
    /// Calls one session may have open.
    pub calls_per_session: usize,
    /// Calls that may wait for a free callee of one procedure.
    pub calls_queued_per_procedure: usize,
    /// Parts of the arguments of one call that are kept while it waits for a callee. What runs
    /// already is passed on; beyond the bound it can no longer be given to another callee.
    pub parts_per_call: usize,
    /// Their bytes.
    pub part_bytes_per_call: usize,
    /// Conditional writes and requests for holds that may wait for one key.
    pub waiters_per_key: usize,
    /// Conditional writes and requests for holds that one session may have waiting.
    pub waiters_per_session: usize,
    /// Holders that one key may have at a time. Full: further ones wait until one releases it.
    pub holders_per_key: usize,
    /// Holds that one session may have.
    pub holds_per_session: usize,
    /// Incoming exactly-once ids that one session may leave unreleased.
    pub receipts_per_session: usize,
    /// Messages that one session may leave to be published at its end.
    pub testaments_per_session: usize,
    /// Their bytes.
    pub testament_bytes_per_session: usize,
    /// Bytes of what others may add to the details of a session.
    pub details_bytes_per_session: usize,
    /// Retained values in the realm.
    pub retained_values: usize,
    /// Deleted keys whose last token is remembered; beyond it the oldest is forgotten.
    pub tombstones: usize,
    /// Traced events remembered; beyond it the oldest is forgotten.
    pub history_events: usize,
    /// Their bytes.
    pub history_bytes: usize,
    /// Bytes of remembered events of one log whose bodies stay in memory; the rest is on disk alone, if there is one.
    /// While the store is down no more than this waits for it: further events are not remembered, and counted.
    pub history_resident_bytes: usize,
    /// How long a replay waits for the store to reach the position asked for.
    pub after_wait: Duration,
    /// The longest a durable session may outlive its connection.
    pub expiry_max: Duration,
    /// Durable sessions without a connection.
    pub detached_sessions: usize,
    /// Per session.
    pub outbox: OutboxLimits,
}

impl Default for RealmLimits {
    fn default() -> RealmLimits {
        RealmLimits {
            subscriptions_per_session: 10_000,
            registrations_per_session: 10_000,
            calls_per_session: 10_000,
            calls_queued_per_procedure: 10_000,
            parts_per_call: 256,
            part_bytes_per_call: 1 << 20,
            waiters_per_key: 10_000,
            waiters_per_session: 1_000,
            holders_per_key: 10_000,
            holds_per_session: 10_000,
            receipts_per_session: 65_535,
            testaments_per_session: 100,
            testament_bytes_per_session: 1 << 20,
            details_bytes_per_session: 4_096,
            retained_values: 5_000_000,
            tombstones: 10_000,
            history_events: 10_000,
            history_bytes: 64 << 20,
            history_resident_bytes: 8 << 20,
            after_wait: Duration::from_secs(30),
            expiry_max: Duration::from_secs(604_800),
            detached_sessions: 1_000_000,
            outbox: OutboxLimits::default(),
        }
    }
}
