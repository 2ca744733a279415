//! URIs: the standard names, the loose grammar, and how topics are spelled.
//!
//! **Grammar** (section "URIs"): components joined by `.`; a component holds no `.`, no `#` and no
//! white space; only patterns have empty components. U+0000 is refused as well, since the core
//! uses it as a sign of its own.
//!
//! **Spelling.** The core knows a topic as levels joined by `/`, in which a `/` inside a level
//! stands as U+0000. A level becomes a component so that every URI is legal and no two topics
//! share one: inside a level `.` is `%2E` and white space `%XX` of its UTF-8 bytes; an empty level
//! is `%00`, a level that is exactly `*` is `%2A`; U+0000 is `/`. A `%` stays as it is unless what
//! follows would read as one of these codes or as `25`; then it is `%25`.
//!
//! Both directions are inverse to each other: only the one spelling that [`core_to_uri`] gives is
//! accepted, a needless code is [`UriError::NotCanonical`].

use bytestring::ByteString;
use std::borrow::Cow;
use thiserror::Error;

/// Names of errors.
pub mod error {
    /// Declares the names below one prefix.
    macro_rules! names {
        ($prefix:literal: $($name:ident = $last:literal, $doc:literal;)*) => {
            $(#[doc = $doc] pub const $name: &str = concat!($prefix, $last);)*
        };
    }
    pub(super) use names;

    names! { "wamp.error.":
        INVALID_URI = "invalid_uri", "A URI breaks the grammar, or is no canonical spelling.";
        NO_SUCH_PROCEDURE = "no_such_procedure", "Nobody registered the procedure called.";
        PROCEDURE_ALREADY_EXISTS = "procedure_already_exists", "Registered already, not shared.";
        NO_SUCH_REGISTRATION = "no_such_registration", "The session holds no such registration.";
        NO_SUCH_SUBSCRIPTION = "no_such_subscription", "The session holds no such subscription.";
        NO_SUCH_SESSION = "no_such_session", "There is no session with this id.";
        INVALID_ARGUMENT = "invalid_argument", "Arguments or options that make no sense.";
        INVALID_PAYLOAD = "invalid_payload", "A conditional write whose condition does not hold.";
        CANCELED = "canceled", "The call was canceled, or its callee has gone.";
        PAYLOAD_SIZE_EXCEEDED = "payload_size_exceeded", "Too large for the receiver.";
        PROTOCOL_VIOLATION = "protocol_violation", "The peer broke the protocol.";
        NOT_AUTHORIZED = "not_authorized", "The role may not do this.";
        AUTHORIZATION_FAILED = "authorization_failed", "The authorizer itself failed.";
        AUTHORIZATION_DENIED = "authorization_denied", "Joining is refused.";
        AUTHORIZATION_REQUIRED = "authorization_required", "Authorization is missing.";
        NO_SUCH_REALM = "no_such_realm", "There is no such realm.";
        NO_SUCH_ROLE = "no_such_role", "There is no such role.";
        NO_SUCH_PRINCIPAL = "no_such_principal", "There is no such identity.";
        NO_MATCHING_AUTH_METHOD = "no_matching_auth_method", "No method offered is possible.";
        AUTHENTICATION_DENIED = "authentication_denied", "Wrong credentials.";
        AUTHENTICATION_FAILED = "authentication_failed", "The authenticator itself failed.";
        AUTHENTICATION_REQUIRED = "authentication_required", "Credentials are missing.";
        TIMEOUT = "timeout", "The call or the wait took too long.";
        OPTION_NOT_ALLOWED = "option_not_allowed", "An option that may not be used here.";
        OPTION_DISALLOWED_DISCLOSE_ME = "option_disallowed.disclose_me",
            "Identity may not be disclosed.";
        NETWORK_FAILURE = "network_failure", "A router in between is unreachable.";
        UNAVAILABLE = "unavailable", "The callee asks to try another one.";
        NO_AVAILABLE_CALLEE = "no_available_callee", "Every callee is unavailable.";
        FEATURE_NOT_SUPPORTED = "feature_not_supported", "The other side lacks a feature.";
        RUNTIME_ERROR = "runtime_error", "The callee's own code failed.";
    }
}

/// Names of reasons to close a session.
pub mod close {
    super::error::names! { "wamp.close.":
        CLOSE_REALM = "close_realm", "The client leaves.";
        GOODBYE_AND_OUT = "goodbye_and_out", "The answer to every GOODBYE.";
        SYSTEM_SHUTDOWN = "system_shutdown", "The peer shuts down.";
        KILLED = "killed", "Ended through the meta API.";
        NORMAL = "normal", "The client leaves, as some clients spell it.";
        TRANSPORT_LOST = "transport_lost", "Client side: the transport is gone.";
    }
}

/// The first component that is reserved for the protocol.
pub const RESERVED_COMPONENT: &str = "wamp";

/// Why a URI names nothing. All of it is answered with [`error::INVALID_URI`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// An empty component where none is allowed; so is the empty URI.
    #[error("an empty component")]
    EmptyComponent,
    /// White space, `#` or U+0000.
    #[error("a character that no URI may contain")]
    Character,
    /// A code where the plain character is meant, or a plain `*` where its code is.
    #[error("not the canonical spelling of a topic")]
    NotCanonical,
    /// `#` before the last component.
    #[error("'#' must be the whole last component")]
    MisplacedRest,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// This level, in core text.
    Level(Cow<'a, str>),
    /// Any one level.
    One,
    /// Any number of levels; only as the last part.
    Rest,
}

/// White space to any peer: Unicode's, and what Python and JavaScript take for it in addition.
const fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}' | '\u{feff}')
}

