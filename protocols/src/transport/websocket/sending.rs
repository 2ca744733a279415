//! What a connection writes, octet by octet.

use super::{WebSocketLimits, WebSocketTransport};
use crate::gate::Output;
use crate::transport::{Received, Transport};
use bytes::Bytes;
use futures_util::FutureExt as _;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

type Socket = WebSocketTransport<DuplexStream>;

fn open() -> (Socket, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    let limits = WebSocketLimits {
        max_message_bytes: 1 << 20,
    };
    (WebSocketTransport::new(near, Bytes::new(), limits), far)
}

fn flush(socket: &mut Socket) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(socket.poll_flush(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(socket.queued(), 0);
}

/// All that comes out after `send`.
fn written(send: impl FnOnce(&mut Socket)) -> Vec<u8> {
    let (mut socket, mut far) = open();
    send(&mut socket);
    flush(&mut socket);
    drop(socket);
    let mut all = Vec::new();
    far.read_to_end(&mut all).now_or_never().unwrap().unwrap();
    all
}

/// Reads all that `frames` of the peer hold.
fn receive(socket: &mut Socket, far: &mut DuplexStream, frames: &[u8]) -> Vec<Received> {
    far.write_all(frames).now_or_never().unwrap().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(received) = socket.poll_receive(&mut cx) {
        let received = received.unwrap();
        let is_last = matches!(received, Received::Closed);
        all.push(received);
        if is_last {
            break;
        }
    }
    all
}

#[test]
fn a_message_is_written_the_same_whether_it_is_copied_or_handed_over() {
    for length in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536, 200_000] {
        let message = vec![b'x'; length];
        let copied = written(|socket| {
            socket.send_message(&message, true);
            socket.send_message(&message, false);
        });
        let handed_over = written(|socket| {
            socket.send(Output::Text(message.clone().into()));
            socket.send(Output::Bytes(message.clone().into()));
        });
        assert_eq!(copied, handed_over, "{length}");
    }
}

#[test]
fn messages_leave_in_the_order_in_which_they_are_sent() {
    let (short, long) = (vec![1; 10], vec![2; 5000]);
    let all = written(|socket| {
        for message in [&short, &long, &short, &short, &long] {
            socket.send(Output::Bytes(message.clone().into()));
        }
    });
    let short = [&[0x82, 10][..], &short].concat();
    let long = [&[0x82, 126][..], &5000_u16.to_be_bytes(), &long].concat();
    assert_eq!(all, [&short[..], &long, &short, &short, &long].concat());
}

#[test]
fn a_ping_is_answered_and_nothing_follows_a_close() {
    let (mut socket, mut far) = open();
    let ping = [0x89, 0x81, 0, 0, 0, 0, b'?'];
    let close = [0x88, 0x82, 0, 0, 0, 0, 3, 0xe8];
    let received = receive(&mut socket, &mut far, &[&ping[..], &close].concat());
    assert!(matches!(
        received.as_slice(),
        [Received::Nothing, Received::Closed]
    ));
    assert!(socket.queued() > 0);
    flush(&mut socket);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(
        socket.poll_close(&mut cx, 1000, "bye"),
        Poll::Ready(Ok(()))
    ));
    assert!(matches!(
        socket.poll_discard(&mut cx),
        Poll::Ready(Ok(false))
    ));
    drop(socket);
    let mut all = Vec::new();
    far.read_to_end(&mut all).now_or_never().unwrap().unwrap();
    assert_eq!(all, [0x8a, 1, b'?', 0x88, 2, 3, 0xe8]);
}

#[test]
fn a_ping_that_comes_after_our_close_is_not_answered() {
    let (mut socket, mut far) = open();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(
        socket.poll_close(&mut cx, 1000, ""),
        Poll::Ready(Ok(()))
    ));
    receive(&mut socket, &mut far, &[0x89, 0x80, 0, 0, 0, 0]);
    assert_eq!(socket.queued(), 0);
}

/// A peer that is asked is late to answer, not late to take what it is sent.
#[test]
fn a_question_to_a_silent_peer_does_not_count_as_queued() {
    let (mut socket, _far) = open();
    assert!(socket.ping());
    assert_eq!(socket.queued(), 0);
    socket.send_message(b"x", true);
    assert_eq!(socket.queued(), 3);
    flush(&mut socket);
}

#[test]
fn a_stranger_is_read_up_to_a_bound() {
    let (mut socket, mut far) = open();
    let frame = [&[0x82, 0xfe, 0x40, 0, 0, 0, 0, 0][..], &[0; 1 << 14]].concat();
    for _ in 0..3 {
        assert_eq!(receive(&mut socket, &mut far, &frame).len(), 1);
    }
    far.write_all(&frame).now_or_never().unwrap().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let refused = socket.poll_receive(&mut cx);
    assert!(matches!(refused, Poll::Ready(Err(_))), "{refused:?}");
    assert!(matches!(
        socket.poll_close(&mut cx, 1000, ""),
        Poll::Ready(Ok(()))
    ));
    let mut said = [0; 4];
    far.read_exact(&mut said).now_or_never().unwrap().unwrap();
    assert_eq!(said[2..], 1009_u16.to_be_bytes());
    let (mut socket, mut far) = open();
    socket.logged_in();
    for _ in 0..10 {
        assert_eq!(receive(&mut socket, &mut far, &frame).len(), 1);
    }
}
