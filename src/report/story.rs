//! What a person reads when a check did not pass: verdict, expectation, cause, and the exchange that shows it.

use std::fmt::Write as _;

use crate::check::{Check, Verdict};
use crate::config::ConfigError;
use crate::diagnose::Diagnosis;
use crate::evidence::Evidence;
use crate::exchange::{Exchange, Kind, Phase, cut};
use crate::suite::Suite;

/// A body is printed up to this many characters; the evidence file keeps more.
pub const BODY_SHOWN_CHARS: usize = 2_000;
/// A frame is printed up to this many characters.
pub const FRAME_SHOWN_CHARS: usize = 600;
/// This many frames of a connection are printed, the last ones.
pub const FRAMES_SHOWN: usize = 24;
/// This many exchanges are printed: those the expectation speaks of, or else the last ones of the check.
const EXCHANGES_SHOWN: usize = 4;

/// The text for a check that could not even start.
#[must_use]
pub fn without_suite(check: &Check, error: &ConfigError) -> String {
    let mut out = String::new();
    line(&mut out, "ERRORED", &format!("{:03} {}", check.id, check.title));
    line(&mut out, "because", &error.what);
    line(&mut out, "do", &error.remedy);
    line(&mut out, "class", "suite: nothing was asked of the service, so this says nothing about it");
    out
}

/// What the story of a failure needs beside its evidence.
#[derive(Clone, Debug)]
pub struct Around {
    /// The target, with its addresses where they are known.
    pub target: String,
    /// The evidence file.
    pub path: String,
    /// Failures of the run with the same cause, where there are others.
    pub group: Option<String>,
}

impl Around {
    /// Of a run that is under way.
    #[must_use]
    pub fn of(suite: &Suite, evidence: &Evidence) -> Self {
        let target = &suite.target;
        let cause = evidence.diagnosis.as_ref().and_then(|found| found.causes.first()).map(|cause| cause.name.as_str());
        let groups = suite.folder.written().map(|ledger| ledger.causes).unwrap_or_default();
        let group = groups.into_iter().find(|group| Some(group.cause.as_str()) == cause && group.checks.len() > 1);
        Self {
            target: format!("{} · {} · {} · {}", target.name, target.api, target.ws, target.auth),
            path: suite.folder.evidence_path(&evidence.name).display().to_string(),
            group: group.map(|group| format!("so far {}", group.in_words())),
        }
    }
}

/// The whole story of a check that did not pass.
#[must_use]
pub fn story(evidence: &Evidence, around: &Around) -> String {
    let mut out = String::new();
    line(&mut out, &evidence.verdict.to_string().to_uppercase(), &format!("{:03} {}", evidence.id, evidence.title));
    line(&mut out, "impact", &evidence.impact);
    line(&mut out, "target", &around.target);
    if let Some(failure) = &evidence.failure {
        line(&mut out, "expectation", &failure.expectation);
        line(&mut out, "wanted", &failure.wanted);
        line(&mut out, "got", &failure.got);
        line(&mut out, "at", &failure.at);
    }
    if let Some(trouble) = &evidence.trouble {
        line(&mut out, "because", &trouble.what);
        line(&mut out, "do", &trouble.remedy);
    }
    if evidence.verdict == Verdict::TimedOut {
        line(&mut out, "deadline", &format!("after {:.0} s (deadlines.check_s of the target)", evidence.duration_ms / 1e3));
        let waits = if evidence.waiting_for.is_empty() {
            "nothing on the wire: the check itself hangs".to_owned()
        } else {
            evidence.waiting_for.join("; in it: ")
        };
        line(&mut out, "waiting for", &waits);
    }
    if let Some(class) = evidence.class {
        line(&mut out, "class", &format!("{class}: {}", class.meaning()));
    }
    match &evidence.diagnosis {
        Some(found) => told(&mut out, found),
        None => evidence.class_because.iter().for_each(|because| line(&mut out, "why", because)),
    }
    around.group.iter().for_each(|group| line(&mut out, "together", group));
    for note in &evidence.notes {
        line(&mut out, "note", note);
    }
    let held = evidence.expectations.iter().filter(|judged| judged.held).count();
    let last = evidence.expectations.iter().rev().find(|judged| judged.held);
    line(
        &mut out,
        "before",
        &format!("{held} expectations held{}", last.map_or(String::new(), |it| format!(", the last: {}", it.name))),
    );
    for exchange in shown(evidence) {
        print_exchange(&mut out, exchange);
    }
    line(&mut out, "evidence", &around.path);
    line(&mut out, "again", &format!("cargo test --test critical {}", evidence.name));
    out
}

