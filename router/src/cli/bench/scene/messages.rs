//! Scenarios of messages: publishers, and subscribers that check what comes.

use super::super::door::Door;
use super::super::line::Line;
use super::super::outcome::{Connecting, Outcome};
use super::super::peer::{Heard, PubSub};
use super::super::role::{Listener, Publisher};
use super::super::settings::{Protocol, Scenario};
use super::{Opened, Scene};
use crate::cli::failure::Failure;
use protocols::mqtt::packet::QoS;
use std::rc::Rc;

impl Scene<'_> {
    pub(super) async fn messages(&self) -> Result<Outcome, Failure> {
        let before = self.processes.memory()?;
        let opened = self.subscribe(false).await?;
        let after = self.processes.memory()?;
        self.publish().await?;
        let mut phases = self.phases();
        let span = phases.load(self.settings.extent).await?;
        phases.leave().await?;
        let mut outcome = Outcome::new(self.settings, &self.run, &span);
        if self.settings.scenario == Scenario::Connections {
            let grown = before.zip(after);
            let grown = grown.map(|(before, after)| after.0.saturating_sub(before.0) as f64);
            outcome.connections = Some(Connecting {
                per_second: opened.count as f64 / opened.seconds,
                latency_us: opened.latency,
                rss_bytes_each: grown.map(|bytes| bytes / opened.count.max(1) as f64),
            });
        }
        Ok(outcome)
    }

    /// Opens the subscribers.
    pub(super) async fn subscribe(&self, with_retained: bool) -> Result<Opened, Failure> {
        let qos = self.settings.subscribe_qos;
        match self.settings.subscribe_with {
            Protocol::Mqtt => self.listen(&self.mqtt(qos)?, with_retained).await,
            Protocol::Wamp => self.listen(&self.wamp(qos)?, with_retained).await,
        }
    }

    async fn listen<D: Door>(&self, door: &D, with_retained: bool) -> Result<Opened, Failure> {
        let prepare = async |index: usize, line: &mut Line<D::Peer>| {
            let mut listener = Listener::new(self.run.clone());
            let filters = self.plan.subscribers.get(index);
            let filters = filters.map_or(&[][..], Vec::as_slice);
            if with_retained {
                self.run.ask();
            }
            line.peer.subscribe(filters, with_retained, &mut line.out);
            let mut left = filters.len();
            let run = &self.run;
            line.until(self.settings.patience, &mut |heard| {
                match heard {
                    Heard::Confirmed(count) => left = left.saturating_sub(count),
                    // What is kept may come before the confirmation.
                    Heard::Message(payload) => listener.message(payload, run.now()),
                    _ => {}
                }
                Ok(left == 0)
            })
            .await?;
            Ok((listener, Rc::default()))
        };
        let count = self.plan.subscribers.len();
        self.open(door, count, 's', prepare).await
    }

    /// Opens the publishers.
    pub(super) async fn publish(&self) -> Result<Opened, Failure> {
        let qos: QoS = self.settings.qos;
        match self.settings.publish_with {
            Protocol::Mqtt => self.send(&self.mqtt(qos)?).await,
            Protocol::Wamp => self.send(&self.wamp(qos)?).await,
        }
    }

    async fn send<D: Door>(&self, door: &D) -> Result<Opened, Failure> {
        let is_retained = self.settings.scenario == Scenario::Retained;
        let prepare = async |index: usize, line: &mut Line<D::Peer>| {
            line.peer
                .aim(&self.plan.topics(index), is_retained, &self.padding);
            let streams = self.plan.publishers.get(index).cloned();
            let publisher = Publisher::new(
                self.run.clone(),
                self.share(index),
                streams.unwrap_or_default(),
                self.padding.clone(),
            );
            Ok((publisher, self.bell(index)))
        };
        self.open(door, self.settings.publishers, 'p', prepare)
            .await
    }
}
