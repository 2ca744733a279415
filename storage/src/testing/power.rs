//! Power cuts: of what a disk was told since the last sync, any part may have arrived, in any order, and the last write
//! half.

use std::path::Path;

use super::disk::{Disk, Told, open_on, set_length, write};
use super::workload::{found_commit, numbered};
use crate::Storage;

/// The unit in which a disk writes as a whole.
const SECTOR: usize = 512;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Power cuts.
    pub points: u64,
    /// Those after which the commit under way was there.
    pub with_it: u64,
}

/// Commits `commits` numbered batches and cuts the power at least `points` times, evenly over everything the disk was
/// told. `dir` must be empty.
///
/// # Errors
/// The first cut after which the directory does not open, or an acknowledged commit is missing, or one is there in part.
pub fn cut_everywhere(dir: &Path, commits: u32, points: u64, seed: u64) -> Result<Cuts, String> {
    let (mut synced, notes) = record(&dir.join("whole"), commits)?;
    let steps = notes.len() as u64;
    let each = points.div_ceil(steps.max(1));
    let mut dice = Dice(seed | 1);
    let mut cuts = Cuts::default();
    let mut pending = Vec::new();
    let mut acknowledged = 0;
    for (at, told) in notes.iter().enumerate() {
        match told {
            Told::Sync => {
                pending
                    .drain(..)
                    .for_each(|told| carry_out(&mut synced, told));
            }
            Told::Acknowledged(number) => acknowledged = *number,
            told => pending.push(told),
        }
        for turn in 0..each {
            let image = after_cut(&synced, &pending, turn, &mut dice);
            let place = format!("after step {at} of {steps}, seed {seed}, cut {turn}");
            let found = reopen(&dir.join("cut"), image).map_err(|why| format!("{place}: {why}"))?;
            if found < acknowledged || found > acknowledged + 1 {
                return Err(format!(
                    "{place}: commit {found} found, {acknowledged} was acknowledged"
                ));
            }
            cuts.points += 1;
            cuts.with_it += u64::from(found > acknowledged);
        }
    }
    Ok(cuts)
}

/// A database as it was created, and what the disk was told from then on.
fn record(dir: &Path, commits: u32) -> Result<(Vec<u8>, Vec<Told>), String> {
    let disk = Disk::default();
    // Its creation happens under another name, so that a cut in it is a start from nothing.
    drop(open_on(dir, &disk).map_err(|error| error.to_string())?);
    let before = disk.bytes();
    disk.take_notes();
    let storage = open_on(dir, &disk).map_err(|error| error.to_string())?;
    for number in 1..=commits {
        storage
            .commit(&numbered(number))
            .map_err(|error| error.to_string())?;
        disk.acknowledged(number);
    }
    Ok((before, disk.notes()))
}

fn carry_out(image: &mut Vec<u8>, told: &Told) {
    match told {
        Told::Write(offset, data) => write(image, *offset, data),
        Told::Length(length) => set_length(image, *length),
        Told::Sync | Told::Acknowledged(_) => {}
    }
}

/// One way in which the power may have gone.
fn after_cut(synced: &[u8], pending: &[&Told], turn: u64, dice: &mut Dice) -> Vec<u8> {
    let mut image = synced.to_vec();
    let torn = pending.len().checked_sub(1).filter(|_| turn % 3 == 2);
    for (at, told) in pending.iter().enumerate() {
        let arrived = match turn {
            0 => true,
            1 => false,
            _ => dice.roll(2) == 0,
        };
        match told {
            Told::Write(offset, data) if Some(at) == torn => {
                let sectors = data.len().div_ceil(SECTOR) as u64;
                let length = (dice.roll(sectors + 1) as usize * SECTOR).min(data.len());
                write(&mut image, *offset, data.get(..length).unwrap_or_default());
            }
            told if arrived => carry_out(&mut image, told),
            _ => {}
        }
    }
    image
}

/// The last commit found in a directory with that database; nothing in it may be half.
fn reopen(dir: &Path, image: Vec<u8>) -> Result<u32, String> {
    let fail = |error: std::io::Error| error.to_string();
    // The watermark of the recorded run would only make it stricter than a start is.
    let _absent = std::fs::remove_file(dir.join("watermark"));
    std::fs::create_dir_all(dir).map_err(fail)?;
    std::fs::write(
        dir.join("FORMAT"),
        "reynard data directory\nengine = redb\nformat = 1\n",
    )
    .map_err(fail)?;
    std::fs::write(dir.join("records.redb"), "").map_err(fail)?;
    let storage = open_on(dir, &Disk::of(image)).map_err(|error| error.to_string())?;
    found_commit(&storage)
}

/// Xorshift: the cuts must be the same for the same seed, and need not be better.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }
}
