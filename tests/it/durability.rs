//! What was acknowledged survives SIGKILL: retained values and QoS 1 messages for
//! a persistent session, over twenty rounds under load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::wamp::{Session, code};
use integration_tests::{Options, PATIENCE, Server};
use serde_json::json;

use crate::Outcome;

const ROUNDS: usize = 20;
/// The router is killed as soon as this many publishes of a round are acknowledged.
const ACKNOWLEDGED_BEFORE_KILL: usize = 60;
const KEYS: usize = 8;

/// Counts acknowledgements and wakes whoever waits for a number of them.
#[derive(Default)]
struct Progress {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Progress {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn wait_for(&self, wanted: usize) -> Outcome {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = self
            .changed
            .wait_timeout_while(count, PATIENCE, |count| *count < wanted)
            .map_err(|_| anyhow!("poisoned"))?;
        ensure!(*count >= wanted, "only {count} acknowledgements");
        Ok(())
    }
}

/// What one publisher knows: the number it sent last per key, and the numbers that
/// were acknowledged.
#[derive(Default, Debug)]
struct Account {
    sent: BTreeMap<String, usize>,
    acknowledged: BTreeMap<String, usize>,
}

#[test]
fn twenty_kills_lose_nothing_acknowledged() -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    let sleeper = Connect::v4("sleeper").persistent();
    let mut client = Client::connect(server.mqtt_addr()?, &sleeper)?;
    client.subscribe("queue", 1)?;
    client.disconnect()?;
    let numbers = Arc::new(AtomicUsize::new(1));
    let mut promised = BTreeSet::new();

    for round in 0..ROUNDS {
        let progress = Arc::new(Progress::default());
        let stop = Arc::new(AtomicBool::new(false));
        let queue = queue_load(server.mqtt_addr()?, &numbers, &progress, &stop);
        let mqtt = mqtt_load(server.mqtt_addr()?, &numbers, &progress, &stop);
        let wamp = wamp_load(server.listen, &numbers, &progress, &stop);
        progress.wait_for(ACKNOWLEDGED_BEFORE_KILL)?;
        server.kill()?;
        stop.store(true, Ordering::SeqCst);
        promised.extend(join(queue)?);
        let accounts = [join(mqtt)?, join(wamp)?];

        server.restart().with_context(|| format!("round {round}"))?;
        for account in &accounts {
            check_retained(&server, account).with_context(|| format!("round {round}"))?;
        }
        // Every other round the session stays away, so its queue survives several kills.
        if round % 2 == 1 {
            let (mut client, ack) = Client::try_connect(server.mqtt_addr()?, &sleeper)?;
            ensure!(ack.session_present, "round {round}: the session is gone");
            check_queue(&mut client, &mut promised).with_context(|| format!("round {round}"))?;
            client.disconnect()?;
        }
    }
    Ok(())
}

fn join<T>(load: JoinHandle<Result<T>>) -> Result<T> {
    load.join().map_err(|_| anyhow!("a load thread panicked"))?
}

/// Publishes numbered QoS 1 messages until the router dies; those acknowledged.
fn queue_load(
    addr: SocketAddr,
    numbers: &Arc<AtomicUsize>,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Result<BTreeSet<usize>>> {
    let (numbers, progress, stop) = (Arc::clone(numbers), Arc::clone(progress), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut client = Client::connect(addr, &Connect::v4("queue-load"))?;
        let mut acknowledged = BTreeSet::new();
        while !stop.load(Ordering::SeqCst) {
            let number = numbers.fetch_add(1, Ordering::SeqCst);
            // The only failure is the death of the router, which ends the round.
            if client
                .publish("queue", number.to_string().as_bytes(), 1, false)
                .is_err()
            {
                break;
            }
            acknowledged.insert(number);
            progress.add();
        }
        Ok(acknowledged)
    })
}

/// Retains numbers under a few keys with QoS 1 until the router dies.
fn mqtt_load(
    addr: SocketAddr,
    numbers: &Arc<AtomicUsize>,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Result<Account>> {
    let (numbers, progress, stop) = (Arc::clone(numbers), Arc::clone(progress), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut client = Client::connect(addr, &Connect::v5("mqtt-load"))?;
        let mut account = Account::default();
        while !stop.load(Ordering::SeqCst) {
            let number = numbers.fetch_add(1, Ordering::SeqCst);
            let key = format!("mqtt.key{}", number % KEYS);
            account.sent.insert(key.clone(), number);
            let topic = key.replace('.', "/");
            if client
                .publish(&topic, number.to_string().as_bytes(), 1, true)
                .is_err()
            {
                break;
            }
            account.acknowledged.insert(key, number);
            progress.add();
        }
        Ok(account)
    })
}

