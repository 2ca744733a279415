//! Files as a disk has them: what is on it for certain, and what is on its way.
//!
//! Data are certain after a sync of their file, names after one of their directory. Until then each write and each
//! change of a name arrives or does not, independent of all others: more freedom than file systems that keep a journal
//! take.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::reading::Call;
use crate::testing::disk::{set_length, write};

/// What a disk holds after a cut: the content of each file by its path; `None` is a directory.
pub(super) type Image = BTreeMap<String, Option<Vec<u8>>>;

/// The directory that is watched, always number 0.
const ROOT: usize = 0;

#[derive(Default)]
pub(super) struct Files {
    root: String,
    nodes: Vec<Node>,
    open: HashMap<i64, Open>,
    /// Thread -> what it is writing.
    writing: HashMap<String, (usize, u64)>,
    /// Thread -> what its sync will have made certain.
    syncing: HashMap<String, (usize, Vec<u64>)>,
    next: u64,
}

#[derive(Default)]
struct Node {
    /// Names now; only directories have any.
    names: BTreeMap<String, usize>,
    is_directory: bool,
    length: u64,
    sure_names: BTreeMap<String, usize>,
    sure_bytes: Vec<u8>,
    pending: Vec<Pending>,
}

struct Pending {
    id: u64,
    /// The call that made it has returned.
    is_done: bool,
    change: Change,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(u64, Arc<Vec<u8>>),
    Length(u64),
    Name(String, usize),
    NoName(String),
    Rename(String, String, usize),
}

#[derive(Clone, Copy)]
struct Open {
    node: usize,
    at: u64,
    appends: bool,
}

/// Decides what has arrived.
pub(super) trait Fate {
    /// The changes to carry out of those that are on their way to one file or directory, oldest first.
    fn arrived(&mut self, pending: &[&Change]) -> Vec<Change>;
}

impl Files {
    /// An empty directory of that name.
    pub fn new(root: &str) -> Self {
        let mut files = Self {
            root: root.to_owned(),
            ..Self::default()
        };
        files.add(true);
        files
    }

