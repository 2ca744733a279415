#![forbid(unsafe_code)]
//! The program `reynard`: arguments, logging, run until a signal.

use reynard::Server;
use reynard::cli::{self, Invocation};
use reynard::config::{Choice as _, Loaded, Log, LogFormat, ProcessSources};
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let sources = ProcessSources;
    match cli::parse(std::env::args_os(), &sources) {
        Ok(Invocation::Serve(loaded)) => serve(&loaded),
        Ok(Invocation::Check(flags)) => cli::run_check(&flags, &sources).print(),
        Ok(Invocation::Client(command)) => cli::client::run(&command),
        Ok(Invocation::Storage(command)) => reynard::storage_tool::run(&command).print(),
        Err(exit) => exit.print(),
    }
}

fn serve(loaded: &Loaded) -> ExitCode {
    eprint!("{}", cli::warnings(&loaded.warnings));
    start_logging(loaded.config.log);
    do_without_huge_pages();
    let runtime = match runtime(loaded.config.worker_threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(loaded))
}

/// What many connections gave back is to be given back to the system, which takes whole pages: see ADR 0019.
fn do_without_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the system decides about huge pages");
    }
}

/// Tasks run in the order in which they were woken, where tokio can be told so. By default a worker
/// runs the one woken last first, and of two sockets that became readable within one wait the later
/// one would be served first: a PUBLISH could overtake the SUBSCRIBE that another client sent ahead
/// of it.
fn runtime(threads: Option<u16>) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    #[cfg(tokio_unstable)]
    builder.disable_lifo_slot();
    if let Some(threads) = threads {
        builder.worker_threads(usize::from(threads));
    }
    builder.enable_all().build()
}

async fn run(loaded: &Loaded) -> ExitCode {
    let (mut terminate, mut interrupt) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    let server = match Server::start(&loaded.config).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("reynard: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", server.ready_line()).and_then(|()| stdout.flush());
    drop(stdout);
    if let Err(error) = written {
        tracing::warn!(%error, "nobody reads the ready line");
    }
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("shutting down; a second signal exits at once");
    tokio::select! {
        () = server.shutdown() => ExitCode::SUCCESS,
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("exiting at once");
            std::process::exit(1)
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_logging(log: Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(log.level.word()))
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Pretty => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
