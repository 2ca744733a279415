//! The two layers above the file: environment variables, then flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::address::parse_address;
use super::draft::{Draft, parse_directory};
use super::keys::VARIABLES;
use super::problem::{Fault, Location, Place, Placed, Problem, Problems};
use super::realm::parse_realm_name;
use super::section::parse_choice;
use super::sources::VARIABLE_PREFIX;
use super::suggest::nearest;
use super::tree::{Listener, ListenerKind};

/// What the command line says, unparsed; the default says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-c`, `--config`
    pub config: Option<PathBuf>,
    /// `--listen`, each use
    pub listen: Vec<String>,
    /// `--mqtt`: an address or `off`
    pub mqtt: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--memory`
    pub memory: bool,
    /// `--realm`
    pub realm: Option<String>,
    /// `--insecure`
    pub insecure: bool,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
}

/// The values of one layer above the file, still as text.
#[derive(Default)]
struct Layer {
    listen: Vec<Placed<String>>,
    mqtt: Option<Placed<String>>,
    data_dir: Option<Placed<PathBuf>>,
    memory: Option<Placed<bool>>,
    realm: Option<Placed<String>>,
    insecure: Option<Placed<bool>>,
    log_format: Option<Placed<String>>,
    log_level: Option<Placed<String>>,
}

/// Lays the environment over the draft. A variable that is empty counts as absent.
pub(super) fn apply_environment(
    variables: &BTreeMap<String, OsString>,
    draft: &mut Draft,
    problems: &mut Problems<'_>,
) {
    let mut reader = Variables {
        variables,
        problems,
    };
    let listen = reader.text("REYNARD_LISTEN");
    let layer = Layer {
        listen: listen.map(split_list).unwrap_or_default(),
        mqtt: reader.text("REYNARD_MQTT"),
        data_dir: reader.directory("REYNARD_DATA_DIR"),
        memory: reader.switch("REYNARD_MEMORY"),
        realm: reader.text("REYNARD_REALM"),
        insecure: reader.switch("REYNARD_INSECURE"),
        log_format: reader.text("REYNARD_LOG_FORMAT"),
        log_level: reader.text("REYNARD_LOG_LEVEL"),
    };
    warn_misspelled(variables, problems);
    apply(layer, draft, problems);
}

/// Lays the flags over the draft.
pub(super) fn apply_flags(flags: &Flags, draft: &mut Draft, problems: &mut Problems<'_>) {
    let text = |value: &Option<String>, flag| {
        value
            .clone()
            .map(|value| Placed::new(value, Place::Flag(flag)))
    };
    let switch = |on: bool, flag| on.then_some(Placed::new(true, Place::Flag(flag)));
    let listen = flags.listen.iter();
    let data_dir = flags.data_dir.clone();
    let layer = Layer {
        listen: listen
            .map(|text| Placed::new(text.clone(), Place::Flag("--listen")))
            .collect(),
        mqtt: text(&flags.mqtt, "--mqtt"),
        data_dir: data_dir.map(|path| Placed::new(path, Place::Flag("--data-dir"))),
        memory: switch(flags.memory, "--memory"),
        realm: text(&flags.realm, "--realm"),
        insecure: switch(flags.insecure, "--insecure"),
        log_format: text(&flags.log_format, "--log-format"),
        log_level: text(&flags.log_level, "--log-level"),
    };
    apply(layer, draft, problems);
}

fn apply(layer: Layer, draft: &mut Draft, problems: &mut Problems<'_>) {
    if !layer.listen.is_empty() {
        let universal = layer.listen.into_iter();
        let universal =
            universal.filter_map(|text| listener(ListenerKind::Universal, text, problems));
        let universal = universal.collect();
        draft.replace_listeners(ListenerKind::Universal, universal);
    }
    if let Some(mqtt) = layer.mqtt {
        let mqtt = match mqtt.value.as_str() {
            "off" => None,
            _ => listener(ListenerKind::Mqtt, mqtt, problems),
        };
        draft.replace_listeners(ListenerKind::Mqtt, mqtt.into_iter().collect());
    }
    let mut data_dir = layer.data_dir;
    if let Some(Placed { value, place }) = &data_dir
        && let Err(fault) = parse_directory(&value.to_string_lossy())
    {
        problems.error(place, fault);
        data_dir = None;
    }
    draft.set_store(data_dir, layer.memory, problems);
    if let Some(realm) = parsed(layer.realm, parse_realm_name, problems) {
        draft.default_realm = realm;
    }
    if let Some(insecure) = layer.insecure {
        draft.insecure = insecure.value;
    }
    if let Some(format) = parsed(layer.log_format, parse_choice, problems) {
        draft.log.format = format.value;
    }
    if let Some(level) = parsed(layer.log_level, parse_choice, problems) {
        draft.log.level = level.value;
    }
}

fn listener(
    kind: ListenerKind,
    text: Placed<String>,
    problems: &mut Problems<'_>,
) -> Option<Placed<Listener>> {
    let bind = parsed(Some(text), parse_address, problems)?;
    Some(Placed::new(Listener::new(kind, bind.value), bind.place))
}

fn parsed<T>(
    text: Option<Placed<String>>,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
    problems: &mut Problems<'_>,
) -> Option<Placed<T>> {
    let Placed { value, place } = text?;
    match parse(&value) {
        Ok(value) => Some(Placed::new(value, place)),
        Err(fault) => {
            problems.error(&place, fault);
            None
        }
    }
}

fn split_list(list: Placed<String>) -> Vec<Placed<String>> {
    let entries = list.value.split(',').map(str::trim);
    entries
        .map(|entry| Placed::new(entry.to_owned(), list.place.clone()))
        .collect()
}

struct Variables<'r, 'a> {
    variables: &'r BTreeMap<String, OsString>,
    problems: &'r mut Problems<'a>,
}

impl Variables<'_, '_> {
    fn raw(&self, name: &'static str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    fn text(&mut self, name: &'static str) -> Option<Placed<String>> {
        let value = self.raw(name)?.clone();
        match value.into_string() {
            Ok(text) => Some(Placed::new(text, Place::Variable(name))),
            Err(_) => {
                let fault = Fault::new("the value is not UTF-8", "write it as UTF-8 text");
                self.problems.error(&Place::Variable(name), fault);
                None
            }
        }
    }

    fn directory(&self, name: &'static str) -> Option<Placed<PathBuf>> {
        let value = self.raw(name)?;
        Some(Placed::new(PathBuf::from(value), Place::Variable(name)))
    }

    fn switch(&mut self, name: &'static str) -> Option<Placed<bool>> {
        let text = self.text(name)?;
        let value = match text.value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                let message = format!("`{}` is neither yes nor no", text.value);
                self.problems
                    .error(&text.place, Fault::new(message, "write `true` or `false`"));
                return None;
            }
        };
        Some(Placed::new(value, text.place))
    }
}

/// Warns of variables that look misspelled. Others that start like ours are left alone: container
/// platforms make up names such as `REYNARD_SERVICE_HOST`.
fn warn_misspelled(variables: &BTreeMap<String, OsString>, problems: &mut Problems<'_>) {
    for name in variables
        .keys()
        .filter(|name| !VARIABLES.contains(&name.as_str()))
    {
        // The prefix would make everything look alike.
        let Some(given) = name.strip_prefix(VARIABLE_PREFIX) else {
            continue;
        };
        let known = VARIABLES
            .iter()
            .filter_map(|name| name.strip_prefix(VARIABLE_PREFIX));
        if let Some(known) = nearest(given, known) {
            let hint = format!("did you mean `{VARIABLE_PREFIX}{known}`?");
            let fault = Fault::new("the variable is not known and ignored", hint);
            problems.warn(Problem::whole(Location::Variable(name.clone()), fault));
        }
    }
}
