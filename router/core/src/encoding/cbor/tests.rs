//! The examples of RFC 8949, appendix A, and what peers may get wrong.

use super::super::{Encoding, EncodingError, Fault, MAX_DEPTH, value};
use super::*;
use serde_json::{Value, json};

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn read(hex: &str) -> Result<Value, EncodingError> {
    value::parse(Encoding::Cbor, &bytes(hex))
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    Encoding::Cbor.check(bytes).err().map(|error| error.fault)
}

/// RFC 8949, appendix A, in its order. Floats and bignums beyond 64 bits as their double.
fn examples() -> Vec<(&'static str, Value)> {
    vec![
        ("00", json!(0)),
        ("01", json!(1)),
        ("0a", json!(10)),
        ("17", json!(23)),
        ("1818", json!(24)),
        ("1819", json!(25)),
        ("1864", json!(100)),
        ("1903e8", json!(1000)),
        ("1a000f4240", json!(1_000_000)),
        ("1b000000e8d4a51000", json!(1_000_000_000_000_u64)),
        ("1bffffffffffffffff", json!(u64::MAX)),
        ("c249010000000000000000", json!(18446744073709551616.0)),
        ("3bffffffffffffffff", json!(-18446744073709551616.0)),
        ("c349010000000000000000", json!(-18446744073709551617.0)),
        ("20", json!(-1)),
        ("29", json!(-10)),
        ("3863", json!(-100)),
        ("3903e7", json!(-1000)),
        ("f90000", json!(0.0)),
        ("f98000", json!(-0.0)),
        ("f93c00", json!(1.0)),
        ("fb3ff199999999999a", json!(1.1)),
        ("f93e00", json!(1.5)),
        ("f97bff", json!(65504.0)),
        ("fa47c35000", json!(100000.0)),
        ("fa7f7fffff", json!(3.4028234663852886e+38)),
        ("fb7e37e43c8800759c", json!(1.0e+300)),
        ("f90001", json!(5.960464477539063e-8)),
        ("f90400", json!(0.00006103515625)),
        ("f9c400", json!(-4.0)),
        ("fbc010666666666666", json!(-4.1)),
        ("f97c00", Value::Null),
        ("f97e00", Value::Null),
        ("f9fc00", Value::Null),
        ("fa7f800000", Value::Null),
        ("fa7fc00000", Value::Null),
        ("faff800000", Value::Null),
        ("fb7ff0000000000000", Value::Null),
        ("fb7ff8000000000000", Value::Null),
        ("fbfff0000000000000", Value::Null),
        ("f4", json!(false)),
        ("f5", json!(true)),
        ("f6", Value::Null),
        ("f7", Value::Null),
        ("f0", Value::Null),
        ("f8ff", Value::Null),
        (
            "c074323031332d30332d32315432303a30343a30305a",
            json!("2013-03-21T20:04:00Z"),
        ),
        ("c11a514b67b0", json!(1363896240)),
        ("c1fb41d452d9ec200000", json!(1363896240.5)),
        ("d74401020304", json!("\0AQIDBA==")),
        ("d818456449455446", json!("\0ZElFVEY=")),
        (
            "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
            json!("http://www.example.com"),
        ),
        ("40", json!("\0")),
        ("4401020304", json!("\0AQIDBA==")),
        ("60", json!("")),
        ("6161", json!("a")),
        ("6449455446", json!("IETF")),
        ("62225c", json!("\"\\")),
        ("62c3bc", json!("\u{fc}")),
        ("63e6b0b4", json!("\u{6c34}")),
        ("64f0908591", json!("\u{10151}")),
        ("80", json!([])),
        ("83010203", json!([1, 2, 3])),
        ("8301820203820405", json!([1, [2, 3], [4, 5]])),
        (
            "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
            (1..=25).collect(),
        ),
        ("a0", json!({})),
        ("a201020304", json!({"1": 2, "3": 4})),
        ("a26161016162820203", json!({"a": 1, "b": [2, 3]})),
        ("826161a161626163", json!(["a", {"b": "c"}])),
        (
            "a56161614161626142616361436164614461656145",
            json!({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
        ),
        ("5f42010243030405ff", json!("\0AQIDBAU=")),
        ("7f657374726561646d696e67ff", json!("streaming")),
        ("9fff", json!([])),
        ("9f018202039f0405ffff", json!([1, [2, 3], [4, 5]])),
        ("9f01820203820405ff", json!([1, [2, 3], [4, 5]])),
        ("83018202039f0405ff", json!([1, [2, 3], [4, 5]])),
        ("83019f0203ff820405", json!([1, [2, 3], [4, 5]])),
        (
            "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff",
            (1..=25).collect(),
        ),
        ("bf61610161629f0203ffff", json!({"a": 1, "b": [2, 3]})),
        ("826161bf61626163ff", json!(["a", {"b": "c"}])),
        ("bf6346756ef563416d7421ff", json!({"Fun": true, "Amt": -2})),
    ]
}

#[test]
fn the_examples_of_the_standard_read_as_it_says() {
    for (hex, wanted) in examples() {
        assert_eq!(read(hex), Ok(wanted), "{hex}");
    }
    let float = |hex: &str| match scalar(&bytes(hex)) {
        Some(Scalar::Float(value)) => value,
        other => panic!("{other:?}"),
    };
    for infinite in ["f97c00", "fa7f800000", "fb7ff0000000000000"] {
        assert_eq!(float(infinite), f64::INFINITY);
    }
    for infinite in ["f9fc00", "faff800000", "fbfff0000000000000"] {
        assert_eq!(float(infinite), f64::NEG_INFINITY);
    }
    for nan in ["f97e00", "fa7fc00000", "fb7ff8000000000000"] {
        assert!(float(nan).is_nan());
    }
}

#[test]
fn the_examples_end_nowhere_else_and_pass_through_arrays_byte_for_byte() {
    for (hex, wanted) in examples() {
        let example = bytes(hex);
        for end in 0..example.len() {
            assert_eq!(
                fault(&example[..end]),
                Some(Fault::Truncated),
                "{hex} {end}"
            );
        }
        let again = [&example[..], &[0]].concat();
        assert_eq!(fault(&again), Some(Fault::Trailing), "{hex}");
        let array = Encoding::Cbor.array_of(&[&example, &[0x01], &example]);
        let parts = Encoding::Cbor.split_array(&array).unwrap();
        assert_eq!(&array[parts[0].clone()], &example[..], "{hex}");
        assert_eq!(&array[parts[2].clone()], &example[..], "{hex}");
        let map = Encoding::Cbor.map_of(&[("k", &example)]);
        let entries = Encoding::Cbor.split_map(&map).unwrap();
        assert_eq!(&map[entries[0].value.clone()], &example[..], "{hex}");
        assert_eq!(
            value::parse(Encoding::Cbor, &map),
            Ok(json!({"k": wanted})),
            "{hex}"
        );
    }
}

/// RFC 8949, appendix F.1, and the rules of sections 3.2 and 3.3.
#[test]
fn what_is_not_well_formed_is_refused() {
    let reserved = [
        "1c", "1d", "1e", "3c", "3d", "3e", "5c", "7d", "9e", "bc", "dd", "fc", "fd", "fe",
    ];
    let narrow_simple = ["f800", "f801", "f818", "f81f"];
    let stray_break = [
        "ff", "81ff", "8200ff", "a1ff00", "a100ff", "9f81ff", "c0ff", "9fc1ffff",
    ];
    let odd_map = ["bf00ff", "bf000000ff"];
    let no_length = ["1f", "3f", "df"];
    let chunks = [
        "5f00ff", "5f21ff", "5f6100ff", "5f80ff", "5fc000ff", "5fe0ff", "7f4100ff",
    ];
    let nested_chunks = ["5f5f4100ffff", "7f7f6100ffff"];
    let all = reserved
        .iter()
        .chain(&narrow_simple)
        .chain(&stray_break)
        .chain(&odd_map);
    let all = all.chain(&no_length).chain(&chunks).chain(&nested_chunks);
    for hex in all {
        assert_eq!(fault(&bytes(hex)), Some(Fault::Syntax), "{hex}");
    }
}

#[test]
fn believes_no_length() {
    let lies = [
        "9bffffffffffffffff",
        "9b7fffffffffffffff00",
        "bbffffffffffffffff00",
        "bb8000000000000000",
        "7bffffffffffffffff61",
        "5bffffffffffffffff",
        "5affffffff00",
        "8201",
        "a101",
        "1b000000",
        "c2",
        "9f",
        "5f4101",
        "7f",
        "bf01",
        "",
    ];
    for lie in lies {
        assert_eq!(fault(&bytes(lie)), Some(Fault::Truncated), "{lie}");
    }
}

#[test]
fn text_is_utf8_in_every_chunk() {
    for bad in [
        "61ff",
        "62c328",
        "7f61c361bcff",
        "8161ff",
        "a161ff00",
        "c261ff",
    ] {
        assert_eq!(fault(&bytes(bad)), Some(Fault::Utf8), "{bad}");
    }
    assert_eq!(fault(&bytes("41ff")), None);
}

#[test]
fn nesting_is_capped_and_tags_are_not_nesting() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        bytes(&(open.repeat(depth) + inner + &close.repeat(depth)))
    };
    for depth in [MAX_DEPTH, MAX_DEPTH + 1] {
        let wanted = (depth > MAX_DEPTH).then_some(Fault::TooDeep);
        assert_eq!(fault(&nested("81", "00", "", depth)), wanted);
        assert_eq!(fault(&nested("9f", "00", "ff", depth)), wanted);
        assert_eq!(fault(&nested("a100", "00", "", depth)), wanted);
        assert_eq!(fault(&nested("bf00", "00", "ff", depth)), wanted);
    }
    assert_eq!(fault(&vec![0x9f; 1_000_000]), Some(Fault::TooDeep));
    assert_eq!(fault(&vec![0xc1; 1_000_000]), Some(Fault::Truncated));
    assert_eq!(read(&("c1".repeat(10_000) + "05")), Ok(json!(5)));
}

