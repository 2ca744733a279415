//! A cursor over one table of the file: typed values with their places, and a complaint about
//! every key that nobody knows.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::keys::{self, KEYS, SECTIONS};
use super::problem::{Fault, Place, Placed, Problems};
use super::suggest::nearest;
use super::tree::Choice;

/// One table of the file.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    path: &'static str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn top(table: &'a DeTable<'a>) -> Self {
        Self {
            path: "",
            table,
            span: 0..0,
        }
    }

    /// The place of the table's header, for what is missing in it.
    pub(super) fn place(&self) -> Place {
        self.at(self.span.clone(), "")
    }

    /// The place of a key, or of the header if it is absent.
    pub(super) fn place_of(&self, key: &str) -> Place {
        match self.table.get_key_value(key) {
            Some((name, _)) => self.at(name.span(), key),
            None => self.place(),
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str, problems: &mut Problems<'_>) -> Option<Placed<&'a str>> {
        let (value, place) = self.value(key)?;
        match value.as_str() {
            Some(text) => Some(Placed::new(text, place)),
            None => self.mistyped(key, "text in quotes", &format!("{key} = \"…\""), problems),
        }
    }

    /// A text that must be there and must not be empty.
    pub(super) fn name(&self, key: &str, problems: &mut Problems<'_>) -> Option<Placed<&'a str>> {
        if self.value(key).is_none() && !self.is_misspelled(key) {
            let hint = format!("add `{key} = \"…\"`");
            let message = format!("`{key}` is missing {}", keys::within(self.path));
            problems.error(&self.place(), Fault::new(message, hint));
        }
        let text = self.text(key, problems)?;
        if text.value.trim().is_empty() {
            let hint = format!("write `{key} = \"…\"` with a name in it");
            problems.error(&text.place, Fault::new(format!("`{key}` is empty"), hint));
            return None;
        }
        Some(text)
    }

    /// A text through its own parser.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
        problems: &mut Problems<'_>,
    ) -> Option<Placed<T>> {
        let text = self.text(key, problems)?;
        match parse(text.value) {
            Ok(value) => Some(Placed::new(value, text.place)),
            Err(fault) => {
                problems.error(&text.place, fault);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn switch(&self, key: &str, problems: &mut Problems<'_>) -> Option<Placed<bool>> {
        let (value, place) = self.value(key)?;
        match value.as_bool() {
            Some(on) => Some(Placed::new(on, place)),
            None => self.mistyped(key, "true or false", &format!("{key} = true"), problems),
        }
    }

    /// A whole number within the bounds that the table of keys states, put into `slot`.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        slot: &mut T,
        problems: &mut Problems<'_>,
    ) {
        if let Some(number) = self.optional_number(key, problems) {
            *slot = number;
        }
    }

    /// The same where nothing is a value too.
    pub(super) fn optional_number<T: TryFrom<u64>>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let (value, place) = self.value(key)?;
        let (min, max) = keys::bounds(self.path, key);
        let Some(integer) = value.as_integer() else {
            let example = format!("{key} = {min}");
            return self.mistyped(key, "a whole number", &example, problems);
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let message = format!("`{key}` is out of range");
            problems.error(
                &place,
                Fault::new(message, format!("{min} to {max} is possible")),
            );
        }
        number
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, problems: &mut Problems<'_>) -> Vec<Placed<&'a str>> {
        let Some((value, _)) = self.value(key) else {
            return Vec::new();
        };
        let example = format!("{key} = [\"…\", \"…\"]");
        let Some(array) = value.as_array() else {
            self.mistyped::<()>(key, "a list of texts", &example, problems);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for entry in array.iter() {
            let place = self.at(entry.span(), key);
            match entry.get_ref().as_str() {
                Some(text) => texts.push(Placed::new(text, place)),
                None => {
                    let message = format!(
                        "an entry of `{key}` should be text in quotes, this is {}",
                        type_name(entry.get_ref())
                    );
                    problems.error(&place, Fault::new(message, format!("write `{example}`")));
                }
            }
        }
        texts
    }

    /// The table below this one.
    pub(super) fn table(
        &self,
        path: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Section<'a>> {
        let key = leaf(path);
        let (value, _) = self.value(key)?;
        match value.as_table() {
            Some(table) => Some(Section {
                path,
                table,
                span: self.header_span(key),
            }),
            None => self.mistyped(key, "a table", &format!("[{path}]"), problems),
        }
    }

    /// The repeated table below this one; `None` if it is absent or has an entry of another type.
    pub(super) fn tables(
        &self,
        path: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<Section<'a>>> {
        let key = leaf(path);
        let (value, place) = self.value(key)?;
        let example = format!("[[{path}]]");
        let Some(array) = value.as_array() else {
            if has_table_below(path, value) {
                let message = format!("{example} is missing before the tables below it");
                let hint = format!("write `{example}` with its own keys first");
                problems.error(&place, Fault::new(message, hint));
                return None;
            }
            return self.mistyped(key, "a list of tables", &example, problems);
        };
        let array: &'a DeArray<'a> = array;
        let mut sections = Vec::new();
        for entry in array.iter() {
            let Some(table) = entry.get_ref().as_table() else {
                let found = type_name(entry.get_ref());
                let message = format!("an entry of `{key}` should be a table, this is {found}");
                let fault = Fault::new(message, format!("write `{example}`"));
                problems.error(&self.at(entry.span(), key), fault);
                continue;
            };
            sections.push(Section {
                path,
                table,
                span: entry.span(),
            });
        }
        (sections.len() == array.len()).then_some(sections)
    }

    /// Complains about every key that does not belong here.
    pub(super) fn reject_unknown(&self, problems: &mut Problems<'_>) {
        for name in self.table.keys() {
            if !self.is_known(name.get_ref()) {
                let message = format!(
                    "unknown key `{}` {}",
                    name.get_ref(),
                    keys::within(self.path)
                );
                let hint = self.unknown_hint(name.get_ref());
                problems.error(
                    &self.at(name.span(), name.get_ref()),
                    Fault::new(message, hint),
                );
            }
        }
    }

    /// Whether an unknown key of the table was probably meant to be this one, so that nobody need
    /// hear that it is missing.
    pub(super) fn is_misspelled(&self, key: &str) -> bool {
        let unknown = self
            .table
            .keys()
            .filter(|name| !self.is_known(name.get_ref()));
        let mut meant =
            unknown.filter_map(|name| nearest(name.get_ref(), keys::names_in(self.path)));
        meant.any(|known| known == key)
    }

    fn is_known(&self, name: &str) -> bool {
        keys::names_in(self.path).any(|known| known == name)
    }

    fn unknown_hint(&self, name: &str) -> String {
        // What holds for all stands before what one of several may say otherwise.
        let is_list = |path| {
            SECTIONS
                .iter()
                .any(|known| known.path == path && known.is_list)
        };
        let elsewhere = KEYS
            .iter()
            .filter(|key| key.name == name)
            .map(|key| key.section)
            .min_by_key(|section| is_list(*section));
        match elsewhere {
            Some("") => return format!("`{name}` stands at the top, before the first [table]"),
            Some(section) => return format!("`{name}` belongs {}", keys::within(section)),
            None => {}
        }
        if let Some(table) = SECTIONS.iter().find(|table| table.split().1 == name) {
            return format!("that table is written {}", table.header());
        }
        match nearest(name, keys::names_in(self.path)) {
            Some(known) => format!("did you mean `{known}`?"),
            None => {
                let known: Vec<&str> = keys::names_in(self.path).collect();
                format!("known here: {}", known.join(", "))
            }
        }
    }

    fn value(&self, key: &str) -> Option<(&'a DeValue<'a>, Place)> {
        let value = self.table.get(key)?;
        Some((value.get_ref(), self.at(value.span(), key)))
    }

    fn header_span(&self, key: &str) -> Range<usize> {
        self.table
            .get_key_value(key)
            .map_or(0..0, |(name, _)| name.span())
    }

    /// Complains about a value of the wrong type; the value itself is not repeated, it may be secret.
    fn mistyped<T>(
        &self,
        key: &str,
        wanted: &str,
        example: &str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let (value, place) = self.value(key)?;
        let message = format!("`{key}` should be {wanted}, this is {}", type_name(value));
        problems.error(&place, Fault::new(message, format!("write `{example}`")));
        None
    }

    /// The place of something that belongs to `key`. The excerpt is hidden where it could show a
    /// secret, also one that stands under a misspelled key.
    fn at(&self, span: Range<usize>, key: &str) -> Place {
        let may_show = match self.path {
            "realm.user" => matches!(key, "" | "authid" | "role" | "secret_file"),
            "bridge" => key != "password",
            _ => true,
        };
        let has_secrets = matches!(self.path, "realm.user" | "bridge");
        let is_known = || self.table.keys().all(|name| self.is_known(name.get_ref()));
        if has_secrets && !(may_show && is_known()) {
            Place::Hidden(span)
        } else {
            Place::File(span)
        }
    }
}

/// One of a few words.
///
/// # Errors
/// A [`Fault`] that names the words.
pub(super) fn parse_choice<T: Choice>(text: &str) -> Result<T, Fault> {
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let mut hint = format!("possible: {}", words.join(", "));
    if let Some(word) = nearest(text, words) {
        hint = format!("did you mean `{word}`? {hint}");
    }
    Err(Fault::new(format!("`{text}` is not known here"), hint))
}

/// Whether the value is a table only because a table below it has been opened.
fn has_table_below(path: &str, value: &DeValue<'_>) -> bool {
    let below = SECTIONS
        .iter()
        .map(|section| section.split())
        .filter(|(parent, _)| *parent == path);
    let mut names = below.map(|(_, name)| name);
    value
        .as_table()
        .is_some_and(|table| names.any(|name| table.contains_key(name)))
}

fn leaf(path: &'static str) -> &'static str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
