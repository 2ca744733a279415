//! Calls procedures and waits for their answers.

use super::Share;
use crate::cli::bench::line::{Role, has_room};
use crate::cli::bench::peer::Heard;
use crate::cli::bench::run::{Run, Stage};
use crate::cli::bench::stamp::Stamp;
use crate::cli::bench::wamp::WampPeer;
use bytes::BytesMut;
use protocols::wamp::message::Payload;
use router_core::encoding::Encoding;
use std::collections::VecDeque;
use std::rc::Rc;

/// Calls that wait for their answer at a fixed rate, at most; more of them wait to be sent.
const WAITING_MAX: u64 = 10_000;

/// What is asked, and so how an answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::bench) enum Question {
    /// A procedure that answers with what it got.
    Echo,
    /// A write, whose answer has a token that grows.
    Put,
    /// A read of what was put there before.
    Get,
}

/// A call without an answer.
#[derive(Debug)]
struct Waiting {
    time: u64,
    sequence: u64,
    /// Which of the targets it went to.
    at: usize,
}

/// See the [module](self).
pub(in crate::cli::bench) struct Asker {
    run: Rc<Run>,
    share: Share,
    question: Question,
    encoding: Encoding,
    padding: Rc<[u8]>,
    /// The last token of each target.
    tokens: Vec<u64>,
    /// Calls by their ids, from the first without an answer on.
    waiting: VecDeque<Option<Waiting>>,
    /// The id of the first of them.
    first: u64,
    sent: u64,
}

impl Asker {
    /// One that calls its `targets` in turn.
    pub(in crate::cli::bench) fn new(
        run: Rc<Run>,
        share: Share,
        question: Question,
        encoding: Encoding,
        padding: Rc<[u8]>,
        targets: usize,
    ) -> Asker {
        Asker {
            run,
            share,
            question,
            encoding,
            padding,
            tokens: vec![0; targets.max(1)],
            waiting: VecDeque::new(),
            first: 0,
            sent: 0,
        }
    }

    /// The call with this id; nobody waits for it any more.
    fn waited_for(&mut self, request: u64) -> Option<Waiting> {
        let at = usize::try_from(request.checked_sub(self.first)?).ok()?;
        let found = self.waiting.get_mut(at)?.take();
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
        found
    }

    /// Whether the answer fits the question.
    fn fits(&mut self, waiting: &Waiting, payload: &Payload) -> bool {
        let args = payload.args.as_deref().unwrap_or_default();
        match self.question {
            Question::Echo => {
                Stamp::find(args).is_some_and(|stamp| stamp.sequence == waiting.sequence)
            }
            Question::Get => Stamp::find(args).is_some(),
            Question::Put => match token(payload, self.encoding) {
                Some(token) => {
                    self.order(waiting.at, token);
                    true
                }
                None => false,
            },
        }
    }

    /// The tokens of a key grow.
    fn order(&mut self, at: usize, token: u64) {
        if let Some(last) = self.tokens.get_mut(at) {
            if token <= *last {
                self.run.tally.borrow_mut().counts.late += 1;
            }
            *last = token;
        }
    }

    fn answered(&mut self, request: u64, payload: &Payload, now: u64) {
        self.run.hear();
        let Some(waiting) = self.waited_for(request) else {
            self.run.tally.borrow_mut().counts.doubled += 1;
            return;
        };
        if !self.fits(&waiting, payload) {
            self.run.stranger();
        }
        self.run.arrived(waiting.time, now);
        self.run.tally.borrow_mut().counts.distinct += 1;
        if let Some(flow) = self.run.flows.get(self.share.index) {
            flow.reach(1);
        }
    }
}

/// The token of an answer.
pub(super) fn token(payload: &Payload, encoding: Encoding) -> Option<u64> {
    let (args, _) = payload.to_values(encoding).ok()?;
    args.first()?.get("token")?.as_u64()
}

impl Role<WampPeer> for Asker {
    fn hear(&mut self, heard: Heard<'_>, now: u64) -> Result<(), String> {
        if let Heard::Answer { request, payload } = heard {
            self.answered(request, payload, now);
        }
        Ok(())
    }

