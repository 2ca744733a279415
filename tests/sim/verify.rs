//! What must hold when everything has come to rest.

use crate::ledger::{Interest, Ledger, Publication, Uid};
use router_core::limits::WhenFull;
use std::collections::{BTreeMap, HashMap};

/// Whether an MQTT filter of the simulation matches.
pub fn matches(filter: &str, topic: &str) -> bool {
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

/// Messages that must have arrived, and did not; beyond those that full queues may have dropped.
///
/// # Errors
/// The first one.
pub fn nothing_lost(ledger: &Ledger) -> Result<(), String> {
    let mut missing = crate::shared::missing(ledger);
    let of_groups = missing.len() as u64;
    for interest in judged(ledger) {
        let lost = lost_to(ledger, interest);
        gaps_are_told(ledger, interest, lost.len() as u64)
            .map_err(|what| format!("{what}: {:?}", lost.first()))?;
        missing.extend(lost);
    }
    let allowed = match ledger.queue_full {
        Some(WhenFull::DropOldest) => ledger.dropped,
        // What a session leaves at its end may be more than others of its group have room for.
        _ => ledger.dropped.min(of_groups),
    };
    match missing.first() {
        Some(what) if missing.len() as u64 > allowed => Err(format!(
            "{} messages, {allowed} dropped; {what}",
            missing.len()
        )),
        _ => Ok(()),
    }
}

/// Subscriptions of their own that still are.
fn judged(ledger: &Ledger) -> impl Iterator<Item = &Interest> {
    let is_judged = |i: &&Interest| i.until.is_none() && !i.lossy && i.group.is_none();
    ledger.interests.iter().filter(is_judged)
}

fn lost_to(ledger: &Ledger, interest: &Interest) -> Vec<String> {
    let mut lost = Vec::new();
    for (uid, publication) in ledger.publications.iter().enumerate() {
        let is_there = ledger.got(interest.actor, uid as Uid).all > 0;
        if !is_there && is_due(ledger, interest, publication) {
            lost.push(format!(
                "publication {uid} never reached actor {}: {publication:?}, {interest:?}, crashed after {}",
                interest.actor,
                ledger.crashed_after(publication.execs[0])
            ));
        }
    }
    lost
}

/// A client that is told of gaps is told of every message it did not get, and of no other.
fn gaps_are_told(ledger: &Ledger, interest: &Interest, lost: u64) -> Result<(), String> {
    let Some(told) = interest.told else {
        return Ok(());
    };
    let actor = interest.actor;
    if lost > told {
        return Err(format!(
            "{lost} messages never reached actor {actor}, which was told of {told}"
        ));
    }
    // A crash takes back what was dropped for the sake of a message that was not stored.
    let is_exact = ledger.crashes == 0 && ledger.store_failures == 0;
    let most = may_be_lost(ledger, interest);
    if is_exact && interest.filter.starts_with("t/") && told > most {
        return Err(format!(
            "actor {actor} was told of {told} lost messages, but {most} at most are"
        ));
    }
    Ok(())
}

fn may_be_lost(ledger: &Ledger, interest: &Interest) -> u64 {
    let possible = |publication: &Publication| {
        assurance(interest, publication) > 0
            && publication.last() >= interest.asked
            && matches(&interest.filter, &publication.topic)
    };
    let publications = ledger.publications.iter().enumerate();
    publications
        .filter(|(_, publication)| possible(publication))
        .map(|(uid, publication)| {
            // One copy may have come several times, and the first time of it may have been lost on the way.
            let got = ledger.got(interest.actor, uid as Uid);
            let copies = u64::from(got.fresh.max(got.all.min(1)));
            (publication.execs.len() as u64).saturating_sub(copies)
        })
        .sum()
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
    // Nobody can be told that a full queue did not take a will.
    if publication.will && ledger.queue_full == Some(WhenFull::RefusePublisher) {
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
    for interest in ledger.interests.iter().filter(|i| i.group.is_none()) {
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
        let Some(interest) = ledger
            .interests
            .iter()
            .find(|i| i.actor == *actor && i.group.is_none())
        else {
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

/// Retained values that are not the last ones acknowledged before they were `asked` for, nor later ones.
///
/// # Errors
/// The first one.
pub fn values_hold(
    ledger: &Ledger,
    asked: u64,
    found: impl Fn(&str) -> Option<Uid>,
) -> Result<(), String> {
    let judged = |key: &&String| !key.starts_with("l/") && !key.starts_with("c/");
    for key in ledger.keys().iter().filter(judged) {
        ledger.may_read(key, found(key), asked, true)?;
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

/// Everybody has given up what they held by call, so nothing may be left of it.
///
/// # Errors
/// The first key that is not free.
pub fn locks_are_free<'a>(mut kept: impl Iterator<Item = &'a String>) -> Result<(), String> {
    match kept.find(|key| key.starts_with("h/")) {
        Some(key) => Err(format!("{key} is held, and nobody holds it")),
        None => Ok(()),
    }
}
