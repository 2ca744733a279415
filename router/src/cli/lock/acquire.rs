//! Getting a lock, and keeping it: acquire, renew, release.

use super::Run;
use crate::cli::ask::{Ask, read};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::signals::Signals;
use crate::cli::words::millis;
use router_client::{Call, Dict, Reply, Session};
use serde::Deserialize;
use serde_json::json;

const ACQUIRE: &str = "fox.lock.acquire";
const RENEW: &str = "fox.lock.renew";
const RELEASE: &str = "fox.lock.release";

/// A lock that we hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Grant {
    pub key: String,
    /// The fencing token.
    pub token: u64,
}

#[derive(Deserialize)]
struct Place {
    position: u64,
}

/// Waits for the lock, or for a signal.
pub(super) async fn acquire(
    session: &Session,
    run: &Run,
    signals: &mut Signals,
    console: &mut Console<'_>,
) -> Result<Grant, Failure> {
    let ask = Ask::new(ACQUIRE)
        .arg(run.key.as_str())
        .option("mode", Some(run.mode.name()))
        .option("permits", run.permits)
        .option("limit", run.limit)
        .option("wait_ms", run.wait.map(millis))
        .option("ttl_ms", Some(millis(run.ttl)))
        .json_option("data", run.data.clone());
    let call = session.call(ask.procedure(), ask.arguments()?, Dict::new());
    let call = call.await?;
    tokio::select! {
        granted = granted(call, &run.key, console) => granted,
        // The end of the session takes the request back, or the lock if it came at this moment.
        signal = signals.next() => Err(Failure::interrupted(signal)),
    }
}

async fn granted(mut call: Call, key: &str, console: &mut Console<'_>) -> Result<Grant, Failure> {
    let mut has_waited = false;
    while let Some(progress) = call.next_progress().await {
        let Place { position } = read(ACQUIRE, &progress)?;
        let text = format!("waiting for {key}, position {position}");
        let object = json!({"event": "waiting", "key": key, "position": position});
        console.aside(&text, &object);
        has_waited = true;
    }
    let answer = call.result().await;
    let answer = answer.map_err(|error| Failure::from(error).about(key))?;
    let grant: Grant = read(ACQUIRE, &answer)?;
    if has_waited || console.is_json() {
        let text = format!("got {key}, token {}", grant.token);
        let object = json!({"event": "acquired", "key": key, "token": grant.token});
        console.aside(&text, &object);
    }
    Ok(grant)
}

/// Sends a renewal of the lease.
pub(super) async fn renew(
    session: &Session,
    grant: &Grant,
    run: &Run,
) -> Result<Reply<router_client::Arguments>, Failure> {
    let ask = Ask::new(RENEW)
        .arg(grant.key.as_str())
        .arg(grant.token)
        .option("ttl_ms", Some(millis(run.ttl)));
    ask.send(session).await
}

/// Gives the lock back.
pub(super) async fn release(session: &Session, grant: &Grant) -> Result<(), Failure> {
    let ask = Ask::new(RELEASE).arg(grant.key.as_str()).arg(grant.token);
    let reply = ask.send(session).await?;
    reply.wait().await?;
    Ok(())
}
