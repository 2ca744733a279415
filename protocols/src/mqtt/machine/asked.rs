//! What is asked of the realm, told by the request id that comes back with the answer.

use crate::mqtt::packet::PacketId;
use router_core::model::RequestId;

/// What a request to the realm was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A QoS 1 PUBLISH, by its place in the order.
    PubAck(u64),
    /// A QoS 2 PUBLISH, by its place in the order.
    PubRec(u64),
    /// A PUBREL.
    PubComp(PacketId),
    /// One filter of a SUBSCRIBE or UNSUBSCRIBE: the packet's place in the order, the filter's in
    /// the packet.
    Filter(u64, u16),
    /// A call, by its number.
    Call(u64),
}

const KIND_SHIFT: u32 = 61;
const KIND_MASK: u64 = 7 << KIND_SHIFT;

impl Asked {
    pub(super) fn request(self) -> RequestId {
        let (kind, rest) = match self {
            Self::PubAck(serial) => (0, serial),
            Self::PubRec(serial) => (1, serial),
            Self::PubComp(id) => (2, u64::from(id.get())),
            Self::Filter(serial, index) => (3, serial << 16 | u64::from(index)),
            Self::Call(number) => (4, number),
        };
        RequestId(kind << KIND_SHIFT | rest & !KIND_MASK)
    }

    pub(super) fn of(request: RequestId) -> Option<Self> {
        let rest = request.0 & !KIND_MASK;
        Some(match request.0 >> KIND_SHIFT {
            0 => Self::PubAck(rest),
            1 => Self::PubRec(rest),
            2 => Self::PubComp(PacketId::new(u16::try_from(rest).ok()?)?),
            3 => Self::Filter(rest >> 16, u16::try_from(rest & 0xFFFF).ok()?),
            4 => Self::Call(rest),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_they_were_made_for() {
        let id = PacketId::new(65_535).expect("not zero");
        for asked in [
            Asked::PubAck(0),
            Asked::PubAck(1 << 40),
            Asked::PubRec(7),
            Asked::PubComp(id),
            Asked::Filter(1 << 40, 65_535),
            Asked::Filter(0, 0),
            Asked::Call(0),
            Asked::Call(1 << 40),
        ] {
            assert_eq!(Asked::of(asked.request()), Some(asked));
        }
        assert_eq!(
            Asked::of(RequestId(2 << 61)),
            None,
            "no Packet Identifier 0"
        );
    }
}
