//! autobahn-js, autobahn-python and wampy do with the router what they do with
//! any WAMP router, over JSON and MessagePack.

use anyhow::{Context, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::{Options, Server};
use serde_json::{Value, json};

use crate::Outcome;

mod calls;

fn server() -> anyhow::Result<Server> {
    Server::start(Options::default().memory())
}

fn join(server: &Server, library: Library) -> anyhow::Result<Agent> {
    Agent::join(library, &server.wamp_url(), "realm1")
}

/// Each library as publisher with each library as subscriber.
fn publishes_to_everybody(publisher: Library) -> Outcome {
    let server = server()?;
    let mut publisher_agent = join(&server, publisher)?;
    let args = json!(["text", 7, 2.5, true, null, [1, [2]], {"nested": {"deep": []}}]);
    let kwargs = json!({"name": "value", "list": [1, 2, 3]});
    for subscriber in Library::WAMP {
        let mut agent = join(&server, subscriber)?;
        let topic = "com.example.news";
        agent.ok(json!({"do": "subscribe", "topic": topic}))?;
        let published = publisher_agent.ok(json!({
            "do": "publish", "topic": topic, "args": args, "kwargs": kwargs,
            "options": {"acknowledge": true}
        }))?;
        let publication = published["publication"].as_u64();
        ensure!(
            publication.is_some_and(|id| (1..=1 << 53).contains(&id)),
            "{publisher:?}: publication {published}"
        );
        let event = agent.next("event")?;
        ensure!(
            event["args"] == args,
            "{publisher:?} -> {subscriber:?}: {event}"
        );
        ensure!(
            event["kwargs"] == kwargs,
            "{publisher:?} -> {subscriber:?}: {event}"
        );
    }
    Ok(())
}

#[test]
fn autobahn_js_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::AutobahnJs)
}

#[test]
fn autobahn_python_json_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::AutobahnPythonJson)
}

#[test]
fn autobahn_python_msgpack_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::AutobahnPythonMsgpack)
}

#[test]
fn autobahn_python_cbor_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::AutobahnPythonCbor)
}

#[test]
fn autobahn_python_batched_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::AutobahnPythonBatched)
}

#[test]
fn wampy_cbor_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::WampyCbor)
}

#[test]
fn wampy_json_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::WampyJson)
}

#[test]
fn wampy_msgpack_publishes_to_everybody() -> Outcome {
    publishes_to_everybody(Library::WampyMsgpack)
}

/// A publisher does not hear itself unless it says `exclude_me: false`. (wampy
/// cannot say it: it leaves out what is false.)
#[test]
fn publishers_hear_themselves_only_if_they_ask() -> Outcome {
    let server = server()?;
    let libraries = [
        Library::AutobahnJs,
        Library::AutobahnPythonJson,
        Library::AutobahnPythonMsgpack,
    ];
    for library in libraries {
        let mut agent = join(&server, library)?;
        agent.ok(json!({"do": "subscribe", "topic": "com.example.echo"}))?;
        for (args, exclude) in [(json!(["unheard"]), true), (json!(["heard"]), false)] {
            agent.ok(json!({
                "do": "publish", "topic": "com.example.echo", "args": args,
                "options": {"acknowledge": true, "exclude_me": exclude}
            }))?;
        }
        let event = agent.next("event")?;
        ensure!(event["args"] == json!(["heard"]), "{library:?}: {event}");
        agent.ok(json!({"do": "unsubscribe", "topic": "com.example.echo"}))?;
    }
    Ok(())
}

/// Events of one publisher arrive in the order of publishing, none missing.
#[test]
fn events_keep_their_order() -> Outcome {
    let server = server()?;
    let mut publisher = join(&server, Library::AutobahnJs)?;
    let mut subscribers = Vec::new();
    for library in Library::WAMP {
        let mut agent = join(&server, library)?;
        agent.ok(json!({"do": "subscribe", "topic": "com.example.row"}))?;
        subscribers.push((library, agent));
    }
    for number in 0..200 {
        publisher.ok(json!({"do": "publish", "topic": "com.example.row", "args": [number]}))?;
    }
    for (library, agent) in &mut subscribers {
        for number in 0..200 {
            let event = agent.next("event")?;
            ensure!(
                event["args"] == json!([number]),
                "{library:?} at {number}: {event}"
            );
        }
    }
    Ok(())
}

