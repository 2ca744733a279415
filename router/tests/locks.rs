//! Kept values and locks of the session inside the program.

mod support;

use reynard::config::{Config, DataStore};
use reynard::session::{Arguments, Error, ErrorKind, LockGuard, SessionEnd};
use reynard::{Router, Session};
use serde_json::{Value, json};
use std::time::Duration;
use support::{begin, in_memory, soon};
use tokio::sync::mpsc;

async fn pair() -> (Session, Session) {
    let router = Router::open(&in_memory()).expect("set up");
    (
        router.session("realm1").await.expect("set up"),
        router.session("realm1").await.expect("set up"),
    )
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.expect_err("a refusal").refusal()
}

#[tokio::test]
async fn values_are_kept_compared_watched_and_deleted() {
    let (here, there) = pair().await;
    let kv = here.kv();
    let absent = kv.get("app.key").await.unwrap();
    assert!(!absent.exists() && absent.token == 0 && absent.value.is_null());
    let mut watch = there.kv().watch("app.key").await.unwrap();
    let mut own = kv.watch("app.#").await.unwrap();

    let first = kv
        .cas("app.key", Value::Null, json!({"n": 1}))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kv.cas("app.key", Value::Null, 2).await.unwrap(), None);
    let second = kv
        .cas("app.key", json!({"n": 1}), 2)
        .await
        .unwrap()
        .unwrap();
    let third = kv
        .put("app.key", Arguments::new().arg(3).kwarg("k", 1))
        .await
        .unwrap();
    let entry = kv.get("app.key").await.unwrap();
    assert_eq!(
        (&entry.value, entry.token, entry.owner),
        (&json!(3), third, None)
    );
    assert_eq!(entry.args, Some(vec![json!(3)]));
    assert_eq!(entry.kwargs.unwrap()["k"], 1);
    let last = kv.delete("app.key").await.unwrap();
    assert!(first < second && second < third && third < last);
    let entry = kv.get("app.key").await.unwrap();
    assert!(!entry.exists() && entry.token == last);
    for watch in [&mut watch, &mut own] {
        let mut seen = Vec::new();
        for _ in 0..4 {
            let event = soon(watch.next()).await.unwrap();
            seen.push((event.token.unwrap(), event.deleted));
        }
        assert_eq!(
            seen,
            [
                (first, false),
                (second, false),
                (third, false),
                (last, true)
            ]
        );
    }
}

#[tokio::test]
async fn a_lock_has_one_holder_and_passes_on_in_order() {
    let (here, there) = pair().await;
    let first = here.kv().lock("app.lock").await.unwrap();
    assert!(there.kv().try_lock("app.lock").await.unwrap().is_none());
    let timed_out = there
        .kv()
        .lock_within("app.lock", Duration::from_millis(1))
        .await;
    assert_eq!(kind(timed_out), Some(ErrorKind::Timeout));
    assert_eq!(
        there.kv().get("app.lock").await.unwrap().owner,
        Some(here.id())
    );

    let (sender, mut granted) = mpsc::channel::<(usize, LockGuard)>(9);
    for waiter in 0..5 {
        let (session, sender) = (there.clone(), sender.clone());
        tokio::spawn(async move {
            let guard = session.kv().lock("app.lock").await.unwrap();
            sender.send((waiter, guard)).await.unwrap();
        });
        // Each is in the queue before the next one asks.
        while there.kv().get("app.lock").await.unwrap().waiters != waiter + 1 {
            tokio::task::yield_now().await;
        }
    }
    let mut token = first.token();
    drop(first);
    for expected in 0..5 {
        let (waiter, guard) = soon(granted.recv()).await.unwrap();
        assert!(waiter == expected && guard.token() > token);
        assert!(granted.try_recv().is_err(), "one holder at a time");
        token = guard.token();
        guard.release().await.unwrap();
    }
    assert!(!here.kv().get("app.lock").await.unwrap().exists());
}

#[tokio::test]
async fn a_lock_nobody_waits_for_any_more_is_not_kept() {
    let (here, there) = pair().await;
    let first = here.kv().lock("app.lock").await.unwrap();
    let kv = there.kv();
    let mut waiting = Box::pin(kv.lock("app.lock"));
    begin(&mut waiting).await;
    drop(waiting);
    first.release().await.unwrap();
    let next = soon(here.kv().lock("app.lock")).await.unwrap();
    assert_eq!(here.kv().get("app.lock").await.unwrap().token, next.token());
}

