//! `reynard kv export` and `import`: keys and values as JSON lines.

use super::Import;
use super::list::{Pages, Row};
use crate::cli::ask::Ask;
use crate::cli::console::{Console, progress_bar};
use crate::cli::failure::{EXIT_CONDITION, EXIT_FAILED, Failure};
use indicatif::ProgressBar;
use router_client::{Arguments, ClientError, Reply, Session};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

const PUT: &str = "fox.kv.put";
const CAS: &str = "fox.kv.cas";

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Lines that were read and not asked for.
const LINES_AHEAD: usize = 64;

#[derive(Deserialize, Serialize)]
struct Record {
    key: String,
    value: Box<RawValue>,
}

/// `export`
pub(super) async fn export(
    session: &Session,
    prefix: &str,
    output: Option<&Path>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let bar = progress_bar(None);
    let Some(path) = output else {
        let written = write_all(session, prefix, &bar, &mut |lines| console.write(lines)).await;
        bar.finish_and_clear();
        return tell_left_out(written?, console);
    };
    let at = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let partial = partial(path);
    let mut file = File::create(&partial).map_err(at)?;
    let written = write_all(session, prefix, &bar, &mut |lines| file.write_all(lines)).await;
    bar.finish_and_clear();
    let kept = written.and_then(|counts| {
        file.sync_all().map_err(at)?;
        fs::rename(&partial, path).map_err(at)?;
        Ok(counts)
    });
    if kept.is_err() {
        // Half an export is none; it may be gone already.
        let _ = fs::remove_file(&partial);
    }
    let counts = kept?;
    let text = format!("exported {}", counts.written);
    console.result(
        &text,
        &json!({"exported": counts.written, "left_out": counts.left_out}),
    )?;
    tell_left_out(counts, console)
}

/// The file beside `path` that becomes it.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[derive(Clone, Copy, Default)]
struct Exported {
    written: u64,
    left_out: u64,
}

async fn write_all(
    session: &Session,
    prefix: &str,
    bar: &ProgressBar,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Exported, Failure> {
    let mut counts = Exported::default();
    let mut pages = Pages::new(session, prefix, true);
    while let Some(rows) = pages.next(u64::MAX).await? {
        let mut lines = Vec::new();
        for row in rows {
            // It would outlive the session that it belongs to: a lock that nobody can release.
            let Some(row) = Some(row).filter(|row| row.owner.is_none()) else {
                counts.left_out += 1;
                continue;
            };
            let Row { key, value, .. } = row;
            if let Some(value) = value {
                let record = Record { key, value };
                serde_json::to_writer(&mut lines, &record).map_err(io::Error::from)?;
                lines.push(b'\n');
                counts.written += 1;
            }
        }
        write(&lines)?;
        bar.set_message(format!("{} keys", counts.written));
        bar.tick();
    }
    Ok(counts)
}

fn tell_left_out(counts: Exported, console: &mut Console<'_>) -> Result<(), Failure> {
    if counts.left_out > 0 {
        let text = format!(
            "{} keys that belong to sessions are left out",
            counts.left_out
        );
        console.aside(&text, &json!({"left_out": counts.left_out}));
    }
    Ok(())
}

/// `import`
pub(super) async fn import(
    session: &Session,
    args: &Import,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let (source, length) = open(&args.file)?;
    let bar = progress_bar(length);
    let mut importing = Importing {
        session,
        replace: args.replace,
        in_flight: usize::from(args.in_flight),
        waiting: VecDeque::new(),
        imported: 0,
        kept: 0,
    };
    let ended = importing.all(lines(source), &bar).await;
    bar.finish_and_clear();
    let (imported, kept) = (importing.imported, importing.kept);
    if let Err(failure) = ended {
        let mut failure = failure;
        failure.message = format!("{}; {imported} imported before", failure.message);
        failure
            .details
            .insert("imported".to_owned(), imported.into());
        failure.details.insert("kept".to_owned(), kept.into());
        return Err(failure);
    }
    let text = format!("imported {imported}, left alone {kept}");
    Ok(console.result(&text, &json!({"imported": imported, "kept": kept}))?)
}

/// A file, and how long it is if that is known.
fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let at = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(at)?;
    let metadata = file.metadata().map_err(at)?;
    let length = Some(metadata.len()).filter(|_| metadata.is_file());
    Ok((Box::new(BufReader::new(file)), length))
}

