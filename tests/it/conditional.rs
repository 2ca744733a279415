//! Conditional writes: `when` decides before anybody hears of anything.

use anyhow::ensure;
use integration_tests::mqtt::{Client, Connect};
use integration_tests::wamp::{Session, code};
use integration_tests::{Options, Server};
use serde_json::{Value, json};

use crate::Outcome;

/// A WAMP and an MQTT witness of one key.
struct Witnesses {
    session: Session,
    device: Client,
}

impl Witnesses {
    fn of(server: &Server, wamp: &str, mqtt: &str) -> anyhow::Result<Self> {
        let mut session = Session::join(server.listen, "realm1")?;
        session.subscribe(wamp, json!({}))?;
        let mut device = Client::connect(server.mqtt_addr()?, &Connect::v5("witness"))?;
        device.subscribe(mqtt, 1)?;
        Ok(Self { session, device })
    }

    /// The next thing both witnesses see.
    fn both_see(&mut self, value: &Value) -> Outcome {
        let event = self.session.event()?;
        ensure!(
            event.args == json!([value]),
            "WAMP expected {value}: {event:?}"
        );
        let message = self.device.message()?;
        ensure!(
            message.payload == value.to_string().as_bytes(),
            "MQTT expected {value}: {message:?}"
        );
        Ok(())
    }
}

fn start() -> anyhow::Result<(Server, Session, Witnesses)> {
    let server = Server::start(Options::default().memory())?;
    let session = Session::join(server.listen, "realm1")?;
    let witnesses = Witnesses::of(&server, "app.key", "app/key")?;
    Ok((server, session, witnesses))
}

fn when(condition: Value) -> Value {
    json!({"retain": true, "when": condition})
}

#[test]
fn a_rejected_publish_produces_no_event() -> Outcome {
    let (_server, mut writer, mut witnesses) = start()?;
    writer.publish("app.key", json!([{"o": 1}]), json!({}), when(json!(null)))?;
    witnesses.both_see(&json!({"o": 1}))?;

    let reply = writer.try_publish("app.key", json!([{"o": 2}]), json!({}), when(json!(null)))?;
    ensure!(
        reply[0] == code::ERROR && reply[4] == "wamp.error.invalid_payload",
        "{reply}"
    );
    ensure!(reply[5] == json!(["not accepted"]), "{reply}");
    // Unacknowledged ones are refused in silence.
    writer.send(&json!([
        code::PUBLISH, 1000, {"retain": true, "when": null}, "app.key", [{"o": 3}]
    ]))?;
    ensure!(
        writer.kv("app.key")?["value"] == json!({"o": 1}),
        "the value changed"
    );

    // The very next thing the witnesses see is a publish that was accepted.
    writer.publish(
        "app.key",
        json!([{"o": 4}]),
        json!({}),
        when(json!({"o": 1})),
    )?;
    witnesses.both_see(&json!({"o": 4}))
}

#[test]
fn a_parked_publish_produces_its_event_when_granted() -> Outcome {
    let (server, mut writer, mut witnesses) = start()?;
    writer.publish(
        "app.key",
        json!(["held"]),
        json!({}),
        json!({"retain": true}),
    )?;
    witnesses.both_see(&json!("held"))?;

    let mut waiter = Session::join(server.listen, "realm1")?;
    let options = json!({"retain": true, "when": null, "watch": true});
    let parked = waiter.start_publish("app.key", json!(["granted"]), json!({}), options)?;
    // The waiter's own request order shows that it is parked now.
    ensure!(waiter.kv("app.key")?["waiters"] == 1, "not parked");
    writer.publish(
        "app.key",
        json!(["between"]),
        json!({}),
        json!({"retain": true}),
    )?;
    witnesses.both_see(&json!("between"))?;

    writer.publish("app.key", json!([]), json!({}), json!({"retain": true}))?;
    let reply = waiter.reply(parked)?;
    ensure!(reply[0] == code::PUBLISHED, "{reply}");
    let event = witnesses.session.event()?;
    ensure!(event.args == json!([]), "the delete: {event:?}");
    ensure!(witnesses.device.message()?.payload.is_empty(), "the delete");
    witnesses.both_see(&json!("granted"))
}

