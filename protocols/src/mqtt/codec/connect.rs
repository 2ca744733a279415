//! CONNECT (5.0 section 3.1), the only packet that tells its version: reading and writing.

use super::decode::Limits;
use super::error::{DecodeError, EncodeError};
use super::property::{self, Place};
use super::property_write;
use super::reader::Reader;
use super::topic::has_wildcard;
use super::writer::Sink;
use crate::mqtt::packet::{Connect, Direction, OptProperties, ProtocolVersion, QoS, Secret, Will};
use crate::mqtt::reason::ReasonCode;

/// Set in the Protocol Level by bridges of some brokers.
const BRIDGE: u8 = 0x80;
const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// Reads Protocol Name and Protocol Level.
///
/// An unknown level is answered in the form of CONNACK that its reader knows, a foreign name not at
/// all `[MQTT-3.1.2-1]`. `MQIsdp` is the name of 3.1 alone, and what is below level 5 has the two
/// bytes of 3.x with return code 1 `[MQTT-3.1.2-2]` of 3.1.1: a longer CONNACK is malformed there.
/// Level 5 and above reads 5.0 first, where the shorter one is malformed, and gets 0x84. The high
/// bit of a level says that the peer is a bridge, and nothing about the form: 0x83 and 0x84 are
/// bridges of 3.1 and 3.1.1, which go on without the bit after return code 1.
pub(super) fn read_version(reader: &mut Reader) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.string()?;
    if !matches!(&*name, "MQTT" | "MQIsdp") {
        return Err(DecodeError::limit(
            ReasonCode::UnsupportedProtocolVersion,
            "unknown Protocol Name [MQTT-3.1.2-1]",
        ));
    }
    match (&*name, reader.u8()?) {
        ("MQIsdp", 3) => Ok(ProtocolVersion::V3_1),
        ("MQTT", 4) => Ok(ProtocolVersion::V3_1_1),
        ("MQTT", 5) => Ok(ProtocolVersion::V5),
        (name, level) => Err(DecodeError {
            reply_version: Some(if name == "MQIsdp" || level & !BRIDGE < 5 {
                ProtocolVersion::V3_1_1
            } else {
                ProtocolVersion::V5
            }),
            ..DecodeError::limit(
                ReasonCode::UnsupportedProtocolVersion,
                "unknown Protocol Level [MQTT-3.1.2-2]",
            )
        }),
    }
}

/// Reads what follows the Protocol Level.
pub(super) fn read(
    reader: &mut Reader,
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Connect, DecodeError> {
    let flags = reader.u8()?;
    check_flags(flags, version)?;
    let keep_alive = reader.u16()?;
    let properties = read_properties(reader, version, Place::Connect, limits)?;
    let client_id = reader.string()?;
    let will = if flags & WILL == 0 {
        None
    } else {
        Some(read_will(reader, flags, version, limits)?)
    };
    let username = present(flags, USERNAME, reader, version)
        .then(|| reader.string())
        .transpose()?;
    let password = present(flags, PASSWORD, reader, version)
        .then(|| reader.binary().map(Secret))
        .transpose()?;
    reader.finish()?;
    Ok(Connect {
        version,
        clean_start: flags & CLEAN_START != 0,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        return Err(DecodeError::malformed(
            "reserved connect flag is set [MQTT-3.1.2-3]",
        ));
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 3 << WILL_QOS_SHIFT) != 0 {
        return Err(DecodeError::malformed(
            "Will QoS or Will Retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]",
        ));
    }
    if !version.is_v5() && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::malformed(
            "password without a user name [MQTT-3.1.2-22]",
        ));
    }
    Ok(())
}

/// Whether the field announced by `flag` follows.
///
/// In 3.1 the Remaining Length takes precedence over the two flags: a flag without its field is
/// valid there (3.1 section 3.1, user name and password flags).
fn present(flags: u8, flag: u8, reader: &Reader, version: ProtocolVersion) -> bool {
    flags & flag != 0 && !(version == ProtocolVersion::V3_1 && reader.is_empty())
}

fn read_will(
    reader: &mut Reader,
    flags: u8,
    version: ProtocolVersion,
    limits: &Limits,
) -> Result<Will, DecodeError> {
    let qos = QoS::from_u8((flags >> WILL_QOS_SHIFT) & 3)
        .ok_or(DecodeError::malformed("Will QoS is 3 [MQTT-3.1.2-12]"))?;
    let properties = read_properties(reader, version, Place::Will, limits)?;
    let topic = reader.string()?;
    if topic.is_empty() || has_wildcard(&topic) {
        return Err(DecodeError::peer(
            ReasonCode::TopicNameInvalid,
            "Will Topic is not a Topic Name [MQTT-4.7.3-1] [MQTT-4.7.0-1]",
        ));
    }
    Ok(Will {
        qos,
        retain: flags & WILL_RETAIN != 0,
        topic,
        payload: reader.binary()?,
        properties,
    })
}

fn read_properties(
    reader: &mut Reader,
    version: ProtocolVersion,
    place: Place,
    limits: &Limits,
) -> Result<OptProperties, DecodeError> {
    if version.is_v5() {
        property::read(reader, place, Direction::ClientToServer, limits)
    } else {
        Ok(None)
    }
}

/// Writes the body, in the packet's own version.
pub(super) fn write<S: Sink>(connect: &Connect, sink: &mut S) -> Result<(), EncodeError> {
    let version = connect.version;
    if connect.password.is_some() && connect.username.is_none() && !version.is_v5() {
        return Err(EncodeError::Inconsistent("password without a user name"));
    }
    sink.string(version.name())?;
    sink.u8(version.level());
    sink.u8(flags_of(connect));
    sink.u16(connect.keep_alive);
    if version.is_v5() {
        property_write::write(&connect.properties, Place::Connect, 0, sink)?;
    }
    sink.string(&connect.client_id)?;
    if let Some(will) = &connect.will {
        write_will(will, version, sink)?;
    }
    if let Some(username) = &connect.username {
        sink.string(username)?;
    }
    if let Some(password) = &connect.password {
        sink.binary(&password.0)?;
    }
    Ok(())
}

fn flags_of(connect: &Connect) -> u8 {
    let bit = |set: bool, mask: u8| if set { mask } else { 0 };
    let will = connect.will.as_ref().map_or(0, |will| {
        WILL | (will.qos as u8) << WILL_QOS_SHIFT | bit(will.retain, WILL_RETAIN)
    });
    bit(connect.clean_start, CLEAN_START)
        | will
        | bit(connect.username.is_some(), USERNAME)
        | bit(connect.password.is_some(), PASSWORD)
}

fn write_will<S: Sink>(
    will: &Will,
    version: ProtocolVersion,
    sink: &mut S,
) -> Result<(), EncodeError> {
    if will.topic.is_empty() || has_wildcard(&will.topic) {
        return Err(EncodeError::Inconsistent("Will Topic is not a Topic Name"));
    }
    if version.is_v5() {
        property_write::write(&will.properties, Place::Will, 0, sink)?;
    }
    sink.string(&will.topic)?;
    sink.binary(&will.payload)
}
