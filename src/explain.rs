//! The story of a failure, told again from what a run left behind.

use std::path::PathBuf;

use crate::config::Places;
use crate::evidence::{Evidence, Ledger, read_json};
use crate::report::{Around, story};

/// An exit code and what to print.
pub type Told = Result<String, (u8, String)>;

/// The failures of the newest run, grouped by their cause.
///
/// # Errors
/// 1 if there are any; 2 if there is no run.
pub fn groups(places: &Places) -> Told {
    let path = latest(places).join("results.json");
    let ledger: Ledger = read_json(&path).map_err(|error| (2, error))?;
    let mut lines = vec![format!("run {} against {}", ledger.run_id, ledger.target)];
    lines.extend(ledger.totals.iter().filter(|(_, count)| **count > 0).map(|(verdict, count)| format!("{count:>4} {verdict}")));
    lines.extend(ledger.causes.iter().map(crate::evidence::Group::in_words));
    let red = |entry: &&crate::evidence::Entry| entry.class.is_some();
    for entry in ledger.checks.iter().filter(red).filter(|entry| entry.cause.is_none()) {
        lines.push(format!("1 check without a known cause: {:03} {}", entry.id, entry.summary.as_deref().unwrap_or_default()));
    }
    let text = lines.join("\n");
    if ledger.checks.iter().any(|entry| entry.class.is_some()) { Err((1, text)) } else { Ok(text) }
}

/// The newest failure of a check, by number or name: from its evidence file alone.
///
/// # Errors
/// 2 if there is no such evidence.
pub fn check(places: &Places, check: &str) -> Told {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    let runs = std::fs::read_dir(&places.out).into_iter().flatten().flatten().filter(|run| run.file_name() != "latest");
    for file in runs.filter_map(|run| std::fs::read_dir(run.path().join("evidence")).ok()).flatten().flatten() {
        let name = file.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
        let number = name.strip_prefix("test_").and_then(|rest| rest.split('_').next()).unwrap_or_default();
        let meant = name == check || number == format!("{:0>3}", check.trim_start_matches("test_"));
        if let (true, Ok(at)) = (meant, file.metadata().and_then(|about| about.modified())) {
            found.push((at, file.path()));
        }
    }
    found.sort();
    let newest = found.into_iter().rev().find_map(|(_, path)| {
        let evidence: Evidence = read_json(&path).ok()?;
        evidence.class.is_some().then_some((evidence, path))
    });
    let Some((evidence, path)) = newest else {
        return Err((2, format!("no failure of {check:?} in {}", places.out.display())));
    };
    let around = Around {
        target: format!("{}, run {} of {}", evidence.target, evidence.run_id, evidence.started_at),
        path: path.display().to_string(),
        group: None,
    };
    let mut text = story(&evidence, &around);
    if let Some(found) = &evidence.diagnosis {
        text.push_str(&found.table());
    }
    Ok(text)
}

/// The folder of the newest run.
pub(crate) fn latest(places: &Places) -> PathBuf {
    let named = std::fs::read_to_string(places.out.join("latest.txt"));
    named.map_or_else(|_| places.out.join("latest"), |run_id| places.out.join(run_id.trim()))
}
