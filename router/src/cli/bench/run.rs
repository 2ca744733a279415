//! What all connections of a run share: its stage, its clock, and what was counted. Everything is
//! on one thread.

use super::check::{Counts, Track};
use super::flow::Flow;
use super::stamp::Stamp;
use crate::cli::failure::Failure;
use futures_util::task::AtomicWaker;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::Notify;

/// The longest latency that is told apart, an hour in microseconds.
const LATENCY_MAX: u64 = 3_600_000_000;
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// Nothing recorded yet.
///
/// # Errors
/// The bounds are wrong.
pub(super) fn latencies() -> Result<Histogram<u64>, Failure> {
    let histogram = Histogram::new_with_bounds(1, LATENCY_MAX, LATENCY_DIGITS);
    histogram.map_err(|error| Failure::failed(error.to_string()))
}

/// What connections are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing yet.
    Opening,
    /// Send.
    Running,
    /// Send nothing new.
    Draining,
    /// Delete what was kept.
    Erasing,
    /// Ask for a sign of life, behind which nothing comes.
    Asking,
    /// Say goodbye.
    Leaving,
}

/// What was counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// In microseconds.
    pub latency: Histogram<u64>,
    /// Arrivals.
    pub counts: Counts,
    /// Messages that nobody of this run sent.
    pub strange: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Run {
    began: Instant,
    /// Of publishers, by their place.
    pub flows: Vec<Flow>,
    /// stream -> its publisher
    owners: Vec<u32>,
    pub tally: RefCell<Tally>,
    stage: Cell<Stage>,
    start: Cell<u64>,
    /// From when latencies count, if not from the times of the messages.
    asked: Cell<Option<u64>>,
    heard: Cell<u64>,
    beats: Cell<u64>,
    erased: Cell<u64>,
    quiet: Cell<usize>,
    ended: Cell<usize>,
    failure: RefCell<Option<Failure>>,
    bells: RefCell<Vec<Rc<AtomicWaker>>>,
    news: Notify,
}

impl Run {
    /// A run with these publishers and streams.
    ///
    /// # Errors
    /// There is no histogram.
    pub(super) fn new(flows: Vec<Flow>, owners: Vec<u32>) -> Result<Run, Failure> {
        let latency = latencies()?;
        Ok(Run {
            began: Instant::now(),
            flows,
            owners,
            tally: RefCell::new(Tally {
                latency,
                counts: Counts::default(),
                strange: 0,
            }),
            stage: Cell::new(Stage::Opening),
            start: Cell::new(0),
            asked: Cell::new(None),
            heard: Cell::new(0),
            beats: Cell::new(0),
            erased: Cell::new(0),
            quiet: Cell::new(0),
            ended: Cell::new(0),
            failure: RefCell::default(),
            bells: RefCell::default(),
            news: Notify::new(),
        })
    }

    /// Microseconds since the run was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What connections are to do.
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When publishers began.
    pub(super) fn start(&self) -> u64 {
        self.start.get()
    }

    /// What was sent long ago is asked for now: latencies count from here.
    pub(super) fn ask(&self) {
        self.asked.set(Some(self.now()));
    }

    /// All connections do something else from now on.
    pub(super) fn enter(&self, stage: Stage) {
        if stage == Stage::Running {
            self.start.set(self.now());
        }
        self.stage.set(stage);
        self.ring();
    }

    /// All connections show that they live.
    pub(super) fn beat(&self) {
        self.beats.set(self.beats.get() + 1);
        self.ring();
    }

    /// How often they were to show it.
    pub(super) fn beats(&self) -> u64 {
        self.beats.get()
    }

    /// Adds what wakes one more connection.
    pub(super) fn hang(&self, bell: Rc<AtomicWaker>) {
        self.bells.borrow_mut().push(bell);
    }

    fn ring(&self) {
        for bell in self.bells.borrow().iter() {
            bell.wake();
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.bells.borrow().len()
    }

    /// Something came; how much tells whether the run goes on.
    pub(super) fn hear(&self) {
        self.heard.set(self.heard.get() + 1);
    }

    /// How much came.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// A deletion was acknowledged.
    pub(super) fn erase(&self) {
        self.erased.set(self.erased.get() + 1);
        self.news.notify_one();
    }

    /// How many deletions were acknowledged.
    pub(super) fn erased(&self) -> u64 {
        self.erased.get()
    }

    /// A connection has shown that it lives.
    pub(super) fn calm(&self) {
        self.quiet.set(self.quiet.get() + 1);
        self.news.notify_one();
    }

    /// How many have.
    pub(super) fn quiet(&self) -> usize {
        self.quiet.get()
    }

    /// A connection ended as it was to.
    pub(super) fn end(&self) {
        self.ended.set(self.ended.get() + 1);
        self.news.notify_one();
    }

    /// How many did.
    pub(super) fn ended(&self) -> usize {
        self.ended.get()
    }

    /// The run cannot go on. Only the first reason is kept: the others follow from it.
    pub(super) fn fail(&self, message: String) {
        let mut failure = self.failure.borrow_mut();
        failure.get_or_insert_with(|| Failure::failed(message));
        self.news.notify_one();
    }

    /// # Errors
    /// The run cannot go on.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.failure.borrow_mut().take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Waits until there may be something new. Cancel safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// A message or an answer came that had been meant for `time`.
    pub(super) fn arrived(&self, time: u64, now: u64) {
        let latency = now.saturating_sub(time).max(1);
        self.tally.borrow_mut().latency.saturating_record(latency);
    }

    /// Takes in a message that came to a receiver; answers its publisher if that is to be woken.
    pub(super) fn deliver(&self, stamp: Stamp, track: &mut Track, now: u64) -> Option<u32> {
        self.hear();
        let owner = *self.owners.get(stamp.stream as usize)?;
        let flow = self.flows.get(owner as usize)?;
        let tally = &mut *self.tally.borrow_mut();
        let time = self.asked.get().unwrap_or(stamp.time);
        let latency = now.saturating_sub(time).max(1);
        tally.latency.saturating_record(latency);
        let steps = track.arrive(stamp.sequence, &mut tally.counts);
        flow.reach(steps).then_some(owner)
    }

    /// Whether there is such a stream.
    pub(super) fn knows(&self, stream: u32) -> bool {
        (stream as usize) < self.owners.len()
    }

    /// Something came that nobody of this run sent.
    pub(super) fn stranger(&self) {
        self.tally.borrow_mut().strange += 1;
    }
}
