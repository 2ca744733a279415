//! Bits that turn over and ends that go missing, in the file that holds the records.

use std::fs;
use std::io;
use std::path::Path;

use super::disk::{Disk, open_on};
use super::workload::{Content, content, content_after, numbered};
use crate::{EngineKind, Storage, StorageError, open};

/// Commits of 200 bytes each: a store of 8 KiB with their keys.
const COMMITS: u32 = 9;
/// What an engine reads as a whole.
const PAGE: usize = 4096;

/// What was tried, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Damaged copies of the store.
    pub tried: u64,
    /// Of these, those that did not open.
    pub refused: u64,
}

/// Flips each `step`th bit of the pages that are not empty, and cuts the file at each `step`th byte of its length; each
/// time the store must be refused or whole. `dir` must be empty.
///
/// # Errors
/// The first damage after which something else is there.
pub fn flip_everywhere(dir: &Path, engine: EngineKind, step: usize) -> Result<Flips, String> {
    let store = Store::make(dir, engine).map_err(|error| error.to_string())?;
    let mut flips = Flips::default();
    for bit in (0..store.image.len() * 8).step_by(step.max(1)) {
        let page = bit / 8 / PAGE * PAGE;
        let end = (page + PAGE).min(store.image.len());
        if store
            .image
            .get(page..end)
            .is_none_or(|page| page.iter().all(|byte| *byte == 0))
        {
            continue;
        }
        let mut damaged = store.image.clone();
        if let Some(byte) = damaged.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        flips.note(
            store
                .reopen(damaged)
                .map_err(|why| format!("bit {bit}: {why}"))?,
        );
    }
    for length in (0..store.image.len()).step_by(step.max(1)) {
        let cut = store.image.get(..length).unwrap_or_default().to_vec();
        flips.note(
            store
                .reopen(cut)
                .map_err(|why| format!("cut to {length}: {why}"))?,
        );
    }
    Ok(flips)
}

impl Flips {
    fn note(&mut self, opened: bool) {
        self.tried += 1;
        self.refused += u64::from(!opened);
    }
}

struct Store<'a> {
    dir: &'a Path,
    engine: EngineKind,
    image: Vec<u8>,
    expected: Content,
}

impl<'a> Store<'a> {
    fn make(dir: &'a Path, engine: EngineKind) -> Result<Self, StorageError> {
        let whole = dir.join("whole");
        let storage = open(&whole, engine)?;
        for number in 1..=COMMITS {
            storage.commit(&numbered(number))?;
        }
        drop(storage);
        let file = whole.join(file_of(engine));
        let image =
            fs::read(&file).map_err(|error| StorageError::from_io("reading", &file, &error))?;
        Ok(Self {
            dir,
            engine,
            image,
            expected: content_after(COMMITS),
        })
    }

    /// Whether a copy with that file opens.
    fn reopen(&self, image: Vec<u8>) -> Result<bool, String> {
        let copy = self.dir.join("copy");
        let file = copy.join(file_of(self.engine));
        let _absent = fs::remove_dir_all(&copy);
        copy_dir(&self.dir.join("whole"), &copy).map_err(|error| error.to_string())?;
        let opened = match self.engine {
            EngineKind::Sled => {
                fs::write(&file, image).map_err(|error| error.to_string())?;
                open(&copy, self.engine)
            }
            EngineKind::Redb => open_on(&copy, &Disk::of(image))
                .map(|storage| Box::new(storage) as Box<dyn Storage>),
        };
        match opened {
            Err(StorageError::Damaged { .. } | StorageError::Newer { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
            Ok(storage) if content(&storage).as_ref() == Ok(&self.expected) => Ok(true),
            Ok(_) => Err("silently something else".into()),
        }
    }
}

fn file_of(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Sled => "sled/db",
        EngineKind::Redb => "records.redb",
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
