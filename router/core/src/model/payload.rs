//! A payload keeps the sender's bytes; other forms are made late, and once per event.
//!
//! Two kinds of senders exist: those that send opaque bytes, and those that send positional and
//! keyword arguments in some encoding. Receivers of the same kind and encoding get the very bytes;
//! for the others this module holds the one rule of translation:
//!
//! * bytes -> arguments: no bytes are no arguments; a JSON text is exactly one argument (arrays are
//!   never spread); other UTF-8 text is one string; anything else is one binary value. An envelope
//!   that this module made is opened again.
//! * arguments -> bytes: one binary argument is those bytes; one other argument is its JSON; any
//!   other shape is the envelope `{"args":[…],"kwargs":{…}}`, always with both keys.

use crate::encoding::{self, Encoding, Kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::OnceLock;

/// Content type of the `{"args","kwargs"}` envelope, fixed by the contract between the gates.
pub const ENVELOPE_CONTENT_TYPE: &str = "application/wamp+json";

/// A payload as its sender wrote it, with room for the other forms.
#[derive(Debug)]
pub struct Payload {
    body: Body,
    /// Present if only some receivers can read it.
    seal: Option<Box<Seal>>,
    forms: OnceLock<Box<Forms>>,
}

/// What a sender says about arguments that only applications of its own kind can read. It goes
/// with them as it is, to receivers that can open it; nothing here interprets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Names and values, in the sender's terms.
    pub notes: Vec<(ByteString, ByteString)>,
    /// A single binary value stands in the place of the positional arguments.
    pub bare: bool,
}

/// The sender's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Bytes that only the applications understand.
    Bytes {
        /// As received.
        data: Bytes,
        /// The sender marked them as an envelope by its content type.
        enveloped: bool,
    },
    /// Positional and keyword arguments, as raw slices in one encoding.
    Args {
        /// The encoding of both.
        encoding: Encoding,
        /// The raw values.
        args: Args,
    },
}

/// Raw positional (a list) and keyword (a map) arguments; absent differs from empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// An encoded list.
    pub args: Option<Bytes>,
    /// An encoded map.
    pub kwargs: Option<Bytes>,
}

/// How opaque bytes read to somebody who expects values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON text.
    Json,
    /// UTF-8, but not JSON.
    Text,
    /// Anything else.
    Bytes,
    /// The envelope of arguments.
    Envelope,
}

/// Forms made on demand; each cell is filled at most once however many receivers ask.
#[derive(Debug, Default)]
struct Forms {
    form: OnceLock<Form>,
    json: OnceLock<Args>,
    msgpack: OnceLock<Args>,
    cbor: OnceLock<Args>,
    bytes: OnceLock<(Bytes, Form)>,
    value: OnceLock<Value>,
    kwargs: OnceLock<Value>,
}

const EMPTY_LIST: &[u8] = b"[]";
const EMPTY_MAP: &[u8] = b"{}";

impl Payload {
    /// Opaque bytes; `enveloped` when their content type is [`ENVELOPE_CONTENT_TYPE`].
    #[must_use]
    pub fn bytes(data: Bytes, enveloped: bool) -> Payload {
        Payload::from(Body::Bytes { data, enveloped })
    }

    /// Arguments in `encoding`.
    #[must_use]
    pub fn args(encoding: Encoding, args: Args) -> Payload {
        Payload::from(Body::Args { encoding, args })
    }

    /// One positional argument, or none for null.
    #[must_use]
    pub fn from_value(value: &Value) -> Payload {
        let args = (!value.is_null()).then(|| Bytes::from(format!("[{value}]")));
        Payload::args(Encoding::Json, Args { args, kwargs: None })
    }

