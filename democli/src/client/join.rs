//! From an address to a session that is joined: connect, upgrade, HELLO, and the answer to a
//! CHALLENGE.

use super::driver::{from_frame, lost, to_frame};
use super::state::in_words;
use super::{Address, ClientError, Closed, Dict, Serializer};
use futures_util::{SinkExt as _, StreamExt as _};
use protocols::wamp::message::{Authenticate, Hello, Message, Welcome};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
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

/// Connects and upgrades.
///
/// # Errors
/// `Unreachable` and `NotWamp`.
pub async fn open(
    address: &Address,
    serializer: Serializer,
) -> Result<WebSocketStream<TcpStream>, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        address: address.to_string(),
        source,
    };
    let not_wamp = |reason: String| ClientError::NotWamp {
        address: address.to_string(),
        reason,
    };
    let stream = TcpStream::connect(address.target())
        .await
        .map_err(unreachable)?;
    // Small messages that wait for one another's answer must not wait for Nagle's timer.
    stream.set_nodelay(true).map_err(unreachable)?;
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

/// HELLO to WELCOME (sections "Session Establishment" and "Ticket-based Authentication").
///
/// # Errors
/// `Refused` and `Closed`.
pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    serializer: Serializer,
    realm: &str,
    credentials: &Credentials,
) -> Result<Welcome, ClientError> {
    let hello = Hello {
        realm: realm.into(),
        details: hello_details(credentials),
    };
    send(socket, serializer, hello.into()).await?;
    loop {
        match receive(socket, serializer).await? {
            Message::Welcome(welcome) => return Ok(welcome),
            Message::Abort(abort) => {
                let reason = in_words(&abort.reason, &abort.details);
                return Err(ClientError::Refused { reason });
            }
            Message::Challenge(challenge) => match credentials {
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

fn hello_details(credentials: &Credentials) -> Dict {
    let mut details = json!({
        "agent": concat!("democli/", env!("CARGO_PKG_VERSION")),
        "roles": {
            "publisher": {},
            "subscriber": {"features": {
                "pattern_based_subscription": true,
                "subscription_revocation": true,
            }},
            "caller": {"features": {"progressive_call_results": true}},
            "callee": {"features": {"progressive_call_results": true}},
        },
        "authmethods": ["anonymous"],
    });
    if let Credentials::Ticket { authid, .. } = credentials {
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