/// The same with acknowledged WAMP publishes, several at a time.
fn wamp_load(
    addr: SocketAddr,
    numbers: &Arc<AtomicUsize>,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Result<Account>> {
    let (numbers, progress, stop) = (Arc::clone(numbers), Arc::clone(progress), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut session = Session::join(addr, "realm1")?;
        let mut account = Account::default();
        while !stop.load(Ordering::SeqCst) {
            let Ok(batch) = wamp_batch(&mut session, &numbers, &mut account) else {
                break;
            };
            for (request, key, number) in batch {
                let Ok(reply) = session.reply(request) else {
                    return Ok(account);
                };
                ensure!(reply[0] == code::PUBLISHED, "{reply}");
                account.acknowledged.insert(key, number);
                progress.add();
            }
        }
        Ok(account)
    })
}

fn wamp_batch(
    session: &mut Session,
    numbers: &AtomicUsize,
    account: &mut Account,
) -> Result<Vec<(u64, String, usize)>> {
    let mut batch = Vec::new();
    for _ in 0..5 {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        let key = format!("app.key{}", number % KEYS);
        account.sent.insert(key.clone(), number);
        let options = json!({"retain": true});
        let request = session.start_publish(&key, json!([number]), json!({}), options)?;
        batch.push((request, key, number));
    }
    Ok(batch)
}

/// The stored number is the acknowledged one, or one sent later whose
/// acknowledgement the kill swallowed.
fn check_retained(server: &Server, account: &Account) -> Outcome {
    let mut session = Session::join(server.listen, "realm1")?;
    for (key, acknowledged) in &account.acknowledged {
        let entry = session.kv(key)?;
        let found = entry["value"]
            .as_u64()
            .with_context(|| format!("{key} is lost: {entry}"))?;
        let sent = account.sent.get(key).copied().unwrap_or_default();
        let legal = *acknowledged as u64..=sent as u64;
        ensure!(legal.contains(&found), "{key} is {found}, not {legal:?}");
    }
    Ok(())
}

/// Everything promised to the session comes; QoS 1 permits doubles, the kill
/// permits messages whose acknowledgement it swallowed.
fn check_queue(client: &mut Client, promised: &mut BTreeSet<usize>) -> Outcome {
    while !promised.is_empty() {
        let message = client
            .message()
            .with_context(|| format!("{} acknowledged messages are lost", promised.len()))?;
        let number: usize = String::from_utf8_lossy(&message.payload).parse()?;
        promised.remove(&number);
    }
    // Whatever else was queued is taken as well, so that the next round starts empty.
    client.ping()?;
    client.received();
    Ok(())
}

const HISTORY_ROUNDS: usize = 8;

/// Publishes numbers that are to be remembered, acknowledged and several at a time, until the router dies; those
/// acknowledged, by publication.
fn history_load(
    addr: SocketAddr,
    numbers: &Arc<AtomicUsize>,
    progress: &Arc<Progress>,
) -> JoinHandle<Result<BTreeMap<u64, usize>>> {
    let (numbers, progress) = (Arc::clone(numbers), Arc::clone(progress));
    std::thread::spawn(move || {
        let mut session = Session::join(addr, "realm1")?;
        let mut acknowledged = BTreeMap::new();
        loop {
            let mut batch = Vec::new();
            for _ in 0..5 {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let topic = ["story.a", "story.b.c"][number % 2];
                let options = json!({"trace": true});
                match session.start_publish(topic, json!([number]), json!({}), options) {
                    Ok(request) => batch.push((request, number)),
                    Err(_) => return Ok(acknowledged),
                }
            }
            for (request, number) in batch {
                let Ok(reply) = session.reply(request) else {
                    return Ok(acknowledged);
                };
                ensure!(reply[0] == code::PUBLISHED, "{reply}");
                let publication = reply[2].as_u64().context("a publication id")?;
                acknowledged.insert(publication, number);
                progress.add();
            }
        }
    })
}

/// What the history shows after a publication, by publication; in order and without doubles.
fn history_after(server: &Server, after: u64) -> Result<BTreeMap<u64, usize>> {
    let mut writer = Session::join(server.listen, "realm1")?;
    let mut reader = Session::join(server.listen, "realm1")?;
    reader.subscribe("story.#", json!({"after": after}))?;
    // Comes behind everything that was there.
    writer.publish("story.end", json!([]), json!({}), json!({}))?;
    let (mut shown, mut last) = (BTreeMap::new(), after);
    loop {
        let event = reader.event()?;
        ensure!(event.details.get("x_gap").is_none(), "{event:?}");
        ensure!(event.publication > last, "{last} and then {event:?}");
        last = event.publication;
        let Some(number) = event.args[0].as_u64() else {
            return Ok(shown);
        };
        shown.insert(event.publication, usize::try_from(number)?);
    }
}

