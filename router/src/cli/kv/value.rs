//! One key: read, write, delete.

use super::{Cas, Put};
use crate::cli::ask::Ask;
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::words::{json_or_text, millis, shown};
use router_client::Session;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::io::{self, Read as _};

const GET: &str = "fox.kv.get";
const PUT: &str = "fox.kv.put";
const CAS: &str = "fox.kv.cas";
const DELETE: &str = "fox.kv.delete";

/// The longest value that is read from stdin.
const STDIN_BYTES_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: Box<RawValue>,
    /// Absent for an absent key.
    args: Option<serde::de::IgnoredAny>,
    token: u64,
    owner: Option<u64>,
    waiters: u64,
}

/// What is shown of an entry.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: &'a RawValue,
    token: u64,
    owner: Option<u64>,
    waiters: u64,
}

#[derive(Deserialize, Serialize)]
struct Written {
    key: String,
    token: u64,
}

#[derive(Deserialize, Serialize)]
struct Deleted {
    key: String,
    token: u64,
    existed: bool,
}

/// The value of the command line as JSON; `-` reads stdin, without the last line end.
pub(super) fn typed(value: &str) -> Result<String, Failure> {
    if value != "-" {
        return Ok(json_or_text(value));
    }
    let mut text = String::new();
    let mut stdin = io::stdin().lock().take(STDIN_BYTES_MAX + 1);
    stdin
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("stdin: {error}")))?;
    if text.len() as u64 > STDIN_BYTES_MAX {
        return Err(Failure::failed("stdin: more than 64 MiB"));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(json_or_text(text))
}

/// `get`
pub(super) async fn get(
    session: &Session,
    key: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let entry: Entry = Ask::new(GET).arg(key).call(session).await?;
    if entry.args.is_none() {
        return Err(no_value(key));
    }
    if console.is_json() {
        console.object(&Shown {
            key: &entry.key,
            value: &entry.value,
            token: entry.token,
            owner: entry.owner,
            waiters: entry.waiters,
        })?;
    } else {
        console.bare(&shown(entry.value.get()))?;
    }
    Ok(())
}

/// `put`
pub(super) async fn put(
    session: &Session,
    put: &Put,
    value: String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let ask = Ask::new(PUT)
        .arg(put.key.as_str())
        .json(value)
        .json_option("when", put.when.clone())
        .option("watch", put.wait.map(|_| true))
        .option("watch_timeout", put.wait.map(millis))
        .option("merge", put.merge.then_some(true))
        .option("ttl_ms", put.ttl.map(millis));
    write(session, &put.key, ask, console).await
}

/// `cas`
pub(super) async fn cas(
    session: &Session,
    cas: &Cas,
    value: String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let ask = Ask::new(CAS)
        .arg(cas.key.as_str())
        .arg(cas.token)
        .json(value)
        .option("ttl_ms", cas.ttl.map(millis));
    write(session, &cas.key, ask, console).await
}

async fn write(
    session: &Session,
    key: &str,
    ask: Ask,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let written = ask
        .call(session)
        .await
        .map_err(|failure| told(key, failure));
    let written: Written = written?;
    console.result(&written.token.to_string(), &written)?;
    Ok(())
}

/// `del`
pub(super) async fn delete(
    session: &Session,
    key: &str,
    token: Option<u64>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let ask = Ask::new(DELETE).arg(key).option("token", token);
    let deleted = ask
        .call(session)
        .await
        .map_err(|failure| told(key, failure));
    let deleted: Deleted = deleted?;
    if !deleted.existed {
        return Err(no_value(key));
    }
    console.result(&format!("deleted {key}"), &deleted)?;
    Ok(())
}

fn no_value(key: &str) -> Failure {
    Failure::not_found(key, format!("no value under {key}"))
}

