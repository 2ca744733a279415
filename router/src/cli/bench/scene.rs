//! The scenarios: who is connected, who sends, and what comes out of it.

mod calls;
mod messages;
mod retained;

use super::door::{Door, MqttDoor, WampDoor};
use super::flow::Flow;
use super::line::{Line, Role, serve};
use super::outcome::{Latency, Outcome};
use super::phases::Phases;
use super::plan::{self, Plan};
use super::process::Processes;
use super::role::{Share, part};
use super::run::{Run, latencies};
use super::settings::{Extent, Scenario, Settings};
use super::stamp::padding;
use crate::cli::client::Connection;
use crate::cli::failure::Failure;
use futures_util::StreamExt as _;
use futures_util::stream;
use futures_util::task::AtomicWaker;
use indicatif::ProgressBar;
use protocols::mqtt::packet::QoS;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// Connections that are opened at a time.
const OPENING: usize = 32;

/// One measurement, from its first connection to its last.
pub(super) struct Scene<'a> {
    settings: &'a Settings,
    connection: &'a Connection,
    plan: Plan,
    processes: Processes,
    padding: Rc<[u8]>,
    run: Rc<Run>,
    bar: &'a ProgressBar,
}

/// How the connections of one side were opened.
struct Opened {
    count: usize,
    seconds: f64,
    latency: Option<Latency>,
}

impl<'a> Scene<'a> {
    /// A measurement that has not begun.
    ///
    /// # Errors
    /// A process that is to be measured does not exist.
    pub(super) fn new(
        settings: &'a Settings,
        connection: &'a Connection,
        bar: &'a ProgressBar,
    ) -> Result<Scene<'a>, Failure> {
        let plan = Plan::new(settings, &plan::root()?);
        let processes = Processes::new(settings.pids.clone());
        processes.cpu()?;
        let is_acknowledged = !settings.scenario.is_calls() && settings.qos > QoS::AtMostOnce;
        let flow = |_| Flow::new(plan.fan, is_acknowledged);
        let flows = (0..settings.publishers).map(flow).collect();
        let run = Rc::new(Run::new(flows, plan.owners())?);
        Ok(Scene {
            settings,
            connection,
            processes,
            padding: padding(settings.size).into(),
            run,
            plan,
            bar,
        })
    }

    /// Measures. To be called on a local set of tasks.
    ///
    /// # Errors
    /// The peer cannot be reached, or does not do what is asked.
    pub(super) async fn measure(&self) -> Result<Outcome, Failure> {
        let mut outcome = match self.settings.scenario {
            Scenario::Call => self.calls().await?,
            Scenario::Kv => self.keys().await?,
            Scenario::Lock => self.locks().await?,
            Scenario::Retained => self.retained().await?,
            Scenario::Pubsub
            | Scenario::Fanin
            | Scenario::Fanout
            | Scenario::Wildcard
            | Scenario::Connections => self.messages().await?,
        };
        if let (Some(router), Some((_, peak))) = (&mut outcome.router, self.processes.memory()?) {
            router.peak_rss_bytes = peak;
        }
        Ok(outcome)
    }

    fn phases(&self) -> Phases<'_> {
        let patience = self.settings.patience;
        Phases::new(&self.run, &self.processes, patience, self.bar)
    }

    fn mqtt(&self, qos: QoS) -> Result<MqttDoor, Failure> {
        MqttDoor::new(self.settings, self.connection, qos)
    }

    fn wamp(&self, qos: QoS) -> Result<WampDoor, Failure> {
        let quiet_topic = self.plan.quiet_topic();
        WampDoor::new(self.settings, self.connection, qos, quiet_topic)
    }

    /// The part of one publisher.
    fn share(&self, index: usize) -> Share {
        let count = self.settings.publishers;
        Share {
            index,
            count,
            rhythm: self.settings.rhythm,
            limit: match self.settings.extent {
                Extent::Messages(messages) => Some(part(messages, index, count)),
                Extent::Time { .. } => None,
            },
        }
    }

    /// The bell of a publisher.
    fn bell(&self, index: usize) -> Rc<AtomicWaker> {
        let flow = self.run.flows.get(index);
        flow.map_or_else(Rc::default, |flow| flow.bell.clone())
    }

    /// Opens connections, prepares each, and leaves them to tasks of their own.
    async fn open<D: Door, R: Role<D::Peer>>(
        &self,
        door: &D,
        count: usize,
        side: char,
        prepare: impl AsyncFn(usize, &mut Line<D::Peer>) -> Result<(R, Rc<AtomicWaker>), Failure>,
    ) -> Result<Opened, Failure> {
        let start = Instant::now();
        let mut latency = latencies()?;
        self.bar.set_message("connecting");
        self.bar.set_length(count as u64);
        self.bar.set_position(0);
        let (client, prepare) = (
            self.plan.root.rsplit('/').next().unwrap_or_default(),
            &prepare,
        );
        let opening = stream::iter(0..count).map(|index| async move {
            let before = Instant::now();
            let mut line = door.open(&format!("{client}{side}{index}")).await?;
            let took = before.elapsed();
            let (role, bell) = prepare(index, &mut line).await?;
            Ok::<_, Failure>((line, role, bell, took))
        });
        let mut opening = opening.buffer_unordered(OPENING);
        while let Some(opened) = opening.next().await {
            let (line, role, bell, took) = opened?;
            latency.saturating_record(micros(took).max(1));
            self.run.hang(bell.clone());
            spawn_local(serve(line, role, bell, self.run.clone()));
            self.bar.inc(1);
        }
        Ok(Opened {
            count,
            seconds: start.elapsed().as_secs_f64().max(1e-6),
            latency: Latency::of(&latency),
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
