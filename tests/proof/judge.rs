//! Judging the suite by what its checks did: survivors, expectations that nothing breaks, collateral; and the matrix.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use netra_critical::Verdict;
use netra_critical::evidence::Evidence;
use netra_stand_in::faults;

use crate::plant::{Job, Run};
use crate::table::{Key, Table};

/// What the proof found wrong, a line each, and what it counted.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) lines: Vec<String>,
    survivors: usize,
    faults: usize,
    expectations: usize,
    never: usize,
}

impl Findings {
    /// Judges the runs of faults against the table and the sound run.
    pub(crate) fn of(table: &Table, sound: &Run, planted: &[Run]) -> Self {
        let mut it = Self::default();
        let mut broken: BTreeSet<Key> = BTreeSet::new();
        let (mut faults, mut alive) = (BTreeSet::new(), BTreeSet::new());
        for run in planted {
            let fault = run.job.fault.as_deref().unwrap_or_default();
            faults.insert(fault);
            for check in &run.job.checks {
                match survivor(table, run, fault, *check) {
                    None => broken.extend(run.of(*check).and_then(|it| Some((*check, it.failure.as_ref()?.expectation.clone())))),
                    Some(how) => {
                        alive.insert(fault);
                        it.lines.push(format!("survivor    {fault}: {how}"));
                    }
                }
            }
        }
        (it.faults, it.survivors) = (faults.len(), alive.len());
        let judged: BTreeSet<Key> = sound
            .evidence
            .iter()
            .flat_map(|evidence| evidence.expectations.iter().map(|judged| (evidence.id, judged.name.clone())))
            .collect();
        it.expectations = judged.len();
        for key @ (check, name) in &judged {
            if !broken.contains(key) {
                it.never += 1;
                let told = match table.breaks.get(key).map(Vec::len) {
                    Some(0) => "its line names none",
                    Some(_) => "those of its line do not break it",
                    None => "it has no line",
                };
                it.lines.push(format!("never       {check:03} '{name}' is broken by no fault: {told} (kills/{check:03}.toml)"));
            }
        }
        let ran: BTreeSet<u16> = sound.evidence.iter().map(|evidence| evidence.id).collect();
        for (check, name) in table.breaks.keys().filter(|key| ran.contains(&key.0) && !judged.contains(*key)) {
            it.lines.push(format!(
                "gone        {check:03} '{name}' stands in kills/{check:03}.toml, but a sound run does not judge it: deleted, or renamed?"
            ));
        }
        it
    }

    /// Adds the checks that a fault turned red although nobody expects it to: any under a control, those without the class to
    /// be reported under a fault of transport, those that neither catalogue nor table names under all others.
    pub(crate) fn add_collateral(&mut self, table: &Table, run: &Run) {
        let fault = run.job.fault.as_deref().unwrap_or_default();
        let known = faults().find(|it| it.name == fault);
        let reports = known.and_then(|it| it.reports);
        let right = |it: &Evidence| match reports {
            Some(class) => it.class.is_some_and(|it| it.to_string() == class),
            None => known.is_some_and(|known| known.kills.contains(&it.id)) || !table.of(fault, it.id).is_empty(),
        };
        for it in run.evidence.iter().filter(|it| it.verdict != Verdict::Passed && !right(it)) {
            if !it.failure.as_ref().is_some_and(|failure| table.may_break(fault, &failure.expectation)) {
                let class = reports.map_or(String::new(), |class| format!("; it should report {class}"));
                self.lines
                    .push(format!("collateral  {fault}: {}{class} (if that is right, say why in kills/collateral.toml)", line(it)));
            }
        }
        if run.evidence.len() != run.listed {
            self.lines.push(format!("trouble     {fault}: {} of {} checks left evidence", run.evidence.len(), run.listed));
        }
    }

