//! Checks over the whole configuration, after every layer has spoken.

use super::bridge::check_bridges;
use super::draft::Draft;
use super::problem::{Fault, Place, Placed, Problems};
use super::suggest::nearest;
use super::tree::{Listener, Realm};

/// Notes what does not fit together.
pub(super) fn check(draft: &Draft, problems: &mut Problems<'_>) {
    check_duplicate_addresses(draft, problems);
    check_outbox(draft, problems);
    check_realm_count(draft, problems);
    check_silence(draft, problems);
    check_bridges(draft, problems);
    // Realms and listeners that were refused are missing from the draft; judging the rest would
    // blame the user for what he did write.
    if problems.is_clean() {
        check_listeners(draft, problems);
        check_default_realm(draft, problems);
        check_exposure(draft, problems);
    }
}

fn check_duplicate_addresses(draft: &Draft, problems: &mut Problems<'_>) {
    for (index, listener) in draft.listeners.iter().enumerate() {
        let bind = &listener.value.bind;
        let mut earlier = draft.listeners.iter().take(index);
        if !bind.is_picked() && earlier.any(|other| other.value.bind == *bind) {
            // Of two layers, the one that the user can change at hand is to blame.
            let earlier = draft
                .listeners
                .iter()
                .take(index)
                .find(|other| other.value.bind == *bind);
            let place = match (&listener.place, earlier) {
                (Place::Default, Some(earlier)) => &earlier.place,
                _ => &listener.place,
            };
            let hint = "the universal listener speaks MQTT too; drop one (`--mqtt off`) or give it another port";
            problems.error(
                place,
                Fault::new(format!("{bind} is used by two listeners"), hint),
            );
        }
    }
}

/// A queue that cannot hold one largest message would never deliver it.
fn check_outbox(draft: &Draft, problems: &mut Problems<'_>) {
    let wamp = u64::from(draft.limits.max_wamp_message_bytes);
    let of_listeners = draft
        .listeners
        .iter()
        .filter_map(|listener| listener.value.limits.max_packet_bytes);
    let mqtt = of_listeners.fold(draft.mqtt.max_packet_bytes, u32::max);
    let mqtt = u64::from(mqtt);
    let largest = wamp.max(mqtt);
    if draft.limits.max_outbox_bytes < largest {
        let name = if wamp >= mqtt {
            "limits.max_wamp_message_bytes"
        } else {
            "max_packet_bytes"
        };
        let message = format!("`max_outbox_bytes` is less than one message of {largest} bytes");
        let hint = format!("raise it to at least {largest}, or lower `{name}`");
        problems.error(&draft.outbox_place, Fault::new(message, hint));
    }
}

/// A peer must have time to answer.
fn check_silence(draft: &Draft, problems: &mut Problems<'_>) {
    let (ping, dead) = (draft.limits.ping_after_secs, draft.limits.dead_after_secs);
    if dead <= ping {
        let message = format!("`dead_after_secs` is {dead}, `ping_after_secs` is {ping}");
        let hint = "raise `dead_after_secs`: a silent peer needs time to answer";
        problems.error(&draft.silence_place, Fault::new(message, hint));
    }
}

fn check_realm_count(draft: &Draft, problems: &mut Problems<'_>) {
    let (count, max) = (draft.realms.len(), draft.limits.max_realms);
    if count as u64 > u64::from(max) {
        let message = format!("{count} realms are configured, `max_realms` is {max}");
        let hint = format!("raise `max_realms` to at least {count}");
        problems.error(&draft.max_realms_place, Fault::new(message, hint));
    }
}

fn check_listeners(draft: &Draft, problems: &mut Problems<'_>) {
    if draft.listeners.is_empty() {
        let hint = "name an address with `--listen`, or leave out `--mqtt off`";
        problems.error(&Place::Default, Fault::new("there is no listener", hint));
    }
}

fn check_default_realm(draft: &Draft, problems: &mut Problems<'_>) {
    let wanted = draft.default_realm.value.as_str();
    let names = draft.realms.iter().map(|realm| realm.value.name.as_str());
    if draft.auto_realms.value || names.clone().any(|name| name == wanted) {
        return;
    }
    let place = match &draft.default_realm.place {
        Place::Default => &draft.auto_realms.place,
        place => place,
    };
    let hint = match (nearest(wanted, names.clone()), names.clone().next()) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, Some(name)) => format!("write `default_realm = \"{name}\"`, or add [[realm]]"),
        (None, None) => "with `auto_realms = false` every realm needs a [[realm]] table".to_owned(),
    };
    let message =
        format!("the default realm `{wanted}` does not exist and is not made on first use");
    problems.error(place, Fault::new(message, hint));
}

/// An address that other machines reach is safe only if no realm can be joined without a secret:
/// `auto_realms = false`, and each realm has users and no `[realm.anonymous]`.
fn check_exposure(draft: &Draft, problems: &mut Problems<'_>) {
    let open = draft
        .realms
        .iter()
        .find(|realm| !realm.value.requires_credentials());
    let Some(reason) = why_open(draft, open) else {
        return;
    };
    for listener in &draft.listeners {
        if listener.value.is_exposed() {
            report_exposure(draft, listener, &reason, problems);
        }
    }
}

fn why_open(draft: &Draft, open: Option<&Placed<Realm>>) -> Option<String> {
    if draft.auto_realms.value {
        return Some("realms are made on first use".to_owned());
    }
    let realm = &open?.value;
    let why = if realm.users.is_empty() {
        "has no users"
    } else {
        "accepts anonymous sessions"
    };
    Some(format!("realm `{}` {why}", realm.name))
}

fn report_exposure(
    draft: &Draft,
    listener: &Placed<Listener>,
    reason: &str,
    problems: &mut Problems<'_>,
) {
    let bind = &listener.value.bind;
    let message = format!("anybody who reaches {bind} can join without credentials: {reason}");
    if draft.insecure {
        let hint = "this is allowed because of `insecure`";
        problems.warning(&listener.place, Fault::new(message, hint));
    } else {
        let hint = "listen on 127.0.0.1; or set `auto_realms = false` and give every [[realm]] users \
                    and no [realm.anonymous]; or accept it with `--insecure`";
        problems.error(&listener.place, Fault::new(message, hint));
    }
}
