//! What is asked of the realm, told by the request id that comes back with the answer.

use crate::mqtt::packet::PacketId;
use router_core::model::RequestId;

/// What a request to the realm was made for. A message with several names makes several requests
/// with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A QoS 1 PUBLISH of the peer, by its place in the order.
    PubAck(u64),
    /// A QoS 2 PUBLISH of the peer, by its place in the order.
    PubRec(u64),
    /// A PUBREL of the peer.
    PubComp(PacketId),
    /// The subscription to a local filter, by its place.
    Filter(usize),
    /// A receipt of a session that the peer has forgotten.
    Clear,
}

const KIND_SHIFT: u32 = 61;
const KIND_MASK: u64 = 7 << KIND_SHIFT;

impl Asked {
    pub(super) fn request(self) -> RequestId {
        let (kind, rest) = match self {
            Self::PubAck(serial) => (0, serial),
            Self::PubRec(serial) => (1, serial),
            Self::PubComp(id) => (2, u64::from(id.get())),
            Self::Filter(place) => (3, place as u64),
            Self::Clear => (4, 0),
        };
        RequestId(kind << KIND_SHIFT | rest & !KIND_MASK)
    }

    pub(super) fn of(request: RequestId) -> Option<Self> {
        let rest = request.0 & !KIND_MASK;
        Some(match request.0 >> KIND_SHIFT {
            0 => Self::PubAck(rest),
            1 => Self::PubRec(rest),
            2 => Self::PubComp(PacketId::new(u16::try_from(rest).ok()?)?),
            3 => Self::Filter(usize::try_from(rest).ok()?),
            4 => Self::Clear,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_they_were_made_for() {
        for asked in [
            Asked::PubAck(1 << 40),
            Asked::PubRec(0),
            Asked::PubComp(PacketId::MAX),
            Asked::Filter(63),
            Asked::Clear,
        ] {
            assert_eq!(Asked::of(asked.request()), Some(asked));
        }
        assert_eq!(
            Asked::of(RequestId(2 << KIND_SHIFT)),
            None,
            "no identifier 0"
        );
        assert_eq!(Asked::of(RequestId(7 << KIND_SHIFT)), None);
    }
}
