//! One connection: a socket, a peer, and what is to be written. Frames of many messages leave in
//! one write and are read in large pieces.

use super::peer::{Hear, Heard, Peer};
use super::run::{Run, Stage};
use super::ticker::Ticker;
use crate::cli::failure::Failure;
use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use router_client::Stream;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;
/// When so much is to be written, nothing more is added to it.
const OUT_MAX: usize = 256 << 10;
/// Turns of a connection before others have theirs.
const TURNS: usize = 16;

/// What a connection does with its peer.
pub(super) trait Role<P>: 'static {
    /// Takes in what the peer tells; `now` is when it was read.
    ///
    /// # Errors
    /// The other side did what ends the run.
    fn hear(&mut self, heard: Heard<'_>, now: u64) -> Result<(), String>;

    /// All that was read together has been told.
    fn pause(&mut self) {}

    /// Writes what is to be sent now; answers when there is more, if no event tells.
    ///
    /// # Errors
    /// It cannot be written.
    fn fill(&mut self, peer: &mut P, out: &mut BytesMut) -> Result<Option<u64>, String>;
}

/// Whether a role may add to what is to be written.
pub(super) fn has_room(out: &BytesMut) -> bool {
    out.len() < OUT_MAX
}

/// See the [module](self).
pub(super) struct Line<P> {
    stream: Box<dyn Stream>,
    /// For messages to the user.
    pub who: Rc<str>,
    pub peer: P,
    inbound: BytesMut,
    pub out: BytesMut,
}

impl<P: Peer> Line<P> {
    /// A connection on which nothing has been said.
    pub(super) fn new(stream: Box<dyn Stream>, who: Rc<str>, peer: P) -> Line<P> {
        Line {
            stream,
            who,
            peer,
            inbound: BytesMut::with_capacity(READ_BYTES),
            out: BytesMut::new(),
        }
    }

    /// Writes and reads until `hear` answers true.
    ///
    /// # Errors
    /// The other side closes, does what ends the run, or tells nothing for `patience`.
    pub(super) async fn until(
        &mut self,
        patience: Duration,
        hear: &mut dyn FnMut(Heard<'_>) -> Result<bool, String>,
    ) -> Result<(), Failure> {
        let (mut is_done, mut end) = (false, Instant::now() + patience);
        while !is_done {
            let moved = timeout_at(end, self.turn()).await;
            // Who only shows that it lives does not answer.
            let is_late = moved.is_err() || Instant::now() >= end;
            let mut has_told = false;
            let taken = moved.unwrap_or(Ok(())).and_then(|()| {
                let hear: &mut Hear<'_> = &mut |heard| {
                    has_told |= !matches!(heard, Heard::Quiet);
                    is_done |= hear(heard)?;
                    Ok(())
                };
                self.peer.handle(&mut self.inbound, &mut self.out, hear)
            });
            let taken = taken.and_then(|()| match is_late && !has_told {
                true => Err(format!(
                    "did not answer within {} s",
                    patience.as_secs_f64()
                )),
                false => Ok(()),
            });
            taken.map_err(|sentence| Failure::failed(format!("{} {sentence}", self.who)))?;
            if has_told {
                end = Instant::now() + patience;
            }
        }
        Ok(())
    }

