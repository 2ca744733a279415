//! Enhanced authentication (5.0 section 4.12): AUTH packets between CONNECT and CONNACK, and in a
//! session that proves its name again.
//!
//! The mechanisms are the realm's; here is only who may send what when. Until CONNACK a client
//! that named a method sends nothing but AUTH and DISCONNECT `[MQTT-3.1.2-30]`; in a session
//! everything else goes on during an exchange (4.12.1).

use super::options::count;
use super::{MqttMachine, Phase};
use crate::gate::{Action, Authenticate, Authentication, Credentials, JoinError, Mechanism};
use crate::mqtt::map;
use crate::mqtt::packet::{Auth, Packet, PacketType, Properties, Secret};
use crate::mqtt::reason::ReasonCode;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::model::Now;

/// The authentication method of a connection and where its exchange stands.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Authentication Method of the CONNECT.
    method: ByteString,
    mechanism: Mechanism,
    /// Whose turn it is in a session; before CONNACK the phase tells.
    turn: Turn,
    /// What CONNACK shows the client in return for its proof.
    verifier: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Nobody,
    Router,
    Client,
}

impl Exchange {
    /// `None`: the method is not known.
    pub(super) fn named(method: &str) -> Option<Exchange> {
        Some(Exchange {
            mechanism: Mechanism::named(method)?,
            method: ByteString::from(method),
            turn: Turn::Nobody,
            verifier: None,
        })
    }

    /// What the client shows first, with its CONNECT or when it proves its name again.
    pub(super) fn credentials(&self, set: &Properties) -> Credentials {
        Credentials::Exchange {
            mechanism: self.mechanism,
            message: data(set),
        }
    }

    /// Authentication Method and Data for a packet of ours `[MQTT-4.12.0-5]`.
    fn properties(&self, data: Option<Bytes>) -> Properties {
        Properties {
            authentication_method: Some(self.method.clone()),
            authentication_data: data.map(Secret),
            ..Properties::default()
        }
    }

    /// The end of the exchange, for CONNACK.
    pub(super) fn conclude(&mut self) -> Properties {
        let verifier = self.verifier.take();
        self.properties(verifier)
    }
}

/// Authentication Data, copied out of the read buffer; a method without any starts with nothing.
fn data(set: &Properties) -> Bytes {
    let data = set.authentication_data.as_ref();
    data.map_or_else(Bytes::new, |data| Bytes::copy_from_slice(&data.0))
}

impl MqttMachine {
    /// AUTH from the client.
    pub(super) fn auth(&mut self, auth: &Auth) {
        let none = Properties::default();
        let set = auth.properties.as_deref().unwrap_or(&none);
        let phase = self.phase;
        let Some(exchange) = &mut self.exchange else {
            return self.violation("AUTH without enhanced authentication"); // [MQTT-4.12.0-7]
        };
        if set.authentication_method.as_ref() != Some(&exchange.method) {
            // [MQTT-4.12.0-3], [MQTT-4.12.1-1]
            return self.violation("AUTH with another Authentication Method than CONNECT");
        }
        let step = match (phase, auth.reason, exchange.turn) {
            (Phase::Challenged, ReasonCode::ContinueAuthentication, _) => {
                self.phase = Phase::Joining;
                Authenticate::Answer(data(set))
            }
            (Phase::Live, ReasonCode::ContinueAuthentication, Turn::Client) => {
                exchange.turn = Turn::Router;
                Authenticate::Answer(data(set))
            }
            (Phase::Live, ReasonCode::ReAuthenticate, Turn::Nobody) => {
                exchange.turn = Turn::Router;
                Authenticate::Again(exchange.credentials(set))
            }
            _ => return self.violation("AUTH out of turn"),
        };
        self.actions.push_back(Action::Authenticate(Box::new(step)));
    }

    /// The realm's step of the exchange.
    pub(super) fn authentication(&mut self, now: Now, step: Authentication) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match (self.phase, step) {
            (Phase::Joining, Authentication::Challenge(message)) => {
                self.phase = Phase::Challenged;
                self.send_auth(ReasonCode::ContinueAuthentication, Some(message));
                let mut waiting = std::mem::take(&mut self.input);
                self.consume(now, &mut waiting);
                self.input = waiting;
            }
            (Phase::Joining, Authentication::Proven { verifier }) => exchange.verifier = verifier,
            (Phase::Live, Authentication::Challenge(message)) => {
                exchange.turn = Turn::Client;
                self.send_auth(ReasonCode::ContinueAuthentication, Some(message));
            }
            (Phase::Live, Authentication::Proven { verifier }) => {
                exchange.turn = Turn::Nobody;
                self.send_auth(ReasonCode::Success, verifier);
            }
            (Phase::Live, Authentication::Failed(error)) => self.not_proven_again(&error),
            // The connection ended in the meantime.
            _ => {}
        }
    }

    /// `[MQTT-4.12.1-2]`
    fn not_proven_again(&mut self, error: &JoinError) {
        let reason = map::proof_reason(error);
        if reason == ReasonCode::NotAuthorized {
            count(&self.options.counters.proofs_refused);
        }
        self.fail(reason, "the client did not prove its name again");
    }

    fn send_auth(&mut self, reason: ReasonCode, data: Option<Bytes>) {
        if let Some(exchange) = &self.exchange {
            let properties = exchange.properties(data).into_optional();
            self.send(&Packet::Auth(Auth { reason, properties }));
        }
    }

    /// Refuses a client that sends, ahead of CONNACK and having named a method, anything but AUTH
    /// and DISCONNECT `[MQTT-3.1.2-30]`; `bytes` start with a packet.
    pub(super) fn refuse_out_of_turn(&mut self, bytes: &BytesMut) {
        let is_connecting = !matches!(self.phase, Phase::Live | Phase::Closed);
        if self.exchange.is_none() || !is_connecting {
            return;
        }
        let kind = bytes
            .first()
            .and_then(|first| PacketType::from_u8(first >> 4));
        if matches!(kind, None | Some(PacketType::Auth | PacketType::Disconnect)) {
            return;
        }
        count(&self.options.counters.protocol_errors);
        let message = "another packet than AUTH or DISCONNECT ahead of CONNACK";
        self.refuse(ReasonCode::ProtocolError, message);
    }
}
