//! Publishing and fan-out: who receives an event.

use super::passing::{Passing, is_sure};
use super::remember::Trace;
use super::route::Route;
use super::{Effects, NOT_SEALED, Realm, Undo};
use crate::auth::Action;
use crate::broker::Pace;
use crate::model::{
    Admission, Answer, Audience, Delivery, ErrorKind, Event, EventDelivery, Handover, Made, Now,
    Payload, PublicationId, Publish, PublishOptions, Publisher, Refusal, RequestId, Slot,
    SubscriptionId, Topic,
};
use crate::records;
use crate::session::{EventStyle, Session};
use smallvec::SmallVec;
use std::sync::Arc;

/// What counts for all receivers of an event.
#[derive(Clone, Copy, Debug)]
struct Fan {
    /// The session that published it, if it gets no copy.
    exclude_me: Option<usize>,
    /// More than one subscription matches.
    several: bool,
    /// It is remembered.
    is_kept: bool,
}

/// On whose behalf something is published.
#[derive(Clone, Debug)]
pub(super) struct Author {
    /// The session's place, while it lives.
    pub place: Option<usize>,
    /// What receivers may learn; `None` for the realm itself.
    pub publisher: Option<Arc<Publisher>>,
    /// The session itself gets no copy.
    pub exclude_me: bool,
}

impl Author {
    pub(super) const REALM: Author = Author {
        place: None,
        publisher: None,
        exclude_me: true,
    };

    /// Whether the session at `place` is the publisher, or the same client in another session.
    pub(super) fn is(&self, session: &Session, place: usize) -> bool {
        let client = self.publisher.as_ref().and_then(|p| p.client.as_ref());
        self.place == Some(place) || (client.is_some() && client == session.client.as_ref())
    }
}

impl Realm {
    pub(super) fn publish(
        &mut self,
        now: Now,
        place: usize,
        publish: Box<Publish>,
        effects: &mut Effects,
    ) {
        if self.is_own_request(place, publish.request, effects) {
            return;
        }
        self.counters.publishes += 1;
        self.counters.payload_bytes_in += publish.payload.len() as u64;
        if self.is_repetition(place, publish.receipt, publish.request, effects) {
            return;
        }
        let known = self.take_route(place, &publish.topic);
        let allowed = match known {
            Some(_) => self.may_publish_so(place, &publish),
            None => self.may_publish(place, &publish),
        };
        if let Err((kind, message)) = allowed {
            self.refuse_publish(place, publish.request, kind, message, effects);
            return;
        }
        if publish.retain {
            self.write(now, place, publish, effects);
            return;
        }
        if let Some((kind, message)) = self.turned_away(place, &publish, effects) {
            self.refuse_publish(place, publish.request, kind, message, effects);
            return;
        }
        let before = effects.batch.len();
        self.remember_receipt(place, &publish, effects);
        let author = self.author(place, &publish);
        let (request, receipt) = (publish.request, publish.receipt);
        let trace = Trace {
            asked: is_traced(publish.options.as_deref()),
            stands: self.is_never_refused(place, &publish),
        };
        let event = self.event_of(now, *publish, &author);
        let route = known.unwrap_or_else(|| Box::new(self.find_route(&event.topic)));
        let matched = self.announce_to(&route, &event, &author, trace, effects);
        self.keep_route(place, route);
        let commit = self.commit_of_message(event.qos, self.commit_since(before, effects));
        let answer = (event.publication, matched);
        self.answer_published(place, request, answer, commit, Undo::Sent(receipt), effects);
    }

    /// Whether nobody is told if the store fails, or the sender is to send the same again, which is only answered then.
    fn is_never_refused(&self, place: usize, publish: &Publish) -> bool {
        let is_durable = || self.sessions.get(place).is_some_and(Session::is_durable);
        publish.request.is_none() || (publish.receipt.is_some() && is_durable())
    }

    /// The last commit that anything was written with.
    pub(super) fn latest_commit(&self, effects: &Effects) -> u64 {
        self.commit
            .saturating_sub(u64::from(effects.batch.is_empty()))
    }

    /// Until its release, a repeated exactly-once id is answered
    /// again and has no further effect.
    pub(super) fn is_repetition(
        &mut self,
        place: usize,
        receipt: Option<Slot>,
        request: Option<RequestId>,
        effects: &mut Effects,
    ) -> bool {
        let Some(receipt) = receipt else {
            return false;
        };
        let known = self
            .sessions
            .get(place)
            .is_some_and(|session| session.receipts.contains(&receipt));
        if known && let Some(request) = request {
            let publication = self.ids.last();
            let answer = Answer::Published {
                publication,
                matched: true,
            };
            // The first publish may not be durable yet; neither may this answer be early.
            let commit = match (self.settings.durable, self.store_down) {
                (false, _) => 0,
                (true, false) => self.latest_commit(effects),
                (true, true) => NOT_SEALED,
            };
            let answer = Delivery::Done { request, answer };
            self.push_or_undo(place, answer, commit, Undo::Sent(Some(receipt)), effects);
        }
        known
    }

