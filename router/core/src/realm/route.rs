//! What a publish found out about its topic, kept for the session's next one to the same topic.
//!
//! Most publishers say many things under few topics. Whether a session may publish there depends on its role, which it
//! keeps; whether it is remembered on rules that do not change; who listens on the subscriptions, whose
//! [`revision`](crate::broker::Subscriptions::revision) tells whether that is still so.

use super::Realm;
use crate::matcher::Found;
use crate::model::Topic;

/// Where events under a topic go.
#[derive(Debug)]
pub(crate) struct Route {
    topic: Topic,
    revision: u64,
    /// A rule says that they are remembered.
    pub is_remembered: bool,
    /// The slots of the subscriptions that match.
    pub found: Found,
}

impl Realm {
    pub(super) fn find_route(&self, topic: &Topic) -> Route {
        Route {
            topic: topic.clone(),
            revision: self.subscriptions.revision(),
            is_remembered: self.history.has_rule(topic),
            found: self.subscriptions.matching(topic),
        }
    }

    /// The route of the session's last publish if it leads to `topic`: then the session may publish there.
    pub(super) fn take_route(&mut self, place: usize, topic: &Topic) -> Option<Box<Route>> {
        let revision = self.subscriptions.revision();
        let session = self.sessions.get_mut(place)?;
        let leads = |route: &mut Box<Route>| route.revision == revision && route.topic == *topic;
        session.route.take_if(leads)
    }

    pub(super) fn keep_route(&mut self, place: usize, route: Box<Route>) {
        if let Some(session) = self.sessions.get_mut(place) {
            session.route = Some(route);
        }
    }
}
