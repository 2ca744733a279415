//! SUBSCRIBE and UNSUBSCRIBE (5.0 sections 3.8 to 3.11): one command per Topic Filter, one answer
//! per packet with a code for each filter in order `[MQTT-3.8.4-5]` `[MQTT-3.11.3-2]`.
//!
//! `$share/GROUP/FILTER` asks for a Shared Subscription (5.0 section 4.8.2), in every version: 3.x
//! reserves no name for it, and has no `$share` topics that anybody could mean.
//!
//! A filter that is refused has a code of its own in the answer. One that is no Topic Filter at all
//! `[MQTT-4.7.1-1]` `[MQTT-4.7.1-2]` `[MQTT-4.7.3-1]` makes the packet malformed: nothing of it is
//! carried out, and the connection ends `[MQTT-4.13.1-1]` (3.1.1: `[MQTT-4.8.0-1]`).

use super::{Asked, MAX_OPEN_FILTERS, MqttMachine};
use crate::mqtt::codec::{TopicError, validate_filter};
use crate::mqtt::map;
use crate::mqtt::packet::{
    Packet, PacketId, Properties, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck,
    Unsubscribe,
};
use crate::mqtt::reason::ReasonCode;
use bytestring::ByteString;
use router_core::model::{
    self, Command, MatchKind, Pattern, Refusal, RequestId, UnsubscribeTarget,
};

/// What a Topic Filter asks for: a set of topics, and the group to share it with.
type AskedFilter = (Pattern, Option<ByteString>);

/// A SUBSCRIBE or UNSUBSCRIBE that is not answered yet.
#[derive(Debug)]
pub(super) struct OpenFilters {
    id: PacketId,
    is_subscribe: bool,
    codes: Vec<Option<ReasonCode>>,
    missing: usize,
    /// Reason String: why the first refused filter was refused.
    words: Option<String>,
}

impl OpenFilters {
    /// Keeps the first refusal's words, with the number of its filter if there are several.
    fn explain(&mut self, index: u16, message: &str) {
        if self.words.is_none() {
            self.words = Some(if self.codes.len() > 1 {
                format!("Topic Filter {}: {message}", u32::from(index) + 1)
            } else {
                message.to_owned()
            });
        }
    }
}

impl MqttMachine {
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe) {
        let set = subscribe.properties.as_deref();
        let identifier = set.and_then(|set| set.subscription_identifiers.first().copied());
        let ask = |filter: &SubscribeFilter, asked, request| {
            subscribe_command(filter, asked, identifier, request)
        };
        let text = |filter: &SubscribeFilter| filter.filter.clone();
        self.ask(subscribe.packet_id, true, &subscribe.filters, text, ask);
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let ask = |_: &_, (pattern, share), request| {
            let target = UnsubscribeTarget::Pattern { pattern, share };
            Command::Unsubscribe(Box::new(model::Unsubscribe { request, target }))
        };
        let filters = &unsubscribe.filters;
        self.ask(unsubscribe.packet_id, false, filters, Clone::clone, ask);
    }

    /// Asks the realm for each filter that is acceptable, once all are known to be filters.
    fn ask<F>(
        &mut self,
        id: PacketId,
        is_subscribe: bool,
        filters: &[F],
        text: impl Fn(&F) -> ByteString,
        command: impl Fn(&F, AskedFilter, RequestId) -> Command,
    ) {
        if self.open_filters + filters.len() > MAX_OPEN_FILTERS {
            let message = "too many Topic Filters wait for their answer";
            self.broken(ReasonCode::QuotaExceeded, message);
            return;
        }
        let texts = filters.iter().map(text);
        let asked = match asked_filters(texts, self.options.max_topic_levels) {
            Ok(asked) => asked,
            Err(error) => return self.malformed(error.message),
        };
        let serial = self.filters.next();
        let mut open = OpenFilters {
            id,
            is_subscribe,
            codes: vec![None; filters.len()],
            missing: filters.len(),
            words: None,
        };
        for ((index, filter), asked) in (0..=u16::MAX).zip(filters).zip(asked) {
            match asked {
                Ok(asked) => {
                    let request = Asked::Filter(serial, index).request();
                    self.command(command(filter, asked, request));
                }
                Err(error) => {
                    if let Some(slot) = open.codes.get_mut(usize::from(index)) {
                        *slot = Some(error.reason);
                        open.missing -= 1;
                    }
                    open.explain(index, error.message);
                }
            }
        }
        self.open_filters += open.codes.len();
        self.filters.push(open);
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

    pub(super) fn filter_refused(&mut self, serial: u64, index: u16, refusal: &Refusal) {
        let open = self.filters.get_mut(serial);
        let code = match &open {
            Some(open) if open.is_subscribe => map::subscribe_reason(refusal.kind),
            _ => map::unsubscribe_reason(refusal.kind),
        };
        // 0x11 is no refusal.
        if let Some(open) = open.filter(|_| code.is_error()) {
            open.explain(index, &refusal.message);
        }
        self.filter_answered(serial, index, code);
    }

    /// Sends every answer that is complete and next in order.
    fn answer_filters(&mut self) {
        while let Some(done) = self.filters.pop_if(|open| open.missing == 0) {
            self.open_filters -= done.codes.len();
            let packet_id = done.id;
            // Left out if the client wants none [MQTT-3.1.2-29] or the answer would be too large
            // with it [MQTT-3.9.2-1] [MQTT-3.11.2-1].
            let properties = Properties {
                reason_string: done.words.map(ByteString::from),
                ..Properties::default()
            }
            .into_optional();
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

/// What each filter asks for or why it is refused, or what makes the packet malformed.
fn asked_filters(
    texts: impl Iterator<Item = ByteString>,
    max_levels: usize,
) -> Result<Vec<Result<AskedFilter, TopicError>>, TopicError> {
    texts
        .map(|text| match asked_filter(&text, max_levels) {
            Err(error) if error.reason == ReasonCode::MalformedPacket => Err(error),
            asked => Ok(asked),
        })
        .collect()
}

/// The filter as the realm's pattern and group, or why it is none.
fn asked_filter(filter: &str, max_levels: usize) -> Result<AskedFilter, TopicError> {
    let parts = validate_filter(filter, max_levels)?;
    // The realm's own limits: levels and wildcards of one pattern.
    let pattern = Pattern::from_slashes(parts.filter).map_err(|_| TopicError {
        reason: ReasonCode::TopicFilterInvalid,
        message: "filter has too many levels or wildcards",
    })?;
    Ok((pattern, parts.share.map(ByteString::from)))
}

fn subscribe_command(
    filter: &SubscribeFilter,
    (pattern, share): AskedFilter,
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
        share,
        ..model::Subscribe::new(request, pattern)
    }))
}
