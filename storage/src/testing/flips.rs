//! Bits that turn over and ends that go missing, in the file that holds the records.

use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::thread;

use super::disk::{Disk, open_on};
use super::workload::{Content, content, content_after, numbered};
use crate::{EngineKind, Storage, StorageError, open};

/// Commits of 200 bytes each: a store of 8 KiB with their keys.
const COMMITS: u32 = 9;
/// What an engine reads as a whole.
const PAGE: usize = 4096;
/// Lengths are tried in this distance in the middle of nothing but zeros, with which sled fills up its segment of 2 MiB:
/// they differ in how many zeros follow what has been written, and that part is the same for all of them. Prime, so that
/// all places in a page have their turn.
const STRIDE: usize = 127;
/// So many pages around what is not zero, and before the end, have every length tried.
const MARGIN: usize = 1;
const ZEROS: [u8; PAGE] = [0; PAGE];
/// Databases that are opened side by side.
const THREADS: usize = 2;

/// What was tried, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Damaged copies of the store.
    pub tried: u64,
    /// Of these, those of which only the length was changed.
    pub lengths: u64,
    /// Those that did not open.
    pub refused: u64,
}

/// Flips each `step`th bit of the pages that are not empty, and cuts the file at each `step`th byte of its length (of
/// sled, where nothing but zeros is near, at each 127th of these); each time the store must be refused or whole. `dir`
/// must be empty.
///
/// # Errors
/// The first damage after which something else is there.
pub fn flip_everywhere(dir: &Path, engine: EngineKind, step: usize) -> Result<Flips, String> {
    let store = Store::make(dir, engine).map_err(|error| error.to_string())?;
    let damages = store.damages(step.max(1));
    let share = damages.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let store = &store;
        let parts: Vec<_> = damages
            .chunks(share)
            .enumerate()
            .map(|(at, part)| scope.spawn(move || store.try_all(part, at)))
            .collect();
        parts.into_iter().try_fold(Flips::default(), |all, part| {
            let part = part.join().map_err(|_| "a thread ended with a panic")??;
            Ok(all.and(part))
        })
    })
}

impl Flips {
    fn note(&mut self, damage: Damage, opened: bool) {
        self.tried += 1;
        self.lengths += u64::from(matches!(damage, Damage::Length(_)));
        self.refused += u64::from(!opened);
    }

    fn and(self, other: Self) -> Self {
        Self {
            tried: self.tried + other.tried,
            lengths: self.lengths + other.lengths,
            refused: self.refused + other.refused,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit(usize),
    Length(usize),
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
        let failed = |error: io::Error| StorageError::from_io("copying", &file, &error);
        let image = fs::read(&file).map_err(failed)?;
        // Each copy gets a damaged one.
        fs::remove_file(&file).map_err(failed)?;
        Ok(Self {
            dir,
            engine,
            image,
            expected: content_after(COMMITS),
        })
    }

    fn damages(&self, step: usize) -> Vec<Damage> {
        let used: Vec<bool> = self.image.chunks(PAGE).map(|page| !is_zero(page)).collect();
        let in_use = |bit: &usize| used.get(bit / 8 / PAGE) == Some(&true);
        let counts = |length: &usize| {
            let page = length / PAGE;
            let near = used.get(page.saturating_sub(MARGIN)..(page + MARGIN + 1).min(used.len()));
            self.engine != EngineKind::Sled
                || (length / step).is_multiple_of(STRIDE)
                || page + MARGIN >= used.len()
                || near.is_some_and(|pages| pages.contains(&true))
        };
        let bits = (0..self.image.len() * 8).step_by(step).filter(in_use);
        let lengths = (0..self.image.len()).step_by(step).filter(counts);
        bits.map(Damage::Bit)
            .chain(lengths.map(Damage::Length))
            .collect()
    }

    fn try_all(&self, damages: &[Damage], thread: usize) -> Result<Flips, String> {
        let copy = self.dir.join(format!("copy-{thread}"));
        let mut flips = Flips::default();
        for damage in damages {
            let opened = self
                .reopen(self.damaged(*damage), &copy)
                .map_err(|why| format!("{damage:?}: {why}"))?;
            flips.note(*damage, opened);
        }
        Ok(flips)
    }

    fn damaged(&self, damage: Damage) -> Vec<u8> {
        match damage {
            Damage::Length(length) => self.image.get(..length).unwrap_or_default().to_vec(),
            Damage::Bit(bit) => {
                let mut image = self.image.clone();
                if let Some(byte) = image.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                image
            }
        }
    }

    /// Whether a copy with that file opens.
    fn reopen(&self, image: Vec<u8>, copy: &Path) -> Result<bool, String> {
        let _absent = fs::remove_dir_all(copy);
        copy_dir(&self.dir.join("whole"), copy).map_err(|error| error.to_string())?;
        let file = copy.join(file_of(self.engine));
        let opened = match self.engine {
            EngineKind::Sled => {
                write_sparse(&file, &image).map_err(|error| error.to_string())?;
                open(copy, self.engine)
            }
            EngineKind::Redb => {
                fs::write(&file, "").map_err(|error| error.to_string())?;
                open_on(copy, &Disk::of(image)).map(|storage| Box::new(storage) as Box<dyn Storage>)
            }
        };
        match opened {
            Err(StorageError::Damaged { .. } | StorageError::Newer { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
            Ok(storage) if content(&storage).as_ref() == Ok(&self.expected) => Ok(true),
            Ok(_) => Err("silently something else".into()),
        }
    }
}

fn is_zero(page: &[u8]) -> bool {
    ZEROS.get(..page.len()) == Some(page)
}

/// Pages of zeros need not be written.
pub(super) fn write_sparse(path: &Path, image: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    for (at, page) in image.chunks(PAGE).enumerate() {
        if !is_zero(page) {
            file.seek(io::SeekFrom::Start((at * PAGE) as u64))?;
            file.write_all(page)?;
        }
    }
    file.set_len(image.len() as u64)
}

fn file_of(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Sled => "sled/db",
        EngineKind::Redb => "records.redb",
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
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