#[test]
fn a_tag_changes_nothing_but_bignums() {
    assert_eq!(read("d9d9f783010203"), Ok(json!([1, 2, 3])));
    assert_eq!(read("d84043010203"), Ok(json!("\0AQID")));
    // A bignum whatever stands in front of it, in chunks as well, and no further than one value.
    assert_eq!(read("c1c24105"), Ok(json!(5)));
    assert_eq!(read("c25f41014100ff"), Ok(json!(256)));
    assert_eq!(read("c3420100"), Ok(json!(-257)));
    assert_eq!(read("c2c14105"), Ok(json!("\0BQ==")));
    assert_eq!(read("c26105".replace("05", "35").as_str()), Ok(json!("5")));
    assert_eq!(read("82c2410541ff"), Ok(json!([5, "\0/w=="])));
    assert_eq!(read("c2814105"), Ok(json!(["\0BQ=="])));
    assert_eq!(unsigned(&bytes("c24105")), Some(5));
    assert_eq!(binary(&bytes("c24105")), None);
}

#[test]
fn accepts_integral_floats_as_integers() {
    for seven in [
        "07",
        "1807",
        "1b0000000000000007",
        "f94700",
        "fa40e00000",
        "fb401c000000000000",
    ] {
        assert_eq!(unsigned(&bytes(seven)), Some(7), "{seven}");
    }
    assert_eq!(unsigned(&bytes("fb4340000000000000")), Some(1 << 53));
    for other in [
        "f93800",
        "fbbff0000000000000",
        "fb4340000000000001",
        "f97e00",
        "20",
        "6137",
        "f5",
    ] {
        assert_eq!(unsigned(&bytes(other)), None, "{other}");
    }
}

