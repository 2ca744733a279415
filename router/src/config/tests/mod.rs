//! Tests of the configuration as a whole.

mod broken;
mod documents;
mod layering;
mod reports;
mod tree;

use std::path::Path;

use super::{BTreeMap, Config, ConfigError, FakeSources, Flags, Problem};

/// Reads `text` as the file `r.toml`, without variables and flags.
fn read(text: &str, sources: &FakeSources) -> Result<(Config, Vec<Problem>), ConfigError> {
    let file = Some((Path::new("r.toml"), text));
    super::assemble(file, &BTreeMap::new(), &Flags::default(), sources)
}

/// A configuration that must be fine.
fn good(text: &str) -> Config {
    match read(text, &FakeSources::default()) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}"),
    }
}