    /// The same positional arguments with these keyword arguments, if they were sent as such.
    #[must_use]
    pub fn with_kwargs(self, kwargs: Option<Value>) -> Payload {
        match (self.body(), kwargs) {
            (
                Body::Args {
                    encoding: Encoding::Json,
                    args,
                },
                Some(kwargs),
            ) => {
                let (args, kwargs) = (args.args.clone(), Some(kwargs.to_string().into()));
                Payload::args(Encoding::Json, Args { args, kwargs })
            }
            _ => self,
        }
    }

    /// These positional arguments and no keyword arguments.
    #[must_use]
    pub fn from_values(values: &[Value]) -> Payload {
        let mut text = String::from("[");
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            text.push_str(&value.to_string());
        }
        text.push(']');
        Payload::args(
            Encoding::Json,
            Args {
                args: Some(Bytes::from(text)),
                kwargs: None,
            },
        )
    }

    /// The same with the sender's words.
    #[must_use]
    pub fn sealed(mut self, seal: Seal) -> Payload {
        self.seal = Some(Box::new(seal));
        self
    }

    /// The sender's words, if it sealed it.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_deref()
    }

    /// Whether a receiver can have it that can open sealed arguments, and a bare binary. Opaque
    /// bytes are for everybody.
    #[must_use]
    pub fn is_opened_by(&self, sealed: bool, bare: bool) -> bool {
        match (&self.body, &self.seal) {
            (Body::Bytes { .. }, _) | (_, None) => true,
            (_, Some(seal)) => {
                if seal.bare {
                    bare
                } else {
                    sealed
                }
            }
        }
    }

    /// The sender's form.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// A copy that shares no buffer with the frame it came in.
    #[must_use]
    pub fn detached(&self) -> Payload {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let text = |text: &ByteString| ByteString::from(&**text);
        let mut detached = Payload::from(match &self.body {
            Body::Bytes { data, enveloped } => Body::Bytes {
                data: copy(data),
                enveloped: *enveloped,
            },
            Body::Args { encoding, args } => Body::Args {
                encoding: *encoding,
                args: Args {
                    args: args.args.as_ref().map(copy),
                    kwargs: args.kwargs.as_ref().map(copy),
                },
            },
        });
        detached.seal = self.seal.as_deref().map(|seal| {
            let notes = seal.notes.iter();
            let notes = notes.map(|(name, value)| (text(name), text(value)));
            Box::new(Seal {
                notes: notes.collect(),
                bare: seal.bare,
            })
        });
        detached
    }

    /// Bytes in the sender's form, its words included.
    #[must_use]
    pub fn len(&self) -> usize {
        let notes = self.seal.as_deref().map_or(0, |seal| {
            let notes = seal.notes.iter();
            notes.map(|(name, value)| name.len() + value.len()).sum()
        });
        notes
            + match &self.body {
                Body::Bytes { data, .. } => data.len(),
                Body::Args { args, .. } => {
                    args.args.as_ref().map_or(0, Bytes::len)
                        + args.kwargs.as_ref().map_or(0, Bytes::len)
                }
            }
    }

    /// Whether the sender sent nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the bytes of a bytes sender read; `None` for arguments.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        let Body::Bytes { data, enveloped } = &self.body else {
            return None;
        };
        Some(*self.forms().form.get_or_init(|| form_of(data, *enveloped)))
    }

    /// The payload as arguments in `wanted`.
    #[must_use]
    pub fn as_args(&self, wanted: Encoding) -> Args {
        match &self.body {
            Body::Args { encoding, args } if *encoding == wanted => args.clone(),
            _ => self.converted(wanted).clone(),
        }
    }

    /// The payload as opaque bytes, and how they read.
    #[must_use]
    pub fn as_bytes(&self) -> (Bytes, Form) {
        match &self.body {
            Body::Bytes { data, .. } => (data.clone(), self.form().unwrap_or(Form::Bytes)),
            Body::Args { encoding, args } => {
                let made = self.forms().bytes.get_or_init(|| bytes_of(*encoding, args));
                (made.0.clone(), made.1)
            }
        }
    }

    /// The body value that conditions and filters look at: null for no arguments, the single
    /// argument, or else the list of them; keyword arguments never count. Bytes count as the one
    /// argument they would be translated to.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.forms().value.get_or_init(|| {
            let list = self.list();
            match list.len() {
                0 => Value::Null,
                1 => list.into_iter().next().unwrap_or(Value::Null),
                _ => Value::Array(list),
            }
        })
    }

    /// The keyword arguments as a value; null when there are none.
    #[must_use]
    pub fn kwargs_value(&self) -> &Value {
        self.forms().kwargs.get_or_init(|| {
            let (encoding, args) = self.any_args();
            args.kwargs
                .and_then(|kwargs| encoding::value::parse(encoding, &kwargs).ok())
                .unwrap_or(Value::Null)
        })
    }

    /// Whether the positional part is absent, `[]` or `[null]`.
    #[must_use]
    pub fn has_no_value(&self) -> bool {
        self.value().is_null()
    }

    /// Whether keyword arguments are absent or empty.
    #[must_use]
    pub fn has_no_kwargs(&self) -> bool {
        match self.kwargs_value() {
            Value::Object(map) => map.is_empty(),
            _ => true,
        }
    }

    /// The positional arguments as values; unreadable ones (which a gate refuses) count as none.
    fn list(&self) -> Vec<Value> {
        let (encoding, args) = self.any_args();
        let value = args
            .args
            .and_then(|args| encoding::value::parse(encoding, &args).ok());
        match value {
            // In the place of the list.
            Some(single) if self.seal.as_ref().is_some_and(|seal| seal.bare) => vec![single],
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        }
    }

    fn any_args(&self) -> (Encoding, Args) {
        match &self.body {
            Body::Args { encoding, args } => (*encoding, args.clone()),
            Body::Bytes { .. } => (Encoding::Json, self.as_args(Encoding::Json)),
        }
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(Box::default)
    }

    fn converted(&self, wanted: Encoding) -> &Args {
        let forms = self.forms();
        let cell = match wanted {
            Encoding::Json => &forms.json,
            Encoding::MsgPack => &forms.msgpack,
            Encoding::Cbor => &forms.cbor,
        };
        cell.get_or_init(|| match &self.body {
            Body::Args { encoding, args } => Args {
                args: args
                    .args
                    .as_ref()
                    .map(|raw| reencode(*encoding, wanted, raw)),
                kwargs: args
                    .kwargs
                    .as_ref()
                    .map(|raw| reencode(*encoding, wanted, raw)),
            },
            Body::Bytes { data, .. } => args_of(data, self.form().unwrap_or(Form::Bytes), wanted),
        })
    }
}

