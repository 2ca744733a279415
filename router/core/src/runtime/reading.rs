//! Reading a store at the start: one thread reads and checks records, another takes them in.

use super::hub::OpenError;
use crate::realm::Restored;
use crate::records;
use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use storage::{Space, Storage, StorageError};

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

/// Reads every record, by realm. Of a queue `resident` deliveries are kept in memory.
pub(super) fn read_records(
    storage: &dyn Storage,
    resident: usize,
) -> Result<HashMap<String, Restored>, OpenError> {
    let mut found = HashMap::new();
    let (sender, chunks) = sync_channel(CHUNKS);
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("reading".into())
            .spawn_scoped(scope, move || read(storage, &sender))?;
        // Dropped at the first bad record, which ends the reading.
        let placed = chunks
            .into_iter()
            .try_for_each(|chunk: Chunk| place(&mut found, &chunk, resident));
        match reader.join() {
            Ok(read) => read?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        placed
    })?;
    Ok(found)
}

fn read(storage: &dyn Storage, chunks: &SyncSender<Chunk>) -> Result<(), StorageError> {
    for space in SPACES {
        let mut chunk = Chunk::new(space);
        storage.scan(space, &[], &mut |key, record| {
            chunk.add(key, record);
            let is_full = chunk.bytes.len() >= CHUNK;
            !is_full || {
                let full = std::mem::replace(&mut chunk, Chunk::new(space));
                chunks.send(full).is_ok()
            }
        })?;
        if chunks.send(chunk).is_err() {
            break;
        }
    }
    Ok(())
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
