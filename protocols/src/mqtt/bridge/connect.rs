//! CONNECT and its answer, then the subscriptions of both sides (5.0 sections 3.1, 3.2, 3.8 to
//! 3.11).

use super::asked::Asked;
use super::exchange::Exchanges;
use super::via::ROUTER_ID;
use super::{BridgeMachine, Dialect, End, Note, Peer, Phase, no_properties};
use crate::gate::{Action, Credentials, JoinRequest};
use crate::mqtt::codec::{PeerLimits, encode};
use crate::mqtt::map;
use crate::mqtt::packet::{
    ConnAck, Connect, Packet, PacketId, Properties, Publish, QoS, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use crate::mqtt::reason::ReasonCode;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use router_core::model::{self, Command, MatchKind, Now, Pattern, Slot};
use router_core::session::{ClientJoin, EventStyle, Features};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// The bit in the Protocol Level that says: this client is a bridge.
const BRIDGE_BIT: u8 = 0x80;
/// The Protocol Level stands behind the length and the four letters of the Protocol Name.
const LEVEL_AT: usize = 6;
/// QoS 1 and 2 messages under way to a 3.1.1 peer, which cannot say how many it takes; no usual
/// server takes fewer.
const WINDOW_3_1_1: u16 = 20;
/// Receipts that the realm is asked to forget at a time.
const CLEAR_AT_ONCE: u32 = 512;
/// Longest router id and words of a peer that are kept, in bytes.
const WORDS_MAX: usize = 256;

/// What a SUBSCRIBE or UNSUBSCRIBE was sent for.
#[derive(Debug)]
pub(super) enum Wanted {
    Filter(ByteString),
    Gone,
}

/// How far the forgetting of receipts is.
#[derive(Debug)]
pub(super) struct Clearing {
    next: u32,
    open: u32,
}

impl BridgeMachine {
    /// Writes CONNECT.
    pub(super) fn connect(&mut self) {
        let options = &self.options;
        let is_v5 = self.version.is_v5();
        let properties = Properties {
            session_expiry_interval: (!options.clean_start).then_some(options.session_expiry_secs),
            receive_maximum: Some(options.receive_maximum),
            maximum_packet_size: u32::try_from(options.max_packet_bytes)
                .ok()
                .and_then(NonZeroU32::new),
            user_properties: vec![(
                ByteString::from_static(ROUTER_ID),
                options.router_id.clone(),
            )],
            ..Properties::default()
        };
        let will = options.state_topic.as_ref().map(|topic| Will {
            qos: QoS::AtMostOnce,
            retain: true,
            topic: topic.clone(),
            payload: Bytes::from_static(b"0"),
            properties: None,
        });
        let connect = Connect {
            version: self.version,
            clean_start: options.clean_start,
            keep_alive: options.keep_alive_secs,
            client_id: options.client_id.clone(),
            will,
            username: options.username.clone(),
            password: options.password.clone(),
            properties: properties.into_optional().filter(|_| is_v5),
        };
        let mut bytes = BytesMut::new();
        let packet = Packet::Connect(Box::new(connect));
        if encode(&packet, self.version, &mut bytes).is_err() {
            self.end(End::Broken(
                ReasonCode::ImplementationSpecificError,
                "these settings do not make a CONNECT",
            ));
            return;
        }
        if self.dialect == Dialect::Bridge3_1_1 {
            set_bridge_bit(&mut bytes);
        }
        self.output.batch().extend_from_slice(&bytes);
    }

    /// A server that knows no 5.0 answers in the form of 3.1.1, which is no CONNACK of 5.0.
    pub(super) fn is_refused_in_3_1_1(&mut self, bytes: &BytesMut) -> bool {
        let code = match bytes.get(..4) {
            Some(&[0x20, 0x02, _, code]) if self.version.is_v5() && code != 0 => code,
            _ => return false,
        };
        match ReasonCode::from_connect_return_code(code) {
            Some(reason) => self.conn_refused(reason, ""),
            None => self.end(End::VersionRefused),
        }
        true
    }

    fn conn_refused(&mut self, reason: ReasonCode, words: &str) {
        if reason == ReasonCode::UnsupportedProtocolVersion {
            return self.end(End::VersionRefused);
        }
        let end = words.floor_char_boundary(WORDS_MAX.min(words.len()));
        let words = ByteString::from(words.get(..end).unwrap_or_default());
        (self.report)(Note::Refused { reason, words });
        self.end(End::Refused);
    }

    pub(super) fn conn_ack(&mut self, now: Now, ack: &ConnAck) {
        let set = ack.properties.as_deref().unwrap_or(no_properties());
        if ack.reason.is_error() {
            let words = set.reason_string.clone().unwrap_or_default();
            return self.conn_refused(ack.reason, &words);
        }
        if ack.session_present && self.options.clean_start {
            let message = "Session Present although the start was clean"; // [MQTT-3.2.2-4]
            return self.broken(ReasonCode::ProtocolError, message);
        }
        self.session_present = ack.session_present;
        self.peer = peer(set, self.version.is_v5());
        self.start_keep_alive(now, set.server_keep_alive);
        let maximum = if self.version.is_v5() {
            set.receive_maximum.unwrap_or(NonZeroU16::MAX).get()
        } else {
            WINDOW_3_1_1
        };
        let window = maximum.min(self.options.outgoing_window.get());
        let rules = &self.options.rules;
        self.exchanges = Exchanges::new(window, rules.copies_out());
        self.uses_identifiers = self.peer.identifiers_available && rules.copies_in() > 1;
        (self.report)(Note::Connected {
            session_present: ack.session_present,
            peer: self.peer.id.clone(),
        });
        self.phase = Phase::Joining;
        self.deadline = now.instant.checked_add(self.options.answer_timeout);
        self.announce(b"1");
        self.join(window);
    }

    /// Three quarters of the Keep Alive between PINGREQs, so that none is late on the way.
    fn start_keep_alive(&mut self, now: Now, by_server: Option<u16>) {
        let secs = by_server.unwrap_or(self.options.keep_alive_secs); // [MQTT-3.2.2-21]
        let interval = Duration::from_millis(u64::from(secs) * 750);
        self.ping_interval = (secs != 0).then_some(interval);
        self.last_ping = now.instant;
    }

    fn join(&mut self, window: u16) {
        let options = &self.options;
        self.actions.push_back(Action::Join(Box::new(JoinRequest {
            realm: options.realm.clone(),
            credentials: Credentials::Anonymous { authid: None },
            features: Features::default(),
            style: EventStyle::Lanes,
            client: Some(ClientJoin {
                id: options.local_id.clone(),
                clean_start: false,
                expiry: options.local_expiry,
                window,
                last_will: None,
            }),
            protocol: "mqtt-bridge",
            method: "bridge",
            agent: Some(options.client_id.clone()),
        })));
    }

    /// Tells the peer's clients whether the bridge is there.
    pub(super) fn announce(&mut self, state: &'static [u8]) {
        let Some(topic) = self.options.state_topic.clone() else {
            return;
        };
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: self.peer.retain_available,
            topic,
            packet_id: None,
            properties: None,
            payload: Bytes::from_static(state),
        }));
    }

    /// The session on this side is there. A receipt of a session that the peer has forgotten would
    /// make a new message look like a repetition, so all of them go first.
    pub(super) fn entered(&mut self, now: Now, present: bool) {
        self.subscribe_here();
        if present && !self.session_present {
            self.clearing = Some(Clearing { next: 1, open: 0 });
            self.clear_more();
        } else {
            self.subscribe_there(now);
        }
    }

    fn clear_more(&mut self) {
        let Some(clearing) = &mut self.clearing else {
            return;
        };
        let last = (clearing.next + CLEAR_AT_ONCE).min(u32::from(u16::MAX) + 1);
        let receipts = clearing.next..last;
        (clearing.open, clearing.next) = (last - clearing.next, last);
        for receipt in receipts {
            let receipt = u16::try_from(receipt).ok().and_then(Slot::new);
            if let Some(receipt) = receipt {
                let request = Asked::Clear.request();
                self.command(Command::ReleaseReceipt { request, receipt });
            }
        }
    }

    /// One receipt is forgotten.
    pub(super) fn cleared(&mut self) {
        let Some(clearing) = &mut self.clearing else {
            return;
        };
        clearing.open = clearing.open.saturating_sub(1);
        if clearing.open == 0 {
            self.clear_more();
        }
    }

    /// Goes on once the last receipt is forgotten.
    pub(super) fn look_if_cleared(&mut self, now: Now) {
        let done = |clearing: &Clearing| clearing.open == 0 && clearing.next > u32::from(u16::MAX);
        if self.clearing.as_ref().is_some_and(done) {
            self.clearing = None;
            self.subscribe_there(now);
        }
    }

    fn subscribe_here(&mut self) {
        let commands = local_subscriptions(&self.options.rules, true, !self.options.sync_retained);
        for command in commands {
            self.command(command);
        }
    }

    /// One SUBSCRIBE for each filter, so that each can have its Subscription Identifier; former
    /// filters go.
    fn subscribe_there(&mut self, now: Now) {
        self.deadline = now.instant.checked_add(self.options.answer_timeout);
        // Identifiers from the top: the realm's slots count up from the bottom.
        let mut ids = (1..=u16::MAX).rev().filter_map(PacketId::new);
        let filters = self.options.rules.remote_filters();
        for ((group, (filter, qos)), packet_id) in (0..).zip(filters).zip(&mut ids) {
            if !self.peer.wildcards_available && filter.contains(['+', '#']) {
                let reason = ReasonCode::WildcardSubscriptionsNotSupported;
                (self.report)(Note::FilterRefused { filter, reason });
                continue;
            }
            self.wanted
                .insert(packet_id, Wanted::Filter(filter.clone()));
            let packet = self.subscribe_packet(packet_id, group, filter, qos);
            self.send(&packet);
        }
        if self.session_present {
            let stale = self.options.stale_filters.clone();
            for (filter, packet_id) in stale.into_iter().zip(&mut ids) {
                self.wanted.insert(packet_id, Wanted::Gone);
                self.send(&Packet::Unsubscribe(Unsubscribe {
                    packet_id,
                    properties: None,
                    filters: vec![filter],
                }));
            }
        }
        self.look_if_flowing(now);
    }

    fn subscribe_packet(
        &self,
        packet_id: PacketId,
        group: u32,
        filter: ByteString,
        qos: QoS,
    ) -> Packet {
        let is_v5 = self.version.is_v5();
        let identifier = self.uses_identifiers.then_some(group + 1);
        let properties = Properties {
            subscription_identifiers: identifier.into_iter().collect(),
            ..Properties::default()
        };
        let options = SubscriptionOptions {
            maximum_qos: qos.min(self.peer.maximum_qos),
            no_local: is_v5,
            retain_as_published: is_v5,
            retain_handling: if self.options.sync_retained || !is_v5 {
                RetainHandling::SendAtSubscribe
            } else {
                RetainHandling::SendIfNew
            },
        };
        Packet::Subscribe(Subscribe {
            packet_id,
            properties: properties.into_optional(),
            filters: vec![SubscribeFilter { filter, options }],
        })
    }

    pub(super) fn sub_ack(&mut self, now: Now, ack: &SubAck) {
        if let Some(Wanted::Filter(filter)) = self.wanted.get(&ack.packet_id)
            && let Some(reason) = ack.reasons.iter().find(|reason| reason.is_error())
        {
            let (filter, reason) = (filter.clone(), *reason);
            (self.report)(Note::FilterRefused { filter, reason });
        }
        self.answered(now, ack.packet_id);
    }

    /// A SUBSCRIBE or UNSUBSCRIBE is answered.
    pub(super) fn answered(&mut self, now: Now, id: PacketId) {
        self.wanted.remove(&id);
        self.look_if_flowing(now);
    }

    fn look_if_flowing(&mut self, now: Now) {
        if self.wanted.is_empty() && !self.is_flowing && self.phase == Phase::Live {
            self.is_flowing = true;
            self.deadline = None;
            (self.report)(Note::Flowing);
            self.send_held(now);
        }
    }
}

