//! Prints the events of a topic or a pattern, one line each:
//! `topic args kwargs publication=ID detail=value…`.

use super::interrupted;
use crate::args::Subscribe;
use crate::output::say;
use router_client::{Event, Session, Subscription};
use serde_json::Value;

/// Subscribes and prints.
///
/// # Errors
/// When the router refuses it, or the session ends.
pub async fn run(session: Session, args: &Subscribe) -> anyhow::Result<()> {
    let mut events = session.subscribe(&args.pattern, args.options()).await?;
    say!(
        "subscribed to {}, subscription {}",
        args.pattern,
        events.id()
    )?;
    tokio::select! {
        ended = print_all(&mut events, args) => ended?,
        interrupted = interrupted() => interrupted?,
    }
    session.leave().await?;
    Ok(())
}

/// Until there were enough, or the router ends the subscription, as it does after a snapshot.
async fn print_all(events: &mut Subscription, args: &Subscribe) -> anyhow::Result<()> {
    let mut seen = 0;
    while args.count != Some(seen) {
        let Some(event) = events.next().await? else {
            break;
        };
        say!("{}", line(&args.pattern, &event))?;
        seen += 1;
    }
    Ok(())
}

/// An exact subscription is not told its topic: it is the one subscribed to.
fn line(subscribed: &str, event: &Event) -> String {
    let topic = event.details.get("topic").and_then(Value::as_str);
    let mut line = format!(
        "{} {} {} publication={}",
        topic.unwrap_or(subscribed),
        event.arguments.args_text(),
        event.arguments.kwargs_text(),
        event.publication
    );
    for (key, value) in event.details.iter().filter(|(key, _)| *key != "topic") {
        line.push_str(&format!(" {key}={value}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use router_client::Arguments;
    use serde_json::json;

    #[test]
    fn a_line_names_the_topic_and_every_detail() {
        let event = |details: Value| Event {
            publication: 5,
            details: details.as_object().cloned().unwrap(),
            arguments: Arguments::list(&[json!({"a": 1})]),
        };
        assert_eq!(
            line("a.b", &event(json!({}))),
            "a.b [{\"a\":1}] {} publication=5"
        );
        assert_eq!(
            line(
                "a.#",
                &event(json!({"topic": "a.c", "retained": true, "token": 9}))
            ),
            "a.c [{\"a\":1}] {} publication=5 retained=true token=9"
        );
    }
}
