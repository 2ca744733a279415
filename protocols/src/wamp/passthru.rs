//! Payload passthru (Advanced Profile, "Payload Passthru Mode"): arguments that only the
//! applications can read, with words beside them that say how.
//!
//! The standard's form is arguments like any other, described by `ppt_scheme`, `ppt_serializer`,
//! `ppt_cipher` and `ppt_keyid`. Autobahn's older form is a bare binary in the place of the
//! arguments, described by `enc_algo`, `enc_serializer` and `enc_key`. Both travel as they are, to
//! peers that announced that they know the form.
//!
//! Scheme `mqtt` with serializer `native` is what MQTT would have sent: a single binary so
//! described is opaque bytes for the core, which every receiver can have in its own form.

use super::codec::Arguments;
use super::dict::DictExt;
use super::errors::Violation;
use super::message::{Dict, Payload as Tail};
use super::options::{Options, Reject};
use super::uris::error;
use bytestring::ByteString;
use router_core::encoding::Encoding;
use router_core::model::{Args, Body, Payload, Seal};

/// What describes the arguments in the standard's form.
const PPT: [&str; 4] = ["ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid"];
/// What describes a bare binary in the older form.
const ENC: [&str; 3] = ["enc_algo", "enc_serializer", "enc_key"];

/// What describes the bytes of MQTT.
const NATIVE: [(&str, &str); 2] = [("ppt_scheme", "mqtt"), ("ppt_serializer", "native")];

/// What one role of a peer announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passthru {
    /// The standard's form: `payload_passthru_mode`.
    pub listed: bool,
    /// The older form: `payload_transparency` or `payload_encryption_cryptobox`.
    pub bare: bool,
    /// Ours, of a subscriber with the standard's form: it wants what came from MQTT as scheme
    /// `mqtt` with the bytes, instead of translated: `x_ppt_mqtt`.
    pub native: bool,
}

/// What the roles of a peer announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Of the publisher.
    pub publisher: Passthru,
    /// Of the subscriber.
    pub subscriber: Passthru,
    /// Of the caller.
    pub caller: Passthru,
    /// Of the callee.
    pub callee: Passthru,
}

impl Passthru {
    /// Reads the features of a role.
    ///
    /// # Errors
    /// A feature that is no boolean.
    pub fn read(features: &Dict) -> Result<Passthru, Violation> {
        let has = |name| features.boolean(name).map(|read| read.unwrap_or(false));
        Ok(Passthru {
            listed: has("payload_passthru_mode")?,
            bare: has("payload_transparency")? | has("payload_encryption_cryptobox")?,
            native: has("x_ppt_mqtt")?,
        })
    }

    /// Whether a payload can be had by this role.
    #[must_use]
    pub fn opens(self, payload: &Payload) -> bool {
        payload.is_opened_by(self.listed, self.bare)
    }
}

/// The payload of a message with these options, sealed if they describe it so.
///
/// # Errors
/// A violation for a wrong type; `wamp.error.feature_not_supported` where the sender did not
/// announce the form; `wamp.error.invalid_argument` for a scheme that is none.
pub fn payload(
    encoding: Encoding,
    tail: Tail,
    options: Options<'_>,
    sender: Passthru,
) -> Result<Payload, Reject> {
    let bare = tail.is_opaque(encoding);
    let Tail { args, kwargs } = tail;
    let payload = Payload::args(encoding, Args { args, kwargs });
    seal(payload, bare, options, sender)
}

/// Arguments that another message carries, sealed if its options describe them so: whoever writes
/// the words knows the form.
///
/// # Errors
/// As of [`payload`].
pub fn described(payload: Payload, options: Options<'_>) -> Result<Payload, Reject> {
    let sender = Passthru {
        listed: true,
        ..Passthru::default()
    };
    seal(payload, false, options, sender)
}

