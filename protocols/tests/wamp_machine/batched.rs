//! Several messages in one frame (section "Batched Transport").

use crate::world::{HELLO, Peer, World};
use bytes::Bytes;
use protocols::gate::Input;
use protocols::wamp::machine::{Serialization, WampOptions};
use router_core::encoding::Encoding::{self, Cbor, Json, MsgPack};
use router_core::encoding::transcode::transcode;
use serde_json::{Value, json};

const ALL: [Encoding; 3] = [Json, MsgPack, Cbor];

fn batched(encoding: Encoding) -> Serialization {
    Serialization {
        encoding,
        batched: true,
    }
}

/// These messages in one frame.
fn frame(encoding: Encoding, messages: &[&str]) -> Vec<u8> {
    let mut frame = Vec::new();
    for message in messages {
        let message = Bytes::copy_from_slice(message.as_bytes());
        let message = transcode(&message, Json, encoding).unwrap();
        if encoding != Json {
            frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        }
        frame.extend_from_slice(&message);
        if encoding == Json {
            frame.push(0x1e);
        }
    }
    frame
}

/// The messages of one frame.
fn messages(encoding: Encoding, frame: &[u8]) -> Vec<Value> {
    let mut parts: Vec<Bytes> = Vec::new();
    let mut rest = frame;
    while !rest.is_empty() {
        let (part, behind) = match encoding {
            Json => {
                let end = rest.iter().position(|byte| *byte == 0x1e).unwrap();
                (&rest[..end], &rest[end + 1..])
            }
            MsgPack | Cbor => {
                let (len, behind) = rest.split_first_chunk::<4>().unwrap();
                behind.split_at(u32::from_be_bytes(*len) as usize)
            }
        };
        parts.push(Bytes::copy_from_slice(part));
        rest = behind;
    }
    let value = |part| serde_json::from_slice(&transcode(&part, encoding, Json).unwrap()).unwrap();
    parts.into_iter().map(value).collect()
}

fn send(world: &mut World, peer: Peer, encoding: Encoding, frame: Vec<u8>) {
    let frame = Bytes::from(frame);
    let input = if encoding == Json {
        Input::Text(frame)
    } else {
        Input::Binary(frame)
    };
    world.input(peer, input);
}

fn joined(world: &mut World, encoding: Encoding) -> Peer {
    let peer = world.connect(batched(encoding));
    send(world, peer, encoding, frame(encoding, &[HELLO]));
    let frames = world.take_frames(peer);
    assert_eq!(messages(encoding, &frames[0])[0][0], 2);
    peer
}

#[test]
fn messages_share_a_frame_and_are_answered_in_order_in_one() {
    for encoding in ALL {
        let mut world = World::new();
        let peer = joined(&mut world, encoding);
        let batch = [
            r#"[32,1,{},"t"]"#,
            r#"[16,2,{"acknowledge":true,"exclude_me":false},"t",[1]]"#,
            r#"[16,3,{"exclude_me":false},"t",[2]]"#,
            r#"[48,4,{},"nobody"]"#,
            r#"[34,5,999]"#,
        ];
        send(&mut world, peer, encoding, frame(encoding, &batch));
        let frames = world.take_frames(peer);
        let heads: Vec<(u64, u64)> = frames
            .iter()
            .flat_map(|frame| messages(encoding, frame))
            .map(|m| (m[0].as_u64().unwrap(), m[1].as_u64().unwrap()))
            .collect();
        let subscription = heads[0].0;
        assert_eq!(subscription, 33);
        let kinds: Vec<u64> = heads.iter().map(|head| head.0).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == 36).count(), 2);
        assert_eq!(kinds.iter().filter(|kind| **kind == 8).count(), 2);
        assert_eq!(kinds.iter().filter(|kind| **kind == 17).count(), 1);
        assert_eq!(frames.len(), 1, "what one turn says goes out together");
    }
}

