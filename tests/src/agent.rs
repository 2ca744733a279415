//! A foreign client, driven by JSON lines.
//!
//! Each program in `clients/` connects one library to the router and then obeys
//! orders from its stdin, one JSON object a line: `{"id": 7, "do": "subscribe", …}`.
//! It answers `{"id": 7, "ok": …}` or `{"id": 7, "error": {…}}` and reports what
//! happens to it without an id: `{"event": …}`, `{"message": …}`, `{"progress": …}`,
//! `{"invoked": …}`, `{"interrupted": …}`, `{"closed": …}`. It ends when its stdin ends. `clients/README.md` lists the orders.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::{PATIENCE, clients_dir, workspace};

/// The foreign programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// autobahn-js, JSON.
    AutobahnJs,
    /// autobahn-python (asyncio), JSON.
    AutobahnPythonJson,
    /// autobahn-python (asyncio), MessagePack.
    AutobahnPythonMsgpack,
    /// autobahn-python (asyncio), CBOR.
    AutobahnPythonCbor,
    /// autobahn-python (asyncio), CBOR in batches.
    AutobahnPythonBatched,
    /// wampy, JSON.
    WampyJson,
    /// wampy, MessagePack.
    WampyMsgpack,
    /// wampy, CBOR.
    WampyCbor,
    /// mqtt.js; the protocol version is an option of the order `connect`.
    MqttJs,
    /// paho-mqtt (Python); the same.
    Paho,
}

impl Library {
    /// All WAMP libraries.
    pub const WAMP: [Self; 8] = [
        Self::AutobahnJs,
        Self::AutobahnPythonJson,
        Self::AutobahnPythonMsgpack,
        Self::AutobahnPythonCbor,
        Self::AutobahnPythonBatched,
        Self::WampyJson,
        Self::WampyMsgpack,
        Self::WampyCbor,
    ];

    /// All MQTT libraries with the protocol versions they are tried with.
    pub const MQTT: [(Self, u8); 4] = [
        (Self::MqttJs, 4),
        (Self::MqttJs, 5),
        (Self::Paho, 4),
        (Self::Paho, 5),
    ];

    /// Whether its serializer carries bytes as bytes (JSON has `"\0base64"` instead).
    pub fn has_binary(self) -> bool {
        matches!(
            self,
            Self::AutobahnPythonMsgpack
                | Self::AutobahnPythonCbor
                | Self::AutobahnPythonBatched
                | Self::WampyMsgpack
                | Self::WampyCbor
        )
    }

    fn program(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::AutobahnJs => ("js/autobahn.js", &[]),
            Self::AutobahnPythonJson => ("python/autobahn_agent.py", &["json"]),
            Self::AutobahnPythonMsgpack => ("python/autobahn_agent.py", &["msgpack"]),
            Self::AutobahnPythonCbor => ("python/autobahn_agent.py", &["cbor"]),
            Self::AutobahnPythonBatched => ("python/autobahn_agent.py", &["cbor.batched"]),
            Self::WampyCbor => ("js/wampy.js", &["cbor"]),
            Self::WampyJson => ("js/wampy.js", &["json"]),
            Self::WampyMsgpack => ("js/wampy.js", &["msgpack"]),
            Self::MqttJs => ("js/mqtt.js", &[]),
            Self::Paho => ("python/paho_agent.py", &[]),
        }
    }
}

/// The interpreter for a client program, told where the libraries are.
///
/// # Errors
/// Fails if `tests/setup` has not run.
pub fn interpreter(python: bool) -> Result<Command> {
    let clients = clients_dir()?;
    if python {
        let mut command = Command::new(clients.join("python/bin/python"));
        command
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        return Ok(command);
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", clients.join("js/node_modules"));
    Ok(command)
}

/// A running foreign client; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    backlog: VecDeque<Value>,
    next_id: u64,
    name: String,
}

