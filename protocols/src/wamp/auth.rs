//! How a session opens: what HELLO must say, which authentication method is taken, what WELCOME
//! tells, and how a refused session is named (sections "Session Establishment" and
//! "Authentication").

use super::dict::DictExt;
use super::errors::Violation;
use super::map::QUOTA_EXCEEDED;
use super::message::{Dict, Hello};
use super::options::Reject;
use super::passthru::{Announced, Passthru};
use super::uris::{self, close, error};
use crate::gate::{Credentials, JoinError, JoinRequest, JoinedAs};
use bytestring::ByteString;
use router_core::session::{EventStyle, Features};
use serde_json::json;

/// How a peer proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// It does not.
    Anonymous,
    /// With a ticket (section "Ticket-based Authentication").
    Ticket,
}

impl Method {
    /// Its name in the specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Anonymous => "anonymous",
            Method::Ticket => "ticket",
        }
    }
}

/// A HELLO that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The realm.
    pub realm: ByteString,
    /// What the peer can do.
    pub features: Features,
    /// Which sealed payloads its roles know.
    pub announced: Announced,
    /// The method taken.
    pub method: Method,
    /// The name it wants.
    pub authid: Option<ByteString>,
    /// What it calls itself.
    pub agent: Option<ByteString>,
}

const ROLES: [&str; 4] = ["publisher", "subscriber", "caller", "callee"];

impl Opening {
    /// Reads a HELLO.
    ///
    /// # Errors
    /// A violation, or the reason of the ABORT: `wamp.error.invalid_uri`,
    /// `wamp.error.no_matching_auth_method`.
    pub fn read(hello: &Hello) -> Result<Opening, Reject> {
        let in_details =
            |v: Violation| Reject::Violation(format!("HELLO element 2 (Details|dict): {v}").into());
        let (features, announced) = features_of(&hello.details)?;
        let authid = hello.details.text("authid").map_err(in_details)?;
        let agent = hello.details.text("agent").map_err(in_details)?;
        for (key, text) in [("authid", authid), ("agent", agent)] {
            // Text that starts with U+0000 is how JSON spells binary, and would arrive as such in
            // what other sessions are told about this one.
            if text.is_some_and(|text| text.contains('\0')) {
                let message = format!("HELLO element 2 (Details|dict): {key}: contains U+0000");
                return Err(Reject::Violation(message.into()));
            }
        }
        let methods = hello.details.texts("authmethods").map_err(in_details)?;
        hello.details.dict("authextra").map_err(in_details)?;
        if !uris::is_concrete(&hello.realm) {
            let message = "the realm must be a URI without empty components";
            return Err(Reject::error(error::INVALID_URI, message));
        }
        let method = method_of(methods.as_deref().unwrap_or_default(), authid.is_some());
        let no_method = || {
            let message = "no authentication method that this router has: anonymous, or ticket with an authid";
            Reject::error(error::NO_MATCHING_AUTH_METHOD, message)
        };
        Ok(Opening {
            realm: ByteString::from(&*hello.realm),
            features,
            announced,
            method: method.ok_or_else(no_method)?,
            authid: authid.map(ByteString::from),
            agent: agent.map(ByteString::from),
        })
    }

    /// The request to the router, with what was proved.
    #[must_use]
    pub fn join(self, secret: Option<&str>, protocol: &'static str) -> JoinRequest {
        let authid = self.authid;
        let credentials = match secret {
            Some(secret) => Credentials::Secret {
                authid: authid.unwrap_or_default(),
                secret: bytes::Bytes::copy_from_slice(secret.as_bytes()),
            },
            None => Credentials::Anonymous { authid },
        };
        JoinRequest {
            realm: Some(self.realm),
            credentials,
            features: self.features,
            style: EventStyle::Ordered,
            client: None,
            protocol,
            method: "ticket",
            agent: self.agent,
        }
    }
}

/// The first method in the client's order that fits; without any offer, anonymous.
fn method_of(offered: &[&str], has_authid: bool) -> Option<Method> {
    if offered.is_empty() {
        return Some(Method::Anonymous);
    }
    offered.iter().find_map(|name| match *name {
        "anonymous" => Some(Method::Anonymous),
        "ticket" if has_authid => Some(Method::Ticket),
        _ => None,
    })
}

