//! Bridges to other MQTT brokers: one task each that connects, lets the driver run the connection
//! (the protocol is [`protocols::mqtt::bridge`]), and waits before it tries again.
//!
//! * [`spec`](self::spec): what a bridge is made of, from the configuration;
//! * [`known`](self::known): what must outlive the process beside the realm's own records;
//! * [`link`](self::link): the task;
//! * [`status`](self::status): figures, log lines and the state that clients can read.
//!
//! The session of each bridge and its subscriptions exist before the first client is served, so
//! that nothing is missed while the peer has never been reached.

mod known;
mod link;
mod spec;
mod status;

pub(crate) use status::Status;

use crate::config::{Config, DataStore};
use crate::router::Router;
use known::Known;
use spec::Spec;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Starts every bridge of the configuration: makes their sessions, then connects in the
/// background until the router drains. Each task holds a clone of `alive` until it has ended. Must
/// be called within a tokio runtime, once for a router, before clients are let in. Blocks for as
/// long as reading and writing a small file takes.
pub(crate) fn start(router: &Router, config: &Config, alive: &mpsc::Sender<()>) {
    let directory = match &config.data {
        DataStore::Directory(path) => Some(path.as_path()),
        DataStore::Memory => None,
    };
    let mut known = Known::read(directory);
    let router_id = match &config.bridge_id {
        Some(id) => id.clone(),
        None => known.router_id(),
    };
    // Bridges that come from elsewhere are told it too.
    router.set_router_id(&router_id);
    if config.bridges.is_empty() && known.is_empty() {
        return;
    }
    let specs: Vec<Spec> = config
        .bridges
        .iter()
        .filter_map(|bridge| Spec::new(router, config, bridge, &router_id))
        .collect();
    let gone = known.note_all(&specs);
    // Before the sessions are made, so that whatever is made is known.
    known.write(directory);
    for (name, realm) in &gone {
        link::end_session(router, realm, name);
    }
    known.forget_bridges(&specs);
    let mut states = Vec::new();
    for spec in specs {
        let former = known.former_local(&spec);
        let spec = Arc::new(spec);
        link::make_session(router, &spec, &former);
        let status = Arc::new(Status::new(router, &spec));
        states.push(status.clone());
        let stale = known.former_remote(&spec);
        let task = link::Link::new(router.clone(), spec, status, stale);
        let alive = alive.clone();
        tokio::spawn(async move {
            task.run().await;
            drop(alive);
        });
    }
    known.write(directory);
    router.set_bridges(states);
}
