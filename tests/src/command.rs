//! Programs run to their end under a deadline.
//!
//! The end of a program is taken from the end of its output streams, which can be
//! awaited with a timeout, unlike `wait` of the standard library.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::PATIENCE;

/// What a finished program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` if a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The lines of stdout.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// Itself, if the program ended with exit code 0.
    ///
    /// # Errors
    /// Fails with the whole output otherwise.
    pub fn success(self) -> Result<Self> {
        ensure!(
            self.status.success(),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

/// A program under way; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    seen: String,
    seen_errors: String,
}

impl Running {
    /// Starts `command` with `input` on its stdin.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start(command: &mut Command, input: &[u8]) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        feed(child.stdin.take(), input);
        let stdout = lines(child.stdout.take());
        let stderr = lines(child.stderr.take());
        Ok(Self {
            child,
            stdout,
            stderr,
            seen: String::new(),
            seen_errors: String::new(),
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// Fails if the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill")
    }

    /// Waits for a line of stdout that contains `part`.
    ///
    /// # Errors
    /// Fails if the program ends without one, or after [`PATIENCE`].
    pub fn line_with(&mut self, part: &str) -> Result<String> {
        match line_with(&self.stdout, &mut self.seen, part) {
            Some(line) => Ok(line),
            None => bail!("no line with {part:?} in\n{}", self.output()),
        }
    }

    /// Waits for a line of stderr that contains `part`.
    ///
    /// # Errors
    /// Fails if the program ends without one, or after [`PATIENCE`].
    pub fn error_line_with(&mut self, part: &str) -> Result<String> {
        match line_with(&self.stderr, &mut self.seen_errors, part) {
            Some(line) => Ok(line),
            None => bail!("no line with {part:?} on stderr in\n{}", self.output()),
        }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// Fails if the operating system refuses.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait")
    }

    /// What was written up to now.
    pub fn output(&mut self) -> String {
        for (stream, seen) in [
            (&self.stdout, &mut self.seen),
            (&self.stderr, &mut self.seen_errors),
        ] {
            for line in stream.try_iter() {
                seen.push_str(&line);
                seen.push('\n');
            }
        }
        format!("{}--- stderr\n{}", self.seen, self.seen_errors)
    }

    /// Waits for the end; after `patience` the program is killed.
    ///
    /// # Errors
    /// Fails if the program did not end in time.
    pub fn finish(mut self, patience: Duration) -> Result<Finished> {
        let deadline = Instant::now() + patience;
        let mut stdout = std::mem::take(&mut self.seen);
        let mut stderr = std::mem::take(&mut self.seen_errors);
        let ended = collect(&self.stdout, &mut stdout, deadline)
            && collect(&self.stderr, &mut stderr, deadline);
        if !ended {
            self.child.kill().context("cannot kill")?;
            bail!("not finished after {patience:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        }
        let status = self.child.wait().context("cannot wait")?;
        Ok(Finished {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the program is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end with nothing on stdin.
///
/// # Errors
/// Fails if it cannot be started or does not end within `patience`.
pub fn run(command: &mut Command, patience: Duration) -> Result<Finished> {
    Running::start(command, b"")?.finish(patience)
}

/// Sends the named signal (`TERM`, `KILL`) to a process that a test started.
///
/// # Errors
/// Fails if there is no such process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    // The shell's own `kill`: a bare machine may lack the program of that name.
    let status = Command::new("sh")
        .args(["-c", "kill -\"$0\" \"$1\"", name, &pid.to_string()])
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "kill -{name} {pid}: {status}");
    Ok(())
}

/// Writes on a thread of its own, for a program may want to be read before it reads.
fn feed(stdin: Option<impl Write + Send + 'static>, input: &[u8]) {
    let input = input.to_vec();
    if let Some(mut stdin) = stdin {
        std::thread::spawn(move || {
            // A program that ends without reading its input is judged by its status.
            let _ = stdin.write_all(&input);
        });
    }
}

/// Takes lines up to one that contains `part`; `None` if the stream ends first, or patience.
fn line_with(stream: &Receiver<String>, seen: &mut String, part: &str) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = stream.recv_timeout(left).ok()?;
        seen.push_str(&line);
        seen.push('\n');
        if line.contains(part) {
            return Some(line);
        }
    }
}

/// Appends lines until the stream ends; `false` if the deadline comes first.
fn collect(stream: &Receiver<String>, text: &mut String, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match stream.recv_timeout(left) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn lines(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for line in BufReader::new(stream)
                .split(b'\n')
                .map_while(std::result::Result::ok)
            {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    receiver
}
