//! What one member of a share group cannot get any more is handed to another.
//!
//! What was not sent yet is handed over when its member unsubscribes or ends, at once and to whoever
//! has room in its queue; from a session that ends also what was sent at at-least-once and not
//! acknowledged. What was sent at exactly-once stays with its session and ends with it.
//! What waits for a member without connection stays with it until others of the group take it at
//! once: they collect it as they come and acknowledge.
//!
//! Deliveries are handed over oldest first, and both records change in one batch. An event whose
//! publisher named its receivers is never handed over: the list is gone.

use super::publish::Author;
use super::share::Barred;
use super::{Effects, Realm};
use crate::broker::{Picked, Reach};
use crate::model::{EventDelivery, Handover, SubscriptionId, Topic};
use crate::outbox::Sure;
use std::cell::Cell;
use std::collections::BTreeSet;

/// How many deliveries one step takes from members without connection.
const STEP: usize = 256;

/// What nobody took.
#[derive(Default)]
struct Left {
    items: Vec<Sure>,
    /// Groups that have nobody with room.
    full: BTreeSet<SubscriptionId>,
}

impl Realm {
    /// Hands deliveries taken out of the queue of `giver` to other members of their groups.
    fn hand_over(
        &mut self,
        giver: usize,
        items: Vec<Sure>,
        reach: Reach,
        effects: &mut Effects,
    ) -> Left {
        let mut left = Left::default();
        for item in items {
            let group = item.delivery.subscription;
            // What follows stays behind what stays.
            let picked = match left.full.contains(&group) {
                true => Picked::default(),
                false => self.pass_on(giver, &item.delivery, reach, effects),
            };
            if picked.place.is_some() {
                self.forget_delivery(giver, item.number, effects);
                continue;
            }
            if picked.matched {
                left.full.insert(group);
            }
            left.items.push(item);
        }
        left
    }

    fn pass_on(
        &mut self,
        giver: usize,
        delivery: &EventDelivery,
        reach: Reach,
        effects: &mut Effects,
    ) -> Picked {
        let event = &delivery.event;
        let slot = self.group_of(delivery);
        let Some(slot) = slot else {
            return Picked::default();
        };
        let author = Author {
            place: None,
            publisher: event.publisher.clone(),
            exclude_me: delivery.handover == Handover::NotPublisher,
        };
        let publisher = event.publisher.as_ref().map(|publisher| publisher.session);
        let mut barred = Barred::default();
        let picked = self.pick(slot, event, reach, |member, session| {
            member.session == giver
                || (author.exclude_me && publisher == Some(session.id))
                || (member.options.no_local && author.is(session, member.session))
                || barred.by_role(session, &event.topic)
        });
        if let Some(place) = picked.place {
            self.deliver_shared(slot, place, event, delivery.handover, effects);
        }
        picked
    }

    /// The group of a delivery, if it still exists.
    fn group_of(&self, delivery: &EventDelivery) -> Option<u32> {
        let slot = self.subscriptions.slot_of(delivery.subscription)?;
        let subscription = self.subscriptions.at(slot)?;
        let reserved = &self.settings.naming.reserved;
        // A record may be older than the id it names.
        let is_it = subscription.rota.is_some()
            && subscription
                .key
                .pattern
                .matches(&delivery.event.topic, reserved);
        is_it.then_some(slot)
    }

    /// Moves at most `most` deliveries of `place` that wait unsent and are `wanted` to other members
    /// within `reach`. What finds nobody stays. Answers how many it looked at, how many stay, and
    /// whether that is for lack of room.
    fn move_waiting(
        &mut self,
        place: usize,
        reach: Reach,
        most: usize,
        wanted: impl Fn(&EventDelivery) -> bool,
        effects: &mut Effects,
    ) -> (usize, usize, bool) {
        let Some(session) = self.sessions.get(place) else {
            return (0, 0, false);
        };
        let outbox = session.outbox.clone();
        let more = Cell::new(most);
        let taken = outbox.take_waiting(|delivery| {
            let takes = more.get() > 0 && is_movable(delivery) && wanted(delivery);
            more.set(more.get() - usize::from(takes));
            takes
        });
        let seen = taken.len();
        if seen == 0 {
            return (0, 0, false);
        }
        let left = self.hand_over(place, taken, reach, effects);
        let stay = left.items.len();
        outbox.put_back(left.items);
        // What waited behind them may go out now.
        effects.wake.push(outbox);
        (seen, stay, !left.full.is_empty())
    }

    /// The session has left a subscription: if it was shared, others of the group get what waits.
    pub(super) fn share_left(&mut self, place: usize, id: SubscriptionId, effects: &mut Effects) {
        let is_shared = self
            .subscriptions
            .by_id(id)
            .is_some_and(|subscription| subscription.rota.is_some());
        if is_shared {
            let wanted = |delivery: &EventDelivery| delivery.subscription == id;
            self.move_waiting(place, Reach::Room, usize::MAX, wanted, effects);
        }
    }

    /// The session has lost its connection: others may get what waits for it.
    pub(super) fn member_went(&mut self, place: usize, effects: &mut Effects) {
        for id in self.groups_of(place) {
            let Some(session) = self.sessions.get_mut(place) else {
                return;
            };
            session.seldom.parked.insert(id);
            if let (Some(at), Some(rota)) = (
                session.subscriptions.get(&id),
                self.subscriptions.rota_of(id),
            ) {
                rota.away(*at);
                self.note_keeper(id, place);
                self.collect(id, effects);
            }
        }
    }

