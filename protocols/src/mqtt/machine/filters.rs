//! SUBSCRIBE and UNSUBSCRIBE (5.0 sections 3.8 to 3.11): one command per Topic Filter, one answer
//! per packet with a code for each filter in order `[MQTT-3.8.4-5]` `[MQTT-3.11.3-2]`.

use super::{Asked, MAX_OPEN_FILTERS, MqttMachine};
use crate::mqtt::codec::validate_filter;
use crate::mqtt::map;
use crate::mqtt::packet::{
    Packet, PacketId, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe,
};
use crate::mqtt::reason::ReasonCode;
use router_core::model::{
    self, Command, ErrorKind, MatchKind, Pattern, RequestId, UnsubscribeTarget,
};

/// A SUBSCRIBE or UNSUBSCRIBE that is not answered yet.
#[derive(Debug)]
pub(super) struct OpenFilters {
    id: PacketId,
    is_subscribe: bool,
    codes: Vec<Option<ReasonCode>>,
    missing: usize,
}

impl MqttMachine {
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe) {
        let set = subscribe.properties.as_deref();
        let identifier = set.and_then(|set| set.subscription_identifiers.first().copied());
        let ask = |filter: &SubscribeFilter, pattern, request| {
            subscribe_command(filter, pattern, identifier, request)
        };
        let shared = ReasonCode::SharedSubscriptionsNotSupported;
        self.ask(
            subscribe.packet_id,
            true,
            &subscribe.filters,
            |filter| &filter.filter,
            shared,
            ask,
        );
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let ask = |_: &_, pattern, request| {
            let target = UnsubscribeTarget::Pattern {
                pattern,
                share: None,
            };
            Command::Unsubscribe { request, target }
        };
        let filters = &unsubscribe.filters;
        let shared = ReasonCode::NoSubscriptionExisted;
        self.ask(
            unsubscribe.packet_id,
            false,
            filters,
            |filter| filter,
            shared,
            ask,
        );
    }

    /// Asks the realm for each filter that is acceptable; `shared` is the answer to a Shared
    /// Subscription.
    fn ask<F>(
        &mut self,
        id: PacketId,
        is_subscribe: bool,
        filters: &[F],
        text: impl Fn(&F) -> &str,
        shared: ReasonCode,
        command: impl Fn(&F, Pattern, RequestId) -> Command,
    ) {
        if self.open_filters + filters.len() > MAX_OPEN_FILTERS {
            let message = "too many Topic Filters wait for their answer";
            self.broken(ReasonCode::QuotaExceeded, message);
            return;
        }
        let serial = self.filters.next();
        let mut codes = Vec::with_capacity(filters.len());
        for (index, filter) in (0..=u16::MAX).zip(filters) {
            let pattern = pattern(text(filter), self.options.max_topic_levels, shared);
            codes.push(pattern.as_ref().err().copied());
            if let Ok(pattern) = pattern {
                let request = Asked::Filter(serial, index).request();
                self.command(command(filter, pattern, request));
            }
        }
        let missing = codes.iter().filter(|code| code.is_none()).count();
        self.open_filters += codes.len();
        self.filters.push(OpenFilters {
            id,
            is_subscribe,
            codes,
            missing,
        });
        self.answer_filters();
    }

    pub(super) fn filter_answered(&mut self, serial: u64, index: u16, code: ReasonCode) {
        let open = self.filters.get_mut(serial);
        let Some(open) = open else {
            return self.unexpected_answer();
        };
        let Some(slot @ None) = open.codes.get_mut(usize::from(index)) else {
            return self.unexpected_answer();
        };
        *slot = Some(code);
        open.missing -= 1;
        self.answer_filters();
    }

    pub(super) fn filter_refused(&mut self, serial: u64, index: u16, kind: ErrorKind) {
        let code = match self.filters.get_mut(serial) {
            Some(open) if open.is_subscribe => map::subscribe_reason(kind),
            _ => map::unsubscribe_reason(kind),
        };
        self.filter_answered(serial, index, code);
    }

    /// Sends every answer that is complete and next in order.
    fn answer_filters(&mut self) {
        while let Some(done) = self.filters.pop_if(|open| open.missing == 0) {
            self.open_filters -= done.codes.len();
            let (packet_id, properties) = (done.id, None);
            let reasons = done.codes.into_iter().flatten().collect();
            self.send(&if done.is_subscribe {
                Packet::SubAck(SubAck {
                    packet_id,
                    properties,
                    reasons,
                })
            } else {
                Packet::UnsubAck(UnsubAck {
                    packet_id,
                    properties,
                    reasons,
                })
            });
        }
    }
}

/// The filter as the realm's pattern, or the code that answers it.
fn pattern(filter: &str, max_levels: usize, shared: ReasonCode) -> Result<Pattern, ReasonCode> {
    let parts = validate_filter(filter, max_levels).map_err(|error| error.reason)?;
    if parts.share.is_some() {
        return Err(shared);
    }
    // The realm's own limits: levels and wildcards of one pattern.
    Pattern::from_slashes(parts.filter).map_err(|_| ReasonCode::TopicFilterInvalid)
}

fn subscribe_command(
    filter: &SubscribeFilter,
    pattern: Pattern,
    identifier: Option<u32>,
    request: RequestId,
) -> Command {
    let options = filter.options;
    let kind = if pattern.is_exact() {
        MatchKind::Exact
    } else {
        MatchKind::Levels
    };
    Command::Subscribe(Box::new(model::Subscribe {
        kind,
        qos: map::assurance(options.maximum_qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retained: options.retain_handling != RetainHandling::DoNotSend,
        retained_if_new: options.retain_handling == RetainHandling::SendIfNew,
        identifier,
        ..model::Subscribe::new(request, pattern)
    }))
}
