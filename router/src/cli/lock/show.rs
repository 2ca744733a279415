//! `reynard lock ls`, `inspect` and `break`.

use crate::cli::ask::Ask;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use router_client::Session;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write as _;

const LIST: &str = "fox.lock.list";
const INSPECT: &str = "fox.lock.inspect";
const BREAK: &str = "fox.lock.break";

/// The mode of a key that nobody holds.
const FREE: &str = "free";
/// What a page may hold at most.
const PAGE_MAX: u64 = 1000;

#[derive(Deserialize)]
struct Page {
    locks: Vec<Row>,
    more: bool,
}

#[derive(Deserialize, Serialize)]
struct Row {
    key: String,
    /// None while there are only waiters, such as for a key with a plain value.
    mode: Option<String>,
    holders: u64,
    waiters: u64,
    token: u64,
}

/// `ls`
pub(super) async fn ls(
    session: &Session,
    prefix: &str,
    limit: Option<u64>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut after = None::<String>;
    while left > 0 {
        let ask = Ask::new(LIST)
            .arg(prefix)
            .option("limit", Some(left.min(PAGE_MAX)))
            .option("after", after);
        let page: Page = ask.call(session).await?;
        after = page.locks.last().map(|row| row.key.clone());
        for row in &page.locks {
            let mode = row.mode.as_deref().unwrap_or(FREE);
            let text = format!(
                "{} {mode} holders={} waiters={} token={}",
                row.key, row.holders, row.waiters, row.token
            );
            console.result(&text, row)?;
            left = left.saturating_sub(1);
        }
        // A page without a lock would be asked for again without end.
        if !page.more || after.is_none() {
            break;
        }
    }
    Ok(())
}

#[derive(Deserialize, Serialize)]
struct Lock {
    key: String,
    mode: Option<String>,
    holders: Vec<Holder>,
    waiters: Vec<Waiter>,
    waiting: u64,
    value: Box<RawValue>,
    token: u64,
}

#[derive(Deserialize, Serialize)]
struct Holder {
    session: u64,
    authid: Value,
    token: u64,
    since: Value,
    expires: Value,
    permits: Value,
    count: Value,
    data: Value,
}

#[derive(Deserialize, Serialize)]
struct Waiter {
    session: Value,
    mode: Value,
    position: u64,
    since: Value,
}

/// `inspect`
pub(super) async fn inspect(
    session: &Session,
    key: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let lock: Lock = Ask::new(INSPECT).arg(key).call(session).await?;
    if lock.holders.is_empty() {
        return Err(nobody(key));
    }
    if console.is_json() {
        console.object(&lock)?;
        return Ok(());
    }
    for line in lines(&lock) {
        console.result(&line, &())?;
    }
    Ok(())
}

fn lines(lock: &Lock) -> Vec<String> {
    let mode = lock.mode.as_deref().unwrap_or(FREE);
    let mut lines = vec![format!(
        "{} {mode} value={} waiting={}",
        lock.key,
        lock.value.get(),
        lock.waiting
    )];
    for holder in &lock.holders {
        let mut line = format!("holder session={} token={}", holder.session, holder.token);
        for (name, value) in [
            ("authid", &holder.authid),
            ("since", &holder.since),
            ("expires", &holder.expires),
            ("permits", &holder.permits),
            ("count", &holder.count),
            ("data", &holder.data),
        ] {
            if !value.is_null() {
                // Writing to a String cannot fail.
                let _ = write!(line, " {name}={value}");
            }
        }
        lines.push(line);
    }
    for waiter in &lock.waiters {
        lines.push(format!(
            "waiter session={} position={} mode={} since={}",
            waiter.session, waiter.position, waiter.mode, waiter.since
        ));
    }
    let listed = lock.waiters.len() as u64;
    if lock.waiting > listed {
        lines.push(format!("and {} more", lock.waiting - listed));
    }
    lines
}

#[derive(Deserialize, Serialize)]
struct Broken {
    key: String,
    broken: Vec<u64>,
}