#[test]
fn a_long_batch_is_taken_in_parts_and_in_order() {
    for encoding in ALL {
        let mut world = World::new();
        let (peer, other) = (joined(&mut world, encoding), world.json());
        world.subscribe(other, "t", json!({}));
        let publishes: Vec<String> = (1..=1000)
            .map(|n| format!(r#"[16,{n},{{}},"t",[{n}]]"#))
            .collect();
        let publishes: Vec<&str> = publishes.iter().map(String::as_str).collect();
        send(&mut world, peer, encoding, frame(encoding, &publishes));
        let seen: Vec<Value> = world
            .take(other)
            .into_iter()
            .map(|e| e[4][0].clone())
            .collect();
        assert_eq!(seen, (1..=1000).map(Value::from).collect::<Vec<_>>());
        // A frame in one piece with what follows, and nothing behind a goodbye is lost.
        let last = [
            r#"[16,7,{},"t",[0]]"#,
            r#"[6,{},"wamp.close.normal"]"#,
            HELLO,
        ];
        send(&mut world, peer, encoding, frame(encoding, &last));
        let frames = world.take_frames(peer);
        let said: Vec<Value> = frames.iter().flat_map(|f| messages(encoding, f)).collect();
        assert_eq!((&said[0][0], &said[1][0]), (&json!(6), &json!(2)));
        assert_eq!(world.take(other).len(), 1);
    }
}

#[test]
fn an_empty_or_broken_batch_ends_the_session_and_what_came_before_it_counts() {
    for encoding in ALL {
        let publish = frame(encoding, &[r#"[16,1,{},"t",[1]]"#]);
        let mut cut = [publish.clone(), publish.clone()].concat();
        cut.pop();
        let no_message = match encoding {
            Json => [&publish[..], b"\x1e"].concat(),
            MsgPack | Cbor => [&publish[..], &[0; 4]].concat(),
        };
        for (bad, counts) in [(Vec::new(), 0), (cut, 1), (no_message, 1)] {
            let mut world = World::new();
            let (peer, other) = (joined(&mut world, encoding), world.json());
            world.subscribe(other, "t", json!({}));
            send(&mut world, peer, encoding, bad);
            let frames = world.take_frames(peer);
            let abort = messages(encoding, frames.last().unwrap()).pop().unwrap();
            assert_eq!(abort[2], "wamp.error.protocol_violation");
            assert_eq!(world.wires[peer].closed.unwrap().0, 1002);
            assert_eq!(world.take(other).len(), counts);
        }
    }
}

#[test]
fn nothing_of_a_batch_is_read_behind_a_violation() {
    let mut world = World::new();
    let (peer, other) = (joined(&mut world, Cbor), world.json());
    world.subscribe(other, "t", json!({}));
    let publish = r#"[16,1,{},"t",[1]]"#;
    send(
        &mut world,
        peer,
        Cbor,
        frame(Cbor, &[publish, "[99]", publish]),
    );
    assert_eq!(world.take(other).len(), 1);
    let frames = world.take_frames(peer);
    assert_eq!(messages(Cbor, &frames[0]).len(), 1, "one ABORT");
    // Nor is another batch.
    send(&mut world, peer, Cbor, frame(Cbor, &[publish]));
    assert!(world.take_frames(peer).is_empty());
}

#[test]
fn the_limit_of_a_message_holds_within_a_batch() {
    for encoding in ALL {
        let mut world = World::new();
        let options = WampOptions {
            message_bytes_max: 1000,
            ..WampOptions::default()
        };
        let peer = world.connect_with(batched(encoding), options);
        send(&mut world, peer, encoding, frame(encoding, &[HELLO]));
        world.take_frames(peer);
        let call = format!(r#"[48,1,{{}},"p",["{}"]]"#, "x".repeat(600));
        // Together above the limit, each below.
        send(
            &mut world,
            peer,
            encoding,
            frame(encoding, &[&call, &call.replace("[48,1", "[48,2")]),
        );
        assert_eq!(world.wires[peer].closed, None);
        world.take_frames(peer);
        let long = call.replace('x', "xx");
        send(&mut world, peer, encoding, frame(encoding, &[&long]));
        assert_eq!(world.wires[peer].closed.unwrap().0, 1009);
    }
}

#[test]
fn frames_have_a_bound_whatever_a_turn_says() {
    let mut world = World::new();
    let (peer, other) = (joined(&mut world, MsgPack), world.json());
    send(
        &mut world,
        peer,
        MsgPack,
        frame(MsgPack, &[r#"[32,1,{},"t"]"#]),
    );
    world.take_frames(peer);
    let text = "x".repeat(20_000);
    let publishes: Vec<String> = (1..=20)
        .map(|n| format!(r#"[16,{n},{{}},"t",["{text}"]]"#))
        .collect();
    let publishes: Vec<&str> = publishes.iter().map(String::as_str).collect();
    world.send_batch(other, &publishes);
    let frames = world.take_frames(peer);
    assert!(frames.iter().all(|frame| frame.len() <= 64 << 10));
    let events: usize = frames.iter().map(|f| messages(MsgPack, f).len()).sum();
    assert_eq!(events, 20);
    assert!(frames.len() < 20);
}
