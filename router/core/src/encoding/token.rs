//! What readers give and writers take: one scalar or one bracket at a time.

use super::EncodingError;
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;

/// Writes padding, reads with or without it: peers differ.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The movement a reader made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Over a scalar; [`Reader::scalar`] tells which.
    Scalar,
    /// Into an array.
    Array,
    /// Into a map; keys and values follow in turn.
    Map,
    /// Out of the innermost array or map.
    Close,
}

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    /// Negative.
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
}

/// Up to here every integer is a double.
const EXACT_FLOATS: f64 = 9_007_199_254_740_992.0;

impl Scalar<'_> {
    /// An integer of at least 0, or a float without fraction up to 2^53.
    pub(super) fn unsigned(&self) -> Option<u64> {
        match *self {
            Scalar::Unsigned(value) => Some(value),
            // In this range the conversion is exact.
            Scalar::Float(value)
                if value.fract() == 0.0 && (0.0..=EXACT_FLOATS).contains(&value) =>
            {
                Some(value as u64)
            }
            _ => None,
        }
    }
}

/// Reads one value, token by token, over borrowed bytes.
pub(super) trait Reader<'a> {
    /// Moves over the next token; `None` after the last one of the value.
    fn step(&mut self) -> Result<Option<Step>, EncodingError>;
    /// Where the token just passed starts.
    fn start(&self) -> usize;
    /// Where the token just passed ends.
    fn end(&self) -> usize;
    /// How many arrays and maps are open.
    fn depth(&self) -> usize;
    /// How many elements the array, or entries the map, just entered has, where its bytes tell
    /// beforehand. Not to be trusted for allocations, although never more than there are bytes
    /// left.
    fn container_len(&self) -> Option<usize>;
    /// The scalar just passed. Text that follows the convention for binary stays text.
    fn scalar(&self) -> Scalar<'a>;
    /// That nothing follows the value.
    fn finish(&mut self) -> Result<(), EncodingError>;
}

/// Writes one value, token by token. The caller opens and closes in pairs and alternates keys and
/// values.
pub(super) trait Writer {
    fn scalar(&mut self, scalar: Scalar<'_>);
    fn array(&mut self, len: usize);
    fn map(&mut self, len: usize);
    fn close(&mut self);
}

/// The bytes that `text` stands for by the convention for binary in JSON, if it follows it.
#[must_use]
pub fn binary_from_text(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix('\0')
        .and_then(|encoded| BASE64.decode(encoded).ok())
}

/// The text that stands for `bytes` where there is no binary.
#[must_use]
pub fn text_from_binary(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
    text.push('\0');
    BASE64.encode_string(bytes, &mut text);
    text
}
