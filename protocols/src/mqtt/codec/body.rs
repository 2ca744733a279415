//! Reading the bodies of all packets but CONNECT and PUBLISH (5.0 section 3).

use super::decode::Limits;
use super::error::DecodeError;
use super::property::{self, Place};
use super::reader::Reader;
use super::topic::is_shared;
use crate::mqtt::packet::{
    Ack, Auth, ConnAck, Direction, Disconnect, OptProperties, Packet, PacketType, ProtocolVersion,
    QoS, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck,
    Unsubscribe,
};
use crate::mqtt::reason::ReasonCode;

const fn acknowledgement_type(kind: PacketType) -> bool {
    matches!(
        kind,
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp
    )
}

pub(super) fn acknowledgement(kind: PacketType, ack: Ack) -> Option<Packet> {
    match kind {
        PacketType::PubAck => Some(Packet::PubAck(ack)),
        PacketType::PubRec => Some(Packet::PubRec(ack)),
        PacketType::PubRel => Some(Packet::PubRel(ack)),
        PacketType::PubComp => Some(Packet::PubComp(ack)),
        _ => None,
    }
}

/// What the meaning of a body depends on.
pub(super) struct Context<'a> {
    pub(super) version: ProtocolVersion,
    pub(super) direction: Direction,
    pub(super) limits: &'a Limits,
}

