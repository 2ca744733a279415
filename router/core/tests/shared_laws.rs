//! Laws of shared subscriptions under random joins, leaves, disconnects, acknowledgements and
//! publishes, at-least-once and with queues that never fill:
//!
//! * An event is with one member of a group at a time, and acknowledged by one.
//! * It is not lost while its group has a member.
//! * Nothing waits for a member without connection while another one takes more at once.
//! * What a member gets live it gets in the order of publishing.
//! * What is on disk is what the sessions hold.
#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::*;
use proptest::prelude::*;
use router_core::broker::{ShareStrategy, Sharing};
use router_core::limits::RealmLimits;
use router_core::model::{Answer, Command, Delivery, Payload, Slot};
use router_core::outbox::Outbox;
use router_core::records::{self, StoredDelivery};
use router_core::session::Leave;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const CLIENTS: usize = 5;
const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Clone, Debug)]
enum Step {
    Connect(usize, u16),
    Disconnect(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Read(usize, usize),
    Acknowledge(usize),
    Publish,
    Pass,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS;
    let group = 0..GROUPS.len();
    prop_oneof![
        4 => (who.clone(), 1..4_u16).prop_map(|(c, window)| Step::Connect(c, window)),
        2 => who.clone().prop_map(Step::Disconnect),
        4 => (who.clone(), group.clone()).prop_map(|(c, g)| Step::Subscribe(c, g)),
        1 => (who.clone(), group).prop_map(|(c, g)| Step::Unsubscribe(c, g)),
        5 => (who.clone(), 1..6_usize).prop_map(|(c, most)| Step::Read(c, most)),
        5 => who.prop_map(Step::Acknowledge),
        8 => Just(Step::Publish),
        1 => Just(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// An event in a group, by the id of the group's subscription, which is new each time it is founded.
type Copy = (u64, u64);

#[derive(Default)]
struct Client {
    peer: Option<Peer>,
    /// Of the session, as far as this process was asked.
    outbox: Option<Arc<Outbox>>,
    /// The session exists, with this life after its connection.
    session: Option<u64>,
    /// Group -> id of its subscription.
    member: BTreeMap<usize, u64>,
    /// Read and not acknowledged.
    open: Vec<(Slot, Copy)>,
    /// The last event read live, by group.
    last: HashMap<u64, u64>,
}

struct Town {
    w: World,
    publisher: Peer,
    clients: Vec<Client>,
    durable: bool,
    restarted: bool,
    published: u64,
    /// Events from here on cannot have been handed over.
    quiet_since: u64,
    pending: BTreeSet<Copy>,
    acknowledged: BTreeSet<Copy>,
}

impl Town {
    fn new(durable: bool, strategy: ShareStrategy) -> Town {
        let sharing = Sharing {
            default: strategy,
            ..Sharing::default()
        };
        let mut w = World::sharing(durable, RealmLimits::default(), 9, sharing);
        let publisher = w.plain();
        Town {
            w,
            publisher,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            durable,
            restarted: false,
            published: 0,
            quiet_since: 0,
            pending: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        if !matches!(step, Step::Read(..) | Step::Acknowledge(_) | Step::Publish) {
            self.quiet_since = self.published;
        }
        match *step {
            Step::Connect(c, window) => self.connect(c, window),
            Step::Disconnect(c) => self.disconnect(c),
            Step::Subscribe(c, group) => self.subscribe(c, group),
            Step::Unsubscribe(c, group) => self.unsubscribe(c, group),
            Step::Read(c, most) => {
                self.read(c, most);
            }
            Step::Acknowledge(c) => self.acknowledge(c),
            Step::Publish => self.publish(),
            Step::Pass => self.pass(),
            Step::Restart => self.restart(),
        }
    }

    fn connect(&mut self, c: usize, window: u16) {
        if self.clients[c].peer.is_some() {
            return;
        }
        // Every other client ends with its connection, unless the process may.
        let life = if self.durable || c.is_multiple_of(2) {
            600
        } else {
            0
        };
        let peer = self
            .w
            .join(client(&format!("c{c}")).expiry(life).window(window));
        self.clients[c].outbox = Some(peer.outbox.clone());
        self.clients[c].peer = Some(peer);
        self.clients[c].session = Some(life);
    }

    fn disconnect(&mut self, c: usize) {
        let Some(peer) = self.clients[c].peer.take() else {
            return;
        };
        self.w.leave(&peer, Leave::Lost);
        self.clients[c].open.clear();
        if self.clients[c].session == Some(0) {
            self.clients[c] = Client::default();
        }
    }

    fn subscribe(&mut self, c: usize, group: usize) {
        let Some(peer) = self.clients[c].peer.clone() else {
            return;
        };
        let request = 100 + group as u64;
        self.w.send(
            &peer,
            sub(request, "t/#").share(GROUPS[group]).qos(1).into(),
        );
        while self.read(c, 64) > 0 {}
    }

    fn unsubscribe(&mut self, c: usize, group: usize) {
        let Some(peer) = self.clients[c].peer.clone() else {
            return;
        };
        self.w.send(&peer, unsub_share(1, GROUPS[group], "t/#"));
        self.clients[c].member.remove(&group);
    }

    fn read(&mut self, c: usize, most: usize) -> usize {
        let Some(peer) = self.clients[c].peer.clone() else {
            return 0;
        };
        let mut out = Vec::new();
        let generation = peer.connection.generation;
        peer.outbox
            .drain(generation, most, self.w.now.unix_ms, &mut out);
        for delivery in &out {
            self.note(c, delivery);
        }
        out.len()
    }

    fn note(&mut self, c: usize, delivery: &Delivery) {
        match delivery {
            Delivery::Done {
                request,
                answer: Answer::Subscribed { subscription, .. },
            } => {
                let group = usize::try_from(request.0 - 100).unwrap();
                self.clients[c].member.insert(group, subscription.0);
            }
            Delivery::Event(event) => {
                let n = number(&event.event.payload);
                let group = event.subscription.0;
                let client = &mut self.clients[c];
                client.open.push((event.slot.unwrap(), (n, group)));
                if n >= self.quiet_since && !event.repeated {
                    let before = client.last.insert(group, n);
                    assert!(before.is_none_or(|before| before < n), "{before:?} {n}");
                }
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let Some(peer) = client.peer.clone().filter(|_| !client.open.is_empty()) else {
            return;
        };
        let (slot, copy) = client.open.remove(0);
        self.w.send(&peer, Command::Settle { slot });
        assert!(self.acknowledged.insert(copy), "twice: {copy:?}");
        assert!(self.pending.remove(&copy), "never published: {copy:?}");
    }

    fn publish(&mut self) {
        let n = self.published;
        self.published += 1;
        let publisher = self.publisher.clone();
        self.w
            .send(&publisher, publish("t/x", json!([n])).qos(1).into());
        for id in self.groups() {
            self.pending.insert((n, id));
        }
    }

    fn pass(&mut self) {
        self.w.pass(secs(601));
        for client in &mut self.clients {
            if client.peer.is_none() {
                *client = Client::default();
            }
        }
    }

    fn restart(&mut self) {
        if !self.durable {
            return;
        }
        self.w.restart();
        self.restarted = true;
        self.publisher = self.w.plain();
        for client in &mut self.clients {
            (client.peer, client.outbox) = (None, None);
            client.open.clear();
        }
    }

    /// The ids of the groups with members.
    fn groups(&self) -> BTreeSet<u64> {
        let members = self
            .clients
            .iter()
            .flat_map(|client| client.member.values());
        members.copied().collect()
    }

    /// Copies that sessions hold: as stored, or in their queues if nothing is.
    fn held(&self) -> Vec<Copy> {
        if self.durable {
            return stored(&self.w);
        }
        let outboxes = self.clients.iter().filter_map(|c| c.outbox.as_ref());
        outboxes
            .flat_map(|outbox| outbox.stored_copies())
            .map(|(_, delivery)| {
                let delivery = delivery.unwrap();
                (number(&delivery.event.payload), delivery.subscription.0)
            })
            .collect()
    }

    fn check(&mut self) {
        let held = self.held();
        let set: BTreeSet<Copy> = held.iter().copied().collect();
        assert_eq!(set.len(), held.len(), "with two at a time: {held:?}");
        if let Some(copy) = set.intersection(&self.acknowledged).next() {
            panic!("acknowledged and still there: {copy:?}");
        }
        let groups = self.groups();
        for copy in self.pending.clone() {
            if !set.contains(&copy) {
                assert!(!groups.contains(&copy.1), "lost: {copy:?}");
                self.pending.remove(&copy);
            }
        }
        if self.durable {
            let outboxes = self.clients.iter().filter_map(|c| c.outbox.as_ref());
            let known: usize = outboxes.map(|outbox| outbox.stored_numbers().len()).sum();
            assert!(self.restarted || known == held.len(), "{known} {held:?}");
        }
    }

    /// What waits unsent for members without connection has nobody else.
    fn check_absent(&self) {
        let here = self.clients.iter().filter(|client| {
            let peer = client.peer.as_ref();
            peer.is_some_and(|peer| peer.outbox.window_room() > 0)
        });
        let served: BTreeSet<u64> = here.flat_map(|c| c.member.values().copied()).collect();
        for client in self.clients.iter().filter(|c| c.peer.is_none()) {
            let Some(outbox) = &client.outbox else {
                continue;
            };
            let waiting = outbox.take_waiting(|delivery| !delivery.repeated);
            for item in &waiting {
                let group = item.delivery.subscription.0;
                assert!(!served.contains(&group), "{:?}", item.delivery);
            }
            outbox.put_back(waiting);
        }
    }

    /// Everybody comes back and acknowledges everything.
    fn settle(&mut self) {
        for c in 0..CLIENTS {
            if self.clients[c].session.is_some() {
                self.connect(c, 3);
            }
        }
        self.quiet_since = self.published;
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for c in 0..CLIENTS {
                is_quiet &= self.read(c, 16) == 0;
                while !self.clients[c].open.is_empty() {
                    self.acknowledge(c);
                    is_quiet = false;
                }
            }
            self.check();
        }
        assert_eq!(self.held(), []);
        assert!(self.pending.is_empty(), "{:?}", self.pending);
    }
}

/// The copies on disk.
fn stored(w: &World) -> Vec<Copy> {
    let queues = w.disk.iter().filter(|((s, _), _)| *s == records::QUEUES.0);
    queues
        .map(|(_, record)| match records::decode(record).unwrap() {
            StoredDelivery::Waiting {
                event,
                subscription,
                ..
            } => (number(&records::event(event).payload), subscription.0),
            StoredDelivery::Released | StoredDelivery::Lost { .. } => {
                panic!("nothing is sent at exactly-once, and nothing dropped")
            }
        })
        .collect()
}

fn number(payload: &Payload) -> u64 {
    body(payload).trim_matches(['[', ']']).parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn each_event_is_with_one_member_of_each_group(
        durable in any::<bool>(),
        strategy in 0..ShareStrategy::ALL.len(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut town = Town::new(durable, ShareStrategy::ALL[strategy]);
        for step in &steps {
            town.take(step);
            town.check();
            town.check_absent();
        }
        town.settle();
    }
}
