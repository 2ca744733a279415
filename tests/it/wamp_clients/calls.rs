//! Remote calls between all libraries.

use anyhow::{Context, ensure};
use integration_tests::agent::Library;
use serde_json::{Value, json};

use super::{join, server};
use crate::Outcome;

/// Each library as callee with each library as caller: the result comes back as
/// it was returned, whatever its shape.
fn is_called_by_everybody(callee: Library) -> Outcome {
    let server = server()?;
    let mut callee_agent = join(&server, callee)?;
    callee_agent
        .ok(json!({"do": "register", "procedure": "com.example.echo", "endpoint": "echo"}))?;
    let shapes = [
        (json!([]), json!({})),
        (json!(["one"]), json!({})),
        (json!([[1, 2]]), json!({})),
        (json!([null]), json!({})),
        (json!(["a", 2, [3]]), json!({})),
        (json!(["a"]), json!({"k": {"v": 1}})),
        (json!([]), json!({"only": "kwargs"})),
    ];
    for caller in Library::WAMP {
        let mut agent = join(&server, caller)?;
        for (args, kwargs) in &shapes {
            // autobahn-js shows a lone null and no argument at all as the same value.
            if caller == Library::AutobahnJs && *args == json!([null]) {
                continue;
            }
            let result = agent.ok(json!({
                "do": "call", "procedure": "com.example.echo", "args": args, "kwargs": kwargs
            }))?;
            let whole = (&result["args"], &result["kwargs"]);
            ensure!(
                whole == (args, kwargs),
                "{caller:?} -> {callee:?} {args} {kwargs}: {result}"
            );
        }
    }
    Ok(())
}

#[test]
fn autobahn_js_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::AutobahnJs)
}

#[test]
fn autobahn_python_json_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::AutobahnPythonJson)
}

#[test]
fn autobahn_python_msgpack_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::AutobahnPythonMsgpack)
}

#[test]
fn autobahn_python_cbor_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::AutobahnPythonCbor)
}

#[test]
fn autobahn_python_batched_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::AutobahnPythonBatched)
}

#[test]
fn wampy_cbor_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::WampyCbor)
}

#[test]
fn wampy_json_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::WampyJson)
}

#[test]
fn wampy_msgpack_is_called_by_everybody() -> Outcome {
    is_called_by_everybody(Library::WampyMsgpack)
}

/// An error of a callee reaches the caller with its own URI, args and kwargs.
#[test]
fn errors_arrive_unchanged() -> Outcome {
    let server = server()?;
    let (uri, args, kwargs) = (
        "com.example.error.sad",
        json!(["why", 42]),
        json!({"hint": {"try": "again"}}),
    );
    for callee in Library::WAMP {
        let mut callee_agent = join(&server, callee)?;
        callee_agent.ok(json!({
            "do": "register", "procedure": "com.example.fail", "endpoint": "fail",
            "uri": uri, "args": args, "kwargs": kwargs
        }))?;
        for caller in Library::WAMP {
            let mut agent = join(&server, caller)?;
            let error = agent.refused(json!({"do": "call", "procedure": "com.example.fail"}))?;
            ensure!(error["uri"] == uri, "{caller:?} -> {callee:?}: {error}");
            ensure!(error["args"] == args, "{caller:?} -> {callee:?}: {error}");
            ensure!(
                error["kwargs"] == kwargs,
                "{caller:?} -> {callee:?}: {error}"
            );
        }
        callee_agent.ok(json!({"do": "leave"}))?;
        callee_agent.next("closed")?;
    }
    Ok(())
}

/// What the router itself refuses carries the URI of the standard.
#[test]
fn the_routers_errors_have_standard_uris() -> Outcome {
    let server = server()?;
    let mut first = join(&server, Library::AutobahnJs)?;
    first.ok(json!({"do": "register", "procedure": "com.example.taken", "endpoint": "echo"}))?;
    for library in Library::WAMP {
        let mut agent = join(&server, library)?;
        let error = agent.refused(json!({"do": "call", "procedure": "com.example.nobody"}))?;
        ensure!(
            error["uri"] == "wamp.error.no_such_procedure",
            "{library:?}: {error}"
        );
        let error = agent.refused(
            json!({"do": "register", "procedure": "com.example.taken", "endpoint": "echo"}),
        )?;
        ensure!(
            error["uri"] == "wamp.error.procedure_already_exists",
            "{library:?}: {error}"
        );
    }
    Ok(())
}

