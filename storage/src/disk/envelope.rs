//! How a record stands on disk, and the ledger that proves that no record is missing.
//!
//! Envelope: one byte format version, four bytes CRC-32 (IEEE, little-endian), then the value. The checksum covers the
//! version, the length of the flat key, the flat key (space byte and key) and the value, so that a value found under
//! another key does not pass.
//!
//! Ledger: one record in [`Space::ENGINE`] that every commit rewrites in its own batch: the commit's number, how many
//! records there are, and the wrapping sum of a 64-bit hash of each. sled drops damaged parts of its log without a
//! word; whatever it drops, the records found no longer add up to the ledger.

use crate::{Space, StorageError};

/// The version of the envelope and of the ledger that this release writes.
const VERSION: u8 = 1;
const HEADER: usize = 5;
const LEDGER_BYTES: usize = 24;

/// The flat key of the ledger's record.
pub(crate) const LEDGER_KEY: &[u8] = b"\xffledger";

/// The flat key of the mark that says up to where the journal has been taken in.
pub(crate) const MARK_KEY: &[u8] = b"\xffmark";

fn checksum(flat_key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    // Without the length, moving the border between key and value would go unnoticed.
    hasher.update(&(flat_key.len() as u64).to_le_bytes());
    hasher.update(flat_key);
    hasher.update(value);
    hasher.finalize()
}

/// Wraps a value for the disk; also says what the record adds to the ledger's digest.
pub(crate) fn seal(flat_key: &[u8], value: &[u8]) -> (Vec<u8>, u64) {
    let crc = checksum(flat_key, value);
    let mut bytes = Vec::with_capacity(HEADER + value.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(value);
    (bytes, weight(crc, flat_key, value))
}

/// Checks a stored record and gives its value and what it adds to the ledger's digest.
///
/// # Errors
/// `Damaged`, naming space and key.
pub(crate) fn open<'a>(flat_key: &[u8], stored: &'a [u8]) -> Result<(&'a [u8], u64), StorageError> {
    let damaged = |what: String| StorageError::Damaged {
        what,
        where_: place(flat_key),
    };
    let Some((header, value)) = stored.split_first_chunk::<HEADER>() else {
        return Err(damaged(format!(
            "a record of {} bytes is shorter than its header",
            stored.len()
        )));
    };
    let [version, crc @ ..] = *header;
    if version != VERSION {
        return Err(damaged(format!(
            "a record has the unknown format version {version}"
        )));
    }
    let (found, expected) = (u32::from_le_bytes(crc), checksum(flat_key, value));
    if found != expected {
        return Err(damaged(format!(
            "a record's checksum is {found:08x} where its content gives {expected:08x}"
        )));
    }
    Ok((value, weight(expected, flat_key, value)))
}

/// Spreads checksum and lengths over 64 bits, so that sums of different sets of records differ (the finalizer of
/// splitmix64; it guards against accidents, not against forgery).
fn weight(crc: u32, flat_key: &[u8], value: &[u8]) -> u64 {
    let length = (flat_key.len() as u64).rotate_left(20) ^ value.len() as u64;
    let mut x = (u64::from(crc) << 32 | u64::from(crc)) ^ length.rotate_left(17);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A record's place in words: the space and the key in hexadecimal, shortened.
pub(crate) fn place(flat_key: &[u8]) -> String {
    const SHOWN: usize = 64;
    let Some((space, key)) = flat_key.split_first() else {
        return "a record without a key".into();
    };
    let hex: String = key
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if key.len() > SHOWN { "…" } else { "" };
    format!("space {space}, key {hex}{more}")
}

/// What all records together must add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The number of the last commit; the first is 1.
    pub commits: u64,
    /// How many records there are, the ledger's own not counted.
    pub records: u64,
    /// The wrapping sum of the records' weights.
    pub digest: u64,
}

impl Ledger {
    pub fn add(&mut self, weight: u64) {
        self.records = self.records.wrapping_add(1);
        self.digest = self.digest.wrapping_add(weight);
    }

    pub fn remove(&mut self, weight: u64) {
        self.records = self.records.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(weight);
    }

    /// True if both stand for the same records, whatever commits led there.
    pub fn same_content(&self, other: &Ledger) -> bool {
        (self.records, self.digest) == (other.records, other.digest)
    }

    pub fn seal(&self) -> Vec<u8> {
        let mut value = [0; LEDGER_BYTES];
        value[..8].copy_from_slice(&self.commits.to_le_bytes());
        value[8..16].copy_from_slice(&self.records.to_le_bytes());
        value[16..].copy_from_slice(&self.digest.to_le_bytes());
        seal(LEDGER_KEY, &value).0
    }

    pub fn open(stored: &[u8]) -> Result<Self, StorageError> {
        let (value, _) = open(LEDGER_KEY, stored)?;
        let (numbers, rest) = value.as_chunks::<8>();
        let (&[commits, records, digest], []) = (numbers, rest) else {
            let what = format!(
                "the ledger has {} bytes instead of {LEDGER_BYTES}",
                value.len()
            );
            return Err(StorageError::Damaged {
                what,
                where_: place(LEDGER_KEY),
            });
        };
        let [commits, records, digest] = [commits, records, digest].map(u64::from_le_bytes);
        Ok(Self {
            commits,
            records,
            digest,
        })
    }
}

/// True for keys that only the engine writes.
pub(crate) fn is_engine_key(flat_key: &[u8]) -> bool {
    flat_key.first() == Some(&Space::ENGINE.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_key_or_a_moved_border_is_noticed() {
        let (stored, _) = seal(b"\x01ab", b"cd");
        assert!(open(b"\x01ab", &stored).is_ok());
        assert!(open(b"\x02ab", &stored).is_err(), "another space");
        let mut moved = stored[..HEADER].to_vec();
        moved.extend_from_slice(b"d");
        assert!(
            open(b"\x01abc", &moved).is_err(),
            "same bytes, other border"
        );
    }

    #[test]
    fn damage_names_space_and_key() {
        let (mut stored, _) = seal(b"\x03ab", b"value");
        stored[HEADER] ^= 1;
        let text = open(b"\x03ab", &stored).unwrap_err().to_string();
        assert!(text.contains("space 3, key 6162"), "{text}");
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(key in prop::collection::vec(any::<u8>(), 1..20),
                                      value in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            let (stored, weight) = seal(&key, &value);
            prop_assert_eq!(open(&key, &stored).unwrap(), (&value[..], weight));
            let bit = at.index(stored.len() * 8);
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&key, &flipped).is_err());
            prop_assert!(open(&key, &stored[..at.index(stored.len())]).is_err());
        }

        #[test]
        fn the_ledger_forgets_the_order_but_no_record(values in prop::collection::vec(any::<u32>(), 1..20)) {
            let weights: Vec<u64> = values.iter().enumerate()
                .map(|(at, value)| seal(&[1, at as u8], &value.to_le_bytes()).1).collect();
            let mut forward = Ledger::default();
            weights.iter().for_each(|weight| forward.add(*weight));
            let mut backward = Ledger { commits: 7, ..Ledger::default() };
            weights.iter().rev().for_each(|weight| backward.add(*weight));
            prop_assert!(forward.same_content(&backward));
            prop_assert_eq!(Ledger::open(&backward.seal()).unwrap(), backward);
            backward.remove(weights[0]);
            prop_assert!(!forward.same_content(&backward));
        }
    }
}
