//! Deliveries as short texts.

use router_core::encoding::{Encoding, value};
use router_core::model::{
    Answer, CallFailure, Delivery, EndReason, EventDelivery, InterruptReason, Payload, Qos,
};

/// A delivery as a line: what happened, to which request or subscription, and with what.
pub fn line(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Joined { present: false } => "joined".to_owned(),
        Delivery::Joined { present: true } => "resumed".to_owned(),
        Delivery::Event(event) => event_line(event),
        Delivery::Done { request, answer } => format!("done {request} {}", answer_text(answer)),
        Delivery::Refused { request, refusal } => format!("refused {request} {:?}", refusal.kind),
        Delivery::Invocation(call) => {
            let progress = if call.progress { " progress" } else { "" };
            let caller = match &call.caller {
                Some((session, authid, role)) => format!(" by {session} {authid} {role}"),
                None => String::new(),
            };
            let body = body(&call.payload);
            let pattern = if call.exact { "" } else { "~" };
            let more = if call.more { " more" } else { "" };
            let timeout = match call.timeout {
                Some(timeout) => format!(" within {}", timeout.as_millis()),
                None => String::new(),
            };
            format!(
                "invocation {} {pattern}{} {body}{progress}{more}{timeout}{caller}",
                call.invocation, call.procedure
            )
        }
        Delivery::Interrupt {
            invocation,
            answer_wanted,
            reason,
        } => format!(
            "interrupt {invocation}{}{}",
            if *answer_wanted { " wanted" } else { "" },
            match reason {
                InterruptReason::Canceled => String::new(),
                other => format!(" {other:?}"),
            }
        ),
        Delivery::Result {
            request,
            payload,
            progress,
        } => format!(
            "result {request} {}{}",
            body(payload),
            if *progress { " more" } else { "" }
        ),
        Delivery::CallFailed { request, failure } => match failure {
            CallFailure::Realm(refusal) => format!("failed {request} {:?}", refusal.kind),
            CallFailure::Callee { error, payload } => {
                format!("failed {request} {error} {}", body(payload))
            }
        },
        Delivery::Release { slot } => format!("release {slot}"),
        Delivery::Revoked { subscription, .. } => format!("revoked {subscription}"),
        Delivery::Unregistered {
            registration,
            reason,
        } => format!("unregistered {registration} {reason}"),
        Delivery::Ended(reason) => format!("ended {}", reason_of(reason)),
    }
}

/// The reason's name.
fn reason_of(reason: &EndReason) -> String {
    match reason {
        EndReason::Killed { reason, message } => match message {
            Some(message) => format!("killed {reason} {message}"),
            None => format!("killed {reason}"),
        },
        EndReason::Violation(_) => "violation".to_owned(),
        other => format!("{other:?}"),
    }
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Subscribed { subscription, qos } => match qos {
            Qos::AtMostOnce => format!("subscribed {subscription}"),
            qos => format!("subscribed {subscription} q{}", *qos as u8),
        },
        Answer::Unsubscribed => "unsubscribed".to_owned(),
        Answer::Published { matched: true, .. } => "published".to_owned(),
        Answer::Published { matched: false, .. } => "published unmatched".to_owned(),
        Answer::Registered(id) => format!("registered {id}"),
        Answer::Repeated => "repeated".to_owned(),
        Answer::Unregistered => "unregistered".to_owned(),
        Answer::Released(known) => format!("released {known}"),
    }
}

fn event_line(delivery: &EventDelivery) -> String {
    let event = &delivery.event;
    let mut text = format!(
        "event {} {} {}",
        delivery.subscription,
        event.topic,
        body(&event.payload)
    );
    if delivery.qos != Qos::AtMostOnce {
        text += &format!(" q{}", delivery.qos as u8);
    }
    if let Some(slot) = delivery.slot {
        text += &format!(" @{slot}");
    }
    if !delivery.identifiers.is_empty() {
        let mut identifiers = delivery.identifiers.to_vec();
        identifiers.sort_unstable();
        text += &format!(" ids{identifiers:?}");
    }
    for (flag, name) in [
        (event.clears, " clears"),
        (delivery.replayed, " replayed"),
        (delivery.retain, " retain"),
        (delivery.repeated, " again"),
    ] {
        if flag {
            text += name;
        }
    }
    text
}

/// The positional arguments, then the keyword ones if there are any.
pub fn body(payload: &Payload) -> String {
    let args = payload.as_args(Encoding::Json);
    let show = |raw: Option<bytes::Bytes>| {
        raw.map(|raw| {
            value::parse(Encoding::Json, &raw).map_or_else(|e| format!("{e}"), |v| v.to_string())
        })
    };
    let list = show(args.args).unwrap_or_else(|| "-".to_owned());
    match show(args.kwargs) {
        Some(kwargs) => format!("{list} {kwargs}"),
        None => list,
    }
}
