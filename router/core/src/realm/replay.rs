//! Replays: what a new subscription is shown of the history and of the retained values.
//!
//! History comes first (`catchup.rs`). Both are shown from a cursor, in steps: a step goes as far as
//! the session's outbox has room, and never beyond the realm's budget for the time between two
//! [`Realm::seal`]s, so that no replay holds the realm for long, however many keys there are and
//! however few of them match. A session whose outbox has room again asks for its next step itself
//! ([`Realm::refill`]).
//!
//! Keys written since the subscription are skipped, because their new value went out live. A replay
//! of a durable session outlives the connection; its cursor is stored with the subscription, in the
//! batch that stores what the step queued, so that it goes on there after a restart too.

use super::publish::is_admitted;
use super::{Effects, Realm};
use crate::auth::Action;
use crate::broker::{Filter, MemberOptions, Pace};
use crate::kv::{Visit, Walked};
use crate::model::{Delivery, Event, Now, PublicationId, Qos, Subscribe, SubscriptionId};
use crate::records::{StoredCatchup, StoredReplay};
use crate::session::{Catchup, EventStyle, Replay, ReplayAt, Session};
use crate::timers::Timer;
use bytestring::ByteString;
use std::collections::VecDeque;
use std::sync::Arc;

/// At-most-once values handed over before their cursor is stored: repeating these after a crash does
/// no harm, and a commit for each step would.
pub(super) const UNSAVED_MAX: usize = 4_096;

/// What replays may still do while the realm is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Keys looked at.
    pub looks: usize,
    /// Values handed over.
    pub values: usize,
    /// Bytes handed over or compared with a filter; may be exceeded by one value.
    pub bytes: usize,
}

impl Budget {
    pub(super) const FULL: Budget = Budget {
        looks: 1_000,
        values: 256,
        bytes: 256 << 10,
    };

    pub(super) fn is_used_up(self) -> bool {
        self.looks == 0 || self.values == 0 || self.bytes == 0
    }
}

/// What a step found.
struct Found {
    events: Vec<Arc<Event>>,
    /// Nothing is left.
    done: bool,
}

impl Realm {
    /// Ends the replay of one subscription; answers whether there was one.
    pub(super) fn drop_replay(&mut self, place: usize, id: SubscriptionId) -> bool {
        let Some(session) = self.sessions.get_mut(place) else {
            return false;
        };
        let Some(at) = session.replays.iter().position(|r| r.subscription == id) else {
            return false;
        };
        let gone = session.replays.remove(at);
        let left = session.replays.iter().any(|replay| !replay.is_waiting(0));
        session.outbox.set_refill(left);
        if let Some(mut gone) = gone {
            self.stop_waiting(place, &mut gone);
            if gone.catchup.is_some() {
                self.set_pace(place, id, Pace::Live);
            }
        }
        true
    }

