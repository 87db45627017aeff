//! `report.md`: the report for people, in the form that code hosts show. It must fit into a pull-request comment and a job
//! summary, so every list has an end.

use std::fmt::{Display, Write as _};

use super::facts::Spread;
use super::{Digest, Run};
use crate::check::Verdict;
use crate::diagnose::{Cause, Diagnosis};
use crate::evidence::{Entry, Group};
use crate::exchange::cut;

/// The report is no longer than this, in bytes.
pub const LIMIT_BYTES: usize = 60_000;
/// So many failures are told in full; the others stand in the table of causes and in `report.html`.
const FAILURES_TOLD: usize = 8;
/// So many steps of a failure are listed, the last ones.
const STEPS_TOLD: usize = 12;
/// A text in a table or a list is cut here, in characters.
const SHORT_CHARS: usize = 300;

/// The file.
#[must_use]
pub fn file(run: &Run) -> String {
    let mut out = String::new();
    head(&mut out, run);
    summary(&mut out, run);
    causes(&mut out, run);
    failures(&mut out, run);
    since(&mut out, run);
    passed(&mut out, run);
    evidence(&mut out, run);
    configuration(&mut out, run);
    metadata(&mut out, run);
    let end = format!("\n---\n\n**{}**\n", status(run));
    let room = LIMIT_BYTES - end.len();
    if out.len() > room {
        let more = "\n\n… cut here: the rest is in `report.html` and in the evidence\n";
        let at = (0..=room - more.len()).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(at);
        out.push_str(more);
    }
    out + &end
}

/// The verdict of a run in a line.
#[must_use]
pub fn status(run: &Run) -> String {
    let (count, all) = (|verdict| run.ledger.totals.get(&verdict).copied().unwrap_or(0), run.ledger.checks.len());
    let passed = count(Verdict::Passed);
    let rest: Vec<_> = Verdict::ALL[1..].iter().filter(|it| count(**it) > 0).map(|it| format!("{} {it}", count(*it))).collect();
    if passed == all {
        format!("✓ all {all} checks passed")
    } else if count(Verdict::NotRun) + passed == all {
        format!("○ {passed} of {all} passed, {}: incomplete", rest.join(", "))
    } else {
        format!("✗ {passed} of {all} passed, {}", rest.join(", "))
    }
}

fn head(out: &mut String, run: &Run) {
    let date = run.about.started_at.get(..16).unwrap_or_default().replace('T', " ");
    let _ = writeln!(out, "# Critical checks · {} · {date} UTC\n", run.about.target);
    if run.about.embedded {
        let fault =
            run.about.fault.as_ref().map_or(String::new(), |fault| format!(", which was told to break the contract (`{fault}`)"));
        let _ = writeln!(
            out,
            "> **Not staging.** This run went to the embedded stand-in{fault}: it proves the suite, and says nothing about a deployment.\n"
        );
    }
    let _ = writeln!(out, "**{}**\n", status(run));
}

/// What is broken, for whom, and why, in the first screen.
fn summary(out: &mut String, run: &Run) {
    out.push_str("## Summary\n\n");
    let red: Vec<_> =
        run.ledger.checks.iter().filter(|entry| !matches!(entry.verdict, Verdict::Passed | Verdict::NotRun)).collect();
    let missing: Vec<_> =
        run.ledger.checks.iter().filter(|entry| entry.verdict == Verdict::NotRun).map(|entry| format!("{:03}", entry.id)).collect();
    if red.is_empty() {
        let traffic = format!("{} requests and {} sockets", run.facts.requests, run.facts.sockets);
        let _ = writeln!(out, "Nothing is broken among the checks that ran: {traffic} in {:.1} s.\n", run.wall_s());
    } else {
        for cause in first_causes(run) {
            let checks: Vec<_> = cause.checks.iter().map(|id| format!("{id:03}")).collect();
            let _ = writeln!(
                out,
                "* **{}**: {}{} · {}: {}",
                cause.cause.name,
                prose(&cause.cause.what),
                cited(cause.shown_by, &cause.cause.evidence),
                many(checks.len(), "check"),
                checks.join(", ")
            );
            let _ = writeln!(out, "  * do: {} ({})", prose(&cause.cause.change), cause.cause.side.words());
        }
        for (trouble, checks) in run.troubles() {
            let _ = writeln!(out, "* **not judged**: {} · {}", prose(&trouble.what), many(checks.len(), "check"));
            let _ = writeln!(out, "  * do: {}", prose(&trouble.remedy));
        }
        out.push_str("\n| broken | users | class | cause |\n|---|---|---|---|\n");
        for entry in &red {
            let class = entry.class.map_or(String::new(), |class| class.to_string());
            let cause = entry.cause.as_deref().unwrap_or("not found");
            let _ =
                writeln!(out, "| {:03} {} | {} | {class} | {} |", entry.id, cell(&entry.title), cell(&entry.impact), cell(cause));
        }
        out.push('\n');
    }
    if !missing.is_empty() {
        let _ = writeln!(out, "**Not run**: {}. What did not run is not green.\n", missing.join(", "));
    }
    for trouble in &run.ledger.troubles {
        let _ = writeln!(out, "**Report**: {}\n", prose(trouble));
    }
}

