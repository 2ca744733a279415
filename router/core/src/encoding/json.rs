//! JSON text: RFC 8259, strict, over borrowed bytes.
//!
//! The reader checks the grammar of every token and the UTF-8 of the whole input. Two things that
//! the grammar allows have no exact value: an escape of a lone surrogate (`\ud800`) reads as
//! U+FFFD, and a number beyond the range of its type loses precision or becomes infinite (see
//! `Reader`). Both pass unchanged wherever bytes are forwarded.

mod reader;
mod writer;

use super::token::{Reader as _, Step};
use super::{Kind, MAX_DEPTH};
use std::borrow::Cow;

pub(super) use reader::Reader;
pub(super) use writer::Writer;
pub use writer::{put_text, put_unsigned};

/// How deep a foreign payload may be nested and still count as JSON for [`is_json`]. Less than
/// [`MAX_DEPTH`], since such a payload travels on inside argument lists, envelopes and frames.
pub const MAX_PAYLOAD_DEPTH: usize = MAX_DEPTH - 8;

/// Whether the bytes are one JSON value, possibly between white space, and not nested deeper than
/// [`MAX_PAYLOAD_DEPTH`]. An empty input and a leading byte order mark are not JSON; neither is what
/// the grammar allows but strict parsers refuse, a lone surrogate or a number beyond every double:
/// it must not cost a receiver its connection.
#[must_use]
pub fn is_json(input: &[u8]) -> bool {
    let Ok(mut reader) = Reader::with_max_depth(input, MAX_PAYLOAD_DEPTH) else {
        return false;
    };
    loop {
        match reader.step() {
            Ok(Some(Step::Scalar)) if !reader.is_portable() => return false,
            Ok(Some(_)) => {}
            Ok(None) => return reader.finish().is_ok(),
            Err(_) => return false,
        }
    }
}

/// The value of a JSON integer without fraction and exponent, from 0 to 2^64-1.
#[must_use]
pub fn unsigned(value: &[u8]) -> Option<u64> {
    let first = value.first()?;
    if !first.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The content of a well-formed JSON string, and whether it is free of lone surrogates (each of
/// which is read as U+FFFD). `None` if the value is no string.
#[must_use]
pub fn text(value: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    let quoted = std::str::from_utf8(value).ok()?.trim_matches(is_space_char);
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    Some(reader::unescape(inner))
}

/// See [`Encoding::kind`](super::Encoding::kind).
pub(super) fn kind(value: &[u8]) -> Option<Kind> {
    let first = value.iter().position(|b| !is_space(*b))?;
    let value = value.get(first..)?;
    Some(match value.first()? {
        b'n' => Kind::Null,
        b't' | b'f' => Kind::Bool,
        b'"' => Kind::Text,
        b'[' => Kind::Array,
        b'{' => Kind::Map,
        b'-' | b'0'..=b'9' => {
            let is_float = value.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
            if is_float { Kind::Float } else { Kind::Integer }
        }
        _ => return None,
    })
}

/// See [`Encoding::is_empty_container`](super::Encoding::is_empty_container).
pub(super) fn is_empty_container(value: &[u8]) -> bool {
    let mut bytes = value.iter().filter(|b| !is_space(**b));
    matches!(
        (bytes.next(), bytes.next()),
        (Some(b'['), Some(b']')) | (Some(b'{'), Some(b'}'))
    )
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_space_char(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, Fault};
    use super::*;

    #[test]
    fn judges_foreign_payloads() {
        for good in [
            "5",
            " [1] ",
            "\"\"",
            "null",
            "{\"a\":1e5}",
            "-0",
            "1.5E-3",
            "1e308",
            "\"\\ud83d\\ude00\"",
        ] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " ",
            "hello",
            "01",
            "+1",
            ".5",
            "5.",
            "1e",
            "-",
            "NaN",
            "[1,]",
            "{a:1}",
            "{\"a\"}",
            "'a'",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "1 2",
            "[",
            "{\"a\":}",
            "tru",
            "\u{feff}1",
            "[1}",
            "{1:2}",
            "\"\u{1f}\"",
            "// c\n1",
            "\u{a0}1",
            "\"\\ud800\"",
            "{\"\\udc00\":1}",
            "1e309",
            "[-1e999]",
        ] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(b"\"\xff\""));
        assert!(!is_json(b"\"\xed\xa0\x80\""));
    }

    #[test]
    fn says_where_it_stopped() {
        let fault = |text: &str| {
            Encoding::Json
                .check(text.as_bytes())
                .map_err(|e| (e.fault, e.at))
        };
        assert_eq!(fault("[1,]"), Err((Fault::Syntax, 3)));
        assert_eq!(fault("[1"), Err((Fault::Truncated, 2)));
        assert_eq!(fault("[1] x"), Err((Fault::Trailing, 4)));
        assert_eq!(fault("\"a"), Err((Fault::Truncated, 2)));
        assert_eq!(Encoding::Json.check(b"\"a\xff\"").map_err(|e| e.at), Err(2));
    }

    #[test]
    fn resolves_escapes() {
        let read = |inner: &str| {
            let quoted = format!("\"{inner}\"");
            text(quoted.as_bytes()).map(|(text, exact)| (text.into_owned(), exact))
        };
        let exactly = |text: &str| Some((text.to_owned(), true));
        assert_eq!(
            read("a\\n\\t\\r\\b\\f\\/\\\\\\\"b"),
            exactly("a\n\t\r\u{8}\u{c}/\\\"b")
        );
        assert_eq!(read("\\u00e9\\uD83D\\uDE00é"), exactly("é😀é"));
        let lossy = |text: &str| Some((text.to_owned(), false));
        assert_eq!(read("\\ud800"), lossy("\u{fffd}"));
        assert_eq!(read("\\udc00x"), lossy("\u{fffd}x"));
        assert_eq!(read("\\ud800\\u0041"), lossy("\u{fffd}A"));
        assert_eq!(read("\\ud800\\ud83d\\ude00"), lossy("\u{fffd}😀"));
        assert_eq!(read("\\udc00\\udc00"), lossy("\u{fffd}\u{fffd}"));
        assert_eq!(text(b"5"), None);
        assert!(matches!(
            text(b" \"plain\" "),
            Some((Cow::Borrowed("plain"), true))
        ));
    }

    #[test]
    fn reads_unsigned_integers_only() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for other in [
            "18446744073709551616",
            "1.0",
            "1e2",
            "-1",
            "+1",
            "\"1\"",
            "",
            "true",
        ] {
            assert_eq!(unsigned(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn tells_kinds_and_empty_containers() {
        let kinds = [
            ("null", Kind::Null),
            ("true", Kind::Bool),
            (" -12", Kind::Integer),
            ("1.0", Kind::Float),
            ("1E2", Kind::Float),
            ("\"\"", Kind::Text),
            ("[1.5]", Kind::Array),
            ("{}", Kind::Map),
        ];
        for (value, wanted) in kinds {
            assert_eq!(kind(value.as_bytes()), Some(wanted), "{value}");
        }
        assert_eq!(kind(b""), None);
        assert_eq!(kind(b"x"), None);
        for empty in ["[]", "{}", " [ \n] ", "{\t}"] {
            assert!(is_empty_container(empty.as_bytes()), "{empty}");
        }
        for other in ["[0]", "{\"\":0}", "\"[]\"", "null", "[[]]", ""] {
            assert!(!is_empty_container(other.as_bytes()), "{other}");
        }
    }
}
