//! The property block of 5.0 (section 2.2.2): which packet may carry what, and reading it.
//!
//! An identifier that is unknown or not valid for the packet is malformed (0x81), a value outside
//! its range or a property given twice is a protocol error (0x82). Only User Property, and
//! Subscription Identifier in a PUBLISH from the server, may repeat.

use std::num::{NonZeroU16, NonZeroU32};

use super::decode::Limits;
use super::error::DecodeError;
use super::reader::Reader;
use super::topic::has_wildcard;
use crate::mqtt::packet::{Direction, OptProperties, Properties, QoS, Secret};
use crate::mqtt::reason::ReasonCode;

/// Where a property block stands; packets with the same set share a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connect,
    Will,
    ConnAck,
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
    Ack,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

/// A set of properties as bits by identifier; the highest identifier is 0x2A.
pub(super) type Ids = u64;

const fn ids(list: &[u8]) -> Ids {
    let mut set = 0;
    let mut index = 0;
    while index < list.len() {
        set |= 1 << list[index];
        index += 1;
    }
    set
}

/// 0x1F, which a sender leaves out when the packet would grow too large.
pub(super) const REASON_STRING: Ids = ids(&[0x1F]);
/// 0x26, likewise.
pub(super) const USER_PROPERTY: Ids = ids(&[0x26]);
/// What a server hands on unaltered with a message `[MQTT-3.3.2-4]` `[MQTT-3.3.2-15]`
/// `[MQTT-3.3.2-16]` `[MQTT-3.3.2-17]` `[MQTT-3.3.2-20]`.
pub(super) const FORWARDED: Ids = ids(&[0x01, 0x03, 0x08, 0x09, 0x26]);

impl Place {
    /// The table of 5.0 section 2.2.2.2.
    pub(super) const fn allowed(self) -> Ids {
        match self {
            Self::Connect => ids(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]),
            Self::Will => ids(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]),
            Self::ConnAck => ids(&[
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
                0x28, 0x29, 0x2A,
            ]),
            Self::Publish => ids(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]),
            Self::Ack => ids(&[0x1F, 0x26]),
            Self::Subscribe => ids(&[0x0B, 0x26]),
            Self::Unsubscribe => ids(&[0x26]),
            Self::Disconnect => ids(&[0x11, 0x1C, 0x1F, 0x26]),
            Self::Auth => ids(&[0x15, 0x16, 0x1F, 0x26]),
        }
    }
}

/// Reads a property block with its length.
pub(super) fn read(
    reader: &mut Reader,
    place: Place,
    direction: Direction,
    limits: &Limits,
) -> Result<OptProperties, DecodeError> {
    let length = reader.variable_byte_integer()?;
    if length == 0 {
        return Ok(None);
    }
    let mut block = reader.part(length as usize)?;
    let mut properties = Box::<Properties>::default();
    let mut user_bytes = 0;
    while !block.is_empty() {
        let id = block.variable_byte_integer()?;
        check_id(id, place, direction)?;
        if id == 0x26 {
            user_bytes += block.len();
            properties
                .user_properties
                .push((block.string()?, block.string()?));
            user_bytes -= block.len();
            check_caps(properties.user_properties.len(), user_bytes, limits)?;
        } else {
            read_value(id, &mut block, place, &mut properties)?;
        }
    }
    // Said of CONNECT alone (5.0 section 3.1.2.11.10); AUTH always has a method, CONNACK need not.
    let alone =
        properties.authentication_data.is_some() && properties.authentication_method.is_none();
    if alone && place == Place::Connect {
        return Err(DecodeError::protocol(
            "Authentication Data without a Method",
        ));
    }
    Ok(Some(properties))
}

fn check_id(id: u32, place: Place, direction: Direction) -> Result<(), DecodeError> {
    if id > 0x2A || place.allowed() & (1 << id) == 0 {
        return Err(DecodeError::malformed("property not valid in this packet"));
    }
    match (id, place, direction) {
        (0x0B, Place::Publish, Direction::ClientToServer) => Err(DecodeError::protocol(
            "Subscription Identifier in a PUBLISH from a client [MQTT-3.3.4-6]",
        )),
        (0x11, Place::Disconnect, Direction::ServerToClient) => Err(DecodeError::protocol(
            "Session Expiry Interval in a DISCONNECT from the server [MQTT-3.14.2-2]",
        )),
        _ => Ok(()),
    }
}