impl Agent {
    /// Starts a library's program against `url`; it does not connect before it is
    /// told to.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start(library: Library, url: &str) -> Result<Self> {
        let (script, args) = library.program();
        Self::launch(&format!("{library:?}"), script, url, args)
    }

    /// Starts a program below `clients/` against `url`, with further arguments;
    /// `name` is what errors call it.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn launch(name: &str, script: &'static str, url: &str, args: &[&str]) -> Result<Self> {
        let mut command = interpreter(script.ends_with(".py"))?;
        command
            .arg(workspace().join("tests/clients").join(script))
            .arg(url)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let lines = parse_lines(&mut child, script);
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            lines,
            backlog: VecDeque::new(),
            next_id: 1,
            name: name.to_owned(),
        })
    }

    /// Starts a WAMP library and joins `realm` anonymously.
    ///
    /// # Errors
    /// Fails if the session does not open.
    pub fn join(library: Library, url: &str, realm: &str) -> Result<Self> {
        let mut agent = Self::start(library, url)?;
        agent.ok(json!({"do": "connect", "realm": realm}))?;
        Ok(agent)
    }

    /// Starts an MQTT library and connects with these options.
    ///
    /// # Errors
    /// Fails if the connection is refused.
    pub fn connect(library: Library, url: &str, mut options: Value) -> Result<Self> {
        let mut agent = Self::start(library, url)?;
        options["do"] = json!("connect");
        agent.ok(options)?;
        Ok(agent)
    }

    /// Gives an order without waiting for its answer.
    ///
    /// # Errors
    /// Fails if the program is gone.
    pub fn order(&mut self, mut order: Value) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        order["id"] = json!(id);
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        writeln!(stdin, "{order}").with_context(|| format!("{} is gone", self.name))?;
        Ok(id)
    }

    /// Waits for the answer to an order: `{"ok": …}` or `{"error": …}`.
    ///
    /// # Errors
    /// Fails if none comes within [`PATIENCE`].
    pub fn answer(&mut self, id: u64) -> Result<Value> {
        self.answer_within(id, PATIENCE)
    }

    /// As [`Agent::answer`], with a patience of its own.
    ///
    /// # Errors
    /// Fails if none comes in time.
    pub fn answer_within(&mut self, id: u64, patience: Duration) -> Result<Value> {
        self.wait(patience, &format!("the answer to order {id}"), |line| {
            line["id"] == json!(id)
        })
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Errors
    /// Fails if none comes within [`PATIENCE`].
    pub fn ask(&mut self, order: Value) -> Result<Value> {
        let id = self.order(order)?;
        self.answer(id)
    }

    /// Gives an order that must succeed, and returns its `ok`.
    ///
    /// # Errors
    /// Fails if it fails.
    pub fn ok(&mut self, order: Value) -> Result<Value> {
        let told = order.to_string();
        let mut answer = self.ask(order)?;
        ensure!(
            answer.get("ok").is_some(),
            "{}: {told} -> {answer}",
            self.name
        );
        Ok(answer["ok"].take())
    }

    /// Gives an order that must fail, and returns its `error`.
    ///
    /// # Errors
    /// Fails if it succeeds.
    pub fn refused(&mut self, order: Value) -> Result<Value> {
        let told = order.to_string();
        let mut answer = self.ask(order)?;
        ensure!(
            answer.get("error").is_some(),
            "{}: {told} -> {answer}",
            self.name
        );
        Ok(answer["error"].take())
    }

    /// The next report of a kind (`event`, `message`, `progress`, `invoked`, `closed`, …).
    ///
    /// # Errors
    /// Fails if none comes within [`PATIENCE`].
    pub fn next(&mut self, kind: &str) -> Result<Value> {
        let mut line = self.wait(PATIENCE, kind, |line| line.get(kind).is_some())?;
        Ok(line[kind].take())
    }

    /// SIGKILL: the socket closes without any farewell of the protocol.
    ///
    /// # Errors
    /// Fails if the process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill")?;
        self.child.wait().context("cannot wait")?;
        Ok(())
    }

    fn wait(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        if let Some(at) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(at).context("the backlog changed");
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => self.backlog.push_back(line),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "{}: no {what} after {patience:?}; seen {:?}",
                    self.name,
                    self.backlog
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(anyhow!(
                        "{}: ended before {what}; seen {:?}",
                        self.name,
                        self.backlog
                    ));
                }
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if the program is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses stdout line by line; stderr goes to the test's own output.
fn parse_lines(child: &mut Child, script: &'static str) -> Receiver<Value> {
    let (sender, receiver) = channel();
    if let Some(stream) = child.stderr.take() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for text in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(json!({"stderr": text})).is_err() {
                    break;
                }
            }
        });
    }
    if let Some(stream) = child.stdout.take() {
        std::thread::spawn(move || {
            for text in BufReader::new(stream).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&text)
                    .unwrap_or_else(|_| json!({"stderr": format!("{script}: {text}")}));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}
