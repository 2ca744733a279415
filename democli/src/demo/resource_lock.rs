//! A lock on a retained value. Run two: one holds it, the other waits and gets it as soon as the
//! first releases it, leaves, or dies.
//!
//! * `when: null` writes only where there is no value, `watch` waits for that moment (in the order
//!   of asking), `will: null` deletes the value when this session ends in whatever way.
//! * Publishing nothing deletes the value, which releases the lock.
//! * The fencing token grows with every holder. A resource that refuses tokens lower than the
//!   last one it saw is safe from a holder that does not know yet that it has lost the lock.

use super::interrupted;
use crate::args::ResourceLock;
use crate::clock;
use crate::output::say;
use anyhow::{Context as _, ensure};
use router_client::DictExt as _;
use router_client::{Arguments, ClientError, Dict, Session};
use serde_json::{Value, json};
use std::time::Duration;

/// Between a release and the next attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// Reads a key of the store.
const VALUE_GET: &str = "fox.kv.get";

/// Takes turns.
///
/// # Errors
/// When the lock cannot be asked for or released, or the session ends.
pub async fn run(session: Session, args: &ResourceLock) -> anyhow::Result<()> {
    tokio::select! {
        ended = take_turns(&session, args) => ended?,
        // The will releases the lock.
        interrupted = interrupted() => interrupted?,
        // Not found out by waiting: whoever holds a lock has to know at once.
        closed = session.ended() => return Err(ClientError::Closed(closed).into()),
    }
    session.leave().await?;
    Ok(())
}

async fn take_turns(session: &Session, args: &ResourceLock) -> anyhow::Result<()> {
    let mut round = 0;
    loop {
        say!("waiting for lock...")?;
        let publication = lock(session, &args.key).await?;
        let token = fencing_token(session, &args.key).await?;
        say!("Master Resource Locked: publication {publication}, fencing token {token}")?;
        tokio::time::sleep(Duration::from_secs(args.hold_secs)).await;
        say!("Send Unlock after {} s", args.hold_secs)?;
        unlock(session, &args.key).await?;
        round += 1;
        if args.rounds == Some(round) {
            return Ok(());
        }
        say!("unlocked, next attempt in {} s", PAUSE.as_secs())?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the lock.
async fn lock(session: &Session, key: &str) -> Result<u64, ClientError> {
    let value = json!({"holder": std::process::id(), "asked": clock::now_iso()});
    let options = options(&json!({"retain": true, "when": null, "watch": true, "will": null}));
    let reply = session.publish_acknowledged(key, Arguments::list(&[value]), options);
    reply.await?.wait().await
}

async fn unlock(session: &Session, key: &str) -> Result<u64, ClientError> {
    let options = options(&json!({"retain": true}));
    let reply = session.publish_acknowledged(key, Arguments::none(), options);
    reply.await?.wait().await
}

/// The token of our own write: while we hold the lock nobody else writes there by its rules.
async fn fencing_token(session: &Session, key: &str) -> anyhow::Result<u64> {
    let key_argument = Arguments::list(&[key.into()]);
    let answer = session.call_plain(VALUE_GET, key_argument).await?;
    let entry = answer.first()?;
    token_of(&entry, session.id()).with_context(|| format!("{VALUE_GET} answered {entry}"))
}

fn token_of(entry: &Value, own_id: u64) -> anyhow::Result<u64> {
    let entry = entry.as_object().context("no dict")?;
    ensure!(
        entry.unsigned("owner")? == Some(own_id),
        "the lock is not ours"
    );
    entry.unsigned("token")?.context("no token")
}

fn options(of: &Value) -> Dict {
    of.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_counts_only_while_the_lock_is_ours() {
        let entry = json!({"key": "k", "value": {}, "token": 12, "owner": 7, "waiters": 0});
        assert_eq!(token_of(&entry, 7).unwrap(), 12);
        for (entry, part) in [
            (entry, "not ours"),
            (json!({"token": 12, "owner": null}), "not ours"),
            (json!({"owner": 8}), "no token"),
            (json!({"owner": "8"}), "owner"),
            (Value::Null, "no dict"),
        ] {
            let error = token_of(&entry, 8).unwrap_err().to_string();
            assert!(error.contains(part), "{entry}: {error}");
        }
    }
}
