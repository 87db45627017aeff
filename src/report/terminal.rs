//! What the terminal shows of a run beside libtest's own lines: a line for each check that has ended, and a block when the last
//! one has. All of it goes to standard error, past libtest's capture, which takes only what tests print.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use super::{Run, github, markdown};
use crate::check::Verdict;
use crate::config::Surroundings;
use crate::evidence::{Evidence, RunFolder};
use crate::exchange::cut;

/// The block at the end has no more lines.
pub const BLOCK_LINES: usize = 25;
/// So many causes are told there.
const CAUSES_TOLD: usize = 5;
/// A line is cut here, in characters.
const WIDTH: usize = 160;

/// Checks of this process that have ended.
static ENDED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says that a check has ended, and, if it was the last one of this process, how the run went.
pub(crate) fn ended(folder: &RunFolder, around: &Surroundings, evidence: &Evidence) {
    // A runner with a process a check has lines of its own, and nobody here knows when its run ends.
    if around.process_per_check || folder.off {
        return;
    }
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    ended.insert(evidence.name.clone());
    let color = !around.no_color && io::stderr().is_terminal();
    let mut text = String::new();
    // With one thread libtest leaves the name of a check at the start of a line until it has ended.
    if !around.one_thread {
        text = line(evidence, color) + "\n";
    }
    let names: Vec<_> = folder.names().collect();
    if expected(&names, &around.arguments).iter().all(|name| ended.contains(*name)) {
        let run = super::fold::current(folder);
        text.push('\n');
        text.push_str(&block(&run, &folder.path.display().to_string(), color));
        if let Some(job) = &around.github {
            text.push_str(&github::tell(&run, job));
        }
    }
    // Standard error that is closed hides this text and nothing else.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A check in a line.
#[must_use]
pub fn line(evidence: &Evidence, color: bool) -> String {
    let cause = evidence.diagnosis.as_ref().and_then(|found| found.causes.first());
    let cause = cause.map_or(String::new(), |cause| format!(" · {}", cause.name));
    let class = evidence.class.map_or(String::new(), |class| format!(" · {class}"));
    let seconds = evidence.duration_ms / 1e3;
    let text = format!("{:03} {:<9} {seconds:>5.1} s  {}{class}{cause}", evidence.id, evidence.verdict.to_string(), evidence.title);
    paint(evidence.verdict, &cut(&text, WIDTH), color)
}

/// How a run went, in a few lines: verdict, causes, what is new, and where the report is.
#[must_use]
pub fn block(run: &Run, folder: &str, color: bool) -> String {
    let red = run.ledger.checks.iter().map(|entry| entry.verdict).filter(|verdict| *verdict != Verdict::Passed).max();
    let verdict = if run.ledger.totals.get(&Verdict::Failed).is_some_and(|n| *n > 0) {
        Verdict::Failed
    } else {
        red.unwrap_or(Verdict::Passed)
    };
    let what = if run.about.embedded { " (embedded: this proves the suite, not staging)" } else { "" };
    let mut lines = vec![format!("critical checks · {}{what} · run {}", run.about.target, run.about.run_id)];
    let facts = &run.facts;
    let status =
        format!("{} · {:.1} s, {} requests, {} sockets", markdown::status(run), run.wall_s(), facts.requests, facts.sockets);
    lines.push(paint(verdict, &status, color));
    for group in run.ledger.causes.iter().take(CAUSES_TOLD) {
        lines.push(group.in_words());
        if let Some(cause) = run.checks.iter().filter_map(|it| it.cause()).find(|cause| cause.name == group.cause) {
            lines.push(format!("    {}", cause.what));
            lines.push(format!("    do: {} ({})", cause.change, cause.side.words()));
        }
    }
    let more = run.ledger.causes.len().saturating_sub(CAUSES_TOLD);
    if more > 0 {
        lines.push(format!("{more} further causes: see the report"));
    }
    for (trouble, checks) in run.troubles().iter().take(2) {
        lines.push(format!("{} could not be judged: {}", markdown::many(checks.len(), "check"), trouble.what));
        lines.push(format!("    do: {}", trouble.remedy));
    }
    let without = run.checks.iter().filter(|it| it.is_red() && it.cause().is_none() && it.evidence.trouble.is_none());
    let without: Vec<_> = without.map(|it| &it.evidence).collect();
    if !without.is_empty() {
        let ids: Vec<_> = without.iter().map(|it| format!("{:03}", it.id)).collect();
        lines.push(format!("without a known cause: {}", ids.join(", ")));
        let broken = without.iter().filter_map(|it| Some(format!("    {:03} broke: {}", it.id, it.failure.as_ref()?.expectation)));
        lines.extend(broken.take(CAUSES_TOLD));
    }
    let list = |ids: &[u16]| ids.iter().map(|id| format!("{id:03}")).collect::<Vec<_>>().join(", ");
    let still: Vec<u16> = run.since.still.iter().map(|it| it.check).collect();
    for (what, ids) in [("new failures", &run.since.new_failures), ("fixed", &run.since.fixed), ("still failing", &still)] {
        if !ids.is_empty() {
            lines.push(format!("{what}: {}", list(ids)));
        }
    }
    lines.extend(run.ledger.troubles.iter().take(2).map(|trouble| format!("report: {trouble}")));
    lines.truncate(BLOCK_LINES - 1);
    lines.push(format!("report  {folder}/report.html, report.md"));
    lines.iter().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{}", cut(line, 4 * WIDTH).replace('\n', " "));
        out
    })
}

