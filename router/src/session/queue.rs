//! Bounded queues between the session's task and the program.
//!
//! All queues of a session share one [`Budget`], as large as the outbox of a connection. The task
//! never waits for the program: an answer may stand behind events that the program does not read
//! because it waits for that answer. So a full budget ends the session instead.

use parking_lot::Mutex;
use router_core::limits::LaneLimit;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// What may wait in all queues of a session together.
#[derive(Debug)]
pub(super) struct Budget {
    limit: LaneLimit,
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    pub fn new(limit: LaneLimit) -> Budget {
        Budget {
            limit,
            frames: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Answers whether that fits. One item larger than the whole bound still passes alone.
    fn take(&self, cost: usize) -> bool {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self
            .bytes
            .fetch_add(cost, Ordering::Relaxed)
            .saturating_add(cost);
        frames <= self.limit.frames && (bytes <= self.limit.bytes || frames == 1)
    }

    fn give_back(&self, frames: usize, cost: usize) {
        self.frames.fetch_sub(frames, Ordering::Relaxed);
        self.bytes.fetch_sub(cost, Ordering::Relaxed);
    }
}

/// Items in order, with an end.
#[derive(Debug)]
pub(super) struct Queue<T> {
    budget: Arc<Budget>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    closed: bool,
    waker: Option<Waker>,
}

/// Full: the session must end. The item was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T> Queue<T> {
    pub fn new(budget: Arc<Budget>) -> Queue<T> {
        let state = State {
            items: VecDeque::new(),
            closed: false,
            waker: None,
        };
        Queue {
            budget,
            state: Mutex::new(state),
        }
    }

    /// Appends, unless the queue was closed.
    pub fn push(&self, item: T, cost: usize) -> Result<(), Full> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        if !self.budget.take(cost) {
            self.budget.give_back(1, cost);
            return Err(Full);
        }
        state.items.push_back((item, cost));
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// Nothing more will come; what waits can still be taken.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// The next item; `None` at the end.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.state.lock();
        if let Some((item, cost)) = state.items.pop_front() {
            self.budget.give_back(1, cost);
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        let items = &self.state.get_mut().items;
        self.budget
            .give_back(items.len(), items.iter().map(|(_, cost)| cost).sum());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(frames: usize, bytes: usize) -> (Arc<Budget>, Queue<u8>) {
        let budget = Arc::new(Budget::new(LaneLimit { frames, bytes }));
        (budget.clone(), Queue::new(budget))
    }

    fn next(queue: &Queue<u8>) -> Poll<Option<u8>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn items_come_in_order_and_then_the_end() {
        let (_, queue) = queue(9, 99);
        assert_eq!(next(&queue), Poll::Pending);
        queue.push(1, 1).unwrap();
        queue.push(2, 1).unwrap();
        queue.close();
        queue.push(3, 1).unwrap();
        let found: Vec<_> = (0..3).map(|_| next(&queue)).collect();
        assert_eq!(
            found,
            [
                Poll::Ready(Some(1)),
                Poll::Ready(Some(2)),
                Poll::Ready(None)
            ]
        );
    }

    #[test]
    fn all_queues_share_the_bound_and_give_back_what_they_held() {
        let (budget, first) = queue(2, 10);
        let second = Queue::new(budget.clone());
        first.push(1, 4).unwrap();
        second.push(1, 4).unwrap();
        assert_eq!(first.push(2, 1), Err(Full));
        assert_eq!(next(&second), Poll::Ready(Some(1)));
        assert_eq!(first.push(2, 7), Err(Full));
        first.push(2, 6).unwrap();
        drop(first);
        assert_eq!(budget.frames.load(Ordering::Relaxed), 0);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_huge_item_passes_alone() {
        let (_, queue) = queue(2, 10);
        queue.push(1, 1_000).unwrap();
        assert_eq!(queue.push(2, 1), Err(Full));
    }
}
