//! Procedures, kept values and locks of the session inside the program.

mod support;

use reynard::config::{Config, DataStore};
use reynard::session::{
    AppError, Arguments, Error, ErrorKind, Invocation, InvokePolicy, LockGuard, RegisterOptions,
    Registration, SessionEnd,
};
use reynard::{Router, Session};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{begin, in_memory, soon};
use tokio::sync::{Notify, Semaphore, mpsc};

async fn pair() -> (Session, Session) {
    let router = Router::open(&in_memory()).expect("set up");
    (
        router.session("realm1").await.expect("set up"),
        router.session("realm1").await.expect("set up"),
    )
}

async fn add(session: &Session) -> Registration {
    let add = |call: Invocation| async move {
        let (a, b): (i64, i64) = call
            .values
            .get()
            .map_err(|_| AppError::invalid_argument("two numbers"))?;
        Ok(a + b)
    };
    session
        .register("app.add", RegisterOptions::new(), add)
        .await
        .expect("set up")
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.expect_err("a refusal").refusal()
}

#[tokio::test]
async fn calls_are_answered_until_the_procedure_is_withdrawn() {
    let (here, there) = pair().await;
    let registration = add(&here).await;
    for session in [&here, &there] {
        let sum = soon(async {
            session
                .call("app.add", Arguments::new().arg(1).arg(2))
                .await
        })
        .await;
        assert_eq!(sum.unwrap().get::<i64>().unwrap(), 3);
    }
    let taken = there
        .register("app.add", RegisterOptions::new(), |_| async { Ok(()) })
        .await;
    assert_eq!(kind(taken), Some(ErrorKind::ProcedureAlreadyExists));
    registration.unregister().await.unwrap();
    assert_eq!(
        kind(there.call("app.add", 1).await),
        Some(ErrorKind::NoSuchProcedure)
    );
    drop(add(&here).await);
    assert_eq!(
        kind(there.call("app.add", 1).await),
        Some(ErrorKind::NoSuchProcedure)
    );
    assert_eq!(
        kind(there.call("wamp.x", 1).await),
        Some(ErrorKind::NoSuchProcedure)
    );
}

#[tokio::test]
async fn a_handler_and_what_it_holds_go_with_the_registration() {
    let (here, _) = pair().await;
    let held = Arc::new(here.clone());
    let weak = Arc::downgrade(&held);
    let handler = move |_: Invocation| {
        let session = held.clone();
        async move { Ok(session.id()) }
    };
    let registration = here
        .register("app.id", RegisterOptions::new(), handler)
        .await
        .unwrap();
    let id = here.call("app.id", ()).await.unwrap();
    assert_eq!(id.get::<u64>().unwrap(), here.id());
    assert_eq!(weak.strong_count(), 1);
    drop(registration);
    assert_eq!(weak.strong_count(), 0);
}

#[tokio::test]
async fn errors_reach_the_caller_with_their_values() {
    let (here, there) = pair().await;
    let _registration = here
        .register(
            "app.fail",
            RegisterOptions::new(),
            |call: Invocation| async move {
                assert!(call.values.value() != &json!("panic"), "as told");
                let values = Arguments::new().arg("sold out").kwarg("left", 0);
                Err::<(), _>(AppError::new("app.error.sold_out", values))
            },
        )
        .await
        .unwrap();
    let Err(Error::Callee { error, values }) = there.call("app.fail", ()).await else {
        panic!()
    };
    assert_eq!(
        (error.as_str(), values.value()),
        ("app.error.sold_out", &json!("sold out"))
    );
    assert_eq!(values.kwarg("left"), Some(&json!(0)));
    // A panic is an answer, and the procedure lives.
    for _ in 0..3 {
        let failed = soon(async { there.call("app.fail", "panic").await }).await;
        let Err(Error::Callee { error, .. }) = failed else {
            panic!()
        };
        assert_eq!(error, "wamp.error.runtime_error");
    }
}

#[tokio::test]
async fn no_more_invocations_run_than_the_concurrency_allows() {
    let (here, there) = pair().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now_in, most_in) = (now.clone(), most.clone());
    let options = RegisterOptions::new().concurrency(NonZeroU32::new(2).unwrap());
    let _registration = here
        .register("app.slow", options, move |call: Invocation| {
            let (now, most) = (now_in.clone(), most_in.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(call.values.value().clone())
            }
        })
        .await
        .unwrap();
    let calls = (0..50).map(|n| {
        let there = there.clone();
        async move {
            there
                .call("app.slow", n)
                .await
                .unwrap()
                .get::<u32>()
                .unwrap()
        }
    });
    let answers = soon(futures_util::future::join_all(calls)).await;
    assert_eq!(answers, (0..50).collect::<Vec<_>>());
    assert_eq!(
        (now.load(Ordering::SeqCst), most.load(Ordering::SeqCst)),
        (0, 2)
    );
}

