//! Who is served by whose thread. One worker, and tasks in the order in which they were woken: what is written by a task
//! of its own is written behind the turn that woke it.
#![cfg(all(feature = "mqtt", tokio_unstable))]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;

use bytes::BytesMut;
use driver_common::{Client, Held, Server, named, publish, subscribe};
use protocols::mqtt::packet::{Packet, QoS};
use protocols::transport::StreamTransport;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Room for all that is sent here at once; more than a connection reads at a time.
const ROOM: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    TurnOfPublisher,
    EndOfTurn,
    OtherTask,
    ReadOfReceiver,
    WriteToReceiver,
}

type Log = Arc<Mutex<Vec<Step>>>;

/// The receiver's socket.
struct Noting {
    stream: DuplexStream,
    log: Log,
    breaks: Arc<AtomicBool>,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.log.lock().unwrap().push(Step::ReadOfReceiver);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.log.lock().unwrap().push(Step::WriteToReceiver);
        assert!(!self.breaks.load(Ordering::Relaxed), "broken on purpose");
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The publisher's task.
struct Watched {
    driver: Held,
    log: Log,
    /// Another task is in line before each turn.
    crowded: Arc<AtomicBool>,
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.crowded.load(Ordering::Relaxed) {
            let log = self.log.clone();
            tokio::spawn(async move { log.lock().unwrap().push(Step::OtherTask) });
        }
        self.log.lock().unwrap().push(Step::TurnOfPublisher);
        let polled = self.driver.as_mut().poll(cx);
        self.log.lock().unwrap().push(Step::EndOfTurn);
        polled
    }
}

struct World {
    /// Connections end with it.
    _server: Server,
    publisher: Client,
    /// Its turns are not watched.
    rival: Client,
    receiver: Client,
    serving_receiver: JoinHandle<()>,
    log: Log,
    crowded: Arc<AtomicBool>,
    breaks: Arc<AtomicBool>,
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).disable_lifo_slot().enable_all();
    builder.build().unwrap()
}

impl World {
    async fn new() -> World {
        let server = Server::new();
        let (log, crowded, breaks) = (Log::default(), Arc::default(), Arc::default());
        let (near, far) = tokio::io::duplex(ROOM);
        let stream = Noting {
            stream: near,
            log: Arc::clone(&log),
            breaks: Arc::clone(&breaks),
        };
        let driver = server.driver(StreamTransport::new(stream, BytesMut::new()));
        let serving_receiver = tokio::spawn(driver);
        let mut receiver = Client::new(far);
        let (mut publisher, driver) = server.open(ROOM);
        tokio::spawn(Watched {
            driver,
            log: Arc::clone(&log),
            crowded: Arc::clone(&crowded),
        });
        let (mut rival, driver) = server.open(ROOM);
        tokio::spawn(driver);
        let clients = [&mut receiver, &mut publisher, &mut rival];
        for (client, name) in clients.into_iter().zip(["receiver", "publisher", "rival"]) {
            let connect = Packet::Connect(Box::new(named(name)));
            client.say(&[connect]).await;
            client.acknowledged().await;
        }
        receiver.say(&[subscribe("t", QoS::AtMostOnce)]).await;
        assert!(matches!(receiver.next().await, Some(Packet::SubAck(_))));
        let world = World {
            _server: server,
            publisher,
            rival,
            receiver,
            serving_receiver,
            log,
            crowded,
            breaks,
        };
        world.forget();
        world
    }

    /// Publishes, waits for the first message to arrive, and answers what came before it was written.
    async fn before_arrival_of(&mut self, messages: &[Packet]) -> Step {
        self.publisher.say(messages).await;
        assert!(matches!(
            self.receiver.next().await,
            Some(Packet::Publish(_))
        ));
        self.before_write()
    }

    /// What came before the first write to the receiver, other than that the receiver was read.
    fn before_write(&self) -> Step {
        let log = self.log.lock().unwrap();
        let before = log
            .iter()
            .take_while(|step| **step != Step::WriteToReceiver);
        *before
            .filter(|step| **step != Step::ReadOfReceiver)
            .last()
            .unwrap()
    }

    /// Whether the receiver was read between the beginning of the publisher's turn and the first write.
    fn is_read(&self) -> bool {
        let log = self.log.lock().unwrap();
        let before = log
            .iter()
            .take_while(|step| **step != Step::WriteToReceiver);
        let turn = before.skip_while(|step| **step != Step::TurnOfPublisher);
        turn.into_iter().any(|step| *step == Step::ReadOfReceiver)
    }

    /// Nothing has happened so far.
    fn forget(&self) {
        self.log.lock().unwrap().clear();
    }
}

#[test]
fn the_receiver_is_served_within_the_turn_that_woke_it() {
    runtime().block_on(async {
        let mut world = World::new().await;
        let before = world
            .before_arrival_of(&[publish(None, b"now".to_vec())])
            .await;
        assert_eq!(before, Step::TurnOfPublisher);
        assert!(!world.is_read(), "what it sent waits for its own turn");
    });
}

#[test]
fn it_waits_in_line_behind_whoever_waits_there() {
    runtime().block_on(async {
        let mut world = World::new().await;
        world.crowded.store(true, Ordering::Relaxed);
        let before = world
            .before_arrival_of(&[publish(None, b"in line".to_vec())])
            .await;
        assert_eq!(before, Step::OtherTask);
    });
}

#[test]
fn whom_the_same_publisher_woke_before_need_not_wait() {
    runtime().block_on(async {
        let mut world = World::new().await;
        world.crowded.store(true, Ordering::Relaxed);
        world
            .before_arrival_of(&[publish(None, b"first".to_vec())])
            .await;
        for _ in 0..3 {
            world.forget();
            let before = world
                .before_arrival_of(&[publish(None, b"next".to_vec())])
                .await;
            assert_eq!(before, Step::TurnOfPublisher);
            assert!(!world.is_read(), "nobody is overtaken");
        }
    });
}

#[test]
fn whom_several_publishers_wake_waits_in_line_while_more_comes_together() {
    runtime().block_on(async {
        let mut world = World::new().await;
        world.crowded.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            world.rival.say(&[publish(None, b"rival".to_vec())]).await;
            let arrived = world.receiver.next().await;
            assert!(matches!(arrived, Some(Packet::Publish(_))));
            world.forget();
            let before = world
                .before_arrival_of(&[publish(None, b"mine".to_vec())])
                .await;
            assert_eq!(before, Step::OtherTask);
        }
    });
}

#[test]
fn a_publisher_that_goes_on_leaves_it_to_whichever_thread_is_free() {
    runtime().block_on(async {
        let mut world = World::new().await;
        let much = vec![publish(None, vec![0; 1_000]); 500];
        let before = world.before_arrival_of(&much).await;
        assert_eq!(before, Step::EndOfTurn);
    });
}

#[test]
fn a_receiver_that_fails_there_takes_nobody_with_it() {
    runtime().block_on(async {
        let mut world = World::new().await;
        world.breaks.store(true, Ordering::Relaxed);
        let both = [publish(None, b"fatal".to_vec()), Packet::PingReq];
        world.publisher.say(&both).await;
        assert!(matches!(
            world.publisher.next().await,
            Some(Packet::PingResp)
        ));
        (&mut world.serving_receiver).await.unwrap();
        assert_eq!(world.before_write(), Step::TurnOfPublisher);
        world.publisher.say(&[Packet::PingReq]).await;
        assert!(matches!(
            world.publisher.next().await,
            Some(Packet::PingResp)
        ));
    });
}
