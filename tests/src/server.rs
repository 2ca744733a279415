//! The router under test: one process of the release binary per [`Server`], with
//! a data directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::command::signal;
use crate::{PATIENCE, http};

mod launch;

pub use launch::{binary, free_port, run_binary};
use launch::{command_line, field};

/// How a [`Server`] is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    memory: bool,
    fixed_ports: bool,
    config: Option<String>,
    data_dir: Option<PathBuf>,
    args: Vec<String>,
}

impl Options {
    /// Nothing on disk.
    pub fn memory(mut self) -> Self {
        self.memory = true;
        self
    }

    /// Ports that stay the same over a restart. Without this the system picks
    /// them, which is why such a server cannot be restarted.
    pub fn restartable(mut self) -> Self {
        self.fixed_ports = true;
        self
    }

    /// A configuration file with this text; the data directory and the ports are
    /// still given by flags, which win.
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// A data directory that the caller owns.
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// One more command line argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A running router; killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// The universal listener (the first, if there are several).
    pub listen: SocketAddr,
    /// The plain MQTT listener; `None` if it is off.
    pub mqtt: Option<SocketAddr>,
    /// The ready line as printed.
    pub ready: String,
    options: Options,
    ports: Option<(u16, u16)>,
    home: Arc<TempDir>,
    process: Process,
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<()>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a router with a fresh data directory on ports the system picks.
    ///
    /// # Errors
    /// Fails with the log if the router does not get ready.
    pub fn new() -> Result<Self> {
        Self::start(Options::default())
    }

    /// Starts a router.
    ///
    /// # Errors
    /// Fails with the log if the router does not get ready.
    pub fn start(options: Options) -> Result<Self> {
        let home = Arc::new(TempDir::with_prefix("reynard-test-")?);
        let ports = if options.fixed_ports {
            Some((free_port()?, free_port()?))
        } else {
            None
        };
        Self::launch(options, ports, home)
    }

    fn launch(options: Options, ports: Option<(u16, u16)>, home: Arc<TempDir>) -> Result<Self> {
        let mut command = command_line(&options, ports, home.path())?;
        let mut process = Process::spawn(&mut command)?;
        let Ok(ready) = process.stdout.recv_timeout(PATIENCE) else {
            let log = process.end();
            return Err(anyhow!("no ready line from {command:?}\n{log}"));
        };
        let listen = field(&ready, "listen")?
            .split(',')
            .next()
            .context("no listener")?
            .parse()
            .with_context(|| format!("not an address in {ready:?}"))?;
        let mqtt = match field(&ready, "mqtt")? {
            "off" => None,
            addr => Some(
                addr.parse()
                    .with_context(|| format!("not an address in {ready:?}"))?,
            ),
        };
        Ok(Self {
            listen,
            mqtt,
            ready,
            options,
            ports,
            home,
            process,
        })
    }

    /// `ws://…/wamp`.
    pub fn wamp_url(&self) -> String {
        format!("ws://{}/wamp", self.listen)
    }

    /// `mqtt://…` of the plain listener.
    ///
    /// # Errors
    /// Fails if that is off.
    pub fn mqtt_url(&self) -> Result<String> {
        Ok(format!("mqtt://{}", self.mqtt_addr()?))
    }

    /// `ws://…/mqtt`.
    pub fn mqtt_ws_url(&self) -> String {
        format!("ws://{}/mqtt", self.listen)
    }

    /// The address of the plain MQTT listener.
    ///
    /// # Errors
    /// Fails if that is off.
    pub fn mqtt_addr(&self) -> Result<SocketAddr> {
        self.mqtt.context("the MQTT listener is off")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Where the data lives (unless the caller gave another place).
    pub fn data_dir(&self) -> PathBuf {
        match &self.options.data_dir {
            Some(dir) => dir.clone(),
            None => self.home.path().join("data"),
        }
    }

    /// What the router has logged so far.
    pub fn log(&self) -> String {
        self.process
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// One metric, summed over its labels.
    ///
    /// # Errors
    /// Fails if the page cannot be read or lacks the metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get(self.listen, "/metrics")?;
        http::metric(&page.body, name).with_context(|| format!("no {name} in\n{}", page.body))
    }

    /// SIGKILL, as a power cut for the process.
    ///
    /// # Errors
    /// Fails if the process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.child.kill().context("cannot kill")?;
        self.process.child.wait().context("cannot wait")?;
        Ok(())
    }

    /// Sends SIGTERM and returns at once.
    ///
    /// # Errors
    /// Fails if there is no such process any more.
    pub fn terminate(&self) -> Result<()> {
        signal(self.pid(), "TERM")
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// Fails if it does not end within [`PATIENCE`].
    pub fn wait(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        // Both streams end with the process; no value is ever sent on stderr's.
        let left = deadline.saturating_duration_since(Instant::now());
        if self.process.stderr.recv_timeout(left) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            return Err(anyhow!("still running after {PATIENCE:?}\n{}", self.log()));
        }
        Ok(self.process.child.wait().context("cannot wait")?.code())
    }

    /// SIGTERM, then the exit code.
    ///
    /// # Errors
    /// Fails if the process does not end within [`PATIENCE`].
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.terminate()?;
        self.wait()
    }

    /// Further lines of stdout; the contract is that there are none.
    pub fn extra_output(&self) -> Vec<String> {
        self.process.stdout.try_iter().collect()
    }

    /// Starts the router again on the same data and the same ports. It must have
    /// been started [`Options::restartable`], and killed or stopped.
    ///
    /// # Errors
    /// Fails if it does not get ready.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.ports.is_some(), "not a restartable server");
        let again = Self::launch(self.options.clone(), self.ports, Arc::clone(&self.home))?;
        *self = again;
        Ok(())
    }
}

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let (line, stdout) = channel();
        if let Some(stream) = child.stdout.take() {
            std::thread::spawn(move || {
                for text in BufReader::new(stream)
                    .lines()
                    .map_while(std::result::Result::ok)
                {
                    if line.send(text).is_err() {
                        break;
                    }
                }
            });
        }
        let log = Arc::new(Mutex::new(String::new()));
        let (done, stderr) = channel();
        if let Some(stream) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let _ends_with_the_stream = done;
                for text in BufReader::new(stream)
                    .lines()
                    .map_while(std::result::Result::ok)
                {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_str(&text);
                    log.push('\n');
                }
            });
        }
        Ok(Self {
            child,
            stdout,
            stderr,
            log,
        })
    }

    /// Kills the process and returns its whole log.
    fn end(&mut self) -> String {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.stderr.recv_timeout(PATIENCE);
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let log = self.end();
        // Shown by the test runner only if the test fails.
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        for line in tail.iter().rev() {
            println!("reynard: {line}");
        }
    }
}
