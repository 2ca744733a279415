//! The handle of a session: join, ask, leave.

use super::driver::Driver;
use super::join::{Join, open, shake_hands};
use super::request::{Cancel, Handler, ReplyTo, Request};
use super::{
    Address, Arguments, ClientError, Closed, Dict, Event, Failure, Invocation, Serializer,
};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;

/// Connecting, upgrading and joining may take this long together.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// GOODBYE may wait for its answer this long.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests on their way to the driver.
const REQUEST_QUEUE: usize = 64;
/// Events of one subscription that the application has not read.
const EVENT_QUEUE: usize = 1024;
/// Progressive results of one call that the application has not read.
const PROGRESS_QUEUE: usize = 64;

/// A joined session. Clones share it; it ends with [`Session::leave`], or when all are dropped.
#[derive(Clone, Debug)]
pub struct Session {
    requests: mpsc::Sender<Request>,
    closed: watch::Receiver<Option<Closed>>,
    serializer: Serializer,
    /// The session id.
    id: u64,
    /// The key of the next call.
    calls: Arc<AtomicU64>,
}

impl Session {
    /// Connects and joins.
    ///
    /// # Errors
    /// All but the variants about requests.
    pub async fn connect(address: &Address, join: &Join) -> Result<Session, ClientError> {
        let enter = async {
            let socket = open(address, join.serializer).await?;
            Session::join(socket, join).await
        };
        let silent = |_| ClientError::Silent {
            address: address.to_string(),
            secs: JOIN_TIMEOUT.as_secs(),
        };
        timeout(JOIN_TIMEOUT, enter).await.map_err(silent)?
    }

    /// Joins over an open WebSocket.
    ///
    /// # Errors
    /// `Refused` and `Closed`.
    pub async fn join<S>(
        mut socket: WebSocketStream<S>,
        join: &Join,
    ) -> Result<Session, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let welcome = shake_hands(&mut socket, join).await?;
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let (closing, closed) = watch::channel(None);
        let back = requests.downgrade();
        let driver = Driver::new(socket, join, queue, back, closing);
        tokio::spawn(driver.run());
        Ok(Session {
            requests,
            closed,
            serializer: join.serializer,
            id: welcome.session,
            calls: Arc::default(),
        })
    }

    /// The session id.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Publishes without acknowledgement: what becomes of it is not told.
    ///
    /// # Errors
    /// `Arguments` and `Closed`.
    pub async fn publish(
        &self,
        topic: &str,
        arguments: Arguments,
        options: Dict,
    ) -> Result<(), ClientError> {
        // The session could tell nobody that it cannot write them.
        arguments.to_wire(self.serializer.encoding())?;
        let topic = topic.to_owned();
        let reply = None;
        self.ask(Request::Publish {
            topic,
            arguments,
            options,
            reply,
        })
        .await
    }

    /// Publishes; the reply is the publication id. Further requests may follow before it is waited
    /// for.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn publish_acknowledged(
        &self,
        topic: &str,
        arguments: Arguments,
        options: Dict,
    ) -> Result<Reply<u64>, ClientError> {
        let topic = topic.to_owned();
        let (reply, answer) = self.reply();
        let reply = Some(reply);
        self.ask(Request::Publish {
            topic,
            arguments,
            options,
            reply,
        })
        .await?;
        Ok(answer)
    }

    /// Subscribes to a topic or a pattern.
    ///
    /// # Errors
    /// `Request` and `Closed`.
    pub async fn subscribe(&self, topic: &str, options: Dict) -> Result<Subscription, ClientError> {
        let (events, stream) = mpsc::channel(EVENT_QUEUE);
        let (reply, answer) = self.reply();
        let topic = topic.to_owned();
        self.ask(Request::Subscribe {
            topic,
            options,
            events,
            reply,
        })
        .await?;
        Ok(Subscription {
            id: answer.wait().await?,
            events: stream,
            closed: self.closed.clone(),
        })
    }

    /// Calls a procedure, with progressive results.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn call(
        &self,
        procedure: &str,
        arguments: Arguments,
        options: Dict,
    ) -> Result<Call, ClientError> {
        let (progress, stream) = mpsc::channel(PROGRESS_QUEUE);
        let (key, answer) = self
            .start_call(procedure, arguments, options, Some(progress))
            .await?;
        Ok(Call {
            key,
            progress: stream,
            answer,
            requests: self.requests.clone(),
        })
    }

    /// Calls a procedure without progressive results. Further requests may follow before the reply
    /// is waited for.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn request(
        &self,
        procedure: &str,
        arguments: Arguments,
        options: Dict,
    ) -> Result<Reply<Arguments>, ClientError> {
        let call = self.start_call(procedure, arguments, options, None);
        Ok(call.await?.1)
    }

    /// Calls a procedure and waits for its result.
    ///
    /// # Errors
    /// `Request`, `Arguments` and `Closed`.
    pub async fn call_plain(
        &self,
        procedure: &str,
        arguments: Arguments,
    ) -> Result<Arguments, ClientError> {
        let reply = self.request(procedure, arguments, Dict::new()).await?;
        reply.wait().await
    }

    async fn start_call(
        &self,
        procedure: &str,
        arguments: Arguments,
        options: Dict,
        progress: Option<mpsc::Sender<Arguments>>,
    ) -> Result<(u64, Reply<Arguments>), ClientError> {
        let key = self.calls.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = self.reply();
        self.ask(Request::Call {
            key,
            procedure: procedure.to_owned(),
            arguments,
            options,
            progress,
            reply,
        })
        .await?;
        Ok((key, answer))
    }

    /// Registers a procedure; answers the registration id. Calls are handled side by side.
    ///
    /// # Errors
    /// `Request` and `Closed`.
    pub async fn register<H, F>(
        &self,
        procedure: &str,
        options: Dict,
        handler: H,
    ) -> Result<u64, ClientError>
    where
        H: Fn(Invocation) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Arguments, Failure>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |invocation| Box::pin(handler(invocation)));
        let procedure = procedure.to_owned();
        let (reply, answer) = self.reply();
        self.ask(Request::Register {
            procedure,
            options,
            handler,
            reply,
        })
        .await?;
        answer.wait().await
    }

    /// Says goodbye and waits for the answer.
    ///
    /// # Errors
    /// `Closed`, if the session ended otherwise or the router does not answer.
    pub async fn leave(self) -> Result<(), ClientError> {
        let (reply, answer) = self.reply();
        let leave = async {
            self.ask(Request::Goodbye { reply }).await?;
            answer.wait().await?;
            // Until the driver has closed the socket: a program that ends before it cuts it off.
            self.requests.closed().await;
            Ok(())
        };
        let silent = |_| {
            let secs = LEAVE_TIMEOUT.as_secs();
            let reason = format!("GOODBYE was not answered within {secs} s");
            ClientError::Closed(Closed::Lost(reason))
        };
        timeout(LEAVE_TIMEOUT, leave).await.map_err(silent)?
    }

    /// Waits for the end of the session.
    pub async fn ended(&self) -> Closed {
        end_of(&self.closed).await
    }

    fn reply<T>(&self) -> (ReplyTo<T>, Reply<T>) {
        let (reply, answer) = oneshot::channel();
        let closed = self.closed.clone();
        (reply, Reply { answer, closed })
    }

    async fn ask(&self, request: Request) -> Result<(), ClientError> {
        if self.requests.send(request).await.is_err() {
            return Err(ClientError::Closed(self.ended().await));
        }
        Ok(())
    }
}

