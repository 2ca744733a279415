//! The way a message took, as User Properties of 5.0: one `reynard-via` for each router it passed
//! on a bridge, in order.
//!
//! A bridge adds its router's id when a message goes out and when it comes in, unless it stands
//! last already; on the way in it adds the peer's id before its own, if the peer told it. So
//! whatever mix of bridges a ring is made of, a router finds its id in what comes round again.
//! 3.1.1 has no properties: there only prefixes and the peer's own No Local keep rings from
//! turning.

use bytestring::ByteString;
use smallvec::SmallVec;

/// The User Property that names a router the message passed.
pub const VIA: &str = "reynard-via";
/// The User Property in which a bridge and the router behind the other end tell their ids, in
/// CONNECT and CONNACK.
pub const ROUTER_ID: &str = "reynard-id";
/// Routers that a message may have passed.
pub const MAX_HOPS: usize = 16;

/// The message has been here, or there, or has passed too many routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looped;

type UserProperties = [(ByteString, ByteString)];

fn hops(user_properties: &UserProperties) -> impl DoubleEndedIterator<Item = &str> {
    user_properties
        .iter()
        .filter(|(name, _)| &**name == VIA)
        .map(|(_, id)| &**id)
}

/// The ids to add to a message that comes from the peer.
///
/// # Errors
/// It passed this router before, or [`MAX_HOPS`] routers.
pub fn coming_in<'a>(
    user_properties: &UserProperties,
    own: &'a ByteString,
    peer: Option<&'a ByteString>,
) -> Result<SmallVec<[&'a ByteString; 2]>, Looped> {
    let passed = hops(user_properties).count();
    if passed >= MAX_HOPS || hops(user_properties).any(|id| id == &**own) {
        return Err(Looped);
    }
    let last = hops(user_properties).next_back();
    let peer = peer.filter(|peer| last != Some(&***peer));
    Ok(peer.into_iter().chain([own]).collect())
}

/// Whether this router's id is to be added to a message that goes to the peer.
///
/// # Errors
/// It passed the peer, or this router earlier than just now, or [`MAX_HOPS`] routers.
pub fn going_out(
    user_properties: &UserProperties,
    own: &ByteString,
    peer: Option<&ByteString>,
) -> Result<bool, Looped> {
    let mut before = hops(user_properties).rev();
    let is_last = before.next().map(|last| last == &**own);
    let passed_peer = peer.is_some_and(|peer| hops(user_properties).any(|id| id == &**peer));
    let came_round = before.any(|id| id == &**own);
    let passed = hops(user_properties).count();
    if passed_peer || came_round || passed >= MAX_HOPS {
        return Err(Looped);
    }
    Ok(is_last != Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(ids: &[&str]) -> Vec<(ByteString, ByteString)> {
        let other = (ByteString::from("other"), ByteString::from("A"));
        let hops = ids.iter().map(|id| (VIA.into(), ByteString::from(*id)));
        std::iter::once(other).chain(hops).collect()
    }

    fn id(name: &'static str) -> ByteString {
        ByteString::from_static(name)
    }

    #[test]
    fn what_passed_here_is_not_taken_in_again() {
        let (a, b) = (id("A"), id("B"));
        assert_eq!(coming_in(&via(&["A", "B"]), &a, Some(&b)), Err(Looped));
        let taken = coming_in(&via(&["C"]), &a, None).expect("new here");
        assert_eq!(taken.as_slice(), [&a]);
        let taken = coming_in(&via(&[]), &a, Some(&b)).expect("new here");
        assert_eq!(taken.as_slice(), [&b, &a]);
        let taken = coming_in(&via(&["C", "B"]), &a, Some(&b)).expect("new here");
        assert_eq!(taken.as_slice(), [&a], "the peer has named itself");
    }

    #[test]
    fn what_passed_the_peer_or_came_round_is_not_sent() {
        let (a, b) = (id("A"), id("B"));
        assert_eq!(going_out(&via(&[]), &a, Some(&b)), Ok(true));
        assert_eq!(going_out(&via(&["C", "A"]), &a, Some(&b)), Ok(false));
        assert_eq!(going_out(&via(&["C", "B"]), &a, Some(&b)), Err(Looped));
        assert_eq!(going_out(&via(&["A", "C"]), &a, Some(&b)), Err(Looped));
        assert_eq!(going_out(&via(&["A", "C", "A"]), &a, None), Err(Looped));
    }

    #[test]
    fn hops_are_counted() {
        let ids: Vec<String> = (0..MAX_HOPS).map(|hop| format!("r{hop}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (a, all, fewer) = (id("A"), via(&ids), via(&ids[1..]));
        assert_eq!(coming_in(&all, &a, None), Err(Looped));
        assert_eq!(going_out(&all, &a, None), Err(Looped));
        assert!(coming_in(&fewer, &a, None).is_ok() && going_out(&fewer, &a, None).is_ok());
    }

    /// A message in a ring of three, whatever each link is made of, ends.
    #[test]
    fn every_ring_ends() {
        for links in 0..8u8 {
            // A bit: the link is a bridge of the receiver (in) or of the sender (out).
            for told in [false, true] {
                let names = [id("A"), id("B"), id("C")];
                let mut way = via(&[]);
                let mut steps = 0;
                for step in 0.. {
                    assert!(step < 10, "links {links:03b}, ids told: {told}");
                    let (from, to) = (&names[step % 3], &names[(step + 1) % 3]);
                    let of = |name| told.then_some(name);
                    let is_in = links >> (step % 3) & 1 == 1;
                    let added: Vec<ByteString> = if is_in {
                        match coming_in(&way, to, of(from)) {
                            Ok(added) => added.into_iter().cloned().collect(),
                            Err(Looped) => break,
                        }
                    } else {
                        match going_out(&way, from, of(to)) {
                            Ok(add) => add.then(|| from.clone()).into_iter().collect(),
                            Err(Looped) => break,
                        }
                    };
                    way.extend(added.into_iter().map(|id| (VIA.into(), id)));
                    steps = step + 1;
                }
                if told {
                    assert!(steps <= 2, "links {links:03b}: came back to A");
                }
            }
        }
    }
}