fn check_caps(count: usize, bytes: usize, limits: &Limits) -> Result<(), DecodeError> {
    if count > limits.max_user_properties || bytes > limits.max_user_property_bytes {
        return Err(DecodeError::limit(
            ReasonCode::QuotaExceeded,
            "too many User Properties",
        ));
    }
    Ok(())
}

fn read_value(
    id: u32,
    block: &mut Reader,
    place: Place,
    to: &mut Properties,
) -> Result<(), DecodeError> {
    match id {
        0x01 => set(&mut to.payload_format_indicator, flag(block)?),
        0x02 => set(&mut to.message_expiry_interval, block.u32()?),
        0x03 => set(&mut to.content_type, block.string()?),
        0x08 => {
            let topic = block.string()?;
            if topic.is_empty() || has_wildcard(&topic) {
                return Err(DecodeError::protocol(
                    "Response Topic is not a Topic Name [MQTT-3.3.2-14]",
                ));
            }
            set(&mut to.response_topic, topic)
        }
        0x09 => set(&mut to.correlation_data, block.binary()?),
        0x0B => push_subscription_identifier(block, place, to),
        0x11 => set(&mut to.session_expiry_interval, block.u32()?),
        0x12 => set(&mut to.assigned_client_identifier, block.string()?),
        0x13 => set(&mut to.server_keep_alive, block.u16()?),
        0x15 => set(&mut to.authentication_method, block.string()?),
        0x16 => set(&mut to.authentication_data, Secret(block.binary()?)),
        0x17 => set(&mut to.request_problem_information, flag(block)?),
        0x18 => set(&mut to.will_delay_interval, block.u32()?),
        0x19 => set(&mut to.request_response_information, flag(block)?),
        0x1A => set(&mut to.response_information, block.string()?),
        0x1C => set(&mut to.server_reference, block.string()?),
        0x1F => set(&mut to.reason_string, block.string()?),
        0x21 => {
            let value = NonZeroU16::new(block.u16()?);
            set(
                &mut to.receive_maximum,
                value.ok_or(DecodeError::protocol("Receive Maximum is 0"))?,
            )
        }
        0x22 => set(&mut to.topic_alias_maximum, block.u16()?),
        0x23 => {
            let value = NonZeroU16::new(block.u16()?).ok_or(DecodeError::peer(
                ReasonCode::TopicAliasInvalid,
                "Topic Alias is 0 [MQTT-3.3.2-8]",
            ))?;
            set(&mut to.topic_alias, value)
        }
        0x24 => {
            let qos = if flag(block)? {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            };
            set(&mut to.maximum_qos, qos)
        }
        0x25 => set(&mut to.retain_available, flag(block)?),
        0x27 => {
            let value = NonZeroU32::new(block.u32()?)
                .ok_or(DecodeError::protocol("Maximum Packet Size is 0"))?;
            set(&mut to.maximum_packet_size, value)
        }
        0x28 => set(&mut to.wildcard_subscription_available, flag(block)?),
        0x29 => set(&mut to.subscription_identifiers_available, flag(block)?),
        0x2A => set(&mut to.shared_subscription_available, flag(block)?),
        _ => Err(DecodeError::malformed("unknown property")),
    }
}

fn push_subscription_identifier(
    block: &mut Reader,
    place: Place,
    to: &mut Properties,
) -> Result<(), DecodeError> {
    let value = block.variable_byte_integer()?;
    if value == 0 {
        return Err(DecodeError::protocol("Subscription Identifier is 0"));
    }
    if place == Place::Subscribe && !to.subscription_identifiers.is_empty() {
        return Err(DecodeError::protocol("property given twice"));
    }
    to.subscription_identifiers.push(value);
    Ok(())
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    if slot.replace(value).is_some() {
        return Err(DecodeError::protocol("property given twice"));
    }
    Ok(())
}

fn flag(block: &mut Reader) -> Result<bool, DecodeError> {
    match block.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("property value is neither 0 nor 1")),
    }
}
