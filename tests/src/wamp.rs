//! A WAMP client over WebSocket and JSON, just large enough for the stories.
//!
//! Written from the WAMP text, not on our codec. Requests are raw lists, so that a
//! story can also send wrong ones.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::websocket::{Message, WebSocket};

/// Message codes (WAMP, section "Message Codes").
pub mod code {
    /// HELLO.
    pub const HELLO: u64 = 1;
    /// WELCOME.
    pub const WELCOME: u64 = 2;
    /// ABORT.
    pub const ABORT: u64 = 3;
    /// CHALLENGE.
    pub const CHALLENGE: u64 = 4;
    /// AUTHENTICATE.
    pub const AUTHENTICATE: u64 = 5;
    /// GOODBYE.
    pub const GOODBYE: u64 = 6;
    /// ERROR.
    pub const ERROR: u64 = 8;
    /// PUBLISH.
    pub const PUBLISH: u64 = 16;
    /// PUBLISHED.
    pub const PUBLISHED: u64 = 17;
    /// SUBSCRIBE.
    pub const SUBSCRIBE: u64 = 32;
    /// SUBSCRIBED.
    pub const SUBSCRIBED: u64 = 33;
    /// EVENT.
    pub const EVENT: u64 = 36;
    /// CALL.
    pub const CALL: u64 = 48;
    /// CANCEL.
    pub const CANCEL: u64 = 49;
    /// RESULT.
    pub const RESULT: u64 = 50;
    /// REGISTER.
    pub const REGISTER: u64 = 64;
    /// REGISTERED.
    pub const REGISTERED: u64 = 65;
    /// INVOCATION.
    pub const INVOCATION: u64 = 68;
    /// YIELD.
    pub const YIELD: u64 = 70;
}

/// An event as received.
#[derive(Debug, Clone)]
pub struct Event {
    /// Subscription id.
    pub subscription: u64,
    /// Publication id.
    pub publication: u64,
    /// Details.
    pub details: Value,
    /// Arguments; absent ones are an empty list.
    pub args: Value,
    /// Keyword arguments; absent ones are an empty dict.
    pub kwargs: Value,
}

/// An open session. Dropping it closes the socket without GOODBYE.
#[derive(Debug)]
pub struct Session {
    socket: WebSocket,
    backlog: VecDeque<Value>,
    next_request: u64,
    /// The session id.
    pub id: u64,
    /// Details of WELCOME.
    pub welcome: Value,
}

/// The HELLO details of a client that can do everything the stories need.
pub fn roles() -> Value {
    json!({"roles": {
        "publisher": {}, "subscriber": {}, "caller": {"features": {"progressive_call_results": true}},
        "callee": {"features": {"progressive_call_results": true}}
    }})
}

/// Sends HELLO with these details and returns the socket and the first answer.
///
/// # Errors
/// Fails if the socket does not open or closes without an answer.
pub fn hello(addr: SocketAddr, realm: &str, details: Value) -> Result<(WebSocket, Value)> {
    let mut socket = WebSocket::connect(addr, "/wamp", "wamp.2.json")?;
    socket.send_text(&json!([code::HELLO, realm, details]).to_string())?;
    let answer = receive(&mut socket)?;
    Ok((socket, answer))
}

/// The next WAMP message of a JSON socket.
///
/// # Errors
/// Fails if the socket closes instead.
pub fn receive(socket: &mut WebSocket) -> Result<Value> {
    match socket.receive()? {
        Message::Text(text) => serde_json::from_str(&text).context("not JSON"),
        other => bail!("{other:?} instead of a message"),
    }
}

impl Session {
    /// Joins a realm anonymously.
    ///
    /// # Errors
    /// Fails unless the answer is WELCOME.
    pub fn join(addr: SocketAddr, realm: &str) -> Result<Self> {
        let (socket, answer) = hello(addr, realm, roles())?;
        Self::welcomed(socket, answer)
    }

    /// Joins a realm with a ticket.
    ///
    /// # Errors
    /// Fails unless the router asks for a ticket and then welcomes.
    pub fn join_with_ticket(
        addr: SocketAddr,
        realm: &str,
        authid: &str,
        ticket: &str,
    ) -> Result<Self> {
        let (socket, answer) = ticket_hello(addr, realm, authid, ticket)?;
        Self::welcomed(socket, answer)
    }

    fn welcomed(socket: WebSocket, mut answer: Value) -> Result<Self> {
        ensure!(answer[0] == code::WELCOME, "no WELCOME but {answer}");
        let id = answer[1].as_u64().context("no session id")?;
        let welcome = answer[2].take();
        Ok(Self {
            socket,
            backlog: VecDeque::new(),
            next_request: 0,
            id,
            welcome,
        })
    }

