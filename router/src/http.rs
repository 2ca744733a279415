//! HTTP/1.1 on the universal listener: WebSocket upgrades, health and metrics.

use crate::gates::Protocol;
use crate::local::LocalStream;
use crate::longpoll;
use crate::metrics;
use crate::router::Router;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use protocols::transport::{accept_key, choose_subprotocol};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What answers carry.
pub type Body = Full<Bytes>;

/// How long a request's head may take, and a connection may stay silent between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer under way may take when the router shuts down.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest head, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// The most header fields.
const HEAD_FIELDS: usize = 64;

/// Serves one connection. `guard` is held until the last of it is gone, upgrades included.
pub async fn serve<S, G>(router: Router, io: S, peer: String, guard: G)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: Send + Sync + 'static,
{
    let guard = Arc::new(guard);
    let mut drain = router.drain_signal();
    let draining = !router.is_ready();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (router, peer, guard) = (router.clone(), peer.clone(), guard.clone());
        async move {
            Ok::<_, Infallible>(match longpoll::is_at(request.uri().path()) {
                true => longpoll::answer(&router, request, peer).await,
                false => answer(&router, request, peer, guard),
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(!draining)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        // Whoever comes during the drain comes to ask for health, and is answered.
        _ = drain.wait_for(|drain| *drain), if !draining => None,
    };
    match ended {
        Some(result) => note(result),
        None => {
            connection.as_mut().graceful_shutdown();
            if let Ok(result) = tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await {
                note(result);
            }
        }
    }
}

fn note(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection lost");
    }
}

fn answer<B, G: Send + Sync + 'static>(
    router: &Router,
    mut request: Request<B>,
    peer: String,
    guard: Arc<G>,
) -> Response<Body> {
    let path = request.uri().path();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        "/healthz" if is_read => health(true),
        "/readyz" if is_read => health(router.is_ready()),
        "/metrics" if is_read => match metrics::exposition(router) {
            Ok(text) => with_type(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the figures cannot be written\n",
            ),
        },
        "/healthz" | "/readyz" | "/metrics" => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n",
        ),
        _ => router.upgrade_guarded(&mut request, peer, guard),
    }
}

fn health(is_fine: bool) -> Response<Body> {
    match is_fine {
        true => with_type(
            StatusCode::OK,
            "application/json",
            "{\"status\":\"ok\"}\n".to_owned(),
        ),
        false => with_type(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            "{\"status\":\"draining\"}\n".to_owned(),
        ),
    }
}

/// A few words for a person.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", text)
}

/// A body of some type.
pub fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl Router {
    /// Answers a WebSocket upgrade at one of the router's paths and serves the connection in a task
    /// of its own; any other request gets a refusal. Works for every server built on hyper, axum
    /// among them. `peer` names the other side in logs and listings.
    pub fn upgrade<B>(&self, request: &mut Request<B>, peer: String) -> Response<Body> {
        self.upgrade_guarded(request, peer, Arc::new(()))
    }

    fn upgrade_guarded<B, G: Send + Sync + 'static>(
        &self,
        request: &mut Request<B>,
        peer: String,
        guard: Arc<G>,
    ) -> Response<Body> {
        let path = request.uri().path();
        let known = ["/", "/ws", "/wamp", "/mqtt"].contains(&path);
        if !known || (path == "/" && !names(request.headers(), &UPGRADE, "websocket")) {
            return plain(StatusCode::NOT_FOUND, "nothing is served at this path\n");
        }
        if let Err((status, text)) = check_upgrade(request) {
            let mut response = plain(status, text);
            if status == StatusCode::UPGRADE_REQUIRED {
                let headers = response.headers_mut();
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            return response;
        }
        let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
        let offered = offered.iter().filter_map(|value| value.to_str().ok());
        let is_served = |name: &str| Protocol::of_subprotocol(name).is_some_and(|p| p.is_at(path));
        let chosen = choose_subprotocol(offered, is_served)
            .and_then(|name| Some((name.to_owned(), Protocol::of_subprotocol(name)?)));
        let Some((name, protocol)) = chosen else {
            return plain(
                StatusCode::BAD_REQUEST,
                "none of the subprotocols is served here\n",
            );
        };
        let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
            return plain(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n");
        };
        let accept = accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(request);
        let router = self.clone();
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => router.serve_upgraded(upgraded, protocol, peer).await,
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
            drop(guard);
        });
        switching(&accept, &name)
    }

    async fn serve_upgraded(
        &self,
        upgraded: hyper::upgrade::Upgraded,
        protocol: Protocol,
        peer: String,
    ) {
        // Our own listeners' sockets come out as they were; any other stream is served as it is.
        let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => {
                let io = parts.io.into_inner();
                return self
                    .serve_websocket(io, parts.read_buf, protocol, peer)
                    .await;
            }
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<LocalStream>>() {
            Ok(parts) => {
                let io = parts.io.into_inner();
                self.serve_websocket(io, parts.read_buf, protocol, peer)
                    .await;
            }
            Err(upgraded) => {
                let io = TokioIo::new(upgraded);
                self.serve_websocket(io, Bytes::new(), protocol, peer).await;
            }
        }
    }
}

fn switching(accept: &str, subprotocol: &str) -> Response<Body> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, value) in [
        (SEC_WEBSOCKET_ACCEPT, accept),
        (SEC_WEBSOCKET_PROTOCOL, subprotocol),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// RFC 6455 section 4.2.1.
fn check_upgrade<B>(request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
    let headers = request.headers();
    if !names(headers, &UPGRADE, "websocket") || !names(headers, &CONNECTION, "upgrade") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket\n"));
    }
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "an upgrade is a GET\n"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "WebSocket version 13 is spoken here\n",
        ));
    }
    Ok(())
}

/// Whether a comma-separated header names `token`, in any case.
fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(token))
}
