//! Showing a subscriber what the realm remembers: from a cursor, at the pace of its outbox, until it has come to the end and
//! goes live (ADR 0016).
//!
//! While a member is behind, live events that are remembered are skipped: the cursor comes to them in their turn, so there
//! is neither gap nor double however long that takes. Live events that are not remembered are held back until those before
//! them were shown; beyond a bound the oldest goes out ahead. Bodies that are on disk alone are read a few at a time, never
//! under the realm's lock.

use super::publish::is_admitted;
use super::queues::{Loading, Purpose};
use super::replay::{Budget, UNSAVED_MAX, is_by};
use super::{Effects, Realm};
use crate::auth::Action;
use crate::broker::Pace;
use crate::model::{Event, EventDelivery, Now, PublicationId, Qos, SubscriptionId};
use crate::records::{self, StoredTrace};
use crate::session::{Catchup, EventStyle, Replay, Session};
use std::sync::Arc;
use storage::{Found, StorageError};

/// Bodies read at a time.
pub(super) const READ_AHEAD: usize = 64;

/// Their bytes; may be exceeded by one of them.
pub(super) const READ_BYTES: usize = 256 << 10;

/// What of the events that are held back may go out.
#[derive(Clone, Copy)]
struct Before {
    /// What was published before.
    id: PublicationId,
    /// At most so many.
    most: usize,
    /// Something is missing.
    gap: bool,
}

/// What a step found.
#[derive(Default)]
struct Past {
    /// What is shown, each with whether something is missing before it.
    events: Vec<(Arc<Event>, bool)>,
    /// What has to be read first.
    wanted: Vec<u64>,
    /// Nothing is left.
    is_end: bool,
}

impl Realm {
    /// One step; answers whether the replay has come to the end of all that it is to show.
    pub(super) fn catch_up(
        &mut self,
        place: usize,
        replay: &mut Replay,
        room: usize,
        may_go_on: &mut bool,
        effects: &mut Effects,
    ) -> bool {
        let mut budget = self.budget;
        budget.values = budget.values.min(room);
        let values = budget.values;
        let past = self.next_of_past(place, replay, &mut budget, may_go_on);
        self.spend(budget, past.events.len());
        let left = values.saturating_sub(past.events.len());
        for (event, gap) in past.events {
            let before = Before {
                id: event.publication,
                most: usize::MAX,
                gap,
            };
            self.let_held_go(place, replay, before, effects);
            self.show(place, replay, &event, gap, effects);
        }
        if !past.wanted.is_empty() {
            self.read_past(place, replay, past.wanted, effects);
            return false;
        }
        if !past.is_end {
            return false;
        }
        let all = Before {
            id: PublicationId(u64::MAX),
            most: left,
            gap: replay.catchup.as_ref().is_some_and(|catchup| catchup.gap),
        };
        let released = self.let_held_go(place, replay, all, effects);
        self.budget.values = self.budget.values.saturating_sub(released);
        let is_done = |catchup: &mut Box<Catchup>| catchup.held.is_empty();
        let Some(catchup) = replay.catchup.take_if(is_done) else {
            return false;
        };
        let pace = match catchup.gap {
            true => Pace::Gap,
            false => Pace::Live,
        };
        self.set_pace(place, replay.subscription, pace);
        !catchup.values
    }

    fn show(
        &mut self,
        place: usize,
        replay: &mut Replay,
        event: &Arc<Event>,
        gap: bool,
        effects: &mut Effects,
    ) {
        let exact = replay.pattern.is_exact();
        let mut delivery = Realm::replayed(event, replay.subscription, exact, replay.options);
        let style = self.sessions.get(place).map(|session| session.style);
        // Sessions with lanes have one for replays; the others are told of no difference to a live event.
        delivery.replayed = style == Some(EventStyle::Lanes);
        (delivery.retain, delivery.gap) = (false, gap);
        replay.unsaved += match delivery.qos {
            Qos::AtMostOnce => 1,
            // It is stored now, and so must be what comes after it.
            Qos::AtLeastOnce | Qos::ExactlyOnce => UNSAVED_MAX + 1,
        };
        self.deliver(place, delivery, effects);
    }