    pub(super) fn may_publish(
        &self,
        place: usize,
        publish: &Publish,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        self.may_publish_to(session, &publish.topic)?;
        self.may_publish_so(place, publish)
    }

    /// Whether the session may publish to `topic` at all.
    fn may_publish_to(
        &self,
        session: &Session,
        topic: &Topic,
    ) -> Result<(), (ErrorKind, &'static str)> {
        if self.is_reserved(topic) {
            return Err((
                ErrorKind::NotAuthorized,
                "this first level belongs to the router",
            ));
        }
        if !session.identity.role.permits(Action::Publish, topic) {
            return Err((
                ErrorKind::NotAuthorized,
                "the role may not publish to this topic",
            ));
        }
        Ok(())
    }

    /// Whether it may do so in this way.
    fn may_publish_so(
        &self,
        place: usize,
        publish: &Publish,
    ) -> Result<(), (ErrorKind, &'static str)> {
        let Some(session) = self.sessions.get(place) else {
            return Err((ErrorKind::Internal, "the session is gone"));
        };
        let asks = publish.options.as_ref().is_some_and(|o| o.disclose_me);
        if session.identity.role.disclosure.decide(asks).is_none() {
            return Err((
                ErrorKind::DisclosureNotAllowed,
                "sessions of this role may not be disclosed",
            ));
        }
        self.may_remember(place, publish.receipt)?;
        let conditional = publish
            .options
            .as_ref()
            .is_some_and(|o| o.when.is_some() || o.watch || o.will.is_some());
        if conditional && !publish.retain {
            return Err((
                ErrorKind::InvalidArgument,
                "when, watch and will need retain",
            ));
        }
        Ok(())
    }

    /// Topics only the router itself writes.
    pub(super) fn is_reserved(&self, topic: &Topic) -> bool {
        let first = topic.first_level();
        first == &*self.settings.naming.reserved || first == "$SYS" || self.tells_of_locks(topic)
    }

    pub(super) fn refuse_publish(
        &mut self,
        place: usize,
        request: Option<RequestId>,
        kind: ErrorKind,
        message: &'static str,
        effects: &mut Effects,
    ) {
        self.refuse_publish_after(place, request, (kind, message), 0, effects);
    }

