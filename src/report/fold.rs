//! Folding: from the evidence of a run to its ledger and reports, after each check and under a lock.
//!
//! Checks that end while another one folds wait for the lock, and then often find that they are in already. What was read once
//! is kept in memory as a [`Digest`], so that a check's exchanges are written out once in a process, not once in a fold.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::Lazy;

use super::{Digest, Run, ctrf, har, html, junit, leaks, markdown, past};
use crate::about::About;
use crate::evidence::{Evidence, Ledger, RunFolder, stamp, to_json};

/// Digests by evidence file, each with the stamp of the file that it was read from.
static DIGESTS: Lazy<Mutex<HashMap<PathBuf, (String, Arc<Digest>)>>> = Lazy::new(Mutex::default);

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
    let known = |all: &HashMap<PathBuf, (String, Arc<Digest>)>| all.get(path).filter(|(of, _)| *of == stamp).cloned();
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
/// The ledger cannot be written. A report that cannot be is named in the ledger.
pub(crate) fn fold(folder: &RunFolder, own: Option<&str>) -> Result<(), String> {
    let cannot = |path: &Path, error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let lock_path = folder.path.join(".ledger.lock");
    let lock = File::create(&lock_path).map_err(|error| cannot(&lock_path, error))?;
    lock.lock().map_err(|error| cannot(&lock_path, error))?;
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
    let about = folder.about();
    let mut run = Run::new(about, ledger.clone(), digests, past::Since::default());
    run.since = past::record(&folder.path, &run);
    ledger.troubles = write_all(&folder.path, &run);
    ledger.troubles.extend(run.since.trouble);
    let path = folder.path.join("results.json");
    to_json(&ledger).and_then(|text| leaks::write(&path, &text)).map_err(|error| error.to_string())
}

/// Writes every report of a run; gives what could not be written, and why.
fn write_all(folder: &Path, run: &Run) -> Vec<String> {
    let reports: [(&str, Result<String, String>); 5] = [
        ("report.md", Ok(markdown::file(run))),
        ("junit.xml", junit::file(run)),
        ("ctrf.json", Ok(ctrf::file(run))),
        ("run.har", Ok(har::file(run))),
        ("report.html", html::file(run)),
    ];
    let written = reports.into_iter().map(|(name, text)| {
        let path = folder.join(name);
        let text = text.map_err(|error| format!("{name} cannot be made: {error}; this is a defect of the suite"))?;
        leaks::write(&path, text.as_bytes()).map_err(|error| error.to_string())
    });
    written.filter_map(Result::err).collect()
}

/// Reads the run of a folder again, and writes its reports again.
///
/// # Errors
/// No run there, or a ledger that cannot be written.
pub fn render(folder: &Path) -> Result<Run, String> {
    let folder = RunFolder::of(folder)?;
    fold(&folder, None)?;
    let (ledger, digests) = folder.read();
    let about: About = folder.about();
    let mut run = Run::new(about, ledger, digests, past::Since::default());
    run.since = past::against(&folder.path, &run);
    Ok(run)
}