    /// Hands out what is held back and comes `before`; answers how many that were.
    fn let_held_go(
        &mut self,
        place: usize,
        replay: &mut Replay,
        before: Before,
        effects: &mut Effects,
    ) -> usize {
        let Some(catchup) = &mut replay.catchup else {
            return 0;
        };
        let is_before = |held: &EventDelivery| held.event.publication < before.id;
        let mut released = 0;
        while released < before.most
            && catchup.held.front().is_some_and(is_before)
            && let Some(mut held) = catchup.take_held()
        {
            // What is missing may be missing before this one.
            held.gap = before.gap && released == 0;
            catchup.gap &= !held.gap || held.event.publication.0 <= catchup.told;
            released += 1;
            self.deliver(place, held, effects);
        }
        released
    }

    /// The next events; sets the cursor behind what was visited.
    fn next_of_past(
        &self,
        place: usize,
        replay: &mut Replay,
        budget: &mut Budget,
        may_go_on: &mut bool,
    ) -> Past {
        let mut past = Past::default();
        let Replay {
            pattern,
            filter,
            options,
            catchup,
            ..
        } = replay;
        let (Some(session), Some(catchup)) = (self.sessions.get(place), catchup) else {
            past.is_end = true;
            return past;
        };
        let first = self.first_since();
        let forgotten = self.history.forgotten(pattern, catchup.after, &first);
        if forgotten > catchup.after.max(catchup.told) {
            (catchup.gap, catchup.told) = (true, forgotten);
        }
        let reserved = &*self.settings.naming.reserved;
        let large = self.settings.limits.outbox.ordered.bytes / 4;
        let is_busy = session.style == EventStyle::Ordered && session.outbox.depth().0 > 0;
        let mut wanted_bytes = 0;
        let ids = catchup.after.saturating_add(1)..=catchup.until;
        for entry in self.history.walk(&ids, pattern, &first) {
            if budget.is_used_up() || past.wanted.len() >= READ_AHEAD.min(budget.values) {
                return past;
            }
            budget.looks -= 1;
            let id = entry.publication.0;
            let role = &session.identity.role;
            if !pattern.matches(&entry.topic, reserved)
                || !role.permits(Action::Subscribe, &entry.topic)
            {
                if past.wanted.is_empty() {
                    catchup.after = id;
                }
                continue;
            }
            // One that would fill much of the lane waits until that is empty, and is read alone.
            let is_large = entry.cost as usize > large;
            if is_large && (is_busy || !past.events.is_empty()) && past.wanted.is_empty() {
                *may_go_on = false;
                return past;
            }
            let body = catchup.body_of(entry);
            if body.is_some() && !past.wanted.is_empty() {
                return past;
            }
            match body {
                None if is_large && !past.wanted.is_empty() => return past,
                None => {
                    past.wanted.push(id);
                    wanted_bytes += entry.cost as usize;
                    if wanted_bytes >= READ_BYTES {
                        return past;
                    }
                }
                Some(None) => (catchup.after, catchup.gap) = (id, true),
                Some(Some(event)) => {
                    catchup.after = id;
                    let filter = filter.as_ref();
                    let is_shown = is_due(session, &event, options.no_local)
                        && !catchup.is_echo(entry, &event, session)
                        && filter.is_none_or(|filter| filter.accepts(&event));
                    if is_shown || filter.is_some() {
                        budget.bytes = budget.bytes.saturating_sub(event.cost());
                    }
                    if is_shown {
                        budget.values -= 1;
                        past.events.push((event, std::mem::take(&mut catchup.gap)));
                    }
                }
            }
        }
        past.is_end = past.wanted.is_empty();
        past
    }

