//! Lines for the reader: results on stdout, everything else on stderr, as text or as JSON lines.
//!
//! What peers sent may stand in them, so control characters are made visible in lines of ours.

use super::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use router_client::printable;
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, Write};

/// See the [module](self).
pub(super) struct Console<'a> {
    is_json: bool,
    is_terminal: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Console<'a> {
    /// A console; `is_terminal` says whether `out` is one.
    pub(super) fn new(
        is_json: bool,
        is_terminal: bool,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Console<'a> {
        Console {
            is_json,
            is_terminal,
            out,
            err,
        }
    }

    /// Whether lines are JSON.
    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// A result: `text`, or with `--json` the object.
    pub(super) fn result(&mut self, text: &str, object: &impl Serialize) -> io::Result<()> {
        if self.is_json {
            return self.object(object);
        }
        writeln!(self.out, "{}", printable(text))?;
        self.out.flush()
    }

    /// A JSON line on stdout, whatever the form.
    pub(super) fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(object)?;
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// Lines for stdout as they are.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.out.write_all(lines)?;
        self.out.flush()
    }

    /// Text as it is, line ends and all; on a terminal without what could control it.
    pub(super) fn bare(&mut self, text: &str) -> io::Result<()> {
        let text = if self.is_terminal {
            let lines: Vec<Cow<'_, str>> = text.split('\n').map(printable).collect();
            Cow::Owned(lines.join("\n"))
        } else {
            Cow::Borrowed(text)
        };
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A word beside the result, on stderr: `text`, or with `--json` the object. Nobody may read it
    /// any more, and that is no failure.
    pub(super) fn aside(&mut self, text: &str, object: &Value) {
        let _ = if self.is_json {
            writeln!(self.err, "{object}")
        } else {
            writeln!(self.err, "reynard: {}", printable(text))
        };
    }

    /// Why the command failed.
    pub(super) fn failure(&mut self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let mut object = Map::new();
        object.insert("error".to_owned(), failure.error.as_str().into());
        object.insert("message".to_owned(), failure.message.as_str().into());
        object.extend(failure.details.clone());
        self.aside(&failure.message, &Value::Object(object));
    }
}

/// A bar on stderr, drawn only if that is a terminal; `None`: the end is not known.
pub(super) fn progress_bar(length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => "{bar:40} {bytes}/{total_bytes}, {eta} left {msg}",
        None => "{spinner} {msg} {elapsed}",
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(is_json: bool, is_terminal: bool, say: impl Fn(&mut Console<'_>)) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        say(&mut Console::new(is_json, is_terminal, &mut out, &mut err));
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(out), text(err))
    }

    #[test]
    fn a_result_is_one_line_in_either_form() {
        let say = |console: &mut Console<'_>| {
            let object = json!({"a": "x\ny"});
            console.result("a\u{1b}[2J\nb", &object).expect("written");
        };
        assert_eq!(shown(false, true, say).0, "a\\u{1b}[2J\\nb\n");
        assert_eq!(shown(true, true, say).0, "{\"a\":\"x\\ny\"}\n");
    }

    #[test]
    fn bare_text_controls_no_terminal() {
        let say = |console: &mut Console<'_>| console.bare("a\n\u{1b}[2J").expect("written");
        assert_eq!(shown(false, true, say).0, "a\n\\u{1b}[2J\n");
        assert_eq!(shown(false, false, say).0, "a\n\u{1b}[2J\n");
    }

    #[test]
    fn a_failure_goes_to_stderr_with_its_details() {
        let say = |console: &mut Console<'_>| {
            console.failure(&Failure::not_found("a.b", "no value under a.b".to_owned()));
        };
        let text = "reynard: no value under a.b\n";
        assert_eq!(shown(false, true, say), (String::new(), text.to_owned()));
        let object = json!({"error": "not_found", "message": "no value under a.b", "key": "a.b"});
        let (out, err) = shown(true, true, say);
        assert_eq!(out, "");
        assert_eq!(serde_json::from_str::<Value>(&err).expect("JSON"), object);
    }

    #[test]
    fn the_bars_have_valid_templates() {
        for template in [
            "{bar:40} {bytes}/{total_bytes}, {eta} left {msg}",
            "{spinner} {msg} {elapsed}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
        assert_eq!(progress_bar(Some(7)).length(), Some(7));
    }
}
