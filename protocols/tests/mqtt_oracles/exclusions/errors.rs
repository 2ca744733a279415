//! Legal packets that oracles refuse, misread, cannot tell apart or miswrite.

use std::num::NonZeroU16;

use protocols::mqtt::packet::{Connect, OptProperties, Packet, Properties, Subscribe, Unsubscribe};
use protocols::mqtt::reason::ReasonCode;

use super::{Row, What};

/// The rows, oracle by oracle.
pub const ROWS: &[Row] = &[
    Row {
        name: "binary-password",
        what: What::Refuses(|packet, _| connect(packet).is_some_and(has_binary_password)),
        why: "takes passwords for strings",
        clause: "3.1.3.5 (3.1.1), 3.1.3.6",
        witnesses: &[
            "m 3.1.1 > 10 13 00044d515454 04 c2 003c 000163 000175 0001ff",
            "m 5 > 10 14 00044d515454 05 c2 003c 00 000163 000175 0001ff",
        ],
    },
    Row {
        name: "empty-credentials",
        what: What::Misreads(|packet, _| connect(packet).is_some_and(has_empty_credentials)),
        why: "takes an empty user name or password for an absent one",
        clause: "3.1.3.4, 3.1.3.5 (3.1.1), 3.1.3.5, 3.1.3.6",
        witnesses: &[
            "m 3.1.1 > 10 12 00044d515454 04 c2 003c 000163 0000 000170",
            "m 5 > 10 10 00044d515454 05 82 003c 00 000163 0000",
        ],
    },
    Row {
        name: "two-subscription-identifiers",
        what: What::Misreads(|packet, _| identifiers(packet) > 1),
        why: "ends the block a byte early for each of them, the rest is payload",
        clause: "3.3.2.3.8",
        witnesses: &["m 5 < 30 0a 000161 06 0b01 0b02 0b03"],
    },
    Row {
        name: "short-disconnect",
        what: What::Refuses(|_, bytes| bytes.get(1).is_some_and(|remaining| *remaining < 2)),
        why: "asks for a Property Length",
        clause: "3.14.2.1, 3.14.2.2.1",
        witnesses: &["m 5 > e0 00"],
    },
    Row {
        name: "bad-authentication-method",
        what: What::Refuses(|packet, _| has_reason(packet, ReasonCode::BadAuthenticationMethod)),
        why: "lacks code 0x8C",
        clause: "2.4, against table 3-10",
        witnesses: &["mc 5 < e0 02 8c 00"],
    },
    Row {
        name: "no-auth",
        what: What::Refuses(|_, _| true),
        why: "lacks the packet",
        clause: "3.15",
        witnesses: &["m 5 > f0 06 18 04 1500016d"],
    },
    Row {
        name: "connack-without-property-length",
        what: What::Miswrites(
            |packet| matches!(packet, Packet::ConnAck(ack) if ack.properties.is_none()),
        ),
        why: "leaves the Property Length out if there are no properties",
        clause: "3.2.2.3.1",
        witnesses: &["m 5 < 20 03 0000 00"],
    },
    Row {
        name: "empty-client-identifier",
        what: What::Refuses(|packet, _| {
            connect(packet)
                .is_some_and(|connect| connect.client_id.is_empty() && !connect.clean_start)
        }),
        why: "cannot hand it on to be answered with a CONNACK",
        clause: "3.1.3.1, MQTT-3.1.3-8 (3.1.1)",
        witnesses: &[
            "r 3.1 > 10 0e 00064d5149736470 03 00 003c 0000",
            "r 3.1.1 > 10 0c 00044d515454 04 00 003c 0000",
            "r 5 > 10 0d 00044d515454 05 00 003c 00 0000",
        ],
    },
    Row {
        name: "empty-filter",
        what: What::Refuses(|packet, _| filters(packet).any(str::is_empty)),
        why: "cannot hand it on to be answered filter by filter",
        clause: "MQTT-4.7.3-1, 3.9.3",
        witnesses: &[
            "r 3.1 > 82 05 0001 0000 00",
            "r 3.1 > a2 04 0001 0000",
            "r 3.1.1 > 82 05 0001 0000 00",
            "r 3.1.1 > a2 04 0001 0000",
        ],
    },
    Row {
        name: "repeated-with-dup",
        what: What::Refuses(|_, bytes| bytes.first().is_some_and(|first| first & 8 != 0)),
        why: "knows the flags of 3.1.1 only",
        clause: "section 2.1 (3.1)",
        witnesses: &[
            "r 3.1 > 6a 02 0001",
            "r 3.1 > 8a 06 0001 000161 00",
            "r 3.1 > aa 05 0001 000161",
        ],
    },
    Row {
        name: "unused-connack-byte",
        what: What::Refuses(|_, bytes| bytes.get(2).is_some_and(|unused| unused & !1 != 0)),
        why: "reads the byte as the flags of 3.1.1",
        clause: "section 3.2 (3.1)",
        witnesses: &["r 3.1 < 20 02 0200"],
    },
    Row {
        name: "session-present-before-3.1.1",
        what: What::Misreads(|_, bytes| bytes.get(2) == Some(&1)),
        why: "reads the byte as the flags of 3.1.1",
        clause: "section 3.2 (3.1)",
        witnesses: &["r 3.1 < 20 02 0100"],
    },
    Row {
        name: "flag-without-field",
        what: What::Refuses(is_flag_without_field),
        why: "asks for the field",
        clause: "section 3.1 (3.1)",
        witnesses: &[
            "r 3.1 > 10 0f 00064d5149736470 03 82 003c 000163",
            "r 3.1 > 10 12 00064d5149736470 03 c2 003c 000163 000175",
        ],
    },
    Row {
        name: "level-4-named-MQIsdp",
        what: What::Miswrites(|_| true),
        why: "writes level 4 whatever the packet says",
        clause: "section 3.1 (3.1)",
        witnesses: &["r 3.1 > 10 0f 00064d5149736470 03 02 003c 000163"],
    },
    Row {
        name: "message-expiry-0",
        what: What::Refuses(|packet, _| {
            messages(packet).any(|set| set.message_expiry_interval == Some(0))
        }),
        why: "has no room for 0",
        clause: "3.1.3.2.4, 3.3.2.3.3",
        witnesses: &[
            "r 5 > 30 09 000161 05 0200000000",
            "r 5 > 10 1a 00044d515454 05 06 003c 00 000163 05 0200000000 000177 00016d",
        ],
    },
    Row {
        name: "defaults",
        what: What::Folds(drop_defaults),
        why: "keeps no difference between a default and its absence",
        clause: "3.1.2.11, 3.2.2.3, 3.3.2.3.2",
        witnesses: &[
            "r 5 > 10 10 00044d515454 05 02 003c 02 1900 000163",
            "r 5 < 20 05 0000 02 2501",
            "r 5 > 30 06 000161 02 0100",
        ],
    },
    Row {
        name: "password-alone",
        what: What::Refuses(|packet, _| {
            connect(packet)
                .is_some_and(|connect| connect.username.is_none() && connect.password.is_some())
        }),
        why: "keeps the rule of 3.1.1",
        clause: "3.1.2.9",
        witnesses: &["c 5 > 10 11 00044d515454 05 42 003c 00 000163 000170"],
    },
    Row {
        name: "share-name",
        what: What::Refuses(|packet, _| filters(packet).any(is_bad_share)),
        why: "cannot hand it on to be answered filter by filter",
        clause: "MQTT-4.8.2-1, MQTT-4.8.2-2, 3.9.3",
        witnesses: &[
            "c 5 > 82 0d 0001 00 0007 2473686172652f 00",
            "c 5 > a2 0c 0001 00 0007 2473686172652f",
        ],
    },
];