const fn is_forbidden(c: char) -> bool {
    is_space(c) || matches!(c, '#' | '\0')
}

/// Whether this is a loose URI without empty components: for topics, procedures, realms, errors.
#[must_use]
pub fn is_concrete(uri: &str) -> bool {
    is_pattern(uri) && uri.split('.').all(|component| !component.is_empty())
}

/// Whether this is a loose URI, empty components allowed.
#[must_use]
pub fn is_pattern(uri: &str) -> bool {
    !uri.chars().any(is_forbidden)
}

/// Whether a URI, or a pattern in any of its notations, keeps to the strict grammar: components of
/// lower case letters, digits and underscores.
#[must_use]
pub fn is_strict(uri: &str) -> bool {
    let is_letter = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    uri.split('.')
        .all(|component| matches!(component, "*" | "#") || component.bytes().all(is_letter))
}

/// Whether some component is exactly `*` or `#`: such a URI in a SUBSCRIBE without `match` is a
/// pattern, see [`fox_parts`].
#[must_use]
pub fn has_wildcards(uri: &str) -> bool {
    uri.split('.')
        .any(|component| matches!(component, "*" | "#"))
}

/// The core text of a concrete URI.
///
/// # Errors
/// When the URI breaks the grammar or is not canonical.
pub fn uri_to_core(uri: &str) -> Result<ByteString, UriError> {
    if is_plain(uri, b'.') {
        return Ok(uri.replace('.', "/").into());
    }
    let mut text = String::with_capacity(uri.len());
    for (i, component) in uri.split('.').enumerate() {
        if i > 0 {
            text.push('/');
        }
        text.push_str(&component_to_level(component)?);
    }
    Ok(text.into())
}

/// The one URI of a core text; the inverse of [`uri_to_core`].
///
/// The text is that of a topic and holds no `#`. One that does gets `%23` there, which is a legal
/// URI but leads not back.
#[must_use]
pub fn core_to_uri(text: &str) -> Cow<'_, str> {
    if is_plain(text, b'/') {
        return match memchr::memchr(b'/', text.as_bytes()) {
            None => Cow::Borrowed(text),
            Some(_) => Cow::Owned(text.replace('/', ".")),
        };
    }
    let mut uri = String::with_capacity(text.len() + 8);
    for (i, level) in text.split('/').enumerate() {
        if i > 0 {
            uri.push('.');
        }
        uri.push_str(&level_to_component(level));
    }
    Cow::Owned(uri)
}

/// The common case: printable ASCII without codes, wildcards and empty parts, so that nothing but
/// the `separator` changes. Each notation excludes the other one's separator.
fn is_plain(text: &str, separator: u8) -> bool {
    let mut previous = separator;
    for byte in text.bytes() {
        match byte {
            b'.' | b'/' if byte != separator || previous == separator => return false,
            b'#' | b'%' | b'*' | 0..=b' ' | 0x7f.. => return false,
            _ => previous = byte,
        }
    }
    previous != separator
}

/// The parts of a SUBSCRIBE topic in the notation with `*` (one component) and a final `#` (the
/// rest, none too). Both must be whole components; elsewhere `*` is an ordinary character.
///
/// # Errors
/// When `#` is misplaced, or another component breaks the grammar or is not canonical.
pub fn fox_parts(uri: &str) -> Result<Vec<Part<'_>>, UriError> {
    let mut parts = Vec::new();
    let mut components = uri.split('.').peekable();
    while let Some(component) = components.next() {
        parts.push(match component {
            "*" => Part::One,
            "#" if components.peek().is_none() => Part::Rest,
            "#" => return Err(UriError::MisplacedRest),
            _ => Part::Level(component_to_level(component)?),
        });
    }
    Ok(parts)
}

/// The parts of a URI with `match: "wildcard"`: an empty component is any one.
///
/// # Errors
/// When a component breaks the grammar or is not canonical.
pub fn wildcard_parts(uri: &str) -> Result<Vec<Part<'_>>, UriError> {
    let part = |component| match component {
        "" => Ok(Part::One),
        _ => component_to_level(component).map(Part::Level),
    };
    uri.split('.').map(part).collect()
}

