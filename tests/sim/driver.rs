//! One connection at the router: what `protocols::gate::Driver` does, over a simulated transport.

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::net::{Item, LinkId, Net, Wire};
use crate::router::Core;
use crate::schedule::Woken;
use crate::witness::Broken;
use bytes::{Bytes, BytesMut};
use protocols::gate::{Action, Gate, Input, JoinError, JoinRequest, JoinedAs, Output};
use router_core::model::{Delivery, EndReason, Now};
use router_core::outbox::Outbox;
use router_core::session::{Connection, Identity, Join, Joined, Leave};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Small, so that slow readers fill outboxes.
const WRITE_HIGH_WATER: usize = 600;
const PING_AFTER: Duration = Duration::from_secs(10);
const DEAD_AFTER: Duration = Duration::from_secs(20);
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
const LINGER: Duration = Duration::from_secs(2);
const LINGER_TAKEN_OVER: Duration = Duration::from_millis(250);
const TURNS_PER_POLL: usize = 16;
const READS_PER_TURN: usize = 8;

/// Set by the outbox.
struct Flag {
    set: AtomicBool,
    link: LinkId,
    woken: Woken,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set.store(true, Ordering::Relaxed);
        self.woken.add(self.link);
    }
}

struct Seat {
    connection: Connection,
    outbox: Arc<Outbox>,
    /// The realm has said its last word.
    ended: bool,
}

/// One connection.
pub struct SimDriver {
    link: LinkId,
    wire: Wire,
    gate: Box<dyn Gate>,
    seat: Option<Seat>,
    buffer: BytesMut,
    queue: VecDeque<Item>,
    queued: usize,
    read_closed: bool,
    closing: Option<Instant>,
    last_sign: Instant,
    last_write: Instant,
    ping_sent: bool,
    aborted: bool,
    flag: Arc<Flag>,
    /// It wants another poll whatever happens.
    again: bool,
}

enum Turn {
    Progress,
    Idle,
    Done,
}

impl SimDriver {
    pub fn new(link: LinkId, wire: Wire, gate: Box<dyn Gate>, now: Now, woken: Woken) -> SimDriver {
        let flag = Flag {
            set: AtomicBool::default(),
            link,
            woken,
        };
        SimDriver {
            link,
            wire,
            gate,
            seat: None,
            buffer: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            read_closed: false,
            closing: None,
            last_sign: now.instant,
            last_write: now.instant,
            ping_sent: false,
            aborted: false,
            flag: Arc::new(flag),
            again: true,
        }
    }

    /// When something will wake its task; what has woken it already counts from the beginning.
    pub fn moment(&self, core: &Core, net: &Net) -> Option<u64> {
        let is_woken = self.again
            || self.flag.set.load(Ordering::Relaxed)
            || (!self.queue.is_empty() && net.has_room(self.link));
        if is_woken {
            return Some(0);
        }
        let reads = !self.read_closed && self.closing.is_none();
        let input = if reads {
            net.router_next(self.link)
        } else {
            None
        };
        let deadline = self.deadline().map(|at| core.clock.ms(at));
        [input, deadline].into_iter().flatten().min()
    }

    /// Whether the realm has something for its client, or waits for acknowledgements.
    pub fn has_deliveries(&self) -> bool {
        let seat = self.seat.as_ref().filter(|seat| !seat.ended);
        seat.is_some_and(|seat| seat.outbox.load(0, 0).held > 0)
    }

    /// Runs as a task would until it sleeps; answers whether it is over.
    pub fn poll(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) -> bool {
        self.flag.set.store(false, Ordering::Relaxed);
        self.again = false;
        for _ in 0..TURNS_PER_POLL {
            match self.turn(core, net, ledger, dice) {
                Turn::Done => return true,
                Turn::Progress => {}
                Turn::Idle => return false,
            }
        }
        self.again = true;
        false
    }

    /// The task ends: its seat is given up and its socket closed.
    pub fn close(&mut self, core: &mut Core, net: &mut Net, ledger: &mut Ledger, dice: &mut Dice) {
        self.give_up_seat(core, ledger, dice);
        net.router_close(self.link, core.ms, dice);
    }

    fn give_up_seat(&mut self, core: &mut Core, ledger: &mut Ledger, dice: &mut Dice) {
        if let Some(seat) = self.seat.take() {
            self.leave(&seat, Leave::Lost, core, ledger, dice);
            seat.outbox.release(seat.connection.generation);
        }
    }

    fn leave(
        &self,
        seat: &Seat,
        how: Leave,
        core: &mut Core,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) {
        if how == Leave::Clean {
            ledger.will_disarmed(self.link, core.store.submitted);
        }
        ledger.ended(self.link);
        let now = core.now();
        core.with(dice, |realm, effects| {
            realm.leave(now, seat.connection, how, effects)
        });
    }