    /// Ends all replays of a session.
    pub(super) fn drop_replays_of(&mut self, place: usize) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.outbox.set_refill(false);
        for mut replay in std::mem::take(&mut session.replays) {
            self.stop_waiting(place, &mut replay);
        }
    }

    /// The connection of a durable session is gone: what was asked for by it alone ends, the rest
    /// rests until the next connection.
    pub(super) fn rest_replays_of(&mut self, place: usize, effects: &mut Effects) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.outbox.set_refill(false);
        let all = std::mem::take(&mut session.replays);
        let (mut kept, mut unsaved) = (VecDeque::new(), Vec::new());
        for mut replay in all {
            let is_past = !replay.snapshot && replay.catchup.is_some();
            if replay.snapshot || replay.wait_for.is_some() {
                self.stop_waiting(place, &mut replay);
                if let Some(catchup) = &mut replay.catchup {
                    catchup.values = false;
                }
                if !is_past {
                    continue;
                }
            }
            if std::mem::take(&mut replay.unsaved) > 0 {
                replay.stored = true;
                unsaved.push(replay.subscription);
            }
            kept.push_back(replay);
        }
        if let Some(session) = self.sessions.get_mut(place) {
            session.replays = kept;
        }
        for id in unsaved {
            self.save_subscription(place, id, effects);
        }
    }

    /// A durable session has a connection again: its replays go on as soon as that has room.
    pub(super) fn resume_replays_of(&mut self, place: usize) {
        let latest = self.ids.last();
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        for replay in &mut session.replays {
            replay.resumed = latest;
        }
        session.outbox.set_refill(!session.replays.is_empty());
    }

    /// A subscription that may have a replay under way was asked for again, with other options and
    /// without starting anew.
    pub(super) fn change_replay(
        &mut self,
        place: usize,
        id: SubscriptionId,
        retained: bool,
        options: MemberOptions,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(replay) = session.replays.iter_mut().find(|r| r.subscription == id) else {
            return;
        };
        replay.options = options;
        match &mut replay.catchup {
            // Without it the member would miss what it skipped.
            Some(catchup) => catchup.values &= retained,
            None if retained => {}
            None => {
                self.drop_replay(place, id);
            }
        }
    }

    /// What is to be stored of the replay of a subscription.
    pub(super) fn stored_replay(session: &Session, id: SubscriptionId) -> Option<StoredReplay> {
        let mut replays = session.replays.iter();
        let replay = replays.find(|replay| replay.subscription == id && !replay.snapshot)?;
        let after = match &replay.at {
            // Status values are not stored, and those of the next life are new.
            ReplayAt::Status(_) => None,
            ReplayAt::Values(after) => after.clone(),
        };
        let history = replay.catchup.as_ref().map(|catchup| StoredCatchup {
            after: catchup.after,
            values: catchup.values,
        });
        Some(StoredReplay {
            after,
            until: replay.until,
            history,
        })
    }

    /// Puts back a replay that was under way when the process ended.
    pub(super) fn restore_replay(
        &mut self,
        place: usize,
        id: SubscriptionId,
        options: MemberOptions,
        stored: StoredReplay,
    ) {
        let Some(subscription) = self.subscriptions.by_id(id) else {
            return;
        };
        let asked = self.ids.last();
        let history = stored.history.as_ref();
        let catchup =
            history.map(|past| Catchup::new(past.after, u64::MAX, asked, past.values).into());
        let is_behind = history.is_some();
        let replay = Replay {
            subscription: id,
            pattern: subscription.key.pattern.clone(),
            filter: subscription.filter.as_deref().cloned(),
            options,
            at: ReplayAt::Values(stored.after),
            until: stored.until,
            resumed: PublicationId(0),
            unsaved: 0,
            stored: true,
            snapshot: false,
            wait_for: None,
            catchup,
        };
        if let Some(session) = self.sessions.get_mut(place) {
            session.replays.push_back(replay);
        }
        if is_behind {
            self.set_pace(place, id, Pace::Behind);
        }
    }

    /// The replay does not wait for the store any more.
    fn stop_waiting(&mut self, place: usize, replay: &mut Replay) {
        if let Some((after, timer)) = replay.wait_for.take() {
            self.timers.cancel(Some(timer));
            self.replay_waits
                .remove(&(after, place, replay.subscription));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call site")]
    pub(super) fn start_replay(
        &mut self,
        now: Now,
        place: usize,
        id: SubscriptionId,
        subscribe: Subscribe,
        filter: Option<Filter>,
        options: MemberOptions,
        retained: bool,
        effects: &mut Effects,
    ) {
        // Nobody is shown what belongs to a group.
        if subscribe.share.is_some() {
            return;
        }
        // Asked again, it begins anew; but what was skipped or held back is still due.
        let mut held = VecDeque::new();
        let until = self.ids.last();
        if let Some((past, values_until)) = self.past_of(place, id) {
            if subscribe.after.is_none() {
                (past.values, *values_until) = (retained, until);
                return;
            }
            held = std::mem::take(&mut past.held);
        }
        self.drop_replay(place, id);
        let wait_for = subscribe
            .after
            .filter(|&after| retained && after > self.kv.last_write())
            .and_then(|after| {
                let at = now.instant.checked_add(self.settings.limits.after_wait)?;
                Some((after, self.timers.set(at, Timer::Replay(place, id))))
            });
        if let Some((after, _)) = wait_for {
            self.replay_waits.insert((after, place, id));
        }
        let catchup = subscribe.after.map(|after| {
            let end = match subscribe.snapshot {
                true => until.0,
                false => u64::MAX,
            };
            let mut past = Catchup::new(after, end, until, retained);
            past.held_bytes = held.iter().map(|held| held.event.cost()).sum();
            past.held = held;
            Box::new(past)
        });
        if catchup.is_some() && !subscribe.snapshot {
            self.set_pace(place, id, Pace::Behind);
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.replays.push_back(Replay {
            subscription: id,
            // A snapshot of history alone has nothing more to visit, but its end must still be told.
            pattern: subscribe.pattern.clone(),
            filter,
            options,
            at: ReplayAt::Status(None),
            until: match (retained, subscribe.snapshot) {
                (false, _) => PublicationId(0),
                // Nothing comes live, so whatever is there when its turn comes is due.
                (true, true) => PublicationId(u64::MAX),
                (true, false) => until,
            },
            resumed: PublicationId(0),
            unsaved: 0,
            stored: false,
            snapshot: subscribe.snapshot,
            wait_for,
            catchup,
        });
        self.pump_replays(now, place, effects);
        let goes_on = self.sessions.get_mut(place).and_then(|session| {
            let mut replays = session.replays.iter_mut();
            replays.find(|replay| replay.subscription == id && !replay.snapshot)
        });
        // The record written with the subscription knows of no replay.
        if let Some(replay) = goes_on
            && !std::mem::replace(&mut replay.stored, true)
        {
            self.save_subscription(place, id, effects);
        }
    }

    /// The past that a member is still shown, and up to where it is shown the kept values after that.
    fn past_of(
        &mut self,
        place: usize,
        id: SubscriptionId,
    ) -> Option<(&mut Catchup, &mut PublicationId)> {
        let session = self.sessions.get_mut(place)?;
        let replay = session.replays.iter_mut().find(|r| r.subscription == id)?;
        Some((replay.catchup.as_deref_mut()?, &mut replay.until))
    }

    /// Goes on with the session's replays as far as its outbox and the budget allow.
    pub(super) fn pump_replays(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let mut waiting = VecDeque::new();
        let mut may_go_on = true;
        while let Some(session) = self.sessions.get_mut(place).filter(|s| s.attached)
            && let Some(mut replay) = session.replays.pop_front()
        {
            if replay.is_waiting(self.kv.last_write()) {
                waiting.push_back(replay);
                continue;
            }
            if replay.catchup.is_none() {
                self.stop_waiting(place, &mut replay);
            }
            let room = self.room_for(place, &replay);
            may_go_on = room > 0;
            let done = may_go_on
                && !self.budget.is_used_up()
                && match replay.catchup {
                    Some(_) => self.catch_up(place, &mut replay, room, &mut may_go_on, effects),
                    None => self.step(now, place, &mut replay, room, &mut may_go_on, effects),
                };
            let (id, snapshot) = (replay.subscription, replay.snapshot);
            let is_due = match done {
                true => replay.stored,
                false => !snapshot && replay.unsaved > UNSAVED_MAX,
            };
            if is_due {
                (replay.unsaved, replay.stored) = (0, true);
            }
            if !done && let Some(session) = self.sessions.get_mut(place) {
                session.replays.push_front(replay);
            }
            if is_due {
                self.save_subscription(place, id, effects);
            }
            if done && snapshot {
                self.end_snapshot(place, id, effects);
            }
            if !done && (!may_go_on || self.budget.is_used_up()) {
                break;
            }
        }
        if let Some(session) = self.sessions.get_mut(place) {
            let unfinished = session.attached && !session.replays.is_empty();
            session.outbox.set_refill(unfinished);
            session.replays.extend(waiting);
            if session.replays.is_empty() {
                // Most sessions replay once: its memory is given back.
                session.replays = VecDeque::new();
            }
            if unfinished && may_go_on {
                // A step that found nothing to send must be gone on with all the same.
                effects.wake.push(session.outbox.clone());
            }
        }
    }

    /// How many values of this replay its session takes now.
    fn room_for(&self, place: usize, replay: &Replay) -> usize {
        self.sessions
            .get(place)
            .map_or(0, |session| match session.style {
                EventStyle::Ordered => session.outbox.room(),
                EventStyle::Lanes => session.outbox.replay_room_at(replay.options.qos),
            })
    }

    /// A step left so much of the budget and shows so many values.
    pub(super) fn spend(&mut self, left: Budget, shown: usize) {
        self.counters.replay_steps += 1;
        self.counters.replay_looks += (self.budget.looks - left.looks) as u64;
        self.counters.replayed += shown as u64;
        self.budget.looks = left.looks;
        self.budget.bytes = left.bytes;
        self.budget.values = self.budget.values.saturating_sub(shown);
    }

    /// One step of a replay; answers whether it is at its end. Clears `may_go_on` when the session
    /// must take something first.
    fn step(
        &mut self,
        now: Now,
        place: usize,
        replay: &mut Replay,
        room: usize,
        may_go_on: &mut bool,
        effects: &mut Effects,
    ) -> bool {
        let mut budget = self.budget;
        budget.values = budget.values.min(room);
        let found = self.next_values(now, place, replay, &mut budget, may_go_on);
        self.spend(budget, found.events.len());
        let exact = replay.pattern.is_exact();
        for event in found.events {
            let delivery = Realm::replayed(&event, replay.subscription, exact, replay.options);
            replay.unsaved += match delivery.qos {
                Qos::AtMostOnce => 1,
                // It is stored now, and so must be what comes after it.
                Qos::AtLeastOnce | Qos::ExactlyOnce => UNSAVED_MAX + 1,
            };
            self.deliver(place, delivery, effects);
        }
        found.done
    }

    /// The next values of a replay; sets its cursor to where it stopped.
    fn next_values(
        &self,
        now: Now,
        place: usize,
        replay: &mut Replay,
        budget: &mut Budget,
        may_go_on: &mut bool,
    ) -> Found {
        let mut events = Vec::new();
        let Some(session) = self.sessions.get(place) else {
            return Found { events, done: true };
        };
        let reserved = &*self.settings.naming.reserved;
        // A value that would fill much of the lane waits until that is empty, so that it cannot be
        // what makes the session too slow.
        let large = self.settings.limits.outbox.ordered.bytes / 4;
        let is_busy = session.style == EventStyle::Ordered && session.outbox.depth().0 > 0;
        let (due, mut looks) = (due_for(now, session, replay), budget.looks);
        let Budget { values, bytes, .. } = budget;
        let mut take = |event: &Arc<Event>| {
            if replay.filter.is_some() {
                *bytes = bytes.saturating_sub(event.payload.len());
            }
            if !due(event) {
                return if *bytes == 0 {
                    Visit::Stop
                } else {
                    Visit::Next
                };
            }
            if event.cost() > large && (is_busy || !events.is_empty()) {
                *may_go_on = false;
                return Visit::StopBefore;
            }
            *bytes = bytes.saturating_sub(event.cost());
            *values -= 1;
            events.push(event.clone());
            if *values == 0 || *bytes == 0 {
                Visit::Stop
            } else {
                Visit::Next
            }
        };
        let mut at = replay.at.clone();
        if let ReplayAt::Status(after) = &at {
            let walked = self.walk_status(&replay.pattern, after.as_ref(), &mut looks, &mut take);
            at = match walked {
                Walked::UpTo(reached) => ReplayAt::Status(reached),
                Walked::ToTheEnd => ReplayAt::Values(None),
            };
        }
        let mut done = false;
        if let ReplayAt::Values(after) = &at {
            let walked = self.kv.walk(
                &replay.pattern,
                reserved,
                after.as_ref(),
                &mut looks,
                &mut |_, entry| take(&entry.event),
            );
            match walked {
                Walked::UpTo(reached) => at = ReplayAt::Values(reached),
                Walked::ToTheEnd => done = true,
            }
        }
        budget.looks = looks;
        replay.at = at;
        Found { events, done }
    }

    fn end_snapshot(&mut self, place: usize, subscription: SubscriptionId, effects: &mut Effects) {
        let told = self
            .sessions
            .get(place)
            .is_some_and(|s| s.features.subscription_revocation);
        if told {
            let reason = ByteString::from_static("snapshot_complete");
            self.push(
                place,
                Delivery::Revoked {
                    subscription,
                    reason,
                },
                effects,
            );
        }
    }

    /// The store did not reach the position in time: no replay, live events go on.
    pub(super) fn replay_timed_out(
        &mut self,
        place: usize,
        id: SubscriptionId,
        effects: &mut Effects,
    ) {
        let waits = |replay: &Replay| replay.subscription == id && replay.wait_for.is_some();
        let timed_out = self
            .sessions
            .get_mut(place)
            .and_then(|session| session.replays.iter_mut().find(|replay| waits(replay)));
        let Some(replay) = timed_out else { return };
        if let Some(catchup) = &mut replay.catchup {
            // What is remembered did not wait.
            catchup.values = false;
            let waited = replay.wait_for.take();
            if let Some((after, _)) = waited {
                self.replay_waits.remove(&(after, place, id));
            }
            return;
        }
        let snapshot = replay.snapshot;
        self.drop_replay(place, id);
        if snapshot {
            self.end_snapshot(place, id, effects);
        }
    }

    /// Goes on with replays that waited for the store to reach a position.
    pub(super) fn wake_replays(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(after, place, _)) = self.replay_waits.first()
            && after <= self.kv.last_write()
        {
            self.replay_waits.pop_first();
            self.pump_replays(now, place, effects);
        }
    }
}

impl Replay {
    /// Whether it waits for something else than room: a read, or values after `last_write`.
    fn is_waiting(&self, last_write: u64) -> bool {
        match (&self.catchup, &self.wait_for) {
            (Some(past), _) => past.load.is_some(),
            (None, wait_for) => wait_for
                .as_ref()
                .is_some_and(|(after, _)| *after > last_write),
        }
    }
}

/// Whether an event was published by this session, or by this client in another session.
pub(super) fn is_by(event: &Event, session: &Session) -> bool {
    event.publisher.as_ref().is_some_and(|publisher| {
        publisher.session == session.id
            || (session.client.is_some() && publisher.client == session.client)
    })
}

/// Which values a replay shows.
fn due_for<'a>(
    now: Now,
    session: &'a Session,
    replay: &Replay,
) -> impl Fn(&Event) -> bool + use<'a> {
    let (until, resumed, options) = (replay.until, replay.resumed, replay.options);
    let filter = replay.filter.clone();
    move |event| {
        // What was written later went out live. Without a connection that does not hold for what is
        // sent at most once; some of it may have gone out before the connection was lost.
        let was_missed = event.publication <= resumed
            && event.qos.min(options.qos) == Qos::AtMostOnce
            && session.client.is_some();
        (event.publication <= until || was_missed)
            && !event.is_expired(now.unix_ms)
            && session
                .identity
                .role
                .permits(Action::Subscribe, &event.topic)
            && is_admitted(session, event)
            && session.features.opens(&event.payload)
            && !(options.no_local && is_by(event, session))
            && filter.as_ref().is_none_or(|filter| filter.accepts(event))
    }
}
