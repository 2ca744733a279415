//! How the cost of finding the patterns that match a topic grows: `cargo run --release -p router-core --example matching`.
//!
//! Each line is one table of patterns: how many there are, what adding and taking away one costs, and what one search
//! costs and finds. The last shape is an attacker's: every mix of a level and its wildcard, so that each search has to
//! follow all of them and finds nothing.

use router_core::matcher::{Found, Index};
use router_core::model::{Pattern, Topic};
use std::error::Error;
use std::time::{Duration, Instant};

/// Searches in one run at most.
const SEARCHES: u32 = 1_000;
/// How long is searched for one line.
const MOST: Duration = Duration::from_secs(1);

struct Shape {
    name: String,
    patterns: Vec<Pattern>,
    topics: Vec<Topic>,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<28} {:>9} {:>8} {:>8} {:>9} {:>7}",
        "shape", "patterns", "add ns", "take ns", "search ns", "found"
    );
    for count in [0, 1_000, 10_000, 100_000, 1_000_000] {
        measure(&devices(count)?);
    }
    for depth in [10, 50, 200] {
        measure(&deep(depth)?);
    }
    for wildcards in [4, 8, 12, 15] {
        measure(&branches(wildcards)?);
    }
    Ok(())
}

/// Devices with four kinds of patterns, one of which matches each topic, and two that match all.
fn devices(count: usize) -> Result<Shape, Box<dyn Error>> {
    let pattern = |number: usize| match number % 4 {
        0 => format!("d/{number}/+/t"),
        1 => format!("d/{number}/#"),
        2 => format!("d/{number}/s/t"),
        _ => format!("+/{number}/s/t"),
    };
    let texts = (0..count)
        .map(pattern)
        .chain(["d/#".to_owned(), "d/+/s/t".to_owned()]);
    let topic = |number| Topic::new(format!("d/{}/s/t", number * 7_919 % count.max(1)));
    Ok(Shape {
        name: "devices".to_owned(),
        patterns: texts
            .map(|text| Pattern::from_slashes(&text))
            .collect::<Result<_, _>>()?,
        topics: (0..count.max(1)).map(topic).collect::<Result<_, _>>()?,
    })
}

/// One topic of many levels, and a pattern for every level of it that is a wildcard.
fn deep(depth: usize) -> Result<Shape, Box<dyn Error>> {
    let levels = |wild: Option<usize>| {
        let level = |at| {
            if Some(at) == wild {
                "+".to_owned()
            } else {
                format!("level{at}")
            }
        };
        Vec::from_iter((0..depth).map(level)).join("/")
    };
    Ok(Shape {
        name: format!("{depth} levels"),
        patterns: (0..depth)
            .map(|wild| Pattern::from_slashes(&levels(Some(wild))))
            .collect::<Result<_, _>>()?,
        topics: vec![Topic::new(levels(None))?],
    })
}

/// Every mix of `a` and `+` in so many levels with a last level that no topic has.
fn branches(wildcards: usize) -> Result<Shape, Box<dyn Error>> {
    let pattern = |mix: usize| {
        let level = |at| if mix >> at & 1 == 0 { "a" } else { "+" };
        Pattern::from_slashes(&(Vec::from_iter((0..wildcards).map(level)).join("/") + "/end"))
    };
    Ok(Shape {
        name: format!("{wildcards} branching levels"),
        patterns: (0..1 << wildcards).map(pattern).collect::<Result<_, _>>()?,
        topics: vec![Topic::new(vec!["a"; wildcards + 1].join("/"))?],
    })
}

fn measure(shape: &Shape) {
    let mut index = Index::new("sys".into());
    let count = shape.patterns.len();
    let started = Instant::now();
    for (id, pattern) in (0..).zip(&shape.patterns) {
        index.insert(pattern, id);
    }
    let added = started.elapsed();
    let (searched, found) = fastest_search(&index, &shape.topics);
    let started = Instant::now();
    for (id, pattern) in (0..).zip(&shape.patterns) {
        index.remove(pattern, id);
    }
    let taken = started.elapsed();
    println!(
        "{:<28} {count:>9} {:>8} {:>8} {:>9} {:>7}",
        shape.name,
        each(added, count),
        each(taken, count),
        searched.as_nanos(),
        found,
    );
}

/// What a search costs in the fastest of many short runs, since others use the machine too; and what the last one found.
fn fastest_search(index: &Index, topics: &[Topic]) -> (Duration, usize) {
    let (started, mut fastest, mut found) = (Instant::now(), Duration::MAX, Found::new());
    let mut topics = topics.iter().cycle();
    while started.elapsed() < MOST {
        let run = Instant::now();
        let mut searches = 0;
        while searches < SEARCHES && run.elapsed() < MOST / 10 {
            for topic in topics.by_ref().take(10) {
                found.clear();
                index.find(topic, &mut found);
            }
            searches += 10;
        }
        fastest = fastest.min(run.elapsed() / searches);
    }
    (fastest, found.len())
}

fn each(whole: Duration, count: usize) -> u128 {
    whole.as_nanos() / count.max(1) as u128
}
