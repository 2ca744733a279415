//! A seeded fuzz loop over whole sessions: several clients of one realm send valid messages,
//! broken ones and bytes, in any order, lose their transports, and time passes. Nothing may panic;
//! what the router says must decode; an innocent client must go on; and when everybody has left,
//! the realm must hold nothing of them.
//!
//! `FUZZ_SECONDS=600 cargo test -p protocols --test fuzz_wamp_machine -- --nocapture` runs longer;
//! `FUZZ_SEED` (default 1) makes another run.
#![cfg(feature = "wamp")]
#![expect(clippy::unwrap_used, reason = "here a failed unwrap is a failed test")]

#[path = "wamp_machine/world.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of the machine, which use all of it"
)]
mod world;

use bytes::Bytes;
use protocols::gate::Input;
use protocols::wamp::codec::{Limits, decode};
use router_core::encoding::Encoding::{Json, MsgPack};
use router_core::encoding::transcode::json_to_msgpack;
use serde_json::json;
use std::time::{Duration, Instant};
use world::{HELLO, Peer, World};

const DEFAULT_WORLDS: u64 = 60;
const STEPS: usize = 120;
const CLIENTS: usize = 4;

/// Xorshift: small, seeded, good enough to choose.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const TOPICS: [&str; 16] = [
    "a",
    "a.b",
    "a.b.c",
    "a.*",
    "a.#",
    "#",
    "a..c",
    "",
    "a b",
    "k",
    "k.1",
    "wamp.session.on_join",
    "wamp.session.on_leave",
    "$x.y",
    "wamp.registration.on_create",
    "wamp.registration.on_delete",
];
const PROCEDURES: [&str; 16] = [
    "p",
    "p.q",
    "slow",
    "wamp.session.count",
    "wamp.session.list",
    "wamp.session.get",
    "fox.kv.get",
    "wamp.session.kill_by_authrole",
    "",
    "no.body",
    "p.",
    "p..r",
    "p.q.r",
    "wamp.registration.list",
    "wamp.registration.match",
    "wamp.registration.remove_callee",
];
const TAILS: [&str; 12] = [
    "",
    ",[]",
    ",null,null",
    ",[1,[2]]",
    r#",[{"a":1}],{"b":null}"#,
    r#",[],{"a":1}"#,
    ",[null]",
    r#",["k"]"#,
    r#",["\u0000AQID"]"#,
    ",[9007199254740993]",
    r#",[["anonymous"]]"#,
    ",[{}]",
];
const PUBLISH_OPTIONS: [&str; 22] = [
    r#""acknowledge":true"#,
    r#""acknowledge":true"#,
    r#""retain":true"#,
    r#""retain":true"#,
    r#""when":null"#,
    r#""when":{"a":1}"#,
    r#""watch":true"#,
    r#""watch_timeout":50"#,
    r#""will":null"#,
    r#""will":{"a":1}"#,
    r#""will_on":"lost""#,
    r#""merge":true"#,
    r#""trace":true"#,
    r#""x_qos":2"#,
    r#""exclude_me":false"#,
    r#""disclose_me":true"#,
    r#""eligible":[]"#,
    r#""exclude_authrole":["x"]"#,
    r#""x_qos":9"#,
    r#""watch":1"#,
    r#""retain":1"#,
    r#""bogus":{}"#,
];
const SUBSCRIBE_OPTIONS: [&str; 12] = [
    r#""match":"prefix""#,
    r#""match":"wildcard""#,
    r#""match":"exact""#,
    r#""get_retained":true"#,
    r#""retained":true"#,
    r#""snapshot":true"#,
    r#""after":0"#,
    r#""after":"99999999""#,
    r#""filter":{"a":1}"#,
    r#""filter":{"kwargs":{"b":null}}"#,
    r#""after":"x""#,
    r#""match":1"#,
];
const REGISTER_OPTIONS: [&str; 12] = [
    r#""concurrency":1"#,
    r#""concurrency":2"#,
    r#""invoke":"roundrobin""#,
    r#""invoke":"random""#,
    r#""invoke":"last""#,
    r#""reducer":true"#,
    r#""concurrency":0"#,
    r#""match":"prefix""#,
    r#""match":"wildcard""#,
    r#""force_reregister":true"#,
    r#""disclose_caller":true"#,
    r#""forward_timeout":true"#,
];
const CALL_OPTIONS: [&str; 6] = [
    r#""receive_progress":true"#,
    r#""timeout":20"#,
    r#""disclose_me":true"#,
    r#""timeout":0"#,
    r#""progress":false"#,
    r#""progress":true"#,
];
const OTHERS: [&str; 8] = [
    r#"[6,{},"wamp.close.close_realm"]"#,
    r#"[6,{},"wamp.close.goodbye_and_out"]"#,
    HELLO,
    HELLO,
    r#"[3,{},"x"]"#,
    r#"[5,"x",{}]"#,
    r#"[36,1,1,{}]"#,
    r#"[1,"realm1",{"roles":{"caller":{}},"authmethods":["ticket"],"authid":"joe"}]"#,
];

fn options(random: &mut Random, choices: &[&str]) -> String {
    let count = random.below(4);
    let chosen: Vec<&str> = (0..count).map(|_| random.pick(choices)).collect();
    format!("{{{}}}", chosen.join(","))
}

