//! What must hold when everything has come to rest.

use crate::ledger::{Interest, Ledger, Publication, Uid};
use std::collections::{BTreeMap, HashMap};

/// Whether an MQTT filter of the simulation matches.
fn matches(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix("/#") {
        Some(prefix) => topic
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => filter == topic,
    }
}

/// The assurance from this publisher to this subscriber.
fn assurance(interest: &Interest, publication: &Publication) -> u8 {
    interest.qos.min(publication.qos)
}

fn is_wamp(interest: &Interest) -> bool {
    !interest.own
}

/// Messages that must have arrived, and did not.
///
/// # Errors
/// The first one.
pub fn nothing_lost(ledger: &Ledger) -> Result<(), String> {
    for interest in ledger
        .interests
        .iter()
        .filter(|i| i.until.is_none() && !i.lossy)
    {
        for (uid, publication) in ledger.publications.iter().enumerate() {
            let uid = uid as Uid;
            if !is_due(ledger, interest, publication) || ledger.got(interest.actor, uid).all > 0 {
                continue;
            }
            return Err(format!(
                "publication {uid} never reached actor {}: {publication:?}, {interest:?}, crashed after {}",
                interest.actor,
                ledger.crashed_after(publication.execs[0])
            ));
        }
    }
    Ok(())
}

fn is_due(ledger: &Ledger, interest: &Interest, publication: &Publication) -> bool {
    let (Some(first), Some(last)) = (publication.execs.first(), publication.execs.last()) else {
        return false;
    };
    if publication.refused || publication.forbidden || publication.clears {
        return false;
    }
    if *first < interest.from || !matches(&interest.filter, &publication.topic) {
        return false;
    }
    if !interest.own && publication.author == interest.actor && !publication.will {
        return false;
    }
    // A retained write may have been turned down without a word, a will may never have been armed,
    // and what comes from a session that was ended as too slow is ignored.
    let is_certain =
        !publication.will && !ledger.tight && (!publication.retained || ledger.store_failures == 0);
    let is_acked = publication.acked.is_some();
    if !is_certain && !is_acked {
        return false;
    }
    let present = interest.linked.is_some_and(|linked| linked < *first);
    match (interest.durable, assurance(interest, publication)) {
        (true, 1 | 2) => is_acked || !ledger.crashed_after(*last),
        _ => present && !ledger.crashed_after(*first),
    }
}

/// Messages that arrived more often than they may.
///
/// # Errors
/// The first one.
pub fn nothing_doubled(ledger: &Ledger) -> Result<(), String> {
    let mut best: BTreeMap<usize, &Interest> = BTreeMap::new();
    for interest in &ledger.interests {
        best.insert(interest.actor, interest);
    }
    for interest in best.into_values() {
        for (uid, publication) in ledger.publications.iter().enumerate() {
            let got = ledger.got(interest.actor, uid as Uid);
            // A value that is restored after a failed write is announced again.
            if got.all == 0 || publication.retained {
                continue;
            }
            // A will that was not yet on disk as published is published again at the next start.
            let again = publication.will && ledger.crashed_after(publication.execs[0]);
            let sent = publication.execs.len() as u32 + u32::from(again);
            let repeats = if is_wamp(interest) {
                got.all
            } else {
                got.fresh
            };
            if repeats > sent {
                return Err(format!(
                    "actor {} got publication {uid} {got:?} times: {publication:?}",
                    interest.actor
                ));
            }
            let once = interest.durable && assurance(interest, publication) == 2;
            if once && got.all > once_allowed(ledger, publication) {
                return Err(format!(
                    "actor {} got publication {uid} of QoS 2 {got:?} times: {publication:?}",
                    interest.actor
                ));
            }
        }
    }
    Ok(())
}

/// How often an exactly-once message may arrive. A publish that the store refused may have reached
/// subscribers all the same, and a 3.x client, which cannot be told of the refusal, sends it anew:
/// after a failed commit each carrying out counts.
fn once_allowed(ledger: &Ledger, publication: &Publication) -> u32 {
    if ledger.store_failures == 0 {
        return 1;
    }
    publication.execs.len() as u32
}

/// Messages of one publisher that overtook each other.
///
/// # Errors
/// The first one.
pub fn in_order(ledger: &Ledger) -> Result<(), String> {
    for (actor, order) in ledger.order() {
        let Some(interest) = ledger.interests.iter().find(|i| i.actor == *actor) else {
            continue;
        };
        let mut latest: HashMap<(usize, Option<usize>, &str, u8), Uid> = HashMap::new();
        for uid in order {
            let publication = &ledger.publications[*uid as usize];
            // What a client repeats comes again, behind what others were given in between.
            let repeated = publication.execs.len() > 1 || publication.turned_down;
            if publication.retained || publication.will || repeated {
                continue;
            }
            let lane = if is_wamp(interest) {
                0
            } else {
                assurance(interest, publication)
            };
            let key = (
                publication.author,
                publication.session,
                &*publication.topic,
                lane,
            );
            let former = latest.insert(key, *uid);
            if let Some(former) = former.filter(|former| former > uid) {
                return Err(format!(
                    "actor {actor} got {uid} of {key:?} after {former}: {publication:?}, {:?}",
                    ledger.publications[former as usize]
                ));
            }
        }
    }
    Ok(())
}

/// Retained values that are not the last ones acknowledged, nor later ones.
///
/// # Errors
/// The first one.
pub fn values_hold(ledger: &Ledger, found: impl Fn(&str) -> Option<Uid>) -> Result<(), String> {
    let judged = |key: &&String| !key.starts_with("l/") && !key.starts_with("c/");
    for key in ledger.keys().iter().filter(judged) {
        ledger.may_read(key, found(key), u64::MAX, true)?;
    }
    Ok(())
}

/// The same right after a start, when writes nobody was told of may or may not be there.
///
/// # Errors
/// The first key that is wrong.
pub fn acknowledged_is_stored(
    ledger: &Ledger,
    found: impl Fn(&str) -> Option<Uid>,
) -> Result<(), String> {
    let judged = |key: &&String| !key.starts_with("l/") && !key.starts_with("c/");
    for key in ledger.keys().iter().filter(judged) {
        ledger.may_read(key, found(key), u64::MAX, false)?;
    }
    Ok(())
}