/// A cause with the checks that it broke.
struct Told<'a> {
    cause: &'a Cause,
    /// The check whose exchanges show it.
    shown_by: u16,
    checks: Vec<u16>,
}

/// The first cause of each group of failures, the largest group first.
fn first_causes(run: &Run) -> Vec<Told<'_>> {
    let told = |group: &Group| {
        let shows = |it: &&std::sync::Arc<Digest>| leads_to(it, &group.cause);
        let digest = run.checks.iter().find(|it| shows(it) && told_here(it)).or_else(|| run.checks.iter().find(shows))?;
        let cause = digest.evidence.diagnosis.as_ref()?.causes.first()?;
        Some(Told { cause, shown_by: digest.evidence.id, checks: group.checks.clone() })
    };
    run.ledger.causes.iter().filter_map(told).collect()
}

fn causes(out: &mut String, run: &Run) {
    let all = first_causes(run);
    if all.is_empty() {
        return;
    }
    out.push_str("## Root causes\n");
    for Told { cause, shown_by, checks } in all {
        let Some(digest) = run.checks.iter().find(|it| it.evidence.id == shown_by) else { continue };
        let Some(found) = &digest.evidence.diagnosis else { continue };
        let _ = writeln!(out, "\n### {}: {}\n", cause.name, many(checks.len(), "check"));
        diagnosis(out, digest, found);
    }
    out.push('\n');
}

fn leads_to(digest: &Digest, cause: &str) -> bool {
    digest.evidence.diagnosis.as_ref().and_then(|found| found.causes.first()).is_some_and(|first| first.name == cause)
}

/// True if the check made its experiments itself, so that its numbers are those of its own evidence.
fn told_here(digest: &Digest) -> bool {
    digest.evidence.diagnosis.as_ref().is_some_and(|found| found.made_by.is_none())
}

fn diagnosis(out: &mut String, digest: &Digest, found: &Diagnosis) {
    let number = digest.evidence.id;
    for (at, why) in found.whys.iter().enumerate() {
        let _ = writeln!(out, "{}. {}{}", at + 1, prose(&why.text), cited(number, &why.evidence));
    }
    for cause in found.causes.iter().skip(1) {
        let _ = writeln!(out, "\nand **{}**: {}; do: {}", cause.name, prose(&cause.what), prose(&cause.change));
    }
    let differing: Vec<_> = found.claims.iter().filter(|row| row.differs).collect();
    if !differing.is_empty() {
        out.push_str("\n| claim | ours | required | auth service's own |\n|---|---|---|---|\n");
        for row in differing {
            let issued = row.issued.as_deref().unwrap_or("-");
            let _ = writeln!(out, "| {} | {} | {} | {} |", cell(&row.claim), cell(&row.ours), cell(&row.required), cell(issued));
        }
    }
    let (queries, steps): (Vec<&String>, Vec<_>) = found.next.iter().partition(|step| step.starts_with("log: "));
    let (changes, commands): (Vec<&String>, Vec<_>) = steps.into_iter().partition(|step| step.starts_with("change: "));
    for change in changes {
        let _ = writeln!(out, "\n**Change**: {}", prose(change.trim_start_matches("change: ")));
    }
    for (what, kind, lines) in [("Again", "sh", commands), ("In the service's log (Cloud Logging)", "text", queries)] {
        if !lines.is_empty() {
            let lines: Vec<_> = lines.iter().map(|line| fenced(&cut(line.trim_start_matches("log: "), 1_200))).collect();
            let _ = writeln!(out, "\n{what}:\n\n```{kind}\n{}\n```", lines.join("\n"));
        }
    }
    if let Some(trouble) = &found.trouble {
        let _ = writeln!(out, "\nThe diagnosis itself failed: {}", prose(trouble));
    }
}

