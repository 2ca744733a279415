//! A WAMP publisher and subscriber.

use crate::actor::{Cx, Phase};
use crate::ledger::{ActorId, Interest, InterestId, Uid};
use crate::wamp::Role;
use crate::wamp_end::{PUBLISH, SUBSCRIBE, WampEnd, dict, uri};
use protocols::wamp::message::{Message, Publish, Subscribe};
use router_core::limits::WhenFull;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub struct PubSub {
    me: ActorId,
    /// The topic or pattern in WAMP's words, its options, and the same as an MQTT filter.
    subscribes: Option<(&'static str, Value, &'static str)>,
    publishes: Vec<&'static str>,
    interest: Option<InterestId>,
    open: BTreeMap<u64, Uid>,
}

impl PubSub {
    pub fn new(
        me: ActorId,
        subscribes: Option<(&'static str, Value, &'static str)>,
        publishes: Vec<&'static str>,
    ) -> PubSub {
        PubSub {
            me,
            subscribes,
            publishes,
            interest: None,
            open: BTreeMap::new(),
        }
    }
}

impl Role for PubSub {
    fn up(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if let Some((topic, options, _)) = self.subscribes.clone() {
            let request = end.request(SUBSCRIBE, true);
            let options = dict(options);
            end.send(
                cx,
                &Subscribe {
                    request,
                    options,
                    topic: topic.into(),
                }
                .into(),
            );
        }
    }

    fn down(&mut self, cx: &mut Cx<'_>) {
        self.open.clear();
        if let Some(interest) = self.interest.take() {
            cx.ledger.interest_over(interest);
        }
    }

    fn message(&mut self, message: Message, end: &mut WampEnd, cx: &mut Cx<'_>) {
        match message {
            Message::Subscribed(_) => {
                let Some((_, _, filter)) = &self.subscribes else {
                    return;
                };
                self.interest = Some(cx.ledger.interested(Interest {
                    actor: self.me,
                    filter: (*filter).to_owned(),
                    qos: 2,
                    ..Interest::default()
                }));
            }
            Message::Event(event) => {
                let uid = end.uid(&event.payload, cx);
                let replayed = event.details.get("retained") == Some(&Value::Bool(true));
                cx.note(self.me, || format!("gets {uid:?} replayed {replayed}"));
                cx.ledger.received(self.me, uid, false, replayed);
            }
            Message::Published(published) => {
                if let Some(uid) = self.open.remove(&published.request) {
                    cx.ledger.acked(uid);
                }
            }
            Message::Error(error) => {
                if let Some(uid) = self.open.remove(&error.request) {
                    cx.ledger.refused(uid);
                    let store = cx.ledger.store_failures > 0;
                    let full = cx.ledger.queue_full == Some(WhenFull::RefusePublisher);
                    let known = store && error.error == "wamp.error.unavailable"
                        || full && error.error == "reynard.error.quota_exceeded";
                    cx.ledger
                        .require(known, || format!("publication {uid}: {error:?}"));
                }
            }
            _ => {}
        }
    }

    fn act(&mut self, end: &mut WampEnd, cx: &mut Cx<'_>) {
        if cx.phase != Phase::Chaos || self.publishes.is_empty() {
            return;
        }
        let topic = *cx.dice.pick(&self.publishes);
        let qos = cx.dice.range(0, 2) as u8;
        let acknowledge = cx.dice.permille(700);
        let uid = cx.ledger.publication(self.me, topic, qos);
        let request = end.request(PUBLISH, acknowledge);
        if acknowledge {
            self.open.insert(request, uid);
        }
        let options = dict(json!({"acknowledge": acknowledge, "x_qos": qos}));
        let payload = end.payload(&[json!({"u": uid})], json!({}));
        cx.note(self.me, || {
            format!("publishes {uid} on {topic} qos {qos} request {request}")
        });
        if let Some(link) = end.link {
            cx.ledger.sent(link, uid);
        }
        end.send(
            cx,
            &Publish {
                request,
                options,
                topic: uri(topic),
                payload,
            }
            .into(),
        );
    }

    fn may_stall(&self) -> bool {
        true
    }
}
