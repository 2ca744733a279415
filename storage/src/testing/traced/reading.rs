//! Reads what `strace -f -y -xx` writes.

use std::collections::HashMap;
use std::path::Path;

/// A call begins or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub thread: String,
    pub name: String,
    /// As printed, strings in hexadecimal.
    pub args: Vec<String>,
    /// `None` when it begins.
    pub result: Option<i64>,
}

impl Call {
    /// A string among the arguments.
    pub fn bytes(&self, at: usize) -> Result<Vec<u8>, String> {
        let text = self.text(at)?;
        let inner = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        inner
            .and_then(unescaped)
            .ok_or_else(|| format!("no whole string: {} {text:.80}", self.name))
    }

    /// A path among the arguments.
    pub fn path(&self, at: usize) -> Result<String, String> {
        String::from_utf8(self.bytes(at)?).map_err(|error| error.to_string())
    }

    /// A number among the arguments; of a file, its descriptor.
    pub fn number(&self, at: usize) -> Result<i64, String> {
        let text = self.text(at)?;
        let digits = text.split('<').next().unwrap_or(text);
        digits
            .parse()
            .map_err(|_| format!("no number: {} {text:.80}", self.name))
    }

    /// The path that strace gives for a descriptor; empty if it is none.
    pub fn path_of(&self, at: usize) -> String {
        let named = self.args.get(at).and_then(|text| text.split_once('<'));
        named
            .and_then(|(_, path)| path.split('>').next())
            .and_then(unescaped)
            .map(|path| String::from_utf8_lossy(&path).into_owned())
            .unwrap_or_default()
    }

    pub fn text(&self, at: usize) -> Result<&str, String> {
        match self.args.get(at) {
            Some(text) => Ok(text),
            None => Err(format!("{} has no argument {at}", self.name)),
        }
    }
}

/// Reads a whole trace.
pub(super) fn read(path: &Path) -> Result<Vec<Call>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (mut calls, mut begun) = (Vec::new(), HashMap::new());
    for line in text.lines() {
        read_line(line, &mut calls, &mut begun).ok_or_else(|| format!("not read: {line:.200}"))?;
    }
    Ok(calls)
}

fn read_line<'a>(
    line: &'a str,
    calls: &mut Vec<Call>,
    begun: &mut HashMap<&'a str, String>,
) -> Option<()> {
    let (thread, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    // Signals, ends of threads.
    if rest.starts_with("---") || rest.starts_with("+++") {
        return Some(());
    }
    if let Some(resumed) = rest.strip_prefix("<... ") {
        let (_, behind) = resumed.split_once(" resumed>")?;
        let whole = begun.remove(thread)? + behind;
        calls.push(over(thread, &whole)?);
        return Some(());
    }
    if let Some(before) = rest.strip_suffix(" <unfinished ...>") {
        calls.push(beginning(thread, before)?);
        begun.insert(thread, before.to_owned());
        return Some(());
    }
    let over = over(thread, rest)?;
    calls.push(Call {
        result: None,
        ..over.clone()
    });
    calls.push(over);
    Some(())
}

fn beginning(thread: &str, text: &str) -> Option<Call> {
    let (name, args) = text.split_once('(')?;
    Some(Call {
        thread: thread.to_owned(),
        name: name.to_owned(),
        args: args
            .split(", ")
            .map(|arg| arg.trim_end_matches(',').to_owned())
            .collect(),
        result: None,
    })
}

fn over(thread: &str, text: &str) -> Option<Call> {
    let (call, result) = text.rsplit_once(" = ")?;
    let call = call.trim_end().strip_suffix(')')?;
    let digits = result.split([' ', '<']).next()?;
    Some(Call {
        // Killed in it.
        result: Some(digits.parse().unwrap_or(-1)),
        ..beginning(thread, call)?
    })
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut codes = text.split("\\x");
    if codes.next() != Some("") {
        return text.is_empty().then(Vec::new);
    }
    codes
        .map(|code| u8::from_str_radix(code, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Vec<Call> {
        let (mut calls, mut begun) = (Vec::new(), HashMap::new());
        for line in text.lines() {
            read_line(line, &mut calls, &mut begun).unwrap();
        }
        calls
    }

    #[test]
    fn a_call_that_is_interrupted_by_another_thread_is_put_together() {
        let calls = read_all(
            "7 pwrite64(5<\\x2f\\x61>, \"\\x00\\x28\", 2, 96 <unfinished ...>\n\
             8 fdatasync(5<\\x2f\\x61>) = 0\n\
             7 <... pwrite64 resumed>) = 2\n\
             7 +++ exited with 0 +++",
        );
        let seen: Vec<_> = calls
            .iter()
            .map(|call| (&*call.name, call.result))
            .collect();
        assert_eq!(
            seen,
            [
                ("pwrite64", None),
                ("fdatasync", None),
                ("fdatasync", Some(0)),
                ("pwrite64", Some(2))
            ]
        );
        for call in [&calls[0], &calls[3]] {
            assert_eq!(call.bytes(1).unwrap(), [0, 0x28]);
            assert_eq!((call.number(0), call.number(3)), (Ok(5), Ok(96)));
            assert_eq!(call.path_of(0), "/a");
        }
    }

    #[test]
    fn a_string_that_was_cut_short_is_no_string() {
        let calls = read_all("7 write(1<\\x70>, \"\\x61\"..., 2) = 2");
        assert!(calls[0].bytes(1).is_err());
    }
}
