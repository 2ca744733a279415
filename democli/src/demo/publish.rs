//! Publishes one event and prints its publication id.

use super::interrupted;
use crate::args::Publish;
use crate::output::say;
use router_client::{ClientError, Session};
use std::time::Duration;

/// Publishes.
///
/// # Errors
/// When the router refuses it, as far as acknowledgement was asked for.
pub async fn run(session: Session, args: &Publish) -> anyhow::Result<()> {
    let (arguments, options) = (args.arguments()?, args.options());
    if args.no_ack {
        session.publish(&args.topic, arguments, options).await?;
    } else {
        let reply = session.publish_acknowledged(&args.topic, arguments, options);
        say!("published: publication {}", reply.await?.wait().await?)?;
        stay(&session, args.hold_secs).await?;
    }
    session.leave().await?;
    Ok(())
}

/// Keeps the session, and with it its will, in place for a while.
async fn stay(session: &Session, secs: u64) -> anyhow::Result<()> {
    if secs == 0 {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(secs)) => Ok(()),
        interrupted = interrupted() => interrupted,
        closed = session.ended() => Err(ClientError::Closed(closed).into()),
    }
}
