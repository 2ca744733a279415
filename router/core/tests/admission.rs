//! Lists of receivers hold for whatever is shown later too: retained values, also after a restart,
//! and what a will leaves of them.

mod common;

use common::*;
use router_core::auth::Role;
use router_core::model::Audience;
use router_core::session::{Join, Leave};
use serde_json::json;

fn authids(names: &[&'static str]) -> Audience {
    Audience {
        authids: Some(names.iter().map(|name| (*name).into()).collect()),
        ..Audience::default()
    }
}

fn session(authid: &str, role: &str) -> Join {
    named(authid, Role::unrestricted(role.to_owned()))
}

/// What a new session of that name and role is shown of the retained values under `pattern`.
fn shown(w: &mut World, authid: &str, role: &str, pattern: &str) -> Vec<String> {
    let peer = w.join(session(authid, role));
    w.lines(&peer);
    w.send(&peer, sub(1, pattern).retained().into());
    let mut lines = w.lines(&peer);
    assert!(lines.remove(0).starts_with("done 1 subscribed"));
    w.leave(&peer, Leave::Clean);
    lines
}

#[test]
fn retained_values_are_replayed_to_those_they_were_meant_for() {
    let mut w = World::durable();
    let publisher = w.plain();
    let roles = Audience {
        roles: Some(vec!["staff".into()]),
        ..Audience::default()
    };
    for publish in [
        put(1, "v/all", json!([1])),
        put(2, "v/joe", json!([2])).eligible(authids(&["joe"])),
        put(3, "v/not-joe", json!([3])).exclude(authids(&["joe"])),
        put(4, "v/staff", json!([4])).eligible(roles),
        put(5, "v/nobody", json!([5])).eligible(authids(&[])),
        put(6, "v/session", json!([6])).exclude(Audience {
            sessions: Some(vec![publisher.id()]),
            ..Audience::default()
        }),
    ] {
        assert_eq!(w.ask(&publisher, publish.into()).len(), 1);
    }
    for life in 0..2 {
        let topics = |lines: Vec<String>| -> Vec<String> {
            let topic = |line: &String| {
                let at = line.find("v/").unwrap();
                let rest = line.get(at..).unwrap();
                rest.split([' ', '=', ',']).next().unwrap().to_owned()
            };
            lines.iter().map(topic).collect()
        };
        let joe = shown(&mut w, "joe", "staff", "v/+");
        assert_eq!(
            topics(joe),
            ["v/all", "v/joe", "v/session", "v/staff"],
            "{life}"
        );
        let ann = shown(&mut w, "ann", "user", "v/#");
        assert_eq!(topics(ann), ["v/all", "v/not-joe", "v/session"], "{life}");
        assert_eq!(shown(&mut w, "ann", "user", "v/joe"), Vec::<String>::new());
        assert_eq!(shown(&mut w, "joe", "user", "v/joe").len(), 1);
        w.restart();
    }
}

#[test]
fn what_a_will_leaves_is_for_the_same_ones() {
    let mut w = World::memory();
    let (joe, ann) = (
        w.join(session("joe", "user")),
        w.join(session("ann", "user")),
    );
    for peer in [&joe, &ann] {
        w.lines(peer);
        w.subscribed(peer, "key");
    }
    let owner = w.plain();
    let publish = put(1, "key", json!(["held"]))
        .will(json!("gone"))
        .eligible(authids(&["joe"]));
    w.ask(&owner, publish.into());
    assert_eq!(w.lines(&joe).len(), 1);
    w.leave(&owner, Leave::Lost);
    assert_eq!(w.lines(&joe).len(), 1);
    assert_eq!(w.lines(&ann), Vec::<String>::new());
    assert_eq!(shown(&mut w, "ann", "user", "key"), Vec::<String>::new());
    assert_eq!(shown(&mut w, "joe", "user", "key").len(), 1);
}
