//! Sessions against a scripted router in the same process, over a pipe in memory.

use crate::testing::{joined, pair};
use crate::{
    Arguments, Cancel, ClientError, Closed, Credentials, Dict, Failure, Join, Serializer, Session,
};
use protocols::wamp::message::{
    Abort, Challenge, ErrorMessage, Event, Goodbye, Invocation, Message, Payload, Published,
    Registered, ResultMessage, Subscribed, Welcome,
};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

fn ticket() -> Credentials {
    Credentials::Ticket {
        authid: "joe".to_owned(),
        ticket: "secret".to_owned(),
    }
}

fn join_as(serializer: Serializer, realm: &str, credentials: Credentials) -> Join {
    Join {
        serializer,
        credentials,
        ..Join::new(realm, "test")
    }
}

#[tokio::test]
async fn a_session_tells_what_it_can_do_and_learns_its_id() {
    let (socket, mut router) = pair(Serializer::Json).await;
    let how = Join::new("realm1", "test");
    let join = Session::join(socket, &how);
    let (session, details) = tokio::join!(join, router.welcome());
    assert_eq!(session.unwrap().id(), 77);
    assert_eq!(details["authmethods"], json!(["anonymous"]));
    let callee = &details["roles"]["callee"]["features"];
    assert_eq!(callee["progressive_call_results"], true);
    assert!(!details.contains_key("authid"));
    assert_eq!(details["agent"], "test");
}

#[tokio::test]
async fn a_ticket_is_given_when_it_is_asked_for() {
    let (socket, mut router) = pair(Serializer::Msgpack).await;
    let how = join_as(Serializer::Msgpack, "realm1", ticket());
    let join = Session::join(socket, &how);
    let script = async {
        let Message::Hello(hello) = router.receive().await else {
            panic!("no HELLO");
        };
        assert_eq!(hello.details["authmethods"], json!(["ticket"]));
        assert_eq!(hello.details["authid"], "joe");
        let extra = Dict::new();
        router
            .send(Challenge {
                method: "ticket".into(),
                extra,
            })
            .await;
        let Message::Authenticate(proof) = router.receive().await else {
            panic!("no AUTHENTICATE");
        };
        assert_eq!(&*proof.signature, "secret");
        let details = Dict::new();
        router
            .send(Welcome {
                session: 5,
                details,
            })
            .await;
    };
    let (session, ()) = tokio::join!(join, script);
    assert_eq!(session.unwrap().id(), 5);
}

