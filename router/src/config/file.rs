//! Reads the configuration file onto a [`Draft`]. Syntax errors end the reading, because what
//! follows them is guesswork; all other problems are collected.

use std::path::Path;

use protocols::mqtt::machine::ResponseInformation;
use toml::de::DeTable;

use super::address::{Address, parse_address, parse_mode};
use super::bridge::parse_router_id;
use super::draft::Draft;
use super::problem::{Fault, Place, Placed, Problems};
use super::realm::{Reader, parse_realm_name};
use super::section::{Section, parse_choice};
use super::sources::Sources;
use super::tree::{Limits, Listener, ListenerKind, ListenerLimits, Mqtt, SharedGroup};

/// Syntax errors that are reported at most; later ones are mostly echoes of the first.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Puts the values of the file in the place of the defaults.
pub(super) fn read_file(
    text: &str,
    directory: &Path,
    sources: &dyn Sources,
    draft: &mut Draft,
    problems: &mut Problems<'_>,
) {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report_syntax(text, &errors, problems);
        return;
    }
    let top = Section::top(document.get_ref());
    top.reject_unknown(problems);
    read_top(&top, draft, problems);
    if let Some(listeners) = read_listeners(&top, problems) {
        draft.listeners = listeners;
    }
    let mut reader = Reader {
        directory,
        sources,
        problems,
    };
    draft.realms = reader.realms(&top);
    draft.bridges = reader.bridges(&top);
    let bridge_id = top.parsed("bridge_id", parse_router_id, problems);
    draft.bridge_id = bridge_id.map(|id| id.value);
    if let Some(section) = top.table("mqtt", problems) {
        read_mqtt(&section, &mut draft.mqtt, problems);
    }
    if let Some(section) = top.table("limits", problems) {
        read_limits(&section, &mut draft.limits, problems);
        draft.outbox_place = section.place_of("max_outbox_bytes");
        draft.max_realms_place = section.place_of("max_realms");
        draft.silence_place = section.place_of("dead_after_secs");
    }
    if let Some(section) = top.table("log", problems) {
        section.reject_unknown(problems);
        if let Some(format) = section.parsed("format", parse_choice, problems) {
            draft.log.format = format.value;
        }
        if let Some(level) = section.parsed("level", parse_choice, problems) {
            draft.log.level = level.value;
        }
    }
}

fn read_top(top: &Section<'_>, draft: &mut Draft, problems: &mut Problems<'_>) {
    let directory = top.parsed("data_dir", super::draft::parse_directory, problems);
    let memory = top.switch("memory", problems);
    draft.set_store(directory, memory, problems);
    if let Some(engine) = top.parsed("storage_engine", parse_choice, problems) {
        draft.storage_engine = engine.value;
    }
    if let Some(realm) = top.parsed("default_realm", parse_realm_name, problems) {
        draft.default_realm = realm;
    }
    if let Some(auto) = top.switch("auto_realms", problems) {
        draft.auto_realms = auto;
    }
    if let Some(insecure) = top.switch("insecure", problems) {
        draft.insecure = insecure.value;
    }
    if let Some(threads) = top.optional_number("worker_threads", problems) {
        draft.worker_threads = Some(threads);
    }
}

fn read_listeners(top: &Section<'_>, problems: &mut Problems<'_>) -> Option<Vec<Placed<Listener>>> {
    let sections = top.tables("listener", problems)?;
    if sections.is_empty() {
        let hint = "leave `listener` out for the default addresses, or add [[listener]] tables";
        problems.error(
            &top.place_of("listener"),
            Fault::new("there is no listener", hint),
        );
    }
    let mut listeners = Vec::new();
    for section in sections {
        section.reject_unknown(problems);
        let kind = section.parsed("kind", parse_choice::<ListenerKind>, problems);
        let mode = section.parsed("mode", parse_mode, problems);
        let limits = read_listener_limits(&section, problems);
        if section.name("bind", problems).is_none() {
            continue;
        }
        if let Some(Placed { value: bind, place }) = section.parsed("bind", parse_address, problems)
        {
            if let (Address::Tcp(_), Some(mode)) = (&bind, &mode) {
                let hint = "leave out `mode`, or write `bind = \"unix:…\"`";
                let fault = Fault::new("only the file of a unix socket has a mode", hint);
                problems.error(&mode.place, fault);
            }
            let listener = Listener {
                mode: mode.map_or(Listener::MODE, |mode| mode.value),
                limits,
                ..Listener::new(kind.map(|kind| kind.value).unwrap_or_default(), bind)
            };
            listeners.push(Placed::new(listener, place));
        }
    }
    Some(listeners)
}

