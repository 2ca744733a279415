//! Calls by request and response: `$rpc/…` (5.0 section 4.10).
#![cfg(feature = "mqtt")]

#[path = "mqtt_machine_common/mod.rs"]
mod common;

use bytes::Bytes;
use common::*;
use protocols::mqtt::packet::{Packet, Properties, Publish};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{Action, Role, Rule};
use router_core::encoding::Encoding;
use router_core::limits::RealmLimits;
use router_core::model::{
    Args, Command, Delivery, Invocation, InvocationFailed, Pattern, Payload, Register, RequestId,
    Seal, Topic,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A PUBLISH that calls; answers go to `reply/c` with Correlation Data `n`.
fn request(procedure: &str, payload: &'static str, packet: Option<u16>) -> Packet {
    asking(procedure, payload, packet, &[])
}

fn asking(
    procedure: &str,
    payload: &'static str,
    packet: Option<u16>,
    user: &[(&str, &str)],
) -> Packet {
    let set = Properties {
        response_topic: Some("reply/c".into()),
        correlation_data: Some(Bytes::from_static(b"n")),
        user_properties: user
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..Properties::default()
    };
    let qos = if packet.is_some() {
        AtLeastOnce
    } else {
        AtMostOnce
    };
    let topic = format!("$rpc/{procedure}");
    with_properties(publish(&topic, payload, packet, qos), set)
}

fn at(packet: Packet, qos: protocols::mqtt::packet::QoS) -> Packet {
    match packet {
        Packet::Publish(publish) => Packet::Publish(Publish { qos, ..publish }),
        other => panic!("not a PUBLISH: {other:?}"),
    }
}

/// A world with a client that reads `reply/#` at QoS 2.
fn world() -> (World, usize) {
    ready(World::new())
}

fn ready(mut world: World) -> (World, usize) {
    let client = world.client(V5, "c");
    world.subscribe(client, "reply/#", ExactlyOnce);
    (world, client)
}

/// What an answer is, its error if it is one, and its payload.
#[track_caller]
fn answer(world: &mut World, client: usize) -> (String, Option<String>, Value) {
    let publish = world.next_publish(client);
    let set = publish.properties.as_deref().expect("properties");
    assert_eq!(publish.topic, "reply/c");
    assert_eq!(set.correlation_data.as_deref(), Some(&b"n"[..]));
    let of = |name: &str| {
        let mut found = set.user_properties.iter();
        let found = found.find(|(known, _)| &**known == name);
        found.map(|(_, value)| value.to_string())
    };
    let value = serde_json::from_slice(&publish.payload).expect("JSON");
    (
        of("reynard-result").expect("a kind"),
        of("reynard-error"),
        value,
    )
}

#[track_caller]
fn result(world: &mut World, client: usize) -> Value {
    let (kind, error, value) = answer(world, client);
    assert_eq!((kind.as_str(), error), ("result", None), "{value}");
    value
}

#[track_caller]
fn error(world: &mut World, client: usize) -> (String, Value) {
    let (kind, error, value) = answer(world, client);
    assert_eq!(kind, "error", "{value}");
    (error.expect("a URI"), value)
}

#[track_caller]
fn acked(world: &mut World, client: usize) -> ReasonCode {
    match world.next(client) {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => ack.reason,
        other => panic!("no acknowledgement: {other:?}"),
    }
}

/// Somebody who offers a procedure.
fn callee(world: &mut World, procedure: &str) -> Stranger {
    let callee = world.stranger();
    let topic = Topic::new(procedure.to_owned()).expect("a topic");
    let register = Command::Register(Box::new(Register::new(RequestId(1), topic)));
    world.command_of(&callee, register);
    world.told(&callee);
    callee
}

fn invocations(world: &mut World, callee: &Stranger) -> Vec<Invocation> {
    let of = |delivery| match delivery {
        Delivery::Invocation(invocation) => Some(*invocation),
        _ => None,
    };
    world.told(callee).into_iter().filter_map(of).collect()
}

#[track_caller]
fn invoked(world: &mut World, callee: &Stranger) -> Invocation {
    let mut found = invocations(world, callee);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn args(args: Value, kwargs: Value) -> Payload {
    let raw = |value: Value| (!value.is_null()).then(|| Bytes::from(value.to_string()));
    let args = Args {
        args: raw(args),
        kwargs: raw(kwargs),
    };
    Payload::args(Encoding::Json, args)
}

fn yields(world: &mut World, callee: &Stranger, of: &Invocation, payload: Payload, progress: bool) {
    let invocation = of.invocation;
    let command = Command::Yield {
        invocation,
        payload: payload.into(),
        progress,
    };
    world.command_of(callee, command);
}

#[test]
fn a_publish_calls_and_its_result_comes_to_the_response_topic() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "app/add");
    world.send(
        client,
        request("app/add", r#"{"args":[1,2],"kwargs":{"k":3}}"#, Some(1)),
    );
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    world.nothing(client);
    let invocation = invoked(&mut world, &callee);
    assert_eq!(invocation.payload.value(), &json!([1, 2]));
    assert_eq!(invocation.payload.kwargs_value(), &json!({"k": 3}));
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([3]), Value::Null),
        false,
    );
    let answer = world.next_publish(client);
    assert_eq!(answer.qos, AtLeastOnce, "as the request");
    assert_eq!(answer.payload, "3");
    let set = answer.properties.expect("properties");
    assert_eq!(set.content_type.as_deref(), Some("application/json"));
    assert_eq!(set.correlation_data.as_deref(), Some(&b"n"[..]));
    assert_eq!(
        set.user_properties,
        [("reynard-result".into(), "result".into())]
    );
    world.nothing(client);
}