impl Context<'_> {
    pub(super) fn read(
        &self,
        kind: PacketType,
        reader: &mut Reader,
    ) -> Result<Packet, DecodeError> {
        if acknowledgement_type(kind) {
            let ack = self.ack(kind, reader)?;
            return acknowledgement(kind, ack)
                .ok_or(DecodeError::malformed("not an acknowledgement"));
        }
        match kind {
            PacketType::ConnAck => self.conn_ack(reader).map(Packet::ConnAck),
            PacketType::Subscribe => self.subscribe(reader).map(Packet::Subscribe),
            PacketType::SubAck => self.sub_ack(reader).map(Packet::SubAck),
            PacketType::Unsubscribe => self.unsubscribe(reader).map(Packet::Unsubscribe),
            PacketType::UnsubAck => self.unsub_ack(reader).map(Packet::UnsubAck),
            PacketType::PingReq => Ok(Packet::PingReq),
            PacketType::PingResp => Ok(Packet::PingResp),
            PacketType::Disconnect => self.disconnect(reader).map(Packet::Disconnect),
            PacketType::Auth => self.auth(reader).map(Packet::Auth),
            _ => Err(DecodeError::protocol("packet out of order")),
        }
    }

    fn properties(&self, reader: &mut Reader, place: Place) -> Result<OptProperties, DecodeError> {
        if self.version.is_v5() {
            property::read(reader, place, self.direction, self.limits)
        } else {
            Ok(None)
        }
    }

    fn reason(&self, reader: &mut Reader, kind: PacketType) -> Result<ReasonCode, DecodeError> {
        let reason = ReasonCode::from_u8(reader.u8()?)
            .ok_or(DecodeError::malformed("undefined Reason Code"))?;
        if reason.is_allowed_in(kind, self.direction) {
            Ok(reason)
        } else {
            Err(DecodeError::protocol(
                "Reason Code not valid in this packet",
            ))
        }
    }

    /// Reason and properties may both be missing, or the properties alone (5.0 sections 3.4.2.1
    /// and 3.14.2.1).
    fn optional_reason(
        &self,
        reader: &mut Reader,
        kind: PacketType,
        place: Place,
    ) -> Result<(ReasonCode, OptProperties), DecodeError> {
        if reader.is_empty() || !self.version.is_v5() {
            return Ok((ReasonCode::Success, None));
        }
        let reason = self.reason(reader, kind)?;
        let properties = if reader.is_empty() {
            None
        } else {
            self.properties(reader, place)?
        };
        Ok((reason, properties))
    }

    fn ack(&self, kind: PacketType, reader: &mut Reader) -> Result<Ack, DecodeError> {
        let packet_id = reader.packet_id()?;
        let (reason, properties) = self.optional_reason(reader, kind, Place::Ack)?;
        Ok(Ack {
            packet_id,
            reason,
            properties,
        })
    }

    fn conn_ack(&self, reader: &mut Reader) -> Result<ConnAck, DecodeError> {
        let flags = reader.u8()?;
        // 3.1 does not use this byte and knows no Session Present.
        let used = self.version != ProtocolVersion::V3_1;
        if used && flags & !1 != 0 {
            return Err(DecodeError::malformed(
                "reserved CONNACK flags [MQTT-3.2.2-1]",
            ));
        }
        let reason = if self.version.is_v5() {
            self.reason(reader, PacketType::ConnAck)?
        } else {
            ReasonCode::from_connect_return_code(reader.u8()?)
                .ok_or(DecodeError::malformed("reserved return code"))?
        };
        let session_present = used && flags == 1;
        if session_present && reason.is_error() {
            return Err(DecodeError::protocol(
                "Session Present with an error [MQTT-3.2.2-6]",
            ));
        }
        let properties = self.properties(reader, Place::ConnAck)?;
        Ok(ConnAck {
            session_present,
            reason,
            properties,
        })
    }

    fn subscribe(&self, reader: &mut Reader) -> Result<Subscribe, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = self.properties(reader, Place::Subscribe)?;
        let mut filters = Vec::new();
        while !reader.is_empty() {
            self.check_filter_count(filters.len())?;
            let filter = reader.string()?;
            let options = self.subscription_options(reader.u8()?)?;
            if options.no_local && is_shared(&filter) {
                return Err(DecodeError::protocol(
                    "No Local on a Shared Subscription [MQTT-3.8.3-4]",
                ));
            }
            filters.push(SubscribeFilter { filter, options });
        }
        if filters.is_empty() {
            return Err(DecodeError::protocol(
                "SUBSCRIBE without a Topic Filter [MQTT-3.8.3-2]",
            ));
        }
        Ok(Subscribe {
            packet_id,
            properties,
            filters,
        })
    }

    fn subscription_options(&self, byte: u8) -> Result<SubscriptionOptions, DecodeError> {
        let (byte, reserved) = match self.version {
            // 3.1 does not use the upper six bits (3.1 section 3.8).
            ProtocolVersion::V3_1 => (byte & 3, 0),
            ProtocolVersion::V3_1_1 => (byte, 0xFC),
            ProtocolVersion::V5 => (byte, 0xC0),
        };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(
                "reserved Subscription Options [MQTT-3.8.3-5]",
            ));
        }
        let maximum_qos = QoS::from_u8(byte & 3)
            .ok_or(DecodeError::protocol("Maximum QoS of a subscription is 3"))?;
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("Retain Handling is 3")),
        };
        Ok(SubscriptionOptions {
            maximum_qos,
            no_local: byte & 0x04 != 0,
            retain_as_published: byte & 0x08 != 0,
            retain_handling,
        })
    }

    fn sub_ack(&self, reader: &mut Reader) -> Result<SubAck, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = self.properties(reader, Place::Ack)?;
        let mut reasons = Vec::new();
        while !reader.is_empty() {
            let reason = self.reason(reader, PacketType::SubAck)?;
            if !self.version.is_v5() && reason.subscribe_return_code() != reason.value() {
                return Err(DecodeError::malformed(
                    "reserved return code [MQTT-3.9.3-2]",
                ));
            }
            reasons.push(reason);
        }
        if reasons.is_empty() {
            return Err(DecodeError::protocol(
                "SUBACK without a code [MQTT-3.9.3-1]",
            ));
        }
        Ok(SubAck {
            packet_id,
            properties,
            reasons,
        })
    }

    fn unsubscribe(&self, reader: &mut Reader) -> Result<Unsubscribe, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = self.properties(reader, Place::Unsubscribe)?;
        let mut filters = Vec::new();
        while !reader.is_empty() {
            self.check_filter_count(filters.len())?;
            filters.push(reader.string()?);
        }
        if filters.is_empty() {
            return Err(DecodeError::protocol(
                "UNSUBSCRIBE without a Topic Filter [MQTT-3.10.3-2]",
            ));
        }
        Ok(Unsubscribe {
            packet_id,
            properties,
            filters,
        })
    }

    fn unsub_ack(&self, reader: &mut Reader) -> Result<UnsubAck, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = self.properties(reader, Place::Ack)?;
        let mut reasons = Vec::new();
        if self.version.is_v5() {
            while !reader.is_empty() {
                reasons.push(self.reason(reader, PacketType::UnsubAck)?);
            }
            if reasons.is_empty() {
                return Err(DecodeError::protocol(
                    "UNSUBACK without a code [MQTT-3.11.3-1]",
                ));
            }
        }
        Ok(UnsubAck {
            packet_id,
            properties,
            reasons,
        })
    }

    fn disconnect(&self, reader: &mut Reader) -> Result<Disconnect, DecodeError> {
        let (reason, properties) =
            self.optional_reason(reader, PacketType::Disconnect, Place::Disconnect)?;
        Ok(Disconnect { reason, properties })
    }

    /// AUTH has a reason and a property block with an Authentication Method (5.0 section
    /// 3.15.2.2.2). Success alone may go without properties, and then without a body (3.15.2.1).
    fn auth(&self, reader: &mut Reader) -> Result<Auth, DecodeError> {
        if reader.is_empty() {
            if self.direction == Direction::ClientToServer {
                return Err(DecodeError::protocol("AUTH with Success from a client"));
            }
            return Ok(Auth {
                reason: ReasonCode::Success,
                properties: None,
            });
        }
        let reason = self.reason(reader, PacketType::Auth)?;
        let properties = self.properties(reader, Place::Auth)?;
        let is_complete = match &properties {
            Some(set) => set.authentication_method.is_some(),
            None => reason == ReasonCode::Success,
        };
        if !is_complete {
            return Err(DecodeError::protocol(
                "AUTH without an Authentication Method",
            ));
        }
        Ok(Auth { reason, properties })
    }

    fn check_filter_count(&self, count: usize) -> Result<(), DecodeError> {
        if count >= self.limits.max_filters {
            return Err(DecodeError::limit(
                ReasonCode::QuotaExceeded,
                "too many Topic Filters",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::mqtt::codec::{Decoder, encode};

    fn from_server(bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
        Decoder::client(ProtocolVersion::V5, Limits::default()).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn the_unused_option_bits_of_3_1_are_ignored() {
        let read = |version| {
            let limits = Limits::default();
            let mut buf = BytesMut::from(&b"\x82\x06\x00\x01\x00\x01a\xFD"[..]);
            Decoder::new(Direction::ClientToServer, Some(version), limits).decode(&mut buf)
        };
        let Ok(Some(Packet::Subscribe(subscribe))) = read(ProtocolVersion::V3_1) else {
            panic!("legal in 3.1");
        };
        let options = SubscriptionOptions {
            maximum_qos: QoS::AtLeastOnce,
            ..Default::default()
        };
        assert_eq!(subscribe.filters[0].options, options);
        assert!(read(ProtocolVersion::V3_1_1).is_err());
        assert!(read(ProtocolVersion::V5).is_err());
    }

    /// 5.0 section 3.15.2.1 lets the sender leave both out; it need not.
    #[test]
    fn an_empty_auth_may_spell_out_its_reason_and_property_length() {
        let success = Packet::Auth(Auth {
            reason: ReasonCode::Success,
            properties: None,
        });
        for bytes in [&b"\xF0\x00"[..], b"\xF0\x02\x00\x00"] {
            assert_eq!(
                from_server(bytes),
                Ok(Some(success.clone())),
                "{bytes:02X?}"
            );
        }
        for bytes in [&b"\xF0\x01\x00"[..], b"\xF0\x02\x18\x00"] {
            assert!(from_server(bytes).is_err(), "{bytes:02X?}");
        }
    }

    /// The method is missed in CONNECT and AUTH only (5.0 sections 3.1.2.11.10 and 3.15.2.2.2).
    #[test]
    fn authentication_data_may_stand_alone_in_connack() {
        let bytes = b"\x20\x07\x00\x00\x04\x16\x00\x01d";
        let packet = from_server(bytes).expect("legal").expect("complete");
        let mut again = BytesMut::new();
        encode(&packet, ProtocolVersion::V5, &mut again).expect("what was read can be written");
        assert_eq!(&again[..], bytes);
        let auth = b"\xF0\x06\x18\x04\x16\x00\x01d";
        assert!(from_server(auth).is_err());
    }
}
