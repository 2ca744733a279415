//! The grammar of URIs and the spelling of topics: examples, and laws over a nasty alphabet.
#![cfg(feature = "wamp")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use proptest::prelude::*;
use protocols::wamp::uris::{
    self, Part, UriError, component_to_level, core_to_uri, fox_parts, is_concrete, is_pattern,
    parts_to_uri, prefix_to_core, uri_to_core, wildcard_parts,
};
use std::borrow::Cow;
use std::collections::HashMap;

/// Everything that `\s` means in Python or JavaScript, by code point.
const WHITE_SPACE: [u32; 30] = [
    0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x85, 0xa0, 0x1680, 0x2000, 0x2001,
    0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f,
    0x205f, 0x3000, 0xfeff,
];

/// The loose regular expression of the specification, read aloud.
fn fits_loose_grammar(uri: &str) -> bool {
    let fits = |c: char| c != '#' && !WHITE_SPACE.contains(&u32::from(c));
    uri.split('.')
        .all(|component| !component.is_empty() && component.chars().all(fits))
}

#[test]
fn spells_topics_as_the_examples_say() {
    let examples = [
        ("app/topic/name", "app.topic.name"),
        ("spBv1.0/G/NDATA", "spBv1%2E0.G.NDATA"),
        ("/a", "%00.a"),
        ("a//b", "a.%00.b"),
        ("a/", "a.%00"),
        ("/", "%00.%00"),
        ("my room/t 1", "my%20room.t%201"),
        ("100%/x", "100%.x"),
        ("$SYS/broker", "$SYS.broker"),
        ("*", "%2A"),
        ("a/*/b", "a.%2A.b"),
        ("a*b", "a*b"),
        ("**", "**"),
        ("a\0b/c", "a/b.c"),
        ("\0", "/"),
        ("+/a+", "+.a+"),
        ("%2E", "%252E"),
        ("%00", "%2500"),
        ("x%2A", "x%252A"),
        ("%25", "%2525"),
        ("%2e", "%2e"),
        ("%C2%A0", "%25C2%A0"),
        ("%C2%A1", "%C2%A1"),
        ("%C2", "%C2"),
        ("%C2\u{a0}", "%C2%C2%A0"),
        ("% ", "%%20"),
        ("%%20", "%%2520"),
        ("\u{2028}é", "%E2%80%A8é"),
        ("\u{feff}", "%EF%BB%BF"),
        ("\u{1c}", "%1C"),
        ("\u{1}", "\u{1}"),
        ("Ä/ß", "Ä.ß"),
    ];
    for (core, uri) in examples {
        assert_eq!(core_to_uri(core), uri, "{core:?}");
        assert_eq!(uri_to_core(uri).unwrap(), core, "{uri:?}");
        assert!(fits_loose_grammar(uri), "{uri:?}");
    }
}

#[test]
fn refuses_what_is_no_uri_or_not_the_one_spelling() {
    for (uri, error) in [
        ("", UriError::EmptyComponent),
        (".", UriError::EmptyComponent),
        ("a..b", UriError::EmptyComponent),
        ("a.", UriError::EmptyComponent),
        (".a", UriError::EmptyComponent),
        ("a b", UriError::Character),
        ("a\u{a0}b", UriError::Character),
        ("a\u{feff}", UriError::Character),
        ("a#", UriError::Character),
        ("a.#", UriError::Character),
        ("a\0", UriError::Character),
        ("a.*", UriError::NotCanonical),
        ("%25x", UriError::NotCanonical),
        ("%25", UriError::NotCanonical),
        ("a%00", UriError::NotCanonical),
        ("%00%00", UriError::NotCanonical),
        ("a%2A", UriError::NotCanonical),
        ("%2F%2A", UriError::NotCanonical),
        ("%25C2%A1", UriError::NotCanonical),
    ] {
        assert_eq!(uri_to_core(uri), Err(error), "{uri:?}");
    }
}

