//! Shards of one run, each from another machine, put together: `critical merge`.
//!
//! Everything is looked at before anything is written, and evidence is copied, never moved: what cannot be merged is left as it
//! was. The ledger adds up to the checks that the shards' ledgers list; one that is missing, or that ran twice, fails the merge.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::fold::{current, render};
use super::{github, leaks};
use crate::about::{About, Setting};
use crate::check::Verdict;
use crate::config::{Environment, Places, Surroundings};
use crate::evidence::{Entry, Evidence, Ledger, RunFolder, new_run_id, point_latest, read_json, write_whole};
use crate::explain::Told;
use crate::past_runs::totals;

/// A shard, as far as it is looked at before the merge.
struct Shard {
    /// As it was given.
    path: PathBuf,
    about: About,
    ledger: Ledger,
    /// Verdicts and files of the checks that left evidence, by number.
    evidence: BTreeMap<u16, (Verdict, PathBuf)>,
}

/// What came of a merge.
#[derive(Debug)]
pub struct Merged {
    /// The folder of the merged run.
    pub folder: PathBuf,
    /// Its ledger.
    pub ledger: Ledger,
    /// Checks that left evidence in no shard, as sentences.
    pub missing: Vec<String>,
    /// Checks that left evidence in more than one, as sentences.
    pub doubled: Vec<String>,
    /// Reports or the history, where they could not be written, and why.
    pub troubles: Vec<String>,
}

impl Merged {
    /// True if every check ran once and passed.
    #[must_use]
    pub fn is_green(&self) -> bool {
        let passed = self.ledger.checks.iter().all(|entry| entry.verdict == Verdict::Passed);
        passed && self.missing.is_empty() && self.doubled.is_empty()
    }
}

/// Merges folders of runs, as the words after `critical merge` say: folders, and `--out DIR`.
///
/// # Errors
/// 1 if a check did not pass, is missing or ran twice; 2 if the folders cannot be merged, and then nothing is left behind.
pub fn run(env: &Environment, words: &[&str]) -> Told {
    let places = Places::of(env);
    let usage = |wrong: &str| (2, format!("{wrong}; as in: critical merge shard-1 shard-2 [--out DIR]"));
    let (mut shards, mut out, mut words) = (Vec::new(), None, words.iter());
    while let Some(word) = words.next() {
        match *word {
            "--out" if out.is_some() => return Err(usage("--out is given twice")),
            "--out" => out = Some(PathBuf::from(words.next().ok_or_else(|| usage("--out names no folder"))?)),
            option if option.starts_with('-') => return Err(usage(&format!("{option}: no such option"))),
            folder => shards.push(PathBuf::from(folder)),
        }
    }
    if shards.is_empty() {
        return Err(usage("no folder of a run is named"));
    }
    let own_place = out.is_none();
    let out = out.unwrap_or_else(|| places.out.join(format!("merged-{}", new_run_id())));
    let merged = merge(&shards, &out).map_err(|error| (2, error))?;
    let mut lines = vec![format!("{} of {} shards: {}", merged.ledger.run_id, shards.len(), totals(&merged.ledger))];
    lines.extend(merged.missing.iter().chain(&merged.doubled).chain(&merged.troubles).cloned());
    if own_place && let (Some(folder), Some(name)) = (out.parent(), out.file_name()) {
        let pointed = point_latest(folder, &name.to_string_lossy());
        lines.extend(pointed.err().map(|error| format!("{} cannot be made: {error}", folder.join("latest").display())));
    }
    let around = Surroundings::of(env, Vec::new());
    if let Some(job) = &around.github {
        let run = RunFolder::of(&merged.folder).map(|folder| current(&folder)).map_err(|error| (2, error))?;
        lines.push(github::tell(&run, job).trim_end().to_owned());
    }
    lines.push(merged.folder.join("report.md").display().to_string());
    let text = lines.join("\n");
    if merged.is_green() { Ok(text) } else { Err((1, text)) }
}

