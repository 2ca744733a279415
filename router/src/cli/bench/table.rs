//! An outcome as people read it.

use super::outcome::{Latency, Outcome};
use std::fmt::Write as _;

/// The lines of a table.
pub(super) fn table(outcome: &Outcome) -> String {
    let mut text = format!("{}\n", outcome.label());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "measured {:.2} s\n", outcome.seconds);
    counts(outcome, &mut text);
    if let Some(latency) = &outcome.latency_us {
        latencies("latency", latency, &mut text);
    }
    if let Some(connections) = &outcome.connections {
        let rate = number(connections.per_second);
        row(&mut text, "connections", &format!("{rate}/s"));
        if let Some(each) = connections.rss_bytes_each {
            row(
                &mut text,
                "memory of each",
                &format!("{} bytes", number(each)),
            );
        }
        if let Some(latency) = &connections.latency_us {
            latencies("connecting", latency, &mut text);
        }
    }
    if let Some(replay) = &outcome.replay {
        let (messages, rate) = (number(replay.messages as f64), number(replay.per_second));
        let seconds = replay.seconds;
        row(
            &mut text,
            "replay",
            &format!("{messages} in {seconds:.3} s, {rate}/s"),
        );
    }
    uses(outcome, &mut text);
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<16}{value}");
}

fn counts(outcome: &Outcome, text: &mut String) {
    let rate =
        |count: u64, rate: f64| format!("{:>14} {:>14}/s", number(count as f64), number(rate));
    let published = rate(outcome.published, outcome.published_per_second);
    row(text, "published", &published);
    let delivered = rate(outcome.delivered, outcome.delivered_per_second);
    let megabytes = outcome.delivered_per_second * outcome.size as f64 / 1e6;
    row(
        text,
        "delivered",
        &format!("{delivered} {megabytes:>10.1} MB/s"),
    );
    for (name, count) in [
        ("lost", outcome.lost),
        ("doubled", outcome.duplicated),
        ("out of order", outcome.out_of_order),
    ] {
        row(text, name, &format!("{:>14}", number(count as f64)));
    }
    for (name, count) in [
        ("not of this run", outcome.strange),
        ("not sent in time", outcome.unsent),
    ] {
        if count > 0 {
            row(text, name, &format!("{:>14}", number(count as f64)));
        }
    }
}

fn latencies(name: &str, latency: &Latency, text: &mut String) {
    let head = ["min", "50%", "90%", "99%", "99.9%", "max"];
    let values = [
        latency.min,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
    ];
    let head = head.map(|word| format!("{word:>10}")).concat();
    let values = values.map(|us| format!("{:>10}", millis(us))).concat();
    let _ = writeln!(text, "\n{name:<16}{head}");
    let _ = writeln!(text, "{:<16}{values}\n", "  in ms");
}

fn uses(outcome: &Outcome, text: &mut String) {
    if let Some(router) = &outcome.router {
        let each = router.cpu_seconds_per_million;
        let percent = router.cpu_seconds * 100.0 / outcome.seconds;
        let cpu = format!("{each:.2} s per million deliveries, {percent:.0} %");
        row(text, "router CPU", &cpu);
        let peak = router.peak_rss_bytes as f64 / f64::from(1 << 20);
        row(text, "router memory", &format!("{peak:.1} MiB at its peak"));
    }
    if let Some(percent) = outcome.generator_cpu_percent {
        let is_busy = percent >= 90.0;
        let note = if is_busy {
            ", it may be what limits the rate"
        } else {
            ""
        };
        row(text, "generator CPU", &format!("{percent:.0} %{note}"));
    }
}

/// Microseconds in milliseconds, to the last digit that is known.
fn millis(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

/// Digits in groups of three.
pub(super) fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::outcome::tests::outcome;
    use crate::cli::bench::outcome::{Connecting, Replay};

    #[test]
    fn numbers_are_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_table_says_what_was_measured_and_what_came_of_it() {
        let expected = "\
pubsub, mqtt 3.1.1 to wamp json, qos 1, 256 B, 10 x 10 x 10, window 64
measured 2.00 s

published              200,000        100,000/s
delivered              200,000        100,000/s       25.6 MB/s
lost                         0
doubled                      0
out of order                 0

latency                min       50%       90%       99%     99.9%       max
  in ms              0.010     0.020     0.040     0.080     1.600    12.345

router CPU      1.00 s per million deliveries, 10 %
router memory   64.0 MiB at its peak
generator CPU   50 %
";
        assert_eq!(table(&outcome()), expected);
    }

    #[test]
    fn a_generator_at_its_limit_is_told() {
        let busy = super::Outcome {
            generator_cpu_percent: Some(97.0),
            ..outcome()
        };
        assert!(table(&busy).contains("97 %, it may be what limits the rate"));
    }

    #[test]
    fn connections_and_replays_have_rows_of_their_own() {
        let outcome = super::Outcome {
            connections: Some(Connecting {
                per_second: 12_345.6,
                latency_us: None,
                rss_bytes_each: Some(2048.0),
            }),
            replay: Some(Replay {
                messages: 10_000,
                seconds: 0.1,
                per_second: 100_000.0,
            }),
            unsent: 7,
            ..outcome()
        };
        let text = table(&outcome);
        for part in [
            "connections     12,346/s",
            "memory of each  2,048 bytes",
            "replay          10,000 in 0.100 s, 100,000/s",
            "not sent in time",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
