//! Packets to bytes (5.0 section 3).
//!
//! In 3.x properties and reason codes are dropped, or turned into return codes where 3.x has
//! them. A packet is measured before it is written, so an error leaves the buffer untouched.

use bytes::{BufMut, BytesMut};

use super::connect;
use super::error::EncodeError;
use super::property::{Ids, Place, REASON_STRING, USER_PROPERTY};
use super::property_write;
use super::publish;
use super::topic::is_shared;
use super::writer::{Sink, count, packet_len};
use crate::mqtt::packet::{
    Ack, Auth, ConnAck, Direction, Disconnect, OptProperties, Packet, PacketType, ProtocolVersion,
    SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe,
};
use crate::mqtt::reason::ReasonCode;

/// What the receiver asked of packets sent to it, from its CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Maximum Packet Size in bytes, the fixed header included; `None` is no limit.
    pub maximum_packet_size: Option<u32>,
    /// Request Problem Information; false forbids Reason String and User Properties on all
    /// packets but PUBLISH, CONNACK and DISCONNECT `[MQTT-3.1.2-29]`.
    pub request_problem_information: bool,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            maximum_packet_size: None,
            request_problem_information: true,
        }
    }
}

/// Appends `packet` as bytes of `version`. CONNECT is written in the version it asks for.
///
/// # Errors
/// The packet does not exist in this version, is too large, or contradicts the standard; nothing
/// is appended then.
pub fn encode(
    packet: &Packet,
    version: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    write(packet, version, 0, out)
}

/// Bytes [`encode`] would append.
///
/// # Errors
/// As [`encode`].
pub fn encoded_len(packet: &Packet, version: ProtocolVersion) -> Result<usize, EncodeError> {
    packet_len(remaining(packet, version, 0)?)
}

/// Appends `packet` in a form the receiver accepts.
///
/// User Properties, then Reason String, are left out of answers that would be too large with them
/// (`[MQTT-3.2.2-19]`, `[MQTT-3.2.2-20]` and their like for the other packets) or whose receiver
/// wants none. PUBLISH and requests are never altered.
///
/// # Errors
/// As [`encode`], and [`EncodeError::PacketTooLarge`] if the smallest form exceeds the limit.
pub fn encode_within(
    packet: &Packet,
    version: ProtocolVersion,
    limits: &PeerLimits,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let maximum = limits
        .maximum_packet_size
        .map_or(usize::MAX, |size| size as usize);
    let mut size = 0;
    for &omit in omissions(packet, limits) {
        size = packet_len(remaining(packet, version, omit)?)?;
        if size <= maximum {
            return write(packet, version, omit, out);
        }
    }
    Err(EncodeError::PacketTooLarge { size, maximum })
}

/// What may be left out, the mildest omission first.
const fn omissions(packet: &Packet, limits: &PeerLimits) -> &'static [Ids] {
    const NOTHING: &[Ids] = &[0];
    const BY_SIZE: &[Ids] = &[
        0,
        USER_PROPERTY,
        REASON_STRING,
        USER_PROPERTY | REASON_STRING,
    ];
    const BOTH: &[Ids] = &[USER_PROPERTY | REASON_STRING];
    match packet {
        Packet::Connect(_)
        | Packet::Publish(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp => NOTHING,
        Packet::ConnAck(_) | Packet::Disconnect(_) => BY_SIZE,
        _ if limits.request_problem_information => BY_SIZE,
        _ => BOTH,
    }
}

fn remaining(packet: &Packet, version: ProtocolVersion, omit: Ids) -> Result<usize, EncodeError> {
    count(|sink| body(packet, version, omit, sink))
}

fn write(
    packet: &Packet,
    version: ProtocolVersion,
    omit: Ids,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let remaining = remaining(packet, version, omit)?;
    out.reserve(packet_len(remaining)?);
    out.put_u8(first_byte(packet));
    out.variable_byte_integer(remaining)?;
    body(packet, version, omit, out)
}

fn first_byte(packet: &Packet) -> u8 {
    let kind = (packet.packet_type() as u8) << 4;
    match packet {
        Packet::Publish(publish) => publish::first_byte(publish),
        Packet::PubRel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => kind | 0x02,
        _ => kind,
    }
}

fn body<S: Sink>(
    packet: &Packet,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => connect::write(connect, sink),
        Packet::ConnAck(ack) => conn_ack(ack, version, omit, sink),
        Packet::Publish(publish) => {
            publish::write_head(publish, version, sink)?;
            sink.slice(&publish.payload);
            Ok(())
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            self::ack(packet.packet_type(), ack, version, omit, sink)
        }
        Packet::Subscribe(subscribe) => self::subscribe(subscribe, version, sink),
        Packet::SubAck(ack) => sub_ack(ack, version, omit, sink),
        Packet::Unsubscribe(unsubscribe) => self::unsubscribe(unsubscribe, version, sink),
        Packet::UnsubAck(ack) => unsub_ack(ack, version, omit, sink),
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(disconnect) => self::disconnect(disconnect, version, omit, sink),
        Packet::Auth(auth) => self::auth(auth, version, omit, sink),
    }
}

fn check_reason(reason: ReasonCode, kind: PacketType) -> Result<(), EncodeError> {
    if reason.is_allowed_in(kind, Direction::ServerToClient)
        || reason.is_allowed_in(kind, Direction::ClientToServer)
    {
        Ok(())
    } else {
        Err(EncodeError::Inconsistent(
            "Reason Code not valid in this packet",
        ))
    }
}