fn failures(out: &mut String, run: &Run) {
    let red: Vec<_> = run.checks.iter().filter(|it| it.is_red()).collect();
    if red.is_empty() {
        return;
    }
    out.push_str("## Failures\n");
    for digest in red.iter().take(FAILURES_TOLD) {
        failure(out, digest);
    }
    if red.len() > FAILURES_TOLD {
        let rest: Vec<_> = red[FAILURES_TOLD..].iter().map(|it| format!("{:03}", it.evidence.id)).collect();
        let _ = writeln!(out, "\nFurther failures, told in `report.html`: {}\n", rest.join(", "));
    }
}

fn failure(out: &mut String, digest: &Digest) {
    let it = &digest.evidence;
    let class = it.class.map_or(String::new(), |class| format!(" · {class}: {}", class.meaning()));
    let _ = writeln!(out, "\n### {:03} {}\n", it.id, it.title);
    let _ = writeln!(out, "{} after {:.1} s{class} · users: {}\n", it.verdict, it.duration_ms / 1e3, it.impact);
    if let Some(failure) = &it.failure {
        let _ = writeln!(out, "* expected: **{}** (`{}`)", prose(&failure.expectation), failure.at);
        let _ = writeln!(out, "* wanted: {}", code(&failure.wanted));
        let _ = writeln!(out, "* got: {}", code(&failure.got));
    }
    if let Some(trouble) = &it.trouble {
        let _ = writeln!(out, "* could not be judged: {}\n* do: {}", prose(&trouble.what), prose(&trouble.remedy));
    }
    for wait in &it.waiting_for {
        let _ = writeln!(out, "* was waiting for: {}", prose(wait));
    }
    if let Some(cause) = it.diagnosis.as_ref().and_then(|found| found.causes.first()) {
        let _ = writeln!(out, "* cause: **{}**: {}{}", cause.name, prose(&cause.what), cited(it.id, &cause.evidence));
    }
    if let Some(received) = &digest.received {
        let _ = writeln!(out, "\nAs received:\n\n```json\n{}\n```", fenced(&pretty(received)));
    }
    let steps = &it.expectations;
    if !steps.is_empty() {
        let _ = writeln!(out, "\n<details><summary>{} up to the one that broke</summary>\n", many(steps.len(), "step"));
        let hidden = steps.len().saturating_sub(STEPS_TOLD);
        if hidden > 0 {
            let _ = writeln!(out, "* ✓ {hidden} before");
        }
        for step in &steps[hidden..] {
            let _ = writeln!(out, "* {} {}", if step.held { '✓' } else { '✗' }, prose(&step.name));
        }
        out.push_str("\n</details>\n");
    }
    let _ = writeln!(out, "\nEvidence: `evidence/{}.json` · again: `cargo test --test critical {}`", it.name, it.name);
}

