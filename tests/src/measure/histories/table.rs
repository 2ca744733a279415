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

/// The keys of a history.
pub struct Keys {
    names: Vec<String>,
    /// The number of a value that each has had lately: a guess that makes conditions come true.
    lately: Vec<AtomicU64>,
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

/// Gives everybody who waits for an absent key their turn, reads what is left, and sees to it that
/// whoever waits no longer was told so.
fn close(
    arena: &Arena,
    clients: &mut [Client<'_>],
    closer: &mut Client<'_>,
    key: usize,
) -> Result<()> {
    let delete = Action::Write(Write {
        value: None,
        when: None,
        watch: false,
        timed: false,
        will: None,
    });
    let life = arena.life();
    let waiting = |clients: &[Client<'_>]| -> usize {
        clients.iter().map(|c| c.waiting_for(key, life)).sum()
    };
    for _ in 0..waiting(clients) {
        closer.ask_and_wait(key, delete)?;
    }
    closer.ask_and_wait(key, Action::Get)?;
    let last = closer.ops[key].last().and_then(|op| op.reply);
    if let Some((_, Reply::Read { waiters: 0, .. })) = last {
        for client in clients {
            client.settle(key, life)?;
        }
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
        let write = match op.action {
            Action::Write(write) => Some(write),
            _ => None,
        };
        let counter = match op.reply.map(|(_, reply)| reply) {
            Some(Reply::Written(_)) if write.is_some_and(|w| w.watch) => {
                report.watching += 1;
                &mut report.conditional
            }
            Some(Reply::Written(_)) if write.is_some_and(|w| w.when.is_some()) => {
                &mut report.conditional
            }
            Some(Reply::Written(_)) => &mut report.writes,
            Some(Reply::Refused) => &mut report.refused,
            Some(Reply::TimedOut) => &mut report.timed_out,
            Some(Reply::Read { waiters, .. }) => {
                report.reads_of_waiting += u64::from(waiters > 0);
                &mut report.reads
            }
            Some(Reply::Ready) => continue,
            None if op.action == Action::End => &mut report.ends,
            None => &mut report.unknown,
        };
        *counter += 1;
    }
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
