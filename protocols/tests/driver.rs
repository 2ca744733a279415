//! The driver over a WebSocket whose other end is in the same process.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use protocols::gate::{
    Action, Credentials, Driver, DriverOptions, Gate, Input, JoinError, JoinRequest, JoinedAs,
    Output, Proofs, Traffic,
};
use protocols::transport::{WebSocketLimits, WebSocketTransport};
use protocols::wamp::machine::{WampMachine, WampOptions, serialization_of};
use protocols::wamp::map::naming;
use router_core::auth::{Role as AccessRole, Verified};
use router_core::encoding::Encoding;
use router_core::limits::{OutboxLimits, RealmLimits};
use router_core::model::{
    Command, Delivery, EndReason, Now, Pattern, Payload, Publish, Qos, RequestId, Subscribe, Topic,
};
use router_core::runtime::{Door, EnterRequest, Hub, HubSettings, now};
use router_core::session::{ClientJoin, EventStyle, Features};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
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
    let machine = WampMachine::new(now(), Encoding::Json, WampOptions::default());
    connect_to(Box::new(machine), ping_after, dead_after).await
}

async fn connect_to(gate: Box<dyn Gate>, ping_after: Duration, dead_after: Duration) -> World {
    let settings = HubSettings {
        default_realm: "realm1".into(),
        auto_realms: true,
        max_realms: 10,
        realms: HashMap::new(),
        // Nobody is taken for stuck, and a receiver that settles may not fall behind further.
        limits: RealmLimits {
            outbox: OutboxLimits {
                patience: LONG,
                ordered: OutboxLimits::default().sure,
                ..OutboxLimits::default()
            },
            ..RealmLimits::default()
        },
        naming: naming(),
        sharing: router_core::broker::Sharing::default(),
        history: HashMap::new(),
        durability: HashMap::new(),
    };
    let hub = Hub::open(settings, Arc::new(MemoryStorage::new())).unwrap();
    let (near, far) = tokio::io::duplex(4 << 20);
    let drain = watch::Sender::new(false);
    let traffic = Arc::new(Traffic::default());
    let options = DriverOptions {
        ping_after,
        dead_after,
        write_timeout: LONG,
        hear_out: LONG,
        // For clients that are not read any more.
        linger: Duration::from_millis(50),
        drain: drain.subscribe(),
        traffic: traffic.clone(),
        proofs: Proofs::default(),
    };
    let limits = WebSocketLimits {
        max_message_bytes: 1 << 20,
    };
    let transport = WebSocketTransport::new(near, Bytes::new(), limits);
    let driver = tokio::spawn(Driver::new(transport, gate, hub.clone(), options, "test").run());
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
async fn a_batch_is_carried_out_to_its_end_though_nothing_more_is_read() {
    let serialization = serialization_of("wamp.2.json.batched").unwrap();
    let machine = WampMachine::new(now(), serialization, WampOptions::default());
    let mut world = connect_to(Box::new(machine), LONG, LONG).await;
    world
        .say("[1,\"realm1\",{\"roles\":{\"publisher\":{}}}]\u{1e}")
        .await;
    assert!(world.next().await.into_text().unwrap().starts_with("[2,"));
    let batch: String = (1..=2000)
        .map(|n| format!("[16,{n},{{\"acknowledge\":true}},\"t\"]\u{1e}"))
        .collect();
    world.say(&batch).await;
    let mut wanted = 1;
    while wanted <= 2000 {
        let frame = world.next().await.into_text().unwrap();
        for message in frame.split_terminator('\u{1e}') {
            let expected = format!("[17,{wanted},");
            assert!(message.starts_with(&expected), "{message}");
            wanted += 1;
        }
    }
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

/// Joins at once, counts the ends it is told of, and closes when the peer says something.
struct Patient {
    actions: Vec<Action>,
    ends: Arc<AtomicUsize>,
    close: bool,
}

impl Gate for Patient {
    fn handle_input(&mut self, _now: Now, input: Input<'_>) {
        self.close |= matches!(input, Input::Text(_));
    }
    fn handle_joined(&mut self, _now: Now, result: Result<JoinedAs, JoinError>) {
        result.unwrap();
    }
    fn handle_delivery(&mut self, _now: Now, delivery: Delivery) {
        if matches!(delivery, Delivery::Ended(_)) {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn handle_timeout(&mut self, _now: Now) {}
    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }
    fn poll_output(&mut self) -> Option<Output> {
        let close = Output::Close {
            code: 1000,
            reason: "",
        };
        std::mem::take(&mut self.close).then_some(close)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[tokio::test]
async fn a_gate_that_takes_its_time_hears_the_end_once() {
    let ends = Arc::new(AtomicUsize::new(0));
    let actions = vec![Action::Join(Box::new(join_request()))];
    let gate = Patient {
        actions,
        ends: ends.clone(),
        close: false,
    };
    let mut world = connect_to(Box::new(gate), LONG, LONG).await;
    while world.sessions() == 0 {
        tokio::task::yield_now().await;
    }
    world.hub.end_sessions(&EndReason::Shutdown);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.say("done").await;
    timeout(DEADLINE, &mut world.driver).await.unwrap().unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

/// Joins at once, and publishes a lot when the peer says something.
struct Flood {
    actions: VecDeque<Action>,
    count: u64,
    close: bool,
}

impl Gate for Flood {
    fn handle_input(&mut self, _now: Now, input: Input<'_>) {
        if let Input::Text(text) = input {
            let topic = Topic::new("t".to_owned()).unwrap();
            self.actions.extend((0..self.count).map(|n| {
                let mut publish = Publish::new(topic.clone(), Payload::from_values(&[n.into()]));
                publish.qos = Qos::AtLeastOnce;
                Action::Command(Command::Publish(Box::new(publish)))
            }));
            self.close = &*text == b"and go";
        }
    }
    fn handle_joined(&mut self, _now: Now, result: Result<JoinedAs, JoinError>) {
        result.unwrap();
    }
    fn handle_delivery(&mut self, _now: Now, _delivery: Delivery) {}
    fn handle_timeout(&mut self, _now: Now) {}
    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    fn poll_output(&mut self) -> Option<Output> {
        let close = Output::Close {
            code: 1000,
            reason: "",
        };
        std::mem::take(&mut self.close).then_some(close)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

fn join_request() -> JoinRequest {
    JoinRequest {
        realm: None,
        credentials: Credentials::Anonymous { authid: None },
        features: Features::default(),
        style: EventStyle::Ordered,
        client: None,
        protocol: "test",
        method: "none",
        agent: None,
    }
}

/// A client that settles what it gets, subscribed to what [`Flood`] publishes.
fn subscriber(hub: &Hub) -> Door {
    let verified = Verified {
        authid: None,
        role: Arc::new(AccessRole::unrestricted("anonymous".to_owned())),
        by_secret: false,
    };
    let client = ClientJoin {
        id: "c".into(),
        clean_start: true,
        expiry: Duration::ZERO,
        window: 10,
        last_will: None,
    };
    let enter = EnterRequest {
        features: Features::default(),
        style: EventStyle::Lanes,
        client: Some(client),
        method: "none".into(),
        transport: [].into(),
    };
    let door = hub.enter(now(), None, verified, enter).unwrap();
    let mut subscribe = Subscribe::new(RequestId(1), Pattern::from_slashes("t").unwrap());
    subscribe.qos = Qos::AtLeastOnce;
    let command = Command::Subscribe(Box::new(subscribe));
    door.cell
        .run(now(), door.connection, std::iter::once(command));
    door
}

/// Takes and settles what there is; answers how many, and how many were lost.
fn settle(door: &Door) -> (u64, u64) {
    let mut out = Vec::new();
    let generation = door.connection.generation;
    door.outbox.drain(generation, 512, 0, &mut out);
    let mut got = (0, 0);
    let mut slots = Vec::new();
    for delivery in out {
        if let Delivery::Event(event) = delivery {
            got = (got.0 + 1, got.1 + u64::from(event.lost));
            slots.extend(event.slot);
        }
    }
    let commands = slots.into_iter().map(|slot| Command::Settle { slot });
    door.cell.run(now(), door.connection, commands);
    got
}

#[tokio::test]
async fn what_was_read_at_once_waits_for_a_receiver_that_goes_on() {
    const COUNT: u64 = 5_000;
    // Also if the publisher goes at once: nothing that was read is given up.
    for (words, bursts) in [("go", true), ("and go", false)] {
        let gate = Flood {
            actions: [Action::Join(Box::new(join_request()))].into(),
            count: if bursts { COUNT } else { 900 },
            close: false,
        };
        let most = gate.count;
        let mut world = connect_to(Box::new(gate), LONG, LONG).await;
        while world.sessions() == 0 {
            tokio::task::yield_now().await;
        }
        let door = subscriber(&world.hub);
        world.say(words).await;
        let all = async {
            let mut got = 0;
            while got < most {
                tokio::task::yield_now().await;
                let (more, lost) = settle(&door);
                assert_eq!(lost, 0, "after {got}");
                got += more;
            }
        };
        timeout(DEADLINE, all).await.unwrap();
    }
}

#[tokio::test]
async fn a_stranger_may_send_what_a_login_takes_and_no_more() {
    let mut world = connect(LONG, LONG).await;
    world.say(&"x".repeat(200 << 10)).await;
    let Message::Close(Some(frame)) = world.next().await else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(frame.code), 1009);
    timeout(DEADLINE, world.driver).await.unwrap().unwrap();
    assert!(world.traffic.bytes_in.load(Ordering::Relaxed) == 0);
}

#[tokio::test]
async fn whoever_asks_without_reading_the_answers_is_not_read_any_more() {
    let mut world = connect(LONG, LONG).await;
    world.join().await;
    let traffic = world.traffic.clone();
    let flood = tokio::spawn(async move {
        // An answer is longer than its question, and the gate makes it without the realm.
        for request in 1..2_000_000_u64 {
            let text = format!(r#"[32,{request},{{}},"a..b"]"#);
            world.client.send(Message::text(text)).await.unwrap();
        }
    });
    let (mut read, mut quiet) = (0, 0);
    while quiet < 1_000 {
        tokio::task::yield_now().await;
        let now = traffic.bytes_in.load(Ordering::Relaxed);
        quiet = if now == read { quiet + 1 } else { 0 };
        read = now;
    }
    assert!(!flood.is_finished());
    assert!(read < 8 << 20, "{read} bytes were read");
    flood.abort();
}