/// Merges the folders of some runs into a new one.
///
/// # Errors
/// Which folder cannot be merged and why, or what cannot be written. Nothing is left behind then.
pub fn merge(folders: &[PathBuf], out: &Path) -> Result<Merged, String> {
    let shards = folders.iter().map(|folder| Shard::read(folder)).collect::<Result<Vec<_>, _>>()?;
    apart(&shards)?;
    let [first, others @ ..] = shards.as_slice() else { return Err("no folder of a run is named".to_owned()) };
    others.iter().try_for_each(|other| belongs(first, other))?;
    let (chosen, missing, doubled) = choose(&shards);
    if fs::symlink_metadata(out).is_ok() {
        return Err(format!("{} exists already: name a folder that does not, with --out", out.display()));
    }
    let begun = write(&shards, &chosen, &doubled, out).and_then(|()| render(out));
    let run = begun.inspect_err(|_| drop(fs::remove_dir_all(out)))?;
    let written: Ledger = read_json(&out.join("results.json"))?;
    Ok(Merged { folder: out.to_path_buf(), ledger: run.ledger, missing, doubled, troubles: written.troubles })
}

impl Shard {
    fn read(path: &Path) -> Result<Self, String> {
        let no_run = |error: String| format!("{} is no folder of a run: {error}", path.display());
        if !path.is_dir() {
            return Err(no_run("there is no such folder".to_owned()));
        }
        let about: About = read_json(&path.join("run.json")).map_err(no_run)?;
        let ledger: Ledger = read_json(&path.join("results.json")).map_err(no_run)?;
        let folder = path.join("evidence");
        let cannot = |error: std::io::Error| no_run(format!("{}: {error}", folder.display()));
        let mut evidence = BTreeMap::new();
        for file in fs::read_dir(&folder).map_err(cannot)? {
            let file = file.map_err(cannot)?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(name) = name.strip_suffix(".json").filter(|name| !name.starts_with('.')) else { continue };
            let again = |error: String| format!("{error}; upload or run shard {} again", path.display());
            let read: Evidence = read_json(&file).map_err(again)?;
            if read.name != name || !ledger.checks.iter().any(|entry| (entry.id, entry.name.as_str()) == (read.id, name)) {
                return Err(again(format!("{} is of no check that the shard's ledger lists", file.display())));
            }
            evidence.insert(read.id, (read.verdict, file));
        }
        Ok(Self { path: path.to_path_buf(), about, ledger, evidence })
    }

    fn roster(&self) -> Vec<(u16, &str)> {
        self.ledger.checks.iter().map(|entry| (entry.id, entry.name.as_str())).collect()
    }
}

/// No folder is given twice, in whatever words.
fn apart(shards: &[Shard]) -> Result<(), String> {
    let real = |shard: &Shard| fs::canonicalize(&shard.path).unwrap_or_else(|_| shard.path.clone());
    for (at, shard) in shards.iter().enumerate() {
        if shards[..at].iter().any(|other| real(other) == real(shard)) {
            return Err(format!("{} is given twice: name each shard once", shard.path.display()));
        }
    }
    Ok(())
}

/// Both are of one run: target, commit, version and checks. Embedded stand-ins listen on other ports each time.
fn belongs(first: &Shard, other: &Shard) -> Result<(), String> {
    let said = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
    let (a, b) = (&first.about, &other.about);
    let mut both = vec![
        ("target", a.target.clone(), b.target.clone()),
        ("fault", said(a.fault.as_ref()), said(b.fault.as_ref())),
        ("commit", said(a.commit.as_ref()), said(b.commit.as_ref())),
        ("suite version", a.suite_version.clone(), b.suite_version.clone()),
    ];
    if !(a.embedded && b.embedded) {
        let place = |about: &About| if about.embedded { "embedded".to_owned() } else { "at its own address".to_owned() };
        both.push(("stand-in", place(a), place(b)));
        both.push(("API", said(a.api.as_ref()), said(b.api.as_ref())));
        both.push(("WebSocket", said(a.ws.as_ref()), said(b.ws.as_ref())));
        both.push(("auth service", said(a.auth.as_ref()), said(b.auth.as_ref())));
    }
    let (one, two) = (first.path.display(), other.path.display());
    if let Some((what, a, b)) = both.into_iter().find(|(_, a, b)| a != b) {
        return Err(format!("{one} and {two} are no shards of one run: {what} {a:?}, and {b:?}; merge those of one run only"));
    }
    if first.roster() != other.roster() {
        return Err(format!("{one} and {two} are no shards of one run: their ledgers list different checks"));
    }
    Ok(())
}

