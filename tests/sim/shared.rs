//! What must hold of share groups when everything has come to rest.
//!
//! Each message goes to one member at a time: at at-least-once another member may get it again after
//! the session of the first has ended, at exactly-once never. While a member stays, messages to be
//! settled get to somebody; what a session takes with it at its end, or a crash from members that
//! are not durable, is nobody's any more.

use crate::ledger::{Interest, Ledger, Publication, Uid};
use crate::verify::matches;
use std::collections::{BTreeMap, BTreeSet};

/// One group and all who ever were in it.
struct Group<'a> {
    name: &'static str,
    memberships: Vec<&'a Interest>,
    actors: BTreeSet<usize>,
}

fn groups(ledger: &Ledger) -> Vec<Group<'_>> {
    let mut found: BTreeMap<&'static str, Vec<&Interest>> = BTreeMap::new();
    for interest in &ledger.interests {
        if let Some(group) = interest.group {
            found.entry(group).or_default().push(interest);
        }
    }
    let groups = found.into_iter().map(|(name, memberships)| Group {
        name,
        actors: memberships.iter().map(|member| member.actor).collect(),
        memberships,
    });
    groups.collect()
}

impl Group<'_> {
    /// Members with an assurance of the publication's, from before it to the end.
    fn has_keeper(&self, step: u64) -> bool {
        self.memberships
            .iter()
            .any(|member| member.durable && member.until.is_none() && member.from < step)
    }

    fn concerns(&self, publication: &Publication) -> bool {
        let member = self.memberships.first();
        member.is_some_and(|member| matches(&member.filter, &publication.topic))
    }

    /// The message may be gone with a session that had taken it.
    fn may_be_gone(&self, ledger: &Ledger, publication: &Publication, first: u64) -> bool {
        let crashed = ledger.crashed_after(first);
        let loose = self.memberships.iter().any(|member| !member.durable);
        let unkept = crashed && (loose || publication.acked.is_none());
        // A session that is ended as too slow may leave more than the others have room for.
        unkept
            || ((publication.qos == 2 || ledger.tight)
                && ledger.sessions_ended(&self.actors, first) > 0)
    }
}

/// Messages to be settled that no member of a group got.
pub fn missing(ledger: &Ledger) -> Vec<String> {
    let mut missing = Vec::new();
    for group in groups(ledger) {
        for (uid, publication) in ledger.publications.iter().enumerate() {
            let Some(first) = publication.execs.first().copied() else {
                continue;
            };
            let is_due = group.concerns(publication)
                && publication.qos > 0
                && !publication.refused
                && (!ledger.tight || publication.acked.is_some())
                && group.has_keeper(first);
            let got = |actor: &usize| ledger.got(*actor, uid as Uid).all > 0;
            if is_due
                && !group.actors.iter().any(got)
                && !group.may_be_gone(ledger, publication, first)
            {
                missing.push(format!(
                    "publication {uid} never reached group {}: {publication:?}",
                    group.name
                ));
            }
        }
    }
    missing
}

/// Messages that more than one member got, or one member more than once.
///
/// # Errors
/// The first one.
pub fn nothing_doubled(ledger: &Ledger) -> Result<(), String> {
    for group in groups(ledger) {
        for (uid, publication) in ledger.publications.iter().enumerate() {
            let Some(first) = publication.execs.first().copied() else {
                continue;
            };
            // Who had it may be forgotten.
            if !group.concerns(publication) || ledger.crashed_after(first) {
                continue;
            }
            if group
                .actors
                .iter()
                .all(|actor| ledger.got(*actor, uid as Uid).all == 0)
            {
                continue;
            }
            let again = if publication.qos == 1 {
                ledger.sessions_ended(&group.actors, first)
            } else {
                0
            };
            let most = publication.execs.len() as u32 + again;
            let got = |actor: &usize| ledger.got(*actor, uid as Uid);
            let members = group.actors.iter().filter(|actor| got(actor).all > 0);
            let fresh: u32 = group.actors.iter().map(|actor| got(actor).fresh).sum();
            let all: u32 = group.actors.iter().map(|actor| got(actor).all).sum();
            if members.count() as u32 > most || fresh > most || (publication.qos == 2 && all > most)
            {
                let who: Vec<_> = group
                    .actors
                    .iter()
                    .map(|actor| (actor, got(actor)))
                    .collect();
                return Err(format!(
                    "group {} got publication {uid} more than {most} times: {who:?} {publication:?}",
                    group.name
                ));
            }
        }
    }
    Ok(())
}
