//! The journal: a header, then one entry for each commit.
//!
//! Header: eight bytes that name the format, the journal's generation and the CRC-32 of both. Entry: the length of its
//! content, a CRC-32, the content. That checksum covers the generation and the entry's number too, so that what an older
//! journal left in the file does not pass. Content: for each operation the space, one byte 0 for a removal or 1 for a
//! write, the length of the key, the key, and for a write the length of the value and the value. Numbers are
//! little-endian, lengths have four bytes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::disk::private_file;
use crate::{Batch, Op, Space, StorageError};

const MAGIC: [u8; 8] = *b"RYNJRNL1";
const HEADER: usize = 20;
const ENTRY_HEADER: usize = 8;

/// A journal that is being written.
pub(super) struct Journal {
    path: PathBuf,
    generation: u64,
    /// `None` until something is written in this generation.
    open: Option<Open>,
}

struct Open {
    /// Writes at its end.
    file: File,
    entries: u64,
    bytes: u64,
    /// The end could not be cleared of half an entry: what follows would not be found.
    torn: bool,
}

impl Journal {
    pub fn new(path: PathBuf, generation: u64) -> Self {
        Self {
            path,
            generation,
            open: None,
        }
    }

    /// The number that a mark gets when this journal has been taken in.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The engine has it: the next entry begins a new one over it.
    pub fn taken_in(&mut self) {
        self.generation = self.generation.saturating_add(1);
        self.open = None;
    }

    /// Hands the batch to the operating system, as a whole or not at all.
    pub fn append(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let path = &self.path;
        let failed = |error: io::Error| StorageError::from_io("writing", path, &error);
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::begin(path, self.generation).map_err(failed)?),
        };
        let entry = encode(self.generation, open.entries, batch)?;
        open.append(&entry).map_err(failed)
    }
}

impl Open {
    fn begin(path: &Path, generation: u64) -> io::Result<Self> {
        remove_file(path)?;
        let mut file = private_file().append(true).create(true).open(path)?;
        file.write_all(&header(generation))?;
        Ok(Self {
            file,
            entries: 0,
            bytes: HEADER as u64,
            torn: false,
        })
    }

    fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.torn {
            return Err(io::Error::other("the journal has a torn end"));
        }
        if let Err(error) = self.file.write_all(entry) {
            self.torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.entries += 1;
        self.bytes += entry.len() as u64;
        Ok(())
    }
}

/// What a journal holds that the engine does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Whole commits.
    pub commits: u64,
    /// Their operations, in order.
    pub batch: Batch,
}

/// What stands in a journal.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// What can be read and the engine does not have.
    pub left: Left,
    /// What cannot be read.
    pub rest: Vec<u8>,
}

/// Reads what follows `mark`; what cannot be read is put aside.
///
/// # Errors
/// As for [`parse`].
pub(super) fn read(path: &Path, mark: u64) -> Result<Left, StorageError> {
    let parsed = parse(path, mark)?;
    put_aside(path, &parsed.rest)?;
    Ok(parsed.left)
}

/// Reads what follows `mark` and changes nothing.
///
/// # Errors
/// `Damaged` if the journal was written over a later state than the mark's, else those of the system.
pub(crate) fn parse(path: &Path, mark: u64) -> Result<Parsed, StorageError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Parsed::default()),
        Err(error) => return Err(StorageError::from_io("reading", path, &error)),
    };
    let Some(generation) = generation(&bytes) else {
        return Ok(Parsed {
            rest: bytes,
            ..Parsed::default()
        });
    };
    if generation <= mark {
        return Ok(Parsed::default());
    }
    if generation > mark.saturating_add(1) {
        return Err(StorageError::Damaged {
            what: format!(
                "the journal follows {} others, of which the database has only {mark}",
                generation - 1
            ),
            where_: path.display().to_string(),
        });
    }
    let mut left = Left::default();
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    while let Some((batch, behind)) = decode(generation, left.commits, rest) {
        left.commits += 1;
        left.batch.append(batch);
        rest = behind;
    }
    let rest = rest.to_vec();
    Ok(Parsed { left, rest })
}

