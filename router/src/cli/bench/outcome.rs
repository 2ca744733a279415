//! What came out of a run: the one object of `--json`, and what `--compare` reads.

use super::phases::Span;
use super::run::{Run, Tally};
use super::settings::{Extent, Operation, Rhythm, Scenario, Settings};
use hdrhistogram::Histogram;
use protocols::mqtt::packet::QoS;
use serde::{Deserialize, Serialize};

/// See the [module](self). Members may be added; the ones here stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub scenario: String,
    /// What publishers, callers or clients speak.
    pub publish_with: String,
    /// What subscribers or callees speak.
    pub subscribe_with: String,
    pub qos: u8,
    pub subscribe_qos: u8,
    /// What kv asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub op: Option<String>,
    /// Bytes of a payload.
    pub size: usize,
    pub publishers: usize,
    pub subscribers: usize,
    pub topics: usize,
    /// Messages under way for each publisher, or...
    pub window: Option<u64>,
    /// ... messages a second of all of them.
    pub rate: Option<f64>,
    /// How long was measured.
    pub seconds: f64,
    /// Meanwhile.
    pub published: u64,
    pub delivered: u64,
    pub published_per_second: f64,
    pub delivered_per_second: f64,
    /// Of the whole run, the warm-up included.
    pub expected: u64,
    pub received: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// What nobody of this run had sent.
    pub strange: u64,
    /// Messages whose time had come and that could not be sent.
    pub unsent: u64,
    /// Whether everything came as it must.
    pub ok: bool,
    pub latency_us: Option<Latency>,
    /// Of one processor.
    pub generator_cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub router: Option<RouterUse>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connections: Option<Connecting>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replay: Option<Replay>,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// What the router used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct RouterUse {
    /// User and system time while it was measured.
    pub cpu_seconds: f64,
    /// The same for a million deliveries; in `retained`, of messages that were stored.
    pub cpu_seconds_per_million: f64,
    /// Since the process began.
    pub peak_rss_bytes: u64,
}

/// How connections were opened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Connecting {
    pub per_second: f64,
    /// Until a client was let in.
    pub latency_us: Option<Latency>,
    /// What the router's memory grew by for each.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rss_bytes_each: Option<f64>,
}

/// How kept messages were sent to a new subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Replay {
    pub messages: u64,
    pub seconds: f64,
    pub per_second: f64,
}

impl Latency {
    /// `None`: there was none.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(Latency {
            min: histogram.min(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        })
    }
}

impl Outcome {
    /// What a load came to.
    pub(super) fn new(settings: &Settings, run: &Run, span: &Span) -> Outcome {
        let tally = run.tally.borrow();
        let expected: u64 = run.flows.iter().map(|flow| flow.expected()).sum();
        let seconds = span.seconds();
        let published = span.to.sent - span.from.sent;
        let delivered = span.to.arrived - span.from.arrived;
        // Kept messages are only stored.
        let counted = if delivered == 0 { published } else { delivered };
        let mut outcome = Outcome {
            seconds,
            published,
            delivered,
            published_per_second: published as f64 / seconds,
            delivered_per_second: delivered as f64 / seconds,
            unsent: unsent(settings, span),
            generator_cpu_percent: span.own_cpu().map(|cpu| cpu * 100.0 / seconds),
            router: span.cpu().map(|cpu| RouterUse {
                cpu_seconds: cpu,
                cpu_seconds_per_million: cpu * 1e6 / counted.max(1) as f64,
                peak_rss_bytes: 0,
            }),
            ..Outcome::empty(settings)
        };
        outcome.count(&tally, expected);
        outcome
    }

    fn empty(settings: &Settings) -> Outcome {
        let (window, rate) = match settings.rhythm {
            Rhythm::Window(window) => (Some(window), None),
            Rhythm::Rate(rate) => (None, Some(rate)),
        };
        let op = (settings.scenario == Scenario::Kv).then_some(match settings.op {
            Operation::Put => "put",
            Operation::Get => "get",
        });
        Outcome {
            scenario: settings.scenario.name().to_owned(),
            publish_with: settings.speech(settings.publish_with),
            subscribe_with: settings.speech(settings.subscribe_with),
            qos: settings.qos as u8,
            subscribe_qos: settings.subscribe_qos as u8,
            op: op.map(str::to_owned),
            size: settings.size,
            publishers: settings.publishers,
            subscribers: settings.subscribers,
            topics: settings.topics,
            window,
            rate,
            seconds: 0.0,
            published: 0,
            delivered: 0,
            published_per_second: 0.0,
            delivered_per_second: 0.0,
            expected: 0,
            received: 0,
            lost: 0,
            duplicated: 0,
            out_of_order: 0,
            strange: 0,
            unsent: 0,
            ok: true,
            latency_us: None,
            generator_cpu_percent: None,
            router: None,
            connections: None,
            replay: None,
        }
    }

    /// Takes in what was counted, of what was expected.
    pub(super) fn count(&mut self, tally: &Tally, expected: u64) {
        let counts = tally.counts;
        self.expected = expected;
        self.received = counts.distinct + counts.doubled;
        self.lost = expected.saturating_sub(counts.distinct);
        self.duplicated = counts.doubled;
        self.out_of_order = counts.late;
        self.strange = tally.strange;
        self.latency_us = Latency::of(&tally.latency);
    }

