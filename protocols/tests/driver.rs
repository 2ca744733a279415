//! The driver over a WebSocket whose other end is in the same process.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use protocols::gate::{Driver, DriverOptions, Traffic};
use protocols::transport::{WebSocketLimits, WebSocketTransport};
use protocols::wamp::machine::{WampMachine, WampOptions};
use protocols::wamp::map::naming;
use router_core::encoding::Encoding;
use router_core::limits::RealmLimits;
use router_core::runtime::{Hub, HubSettings, now};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::MemoryStorage;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Longer than anything here takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(3600);

struct World {
    client: WebSocketStream<DuplexStream>,
    hub: Hub,
    traffic: Arc<Traffic>,
    driver: tokio::task::JoinHandle<()>,
    drain: watch::Sender<bool>,
}

async fn connect(ping_after: Duration, dead_after: Duration) -> World {
    let settings = HubSettings {
        default_realm: "realm1".into(),
        auto_realms: true,
        max_realms: 10,
        realms: HashMap::new(),
        limits: RealmLimits::default(),
        naming: naming(),
    };
    let hub = Hub::open(settings, Arc::new(MemoryStorage::new())).unwrap();
    let (near, far) = tokio::io::duplex(4 << 20);
    let drain = watch::Sender::new(false);
    let traffic = Arc::new(Traffic::default());
    let options = DriverOptions {
        ping_after,
        dead_after,
        write_timeout: LONG,
        drain: drain.subscribe(),
        traffic: traffic.clone(),
        peer: "test".to_owned(),
    };
    let limits = WebSocketLimits {
        max_message_bytes: 1 << 20,
    };
    let transport = WebSocketTransport::new(near, Bytes::new(), limits).await;
    let gate = Box::new(WampMachine::new(
        now(),
        Encoding::Json,
        WampOptions::default(),
    ));
    let driver = tokio::spawn(Driver::new(transport, gate, hub.clone(), options).run());
    let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    World {
        client,
        hub,
        traffic,
        driver,
        drain,
    }
}

impl World {
    async fn say(&mut self, text: &str) {
        self.client.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        timeout(DEADLINE, self.client.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }

    async fn join(&mut self) {
        self.say(r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#)
            .await;
        let welcome = self.next().await.into_text().unwrap();
        assert!(welcome.starts_with("[2,"), "{welcome}");
    }

    fn sessions(&self) -> usize {
        let sizes = self.hub.stats().sizes;
        sizes
            .iter()
            .find(|(name, _)| *name == "sessions")
            .map_or(0, |(_, size)| *size)
    }
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_lives_on_when_it_answers() {
    let mut world = connect(Duration::from_millis(5), LONG).await;
    world.join().await;
    // Reading answers each ping; the next one comes only because the answer counted.
    for _ in 0..3 {
        assert!(matches!(world.next().await, Message::Ping(_)));
        world.client.flush().await.unwrap();
    }
    assert_eq!(world.sessions(), 1);
}

#[tokio::test]
async fn a_peer_that_answers_nothing_loses_its_session() {
    let mut world = connect(Duration::from_millis(5), Duration::from_millis(50)).await;
    world.join().await;
    // The client does not read, so no pong is written.
    timeout(DEADLINE, &mut world.driver).await.unwrap().unwrap();
    assert_eq!(world.sessions(), 0);
}

#[tokio::test]
async fn a_drain_says_goodbye_and_ends_the_connection() {
    let mut world = connect(LONG, LONG).await;
    world.join().await;
    world.drain.send_replace(true);
    let goodbye = world.next().await.into_text().unwrap();
    assert!(goodbye.contains("wamp.close.system_shutdown"), "{goodbye}");
    world.say(r#"[6,{},"wamp.close.goodbye_and_out"]"#).await;
    timeout(DEADLINE, &mut world.driver).await.unwrap().unwrap();
    assert_eq!(world.sessions(), 0);
}

#[tokio::test]
async fn a_lost_connection_loses_its_session() {
    let mut world = connect(LONG, LONG).await;
    world.join().await;
    assert_eq!(world.sessions(), 1);
    drop(world.client);
    timeout(DEADLINE, world.driver).await.unwrap().unwrap();
    let sizes = world.hub.stats().sizes;
    assert!(sizes.iter().all(|(_, size)| *size == 0), "{sizes:?}");
    let violations = &world.traffic.closed_by_violation;
    assert_eq!(
        violations.load(Ordering::Relaxed),
        0,
        "to go away breaks no rule"
    );
}

#[tokio::test]
async fn an_oversize_message_closes_with_1009_and_is_counted() {
    let mut world = connect(LONG, LONG).await;
    world.join().await;
    world.say(&"x".repeat((1 << 20) + 1)).await;
    let Message::Close(Some(frame)) = world.next().await else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(frame.code), 1009);
    timeout(DEADLINE, world.driver).await.unwrap().unwrap();
    assert_eq!(world.traffic.closed_by_violation.load(Ordering::Relaxed), 1);
}
