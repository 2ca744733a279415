//! The course of a run: warm up, measure, wait for what is under way, ask for signs of life, leave.
//!
//! Every wait has an end: when what it waits for is there, or its time is over, or nothing came for
//! as long as the user's patience lasts.

use super::process::{self, Processes};
use super::run::{Run, Stage};
use super::settings::Extent;
use crate::cli::failure::Failure;
use indicatif::ProgressBar;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a wait looks around when nothing wakes it.
const TICK: Duration = Duration::from_millis(20);
/// How often connections show that they live.
const BEAT: Duration = Duration::from_secs(15);
/// For goodbyes, which nobody has to answer.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is known at one moment.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    at: Instant,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that arrived.
    pub arrived: u64,
    cpu: Option<Duration>,
    own_cpu: Option<Duration>,
}

impl Mark {
    /// # Errors
    /// A process that is to be measured is gone.
    pub(super) fn new(run: &Run, processes: &Processes) -> Result<Mark, Failure> {
        Ok(Mark {
            at: Instant::now(),
            sent: sent(run),
            arrived: run.tally.borrow().counts.distinct,
            cpu: processes.cpu()?,
            own_cpu: process::own_cpu(),
        })
    }
}

/// From one moment to another.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// Its beginning.
    pub from: Mark,
    /// Its end.
    pub to: Mark,
}

impl Span {
    /// How long it was.
    pub(super) fn seconds(&self) -> f64 {
        (self.to.at - self.from.at).as_secs_f64().max(1e-6)
    }

    /// What the router used of its processors.
    pub(super) fn cpu(&self) -> Option<f64> {
        self.to.cpu.zip(self.from.cpu).map(difference)
    }

    /// What we used of ours.
    pub(super) fn own_cpu(&self) -> Option<f64> {
        self.to.own_cpu.zip(self.from.own_cpu).map(difference)
    }
}

fn difference((to, from): (Duration, Duration)) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// What was waited for is there.
    Done,
    /// Nothing came any more.
    Stuck,
}

/// See the [module](self).
pub(super) struct Phases<'a> {
    run: &'a Run,
    processes: &'a Processes,
    patience: Duration,
    bar: &'a ProgressBar,
    /// How much came, and since when no more.
    heard: (u64, Instant),
    /// The same for what each publisher has done with.
    settled: Vec<(u64, Instant)>,
    beaten: Instant,
    /// Whether the bar is in milliseconds, and not in messages.
    is_by_time: bool,
}

