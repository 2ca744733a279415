//! Copying packets out of the read buffer.
//!
//! Decoded strings and payloads are slices, and one slice keeps its whole buffer alive. Whoever
//! stores or queues a packet for long takes a copy with `detach`, or a few bytes pin many.

use bytes::Bytes;
use bytestring::ByteString;

use super::packet::{Connect, OptProperties, Properties, Publish, Secret, Will};

impl Properties {
    /// Copies everything out of the read buffer.
    #[must_use]
    pub fn detach(&self) -> Self {
        let mut copy = self.clone();
        for text in [
            &mut copy.content_type,
            &mut copy.response_topic,
            &mut copy.assigned_client_identifier,
            &mut copy.authentication_method,
            &mut copy.response_information,
            &mut copy.server_reference,
            &mut copy.reason_string,
        ] {
            *text = text.as_deref().map(ByteString::from);
        }
        copy.correlation_data = copy.correlation_data.as_deref().map(Bytes::copy_from_slice);
        copy.authentication_data = copy.authentication_data.as_ref().map(Secret::detach);
        for (key, value) in &mut copy.user_properties {
            *key = ByteString::from(&**key);
            *value = ByteString::from(&**value);
        }
        copy
    }
}

impl Secret {
    /// Copies the bytes out of the read buffer.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl Will {
    /// Copies everything out of the read buffer: a will lives as long as its session.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            qos: self.qos,
            retain: self.retain,
            topic: ByteString::from(&*self.topic),
            payload: Bytes::copy_from_slice(&self.payload),
            properties: detach_properties(&self.properties),
        }
    }
}

impl Publish {
    /// Copies everything out of the read buffer: for messages that are retained or queued.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            topic: ByteString::from(&*self.topic),
            payload: Bytes::copy_from_slice(&self.payload),
            properties: detach_properties(&self.properties),
            ..*self
        }
    }
}

impl Connect {
    /// Copies everything out of the read buffer: the session keeps most of it.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: ByteString::from(&*self.client_id),
            will: self.will.as_ref().map(Will::detach),
            username: self.username.as_deref().map(ByteString::from),
            password: self.password.as_ref().map(Secret::detach),
            properties: detach_properties(&self.properties),
        }
    }
}

fn detach_properties(properties: &OptProperties) -> OptProperties {
    properties.as_ref().map(|set| Box::new(set.detach()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{PacketId, QoS};

    #[test]
    fn detached_values_share_no_memory_with_the_read_buffer() {
        let buffer = Bytes::from_static(b"topicpayloadkeyvaluecorrelation");
        let text = |range| ByteString::try_from(buffer.slice(range)).expect("ASCII");
        let publish = Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: true,
            topic: text(0..5),
            packet_id: PacketId::new(9),
            properties: Properties {
                correlation_data: Some(buffer.slice(20..)),
                content_type: Some(text(0..5)),
                user_properties: vec![(text(12..15), text(15..20))],
                ..Properties::default()
            }
            .into_optional(),
            payload: buffer.slice(5..12),
        };
        let copy = publish.detach();
        assert_eq!(copy, publish);
        let inside = |bytes: &[u8]| buffer.as_ptr_range().contains(&bytes.as_ptr());
        assert!(inside(&publish.payload), "the original is a slice");
        assert!(!inside(&copy.payload) && !inside(copy.topic.as_bytes()));
        let properties = copy.properties.expect("copied");
        let (key, value) = &properties.user_properties[0];
        assert!(!inside(key.as_bytes()) && !inside(value.as_bytes()));
        assert!(!inside(&properties.correlation_data.expect("copied")));
        assert!(!inside(properties.content_type.expect("copied").as_bytes()));
    }
}
