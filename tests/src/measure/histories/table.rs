//! One history: some clients at some keys, and the search for an order.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, bail};

use super::Report;
use super::client::Client;
use super::script::Dice;
use crate::linear::{Action, OPS_MAX, Op, Reply, Verdict, Write, check, shrink};
use crate::measure::arena::Arena;

/// Steps of all clients together.
const STEPS: usize = 45;
/// Turns that are given in the end to those who wait.
const TURNS_MAX: usize = 20;

/// The keys of a history.
pub struct Keys {
    names: Vec<String>,
    /// The number of a value that each has had lately: a guess that makes conditions come true.
    lately: Vec<AtomicU64>,
    /// The token that somebody saw of each lately.
    tokens: Vec<AtomicU64>,
    prefix: String,
}

impl Keys {
    /// How many.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of one.
    pub fn name(&self, key: usize) -> &str {
        &self.names[key]
    }

    /// How all their names begin, and no others.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Somebody saw this token.
    pub fn saw_token(&self, key: usize, token: u64) {
        self.tokens[key].store(token, Ordering::Relaxed);
    }

    /// What somebody saw lately.
    pub fn token(&self, key: usize) -> u64 {
        self.tokens[key].load(Ordering::Relaxed)
    }

    /// Somebody saw this value.
    pub fn saw(&self, key: usize, number: u64) {
        self.lately[key].store(number, Ordering::Relaxed);
    }

    /// What somebody saw lately.
    pub fn likely(&self, key: usize) -> u64 {
        self.lately[key].load(Ordering::Relaxed)
    }
}

/// Records a history and checks it.
pub fn play(arena: &Arena, number: u64, seed: u64) -> Result<Report> {
    let mut dice = Dice::new(seed, 0, 1);
    let keys = Keys {
        names: (0..1 + dice.below(3))
            .map(|key| format!("history.{number}.{key}"))
            .collect(),
        lately: (0..3).map(|_| AtomicU64::new(0)).collect(),
        tokens: (0..3).map(|_| AtomicU64::new(0)).collect(),
        prefix: format!("history.{number}."),
    };
    let (begin, life) = arena.begin();
    let joined: Result<Vec<Client<'_>>> = (0..3 + dice.below(3))
        .map(|_| Client::new(arena, &keys))
        .collect();
    let mut clients = joined?;
    work(&mut clients, seed)?;
    let mut closer = Client::new(arena, &keys)?;
    for key in 0..keys.len() {
        close(arena, &mut clients, &mut closer, key)?;
    }
    clients.push(closer);
    let mut report = Report {
        histories: 1,
        ..Report::default()
    };
    for key in 0..keys.len() {
        let mut ops: Vec<Op> = clients.iter().flat_map(|c| c.ops[key].clone()).collect();
        add_restarts(arena, begin, &mut ops, &mut report);
        count(&ops, &mut report);
        judge(keys.name(key), &ops, life, &mut report)?;
    }
    Ok(report)
}

fn work(clients: &mut [Client<'_>], seed: u64) -> Result<()> {
    let count = clients.len();
    std::thread::scope(|scope| {
        let at_work: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(who, client)| {
                let mut dice = Dice::new(seed, who as u64 + 1, count as u64 + 1);
                scope.spawn(move || client.work(&mut dice, STEPS / count))
            })
            .collect();
        for client in at_work {
            client
                .join()
                .map_err(|_| anyhow!("a client panicked"))
                .flatten()?;
        }
        Ok(())
    })
}