impl<'a> Phases<'a> {
    /// Nothing has happened yet.
    pub(super) fn new(
        run: &'a Run,
        processes: &'a Processes,
        patience: Duration,
        bar: &'a ProgressBar,
    ) -> Phases<'a> {
        let now = Instant::now();
        Phases {
            run,
            processes,
            patience,
            bar,
            heard: (0, now),
            settled: vec![(0, now); run.flows.len()],
            beaten: now,
            is_by_time: false,
        }
    }

    /// The load from its beginning until everything has arrived or is lost.
    ///
    /// # Errors
    /// A connection broke, or nothing came for too long.
    pub(super) async fn load(&mut self, extent: Extent) -> Result<Span, Failure> {
        let mut from = Mark::new(self.run, self.processes)?;
        self.run.enter(Stage::Running);
        match extent {
            Extent::Messages(messages) => {
                self.bar.set_length(messages);
                let is_sent = |run: &Run| sent(run) >= messages;
                let ended = self.wait(None, is_under_way, |run| is_sent(run) && !is_under_way(run));
                if ended.await? == Ended::Stuck && !is_sent(self.run) {
                    return Err(self.stuck());
                }
                let to = Mark::new(self.run, self.processes)?;
                self.run.enter(Stage::Draining);
                self.judge()?;
                Ok(Span { from, to })
            }
            Extent::Time { warm_up, duration } => {
                self.is_by_time = true;
                self.bar.set_length(millis(warm_up + duration));
                if !warm_up.is_zero() {
                    self.until(from.at + warm_up).await?;
                    from = Mark::new(self.run, self.processes)?;
                    self.run.tally.borrow_mut().latency.reset();
                }
                self.until(from.at + duration).await?;
                let to = Mark::new(self.run, self.processes)?;
                self.run.enter(Stage::Draining);
                self.wait(None, is_under_way, |run| !is_under_way(run))
                    .await?;
                self.judge()?;
                Ok(Span { from, to })
            }
        }
    }

    /// Sends until `end`.
    async fn until(&mut self, end: Instant) -> Result<(), Failure> {
        match self.wait(Some(end), is_under_way, |_| false).await? {
            Ended::Done => Ok(()),
            Ended::Stuck => Err(self.stuck()),
        }
    }

    /// Asks every connection for a sign of life, behind which nothing comes, and says goodbye.
    ///
    /// # Errors
    /// A connection broke, or does not answer.
    pub(super) async fn leave(&mut self) -> Result<(), Failure> {
        let all = self.run.connections();
        self.heard.1 = Instant::now();
        self.run.enter(Stage::Asking);
        if self.wait(None, |_| true, |run| run.quiet() >= all).await? == Ended::Stuck {
            let secs = self.patience.as_secs_f64();
            let text = format!("a connection did not answer within {secs} s after the load");
            return Err(Failure::failed(text));
        }
        self.run.enter(Stage::Leaving);
        let end = Instant::now() + FAREWELL;
        // How it ends changes nothing any more.
        let _ = self
            .wait(Some(end), |_| false, |run| run.ended() >= all)
            .await;
        Ok(())
    }

    /// Waits for `is_done`, at most until `end`; it is stuck if nothing comes while `is_waiting`.
    ///
    /// # Errors
    /// A connection broke.
    pub(super) async fn wait(
        &mut self,
        end: Option<Instant>,
        is_waiting: impl Fn(&Run) -> bool,
        is_done: impl Fn(&Run) -> bool,
    ) -> Result<Ended, Failure> {
        loop {
            self.run.check()?;
            let now = Instant::now();
            if is_done(self.run) || end.is_some_and(|end| now >= end) {
                return Ok(Ended::Done);
            }
            if self.is_stuck(now, is_waiting(self.run)) {
                return Ok(Ended::Stuck);
            }
            self.write_off(now);
            if now - self.beaten >= BEAT {
                self.beaten = now;
                self.run.beat();
            }
            self.show();
            let tick = now + TICK;
            tokio::select! {
                () = self.run.news() => {}
                () = sleep_until(end.map_or(tick, |end| end.min(tick))) => {}
            }
        }
    }

    fn is_stuck(&mut self, now: Instant, is_waiting: bool) -> bool {
        let heard = self.run.heard() + self.run.erased() + self.run.quiet() as u64;
        if heard != self.heard.0 || !is_waiting {
            self.heard = (heard, now);
        }
        now - self.heard.1 >= self.patience
    }

    /// A publisher whose last messages were lost would wait for them without end, while others go
    /// on.
    fn write_off(&mut self, now: Instant) {
        for (flow, settled) in self.run.flows.iter().zip(&mut self.settled) {
            let under_way = flow.under_way();
            let done = flow.sent() - under_way;
            if under_way == 0 || done != settled.0 {
                *settled = (done, now);
            } else if now - settled.1 >= self.patience {
                flow.write_off();
            }
        }
    }

    fn stuck(&self) -> Failure {
        let under_way: u64 = self.run.flows.iter().map(|flow| flow.under_way()).sum();
        let secs = self.patience.as_secs_f64();
        Failure::failed(format!(
            "nothing came for {secs} s, with {under_way} messages under way"
        ))
    }

    /// A peer that lost everything did not do what was asked at all.
    fn judge(&self) -> Result<(), Failure> {
        let expected: u64 = self.run.flows.iter().map(|flow| flow.expected()).sum();
        let came = self.run.tally.borrow().counts.distinct;
        match expected > 0 && came == 0 {
            true => Err(Failure::failed(format!(
                "none of {expected} messages arrived"
            ))),
            false => Ok(()),
        }
    }

    fn show(&self) {
        let came = self.run.tally.borrow().counts.distinct;
        let since = self.run.now().saturating_sub(self.run.start());
        if self.run.stage() != Stage::Running || since == 0 {
            return;
        }
        let rate = u128::from(came) * 1_000_000 / u128::from(since);
        self.bar.set_message(format!("{rate}/s"));
        self.bar.set_position(match self.is_by_time {
            true => since / 1000,
            false => sent(self.run),
        });
    }
}

fn sent(run: &Run) -> u64 {
    run.flows.iter().map(|flow| flow.sent()).sum()
}

fn is_under_way(run: &Run) -> bool {
    run.flows.iter().any(|flow| flow.under_way() > 0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
