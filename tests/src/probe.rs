//! Is the router still good to strangers?

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::mqtt::{Client, Connect};
use crate::wamp::Session;
use crate::{Server, http};

/// A fresh MQTT client and a fresh WAMP session connect, and each receives what
/// the other publishes; the health page answers.
///
/// # Errors
/// Fails at the first thing that does not work.
pub fn liveness(server: &Server) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let health = http::get(server.listen, "/healthz").context("no health page")?;
    ensure!(health.status == 200, "/healthz: {}", health.status);

    let id = format!("probe-{number}");
    let mut device =
        Client::connect(server.mqtt_addr()?, &Connect::v4(&id)).context("no MQTT connection")?;
    let mut session = Session::join(server.listen, "realm1").context("no WAMP session")?;
    ensure!(
        device.subscribe(&format!("probe/{number}/down"), 1)? == 1,
        "MQTT subscribe refused"
    );
    session.subscribe(&format!("probe.{number}.up"), json!({}))?;

    session.publish(
        &format!("probe.{number}.down"),
        json!([number]),
        json!({}),
        json!({}),
    )?;
    let message = device.message().context("WAMP to MQTT")?;
    ensure!(
        message.payload == number.to_string().into_bytes(),
        "WAMP to MQTT: {message:?}"
    );

    device.publish(
        &format!("probe/{number}/up"),
        number.to_string().as_bytes(),
        1,
        false,
    )?;
    let event = session.event().context("MQTT to WAMP")?;
    ensure!(event.args == json!([number]), "MQTT to WAMP: {event:?}");
    device.disconnect()
}