fn seal(
    payload: Payload,
    bare: bool,
    options: Options<'_>,
    sender: Passthru,
) -> Result<Payload, Reject> {
    if options.is_empty() && !bare {
        return Ok(payload);
    }
    let names: &[&'static str] = if bare { &ENC } else { &PPT };
    let notes = notes_of(options, names)?;
    let scheme = notes.first().filter(|(name, _)| name == PPT[0]);
    // Without a scheme the other words say nothing.
    if !bare && scheme.is_none() {
        return Ok(payload);
    }
    if !(if bare { sender.bare } else { sender.listed }) {
        let message = "payload passthru was not announced";
        return Err(Reject::error(error::FEATURE_NOT_SUPPORTED, message));
    }
    if scheme.is_some_and(|(_, scheme)| !is_scheme(scheme)) {
        let message = "ppt_scheme must be \"wamp\", \"mqtt\" or start with \"x_\"";
        return Err(Reject::error(error::INVALID_ARGUMENT, message));
    }
    Ok(payload.sealed(Seal { notes, bare }))
}

fn is_scheme(scheme: &str) -> bool {
    matches!(scheme, "wamp" | "mqtt") || scheme.len() > 2 && scheme.starts_with("x_")
}

fn notes_of(
    options: Options<'_>,
    names: &[&'static str],
) -> Result<Vec<(ByteString, ByteString)>, Reject> {
    let mut notes = Vec::new();
    for name in names {
        if let Some(value) = options.text(name)? {
            notes.push((ByteString::from_static(name), ByteString::from(value)));
        }
    }
    Ok(notes)
}

/// A publication in the form of MQTT becomes opaque bytes, which keep their seal.
#[must_use]
pub fn native(payload: Payload) -> Payload {
    let Some(seal) = payload.seal() else {
        return payload;
    };
    let notes = seal.notes.iter().map(|(name, value)| (&**name, &**value));
    let (is_native, seal) = (notes.eq(NATIVE), seal.clone());
    match only_binary(&payload).filter(|_| is_native) {
        Some(bytes) => Payload::bytes(bytes, false).sealed(seal),
        None => payload,
    }
}

/// The content of the only argument, if it is binary.
fn only_binary(payload: &Payload) -> Option<bytes::Bytes> {
    let Body::Args { encoding, args } = payload.body() else {
        return None;
    };
    let list = args.args.as_ref().filter(|_| args.kwargs.is_none())?;
    match encoding.split_array(list).ok()?.as_slice() {
        [only] => {
            let only = list.get(only.clone())?;
            Some(encoding.as_binary(only)?.into_owned().into())
        }
        _ => None,
    }
}

/// The arguments for a peer that opens them.
#[must_use]
pub fn tail(encoding: Encoding, payload: &Payload, receiver: Passthru) -> Tail {
    match payload.body() {
        Body::Bytes { data, .. } if is_native_for(payload, receiver) => Tail {
            args: Some(encoding.array_of(&[&encoding.binary_value(data)])),
            kwargs: None,
        },
        _ => super::map::tail(encoding, payload),
    }
}

/// The same to be written: the very bytes where they are there already, or what is put into `made`.
pub fn arguments<'p>(
    encoding: Encoding,
    payload: &'p Payload,
    receiver: Passthru,
    made: &'p mut Tail,
) -> Arguments<'p> {
    match payload.body() {
        Body::Args {
            encoding: own,
            args,
        } if *own == encoding => Arguments {
            args: args.args.as_deref(),
            kwargs: args.kwargs.as_deref(),
        },
        _ => {
            *made = tail(encoding, payload, receiver);
            Arguments::from(&*made)
        }
    }
}

/// The words beside them, for options and details.
#[must_use]
pub fn words(payload: &Payload, receiver: Passthru) -> Vec<(&str, &str)> {
    match (payload.body(), payload.seal()) {
        (Body::Bytes { .. }, _) if is_native_for(payload, receiver) => NATIVE.to_vec(),
        (Body::Args { .. }, Some(seal)) => {
            let notes = seal.notes.iter();
            notes.map(|(name, value)| (&**name, &**value)).collect()
        }
        _ => Vec::new(),
    }
}

/// Adds the words to details.
pub fn describe(details: &mut Dict, payload: &Payload, receiver: Passthru) {
    let words = words(payload, receiver).into_iter();
    details.extend(words.map(|(name, value)| (name.to_owned(), value.into())));
}

/// Whether opaque bytes go to this receiver as they are: such a publication of WAMP, or any where
/// it wants that.
fn is_native_for(payload: &Payload, receiver: Passthru) -> bool {
    receiver.listed && (payload.seal().is_some() || receiver.native)
}