fn connect(packet: &Packet) -> Option<&Connect> {
    match packet {
        Packet::Connect(connect) => Some(connect),
        _ => None,
    }
}

fn has_binary_password(connect: &Connect) -> bool {
    let password = connect.password.as_ref();
    password.is_some_and(|secret| str::from_utf8(&secret.0).is_err())
}

fn has_empty_credentials(connect: &Connect) -> bool {
    let password = connect.password.as_ref();
    connect
        .username
        .as_ref()
        .is_some_and(|name| name.is_empty())
        || password.is_some_and(|secret| secret.0.is_empty())
}

fn has_reason(packet: &Packet, reason: ReasonCode) -> bool {
    matches!(packet, Packet::Disconnect(disconnect) if disconnect.reason == reason)
}

fn identifiers(packet: &Packet) -> usize {
    match packet {
        Packet::Publish(publish) => publish
            .properties
            .as_ref()
            .map_or(0, |set| set.subscription_identifiers.len()),
        _ => 0,
    }
}

fn filters(packet: &Packet) -> impl Iterator<Item = &str> {
    let (to, from): (&[_], &[_]) = match packet {
        Packet::Subscribe(Subscribe { filters, .. }) => (filters, &[]),
        Packet::Unsubscribe(Unsubscribe { filters, .. }) => (&[], filters),
        _ => (&[], &[]),
    };
    let to = to.iter().map(|filter| &*filter.filter);
    to.chain(from.iter().map(|filter| &**filter))
}

