//! Procedures of the session inside the program.

mod support;

use reynard::session::{
    AppError, Arguments, Error, ErrorKind, Invocation, InvokePolicy, RegisterOptions, Registration,
    SessionEnd,
};
use reynard::{Router, Session};
use serde_json::json;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{in_memory, soon};
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
    // A plain call is given up with its future.
    tokio::select! {
        biased;
        begun = soon(told.recv()) => assert_eq!(begun, Some("begun")),
        answer = there.call("app.endless", ()) => panic!("answered: {answer:?}"),
    }
    assert_eq!(soon(told.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn a_call_that_times_out_leaves_the_queue_of_its_procedure() {
    let (here, there) = pair().await;
    let (_registration, mut told) = endless(&here).await;
    let first = there.call_progressive("app.endless", ()).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some("begun"));
    let late = there
        .call("app.endless", ())
        .timeout(Duration::from_millis(1))
        .await;
    assert_eq!(kind(late), Some(ErrorKind::Timeout));
    // The third call is the next to run: were the second still waiting, it would begin, and the
    // third would have to wait for it without end.
    let third = there.call_progressive("app.endless", ()).await.unwrap();
    drop(first);
    assert_eq!(soon(told.recv()).await, Some("dropped"));
    assert_eq!(soon(told.recv()).await, Some("begun"));
    drop(third);
    assert_eq!(soon(told.recv()).await, Some("dropped"));
    assert!(told.try_recv().is_err(), "the second call was run");
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
