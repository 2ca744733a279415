//! The session inside the program: publishing, subscribing, and how it ends.

mod support;

use futures_util::StreamExt as _;
use reynard::config::{Config, Limits};
use reynard::session::{
    Arguments, EnterError, Error, ErrorKind, Event, Mqtt, Raw, SessionEnd, SubscribeOptions,
    Subscription,
};
use reynard::{Router, Session};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::{begin, in_memory, soon};

async fn pair() -> (Router, Session, Session) {
    let router = Router::open(&in_memory()).expect("set up");
    let (first, second) = (join(&router).await, join(&router).await);
    (router, first, second)
}

async fn join(router: &Router) -> Session {
    router.session("realm1").await.expect("set up")
}

async fn listen(session: &Session, pattern: &str) -> Subscription {
    session
        .subscribe(pattern, SubscribeOptions::new())
        .await
        .expect("set up")
}

async fn next(subscription: &mut Subscription) -> Event {
    soon(subscription.next()).await.expect("an event")
}

#[tokio::test]
async fn events_arrive_in_order_with_their_values() {
    let (_router, here, there) = pair().await;
    let mut events = listen(&there, "app.#").await;
    for count in 0..1_000 {
        here.publish("app.count", count).send().await.unwrap();
    }
    let both = Arguments::new().arg(1).kwarg("k", "v");
    let published = here
        .publish(Mqtt("app/both"), both)
        .disclose_me()
        .await
        .unwrap();
    assert!(published.matched && published.token.is_none());
    for count in 0..1_000 {
        assert_eq!(next(&mut events).await.values.get::<u32>().unwrap(), count);
    }
    let event = next(&mut events).await;
    assert_eq!(
        (event.topic.to_string().as_str(), event.topic.mqtt()),
        ("app.both", Some("app/both"))
    );
    assert_eq!(event.publication, published.publication);
    assert_eq!(
        (event.values.value(), event.values.kwarg("k")),
        (&json!(1), Some(&json!("v")))
    );
    assert_eq!(
        event.publisher.map(|publisher| publisher.session.0),
        Some(here.id())
    );
    here.publish("app.raw", Raw("\u{1}".into())).await.unwrap();
    assert_eq!(&*next(&mut events).await.values.bytes(), b"\x01");
}

#[tokio::test]
async fn a_publisher_hears_itself_only_if_it_wants_to() {
    let (_router, here, _) = pair().await;
    let mut events = listen(&here, "app.self").await;
    here.publish("app.self", 1).await.unwrap();
    here.publish("app.self", 2).include_me().await.unwrap();
    let event = next(&mut events).await;
    assert_eq!((event.values.value(), event.publisher), (&json!(2), None));
}

#[tokio::test]
async fn retained_values_are_replayed_to_those_who_ask_and_snapshots_end() {
    let (_router, here, there) = pair().await;
    let first = here.publish("app.a", 1).retain().await.unwrap();
    here.publish("app.b", 2).retain().await.unwrap();
    let mut live = listen(&there, "app.#").await;
    let mut all = there
        .subscribe("app.#", SubscribeOptions::new().retained())
        .await
        .unwrap();
    let snapshot = there.subscribe("app.#", SubscribeOptions::new().snapshot().retained());
    let snapshot: Vec<Event> = soon(snapshot.await.unwrap().collect()).await;
    assert_eq!(snapshot.len(), 2);
    assert!(snapshot.iter().all(|event| event.replayed));
    assert_eq!(snapshot[0].token, first.token);

    here.publish("app.a", ()).retain().await.unwrap();
    let seen = [
        next(&mut all).await,
        next(&mut all).await,
        next(&mut all).await,
    ];
    assert_eq!(
        seen.each_ref().map(|e| (e.replayed, e.deleted)),
        [(true, false), (true, false), (false, true)]
    );
    // The same subscription in the realm, but this stream did not ask for a replay.
    let event = next(&mut live).await;
    assert!(event.deleted && event.token > first.token);
}

#[tokio::test]
async fn history_is_replayed_after_a_publication() {
    let (_router, here, there) = pair().await;
    let mut published = Vec::new();
    for count in 0..3 {
        published.push(
            here.publish("app.log", count)
                .trace()
                .await
                .unwrap()
                .publication,
        );
    }
    let options = SubscribeOptions::new().after(published[0]);
    let mut events = there.subscribe("app.log", options).await.unwrap();
    assert_eq!(next(&mut events).await.publication, published[1]);
    assert_eq!(next(&mut events).await.publication, published[2]);
}

#[tokio::test]
async fn filters_are_applied_by_the_realm() {
    let (_router, here, there) = pair().await;
    let options = SubscribeOptions::new().filter(json!({"kind": "b"}));
    let mut events = there.subscribe("app.event", options).await.unwrap();
    here.publish("app.event", json!({"kind": "a"}))
        .await
        .unwrap();
    here.publish("app.event", json!({"kind": "b", "n": 1}))
        .await
        .unwrap();
    assert_eq!(next(&mut events).await.values.value()["n"], 1);
}

