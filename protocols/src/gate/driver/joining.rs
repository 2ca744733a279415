//! From the request to join to the place in the realm: proofs, challenges, and the connection that
//! has the place now.
//!
//! Whoever wants the place of a live connection of the same client waits until that one has heard
//! out its peer: a client that says DISCONNECT, closes and comes again at once has left before it
//! comes, although another task reads its farewell (MQTT 5.0, 3.14.4-3, 3.14.2.2.2).

use super::{Driver, Seat};
use crate::gate::{Authenticate, Authentication, JoinError, JoinRequest, JoinedAs};
use crate::transport::Transport;
use bytes::Bytes;
use bytestring::ByteString;
use router_core::auth::{AuthError, Challenge, Proof, Verified};
use router_core::model::Now;
use router_core::outbox::Former;
use router_core::runtime::EnterRequest;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

type Computed = Result<Proof, AuthError>;

/// A slow proof under way, or waiting for its turn; the request to join, if it is for one, waits
/// for it.
pub(super) struct Proving {
    proof: Pin<Box<dyn Future<Output = Option<Computed>> + Send>>,
    request: Option<Box<JoinRequest>>,
}

/// A challenge that the peer has not answered.
pub(super) struct Challenged {
    challenge: Challenge,
    request: Option<Box<JoinRequest>>,
}

/// Somebody who may come in and waits for the place of a former connection.
pub(super) struct Entering {
    verified: Verified,
    request: Box<JoinRequest>,
    former: Option<Former>,
    until: Instant,
}

impl<T: Transport + Unpin> Driver<T> {
    /// A join waits for a slow proof, or for the connection whose place it takes.
    pub(super) fn is_joining(&self) -> bool {
        let proving = self.proving.as_ref();
        self.entering.is_some() || proving.is_some_and(|proving| proving.request.is_some())
    }

    /// When somebody else's place is taken at the latest.
    pub(super) fn enters_at(&self) -> Option<Instant> {
        self.entering.as_ref().map(|entering| entering.until)
    }

    /// The connection closes: whatever would let it in, or prove it again, is given up.
    pub(super) fn give_up_joining(&mut self) {
        (self.proving, self.challenged, self.entering) = (None, None, None);
    }

    pub(super) fn join(&mut self, now: Now, request: Box<JoinRequest>) {
        if let Some(verified) = self.trusted.as_deref().cloned() {
            return self.enter(now, verified, request);
        }
        let result = self.hub.check(request.realm.as_ref(), &request.credentials);
        self.proof(now, result, Some(request));
    }

    pub(super) fn authenticate(&mut self, now: Now, step: Authenticate) {
        match step {
            Authenticate::Answer(message) => {
                if let Some(challenged) = self.challenged.take() {
                    let Challenged { challenge, request } = *challenged;
                    let result = challenge.answer(&message).map_err(JoinError::from);
                    self.proof(now, result, request);
                }
            }
            Authenticate::Again(credentials) => {
                if let Some(seat) = &self.seat {
                    let realm = seat.door.cell.name();
                    let result = self.hub.check(Some(realm), &credentials);
                    self.proof(now, result, None);
                }
            }
        }
    }

    /// Goes on with a proof: of who wants to join, or again of who has.
    fn proof(
        &mut self,
        now: Now,
        result: Result<Proof, JoinError>,
        request: Option<Box<JoinRequest>>,
    ) {
        match (result, request) {
            (Ok(Proof::Given(verified)), request) => self.proven(now, verified, None, request),
            (Ok(Proof::Mutual { verified, verifier }), request) => {
                self.proven(now, verified, Some(verifier), request);
            }
            (Ok(Proof::Slow(proof)), request) => {
                let proof = Box::pin(self.options.proofs.compute(move || proof.verify()));
                self.proving = Some(Proving { proof, request });
            }
            (Ok(Proof::Challenge(challenge)), request) => {
                let step = Authentication::Challenge(challenge.message().clone());
                self.challenged = Some(Box::new(Challenged { challenge, request }));
                self.gate.handle_authentication(now, step);
            }
            (Err(error), Some(_)) => self.joined(now, Err(error)),
            (Err(error), None) => {
                let step = Authentication::Failed(error);
                self.gate.handle_authentication(now, step);
            }
        }
    }

