//! The layouts of all messages, with the words of the specification for what stands where.

/// How one message is laid out.
#[derive(Debug)]
pub(super) struct Layout {
    /// Element 0.
    pub code: u64,
    /// The name, upper case.
    pub name: &'static str,
    /// How many elements are obligatory, the code included.
    pub required: usize,
    /// Name and type of every element.
    pub elements: &'static [&'static str],
}

/// The most elements any message has.
pub(super) const MAX_ELEMENTS: usize = 7;

const fn layout(
    code: u64,
    name: &'static str,
    required: usize,
    elements: &'static [&'static str],
) -> Layout {
    Layout {
        code,
        name,
        required,
        elements,
    }
}

const MESSAGES: [Layout; 24] = [
    layout(1, "HELLO", 3, &["Code|int", "Realm|uri", "Details|dict"]),
    layout(2, "WELCOME", 3, &["Code|int", "Session|id", "Details|dict"]),
    layout(
        3,
        "ABORT",
        3,
        &[
            "Code|int",
            "Details|dict",
            "Reason|uri",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        4,
        "CHALLENGE",
        3,
        &["Code|int", "AuthMethod|string", "Extra|dict"],
    ),
    layout(
        5,
        "AUTHENTICATE",
        3,
        &["Code|int", "Signature|string", "Extra|dict"],
    ),
    layout(6, "GOODBYE", 3, &["Code|int", "Details|dict", "Reason|uri"]),
    layout(
        8,
        "ERROR",
        5,
        &[
            "Code|int",
            "REQUEST.Type|int",
            "REQUEST.Request|id",
            "Details|dict",
            "Error|uri",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        16,
        "PUBLISH",
        4,
        &[
            "Code|int",
            "Request|id",
            "Options|dict",
            "Topic|uri",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        17,
        "PUBLISHED",
        3,
        &["Code|int", "PUBLISH.Request|id", "Publication|id"],
    ),
    layout(
        32,
        "SUBSCRIBE",
        4,
        &["Code|int", "Request|id", "Options|dict", "Topic|uri"],
    ),
    layout(
        33,
        "SUBSCRIBED",
        3,
        &["Code|int", "SUBSCRIBE.Request|id", "Subscription|id"],
    ),
    layout(
        34,
        "UNSUBSCRIBE",
        3,
        &["Code|int", "Request|id", "SUBSCRIBED.Subscription|id"],
    ),
    layout(
        35,
        "UNSUBSCRIBED",
        2,
        &["Code|int", "UNSUBSCRIBE.Request|id", "Details|dict"],
    ),
    layout(
        36,
        "EVENT",
        4,
        &[
            "Code|int",
            "SUBSCRIBED.Subscription|id",
            "PUBLISHED.Publication|id",
            "Details|dict",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        48,
        "CALL",
        4,
        &[
            "Code|int",
            "Request|id",
            "Options|dict",
            "Procedure|uri",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        49,
        "CANCEL",
        3,
        &["Code|int", "CALL.Request|id", "Options|dict"],
    ),
    layout(
        50,
        "RESULT",
        3,
        &[
            "Code|int",
            "CALL.Request|id",
            "Details|dict",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        64,
        "REGISTER",
        4,
        &["Code|int", "Request|id", "Options|dict", "Procedure|uri"],
    ),
    layout(
        65,
        "REGISTERED",
        3,
        &["Code|int", "REGISTER.Request|id", "Registration|id"],
    ),
    layout(
        66,
        "UNREGISTER",
        3,
        &["Code|int", "Request|id", "REGISTERED.Registration|id"],
    ),
    layout(
        67,
        "UNREGISTERED",
        2,
        &["Code|int", "UNREGISTER.Request|id", "Details|dict"],
    ),
    layout(
        68,
        "INVOCATION",
        4,
        &[
            "Code|int",
            "Request|id",
            "REGISTERED.Registration|id",
            "Details|dict",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
    layout(
        69,
        "INTERRUPT",
        3,
        &["Code|int", "INVOCATION.Request|id", "Options|dict"],
    ),
    layout(
        70,
        "YIELD",
        3,
        &[
            "Code|int",
            "INVOCATION.Request|id",
            "Options|dict",
            "Arguments|list",
            "ArgumentsKw|dict",
        ],
    ),
];

/// The layout of a message, by its code.
pub(super) fn layout_of(code: u64) -> Option<&'static Layout> {
    static TABLE: [Layout; 24] = MESSAGES;
    let index = TABLE
        .binary_search_by_key(&code, |layout| layout.code)
        .ok()?;
    TABLE.get(index)
}

/// The name of a message type in the specification; empty for a code that is none.
#[must_use]
pub fn name_of(code: u64) -> &'static str {
    layout_of(code).map_or("", |layout| layout.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_so_that_every_layout_is_found() {
        assert!(MESSAGES.is_sorted_by_key(|layout| layout.code));
        for layout in &MESSAGES {
            assert_eq!(name_of(layout.code), layout.name);
            assert!(layout.required <= layout.elements.len(), "{}", layout.name);
            assert!(layout.elements.len() <= MAX_ELEMENTS, "{}", layout.name);
        }
        for unused in [0, 7, 9, 18, 37, 337, u64::MAX] {
            assert_eq!(name_of(unused), "");
        }
    }
}
