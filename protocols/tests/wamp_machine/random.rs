//! Whatever clients send, in whatever order: no panic, every answer well-formed and addressed to
//! a request, and an innocent session goes on.

use crate::world::{Peer, World};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use protocols::gate::Input;
use protocols::wamp::codec::Limits;
use protocols::wamp::message::Message;
use router_core::encoding::Encoding::{Json, MsgPack};
use router_core::encoding::transcode::json_to_msgpack;
use serde_json::{Value, json};

/// One step of a client.
#[derive(Clone, Debug)]
enum Step {
    /// A message, of this client.
    Say(usize, Value),
    /// The same with one byte changed: place and new value.
    Break(usize, Value, usize, u8),
    /// The transport is lost.
    Lose(usize),
    /// The router drains this connection.
    Drain(usize),
    /// Milliseconds pass.
    Pass(u64),
}

const CLIENTS: usize = 3;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..60).prop_map(Value::from),
        select(vec![
            "",
            "a",
            "lost",
            "skip",
            "exact",
            "prefix",
            "wildcard",
            "random",
            "\u{0}AQID"
        ])
        .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(select(vec!["a", "b", "kwargs"]), inner, 0..3)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

const OPTIONS: [&str; 31] = [
    "acknowledge",
    "exclude_me",
    "exclude",
    "eligible",
    "exclude_authrole",
    "eligible_authid",
    "disclose_me",
    "retain",
    "when",
    "watch",
    "watch_timeout",
    "will",
    "will_on",
    "merge",
    "trace",
    "x_qos",
    "match",
    "get_retained",
    "after",
    "snapshot",
    "filter",
    "invoke",
    "concurrency",
    "receive_progress",
    "timeout",
    "mode",
    "progress",
    "force_reregister",
    "disclose_caller",
    "forward_timeout",
    "enc_algo",
];

/// Mostly options of the right type, so that sessions live for a while.
fn options() -> impl Strategy<Value = Value> {
    let flags = select(vec![
        "acknowledge",
        "retain",
        "watch",
        "trace",
        "get_retained",
        "snapshot",
        "receive_progress",
        "progress",
        "force_reregister",
        "forward_timeout",
        "merge",
        "disclose_me",
    ]);
    let member = prop_oneof![
        12 => (flags, any::<bool>().prop_map(Value::from)),
        4 => (select(vec!["when", "will", "filter"]), value()),
        2 => (select(vec!["timeout", "watch_timeout", "after", "concurrency"]), (0_u64..60).prop_map(Value::from)),
        1 => (select(OPTIONS.to_vec()), value()),
    ];
    prop::collection::vec(member, 0..4)
        .prop_map(|all| all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn uri() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a",
        "a.b",
        "a.*",
        "a.#",
        "b",
        "",
        "a..b",
        "wamp.session.count",
        "wamp.session.list",
        "wamp.session.kill_all",
        "wamp.session.on_join",
        "fox.kv.get",
        "$x",
    ])
}

fn message() -> impl Strategy<Value = Value> {
    let id = 1_u64..6;
    let tail = || prop::collection::vec(value(), 0..2);
    let request = (
        select(vec![16, 16, 16, 32, 32, 48, 48, 64]),
        id.clone(),
        options(),
        uri(),
        tail(),
    );
    let answer = (id.clone(), options(), tail());
    prop_oneof![
        20 => request.prop_map(|(code, id, options, uri, args)| match (code, args.is_empty()) {
            (16 | 48, false) => json!([code, id, options, uri, args]),
            _ => json!([code, id, options, uri]),
        }),
        4 => (select(vec![34, 66]), id.clone(), 1_u64..8).prop_map(|(code, id, of)| json!([code, id, of])),
        4 => answer.prop_map(|(id, options, args)| json!([70, id, options, args])),
        2 => (select(vec![68, 68, 48]), id.clone()).prop_map(|(of, id)| json!([8, of, id, {}, "my.error"])),
        2 => (id, options()).prop_map(|(id, options)| json!([49, id, options])),
        2 => Just(json!([6, {}, "wamp.close.close_realm"])),
        3 => Just(json!([1, "realm1", {"roles": {"callee": {}, "subscriber": {}}}])),
        1 => (0_u64..80, value()).prop_map(|(code, value)| json!([code, value])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..CLIENTS, message()).prop_map(|(who, message)| Step::Say(who, message)),
        4 => (0..CLIENTS, message(), any::<usize>(), any::<u8>())
            .prop_map(|(who, message, at, byte)| Step::Break(who, message, at, byte)),
        1 => (0..CLIENTS).prop_map(Step::Lose),
        1 => (0..CLIENTS).prop_map(Step::Drain),
        2 => (0_u64..20_000).prop_map(Step::Pass),
    ]
}

/// Every frame the router sends is a message that routers send.
fn check_output(world: &mut World, peer: Peer, is_json: bool) {
    let encoding = if is_json { Json } else { MsgPack };
    for frame in world.take_frames(peer) {
        let message = Message::decode(encoding, frame.clone(), &Limits::default());
        let message = message.unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        let code = message.code();
        assert!(
            matches!(code, 2..=4 | 6 | 8 | 17 | 33 | 35 | 36 | 50 | 65 | 67..=69),
            "{} from the router",
            message.name()
        );
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    let innocent = world.json();
    let mut peers: Vec<(Peer, bool)> = vec![
        (world.json(), true),
        (world.join(MsgPack), false),
        (world.connect(Json), true),
    ];
    for step in steps {
        match step {
            Step::Say(who, message) => world.send(peers[*who].0, message.clone()),
            Step::Break(who, message, at, byte) => {
                let (peer, is_json) = peers[*who];
                let text = message.to_string().into_bytes();
                let mut frame = if is_json {
                    text
                } else {
                    json_to_msgpack(&text).unwrap()
                };
                let at = at % frame.len();
                frame[at] = *byte;
                let frame = Bytes::from(frame);
                world.input(
                    peer,
                    if is_json {
                        Input::Text(frame)
                    } else {
                        Input::Binary(frame)
                    },
                );
            }
            Step::Lose(who) => world.lose(peers[*who].0),
            Step::Drain(who) => world.input(peers[*who].0, Input::Drain),
            Step::Pass(ms) => world.pass(*ms),
        }
        for (peer, is_json) in &mut peers {
            check_output(&mut world, *peer, *is_json);
            let is_gone = world.wires[*peer].closed.is_some() || world.is_lost(*peer);
            if is_gone {
                *peer = if *is_json {
                    world.json()
                } else {
                    world.join(MsgPack)
                };
            }
        }
    }
    // `kill_all` is in the vocabulary; nothing else may end an innocent session.
    let got = world.take(innocent);
    if got.iter().all(|message| message[0] != 6) {
        assert_eq!(world.wires[innocent].closed, None);
        assert_eq!(
            world.ask(innocent, json!([16, 1, {"acknowledge": true}, "z"]))[0],
            17
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_never_panic_and_hurt_nobody_else(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(&steps);
    }
}