    /// ... once the commit is durable that the reason depends on.
    pub(super) fn refuse_publish_after(
        &mut self,
        place: usize,
        request: Option<RequestId>,
        (kind, message): (ErrorKind, &'static str),
        commit: u64,
        effects: &mut Effects,
    ) {
        match kind {
            ErrorKind::NotAuthorized | ErrorKind::DisclosureNotAllowed => {
                self.counters.publish_refused += 1;
            }
            ErrorKind::InvalidArgument => self.counters.publish_invalid += 1,
            ErrorKind::StorageUnavailable => self.counters.storage_refused += 1,
            _ => {}
        }
        let Some(request) = request else {
            return;
        };
        if self.refuse_own_write(place, request, (kind, message), commit, effects) {
            return;
        }
        // Publishers know it as a quota like any other.
        let kind = match kind {
            ErrorKind::QueueFull => ErrorKind::QuotaExceeded,
            other => other,
        };
        self.counters.quota_refused += u64::from(kind == ErrorKind::QuotaExceeded);
        let refusal = Refusal::new(kind, message);
        let delivery = Delivery::Refused { request, refusal };
        self.push_after(place, delivery, commit, effects);
    }

    pub(super) fn remember_receipt(
        &mut self,
        place: usize,
        publish: &Publish,
        effects: &mut Effects,
    ) -> Undo {
        self.remember_id(place, publish.receipt, effects)
    }

    /// The session will know the exactly-once id again.
    pub(super) fn remember_id(
        &mut self,
        place: usize,
        receipt: Option<Slot>,
        effects: &mut Effects,
    ) -> Undo {
        let (Some(receipt), Some(session)) = (receipt, self.sessions.get_mut(place)) else {
            return Undo::Nothing;
        };
        session.receipts.insert(receipt);
        if self.settings.durable
            && session.is_durable()
            && let Some(client) = &session.client
        {
            let number = u64::from(receipt.get());
            let key = records::client_key(&self.settings.name, client, number);
            effects.batch.put(records::RECEIPTS, key, Vec::new());
        }
        Undo::Receipt(receipt)
    }

    pub(super) fn author(&self, place: usize, publish: &Publish) -> Author {
        let asks = publish
            .options
            .as_ref()
            .is_some_and(|options| options.disclose_me);
        let publisher = self.sessions.get(place).map(|session| {
            let disclosure = session.identity.role.disclosure;
            session.publisher(disclosure.decide(asks).unwrap_or(false))
        });
        Author {
            place: Some(place),
            publisher,
            exclude_me: publish.exclude_me,
        }
    }

    pub(super) fn event_of(&mut self, now: Now, publish: Publish, author: &Author) -> Arc<Event> {
        let publication = self.ids.next(now.unix_ms);
        Arc::new(Event {
            publication,
            topic: publish.topic,
            payload: publish.payload,
            publisher: author.publisher.clone(),
            qos: publish.qos,
            retain: publish.retain,
            clears: false,
            token: None,
            expires_at_ms: publish.expiry.map(|after| now.unix_ms_after(after)),
            attributes: publish.attributes,
            admission: publish.options.as_deref().and_then(Admission::of),
            made: Made::default(),
        })
    }

    pub(super) fn answer_published(
        &mut self,
        place: usize,
        request: Option<RequestId>,
        (publication, matched): (PublicationId, bool),
        commit: u64,
        undo: Undo,
        effects: &mut Effects,
    ) {
        if let Some(request) = request
            && !self.answer_own_write(place, request, publication, commit, undo, effects)
        {
            let answer = Answer::Published {
                publication,
                matched,
            };
            self.push_or_undo(
                place,
                Delivery::Done { request, answer },
                commit,
                undo,
                effects,
            );
        }
    }

    /// Publishes on the realm's own behalf, if anybody listens.
    pub(super) fn announce_own(
        &mut self,
        now: Now,
        topic: &Topic,
        payload: impl FnOnce() -> Payload,
        effects: &mut Effects,
    ) {
        if self.subscriptions.has_listener(topic) {
            let publish = Publish::new(topic.clone(), payload());
            let event = self.event_of(now, publish, &Author::REALM);
            self.announce(&event, &Author::REALM, Trace::OWN, effects);
        }
    }

    /// Records the event where asked and hands it to everybody who listens. Answers whether
    /// anybody does.
    pub(super) fn announce(
        &mut self,
        event: &Arc<Event>,
        author: &Author,
        trace: Trace,
        effects: &mut Effects,
    ) -> bool {
        let route = self.find_route(&event.topic);
        self.announce_to(&route, event, author, trace, effects)
    }

    /// The same where the way is known.
    fn announce_to(
        &mut self,
        route: &Route,
        event: &Arc<Event>,
        author: &Author,
        trace: Trace,
        effects: &mut Effects,
    ) -> bool {
        self.counters.events_in += 1;
        let asked = trace.asked || route.is_remembered;
        let is_kept = self.history.wants(event, asked)
            && self.remember(event, trace, author.exclude_me, effects);
        let found = &route.found;
        let fan = Fan {
            exclude_me: author.place.filter(|_| author.exclude_me),
            several: found.len() > 1,
            is_kept,
        };
        let mut matched = false;
        for &slot in found {
            matched |= self.fan_out(slot, event, author, fan, effects);
        }
        let mut merged = std::mem::take(&mut self.merged);
        for (place, delivery) in merged.drain(..) {
            // The same event may be announced once more, when it is restored.
            if let Some(session) = self.sessions.get_mut(place) {
                session.merge = (PublicationId(0), 0);
            }
            self.deliver(place, delivery, effects);
        }
        self.merged = merged;
        self.note_change(event, effects);
        matched
    }

    /// Delivers to the members of one matching subscription, or to one of them if it is shared.
    fn fan_out(
        &mut self,
        slot: u32,
        event: &Arc<Event>,
        author: &Author,
        fan: Fan,
        effects: &mut Effects,
    ) -> bool {
        let Some(subscription) = self.subscriptions.at(slot) else {
            return false;
        };
        if subscription
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.accepts(event))
        {
            return false;
        }
        if subscription.rota.is_some() {
            return self.share_out(slot, event, author, effects);
        }
        let (id, exact) = (subscription.id, subscription.key.pattern.is_exact());
        // Whom the realm has more to do for than to hand it over.
        let mut others: SmallVec<[(usize, Pace, EventDelivery); 1]> = SmallVec::new();
        let (mut matched, mut refused, mut sealed) = (false, 0, 0);
        for member in &subscription.members {
            let Some(session) = self.sessions.get_mut(member.session) else {
                continue;
            };
            if fan.exclude_me == Some(member.session)
                || (member.options.no_local && author.is(session, member.session))
                || !is_admitted(session, event)
            {
                continue;
            }
            let role = &session.identity.role;
            if !role.permits(Action::Subscribe, &event.topic) {
                refused += 1;
                continue;
            }
            if !session.features.opens(&event.payload) {
                sealed += 1;
                continue;
            }
            matched = true;
            if fan.is_kept && member.pace == Pace::Behind {
                continue; // It is shown later.
            }
            let delivery = EventDelivery {
                event: event.clone(),
                subscription: id,
                exact,
                qos: event.qos.min(member.options.qos),
                replayed: false,
                retain: event.retain && member.options.retain_as_published,
                identifiers: member.options.identifier.into_iter().collect(),
                slot: None,
                repeated: false,
                lost: 0,
                gap: member.pace == Pace::Gap,
                handover: Handover::Nobody,
            };
            let may_merge = fan.several && session.style == EventStyle::Lanes;
            if member.pace == Pace::Live && !may_merge && !is_sure(session, &delivery) {
                let passing = Passing {
                    counters: &mut self.counters,
                    doomed: &mut self.doomed,
                };
                passing.hand_over(session, member.session, delivery, effects);
            } else {
                others.push((member.session, member.pace, delivery));
            }
        }
        self.counters.delivery_refused += refused;
        self.counters.delivery_sealed += sealed;
        for (place, pace, delivery) in others {
            match pace {
                Pace::Live => {}
                Pace::Gap => self.set_pace(place, id, Pace::Live),
                Pace::Behind => {
                    self.hold_back(place, delivery, effects);
                    continue;
                }
            }
            if fan.several && self.joins_copy(place, &delivery, event.publication) {
                continue;
            }
            self.deliver(place, delivery, effects);
        }
        matched
    }

