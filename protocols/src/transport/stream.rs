//! A byte stream: TCP, or anything that reads and writes.

use super::{Received, Transport};
use crate::gate::Output;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Bytes asked for in one read when the last one was small.
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
            queue: VecDeque::new(),
            queued: 0,
        }
    }
}

impl<S> StreamTransport<S> {
    /// What is under it.
    pub(super) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }
}

impl<S: AsyncRead + Unpin> StreamTransport<S> {
    /// Reads by way of the stack, so that a connection holds no more memory than it was sent: what
    /// is queued or kept is a slice of this buffer.
    fn poll_read_small(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut small = [const { MaybeUninit::uninit() }; SMALL_READ];
        let mut into = ReadBuf::uninit(&mut small);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut into))?;
        self.buffer.extend_from_slice(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Reads behind what is in the buffer, into memory that nobody has cleared for it.
    fn poll_read_large(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(self.next_read);
        let mut into = (&mut self.buffer).limit(self.next_read);
        pin!(self.io.read_buf(&mut into)).poll(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for StreamTransport<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let read = if self.next_read <= SMALL_READ {
            ready!(self.poll_read_small(cx))?
        } else {
            ready!(self.poll_read_large(cx))?
        };
        self.next_read = if read >= SMALL_READ {
            LARGE_READ
        } else {
            SMALL_READ
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
        self.buffer = BytesMut::new();
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        poll_discard(&mut self.io, cx)
    }

    fn can_ping(&self) -> bool {
        false
    }

    fn ping(&mut self) -> bool {
        false
    }

    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        self.next_read = SMALL_READ;
    }
}

/// Reads once and throws it away; answers `false` at the end.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let mut small = [const { MaybeUninit::uninit() }; SMALL_READ];
    let mut into = ReadBuf::uninit(&mut small);
    ready!(Pin::new(io).poll_read(cx, &mut into))?;
    Poll::Ready(Ok(!into.filled().is_empty()))
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
