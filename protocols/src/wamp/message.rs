//! The messages of WAMP version 2, both directions: what a router reads and writes, and what a
//! client does (section "Messages" of the Basic Profile and the message extensions of the
//! Advanced Profile).
//!
//! Invariants after decoding: ids are in 1..=2^53; text is UTF-8; `args` and `kwargs` hold one
//! well-formed list and dict in the encoding of their frame, byte for byte as received. Nothing
//! else is checked here: roles, URI grammar, option types and who may send what belong to the
//! state machine. Text and payload are slices of the frame they came in: copy what is kept.

use super::errors::Violation;
use bytes::Bytes;
use bytestring::ByteString;
use router_core::encoding::{Encoding, EncodingError, Kind, value};
use serde_json::Value;

/// Options, details and extra: small dicts, parsed. Binary in them is text by the WAMP convention
/// (U+0000 and base64) in every encoding.
pub type Dict = serde_json::Map<String, Value>;

/// The greatest id, 2^53 (section "Identifiers").
pub const MAX_ID: u64 = 1 << 53;

/// Arguments of a publication, a call, a result or an error, in the encoding of their frame.
///
/// `None` is absent (also where the frame has `null`); an empty list or dict is kept as received.
/// Encoding never writes empty ones, except the list that must precede a dict.
///
/// Older clients with end-to-end encryption send a single binary in the place of the list, and say
/// so by the option `enc_algo`; then `args` holds that binary and `kwargs` is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The positional arguments: a list.
    pub args: Option<Bytes>,
    /// The keyword arguments: a dict.
    pub kwargs: Option<Bytes>,
}

impl Payload {
    /// No arguments.
    pub const EMPTY: Payload = Payload {
        args: None,
        kwargs: None,
    };

    /// Serializes arguments; empty ones are absent.
    #[must_use]
    pub fn from_values(encoding: Encoding, args: &[Value], kwargs: &Dict) -> Payload {
        let args = (!args.is_empty()).then(|| {
            let parts: Vec<Bytes> = args.iter().map(|v| value::to_bytes(encoding, v)).collect();
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            encoding.array_of(&parts)
        });
        let kwargs = (!kwargs.is_empty()).then(|| {
            let mut out = Vec::new();
            value::write_map(encoding, kwargs, &mut out);
            Bytes::from(out)
        });
        Payload { args, kwargs }
    }

    /// Parses both parts; absent ones are empty. A single binary is one argument.
    ///
    /// # Errors
    /// When the parts are not what this type promises for `encoding`.
    pub fn to_values(&self, encoding: Encoding) -> Result<(Vec<Value>, Dict), EncodingError> {
        let args = match self
            .args
            .as_deref()
            .map(|raw| value::parse(encoding, raw))
            .transpose()?
        {
            None => Vec::new(),
            Some(Value::Array(args)) => args,
            Some(single) => vec![single],
        };
        let kwargs = match &self.kwargs {
            Some(raw) => value::parse_map(encoding, raw)?,
            None => Dict::new(),
        };
        Ok((args, kwargs))
    }

    /// Whether `args` is a single binary in the place of the list.
    #[must_use]
    pub fn is_opaque(&self, encoding: Encoding) -> bool {
        self.args
            .as_deref()
            .is_some_and(|raw| encoding.kind(raw) != Some(Kind::Array))
    }

    /// The same arguments in another encoding; between equal encodings the very bytes.
    ///
    /// # Errors
    /// See [`transcode`](router_core::encoding::transcode::transcode).
    pub fn transcode(&self, from: Encoding, to: Encoding) -> Result<Payload, EncodingError> {
        use router_core::encoding::transcode::transcode;
        let convert = |part: &Option<Bytes>| {
            part.as_ref()
                .map(|raw| transcode(raw, from, to))
                .transpose()
        };
        Ok(Payload {
            args: convert(&self.args)?,
            kwargs: convert(&self.kwargs)?,
        })
    }
}