fn message(random: &mut Random) -> String {
    let request = 1 + random.below(8);
    let tail = random.pick(&TAILS);
    match random.below(24) {
        0..=6 => {
            let (options, topic) = (options(random, &PUBLISH_OPTIONS), random.pick(&TOPICS));
            format!(r#"[16,{request},{options},"{topic}"{tail}]"#)
        }
        7..=9 => {
            let (options, topic) = (options(random, &SUBSCRIBE_OPTIONS), random.pick(&TOPICS));
            format!(r#"[32,{request},{options},"{topic}"]"#)
        }
        10 => format!("[34,{request},{}]", 1 + random.below(12)),
        11..=12 => {
            let (options, name) = (options(random, &REGISTER_OPTIONS), random.pick(&PROCEDURES));
            format!(r#"[64,{request},{options},"{name}"]"#)
        }
        13 => format!("[66,{request},{}]", 1 + random.below(6)),
        14..=17 => {
            let (options, name) = (options(random, &CALL_OPTIONS), random.pick(&PROCEDURES));
            format!(r#"[48,{request},{options},"{name}"{tail}]"#)
        }
        18 => {
            let mode = random.pick(&["skip", "kill", "killnowait", "x"]);
            format!(r#"[49,{request},{{"mode":"{mode}"}}]"#)
        }
        19..=20 => {
            let progress = random.pick(&["true", "false"]);
            format!(
                r#"[70,{},{{"progress":{progress}}}{tail}]"#,
                1 + random.below(3)
            )
        }
        21 => {
            let error = random.pick(&["my.error", "wamp.error.unavailable"]);
            format!(r#"[8,68,{},{{}},"{error}"{tail}]"#, 1 + random.below(3))
        }
        _ => random.pick(&OTHERS).to_owned(),
    }
}

fn broken(random: &mut Random, mut frame: Vec<u8>) -> Vec<u8> {
    let at = random.below(frame.len() + 1);
    match random.below(5) {
        0 => frame.truncate(at),
        1 if at < frame.len() => frame[at] ^= 1 << random.below(8),
        2 if at < frame.len() => drop(frame.remove(at)),
        3 => frame.insert(at, random.next().to_be_bytes()[0]),
        _ => {
            let piece = frame[..at].to_vec();
            frame.extend_from_slice(&piece);
        }
    }
    frame
}

struct Client {
    peer: Peer,
    is_json: bool,
}

impl Client {
    fn new(world: &mut World, random: &mut Random) -> Client {
        let is_json = random.below(2) == 0;
        let encoding = if is_json { Json } else { MsgPack };
        let peer = match random.below(4) {
            0 => world.connect(encoding),
            _ => world.join(encoding),
        };
        Client { peer, is_json }
    }

    fn step(&self, world: &mut World, random: &mut Random) {
        let text = message(random).into_bytes();
        let frame = if self.is_json {
            text
        } else {
            json_to_msgpack(&text).unwrap()
        };
        let frame = match random.below(12) {
            0 => broken(random, frame),
            _ => frame,
        };
        let frame = Bytes::from(frame);
        let is_swapped = random.below(400) == 0;
        match self.is_json != is_swapped {
            true => world.input(self.peer, Input::Text(frame)),
            false => world.input(self.peer, Input::Binary(frame)),
        }
    }

    /// What the router said is a message that routers say.
    fn check(&self, world: &mut World) {
        let encoding = if self.is_json { Json } else { MsgPack };
        for frame in world.take_frames(self.peer) {
            let message = decode(encoding, frame.clone(), &Limits::default());
            let message = message.unwrap_or_else(|error| panic!("{error}: {frame:?}"));
            let code = message.code();
            let is_ours = matches!(code, 2..=4 | 6 | 8 | 17 | 33 | 35 | 36 | 50 | 65 | 67..=69);
            assert!(is_ours, "{} from the router", message.name());
        }
    }
}

fn run(random: &mut Random) {
    let mut world = World::new();
    // Not anonymous, so that nobody's kill is meant for it.
    let innocent = world.join_as("joe");
    world.subscribe(innocent, "quiet", json!({}));
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::new(&mut world, random))
        .collect();
    for _ in 0..STEPS {
        let who = random.below(CLIENTS);
        match random.below(40) {
            0 => world.lose(clients[who].peer),
            1 => world.input(clients[who].peer, Input::Drain),
            2 => world.pass(random.next() % 30_000),
            _ => clients[who].step(&mut world, random),
        }
        for client in &mut clients {
            client.check(&mut world);
            if world.wires[client.peer].closed.is_some() || world.is_lost(client.peer) {
                *client = Client::new(&mut world, random);
            }
        }
    }
    let options = json!({"exclude_me": false});
    world.publish_quietly(innocent, "quiet", options);
    let got = world.take(innocent);
    assert_eq!(got.len(), 2, "{got:?}");
    for client in &clients {
        world.lose(client.peer);
        client.check(&mut world);
    }
    world.lose(innocent);
    for (what, count) in world.realm.sizes() {
        if what != "retained_values" {
            assert_eq!(count, 0, "{what} are left when everybody has gone");
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whole_sessions_survive_anything() {
    let seed = setting("FUZZ_SEED").unwrap_or(1);
    let limit = setting("FUZZ_SECONDS").map(Duration::from_secs);
    let started = Instant::now();
    let mut worlds = 0;
    loop {
        let is_done = match limit {
            Some(limit) => started.elapsed() >= limit,
            None => worlds >= DEFAULT_WORLDS,
        };
        if is_done {
            break;
        }
        // Each world has a seed of its own, so that a failure can be had again quickly.
        let mut random = Random((seed.wrapping_mul(1_000_003) + worlds).max(1) << 1 | 1);
        for _ in 0..8 {
            random.next();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut random)));
        assert!(outcome.is_ok(), "world {worlds} of seed {seed}");
        worlds += 1;
    }
    println!("{worlds} worlds of {STEPS} steps, seed {seed}");
}
