//! Connections over a pipe in memory, whose other end a test plays.

use super::*;
use crate::cli::bench::flow::Flow;
use crate::cli::bench::mqtt::{Manner, MqttPeer};
use crate::cli::bench::role::Bystander;
use protocols::mqtt::packet::{ProtocolVersion, QoS};
use tokio::io::{DuplexStream, duplex};

/// CONNACK, PINGRESP, and a DISCONNECT of a client (MQTT 3.1.1 sections 3.2, 3.13 and 3.14).
const CONNACK: &[u8] = &[0x20, 2, 0, 0];
const PINGRESP: &[u8] = &[0xd0, 0];
const PINGREQ: &[u8] = &[0xc0, 0];
const DISCONNECT: &[u8] = &[0xe0, 0];

const LONG: Duration = Duration::from_secs(3600);

fn line() -> (Line<MqttPeer>, DuplexStream) {
    let manner = Manner {
        version: ProtocolVersion::V3_1_1,
        qos: QoS::AtMostOnce,
        username: None,
        password: None,
        size: 16,
    };
    let (ours, theirs) = duplex(1 << 16);
    let peer = MqttPeer::new(manner, "c".to_owned());
    (Line::new(Box::new(ours), "there".into(), peer), theirs)
}

async fn welcomed(line: &mut Line<MqttPeer>, patience: Duration) -> Result<(), String> {
    line.peer.hello(&mut line.out);
    line.until(patience, &mut |heard| Ok(matches!(heard, Heard::Welcome)))
        .await
        .map_err(|failure| failure.message)
}

#[tokio::test]
async fn a_client_is_let_in_wherever_the_answer_is_cut() {
    let (mut line, mut server) = line();
    let play = async {
        let mut connect = [0; 15];
        server.read_exact(&mut connect).await.expect("a CONNECT");
        for byte in CONNACK {
            server.write_all(&[*byte]).await.expect("taken");
            tokio::task::yield_now().await;
        }
    };
    let (welcomed, ()) = tokio::join!(welcomed(&mut line, LONG), play);
    assert_eq!(welcomed, Ok(()));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (mut line, _server) = line();
    let words = welcomed(&mut line, Duration::from_millis(1)).await;
    assert_eq!(words, Err("there did not answer within 0.001 s".to_owned()));
}

#[tokio::test]
async fn a_server_that_only_shows_that_it_lives_is_given_up() {
    let (mut line, mut server) = line();
    let chatter = async { while server.write_all(PINGRESP).await.is_ok() {} };
    let words = tokio::select! {
        words = welcomed(&mut line, Duration::from_millis(1)) => words,
        () = chatter => Ok(()),
    };
    assert_eq!(words, Err("there did not answer within 0.001 s".to_owned()));
}

#[tokio::test]
async fn a_server_that_closes_is_told() {
    let (mut line, server) = line();
    drop(server);
    let words = welcomed(&mut line, LONG).await.expect_err("closed");
    assert!(words.starts_with("there "), "{words}");
}

/// A connection in a run, and the run.
fn served() -> (impl Future<Output = ()>, DuplexStream, Rc<Run>) {
    let (line, server) = line();
    let run = Rc::new(Run::new(vec![Flow::new(1, false)], vec![0]).expect("bounds"));
    let bell: Rc<AtomicWaker> = Rc::default();
    run.hang(bell.clone());
    (serve(line, Bystander, bell, run.clone()), server, run)
}

#[tokio::test]
async fn a_connection_gives_its_sign_of_life_and_says_goodbye() {
    let (serving, mut server, run) = served();
    let play = async {
        run.enter(Stage::Asking);
        let mut said = [0; 2];
        server.read_exact(&mut said).await.expect("a question");
        assert_eq!(said, PINGREQ);
        assert_eq!(run.quiet(), 0);
        server.write_all(PINGRESP).await.expect("taken");
        while run.quiet() == 0 {
            tokio::task::yield_now().await;
        }
        run.enter(Stage::Leaving);
        server.read_exact(&mut said).await.expect("a goodbye");
        assert_eq!(said, DISCONNECT);
    };
    tokio::join!(serving, play);
    assert_eq!((run.quiet(), run.ended(), run.check()), (1, 1, Ok(())));
}

#[tokio::test]
async fn a_connection_that_ends_before_its_time_ends_the_run() {
    let (serving, server, run) = served();
    drop(server);
    serving.await;
    let failure = run.check().expect_err("closed");
    assert_eq!(failure.message, "there closed the connection");
    assert_eq!(run.ended(), 0);
}
