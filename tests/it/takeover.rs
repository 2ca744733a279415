//! A client that comes back without having said anything leaves its will.

use anyhow::{Result, ensure};
use integration_tests::mqtt::{Client, Connect};
use integration_tests::{Options, Server};

use crate::Outcome;

fn server() -> Result<Server> {
    Server::start(Options::default().memory())
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
