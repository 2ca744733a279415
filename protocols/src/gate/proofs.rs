//! How many slow proofs are computed at a time.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::Semaphore;

/// Places for the computation of proofs, shared by all connections of a router; a handle, cheap to
/// clone. Whoever finds none free waits in turn, at most as long as its login may take, so that no
/// more wait than there are connections.
#[derive(Clone)]
pub struct Proofs {
    places: Arc<Semaphore>,
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs")
            .field("free", &self.places.available_permits())
            .finish()
    }
}

impl Default for Proofs {
    /// Half of the processor's cores: the rest is for those who are let in already.
    fn default() -> Proofs {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Proofs::new(NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN))
    }
}

impl Proofs {
    /// At most so many at a time.
    #[must_use]
    pub fn new(most: NonZeroUsize) -> Proofs {
        let most = most.get().min(Semaphore::MAX_PERMITS);
        Proofs {
            places: Arc::new(Semaphore::new(most)),
        }
    }

    /// Does `work` in a thread that may block, once there is a place. `None`: it panicked, or the
    /// runtime shuts down.
    ///
    /// Cancel safe: dropped while it waits, it gives up its turn and nothing is done; dropped
    /// later, the work is finished in its place and its result dropped.
    pub fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let places = self.places.clone();
        async move {
            // The semaphore is never closed.
            let place = places.acquire_owned().await.ok()?;
            let work = move || {
                let result = work();
                drop(place);
                result
            };
            tokio::task::spawn_blocking(work).await.ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn places(most: usize) -> Proofs {
        Proofs::new(NonZeroUsize::new(most).unwrap())
    }

    #[tokio::test]
    async fn never_are_more_computed_at_a_time_than_there_are_places() {
        let proofs = places(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all = (0..40).map(|number| {
            let (running, most) = (running.clone(), most.clone());
            proofs.compute(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..200 {
                    std::thread::yield_now();
                }
                running.fetch_sub(1, Ordering::SeqCst);
                number
            })
        });
        let results: Vec<usize> = join_all(all).await.into_iter().flatten().collect();
        assert_eq!(results, (0..40).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_its_turn_to_the_next() {
        let proofs = places(1);
        let (go, wait) = mpsc::channel::<()>();
        let first = tokio::spawn(proofs.compute(move || wait.recv().is_ok()));
        tokio::task::yield_now().await;
        let done = Arc::new(AtomicUsize::new(0));
        {
            let done = done.clone();
            let mut second = pin!(proofs.compute(move || done.fetch_add(1, Ordering::SeqCst)));
            assert!(second.as_mut().now_or_never().is_none());
        }
        let mut third = pin!(proofs.compute(|| 3));
        assert!(third.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        assert_eq!(third.await, Some(3));
        assert_eq!(first.await.unwrap(), Some(true));
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_panic_frees_its_place() {
        let proofs = places(1);
        let failed = proofs.compute(|| std::panic::resume_unwind(Box::new("on purpose")));
        assert_eq!(failed.await, None::<()>);
        assert_eq!(proofs.compute(|| 1).await, Some(1));
    }
}
