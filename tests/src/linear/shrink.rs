//! Making a violation readable.

use super::check::{Verdict, check};
use super::history::{Action, Op, Reply};

/// The shortest beginning of a history that is still a violation, without the reads and refusals
/// that are not needed for it. What is cut off had not happened yet, what lost its answer may have:
/// nothing is left out that could explain the rest.
#[must_use]
pub fn shrink(ops: &[Op], life: u32) -> Vec<Op> {
    let is_violated = |ops: &[Op]| check(ops, life) == Verdict::Violated;
    let mut answers: Vec<u64> = ops
        .iter()
        .filter_map(|op| op.reply.map(|(at, _)| at))
        .collect();
    answers.sort_unstable();
    let mut short = answers
        .into_iter()
        .map(|until| beginning(ops, until))
        .find(|ops| is_violated(ops))
        .unwrap_or_else(|| ops.to_vec());
    let mut at = 0;
    while at < short.len() {
        let mut fewer = short.clone();
        let op = fewer.remove(at);
        // What a watch told goes with it.
        fewer.retain(|other| watch_of(other) != Some(op.invoked));
        if changes_nothing(&op) && is_violated(&fewer) {
            short = fewer;
        } else {
            at += 1;
        }
    }
    short.sort_by_key(|op| op.invoked);
    short
}

fn beginning(ops: &[Op], until: u64) -> Vec<Op> {
    ops.iter()
        .filter(|op| op.invoked < until)
        .map(|op| Op {
            reply: op.reply.filter(|(at, _)| *at <= until),
            ..*op
        })
        .collect()
}

fn watch_of(op: &Op) -> Option<u64> {
    match op.action {
        Action::Told { watch } | Action::Cancel { watch } => Some(watch),
        _ => None,
    }
}

fn changes_nothing(op: &Op) -> bool {
    match op.action {
        Action::Get | Action::List | Action::Inspect | Action::Watch { .. } => true,
        _ => matches!(
            op.reply,
            Some((_, Reply::Refused | Reply::Conflict(_) | Reply::LockHeld(_)))
        ),
    }
}
