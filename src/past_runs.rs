//! Runs that are over, side by side: `critical history`, `critical compare`, `critical report`.
//!
//! It reads what runs left behind, and starts none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::about::About;
use crate::check::Verdict;
use crate::config::Places;
use crate::evidence::{Entry, Ledger, read_json};
use crate::explain::{Told, latest};
use crate::history::median;
use crate::report::past::{self, Past, Since, store};
use crate::report::render;

/// So many runs are shown of a check.
const RUNS_SHOWN: usize = 30;
/// So many runs are offered where none of the name is there.
const RUNS_OFFERED: usize = 10;

/// The last runs of each check of the newest run's target, as lines of marks, oldest first.
///
/// # Errors
/// 2 if there is no history, or none that can be read.
pub fn history(places: &Places) -> Told {
    let (target, runs) = newest(places)?;
    let [now, earlier @ ..] = runs.as_slice() else { return Err((2, nothing(places))) };
    let since = past::compare(&now.results, earlier);
    let ledger: Option<Ledger> = read_json(&places.out.join(&now.run.run_id).join("results.json")).ok();
    let names = names(ledger.as_ref());
    let shown = &runs[..runs.len().min(RUNS_SHOWN)];
    let mut checks: Vec<u16> =
        shown.iter().flat_map(|past| &past.results).map(|it| it.check).chain(names.keys().copied()).collect();
    checks.sort_unstable();
    checks.dedup();
    let mut text = format!(
        "{target}: the last {} runs, oldest first, up to {} of {}\n✓ passed  ✗ failed  ! errored  t timed out  · not run\n",
        shown.len(),
        now.run.run_id,
        now.run.started_at
    );
    for check in checks {
        let marks: String = shown.iter().rev().map(|past| mark(past.of(check).map(|it| it.verdict))).collect();
        let times: Vec<f64> =
            runs.iter().filter_map(|past| past.of(check)).filter(|it| it.verdict == Verdict::Passed).map(|it| it.ms).collect();
        let time = if times.is_empty() { "-".to_owned() } else { format!("{:.0} ms", median(&times)) };
        let name = names.get(&check).map_or("", String::as_str);
        let _ = writeln!(text, "{}", format!("{check:03} {marks}  {time:>8}  {name}{}", changed(check, &since)).trim_end());
    }
    Ok(text.trim_end().to_owned())
}

