//! From an address to a session that is joined: connect, upgrade, HELLO, and the answer to a
//! CHALLENGE.

use super::driver::{from_frame, lost, to_frame};
use super::state::in_words;
use super::{Address, ClientError, Closed, Dict, Place, Pulse, Serializer};
use futures_util::{SinkExt as _, StreamExt as _};
use protocols::wamp::message::{Authenticate, Hello, Message, Welcome};
use serde_json::{Value, json};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user with a ticket.
    Ticket {
        /// The user.
        authid: String,
        /// The secret.
        ticket: String,
    },
}

/// How a session is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The realm.
    pub realm: String,
    /// Who joins.
    pub credentials: Credentials,
    /// How messages are written.
    pub serializer: Serializer,
    /// The name of the program, for the router's lists.
    pub agent: String,
    /// How soon a dead connection is noticed.
    pub pulse: Pulse,
}

impl Join {
    /// Joins `realm` anonymously, in JSON.
    pub fn new(realm: &str, agent: &str) -> Join {
        Join {
            realm: realm.to_owned(),
            credentials: Credentials::Anonymous,
            serializer: Serializer::default(),
            agent: agent.to_owned(),
            pulse: Pulse::default(),
        }
    }
}

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects and upgrades.
///
/// # Errors
/// `Unreachable` and `NotWamp`.
pub async fn open(
    address: &Address,
    serializer: Serializer,
) -> Result<WebSocketStream<Box<dyn Stream>>, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        address: address.to_string(),
        source,
    };
    let not_wamp = |reason: String| ClientError::NotWamp {
        address: address.to_string(),
        reason,
    };
    let stream = connect(address.place()).await.map_err(unreachable)?;
    let mut request = address
        .url()
        .into_client_request()
        .map_err(|error| not_wamp(error.to_string()))?;
    let subprotocol = HeaderValue::from_static(serializer.subprotocol());
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    // Read buffers beyond a few messages only cost memory.
    let config = WebSocketConfig::default().read_buffer_size(16 << 10);
    let upgraded = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    match upgraded {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Io(source)) => Err(unreachable(source)),
        Err(Error::Http(response)) => Err(not_wamp(format!("HTTP {}", response.status()))),
        Err(error) => Err(not_wamp(error.to_string())),
    }
}

async fn connect(place: &Place) -> io::Result<Box<dyn Stream>> {
    match place {
        Place::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Small messages that wait for one another's answer must not wait for Nagle's timer.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// HELLO to WELCOME (sections "Session Establishment" and "Ticket-based Authentication").
///
/// # Errors
/// `Refused` and `Closed`.
pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    join: &Join,
) -> Result<Welcome, ClientError> {
    let serializer = join.serializer;
    let hello = Hello {
        realm: join.realm.as_str().into(),
        details: hello_details(join),
    };
    send(socket, serializer, hello.into()).await?;
    loop {
        match receive(socket, serializer).await? {
            Message::Welcome(welcome) => return Ok(welcome),
            Message::Abort(abort) => {
                let reason = in_words(&abort.reason, &abort.details);
                return Err(ClientError::Refused { reason });
            }
            Message::Challenge(challenge) => match &join.credentials {
                Credentials::Ticket { ticket, .. } if &*challenge.method == "ticket" => {
                    let authenticate = Authenticate {
                        signature: ticket.as_str().into(),
                        extra: Dict::new(),
                    };
                    send(socket, serializer, authenticate.into()).await?;
                }
                _ => {
                    let reason = format!("it wants the method {:?}", &*challenge.method);
                    return Err(ClientError::Refused { reason });
                }
            },
            other => {
                let violation = format!("{} before WELCOME", other.name());
                return Err(ClientError::Closed(Closed::Violation(violation)));
            }
        }
    }
}

fn hello_details(join: &Join) -> Dict {
    let mut details = json!({
        "agent": join.agent,
        "roles": {
            "publisher": {},
            "subscriber": {"features": {
                "pattern_based_subscription": true,
                "subscription_revocation": true,
            }},
            "caller": {"features": {
                "progressive_call_results": true,
                "call_canceling": true,
            }},
            "callee": {"features": {"progressive_call_results": true}},
        },
        "authmethods": ["anonymous"],
    });
    if let Credentials::Ticket { authid, .. } = &join.credentials {
        details["authmethods"] = json!(["ticket"]);
        details["authid"] = json!(authid);
    }
    match details {
        Value::Object(details) => details,
        _ => Dict::new(),
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    serializer: Serializer,
    message: Message,
) -> Result<(), ClientError> {
    let frame = to_frame(&message, serializer.encoding());
    let sent = socket.send(frame).await;
    sent.map_err(|error| ClientError::Closed(lost(Some(error))))
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    serializer: Serializer,
) -> Result<Message, ClientError> {
    loop {
        let frame = match socket.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(ClientError::Closed(lost(Some(error)))),
            None => return Err(ClientError::Closed(lost(None))),
        };
        let message = from_frame(frame, serializer.encoding()).map_err(ClientError::Closed)?;
        if let Some(message) = message {
            return Ok(message);
        }
    }
}
