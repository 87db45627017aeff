//! `ctrf.json`: the Common Test Report Format (<https://ctrf.io>, schema 0.0).
//!
//! It has no word for *errored* and *timed out*: they are `failed`, and `rawStatus` says which. *Not run* is `other`; `skipped`
//! and `pending` would say that somebody meant it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Run;
use super::junit::{area, digest, evidence_path, message, source, trace, word};
use crate::check::Verdict;
use crate::evidence::{Entry, Evidence};

/// The version of the format.
const VERSION: &str = "0.0.0";
/// This many expectations of a check are listed, the last ones.
const STEPS: usize = 200;

/// The file.
#[must_use]
pub fn file(run: &Run) -> String {
    let about = &run.about;
    let tests: Vec<Value> = run.ledger.checks.iter().map(|entry| test(run, entry)).collect();
    let environment = json!({
        "reportName": format!("critical checks of {}", about.target),
        "testEnvironment": about.target,
        "commit": about.commit,
        "osPlatform": std::env::consts::OS,
        "healthy": run.ledger.checks.iter().all(|entry| entry.verdict == Verdict::Passed),
        "extra": {
            "api": about.api, "ws": about.ws, "auth": about.auth, "embedded": about.embedded, "fault": about.fault,
            "environments": run.facts.environments,
        },
    });
    let report = json!({
        "reportFormat": "CTRF",
        "specVersion": VERSION,
        "runId": about.run_id,
        "timestamp": run.ledger.updated_at,
        "generatedBy": format!("netra-critical {}", about.suite_version),
        "results": {
            "tool": { "name": "netra-critical", "version": about.suite_version },
            "summary": summary(run),
            "tests": tests,
            "environment": known(environment),
        },
    });
    format!("{report:#}\n")
}

fn summary(run: &Run) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &run.ledger.checks {
        *counts.entry(status(entry.verdict)).or_default() += 1;
    }
    let count = |status: &str| counts.get(status).copied().unwrap_or_default();
    let started = run.checks.iter().filter_map(|it| millis(&it.evidence.started_at)).min();
    let start = started.or_else(|| millis(&run.about.started_at)).unwrap_or_default();
    let duration = whole(run.wall_s() * 1e3);
    json!({
        "tests": run.ledger.checks.len(),
        "passed": count("passed"),
        "failed": count("failed"),
        "skipped": 0,
        "pending": 0,
        "other": count("other"),
        "suites": 1,
        "start": start,
        "stop": start.saturating_add(duration),
        "duration": duration,
        "extra": { "verdicts": run.ledger.totals, "causes": run.ledger.causes },
    })
}

fn test(run: &Run, entry: &Entry) -> Value {
    let red = entry.verdict != Verdict::Passed;
    let duration = whole(entry.duration_ms.unwrap_or_default());
    let evidence = digest(run, entry).map(|digest| &digest.evidence);
    let start = evidence.and_then(|it| millis(&it.started_at));
    let class = entry.class.map(|class| class.to_string());
    let tags: Vec<_> = class.iter().cloned().chain([area(entry.area)]).collect();
    known(json!({
        "testId": entry.name,
        "name": entry.name,
        "status": status(entry.verdict),
        "rawStatus": word(entry.verdict),
        "duration": duration,
        "start": start,
        "stop": start.map(|start| start.saturating_add(duration)),
        "suite": ["critical", area(entry.area)],
        "message": red.then(|| message(entry)),
        "trace": red.then(|| trace(run, entry)),
        "tags": tags,
        "type": "e2e",
        "filePath": source(&entry.name),
        "steps": evidence.map(steps),
        "attachments": evidence.map(|it| {
            json!([{ "name": "evidence", "contentType": "application/json", "path": evidence_path(&it.name) }])
        }),
        "extra": known(json!({
            "check": entry.id,
            "title": entry.title,
            "impact": entry.impact,
            "class": class,
            "cause": entry.cause,
            "run": run.ledger.run_id,
            "at": evidence.and_then(|it| it.failure.as_ref()).map(|failure| &failure.at),
        })),
    }))
}

/// The expectations, in the order they were judged.
fn steps(evidence: &Evidence) -> Vec<Value> {
    let judged = &evidence.expectations[evidence.expectations.len().saturating_sub(STEPS)..];
    let step = |held: bool| if held { "passed" } else { "failed" };
    judged.iter().map(|it| json!({ "name": it.name, "status": step(it.held) })).collect()
}

fn status(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed | Verdict::Errored | Verdict::TimedOut => "failed",
        Verdict::NotRun => "other",
    }
}

/// The object without members that are not known: the format has no `null`.
fn known(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into(),
        other => other,
    }
}

/// Milliseconds since 1970 of an ISO 8601 time.
fn millis(text: &str) -> Option<i64> {
    text.parse().ok().map(jiff::Timestamp::as_millisecond)
}

/// Whole milliseconds: the format wants integers.
#[expect(clippy::cast_possible_truncation, reason = "a cast from float keeps within the integer's range")]
fn whole(ms: f64) -> i64 {
    ms.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_pass_is_passed_and_nothing_is_skipped() {
        let all = Verdict::ALL.map(status);
        assert_eq!(all, ["passed", "failed", "failed", "failed", "other"]);
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(known(json!({ "a": null, "b": 1, "c": [null] })), json!({ "b": 1, "c": [null] }));
    }

    #[test]
    fn times_are_whole_milliseconds() {
        assert_eq!((whole(1.5), whole(0.2), whole(f64::NAN)), (2, 0, 0));
        assert_eq!(millis("1970-01-01T00:00:01.250Z"), Some(1_250));
        assert_eq!(millis("soon"), None);
    }
}
