//! A client that leaves and comes back at once has left before it comes back.

use anyhow::{Result, ensure};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::{Options, Server};

use crate::Outcome;

const ROUNDS: usize = 200;

fn server() -> Result<Server> {
    Server::start(Options::default().memory())
}

#[test]
fn a_client_that_leaves_and_comes_back_at_once_leaves_no_will() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let mut witness = Client::connect(addr, &Connect::v5("witness"))?;
    witness.subscribe("will/#", 1)?;
    // DISCONNECT; for the last with a Session Expiry Interval of 0.
    let plain: &[u8] = &[0xE0, 0];
    let final_one: &[u8] = &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0];
    for (connect, farewell) in [
        (Connect::v4("hasty"), plain),
        (Connect::v5("hasty"), plain),
        (Connect::v5("hasty").persistent(), final_one),
    ] {
        let connect = connect.will("will/hasty", b"gone", false);
        let mut client = Client::connect(addr, &connect)?;
        for round in 0..ROUNDS {
            client.send(farewell)?;
            drop(client);
            let ack;
            (client, ack) = Client::try_connect(addr, &connect)?;
            ensure!(ack.code == 0, "refused with {:#04x}", ack.code);
            ensure!(!ack.session_present, "round {round}: resumed");
        }
        client.send(farewell)?;
        while client.read()?.is_some() {}
    }
    // What was published before is there before this.
    let mut other = Client::connect(addr, &Connect::v5("other"))?;
    other.publish("will/none", b"", 1, false)?;
    let first = witness.message()?;
    ensure!(first.topic == "will/none", "a will: {first:?}");
    Ok(())
}

#[test]
fn a_will_is_published_when_nothing_was_said_before_the_client_comes_back() -> Outcome {
    let server = server()?;
    let addr = server.mqtt_addr()?;
    let mut witness = Client::connect(addr, &Connect::v5("witness"))?;
    witness.subscribe("will/#", 1)?;
    let connect = Connect::v5("hasty").will("will/hasty", b"gone", false);
    let _former = Client::connect(addr, &connect)?;
    let _next = Client::connect(addr, &connect)?;
    let will = witness.message()?;
    ensure!(will.topic == "will/hasty", "{will:?}");
    Ok(())
}