    fn fill(&mut self, peer: &mut WampPeer, out: &mut BytesMut) -> Result<Option<u64>, String> {
        let flow = self.run.flows.get(self.share.index);
        let Some(flow) = flow.filter(|_| self.run.stage() == Stage::Running) else {
            return Ok(None);
        };
        let now = self.run.now();
        let pace = self.share.pace(self.run.start());
        let allowed = pace.allows(now, self.sent, flow.under_way());
        let room = WAITING_MAX.saturating_sub(self.waiting.len() as u64);
        let mut left = allowed.min(self.share.left(self.sent)).min(room);
        let count = self.tokens.len() as u64;
        while left > 0 && has_room(out) {
            let waiting = Waiting {
                time: pace.intended(self.sent, now),
                sequence: self.sent,
                at: (self.sent % count) as usize,
            };
            let stamp = Stamp {
                time: waiting.time,
                stream: 0,
                sequence: waiting.sequence,
            };
            let request = peer.call_stamped(waiting.at, stamp, &self.padding, out)?;
            if self.waiting.is_empty() {
                self.first = request;
            }
            self.waiting.push_back(Some(waiting));
            flow.send();
            self.sent += 1;
            left -= 1;
        }
        Ok(self.share.next(&pace, self.sent, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::flow::Flow;
    use crate::cli::bench::settings::Rhythm;
    use crate::cli::bench::wamp::Manner;
    use protocols::wamp::message::Dict;
    use router_client::{Credentials, Serializer};
    use serde_json::{Value, json};

    const JSON: Encoding = Encoding::Json;

    /// An asker that has called three times, once for each of three targets.
    fn asked(question: Question) -> Asker {
        let run = Run::new(vec![Flow::new(1, false)], vec![0]).expect("bounds");
        run.enter(Stage::Running);
        let share = Share {
            index: 0,
            count: 1,
            rhythm: Rhythm::Window(64),
            limit: Some(3),
        };
        let padding: Rc<[u8]> = Rc::from(&b""[..]);
        let mut asker = Asker::new(Rc::new(run), share, question, JSON, padding, 3);
        let mut peer = WampPeer::new(Manner {
            serializer: Serializer::Json,
            realm: "realm1".to_owned(),
            credentials: Credentials::Anonymous,
            qos: 0,
            is_mixed: false,
            size: 16,
            quiet_topic: "q".to_owned(),
        });
        let calls = ["a", "b", "c"].map(|key| ("p".into(), vec![Value::from(key)]));
        peer.aim_calls(&calls, true, b"");
        let mut out = BytesMut::new();
        assert_eq!(asker.fill(&mut peer, &mut out), Ok(None));
        assert_eq!(asker.sent, 3);
        asker
    }

    fn answer(asker: &mut Asker, request: u64, value: Value) {
        let payload = Payload::from_values(JSON, &[value], &Dict::new());
        asker.answered(request, &payload, asker.run.now());
    }

    fn text(sequence: u64) -> Value {
        let stamp = Stamp {
            time: 0,
            stream: 0,
            sequence,
        };
        String::from_utf8(stamp.write().to_vec())
            .expect("text")
            .into()
    }

    #[test]
    fn answers_may_come_in_any_order_and_each_comes_once() {
        let mut asker = asked(Question::Echo);
        for (request, sequence) in [(2, 1), (1, 0), (3, 2)] {
            answer(&mut asker, request, text(sequence));
        }
        assert_eq!(asker.run.flows[0].under_way(), 0);
        answer(&mut asker, 2, text(1));
        answer(&mut asker, 9, text(1));
        let tally = asker.run.tally.borrow();
        let counts = tally.counts;
        assert_eq!((counts.distinct, counts.doubled, tally.strange), (3, 2, 0));
    }

    #[test]
    fn an_answer_to_another_question_is_strange() {
        let mut asker = asked(Question::Echo);
        answer(&mut asker, 1, text(1));
        answer(&mut asker, 2, json!("hello"));
        assert_eq!(asker.run.tally.borrow().strange, 2);
        let mut asker = asked(Question::Put);
        answer(&mut asker, 1, json!({"key": "a"}));
        assert_eq!(asker.run.tally.borrow().strange, 1);
    }

    #[test]
    fn the_tokens_of_a_key_grow() {
        let mut asker = asked(Question::Put);
        asker.tokens = vec![7, 7, 7];
        for (request, token) in [(1, 8), (2, 7), (3, 9)] {
            answer(&mut asker, request, json!({"token": token}));
        }
        assert_eq!(asker.run.tally.borrow().counts.late, 1);
    }
}
