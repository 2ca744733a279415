//! Power cuts for an engine that does its own input and output.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use parking_lot::Mutex;

use super::child::{Life, found_in};
use super::files::{Change, Fate, Files, Image};
use super::reading::{self, Call};
use super::{Child, is_possible, under_strace};
use crate::EngineKind;
use crate::testing::flips::write_sparse;
use crate::testing::power::{Cuts, Dice};

/// The unit in which a disk writes as a whole.
const SECTOR: usize = 512;
/// Directories that are opened side by side.
const THREADS: usize = 2;
/// Everything that may change a file or a name, and what is needed to follow descriptors. What is traced and not
/// understood is an error.
const TRACED: &str = "trace=?open,?creat,openat,?openat2,close,read,write,pwrite64,writev,pwritev,?pwritev2,\
    fsync,fdatasync,sync_file_range,ftruncate,truncate,fallocate,?rename,?renameat,renameat2,?unlink,unlinkat,\
    ?mkdir,mkdirat,?rmdir,?link,linkat,?symlink,symlinkat,copy_file_range,sendfile,splice,lseek,dup,?dup2,dup3,fcntl";
/// Longer than any write.
const LONGEST_STRING: &str = "100000000";

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The engine.
    pub engine: EngineKind,
    /// Numbered batches, over all lives of the process.
    pub commits: u32,
    /// At least so many cuts, evenly over everything the system was told.
    pub points: u64,
    /// The same seed makes the same cuts of the same recording.
    pub seed: u64,
    /// `fdatasync`, which is our own, does nothing. Something must then be missing.
    pub data_is_not_synced: bool,
}

/// Records several lives of a process that commits numbered batches, and cuts the power. `dir` must be empty.
///
/// # Errors
/// The first cut after which the directory does not open, or an acknowledged commit is missing, or one is there in part;
/// if processes cannot be traced here.
pub fn cut_everywhere(dir: &Path, plan: &Plan, child: Child<'_>) -> Result<Cuts, String> {
    is_possible()?;
    let data = dir.join("data");
    fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    let mut lives = Vec::new();
    // The second one does not close what it opened.
    for (number, closes) in [true, false, true].into_iter().enumerate() {
        let life = Life {
            dir: data.clone(),
            engine: plan.engine,
            commits: plan.commits / 3,
            closes,
        };
        lives.push(record(&dir.join(format!("trace-{number}")), &life, child)?);
    }
    if plan.data_is_not_synced {
        for life in &mut lives {
            life.retain(|call| call.name != "fdatasync");
        }
    }
    let cutter = Cutter {
        each: plan.points.div_ceil(changes(&data, &lives)?.max(1)),
        seed: plan.seed,
    };
    let engine = plan.engine;
    thread::scope(|scope| {
        let (images, queue) = sync_channel(THREADS);
        let queue = Arc::new(Mutex::new(Some(queue)));
        let openers: Vec<_> = (0..THREADS)
            .map(|number| {
                let (queue, place) = (queue.clone(), dir.join(format!("cut-{number}")));
                scope.spawn(move || open_all(&queue, &place, engine))
            })
            .collect();
        // Ends early if nobody takes them any more, who then says why.
        let made = cutter.make_images(&data, &lives, images);
        let mut cuts = Cuts::default();
        for opener in openers {
            let part = opener.join().map_err(|_| "a thread ended with a panic")??;
            cuts.points += part.points;
            cuts.with_it += part.with_it;
        }
        made.map(|()| cuts)
    })
}

fn record(output: &Path, life: &Life, child: Child<'_>) -> Result<Vec<Call>, String> {
    let options = [
        "-y",
        "-xx",
        "-s",
        LONGEST_STRING,
        "-e",
        TRACED,
        "-e",
        "signal=none",
    ];
    let mut command = under_strace(&options.map(str::to_owned), output, child);
    life.put_into(&mut command);
    let done = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() || said.contains("refused") || !said.contains("\nend\n") {
        let errors = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}: {said:.2000}{errors:.2000}", done.status));
    }
    let calls = reading::read(output);
    // Much larger than what it is about.
    fs::remove_file(output).map_err(|error| error.to_string())?;
    calls
}

/// How many calls change something.
fn changes(data: &Path, lives: &[Vec<Call>]) -> Result<u64, String> {
    let mut files = Files::new(&data.display().to_string());
    let mut changes = 0;
    for calls in lives {
        for call in calls {
            changes += u64::from(files.told(call)?);
        }
        files.forget_descriptors();
    }
    Ok(changes)
}

struct Cutter {
    /// Cuts after each call.
    each: u64,
    seed: u64,
}

struct Cut {
    image: Image,
    /// The last commit that must be there, and the last one that may.
    promised: u32,
    attempted: u32,
    place: String,
}