/// How the session ended, once it has.
async fn end_of(closed: &watch::Receiver<Option<Closed>>) -> Closed {
    let mut closed = closed.clone();
    let ended = closed.wait_for(Option::is_some).await;
    let ended = ended.ok().and_then(|ended| ended.clone());
    // A driver that is gone without a word was stopped with the program.
    ended.unwrap_or(Closed::Lost("the session was stopped".to_owned()))
}

/// The answer to a request, still to come.
#[must_use]
#[derive(Debug)]
pub struct Reply<T> {
    answer: oneshot::Receiver<Result<T, ClientError>>,
    closed: watch::Receiver<Option<Closed>>,
}

impl<T> Reply<T> {
    /// Waits for it.
    ///
    /// # Errors
    /// What the request failed with, or `Closed`.
    pub async fn wait(self) -> Result<T, ClientError> {
        match self.answer.await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Closed(end_of(&self.closed).await)),
        }
    }
}

/// The events of a subscription.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    events: mpsc::Receiver<Event>,
    closed: watch::Receiver<Option<Closed>>,
}

impl Subscription {
    /// The subscription id.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The next event; `None` when the router has ended the subscription, as after a snapshot.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// `Closed`, when the session has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        if let Some(event) = self.events.recv().await {
            return Ok(Some(event));
        }
        match self.closed.borrow().clone() {
            Some(closed) => Err(ClientError::Closed(closed)),
            None => Ok(None),
        }
    }
}

/// A call under way. Dropped, it goes on; only its results are not heard.
#[derive(Debug)]
pub struct Call {
    key: u64,
    progress: mpsc::Receiver<Arguments>,
    answer: Reply<Arguments>,
    requests: mpsc::Sender<Request>,
}

impl Call {
    /// The next progressive result; `None` when there are no more.
    ///
    /// Cancel safe.
    pub async fn next_progress(&mut self) -> Option<Arguments> {
        self.progress.recv().await
    }

    /// Gives the call up; the answer is still to be waited for, and may be a result after all.
    ///
    /// # Errors
    /// When the session is gone.
    pub async fn cancel(&self, mode: Cancel) -> Result<(), ClientError> {
        let key = self.key;
        let cancel = self.requests.send(Request::Cancel { key, mode });
        match cancel.await {
            Ok(()) => Ok(()),
            Err(_) => Err(ClientError::Closed(end_of(&self.answer.closed).await)),
        }
    }

    /// The final result. Take the progressive ones first: those that find no room hold it up.
    ///
    /// # Errors
    /// `Request`, `Arguments` and `Closed`.
    pub async fn result(self) -> Result<Arguments, ClientError> {
        drop(self.progress);
        self.answer.wait().await
    }
}