/// Section "Client: Role and Feature Announcement": at least one role, each a dict with the
/// features in another.
fn features_of(details: &Dict) -> Result<(Features, Announced), Reject> {
    let wrong =
        |what: &str| Reject::Violation(format!("HELLO element 2 (Details|dict): {what}").into());
    let within = |role: &str, v: Violation| wrong(&format!("roles.{role}: {v}"));
    let Some(roles) = details.dict("roles").map_err(|v| wrong(&v.to_string()))? else {
        return Err(wrong("roles: missing"));
    };
    if !ROLES.iter().any(|role| roles.contains_key(*role)) {
        return Err(wrong(
            "roles: none of publisher, subscriber, caller, callee",
        ));
    }
    let (mut features, mut of_roles) = (Features::default(), Announced::default());
    for role in ROLES {
        if !roles.contains_key(role) {
            continue;
        }
        let Some(role_dict) = roles.dict(role).map_err(|v| wrong(&format!("roles.{v}")))? else {
            return Err(wrong(&format!("roles.{role}: expected a dict, got null")));
        };
        let announced = role_dict.dict("features").map_err(|v| within(role, v))?;
        let Some(announced) = announced else { continue };
        let has = |name| {
            let read = announced.boolean(name).map_err(|v| within(role, v))?;
            Ok::<bool, Reject>(read.unwrap_or(false))
        };
        let passthru = Passthru::read(announced).map_err(|v| within(role, v))?;
        match role {
            "callee" => {
                of_roles.callee = passthru;
                features.callee_opens_sealed = passthru.listed;
                features.callee_opens_bare = passthru.bare;
                features.progressive_results = has("progressive_call_results")?;
                features.call_canceling = has("call_canceling")?;
                features.progressive_invocations = has("progressive_call_invocations")?;
                features.call_timeout = has("call_timeout")?;
                features.registration_revocation = has("registration_revocation")?;
            }
            "subscriber" => {
                features.subscription_revocation = has("subscription_revocation")?;
                features.opens_sealed = passthru.listed;
                features.opens_bare = passthru.bare;
                of_roles.subscriber = passthru;
            }
            "publisher" => of_roles.publisher = passthru,
            _ => {
                of_roles.caller = passthru;
                features.progressive_calls = has("progressive_call_invocations")?;
            }
        }
    }
    Ok((features, of_roles))
}

/// The details of WELCOME. Clients act by the features announced, so these are exactly the ones
/// that work.
#[must_use]
pub fn welcome_details(joined: &JoinedAs, agent: &str) -> Dict {
    let details = json!({
        "roles": {
            "broker": {"features": {
                "publisher_exclusion": true,
                "subscriber_blackwhite_listing": true,
                "publisher_identification": true,
                "pattern_based_subscription": true,
                "event_retention": true,
                "event_history": true,
                "session_meta_api": true,
                "subscription_meta_api": true,
                "subscription_revocation": true,
                "payload_passthru_mode": true,
            }},
            "dealer": {"features": {
                "progressive_call_results": true,
                "progressive_call_invocations": true,
                "call_canceling": true,
                "call_timeout": true,
                "call_reroute": true,
                "caller_identification": true,
                "pattern_based_registration": true,
                "shared_registration": true,
                "registration_meta_api": true,
                "registration_revocation": true,
                "session_meta_api": true,
                "testament_meta_api": true,
                "payload_passthru_mode": true,
            }},
        },
        "realm": &*joined.realm,
        "authid": &*joined.authid,
        "authrole": &*joined.role,
        "authmethod": &*joined.method,
        "authprovider": &*joined.provider,
        "agent": agent,
    });
    match details {
        serde_json::Value::Object(details) => details,
        _ => Dict::new(),
    }
}

/// Takes from the details of a WELCOME what a client can do without: a role stays, whatever it can
/// do beyond the basics.
pub fn without_features(details: &mut Dict) {
    if let Some(serde_json::Value::Object(roles)) = details.get_mut("roles") {
        roles.values_mut().for_each(|role| *role = json!({}));
    }
}

