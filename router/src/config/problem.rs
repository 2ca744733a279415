//! What is wrong with a configuration, and where: `FILE:LINE:COLUMN: message`, the source line, a
//! caret under the place, and a hint. Lines and columns count from 1, columns in characters.
//!
//! Problems are collected, so that one run reports all of them. Excerpts never show secrets.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// A complaint of a small parser that knows no places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Where a value came from, while the configuration is being put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody said it.
    Default,
    /// Bytes of the configuration file.
    File(Range<usize>),
    /// The same, in a table with secrets: the excerpt shows no value.
    Hidden(Range<usize>),
    /// An environment variable.
    Variable(&'static str),
    /// A command line flag.
    Flag(&'static str),
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> Placed<T> {
    pub(super) fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }
}

/// Where a problem is, for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A place in a configuration file.
    Line {
        /// The file as the user named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A file as a whole.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(&'static str),
    /// The built-in default.
    Default,
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
}

/// A source line and the caret under it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    padding: String,
    width: usize,
}

impl Problem {
    /// A problem that no single line causes.
    pub(super) fn whole(location: Location, fault: Fault) -> Self {
        Self {
            location,
            message: fault.message,
            hint: fault.hint,
            excerpt: None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("configuration"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, Visible(&self.message))?;
        let mut gutter = " ".to_owned();
        if let (Location::Line { line, .. }, Some(excerpt)) = (&self.location, &self.excerpt) {
            let number = line.to_string();
            gutter = " ".repeat(number.len());
            write!(f, "\n{gutter} |\n{number} | {}", Visible(&excerpt.text))?;
            write!(
                f,
                "\n{gutter} | {}{}",
                excerpt.padding,
                "^".repeat(excerpt.width)
            )?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{gutter} = hint: {}", Visible(hint))?;
        }
        Ok(())
    }
}

/// Text from a file on its way to a terminal: control characters become visible, tabs stay.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0
            .chars()
            .try_for_each(|letter| f.write_char(visible(letter)))
    }
}

fn visible(letter: char) -> char {
    if letter.is_control() && letter != '\t' {
        char::REPLACEMENT_CHARACTER
    } else {
        letter
    }
}

/// A configuration that cannot be used: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, by place.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects problems while one configuration is read.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    errors: Vec<(usize, Problem)>,
    warnings: Vec<Problem>,
}

impl<'a> Problems<'a> {
    /// For a file of that name and content; both empty if there is no file.
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes an error.
    pub(super) fn error(&mut self, place: &Place, fault: Fault) {
        // Errors of the file come first, by place; the others follow in the order found.
        let rank = match place {
            Place::File(span) | Place::Hidden(span) => span.start,
            _ => usize::MAX,
        };
        let problem = self.locate(place, fault);
        self.errors.push((rank, problem));
    }

    /// Notes something that is legal but probably not meant.
    pub(super) fn warning(&mut self, place: &Place, fault: Fault) {
        self.warn(self.locate(place, fault));
    }

    /// Notes a warning that is complete.
    pub(super) fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// The one error of a file that cannot be read at all.
    pub(super) fn only(file: &str, text: &str, place: &Place, fault: Fault) -> ConfigError {
        let problem = Problems::new(file, text).locate(place, fault);
        ConfigError {
            problems: vec![problem],
        }
    }

    /// Whether there is no error so far.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// The line of a place in the file, to refer to it in a hint.
    pub(super) fn line(&self, place: &Place) -> Option<usize> {
        match place {
            Place::File(span) | Place::Hidden(span) => Some(position(self.text, span.start).line),
            _ => None,
        }
    }

    /// The warnings if there is no error.
    ///
    /// # Errors
    /// All errors, by place.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, ConfigError> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(|(rank, _)| *rank);
        let problems = self
            .errors
            .into_iter()
            .map(|(_, problem)| problem)
            .collect();
        Err(ConfigError { problems })
    }

    fn locate(&self, place: &Place, fault: Fault) -> Problem {
        let location = match place {
            Place::Default => Location::Default,
            Place::Variable(name) => Location::Variable((*name).to_owned()),
            Place::Flag(name) => Location::Flag(name),
            Place::File(span) => return self.locate_span(span, false, fault),
            Place::Hidden(span) => return self.locate_span(span, true, fault),
        };
        Problem::whole(location, fault)
    }

    fn locate_span(&self, span: &Range<usize>, is_hidden: bool, fault: Fault) -> Problem {
        let position = position(self.text, span.start);
        let marked = self.text.get(span.clone()).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count();
        let excerpt = excerpt(position.text, position.column, width, is_hidden);
        let location = Location::Line {
            file: self.file.to_owned(),
            line: position.line,
            column: position.column,
        };
        Problem {
            location,
            message: fault.message,
            hint: fault.hint,
            excerpt: Some(excerpt),
        }
    }
}

struct Position<'a> {
    line: usize,
    column: usize,
    text: &'a str,
}

/// The line and column of a byte; beyond the text it is the end of the text.
fn position(text: &str, offset: usize) -> Position<'_> {
    let offset = text.floor_char_boundary(offset);
    let (before, after) = text.split_at(offset);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let head = before.get(start..).unwrap_or_default();
    let end = after.find('\n').map_or(text.len(), |at| offset + at);
    let line = text.get(start..end).unwrap_or_default();
    Position {
        line: before.matches('\n').count() + 1,
        column: head.chars().count() + 1,
        text: line.strip_suffix('\r').unwrap_or(line),
    }
}

/// Characters of a source line that an excerpt shows at most.
const EXCERPT_CHARS: usize = 120;

fn excerpt(line: &str, column: usize, width: usize, is_hidden: bool) -> Excerpt {
    let letters: Vec<char> = redact(line, is_hidden).chars().collect();
    let caret = (column - 1).min(letters.len());
    // A long line is shown from some way before the caret.
    let from = if caret < EXCERPT_CHARS {
        0
    } else {
        caret - EXCERPT_CHARS / 2
    };
    let shown = letters.iter().skip(from).take(EXCERPT_CHARS);
    let blank = |letter: &char| if *letter == '\t' { '\t' } else { ' ' };
    let padding: String = letters.iter().take(caret).skip(from).map(blank).collect();
    let room = (letters.len() - caret).min(from + EXCERPT_CHARS - caret);
    Excerpt {
        text: shown.collect(),
        padding,
        width: width.min(room).max(1),
    }
}

/// The line without what may be a secret: everything after the first `=`, after the word that
/// announces a secret unless the whole line is to be hidden.
fn redact(line: &str, is_hidden: bool) -> String {
    let lower = line.to_ascii_lowercase();
    let word = if is_hidden {
        Some(0)
    } else {
        secret_word(&lower)
    };
    let equals = word.and_then(|at| line.get(at..)?.find('=').map(|equals| at + equals));
    match equals.and_then(|cut| line.get(..=cut)) {
        Some(key) => format!("{key} …"),
        // Half of a broken setting.
        None if is_hidden => "…".to_owned(),
        None => line.to_owned(),
    }
}

/// Where a line names something secret. `secret_file` does not count: a path helps the reader.
fn secret_word(lower: &str) -> Option<usize> {
    let secrets = lower.match_indices("secret").map(|(at, _)| at);
    let mut secrets = secrets.filter(|at| !lower[*at..].starts_with("secret_file"));
    let password = lower.find("passw");
    secrets.next().into_iter().chain(password).min()
}
