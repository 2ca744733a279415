//! Whether a stored record is one that a realm can take in.

use super::{
    HISTORY, LAST_WILLS, MARK, META, QUEUES, RECEIPTS, SESSIONS, SUBSCRIPTIONS, StoredDelivery,
    StoredEntry, StoredMark, StoredSession, StoredSubscription, StoredWill, VALUES, decode, number,
    publication, split_client_key, split_key, trace_of,
};
use crate::model::Topic;
use serde::de::DeserializeOwned;
use storage::Space;

/// Reads a record as the start of a router would.
///
/// # Errors
/// What is wrong with its key or its value.
pub fn check(space: Space, key: &[u8], value: &[u8]) -> Result<(), String> {
    match space {
        META => Ok(()),
        VALUES => {
            let (_, topic) = split_key(key).ok_or("the key belongs to no realm")?;
            let topic = std::str::from_utf8(topic).map_err(|_| "the key is no topic")?;
            Topic::new(topic.to_owned()).map_err(|_| "the key is no topic")?;
            reads::<StoredEntry>(value)
        }
        SESSIONS => of_client(key).and_then(|()| reads::<StoredSession>(value)),
        LAST_WILLS => of_client(key).and_then(|()| reads::<StoredWill>(value)),
        SUBSCRIPTIONS => {
            split_client_key(key).ok_or("the key belongs to no client")?;
            reads::<StoredSubscription>(value)
        }
        QUEUES => numbered(key).and_then(|()| reads::<StoredDelivery>(value)),
        RECEIPTS => numbered(key),
        HISTORY => history(key, value),
        Space(other) => Err(format!("no release writes to space {other}")),
    }
}

fn of_client(key: &[u8]) -> Result<(), String> {
    let (_, client) = split_key(key).ok_or("the key belongs to no realm")?;
    std::str::from_utf8(client).map_err(|_| "the key names no client")?;
    Ok(())
}

fn numbered(key: &[u8]) -> Result<(), String> {
    let (_, _, part) = split_client_key(key).ok_or("the key belongs to no client")?;
    number(part).ok_or("the key has no number")?;
    Ok(())
}

fn history(key: &[u8], value: &[u8]) -> Result<(), String> {
    let (_, part) = split_key(key).ok_or("the key belongs to no realm")?;
    if part.first() == Some(&MARK) {
        return reads::<StoredMark>(value);
    }
    let named = publication(part).ok_or("the key names no publication")?;
    let head = trace_of(value).map_err(|error| format!("the value cannot be read: {error}"))?;
    match head.publication == named {
        true => Ok(()),
        false => Err("the key names another publication".to_owned()),
    }
}

fn reads<T: DeserializeOwned>(value: &[u8]) -> Result<(), String> {
    decode::<T>(value)
        .map(drop)
        .map_err(|error| format!("the value cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{client_key, client_part_key, encode, key};

    #[test]
    fn what_a_start_can_read_is_fine_and_nothing_else() {
        let deleted = encode(&StoredEntry::Deleted { token: 7 }).unwrap_or_default();
        let topic = key("realm1", b"app.x");
        assert_eq!(check(VALUES, &topic, &deleted), Ok(()));
        assert!(check(VALUES, b"app.x", &deleted).is_err(), "no realm");
        assert!(
            check(VALUES, &topic, &deleted[1..]).is_err(),
            "half a value"
        );
        assert!(
            check(SESSIONS, &key("realm1", b"c"), &deleted).is_err(),
            "another record"
        );
        assert_eq!(check(RECEIPTS, &client_key("realm1", "c", 5), b""), Ok(()));
        assert!(check(RECEIPTS, &client_part_key("realm1", "c", b"five"), b"").is_err());
        let mark = key("realm1", &[MARK]);
        let forgotten = encode(&StoredMark::of(None, 7)).unwrap_or_default();
        assert_eq!(check(HISTORY, &mark, &forgotten), Ok(()));
        let event = key("realm1", &7_u64.to_be_bytes());
        assert!(check(HISTORY, &event, &forgotten).is_err(), "no event");
        assert!(check(Space(99), &topic, &deleted).is_err(), "no such space");
    }
}
