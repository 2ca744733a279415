//! SCRAM-SHA-256, the server's side (RFC 5802 with the hash of RFC 7677): its messages and keys.
//!
//! Messages are UTF-8 text of at most [`MAX_MESSAGE`] bytes and are parsed strictly: attributes in
//! the order of the grammar, nothing missing, nothing twice. Channel binding is not offered: a
//! client may say that it has none (`n`) or that it thinks we have none (`y`), and one that
//! insists (`p=…`) is refused. Names are compared as they are sent: SASLprep is not applied, and
//! control characters, which it forbids, are refused. A secret is used as it is configured, so
//! one outside ASCII is written in the form that SASLprep gives it (NFKC).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytestring::ByteString;
use hmac::{Hmac, KeyInit as _, Mac as _};
use pbkdf2::pbkdf2_hmac_array;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Longest message of a client, in bytes.
pub(super) const MAX_MESSAGE: usize = 4_096;
/// Rounds of the key derivation: the least that RFC 7677 section 4 allows. The router knows the
/// secret itself, so more rounds would protect nothing here and cost small clients seconds.
pub(super) const ITERATIONS: u32 = 4_096;
/// Characters of a client's nonce.
const NONCE_LENGTH: std::ops::RangeInclusive<usize> = 8..=256;

/// Bytes of a SHA-256.
pub(super) type Hash = [u8; 32];

/// `client-first-message`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst {
    /// `gs2-header`, which the client repeats.
    pub header: String,
    /// `client-first-message-bare`, a part of what is signed.
    pub bare: String,
    /// Whose secret is to be proven.
    pub name: ByteString,
    /// The client's nonce.
    pub nonce: String,
}

impl ClientFirst {
    /// `None`: not by the grammar, or it asks for what is not offered.
    pub fn parse(message: &[u8]) -> Option<ClientFirst> {
        let text = text(message)?;
        let (flag, rest) = text.split_once(',')?;
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let (authzid, bare) = rest.split_once(',')?;
        let header = text.get(..text.len() - bare.len())?;
        let mut attributes = bare.split(',');
        // A mandatory extension (`m=`) would stand here; none is known (RFC 5802 section 5.1).
        let name = read_name(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if !is_nonce(nonce) || !attributes.all(is_extension) {
            return None;
        }
        // Acting for somebody else is not offered.
        if !authzid.is_empty() && read_name(authzid.strip_prefix("a=")?)? != name {
            return None;
        }
        Some(ClientFirst {
            header: header.to_owned(),
            bare: bare.to_owned(),
            name: name.into(),
            nonce: nonce.to_owned(),
        })
    }
}

/// `server-first-message`.
pub(super) fn server_first(nonce: &str, salt: &[u8]) -> String {
    let salt = BASE64_STANDARD.encode(salt);
    format!("r={nonce},s={salt},i={ITERATIONS}")
}

/// `server-final-message` of a proof that held.
pub(super) fn server_final(signature: &Hash) -> String {
    format!("v={}", BASE64_STANDARD.encode(signature))
}

/// `client-final-message`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// `client-final-message-without-proof`, a part of what is signed.
    pub without_proof: &'a str,
    /// `ClientProof`.
    pub proof: Hash,
}

impl<'a> ClientFinal<'a> {
    /// `None`: not by the grammar, or not of this exchange, whose `gs2-header` and whole nonce it
    /// repeats.
    pub fn parse(message: &'a [u8], header: &str, nonce: &str) -> Option<ClientFinal<'a>> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = decode(attributes.next()?.strip_prefix("c=")?)?;
        let same_nonce = attributes.next()?.strip_prefix("r=")? == nonce;
        if binding != header.as_bytes() || !same_nonce || !attributes.all(is_extension) {
            return None;
        }
        Some(ClientFinal {
            without_proof,
            proof: decode(proof)?.try_into().ok()?,
        })
    }
}

/// What a secret and a salt come to: enough to check a proof and to give one back.
#[derive(Clone)]
pub(super) struct Keys {
    stored: Hash,
    server: Hash,
}