/// The last runs of one check, by number or name, a line each, oldest first.
///
/// # Errors
/// 2 if there is no history that can be read, or nothing of the check in it.
pub fn history_of(places: &Places, check: &str) -> Told {
    let (target, runs) = newest(places)?;
    let number = check.trim_start_matches("test_").split('_').next().and_then(|number| number.parse::<u16>().ok());
    let ran = |past: &Past| number.and_then(|number| past.of(number).cloned()).map(|it| (past.run.clone(), it));
    let mut shown: Vec<_> = runs.iter().filter_map(ran).take(RUNS_SHOWN).collect();
    let Some(number) = number.filter(|_| !shown.is_empty()) else {
        let mut known: Vec<_> = runs.iter().flat_map(|past| &past.results).map(|it| format!("{:03}", it.check)).collect();
        known.sort();
        known.dedup();
        return Err((2, format!("no run of {check:?} against {target}; choose one of: {}", known.join(", "))));
    };
    shown.reverse();
    let mut text = format!("{number:03} against {target}\n");
    for (run, it) in shown {
        let (verdict, cause) = (it.verdict.to_string(), it.cause.unwrap_or_default());
        let line =
            format!("{}  {}  {} {verdict:<9}  {:>8.0} ms  {cause}", run.started_at, run.run_id, mark(Some(it.verdict)), it.ms);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    Ok(text.trim_end().to_owned())
}

/// Renders the reports of a run again, of the newest one if none is named.
///
/// # Errors
/// 2 if there is no such run, or its ledger cannot be written.
pub fn report(places: &Places, run: &str) -> Told {
    let folder = resolve(places, run).map_err(|error| (2, error))?;
    render(&folder).map_err(|error| (2, error))?;
    let ledger: Ledger = read_json(&folder.join("results.json")).map_err(|error| (2, error))?;
    let lines = std::iter::once(folder.join("report.md").display().to_string()).chain(ledger.troubles);
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// What changed from one run to another one: failures, causes, pace.
///
/// # Errors
/// 1 if something fails in `b` that did not in `a`; 2 if one of them is no run.
pub fn compare(places: &Places, a: &str, b: &str) -> Told {
    let read = |word: &str| {
        let folder = resolve(places, word)?;
        Ok((read_json(&folder.join("results.json"))?, read_json(&folder.join("run.json"))?))
    };
    let (a, b) = (read(a).map_err(|error: String| (2, error))?, read(b).map_err(|error: String| (2, error))?);
    let (text, new) = differences(&a, &b);
    if new { Err((1, text)) } else { Ok(text) }
}

/// What differs in the second run, as text, and whether anything fails in it that did not in the first.
#[must_use]
pub fn differences((a, about_a): &(Ledger, About), (b, about_b): &(Ledger, About)) -> (String, bool) {
    let mut text = String::new();
    let (target_a, target_b) = (about_a.compared_by(), about_b.compared_by());
    if target_a != target_b {
        let _ = writeln!(text, "different targets: {target_a}, and {target_b}; what differs may be theirs");
    }
    for (name, ledger, about) in [("A", a, about_a), ("B", b, about_b)] {
        let _ =
            writeln!(text, "{name}: run {} of {} against {}: {}", ledger.run_id, about.started_at, about.target, totals(ledger));
    }
    let red = |entry: &Entry| !matches!(entry.verdict, Verdict::Passed | Verdict::NotRun);
    let passed = |entry: &Entry| entry.verdict == Verdict::Passed;
    let before = |entry: &Entry| a.checks.iter().find(|it| it.id == entry.id);
    let was = |entry: &Entry, wanted: &dyn Fn(&Entry) -> bool| before(entry).is_some_and(wanted);
    let new: Vec<_> = b.checks.iter().filter(|it| red(it) && !was(it, &red)).collect();
    let line = |entry: &&Entry| {
        let unseen = if was(entry, &|it| it.verdict != Verdict::NotRun) { "" } else { " (not run in A)" };
        let cause = entry.cause.as_ref().map_or(String::new(), |cause| format!(" ({cause})"));
        let summary = entry.summary.as_deref().map_or(String::new(), |summary| format!(": {summary}"));
        format!("{:03} {}{cause}{unseen}{summary}", entry.id, entry.verdict)
    };
    section(&mut text, "new failures", new.iter().map(line));
    let title = |entry: &Entry| format!("{:03} {}", entry.id, entry.title);
    section(&mut text, "fixed", b.checks.iter().filter(|it| passed(it) && was(it, &red)).map(title));
    section(&mut text, "still failing", b.checks.iter().filter(|it| red(it) && was(it, &red)).map(|it| line(&it)));
    let absent = |entry: &&Entry| entry.verdict == Verdict::NotRun && was(entry, &|it| it.verdict != Verdict::NotRun);
    section(&mut text, "not run in B", b.checks.iter().filter(absent).map(title));
    let causes = |of: &Ledger, not_of: &Ledger| {
        let other = |cause: &String| not_of.causes.iter().any(|group| group.cause == *cause);
        of.causes.iter().filter(|group| !other(&group.cause)).map(crate::evidence::Group::in_words).collect::<Vec<_>>()
    };
    section(&mut text, "causes that came", causes(b, a));
    section(&mut text, "causes that went", causes(a, b));
    let pace = b.checks.iter().filter(|it| passed(it) && was(it, &passed)).filter_map(|entry| {
        let (now, then) = (entry.duration_ms?, before(entry)?.duration_ms.filter(|ms| *ms > 0.0)?);
        Some(format!("{:03} {then:>7.0} ms → {now:>7.0} ms  × {:.2}  {}", entry.id, now / then, entry.name))
    });
    section(&mut text, "pace of what passed in both", pace);
    (text.trim_end().to_owned(), !new.is_empty())
}

fn section(text: &mut String, title: &str, lines: impl IntoIterator<Item = String>) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "{title}");
    }
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