    fn proven(
        &mut self,
        now: Now,
        verified: Verified,
        verifier: Option<Bytes>,
        request: Option<Box<JoinRequest>>,
    ) {
        if let Some(request) = request {
            if verifier.is_some() {
                let step = Authentication::Proven { verifier };
                self.gate.handle_authentication(now, step);
            }
            return self.enter(now, verified, request);
        }
        let is_same = self.seat.as_ref().is_some_and(|seat| {
            verified.by_secret && verified.authid.as_ref() == Some(&seat.door.identity.authid)
        });
        let step = if is_same {
            Authentication::Proven { verifier }
        } else {
            Authentication::Failed(JoinError::BadCredentials)
        };
        self.gate.handle_authentication(now, step);
    }

    pub(super) fn poll_proof(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let Some(proving) = &mut self.proving else {
            return false;
        };
        let Poll::Ready(result) = proving.proof.as_mut().poll(cx) else {
            return false;
        };
        let request = proving.request.take();
        self.proving = None;
        let result = match result {
            Some(result) => result.map_err(JoinError::from),
            None => Err(JoinError::Unavailable),
        };
        self.proof(now, result, request);
        self.read_behind(now);
        true
    }

    /// Takes a place, after its holder has heard out its peer.
    fn enter(&mut self, now: Now, verified: Verified, request: Box<JoinRequest>) {
        let entering = Entering {
            verified,
            request,
            former: None,
            // However many have the place meanwhile.
            until: now.instant + self.options.hear_out,
        };
        self.enter_after_former(now, entering);
    }

    fn enter_after_former(&mut self, now: Now, mut entering: Entering) {
        let Entering {
            verified,
            request,
            former,
            until,
        } = &mut entering;
        let holder = request
            .client
            .as_ref()
            .filter(|_| now.instant < *until)
            .and_then(|client| {
                self.hub
                    .former(request.realm.as_ref(), &client.id, verified)
            });
        match holder {
            // Not the one that was heard: another was let in meanwhile.
            Some((outbox, generation))
                if !former
                    .as_ref()
                    .is_some_and(|former| former.is(&outbox, generation)) =>
            {
                *former = Some(Former::ask(outbox, generation));
                self.entering = Some(Box::new(entering));
            }
            _ => self.take_place(now, entering.verified, entering.request),
        }
    }

    /// Goes on once the former connection has heard out its peer, or had its time.
    pub(super) fn poll_entering(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let is_over = self.entering.as_ref().is_some_and(|entering| {
            entering.until <= now.instant
                || entering
                    .former
                    .as_ref()
                    .is_none_or(|former| former.is_done(cx.waker()))
        });
        let Some(entering) = self.entering.take_if(|_| is_over) else {
            return false;
        };
        self.enter_after_former(now, *entering);
        self.read_behind(now);
        true
    }

    fn take_place(&mut self, now: Now, verified: Verified, request: Box<JoinRequest>) {
        let JoinRequest {
            realm,
            features,
            style,
            client,
            protocol,
            method,
            agent,
            ..
        } = *request;
        let mut transport = vec![
            ("protocol", ByteString::from_static(protocol)),
            ("peer", ByteString::from(&*self.peer)),
        ];
        transport.extend(agent.map(|agent| ("agent", agent)));
        let transport = transport.into();
        let method = ByteString::from_static(method);
        let enter = EnterRequest {
            features,
            style,
            client,
            method,
            transport,
        };
        let result = self
            .hub
            .enter(now, realm.as_ref(), verified, enter)
            .map(|door| {
                let identity = &door.identity;
                let joined = JoinedAs {
                    session: door.connection.session,
                    realm: door.cell.name().clone(),
                    authid: identity.authid.clone(),
                    role: identity.role.name.clone(),
                    method: identity.method.clone(),
                    provider: identity.provider.clone(),
                };
                self.seat = Some(Seat::new(self.hub.clone(), door));
                joined
            });
        self.joined(now, result);
    }

    fn joined(&mut self, now: Now, result: Result<JoinedAs, JoinError>) {
        if result.is_ok() {
            self.transport.logged_in();
        }
        self.gate.handle_joined(now, result);
    }
}