#[test]
fn tells_kinds_and_empty_containers() {
    let kinds = [
        ("f6", Kind::Null),
        ("e0", Kind::Null),
        ("f820", Kind::Null),
        ("f7", Kind::Undefined),
        ("f4", Kind::Bool),
        ("f5", Kind::Bool),
        ("05", Kind::Integer),
        ("20", Kind::Integer),
        ("c24105", Kind::Integer),
        ("c35f4105ff", Kind::Integer),
        ("f90000", Kind::Float),
        ("fa00000000", Kind::Float),
        ("60", Kind::Text),
        ("7fff", Kind::Text),
        ("40", Kind::Binary),
        ("d84040", Kind::Binary),
        ("c2c140", Kind::Binary),
        ("80", Kind::Array),
        ("9fff", Kind::Array),
        ("9b0000000000000000", Kind::Array),
        ("d9d9f780", Kind::Array),
        ("a0", Kind::Map),
        ("bfff", Kind::Map),
        ("b800", Kind::Map),
    ];
    for (hex, wanted) in kinds {
        let value = bytes(hex);
        assert_eq!(kind(&value), Some(wanted), "{hex}");
        let is_container = matches!(wanted, Kind::Array | Kind::Map);
        assert_eq!(is_empty_container(&value), is_container, "{hex}");
    }
    for nothing in ["", "ff", "1c", "d8", "c1"] {
        assert_eq!(kind(&bytes(nothing)), None, "{nothing}");
    }
    for full in ["8100", "9f00ff", "a10000", "9f80ff"] {
        assert!(!is_empty_container(&bytes(full)), "{full}");
    }
}

#[test]
fn undefined_is_absent_in_options_and_null_in_payloads() {
    // {"a": undefined, "b": {"c": undefined, "d": [undefined]}}
    let options = bytes("a26161f76162bf6163f7616481f7ff");
    let read = value::parse_map(Encoding::Cbor, &options).unwrap();
    assert_eq!(Value::Object(read), json!({"b": {"d": [null]}}));
    let read = value::parse(Encoding::Cbor, &options).unwrap();
    assert_eq!(read, json!({"a": null, "b": {"c": null, "d": [null]}}));
}
