//! A router whose state grows along one axis, and the pair that measures it.

use anyhow::{Context, Result, bail, ensure};

use super::Axis;
use crate::measure::process::{cpu_time, resident_bytes};
use crate::measure::report::record::Point;
use crate::measure::wire::{Incoming, Wire};
use crate::mqtt::Connect;
use crate::{Options, PATIENCE, Server};

/// Limits beyond every size, and nothing that is written on its own.
const CONFIG: &str = "
[limits]
max_connections_per_listener = 1000000
max_realms = 1000000
max_subscriptions_per_session = 10000000

[mqtt]
sys_interval_secs = 0
";

const PAYLOAD: &[u8] = b"sixteen bytes---";

/// Messages or subscriptions under way.
const WINDOW: u64 = 256;

/// A prime, so that the messages of one window lie far from each other.
const STRIDE: u64 = 7_919;

/// The field of one axis.
pub(super) struct Field {
    axis: Axis,
    size: u64,
    server: Server,
    publisher: Wire,
    subscriber: Wire,
    /// Connections that are only there.
    crowd: Vec<Wire>,
}

impl Field {
    /// A fresh router.
    pub(super) fn new(axis: Axis) -> Result<Self> {
        let server = Server::start(Options::default().memory().config(CONFIG))?;
        let addr = server.mqtt_addr()?;
        let connect = |name| -> Result<Wire> {
            let (wire, _) = Wire::connect(addr, &Connect::v4(name))?;
            wire.set_patience(PATIENCE)?;
            Ok(wire)
        };
        let mut field = Self {
            axis,
            size: 0,
            publisher: connect("publisher")?,
            subscriber: connect("subscriber")?,
            server,
            crowd: Vec::new(),
        };
        match axis {
            Axis::Retained => subscribe(&mut field.subscriber, &["k/#".to_owned()])?,
            Axis::Connections | Axis::Realms => {
                subscribe(&mut field.subscriber, &["measured".to_owned()])?;
            }
            Axis::Filters | Axis::Depth => {}
        }
        Ok(field)
    }

    /// Lets the state become so large.
    pub(super) fn grow(&mut self, size: u64) -> Result<()> {
        let new: Vec<u64> = (self.size..size).collect();
        self.size = size;
        match self.axis {
            Axis::Filters => {
                for some in new.chunks(WINDOW as usize) {
                    let filters: Vec<String> = some.iter().copied().map(filter).collect();
                    subscribe(&mut self.subscriber, &filters)?;
                }
                Ok(())
            }
            Axis::Retained => self.send(&new),
            Axis::Connections => new.into_iter().try_for_each(|n| {
                let connect = Connect::v4(&format!("idle-{n}"));
                self.join_crowd(&connect, n)
            }),
            Axis::Realms => new.into_iter().try_for_each(|n| {
                let connect = Connect::v4("alone").login(&format!("somebody@realm-{n}"), "");
                self.join_crowd(&connect, n)
            }),
            Axis::Depth => subscribe(&mut self.subscriber, &[deep(size, "+")]),
        }
    }

    fn join_crowd(&mut self, connect: &Connect, n: u64) -> Result<()> {
        let (mut wire, _) = Wire::connect(self.server.mqtt_addr()?, connect)?;
        wire.set_patience(PATIENCE)?;
        subscribe(&mut wire, &[format!("idle/{n}")])?;
        wire.forget_buffers();
        self.crowd.push(wire);
        Ok(())
    }

    /// Sends so many messages, and some before that which do not count.
    pub(super) fn measure(&mut self, messages: u64) -> Result<Point> {
        let numbers: Vec<u64> = (0..messages).map(|at| self.number(at)).collect();
        self.send(&numbers[..numbers.len() / 10])?;
        let before = cpu_time(self.server.pid())?;
        self.send(&numbers)?;
        let cpu = cpu_time(self.server.pid())? - before;
        Ok(Point {
            axis: self.axis,
            size: self.size,
            messages,
            cpu_us: cpu.as_secs_f64() * 1e6 / messages.max(1) as f64,
            resident_bytes: resident_bytes(self.server.pid())?,
        })
    }

    /// Which of the filters or keys a message is for.
    const fn number(&self, at: u64) -> u64 {
        at.wrapping_mul(STRIDE) % self.size
    }

    fn topic(&self, n: u64) -> String {
        match self.axis {
            Axis::Filters => topic(n),
            Axis::Retained => format!("k/{}/{n}", n % 1_000),
            Axis::Connections | Axis::Realms => "measured".to_owned(),
            Axis::Depth => deep(self.size, "b"),
        }
    }

    /// Publishes one message for each number; each must arrive before the next window.
    fn send(&mut self, numbers: &[u64]) -> Result<()> {
        let first = match self.axis {
            Axis::Retained => 0x31,
            _ => 0x30,
        };
        for some in numbers.chunks(WINDOW as usize) {
            for n in some {
                self.publisher.publish(&self.topic(*n), PAYLOAD, first, 0);
            }
            self.publisher.flush()?;
            for n in some {
                let Some(Incoming::Publish(message, _)) = self.subscriber.read()? else {
                    bail!("{:?} {}: no message", self.axis, self.size);
                };
                let topic = self.topic(*n);
                ensure!(message.topic == topic, "{} for {topic}", message.topic);
            }
        }
        Ok(())
    }
}

/// The filter of this number, of four kinds in turn.
fn filter(n: u64) -> String {
    match n % 4 {
        0 => format!("g/{n}/s"),
        1 => format!("g/{n}/+"),
        2 => format!("g/+/{n}"),
        _ => format!("g/{n}/#"),
    }
}

/// A topic that this filter matches, and no other.
fn topic(n: u64) -> String {
    match n % 4 {
        2 => format!("g/s/{n}"),
        _ => format!("g/{n}/s"),
    }
}

/// Wildcards that the router takes in one filter.
const WILDCARDS: u64 = 16;

/// So many levels, every second of them as given as long as a filter may have wildcards.
fn deep(levels: u64, second: &str) -> String {
    let levels = (0..levels).map(|level| match level % 2 {
        1 if level < 2 * WILDCARDS => second,
        _ => "a",
    });
    levels.collect::<Vec<_>>().join("/")
}

/// Subscribes and waits until all of it is granted.
fn subscribe(wire: &mut Wire, filters: &[String]) -> Result<()> {
    for filter in filters {
        wire.subscribe(filter, 0);
    }
    wire.flush()?;
    for filter in filters {
        match wire.read()?.context("closed instead of SUBACK")? {
            Incoming::SubAck(0) => {}
            other => bail!("{other:?} for {filter}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_level_is_the_given_one() {
        assert_eq!(deep(1, "+"), "a");
        assert_eq!(deep(5, "+"), "a/+/a/+/a");
        assert_eq!(deep(200, "+").matches('+').count(), 16);
    }

    #[test]
    fn a_topic_matches_its_filter_and_no_other() {
        let matches = |filter: &str, topic: &str| {
            let mut levels = topic.split('/');
            filter.split('/').all(|part| match levels.next() {
                Some(level) => part == "+" || part == "#" || part == level,
                None => false,
            })
        };
        for n in 0..40 {
            let matching = (0..40).filter(|other| matches(&filter(*other), &topic(n)));
            assert_eq!(matching.collect::<Vec<_>>(), [n]);
        }
    }
}
