//! Wakes a `flush` that sled forgot to wake.
//!
//! When the buffer that holds a batch's manifest cannot be written, sled 0.34 notes the error but does not notify the
//! thread that waits in `flush` (`Log::exit_reservation`), which then sleeps for ever. Any other call of `flush`
//! notifies it. So a thread stands by, and if a flush takes long and sled has noted an error, it calls `flush` too.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a flush may take before somebody looks after it; a healthy flush on a slow disk is only looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is watched: sled's database, and in the test one that forgets to wake for certain.
pub(super) trait Flush: Clone + Send + 'static {
    /// Waits until everything is written; notifies all others that wait if an error has been noted.
    fn flush(&self) -> sled::Result<usize>;
    /// True if an error has been noted.
    fn has_failed(&self) -> bool;
}

impl Flush for sled::Db {
    fn flush(&self) -> sled::Result<usize> {
        sled::Tree::flush(self)
    }

    fn has_failed(&self) -> bool {
        self.context.global_error().is_err()
    }
}

pub(super) struct Nudge<F: Flush = sled::Db> {
    shared: Arc<Shared<F>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<F> {
    state: Mutex<State<F>>,
    changed: Condvar,
}

struct State<F> {
    flushing: Option<F>,
    stopped: bool,
}

impl<F: Flush> Nudge<F> {
    pub fn spawn() -> std::io::Result<Self> {
        let state = State {
            flushing: None,
            stopped: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("sled-nudge".into())
            .spawn({
                let shared = shared.clone();
                move || shared.watch()
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// `flush` that always returns.
    pub fn flush(&self, db: &F) -> sled::Result<usize> {
        let _armed = Armed::new(&self.shared, db);
        db.flush()
    }
}

/// Disarms also when sled panics: the database must not be kept open by the one who watches it.
struct Armed<'a, F>(&'a Shared<F>);

impl<'a, F: Flush> Armed<'a, F> {
    fn new(shared: &'a Shared<F>, db: &F) -> Self {
        shared.state.lock().flushing = Some(db.clone());
        shared.changed.notify_one();
        Self(shared)
    }
}

impl<F> Drop for Armed<'_, F> {
    fn drop(&mut self) {
        self.0.state.lock().flushing = None;
    }
}

impl<F: Flush> Shared<F> {
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            if state.flushing.is_none() {
                self.changed.wait(&mut state);
                continue;
            }
            self.changed.wait_for(&mut state, PATIENCE);
            // The lock is kept: the flush that is being watched does not need it until it returns, and the database
            // cannot be closed meanwhile. With an error noted, this call notifies and returns at once.
            if let Some(db) = &state.flushing
                && db.has_failed()
                && let Err(error) = db.flush()
            {
                tracing::debug!(%error, "woke a flush that had failed");
            }
        }
    }
}

impl<F: Flush> Drop for Nudge<F> {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches sled's flush ended with a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its first flush sleeps until another one wakes it; its error is noted from the start.
    #[derive(Clone, Default)]
    struct Forgetful(Arc<(Mutex<u32>, Condvar)>);

    impl Flush for Forgetful {
        fn flush(&self) -> sled::Result<usize> {
            let (calls, woken) = &*self.0;
            let mut calls = calls.lock();
            *calls += 1;
            woken.notify_all();
            while *calls < 2 {
                woken.wait(&mut calls);
            }
            Err(sled::Error::Unsupported("failed".into()))
        }

        fn has_failed(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_flush_that_nobody_wakes_returns_all_the_same() {
        let nudge = Nudge::spawn().expect("a thread");
        let forgetful = Forgetful::default();
        assert!(nudge.flush(&forgetful).is_err());
        assert_eq!(
            Arc::strong_count(&forgetful.0),
            1,
            "the watcher must not keep the database open"
        );
    }
}
