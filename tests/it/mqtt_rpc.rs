//! A device that speaks only MQTT 5 calls procedures: one of a WAMP program, and those of the kept
//! values.

use anyhow::{Context, Result, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::{Options, Server};
use serde_json::{Value, json};

use crate::Outcome;

/// An answer as mqtt.js shows it: its kind, its error, its payload.
fn answer(device: &mut Agent, correlation: &str) -> Result<(String, Value, Value)> {
    let message = device.next("message")?;
    let properties = &message["properties"];
    let hex: String = correlation.bytes().map(|b| format!("{b:02x}")).collect();
    let data = &properties["correlationData"]["$bin"];
    ensure!(*data == json!(hex), "{message}");
    let user = &properties["userProperties"];
    let payload = message["payload"].as_str().context("a payload")?;
    let kind = user["reynard-result"].as_str().context("a kind")?;
    Ok((
        kind.to_owned(),
        user["reynard-error"].clone(),
        serde_json::from_str(payload)?,
    ))
}

fn call(device: &mut Agent, procedure: &str, payload: &Value, correlation: &str) -> Result<Value> {
    device.ok(json!({
        "do": "publish", "topic": format!("$rpc/{procedure}"), "payload": payload.to_string(), "qos": 1,
        "properties": {"responseTopic": "reply/device/1", "correlationData": correlation}
    }))
}

#[test]
fn mqtt_js_calls_a_wamp_procedure_and_compares_and_sets_a_key() -> Outcome {
    let server = Server::start(Options::default().memory())?;
    let mut program = Agent::join(Library::AutobahnJs, &server.wamp_url(), "realm1")?;
    program.ok(json!({"do": "register", "procedure": "com.example.echo", "endpoint": "echo"}))?;
    let mut device = Agent::connect(
        Library::MqttJs,
        &server.mqtt_url()?,
        json!({"version": 5, "clientId": "device"}),
    )?;
    device.ok(json!({"do": "subscribe", "topic": "reply/device/#", "qos": 1}))?;

    let payload = json!({"args": ["a", 2], "kwargs": {"k": 3}});
    call(&mut device, "com/example/echo", &payload, "one")?;
    let found = answer(&mut device, "one")?;
    ensure!(
        found == ("result".to_owned(), Value::Null, payload),
        "{found:?}"
    );

    call(&mut device, "com/example/nobody", &json!(1), "two")?;
    let (kind, error, _) = answer(&mut device, "two")?;
    ensure!(
        kind == "error" && error == "wamp.error.no_such_procedure",
        "{error}"
    );

    let cas = |value: &str| json!({"args": ["app.key", 0, value]});
    call(&mut device, "fox/kv/cas", &cas("first"), "three")?;
    let (kind, _, stored) = answer(&mut device, "three")?;
    ensure!(kind == "result" && stored["key"] == "app.key", "{stored}");
    call(&mut device, "fox/kv/cas", &cas("second"), "four")?;
    let (kind, error, conflict) = answer(&mut device, "four")?;
    ensure!(kind == "error" && error == "fox.error.conflict", "{error}");
    ensure!(
        conflict["kwargs"] == json!({"key": "app.key", "token": stored["token"]}),
        "{conflict}"
    );
    // The program sees what the device wrote.
    let kept = program.ok(json!({
        "do": "call", "procedure": "fox.kv.get", "args": ["app.key"], "kwargs": {}
    }))?;
    ensure!(kept["args"][0]["value"] == "first", "{kept}");
    Ok(())
}