#[tokio::test]
async fn a_lock_goes_with_its_session_and_is_never_taken_from_another() {
    let (here, there) = pair().await;
    let lost = here.kv().lock("app.lock").await.unwrap();
    here.close();
    let next = soon(there.kv().lock("app.lock")).await.unwrap();
    assert!(matches!(
        lost.release().await,
        Err(Error::Ended(SessionEnd::Closed))
    ));

    // Overwritten by force: the former holder's release must not delete what is there now.
    there.kv().put("app.lock", "somebody else").await.unwrap();
    assert_eq!(kind(next.release().await), Some(ErrorKind::ConditionFailed));
    assert_eq!(
        there.kv().get("app.lock").await.unwrap().value,
        "somebody else"
    );
}

#[tokio::test]
async fn a_lock_meets_clients_that_say_it_in_their_own_words() {
    let (here, there) = pair().await;
    // What the README's WAMP clients do: no value, a keyword argument, when, watch and will.
    let theirs = there
        .publish("app.lock", Arguments::new().kwarg("pid", 7))
        .retain();
    theirs.when(Value::Null).will(Value::Null).await.unwrap();
    assert_eq!(
        here.kv().get("app.lock").await.unwrap().owner,
        Some(there.id())
    );
    there.close();
    let guard = soon(here.kv().lock("app.lock")).await.unwrap();
    assert_eq!(guard.key(), "app.lock");
}

#[tokio::test]
async fn on_disk_answers_wait_for_the_disk_and_survive() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        data: DataStore::Directory(directory.path().to_owned()),
        ..in_memory()
    };
    let router = Router::open(&config).unwrap();
    let session = router.session("realm1").await.unwrap();
    let kept = session.kv().put("app.kept", json!([1, 2])).await.unwrap();
    let lock = session.kv().lock("app.lock").await.unwrap();
    let token = lock.token();
    // As if the process died: from here on nothing reaches the disk, no release either.
    router.close().await;
    drop((lock, session, router));

    let router = soon(reopened(&config)).await;
    let session = router.session("realm1").await.unwrap();
    let entry = session.kv().get("app.kept").await.unwrap();
    assert_eq!((entry.value, entry.token), (json!([1, 2]), kept));
    let lock = soon(session.kv().lock("app.lock")).await.unwrap();
    assert!(lock.token() > token);
    drop(lock);
    drop(session);
    router.close().await;
}

/// The directory is free once the last task of the former router is gone.
async fn reopened(config: &Config) -> Router {
    loop {
        match Router::open(config) {
            Ok(router) => return router,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_lock_by_call_and_a_guard_exclude_each_other() {
    let (here, there) = pair().await;
    let acquire = |wait: Option<u64>| {
        let options = json!({"wait_ms": wait});
        Arguments::new().arg("app.lock").arg(options)
    };
    let got = here.call("fox.lock.acquire", acquire(None)).await.unwrap();
    let token = got.value()["token"].as_u64().unwrap();
    assert!(there.kv().try_lock("app.lock").await.unwrap().is_none());
    let mut waits = there
        .call_progressive("fox.lock.acquire", acquire(None))
        .await
        .unwrap();
    let place = soon(waits.next()).await.unwrap();
    assert_eq!(place.value(), &json!({"key": "app.lock", "position": 1}));
    // Who drops its call leaves the line.
    drop(waits);
    let empty = async {
        loop {
            let shown = here.call("fox.lock.inspect", acquire(None)).await.unwrap();
            if shown.value()["waiting"] == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(empty).await;
    let released = Arguments::new().arg(token);
    here.call("fox.lock.release", released).await.unwrap();
    let guard = there.kv().try_lock("app.lock").await.unwrap().unwrap();
    assert!(guard.token() > token);
    let held = here.call("fox.lock.acquire", acquire(Some(0))).await;
    assert_eq!(kind(held), Some(ErrorKind::LockHeld));
    guard.release().await.unwrap();
    let again = here.call("fox.lock.acquire", acquire(None)).await.unwrap();
    assert!(again.value()["token"].as_u64() > Some(token));
}