    fn add(&mut self, is_directory: bool) -> usize {
        self.nodes.push(Node {
            is_directory,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    /// A process is gone, and its descriptors with it.
    pub fn forget_descriptors(&mut self) {
        self.open.clear();
        self.writing.clear();
        self.syncing.clear();
    }

    /// Carries out a call; answers whether that may have changed anything.
    ///
    /// # Errors
    /// If it concerns the directory and is not understood.
    pub fn told(&mut self, call: &Call) -> Result<bool, String> {
        match (&*call.name, call.result) {
            ("close", None) => {
                self.open.remove(&call.number(0)?);
                Ok(false)
            }
            ("write" | "pwrite64", None) => self.writes(call),
            ("fsync" | "fdatasync", None) => self.begin_sync(call),
            ("fsync" | "fdatasync", Some(_)) => Ok(self.end_sync(call)),
            (_, None) => Ok(false),
            (_, Some(result)) if result < 0 => match self.writing.contains_key(&call.thread) {
                true => Err(format!("a write failed: {}", call.path_of(0))),
                false => Ok(false),
            },
            ("close" | "sync_file_range" | "fcntl", _) => Ok(false),
            ("write" | "pwrite64", Some(result)) => self.has_written(call, result),
            ("openat", Some(fd)) => self.opened(call, fd),
            ("read", Some(bytes)) => self.moved(call, |at| at + bytes.unsigned_abs()),
            ("lseek", Some(at)) => self.moved(call, |_| at.unsigned_abs()),
            ("ftruncate", _) => self.truncated(call),
            ("mkdir" | "rename" | "unlink", _) => self.named(call),
            _ if self.concerns(call) => Err(format!("a call that is not understood: {call:?}")),
            _ => Ok(false),
        }
    }

    fn concerns(&self, call: &Call) -> bool {
        let below = |path: String| path.starts_with(&self.root);
        (0..call.args.len()).any(|at| below(call.path_of(at)) || call.path(at).is_ok_and(below))
    }

    /// The file that the first argument is, if it is one of ours.
    fn file(&mut self, call: &Call) -> Result<Option<&mut Open>, String> {
        let (fd, path) = (call.number(0)?, call.path_of(0));
        if !self.open.contains_key(&fd) && path.starts_with(&self.root) {
            return Err(format!("{path} was not seen opened: {:.80}", call.name));
        }
        Ok(self.open.get_mut(&fd))
    }

    fn change(&mut self, node: usize, change: Change, is_done: bool) -> u64 {
        self.next += 1;
        let id = self.next;
        if let Some(node) = self.nodes.get_mut(node) {
            node.pending.push(Pending {
                id,
                is_done,
                change,
            });
        }
        id
    }

    fn writes(&mut self, call: &Call) -> Result<bool, String> {
        let Some(open) = self.file(call)?.copied() else {
            return Ok(false);
        };
        let bytes = call.bytes(1)?;
        let length = self.nodes.get(open.node).map_or(0, |node| node.length);
        let at = match &*call.name {
            "pwrite64" => call.number(3)?.unsigned_abs(),
            _ if open.appends => length,
            _ => open.at,
        };
        let end = at + bytes.len() as u64;
        if let Some(node) = self.nodes.get_mut(open.node) {
            node.length = length.max(end);
        }
        let id = self.change(open.node, Change::Write(at, Arc::new(bytes)), false);
        self.writing.insert(call.thread.clone(), (open.node, id));
        if let Some(open) = self.file(call)?.filter(|_| call.name == "write") {
            open.at = end;
        }
        Ok(true)
    }

    fn has_written(&mut self, call: &Call, result: i64) -> Result<bool, String> {
        let Some((node, id)) = self.writing.remove(&call.thread) else {
            return Ok(false);
        };
        if call.bytes(1)?.len() as i64 != result {
            return Err(format!("a short write: {result}"));
        }
        let pending = self.nodes.get_mut(node).map(|node| &mut node.pending);
        if let Some(one) = pending.into_iter().flatten().find(|one| one.id == id) {
            one.is_done = true;
        }
        Ok(false)
    }

    fn begin_sync(&mut self, call: &Call) -> Result<bool, String> {
        let Some(node) = self.file(call)?.map(|open| open.node) else {
            return Ok(false);
        };
        let pending = self.nodes.get(node).map(|node| &node.pending);
        let done = pending.into_iter().flatten().filter(|one| one.is_done);
        let ids = done.map(|one| one.id).collect();
        self.syncing.insert(call.thread.clone(), (node, ids));
        Ok(false)
    }

    fn end_sync(&mut self, call: &Call) -> bool {
        let Some((node, ids)) = self.syncing.remove(&call.thread) else {
            return false;
        };
        let Some(node) = self.nodes.get_mut(node) else {
            return false;
        };
        let (sure, left) = std::mem::take(&mut node.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|one| ids.contains(&one.id));
        for one in sure {
            one.change
                .carry_out(&mut node.sure_bytes, &mut node.sure_names);
        }
        node.pending = left;
        true
    }

    fn opened(&mut self, call: &Call, fd: i64) -> Result<bool, String> {
        let path = call.path(1)?;
        let flags = call.text(2)?.to_owned();
        let has = |flag: &str| flags.split('|').any(|one| one == flag);
        let Some(inner) = self.inner(&path) else {
            return Ok(false);
        };
        let known = self.find(&inner);
        let node = match known {
            Some(node) => node,
            None if has("O_CREAT") => self.create(&inner, false)?,
            None => return Err(format!("{path} was not seen created")),
        };
        let truncates = has("O_TRUNC") && self.nodes.get(node).is_some_and(|node| node.length > 0);
        if truncates {
            self.set_length(node, 0);
        }
        let open = Open {
            node,
            at: 0,
            appends: has("O_APPEND"),
        };
        self.open.insert(fd, open);
        Ok(known.is_none() || truncates)
    }

    fn set_length(&mut self, node: usize, length: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.length = length;
        }
        self.change(node, Change::Length(length), true);
    }

    fn moved(&mut self, call: &Call, to: impl Fn(u64) -> u64) -> Result<bool, String> {
        if let Some(open) = self.file(call)? {
            open.at = to(open.at);
        }
        Ok(false)
    }

    fn truncated(&mut self, call: &Call) -> Result<bool, String> {
        let Some(node) = self.file(call)?.map(|open| open.node) else {
            return Ok(false);
        };
        self.set_length(node, call.number(1)?.unsigned_abs());
        Ok(true)
    }

    fn named(&mut self, call: &Call) -> Result<bool, String> {
        let Some(path) = self.inner(&call.path(0)?) else {
            return Ok(false);
        };
        match &*call.name {
            "mkdir" if path.is_empty() => {}
            "mkdir" => drop(self.create(&path, true)?),
            "unlink" => self.unlink(&path)?,
            _ => {
                let to = self.inner(&call.path(1)?).ok_or("renamed to elsewhere")?;
                self.rename(&path, &to)?;
            }
        }
        Ok(true)
    }

    /// The path within the directory.
    fn inner(&self, path: &str) -> Option<String> {
        let inner = path.strip_prefix(&self.root)?;
        Some(inner.trim_start_matches('/').to_owned())
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |at, name| {
            self.nodes.get(at)?.names.get(name).copied()
        })
    }

    fn parent(&self, path: &str) -> Result<(usize, String), String> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self
            .find(dir)
            .ok_or_else(|| format!("no directory for {path}"))?;
        Ok((dir, name.to_owned()))
    }

