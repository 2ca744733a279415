//! The transports that are open, by their ids.

use parking_lot::Mutex;
use protocols::transport::Mailbox;
use protocols::wamp::machine::Serialization;
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::collections::HashMap;

/// One transport.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Where its messages are brought and taken.
    pub mailbox: Mailbox,
    /// How they stand in bodies.
    pub spoken: Serialization,
}

/// All of them: at most as many as configured, beyond which nobody is let in.
#[derive(Debug)]
pub struct Polls {
    /// Id of the transport -> it.
    open: Mutex<HashMap<String, Poll>>,
    max: usize,
}

impl Polls {
    /// None, and room for `max`.
    pub fn new(max: usize) -> Polls {
        Polls {
            open: Mutex::default(),
            max,
        }
    }

    /// Adds one under an id that cannot be guessed: who knows it has the session. `None` if there
    /// is no room, or the system has no randomness.
    pub fn add(&self, poll: Poll) -> Option<String> {
        let mut random = [0; 16];
        SysRng.try_fill_bytes(&mut random).ok()?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock();
        if open.len() >= self.max {
            return None;
        }
        open.insert(id.clone(), poll);
        Some(id)
    }

    /// The one of that id.
    pub fn find(&self, id: &str) -> Option<Poll> {
        self.open.lock().get(id).cloned()
    }

    /// Forgets one.
    pub fn remove(&self, id: &str) {
        self.open.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_and_differ_and_their_number_is_bounded() {
        let polls = Polls::new(2);
        let poll = || Poll {
            mailbox: protocols::transport::mailbox().1,
            spoken: router_core::encoding::Encoding::Json.into(),
        };
        let (a, b) = (polls.add(poll()).unwrap(), polls.add(poll()).unwrap());
        assert!(a.len() == 32 && b.len() == 32 && a != b);
        assert_eq!(polls.add(poll()), None);
        assert!(polls.find(&a).is_some());
        polls.remove(&a);
        assert!(polls.find(&a).is_none());
        assert!(polls.add(poll()).is_some());
    }
}
