//! The client's side of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The method's name.
pub const METHOD: &str = "SCRAM-SHA-256";

/// `client-first-message` of `name`.
pub fn first(name: &str) -> String {
    format!("n,,{}", bare(name))
}

fn bare(name: &str) -> String {
    format!("n={name},r=fyko+d2lbbFgONRv9qkx")
}

/// `client-final-message` to a challenge of [`first`], and the `server-final-message` that proves
/// the server.
pub fn last(name: &str, secret: &str, challenge: &[u8]) -> (String, String) {
    let challenge = std::str::from_utf8(challenge).expect("text");
    let attribute = |letter: &str| {
        let mut parts = challenge.split(',');
        let part = parts.find_map(|part| part.strip_prefix(letter));
        part.expect("an attribute")
    };
    let salt = BASE64_STANDARD.decode(attribute("s=")).expect("a salt");
    let rounds = attribute("i=").parse().expect("a number");
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(secret.as_bytes(), &salt, rounds);
    let without_proof = format!("c=biws,r={}", attribute("r="));
    let signed = format!("{},{challenge},{without_proof}", bare(name));
    let key = mac(&salted, "Client Key");
    let signature = mac(&Sha256::digest(&key), &signed);
    let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    let server = mac(&mac(&salted, "Server Key"), &signed);
    (
        format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)),
        format!("v={}", BASE64_STANDARD.encode(server)),
    )
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