/// Of each check the evidence to keep, of doubles the worst; then which are missing, and which doubled.
fn choose(shards: &[Shard]) -> (Vec<&Path>, Vec<String>, Vec<String>) {
    let (mut chosen, mut missing, mut doubled) = (Vec::new(), Vec::new(), Vec::new());
    for (id, name) in shards.first().map(Shard::roster).unwrap_or_default() {
        let ran: Vec<_> = shards.iter().filter_map(|shard| Some((shard, shard.evidence.get(&id)?))).collect();
        let mut worst: Option<&(Verdict, PathBuf)> = None;
        for (_, it) in &ran {
            if worst.is_none_or(|worst| badness(it.0) > badness(worst.0)) {
                worst = Some(it);
            }
        }
        let Some((verdict, file)) = worst else {
            let told = |shard: &&Shard| shard.ledger.checks.iter().any(|it| it.id == id && it.verdict != Verdict::NotRun);
            let lost = shards
                .iter()
                .find(told)
                .map(|shard| format!("; the ledger of {} has it, but its evidence is gone", shard.path.display()));
            missing.push(format!("{name} is missing: it ran in no shard{}", lost.unwrap_or_default()));
            continue;
        };
        if ran.len() > 1 {
            let places: Vec<_> = ran.iter().map(|(shard, it)| format!("{} ({})", shard.path.display(), it.0)).collect();
            doubled.push(format!("{name} ran in more than one shard: {}; {verdict} is kept", places.join(", ")));
        }
        chosen.push(file.as_path());
    }
    (chosen, missing, doubled)
}

/// What the service broke is worse than what the suite could not judge.
fn badness(verdict: Verdict) -> usize {
    [Verdict::NotRun, Verdict::Passed, Verdict::Errored, Verdict::TimedOut, Verdict::Failed]
        .iter()
        .position(|it| *it == verdict)
        .unwrap_or_default()
}

/// Makes the folder of the merged run, all but its reports.
fn write(shards: &[Shard], chosen: &[&Path], doubled: &[String], out: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{} cannot be written: {error}", out.display());
    fs::create_dir_all(out.join("evidence")).map_err(cannot)?;
    for file in chosen {
        let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        leaks::write(&out.join("evidence").join(file.file_name().unwrap_or_default()), &text).map_err(|error| error.to_string())?;
    }
    let Some(first) = shards.first() else { return Ok(()) };
    let run_id = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ids: Vec<_> = shards.iter().map(|shard| shard.ledger.run_id.clone()).collect();
    let mut about = About { run_id: run_id.clone(), shards: ids.clone(), ..first.about.clone() };
    // Times of one form sort as text.
    about.started_at = shards.iter().map(|shard| &shard.about.started_at).min().unwrap_or(&about.started_at).clone();
    let note = |key: &str, value: String| Setting { key: key.to_owned(), value, source: "critical merge".to_owned() };
    about.configuration.push(note("shards", ids.join(", ")));
    about.configuration.extend(doubled.iter().map(|said| note("ran twice", said.clone())));
    write_whole(&out.join("run.json"), &about).map_err(cannot)?;
    // Nothing ran yet, as far as this ledger goes: the rendering that follows reads the evidence.
    let checks = first.ledger.checks.iter().map(Entry::blank).collect();
    let blank = Ledger { run_id, checks, causes: Vec::new(), troubles: Vec::new(), ..first.ledger.clone() };
    write_whole(&out.join("results.json"), &blank).map_err(cannot)
}
