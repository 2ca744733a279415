//! All brokers of one comparison, in step with each other. The router is the first.

use anyhow::{Context, Result, ensure};

use super::broker::Kind;
use super::script::{Step, Version};
use super::session::Session;

/// The brokers on which a script is played.
#[derive(Debug)]
pub struct Stage(Vec<Session>);

impl Stage {
    /// Starts a fresh broker of each kind.
    ///
    /// # Errors
    /// Fails if one does not get ready.
    pub fn start(kinds: &[Kind], version: Version, capabilities: bool) -> Result<Self> {
        let start = |kind: &Kind| Session::start(*kind, version, capabilities);
        Ok(Self(kinds.iter().map(start).collect::<Result<_>>()?))
    }

    /// Carries out one step everywhere.
    pub fn play(&mut self, step: &Step) -> Result<()> {
        for session in &mut self.0 {
            session
                .play(step)
                .with_context(|| format!("{} on {}", step.text, session.kind()))?;
        }
        Ok(())
    }

    /// Gives all of them time to say more.
    pub fn look_again(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Session::look_again)
    }

    /// What the clients have seen in this step, by broker.
    pub fn transcripts(&self) -> Vec<Vec<String>> {
        self.0.iter().map(Session::transcript).collect()
    }

    /// Whether a client of the router has received something in this step.
    pub fn has_seen(&self, client: char) -> bool {
        let ours = self.0.first();
        ours.is_some_and(|session| session.has_seen(client))
    }

    /// Ends the step.
    pub fn finish_step(&mut self) {
        self.0.iter_mut().for_each(Session::finish_step);
    }

    /// Whether each of them still lets a stranger in.
    ///
    /// # Errors
    /// Fails if the router does not.
    pub fn alive(&self) -> Result<Vec<bool>> {
        let alive: Vec<bool> = self
            .0
            .iter()
            .map(Session::is_alive)
            .collect::<Result<_>>()?;
        ensure!(alive.first() == Some(&true), "the router lets nobody in");
        Ok(alive)
    }
}
