//! `put`, `delete` and `cas`: retained publishes in the name of the caller, who receives their events
//! too if he is subscribed. The check of a token and the write are one step.

use super::options::Asked;
use crate::model::{Now, Payload, Publish, PublishOptions, Qos, Refusal, Topic};
use crate::realm::own_calls::{Caller, Waits};
use crate::realm::{Effects, Realm};
use serde_json::Value;

impl Realm {
    pub(super) fn put_key(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let mut publish = self.write_of(asked, 1)?;
        let options = PublishOptions {
            trace: asked.flag("trace")?.unwrap_or(false),
            when: asked.any("when").cloned(),
            watch: asked.flag("watch")?.unwrap_or(false),
            watch_timeout: asked.millis("watch_timeout")?,
            will: asked.any("will").cloned(),
            will_scope: asked.will_scope()?,
            merge: asked.flag("merge")?.unwrap_or(false),
            ..PublishOptions::default()
        };
        if options.trace {
            publish.qos = Qos::AtLeastOnce;
        }
        publish.options = Some(Box::new(options));
        self.may_write(caller, &publish)?;
        self.carry_out_call(now, caller, publish, None, effects);
        Ok(())
    }

    pub(super) fn delete_key(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let publish = publish_to(self.key_of(asked)?, &Value::Null);
        let expected = asked.whole("token")?;
        self.may_write(caller, &publish)?;
        self.purge_if_expired(now, &publish.topic, effects);
        let existed = self.kv.get(&publish.topic).is_some();
        match expected {
            Some(token) if !self.has_token(&publish.topic, token) => {
                self.conflict(caller, &publish.topic, effects);
            }
            _ => self.carry_out_call(now, caller, publish, Some(existed), effects),
        }
        Ok(())
    }

    pub(super) fn cas_key(
        &mut self,
        now: Now,
        caller: Caller,
        asked: &Asked,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let token = asked.number(1, "the second argument must be a token")?;
        let publish = self.write_of(asked, 2)?;
        self.may_write(caller, &publish)?;
        self.purge_if_expired(now, &publish.topic, effects);
        if self.has_token(&publish.topic, token) {
            self.carry_out_call(now, caller, publish, None, effects);
        } else {
            self.conflict(caller, &publish.topic, effects);
        }
        Ok(())
    }

    /// A write of the value at this place of the arguments, with its lifetime.
    fn write_of(&self, asked: &Asked, at: usize) -> Result<Publish, Refusal> {
        let key = self.key_of(asked)?;
        let value = asked.value(at, "the value is missing; null deletes")?;
        let mut publish = publish_to(key, value);
        publish.expiry = asked.ttl()?;
        Ok(publish)
    }

    fn may_write(&self, caller: Caller, publish: &Publish) -> Result<(), Refusal> {
        self.may_publish(caller.place, publish)
            .map_err(|(kind, message)| {
                Refusal::new(kind, message).about(self.about_key(&publish.topic))
            })
    }

    /// Whether the key is as it was when this token was read. 0 stands for any absent key.
    fn has_token(&self, key: &Topic, token: u64) -> bool {
        let is_absent = self.kv.get(key).is_none();
        token == self.kv.last_token(key).0 || (token == 0 && is_absent)
    }

    fn conflict(&mut self, caller: Caller, key: &Topic, effects: &mut Effects) {
        self.counters.conditions_failed += 1;
        let Caller { place, request, .. } = caller;
        let message = "the key has another token";
        self.fail_conflict(place, request, key, message, effects);
    }

    /// Makes the write, or lets it wait; its answer answers the call.
    fn carry_out_call(
        &mut self,
        now: Now,
        caller: Caller,
        mut publish: Publish,
        existed: Option<bool>,
        effects: &mut Effects,
    ) {
        publish.request = Some(caller.request);
        let waits = Waits::Write {
            key: publish.topic.clone(),
            existed,
        };
        self.open_own_call(now, caller, waits, None);
        self.write(now, caller.place, Box::new(publish), effects);
    }
}

fn publish_to(key: Topic, value: &Value) -> Publish {
    Publish {
        retain: true,
        exclude_me: false,
        ..Publish::new(key, Payload::from_value(value))
    }
}
