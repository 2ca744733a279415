//! WAMP over HTTP requests (Advanced Profile, "HTTP Longpoll Transport"): `/lp/open`, then
//! `/lp/ID/send`, `/lp/ID/receive` and `/lp/ID/close`. A session is served by the driver over a
//! [mailbox](protocols::transport::Mailbox); requests bring and take its messages.

mod batch;
mod polls;

pub use polls::{Poll, Polls};

use crate::http::{Body, plain, with_type};
use crate::router::Router;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use protocols::transport::{Received, Taken, mailbox};
use protocols::wamp::machine::{Serialization, serialization_of};
use router_core::encoding::Encoding;
use serde::Deserialize;
use std::time::Duration;

/// What the paths begin with.
const BASE: &str = "/lp/";
/// The longest body of requests that bring no messages, in bytes.
const BODY_BYTES: usize = 4 << 10;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last words of a session wait to be taken.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Status and words of the answer to a request that is refused.
type Refusal = (StatusCode, &'static str);

/// There is no such transport, or no more.
const NO_SUCH_TRANSPORT: Refusal = (StatusCode::NOT_FOUND, "there is no such transport\n");

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Open,
    Send(&'a str),
    Receive(&'a str),
    Close(&'a str),
}

/// The body of `open`.
#[derive(Debug, Deserialize)]
struct Asked {
    protocols: Vec<String>,
}

/// Whether a path is one of these.
pub fn is_at(path: &str) -> bool {
    path.starts_with(BASE)
}

fn target(path: &str) -> Option<Target<'_>> {
    let rest = path.strip_prefix(BASE)?;
    match rest.split_once('/') {
        None => (rest == "open").then_some(Target::Open),
        Some((id, "send")) => Some(Target::Send(id)),
        Some((id, "receive")) => Some(Target::Receive(id)),
        Some((id, "close")) => Some(Target::Close(id)),
        Some(_) => None,
    }
}

/// Answers a request at one of the paths.
pub async fn answer(router: &Router, request: Request<Incoming>, peer: String) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = match target(parts.uri.path()) {
        None => plain(StatusCode::NOT_FOUND, "nothing is served at this path\n"),
        Some(_) if parts.method != Method::POST => {
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only POST is answered here\n",
            );
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        Some(target) => carry_out(router, target, body, peer)
            .await
            .unwrap_or_else(|(status, text)| plain(status, text)),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// # Errors
/// The answer to a request that is refused.
async fn carry_out(
    router: &Router,
    target: Target<'_>,
    body: Incoming,
    peer: String,
) -> Result<Response<Body>, Refusal> {
    let found = |id| router.polls().find(id).ok_or(NO_SUCH_TRANSPORT);
    match target {
        Target::Open => open(router, &read(body, BODY_BYTES).await?, peer),
        Target::Send(id) => {
            let poll = found(id)?;
            let max = poll.mailbox.post_bytes_max(router.wamp_bytes_max());
            let messages = received(poll.spoken, read(body, max).await?)?;
            match poll.mailbox.post(messages).await {
                Ok(()) => Ok(success(router)),
                Err(_) => Err(NO_SUCH_TRANSPORT),
            }
        }
        Target::Receive(id) => {
            let poll = found(id)?;
            read(body, BODY_BYTES).await?;
            let taken = poll.mailbox.take(poll.spoken.batched, router.poll_hold());
            match taken.await {
                Taken::Messages(messages) => {
                    let body = batch::join(poll.spoken, messages);
                    Ok(with_type(
                        StatusCode::OK,
                        batch::content_type(poll.spoken),
                        body,
                    ))
                }
                Taken::Nothing => Ok(success(router)),
                Taken::Ended => Err(NO_SUCH_TRANSPORT),
            }
        }
        Target::Close(id) => {
            let poll = found(id)?;
            read(body, BODY_BYTES).await?;
            poll.mailbox.close();
            Ok(success(router))
        }
    }
}

fn open(router: &Router, body: &[u8], peer: String) -> Result<Response<Body>, Refusal> {
    let refused = |text| Err((StatusCode::BAD_REQUEST, text));
    let Ok(asked) = serde_json::from_slice::<Asked>(body) else {
        return refused("the body is not {\"protocols\": […]}\n");
    };
    let known = asked
        .protocols
        .iter()
        .find_map(|name| Some((name, serialization_of(name)?)));
    let Some((name, spoken)) = known else {
        return refused("none of the protocols is spoken here\n");
    };
    let unavailable = |text| (StatusCode::SERVICE_UNAVAILABLE, text);
    if !router.is_ready() {
        return Err(unavailable("the router shuts down\n"));
    }
    let (transport, mailbox) = mailbox();
    let poll = Poll {
        mailbox: mailbox.clone(),
        spoken,
    };
    let Some(id) = router.polls().add(poll) else {
        return Err(unavailable("there are too many long-poll sessions\n"));
    };
    let answer = serde_json::json!({"protocol": name, "transport": id}).to_string();
    let run = router.serve_mailbox(transport, spoken.encoding, peer);
    let router = router.clone();
    tokio::spawn(async move {
        run.await;
        tokio::select! {
            () = mailbox.spent() => {}
            () = tokio::time::sleep(LAST_WORDS) => {}
        }
        router.polls().remove(&id);
    });
    Ok(with_type(StatusCode::OK, "application/json", answer))
}

/// # Errors
/// The answer to a body that is not as agreed.
fn received(spoken: Serialization, body: Bytes) -> Result<Vec<Received>, Refusal> {
    let refusal = (StatusCode::BAD_REQUEST, "the body is not as agreed\n");
    let messages = batch::split(spoken, body).ok_or(refusal)?;
    let is_text = spoken.encoding == Encoding::Json;
    let received = |message: Bytes| match (is_text, std::str::from_utf8(&message)) {
        (false, _) => Some(Received::Binary(message)),
        (true, Ok(_)) => Some(Received::Text(message)),
        (true, Err(_)) => None,
    };
    let received: Option<Vec<Received>> = messages.into_iter().map(received).collect();
    received.ok_or(refusal)
}

/// # Errors
/// The answer to a body that is too long or does not come.
async fn read(body: Incoming, max: usize) -> Result<Bytes, Refusal> {
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n");
    // Whoever says so beforehand is not waited for.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length > max) {
        return Err(too_large);
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body is broken\n")),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time\n",
        )),
    }
}

/// Section "HTTP Longpoll Transport": 'HTTP status code 202 ("no content")'.
fn success(router: &Router) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = match router.polls_no_content() {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::ACCEPTED,
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(target("/lp/open"), Some(Target::Open));
        assert_eq!(target("/lp/x/send"), Some(Target::Send("x")));
        assert_eq!(target("/lp/x/receive"), Some(Target::Receive("x")));
        assert_eq!(target("/lp/x/close"), Some(Target::Close("x")));
        for path in [
            "/lp/",
            "/lp/x",
            "/lp/x/",
            "/lp/x/open",
            "/lp/x/send/",
            "/lp/open/x",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
    }
}
