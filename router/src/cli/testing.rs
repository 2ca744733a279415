//! Commands against a router whose every word a test says.

use super::console::Console;
use super::failure::Failure;
use router_client::testing::{Router, joined};
use router_client::{Serializer, Session};

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// What a command answers, as an exit code.
pub(super) trait Code {
    fn code(self) -> u8;
}

impl Code for () {
    fn code(self) -> u8 {
        0
    }
}

impl Code for u8 {
    fn code(self) -> u8 {
        self
    }
}

/// Runs a command beside the script of its router.
pub(super) async fn against<S, R, C, T>(is_json: bool, script: S, command: C) -> Ended
where
    S: AsyncFnOnce(Router) -> R,
    C: AsyncFnOnce(Session, &mut Console<'_>) -> Result<T, Failure>,
    T: Code,
{
    let (session, router) = joined(Serializer::Json).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(is_json, false, &mut out, &mut err);
    let (ended, _router) = tokio::join!(command(session, &mut console), script(router));
    let code = match ended {
        Ok(done) => done.code(),
        Err(failure) => {
            console.failure(&failure);
            failure.code
        }
    };
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended {
        code,
        out: text(out),
        err: text(err),
    }
}
