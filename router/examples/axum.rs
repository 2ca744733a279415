//! One port for a web application and the router: `cargo run -p router --example axum`, then
//!
//! ```text
//! curl http://127.0.0.1:8080/            Hello World!
//! curl http://127.0.0.1:8080/visits      how often that was asked, read from the realm
//! ws://127.0.0.1:8080/wamp               WAMP, e.g. a call of `app.greet` with a name
//! ws://127.0.0.1:8080/mqtt               MQTT, e.g. a subscription to `app/visits`
//! ```

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use reynard::config::Config;
use reynard::session::{AppError, Error, Invocation, RegisterOptions, Registration};
use reynard::{Router, Session};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// What the web application's handlers share.
#[derive(Clone)]
struct Shared {
    router: Router,
    session: Session,
}

/// The application, and with it the router's two paths.
pub fn app(router: Router, session: Session) -> axum::Router {
    axum::Router::new()
        .route("/", get(hello))
        .route("/visits", get(visits))
        .route("/wamp", any(gate))
        .route("/mqtt", any(gate))
        .with_state(Shared { router, session })
}

/// A web request that every MQTT and WAMP client can follow.
async fn hello(State(shared): State<Shared>) -> Result<&'static str, Unavailable> {
    let kv = shared.session.kv();
    loop {
        let visits = kv.get("app.visits").await?.value;
        let next = visits.as_u64().unwrap_or(0) + 1;
        if kv.cas("app.visits", visits, next).await?.is_some() {
            return Ok("Hello World!");
        }
    }
}

async fn visits(State(shared): State<Shared>) -> Result<String, Unavailable> {
    Ok(shared
        .session
        .kv()
        .get("app.visits")
        .await?
        .value
        .to_string())
}

/// Hands a WebSocket over to the router.
async fn gate(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    shared
        .router
        .upgrade(&mut request, peer.to_string())
        .into_response()
}

/// A procedure of the application, for clients of every protocol that can call.
pub async fn offer(session: &Session) -> Result<Registration, Error> {
    let greet = |call: Invocation| async move {
        let name: String = call
            .values
            .get()
            .map_err(|_| AppError::invalid_argument("one name, please"))?;
        Ok(format!("Hello {name}!"))
    };
    session
        .register("app.greet", RegisterOptions::new(), greet)
        .await
}

/// The realm could not do it now.
struct Unavailable(Error);

impl From<Error> for Unavailable {
    fn from(error: Error) -> Unavailable {
        Unavailable(error)
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config {
        data: reynard::config::DataStore::Memory,
        ..Config::default()
    };
    let router = Router::open(&config)?;
    let session = router.session("realm1").authid("web").await?;
    let _greet = offer(&session).await?;

    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let service = app(router.clone(), session.clone());
    axum::serve(
        listener,
        service.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(async {
        // Without signals the program runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
    .await?;

    // WebSockets are the router's: each says goodbye in its protocol, then the store is closed.
    router.start_drain();
    if tokio::time::timeout(Duration::from_secs(10), router.connections_ended())
        .await
        .is_err()
    {
        eprintln!("some connections did not end in time");
    }
    router.close().await;
    Ok(())
}