#[tokio::test]
async fn progress_comes_before_the_result_and_only_if_wanted() {
    let (here, there) = pair().await;
    let _registration = here
        .register(
            "app.count",
            RegisterOptions::new(),
            |call: Invocation| async move {
                for n in 0..3 {
                    call.progress(n)
                        .await
                        .map_err(|error| AppError::runtime(&error.to_string()))?;
                }
                Ok(call.wants_progress())
            },
        )
        .await
        .unwrap();
    let mut call = there.call_progressive("app.count", ()).await.unwrap();
    for n in 0..3 {
        assert_eq!(soon(call.next()).await.unwrap().value(), &json!(n));
    }
    assert!(soon(call.next()).await.is_none());
    assert_eq!(call.result().await.unwrap().value(), &json!(true));
    assert_eq!(
        there.call("app.count", ()).await.unwrap().value(),
        &json!(false)
    );
}

/// A procedure that tells when it begins and when its future is dropped, and never answers.
async fn endless(session: &Session) -> (Registration, mpsc::Receiver<&'static str>) {
    struct Tell(mpsc::Sender<&'static str>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.try_send("dropped");
        }
    }
    let (sender, receiver) = mpsc::channel(9);
    let handler = move |_: Invocation| {
        let tell = Tell(sender.clone());
        async move {
            let _ = tell.0.try_send("begun");
            std::future::pending::<Result<(), AppError>>().await
        }
    };
    let options = RegisterOptions::new().concurrency(NonZeroU32::MIN);
    (
        session
            .register("app.endless", options, handler)
            .await
            .expect("set up"),
        receiver,
    )
}

#[tokio::test]
async fn dropping_a_call_cancels_it_at_the_callee() {
    let (here, there) = pair().await;
    let (_registration, mut told) = endless(&here).await;
    // One at a time: the second call runs only because the first one's place became free.
    for _ in 0..2 {
        let call = there.call_progressive("app.endless", ()).await.unwrap();
        assert_eq!(soon(told.recv()).await, Some("begun"));
        drop(call);
        assert_eq!(soon(told.recv()).await, Some("dropped"));
    }
    let late = there
        .call("app.endless", ())
        .timeout(Duration::from_millis(1))
        .await;
    assert_eq!(kind(late), Some(ErrorKind::Timeout));
    assert_eq!(soon(told.recv()).await, Some("begun"));
    assert_eq!(soon(told.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn a_session_that_ends_drops_its_handlers_and_their_callers_are_told() {
    let (here, there) = pair().await;
    let (registration, mut told) = endless(&here).await;
    let mut call = there.call_progressive("app.endless", ()).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some("begun"));
    here.close();
    assert!(soon(call.next()).await.is_none());
    assert_eq!(kind(call.result().await), Some(ErrorKind::Canceled));
    assert_eq!(soon(told.recv()).await, Some("dropped"));
    // The handler itself is gone too, and with it its channel.
    assert_eq!(soon(told.recv()).await, None);
    let ended = registration.unregister().await;
    assert!(matches!(ended, Err(Error::Ended(SessionEnd::Closed))));
}

#[tokio::test]
async fn a_withdrawn_procedure_still_answers_what_it_began() {
    let (here, there) = pair().await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (begun_in, go_in) = (begun.clone(), go.clone());
    let registration = here
        .register("app.wait", RegisterOptions::new(), move |_| {
            let (begun, go) = (begun_in.clone(), go_in.clone());
            async move {
                begun.notify_one();
                go.acquire()
                    .await
                    .map_err(|_| AppError::runtime("closed"))?
                    .forget();
                Ok("done")
            }
        })
        .await
        .unwrap();
    let call = there.call_progressive("app.wait", ()).await.unwrap();
    soon(begun.notified()).await;
    registration.unregister().await.unwrap();
    go.add_permits(1);
    assert_eq!(soon(call.result()).await.unwrap().value(), &json!("done"));
}

#[tokio::test]
async fn callees_that_agree_share_a_procedure() {
    let (here, there) = pair().await;
    let options = RegisterOptions::new().shared(InvokePolicy::RoundRobin);
    let name = |name: &'static str| move |_: Invocation| async move { Ok(name) };
    let _first = here
        .register("app.who", options, name("here"))
        .await
        .unwrap();
    let _second = there
        .register("app.who", options, name("there"))
        .await
        .unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(
            here.call("app.who", ())
                .await
                .unwrap()
                .get::<String>()
                .unwrap(),
        );
    }
    assert_eq!(answers, ["here", "there", "here", "there"]);
    let again = here.register("app.who", options, name("again")).await;
    assert_eq!(kind(again), Some(ErrorKind::ProcedureAlreadyExists));
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
