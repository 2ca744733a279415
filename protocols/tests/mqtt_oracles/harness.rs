//! One packet before two codecs: what an oracle must offer, and what counts as a disagreement.
//!
//! A case is judged in both directions. The oracle reads the bytes: it must accept what our
//! decoder accepts, as an equal packet, and refuse what ours refuses. If we accepted, the oracle
//! then writes the packet in its own way, and our decoder must read an equal packet from that.
//! What differs is either named by an [exclusion](crate::exclusions) or unexplained.
//!
//! An oracle that still waits for the rest of a packet, which ours refuses from its first bytes,
//! has not judged yet: no disagreement. A panic of an oracle is one.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use bytes::BytesMut;
use protocols::mqtt::codec::{DecodeError, Decoder, EncodeError, Limits, encode};
use protocols::mqtt::packet::{Direction, Packet, PacketType, ProtocolVersion};

use crate::exclusions::{Exclusions, Scope, What};

/// Largest packet of all codecs in these tests, in bytes.
pub const MAX_BYTES: usize = 1_048_576;

/// The independent implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `mqttbytes` 0.6.0: 3.1.1, and 5.0 without AUTH.
    Mqttbytes,
    /// `rmqtt-codec` 0.3.1: 3.1, 3.1.1 and 5.0.
    Rmqtt,
    /// `mqtt-protocol-core` 0.7.9: 3.1.1 and 5.0.
    ProtocolCore,
}

/// What an oracle makes of the first packet in some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A packet; `None` if our model cannot express it, such as a Packet Identifier of 0.
    Accepted(Option<Packet>),
    /// Not acceptable, and why.
    Refused(String),
    /// More bytes are needed.
    Incomplete,
}

/// An independent implementation of the codec.
pub trait Oracle {
    /// Which one.
    fn name(&self) -> Name;

    /// Whether it claims to speak this version.
    fn knows(&self, version: ProtocolVersion) -> bool;

    /// Whether it is to be spared this packet.
    fn is_spared(&self, _version: ProtocolVersion, _kind: Option<PacketType>) -> bool {
        false
    }

    /// Reads the first packet of `bytes`.
    fn read(&self, version: ProtocolVersion, bytes: &[u8]) -> Reading;

    /// `packet`, which we read from `bytes`, as the oracle writes it, or why it does not.
    fn write(
        &self,
        version: ProtocolVersion,
        packet: &Packet,
        bytes: &[u8],
    ) -> Result<Vec<u8>, String>;
}

/// The bytes of one packet and the connection they come from.
#[derive(Debug, Clone)]
pub struct Case {
    /// Version of the connection; a CONNECT is judged in the version it asks for.
    pub version: ProtocolVersion,
    /// Who sent the bytes, for packets that both sides may send.
    pub direction: Direction,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody accepts.
    Refused,
    /// Both accept, and exchange equal packets in both directions.
    Exchanged,
    /// They differ where this exclusion says so.
    Excused(&'static str),
    /// They differ, and nothing says why.
    Unexplained(String),
}

impl Case {
    /// A packet as we write it; the error if we do not.
    pub fn of(
        packet: &Packet,
        version: ProtocolVersion,
        direction: Direction,
    ) -> Result<Self, EncodeError> {
        let mut bytes = BytesMut::new();
        encode(packet, version, &mut bytes)?;
        Ok(Self {
            version,
            direction,
            bytes: bytes.to_vec(),
        })
    }

    /// Type of the packet by its first byte, if there is one.
    pub fn kind(&self) -> Option<PacketType> {
        let first = self.bytes.first()?;
        PacketType::from_u8(first >> 4)
    }

    /// The version in which the packet is judged.
    pub fn judged_version(&self) -> ProtocolVersion {
        match self.kind() {
            Some(PacketType::Connect) => self.announced_version().unwrap_or(self.version),
            _ => self.version,
        }
    }

    /// What a CONNECT announces: its Protocol Level follows the Protocol Name.
    fn announced_version(&self) -> Option<ProtocolVersion> {
        let digits = self.bytes.iter().skip(1).take_while(|byte| **byte >= 0x80);
        let body = self.bytes.get(digits.count() + 2..)?;
        let name = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
        match body.get(2 + name)? {
            3 => Some(ProtocolVersion::V3_1),
            4 => Some(ProtocolVersion::V3_1_1),
            5 => Some(ProtocolVersion::V5),
            _ => None,
        }
    }

