//! How many acknowledged publishes a second one connection makes.

use crate::args::MassPublish;
use crate::output::say;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use router_client::{Arguments, Dict, Reply, Session};
use serde_json::json;
use std::collections::VecDeque;
use std::time::Instant;

/// Publishes and counts.
///
/// # Errors
/// With the first publish that fails.
pub async fn run(session: Session, args: &MassPublish) -> anyhow::Result<()> {
    let bar = progress_bar(args.count)?;
    let began = Instant::now();
    publish_all(&session, args, &bar).await?;
    let secs = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    say!("total rec/sec: {:.1}", rate(args.count, secs))?;
    session.leave().await?;
    Ok(())
}

async fn publish_all(
    session: &Session,
    args: &MassPublish,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let window = usize::from(args.window);
    let mut unacknowledged: VecDeque<Reply<u64>> = VecDeque::with_capacity(window);
    for number in 0..args.count {
        if unacknowledged.len() == window {
            acknowledged(&mut unacknowledged, bar).await?;
        }
        let arguments = Arguments::list(&[json!({"number": number, "of": args.count})]);
        let reply = session.publish_acknowledged(&args.topic, arguments, Dict::new());
        unacknowledged.push_back(reply.await?);
    }
    while !unacknowledged.is_empty() {
        acknowledged(&mut unacknowledged, bar).await?;
    }
    Ok(())
}

/// Waits for the oldest.
async fn acknowledged(
    unacknowledged: &mut VecDeque<Reply<u64>>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    if let Some(oldest) = unacknowledged.pop_front() {
        oldest.wait().await?;
        bar.inc(1);
    }
    Ok(())
}

/// On stderr, and only if that is a terminal.
fn progress_bar(count: u64) -> anyhow::Result<ProgressBar> {
    let style = "{bar:40} {pos}/{len} {per_sec}, {eta} left";
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    Ok(bar.with_style(ProgressStyle::with_template(style)?))
}

fn rate(count: u64, secs: f64) -> f64 {
    count as f64 / secs.max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_finite_even_for_no_time_at_all() {
        assert!(rate(1, 0.0).is_finite());
        assert_eq!(rate(100, 2.0), 50.0);
    }

    #[test]
    fn the_bar_has_a_valid_template() {
        assert_eq!(progress_bar(7).unwrap().length(), Some(7));
    }
}
