//! Proofs in several messages: the peer opens, the router challenges, the peer answers.
//!
//! Nothing tells a known name from an unknown one: the salt is made from the name and a key of
//! this process in either case, the nonce is random, and whatever fails costs one derivation of
//! keys. What is derived is kept for each user and used where it makes a good proof cheap.

use super::authenticate::{AuthError, Proof, Secret, SlowProof, Verified};
use super::scram::{self, ClientFinal, ClientFirst, Hash, Keys};
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use subtle::ConstantTimeEq as _;

/// Bytes of the salt that stands for a name.
const SALT_BYTES: usize = 16;
/// Random bytes of a nonce of ours.
const NONCE_BYTES: usize = 18;

/// How an exchange goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677).
    ScramSha256,
}

impl Mechanism {
    /// The mechanism with this name in the registry of SASL mechanisms.
    #[must_use]
    pub fn named(name: &str) -> Option<Mechanism> {
        (name == "SCRAM-SHA-256").then_some(Mechanism::ScramSha256)
    }
}

/// Keys derived from the secrets of users, shared by all copies; at most one for each user.
#[derive(Clone, Default)]
pub struct KeyCache {
    by_name: Arc<Mutex<HashMap<ByteString, (Bytes, Keys)>>>,
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCache(…)")
    }
}

impl KeyCache {
    /// The keys of this name, if they were derived from this secret.
    fn get(&self, name: &str, secret: &Bytes) -> Option<Keys> {
        let by_name = self.by_name.lock();
        let (of, keys) = by_name.get(name)?;
        bool::from(of.ct_eq(secret)).then(|| keys.clone())
    }

    fn put(&self, name: &ByteString, secret: &Bytes, keys: &Keys) {
        let entry = (secret.clone(), keys.clone());
        self.by_name.lock().insert(name.clone(), entry);
    }
}

/// A question to a peer that must be answered before its name is proven.
pub struct Challenge {
    message: Bytes,
    header: String,
    nonce: String,
    /// What is signed, up to the client's last message.
    signed: String,
    asked: Asked,
}

/// Whom the challenge is about.
struct Asked {
    salt: [u8; SALT_BYTES],
    cache: KeyCache,
    /// `None`: nobody who could prove it in this way.
    user: Option<(Bytes, Verified)>,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(…)")
    }
}

impl Challenge {
    /// What to send to the peer.
    #[must_use]
    pub const fn message(&self) -> &Bytes {
        &self.message
    }

    /// Takes the peer's answer: a proof that is given or must be computed.
    ///
    /// # Errors
    /// [`AuthError::Wrong`]: the answer is not one to this challenge.
    pub fn answer(self, message: &[u8]) -> Result<Proof, AuthError> {
        let answer =
            ClientFinal::parse(message, &self.header, &self.nonce).ok_or(AuthError::Wrong)?;
        let claim = Claim {
            signed: format!("{},{}", self.signed, answer.without_proof),
            proof: answer.proof,
            asked: self.asked,
        };
        Ok(match claim.by_kept_keys() {
            Some(proof) => proof,
            None => Proof::Slow(SlowProof::of_claim(claim)),
        })
    }
}

/// An answer whose proof is to be checked.
pub(super) struct Claim {
    signed: String,
    proof: Hash,
    asked: Asked,
}

impl Claim {
    /// A good proof of somebody whose keys are at hand.
    fn by_kept_keys(&self) -> Option<Proof> {
        let (secret, verified) = self.asked.user.as_ref()?;
        let name = verified.authid.as_ref()?;
        let keys = self.asked.cache.get(name, secret)?;
        self.proven_with(&keys, verified)
    }

    /// Derives keys, whoever it is.
    pub fn verify(self) -> Result<Proof, AuthError> {
        let Some((secret, verified)) = &self.asked.user else {
            // The same work as for a known name, so that names cannot be told by time.
            std::hint::black_box(Keys::derive(b"", &self.asked.salt));
            return Err(AuthError::Wrong);
        };
        let keys = Keys::derive(secret, &self.asked.salt);
        if let Some(name) = &verified.authid {
            self.asked.cache.put(name, secret, &keys);
        }
        self.proven_with(&keys, verified).ok_or(AuthError::Wrong)
    }