/// The key and, where the router tells it, the token that is in the way.
fn told(key: &str, mut failure: Failure) -> Failure {
    if let Some(token) = failure.details.get("token") {
        failure.message = format!("{}; its token is {token}", failure.message);
    }
    failure.details.entry("key").or_insert_with(|| json!(key));
    failure.about(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Ended, against};
    use router_client::testing::Router;
    use serde_json::Value;

    const NOBODY: Option<u64> = None;

    fn entry(value: Value, args: Value) -> Value {
        json!({"key": "a.b", "value": value, "args": args, "kwargs": null, "token": 7,
               "owner": NOBODY, "waiters": 0})
    }

    async fn get_of(answer: Value, json: bool) -> Ended {
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.get").await;
            assert_eq!(call.payload, router.payload(&[json!("a.b")]));
            router.answer(call.request, &[answer]).await;
            router
        };
        against(json, script, async |session, console| {
            get(&session, "a.b", console).await
        })
        .await
    }

    #[tokio::test]
    async fn a_value_is_printed_as_it_would_be_typed() {
        let text = get_of(entry(json!("hello"), json!(["hello"])), false).await;
        assert_eq!(text.out, "hello\n");
        let number = get_of(entry(json!("42"), json!(["42"])), false).await;
        assert_eq!(number.out, "\"42\"\n");
        let object = get_of(entry(json!({"z": 1}), json!([{"z": 1}])), true).await;
        assert_eq!(
            object.out,
            "{\"key\":\"a.b\",\"value\":{\"z\":1},\"token\":7,\"owner\":null,\"waiters\":0}\n"
        );
    }

    #[tokio::test]
    async fn an_absent_key_is_exit_code_4_and_nothing_on_stdout() {
        let ended = get_of(entry(json!(null), json!(null)), true).await;
        assert_eq!((ended.code, ended.out.as_str()), (4, ""));
        assert!(
            ended.err.contains("\"error\":\"not_found\""),
            "{}",
            ended.err
        );
    }

    #[tokio::test]
    async fn a_put_says_its_options_and_prints_the_token() {
        let wanted = Put {
            key: "a.b".to_owned(),
            value: "1".to_owned(),
            ttl: Some(std::time::Duration::from_secs(1)),
            when: Some("null".to_owned()),
            wait: Some(std::time::Duration::from_millis(5)),
            merge: true,
        };
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.put").await;
            let (args, kwargs) = router.values(&call.payload);
            assert_eq!(args, [json!("a.b"), json!(1)]);
            let options = json!({"when": null, "watch": true, "watch_timeout": 5, "merge": true,
                                 "ttl_ms": 1000});
            assert_eq!(Value::from(kwargs), options);
            router
                .answer(call.request, &[json!({"key": "a.b", "token": 9})])
                .await;
            router
        };
        let ended = against(false, script, async |session, console| {
            put(&session, &wanted, "1".to_owned(), console).await
        });
        assert_eq!(ended.await.out, "9\n");
    }

    #[tokio::test]
    async fn a_conflict_is_exit_code_4_and_tells_the_token() {
        let wanted = Cas {
            key: "a.b".to_owned(),
            token: 3,
            value: "1".to_owned(),
            ttl: None,
        };
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.cas").await;
            let (args, _) = router.values(&call.payload);
            assert_eq!(args, [json!("a.b"), json!(3), json!(1)]);
            let kwargs = json!({"key": "a.b", "token": 8});
            let kwargs = kwargs.as_object().cloned().expect("a dict");
            let args = [json!("another token")];
            router
                .fail(call.request, "fox.error.conflict", &args, &kwargs)
                .await;
            router
        };
        let ended = against(false, script, async |session, console| {
            cas(&session, &wanted, "1".to_owned(), console).await
        });
        let ended = ended.await;
        assert_eq!(ended.code, 4);
        let said = "reynard: a.b: another token (fox.error.conflict); its token is 8\n";
        assert_eq!(ended.err, said);
    }

    #[tokio::test]
    async fn deleting_what_is_not_there_is_exit_code_4() {
        for (existed, code) in [(true, 0), (false, 4)] {
            let script = async |mut router: Router| {
                let call = router.called("fox.kv.delete").await;
                let answer = json!({"key": "a.b", "token": 9, "existed": existed});
                router.answer(call.request, &[answer]).await;
                router
            };
            let ended = against(true, script, async |session, console| {
                delete(&session, "a.b", None, console).await
            });
            let ended = ended.await;
            assert_eq!((ended.code, ended.out.is_empty()), (code, !existed));
        }
    }
}
