//! The demonstration programs, ours and those of the fox-wamp package (unmodified),
//! show the same against this router.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use integration_tests::command::Running;
use integration_tests::wamp::{Session, code};
use integration_tests::{PATIENCE, Server, clients_dir, command, target_dir, workspace};
use serde_json::json;

use crate::Outcome;

/// As long as a hundred thousand acknowledged publishes may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// Whose demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    FoxWamp,
}

/// A demo, not started yet.
fn demo(whose: Whose, name: &str, server: &Server) -> Result<Command> {
    let mut command = match whose {
        Whose::Ours => {
            let mut command = Command::new(own_binary()?);
            command.arg(name);
            command
        }
        Whose::FoxWamp => {
            let folder = clients_dir()?.join("js/node_modules/fox-wamp/democli");
            let mut command = Command::new("node");
            command.arg(folder.join(format!("{name}.js")));
            command
        }
    };
    command.args(["--server", &server.wamp_url()]);
    Ok(command)
}

/// `DEMOCLI_BIN`, or `democli` in the target directory, built if it is missing.
fn own_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let find = || -> Result<PathBuf> {
        if let Some(given) = std::env::var_os("DEMOCLI_BIN") {
            return Ok(PathBuf::from(given));
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(workspace())
            .args(["build", "--release", "-p", "democli"]);
        command::run(&mut cargo, Duration::from_secs(1800))?.success()?;
        Ok(target_dir().join("release/democli"))
    };
    BINARY
        .get_or_init(|| find().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// Text without what differs between a JavaScript dump and JSON: quotes and blanks.
fn bare(text: &str) -> String {
    text.chars()
        .filter(|one| !one.is_whitespace() && !"'\"".contains(*one))
        .collect()
}

/// Parts of a text that must follow one another.
fn in_order(text: &str, parts: &[&str]) -> Outcome {
    let whole = bare(text);
    let mut rest = whole.as_str();
    for part in parts {
        let at = rest
            .find(&bare(part))
            .with_context(|| format!("no {part:?} in its place in\n{text}"))?;
        rest = &rest[at + 1..];
    }
    Ok(())
}

/// `test.foo`, which is built into fox-wamp's demo router.
fn test_foo(server: &Server) -> Result<JoinHandle<Outcome>> {
    let mut session = Session::join(server.listen, "realm1")?;
    let reply = session.try_register("test.foo", json!({}))?;
    ensure!(reply[0] == code::REGISTERED, "{reply}");
    Ok(std::thread::spawn(move || {
        let call = session.wait(|message| message[0] == code::INVOCATION)?;
        // As text, since `json!` would sort the keys.
        let answer = format!(r#"{{"key1":"bar1","headers":{}}}"#, call[5]);
        let result = format!("[{},{},{{}},[{answer}]]", code::YIELD, call[1]);
        session.socket().send_text(&result)?;
        // Stay until the router has passed the answer on.
        session.call("wamp.session.count", json!([]))?;
        Ok(())
    }))
}

fn backend_and_frontend(whose: Whose) -> Outcome {
    let server = Server::new()?;
    let mut backend = Running::start(&mut demo(whose, "backend", &server)?, b"")?;
    for line in [
        "Procedure registered",
        "Procedure echo registered",
        "com.myapp.topic1",
    ] {
        backend.line_with(line)?;
    }
    // Our backend brings it along.
    let answered = match whose {
        Whose::Ours => None,
        Whose::FoxWamp => Some(test_foo(&server)?),
    };
    let frontend = Running::start(&mut demo(whose, "frontend", &server)?, b"")?;
    let frontend = frontend.finish(PATIENCE)?.success()?;
    if let Some(answered) = answered {
        answered
            .join()
            .map_err(|_| anyhow!("test.foo panicked"))??;
    }
    let out = &frontend.stdout;
    in_order(
        out,
        &[
            "test.foo completed",
            "{ key1: 'bar1', headers: { foo: 'bar' } }",
        ],
    )?;
    in_order(
        out,
        &[
            "Call progress",
            "Call progress",
            "com.timeservice.now completed",
        ],
    )?;
    in_order(
        out,
        &[
            "echo completed",
            "OK",
            "echo completed",
            "OK",
            "echo completed",
            "arg1",
        ],
    )?;
    in_order(out, &["kwarg1: 'kwarg1', kwarg2: 'kwarg2'"])?;
    in_order(out, &["published"])?;
    ensure!(!out.contains("failed") && !out.contains("Failed"), "{out}");

    backend.line_with("arg-one")?;
    backend.kill()?;
    let out = backend.finish(PATIENCE)?.stdout;
    in_order(
        &out,
        &[
            "Event args [] kwargs {}",
            "Event args ['Arg1', 'Arg2'] kwargs {kwarg1: 'kwarg1', kwarg2: 'kwarg2'}",
            "Event args ['arg-one'] kwargs {headerName: 'value'}",
        ],
    )?;
    in_order(
        &out,
        &[
            "args [] kwargs {}",
            "args [] kwargs {}",
            "args ['arg1', 'arg2'] kwargs {kwarg1",
        ],
    )
}

#[test]
fn our_backend_and_frontend() -> Outcome {
    backend_and_frontend(Whose::Ours)
}

#[test]
fn fox_wamps_backend_and_frontend() -> Outcome {
    backend_and_frontend(Whose::FoxWamp)
}

/// A locks, B waits; A unlocks after nine seconds and B locks; B is killed and A,
/// which has come back meanwhile, locks.
fn resource_lock(whose: Whose) -> Outcome {
    let server = Server::new()?;
    let mut first = Running::start(&mut demo(whose, "resource-lock", &server)?, b"")?;
    first.line_with("Master Resource Locked")?;
    let mut second = Running::start(&mut demo(whose, "resource-lock", &server)?, b"")?;
    second.line_with("waiting for lock")?;
    first.line_with("Send Unlock")?;
    second.line_with("Master Resource Locked")?;
    // A is back, one second after its unlock; only then B is killed.
    first.line_with("waiting for lock")?;
    second.kill()?;
    first.line_with("Master Resource Locked")?;
    Ok(())
}

#[test]
fn our_resource_lock() -> Outcome {
    resource_lock(Whose::Ours)
}

#[test]
fn fox_wamps_resource_lock() -> Outcome {
    resource_lock(Whose::FoxWamp)
}

fn mass_publish(whose: Whose) -> Outcome {
    let server = Server::new()?;
    let demo = Running::start(&mut demo(whose, "mass-publish", &server)?, b"")?;
    let out = demo.finish(LONG)?.success()?.stdout;
    let rate = out
        .lines()
        .find_map(|line| line.split_once("total rec/sec:"))
        .context(out.clone())?
        .1;
    let rate: f64 = rate.trim().parse().with_context(|| rate.to_owned())?;
    ensure!(rate > 0.0 && !out.contains("publication error"), "{out}");
    Ok(())
}

#[test]
fn our_mass_publish() -> Outcome {
    mass_publish(Whose::Ours)
}

#[test]
fn fox_wamps_mass_publish() -> Outcome {
    mass_publish(Whose::FoxWamp)
}

/// A count, a list with the own id, details of a session, joins and leaves.
fn metatest(whose: Whose) -> Outcome {
    let server = Server::new()?;
    let mut demo = Running::start(&mut demo(whose, "metatest", &server)?, b"")?;
    demo.line_with("subscription successfull")?;
    demo.line_with("count =")?;
    demo.line_with("list =")?;
    demo.line_with("get =")?;
    let guest = Session::join(server.listen, "realm1")?;
    demo.line_with("wamp.session.on_join")?;
    guest.leave()?;
    demo.line_with("wamp.session.on_leave")?;
    demo.kill()?;
    let out = demo.finish(PATIENCE)?.stdout;
    ensure!(
        !out.contains("Call failed") || whose == Whose::FoxWamp,
        "{out}"
    );
    Ok(())
}

#[test]
fn our_metatest() -> Outcome {
    metatest(Whose::Ours)
}

#[test]
fn fox_wamps_metatest() -> Outcome {
    metatest(Whose::FoxWamp)
}

/// The three small tools of our own.
#[test]
fn our_pub_sub_call() -> Outcome {
    let server = Server::new()?;
    let mut sub = demo(Whose::Ours, "sub", &server)?;
    let mut sub = Running::start(sub.arg("demo.topic"), b"")?;
    sub.line_with("subscri")?;
    let mut publish = demo(Whose::Ours, "pub", &server)?;
    Running::start(publish.args(["demo.topic", "hello"]), b"")?
        .finish(PATIENCE)?
        .success()?;
    sub.line_with("hello")?;

    let mut backend = Running::start(&mut demo(Whose::Ours, "backend", &server)?, b"")?;
    backend.line_with("Procedure echo registered")?;
    let mut call = demo(Whose::Ours, "call", &server)?;
    let call = Running::start(call.args(["com.echoservice.echo", "hello"]), b"")?;
    let out = call.finish(PATIENCE)?.success()?.stdout;
    ensure!(out.contains("hello"), "{out}");
    Ok(())
}
