//! `history.sqlite`, beside the runs: the results of the newest runs of each target. It knows rows, and judges nothing.
//!
//! A file that cannot be used is never replaced: the error says what to do, and the run goes on without a history.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, params};

use super::{Before, Past, Ran};
use crate::about::About;
use crate::check::Verdict;
use crate::report::Run;
use crate::report::leaks;

/// Version of the tables, kept in `PRAGMA user_version`.
pub const SCHEMA: i64 = 1;
/// So many runs are kept of each target.
pub const RUNS_KEPT: usize = 200;
/// How long one process waits for another one that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shards that were merged go with their merged run, and do not count beside it.
const TABLES: &str = "
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    compared_by TEXT NOT NULL,
    target TEXT NOT NULL,
    started_at TEXT NOT NULL,
    suite_version TEXT NOT NULL,
    git_commit TEXT,
    merged_into INTEGER REFERENCES runs(run) ON DELETE CASCADE
) STRICT;
CREATE INDEX runs_by_target ON runs (compared_by, started_at);
CREATE INDEX runs_by_merged ON runs (merged_into);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs(run) ON DELETE CASCADE,
    check_id INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    class TEXT,
    cause TEXT,
    duration_ms REAL NOT NULL,
    PRIMARY KEY (run, check_id)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// The history of the runs that lie beside this one.
#[must_use]
pub fn path(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    folder.parent().unwrap_or(&folder).join("history.sqlite")
}

/// Adds a run as far as it has come; gives earlier runs of its target as far as they can be read, and why it was not added.
pub(super) fn record(folder: &Path, run: &Run, own: &[Ran]) -> (Vec<Past>, Result<(), String>) {
    let path = path(folder);
    let mut history = match open(&path, OpenFlags::SQLITE_OPEN_CREATE) {
        Ok(history) => history,
        Err(error) => return (Vec::new(), Err(error)),
    };
    // The last check of a run, and a merge, folds the log into the file, so that the one file can be carried away.
    let whole = own.len() >= run.ledger.checks.len() || !run.about.shards.is_empty();
    let written = clean(run, own).and_then(|()| {
        let write = history.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !whole);
        write.and_then(|_| add(&mut history, run, own)).map_err(|error| said(&path, &error))
    });
    let earlier = before(&history, &run.about, RUNS_KEPT);
    (earlier.unwrap_or_default(), written)
}

/// Earlier runs of the same target, newest first.
///
/// # Errors
/// A file that cannot be used, with the remedy. No file is no error.
pub fn earlier(folder: &Path, about: &About) -> Result<Vec<Past>, String> {
    let path = path(folder);
    if !path.exists() {
        return Ok(Vec::new());
    }
    open(&path, OpenFlags::empty()).and_then(|history| before(&history, about, RUNS_KEPT).map_err(|error| said(&path, &error)))
}

/// The newest run's target as a run is compared by it, and its last runs, that one among them, newest first. None of none.
///
/// # Errors
/// No history, or a file that cannot be used, with the remedy.
pub fn newest(path: &Path, limit: usize) -> Result<Option<(String, Vec<Past>)>, String> {
    if !path.exists() {
        return Err(format!("{}: no history; run the checks first", path.display()));
    }
    let history = open(path, OpenFlags::empty())?;
    let read = || {
        let newest = "SELECT compared_by FROM runs WHERE merged_into IS NULL ORDER BY started_at DESC, run DESC LIMIT 1";
        let target = history.prepare(newest)?.query_map([], |row| row.get::<_, String>(0))?.next().transpose()?;
        let runs = |target: String| Ok((target.clone(), runs(&history, &target, "9999", limit)?));
        target.map(runs).transpose()
    };
    read().map_err(|error: rusqlite::Error| said(path, &error))
}

fn before(history: &Connection, about: &About, limit: usize) -> rusqlite::Result<Vec<Past>> {
    runs(history, &about.compared_by(), &about.started_at, limit)
}

/// Runs of a target that began before a time, newest first, each with its results.
fn runs(history: &Connection, target: &str, before: &str, limit: usize) -> rusqlite::Result<Vec<Past>> {
    let mut all = history.prepare(
        "SELECT run, run_id, started_at FROM runs
         WHERE compared_by = ?1 AND started_at < ?2 AND merged_into IS NULL
         ORDER BY started_at DESC, run DESC LIMIT ?3",
    )?;
    let of_run = "SELECT check_id, verdict, duration_ms, cause FROM results WHERE run = ?1 ORDER BY check_id";
    let mut results = history.prepare(of_run)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let run = |row: &Row<'_>| {
        let run = Before { run_id: row.get(1)?, started_at: row.get(2)? };
        let results = results.query_map([row.get::<_, i64>(0)?], ran)?.collect::<rusqlite::Result<_>>()?;
        Ok(Past { run, results })
    };
    all.query_map(params![target, before, limit], run)?.collect()
}

