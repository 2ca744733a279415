//! Runs whose messages a test sends and receives, on a clock that jumps.

use super::*;
use crate::cli::bench::flow::Flow;

const PATIENCE: Duration = Duration::from_secs(10);

/// A run of so many publishers, each with one receiver.
fn run(publishers: usize) -> Run {
    let flows = (0..publishers).map(|_| Flow::new(1, false)).collect();
    let owners = (0..publishers as u32).collect();
    Run::new(flows, owners).expect("bounds")
}

fn send(run: &Run, publisher: usize, count: u64) {
    for _ in 0..count {
        run.flows[publisher].send();
    }
}

fn arrive(run: &Run, publisher: usize, count: u64) {
    run.flows[publisher].reach(count);
    run.tally.borrow_mut().counts.distinct += count;
    run.hear();
}

async fn load(run: &Run, extent: Extent) -> Result<Span, Failure> {
    let (processes, bar) = (Processes::new(Vec::new()), ProgressBar::hidden());
    Phases::new(run, &processes, PATIENCE, &bar)
        .load(extent)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_load_of_messages_ends_when_all_have_arrived() {
    let run = run(1);
    let play = async {
        sleep_until(Instant::now() + PATIENCE / 2).await;
        send(&run, 0, 3);
        arrive(&run, 0, 3);
    };
    let (span, ()) = tokio::join!(load(&run, Extent::Messages(3)), play);
    let span = span.expect("fine");
    assert_eq!((span.to.sent, span.to.arrived), (3, 3));
    assert_eq!(run.stage(), Stage::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_ends_the_load() {
    let run = run(1);
    send(&run, 0, 2);
    let ended = load(&run, Extent::Messages(3)).await;
    let words = "nothing came for 10 s, with 2 messages under way";
    assert_eq!(ended.expect_err("silent").message, words);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_delivers_nothing_is_told() {
    let run = run(1);
    send(&run, 0, 3);
    let ended = load(&run, Extent::Messages(3)).await;
    assert_eq!(
        ended.expect_err("lost").message,
        "none of 3 messages arrived"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_at_the_end_is_not_waited_for_longer_than_patience_lasts() {
    let run = run(1);
    send(&run, 0, 3);
    arrive(&run, 0, 2);
    let start = Instant::now();
    let span = load(&run, Extent::Messages(3)).await.expect("counted");
    assert_eq!(span.to.arrived, 2);
    assert!(start.elapsed() < PATIENCE * 2);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_whose_window_was_lost_goes_on_while_others_do() {
    let run = run(2);
    send(&run, 0, 5);
    let play = async {
        for _ in 0..40 {
            sleep_until(Instant::now() + Duration::from_secs(1)).await;
            send(&run, 1, 1);
            arrive(&run, 1, 1);
        }
    };
    let extent = Extent::Time {
        warm_up: Duration::ZERO,
        duration: PATIENCE * 3,
    };
    let (span, ()) = tokio::join!(load(&run, extent), play);
    span.expect("the others go on");
    assert_eq!(run.flows[0].under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_is_no_silence() {
    let run = run(1);
    let play = async {
        for _ in 0..3 {
            sleep_until(Instant::now() + PATIENCE * 2).await;
            send(&run, 0, 1);
            arrive(&run, 0, 1);
        }
    };
    let (span, ()) = tokio::join!(load(&run, Extent::Messages(3)), play);
    span.expect("fine");
}

#[tokio::test(start_paused = true)]
async fn the_warm_up_is_not_measured() {
    let run = run(1);
    let play = async {
        send(&run, 0, 7);
        arrive(&run, 0, 7);
        run.arrived(0, 50);
        sleep_until(Instant::now() + Duration::from_secs(3)).await;
        send(&run, 0, 2);
        arrive(&run, 0, 2);
        run.arrived(0, 50);
    };
    let extent = Extent::Time {
        warm_up: Duration::from_secs(2),
        duration: Duration::from_secs(2),
    };
    let (span, ()) = tokio::join!(load(&run, extent), play);
    let span = span.expect("fine");
    assert_eq!(span.to.arrived - span.from.arrived, 2);
    assert_eq!(run.tally.borrow().latency.len(), 1);
    assert!(span.seconds() < 2.1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_ends_any_wait() {
    let run = run(1);
    run.fail("it closed the connection".to_owned());
    run.fail("so did others".to_owned());
    let ended = load(&run, Extent::Messages(1)).await;
    assert_eq!(
        ended.expect_err("broken").message,
        "it closed the connection"
    );
}

#[tokio::test(start_paused = true)]
async fn connections_that_give_no_sign_of_life_are_told_and_goodbyes_not_waited_for() {
    let (processes, bar) = (Processes::new(Vec::new()), ProgressBar::hidden());
    let silent = run(1);
    silent.hang(silent.flows[0].bell.clone());
    let mut phases = Phases::new(&silent, &processes, PATIENCE, &bar);
    let failure = phases.leave().await.expect_err("silent");
    assert!(
        failure.message.contains("did not answer within 10 s"),
        "{failure:?}"
    );
    silent.calm();
    let mut phases = Phases::new(&silent, &processes, PATIENCE, &bar);
    phases.leave().await.expect("calm");
    assert_eq!(silent.stage(), Stage::Leaving);
}
