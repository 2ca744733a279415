//! What is known of bridges across restarts: the router's id, and the filters that sessions may
//! still have on either side, so that what left the configuration is cleared away.
//!
//! A small JSON file in the data directory, replaced as a whole. Only the process that has the data
//! directory open touches it. Without it nothing is lost but this knowledge.

use super::spec::Spec;
use bytestring::ByteString;
use rand::TryRng as _;
use rand::rngs::SysRng;
use router_core::runtime::now;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

const FILE: &str = "bridges.json";
const UNFINISHED: &str = "bridges.json.new";

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    router_id: Option<String>,
    #[serde(default)]
    bridges: BTreeMap<String, Former>,
}

/// What sessions of one bridge may hold.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Former {
    realm: String,
    /// Filters of the session on this side.
    #[serde(default)]
    local: BTreeSet<String>,
    /// Filters of the session at the peer.
    #[serde(default)]
    remote: BTreeSet<String>,
}

impl Known {
    /// What is stored; nothing without a directory.
    pub(super) fn read(directory: Option<&Path>) -> Known {
        let Some(path) = directory.map(|directory| directory.join(FILE)) else {
            return Known::default();
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Known::default(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read what is known of bridges");
                return Known::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "what is known of bridges is damaged and made anew");
            Known::default()
        })
    }

    /// Stores it.
    pub(super) fn write(&self, directory: Option<&Path>) {
        let Some(directory) = directory else { return };
        if let Err(error) = self.try_write(directory) {
            tracing::error!(path = %directory.join(FILE).display(), %error, "cannot store what is known of bridges");
        }
    }

    fn try_write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let unfinished = directory.join(UNFINISHED);
        let mut file = private_file().open(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, directory.join(FILE))?;
        File::open(directory)?.sync_all()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bridges.is_empty()
    }

    /// The router's id, made at random the first time.
    pub(super) fn router_id(&mut self) -> String {
        let make = || {
            let random = SysRng.try_next_u64().unwrap_or_else(|_| now().unix_ms);
            format!("{random:016x}")
        };
        self.router_id.get_or_insert_with(make).clone()
    }

    /// Adds what the bridges of the configuration have; answers names and realms of sessions that
    /// nobody uses any more.
    pub(super) fn note_all(&mut self, specs: &[Spec]) -> Vec<(String, ByteString)> {
        let mut gone = Vec::new();
        for (name, former) in &mut self.bridges {
            let spec = specs.iter().find(|spec| spec.name == *name);
            if spec.is_none_or(|spec| *spec.realm != *former.realm) {
                gone.push((name.clone(), former.realm.as_str().into()));
                former.local.clear();
            }
        }
        for spec in specs {
            let former = self.bridges.entry(spec.name.clone()).or_default();
            former.realm = spec.realm.to_string();
            let rules = &spec.options.rules;
            let text = |(filter, _): (ByteString, _)| filter.to_string();
            former
                .local
                .extend(rules.local_filters().into_iter().map(text));
            former
                .remote
                .extend(rules.remote_filters().into_iter().map(text));
        }
        gone
    }

    /// Forgets bridges that are configured no more; their sessions here have ended.
    pub(super) fn forget_bridges(&mut self, specs: &[Spec]) {
        self.bridges
            .retain(|name, _| specs.iter().any(|spec| spec.name == *name));
    }

    /// Filters of the session on this side that no rule has any more.
    pub(super) fn former_local(&mut self, spec: &Spec) -> Vec<ByteString> {
        let wanted = spec.options.rules.local_filters();
        let Some(former) = self.bridges.get_mut(&spec.name) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        former.local.retain(|filter| {
            let is_wanted = wanted.iter().any(|(known, _)| **known == **filter);
            if !is_wanted {
                gone.push(ByteString::from(filter.as_str()));
            }
            is_wanted
        });
        gone
    }

    /// Filters that the peer may still have and no rule any more. They stay known: nobody tells
    /// whether the peer was reached before the next restart.
    pub(super) fn former_remote(&self, spec: &Spec) -> Vec<ByteString> {
        let wanted = spec.options.rules.remote_filters();
        let former = self.bridges.get(&spec.name);
        former
            .into_iter()
            .flat_map(|former| &former.remote)
            .filter(|filter| !wanted.iter().any(|(known, _)| **known == ***filter))
            .map(|filter| ByteString::from(filter.as_str()))
            .take(FORMER_MAX)
            .collect()
    }
}

/// Former filters at the peer that are unsubscribed at a connection.
const FORMER_MAX: usize = 256;

#[cfg(unix)]
fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    options
}
