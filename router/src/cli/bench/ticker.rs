//! A timer finer than tokio's milliseconds: at a fixed rate, what a timer is late is latency that
//! the peer did not cause.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(target_os = "linux")]
use fine::Alarm;
#[cfg(not(target_os = "linux"))]
use plain::Alarm;

/// Rings once at the time that it was set to, in microseconds of the run.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    alarm: Option<Alarm>,
    set: Option<u64>,
}

impl Ticker {
    /// Rings at `time`; `None`: not at all.
    ///
    /// # Errors
    /// The operating system has no timer for us.
    pub(super) fn set(&mut self, time: Option<u64>, now: u64) -> io::Result<()> {
        if self.set == time {
            return Ok(());
        }
        self.set = time;
        let Some(time) = time else {
            return Ok(());
        };
        let alarm = match &mut self.alarm {
            Some(alarm) => alarm,
            none => none.insert(Alarm::new()?),
        };
        // Zero would switch it off.
        alarm.set(Duration::from_micros(time.saturating_sub(now).max(1)))
    }

    /// `Ready` when it has rung.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(alarm), true) = (&mut self.alarm, self.set.is_some()) else {
            return Poll::Pending;
        };
        let rung = alarm.poll(cx);
        if rung.is_ready() {
            self.set = None;
        }
        rung
    }
}

#[cfg(target_os = "linux")]
mod fine {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// timerfd_create(2)
    #[derive(Debug)]
    pub(super) struct Alarm(AsyncFd<OwnedFd>);

    impl Alarm {
        #[expect(
            deprecated,
            reason = "the successor is an unsafe function, for descriptors that somebody else may \
                      close; this one is owned"
        )]
        pub(super) fn new() -> io::Result<Alarm> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Alarm(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        pub(super) fn set(&mut self, delay: Duration) -> io::Result<()> {
            let none = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let once = Itimerspec {
                it_interval: none,
                it_value: Timespec {
                    tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(delay.subsec_nanos()),
                },
            };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            loop {
                let mut ready = ready!(self.0.poll_read_ready(cx))?;
                let mut count = [0; 8];
                match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut count)?)) {
                    Ok(read) => return Poll::Ready(read.map(|_| ())),
                    // It was set anew before it rang.
                    Err(_) => continue,
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod plain {
    use std::future::Future as _;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;
    use tokio::time::{Instant, Sleep, sleep};

    /// Tokio's timer, where there is no finer one.
    #[derive(Debug)]
    pub(super) struct Alarm(Pin<Box<Sleep>>);

    impl Alarm {
        pub(super) fn new() -> io::Result<Alarm> {
            Ok(Alarm(Box::pin(sleep(Duration::ZERO))))
        }

        pub(super) fn set(&mut self, delay: Duration) -> io::Result<()> {
            self.0.as_mut().reset(Instant::now() + delay);
            Ok(())
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.as_mut().poll(cx).map(Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn it_rings_once_for_each_time_it_was_set() {
        let mut ticker = Ticker::default();
        for time in [1, 2] {
            ticker.set(Some(time), 0).expect("a timer");
            poll_fn(|cx| ticker.poll(cx)).await.expect("rung");
            let again = poll_fn(|cx| Poll::Ready(ticker.poll(cx).is_pending())).await;
            assert!(again);
        }
    }

    #[tokio::test]
    async fn one_that_was_put_off_does_not_ring() {
        let mut ticker = Ticker::default();
        ticker.set(Some(1), 0).expect("a timer");
        ticker.set(None, 0).expect("none");
        let rang = poll_fn(|cx| Poll::Ready(ticker.poll(cx).is_ready())).await;
        assert!(!rang);
    }
}
