//! Commands under locks of a router that says what the test tells it to.

use super::super::Mode;
use super::*;
use crate::cli::testing::{Ended, against};
use protocols::wamp::message::{Event, Message};
use router_client::testing::Router;
use std::time::Duration;

const SUBSCRIPTION: u64 = 3;

/// A command that ends only by a signal.
const ENDLESS: &str = "exec sleep 100000";

fn command(script: &str) -> Run {
    Run {
        key: "a.b".to_owned(),
        mode: Mode::Exclusive,
        wait: None,
        // No test may end because a machine is slow.
        ttl: Duration::from_secs(3600),
        permits: None,
        limit: None,
        data: Some("{\"host\":\"h\"}".to_owned()),
        kill_after: Duration::from_secs(5),
        command: ["sh", "-c", script].map(Into::into).to_vec(),
    }
}

async fn ended<S, R>(is_json: bool, args: &Run, script: S) -> Ended
where
    S: AsyncFnOnce(Router) -> R,
{
    against(is_json, script, async |session, console| {
        run(&session, args, console).await
    })
    .await
}

/// Answers everything up to the start of the command.
async fn grant(router: &mut Router, token: u64) {
    router.subscribed(SUBSCRIPTION).await;
    let call = router.called("fox.lock.acquire").await;
    router.answer(call.request, &[granted(token)]).await;
    confirm(router).await;
}

fn granted(token: u64) -> Value {
    json!({"key": "a.b", "token": token, "mode": "exclusive", "expires": 1, "position": 0})
}

async fn confirm(router: &mut Router) {
    let call = router.called("fox.lock.renew").await;
    let (args, kwargs) = router.values(&call.payload);
    assert_eq!(args[0], "a.b");
    assert!(kwargs["ttl_ms"].is_u64(), "{kwargs:?}");
    let answer = json!({"key": "a.b", "token": args[1], "expires": 1});
    router.answer(call.request, &[answer]).await;
}

async fn lose(router: &mut Router, token: u64) {
    let loss = json!({"key": "a.b", "token": token, "reason": "broken"});
    let payload = router.payload(&[loss]);
    router
        .send(Event {
            subscription: SUBSCRIPTION,
            publication: 1,
            details: Dict::new(),
            payload,
        })
        .await;
}

#[tokio::test]
async fn a_command_runs_between_the_grant_and_the_release() {
    let script = async |mut router: Router| {
        router.subscribed(SUBSCRIPTION).await;
        let call = router.called("fox.lock.acquire").await;
        let (args, kwargs) = router.values(&call.payload);
        assert_eq!(args, [json!("a.b")]);
        let options = json!({"mode": "exclusive", "ttl_ms": 3_600_000, "data": {"host": "h"}});
        assert_eq!(Value::from(kwargs), options);
        for position in [2, 1] {
            let place = json!({"key": "a.b", "position": position});
            router.progress(call.request, &[place]).await;
        }
        router.answer(call.request, &[granted(12)]).await;
        confirm(&mut router).await;
        let call = router.called("fox.lock.release").await;
        let (args, _) = router.values(&call.payload);
        assert_eq!(args, [json!("a.b"), json!(12)]);
        router.answer(call.request, &[json!({"held": 0})]).await;
        router
    };
    let ended = ended(false, &command("exit 7"), script).await;
    let said = "reynard: waiting for a.b, position 2\nreynard: waiting for a.b, position 1\n\
                reynard: got a.b, token 12\n";
    assert_eq!((ended.code, ended.err.as_str()), (7, said));
}

#[tokio::test]
async fn the_way_of_a_lock_is_told_in_json_lines() {
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        let call = router.called("fox.lock.release").await;
        router.answer(call.request, &[json!({"held": 0})]).await;
        router
    };
    let ended = ended(true, &command("exit 0"), script).await;
    let lines: Vec<Value> = ended
        .err
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        lines,
        [
            json!({"event": "acquired", "key": "a.b", "token": 12}),
            json!({"event": "released", "key": "a.b", "code": 0}),
        ]
    );
}

#[tokio::test]
async fn a_held_lock_is_exit_code_4_and_the_command_does_not_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ran");
    let touch = format!("touch {}", path.display());
    for (error, code) in [
        ("fox.error.lock_held", 4),
        ("wamp.error.timeout", 4),
        ("wamp.error.not_authorized", 1),
    ] {
        let script = async |mut router: Router| {
            router.subscribed(SUBSCRIPTION).await;
            let call = router.called("fox.lock.acquire").await;
            router.fail(call.request, error, &[], &Dict::new()).await;
            router
        };
        let ended = ended(false, &command(&touch), script).await;
        assert_eq!(ended.code, code, "{}", ended.err);
    }
    assert!(!path.exists(), "the command ran without the lock");
}

