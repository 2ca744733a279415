//! Rendering is a pure function of the raw lines.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::record::{About, Line, Point, Run, parse};
use super::{Report, report};
use crate::measure::compare::Kind;
use crate::measure::growth::Axis;

fn about() -> Line {
    Line::About(About {
        date: "2026-11-29".to_owned(),
        processor: "A processor".to_owned(),
        cores: 2,
        memory_bytes: 4 << 30,
        kernel: "6.1".to_owned(),
        rounds: 3,
        load: "3 s".to_owned(),
        versions: [
            (Kind::Reynard, "0.1.0".to_owned()),
            (Kind::Mosquitto, "2.0.11".to_owned()),
        ]
        .into(),
        absent: [(Kind::Crossbar, "not installed".to_owned())].into(),
        limits: Vec::new(),
    })
}

fn run(scenario: &str, peer: Kind, outcome: std::result::Result<Value, &str>) -> Line {
    let (outcome, failed) = match outcome {
        Ok(outcome) => (Some(outcome), None),
        Err(reason) => (None, Some(reason.to_owned())),
    };
    Line::Run(Run {
        scenario: scenario.to_owned(),
        peer,
        round: 1,
        outcome,
        failed,
    })
}

/// An outcome with this rate and CPU.
fn outcome(rate: f64, cpu: f64) -> Value {
    json!({
        "delivered_per_second": rate,
        "router": {"cpu_seconds_per_million": cpu, "peak_rss_bytes": 10 << 20},
        "latency_us": {"p50": 1_000, "p99": 3_000},
        "lost": 0, "duplicated": 0, "out_of_order": 0, "strange": 0,
    })
}

/// The rows of the tables that are about this router.
fn rows_of<'a>(report: &'a Report, peer: &str) -> Vec<&'a str> {
    let column = format!("| {peer} |");
    let lines = report.text.lines();
    lines
        .filter(|line| line.contains(&column) && line.matches('|').count() > 3)
        .collect()
}

fn plot<'a>(report: &'a Report, name: &str) -> Result<&'a str> {
    let found = report.plots.iter().find(|(file, _)| *file == name);
    Ok(&found.context("no such plot")?.1)
}

const PAIR: &str = "mqtt-qos0-16";

#[test]
fn a_row_has_medians_with_their_range_and_the_ratio_to_our_own() -> Result<()> {
    let lines = [
        about(),
        run(PAIR, Kind::Reynard, Ok(outcome(900_000.0, 1.0))),
        run(PAIR, Kind::Mosquitto, Ok(outcome(100_000.0, 9.0))),
        run(PAIR, Kind::Reynard, Ok(outcome(700_000.0, 3.0))),
        run(PAIR, Kind::Reynard, Ok(outcome(800_000.0, 2.0))),
    ];
    let report = report(&lines, &[])?;
    assert_eq!(
        rows_of(&report, "Reynard"),
        [
            "| MQTT QoS 0, 16 B | Reynard | 800,000 (700,000–900,000) | 2.00 (1.00–3.00) | 1 | 10.0 MiB |  |"
        ]
    );
    assert_eq!(
        rows_of(&report, "Mosquitto"),
        ["|  | Mosquitto | 100,000 | 9.00 | 4.50 | 10.0 MiB |  |"]
    );
    Ok(())
}

#[test]
fn an_even_number_of_runs_has_the_mean_of_the_middle_two_for_a_median() -> Result<()> {
    let lines = [
        about(),
        run(PAIR, Kind::Reynard, Ok(outcome(400.0, 1.0))),
        run(PAIR, Kind::Reynard, Ok(outcome(200.0, 1.0))),
    ];
    let report = report(&lines, &[])?;
    assert!(report.text.contains("| 300 (200–400) |"), "{}", report.text);
    Ok(())
}

#[test]
fn routers_stand_in_their_order_whatever_the_order_of_the_lines() -> Result<()> {
    let mut lines = vec![about()];
    for kind in Kind::ALL.iter().rev() {
        lines.push(run(PAIR, *kind, Ok(outcome(1_000.0, 1.0))));
    }
    let report = report(&lines, &[])?;
    let places: Vec<Option<usize>> = Kind::ALL
        .iter()
        .map(|kind| report.text.find(&format!("| {kind} | 1,000 |")))
        .collect();
    assert!(places.iter().all(Option::is_some), "{}", report.text);
    assert!(places.is_sorted(), "{places:?}");
    Ok(())
}

#[test]
fn a_run_that_failed_is_told_with_its_reason() -> Result<()> {
    let lines = [
        about(),
        run(PAIR, Kind::Reynard, Ok(outcome(1_000.0, 1.0))),
        run(PAIR, Kind::FoxWamp, Err("closed | by the peer")),
        run(PAIR, Kind::FoxWamp, Err("closed | by the peer")),
        run(PAIR, Kind::Mosquitto, Ok(outcome(1_000.0, 1.0))),
        run(PAIR, Kind::Mosquitto, Err("nobody answers")),
    ];
    let report = report(&lines, &[])?;
    assert_eq!(
        rows_of(&report, "fox-wamp"),
        ["|  | fox-wamp | – | – | – | – | **failed** in 2 of 2: closed \\| by the peer |"]
    );
    let other = rows_of(&report, "Mosquitto");
    assert!(
        other.iter().any(|row| row
            .ends_with("| 1,000 | 1.00 | 1 | 10.0 MiB | **failed** in 1 of 2: nobody answers |")),
        "{other:?}"
    );
    let svg = plot(&report, "throughput.svg")?;
    assert!(
        svg.contains("failed") && svg.contains("(see remarks)"),
        "{svg}"
    );
    Ok(())
}

