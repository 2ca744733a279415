//! Who may take part in a realm, from static users. Secrets are compared in constant time; slow
//! hashes are handed out as work, so that the caller can run them where blocking is allowed.

use super::exchange::{Challenge, Claim, KeyCache, Mechanism};
use super::{Disclosure, Role};
use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use bytes::Bytes;
use bytestring::ByteString;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// How a peer proves who it is.
#[derive(Clone)]
pub enum Credentials {
    /// Not at all.
    Anonymous {
        /// A name it would like.
        authid: Option<ByteString>,
    },
    /// A name and a secret known to the router.
    Secret {
        /// The name.
        authid: ByteString,
        /// The secret.
        secret: Bytes,
    },
    /// In an exchange of messages that this one opens.
    Exchange {
        /// How it goes.
        mechanism: Mechanism,
        /// The peer's first message, which says the name.
        message: Bytes,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous { authid } => {
                f.debug_struct("Anonymous").field("authid", authid).finish()
            }
            Credentials::Secret { authid, .. } => f
                .debug_struct("Secret")
                .field("authid", authid)
                .finish_non_exhaustive(),
            Credentials::Exchange { mechanism, .. } => f
                .debug_struct("Exchange")
                .field("mechanism", mechanism)
                .finish_non_exhaustive(),
        }
    }
}

/// What is kept of a user's secret.
#[derive(Clone)]
pub enum Secret {
    /// The secret itself.
    Plain(Bytes),
    /// An argon2id hash in PHC form.
    Argon2(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A static user.
#[derive(Clone, Debug)]
pub struct User {
    /// Name of its role.
    pub role: ByteString,
    /// Its secret.
    pub secret: Secret,
}

/// Users and roles of one realm.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// authid -> user
    pub users: HashMap<ByteString, User>,
    /// name -> role; a role that is not here may do everything
    pub roles: HashMap<ByteString, Arc<Role>>,
    /// The role of sessions without credentials; `None` refuses them.
    pub anonymous: Option<ByteString>,
    /// Whether sessions of roles that are not here are named to others.
    pub disclosure: Disclosure,
    /// Empty at first.
    pub keys: KeyCache,
}

/// Why somebody may not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The realm wants credentials.
    Required,
    /// They are wrong.
    Wrong,
    /// They cannot be checked: the operating system gives no randomness.
    Unavailable,
}

/// Somebody whose name is proven, or needs no proof.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The name; `None`: to be invented.
    pub authid: Option<ByteString>,
    /// The role.
    pub role: Arc<Role>,
    /// How it was proven: `anonymous` or `secret`.
    pub by_secret: bool,
}

/// The next step of an authentication.
#[derive(Debug)]
pub enum Proof {
    /// Done.
    Given(Verified),
    /// Done, and the peer is owed a proof in return.
    Mutual {
        /// Who it is.
        verified: Verified,
        /// That the router knows the secret too: to be sent with the news of the success.
        verifier: Bytes,
    },
    /// A slow hash must be computed first: call [`SlowProof::verify`] where blocking is allowed.
    Slow(SlowProof),
    /// The peer must answer first: see [`Challenge::answer`].
    Challenge(Challenge),
}

/// A hash to be computed.
#[derive(Debug)]
pub struct SlowProof {
    work: Work,
}

enum Work {
    Argon2 {
        secret: Bytes,
        hash: String,
        verified: Verified,
    },
    Exchange(Box<Claim>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Argon2 { .. } => "Argon2(…)",
            Work::Exchange(_) => "Exchange(…)",
        })
    }
}

impl SlowProof {
    pub(super) fn of_claim(claim: Claim) -> SlowProof {
        SlowProof {
            work: Work::Exchange(Box::new(claim)),
        }
    }

    /// Takes from one to some ten milliseconds, and up to some megabytes. Answers
    /// [`Proof::Given`] or [`Proof::Mutual`].
    ///
    /// # Errors
    /// [`AuthError::Wrong`].
    pub fn verify(self) -> Result<Proof, AuthError> {
        let (secret, hash, verified) = match self.work {
            Work::Exchange(claim) => return claim.verify(),
            Work::Argon2 {
                secret,
                hash,
                verified,
            } => (secret, hash, verified),
        };
        let hash = PasswordHash::new(&hash).map_err(|_| AuthError::Wrong)?;
        match Argon2::default().verify_password(&secret, &hash) {
            Ok(()) => Ok(Proof::Given(verified)),
            Err(_) => Err(AuthError::Wrong),
        }
    }
}