    /// Our verdict. The oracles have no directions, so a packet that has only one is read in it.
    pub fn ours(&self) -> Result<Option<Packet>, DecodeError> {
        ours(self.version, self.direction, &self.bytes)
    }
}

fn ours(
    version: ProtocolVersion,
    direction: Direction,
    bytes: &[u8],
) -> Result<Option<Packet>, DecodeError> {
    let limits = Limits {
        max_packet_bytes: MAX_BYTES,
        ..Limits::default()
    };
    let kind = bytes
        .first()
        .and_then(|first| PacketType::from_u8(first >> 4));
    let mut decoder = match kind {
        Some(PacketType::Connect) => Decoder::server(limits),
        Some(PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq) => {
            Decoder::new(Direction::ClientToServer, Some(version), limits)
        }
        Some(PacketType::Disconnect) if !version.is_v5() => {
            Decoder::new(Direction::ClientToServer, Some(version), limits)
        }
        Some(
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp,
        ) => Decoder::client(version, limits),
        _ => Decoder::new(direction, Some(version), limits),
    };
    decoder.decode(&mut BytesMut::from(bytes))
}

/// Bytes as in the vector files.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts `case` before both codecs; `None` if it is not one for this oracle.
pub fn judge(oracle: &dyn Oracle, exclusions: &Exclusions, case: &Case) -> Option<Verdict> {
    let version = case.judged_version();
    if !oracle.knows(version) || oracle.is_spared(version, case.kind()) {
        return None;
    }
    let scope = Scope {
        oracle: oracle.name(),
        version,
        kind: case.kind(),
    };
    let ours = case.ours();
    let theirs = guarded(|| oracle.read(version, &case.bytes));
    let outcome = match (&ours, &theirs) {
        (_, Err(panic)) => Err(format!("the oracle panics: {panic}")),
        (Ok(Some(packet)), Ok(reading)) => {
            let read = judge_reading(exclusions, scope, case, packet, reading);
            match read {
                Ok(Verdict::Exchanged) => judge_writing(oracle, exclusions, scope, case, packet),
                other => other,
            }
        }
        (Err(error), Ok(Reading::Accepted(packet))) => exclusions
            .excuse(
                scope,
                |what| matches!(what, What::Accepts(message) if *message == error.message),
            )
            .map(Verdict::Excused)
            .ok_or_else(|| format!("we refuse ({error}), the oracle reads {packet:?}")),
        (Ok(None), Ok(Reading::Accepted(packet))) => {
            Err(format!("we wait, the oracle reads {packet:?}"))
        }
        (Ok(None), Ok(Reading::Refused(why))) => Err(format!("we wait, the oracle refuses: {why}")),
        (Err(_), Ok(_)) | (Ok(None), Ok(Reading::Incomplete)) => Ok(Verdict::Refused),
    };
    Some(outcome.unwrap_or_else(|why| {
        Verdict::Unexplained(format!("{scope:?} {}: {why}", hex(&case.bytes)))
    }))
}

/// We accepted `packet`.
fn judge_reading(
    exclusions: &Exclusions,
    scope: Scope,
    case: &Case,
    packet: &Packet,
    reading: &Reading,
) -> Result<Verdict, String> {
    let folded = exclusions.folded(scope, packet);
    match reading {
        Reading::Accepted(Some(theirs)) if *theirs == folded.packet => Ok(Verdict::Exchanged),
        Reading::Accepted(theirs) => exclusions
            .excuse(
                scope,
                |what| matches!(what, What::Misreads(which) if which(packet, &case.bytes)),
            )
            .map(Verdict::Excused)
            .ok_or_else(|| format!("we read {packet:?}, the oracle {theirs:?}")),
        Reading::Refused(_) | Reading::Incomplete => exclusions
            .excuse(
                scope,
                |what| matches!(what, What::Refuses(which) if which(packet, &case.bytes)),
            )
            .map(Verdict::Excused)
            .ok_or_else(|| format!("we read {packet:?}, the oracle: {reading:?}")),
    }
}

/// Both read `packet`; the oracle writes it.
fn judge_writing(
    oracle: &dyn Oracle,
    exclusions: &Exclusions,
    scope: Scope,
    case: &Case,
    packet: &Packet,
) -> Result<Verdict, String> {
    let folded = exclusions.folded(scope, packet);
    let written = match guarded(|| oracle.write(scope.version, packet, &case.bytes)) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(why)) => return excuse_writing(exclusions, scope, packet, &why),
        Err(panic) => return Err(format!("the oracle panics writing {packet:?}: {panic}")),
    };
    match ours(scope.version, case.direction, &written) {
        Ok(Some(again)) if again == folded.packet => {
            Ok(folded.by.map_or(Verdict::Exchanged, Verdict::Excused))
        }
        again => {
            let why = format!("writes {}, we read {again:?}", hex(&written));
            excuse_writing(exclusions, scope, packet, &why)
        }
    }
}

fn excuse_writing(
    exclusions: &Exclusions,
    scope: Scope,
    packet: &Packet,
    why: &str,
) -> Result<Verdict, String> {
    exclusions
        .excuse(
            scope,
            |what| matches!(what, What::Miswrites(which) if which(packet)),
        )
        .map(Verdict::Excused)
        .ok_or_else(|| format!("{packet:?}: the oracle {why}"))
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of an oracle; the message if it panics, without a word on standard error.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                loud(info);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default()
    })
}