impl Cutter {
    fn make_images(
        &self,
        data: &Path,
        lives: &[Vec<Call>],
        images: SyncSender<Cut>,
    ) -> Result<(), String> {
        let mut files = Files::new(&data.display().to_string());
        let mut dice = Dice(self.seed | 1);
        let (mut promised, mut said, mut turn) = (0, 0, 0);
        for (life, calls) in lives.iter().enumerate() {
            for (at, call) in calls.iter().enumerate() {
                if let Some((number, is_synced)) = acknowledgement(call) {
                    said = number;
                    promised = if is_synced { number } else { promised };
                }
                if !files.told(call)? {
                    continue;
                }
                for _ in 0..self.each {
                    turn += 1;
                    let mut arrival = Arrival {
                        turn,
                        dice: &mut dice,
                    };
                    let cut = Cut {
                        image: files.after_cut(&mut arrival),
                        promised,
                        attempted: said + 1,
                        place: format!(
                            "life {life}, call {at} ({} {:.100}), seed {}, cut {turn}",
                            call.name,
                            call.path_of(0),
                            self.seed
                        ),
                    };
                    if images.send(cut).is_err() {
                        return Ok(());
                    }
                }
            }
            files.forget_descriptors();
        }
        Ok(())
    }
}

/// The number, and whether it must be there after a power cut.
fn acknowledgement(call: &Call) -> Option<(u32, bool)> {
    if call.name != "write" || call.result.is_some() || call.number(0) != Ok(1) {
        return None;
    }
    let said = String::from_utf8(call.bytes(1).ok()?).ok()?;
    said.lines().find_map(|line| {
        let (word, number) = line.split_once(' ')?;
        let is_synced = match word {
            "acknowledged" => true,
            "relaxed" => false,
            _ => return None,
        };
        Some((number.parse().ok()?, is_synced))
    })
}

/// One way in which the power may have gone.
struct Arrival<'a> {
    turn: u64,
    dice: &'a mut Dice,
}

impl Fate for Arrival<'_> {
    fn arrived(&mut self, pending: &[&Change]) -> Vec<Change> {
        let last = pending.len().checked_sub(1);
        let mut arrived = Vec::new();
        for (at, change) in pending.iter().enumerate() {
            let whole = match self.turn % 16 {
                0 => true,
                4 => false,
                _ => self.dice.roll(2) == 0,
            };
            match change {
                Change::Write(offset, bytes) if self.turn % 4 == 2 && Some(at) == last => {
                    let sectors = bytes.len().div_ceil(SECTOR) as u64;
                    let length = self.dice.roll(sectors + 1) as usize * SECTOR;
                    let begun = bytes.get(..length.min(bytes.len())).unwrap_or_default();
                    arrived.push(Change::Write(*offset, begun.to_vec().into()));
                }
                Change::Write(offset, bytes) if self.turn % 4 == 3 => {
                    self.scatter(*offset, bytes, &mut arrived);
                }
                change if whole => arrived.push((*change).clone()),
                _ => {}
            }
        }
        arrived
    }
}

impl Arrival<'_> {
    /// Any of its sectors.
    fn scatter(&mut self, offset: u64, bytes: &[u8], arrived: &mut Vec<Change>) {
        for (at, sector) in bytes.chunks(SECTOR).enumerate() {
            if self.dice.roll(2) == 0 {
                let offset = offset + (at * SECTOR) as u64;
                arrived.push(Change::Write(offset, sector.to_vec().into()));
            }
        }
    }
}

/// `None` once something was found.
type Queue = Mutex<Option<Receiver<Cut>>>;

fn open_all(queue: &Queue, place: &Path, engine: EngineKind) -> Result<Cuts, String> {
    let mut cuts = Cuts::default();
    while let Some(cut) = next(queue) {
        let found = check(&cut, place, engine);
        if found.is_err() {
            *queue.lock() = None;
        }
        cuts.points += 1;
        cuts.with_it += u64::from(found.map_err(|why| format!("{}: {why}", cut.place))?);
    }
    Ok(cuts)
}

fn next(queue: &Queue) -> Option<Cut> {
    queue.lock().as_ref()?.recv().ok()
}

/// Whether more is there than must be.
fn check(cut: &Cut, place: &Path, engine: EngineKind) -> Result<bool, String> {
    lay_out(&cut.image, place).map_err(|error| error.to_string())?;
    let found = found_in(place, engine)?;
    if !(cut.promised..=cut.attempted).contains(&found) {
        return Err(format!(
            "commit {found} found, {} was acknowledged, {} was under way",
            cut.promised, cut.attempted
        ));
    }
    Ok(found > cut.promised)
}

fn lay_out(image: &Image, place: &Path) -> std::io::Result<()> {
    let _absent = fs::remove_dir_all(place);
    for (path, content) in image {
        let path: PathBuf = place.join(path);
        match content {
            Some(bytes) => write_sparse(&path, bytes)?,
            None => fs::create_dir_all(&path)?,
        }
    }
    Ok(())
}