fn is_bad_share(filter: &str) -> bool {
    filter.strip_prefix("$share/").is_some_and(|rest| {
        rest.split_once('/')
            .is_none_or(|(name, _)| name.is_empty() || name.contains(['+', '#']))
    })
}

/// A CONNECT of 3.1 whose flags announce more than there is.
fn is_flag_without_field(packet: &Packet, bytes: &[u8]) -> bool {
    let name = b"MQIsdp\x03";
    let at = bytes.windows(name.len()).position(|part| part == name);
    let flags = at.and_then(|at| bytes.get(at + name.len()));
    connect(packet).is_some_and(|connect| {
        flags.is_some_and(|flags| {
            (flags & 0x80 != 0 && connect.username.is_none())
                || (flags & 0x40 != 0 && connect.password.is_none())
        })
    })
}

/// The properties of messages in this packet: its own or its will's.
fn messages(packet: &Packet) -> impl Iterator<Item = &Properties> {
    let set = match packet {
        Packet::Publish(publish) => publish.properties.as_deref(),
        Packet::Connect(connect) => connect
            .will
            .as_ref()
            .and_then(|will| will.properties.as_deref()),
        _ => None,
    };
    set.into_iter()
}

/// Takes out what says no more than its absence.
fn drop_defaults(packet: &mut Packet) {
    match packet {
        Packet::Connect(connect) => reduce(&mut connect.properties, |set| {
            clear(&mut set.session_expiry_interval, &0);
            clear(&mut set.request_problem_information, &true);
            clear(&mut set.request_response_information, &false);
            clear(&mut set.topic_alias_maximum, &0);
        }),
        Packet::ConnAck(ack) => reduce(&mut ack.properties, |set| {
            clear(&mut set.receive_maximum, &NonZeroU16::MAX);
            clear(&mut set.topic_alias_maximum, &0);
            clear(&mut set.retain_available, &true);
            clear(&mut set.wildcard_subscription_available, &true);
            clear(&mut set.subscription_identifiers_available, &true);
            clear(&mut set.shared_subscription_available, &true);
        }),
        Packet::Publish(publish) => reduce(&mut publish.properties, |set| {
            clear(&mut set.payload_format_indicator, &false);
        }),
        _ => {}
    }
}

fn reduce(properties: &mut OptProperties, change: impl FnOnce(&mut Properties)) {
    if let Some(mut set) = properties.take() {
        change(&mut set);
        *properties = set.into_optional();
    }
}

fn clear<T: PartialEq>(slot: &mut Option<T>, default: &T) {
    if slot.as_ref() == Some(default) {
        *slot = None;
    }
}
