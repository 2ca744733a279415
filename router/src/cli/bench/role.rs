//! What connections do in a run: publish, listen, ask, or compete for locks.

mod asker;
mod listener;
mod locker;
mod publisher;

pub(super) use asker::{Asker, Question};
pub(super) use listener::Listener;
pub(super) use locker::{Locker, Locks};
pub(super) use publisher::Publisher;

use super::line::Role;
use super::pace::Pace;
use super::peer::Heard;
use super::settings::Rhythm;
use bytes::BytesMut;

/// Does nothing: answers to calls and signs of life come from the peer itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bystander;

impl<P> Role<P> for Bystander {
    fn hear(&mut self, _heard: Heard<'_>, _now: u64) -> Result<(), String> {
        Ok(())
    }

    fn fill(&mut self, _peer: &mut P, _out: &mut BytesMut) -> Result<Option<u64>, String> {
        Ok(None)
    }
}

/// The part of one sender in the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Which of the senders it is.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// How all of them send.
    pub rhythm: Rhythm,
    /// How many messages it sends; `None`: until the time is over.
    pub limit: Option<u64>,
}

impl Share {
    /// Its pace in a run that began at `start`.
    fn pace(&self, start: u64) -> Pace {
        match self.rhythm {
            Rhythm::Window(window) => Pace::Window(window),
            Rhythm::Rate(rate) => Pace::shared_rate(rate, self.index, self.count, start),
        }
    }

    /// How many messages it has left to send.
    fn left(&self, sent: u64) -> u64 {
        self.limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(sent))
    }

    /// When to look again without an event: nothing tells of a time that has come.
    fn next(&self, pace: &Pace, sent: u64, now: u64) -> Option<u64> {
        if self.left(sent) == 0 {
            return None;
        }
        // What is due already waits for something else.
        pace.next(sent).filter(|time| *time > now)
    }
}

/// The parts of `total` among `count` senders, as equal as can be.
pub(super) fn part(total: u64, index: usize, count: usize) -> u64 {
    let (index, count) = (index as u64, count.max(1) as u64);
    total / count + u64::from(index < total % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shared_out_to_the_last() {
        let parts: Vec<u64> = (0..4).map(|index| part(10, index, 4)).collect();
        assert_eq!(parts, [3, 3, 2, 2]);
        assert_eq!(part(1, 3, 4), 0);
    }

    #[test]
    fn a_sender_waits_for_its_next_time_and_not_for_one_that_has_passed() {
        let share = Share {
            index: 0,
            count: 1,
            rhythm: Rhythm::Rate(1000.0),
            limit: Some(5),
        };
        let pace = share.pace(0);
        assert_eq!(share.next(&pace, 2, 1500), Some(2000));
        assert_eq!(share.next(&pace, 2, 2000), None);
        assert_eq!(share.next(&pace, 5, 0), None);
    }
}
