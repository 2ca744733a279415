//! CONNECT and its answer (5.0 sections 3.1 and 3.2).

use super::aliases::OutgoingAliases;
use super::auth::Exchange;
use super::options::count;
use super::{MqttMachine, Phase};
use crate::gate::{Action, Credentials, JoinRequest};
use crate::mqtt::bridge::via::ROUTER_ID;
use crate::mqtt::codec::{PeerLimits, encode_within};
use crate::mqtt::inflight::Window;
use crate::mqtt::map;
use crate::mqtt::packet::{ConnAck, Connect, Packet, Properties, ProtocolVersion};
use crate::mqtt::reason::ReasonCode;
use bytes::Bytes;
use bytestring::ByteString;
use router_core::model::Now;
use router_core::session::{ClientJoin, EventStyle, Features, Leave};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// Longest Client Identifier of 3.1, in characters (3.1 section 3.1).
const MAX_CLIENT_ID_3_1: usize = 23;
/// Bytes of the largest packet there can be (5.0 section 2.1.4): taking it is taking everything.
const LARGEST_PACKET: u32 = 1 + 4 + 268_435_455;

/// What CONNACK tells the client because it differs from what the client asked.
#[derive(Debug, Default)]
pub(super) struct Welcome {
    assigned_id: Option<ByteString>,
    keep_alive: Option<u16>,
    session_expiry: Option<u32>,
    response_information: Option<ByteString>,
    /// A bridge told its router's id and is told ours.
    is_bridge: bool,
}

impl MqttMachine {
    /// Asks the realm to let the client in, or refuses at once.
    pub(super) fn connect(&mut self, connect: &Connect) {
        self.version = connect.version;
        let none = Properties::default();
        let set = connect.properties.as_deref().unwrap_or(&none);
        self.peer = PeerLimits {
            maximum_packet_size: set.maximum_packet_size.map(NonZeroU32::get),
            request_problem_information: set.request_problem_information.unwrap_or(true),
        };
        if let Some(method) = &set.authentication_method {
            let Some(exchange) = Exchange::named(method) else {
                let message = "the authentication method is not supported";
                self.refuse(ReasonCode::BadAuthenticationMethod, message); // [MQTT-4.12.0-1]
                return;
            };
            self.exchange = Some(Box::new(exchange));
        }
        let mut welcome = Box::<Welcome>::default();
        let mut told = set.user_properties.iter();
        welcome.is_bridge = told.any(|(name, _)| &**name == ROUTER_ID);
        let Some(id) = self.client_id(connect, &mut welcome) else {
            self.refuse(
                ReasonCode::ClientIdentifierNotValid,
                "the Client Identifier is not valid",
            );
            return;
        };
        let will = connect.will.as_ref();
        let last_will = match will.map(|will| map::last_will(will, self.options.max_topic_levels)) {
            None => None,
            Some(Ok(will)) => Some(will),
            Some(Err(reason)) => {
                self.refuse(reason, "the Will Message is not acceptable");
                return;
            }
        };
        self.start_keep_alive(connect.keep_alive, &mut welcome);
        let expiry = self.session_life(connect, set, &mut welcome);
        let maximum = set.receive_maximum.unwrap_or(NonZeroU16::MAX);
        let window = maximum.min(self.options.outgoing_window).get();
        self.window = Window::new(window);
        let aliases = set.topic_alias_maximum.unwrap_or(0); // [MQTT-3.1.2-26], [MQTT-3.1.2-27]
        let aliases = aliases.min(self.options.outgoing_topic_aliases);
        self.outgoing_aliases = OutgoingAliases::new(aliases);
        // [MQTT-3.1.2-28]
        if set.request_response_information == Some(true) {
            let template = self.options.response_information.as_ref();
            welcome.response_information = template.and_then(|template| template.of(&id));
        }
        self.welcome = Some(welcome);
        self.phase = Phase::Joining;
        let (realm, mut credentials) = identity(connect);
        // Beside a method, the User Name selects the realm and a password proves nothing.
        let method = match &self.exchange {
            Some(exchange) => {
                credentials = exchange.credentials(set);
                "scram"
            }
            None => "password",
        };
        self.actions.push_back(Action::Join(Box::new(JoinRequest {
            realm,
            credentials,
            features: Features::default(),
            style: EventStyle::Lanes,
            client: Some(ClientJoin {
                id: id.clone(),
                clean_start: connect.clean_start,
                expiry,
                window,
                last_will,
            }),
            protocol: protocol_name(connect.version),
            method,
            agent: Some(id),
        })));
    }

