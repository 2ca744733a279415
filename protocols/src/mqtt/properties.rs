//! The properties of MQTT 5.0 as one value (section 2.2.2.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::{QoS, Secret};

/// The properties of a packet, or nothing at all: packets without properties cost one pointer.
pub type OptProperties = Option<Box<Properties>>;

/// Every property of 5.0 (section 2.2.2.2); which packet may carry which is the codec's table.
///
/// The numbers in the field docs are the property identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// 0x01 Payload Format Indicator: true says the payload is UTF-8 text.
    pub payload_format_indicator: Option<bool>,
    /// 0x02 Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// 0x03 Content Type.
    pub content_type: Option<ByteString>,
    /// 0x08 Response Topic, a Topic Name without wildcards.
    pub response_topic: Option<ByteString>,
    /// 0x09 Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// 0x0B Subscription Identifiers, 1 to 268,435,455: one in SUBSCRIBE, any number in PUBLISH
    /// from the server.
    pub subscription_identifiers: Vec<u32>,
    /// 0x11 Session Expiry Interval in seconds; `u32::MAX` never expires.
    pub session_expiry_interval: Option<u32>,
    /// 0x12 Assigned Client Identifier.
    pub assigned_client_identifier: Option<ByteString>,
    /// 0x13 Server Keep Alive in seconds.
    pub server_keep_alive: Option<u16>,
    /// 0x15 Authentication Method.
    pub authentication_method: Option<ByteString>,
    /// 0x16 Authentication Data.
    pub authentication_data: Option<Secret>,
    /// 0x17 Request Problem Information.
    pub request_problem_information: Option<bool>,
    /// 0x18 Will Delay Interval in seconds.
    pub will_delay_interval: Option<u32>,
    /// 0x19 Request Response Information.
    pub request_response_information: Option<bool>,
    /// 0x1A Response Information.
    pub response_information: Option<ByteString>,
    /// 0x1C Server Reference.
    pub server_reference: Option<ByteString>,
    /// 0x1F Reason String, for people and logs.
    pub reason_string: Option<ByteString>,
    /// 0x21 Receive Maximum: QoS 1 and 2 messages in flight; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// 0x22 Topic Alias Maximum: highest alias accepted; absent means 0.
    pub topic_alias_maximum: Option<u16>,
    /// 0x23 Topic Alias.
    pub topic_alias: Option<NonZeroU16>,
    /// 0x24 Maximum QoS, 0 or 1 on the wire; absent means 2.
    pub maximum_qos: Option<QoS>,
    /// 0x25 Retain Available.
    pub retain_available: Option<bool>,
    /// 0x26 User Properties, in order and with duplicates `[MQTT-3.3.2-18]`.
    pub user_properties: Vec<(ByteString, ByteString)>,
    /// 0x27 Maximum Packet Size in bytes, the fixed header included; absent means no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// 0x28 Wildcard Subscription Available.
    pub wildcard_subscription_available: Option<bool>,
    /// 0x29 Subscription Identifiers Available.
    pub subscription_identifiers_available: Option<bool>,
    /// 0x2A Shared Subscription Available.
    pub shared_subscription_available: Option<bool>,
}

impl Properties {
    /// This block for a packet field: `None` if nothing is set.
    #[must_use]
    pub fn into_optional(self) -> OptProperties {
        if self == Self::default() {
            None
        } else {
            Some(Box::new(self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_property_set_is_none() {
        assert_eq!(Properties::default().into_optional(), None);
        let set = Properties {
            topic_alias_maximum: Some(0),
            ..Properties::default()
        };
        assert!(
            set.into_optional().is_some(),
            "a zero that was sent is not an absence"
        );
    }
}