    fn create(&mut self, path: &str, is_directory: bool) -> Result<usize, String> {
        let (dir, name) = self.parent(path)?;
        let node = self.add(is_directory);
        self.set_name(dir, &name, Some(node));
        self.change(dir, Change::Name(name, node), true);
        Ok(node)
    }

    fn set_name(&mut self, dir: usize, name: &str, node: Option<usize>) {
        let Some(dir) = self.nodes.get_mut(dir) else {
            return;
        };
        match node {
            Some(node) => drop(dir.names.insert(name.to_owned(), node)),
            None => drop(dir.names.remove(name)),
        }
    }

    fn unlink(&mut self, path: &str) -> Result<(), String> {
        let (dir, name) = self.parent(path)?;
        self.set_name(dir, &name, None);
        self.change(dir, Change::NoName(name), true);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), String> {
        let node = self
            .find(from)
            .ok_or_else(|| format!("no {from} to rename"))?;
        let ((dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        if dir != to_dir {
            return Err(format!("{from} is renamed to another directory"));
        }
        self.set_name(dir, &from, None);
        self.set_name(dir, &to, Some(node));
        self.change(dir, Change::Rename(from, to, node), true);
        Ok(())
    }

    /// What is there after a power cut now.
    pub fn after_cut(&self, fate: &mut dyn Fate) -> Image {
        let mut image = Image::new();
        self.leave(ROOT, "", fate, &mut image);
        image
    }

    fn leave(&self, node: usize, path: &str, fate: &mut dyn Fate, image: &mut Image) {
        let Some(node) = self.nodes.get(node) else {
            return;
        };
        let pending: Vec<&Change> = node.pending.iter().map(|one| &one.change).collect();
        let (mut bytes, mut names) = (node.sure_bytes.clone(), node.sure_names.clone());
        for change in fate.arrived(&pending) {
            change.carry_out(&mut bytes, &mut names);
        }
        image.insert(path.to_owned(), (!node.is_directory).then_some(bytes));
        for (name, child) in names {
            let path = format!("{path}/{name}");
            self.leave(child, path.trim_start_matches('/'), fate, image);
        }
    }
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Write(at, data) => write(bytes, *at, data),
            Self::Length(length) => set_length(bytes, *length),
            Self::Name(name, node) => drop(names.insert(name.clone(), *node)),
            Self::NoName(name) => drop(names.remove(name)),
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}