    fn turn(
        &mut self,
        core: &mut Core,
        net: &mut Net,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) -> Turn {
        let now = core.now();
        let mut progress = self.receive(now, core.ms, net);
        self.act(now, core, ledger, dice);
        progress |= self.deliver(now, core, ledger, dice);
        self.act(now, core, ledger, dice);
        self.collect_output(now);
        self.write(now, core.ms, net, dice);
        if self.closing.is_some() && self.queue.is_empty() {
            return Turn::Done;
        }
        progress |= self.check_time(now);
        match (self.aborted, progress) {
            (true, _) => Turn::Done,
            (false, true) => Turn::Progress,
            (false, false) => Turn::Idle,
        }
    }

    fn receive(&mut self, now: Now, ms: u64, net: &mut Net) -> bool {
        if self.closing.is_some() || self.read_closed {
            return false;
        }
        let mut progress = false;
        for _ in 0..READS_PER_TURN {
            let Some(item) = net.router_take(self.link, ms) else {
                if net.router_ended(self.link, ms) {
                    self.read_closed = true;
                    self.gate.handle_input(now, Input::Closed);
                    return true;
                }
                return progress;
            };
            progress = true;
            self.last_sign = now.instant;
            self.ping_sent = false;
            match item {
                Item::Bytes(bytes) if self.wire == Wire::Stream => {
                    // What has arrived meanwhile is read in one go.
                    self.buffer.extend_from_slice(&bytes);
                    while let Some(Item::Bytes(more)) = net.router_take(self.link, ms) {
                        self.buffer.extend_from_slice(&more);
                    }
                    self.gate.handle_input(now, Input::Stream(&mut self.buffer));
                    break;
                }
                Item::Bytes(bytes) | Item::Binary(bytes) => {
                    self.gate.handle_input(now, Input::Binary(bytes));
                }
                Item::Text(bytes) => self.gate.handle_input(now, Input::Text(bytes)),
                Item::Ping | Item::Pong => {}
            }
        }
        progress
    }

    fn act(&mut self, now: Now, core: &mut Core, ledger: &mut Ledger, dice: &mut Dice) {
        let mut ran = false;
        while let Some(action) = self.gate.poll_action() {
            match action {
                Action::Command(command) => {
                    if let Some(seat) = &self.seat {
                        core.run(self.link, seat.connection, command, ledger, dice);
                        ran = true;
                    }
                }
                other => {
                    if std::mem::take(&mut ran) {
                        core.ran(dice);
                    }
                    self.carry_out(now, other, core, ledger, dice);
                }
            }
        }
        if ran {
            core.ran(dice);
        }
    }

    fn carry_out(
        &mut self,
        now: Now,
        action: Action,
        core: &mut Core,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) {
        match action {
            // Nobody in the simulation has a secret to prove in an exchange.
            Action::Command(_) | Action::Authenticate(_) => {}
            Action::Leave(how) => {
                if let Some(seat) = self.seat.take() {
                    self.leave(&seat, how, core, ledger, dice);
                    seat.outbox.release(seat.connection.generation);
                }
            }
            Action::Join(request) => self.join(now, *request, core, ledger, dice),
        }
    }

    fn join(
        &mut self,
        now: Now,
        request: JoinRequest,
        core: &mut Core,
        ledger: &mut Ledger,
        dice: &mut Dice,
    ) {
        let Some(verified) = core.verified(&request.credentials) else {
            self.gate.handle_joined(now, Err(JoinError::BadCredentials));
            return;
        };
        let JoinRequest {
            features,
            style,
            client,
            protocol,
            ..
        } = request;
        let identity = Arc::new(Identity {
            authid: core.anonymous_name(),
            role: verified.role,
            method: "anonymous".into(),
            provider: "static".into(),
            transport: [("protocol", protocol.into())].into(),
        });
        let id = client.as_ref().map(|client| &*client.id);
        if id.is_some_and(|id| core.realm.outbox_of(id).is_none()) {
            ledger.begins_anew(self.link);
        }
        ledger.joins(self.link, id);
        let join = Join {
            identity: identity.clone(),
            features,
            style,
            client,
        };
        let joined = core.with(dice, |realm, effects| realm.join(now, join, effects));
        match joined {
            Ok(Joined { connection, outbox }) => {
                self.seat = Some(Seat {
                    connection,
                    outbox,
                    ended: false,
                });
                let joined = JoinedAs {
                    session: connection.session,
                    realm: core.realm.name().clone(),
                    authid: identity.authid.clone(),
                    role: identity.role.name.clone(),
                    method: identity.method.clone(),
                    provider: identity.provider.clone(),
                };
                self.gate.handle_joined(now, Ok(joined));
            }
            Err(_) => self.gate.handle_joined(now, Err(JoinError::Unavailable)),
        }
    }