    /// Writes all that is to be written, and reads once.
    async fn turn(&mut self) -> Result<(), String> {
        let written = self.stream.write_all_buf(&mut self.out).await;
        written.map_err(|error| lost(&error))?;
        self.inbound.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbound).await {
            Ok(0) => Err("closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }
}

fn lost(error: &std::io::Error) -> String {
    format!("lost the connection: {error}")
}

/// Serves a connection until the run is over.
pub(super) async fn serve<P: Peer, R: Role<P>>(
    line: Line<P>,
    role: R,
    bell: Rc<AtomicWaker>,
    run: Rc<Run>,
) {
    let who = line.who.clone();
    let mut serving = Serving {
        line,
        role,
        bell,
        run: run.clone(),
        ticker: Ticker::default(),
        beats: 0,
        has_asked: false,
        is_calm: false,
        farewell: None,
        has_left: false,
    };
    match poll_fn(|cx| serving.poll(cx)).await {
        Ok(()) => run.end(),
        Err(sentence) => run.fail(format!("{who} {sentence}")),
    }
}

struct Serving<P, R> {
    line: Line<P>,
    role: R,
    bell: Rc<AtomicWaker>,
    run: Rc<Run>,
    ticker: Ticker,
    beats: u64,
    has_asked: bool,
    is_calm: bool,
    /// Goodbye was said; whether it is answered.
    farewell: Option<bool>,
    has_left: bool,
}

impl<P: Peer, R: Role<P>> Serving<P, R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.bell.register(cx.waker());
        for _ in 0..TURNS {
            match self.turn(cx) {
                Ok(true) if self.is_over() => return Poll::Ready(Ok(())),
                Ok(true) => {}
                Ok(false) if self.is_over() => return Poll::Ready(Ok(())),
                Ok(false) => return Poll::Pending,
                // Who was told goodbye may end it in any way.
                Err(_) if self.farewell.is_some() => return Poll::Ready(Ok(())),
                Err(sentence) => return Poll::Ready(Err(sentence)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        match self.farewell {
            Some(true) => self.has_left,
            Some(false) => self.line.out.is_empty(),
            None => false,
        }
    }

    /// Whether there may be more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        self.obey();
        if has_room(&self.line.out) && self.farewell.is_none() {
            let next = self.role.fill(&mut self.line.peer, &mut self.line.out)?;
            let set = self.ticker.set(next, self.run.now());
            set.map_err(|error| format!("cannot be waited for: {error}"))?;
        }
        let has_written = self.write(cx)?;
        let has_read = self.read(cx)?;
        let has_rung = match self.ticker.poll(cx) {
            Poll::Ready(Err(error)) => return Err(format!("cannot be waited for: {error}")),
            rung => rung.is_ready(),
        };
        Ok(has_written || has_read || has_rung)
    }

    /// Does what the stage of the run asks for.
    fn obey(&mut self) {
        let stage = self.run.stage();
        let Line { peer, out, .. } = &mut self.line;
        if stage == Stage::Asking && !self.has_asked {
            self.has_asked = true;
            peer.ask(out);
        }
        if stage == Stage::Leaving && self.farewell.is_none() {
            self.farewell = Some(peer.leave(out));
        }
        if self.run.beats() > self.beats && self.farewell.is_none() {
            self.beats = self.run.beats();
            peer.keep_alive(out);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        let Line { stream, out, .. } = &mut self.line;
        let mut has_moved = false;
        while !out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, out) {
                Poll::Ready(Ok(0)) => return Err("takes nothing more".to_owned()),
                Poll::Ready(Ok(written)) => out.advance(written),
                Poll::Ready(Err(error)) => return Err(lost(&error)),
                Poll::Pending => break,
            }
            has_moved = true;
        }
        Ok(has_moved)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, String> {
        // Who does not take our answers is not read either.
        if !has_room(&self.line.out) {
            return Ok(false);
        }
        let Line {
            stream,
            peer,
            inbound,
            out,
            ..
        } = &mut self.line;
        inbound.reserve(READ_BYTES);
        match pin!(stream.read_buf(inbound)).poll(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err("closed the connection".to_owned()),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(lost(&error)),
        }
        let now = self.run.now();
        let (role, run) = (&mut self.role, &self.run);
        let (has_asked, is_calm, has_left) =
            (self.has_asked, &mut self.is_calm, &mut self.has_left);
        let hear: &mut Hear<'_> = &mut |heard| match heard {
            Heard::Left => {
                *has_left = true;
                Ok(())
            }
            Heard::Quiet => {
                if has_asked && !std::mem::replace(is_calm, true) {
                    run.calm();
                }
                Ok(())
            }
            heard => role.hear(heard, now),
        };
        peer.handle(inbound, out, hear)?;
        self.role.pause();
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
