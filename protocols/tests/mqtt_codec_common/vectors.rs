//! Reads the packet vectors of `tests/vectors/mqtt` and sets up the decoder each is meant for.

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use protocols::mqtt::codec::{DecodeError, Decoder, Limits};
use protocols::mqtt::packet::{Direction, Packet, ProtocolVersion};

/// What precedes the bytes of a vector on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Nothing: the first packet must be CONNECT.
    Connect,
    /// A CONNECT of this version.
    FromClient(ProtocolVersion),
    /// The CONNECT was ours.
    FromServer(ProtocolVersion),
}

impl Context {
    /// A decoder in this context.
    pub fn decoder(self, limits: Limits) -> Decoder {
        match self {
            Self::Connect => Decoder::server(limits),
            Self::FromClient(version) => {
                Decoder::new(Direction::ClientToServer, Some(version), limits)
            }
            Self::FromServer(version) => Decoder::client(version, limits),
        }
    }
}

/// One line of a vector file.
#[derive(Debug, Clone)]
pub struct Vector {
    /// File and line.
    pub place: String,
    /// What precedes the bytes.
    pub context: Context,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Expected reason code of an invalid vector.
    pub reason: Option<u8>,
}

/// Every vector of every file.
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/mqtt");
    let mut vectors = Vec::new();
    for entry in fs::read_dir(&folder).expect("vector folder") {
        let path = entry.expect("folder entry").path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .expect("UTF-8 name");
            let text = fs::read_to_string(&path).expect("vector file");
            for (index, line) in text.lines().enumerate() {
                vectors.push(parse(name, index + 1, line));
            }
        }
    }
    vectors.sort_by(|a, b| a.place.cmp(&b.place));
    vectors
}

fn parse(name: &str, number: usize, line: &str) -> Vector {
    let place = format!("{name}.hex:{number}: {line}");
    let (name, valid) = match name.strip_suffix("_invalid") {
        Some(rest) => (rest, false),
        None => (
            name.strip_suffix("_valid")
                .expect("verdict in the file name"),
            true,
        ),
    };
    let version = match name {
        _ if name.starts_with("v3_1_1_") => ProtocolVersion::V3_1_1,
        _ if name.starts_with("v3_1_") => ProtocolVersion::V3_1,
        _ if name.starts_with("v5_") => ProtocolVersion::V5,
        _ => panic!("no version in the name of {place}"),
    };
    let context = match name {
        _ if name.ends_with("_connect") => Context::Connect,
        _ if name.ends_with("_from_client") => Context::FromClient(version),
        _ if name.ends_with("_from_server") => Context::FromServer(version),
        _ => panic!("no context in the name of {place}"),
    };
    let (hex, comment) = line.split_once('#').expect("a comment");
    assert!(comment.contains(" — "), "clause and meaning: {place}");
    let code = comment.split_whitespace().next().expect("a clause");
    let reason = (!valid).then(|| u8::from_str_radix(code, 16).expect("a reason code"));
    Vector {
        place,
        context,
        bytes: bytes_of(hex),
        reason,
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(
        digits.len().is_multiple_of(2),
        "odd number of digits in {hex}"
    );
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex"))
        .collect()
}

/// Feeds `bytes` in pieces of `step` bytes: the packets, and the error that ended them or the
/// number of bytes left over.
pub fn decode_all(
    decoder: &mut Decoder,
    bytes: &[u8],
    step: usize,
) -> (Vec<Packet>, Result<usize, DecodeError>) {
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
    }
    (packets, Ok(buf.len()))
}
