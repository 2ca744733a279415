//! The retained store as a lock service: first come, first served, and a lock
//! passes on when its holder dies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration_tests::agent::{Agent, Library};
use integration_tests::wamp::{Session, code};
use integration_tests::{Options, Server};
use serde_json::{Value, json};

use crate::Outcome;

const KEY: &str = "myapp.resource";

/// The options of the README's example.
fn lock_options() -> Value {
    json!({"acknowledge": true, "retain": true, "when": null, "will": null, "watch": true})
}

/// Sends the README's lock, `args: []` and the data in kwargs; its request id.
fn start_lock(session: &mut Session, name: &str) -> Result<u64> {
    session.start_publish(KEY, json!([]), json!({"holder": name}), lock_options())
}

/// Sends the README's unlock: no arguments at all.
fn unlock(session: &mut Session) -> Result<u64> {
    session.publish(
        KEY,
        json!([]),
        json!(null),
        json!({"acknowledge": true, "retain": true}),
    )
}

/// The holder as the store shows it, in the kwargs of the lock.
fn holder(session: &mut Session) -> Result<Value> {
    Ok(session.kv(KEY)?["kwargs"]["holder"].take())
}

fn token(session: &mut Session) -> Result<u64> {
    let entry = session.kv(KEY)?;
    entry["token"]
        .as_u64()
        .with_context(|| format!("no token in {entry}"))
}

#[test]
fn five_waiters_first_in_first_out() -> Outcome {
    let server = Server::new()?;
    let mut observer = Session::join(server.listen, "realm1")?;
    let mut waiters = Vec::new();
    for number in 0..6 {
        let mut session = Session::join(server.listen, "realm1")?;
        let request = start_lock(&mut session, &format!("worker-{number}"))?;
        // A reply to a later request shows that the lock request has been handled.
        let entry = session.kv(KEY)?;
        ensure!(entry["waiters"] == number, "{number}: {entry}");
        waiters.push((session, request));
    }
    let mut tokens = Vec::new();
    for (number, (session, request)) in waiters.iter_mut().enumerate() {
        let reply = session.reply(*request)?;
        ensure!(reply[0] == code::PUBLISHED, "{number}: {reply}");
        let name = format!("worker-{number}");
        ensure!(
            holder(&mut observer)? == json!(name),
            "the store does not name {name}"
        );
        let entry = observer.kv(KEY)?;
        ensure!(entry["owner"] == session.id, "{entry}");
        // Exactly one winner: everybody behind still waits.
        ensure!(entry["waiters"] == 5 - number, "{number}: {entry}");
        tokens.push(token(&mut observer)?);
        unlock(session)?;
    }
    ensure!(
        tokens.is_sorted_by(|a, b| a < b),
        "tokens do not grow: {tokens:?}"
    );
    let entry = observer.kv(KEY)?;
    ensure!(
        entry["value"].is_null() && entry["owner"].is_null(),
        "not released: {entry}"
    );
    ensure!(
        entry["token"].as_u64() > tokens.last().copied(),
        "{entry} after {tokens:?}"
    );
    Ok(())
}

/// The same example with the library of the README, and the demo's spelling of it
/// (the data in args, the unlock with null and a header).
#[test]
fn the_example_works_with_autobahn_js() -> Outcome {
    let server = Server::new()?;
    let mut first = Agent::join(Library::AutobahnJs, &server.wamp_url(), "realm1")?;
    let mut second = Agent::join(Library::AutobahnJs, &server.wamp_url(), "realm1")?;
    let spellings = [
        (json!([]), json!({"any": "data"}), json!([]), json!(null)),
        (
            json!([{"any": "object"}]),
            json!({"any": 1}),
            json!(null),
            json!({"header": "any"}),
        ),
    ];
    for (args, kwargs, no_args, no_kwargs) in spellings {
        let lock = json!({
            "do": "publish", "topic": KEY, "args": args, "kwargs": kwargs, "options": lock_options()
        });
        first.ok(lock.clone())?;
        let waiting = second.order(lock)?;
        // Answered after the lock request of the same connection has been handled.
        let entry = second.ok(json!({"do": "call", "procedure": "fox.kv.get", "args": [KEY]}))?;
        ensure!(entry["args"][0]["waiters"] == 1, "{entry}");
        let unlock = json!({
            "do": "publish", "topic": KEY, "args": no_args, "kwargs": no_kwargs,
            "options": {"acknowledge": true, "retain": true}
        });
        first.ok(unlock.clone())?;
        let answer = second.answer(waiting)?;
        ensure!(answer["ok"]["publication"].is_u64(), "{answer}");
        second.ok(unlock)?;
    }
    Ok(())
}

