//! Who is served next: the receiver of what a connection has just said, by the same thread and at once, if nobody waits
//! in that thread's line.
//!
//! Tasks run in the order in which they were woken (ADR 0012), and then tokio wakes another thread for each task that a
//! task wakes. With a thread that has nothing else to do, that costs the receiver more than its own turn. So a connection
//! notes the first other one that its turn woke, and takes that one's turn after its own. It is what the line would do,
//! for the line is empty. See ADR 0018.

use super::Driver;
use crate::transport::Transport;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Turns of others that are taken at a time: one that is served may wake one more, such as a caller.
const OTHERS_PER_TURN: usize = 4;

thread_local! {
    /// Who is served next in this thread.
    static NEXT: RefCell<Next> = const { RefCell::new(Next::Nobody) };
}

enum Next {
    /// No connection has its turn: whoever is woken waits in line.
    Nobody,
    /// A connection has its turn, and woke none so far.
    Free,
    /// The one that it woke first.
    Woken(Arc<dyn Serve>),
}

/// A connection that is served; to be polled to its end. Cancel safe: dropping it loses the connection, no more.
pub(super) struct Serving<T: Transport + Unpin + 'static>(Arc<Place<T>>);

impl<T: Transport + Unpin + 'static> Serving<T> {
    pub(super) fn new(driver: Driver<T>) -> Serving<T> {
        let place = Arc::new(Place {
            driver: Mutex::new(Some(driver)),
            task: Mutex::new(Waker::noop().clone()),
        });
        let waker = Waker::from(place.clone());
        if let Some(driver) = &mut *place.driver.lock() {
            driver.outbox_waker = waker;
        }
        Serving(place)
    }
}

impl<T: Transport + Unpin + 'static> Future for Serving<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let place = &self.0;
        let turn = OwnTurn::begin();
        let polled = {
            let mut driver = place.driver.lock();
            if place.has_new_task(cx.waker())
                && let Some(driver) = &mut *driver
            {
                driver.note_new_task();
            }
            Place::poll(&mut driver, cx)
        };
        turn.end();
        polled
    }
}

impl<T: Transport + Unpin + 'static> Drop for Serving<T> {
    fn drop(&mut self) {
        // The driver's wakers keep the place, which keeps the driver.
        let driver = self.0.driver.lock().take();
        drop(driver);
    }
}

/// Where the driver of a connection is, for its own task and for whoever takes a turn of it.
struct Place<T> {
    /// `None`: the connection is over.
    driver: Mutex<Option<Driver<T>>>,
    /// Wakes the task.
    task: Mutex<Waker>,
}

impl<T: Transport + Unpin + 'static> Place<T> {
    /// Whether it is polled by another task than before, which is noted.
    fn has_new_task(&self, waker: &Waker) -> bool {
        let mut task = self.task.lock();
        let is_new = !task.will_wake(waker);
        if is_new {
            task.clone_from(waker);
        }
        is_new
    }

    fn poll(driver: &mut Option<Driver<T>>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(running) = driver else {
            return Poll::Ready(());
        };
        let polled = running.poll_run(cx);
        if polled.is_ready() {
            *driver = None;
        }
        polled
    }
}

/// One whose turn others can take.
trait Serve: Send + Sync {
    /// Takes its turn, unless it has it already.
    fn serve(&self);

    /// Lets it wait in line.
    fn wake_task(&self);
}

impl<T: Transport + Unpin + 'static> Serve for Place<T> {
    fn serve(&self) {
        let over = match self.driver.try_lock() {
            None => true,
            Some(mut driver) => {
                let task = self.task.lock().clone();
                let mut cx = Context::from_waker(&task);
                // A panic is that connection's own, as it is in its own task.
                let polled = catch_unwind(AssertUnwindSafe(|| Place::poll(&mut driver, &mut cx)));
                if polled.is_err() {
                    *driver = None;
                }
                !matches!(polled, Ok(Poll::Pending))
            }
        };
        if over {
            self.wake_task();
        }
    }

    fn wake_task(&self) {
        self.task.lock().wake_by_ref();
    }
}

impl<T: Transport + Unpin + 'static> Wake for Place<T> {
    fn wake(self: Arc<Self>) {
        if let Some(place) = offer(self) {
            place.wake_task();
        }
    }
}

/// Notes who is served next, if this thread has room for it; otherwise gives it back.
fn offer<T: Transport + Unpin + 'static>(place: Arc<Place<T>>) -> Option<Arc<Place<T>>> {
    let mut place = Some(place);
    // Where the thread ends, and while another is being noted, the line is right.
    let _ = NEXT.try_with(|next| {
        if let Ok(mut next) = next.try_borrow_mut()
            && matches!(*next, Next::Free)
            && line_is_empty()
            && let Some(place) = place.take()
        {
            *next = Next::Woken(place);
        }
    });
    place
}

/// The one that is noted waits in line after all: its waker has more to do, and another thread may serve it meanwhile.
pub(super) fn let_others_serve() {
    if let Some(woken) = take() {
        woken.wake_task();
    }
}

fn take() -> Option<Arc<dyn Serve>> {
    NEXT.with_borrow_mut(|next| match std::mem::replace(next, Next::Free) {
        Next::Woken(woken) => Some(woken),
        other => {
            *next = other;
            None
        }
    })
}

/// A turn of a connection in this thread; while it lasts, the first that is woken is noted.
struct OwnTurn;

impl OwnTurn {
    fn begin() -> OwnTurn {
        NEXT.set(Next::Free);
        OwnTurn
    }

    fn end(self) {
        for _ in 0..OTHERS_PER_TURN {
            match take() {
                Some(woken) => woken.serve(),
                None => break,
            }
        }
    }
}

impl Drop for OwnTurn {
    /// However it ends, nobody is forgotten.
    fn drop(&mut self) {
        let_others_serve();
        NEXT.set(Next::Nobody);
    }
}

/// Whether no task waits in the line of this thread.
#[cfg(tokio_unstable)]
fn line_is_empty() -> bool {
    use std::cell::OnceCell;
    use tokio::runtime::{Handle, RuntimeFlavor, RuntimeMetrics, worker_index};
    thread_local! {
        /// A worker's runtime never changes. `None`: one thread alone, which need not wake another.
        static LINES: OnceCell<Option<RuntimeMetrics>> = const { OnceCell::new() };
    }
    let Some(worker) = worker_index() else {
        return false;
    };
    let is_empty = LINES.try_with(|lines| {
        let lines = lines.get_or_init(|| {
            let runtime = Handle::try_current().ok()?;
            (runtime.runtime_flavor() == RuntimeFlavor::MultiThread).then(|| runtime.metrics())
        });
        lines
            .as_ref()
            .is_some_and(|lines| lines.worker_local_queue_depth(worker) == 0)
    });
    is_empty.unwrap_or(false)
}

/// Not known without that flag.
#[cfg(not(tokio_unstable))]
const fn line_is_empty() -> bool {
    false
}
