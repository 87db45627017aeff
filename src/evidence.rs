//! What a run leaves behind: one file a check, written whole and renamed, and a ledger that always adds up.
//!
//! ```text
//! target/critical/<run id>/run.json            target, time, versions
//! target/critical/<run id>/evidence/<check>.json
//! target/critical/<run id>/results.json        the ledger, folded from the evidence after each check
//! target/critical/<run id>/report.md, …        reports, folded likewise: see `report`
//! target/critical/latest                       points at the newest run
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::about::About;
use crate::check::{Area, Check, Verdict};
use crate::config::{ConfigError, Environment, Places, Target, reports_off};
use crate::diagnose::Diagnosis;
use crate::exchange::{Exchange, Judged, Measured};
use crate::expect::{Class, Failure, Trouble};
use crate::poll;
use crate::report::digest::Digest;
use crate::report::fold::{self, Left};
use crate::report::leaks::{self, NotWritten};
use crate::secret::redact;
use crate::time::now_iso;

/// Version of the evidence and ledger formats.
pub const SCHEMA: u32 = 1;

/// Everything about one check of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run.
    pub run_id: String,
    /// Number of the check.
    pub id: u16,
    /// Its function, as `cargo test` takes it.
    pub name: String,
    /// What it proves.
    pub title: String,
    /// Its area.
    pub area: Area,
    /// What users suffer when it fails.
    pub impact: String,
    /// The target's name.
    pub target: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Class of the failure or trouble.
    pub class: Option<Class>,
    /// Why this class.
    pub class_because: Option<String>,
    /// What was found out about the cause.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
    /// The broken expectation, for *failed*.
    pub failure: Option<Failure>,
    /// What kept the suite from judging, for *errored*.
    pub trouble: Option<Trouble>,
    /// For *timed out*: what it was waiting for, outermost first.
    pub waiting_for: Vec<String>,
    /// Start, ISO 8601 in UTC.
    pub started_at: String,
    /// From the start of the body to the end of the cleaning up, in milliseconds.
    pub duration_ms: f64,
    /// Time spent before that, to let the SLA check measure undisturbed, in milliseconds.
    pub queued_ms: f64,
    /// Expectations in the order they were judged.
    pub expectations: Vec<Judged>,
    /// Permitted variants that were seen, things that were not tried and why, measured figures.
    pub notes: Vec<String>,
    /// Routes that were timed against an agreement.
    #[serde(default)]
    pub measured: Vec<Measured>,
    /// What could not be cleaned up.
    pub left_behind: Vec<String>,
    /// Bytes sent to the target by the check itself.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// Process id, and its peak resident memory so far in KiB where the system tells (Linux).
    #[serde(default)]
    pub process: (u32, Option<u64>),
    /// Everything that crossed the wire.
    pub exchanges: Vec<Exchange>,
}

impl Evidence {
    /// The same without its exchanges: they are most of it, and are not even copied.
    #[must_use]
    pub fn without_exchanges(&self) -> Self {
        Self {
            schema: self.schema,
            run_id: self.run_id.clone(),
            id: self.id,
            name: self.name.clone(),
            title: self.title.clone(),
            area: self.area,
            impact: self.impact.clone(),
            target: self.target.clone(),
            verdict: self.verdict,
            class: self.class,
            class_because: self.class_because.clone(),
            diagnosis: self.diagnosis.clone(),
            failure: self.failure.clone(),
            trouble: self.trouble.clone(),
            waiting_for: self.waiting_for.clone(),
            started_at: self.started_at.clone(),
            duration_ms: self.duration_ms,
            queued_ms: self.queued_ms,
            expectations: self.expectations.clone(),
            notes: self.notes.clone(),
            measured: self.measured.clone(),
            left_behind: self.left_behind.clone(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            process: self.process,
            exchanges: Vec::new(),
        }
    }

    /// The same without anything that came from the service: for when the whole cannot be left.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            diagnosis: None,
            failure: None,
            class_because: None,
            waiting_for: Vec::new(),
            expectations: Vec::new(),
            notes: Vec::new(),
            measured: Vec::new(),
            left_behind: Vec::new(),
            ..self.without_exchanges()
        }
    }
}