impl Keys {
    /// Takes about a millisecond.
    pub fn derive(secret: &[u8], salt: &[u8]) -> Keys {
        let salted: Hash = pbkdf2_hmac_array::<Sha256, 32>(secret, salt, ITERATIONS);
        Keys {
            stored: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server: hmac(&salted, b"Server Key"),
        }
    }

    /// Whether the proof was made with the secret for this `AuthMessage`.
    pub fn is_proven(&self, signed: &str, proof: &Hash) -> bool {
        let mut key = hmac(&self.stored, signed.as_bytes());
        for (byte, part) in key.iter_mut().zip(proof) {
            *byte ^= part;
        }
        let stored: Hash = Sha256::digest(key).into();
        stored.ct_eq(&self.stored).into()
    }

    /// `ServerSignature`: that the router knows the secret too.
    pub fn signature(&self, signed: &str) -> Hash {
        hmac(&self.server, signed.as_bytes())
    }
}

/// HMAC-SHA-256.
pub(super) fn hmac(key: &Hash, message: &[u8]) -> Hash {
    // A key shorter than a block is filled up with zeros (RFC 2104 section 2).
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn text(message: &[u8]) -> Option<&str> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    std::str::from_utf8(message).ok()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// `saslname`: `,` is written `=2C` and `=` is `=3D`.
fn read_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('=') {
        name.push_str(plain);
        let (letter, after) = match escaped.split_at_checked(2)? {
            ("2C", after) => (',', after),
            ("3D", after) => ('=', after),
            _ => return None,
        };
        name.push(letter);
        rest = after;
    }
    name.push_str(rest);
    (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
}

fn is_nonce(text: &str) -> bool {
    NONCE_LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An optional extension, which may be ignored (RFC 5802 section 5.1): a letter that means nothing
/// in SCRAM, and a value.
fn is_extension(attribute: &str) -> bool {
    let Some((letter, value)) = attribute.split_once('=') else {
        return false;
    };
    let is_known = "anmrcsipve".contains(letter);
    let is_letter = matches!(letter.as_bytes(), [byte] if byte.is_ascii_alphabetic());
    is_letter && !is_known && !value.is_empty() && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The exchange of RFC 7677 section 3.
    mod rfc_7677 {
        pub const SECRET: &[u8] = b"pencil";
        pub const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        pub const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
        pub const NONCE: &str = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        pub const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        pub const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        pub const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    }
    use rfc_7677::*;

    fn final_of(message: &str) -> Option<ClientFinal<'_>> {
        ClientFinal::parse(message.as_bytes(), "n,,", NONCE)
    }

    fn first(message: &str) -> Option<ClientFirst> {
        ClientFirst::parse(message.as_bytes())
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let opening = first(CLIENT_FIRST).unwrap();
        assert_eq!((&*opening.name, &*opening.header), ("user", "n,,"));
        let salt = BASE64_STANDARD.decode(SALT).unwrap();
        assert_eq!(server_first(NONCE, &salt), SERVER_FIRST);
        let closing = final_of(CLIENT_FINAL).unwrap();
        let signed = format!("{},{SERVER_FIRST},{}", opening.bare, closing.without_proof);
        let keys = Keys::derive(SECRET, &salt);
        assert!(keys.is_proven(&signed, &closing.proof));
        assert_eq!(server_final(&keys.signature(&signed)), SERVER_FINAL);
        assert!(!Keys::derive(b"pencil ", &salt).is_proven(&signed, &closing.proof));
        assert!(!Keys::derive(SECRET, b"salt").is_proven(&signed, &closing.proof));
        assert!(!keys.is_proven(&signed.replace("user", "root"), &closing.proof));
    }

    #[test]
    fn names_are_unescaped_and_no_others_pass() {
        for (sent, meant) in [("a=2Cb", "a,b"), ("=3D", "="), ("é", "é"), ("a b", "a b")] {
            let message = format!("n,,n={sent},r=12345678");
            assert_eq!(&*first(&message).unwrap().name, meant);
        }
        for sent in ["", "a=", "a=2", "a=2c", "=41", "a=2é", "a\0", "a\u{85}"] {
            assert_eq!(first(&format!("n,,n={sent},r=12345678")), None, "{sent:?}");
        }
    }

    #[test]
    fn opening_messages_are_read_strictly() {
        for fine in [
            "y,,n=joe,r=12345678",
            "n,a=joe,n=joe,r=12345678",
            "n,,n=joe,r=12345678,x=1,y==",
        ] {
            assert!(first(fine).is_some(), "{fine}");
        }
        for wrong in [
            "",
            ",,",
            "n=joe,r=12345678",
            "p=tls-unique,,n=joe,r=12345678",
            "N,,n=joe,r=12345678",
            "n,a=ann,n=joe,r=12345678",
            "n,b=joe,n=joe,r=12345678",
            "n,,m=x,n=joe,r=12345678",
            "n,,n=joe,r=12345678,m=x",
            "n,,n=joe,r=12345678,r=12345678",
            "n,,n=joe,r=12345678,x",
            "n,,n=joe,r=12345678,x=",
            "n,,n=joe,r=12345678,",
            "n,,n=joe,r=1234567",
            "n,,n=joe,r=1234 5678",
            "n,,n=joe,r=1234567é",
            "n,,n=joe",
            "n,,r=12345678,n=joe",
        ] {
            assert_eq!(first(wrong), None, "{wrong:?}");
        }
        assert_eq!(first(&format!("n,,n=joe,r={}", "1".repeat(257))), None);
        assert_eq!(
            first(&format!("n,,n={},r=12345678", "a".repeat(4_096))),
            None
        );
        assert_eq!(ClientFirst::parse(b"n,,n=\xFF,r=12345678"), None);
    }

    #[test]
    fn closing_messages_are_of_this_exchange_and_whole() {
        assert!(final_of(CLIENT_FINAL).is_some());
        let extended = CLIENT_FINAL.replace(",p=", ",x=1,p=");
        assert!(final_of(&extended).is_some());
        for wrong in [
            CLIENT_FINAL.replace("biws", "eSws"),
            CLIENT_FINAL.replace("biws", "biw"),
            CLIENT_FINAL.replace("k0,", "k1,"),
            CLIENT_FINAL.replace("c=biws,", ""),
            CLIENT_FINAL.replace("VQ=", "VQ"),
            CLIENT_FINAL.replace("VQ=", ""),
            CLIENT_FINAL.replace(",p=dHzb", ",p="),
            CLIENT_FINAL.replace(",p=", ",q="),
            CLIENT_FINAL.replace(",p=", ",s=1,p="),
            format!("{CLIENT_FINAL},x=1"),
        ] {
            assert_eq!(final_of(&wrong), None, "{wrong}");
        }
        for end in 0..CLIENT_FINAL.len() {
            assert_eq!(final_of(&CLIENT_FINAL[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_input_confuses_the_parsers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ClientFirst::parse(&bytes);
            let _ = ClientFinal::parse(&bytes, "n,,", NONCE);
        }

        #[test]
        fn text_like_a_message_does_not_either(text in "[ny],(a=)?[a-z=2C,]{0,8},n=[a-zé=,23CD]{0,12},r=[!-~é]{0,20}[,a-z=]{0,9}") {
            if let Some(read) = first(&text) {
                prop_assert_eq!(format!("{}{}", read.header, read.bare), text.clone());
                prop_assert!(is_nonce(&read.nonce) && !read.nonce.contains(','));
                let escaped = read.name.replace('=', "=3D").replace(',', "=2C");
                let start = format!("n={escaped},r=");
                prop_assert!(read.bare.starts_with(&start));
            }
            let _ = ClientFinal::parse(text.as_bytes(), "n,,", NONCE);
        }

        #[test]
        fn one_changed_byte_of_a_closing_message_proves_nothing(at in 0..CLIENT_FINAL.len(), to in any::<u8>()) {
            let mut message = CLIENT_FINAL.as_bytes().to_vec();
            prop_assume!(message[at] != to);
            message[at] = to;
            let salt = BASE64_STANDARD.decode(SALT).unwrap();
            if let Some(closing) = ClientFinal::parse(&message, "n,,", NONCE) {
                let signed = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{SERVER_FIRST},{}", closing.without_proof);
                prop_assert!(!Keys::derive(SECRET, &salt).is_proven(&signed, &closing.proof));
            }
        }
    }
}
