//! A participant in a realm: identity, features, and what it holds.

mod seldom;

use crate::auth::Role;
use crate::broker::{Filter, MemberOptions};
use crate::model::{
    EndReason, Event, EventDelivery, LastWill, Pattern, Payload, PublicationId, Publisher,
    SessionId, Slot, SubscriptionId, Topic,
};
use crate::outbox::Outbox;
use crate::realm::Route;
use crate::timers::TimerKey;
use bytestring::ByteString;
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use seldom::Seldom;

/// Who a session is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its authenticated name; random for anonymous sessions.
    pub authid: ByteString,
    /// What it may do.
    pub role: Arc<Role>,
    /// How it proved its name.
    pub method: ByteString,
    /// Who vouched for it.
    pub provider: ByteString,
    /// Facts about the connection for the session list.
    pub transport: Facts,
}

/// Names and values that are shown and not interpreted.
pub type Facts = Arc<[(&'static str, ByteString)]>;

/// The method of sessions that proved nothing.
pub const ANONYMOUS: &str = "anonymous";

impl Identity {
    /// Facts about the connection, as shown.
    #[must_use]
    pub fn shown_transport(&self) -> Value {
        let facts = self.transport.iter();
        Value::Object(
            facts
                .map(|(name, value)| ((*name).to_owned(), Value::from(&**value)))
                .collect(),
        )
    }

    /// Whether the name was proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.method != ANONYMOUS
    }

    /// Whether the other is proven to be the same.
    #[must_use]
    pub fn is_same(&self, other: &Identity) -> bool {
        other.is_proven() && self.authid == other.authid
    }
}

/// What the peer can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// As a callee it can send progressive results.
    pub progressive_results: bool,
    /// As a callee it understands an interrupt.
    pub call_canceling: bool,
    /// As a callee it takes calls whose arguments come in parts.
    pub progressive_invocations: bool,
    /// As a caller it may send the arguments of a call in parts.
    pub progressive_calls: bool,
    /// As a callee it can watch over the time of its calls.
    pub call_timeout: bool,
    /// As a callee it understands that the router ends a registration.
    pub registration_revocation: bool,
    /// It understands that the router ends a subscription.
    pub subscription_revocation: bool,
    /// As a callee it can open sealed arguments.
    pub callee_opens_sealed: bool,
    /// As a callee it can open a bare binary in their place.
    pub callee_opens_bare: bool,
    /// As a subscriber it can open sealed arguments.
    pub opens_sealed: bool,
    /// As a subscriber it can open a bare binary in their place.
    pub opens_bare: bool,
}

impl Features {
    /// Whether it can have this as a subscriber.
    #[must_use]
    pub fn opens(&self, payload: &Payload) -> bool {
        payload.is_opened_by(self.opens_sealed, self.opens_bare)
    }
}

/// How a session wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStyle {
    /// All in the realm's order with the answers, one for each matching subscription; nothing may
    /// be lost while the session lives.
    Ordered,
    /// One copy however many subscriptions match, in lanes by assurance.
    Lanes,
}

/// What a client that can outlive its connection brings.
#[derive(Debug)]
pub struct ClientJoin {
    /// Its name, which stands for one session in the realm.
    pub id: ByteString,
    /// Forget what was.
    pub clean_start: bool,
    /// How long the session lives without connection.
    pub expiry: Duration,
    /// Unsettled deliveries it takes at a time.
    pub window: u16,
    /// Its last will.
    pub last_will: Option<LastWill>,
}

/// A request to take part.
#[derive(Debug)]
pub struct Join {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// What it can do.
    pub features: Features,
    /// How it wants events.
    pub style: EventStyle,
    /// Present for clients that can outlive their connection.
    pub client: Option<ClientJoin>,
}

/// A connection's place in a realm; commands of a connection that was replaced are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub(crate) place: usize,
    /// The session.
    pub session: SessionId,
    /// Which connection of the session.
    pub generation: u64,
}

/// The answer to a [`Join`].
#[derive(Debug)]
pub struct Joined {
    /// To be shown with every command.
    pub connection: Connection,
    /// What the realm will say. Its first delivery is
    /// [`Delivery::Joined`](crate::model::Delivery::Joined).
    pub outbox: Arc<Outbox>,
}

/// Why a connection leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// As intended: last wills are forgotten.
    Clean,
    /// The connection was lost, or broke the rules.
    Lost,
}