#[test]
fn what_was_lost_doubled_or_out_of_order_is_told() -> Result<()> {
    let mut faulty = outcome(1_000.0, 1.0);
    faulty["lost"] = json!(1_200);
    faulty["out_of_order"] = json!(3);
    let lines = [
        about(),
        run(PAIR, Kind::Rumqttd, Ok(faulty.clone())),
        run(PAIR, Kind::Rumqttd, Ok(faulty)),
        run(PAIR, Kind::Rumqttd, Ok(outcome(1_000.0, 1.0))),
    ];
    let report = report(&lines, &[])?;
    let rows = rows_of(&report, "rumqttd");
    assert!(
        rows.iter()
            .any(|row| row.ends_with("| **2,400 lost** in 2 of 3; **6 out of order** in 2 of 3 |")),
        "{rows:?}"
    );
    Ok(())
}

#[test]
fn a_run_in_which_nothing_arrived_is_no_figure() -> Result<()> {
    let mut empty = outcome(0.0, 80_000.0);
    empty["delivered"] = json!(0);
    let lines = [
        about(),
        run(PAIR, Kind::FoxWamp, Ok(empty)),
        run(PAIR, Kind::FoxWamp, Ok(outcome(1_000.0, 1.0))),
    ];
    let report = report(&lines, &[])?;
    let rows = rows_of(&report, "fox-wamp");
    let expected = "| 1,000 | 1.00 | – | 10.0 MiB | \
                    **failed** in 1 of 2: nothing arrived while it was measured |";
    assert!(rows.iter().any(|row| row.ends_with(expected)), "{rows:?}");
    Ok(())
}

#[test]
fn the_session_is_told_with_those_who_could_not_be_asked() -> Result<()> {
    let report = report(&[about()], &[])?;
    for part in [
        "2026-11-29, 3 rounds of 3 s each",
        "A processor, 2 cores",
        "4.00 GiB of memory, Linux 6.1.",
        "| Mosquitto | 2.0.11 |",
        "| Crossbar | could not be asked: not installed |",
    ] {
        assert!(report.text.contains(part), "{part}: {}", report.text);
    }
    Ok(())
}

#[test]
fn curves_have_a_table_and_a_line_each() -> Result<()> {
    let point = |axis, size, cpu_us| {
        Line::Point(Point {
            axis,
            size,
            messages: 1_000,
            cpu_us,
            resident_bytes: 20 << 20,
        })
    };
    let points = [
        about(),
        point(Axis::Realms, 10, 1.5),
        point(Axis::Filters, 100_000, 2.0),
        point(Axis::Filters, 10, 1.25),
    ];
    let report = report(&[], &points)?;
    let rows: Vec<&str> = report
        .text
        .lines()
        .filter(|line| line.contains("20.0 MiB"))
        .collect();
    assert_eq!(
        rows,
        [
            "| 10 | 1.25 | 20.0 MiB | 1,000 |",
            "| 100,000 | 2.00 | 20.0 MiB | 1,000 |",
            "| 10 | 1.50 | 20.0 MiB | 1,000 |",
        ]
    );
    let svg = plot(&report, "growth-cpu.svg")?;
    assert!(svg.contains("Filters") && svg.contains("Realms"), "{svg}");
    assert!(svg.matches("<polyline").count() >= 2, "{svg}");
    Ok(())
}

#[test]
fn the_same_lines_always_give_the_same_report() -> Result<()> {
    let lines = [
        about(),
        run(PAIR, Kind::Reynard, Ok(outcome(1_000.0, 1.0))),
        run(
            "mqtt-latency-qos0",
            Kind::Reynard,
            Ok(outcome(1_000.0, 1.0)),
        ),
    ];
    let text: String = lines
        .iter()
        .map(|line| serde_json::to_string(line).map(|line| line + "\n"))
        .collect::<serde_json::Result<_>>()?;
    let once = report(&lines, &[])?;
    assert_eq!(once, report(&parse(&text)?, &[])?);
    assert!(
        once.text.contains("| Reynard | 1.00 | 3.00 | 1.00 | 1 |"),
        "{}",
        once.text
    );
    for (name, svg) in &once.plots {
        assert!(
            svg.starts_with("<svg") && svg.len() < 60_000,
            "{name}: {}",
            svg.len()
        );
    }
    Ok(())
}

#[test]
fn lines_that_cannot_be_shown_are_an_error() {
    let unknown = [about(), run("nonsense", Kind::Reynard, Err("no"))];
    assert!(report(&unknown, &[]).is_err());
    let nowhere = [run(PAIR, Kind::Reynard, Err("no"))];
    assert!(report(&nowhere, &[]).is_err());
    assert!(parse("{\"else\": 1}").is_err());
}