/// A retained event greets a late subscriber. (wampy takes the option `retain` and
/// does not send it; it subscribes.)
#[test]
fn retained_events_greet_late_subscribers() -> Outcome {
    let server = server()?;
    let publishers = [
        Library::AutobahnJs,
        Library::AutobahnPythonJson,
        Library::AutobahnPythonMsgpack,
    ];
    for publisher in publishers {
        let mut agent = join(&server, publisher)?;
        let topic = format!("com.example.state.{publisher:?}").to_lowercase();
        agent.ok(json!({
            "do": "publish", "topic": topic, "args": ["on"], "kwargs": {"since": 7},
            "options": {"acknowledge": true, "retain": true}
        }))?;
        for subscriber in Library::WAMP {
            let mut late = join(&server, subscriber)?;
            late.ok(json!({"do": "subscribe", "topic": topic, "options": {"get_retained": true}}))?;
            let event = late
                .next("event")
                .with_context(|| format!("{publisher:?} -> {subscriber:?}"))?;
            let body = (&event["args"], &event["kwargs"]);
            ensure!(
                body == (&json!(["on"]), &json!({"since": 7})),
                "{publisher:?} -> {subscriber:?}: {event}"
            );
        }
    }
    Ok(())
}

/// Bytes stay bytes between MessagePack clients, and between them and autobahn-python's
/// JSON, which knows the standard's `\0` + base64 form.
#[test]
fn bytes_stay_bytes() -> Outcome {
    let server = server()?;
    let bytes = json!([{"$bin": "00ff10fe"}]);
    let speakers = [
        Library::AutobahnPythonJson,
        Library::AutobahnPythonMsgpack,
        Library::WampyMsgpack,
    ];
    for publisher in speakers {
        let mut agent = join(&server, publisher)?;
        for subscriber in speakers {
            let mut listener = join(&server, subscriber)?;
            listener.ok(json!({"do": "subscribe", "topic": "com.example.bytes"}))?;
            agent.ok(json!({
                "do": "publish", "topic": "com.example.bytes", "args": bytes,
                "options": {"acknowledge": true}
            }))?;
            let event = listener.next("event")?;
            ensure!(
                event["args"] == bytes,
                "{publisher:?} -> {subscriber:?}: {event}"
            );
        }
    }
    Ok(())
}

/// The meta API counts and lists sessions and tells of joins and leaves.
#[test]
fn session_meta_api() -> Outcome {
    let server = server()?;
    let mut watcher = Agent::start(Library::AutobahnJs, &server.wamp_url())?;
    let own = watcher.ok(json!({"do": "connect", "realm": "realm1"}))?["session"].clone();
    for topic in ["wamp.session.on_join", "wamp.session.on_leave"] {
        watcher.ok(json!({"do": "subscribe", "topic": topic}))?;
    }
    let mut guest = Agent::start(Library::WampyMsgpack, &server.wamp_url())?;
    let id = guest.ok(json!({"do": "connect", "realm": "realm1"}))?["session"].clone();
    let event = watcher.next("event")?;
    ensure!(event["args"][0]["session"] == id, "on_join: {event}");

    let mut ask = |procedure: &str, args: Value| {
        watcher.ask(json!({"do": "call", "procedure": procedure, "args": args}))
    };
    let answer = ask("wamp.session.count", json!([]))?;
    ensure!(answer["ok"]["args"] == json!([2]), "count: {answer}");
    let answer = ask("wamp.session.list", json!([]))?;
    let list = answer["ok"]["args"][0]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(
        list.contains(&own) && list.contains(&id) && list.len() == 2,
        "list: {answer}"
    );
    let answer = ask("wamp.session.get", json!([id]))?;
    ensure!(answer["ok"]["args"][0]["session"] == id, "get: {answer}");
    let answer = ask("wamp.session.get", json!([7]))?;
    ensure!(
        answer["error"]["uri"] == "wamp.error.no_such_session",
        "get of nobody: {answer}"
    );

    guest.ok(json!({"do": "leave"}))?;
    let event = watcher.next("event")?;
    ensure!(event["args"][0] == id, "on_leave: {event}");
    Ok(())
}