/// Gives everybody who waits for a free key their turn, reads what is left, and sees to it that
/// whoever waits or watches no longer was told so.
fn close(
    arena: &Arena,
    clients: &mut [Client<'_>],
    closer: &mut Client<'_>,
    key: usize,
) -> Result<()> {
    let delete = Action::Write(Write::plain(None));
    let life = arena.life();
    for _ in 0..TURNS_MAX {
        let Some(Reply::Inspected { holders, line, .. }) =
            closer.ask_and_wait(key, Action::Inspect)?
        else {
            continue;
        };
        if line.len == 0 {
            break;
        }
        let holder = holders.told().next();
        let whose = holder.map(|holder| (holder.token, holder.session));
        let client = whose.and_then(|(token, session)| {
            let client = clients.iter_mut().find(|c| c.is_session(session));
            client.map(|client| (client, token))
        });
        match client {
            Some((client, token)) => client.ask_and_wait(key, Action::Release { token })?,
            None => closer.ask_and_wait(key, delete)?,
        };
    }
    if let Some(Reply::Read { waiters: 0, .. }) = closer.ask_and_wait(key, Action::Get)? {
        for client in clients.iter_mut() {
            client.settle(key, life)?;
        }
    }
    for client in clients {
        client.stop_watching(key)?;
    }
    Ok(())
}

fn add_restarts(arena: &Arena, begin: u64, ops: &mut Vec<Op>, report: &mut Report) {
    for restart in arena.restarts_since(begin) {
        report.keys_killed += 1;
        ops.push(Op {
            session: 0,
            life: restart.life,
            action: Action::Restart {
                durable: arena.durable,
            },
            invoked: restart.killed,
            reply: restart.ready.map(|ready| (ready, Reply::Ready)),
        });
    }
}

fn count(ops: &[Op], report: &mut Report) {
    report.keys += 1;
    report.ops += ops.len() as u64;
    for op in ops {
        if let Some(counter) = counter(op, report) {
            *counter += 1;
        }
    }
}

fn counter<'a>(op: &Op, report: &'a mut Report) -> Option<&'a mut u64> {
    let Some((_, reply)) = op.reply else {
        return match op.action {
            Action::End => Some(&mut report.ends),
            // Not answered by themselves.
            Action::Watch { .. } | Action::Cancel { .. } => None,
            _ => Some(&mut report.unknown),
        };
    };
    let is_call = !matches!(op.action, Action::Write(_));
    let write = op.action.write();
    Some(match reply {
        Reply::Written(_) if write.is_some_and(|w| w.watch) => {
            report.watching += 1;
            &mut report.conditional
        }
        Reply::Written(_) if write.is_some_and(|w| w.when.is_some()) => &mut report.conditional,
        Reply::Written(_) | Reply::Deleted { .. } if is_call => &mut report.by_call,
        Reply::Written(_) | Reply::Deleted { .. } => &mut report.writes,
        Reply::Refused => &mut report.refused,
        Reply::Conflict(_) => &mut report.conflicts,
        Reply::TimedOut => &mut report.timed_out,
        Reply::LockHeld(_) => &mut report.held,
        Reply::Unfit => &mut report.unfit,
        Reply::Granted(_) => &mut report.grants,
        Reply::Released(_) => &mut report.releases,
        Reply::Renewed => &mut report.renewals,
        Reply::LockLost => &mut report.lost,
        Reply::Read { waiters, .. } => {
            report.reads_of_waiting += u64::from(waiters > 0);
            &mut report.reads
        }
        Reply::Listed(_) => &mut report.listed,
        Reply::Inspected { .. } => &mut report.inspected,
        Reply::Changed { .. } => &mut report.changes,
        Reply::Canceled => &mut report.canceled,
        Reply::Ready => return None,
    })
}

fn judge(key: &str, ops: &[Op], life: u32, report: &mut Report) -> Result<()> {
    match check(ops, life) {
        Verdict::Linearizable(looked_at) => {
            report.longest_search = report.longest_search.max(looked_at as u64);
        }
        Verdict::Undecided if ops.len() > OPS_MAX => bail!("{} actions on {key}", ops.len()),
        Verdict::Undecided => report.undecided += 1,
        Verdict::Violated => {
            let lines: Vec<String> = shrink(ops, life).iter().map(Op::to_string).collect();
            bail!("no order explains {key}:\n{}", lines.join("\n"));
        }
    }
    Ok(())
}