/// The subscriptions of the session on this side, for what leads out; with the values retained
/// here, if `retained`, but only for subscriptions that are new, if `retained_if_new`.
#[must_use]
pub fn local_subscriptions(
    rules: &super::Rules,
    retained: bool,
    retained_if_new: bool,
) -> Vec<Command> {
    let filters = rules.local_filters().into_iter().enumerate();
    filters
        .filter_map(|(place, (filter, qos))| {
            let pattern = Pattern::from_slashes(&filter).ok()?;
            let kind = if pattern.is_exact() {
                MatchKind::Exact
            } else {
                MatchKind::Levels
            };
            let request = Asked::Filter(place).request();
            Some(Command::Subscribe(Box::new(model::Subscribe {
                kind,
                qos: map::assurance(qos),
                no_local: true,
                retain_as_published: true,
                retained,
                retained_if_new,
                ..model::Subscribe::new(request, pattern)
            })))
        })
        .collect()
}

fn peer(set: &Properties, is_v5: bool) -> Peer {
    let mut told = set.user_properties.iter();
    let id = told
        .find(|(name, id)| &**name == ROUTER_ID && id.len() <= WORDS_MAX)
        .map(|(_, id)| ByteString::from(&**id));
    Peer {
        limits: PeerLimits {
            maximum_packet_size: set.maximum_packet_size.map(NonZeroU32::get),
            request_problem_information: true,
        },
        maximum_qos: set.maximum_qos.unwrap_or(QoS::ExactlyOnce),
        retain_available: set.retain_available.unwrap_or(true),
        wildcards_available: set.wildcard_subscription_available.unwrap_or(true),
        identifiers_available: is_v5 && set.subscription_identifiers_available.unwrap_or(true),
        id,
    }
}

/// Sets the bridge bit in a CONNECT that has just been written.
fn set_bridge_bit(connect: &mut BytesMut) {
    // The digits of Remaining Length end with the first byte below 0x80 (5.0 section 1.5.5).
    let digits = connect.iter().skip(1).take_while(|digit| **digit >= 0x80);
    let at = 2 + digits.count() + LEVEL_AT;
    if let Some(level) = connect.get_mut(at) {
        *level |= BRIDGE_BIT;
    }
}