    /// The Client Identifier, assigned if the client brings none; `None`: not valid.
    fn client_id(&self, connect: &Connect, welcome: &mut Welcome) -> Option<ByteString> {
        let given = &connect.client_id;
        match connect.version {
            // 3.1 section 3.1: 1 to 23 characters.
            ProtocolVersion::V3_1
                if given.is_empty() || given.chars().count() > MAX_CLIENT_ID_3_1 =>
            {
                return None;
            }
            // A session that nobody could name again [MQTT-3.1.3-8] of 3.1.1.
            ProtocolVersion::V3_1_1 if given.is_empty() && !connect.clean_start => return None,
            _ => {}
        }
        if !given.is_empty() {
            return Some(ByteString::from(&**given));
        }
        // [MQTT-3.1.3-6], told in CONNACK [MQTT-3.2.2-16]
        let id = self.options.assigned_ids.assign();
        welcome.assigned_id = Some(id.clone());
        Some(id)
    }

    /// The client's Keep Alive, or ours if it is shorter and the client can be told
    /// `[MQTT-3.2.2-21]` `[MQTT-3.2.2-22]`.
    fn start_keep_alive(&mut self, asked: u16, welcome: &mut Welcome) {
        let cap = self.options.max_keepalive_secs;
        let exceeds = cap != 0 && (asked == 0 || asked > cap);
        let enforced = if exceeds && self.version.is_v5() {
            welcome.keep_alive = Some(cap);
            cap
        } else {
            asked
        };
        // One and a half times, in exact milliseconds [MQTT-3.1.2-22]; 0 is off.
        let patience = Duration::from_millis(u64::from(enforced) * 1_500);
        self.patience = (enforced != 0).then_some(patience);
    }

    /// How long the session outlives the connection: Session Expiry Interval, for 3.x none with
    /// Clean Session and as long as allowed without.
    fn session_life(
        &mut self,
        connect: &Connect,
        set: &Properties,
        welcome: &mut Welcome,
    ) -> Duration {
        let most = self.options.max_session_expiry_secs;
        let seconds = if connect.version.is_v5() {
            let asked = set.session_expiry_interval.unwrap_or(0);
            self.session_expiry = asked;
            if asked > most {
                welcome.session_expiry = Some(most); // 5.0 section 3.2.2.3.2
            }
            asked.min(most)
        } else if connect.clean_start {
            0
        } else {
            most
        };
        Duration::from_secs(seconds.into())
    }

    /// The session is there, durable, and this connection the only one that has it.
    pub(super) fn welcome(&mut self, now: Now, present: bool) {
        let welcome = self.welcome.take().unwrap_or_default();
        let properties = if self.version.is_v5() {
            self.announced(*welcome).into_optional()
        } else {
            None
        };
        let packet = |properties| {
            Packet::ConnAck(ConnAck {
                session_present: present,
                reason: ReasonCode::Success,
                properties,
            })
        };
        let mut sent = self.write_connack(&packet(properties.clone()));
        // What the client can do without goes first.
        if let Some(mut set) = properties.filter(|_| !sent)
            && set.response_information.take().is_some()
        {
            sent = self.write_connack(&packet(Some(set)));
        }
        if !sent {
            // Without CONNACK there is nothing else we might send [MQTT-3.1.2-24].
            let message = "CONNACK does not fit the client's Maximum Packet Size";
            self.refuse_silently(1009, message);
            return;
        }
        self.decoder.logged_in();
        self.phase = Phase::Live;
        self.last_packet = now.instant;
        count(&self.options.counters.connects_accepted);
    }

