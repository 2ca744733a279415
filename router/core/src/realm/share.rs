//! Shared subscriptions: each event goes to one member of the group.
//!
//! Members with a connection and room in their window come first, then those with a connection, then
//! durable sessions without one; a member whose queue is full is the last. Each has its own assurance,
//! numbers and flags. What happens to a delivery whose member cannot get it is
//! written in `handover.rs`.

use super::publish::Author;
use super::{Effects, Realm};
use crate::auth::Action;
use crate::broker::{Member, Picked, Reach, Standing, Subscription};
use crate::model::{Event, EventDelivery, Handover, Qos, Topic};
use crate::session::{EventStyle, Session};
use std::sync::Arc;

/// Why a group's event reached nobody.
#[derive(Default)]
pub(super) struct Barred {
    by_role: bool,
}

impl Realm {
    /// Delivers an event to one member of the group in `slot`. Answers whether the group has a
    /// member that it is not kept from.
    pub(super) fn share_out(
        &mut self,
        slot: u32,
        event: &Arc<Event>,
        author: &Author,
        effects: &mut Effects,
    ) -> bool {
        let excluded = author.place.filter(|_| author.exclude_me);
        let handover = match (&event.admission, author.exclude_me) {
            (Some(_), _) => Handover::Nobody,
            (None, true) => Handover::NotPublisher,
            (None, false) => Handover::AnyMember,
        };
        if !self.backlogs.is_empty()
            && let Some(id) = self.subscriptions.at(slot).map(|group| group.id)
        {
            self.collect(id, effects);
        }
        let mut barred = Barred::default();
        let picked = self.pick(slot, event, Reach::Overflow, |member, session| {
            excluded == Some(member.session)
                || (member.options.no_local && author.is(session, member.session))
                || !super::publish::is_admitted(session, event)
                || barred.by_role(session, &event.topic)
        });
        match picked.place {
            Some(place) => self.deliver_shared(slot, place, event, handover, effects),
            None => self.counters.delivery_refused += u64::from(barred.by_role),
        }
        picked.matched
    }

    /// Picks a member of the group in `slot` for an event.
    pub(super) fn pick(
        &mut self,
        slot: u32,
        event: &Event,
        reach: Reach,
        mut is_barred: impl FnMut(&Member, &Session) -> bool,
    ) -> Picked {
        let Realm {
            subscriptions,
            sessions,
            settings,
            random,
            unix_ms,
            ..
        } = self;
        let unix_ms = *unix_ms;
        let Some(Subscription {
            id,
            key,
            members,
            rota: Some(rota),
            ..
        }) = subscriptions.at_mut(slot)
        else {
            return Picked::default();
        };
        let (qos, cost) = (event.qos, event.cost());
        let strategy = settings
            .sharing
            .of(key.share.as_deref().unwrap_or_default());
        let mut standing = |place: usize| {
            let Some((member, session)) = members
                .get(place)
                .and_then(|member| Some((member, sessions.get(member.session)?)))
            else {
                return Standing::Barred;
            };
            if is_barred(member, session) || !session.features.opens(&event.payload) {
                return Standing::Barred;
            }
            standing_of(session, qos.min(member.options.qos), cost, unix_ms)
        };
        let windowed = qos > Qos::AtMostOnce;
        let picked = rota.pick(strategy, reach, windowed, random, &mut standing);
        for place in &picked.parked {
            if let Some(member) = members.get(*place)
                && let Some(session) = sessions.get_mut(member.session)
            {
                session.seldom.parked.insert(*id);
            }
        }
        picked
    }

    pub(super) fn deliver_shared(
        &mut self,
        slot: u32,
        member: usize,
        event: &Arc<Event>,
        handover: Handover,
        effects: &mut Effects,
    ) {
        let Some(subscription) = self.subscriptions.at(slot) else {
            return;
        };
        let Some(&Member {
            session, options, ..
        }) = subscription.members.get(member)
        else {
            return;
        };
        let delivery = EventDelivery {
            event: event.clone(),
            subscription: subscription.id,
            exact: subscription.key.pattern.is_exact(),
            qos: event.qos.min(options.qos),
            replayed: false,
            retain: event.retain && options.retain_as_published,
            identifiers: options.identifier.into_iter().collect(),
            slot: None,
            repeated: false,
            lost: 0,
            gap: false,
            handover,
        };
        if self.sessions.get(session).is_some_and(|s| !s.attached) {
            self.note_keeper(delivery.subscription, session);
        }
        self.deliver(session, delivery, effects);
    }
}

impl Barred {
    /// Whether the member's role may not read the topic.
    pub(super) fn by_role(&mut self, session: &Session, topic: &Topic) -> bool {
        let refused = !session.identity.role.permits(Action::Subscribe, topic);
        self.by_role |= refused;
        refused
    }
}

/// What a session can do with a delivery of assurance `qos` and `cost` bytes at `unix_ms`.
fn standing_of(session: &Session, qos: Qos, cost: usize, unix_ms: u64) -> Standing {
    let settles = session.style == EventStyle::Lanes && qos > Qos::AtMostOnce;
    let keeps = settles && session.is_durable();
    if !session.attached && !keeps {
        return Standing::Absent;
    }
    let load = session.outbox.load(cost, unix_ms);
    let has_room = if settles {
        load.has_room
    } else {
        load.has_passing_room
    };
    match (session.attached && load.connected, has_room) {
        (false, _) if !keeps => Standing::Absent,
        (_, false) => Standing::Full,
        (false, true) => Standing::Away(load.held),
        (true, true) if settles && load.window == 0 => Standing::Busy(load.held),
        (true, true) => Standing::Ready(load.held),
    }
}
