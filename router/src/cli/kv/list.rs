//! Keys in pages, in their order.

use crate::cli::ask::Ask;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use router_client::Session;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const LIST: &str = "fox.kv.list";
/// What a page may hold at most.
const PAGE_MAX: u64 = 1000;
/// What a page with values holds: a value may be long, and a page is one message.
const PAGE_OF_VALUES: u64 = 250;

#[derive(Deserialize)]
struct Page {
    keys: Vec<Row>,
    more: bool,
}

/// A key of a list.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Row {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<Box<RawValue>>,
    pub token: u64,
    /// The session that it belongs to.
    pub owner: Option<u64>,
}

/// A list being read, page by page.
pub(super) struct Pages<'a> {
    session: &'a Session,
    prefix: &'a str,
    values: bool,
    after: Option<String>,
    size: u64,
    is_done: bool,
}

impl<'a> Pages<'a> {
    /// A list that has not begun.
    pub(super) const fn new(session: &'a Session, prefix: &'a str, values: bool) -> Pages<'a> {
        Pages {
            session,
            prefix,
            values,
            after: None,
            size: if values { PAGE_OF_VALUES } else { PAGE_MAX },
            is_done: false,
        }
    }

    /// The next page, of at most `most` rows; `None` at the end.
    pub(super) async fn next(&mut self, most: u64) -> Result<Option<Vec<Row>>, Failure> {
        while !self.is_done {
            let ask = Ask::new(LIST)
                .arg(self.prefix)
                .option("limit", Some(self.size.min(most)))
                .option("after", self.after.clone())
                .option("values", Some(self.values));
            let page: Page = match ask.call(self.session).await {
                Ok(page) => page,
                Err(failure) if is_too_long(&failure) && self.size > 1 => {
                    self.size /= 2;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            // A page without a key would be asked for again without end.
            self.is_done = !page.more || page.keys.is_empty();
            self.after = page.keys.last().map(|row| row.key.clone());
            return Ok(Some(page.keys));
        }
        Ok(None)
    }
}

/// Whether a page was longer than the connection takes.
fn is_too_long(failure: &Failure) -> bool {
    failure.error == "wamp.error.payload_size_exceeded"
}

/// `ls`
pub(super) async fn ls(
    session: &Session,
    prefix: &str,
    values: bool,
    limit: Option<u64>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut pages = Pages::new(session, prefix, values);
    while left > 0 {
        let Some(rows) = pages.next(left).await? else {
            break;
        };
        for row in rows {
            let text = match &row.value {
                Some(value) => format!("{} {}", row.key, value.get()),
                None => row.key.clone(),
            };
            console.result(&text, &row)?;
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::against;
    use router_client::testing::Router;
    use serde_json::{Value, json};

    fn rows(numbers: std::ops::Range<u64>) -> Value {
        numbers
            .map(|n| json!({"key": format!("a.{n}"), "token": n, "owner": null, "value": [n]}))
            .collect()
    }

    #[tokio::test]
    async fn pages_are_asked_for_until_there_are_no_more() {
        let script = async |mut router: Router| {
            for (after, from, more) in [(None, 1, true), (Some("a.2"), 3, false)] {
                let call = router.called("fox.kv.list").await;
                let (args, kwargs) = router.values(&call.payload);
                assert_eq!(args, [json!("a.")]);
                assert_eq!(kwargs.get("after").and_then(Value::as_str), after);
                let page = json!({"keys": rows(from..from + 2), "more": more});
                router.answer(call.request, &[page]).await;
            }
            router
        };
        let ended = against(false, script, async |session, console| {
            ls(&session, "a.", true, None, console).await
        });
        let ended = ended.await;
        assert_eq!(ended.out, "a.1 [1]\na.2 [2]\na.3 [3]\na.4 [4]\n");
    }

    #[tokio::test]
    async fn a_limit_is_passed_on_and_kept() {
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.list").await;
            let (_, kwargs) = router.values(&call.payload);
            assert_eq!(kwargs["limit"], 2);
            let page = json!({"keys": rows(1..3), "more": true});
            router.answer(call.request, &[page]).await;
            router
        };
        let ended = against(true, script, async |session, console| {
            ls(&session, "", false, Some(2), console).await
        });
        let ended = ended.await;
        assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
        let line = "{\"key\":\"a.1\",\"value\":[1],\"token\":1,\"owner\":null}";
        assert_eq!(ended.out.lines().next(), Some(line));
    }

    #[tokio::test]
    async fn a_page_that_is_too_long_for_the_connection_is_halved() {
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.list").await;
            let error = "wamp.error.payload_size_exceeded";
            let none = router_client::Dict::new();
            router.fail(call.request, error, &[], &none).await;
            let call = router.called("fox.kv.list").await;
            assert_eq!(router.values(&call.payload).1["limit"], PAGE_OF_VALUES / 2);
            let page = json!({"keys": rows(1..2), "more": false});
            router.answer(call.request, &[page]).await;
            router
        };
        let ended = against(false, script, async |session, console| {
            ls(&session, "", true, None, console).await
        });
        assert_eq!(ended.await.out, "a.1 [1]\n");
    }
}
