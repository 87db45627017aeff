//! What a run leaves behind: one file a check, written whole and renamed, and a ledger that always adds up.
//!
//! ```text
//! target/critical/<run id>/run.json            target, time, versions
//! target/critical/<run id>/evidence/<check>.json
//! target/critical/<run id>/results.json        the ledger, folded from the evidence after each check
//! target/critical/latest                       points at the newest run
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Area, Check, Verdict};
use crate::config::{ConfigError, Places, Target};
use crate::diagnose::Diagnosis;
use crate::exchange::{Exchange, Judged};
use crate::expect::{Class, Failure, Trouble};
use crate::poll;
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
    /// What could not be cleaned up.
    pub left_behind: Vec<String>,
    /// Bytes sent to the target by the check itself.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// Everything that crossed the wire.
    pub exchanges: Vec<Exchange>,
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
    pub fn open(places: &Places, roster: &[&Check], name: &str, target: Option<&Target>) -> Result<Self, ConfigError> {
        let run_id = places.run_id.clone().unwrap_or_else(new_run_id);
        if run_id.is_empty() || run_id.contains(['/', '\\']) || run_id.starts_with('.') {
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
        let about = serde_json::json!({
            "schema": SCHEMA,
            "run_id": run_id,
            "target": name,
            "api": target.map(|it| it.api.as_str()),
            "ws": target.map(|it| it.ws.as_str()),
            "auth": target.map(|it| it.auth.as_str()),
            "suite_version": env!("CARGO_PKG_VERSION"),
            "started_at": now_iso(),
            "settings": target.map(|it| &it.settings),
        });
        if !path.join("run.json").exists() {
            write_whole(&path.join("run.json"), &about).map_err(cannot)?;
        }
        point_latest(&places.out, &run_id).map_err(cannot)?;
        let roster = roster.iter().map(|check| Entry::not_run(check)).collect();
        Ok(Self { run_id, path, target: name.to_owned(), roster })
    }

    /// The evidence file of a check.
    #[must_use]
    pub fn evidence_path(&self, name: &str) -> PathBuf {
        self.path.join("evidence").join(format!("{name}.json"))
    }

    /// Writes the evidence of a check and folds the ledger.
    ///
    /// # Errors
    /// What the file system says, with the path. Nothing that was there before is lost: files are renamed into place.
    pub fn write(&self, evidence: &Evidence) -> Result<(), String> {
        let path = self.evidence_path(&evidence.name);
        let cannot = |path: &Path, error: io::Error| format!("{} cannot be written: {error}", path.display());
        write_whole(&path, evidence).map_err(|error| cannot(&path, error))?;
        self.fold().map_err(|error| cannot(&self.path.join("results.json"), error))
    }

    /// Folds all evidence into the ledger, one process at a time.
    fn fold(&self) -> io::Result<()> {
        let lock = File::create(self.path.join(".ledger.lock"))?;
        lock.lock()?;
        let ledger = self.ledger_since(self.written().as_ref());
        write_whole(&self.path.join("results.json"), &ledger)
    }

    /// The ledger as it was written last.
    #[must_use]
    pub fn written(&self) -> Option<Ledger> {
        serde_json::from_slice(&fs::read(self.path.join("results.json")).ok()?).ok()
    }

    /// The ledger as the evidence files have it now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger_since(None)
    }

    fn ledger_since(&self, before: Option<&Ledger>) -> Ledger {
        let known = |name: &str| before.and_then(|ledger| ledger.checks.iter().find(|entry| entry.name == name));
        let checks: Vec<_> = self.roster.iter().map(|entry| self.entry(entry, known(&entry.name))).collect();
        let mut totals: BTreeMap<_, _> = Verdict::ALL.into_iter().map(|verdict| (verdict, 0)).collect();
        for check in &checks {
            *totals.entry(check.verdict).or_default() += 1;
        }
        let causes = grouped(&checks);
        Ledger {
            schema: SCHEMA,
            run_id: self.run_id.clone(),
            target: self.target.clone(),
            updated_at: now_iso(),
            totals,
            checks,
            causes,
        }
    }

    fn entry(&self, blank: &Entry, known: Option<&Entry>) -> Entry {
        let path = self.evidence_path(&blank.name);
        let stamp = stamp(&path);
        if let Some(known) = known.filter(|known| stamp.is_some() && known.stamp == stamp) {
            return known.clone();
        }
        let Ok(text) = fs::read(&path) else { return blank.clone() };
        let blank = Entry { stamp, ..blank.clone() };
        match serde_json::from_slice::<Summary>(&text) {
            Ok(it) => Entry {
                verdict: it.verdict,
                duration_ms: Some(it.duration_ms),
                class: it.class,
                cause: it.diagnosis.and_then(|found| found.causes.into_iter().next()).map(|cause| cause.name),
                summary: it
                    .failure
                    .map(|failure| format!("{}: wanted {}, got {}", failure.expectation, failure.wanted, failure.got))
                    .or(it.trouble.map(|trouble| trouble.what))
                    .or(it.waiting_for.last().map(|what| format!("was waiting for {what}"))),
                ..blank
            },
            Err(error) => Entry {
                verdict: Verdict::Errored,
                class: Some(Class::Suite),
                summary: Some(format!("evidence file {} is damaged ({error}): run the check again", path.display())),
                ..blank
            },
        }
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

/// The part of the evidence that the ledger needs; skipping the exchanges keeps folding cheap.
#[derive(Deserialize)]
struct Summary {
    verdict: Verdict,
    class: Option<Class>,
    diagnosis: Option<Diagnosis>,
    failure: Option<Failure>,
    trouble: Option<Trouble>,
    waiting_for: Vec<String>,
    duration_ms: f64,
}

impl Entry {
    fn not_run(check: &Check) -> Self {
        Self {
            id: check.id,
            name: check.name.to_owned(),
            title: check.title.to_owned(),
            area: check.area,
            verdict: Verdict::NotRun,
            duration_ms: None,
            class: None,
            summary: None,
            cause: None,
            stamp: None,
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

fn stamp(path: &Path) -> Option<String> {
    let about = fs::metadata(path).ok()?;
    let modified = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", about.len(), modified.as_nanos()))
}

/// Time and four random digits: sorts by time, and two runs in one second do not meet.
fn new_run_id() -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("{now}-{}", &uuid::Uuid::new_v4().simple().to_string()[..4])
}

/// Writes JSON beside the place and renames, so that a reader sees the old file or the new one, never half of either.
pub(crate) fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = beside(path);
    let write = |file| {
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, value)?;
        file.flush()
    };
    let written = File::create(&beside).and_then(write).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", &uuid::Uuid::new_v4().simple().to_string()[..8]))
}

#[cfg(unix)]
fn point_latest(out: &Path, run_id: &str) -> io::Result<()> {
    let latest = out.join("latest");
    let beside = beside(&latest);
    std::os::unix::fs::symlink(run_id, &beside)?;
    fs::rename(&beside, &latest)
}

#[cfg(not(unix))]
fn point_latest(out: &Path, run_id: &str) -> io::Result<()> {
    fs::write(out.join("latest.txt"), run_id)
}
