//! What a bridge is made of, from the configuration.

use crate::config::{Bridge, BridgeVersion, Config, Secret};
use crate::router::Router;
use bytes::Bytes;
use bytestring::ByteString;
use protocols::mqtt::bridge::{BridgeOptions, Rules, Versions};
use protocols::mqtt::packet;
use router_core::auth::Verified;
use std::num::NonZeroU16;
use std::time::Duration;

/// How long the peer may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// One bridge, ready to run.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) realm: ByteString,
    /// Who the bridge is on this side. No user can prove this name, so nobody takes its session.
    pub(super) verified: Verified,
    pub(super) versions: Versions,
    pub(super) reconnect: (Duration, Duration),
    pub(super) notifications: bool,
    pub(super) options: BridgeOptions,
}

impl Spec {
    /// `None`, with a line in the log, for rules that the configuration should have refused.
    pub(super) fn new(
        router: &Router,
        config: &Config,
        bridge: &Bridge,
        router_id: &str,
    ) -> Option<Spec> {
        let rules = match Rules::new(&bridge.rules) {
            Ok(rules) => rules,
            Err((_, error)) => {
                tracing::error!(bridge = bridge.name, %error, "the bridge is not started");
                return None;
            }
        };
        let realm = bridge.realm.as_ref().unwrap_or(&config.default_realm);
        let client_id = match &bridge.client_id {
            Some(id) => id.clone(),
            None => format!("reynard-{router_id}-{}", bridge.name),
        };
        let inflight = NonZeroU16::new(bridge.max_inflight).unwrap_or(NonZeroU16::MIN);
        let options = BridgeOptions {
            realm: Some(realm.as_str().into()),
            local_id: local_id(&bridge.name),
            local_expiry: match bridge.session_expiry_secs {
                u32::MAX => Duration::MAX,
                secs => Duration::from_secs(secs.into()),
            },
            client_id: client_id.into(),
            username: bridge.username.as_deref().map(ByteString::from),
            password: password(bridge),
            clean_start: bridge.clean_start,
            session_expiry_secs: bridge.session_expiry_secs,
            keep_alive_secs: bridge.keep_alive_secs,
            receive_maximum: inflight,
            outgoing_window: inflight,
            max_packet_bytes: usize::try_from(config.mqtt.max_packet_bytes).unwrap_or(usize::MAX),
            answer_timeout: ANSWER_TIMEOUT,
            sync_retained: bridge.sync_retained,
            state_topic: bridge.notification_topic.as_deref().map(ByteString::from),
            rules,
            stale_filters: Vec::new(),
            router_id: router_id.into(),
        };
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Some(Spec {
            name: bridge.name.clone(),
            address: bridge.address.clone(),
            realm: realm.as_str().into(),
            verified: Verified {
                authid: Some(options.local_id.clone()),
                role: router.role(realm, &bridge.role),
                by_secret: true,
            },
            versions: match bridge.version {
                BridgeVersion::Auto => Versions::Any,
                BridgeVersion::V5 => Versions::V5,
                BridgeVersion::V3_1_1 => Versions::V3_1_1,
            },
            reconnect: (
                millis(bridge.reconnect_min_ms),
                millis(bridge.reconnect_max_ms),
            ),
            notifications: bridge.notifications,
            options,
        })
    }
}

/// The client identifier, and the authenticated name, of a bridge on this side.
pub(super) fn local_id(name: &str) -> ByteString {
    format!("bridge:{name}").into()
}

fn password(bridge: &Bridge) -> Option<packet::Secret> {
    match bridge.password.as_ref()? {
        Secret::Plain(text) => Some(packet::Secret(Bytes::from(text.clone()))),
        // The configuration knows no hashed passwords of bridges: the peer needs the text.
        Secret::Argon2(_) => None,
    }
}
