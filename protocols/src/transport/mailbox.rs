//! Messages between a driver and somebody in the same process who has no stream: a client that
//! comes and goes with each message, such as one that polls over HTTP.
//!
//! Both directions are bounded. What is posted waits until the driver has taken what was posted
//! before; what the driver has to say counts as not written until it is taken, and the driver takes
//! nothing from the realm meanwhile. Whoever does not come for too long is found out like any other
//! silent peer: each visit is a sign of life.

use super::{BEFORE_LOGIN_BYTES, Received, Transport};
use crate::gate::Output;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes handed out in one visit, unless a single message is longer.
const TAKEN_BYTES: usize = 256 << 10;

/// The driver's side.
#[derive(Debug)]
pub struct MailboxTransport {
    shared: Arc<Shared>,
}

/// The visitor's side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something has changed that visitors may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    incoming: VecDeque<Received>,
    outgoing: VecDeque<Bytes>,
    outgoing_bytes: usize,
    driver: Option<Waker>,
    logged_in: bool,
    /// Counts those who wait for messages: only the last one gets any.
    takers: u64,
    closed_by_visitor: bool,
    /// The driver is gone; what it said last is still there.
    ended: bool,
}

/// What a visitor takes away.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Messages, at least one.
    Messages(Vec<Bytes>),
    /// Nothing came in time, or somebody else waits instead.
    Nothing,
    /// Nothing will come any more.
    Ended,
}

/// The connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// An empty mailbox, its two sides.
#[must_use]
pub fn mailbox() -> (MailboxTransport, Mailbox) {
    let shared = Arc::<Shared>::default();
    let transport = MailboxTransport {
        shared: shared.clone(),
    };
    (transport, Mailbox { shared })
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn sign_of_life(&mut self) {
        if self.incoming.is_empty() {
            self.incoming.push_back(Received::Nothing);
        }
        self.wake_driver();
    }

    fn take(&mut self, many: bool) -> Vec<Bytes> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(first) = self.outgoing.front() {
            let fits = taken.is_empty() || (many && bytes + first.len() <= TAKEN_BYTES);
            if !fits {
                break;
            }
            bytes += first.len();
            taken.extend(self.outgoing.pop_front());
        }
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(bytes);
        taken
    }
}

impl Mailbox {
    /// What a visitor may bring at a time, in bytes, if `max` is what a session may.
    #[must_use]
    pub fn post_bytes_max(&self, max: usize) -> usize {
        match self.shared.state.lock().logged_in {
            true => max,
            false => max.min(BEFORE_LOGIN_BYTES),
        }
    }

    /// Brings messages, as soon as those before are taken. Cancel safe: all of them or none.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn post(&self, messages: Vec<Received>) -> Result<(), Ended> {
        let mut messages = Some(messages);
        self.until(|state| {
            let has_room = state
                .incoming
                .iter()
                .all(|waiting| matches!(waiting, Received::Nothing));
            if state.ended || state.closed_by_visitor {
                return Some(Err(Ended));
            }
            let messages = messages.take_if(|_| has_room)?;
            state.incoming.extend(messages);
            state.wake_driver();
            Some(Ok(()))
        })
        .await
    }

    /// Waits up to `hold` for messages and takes one of them, or `many`. Whoever waited before
    /// leaves with nothing. Cancel safe: nothing is taken that is not returned.
    pub async fn take(&self, many: bool, hold: Duration) -> Taken {
        let me = {
            let mut state = self.shared.state.lock();
            state.sign_of_life();
            state.takers += 1;
            state.takers
        };
        self.shared.changed.notify_waiters();
        let taken = self.until(|state| {
            if state.takers != me {
                return Some(Taken::Nothing);
            }
            let taken = state.take(many);
            if !taken.is_empty() {
                state.wake_driver();
                return Some(Taken::Messages(taken));
            }
            state.ended.then_some(Taken::Ended)
        });
        let taken = tokio::time::timeout(hold, taken).await;
        self.shared.state.lock().sign_of_life();
        taken.unwrap_or(Taken::Nothing)
    }

    /// Takes leave: the connection is closed.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed_by_visitor = true;
        // It takes nothing any more.
        (state.outgoing, state.outgoing_bytes) = (VecDeque::new(), 0);
        state.wake_driver();
    }

    /// Waits until the connection has ended and its last words are taken.
    pub async fn spent(&self) {
        self.until(|state| (state.ended && state.outgoing.is_empty()).then_some(()))
            .await;
    }

    /// Waits until `look` finds what it looks for.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed.
            changed.as_mut().enable();
            let (found, is_spent) = {
                let mut state = self.shared.state.lock();
                let found = look(&mut state);
                (found, state.ended && state.outgoing.is_empty())
            };
            if let Some(found) = found {
                if is_spent {
                    self.shared.changed.notify_waiters();
                }
                return found;
            }
            changed.await;
        }
    }
}

