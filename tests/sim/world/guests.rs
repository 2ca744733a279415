//! Who takes part in a run.

use super::World;
use crate::kv::KvClient;
use crate::kv_calls::KvCaller;
use crate::lock::LockClient;
use crate::lock_calls::LockCaller;
use crate::mqtt::{MqttActor, Plan};
use crate::mqtt_rpc::MqttCaller;
use crate::noise::Noise;
use crate::pubsub::PubSub;
use crate::rpc::{Callee, Caller};
use crate::wamp::WampActor;
use serde_json::json;

impl World {
    /// Everybody who takes part from the beginning.
    pub(super) fn invite(&mut self) {
        const TOPICS: [&str; 3] = ["t/a", "t/b", "t/c"];
        const SHARED: [&str; 2] = ["r/a", "r/b"];
        const LOCKS: [&str; 2] = ["l/a", "l/b"];
        for (v5, persistent) in [(true, true), (false, true), (false, false)] {
            let publishes = TOPICS.to_vec();
            self.add(|me| {
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        publishes,
                        ..Plan::default()
                    },
                )
            });
        }
        let readers = [
            (true, true, "t/#", 2),
            (false, true, "t/a", 2),
            (true, true, "t/b", 1),
            (false, false, "t/#", 2),
            (true, false, "t/c", 0),
            (true, true, "w/#", 2),
            (false, true, "r/#", 1),
        ];
        for (v5, persistent, filter, qos) in readers {
            let subscribes = Some((filter, qos));
            self.add(|me| {
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        subscribes,
                        ..Plan::default()
                    },
                )
            });
        }
        self.invite_groups();
        for (v5, persistent, retain) in [
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            self.add(|me| {
                let will = Some((format!("w/{me}"), retain));
                let retains = SHARED.to_vec();
                MqttActor::new(
                    me,
                    Plan {
                        v5,
                        persistent,
                        will,
                        retains,
                        ..Plan::default()
                    },
                )
            });
        }
        let sessions = [
            (
                Some(("t.", json!({"match": "prefix"}), "t/#")),
                TOPICS.to_vec(),
            ),
            (Some(("t.*", json!({}), "t/#")), TOPICS.to_vec()),
            (Some(("t.a", json!({}), "t/a")), vec![]),
            (Some(("r.#", json!({"get_retained": true}), "r/#")), vec![]),
        ];
        for (subscribes, publishes) in sessions {
            self.add(|me| WampActor::new(me, PubSub::new(me, subscribes, publishes)));
        }
        for _ in 0..4 {
            self.add(|me| WampActor::new(me, LockClient::new(me, LOCKS.to_vec())));
        }
        for _ in 0..3 {
            self.add(|me| WampActor::new(me, KvClient::new(me, vec!["c/a"], SHARED.to_vec())));
        }
        for (procedure, concurrency) in [("p/a", 2), ("p/a", 1), ("p/b", 3)] {
            self.add(|me| WampActor::new(me, Callee::new(me, procedure, concurrency)));
        }
        for _ in 0..2 {
            self.add(|me| WampActor::new(me, Caller::new(me, vec!["p/a", "p/b"])));
        }
        const HELD: [&str; 2] = ["h/a", "h/b"];
        for _ in 0..3 {
            self.add(|me| WampActor::new(me, LockCaller::new(me, HELD.to_vec())));
        }
        self.add(|me| MqttCaller::new(me, HELD.to_vec()));
        for _ in 0..2 {
            self.add(|me| WampActor::new(me, KvCaller::new(me, vec!["v/a", "v/b"], "c/a")));
        }
        self.add(Noise::new);
    }

    /// Members of share groups, and who publishes to them.
    fn invite_groups(&mut self) {
        const TOPICS: [&str; 2] = ["s/alpha", "s/beta"];
        let members = [
            // One group of all sorts, one whose sessions all last.
            ("mixed", true, true, false),
            ("mixed", true, false, true),
            ("mixed", false, false, false),
            ("lasting", true, true, false),
            ("lasting", false, true, true),
            ("lasting", true, true, true),
        ];
        for (place, (group, v5, persistent, leaves)) in members.into_iter().enumerate() {
            let plan = Plan {
                v5,
                persistent,
                leaves,
                // Somebody must be there throughout.
                stays: place == 0 || group == "lasting",
                group: Some(group),
                subscribes: Some(("s/#", 2)),
                ..Plan::default()
            };
            self.add(|me| MqttActor::new(me, plan));
        }
        for v5 in [true, false] {
            let plan = Plan {
                v5,
                persistent: true,
                publishes: TOPICS.to_vec(),
                ..Plan::default()
            };
            self.add(|me| MqttActor::new(me, plan));
        }
        let plan = Plan {
            v5: true,
            persistent: true,
            subscribes: Some(("s/#", 2)),
            packet: Some(48),
            ..Plan::default()
        };
        self.add(|me| MqttActor::new(me, plan));
    }
}