/// Removes a journal that has been taken in.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    remove_file(path).map_err(|error| StorageError::from_io("removing", path, &error))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keeps the end of a journal that could not be read, for whoever wants to look at it.
fn put_aside(path: &Path, rest: &[u8]) -> Result<(), StorageError> {
    if rest.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| StorageError::from_io("putting aside the end of", path, &error);
    let (mut file, aside) = new_beside(path).map_err(failed)?;
    file.write_all(rest).map_err(failed)?;
    tracing::warn!(
        bytes = rest.len(),
        kept = %aside.display(),
        "the journal ends in the middle of a commit, as after a power cut; the end was cut off"
    );
    Ok(())
}

fn new_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    for number in 1..u32::MAX {
        let aside = path.with_extension(format!("cut.{number}"));
        match private_file().write(true).create_new(true).open(&aside) {
            Ok(file) => return Ok((file, aside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn header(generation: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn generation(bytes: &[u8]) -> Option<u64> {
    let generation = bytes.get(8..16)?.try_into().ok()?;
    let generation = u64::from_le_bytes(generation);
    bytes.starts_with(&header(generation)).then_some(generation)
}

fn checksum(generation: u64, number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&(content.len() as u64).to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

fn encode(generation: u64, number: u64, batch: &Batch) -> Result<Vec<u8>, StorageError> {
    let mut content = Vec::with_capacity(batch.bytes());
    for op in batch.ops() {
        content.push(op.space().0);
        content.push(u8::from(op.value().is_some()));
        put(&mut content, op.key())?;
        if let Some(value) = op.value() {
            put(&mut content, value)?;
        }
    }
    let mut entry = Vec::with_capacity(ENTRY_HEADER + content.len());
    entry.extend_from_slice(&length(&content)?);
    entry.extend_from_slice(&checksum(generation, number, &content).to_le_bytes());
    entry.extend_from_slice(&content);
    Ok(entry)
}

fn put(content: &mut Vec<u8>, bytes: &[u8]) -> Result<(), StorageError> {
    content.extend_from_slice(&length(bytes)?);
    content.extend_from_slice(bytes);
    Ok(())
}

fn length(bytes: &[u8]) -> Result<[u8; 4], StorageError> {
    let length = u32::try_from(bytes.len()).map_err(|_| StorageError::Io {
        what: "a commit is larger than 4 GiB".into(),
    })?;
    Ok(length.to_le_bytes())
}

/// The entry at the front of `bytes` and what follows it; `None` if there is none that is whole.
fn decode(generation: u64, number: u64, bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (crc, rest) = bytes.get(4..)?.split_first_chunk::<4>()?;
    let (content, behind) = rest.split_at_checked(number_at(bytes)?)?;
    if u32::from_le_bytes(*crc) != checksum(generation, number, content) {
        return None;
    }
    Some((operations(content)?, behind))
}

fn operations(mut content: &[u8]) -> Option<Batch> {
    let mut batch = Batch::new();
    while let Some(([space, kind], rest)) = content.split_first_chunk::<2>() {
        let (key, rest) = take(rest)?;
        let (space, key) = (Space(*space), key.to_vec());
        content = match kind {
            0 => {
                batch.push(Op::Delete { space, key });
                rest
            }
            1 => {
                let (value, rest) = take(rest)?;
                let value = value.to_vec();
                batch.push(Op::Put { space, key, value });
                rest
            }
            _ => return None,
        };
    }
    content.is_empty().then_some(batch)
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.get(4..)?.split_at_checked(number_at(bytes)?)
}

fn number_at(bytes: &[u8]) -> Option<usize> {
    let number = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
    usize::try_from(number).ok()
}
