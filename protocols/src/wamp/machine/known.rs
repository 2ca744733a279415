//! Headers that were read before need not be read again.
//!
//! A client mostly says the same: from one PUBLISH, CALL or YIELD to the next only the request and
//! the arguments differ. What options and a URI ask for is a function of their bytes and of what the
//! session announced, so where those bytes are the same as lately the answer is too. Arguments are
//! checked as ever. Everything else takes the long way, where it is read or refused.

use super::WampMachine;
use crate::gate::Action;
use crate::wamp::codec::{self, Head};
use crate::wamp::map;
use bytes::Bytes;
use router_core::encoding::Encoding;
use router_core::model::{Call, Command, InvocationId, Now, Payload, Publish, Qos, Topic};
use std::sync::Arc;
use std::time::Duration;

/// Type codes.
const PUBLISH: u64 = 16;
const CALL: u64 = 48;

/// So many headers are known at a time.
const ENTRIES: usize = 8;
/// A longer header is read each time, in bytes.
const HEADER_BYTES: usize = 256;
/// Of headers that never come again at most every so many are looked at closer.
const PATIENCE: u32 = 16;

/// What a connection asked for lately.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: Vec<Entry>,
    /// The one that was asked for last.
    latest: usize,
    /// Messages that were not known since one was learned.
    misses: u32,
    /// Messages to be let pass before the next one is learned.
    wait: u32,
}

#[derive(Debug)]
struct Entry {
    code: u64,
    /// Options, and a URI where there is one, as they came.
    bytes: Vec<u8>,
    asks: Asks,
    /// It came again.
    is_used: bool,
}

/// What a header asks for.
#[derive(Clone, Debug)]
enum Asks {
    Publish {
        acknowledge: bool,
        topic: Topic,
        exclude_me: bool,
        retain: bool,
        qos: Qos,
    },
    Call {
        procedure: Topic,
        progress: bool,
        more: bool,
        timeout: Option<Duration>,
        disclose_me: bool,
    },
    Yield {
        progress: bool,
    },
}

impl Known {
    /// The header that a message begins with, and where it ends.
    fn find(&mut self, head: Head, frame: &[u8]) -> Option<(&Asks, usize)> {
        let rest = frame.get(head.at..)?;
        let fits = |entry: &Entry| entry.code == head.code && rest.starts_with(&entry.bytes);
        let found = match self.entries.get(self.latest) {
            Some(entry) if fits(entry) => self.latest,
            _ => self.entries.iter().position(fits)?,
        };
        self.latest = found;
        let entry = self.entries.get_mut(found)?;
        entry.is_used = true;
        Some((&entry.asks, head.at + entry.bytes.len()))
    }

    /// Whether a message that is not known is worth a closer look.
    fn wants(&mut self) -> bool {
        self.misses = self.misses.saturating_add(1);
        self.misses > self.wait
    }

    fn learn(&mut self, code: u64, bytes: &[u8], asks: Asks) {
        self.misses = 0;
        if self.entries.len() < ENTRIES {
            self.latest = self.entries.len();
            self.entries.push(Entry {
                code,
                bytes: bytes.to_vec(),
                asks,
                is_used: false,
            });
            return;
        }
        // The others keep their places by turns.
        self.latest = (self.latest + 1) % ENTRIES;
        let Some(entry) = self.entries.get_mut(self.latest) else {
            return;
        };
        self.wait = match entry.is_used {
            true => 0,
            false => (self.wait + 1).min(PATIENCE),
        };
        entry.code = code;
        entry.bytes.clear();
        entry.bytes.extend_from_slice(bytes);
        entry.asks = asks;
        entry.is_used = false;
    }
}

impl Asks {
    /// What a command asks for apart from its arguments; `None` if that is not for its header alone
    /// to say, or too uncommon to be remembered.
    fn of(command: &Command) -> Option<Asks> {
        Some(match command {
            Command::Publish(publish) if is_plain(publish) => Asks::Publish {
                acknowledge: publish.request.is_some(),
                topic: publish.topic.clone(),
                exclude_me: publish.exclude_me,
                retain: publish.retain,
                qos: publish.qos,
            },
            Command::Call(call) if call.payload.seal().is_none() => Asks::Call {
                procedure: call.procedure.clone(),
                progress: call.progress,
                more: call.more,
                timeout: call.timeout,
                disclose_me: call.disclose_me,
            },
            Command::Yield {
                payload, progress, ..
            } if payload.seal().is_none() => Asks::Yield {
                progress: *progress,
            },
            _ => return None,
        })
    }

    /// How many elements stand between the request and the arguments.
    fn elements(&self) -> usize {
        match self {
            Asks::Publish { .. } | Asks::Call { .. } => 2,
            Asks::Yield { .. } => 1,
        }
    }

    fn command(&self, id: u64, payload: Payload) -> Command {
        match self.clone() {
            Asks::Publish {
                acknowledge,
                topic,
                exclude_me,
                retain,
                qos,
            } => Command::Publish(Box::new(Publish {
                request: acknowledge.then(|| map::request_id(PUBLISH, id)),
                exclude_me,
                retain,
                qos,
                ..Publish::new(topic, payload)
            })),
            Asks::Call {
                procedure,
                progress,
                more,
                timeout,
                disclose_me,
            } => Command::Call(Box::new(Call {
                request: map::request_id(CALL, id),
                procedure,
                payload,
                progress,
                more,
                timeout,
                disclose_me,
            })),
            Asks::Yield { progress } => Command::Yield {
                invocation: InvocationId(id),
                payload: Arc::new(payload),
                progress,
            },
        }
    }
}

