//! `reynard kv watch`: the value of a key and each change.

use crate::cli::ask::{Ask, read};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::signals::Signals;
use router_client::{Call, Cancel, Dict, Session};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const WATCH: &str = "fox.kv.watch";

#[derive(Deserialize, Serialize)]
struct Change {
    key: String,
    value: Box<RawValue>,
    token: u64,
}

/// `watch`
pub(super) async fn watch(
    session: &Session,
    key: &str,
    token: u64,
    count: Option<u64>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let ask = Ask::new(WATCH).arg(key).option("token", Some(token));
    let call = session.call(ask.procedure(), ask.arguments()?, Dict::new());
    let mut call = call.await?;
    let has_ended = tokio::select! {
        ended = follow(&mut call, count, console) => ended?,
        // That is how it is meant to end.
        _ = signals.next() => false,
    };
    if has_ended {
        // Without progressive results any more there is only an error to come.
        let last = call.result().await?;
        return show(&read(WATCH, &last)?, console);
    }
    Ok(call.cancel(Cancel::KillNoWait).await?)
}

/// Prints changes; whether the router has ended the call.
async fn follow(
    call: &mut Call,
    count: Option<u64>,
    console: &mut Console<'_>,
) -> Result<bool, Failure> {
    let mut seen = 0;
    while count != Some(seen) {
        let Some(change) = call.next_progress().await else {
            return Ok(true);
        };
        show(&read(WATCH, &change)?, console)?;
        seen += 1;
    }
    Ok(false)
}

fn show(change: &Change, console: &mut Console<'_>) -> Result<(), Failure> {
    let text = format!("{} {}", change.token, change.value.get());
    Ok(console.result(&text, change)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::against;
    use router_client::testing::Router;
    use serde_json::json;

    #[tokio::test]
    async fn changes_are_printed_until_there_were_enough() {
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.watch").await;
            assert_eq!(call.options["receive_progress"], true);
            let (args, kwargs) = router.values(&call.payload);
            assert_eq!((args, &kwargs["token"]), (vec![json!("a.b")], &json!(3)));
            for (token, value) in [(4, json!({"a": 1})), (5, json!(null))] {
                let change = json!({"key": "a.b", "value": value, "token": token});
                router.progress(call.request, &[change]).await;
            }
            let canceled = router.receive().await;
            assert_eq!(canceled.name(), "CANCEL");
            router
        };
        let ended = against(false, script, async |session, console| {
            watch(&session, "a.b", 3, Some(2), console).await
        });
        let ended = ended.await;
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (0, "4 {\"a\":1}\n5 null\n")
        );
    }

    #[tokio::test]
    async fn a_lost_connection_is_a_failure() {
        let script = async |mut router: Router| {
            router.called("fox.kv.watch").await;
            drop(router);
        };
        let ended = against(false, script, async |session, console| {
            watch(&session, "a.b", 0, None, console).await
        });
        let ended = ended.await;
        assert_eq!(ended.code, 1);
        assert!(
            ended.err.contains("the connection is lost"),
            "{}",
            ended.err
        );
    }
}
