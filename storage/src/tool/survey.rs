//! What a data directory holds, damaged or not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Decode, Progress};
use crate::disk::{Database, Guarded, LEDGER_KEY, Ledger, MARK_KEY, open, place};
use crate::relaxed::journal;
use crate::{EngineKind, Space, Storage, StorageError};

/// Damaged records that are kept with their bytes; the others are only counted.
const LOST_MAX: usize = 100_000;

/// Is given each whole record, and `None` for one that a journal removes.
pub(super) type Whole<'a> =
    &'a mut dyn FnMut(Space, &[u8], Option<&[u8]>) -> Result<(), StorageError>;

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where: the space and key of a record, or the database.
    pub place: String,
    /// What is wrong.
    pub why: String,
    /// The stored key, the space first; empty if it is no record.
    pub key: Vec<u8>,
    /// The stored bytes.
    pub stored: Vec<u8>,
}

impl Lost {
    /// As a line of JSON.
    pub(super) fn line(&self) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        format!(
            "{{\"why\":\"{}\",\"key\":\"{}\",\"stored\":\"{}\"}}",
            escaped(&self.why),
            hex(&self.key),
            hex(&self.stored)
        )
    }
}

/// A text inside the quotes of JSON.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, char| {
        match char {
            '"' | '\\' => {
                escaped.push('\\');
                escaped.push(char);
            }
            char if char.is_control() => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(char));
            }
            char => escaped.push(char),
        }
        escaped
    })
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The engine of the directory.
    pub engine: EngineKind,
    /// Space -> whole records in the database.
    pub records: BTreeMap<u8, u64>,
    /// The number of the last commit.
    pub commits: u64,
    /// Commits that the journal holds over the database.
    pub journal_commits: u64,
    /// Bytes at the end of the journal that are no whole commit, as after a power cut.
    pub journal_cut: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is damaged, the first of it.
    pub lost: Vec<Lost>,
    /// How much is damaged.
    pub lost_count: u64,
    unreadable: bool,
}

impl Survey {
    pub(super) fn new(engine: EngineKind) -> Self {
        Self {
            engine,
            records: BTreeMap::new(),
            commits: 0,
            journal_commits: 0,
            journal_cut: 0,
            bytes: 0,
            lost: Vec::new(),
            lost_count: 0,
            unreadable: false,
        }
    }

    /// Whole records in all spaces.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.records.values().sum()
    }

    /// Whether the database itself, or a part of it, could not be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    pub(super) fn unreadable(&mut self, why: String) {
        self.unreadable = true;
        self.lose("the database".to_owned(), why, &[], &[]);
    }

    fn lose(&mut self, place: String, why: String, key: &[u8], stored: &[u8]) {
        self.lost_count += 1;
        if self.lost.len() < LOST_MAX {
            self.lost.push(Lost {
                place,
                why,
                key: key.to_vec(),
                stored: stored.to_vec(),
            });
        }
    }

    pub(super) fn read<D: Database>(
        &mut self,
        engine: &Guarded<D>,
        decode: Decode<'_>,
        progress: Progress<'_>,
        whole: Whole<'_>,
    ) -> Result<(), StorageError> {
        let mut found = Ledger::default();
        let mut ledger = None;
        let mut failed = None;
        let scanned = engine.scan_stored(&mut |database, flat, stored| {
            if flat == LEDGER_KEY {
                match Ledger::open(stored) {
                    Ok(sealed) => ledger = Some(sealed),
                    Err(error) => self.lose("the ledger".into(), error.to_string(), flat, stored),
                }
                return true;
            }
            let record = open(flat, stored).and_then(|(_, weight)| {
                found.add(weight);
                database.value(flat, stored)
            });
            let (Some((space, key)), false) = (flat.split_first(), is_internal::<D>(flat)) else {
                if let Err(error) = record {
                    self.lose(place(flat), error.to_string(), flat, stored);
                }
                return true;
            };
            let checked = record
                .map_err(|error| error.to_string())
                .and_then(|value| decode(Space(*space), key, &value).map(|()| value));
            match checked {
                Ok(value) => {
                    *self.records.entry(*space).or_default() += 1;
                    progress(found.records, None);
                    failed = whole(Space(*space), key, Some(&value)).err();
                }
                Err(why) => self.lose(place(flat), why, flat, stored),
            }
            failed.is_none()
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match scanned {
            Ok(()) => self.compare(ledger, found),
            Err(error) => self.unreadable(format!("{error}; what follows cannot be read")),
        }
        self.commits = ledger.map_or(0, |ledger| ledger.commits);
        self.acknowledged(engine);
        self.journal(engine, whole)
    }

    fn compare(&mut self, ledger: Option<Ledger>, found: Ledger) {
        let ledger = ledger.unwrap_or_default();
        if ledger.same_content(&found) || self.lost_count > 0 {
            return;
        }
        let why = format!(
            "after commit {} there were {} records, now {} are found or others than those",
            ledger.commits, ledger.records, found.records
        );
        self.lose("the database".into(), why, &[], &[]);
    }

    fn acknowledged<D: Database>(&mut self, engine: &Guarded<D>) {
        let acknowledged = engine.acknowledged();
        if acknowledged > self.commits {
            let why = format!(
                "the last commit is {} but {acknowledged} was acknowledged",
                self.commits
            );
            self.lose("the database".into(), why, &[], &[]);
        }
    }

    fn journal<D: Database>(
        &mut self,
        engine: &Guarded<D>,
        whole: Whole<'_>,
    ) -> Result<(), StorageError> {
        let path = engine.dir().journal();
        // A mark that cannot be read has been counted with the records.
        let mark = engine.mark().ok().flatten().unwrap_or(0);
        match journal::parse(&path, mark) {
            Ok(parsed) => {
                self.journal_commits = parsed.left.commits;
                self.journal_cut = parsed.rest.len() as u64;
                for op in parsed.left.batch.ops() {
                    whole(op.space(), op.key(), op.value())?;
                }
            }
            Err(StorageError::Damaged { what, .. }) => {
                self.lose("the journal".into(), what, &[], &[]);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_internal<D: Database>(flat: &[u8]) -> bool {
    flat == MARK_KEY || D::is_part(flat)
}

/// Stands for a set of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub records: u64,
    sum: u64,
}

impl Digest {
    pub fn add(&mut self, space: Space, key: &[u8], value: &[u8]) {
        let flat = crate::engine::flat_key(space, key);
        let (_, weight) = crate::disk::seal(&flat, value);
        self.records += 1;
        self.sum = self.sum.wrapping_add(weight);
    }

    pub fn of(storage: &dyn Storage) -> Result<Self, StorageError> {
        let mut digest = Self::default();
        for space in 0..Space::ENGINE.0 {
            storage.scan(Space(space), &[], &mut |key, value| {
                digest.add(Space(space), key, value);
                true
            })?;
        }
        Ok(digest)
    }
}