impl Access {
    /// Everybody may take part and do everything.
    #[must_use]
    pub fn open() -> Access {
        Access {
            anonymous: Some(ByteString::from_static("anonymous")),
            ..Access::default()
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Arc<Role> {
        self.roles
            .get(name)
            .cloned()
            .unwrap_or_else(|| Arc::new(Role::unrestricted(name).disclosing(self.disclosure)))
    }

    /// Checks credentials. A realm without users lets everybody in who may come without any,
    /// whatever secret they show.
    ///
    /// # Errors
    /// See [`AuthError`]; an unknown name and a wrong secret look alike.
    pub fn check(&self, credentials: &Credentials) -> Result<Proof, AuthError> {
        let (authid, secret) = match credentials {
            Credentials::Anonymous { authid } => return self.anonymous(authid.clone()),
            Credentials::Exchange { mechanism, message } => {
                return self.challenge(*mechanism, message).map(Proof::Challenge);
            }
            Credentials::Secret { authid, .. } if self.users.is_empty() => {
                return self.anonymous(Some(authid.clone()));
            }
            Credentials::Secret { authid, secret } => (authid, secret),
        };
        let Some(user) = self.users.get(authid) else {
            // The same work as for a known name, so that names cannot be told by time.
            let other = self.users.values().find_map(|user| match &user.secret {
                Secret::Argon2(hash) => Some((user, hash)),
                Secret::Plain(_) => None,
            });
            let (other, hash) = other.ok_or(AuthError::Wrong)?;
            let secret = Bytes::from_static(b"\0no such user\0");
            return Ok(self.slow(secret, hash, authid, other));
        };
        match &user.secret {
            Secret::Plain(known) if bool::from(known.ct_eq(secret)) => {
                Ok(Proof::Given(self.verified(authid, user)))
            }
            Secret::Plain(_) => Err(AuthError::Wrong),
            Secret::Argon2(hash) => Ok(self.slow(secret.clone(), hash, authid, user)),
        }
    }

    fn slow(&self, secret: Bytes, hash: &str, authid: &ByteString, user: &User) -> Proof {
        Proof::Slow(SlowProof {
            work: Work::Argon2 {
                secret,
                hash: hash.to_owned(),
                verified: self.verified(authid, user),
            },
        })
    }

    fn anonymous(&self, authid: Option<ByteString>) -> Result<Proof, AuthError> {
        let role = self.anonymous.as_ref().ok_or(AuthError::Required)?;
        // A name nobody proved must not be one that somebody else has to prove.
        let authid = authid.filter(|authid| !self.users.contains_key(authid));
        Ok(Proof::Given(Verified {
            authid,
            role: self.role(role),
            by_secret: false,
        }))
    }

    pub(super) fn verified(&self, authid: &ByteString, user: &User) -> Verified {
        Verified {
            authid: Some(authid.clone()),
            role: self.role(&user.role),
            by_secret: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let user = User {
            role: "user".into(),
            secret: Secret::Plain(Bytes::from_static(b"joe-secret")),
        };
        Access {
            users: [("joe".into(), user)].into(),
            ..Access::default()
        }
    }

    fn secret(authid: &'static str, secret: &'static str) -> Credentials {
        Credentials::Secret {
            authid: authid.into(),
            secret: Bytes::from_static(secret.as_bytes()),
        }
    }

    fn given(proof: Result<Proof, AuthError>) -> Result<Verified, AuthError> {
        match proof? {
            Proof::Given(verified) => Ok(verified),
            Proof::Slow(slow) => given(slow.verify()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_opens_its_own_name_only() {
        let verified = given(access().check(&secret("joe", "joe-secret"))).unwrap();
        assert_eq!((&*verified.role.name, verified.by_secret), ("user", true));
        for wrong in [
            secret("joe", "other"),
            secret("ann", "joe-secret"),
            secret("joe", ""),
        ] {
            assert_eq!(given(access().check(&wrong)).unwrap_err(), AuthError::Wrong);
        }
    }

    #[test]
    fn anonymous_is_refused_unless_given_a_role_and_cannot_borrow_a_name() {
        let nobody = |authid: Option<&'static str>| Credentials::Anonymous {
            authid: authid.map(ByteString::from_static),
        };
        assert_eq!(
            given(access().check(&nobody(None))).unwrap_err(),
            AuthError::Required
        );
        let both = Access {
            anonymous: Some("guest".into()),
            ..access()
        };
        let verified = given(both.check(&nobody(Some("joe")))).unwrap();
        assert_eq!((verified.authid, &*verified.role.name), (None, "guest"));
        let kept = given(both.check(&nobody(Some("ann")))).unwrap();
        assert_eq!(kept.authid.as_deref(), Some("ann"));
    }

    #[test]
    fn an_open_realm_asks_for_no_proof() {
        let verified = given(Access::open().check(&secret("ann", "anything"))).unwrap();
        assert_eq!(
            (verified.authid.as_deref(), verified.by_secret),
            (Some("ann"), false)
        );
        assert!(verified.role.is_unrestricted());
    }

    #[test]
    fn argon2_hashes_are_verified_slowly() {
        // Cheap parameters: the test is about the path, not the cost.
        let hash = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$";
        let user = User {
            role: "user".into(),
            secret: Secret::Argon2(hash.to_owned()),
        };
        let access = Access {
            users: [("joe".into(), user)].into(),
            ..Access::default()
        };
        for attempt in [secret("joe", "x"), secret("nobody", "x")] {
            assert!(matches!(access.check(&attempt), Ok(Proof::Slow(_))));
            assert_eq!(given(access.check(&attempt)).unwrap_err(), AuthError::Wrong);
        }
    }
}