    /// Shows that the proof can fail: a fault that changes nothing survives, an expectation without a line is never broken, and
    /// one that is not judged is gone.
    pub(crate) fn self_test(table: &Table, sound: &Run) -> Result<(), String> {
        let first = sound.evidence.iter().find_map(|it| Some((it.id, it.expectations.first()?.name.clone())));
        let key = first.ok_or("the sound run judges nothing")?;
        let wants = |what: &str, findings: &Self| {
            let found = findings.lines.iter().any(|line| line.starts_with(what));
            if found { Ok(()) } else { Err(format!("the proof is broken: it does not see that something is {what}")) }
        };
        let idle = Run { job: Job { fault: Some("control-no-op".to_owned()), checks: vec![key.0] }, ..sound.clone() };
        wants("survivor", &Self::of(table, sound, &[idle]))?;
        let mut shorter = table.clone();
        shorter.breaks.remove(&key);
        wants("never", &Self::of(&shorter, sound, &[]))?;
        let mut longer = table.clone();
        longer.breaks.insert((key.0, "nobody judges this".to_owned()), Vec::new());
        wants("gone", &Self::of(&longer, sound, &[]))
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} faults, {} killed, {} survivors; {} expectations, {} broken, {} never",
            self.faults,
            self.faults - self.survivors,
            self.survivors,
            self.expectations,
            self.expectations - self.never,
            self.never
        )
    }
}

/// How a check outlived a fault that must turn it red, at an expectation that speaks of it.
fn survivor(table: &Table, run: &Run, fault: &str, check: u16) -> Option<String> {
    let expected = table.of(fault, check);
    let Some(evidence) = run.of(check) else { return Some(format!("{check:03} did not run")) };
    if let Some(class) = faults().find(|it| it.name == fault).and_then(|it| it.reports) {
        let reported = evidence.verdict != Verdict::Passed && evidence.class.is_some_and(|it| it.to_string() == class);
        return (!reported).then(|| format!("{}; it should not pass, and report {class}", line(evidence)));
    }
    let broke = evidence.failure.as_ref().map(|failure| failure.expectation.as_str());
    if expected.is_empty() {
        return Some(format!("{}; no line of kills/{check:03}.toml names this fault", line(evidence)));
    }
    if evidence.verdict == Verdict::Failed && broke.is_some_and(|name| expected.contains(name)) {
        return None;
    }
    let names: Vec<_> = expected.into_iter().map(|name| format!("'{name}'")).collect();
    Some(format!("{}; it should fail at {}", line(evidence), names.join(" or ")))
}

/// A check's end in a line.
pub(crate) fn line(it: &Evidence) -> String {
    let class = it.class.map_or(String::new(), |class| format!(" ({class})"));
    let what = it.failure.as_ref().map(|failure| format!("'{}'", failure.expectation));
    let what = what.or(it.trouble.as_ref().map(|trouble| trouble.what.clone())).or(it.waiting_for.last().cloned());
    format!("{:03} {}{class} {}", it.id, it.verdict, what.unwrap_or_default())
}

/// Writes `matrix.json` and `matrix.md`: who failed at what under which fault, whether it was to or not.
pub(crate) fn write_matrix(folder: &Path, summary: &str, table: &Table, runs: &[&Run]) -> Result<(), String> {
    let mut rows = Vec::new();
    let mut by_check: BTreeMap<u16, String> = BTreeMap::new();
    for run in runs {
        let fault = run.job.fault.as_deref().unwrap_or_default();
        for it in run.evidence.iter().filter(|it| it.verdict != Verdict::Passed || run.job.checks.contains(&it.id)) {
            let expectation = it.failure.as_ref().map_or("", |failure| failure.expectation.as_str());
            let class = it.class.map_or(String::new(), |class| class.to_string());
            let wanted = table.of(fault, it.id).contains(expectation);
            let cell = |text: &str| text.replace('|', "\\|");
            let _ = writeln!(
                by_check.entry(it.id).or_default(),
                "| {} | {} | {class} | {} | {} |",
                cell(fault),
                it.verdict,
                cell(expectation),
                if wanted { "expected" } else { "beside" }
            );
            rows.push(serde_json::json!({
                "fault": fault, "check": it.id, "expectation": expectation, "verdict": it.verdict, "class": it.class,
                "ms": it.duration_ms, "expected": wanted,
            }));
        }
    }
    let mut text = format!("# Which fault turns what red\n\n{summary}\n");
    for (check, lines) in by_check {
        let _ =
            write!(text, "\n## {check:03}\n\n| fault | verdict | class | broken expectation | |\n|---|---|---|---|---|\n{lines}");
    }
    let json = serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).map_err(|error| format!("{name}: {error}"));
    write("matrix.json", &json)?;
    write("matrix.md", text.as_bytes())
}