    fn read_past(
        &mut self,
        place: usize,
        replay: &mut Replay,
        numbers: Vec<u64>,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let loading = Loading {
            place,
            outbox: session.outbox.clone(),
            numbers,
            purpose: Purpose::Replay(replay.subscription),
        };
        let id = self.begin_load(loading, effects);
        if let Some(catchup) = &mut replay.catchup {
            catchup.load = Some(id);
        }
    }

    /// What came of a read of remembered events.
    pub(super) fn past_loaded(
        &mut self,
        now: Now,
        id: u64,
        loading: Loading,
        found: Vec<Found>,
        effects: &mut Effects,
    ) {
        let (mut events, mut failed) = (Vec::new(), false);
        for (number, found) in loading.numbers.iter().zip(found) {
            let record = match found {
                Ok(record) => record,
                Err(StorageError::Damaged { .. }) => None,
                Err(error) => {
                    self.counters.history_reads_failed += 1;
                    tracing::error!(realm = %self.settings.name, %error, "remembered events cannot be read");
                    failed = true;
                    break;
                }
            };
            let event = record.and_then(|record| records::decode::<StoredTrace>(&record).ok());
            match event {
                Some(_) => self.counters.history_reads += 1,
                None => self.counters.history_damaged += 1,
            }
            events.push((*number, event.map(|stored| records::event(stored.event))));
        }
        let nothing = failed && events.is_empty();
        let place = loading.place;
        match loading.purpose {
            Purpose::Replay(_) if nothing => self.try_load_again(now, id, loading),
            Purpose::Replay(subscription) => {
                self.take_in_past(now, place, subscription, id, events, effects);
            }
            Purpose::Reading(reading) if nothing => {
                self.reading_failed(place, &reading, effects);
            }
            Purpose::Reading(reading) => {
                self.reading_loaded(now, place, reading, events, effects);
            }
            Purpose::Queue => {}
        }
    }

    /// Bodies that a replay waited for, or `None` for those that cannot be read.
    pub(super) fn take_in_past(
        &mut self,
        now: Now,
        place: usize,
        subscription: SubscriptionId,
        load: u64,
        found: Vec<(u64, Option<Arc<Event>>)>,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let mut replays = session.replays.iter_mut();
        let replay = replays.find(|replay| replay.subscription == subscription);
        let catchup = replay.and_then(|replay| replay.catchup.as_mut());
        let Some(catchup) = catchup.filter(|catchup| catchup.load == Some(load)) else {
            return;
        };
        catchup.load = None;
        catchup.fetched = found.into();
        self.pump_replays(now, place, effects);
    }

    /// Keeps a live event that is not remembered until the member has been shown those before it.
    pub(super) fn hold_back(
        &mut self,
        place: usize,
        delivery: EventDelivery,
        effects: &mut Effects,
    ) {
        let lane = self.settings.limits.outbox.ordered;
        let ahead = match self.catchup_of(place, delivery.subscription) {
            Some(catchup) => catchup.hold(delivery, lane),
            None => vec![delivery],
        };
        for delivery in ahead {
            self.deliver(place, delivery, effects);
        }
    }

    /// The past that a session which sees everything in order is still shown.
    fn catchup_of(&mut self, place: usize, id: SubscriptionId) -> Option<&mut Catchup> {
        let session = self.sessions.get_mut(place)?;
        let is_ordered = session.style == EventStyle::Ordered;
        let mut replays = session.replays.iter_mut();
        let replay = replays.find(|replay| replay.subscription == id && is_ordered)?;
        replay.catchup.as_deref_mut()
    }

    /// Says how far a member of a subscription is.
    pub(super) fn set_pace(&mut self, place: usize, id: SubscriptionId, pace: Pace) {
        let session = self.sessions.get(place);
        if let Some(&at) = session.and_then(|session| session.subscriptions.get(&id)) {
            self.subscriptions.set_pace(id, at, pace);
        }
    }
}

/// Whether the session may be shown an event of the past whose topic it may read.
pub(super) fn is_due(session: &Session, event: &Event, no_local: bool) -> bool {
    is_admitted(session, event)
        && session.features.opens(&event.payload)
        && !(no_local && is_by(event, session))
}
