//! A client of the [backend](super::backend): calls side by side, one of them progressive, and
//! events with and without acknowledgement.

use super::{ECHO, FOO, NOW, TOPIC};
use crate::output::say;
use anyhow::ensure;
use router_client::{Arguments, Call, Dict, Session};
use serde_json::json;
use std::time::Instant;

/// Calls, publishes, leaves.
///
/// # Errors
/// When a call or the acknowledged publish fails, or an echo is not what was sent.
pub async fn run(session: Session) -> anyhow::Result<()> {
    let began = Instant::now();
    let time = session.call(NOW, Arguments::none(), Dict::new()).await?;
    let mut echoes = Vec::new();
    for sent in echo_arguments()? {
        let call = session.call(ECHO, sent.clone(), Dict::new()).await?;
        echoes.push((sent, call));
    }
    let arguments = Arguments::from_json(r#"["test"]"#, Some(r#"{"foo":"bar"}"#))?;
    let kwargs_echo = session.call(FOO, arguments, Dict::new()).await?;

    publish(&session).await?;

    for (sent, call) in echoes {
        echoed(began, &sent, call).await?;
    }
    say!(
        "Call {FOO} completed, result = {}",
        kwargs_echo.result().await?
    )?;
    show_time(began, time).await?;
    session.leave().await?;
    say!("connection closed")?;
    Ok(())
}

/// Nothing, nothing said explicitly, and something of both kinds.
fn echo_arguments() -> anyhow::Result<[Arguments; 3]> {
    let kwargs = r#"{"kwarg1":"kwarg1","kwarg2":"kwarg2"}"#;
    Ok([
        Arguments::none(),
        Arguments::from_json("[]", Some("{}"))?,
        Arguments::from_json(r#"["arg1","arg2"]"#, Some(kwargs))?,
    ])
}

async fn publish(session: &Session) -> anyhow::Result<()> {
    say!("Publish events")?;
    let kwargs = r#"{"kwarg1":"kwarg1","kwarg2":"kwarg2"}"#;
    let second = Arguments::from_json(r#"["Arg1","Arg2"]"#, Some(kwargs))?;
    session
        .publish(TOPIC, Arguments::none(), Dict::new())
        .await?;
    session.publish(TOPIC, second, Dict::new()).await?;
    let mut headers = Dict::new();
    headers.insert("headerName".to_owned(), json!("value"));
    let third = Arguments::new(&[json!("arg-one")], &headers);
    let reply = session
        .publish_acknowledged(TOPIC, third, Dict::new())
        .await?;
    say!("published: publication {}", reply.wait().await?)?;
    Ok(())
}

async fn echoed(began: Instant, sent: &Arguments, call: Call) -> anyhow::Result<()> {
    let result = call.result().await?;
    let ms = began.elapsed().as_millis();
    let (args, kwargs) = (result.args_text(), result.kwargs_text());
    ensure!(
        result.equals(sent)?,
        "{ECHO} answered {args} {kwargs} instead of {} {}",
        sent.args_text(),
        sent.kwargs_text()
    );
    say!("Call {ECHO} completed in {ms} ms: result OK, args {args} kwargs {kwargs}")?;
    Ok(())
}

async fn show_time(began: Instant, mut call: Call) -> anyhow::Result<()> {
    while let Some(progress) = call.next_progress().await {
        say!(
            "Call progress: {progress} after {} ms",
            began.elapsed().as_millis()
        )?;
    }
    let result = call.result().await?;
    let ms = began.elapsed().as_millis();
    say!("Call {NOW} completed in {ms} ms: result = {result}")?;
    Ok(())
}