#[test]
fn several_values_come_as_the_envelope_and_no_payload_is_no_argument() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    world.send(client, request("p", "", None));
    let invocation = invoked(&mut world, &callee);
    assert!(invocation.payload.value().is_null());
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([1, 2]), json!({"a": 1})),
        false,
    );
    let expected = json!({"args": [1, 2], "kwargs": {"a": 1}});
    assert_eq!(result(&mut world, client), expected);
}

#[test]
fn errors_come_with_their_uri_as_the_envelope() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    world.send(client, request("p", "1", None));
    let invocation = invoked(&mut world, &callee).invocation;
    let failed = Command::InvocationFailed(Box::new(InvocationFailed {
        invocation,
        error: "app.error.sold_out".into(),
        payload: args(json!(["no"]), Value::Null),
    }));
    world.command_of(&callee, failed);
    let publish = world.next_publish(client);
    let set = publish.properties.clone().expect("properties");
    assert_eq!(set.content_type.as_deref(), Some("application/wamp+json"));
    assert_eq!(set.payload_format_indicator, Some(true));
    let found: Value = serde_json::from_slice(&publish.payload).expect("JSON");
    assert_eq!(found, json!({"args": ["no"], "kwargs": {}}));
    assert!(
        set.user_properties
            .contains(&("reynard-error".into(), "app.error.sold_out".into()))
    );
    // The realm's own errors have names too, and tell the key.
    world.send(client, request("nobody", "1", Some(1)));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    let (uri, _) = error(&mut world, client);
    assert_eq!(uri, "wamp.error.no_such_procedure");
    world.send(client, request("fox/kv/cas", r#"{"args":["k",7,1]}"#, None));
    let (uri, value) = error(&mut world, client);
    assert_eq!(uri, "fox.error.conflict");
    assert_eq!(value["kwargs"], json!({"key": "k", "token": 0}));
}

#[test]
fn progress_comes_if_it_is_asked_for() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    world.send(client, asking("p", "1", None, &[("progress", "true")]));
    let invocation = invoked(&mut world, &callee);
    assert!(invocation.progress);
    for n in 1..3 {
        yields(
            &mut world,
            &callee,
            &invocation,
            args(json!([n]), Value::Null),
            true,
        );
        let (kind, _, value) = answer(&mut world, client);
        assert_eq!((kind.as_str(), value), ("progress", json!(n)));
    }
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([3]), Value::Null),
        false,
    );
    assert_eq!(result(&mut world, client), 3);
    for user in [&[("progress", "false")][..], &[]] {
        world.send(client, asking("p", "1", None, user));
        assert!(!invoked(&mut world, &callee).progress);
    }
}

#[test]
fn a_call_takes_as_long_as_it_says() {
    let (mut world, client) = world();
    let _callee = callee(&mut world, "p");
    world.send(client, asking("p", "1", None, &[("timeout", "500")]));
    world.wait(Duration::from_millis(499));
    world.nothing(client);
    world.wait(Duration::from_millis(1));
    assert_eq!(error(&mut world, client).0, "wamp.error.timeout");
}