/// Every acknowledged event is in the history after a kill, in order and once, patterns included.
#[test]
fn kills_during_traced_publishes_lose_nothing_of_the_history() -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    let numbers = Arc::new(AtomicUsize::new(1));
    let mut promised: BTreeMap<u64, usize> = BTreeMap::new();
    for round in 0..HISTORY_ROUNDS {
        let progress = Arc::new(Progress::default());
        let load = history_load(server.listen, &numbers, &progress);
        progress.wait_for(ACKNOWLEDGED_BEFORE_KILL)?;
        server.kill()?;
        let before = promised.keys().last().copied().unwrap_or(0);
        promised.extend(join(load)?);
        server.restart().with_context(|| format!("round {round}"))?;
        let all = history_after(&server, 0)?;
        for (publication, number) in &promised {
            let found = all.get(publication);
            ensure!(
                found == Some(number),
                "round {round}: {number} is {found:?}"
            );
        }
        // From where somebody was before the kill, exactly the rest.
        let rest = history_after(&server, before)?;
        let expected = all.range(before + 1..).map(|(id, number)| (*id, *number));
        ensure!(rest == expected.collect(), "round {round}: {rest:?}");
    }
    Ok(())
}

/// Retained values, sessions and their subscriptions survive an orderly stop, too.
#[test]
fn an_orderly_stop_keeps_everything() -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    let sleeper = Connect::v5("sleeper").persistent();
    let mut client = Client::connect(server.mqtt_addr()?, &sleeper)?;
    client.subscribe("stop/#", 1)?;
    client.disconnect()?;
    let mut session = Session::join(server.listen, "realm1")?;
    let kwargs = json!({"unit": "C"});
    session.publish(
        "stop.value",
        json!([21.5]),
        kwargs.clone(),
        json!({"retain": true, "x_qos": 1}),
    )?;
    ensure!(server.stop()? == Some(0), "exit code");
    server.restart()?;

    let mut session = Session::join(server.listen, "realm1")?;
    session.subscribe("stop.value", json!({"get_retained": true}))?;
    let event = session.event()?;
    ensure!(
        event.args == json!([21.5]) && event.kwargs == kwargs,
        "{event:?}"
    );
    let (mut client, ack) = Client::try_connect(server.mqtt_addr()?, &sleeper)?;
    ensure!(ack.session_present, "the session is gone");
    let message = client.message()?;
    ensure!(
        message.topic == "stop/value" && message.qos == 1,
        "{message:?}"
    );
    Ok(())
}

/// A QoS 2 message that was received but not released before the kill is not
/// delivered a second time afterwards [MQTT-4.3.3-10].
#[test]
fn qos_2_stays_exactly_once_over_a_kill() -> Outcome {
    let mut server = Server::start(Options::default().restartable())?;
    let sleeper = Connect::v4("reader").persistent();
    let mut reader = Client::connect(server.mqtt_addr()?, &sleeper)?;
    reader.subscribe("once", 2)?;
    let writer = Connect::v4("writer").persistent();
    let mut client = Client::connect(server.mqtt_addr()?, &writer)?;
    let id = client.send_publish("once", b"only once", 2, false)?;
    ensure!(client.acknowledgement(0x50, id)? == 0, "PUBREC");
    server.kill()?;
    server.restart()?;

    let (mut client, ack) = Client::try_connect(server.mqtt_addr()?, &writer)?;
    ensure!(ack.session_present, "the writer's session is gone");
    // DUP, QoS 2, the same identifier: the router must know it.
    let mut body = integration_tests::mqtt::string("once");
    body.extend(id.to_be_bytes());
    body.extend(b"only once");
    client.send(&integration_tests::mqtt::packet(0x3C, &body))?;
    client.acknowledgement(0x50, id)?;
    client.send(&integration_tests::mqtt::packet(0x62, &id.to_be_bytes()))?;
    client.acknowledgement(0x70, id)?;
    client.publish("once", b"next", 2, false)?;
    let (mut reader, _) = Client::try_connect(server.mqtt_addr()?, &sleeper)?;
    let mut payloads = Vec::new();
    while payloads.last().is_none_or(|last| last != b"next") {
        let message = reader.message()?;
        // The first reader may have got it before the kill without acknowledging it:
        // then it comes once more, marked DUP, which is the same message to a client.
        payloads.push(message.payload);
    }
    ensure!(
        payloads == [b"only once".to_vec(), b"next".to_vec()],
        "{payloads:?}"
    );
    Ok(())
}