/// `break`
pub(super) async fn break_lock(
    session: &Session,
    key: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let broken: Broken = Ask::new(BREAK).arg(key).call(session).await?;
    if broken.broken.is_empty() {
        return Err(nobody(key));
    }
    let tokens: Vec<String> = broken.broken.iter().map(u64::to_string).collect();
    let text = format!("broken {key} token={}", tokens.join(","));
    Ok(console.result(&text, &broken)?)
}

fn nobody(key: &str) -> Failure {
    Failure::not_found(key, format!("nobody holds {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Ended, against};
    use router_client::testing::Router;
    use serde_json::json;

    fn lock(holders: Value) -> Value {
        json!({"key": "a.b", "mode": "exclusive", "holders": holders, "waiting": 3, "value": true,
        "token": 5, "waiters": [
            {"session": 8, "mode": "exclusive", "position": 1, "since": 1000},
        ]})
    }

    fn holder() -> Value {
        json!({"session": 7, "authid": "joe", "token": 5, "since": 900, "expires": null,
               "permits": 1, "count": 1, "data": {"host": "h"}})
    }

    async fn inspect_of(answer: Value, json: bool) -> Ended {
        let script = async |mut router: Router| {
            let call = router.called("fox.lock.inspect").await;
            router.answer(call.request, &[answer]).await;
            router
        };
        against(json, script, async |session, console| {
            inspect(&session, "a.b", console).await
        })
        .await
    }

    #[tokio::test]
    async fn a_lock_is_shown_with_its_holders_and_waiters() {
        let ended = inspect_of(lock(json!([holder()])), false).await;
        let text = "a.b exclusive value=true waiting=3\n\
                    holder session=7 token=5 authid=\"joe\" since=900 permits=1 count=1 \
                    data={\"host\":\"h\"}\n\
                    waiter session=8 position=1 mode=\"exclusive\" since=1000\n\
                    and 2 more\n";
        assert_eq!(ended.out, text);
        let ended = inspect_of(lock(json!([holder()])), true).await;
        let object: Value = serde_json::from_str(&ended.out).expect("one line");
        assert_eq!(object, lock(json!([holder()])));
    }

    #[tokio::test]
    async fn a_lock_that_nobody_holds_is_exit_code_4() {
        let free = json!({"key": "a.b", "mode": null, "holders": [], "waiters": [], "waiting": 0,
                          "value": null, "token": 0});
        let ended = inspect_of(free, false).await;
        assert_eq!((ended.code, ended.out.as_str()), (4, ""));
        assert_eq!(ended.err, "reynard: nobody holds a.b\n");
    }

    #[tokio::test]
    async fn broken_locks_are_named_by_their_tokens() {
        for (tokens, code, out) in [
            (json!([5, 6]), 0, "broken a.b token=5,6\n"),
            (json!([]), 4, ""),
        ] {
            let script = async |mut router: Router| {
                let call = router.called("fox.lock.break").await;
                let answer = json!({"key": "a.b", "broken": tokens});
                router.answer(call.request, &[answer]).await;
                router
            };
            let ended = against(false, script, async |session, console| {
                break_lock(&session, "a.b", console).await
            });
            let ended = ended.await;
            assert_eq!((ended.code, ended.out.as_str()), (code, out));
        }
    }

    #[tokio::test]
    async fn locks_are_listed_over_pages() {
        let row = |key: &str| {
            let (mode, holders) = if key == "a" {
                (Some("shared"), 2)
            } else {
                (None, 0)
            };
            json!({"key": key, "mode": mode, "holders": holders, "waiters": 1, "token": 5})
        };
        let script = async |mut router: Router| {
            for (after, key, more) in [(None, "a", true), (Some("a"), "b", false)] {
                let call = router.called("fox.lock.list").await;
                let (_, kwargs) = router.values(&call.payload);
                assert_eq!(kwargs.get("after").and_then(Value::as_str), after);
                let page = json!({"locks": [row(key)], "more": more});
                router.answer(call.request, &[page]).await;
            }
            router
        };
        let ended = against(false, script, async |session, console| {
            ls(&session, "", None, console).await
        });
        let text = "a shared holders=2 waiters=1 token=5\nb free holders=0 waiters=1 token=5\n";
        assert_eq!(ended.await.out, text);
    }
}
