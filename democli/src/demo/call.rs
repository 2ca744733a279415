//! Calls a procedure; prints its progressive results and its result, a line each.

use crate::args::Call;
use crate::output::say;
use router_client::{Dict, Session};

/// Calls.
///
/// # Errors
/// When the call fails.
pub async fn run(session: Session, args: &Call) -> anyhow::Result<()> {
    let call = session.call(&args.procedure, args.arguments()?, Dict::new());
    let mut call = call.await?;
    while let Some(progress) = call.next_progress().await {
        say!("progress: {progress}")?;
    }
    say!("{}", call.result().await?)?;
    session.leave().await?;
    Ok(())
}
