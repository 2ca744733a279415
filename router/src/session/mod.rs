//! A session of a realm inside the program that runs the router.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use reynard::session::{AppError, Invocation, RegisterOptions, SubscribeOptions};
//! let router = reynard::Router::open(&reynard::config::Config::default())?;
//! let session = router.session("realm1").await?;
//! let mut events = session.subscribe("app.#", SubscribeOptions::new()).await?;
//! let _double = session
//!     .register("app.double", RegisterOptions::new(), |call: Invocation| async move {
//!         let number: f64 = call.values.get().map_err(|_| AppError::invalid_argument("a number"))?;
//!         Ok(number * 2.0)
//!     })
//!     .await?;
//! session.publish("app.state", 21).retain().await?;
//! let lock = session.kv().lock("app.lock").await?;
//! lock.release().await?;
//! while let Some(event) = events.next().await {
//!     println!("{}: {}", event.topic, event.values.value());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It is an ordinary session: it shows in the session list, has a role, and gets its events in the
//! realm's order. Names are dotted as in WAMP, or [`Mqtt`]`("with/slashes")`. Every handle
//! ([`Subscription`], [`Registration`], [`LockGuard`], a call under way) keeps it open; when the
//! last one is dropped it leaves as lost, [`Session::close`] leaves as intended.

mod call;
mod driver;
mod error;
mod inner;
mod keys;
mod kv;
mod name;
mod publish;
mod queue;
mod register;
mod subscribe;
mod values;

pub use call::{Call, ProgressiveCall};
pub use error::{AppError, Error, SessionEnd};
pub use keys::{Change, Changes, KeyPage, ListOptions, ListedKey};
pub use kv::{Kv, KvEntry, LockGuard};
pub use name::{Mqtt, Name, TopicName};
pub use publish::{Publish, Published};
pub use register::{Caller, DEFAULT_CONCURRENCY, Invocation, RegisterOptions, Registration};
pub use router_core::model::{ErrorKind, InvokePolicy, Publisher, Qos};
pub use router_core::runtime::EnterError;
pub use subscribe::{Event, SubscribeOptions, Subscription};
pub use values::{Arguments, IntoPayload, Raw, Values};

use crate::router::Router;
use bytestring::ByteString;
use inner::{Inner, Owner};
use publish::Doing;
use router_core::auth::{Role, Verified};
use router_core::runtime::{EnterRequest, now};
use router_core::session::{EventStyle, Features, Leave};
use std::future::IntoFuture;
use std::sync::Arc;

/// The role of a session that was given none: the program's own, which may do everything.
const TRUSTED: &str = "trusted";
/// Protocol and authentication method in the session list.
const INTERNAL: &str = "internal";

/// A session; a handle, cheap to clone.
#[derive(Clone)]
pub struct Session {
    owner: Arc<Owner>,
}

/// A session to be opened by awaiting it.
#[must_use = "no session is opened until this is awaited"]
pub struct OpenSession<'a> {
    router: &'a Router,
    realm: &'a str,
    authid: &'a str,
    role: Option<&'a str>,
}

impl<'a> OpenSession<'a> {
    pub(crate) fn new(router: &'a Router, realm: &'a str) -> OpenSession<'a> {
        OpenSession {
            router,
            realm,
            authid: INTERNAL,
            role: None,
        }
    }

    /// Its authenticated name; `internal` if not given.
    pub fn authid(mut self, authid: &'a str) -> OpenSession<'a> {
        self.authid = authid;
        self
    }

    /// Takes a role of the configuration, with its rules, instead of being allowed everything.
    pub fn role(mut self, role: &'a str) -> OpenSession<'a> {
        self.role = Some(role);
        self
    }

    fn open(self) -> Result<Session, Error> {
        let router = self.router;
        if !router.is_ready() {
            return Err(EnterError::ShuttingDown.into());
        }
        let role = match self.role {
            Some(name) => router.role(self.realm, name),
            None => Arc::new(Role::unrestricted(TRUSTED)),
        };
        let verified = Verified {
            authid: Some(self.authid.into()),
            role,
            by_secret: true,
        };
        let request = EnterRequest {
            features: Features {
                progressive_results: true,
                call_canceling: true,
                subscription_revocation: true,
                registration_revocation: true,
                ..Features::default()
            },
            style: EventStyle::Ordered,
            client: None,
            method: ByteString::from_static(INTERNAL),
            transport: [("protocol", ByteString::from_static(INTERNAL))].into(),
        };
        let realm = ByteString::from(self.realm);
        let door = router.hub().enter(now(), Some(&realm), verified, request)?;
        let inner = Arc::new(Inner::new(router.clone(), door));
        let owner = Arc::new(Owner {
            inner: inner.clone(),
        });
        let mut drain = router.drain_signal();
        let drained = async move {
            // A closed channel means the router is gone, which is a shutdown too.
            let _ = drain.wait_for(|drain| *drain).await;
        };
        let task = tokio::spawn(driver::run(inner.clone(), Arc::downgrade(&owner), drained));
        inner.started(task.abort_handle());
        Ok(Session { owner })
    }
}

impl<'a> IntoFuture for OpenSession<'a> {
    type Output = Result<Session, Error>;
    type IntoFuture = Doing<'a, Session>;

    fn into_future(self) -> Doing<'a, Session> {
        Box::pin(async move { self.open() })
    }
}

impl Session {
    /// Its id, as other sessions see it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner().id().0
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.inner().door.cell.name()
    }

    /// Its authenticated name.
    #[must_use]
    pub fn authid(&self) -> &str {
        &self.inner().door.identity.authid
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.inner().door.identity.role.name
    }

    /// Leaves the realm as intended. Streams end, whoever waits for an answer gets
    /// [`Error::Ended`], handlers are dropped.
    pub fn close(&self) {
        self.inner().finish(SessionEnd::Closed, Leave::Clean);
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn end(&self) -> Option<SessionEnd> {
        self.inner().end()
    }

    /// Waits until it is over.
    pub async fn ended(&self) -> SessionEnd {
        let mut ended = self.inner().ended.subscribe();
        // The sender lives as long as this handle.
        let end = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone());
        end.unwrap_or(SessionEnd::Closed)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("realm", &self.realm())
            .finish_non_exhaustive()
    }
}

/// An answer of another kind than the request; a bug of ours, which must not hurt the program.
fn unexpected() -> Error {
    Error::Refused {
        kind: ErrorKind::Internal,
        message: "an answer of the wrong kind".to_owned(),
    }
}
