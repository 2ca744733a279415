//! Keys by their tokens, in pages and as streams of changes, for a session inside the program.

mod support;

use reynard::session::{Error, ErrorKind, ListOptions};
use reynard::{Router, Session};
use serde_json::{Value, json};
use support::{in_memory, soon};

async fn pair() -> (Session, Session) {
    let router = Router::open(&in_memory()).expect("set up");
    (
        router.session("realm1").await.expect("set up"),
        router.session("realm1").await.expect("set up"),
    )
}

#[tokio::test]
async fn a_token_guards_a_write_and_a_deletion() {
    let (here, there) = pair().await;
    let first = here.kv().cas_token("app.n", 0, 1).await.unwrap().unwrap();
    assert_eq!(there.kv().cas_token("app.n", 0, 2).await.unwrap(), None);
    let second = there
        .kv()
        .cas_token("app.n", first, 2)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(here.kv().delete_token("app.n", first).await.unwrap(), None);
    assert_eq!(here.kv().get("app.n").await.unwrap().value, 2);
    let gone = here
        .kv()
        .delete_token("app.n", second)
        .await
        .unwrap()
        .unwrap();
    assert!(first < second && second < gone);
    assert!(!here.kv().get("app.n").await.unwrap().exists());
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let (here, _) = pair().await;
    let kv = here.kv();
    for n in 0..5 {
        kv.put(format!("app.{n}"), n).await.unwrap();
    }
    kv.put("other", 1).await.unwrap();
    let page = kv.list("app.", ListOptions::new().limit(3)).await.unwrap();
    let names = |keys: &[reynard::session::ListedKey]| -> Vec<String> {
        keys.iter().map(|row| row.key.clone()).collect()
    };
    assert_eq!(names(&page.keys), ["app.0", "app.1", "app.2"]);
    assert!(page.more && page.keys[1].value == 1 && page.keys[1].owner.is_none());
    let rest = ListOptions::new().after("app.2").without_values();
    let page = kv.list("app.", rest).await.unwrap();
    assert_eq!(names(&page.keys), ["app.3", "app.4"]);
    assert!(!page.more && page.keys[0].value.is_null());
    let wrong = kv.list("a b", ListOptions::new()).await;
    assert_eq!(wrong.unwrap_err().refusal(), Some(ErrorKind::InvalidTopic));
}

#[tokio::test]
async fn changes_come_in_order_from_a_token_on() {
    let (here, there) = pair().await;
    let first = here.kv().put("app.k", "one").await.unwrap();
    let mut changes = there.kv().changes("app.k", Some(first - 1)).await.unwrap();
    let second = here.kv().put("app.k", json!({"n": 2})).await.unwrap();
    let third = here.kv().delete("app.k").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let change = soon(changes.next()).await.unwrap().unwrap();
        seen.push((change.token, change.value));
    }
    let expected = [
        (first, json!("one")),
        (second, json!({"n": 2})),
        (third, Value::Null),
    ];
    assert_eq!(seen, expected);
    there.close();
    assert_eq!(soon(changes.next()).await.unwrap(), None);
    assert!(matches!(soon(changes.end()).await, Error::Ended(_)));
}
