//! Values in pieces.
//!
//! sled keeps up to some twenty records in a page and stores a page above a quarter of a segment as a file of its own,
//! a blob. Blobs are what sled does worst: it never syncs them, a page that moves into one may lose its old place
//! before the file is on the disk, and when the disk is full in the middle of one, the database can be neither flushed
//! nor closed any more. So no page may grow that large: a value is cut into parts of at most [`PART`] bytes.
//!
//! The record itself holds the number of further parts (four bytes, little-endian) and the first part; the others
//! stand in [`Space::ENGINE`](crate::Space::ENGINE), sealed like every record and counted by the ledger.

use std::borrow::Cow;

use super::database::Database;
use crate::StorageError;
use crate::disk::{self, Database as _, Parts, place};

/// The longest part, in bytes. Twenty of them with keys of 10 KiB, or an index page of 320 keys of 1600 bytes, stay
/// below a quarter of [`SEGMENT`]; only still longer keys can make sled write a blob.
pub(super) const PART: usize = 16 << 10;
/// sled's unit of space, in bytes.
pub(super) const SEGMENT: usize = 2 << 20;

const PREFIX: &[u8] = b"\xffpart";
const COUNT: usize = 4;

fn part_key(flat_key: &[u8], index: u32) -> Vec<u8> {
    // The length keeps a key that ends like an index apart from a shorter one.
    [
        PREFIX,
        &(flat_key.len() as u64).to_be_bytes(),
        flat_key,
        &index.to_be_bytes(),
    ]
    .concat()
}

/// True for the keys of further parts.
pub(super) fn is_part(flat_key: &[u8]) -> bool {
    flat_key.starts_with(PREFIX)
}

/// Adds to `parts` what writing `value` (or removing it) over what is stored now takes.
pub(super) fn replace(
    database: &Database,
    flat_key: Vec<u8>,
    value: Option<&[u8]>,
    parts: &mut Parts,
) -> Result<(), StorageError> {
    let old = match database.stored(&flat_key)? {
        Some(stored) => count(&flat_key, disk::open(&flat_key, &stored)?.0)?.0,
        None => 0,
    };
    let mut new = 0_u32;
    let (first, rest) = match value {
        Some(value) => value.split_at(value.len().min(PART)),
        None => (&[][..], &[][..]),
    };
    for part in rest.chunks(PART) {
        new = new.checked_add(1).ok_or_else(|| StorageError::Io {
            what: "a value is larger than 64 TiB".into(),
        })?;
        parts.insert(part_key(&flat_key, new), Some(part.to_vec()));
    }
    for gone in new.saturating_add(1)..=old {
        parts.insert(part_key(&flat_key, gone), None);
    }
    parts.insert(
        flat_key,
        value.map(|_| [&new.to_le_bytes()[..], first].concat()),
    );
    Ok(())
}

/// The value whose record is `stored`.
pub(super) fn value<'a>(
    database: &Database,
    flat_key: &[u8],
    stored: &'a [u8],
) -> Result<Cow<'a, [u8]>, StorageError> {
    let (further, first) = count(flat_key, disk::open(flat_key, stored)?.0)?;
    if further == 0 {
        return Ok(Cow::Borrowed(first));
    }
    let mut value = first.to_vec();
    for index in 1..=further {
        let key = part_key(flat_key, index);
        let Some(stored) = database.stored(&key)? else {
            let what = format!("part {index} of {further} of a value is missing");
            return Err(StorageError::Damaged {
                what,
                where_: place(flat_key),
            });
        };
        value.extend_from_slice(disk::open(&key, &stored)?.0);
    }
    Ok(Cow::Owned(value))
}

fn count<'a>(flat_key: &[u8], payload: &'a [u8]) -> Result<(u32, &'a [u8]), StorageError> {
    let Some((count, first)) = payload.split_first_chunk::<COUNT>() else {
        let what = format!(
            "a record's content of {} bytes does not hold its number of parts",
            payload.len()
        );
        return Err(StorageError::Damaged {
            what,
            where_: place(flat_key),
        });
    };
    Ok((u32::from_le_bytes(*count), first))
}