/// Progressive results come in order and before the final one. (wampy does not
/// announce them as a callee, so the router must not offer them to it; it calls.)
#[test]
fn progressive_results() -> Outcome {
    let server = server()?;
    let callees = [
        Library::AutobahnJs,
        Library::AutobahnPythonJson,
        Library::AutobahnPythonMsgpack,
    ];
    for callee in callees {
        let mut callee_agent = join(&server, callee)?;
        callee_agent
            .ok(json!({"do": "register", "procedure": "com.example.count", "endpoint": "count"}))?;
        for caller in Library::WAMP {
            let mut agent = join(&server, caller)?;
            let result = agent.ok(json!({
                "do": "call", "procedure": "com.example.count", "args": [5], "progress": true
            }))?;
            ensure!(
                result["args"] == json!([5]),
                "{caller:?} -> {callee:?}: {result}"
            );
            for step in 0..5 {
                let progress = agent
                    .next("progress")
                    .with_context(|| format!("{caller:?} -> {callee:?}"))?;
                ensure!(
                    progress["args"] == json!([step]),
                    "{caller:?} -> {callee:?}: {progress}"
                );
            }
        }
        callee_agent.ok(json!({"do": "leave"}))?;
        callee_agent.next("closed")?;
    }
    Ok(())
}

/// `concurrency: 2` is never exceeded by 50 parallel calls, is used in full, and
/// every call is answered. (wampy cannot say `concurrency`: it sends no option it
/// does not know; it calls.)
#[test]
fn concurrency_is_a_limit_and_nobody_starves() -> Outcome {
    let server = server()?;
    let expected: Vec<Value> = (0..50).map(|number| json!(number)).collect();
    let callees = [
        Library::AutobahnJs,
        Library::AutobahnPythonJson,
        Library::AutobahnPythonMsgpack,
    ];
    for callee in callees {
        let mut callee_agent = join(&server, callee)?;
        callee_agent.ok(json!({
            "do": "register", "procedure": "com.example.slow", "endpoint": "hold", "millis": 3,
            "options": {"concurrency": 2}
        }))?;
        for caller in Library::WAMP {
            let mut agent = join(&server, caller)?;
            let answer =
                agent.ok(json!({"do": "calls", "procedure": "com.example.slow", "count": 50}))?;
            ensure!(
                answer["results"] == json!(expected),
                "{caller:?} -> {callee:?}: {answer}"
            );
        }
        let gauge = callee_agent.ok(json!({"do": "gauge"}))?;
        ensure!(
            gauge["most"] == 2 && gauge["running"] == 0,
            "{callee:?}: {gauge}"
        );
        callee_agent.ok(json!({"do": "leave"}))?;
        callee_agent.next("closed")?;
    }
    Ok(())
}

/// A callee that dies during a call leaves nobody waiting, neither the caller it
/// was working for nor those in the queue behind it.
#[test]
fn calls_end_when_the_callee_dies() -> Outcome {
    let server = server()?;
    for caller in Library::WAMP {
        let mut callee = join(&server, Library::AutobahnPythonJson)?;
        callee.ok(json!({
            "do": "register", "procedure": "com.example.never", "endpoint": "hold",
            "millis": 3_600_000, "options": {"concurrency": 1}
        }))?;
        let mut agent = join(&server, caller)?;
        let orders = (0..3)
            .map(|_| {
                agent.order(json!({"do": "call", "procedure": "com.example.never", "args": [1]}))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        // This answer comes after the router has taken the three calls before it.
        agent.refused(json!({"do": "call", "procedure": "com.example.nobody"}))?;
        callee.kill()?;
        for (place, order) in orders.into_iter().enumerate() {
            let answer = agent.answer(order)?;
            let uri = &answer["error"]["uri"];
            let expected = ["wamp.error.canceled", "wamp.error.no_such_procedure"];
            ensure!(
                expected.iter().any(|one| uri == one),
                "{caller:?} {place}: {answer}"
            );
        }
    }
    Ok(())
}