/// The ledger: `results.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ledger {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run.
    pub run_id: String,
    /// The target's name.
    pub target: String,
    /// When it was last folded, ISO 8601 in UTC.
    pub updated_at: String,
    /// How many checks have each verdict. The sum is the number of checks.
    pub totals: BTreeMap<Verdict, usize>,
    /// One entry a check, all of them, in order.
    pub checks: Vec<Entry>,
    /// Failures with one cause, the largest group first.
    #[serde(default)]
    pub causes: Vec<Group>,
    /// Reports that could not be written, and a history that could not be kept, and why.
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// Checks that failed for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Name of the cause.
    pub cause: String,
    /// Numbers of the checks.
    pub checks: Vec<u16>,
}

impl Group {
    /// As in `14 checks, one cause (secret): 001, 002, …`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let checks: Vec<_> = self.checks.iter().map(|id| format!("{id:03}")).collect();
        let many = if checks.len() == 1 { "1 check".to_owned() } else { format!("{} checks, one cause", checks.len()) };
        format!("{many} ({}): {}", self.cause, checks.join(", "))
    }
}

/// One line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the check.
    pub id: u16,
    /// Its function.
    pub name: String,
    /// What it proves.
    pub title: String,
    /// Its area.
    pub area: Area,
    /// What users suffer when it fails.
    #[serde(default)]
    pub impact: String,
    /// The verdict; *not run* without evidence.
    pub verdict: Verdict,
    /// Milliseconds, where it ran.
    pub duration_ms: Option<f64>,
    /// Class of the failure.
    pub class: Option<Class>,
    /// One line about what is wrong.
    pub summary: Option<String>,
    /// Name of the cause, where one was found.
    #[serde(default)]
    pub cause: Option<String>,
    /// Size and time of the evidence file that this entry was read from: while they stay, it need not be read again.
    pub stamp: Option<String>,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    /// The run's id.
    pub run_id: String,
    /// The folder.
    pub path: PathBuf,
    pub(crate) target: String,
    roster: Vec<Entry>,
    /// Nothing is left behind: only to measure what that costs.
    pub(crate) off: bool,
}

/// The folder of a run is given away while checks work in it and one wants to be alone: see [`RunFolder::enter`].
#[derive(Debug)]
pub struct Admission {
    _room: File,
}

impl RunFolder {
    /// Makes the folder (several processes may do so at once) and points `latest` at it. Without a target, for a run whose
    /// configuration is wrong: it leaves a ledger too.
    ///
    /// # Errors
    /// A folder that cannot be written, with its path.
    pub fn open(env: &Environment, places: &Places, roster: &[&Check], target: Option<&Target>) -> Result<Self, ConfigError> {
        let run_id = places.run_id.clone().unwrap_or_else(new_run_id);
        if run_id.contains(['/', '\\']) || run_id.starts_with('.') {
            return Err(ConfigError::new(
                format!("CRITICAL_RUN_ID={run_id:?} is no folder name"),
                "use letters, digits and dashes",
            ));
        }
        let path = places.out.join(&run_id);
        let cannot = |error: io::Error| {
            ConfigError::new(
                format!("evidence cannot be written to {}: {error}", path.display()),
                "make the folder writable or free some space, or set CRITICAL_OUT_DIR to another one",
            )
        };
        fs::create_dir_all(path.join("evidence")).map_err(cannot)?;
        let about = About::new(env, places, &run_id, target);
        let target = about.target.clone();
        if !path.join("run.json").exists() {
            let written = to_json(&about).and_then(|text| leaks::write(&path.join("run.json"), &text));
            written.map_err(|error| ConfigError::new(error.to_string(), error.remedy()))?;
        }
        point_latest(&places.out, &run_id).map_err(cannot)?;
        let roster = roster.iter().map(|check| Entry::not_run(check)).collect();
        Ok(Self { run_id, path, target, roster, off: reports_off(env, about.embedded)? })
    }

