//! The side file `watermark`: the number of the last acknowledged commit.
//!
//! Twelve bytes, counter and CRC-32, both little-endian, overwritten in place after every successful sync. It is
//! evidence, not data: it need not be fsynced, since a lost update only makes it say less than is true. A database that
//! ends before the watermark has lost an acknowledged commit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const BYTES: usize = 12;

pub(crate) struct Watermark {
    file: File,
}

impl Watermark {
    /// Opens or creates the file and reads it; `None` if it is absent, torn or nonsense.
    pub fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let mut file = super::directory::private_file()
            .read(true)
            .write(true)
            .create(true)
            .open(path)?;
        let mut bytes = Vec::new();
        // One byte more than ours tells an overlong file apart.
        Read::by_ref(&mut file)
            .take(BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        let counter = decode(&bytes);
        if counter.is_none() && !bytes.is_empty() {
            tracing::warn!(path = %path.display(), "the file is torn and is ignored: lost commits may go unnoticed");
        }
        Ok((Self { file }, counter))
    }

    /// Notes that commit `counter` has been acknowledged.
    pub fn write(&mut self, counter: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode(counter))
    }
}

fn encode(counter: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&counter.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let (counter, crc) = bytes.split_first_chunk::<8>()?;
    let crc: [u8; 4] = crc.try_into().ok()?;
    (crc32fast::hash(counter) == u32::from_le_bytes(crc)).then(|| u64::from_le_bytes(*counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_reopening_and_ignores_a_torn_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watermark");
        let (mut mark, before) = Watermark::open(&path).unwrap();
        assert_eq!(before, None);
        mark.write(41).unwrap();
        mark.write(42).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().1, Some(42));
        for torn in [&encode(42)[..11], &[], &[0; 12], &[0; 13]] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(Watermark::open(&path).unwrap().1, None, "{torn:?}");
        }
    }
}