/// Two processes; the holder gets SIGKILL; the waiter holds the lock in under a second.
#[test]
fn a_dead_holder_hands_over() -> Outcome {
    let server = Server::new()?;
    let mut observer = Session::join(server.listen, "realm1")?;
    for library in [Library::AutobahnJs, Library::AutobahnJs] {
        let mut holder_process = Agent::join(library, &server.wamp_url(), "realm1")?;
        let mut waiter_process = Agent::join(library, &server.wamp_url(), "realm1")?;
        let lock = |name: &str| {
            json!({
                "do": "publish", "topic": KEY, "args": [], "kwargs": {"holder": name},
                "options": lock_options()
            })
        };
        holder_process.ok(lock("holder"))?;
        let before = token(&mut observer)?;
        let waiting = waiter_process.order(lock("waiter"))?;
        waiter_process.ok(json!({"do": "call", "procedure": "fox.kv.get", "args": [KEY]}))?;
        let killed = Instant::now();
        holder_process.kill()?;
        let answer = waiter_process.answer(waiting)?;
        let took = killed.elapsed();
        ensure!(answer.get("ok").is_some(), "{answer}");
        ensure!(took < Duration::from_secs(1), "handed over after {took:?}");
        ensure!(
            holder(&mut observer)? == "waiter",
            "the store names another holder"
        );
        ensure!(token(&mut observer)? > before, "the token did not grow");
        waiter_process.kill()?;
        wait_until_free(&mut observer)?;
    }
    Ok(())
}

/// Takes the lock and gives it back, which is only possible once it is free.
fn wait_until_free(session: &mut Session) -> Outcome {
    let request = start_lock(session, "observer")?;
    let reply = session.reply(request)?;
    ensure!(reply[0] == code::PUBLISHED, "{reply}");
    unlock(session)?;
    Ok(())
}

/// A waiter that dies is skipped, not granted.
#[test]
fn a_dead_waiter_is_skipped() -> Outcome {
    let server = Server::new()?;
    let mut holder_session = Session::join(server.listen, "realm1")?;
    let request = start_lock(&mut holder_session, "holder")?;
    holder_session.reply(request)?;
    let mut doomed = Session::join(server.listen, "realm1")?;
    start_lock(&mut doomed, "doomed")?;
    doomed.kv(KEY)?;
    let mut patient = Session::join(server.listen, "realm1")?;
    let request = start_lock(&mut patient, "patient")?;
    ensure!(patient.kv(KEY)?["waiters"] == 2, "not both wait");
    let mut watcher = Session::join(server.listen, "realm1")?;
    watcher.subscribe("wamp.session.on_leave", json!({}))?;
    drop(doomed);
    watcher.event()?;
    unlock(&mut holder_session)?;
    let reply = patient.reply(request)?;
    ensure!(reply[0] == code::PUBLISHED, "{reply}");
    ensure!(holder(&mut patient)? == "patient", "another holder");
    Ok(())
}

/// A polite GOODBYE releases as well; `will_on: "lost"` keeps the value then.
#[test]
fn goodbye_releases_unless_told_otherwise() -> Outcome {
    let server = Server::new()?;
    let mut observer = Session::join(server.listen, "realm1")?;
    observer.subscribe("wamp.session.on_leave", json!({}))?;
    for (will_on, stays) in [("any", false), ("lost", true)] {
        let mut session = Session::join(server.listen, "realm1")?;
        let options = json!({"retain": true, "will": null, "will_on": will_on});
        session.publish(KEY, json!(["here"]), json!({}), options)?;
        session.leave()?;
        observer.event()?;
        let entry = observer.kv(KEY)?;
        ensure!((entry["value"] == "here") == stays, "{will_on}: {entry}");
    }
    Ok(())
}

/// Tokens grow over a restart, and a lock whose holder died with the router is free
/// before the first client is served.
#[test]
fn a_restart_applies_wills_and_keeps_tokens() -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    let mut last = 0;
    for round in 0..3 {
        let mut session = Session::join(server.listen, "realm1")?;
        let request = start_lock(&mut session, "before")?;
        let reply = session.reply(request)?;
        ensure!(reply[0] == code::PUBLISHED, "round {round}: {reply}");
        let now = token(&mut session)?;
        ensure!(now > last, "round {round}: token {now} after {last}");
        last = now;
        let will = json!({"retain": true, "will": {"state": "gone"}});
        session.publish(
            "myapp.presence",
            json!([{"state": "here"}]),
            json!({}),
            will,
        )?;

        server.kill()?;
        server.restart()?;
        let mut session = Session::join(server.listen, "realm1")?;
        let presence = session.kv("myapp.presence")?;
        ensure!(
            presence["value"] == json!({"state": "gone"}),
            "round {round}: {presence}"
        );
        let entry = session.kv(KEY)?;
        ensure!(
            entry["value"].is_null() && entry["owner"].is_null(),
            "round {round}: {entry}"
        );
        let now = token(&mut session)?;
        ensure!(now >= last, "round {round}: token {now} after {last}");
        last = now;
    }
    Ok(())
}
