//! The engines that keep data on disk.

use std::fmt;
use std::str::FromStr;

/// Which engine keeps a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// sled 0.34 with guard-rails; the default.
    #[default]
    Sled,
    /// redb 4 with the same guard-rails.
    Redb,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: &'static [EngineKind] = &[EngineKind::Sled, EngineKind::Redb];

    /// Its name in configurations, logs and the file `FORMAT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }

    /// The name of its database inside a data directory.
    pub(crate) fn database_name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "records.redb",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let found = Self::ALL.iter().find(|engine| engine.name() == name);
        found.copied().ok_or(UnknownEngine)
    }
}

/// No engine has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such engine; known are sled and redb")]
pub struct UnknownEngine;
