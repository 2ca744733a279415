//! A history as the search looks at it: what watches told stands with them, and what says nothing is
//! left out.

use std::collections::HashMap;

use super::history::{Action, Op, Reply};
use super::terms::Kept;

/// A change that somebody was told.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// When.
    pub at: u64,
    /// The value.
    pub value: Option<Kept>,
    /// Of the write.
    pub token: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Known {
    /// What was asked for.
    pub ops: Vec<Op>,
    news: Vec<Vec<News>>,
    /// Watches of which it is known that they told nothing more.
    is_ended: Vec<bool>,
}

impl Known {
    /// What is known by a record.
    #[must_use]
    pub fn new(record: &[Op]) -> Known {
        let mut told: HashMap<u64, Vec<News>> = HashMap::new();
        let mut canceled = Vec::new();
        for op in record {
            match (op.action, op.reply) {
                (Action::Told { watch }, Some((at, Reply::Changed { value, token }))) => {
                    let news = News { at, value, token };
                    told.entry(watch).or_default().push(news);
                }
                (Action::Cancel { watch }, Some(_)) => canceled.push(watch),
                _ => {}
            }
        }
        let mut known = Known {
            ops: Vec::new(),
            news: Vec::new(),
            is_ended: Vec::new(),
        };
        for op in record {
            let mut news = Vec::new();
            let mut is_ended = false;
            match op.action {
                Action::Told { .. } => continue,
                Action::Cancel { .. } if op.reply.is_none() => continue,
                Action::Watch { .. } => {
                    news = told.remove(&op.invoked).unwrap_or_default();
                    news.sort_by_key(|news| news.at);
                    is_ended = op.reply.is_some() || canceled.contains(&op.invoked);
                    if news.is_empty() && !is_ended {
                        continue;
                    }
                }
                _ => {}
            }
            known.ops.push(*op);
            known.news.push(news);
            known.is_ended.push(is_ended);
        }
        known
    }

    /// What the watch at this place told as number `number`.
    #[must_use]
    pub fn news(&self, at: usize, number: usize) -> Option<News> {
        self.news.get(at)?.get(number).copied()
    }

    /// Whether the watch at this place told nothing more.
    #[must_use]
    pub fn is_ended(&self, at: usize) -> bool {
        self.is_ended.get(at).is_some_and(|ended| *ended)
    }

    /// The answer to the request at this place.
    #[must_use]
    pub fn reply(&self, at: usize) -> Option<Reply> {
        self.ops.get(at)?.reply.map(|(_, reply)| reply)
    }

    /// The place of a watch.
    #[must_use]
    pub fn watch(&self, invoked: u64) -> Option<usize> {
        self.ops
            .iter()
            .position(|op| op.invoked == invoked && matches!(op.action, Action::Watch { .. }))
    }
}