fn since(out: &mut String, run: &Run) {
    let since = &run.since;
    if let Some(trouble) = &since.trouble {
        let _ = writeln!(out, "\n## Since the last run\n\nNo history: {}\n", prose(trouble));
        return;
    }
    let Some(before) = &since.before else { return };
    let list = |ids: &[u16]| ids.iter().map(|id| format!("{id:03}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "\n## Since the last run ({}, {})\n", before.run_id, before.started_at);
    let mut told = false;
    for (what, ids) in [("new failures", &since.new_failures), ("fixed", &since.fixed)] {
        if !ids.is_empty() {
            let _ = writeln!(out, "* {what}: {}", list(ids));
            told = true;
        }
    }
    for still in &since.still {
        let (id, runs) = (still.since.run_id.as_str(), still.runs);
        let _ = writeln!(out, "* still failing: {:03}, for {runs} runs, since {id} ({})", still.check, still.since.started_at);
        told = true;
    }
    for pace in &since.pace {
        let word = if pace.ms > pace.median_ms { "slower" } else { "faster" };
        let _ = writeln!(
            out,
            "* {word}: {:03} took {:.0} ms, its median was {:.0} ms (n = {})",
            pace.check, pace.ms, pace.median_ms, pace.n
        );
        told = true;
    }
    if !told {
        out.push_str("* nothing changed\n");
    }
    if since.too_few > 0 {
        let _ = writeln!(out, "* too few runs yet to tell the pace of {}", many(since.too_few, "check"));
    }
}

fn passed(out: &mut String, run: &Run) {
    let passed: Vec<&Entry> = run.ledger.checks.iter().filter(|entry| entry.verdict == Verdict::Passed).collect();
    if passed.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n## Passed ({})\n\n| check | proves | seconds |\n|---|---|---|", passed.len());
    for entry in passed {
        let _ = writeln!(out, "| {:03} | {} | {:.2} |", entry.id, cell(&entry.title), entry.duration_ms.unwrap_or_default() / 1e3);
    }
}

/// That it was a real service, over a real network.
fn evidence(out: &mut String, run: &Run) {
    let facts = &run.facts;
    out.push_str("\n## Evidence of real execution\n\n");
    let spread = |what: &str, samples: &[f64]| {
        Spread::of(samples).map(|it| {
            let percentile = |name: &str, value: Option<f64>| value.map_or(String::new(), |ms| format!(", {name} {ms:.1}"));
            let (p95, p99) = (percentile("p95", it.p95), percentile("p99", it.p99));
            format!("* {what}: min {:.1}, median {:.1}{p95}{p99}, max {:.1} ms (n = {})\n", it.min, it.median, it.max, it.n)
        })
    };
    for line in [
        spread("first byte of an answer", &facts.answers_ms),
        spread("WebSocket, dialling to welcome", &facts.welcomes_ms),
        spread("new connection (DNS, TCP, TLS)", &facts.connects_ms),
    ] {
        out.push_str(&line.unwrap_or_default());
    }
    for digest in &run.checks {
        for it in &digest.evidence.measured {
            let told = Spread::of(&it.samples_ms)
                .map_or(String::new(), |s| format!("median {:.1}, max {:.1} ms (n = {})", s.median, s.max, s.n));
            let _ = writeln!(
                out,
                "* SLA `{}`: {told}; agreed: median {} ms, tail {} ms",
                it.route, it.median_limit_ms, it.tail_limit_ms
            );
        }
    }
    let list = |all: &std::collections::BTreeSet<String>, most: usize| {
        let shown: Vec<_> = all.iter().take(most).map(|it| format!("`{it}`")).collect();
        let more = all.len().saturating_sub(most);
        if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
    };
    let _ = writeln!(
        out,
        "* {} requests ({} streams); {} WebSocket handshakes answered with 101, {} of them with a welcome; {} refused",
        facts.requests,
        facts.streams,
        facts.sockets,
        facts.welcomes_ms.len(),
        facts.sockets_refused
    );
    for (what, all) in [
        ("hosts", &facts.hosts),
        ("peers", &facts.peers),
        ("TLS", &facts.tls),
        ("HTTP", &facts.http_versions),
        ("environment as the service reports it", &facts.environments),
    ] {
        if !all.is_empty() {
            let _ = writeln!(out, "* {what}: {}", list(all, 6));
        }
    }
    let _ = writeln!(out, "* service discovery: {} bytes", facts.discovery_bytes);
    if let Some(skew) = Spread::of(&facts.skews_s) {
        let _ = writeln!(
            out,
            "* server clock: {:+.1} s against ours (median of {} `Date` headers, which count whole seconds)",
            skew.median, skew.n
        );
    }
    if !facts.errors.is_empty() {
        out.push_str(
            "\n<details><summary>Refusals and errors that really came</summary>\n\n| status | code | seen in |\n|---|---|---|\n",
        );
        for error in facts.errors.iter().take(24) {
            let _ = writeln!(out, "| {} | {} | {} |", error.status, cell(&cut(&error.code, SHORT_CHARS)), error.exchange);
        }
        out.push_str("\n</details>\n");
    }
}

fn configuration(out: &mut String, run: &Run) {
    if run.about.configuration.is_empty() {
        return;
    }
    out.push_str("\n## Configuration\n\n| key | value | from |\n|---|---|---|\n");
    for it in &run.about.configuration {
        let _ = writeln!(out, "| {} | {} | {} |", cell(&it.key), cell(&it.value), cell(&it.source));
    }
}

fn metadata(out: &mut String, run: &Run) {
    let facts = &run.facts;
    let left: Vec<_> = run
        .checks
        .iter()
        .flat_map(|it| it.evidence.left_behind.iter().map(|what| format!("{:03} {what}", it.evidence.id)))
        .collect();
    let peak = run.checks.iter().filter_map(|it| it.evidence.process.1).max();
    let processes = run.checks.iter().map(|it| it.evidence.process.0).collect::<std::collections::BTreeSet<_>>().len();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let rows: [(&str, String); 10] = [
        ("run", run.about.run_id.clone()),
        ("suite", format!("netra-critical {}", run.about.suite_version)),
        ("commit", run.about.commit.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("wall time", format!("{:.2} s", run.wall_s())),
        ("peak memory", format!("{} ({})", peak.map_or("unknown".to_owned(), mib), many(processes, "process"))),
        ("frames", format!("{} sent, {} received", facts.frames_sent, facts.frames_received)),
        ("bytes", format!("{} sent, {} received", facts.bytes_sent, facts.bytes_received)),
        ("agent runs", facts.agent_runs.to_string()),
        ("users", facts.users.len().to_string()),
        (
            "cleaned up",
            if left.is_empty() { "everything".to_owned() } else { format!("left behind: {}", cut(&left.join("; "), SHORT_CHARS)) },
        ),
    ];
    out.push_str("\n## Run\n\n| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {} |", cell(&value));
    }
}

/// A number of things.
pub(crate) fn many(n: usize, what: &str) -> String {
    let end = match (n, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{n} {what}{end}")
}

/// Evidence by number: `#4` of this check is `003#4`.
fn cited(check: u16, ids: &[String]) -> String {
    let all: Vec<_> = ids.iter().map(|id| if id.starts_with('#') { format!("{check:03}{id}") } else { id.clone() }).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

/// Text that is no markup, on one line: what a service sent cannot become a heading, a link or HTML.
fn prose(text: &str) -> String {
    let text = cut(&text.replace(['\n', '\r'], " "), 2 * SHORT_CHARS);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // Within a word, `_` emphasizes nothing.
        let within = out.ends_with(char::is_alphanumeric) && chars.peek().is_some_and(|next| next.is_alphanumeric());
        if matches!(c, '<' | '>' | '*' | '`' | '[' | ']' | '|' | '\\' | '#' | '@') || (c == '_' && !within) {
            out.push('\\');
        }
        out.push(c);
    }
    // An exchange's number is no reference to an issue, and an address no mention.
    out.replace("\\#", "#\u{200c}").replace("\\@", "@\u{200c}")
}

/// A cell of a table.
fn cell(text: &str) -> String {
    prose(&cut(text, SHORT_CHARS))
}

/// Text as it is, in a span of code.
fn code(text: &str) -> String {
    let text = cut(&text.replace(['\n', '\r'], " "), 2 * SHORT_CHARS);
    let fence = "`".repeat(longest_run(&text) + 1);
    format!("{fence} {text} {fence}")
}

/// Text within a fenced block: it cannot end the block.
fn fenced(text: &impl Display) -> String {
    text.to_string().replace("```", "`\u{200b}``")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// JSON with line breaks, where it is JSON.
fn pretty(text: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(text).ok();
    parsed.and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| text.to_owned())
}