    fn write_connack(&mut self, packet: &Packet) -> bool {
        encode_within(packet, self.version, &self.peer, self.output.batch()).is_ok()
    }

    /// What this server does and takes where that is not what the absence of the property says: a
    /// client may take packets of few bytes only (5.0 section 3.2.2.3).
    ///
    /// Retain, wildcards, Subscription Identifiers, shares and QoS 2 are there, which is said by
    /// absence.
    fn announced(&mut self, welcome: Welcome) -> Properties {
        let options = &self.options;
        let largest = u32::try_from(options.max_packet_bytes).ok();
        let largest = largest.filter(|&size| size < LARGEST_PACKET);
        let aliases = Some(options.topic_alias_maximum).filter(|&most| most != 0);
        let open = Some(options.receive_maximum).filter(|&most| most != NonZeroU16::MAX);
        // [MQTT-4.12.0-5], [MQTT-4.12.0-6]
        let proof = self.exchange.as_mut().map(|exchange| exchange.conclude());
        let router_id = options.router_id.get().filter(|_| welcome.is_bridge);
        let router_id = router_id.map(|id| (ByteString::from_static(ROUTER_ID), id.clone()));
        Properties {
            user_properties: router_id.into_iter().collect(),
            response_information: welcome.response_information,
            session_expiry_interval: welcome.session_expiry,
            assigned_client_identifier: welcome.assigned_id,
            server_keep_alive: welcome.keep_alive,
            receive_maximum: open,
            topic_alias_maximum: aliases,
            maximum_packet_size: largest.and_then(NonZeroU32::new),
            ..proof.unwrap_or_default()
        }
    }

    /// Says no instead of CONNACK 0 and closes (5.0 section 3.2.2.2); nothing the client sent
    /// after CONNECT is looked at `[MQTT-3.1.4-6]`.
    pub(super) fn refuse(&mut self, reason: ReasonCode, message: &'static str) {
        let properties = if self.version.is_v5() {
            Properties {
                reason_string: Some(ByteString::from_static(message)),
                ..Properties::default()
            }
            .into_optional()
        } else {
            None
        };
        let packet = Packet::ConnAck(ConnAck {
            session_present: false, // [MQTT-3.2.2-6]
            reason,
            properties,
        });
        // Where 3.x has no code for it, or the client takes no packet of this size, the
        // connection is closed without CONNACK, as the standards ask.
        let _ = encode_within(&packet, self.version, &self.peer, self.output.batch());
        self.refuse_silently(map::close_code(reason), message);
    }

    /// Closes instead of a CONNACK.
    pub(super) fn refuse_silently(&mut self, code: u16, message: &'static str) {
        count(&self.options.counters.connects_refused);
        self.end(Leave::Lost, code, message);
    }
}

/// The realm and the proof of identity that user name and password stand for.
fn identity(connect: &Connect) -> (Option<ByteString>, Credentials) {
    let Some(username) = &connect.username else {
        return (None, Credentials::Anonymous { authid: None });
    };
    let (name, realm) = map::split_user_name(username);
    let credentials = match &connect.password {
        Some(password) => Credentials::Secret {
            authid: ByteString::from(name),
            secret: Bytes::copy_from_slice(&password.0),
        },
        // A name without proof selects a realm and nothing else.
        None => Credentials::Anonymous { authid: None },
    };
    (realm.map(ByteString::from), credentials)
}

const fn protocol_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "mqtt-3.1",
        ProtocolVersion::V3_1_1 => "mqtt-3.1.1",
        ProtocolVersion::V5 => "mqtt-5.0",
    }
}