/// Declares the messages: a struct for each, with the layout in its documentation, and the enum.
macro_rules! messages {
    ($($(#[$doc:meta])* $code:literal $name:ident as $kind:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $($(#[$doc])* #[derive(Clone, Debug, PartialEq)]
        pub struct $kind { $($(#[$field_doc])* pub $field: $type,)* }

        impl From<$kind> for Message {
            fn from(message: $kind) -> Message {
                Message::$name(message)
            }
        })*

        /// Any message.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Message {
            $(#[doc = concat!("Type code ", $code, ".")] $name($kind),)*
        }

        impl Message {
            /// The type code, element 0 of the list.
            #[must_use]
            pub const fn code(&self) -> u64 {
                match self { $(Message::$name(_) => $code,)* }
            }

            /// The arguments, of those messages that have a place for them.
            #[must_use]
            pub const fn payload(&self) -> Option<&Payload> {
                match self {
                    Message::Abort(Abort { payload, .. })
                    | Message::Error(ErrorMessage { payload, .. })
                    | Message::Publish(Publish { payload, .. })
                    | Message::Event(Event { payload, .. })
                    | Message::Call(Call { payload, .. })
                    | Message::Result(ResultMessage { payload, .. })
                    | Message::Invocation(Invocation { payload, .. })
                    | Message::Yield(Yield { payload, .. }) => Some(payload),
                    _ => None,
                }
            }
        }
    };
}

messages! {
    /// `[1, realm, details]`, client to router: opens a session.
    1 Hello as Hello {
        /// The realm to join.
        realm: ByteString,
        /// Roles, authentication methods and more.
        details: Dict,
    }
    /// `[2, session, details]`, router to client: the session is open.
    2 Welcome as Welcome {
        /// The session id.
        session: u64,
        /// Roles and identity.
        details: Dict,
    }
    /// `[3, details, reason, args?, kwargs?]`, both: the session ends at once, unanswered.
    3 Abort as Abort {
        /// May carry `message`.
        details: Dict,
        /// Why: an error URI.
        reason: ByteString,
        /// Arguments.
        payload: Payload,
    }
    /// `[4, method, extra]`, router to client: prove who you are.
    4 Challenge as Challenge {
        /// The authentication method.
        method: ByteString,
        /// Data of the method.
        extra: Dict,
    }
    /// `[5, signature, extra]`, client to router: the proof.
    5 Authenticate as Authenticate {
        /// The proof in the form of the method.
        signature: ByteString,
        /// Data of the method.
        extra: Dict,
    }
    /// `[6, details, reason]`, both: closes the session; echoed once.
    6 Goodbye as Goodbye {
        /// May carry `message`.
        details: Dict,
        /// Why: a close URI.
        reason: ByteString,
    }
    /// `[8, request_type, request, details, error, args?, kwargs?]`, both: a request failed.
    8 Error as ErrorMessage {
        /// The type code of the failed request.
        request_type: u64,
        /// The id of the failed request.
        request: u64,
        /// Details.
        details: Dict,
        /// The error URI.
        error: ByteString,
        /// Arguments.
        payload: Payload,
    }
    /// `[16, request, options, topic, args?, kwargs?]`, client to router.
    16 Publish as Publish {
        /// The id of this request.
        request: u64,
        /// Options.
        options: Dict,
        /// The topic URI.
        topic: ByteString,
        /// Arguments.
        payload: Payload,
    }
    /// `[17, request, publication]`, router to client: acknowledges a PUBLISH.
    17 Published as Published {
        /// The id of the PUBLISH.
        request: u64,
        /// The publication id.
        publication: u64,
    }
    /// `[32, request, options, topic]`, client to router.
    32 Subscribe as Subscribe {
        /// The id of this request.
        request: u64,
        /// Options.
        options: Dict,
        /// The topic URI or pattern.
        topic: ByteString,
    }
    /// `[33, request, subscription]`, router to client.
    33 Subscribed as Subscribed {
        /// The id of the SUBSCRIBE.
        request: u64,
        /// The subscription id.
        subscription: u64,
    }
    /// `[34, request, subscription]`, client to router.
    34 Unsubscribe as Unsubscribe {
        /// The id of this request.
        request: u64,
        /// The subscription id.
        subscription: u64,
    }
    /// `[35, request]`, router to client; or `[35, 0, {subscription, reason?}]` when the router
    /// revokes a subscription.
    35 Unsubscribed as Unsubscribed {
        /// The id of the UNSUBSCRIBE; 0 exactly if this is a revocation.
        request: u64,
        /// What is revoked.
        revocation: Option<Dict>,
    }
    /// `[36, subscription, publication, details, args?, kwargs?]`, router to client.
    36 Event as Event {
        /// The subscription id.
        subscription: u64,
        /// The publication id.
        publication: u64,
        /// Details.
        details: Dict,
        /// Arguments.
        payload: Payload,
    }
    /// `[48, request, options, procedure, args?, kwargs?]`, client to router.
    48 Call as Call {
        /// The id of this request.
        request: u64,
        /// Options.
        options: Dict,
        /// The procedure URI.
        procedure: ByteString,
        /// Arguments.
        payload: Payload,
    }
    /// `[49, request, options]`, client to router.
    49 Cancel as Cancel {
        /// The id of the CALL.
        request: u64,
        /// May carry `mode`.
        options: Dict,
    }
    /// `[50, request, details, args?, kwargs?]`, router to client.
    50 Result as ResultMessage {
        /// The id of the CALL.
        request: u64,
        /// Details.
        details: Dict,
        /// Arguments.
        payload: Payload,
    }
    /// `[64, request, options, procedure]`, client to router.
    64 Register as Register {
        /// The id of this request.
        request: u64,
        /// Options.
        options: Dict,
        /// The procedure URI or pattern.
        procedure: ByteString,
    }
    /// `[65, request, registration]`, router to client.
    65 Registered as Registered {
        /// The id of the REGISTER.
        request: u64,
        /// The registration id.
        registration: u64,
    }
    /// `[66, request, registration]`, client to router.
    66 Unregister as Unregister {
        /// The id of this request.
        request: u64,
        /// The registration id.
        registration: u64,
    }
    /// `[67, request]`, router to client; or `[67, 0, {registration, reason?}]` when the router
    /// revokes a registration.
    67 Unregistered as Unregistered {
        /// The id of the UNREGISTER; 0 exactly if this is a revocation.
        request: u64,
        /// What is revoked.
        revocation: Option<Dict>,
    }
    /// `[68, request, registration, details, args?, kwargs?]`, router to client.
    68 Invocation as Invocation {
        /// The id of this request.
        request: u64,
        /// The registration id.
        registration: u64,
        /// Details.
        details: Dict,
        /// Arguments.
        payload: Payload,
    }
    /// `[69, request, options]`, router to client.
    69 Interrupt as Interrupt {
        /// The id of the INVOCATION.
        request: u64,
        /// May carry `mode` and `reason`.
        options: Dict,
    }
    /// `[70, request, options, args?, kwargs?]`, client to router.
    70 Yield as Yield {
        /// The id of the INVOCATION.
        request: u64,
        /// Options.
        options: Dict,
        /// Arguments.
        payload: Payload,
    }
}

impl Message {
    /// The name in the specification, upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        super::codec::name_of(self.code())
    }

    /// Decodes one frame; see [`codec::decode`](super::codec::decode).
    ///
    /// # Errors
    /// What the peer did wrong.
    pub fn decode(
        encoding: Encoding,
        frame: Bytes,
        limits: &super::codec::Limits,
    ) -> Result<Message, Violation> {
        super::codec::decode(encoding, frame, limits)
    }

    /// Encodes one frame; the payload must be in `encoding` already.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        super::codec::encode(encoding, self)
    }
}
