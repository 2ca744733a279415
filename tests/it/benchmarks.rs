//! The short forms of `measure compare` and `measure growth`: that their figures are there and are
//! shown. What they are is not judged here.

use anyhow::{Context, ensure};
use integration_tests::measure::compare::{self, Kind, Load, Scenario};
use integration_tests::measure::growth::{self, Axis};
use integration_tests::measure::report::{self, markers, record};
use tempfile::TempDir;

use crate::Outcome;

#[test]
fn a_comparison_becomes_a_page_with_plots() -> Outcome {
    let home = TempDir::new()?;
    let (lines, docs) = (home.path().join("lines"), home.path().join("docs"));
    let scenario = Scenario::named("mqtt-qos1-256").context("no such scenario")?;
    let mut told = Vec::new();
    let plan = compare::Plan {
        rounds: 1,
        load: Load::Messages(200),
        peers: vec![Kind::Reynard, Kind::Mosquitto, Kind::Crossbar],
        scenarios: vec![scenario],
        lines: lines.join(report::RUNS),
    };
    compare::run(&plan, |run| told.push(run.clone()))?;

    let peers: Vec<Kind> = told.iter().map(|run| run.peer).collect();
    // Crossbar does not speak MQTT: installed or not, it is not asked.
    ensure!(peers == [Kind::Reynard, Kind::Mosquitto], "{told:?}");
    for run in &told {
        let outcome = run.outcome.as_ref().with_context(|| format!("{run:?}"))?;
        ensure!(outcome["published"] == 200, "{outcome}");
        ensure!(outcome["lost"] == 0, "{outcome}");
        ensure!(outcome["router"]["cpu_seconds"].is_number(), "{outcome}");
    }

    std::fs::create_dir_all(&docs)?;
    let page = docs.join("benchmarks.md");
    std::fs::write(
        &page,
        format!("head\n{}\n{}\nend\n", markers::BEGIN, markers::END),
    )?;
    report::write(&lines, &docs)?;
    let page = std::fs::read_to_string(page)?;
    for part in [
        "head\n",
        "| MQTT QoS 1, 256 B | Reynard |",
        "|  | Mosquitto |",
        "one round of 200 messages each",
        "\nend\n",
    ] {
        ensure!(page.contains(part), "{part}: {page}");
    }
    for name in ["throughput.svg", "cpu.svg", "latency.svg"] {
        ensure!(page.contains(&format!("benchmarks/{name}")) || name == "latency.svg");
        let svg = std::fs::read_to_string(docs.join("benchmarks").join(name))?;
        ensure!(svg.starts_with("<svg"), "{name}: {svg}");
    }
    Ok(())
}

#[test]
fn every_axis_has_a_point_for_each_size() -> Outcome {
    let home = TempDir::new()?;
    let plan = growth::Plan {
        largest: 100,
        messages: 600,
        axes: Axis::ALL.to_vec(),
        lines: home.path().join(report::POINTS),
    };
    let mut told = Vec::new();
    growth::run(&plan, |point| told.push((point.axis, point.size)))?;
    let expected: Vec<(Axis, u64)> = Axis::ALL
        .iter()
        .flat_map(|axis| axis.sizes(100).into_iter().map(|size| (*axis, size)))
        .collect();
    ensure!(told == expected, "{told:?}");

    let report = report::report(&[], &record::read(&plan.lines)?)?;
    for axis in Axis::ALL {
        let heading = format!("### {}\n", axis.title());
        ensure!(report.text.contains(&heading), "{}", report.text);
    }
    ensure!(report.plots.len() == 2, "{:?}", report.plots);
    Ok(())
}