/// The reason of the ABORT for a session that was refused.
#[must_use]
pub const fn join_error_uri(error: &JoinError) -> &'static str {
    match error {
        JoinError::InvalidRealm => error::INVALID_URI,
        JoinError::NoSuchRealm => error::NO_SUCH_REALM,
        // What was offered or left out leads nowhere in this realm.
        JoinError::CredentialsRequired => error::NO_MATCHING_AUTH_METHOD,
        // Unknown names and wrong secrets look the same, so that names cannot be probed.
        JoinError::BadCredentials => error::AUTHENTICATION_DENIED,
        JoinError::NotAuthorized(_) => error::AUTHORIZATION_DENIED,
        JoinError::TooMany => QUOTA_EXCEEDED,
        JoinError::Unavailable => error::UNAVAILABLE,
        JoinError::ShuttingDown => close::SYSTEM_SHUTDOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(realm: &'static str, details: Value) -> Result<Opening, Reject> {
        let details = details.as_object().cloned().unwrap();
        let realm = ByteString::from_static(realm);
        Opening::read(&Hello { realm, details })
    }

    fn method(methods: Value, authid: Value) -> Result<Method, Reject> {
        let details = json!({"roles": {"caller": {}}, "authmethods": methods, "authid": authid});
        read("realm1", details).map(|opening| opening.method)
    }

    #[test]
    fn the_first_method_offered_that_fits_is_taken() {
        let none = Value::Null;
        assert_eq!(method(none.clone(), none.clone()), Ok(Method::Anonymous));
        assert_eq!(method(json!([]), json!("joe")), Ok(Method::Anonymous));
        assert_eq!(method(json!(["ticket"]), json!("joe")), Ok(Method::Ticket));
        assert_eq!(
            method(json!(["anonymous", "ticket"]), json!("joe")),
            Ok(Method::Anonymous)
        );
        assert_eq!(
            method(json!(["wampcra", "ticket", "anonymous"]), json!("joe")),
            Ok(Method::Ticket)
        );
        assert_eq!(
            method(json!(["ticket", "anonymous"]), none.clone()),
            Ok(Method::Anonymous)
        );
        for (methods, authid) in [
            (json!(["ticket"]), none),
            (json!(["wampcra"]), json!("joe")),
        ] {
            let refused = method(methods, authid).unwrap_err();
            assert!(
                matches!(
                    refused,
                    Reject::Error {
                        error: error::NO_MATCHING_AUTH_METHOD,
                        ..
                    }
                ),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn details_of_a_wrong_shape_are_violations() {
        for details in [
            json!({}),
            json!({"roles": null}),
            json!({"roles": []}),
            json!({"roles": {}}),
            json!({"roles": {"broker": {}}}),
            json!({"roles": {"caller": null}}),
            json!({"roles": {"caller": 1}}),
            json!({"roles": {"caller": {"features": []}}}),
            json!({"roles": {"callee": {"features": {"call_canceling": 1}}}}),
            json!({"roles": {"caller": {}}, "authid": 5}),
            json!({"roles": {"caller": {}}, "authid": "\u{0}AQID"}),
            json!({"roles": {"caller": {}}, "authmethods": "ticket"}),
            json!({"roles": {"caller": {}}, "authmethods": [1]}),
            json!({"roles": {"caller": {}}, "authextra": 1}),
            json!({"roles": {"caller": {}}, "agent": {}}),
            json!({"roles": {"caller": {}}, "agent": "a\u{0}"}),
        ] {
            let refused = read("realm1", details.clone()).unwrap_err();
            let Reject::Violation(text) = refused else {
                panic!("{details}: {refused:?}")
            };
            assert!(
                text.starts_with("HELLO element 2 (Details|dict): "),
                "{text}"
            );
        }
    }

    #[test]
    fn features_come_from_the_roles_that_have_them() {
        let opening = read(
            "a.b-c",
            json!({"agent": "x", "resumable": 5, "roles": {
                "callee": {"features": {
                    "progressive_call_results": true, "call_canceling": true, "call_timeout": true,
                    "progressive_call_invocations": true, "registration_revocation": true,
                }},
                "subscriber": {"features": {"subscription_revocation": true, "other": 1}},
                "caller": {"features": {
                    "call_canceling": true, "progressive_call_invocations": true,
                }},
            }}),
        );
        let opening = opening.unwrap();
        assert_eq!(opening.agent.as_deref(), Some("x"));
        let all = Features {
            progressive_results: true,
            call_canceling: true,
            progressive_invocations: true,
            progressive_calls: true,
            call_timeout: true,
            registration_revocation: true,
            subscription_revocation: true,
            ..Features::default()
        };
        assert_eq!(opening.features, all);
        let caller = json!({"roles": {"caller": {"features": {"call_canceling": true}}}});
        assert_eq!(
            read("realm1", caller).unwrap().features,
            Features::default()
        );
    }

    #[test]
    fn each_role_announces_passthru_for_itself() {
        let roles = |role: &str, feature: &str| {
            let details = json!({"roles": {role: {"features": {feature: true}}}});
            read("realm1", details).unwrap()
        };
        let opening = roles("subscriber", "payload_passthru_mode");
        assert!(opening.features.opens_sealed && !opening.features.opens_bare);
        assert!(opening.announced.subscriber.listed && !opening.announced.publisher.listed);
        let opening = roles("subscriber", "payload_transparency");
        assert!(opening.features.opens_bare && !opening.features.opens_sealed);
        let opening = roles("callee", "payload_encryption_cryptobox");
        assert!(opening.announced.callee.bare && !opening.features.opens_bare);
        let opening = roles("caller", "payload_passthru_mode");
        assert!(opening.announced.caller.listed && !opening.announced.callee.listed);
        assert!(roles("publisher", "x_ppt_mqtt").announced.publisher.native);
        let wrong = json!({"roles": {"caller": {"features": {"payload_passthru_mode": 1}}}});
        assert!(matches!(read("realm1", wrong), Err(Reject::Violation(_))));
    }

    #[test]
    fn a_realm_is_a_loose_uri() {
        for realm in ["", "a b", "a..b", "#", "a.", "x\u{0}"] {
            let refused = read(realm, json!({"roles": {"caller": {}}})).unwrap_err();
            assert!(
                matches!(
                    refused,
                    Reject::Error {
                        error: error::INVALID_URI,
                        ..
                    }
                ),
                "{realm:?}"
            );
        }
        assert!(read("com.example.Realm-1_ü", json!({"roles": {"caller": {}}})).is_ok());
    }
}