    fn deliver(&mut self, now: Now, core: &mut Core, ledger: &mut Ledger, dice: &mut Dice) -> bool {
        let Some(seat) = &mut self.seat else {
            return false;
        };
        if seat.ended || self.closing.is_some() {
            return false;
        }
        let generation = seat.connection.generation;
        if self.queued > WRITE_HIGH_WATER {
            let Some(reason) = seat.outbox.end_reason(generation) else {
                seat.outbox
                    .register(generation, &Waker::from(self.flag.clone()));
                return false;
            };
            seat.ended = true;
            note_end(self.link, &reason, ledger);
            self.gate.handle_delivery(now, Delivery::Ended(reason));
            return true;
        }
        let mut deliveries = Vec::new();
        let most = 1 + dice.below(32);
        let drained = seat
            .outbox
            .drain(generation, most, now.unix_ms, &mut deliveries);
        if !drained.more {
            seat.outbox
                .register(generation, &Waker::from(self.flag.clone()));
        }
        seat.ended = matches!(deliveries.last(), Some(Delivery::Ended(_)));
        if drained.refill || drained.expired {
            let connection = seat.connection;
            core.with(dice, |realm, effects| {
                realm.refill(now, connection, effects)
            });
        }
        let progress = !deliveries.is_empty() || drained.refill;
        for delivery in deliveries {
            if let Delivery::Ended(reason) = &delivery {
                note_end(self.link, reason, ledger);
            }
            if core.broken == Broken::AnswersTwice
                && matches!(delivery, Delivery::Done { .. } | Delivery::Result { .. })
                && dice.permille(20)
            {
                self.gate.handle_delivery(now, delivery.clone());
            }
            self.gate.handle_delivery(now, delivery);
        }
        progress
    }

    fn collect_output(&mut self, now: Now) {
        while let Some(output) = self.gate.poll_output() {
            let item = match output {
                Output::Close { .. } => {
                    self.start_closing(now);
                    continue;
                }
                Output::Bytes(bytes) if self.wire == Wire::Stream => Item::Bytes(bytes),
                Output::Bytes(bytes) => Item::Binary(bytes),
                Output::Text(bytes) => Item::Text(bytes),
            };
            if self.closing.is_none() {
                self.queue_item(now, item);
            }
        }
        if self.read_closed {
            self.start_closing(now);
        }
    }

    fn queue_item(&mut self, now: Now, item: Item) {
        if self.queue.is_empty() {
            self.last_write = now.instant;
        }
        self.queued += item.len();
        self.queue.push_back(item);
    }

    fn start_closing(&mut self, now: Now) {
        if self.closing.is_some() {
            return;
        }
        let replaced = self
            .seat
            .as_ref()
            .is_some_and(|seat| seat.outbox.is_taken_over(seat.connection.generation));
        let linger = if replaced { LINGER_TAKEN_OVER } else { LINGER };
        self.closing = Some(now.instant + linger);
    }

    fn write(&mut self, now: Now, ms: u64, net: &mut Net, dice: &mut Dice) {
        while net.has_room(self.link)
            && let Some(item) = self.queue.pop_front()
        {
            self.last_write = now.instant;
            self.queued -= item.len();
            for piece in pieces(item, dice) {
                net.router_send(self.link, piece, ms, dice);
            }
            if self.queued <= WRITE_HIGH_WATER {
                // There may be more in the outbox.
                self.again |= self.queue.is_empty();
            }
        }
    }

    fn check_time(&mut self, now: Now) -> bool {
        if let Some(until) = self.closing {
            self.aborted = until <= now.instant;
            return self.aborted;
        }
        if self.gate.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.gate.handle_timeout(now);
            return true;
        }
        if self.is_dead(now) {
            self.read_closed = true;
            self.gate.handle_input(now, Input::Closed);
            return true;
        }
        false
    }

    fn is_dead(&mut self, now: Now) -> bool {
        if !self.queue.is_empty() && now.instant.duration_since(self.last_write) >= WRITE_TIMEOUT {
            return true;
        }
        let silence = now.instant.duration_since(self.last_sign);
        if silence >= PING_AFTER && !self.ping_sent {
            // A byte stream cannot be pinged; silence is the protocol's there.
            if self.wire == Wire::Stream {
                self.last_sign = now.instant;
            } else {
                self.ping_sent = true;
                self.queue_item(now, Item::Ping);
                self.again = true;
            }
            return false;
        }
        self.ping_sent && silence >= DEAD_AFTER
    }

    fn deadline(&self) -> Option<Instant> {
        if self.closing.is_some() {
            return self.closing;
        }
        let silence = if self.ping_sent {
            DEAD_AFTER
        } else {
            PING_AFTER
        };
        let write = (!self.queue.is_empty()).then(|| self.last_write + WRITE_TIMEOUT);
        [
            self.gate.poll_timeout(),
            Some(self.last_sign + silence),
            write,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// A WebSocket may carry MQTT packets cut anywhere; towards the client the real transport sends
/// whole ones, so this is for clients' benefit only.
fn pieces(item: Item, dice: &mut Dice) -> Vec<Item> {
    let Item::Bytes(mut bytes) = item else {
        return vec![item];
    };
    let mut found = Vec::new();
    while bytes.len() > 1 && dice.permille(100) {
        let at = 1 + dice.below(bytes.len() - 1);
        found.push(Item::Bytes(bytes.split_to(at)));
    }
    found.push(Item::Bytes(Bytes::clone(&bytes)));
    found
}

/// A reader that was given up as too slow may not hear why.
fn note_end(link: LinkId, reason: &EndReason, ledger: &mut Ledger) {
    if *reason == EndReason::TooSlow {
        ledger.excuse(link, "too slow");
    }
}