#[tokio::test]
async fn streams_that_share_a_subscription_are_independent() {
    let (router, here, there) = pair().await;
    let mut first = listen(&there, "app.x").await;
    let second = listen(&there, "app.x").await;
    let held = || {
        router
            .hub()
            .stats()
            .sizes
            .iter()
            .find(|(name, _)| *name == "subscriptions")
            .unwrap()
            .1
    };
    assert_eq!(held(), 1);
    drop(second);
    here.publish("app.x", 1).await.unwrap();
    assert_eq!(next(&mut first).await.values.value(), &json!(1));
    // The last one goes while another is being asked for: the realm must not lose that one.
    let mut again = Box::pin(there.subscribe("app.x", SubscribeOptions::new()));
    begin(&mut again).await;
    drop(first);
    let mut again = again.await.unwrap();
    assert!(here.publish("app.x", 2).await.unwrap().matched);
    assert_eq!(next(&mut again).await.values.value(), &json!(2));
    drop(again);
    assert_eq!(held(), 0);
    assert!(!here.publish("app.x", 3).await.unwrap().matched);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_and_leaving_at_the_same_time_loses_nothing() {
    let (_router, here, there) = pair().await;
    for _ in 0..200 {
        let old = listen(&there, "app.race").await;
        let leaving = tokio::spawn(async move { drop(old) });
        let mut new = listen(&there, "app.race").await;
        soon(leaving).await.unwrap();
        assert!(here.publish("app.race", 1).await.unwrap().matched);
        next(&mut new).await;
    }
}

#[tokio::test]
async fn a_subscribe_that_is_given_up_leaves_nothing_behind() {
    let (router, here, there) = pair().await;
    let mut asking = Box::pin(there.subscribe("app.x", SubscribeOptions::new()));
    begin(&mut asking).await;
    drop(asking);
    // Answers come in order, so the one nobody waited for has been dealt with.
    there.publish("app.y", 1).await.unwrap();
    assert!(!here.publish("app.x", 1).await.unwrap().matched);
    drop(router);
}

#[tokio::test]
async fn refusals_tell_what_was_wrong() {
    let (_router, here, _) = pair().await;
    let error = here.publish("app..x", 1).await.unwrap_err();
    assert!(matches!(error, Error::Name { name, .. } if name == "app..x"));
    assert!(here.publish("app..x", 1).send().await.is_err());
    let error = here
        .publish("app.x", 1)
        .when(Value::Null)
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some(ErrorKind::InvalidArgument));
    let error = here.publish("wamp.x", 1).await.unwrap_err();
    assert_eq!(error.refusal(), Some(ErrorKind::NotAuthorized));
    here.publish("app.x", 1).retain().await.unwrap();
    let error = here
        .publish("app.x", 2)
        .retain()
        .when(Value::Null)
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some(ErrorKind::ConditionFailed));
    let waits = here.publish("app.x", 2).retain().when(Value::Null);
    let error = soon(waits.watch_timeout(Duration::from_millis(1)).acknowledge())
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some(ErrorKind::Timeout));
    here.publish("app.x", json!({"a": 1}))
        .retain()
        .merge()
        .await
        .unwrap();
    assert_eq!(here.kv().get("app.x").await.unwrap().value, json!({"a": 1}));
}

#[tokio::test]
async fn realms_that_cannot_be_entered_are_refused() {
    let router = Router::open(&Config {
        auto_realms: false,
        ..in_memory()
    })
    .unwrap();
    let refused = router.session("nowhere").await;
    assert!(matches!(
        refused,
        Err(Error::Enter(EnterError::NoSuchRealm))
    ));
    let router = Router::open(&in_memory()).unwrap();
    let refused = router.session("a..b").await;
    assert!(matches!(
        refused,
        Err(Error::Enter(EnterError::InvalidRealm))
    ));
    router.start_drain();
    let refused = router.session("realm1").await;
    assert!(matches!(
        refused,
        Err(Error::Enter(EnterError::ShuttingDown))
    ));
}

#[tokio::test]
async fn a_role_binds_the_program_too() {
    let text = "memory = true\n[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"reader\"\n\
                allow = [\"subscribe #\", \"call #\"]\n";
    let router = Router::open(&Config::from_toml(Path::new("r.toml"), text).unwrap()).unwrap();
    let reader = router
        .session("realm1")
        .role("reader")
        .authid("desk")
        .await
        .unwrap();
    assert_eq!(
        (reader.role(), reader.authid(), reader.realm()),
        ("reader", "desk", "realm1")
    );
    let error = reader.publish("app.x", 1).await.unwrap_err();
    assert_eq!(error.refusal(), Some(ErrorKind::NotAuthorized));
    let owner = join(&router).await;
    assert_eq!((owner.role(), owner.authid()), ("trusted", "internal"));
    owner.publish("app.x", 1).retain().await.unwrap();
    assert_eq!(reader.kv().get("app.x").await.unwrap().value, 1);
    let details = owner.call("wamp.session.get", reader.id()).await.unwrap();
    assert_eq!(
        details.value()["transport"],
        json!({"protocol": "internal"})
    );
    assert_eq!(details.value()["authmethod"], "internal");
}

