//! The decoder: framing and the rules of the fixed header (5.0 section 2.1).
//!
//! Checks run in the order in which bytes arrive: the first byte is judged before the length, the
//! length before the body is waited for. So the verdict does not depend on how the bytes were
//! cut, and an oversize packet is refused from its header, before it is buffered.

use bytes::{Buf, BytesMut};

use super::body::{Context, acknowledgement};
use super::connect;
use super::error::DecodeError;
use super::publish;
use super::reader::{Reader, variable_byte_integer};
use crate::mqtt::packet::{Ack, Direction, Packet, PacketId, PacketType, ProtocolVersion};
use crate::mqtt::reason::ReasonCode;

/// Largest CONNECT in bytes, whatever [`Limits::max_packet_bytes`] says, unless
/// [`Decoder::until_login`] says otherwise: nobody has logged in yet.
pub const PRE_LOGIN_MAX_BYTES: usize = 65_536;

/// What one packet may cost. The caps on counts bound how much larger than its bytes a packet
/// may become in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole packet with its fixed header, the Maximum Packet Size this side announced.
    pub max_packet_bytes: usize,
    /// User Properties of one property block.
    pub max_user_properties: usize,
    /// Bytes of the User Properties of one property block, lengths included.
    pub max_user_property_bytes: usize,
    /// Topic Filters of one SUBSCRIBE or UNSUBSCRIBE.
    pub max_filters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_bytes: 1_048_576,
            max_user_properties: 1_024,
            max_user_property_bytes: 65_536,
            max_filters: 8_192,
        }
    }
}

/// Turns the bytes of one connection into packets.
///
/// After an error the stream has no packet boundary any more: the decoder repeats the error and
/// never reads on.
#[derive(Debug)]
pub struct Decoder {
    direction: Direction,
    limits: Limits,
    version: Option<ProtocolVersion>,
    /// Bytes of a packet of somebody who is not let in.
    login_bytes: usize,
    /// Whether CONNECT is not the only packet before the login.
    is_login: bool,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder for what clients send: first a CONNECT, which fixes the version
    /// `[MQTT-3.1.0-1]`.
    #[must_use]
    pub const fn server(limits: Limits) -> Self {
        Self::new(Direction::ClientToServer, None, limits)
    }

    /// A decoder for what a server sends to a client of this version.
    #[must_use]
    pub const fn client(version: ProtocolVersion, limits: Limits) -> Self {
        Self::new(Direction::ServerToClient, Some(version), limits)
    }

    /// A decoder for `direction`; with a version, the CONNECT counts as already seen.
    #[must_use]
    pub const fn new(
        direction: Direction,
        version: Option<ProtocolVersion>,
        limits: Limits,
    ) -> Self {
        Self {
            direction,
            limits,
            version,
            login_bytes: PRE_LOGIN_MAX_BYTES,
            is_login: false,
            failed: None,
        }
    }

    /// Takes no packet larger than `bytes` until [`Decoder::logged_in`] is called.
    #[must_use]
    pub const fn until_login(mut self, bytes: usize) -> Self {
        (self.login_bytes, self.is_login) = (bytes, true);
        self
    }

    /// The peer is let in: [`Limits::max_packet_bytes`] holds from now on.
    pub const fn logged_in(&mut self) {
        self.is_login = false;
    }

    /// The version of the connection, once a CONNECT was accepted.
    #[must_use]
    pub const fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    pub(super) const fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether the peer is let in and has broken nothing.
    pub(super) const fn is_reading(&self) -> bool {
        self.failed.is_none() && !self.is_login
    }

    /// Whether a packet of `total` bytes is taken.
    pub(super) fn takes(&self, total: usize) -> bool {
        total <= self.max_bytes()
    }