/// The cause first, then why, five times, the claims that differ, and what to do.
fn told(out: &mut String, found: &Diagnosis) {
    for (cause, label) in found.causes.iter().zip(std::iter::once("cause").chain(std::iter::repeat("and"))) {
        line(out, label, &format!("{}: {}", cause.name, cause.what));
    }
    for (why, n) in found.whys.iter().zip(1..) {
        let cited = if why.evidence.is_empty() { String::new() } else { format!(" ({})", why.evidence.join(", ")) };
        line(out, &format!("why {n}"), &format!("{}{cited}", why.text));
    }
    for row in found.claims.iter().filter(|row| row.differs) {
        let issued = row.issued.as_ref().map_or(String::new(), |issued| format!(" · auth service's own: {issued}"));
        line(out, "claim", &format!("{} · ours: {} · required: {}{issued}", row.claim, row.ours, row.required));
    }
    if !found.excluded.is_empty() && found.causes.iter().all(|cause| cause.name == "unexplained") {
        line(out, "excluded", &found.excluded.join("; "));
    }
    for step in &found.next {
        line(out, "next", step);
    }
    found.made_by.iter().for_each(|by| line(out, "searched by", by));
    if let Some(trouble) = &found.trouble {
        line(out, "no cause", &format!("the diagnosis itself failed: {trouble}"));
    }
}

fn line(out: &mut String, label: &str, text: &str) {
    let text = text.replace('\n', "\n              ");
    let _ = writeln!(out, "{label:<12}  {text}");
}

fn shown(evidence: &Evidence) -> Vec<&Exchange> {
    let about = evidence.failure.as_ref().map(|it| &it.about).or(evidence.trouble.as_ref().map(|it| &it.about));
    let named: Vec<_> = evidence.exchanges.iter().filter(|x| about.is_some_and(|ids| ids.contains(&x.id))).collect();
    let own = evidence.exchanges.iter().filter(|x| x.phase == Phase::Check);
    let mut shown = if named.is_empty() { own.collect() } else { named };
    shown.split_off(shown.len().saturating_sub(EXCHANGES_SHOWN))
}

/// One exchange with all that crossed the wire.
#[must_use]
pub fn exchange(x: &Exchange) -> String {
    let mut out = String::new();
    print_exchange(&mut out, x);
    out
}

fn print_exchange(out: &mut String, x: &Exchange) {
    let _ = writeln!(out, "exchange #{}  by {}, {:.1} ms after the start", x.id, x.caller, x.started_ms);
    let _ = writeln!(out, "  > {} {}", x.method, x.url);
    for (name, value) in &x.request_headers {
        let _ = writeln!(out, "  > {name}: {value}");
    }
    print_body(out, '>', x.request_body.as_deref());
    match x.status {
        Some(status) => {
            let time = x.timing.first_byte_ms.map_or(String::new(), |ms| format!(" after {ms:.1} ms"));
            let _ = writeln!(out, "  < {} {status}{time}", x.http_version.as_deref().unwrap_or("HTTP"));
        }
        None => {
            let _ = writeln!(out, "  < no response");
        }
    }
    for (name, value) in &x.response_headers {
        let _ = writeln!(out, "  < {name}: {value}");
    }
    print_body(out, '<', x.response_body.as_deref().filter(|_| x.kind != Kind::Sse || x.frames.is_empty()));
    let hidden = x.frames.len().saturating_sub(FRAMES_SHOWN);
    if hidden > 0 {
        let _ = writeln!(out, "  … {hidden} earlier frames are in the evidence");
    }
    for frame in &x.frames[hidden..] {
        let _ = writeln!(
            out,
            "  {} [{:8.1} ms] {}",
            if frame.sent { '>' } else { '<' },
            frame.at_ms,
            cut(&frame.text, FRAME_SHOWN_CHARS)
        );
    }
    if let Some(close) = &x.close {
        let _ = writeln!(out, "  < close {} {:?}", close.code, close.reason);
    }
    if let Some(error) = &x.error {
        let _ = writeln!(out, "  ! {error}");
    }
}

fn print_body(out: &mut String, direction: char, body: Option<&str>) {
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        for line in cut(body, BODY_SHOWN_CHARS).lines() {
            let _ = writeln!(out, "  {direction} {line}");
        }
    }
}
