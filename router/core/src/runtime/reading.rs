//! Reading a store at the start: one thread reads and checks records, another takes them in.

use super::hub::OpenError;
use crate::realm::Restored;
use crate::records;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use storage::{EngineKind, Space, Storage, StorageError};

/// Bytes of records that are passed on together.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait to be taken in.
const CHUNKS: usize = 8;

const SPACES: [Space; 7] = [
    records::VALUES,
    records::SESSIONS,
    records::SUBSCRIPTIONS,
    records::QUEUES,
    records::RECEIPTS,
    records::LAST_WILLS,
    records::HISTORY,
];

/// Records of one space, one after the other in one piece.
struct Chunk {
    space: Space,
    bytes: Vec<u8>,
    /// Lengths of key and record.
    lengths: Vec<(usize, usize)>,
}

impl Chunk {
    fn new(space: Space) -> Chunk {
        Chunk {
            space,
            bytes: Vec::new(),
            lengths: Vec::new(),
        }
    }

    fn add(&mut self, key: &[u8], record: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(record);
        self.lengths.push((key.len(), record.len()));
    }

    fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.bytes;
        self.lengths.iter().map_while(move |&(key, record)| {
            let (key, after) = rest.split_at_checked(key)?;
            let (record, after) = after.split_at_checked(record)?;
            rest = after;
            Some((key, record))
        })
    }
}

/// What a store was found to hold, by realm.
#[derive(Debug, Default)]
pub struct Found(pub(super) HashMap<String, Restored>);

/// Opens a data directory and reads it while it is checked. Of a queue `resident` deliveries are kept in memory.
///
/// # Errors
/// What opening says, or the first record that cannot be read.
pub fn open(
    dir: &Path,
    engine: EngineKind,
    resident: usize,
) -> Result<(Arc<dyn Storage>, Found), OpenError> {
    let ((storage, is_all), found) = side_by_side(resident, |sender| {
        let mut sender = Sender::new(sender);
        let opened = storage::open_reading(dir, engine, &mut |space, key, record| {
            sender.add(space, key, record);
        })?;
        sender.flush();
        Ok(opened)
    })?;
    let storage: Arc<dyn Storage> = Arc::from(storage);
    let found = match is_all {
        true => found,
        false => read(&*storage, resident)?,
    };
    Ok((storage, found))
}

/// Reads every record of an open store. Of a queue `resident` deliveries are kept in memory.
pub(super) fn read(storage: &dyn Storage, resident: usize) -> Result<Found, OpenError> {
    let ((), found) = side_by_side(resident, |sender| {
        let mut sender = Sender::new(sender);
        for space in SPACES {
            storage.scan(space, &[], &mut |key, record| {
                sender.add(space, key, record)
            })?;
        }
        sender.flush();
        Ok(())
    })?;
    Ok(found)
}

/// Runs `reading` on a thread of its own and takes in what it sends.
fn side_by_side<R: Send>(
    resident: usize,
    reading: impl FnOnce(SyncSender<Chunk>) -> Result<R, StorageError> + Send,
) -> Result<(R, Found), OpenError> {
    let mut found = Found::default();
    let (sender, chunks) = sync_channel(CHUNKS);
    let read = thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("reading".into())
            .spawn_scoped(scope, move || reading(sender))?;
        // The receiver goes with the first bad record, which ends the reading.
        let placed = chunks
            .into_iter()
            .try_for_each(|chunk| place(&mut found.0, &chunk, resident));
        let read = match reader.join() {
            Ok(read) => read?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        placed.map(|()| read)
    })?;
    Ok((read, found))
}

/// Gathers records until there are enough to pass on.
struct Sender {
    chunks: SyncSender<Chunk>,
    chunk: Chunk,
    /// Nobody takes them any more.
    is_over: bool,
}

impl Sender {
    fn new(chunks: SyncSender<Chunk>) -> Sender {
        Sender {
            chunks,
            chunk: Chunk::new(Space(0)),
            is_over: false,
        }
    }

    /// Answers whether to go on.
    fn add(&mut self, space: Space, key: &[u8], record: &[u8]) -> bool {
        if self.chunk.space != space {
            self.flush();
            self.chunk.space = space;
        }
        if !self.is_over && SPACES.contains(&space) {
            self.chunk.add(key, record);
        }
        if self.chunk.bytes.len() >= CHUNK {
            self.flush();
        }
        !self.is_over
    }

    fn flush(&mut self) {
        let next = Chunk::new(self.chunk.space);
        let full = std::mem::replace(&mut self.chunk, next);
        self.is_over |= !full.lengths.is_empty() && self.chunks.send(full).is_err();
    }
}

fn place(
    found: &mut HashMap<String, Restored>,
    chunk: &Chunk,
    resident: usize,
) -> Result<(), OpenError> {
    chunk.records().try_for_each(|(key, record)| {
        place_record(found, chunk.space, key, record, resident)
            .unwrap_or_else(|| Err(OpenError::Key(key.to_vec())))
    })
}

fn place_record(
    found: &mut HashMap<String, Restored>,
    space: storage::Space,
    key: &[u8],
    record: &[u8],
    resident: usize,
) -> Option<Result<(), OpenError>> {
    let value = || record.to_vec();
    let (realm, rest) = records::split_key(key)?;
    let of = match found.get_mut(realm) {
        Some(of) => of,
        None => found.entry(realm.to_owned()).or_default(),
    };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    match space {
        records::VALUES => return Some(of.add_value(rest, record).map_err(OpenError::from)),
        records::SESSIONS => of.sessions.push((text(rest)?, value())),
        records::LAST_WILLS => of.last_wills.push((text(rest)?, value())),
        records::HISTORY => of.add_trace(rest, record),
        records::SUBSCRIPTIONS => {
            let (_, client, _) = records::split_client_key(key)?;
            of.subscriptions.push((client.to_owned(), value()));
        }
        records::QUEUES => {
            let (_, client, part) = records::split_client_key(key)?;
            of.add_queued(client, records::number(part)?, record, resident);
        }
        _ => {
            let (_, client, part) = records::split_client_key(key)?;
            of.receipts
                .push((client.to_owned(), records::number(part)?));
        }
    }
    Some(Ok(()))
}
