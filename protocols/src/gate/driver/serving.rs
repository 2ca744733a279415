//! Who is served next: the receiver of what a connection has just said, by the same thread and at once, if nobody waits
//! in that thread's line, or if it was this connection that woke it the last time too.
//!
//! Tasks run in the order in which they were woken (ADR 0012), and tokio lets another thread take what waits. For one that
//! has nothing else to do, that costs the receiver more than its own turn; and for one that has, what was said goes from
//! the memory of one core to that of another. So a connection notes the first other one that its turn woke, and after its
//! own turn writes what the realm has for that one. It reads nothing of it, so in the order of reading nobody is overtaken.
//! A receiver of many publishers is woken by one after the other, and better waits in line while more comes together.
//! See ADR 0018.

use super::{Driver, Turn};
use crate::transport::Transport;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

thread_local! {
    /// The turn that a connection has in this thread.
    static TURN: RefCell<Option<OpenTurn>> = const { RefCell::new(None) };
}

struct OpenTurn {
    /// Whose it is.
    of: Number,
    /// The one that it woke first and that is served within it.
    woken: Option<Arc<dyn Serve>>,
}

/// Tells connections apart; 0 is none.
type Number = usize;

/// Its address, which a later connection may have again; that does no harm.
fn number_of<T>(place: &Arc<Place<T>>) -> Number {
    Arc::as_ptr(place).addr()
}

/// A connection that is served; to be polled to its end. Cancel safe: dropping it loses the connection, no more.
pub(super) struct Serving<T: Transport + Unpin + 'static>(Arc<Place<T>>);

impl<T: Transport + Unpin + 'static> Serving<T> {
    pub(super) fn new(driver: Driver<T>) -> Serving<T> {
        let place = Arc::new(Place {
            driver: Mutex::new(Some(driver)),
            task: Mutex::new(Waker::noop().clone()),
            woken_by: AtomicUsize::new(0),
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
        let turn = OwnTurn::begin(number_of(place));
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
    /// In whose turn it was woken last.
    woken_by: AtomicUsize,
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

/// One for whom others can speak.
trait Serve: Send + Sync {
    /// Writes what the realm has for it, unless it has its turn itself.
    fn serve(&self);

    /// Lets it wait in line.
    fn wake_task(&self);
}

impl<T: Transport + Unpin + 'static> Serve for Place<T> {
    fn serve(&self) {
        let turn = match self.driver.try_lock() {
            None => Turn::Progress,
            Some(mut driver) => {
                let task = self.task.lock().clone();
                let mut cx = Context::from_waker(&task);
                // A panic is that connection's own, as it is in its own task.
                let passed = catch_unwind(AssertUnwindSafe(|| match &mut *driver {
                    Some(running) => running.pass_on(&mut cx),
                    None => Turn::Done,
                }));
                let turn = passed.unwrap_or(Turn::Done);
                if matches!(turn, Turn::Done) {
                    *driver = None;
                }
                turn
            }
        };
        if !matches!(turn, Turn::Idle) {
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

/// Notes who is served next, if that is right for it; otherwise gives it back.
fn offer<T: Transport + Unpin + 'static>(place: Arc<Place<T>>) -> Option<Arc<Place<T>>> {
    let mut place = Some(place);
    // Where the thread ends, and while another is being noted, the line is right.
    let _ = TURN.try_with(|turn| {
        let Ok(mut turn) = turn.try_borrow_mut() else {
            return;
        };
        let of = turn.as_ref().map_or(0, |turn| turn.of);
        if place.as_ref().is_some_and(|place| number_of(place) == of) {
            return;
        }
        let is_partner = place
            .as_ref()
            .is_some_and(|place| place.woken_by.swap(of, Ordering::Relaxed) == of);
        if let Some(turn) = &mut *turn
            && turn.woken.is_none()
            && (is_partner || line_is_empty())
            && let Some(place) = place.take()
        {
            turn.woken = Some(place);
        }
    });
    place
}

/// The one that is noted waits in line after all: its waker has more to do, and another thread may serve it meanwhile.
pub(super) fn let_others_serve() {
    let woken = TURN.with_borrow_mut(|turn| turn.as_mut()?.woken.take());
    if let Some(woken) = woken {
        woken.wake_task();
    }
}

/// A turn of a connection in this thread; while it lasts, the first that is woken is noted.
struct OwnTurn;

impl OwnTurn {
    fn begin(of: Number) -> OwnTurn {
        TURN.set(Some(OpenTurn { of, woken: None }));
        OwnTurn
    }

    /// Whoever is woken from here on waits in line.
    fn end(self) {
        if let Some(woken) = TURN.take().and_then(|turn| turn.woken) {
            woken.serve();
        }
    }
}

impl Drop for OwnTurn {
    /// However it ends, nobody is forgotten.
    fn drop(&mut self) {
        let_others_serve();
        TURN.set(None);
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