    /// For sessions that want one copy: gathers all matches of this event in it, at the highest
    /// assurance, with the numbers of all subscriptions.
    fn joins_copy(
        &mut self,
        place: usize,
        delivery: &EventDelivery,
        publication: PublicationId,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(place) else {
            return false;
        };
        if session.style != EventStyle::Lanes {
            return false;
        }
        if session.merge.0 == publication
            && let Some((_, copy)) = self.merged.get_mut(session.merge.1)
        {
            copy.qos = copy.qos.max(delivery.qos);
            copy.retain |= delivery.retain;
            copy.identifiers.extend_from_slice(&delivery.identifiers);
        } else {
            session.merge = (publication, self.merged.len());
            self.merged.push((place, delivery.clone()));
        }
        true
    }

    /// A delivery of a kept value to one subscriber.
    pub(super) fn replayed(
        event: &Arc<Event>,
        subscription: SubscriptionId,
        exact: bool,
        options: crate::broker::MemberOptions,
    ) -> EventDelivery {
        EventDelivery {
            event: event.clone(),
            subscription,
            exact,
            qos: event.qos.min(options.qos),
            replayed: true,
            retain: true,
            identifiers: options.identifier.into_iter().collect(),
            slot: None,
            repeated: false,
            lost: 0,
            gap: false,
            handover: Handover::Nobody,
        }
    }
}

/// Whether the history is asked to keep what is published with these options.
pub(super) fn is_traced(options: Option<&PublishOptions>) -> bool {
    options.is_some_and(|options| options.trace)
}

/// Subscriber black- and whitelisting of an event, live or replayed.
pub(super) fn is_admitted(session: &Session, event: &Event) -> bool {
    event.admission.as_ref().is_none_or(|admission| {
        let role = &session.identity.role;
        let about = admission.about.as_ref();
        about.is_none_or(|topic| role.permits(Action::Subscribe, topic))
            && is_listed(
                session,
                admission.exclude.as_ref(),
                admission.eligible.as_ref(),
            )
    })
}

/// The same of what is not published yet.
pub(super) fn is_wanted(session: &Session, options: &PublishOptions) -> bool {
    is_listed(session, options.exclude.as_ref(), options.eligible.as_ref())
}

/// Every present eligible part must contain the session, no present exclude part may.
fn is_listed(session: &Session, exclude: Option<&Audience>, eligible: Option<&Audience>) -> bool {
    let eligible = eligible.is_none_or(|audience| {
        hits(audience, session)
            .into_iter()
            .all(|part| part != Some(false))
    });
    let excluded = exclude.is_some_and(|audience| {
        hits(audience, session)
            .into_iter()
            .any(|part| part == Some(true))
    });
    eligible && !excluded
}

/// Whether each present part of the audience contains the session.
fn hits(audience: &Audience, session: &Session) -> [Option<bool>; 3] {
    [
        audience
            .sessions
            .as_ref()
            .map(|list| list.contains(&session.id)),
        audience
            .authids
            .as_ref()
            .map(|list| list.contains(&session.identity.authid)),
        audience
            .roles
            .as_ref()
            .map(|list| list.contains(&session.identity.role.name)),
    ]
}
