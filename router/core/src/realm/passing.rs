//! Handing an event to one session, while others are being gone through.

use super::{Effects, note};
use crate::metrics::Counters;
use crate::model::{Delivery, EndReason, EventDelivery, Qos};
use crate::outbox::Pushed;
use crate::session::{EventStyle, Session};

/// What of the realm takes part in it, apart from the session.
pub(super) struct Passing<'a> {
    pub counters: &'a mut Counters,
    pub doomed: &'a mut Vec<(usize, EndReason)>,
}

/// Whether the session settles this delivery, so that it is numbered, and stored if the session lasts.
pub(super) fn is_sure(session: &Session, delivery: &EventDelivery) -> bool {
    session.style == EventStyle::Lanes && delivery.qos != Qos::AtMostOnce
}

impl Passing<'_> {
    /// Appends a delivery that is not sure to the lane that the session's style asks for.
    pub fn hand_over(
        self,
        session: &mut Session,
        place: usize,
        delivery: EventDelivery,
        effects: &mut Effects,
    ) {
        self.counters.events_out += 1;
        self.counters.payload_bytes_out += delivery.event.payload.len() as u64;
        let outbox = &session.outbox;
        let pushed = match session.style {
            EventStyle::Ordered => outbox.push(Delivery::Event(delivery)),
            EventStyle::Lanes => outbox.push_best(delivery),
        };
        note(outbox, pushed, effects);
        self.after(session, place, pushed);
    }

    /// Counts what was dropped to make room; a session whose queue is full and that may lose nothing is to end.
    pub fn after(self, session: &mut Session, place: usize, pushed: Pushed) {
        let dropped = u64::from(pushed.dropped);
        self.counters.dropped_best += dropped;
        session.dropped += dropped;
        if pushed.overflow && !self.doomed.iter().any(|(known, _)| *known == place) {
            self.doomed.push((place, EndReason::TooSlow));
        }
    }
}
