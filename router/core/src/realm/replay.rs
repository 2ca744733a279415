//! Replays: what a new subscription is shown of the history and of the retained values.
//!
//! A replay that does not fit goes on from where it stopped once there is room; keys written since
//! the subscription are skipped then, because their new value went out live.

use super::{Effects, Realm};
use crate::auth::Action;
use crate::broker::{Filter, MemberOptions};
use crate::model::{Delivery, EventDelivery, Now, PublicationId, Subscribe, SubscriptionId};
use crate::session::Replay;
use crate::timers::Timer;
use std::sync::Arc;

/// Keys one replay step may visit while it holds the realm.
const VISITS_PER_STEP: usize = 2_000;

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
        let left = session
            .replays
            .iter()
            .any(|replay| replay.wait_for.is_none());
        session.outbox.set_refill(left);
        if let Some(mut gone) = gone {
            self.stop_waiting(place, &mut gone);
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

    /// The replay does not wait for the store any more.
    fn stop_waiting(&mut self, place: usize, replay: &mut Replay) {
        if let Some((after, timer)) = replay.wait_for.take() {
            self.timers.cancel(Some(timer));
            self.replay_waits
                .remove(&(after, place, replay.subscription));
        }
    }

    /// The history is bounded, so its replay is done at once: nothing live can come between.
    #[expect(clippy::too_many_arguments, reason = "one call site")]
    pub(super) fn replay_history(
        &mut self,
        place: usize,
        id: SubscriptionId,
        subscribe: &Subscribe,
        filter: Option<&Filter>,
        options: MemberOptions,
        after: u64,
        effects: &mut Effects,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let role = session.identity.role.clone();
        let reserved = self.settings.naming.reserved.clone();
        let events: Vec<_> = self
            .history
            .after(after)
            .filter(|event| subscribe.pattern.matches(&event.topic, &reserved))
            .filter(|event| filter.is_none_or(|filter| filter.accepts(event)))
            .filter(|event| role.permits(Action::Subscribe, &event.topic))
            .cloned()
            .collect();
        let exact = subscribe.pattern.is_exact();
        for event in events {
            let delivery = EventDelivery {
                replayed: false,
                retain: false,
                ..Realm::replayed(&event, id, exact, options)
            };
            self.deliver(place, delivery, effects);
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
        // Asked again, it begins anew.
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
        let until = self.ids.last();
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.replays.push_back(Replay {
            subscription: id,
            // A snapshot of history alone has nothing more to visit, but its end must still be told.
            pattern: subscribe.pattern.detached(),
            filter,
            options,
            cursor: None,
            until: match (retained, subscribe.snapshot) {
                (false, _) => PublicationId(0),
                // Nothing comes live, so whatever is there when its turn comes is due.
                (true, true) => PublicationId(u64::MAX),
                (true, false) => until,
            },
            snapshot: subscribe.snapshot,
            wait_for,
        });
        self.pump_replays(now, place, effects);
    }

    /// Goes on with the session's replays as far as its outbox and this step allow.
    pub(super) fn pump_replays(&mut self, now: Now, place: usize, effects: &mut Effects) {
        let mut visits = VISITS_PER_STEP;
        let mut waiting = std::collections::VecDeque::new();
        while let Some(session) = self.sessions.get_mut(place) {
            let room = session.outbox.room();
            let Some(mut replay) = session.replays.pop_front() else {
                break;
            };
            if replay
                .wait_for
                .is_some_and(|(after, _)| after > self.kv.last_write())
            {
                waiting.push_back(replay);
                continue;
            }
            self.stop_waiting(place, &mut replay);
            if room == 0 || visits == 0 {
                if let Some(session) = self.sessions.get_mut(place) {
                    session.replays.push_front(replay);
                }
                break;
            }
            let found = self.next_values(now, place, &mut replay, room, &mut visits);
            let done = replay.cursor.is_none();
            let exact = replay.pattern.is_exact();
            for event in found {
                let delivery = Realm::replayed(&event, replay.subscription, exact, replay.options);
                self.deliver(place, delivery, effects);
            }
            if !done {
                if let Some(session) = self.sessions.get_mut(place) {
                    session.replays.push_front(replay);
                }
            } else if replay.snapshot {
                self.end_snapshot(place, replay.subscription, effects);
            }
        }
        if let Some(session) = self.sessions.get_mut(place) {
            let unfinished = !session.replays.is_empty();
            session.outbox.set_refill(unfinished);
            session.replays.extend(waiting);
            if unfinished {
                // A step that found nothing to send must be gone on with all the same.
                effects.wake.push(session.outbox.clone());
            }
        }
    }

    /// The next values of a replay; sets its cursor to where it stopped, or to none at the end.
    fn next_values(
        &self,
        now: Now,
        place: usize,
        replay: &mut Replay,
        room: usize,
        visits: &mut usize,
    ) -> Vec<Arc<crate::model::Event>> {
        let mut found = Vec::new();
        let Some(session) = self.sessions.get(place) else {
            return found;
        };
        let role = &session.identity.role;
        let reserved = &self.settings.naming.reserved;
        let from = replay.pattern.literal_prefix();
        let cursor = replay.cursor.take();
        replay.cursor = self
            .kv
            .visit_from(&from, cursor.as_ref(), &mut |topic, entry| {
                let event = &entry.event;
                let is_due = event.publication <= replay.until
                    && replay.pattern.matches(topic, reserved)
                    && !event.is_expired(now.unix_ms)
                    && role.permits(Action::Subscribe, topic)
                    && !(replay.options.no_local
                        && event
                            .publisher
                            .as_ref()
                            .is_some_and(|p| p.session == session.id))
                    && replay
                        .filter
                        .as_ref()
                        .is_none_or(|filter| filter.accepts(event));
                if is_due {
                    found.push(event.clone());
                }
                *visits -= 1;
                found.len() < room && *visits > 0
            });
        found
    }

    fn end_snapshot(&mut self, place: usize, subscription: SubscriptionId, effects: &mut Effects) {
        let told = self
            .sessions
            .get(place)
            .is_some_and(|s| s.features.subscription_revocation);
        if told {
            let reason = "snapshot_complete";
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
            .get(place)
            .and_then(|session| session.replays.iter().find(|replay| waits(replay)))
            .map(|replay| replay.snapshot);
        let Some(snapshot) = timed_out else { return };
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
