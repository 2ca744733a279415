//! Many kept messages: stored, sent to new subscribers, deleted.

use super::super::outcome::{Outcome, Replay};
use super::super::phases::Ended;
use super::super::run::Stage;
use super::super::settings::Extent;
use super::Scene;
use crate::cli::failure::Failure;
use std::time::Instant;

impl Scene<'_> {
    pub(super) async fn retained(&self) -> Result<Outcome, Failure> {
        self.publish().await?;
        let mut phases = self.phases();
        let span = phases.load(self.settings.extent).await?;
        let mut outcome = Outcome::new(self.settings, &self.run, &span);
        let replayed = self.replay().await;
        // Whatever came of that, nothing is left behind.
        let erased = self.erase().await;
        let replay = replayed?;
        erased?;
        phases.leave().await?;
        outcome.count(&self.run.tally.borrow(), replay.messages);
        // What was delivered, was so by the replay.
        outcome.delivered = replay.messages.saturating_sub(outcome.lost);
        outcome.delivered_per_second = replay.per_second;
        outcome.replay = Some(replay);
        Ok(outcome)
    }

    /// New subscribers get all of it.
    async fn replay(&self) -> Result<Replay, Failure> {
        let messages = match self.settings.extent {
            Extent::Messages(messages) => messages * self.plan.subscribers.len() as u64,
            Extent::Time { .. } => 0,
        };
        let start = Instant::now();
        self.subscribe(true).await?;
        let mut phases = self.phases();
        let is_there = |came: u64| came >= messages;
        // What does not come is counted as lost.
        let ended = phases.wait(
            None,
            |_| true,
            |run| is_there(run.tally.borrow().counts.distinct),
        );
        ended.await?;
        let seconds = start.elapsed().as_secs_f64().max(1e-6);
        let came = self.run.tally.borrow().counts.distinct;
        Ok(Replay {
            messages,
            seconds,
            per_second: came as f64 / seconds,
        })
    }

    async fn erase(&self) -> Result<(), Failure> {
        let total: u64 = self.run.flows.iter().map(|flow| flow.sent()).sum();
        self.run.enter(Stage::Erasing);
        let mut phases = self.phases();
        let ended = phases.wait(None, |_| true, |run| run.erased() >= total);
        match ended.await? {
            Ended::Done => Ok(()),
            Ended::Stuck => Err(Failure::failed(format!(
                "kept messages below {} could not be deleted",
                self.plan.root
            ))),
        }
    }
}
