//! What a store holds of a realm, read record by record before anything is done with it.

use super::{RestoreError, broken};
use crate::kv::{ArmedWill, Entry, Former};
use crate::model::{Event, Publisher, SessionId, Topic, WillScope};
use crate::realm::remember::{RestoredMark, RestoredTrace};
use crate::records::{self, StoredEntry, StoredHead, StoredMark};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The records of one realm, as found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Kept and deleted values, by key.
    pub(super) values: Vec<Former>,
    /// Who wrote them: one writer of many values is kept once.
    writers: HashMap<SessionId, Arc<Publisher>>,
    /// Client and record.
    pub sessions: Vec<(String, Vec<u8>)>,
    /// Client and record.
    pub subscriptions: Vec<(String, Vec<u8>)>,
    /// Client, number and record.
    pub queues: Vec<(String, u64, Vec<u8>)>,
    /// Of queued deliveries whose body is not read: client, number and the rest.
    pub spilled: Vec<(String, u64, StoredHead)>,
    /// Client and id.
    pub receipts: Vec<(String, u64)>,
    /// Client and record.
    pub last_wills: Vec<(String, Vec<u8>)>,
    /// Of remembered events, without their bodies.
    pub traces: Vec<RestoredTrace>,
    /// How much is forgotten.
    pub marks: Vec<RestoredMark>,
}

impl Restored {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
            && self.sessions.is_empty()
            && self.last_wills.is_empty()
            && self.queues.is_empty()
            && self.spilled.is_empty()
            && self.traces.is_empty()
    }

    /// Adds the record of a value; quickest in the order of the keys.
    ///
    /// # Errors
    /// When key or record cannot be read.
    pub fn add_value(&mut self, text: &[u8], record: &[u8]) -> Result<(), RestoreError> {
        let name = || String::from_utf8_lossy(text).into_owned();
        let stored =
            records::decode(record).map_err(|e| broken("value", &name(), &e.to_string()))?;
        let topic = std::str::from_utf8(text)
            .ok()
            .and_then(|text| Topic::new(text).ok())
            .ok_or_else(|| broken("value", &name(), "the key is no topic"))?;
        let former = match stored {
            StoredEntry::Deleted { token } => Former {
                topic,
                entry: None,
                token,
            },
            StoredEntry::Kept { event, will } => self.kept(topic, event.into(), will),
        };
        self.values.push(former);
        Ok(())
    }

    fn kept(
        &mut self,
        topic: Topic,
        mut event: Event,
        will: Option<(SessionId, String, WillScope)>,
    ) -> Former {
        event.topic = topic.clone();
        if let Some(writer) = &mut event.publisher {
            let known = self
                .writers
                .entry(writer.session)
                .or_insert_with(|| writer.clone());
            if known == writer {
                writer.clone_from(known);
            }
        }
        let will = will.map(|(session, value, scope)| {
            let value = serde_json::from_str(&value).unwrap_or(Value::Null);
            Box::new(ArmedWill {
                session,
                value,
                scope,
            })
        });
        let token = event.publication.0;
        let entry = Entry {
            event: Arc::new(event),
            commit: 0,
            will,
            // Nobody holds anything after a restart: the will releases it.
            is_hold: false,
        };
        Former {
            topic,
            entry: Some(entry),
            token,
        }
    }

    /// Adds a record of what is remembered, by its key after the realm's name. What is a bad record is told by
    /// [`Realm::restore`].
    pub fn add_trace(&mut self, part: &[u8], record: &[u8]) {
        let broken = |why: String| (part.to_vec(), why);
        let trace = match records::publication(part) {
            Some(_) => records::trace_of(record).map_err(|error| broken(error.to_string())),
            None => match records::decode(record).map(StoredMark::read) {
                Ok(Some(mark)) => {
                    self.marks.push(mark);
                    return;
                }
                Ok(None) => Err(broken("the mark names no pattern".to_owned())),
                Err(error) => Err(broken(error.to_string())),
            },
        };
        self.traces.push(trace);
    }

    /// Adds a record of a client's queue; the records of a client come one after the other, by number. Only the first
    /// `resident` are kept as a whole, if they need not be.
    pub fn add_queued(&mut self, client: &str, number: u64, record: &[u8], resident: usize) {
        let first = self.queues.len().checked_sub(resident);
        let has_enough = resident == 0
            || first
                .and_then(|at| self.queues.get(at))
                .is_some_and(|(known, ..)| known == client);
        match StoredHead::of(record).filter(|_| has_enough) {
            Some(head) => self.spilled.push((client.to_owned(), number, head)),
            None => self
                .queues
                .push((client.to_owned(), number, record.to_vec())),
        }
    }
}
