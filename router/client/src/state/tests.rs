use super::*;
use crate::Failure;
use protocols::wamp::message::{
    ErrorMessage, Event as EventMessage, Interrupt, Invocation as InvocationMessage, Published,
    Registered, ResultMessage, Subscribed, Unregistered, Unsubscribed, Welcome,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

type Answer<T> = oneshot::Receiver<Result<T, ClientError>>;

fn state() -> State {
    State::new(Encoding::Json)
}

fn dict(value: Value) -> Dict {
    value.as_object().cloned().unwrap()
}

fn arguments(args: &[Value]) -> Arguments {
    Arguments::list(args)
}

fn payload(args: &[Value]) -> Payload {
    arguments(args).to_wire(Encoding::Json).unwrap()
}

/// The messages that are to be sent; nothing else may be to do.
fn sent(state: &mut State) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(output) = state.poll_output() {
        match output {
            Output::Send(message) => messages.push(message),
            _ => panic!("more than messages"),
        }
    }
    messages
}

fn publish(state: &mut State, topic: &str) -> Answer<u64> {
    let (reply, answer) = oneshot::channel();
    state.request(Request::Publish {
        topic: topic.to_owned(),
        arguments: arguments(&[json!(1)]),
        options: Dict::new(),
        reply: Some(reply),
    });
    answer
}

fn subscribe(state: &mut State) -> (mpsc::Receiver<Event>, Answer<u64>) {
    let (events, stream) = mpsc::channel(4);
    let (reply, answer) = oneshot::channel();
    state.request(Request::Subscribe {
        topic: "a.b".to_owned(),
        options: Dict::new(),
        events,
        reply,
    });
    (stream, answer)
}

fn call(state: &mut State, progress: Option<mpsc::Sender<Arguments>>) -> Answer<Arguments> {
    let (reply, answer) = oneshot::channel();
    state.request(Request::Call {
        key: 9,
        procedure: "a.p".to_owned(),
        arguments: Arguments::none(),
        options: Dict::new(),
        progress,
        reply,
    });
    answer
}

/// A state with one registration, of id 5.
fn callee() -> State {
    let mut state = state();
    let (reply, mut answer) = oneshot::channel();
    let handler: Handler = Arc::new(|invocation| Box::pin(async { Ok(invocation.arguments) }));
    state.request(Request::Register {
        procedure: "a.p".to_owned(),
        options: Dict::new(),
        handler,
        reply,
    });
    assert!(matches!(&sent(&mut state)[..], [Message::Register(m)] if &*m.procedure == "a.p"));
    state.handle(
        Registered {
            request: 1,
            registration: 5,
        }
        .into(),
    );
    assert_eq!(answer.try_recv().unwrap().unwrap(), 5);
    state
}

fn invoke(state: &mut State, request: u64, details: Value) {
    let message = InvocationMessage {
        request,
        registration: 5,
        details: dict(details),
        payload: payload(&[json!("x")]),
    };
    state.handle(message.into());
}

fn event(subscription: u64, publication: u64) -> Message {
    EventMessage {
        subscription,
        publication,
        details: dict(json!({"retained": true})),
        payload: payload(&[json!("x")]),
    }
    .into()
}

fn result(request: u64, details: Value) -> Message {
    ResultMessage {
        request,
        details: dict(details),
        payload: payload(&[json!("r")]),
    }
    .into()
}

fn error(request_type: u64, request: u64) -> Message {
    ErrorMessage {
        request_type,
        request,
        details: Dict::new(),
        error: "wamp.error.not_authorized".into(),
        payload: payload(&[json!("no")]),
    }
    .into()
}

/// The session must end by ABORT.
fn violation(state: &mut State) -> String {
    let Some(Output::Send(Message::Abort(abort))) = state.poll_output() else {
        panic!("no ABORT");
    };
    assert_eq!(&*abort.reason, "wamp.error.protocol_violation");
    match state.poll_output() {
        Some(Output::Closed(Closed::Violation(violation))) => violation,
        _ => panic!("not closed"),
    }
}

#[test]
fn request_ids_count_up_across_all_kinds() {
    let mut state = state();
    let (reply, _answer) = oneshot::channel();
    let _first = publish(&mut state, "t");
    state.request(Request::Publish {
        topic: "t".to_owned(),
        arguments: Arguments::none(),
        options: Dict::new(),
        reply: None,
    });
    let _subscription = subscribe(&mut state);
    let _call = call(&mut state, None);
    state.request(Request::Goodbye { reply });
    let ids: Vec<u64> = sent(&mut state)
        .iter()
        .map(|message| match message {
            Message::Publish(m) => m.request,
            Message::Subscribe(m) => m.request,
            Message::Call(m) => m.request,
            _ => 0,
        })
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 0]);
}