    /// Takes the next packet from the front of `buf`; `None` means more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not acceptable. `buf` is left in an unspecified state; close the connection.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.next(buf).map_err(|mut error| {
            error.reply_version = error.reply_version.or(self.version);
            self.failed = Some(error);
            error
        })
    }

    fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some((&first, rest)) = buf.split_first() else {
            return Ok(None);
        };
        let kind = self.check_first_byte(first)?;
        let Some((remaining, digits)) = variable_byte_integer(rest)? else {
            return Ok(None);
        };
        let header = 1 + digits;
        let total = header + remaining as usize;
        self.check_size(total)?;
        if buf.len() < total {
            return Ok(None);
        }
        // The commonest packets hold no slice: read them without sharing the buffer.
        if let Some(packet) = short_packet(kind, buf.get(header..total).unwrap_or_default()) {
            buf.advance(total);
            return Ok(Some(packet));
        }
        let mut body = buf.split_to(total).freeze();
        body.advance(header);
        self.body(kind, first, Reader::new(body)).map(Some)
    }

    fn max_bytes(&self) -> usize {
        match self.version.is_none() || self.is_login {
            true => self.limits.max_packet_bytes.min(self.login_bytes),
            false => self.limits.max_packet_bytes,
        }
    }

    fn check_size(&self, total: usize) -> Result<(), DecodeError> {
        if !self.takes(total) {
            return Err(DecodeError::limit(
                ReasonCode::PacketTooLarge,
                "packet is too large",
            ));
        }
        Ok(())
    }

    /// Packet type, direction, order and flags.
    fn check_first_byte(&self, first: u8) -> Result<PacketType, DecodeError> {
        let kind = PacketType::from_u8(first >> 4)
            .ok_or(DecodeError::malformed("packet type 0 is reserved"))?;
        match (self.version, kind) {
            (None, PacketType::Connect) => {}
            (None, _) => {
                return Err(DecodeError::protocol(
                    "first packet is not CONNECT [MQTT-3.1.0-1]",
                ));
            }
            (Some(_), PacketType::Connect) if self.direction == Direction::ClientToServer => {
                return Err(DecodeError::protocol("second CONNECT [MQTT-3.1.0-2]"));
            }
            (Some(version), PacketType::Auth) if !version.is_v5() => {
                return Err(DecodeError::malformed("packet type 15 is reserved in 3.x"));
            }
            (Some(version), _) if !may_send(self.direction, kind, version) => {
                return Err(DecodeError::protocol("packet sent in the wrong direction"));
            }
            _ => {}
        }
        self.check_flags(kind, first)?;
        Ok(kind)
    }

    fn check_flags(&self, kind: PacketType, first: u8) -> Result<(), DecodeError> {
        let flags = first & 0x0F;
        let fits = match kind {
            PacketType::Publish => return publish::Flags::read(first).map(|_| ()),
            // 3.1 sets DUP when it repeats these (3.1 section 2.1); later versions reserve it.
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
                if self.version == Some(ProtocolVersion::V3_1) =>
            {
                flags & !0x08 == 0x02
            }
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => flags == 0x02,
            _ => flags == 0,
        };
        if fits {
            Ok(())
        } else {
            Err(DecodeError::malformed("reserved flag bits [MQTT-2.1.3-1]"))
        }
    }

    fn body(
        &mut self,
        kind: PacketType,
        first: u8,
        mut reader: Reader,
    ) -> Result<Packet, DecodeError> {
        let Some(version) = self.version else {
            return self.connect(&mut reader);
        };
        let context = Context {
            version,
            direction: self.direction,
            limits: &self.limits,
        };
        if kind == PacketType::Publish {
            let flags = publish::Flags::read(first)?;
            return publish::read(flags, reader, version, self.direction, &self.limits)
                .map(Packet::Publish);
        }
        let packet = context.read(kind, &mut reader)?;
        reader.finish()?;
        Ok(packet)
    }

    fn connect(&mut self, reader: &mut Reader) -> Result<Packet, DecodeError> {
        let version = connect::read_version(reader)?;
        let connect =
            connect::read(reader, version, &self.limits).map_err(|error| DecodeError {
                reply_version: Some(version),
                ..error
            })?;
        self.version = Some(version);
        Ok(Packet::Connect(Box::new(connect)))
    }
}

const fn may_send(direction: Direction, kind: PacketType, version: ProtocolVersion) -> bool {
    match direction {
        Direction::ClientToServer => !matches!(
            kind,
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp
        ),
        Direction::ServerToClient => match kind {
            PacketType::Connect
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq => false,
            PacketType::Disconnect => version.is_v5(),
            _ => true,
        },
    }
}

/// PINGREQ, PINGRESP and the four acknowledgements in their two-byte form, the same in every
/// version. Anything else, errors among it, takes the long way.
fn short_packet(kind: PacketType, body: &[u8]) -> Option<Packet> {
    match (kind, body) {
        (PacketType::PingReq, []) => Some(Packet::PingReq),
        (PacketType::PingResp, []) => Some(Packet::PingResp),
        (_, &[high, low]) => {
            let ack = Ack::success(PacketId::new(u16::from_be_bytes([high, low]))?);
            acknowledgement(kind, ack)
        }
        _ => None,
    }
}
