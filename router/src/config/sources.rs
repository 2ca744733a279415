//! Where settings come from besides the command line: environment variables and files. Behind a
//! trait, so that tests need neither.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The environment and the file system, as far as configuration looks at them.
pub trait Sources {
    /// Every environment variable whose name is text and starts with `REYNARD_`, by name.
    fn variables(&self) -> BTreeMap<String, OsString>;

    /// The content of a file.
    ///
    /// # Errors
    /// What the file system says; `FileTooLarge` beyond `max_bytes`.
    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>>;
}

/// The prefix of our environment variables.
pub const VARIABLE_PREFIX: &str = "REYNARD_";

/// The real environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessSources;

impl Sources for ProcessSources {
    fn variables(&self) -> BTreeMap<String, OsString> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect()
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // Bounded while reading: a device or a pipe has no size to ask for beforehand.
        let mut file = File::open(path)?.take(max_bytes.saturating_add(1));
        file.read_to_end(&mut content)?;
        if content.len() as u64 > max_bytes {
            return Err(too_large(max_bytes));
        }
        Ok(content)
    }
}

fn too_large(max_bytes: u64) -> io::Error {
    let text = format!("more than {max_bytes} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Variables and files made up by a test.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FakeSources {
    variables: BTreeMap<String, OsString>,
    files: BTreeMap<std::path::PathBuf, Vec<u8>>,
}

#[cfg(test)]
impl FakeSources {
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }
}

#[cfg(test)]
impl Sources for FakeSources {
    fn variables(&self) -> BTreeMap<String, OsString> {
        self.variables.clone()
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let content = self.files.get(path);
        let content = content.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if content.len() as u64 > max_bytes {
            return Err(too_large(max_bytes));
        }
        Ok(content.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_bound() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        io::Write::write_all(&mut file, b"12345").expect("written");
        assert_eq!(ProcessSources.read(file.path(), 5).expect("read"), b"12345");
        let refused = ProcessSources.read(file.path(), 4).expect_err("too long");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        let missing = ProcessSources.read(Path::new("/nonexistent/reynard.toml"), 4);
        assert_eq!(
            missing.expect_err("missing").kind(),
            io::ErrorKind::NotFound
        );
    }
}
