//! Writing the property block of 5.0 (section 2.2.2), in order of identifier.

use std::num::{NonZeroU16, NonZeroU32};

use super::error::EncodeError;
use super::property::{Ids, Place};
use super::topic::has_wildcard;
use super::writer::{Sink, count};
use crate::mqtt::packet::{OptProperties, Properties, QoS};

/// Bytes of the block without its length.
pub(super) fn block_len(
    properties: &OptProperties,
    place: Place,
    omit: Ids,
) -> Result<usize, EncodeError> {
    match properties {
        None => Ok(0),
        Some(set) => count(|sink| write_fields(set, place, omit, sink)),
    }
}

/// Writes a property block with its length, without the properties in `omit`.
pub(super) fn write<S: Sink>(
    properties: &OptProperties,
    place: Place,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    sink.variable_byte_integer(block_len(properties, place, omit)?)?;
    match properties {
        None => Ok(()),
        Some(set) => write_fields(set, place, omit, sink),
    }
}

/// Writes the properties one after the other, in order of identifier.
pub(super) fn write_fields<S: Sink>(
    set: &Properties,
    place: Place,
    omit: Ids,
    sink: &mut S,
) -> Result<(), EncodeError> {
    let mut to = Fields {
        sink,
        allowed: place.allowed(),
        omit,
    };
    to.flag(0x01, set.payload_format_indicator)?;
    to.u32(0x02, set.message_expiry_interval)?;
    to.string(0x03, set.content_type.as_deref())?;
    if set
        .response_topic
        .as_deref()
        .is_some_and(|topic| topic.is_empty() || has_wildcard(topic))
    {
        return Err(EncodeError::Inconsistent(
            "Response Topic is not a Topic Name",
        ));
    }
    to.string(0x08, set.response_topic.as_deref())?;
    to.binary(0x09, set.correlation_data.as_deref())?;
    if place == Place::Subscribe && set.subscription_identifiers.len() > 1 {
        return Err(EncodeError::Inconsistent(
            "two Subscription Identifiers in a SUBSCRIBE",
        ));
    }
    for &id in &set.subscription_identifiers {
        to.subscription_identifier(id)?;
    }
    to.u32(0x11, set.session_expiry_interval)?;
    to.string(0x12, set.assigned_client_identifier.as_deref())?;
    to.u16(0x13, set.server_keep_alive)?;
    let alone = set.authentication_data.is_some() && set.authentication_method.is_none();
    if alone && place == Place::Connect {
        return Err(EncodeError::Inconsistent(
            "Authentication Data without a Method",
        ));
    }
    to.string(0x15, set.authentication_method.as_deref())?;
    to.binary(0x16, set.authentication_data.as_ref().map(|data| &*data.0))?;
    to.flag(0x17, set.request_problem_information)?;
    to.u32(0x18, set.will_delay_interval)?;
    to.flag(0x19, set.request_response_information)?;
    to.string(0x1A, set.response_information.as_deref())?;
    to.string(0x1C, set.server_reference.as_deref())?;
    to.string(0x1F, set.reason_string.as_deref())?;
    to.u16(0x21, set.receive_maximum.map(NonZeroU16::get))?;
    to.u16(0x22, set.topic_alias_maximum)?;
    to.u16(0x23, set.topic_alias.map(NonZeroU16::get))?;
    // Maximum QoS 2 is said by leaving the property out (5.0 section 3.2.2.3.4).
    let below_2 = set.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
    to.flag(0x24, below_2.map(|qos| qos == QoS::AtLeastOnce))?;
    to.flag(0x25, set.retain_available)?;
    for (key, value) in &set.user_properties {
        to.user_property(key, value)?;
    }
    to.u32(0x27, set.maximum_packet_size.map(NonZeroU32::get))?;
    to.flag(0x28, set.wildcard_subscription_available)?;
    to.flag(0x29, set.subscription_identifiers_available)?;
    to.flag(0x2A, set.shared_subscription_available)
}

/// Writes single properties and refuses those the packet must not carry.
pub(super) struct Fields<'a, S> {
    sink: &'a mut S,
    allowed: Ids,
    omit: Ids,
}

impl<'a, S: Sink> Fields<'a, S> {
    pub(super) const fn of_publish(sink: &'a mut S) -> Self {
        Self {
            sink,
            allowed: Place::Publish.allowed(),
            omit: 0,
        }
    }

    /// Writes the identifier; false if the property is left out.
    fn start(&mut self, id: u8) -> Result<bool, EncodeError> {
        let id_bit = 1 << id;
        if self.omit & id_bit != 0 {
            return Ok(false);
        }
        if self.allowed & id_bit == 0 {
            return Err(EncodeError::Inconsistent(
                "property not valid in this packet",
            ));
        }
        self.sink.u8(id);
        Ok(true)
    }

    fn flag(&mut self, id: u8, value: Option<bool>) -> Result<(), EncodeError> {
        if let Some(value) = value
            && self.start(id)?
        {
            self.sink.u8(u8::from(value));
        }
        Ok(())
    }

    pub(super) fn u16(&mut self, id: u8, value: Option<u16>) -> Result<(), EncodeError> {
        if let Some(value) = value
            && self.start(id)?
        {
            self.sink.u16(value);
        }
        Ok(())
    }

    pub(super) fn u32(&mut self, id: u8, value: Option<u32>) -> Result<(), EncodeError> {
        if let Some(value) = value
            && self.start(id)?
        {
            self.sink.u32(value);
        }
        Ok(())
    }

    fn binary(&mut self, id: u8, value: Option<&[u8]>) -> Result<(), EncodeError> {
        match value {
            Some(value) if self.start(id)? => self.sink.binary(value),
            _ => Ok(()),
        }
    }

    fn string(&mut self, id: u8, value: Option<&str>) -> Result<(), EncodeError> {
        match value {
            Some(value) if self.start(id)? => self.sink.string(value),
            _ => Ok(()),
        }
    }

    pub(super) fn subscription_identifier(&mut self, value: u32) -> Result<(), EncodeError> {
        if value == 0 {
            return Err(EncodeError::Inconsistent("Subscription Identifier is 0"));
        }
        if self.start(0x0B)? {
            self.sink.variable_byte_integer(value as usize)?;
        }
        Ok(())
    }

    fn user_property(&mut self, key: &str, value: &str) -> Result<(), EncodeError> {
        if self.start(0x26)? {
            self.sink.string(key)?;
            self.sink.string(value)?;
        }
        Ok(())
    }
}