/// A replay in progress.
#[derive(Debug)]
pub(crate) struct Replay {
    pub subscription: SubscriptionId,
    pub pattern: Pattern,
    pub filter: Option<Filter>,
    pub options: MemberOptions,
    /// Where it goes on.
    pub at: ReplayAt,
    /// Later writes reached the subscriber live.
    pub until: PublicationId,
    /// ... except at-most-once ones up to here, while the session had no connection.
    pub resumed: PublicationId,
    /// Values shown since the cursor was stored.
    pub unsaved: usize,
    /// A cursor is stored.
    pub stored: bool,
    /// End the subscription after it.
    pub snapshot: bool,
    /// Wait until the store has reached this position, at most until the timer fires.
    pub wait_for: Option<(u64, TimerKey)>,
    /// What the realm remembers comes first.
    pub catchup: Option<Box<Catchup>>,
}

/// The part of a replay that shows what the realm remembers.
#[derive(Debug)]
pub(crate) struct Catchup {
    /// Visited up to this publication.
    pub after: u64,
    /// Where it ends.
    pub until: u64,
    /// The last publication before it was asked for.
    pub asked: PublicationId,
    /// Kept values follow.
    pub values: bool,
    /// Something is missing, and the next event is to say so.
    pub gap: bool,
    /// What is forgotten up to here was told.
    pub told: u64,
    /// The read it waits for.
    pub load: Option<u64>,
    /// What was read, in order; nothing in the place of what could not be.
    pub fetched: VecDeque<(u64, Option<Arc<Event>>)>,
    /// Live events that are not remembered, in order.
    pub held: VecDeque<EventDelivery>,
    /// Their bytes.
    pub held_bytes: usize,
}

/// The place of a replay: status values come first, then kept values, each in the order of their
/// keys, after the last one visited.
#[derive(Clone, Debug)]
pub(crate) enum ReplayAt {
    Status(Option<Topic>),
    Values(Option<Topic>),
}

/// What runs while a session has no connection.
#[derive(Debug, Default)]
pub(crate) struct Away {
    pub expiry_timer: Option<TimerKey>,
    pub last_will_timer: Option<TimerKey>,
    pub since_ms: Option<u64>,
}

/// A session's state in the realm.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub generation: u64,
    pub attached: bool,
    pub outbox: Arc<Outbox>,
    pub identity: Arc<Identity>,
    /// What its events say about it: undisclosed, disclosed.
    pub published_as: [OnceCell<Arc<Publisher>>; 2],
    /// Where its last publish went.
    pub route: Option<Box<Route>>,
    pub features: Features,
    pub style: EventStyle,
    pub client: Option<ByteString>,
    /// Life after the connection; zero: none.
    pub expiry: Duration,
    pub last_will: Option<Box<LastWill>>,
    /// Nothing while it has a connection.
    pub away: Option<Box<Away>>,
    /// subscription -> place among its members
    pub subscriptions: HashMap<SubscriptionId, usize, foldhash::fast::RandomState>,
    pub seldom: Seldom,
    pub receipts: HashSet<Slot, foldhash::fast::RandomState>,
    /// It has no stored copies any more, but part of its queue is on disk alone.
    pub leftover: bool,
    pub replays: VecDeque<Replay>,
    /// Deliveries dropped because its queue was full.
    pub dropped: u64,
    /// Where the copy of the event being fanned out is, so that further matches join it.
    pub merge: (PublicationId, usize),
    /// What others added to what is shown of it.
    pub details: Option<Box<serde_json::Map<String, Value>>>,
    /// Why the router ended it.
    pub ended_for: Option<Box<EndReason>>,
}

impl Session {
    /// Since when it has no connection, in milliseconds since the epoch.
    pub(crate) fn away_since_ms(&self) -> Option<u64> {
        self.away.as_ref().and_then(|away| away.since_ms)
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.client.is_some() && !self.expiry.is_zero()
    }

    /// What its events say about it, made once for all of them.
    pub(crate) fn publisher(&self, disclosed: bool) -> Arc<Publisher> {
        let [undisclosed, open] = &self.published_as;
        let known = if disclosed { open } else { undisclosed };
        let publisher = known.get_or_init(|| {
            Arc::new(Publisher {
                client: self.client.clone(),
                session: self.id,
                authid: self.identity.authid.clone(),
                role: self.identity.role.name.clone(),
                disclosed,
            })
        });
        publisher.clone()
    }

    /// The session goes on as somebody else's, or with other rights.
    pub(crate) fn identify(&mut self, identity: Arc<Identity>) {
        self.identity = identity;
        self.published_as = Default::default();
        self.route = None;
    }
}