impl Transport for MailboxTransport {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let mut state = self.shared.state.lock();
        match state.incoming.pop_front() {
            Some(received) => {
                let is_empty = state.incoming.is_empty();
                drop(state);
                if is_empty {
                    self.shared.changed.notify_waiters();
                }
                Poll::Ready(Ok(received))
            }
            None if state.closed_by_visitor => Poll::Ready(Ok(Received::Closed)),
            None => {
                state.driver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn buffer(&mut self) -> Option<&mut BytesMut> {
        None
    }

    fn send(&mut self, output: Output) {
        if let Output::Bytes(message) | Output::Text(message) = output {
            let mut state = self.shared.state.lock();
            if !state.closed_by_visitor {
                state.outgoing_bytes += message.len();
                state.outgoing.push_back(message);
            }
            drop(state);
            self.shared.changed.notify_waiters();
        }
    }

    fn queued(&self) -> usize {
        self.shared.state.lock().outgoing_bytes
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.state.lock();
        if state.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_close(
        &mut self,
        _cx: &mut Context<'_>,
        _code: u16,
        _reason: &'static str,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The visitor has nothing to close: it just does not come any more.
    fn poll_discard(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        Poll::Ready(Ok(false))
    }

    fn logged_in(&mut self) {
        self.shared.state.lock().logged_in = true;
    }

    fn can_ping(&self) -> bool {
        true
    }

    /// The visitor comes by itself, or is gone.
    fn ping(&mut self) -> bool {
        true
    }
}

impl Drop for MailboxTransport {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.ended = true;
        state.incoming = VecDeque::new();
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future as _, poll_fn};

    const HOLD: Duration = Duration::from_secs(3600);

    fn text(message: &str) -> Received {
        Received::Text(Bytes::copy_from_slice(message.as_bytes()))
    }

    /// The next message that the driver reads.
    async fn read(transport: &mut MailboxTransport) -> Bytes {
        loop {
            match poll_fn(|cx| transport.poll_receive(cx)).await.unwrap() {
                Received::Text(text) => return text,
                Received::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn say(transport: &mut MailboxTransport, message: &str) {
        transport.send(Output::Text(Bytes::copy_from_slice(message.as_bytes())));
    }

    #[tokio::test]
    async fn what_is_posted_waits_until_what_was_before_is_read() {
        let (mut transport, mailbox) = mailbox();
        mailbox.post(vec![text("a"), text("b")]).await.unwrap();
        let mut later = Box::pin(mailbox.post(vec![text("c")]));
        for message in ["a", "b"] {
            let waits = poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx).is_pending())).await;
            assert!(waits, "before {message}");
            assert_eq!(read(&mut transport).await, message);
        }
        later.await.unwrap();
        assert_eq!(read(&mut transport).await, "c");
    }

    #[tokio::test]
    async fn what_is_not_taken_counts_as_queued_and_a_visit_takes_so_much() {
        let (mut transport, mailbox) = mailbox();
        let long = "x".repeat(100 << 10);
        for _ in 0..4 {
            say(&mut transport, &long);
        }
        assert_eq!(transport.queued(), 400 << 10);
        let Taken::Messages(one) = mailbox.take(false, HOLD).await else {
            panic!("nothing")
        };
        assert_eq!(one.len(), 1);
        let Taken::Messages(many) = mailbox.take(true, HOLD).await else {
            panic!("nothing")
        };
        assert_eq!(many.len(), 2);
        assert_eq!(transport.queued(), 100 << 10);
        assert!(poll_fn(|cx| Poll::Ready(transport.poll_flush(cx).is_pending())).await);
        mailbox.take(true, HOLD).await;
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn last_words_can_be_taken_after_the_end() {
        let (mut transport, mailbox) = mailbox();
        say(&mut transport, "bye");
        drop(transport);
        assert_eq!(mailbox.post(vec![text("late")]).await, Err(Ended));
        let mut spent = Box::pin(mailbox.spent());
        assert!(poll_fn(|cx| Poll::Ready(spent.as_mut().poll(cx).is_pending())).await);
        let words = Taken::Messages(vec!["bye".into()]);
        assert_eq!(mailbox.take(true, HOLD).await, words);
        spent.await;
        assert_eq!(mailbox.take(true, HOLD).await, Taken::Ended);
    }

    #[tokio::test]
    async fn the_later_of_two_visitors_gets_what_comes() {
        let (mut transport, mailbox) = mailbox();
        let mut first = Box::pin(mailbox.take(true, HOLD));
        assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
        let mut second = Box::pin(mailbox.take(true, HOLD));
        assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
        assert_eq!(first.await, Taken::Nothing);
        say(&mut transport, "a");
        assert_eq!(second.await, Taken::Messages(vec!["a".into()]));
    }

    #[tokio::test]
    async fn leave_taken_is_a_close_and_frees_what_waits() {
        let (mut transport, mailbox) = mailbox();
        say(&mut transport, "never taken");
        mailbox.close();
        assert_eq!(transport.queued(), 0);
        say(&mut transport, "nor this");
        assert_eq!(transport.queued(), 0);
        let received = poll_fn(|cx| transport.poll_receive(cx)).await.unwrap();
        assert!(matches!(received, Received::Closed), "{received:?}");
    }

    #[tokio::test]
    async fn a_visit_ends_when_its_time_is_over_and_both_ends_are_signs_of_life() {
        let (mut transport, mailbox) = mailbox();
        let visit =
            tokio::spawn(async move { mailbox.take(false, Duration::from_millis(20)).await });
        for _ in 0..2 {
            let received = poll_fn(|cx| transport.poll_receive(cx)).await.unwrap();
            assert!(matches!(received, Received::Nothing), "{received:?}");
        }
        assert_eq!(visit.await.unwrap(), Taken::Nothing);
    }
}