/// Reads lines in a thread of its own: a pipe that brings none must not hold up the session.
fn lines(mut source: Box<dyn BufRead + Send>) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (to, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            let read = (&mut source)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(read) if read as u64 == LINE_BYTES_MAX => {
                    Err(io::Error::other("a line of more than 64 MiB"))
                }
                Ok(_) => Ok(line),
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if to.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

struct Importing<'a> {
    session: &'a Session,
    replace: bool,
    in_flight: usize,
    /// Requests without an answer, in their order: line number, key, answer to come.
    waiting: VecDeque<(u64, String, Reply<Arguments>)>,
    imported: u64,
    kept: u64,
}

impl Importing<'_> {
    async fn all(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Vec<u8>>>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut failed = None;
        let mut number = 0;
        while let Some(line) = lines.recv().await {
            number += 1;
            if let Err(failure) = self.line(number, line, bar).await {
                failed = Some(failure);
                break;
            }
        }
        // What is on its way is counted, whatever went wrong; the first failure is the one told.
        while !self.waiting.is_empty() {
            if let Err(failure) = self.oldest().await {
                failed.get_or_insert(failure);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn line(
        &mut self,
        number: u64,
        line: io::Result<Vec<u8>>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let at = |error: &dyn std::fmt::Display| Failure::failed(format!("line {number}: {error}"));
        let line = line.map_err(|error| at(&error))?;
        bar.inc(line.len() as u64);
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let record: Record = serde_json::from_slice(&line).map_err(|error| at(&error))?;
        if record.value.get() == "null" {
            return Err(at(&"null is no value: it would delete the key"));
        }
        if self.waiting.len() >= self.in_flight {
            self.oldest().await?;
        }
        let reply = self.store(&record).await?;
        self.waiting.push_back((number, record.key, reply));
        bar.set_message(format!("{} keys", self.imported));
        Ok(())
    }

    async fn store(&self, record: &Record) -> Result<Reply<Arguments>, Failure> {
        let ask = if self.replace {
            Ask::new(PUT).arg(record.key.as_str())
        } else {
            Ask::new(CAS).arg(record.key.as_str()).arg(0)
        };
        let value = record.value.get().to_owned();
        ask.json(value).send(self.session).await
    }

    /// Waits for the oldest answer.
    async fn oldest(&mut self) -> Result<(), Failure> {
        let Some((number, key, reply)) = self.waiting.pop_front() else {
            return Ok(());
        };
        match reply.wait().await.map_err(told) {
            Ok(_) => self.imported += 1,
            Err(failure) if failure.code == EXIT_CONDITION && !self.replace => self.kept += 1,
            Err(mut failure) => {
                // The import as a whole has failed, not a condition that somebody set.
                failure.code = EXIT_FAILED;
                return Err(failure.about(&format!("line {number}: {key}")));
            }
        }
        Ok(())
    }
}

fn told(error: ClientError) -> Failure {
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::against;
    use protocols::wamp::message::Message;
    use router_client::Dict;
    use router_client::testing::Router;

    fn import_of(text: &str, replace: bool, in_flight: u16) -> (tempfile::NamedTempFile, Import) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        let import = Import {
            file: file.path().to_owned(),
            only_new: false,
            replace,
            in_flight,
        };
        (file, import)
    }

    #[tokio::test]
    async fn an_export_leaves_out_what_belongs_to_sessions() {
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.list").await;
            let keys = json!([
                {"key": "a", "value": {"z": 1, "b": 2}, "token": 1, "owner": null},
                {"key": "lock", "value": true, "token": 2, "owner": 77},
            ]);
            let page = json!({"keys": keys, "more": false});
            router.answer(call.request, &[page]).await;
            router
        };
        let ended = against(false, script, async |session, console| {
            export(&session, "", None, console).await
        });
        let ended = ended.await;
        assert_eq!(ended.out, "{\"key\":\"a\",\"value\":{\"b\":2,\"z\":1}}\n");
        assert!(ended.err.contains("1 keys that belong"), "{}", ended.err);
    }

    #[tokio::test]
    async fn a_failed_export_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("all.jsonl");
        fs::write(&path, "before").expect("written");
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.list").await;
            let error = "wamp.error.not_authorized";
            router.fail(call.request, error, &[], &Dict::new()).await;
            router
        };
        let ended = against(false, script, async |session, console| {
            export(&session, "", Some(&path), console).await
        });
        assert_eq!(ended.await.code, 1);
        assert_eq!(fs::read_to_string(&path).expect("there"), "before");
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "something was left behind");
    }

    #[tokio::test]
    async fn no_more_requests_are_in_flight_than_allowed() {
        let text: String = (0..10)
            .map(|n| format!("{{\"key\":\"k{n}\",\"value\":{n}}}\n"))
            .collect();
        let (_file, args) = import_of(&text, true, 3);
        let script = async |mut router: Router| {
            let mut open = VecDeque::new();
            for n in 0..10 {
                // The fourth comes only after the first was answered.
                if open.len() == 3 {
                    let request = open.pop_front().expect("three");
                    router.answer(request, &[json!({})]).await;
                }
                let call = router.called("fox.kv.put").await;
                let (args, _) = router.values(&call.payload);
                assert_eq!(args, [json!(format!("k{n}")), json!(n)]);
                open.push_back(call.request);
            }
            for request in open {
                router.answer(request, &[json!({})]).await;
            }
            router
        };
        let ended = against(true, script, async |session, console| {
            import(&session, &args, console).await
        });
        assert_eq!(ended.await.out, "{\"imported\":10,\"kept\":0}\n");
    }

    #[tokio::test]
    async fn keys_that_have_a_value_keep_it_unless_they_are_to_be_replaced() {
        let (_file, args) = import_of("{\"key\":\"a\",\"value\":1}\n\n", false, 8);
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.cas").await;
            let (args, _) = router.values(&call.payload);
            assert_eq!(args, [json!("a"), json!(0), json!(1)]);
            let error = "fox.error.conflict";
            router.fail(call.request, error, &[], &Dict::new()).await;
            router
        };
        let ended = against(false, script, async |session, console| {
            import(&session, &args, console).await
        });
        assert_eq!(ended.await.out, "imported 0, left alone 1\n");
    }

    #[tokio::test]
    async fn the_first_line_that_fails_ends_the_import_by_its_number() {
        for (bad, part) in [
            ("{\"key\":\"b\"}", "line 2: missing field `value`"),
            ("{\"key\":\"b\",\"value\":null}", "line 2: null is no value"),
            ("nonsense", "line 2: expected"),
        ] {
            let text =
                format!("{{\"key\":\"a\",\"value\":1}}\n{bad}\n{{\"key\":\"c\",\"value\":1}}\n");
            let (_file, args) = import_of(&text, true, 8);
            let script = async |mut router: Router| {
                let call = router.called("fox.kv.put").await;
                router.answer(call.request, &[json!({})]).await;
                let last = router.try_receive().await;
                assert!(!matches!(last, Some(Message::Call(_))), "{last:?}");
            };
            let ended = against(false, script, async |session, console| {
                import(&session, &args, console).await
            });
            let ended = ended.await;
            assert_eq!(ended.code, 1);
            assert!(ended.err.contains(part), "{}", ended.err);
            assert!(ended.err.contains("; 1 imported before"), "{}", ended.err);
        }
    }

    #[tokio::test]
    async fn a_value_the_router_refuses_is_told_with_its_line_and_key() {
        let (_file, args) = import_of("{\"key\":\"a\",\"value\":1}\n", true, 8);
        let script = async |mut router: Router| {
            let call = router.called("fox.kv.put").await;
            let words = [json!("held")];
            let error = "fox.error.lock_held";
            router.fail(call.request, error, &words, &Dict::new()).await;
            router
        };
        let ended = against(false, script, async |session, console| {
            import(&session, &args, console).await
        });
        let ended = ended.await;
        assert_eq!(ended.code, 1);
        let said = "line 1: a: held (fox.error.lock_held)";
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}
