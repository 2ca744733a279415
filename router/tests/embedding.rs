//! The router inside a web application: the example's app, over a real socket.

mod support;

#[path = "../examples/axum.rs"]
#[allow(dead_code, reason = "the example's main is not run here")]
mod example;

use reynard::Router;
use reynard::session::SubscribeOptions;
use serde_json::json;
use std::net::SocketAddr;
use support::{MQTT_CONNACK, MQTT_CONNECT, Socket, get, in_memory, soon};
use tokio::net::TcpListener;

/// The example's app on a free port.
async fn serve() -> (Router, SocketAddr, reynard::session::Registration) {
    let router = Router::open(&in_memory()).expect("set up");
    let session = router.session("realm1").await.expect("set up");
    let registration = example::offer(&session).await.expect("set up");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("set up");
    let address = listener.local_addr().expect("set up");
    let app = example::app(router.clone(), session);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    (router, address, registration)
}

#[tokio::test]
async fn the_application_and_the_router_share_a_port() {
    let (router, address, _registration) = serve().await;
    let (status, answer) = get(address, "/", "").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("Hello World!"), "{answer}");
    assert_eq!(get(address, "/wamp", "").await.0, 426);
    assert_eq!(get(address, "/nothing", "").await.0, 404);

    let (mut wamp, _) = Socket::wamp(address, "/wamp").await;
    wamp.say(&json!([48, 1, {}, "app.greet", ["Ada"]])).await;
    assert_eq!(wamp.hear().await, json!([50, 1, {}, ["Hello Ada!"]]));
    wamp.say(&json!([48, 2, {}, "app.greet", [5]])).await;
    let error = wamp.hear().await;
    assert_eq!(
        (&error[0], &error[4]),
        (&json!(8), &json!("wamp.error.invalid_argument"))
    );

    let mut mqtt = Socket::open(address, "/mqtt", "mqtt").await;
    mqtt.send(MQTT_CONNECT).await;
    assert_eq!(mqtt.receive().await, MQTT_CONNACK);
    // SUBSCRIBE to `app/visits`, QoS 0: SUBACK, then the retained count of the one visit.
    mqtt.send(b"\x82\x0f\0\x01\0\x0aapp/visits\0").await;
    let mut heard = mqtt.receive().await;
    while heard.len() < 5 + 15 {
        heard.extend(mqtt.receive().await);
    }
    assert_eq!(heard, b"\x90\x03\0\x01\0\x31\x0d\0\x0aapp/visits1");

    router.start_drain();
    assert_eq!(wamp.hear().await[2], "wamp.close.system_shutdown");
    wamp.say(&json!([6, {}, "wamp.close.goodbye_and_out"]))
        .await;
    wamp.until_closed().await;
    mqtt.until_closed().await;
    soon(router.connections_ended()).await;
    soon(router.close()).await;
}

#[tokio::test]
async fn visits_reach_the_program_and_the_other_way_round() {
    let (router, address, registration) = serve().await;
    let watcher = router.session("realm1").await.unwrap();
    let options = SubscribeOptions::new();
    let mut visits = watcher.subscribe("app.visits", options).await.unwrap();
    for count in 1..=3 {
        assert_eq!(get(address, "/", "").await.0, 200);
        assert_eq!(
            soon(visits.next()).await.unwrap().values.value(),
            &json!(count)
        );
    }
    assert!(get(address, "/visits", "").await.1.ends_with("\r\n3"));
    // The application goes on answering when its session is gone, with what it can say then.
    registration.session().close();
    assert_eq!(get(address, "/", "").await.0, 503);
    soon(router.close()).await;
}
