//! Two files of outcomes side by side. A file may hold several runs of one load: then it is their
//! medians that are compared.

use super::outcome::Outcome;
use super::table::number;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A figure of an outcome.
type Figure = (&'static str, fn(&Outcome) -> Option<f64>);

const FIGURES: &[Figure] = &[
    ("delivered/s", |o| Some(o.delivered_per_second)),
    ("latency p50 us", |o| o.latency_us.map(|l| l.p50 as f64)),
    ("latency p99 us", |o| o.latency_us.map(|l| l.p99 as f64)),
    ("latency p99.9 us", |o| o.latency_us.map(|l| l.p999 as f64)),
    ("router CPU us each", |o| {
        o.router.map(|r| r.cpu_seconds_per_million)
    }),
    ("router peak KiB", |o| {
        o.router.map(|r| r.peak_rss_bytes as f64 / 1024.0)
    }),
    ("connections/s", |o| o.connections.map(|c| c.per_second)),
    ("replayed/s", |o| o.replay.map(|r| r.per_second)),
    ("lost", |o| Some(o.lost as f64)),
];

/// One figure of one load.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    load: String,
    figure: &'static str,
    a: f64,
    b: f64,
    /// `b / a`; `None`: there is none.
    ratio: Option<f64>,
}

/// label -> its runs
type Runs = BTreeMap<String, Vec<Outcome>>;

/// `--compare A B`
///
/// # Errors
/// A file cannot be read, or they have no load in common.
pub(super) fn compare(a: &Path, b: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
    let (runs_a, runs_b) = (read(a)?, read(b)?);
    let rows = rows(&runs_a, &runs_b);
    if rows.is_empty() {
        let (a, b) = (a.display(), b.display());
        let text = format!("{a} and {b} have no load in common; `--json` tells what each is");
        return Err(Failure::failed(text));
    }
    match console.is_json() {
        true => console.object(&rows)?,
        false => console.write(shown(&rows).as_bytes())?,
    }
    Ok(())
}

fn read(path: &Path) -> Result<Runs, Failure> {
    let fail =
        |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| fail(&error))?;
    let mut runs = Runs::new();
    for outcome in serde_json::Deserializer::from_str(&text).into_iter::<Outcome>() {
        let outcome = outcome.map_err(|error| fail(&format!("not of `bench --json`: {error}")))?;
        runs.entry(outcome.label()).or_default().push(outcome);
    }
    Ok(runs)
}

fn rows(a: &Runs, b: &Runs) -> Vec<Row> {
    let mut rows = Vec::new();
    for (load, a) in a {
        let Some(b) = b.get(load) else {
            continue;
        };
        for (figure, read) in FIGURES {
            let of = |runs: &[Outcome]| median(runs.iter().filter_map(read).collect());
            if let (Some(a), Some(b)) = (of(a), of(b)) {
                rows.push(Row {
                    load: load.clone(),
                    figure,
                    a,
                    b,
                    ratio: (a != 0.0).then(|| b / a),
                });
            }
        }
    }
    rows
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => Some((upper + values.get(middle - 1)?) / 2.0),
    }
}

fn shown(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut load = "";
    for row in rows {
        if row.load != load {
            load = &row.load;
            let gap = if text.is_empty() { "" } else { "\n" };
            text += &format!(
                "{gap}{load}\n{:<20}{:>14}{:>14}{:>10}\n",
                "", "A", "B", "B / A"
            );
        }
        let ratio = row
            .ratio
            .map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let (a, b) = (figure(row.a), figure(row.b));
        text += format!("{:<20}{a:>14}{b:>14}{ratio:>10}", row.figure).trim_end();
        text.push('\n');
    }
    text
}

/// Small figures have digits behind the point.
fn figure(value: f64) -> String {
    match value != 0.0 && value < 100.0 {
        true => format!("{value:.2}"),
        false => number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::outcome::tests::outcome;
    use std::io::Write as _;

    fn runs(outcomes: Vec<Outcome>) -> Runs {
        let mut runs = Runs::new();
        for outcome in outcomes {
            runs.entry(outcome.label()).or_default().push(outcome);
        }
        runs
    }

    fn at(rate: f64) -> Outcome {
        Outcome {
            delivered_per_second: rate,
            ..outcome()
        }
    }

    #[test]
    fn medians_of_equal_loads_are_compared() {
        let a = runs(vec![at(1.0), at(300.0), at(100.0)]);
        let b = runs(vec![at(100.0), at(300.0)]);
        let rows = rows(&a, &b);
        let row = rows.iter().find(|row| row.figure == "delivered/s");
        let row = row.expect("a row");
        assert_eq!((row.a, row.b, row.ratio), (100.0, 200.0, Some(2.0)));
    }

    #[test]
    fn what_only_one_file_has_is_left_out() {
        let other = Outcome {
            size: 16,
            ..outcome()
        };
        let bare = Outcome {
            router: None,
            ..outcome()
        };
        let rows = rows(&runs(vec![outcome(), other]), &runs(vec![bare]));
        let loads: Vec<&str> = rows.iter().map(|row| row.load.as_str()).collect();
        assert!(loads.iter().all(|load| load.contains("256 B")), "{loads:?}");
        assert!(rows.iter().all(|row| !row.figure.starts_with("router")));
    }

    #[test]
    fn a_comparison_is_a_table() {
        let a = Outcome {
            latency_us: None,
            ..at(1000.0)
        };
        let b = Outcome {
            latency_us: None,
            ..at(1500.0)
        };
        let expected = "\
pubsub, mqtt 3.1.1 to wamp json, qos 1, 256 B, 10 x 10 x 10, window 64
                                 A             B     B / A
delivered/s                  1,000         1,500      1.50
router CPU us each            1.00          1.00      1.00
router peak KiB             65,536        65,536      1.00
lost                             0             0
";
        assert_eq!(shown(&rows(&runs(vec![a]), &runs(vec![b]))), expected);
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn compared(a: &Path, b: &Path) -> Result<String, Failure> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(true, false, &mut out, &mut err);
        compare(a, b, &mut console)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn files_are_read_one_object_after_the_other() {
        let line = serde_json::to_string(&outcome()).expect("JSON");
        let a = file(&format!("{line}\n{line}\n"));
        let b = file(&line);
        let text = compared(a.path(), b.path()).expect("compared");
        let rows: serde_json::Value = serde_json::from_str(&text).expect("one array");
        assert_eq!(rows[0]["ratio"], 1.0);
    }

    #[test]
    fn what_cannot_be_compared_is_told_by_name() {
        let good = file(&serde_json::to_string(&outcome()).expect("JSON"));
        let bad = file("{\"a\": 1}");
        let empty = file("");
        let missing = Path::new("/nonexistent/a.json");
        for (path, part) in [
            (missing, "/nonexistent/a.json"),
            (bad.path(), "not of `bench --json`"),
            (empty.path(), "no load in common"),
        ] {
            let failure = compared(good.path(), path).expect_err("told");
            assert!(failure.message.contains(part), "{failure:?}");
            assert_eq!(failure.code, 1);
        }
    }
}