fn read_listener_limits(section: &Section<'_>, problems: &mut Problems<'_>) -> ListenerLimits {
    ListenerLimits {
        max_connections: section.optional_number("max_connections", problems),
        login_timeout_secs: section.optional_number("login_timeout_secs", problems),
        max_keepalive_secs: section.optional_number("max_keepalive_secs", problems),
        receive_maximum: section.optional_number("receive_maximum", problems),
        topic_alias_maximum: section.optional_number("topic_alias_maximum", problems),
        max_packet_bytes: section.optional_number("max_packet_bytes", problems),
    }
}

fn read_mqtt(section: &Section<'_>, mqtt: &mut Mqtt, problems: &mut Problems<'_>) {
    section.reject_unknown(problems);
    for (key, slot) in [
        ("max_topic_levels", &mut mqtt.max_topic_levels),
        ("max_filters_per_packet", &mut mqtt.max_filters_per_packet),
        ("max_inflight", &mut mqtt.max_inflight),
        ("outgoing_topic_aliases", &mut mqtt.outgoing_topic_aliases),
    ] {
        section.number(key, slot, problems);
    }
    for (key, slot) in [
        ("max_connect_bytes", &mut mqtt.max_connect_bytes),
        ("queued_in_memory", &mut mqtt.queued_in_memory),
        ("sys_interval_secs", &mut mqtt.sys_interval_secs),
    ] {
        section.number(key, slot, problems);
    }
    let information = section.parsed("response_information", parse_response_information, problems);
    if let Some(information) = information {
        mqtt.response_information = information.value;
    }
    if let Some(full) = section.parsed("queue_full", parse_choice, problems) {
        mqtt.queue_full = full.value;
    }
    if let Some(strategy) = section.parsed("shared_strategy", parse_choice, problems) {
        mqtt.shared_strategy = strategy.value;
    }
    if let Some(groups) = section.tables("mqtt.shared", problems) {
        mqtt.shared = read_shared(&groups, problems);
    }
    section.number("max_keepalive_secs", &mut mqtt.max_keepalive_secs, problems);
    section.number("receive_maximum", &mut mqtt.receive_maximum, problems);
    section.number(
        "topic_alias_maximum",
        &mut mqtt.topic_alias_maximum,
        problems,
    );
    section.number("max_packet_bytes", &mut mqtt.max_packet_bytes, problems);
    section.number(
        "max_queued_messages",
        &mut mqtt.max_queued_messages,
        problems,
    );
    section.number("max_queued_bytes", &mut mqtt.max_queued_bytes, problems);
    section.number(
        "max_session_expiry_secs",
        &mut mqtt.max_session_expiry_secs,
        problems,
    );
}

fn parse_response_information(text: &str) -> Result<String, Fault> {
    if text.is_empty() || ResponseInformation::new(text).is_some() {
        return Ok(text.to_owned());
    }
    let hint =
        "write a topic with `{client}` in it and without `+` and `#`, such as `reply/{client}/`";
    Err(Fault::new(format!("`{text}` is no prefix of topics"), hint))
}