#[test]
fn without_a_response_topic_the_call_is_made_and_nobody_told() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    let set = Properties {
        user_properties: vec![("progress".into(), "true".into())],
        ..Properties::default()
    };
    let call = publish("$rpc/p", "1", Some(1), AtLeastOnce);
    world.send(client, with_properties(call, set));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    let invocation = invoked(&mut world, &callee);
    assert!(!invocation.progress, "nobody to tell");
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([1]), Value::Null),
        false,
    );
    world.send(client, publish("$rpc/nobody", "1", None, AtMostOnce));
    world.nothing(client);
    assert!(world.clients[client].closed.is_none());
}

#[test]
fn what_is_no_request_is_refused_and_the_response_topic_told() {
    let (mut world, client) = world();
    let invalid = "wamp.error.invalid_argument";
    for (packet, reason, uri) in [
        (
            request("p", "{", Some(1)),
            ReasonCode::PayloadFormatInvalid,
            invalid,
        ),
        (
            asking("p", "1", Some(1), &[("timeout", "soon")]),
            ReasonCode::ImplementationSpecificError,
            invalid,
        ),
        (
            asking("p", "1", Some(1), &[("progress", "yes")]),
            ReasonCode::ImplementationSpecificError,
            invalid,
        ),
        (
            request("", "1", Some(1)),
            ReasonCode::TopicNameInvalid,
            "wamp.error.invalid_uri",
        ),
    ] {
        world.send(client, packet);
        assert_eq!(acked(&mut world, client), reason);
        assert_eq!(error(&mut world, client).0, uri);
    }
    assert_eq!(world.counter("publish_invalid"), 4);
}

fn rules(lines: &[(Action, &str)]) -> Arc<Role> {
    let rule = |(action, pattern): &(Action, &str)| Rule {
        action: *action,
        pattern: Pattern::from_slashes(pattern).expect("a pattern"),
    };
    Arc::new(Role::restricted(
        "some".to_owned(),
        lines.iter().map(rule).collect(),
        Vec::new(),
    ))
}

#[test]
fn who_may_not_call_is_refused_and_told() {
    let mut world = World::new();
    world.role = rules(&[
        (Action::Subscribe, "reply/#"),
        (Action::Publish, "#"),
        (Action::Publish, "$rpc/#"),
        (Action::Call, "open"),
        (Action::Register, "#"),
    ]);
    let (mut world, client) = ready(world);
    let callee = callee(&mut world, "secret");
    for packet in [Some(1), None] {
        world.send(client, request("secret", "1", packet));
        if packet.is_some() {
            assert_eq!(acked(&mut world, client), ReasonCode::NotAuthorized);
        }
        assert_eq!(error(&mut world, client).0, "wamp.error.not_authorized");
    }
    assert_eq!(invocations(&mut world, &callee).len(), 0);
    world.send(client, request("open", "1", Some(1)));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    assert_eq!(error(&mut world, client).0, "wamp.error.no_such_procedure");
}

#[test]
fn calling_needs_the_right_to_call_and_answering_that_to_publish() {
    let mut world = World::new();
    world.role = rules(&[
        (Action::Subscribe, "#"),
        (Action::Call, "p"),
        (Action::Register, "#"),
    ]);
    let (mut world, client) = ready(world);
    let callee = callee(&mut world, "p");
    // No right to publish to `$rpc` is needed.
    world.send(client, request("p", "1", Some(1)));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    let invocation = invoked(&mut world, &callee);
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([1]), Value::Null),
        false,
    );
    world.nothing(client);
    assert_eq!(world.realm.counters().publish_refused, 1);
}

#[test]
fn clients_of_3_1_1_cannot_call() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    let old = world.client(V3_1_1, "old");
    world.send(old, publish("$rpc/p", "1", Some(1), AtLeastOnce));
    assert_eq!(
        acked(&mut world, old),
        ReasonCode::Success,
        "it cannot be told"
    );
    world.send(old, publish("$rpc/p", "1", Some(2), ExactlyOnce));
    assert_eq!(acked(&mut world, old), ReasonCode::Success);
    assert_eq!(invocations(&mut world, &callee).len(), 0);
    assert_eq!(world.counter("publish_invalid"), 2);
    world.nothing(client);
}