#[test]
fn knows_every_white_space_of_every_peer() {
    for code in WHITE_SPACE {
        let c = char::from_u32(code).unwrap();
        assert!(!is_concrete(&format!("a{c}b")), "{code:x}");
        let level = format!("x{c}y");
        let uri = core_to_uri(&level).into_owned();
        assert!(is_concrete(&uri), "{code:x}");
        assert_eq!(uri_to_core(&uri).unwrap(), level);
        // The same text as typed by somebody, not as made by the escape.
        assert_ne!(core_to_uri(&uri), uri);
    }
    let others = (1..=0x10_ffff)
        .filter_map(char::from_u32)
        .filter(|c| !WHITE_SPACE.contains(&u32::from(*c)) && !matches!(c, '.' | '#' | '/' | '*'));
    for c in others {
        let level = c.to_string();
        assert_eq!(core_to_uri(&level), level, "{:x}", u32::from(c));
        assert!(is_concrete(&level), "{:x}", u32::from(c));
    }
}

#[test]
fn tells_concrete_uris_from_patterns() {
    for uri in [
        "a",
        "com.myapp.topic1",
        "wamp.error.canceled",
        "a/b",
        "a.+",
        "$x",
        "Ü.é",
    ] {
        assert!(is_concrete(uri) && is_pattern(uri), "{uri}");
    }
    for uri in ["", "a.", ".", "a..b", "..", ".a"] {
        assert!(!is_concrete(uri) && is_pattern(uri), "{uri}");
    }
    for uri in ["a b", "a.#", "#", "\t", "a\0", "com.my\u{2003}app"] {
        assert!(!is_concrete(uri) && !is_pattern(uri), "{uri}");
    }
}

#[test]
fn reads_patterns_with_star_and_hash() {
    let level = |text: &'static str| Part::Level(Cow::Borrowed(text));
    assert!(uris::has_wildcards("a.*.b") && uris::has_wildcards("#") && uris::has_wildcards("*"));
    assert!(!uris::has_wildcards("a*.b*c") && !uris::has_wildcards("a..b"));
    let parts = vec![level("a"), Part::One, level("b"), Part::Rest];
    assert_eq!(fox_parts("a.*.b.#"), Ok(parts));
    assert_eq!(fox_parts("#"), Ok(vec![Part::Rest]));
    assert_eq!(
        fox_parts("%00.x%2Ey.*"),
        Ok(vec![level(""), level("x.y"), Part::One])
    );
    assert_eq!(fox_parts("%2A.*"), Ok(vec![level("*"), Part::One]));
    assert_eq!(fox_parts("a*.*"), Ok(vec![level("a*"), Part::One]));
    assert_eq!(fox_parts("a.#.b"), Err(UriError::MisplacedRest));
    assert_eq!(fox_parts("a.b#"), Err(UriError::Character));
    assert_eq!(fox_parts("a..*"), Err(UriError::EmptyComponent));
    for pattern in ["a.*.b.#", "#", "%00.x%2Ey.*", "%2A.*", "a/b.*"] {
        assert_eq!(parts_to_uri(&fox_parts(pattern).unwrap()), pattern);
    }
}

#[test]
fn reads_wildcard_and_prefix_matches() {
    let level = |text: &'static str| Part::Level(Cow::Borrowed(text));
    let wildcard = vec![level("a"), Part::One, level("c"), Part::One];
    assert_eq!(wildcard_parts("a..c."), Ok(wildcard));
    assert_eq!(wildcard_parts(""), Ok(vec![Part::One]));
    assert_eq!(wildcard_parts("a.*"), Err(UriError::NotCanonical));
    assert_eq!(wildcard_parts("a.#"), Err(UriError::Character));
    for (uri, core) in [
        ("", ""),
        ("com.my", "com/my"),
        ("com.my.", "com/my/"),
        ("com", "com"),
        ("a%2E", "a."),
        ("%00.a", "/a"),
        ("a/b", "a\0b"),
        ("a*", "a*"),
    ] {
        assert_eq!(prefix_to_core(uri).unwrap(), core, "{uri:?}");
    }
    for (uri, error) in [
        (".", UriError::EmptyComponent),
        ("a..b", UriError::EmptyComponent),
        ("a.#", UriError::Character),
        ("a. ", UriError::Character),
        ("a.%00", UriError::NotCanonical),
        ("a.%2A", UriError::NotCanonical),
        ("*", UriError::NotCanonical),
    ] {
        assert_eq!(prefix_to_core(uri), Err(error), "{uri:?}");
    }
}