    /// Sends any message.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        self.socket.send_text(&message.to_string())
    }

    /// The WebSocket underneath.
    pub fn socket(&mut self) -> &mut WebSocket {
        &mut self.socket
    }

    /// A fresh request id.
    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// The next message for which `wanted` holds; the others wait their turn.
    ///
    /// # Errors
    /// Fails if it does not come.
    pub fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(at) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(at).context("the backlog changed");
        }
        loop {
            let message = receive(&mut self.socket)
                .with_context(|| format!("waiting with {:?} unread", self.backlog))?;
            if wanted(&message) {
                return Ok(message);
            }
            self.backlog.push_back(message);
        }
    }

    /// The reply to a request: the message that mirrors its id, or its ERROR.
    ///
    /// # Errors
    /// Fails if neither comes.
    pub fn reply(&mut self, request: u64) -> Result<Value> {
        self.wait(|message| match message[0].as_u64() {
            Some(code::ERROR) => message[2] == request && message[1] != code::INVOCATION,
            Some(code::EVENT | code::INVOCATION) => false,
            _ => message[1] == request,
        })
    }

    /// Subscribes; the subscription id.
    ///
    /// # Errors
    /// Fails if it is refused.
    pub fn subscribe(&mut self, topic: &str, options: Value) -> Result<u64> {
        let reply = self.try_subscribe(topic, options)?;
        ensure!(reply[0] == code::SUBSCRIBED, "SUBSCRIBE {topic}: {reply}");
        reply[2].as_u64().context("no subscription id")
    }

    /// Subscribes; SUBSCRIBED or ERROR.
    ///
    /// # Errors
    /// Fails if neither comes.
    pub fn try_subscribe(&mut self, topic: &str, options: Value) -> Result<Value> {
        let request = self.request();
        self.send(&json!([code::SUBSCRIBE, request, options, topic]))?;
        self.reply(request)
    }

    /// Publishes with `acknowledge`; the publication id.
    ///
    /// # Errors
    /// Fails if it is refused.
    pub fn publish(
        &mut self,
        topic: &str,
        args: Value,
        kwargs: Value,
        options: Value,
    ) -> Result<u64> {
        let request = self.start_publish(topic, args, kwargs, options)?;
        let reply = self.reply(request)?;
        ensure!(reply[0] == code::PUBLISHED, "PUBLISH {topic}: {reply}");
        reply[2].as_u64().context("no publication id")
    }

    /// Publishes with `acknowledge`; PUBLISHED or ERROR.
    ///
    /// # Errors
    /// Fails if neither comes.
    pub fn try_publish(
        &mut self,
        topic: &str,
        args: Value,
        kwargs: Value,
        options: Value,
    ) -> Result<Value> {
        let request = self.start_publish(topic, args, kwargs, options)?;
        self.reply(request)
    }

    /// Sends a PUBLISH with `acknowledge` and does not wait; its request id.
    ///
    /// # Errors
    /// Fails if the connection is gone.
    pub fn start_publish(
        &mut self,
        topic: &str,
        args: Value,
        kwargs: Value,
        mut options: Value,
    ) -> Result<u64> {
        let request = self.request();
        if options.get("acknowledge").is_none() {
            options["acknowledge"] = json!(true);
        }
        self.send(&json!([
            code::PUBLISH,
            request,
            options,
            topic,
            args,
            kwargs
        ]))?;
        Ok(request)
    }

    /// Registers; REGISTERED or ERROR.
    ///
    /// # Errors
    /// Fails if neither comes.
    pub fn try_register(&mut self, procedure: &str, options: Value) -> Result<Value> {
        let request = self.request();
        self.send(&json!([code::REGISTER, request, options, procedure]))?;
        self.reply(request)
    }

    /// Calls; RESULT or ERROR.
    ///
    /// # Errors
    /// Fails if neither comes.
    pub fn call(&mut self, procedure: &str, args: Value) -> Result<Value> {
        let request = self.request();
        self.send(&json!([code::CALL, request, {}, procedure, args]))?;
        self.reply(request)
    }

    /// What `fox.kv.get` says of a key.
    ///
    /// # Errors
    /// Fails unless the call succeeds.
    pub fn kv(&mut self, key: &str) -> Result<Value> {
        let mut reply = self.call("fox.kv.get", json!([key]))?;
        ensure!(reply[0] == code::RESULT, "fox.kv.get {key}: {reply}");
        Ok(reply[3][0].take())
    }

    /// The next event.
    ///
    /// # Errors
    /// Fails if none comes.
    pub fn event(&mut self) -> Result<Event> {
        let message = self.wait(|message| message[0] == code::EVENT)?;
        let or = |at: usize, default: Value| match message.get(at) {
            None | Some(Value::Null) => default,
            Some(value) => value.clone(),
        };
        Ok(Event {
            subscription: message[1].as_u64().context("no subscription id")?,
            publication: message[2].as_u64().context("no publication id")?,
            details: message[3].clone(),
            args: or(4, json!([])),
            kwargs: or(5, json!({})),
        })
    }

    /// Says GOODBYE and waits for its echo.
    ///
    /// # Errors
    /// Fails if the echo does not come.
    pub fn leave(mut self) -> Result<Value> {
        self.send(&json!([code::GOODBYE, {}, "wamp.close.close_realm"]))?;
        self.wait(|message| message[0] == code::GOODBYE)
    }
}

/// Says HELLO for a ticket and answers the CHALLENGE; the socket and what came then.
///
/// # Errors
/// Fails if the socket closes without an answer.
pub fn ticket_hello(
    addr: SocketAddr,
    realm: &str,
    authid: &str,
    ticket: &str,
) -> Result<(WebSocket, Value)> {
    let mut details = roles();
    details["authmethods"] = json!(["ticket"]);
    details["authid"] = json!(authid);
    let (mut socket, challenge) = hello(addr, realm, details)?;
    if challenge[0] != code::CHALLENGE {
        return Ok((socket, challenge));
    }
    ensure!(challenge[1] == "ticket", "not a ticket: {challenge}");
    socket.send_text(&json!([code::AUTHENTICATE, ticket, {}]).to_string())?;
    let answer = receive(&mut socket)?;
    Ok((socket, answer))
}