#[tokio::test]
async fn a_lock_that_is_gone_before_the_command_starts_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ran");
    let touch = format!("touch {}", path.display());
    let script = async |mut router: Router| {
        router.subscribed(SUBSCRIPTION).await;
        let call = router.called("fox.lock.acquire").await;
        router.answer(call.request, &[granted(12)]).await;
        let call = router.called("fox.lock.renew").await;
        let error = "fox.error.lock_lost";
        router.fail(call.request, error, &[], &Dict::new()).await;
        router
    };
    let ended = ended(false, &command(&touch), script).await;
    assert_eq!(ended.code, 5, "{}", ended.err);
    assert!(!path.exists(), "the command ran without the lock");
}

#[tokio::test]
async fn the_command_is_stopped_when_the_router_takes_the_lock_away() {
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        // Another lock of this session.
        lose(&mut router, 11).await;
        lose(&mut router, 12).await;
        let next = router.try_receive().await;
        assert!(next.is_none(), "{next:?} after the loss");
    };
    let ended = ended(false, &command(ENDLESS), script).await;
    let said = "reynard: a.b is lost: broken; stopping the command\n";
    assert_eq!((ended.code, ended.err.as_str()), (5, said));
}

#[tokio::test]
async fn the_command_is_stopped_when_the_connection_is_lost() {
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        drop(router);
    };
    let ended = ended(true, &command(ENDLESS), script).await;
    assert_eq!(ended.code, 5);
    let last = ended.err.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(
        (&last["event"], &last["token"]),
        (&json!("lost"), &json!(12))
    );
}

/// The clock of the test runs ahead as soon as nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_and_the_command_stopped_when_that_is_not_confirmed() {
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        for _ in 0..100 {
            confirm(&mut router).await;
        }
        let call = router.called("fox.lock.renew").await;
        let refused = "wamp.error.unavailable";
        router.fail(call.request, refused, &[], &Dict::new()).await;
        router.called("fox.lock.renew").await;
        router
    };
    let mut args = command(ENDLESS);
    args.ttl = Duration::from_secs(10);
    let ended = ended(false, &args, script).await;
    let said = "reynard: a.b is lost: the lease could not be renewed in time; stopping the \
                command\n";
    assert_eq!((ended.code, ended.err.as_str()), (5, said));
}

#[tokio::test]
async fn a_lock_that_cannot_be_given_back_may_have_been_lost() {
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        let call = router.called("fox.lock.release").await;
        let error = "fox.error.lock_lost";
        router.fail(call.request, error, &[], &Dict::new()).await;
        router
    };
    assert_eq!(ended(false, &command("exit 0"), script).await.code, 5);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_gives_the_lock_back() {
    let mut args = command("");
    args.command = vec!["/nonexistent/program".into()];
    let script = async |mut router: Router| {
        grant(&mut router, 12).await;
        let call = router.called("fox.lock.release").await;
        router.answer(call.request, &[json!({"held": 0})]).await;
        router
    };
    let ended = ended(false, &args, script).await;
    assert_eq!(ended.code, 127);
    assert!(ended.err.contains("/nonexistent/program"), "{}", ended.err);
}

#[tokio::test]
async fn without_the_right_to_hear_of_losses_the_command_runs_all_the_same() {
    let script = async |mut router: Router| {
        let Message::Subscribe(subscribe) = router.receive().await else {
            panic!("no SUBSCRIBE");
        };
        router
            .send(protocols::wamp::message::ErrorMessage {
                request_type: 32,
                request: subscribe.request,
                details: Dict::new(),
                error: "wamp.error.not_authorized".into(),
                payload: router.payload(&[]),
            })
            .await;
        let call = router.called("fox.lock.acquire").await;
        router.answer(call.request, &[granted(12)]).await;
        confirm(&mut router).await;
        let call = router.called("fox.lock.release").await;
        router.answer(call.request, &[json!({"held": 0})]).await;
        router
    };
    let ended = ended(false, &command("exit 3"), script).await;
    assert_eq!(ended.code, 3);
    assert!(
        ended.err.contains("no subscription to fox.lock.on_lost"),
        "{}",
        ended.err
    );
}
