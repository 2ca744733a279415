//! The realm's own words about subscriptions of clients that outlive their connections, and about
//! what a failing store takes back.

mod common;

use common::*;
use router_core::model::{Delivery, RequestId};
use router_core::records;
use router_core::session::Leave;
use serde_json::{Value, json};

/// The body of a procedure's result, or its refusal.
fn asked(w: &mut World, peer: &Peer, name: &str, args: Value) -> Value {
    let procedure = format!("wamp/subscription/{name}");
    w.send(peer, call(77, &procedure, args));
    for delivery in w.read(peer) {
        match delivery {
            Delivery::Result { payload, .. } => return payload.value().clone(),
            Delivery::CallFailed {
                request: RequestId(77),
                failure,
            } => return json!(format!("{failure:?}")),
            _ => {}
        }
    }
    panic!("{name} is not answered");
}

/// Listens to all events of subscriptions.
fn listener(w: &mut World) -> Peer {
    let peer = w.plain();
    w.subscribed(&peer, "wamp/subscription/+");
    peer
}

/// The last levels of the topics told of, and their bodies.
fn told(w: &mut World, peer: &Peer) -> Vec<(String, Value)> {
    let deliveries = w.read(peer).into_iter();
    let events = deliveries.filter_map(|delivery| match delivery {
        Delivery::Event(delivery) => Some(delivery.event),
        _ => None,
    });
    events
        .map(|event| {
            let name = event.topic.levels().last().unwrap_or_default().to_owned();
            (name, event.payload.value().clone())
        })
        .collect()
}

#[test]
fn a_lasting_subscription_is_known_as_it_was_after_a_restart() {
    let mut w = World::durable();
    let client = w.join(client("c").expiry(60));
    let session = client.id().0;
    w.send(&client, sub(1, "a/+").into());
    let looker = w.plain();
    let id = asked(&mut w, &looker, "match", json!(["a/b"]))[0].clone();
    let before = asked(&mut w, &looker, "get", json!([id]));
    assert_eq!(before["created"], "2027-01-15T08:00:00.000Z");
    w.leave(&client, Leave::Lost);
    w.restart_after(secs(5));
    let looker = w.plain();
    assert_eq!(asked(&mut w, &looker, "get", json!([id])), before);
    let members = asked(&mut w, &looker, "list_subscribers", json!([id]));
    assert_eq!(members, json!([session]), "without a connection too");
    // Who is removed stays removed, whether it is there or not.
    let nothing = asked(&mut w, &looker, "remove_subscriber", json!([id, session]));
    assert_eq!(nothing, Value::Null);
    assert_eq!(w.records(records::SUBSCRIPTIONS), 0);
    w.restart();
    let looker = w.plain();
    assert_eq!(asked(&mut w, &looker, "match", json!(["a/b"])), Value::Null);
}

#[test]
fn a_subscription_that_the_store_refuses_is_told_to_be_gone() {
    let mut w = World::durable();
    let watcher = listener(&mut w);
    let client = w.join(client("c").expiry(60));
    w.commit();
    w.lines(&client);
    w.auto_commit = false;
    w.send(&client, sub(1, "a").into());
    let events = told(&mut w, &watcher);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["on_create", "on_subscribe"]);
    let member = events[1].1.clone();
    w.fail();
    let expected = ["on_unsubscribe", "on_delete"].map(|name| (name.to_owned(), member.clone()));
    assert_eq!(told(&mut w, &watcher), expected);
    assert_eq!(w.lines(&client), ["refused 1 StorageUnavailable"]);
}

#[test]
fn where_nobody_listens_nothing_is_made_of_subscriptions() {
    let mut w = World::memory();
    let peer = w.plain();
    let before = w.realm.counters().events_in;
    for i in 0..100 {
        w.send(&peer, sub(i, &format!("t/{i}")).into());
    }
    w.leave(&peer, Leave::Clean);
    assert_eq!(w.realm.counters().events_in, before);
}

#[test]
fn a_session_that_comes_anew_leaves_what_it_held_before() {
    let mut w = World::memory();
    let watcher = listener(&mut w);
    let first = w.join(client("c").expiry(60));
    w.send(&first, sub(1, "a").into());
    assert_eq!(told(&mut w, &watcher).len(), 2);
    // The same session goes on: nothing is told.
    w.leave(&first, Leave::Lost);
    let again = w.join(client("c").expiry(60));
    assert_eq!(told(&mut w, &watcher), []);
    assert_eq!(again.id(), first.id());
    // Another one takes its place.
    w.join(client("c").expiry(60).clean());
    let names: Vec<_> = told(&mut w, &watcher)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["on_unsubscribe", "on_delete"]);
}