    /// The folder of a run that is there already: its ledger lists the checks.
    ///
    /// # Errors
    /// No run there, or a damaged ledger.
    pub fn of(path: &Path) -> Result<Self, String> {
        let ledger: Ledger = read_json(&path.join("results.json"))?;
        let roster = ledger.checks.iter().map(Entry::blank).collect();
        Ok(Self { run_id: ledger.run_id, path: path.to_path_buf(), target: ledger.target, roster, off: false })
    }

    /// Names of all checks.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.roster.iter().map(|entry| entry.name.as_str())
    }

    /// What the run is about.
    #[must_use]
    pub fn about(&self) -> About {
        let about: Result<About, _> = read_json(&self.path.join("run.json"));
        let mut about = about.unwrap_or_else(|_| About::unknown(&self.run_id, &self.target));
        // A fault can make the service give a secret away; that is known only after it has happened.
        about.fault = about.fault.map(|fault| redact(&fault));
        about
    }

    /// The evidence file of a check.
    #[must_use]
    pub fn evidence_path(&self, name: &str) -> PathBuf {
        self.path.join("evidence").join(format!("{name}.json"))
    }

    /// Writes the evidence of a check, and folds ledger and reports.
    ///
    /// # Errors
    /// What the file system says, with the path, or where a secret would have been left. Nothing that was there before is lost:
    /// files are renamed into place.
    pub fn write(&self, evidence: &Evidence) -> Result<(), NotWritten> {
        if self.off {
            return Ok(());
        }
        let path = self.evidence_path(&evidence.name);
        leaks::write(&path, &to_json(evidence)?)?;
        fold::keep(&path, evidence);
        fold::fold(self, Some(&evidence.name))
    }

    /// The ledger as it was written last.
    #[must_use]
    pub fn written(&self) -> Option<Ledger> {
        read_json(&self.path.join("results.json")).ok()
    }

    /// The ledger as the evidence files have it now, and the digests of those that can be read.
    #[must_use]
    pub fn read(&self) -> (Ledger, Vec<Arc<Digest>>) {
        let (mut checks, mut digests) = (Vec::new(), Vec::new());
        for blank in &self.roster {
            let path = self.evidence_path(&blank.name);
            checks.push(match fold::digest(&path) {
                Left::Nothing => blank.clone(),
                Left::Evidence(stamp, digest) => {
                    let entry = Entry::of(&digest.evidence, stamp);
                    digests.push(digest);
                    entry
                }
                Left::Damaged(stamp, error) => Entry {
                    verdict: Verdict::Errored,
                    class: Some(Class::Suite),
                    summary: Some(format!("evidence file {} is damaged ({error}): run the check again", path.display())),
                    stamp: Some(stamp),
                    ..blank.clone()
                },
            });
        }
        let mut totals: BTreeMap<_, _> = Verdict::ALL.into_iter().map(|verdict| (verdict, 0)).collect();
        for check in &checks {
            *totals.entry(check.verdict).or_default() += 1;
        }
        let ledger = Ledger {
            schema: SCHEMA,
            run_id: self.run_id.clone(),
            target: self.target.clone(),
            updated_at: now_iso(),
            totals,
            causes: grouped(&checks),
            checks,
            troubles: Vec::new(),
        };
        (ledger, digests)
    }

    /// Lets a check in: many at once, or one alone that measures. That one waits for a moment when nobody is inside, but only
    /// for `patience`: then nobody else is let in before it.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn enter(&self, alone: bool, patience: Duration) -> io::Result<Admission> {
        let open = |name: &str| File::options().create(true).truncate(false).write(true).open(self.path.join(name));
        let (turn, room) = (open(".turn.lock")?, open(".room.lock")?);
        if alone {
            let look = Duration::from_millis(5);
            let free = poll::until(patience, look, async || room.try_lock().map_err(drop)).await;
            if free.is_err() {
                turn.lock()?;
                room.lock()?;
            }
        } else {
            turn.lock_shared()?;
            room.lock_shared()?;
        }
        Ok(Admission { _room: room })
    }
}

