//! When a connection gives back its buffers.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;

use bytes::BytesMut;
use driver_common::{Held, Server};
use futures_util::FutureExt as _;
use protocols::gate::{
    Action, Credentials, Driver, Gate, Input, JoinError, JoinRequest, JoinedAs, Output,
};
use protocols::transport::StreamTransport;
use router_core::model::{Delivery, Now};
use router_core::session::{EventStyle, Features};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

/// Joins when the peer says something, and counts how often it is told to rest.
struct Sleeper {
    join: Option<Action>,
    heard: bool,
    rests: Arc<AtomicUsize>,
}

impl Gate for Sleeper {
    fn handle_input(&mut self, _now: Now, input: Input<'_>) {
        if let Input::Stream(bytes) = input {
            bytes.clear();
            self.heard = true;
        }
    }
    fn handle_joined(&mut self, _now: Now, result: Result<JoinedAs, JoinError>) {
        result.unwrap();
    }
    fn handle_delivery(&mut self, _now: Now, _delivery: Delivery) {}
    fn handle_timeout(&mut self, _now: Now) {}
    fn poll_action(&mut self) -> Option<Action> {
        self.join.take_if(|_| self.heard)
    }
    fn poll_output(&mut self) -> Option<Output> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn rest(&mut self) {
        self.rests.fetch_add(1, Ordering::Relaxed);
    }
}

fn connection(server: &Server) -> (DuplexStream, Held, Arc<AtomicUsize>) {
    let rests = Arc::new(AtomicUsize::new(0));
    let request = JoinRequest {
        realm: None,
        credentials: Credentials::Anonymous { authid: None },
        features: Features::default(),
        style: EventStyle::Ordered,
        client: None,
        protocol: "test",
        method: "none",
        agent: None,
    };
    let gate = Sleeper {
        join: Some(Action::Join(Box::new(request))),
        heard: false,
        rests: rests.clone(),
    };
    let (near, stream) = tokio::io::duplex(1 << 10);
    let transport = StreamTransport::new(near, BytesMut::new());
    let (hub, options) = (server.hub.clone(), server.options());
    let driver = Driver::new(transport, Box::new(gate), hub, options, "test");
    (stream, Box::pin(driver.run()), rests)
}

#[tokio::test]
async fn a_connection_that_was_welcomed_and_has_nothing_to_do_rests_at_once() {
    let server = Server::new();
    let (mut stream, mut driver, rests) = connection(&server);
    stream.write_all(b"let me in").await.unwrap();
    // One poll joins, is welcomed and finds nothing more to do; no time is needed.
    assert!((&mut driver).now_or_never().is_none());
    assert_eq!(rests.load(Ordering::Relaxed), 1);
    // Nothing happened since.
    assert!((&mut driver).now_or_never().is_none());
    assert_eq!(rests.load(Ordering::Relaxed), 1);
}
