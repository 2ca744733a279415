//! The judge of locks and of counters kept by compare-and-set.
//!
//! A lock is a key; its grant is the acknowledged write, its token the publication id of that
//! write. What is checked:
//! * of two acknowledged grants of a key the earlier one (by token) has ended, by release, by the
//!   end of its session or by a crash, before anybody is told of the later one;
//! * tokens grow: a request sent after a token was seen gets a higher one;
//! * within one life of the router requests are granted in the order the realm took them;
//! * no step of a counter is acknowledged twice, and no token is replaced twice.

use crate::net::LinkId;
use std::collections::{BTreeMap, HashMap};

/// A lock that somebody was told to have.
#[derive(Debug)]
pub struct Grant {
    pub link: LinkId,
    pub token: u64,
    /// When the realm took the request, and in which life.
    pub taken: u64,
    pub life: u32,
    /// When it was released or its session ended; the news may still have been under way then.
    pub ended: Option<u64>,
}

#[derive(Default)]
pub struct Locks {
    grants: BTreeMap<String, Vec<Grant>>,
    /// The highest token anybody was told of, by key.
    seen: BTreeMap<String, u64>,
    /// (key, value) -> token
    steps: HashMap<(String, u64), u64>,
    /// (key, token) -> the token of what was written over it
    swaps: HashMap<(String, u64), u64>,
}

impl Locks {
    /// The highest token of `key` that anybody was told of.
    pub fn seen(&self, key: &str) -> u64 {
        self.seen.get(key).copied().unwrap_or(0)
    }

    /// A client was told the token of a write (or of a read).
    pub fn token(
        &mut self,
        key: &str,
        token: u64,
        floor: u64,
        is_read: bool,
    ) -> Result<(), String> {
        let grows = if is_read {
            token >= floor
        } else {
            token > floor
        };
        if !grows {
            return Err(format!("{key}: token {token} after {floor}"));
        }
        let seen = self.seen.entry(key.to_owned()).or_default();
        *seen = (*seen).max(token);
        Ok(())
    }

    /// A client was told that it has the lock.
    pub fn granted(&mut self, grant: Grant, key: &str) -> Result<(), String> {
        let Grant {
            link,
            token,
            taken,
            life,
            ended,
        } = grant;
        let grants = self.grants.entry(key.to_owned()).or_default();
        for other in grants.iter() {
            if other.token < token && other.ended.is_none() {
                return Err(format!(
                    "{key}: connection {link} holds it with token {token} while connection {} holds it with {}",
                    other.link, other.token
                ));
            }
            if other.token == token {
                return Err(format!("{key}: token {token} was given twice"));
            }
            let in_order = (other.taken < taken) == (other.token < token);
            if other.life == life && !in_order {
                return Err(format!(
                    "{key}: not first come first served: taken at {} and {taken}, tokens {} and {token}",
                    other.taken, other.token
                ));
            }
        }
        let overtaken = ended.is_none() && grants.iter().any(|other| other.token > token);
        grants.push(grant);
        if overtaken {
            return Err(format!(
                "{key}: connection {link} is told of token {token} after a later one was"
            ));
        }
        Ok(())
    }

    /// The realm has carried out the holder's release.
    pub fn released(&mut self, key: &str, link: LinkId, step: u64) {
        for grant in self.grants.get_mut(key).into_iter().flatten() {
            if grant.link == link {
                grant.ended.get_or_insert(step);
            }
        }
    }

    /// The session of `link` has ended in the realm.
    pub fn ended(&mut self, link: LinkId, step: u64) {
        for grant in self.grants.values_mut().flatten() {
            if grant.link == link {
                grant.ended.get_or_insert(step);
            }
        }
    }

    /// How many grants were acknowledged.
    pub fn count(&self) -> usize {
        self.grants.values().map(Vec::len).sum()
    }

    /// A counter was acknowledged to have become `value`.
    pub fn counted(&mut self, key: &str, value: u64, token: u64) -> Result<(), String> {
        match self.steps.insert((key.to_owned(), value), token) {
            None => Ok(()),
            Some(other) => Err(format!(
                "{key}: two writers made it {value}, with tokens {other} and {token}"
            )),
        }
    }

    /// A write over what had the token `over` was acknowledged. 0 stands for any absent key.
    pub fn swapped(&mut self, key: &str, over: u64, token: u64) -> Result<(), String> {
        if over == 0 {
            return Ok(());
        }
        match self.swaps.insert((key.to_owned(), over), token) {
            None => Ok(()),
            Some(other) => Err(format!(
                "{key}: two writers replaced {over}, with {other} and {token}"
            )),
        }
    }

    /// The highest value the counter was acknowledged to have.
    pub fn highest(&self, key: &str) -> u64 {
        self.steps
            .keys()
            .filter(|(k, _)| k == key)
            .map(|(_, value)| *value)
            .max()
            .unwrap_or(0)
    }
}
