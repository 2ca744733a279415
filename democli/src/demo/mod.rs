//! The demos, one file each. All of them join first and say goodbye in the end.

mod backend;
mod call;
mod frontend;
mod mass_publish;
mod metatest;
mod publish;
mod resource_lock;
mod subscribe;

use crate::args::{Connect, Demo};
use crate::output::say;
use router_client::{ClientError, Join, Session};

/// The topic that frontend and backend share.
const TOPIC: &str = "com.myapp.topic1";
/// Tells the time; progressive.
const NOW: &str = "com.timeservice.now";
/// Answers what it is called with.
const ECHO: &str = "com.echoservice.echo";
/// Answers a dict with its keyword arguments in it.
const FOO: &str = "test.foo";

/// Runs one demo to its end.
///
/// # Errors
/// Whatever kept it from doing what it shows.
pub async fn run(connect: &Connect, demo: Demo) -> anyhow::Result<()> {
    match demo {
        Demo::Backend => backend::run(join(connect).await?).await,
        Demo::Frontend => frontend::run(join(connect).await?).await,
        Demo::ResourceLock(args) => resource_lock::run(join(connect).await?, &args).await,
        Demo::MassPublish(args) => mass_publish::run(join(connect).await?, &args).await,
        Demo::Metatest(args) => metatest::run(join(connect).await?, &args).await,
        // These are tools for scripts: they print what they are asked for, nothing else.
        Demo::Publish(args) => publish::run(enter(connect).await?, &args).await,
        Demo::Subscribe(args) => subscribe::run(enter(connect).await?, &args).await,
        Demo::Call(args) => call::run(enter(connect).await?, &args).await,
    }
}

async fn join(connect: &Connect) -> anyhow::Result<Session> {
    say!("connect to server: {}", connect.url)?;
    let session = enter(connect).await?;
    say!("WAMP session {} on '{}'", session.id(), connect.realm)?;
    Ok(session)
}

async fn enter(connect: &Connect) -> Result<Session, ClientError> {
    let agent = concat!("democli/", env!("CARGO_PKG_VERSION"));
    let join = Join {
        credentials: connect.credentials(),
        serializer: connect.serializer,
        ..Join::new(&connect.realm, agent)
    };
    Session::connect(&connect.url, &join).await
}

/// Waits for Ctrl-C.
async fn interrupted() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}
