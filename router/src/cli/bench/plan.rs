//! Who publishes what to whom.

use super::settings::{Scenario, Settings};
use super::topic::Filter;
use crate::cli::failure::Failure;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// Filters that match every topic of `wildcard`.
const CATCH_ALL: usize = 2;

/// See the [module](self).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The first levels of all topics, of nobody else.
    pub root: String,
    /// Topics by their stream: what one publisher sends to one topic.
    pub streams: Vec<Filter>,
    /// Of publishers: their streams.
    pub publishers: Vec<Vec<u32>>,
    /// Of subscribers: their filters.
    pub subscribers: Vec<Vec<Filter>>,
    /// Subscribers that each message reaches.
    pub fan: u64,
}

/// Two levels that no other run has.
///
/// # Errors
/// The system has no random numbers.
pub(super) fn root() -> Result<String, Failure> {
    let number = SysRng.try_next_u32();
    let number = number.map_err(|error| Failure::failed(format!("no random number: {error}")))?;
    Ok(format!("bench/r{number:08x}"))
}

impl Plan {
    /// The plan of a scenario below `root`.
    pub(super) fn new(settings: &Settings, root: &str) -> Plan {
        let &Settings {
            scenario,
            publishers,
            subscribers,
            topics,
            ..
        } = settings;
        let topic = |at: usize| Filter::new(&format!("{root}/t{at}/v"));
        // Where there are fewer topics than publishers, several send to one.
        let streams = topics.max(publishers);
        let mut plan = Plan {
            root: root.to_owned(),
            streams: (0..streams).map(|stream| topic(stream % topics)).collect(),
            publishers: (0..publishers)
                .map(|publisher| (publisher..streams).step_by(publishers))
                .map(|streams| streams.map(|stream| stream as u32).collect())
                .collect(),
            subscribers: Vec::new(),
            fan: 1,
        };
        match scenario {
            Scenario::Pubsub | Scenario::Connections | Scenario::Call => {
                plan.subscribers = (0..subscribers)
                    .map(|subscriber| (subscriber..topics).step_by(subscribers))
                    .map(|topics| topics.map(topic).collect())
                    .collect();
            }
            Scenario::Fanin => {
                let all = vec![Filter::new(&format!("{root}/+/v"))];
                plan.subscribers = vec![all; subscribers];
                plan.fan = subscribers as u64;
            }
            Scenario::Fanout => {
                let all: Vec<Filter> = (0..topics).map(topic).collect();
                plan.subscribers = vec![all; subscribers];
                plan.fan = subscribers as u64;
            }
            Scenario::Wildcard => plan.wildcards(subscribers, topics),
            Scenario::Retained => {
                let all = vec![Filter::new(&format!("{root}/#"))];
                plan.subscribers = vec![all; subscribers];
                plan.fan = 0;
            }
            Scenario::Kv | Scenario::Lock => {}
        }
        plan
    }

    /// Each topic has a filter of its own, of four kinds in turn, and those that match every topic.
    fn wildcards(&mut self, subscribers: usize, topics: usize) {
        let root = &self.root;
        let filter = |at: usize| {
            let behind_first = root.split_once('/').map_or("", |(_, rest)| rest);
            let text = match at % 4 {
                0 => format!("{root}/t{at}/+"),
                1 => format!("{root}/t{at}/#"),
                2 => format!("{root}/t{at}/v"),
                _ => format!("+/{behind_first}/t{at}/v"),
            };
            Filter::new(&text)
        };
        let own = (0..subscribers.min(topics))
            .map(|subscriber| (subscriber..topics).step_by(subscribers))
            .map(|topics| topics.map(filter).collect());
        let all = [format!("{root}/#"), format!("{root}/+/v")];
        let all = all.iter().map(|text| vec![Filter::new(text)]);
        self.subscribers = own.chain(all).collect();
        self.fan = 1 + CATCH_ALL as u64;
    }

    /// The publisher of each stream.
    pub(super) fn owners(&self) -> Vec<u32> {
        let count = self.publishers.len().max(1);
        let owners = (0..self.streams.len()).map(|stream| (stream % count) as u32);
        owners.collect()
    }

    /// The topics of a publisher.
    pub(super) fn topics(&self, publisher: usize) -> Vec<Filter> {
        let streams = self.publishers.get(publisher).into_iter().flatten();
        let topics = streams.filter_map(|stream| self.streams.get(*stream as usize));
        topics.cloned().collect()
    }

    /// A topic that nobody publishes to.
    pub(super) fn quiet_topic(&self) -> String {
        Filter::new(&format!("{}x/quiet", self.root))
            .wamp()
            .uri
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::BenchArgs;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(words: &str) -> Plan {
        let words = std::iter::once("bench").chain(words.split_whitespace());
        let line = Line::try_parse_from(words).expect("parsed");
        let scenario = line.bench.scenario.expect("a scenario");
        Plan::new(&line.bench.settings(scenario).expect("fine"), "b/r")
    }

    /// How many subscribers the filters of a plan let a topic reach, by the rules of MQTT.
    fn reached(plan: &Plan, topic: &Filter) -> u64 {
        let topic = topic.mqtt();
        let matches = |filter: &Filter| {
            let filter = filter.mqtt();
            let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
            loop {
                match (filter.next(), topic.next()) {
                    (Some("#"), _) | (None, None) => return true,
                    (Some("+"), Some(_)) => {}
                    (one, other) if one == other => {}
                    _ => return false,
                }
            }
        };
        let filters = plan.subscribers.iter().flatten();
        filters.filter(|filter| matches(filter)).count() as u64
    }

    #[test]
    fn every_topic_reaches_as_many_subscribers_as_the_plan_says() {
        for words in [
            "pubsub",
            "pubsub --publishers 3 --topics 7 --subscribers 2",
            "pubsub --publishers 5 --topics 2 --subscribers 2",
            "fanin --subscribers 3",
            "fanout --publishers 2 --subscribers 5",
            "wildcard --topics 50 --subscribers 7",
            "wildcard --topics 3 --subscribers 7 --publishers 2",
            "connections --subscribers 20",
        ] {
            let plan = plan(words);
            assert!(!plan.streams.is_empty());
            for topic in &plan.streams {
                assert_eq!(reached(&plan, topic), plan.fan, "{words}: {topic:?}");
            }
        }
    }

    #[test]
    fn every_stream_has_one_publisher() {
        for words in [
            "pubsub --publishers 3 --topics 7",
            "fanout --publishers 4 --topics 1",
        ] {
            let plan = plan(words);
            let mut streams: Vec<u32> = plan.publishers.concat();
            streams.sort_unstable();
            let all: Vec<u32> = (0..plan.streams.len() as u32).collect();
            assert_eq!(streams, all, "{words}");
            for (publisher, streams) in plan.publishers.iter().enumerate() {
                for stream in streams {
                    assert_eq!(plan.owners()[*stream as usize], publisher as u32);
                }
            }
        }
    }

    #[test]
    fn nothing_of_a_run_reaches_the_quiet_topic() {
        let plan = plan("wildcard --topics 4 --subscribers 1");
        let quiet = Filter::new(&plan.quiet_topic().replace('.', "/"));
        assert_eq!(reached(&plan, &quiet), 0);
    }
}