#[test]
fn acknowledgement_is_asked_for_only_with_a_reply() {
    let mut state = state();
    let _answer = publish(&mut state, "t");
    state.request(Request::Publish {
        topic: "t".to_owned(),
        arguments: Arguments::none(),
        options: dict(json!({"retain": true})),
        reply: None,
    });
    let options: Vec<Value> = sent(&mut state)
        .iter()
        .map(|message| match message {
            Message::Publish(m) => m.options.clone().into(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        options,
        [json!({"acknowledge": true}), json!({"retain": true})]
    );
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let mut state = state();
    let (mut first, mut second) = (publish(&mut state, "t"), publish(&mut state, "u"));
    sent(&mut state);
    state.handle(
        Published {
            request: 2,
            publication: 20,
        }
        .into(),
    );
    assert_eq!(first.try_recv().unwrap_err(), TryRecvError::Empty);
    state.handle(error(16, 1));
    assert_eq!(second.try_recv().unwrap().unwrap(), 20);
    let failed = first.try_recv().unwrap().unwrap_err();
    assert_eq!(
        failed.to_string(),
        "publish to t: wamp.error.not_authorized: \"no\""
    );
    assert!(sent(&mut state).is_empty());
}

#[test]
fn an_answer_that_nobody_waits_for_ends_the_session() {
    let cases: [fn() -> Message; 9] = [
        || {
            Published {
                request: 1,
                publication: 1,
            }
            .into()
        },
        || {
            Subscribed {
                request: 1,
                subscription: 1,
            }
            .into()
        },
        || {
            Registered {
                request: 1,
                registration: 1,
            }
            .into()
        },
        || result(1, json!({})),
        || result(1, json!({"progress": true})),
        || error(16, 1),
        || {
            Unsubscribed {
                request: 1,
                revocation: None,
            }
            .into()
        },
        || {
            Unregistered {
                request: 1,
                revocation: None,
            }
            .into()
        },
        || {
            Welcome {
                session: 1,
                details: Dict::new(),
            }
            .into()
        },
    ];
    for message in cases {
        let mut state = state();
        state.handle(message());
        violation(&mut state);
    }
}

#[test]
fn an_answer_of_another_kind_ends_the_session() {
    for message in [
        Message::from(Subscribed {
            request: 1,
            subscription: 1,
        }),
        error(48, 1),
        result(1, json!({})),
    ] {
        let mut state = state();
        let _answer = publish(&mut state, "t");
        sent(&mut state);
        state.handle(message);
        violation(&mut state);
    }
}

#[test]
fn events_go_to_every_subscriber_from_the_first_on() {
    let mut state = state();
    let (_one, mut one_answer) = subscribe(&mut state);
    let (_two, mut two_answer) = subscribe(&mut state);
    sent(&mut state);
    // The router gives one id for the same topic.
    for request in [1, 2] {
        state.handle(
            Subscribed {
                request,
                subscription: 9,
            }
            .into(),
        );
    }
    assert_eq!(one_answer.try_recv().unwrap().unwrap(), 9);
    assert_eq!(two_answer.try_recv().unwrap().unwrap(), 9);
    state.handle(event(9, 70));
    for _ in 0..2 {
        let Some(Output::Deliver(Delivery::Event(_, event))) = state.poll_output() else {
            panic!("no event");
        };
        assert_eq!(event.publication, 70);
        assert_eq!(event.details["retained"], true);
        assert_eq!(event.arguments.args_text(), "[\"x\"]");
    }
    assert!(state.poll_output().is_none());
}

#[test]
fn a_revoked_subscription_ends_and_its_late_events_do_no_harm() {
    let mut state = state();
    let (mut stream, _answer) = subscribe(&mut state);
    sent(&mut state);
    state.handle(
        Subscribed {
            request: 1,
            subscription: 9,
        }
        .into(),
    );
    let revocation = Some(dict(json!({"subscription": 9, "reason": "snapshot"})));
    state.handle(
        Unsubscribed {
            request: 0,
            revocation,
        }
        .into(),
    );
    assert_eq!(
        stream.try_recv(),
        Err(mpsc::error::TryRecvError::Disconnected)
    );
    state.handle(event(9, 70));
    assert!(state.poll_output().is_none());
}

#[test]
fn progressive_results_come_before_the_result() {
    let mut state = state();
    let (progress, mut stream) = mpsc::channel(4);
    let mut answer = call(&mut state, Some(progress));
    let calls = sent(&mut state);
    assert!(matches!(&calls[..], [Message::Call(m)] if m.options["receive_progress"] == true));
    state.handle(result(1, json!({"progress": true})));
    let progress = state.poll_output();
    assert!(matches!(
        progress,
        Some(Output::Deliver(Delivery::Progress(..)))
    ));
    assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty);
    drop(progress);
    state.handle(result(1, json!({"progress": false})));
    assert_eq!(answer.try_recv().unwrap().unwrap().to_string(), "\"r\"");
    // The end of the progressive ones is known by then.
    assert_eq!(
        stream.try_recv(),
        Err(mpsc::error::TryRecvError::Disconnected)
    );
}

#[test]
fn progress_without_being_asked_for_ends_the_session() {
    let mut state = state();
    let _answer = call(&mut state, None);
    assert!(matches!(&sent(&mut state)[..], [Message::Call(m)] if m.options.is_empty()));
    state.handle(result(1, json!({"progress": true})));
    violation(&mut state);
}

#[test]
fn a_call_is_canceled_until_it_has_its_answer() {
    let mut state = state();
    let mut answer = call(&mut state, None);
    let asked = sent(&mut state);
    let [Message::Call(asked)] = &asked[..] else {
        panic!("{asked:?}");
    };
    let cancel = |key| Request::Cancel {
        key,
        mode: crate::Cancel::KillNoWait,
    };
    state.request(cancel(8));
    assert!(sent(&mut state).is_empty(), "another call was canceled");
    state.request(cancel(9));
    let canceled = sent(&mut state);
    let [Message::Cancel(canceled)] = &canceled[..] else {
        panic!("{canceled:?}");
    };
    assert_eq!(canceled.request, asked.request);
    assert_eq!(canceled.options["mode"], "killnowait");
    assert!(matches!(answer.try_recv(), Err(TryRecvError::Empty)));
    state.handle(
        ErrorMessage {
            request_type: 48,
            request: asked.request,
            details: Dict::new(),
            error: "wamp.error.canceled".into(),
            payload: Payload::EMPTY,
        }
        .into(),
    );
    assert!(matches!(answer.try_recv(), Ok(Err(_))));
    state.request(cancel(9));
    assert!(sent(&mut state).is_empty(), "an answered call was canceled");
}

#[test]
fn an_invocation_is_answered_once() {
    let mut state = callee();
    invoke(&mut state, 7, json!({"receive_progress": true}));
    let Some(Output::Invoke(_, invocation)) = state.poll_output() else {
        panic!("not invoked");
    };
    assert!(invocation.takes_progress);
    let arguments = invocation.arguments;
    let invocation = 7;
    state.request(Request::Progress {
        invocation,
        arguments: arguments.clone(),
    });
    state.request(Request::Answer {
        invocation,
        answer: Ok(arguments.clone()),
    });
    state.request(Request::Progress {
        invocation,
        arguments: arguments.clone(),
    });
    state.request(Request::Answer {
        invocation,
        answer: Ok(arguments),
    });
    let options: Vec<Value> = sent(&mut state)
        .into_iter()
        .map(|message| match message {
            Message::Yield(m) => {
                assert_eq!((m.request, m.payload), (7, payload(&[json!("x")])));
                m.options.into()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(options, [json!({"progress": true}), json!({})]);
}

#[test]
fn a_failure_becomes_an_error_with_its_uri_and_arguments() {
    let mut state = callee();
    invoke(&mut state, 7, json!({}));
    assert!(matches!(state.poll_output(), Some(Output::Invoke(..))));
    let failure = Failure {
        error: "a.error".to_owned(),
        arguments: arguments(&[json!("why")]),
    };
    state.request(Request::Answer {
        invocation: 7,
        answer: Err(failure),
    });
    let errors = sent(&mut state);
    let [Message::Error(m)] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!((m.request_type, m.request, &*m.error), (68, 7, "a.error"));
    assert_eq!(m.payload, payload(&[json!("why")]));
}

#[test]
fn calls_beyond_the_bound_and_to_nobody_are_refused() {
    let refused = |state: &mut State| {
        let errors = sent(state);
        matches!(&errors[..], [Message::Error(m)] if &*m.error == "wamp.error.unavailable")
    };
    let mut state = callee();
    for request in 1..=MAX_RUNNING as u64 {
        invoke(&mut state, request, json!({}));
        assert!(matches!(state.poll_output(), Some(Output::Invoke(..))));
    }
    invoke(&mut state, 5000, json!({}));
    assert!(refused(&mut state));
    // One answer makes room for one call.
    let answer = Ok(Arguments::none());
    state.request(Request::Answer {
        invocation: 1,
        answer,
    });
    sent(&mut state);
    invoke(&mut state, 5001, json!({}));
    assert!(matches!(state.poll_output(), Some(Output::Invoke(..))));

    let mut state = callee();
    let revocation = Some(dict(json!({"registration": 5})));
    state.handle(
        Unregistered {
            request: 0,
            revocation,
        }
        .into(),
    );
    invoke(&mut state, 1, json!({}));
    assert!(refused(&mut state));
}

#[test]
fn an_interrupt_is_ignored_and_the_same_invocation_twice_is_a_violation() {
    let mut state = callee();
    invoke(&mut state, 7, json!({}));
    assert!(matches!(state.poll_output(), Some(Output::Invoke(..))));
    state.handle(
        Interrupt {
            request: 7,
            options: Dict::new(),
        }
        .into(),
    );
    assert!(state.poll_output().is_none());
    invoke(&mut state, 7, json!({}));
    assert!(violation(&mut state).contains('7'));
}

#[test]
fn requests_beyond_the_bound_fail_without_being_sent() {
    let mut state = state();
    let answers: Vec<_> = (0..MAX_PENDING).map(|_| publish(&mut state, "t")).collect();
    assert_eq!(sent(&mut state).len(), MAX_PENDING);
    let mut failed = publish(&mut state, "t");
    assert!(sent(&mut state).is_empty());
    let error = failed.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, ClientError::TooManyRequests(MAX_PENDING)));
    drop(answers);
}

fn goodbye(reason: &str, details: Value) -> Message {
    let details = dict(details);
    Goodbye {
        details,
        reason: reason.into(),
    }
    .into()
}

#[test]
fn our_goodbye_ends_with_its_answer() {
    let mut state = state();
    let (reply, mut answer) = oneshot::channel();
    state.request(Request::Goodbye { reply });
    assert!(
        matches!(&sent(&mut state)[..], [Message::Goodbye(m)] if &*m.reason == "wamp.close.close_realm")
    );
    assert_eq!(answer.try_recv().unwrap_err(), TryRecvError::Empty);
    state.handle(goodbye("wamp.close.goodbye_and_out", json!({})));
    assert!(matches!(
        state.poll_output(),
        Some(Output::Closed(Closed::Goodbye))
    ));
    assert!(answer.try_recv().unwrap().is_ok());
}

#[test]
fn the_routers_goodbye_is_answered_and_told() {
    let mut state = state();
    state.handle(goodbye(
        "wamp.close.system_shutdown",
        json!({"message": "bye"}),
    ));
    assert!(matches!(
        state.poll_output(),
        Some(Output::Send(Message::Goodbye(m))) if &*m.reason == "wamp.close.goodbye_and_out"
    ));
    let Some(Output::Closed(Closed::ByRouter(reason))) = state.poll_output() else {
        panic!("not closed");
    };
    assert_eq!(reason, "wamp.close.system_shutdown: bye");
}

#[test]
fn the_end_of_the_session_is_told_to_all_who_wait() {
    let mut state = state();
    let mut published = publish(&mut state, "t");
    let mut called = call(&mut state, None);
    let (mut stream, mut subscribed) = subscribe(&mut state);
    let (reply, mut left) = oneshot::channel();
    state.request(Request::Goodbye { reply });
    let lost = Closed::Lost("gone".to_owned());
    state.end(&lost);
    let is_lost =
        |error: ClientError| matches!(error, ClientError::Closed(closed) if closed == lost);
    assert!(is_lost(published.try_recv().unwrap().unwrap_err()));
    assert!(is_lost(called.try_recv().unwrap().unwrap_err()));
    assert!(is_lost(subscribed.try_recv().unwrap().unwrap_err()));
    assert!(is_lost(left.try_recv().unwrap().unwrap_err()));
    assert_eq!(
        stream.try_recv(),
        Err(mpsc::error::TryRecvError::Disconnected)
    );
}

#[test]
fn an_abort_ends_the_session_unanswered() {
    let mut state = state();
    let abort = Abort {
        details: dict(json!({"message": "too slow"})),
        reason: "reynard.error.too_slow".into(),
        payload: Payload::EMPTY,
    };
    state.handle(abort.into());
    let Some(Output::Closed(Closed::ByRouter(reason))) = state.poll_output() else {
        panic!("not closed at once");
    };
    assert_eq!(reason, "reynard.error.too_slow: too slow");
}