impl From<Body> for Payload {
    fn from(body: Body) -> Payload {
        Payload {
            body,
            seal: None,
            forms: OnceLock::new(),
        }
    }
}

fn form_of(data: &Bytes, enveloped: bool) -> Form {
    if enveloped && open_envelope(data).is_some() {
        return Form::Envelope;
    }
    match std::str::from_utf8(data) {
        Ok(_) if encoding::json::is_json(data) => Form::Json,
        Ok(_) => Form::Text,
        Err(_) => Form::Bytes,
    }
}

/// Opaque bytes as arguments.
fn args_of(data: &Bytes, form: Form, wanted: Encoding) -> Args {
    if data.is_empty() {
        let none = reencode(Encoding::Json, wanted, &Bytes::from_static(EMPTY_LIST));
        return Args {
            args: Some(none),
            kwargs: None,
        };
    }
    let json = match form {
        Form::Envelope => {
            let opened = open_envelope(data).unwrap_or_default();
            return Args {
                args: opened
                    .args
                    .map(|raw| reencode(Encoding::Json, wanted, &raw)),
                kwargs: opened
                    .kwargs
                    .map(|raw| reencode(Encoding::Json, wanted, &raw)),
            };
        }
        Form::Json => data.clone(),
        Form::Text => json_string(std::str::from_utf8(data).unwrap_or_default()),
        Form::Bytes => json_string(&format!("\0{}", BASE64.encode(data))),
    };
    let mut list = Vec::with_capacity(json.len() + 2);
    list.push(b'[');
    list.extend_from_slice(&json);
    list.push(b']');
    Args {
        args: Some(reencode(Encoding::Json, wanted, &list.into())),
        kwargs: None,
    }
}