    /// What did not come as it must, in words; sets `ok`.
    pub(super) fn judge(&mut self, arriving: QoS) -> Option<String> {
        let is_sure = arriving > QoS::AtMostOnce;
        let is_once = arriving == QoS::ExactlyOnce;
        let faults = [
            (self.lost, "lost", is_sure),
            (self.duplicated, "doubled", is_once),
            (self.out_of_order, "out of order", true),
            (self.strange, "not of this run", true),
        ];
        let faults = faults
            .iter()
            .filter(|(count, _, counts)| *count > 0 && *counts);
        let words: Vec<String> = faults
            .map(|(count, what, _)| format!("{count} {what}"))
            .collect();
        self.ok = words.is_empty();
        (!self.ok).then(|| format!("of {} messages {}", self.expected, words.join(", ")))
    }

    /// What was measured, for the rows of a comparison.
    pub(super) fn label(&self) -> String {
        let op = self
            .op
            .as_deref()
            .map_or(String::new(), |op| format!(" {op}"));
        let pace = match (self.window, self.rate) {
            (_, Some(rate)) => format!("{rate}/s"),
            (window, None) => format!("window {}", window.unwrap_or_default()),
        };
        let speech = match self.publish_with == self.subscribe_with {
            true => self.publish_with.clone(),
            false => format!("{} to {}", self.publish_with, self.subscribe_with),
        };
        format!(
            "{}{op}, {speech}, qos {}, {} B, {} x {} x {}, {pace}",
            self.scenario, self.qos, self.size, self.publishers, self.topics, self.subscribers
        )
    }
}

/// Where a rate was asked for and a time: what of it was not sent in that time.
fn unsent(settings: &Settings, span: &Span) -> u64 {
    match (settings.rhythm, settings.extent) {
        (Rhythm::Rate(rate), Extent::Time { warm_up, .. }) => {
            let due = (warm_up.as_secs_f64() + span.seconds()) * rate;
            // The last of each publisher may be under its pen.
            (due as u64).saturating_sub(span.to.sent + settings.publishers as u64)
        }
        _ => 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::bench::check::Counts;

    /// One that a test can change.
    pub(in crate::cli::bench) fn outcome() -> Outcome {
        let latency = Latency {
            min: 10,
            mean: 25.5,
            p50: 20,
            p90: 40,
            p99: 80,
            p999: 1600,
            max: 12_345,
        };
        Outcome {
            scenario: "pubsub".to_owned(),
            publish_with: "mqtt 3.1.1".to_owned(),
            subscribe_with: "wamp json".to_owned(),
            qos: 1,
            subscribe_qos: 1,
            op: None,
            size: 256,
            publishers: 10,
            subscribers: 10,
            topics: 10,
            window: Some(64),
            rate: None,
            seconds: 2.0,
            published: 200_000,
            delivered: 200_000,
            published_per_second: 100_000.0,
            delivered_per_second: 100_000.0,
            expected: 250_000,
            received: 250_000,
            lost: 0,
            duplicated: 0,
            out_of_order: 0,
            strange: 0,
            unsent: 0,
            ok: true,
            latency_us: Some(latency),
            generator_cpu_percent: Some(50.0),
            router: Some(RouterUse {
                cpu_seconds: 0.2,
                cpu_seconds_per_million: 1.0,
                peak_rss_bytes: 64 << 20,
            }),
            connections: None,
            replay: None,
        }
    }

    #[test]
    fn the_quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds");
        assert_eq!(Latency::of(&histogram), None);
        for value in 1..=1000 {
            histogram.record(value).expect("within the bounds");
        }
        let latency = Latency::of(&histogram).expect("some");
        let found = (
            latency.min,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
        );
        assert_eq!(found, (1, 500, 900, 990, 999));
        assert_eq!((latency.max, latency.mean), (1000, 500.5));
    }

    #[test]
    fn what_a_qos_allows_is_no_fault() {
        let faulty = Outcome {
            lost: 3,
            duplicated: 2,
            ..outcome()
        };
        for (qos, words) in [
            (QoS::AtMostOnce, None),
            (QoS::AtLeastOnce, Some("of 250000 messages 3 lost")),
            (
                QoS::ExactlyOnce,
                Some("of 250000 messages 3 lost, 2 doubled"),
            ),
        ] {
            let mut outcome = faulty.clone();
            assert_eq!(outcome.judge(qos).as_deref(), words);
            assert_eq!(outcome.ok, words.is_none());
        }
    }

    #[test]
    fn a_wrong_order_and_strangers_are_faults_at_any_qos() {
        let mut late = Outcome {
            out_of_order: 1,
            strange: 4,
            ..outcome()
        };
        let words = late.judge(QoS::AtMostOnce).expect("a fault");
        assert_eq!(
            words,
            "of 250000 messages 1 out of order, 4 not of this run"
        );
    }

    #[test]
    fn what_was_doubled_does_not_make_up_for_what_was_lost() {
        let tally = Tally {
            latency: Histogram::new_with_bounds(1, 1000, 3).expect("bounds"),
            counts: Counts {
                distinct: 8,
                doubled: 2,
                late: 0,
            },
            strange: 0,
        };
        let mut outcome = outcome();
        outcome.count(&tally, 10);
        assert_eq!(
            (outcome.received, outcome.lost, outcome.duplicated),
            (10, 2, 2)
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let outcome = outcome();
        let text = serde_json::to_string(&outcome).expect("JSON");
        assert_eq!(text.lines().count(), 1);
        let back: Outcome = serde_json::from_str(&text).expect("the same");
        assert_eq!(back, outcome);
    }
}