    fn proven_with(&self, keys: &Keys, verified: &Verified) -> Option<Proof> {
        if !keys.is_proven(&self.signed, &self.proof) {
            return None;
        }
        let verifier = scram::server_final(&keys.signature(&self.signed));
        Some(Proof::Mutual {
            verified: verified.clone(),
            verifier: verifier.into(),
        })
    }
}

impl super::Access {
    /// Opens an exchange.
    pub(super) fn challenge(
        &self,
        mechanism: Mechanism,
        message: &[u8],
    ) -> Result<Challenge, AuthError> {
        let Mechanism::ScramSha256 = mechanism;
        let opening = ClientFirst::parse(message).ok_or(AuthError::Wrong)?;
        let user = match self.users.get(&opening.name) {
            Some(user) => match &user.secret {
                Secret::Plain(secret) => Some((secret.clone(), self.verified(&opening.name, user))),
                // Whoever keeps a hash of another kind cannot derive the keys.
                Secret::Argon2(_) => None,
            },
            None => None,
        };
        let salt = salt(&opening.name)?;
        let nonce = format!("{}{}", opening.nonce, nonce()?);
        let first = scram::server_first(&nonce, &salt);
        Ok(Challenge {
            signed: format!("{},{first}", opening.bare),
            message: first.into(),
            header: opening.header,
            nonce,
            asked: Asked {
                salt,
                cache: self.keys.clone(),
                user,
            },
        })
    }
}

/// Always the same for one name while the process lives, and not to be foretold.
fn salt(name: &str) -> Result<[u8; SALT_BYTES], AuthError> {
    static KEY: OnceLock<Hash> = OnceLock::new();
    let key = match KEY.get() {
        Some(key) => key,
        None => {
            let fresh = random()?;
            KEY.get_or_init(|| fresh)
        }
    };
    let mut salt = [0; SALT_BYTES];
    for (byte, from) in salt.iter_mut().zip(scram::hmac(key, name.as_bytes())) {
        *byte = from;
    }
    Ok(salt)
}

fn nonce() -> Result<String, AuthError> {
    use base64::Engine as _;
    Ok(base64::prelude::BASE64_STANDARD.encode(random::<NONCE_BYTES>()?))
}

fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| AuthError::Unavailable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Credentials, User};
    use super::*;

    fn access() -> Access {
        let user = |secret| User {
            role: "user".into(),
            secret,
        };
        let hash = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$";
        Access {
            users: [
                (
                    "joe".into(),
                    user(Secret::Plain(Bytes::from_static(b"joe-secret"))),
                ),
                ("ann".into(), user(Secret::Argon2(hash.to_owned()))),
            ]
            .into(),
            ..Access::default()
        }
    }

    fn open(access: &Access, message: &str) -> Result<Challenge, AuthError> {
        let credentials = Credentials::Exchange {
            mechanism: Mechanism::ScramSha256,
            message: Bytes::from(message.to_owned()),
        };
        match access.check(&credentials)? {
            Proof::Challenge(challenge) => Ok(challenge),
            other => panic!("{other:?}"),
        }
    }

    fn attribute<'a>(message: &'a str, letter: &str) -> &'a str {
        let of = |part: &'a str| part.strip_prefix(letter)?.strip_prefix('=');
        message.split(',').find_map(of).unwrap()
    }

    /// The client's side, by the formulas of RFC 5802 section 3.
    fn answer(secret: &str, bare: &str, challenge: &str) -> (String, String) {
        use base64::Engine as _;
        let base64 = base64::prelude::BASE64_STANDARD;
        let salt = base64.decode(attribute(challenge, "s")).unwrap();
        let rounds = attribute(challenge, "i").parse().unwrap();
        let without_proof = format!("c=biws,r={}", attribute(challenge, "r"));
        let signed = format!("{bare},{challenge},{without_proof}");
        let salted: Hash =
            pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(secret.as_bytes(), &salt, rounds);
        let key = scram::hmac(&salted, b"Client Key");
        let stored: Hash = <sha2::Sha256 as sha2::Digest>::digest(key).into();
        let signature = scram::hmac(&stored, signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let server = scram::hmac(&scram::hmac(&salted, b"Server Key"), signed.as_bytes());
        (
            format!("{without_proof},p={}", base64.encode(proof)),
            format!("v={}", base64.encode(server)),
        )
    }

    fn attempt(access: &Access, name: &str, secret: &str) -> (bool, Result<Proof, AuthError>) {
        let bare = format!("n={name},r=0123456789");
        let challenge = open(access, &format!("n,,{bare}")).unwrap();
        let text = std::str::from_utf8(challenge.message()).unwrap().to_owned();
        let (answer, expected) = answer(secret, &bare, &text);
        let (was_slow, proof) = match challenge.answer(answer.as_bytes()) {
            Ok(Proof::Slow(slow)) => (true, slow.verify()),
            other => (false, other),
        };
        if let Ok(Proof::Mutual { verifier, .. }) = &proof {
            assert_eq!(verifier, expected.as_bytes());
        }
        (was_slow, proof)
    }

    #[test]
    fn a_secret_proves_its_name_and_the_router_proves_that_it_knows_it() {
        let access = access();
        for was_slow in [true, false, false] {
            let (slow, proof) = attempt(&access, "joe", "joe-secret");
            let Ok(Proof::Mutual { verified, .. }) = proof else {
                panic!("{proof:?}")
            };
            assert_eq!((verified.authid.as_deref(), slow), (Some("joe"), was_slow));
            assert_eq!((&*verified.role.name, verified.by_secret), ("user", true));
        }
    }

    #[test]
    fn whatever_fails_fails_alike_and_as_slowly() {
        let access = access();
        attempt(&access, "joe", "joe-secret").1.unwrap();
        for (name, secret) in [("joe", "wrong"), ("ann", "x"), ("ann", ""), ("nobody", "")] {
            let (was_slow, proof) = attempt(&access, name, secret);
            assert!(was_slow, "{name}");
            assert_eq!(proof.unwrap_err(), AuthError::Wrong, "{name}");
        }
        let (_, proof) = attempt(&Access::open(), "joe", "anything");
        assert_eq!(proof.unwrap_err(), AuthError::Wrong, "nobody to prove");
        let (was_slow, proof) = attempt(&access, "joe", "joe-secret");
        assert!(!was_slow && proof.is_ok(), "what was kept is still right");
    }

    #[test]
    fn known_and_unknown_names_are_challenged_alike() {
        let access = access();
        let ask = |name: &str| {
            let challenge = open(&access, &format!("n,,n={name},r=0123456789")).unwrap();
            std::str::from_utf8(challenge.message()).unwrap().to_owned()
        };
        let mut salts = Vec::new();
        for name in ["joe", "ann", "nobody"] {
            let (a, b) = (ask(name), ask(name));
            assert_eq!(attribute(&a, "s"), attribute(&b, "s"));
            assert_ne!(attribute(&a, "r"), attribute(&b, "r"));
            assert!(attribute(&a, "r").starts_with("0123456789"));
            assert_eq!(attribute(&a, "r").len(), 10 + 24);
            assert_eq!(attribute(&a, "i"), "4096");
            salts.push(attribute(&a, "s").to_owned());
        }
        assert!(salts[0] != salts[1] && salts[1] != salts[2]);
        assert!(salts.iter().all(|salt| salt.len() == salts[0].len()));
    }

    #[test]
    fn an_answer_is_good_for_its_own_challenge_only() {
        let access = access();
        let bare = "n=joe,r=0123456789";
        let challenge = open(&access, &format!("n,,{bare}")).unwrap();
        let text = std::str::from_utf8(challenge.message()).unwrap().to_owned();
        let (good, _) = answer("joe-secret", bare, &text);
        let replayed = open(&access, &format!("n,,{bare}")).unwrap();
        assert_eq!(
            replayed.answer(good.as_bytes()).unwrap_err(),
            AuthError::Wrong
        );
        let other_flag = open(&access, &format!("y,,{bare}")).unwrap();
        assert_eq!(
            other_flag.answer(good.as_bytes()).unwrap_err(),
            AuthError::Wrong
        );
        assert!(challenge.answer(good.as_bytes()).is_ok());
    }

    #[test]
    fn keys_of_a_former_secret_are_not_used() {
        let mut access = access();
        attempt(&access, "joe", "joe-secret").1.unwrap();
        let user = access.users.get_mut("joe").unwrap();
        user.secret = Secret::Plain(Bytes::from_static(b"new"));
        assert!(attempt(&access, "joe", "joe-secret").1.is_err());
        assert!(attempt(&access, "joe", "new").1.is_ok());
    }

    #[test]
    fn what_is_no_opening_is_wrong() {
        for message in ["", "n,,", "p=x,,n=joe,r=0123456789"] {
            assert_eq!(open(&access(), message).unwrap_err(), AuthError::Wrong);
        }
    }
}