#[tokio::test]
async fn a_ticket_goes_to_no_other_method() {
    let (socket, mut router) = pair(Serializer::Json).await;
    let how = join_as(Serializer::Json, "realm1", ticket());
    let join = Session::join(socket, &how);
    let script = async {
        router.receive().await;
        let extra = Dict::new();
        router
            .send(Challenge {
                method: "wampcra".into(),
                extra,
            })
            .await;
    };
    let (session, ()) = tokio::join!(join, script);
    let error = session.unwrap_err().to_string();
    assert!(error.contains("wampcra"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_refused_session_says_why() {
    let (socket, mut router) = pair(Serializer::Json).await;
    let how = join_as(Serializer::Json, "nowhere", Credentials::Anonymous);
    let join = Session::join(socket, &how);
    let script = async {
        router.receive().await;
        let mut details = Dict::new();
        details.insert("message".to_owned(), json!("there is none"));
        let reason = "wamp.error.no_such_realm".into();
        router
            .send(Abort {
                details,
                reason,
                payload: Payload::EMPTY,
            })
            .await;
    };
    let (session, ()) = tokio::join!(join, script);
    assert_eq!(
        session.unwrap_err().to_string(),
        "the router refused the session: wamp.error.no_such_realm: there is none"
    );
}

#[tokio::test]
async fn a_peer_that_is_no_router_is_found_out() {
    for frame in [
        Frame::text("hello"),
        Frame::text("[36,1,1,{}]"),
        Frame::binary(vec![0x90]),
    ] {
        let (socket, mut router) = pair(Serializer::Json).await;
        let how = join_as(Serializer::Json, "realm1", Credentials::Anonymous);
        let join = Session::join(socket, &how);
        let script = async {
            router.receive().await;
            router.frame(frame.clone()).await;
        };
        let (session, ()) = tokio::join!(join, script);
        let error = session.unwrap_err();
        let is_violation = matches!(error, ClientError::Closed(Closed::Violation(_)));
        assert!(is_violation, "{frame:?}: {error}");
    }
}

#[tokio::test]
async fn publishes_are_acknowledged_while_more_are_on_their_way() {
    for serializer in [Serializer::Json, Serializer::Msgpack] {
        let (session, mut router) = joined(serializer).await;
        let script = async {
            let mut requests = Vec::new();
            for _ in 0..300 {
                match router.receive().await {
                    Message::Publish(m) => requests.push(m.request),
                    other => panic!("{other:?}"),
                }
            }
            for request in requests.into_iter().rev() {
                let publication = request + 1000;
                router
                    .send(Published {
                        request,
                        publication,
                    })
                    .await;
            }
        };
        let publish = async {
            let mut replies = Vec::new();
            for _ in 0..300 {
                let arguments = Arguments::list(&[json!("x")]);
                let reply = session.publish_acknowledged("t", arguments, Dict::new());
                replies.push(reply.await.unwrap());
            }
            for (n, reply) in replies.into_iter().enumerate() {
                assert_eq!(reply.wait().await.unwrap(), n as u64 + 1001);
            }
        };
        tokio::join!(script, publish);
    }
}

/// More events than the queue holds: nothing is lost, and publishing goes on meanwhile.
#[tokio::test]
async fn a_reader_that_is_late_gets_every_event_in_order() {
    const EVENTS: u64 = 3000;
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        router.receive().await;
        let subscription = 3;
        router
            .send(Subscribed {
                request: 1,
                subscription,
            })
            .await;
        let flood = async {
            for publication in 1..=EVENTS {
                let (details, payload) = (Dict::new(), Payload::EMPTY);
                router
                    .send(Event {
                        subscription,
                        publication,
                        details,
                        payload,
                    })
                    .await;
            }
        };
        flood.await;
        assert!(matches!(router.receive().await, Message::Publish(_)));
    };
    let application = async {
        let mut events = session.subscribe("t", Dict::new()).await.unwrap();
        session
            .publish("t", Arguments::none(), Dict::new())
            .await
            .unwrap();
        for publication in 1..=EVENTS {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(event.publication, publication);
        }
    };
    tokio::join!(script, application);
}

#[tokio::test]
async fn a_handler_answers_with_progress_a_result_an_error_or_a_panic() {
    let (session, mut router) = joined(Serializer::Json).await;
    let register = session.register("p", Dict::new(), |invocation| async move {
        match invocation.arguments.first().unwrap().as_str() {
            Some("ok") => {
                for n in 0..3 {
                    invocation.progress(Arguments::list(&[n.into()])).await?;
                }
                Ok(Arguments::list(&["done".into()]))
            }
            Some("fail") => Err(Failure::runtime("failed")),
            _ => panic!("as the test wants"),
        }
    });
    let script = async {
        router.receive().await;
        router
            .send(Registered {
                request: 1,
                registration: 4,
            })
            .await;
    };
    let (registered, ()) = tokio::join!(register, script);
    assert_eq!(registered.unwrap(), 4);

    let mut details = Dict::new();
    details.insert("receive_progress".to_owned(), true.into());
    for (request, word) in [(1, "ok"), (2, "fail"), (3, "panic")] {
        let (details, payload) = (details.clone(), router.payload(&[word.into()]));
        router
            .send(Invocation {
                request,
                registration: 4,
                details,
                payload,
            })
            .await;
        for n in 0..3 {
            if word == "ok" {
                let Message::Yield(progress) = router.receive().await else {
                    panic!("no progress");
                };
                assert_eq!(progress.options["progress"], true);
                assert_eq!(progress.payload, router.payload(&[n.into()]));
            }
        }
        match router.receive().await {
            Message::Yield(m) => {
                assert_eq!((m.request, word), (1, "ok"));
                assert_eq!(m.payload, router.payload(&["done".into()]));
            }
            Message::Error(m) => {
                assert_eq!((m.request_type, m.request), (68, request));
                let message = if word == "fail" {
                    "failed"
                } else {
                    "the handler panicked"
                };
                assert_eq!(m.payload, router.payload(&[message.into()]));
            }
            other => panic!("{other:?}"),
        }
    }
    drop(session);
}

#[tokio::test]
async fn no_progress_goes_to_a_caller_that_wants_none() {
    let (session, mut router) = joined(Serializer::Json).await;
    let register = session.register("p", Dict::new(), |invocation| async move {
        invocation.progress(Arguments::none()).await?;
        Ok(Arguments::none())
    });
    let script = async {
        router.receive().await;
        router
            .send(Registered {
                request: 1,
                registration: 4,
            })
            .await;
    };
    let (registered, ()) = tokio::join!(register, script);
    registered.unwrap();
    let (details, payload) = (Dict::new(), Payload::EMPTY);
    router
        .send(Invocation {
            request: 9,
            registration: 4,
            details,
            payload,
        })
        .await;
    let Message::Yield(answer) = router.receive().await else {
        panic!("no answer");
    };
    assert_eq!((answer.request, answer.options), (9, Dict::new()));
}

#[tokio::test]
async fn a_call_shows_its_progress_and_then_its_result() {
    let (session, mut router) = joined(Serializer::Msgpack).await;
    let script = async {
        let Message::Call(call) = router.receive().await else {
            panic!("no CALL");
        };
        assert_eq!(call.options["receive_progress"], true);
        for n in 0..100 {
            let mut details = Dict::new();
            details.insert("progress".to_owned(), true.into());
            let payload = router.payload(&[n.into()]);
            router
                .send(ResultMessage {
                    request: 1,
                    details,
                    payload,
                })
                .await;
        }
        let (details, payload) = (Dict::new(), router.payload(&["end".into()]));
        router
            .send(ResultMessage {
                request: 1,
                details,
                payload,
            })
            .await;
    };
    let application = async {
        let call = session.call("p", Arguments::none(), Dict::new());
        let mut call = call.await.unwrap();
        let mut seen = Vec::new();
        while let Some(progress) = call.next_progress().await {
            seen.push(progress.to_string());
        }
        let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected);
        assert_eq!(call.result().await.unwrap().to_string(), "\"end\"");
    };
    tokio::join!(script, application);
}

#[tokio::test]
async fn a_call_fails_with_the_callees_words() {
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        router.receive().await;
        let payload = router.payload(&["why".into()]);
        let (details, error) = (Dict::new(), "a.error".into());
        let failed = ErrorMessage {
            request_type: 48,
            request: 1,
            details,
            error,
            payload,
        };
        router.send(failed).await;
    };
    let (result, ()) = tokio::join!(session.call_plain("p", Arguments::none()), script);
    assert_eq!(result.unwrap_err().to_string(), "call p: a.error: \"why\"");
}