fn is_plain(publish: &Publish) -> bool {
    publish.options.is_none()
        && publish.attributes.is_none()
        && publish.expiry.is_none()
        && publish.receipt.is_none()
        && publish.payload.seal().is_none()
}

/// The bytes between the request and the arguments.
fn header(encoding: Encoding, frame: &[u8], head: Head, elements: usize) -> Option<&[u8]> {
    let ranges = encoding.split_array(frame).ok()?;
    let last = ranges.get(1 + elements)?;
    let header = frame.get(head.at..last.end)?;
    (header.len() <= HEADER_BYTES).then_some(header)
}

impl WampMachine {
    /// Takes a message of an open session, and remembers its header if it is one that may come again.
    pub(super) fn take_in_session(&mut self, now: Now, frame: Bytes) {
        // Where ids must be in turn, that is looked at with the message.
        if self.strict.request_ids {
            return self.take_unknown(now, frame);
        }
        let Some(frame) = self.take_known(frame) else {
            return;
        };
        let kept = self.known.wants().then(|| frame.clone());
        let before = self.actions.len();
        self.take_unknown(now, frame);
        if let Some(frame) = kept.filter(|_| self.actions.len() == before + 1) {
            self.learn(&frame);
        }
    }

    /// Takes a message whose header is known; gives back any other one.
    fn take_known(&mut self, frame: Bytes) -> Option<Bytes> {
        let encoding = self.encoding;
        let Some(head) = codec::head(encoding, &frame) else {
            return Some(frame);
        };
        let Some((asks, at)) = self.known.find(head, &frame) else {
            return Some(frame);
        };
        let Some(tail) = codec::tail(encoding, &frame, (head, asks.elements(), at)) else {
            return Some(frame);
        };
        let payload = Payload::args(encoding, tail.of(frame));
        let command = asks.command(head.request, payload);
        self.actions.push_back(Action::Command(command));
        None
    }

    /// Remembers the header of a message that the long way made the latest of `actions` out of.
    fn learn(&mut self, frame: &[u8]) {
        let Some(Action::Command(command)) = self.actions.back() else {
            return;
        };
        let Some((head, asks)) = codec::head(self.encoding, frame).zip(Asks::of(command)) else {
            return;
        };
        if let Some(header) = header(self.encoding, frame, head, asks.elements()) {
            self.known.learn(head.code, header, asks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YIELD: u64 = 70;

    fn yields() -> Asks {
        Asks::Yield { progress: false }
    }

    /// Whether a header is known, and of what progress.
    fn finds(known: &mut Known, bytes: &[u8]) -> bool {
        let head = Head {
            code: YIELD,
            request: 1,
            at: 0,
            elements: None,
        };
        known.find(head, bytes).is_some()
    }

    #[test]
    fn as_many_headers_are_known_as_there_is_room_for() {
        let mut known = Known::default();
        let name = |n: usize| format!("{{\"{n:03}\":1}}").into_bytes();
        for n in 0..3 * ENTRIES {
            known.learn(YIELD, &name(n), yields());
        }
        let found: Vec<bool> = (0..3 * ENTRIES)
            .map(|n| finds(&mut known, &name(n)))
            .collect();
        assert_eq!(found.iter().filter(|found| **found).count(), ENTRIES);
        assert!(found[2 * ENTRIES..].iter().all(|found| *found));
        assert_eq!(known.entries.len(), ENTRIES);
    }

    #[test]
    fn headers_that_never_come_again_are_looked_at_closer_and_closer_apart() {
        let mut known = Known::default();
        let mut learned = 0;
        for n in 0..1000_usize {
            if known.wants() {
                known.learn(YIELD, format!("{{\"{n:04}\":1}}").as_bytes(), yields());
                learned += 1;
            }
        }
        assert!((ENTRIES..150).contains(&learned), "{learned}");
        // One that stays is known again soon.
        let mut asked = 0;
        while !finds(&mut known, b"{}") {
            asked += 1;
            if known.wants() {
                known.learn(YIELD, b"{}", yields());
            }
        }
        assert!(asked <= PATIENCE + 1, "{asked}");
    }

    #[test]
    fn a_header_of_another_kind_of_message_is_not_the_same() {
        let mut known = Known::default();
        known.learn(PUBLISH, b"{}", yields());
        assert!(!finds(&mut known, b"{}"));
    }

    #[test]
    fn a_long_header_is_read_each_time() {
        let head = |frame: &[u8]| codec::head(Encoding::Json, frame);
        for (length, is_kept) in [(10, true), (HEADER_BYTES, false)] {
            let frame = format!(r#"[16,1,{{}},"{}"]"#, "a".repeat(length)).into_bytes();
            let found = header(Encoding::Json, &frame, head(&frame).unwrap(), 2);
            assert_eq!(found.is_some(), is_kept);
        }
    }
}
