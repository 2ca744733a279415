//! Lines on stdout. What peers sent may stand in them, so control characters are made visible.

use router_client::printable;
use std::io::{self, Write as _};

/// Prints one line like `println!`, but returns the error of a closed stdout instead of panicking.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::output::line(&format!($($argument)*))
    };
}
pub(crate) use say;

/// Prints one line and flushes it, so that a reader at the other end of a pipe sees it at once.
///
/// # Errors
/// When stdout cannot be written to.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", printable(text))?;
    stdout.flush()
}
