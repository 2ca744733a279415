//! Ourselves: the raw primitive over WebSocket and JSON.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Client, Service};
use crate::Server;
use crate::wamp::Session;

/// A running router.
pub struct Reynard(pub Server);

impl Service for Reynard {
    fn name(&self) -> String {
        "Reynard (acknowledged when synced, group commit)".to_owned()
    }

    fn client(&self) -> Result<Box<dyn Client>> {
        let mut session = Session::join(self.0.listen, "realm1")?;
        session.socket().set_patience(super::ANSWER)?;
        Ok(Box::new(session))
    }
}

impl Client for Session {
    fn lock(&mut self, key: &str) -> Result<()> {
        let options = json!({"retain": true, "when": null, "will": null, "watch": true});
        self.publish(key, json!([]), json!({"holder": self.id}), options)?;
        Ok(())
    }

    fn unlock(&mut self, key: &str) -> Result<()> {
        self.publish(key, json!([]), Value::Null, json!({"retain": true}))?;
        Ok(())
    }

    fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.publish(key, json!([value]), Value::Null, json!({"retain": true}))?;
        Ok(())
    }
}