/// The core text that topics must start with for a URI with `match: "prefix"`: a string prefix,
/// not one of whole components. The empty URI is legal and matches everything.
///
/// The comparison is made with levels, not with their codes: a prefix that ends inside a code
/// (`a%2` for `a%2E`) does not match that level.
///
/// # Errors
/// When a component breaks the grammar or is not canonical, when one before the last is empty, or
/// when the last one is a code that stands for a whole level and cannot be its beginning.
pub fn prefix_to_core(uri: &str) -> Result<ByteString, UriError> {
    let (head, last) = uri
        .rsplit_once('.')
        .map_or((None, uri), |(head, last)| (Some(head), last));
    let mut text = String::with_capacity(uri.len());
    if let Some(head) = head {
        text.push_str(&uri_to_core(head)?);
        text.push('/');
    }
    if !last.is_empty() {
        let partial = component_to_level(last)?;
        if matches!(&*partial, "" | "*") {
            return Err(UriError::NotCanonical);
        }
        text.push_str(&partial);
    }
    Ok(text.into())
}

/// The URI of a prefix's core text; the inverse of [`prefix_to_core`].
#[must_use]
pub fn core_to_prefix(text: &str) -> String {
    let last = |level| match level {
        "" => Cow::Borrowed(""),
        level => level_to_component(level),
    };
    match text.rsplit_once('/') {
        None => last(text).into_owned(),
        Some((head, level)) => format!("{}.{}", core_to_uri(head), last(level)),
    }
}

/// The text of a pattern in the notation of [`fox_parts`], for listings.
#[must_use]
pub fn parts_to_uri(parts: &[Part<'_>]) -> String {
    let mut uri = String::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            uri.push('.');
        }
        match part {
            Part::Level(level) => uri.push_str(&level_to_component(level)),
            Part::One => uri.push('*'),
            Part::Rest => uri.push('#'),
        }
    }
    uri
}

/// The level that a component spells, in core text.
///
/// # Errors
/// When the component is empty, breaks the grammar or is not canonical.
pub fn component_to_level(component: &str) -> Result<Cow<'_, str>, UriError> {
    if component.is_empty() {
        return Err(UriError::EmptyComponent);
    }
    if component.chars().any(|c| is_forbidden(c) || c == '.') {
        return Err(UriError::Character);
    }
    if component != "*" && memchr::memchr2(b'%', b'/', component.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(component));
    }
    let mut level = String::with_capacity(component.len());
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        match (c, code(chars.as_str())) {
            ('%', Some((meaning, len))) => {
                level.extend(meaning);
                chars = chars.as_str().get(len..).unwrap_or_default().chars();
            }
            ('/', _) => level.push('\0'),
            _ => level.push(c),
        }
    }
    // Read leniently, write strictly, compare: what is accepted is what would be written.
    if level_to_component(&level) != component {
        return Err(UriError::NotCanonical);
    }
    Ok(Cow::Owned(level))
}

/// The component that spells a level.
#[must_use]
pub fn level_to_component(level: &str) -> Cow<'_, str> {
    match level {
        "" => return Cow::Borrowed("%00"),
        "*" => return Cow::Borrowed("%2A"),
        _ => {}
    }
    if !level
        .chars()
        .any(|c| is_forbidden(c) || matches!(c, '.' | '%'))
    {
        return Cow::Borrowed(level);
    }
    let mut component = String::with_capacity(level.len() + 8);
    let mut chars = level.chars();
    while let Some(c) = chars.next() {
        match c {
            '\0' => component.push('/'),
            // What follows is looked at as it stands in the level. That equals what will stand in
            // the component: codes are made of hex digits, which stay, and of `%` before a
            // continuation byte, which no code starts with.
            '%' if code(chars.as_str()).is_some() => component.push_str("%25"),
            '.' | '#' => push_code(&mut component, c),
            _ if is_space(c) => push_code(&mut component, c),
            _ => component.push(c),
        }
    }
    Cow::Owned(component)
}

fn push_code(component: &mut String, c: char) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let hex = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or('0');
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        component.extend(['%', hex(byte >> 4), hex(byte & 0xf)]);
    }
}

/// Reads what follows a `%` as the rest of a code: its meaning (none for the empty level) and its
/// length in bytes. Digits are upper case only.
fn code(rest: &str) -> Option<(Option<char>, usize)> {
    let mut bytes = [0; 4];
    *bytes.first_mut()? = hex_byte(rest.get(..2)?)?;
    let len = match bytes.first()? {
        0x00 => return Some((None, 2)),
        b'.' | b'%' | b'*' => return Some((Some(char::from(*bytes.first()?)), 2)),
        0x01..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => return None,
    };
    let mut at = 2;
    for slot in bytes.get_mut(1..len)? {
        let digits = rest.get(at..at + 3)?.strip_prefix('%')?;
        *slot = hex_byte(digits)?;
        at += 3;
    }
    let mut chars = std::str::from_utf8(bytes.get(..len)?).ok()?.chars();
    let c = chars.next().filter(|c| is_space(*c))?;
    Some((Some(c), at))
}

fn hex_byte(digits: &str) -> Option<u8> {
    let is_upper_hex = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    (digits.len() == 2 && digits.bytes().all(is_upper_hex))
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}