#[test]
fn open_calls_are_bounded() {
    let limits = RealmLimits {
        calls_per_session: 2,
        ..RealmLimits::default()
    };
    let (mut world, client) = ready(World::with(false, limits));
    let _callee = callee(&mut world, "p");
    for packet in 1..3 {
        world.send(client, request("p", "1", Some(packet)));
        assert_eq!(acked(&mut world, client), ReasonCode::Success);
    }
    world.send(client, request("p", "1", Some(3)));
    assert_eq!(acked(&mut world, client), ReasonCode::QuotaExceeded);
    assert_eq!(error(&mut world, client).0, "reynard.error.quota_exceeded");
}

#[test]
fn an_exactly_once_request_calls_once() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    let call = at(request("p", "1", Some(7)), ExactlyOnce);
    world.send(client, call.clone());
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    world.send(client, again(call.clone()));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    let invocation = invoked(&mut world, &callee);
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([1]), Value::Null),
        false,
    );
    let answer = world.next_publish(client);
    assert_eq!(answer.qos, ExactlyOnce);
    world.nothing(client);
    world.send(client, pubrec(answer.packet_id.expect("QoS 2").get()));
    world.next(client);
    world.send(client, pubrel(7));
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    // The identifier is free for another call.
    world.send(client, call);
    assert_eq!(acked(&mut world, client), ReasonCode::Success);
    invoked(&mut world, &callee);
}

#[test]
fn an_exactly_once_request_calls_once_over_connections_too() {
    let mut world = World::durable();
    let first = world.join(persistent(V5, "c"));
    let callee = callee(&mut world, "p");
    world.hold_commits = true;
    let call = at(request("p", "1", Some(7)), ExactlyOnce);
    world.send(first, call.clone());
    world.nothing(first);
    invoked(&mut world, &callee);
    world.commit();
    assert_eq!(
        acked(&mut world, first),
        ReasonCode::Success,
        "once it is remembered"
    );
    world.hold_commits = false;
    world.cut(first);
    let second = world.join(persistent(V5, "c"));
    world.send(second, again(call));
    assert_eq!(acked(&mut world, second), ReasonCode::Success);
    assert_eq!(invocations(&mut world, &callee).len(), 0);
}

#[test]
fn a_call_ends_with_its_connection() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    world.send(client, request("p", "1", None));
    let invocation = invoked(&mut world, &callee);
    world.cut(client);
    let told = world.told(&callee);
    assert!(
        told.iter()
            .any(|delivery| matches!(delivery, Delivery::Interrupt { .. })),
        "{told:?}"
    );
    yields(
        &mut world,
        &callee,
        &invocation,
        args(json!([1]), Value::Null),
        false,
    );
}

#[test]
fn a_result_that_the_client_cannot_open_is_an_error() {
    let (mut world, client) = world();
    let callee = callee(&mut world, "p");
    world.send(client, asking("p", "1", None, &[("progress", "true")]));
    let invocation = invoked(&mut world, &callee);
    for progress in [true, false] {
        let sealed = args(json!(["sealed"]), Value::Null).sealed(Seal::default());
        yields(&mut world, &callee, &invocation, sealed, progress);
    }
    assert_eq!(
        error(&mut world, client).0,
        "wamp.error.feature_not_supported"
    );
    world.nothing(client);
}

#[test]
fn keys_are_written_compared_and_watched_by_calls() {
    let (mut world, client) = world();
    world.send(
        client,
        request("fox/kv/cas", r#"{"args":["k",0,"one"]}"#, None),
    );
    let first = result(&mut world, client);
    assert_eq!(first["key"], "k");
    let watch = asking("fox/kv/watch", r#""k""#, None, &[("progress", "true")]);
    world.send(client, watch);
    world.send(client, retained("k", r#""two""#));
    let (kind, _, change) = answer(&mut world, client);
    assert_eq!(
        (kind.as_str(), &change["value"]),
        ("progress", &json!("two"))
    );
    world.send(
        client,
        request("fox/kv/cas", r#"{"args":["k",0,"three"]}"#, None),
    );
    let (uri, value) = error(&mut world, client);
    assert_eq!(uri, "fox.error.conflict");
    assert_eq!(value["kwargs"]["token"], change["token"]);
}

#[test]
fn only_what_lies_below_is_a_call() {
    let (mut world, client) = world();
    world.subscribe(client, "$rpc", AtMostOnce);
    world.subscribe(client, "$rpcx/#", AtMostOnce);
    for topic in ["$rpc", "$rpcx/p"] {
        world.send(client, publish(topic, "1", None, AtMostOnce));
        assert_eq!(world.next_publish(client).topic, topic);
    }
}