#[tokio::test]
async fn leaving_waits_for_the_answer_and_closes_the_socket() {
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        let Message::Goodbye(goodbye) = router.receive().await else {
            panic!("no GOODBYE");
        };
        assert_eq!(&*goodbye.reason, "wamp.close.close_realm");
        let reason = "wamp.close.goodbye_and_out".into();
        router
            .send(Goodbye {
                details: Dict::new(),
                reason,
            })
            .await;
        let last = router.next_frame().await;
        assert!(matches!(last, Frame::Close(_)), "{last:?}");
    };
    let (left, ()) = tokio::join!(session.leave(), script);
    left.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_told_to_everybody() {
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        router.receive().await;
        router
            .send(Subscribed {
                request: 1,
                subscription: 3,
            })
            .await;
    };
    let (events, ()) = tokio::join!(session.subscribe("t", Dict::new()), script);
    let mut events = events.unwrap();
    let call = session.call("p", Arguments::none(), Dict::new());
    let call = call.await.unwrap();
    drop(router);
    let is_lost = |error| matches!(error, ClientError::Closed(Closed::Lost(_)));
    assert!(is_lost(call.result().await.unwrap_err()));
    assert!(is_lost(events.next().await.unwrap_err()));
    assert!(matches!(session.ended().await, Closed::Lost(_)));
    let publish = session.publish("t", Arguments::none(), Dict::new());
    assert!(is_lost(publish.await.unwrap_err()));
}

