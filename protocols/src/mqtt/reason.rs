//! Reason Codes of MQTT 5.0 (section 2.4) and the return codes of 3.x they stand for.
//!
//! One table gives value, name and the packets each code may stand in. Inside the router every
//! version speaks in these codes; only the codec turns them into 3.x return codes.

use std::fmt;

use super::packet::{Direction, PacketType, QoS};

const fn bit(packet: PacketType) -> u16 {
    1 << packet as u16
}

const CONNACK: u16 = bit(PacketType::ConnAck);
/// PUBACK and PUBREC share their codes.
const PUBLISHED: u16 = bit(PacketType::PubAck) | bit(PacketType::PubRec);
/// PUBREL and PUBCOMP share their codes.
const RELEASED: u16 = bit(PacketType::PubRel) | bit(PacketType::PubComp);
const SUBACK: u16 = bit(PacketType::SubAck);
const UNSUBACK: u16 = bit(PacketType::UnsubAck);
const DISCONNECT: u16 = bit(PacketType::Disconnect);
const AUTH: u16 = bit(PacketType::Auth);

/// Which side may send a code in DISCONNECT or AUTH (5.0 sections 3.14.2.1 and 3.15.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Both,
    Client,
    Server,
}

macro_rules! reason_codes {
    ($($name:ident = $value:literal, $text:literal, $packets:expr, $sender:ident;)*) => {
        /// A Reason Code; the names are those of the table in 5.0 section 2.4.
        ///
        /// Value 0 has three names there: see also [`ReasonCode::NORMAL_DISCONNECTION`] and
        /// [`ReasonCode::GRANTED_QOS_0`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $value,)*
        }

        impl ReasonCode {
            /// Every code, in order of value.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code with this value; `None` if the standard defines none.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name the standard gives the code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            const fn row(self) -> (u16, Sender) {
                match self {
                    $(Self::$name => ($packets, Sender::$sender),)*
                }
            }
        }
    };
}

// The sender column only concerns DISCONNECT and AUTH: the other packets are answers and their
// direction follows from the packet itself.
reason_codes! {
    Success = 0x00, "Success", CONNACK | PUBLISHED | RELEASED | SUBACK | UNSUBACK | DISCONNECT | AUTH, Both;
    GrantedQoS1 = 0x01, "Granted QoS 1", SUBACK, Both;
    GrantedQoS2 = 0x02, "Granted QoS 2", SUBACK, Both;
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message", DISCONNECT, Client;
    NoMatchingSubscribers = 0x10, "No matching subscribers", PUBLISHED, Both;
    NoSubscriptionExisted = 0x11, "No subscription existed", UNSUBACK, Both;
    ContinueAuthentication = 0x18, "Continue authentication", AUTH, Both;
    ReAuthenticate = 0x19, "Re-authenticate", AUTH, Client;
    UnspecifiedError = 0x80, "Unspecified error", CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT, Both;
    MalformedPacket = 0x81, "Malformed Packet", CONNACK | DISCONNECT, Both;
    ProtocolError = 0x82, "Protocol Error", CONNACK | DISCONNECT, Both;
    ImplementationSpecificError = 0x83, "Implementation specific error", CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT, Both;
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version", CONNACK, Both;
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid", CONNACK, Both;
    BadUserNameOrPassword = 0x86, "Bad User Name or Password", CONNACK, Both;
    NotAuthorized = 0x87, "Not authorized", CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT, Server;
    ServerUnavailable = 0x88, "Server unavailable", CONNACK, Both;
    ServerBusy = 0x89, "Server busy", CONNACK | DISCONNECT, Server;
    Banned = 0x8A, "Banned", CONNACK, Both;
    ServerShuttingDown = 0x8B, "Server shutting down", DISCONNECT, Server;
    BadAuthenticationMethod = 0x8C, "Bad authentication method", CONNACK | DISCONNECT, Server;
    KeepAliveTimeout = 0x8D, "Keep Alive timeout", DISCONNECT, Server;
    SessionTakenOver = 0x8E, "Session taken over", DISCONNECT, Server;
    TopicFilterInvalid = 0x8F, "Topic Filter invalid", SUBACK | UNSUBACK | DISCONNECT, Server;
    TopicNameInvalid = 0x90, "Topic Name invalid", CONNACK | PUBLISHED | DISCONNECT, Both;
    PacketIdentifierInUse = 0x91, "Packet Identifier in use", PUBLISHED | SUBACK | UNSUBACK, Both;
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found", RELEASED, Both;
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded", DISCONNECT, Both;
    TopicAliasInvalid = 0x94, "Topic Alias invalid", DISCONNECT, Both;
    PacketTooLarge = 0x95, "Packet too large", CONNACK | DISCONNECT, Both;
    MessageRateTooHigh = 0x96, "Message rate too high", DISCONNECT, Both;
    QuotaExceeded = 0x97, "Quota exceeded", CONNACK | PUBLISHED | SUBACK | DISCONNECT, Both;
    AdministrativeAction = 0x98, "Administrative action", DISCONNECT, Both;
    PayloadFormatInvalid = 0x99, "Payload format invalid", CONNACK | PUBLISHED | DISCONNECT, Both;
    RetainNotSupported = 0x9A, "Retain not supported", CONNACK | DISCONNECT, Server;
    QoSNotSupported = 0x9B, "QoS not supported", CONNACK | DISCONNECT, Server;
    UseAnotherServer = 0x9C, "Use another server", CONNACK | DISCONNECT, Server;
    ServerMoved = 0x9D, "Server moved", CONNACK | DISCONNECT, Server;
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported", SUBACK | DISCONNECT, Server;
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded", CONNACK | DISCONNECT, Server;
    MaximumConnectTime = 0xA0, "Maximum connect time", DISCONNECT, Server;
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported", SUBACK | DISCONNECT, Server;
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported", SUBACK | DISCONNECT, Server;
}

