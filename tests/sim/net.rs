//! Simulated connections: bytes and frames that are split, joined, delayed, cut or swallowed.
//!
//! Within one direction of a connection nothing is reordered; between connections everything is.
//! All times are milliseconds of the simulation.

use crate::dice::Dice;
use bytes::Bytes;
use std::collections::VecDeque;

pub type LinkId = usize;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// MQTT over TCP: a byte stream.
    Stream,
    /// MQTT over WebSocket: binary frames that need not end where packets do.
    Frames,
    /// WAMP over WebSocket, JSON in text frames.
    WampJson,
    /// WAMP over WebSocket, MessagePack in binary frames.
    WampMsgPack,
    /// WAMP over WebSocket, CBOR in binary frames.
    WampCbor,
}

impl Wire {
    pub fn is_wamp(self) -> bool {
        matches!(self, Wire::WampJson | Wire::WampMsgPack | Wire::WampCbor)
    }
}

/// What arrives at an end.
#[derive(Clone, Debug)]
pub enum Item {
    Bytes(Bytes),
    Text(Bytes),
    Binary(Bytes),
    Ping,
    Pong,
}

impl Item {
    pub fn len(&self) -> usize {
        match self {
            Item::Bytes(bytes) | Item::Text(bytes) | Item::Binary(bytes) => bytes.len(),
            Item::Ping | Item::Pong => 2,
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<(u64, Item)>,
    bytes: usize,
    last: u64,
    /// The reader finds the end of the stream behind what is queued, from then on.
    end: Option<u64>,
}

impl Pipe {
    fn push(&mut self, at: u64, item: Item) {
        if self.end.is_some() {
            return;
        }
        self.last = self.last.max(at);
        self.bytes += item.len();
        self.queue.push_back((self.last, item));
    }

    fn take(&mut self, now: u64) -> Option<Item> {
        if self.queue.front()?.0 > now {
            return None;
        }
        let (_, item) = self.queue.pop_front()?;
        self.bytes -= item.len();
        Some(item)
    }

    fn is_ended(&self, now: u64) -> bool {
        self.queue.is_empty() && self.end.is_some_and(|at| at <= now)
    }

    fn next(&self) -> Option<u64> {
        self.queue.front().map(|(at, _)| *at).or(self.end)
    }

    fn finish(&mut self, at: u64) {
        if self.end.is_none() {
            self.end = Some(self.last.max(at));
        }
    }

    fn truncate(&mut self, keep: usize) {
        for (_, item) in self.queue.drain(keep.min(self.queue.len())..) {
            self.bytes -= item.len();
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub wire: Wire,
    up: Pipe,
    down: Pipe,
    /// Usual delay of a piece.
    latency: u64,
    /// The client takes nothing before this moment.
    stalled_until: u64,
    /// Half-open: whatever the client sends is swallowed, whatever it is sent fills the window.
    silent: bool,
    /// The router's end is gone.
    router_gone: bool,
    client_gone: bool,
}

/// Bytes that may be under way to a client before the router must wait.
const WINDOW: usize = 1_000;

/// All connections of a run.
#[derive(Default)]
pub struct Net {
    links: Vec<Link>,
    /// Connections the router has not accepted yet.
    pub fresh: Vec<LinkId>,
    /// Changes with everything that was sent: two runs of a seed must agree on it.
    pub digest: u64,
    /// Connections to which something was done.
    touched: Vec<LinkId>,
}

impl Net {
    pub fn connect(&mut self, wire: Wire, dice: &mut Dice) -> LinkId {
        let latency = if dice.permille(100) {
            300
        } else {
            dice.range(0, 30)
        };
        self.links.push(Link {
            wire,
            up: Pipe::default(),
            down: Pipe::default(),
            latency,
            stalled_until: 0,
            silent: false,
            router_gone: false,
            client_gone: false,
        });
        let id = self.links.len() - 1;
        self.fresh.push(id);
        id
    }

    pub fn link(&self, id: LinkId) -> &Link {
        &self.links[id]
    }

    /// Whatever changes a connection gets it here, so that both its ends are looked at again.
    fn touch(&mut self, id: LinkId) -> &mut Link {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
        &mut self.links[id]
    }

    /// Moves the connections to which something was done since the last time to `into`.
    pub fn take_touched(&mut self, into: &mut Vec<LinkId>) {
        into.append(&mut self.touched);
    }

    /// The client sends.
    pub fn client_send(&mut self, id: LinkId, item: Item, now: u64, dice: &mut Dice) {
        self.note(id, 1, &item);
        let link = self.touch(id);
        if link.silent || link.router_gone || link.client_gone {
            return;
        }
        send(&mut link.up, link.latency, item, now, dice);
    }

    /// The client reads, or finds nothing yet.
    pub fn client_take(&mut self, id: LinkId, now: u64) -> Option<Item> {
        let link = self.touch(id);
        if link.stalled_until > now || link.silent {
            return None;
        }
        link.down.take(now)
    }

    pub fn client_ended(&self, id: LinkId, now: u64) -> bool {
        let link = &self.links[id];
        link.stalled_until <= now && (link.silent || link.down.is_ended(now))
    }

    /// The client closes its end.
    pub fn client_close(&mut self, id: LinkId, now: u64, dice: &mut Dice) {
        let link = self.touch(id);
        link.client_gone = true;
        if !link.silent {
            link.up.finish(now + dice.range(0, 50));
            // Nobody reads any more; the router may write.
            link.down = Pipe {
                end: Some(now),
                ..Pipe::default()
            };
        }
    }

    /// The router sends; only while [`Net::has_room`].
    pub fn router_send(&mut self, id: LinkId, item: Item, now: u64, dice: &mut Dice) {
        self.note(id, 2, &item);
        let link = self.touch(id);
        if !link.client_gone {
            send(&mut link.down, link.latency, item, now, dice);
        }
    }

    pub fn has_room(&self, id: LinkId) -> bool {
        let link = &self.links[id];
        link.client_gone && !link.silent || link.down.bytes < WINDOW
    }

    pub fn router_take(&mut self, id: LinkId, now: u64) -> Option<Item> {
        self.touch(id).up.take(now)
    }

    pub fn router_ended(&self, id: LinkId, now: u64) -> bool {
        self.links[id].up.is_ended(now)
    }

    /// The router's end is gone, after whatever it sent.
    pub fn router_close(&mut self, id: LinkId, now: u64, dice: &mut Dice) {
        let link = self.touch(id);
        link.router_gone = true;
        link.down.finish(now + dice.range(0, 50));
        link.up = Pipe {
            end: Some(now),
            ..Pipe::default()
        };
    }

    /// The connection breaks: each end still gets some of what was under way, then the end.
    pub fn cut(&mut self, id: LinkId, now: u64, dice: &mut Dice) {
        let link = self.touch(id);
        for pipe in [&mut link.up, &mut link.down] {
            let len = pipe.queue.len() + 1;
            pipe.truncate(dice.below(len));
            pipe.finish(now + dice.range(0, 200));
        }
    }

    /// The connection goes dead without anybody being told; the client gives up after `patience`.
    pub fn silence(&mut self, id: LinkId, now: u64, patience: u64) {
        let link = self.touch(id);
        link.silent = true;
        link.up.truncate(0);
        link.stalled_until = now + patience;
    }

    pub fn stall(&mut self, id: LinkId, until: u64) {
        self.touch(id).stalled_until = until;
    }

    /// When the client's end will have something to do.
    pub fn client_next(&self, id: LinkId) -> Option<u64> {
        let link = &self.links[id];
        if link.silent {
            return Some(link.stalled_until);
        }
        Some(link.down.next()?.max(link.stalled_until))
    }

    /// When the router's end will have something to read.
    pub fn router_next(&self, id: LinkId) -> Option<u64> {
        self.links[id].up.next()
    }

    /// Whether the client's end takes nothing at the moment, or never will again.
    pub fn is_stuck(&self, id: LinkId, now: u64) -> bool {
        self.links[id].silent || self.links[id].stalled_until > now
    }

    pub fn is_silent(&self, id: LinkId) -> bool {
        self.links[id].silent
    }

    fn note(&mut self, id: LinkId, way: u64, item: &Item) {
        let mut hash = self.digest ^ (id as u64) << 8 ^ way;
        if let Item::Bytes(bytes) | Item::Text(bytes) | Item::Binary(bytes) = item {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        self.digest = hash.wrapping_mul(0x0100_0000_01b3);
    }
}

/// Puts an item on its way. Streams are cut anywhere, and so are packets in frames.
fn send(pipe: &mut Pipe, latency: u64, item: Item, now: u64, dice: &mut Dice) {
    match item {
        Item::Bytes(mut rest) => {
            while rest.len() > 1 && dice.permille(250) {
                let part = rest.split_to(1 + dice.below(rest.len() - 1));
                pipe.push(due(latency, now, dice), Item::Bytes(part));
            }
            pipe.push(due(latency, now, dice), Item::Bytes(rest));
        }
        whole => pipe.push(due(latency, now, dice), whole),
    }
}

fn due(latency: u64, now: u64, dice: &mut Dice) -> u64 {
    let jitter = if dice.permille(20) {
        dice.range(0, 800)
    } else {
        dice.range(0, 10)
    };
    now + latency + jitter
}
