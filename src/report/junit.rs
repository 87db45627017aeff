//! `junit.xml`: for whatever shows the results of tests.
//!
//! One test suite, since a run has one target, one configuration and one cause of trouble at a time: its properties are said
//! once. The area of a check is in its class name, by which viewers group. What is not *passed* is a `failure`, if the service
//! broke an expectation, or else an `error`: a check without evidence is never `skipped`, which viewers show as green.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::story::{Around, story};
use super::{Digest, Run};
use crate::check::{Area, Verdict};
use crate::evidence::Entry;
use crate::exchange::cut;

/// The story of a failure takes up to this many characters; the evidence file has all of it.
const STORY_CHARS: usize = 12_000;
/// A line about what is wrong takes up to this many characters.
const MESSAGE_CHARS: usize = 1_000;

/// The file.
///
/// # Errors
/// What the writer says.
pub fn file(run: &Run) -> Result<String, String> {
    let mut suite = TestSuite::new("critical");
    suite.set_time(seconds(run.wall_s()));
    suite.timestamp = run.about.started_at.parse().ok();
    suite.add_properties(properties(run));
    suite.add_test_cases(run.ledger.checks.iter().map(|entry| case(run, entry)));
    let mut report = Report::new("netra-critical");
    report.set_time(seconds(run.wall_s())).add_test_suite(suite);
    report.to_string().map_err(|error| error.to_string())
}

fn properties(run: &Run) -> Vec<Property> {
    let about = &run.about;
    let reported: Vec<_> = run.facts.environments.iter().map(String::as_str).collect();
    let all = [
        ("target", Some(about.target.clone())),
        ("run", Some(about.run_id.clone())),
        ("suite_version", Some(about.suite_version.clone())),
        ("commit", about.commit.clone()),
        ("environment", about.settings.as_ref().map(|settings| settings.environment.clone())),
        ("environment_reported", Some(reported.join(", ")).filter(|it| !it.is_empty())),
        ("api", about.api.clone()),
        ("embedded", Some(about.embedded.to_string())),
        ("fault", about.fault.clone()),
    ];
    all.into_iter().filter_map(|(name, value)| Some(Property::new(name, clean(&value?)))).collect()
}

fn case(run: &Run, entry: &Entry) -> TestCase {
    let evidence = digest(run, entry).map(|digest| &digest.evidence);
    let mut case = TestCase::new(clean(&entry.name), status(run, entry));
    case.set_classname(format!("critical.{}", area(entry.area)));
    case.time = entry.duration_ms.map(|ms| seconds(ms / 1e3));
    case.timestamp = evidence.and_then(|it| it.started_at.parse().ok());
    case.assertions = evidence.map(|it| it.expectations.len());
    case.extra.insert("file".into(), clean(&source(&entry.name)).into());
    let all = [
        ("check", Some(format!("{:03}", entry.id))),
        ("title", Some(entry.title.clone())),
        ("impact", Some(entry.impact.clone())),
        ("class", entry.class.map(|class| class.to_string())),
        ("cause", entry.cause.clone()),
        ("evidence", evidence.map(|it| evidence_path(&it.name))),
    ];
    case.add_properties(all.into_iter().filter_map(|(name, value)| Some(Property::new(name, clean(&value?)))));
    case
}

fn status(run: &Run, entry: &Entry) -> TestCaseStatus {
    let kind = match entry.verdict {
        Verdict::Passed => return TestCaseStatus::success(),
        Verdict::Failed => NonSuccessKind::Failure,
        Verdict::Errored | Verdict::TimedOut | Verdict::NotRun => NonSuccessKind::Error,
    };
    let mut status = TestCaseStatus::non_success(kind);
    let class = entry.class.map_or_else(|| word(entry.verdict), |class| class.to_string());
    status.set_type(class).set_message(clean(&message(entry))).set_description(clean(&trace(run, entry)));
    status
}