#[test]
fn standard_names_are_legal_uris() {
    assert_eq!(
        uris::error::OPTION_DISALLOWED_DISCLOSE_ME,
        "wamp.error.option_disallowed.disclose_me"
    );
    assert_eq!(uris::error::NO_SUCH_REALM, "wamp.error.no_such_realm");
    assert_eq!(uris::close::GOODBYE_AND_OUT, "wamp.close.goodbye_and_out");
    assert!(is_concrete(uris::error::CANCELED));
}

/// Pieces that codes are made of, or could be mistaken for.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "%",
        "%",
        ".",
        " ",
        "\u{a0}",
        "\u{2028}",
        "\u{1d}",
        "\u{feff}",
        "%2E",
        "%25",
        "%00",
        "%2A",
        "%20",
        "%C2%A0",
        "%E2%80%A8",
        "%0",
        "%C2",
        "%A0",
        "%E2%80",
        "2E",
        "25",
        "00",
        "2A",
        "C2",
        "A0",
        "E2",
        "80",
        "A8",
        "2",
        "0",
        "*",
        "+",
        "$",
        "é",
        "a",
        "\u{1}",
        "%2e",
        "%e2",
    ])
}

/// A topic as MQTT may name it: no U+0000, `#` or `+` (`+` is added, it must survive as well).
fn core_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => piece(), 2 => Just("/"), 1 => Just("\0")];
    prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// Something that a WAMP client may send as a URI.
fn uri_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => piece(), 2 => Just("."), 1 => Just("/"), 1 => Just("#")];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_topic_has_a_legal_uri_and_comes_back(core in core_text()) {
        let uri = core_to_uri(&core);
        prop_assert!(fits_loose_grammar(&uri), "{:?}", uri);
        prop_assert!(is_concrete(&uri));
        prop_assert!(!uris::has_wildcards(&uri));
        prop_assert_eq!(uri_to_core(&uri).unwrap(), core);
    }

    #[test]
    fn every_accepted_uri_comes_back(uri in uri_text()) {
        if let Ok(core) = uri_to_core(&uri) {
            prop_assert!(fits_loose_grammar(&uri), "{:?}", uri);
            prop_assert_eq!(core_to_uri(&core), &uri[..]);
        } else {
            // What is refused is no URI, or is not what any topic is spelled like.
            prop_assert!(!is_concrete(&uri) || uri.contains(['%', '*']));
        }
    }

    #[test]
    fn distinct_stays_distinct(texts in prop::collection::vec(core_text(), 2..40)) {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for core in &texts {
            let other = *seen.entry(core_to_uri(core).into_owned()).or_insert(core);
            prop_assert_eq!(other, core);
        }
    }

    #[test]
    fn the_whole_is_spelled_as_its_parts(core in core_text()) {
        let uri = core_to_uri(&core);
        let levels: Result<Vec<Cow<'_, str>>, UriError> =
            uri.split('.').map(component_to_level).collect();
        prop_assert_eq!(levels.unwrap().join("/"), &core[..]);
        let parts = fox_parts(&uri).unwrap();
        prop_assert!(parts.iter().all(|part| matches!(part, Part::Level(_))));
        prop_assert_eq!(parts_to_uri(&parts), uri.into_owned());
    }

    #[test]
    fn plain_uris_only_change_the_separator(uri in "[a-z0-9_$+:@-]{1,6}(\\.[a-z0-9_$+:@-]{1,6}){0,4}") {
        prop_assert_eq!(uri_to_core(&uri).unwrap(), uri.replace('.', "/"));
    }

    #[test]
    fn a_prefix_of_whole_components_reads_as_they_do(uri in uri_text(), more in uri_text()) {
        let longer = format!("{uri}.{more}");
        if let (Ok(prefix), Ok(topic)) = (prefix_to_core(&format!("{uri}.")), uri_to_core(&longer)) {
            prop_assert!(topic.starts_with(&*prefix));
        }
    }
}
