//! The last one: looks at every retained value, and deletes it.

use crate::actor::{Cx, Phase};
use crate::ledger::ActorId;
use crate::wamp::Role;
use crate::wamp_end::{PUBLISH, SUBSCRIBE, WampEnd, dict};
use protocols::wamp::map;
use protocols::wamp::message::{Message, Publish, Subscribe};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Janitor {
    keys: BTreeSet<String>,
    since: Option<u64>,
    is_done: bool,
}

/// How long retained values may take to arrive, in milliseconds.
const PATIENCE: u64 = 3_000;

impl Janitor {
    pub fn new(_: ActorId) -> Janitor {
        Janitor::default()
    }
}

impl Role for Janitor {
    fn up(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        let asked = cx.ledger.tick();
        cx.ledger.looked.get_or_insert(asked);
        let request = end.request(SUBSCRIBE, true);
        let options = dict(json!({"match": "prefix", "get_retained": true}));
        end.send(
            cx,
            &Subscribe {
                request,
                options,
                topic: "".into(),
            }
            .into(),
        );
        self.since = Some(cx.now);
    }

    fn down(&mut self, _: &mut Cx<'_>) {
        self.since = None;
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Event(event) if event.details.get("retained") == Some(&Value::Bool(true)) => {
                let topic = event
                    .details
                    .get("topic")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let uid = end.uid(&event.payload, cx);
                cx.ledger.found.insert(core_text(topic), uid);
                self.keys.insert(topic.to_owned());
            }
            Message::Error(error) => cx.ledger.fail(format!("the janitor: {error:?}")),
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if self.since.is_none_or(|since| cx.now < since + PATIENCE) || cx.phase == Phase::Chaos {
            return;
        }
        let Some(key) = self.keys.pop_first() else {
            self.is_done = true;
            return;
        };
        let uid = cx.ledger.publication(end.me, &core_text(&key), 0);
        if let Some(link) = end.link {
            cx.ledger.sent(link, uid);
        }
        let request = end.request(PUBLISH, true);
        let options = dict(json!({"acknowledge": true, "retain": true}));
        let payload = end.payload(&[], Value::Null);
        end.send(
            cx,
            &Publish {
                request,
                options,
                topic: key.into(),
                payload,
            }
            .into(),
        );
    }

    fn waits(&self) -> Option<String> {
        (!self.is_done).then(|| format!("the janitor still has {} keys", self.keys.len()))
    }
}

/// Malformed peers leave keys whose levels need an escape in WAMP's spelling.
fn core_text(uri: &str) -> String {
    map::topic(uri).map_or_else(|_| uri.to_owned(), |topic| topic.text().to_owned())
}