fn conn_ack<S: Sink>(
    ack: &ConnAck,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if ack.session_present && ack.reason.is_error() {
        return Err(EncodeError::Inconsistent("Session Present with an error"));
    }
    // 3.1 knows no Session Present and leaves the byte unused.
    sink.u8(u8::from(
        ack.session_present && version != ProtocolVersion::V3_1,
    ));
    if !version.is_v5() {
        sink.u8(ack
            .reason
            .connect_return_code()
            .ok_or(EncodeError::NoReturnCode)?);
        return Ok(());
    }
    check_reason(ack.reason, PacketType::ConnAck)?;
    sink.u8(ack.reason.value());
    property_write::write(&ack.properties, Place::ConnAck, omit, sink)
}

/// Writes reason and properties in the shortest legal form: nothing for a plain success, the
/// reason alone without properties (5.0 sections 3.4.2.1 and 3.14.2.1).
fn optional_reason<S: Sink>(
    reason: ReasonCode,
    properties: &OptProperties,
    place: Place,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    let bare = property_write::block_len(properties, place, omit)? == 0;
    if bare && reason == ReasonCode::Success {
        return Ok(());
    }
    sink.u8(reason.value());
    if bare {
        return Ok(());
    }
    property_write::write(properties, place, omit, sink)
}

fn ack<S: Sink>(
    kind: PacketType,
    ack: &Ack,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    sink.u16(ack.packet_id.get());
    if !version.is_v5() {
        return Ok(());
    }
    check_reason(ack.reason, kind)?;
    optional_reason(ack.reason, &ack.properties, Place::Ack, omit, sink)
}

fn subscribe<S: Sink>(
    subscribe: &Subscribe,
    version: ProtocolVersion,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if subscribe.filters.is_empty() {
        return Err(EncodeError::Inconsistent(
            "SUBSCRIBE without a Topic Filter",
        ));
    }
    sink.u16(subscribe.packet_id.get());
    if version.is_v5() {
        property_write::write(&subscribe.properties, Place::Subscribe, 0, sink)?;
    }
    for filter in &subscribe.filters {
        sink.string(&filter.filter)?;
        sink.u8(options_byte(filter, version)?);
    }
    Ok(())
}

fn options_byte(filter: &SubscribeFilter, version: ProtocolVersion) -> Result<u8, EncodeError> {
    let options = filter.options;
    if !version.is_v5() {
        return Ok(options.maximum_qos as u8);
    }
    if options.no_local && is_shared(&filter.filter) {
        return Err(EncodeError::Inconsistent(
            "No Local on a Shared Subscription",
        ));
    }
    Ok(options.maximum_qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4)
}

fn sub_ack<S: Sink>(
    ack: &SubAck,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if ack.reasons.is_empty() {
        return Err(EncodeError::Inconsistent("SUBACK without a code"));
    }
    sink.u16(ack.packet_id.get());
    if version.is_v5() {
        property_write::write(&ack.properties, Place::Ack, omit, sink)?;
    }
    for &reason in &ack.reasons {
        check_reason(reason, PacketType::SubAck)?;
        sink.u8(if version.is_v5() {
            reason.value()
        } else {
            reason.subscribe_return_code()
        });
    }
    Ok(())
}

fn unsubscribe<S: Sink>(
    unsubscribe: &Unsubscribe,
    version: ProtocolVersion,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if unsubscribe.filters.is_empty() {
        return Err(EncodeError::Inconsistent(
            "UNSUBSCRIBE without a Topic Filter",
        ));
    }
    sink.u16(unsubscribe.packet_id.get());
    if version.is_v5() {
        property_write::write(&unsubscribe.properties, Place::Unsubscribe, 0, sink)?;
    }
    for filter in &unsubscribe.filters {
        sink.string(filter)?;
    }
    Ok(())
}

fn unsub_ack<S: Sink>(
    ack: &UnsubAck,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    sink.u16(ack.packet_id.get());
    if !version.is_v5() {
        return Ok(());
    }
    if ack.reasons.is_empty() {
        return Err(EncodeError::Inconsistent("UNSUBACK without a code"));
    }
    property_write::write(&ack.properties, Place::Ack, omit, sink)?;
    for &reason in &ack.reasons {
        check_reason(reason, PacketType::UnsubAck)?;
        sink.u8(reason.value());
    }
    Ok(())
}

fn disconnect<S: Sink>(
    disconnect: &Disconnect,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if !version.is_v5() {
        return Ok(());
    }
    check_reason(disconnect.reason, PacketType::Disconnect)?;
    optional_reason(
        disconnect.reason,
        &disconnect.properties,
        Place::Disconnect,
        omit,
        sink,
    )
}

fn auth<S: Sink>(
    auth: &Auth,
    version: ProtocolVersion,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if !version.is_v5() {
        return Err(EncodeError::NotInVersion("AUTH"));
    }
    check_reason(auth.reason, PacketType::Auth)?;
    if auth.reason == ReasonCode::Success && auth.properties.is_none() {
        return Ok(());
    }
    if auth
        .properties
        .as_ref()
        .is_none_or(|set| set.authentication_method.is_none())
    {
        return Err(EncodeError::Inconsistent(
            "AUTH without an Authentication Method",
        ));
    }
    sink.u8(auth.reason.value());
    property_write::write(&auth.properties, Place::Auth, omit, sink)
}