fn json_string(text: &str) -> Bytes {
    Value::from(text).to_string().into()
}

/// Splits `{"args":[…],"kwargs":{…}}`, keeping the inner bytes. Anything else is no envelope.
fn open_envelope(data: &Bytes) -> Option<Args> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope<'a> {
        #[serde(borrow)]
        args: &'a serde_json::value::RawValue,
        #[serde(borrow)]
        kwargs: &'a serde_json::value::RawValue,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(data).ok()?;
    let raw = |value: &str| data.slice_ref(value.as_bytes());
    let (args, kwargs) = (envelope.args.get(), envelope.kwargs.get());
    let fits = args.starts_with('[')
        && kwargs.starts_with('{')
        && encoding::json::is_json(args.as_bytes())
        && encoding::json::is_json(kwargs.as_bytes());
    let has_kwargs = kwargs.bytes().any(|b| b == b'"');
    fits.then(|| Args {
        args: Some(raw(args)),
        kwargs: has_kwargs.then(|| raw(kwargs)),
    })
}

/// Arguments as opaque bytes.
fn bytes_of(from: Encoding, args: &Args) -> (Bytes, Form) {
    let no_kwargs = args
        .kwargs
        .as_ref()
        .is_none_or(|raw| from.is_empty_container(raw));
    if let (true, Some(list)) = (no_kwargs, &args.args)
        && let Ok(elements) = from.split_array(list)
        && let [only] = elements.as_slice()
    {
        let only = list.slice(only.clone());
        if let Some(binary) = binary_of(from, &only) {
            return (binary, Form::Bytes);
        }
        return (reencode(from, Encoding::Json, &only), Form::Json);
    }
    let part = |raw: &Option<Bytes>, empty: &'static [u8]| match raw {
        Some(raw) => reencode(from, Encoding::Json, raw),
        None => Bytes::from_static(empty),
    };
    let (list, map) = (part(&args.args, EMPTY_LIST), part(&args.kwargs, EMPTY_MAP));
    let mut text = Vec::with_capacity(list.len() + map.len() + 20);
    text.extend_from_slice(b"{\"args\":");
    text.extend_from_slice(&list);
    text.extend_from_slice(b",\"kwargs\":");
    text.extend_from_slice(&map);
    text.push(b'}');
    (text.into(), Form::Envelope)
}

/// The bytes of a binary value: one of its own kind, or by convention a JSON string that starts
/// with U+0000 followed by base64.
fn binary_of(encoding: Encoding, value: &Bytes) -> Option<Bytes> {
    let json = match (encoding, encoding.kind(value)?) {
        (Encoding::Json, Kind::Text) => value.clone(),
        (_, Kind::Binary) => reencode(encoding, Encoding::Json, value),
        _ => return None,
    };
    let (text, _) = encoding::json::text(&json)?;
    BASE64
        .decode(text.strip_prefix('\0')?)
        .ok()
        .map(Bytes::from)
}

/// The same value in another encoding. Gates only let well-formed values in, so a failure means a
/// value the target cannot express; it becomes null rather than hurting the receiver.
fn reencode(from: Encoding, to: Encoding, raw: &Bytes) -> Bytes {
    if from == to {
        return raw.clone();
    }
    let made = encoding::transcode::transcode(raw, from, to);
    made.unwrap_or_else(|_| Bytes::from_static(to.null()))
}
