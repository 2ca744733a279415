//! The session meta API: who is in the realm, who comes and who goes (section "Session Metaevents
//! and Procedures").

use super::interrupted;
use crate::args::Metatest;
use crate::output::say;
use anyhow::{Context as _, ensure};
use router_client::{Arguments, Dict, Session, Subscription};
use serde_json::Value;

/// Everything about sessions: joins and leaves.
const PATTERN: &str = "wamp.session.#";

/// Asks, then watches.
///
/// # Errors
/// When an answer is not what it should be, or the session ends.
pub async fn run(session: Session, args: &Metatest) -> anyhow::Result<()> {
    let mut events = session.subscribe(PATTERN, Dict::new()).await?;
    // Spelled as in fox-wamp's demo, so that one script can watch either.
    say!("subscription successfull {PATTERN}")?;
    ask(&session).await?;
    tokio::select! {
        ended = watch(&mut events, args.count) => ended?,
        interrupted = interrupted() => interrupted?,
    }
    session.leave().await?;
    Ok(())
}

async fn ask(session: &Session) -> anyhow::Result<()> {
    let count = get(session, "wamp.session.count", &[]).await?;
    say!("count = {count}")?;
    ensure!(
        count.as_u64().is_some_and(|n| n >= 1),
        "not a count: {count}"
    );
    let list = get(session, "wamp.session.list", &[]).await?;
    say!("list = {list}")?;
    let ids = list.as_array().context("not a list")?;
    let own_id = Value::from(session.id());
    ensure!(ids.contains(&own_id), "{own_id} is not in the list");
    let details = get(session, "wamp.session.get", &[own_id]).await?;
    say!("get = {details}")?;
    ensure!(details.is_object(), "not a dict: {details}");
    Ok(())
}

async fn get(session: &Session, procedure: &str, args: &[Value]) -> anyhow::Result<Value> {
    let answer = session.call_plain(procedure, Arguments::list(args)).await?;
    Ok(answer.first()?)
}

async fn watch(events: &mut Subscription, count: Option<u64>) -> anyhow::Result<()> {
    let mut seen = 0;
    while count != Some(seen) {
        let event = events.next().await?;
        let event = event.context("the router ended the subscription")?;
        let topic = event.details.get("topic").and_then(Value::as_str);
        say!("{} {}", topic.unwrap_or(PATTERN), event.arguments)?;
        seen += 1;
    }
    Ok(())
}