impl ReasonCode {
    /// 0x00 in DISCONNECT: close normally, do not send the Will Message.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 in SUBACK: the maximum QoS sent will be 0.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The byte on the wire.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed: 0x80 and above.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The SUBACK code that grants `qos`.
    #[must_use]
    pub const fn granted(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::GRANTED_QOS_0,
            QoS::AtLeastOnce => Self::GrantedQoS1,
            QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// Whether `packet`, sent in `direction`, may carry this code.
    #[must_use]
    pub fn is_allowed_in(self, packet: PacketType, direction: Direction) -> bool {
        let (packets, sender) = self.row();
        if packets & bit(packet) == 0 {
            return false;
        }
        match (packet, direction) {
            // 5.0 section 3.15.2.1: only the server ends an exchange with Success.
            (PacketType::Auth, Direction::ClientToServer) if self == Self::Success => false,
            (PacketType::Disconnect | PacketType::Auth, Direction::ClientToServer) => {
                sender != Sender::Server
            }
            (PacketType::Disconnect | PacketType::Auth, Direction::ServerToClient) => {
                sender != Sender::Client
            }
            _ => true,
        }
    }

    /// The 3.x CONNACK return code for this reason.
    ///
    /// `None` where 3.x has no fitting code: the server then closes the connection without a
    /// CONNACK `[MQTT-3.2.2-6]` of 3.1.1.
    #[must_use]
    pub const fn connect_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::QuotaExceeded
            | Self::ConnectionRateExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::UnspecifiedError
            | Self::ImplementationSpecificError => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => Some(5),
            _ => None,
        }
    }

    /// The reason a 3.x CONNACK return code stands for; `None` for the reserved 6 to 255.
    #[must_use]
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// The 3.x SUBACK return code: the granted QoS, or 0x80 for every failure.
    #[must_use]
    pub const fn subscribe_return_code(self) -> u8 {
        if self.is_error() { 0x80 } else { self.value() }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ClientToServer, ServerToClient};

    #[test]
    fn every_value_reads_back_and_no_other_does() {
        for value in 0..=255u8 {
            match ReasonCode::from_u8(value) {
                Some(code) => assert_eq!(code.value(), value),
                None => assert!(ReasonCode::ALL.iter().all(|code| code.value() != value)),
            }
        }
        assert_eq!(
            ReasonCode::ALL.len(),
            43,
            "rows of the table, value 0 counted once"
        );
    }

    #[test]
    fn codes_stand_only_in_the_packets_of_the_table() {
        let cases = [
            (ReasonCode::Success, PacketType::PubAck, true),
            (ReasonCode::NoMatchingSubscribers, PacketType::PubRec, true),
            (
                ReasonCode::NoMatchingSubscribers,
                PacketType::PubComp,
                false,
            ),
            (
                ReasonCode::PacketIdentifierNotFound,
                PacketType::PubRel,
                true,
            ),
            (
                ReasonCode::PacketIdentifierNotFound,
                PacketType::PubAck,
                false,
            ),
            (ReasonCode::QuotaExceeded, PacketType::UnsubAck, false),
            (ReasonCode::TopicFilterInvalid, PacketType::SubAck, true),
            (ReasonCode::Banned, PacketType::Disconnect, false),
        ];
        for (code, packet, allowed) in cases {
            assert_eq!(
                code.is_allowed_in(packet, ServerToClient),
                allowed,
                "{code} {packet:?}"
            );
        }
    }

    #[test]
    fn disconnect_and_auth_codes_have_a_side() {
        let may =
            |code: ReasonCode, direction| code.is_allowed_in(PacketType::Disconnect, direction);
        assert!(may(ReasonCode::DisconnectWithWillMessage, ClientToServer));
        assert!(!may(ReasonCode::DisconnectWithWillMessage, ServerToClient));
        assert!(!may(ReasonCode::SessionTakenOver, ClientToServer));
        assert!(may(ReasonCode::SessionTakenOver, ServerToClient));
        let auth = |code: ReasonCode, direction| code.is_allowed_in(PacketType::Auth, direction);
        assert!(!auth(ReasonCode::Success, ClientToServer));
        assert!(auth(ReasonCode::Success, ServerToClient));
        assert!(!auth(ReasonCode::ReAuthenticate, ServerToClient));
        assert!(auth(ReasonCode::ContinueAuthentication, ServerToClient));
    }

    #[test]
    fn return_codes_of_3_x() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connect_return_code(code).expect("defined");
            assert_eq!(reason.connect_return_code(), Some(code));
        }
        assert_eq!(ReasonCode::from_connect_return_code(6), None);
        let refused = [ReasonCode::Banned, ReasonCode::BadAuthenticationMethod];
        assert!(
            refused
                .iter()
                .all(|reason| reason.connect_return_code() == Some(5))
        );
        assert_eq!(ReasonCode::MalformedPacket.connect_return_code(), None);
        assert_eq!(ReasonCode::NotAuthorized.subscribe_return_code(), 0x80);
        assert_eq!(
            ReasonCode::granted(QoS::ExactlyOnce).subscribe_return_code(),
            2
        );
    }

    #[test]
    fn shows_name_and_number() {
        assert_eq!(
            ReasonCode::TopicNameInvalid.to_string(),
            "Topic Name invalid (0x90)"
        );
    }
}
