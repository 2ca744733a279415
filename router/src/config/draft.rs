//! The configuration while its layers are laid over each other: values with the places they came
//! from, so that a check over the whole can point at the layer that is to blame.

use std::path::PathBuf;

use storage::EngineKind;

use super::bridge::Bridge;
use super::problem::{Fault, Place, Placed, Problems};
use super::tree::{Config, DataStore, Limits, Listener, ListenerKind, Log, Mqtt, Realm};

/// A configuration in the making.
#[derive(Debug)]
pub(super) struct Draft {
    data_dir: PathBuf,
    is_memory: bool,
    pub(super) storage_engine: EngineKind,
    pub(super) default_realm: Placed<String>,
    pub(super) auto_realms: Placed<bool>,
    pub(super) insecure: bool,
    pub(super) worker_threads: Option<u16>,
    pub(super) listeners: Vec<Placed<Listener>>,
    pub(super) realms: Vec<Placed<Realm>>,
    pub(super) bridge_id: Option<String>,
    pub(super) bridges: Vec<Placed<Bridge>>,
    pub(super) mqtt: Mqtt,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) outbox_place: Place,
    pub(super) max_realms_place: Place,
    pub(super) silence_place: Place,
}

impl Default for Draft {
    fn default() -> Self {
        let Config {
            data: _,
            storage_engine,
            default_realm,
            auto_realms,
            insecure,
            worker_threads,
            listeners,
            realms,
            bridge_id,
            bridges,
            mqtt,
            limits,
            log,
        } = Config::default();
        Self {
            data_dir: default_directory(),
            is_memory: false,
            storage_engine,
            default_realm: defaulted(default_realm),
            auto_realms: defaulted(auto_realms),
            insecure,
            worker_threads,
            listeners: listeners.into_iter().map(defaulted).collect(),
            realms: realms.into_iter().map(defaulted).collect(),
            bridge_id,
            bridges: bridges.into_iter().map(defaulted).collect(),
            mqtt,
            limits,
            log,
            outbox_place: Place::Default,
            max_realms_place: Place::Default,
            silence_place: Place::Default,
        }
    }
}

impl Draft {
    /// Lays one layer's choice of store over what is below it: naming a directory there means
    /// files, whatever a lower layer said.
    pub(super) fn set_store(
        &mut self,
        directory: Option<Placed<PathBuf>>,
        memory: Option<Placed<bool>>,
        problems: &mut Problems<'_>,
    ) {
        if let (Some(_), Some(Placed { value: true, place })) = (&directory, &memory) {
            let hint = "keep `data_dir` to store on disk, or `memory = true` to store nothing";
            let fault = Fault::new("a data directory and memory exclude each other", hint);
            problems.error(place, fault);
        }
        if let Some(directory) = directory {
            self.data_dir = directory.value;
            self.is_memory = false;
        }
        if let Some(memory) = memory {
            self.is_memory = memory.value;
        }
    }

    /// Replaces every listener of a kind, keeping the order of kinds.
    pub(super) fn replace_listeners(&mut self, kind: ListenerKind, by: Vec<Placed<Listener>>) {
        self.listeners
            .retain(|listener| listener.value.kind != kind);
        match kind {
            ListenerKind::Universal => drop(self.listeners.splice(0..0, by)),
            ListenerKind::Mqtt => self.listeners.extend(by),
        }
    }

    /// The configuration, places forgotten.
    pub(super) fn into_config(self) -> Config {
        let data = match self.is_memory {
            true => DataStore::Memory,
            false => DataStore::Directory(self.data_dir),
        };
        Config {
            data,
            storage_engine: self.storage_engine,
            default_realm: self.default_realm.value,
            auto_realms: self.auto_realms.value,
            insecure: self.insecure,
            worker_threads: self.worker_threads,
            listeners: self
                .listeners
                .into_iter()
                .map(|listener| listener.value)
                .collect(),
            realms: self.realms.into_iter().map(|realm| realm.value).collect(),
            bridge_id: self.bridge_id,
            bridges: self
                .bridges
                .into_iter()
                .map(|bridge| bridge.value)
                .collect(),
            mqtt: self.mqtt,
            limits: self.limits,
            log: self.log,
        }
    }
}

fn defaulted<T>(value: T) -> Placed<T> {
    Placed::new(value, Place::Default)
}

fn default_directory() -> PathBuf {
    match DataStore::default() {
        DataStore::Directory(path) => path,
        DataStore::Memory => PathBuf::new(),
    }
}

/// A directory name.
///
/// # Errors
/// If it is empty.
pub(super) fn parse_directory(text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() {
        let hint = "name a directory, or write `memory = true` to keep nothing";
        return Err(Fault::new("the data directory is empty", hint));
    }
    Ok(PathBuf::from(text))
}
