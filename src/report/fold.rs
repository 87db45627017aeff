//! Folding: from the evidence of a run to its ledger and reports, after each check and under a lock.
//!
//! Checks that end while another one folds wait for the lock, and then often find that they are in already. What was read once
//! is kept in memory as a [`Digest`], so that a check's exchanges are written out once in a process, not once in a fold.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::Lazy;

use super::leaks::{self, NotWritten};
use super::{Digest, Run, ctrf, har, html, junit, markdown, past};
use crate::evidence::{Evidence, Ledger, RunFolder, stamp, to_json};

/// Digests by evidence file, each with the stamp of the file that it was read from.
type Digests = HashMap<PathBuf, (String, Arc<Digest>)>;

static DIGESTS: Lazy<Mutex<Digests>> = Lazy::new(Mutex::default);

/// What a check's evidence file holds.
pub(crate) enum Left {
    /// No file: it did not run.
    Nothing,
    /// A file that can be read, with its stamp.
    Evidence(String, Arc<Digest>),
    /// A file that cannot, and why.
    Damaged(String, String),
}

/// The digest of an evidence file.
pub(crate) fn digest(path: &Path) -> Left {
    let Some(stamp) = stamp(path) else { return Left::Nothing };
    let known = |all: &Digests| all.get(path).filter(|(of, _)| *of == stamp).cloned();
    if let Some((stamp, digest)) = known(&DIGESTS.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Left::Evidence(stamp, digest);
    }
    let read = fs::read(path).map_err(|error| error.to_string());
    match read.and_then(|text| serde_json::from_slice::<Evidence>(&text).map_err(|error| error.to_string())) {
        Ok(evidence) => Left::Evidence(stamp, keep(path, &evidence)),
        Err(error) => Left::Damaged(stamp, error),
    }
}

/// Keeps the digest of evidence that was just written to this file, or read from it.
pub(crate) fn keep(path: &Path, evidence: &Evidence) -> Arc<Digest> {
    let digest = Arc::new(Digest::of(evidence));
    if let Some(stamp) = stamp(path) {
        let mut all = DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.to_path_buf(), (stamp, Arc::clone(&digest)));
    }
    digest
}

/// Folds the run, one process at a time, unless somebody has done so since `own` was written.
///
/// # Errors
/// The ledger cannot be written, or a secret would have been left in a report. Any other report that cannot be written is named
/// in the ledger.
pub(crate) fn fold(folder: &RunFolder, own: Option<&str>) -> Result<(), NotWritten> {
    let lock_path = folder.path.join(".ledger.lock");
    let cannot = |error| NotWritten::Io(lock_path.clone(), error);
    let lock = File::create(&lock_path).map_err(cannot)?;
    lock.lock().map_err(cannot)?;
    let stamped = own.map(|name| (name, stamp(&folder.evidence_path(name))));
    let is_in = |ledger: &Ledger| {
        stamped.as_ref().is_some_and(|(name, stamp)| {
            stamp.is_some() && ledger.checks.iter().any(|entry| entry.name == *name && entry.stamp == *stamp)
        })
    };
    if folder.written().as_ref().is_some_and(is_in) {
        return Ok(());
    }
    let (mut ledger, digests) = folder.read();
    let mut run = Run::new(folder.about(), ledger.clone(), digests, past::Since::default());
    run.since = past::record(&folder.path, &run);
    let failed = write_all(&folder.path, &mut run);
    ledger.troubles = run.ledger.troubles;
    ledger.troubles.extend(run.since.trouble);
    leaks::write(&folder.path.join("results.json"), &to_json(&ledger)?)?;
    failed.into_iter().find(|it| matches!(it, NotWritten::Secret { .. })).map_or(Ok(()), Err)
}

/// The run as it is now, against earlier ones; writes nothing.
pub(crate) fn current(folder: &RunFolder) -> Run {
    let (mut ledger, digests) = folder.read();
    ledger.troubles = folder.written().map(|written| written.troubles).unwrap_or_default();
    let mut run = Run::new(folder.about(), ledger, digests, past::Since::default());
    run.since = past::against(&folder.path, &run);
    run
}

/// Writes every report of a run; gives those that could not be written. What people read comes last and names them.
fn write_all(folder: &Path, run: &mut Run) -> Vec<NotWritten> {
    type Format = (&'static str, fn(&Run) -> Result<String, String>);
    const FORMATS: [Format; 5] = [
        ("junit.xml", junit::file),
        ("ctrf.json", |run| Ok(ctrf::file(run))),
        ("run.har", |run| Ok(har::file(run))),
        ("report.html", html::file),
        ("report.md", |run| Ok(markdown::file(run))),
    ];
    let mut failed = Vec::new();
    for (name, make) in FORMATS {
        let path = folder.join(name);
        let text = make(run).map_err(|error| NotWritten::Io(path.clone(), std::io::Error::other(error)));
        if let Err(error) = text.and_then(|text| leaks::write(&path, text.as_bytes())) {
            run.ledger.troubles.push(error.to_string());
            failed.push(error);
        }
    }
    failed
}

/// Reads the run of a folder again, and writes its reports again.
///
/// # Errors
/// No run there, or a ledger that cannot be written.
pub fn render(folder: &Path) -> Result<Run, String> {
    let folder = RunFolder::of(folder)?;
    fold(&folder, None).map_err(|error| error.to_string())?;
    Ok(current(&folder))
}