fn paint(verdict: Verdict, text: &str, color: bool) -> String {
    let code = match verdict {
        Verdict::Passed => "32",
        Verdict::Failed => "31",
        Verdict::Errored | Verdict::TimedOut => "35",
        Verdict::NotRun => "33",
    };
    if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The checks that libtest runs with these arguments: filters are parts of a test's path, `--exact` makes them the whole of it,
/// `--skip` takes away.
fn expected<'a>(names: &[&'a str], arguments: &[String]) -> Vec<&'a str> {
    const WITH_VALUE: [&str; 5] = ["--test-threads", "--format", "--color", "--logfile", "--shuffle-seed"];
    let (mut filters, mut skips, mut exact) = (Vec::new(), Vec::new(), false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--exact" => exact = true,
            "--skip" => skips.extend(arguments.next().map(String::as_str)),
            "-Z" => drop(arguments.next()),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => skips.extend(option.strip_prefix("--skip=")),
            filter => filters.push(filter),
        }
    }
    let fits = |name: &str, filter: &str| {
        let path = format!("{name}::{name}");
        if exact { path == filter } else { path.contains(filter) }
    };
    let chosen = |name: &&&str| {
        (filters.is_empty() || filters.iter().any(|filter| fits(name, filter))) && !skips.iter().any(|skip| fits(name, skip))
    };
    names.iter().filter(chosen).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_of_a_filter_are_known_as_libtest_knows_them() {
        let names = ["test_001_a_real", "test_002_b_real", "test_012_c_real"];
        let of = |arguments: &[&str]| expected(&names, &arguments.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), names);
        assert_eq!(of(&["--nocapture", "--test-threads", "1"]), names);
        assert_eq!(of(&["test_00"]), names[..2]);
        assert_eq!(of(&["test_001", "c_real", "--format=terse"]), [names[0], names[2]]);
        assert_eq!(of(&["--skip", "test_00"]), [names[2]]);
        assert_eq!(of(&["--skip=b_real", "test_00"]), [names[0]]);
        assert_eq!(of(&["--exact", "test_002_b_real::test_002_b_real"]), [names[1]]);
        assert_eq!(of(&["--exact", "test_002_b_real"]), [""; 0]);
    }
}