/// One line about what is wrong with a check that did not pass.
pub(super) fn message(entry: &Entry) -> String {
    let unknown = || match entry.verdict {
        Verdict::NotRun => "did not run: no evidence was left".to_owned(),
        verdict => format!("{verdict}; the evidence says no more"),
    };
    let text = entry.summary.clone().unwrap_or_else(unknown);
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), MESSAGE_CHARS)
}

/// The story of a check that did not pass, with the answer that broke it.
pub(super) fn trace(run: &Run, entry: &Entry) -> String {
    let Some(digest) = digest(run, entry) else {
        return format!("{}\n\nagain: cargo test --test critical {}", message(entry), entry.name);
    };
    let about = &run.about;
    let target = [Some(&about.target), about.api.as_ref(), about.ws.as_ref(), about.auth.as_ref()];
    let group = run.ledger.causes.iter().find(|group| entry.cause.as_ref() == Some(&group.cause) && group.checks.len() > 1);
    let around = Around {
        target: target.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" · "),
        path: evidence_path(&entry.name),
        group: group.map(crate::evidence::Group::in_words),
    };
    let received = digest.received.as_ref().map_or(String::new(), |text| format!("\nreceived\n{text}\n"));
    cut(&format!("{}{received}", story(&digest.evidence, &around)), STORY_CHARS)
}

/// The digest of an entry's evidence.
pub(super) fn digest<'a>(run: &'a Run, entry: &Entry) -> Option<&'a Digest> {
    run.checks.iter().find(|digest| digest.evidence.name == entry.name).map(AsRef::as_ref)
}

/// The verdict as results.json has it.
pub(super) fn word(verdict: Verdict) -> String {
    verdict.to_string().replace(' ', "_")
}

/// The area as results.json has it.
pub(super) fn area(area: Area) -> String {
    serde_json::to_value(area).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The file of a check, from the root of the suite: it carries the check's name.
pub(super) fn source(name: &str) -> String {
    format!("tests/critical/{name}.rs")
}

/// The evidence file of a check, from the folder of the run.
pub(super) fn evidence_path(name: &str) -> String {
    format!("evidence/{name}.json")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The text with a replacement character for each one that XML 1.0 (§2.2, `Char`) has no way to write. The writer alone would
/// drop most of them unseen, and let U+FFFE and U+FFFF through.
fn clean(text: &str) -> String {
    let unfit = |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    text.replace(unfit, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_say_is_replaced_and_all_else_stays() {
        assert_eq!(clean("a\0b\u{1b}[31mred\u{fffe}\u{ffff}"), "a\u{fffd}b\u{fffd}[31mred\u{fffd}\u{fffd}");
        let fine = "tab\tline\nreturn\r ]]> <b>&amp;\"' 👩🏽‍🚀 \u{fffd} \u{7f} \u{10ffff}";
        assert_eq!(clean(fine), fine);
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let entry = |summary: Option<String>, verdict| Entry {
            id: 1,
            name: "probe".to_owned(),
            title: String::new(),
            area: Area::WebSocket,
            impact: String::new(),
            verdict,
            duration_ms: None,
            class: None,
            summary,
            cause: None,
            stamp: None,
        };
        assert_eq!(message(&entry(Some("wanted a,\n  got b".to_owned()), Verdict::Failed)), "wanted a, got b");
        assert!(message(&entry(Some("x".repeat(100_000)), Verdict::Failed)).len() < 1_100);
        assert!(message(&entry(None, Verdict::NotRun)).contains("no evidence"));
        assert!(message(&entry(None, Verdict::TimedOut)).starts_with("timed out"));
    }

    #[test]
    fn areas_and_verdicts_are_named_as_in_the_ledger() {
        assert_eq!((area(Area::WebSocket).as_str(), area(Area::Agents).as_str()), ("web-socket", "agents"));
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).expect("JSON"), word(verdict));
        }
    }
}