impl Entry {
    fn not_run(check: &Check) -> Self {
        Self {
            id: check.id,
            name: check.name.to_owned(),
            title: check.title.to_owned(),
            area: check.area,
            impact: check.impact.to_owned(),
            verdict: Verdict::NotRun,
            duration_ms: None,
            class: None,
            summary: None,
            cause: None,
            stamp: None,
        }
    }

    /// The same check, not run.
    pub(crate) fn blank(&self) -> Self {
        Self { verdict: Verdict::NotRun, duration_ms: None, class: None, summary: None, cause: None, stamp: None, ..self.clone() }
    }

    fn of(it: &Evidence, stamp: String) -> Self {
        let broken = |failure: &Failure| format!("{}: wanted {}, got {}", failure.expectation, failure.wanted, failure.got);
        let waited = || it.waiting_for.last().map(|what| format!("was waiting for {what}"));
        let cause = it.diagnosis.as_ref().and_then(|found| found.causes.first());
        Self {
            id: it.id,
            name: it.name.clone(),
            title: it.title.clone(),
            area: it.area,
            impact: it.impact.clone(),
            verdict: it.verdict,
            duration_ms: Some(it.duration_ms),
            class: it.class,
            cause: cause.map(|cause| cause.name.clone()),
            summary: it.failure.as_ref().map(broken).or(it.trouble.as_ref().map(|it| it.what.clone())).or_else(waited),
            stamp: Some(stamp),
        }
    }
}

fn grouped(checks: &[Entry]) -> Vec<Group> {
    let mut all: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for check in checks {
        if let Some(cause) = &check.cause {
            all.entry(cause).or_default().push(check.id);
        }
    }
    let mut all: Vec<_> = all.into_iter().map(|(cause, checks)| Group { cause: cause.to_owned(), checks }).collect();
    all.sort_by_key(|group| std::cmp::Reverse(group.checks.len()));
    all
}

/// Size and time of a file: while they stay, it need not be read again.
pub(crate) fn stamp(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    let modified = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", about.len(), modified.as_nanos()))
}

/// Time and four random digits: sorts by time, and two runs in one second do not meet.
pub(crate) fn new_run_id() -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("{now}-{}", &uuid::Uuid::new_v4().simple().to_string()[..4])
}

/// JSON for people and tools.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, NotWritten> {
    serde_json::to_vec_pretty(value).map_err(|error| NotWritten::Io(PathBuf::new(), error.into()))
}

/// Writes JSON whole, and not at all if there is a secret in it.
pub(crate) fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    to_json(value).and_then(|text| leaks::write(path, &text)).map_err(|error| match error {
        NotWritten::Io(_, error) => error,
        secret @ NotWritten::Secret { .. } => io::Error::other(secret.to_string()),
    })
}

/// Reads JSON.
///
/// # Errors
/// No such file, or a damaged one, with its path.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}; run the checks first", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))
}

pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", &uuid::Uuid::new_v4().simple().to_string()[..8]))
}

#[cfg(unix)]
pub(crate) fn point_latest(out: &Path, run_id: &str) -> io::Result<()> {
    let latest = out.join("latest");
    let beside = beside(&latest);
    std::os::unix::fs::symlink(run_id, &beside)?;
    fs::rename(&beside, &latest)
}

#[cfg(not(unix))]
pub(crate) fn point_latest(out: &Path, run_id: &str) -> io::Result<()> {
    fs::write(out.join("latest.txt"), run_id)
}