fn ran(row: &Row<'_>) -> rusqlite::Result<Ran> {
    let verdict = row.get_ref(1)?.as_str()?;
    let unknown = || rusqlite::Error::FromSqlConversionFailure(1, Type::Text, format!("verdict {verdict:?}").into());
    let verdict = Verdict::ALL.into_iter().find(|it| it.to_string() == verdict).ok_or_else(unknown)?;
    Ok(Ran { check: row.get(0)?, verdict, ms: row.get(2)?, cause: row.get(3)? })
}

/// What goes into the file as text is searched for secrets, as every other file of a run is.
fn clean(run: &Run, own: &[Ran]) -> Result<(), String> {
    let about = &run.about;
    let mut texts = vec![about.compared_by(), run.ledger.run_id.clone(), about.commit.clone().unwrap_or_default()];
    texts.extend(own.iter().filter_map(|it| it.cause.clone()));
    let found = leaks::search(texts.join("\n").as_bytes());
    found.map_or(Ok(()), |(what, _)| Err(format!("the run was not added to the history: {what} stood in it")))
}

fn add(history: &mut Connection, run: &Run, own: &[Ran]) -> rusqlite::Result<()> {
    let about = &run.about;
    let tx = history.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let target = about.compared_by();
    let number: i64 = tx.query_row(
        "INSERT INTO runs (run_id, compared_by, target, started_at, suite_version, git_commit) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (run_id) DO UPDATE SET compared_by = ?2, target = ?3, started_at = ?4, suite_version = ?5, git_commit = ?6
         RETURNING run",
        params![run.ledger.run_id, target, about.target, about.started_at, about.suite_version, about.commit],
        |row| row.get(0),
    )?;
    // What was recorded of a folder that was used before goes: the evidence has it no more.
    tx.execute("DELETE FROM results WHERE run = ?1", [number])?;
    {
        let insert = "INSERT INTO results (run, check_id, verdict, class, cause, duration_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = tx.prepare(insert)?;
        for it in own {
            let entry = run.ledger.checks.iter().find(|entry| entry.id == it.check);
            let class = entry.and_then(|entry| entry.class).map(|class| class.to_string());
            insert.execute(params![number, it.check, it.verdict.to_string(), class, it.cause, it.ms])?;
        }
        // Shards that were merged before leave that merged run too, or they would be counted in both.
        let mut merge = tx.prepare(
            "UPDATE runs SET merged_into = ?1 WHERE run <> ?1
             AND (run_id = ?2 OR run IN (SELECT merged_into FROM runs WHERE run_id = ?2))",
        )?;
        for shard in &about.shards {
            merge.execute(params![number, shard])?;
        }
        if !about.shards.is_empty() {
            tx.execute("UPDATE runs SET merged_into = NULL WHERE run = ?1", [number])?;
        }
    }
    tx.execute(
        "DELETE FROM runs WHERE run IN (SELECT run FROM runs WHERE compared_by = ?1 AND merged_into IS NULL
         ORDER BY started_at DESC, run DESC LIMIT -1 OFFSET ?2)",
        params![target, i64::try_from(RUNS_KEPT).unwrap_or(i64::MAX)],
    )?;
    tx.commit()
}

/// Opens the file, and makes the tables where there are none.
fn open(path: &Path, create: OpenFlags) -> Result<Connection, String> {
    let opened = || {
        let history = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | create)?;
        history.busy_timeout(PATIENCE)?;
        let version = version(&history)?;
        Ok((history, version))
    };
    let (mut history, found) = opened().map_err(|error: rusqlite::Error| said(path, &error))?;
    if found > SCHEMA {
        return Err(format!(
            "{} was written by a newer version of the suite (tables of version {found}, this one knows {SCHEMA}): use that \
             version, or move the file away, and the next run begins a new history",
            path.display()
        ));
    }
    prepare(&mut history, found).map_err(|error| said(path, &error))?;
    Ok(history)
}

fn version(history: &Connection) -> rusqlite::Result<i64> {
    history.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn prepare(history: &mut Connection, found: i64) -> rusqlite::Result<()> {
    if found < SCHEMA {
        // Only one process can change the journal; for the others it is changed already, or the old one serves.
        let _ = history.pragma_update(None, "journal_mode", "WAL");
        let tx = history.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&tx)? < SCHEMA {
            tx.execute_batch(TABLES)?;
        }
        tx.commit()?;
    }
    // With the log, NORMAL syncs only when the log is folded in, not after each check. A power failure can then lose the last
    // checks of the history but never damage it; the runs themselves are in their own files.
    history.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON")
}

/// What the file system or SQLite says, and what to do.
fn said(path: &Path, error: &rusqlite::Error) -> String {
    let file = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            format!("{file} is damaged ({error}): move it away, and the next run begins a new history")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{file} was in use for {} s by another process: end it, and run again", PATIENCE.as_secs())
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => format!(
            "{file} cannot be used ({error}): make it and its folder writable or free some space, or set CRITICAL_OUT_DIR to \
             another folder"
        ),
        _ => format!("{file} cannot be used ({error}): move it away, and the next run begins a new history"),
    }
}
