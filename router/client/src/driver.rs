//! The task that owns the socket: it alone reads and writes it.
//!
//! Everything that waits here has a bound: the channel of requests, the queue of the socket
//! ([`MAX_OUTGOING`]) and the deliveries of one message. While deliveries wait for room in the
//! application's queues, the socket is not read; requests are still taken and sent, so that the
//! application never waits for itself to take events.

use super::heartbeat::{Beat, Heartbeat};
use super::request::{Delivery, Handler, Invocation, Output, Request};
use super::state::State;
use super::{Closed, Failure, Join};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, Sink as _, SinkExt as _, StreamExt as _};
use protocols::wamp::codec::Limits;
use protocols::wamp::message::Message;
use router_core::encoding::Encoding;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};

/// Messages that may wait for the socket before nothing more is taken in.
const MAX_OUTGOING: usize = 256;
/// How long the last messages and the WebSocket's own farewell may take.
const FAREWELL: Duration = Duration::from_secs(3);

type Socket<S> = WebSocketStream<S>;

/// Writes a message as `encoding` wants it.
pub fn to_frame(message: &Message, encoding: Encoding) -> Frame {
    let bytes = message.encode(encoding);
    match encoding {
        // The codec writes UTF-8 only; what were none would arrive as binary and be refused.
        Encoding::Json => match Utf8Bytes::try_from(bytes) {
            Ok(text) => Frame::Text(text),
            Err(_) => Frame::Binary(Bytes::new()),
        },
        Encoding::MsgPack | Encoding::Cbor => Frame::Binary(bytes),
    }
}

/// Reads a frame; `None` for the WebSocket's own.
///
/// # Errors
/// How the session ends: the socket was closed, or this is no message of `encoding`.
pub fn from_frame(frame: Frame, encoding: Encoding) -> Result<Option<Message>, Closed> {
    let bytes = match (frame, encoding) {
        (Frame::Text(text), Encoding::Json) => Bytes::from(text),
        (Frame::Binary(bytes), Encoding::MsgPack | Encoding::Cbor) => bytes,
        (Frame::Text(_) | Frame::Binary(_), _) => {
            let message = "a frame of the other serialization";
            return Err(Closed::Violation(message.to_owned()));
        }
        (Frame::Close(frame), _) => {
            let reason = match frame {
                Some(frame) => format!("closed with {} {}", u16::from(frame.code), frame.reason),
                None => "closed by the router".to_owned(),
            };
            return Err(Closed::Lost(reason.trim_end().to_owned()));
        }
        (Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_), _) => return Ok(None),
    };
    Message::decode(encoding, bytes, &Limits::default())
        .map(Some)
        .map_err(|violation| Closed::Violation(violation.to_string()))
}