#[test]
fn a_parked_publish_may_time_out() -> Outcome {
    let (server, mut writer, mut witnesses) = start()?;
    writer.publish(
        "app.key",
        json!(["held"]),
        json!({}),
        json!({"retain": true}),
    )?;
    witnesses.both_see(&json!("held"))?;
    let mut waiter = Session::join(server.listen, "realm1")?;
    let options = json!({"retain": true, "when": null, "watch": true, "watch_timeout": 50});
    let reply = waiter.try_publish("app.key", json!(["late"]), json!({}), options)?;
    ensure!(
        reply[0] == code::ERROR && reply[4] == "wamp.error.timeout",
        "{reply}"
    );
    ensure!(writer.kv("app.key")?["waiters"] == 0, "still parked");
    writer.publish("app.key", json!([]), json!({}), json!({"retain": true}))?;
    writer.publish(
        "app.key",
        json!(["next"]),
        json!({}),
        json!({"retain": true}),
    )?;
    ensure!(witnesses.session.event()?.args == json!([]), "the delete");
    ensure!(witnesses.device.message()?.payload.is_empty(), "the delete");
    witnesses.both_see(&json!("next"))
}

/// `when` compares by type and by subset; what cannot match is false, not a crash.
#[test]
fn conditions() -> Outcome {
    let (_server, mut writer, _witnesses) = start()?;
    let cases = [
        (json!(1), json!(1), true),
        (json!(1), json!(1.0), true),
        (json!(1), json!("1"), false),
        (json!("text"), json!({"a": 1}), false),
        (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
        (json!({"a": 1}), json!({"a": 1, "b": null}), true),
        (json!({"a": 1}), json!({"a": null}), false),
        (json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1]}}), true),
        (json!({"a": 1}), json!({}), true),
        (json!({"a": 1}), json!(null), false),
        (json!([1, 2]), json!("1"), false),
    ];
    for (stored, condition, fits) in cases {
        writer.publish(
            "app.key",
            json!([stored]),
            json!({}),
            json!({"retain": true}),
        )?;
        let reply = writer.try_publish(
            "app.key",
            json!(["new"]),
            json!({}),
            when(condition.clone()),
        )?;
        ensure!(
            (reply[0] == code::PUBLISHED) == fits,
            "{condition} on {stored}: {reply}"
        );
    }
    Ok(())
}

/// Options of ours with a wrong type or without `retain` are refused and change nothing.
#[test]
fn senseless_options_are_refused() -> Outcome {
    let (_server, mut writer, mut witnesses) = start()?;
    let senseless = [
        json!({"when": null}),
        json!({"watch": true}),
        json!({"will": null}),
        json!({"retain": true, "watch": "yes", "when": null}),
        json!({"retain": true, "when": null, "watch": true, "watch_timeout": "soon"}),
        json!({"retain": true, "will": 1, "will_on": "never"}),
        json!({"x_qos": 3}),
    ];
    for options in senseless {
        let reply = writer.try_publish("app.key", json!([1]), json!({}), options.clone())?;
        let refused = reply[0] == code::ERROR && reply[4] == "wamp.error.invalid_argument";
        ensure!(refused, "{options}: {reply}");
    }
    writer.publish(
        "app.key",
        json!(["sense"]),
        json!({}),
        json!({"unknown": [1]}),
    )?;
    witnesses.both_see(&json!("sense"))
}

/// `merge: true` is RFC 7396; without it a write replaces.
#[test]
fn merge_is_explicit() -> Outcome {
    let (_server, mut writer, _witnesses) = start()?;
    let steps = [
        (
            json!({"a": {"x": 1}, "b": 2}),
            json!({}),
            json!({"a": {"x": 1}, "b": 2}),
        ),
        (
            json!({"a": {"y": 3}, "b": null}),
            json!({"merge": true}),
            json!({"a": {"x": 1, "y": 3}}),
        ),
        (json!({"a": 5}), json!({"merge": true}), json!({"a": 5})),
        (json!({"c": 1}), json!({}), json!({"c": 1})),
    ];
    for (value, mut options, expected) in steps {
        options["retain"] = json!(true);
        writer.publish("app.key", json!([value]), json!({}), options)?;
        let found = writer.kv("app.key")?;
        ensure!(found["value"] == expected, "{value}: {found}");
    }
    Ok(())
}