#[tokio::test]
async fn closing_is_clean_and_dropping_is_losing() {
    let (router, here, _) = pair().await;
    let mut ends = listen(&here, "wamp.session.on_leave").await;
    for (clean, expected) in [(true, json!("alive")), (false, json!("lost"))] {
        let session = join(&router).await;
        let id = session.id();
        let publish = session.publish("app.state", "alive").retain();
        publish.will_if_lost("lost").await.unwrap();
        let mut stream = listen(&session, "app.never").await;
        if clean {
            session.close();
            assert_eq!(session.end(), Some(SessionEnd::Closed));
            assert!(soon(stream.next()).await.is_none());
            let refused = session.publish("app.x", 1).await;
            assert!(matches!(refused, Err(Error::Ended(SessionEnd::Closed))));
            let refused = session.subscribe("app.x", SubscribeOptions::new()).await;
            assert!(matches!(refused, Err(Error::Ended(SessionEnd::Closed))));
        }
        // Every handle keeps the session; the last one to go ends it.
        drop(session);
        assert_eq!(stream.session().end().is_some(), clean);
        drop(stream);
        assert_eq!(next(&mut ends).await.values.args()[0], id);
        assert_eq!(here.kv().get("app.state").await.unwrap().value, expected);
    }
}

#[tokio::test]
async fn who_waits_when_the_session_ends_is_told() {
    let (_router, here, there) = pair().await;
    here.kv().put("app.busy", 1).await.unwrap();
    let waits = there
        .publish("app.busy", 2)
        .retain()
        .when(Value::Null)
        .watch();
    let kill = async {
        let reason = Arguments::new().arg(there.id()).kwarg("reason", "app.kick");
        here.call("wamp.session.kill", reason).await.unwrap();
    };
    let (waited, ()) = soon(async { tokio::join!(waits.acknowledge(), kill) }).await;
    let killed = SessionEnd::Killed {
        reason: "app.kick".to_owned(),
        message: None,
    };
    assert!(matches!(waited, Err(Error::Ended(end)) if end == killed));
    assert_eq!(soon(there.ended()).await, killed);
}

#[tokio::test]
async fn a_program_that_does_not_read_loses_its_session_and_is_told() {
    let limits = Limits {
        max_outbox_frames: 64,
        ..Limits::default()
    };
    let router = Router::open(&Config {
        limits,
        ..in_memory()
    })
    .unwrap();
    let (here, there) = (join(&router).await, join(&router).await);
    let mut events = listen(&there, "app.flood").await;
    // Answers are not held up by events that nobody reads.
    for count in 0..60 {
        here.publish("app.flood", count).await.unwrap();
        there.publish("app.other", 1).await.unwrap();
    }
    assert_eq!(there.end(), None);
    for count in 60..80 {
        here.publish("app.flood", count).await.unwrap();
    }
    assert_eq!(soon(there.ended()).await, SessionEnd::TooSlow);
    let mut read = 0;
    while let Some(event) = soon(events.next()).await {
        assert_eq!(event.values.value(), &json!(read));
        read += 1;
    }
    assert_eq!(read, 64);
    assert!(!here.publish("app.flood", 0).await.unwrap().matched);
}

#[tokio::test]
async fn a_router_that_drains_ends_its_sessions() {
    let (router, here, there) = pair().await;
    let mut events = listen(&there, "app.x").await;
    router.start_drain();
    assert_eq!(soon(here.ended()).await, SessionEnd::Shutdown);
    assert!(soon(events.next()).await.is_none());
    soon(router.close()).await;
    assert!(matches!(
        here.publish("app.x", 1).await,
        Err(Error::Ended(SessionEnd::Shutdown))
    ));
}

#[tokio::test]
async fn a_session_keeps_its_router() {
    let session = Router::open(&in_memory())
        .unwrap()
        .session("realm1")
        .await
        .unwrap();
    let published = session.publish("app.x", 1).retain().await.unwrap();
    assert_eq!(
        session.kv().get("app.x").await.unwrap().token,
        published.token.unwrap()
    );
    assert_eq!(session.end(), None);
}

/// `tokio::join!` and `soon` want futures, not builders.
trait Acknowledge {
    async fn acknowledge(self) -> Result<reynard::session::Published, Error>;
}

impl Acknowledge for reynard::session::Publish<'_> {
    async fn acknowledge(self) -> Result<reynard::session::Published, Error> {
        self.await
    }
}
