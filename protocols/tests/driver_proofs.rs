//! Proofs wait for a place to be computed in, within the time that their login has.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver_common;
#[path = "mqtt_machine_common/scram.rs"]
mod scram;

use bytes::Bytes;
use driver_common::{Client, DEADLINE, LONG, Server, connect, settle};
use protocols::gate::Proofs;
use protocols::mqtt::packet::{Auth, Packet, Properties, Secret};
use protocols::mqtt::reason::ReasonCode;
use router_core::auth::{Access, Secret as Word, User};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A router with one place for proofs, which is taken until `_go` is dropped.
struct Busy {
    server: Server,
    go: mpsc::Sender<()>,
    holder: JoinHandle<Option<bool>>,
}

async fn busy(login_timeout: Duration) -> Busy {
    let user = User {
        role: "user".into(),
        secret: Word::Plain(Bytes::from_static(b"joe-secret")),
    };
    let mut server = Server::with(Access {
        users: [("joe".into(), user)].into(),
        ..Access::default()
    });
    server.mqtt.login_timeout = login_timeout;
    server.proofs = Proofs::new(NonZeroUsize::MIN);
    let (go, wait) = mpsc::channel();
    let holder = tokio::spawn(server.proofs.compute(move || wait.recv().is_ok()));
    settle().await;
    Busy { server, go, holder }
}

fn said(data: String) -> Option<Box<Properties>> {
    Properties {
        authentication_method: Some(scram::METHOD.into()),
        authentication_data: Some(Secret(data.into())),
        ..Properties::default()
    }
    .into_optional()
}

impl Busy {
    /// Somebody who has answered the challenge.
    async fn proving(&self) -> (Client, JoinHandle<()>) {
        let (mut client, driver) = self.server.open(64 << 10);
        let driver = tokio::spawn(driver);
        let mut hello = connect(0);
        hello.properties = said(scram::first("joe"));
        client.say(&[Packet::Connect(Box::new(hello))]).await;
        let Some(Packet::Auth(asked)) = client.next().await else {
            panic!("no challenge")
        };
        let asked = asked.properties.unwrap().authentication_data.unwrap();
        let (answer, _) = scram::last("joe", "joe-secret", &asked.0);
        let auth = Auth {
            reason: ReasonCode::ContinueAuthentication,
            properties: said(answer),
        };
        client.say(&[Packet::Auth(auth)]).await;
        settle().await;
        (client, driver)
    }
}

#[tokio::test]
async fn a_proof_waits_for_a_place() {
    let busy = busy(LONG).await;
    let (mut client, _driver) = busy.proving().await;
    assert!(client.has_nothing(), "computed beside the other");
    busy.go.send(()).unwrap();
    assert_eq!(client.acknowledged().await.reason, ReasonCode::Success);
    assert_eq!(busy.holder.await.unwrap(), Some(true));
}

#[tokio::test]
async fn a_proof_waits_no_longer_than_its_login_may_take() {
    let busy = busy(Duration::from_millis(300)).await;
    let (mut client, _driver) = busy.proving().await;
    let ack = client.acknowledged().await;
    assert_eq!(ack.reason, ReasonCode::ServerUnavailable);
    assert!(!busy.holder.is_finished());
}

#[tokio::test]
async fn whoever_goes_away_while_its_proof_waits_gives_up() {
    let busy = busy(LONG).await;
    let (client, driver) = busy.proving().await;
    drop(client);
    timeout(DEADLINE, driver).await.unwrap().unwrap();
    assert!(!busy.holder.is_finished());
    busy.go.send(()).unwrap();
    // Nobody is ahead of the next one.
    assert_eq!(busy.server.proofs.compute(|| 1).await, Some(1));
    assert!(!busy.server.has_connection("c"));
}
