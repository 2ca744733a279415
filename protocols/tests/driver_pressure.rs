//! Peers that take little, or less than they ask for.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;

use bytes::BytesMut;
use driver_common::{Server, bytes_of, connect, named, publish, settle, subscribe};
use protocols::mqtt::packet::{Connect, Packet, Properties, QoS};
use protocols::transport::StreamTransport;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than a driver reads of a peer that takes no answers, and more answers than it queues.
const MUCH: usize = 1 << 20;

/// A peer that has said all that it will ever say, and takes so many bytes. Like a socket, it wakes only whoever found
/// nothing to read, or no room to write.
#[derive(Default)]
struct Peer {
    said: BytesMut,
    takes: usize,
    taken: usize,
    /// How often somebody wanted to write.
    tries: usize,
    writer: Option<Waker>,
}

#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Peer>>);

impl Socket {
    /// Lets the driver write so many bytes more; answers how many have come in all, and how many are left to be read.
    async fn take(&self, bytes: usize) -> (usize, usize) {
        let writer = {
            let mut peer = self.0.lock().unwrap();
            peer.takes += bytes;
            peer.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        loop {
            let before = self.0.lock().unwrap().taken;
            settle().await;
            let peer = self.0.lock().unwrap();
            if peer.taken == before {
                return (peer.taken, peer.said.len());
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut peer = self.0.lock().unwrap();
        if peer.said.is_empty() {
            return Poll::Pending;
        }
        let count = buf.remaining().min(peer.said.len());
        buf.put_slice(&peer.said.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut peer = self.0.lock().unwrap();
        let count = bytes.len().min(peer.takes);
        peer.tries += 1;
        if count == 0 {
            peer.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        peer.takes -= count;
        peer.taken += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn whoever_takes_the_answers_at_last_is_read_on() {
    let server = Server::new();
    let socket = Socket::default();
    // Questions and answers have two bytes each.
    let questions = vec![Packet::PingReq; MUCH / 2];
    {
        let said = &mut socket.0.lock().unwrap().said;
        said.extend_from_slice(&bytes_of(&[Packet::Connect(Box::new(connect(0)))]));
        said.extend_from_slice(&bytes_of(&questions));
    }
    tokio::spawn(server.driver(StreamTransport::new(socket.clone(), BytesMut::new())));
    let welcome = 100;
    let (taken, left) = socket.take(welcome).await;
    assert_eq!(taken, welcome, "the welcome and the first answers");
    assert!(left > MUCH / 2, "nothing more is read: {left}");
    let (taken, left) = socket.take(2 * MUCH).await;
    assert_eq!(left, 0, "of {MUCH} bytes, after {taken} bytes of answers");
    assert!(taken > MUCH);
}

#[tokio::test]
async fn what_cannot_be_sent_makes_room_for_what_can() {
    let server = Server::new();
    let (mut receiver, driver) = server.open(MUCH);
    tokio::spawn(driver);
    let properties = Properties {
        receive_maximum: 1.try_into().ok(),
        maximum_packet_size: 100.try_into().ok(),
        ..Properties::default()
    };
    let connect = Connect {
        properties: Some(Box::new(properties)),
        ..named("receiver")
    };
    receiver.say(&[Packet::Connect(Box::new(connect))]).await;
    receiver.acknowledged().await;
    receiver.say(&[subscribe("t", QoS::AtLeastOnce)]).await;
    assert!(matches!(receiver.next().await, Some(Packet::SubAck(_))));
    let (mut publisher, driver) = server.open(MUCH);
    tokio::spawn(driver);
    let connect = Packet::Connect(Box::new(named("publisher")));
    publisher.say(&[connect]).await;
    publisher.acknowledged().await;
    let messages = [
        publish(Some(1), vec![0; 1_000]),
        publish(Some(2), b"fits".to_vec()),
    ];
    publisher.say(&messages).await;
    settle().await;
    assert!(!receiver.has_nothing(), "no timer is waited for");
    let Some(Packet::Publish(publish)) = receiver.next().await else {
        panic!("no PUBLISH");
    };
    assert_eq!(publish.payload, "fits");
}

#[tokio::test]
async fn whoever_takes_nothing_costs_nothing() {
    let server = Server::new();
    let socket = Socket::default();
    let hello = [
        Packet::Connect(Box::new(named("receiver"))),
        subscribe("t", QoS::AtMostOnce),
    ];
    socket.0.lock().unwrap().said = bytes_of(&hello);
    tokio::spawn(server.driver(StreamTransport::new(socket.clone(), BytesMut::new())));
    socket.take(100).await;
    let (mut publisher, driver) = server.open(MUCH);
    tokio::spawn(driver);
    let connect = Packet::Connect(Box::new(named("publisher")));
    publisher.say(&[connect]).await;
    publisher.acknowledged().await;
    for _ in 0..MUCH / 1_000 {
        publisher.say(&[publish(None, vec![0; 1_000])]).await;
        settle().await;
    }
    let tries = socket.0.lock().unwrap().tries;
    for _ in 0..100 {
        settle().await;
    }
    // A timer may be due in between.
    let more = socket.0.lock().unwrap().tries - tries;
    assert!(more < 10, "tried {more} times in vain");
    // Of its end it hears all the same.
    let (mut next, driver) = server.open(MUCH);
    tokio::spawn(driver);
    let connect = Packet::Connect(Box::new(named("receiver")));
    next.say(&[connect]).await;
    settle().await;
    assert!(socket.0.lock().unwrap().tries > tries + more, "no farewell");
}
