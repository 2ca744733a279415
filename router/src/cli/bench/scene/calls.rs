//! Scenarios of calls: procedures that echo, keys, and locks.

use super::super::line::Line;
use super::super::outcome::Outcome;
use super::super::peer::Heard;
use super::super::role::{Asker, Bystander, Locker, Locks, Question};
use super::super::settings::Operation;
use super::super::stamp::Stamp;
use super::super::topic::Filter;
use super::super::wamp::WampPeer;
use super::Scene;
use crate::cli::bench::door::Door as _;
use crate::cli::failure::Failure;
use bytestring::ByteString;
use protocols::mqtt::packet::QoS;
use serde_json::Value;
use std::rc::Rc;

const PUT: &str = "fox.kv.put";
const GET: &str = "fox.kv.get";
const DELETE: &str = "fox.kv.delete";

/// Requests of the preparation that wait for their answer at a time.
const AT_ONCE: usize = 64;

impl Scene<'_> {
    /// `call`
    pub(super) async fn calls(&self) -> Result<Outcome, Failure> {
        let door = self.wamp(QoS::AtMostOnce)?;
        let register = async |index: usize, line: &mut Line<WampPeer>| {
            let procedures = self.plan.subscribers.get(index);
            let procedures = procedures.map_or(&[][..], Vec::as_slice);
            line.peer.register(procedures, &mut line.out);
            let mut left = procedures.len();
            line.until(self.settings.patience, &mut |heard| {
                if let Heard::Confirmed(count) = heard {
                    left = left.saturating_sub(count);
                }
                Ok(left == 0)
            })
            .await?;
            Ok((Bystander, Rc::default()))
        };
        let callees = self.plan.subscribers.len();
        self.open(&door, callees, 's', register).await?;
        self.ask(Question::Echo).await?;
        self.finish().await
    }

    /// `kv`
    pub(super) async fn keys(&self) -> Result<Outcome, Failure> {
        let measured = self.asked().await;
        // Whatever came of it, nothing is left behind.
        let erased = self.each_key(DELETE, false).await;
        let outcome = measured?;
        erased?;
        Ok(outcome)
    }

    async fn asked(&self) -> Result<Outcome, Failure> {
        let question = match self.settings.op {
            Operation::Put => Question::Put,
            Operation::Get => {
                self.each_key(PUT, true).await?;
                Question::Get
            }
        };
        self.ask(question).await?;
        self.finish().await
    }

    /// `lock`
    pub(super) async fn locks(&self) -> Result<Outcome, Failure> {
        let topics = 0..self.settings.topics;
        let keys = topics.map(|at| self.plan.streams.get(at).map(uri));
        let keys = keys.flatten().map(|key| key.to_string()).collect();
        let locks = Rc::new(Locks::new(keys));
        let prepare = async |index: usize, line: &mut Line<WampPeer>| {
            let encoding = line.peer.encoding();
            let share = self.share(index);
            let locker = Locker::new(self.run.clone(), share, encoding, locks.clone());
            Ok((locker, self.bell(index)))
        };
        let door = self.wamp(QoS::AtMostOnce)?;
        self.open(&door, self.settings.publishers, 'p', prepare)
            .await?;
        self.finish().await
    }

    async fn finish(&self) -> Result<Outcome, Failure> {
        let mut phases = self.phases();
        let span = phases.load(self.settings.extent).await?;
        phases.leave().await?;
        Ok(Outcome::new(self.settings, &self.run, &span))
    }

    /// Opens the clients that ask.
    async fn ask(&self, question: Question) -> Result<(), Failure> {
        let prepare = async |index: usize, line: &mut Line<WampPeer>| {
            let topics = self.plan.topics(index);
            let calls: Vec<_> = topics.iter().map(|topic| call(question, topic)).collect();
            let is_stamped = question != Question::Get;
            line.peer.aim_calls(&calls, is_stamped, &self.padding);
            let asker = Asker::new(
                self.run.clone(),
                self.share(index),
                question,
                line.peer.encoding(),
                self.padding.clone(),
                calls.len(),
            );
            Ok((asker, self.bell(index)))
        };
        let door = self.wamp(QoS::AtMostOnce)?;
        self.open(&door, self.settings.publishers, 'p', prepare)
            .await?;
        Ok(())
    }

    /// Calls a procedure once for each key.
    async fn each_key(&self, procedure: &str, is_stamped: bool) -> Result<(), Failure> {
        let mut keys: Vec<ByteString> = self.plan.streams.iter().map(uri).collect();
        keys.truncate(self.settings.topics);
        let stamp = Stamp {
            time: 0,
            stream: 0,
            sequence: 0,
        };
        let text = [&stamp.write()[..], &self.padding].concat();
        let text = is_stamped.then(|| String::from_utf8_lossy(&text).into_owned());
        let mut line = self.wamp(QoS::AtMostOnce)?.open("").await?;
        for keys in keys.chunks(AT_ONCE) {
            for key in keys {
                let args =
                    std::iter::once(Value::from(&**key)).chain(text.clone().map(Value::from));
                let args: Vec<Value> = args.collect();
                line.peer.call(procedure, &args, &mut line.out);
            }
            let mut left = keys.len();
            line.until(self.settings.patience, &mut |heard| {
                left -= usize::from(matches!(heard, Heard::Answer { .. }));
                Ok(left == 0)
            })
            .await?;
        }
        Ok(())
    }
}

fn uri(topic: &Filter) -> ByteString {
    topic.wamp().uri
}

/// Which procedure a question calls, and what it gets in front of the stamped text.
fn call(question: Question, topic: &Filter) -> (ByteString, Vec<Value>) {
    let key = || vec![Value::from(&*uri(topic))];
    match question {
        Question::Echo => (uri(topic), Vec::new()),
        Question::Put => (PUT.into(), key()),
        Question::Get => (GET.into(), key()),
    }
}
