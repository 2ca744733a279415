//! A service: three procedures and a subscription. Start it, then the frontend, in this order.

use super::{ECHO, FOO, NOW, TOPIC, interrupted};
use crate::clock;
use crate::output::say;
use router_client::{Arguments, Dict, Event, Failure, Invocation, Session};
use std::time::Duration;

/// Between two progressive results of the time.
const TICK: Duration = Duration::from_millis(100);

/// Serves until Ctrl-C.
///
/// # Errors
/// When something cannot be registered, or the session ends.
pub async fn run(session: Session) -> anyhow::Result<()> {
    let id = session.register(NOW, Dict::new(), now).await?;
    say!("Procedure registered: {NOW}, registration {id}")?;
    let id = session.register(FOO, Dict::new(), foo).await?;
    say!("Procedure foo registered: {FOO}, registration {id}")?;
    let id = session.register(ECHO, Dict::new(), echo).await?;
    say!("Procedure echo registered: {ECHO}, registration {id}")?;
    let mut events = session.subscribe(TOPIC, Dict::new()).await?;
    say!("subscribed to {TOPIC}, subscription {}", events.id())?;

    let serve = async {
        while let Some(event) = events.next().await? {
            show(&event)?;
        }
        Err::<(), _>(anyhow::anyhow!("the router ended the subscription"))
    };
    tokio::select! {
        ended = serve => ended,
        interrupted = interrupted() => {
            interrupted?;
            Ok(session.leave().await?)
        }
    }
}

fn show(event: &Event) -> std::io::Result<()> {
    let details = serde_json::Value::from(event.details.clone());
    say!(
        "Event args {} kwargs {} publication {} details {details}",
        event.arguments.args_text(),
        event.arguments.kwargs_text(),
        event.publication,
    )
}

/// The time three times: twice as progressive results, then as the result.
async fn now(invocation: Invocation) -> Result<Arguments, Failure> {
    let details = serde_json::Value::from(invocation.details.clone());
    say!("Someone is calling {NOW} details {details}")?;
    for _ in 0..2 {
        invocation.progress(time()).await?;
        tokio::time::sleep(TICK).await;
    }
    Ok(time())
}

fn time() -> Arguments {
    Arguments::list(&[clock::now_iso().into()])
}

/// `{key1: 'bar1', headers: <the keyword arguments>}`, as fox-wamp's demo router answers.
async fn foo(invocation: Invocation) -> Result<Arguments, Failure> {
    let headers = invocation.arguments.kwargs_text();
    let answer = format!(r#"[{{"key1":"bar1","headers":{headers}}}]"#);
    let answer = Arguments::from_json(&answer, None).map_err(anyhow::Error::from)?;
    Ok(answer)
}

/// What it was called with, byte for byte.
async fn echo(invocation: Invocation) -> Result<Arguments, Failure> {
    let arguments = invocation.arguments;
    say!(
        "args {} kwargs {}",
        arguments.args_text(),
        arguments.kwargs_text()
    )?;
    Ok(arguments)
}
