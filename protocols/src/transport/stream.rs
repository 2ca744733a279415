//! A byte stream: TCP, or anything that reads and writes.

use super::{Received, Transport};
use crate::gate::Output;
use bytes::{Buf as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes asked for in one read when the last one was small; idle connections hold no more.
const SMALL_READ: usize = 4 << 10;
/// ... and when the last one filled its buffer.
const LARGE_READ: usize = 64 << 10;
/// Chunks written in one call.
const MAX_SLICES: usize = 64;

/// A stream with its read buffer and write queue.
#[derive(Debug)]
pub struct StreamTransport<S> {
    io: S,
    buffer: BytesMut,
    next_read: usize,
    /// Nothing is read at the moment, so no room is kept for it.
    resting: bool,
    queue: VecDeque<Bytes>,
    queued: usize,
}

impl<S> StreamTransport<S> {
    /// Takes over a stream; `read` was read from it already.
    pub fn new(io: S, read: BytesMut) -> StreamTransport<S> {
        StreamTransport {
            io,
            buffer: read,
            next_read: SMALL_READ,
            resting: false,
            queue: VecDeque::new(),
            queued: 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for StreamTransport<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        self.buffer.reserve(self.next_read);
        let read = {
            let spare = self.next_read;
            let start = self.buffer.len();
            self.buffer.resize(start + spare, 0);
            let mut into = ReadBuf::new(self.buffer.get_mut(start..).unwrap_or_default());
            let result = Pin::new(&mut self.io).poll_read(cx, &mut into);
            let read = into.filled().len();
            self.buffer.truncate(start + read);
            if result.is_pending() && self.resting && start == 0 {
                self.buffer = BytesMut::new();
            }
            ready!(result)?;
            read
        };
        self.resting = false;
        self.next_read = if read == self.next_read {
            LARGE_READ
        } else {
            SMALL_READ.max(read)
        };
        Poll::Ready(Ok(if read == 0 {
            Received::Closed
        } else {
            Received::Bytes(read)
        }))
    }

    fn buffer(&mut self) -> Option<&mut BytesMut> {
        Some(&mut self.buffer)
    }

    fn send(&mut self, output: Output) {
        if let Output::Bytes(bytes) | Output::Text(bytes) = output
            && !bytes.is_empty()
        {
            self.queued += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _code: u16,
        _reason: &'static str,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn can_ping(&self) -> bool {
        false
    }

    fn ping(&mut self) -> bool {
        false
    }

    fn rest(&mut self) {
        self.resting = true;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        self.next_read = SMALL_READ;
    }
}

impl<S> StreamTransport<S> {
    fn advance(&mut self, mut written: usize) {
        self.queued = self.queued.saturating_sub(written);
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
    }
}
