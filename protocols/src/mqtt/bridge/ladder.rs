//! Which MQTT is spoken to the peer, learned by trying.
//!
//! From the top: 5.0, then 3.1.1 with the bridge bit (Protocol Level 0x84: the server does not
//! send a bridge its own messages back and leaves RETAIN as published), then plain 3.1.1. A peer
//! that refuses the version, or closes instead of CONNACK, is asked in the next dialect; one that
//! let us in before is believed to have meant something else by closing.

use crate::mqtt::packet::ProtocolVersion;

/// What the configuration allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// 5.0, and 3.1.1 where that is refused.
    #[default]
    Any,
    /// 5.0 only.
    V5,
    /// 3.1.1 only, with the bridge bit where it is understood.
    V3_1_1,
}

/// One way to speak to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1 with the bridge bit in the Protocol Level.
    Bridge3_1_1,
    /// MQTT 3.1.1.
    V3_1_1,
}

impl Dialect {
    /// The version on the wire.
    #[must_use]
    pub const fn version(self) -> ProtocolVersion {
        match self {
            Self::V5 => ProtocolVersion::V5,
            Self::Bridge3_1_1 | Self::V3_1_1 => ProtocolVersion::V3_1_1,
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V5 => "5.0",
            Self::Bridge3_1_1 => "3.1.1 (bridge)",
            Self::V3_1_1 => "3.1.1",
        }
    }
}

/// The dialect of the next attempt.
#[derive(Debug, Clone)]
pub struct Ladder {
    rungs: &'static [Dialect],
    at: usize,
    /// The peer let us in with the current dialect.
    is_proven: bool,
}

impl Ladder {
    /// Starts at the best dialect that `versions` allows.
    #[must_use]
    pub const fn new(versions: Versions) -> Self {
        let rungs: &'static [Dialect] = match versions {
            Versions::Any => &[Dialect::V5, Dialect::Bridge3_1_1, Dialect::V3_1_1],
            Versions::V5 => &[Dialect::V5],
            Versions::V3_1_1 => &[Dialect::Bridge3_1_1, Dialect::V3_1_1],
        };
        Self {
            rungs,
            at: 0,
            is_proven: false,
        }
    }

    /// The dialect to speak now.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.rungs.get(self.at).copied().unwrap_or(Dialect::V5)
    }

    /// The peer let us in.
    pub const fn accepted(&mut self) {
        self.is_proven = true;
    }

    /// The peer does not speak this version. Answers whether there is another dialect to try at
    /// once.
    pub const fn refused(&mut self) -> bool {
        self.is_proven = false;
        self.at = (self.at + 1) % self.rungs.len();
        self.at != 0
    }

    /// The peer closed instead of CONNACK, which some servers do when they do not know a version.
    /// Answers whether there is another dialect to try at once.
    pub const fn closed_early(&mut self) -> bool {
        if self.is_proven {
            return false;
        }
        self.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_goes_down_and_after_the_last_rung_to_the_top() {
        let mut ladder = Ladder::new(Versions::Any);
        assert_eq!(ladder.dialect(), Dialect::V5);
        assert!(ladder.refused());
        assert_eq!(ladder.dialect(), Dialect::Bridge3_1_1);
        assert!(ladder.closed_early());
        assert_eq!(ladder.dialect(), Dialect::V3_1_1);
        assert!(!ladder.refused(), "wait before the next round");
        assert_eq!(ladder.dialect(), Dialect::V5);
    }

    #[test]
    fn a_proven_dialect_is_left_for_a_refusal_only() {
        let mut ladder = Ladder::new(Versions::V3_1_1);
        assert!(ladder.closed_early());
        ladder.accepted();
        assert!(!ladder.closed_early());
        assert_eq!(ladder.dialect(), Dialect::V3_1_1);
        assert!(!ladder.refused());
        assert_eq!(ladder.dialect(), Dialect::Bridge3_1_1);
        assert!(ladder.closed_early(), "not proven any more");
    }

    #[test]
    fn one_version_only_stays() {
        let mut ladder = Ladder::new(Versions::V5);
        assert!(!ladder.refused() && !ladder.closed_early());
        assert_eq!(ladder.dialect(), Dialect::V5);
    }
}