/// Routers take a silent peer for dead, and an idle session is silent but for this.
#[tokio::test]
async fn a_ping_is_answered_while_nothing_else_happens() {
    let (session, mut router) = joined(Serializer::Json).await;
    for n in 0..3 {
        let ping = Frame::Ping(vec![n].into());
        router.frame(ping).await;
        let answer = router.next_frame().await;
        assert_eq!(answer, Frame::Pong(vec![n].into()));
    }
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_answers_no_ping_is_given_up() {
    let (session, _silent) = joined(Serializer::Json).await;
    let call = session.call_plain("p", Arguments::none());
    let is_lost = |error| matches!(error, ClientError::Closed(Closed::Lost(_)));
    assert!(is_lost(call.await.unwrap_err()));
    assert_eq!(
        session.ended().await.to_string(),
        "the connection is lost: the router is silent"
    );
}

#[tokio::test(start_paused = true)]
async fn a_router_that_answers_its_pings_may_be_silent_for_days() {
    let (session, mut router) = joined(Serializer::Json).await;
    let days = tokio::time::Instant::now() + std::time::Duration::from_secs(2 * 86_400);
    // Reading is what answers a ping.
    let silence = tokio::time::timeout_at(days, router.receive());
    assert!(silence.await.is_err());
    let script = async {
        let Message::Call(call) = router.receive().await else {
            panic!("no CALL");
        };
        router.answer(call.request, &[json!(1)]).await;
    };
    let (answer, ()) = tokio::join!(session.call_plain("p", Arguments::none()), script);
    assert_eq!(answer.unwrap().to_string(), "1");
}

/// Time passes while the application takes no events; that is not the router's silence.
#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_do_not_end_the_session() {
    const EVENTS: u64 = 1100;
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        router.receive().await;
        let subscription = 3;
        router
            .send(Subscribed {
                request: 1,
                subscription,
            })
            .await;
        for publication in 1..=EVENTS {
            let (details, payload) = (Dict::new(), Payload::EMPTY);
            router
                .send(Event {
                    subscription,
                    publication,
                    details,
                    payload,
                })
                .await;
        }
    };
    let application = async {
        let mut events = session.subscribe("t", Dict::new()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
        for publication in 1..=EVENTS {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(event.publication, publication);
        }
    };
    tokio::join!(script, application);
}

#[tokio::test]
async fn a_call_that_is_canceled_ends_with_the_routers_answer() {
    let (session, mut router) = joined(Serializer::Json).await;
    let script = async {
        let Message::Call(call) = router.receive().await else {
            panic!("no CALL");
        };
        let Message::Cancel(cancel) = router.receive().await else {
            panic!("no CANCEL");
        };
        assert_eq!(cancel.request, call.request);
        assert_eq!(cancel.options["mode"], "kill");
        router
            .fail(call.request, "wamp.error.canceled", &[], &Dict::new())
            .await;
    };
    let application = async {
        let call = session.call("p", Arguments::none(), Dict::new());
        let call = call.await.unwrap();
        call.cancel(Cancel::Kill).await.unwrap();
        let error = call.result().await.unwrap_err().to_string();
        assert_eq!(error, "call p: wamp.error.canceled");
    };
    tokio::join!(script, application);
}

#[tokio::test]
async fn a_router_that_breaks_the_protocol_is_told_so() {
    let (session, mut router) = joined(Serializer::Json).await;
    let request = 99;
    router
        .send(Published {
            request,
            publication: 1,
        })
        .await;
    let Message::Abort(abort) = router.receive().await else {
        panic!("no ABORT");
    };
    assert_eq!(&*abort.reason, "wamp.error.protocol_violation");
    assert!(matches!(session.ended().await, Closed::Violation(_)));
}
