//! The configuration: one typed tree ([`Config`]), put together once from four layers. Flags win
//! over environment variables, these over the file, this over the defaults.
//!
//! ```text
//! file.rs (realm.rs, section.rs)  ─┐
//! layers.rs (variables, flags)    ─┴─> draft.rs ──check.rs──> tree.rs
//! ```
//!
//! Unknown keys are refused. All problems of a configuration are reported together, each with its
//! place and a hint (`problem.rs`); only a syntax error hides what follows it. `keys.rs` is the
//! list of all keys, from which the documentation is made.

mod address;
mod bridge;
mod check;
mod draft;
mod file;
pub mod keys;
mod layers;
mod problem;
mod realm;
mod rule;
mod secret;
mod section;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use draft::Draft;
use problem::{Fault, Place, Problems};

pub use address::Address;
pub use bridge::{Bridge, BridgeVersion};
pub use layers::Flags;
pub use problem::{ConfigError, Location, Problem};
pub(crate) use rule::notation;
pub use rule::{Action, Notation, Rule};
pub use secret::Secret;
#[cfg(test)]
pub(crate) use sources::FakeSources;
pub use sources::{ProcessSources, Sources, VARIABLE_PREFIX};
pub use tree::{
    Anonymous, Choice, Config, DataStore, HistoryTopic, Limits, Listener, ListenerKind,
    ListenerLimits, Log, LogFormat, LogLevel, Mqtt, Realm, Remembered, RequestIds, Role,
    SharedGroup, UriGrammar, User,
};

/// The file that documents every key with its default; read, it yields [`Config::default`].
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// The file that is read if nobody names one.
pub const DEFAULT_FILE: &str = "reynard.toml";

/// The largest configuration file.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// A configuration that can be used, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// What is legal but should be looked at; write it to the log.
    pub warnings: Vec<Problem>,
}

/// Puts the configuration together: `flags` over the environment over the file (`--config`, else
/// `REYNARD_CONFIG`, else `./reynard.toml` if it exists) over the defaults.
///
/// # Errors
/// Every problem found; the program then exits with code 2.
pub fn load(flags: &Flags, sources: &dyn Sources) -> Result<Loaded, ConfigError> {
    let variables = sources.variables();
    let named = flags.config.clone().or_else(|| {
        let variable = variables
            .get("REYNARD_CONFIG")
            .filter(|value| !value.is_empty());
        variable.map(PathBuf::from)
    });
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let content = match sources.read(&path, FILE_MAX_BYTES) {
        Ok(content) => Some(content),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let Some(content) = content else {
        let (config, warnings) = assemble(None, &variables, flags, sources)?;
        return Ok(Loaded {
            config,
            file: None,
            warnings,
        });
    };
    let text = decode(&path, content)?;
    let (config, warnings) = assemble(Some((&path, &text)), &variables, flags, sources)?;
    Ok(Loaded {
        config,
        file: Some(path),
        warnings,
    })
}

impl Config {
    /// Reads a configuration from TOML alone, without environment and flags. `path` is used in
    /// messages, and relative secret files start at its directory.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file = Some((path, text));
        let read = assemble(file, &BTreeMap::new(), &Flags::default(), &ProcessSources);
        read.map(|(config, _)| config)
    }
}

fn assemble(
    file: Option<(&Path, &str)>,
    variables: &BTreeMap<String, OsString>,
    flags: &Flags,
    sources: &dyn Sources,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let (path, text) = file.unwrap_or((Path::new(""), ""));
    let name = path.to_string_lossy();
    let mut problems = Problems::new(&name, text);
    let mut draft = Draft::default();
    if file.is_some() {
        let directory = path.parent().unwrap_or(Path::new(""));
        file::read_file(text, directory, sources, &mut draft, &mut problems);
    }
    layers::apply_environment(variables, &mut draft, &mut problems);
    layers::apply_flags(flags, &mut draft, &mut problems);
    check::check(&draft, &mut problems);
    let warnings = problems.finish()?;
    Ok((draft.into_config(), warnings))
}

fn decode(path: &Path, content: Vec<u8>) -> Result<String, ConfigError> {
    String::from_utf8(content).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let name = path.to_string_lossy();
        let text = String::from_utf8_lossy(error.as_bytes());
        let fault = Fault::new("the file is not UTF-8", "save it as UTF-8 text");
        // Up to the first bad byte the lossy text is the file itself, so the offset holds.
        Problems::only(&name, &text, &Place::File(at..at), fault)
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let hint = "name a readable file with `-c FILE`, or leave it out to run with the defaults";
    let fault = Fault::new(format!("the configuration cannot be read: {error}"), hint);
    let problem = Problem::whole(Location::File(path.to_owned()), fault);
    ConfigError {
        problems: vec![problem],
    }
}