    /// The session has a connection (again): it takes part in its groups, and gets what waits for
    /// members without.
    pub(super) fn member_came(&mut self, place: usize, effects: &mut Effects) {
        for id in self.groups_of(place) {
            self.make_ready(place, id);
            self.collect(id, effects);
        }
    }

    /// A place in the window of the session may be free.
    pub(super) fn room_made(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let is_of_use = !session.seldom.parked.is_empty() || !self.backlogs.is_empty();
        if session.seldom.shares.is_empty() || !is_of_use || session.outbox.window_room() == 0 {
            return;
        }
        if session.attached {
            for id in std::mem::take(&mut session.seldom.parked) {
                self.make_ready(place, id);
            }
        }
        if !self.backlogs.is_empty() {
            for id in self.groups_of(place) {
                self.collect(id, effects);
            }
        }
    }

    fn make_ready(&mut self, place: usize, id: SubscriptionId) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.seldom.parked.remove(&id);
        if let (Some(at), Some(rota)) = (
            session.subscriptions.get(&id),
            self.subscriptions.rota_of(id),
        ) {
            rota.ready(*at);
            rota.keepers.remove(&place);
        }
    }

    /// The session, which has no connection, may hold deliveries of the group for others.
    pub(super) fn note_keeper(&mut self, id: SubscriptionId, place: usize) {
        if let Some(rota) = self.subscriptions.rota_of(id) {
            rota.keepers.insert(place);
            self.backlogs.insert(id);
        }
    }

    /// Members without connection give what waits for them to those that take it at once, oldest
    /// first and [`STEP`] at a time; the rest when these have acknowledged.
    pub(super) fn collect(&mut self, id: SubscriptionId, effects: &mut Effects) {
        let Some(rota) = self.subscriptions.rota_of(id) else {
            self.backlogs.remove(&id);
            return;
        };
        if rota.keepers.is_empty() {
            self.backlogs.remove(&id);
            return;
        }
        if !rota.has_ready() {
            return;
        }
        let keepers: Vec<usize> = rota.keepers.iter().copied().take(STEP).collect();
        let mut most = STEP;
        for keeper in keepers {
            let (seen, stay, is_full) = self.give(keeper, id, most, effects);
            // What the roles of all others bar is not tried again at every event.
            let is_done = !is_full && (seen < most || stay == seen);
            if is_done && let Some(rota) = self.subscriptions.rota_of(id) {
                rota.keepers.remove(&keeper);
            }
            most -= seen;
            if is_full || most == 0 {
                return;
            }
        }
    }

    fn give(
        &mut self,
        keeper: usize,
        id: SubscriptionId,
        most: usize,
        effects: &mut Effects,
    ) -> (usize, usize, bool) {
        let session = self.sessions.get(keeper);
        if session.is_none_or(|session| session.attached) {
            return (0, 0, false);
        }
        let wanted = |delivery: &EventDelivery| delivery.subscription == id;
        self.move_waiting(keeper, Reach::Window, most, wanted, effects)
    }

    /// Takes out of a session that ends what others of its groups are to have, before what it holds
    /// is forgotten.
    pub(super) fn take_orphans(&self, place: usize) -> Vec<Sure> {
        let Some(session) = self.sessions.get(place) else {
            return Vec::new();
        };
        session
            .outbox
            .take_unfinished(|delivery| !delivery.handover.is_nobody())
    }

    /// Hands them over once the session has left its groups.
    pub(super) fn place_orphans(
        &mut self,
        place: usize,
        orphans: Vec<Sure>,
        effects: &mut Effects,
    ) {
        for lost in self.hand_over(place, orphans, Reach::Room, effects).items {
            self.forget_delivery(place, lost.number, effects);
            // Without a group nobody misses it.
            if self.group_of(&lost.delivery).is_some() {
                self.counters.dropped_sure += 1;
            }
        }
    }

    /// A stored delivery of a subscription was found: nothing new goes by that name, and if it is of
    /// a group, the session keeps it for one with a connection.
    pub(super) fn restore_share(&mut self, client: &str, id: SubscriptionId, handover: Handover) {
        self.subscriptions.pass_id(id);
        if let (Some(&place), false) = (self.clients.get(client), handover.is_nobody()) {
            self.note_keeper(id, place);
        }
    }

    /// The role of a session has changed: others of its groups get what waits for it and is denied
    /// now.
    pub(super) fn share_denied(
        &mut self,
        place: usize,
        denied: impl Fn(&Topic) -> bool,
        effects: &mut Effects,
    ) {
        let wanted = |delivery: &EventDelivery| denied(&delivery.event.topic);
        self.move_waiting(place, Reach::Room, usize::MAX, wanted, effects);
    }

    /// The shared subscriptions of a session.
    fn groups_of(&self, place: usize) -> Vec<SubscriptionId> {
        let session = self.sessions.get(place);
        session.map_or_else(Vec::new, |session| {
            session.seldom.shares.iter().copied().collect()
        })
    }
}

/// Whether somebody else may get a delivery that waits: a repeated one may have been sent.
fn is_movable(delivery: &EventDelivery) -> bool {
    !delivery.handover.is_nobody() && !delivery.repeated
}
