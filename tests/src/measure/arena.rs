//! What all threads of a run with kills share: a clock, and the lives of the router.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Server;
use crate::wamp::Session;

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(600);

/// A kill, and when the router was ready again.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// The life it began.
    pub life: u32,
    /// Just before the kill.
    pub killed: u64,
    /// Just after the ready line.
    pub ready: Option<u64>,
}

/// A run with kills.
pub struct Arena {
    addr: SocketAddr,
    /// Whether values survive a kill.
    pub durable: bool,
    clock: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    restarts: Vec<Restart>,
    done: u64,
    failed: bool,
}

impl State {
    fn life(&self) -> u32 {
        self.restarts.last().map_or(0, |restart| restart.life)
    }

    fn is_up(&self) -> bool {
        self.restarts
            .last()
            .is_none_or(|restart| restart.ready.is_some())
    }
}

impl Arena {
    /// An arena for a running router.
    pub fn new(addr: SocketAddr, durable: bool) -> Self {
        Self {
            addr,
            durable,
            clock: AtomicU64::new(1),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// An instant later than all that were given before. It orders what the threads do as a clock
    /// would, without its coarseness.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the router.
    pub fn life(&self) -> u32 {
        self.state().life()
    }

    /// An instant, and the life of the router at it.
    pub fn begin(&self) -> (u64, u32) {
        let state = self.state();
        (self.tick(), state.life())
    }

    /// So much more is done.
    pub fn advance(&self, more: u64) {
        self.state().done += more;
        self.changed.notify_all();
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.state().done
    }

    /// The run is over.
    pub fn fail(&self) {
        self.state().failed = true;
        self.changed.notify_all();
    }

    /// Whether it is.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Waits until so much is done; `false` if the run failed before.
    fn wait_for(&self, done: u64) -> Result<bool> {
        let state = self.wait(|state| state.failed || state.done >= done)?;
        Ok(!state.failed)
    }

    /// Kills and restarts the router each time `every` more is done, while there is work left.
    /// `dies` hears of each kill just before. Answers how many there were.
    pub fn kill_in_between(
        &self,
        server: &mut Server,
        every: u64,
        all: u64,
        mut dies: impl FnMut(),
    ) -> Result<u64> {
        let mut kills = 0;
        let mut play = || {
            while (kills + 1) * every < all && self.wait_for((kills + 1) * every)? {
                self.goes_down();
                dies();
                server.kill()?;
                server.restart().context("the router does not come back")?;
                self.is_up();
                kills += 1;
            }
            Ok(())
        };
        let outcome = play();
        if outcome.is_err() {
            self.fail();
        }
        outcome.map(|()| kills)
    }

    fn wait(&self, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| !ready(state));
        let (state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!late.timed_out(), "nothing happens any more");
        Ok(state)
    }

    /// The router is about to be killed.
    fn goes_down(&self) {
        let mut state = self.state();
        let life = state.life() + 1;
        let killed = self.tick();
        state.restarts.push(Restart {
            life,
            killed,
            ready: None,
        });
    }

    /// The router is ready again.
    fn is_up(&self) {
        let mut state = self.state();
        let now = self.tick();
        if let Some(restart) = state.restarts.last_mut() {
            restart.ready = Some(now);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The kills since an instant.
    pub fn restarts_since(&self, begin: u64) -> Vec<Restart> {
        let state = self.state();
        let since = state.restarts.iter().filter(|r| r.killed > begin);
        since.copied().collect()
    }

    /// Joins, however often the router goes down meanwhile; the session and its life.
    pub fn join(&self) -> Result<(Session, u32)> {
        loop {
            let life = {
                let state = self.wait(|state| state.failed || state.is_up())?;
                ensure!(!state.failed, "the run has failed elsewhere");
                state.life()
            };
            let joined = Session::join(self.addr, "realm1");
            // Whoever joined while the router went down does not know which life it was.
            match joined {
                Ok(session) if self.life() == life => return Ok((session, life)),
                Ok(_) => {}
                Err(error) => ensure!(self.life() != life, error.context("cannot join")),
            }
        }
    }
}
