//! A router for tests: over a pipe in memory, it says what a test tells it to.
//!
//! It panics where a peer does what no test expects, as assertions do.
#![allow(clippy::unwrap_used)]

use crate::driver::{from_frame, to_frame};
use crate::{Arguments, Dict, Join, Serializer, Session};
use futures_util::{SinkExt as _, StreamExt as _};
use protocols::wamp::message::{
    Call, ErrorMessage, Message, Payload, ResultMessage, Subscribed, Welcome,
};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The router's end: a test says what it receives and what it sends.
#[derive(Debug)]
pub struct Router {
    socket: WebSocketStream<DuplexStream>,
    serializer: Serializer,
}

impl Router {
    /// The next message.
    pub async fn receive(&mut self) -> Message {
        self.try_receive().await.unwrap()
    }

    /// The next message; `None` when the client has closed the connection.
    pub async fn try_receive(&mut self) -> Option<Message> {
        loop {
            let frame = self.socket.next().await?.ok()?;
            if matches!(frame, Frame::Close(_)) {
                return None;
            }
            if let Some(message) = from_frame(frame, self.serializer.encoding()).unwrap() {
                return Some(message);
            }
        }
    }

    /// The next message, a CALL of `procedure`.
    pub async fn called(&mut self, procedure: &str) -> Call {
        match self.receive().await {
            Message::Call(call) if &*call.procedure == procedure => call,
            other => panic!("no CALL of {procedure}: {other:?}"),
        }
    }

    /// The next frame, the WebSocket's own included.
    pub async fn next_frame(&mut self) -> Frame {
        self.socket.next().await.unwrap().unwrap()
    }

    /// Sends a message.
    pub async fn send(&mut self, message: impl Into<Message>) {
        let frame = to_frame(&message.into(), self.serializer.encoding());
        self.frame(frame).await;
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: Frame) {
        self.socket.send(frame).await.unwrap();
    }

    /// RESULT.
    pub async fn answer(&mut self, request: u64, args: &[Value]) {
        let (details, payload) = (Dict::new(), self.payload(args));
        self.send(ResultMessage {
            request,
            details,
            payload,
        })
        .await;
    }

    /// A progressive RESULT.
    pub async fn progress(&mut self, request: u64, args: &[Value]) {
        let mut details = Dict::new();
        details.insert("progress".to_owned(), true.into());
        let payload = self.payload(args);
        self.send(ResultMessage {
            request,
            details,
            payload,
        })
        .await;
    }

    /// ERROR to a CALL.
    pub async fn fail(&mut self, request: u64, error: &str, args: &[Value], kwargs: &Dict) {
        let payload = Arguments::new(args, kwargs).to_wire(self.serializer.encoding());
        self.send(ErrorMessage {
            request_type: 48,
            request,
            details: Dict::new(),
            error: error.into(),
            payload: payload.unwrap(),
        })
        .await;
    }

    /// Takes a SUBSCRIBE and lets it be.
    pub async fn subscribed(&mut self, subscription: u64) {
        let Message::Subscribe(subscribe) = self.receive().await else {
            panic!("no SUBSCRIBE");
        };
        self.send(Subscribed {
            request: subscribe.request,
            subscription,
        })
        .await;
    }

    /// Arguments for a message of this router.
    pub fn payload(&self, args: &[Value]) -> Payload {
        let encoding = self.serializer.encoding();
        Arguments::list(args).to_wire(encoding).unwrap()
    }

    /// Positional and keyword arguments of a message to this router.
    pub fn values(&self, payload: &Payload) -> (Vec<Value>, Dict) {
        payload.to_values(self.serializer.encoding()).unwrap()
    }

    /// Lets a session in, with id 77; the details of its HELLO.
    pub async fn welcome(&mut self) -> Dict {
        let Message::Hello(hello) = self.receive().await else {
            panic!("no HELLO");
        };
        let details = Dict::new();
        self.send(Welcome {
            session: 77,
            details,
        })
        .await;
        hello.details
    }
}

/// A client's socket and its router.
pub async fn pair(serializer: Serializer) -> (WebSocketStream<DuplexStream>, Router) {
    let (near, far) = tokio::io::duplex(4096);
    let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    let router = Router {
        socket: far,
        serializer,
    };
    (socket, router)
}

/// A joined session and its router.
pub async fn joined(serializer: Serializer) -> (Session, Router) {
    let (socket, mut router) = pair(serializer).await;
    let how = Join {
        serializer,
        ..Join::new("realm1", "test")
    };
    let join = Session::join(socket, &how);
    let (session, _) = tokio::join!(join, router.welcome());
    (session.unwrap(), router)
}
