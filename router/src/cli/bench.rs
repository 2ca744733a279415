//! `reynard bench`: load for any MQTT server or WAMP router, and what it makes of it.
//!
//! * [`args`]: what is typed; [`settings`]: what it means; [`plan`], [`topic`]: who sends what to whom.
//! * [`pace`], [`flow`], [`check`], [`stamp`]: when messages are sent, which are under way, and
//!   whether they come once and in order. No I/O, no clock.
//! * [`mqtt`], [`wamp`] ([`frame`], [`template`]): clients as state machines; [`peer`] is what they
//!   have in common.
//! * [`door`] opens connections, [`line`] moves their bytes, [`role`] is what each does, [`ticker`]
//!   its timer.
//! * [`scene`]: the scenarios; [`phases`]: their course; [`run`]: what their connections share.
//! * [`outcome`], [`table`], [`compare`]: what comes out; [`process`]: what the router used.
//!
//! Everything is on one thread: a second would take a processor from the router on a small machine,
//! and what the first can do is shown with the result.

mod args;
mod check;
mod compare;
mod door;
mod flow;
mod frame;
mod line;
mod mqtt;
mod outcome;
mod pace;
mod peer;
mod phases;
mod plan;
mod process;
mod role;
mod run;
mod scene;
mod settings;
mod stamp;
mod table;
mod template;
mod ticker;
mod topic;
mod wamp;

pub use args::BenchArgs;

use super::console::Console;
use super::failure::Failure;
use super::signals::Signals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use scene::Scene;
use settings::Settings;
use tokio::task::LocalSet;

const BAR: &str = "{bar:40} {percent}% {msg}";

/// Runs the command.
pub(super) async fn run(args: &BenchArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    if let Some([a, b]) = args.load.compare.as_deref() {
        return compare::compare(a, b, console);
    }
    let Some(scenario) = args.scenario else {
        return Err(Failure::usage("a scenario is needed, or --compare"));
    };
    let settings = args.settings(scenario)?;
    raise_open_files();
    let bar = bar();
    let measured = measured(&settings, args, &bar).await;
    bar.finish_and_clear();
    let mut outcome = measured?;
    let faults = outcome.judge(settings.arriving_qos());
    match console.is_json() {
        true => console.object(&outcome)?,
        false => console.write(table::table(&outcome).as_bytes())?,
    }
    match faults {
        Some(faults) => Err(Failure::failed(faults)),
        None => Ok(()),
    }
}

async fn measured(
    settings: &Settings,
    args: &BenchArgs,
    bar: &ProgressBar,
) -> Result<outcome::Outcome, Failure> {
    let mut signals = Signals::new()?;
    let scene = Scene::new(settings, &args.connection, bar)?;
    let local = LocalSet::new();
    tokio::select! {
        outcome = local.run_until(scene.measure()) => outcome,
        signal = signals.next() => Err(Failure::interrupted(signal)),
    }
}

/// Drawn only if stderr is a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Every connection is an open file. Where it cannot be raised, the first that is too much is told.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_a_valid_template() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
