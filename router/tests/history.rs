//! What a configured realm remembers, read through its meta procedures.

mod support;

use reynard::Router;
use reynard::config::Config;
use reynard::session::{Arguments, SubscribeOptions};
use serde_json::{Value, json};
use std::path::Path;
use support::soon;

#[tokio::test]
async fn a_realm_remembers_what_its_configuration_names() {
    let toml = "memory = true\n[[realm]]\nname = \"realm1\"\n\
                [[realm.history]]\ntopic = \"log.#\"\nlimit = 2\n";
    let config = Config::from_toml(Path::new("test.toml"), toml).expect("a configuration");
    let router = Router::open(&config).expect("set up");
    let session = router.session("realm1").await.expect("set up");
    for i in 0..3 {
        for topic in ["log.a", "other"] {
            let publish = session.publish(topic, Arguments::new().arg(i));
            soon(async { publish.await }).await.expect("published");
        }
    }
    let _all = session
        .subscribe("#", SubscribeOptions::new())
        .await
        .expect("subscribed");
    let lookup = session.call("wamp.subscription.lookup", Arguments::new().arg("#"));
    let id: u64 = soon(async { lookup.await }).await.unwrap().get().unwrap();
    let ask = session.call("wamp.subscription.get_events", Arguments::new().arg(id));
    let events: Vec<Value> = soon(async { ask.await }).await.unwrap().get().unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (&event["args"], &event["details"]["topic"]))
        .collect();
    let topic = json!("log.a");
    assert_eq!(told, [(&json!([1]), &topic), (&json!([2]), &topic)]);
}
