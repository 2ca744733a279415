//! The compatibility matrix: each WAMP client library in each of its serializations and
//! transports does with the router what WAMP clients do, opposite a client in each of the
//! other two serializations. `cells` says what a client cannot do and why; `deeds` is the rest.

use anyhow::{Context, ensure};
use integration_tests::agent::Agent;
use integration_tests::{Options, Server};

use crate::Outcome;
use cells::{Cell, Client, Serializer, Transport, UNABLE};
use deeds::{Deed, Pair};

mod cells;
mod deeds;

/// The other side of a cell: it can do everything.
fn partner(serializer: Serializer) -> Cell {
    Cell(Client::AutobahnPython, serializer, Transport::WebSocket)
}

fn join(server: &Server, cell: Cell) -> anyhow::Result<Agent> {
    let url = match cell.2 {
        Transport::WebSocket => server.wamp_url(),
        Transport::RawSocket => format!("rs://{}", server.listen),
    };
    let mut agent = Agent::launch(&cell.to_string(), cell.0.script(), &url, &[cell.1.name()])?;
    agent.ok(serde_json::json!({"do": "connect", "realm": "realm1"}))?;
    Ok(agent)
}

/// Everything this cell can do, with a partner in each of the other serializations.
fn plays(client: Client, serializer: Serializer, transport: Transport) -> Outcome {
    let cell = Cell(client, serializer, transport);
    let server = Server::start(Options::default().memory())?;
    let mut agent = join(&server, cell)?;
    for other in Serializer::ALL {
        if other == serializer {
            continue;
        }
        let mut pair = Pair {
            cell,
            agent: &mut agent,
            partner: &mut join(&server, partner(other))?,
            word: other.name(),
        };
        for deed in Deed::ALL.into_iter().filter(|deed| cell.is_able(*deed)) {
            deed.play(&mut pair)
                .with_context(|| format!("{cell} and {other:?}: {deed:?}"))?;
        }
    }
    Ok(())
}

/// One test for each cell.
macro_rules! matrix {
    ($($name:ident: $client:ident, $serializer:ident, $transport:ident;)*) => {
        /// The cells that are played.
        const CELLS: &[Cell] = &[
            $(Cell(Client::$client, Serializer::$serializer, Transport::$transport)),*
        ];
        $(
            #[test]
            fn $name() -> Outcome {
                plays(Client::$client, Serializer::$serializer, Transport::$transport)
            }
        )*
    };
}

matrix! {
    autobahn_js_json: AutobahnJs, Json, WebSocket;
    autobahn_js_msgpack: AutobahnJs, MessagePack, WebSocket;
    autobahn_js_cbor: AutobahnJs, Cbor, WebSocket;
    autobahn_python_json: AutobahnPython, Json, WebSocket;
    autobahn_python_msgpack: AutobahnPython, MessagePack, WebSocket;
    autobahn_python_cbor: AutobahnPython, Cbor, WebSocket;
    autobahn_python_json_rawsocket: AutobahnPython, Json, RawSocket;
    autobahn_python_msgpack_rawsocket: AutobahnPython, MessagePack, RawSocket;
    autobahn_python_cbor_rawsocket: AutobahnPython, Cbor, RawSocket;
    wampy_json: Wampy, Json, WebSocket;
    wampy_msgpack: Wampy, MessagePack, WebSocket;
    wampy_cbor: Wampy, Cbor, WebSocket;
    xconn_json: Xconn, Json, WebSocket;
    xconn_msgpack: Xconn, MessagePack, WebSocket;
    xconn_cbor: Xconn, Cbor, WebSocket;
    xconn_json_rawsocket: Xconn, Json, RawSocket;
    xconn_msgpack_rawsocket: Xconn, MessagePack, RawSocket;
    xconn_cbor_rawsocket: Xconn, Cbor, RawSocket;
}

/// What is excused is a cell's, is excused once, has a reason, and is nothing that every client
/// is excused from.
#[test]
fn every_excuse_belongs_to_a_cell() -> Outcome {
    for (client, serializers, deed, reason) in UNABLE {
        ensure!(!reason.is_empty(), "{client:?} {deed:?}: no reason");
        for serializer in *serializers {
            let here = |cell: &Cell| cell.0 == *client && cell.1 == *serializer;
            ensure!(
                CELLS.iter().any(here),
                "{client:?} {serializer:?} {deed:?}: no such cell"
            );
            let excuses = UNABLE.iter().filter(|(other, others, what, _)| {
                other == client && others.contains(serializer) && what == deed
            });
            ensure!(
                excuses.count() == 1,
                "{client:?} {serializer:?} {deed:?}: excused twice"
            );
        }
    }
    for deed in Deed::ALL {
        for serializer in Serializer::ALL {
            let able = |cell: &&Cell| cell.1 == serializer && cell.is_able(deed);
            ensure!(
                CELLS.iter().find(able).is_some(),
                "{deed:?} is played by nobody in {serializer:?}"
            );
        }
    }
    Ok(())
}
