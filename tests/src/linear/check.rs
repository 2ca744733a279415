//! The search for an order that explains a history.

use std::collections::{HashMap, HashSet};

use super::history::{Action, Op, Reply};
use super::known::Known;
use super::model::Key;
use super::terms::Wait;

/// The longest history of one key.
pub const OPS_MAX: usize = 128;
/// Configurations after which a search gives up.
const CONFIGURATIONS_MAX: usize = 2_000_000;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order that explains it, after looking at so many configurations.
    Linearizable(usize),
    /// There is none.
    Violated,
    /// It gave up.
    Undecided,
}

/// What is known of an action before the search.
#[derive(Clone, Copy, Default)]
struct Bounds {
    /// The request before it in the same session.
    after: Option<usize>,
    /// The end of its session.
    before: Option<usize>,
}

struct Search {
    known: Known,
    bounds: Vec<Bounds>,
}

type Configuration = (u128, Key);

/// Whether the history of one key, fresh in this life of the router, is linearizable.
#[must_use]
pub fn check(ops: &[Op], life: u32) -> Verdict {
    let known = Known::new(ops);
    if known.ops.len() > OPS_MAX {
        return Verdict::Undecided;
    }
    let search = Search {
        bounds: bounds(&known.ops),
        known,
    };
    let mut seen: HashSet<Configuration> = HashSet::new();
    let mut open = vec![(0, Key::fresh(life))];
    while let Some(configuration) = open.pop() {
        if seen.len() >= CONFIGURATIONS_MAX {
            return Verdict::Undecided;
        }
        if !seen.insert(configuration.clone()) {
            continue;
        }
        let Some(frontier) = search.frontier(&configuration) else {
            return Verdict::Linearizable(seen.len());
        };
        search.follow(&configuration, frontier, &mut open);
    }
    Verdict::Violated
}

fn bounds(ops: &[Op]) -> Vec<Bounds> {
    let mut order: Vec<usize> = (0..ops.len()).collect();
    order.sort_by_key(|at| ops[*at].invoked);
    let ends: HashMap<(u64, u32), usize> = (0..ops.len())
        .filter(|at| ops[*at].action == Action::End)
        .map(|at| ((ops[at].session, ops[at].life), at))
        .collect();
    let mut last: HashMap<(u64, u32), usize> = HashMap::new();
    let mut bounds = vec![Bounds::default(); ops.len()];
    for at in order {
        let op = &ops[at];
        if matches!(op.action, Action::End | Action::Restart { .. }) {
            continue;
        }
        let session = (op.session, op.life);
        // A watch looks at what is on disk, which a write that is not answered yet need not be.
        let after = match op.action {
            Action::Watch { .. } | Action::Cancel { .. } => None,
            _ => last.insert(session, at),
        };
        bounds[at] = Bounds {
            after,
            before: ends.get(&session).copied(),
        };
    }
    bounds
}

impl Search {
    /// The earliest answer to something that has not happened yet: nothing that was asked for later
    /// may come before it. `None` if everything answered has happened.
    fn frontier(&self, (done, key): &Configuration) -> Option<u64> {
        let known = &self.known;
        let answer = |(at, op): (usize, &Op)| {
            if done >> at & 1 == 1 {
                return key.awaits(known, at);
            }
            let first = known.news(at, 0).map(|news| news.at);
            first.or_else(|| op.reply.map(|(returned, _)| returned))
        };
        known.ops.iter().enumerate().filter_map(answer).min()
    }

    /// Adds what can be next, the likeliest last.
    fn follow(&self, configuration: &Configuration, frontier: u64, open: &mut Vec<Configuration>) {
        let (done, key) = configuration;
        let known = &self.known;
        open.extend(key.lapses(known).map(|key| (*done, key)));
        for at in key.waiting().filter(|at| self.may_expire(*at)) {
            open.extend(key.expire(known, at).map(|key| (*done, key)));
        }
        let mut next: Vec<usize> = (0..known.ops.len())
            .filter(|at| known.ops[*at].invoked < frontier && self.may_follow(configuration, *at))
            .collect();
        next.sort_by_key(|at| std::cmp::Reverse(self.likely_at(*at)));
        for at in next {
            let outcomes = key.apply(known, at).into_iter();
            open.extend(outcomes.map(|key| (done | 1 << at, key)));
        }
    }

    fn may_expire(&self, at: usize) -> bool {
        let op = &self.known.ops[at];
        match op.reply {
            Some((_, reply)) => reply == Reply::TimedOut,
            None => match op.action {
                Action::Acquire(order) => order.wait == Wait::Timed,
                action => action.write().is_some_and(|write| write.timed),
            },
        }
    }

    fn may_follow(&self, (done, key): &Configuration, at: usize) -> bool {
        let (op, bounds) = (&self.known.ops[at], self.bounds[at]);
        let has = |at: usize| done >> at & 1 == 1;
        if has(at) {
            return false;
        }
        match op.action {
            Action::Restart { .. } => op.life == key.life + 1,
            // An end that changes nothing here only takes away.
            Action::End => op.life == key.life && key.is_bound_to(&self.known, op.session),
            _ => {
                op.life == key.life
                    && bounds.after.is_none_or(has)
                    && !bounds.before.is_some_and(has)
            }
        }
    }

    /// Writes in the order of their tokens, then reads, then what nobody was told of. (All that
    /// depends on this is how soon an order is found.)
    fn likely_at(&self, at: usize) -> (u8, u64) {
        let op = &self.known.ops[at];
        let Some((returned, reply)) = op.reply else {
            let first = self.known.news(at, 0);
            return first.map_or((3, op.invoked), |_| (0, 0));
        };
        match (reply, op.action) {
            (Reply::Written(token) | Reply::Deleted { token, .. }, _) => (1, token),
            (Reply::Granted(token), _) => (1, token),
            // It comes behind its grant and before the next one.
            (Reply::Released(_), Action::Release { token }) => (1, token),
            (Reply::Ready, _) => (2, returned),
            _ => (0, 0),
        }
    }
}
