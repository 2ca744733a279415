//! Lines on stdout. What peers sent may stand in them, so control characters are made visible: no
//! publisher writes to the terminal of a subscriber.

use std::borrow::Cow;
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

/// The text with its control characters, line ends too, as Rust escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            visible.extend(c.escape_default());
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible_and_nothing_else_changes() {
        assert_eq!(printable("grün \"a\\b\" ☕"), "grün \"a\\b\" ☕");
        assert_eq!(printable("a\nb\u{1b}[2J\u{9b}"), "a\\nb\\u{1b}[2J\\u{9b}");
    }
}
