//! Users, roles and rules from the configuration file, seen from both protocols.

use anyhow::{Result, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::wamp::{Session, code, hello, roles, ticket_hello};
use integration_tests::{Options, Server};
use serde_json::json;

use crate::Outcome;

const CONFIG: &str = r#"
auto_realms = false

[[realm]]
name = "realm1"

[[realm.user]]
authid = "joe"
role = "user"
secret = "joe-secret"

[[realm.user]]
authid = "root"
role = "admin"
secret = "root-secret"

[[realm.role]]
name = "user"
allow = ["publish app.#", "subscribe app.#", "subscribe wamp.#", "call com.#", "call wamp.#", "register com.#"]
deny = ["publish app.sealed.#", "subscribe app/secret/#", "call com.forbidden", "register com.reserved"]

[[realm.role]]
name = "guest"
allow = ["subscribe app.news"]

[realm.anonymous]
role = "guest"

[[realm]]
name = "closed"

[[realm.user]]
authid = "joe"
role = "user"
secret = "other-secret"
"#;

fn server() -> Result<Server> {
    Server::start(Options::default().config(CONFIG))
}

fn joe(server: &Server) -> Result<Session> {
    Session::join_with_ticket(server.listen, "realm1", "joe", "joe-secret")
}

fn root(server: &Server) -> Result<Session> {
    Session::join_with_ticket(server.listen, "realm1", "root", "root-secret")
}

fn device(server: &Server, version: Connect) -> Result<Client> {
    Client::connect(server.mqtt_addr()?, &version.login("joe", "joe-secret"))
}

#[test]
fn tickets() -> Outcome {
    let server = server()?;
    let session = joe(&server)?;
    ensure!(session.welcome["authid"] == "joe", "{}", session.welcome);
    ensure!(session.welcome["authrole"] == "user", "{}", session.welcome);
    ensure!(
        session.welcome["authmethod"] == "ticket",
        "{}",
        session.welcome
    );
    for (realm, authid, ticket) in [
        ("realm1", "joe", "wrong"),
        ("realm1", "joe", ""),
        ("realm1", "nobody", "joe-secret"),
        ("realm1", "joe", "root-secret"),
        ("closed", "joe", "joe-secret"),
    ] {
        let (_, answer) = ticket_hello(server.listen, realm, authid, ticket)?;
        ensure!(
            answer[0] == code::ABORT,
            "{realm} {authid} {ticket}: {answer}"
        );
    }
    let guest = Session::join(server.listen, "realm1")?;
    ensure!(guest.welcome["authrole"] == "guest", "{}", guest.welcome);
    // No anonymous sessions in the other realm, and no realm that is not configured.
    let (_, answer) = hello(server.listen, "closed", roles())?;
    ensure!(answer[0] == code::ABORT, "{answer}");
    let (_, answer) = hello(server.listen, "elsewhere", roles())?;
    ensure!(
        answer[0] == code::ABORT && answer[2] == "wamp.error.no_such_realm",
        "{answer}"
    );
    Ok(())
}

#[test]
fn tickets_with_foreign_clients() -> Outcome {
    let server = server()?;
    for library in Library::WAMP {
        let mut agent = Agent::start(library, &server.wamp_url())?;
        let login =
            json!({"do": "connect", "realm": "realm1", "authid": "joe", "ticket": "joe-secret"});
        agent.ok(login)?;
        agent.ok(json!({"do": "subscribe", "topic": "app.news"}))?;
        let error = agent.refused(json!({"do": "subscribe", "topic": "sys.user"}))?;
        ensure!(
            error["uri"] == "wamp.error.not_authorized",
            "{library:?}: {error}"
        );
        let error = agent.refused(json!({
            "do": "publish", "topic": "sys.user", "args": [1], "options": {"acknowledge": true}
        }))?;
        ensure!(
            error["uri"] == "wamp.error.not_authorized",
            "{library:?}: {error}"
        );
        let mut intruder = Agent::start(library, &server.wamp_url())?;
        let login = json!({"do": "connect", "realm": "realm1", "authid": "joe", "ticket": "wrong"});
        intruder.refused(login)?;
    }
    Ok(())
}

#[test]
fn mqtt_passwords() -> Outcome {
    let server = server()?;
    let cases = [
        ("joe", "joe-secret", true),
        ("joe@realm1", "joe-secret", true),
        ("joe@closed", "other-secret", true),
        ("joe", "wrong", false),
        ("joe", "", false),
        ("nobody", "joe-secret", false),
        ("joe@closed", "joe-secret", false),
        ("joe@elsewhere", "joe-secret", false),
    ];
    for (user, password, accepted) in cases {
        // 3.1.1 table 3.1 has 4 and 5, 5.0 has 0x86 and 0x87.
        for (connect, refusals) in [(Connect::v4("c"), [4, 5]), (Connect::v5("c"), [0x86, 0x87])] {
            let connect = connect.login(user, password);
            let (_, ack) = Client::try_connect(server.mqtt_addr()?, &connect)?;
            if accepted {
                ensure!(ack.code == 0, "{user} {password}: {ack:?}");
            } else {
                ensure!(refusals.contains(&ack.code), "{user} {password}: {ack:?}");
            }
        }
    }
    for (library, version) in Library::MQTT {
        let mut agent = Agent::start(library, &server.mqtt_url()?)?;
        agent.refused(json!({
            "do": "connect", "version": version, "clientId": "c", "username": "joe", "password": "no"
        }))?;
    }
    Ok(())
}

/// Each action, allowed, denied by a rule, and refused for want of one.
#[test]
fn wamp_actions() -> Outcome {
    let server = server()?;
    let mut session = joe(&server)?;
    let refused = |reply: &serde_json::Value| {
        reply[0] == code::ERROR && reply[4] == "wamp.error.not_authorized"
    };
    for (topic, allowed) in [
        ("app.news", true),
        ("app.sealed.x", false),
        ("app.sealed", false),
        ("other", false),
    ] {
        let reply = session.try_publish(topic, json!([1]), json!({}), json!({}))?;
        ensure!(refused(&reply) != allowed, "publish {topic}: {reply}");
    }
    for (topic, allowed) in [
        ("app.news", true),
        ("app.secret.x", false),
        ("other", false),
    ] {
        let reply = session.try_subscribe(topic, json!({}))?;
        ensure!(refused(&reply) != allowed, "subscribe {topic}: {reply}");
    }
    for (procedure, allowed) in [
        ("com.mine", true),
        ("com.reserved", false),
        ("org.mine", false),
    ] {
        let reply = session.try_register(procedure, json!({}))?;
        ensure!(refused(&reply) != allowed, "register {procedure}: {reply}");
    }
    for (procedure, allowed) in [
        ("com.other", true),
        ("com.forbidden", false),
        ("org.other", false),
    ] {
        let reply = session.call(procedure, json!([]))?;
        ensure!(refused(&reply) != allowed, "call {procedure}: {reply}");
    }
    // A role without a table may do everything.
    let reply = root(&server)?.try_publish("other", json!([1]), json!({}), json!({}))?;
    ensure!(reply[0] == code::PUBLISHED, "{reply}");
    Ok(())
}

#[test]
fn mqtt_actions() -> Outcome {
    let server = server()?;
    let mut old = device(&server, Connect::v4("old"))?;
    let mut new = device(&server, Connect::v5("new"))?;
    for (filter, allowed) in [
        ("app/news", true),
        ("app/secret/x", false),
        ("other", false),
    ] {
        let codes = (old.subscribe(filter, 1)?, new.subscribe(filter, 1)?);
        ensure!(
            codes == if allowed { (1, 1) } else { (0x80, 0x87) },
            "{filter}: {codes:?}"
        );
    }
    let mut witness = root(&server)?;
    witness.subscribe("#", json!({}))?;
    for qos in 1..=2 {
        ensure!(
            new.publish("app/sealed/x", b"1", qos, true)? == 0x87,
            "QoS {qos}"
        );
        ensure!(
            new.publish("app/news", b"1", qos, false)? < 0x80,
            "QoS {qos}"
        );
        witness.event()?;
        // 3.1.1 cannot say no: acknowledged, dropped.
        old.publish("app/sealed/x", b"1", qos, true)?;
    }
    new.publish("app/sealed/x", b"1", 0, true)?;
    new.publish("app/marker", b"1", 0, false)?;
    let event = witness.event()?;
    ensure!(
        event.details["topic"] == "app.marker",
        "a refused publish got through: {event:?}"
    );
    ensure!(
        witness.kv("app.sealed.x")?["value"].is_null(),
        "a refused publish was stored"
    );
    Ok(())
}

/// A pattern that is wider than what its owner may hear delivers only the rest,
/// live as well as replayed.
#[test]
fn wide_patterns_do_not_leak() -> Outcome {
    let server = server()?;
    let mut writer = root(&server)?;
    let retain = || json!({"retain": true});
    writer.publish(
        "app.secret.code",
        json!(["retained secret"]),
        json!({}),
        retain(),
    )?;
    writer.publish("app.open", json!(["retained news"]), json!({}), retain())?;

    let mut session = joe(&server)?;
    session.subscribe("app.#", json!({"get_retained": true}))?;
    let mut phone = device(&server, Connect::v5("phone"))?;
    ensure!(phone.subscribe("app/#", 1)? == 1, "refused");
    ensure!(
        session.event()?.args == json!(["retained news"]),
        "replayed to WAMP"
    );
    ensure!(
        phone.message()?.payload == b"\"retained news\"",
        "replayed to MQTT"
    );

    writer.publish(
        "app.secret.code",
        json!(["live secret"]),
        json!({}),
        json!({}),
    )?;
    writer.publish("app.open", json!(["live news"]), json!({}), json!({}))?;
    ensure!(
        session.event()?.args == json!(["live news"]),
        "live to WAMP"
    );
    ensure!(phone.message()?.payload == b"\"live news\"", "live to MQTT");
    Ok(())
}

/// The will of a session is subject to the same rules.
#[test]
fn wills_are_authorised() -> Outcome {
    let server = server()?;
    let mut witness = root(&server)?;
    witness.subscribe("#", json!({}))?;
    let allowed = Connect::v5("allowed")
        .login("joe", "joe-secret")
        .will("app/will", b"1", false);
    let denied = Connect::v5("denied")
        .login("joe", "joe-secret")
        .will("app/sealed/x", b"1", true);
    let (_refused, ack) = Client::try_connect(server.mqtt_addr()?, &denied)?;
    ensure!(ack.code == 0x87, "CONNACK {:#04x}", ack.code);
    Client::connect(server.mqtt_addr()?, &allowed)?.cut()?;
    let event = witness.event()?;
    ensure!(event.details["topic"] == "app.will", "{event:?}");
    ensure!(
        witness.kv("app.sealed.x")?["value"].is_null(),
        "a refused will was stored"
    );
    Ok(())
}

/// Guests get what their role allows and nothing else.
#[test]
fn guests() -> Outcome {
    let server = server()?;
    let mut guest = Session::join(server.listen, "realm1")?;
    ensure!(
        guest.try_subscribe("app.news", json!({}))?[0] == code::SUBSCRIBED,
        "news refused"
    );
    let reply = guest.try_publish("app.news", json!([1]), json!({}), json!({}))?;
    ensure!(reply[4] == "wamp.error.not_authorized", "{reply}");
    let mut device = Client::connect(server.mqtt_addr()?, &Connect::v4("guest"))?;
    ensure!(device.subscribe("app/news", 0)? == 0, "news refused");
    ensure!(device.subscribe("#", 0)? == 0x80, "everything allowed");
    Ok(())
}