/// As in `23 passed, 2 failed`.
pub(crate) fn totals(ledger: &Ledger) -> String {
    let some = ledger.totals.iter().filter(|(_, count)| **count > 0);
    some.map(|(verdict, count)| format!("{count} {verdict}")).collect::<Vec<_>>().join(", ")
}

/// The folder of a run: by its id, its path, `latest`, or `latest~2` for the second one before it.
///
/// # Errors
/// No such run; names those that exist.
pub fn resolve(places: &Places, word: &str) -> Result<PathBuf, String> {
    let runs = runs(&places.out);
    let offered = || {
        let ids: Vec<_> = runs.iter().take(RUNS_OFFERED).map(|(_, id)| id.as_str()).collect();
        let ids = if ids.is_empty() { "no runs; run the checks first".to_owned() } else { format!("these: {}", ids.join(", ")) };
        format!("no run {word:?}; in {} there are {ids}", places.out.display())
    };
    if let Some(back) = word.strip_prefix("latest~") {
        let newest = std::fs::canonicalize(latest(places)).ok();
        let newest =
            newest.and_then(|path| runs.iter().position(|(_, id)| path.file_name().is_some_and(|name| name == id.as_str())));
        let back: usize = back.parse().map_err(|_| offered())?;
        return runs.get(newest.unwrap_or_default().saturating_add(back)).map(|(_, id)| places.out.join(id)).ok_or_else(offered);
    }
    let named = if word == "latest" { latest(places) } else { places.out.join(word) };
    let given = [named, PathBuf::from(word)];
    given.into_iter().find(|path| !word.is_empty() && path.join("results.json").is_file()).ok_or_else(offered)
}

/// Runs of a folder with their starts, newest first.
fn runs(out: &Path) -> Vec<(String, String)> {
    let folders = std::fs::read_dir(out).into_iter().flatten().flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
    let started = |folder: std::fs::DirEntry| {
        let about: About = read_json(&folder.path().join("run.json")).ok()?;
        folder.path().join("results.json").is_file().then(|| (about.started_at, folder.file_name().to_string_lossy().into_owned()))
    };
    let mut all: Vec<_> = folders.filter_map(started).collect();
    all.sort();
    all.reverse();
    all
}

fn newest(places: &Places) -> Result<(String, Vec<Past>), (u8, String)> {
    let found = store::newest(&places.out.join("history.sqlite"), store::RUNS_KEPT).map_err(|error| (2, error))?;
    found.ok_or_else(|| (2, nothing(places)))
}

fn nothing(places: &Places) -> String {
    format!("the history in {} is empty; run the checks first", places.out.display())
}

fn names(ledger: Option<&Ledger>) -> BTreeMap<u16, String> {
    ledger.into_iter().flat_map(|it| &it.checks).map(|entry| (entry.id, entry.name.clone())).collect()
}

fn mark(verdict: Option<Verdict>) -> char {
    match verdict {
        Some(Verdict::Passed) => '✓',
        Some(Verdict::Failed) => '✗',
        Some(Verdict::Errored) => '!',
        Some(Verdict::TimedOut) => 't',
        Some(Verdict::NotRun) | None => '·',
    }
}

/// What changed for a check in the newest run, as the end of its line.
fn changed(check: u16, since: &Since) -> String {
    let mut said = String::new();
    if since.new_failures.contains(&check) {
        said.push_str("  new failure");
    }
    if since.fixed.contains(&check) {
        said.push_str("  fixed");
    }
    if let Some(still) = since.still.iter().find(|it| it.check == check) {
        let _ = write!(said, "  failing since {} ({} runs)", still.since.started_at, still.runs);
    }
    if let Some(pace) = since.pace.iter().find(|it| it.check == check) {
        let word = if pace.ms > pace.median_ms { "slower" } else { "faster" };
        let _ = write!(said, "  {word}: {:.0} ms, median of {} earlier passes {:.0} ms", pace.ms, pace.n, pace.median_ms);
    }
    said
}