fn read_shared(sections: &[Section<'_>], problems: &mut Problems<'_>) -> Vec<SharedGroup> {
    let mut groups: Vec<SharedGroup> = Vec::new();
    for section in sections {
        section.reject_unknown(problems);
        let group = section.name("group", problems);
        if section.name("strategy", problems).is_none() {
            continue;
        }
        let strategy = section.parsed("strategy", parse_choice, problems);
        let (Some(group), Some(strategy)) = (group, strategy) else {
            continue;
        };
        // 5.0 section 4.8.2: other names cannot stand in a filter.
        if group.value.contains(['/', '+', '#']) {
            let message = format!("`{}` cannot be the name of a group", group.value);
            let hint = "a group's name contains none of `/`, `+` and `#`";
            problems.error(&group.place, Fault::new(message, hint));
        } else if groups.iter().any(|known| known.group == group.value) {
            let message = format!("group `{}` has two strategies", group.value);
            problems.error(&group.place, Fault::new(message, "keep one of the tables"));
        } else {
            groups.push(SharedGroup {
                group: group.value.to_owned(),
                strategy: strategy.value,
            });
        }
    }
    groups
}

fn read_limits(section: &Section<'_>, limits: &mut Limits, problems: &mut Problems<'_>) {
    section.reject_unknown(problems);
    section.number(
        "max_connections_per_listener",
        &mut limits.max_connections_per_listener,
        problems,
    );
    section.number(
        "login_timeout_secs",
        &mut limits.login_timeout_secs,
        problems,
    );
    section.number(
        "drain_timeout_secs",
        &mut limits.drain_timeout_secs,
        problems,
    );
    section.number("ping_after_secs", &mut limits.ping_after_secs, problems);
    section.number("dead_after_secs", &mut limits.dead_after_secs, problems);
    if let Some(pings) = section.switch("rawsocket_pings", problems) {
        limits.rawsocket_pings = pings.value;
    }
    section.number(
        "longpoll_hold_secs",
        &mut limits.longpoll_hold_secs,
        problems,
    );
    section.number(
        "max_longpoll_sessions",
        &mut limits.max_longpoll_sessions,
        problems,
    );
    if let Some(no_content) = section.switch("longpoll_no_content", problems) {
        limits.longpoll_no_content = no_content.value;
    }
    section.number("max_realms", &mut limits.max_realms, problems);
    section.number("max_outbox_frames", &mut limits.max_outbox_frames, problems);
    section.number("max_outbox_bytes", &mut limits.max_outbox_bytes, problems);
    section.number(
        "max_wamp_message_bytes",
        &mut limits.max_wamp_message_bytes,
        problems,
    );
    section.number(
        "max_subscriptions_per_session",
        &mut limits.max_subscriptions_per_session,
        problems,
    );
    section.number(
        "max_registrations_per_session",
        &mut limits.max_registrations_per_session,
        problems,
    );
    section.number(
        "max_pending_calls_per_session",
        &mut limits.max_pending_calls_per_session,
        problems,
    );
}

fn report_syntax(text: &str, errors: &[toml::de::Error], problems: &mut Problems<'_>) {
    let mut last_line = None;
    let mut reported = 0;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let is_secret = is_in_user(text, span.start);
        let place = if is_secret {
            Place::Hidden(span)
        } else {
            Place::File(span)
        };
        let line = problems.line(&place);
        if line == last_line || reported == SYNTAX_ERRORS_MAX {
            continue;
        }
        last_line = line;
        reported += 1;
        let (message, hint) = explain_syntax(text, error);
        let fault = Fault::new(format!("not TOML: {message}"), hint);
        problems.error(&place, fault);
    }
}

/// Whether the table that a place is in looks like a user's or a bridge's, with secrets in it.
fn is_in_user(text: &str, offset: usize) -> bool {
    let (before, _) = text.split_at(text.floor_char_boundary(offset));
    let mut lines = before.lines().rev().map(str::trim_start);
    // A setting with a stray bracket before it is no header.
    let header = lines.find(|line| line.starts_with('[') && line.contains(']'));
    header.is_some_and(|header| header.contains("user") || header.contains("bridge"))
}

/// What a syntax error probably is, and its correction.
fn explain_syntax(text: &str, error: &toml::de::Error) -> (String, &'static str) {
    let start = error
        .span()
        .map_or(text.len(), |span| text.floor_char_boundary(span.start));
    let (before, after) = text.split_at(start);
    let is_value = before
        .rsplit('\n')
        .next()
        .is_some_and(|key| key.trim_end().ends_with('='));
    let rest = after.lines().next().unwrap_or_default().trim();
    let message = error.message().replace('\n', ", ");
    if message.contains("duplicate key") {
        (
            message,
            "each key and table stands once; a list of tables is written [[name]]",
        )
    } else if message.contains("basic string") || message.contains("literal string, expected") {
        (
            message,
            "a text ends on the line it starts on, with the quote it starts with",
        )
    } else if is_value && rest.is_empty() {
        (
            "the value is missing".to_owned(),
            "a value is \"text\", a number, true, false or a [list]",
        )
    } else if is_value && rest.starts_with(|first: char| !first.is_ascii_digit()) {
        (
            "this is not a value".to_owned(),
            "text stands in quotes: key = \"value\"",
        )
    } else if is_value {
        (
            "this is not a value".to_owned(),
            "a value is \"text\", a number, true, false or a [list]",
        )
    } else {
        (
            message,
            "the form is key = value, [table] or [[list of tables]]",
        )
    }
}
