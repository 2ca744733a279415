//! How connections are opened, and by whom.

use super::line::Line;
use super::mqtt::{self, MqttPeer};
use super::peer::{Heard, Peer, PubSub};
use super::settings::Settings;
use super::wamp::{self, WampPeer};
use crate::cli::client::Connection;
use crate::cli::failure::Failure;
use protocols::mqtt::packet::QoS;
use router_client::{Address, Credentials, Place, Stream};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// The realm that MQTT clients are in unless they name another.
const MQTT_REALM: &str = "realm1";
/// The name of a client that selects a realm and proves nothing.
const ANYBODY: &str = "bench";

/// Opens connections of one protocol.
pub(super) trait Door {
    /// What speaks it.
    type Peer: PubSub;

    /// Connects client `name` and waits until it is let in.
    ///
    /// # Errors
    /// Nobody is there, or does not let it in, or does not answer.
    async fn open(&self, name: &str) -> Result<Line<Self::Peer>, Failure>;
}

/// Opens MQTT connections.
#[derive(Debug)]
pub(super) struct MqttDoor {
    address: Address,
    who: Rc<str>,
    manner: mqtt::Manner,
    patience: Duration,
}

/// Opens WAMP connections.
#[derive(Debug)]
pub(super) struct WampDoor {
    address: Address,
    who: Rc<str>,
    manner: wamp::Manner,
    patience: Duration,
}

impl MqttDoor {
    /// For clients that publish or subscribe with this QoS.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub(super) fn new(
        settings: &Settings,
        connection: &Connection,
        qos: QoS,
    ) -> Result<MqttDoor, Failure> {
        let (name, password) = match connection.credentials()? {
            Credentials::Anonymous => (None, None),
            Credentials::Ticket { authid, ticket } => (Some(authid), Some(ticket)),
        };
        let realm = Some(connection.realm()).filter(|realm| *realm != MQTT_REALM);
        let username = match (name, realm) {
            (None, None) => None,
            (name, Some(realm)) => {
                let name = name.as_deref().unwrap_or(ANYBODY);
                Some(format!("{name}@{realm}"))
            }
            (name, None) => name,
        };
        Ok(MqttDoor {
            address: settings.mqtt.address().clone(),
            who: settings.mqtt.to_string().into(),
            manner: mqtt::Manner {
                version: settings.version,
                qos,
                username,
                password,
                size: settings.size,
            },
            patience: settings.patience,
        })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self.address.place() {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Batches are made by us, not by Nagle's timer.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

impl Door for MqttDoor {
    type Peer = MqttPeer;

    async fn open(&self, name: &str) -> Result<Line<MqttPeer>, Failure> {
        let stream = timeout(self.patience, self.connect()).await;
        let stream = stream.map_err(|_| silent(&self.who, self.patience))?;
        let stream = stream
            .map_err(|error| Failure::failed(format!("no MQTT server at {}: {error}", self.who)))?;
        let peer = MqttPeer::new(self.manner.clone(), name.to_owned());
        enter(Line::new(stream, self.who.clone(), peer), self.patience).await
    }
}

impl WampDoor {
    /// For clients that publish with this QoS.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub(super) fn new(
        settings: &Settings,
        connection: &Connection,
        qos: QoS,
        quiet_topic: String,
    ) -> Result<WampDoor, Failure> {
        Ok(WampDoor {
            address: connection.address().clone(),
            who: connection.address().to_string().into(),
            manner: wamp::Manner {
                serializer: settings.serializer,
                realm: connection.realm().to_owned(),
                credentials: connection.credentials()?,
                qos: qos as u8,
                is_mixed: settings.is_mixed(),
                size: settings.size,
                quiet_topic,
            },
            patience: settings.patience,
        })
    }
}

impl Door for WampDoor {
    type Peer = WampPeer;

    async fn open(&self, _name: &str) -> Result<Line<WampPeer>, Failure> {
        let opened = router_client::open(&self.address, self.manner.serializer);
        let opened = timeout(self.patience, opened).await;
        let socket = opened.map_err(|_| silent(&self.who, self.patience))??;
        // The router says nothing before HELLO, so nothing was read beyond the upgrade.
        let stream = socket.into_inner();
        let peer = WampPeer::new(self.manner.clone());
        enter(Line::new(stream, self.who.clone(), peer), self.patience).await
    }
}

fn silent(who: &str, patience: Duration) -> Failure {
    let secs = patience.as_secs_f64();
    Failure::failed(format!("{who} did not answer within {secs} s"))
}

async fn enter<P: Peer>(mut line: Line<P>, patience: Duration) -> Result<Line<P>, Failure> {
    line.peer.hello(&mut line.out);
    line.until(patience, &mut |heard| Ok(matches!(heard, Heard::Welcome)))
        .await?;
    Ok(line)
}