/// How a session ends with the socket.
pub fn lost(error: Option<Error>) -> Closed {
    match error {
        None
        | Some(
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => Closed::Lost("closed by the router".to_owned()),
        Some(Error::Io(error)) => Closed::Lost(error.to_string()),
        Some(error) => Closed::Violation(error.to_string()),
    }
}

/// One session's driver.
pub struct Driver<S> {
    encoding: Encoding,
    state: State,
    reader: SplitStream<Socket<S>>,
    writer: Writer<S>,
    requests: mpsc::Receiver<Request>,
    /// For handlers; weak, so that the session ends when the application lets go of it.
    back: mpsc::WeakSender<Request>,
    deliveries: VecDeque<Delivery>,
    handlers: JoinSet<()>,
    /// task -> the invocation it answers
    tasks: HashMap<Id, u64>,
    closed: watch::Sender<Option<Closed>>,
    heartbeat: Heartbeat,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    /// A driver for a session that has joined over `socket`.
    pub fn new(
        socket: Socket<S>,
        join: &Join,
        requests: mpsc::Receiver<Request>,
        back: mpsc::WeakSender<Request>,
        closed: watch::Sender<Option<Closed>>,
    ) -> Driver<S> {
        let encoding = join.serializer.encoding();
        let (sink, reader) = socket.split();
        Driver {
            encoding,
            state: State::new(encoding),
            reader,
            writer: Writer {
                sink,
                queue: VecDeque::new(),
                is_flushed: true,
                has_moved: false,
            },
            requests,
            back,
            deliveries: VecDeque::new(),
            handlers: JoinSet::new(),
            tasks: HashMap::new(),
            closed,
            heartbeat: Heartbeat::new(join.pulse, Instant::now()),
        }
    }

    /// Runs until the session ends.
    pub async fn run(mut self) {
        let closed = loop {
            if let Some(closed) = self.step().await {
                break closed;
            }
        };
        self.closed.send_replace(Some(closed.clone()));
        self.state.end(&closed);
        // Whoever does not answer our farewell within its time is left without one.
        let _ = tokio::time::timeout(FAREWELL, self.writer.finish()).await;
    }

    /// Waits for one thing to happen and sees to it.
    async fn step(&mut self) -> Option<Closed> {
        let has_room = self.writer.queue.len() < MAX_OUTGOING;
        let takes_all = self.deliveries.is_empty();
        let has_moved = std::mem::take(&mut self.writer.has_moved);
        // Where we do not listen nothing can be heard: what the application does not take is not
        // the router's silence, and a router that takes what we send is alive.
        if !takes_all || (has_moved && !has_room) {
            self.heartbeat.heard(Instant::now());
        }
        // Every arm can be dropped at any await without loss: what it holds is in `self`.
        tokio::select! {
            frame = self.reader.next(), if has_room && takes_all => {
                if let Err(closed) = self.read(frame) {
                    return Some(closed);
                }
            }
            () = sleep_until(self.heartbeat.due()), if takes_all => {
                if let Err(closed) = self.beat() {
                    return Some(closed);
                }
            }
            request = self.requests.recv(), if has_room => match request {
                Some(request) => self.state.request(request),
                None => return Some(Closed::Goodbye),
            },
            () = deliver(&mut self.deliveries), if !self.deliveries.is_empty() => {}
            written = self.writer.flush(), if !self.writer.is_flushed => {
                if let Err(error) = written {
                    return Some(lost(Some(error)));
                }
            }
            Some(ended) = self.handlers.join_next_with_id(), if !self.handlers.is_empty() => {
                self.handler_ended(ended);
            }
        }
        self.carry_out()
    }

    fn read(&mut self, frame: Option<Result<Frame, Error>>) -> Result<(), Closed> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(lost(Some(error))),
            None => return Err(lost(None)),
        };
        self.heartbeat.heard(Instant::now());
        match from_frame(frame, self.encoding) {
            Ok(message) => message.into_iter().for_each(|m| self.state.handle(m)),
            Err(Closed::Violation(violation)) => self.state.violation(violation),
            Err(closed) => return Err(closed),
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), Closed> {
        match self.heartbeat.beat(Instant::now()) {
            Beat::Wait => {}
            Beat::Ping => self.writer.push(Frame::Ping(Bytes::new())),
            // It may have answered while this program was held up.
            Beat::Dead => match self.reader.next().now_or_never() {
                Some(frame) => self.read(frame)?,
                None => return Err(Closed::Lost("the router is silent".to_owned())),
            },
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Option<Closed> {
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Send(message) => self.writer.push(to_frame(&message, self.encoding)),
                Output::Deliver(delivery) => self.deliveries.push_back(delivery),
                Output::Invoke(handler, invocation) => self.invoke(&handler, invocation),
                Output::Closed(closed) => return Some(closed),
            }
        }
        None
    }

    fn invoke(&mut self, handler: &Handler, mut invocation: Invocation) {
        // Without a session there is nobody to answer to; the driver is about to end.
        let Some(requests) = self.back.upgrade() else {
            return;
        };
        let request = invocation.request;
        invocation.requests = Some(requests.clone());
        let answer = handler(invocation);
        let task = self.handlers.spawn(async move {
            let answer = Request::Answer {
                invocation: request,
                answer: answer.await,
            };
            // Through the same channel as its progress, so that it comes last. It fails only if
            // the session is gone.
            let _ = requests.send(answer).await;
        });
        self.tasks.insert(task.id(), request);
    }

    /// A handler that panicked has not answered.
    fn handler_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        let invocation = self.tasks.remove(&id);
        if let Some(invocation) = invocation.filter(|_| panicked) {
            let answer = Err(Failure::runtime("the handler panicked"));
            self.state.request(Request::Answer { invocation, answer });
        }
    }
}

/// Hands out the first delivery as soon as there is room. Dropped before that, it leaves the
/// delivery where it is.
async fn deliver(deliveries: &mut VecDeque<Delivery>) {
    // A receiver that is gone wants nothing any more.
    match deliveries.front() {
        Some(Delivery::Event(to, _)) => {
            let permit = to.clone().reserve_owned().await;
            if let (Ok(permit), Some(Delivery::Event(_, event))) = (permit, deliveries.pop_front())
            {
                permit.send(event);
            }
        }
        Some(Delivery::Progress(to, _)) => {
            let permit = to.clone().reserve_owned().await;
            if let (Ok(permit), Some(Delivery::Progress(_, progress))) =
                (permit, deliveries.pop_front())
            {
                permit.send(progress);
            }
        }
        None => {}
    }
}

/// The writing half of the socket with what waits for it.
struct Writer<S> {
    sink: SplitSink<Socket<S>, Frame>,
    queue: VecDeque<Frame>,
    is_flushed: bool,
    /// Whether the socket took something since it was last asked.
    has_moved: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    fn push(&mut self, frame: Frame) {
        self.queue.push_back(frame);
        self.is_flushed = false;
    }

    async fn flush(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.queue.is_empty() {
            ready!(Pin::new(&mut self.sink).poll_ready(cx))?;
            let Some(frame) = self.queue.pop_front() else {
                break;
            };
            Pin::new(&mut self.sink).start_send(frame)?;
            self.has_moved = true;
        }
        ready!(Pin::new(&mut self.sink).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    async fn finish(&mut self) -> Result<(), Error> {
        self.flush().await?;
        self.sink.close().await
    }
}
